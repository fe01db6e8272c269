"Galleries against the installed module: hard cases of picks, of telling patches, and of networks trained again"

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from imbal_al.core import InputError
from imbal_al.results.gallery import (
    _examples_figure, _patch_iou, _picks_figure, picks_gallery, play, predictions_gallery,
    _telling, _train_again,
)


def hists(counts):
    h = np.zeros((len(counts), 2, 128), int)
    for o, (tp, fp, fn) in zip(h, counts):
        o[1, 100], o[0, 100], o[1, 10], o[0, 10] = tp, fp, fn, 50
    return h


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12
    ),
    st.integers(1, 4),
)
def test_telling_patches_are_ordered_distinct_and_have_a_defect(counts, n):
    h = hists(counts)
    found = _telling(h, n)
    iou = _patch_iou(h)
    assert len({i for _, i, _ in found}) == len(found) and all(
        counts[i][0] + counts[i][2] > 0 for _, i, _ in found
    )
    values = [v for _, _, v in found]
    assert values == sorted(values, reverse=True) and all(v == iou[i] for _, i, v in found)
    if found:
        assert values[0] == np.nanmax(iou) and values[-1] == np.nanmin(iou)
    assert len(found) % 3 == 0


def test_nothing_tells_where_no_patch_has_a_defect():
    assert _telling(hists([(0, 5, 0)] * 9)) == []


def test_picks_of_grey_and_colour_and_unequal_length():
    grey, rgb = np.zeros((3, 8, 10), np.uint8), np.zeros((3, 8, 10, 3), np.uint8)
    f = np.array([True, False, True])
    for x in (grey, rgb):
        assert (
            'random: 67%, 50% faulty'
            in _picks_figure(
                {'random': [(x, f, 2 / 3), (x, f, 0.5)], 'entropy': [(x, f, 1.0)]}
            ).get_label()
        )


def test_examples_without_a_prediction_show_image_and_truth():
    x, m = np.zeros((2, 8, 8), np.uint8), np.zeros((2, 8, 8), np.uint8)
    assert (
        len(_examples_figure(x, m).axes) == 4
        and len(_examples_figure(x, m, m * 0.5, ['a', 'b']).axes) == 8
    )


def test_play_draws_the_first_values_outside_of_a_live_notebook():
    from matplotlib.figure import Figure

    asked = []

    def f(**k):
        asked.append(k)
        fig = Figure()
        fig.set_label('said')
        return fig

    assert play(f, a=(0, 4, 2), b=['x', 'y']).alt == 'said' and asked == [dict(a=2, b='x')]


def test_a_study_that_has_only_begun_and_networks_again(tmp_path, tiny):
    from imbal_al.studies.learning_study import run_study
    from imbal_al.runs.plan import save_plan

    other = replace(tiny, strategy='entropy')
    save_plan(tmp_path, [tiny, other])
    with pytest.raises(InputError, match='has picked anything'):
        picks_gallery(tmp_path)
    with pytest.raises(InputError, match='has not begun'):
        _train_again(tmp_path, tiny)
    assert run_study(tmp_path, [tiny], workers=0) == []
    label = picks_gallery(tmp_path, n=3).get_label()
    assert 'random' in label and 'entropy' not in label
    assert _train_again(tmp_path, tiny).same and _train_again(tmp_path, tiny, cycle=1).same
    with pytest.raises(InputError, match='cycle 9 is not there'):
        _train_again(tmp_path, tiny, cycle=9)
    assert len(predictions_gallery(tmp_path, tiny, n=1).axes) == 12
    with pytest.raises(InputError, match='holds no study'):
        picks_gallery(tmp_path / 'nowhere')


def test_a_loss_run_again(tmp_path):
    from imbal_al.studies.loss_config import LossConfig
    from imbal_al.studies.loss_study import run_losses

    c = LossConfig(data='synthetic:16:32', width=0.25, steps=2, validations=1, bs=4, loss='dice')
    assert run_losses(tmp_path, [c], workers=0) == [] and _train_again(tmp_path, c).same
    with pytest.raises(InputError, match='no active-learning study'):
        picks_gallery(tmp_path)
