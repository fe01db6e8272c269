"imbal_al.results.loss_figures: tables against hand-made numbers, partial and wrong tables, what the figures draw and say"

import io
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest

from imbal_al.core import InputError
from imbal_al.results.loss_figures import (
    _end_labels, _of_model, _weight_color, fig10, fig11, fig14, fig9,
)
from imbal_al.results.loss_tables import (
    epochs_to_half, final, loss_left, made_up_losses, one_setting, paper_table, replays, RUN, setting,
    table3, table4, TABLE5, table5, table6, table6_markdown, table_markdown,
)
from imbal_al.results.plotting import alt_text

RESULTS = made_up_losses(epochs=8, half=dict(ft=5.0, tversky=4.0, dibe_reg=2.0))
FIGURES, TABLES = (fig9, fig10, fig11, fig14), (table3, table4, table5, table6)
PARTS = {
    'one seed': lambda r: r[r.seed == 0],
    'one epoch': lambda r: r[r.epoch == 1],
    'one row': lambda r: r.iloc[:1],
    'one loss': lambda r: r[r.loss == 'ft'],
    'cfd only': lambda r: r[r['data'] == 'cfd'],
    'no U-Net': lambda r: r[r.model != 'unet-lite0'],
    'only PSPNet': lambda r: r[r.model == 'pspnet-lite0'],
    'running': lambda r: r[(r.seed == 0) | ((r.seed == 1) & (r.epoch < 5))],
    'no grid': lambda r: r[r.fn_weight.isna() | r.fn_weight.isin([0.5, 0.7])],
    'unknown names': lambda r: r.assign(
        data='leaves', model='fpn-b3', loss=r.loss + '2'
    ).drop_duplicates([*RUN, 'epoch']),
    'nothing found': lambda r: r.assign(iou=0.0, precision=np.nan, oii=1.0, tp=0, fp=0),
}


def draw(fig):
    fig.canvas.draw()
    return fig


def make(
    data='cfd', model='unet-lite0', loss='tversky', variant='', fn_weight=0.5, seeds=1, **columns
):
    "A hand-made table: one row per epoch and seed"
    n = max(len(v) for v in columns.values())
    return pd.concat(
        [
            pd.DataFrame(
                dict(
                    data=data,
                    model=model,
                    loss=loss,
                    variant=variant,
                    fn_weight=fn_weight,
                    seed=s,
                    epoch=range(1, n + 1),
                    **columns,
                )
            )
            for s in range(seeds)
        ]
    )


# --- runs


def test_a_table_read_from_csv_is_the_same():
    back = pd.read_csv(io.StringIO(RESULTS.to_csv(index=False)))
    assert back.variant.isna().any()
    for f in TABLES:
        pd.testing.assert_frame_equal(f(back), f(RESULTS))
    assert alt_text(fig10(back)) == alt_text(fig10(RESULTS))


def test_final_is_the_last_epoch_in_whatever_order():
    shuffled = RESULTS.sample(frac=1, random_state=1)
    a, b = (final(o).set_index(RUN).iou.sort_index() for o in (shuffled, RESULTS))
    pd.testing.assert_series_equal(a, b)
    assert set(final(shuffled).epoch) == {8} and len(final(RESULTS)) == len(RESULTS) / 8


def test_a_run_that_stopped_early_is_marked_and_left_out():
    stopped = RESULTS[
        ~(
            (RESULTS.loss == 'dice')
            & (RESULTS.model == 'unet-lite0')
            & (RESULTS.seed == 2)
            & (RESULTS.epoch > 3)
        )
    ]
    assert final(stopped).complete.value_counts().to_dict() == {
        True: len(final(RESULTS)) - 1,
        False: 1,
    }
    t = table4(stopped).query("loss=='dice' and model=='unet-lite0'").iloc[0]
    assert (t.n, t.left_out) == (2, 1) and '(2), 1 unfinished' in table_markdown(table4(stopped))
    ok = (
        final(RESULTS)
        .query("data=='mtsdd_extreme' and loss=='dice' and model=='unet-lite0' and seed<2")
        .iou
    )
    assert t.ours == pytest.approx(ok.mean()) and t.sd == pytest.approx(ok.std())


def test_the_input_stays_as_it_was():
    before = RESULTS.copy(deep=True)
    for f in (*TABLES, *FIGURES):
        f(RESULTS)
    pd.testing.assert_frame_equal(RESULTS, before)


# --- settings


def test_setting_is_by_runs_and_never_by_score():
    o = pd.concat(
        [
            make(fn_weight=w, seeds=s, iou=[i])
            for w, s, i in ((0.1, 2, 0.9), (0.7, 3, 0.1), (0.3, 3, 0.5))
        ]
    )
    assert setting(o, 'tversky') == ('', 0.7)
    assert setting(o.assign(iou=1 - o.iou), 'tversky') == ('', 0.7)
    assert setting(o[o.seed < 2], 'tversky') == ('', 0.7) and setting(
        o[(o.seed < 2) & (o.fn_weight < 0.6)], 'tversky'
    ) == ('', 0.3)


def test_setting_takes_what_is_asked():
    o = pd.concat(
        [
            make(loss='dibe_dis', variant=v, fn_weight=w, iou=[0.5])
            for v in ('class', 'region')
            for w in (0.3, 0.5, 0.9)
        ]
    )
    assert (
        setting(o, 'dibe_dis') == ('region', 0.5)
        and setting(o, 'dibe_dis', 0.3) == ('region', 0.3)
        and setting(o, 'dibe_dis', {'dibe_dis': 0.9}, 'class') == ('class', 0.9)
    )
    assert setting(o, 'dibe_dis', {'ft': 0.9}) == ('region', 0.5)
    assert (
        setting(o, 'dibe_dis', 0.77)[0] == ''
        and np.isnan(setting(o, 'dibe_dis', 0.77)[1])
        and len(one_setting(o, 'dibe_dis', 0.77)) == 0
    )
    assert len(one_setting(o, 'dibe_dis', 0.1 + 0.2)) == 1


def test_a_loss_without_weight_is_found_whatever_weight_is_asked():
    o = make(loss='dice', fn_weight=np.nan, seeds=2, iou=[0.5])
    assert (
        len(one_setting(o, 'dice', 0.7)) == 2
        and len(one_setting(o, 'dice', {'dice': 0.7}, 'class')) == 2
    )


def test_setting_of_a_data_set_holds_for_all_its_networks():
    o = _of_model(RESULTS[RESULTS['data'] == 'mtsdd_extreme'], ['tversky'], 'unet-lite0')
    assert set(o.fn_weight) == {0.7} == set(table4(RESULTS).query("loss=='tversky'").fn_weight)


# --- tables


@pytest.mark.parametrize('number', range(1, 7))
def test_reference_is_the_papers(number):
    own = Path(__file__).resolve().parent.parent / 'data' / 'reference'
    pd.testing.assert_frame_equal(paper_table(number), pd.read_csv(own / f'table{number}.csv'))


def test_reference_not_found(tmp_path, monkeypatch):
    with pytest.raises(InputError, match='has no table3.csv'):
        paper_table(3, tmp_path)
    with pytest.raises(InputError):
        paper_table(7)
    import imbal_al.results.loss_tables as module

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, '__file__', str(tmp_path / 'a' / 'b' / 'results' / 'loss_tables.py'))
    assert paper_table(3) is None
    for f in TABLES:
        assert f(RESULTS).filter(like='paper').select_dtypes('number').isna().all(axis=None)
    assert '/ 0.' not in table_markdown(table4(RESULTS)) and 'not run' not in table_markdown(
        table5(RESULTS)
    )


def test_table4_beside_the_paper():
    t = table4(RESULTS)
    want = paper_table(4).melt('loss')
    assert (
        len(t) == 32
        and sorted(t.paper) == pytest.approx(sorted(want.value))
        and set(t.paper_data) == {'THC448 (other images)'}
    )
    assert t.query("loss=='el' and model=='deeplabv3-lite0'").paper.item() == 0.553
    same = table4(RESULTS.assign(data=RESULTS['data'].replace('mtsdd_extreme', 'thc448')))
    assert set(same.paper_data) == {'THC448'} and set(same['data']) == {'thc448'}


def test_table5_beside_the_paper():
    t = table5(RESULTS)
    assert t.pivot(index='data', columns='loss', values='paper').loc[
        ['mtsdd_extreme', 'mtsdd_blowhole', 'mtsdd_crack', 'cfd'], list(TABLE5)
    ].to_numpy() == pytest.approx(paper_table(5)[['FT', 'DIBEReg', 'HF', 'DIBE']].to_numpy())
    assert (t.n == 3).all() and t.paper_data.unique().tolist() == [
        'THC448 (other images)',
        'Blowhole (other crops)',
        'Crack (other crops)',
        'CFD (own split)',
    ]
    own = final(RESULTS).query("data=='cfd' and loss=='hf' and model=='unet-lite0'").iou
    assert t.query("data=='cfd' and loss=='hf'").ours.item() == pytest.approx(own.mean())


def test_one_seed_has_no_spread():
    t = table4(RESULTS[RESULTS.seed == 1])
    assert t.sd.isna().all() and (t.n == 1).all() and '±' not in table_markdown(t).split('\n', 1)[1]


def test_what_was_not_run_says_so():
    t = table4(RESULTS[(RESULTS.loss != 'combo') & (RESULTS.model != 'pspnet-lite0')])
    assert (
        (t[(t.loss == 'combo') | (t.model == 'pspnet')].n == 0).all()
        and (t[(t.loss != 'combo') & (t.model != 'pspnet')].n == 3).all()
        and len(t) == 32
    )
    assert table_markdown(t).count('not run') == 4 + 7


@pytest.mark.parametrize('part', PARTS)
@pytest.mark.parametrize('table', TABLES)
def test_part_of_a_study(table, part, recwarn):
    t = table(PARTS[part](RESULTS))
    assert len(t) and (t.n >= 0).all()
    text = table6_markdown(t) if table is table6 else table_markdown(t)
    lines = [l for l in text.splitlines() if l.startswith('|')]
    assert len(lines) > 2 and len({l.count('|') for l in lines}) == 1 and 'nan' not in text
    assert not [w for w in recwarn.list if issubclass(w.category, RuntimeWarning)]


# --- table 6


def grid(oiis, ious=(0.5, 0.6, 0.7, 0.6, 0.5), **kw):
    return pd.concat(
        [
            make(fn_weight=w, oii=[0.9, o], iou=[0.1, i], precision=[0.2, 1 - w / 2], **kw)
            for w, o, i in zip((0.1, 0.3, 0.5, 0.7, 0.9), oiis, ious)
        ]
    )


def by_method(t):
    return t.set_index('method')


@pytest.mark.parametrize(
    'oiis,path,stop',
    [
        ([0.6, 0.4, 0.2, 0, -0.2], '0.5', 'inside'),
        ([0.9, 0.8, 0.5, 0.2, 0.1], '0.5 → 0.7', 'inside'),
        ([0.5, 0.2, 0, -0.1, -0.2], '0.5 → 0.3', 'inside'),
        ([0.2, 0.05, 0, -0.1, -0.2], '0.5 → 0.3 → 0.1', 'inside'),
        ([0.9, 0.9, 0.9, 0.9, 0.9], '0.5 → 0.7 → 0.9', 'exhausted'),
        ([0.9, 0.4, 0.05, -0.1, -0.2], '0.5 → 0.3', 'exhausted'),
    ],
)
def test_replay_takes_the_papers_path(oiis, path, stop):
    t = by_method(replays(grid(oiis), losses=['tversky']))
    assert (t.path['oii'], t.stop['oii'], t.times['oii'], t.times['grid'], t.times['basic']) == (
        path,
        stop,
        path.count('→') + 1,
        5,
        1,
    )


def test_replay_scores_are_the_last_epochs():
    t = by_method(
        replays(grid([0.9, 0.8, 0.5, 0.2, 0.1], [0.5, 0.75, 0.7, 0.6, 0.5]), losses=['tversky'])
    )
    assert t.iou.to_dict() == {
        'basic': 0.7,
        'grid': 0.75,
        'oii': 0.6,
    } and t.fn_weight.to_dict() == {'basic': 0.5, 'grid': 0.3, 'oii': 0.7}
    assert t.precision['oii'] == pytest.approx(0.65) and t.oii['oii'] == pytest.approx(0.2)


def test_target_moves_the_path():
    o = grid([0.9, 0.8, 0.5, 0.2, 0.1])
    assert by_method(replays(o, (0.4, 0.6), losses=['tversky'])).path['oii'] == '0.5'
    assert by_method(replays(o, (-1, -0.5), losses=['tversky'])).path['oii'] == '0.5 → 0.7 → 0.9'
    for bad in ((0.3, 0.1), (-2, 0), (0.1,), 'x'):
        with pytest.raises(InputError) as e:
            replays(o, bad)
        assert '\n' not in str(e.value)


def test_a_hole_or_an_unfinished_run_has_no_result():
    o = grid([0.2, 0.05, 0, -0.1, -0.2])
    for hole in (o[o.fn_weight != 0.1], o[(o.fn_weight != 0.1) | (o.epoch < 2)]):
        t = by_method(replays(hole, losses=['tversky']))
        assert t.missing.to_dict() == {
            'basic': '',
            'grid': '0.1',
            'oii': '0.1',
        } and t.iou.isna().to_dict() == {'basic': False, 'grid': True, 'oii': True}
        assert by_method(table6(hole, losses=['tversky'])).n.to_dict() == {
            'basic': 1,
            'grid': 0,
            'oii': 0,
        }
    t = by_method(replays(o[o.fn_weight != 0.9], losses=['tversky']))
    assert t.missing.to_dict() == {'basic': '', 'grid': '0.9', 'oii': ''}


def test_table6_over_seeds():
    o = pd.concat(
        [
            grid([0.9, 0.8, 0.5, 0.2, 0.1]),
            grid([0.6, 0.4, 0.2, 0, -0.2], (0.5, 0.6, 0.8, 0.6, 0.5)).assign(seed=1),
        ]
    )
    t = by_method(table6(o, losses=['tversky']))
    assert (
        t.times['oii'] == 1.5
        and t.fn_weight['oii'] == '0.7, 0.5'
        and t.iou['oii'] == pytest.approx(0.7)
        and t.iou_sd['oii'] == pytest.approx(np.std([0.6, 0.8], ddof=1))
    )
    assert (
        t.paper_iou.to_dict() == {'basic': 0.642, 'grid': 0.642, 'oii': 0.635}
        and t.paper_fn_weight['oii'] == 0.1
    )
    assert '| 1.5 / 3 | 0.7, 0.5 / 0.1 | 0.700 ± 0.141 (2) / 0.635 |' in table6_markdown(
        table6(o, losses=['tversky'])
    )


# --- figures


@pytest.mark.parametrize('part', PARTS)
@pytest.mark.parametrize('fig', FIGURES)
def test_figure_of_part_of_a_study(fig, part):
    f = draw(fig(PARTS[part](RESULTS)))
    text = alt_text(f)
    assert text.endswith('.') and 'nan' not in text and '\n' not in text
    assert f.get_size_inches()[0] <= 6 and f.get_size_inches()[1] <= 3 and f.dpi <= 90
    for a in f.axes:
        assert a.get_title('left') or a.texts or not a.lines


def test_settings_of_matplotlib_stay():
    before = dict(matplotlib.rcParams)
    for f in FIGURES:
        draw(f(RESULTS))
    assert dict(matplotlib.rcParams) == before


def test_fig9_ratio_and_index():
    rows = pd.concat(
        [
            make(fn_weight=w, tp=[1, 1, 1], fn=fn, fp=fp, oii=o, iou=[0.1, 0.2, 0.3])
            for w, fn, fp, o in (
                (0.1, [8, 6, 5], [0, 2, 1], [1, 0.5, 0.8]),
                (0.9, [1, 2, 1], [4, 4, 8], [-0.5, -0.2, -0.8]),
            )
        ]
    )
    f = draw(fig9(rows))
    left, right = f.axes
    got = {
        tuple(l.get_color()) if not isinstance(l.get_color(), str) else l.get_color(): np.asarray(
            l.get_ydata(), float
        )
        for l in left.lines
        if len(l.get_xdata()) == 3
    }
    np.testing.assert_allclose(got[_weight_color(0.1)], [np.nan, 3, 5])
    np.testing.assert_allclose(got[_weight_color(0.9)], [0.25, 0.5, 0.125])
    assert [
        list(l.get_xdata()) for l in left.lines if l.get_marker() == '^' and len(l.get_xdata())
    ] == [[1]]
    assert (left.get_ylabel(), right.get_ylabel(), left.get_xlabel(), right.get_xlabel()) == (
        'FN/FP',
        'OII',
        'epoch',
        'epoch',
    )
    assert right.get_ylim()[0] <= -1 and right.get_ylim()[1] >= 1 and left.get_ylim()[0] == 0
    assert (
        'infinite at 1 point' in alt_text(f)
        and '50 % of its values are squeezed' in alt_text(f)
        and 'OII runs from -0.80 to 1.00' in alt_text(f)
    )
    assert {'0.1', '0.9'} <= {t.get_text() for t in right.texts}


def test_fig9_median_over_seeds():
    rows = pd.concat(
        [
            make(tp=[1], fn=[n], fp=[1], oii=[o], iou=[0.3]).assign(seed=s)
            for s, (n, o) in enumerate([(1, 0.0), (2, 0.3), (90, 0.9)])
        ]
    )
    assert fig9(rows).axes[1].lines[1].get_ydata()[0] == pytest.approx(
        0.3
    ) and 'median of 3 seeds' in fig9(rows).axes[1].get_title('left')


def test_fig10_panels_lines_and_focal():
    f = draw(fig10(RESULTS))
    assert [a.get_title('left') for a in f.axes] == [
        'Tversky, SegNet, 3 seeds',
        'Tversky, U-Net, 3 seeds',
        'DIBEDis, SegNet, 3 seeds',
        'DIBEDis, U-Net, 3 seeds',
    ]
    for a in f.axes:
        assert len(a.lines) == 7 and len(a.collections) == 5
        assert [t.get_text() for t in a.texts if t.get_text() not in ('fn_weight', 'Focal')] == [
            '0.9',
            '0.7',
            '0.5',
            '0.3',
            '0.1',
        ]
    want = (
        RESULTS.query(
            "data=='mtsdd_extreme' and model=='unet-lite0' and loss=='tversky' and fn_weight==.9"
        )
        .groupby('epoch')
        .oii
    )
    line = [l for l in f.axes[1].lines if l.get_color() == _weight_color(0.9)][0]
    np.testing.assert_allclose(line.get_ydata(), want.mean())
    assert f"{want.mean().iloc[-1]:.2f} at 0.9" in alt_text(f)
    assert len({_weight_color(w) for w in (0.1, 0.3, 0.5, 0.7, 0.9)}) == 5


def test_fig10_variant_is_chosen_and_named():
    assert fig10(RESULTS, variant='class').axes[2].get_title('left').startswith('DIBEDis (class)')
    with pytest.raises(InputError, match='unet-lite1'):
        fig10(RESULTS, models=['unet-lite1'])


def test_fig10_without_focal_or_one_loss():
    f = draw(fig10(RESULTS[(RESULTS.loss != 'focal') & (RESULTS.loss != 'dibe_dis')]))
    assert (
        len(f.axes[0].lines) == 6
        and 'no results yet' in [t.get_text() for t in f.axes[2].texts]
        and 'DIBEDis with SegNet: no results yet' in alt_text(f)
    )


def test_fig11_half_epochs_are_marked():
    rows = pd.concat(
        [
            make(loss=l, seeds=2, fn_weight=0.5, iou=i)
            for l, i in (('ft', [0, 0, 0.1, 0.3, 0.4]), ('dibe_reg', [0.1, 0.3, 0.5, 0.5, 0.5]))
        ]
    )
    f = draw(fig11(rows))
    (ax,) = f.axes
    dots = {
        l.get_color(): (l.get_xdata()[0], l.get_ydata()[0])
        for l in ax.lines
        if l.get_marker() == 'o'
    }
    assert dots == {'#D55E00': (4, 0.3), '#0072B2': (2, 0.3)}
    assert (
        len(ax.lines) == 2 * (2 + 1 + 1)
        and (ax.get_ylabel(), ax.get_xlabel()) == ('IoU', 'epoch')
        and ax.get_title('left') == 'CFD\n2 seeds'
    )
    assert 'CFD, FT: mean IoU 0.400 at the end, half of it at epoch 4.' in alt_text(f)
    assert 'half of it never' in alt_text(fig11(rows.assign(iou=0.0)))


def test_epochs_to_half_leaves_out_what_is_not_finished():
    rows = pd.concat(
        [
            make(loss=l, seeds=2, iou=i)
            for l, i in (('ft', [0, 0.2, 0.3]), ('dibe_reg', [0.2, 0.3, 0.5]))
        ]
    )
    t = epochs_to_half(rows[(rows.loss != 'ft') | (rows.seed < 1) | (rows.epoch < 3)])
    assert t.groupby('loss').size().to_dict() == {'dibe_reg': 2, 'ft': 1}
    o = t.set_index(['loss', 'seed'])
    assert (
        o.loc[('ft', 0), 'own'] == 2
        and o.loc[('ft', 0), 'common'] == 3
        and o.loc[('dibe_reg', 0), 'own'] == 2
        and (t.spacing == 1).all()
    )


def test_fig14_normalised_and_raw():
    rows = pd.concat(
        [
            make(data=d, loss=l, seeds=2, train_loss=v, iou=[0, 0.1, 0.2])
            for d, l, v in (
                ('cfd', 'tversky', [0.8, 0.4, 0.2]),
                ('mtsdd_extreme', 'tversky', [1.0, 0.9, 0.8]),
                ('cfd', 'dibe_reg', [2.0, 1.0, 0.5]),
            )
        ]
    )
    f = draw(fig14(rows))
    left, right = f.axes
    assert sorted(tuple(np.round(l.get_ydata(), 6)) for l in left.lines) == [
        (1, 0.5, 0.25),
        (1, 0.9, 0.8),
    ] and list(right.lines[0].get_ydata()) == [1, 0.5, 0.25]
    assert (
        'share' in left.get_ylabel()
        and left.get_xlabel() == 'epoch'
        and alt_text(f).endswith('DIBEReg: CFD 0.25.')
    )
    raw = fig14(rows, normalise=False)
    assert (
        list(raw.axes[1].lines[0].get_ydata()) == [2, 1, 0.5]
        and raw.axes[0].get_ylabel() == 'training loss'
    )
    named = fig14(rows, ratios=dict(cfd=25))
    assert {t.get_text() for t in named.axes[0].texts} == {'CFD 1:25', 'MTSDD extreme'}


def test_each_run_is_divided_by_its_own_start():
    rows = pd.concat(
        [
            make(train_loss=[s, 2 * s, s / 2], iou=[0, 0.5, 1]).assign(seed=i)
            for i, s in enumerate((1.0, 3.0))
        ]
    )
    assert loss_left(rows)['mean'].tolist() == [1, 2, 0.5] and loss_left(rows, False)[
        'mean'
    ].tolist() == [2, 4, 1]


@pytest.mark.parametrize(
    'ys', [[0.5] * 6, [0, 0, 0, 0.01, 0.02, 1], [1] * 5, [-1] * 5, [-1, 1], [0.3]]
)
def test_end_labels_do_not_overlap(ys):
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    ax.set_ylim(-1, 1)
    _end_labels(ax, [(y, str(i), 'k') for i, y in enumerate(ys)])
    at = sorted(t.get_position()[1] for t in ax.texts)
    assert len(at) == len(ys) and (np.diff(at) > 0.074).all() and at[0] > -0.01 and at[-1] <= 1
    pos = {int(t.get_text()): t.get_position()[1] for t in ax.texts}
    assert all(pos[i] < pos[j] for i in range(len(ys)) for j in range(len(ys)) if ys[i] < ys[j])


# --- wrong input


@pytest.mark.parametrize(
    'call,names',
    [
        (lambda: table4(RESULTS.drop(columns=['iou', 'seed'])), ['seed', 'iou']),
        (lambda: table6(RESULTS.drop(columns='precision')), ['precision']),
        (lambda: fig9(RESULTS.drop(columns='fp')), ['fp']),
        (lambda: fig10(RESULTS.drop(columns='oii')), ['oii']),
        (lambda: fig11(RESULTS.drop(columns='epoch')), ['epoch']),
        (lambda: fig14(RESULTS.drop(columns='train_loss')), ['train_loss']),
        (lambda: table3(RESULTS[:0]), ['empty']),
        (lambda: fig9(RESULTS[:0]), ['empty']),
        (lambda: table5(pd.concat([RESULTS, RESULTS])), ['two rows', 'data=']),
        (lambda: fig11(pd.concat([RESULTS, RESULTS])), ['two rows']),
        (lambda: table3(RESULTS, data='nowhere'), ['nowhere', 'mtsdd_extreme']),
        (lambda: fig10(RESULTS, data='nowhere'), ['nowhere']),
        (lambda: fig11(RESULTS, model='fpn'), ['fpn', 'unet-lite0']),
        (lambda: final(RESULTS.drop(columns='loss')), ['loss']),
    ],
)
def test_wrong_tables_are_named_in_one_line(call, names):
    with pytest.raises(InputError) as e:
        call()
    assert all(n in str(e.value) for n in names) and '\n' not in str(e.value)
