"What spares the tests time changes nothing that they see"

import gc, os, signal, subprocess, sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np, pytest, torch

import conftest, quick


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def made(encoder, weights):
    "A network of our factory, and the number that is drawn after it"
    from imbal_al.networks.models import create_model

    torch.manual_seed(5)
    return create_model(encoder=encoder, weights=weights), torch.rand(1).item()


@pytest.mark.parametrize('encoder, weights', [('lite0', None), ('lite0', 'imagenet'), ('resnet18', None)])
def test_a_network_made_quickly_and_what_is_drawn_after_it_are_those_of_one_made_slowly(encoder, weights, monkeypatch):
    from segmentation_models_pytorch.encoders import timm_universal
    from imbal_al.networks import models

    quick.networks_once()
    quickly = [made(encoder, weights) for _ in range(2)]
    monkeypatch.setattr(models, 'lite_state_dict', models.lite_state_dict.__wrapped__)
    monkeypatch.setattr(timm_universal.timm, 'create_model', timm_universal.timm.create_model.__wrapped__)
    slowly, drawn = made(encoder, weights)
    for net, after in quickly:
        assert same(net, slowly) and after == drawn
    with torch.no_grad():
        for value in quickly[0][0].parameters():
            value.zero_()
    assert same(quickly[1][0], slowly) and same(made(encoder, weights)[0], slowly)


def test_features_that_are_seen_once_are_those_of_these_pictures_by_this_encoder():
    from imbal_al.networks import features

    quick.features_once()
    slowly, calls = features.encode.__wrapped__, []
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (64, 64), dtype=np.uint8) for _ in range(3)]

    def counted(pictures, encoder):
        calls.append(len(pictures))
        return slowly(pictures, encoder)

    counted.__module__ = features.__name__
    again = quick.seen_once(counted)
    one, fine = features.load_encoder('lite0', (64, 64)), features.load_encoder('lite0_fine', (64, 64))
    for encoder in (one, fine):
        for some in (pictures[:2], pictures[1:], pictures[:2]):
            for got, want in zip(again(some, encoder), slowly(some, encoder)):
                assert np.array_equal(got, want)
            again(some, encoder)[0][:] = 0  # A copy
    assert calls == [2] * 4
    toy = SimpleNamespace(net=torch.nn.Linear(1, 1), key=one.key, name=one.name)
    with pytest.raises(AttributeError):  # Not ours: asked itself
        again(pictures[:2], toy)


def test_only_what_is_looked_at_without_values_is_built_once():
    calls = []

    def make(name, **words):
        calls.append(name)
        if name == 'none':
            raise KeyError(name)
        return torch.nn.Linear(3, 2)

    again = quick.known(make)
    assert again('a', features_only=True) is not again('a', features_only=True)
    with torch.device('meta'):
        first = again('b', features_only=True)
        assert again('b', features_only=True) is first is not again('b', features_only=True, depth=3)
        for _ in range(2):
            with pytest.raises(KeyError):
                again('none', features_only=True)
    assert calls == ['a', 'a', 'b', 'b', 'none', 'none']


def test_a_forked_worker_has_the_environment_of_its_driver(monkeypatch):
    monkeypatch.setenv('IMBAL_AL_MADE_UP', 'seen')
    with quick._forked_worker(3) as executor:
        there = executor.submit(os.getenv, 'IMBAL_AL_MADE_UP').result()
        threads = executor.submit(os.getenv, 'OMP_NUM_THREADS').result()
        assert (there, threads) == ('seen', '3')
        assert executor.submit(os.getpid).result() != os.getpid()


TOLD = """
import os, sys
print(__name__, sys.argv, os.getcwd(), os.getenv('IMBAL_AL_MADE_UP'))
print('no', file=sys.stderr)
sys.exit(3)
"""


@pytest.mark.parametrize('how', ['code', 'file'])
def test_a_program_does_what_python_does(tmp_path, monkeypatch, how):
    monkeypatch.setenv('IMBAL_AL_MADE_UP', 'seen')
    (tmp_path / 'told.py').write_text(TOLD)
    words = ['-c', TOLD] if how == 'code' else [str(tmp_path / 'told.py')]
    program = quick.Program(*words, 'one', tmp_path, at=tmp_path)
    said, errors = program.communicate()
    argv = [words[0], 'one', str(tmp_path)]
    assert said == f'__main__ {argv} {tmp_path} seen\n' and errors == 'no\n'
    assert program.poll() == 3 and program.pid != os.getpid()


def test_a_program_that_fails_or_is_killed_says_so():
    failed = quick.Program('-c', 'raise ValueError(7)')
    assert 'ValueError: 7' in failed.communicate()[1] and failed.poll() == 1
    waits = quick.Program('-c', 'import time; time.sleep(60)')
    assert waits.poll() is None
    waits.kill()
    assert waits.wait() == -signal.SIGKILL


def test_what_a_program_starts_is_forked_by_the_server_that_forked_it():
    code = """
import os, quick
with quick._forked_worker(1) as executor: print(executor.submit(os.getppid).result() == os.getppid())
"""
    said, errors = quick.Program('-c', code).communicate()
    assert said == 'True\n', errors


def test_a_process_takes_the_server_that_another_has_started():
    told = "quick.Program('-c', 'import os; print(os.getppid())').communicate()[0]"
    code = f'import quick; quick.served_by({quick.serve()!r}); print({told})'
    around = dict(os.environ, PYTHONPATH=str(Path(__file__).parent))
    there = subprocess.run([sys.executable, '-c', code], env=around, capture_output=True, text=True, timeout=60)
    assert int(there.stdout) == int(eval(told)) != os.getpid(), there.stderr


def test_the_search_for_garbage_passes_over_what_was_loaded():
    assert gc.get_freeze_count() > 100_000


@pytest.mark.skipif(not Path('/proc/self/statm').exists(), reason='looks at /proc')
def test_memory_is_given_back_once_the_process_has_grown(monkeypatch):
    trimmed = []
    monkeypatch.setattr(quick, '_trim', lambda: trimmed.append(1))
    monkeypatch.setattr(quick, '_left', [])
    quick.give_growth_back()
    quick.give_growth_back()
    assert len(trimmed) == 1 and quick._left[0] > 10e6
    grown = bytearray(int(1.2 * quick.GROWTH))
    grown[:: os.sysconf('SC_PAGESIZE')] = b'x' * len(grown[:: os.sysconf('SC_PAGESIZE')])
    quick.give_growth_back()
    quick.give_growth_back()
    assert len(trimmed) == 2


def item(file, name):
    return SimpleNamespace(path=Path(file), nodeid=f'tests/{file}::{name}')


def test_notebooks_one_by_one_then_files_by_their_longest():
    tests = [item('test_a.py', 1), item('test_b.py', 1), item('test_b.py', 2)]
    books = [item('test_notebooks.py', 1), item('test_notebooks.py', 2)]
    seconds = {tests[2].nodeid: 9.0, tests[0].nodeid: 3.0, books[1].nodeid: 1.0}
    assert conftest.longest_first(tests + books, seconds) == [
        books[1], books[0], tests[1], tests[2], tests[0],
    ]


def test_what_is_run_again_is_recorded_anew_and_the_rest_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(conftest, 'DURATIONS', tmp_path / 'd.csv')
    (tmp_path / 'd.csv').write_text('test,seconds\nold,4.0\nnow short,3.0\nagain,2.0\n')
    conftest.record({'now short': 0.2, 'again': 7.04, 'new[a,b]': 1.0})
    assert conftest.recorded() == {'old': 4.0, 'again': 7.0, 'new[a,b]': 1.0}


@pytest.mark.parametrize('room, name', quick.KEPT)
def test_what_is_kept_is_forgotten(room, name):
    import importlib

    kept = getattr(importlib.import_module(room), name)
    before = kept.cache_info().misses
    quick.forget_kept()
    assert kept.cache_info().currsize == 0 and kept.cache_info().misses <= before


def test_the_test_that_made_a_process_grow_is_told(monkeypatch):
    peaks = iter([900, 900, 1400, 1200])
    monkeypatch.setattr(quick, 'peak', lambda: next(peaks))
    largest = quick.Largest()
    for test in ('first', 'small', 'large', 'after'):
        largest.look(test)
    assert largest.line('gw0') == 'gw0: 1400 MB at most, reached in large'


@pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='compares with /proc')
def test_the_peak_is_what_the_system_says():
    status = dict(row.split(':', 1) for row in Path('/proc/self/status').read_text().splitlines())
    assert abs(quick.peak() - int(status['VmHWM'].split()[0]) / 1024) < 50
