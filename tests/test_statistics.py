"""imbal_al.measure.statistics: equivalence, settings together, repeats that share photographs, exact orders.
Reference numbers are statsmodels 0.15's (combine_effects, ttost_mean, OLS with clusters), scipy's, or by hand"""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from imbal_al.core import InputError
from imbal_al.measure.statistics import (
    cluster_interval, equivalent, mean_interval, order_test, pooled_effect, random_effects,
    shared_interval,
)

numbers = st.floats(-1e3, 1e3, allow_nan=False).map(lambda x: round(x, 6))


def test_random_effects_as_statsmodels():
    "combine_effects(y, s**2, method_re='dl', use_t=True): tau2, the mean, HKSJ's error and interval"
    o = random_effects([0.18, 0.03, -0.01, 0.22, 0.05], [0.04, 0.02, 0.015, 0.09, 0.03])
    assert o.tau2 == pytest.approx(0.0038678113986074106, rel=1e-9)
    assert o.mean == pytest.approx(0.06951573519800439, rel=1e-9)
    assert o.error == pytest.approx(0.040014328001570676, rel=1e-9)
    assert (o.low, o.high) == pytest.approx((-0.04158185, 0.18061332), abs=1e-8) and o.n == 5


def test_random_effects_without_spread_are_the_weighted_mean():
    "By hand: tau2 is 0 where the means agree better than their errors"
    o = random_effects([0.1, 0.2], [0.1, 0.2])
    assert o.tau2 == 0 and o.mean == pytest.approx((0.1 / 0.01 + 0.2 / 0.04) / (100 + 25))


def test_pooled_effect_leaves_single_repeats_out_and_refuses_identical_ones():
    o = pooled_effect([[0.1, 0.3], [0.0, 0.2, 0.4], [5.0], [np.nan, 1]])
    assert o.n == 2
    means, errors = [0.2, 0.2], [np.sqrt(0.02 / 2), 0.2 / np.sqrt(3)]
    assert o == pytest.approx(random_effects(means, errors))
    assert pooled_effect([]).n == 0 and np.isnan(pooled_effect([[1, 2]]).low)
    with pytest.raises(InputError, match='leave out a setting whose repeats are all the same'):
        pooled_effect([[0, 0], [1, 2]])
    assert pooled_effect([[1, 2], [1, 3]]).n == 2  # the remedy
    with pytest.raises(InputError, match='one of each per setting'):
        random_effects([1, 2], [1])


def test_equivalence_as_statsmodels():
    "DescrStatsW(d).ttost_mean(-.02, .02)"
    d = [0.01, -0.02, 0.015, 0.004, -0.003, 0.008]
    o = equivalent(d, np.zeros(6), 0.02)
    assert o.p == pytest.approx(0.009004082015870414, rel=1e-9) and o.verdict == 'holds'
    assert (o.low, o.high) == pytest.approx(stats.t.interval(0.9, 5, np.mean(d), stats.sem(d)))


@pytest.mark.parametrize(
    'd,verdict',
    [
        ([0.1, 0.11, 0.12], 'does not'),
        ([-0.1, -0.11, -0.12], 'does not'),
        ([0.015, 0.03, 0.01], 'undecided'),
        ([0.001], 'undecided'),
        ([], 'undecided'),
        ([0, 0], 'holds'),
    ],
)
def test_equivalence_verdicts(d, verdict):
    assert equivalent(d, np.zeros(len(d)), 0.02).verdict == verdict


def test_equivalence_refuses_a_negative_margin():
    with pytest.raises(InputError, match='margin -0.1 is negative'):
        equivalent([1, 2], [1, 2], -0.1)


def test_clusters_as_statsmodels():
    "OLS on a constant, cov_type='cluster', use_t"
    v = [0.1, 0.2, 0.05, 0.3, 0.15, -0.1, 0.02, 0.08]
    o = cluster_interval(v, [0, 0, 0, 1, 1, 2, 3, 3])
    assert o == pytest.approx((0.1, -0.055772, 0.255772, 4), abs=1e-6)
    pairs = [('steel', 0)] * 3 + [('steel', 1)] * 2 + [('leaves', 0)] + [('leaves', 1)] * 2
    assert cluster_interval(v, pairs) == o
    assert np.isnan(cluster_interval(v[:3], 'aaa').low) and cluster_interval([np.nan, 1], 'ab').n == 1
    assert cluster_interval([], []).n == 0
    with pytest.raises(InputError, match='give each value its cluster'):
        cluster_interval([1, 2], 'a')


def test_repeats_that_share_photographs():
    "Nadeau & Bengio: the factor of verdicts.md, 1.65 for 20 % against 70 % and six repeats"
    d = np.array([0.1, 0.2, 0.3, 0.15, 0.25, 0.2])
    wide, plain = shared_interval(d, 0.2, 0.7), mean_interval(d, kind='student')
    assert (wide.high - wide.low) / (plain.high - plain.low) == pytest.approx(1.6475, abs=1e-4)
    s2 = d.var(ddof=1) * (1 / 6 + 0.2 / 0.7)
    assert wide.high - wide.mean == pytest.approx(stats.t.ppf(0.975, 5) * np.sqrt(s2))
    with pytest.raises(InputError, match='test 20 is not between 0 and 1'):
        shared_interval(d, 20, 0.7)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=5))
def test_order_by_enumeration(values):
    "Ties included: all orders counted one by one"
    pairs = list(itertools.combinations(range(len(values)), 2))

    def s(row):
        return sum(np.sign(row[i] - row[j]) for i, j in pairs)

    orders = [s(row) for row in itertools.permutations(values)]
    assert order_test(values) == pytest.approx(np.mean([o >= s(values) for o in orders]))


def test_order_of_several_curves():
    assert order_test([[5, 4, 3, 2, 1]] * 2) == pytest.approx(1 / 120**2)
    one_off = [[5, 4, 3, 2, 1], [4, 5, 3, 2, 1]]  # 1 perfect pair, 4 + 4 with one swap
    assert order_test(one_off) == pytest.approx(9 / 120**2)
    for bad in ([1], list(range(9)), [1, np.nan]):
        with pytest.raises(InputError, match='give 2 to 8 numbers per curve'):
            order_test(bad)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(numbers, st.floats(1e-3, 1e3)), min_size=2, max_size=8))
def test_random_effects_lie_among_the_settings(rows):
    means, errors = np.array(rows).T
    o = random_effects(means, errors)
    assert o.tau2 >= 0 and min(means) - 1e-6 <= o.mean <= max(means) + 1e-6
    assert o.low <= o.mean <= o.high
