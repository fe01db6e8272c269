"The tests of `watch`, each by values that another way gives, on records that are made up"

import json

import numpy as np
import pytest
from matplotlib.figure import Figure

from imbal_al.measure.drift import means, shift
from imbal_al.project.moved import FEW, findings, Lot, MOVED, nearest, surfaces
from imbal_al.project.watch import _as_json, _draw, oddness, Watch, watch_figure
from imbal_al.project.watched import ROW


def lot(n, seed, held_out=None, groups=None):
    "n pictures that are alike"
    rng, rows = np.random.default_rng(seed), np.zeros(n, ROW)
    rows['level'] = rng.normal(-0.7, 0.1, (n, 1))
    rows['sharp'], rows['noise'] = rng.normal(0.5, 0.1, n), rng.normal(-4, 0.1, n)
    rows['surface'], rows['at'] = rng.normal(0, 1, (n, 152)), np.arange(n)
    rows['hist'][np.arange(n), rng.integers(38, 43, n)] = 100
    groups = np.arange(n) if groups is None else groups
    return Lot(rows, groups, np.ones(n, bool) if held_out is None else held_out)


NONE = np.zeros((0, 152))


def test_one_odd_picture_does_not_hide_the_rest():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, (40, 1)), rng.normal(1, 1, (40, 1))
    a[3] = -1000
    b[5] = -1000
    assert shift(means, a, b, np.random.default_rng(1)) < 0.01


def test_a_fall_counts_as_much_as_a_rise():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, (40, 2)), rng.normal(0, 1, (40, 2)) - [0.9, 0]
    down, up = (shift(means, s * a, s * b, np.random.default_rng(1)) for s in (1, -1))
    assert down == up < 0.01


def test_the_basis_is_taken_out_of_a_surface_and_nothing_else():
    basis = np.linalg.qr(np.random.default_rng(1).normal(size=(152, 3)))[0].T
    rows = lot(9, 2).rows
    seen = rows['surface'].astype(float)
    left = surfaces(rows, basis)
    assert np.allclose(left @ basis.T, 0, atol=1e-9)
    along = sum(np.outer(seen @ one, one) for one in basis)
    assert np.allclose(left + along, seen)


def test_a_picture_of_the_own_group_is_no_neighbour():
    points, groups = np.array([[0.0], [0.0], [3.0], [4.0]]), np.array([0, 0, 1, 1])
    assert nearest(points, points, groups, groups, k=1) == pytest.approx([3, 3, 3, 4])
    assert nearest(points, points, k=1) == pytest.approx(0, abs=1e-6)
    before = lot(40, 3, groups=np.arange(40) // 2)
    before.rows['surface'][1::2] = before.rows['surface'][::2]
    now = lot(20, 4)
    far = oddness(before, now, NONE)['surface']
    assert np.abs(np.median(far)) < 2 and np.abs(far).max() < 6


def test_the_network_is_compared_with_what_it_was_not_trained_on():
    "On what it was trained on it says -10, elsewhere about -1; today is as what is held out"
    before = lot(120, 5, np.arange(120) % 2 == 0)
    before.rows['hist'][1::2] = 0
    before.rows['hist'][1::2, 5] = 100
    now = lot(60, 6)
    told = {one.kind: one for one in findings(before, now, NONE, None)}
    assert told['network'].verdict != MOVED and told['network'].p > 0.05
    assert np.abs(oddness(before, now, NONE)['network']).max() < 4
    figure = watch_figure(before, now, NONE, list(told.values()))
    reference, today = (len(line.get_xdata()) for line in figure.axes[-1].lines[:2])
    assert (reference, today) == (60, 60)


def test_one_group_of_today_cannot_tell():
    now = lot(6, 7, groups=np.zeros(6, int))
    now.rows['level'] -= 5
    told = findings(lot(60, 8), now, NONE, None)
    assert {one.verdict for one in told} == {FEW} and all(np.isnan(one.p) for one in told)


def test_what_does_not_matter_is_not_odd():
    "All pictures nearly the same: a hundredth of a change that matters is nobody's concern"
    before, now = lot(60, 9), lot(20, 10)
    for each in (before, now):
        each.rows['level'] = -0.7 + 1e-5 * np.arange(len(each.rows))[:, None]
    now.rows['level'][4] += 0.001
    now.rows['level'][5] -= 0.2
    light = oddness(before, now, NONE)['light']
    assert light[5] == pytest.approx(-8, abs=0.1) and np.abs(np.delete(light, 5)).max() < 0.2


def test_a_kind_without_a_reference_is_drawn_and_kept_without_a_number(tmp_path):
    before, now = lot(60, 11, np.zeros(60, bool)), lot(20, 12)
    told = findings(before, now, NONE, None)
    assert np.isnan(told[-1].p) and np.isinf(told[-1].needed)
    counts = dict(pictures=20, groups=20, reference=60, held_out=0, queued=0, odd=0)
    kept = _as_json(Watch(found=tmp_path, findings=told, **counts))
    assert kept['findings'][-1]['p'] is None and kept['findings'][-1]['needed'] is None
    json.dumps(kept, allow_nan=False)
    ax = Figure().add_subplot()
    _draw(ax, np.full(4, np.inf), np.arange(4), 0, 'k')
    assert not ax.collections
    _draw(ax, np.array([1, 3, np.inf]), np.arange(3), 0, 'k')
    assert len(ax.collections) == 1 and ax.collections[0].get_segments()[0][0, 1] == 2
