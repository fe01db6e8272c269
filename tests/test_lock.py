"imbal_al.runs.lock: one owner at a time, whoever dies, whatever the clocks say"

import json, os, signal, subprocess, sys, time
from pathlib import Path

import pytest

from imbal_al.runs import lock as m
from imbal_al.core import InputError
from imbal_al.runs.lock import Lock, Lost, held, holder


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'owner.json'


@pytest.fixture
def quick(monkeypatch):
    for k, v in dict(_BEAT=0.05, _STALE=0.6, _LOOK=0.2).items():
        monkeypatch.setattr(m, k, v)
    monkeypatch.setattr(m, '_seen', {})


def python(code, *args, **kw):
    return subprocess.Popen(
        [sys.executable, '-c', code, *map(str, args)], stdout=subprocess.PIPE, text=True, **kw
    )


def elsewhere(path, age=0.0, token='ab' * 8, **kw):
    path.write_text(
        json.dumps(dict(host='far', pid=1, where='another boot', start=1, token=token, **kw))
    )
    os.utime(path, (time.time() - age,) * 2)


HOLD = "import sys,time; from imbal_al.runs.lock import Lock; print(Lock(sys.argv[1]).acquire(), flush=True); time.sleep(60)"


def test_a_living_process_keeps_it_and_a_killed_one_does_not(path):
    p = python(HOLD, path)
    assert p.stdout.readline().strip() == 'True'
    os.utime(path, (0, 0))
    assert (
        not Lock(path).acquire() and holder(path)['pid'] == p.pid
    ), 'old, but alive: no clock is asked'
    p.send_signal(signal.SIGSTOP)
    assert not Lock(path).acquire()
    p.send_signal(signal.SIGCONT)
    p.kill()
    p.wait()
    assert holder(path) is None
    a = Lock(path)
    t0 = time.time()
    assert a.acquire() and time.time() - t0 < 1
    a.release()
    assert list(path.parent.iterdir()) == []


def test_a_process_number_given_again_is_not_the_owner(path):
    me = json.loads('{}')
    a = Lock(path)
    a.acquire()
    me = json.loads(path.read_text())
    a.release()
    path.write_text(json.dumps(dict(me, start=me['start'] + 1)))
    assert Lock(path).acquire()


GRAB = "import sys; from imbal_al.runs.lock import Lock; a = Lock(sys.argv[1]); input(); print(a.acquire(-1), flush=True); input()"


def test_one_of_many_follows_a_dead_owner(path):
    p = python(HOLD, path)
    p.stdout.readline()
    p.kill()
    p.wait()
    ps = [python(GRAB, path, stdin=subprocess.PIPE) for _ in range(4)]
    time.sleep(0.5)
    for o in ps:
        o.stdin.write('\n')
        o.stdin.flush()
    assert sorted(o.stdout.readline().strip() for o in ps) == ['False'] * 3 + ['True']
    for o in ps:
        o.kill()
        o.wait()


COUNT = """
import sys, os, random, signal
from pathlib import Path
from imbal_al.runs.lock import Lock
path, log, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]); rng = random.Random(seed)
for _ in range(25):
    a = Lock(path)
    while not a.acquire(1): pass
    n = int(log.read_text()); log.write_text(f'{n+1}     ')
    if rng.random()<.03: os.kill(os.getpid(), signal.SIGKILL)
    a.release()
    print(flush=True)
"""


def test_many_at_it_and_some_are_killed(path, tmp_path):
    "A counter that is read and written under the lock loses nothing"
    log = tmp_path / 'log'
    log.write_text('0')
    out = 0
    ps = [python(COUNT, path, log, i) for i in range(4)]
    for p in ps:
        lines = p.communicate()[0].count('\n')
        out += lines + (p.returncode == -9)
        assert p.returncode in (0, -9)
    assert int(log.read_text()) == out >= 25


def test_an_owner_elsewhere_is_alive_while_it_touches_its_file(path, quick):
    elsewhere(path)
    a = Lock(path)
    t0 = time.monotonic()
    while time.monotonic() - t0 < 1.2:
        os.utime(path, (time.time() - 1e6 + time.monotonic(),) * 2)
        assert not a.acquire(-1)
        time.sleep(0.02)
    while not a.acquire(-1):
        assert time.monotonic() - t0 < 6
        time.sleep(0.02)
    a.release()


@pytest.mark.parametrize('age', [0, -1e7])
def test_clocks_set_back_do_not_hold_it_for_ever(path, quick, age):
    elsewhere(path, age)
    a = Lock(path)
    t0 = time.monotonic()
    while not a.acquire():
        assert time.monotonic() - t0 < 5
    assert time.monotonic() - t0 > 0.5


def test_clocks_set_forward_do_not_take_it_from_the_living(path, quick):
    "A file that looks a year old is watched before it is taken"
    elsewhere(path, age=3e7)
    a = Lock(path)
    t0 = time.monotonic()
    n = 0
    while time.monotonic() - t0 < 1:
        n += 1
        os.utime(path, (1e9 + n,) * 2)
        assert not a.acquire(-1)
        time.sleep(0.02)
    t0 = time.monotonic()
    assert a.acquire() and time.monotonic() - t0 < 0.6


@pytest.mark.parametrize(
    'text',
    [
        '',
        '{',
        '[]',
        '{"token": 3}',
        '{"token": "../x"}',
        '{"pid": -1, "token": "abababab"}',
        '\0' * 9,
    ],
)
def test_a_damaged_file_is_watched_too(path, quick, text):
    path.write_text(text)
    assert not Lock(path).acquire(-1)
    a = Lock(path)
    t0 = time.monotonic()
    while not a.acquire():
        assert time.monotonic() - t0 < 5
    a.release()
    assert list(path.parent.iterdir()) == []


def test_one_that_was_thought_dead_notices(path):
    a = Lock(path)
    a.acquire()
    a.check()
    b = Lock(path)
    m._claim(m._after(path, a.token), path, b.token)
    with pytest.raises(Lost):
        a.check()
    with pytest.raises(Lost):
        with a:
            raise ValueError('whatever came of it')
    assert path.exists(), 'it frees nothing that is not its own'


def test_its_file_is_removed_under_it(path):
    a = Lock(path)
    a.acquire()
    path.unlink()
    with pytest.raises(Lost):
        a.check()
    a.release()


def test_an_error_goes_through(path):
    a = Lock(path)
    a.acquire()
    with pytest.raises(ValueError), a:
        raise ValueError
    assert not path.exists()


def test_no_links_on_this_file_system(path, monkeypatch):
    def link(*a):
        raise OSError(95, 'Operation not supported')

    monkeypatch.setattr(os, 'link', link)
    a, b = Lock(path), Lock(path)
    assert a.acquire() and not b.acquire()
    a.release()
    assert b.acquire()
    b.release()


def test_a_full_disk_is_one_line(path, monkeypatch):
    def write(*a, **k):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(Path, 'write_text', write)
    with pytest.raises(InputError, match='owner.json: No space left'):
        Lock(path).acquire()
    assert list(path.parent.iterdir()) == []


def test_held_waits_and_names_who_is_in_the_way(path):
    a = Lock(path)
    a.acquire()
    with pytest.raises(InputError, match=f'held by process {os.getpid()}'):
        with held(path, 0.3):
            pass
    a.release()
    with held(path.parent / 'new' / 'x.json'):
        pass
    (path.parent / 'file').write_text('')
    with pytest.raises(InputError, match='file'):
        with held(path.parent / 'file' / 'x.json'):
            pass
