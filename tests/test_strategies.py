"imbal_al.strategies: greedy k-center against brute force, entropy at its ends, and what holds for every strategy"

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from imbal_al.core import InputError
from imbal_al.strategies import k_center
from imbal_al.strategies.diversity import (
    _kmeans_pp, k_center_greedy,
)
from imbal_al.strategies.k_center_device import k_center_device
from imbal_al.strategies.choose import select, STRATEGIES

from imbal_al.strategies.registry import Candidates
from imbal_al.strategies.scores import (
    mean_entropy,
)


def brute(x, n, labelled=()):
    "The definition, in float64"
    x, c, out = np.asarray(x, np.float64), list(labelled), []
    far = lambda a: ((x - a) ** 2).sum(1)
    while len(out) < n:
        d = np.min([far(x[o]) for o in c], 0) if c else far(x.mean(0))
        d[list(labelled) + out] = -1
        out.append(int(d.argmax()))
        c.append(out[-1])
    return np.array(out)


def check_greedy(x, picks, labelled=(), rtol=1e-4):
    "Each pick is as far from all centres as any other point, up to rounding: ties may go either way"
    x, c = np.asarray(x, np.float64), list(labelled)
    assert len(set(picks.tolist()) | set(labelled)) == len(picks) + len(labelled)
    scale = np.ptp(x, axis=0).max() if len(x) else 0
    for p in picks:
        d = np.sqrt(
            np.min([((x - x[o]) ** 2).sum(1) for o in c], 0) if c else ((x - x.mean(0)) ** 2).sum(1)
        )
        free = np.setdiff1d(np.arange(len(x)), c)
        assert d[p] >= d[free].max() * (1 - rtol) - 3e-4 * scale
        c.append(int(p))


R = np.random.default_rng(0)
CLOUDS = dict(
    random=R.normal(size=(300, 16)),
    unit=(lambda a: a / np.linalg.norm(a, axis=1, keepdims=True))(R.random((300, 64))),
    clustered=np.repeat(R.normal(size=(6, 8)) * 10, 50, 0) + R.normal(size=(300, 8)) * 0.1,
    line=R.normal(size=(300, 1)),
    plane=R.random((300, 2)),
    far=R.normal(size=(300, 8)) + 1e4,
    one_away=np.r_[R.normal(size=(299, 4)), [[50.0, 0, 0, 0]]],
)


# --- k-center greedy


@pytest.mark.parametrize('block', [1, 2, 7, 64, 1024])
@pytest.mark.parametrize('name', CLOUDS)
def test_equals_brute_force(name, block):
    x = CLOUDS[name]
    for labelled in ((), (3,), tuple(range(0, 300, 17))):
        np.testing.assert_array_equal(
            k_center_greedy(x, 40, labelled, block), brute(x, 40, labelled)
        )


@pytest.mark.parametrize('block', [5, 1024])
@pytest.mark.parametrize('name', CLOUDS)
def test_float32_is_greedy_up_to_rounding(name, block):
    x = CLOUDS[name].astype(np.float32)
    for labelled in ((), (7, 19)):
        check_greedy(x, k_center_greedy(x, 60, labelled, block), labelled)


@pytest.mark.parametrize('first', [1, 2, 7])
@pytest.mark.parametrize('kind', [np.float32, np.float64])
@pytest.mark.parametrize('name', CLOUDS)
def test_compared_with_a_few_centres_first_it_picks_the_same(name, kind, first, monkeypatch):
    "The staged first pass, which small pools do not take by themselves"
    x = CLOUDS[name].astype(kind)
    l = np.random.default_rng(5).permutation(len(x))[:40]
    whole = k_center_greedy(x, 60, l, block=16)
    monkeypatch.setattr(k_center, '_FIRST', first)
    asked = []
    shell = k_center._shell
    monkeypatch.setattr(k_center, '_shell', lambda *a: asked.append(len(o := shell(*a))) or o)
    p = k_center_greedy(x, 60, l, block=16)
    assert sum(asked) > 0 and np.array_equal(p, whole)
    (
        check_greedy(x, p, l)
        if kind is np.float32
        else (
            np.testing.assert_array_equal(p, brute(x, 60, l))
            if name != 'far'
            else check_greedy(x, p, l)
        )
    )


def test_screening_in_float32_gives_the_distances_of_float64(monkeypatch):
    x = CLOUDS['clustered'].astype(np.float32)
    d = k_center._Points(x, x[:0], np.arange(50))
    idx = np.arange(50, 300)
    true = ((x[idx, None].astype(float) - x[None, :50]) ** 2).sum(2)
    for first in (0, 17):
        near = k_center._screened(d, idx, d.about(x[idx], np.float64), first, cells=999)
        np.testing.assert_allclose(near, true[:, first:].min(1), rtol=1e-12)
    twins = np.repeat(x[:5], 120, 0)
    e = k_center._Points(twins, twins[:0], np.arange(599))
    assert (
        k_center._screened(e, np.array([599]), e.about(twins[[599]], np.float64), 0) is None
    ), 'all alike: float32 tells nothing apart'


def test_centres_that_float32_cannot_tell_apart_are_measured():
    "Each of 40 centres has a twin that is nearer or farther by less than a rounding of single precision"
    g = np.random.default_rng(3)
    c = g.normal(size=(40, 8))
    twins = c + g.normal(size=c.shape) * 3e-7
    p = c.repeat(5, 0) + g.normal(size=(200, 8)) * 0.2
    x = np.concatenate([c, twins, p]).astype(np.float32)
    d = k_center._Bounds(k_center._Points(x, x[:0], np.arange(80)))
    idx = np.arange(80, 280)
    k_center._lower(d, idx)
    assert d.tie[idx].mean() > 0.5
    np.testing.assert_allclose(
        k_center._exact(d, idx)[0],
        ((x[idx, None].astype(float) - x[None, :80]) ** 2).sum(2).min(1),
        rtol=1e-12,
    )


def test_float32_close_to_the_origin_equals_brute_force():
    x = CLOUDS['unit'].astype(np.float32)
    np.testing.assert_array_equal(k_center_greedy(x, 50, [1, 2], 16), brute(x, 50, [1, 2]))


@pytest.mark.parametrize('block', [1, 3, 8, 1024])
def test_ties_and_duplicates_take_the_lowest_index(block):
    same = np.zeros((40, 3))
    assert k_center_greedy(same, 40, block=block).tolist() == list(range(40))
    assert k_center_greedy(same, 3, [0, 1], block).tolist() == [2, 3, 4]
    grid = np.array([[i, j] for i in range(6) for j in range(6)], float).repeat(2, 0)
    np.testing.assert_array_equal(k_center_greedy(grid, 72, block=block), brute(grid, 72))
    np.testing.assert_array_equal(k_center_greedy(grid, 60, [5, 6], block), brute(grid, 60, [5, 6]))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_whole_numbers_equal_brute_force(data):
    "Small whole numbers are exact in float64 on both sides: no tolerance at all"
    n, d = data.draw(st.integers(1, 25)), data.draw(st.integers(1, 3))
    x = np.array(
        data.draw(
            st.lists(st.lists(st.integers(-4, 4), min_size=d, max_size=d), min_size=n, max_size=n)
        ),
        float,
    )
    labelled = data.draw(st.lists(st.integers(0, n - 1), unique=True, min_size=1))
    x -= x.sum(0) / len(x) if len(x) & (len(x) - 1) == 0 else 0
    k, block = data.draw(st.integers(0, n - len(labelled))), data.draw(
        st.sampled_from([1, 2, 5, 1024])
    )
    picks = k_center_greedy(x, k, labelled, block)
    check_greedy(x, picks, tuple(labelled), 1e-9)


def test_prefix_property():
    x = CLOUDS['random']
    np.testing.assert_array_equal(
        k_center_greedy(x, 50, [1], 16)[:20], k_center_greedy(x, 20, [1], 16)
    )


def test_torch_input_is_the_same():
    x = CLOUDS['random'].astype(np.float32)
    want = k_center_greedy(x, 20, [4, 5])
    np.testing.assert_array_equal(
        k_center_greedy(torch.tensor(x, requires_grad=True), 20, torch.tensor([4, 5])), want
    )
    check_greedy(
        torch.tensor(x).bfloat16().float().numpy(),
        k_center_greedy(torch.tensor(x).bfloat16(), 20, [4, 5]),
        (4, 5),
    )
    check_greedy(x.astype(np.float16), k_center_greedy(x.astype(np.float16), 20, [4, 5]), (4, 5))


def test_memory_mapped_and_read_only_input(tmp_path):
    x = CLOUDS['random'].astype(np.float32)
    np.save(tmp_path / 'x.npy', x)
    m = np.load(tmp_path / 'x.npy', mmap_mode='r')
    np.testing.assert_array_equal(k_center_greedy(m, 20, [0]), k_center_greedy(x, 20, [0]))
    np.testing.assert_array_equal(
        k_center_greedy(x[::-1], 20, [0]), k_center_greedy(x[::-1].copy(), 20, [0])
    )
    np.testing.assert_array_equal(x, np.load(tmp_path / 'x.npy'))


def test_integers_are_points_too():
    x = R.integers(0, 255, (50, 3)).astype(np.uint8)
    check_greedy(x, k_center_greedy(x, 20, [0]), (0,))


def test_ends():
    x = CLOUDS['random']
    for o in (
        k_center_greedy(x, 0),
        k_center_greedy(x, 0, range(300)),
        k_center_greedy(np.empty((0, 5)), 0),
    ):
        assert o.shape == (0,) and o.dtype == np.int64
    assert sorted(k_center_greedy(x, 300)) == list(range(300))
    assert k_center_greedy(x, 1, list(set(range(300)) - {77})).tolist() == [77]
    assert k_center_greedy(x, 2, [3, 3, 3]).tolist() == k_center_greedy(x, 2, [3]).tolist()
    assert k_center_greedy(x[:1], 1).tolist() == [0]


@pytest.mark.parametrize('n,labelled', [(301, None), (300, [0]), (1, range(300)), (-1, None)])
def test_more_than_is_left(n, labelled):
    with pytest.raises(ValueError, match='left of 300'):
        k_center_greedy(CLOUDS['random'], n, labelled)


@pytest.mark.parametrize(
    'labelled,match',
    [([300], '300'), ([-1], '-1'), (np.zeros(300, bool), 'indices'), ([0.5], 'indices')],
)
def test_bad_labelled(labelled, match):
    with pytest.raises(InputError, match=match):
        k_center_greedy(CLOUDS['random'], 1, labelled)


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_not_a_number_is_refused(bad, dtype):
    x = CLOUDS['random'].astype(dtype)
    x[200, 3] = bad
    with pytest.raises(InputError, match='nan'), np.errstate(all='ignore'):
        k_center_greedy(x, 3)


def test_wrong_shape():
    for x in (np.zeros(5), np.zeros((5, 2, 2))):
        with pytest.raises(InputError, match='N,D'):
            k_center_greedy(x, 1)


# --- exact: the picks of float64 from float32 points, whatever the block


def _hard():
    r, unit = np.random.default_rng(3), lambda a: a / np.linalg.norm(a, axis=1, keepdims=True)
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 20)] * 2), -1).reshape(-1, 2)
    centre = np.repeat(r.normal(size=(20, 8)) * 10, 20, 0)
    return dict(
        unit=unit(r.random((400, 64))),
        clustered=centre + r.normal(size=(400, 8)) * 1e-3,
        coincident=centre + r.normal(size=(400, 8)) * 1e-6,
        duplicates=r.normal(size=(60, 7))[r.integers(0, 60, 400)],
        same=np.full((400, 5), 0.1),
        line=r.normal(size=(400, 1)),
        grid=grid,
        far=r.normal(size=(400, 8)) + 1e4,
        outlier=np.r_[r.normal(size=(399, 4)), [[500.0, 0, 0, 0]]],
    )


HARD = _hard()


@pytest.mark.parametrize('kind', [np.float32, np.float64])
@pytest.mark.parametrize('name', HARD)
def test_picks_are_those_of_float64(name, kind):
    x = HARD[name].astype(kind)
    for labelled in ((), (3,), tuple(range(0, 400, 17))):
        want = brute(x, 100, labelled)
        for block in (1, 7, 1024):
            np.testing.assert_array_equal(
                k_center_greedy(x, 100, labelled, block), want, err_msg=f'{labelled[:2]} {block}'
            )


def test_threads_and_parts_do_not_change_picks():
    x = np.random.default_rng(4).normal(size=(5000, 12)).astype(np.float32)
    np.testing.assert_array_equal(
        k_center_greedy(x, 60, [0], 64, threads=2), k_center_greedy(x, 60, [0], 64, threads=1)
    )


def test_centres_from_elsewhere():
    x = HARD['clustered'].astype(np.float32)
    np.testing.assert_array_equal(
        k_center_greedy(x[50:], 40, [3, 4], 16, centres=x[:50]),
        brute(x, 40, (*range(50), 53, 54)) - 50,
    )
    np.testing.assert_array_equal(
        k_center_greedy(x[50:], 40, centres=torch.tensor(x[:50])) + 50,
        brute(x, 40, tuple(range(50))),
    )
    with pytest.raises(InputError, match='7 numbers each, embeddings 8'):
        k_center_greedy(x, 1, centres=x[:2, :7])
    with pytest.raises(InputError, match='too large'):
        k_center_greedy(
            np.full((4, 2), [1e30, -1e30], np.float32) * np.arange(4, dtype=np.float32)[:, None], 1
        )


def test_memory_stays_far_below_the_embeddings(tmp_path):
    import tracemalloc

    x = np.lib.format.open_memmap(tmp_path / 'x.npy', 'w+', np.float32, (40000, 64))
    x[:] = np.random.default_rng(5).normal(size=x.shape)
    tracemalloc.start()
    k_center_greedy(np.load(tmp_path / 'x.npy', mmap_mode='r'), 30, range(20), 64, threads=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.nbytes / 2


@pytest.mark.parametrize('name', ['unit', 'clustered', 'line', 'far', 'outlier', 'same'])
def test_device_version_picks_the_same(name):
    "The code for CUDA tensors runs on any device"
    x = HARD[name].astype(np.float32)
    for labelled in ((), (3,), tuple(range(0, 400, 17))):
        np.testing.assert_array_equal(
            k_center_device(torch.tensor(x), 60, labelled, 16, ahead=7), brute(x, 60, labelled)
        )
    np.testing.assert_array_equal(
        k_center_device(torch.tensor(x[50:]), 40, [3], 1024, x[:50]),
        brute(x, 40, (*range(50), 53)) - 50,
    )


# --- entropy


def test_entropy_by_hand():
    p = np.array([[[0.5, 0.5], [0.5, 0.5]], [[0, 1], [1, 0]], [[0.25, 0.75], [0.5, 0]]])
    h = -0.25 * np.log(0.25) - 0.75 * np.log(0.75)
    np.testing.assert_allclose(mean_entropy(p), [np.log(2), 0, (2 * h + np.log(2)) / 4], rtol=1e-14)
    assert (np.signbit(mean_entropy(p)) == 0).all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_entropy_of_torch(dtype):
    p = torch.rand(4, 3, 5, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    np.testing.assert_allclose(mean_entropy(p), mean_entropy(p.detach().double().numpy()))


def test_entropy_is_silent_and_exact_at_the_ends():
    with np.errstate(all='raise'):
        assert mean_entropy(np.array([[0.0, 1.0], [1.0, 1.0]])).tolist() == [0, 0]
    assert mean_entropy(np.array([[1e-300, 5e-324]]))[0] >= 0
    assert mean_entropy(np.zeros((2, 4, 4), np.uint8)).tolist() == [0, 0]


def test_entropy_of_nothing():
    assert mean_entropy(np.empty((0, 4, 4))).shape == (0,)


@pytest.mark.parametrize('bad', [np.nan, -0.01, 1.01, np.inf])
def test_entropy_refuses(bad):
    with pytest.raises(InputError, match=r'\[0,1\]'):
        mean_entropy(np.array([[0.5, bad]]))


def test_entropy_shape():
    with pytest.raises(InputError, match='N,H,W'):
        mean_entropy(np.zeros(3))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_entropy_bounds_and_symmetry(p):
    a, b = mean_entropy([p]), mean_entropy([[1 - o for o in p]])
    assert 0 <= a[0] <= np.log(2) + 1e-12 and abs(a - b) < 1e-9


# --- every strategy


def candidates(n=30, seed=0):
    r = np.random.default_rng(seed)
    return Candidates(
        n,
        r.random(n).astype(np.float32),
        r.integers(0, 3, n),
        r.normal(size=(n, 5)).astype(np.float32),
        r.normal(size=(4, 5)).astype(np.float32),
        r.random(n) < 0.3,
        r.random(n),
        r.random(n) * (r.random(n) < 0.6),
        r.normal(size=(n, 6)),
        r.random(n),
        r.uniform(0.2, 0.8),
        r.random(),
    )


def rng():
    return np.random.default_rng(1)


def test_registry():
    assert set(STRATEGIES) == {
        'random',
        'entropy',
        'coreset',
        'coreset_paper',
        'random_faulty',
        'random_predicted_faulty',
        'margin',
        'entropy_foreground',
        'clasp',
        'entropy_coreset',
        'quota',
        'badge',
        'bald',
        'nearest',
        'largest_alarm',
    }
    assert (
        STRATEGIES['coreset'].needs == {'embedding'}
        and STRATEGIES['coreset_paper'].needs == {'training_embedding'}
        and STRATEGIES['random'].needs == set()
    )


@pytest.mark.parametrize('name', STRATEGIES)
def test_every_strategy(name):
    c = candidates()
    before = copy.deepcopy(c)
    for n in (0, 1, 13, 30):
        p = select(name, c, n, rng())
        assert (
            p.dtype == np.int64
            and p.shape == (n,)
            and len(set(p.tolist())) == n
            and set(p.tolist()) <= set(range(30))
        )
        np.testing.assert_array_equal(p, select(name, copy.deepcopy(c), n, rng()))
    for k, v in vars(before).items():
        np.testing.assert_array_equal(getattr(c, k), v)
    with pytest.raises(InputError, match='31 .*30'):
        select(name, c, 31, rng())


@pytest.mark.parametrize('name', STRATEGIES)
def test_no_strategy_looks_at_more_than_it_says(name):
    "Truth above all: only random_faulty may see it"
    a, b, needs = candidates(), candidates(seed=5), STRATEGIES[name].needs
    for k in (
        'entropy',
        'foreground',
        'faulty',
        'margin',
        'foreground_entropy',
        'gradient',
        'bald',
        'pi_t',
        'progress',
    ):
        if k in needs:
            setattr(b, k, getattr(a, k))
    if needs & {'embedding', 'training_embedding'}:
        b.embedding, b.labelled_embedding = a.embedding, a.labelled_embedding
    np.testing.assert_array_equal(select(name, a, 10, rng()), select(name, b, 10, rng()))
    assert 'faulty' not in needs or name == 'random_faulty'


def test_unknown_strategy():
    with pytest.raises(InputError, match="unknown strategy 'entropie'.*entropy"):
        select('entropie', candidates(), 1, rng())


@pytest.mark.parametrize(
    'name,field', [('random_faulty', 'faulty'), ('random_predicted_faulty', 'foreground')]
)
def test_preferred_first_then_the_rest(name, field):
    c = candidates()
    good = set(np.flatnonzero(getattr(c, field) > 0).tolist())
    k = len(good)
    assert set(select(name, c, k, rng()).tolist()) == good
    more = select(name, c, k + 5, rng())
    assert set(more[:k].tolist()) == good and not set(more[k:].tolist()) & good
    draws = {
        tuple(sorted(select(name, c, 3, np.random.default_rng(i)).tolist())) for i in range(20)
    }
    assert len(draws) > 5
    setattr(c, field, np.zeros(30, int))
    assert len(set(select(name, c, 30, rng()).tolist())) == 30


def test_random_is_uniform():
    c, r = Candidates(10), rng()
    n = np.bincount(np.concatenate([select('random', c, 3, r) for _ in range(4000)]), minlength=10)
    assert abs(n - 1200).max() < 5 * np.sqrt(4000 * 0.3 * 0.7)


def test_entropy_takes_the_highest_and_breaks_ties_by_index():
    assert select(
        'entropy', Candidates(5, np.array([0.1, 0.5, 0.2, 0.5, 0])), 4, rng()
    ).tolist() == [1, 3, 2, 0]


def test_coreset_counts_all_labelled_as_centres():
    c = Candidates(
        3,
        embedding=np.array([[0.0, 0], [1, 0], [10, 0]]),
        labelled_embedding=np.array([[10.0, 0.2], [0, 0.1]]),
    )
    np.testing.assert_array_equal(
        select('coreset', c, 3, rng()) + 2,
        brute(np.r_[c.labelled_embedding, c.embedding], 3, (0, 1)),
    )
    assert select('coreset', c, 1, rng()).tolist() == [1]


# --- strategies of the literature

NEW = ('margin', 'entropy_foreground', 'clasp', 'entropy_coreset', 'quota', 'badge', 'bald')


@pytest.mark.parametrize('name', NEW)
def test_equal_scores_do_not_tell_the_pool_s_order(name):
    "A pool lists faulty images first; where all scores are equal every image must have its chance"
    n = 12
    c = Candidates(
        n,
        np.ones(n),
        np.zeros(n, int),
        np.zeros((n, 2)),
        np.zeros((1, 2)),
        None,
        np.ones(n),
        np.zeros(n),
        np.zeros((n, 3)),
        np.zeros(n),
        0.5,
        0.9,
    )
    seen = np.bincount(
        np.concatenate([select(name, c, 3, np.random.default_rng(i)) for i in range(300)]),
        minlength=n,
    )
    assert seen.min() > 30 and seen.max() < 130


@pytest.mark.parametrize('name', NEW)
def test_every_new_strategy_names_its_source(name):
    import re

    assert re.search(r'arXiv \d{4}\.\d{4,5}|Scheffer|this project', STRATEGIES[name].__doc__)


def entropies(p):
    return -p * np.log(p) - (1 - p) * np.log(1 - p)


def test_margin_and_entropy_agree_on_pixels_not_on_images():
    p = R.uniform(0.01, 0.99, (50, 1))
    m, h = np.abs(2 * p - 1).mean(1), entropies(p).mean(1)
    np.testing.assert_array_equal(
        select('margin', Candidates(50, margin=m), 50, rng()),
        select('entropy', Candidates(50, h), 50, rng()),
    )
    p = np.array([[0.5] + [0.001] * 9, [0.15] * 10])
    m, h = np.abs(2 * p - 1).mean(1), entropies(p).mean(1)
    assert select('entropy', Candidates(2, h), 1, rng()) == [1] and (m[0] > m[1]) == (h[0] < h[1])
    p = np.array([[0.5, 0.5, 0.0, 0.0], [0.1] * 4])
    p = np.clip(p, 1e-9, 1 - 1e-9)
    assert select('margin', Candidates(2, margin=np.abs(2 * p - 1).mean(1)), 1, rng()) == [0]


@pytest.mark.parametrize('seed', range(3))
def test_kmeans_pp_equals_its_definition(seed):
    "With the same random numbers: distances to all centres again for each pick, one uniform number per pick"
    x = np.random.default_rng(seed).normal(size=(60, 4))
    r = np.random.default_rng(7)
    r.permutation(60)
    want = [int(np.argmax((x**2).sum(1)))]
    while len(want) < 20:
        d = np.array([min(((a - x[o]) ** 2).sum() for o in want) for a in x])
        d[want] = 0
        u, total = r.random() * d.sum(), 0.0
        for i, o in enumerate(d):
            total += o
            if u < total:
                break
        want.append(i)
    np.testing.assert_array_equal(_kmeans_pp(x, 20, np.random.default_rng(7)), want)


def test_kmeans_pp_draws_as_scikit_learn_does():
    "Their first centre is uniform, ours the longest vector: compare the second, given the first"
    sk = pytest.importorskip('sklearn.cluster', reason='pip install scikit-learn')
    x = np.r_[[[9.0, 0]], np.random.default_rng(0).normal(size=(5, 2))]
    second = [
        i[1]
        for i in (
            sk.kmeans_plusplus(x, 2, random_state=k, n_local_trials=1)[1] for k in range(1500)
        )
        if i[0] == 0
    ]
    ours = [_kmeans_pp(x, 2, np.random.default_rng(k))[1] for k in range(len(second))]
    a, b = (np.bincount(o, minlength=6) / len(second) for o in (second, ours))
    assert abs(a - b).max() < 0.15 and (a > 0).sum() > 2


def test_kmeans_pp_at_its_ends():
    x = np.repeat(np.eye(3), 2, 0)
    assert sorted(_kmeans_pp(x, 6, rng())) == list(range(6)) and _kmeans_pp(x, 0, rng()).shape == (0,)
    first = _kmeans_pp(x, 3, rng())
    assert len({tuple(x[i]) for i in first}) == 3, 'doubles come last'
    assert sorted(_kmeans_pp(torch.tensor(x).bfloat16(), 6, rng())) == list(range(6))
    far = x + 1e6
    assert len({tuple(far[i]) for i in _kmeans_pp(far, 3, rng())}) == 3
    for bad, match in ((np.zeros(3), 'N,D'), (x * np.nan, 'nan'), (x * np.inf, 'nan')):
        with pytest.raises(InputError, match=match), np.errstate(all='ignore'):
            _kmeans_pp(bad, 1, rng())
    for n in (7, -1):
        with pytest.raises(InputError, match='there are 6'):
            _kmeans_pp(x, n, rng())


def test_clasp_without_noise_is_two_sorted_lists():
    c = candidates()
    c.progress = 1.0
    p = select('clasp', c, 9, rng())
    first = np.argsort(-c.foreground_entropy)[:6]
    assert p[:6].tolist() == first.tolist()
    rest = np.setdiff1d(np.arange(30), first)
    assert p[6:].tolist() == rest[np.argsort(-c.entropy[rest])][:3].tolist()
    c.foreground_entropy = np.zeros(30)
    assert (
        select('clasp', c, 4, rng()).tolist() == np.argsort(-c.entropy)[:4].tolist()
    ), 'nothing predicted: plain entropy'


def test_noise_of_clasp_decays():
    c = candidates()

    def kept(progress):
        c.progress = progress
        return np.mean(
            [
                len(
                    set(select('clasp', c, 9, np.random.default_rng(i)))
                    & set(np.argsort(-c.foreground_entropy)[:6])
                )
                for i in range(100)
            ]
        )

    a, b, d = map(kept, (0.0, 0.7, 0.999))
    assert a < b < d and d > 5.9


@pytest.mark.parametrize('name', ['clasp', 'quota'])
def test_zero_entropy_is_silent(name):
    c = candidates()
    c.entropy, c.foreground_entropy = np.zeros(30), np.zeros(30)
    with np.errstate(all='raise'):
        assert len(set(select(name, c, 30, rng()).tolist())) == 30


def test_entropy_coreset_is_coreset_on_the_shortlist():
    c = candidates()
    n = 5
    top = np.argsort(-c.entropy)[: 4 * n]
    want = {
        int(top[i])
        for i in brute(np.r_[c.labelled_embedding, c.embedding[top]].astype(float), n, range(4)) - 4
    }
    assert set(select('entropy_coreset', c, n, rng()).tolist()) == want
    assert set(select('entropy_coreset', c, 10, rng()).tolist()) == set(
        select('coreset', c, 10, rng()).tolist()
    ), 'a shortlist of the whole pool is core-set'


@pytest.mark.parametrize('pi_t', [0.0, 0.05, 0.3, 1.0])
def test_quota_aims_at_pi_t(pi_t):
    c = candidates(200)
    c.pi_t = pi_t
    seen = c.foreground > 0
    shares = [seen[select('quota', c, 20, np.random.default_rng(i))].mean() for i in range(200)]
    assert abs(np.mean(shares) - pi_t) < 0.01 and max(shares) - min(shares) <= 0.05 + 1e-9
    p = select('quota', c, 20, rng())
    f, h = (p[k] for k in (seen[p], ~seen[p]))
    assert (
        f.tolist() == [i for i in np.argsort(-c.entropy) if seen[i]][: len(f)]
        and h.tolist() == [i for i in np.argsort(-c.entropy) if not seen[i]][: len(h)]
    )


def test_quota_fills_up_from_the_other_side():
    c = candidates()
    c.pi_t = 1.0
    seen = c.foreground > 0
    k = int(seen.sum())
    assert seen[select('quota', c, k + 3, rng())].sum() == k
    c.pi_t = 0.0
    assert (~seen[select('quota', c, 30 - k + 2, rng())]).sum() == 30 - k


@pytest.mark.parametrize('bad', [None, -0.1, 1.1, float('nan')])
def test_quota_needs_a_prevalence(bad):
    c = candidates()
    c.pi_t = bad
    with pytest.raises(InputError, match='pi_t = .*share'):
        select('quota', c, 3, rng())


def test_scikit_activeml_agrees():
    "Their margin, entropy and BALD of one-pixel images order the pool as ours do"
    us = pytest.importorskip('skactiveml.pool', reason='pip install scikit-activeml')
    p = R.uniform(0.01, 0.99, 40)
    probas = np.stack([1 - p, p], 1)
    for theirs, ours, c in (
        ('margin_sampling', 'margin', Candidates(40, margin=np.abs(2 * p - 1))),
        ('entropy', 'entropy', Candidates(40, entropies(p))),
    ):
        np.testing.assert_array_equal(
            np.argsort(-us.uncertainty_scores(probas, method=theirs), kind='stable'),
            select(ours, c, 40, rng()),
        )


# --- nearest to what was found


def like(points, labelled, faulty, n=None, seed=0):
    points = np.array(points, float)
    c = Candidates(
        len(points),
        embedding=points,
        labelled_embedding=np.array(labelled, float),
        labelled_faulty=np.array(faulty, bool),
    )
    return select('nearest', c, n or len(points), np.random.default_rng(seed)).tolist()


def test_nearest_asks_for_what_looks_like_a_find_and_for_the_novel_last():
    "Angles to the faulty one at 0 degrees: 80, 10, 180, 45, 90"
    turned = np.deg2rad([80, 10, 180, 45, 90])
    points = np.stack([np.cos(turned), np.sin(turned)], 1) * [[1], [9], [2], [0.1], [5]]
    assert like(points, [[3, 0], [0, 1]], [1, 0]) == [1, 3, 0, 4, 2]
    assert like(points, [[3, 0], [0, 1]], [1, 0], 2) == [1, 3]
    assert like(points, [[3, 0], [0, 1]], [0, 1]) == [4, 0, 3, 1, 2]


def test_nearest_goes_by_the_best_of_all_finds():
    "Two finds at 0 and 90 degrees; cosines 1, .707, .9848, .9962 and -1 by hand"
    turned = np.deg2rad([90, 45, 10, 85, 180 + 45])
    points = np.stack([np.cos(turned), np.sin(turned)], 1)
    assert like(points, [[1, 0], [0, 2], [-1, -1]], [1, 1, 0]) == [0, 3, 2, 1, 4]


def test_nearest_without_a_find_is_random_and_equals_have_their_chance():
    points, flags = np.ones((12, 2)), [[0], [1]]
    for flag in flags:
        seen = np.concatenate([like(points, [[1, 0]], flag, 3, i) for i in range(300)])
        counts = np.bincount(seen, minlength=12)
        assert counts.min() > 30 and counts.max() < 130


def test_nearest_counts_no_pick_of_the_batch_as_a_find():
    "With a cap the picks join the labelled ones, without a label"
    from imbal_al.strategies.choose import select_spread

    c = Candidates(
        4,
        embedding=np.array([[1, 0.1], [0.9, 0.5], [0, 1], [1, 0.2]]),
        labelled_embedding=np.array([[1.0, 0], [0, 1]]),
        labelled_faulty=np.array([True, False]),
    )
    picked = select_spread('nearest', c, 3, np.random.default_rng(0), list('aaba'), 1)
    assert picked.tolist() == [0, 2, 3]


def test_a_zero_embedding_is_like_nothing():
    assert like([[0, 0], [1, 0]], [[1, 0]], [1]) == [1, 0]


def test_a_study_tells_nearest_which_labels_are_faulty(tiny, monkeypatch):
    "In the order of the labelled embeddings"
    from dataclasses import replace

    from imbal_al.studies.simulation import run_cycle, workspace

    told, real = [], STRATEGIES['nearest']
    spy = lambda c, n, rng: (told.append(c), real(c, n, rng))[1]
    spy.needs, spy.on_device = real.needs, real.on_device
    monkeypatch.setitem(STRATEGIES, 'nearest', spy)
    c = replace(tiny, strategy='nearest')
    labelled = np.array([0, 39, 1, 38, 20, 2, 21, 22])[: c.batch]
    run_cycle(c, 1, labelled)
    space = workspace(c.scenario_key(), c.encoder, c.in_channels, 'cpu', None)
    assert told[0].labelled_faulty.tolist() == space.faulty[labelled].tolist()
    assert len(told[0].labelled_embedding) == len(labelled) and 0 < sum(told[0].labelled_faulty)
