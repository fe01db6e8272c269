"imbal_al.results.compare: against scipy's tests and quadrature, properties, refusals, single repeats, ties, nan"

import warnings
from itertools import permutations, product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats
from scipy.integrate import quad

from imbal_al.core import InputError
from imbal_al.measure.statistics import (
    holm, least_repeats, needed, non_inferior, paired_interval, repeats_needed, sd_interval,
    t_power, t_test, wilcoxon,
)
from imbal_al.results.claims import INCONCLUSIVE
from imbal_al.results.compare import compare_results
from imbal_al.results.paired import run_values, _strategy_curves
from imbal_al.results.pairs import _pair_row, BETTER, pair_table, SAME, WORSE
from imbal_al.results.penalty import penalty_matrix
from imbal_al.results.ranks import flips, kendall_w, method_table, _ranks
from imbal_al.results.study_table import with_sampling
from imbal_al.results.compare_report import (
    _undecided_groups, compare_folder, figures_of, forest, penalty_figure, rank_figure,
    report_markdown, write_comparison,
)
from imbal_al.results.loss_tables import made_up_losses
from imbal_al.results.plotting import alt_text
from imbal_al.results.tables import made_up_results, paired_areas, run_areas

quick = settings(max_examples=40, deadline=None)
whole = st.lists(st.integers(-6, 6), min_size=1, max_size=8)


def wide_of(**columns):
    return pd.DataFrame(columns, dtype=float)


def long(wide, setting='s', budgets=(0.1,)):
    return pd.DataFrame(
        [
            dict(setting=setting, method=m, unit=str(u), budget=b, value=v)
            for b in budgets
            for u, row in wide.iterrows()
            for m, v in row.items()
        ]
    )


# ---- tests against oracles


@quick
@given(whole)
def test_wilcoxon_is_the_full_enumeration(d):
    "Every sign of every non-zero difference, with mid-ranks: 2^n studies"
    d = np.array([o for o in d if o], float)
    if not len(d):
        assert wilcoxon([0.0]) == 1
        return
    r = stats.rankdata(abs(d))
    every = np.array([r @ np.array(s) for s in product((0, 1), repeat=len(d))])
    w = r[d > 0].sum()
    assert wilcoxon(d) == pytest.approx(min(1, 2 * min((every <= w).mean(), (every >= w).mean())))


@pytest.mark.parametrize('n', [3, 6, 11, 25, 50])
def test_wilcoxon_and_t_as_scipy(n):
    d = np.random.default_rng(n).normal(0.3, 1, n)
    assert wilcoxon(d) == pytest.approx(stats.wilcoxon(d, method='exact').pvalue)
    assert t_test(d) == pytest.approx(stats.ttest_1samp(d, 0).pvalue)


def test_wilcoxon_of_many_is_normal_and_meets_the_exact_one():
    d = np.random.default_rng(1).normal(0.1, 1, 500)
    assert wilcoxon(d) == pytest.approx(
        stats.wilcoxon(d, method='asymptotic', correction=True).pvalue, rel=1e-6
    )
    assert wilcoxon(d[:200]) == pytest.approx(
        stats.wilcoxon(d[:200], method='asymptotic', correction=True).pvalue, rel=0.02
    )
    tied = np.random.default_rng(2).integers(-3, 5, 400)
    assert wilcoxon(tied) == pytest.approx(
        stats.wilcoxon(tied, method='asymptotic', correction=True).pvalue, rel=1e-6
    )


@quick
@given(whole)
def test_wilcoxon_and_t_do_not_mind_the_sign_and_the_scale(d):
    d = np.array(d, float)
    for f in (wilcoxon, t_test):
        assert f(d) == pytest.approx(f(-0.37 * d), nan_ok=True)
    assert wilcoxon(d + 0.0) >= 2 / 2 ** max(1, np.count_nonzero(d)) - 1e-12


def test_floating_point_makes_no_order():
    assert wilcoxon([0.3 - 0.1, 0.4 - 0.2, 0.5 - 0.3, -(0.6 - 0.4)]) == wilcoxon([1, 1, 1, -1])
    assert (
        wilcoxon([0.1 + 0.2 - 0.3, 1, 1]) == wilcoxon([0, 1, 1])
        and t_test([0.1 + 0.2 - 0.3] * 3) == 1.0
    )


@quick
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_against_its_definition(p):
    p, m = np.array(p), len(p)
    want = [min(1, max((m - k) * x for k, x in enumerate(np.sort(p)) if x <= q)) for q in p]
    got = holm(p)
    order = np.argsort(p, kind='stable')
    assert (
        (np.diff(got[order]) >= 0).all()
        and (got >= p - 1e-15).all()
        and (got <= np.minimum(1, m * p) + 1e-15).all()
    )
    if len(set(p)) == m:
        assert got == pytest.approx(want)


def test_holm_leaves_nan_out():
    assert holm([0.01, np.nan, 0.04]) == pytest.approx([0.02, np.nan, 0.04], nan_ok=True)
    assert holm([0.01, 0.01, 0.04]) == pytest.approx([0.03, 0.03, 0.04]) and len(holm([])) == 0


def reference_power(n, effect, alpha, sides):
    v, nc, c = n - 1, effect * np.sqrt(n), stats.t.ppf(1 - alpha / sides, n - 1)
    both = lambda x: (
        stats.norm.sf(c * x / np.sqrt(v) - nc)
        + (stats.norm.cdf(-c * x / np.sqrt(v) - nc) if sides == 2 else 0)
    ) * stats.chi.pdf(x, v)
    return (
        quad(both, 0, 2 * np.sqrt(v), limit=300)[0]
        + quad(both, 2 * np.sqrt(v), 12 * np.sqrt(v) + 20, limit=300)[0]
    )


@pytest.mark.parametrize('n', [2, 3, 6, 9, 30])
def test_power_against_quadrature(n):
    for e, a, s in product((0.1, 0.5, 1.0, 3.05, 8.0), (0.05, 0.003), (1, 2)):
        assert t_power(n, e, a, s) == pytest.approx(reference_power(n, e, a, s), abs=2e-4), (
            n,
            e,
            a,
            s,
        )


def test_repeats_needed_known_values_and_order():
    assert [repeats_needed(d, 1, test='t') for d in (0.2, 0.5, 0.8)] == [
        199.0,
        34.0,
        15.0,
    ]  # G*Power, paired t, two sides, power 0.8
    assert (
        repeats_needed(0.5, 1, test='t', sides=1) == 27.0
        and repeats_needed(-0.5, 1, test='t') == 34.0
    )
    some = [repeats_needed(d, 0.1) for d in np.geomspace(0.005, 0.5, 30)]
    assert some == sorted(some, reverse=True) and min(some) == 6
    assert (
        repeats_needed(1e-9, 1) == np.inf
        and np.isnan(repeats_needed(0.1, np.nan))
        and np.isnan(repeats_needed(np.nan, 1))
    )
    for n in (34, 33):
        assert (t_power(n, 0.5) >= 0.8) == (n == 34)


@pytest.mark.parametrize('bad', [dict(power=1), dict(power=80), dict(alpha=0), dict(test='sign')])
def test_repeats_needed_refuses(bad):
    with pytest.raises(InputError):
        repeats_needed(0.1, 0.1, **bad)


def test_sd_interval_covers():
    rng = np.random.default_rng(0)
    hits = [
        low <= 1 <= high
        for low, high in (sd_interval(rng.normal(size=4).std(ddof=1), 4) for _ in range(2000))
    ]
    assert np.mean(hits) == pytest.approx(0.95, abs=0.015)


def test_needed_range_covers_the_truth():
    "The truth: an effect of 1.2 takes 8 repeats; the range from six observed repeats must hold it 95 times in 100"
    rng, truth = np.random.default_rng(0), repeats_needed(1.2, 1, test='t')
    seen = [needed(rng.normal(1.2, 1, 6), test='t') for _ in range(150)]
    assert 0.9 <= np.mean([o.low <= truth <= o.high for o in seen]) <= 1.0
    target = [needed(rng.normal(0, 1, 6), 0.9, test='t') for _ in range(150)]
    assert (
        0.88
        <= np.mean([o.low <= repeats_needed(0.9, 1, test='t') <= o.high for o in target])
        <= 1.0
    )


@pytest.mark.parametrize('d', [[], [0.1], [np.nan, 0.1]])
def test_nothing_is_planned_from_one_repeat(d):
    o = needed(d, 0.02)
    assert np.isnan([o.repeats, o.low, o.high, o.sd]).all() and o.n < 2


def test_needed_without_spread():
    assert needed([0.1, 0.1, 0.1], test='t')[:3] == (2, 2, 2) and needed([0, 0, 0.0])[0] == np.inf


def test_least_repeats_is_least():
    for alpha, pairs in product((0.05, 0.01), (1, 5, 15, 48)):
        n = least_repeats(alpha, pairs)
        assert (
            pairs * wilcoxon(np.arange(1, n + 1)) <= alpha + 1e-12
            and pairs * wilcoxon(np.arange(1, n)) > alpha
        )


# ---- ranks


def test_w_is_friedman_and_its_p_is_the_enumeration():
    wide = pd.DataFrame(np.random.default_rng(3).normal(size=(4, 3)), columns=list('abc'))
    o = kendall_w(wide, draws=8000)
    assert o.w * 4 * 2 == pytest.approx(stats.friedmanchisquare(*wide.to_numpy().T).statistic)
    r = _ranks(wide).to_numpy()
    every = np.array(
        [np.square(np.sum(p, 0) - 8).sum() for p in product(permutations((1, 2, 3)), repeat=4)]
    )
    assert o.p == pytest.approx((every >= np.square(r.sum(0) - 8).sum() - 1e-9).mean(), abs=0.02)


def test_w_with_ties_as_scipy():
    wide = wide_of(a=[1, 2, 3, 2], b=[1, 1, 3, 1], c=[0, 2, 1, 1])
    assert kendall_w(wide).w * 4 * 2 == pytest.approx(
        stats.friedmanchisquare(*wide.to_numpy().T).statistic
    )


@pytest.mark.parametrize(
    'wide', [wide_of(a=[1], b=[2]), wide_of(a=[1, 2]), wide_of(a=[1, 2], b=[1, 2])]
)
def test_w_is_nan_where_there_is_nothing_to_agree_on(wide):
    assert np.isnan(kendall_w(wide).w)


@pytest.mark.parametrize('d', [[1, 1, -1], [2, 1, -1, -1], [1, 1, 1]])
def test_flips_against_all_resamples(d):
    wide = wide_of(a=d, b=[0] * len(d))
    d = np.array(d)
    means = np.array([d[list(i)].mean() for i in product(range(len(d)), repeat=len(d))])
    want = ((means * d.mean() < 0) + 0.5 * (means == 0)).mean()
    f = flips(wide, draws=20000)
    assert f.loc['a', 'b'] == f.loc['b', 'a'] == pytest.approx(want, abs=0.015) and np.isnan(
        f.loc['a', 'a']
    )


def test_first_shares_ties():
    t = method_table(wide_of(a=[1, 2, 3], b=[1, 2, 3], c=[0, 0, 0])).set_index('method')
    assert t['first'].to_dict() == dict(a=0.5, b=0.5, c=0) and t['rank'].to_dict() == dict(
        a=1.5, b=1.5, c=3
    )


# ---- pairs


def noisy(n=8, seed=0, **shift):
    rng = np.random.default_rng(seed)
    base = rng.normal(0.5, 0.1, n)
    return pd.DataFrame({k: base + v + rng.normal(0, 0.005, n) for k, v in shift.items()})


def test_pairs_reuse_the_metrics():
    wide = noisy(a=0.05, b=0.0)
    o = pair_table(wide).iloc[0]
    assert (o.a, o.b, o.verdict) == ('a', 'b', BETTER)
    i = paired_interval(wide.a, wide.b, kind='wider')
    assert (o['mean'], o.low, o.high, o.n) == pytest.approx(i[:4])
    n = non_inferior(wide.a.to_numpy(), wide.b.to_numpy(), 0.01)
    words = {'holds': 'supported', 'does not': 'refuted'}
    assert (
        o.a_not_worse == words.get(n.verdict, 'inconclusive')
        and o.p_wilcoxon == pytest.approx(stats.wilcoxon(wide.a, wide.b).pvalue)
        and o.p_t == pytest.approx(stats.ttest_rel(wide.a, wide.b).pvalue)
    )


def test_verdicts_turn_with_the_pair():
    wide = noisy(a=0.05, b=0.0)
    assert (
        pair_table(wide, 'a').iloc[0].verdict == WORSE
        and pair_table(wide, 'b').iloc[0].verdict == BETTER
    )
    assert pair_table(noisy(n=12, a=0, b=0), margin=0.02).iloc[0].verdict == SAME
    assert pair_table(noisy(n=12, a=0, b=0), margin=0.0001).iloc[0].verdict == INCONCLUSIVE


def test_false_verdicts_stay_below_alpha_over_all_pairs():
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(300):
        x = rng.normal(size=(8, 4))
        p = holm([wilcoxon(x[:, i] - x[:, j]) for i in range(4) for j in range(i)])
        wrong += (p <= 0.05).any()
    assert wrong / 300 <= 0.07


def test_one_repeat_decides_nothing():
    o = pair_table(wide_of(a=[1.0], b=[0.0], c=[0.5]))
    assert (
        set(o.verdict) == {INCONCLUSIVE}
        and o[['p', 'low', 'high', 'sd', 'flips', 'needed']].isna().all(axis=None)
        and (o['mean'] > 0).all()
    )
    c = compare_results(made_up_results(repeats=1, pi_us=(0.1,), cycles=3))
    assert (
        'One repeat decides nothing' in report_markdown(c)
        and np.isnan(c.penalty.share.to_numpy()).all()
    )
    for f in figures_of(c).values():
        assert alt_text(f)


def test_equal_methods_tie():
    o = pair_table(wide_of(a=[1, 2, 3, 4], b=[1, 2, 3, 4])).iloc[0]
    assert (o.verdict, o.ties, o.p, o.needed) == (SAME, 4, 1.0, np.inf) and np.isnan(o.flips)


@pytest.mark.parametrize(
    'bad,said',
    [
        (dict(reference='c'), 'unknown reference'),
        (dict(test='sign'), 'unknown test'),
        (dict(alpha=5), 'alpha 5'),
        (dict(margin=-1), 'margin -1'),
    ],
)
def test_pair_table_refuses(bad, said):
    with pytest.raises(InputError, match=said):
        pair_table(wide_of(a=[1, 2], b=[1, 2]), **bad)


def test_one_method_is_no_comparison():
    with pytest.raises(InputError, match='needs two methods'):
        pair_table(wide_of(a=[1, 2]))
    with pytest.raises(InputError, match='no setting has two methods'):
        compare_results(made_up_results(repeats=2, cycles=2, shares=dict(random=None)))


# ---- what is paired

TABLE = made_up_results(repeats=5, cycles=3, pi_us=(0.1,))


def test_refuses_other_repeats_and_takes_the_common_ones():
    holed = TABLE[~((TABLE.strategy == 'entropy') & (TABLE['repeat'] >= 3))]
    with pytest.raises(InputError, match=r'pool 10 % faulty.*entropy lacks 3, 4; .*the 3 that all have'):
        compare_results(holed)
    c = compare_results(holed, common=True)
    assert (c.pairs.n == 3).all() and '2 left out' in c.notes[0]
    full = compare_results(TABLE[TABLE['repeat'] < 3])
    pd.testing.assert_frame_equal(c.pairs, full.pairs)


def test_an_unfinished_run_is_not_compared_by_a_part_of_its_curve():
    cut = TABLE[~((TABLE.strategy == 'random') & (TABLE['repeat'] == 1) & (TABLE.cycle == 3))]
    for what in ('area', 'final'):
        with pytest.raises(InputError, match='random lacks 1;'):
            compare_results(cut, what)
    assert (compare_results(cut, common=True).pairs.n == 4).all()
    assert run_values(_strategy_curves(cut), 0.03).value.notna().all()


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_nan_is_a_hole(value):
    t = TABLE.assign(
        f1=TABLE.f1.where(
            ~((TABLE.strategy == 'coreset') & (TABLE['repeat'] == 2) & (TABLE.cycle == 3)), value
        )
    )
    with pytest.raises(InputError, match='coreset lacks 2;'):
        compare_results(t)
    assert (compare_results(t, common=True).pairs.n == 4).all()


def test_refuses_other_pools_seeds_and_twins():
    other = TABLE.assign(
        budget=np.where(TABLE.strategy == 'entropy', TABLE.budget / 2, TABLE.budget)
    )
    with pytest.raises(
        InputError, match='pools differ: random had 1000 patches and entropy 2000 in repeat 0'
    ):
        compare_results(other)
    with pytest.raises(InputError, match='coreset lacks 0 of seed 0, 1 of seed 0'):
        compare_results(TABLE.assign(seed=np.where(TABLE.strategy == 'coreset', 1, 0)))
    with pytest.raises(InputError, match='two values for setting'):
        compare_results(pd.concat([TABLE, TABLE]))
    with pytest.raises(InputError, match='not paired'):
        compare_results(TABLE[(TABLE.strategy != 'entropy') | (TABLE.cycle != 2)])


def test_no_common_repeat():
    t = TABLE[(TABLE['repeat'] < 2) == (TABLE.strategy == 'entropy')]
    with pytest.raises(InputError, match='no repeat is common'):
        compare_results(t, common=True)


def test_columns_that_lack_are_named():
    with pytest.raises(InputError, match='lacks column repeat'):
        compare_results(TABLE.drop(columns='repeat'))
    with pytest.raises(InputError, match='lacks column iou'):
        compare_results(TABLE, value='iou')
    with pytest.raises(InputError, match='unknown summary'):
        compare_results(TABLE, 'auc')
    with pytest.raises(InputError, match='unknown reference'):
        compare_results(TABLE, reference='badge')
    with pytest.raises(InputError, match='at least two budgets'):
        compare_results(TABLE[TABLE.cycle == 1])
    with pytest.raises(InputError, match='lacks column loss'):
        compare_results(TABLE, methods='loss')
    with pytest.raises(InputError, match='unknown axis'):
        compare_results(TABLE, methods='repeat')


def test_every_error_is_one_line():
    for f in (
        lambda: compare_results(TABLE[(TABLE.strategy != 'entropy') | (TABLE['repeat'] > 0)]),
        lambda: compare_folder('/nowhere'),
    ):
        with pytest.raises(InputError) as e:
            f()
        assert '\n' not in str(e.value) and len(str(e.value)) < 400


def test_areas_are_the_claims_areas():
    c = compare_results(TABLE, reference='random')
    for t in (0.1, 0.05):
        a, b = paired_areas(run_areas(TABLE[TABLE.pi_t == t]), 'coreset')
        p = c.pairs[
            c.pairs.setting.str.endswith(f'test {100*t:g} % faulty') & (c.pairs.a == 'coreset')
        ].iloc[0]
        assert p['mean'] == pytest.approx((a - b).mean())


def test_losses_and_strategies_as_methods():
    both = pd.concat(
        [
            TABLE.assign(model='m', loss=l, f1=TABLE.f1 + g)
            for l, g in (('combo', 0), ('dibe', 0.02))
        ]
    )
    c = compare_results(both, methods='strategy,loss', reference='random + combo')
    assert c.wide[next(iter(c.wide))].shape == (5, 6)
    d = compare_results(both, methods='loss')
    assert len(d.wide) == 2 * 3 and d.pairs['mean'].abs().to_numpy() == pytest.approx(0.02)
    with pytest.raises(InputError, match='two values'):
        compare_results(pd.concat([both, both.assign(model='m')]))


def test_losses_table():
    t = made_up_losses(seeds=4)
    t = t[t.model == 'unet-lite0']
    c = compare_results(t, reference='CE')
    assert c.how['what'] == 'final' and c.how['value'] == 'iou' and (c.pairs.n == 4).all()
    last = (
        t[(t.data == 'mtsdd_extreme') & t.loss.isin(['dice', 'bce'])]
        .sort_values('epoch')
        .groupby(['loss', 'seed'])
        .iou.last()
    )
    p = c.pairs[c.pairs.setting.str.startswith('mtsdd_extreme') & (c.pairs.a == 'Dice')].iloc[0]
    assert p['mean'] == pytest.approx(np.mean(last['dice'] - last['bce']))
    with pytest.raises(InputError, match='Dice lacks 1;'):
        compare_results(t[~((t.loss == 'dice') & (t.seed == 1))])


# ---- penalty


def test_penalty_counts_as_the_paper_says():
    rng = np.random.default_rng(0)
    tables = {
        (s, b): pd.DataFrame(rng.normal([0, 0.6, 1.2], 0.5, (5, 3)), columns=list('abc'))
        for s in 'xyz'
        for b in (0.1, 0.2)
    }
    p = penalty_matrix(pd.concat([long(w, s, (b,)) for (s, b), w in tables.items()]))
    for i, j in permutations('abc', 2):
        t = [stats.ttest_rel(w[i], w[j]) for w in tables.values()]
        assert p.wins.loc[i, j] == pytest.approx(
            sum(o.statistic > 2.776445 for o in t) / 2
        )  # t of 4 degrees of freedom, as printed in Ash et al.
    assert (
        p.wins.to_numpy().sum() > 0 and (p.settings.to_numpy()[~np.eye(3, dtype=bool)] == 3).all()
    )


def test_penalty_with_methods_that_were_not_run_everywhere():
    a = long(wide_of(a=[1, 1.1, 1.2], b=[0, 0.1, 0.3]), 'one')
    b = long(wide_of(a=[1, 1.1, 1.2], c=[0, 0.1, 0.3]), 'two')
    p = penalty_matrix(pd.concat([a, b]))
    assert (
        p.settings.loc['a', 'b'] == 1
        and p.settings.loc['b', 'c'] == 0
        and np.isnan(p.share.loc['b', 'c'])
        and p.lost['a'] == 0
    )
    assert '–' in report_lines(p) and alt_text(penalty_figure(p))


def report_lines(p):
    from imbal_al.results.compare_report import _penalty_lines

    return _penalty_lines(p)


def test_penalty_refuses_a_budget_that_a_method_lacks():
    t = pd.concat([long(wide_of(a=[1, 2], b=[0, 1])), long(wide_of(a=[1, 2]), budgets=(0.2,))])
    with pytest.raises(InputError, match='b has no value at budget 0.2'):
        penalty_matrix(t)
    assert penalty_matrix(t, common=True).settings.loc['a', 'b'] == 1


# ---- whole comparisons


def test_family_of_all_settings_is_stricter():
    t = made_up_results(repeats=6, cycles=3, pi_us=(0.1, 0.5))
    one, all_of = (
        compare_results(t, reference='random', test='t', family=f) for f in ('setting', 'all')
    )
    assert (
        (all_of.pairs.p >= one.pairs.p - 1e-15).all()
        and (all_of.pairs.needed >= one.pairs.needed).all()
        and (all_of.pairs.p > one.pairs.p).any()
    )
    assert all_of.pairs.p.to_numpy() == pytest.approx(holm(one.pairs.p_t))


def test_twice_the_same():
    a, b = (report_markdown(compare_results(TABLE)) for _ in range(2))
    assert a == b


def test_report_says_what_cannot_be_decided():
    text = report_markdown(compare_results(TABLE))
    assert "over 3 pairs cannot decide below 7 repeats" in text and '\n\n\n' not in text
    tables = [o for o in text.split('\n\n') if o.startswith('| ')]
    assert len(tables) == 5 and all(
        len({line.count('|') for line in o.splitlines()}) == 1 for o in tables
    )


def test_figures_are_small_and_described():
    c = compare_results(TABLE)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for name, f in figures_of(c).items():
            assert f.get_figwidth() <= 6 and f.get_figheight() <= 3 and len(alt_text(f)) > 60, name
            f.canvas.draw()
    with pytest.raises(InputError, match='name one'):
        forest(c.pairs)
    with pytest.raises(InputError, match='unknown setting'):
        rank_figure(c.methods, c.pairs, 'elsewhere')


def test_forest_draws_the_surest():
    wide = pd.DataFrame(np.random.default_rng(0).normal(size=(8, 7)), columns=list('abcdefg'))
    f = forest(pair_table(wide))
    assert '6 further pairs' in alt_text(f) and len(f.axes[0].get_yticks()) == 15


def test_groups_of_the_undecided():
    m = pd.DataFrame(dict(method=list('abc'), rank=[1.0, 2.0, 3.0]))
    pairs = lambda *apart: pd.DataFrame(
        [dict(a=x, b=y, verdict=WORSE if x + y in apart else INCONCLUSIVE) for x, y in ('ab', 'ac', 'bc')]
    )
    assert _undecided_groups(m, pairs()) == [['a', 'b', 'c']] and _undecided_groups(
        m, pairs('ac')
    ) == [['a', 'b'], ['b', 'c']]
    assert _undecided_groups(m, pairs('ab', 'ac', 'bc')) == [] and _undecided_groups(
        m, pairs('ac', 'bc')
    ) == [['a', 'b']]


# ---- folders


def test_folder_with_plan(tmp_path):
    from dataclasses import replace
    from imbal_al.runs.plan import save_plan
    from imbal_al.studies.run_config import RunConfig

    configs = [
        RunConfig(data='made up', strategy=s, repeat=r, pi_u=0.1, pi_t=(0.1, 0.05))
        for s in ('random', 'entropy')
        for r in range(5)
    ]
    t = TABLE[TABLE.strategy != 'coreset']

    def study(name, configs):
        of = {(c.strategy, c.repeat): c.hash for c in configs}
        save_plan(tmp_path / name, configs)
        t.assign(config=[of[o] for o in zip(t.strategy, t['repeat'])]).to_csv(
            tmp_path / name / 'results.csv', index=False
        )
        return tmp_path / name

    said = []
    c = compare_folder(study('same', configs), said.append)
    assert c.notes == [] and said == [report_markdown(c)]
    slow = [replace(o, steps=90) if o.strategy == 'entropy' else o for o in configs]
    assert compare_folder(study('slow', slow)).notes == [
        'made up, pool 10 % faulty: the runs also differ in steps: 60 (random) and 90 (entropy)'
    ]
    other = [replace(o, patch=(32, 32)) if o.strategy == 'entropy' else o for o in configs]
    with pytest.raises(
        InputError, match=r'differ in patch: \(64, 64\) \(random\) and \(32, 32\) \(entropy\)'
    ):
        compare_folder(study('other', other))


def test_folder_of_a_study_that_has_only_begun(tmp_path, tiny):
    from dataclasses import replace
    from imbal_al.runs.plan import save_plan

    save_plan(tmp_path, [replace(tiny, strategy=s) for s in ('random', 'entropy')])
    with pytest.raises(InputError, match='no run of .* is finished'):
        compare_folder(tmp_path)


def test_folder_with_a_table_only(tmp_path):
    TABLE.assign(commit='abc').to_csv(tmp_path / 'results.csv', index=False)
    c = compare_folder(tmp_path, what='0.05')
    assert c.how['what'] == 0.05 and 'no plan' in c.notes[0] and len(c.notes) == 1
    pd.testing.assert_frame_equal(
        compare_folder(tmp_path / 'results.csv', what=0.05).pairs, c.pairs
    )
    files = write_comparison(c, tmp_path / 'out')
    assert all(o.stat().st_size > 0 for o in files) and {o.name for o in files} == {
        o.name for o in (tmp_path / 'out').iterdir()
    }
    assert (
        pd.read_csv(tmp_path / 'out' / 'compare_pairs.csv').verdict.tolist()
        == c.pairs.verdict.tolist()
    )


@pytest.mark.parametrize('content', [None, '', 'a,b\n', 'a,b\n1,2,3\n1\n"', b'\xff\xfe\x00\x01'])
def test_folder_without_a_usable_table(tmp_path, content):
    if content is not None:
        (tmp_path / "results.csv").write_bytes(
            content if isinstance(content, bytes) else content.encode()
        )
    with pytest.raises(InputError) as e:
        compare_folder(tmp_path)
    assert '\n' not in str(e.value)


def test_runs_that_differ_in_their_labels_are_not_twins(tmp_path):
    "A folder with runs that bought healthy images: the table does not say so, the plan does"
    from dataclasses import replace
    from imbal_al.runs.plan import save_plan
    from imbal_al.studies.run_config import RunConfig

    t = TABLE[TABLE.strategy != 'coreset']
    base = [
        RunConfig(data='made up', strategy=s, repeat=r, pi_u=0.1, pi_t=(0.1, 0.05))
        for s in ('random', 'entropy')
        for r in range(5)
    ]
    bought, weighted = (
        [replace(c, **k) for c in base if c.strategy == 'entropy']
        for k in (dict(healthy_share=0.1), dict(train_pi=0.05))
    )
    rows = [
        t[(t.strategy == c.strategy) & (t['repeat'] == c.repeat)].assign(config=c.hash)
        for cs in (base, bought, weighted)
        for c in cs
    ]
    save_plan(tmp_path, base + bought + weighted)
    pd.concat(rows).to_csv(tmp_path / 'results.csv', index=False)
    c = compare_folder(tmp_path)
    assert (
        set(c.wide)
        == {
            'made up, pool 10 % faulty, test 5 % faulty',
            'made up, pool 10 % faulty, test 10 % faulty',
        }
        and sum('left out, it has only entropy' in o for o in c.notes) == 4
    )
    d = compare_folder(tmp_path, methods='strategy,sampling', reference='entropy')
    assert (
        set(next(iter(d.wide.values())).columns)
        == {'random', 'entropy', 'entropy + healthy share 0.1', 'entropy + training at 0.05'}
        and (d.pairs[d.pairs.a != 'random'].verdict != BETTER).all()
    )


def test_starts_are_methods_if_asked_and_settings_otherwise(tmp_path):
    from dataclasses import replace
    from imbal_al.runs.plan import save_plan
    from imbal_al.studies.run_config import RunConfig

    t = TABLE[TABLE.strategy == 'entropy']
    usual = [RunConfig(data='made up', strategy='entropy', repeat=r, pi_u=0.1, pi_t=(0.1, 0.05)) for r in range(5)]
    found = [replace(c, start='anomaly') for c in usual]
    rows = [t[t['repeat'] == c.repeat].assign(config=c.hash) for c in usual]
    rows += [t[t['repeat'] == c.repeat].assign(config=c.hash, f1=0.9) for c in found]
    save_plan(tmp_path, usual + found)
    pd.concat(rows).to_csv(tmp_path / 'results.csv', index=False)
    c = compare_folder(tmp_path, methods='start', value='f1', what='final')
    assert set(c.methods.method) == {'start anomaly', 'start random'} and len(c.wide) == 2
    assert c.methods[c.methods.method == 'start anomaly']['mean'].tolist() == [0.9, 0.9]
    assert not [note for note in c.notes if 'start' in note]
    with pytest.raises(InputError, match='no setting has two methods to compare'):
        compare_folder(tmp_path)


def test_runs_that_no_table_tells_apart_are_no_repeats(tmp_path):
    from dataclasses import replace
    from imbal_al.results.advise import advise_folder
    from imbal_al.runs.plan import save_plan
    from imbal_al.studies.run_config import RunConfig

    t = TABLE[TABLE.strategy == 'entropy']
    usual = [RunConfig(data='made up', strategy='entropy', repeat=r, pi_u=0.1, pi_t=(0.1, 0.05)) for r in range(5)]
    both = usual + [replace(c, steps=7) for c in usual]
    rows = [t[t['repeat'] == c.repeat].assign(config=c.hash) for c in both]
    save_plan(tmp_path, both)
    pd.concat(rows).to_csv(tmp_path / 'results.csv', index=False)
    for judge in (compare_folder, advise_folder):
        with pytest.raises(InputError, match=r'its runs differ in steps, .* folder of its own \(--out\)'):
            judge(tmp_path)


def test_labels_of_a_study_without_such_runs_are_left_alone(tmp_path):
    plan = {'x': dict(healthy_share=0.0, train_pi=None), 'y': dict()}
    t = pd.DataFrame(dict(config=['x', 'y']))
    assert (
        list(with_sampling(t, plan)) == ['config']
        and list(with_sampling(t.drop(columns='config'), plan)) == []
    )
    u = with_sampling(t, {'x': dict(healthy_share=0.1), 'y': dict(train_pi=0.2)})
    assert (
        u.healthy_share.tolist() == [0.1, 0.0] and np.isnan(u.train_pi[0]) and u.train_pi[1] == 0.2
    )
    assert with_sampling(
        u.assign(healthy_share=9.0), {'x': dict(healthy_share=0.1)}
    ).healthy_share.tolist() == [9.0, 9.0]


@pytest.mark.parametrize('alone,lines', [(5, 5), (6, 1), (40, 1)])
def test_settings_left_out_for_one_reason_are_few_lines(alone, lines):
    from imbal_al.results.compare import _paired

    rows = [
        dict(setting=f's{i}', method='entropy', unit=u, value=0.5)
        for i in range(alone)
        for u in range(3)
    ] + [
        dict(setting='both', method=m, unit=u, value=0.5 + 0.1 * (m == 'entropy'))
        for m in ('entropy', 'random')
        for u in range(3)
    ]
    notes = []
    wide = _paired(pd.DataFrame(rows), None, False, notes)
    assert (
        list(wide) == ['both']
        and len(notes) == lines
        and notes[0].startswith(
            's0: left out, it has only entropy'
            if lines > 1
            else f'{alone} settings left out, each has only entropy: s0; s1; and {alone-2} more'
        )
    )


def test_wilcoxon_needs_pi_thirds_of_the_repeats_of_t():
    for effect in (0.5, 0.3, 0.2):
        n = repeats_needed(effect, 1.0, test='t')
        assert repeats_needed(effect, 1.0) == np.ceil(n * np.pi / 3) > n


def test_the_same_means_neither_worse_nor_better():
    x = np.array([0.50, 0.52, 0.49, 0.51, 0.50, 0.53])
    wide = pd.DataFrame(dict(a=x + 0.05 + 0.001 * np.arange(6), b=x))
    row = _pair_row(wide, 'a', 'b', margin=0.01)
    a, b = (
        non_inferior(*o, 0.01).p
        for o in ((wide.a.to_numpy(), wide.b.to_numpy()), (wide.b.to_numpy(), wide.a.to_numpy()))
    )
    assert a < 0.01 and b > 0.9 and row['p_same'] == b


def test_a_larger_family_needs_more_repeats():
    g = np.random.default_rng(0)
    wide = pd.DataFrame(dict(a=0.5 + 0.05 * g.normal(size=8), b=0.53 + 0.05 * g.normal(size=8)))
    few, many = (pair_table(wide, 'a', family=k, test='t').needed.iloc[0] for k in (1, 50))
    assert np.isfinite(few) and many > few
