"What the tests share: a cache of their own, a study that takes seconds, and how long each took"

import contextlib, csv, os, sys
from collections import Counter
from pathlib import Path

import pytest

import apart, quick
from real import unallowed


def lost(config):
    "Reasons of skipped tests where none may skip (IMBAL_AL_NO_SKIP=1, as in CI)"
    reporter = config.pluginmanager.get_plugin('terminalreporter')
    if not os.environ.get('IMBAL_AL_NO_SKIP') or hasattr(config, 'workerinput') or not reporter:
        return []
    return unallowed(reporter.stats.get('skipped', []))


# What pytest makes of a test file is kept, even where nothing else is (PYTHONDONTWRITEBYTECODE): 10 s a process
sys.dont_write_bytecode = False
os.environ.pop('PYTHONDONTWRITEBYTECODE', None)

SLOW = 0.3  # Seconds; what is recorded with more is left out by -m 'not slow'
DURATIONS = Path(__file__).with_name('durations.csv')
took = Counter()  # Seconds of each test that has run
largest = quick.Largest()  # Of this process
processes = []  # What each process tells of its memory


def recorded():
    "Test -> seconds, of all that took `SLOW` when they were last recorded"
    with open(DURATIONS, newline='', encoding='utf-8') as file:
        return {row['test']: float(row['seconds']) for row in csv.DictReader(file)}


def record(took):
    "Put seconds in the place of earlier ones; what was not run keeps its own"
    rows = {test: s for test, s in recorded().items() if test not in took}
    rows |= {test: s for test, s in took.items() if s >= SLOW}
    with open(DURATIONS, 'w', newline='', encoding='utf-8') as file:
        table = csv.writer(file, lineterminator='\n')
        table.writerow(['test', 'seconds'])
        table.writerows((test, f'{s:.1f}') for test, s in sorted(rows.items()))


def longest_first(tests, seconds):
    "Notebooks one by one, then files as they are, by their longest test: what comes last is short"
    files = {}
    for test in tests:
        longest = files.get(test.path, 0), seconds.get(test.nodeid, 0)
        files[test.path] = max(longest)

    def rank(test):
        single = test.path.name == 'test_notebooks.py'
        return not single, -(seconds.get(test.nodeid, 0) if single else files[test.path])

    return sorted(tests, key=rank)


def pytest_configure(config):
    "With several processes, the first one starts the server that forks for all"
    if hasattr(config, 'workerinput'):
        if config.workerinput['server']:
            quick.served_by(config.workerinput['server'])
            config.pluginmanager.register(apart.Apart(config, largest), apart.NAME)
    elif config.getoption('numprocesses', None) and os.path.exists('/proc/self'):
        os.environ['OMP_NUM_THREADS'] = '1'  # PyTorch reads it once
        config.server = quick.serve()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    node.workerinput['server'] = getattr(node.config, 'server', None)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    seconds = recorded()
    for item in items:
        if seconds.get(item.nodeid, 0) > SLOW:
            item.add_marker('slow')
    items[:] = longest_first(items, seconds)


def pytest_collection_finish():
    "Before the first fixture of a file or of all, too"
    quick.networks_once()
    quick.workers_forked()
    quick.no_wait_for_the_disk()
    quick.loaded_stays()


def pytest_runtest_logreport(report):
    took[report.nodeid] += report.duration


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    "A worker process ends"
    processes.append(getattr(node, 'workeroutput', {}).get('memory'))


def pytest_sessionfinish(session):
    if hasattr(session.config, 'workerinput'):
        session.config.workeroutput['memory'] = largest.line(session.config.workerinput['workerid'])
    if os.environ.get('RECORD_DURATIONS') and not hasattr(session.config, 'workerinput'):
        record(took)
    if lost(session.config):
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter, config):
    for reason in lost(config):
        terminalreporter.write_line(f'FAILED, for nothing may be skipped here: {reason}', red=True)
    if os.environ.get('RECORD_DURATIONS'):
        for line in processes or [largest.line('this process')]:
            terminalreporter.write_line(f'memory of {line}')


@pytest.fixture(scope='session', autouse=True)
def own_cache(tmp_path_factory):
    "Nothing a test cuts lands in the user's cache; the files of one of pytest's workers share theirs"
    cache = tmp_path_factory.getbasetemp() / 'cache'
    cache.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as m:
        m.setenv('IMBAL_AL_CACHE', str(cache))
        m.setenv('OMP_NUM_THREADS', '1')
        yield


@pytest.fixture(scope='session', autouse=True)
def commands_once():
    quick.commands_once()


@pytest.fixture(scope='module', autouse=True)
def memory_given_back():
    "A process that runs many files grows no further than its largest one; one that runs a single file ends now"
    yield
    if not apart.alone:
        quick.forget_kept()
        quick.give_growth_back()


@pytest.fixture(autouse=True)
def quick_starts():
    quick.networks_once()
    quick.workers_forked()


@pytest.fixture(autouse=True)
def growth_given_back(request):
    "Within a file, too"
    yield
    largest.look(request.node.nodeid)
    quick.give_growth_back()


@pytest.fixture(autouse=True)
def no_figure_stays():
    "A figure that a test leaves open would stay in memory to the end of the run"
    yield
    if 'matplotlib.pyplot' in sys.modules:
        sys.modules['matplotlib.pyplot'].close('all')


@pytest.fixture(scope='module')
def one_thread():
    "PyTorch computes on one thread"
    import torch

    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)


@pytest.fixture(scope='session')
def tiny():
    "A run of two cycles on 160 embedded patches: half a second"
    from imbal_al.studies.run_config import RunConfig

    return RunConfig(
        data='synthetic:40:64',
        patch=(32, 32),
        pi_u=0.5,
        pi_t=(0.5, 0.1),
        pool_size=40,
        test_size=10,
        heldout_size=12,
        validation_size=4,
        cycles=2,
        batch=8,
        steps=2,
        bs=8,
        **quick.NETWORK,
    )


@pytest.fixture
def unprivileged():
    "A context in which file permissions count even if the tests run as root"

    @contextlib.contextmanager
    def ctx():
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            yield
        finally:
            if root:
                os.seteuid(0)

    return ctx


@pytest.fixture
def open_dir():
    "A folder that every user may enter and only we may write to; pytest's own are closed to others"
    import shutil, tempfile

    d = tempfile.mkdtemp(prefix='imbal_al_test_')
    os.chmod(d, 0o755)
    yield __import__('pathlib').Path(d)
    shutil.rmtree(d)
