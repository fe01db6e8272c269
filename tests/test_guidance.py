"Guidance: Table 6's shapes, the decision as a pure function, memory, interruption, bad input"

import copy, csv, math, pickle, subprocess, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

import imbal_al
from imbal_al.core import InputError, read_json, to_json
from imbal_al.losses.guidance import (
    Decision, Memory, _best, candidates, check_target, compare, grid, guide, _middle,
    next_candidate, _read_memory, remembered, _rises, _search_cost, _search_tree, trace_figure,
    _verdict,
)

TABLE6 = list(
    csv.DictReader(open(Path(imbal_al.__file__).parent.parent / 'data/reference/table6.csv'))
)
OII = {
    0.7: {0.1: 0.8, 0.3: 0.6, 0.5: 0.46, 0.7: 0.21, 0.9: -0.1},
    0.3: {0.1: 0.5, 0.3: 0.2, 0.5: -0.1, 0.7: -0.4, 0.9: -0.6},
    0.1: {0.1: 0.2, 0.3: 0.0, 0.5: -0.2, 0.7: -0.4, 0.9: -0.6},
}


class Stub:
    "Answers from a table, counts, and can be pickled"

    def __init__(self, table, fail=()):
        self.table, self.fail, self.calls = table, set(fail), []

    def __call__(self, fn_weight):
        self.calls.append(fn_weight)
        if fn_weight in self.fail:
            raise FloatingPointError(f'loss is nan at fn_weight {fn_weight}')
        return dict(self.table[fn_weight])


def line(oiis, fail=()):
    return Stub({a: dict(oii=o, iou=0.5) for a, o in zip(candidates(len(oiis)), oiis)}, fail)


def paper(net, loss):
    rows = [r for r in TABLE6 if r['loss'] == loss]
    end = next(float(r[f'{net}_alpha']) for r in rows if r['method'] == 'oii')
    table = {a: dict(oii=o, iou=0.0, precision=0.0) for a, o in OII[end].items()}
    for r in rows:
        table[float(r[f'{net}_alpha'])].update(
            iou=float(r[f'{net}_iou']), precision=float(r[f'{net}_pa'])
        )
    return Stub(table)


def same(a, b):
    pd.testing.assert_frame_equal(a.trace, b.trace)
    assert (a.index, a.stop, a.account()) == (b.index, b.stop, b.account())


@pytest.mark.parametrize(
    'net,loss,path',
    [
        ('segnet', 'DIBEDis', [0.5, 0.7]),
        ('segnet', 'Tversky', [0.5, 0.3]),
        ('segnet', 'DIBEReg', [0.5, 0.3]),
        ('unet', 'DIBEDis', [0.5, 0.7]),
        ('unet', 'Tversky', [0.5, 0.3, 0.1]),
        ('unet', 'DIBEReg', [0.5, 0.3, 0.1]),
    ],
)
def test_table_6(net, loss, path):
    train = paper(net, loss)
    g = guide(train)
    assert (
        train.calls == path == g.trace.fn_weight.tolist()
        and g.chosen == path[-1]
        and g.stop == 'inside'
        and g.trainings == len(path)
    )
    got = compare(g, grid(train)).set_index('method')
    for r in (r for r in TABLE6 if r['loss'] == loss):
        assert got.loc[r['method'], ['times', 'fn_weight', 'iou', 'precision']].tolist() == [
            float(r[f'{net}_{k}']) for k in ('times', 'alpha', 'iou', 'pa')
        ]


def test_account():
    lines = guide(paper('segnet', 'DIBEDis')).account().splitlines()
    assert (
        lines[0]
        == '1. fn_weight 0.5 gave OII 0.460 (IoU 0.442, precision 0.713): above 0.3, too many misses, so misses must weigh more: next 0.7.'
    )
    assert (
        lines[1].endswith('within 0.1 to 0.3: stop.')
        and lines[-1]
        == 'Chosen: fn_weight 0.7, the first inside the target, after 2 trainings (a grid takes 5).'
    )
    assert (
        'below 0.1, too many false alarms, so misses must weigh less: next 0.3.'
        in guide(paper('unet', 'Tversky')).account()
    )
    assert '**fn_weight 0.7**' in guide(paper('segnet', 'DIBEDis')).account(
        True
    ) and '**' not in '\n'.join(lines)
    assert 'best IoU' in grid(paper('unet', 'Tversky')).account()


def test_report_is_the_account():
    said = []
    g = guide(paper('unet', 'Tversky'), report=said.append)
    assert [f'{k}. {o}' for k, o in enumerate(said, 1)] == g.account().splitlines()[:3]
    grid(paper('unet', 'Tversky'), report=said.append)
    assert len(said) == 8


def test_candidates():
    assert (
        candidates(5) == (0.1, 0.3, 0.5, 0.7, 0.9)
        and candidates(1) == (0.5,)
        and candidates(np.int64(2)) == (0.25, 0.75)
    )
    for n in (1, 2, 7, 100, 10_000):
        c = candidates(n)
        assert len(set(c)) == n and 0 < c[0] <= c[-1] < 1 and c[0] == 1 / (2 * n)


@pytest.mark.parametrize('bad', [0, -3, 2.5, '5', None, True, 10_001, float('nan')])
def test_bad_n(bad):
    for f in (
        candidates,
        lambda n: guide(line([0.2]), n=n),
        lambda n: grid(line([0.2]), n=n),
        lambda n: next_candidate([], n),
    ):
        with pytest.raises(InputError, match='^[^\n]*' + repr(bad).replace('.', r'\.') + '[^\n]*$'):
            f(bad)


@pytest.mark.parametrize(
    'bad,named',
    [
        ((0.3, 0.1), 'reversed'),
        ((-1.5, 0.1), '-1.5'),
        ((0.1, 2), 'has 2'),
        ((math.nan, 0.1), 'nan'),
        (0.2, '0.2'),
        ((0.1,), r'\(0.1,\)'),
        ((0.1, 0.2, 0.3), '0.3'),
        (None, 'None'),
        ('ab', "'ab'"),
    ],
)
def test_bad_target(bad, named):
    for f in (
        check_target,
        lambda t: guide(line([0.2] * 5), t),
        lambda t: grid(line([0.2] * 5), target=t),
        lambda t: next_candidate([], 5, t),
        lambda t: _verdict(0.1, t),
    ):
        with pytest.raises(InputError, match=named) as e:
            f(bad)
        assert '\n' not in str(e.value)


@pytest.mark.parametrize(
    'result,named',
    [
        (dict(iou=0.5, loss=1), "0.5\\) returned no 'oii'; it has: iou, loss"),
        (dict(oii=None), "no 'oii'"),
        ({}, 'nothing'),
        (None, 'NoneType'),
        (0.3, 'float'),
        (dict(oii='high'), "oii = 'high'"),
        (dict(oii=1.2), 'oii = 1.2'),
        (dict(oii=0, iou=44), 'iou = 44'),
        (dict(oii=0, precision=-1), 'precision = -1'),
    ],
)
def test_bad_result(result, named, tmp_path):
    with pytest.raises(InputError, match='fn_weight=0.1'):
        grid(lambda a: result)
    for f in (guide, lambda t: guide(remembered(t, tmp_path / 'm.json', 'k'))):
        with pytest.raises(InputError, match=named) as e:
            f(lambda a: result)
        assert '\n' not in str(e.value)
    assert not (tmp_path / 'm.json').exists()


def test_more_bad_input():
    for f in (lambda: guide(3), lambda: grid(None), lambda: remembered('x', 'm.json', 'k')):
        with pytest.raises(InputError, match='cannot be called'):
            f()
    for k in (0, 1.5, True, None):
        with pytest.raises(InputError, match='failures'):
            guide(line([0.2]), n=1, failures=k)
    for tried in ({7: 0.1}, {-1: 0.1}, [(2, 0.1), (2, 0.2)], [(0.5, 0.1)], [(1, 'x')], [3]):
        with pytest.raises(InputError):
            next_candidate(tried)
    for own in ([], [0.5, 0.3], [0.1, 0.1], [0, 0.5], [0.5, 1], ['a']):
        with pytest.raises(InputError, match='candidates'):
            guide(line([0.2]), n=own)
    with pytest.raises(InputError, match='score'):
        grid(line([0.2]), 1, by='oii')
    with pytest.raises(InputError, match="no 'precision'"):
        grid(line([0.2]), 1, by='precision')
    with pytest.raises(InputError, match='tie rule'):
        _middle([1, 2], tie='best')
    with pytest.raises(InputError, match='same ones'):
        compare(guide(line([0.2] * 5)), grid(line([0.2] * 3), 3))


def test_other_errors_pass():
    def train(a):
        raise RuntimeError('out of memory')

    with pytest.raises(RuntimeError, match='out of memory'):
        guide(train)


def test_ends_belong_to_the_target():
    assert [
        guide(line([0.9, 0.8, o, -0.8, -0.9])).trainings for o in (0.1, 0.3, 0.2, 0.30001, 0.0999)
    ] == [1, 1, 1, 2, 2]
    assert (
        guide(line([0.5, 0.4, 0.0, -0.1, -0.2]), (0, 0)).stop == 'inside'
        and guide(line([1.0]), (-1, 1), n=1).stop == 'inside'
    )


def test_start_of_even_n_and_ties():
    assert [next_candidate([], n).index for n in range(1, 9)] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert next_candidate({1: 0.9}, 4).index == 2 and next_candidate({1: -0.9}, 4).index == 0
    assert (
        next_candidate({7: 0.9}, 15).index == 11
        and next_candidate({5: 0.9}, 12).index == 8
        and next_candidate({5: -0.9}, 12).index == 2
    )


@pytest.mark.parametrize('tie', ['furthest', 'lower', 'upper'])
def test_no_other_tie_rule_gives_table_6(tie):
    assert (
        (_middle([3, 4], 2, tie), _middle([0, 1], 2, tie))
        != (3, 1)
        == (_middle([3, 4], 2), _middle([0, 1], 2))
    )


def test_best_seen():
    assert next_candidate([(2, 0.5, 0.4), (3, 0.0, 0.3)]) == Decision(None, 'exhausted', 2)
    assert (
        next_candidate([(2, 0.5), (3, 0.0)]).chosen == 3
        and next_candidate([(2, 0.35), (3, 0.0)]).chosen == 2
    )
    assert next_candidate([(2, 0.5, 0.4), (3, 0.0, 0.4)]).chosen == 3
    assert next_candidate([(2, 0.35), (3, 0.0, 0.1)]).chosen == 3 and _best([]) is None
    assert next_candidate([(2, 0.35, 0.9), (3, 0.2, 0.1)]).chosen == 3


def test_contradicting_trials_end():
    assert next_candidate([(1, -0.5, 0.2), (3, 0.5, 0.3)]) == Decision(None, 'exhausted', 3)


def test_own_candidates():
    g = guide(lambda a: dict(oii=0.9 - a), n=[0.2, 0.65, 0.8])
    assert g.chosen == 0.65 and g.weights == (0.2, 0.65, 0.8)


def test_exhausted_says_why():
    g = guide(line([0.9, 0.8, 0.46, 0.02, -0.5]))
    assert (
        g.stop == 'exhausted'
        and 'between 0.5 (OII 0.460) and 0.7 (OII 0.020)' in g.because
        and 'narrower' in g.because
        and 'a larger n' in g.because
    )
    assert (
        'even the largest weight that worked, 0.9' in guide(line([0.9] * 5)).because
        and 'even the smallest weight that worked, 0.1' in guide(line([-0.9] * 5)).because
    )
    assert guide(line([0.9] * 5)).trainings == guide(line([-0.9] * 5)).trainings == 3


def test_rising_oii_is_told():
    g = guide(line([-0.6, -0.4, 0.4, 0.6, 0.8]))
    assert (
        len(_rises(g)) == 2
        and 'Caution: OII rose from 0.400 to 0.600 between fn_weight 0.5 and 0.7' in g.account()
    )
    assert (
        not _rises(guide(line([0.9, 0.6, 0.4, 0.35, 0.2])))
        and 'Caution' not in guide(line([0.9, 0.6, 0.4, 0.35, 0.2])).account()
    )


def test_failed_trainings():
    t = line([0.9, 0.6, 0.2, 0.2, -0.5], fail=[0.5])
    g = guide(t)
    assert t.calls == [0.5, 0.3, 0.7] and g.stop == 'inside' and g.chosen == 0.7
    assert (
        g.trace.verdict.tolist() == ['failed', 'above', 'inside']
        and g.trace.error[0] == 'loss is nan at fn_weight 0.5'
        and 'says nothing about the direction: next 0.3' in g.account()
    )
    t = line([0.9] * 5, fail=[0.5, 0.3])
    g = guide(t)
    assert (
        t.calls == [0.5, 0.3]
        and (g.stop, g.chosen, g.best) == ('failed', None, None)
        and 'learning rate' in g.because
        and 'Chosen: nothing' in g.account()
    )
    g = guide(line([0.9] * 5, fail=candidates()), failures=9)
    assert (
        g.trainings == 5
        and g.stop == 'exhausted'
        and g.chosen is None
        and 'no training worked' in g.because
    )
    g = guide(line([0.9, 0.6, math.nan, 0.2, -0.5]))
    assert g.chosen == 0.7 and g.trace.error[0] == 'OII is nan'
    assert guide(line([0.9, 0.6, -math.inf, 0.2, -0.5])).trace.verdict[0] == 'failed'
    h = grid(line([0.9, 0.6, math.nan, 0.2, -0.5], fail=[0.9]))
    assert (
        h.trainings == 5
        and h.chosen == 0.3
        and h.trace.verdict.tolist() == ['above', 'above', 'failed', 'inside', 'failed']
    )
    assert grid(line([0.2] * 5, fail=candidates())).chosen is None
    c = compare(guide(line([0.9] * 5, fail=candidates())), grid(line([0.2] * 5, fail=candidates())))
    assert c.fn_weight.isna().tolist() == [False, True, True] and c.times.tolist() == [1, 5, 2]


def test_grid_by():
    t = Stub(
        {
            a: dict(oii=0.0, iou=i, precision=p, recall=r)
            for a, i, p, r in zip(
                candidates(),
                (0.1, 0.5, 0.5, 0.5, 0.2),
                (0.9, 0.1, 0.1, 0.1, 0.1),
                (0.1, 0.1, 0.1, 0.1, 0.8),
            )
        }
    )
    assert [grid(t, by=k).chosen for k in ('iou', 'precision', 'recall')] == [0.5, 0.1, 0.9]
    assert (
        grid(
            Stub({a: dict(oii=0.0, iou=math.nan if a == 0.5 else 0.3) for a in candidates()})
        ).chosen
        == 0.3
    )


def test_trace_columns():
    t = guide(lambda a: dict(oii=0.9 - a, iou=0.5, epoch=7, fp=3, verdict='mine')).trace
    assert t.columns.tolist() == [
        'step',
        'fn_weight',
        'oii',
        'iou',
        'precision',
        'recall',
        'verdict',
        'left',
        'right',
        'next',
        'error',
        'epoch',
        'fp',
    ]
    assert (
        t.verdict.tolist() == ['above', 'inside']
        and t.epoch.tolist() == [7, 7]
        and t.recall.isna().all()
    )
    t = guide(line([0.9] * 15), n=15).trace
    assert (
        t.left.round(4).tolist()[:2] == [0.5667, 0.8333]
        and t.right.round(4).tolist()[:3] == [0.9667] * 3
        and t.next.tolist()[:-1] == t.fn_weight.tolist()[1:]
        and math.isnan(t.next.iloc[-1])
    )


oiis = st.floats(-1, 1)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.one_of(oiis, st.just(math.nan)), min_size=1, max_size=40),
    st.tuples(oiis, oiis).map(sorted),
    st.integers(1, 50),
)
def test_any_outcome(values, target, failures):
    t = line(values)
    g = guide(t, target, n=len(values), failures=failures)
    assert len(set(t.calls)) == len(t.calls) == g.trainings <= len(values) and g.stop in (
        'inside',
        'exhausted',
        'failed',
    )
    assert (g.chosen in t.calls) or all(math.isnan(x.oii) for x in g.trials)
    assert (g.stop == 'inside') == any(_verdict(x.oii, target) == 'inside' for x in g.trials)
    if not any(map(math.isnan, values)):
        assert g.trainings <= len(values).bit_length()
    for k in range(g.trainings):
        assert (
            next_candidate(g.trials[:k], len(values), target, failures).index == g.trials[k].index
        )
    assert next_candidate(g.trials, len(values), target, failures).index is None
    assert len(g.trace) == g.trainings and g.account() and g.account(True)


@settings(max_examples=200, deadline=None)
@given(st.lists(oiis, min_size=1, max_size=40), st.tuples(oiis, oiis).map(sorted), st.data())
def test_monotone_ends_inside(values, target, data):
    values = sorted(values, reverse=True)
    n = len(values)
    fail = (
        data.draw(st.sets(st.integers(0, n - 1), max_size=3)) if data.draw(st.booleans()) else set()
    )
    g = guide(line(values, [candidates(n)[i] for i in fail]), target, n=n, failures=n + 1)
    assert not _rises(g)
    assert (g.stop == 'inside') == any(
        _verdict(o, target) == 'inside' for i, o in enumerate(values) if i not in fail
    )
    if not fail:
        assert g.trainings <= n.bit_length()


@settings(max_examples=60, deadline=None)
@given(st.lists(oiis, min_size=1, max_size=30), st.tuples(oiis, oiis).map(sorted))
def test_mirror(values, target):
    "Odd n: with the sign of OII and the order of weights reversed, the search is its mirror image"
    values = values if len(values) % 2 else values[1:] or [0.0]
    n = len(values)
    a = guide(line(values), target, n=n)
    b = guide(line([-o for o in values[::-1]]), (-target[1], -target[0]), n=n)
    assert [t.index for t in a.trials] == [n - 1 - t.index for t in b.trials]


@pytest.mark.parametrize('n', [*range(1, 40), 63, 64, 127, 128, 1024])
def test_cost(n):
    c = _search_cost(n)
    assert (
        c['worst'] == n.bit_length() == math.floor(math.log2(n)) + 1
        and 1 <= c['mean'] <= c['mean_one'] <= c['mean_none'] + 1e-12
        and c['mean_none'] <= c['worst']
    )
    assert sorted(i for i, _, _ in _search_tree(n)) == list(range(n))


def test_cost_by_enumeration():
    for n in (1, 2, 5, 6, 8):
        runs = {
            (b, e): guide(line([0.9] * b + [0.2] * (e - b) + [-0.9] * (n - e)), n=n)
            for b in range(n + 1)
            for e in range(b, n + 1)
        }
        assert len(runs) == (n + 1) * (n + 2) // 2 and _search_cost(n)['mean'] == pytest.approx(
            np.mean([g.trainings for g in runs.values()])
        )
        assert all(b <= g.index < e for (b, e), g in runs.items() if e > b)


# Memory


def test_memory_shared_by_guide_and_grid(tmp_path):
    stub = paper('unet', 'Tversky')
    m = remembered(stub, tmp_path / 'sub/m.json', dict(loss='tversky', seed=0, size=(32, 32)))
    g, h = guide(m), grid(m)
    assert m.trained == len(stub.calls) == 5 and sorted(stub.calls) == list(candidates())
    same(g, guide(paper('unet', 'Tversky')))
    same(h, grid(paper('unet', 'Tversky')))
    again = remembered(Stub({}), m.path, dict(seed=0, size=[32, 32], loss='tversky'))
    same(g, guide(again))
    same(h, grid(again))
    assert again.trained == 0
    assert len(_read_memory(m.path)) == 5 and [
        p.name for p in m.path.parent.iterdir() if not p.name.endswith('.json.lock')
    ] == ['m.json']


def test_another_key_trains_anew(tmp_path):
    a, b = line([0.2] * 5), line([0.25] * 5)
    guide(remembered(a, tmp_path / 'm.json', 'seed 0'))
    g = guide(remembered(b, tmp_path / 'm.json', 'seed 1'))
    assert (
        b.calls == [0.5]
        and g.best.oii == 0.25
        and guide(remembered(Stub({}), tmp_path / 'm.json', 'seed 0')).best.oii == 0.2
    )


@pytest.mark.parametrize(
    'values',
    [
        [0.9, 0.8, 0.7, 0.6, 0.2],
        [-0.1] * 5,
        [0.9, math.nan, -0.5, 0.2, 0.1],
        [0.9] * 15,
        [0.9, 0.8, 0.7, 0.6, 0.5, 0.2, -0.1, -0.2, -0.3],
    ],
)
@pytest.mark.parametrize('when', ['before', 'after'])
def test_interrupted_anywhere(values, when, tmp_path):
    "Killed at the k-th training, before or after it is finished, and called again: the same trace, no training twice but the one cut off"
    n = len(values)
    whole = guide(line(values), n=n)
    for k in range(whole.trainings):
        stub, path = line(values), tmp_path / f'{k}.json'

        def train(a):
            if when == 'before' and len(stub.calls) == k:
                raise KeyboardInterrupt
            return stub(a)

        def report(line, count=[0]):
            count[0] += 1
            if when == 'after' and count[0] == k + 1:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            guide(remembered(train, path, 0), n=n, report=report)
        assert len(_read_memory(path)) == len(stub.calls) == k + (when == 'after')
        m = remembered(stub, path, 0)
        same(guide(m, n=n), whole)
        assert stub.calls == whole.trace.fn_weight.tolist() and m.trained == whole.trainings - k - (
            when == 'after'
        )


def test_killed_while_writing(tmp_path, monkeypatch):
    m = remembered(line([0.9, 0.8, 0.7, 0.6, 0.2]), tmp_path / 'm.json', 0)
    m(0.5)
    before = m.path.read_text()

    def broken(*a, **k):
        raise KeyboardInterrupt

    with monkeypatch.context() as p:
        p.setattr('os.replace', broken)
        with pytest.raises(KeyboardInterrupt):
            m(0.7)
    assert m.path.read_text() == before and not list(tmp_path.glob('*.tmp'))
    assert m(0.7)['oii'] == 0.6 and m.trained == 2


def test_failure_is_remembered(tmp_path):
    stub = line([0.9, 0.6, 0.2, 0.2, -0.5], fail=[0.5])
    g = guide(remembered(stub, tmp_path / 'm.json', 0))
    again = guide(remembered(Stub({}), tmp_path / 'm.json', 0))
    same(g, again)
    assert again.trace.error[0] == 'loss is nan at fn_weight 0.5'


def test_numbers_come_back_exactly(tmp_path):
    rng = np.random.default_rng(0)
    r = dict(
        oii=np.float32(0.1),
        iou=rng.random(),
        precision=math.nan,
        epoch=np.int64(7),
        curve=rng.random(3),
        net=object(),
        name='a\nb',
    )
    m = remembered(lambda a: r, tmp_path / 'm.json', 0)
    first, second = m(0.5), m(np.float64(0.5))
    assert (
        m.trained == 1
        and 'net' not in first
        and set(first) == set(r) - {'net'}
        and first['iou'] == r['iou']
        and first['oii'] == float(r['oii'])
    )
    assert repr(first) == repr(second) and first['curve'] == r['curve'].tolist()
    first['oii'] = 0
    assert m(0.5)['oii'] != 0


@pytest.mark.parametrize(
    'spoil,named',
    [
        (lambda t: t[:-20], 'damaged'),
        (lambda t: '', 'damaged'),
        (lambda t: '<<<<<<< HEAD\n' + t, 'damaged'),
        (lambda t: '[]', 'no trainings of a guidance'),
        (lambda t: '{"oii": 1}', 'no trainings of a guidance'),
        (lambda t: t.replace('"trainings"', '"x"'), 'no list of trainings'),
        (
            lambda t: t.replace('"fn_weight": 0.5', '"fn_weight": "0.5"'),
            'training 1 of 1 is not whole',
        ),
        (lambda t: t.replace('"result"', '"resu"'), 'not whole'),
        (lambda t: t.replace('"key"', '"kee"'), 'not whole'),
    ],
)
def test_damaged_memory(spoil, named, tmp_path):
    "Without its checksum, as an older version or a hand has written it"
    stub = line([0.2] * 5)
    m = remembered(stub, tmp_path / 'm.json', 0)
    m(0.5)
    m.path.write_text(spoil(to_json(read_json(m.path))))
    text = m.path.read_text()
    for f in (
        lambda: m(0.5),
        lambda: m(0.7),
        lambda: remembered(stub, m.path, 0),
        lambda: guide(m),
    ):
        with pytest.raises(InputError, match=named) as e:
            f()
        assert str(m.path) in str(e.value) and '\n' not in str(e.value)
    assert stub.calls == [0.5] and m.path.read_text() == text


def test_a_changed_byte_of_the_memory_is_seen(tmp_path):
    m = remembered(line([0.2] * 5), tmp_path / 'm.json', 0)
    m(0.5)
    m.path.write_text(m.path.read_text().replace('0.5', '0.6'))
    with pytest.raises(InputError, match='its content is not that of its checksum'):
        m(0.5)


def test_unreadable_memory(tmp_path, open_dir, unprivileged):
    (tmp_path / 'b.json').write_bytes(b'\xff\xfe\x00')
    for path, named in (
        (tmp_path / 'b.json', 'damaged'),
        (tmp_path, 'cannot read'),
        (tmp_path / 'b.json/m.json', 'cannot read'),
    ):
        with pytest.raises(InputError, match=named):
            remembered(line([0.2]), path, 0)
    with pytest.raises(InputError, match='key'):
        remembered(line([0.2]), tmp_path / 'm.json', object())
    (open_dir / 'shut').mkdir(mode=0o755)
    stub = line([0.2])
    with unprivileged():
        m = remembered(stub, open_dir / 'shut/sub/m.json', 0)
        with pytest.raises(InputError, match='cannot write'):
            m(0.5)
    assert stub.calls == []


def test_two_at_once_train_once(tmp_path):
    calls, go = [], threading.Barrier(4)

    def train(a):
        calls.append(a)
        time.sleep(0.05)
        return dict(oii=0.2)

    def work(a):
        go.wait()
        return remembered(train, tmp_path / 'm.json', 0)(a)

    with ThreadPoolExecutor(4) as ex:
        assert all(r == dict(oii=0.2) for r in ex.map(work, [0.5] * 4))
    assert calls == [0.5]
    with ThreadPoolExecutor(4) as ex:
        list(ex.map(work, [0.1, 0.3, 0.7, 0.9]))
    assert sorted(calls) == list(candidates()) and len(_read_memory(tmp_path / 'm.json')) == 5


def test_pickling_and_copies(tmp_path):
    g = guide(paper('unet', 'DIBEReg'))
    h = pickle.loads(pickle.dumps(g))
    same(g, h)
    same(g, copy.deepcopy(g))
    m = remembered(paper('unet', 'DIBEReg'), tmp_path / 'm.json', dict(a=1))
    guide(m)
    k = pickle.loads(pickle.dumps(m))
    assert isinstance(k, Memory)
    k.train = Stub({})
    same(guide(k), g)


def test_trace_figure():
    for g in (
        guide(paper('unet', 'Tversky')),
        grid(paper('unet', 'Tversky')),
        guide(line([0.9] * 5, fail=[0.5, 0.3])),
        guide(line([0.9] * 45), n=45),
    ):
        f = trace_figure(g)
        f.canvas.draw()
        assert f.get_label() == g.account() and f.axes[0].get_xlabel() == 'fn_weight'
    assert len(trace_figure(guide(paper('unet', 'Tversky'))).axes[0].collections) == 3


def test_import_is_cheap():
    code = "import sys, imbal_al.losses.guidance; sys.exit(any(m in sys.modules for m in ('torch','fastai','matplotlib')))"
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0
