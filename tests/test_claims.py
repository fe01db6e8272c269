"imbal_al.results.claims: verdicts against known and missing effects, partial studies, wrong tables"

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from imbal_al.core import InputError
from imbal_al.measure.metrics import uniqueness
from imbal_al.measure.statistics import Interval, welch_interval
from imbal_al.results.claims import (
    _near, _uniqueness_spread, above, claims, claims_markdown, DOES_NOT, held_together, HOLDS,
    in_words, pooled_claims, summary, UNTOLD,
)
from imbal_al.results.tables import (
    claim_value, f1_at_budget, made_up_picks, made_up_results, paired_areas, picked_shares,
    run_areas,
)

KNOWN, PICKS = made_up_results(repeats=6, cycles=6), made_up_picks(repeats=6, cycles=6)


def verdicts(table, claim):
    return table[table.claim == claim].verdict.tolist()


def test_known_effects_hold():
    table = claims(KNOWN, PICKS)
    assert {c: set(verdicts(table, c)) for c in table.claim.unique()} == {
        c: {HOLDS} for c in ('1a', '1b', '2a', '2b', '3a', '3b', '4', '5')
    }
    assert len(table) == 8 + 2 + 4 + 1 + 2 + 4 + 8 and (table.n == 6).all()
    assert table[table.claim == '1a'].ours.tolist() == pytest.approx(
        [
            0.06 * 0.9,
            0.03 * 0.9,
            0.03 * 0.9,
            0.03 * 0.9,
            0.04 * 0.9,
            0.02 * 0.9,
            0.02 * 0.9,
            0.02 * 0.9,
        ],
        abs=0.01,
    )


def test_no_effect_does_not_hold():
    table = claims(
        made_up_results(
            seed=4,
            repeats=8,
            gain={},
            noise=0.006,
            shares=dict(random=None, entropy=0.1, coreset=0.1),
        )
    )
    assert HOLDS not in verdicts(table, '1a') + verdicts(table, '1b') + verdicts(
        table, '3a'
    ) + verdicts(table, '3b')
    assert set(verdicts(table, '1a')) == {DOES_NOT} and verdicts(table, '3a') == [DOES_NOT]


def test_much_noise_cannot_be_told():
    table = claims(made_up_results(seed=1, repeats=3, gain={}, noise=0.12))
    assert verdicts(table, '1a').count(UNTOLD) >= 6 and verdicts(table, '5').count(UNTOLD) >= 6


def test_harm_under_shift_is_found():
    table = claims(
        made_up_results(repeats=8, gain=dict(entropy=-0.2, coreset=0.1), pi_us=(0.1, 0.5))
    )
    assert verdicts(table, '5') == [DOES_NOT, DOES_NOT, HOLDS, HOLDS]


def test_a_loss_that_shrinks_with_the_pool_does_not_grow():
    swapped = KNOWN.assign(
        f1=np.where((KNOWN.pi_u == 1) & (KNOWN.pi_t == 0.05), KNOWN.f1 / 0.31 * 0.95, KNOWN.f1)
    )
    table = claims(swapped)
    assert verdicts(table, '2b') == [DOES_NOT] and verdicts(table, '2a') == [
        HOLDS,
        HOLDS,
        HOLDS,
        DOES_NOT,
    ]


def test_heldout_values_are_used_where_complete():
    assert claim_value(KNOWN) == 'f1'
    assert claim_value(KNOWN.assign(f1_heldout=0.5)) == 'f1_heldout'
    assert claim_value(KNOWN.assign(f1_heldout=np.where(KNOWN.cycle == 1, np.nan, 0.5))) == 'f1'
    table = claims(KNOWN.assign(f1_heldout=KNOWN.f1, f1=0.0))
    assert set(table[table.claim == '1a'].value) == {'f1_heldout'} and set(
        verdicts(table, '1a')
    ) == {HOLDS}
    assert set(table[table.claim == '3a'].value) == {'faulty_share'}


@pytest.mark.parametrize(
    'part',
    [
        lambda r: r[r.repeat == 0],
        lambda r: r[r.cycle == 1],
        lambda r: r[r.strategy == 'random'],
        lambda r: r[(r.strategy == 'entropy') & (r.pi_t > 0.05)],
        lambda r: r.iloc[:1],
        lambda r: r[(r.repeat == 0) | (r.cycle < 3)],
        lambda r: r.assign(f1=np.nan, faulty_share=np.nan),
    ],
)
def test_what_is_missing_cannot_be_told(part, recwarn):
    table = claims(part(KNOWN), PICKS[PICKS.repeat < 2])
    told = table[~table.claim.isin(['3a', '3b'])]
    assert set(told.verdict) == {UNTOLD} and set(table.columns) >= {
        'data',
        'claim',
        'paper',
        'ours',
        'low',
        'high',
        'n',
        'verdict',
    }
    claims_markdown(table), claims_markdown(summary(table))
    assert not [w for w in recwarn.list if issubclass(w.category, RuntimeWarning)]


def test_one_pool_prevalence_only():
    for u in (0.1, 0.5):
        table = claims(KNOWN[KNOWN.pi_u == u], PICKS[PICKS.pi_u == u])
        assert (
            verdicts(table, '1a') == [HOLDS] * 2
            and verdicts(table, '1b') == [UNTOLD] * 2
            and verdicts(table, '2b') == [UNTOLD]
        )
        assert verdicts(table, '3a') == [HOLDS if u == 0.1 else UNTOLD]


def test_an_unfinished_run_enters_no_area():
    running = KNOWN[(KNOWN.repeat < 5) | (KNOWN.cycle < 4) | (KNOWN.strategy != 'entropy')]
    table = claims(running)
    assert table[table.setting == 'entropy, pool 10% faulty'].n.tolist() == [5, 5]
    assert table[table.setting == 'coreset, pool 10% faulty'].n.tolist() == [6, 6]


def test_pairs_are_by_repeat_and_not_by_row():
    base = np.array([0.1, 0.4, 0.7, 0.2])
    rows = [
        dict(strategy=s, pi_u=0.1, pi_t=0.1, repeat=r, cycle=c, budget=0.1 * c, f1=base[r] + add)
        for s, add, order in (('random', 0, (0, 1, 2, 3)), ('entropy', 0.05, (3, 1, 0, 2)))
        for r in order
        for c in (1, 2)
    ]
    a, b = paired_areas(run_areas(pd.DataFrame(rows)), 'entropy')
    np.testing.assert_allclose(a - b, 0.05)


def test_interpolation_needs_the_budget_inside():
    run = pd.DataFrame(dict(budget=[0.08, 0.04, 0.12], f1=[0.3, 0.1, 0.4]))
    assert (
        f1_at_budget(run, 0.06) == pytest.approx(0.2)
        and f1_at_budget(run, 0.04) == pytest.approx(0.1)
        and f1_at_budget(run, 0.12 + 1e-12) == pytest.approx(0.4)
    )
    assert (
        np.isnan(f1_at_budget(run, 0.03))
        and np.isnan(f1_at_budget(run, 0.13))
        and np.isnan(f1_at_budget(run[:0]))
    )


def test_first_cycle_is_left_out_whatever_its_number():
    o = pd.DataFrame(
        dict(
            strategy='entropy',
            pi_u=0.1,
            pi_t=0.1,
            repeat=0,
            cycle=[0, 1, 2],
            faulty_share=[0.9, 0.2, 0.4],
        )
    )
    for shift in (0, 1):
        assert picked_shares(o.assign(cycle=o.cycle + shift)).tolist() == pytest.approx([0.3])
    assert picked_shares(pd.concat([o, o.assign(pi_t=0.05)])).tolist() == pytest.approx([0.3])


def test_spread_is_of_the_union_uniqueness():
    rows = [
        dict(strategy='coreset', pi_u=0.1, repeat=r, cycle=c, id=i, faulty=False)
        for r in (0, 1)
        for c, ids in ((1, (0, 1)), (2, (2, 3)), (3, (4 + 2 * r, 5 + 2 * r)))
        for i in ids
    ]
    u = [uniqueness([[2, 3], [2, 3]]), uniqueness([[4, 5], [6, 7]])]
    assert u == [0, 1] and _uniqueness_spread(
        pd.DataFrame(rows), 'coreset', [0, 1]
    ) == pytest.approx(np.std(u, ddof=1))


@pytest.mark.parametrize('n,verdict', [(0, UNTOLD), (1, UNTOLD), (2, UNTOLD), (3, HOLDS)])
def test_no_verdict_from_one_value(n, verdict):
    assert above(Interval(0.5, 0.4, 0.6, n)) == _near(Interval(0.5, 0.4, 0.6, n), 0.5) == verdict
    assert above(Interval(0.5, np.nan, np.nan, n)) == UNTOLD


@pytest.mark.parametrize(
    'low,high,verdict',
    [
        (0.001, 0.02, HOLDS),
        (0.001, 0.009, DOES_NOT),
        (-0.02, 0.009, DOES_NOT),
        (-0.02, 0.02, UNTOLD),
    ],
)
def test_a_gain_within_the_margin_counts_as_none(low, high, verdict):
    assert above(Interval((low + high) / 2, low, high, 6), fails=0.01) == verdict


def test_welch_of_constants_and_few():
    assert welch_interval([0.5, 0.5], [0.2, 0.2])[1:3] == pytest.approx((0.3, 0.3))
    assert np.isnan(welch_interval([0.5], [0.2, 0.3]).low) and np.isnan(welch_interval([], []).mean)


@pytest.mark.parametrize(
    'call,names',
    [
        (lambda: claims(KNOWN.drop(columns=['budget', 'f1'])), ['budget, f1']),
        (lambda: claims(KNOWN[:0]), ['empty']),
        (lambda: claims(KNOWN, PICKS.drop(columns='id')), ['picks', 'id']),
        (lambda: claims(pd.concat([KNOWN, KNOWN])), ['two rows', 'made up']),
        (lambda: claims(KNOWN.assign(model=np.where(KNOWN.repeat == 0, 'a', 'b'))), ['model a, b']),
    ],
)
def test_wrong_tables_are_named_in_one_line(call, names):
    with pytest.raises(InputError) as e:
        call()
    assert all(n in str(e.value) for n in names) and '\n' not in str(e.value)


def test_data_sets_are_judged_apart_and_runs_are_reproducible():
    two = claims(pd.concat([KNOWN, KNOWN.assign(data='b', f1=0.5)]))
    pd.testing.assert_frame_equal(two[two.data == 'made up'].reset_index(drop=True), claims(KNOWN))
    assert set(summary(two[two.data == 'b']).query("claim=='1a'").verdict) == {DOES_NOT}


def test_markdown_has_a_row_per_claim():
    text = claims_markdown(claims(KNOWN)).splitlines()
    assert len(text) == 2 + len(claims(KNOWN)) and all(
        l.count('|') == text[0].count('|') for l in text
    )


@pytest.mark.parametrize(
    'changes,word',
    [
        ({}, 'no larger than 0.002'),
        (dict(high=0.0), 'no larger than 0.000'),
        (dict(high=-0.0001), 'refuted'),
        (dict(claim='3a'), 'refuted'),
        (dict(verdict=HOLDS), 'supported'),
        (dict(verdict=UNTOLD), 'inconclusive'),
        (dict(verdict=UNTOLD, paper='none'), 'nothing to compare'),
        (dict(verdict=UNTOLD, n=2), 'two runs'),
        (dict(verdict=UNTOLD, n=1), 'one run'),
        (dict(verdict=UNTOLD, n=0), 'not run'),
    ],
)
def test_words_for_a_reader(changes, word):
    row = dict(claim='1a', verdict=DOES_NOT, n=6, high=0.0012, paper='> 0') | changes
    assert in_words(row) == word


def test_not_run_and_one_run_are_counted_apart_from_inconclusive():
    rows = [(HOLDS, 6), (DOES_NOT, 6), (UNTOLD, 6), (UNTOLD, 2), (UNTOLD, 1), (UNTOLD, 0)]
    same = dict(data='a', claim='1a', statement='s', setting='', paper='> 0', high=0.1)
    table = pd.DataFrame([same | dict(ours=0.05, low=0, verdict=v, n=n) for v, n in rows])
    counts = ['supported', 'refuted', 'inconclusive', 'one or two runs', 'not run']
    assert summary(table)[counts].iloc[0].tolist() == [1, 1, 1, 2, 1]
    printed = claims_markdown(table)
    assert 'undecided' not in printed and 'holds' not in printed
    assert 'no larger than 0.100' in printed and 'two runs' in printed


def test_effects_at_two_pools_are_paired_by_repeat():
    "By hand: losses of 10 and 100 % share the repeat's luck, so their difference is certain"
    rows = []
    for repeat, luck in enumerate((0.1, 0.3, 0.2)):
        for pi_u, lost in ((0.1, luck), (1.0, luck + 0.4)):
            for pi_t, f1 in ((pi_u, 0.5), (0.05, 0.5 * (1 - lost))):
                run = dict(data='a', strategy='entropy', pi_u=pi_u, pi_t=pi_t, repeat=repeat)
                rows += [run | dict(cycle=c, budget=0.1 * c, f1=f1, faulty_share=0.3) for c in (1, 2)]
    row = claims(pd.DataFrame(rows)).query("claim=='2b'").iloc[0]
    assert row.verdict == HOLDS and (row.low, row.ours, row.high) == pytest.approx((0.4, 0.4, 0.4))


def test_pooled_over_settings():
    "The mean over pools of known effects; a strategy that is random's twin is equivalent to it"
    sets = [made_up_results(seed=s, repeats=4).assign(data=str(s)) for s in (0, 1)]
    table = pd.concat(sets)
    found = pooled_claims(table, 'entropy', (0.5, 1))
    assert found['mean'] == pytest.approx(0.06 * 8.5 / 9 / 2, abs=0.005) and found['holds']
    assert (found['settings'], found['repeats'], found['clustered'].n) == (6, 24, 8)
    none = made_up_results(repeats=8, gain={}, noise=0.004)
    flat = pooled_claims(none, 'coreset', level=0.9)
    assert flat['equivalent'] and flat['no_gain'] and not flat['holds'] and flat['not_worse']
    with pytest.raises(InputError, match='lacks column'):
        pooled_claims(table.drop(columns='budget'))
    assert pooled_claims(table, 'nobody')['settings'] == 0


def test_held_together_is_holm_over_the_t_tests_of_the_areas():
    judged = claims(made_up_results(repeats=4, cycles=3, noise=0.03, seed=2))
    held = held_together(judged)
    want = []
    for row in held.itertuples():
        interval = Interval(row.ours, row.low, row.high, row.n)
        bound = 0.01 if row.verdict == DOES_NOT and row.claim == '1a' else 0
        level, sides = (0.9, 1) if row.claim == '5' else (0.95, 2)
        bound = -0.01 if row.claim == '5' else bound
        half = max(row.high - row.ours, row.ours - row.low)
        error = half / stats.t.ppf((1 + level) / 2, row.n - 1)
        want.append(sides * stats.t.sf(abs(interval.mean - bound) / error, row.n - 1))
    np.testing.assert_allclose(held.p, want, rtol=1e-9)
    order = np.argsort(want, kind='stable')
    scaled = np.sort(want) * np.arange(len(want), 0, -1)
    by_hand = np.minimum(1, np.maximum.accumulate(scaled))
    np.testing.assert_allclose(held.p_holm.to_numpy()[order], by_hand)
    assert held.stands.equals(held.verdict.isin([HOLDS, DOES_NOT]) & (held.p_holm <= 0.05))
