"Hard corners of measure.metrics and measure.statistics: edges, prevalence, union uniqueness, and what few repeats can tell"

import subprocess, sys

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from imbal_al.core import InputError
from imbal_al.measure.metrics import (
    BINS, EDGES, P_EDGES, histogram, confusion, threshold_bin, counts, pooled, prevalence_weights,
    scores,
    scores_at, f1_curve, threshold_curve, pixel_average_precision, best_threshold, faulty_share, foreground_ratio,
    uniqueness, random_uniqueness, budget_auc, loss_of_f1,
)
from imbal_al.measure.statistics import mean_interval, paired_interval, non_inferior
from imbal_al.measure.metrics import _snap

quick = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def images(seed, n=4, side=6):
    rng = np.random.default_rng(seed)
    p = np.where(
        rng.random((n, side, side)) < 0.3,
        rng.choice(P_EDGES, (n, side, side)),
        rng.random((n, side, side)),
    )
    mask = (rng.random(p.shape) < 0.2).astype(np.uint8)
    mask[::2] = 0
    mask[1, 0, 0] = 1
    return p, mask, mask.any((1, 2))


def brute(p, mask, t):
    return np.stack(
        [
            ((p >= t) & (mask == 1)).sum((1, 2)),
            ((p >= t) & (mask == 0)).sum((1, 2)),
            ((p < t) & (mask == 1)).sum((1, 2)),
        ],
        1,
    )


# --- histograms and thresholds


@quick
@given(seeds, st.integers(1, BINS - 1))
def test_counts_are_exact_at_every_edge(seed, k):
    p, mask, _ = images(seed)
    np.testing.assert_array_equal(
        counts(histogram(p, mask), P_EDGES[k]), brute(p, mask, P_EDGES[k])
    )


@quick
@given(seeds)
def test_half_counts_as_defect_in_probabilities_and_logits(seed):
    p, mask, _ = images(seed)
    p[:, :2] = 0.5
    np.testing.assert_array_equal(counts(histogram(p, mask)), brute(p, mask, 0.5))
    z = np.random.default_rng(seed).choice(
        np.r_[EDGES, 0, -1e-9, 1e-9, -40, 40, -np.inf, np.inf], p.shape
    )
    np.testing.assert_array_equal(counts(histogram(z, mask, logits=True)), brute(z, mask, 0))


@quick
@given(seeds, st.floats(0, 1))
def test_counts_elsewhere_are_exact_at_the_snapped_threshold(seed, t):
    p, mask, _ = images(seed)
    p[p == 1] = 0.999
    np.testing.assert_array_equal(counts(histogram(p, mask), t), brute(p, mask, _snap(t)))


@given(st.floats(0, 1))
def test_snap_is_idempotent_and_near(t):
    s = _snap(t)
    assert _snap(s) == s and abs(s - t) < 0.016


def test_snap_knows_float32_edges():
    assert [threshold_bin(np.float32(p)) for p in P_EDGES[8:-8]] == list(range(8, BINS - 7))


@quick
@given(seeds)
def test_histogram_keeps_every_pixel_and_its_image(seed):
    p, mask, _ = images(seed)
    h = histogram(p, mask)
    assert h.dtype == np.uint32 and h.shape == (4, 2, BINS)
    np.testing.assert_array_equal(
        h.sum(2), np.stack([(mask == 0).sum((1, 2)), (mask == 1).sum((1, 2))], 1)
    )
    np.testing.assert_array_equal(histogram(p[::-1], mask[::-1]), h[::-1])


def test_half_precision_and_bool_masks():
    p, mask, _ = images(3)
    np.testing.assert_array_equal(
        histogram(p.astype(np.float16), mask.astype(bool)),
        histogram(p.astype(np.float16).astype(float), mask),
    )


@pytest.mark.parametrize(
    'bad,msg',
    [
        (lambda p, m: histogram(p[0], m[0]), 'one shape'),
        (lambda p, m: histogram(p, m[:, :3]), 'one shape'),
        (lambda p, m: histogram(p, m * 255), 'divide by 255'),
        (lambda p, m: histogram(p * np.nan, m), 'nan'),
        (lambda p, m: histogram(p * 3, m), 'logits=True'),
        (lambda p, m: counts(np.zeros((3, 2, 64))), 'expected'),
        (lambda p, m: counts(np.zeros((3, 2, BINS)), 1.2), 'threshold 1.2'),
        (lambda p, m: counts(np.zeros((3, 2, BINS)), float('nan')), 'threshold nan'),
        (lambda p, m: scores_at(histogram(p, m), pi_t=0.1), 'faulty flags'),
        (lambda p, m: scores_at(histogram(p, m), [1, 0], pi_t=0.1), 'faulty flags'),
        (lambda p, m: scores_at(histogram(p, m), [1] * 4, pi_t=0.1), 'needs healthy'),
        (lambda p, m: scores_at(histogram(p, m), [0] * 4, pi_t=0.1), 'needs faulty'),
        (lambda p, m: scores_at(histogram(p, m), [1, 0, 1, 0], pi_t=5), 'pi_t 5'),
        (lambda p, m: best_threshold(histogram(p, m * 0)), 'no defect pixel'),
        (lambda p, m: best_threshold(histogram(p, m), score='recall'), 'unknown score'),
    ],
)
def test_bad_pixels_are_refused_in_one_line(bad, msg):
    p, mask, _ = images(0)
    with pytest.raises(InputError, match=msg) as e:
        bad(p, mask)
    assert '\n' not in str(e.value)


# --- scores and prevalence


@quick
@given(seeds)
def test_scores_agree_with_pixels(seed):
    p, mask, _ = images(seed)
    pred = p >= 0.5
    tp, fp, fn = (pred & (mask == 1)).sum(), (pred & (mask == 0)).sum(), (~pred & (mask == 1)).sum()
    s = scores_at(histogram(p, mask))
    assert s['f1'] == 2 * tp / (2 * tp + fp + fn) and s['iou'] == tp / (tp + fp + fn)
    assert s['recall'] == tp / (tp + fn) and (
        np.isnan(s['precision']) if tp + fp == 0 else s['precision'] == tp / (tp + fp)
    )


@quick
@given(seeds, st.floats(0.001, 1), st.integers(0, BINS))
def test_f1_formula_of_section_5_is_the_reweighted_score(seed, pi, k):
    p, mask, faulty = images(seed, n=7)
    h, t = histogram(p, mask), P_EDGES[k]
    tp, fp, fn = brute(p, mask, t if k < BINS else 2).T
    T, A, H = tp[faulty].mean(), (2 * tp + fn + fp)[faulty].mean(), fp[~faulty].mean()
    expect = 2 * pi * T / (pi * A + (1 - pi) * H)
    assert scores_at(h, faulty, pi, t)['f1'] == pytest.approx(expect)
    assert f1_curve(h, faulty, [pi, 1], t)[0] == pytest.approx(expect)


@quick
@given(seeds)
def test_own_prevalence_changes_nothing(seed):
    p, mask, faulty = images(seed, n=6)
    h = histogram(p, mask)
    assert scores_at(h, faulty, faulty.mean()) == pytest.approx(scores_at(h), nan_ok=True)


def test_reweighting_is_what_many_drawn_tests_average_to():
    p, mask, faulty = images(5, n=400)
    c, rng = counts(histogram(p, mask)), np.random.default_rng(0)
    draws = [
        np.r_[rng.choice(np.flatnonzero(faulty), 25), rng.choice(np.flatnonzero(~faulty), 475)]
        for _ in range(300)
    ]
    drawn = scores(*np.sum([c[d].sum(0) for d in draws], 0))['f1']
    assert scores_at(histogram(p, mask), faulty, 0.05)['f1'] == pytest.approx(drawn, rel=0.01)


def test_zero_over_zero_is_nan_and_silent(recwarn):
    h = np.zeros((2, 2, BINS), np.uint32)
    h[:, 0, 3] = 10
    assert all(np.isnan(v) for v in scores_at(h).values())
    h[0, 1, 3] = 1
    s = scores_at(h)
    assert s['f1'] == s['iou'] == s['recall'] == 0 and np.isnan(s['precision'])
    assert not recwarn.list


def test_large_counts_do_not_overflow():
    h = np.full((3, 2, BINS), 2**32 - 1, np.uint32)
    assert pooled(counts(h, 0)).tolist() == [3 * BINS * (2**32 - 1)] * 2 + [0]


@quick
@given(seeds, st.sampled_from([None, 0.05, 0.5]))
def test_best_threshold_beats_all_others(seed, pi):
    p, mask, faulty = images(seed)
    h = histogram(p, mask)
    t, f = best_threshold(h, faulty, pi)
    each = [scores_at(h, faulty, pi, e)['f1'] for e in P_EDGES]
    assert f == pytest.approx(np.nanmax(each)) and scores_at(h, faulty, pi, t)[
        'f1'
    ] == pytest.approx(f)
    np.testing.assert_allclose(threshold_curve(h, faulty, pi)['f1'], each)


@quick
@given(seeds, st.sampled_from([None, 0.05, 0.5]))
def test_average_precision_is_that_of_scikit_learn_on_the_bins(seed, pi):
    sk = pytest.importorskip('sklearn.metrics', reason='pip install scikit-learn')
    p, mask, faulty = images(seed)
    h = histogram(p, mask)
    each = np.ones(len(p)) if pi is None else prevalence_weights(faulty, pi)
    weights = np.broadcast_to(each[:, None, None], p.shape).ravel()
    bins = np.minimum(np.searchsorted(P_EDGES, p.ravel(), 'right'), len(P_EDGES) - 1)  # 1 is in the last bin
    want = sk.average_precision_score(mask.ravel(), bins, sample_weight=weights)
    assert pixel_average_precision(h, faulty, pi) == pytest.approx(want)


# --- picks


@quick
@given(st.integers(1, 20), st.integers(2, 8), seeds)
def test_uniqueness_is_between_same_and_different(b, R, seed):
    rng = np.random.default_rng(seed)
    u = uniqueness([rng.choice(40, b, replace=False) for _ in range(R)])
    assert 0 <= u <= 1
    assert uniqueness([range(b)] * R) == 0
    assert uniqueness([range(r * b, (r + 1) * b) for r in range(R)]) == 1


def test_uniqueness_is_not_the_printed_formula():
    sets = [{1, 2, 3}, {3, 4, 5}, {5, 6, 7}]
    assert uniqueness(sets) == pytest.approx(4 / 6)
    assert (len(set.intersection(*sets)) - 3) / (3 * 2) == -0.5


@pytest.mark.parametrize('bad', [[], [[1, 2]], [[1, 2], [3]], [[], []], [[1, 1], [2, 3]]])
def test_uniqueness_refuses(bad):
    with pytest.raises(InputError):
        uniqueness(bad)


def test_uniqueness_takes_any_ids():
    assert uniqueness([['a', 'b'], ('b', 'c')]) == uniqueness([np.array([1, 2]), {2, 3}]) == 0.5


@pytest.mark.parametrize(
    'args,value', [((4300, 86, 15), 0.8622), ((10, 10, 5), 0), ((10**9, 1, 2), 1), ((2, 1, 2), 0.5)]
)
def test_random_uniqueness_values(args, value):
    assert random_uniqueness(*args) == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize('args', [(10, 11, 3), (10, 0, 3), (10, 5, 1)])
def test_random_uniqueness_refuses(args):
    with pytest.raises(InputError):
        random_uniqueness(*args)


def test_empty_shares_are_nan(recwarn):
    assert np.isnan(faulty_share([])) and np.isnan(foreground_ratio(np.zeros((0, 4, 4))))
    assert foreground_ratio(np.array([[[0, 255, 1, 0]]])) == 0.5
    assert not recwarn.list


# --- areas and intervals


@quick
@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=10, unique=True).filter(
        lambda o: min(np.diff(sorted(o))) > 1e-3
    ),
    st.floats(-3, 3),
    st.floats(-3, 3),
)
def test_area_of_a_line_is_its_middle_in_any_order(x, a, b):
    x = np.array(x)
    assert budget_auc(x, a * x + b) == pytest.approx(a * (x.min() + x.max()) / 2 + b, abs=1e-9)


@pytest.mark.parametrize(
    'x,y', [([0.1], [1]), ([0.1, 0.1], [1, 2]), ([0.1, 0.2], [1, 2, 3]), ([], [])]
)
def test_area_refuses(x, y):
    with pytest.raises(InputError):
        budget_auc(x, y)


def test_area_of_a_gap_is_nan():
    assert np.isnan(budget_auc([1, 2, 3], [0.1, np.nan, 0.2]))


def test_loss_of_f1(recwarn):
    assert loss_of_f1(0.31, 1) == pytest.approx(0.69)
    np.testing.assert_allclose(
        loss_of_f1(np.array([0.5, 0.6, 0]), np.array([1, 0.5, 0])), [0.5, -0.2, np.nan]
    )
    assert not recwarn.list


def test_intervals_are_reproducible_and_ordered():
    v = [0.2, 0.3, 0.25, 0.4, 0.31, 0.22]
    a = mean_interval(v, 7)
    assert a == mean_interval(v, 7)
    many = np.random.default_rng(0).normal(size=40)
    assert mean_interval(many, 7) != mean_interval(many, 8)
    assert min(v) <= a.low < a.mean < a.high <= max(v)
    wide, boot, t = (mean_interval(v, 7, kind=k) for k in ('wider', 'bootstrap', 'student'))
    assert wide.low == min(boot.low, t.low) and wide.high == max(boot.high, t.high)
    assert mean_interval(v, 7, level=0.8).low > a.low


def test_student_agrees_with_scipy():
    from scipy import stats

    a, b = np.array([0.5, 0.6, 0.55, 0.7]), np.array([0.45, 0.61, 0.5, 0.6])
    lo, hi = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert paired_interval(a, b, kind='student')[1:3] == pytest.approx((lo, hi))
    r = stats.ttest_1samp(a - b, -0.01, alternative='greater')
    n = non_inferior(a, b, 0.01)
    assert n.p == pytest.approx(r.pvalue) and n.low == pytest.approx(
        stats.ttest_rel(a, b, alternative='greater').confidence_interval(0.95).low
    )
    assert (n.verdict == 'holds') == (r.pvalue < 0.05)


@pytest.mark.parametrize('v,n', [([], 0), ([0.3], 1), ([np.nan], 0), ([np.nan, 0.3], 1)])
def test_too_few_values_have_no_interval(v, n, recwarn):
    i = mean_interval(v)
    assert i.n == n and np.isnan(i.low) and np.isnan(i.high)
    assert non_inferior(v, v).verdict == 'undecided'
    assert not recwarn.list


def test_non_inferior_without_any_spread():
    assert non_inferior([0.5, 0.5], [0.5, 0.5]).verdict == 'holds'
    assert non_inferior([0.25, 0.25], [0.5, 0.5]).verdict == 'does not'


@pytest.mark.parametrize(
    'f',
    [
        lambda: paired_interval([1, 2], [1]),
        lambda: non_inferior([1, 2], [1]),
        lambda: non_inferior([1, 2], [1, 2], margin=-0.1),
        lambda: mean_interval([1, 2], kind='normal'),
    ],
)
def test_intervals_refuse(f):
    with pytest.raises(InputError):
        f()


def test_import_is_cheap():
    code = "import sys, imbal_al.measure.metrics; print([m for m in ('torch','pandas','scipy','matplotlib') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout.strip()
        == '[]'
    )


@pytest.mark.parametrize(
    'd,verdict',
    [
        ([0.04, -0.05, 0.03, -0.02], 'undecided'),
        ([-0.04, -0.01, -0.08], 'undecided'),
        ([0.001, -0.001, 0.002], 'holds'),
        ([-0.05, -0.051, -0.049], 'does not'),
    ],
)
def test_non_inferiority_needs_the_bound_not_the_mean(d, verdict):
    assert non_inferior(d, [0] * len(d)).verdict == verdict


# --- counting


def test_confusion_is_the_definition():
    g = np.random.default_rng(0)
    p, y = g.random((2, 6, 9, 7)) < 0.4
    want = np.stack([(p & y).sum((1, 2)), (p & ~y).sum((1, 2)), (~p & y).sum((1, 2))], 1)
    np.testing.assert_array_equal(confusion(p, y), want)
    np.testing.assert_array_equal(confusion(p.astype(np.uint8), y.astype(np.int64)), want)
    assert (
        confusion(p[:0], y[:0]).shape == (0, 3)
        and confusion(p[:, :0], y[:, :0]).tolist() == [[0, 0, 0]] * 6
    )
    for a, b in ((p, y[1:]), (p[0], y[0])):
        with pytest.raises(InputError, match='one shape'):
            confusion(a, b)


@pytest.mark.parametrize('kind', [np.float32, np.float64, np.float16])
def test_bins_are_those_of_a_search_through_the_edges(kind):
    "Around every edge, at the ends and beyond, as a probability and as a logit"
    near = lambda e: np.concatenate(
        [e, np.nextafter(e.astype(kind), kind(-np.inf)), np.nextafter(e.astype(kind), kind(np.inf))]
    )
    for edges, logits, ends in (
        (EDGES, True, [-np.inf, np.inf, -100, 100, -0.0]),
        (P_EDGES, False, [0, 1]),
    ):
        v = np.concatenate([near(edges.astype(kind)), ends]).astype(kind)
        v = v if logits else v.clip(0, 1)
        y = np.arange(len(v)) % 2
        want = np.zeros((2, BINS), int)
        np.add.at(want, (y, np.searchsorted(edges[1:-1], v.astype(np.float64), side='right')), 1)
        np.testing.assert_array_equal(histogram(v[None, None], y[None, None], logits)[0], want)


# --- histograms of logits, from small buffers and bytes


def plain_histogram(z, y):
    "Bin by bin: a pixel lies in the bin whose lower edge is the last one that is not above it"
    bins = np.clip(np.searchsorted(EDGES, np.asarray(z, np.float64), side='right') - 1, 0, BINS - 1)
    return np.stack(
        [
            [np.bincount(b[m == k], minlength=BINS) for k in (0, 1)]
            for b, m in zip(bins, np.asarray(y).astype(int))
        ]
    )


@pytest.mark.parametrize('kind', [np.float16, np.float32, np.float64, np.int8, np.int32])
@pytest.mark.parametrize('mask', [bool, np.uint8, np.int64, float])
def test_logits_of_any_type_fall_into_their_bin(kind, mask):
    g = np.random.default_rng(0)
    z = (6 * g.standard_normal((4, 23, 29))).astype(kind)
    y = (g.random(z.shape) < 0.3).astype(mask)
    if np.dtype(kind).kind == 'f':
        z[0].flat[:129] = EDGES
        z[1].flat[:129] = np.nextafter(EDGES.astype(kind), kind(-99))
        z[2].flat[:129] = np.nextafter(EDGES.astype(kind), kind(99))
        z[3].flat[:6] = [np.inf, -np.inf, -0.0, 0.0, np.finfo(kind).max, -np.finfo(kind).tiny]
    np.testing.assert_array_equal(histogram(z, y, logits=True), plain_histogram(z, y))
    np.testing.assert_array_equal(
        histogram(z[::2, :, ::-1], y[::2, :, ::-1], logits=True),
        plain_histogram(z[::2, :, ::-1], y[::2, :, ::-1]),
    )


def test_histograms_of_nothing():
    assert histogram(np.zeros((0, 4, 4)), np.zeros((0, 4, 4), int), logits=True).shape == (
        0,
        2,
        BINS,
    )
    assert histogram(np.zeros((3, 0, 4)), np.zeros((3, 0, 4), int)).sum() == 0


def test_histograms_leave_their_input_alone():
    z = np.linspace(-9, 9, 64, dtype=np.float32).reshape(1, 8, 8)
    y = (z > 0).astype(np.uint8)
    a, b = z.copy(), y.copy()
    h = histogram(z, y, logits=True)
    histogram(-z, y, logits=True)
    assert np.array_equal(z, a) and np.array_equal(y, b) and h.dtype == np.uint32 and h.sum() == 64


def test_one_nan_among_many_logits_is_found():
    z = np.zeros((3, 5, 5), np.float32)
    z[2, 4, 4] = np.nan
    with pytest.raises(InputError, match='nan'):
        histogram(z, np.zeros(z.shape, int), logits=True)
