"""What spares the tests minutes and changes nothing that they see

A tree of commands is built once; what every network needs is read and built once.
Notebooks, and the worker processes of tests and notebooks, are forked from a server that has loaded what most load; all
of pytest's workers have the same.
Programs that a test starts are forked as well; the worker processes of those are spawned, as a user's are.
"""

import contextlib, ctypes, functools, gc, hashlib, multiprocessing, os, signal, sys, tempfile, threading, time, types
import multiprocessing.forkserver as forkserver
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

LOADED = [
    'nbdev.test',
    'fastcore.test',
    'matplotlib.pyplot',
    'scipy.stats',
    'imbal_al.cli.commands',
    'imbal_al.networks.features',
    'imbal_al.networks.learner',
    'imbal_al.project.deploy',
    'imbal_al.project.rounds',
    'imbal_al.project.standing',
    'imbal_al.results.report',
    'imbal_al.studies.learning_study',
    'imbal_al.studies.loss_study',
    'segmentation_models_pytorch',
    'served',
]  # What the server loads before it forks
# A small network: a training of it takes a quarter of what one of the usual network takes
NETWORK = dict(arch='pspnet', encoder='tu-mobilenetv3_small_050', weights=None)
EXPORTED = NETWORK | dict(arch='fpn')  # One that can be exported: twice as long
EXPORTED_WORDS = [f'{name}={value}'.lower() for name, value in EXPORTED.items()]  # For `project set`
PROCESSES = multiprocessing.get_context('forkserver')
PROCESSES.set_forkserver_preload(LOADED)


def _watch(driver):
    "End this process when its driver is gone; its parent is the server"
    while os.path.exists(f'/proc/{driver}'):
        time.sleep(1)
    os._exit(1)


def _start(driver, threads, surroundings):
    "What `_start_worker` does, with the driver's environment instead of the server's"
    from imbal_al.runs import workers

    os.environ.clear()
    os.environ.update(surroundings)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    workers._set_threads(threads)
    threading.Thread(target=_watch, args=(driver,), daemon=True).start()


def _forked_worker(threads):
    "An executor of one process, as `_new_worker` gives, in a moment instead of seconds"
    told = os.getpid(), threads, dict(os.environ)
    return ProcessPoolExecutor(1, mp_context=PROCESSES, initializer=_start, initargs=told)


def workers_forked():
    "Worker processes of this process are forked from now on, if the room that starts them is loaded"
    room = sys.modules.get('imbal_al.runs.workers')
    if room and hasattr(room, '_new_worker') and os.path.exists('/proc/self'):
        room._new_worker = _forked_worker


def same_server():
    "What this forked process starts is forked by the server that forked it; Python's own way is a server of its own"
    server = forkserver._forkserver
    assert server._forkserver_address and server._forkserver_alive_fd
    server.ensure_running = lambda: None


def serve():
    "Start the server now, for this process and those that take its address: it loads while they look for tests"
    forkserver._forkserver.ensure_running()
    return forkserver._forkserver._forkserver_address


def served_by(address):
    "What this process starts is forked by a server that another one has started and that ends with that one"
    server = forkserver._forkserver
    server._forkserver_address = address
    server._forkserver_alive_fd = os.open(os.devnull, os.O_RDONLY)
    server.ensure_running = lambda: None


def commands_once():
    "Typer builds the tree of all commands at every call of a test: .1 s each"
    import typer.testing as testing

    if not hasattr(testing._get_command, 'cache_info'):
        testing._get_command = functools.cache(testing._get_command)


def known(make):
    """`timm.create_model(name, ...)` that builds what smp only looks at once a name

    smp builds an encoder twice: without values (torch's device 'meta') to read its layers' sizes, then in earnest. The
    first has no values and draws no number, so that it may serve again."""
    looked_at = {}

    @functools.wraps(make)
    def again(name, **words):
        import torch

        if words != dict(features_only=True) or torch.get_default_device().type != 'meta':
            return make(name, **words)
        if name not in looked_at:
            looked_at[name] = make(name, **words)
        return looked_at[name]

    return again


def read_once(read):
    "A function that reads ImageNet weights: from its file once, then the same values in a dictionary of its own"
    values = functools.cache(read)

    @functools.wraps(read)
    def again(*asked):
        return values(*asked).copy()

    again.once = True
    return again


def networks_once():
    "What every network needs is read and built once from now on, if the room that makes networks is loaded"
    features_once()
    room = sys.modules.get('imbal_al.networks.models')
    if not room or not hasattr(room, 'lite_state_dict') or hasattr(room.lite_state_dict, 'once'):
        return
    from segmentation_models_pytorch.encoders import timm_universal

    timm_universal.timm = types.SimpleNamespace(create_model=known(timm_universal.timm.create_model))
    reads, once = room.lite_state_dict, read_once(room.lite_state_dict)
    for name in ('models', 'features'):
        there = sys.modules.get(f'imbal_al.networks.{name}')
        if getattr(there, 'lite_state_dict', None) is reads:
            there.lite_state_dict = once


BLOCKS = 64  # Of pictures, 1 MB each, whose features a process keeps


def _told_apart(pictures):
    "What tells these pictures from others"
    sha = hashlib.sha256()
    for picture in pictures:
        sha.update(str((picture.shape, picture.dtype)).encode())
        sha.update(picture.tobytes())
    return sha.digest()


def seen_once(encode):
    "A function that computes features: those of the same pictures by the same of our encoders once, then a copy"
    seen = {}

    @functools.wraps(encode)
    def again(pictures, encoder):
        if type(encoder.net).__module__ != encode.__module__:
            return encode(pictures, encoder)
        key = encoder.name, encoder.key, _told_apart(pictures)
        if key not in seen:
            seen[key] = encode(pictures, encoder)
            if len(seen) > BLOCKS:
                del seen[next(iter(seen))]
        return tuple(part.copy() for part in seen[key])

    return again


def features_once():
    "A frozen encoder is built once, and sees the same pictures once, from now on, if its room is loaded"
    room = sys.modules.get('imbal_al.networks.features')
    if room and hasattr(room, 'encode') and not hasattr(room.encode, '__wrapped__'):
        room.encode = seen_once(room.encode)
        room._lite0_maps = functools.cache(room._lite0_maps)


def no_wait_for_the_disk():
    """Nothing is written through to the disk from now on: a test sees what was written, and cannot cut the power

    That a file is written through before it takes its name, and its folder after that, test_core.py looks at."""
    os.fsync = int


def _told_into(files):
    "This process's standard output and errors, from the system's side and Python's, into two files"
    for number, (name, file) in enumerate(zip(('stdout', 'stderr'), files, strict=True), start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
        stream = open(number, 'w', closefd=False, encoding='utf-8', errors='surrogateescape')
        setattr(sys, name, stream)
        setattr(sys, f'__{name}__', stream)


def _be_command(words, folder, surroundings, at):
    "In a process of its own: what `imbal-al WORDS` does"
    _told_into([f'{folder}/out', f'{folder}/err'])
    os.environ.clear()
    os.environ.update(surroundings)
    os.chdir(at)
    sys.argv = ['imbal-al', *words]
    from imbal_al.cli import main

    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        code = 1
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def command(*words, timeout=120):
    """The command as a user gives it, in a process that ends; forked, so that it loads nothing again

    Returns what `subprocess.run` would: `returncode`, and `stdout` and `stderr` as text."""
    words = [os.fsdecode(os.fsencode(word)) for word in map(_as_word, words)]
    with tempfile.TemporaryDirectory() as folder:
        told = words, folder, dict(os.environ), os.getcwd()
        process = PROCESSES.Process(target=_be_command, args=told)
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            raise TimeoutExpired(words, timeout)
        out, err = (_text(Path(folder, name)) for name in ('out', 'err'))
        return CompletedProcess(words, process.exitcode, out, err)


def _as_word(word):
    return word if isinstance(word, (str, bytes)) else os.fspath(word)


def _text(path):
    return path.read_bytes().decode('utf-8', 'surrogateescape') if path.exists() else ''


def _be_program(words, files, surroundings, at):
    "In a process of its own: what `python WORDS` does, `-c CODE` or a file and what it is given"
    _told_into(files)
    os.environ.clear()
    os.environ.update(surroundings)
    os.chdir(at)
    same_server()
    main = sys.modules['__main__'] = types.ModuleType('__main__')
    if words[0] == '-c':
        code, sys.argv = words[1], ['-c', *words[2:]]
    else:
        code, sys.argv = Path(words[0]).read_text(), list(words)
        main.__file__ = words[0]
        sys.path.insert(0, str(Path(words[0]).parent))
    exec(compile(code, words[0], 'exec'), main.__dict__)


class Program:
    """`python WORDS` (`-c CODE` or a file, and what it is given) in a process of its own, as `subprocess.Popen` has it

    Forked: what most programs load is there before it begins. What it starts is its own: no forked workers."""

    def __init__(self, *words, at=None):
        self.folder = tempfile.TemporaryDirectory()
        self.files = [Path(self.folder.name, name) for name in ('out', 'err')]
        words = [os.fsdecode(os.fsencode(word)) for word in map(_as_word, words)]
        told = words, list(map(str, self.files)), dict(os.environ), str(at or os.getcwd())
        self.process = PROCESSES.Process(target=_be_program, args=told)
        self.process.start()
        self.pid, self.kill = self.process.pid, self.process.kill

    def poll(self):
        return self.process.exitcode

    def wait(self, timeout=120):
        "The exit code; that of a killed one is negative"
        self.process.join(timeout)
        if self.process.is_alive():
            self.kill()
            raise TimeoutExpired('python', timeout)
        return self.process.exitcode

    def communicate(self, timeout=120):
        "(output, errors) when it has ended"
        self.wait(timeout)
        return tuple(map(_text, self.files))


# What a process keeps of its last study or data set: (room, function with a memory)
KEPT = [
    ('imbal_al.project.store', '_kept'),
    ('imbal_al.studies.run_records', 'load_patches'),
    ('imbal_al.studies.simulation', 'workspace'),
    ('imbal_al.studies.simulation', 'process_trainings'),
    ('imbal_al.studies.loss_training', 'load_parts'),
    ('imbal_al.dev.full_resolution', 'load_photos'),
    ('imbal_al.dev.shift_study_tables', '_patches'),
]


def loaded_stays():
    "Python's search for garbage passes over all modules and tests that are loaded now: a million objects, .3 s each time"
    gc.collect()
    gc.freeze()
    gc.collect()  # Python searches by itself when a quarter is new: of what is left


def _trim():
    "Give the system what is free, or only held by a circle: each learner of fastai is one, with its network"
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def forget_kept():
    "Forget what was kept: else a process only grows"
    for room, name in KEPT:
        if room in sys.modules:
            getattr(sys.modules[room], name).cache_clear()


def _resident():
    "Bytes of memory that this process has; 0 where the system does not say"
    statm = Path('/proc/self/statm')
    return int(statm.read_text().split()[1]) * os.sysconf('SC_PAGESIZE') if statm.exists() else 0


GROWTH = 150e6  # Bytes
_left = []  # What was in use when memory was last given back


def give_growth_back():
    "Give the system what is free, once the process has grown by `GROWTH`: files that train do so by a gigabyte"
    if not _left or _resident() > _left[0] + GROWTH:
        _trim()
        _left[:] = [_resident()]


def peak():
    "The most memory that this process has had, its children apart, in MB"
    import resource

    kept = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kept / (1024**2 if sys.platform == 'darwin' else 1024)


class Largest:
    "How large this process became, and in which test"

    def __init__(self):
        self.most, self.test = 0, 'no test'

    def look(self, test):
        self.told(peak(), test)

    def told(self, now, test):
        if now > self.most:
            self.most, self.test = now, test

    def line(self, process):
        return f'{process}: {self.most:.0f} MB at most, reached in {self.test}'
