"imbal_al.results.remedies: what is chosen, what is paired with what, and what it recovers"

import numpy as np
import pandas as pd
import pytest

from imbal_al.core import InputError
from imbal_al.measure.metrics import prevalence_weights, scores, scores_at
from imbal_al.measure.oii import oii
from imbal_al.measure.prevalence import estimate_prevalence, made_up_images, Prevalence
from imbal_al.measure.shift import gated_counts, image_rates, split_loss
from imbal_al.measure.statistics import Interval
from imbal_al.measure.threshold import choose_threshold
from imbal_al.results.remedies import (
    _plans, _price_of, against_plain, guided, loss_rows, PRICES, recovered,
    remedy_figure, remedy_name, remedy_table, threshold_remedies,
)


def run(seed=1, pi_u=1.0, hit=3.0, alarms=0.6):
    h, y = made_up_images(150, 150, seed=seed, hit=hit, alarms=alarms)
    v, z = made_up_images(60, 60, seed=seed + 100, hit=hit, alarms=alarms)
    return dict(
        config=dict(pi_u=pi_u),
        hist=h,
        faulty=y,
        hist_validation=v,
        faulty_validation=z,
        tests={1.0: np.arange(100), 0.1: np.r_[0:15, 150:285]},
    )


RUN = run()
ROWS = pd.DataFrame(threshold_remedies(RUN, 0.1)).set_index('way')


def test_every_way_is_its_threshold_on_the_held_out_images():
    assert (ROWS.drop('raw').index == [*_plans(0.1, 1.0), 'oracle', 'oracle_gate']).all()
    for o in ROWS.itertuples():
        c = gated_counts(RUN['hist'], o.threshold, o.gate)
        assert o.f1 == pytest.approx(
            float(scores(*prevalence_weights(RUN['faulty'], 0.1) @ c)['f1'])
        ), o.Index


def test_ways_choose_on_validation_images_only():
    other = dict(RUN, hist=run(9)['hist'], tests={})
    new = pd.DataFrame(threshold_remedies(other, 0.1)).set_index('way')
    free = [w for w in ROWS.index if not w.startswith(('em', 'bbse', 'oracle'))]
    assert (new.threshold[free] == ROWS.threshold[free]).all() and (
        new.gate[free] == ROWS.gate[free]
    ).all()


def test_what_each_way_aims_at():
    v, z = RUN['hist_validation'], RUN['faulty_validation']
    for way, kw in dict(
        unaware=dict(pi=1.0),
        known=dict(pi=0.1),
        half=dict(pi=0.05),
        twice=dict(pi=0.2),
        careful=dict(pi=0.1, caution=1.0),
        gate=dict(pi=0.1, gate=True, caution=1.0),
        twice_careful=dict(pi=0.2, caution=1.0),
        **{'caution 4': dict(pi=0.1, caution=4.0)},
    ).items():
        assert tuple(ROWS.loc[way, ['threshold', 'gate']]) == choose_threshold(v, z, **kw)[:2], way
    em = estimate_prevalence(v, z, RUN['hist'][RUN['tests'][0.1]], 'em', draws=40)
    assert (
        ROWS.pi['em'] == pytest.approx(em.pi.mean)
        and ROWS.threshold['em'] == choose_threshold(v, z, em.pi.mean).threshold
    )
    assert (
        np.isnan(ROWS.pi['em_hedged'])
        and np.isnan(ROWS.pi['raw'])
        and ROWS.pi['bbse'] != ROWS.pi['em']
    )


def test_without_an_estimate_the_threshold_stays():
    for r in (dict(RUN, tests={}), dict(RUN, tests={0.3: np.arange(9)})):
        t = pd.DataFrame(threshold_remedies(r, 0.1)).set_index('way')
        assert (
            (t.threshold[['em', 'bbse', 'em_hedged', 'em_careful', 'em_gate']] == 0.5).all()
            and t.f1['em'] == t.f1['raw']
            and t.pi[['em', 'bbse']].isna().all()
        )


def test_an_estimate_of_nothing_is_half_an_image():
    e = Prevalence(Interval(0.0, 0.0, 0.0, 200), 'em', 'mean', 0.0, 1.0, np.zeros(20))
    p = _plans(0.05, 1.0, e, e)
    assert (
        p['em'].aim == p['bbse'].aim == 0.5 / 200
        and (p['em_hedged'].aim == 0.5 / 200).all()
        and _plans(0.8, 1.0)['twice'].aim == 1.0
    )


def test_groups_are_used():
    alike = dict(
        RUN,
        hist_validation=np.repeat(RUN['hist_validation'][::3], 3, 0),
        faulty_validation=np.repeat(RUN['faulty_validation'][::3], 3),
    )
    a, b = (
        pd.DataFrame(threshold_remedies(alike, 0.1, g)).set_index('way')
        for g in (None, np.repeat(np.arange(40), 3))
    )
    assert (
        abs(b.threshold['caution 2'] - 0.5) < abs(a.threshold['caution 2'] - 0.5)
        and a.threshold['known'] == b.threshold['known']
    )


def test_recovered_is_one_ratio_with_both_intervals():
    r, f, o = (
        np.array([0.2, 0.3, 0.1, 0.4]),
        np.array([0.3, 0.45, 0.2, 0.45]),
        np.array([0.4, 0.5, 0.3, 0.5]),
    )
    d = recovered(r, f, o)
    assert (
        d['recovery'] == pytest.approx((f - r).sum() / (o - r).sum())
        and d['gain'] == pytest.approx((f - r).mean())
        and d['gain_low'] < (f - r).min()
        and d['runs'] == 4
    )
    assert d['recovery_low'] < d['recovery'] < d['recovery_high'] and (
        d['raw'],
        d['fixed'],
        d['oracle'],
    ) == pytest.approx((r.mean(), f.mean(), o.mean()))
    assert np.isnan(recovered(r, f, r + 0.001)['recovery']) and not np.isnan(
        recovered(r, f, r + 0.001)['gain']
    )
    with pytest.raises(InputError, match='shapes'):
        recovered(r, f[:2], o)


def table(losses=(('combo_paper', np.nan), ('dibe', 0.3), ('dibe', 0.7)), repeats=3, **more):
    return pd.DataFrame(
        [
            dict(
                config=f'{l}{w:g}-{r}',
                strategy='entropy',
                data='d',
                pi_u=1.0,
                pool_size=9,
                repeat=r,
                seed=0,
                loss=l,
                fn_weight=w,
                cycles=5,
                healthy_share=0.0,
                train_pi=np.nan,
                **more,
            )
            for l, w in losses
            for r in range(repeats)
        ]
    )


def test_names_of_remedies():
    name = lambda **k: remedy_name(
        dict(dict(loss='combo_paper', fn_weight=np.nan, healthy_share=0.0, train_pi=np.nan), **k)
    )
    assert [
        name(),
        name(loss='unified'),
        name(loss='dibe', fn_weight=0.3),
        name(healthy_share=0.05),
        name(train_pi=0.05, healthy_share=0.15),
        name(loss='dibe', fn_weight=0.7, healthy_share=0.05),
    ] == [
        'plain',
        'unified',
        'dibe weight 0.3',
        'healthy share 0.05',
        'healthy share 0.15, training at 0.05',
        'dibe weight 0.7, healthy share 0.05',
    ]
    assert remedy_name(dict(loss='combo_paper', fn_weight=None, train_pi=None)) == 'plain'


def test_only_runs_of_the_same_pool_and_repeat_are_paired():
    t = pd.concat(
        [
            table(),
            table((('dibe', 0.3),), 1).assign(config='other pool', pool_size=8),
            table((('dibe', 0.3),), 1).assign(config='other seed', seed=1),
            table((('dibe', 0.3),), 1).assign(config='other data', data='e'),
            table((('dibe', 0.3),), 1).assign(config='random', strategy='random'),
        ],
        ignore_index=True,
    )
    p = against_plain(t)
    assert not set(p.config) & {'other pool', 'other seed', 'other data', 'random'} and len(p) == 9
    assert all(
        a.split('-')[1] == b.split('-')[1] and b.startswith('combo_papernan')
        for a, b in zip(p.config, p.plain)
    )
    with pytest.raises(InputError, match='lacks column'):
        against_plain(t.drop(columns='seed'))


def test_remedies_of_part_of_the_repeats_use_only_those():
    t = table()
    t = t[t.config != 'dibe0.7-2']
    ways = pd.DataFrame(
        [
            dict(config=c, way=w, f1=f + 0.1 * int(c[-1]) + 0.05 * ('dibe' in c))
            for c in t.config
            for w, f in (('raw', 0.3), ('careful', 0.35), ('oracle', 0.4))
        ]
    )
    out = remedy_table(t, ways).set_index('remedy')
    assert out.runs.to_dict() == {
        'careful': 3,
        'dibe weight 0.3': 3,
        'dibe weight 0.3 + threshold': 3,
        'dibe weight 0.7': 2,
        'dibe weight 0.7 + threshold': 2,
        'oracle': 3,
    }
    assert (
        out.raw['dibe weight 0.7'] == pytest.approx(0.35)
        and out.raw['dibe weight 0.3'] == pytest.approx(0.4)
        and out.recovery['dibe weight 0.3'] == pytest.approx(0.5)
        and out.recovery['dibe weight 0.3 + threshold'] == pytest.approx(1.0)
    )
    assert list(out.price) == [0, 2, 2, 2, 2, 5]
    missing = remedy_table(t, ways[~ways.config.str.startswith('dibe0.3')])
    assert not missing.remedy.str.contains('0.3').any()


@pytest.mark.parametrize(
    'remedy,price',
    [
        ('careful', 0),
        ('caution 2', 0),
        ('half_careful', 0),
        ('em_gate', 1),
        ('bbse', 1),
        ('dibe weight 0.3', 2),
        ('unified + threshold', 2),
        ('training at 0.05', 2),
        ('guided dibe', 3),
        ('healthy share 0.05, training at 0.05', 4),
        ('oracle_gate', 5),
    ],
)
def test_prices(remedy, price):
    assert _price_of(remedy) == price and price in PRICES


def rates(t, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        [
            dict(
                config=c,
                **{
                    q + k: x
                    for q in ('', 'v_')
                    for k, x in zip(('tp', 'fp', 'fn', 'alarm'), rng.uniform(1, 10, 4))
                },
            )
            for c in t.config
        ]
    )


def test_guided_looks_at_validation_images_only_and_at_the_deployment_s_share():
    t = table()
    r = rates(t)
    at = r.set_index('config')
    for pi in (0.05, 0.5):
        g = guided(t, r, pi)
        for o in g.itertuples():
            o_ii = {
                w: oii(
                    *(at.loc[f'dibe{w:g}-{o.repeat}', 'v_' + k] for k in ('tp',)),
                    at.loc[f'dibe{w:g}-{o.repeat}', 'v_fp']
                    + (1 - pi) / pi * at.loc[f'dibe{w:g}-{o.repeat}', 'v_alarm'],
                    at.loc[f'dibe{w:g}-{o.repeat}', 'v_fn'],
                )
                for w in (0.3, 0.7)
            }
            assert (
                o.weight == min(o_ii, key=lambda w: abs(o_ii[w]))
                and o.oii == pytest.approx(o_ii[o.weight])
                and o.oii_default == pytest.approx(o_ii[0.7])
            )
        held = r.assign(**{k: 1.0 for k in ('tp', 'fp', 'fn', 'alarm')})
        assert (guided(t, held, pi).weight == g.weight).all() and (
            guided(t, held, pi).f1 != g.f1
        ).all()
        assert (
            (g.trainings == 10).all()
            and (g.weights == 2).all()
            and list(g.plain) == [f'combo_papernan-{i}' for i in range(3)]
        )


def test_guided_needs_two_weights_and_the_default():
    r = rates(table())
    assert not len(guided(table((('combo_paper', np.nan), ('dibe', 0.7))), r, 0.05)) and not len(
        guided(table(), r, 0.05, default=0.5)
    )
    assert len(guided(table(), r[r.config != 'dibe0.3-1'], 0.05)) == 2
    more = pd.concat(
        [
            table(),
            table((('dibe', 0.1),)).assign(healthy_share=0.05, config=lambda o: 'h' + o.config),
        ],
        ignore_index=True,
    )
    assert (guided(more, rates(more), 0.05).weights == 2).all()


def test_guided_rows_are_a_remedy():
    t = table()
    g = guided(t, rates(t), 0.05)
    ways = pd.DataFrame(
        [
            dict(config=c, way=w, f1=f + 0.1 * int(c[-1]) + 0.1 * (c in set(g.config)))
            for c in t.config
            for w, f in (('raw', 0.3), ('careful', 0.35), ('oracle', 0.4))
        ]
    )
    out = remedy_table(t, ways, guided_rows=g).set_index('remedy')
    assert (
        out.gain['guided dibe'] == pytest.approx(0.1)
        and out.gain['guided dibe + threshold'] == pytest.approx(0.15)
        and out.price['guided dibe'] == 3
    )


def test_loss_rows_are_the_split_of_the_histograms():
    h, y = RUN['hist'], RUN['faulty']
    r = image_rates(h, y)
    t = loss_rows(
        pd.DataFrame([dict(config='a', pi_u=1.0), dict(config='b', pi_u=0.2)]),
        pd.DataFrame(
            [dict(config=c, cycle=1, **r._asdict()) for c in 'ab']
            + [dict(config='b', cycle=2, **dict.fromkeys(r._fields, 0.0))]
        ),
        0.05,
    )
    for o, u in zip(t.itertuples(), (1.0, 0.2)):
        d = split_loss(r, u, 0.05)
        assert (o.f1_to, o.lost, o.like_loss, o.excess, o.oii_to) == pytest.approx(
            (scores_at(h, y, 0.05)['f1'], d.lost, d.like, d.excess, d.oii_to)
        ) and o.like == r.like
    assert np.isnan(t.f1_to.iloc[2]) and t.cycle.tolist() == [1, 1, 2]


def test_figure():
    t = pd.DataFrame(
        [
            dict(data=d, pi_u=u, price=0, remedy=r, **recovered([0.1, 0.2], [0.2, 0.3], [0.3, 0.5]))
            for d in 'ab'
            for u in (0.1, 1.0)
            for r in ('careful', 'gate')
        ]
    )
    fig = remedy_figure(t, ['gate', 'none'])
    assert (
        len(fig.axes) == 4 and 'gate +0.100' in fig.get_label() and 'careful' not in fig.get_label()
    )
    with pytest.raises(InputError, match='it has careful, gate'):
        remedy_figure(t, ['x'])


def test_guided_takes_a_table_that_names_its_remedies():
    t = table()
    r = rates(t)
    pd.testing.assert_frame_equal(
        guided(t.assign(remedy=[remedy_name(o) for o in t.to_dict('records')], plain='x'), r, 0.05),
        guided(t, r, 0.05),
    )
