"imbal_al.core: whole files or none, seeds that never move, one-line errors"

import errno, json, os, stat, subprocess, sys, threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from imbal_al import core
from imbal_al.core import (
    InputError, check_choice, atomic_path, write_text, to_json, config_hash, write_json,
    read_json, stream, stream_seed, commit, provenance,
)


def left(d):
    return sorted(p.name for p in d.iterdir())


# --- files


def test_atomic_path_replaces_in_one_step(tmp_path):
    p = tmp_path / 'a' / 'b.txt'
    write_text(p, 'old')
    with atomic_path(p) as t:
        t.write_text('new')
        assert p.read_text() == 'old' and t.parent == p.parent
    assert p.read_text() == 'new' and left(p.parent) == ['b.txt']


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt, SystemExit])
def test_atomic_path_leaves_the_old_file_on_any_error(tmp_path, error):
    p = tmp_path / 'x.csv'
    write_text(p, 'old')
    with pytest.raises(error):
        with atomic_path(p) as t:
            t.write_text('half')
            raise error
    assert p.read_text() == 'old' and left(tmp_path) == ['x.csv']


def test_a_killed_writer_leaves_no_half_file(tmp_path):
    p = tmp_path / 'x.csv'
    code = f"import os\nfrom imbal_al.core import atomic_path\nwith atomic_path({str(p)!r}) as t: t.write_text('half'); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, '-c', code]).returncode == -9
    assert not p.exists()


@pytest.fixture
def on_disk(monkeypatch):
    "What is asked of the disk, in order: names of files and folders, `rename`"
    told, flush, rename = [], os.fsync, os.replace

    def fsync(number):
        told.append(os.readlink(f'/proc/self/fd/{number}'))
        return flush(number)

    def replace(a, b):
        told.append('rename')
        return rename(a, b)

    monkeypatch.setattr(os, 'fsync', fsync)
    monkeypatch.setattr(os, 'replace', replace)
    return told


@pytest.mark.skipif(not Path('/proc/self/fd').is_dir(), reason='names of open files are asked of /proc')
def test_the_file_is_flushed_then_renamed_then_its_folder_flushed(tmp_path, on_disk):
    "A power cut takes nothing back that was reported as written"
    write_text(tmp_path / 'x.csv', 'a')
    file, *rest = on_disk
    assert file.endswith('.tmp') and rest == ['rename', str(tmp_path)]
    on_disk.clear()
    write_text(tmp_path / 'a' / 'b' / 'x.csv', 'a')
    assert on_disk[1:] == ['rename', *map(str, (tmp_path / 'a/b', tmp_path / 'a', tmp_path))], 'new folders, too'
    on_disk.clear()
    write_text(tmp_path / 'a' / 'b' / 'x.csv', 'a')
    assert len(on_disk) == 3


@pytest.mark.parametrize('refused', ['open', 'EINVAL', 'ENOTSUP', 'EBADF'])
def test_a_folder_that_cannot_be_flushed_is_passed_over(tmp_path, monkeypatch, refused):
    "Windows opens none, some network drives flush none"
    real_open, real_fsync = os.open, os.fsync

    def open_(path, *more, **named):
        if refused == 'open' and Path(path).is_dir():
            raise PermissionError(13, 'Permission denied')
        return real_open(path, *more, **named)

    def fsync(number):
        if refused != 'open' and stat.S_ISDIR(os.fstat(number).st_mode):
            raise OSError(getattr(errno, refused), 'refused')
        return real_fsync(number)

    monkeypatch.setattr(os, 'open', open_)
    monkeypatch.setattr(os, 'fsync', fsync)
    before = len(os.listdir('/proc/self/fd')) if Path('/proc/self/fd').is_dir() else None
    write_text(tmp_path / 'x.csv', 'a')
    assert (tmp_path / 'x.csv').read_text() == 'a' and left(tmp_path) == ['x.csv']
    assert before is None or len(os.listdir('/proc/self/fd')) == before, 'nothing stays open'


def test_a_folder_whose_disk_fails_is_said(tmp_path, monkeypatch):
    real = os.fsync

    def fsync(number):
        if stat.S_ISDIR(os.fstat(number).st_mode):
            raise OSError(errno.EIO, 'Input/output error')
        return real(number)

    monkeypatch.setattr(os, 'fsync', fsync)
    with pytest.raises(InputError, match='cannot write .*x.csv: Input/output error'):
        write_text(tmp_path / 'x.csv', 'a')


def test_files_have_the_permissions_of_any_new_file(tmp_path):
    write_text(tmp_path / 'a', 'x')
    (tmp_path / 'b').write_text('x')
    assert stat.S_IMODE((tmp_path / 'a').stat().st_mode) == stat.S_IMODE(
        (tmp_path / 'b').stat().st_mode
    )


def test_two_writers_never_mix(tmp_path):
    p, texts = tmp_path / 'x', ['a' * 200_000, 'b' * 200_000]
    ts = [threading.Thread(target=lambda s=s: [write_text(p, s) for _ in range(20)]) for s in texts]
    for t in ts:
        t.start()
    seen = set()
    while any(t.is_alive() for t in ts):
        if p.exists():
            seen.add(p.read_text())
    for t in ts:
        t.join()
    assert seen <= set(texts) and left(tmp_path) == ['x']


def test_unwritable_places_are_one_line(tmp_path, open_dir, unprivileged):
    (tmp_path / 'file').write_text('')
    with pytest.raises(InputError, match='cannot write .*file/x'):
        write_text(tmp_path / 'file' / 'x', '')
    with unprivileged(), pytest.raises(InputError, match='you may write to') as e:
        write_text(open_dir / 'x', '')
    assert '\n' not in str(e.value) and str(open_dir / 'x') in str(e.value)


def test_a_full_disk_is_one_line(tmp_path):
    "A limit on the size of files stands for the disk: the write fails in its middle"
    code = f"import resource\nfrom imbal_al.core import InputError, write_text\nwrite_text({str(tmp_path/'x.csv')!r}, 'old')\nresource.setrlimit(resource.RLIMIT_FSIZE, (50_000,)*2)\ntry: write_text({str(tmp_path/'x.csv')!r}, 'y'*60_000)\nexcept InputError as e: print(e)"
    said = subprocess.run([sys.executable, '-B', '-c', code], capture_output=True, text=True).stdout
    assert (
        said
        == f"cannot write {tmp_path/'x.csv'}: File too large; make room on the disk or choose another folder, then run it again\n"
        and (tmp_path / 'x.csv').read_text() == 'old'
        and left(tmp_path) == ['x.csv']
    )


def test_damage_is_said_once(tmp_path, caplog):
    f = tmp_path / 'a.json'
    write_json(f, dict(x=1))
    f.write_text(f.read_text().replace('1', '2', 1))
    assert [read_json(f) for _ in range(3)] == [None] * 3 and caplog.messages == [
        f'{f} is damaged (its content is not that of its checksum) and counts as missing'
    ]
    assert (
        read_json(tmp_path / 'none.json') is None
        and read_json(f / 'below') is None
        and len(caplog.messages) == 1
    )


@pytest.mark.parametrize('name', ['ä ö 中.txt', 'with\nline', '-rf', 'a' * 200])
def test_odd_names(tmp_path, name):
    write_text(tmp_path / name, 'ü')
    assert left(tmp_path) == [name] and (tmp_path / name).read_text(encoding='utf-8') == 'ü'


# --- JSON and hashes


def test_to_json_round_trip_and_order():
    d = dict(b=np.float64(0.1), a=np.arange(3), c=Path('x'), d=(1, None, True), e=np.int64(2**62))
    assert json.loads(to_json(d)) == dict(b=0.1, a=[0, 1, 2], c='x', d=[1, None, True], e=2**62)
    assert to_json(dict(a=1, b=2)) == to_json(dict(b=2, a=1))
    with pytest.raises(TypeError):
        to_json({1, 2})


@settings(max_examples=50, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_json_keeps_every_bit_of_a_number(x):
    assert json.loads(to_json([x])) == [x]


def test_config_hash_is_pinned():
    assert config_hash({}) == '44136fa355b3'
    assert (
        config_hash(dict(b=[1, 2], a=None))
        == config_hash(dict(a=None, b=(1, 2)))
        != config_hash(dict(a=None, b=[2, 1]))
    )
    assert len(config_hash({}, 32)) == 32 and config_hash({}, 32).startswith(config_hash({}))


# --- random streams


def test_streams_are_pinned():
    "These numbers are what stored results were made with: they never change"
    assert stream(0, 'split', 3).integers(1000, size=4).tolist() == [676, 70, 12, 254]
    assert stream_seed(5, 'weights') == 4378266838319764653


def test_streams_differ_by_every_part():
    keys = [
        (0,),
        (1,),
        (0, 'a'),
        (0, 'b'),
        (0, 'a', 0),
        (0, 'a', 1),
        (0, 0, 'a'),
        (0, 'a', 'a'),
        (0, 0),
        (0, '0'),
    ]
    assert len({stream_seed(*k) for k in keys}) == len(keys)


def test_a_stream_does_not_touch_global_state():
    s = np.random.get_state()[1].copy()
    a = stream(3, 'x').random(5)
    b = stream(3, 'x').random(5)
    assert (a == b).all() and (np.random.get_state()[1] == s).all()


@pytest.mark.parametrize('t', [np.int64, np.int32, np.uint8])
def test_numpy_integers_are_integers(t):
    assert stream_seed(0, 'repeat', t(3)) == stream_seed(0, 'repeat', 3) and stream_seed(
        t(4), 'x'
    ) == stream_seed(4, 'x')


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**70), st.lists(st.one_of(st.integers(), st.text()), max_size=4))
def test_any_path_gives_a_seed(seed, path):
    assert 0 <= stream_seed(seed, *path) < 2**63


# --- the rest


def test_check_choice_lists_what_there_is():
    assert check_choice('x', 'a', dict(a=1)) == 'a'
    with pytest.raises(InputError, match="unknown loss 'c'; choose one of: a, b"):
        check_choice('loss', 'c', iter('ab'))
    assert issubclass(InputError, ValueError)


def test_provenance_is_plain_json():
    p = json.loads(to_json(provenance()))
    assert (
        p['commit'] == commit()
        and p['versions']['numpy'] == np.__version__
        and p['cores'] > 0
        and p['cpu']
    )


def test_commit_outside_a_checkout(monkeypatch, tmp_path):
    f = tmp_path / 'site' / 'imbal_al' / 'core.py'
    f.parent.mkdir(parents=True)
    monkeypatch.setattr(core, '__file__', str(f))
    commit.cache_clear()
    try:
        assert commit().startswith('v')
    finally:
        commit.cache_clear()


def test_importing_core_is_cheap():
    code = "import sys, imbal_al.core; print([m for m in ('torch','pandas','PIL','fastai') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, '-c', code], text=True).strip() == '[]'
