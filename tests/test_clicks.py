"Masks by clicks: against drawn shapes, mirror images, other kinds of numbers"

import numpy as np
import pytest

from imbal_al.core import InputError
from imbal_al.project.clicks import Click, mask_of_clicks


def disc(at, radius, shape=(96, 128)):
    y, x = np.ogrid[: shape[0], : shape[1]]
    return (y - at[0]) ** 2 + (x - at[1]) ** 2 <= radius**2


def shown(mask, contrast=-60, noise=4.0, seed=0):
    "A grey surface with a defect"
    rng = np.random.default_rng(seed)
    return np.clip(140 + rng.normal(0, noise, mask.shape) + contrast * mask, 0, 255).astype(np.uint8)


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def on(*points):
    return Click(points)


def beside(*points):
    return Click(points, False)


@pytest.mark.parametrize('contrast', [-70, -40, 60])
@pytest.mark.parametrize('radius', [4, 8, 20])
@pytest.mark.parametrize('at', [(48, 60), (3, 5), (95, 127)])
def test_a_disc_by_one_click(contrast, radius, at):
    "Dark or bright, small or large, inside or cut by the picture's edge"
    truth = disc(at, radius)
    least = 0.9 if radius > 4 else 0.85  # Where half a pixel of edge is a fifth of the area
    assert iou(mask_of_clicks(shown(truth, contrast), [on(at)]), truth) >= least


def test_a_disc_on_a_slanted_surface():
    truth = disc((40, 50), 7)
    slope = np.linspace(0, 60, 128)[None]
    picture = shown(truth).astype(float) + slope
    assert iou(mask_of_clicks(picture, [on((40, 50))]), truth) >= 0.9


def test_a_colour_that_is_as_bright_as_the_surface():
    "Red against green of the same grey: only in colours does it stand out"
    truth = disc((40, 50), 7)
    picture = np.full((96, 128, 3), 120, np.uint8)
    picture[truth] = (170, 95, 95)
    assert abs(picture[truth].mean() - 120) < 1
    assert iou(mask_of_clicks(picture, [on((40, 50))]), truth) >= 0.9
    grey = picture.mean(2)
    assert iou(mask_of_clicks(grey, [on((40, 50))]), truth) < 0.5


def test_two_that_touch_are_cut_apart():
    truth, other = disc((40, 50), 8), disc((40, 65), 8)
    picture = shown(truth | other)
    both = mask_of_clicks(picture, [on((40, 50))])
    assert iou(both, truth | other) >= 0.9
    cut = mask_of_clicks(picture, [on((40, 50)), beside((40, 65))])
    assert iou(cut, truth) >= 0.8 and not cut[40, 65] and cut[40, 50]


def test_a_second_defect_by_a_second_click():
    truth = disc((30, 30), 5) | disc((60, 100), 7)
    picture = shown(truth)
    assert iou(mask_of_clicks(picture, [on((30, 30)), on((60, 100))]), truth) >= 0.9
    assert iou(mask_of_clicks(picture, [on((30, 30), (60, 100))]), truth) >= 0.9, 'as a scribble'


def test_clicks_move_the_edge_their_way_only():
    "On what was missed: nothing is lost; beside the defect: nothing is won"
    truth = disc((40, 50), 8)
    picture = shown(truth)
    first = mask_of_clicks(picture, [on((40, 50))])
    more = mask_of_clicks(picture, [on((40, 50)), on((40, 60))])
    less = mask_of_clicks(picture, [on((40, 50)), beside((40, 56))])
    assert more[40, 60] and (first <= more).all() and more.sum() > first.sum()
    assert not less[40, 56] and (less <= first).all() and less.sum() < first.sum()
    assert more[40, 42] == first[40, 42] and less[40, 43] == first[40, 43], 'the far side stays'
    again = mask_of_clicks(picture, [on((40, 50)), on((41, 51)), beside((5, 5))])
    assert (again == first).all(), 'clicks that say what is so already'


def test_a_click_where_the_edge_was_missed_takes_away_much_of_what_is_wrong():
    "A mask of an annotator that is wider than what is seen, corrected at the middle of what was missed"
    seen, wanted = disc((48, 60), 6), disc((48, 60), 6) | disc((48, 68), 5)
    picture = shown(seen)
    first = mask_of_clicks(picture, [on((48, 60))])
    missed = np.argwhere(wanted & ~first)
    middle = tuple(missed[np.abs(missed - missed.mean(0)).sum(1).argmin()])
    after = mask_of_clicks(picture, [on((48, 60)), on(middle)])
    assert (wanted ^ after).sum() <= 0.6 * (wanted ^ first).sum()


def test_a_box_and_a_box_with_clicks():
    truth, other = disc((40, 50), 8), disc((40, 80), 8)
    picture = shown(truth | other)
    found = mask_of_clicks(picture, box=(28, 38, 53, 63))
    assert iou(found, truth) >= 0.9
    assert iou(mask_of_clicks(picture, box=(28, 38, 53, 93)), truth | other) >= 0.9
    cut = mask_of_clicks(picture, [beside((40, 80))], box=(28, 38, 53, 93))
    assert not cut[40, 80] and cut[40, 50]
    tight = mask_of_clicks(picture, [on((40, 50))], box=(36, 38, 44, 63))
    assert not tight[:36].any() and not tight[44:].any() and tight[40, 50]
    assert mask_of_clicks(picture, box=(0, 0, 96, 128)).any(), 'a box of the whole picture'


def test_a_scribble_along_a_crack():
    truth = np.zeros((96, 200), bool)
    truth[40:44, 20:180] = True
    fading = np.where(truth, np.linspace(-70, -25, 200)[None], 0)
    picture = shown(np.zeros_like(truth)) + fading
    line = on(*[(42, x) for x in range(24, 180, 4)])
    assert iou(mask_of_clicks(picture, [line]), truth) >= 0.8
    assert iou(mask_of_clicks(picture, [on((42, 30))]), truth) < 0.8, 'one click does not reach its end'


def test_where_nothing_stands_out_the_mask_is_a_small_disc():
    flat = np.full((60, 80), 100, np.uint8)
    found = mask_of_clicks(flat, [on((20, 30))])
    assert found.sum() == 13 and found[20, 30] and found[18, 30]
    assert mask_of_clicks(flat, box=(10, 10, 20, 30)).sum() == 200, 'of a box, all of it'
    assert mask_of_clicks(np.zeros((1, 1), np.uint8), [on((0, 0))]).tolist() == [[True]]


def test_what_the_network_sees_counts():
    "Half of a defect fades; the network knows it"
    truth = disc((40, 50), 10)
    picture = shown(truth * np.where(np.arange(128) < 52, 1, 0.25))
    alone = mask_of_clicks(picture, [on((40, 46))])
    told = mask_of_clicks(picture, [on((40, 46))], probability=0.9 * truth)
    assert iou(told, truth) > iou(alone, truth) + 0.2
    blind = mask_of_clicks(picture, [on((40, 46))], probability=np.zeros(truth.shape))
    assert (blind == alone).all(), 'one that sees nothing at the click says nothing'


def ring(at=(40, 50)):
    return disc(at, 9) & ~disc(at, 3)


def test_holes_are_filled_by_a_click_and_in_a_box():
    picture = shown(ring())
    for found in (mask_of_clicks(picture, [on((40, 44))]), mask_of_clicks(picture, box=(28, 38, 53, 63))):
        assert iou(found, disc((40, 50), 9)) >= 0.9 and found[40, 50]


def test_in_a_box_a_region_counts_from_a_quarter_of_the_largest():
    large, middle, small = disc((40, 50), 8), disc((40, 70), 5), disc((40, 85), 2)
    found = mask_of_clicks(shown(large | middle | small), box=(28, 38, 53, 93))
    assert middle.sum() > large.sum() / 4 > small.sum()
    assert iou(found, large | middle) >= 0.9 and not (found & small).any()


def test_a_defect_that_fills_its_box_in_a_corner():
    "More than half of what is looked at; what lies around the box is still the surface"
    truth = np.zeros((96, 128), bool)
    truth[:20, :20] = True
    assert iou(mask_of_clicks(shown(truth), box=(0, 0, 20, 20)), truth) >= 0.95


def test_a_click_outside_of_the_box_adds_nothing_there():
    truth, other = disc((40, 50), 8), disc((40, 80), 8)
    found = mask_of_clicks(shown(truth | other), [on((40, 80))], box=(28, 38, 53, 63))
    assert iou(found, truth) >= 0.9 and not found[:, 63:].any()
    reaching = mask_of_clicks(shown(truth), [on((40, 61))], box=(28, 38, 53, 63))
    assert not reaching[:, 63:].any() and reaching[40, 61], 'nor does the edge that a click moves'


def test_the_edge_goes_twice_as_far_as_the_click():
    "On a straight edge, to a pixel: a click 4 px beyond the last pixel moves it by 7, one 4 px inside by 7 back"
    truth = np.zeros((160, 200), bool)
    truth[60:100, 80:120] = True
    picture = shown(truth, noise=0)
    first = mask_of_clicks(picture, [on((80, 100))])
    edge = np.flatnonzero(first[80]).max()
    grown = mask_of_clicks(picture, [on((80, 100)), on((80, int(edge) + 4))])
    shrunk = mask_of_clicks(picture, [on((80, 100)), beside((80, int(edge) - 3))])
    assert np.flatnonzero(grown[80]).max() == edge + 7
    assert np.flatnonzero(grown[85]).max() == edge + 6, 'and nearly so five rows beside it'
    assert np.flatnonzero(shrunk[80]).max() == edge - 7


def test_a_click_on_a_defect_nearby_begins_a_region_of_its_own():
    truth, other = disc((40, 50), 4), disc((40, 72), 4)
    found = mask_of_clicks(shown(truth | other), [on((40, 50)), on((40, 72))])
    assert iou(found, truth | other) >= 0.8 and not found[:, 60:63].any()


def test_a_pixel_that_was_clicked_beside_stays_off():
    "Though a later click on the defect, beyond it, takes what lies between"
    picture = shown(disc((40, 50), 8))
    found = mask_of_clicks(picture, [on((40, 50)), beside((40, 62)), on((40, 64))])
    assert not found[40, 62] and found[40, 64] and found[40, 60]


@pytest.mark.parametrize('clicked', [30, 90])
def test_what_a_click_cuts_off_goes(clicked):
    truth = np.zeros((96, 128), bool)
    truth[40:44, 20:100] = True
    found = mask_of_clicks(shown(truth), [on((42, clicked)), beside((42, 60))])
    kept = found[:, :60] if clicked < 60 else found[:, 61:]
    assert kept.sum() > 80 and kept.sum() == found.sum()


def test_a_click_beside_may_come_first():
    picture = shown(disc((40, 50), 8) | disc((40, 65), 8))
    late = mask_of_clicks(picture, [on((40, 50)), beside((40, 65))])
    assert (mask_of_clicks(picture, [beside((40, 65)), on((40, 50))]) == late).all()


def test_a_line_that_leaves_the_window_is_followed():
    "It is thin: few pixels of the first window, and cut by its edge"
    truth = np.zeros((160, 420), bool)
    truth[80:83, 20:400] = True
    assert iou(mask_of_clicks(shown(truth), [on((81, 200))]), truth) >= 0.8


def test_the_network_counts_as_much_as_contrast():
    "It sees one of two that touch; the other stands out eight tenths as much"
    truth, other = disc((40, 50), 8), disc((40, 66), 8)
    picture = shown(truth) - 48.0 * (other & ~truth)
    told = mask_of_clicks(picture, [on((40, 50))], probability=0.9 * truth)
    assert iou(told, truth) >= 0.85


@pytest.mark.parametrize('seed', range(4))
def test_mirror_images_and_turns_give_mirrored_masks(seed):
    rng = np.random.default_rng(seed)
    truth = disc((60, 70), 6) | disc((64, 78), 5)
    picture = shown(truth, seed=seed).astype(float) + 3 * rng.normal(size=truth.shape)
    h, w = picture.shape
    clicks = [((60, 70), True), ((64, 84), True), ((55, 66), False)]

    def mask(picture, move):
        return mask_of_clicks(picture, [Click((move(y, x),), positive) for (y, x), positive in clicks])

    straight = mask(picture, lambda y, x: (y, x))
    assert (mask(picture[:, ::-1], lambda y, x: (y, w - 1 - x))[:, ::-1] == straight).all()
    assert (mask(picture[::-1], lambda y, x: (h - 1 - y, x))[::-1] == straight).all()
    assert (mask(picture.T, lambda y, x: (x, y)).T == straight).all()


def test_the_same_numbers_of_another_kind_give_the_same_mask():
    truth = disc((40, 50), 7)
    picture = shown(truth)
    clicks = [on((40, 50)), beside((40, 58))]
    expected = mask_of_clicks(picture, clicks)
    for other in (picture.astype(np.uint16), picture.astype(float), picture[..., None], picture.tolist()):
        assert (mask_of_clicks(other, clicks) == expected).all()
    brighter = picture.astype(np.float32) * 2 + 30
    assert (mask_of_clicks(brighter, clicks) == expected).all(), 'twice the light, and a shade'
    before = picture.copy()
    mask_of_clicks(picture, clicks, box=(20, 30, 60, 70))
    assert (picture == before).all(), 'the picture is left as it was'


@pytest.mark.parametrize(
    'given, said',
    [
        (dict(clicks=[on((96, 0))]), 'row 96, column 0 is outside of the picture of 96 x 128.*click on the picture'),
        (dict(clicks=[on((4, 4)), beside((0, -1))]), 'column -1 is outside.*click on the picture'),
        (dict(clicks=[on((-0.5, 3))]), 'row -1, column 3 is outside.*click on the picture'),
        (dict(clicks=[]), 'give a positive one, or a box'),
        (dict(clicks=[beside((4, 4))]), 'give a positive one, or a box'),
        (dict(clicks=[on()]), 'give a positive one, or a box'),
        (dict(clicks=[on((float('nan'), 3))]), 'give rows and columns'),
        (dict(clicks=[on(7)]), 'give rows and columns'),
        (dict(box=(5, 5, 5, 9)), 'give its upper, left, lower and right edge'),
        (dict(box=(5, 5, 97, 9)), 'give its upper, left, lower and right edge'),
        (dict(clicks=[on((4, 4))], probability=np.zeros((4, 4))), 'give one for each pixel'),
    ],
)
def test_what_is_no_click_is_said_in_a_line(given, said):
    with pytest.raises(InputError, match=said) as e:
        mask_of_clicks(shown(disc((40, 50), 7)), **given)
    assert '\n' not in str(e.value)


def test_what_is_no_picture_is_said_in_a_line():
    for image in (np.zeros(5), np.zeros((0, 4)), np.zeros((2, 2, 2, 2))):
        with pytest.raises(InputError, match='give one of'):
            mask_of_clicks(image, [on((0, 0))])


@pytest.mark.parametrize('shape', [(30, 30), (60, 200)])
def test_a_click_beside_takes_the_same_from_each_corner_of_a_mask_that_fills_the_picture(shape):
    height, width = shape
    flat = np.full(shape, 90, np.uint8)

    def left(y, x):
        return mask_of_clicks(flat, [beside((y, x))], box=(0, 0, height, width))

    one = left(2, 2)
    assert 0 < (~one).sum() < one.sum()
    for y, x, turned in (
        (2, width - 3, one[:, ::-1]),
        (height - 3, 2, one[::-1]),
        (height - 3, width - 3, one[::-1, ::-1]),
    ):
        assert (left(y, x) == turned).all()
