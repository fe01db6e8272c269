"imbal_al.results.loss_claims: every claim with a table in which it holds, fails, and is undecided; partial and wrong tables"

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from imbal_al.core import InputError
from imbal_al.losses.names import VARIANTS
from imbal_al.measure.statistics import count_interval, Interval
from imbal_al.results.claims import claims_markdown, DOES_NOT, HOLDS, in_words, summary, UNTOLD
from imbal_al.results.loss_claims import (
    _claim_1, _claim_2, _claim_3, _claim_4, _claim_5, _claim_6, _claim_7, _control, _focal_wander,
    _mostly, _paired_runs, claims, order_scores, pooled_losses, variant_evidence, variant_verdict,
)
from imbal_al.results.loss_tables import final, made_up_losses, RUN

HALF = dict(ft=5.0, tversky=4.0, dibe_reg=2.0)


def table(**kw):
    return made_up_losses(**{**dict(seeds=4, epochs=10, half=HALF), **kw})


KNOWN = table()
SMALL = KNOWN[
    ~KNOWN.model.isin(['pspnet-lite0', 'deeplabv3-lite0'])
    & ~KNOWN['data'].isin(['mtsdd_blowhole', 'mtsdd_crack'])
    & (KNOWN.seed < 2)
    & (KNOWN.epoch > 4)
]
HARD = KNOWN[KNOWN['data'] == 'mtsdd_extreme']
ALL = [
    '1',
    '2a',
    '2b',
    '2c',
    '2d',
    '3a',
    '3b',
    '4a',
    '4b',
    '4c',
    '4d',
    '4e',
    '4f',
    '5a',
    '5b',
    '6a',
    '6b',
    '6c',
    '7',
]
NETS = ('segnet-vgg16', 'unet-lite0', 'pspnet-lite0', 'deeplabv3-lite0')


def of(rows, *claims):
    return [r['verdict'] for r in rows if r['claim'] in claims]


def hard(t):
    return t[t['data'] == 'mtsdd_extreme']


def iou(values, data='mtsdd_extreme', fn_weight=0.5, variant=''):
    "Final IoU by (model, loss): one number per seed; two epochs"
    return pd.DataFrame(
        [
            dict(
                data=data,
                model=m,
                loss=l,
                variant=variant,
                fn_weight=fn_weight,
                seed=s,
                epoch=e,
                iou=v * e / 2,
                precision=0.5,
                oii=0.1,
            )
            for (m, l), vs in values.items()
            for s, v in enumerate(vs)
            for e in (1, 2)
        ]
    )


def sweep(
    oiis,
    ious=None,
    precisions=None,
    model='unet-lite0',
    loss='tversky',
    variant='',
    seeds=3,
    weights=(0.1, 0.3, 0.5, 0.7, 0.9),
    epochs=8,
    jitter=0.0,
    data='mtsdd_extreme',
):
    "OII (and IoU, precision) by fn_weight, alike in all epochs and seeds but for `jitter` of the seed's index"
    rows = []
    for i, w in enumerate(weights):
        for s in range(seeds):
            rows += [
                dict(
                    data=data,
                    model=model,
                    loss=loss,
                    variant=variant,
                    fn_weight=w,
                    seed=s,
                    epoch=e,
                    oii=oiis[i] + jitter * s,
                    iou=(ious or [0.5] * 5)[i] + jitter * s,
                    precision=(precisions or [0.6] * 5)[i] + jitter * s,
                )
                for e in range(1, epochs + 1)
            ]
    return pd.DataFrame(rows)


# --- the whole table


def test_known_effects():
    t = claims(KNOWN)
    assert sorted(t.claim.unique()) == ALL and list(t.columns) == [
        'data',
        'value',
        'claim',
        'statement',
        'setting',
        'paper',
        'ours',
        'low',
        'high',
        'n',
        'verdict',
    ]
    got = {c: set(o.verdict) for c, o in t.groupby('claim')}
    assert {c for c, v in got.items() if v == {HOLDS}} >= set(ALL) - {'4d', '6a', '6b', '7'}
    assert got['4d'] == {DOES_NOT}
    assert (
        t[t.claim == '7'].groupby('statement').verdict.agg(set).map(lambda v: v == {HOLDS}).sum()
        == 1
    )
    assert t.groupby('claim').size().to_dict() == {
        '1': 8,
        '2a': 8,
        '2b': 1,
        '2c': 8,
        '2d': 2,
        '3a': 4,
        '3b': 4,
        '4a': 4,
        '4b': 4,
        '4c': 4,
        '4d': 2,
        '4e': 2,
        '4f': 2,
        '5a': 4,
        '5b': 4,
        '6a': 6,
        '6b': 6,
        '6c': 1,
        '7': 8,
    }


def test_seeds_make_the_verdict():
    t = claims(KNOWN[KNOWN.seed == 0])
    counts = t.claim.isin(['2d', '4d', '6c'])
    assert set(t[~counts].verdict) == {UNTOLD} and t[~counts].low.isna().all()
    assert t[t.claim == '2b'].verdict.item() == UNTOLD and t[t.claim == '2b'].n.item() == 1
    assert t[t.claim == '6c'].verdict.item() == HOLDS
    assert set(t[t.claim == '4d'].verdict) == {DOES_NOT}  # five trainings a curve, p = 1/120
    assert set(t[t.claim == '2d'].verdict) == {UNTOLD}


@pytest.mark.parametrize(
    'part',
    [
        lambda r: r[r.epoch == 1],
        lambda r: r.iloc[:1],
        lambda r: r[r.loss == 'ft'],
        lambda r: r[r['data'] == 'cfd'],
        lambda r: r[r.model != 'unet-lite0'],
        lambda r: r[r.loss != 'focal'],
        lambda r: r[~((r.loss == 'dibe_dis') & (r.variant != 'tversky'))],
        lambda r: r[(r.fn_weight != 0.9)],
        lambda r: r[(r.seed == 0) | (r.epoch < 5)],
        lambda r: r[r.loss.isin(['dice', 'combo'])],
        lambda r: r.assign(data='leaves').drop_duplicates([*RUN, 'epoch']),
        lambda r: r.assign(precision=np.nan, iou=0.0, oii=1.0),
        lambda r: r.assign(model='fpn-b3').drop_duplicates([*RUN, 'epoch']),
    ],
)
def test_part_of_a_study(part, recwarn):
    part = part(SMALL.assign(epoch=SMALL.epoch - 4))
    t = claims(part)
    assert set(t.claim) == set(ALL) and set(t.verdict) <= {HOLDS, DOES_NOT, UNTOLD}
    assert (
        (t[t.n < 2].verdict == UNTOLD).all()
        and t[t.n == 0].setting.str.contains('not run').all()
        and not t[t.n > 0].setting.str.contains('not run').any()
    )
    for text in (claims_markdown(t), claims_markdown(summary(t))):
        assert len({l.count('|') for l in text.splitlines()}) == 1
    assert variant_verdict(variant_evidence(part)).endswith('.')
    assert not [w for w in recwarn.list if issubclass(w.category, RuntimeWarning)]


def test_what_is_missing_has_no_verdict():
    t = claims(HARD[~((HARD.loss == 'dibe_reg') & (HARD.model == 'unet-lite0'))])
    row = t[(t.claim == '1') & t.statement.str.startswith('DIBEReg')].iloc[0]
    assert (
        row.n == 0
        and row.verdict == UNTOLD
        and row.setting.endswith('not run')
        and np.isnan(row.ours)
    )
    assert t[(t.claim == '1') & t.statement.str.startswith('DIBE beats')].verdict.item() == HOLDS


def test_same_table_from_csv_and_in_other_order(tmp_path):
    SMALL.sample(frac=1, random_state=0).to_csv(tmp_path / 't.csv', index=False)
    pd.testing.assert_frame_equal(claims(pd.read_csv(tmp_path / 't.csv')), claims(SMALL))


def test_data_sets_are_judged_apart():
    t = claims(SMALL)
    pd.testing.assert_frame_equal(
        t[t['data'] == 'mtsdd_extreme'].reset_index(drop=True), claims(hard(SMALL))
    )
    assert set(t[t['data'] == 'cfd'].claim) == {'1', '5a', '5b'}


@pytest.mark.parametrize(
    'call,names',
    [
        (lambda: claims(KNOWN.drop(columns=['iou', 'oii'])), ['iou, oii']),
        (lambda: claims(KNOWN.drop(columns='seed')), ['seed']),
        (lambda: claims(KNOWN[:0]), ['empty']),
        (lambda: claims(pd.concat([KNOWN, KNOWN])), ['two rows', 'data=mtsdd_blowhole']),
        (lambda: claims(HARD, target=(0.3, 0.1)), ['reversed']),
        (lambda: claims(HARD, target=(-3, 0.1)), ['-3']),
        (lambda: variant_evidence(KNOWN.drop(columns='oii')), ['oii']),
        (lambda: variant_evidence(KNOWN, data='nowhere'), ['nowhere']),
    ],
)
def test_wrong_tables_are_named_in_one_line(call, names):
    with pytest.raises(InputError) as e:
        call()
    assert all(n in str(e.value) for n in names) and '\n' not in str(e.value)


# --- claims 1 and 2


@pytest.mark.parametrize(
    'gain,verdict',
    [
        ((0.02, 0.021, 0.019), HOLDS),
        ((-0.02, -0.021, -0.019), DOES_NOT),
        ((0.001, 0.0012, 0.0011), DOES_NOT),
        ((0.001, 0.0032, 0.0021), UNTOLD),
        ((0.0002, -0.0001, 0.0003), DOES_NOT),
        ((0.1, -0.1, 0.05), UNTOLD),
    ],
)
def test_claim_1(gain, verdict):
    base = np.array([0.5, 0.3, 0.7])
    rows = _claim_1(iou({('unet-lite0', 'ft'): base, ('unet-lite0', 'dibe_reg'): base + gain}))
    assert (
        rows[0]['verdict'] == verdict
        and rows[0]['ours'] == pytest.approx(np.mean(gain))
        and rows[0]['paper'] == '+0.013 (THC448 (other images))'
    )
    assert rows[1]['verdict'] == UNTOLD and rows[1]['n'] == 0


def test_pairs_are_by_seed():
    a = iou({('unet-lite0', 'ft'): [0.5, 0.3, 0.7]})
    b = iou({('unet-lite0', 'dibe_reg'): [0.51, 0.31, 0.71]}).iloc[::-1]
    x, y = _paired_runs(final(pd.concat([b, a])), 'dibe_reg', 'ft', 'unet-lite0')
    assert x - y == pytest.approx([0.01] * 3)
    x, y = _paired_runs(
        final(pd.concat([b[b.seed != 1], a[a.seed != 2]])), 'dibe_reg', 'ft', 'unet-lite0'
    )
    assert x == pytest.approx([0.51]) and y == pytest.approx([0.5])


def test_an_unfinished_run_enters_no_pair():
    t = iou({('unet-lite0', 'ft'): [0.5, 0.3, 0.7], ('unet-lite0', 'dibe_reg'): [0.52, 0.33, 0.71]})
    rows = _claim_1(t[(t.seed < 2) | (t.epoch < 2) | (t.loss == 'ft')])
    assert rows[0]['n'] == 2


def test_settings_are_named_and_can_be_asked():
    o = pd.concat(
        [
            iou({('unet-lite0', 'ft'): [0.5, 0.5, 0.5]}, fn_weight=0.7),
            iou({('unet-lite0', 'dibe_reg'): [0.6, 0.6, 0.6]}, fn_weight=0.5),
            iou({('unet-lite0', 'dibe_reg'): [0.4, 0.4, 0.4]}, fn_weight=0.7),
        ]
    )
    assert _claim_1(o)[0]['setting'] == 'DIBEReg 0.5 − FT 0.7' and _claim_1(o)[0]['verdict'] == HOLDS
    assert (
        _claim_1(o, fn_weight=0.7)[0]['setting'] == 'DIBEReg 0.7 − FT 0.7'
        and _claim_1(o, fn_weight=0.7)[0]['verdict'] == DOES_NOT
    )


def level(m, l, seeds=4, unet=0.6):
    return (
        np.array([0.002 * s for s in range(seeds)])
        + {'unet': unet, 'segnet': 0.5, 'pspnet': 0.4, 'deeplabv3': 0.45}[m.split('-')[0]]
    )


def test_claim_2_holds_and_fails():
    losses = ['dice', 'tversky', 'ft', 'dibe_reg', 'combo', 'el', 'hf', 'dibe']
    good = _claim_2(
        iou(
            {
                (m, l): level(m, l) + (0.02 if l.startswith('dibe') else 0)
                for m in NETS
                for l in losses
            }
        )
    )
    assert set(of(good, '2a', '2b', '2c', '2d')) == {HOLDS} and len(of(good, '2a')) == 8
    assert [r['ours'] for r in good if r['claim'] == '2a'] == pytest.approx(
        [0.1] * 8
    ) and 'SegNet (strongest of 3)' in good[0]['setting']
    bad = _claim_2(
        iou(
            {
                (m, l): level(m, l, unet=0.47) - (0.02 if l.startswith('dibe') else 0)
                for m in NETS
                for l in losses
            }
        )
    )
    assert set(of(bad, '2a', '2b', '2c', '2d')) == {DOES_NOT} and [
        r['setting'] for r in bad if r['claim'] == '2b'
    ] == ['0 of 32 losses x seeds']


def test_claim_2_counts_one_seed():
    losses = ['dice', 'tversky', 'ft', 'dibe_reg', 'combo', 'el', 'hf', 'dibe']
    one = _claim_2(
        iou(
            {
                (m, l): level(m, l, 1) + (0.02 if l.startswith('dibe') else 0)
                for m in NETS
                for l in losses
            }
        )
    )
    assert set(of(one, '2a', '2b', '2c', '2d')) == {UNTOLD}
    mixed = _claim_2(
        iou(
            {(m, l): level(m, l, 1, 0.6 if l in losses[:5] else 0.47) for m in NETS for l in losses}
        )
    )
    assert of(mixed, '2b') == [UNTOLD] and [r['setting'] for r in mixed if r['claim'] == '2b'] == [
        '5 of 8 losses x seeds'
    ]


def test_one_better_rival_is_enough_against_unet():
    o = iou({(m, 'dice'): level(m, 'dice', unet=0.48) for m in NETS})
    row = _claim_2(o)[0]
    assert (
        row['verdict'] == DOES_NOT
        and row['ours'] == pytest.approx(-0.02)
        and 'SegNet' in row['setting']
    )


def test_another_unet_is_no_rival():
    o = iou(
        {
            ('unet-lite0', 'dice'): [0.5, 0.51, 0.505],
            ('unet-vgg16', 'dice'): [0.9, 0.91, 0.905],
            ('segnet-vgg16', 'dice'): [0.3, 0.31, 0.305],
        }
    )
    o = pd.concat([o, iou({('unet-lite0', 'el'): [0.5, 0.51, 0.505]})])
    assert _claim_2(o)[0]['verdict'] == HOLDS and 'strongest of 1' in _claim_2(o)[0]['setting']


@given(st.integers(0, 40), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_count_interval_holds_the_share(hits, n):
    hits = min(hits, n)
    i = count_interval(hits, n)
    assert (
        0 <= i.low <= hits / n <= i.high <= 1
        and (i.low > 0) == (hits > 0)
        and (i.high < 1) == (hits < n)
    )
    j = count_interval(n - hits, n)
    assert (1 - j.high, 1 - j.low) == pytest.approx((i.low, i.high), abs=1e-9)
    assert count_interval(0, 0).n == 0


# --- claim 3


@pytest.mark.parametrize(
    'dis,verdicts',
    [
        ((0.5, 0.505, 0.51), [HOLDS, HOLDS]),
        ((0.3, 0.31, 0.305), [DOES_NOT, DOES_NOT]),
        ((0.3, 0.7, 0.5), [UNTOLD, UNTOLD]),
        ((0.49, 0.495, 0.5), [HOLDS, HOLDS]),
    ],
)
def test_claim_3(dis, verdicts):
    o = pd.concat(
        [
            iou(
                {
                    ('unet-lite0', 'focal'): [0.5, 0.505, 0.51],
                    ('unet-lite0', 'bce'): [0.4, 0.405, 0.41],
                },
                fn_weight=np.nan,
            ),
            iou({('unet-lite0', 'dibe_dis'): dis}, variant='region'),
        ]
    )
    rows = [r for r in _claim_3(o) if r['setting'].startswith('U-Net')]
    assert [r['verdict'] for r in rows] == verdicts and [r['paper'] for r in rows] == [
        '+0.000',
        '+0.008',
    ]
    assert of(_claim_3(o, variant='class'), '3a', '3b') == [UNTOLD] * 8


# --- claim 4


@given(st.lists(st.integers(-50, 50), min_size=3, max_size=6, unique=True))
@settings(max_examples=40, deadline=None)
def test_order_score_is_kendalls(values):
    from scipy.stats import kendalltau

    o = pd.concat(
        [
            pd.DataFrame(dict(seed=0, fn_weight=w, epoch=[1, 2, 3, 4], oii=v / 50))
            for w, v in enumerate(values)
        ]
    )
    got, back = order_scores(o).iloc[0], order_scores(o.assign(fn_weight=-o.fn_weight)).iloc[0]
    assert (
        got.order == pytest.approx(-kendalltau(range(len(values)), values)[0])
        and back.order == pytest.approx(-got.order)
        and back.span == pytest.approx(-got.span)
    )


def test_order_takes_the_late_epochs_and_forgives_slack():
    o = sweep([0.9, 0.7, 0.5, 0.3, 0.1], seeds=1)
    crossed = o.assign(oii=np.where((o.epoch <= 4) & (o.fn_weight == 0.9), 1.0, o.oii))
    assert order_scores(crossed)[['order', 'ordered', 'span']].iloc[0].tolist() == pytest.approx(
        [1, 1, 0.8]
    )
    late = o.assign(oii=np.where((o.epoch >= 7) & (o.fn_weight == 0.9), 1.0, o.oii))
    assert order_scores(late)[['order', 'ordered']].iloc[0].tolist() == pytest.approx([0.2, 0.5])
    near = sweep([0.9, 0.7, 0.5, 0.3, 0.31], seeds=1)
    assert (
        order_scores(near).ordered[0] == 1
        and order_scores(near, slack=0).ordered[0] == 0
        and order_scores(near).order[0] == 0.8
    )


def test_order_needs_three_finished_weights():
    o = sweep([0.9, 0.7, 0.5, 0.3, 0.1], seeds=1)
    assert len(order_scores(o[o.fn_weight < 0.4])) == 0
    assert order_scores(o[(o.fn_weight < 0.8) | (o.epoch < 3)]).weights[0] == 4
    assert len(order_scores(o[:0])) == 0


@pytest.mark.parametrize(
    'oiis,a,c',
    [
        ([0.9, 0.7, 0.5, 0.3, 0.1], HOLDS, HOLDS),
        ([0.1, 0.3, 0.5, 0.7, 0.9], DOES_NOT, DOES_NOT),
        ([0.5, 0.49, 0.48, 0.47, 0.46], HOLDS, DOES_NOT),
    ],
)
def test_claim_4_order_and_span(oiis, a, c):
    rows = _claim_4(pd.concat([sweep(oiis, jitter=0.001, model=m) for m in NETS[:2]]))
    told = [r for r in rows if r['setting'].startswith('Tversky')]
    assert (
        set(of(told, '4a')) == {a}
        and set(of(told, '4b')) == {DOES_NOT if oiis[0] < oiis[-1] else HOLDS}
        and len(of(told, '4a')) == 2
    )
    span = of(told, '4c')
    assert (
        set(span) == {c}
        if c == DOES_NOT and oiis[0] < oiis[-1]
        else set(span) == {HOLDS if oiis[0] - oiis[-1] > 0.1 else DOES_NOT}
    )
    assert set(
        of(
            [r for r in rows if not r['setting'].startswith('Tversky')],
            '4a',
            '4b',
            '4c',
            '4d',
            '4e',
            '4f',
        )
    ) == {UNTOLD}


def test_seeds_that_disagree_cannot_be_told():
    o = pd.concat(
        [
            sweep(v, seeds=1).assign(seed=s)
            for s, v in enumerate(
                ([0.9, 0.7, 0.5, 0.3, 0.1], [0.1, 0.3, 0.5, 0.7, 0.9], [0.9, 0.7, 0.5, 0.3, 0.1])
            )
        ]
    )
    assert (
        of([r for r in _claim_4(o) if r['setting'] == 'Tversky, U-Net'], '4a', '4b', '4c')
        == [UNTOLD] * 3
    )


@pytest.mark.parametrize(
    'klass,verdict',
    [
        ([0.9, 0.7, 0.5, 0.3, 0.1], DOES_NOT),
        ([0.5, 0.5, 0.5, 0.5, 0.5], HOLDS),
        ([0.1, 0.3, 0.5, 0.7, 0.9], HOLDS),
        (None, UNTOLD),
    ],
)
def test_focal_lacks_control_only_if_its_class_weight_does(klass, verdict):
    o = sweep([0.9, 0.8, 0.7, 0.6, 0.5], loss='dibe_dis', variant='region', jitter=0.001)
    if klass:
        o = pd.concat([o, sweep(klass, loss='dibe_dis', variant='class', jitter=0.001)])
    row = [r for r in _claim_4(o) if r['claim'] == '4d' and 'U-Net' in r['setting']][0]
    assert row['verdict'] == verdict


@pytest.mark.parametrize('wander,verdict', [(0.05, HOLDS), (0.9, DOES_NOT)])
def test_focal_wanders(wander, verdict):
    focal = sweep([0.5], loss='focal', weights=(np.nan,))
    focal['oii'] += np.where(focal.epoch % 2 == 0, wander, 0) + 0.001 * focal.seed * focal.epoch / 9
    o = pd.concat(
        [sweep([0.9, 0.8, 0.7, 0.6, 0.5], loss='dibe_dis', variant='region', jitter=0.001), focal]
    )
    assert _focal_wander(o, 'unet-lite0').wander.tolist() == pytest.approx([wander] * 3, abs=0.002)
    row = [r for r in _claim_4(o) if r['claim'] == '4e' and 'U-Net' in r['setting']][0]
    assert row['verdict'] == verdict and row['ours'] == pytest.approx(0.4 - wander, abs=0.003)


@pytest.mark.parametrize(
    'oiis,verdict', [([0.9, 0.8, 0.7, 0.6, 0.5], HOLDS), ([0.9, 0.8, 0.1, -0.1, -0.2], DOES_NOT)]
)
def test_curves_above_0(oiis, verdict):
    row = [
        r
        for r in _claim_4(sweep(oiis, loss='dibe_dis', variant='region'))
        if r['claim'] == '4f' and 'U-Net' in r['setting']
    ][0]
    assert row['verdict'] == verdict and row['ours'] == pytest.approx(np.mean(np.array(oiis) > 0))


def test_class_variant_is_focal_with_another_class_weight():
    "What claim 4d rests on"
    import torch
    from imbal_al.losses.pixel import DIBEDisLoss, FocalLoss

    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 1, 9, 9, generator=g), (torch.rand(2, 1, 9, 9, generator=g) < 0.2).float()
    a, d = 0.7, 0.25
    c = a * d + (1 - a) * (1 - d)
    dis, focal = DIBEDisLoss(variant='class', fn_weight=a, class_weight=d, gamma=0.3), FocalLoss(
        class_weight=a * d / c, gamma=0.3
    )
    assert float(dis(x, y)) == pytest.approx(c * float(focal(x, y)), rel=1e-5)


# --- claim 5


def curves(ft, reg, seeds=3, shift=0):
    return pd.concat(
        [
            pd.DataFrame(
                dict(
                    data='cfd',
                    model='unet-lite0',
                    loss=l,
                    variant='',
                    fn_weight=0.5,
                    seed=s,
                    epoch=np.arange(1, len(c) + 1) * 2,
                    iou=np.asarray(c) * (1 + 0.01 * s),
                    precision=0.5,
                    oii=0.1,
                )
            )
            for l, c in (('ft', ft), ('dibe_reg', reg))
            for s in range(seeds)
        ]
    )


@pytest.mark.parametrize(
    'ft,reg,ours,verdict',
    [
        ([0, 0, 0, 0.3, 0.5], [0.3, 0.5, 0.5, 0.5, 0.5], (6, 6), HOLDS),
        ([0.3, 0.5, 0.5, 0.5, 0.5], [0, 0, 0, 0.3, 0.5], (-6, -6), DOES_NOT),
        ([0, 0.5, 0.5, 0.5, 0.5], [0, 0.5, 0.5, 0.5, 0.5], (0, 0), UNTOLD),
        ([0, 0, 0, 0, 0], [0.3, 0.5, 0.5, 0.5, 0.5], (10, 10), HOLDS),
        ([0.1, 0.1, 0.1, 0.1, 0.1], [0, 0.6, 0.6, 0.6, 0.6], (-2, 8), DOES_NOT),
    ],
)
def test_claim_5(ft, reg, ours, verdict):
    rows = _claim_5(curves(ft, reg))
    assert [r['ours'] for r in rows] == pytest.approx(list(ours)) and rows[0]['verdict'] == verdict
    assert ('FT never in 3 of 3' in rows[1]['setting']) == (ft[-1] < 0.3)


def test_claim_5_one_seed():
    assert of(_claim_5(curves([0, 0, 0.5], [0.5, 0.5, 0.5], 1)), '5a', '5b') == [UNTOLD] * 2


# --- claim 6


def guided(rows, claim, loss='Tversky'):
    return [
        r
        for r in rows
        if r['claim'] == claim and r['setting'].startswith(loss) and 'U-Net' in r['setting']
    ][0]


def test_guidance_that_gains_precision():
    row = guided(
        _claim_6(
            sweep([0.5, 0.2, 0, -0.1, -0.2], precisions=[0.9, 0.8, 0.6, 0.5, 0.4], jitter=0.001)
        ),
        '6a',
    )
    assert (
        row['verdict'] == HOLDS
        and row['ours'] == pytest.approx(0.2)
        and row['value'] == 'precision'
        and row['setting'] == 'Tversky, U-Net, precision'
        and row['paper'] == 'IoU -0.007, PA +0.081'
    )


def test_guidance_that_loses_both():
    row = guided(
        _claim_6(
            sweep(
                [0.5, 0.2, 0, -0.1, -0.2],
                ious=[0.3, 0.3, 0.5, 0.5, 0.5],
                precisions=[0.1, 0.2, 0.6, 0.5, 0.4],
                jitter=0.001,
            )
        ),
        '6a',
    )
    assert row['verdict'] == DOES_NOT


def test_guidance_that_need_not_move_has_nothing_to_show():
    row = guided(_claim_6(sweep([0.5, 0.4, 0.2, 0, -0.2])), '6a')
    assert (
        row['n'] == 0
        and row['verdict'] == UNTOLD
        and '3 of 3 seeds started inside the target' in row['setting']
    )


@pytest.mark.parametrize(
    'ious,verdict', [([0.5, 0.52, 0.5, 0.5, 0.5], HOLDS), ([0.5, 0.3, 0.6, 0.5, 0.5], DOES_NOT)]
)
def test_guidance_against_the_grid(ious, verdict):
    rows = _claim_6(sweep([0.5, 0.2, 0, -0.1, -0.2], ious=ious, jitter=0.001))
    assert guided(rows, '6b')['verdict'] == verdict
    assert (
        rows[-1]['claim'] == '6c'
        and rows[-1]['verdict'] == HOLDS
        and rows[-1]['ours'] == 3
        and rows[-1]['n'] == 3
    )


def test_seeds_that_disagree_about_the_grid():
    o = pd.concat(
        [
            sweep(
                [0.5, 0.2, 0, -0.1, -0.2], ious=[0.5, 0.3 + 0.15 * s, 0.6, 0.5, 0.5], seeds=1
            ).assign(seed=s)
            for s in range(3)
        ]
    )
    assert guided(_claim_6(o), '6b')['verdict'] == UNTOLD


def test_fewer_trainings_is_a_count_over_settings():
    o = pd.concat(
        [
            sweep(
                [0.5, 0.2, 0, -0.1, -0.2],
                seeds=1,
                model=m,
                loss=l,
                variant='region' if l == 'dibe_dis' else '',
            )
            for m in NETS[:2]
            for l in ('tversky', 'dibe_reg', 'dibe_dis')
        ]
    )
    last = _claim_6(o)[-1]
    assert (
        last['n'] == 6
        and last['verdict'] == HOLDS
        and guided(_claim_6(o), '6b')['verdict'] == UNTOLD
    )


# --- claim 7


def variants(good='region', seeds=3, **other):
    parts = [
        sweep(
            other.get(v, [0.9, 0.8, 0.7, 0.6, 0.5] if v == good else [0.5, 0.2, 0, -0.2, -0.5]),
            loss='dibe_dis',
            variant=v,
            model=m,
            jitter=0.001,
            seeds=seeds,
        )
        for v in VARIANTS
        for m in NETS[:2]
    ]
    focal = [
        sweep(
            [0.5], ious=[0.5], loss='focal', weights=(np.nan,), model=m, seeds=seeds, jitter=0.001
        )
        for m in NETS[:2]
    ]
    return pd.concat(parts + focal)


@pytest.mark.parametrize('good', VARIANTS)
def test_the_right_variant_is_found(good):
    e = variant_evidence(variants(good))
    assert set(e[(e.variant == good)].verdict) == {HOLDS} and set(
        e[(e.loss == 'dibe_dis') & (e.variant != good)].verdict
    ) == {DOES_NOT}
    assert set(e[e.loss == 'tversky'].verdict) == {UNTOLD} and (e[e.loss == 'tversky'].n == 0).all()
    text = variant_verdict(e)
    assert (
        text.endswith(f'The evidence is for `{good}`.') and f'`{good}` does, on 2 networks' in text
    )
    row = e[e.variant == good].iloc[0]
    assert [
        row[k]
        for k in (
            'order',
            'ordered',
            'span',
            'positive',
            'iou_half',
            'iou_best',
            'focal_iou',
            'n',
            'weights',
        )
    ] == pytest.approx([1, 1, 0.4, 1, 0.501, 0.501, 0.501, 3, 5])


def test_none_or_two_variants_are_said_so():
    assert 'No variant meets all three demands' in variant_verdict(
        variant_evidence(variants('none'))
    )
    two = variant_verdict(
        variant_evidence(variants('region', **{'class': [0.9, 0.8, 0.7, 0.6, 0.5]}))
    )
    assert two.endswith('The evidence does not choose between `region` and `class`.')
    assert 'No variant' in variant_verdict(
        variant_evidence(variants(seeds=1))
    ) and 'inconclusive' in variant_verdict(variant_evidence(variants(seeds=1)))


def test_a_variant_with_poor_iou_is_not_focal_like():
    o = variants()
    o.loc[o.variant == 'region', 'iou'] -= 0.2
    e = variant_evidence(o)
    assert set(e[e.variant == 'region'].is_focal_like) == {
        DOES_NOT
    } and 'it fails IoU as Focal (in 2 of 2 networks)' in variant_verdict(e)


def test_curves_that_do_not_move_are_no_control():
    flat = order_scores(sweep([0.52, 0.51, 0.5, 0.49, 0.48], jitter=0.0001))
    assert (
        (flat.order == 1).all()
        and _control(flat) == DOES_NOT
        and _control(order_scores(sweep([0.7, 0.6, 0.5, 0.4, 0.3]))) == HOLDS
    )


def test_claim_7_says_which_demand_failed():
    rows = _claim_7(variants())
    assert (
        len(rows) == 8
        and 'OII above 0: does not'
        in [r for r in rows if '`class`' in r['statement']][0]['setting']
    )


def test_best_weight_and_iou():
    o = variants()
    o.loc[(o.variant == 'region') & (o.fn_weight == 0.7), 'iou'] += 0.1
    row = variant_evidence(o).query("variant=='region'").iloc[0]
    assert (
        row.best_weight == 0.7
        and row.iou_best == pytest.approx(0.601)
        and row.iou_half == pytest.approx(0.501)
    )


# --- what used to say too much


def test_collapsed_networks_are_ties_and_no_losses():
    "2d: by hand, three networks at 0.000 with both losses, and one that gains in three seeds"
    dead = {(m, l): [0.0] * 3 for m in NETS if m != 'unet-lite0' for l in ('ft', 'dibe_reg')}
    alive = {('unet-lite0', 'ft'): [0.4, 0.5, 0.6], ('unet-lite0', 'dibe_reg'): [0.41, 0.52, 0.61]}
    row = [r for r in _claim_2(iou(dead | alive)) if r['claim'] == '2d'][0]
    assert row['setting'] == '3 of 3 networks x seeds' and row['verdict'] == UNTOLD
    assert (row['n'], row['low']) == (3, pytest.approx(0.025 ** (1 / 3)))


@pytest.mark.parametrize('seeds,n,verdict', [(1, 1, UNTOLD), (2, 2, UNTOLD), (3, 3, HOLDS)])
def test_losses_of_one_seed_are_one_trial(seeds, n, verdict):
    rows = _claim_2(iou({(m, l): level(m, l, seeds) for m in NETS for l in ('ft', 'el', 'dice')}))
    row = [r for r in rows if r['claim'] == '2b'][0]
    assert (row['n'], row['verdict']) == (n, verdict)
    assert row['setting'] == f'{3*seeds} of {3*seeds} losses x seeds'


def test_two_seeds_give_no_verdict_in_any_claim():
    t = claims(hard(SMALL[SMALL.seed < 2]))
    assert set(t[t.n < 3].verdict) - {UNTOLD} <= {DOES_NOT}
    assert set(t[(t.n < 3) & (t.verdict == DOES_NOT)].claim) <= {'4d'}


@pytest.mark.parametrize(
    'high,verdict', [(0.8994, UNTOLD), (0.86, UNTOLD), (0.84, DOES_NOT), (0.95, UNTOLD)]
)
def test_no_third_digit_decides_4f(high, verdict):
    assert _mostly(Interval(high - 0.1, high - 0.2, high, 3)) == verdict
    assert _mostly(Interval(0.95, 0.91, 0.99, 3)) == HOLDS


@pytest.mark.parametrize(
    'oiis,verdict,p',
    [
        ([0.9, 0.7, 0.5, 0.3, 0.1], DOES_NOT, '0.0083'),
        ([0.7, 0.9, 0.5, 0.3, 0.1], DOES_NOT, '0.042'),
        ([0.7, 0.9, 0.3, 0.5, 0.1], UNTOLD, '0.12'),
        ([0.50, 0.49, 0.48, 0.47, 0.46], UNTOLD, '0.0083'),
    ],
)
def test_one_curve_of_five_trainings_decides_4d(oiis, verdict, p):
    "p by hand: 1, 1 + 4 and 1 + 4 + 9 of 120 orders; curves that lie together are no control"
    both = pd.concat([sweep(oiis, loss='dibe_dis', variant=v, seeds=1) for v in ('class', 'region')])
    row = [r for r in _claim_4(both) if r['claim'] == '4d' and r['n']][0]
    assert row['verdict'] == verdict and row['setting'].endswith(f'exact p = {p}')


def test_pooled_losses():
    "By hand: 0.01 -/+ 0.001 in four data sets; and 4 x 3 pairs of which one data set is far off"
    noise = np.array([-0.001, 0, 0.001])
    sets = ('mtsdd_extreme', 'mtsdd_blowhole', 'mtsdd_crack', 'cfd')

    def gains(by_set):
        parts = []
        for name, gain in zip(sets, by_set):
            low = {('unet-lite0', l): [0.4, 0.5, 0.6] for l in ('ft', 'hf')}
            up = np.array([0.4, 0.5, 0.6]) + gain + noise
            high = {('unet-lite0', l): up for l in ('dibe_reg', 'dibe')}
            parts.append(iou(low | high, data=name))
        return pooled_losses(pd.concat(parts))

    rows = gains([0.01] * 4)
    assert rows.verdict.tolist()[:2] == [DOES_NOT] * 2 and rows.ours[0] == pytest.approx(0.01)
    assert in_words(rows.iloc[0]).startswith('no larger than 0.011') and rows.n[0] == 12
    assert gains([0.03] * 4).verdict[0] == HOLDS
    wide = gains([0.0, 0.0, 0.0, 0.2])
    t = stats.t.interval(0.95, 3, 0.05, stats.sem([0, 0, 0, 0.2]))
    assert wide.verdict[0] == UNTOLD
    assert (wide.low[0], wide.high[0]) == pytest.approx(t, abs=1e-3)  # equal errors: plain means
    assert rows.verdict[2] == UNTOLD and rows.n[2] == 0
