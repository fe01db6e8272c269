"imbal_al.studies.learning_study: the grid, worker processes that die or fail, tables, and what it will cost"

import json, time
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import pytest
import quick

from imbal_al.core import InputError, write_text
from imbal_al.runs.collect import picks_table, results_table, status, write_tables
from imbal_al.runs.folder import read_record
from imbal_al.runs.lock import Lock
from imbal_al.runs.plan import load_plan, save_plan
from imbal_al.studies.learning_study import _PRESETS, check_scenarios, plan, preset, run_study
from imbal_al.studies.run_config import RunConfig
from imbal_al.studies.run_costs import estimate, high_water, run_seconds


def table(folder, name):
    return pd.read_csv(folder / name).drop(columns='commit', errors='ignore')


def states(folder, configs):
    return status(folder).set_index('config').state[[c.hash for c in configs]].tolist()


@pytest.fixture(scope='module')
def runs(tiny):
    return plan(tiny, ('random', 'entropy'), (0.5,), 2, (0.1,))


@pytest.fixture(scope='module')
def story(runs, tmp_path_factory):
    "A study with one worker, in which one run fails first; then the same call again. What was seen on the way"
    d, seen, told = tmp_path_factory.mktemp('study'), {}, []
    bad = d / 'runs' / runs[1].hash
    write_text(bad / 'config.json', json.dumps(dict(content='something else')))
    seen['first'] = run_study(d, runs, 1, 'cpu', progress=lambda *a: told.append(a))
    seen['status'], seen['failed'], seen['rows'] = (
        status(d).set_index('config').loc[[c.hash for c in runs]],
        json.loads((bad / 'failed.json').read_text()),
        len(table(d, 'results.csv')),
    )
    stamps = {o: o.stat().st_mtime_ns for o in (d / 'runs').rglob('*') if bad not in o.parents}
    (bad / 'config.json').unlink()
    seen['second'] = run_study(d, runs, 1, 'cpu')
    seen['untouched'] = all(o.stat().st_mtime_ns == t for o, t in stamps.items() if o.is_file())
    return d, seen, told


# --- a study


def test_a_failed_run_does_not_stop_the_rest(story, runs):
    d, seen, told = story
    assert (
        len(seen['first']) == 1
        and runs[1].hash in seen['first'][0]
        and 'have changed' in seen['first'][0]
        and '\n' not in seen['first'][0]
    )
    assert (
        seen['status'].state.tolist() == ['done', 'failed', 'done', 'done']
        and seen['status'].line.iloc[1] == seen['failed']['line']
        and seen['rows'] == 12
    )
    assert 'Traceback' in seen['failed']['traceback']
    assert told[-1][:2] == (8, 8) and [o[0] for o in told] == sorted(o[0] for o in told)


def test_the_same_call_again_does_only_what_is_missing(story, runs):
    d, seen, _ = story
    assert (
        seen['second'] == []
        and seen['untouched']
        and states(d, runs) == ['done'] * 4
        and not list(d.rglob('failed.json'))
    )
    assert status(d).trained.tolist() == [2] * 4


def test_tables(story, runs):
    d, *_ = story
    r, p = table(d, 'results.csv'), table(d, 'picks.csv')
    assert len(r) == 4 * 2 * 2 and len(p) == 4 * 2 * 8 and set(r.config) == {c.hash for c in runs}
    assert r.equals(
        r.sort_values(['data', 'pi_u', 'strategy', 'repeat', 'cycle', 'pi_t'], ignore_index=True)
    )
    for c in runs:
        for j in (1, 2):
            rec = read_record(d / 'runs' / c.hash / f'cycle_{j:02d}.npz')
            o = p[(p.config == c.hash) & (p.cycle == j)]
            assert (
                o['id'].tolist() == rec['selected'].tolist()
                and o.faulty.tolist() == rec['faulty'].astype(int).tolist()
                and o['rank'].tolist() == list(range(8))
            )
    share = p.groupby(['strategy', 'repeat', 'cycle']).faulty.mean()
    for o in r.itertuples():
        assert o.faulty_share == share[o.strategy, o.repeat, o.cycle]
    a = p[p.cycle == 1].groupby(['repeat', 'rank'])['id'].nunique()
    assert (a == 1).all(), 'paired first batches'


def test_tables_are_written_the_same_again(story):
    d, *_ = story
    before = [(d / o).read_bytes() for o in ('results.csv', 'picks.csv')]
    write_tables(d)
    assert [(d / o).read_bytes() for o in ('results.csv', 'picks.csv')] == before


def test_a_damaged_result_is_done_again(story, runs, tmp_path):
    "Not taken for finished"
    import shutil

    d = Path(shutil.copytree(story[0], tmp_path / 'study'))
    (d / 'runs' / runs[2].hash / 'result.json').write_text('{"rows": [')
    assert states(d, runs) == ['done', 'done', 'left', 'done']
    assert run_study(d, runs, 1, 'cpu') == [] and table(d, 'results.csv').equals(
        table(story[0], 'results.csv')
    )


# --- a driver that is killed

DRIVER = """
import json, sys
from imbal_al.studies.learning_study import run_study
from imbal_al.studies.run_config import as_config
if __name__=='__main__': run_study(sys.argv[1], [as_config(o) for o in json.loads(sys.argv[2])], 2, 'cpu')
"""


def children(pid):
    "Processes below `pid`, with their parents, from /proc"
    parent = {}
    for o in Path('/proc').glob('[0-9]*/stat'):
        try:
            parent[int(o.parent.name)] = int(o.read_text().rpartition(')')[2].split()[1])
        except OSError:
            pass
    out, new = set(), {pid}
    while new:
        new = {k for k, v in parent.items() if v in new} - out
        out |= new
    return out


def alive(pid):
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


@pytest.mark.skipif(not Path('/proc/self/stat').exists(), reason='looks at /proc')
def test_killed_driver_and_two_workers(story, runs, tmp_path):
    "The workers of a killed driver end by themselves; another call ends with the tables of one that was never killed, and of one worker"
    d = tmp_path / 'study'
    (tmp_path / 'driver.py').write_text(DRIVER)
    p = quick.Program(tmp_path / 'driver.py', d, json.dumps([asdict(c) for c in runs]))
    while not list(d.glob('runs/*/cycle_01.npz')):
        assert p.poll() is None
        time.sleep(0.005)
    kids, busy = children(p.pid), 'running' in states(d, runs)
    p.kill()
    p.wait()
    t0 = time.time()
    assert busy and len(kids) >= 2
    while any(map(alive, kids)):
        assert time.time() - t0 < 15, 'workers outlive their driver'
        time.sleep(0.05)
    assert 'running' not in states(d, runs) and 'left' in states(d, runs)
    assert run_study(d, runs, 2, 'cpu') == []
    for f in ('results.csv', 'picks.csv'):
        assert table(story[0], f).equals(table(d, f))
    assert states(d, runs) == ['done'] * 4
    for c in runs:
        for f in ('result.json', 'config.json'):
            assert [
                o for o in (d / 'runs' / c.hash / f).read_text().splitlines() if '"commit"' not in o
            ] == [
                o
                for o in (story[0] / 'runs' / c.hash / f).read_text().splitlines()
                if '"commit"' not in o
            ]


# --- plans


def test_plan(tiny):
    p = plan(tiny, ('random', 'coreset'), (0.1, 1, 0.5), 3, (0.05, 0.1))
    assert (
        len(p) == 18
        and len({c.hash for c in p}) == 18
        and [c.repeat for c in p] == sorted(c.repeat for c in p)
    )
    assert {c.pi_u: c.pi_t for c in p} == {
        0.1: (0.1, 0.05),
        1.0: (1.0, 0.05, 0.1),
        0.5: (0.5, 0.05, 0.1),
    } and all(type(c.pi_u) is float for c in p)
    with pytest.raises(InputError, match='entropi'):
        plan(tiny, ('random', 'entropi'), (0.1,), 1)


def test_a_plan_grows_and_is_read_back(tiny, tmp_path):
    a, b = plan(tiny, ('random',), (0.5,), 2), plan(tiny, ('random', 'entropy'), (0.5,), 2)
    save_plan(tmp_path, a)
    save_plan(tmp_path, b)
    save_plan(tmp_path, a)
    assert set(load_plan(tmp_path)) == set(b) and len(load_plan(tmp_path)) == 4


@pytest.mark.parametrize('text', [None, '', '{', 'null'])
def test_no_study(tmp_path, text):
    if text is not None:
        (tmp_path / 'study.json').write_text(text)
    for f in (load_plan, status, results_table):
        with pytest.raises(InputError, match='holds no study') as e:
            f(tmp_path)
        assert str(tmp_path) in str(e.value) and '\n' not in str(e.value)


def test_a_plan_of_a_newer_version_is_one_line(tmp_path):
    write_text(
        tmp_path / 'study.json', json.dumps(dict(runs=dict(x=dict(asdict(RunConfig()), magic=1))))
    )
    with pytest.raises(InputError, match='magic'):
        status(tmp_path)


def test_nothing_done_yet(tiny, tmp_path):
    save_plan(tmp_path, plan(tiny, ('random',), (0.5,), 2))
    s = status(tmp_path)
    assert (
        s.state.tolist() == ['left'] * 2
        and s.trained.sum() == 0
        and len(results_table(tmp_path)) == len(picks_table(tmp_path)) == 0
    )
    write_tables(tmp_path)
    assert not (tmp_path / 'results.csv').exists()


def test_states(tiny, tmp_path):
    cs = plan(tiny, ('random',), (0.5,), 4)
    save_plan(tmp_path, cs)
    d = [tmp_path / 'runs' / c.hash for c in cs]
    for o in d[:3]:
        o.mkdir(parents=True)
    write_text(d[0] / 'result.json', json.dumps(dict(rows=[dict(x=1)])))
    write_text(d[1] / 'failed.json', '{"line": "why"}')
    write_text(d[2] / 'failed.json', '{"line": "once"}')
    lock = Lock(d[2] / 'owner.json')
    lock.acquire()
    with lock:
        s = status(tmp_path).set_index('config').loc[[c.hash for c in cs]]
    assert s.state.tolist() == ['done', 'failed', 'running', 'left'] and s.line.tolist() == [
        '',
        'why',
        '',
        '',
    ]
    assert states(tmp_path, cs) == ['done', 'failed', 'failed', 'left']
    (d[1] / 'failed.json').write_text('{')
    assert states(tmp_path, cs)[1] == 'left'


# --- refused before anything is started


@pytest.mark.parametrize(
    'kw,match',
    [
        (dict(batch=50), 'batch'),
        (dict(strategy='x'), 'strategy'),
        (dict(data='nowhere'), 'nowhere'),
        (dict(steps=None), 'steps'),
        (dict(lr=-1.0), 'lr'),
    ],
)
def test_bad_runs_leave_nothing(tiny, tmp_path, kw, match):
    with pytest.raises(InputError, match=match):
        run_study(tmp_path / 's', [tiny, replace(tiny, **kw)], 1, 'cpu')
    assert not (tmp_path / 's').exists()


@pytest.mark.parametrize(
    'kw,match',
    [
        (dict(pool_size=150), 'largest size'),
        (dict(test_size=60), 'pi_t'),
        (dict(pi_u=1.0, pool_size=60), 'pi_u'),
        (dict(mode='x'), 'paired'),
        (dict(pi_t=(1.5,)), '1.5'),
    ],
)
def test_scenarios_are_checked_first(tiny, kw, match):
    check_scenarios([tiny])
    with pytest.raises(InputError, match=match):
        check_scenarios([tiny, replace(tiny, **kw)])


def test_no_place_to_write(tiny, tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(InputError, match='file'):
        run_study(tmp_path / 'file', [tiny], 1, 'cpu')


# --- presets and cost


def test_paper_preset_is_the_reference_table():
    "reference/active_learning.md, section 1"
    base, strategies, pi_u, repeats = preset('paper', 'potato')
    want = dict(
        arch='fpn',
        encoder='efficientnet-b3',
        weights='imagenet',
        in_channels=3,
        loss='combo_paper',
        lr=1e-4,
        wd=1e-4,
        schedule='flat',
        epochs=40,
        steps=None,
        bs=50,
        patch=(256, 256),
        stride='none',
        pool_size=4300,
        test_size=500,
        batch=86,
        cycles=10,
        mode='paper',
        heldout_size=None,
    )
    assert {k: getattr(base, k) for k in want} == want
    assert (
        strategies == ('random', 'entropy', 'coreset')
        and pi_u == (0.1, 0.5, 0.9, 1.0)
        and repeats == 15
    )
    s = preset('paper', 'severstal')[0]
    assert (s.patch, s.in_channels) == ((256, 400), 1) and replace(
        s, data='potato', patch=(256, 256), in_channels=3
    ) == base
    runs = [
        c
        for d in ('potato', 'severstal')
        for c in plan(preset('paper', d)[0], strategies, pi_u, repeats)
    ]
    assert sum(c.cycles for c in runs) == 3600 and all(c.pi_t in ((c.pi_u, 0.05),) for c in runs)
    steps = sum(run_seconds(c, 1, 0, 0) for c in runs)
    assert steps == 1_296_000 and steps * 50 == 64_800_000, '1.3 M steps, 65 M image passes'


def test_presets():
    for name in _PRESETS:
        base, strategies, pi_u, repeats = preset(name, 'synthetic')
        from imbal_al.studies.run_config import check_config

        check_config(base)
        assert (
            base.data == 'synthetic'
            and repeats > 0
            and {'random', 'entropy', 'coreset'} <= set(strategies)
        )
    assert (
        preset('laptop', 'x')[0] == RunConfig(data='x')
        and preset('quick', 'x', lr=0.5, cycles=2)[0].lr == 0.5
    )
    with pytest.raises(InputError, match='quick, laptop, paper'):
        preset('fast', 'x')


def test_run_seconds_by_hand():
    c = RunConfig(pool_size=100, batch=10, cycles=3, steps=5, bs=4)
    assert run_seconds(c, 1, 0, 7) == 15 and run_seconds(c, 0, 1, 7) == 21
    assert (
        run_seconds(replace(c, strategy='entropy'), 0, 1, 7) == 21 + 90 + 80
        and run_seconds(replace(c, strategy='random_faulty'), 0, 1, 7) == 21
    )
    assert run_seconds(replace(c, steps=None, epochs=2), 1, 0, 0) == 2 * (2 + 5 + 7)


def test_estimate(runs):
    e = estimate(runs, 2)
    assert (
        e['runs'] == 4 and e['trainings'] == 8 and e['device'] == 'cpu' and 1 <= e['workers'] <= 2
    )
    assert (
        e['store_bytes'] == 160 * 32 * 32 * 2
        and e['record_bytes'] > 1000
        and e['seconds'] > 0
        and len(e['step_seconds']) == len(e['image_seconds']) == 1
        and e['step_seconds'][0] > e['image_seconds'][0] > 0
    )
    assert json.dumps(e) and high_water() < e['memory_bytes'] <= (1 + e['workers']) * high_water()


def test_high_water_is_the_most_ever_held():
    code = "import numpy as np; from imbal_al.studies.run_costs import high_water; a = high_water(); x = np.ones(10**8//8); b = high_water(); del x; print(b-a, high_water()-b)"
    said, _ = quick.Program('-c', code).communicate()
    grown, after = map(int, said.split())
    assert 0.9e8 < grown < 1.2e8 and abs(after) < 1e7


# --- losses as an axis


def test_losses_are_an_axis(tiny):
    cs = plan(
        tiny,
        ('random', 'entropy'),
        (0.5,),
        2,
        (0.1,),
        ('combo_paper', 'dibe', 'unified'),
        (0.3, 0.7),
    )
    assert [(c.loss, c.fn_weight, c.strategy) for c in cs[:8]] == [
        (l, w, s)
        for l, w in (('combo_paper', None), ('dibe', 0.3), ('dibe', 0.7), ('unified', None))
        for s in ('random', 'entropy')
    ] and len(cs) == 16 == len({c.hash for c in cs})
    assert plan(tiny, ('random',), (0.5,), 1) == plan(
        tiny, ('random',), (0.5,), 1, losses=('combo_paper',)
    ), 'the default is as it was, hash and all'
    assert (
        plan(replace(tiny, loss='dibe', fn_weight=0.3), ('random',), (0.5,), 1)[0].fn_weight == 0.3
    )
    with pytest.raises(InputError, match="unknown loss 'dise'.*combo_paper.*dibe"):
        plan(tiny, ('random',), (0.5,), 1, losses=('dise',))


def test_a_study_with_losses(tiny, story, tmp_path):
    import shutil
    from imbal_al.results.compare import compare_results

    cs = plan(tiny, ('random',), (0.5,), 2, (0.1,), ('combo_paper', 'dibe', 'unified'))
    shutil.copytree(story[0] / 'runs', tmp_path / 'runs')
    assert run_study(tmp_path, cs, 0, 'cpu') == []
    r = table(tmp_path, 'results.csv')
    assert len(r) == 3 * 2 * 2 * 2 and dict(zip(r.loss, r.fn_weight.fillna(-1))) == dict(
        combo_paper=-1, dibe=0.7, unified=-1
    )
    old, new = (
        o[o.loss == 'combo_paper'].drop(columns='fn_weight').reset_index(drop=True)
        for o in (table(story[0], 'results.csv').query('strategy=="random"'), r)
    )
    pd.testing.assert_frame_equal(old, new)
    assert status(tmp_path).groupby('loss').size().tolist() == [2, 2, 2]
    for results in (r, results_table(tmp_path)):
        assert set(compare_results(results, methods='loss').methods.method) == {
            'combo_paper',
            (
                'dibe + 0.7'
                if 'dibe + 0.7' in set(compare_results(results, methods='loss').methods.method)
                else 'dibe + fn_weight 0.7'
            ),
            'unified',
        }
    p = table(tmp_path, 'picks.csv')
    first = p[p.cycle == 1].groupby('config').id.apply(tuple)
    assert first.nunique() == 2, 'one first batch for each repeat, whatever the loss'


def test_runs_from_before_there_was_a_weight_of_misses(story, runs, tmp_path):
    "Their config.json and result.json lack it; the rows are filled in, and a lost plan is made of them all the same"
    import shutil
    from imbal_al.core import read_json, write_json

    shutil.copytree(story[0], tmp_path / 's')
    d = tmp_path / 's'
    for f in (d / 'runs').glob('*/config.json'):
        o = read_json(f)
        o.pop('fn_weight')
        o.pop('precision_by')
        write_json(f, o)
    (d / 'study.json').write_text('broken')
    save_plan(d, runs[:1])
    assert (
        set(load_plan(d)) == set(runs)
        and results_table(d).fn_weight.isna().all()
        and states(d, runs) == ['done'] * 4
    )


def test_bald_costs_more(tiny):
    c = RunConfig(pool_size=100, batch=10, cycles=2, steps=5, strategy='entropy')
    assert (
        run_seconds(replace(c, strategy='badge'), 0, 1, 0)
        == run_seconds(c, 0, 1, 0)
        < run_seconds(replace(c, strategy='bald'), 0, 1, 0)
    )
