"""What spares the tests minutes and changes nothing that they see

A tree of commands and a network are built once, then used again or copied.
Notebooks, and the worker processes of tests, are forked from a server that has loaded what most of them load.
Drivers that a test starts as a program of their own know nothing of this: theirs are spawned.
"""

import contextlib, copy, ctypes, functools, multiprocessing, os, signal, sys, threading, time
from concurrent.futures import ProcessPoolExecutor

LOADED = [
    'nbdev.test',
    'fastcore.test',
    'matplotlib.pyplot',
    'scipy.stats',
    'imbal_al.cli',
    'imbal_al.networks.features',
    'imbal_al.networks.learner',
    'imbal_al.project.deploy',
    'imbal_al.project.rounds',
    'imbal_al.project.standing',
    'imbal_al.results.report',
    'imbal_al.studies.learning_study',
    'imbal_al.studies.loss_study',
    'segmentation_models_pytorch',
]  # What the server loads before it forks
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


def commands_once():
    "Typer builds the tree of all commands at every call of a test: .1 s each"
    import typer.testing as testing

    if not hasattr(testing._get_command, 'cache_info'):
        testing._get_command = functools.cache(testing._get_command)


def _generator_state():
    import torch

    return torch.random.get_rng_state()


def copied(make):
    """`make(class, encoder, weights, channels)` with a memory: same words and same state of torch's generator, same network

    The generator is left as the making leaves it. Fails as `make` does, and forgets that.
    """
    made = {}

    @functools.wraps(make)
    def again(kind, encoder, weights, channels):
        import torch

        before = _generator_state()
        words = tuple(sorted((name, repr(value)) for name, value in channels.items()))
        key = kind, encoder, weights, words, before.numpy().tobytes()
        if key not in made:
            net = make(kind, encoder, weights, channels)
            if len(made) > 3:
                made.clear()
            made[key] = copy.deepcopy(net), _generator_state()
            return net
        net, after = made[key]
        torch.random.set_rng_state(after)
        return copy.deepcopy(net)

    again.copied = True
    return again


def networks_once():
    "Networks are copied from now on, if the room that makes them is loaded"
    room = sys.modules.get('imbal_al.networks.models')
    if room and hasattr(room, '_made') and not hasattr(room._made, 'copied'):
        room._made = copied(room._made)


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


def give_memory_back():
    "Forget what was kept, and give the system what is free: else a process only grows"
    for room, name in KEPT:
        if room in sys.modules:
            getattr(sys.modules[room], name).cache_clear()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
