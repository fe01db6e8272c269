"imbal_al.results.figures: partial tables, wrong tables, fixed styles, and settings that stay as they were"

import subprocess, sys
from itertools import combinations

import matplotlib
import numpy as np
import pandas as pd
import pytest

from imbal_al.core import InputError
from imbal_al.results.figures import fig2, fig3, fig4, fig5
from imbal_al.results.plotting import alt_text, STRATEGY_STYLES, strategy_styles
from imbal_al.results.tables import (
    chance_uniqueness, learning_table, made_up_picks, made_up_results,
)

RESULTS, PICKS = made_up_results(repeats=3, cycles=4), made_up_picks(repeats=3, cycles=4)


def draw(fig):
    "Render, so that whatever can fail does"
    fig.canvas.draw()
    return fig


def titles(fig):
    return [a.get_title('left') for a in fig.axes]


def lines(ax):
    return {l.get_color(): np.c_[l.get_xdata(), l.get_ydata()] for l in ax.lines}


def patches(n=40, k=20, shape=(8, 8)):
    p = np.full((n, *shape), 120, np.uint8)
    p[:k, :2] = 0
    return p, np.arange(n) < k


# --- figures 4 and 5


def test_fig4_draws_the_learning_table():
    fig, table = draw(fig4(RESULTS)), learning_table(RESULTS)
    want = table[(table.strategy == 'entropy') & (table.pi_u == 0.5) & (table.pi_t == 0.05)]
    np.testing.assert_allclose(
        lines(fig.axes[5])[STRATEGY_STYLES['entropy']['color']],
        np.c_[100 * want.budget, want['mean']],
    )
    assert len(fig.axes) == 8 and len({a.get_ylim() for a in fig.axes}) == 1
    assert fig.legends and [t.get_text() for t in fig.legends[0].get_texts()] == [
        'random',
        'entropy',
        'core-set',
    ]


def test_learning_table_by_hand():
    t = pd.DataFrame(
        dict(
            data='d',
            strategy='s',
            pi_u=0.1,
            pi_t=0.1,
            repeat=[0, 1, 2, 0],
            cycle=[1, 1, 1, 2],
            budget=[0.1, 0.1, 0.1, 0.2],
            f1=[0, 0.5, 1, np.nan],
            extra='x',
        )
    )
    o = learning_table(t)
    assert o[['mean', 'q25', 'q75', 'n']].iloc[0].tolist() == [0.5, 0.25, 0.75, 3]
    assert o.n.tolist() == [3, 0] and np.isnan(o['mean'][1])
    assert learning_table(t, 'budget')['mean'].tolist() == pytest.approx([0.1, 0.2])


def test_learning_table_keeps_data_sets_apart():
    assert len(learning_table(pd.concat([RESULTS, RESULTS.assign(data='other')]))) == 2 * len(
        learning_table(RESULTS)
    )


@pytest.mark.parametrize(
    'part',
    [
        lambda r: r[r.strategy == 'random'],
        lambda r: r[r.repeat == 0],
        lambda r: r[r.cycle == 1],
        lambda r: r[r.pi_u == 0.5],
        lambda r: r[r.pi_t != 0.05],
        lambda r: r[(r.repeat == 0) | (r.cycle < 3)],
        lambda r: r.iloc[:1],
        lambda r: r.assign(f1=np.nan),
        lambda r: r.assign(strategy=r.strategy + ' new'),
    ],
)
def test_fig4_of_part_of_a_study(part):
    assert alt_text(draw(fig4(part(RESULTS))))


@pytest.mark.parametrize(
    'part',
    [
        lambda p: p[p.strategy == 'random'],
        lambda p: p[p.repeat == 0],
        lambda p: p[p.cycle == 1],
        lambda p: p[p.pi_u == 0.5],
        lambda p: p[(p.repeat == 0) | (p.cycle < 3)],
        lambda p: p.iloc[:1],
    ],
)
def test_fig5_of_part_of_a_study(part):
    assert alt_text(draw(fig5(part(PICKS), RESULTS)))
    draw(fig5(part(PICKS)))


def test_number_of_repeats_is_in_the_titles():
    assert '3 repeats' in titles(fig4(RESULTS))[0]
    assert titles(fig4(RESULTS[RESULTS.repeat == 0]))[0].endswith('1 repeat')
    assert (
        '2–3 repeats'
        in titles(fig4(RESULTS[(RESULTS.repeat < 2) | (RESULTS.strategy == 'random')]))[0]
    )
    assert (
        '2–3 repeats' in titles(fig5(PICKS[(PICKS.repeat < 2) | (PICKS.strategy == 'random')]))[0]
    )


def test_empty_panels_say_so():
    fig = fig4(RESULTS[(RESULTS.pi_u < 0.5) | (RESULTS.pi_t > 0.05)])
    assert [t.get_text() for t in fig.axes[5].texts] == ['no results yet'] and not fig.axes[1].texts


def test_fig4_takes_another_value_and_data_set():
    both = pd.concat([RESULTS, RESULTS.assign(data='other', f1=0.9)]).assign(iou=0.25)
    fig = fig4(both, 'iou', data='other')
    assert fig.axes[0].get_ylabel().startswith('IoU') and all(
        (v[:, 1] == 0.25).all() for v in lines(fig.axes[0]).values()
    )


def test_fig5_draws_chance_and_shares():
    fig = fig5(PICKS, pool_size=1000)
    chance = [l for l in fig.axes[4].lines if l.get_color() == 'black'][0]
    np.testing.assert_allclose(chance.get_ydata(), chance_uniqueness(0.1, 20, 3, 1000))
    entropy = lines(fig.axes[0])[STRATEGY_STYLES['entropy']['color']]
    own = PICKS[
        (PICKS.strategy == 'entropy') & (PICKS.pi_u == 0.1) & (PICKS.cycle == 3)
    ].faulty.mean()
    assert entropy[2].tolist() == pytest.approx([3, own])
    assert not [l for l in fig5(PICKS).axes[4].lines if l.get_color() == 'black']
    assert [l for l in fig5(PICKS, RESULTS).axes[4].lines if l.get_color() == 'black']


def test_chance_of_redrawn_pools_is_the_fixed_one_where_the_pool_is_the_bank():
    assert chance_uniqueness(0.1, 86, 15, bank=(430, 3870)) == pytest.approx(
        chance_uniqueness(0.1, 86, 15, pool_size=4300)
    )
    assert chance_uniqueness(1.0, 20, 5, bank=(100, 0)) == pytest.approx(
        chance_uniqueness(1.0, 20, 5, pool_size=100)
    )
    assert chance_uniqueness(0.1, 86, 15, bank=(4300, 38700)) > chance_uniqueness(
        0.1, 86, 15, pool_size=4300
    )
    assert np.isnan(chance_uniqueness(0.1, 86, 1, pool_size=4300))


@pytest.mark.parametrize(
    'call,names',
    [
        (lambda: fig4(RESULTS.drop(columns=['budget', 'pi_t'])), ['pi_t', 'budget']),
        (lambda: fig4(RESULTS, 'iou'), ['iou']),
        (lambda: learning_table(RESULTS.drop(columns='f1')), ['f1']),
        (lambda: fig5(PICKS.drop(columns='faulty')), ['faulty']),
        (lambda: fig5(PICKS, RESULTS.drop(columns='labelled')), ['labelled']),
        (lambda: fig4(RESULTS[:0]), ['empty']),
        (lambda: fig4(RESULTS, data='nowhere'), ['nowhere', 'empty']),
        (lambda: fig4(pd.concat([RESULTS, RESULTS.assign(data='b')])), ['data', 'made up', 'b']),
        (
            lambda: fig4(RESULTS.assign(loss=np.where(RESULTS.repeat == 0, 'dice', 'combo'))),
            ['loss', 'combo', 'dice'],
        ),
        (lambda: fig4(pd.concat([RESULTS, RESULTS])), ['two rows', 'strategy=random']),
        (lambda: fig5(pd.concat([PICKS, PICKS])), ['two rows', 'id=']),
        (
            lambda: fig5(
                PICKS, pd.concat([RESULTS, RESULTS.assign(budget=RESULTS.budget / 2, seed=9)])
            ),
            ['1000, 2000', 'pool_size'],
        ),
    ],
)
def test_wrong_tables_are_named_in_one_line(call, names):
    with pytest.raises(InputError) as e:
        call()
    assert all(n in str(e.value) for n in names) and '\n' not in str(e.value)


# --- figures 2 and 3


def test_fig2_entropy_is_in_nats_and_silent(recwarn):
    p = np.array([[0, 0.5], [1, 0.25]])
    fig = draw(fig2(np.zeros((2, 2), np.uint8), p > 0, p))
    want = [0, np.log(2), 0, -0.25 * np.log(0.25) - 0.75 * np.log(0.75)]
    np.testing.assert_allclose(
        np.asarray(fig.axes[3].images[0].get_array()).ravel(), want, atol=1e-12
    )
    assert not recwarn.list


def test_fig2_takes_colour_and_float_images():
    rng = np.random.default_rng(0)
    for image in (
        rng.random((6, 9, 3)),
        rng.random((6, 9)),
        rng.integers(0, 255, (6, 9, 3), dtype=np.uint8),
    ):
        draw(fig2(image, np.ones((6, 9)), rng.random((6, 9)), entropy=rng.random((6, 9))))


def test_fig2_refuses_other_sizes():
    with pytest.raises(InputError, match='one size'):
        fig2(np.zeros((4, 4)), np.zeros((4, 4)), np.zeros((4, 5)))


@pytest.mark.parametrize('pi_u,shown', [(0.1, 20), (0.5, 40), (1.0, 20), (0.9, 21)])
def test_fig3_frames_as_many_as_the_share(pi_u, shown):
    p, f = patches(80, 40)
    image, mask = np.full((24, 32), 120, np.uint8), np.zeros((24, 32), np.uint8)
    mask[:3, :3] = 1
    fig = draw(fig3(image, mask, (8, 8), p, f, pi_u=pi_u, shown=shown))
    thick = [sum(r.get_linewidth() > 1 for r in a.patches) for a in fig.axes]
    assert [len(a.patches) for a in fig.axes] == [0, 12, shown, shown, shown]
    assert thick == [0, 1, round(pi_u * shown), round(pi_u * shown), round(0.05 * shown)]


def test_fig3_shows_what_it_says():
    p, f = patches()
    fig = fig3(
        np.full((16, 16), 120, np.uint8), np.zeros((16, 16)), (8, 8), p, f, shown=20, pi_u=0.5
    )
    sheet = np.asarray(fig.axes[2].images[0].get_array())
    assert (sheet == 0).sum() == 10 * 2 * 8 and (sheet == 120).sum() == 10 * 64 + 10 * 48


def test_fig3_in_colour_and_from_the_image_alone():
    rng = np.random.default_rng(0)
    image, mask = rng.random((40, 40, 3)), np.zeros((40, 40))
    mask[:10] = 1
    draw(fig3(image, mask, (10, 10), shown=4, pi_u=0.5, pi_t=0.25))


@pytest.mark.parametrize(
    'call,msg',
    [
        (lambda i, m, p, f: fig3(i, m[:4], (8, 8), p, f), 'differ in size'),
        (lambda i, m, p, f: fig3(i, m, (8, 99), p, f), 'do not fit'),
        (lambda i, m, p, f: fig3(i, m, (8, 8), p, f[:3]), 'one flag per patch'),
        (
            lambda i, m, p, f: fig3(i, m, (8, 8), p, f, pi_u=1, shown=30),
            '30 faulty patches are needed',
        ),
    ],
)
def test_fig3_refuses(call, msg):
    with pytest.raises(InputError, match=msg):
        call(np.zeros((16, 16), np.uint8), np.zeros((16, 16)), *patches())


# --- house rules


def test_settings_and_open_figures_stay_as_they_were():
    import matplotlib.pyplot as plt

    matplotlib.rcdefaults()
    before, tables = dict(matplotlib.rcParams), (RESULTS.copy(), PICKS.copy())
    fig4(RESULTS), fig5(PICKS, RESULTS), fig2(np.zeros((4, 4)), np.zeros((4, 4)), np.zeros((4, 4)))
    with pytest.raises(InputError):
        fig4(RESULTS[:0])
    assert dict(matplotlib.rcParams) == before and not plt.get_fignums()
    pd.testing.assert_frame_equal(RESULTS, tables[0]), pd.testing.assert_frame_equal(
        PICKS, tables[1]
    )


def test_a_strategy_looks_the_same_in_every_figure():
    a, b = strategy_styles(['coreset', 'zeta']), strategy_styles(['random', 'alpha', 'coreset'])
    assert a['coreset'] == b['coreset'] == STRATEGY_STYLES['coreset']
    assert (
        len({s['color'] for s in strategy_styles([*STRATEGY_STYLES, 'a', 'b', 'c']).values()})
        == len(STRATEGY_STYLES) + 3
    )


def test_every_strategy_has_a_look_and_no_two_share_a_marker():
    from imbal_al.strategies.choose import STRATEGIES

    ours = {k for k, f in STRATEGIES.items() if f.__module__.startswith('imbal_al.strategies.')}
    assert ours == set(STRATEGY_STYLES)
    assert len({s['marker'] for s in STRATEGY_STYLES.values()}) == len(STRATEGY_STYLES)


# Machado, Oliveira and Fernandes (2009): what is left of linear RGB without the long or the medium cones
SIGHT = dict(
    usual=np.eye(3),
    no_green=[
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    no_red=[
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
)


def seen(colour, sight):
    "CIE Lab of a colour as seen"
    c = np.array(matplotlib.colors.to_rgb(colour))
    c = np.clip(
        SIGHT[sight] @ np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4), 0, 1
    )
    t = (
        np.array(
            [
                [0.4124564, 0.3575761, 0.1804375],
                [0.2126729, 0.7151522, 0.0721750],
                [0.0193339, 0.1191920, 0.9503041],
            ]
        )
        @ c
        / [0.95047, 1, 1.08883]
    )
    x, y, z = np.where(t > 216 / 24389, np.cbrt(t), (24389 / 27 * t + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize('sight', SIGHT)
def test_the_colour_blind_can_tell_strategies_apart(sight):
    lab = {k: seen(s['color'], sight) for k, s in STRATEGY_STYLES.items()}
    near = {
        (a, b): round(float(np.linalg.norm(lab[a] - lab[b])), 1) for a, b in combinations(lab, 2)
    }
    assert min(near.values()) > 12, sorted(near.items(), key=lambda o: o[1])[:4]


def test_alt_texts_tell_the_numbers():
    text = alt_text(fig4(RESULTS))
    last = (
        learning_table(RESULTS)
        .query("strategy=='entropy' and pi_u==.1 and pi_t==.1 and cycle==4")['mean']
        .iloc[0]
    )
    assert f'entropy {last:.2f}' in text and '3 repeats' in text
    assert '1 of them faulty' in alt_text(
        fig3(
            np.zeros((16, 16), np.uint8),
            np.eye(16) * (np.arange(16) < 4),
            (8, 8),
            *patches(),
            shown=20,
        )
    )


def test_verdicts_need_no_picture():
    rooms = 'tables claims loss_tables loss_claims compare advise'
    imports = ', '.join(f'imbal_al.results.{room}' for room in rooms.split())
    heavy = ('torch', 'matplotlib', 'scipy')
    code = f"import sys, {imports}; print([name for name in {heavy} if name in sys.modules])"
    told = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert told.stdout.strip() == '[]', told.stdout + told.stderr
