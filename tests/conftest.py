"What the tests share: a cache of their own and a study that takes seconds"

import contextlib, os, sys

import pytest

import quick
from real import unallowed


def lost(config):
    "Reasons of skipped tests where none may skip (IMBAL_AL_NO_SKIP=1, as in CI)"
    reporter = config.pluginmanager.get_plugin('terminalreporter')
    if not os.environ.get('IMBAL_AL_NO_SKIP') or hasattr(config, 'workerinput') or not reporter:
        return []
    return unallowed(reporter.stats.get('skipped', []))


def pytest_sessionfinish(session):
    if lost(session.config):
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter, config):
    for reason in lost(config):
        terminalreporter.write_line(f'FAILED, for nothing may be skipped here: {reason}', red=True)


@pytest.fixture(scope='session', autouse=True)
def own_cache(tmp_path_factory):
    "Nothing a test cuts lands in the user's cache"
    with pytest.MonkeyPatch.context() as m:
        m.setenv('IMBAL_AL_CACHE', str(tmp_path_factory.mktemp('cache')))
        m.setenv('OMP_NUM_THREADS', '1')
        yield


@pytest.fixture(scope='session', autouse=True)
def commands_once():
    quick.commands_once()


@pytest.fixture(autouse=True)
def networks_once():
    quick.networks_once()


@pytest.fixture(autouse=True)
def no_figure_stays():
    "A figure that a test leaves open would stay in memory to the end of the run"
    yield
    if 'matplotlib.pyplot' in sys.modules:
        sys.modules['matplotlib.pyplot'].close('all')


@pytest.fixture(scope='session')
def tiny():
    "A run of two cycles on 160 embedded patches: about a second"
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
