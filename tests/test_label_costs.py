"imbal_al.results.label_costs: what is spent, and F1 for it"

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from imbal_al.core import InputError
from imbal_al.results.label_costs import (
    _common_costs, _cost_area, _f1_at_cost, _foreground_efficiency, add_cost, CLICK,
    clicked_mask_seconds, cost_curves,
    cost_figure, cost_table, MASK,
)


def labels(faulty, config='a', clicks=0, batch=40):
    return pd.DataFrame(
        [
            dict(
                config=config,
                cycle=j,
                faulty=f,
                healthy=batch - f,
                clicks=clicks,
                defect_pixels=50 * f,
                pool_pixels=10_000,
            )
            for j, f in enumerate(faulty, 1)
        ]
    )


def test_hours_count_up_over_cycles_and_per_run():
    t = pd.concat([labels((4, 10)), labels((40, 40), 'b', clicks=5)]).sample(frac=1, random_state=0)
    a = add_cost(t, click=2, mask=60, pixel=0.1).set_index(['config', 'cycle'])
    one = lambda f, c: (2 * (40 - f + c) + 60 * f + 0.1 * 50 * f) / 3600
    assert (
        a.hours['a', 1] == pytest.approx(one(4, 0))
        and a.hours['a', 2] == pytest.approx(one(4, 0) + one(10, 0))
        and a.hours['b', 2] == pytest.approx(2 * one(40, 5))
    )
    assert a.foreground['a', 2] == pytest.approx(0.07) and a.foreground['b', 1] == pytest.approx(
        0.2
    )


@pytest.mark.parametrize(
    'kw',
    [dict(click=-1), dict(mask=-1), dict(pixel=-1), dict(click=0, mask=0), dict(mask=float('nan'))],
)
def test_prices_that_are_none(kw):
    with pytest.raises(InputError, match='prices of 0 or more') as e:
        add_cost(labels((1,)), **kw)
    assert '\n' not in str(e.value)


def test_a_table_that_lacks_a_column():
    with pytest.raises(InputError, match='lacks column clicks'):
        add_cost(labels((1,)).drop(columns='clicks'))


def test_f1_at_a_cost_does_not_guess():
    f = _f1_at_cost([3, 1, 2], [0.6, 0.2, 0.3], [0.5, 1, 1.5, 3, 3.1])
    assert np.isnan(f[[0, 4]]).all() and f[1:4] == pytest.approx([0.2, 0.25, 0.6])


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.1, 5), st.floats(0.1, 5)), min_size=2, max_size=4),
    st.floats(0, 1),
)
def test_area_of_a_flat_curve_is_its_height(ends, height):
    t = pd.DataFrame(
        [
            dict(config=i, method=i, unit=0, hours=h, f1=height)
            for i, (a, b) in enumerate(ends)
            for h in (a, a + b)
        ]
    )
    o = _cost_area(t)
    low, high = _common_costs(t)
    assert (low, high) == (max(a for a, _ in ends), min(a + b for a, b in ends))
    assert o.value.isna().all() if high <= low else o.value.to_numpy() == pytest.approx(height)


def test_the_dearer_of_two_equal_curves_by_patches_is_worse_by_cost():
    t = pd.DataFrame(
        [
            dict(config=c, method=c, unit=0, hours=k * h, f1=0.2 + 0.1 * h)
            for c, k in (('cheap', 1), ('dear', 1.5))
            for h in (1, 2, 3)
        ]
    )
    a = _cost_area(t).set_index('method').value
    assert a['cheap'] > a['dear']


@settings(max_examples=40, deadline=None)
@given(st.floats(1, 40), st.floats(0.1, 0.5), st.floats(0.6, 0.95))
def test_efficiency_is_found_again_and_in_the_units_of_x(g, first, full):
    x = np.array([0.02, 0.04, 0.07, 0.11, 0.2])
    y = full - (full - first) * np.exp(-g * (x - x[0]))
    assert _foreground_efficiency(x[::-1], y[::-1], full) == pytest.approx(
        g, rel=0.02
    ) and _foreground_efficiency(10 * x, y, full) == pytest.approx(g / 10, rel=0.02)


def test_efficiency_of_nothing():
    assert (
        np.isnan(_foreground_efficiency([0.1], [0.2], 0.5))
        and np.isnan(_foreground_efficiency([0.1, 0.1], [0.2, 0.3], 0.5))
        and _foreground_efficiency([0.1, 0.2, 0.3], [0.4, 0.3, 0.2], 0.5) == 0
    )
    for bad in ([0.2, 0.5], [0.2, np.nan]):
        with pytest.raises(InputError, match='not below'):
            _foreground_efficiency([0.1, 0.2], bad, 0.5)


def made(methods=('random', 'entropy'), repeats=3, settings_=('x',)):
    rows, lab = [], []
    for s in settings_:
        for i, m in enumerate(methods):
            for r in range(repeats):
                c = f'{s}{m}{r}'
                lab.append(labels((4, 4 + 9 * i, 4 + 9 * i), c))
                rows += [
                    dict(
                        config=c,
                        cycle=j,
                        f1=0.2 + 0.1 * j * (1 + i) + 0.01 * r,
                        setting=s,
                        method=m,
                        unit=r,
                    )
                    for j in (1, 2, 3)
                ]
    return pd.concat(lab, ignore_index=True), pd.DataFrame(rows)


def test_cost_table_uses_the_repeats_that_all_methods_have():
    lab, v = made()
    v = v[~((v.method == 'entropy') & (v.unit == 0))]
    t = cost_table(cost_curves(lab, v)).set_index('method')
    assert (
        (t.repeats == 2).all()
        and t.final['random'] == pytest.approx(0.515)
        and t.faulty['entropy'] == pytest.approx(30 / 120)
        and t.pixels['random'] == pytest.approx(5.0)
    )
    assert t.hours['random'] == pytest.approx(3 * (4 * MASK + 36 * CLICK) / 3600)


def test_methods_without_a_common_repeat_have_no_row():
    lab, v = made(repeats=2)
    v = v[(v.method == 'entropy') == (v.unit == 0)]
    both = made(settings_=('y',))
    t = cost_table(cost_curves(pd.concat([lab, both[0]]), pd.concat([v, both[1]])))
    assert set(t.setting) == {'y'}


def test_clicks_of_the_line_cost_and_are_patches():
    lab, v = made()
    a = cost_table(cost_curves(lab, v))
    b = cost_table(cost_curves(lab.assign(clicks=lab.config.str.contains('entropy') * 40), v))
    pick = lambda t, k: t.set_index('method')[k]
    assert (
        pick(b, 'hours')['entropy'] - pick(a, 'hours')['entropy']
        == pytest.approx(3 * 40 * CLICK / 3600)
        and pick(b, 'hours')['random'] == pick(a, 'hours')['random']
        and pick(b, 'faulty')['entropy'] == pytest.approx(30 / 240)
    )


def test_figure():
    lab, v = made(settings_=('b', 'a', 'c', 'd'))
    fig = cost_figure(cost_curves(lab, v), ['entropy'])
    shown = [a for a in fig.axes if a.get_visible()]
    assert (
        [a.get_title('left') for a in shown] == ['a', 'b', 'c', 'd']
        and 'entropy 0.810 after' in fig.get_label()
        and 'random' not in fig.get_label()
        and all(len(a.lines) == 1 for a in shown)
    )
    with pytest.raises(InputError, match='none of these methods'):
        cost_figure(cost_curves(lab, v), ['x'])


def test_the_legend_has_methods_that_the_first_panel_lacks():
    lab, v = made(settings_=('a', 'b'))
    fig = cost_figure(cost_curves(lab, v[~((v.setting == 'a') & (v.method == 'random'))]))
    assert sorted(o.get_text() for o in fig.legends[0].get_texts()) == ['entropy', 'random']


def test_clicks_pay_where_the_share_that_they_settle_is_worth_them():
    "Two clicks and a look are nine seconds: they pay from a share of 9/60"
    assert clicked_mask_seconds(9 / 60) == pytest.approx(MASK)
    t = labels((10, 10))
    drawn = add_cost(t).hours.iloc[-1]
    clicked = add_cost(t, mask=clicked_mask_seconds(0.5)).hours.iloc[-1]
    assert drawn - clicked == pytest.approx(20 * (60 - 39) / 3600)
    for share in (-0.1, 1.1, float('nan')):
        with pytest.raises(InputError, match='give one from 0 to 1') as e:
            clicked_mask_seconds(share)
        assert '\n' not in str(e.value)
