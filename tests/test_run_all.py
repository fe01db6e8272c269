"imbal_al.runs.engine with runs that take no time: killed workers, two engines on one folder, retries, tables, status, collecting"

import json, os, signal, subprocess, sys, time
from dataclasses import asdict, fields, replace
from pathlib import Path

import pandas as pd, pytest

import stubs
from imbal_al.core import InputError, read_json
from imbal_al.runs import collect as collecting, engine, lock, plan, workers as pool
from imbal_al.runs.collect import (
    collect, _rate, read_tables, status, summary, _tables_current, write_tables,
)
from imbal_al.runs.engine import failed_runs, retry, run_all
from imbal_al.runs.plan import load_plan, save_plan
from imbal_al.runs.lock import Lock
from imbal_al.runs.folder import read_result
from imbal_al.studies import learning_study
from stubs import STUBS, Stub, attempts, run_stub

HERE = Path(__file__).parent


def tables(d):
    return [(d / o).read_bytes() for o in ('results.csv', 'origin.json')]


def driver(folder, configs, workers=1):
    return subprocess.Popen(
        [
            sys.executable,
            HERE / 'stubs.py',
            str(folder),
            json.dumps([asdict(c) for c in configs]),
            str(workers),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join([str(HERE), *sys.path])),
    )


def counts(d, configs):
    return [attempts(d / 'runs', c) for c in configs]


def until(f, seconds=60):
    t0 = time.time()
    while not f():
        assert time.time() - t0 < seconds
        time.sleep(0.02)


# --- pools


def test_the_same_tables_from_one_process_and_several(tmp_path):
    cs = [Stub(i, 'wrong' if i == 3 else '') for i in range(10)]
    out = []
    for w, order in ((0, cs), (1, cs[::-1]), (3, cs)):
        d = tmp_path / str(w)
        out.append(sorted(run_all(d, order, w, 'cpu')))
        assert sorted(counts(d, cs)) == [1] * 10
    assert (
        out[0] == out[1] == out[2] == [f'{cs[3].hash} (number 3): ValueError: wrong in two lines']
    )
    assert (
        tables(tmp_path / '0') == tables(tmp_path / '1') == tables(tmp_path / '3')
        and len(pd.read_csv(tmp_path / '0' / 'results.csv')) == 18
    )
    assert (
        'Traceback' in read_json(tmp_path / '3' / 'runs' / cs[3].hash / 'failed.json')['traceback']
    )


def test_a_killed_worker_costs_its_run_an_attempt_and_nobody_else_anything(tmp_path):
    cs = [Stub(0, 'die'), *[Stub(i, seconds=0.3) for i in range(1, 4)], Stub(4, 'die once')]
    said = []
    failed = run_all(tmp_path, cs, 2, 'cpu', retries=2, say=said.append)
    assert failed == [
        f'{cs[0].hash} (number 0): its worker process was killed (out of memory?), in 3 attempts'
    ] and counts(tmp_path, cs) == [3, 1, 1, 1, 2]
    s = status(tmp_path).set_index('config')
    assert (
        s.state[cs[0].hash] == 'failed'
        and 'in 3 attempts' in s.line[cs[0].hash]
        and (s.state == 'done').sum() == 4
    )
    assert len(said) >= 3 and 'attempt 2 of 3' in said[0]
    assert run_all(tmp_path, cs, 1, 'cpu', retries=0) == [
        f'{cs[0].hash} (number 0): its worker process was killed (out of memory?)'
    ] and counts(tmp_path, cs) == [4, 1, 1, 1, 2]


def test_one_killed_worker_after_the_other_stops_the_study(tmp_path):
    cs = [Stub(i, 'die') for i in range(9)]
    with pytest.raises(InputError, match='5 worker processes in a row were killed'):
        run_all(tmp_path, cs, 1, 'cpu', retries=0)
    assert sum(counts(tmp_path, cs)) == 5 and (status(tmp_path).state == 'left').sum() >= 4


@pytest.mark.parametrize(
    'do,n,line',
    [
        ('disk once', 2, None),
        ('disk', 3, 'OSError: [Errno 28] No space left on device, in 3 attempts'),
        ('memory', 3, 'MemoryError: out of memory, in 3 attempts'),
        ('wrong', 1, 'ValueError: wrong in two lines'),
        ('diverge', 1, 'the training diverged'),
    ],
)
def test_what_is_tried_again(tmp_path, do, n, line):
    c = Stub(1, do)
    failed = run_all(tmp_path, [c], 0, 'cpu', retries=2)
    assert (
        failed == ([f'{c.hash} (number 1): {line}'] if line else [])
        and counts(tmp_path, [c]) == [n]
        and (tmp_path / 'runs' / c.hash / 'failed.json').exists() == bool(line)
    )


def test_no_more_is_handed_in_than_there_are_workers(tmp_path, monkeypatch):
    "The memory of the driver does not grow with the study; its plan is written once"
    seen, Old = [], pool._Processes

    class Watched(Old):
        def submit(self, c):
            super().submit(c)
            seen.append(len(self.busy()))

    monkeypatch.setattr(pool, '_Processes', Watched)
    cs = [Stub(i) for i in range(40)]
    writes = []
    real = engine.write_json

    def write(path, content):
        writes.append(Path(path).name)
        real(path, content)

    for room in (engine, plan, collecting):
        monkeypatch.setattr(room, 'write_json', write)
    run_all(tmp_path, cs, 2, 'cpu')
    assert max(seen) <= 2 and len(seen) == 40 and writes == ['study.json', 'tables.json']


def test_ctrl_c_stops_at_once_and_the_folder_goes_on(tmp_path):
    cs = [Stub(i, seconds=0.2 if i < 2 else 30.0) for i in range(6)]
    p = driver(tmp_path, cs, 2)
    until(
        lambda: sum((tmp_path / 'runs' / c.hash / 'result.json').exists() for c in cs) == 2
        and sum(counts(tmp_path, cs)) == 4
    )
    p.send_signal(signal.SIGINT)
    t0 = time.time()
    out, err = p.communicate(timeout=30)
    assert (
        p.returncode == 130
        and out.strip() == 'stopped'
        and 'Traceback' not in err
        and time.time() - t0 < 15
    )
    assert (status(tmp_path).state == 'running').sum() == 0 and not list(tmp_path.rglob('*.tmp'))
    assert run_all(tmp_path, cs[:2], 0, 'cpu') == [] and counts(tmp_path, cs[:2]) == [1, 1]


# --- two engines, one folder


def test_two_engines_share_the_work(tmp_path):
    "Each run once; both end with all of it, and the tables are whole"
    cs = [Stub(i, seconds=0.15) for i in range(16)]
    told = []
    p = driver(tmp_path, cs)
    until(lambda: sum(counts(tmp_path, cs)) >= 2)
    assert run_all(tmp_path, cs, 1, 'cpu', progress=lambda *a: told.append(a)) == [] and told[-1][
        :2
    ] == (16, 16)
    assert (
        counts(tmp_path, cs) == [1] * 16
        and _tables_current(tmp_path)
        and len(pd.read_csv(tmp_path / 'results.csv')) == 32
    )
    out, _ = p.communicate(timeout=60)
    assert (
        json.loads(out) == []
        and counts(tmp_path, cs) == [1] * 16
        and _tables_current(tmp_path)
        and len(pd.read_csv(tmp_path / 'results.csv')) == 32
    )


def test_the_other_engine_is_killed_and_its_run_is_taken_over(tmp_path):
    cs = [Stub(0, seconds=2.0), Stub(1), Stub(2)]
    p = driver(tmp_path, cs[:1])
    until(lambda: sum(counts(tmp_path, cs)) == 1)
    s = status(tmp_path).iloc[0]
    assert (
        s.state == 'running'
        and s.by.endswith(str(read_json(tmp_path / 'runs' / cs[0].hash / 'owner.json')['pid']))
        and abs(s.since - time.time()) < 60
    )
    p.kill()
    p.wait()
    assert (
        run_all(tmp_path, cs, 1, 'cpu') == []
        and counts(tmp_path, cs) == [2, 1, 1]
        and len(pd.read_csv(tmp_path / 'results.csv')) == 6
    )


def test_a_run_in_other_hands_is_waited_for_and_not_counted_as_done(tmp_path, monkeypatch):
    "The owner is on another machine; it ends while we wait"
    cs = [Stub(0), Stub(1)]
    d = tmp_path / 'runs' / cs[0].hash
    d.mkdir(parents=True)
    told, said = [], []
    (d / 'owner.json').write_text(json.dumps(dict(host='far', pid=1, where='x', token='ab' * 8)))

    def progress(*a):
        told.append(a)
        if len(told) == 3:
            (d / 'owner.json').unlink()
            run_stub(cs[0], tmp_path / 'runs', 'cpu', None, 1)
        else:
            os.utime(d / 'owner.json') if (d / 'owner.json').exists() else None

    assert run_all(tmp_path, cs, 0, 'cpu', progress=progress, say=said.append) == [] and counts(
        tmp_path, cs
    ) == [1, 1]
    assert (
        told[0][:2] == (1, 2)
        and told[-1][:2] == (2, 2)
        and 'waiting for 1 run of another process' in said[0]
    )
    assert len(pd.read_csv(tmp_path / 'results.csv')) == 4


def test_an_owner_elsewhere_that_shows_no_life_is_followed(tmp_path, monkeypatch):
    for k, v in dict(_STALE=1.0, _LOOK=0.5).items():
        monkeypatch.setattr(lock, k, v)
    c = Stub(0)
    d = tmp_path / 'runs' / c.hash
    d.mkdir(parents=True)
    (d / 'owner.json').write_text(json.dumps(dict(host='far', pid=1, where='x', token='ab' * 8)))
    assert (
        run_all(tmp_path, [c], 1, 'cpu') == []
        and counts(tmp_path, [c]) == [1]
        and not (d / 'owner.json').exists()
    )


def test_what_failed_elsewhere_meanwhile_is_not_tried_again(tmp_path):
    cs = [Stub(0), Stub(1, 'wrong')]

    def progress(done, *a):
        if done == 1 and not counts(tmp_path, cs)[1]:
            engine._mark_failed(tmp_path / 'runs' / cs[1].hash, pool.Outcome('failed elsewhere'))

    (tmp_path / 'runs' / cs[1].hash).mkdir(parents=True)
    l = Lock(tmp_path / 'runs' / cs[1].hash / 'owner.json')
    l.acquire()

    def both(*a):
        progress(*a)
        l.release()

    assert run_all(tmp_path, cs, 0, 'cpu', progress=both) == [
        f'{cs[1].hash} (number 1): failed elsewhere'
    ] and counts(tmp_path, cs) == [1, 0]
    assert 'wrong in two' in run_all(tmp_path, cs, 0, 'cpu')[0] and counts(tmp_path, cs) == [
        1,
        1,
    ], 'the same command again does'


# --- plan and tables


def test_two_plans_at_once_both_stay(tmp_path):
    code = "import sys, stubs; from imbal_al.runs.plan import save_plan\nfor i in range(20): save_plan(sys.argv[1], [stubs.Stub(int(sys.argv[2])+i)])"
    ps = [
        subprocess.Popen(
            [sys.executable, '-c', code, str(tmp_path), str(100 * i)],
            env=dict(os.environ, PYTHONPATH=os.pathsep.join([str(HERE), *sys.path])),
        )
        for i in range(3)
    ]
    assert (
        [p.wait() for p in ps] == [0] * 3
        and len(load_plan(tmp_path)) == 60
        and not (tmp_path / 'planning.json').exists()
    )


def test_a_damaged_plan_is_made_again_from_what_has_begun(tmp_path):
    cs = [Stub(i) for i in range(3)]
    run_all(tmp_path, cs, 0, 'cpu')
    for c in cs[:2]:
        (tmp_path / 'runs' / c.hash / 'config.json').write_text(
            json.dumps(dict(asdict(c), content='x'))
        )
    (tmp_path / 'study.json').write_text(
        (tmp_path / 'study.json').read_text().replace('"size"', '"sizf"', 1)
    )
    with pytest.raises(InputError, match='holds no study'):
        load_plan(tmp_path)
    run_all(tmp_path, cs[2:], 0, 'cpu')
    assert (
        set(load_plan(tmp_path)) == set(cs)
        and counts(tmp_path, cs) == [1, 1, 1]
        and len(pd.read_csv(tmp_path / 'results.csv')) == 6
    )


def test_another_kind_is_refused(tmp_path, tiny):
    save_plan(tmp_path, [Stub()])
    with pytest.raises(InputError, match='another kind'):
        save_plan(tmp_path, [tiny])
    (tmp_path / 'study.json').write_text('{"runs": {}, "kind": "os.system"}')
    with pytest.raises(InputError, match='unknown kind of study'):
        load_plan(tmp_path)


def test_tables_are_written_only_when_something_is_new(tmp_path):
    cs = [Stub(i) for i in range(4)]
    run_all(tmp_path, cs[:3], 0, 'cpu')
    stamp = (tmp_path / 'results.csv').stat().st_mtime_ns
    run_all(tmp_path, cs[:3], 0, 'cpu')
    assert (tmp_path / 'results.csv').stat().st_mtime_ns == stamp and _tables_current(tmp_path)
    run_all(tmp_path, cs, 0, 'cpu')
    assert len(pd.read_csv(tmp_path / 'results.csv')) == 8
    good = tables(tmp_path)
    for bad in (b'', good[0][:40], good[0].replace(b'0.3', b'0.4')):
        (tmp_path / 'results.csv').write_bytes(bad)
        assert not _tables_current(tmp_path)
        run_all(tmp_path, cs, 0, 'cpu')
        assert tables(tmp_path) == good
    (tmp_path / 'origin.json').write_bytes(good[1][:-9])
    run_all(tmp_path, cs, 0, 'cpu')
    assert tables(tmp_path) == good
    (tmp_path / 'tables.json').unlink()
    run_all(tmp_path, cs, 0, 'cpu')
    assert tables(tmp_path) == good and counts(tmp_path, cs) == [1] * 4
    assert not list(tmp_path.rglob('*.tmp')) and not (tmp_path / 'writing.json').exists()


def test_a_notebooks_kind_gives_way_to_a_modules(monkeypatch):
    "Worker processes cannot import what is defined in a notebook"
    monkeypatch.setattr(plan, '_KINDS', {})
    ours = replace(learning_study._RUNS, config=type('RunConfig', (), dict(__module__='__main__')))
    plan.register(ours)
    assert plan.kind_named('RunConfig') is ours  # nothing better is known
    plan.register(learning_study._RUNS)
    plan.register(ours)
    assert plan.kind_named('RunConfig') is learning_study._RUNS


def test_a_process_that_has_imported_nothing_finds_each_kind():
    "A study on the disk names its kind; whoever only looks at it loads no network"
    code = (
        'import sys; from imbal_al.runs.plan import _HOMES, kind_named; '
        'print([kind_named(name).config.__name__ for name in _HOMES], "torch" in sys.modules)'
    )
    r = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert r.stdout.strip() == "['RunConfig', 'LossConfig'] False"


def test_what_cannot_be_worked_at_is_not_planned(tmp_path):
    with pytest.raises(InputError, match="unknown backend 'dask'"):
        run_all(tmp_path, [Stub(0)], 1, 'cpu', backend='dask')
    with pytest.raises(InputError, match='is for --backend ray'):
        run_all(tmp_path, [Stub(0)], 1, 'cpu', address='here:6379')
    assert not list(tmp_path.iterdir())


def test_a_table_is_what_pandas_makes_of_it(tmp_path):
    cs = [Stub(i) for i in range(3)]
    run_all(tmp_path, cs, 0, 'cpu')
    t = read_tables(tmp_path)
    r = pd.read_csv(tmp_path / 'results.csv')
    assert (
        r.shape == t.shape
        and r.value.equals(t.value)
        and r.nan.isna().all()
        and list(r['size']) == [0.5, 1] * 3
    )


def test_the_tables_of_the_one_that_ends_last_are_whole(tmp_path, monkeypatch):
    "The other writes while we have read but not written: it waits"
    cs = [Stub(i) for i in range(2)]
    run_all(tmp_path, cs[:1], 0, 'cpu')
    (tmp_path / 'tables.json').unlink()
    real, n = collecting._digest, []

    def slow(*a):
        if not n:
            n.append(driver(tmp_path, cs))
            until(lambda: read_result(tmp_path / 'runs' / cs[1].hash))
            time.sleep(0.3)
        return real(*a)

    monkeypatch.setattr(collecting, '_digest', slow)
    write_tables(tmp_path)
    n[0].communicate(timeout=60)
    assert len(pd.read_csv(tmp_path / 'results.csv')) == 4 and _tables_current(tmp_path)


# --- status, retry, collect


def test_summary_and_rate(tmp_path):
    cs = [Stub(i) for i in range(5)]
    run_all(tmp_path, cs[:3], 0, 'cpu')
    save_plan(tmp_path, cs)
    for i, c in enumerate(cs[:3]):
        os.utime(tmp_path / 'runs' / c.hash / 'result.json', (1000 + 60 * i,) * 2)
    assert _rate(tmp_path) == 60
    s = status(tmp_path)
    n = summary(tmp_path, s)
    assert (n['done'], n['left'], n['runs'], n['seconds_left']) == (3, 2, 5, None)
    (tmp_path / 'runs' / cs[3].hash).mkdir()
    l = Lock(tmp_path / 'runs' / cs[3].hash / 'owner.json')
    l.acquire()
    with l:
        n = summary(tmp_path, status(tmp_path))
        assert n['running'] == 1 and n['seconds_left'] == 120
    os.utime(tmp_path / 'runs' / cs[2].hash / 'result.json', (1e6,) * 2)
    assert _rate(tmp_path) > 60, 'too few to tell a pause'
    run_all(tmp_path, cs, 0, 'cpu')
    for i, c in enumerate(cs):
        os.utime(tmp_path / 'runs' / c.hash / 'result.json', (1000 + 60 * i + 1e6 * (i > 3),) * 2)
    assert _rate(tmp_path) == 60, 'a pause of days is left out'


def test_status_does_not_read_again_what_is_done(tmp_path, monkeypatch):
    cs = [Stub(i) for i in range(3)]
    run_all(tmp_path, cs[:2], 0, 'cpu')
    save_plan(tmp_path, cs)
    done, n = {}, []
    monkeypatch.setitem(
        plan._KINDS, 'Stub', replace(STUBS, read=lambda d: (n.append(d), read_result(d))[1])
    )
    a = status(tmp_path, done)
    b = status(tmp_path, done)
    assert a.equals(b) and len(n) == 2 and sorted(a.state) == ['done', 'done', 'left']


def test_retry_takes_failed_and_diverged_runs_and_nothing_else(tmp_path, monkeypatch):
    cs = [Stub(0), Stub(1, 'wrong'), Stub(2, 'diverge')]
    save_plan(tmp_path, [Stub(3)])
    assert (
        len(run_all(tmp_path, cs, 0, 'cpu')) == 2
        and len(run_all(tmp_path, cs, 0, 'cpu')) == 2
        and counts(tmp_path, cs) == [1, 2, 1]
    )
    assert set(failed_runs(tmp_path)) == set(cs[1:])
    assert len(retry(tmp_path, 0, 'cpu')) == 2 and counts(tmp_path, [*cs, Stub(3)]) == [1, 3, 2, 0]
    fine = lambda c, *a: (
        run_stub(c, *a)
        if not c.do
        else stubs.write_result(
            tmp_path / 'runs' / c.hash, dict(rows=[dict(number=c.number, j=0, config=c.hash)]), []
        )
        or {}
    )
    monkeypatch.setitem(plan._KINDS, 'Stub', replace(STUBS, run=fine))
    assert (
        retry(tmp_path, 0, 'cpu') == []
        and failed_runs(tmp_path) == []
        and retry(tmp_path, 0, 'cpu') == []
    )


def test_collect(tmp_path):
    cs = [Stub(i, size=None if i else 7) for i in range(3)]
    save_plan(tmp_path, cs)
    with pytest.raises(InputError, match='no run is finished'):
        collect(tmp_path)
    run_all(tmp_path, cs[:2], 0, 'cpu')
    paths = collect(tmp_path, tmp_path / 'out' / 'all')
    p, t = pd.read_parquet(paths[1]), pd.read_csv(paths[0])
    assert (
        [o.name for o in paths] == ['all.csv', 'all.parquet']
        and len(p) == len(t) == 4
        and list(p) == list(t)
    )
    assert set(p) >= {
        'config',
        'commit',
        'cpu',
        'cores',
        'python',
        'device',
        'threads',
        'version_torch',
        'precision_train',
    } | {f.name for f in fields(Stub)}
    assert (
        p.value.tolist() == t.value.tolist() == [0, 1, 1 / 3, 4 / 3]
        and p['size'].tolist() == [0.5, 1, 0.5, 1]
        and p.pair.tolist() == ['[1, 2]'] * 4
        and str(p.number.dtype) == 'int64'
        and p.nan.isna().all()
    )
    a = [o.read_bytes() for o in paths]
    collect(tmp_path, tmp_path / 'out' / 'all')
    assert [o.read_bytes() for o in paths] == a
