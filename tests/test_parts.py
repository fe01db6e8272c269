"Defects as parts and images caught: against plain loops, scikit-learn and scikit-image where they are there"

import math

import numpy as np, pytest

from imbal_al.core import InputError
from imbal_al.measure.image_level import (
    auroc,
    average_precision,
    caught_and_flagged,
    histogram_scores,
    image_curve,
    spared,
)
from imbal_al.measure.metrics import EDGES, P_EDGES, histogram
from imbal_al.measure.parts import (
    AREAS,
    aupimo,
    aupro,
    measure_parts,
    part_level,
    part_record,
    pro_curve,
    regions,
)


def flooded(mask):
    "Regions by flood fill, eight neighbours: a list of sets of pixels"
    left = {tuple(at) for at in np.argwhere(mask)}
    out = []
    while left:
        todo, region = [left.pop()], set()
        while todo:
            y, x = todo.pop()
            region.add((y, x))
            near = {(y + a, x + b) for a in (-1, 0, 1) for b in (-1, 0, 1)} & left
            left -= near
            todo += near
        out.append(region)
    return out


def pictures(n=6, side=24, seed=0):
    "Smooth maps of logits and masks with a few defects; every third image is healthy"
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 1, (n, side, side))
    for axis in (1, 2):
        z = z + np.roll(z, 1, axis) + np.roll(z, -1, axis)
    z = (z / z.std() * 3 - 2).astype(np.float32)
    masks = np.zeros((n, side, side), int)
    for i in range(n):
        for _ in range(0 if i % 3 == 2 else 3):
            y, x = rng.integers(0, side - 6, 2)
            masks[i, y : y + rng.integers(1, 6), x : x + rng.integers(1, 6)] = 1
    return z, masks


def test_a_record_says_what_flood_fill_says_at_every_threshold_and_area():
    z, masks = pictures()
    for one, mask in zip(z, masks):
        record = part_record(one, mask)
        defects = flooded(mask)
        names = sorted(defects, key=min)
        assert sorted(record.area_K) == sorted(map(len, defects))
        order = [min(region) for region in names]
        for k in range(1, 128, 5):
            predicted = flooded(one >= EDGES[k])
            for a, area in enumerate(AREAS):
                big = [region for region in predicted if len(region) >= area]
                assert (record.peak_A[a] >= k) == bool(big)
                false = [region for region in big if not any(region & other for other in defects)]
                assert record.false_TA[k, a] == len(false)
                found = [any(region & defect for region in big) for defect in names]
                assert list(record.peak_KA[:, a] >= k) == found
            inside = [sum(one[at] >= EDGES[k] for at in region) / len(region) for region in names]
            assert np.allclose(record.hist_KB[:, k:].sum(1) / record.area_K, inside)
        assert order == sorted(order), 'scipy numbers regions row by row, as these are sorted'


def test_regions_are_those_of_scikit_image():
    measure = pytest.importorskip('skimage.measure', reason='pip install scikit-image')
    for mask in pictures(9)[1]:
        theirs = measure.label(mask, connectivity=2)
        assert (regions(mask).at == theirs).all()
        assert list(regions(mask).area) == [region.area for region in measure.regionprops(theirs)]


def test_pro_and_its_area_by_loops_over_exact_thresholds():
    "anomalib's definition: mean overlap of the regions against false pixels of all background"
    z, masks = pictures(6)
    z = (np.floor(z * 8) + 0.5) / 8
    z = np.clip(z, -7.9, 7.9)
    parts = measure_parts(z, masks, logits=True)
    hist = histogram(z, masks, logits=True)
    defects = [(i, region) for i, mask in enumerate(masks) for region in flooded(mask)]
    points = [(0.0, 0.0)]
    for t in np.unique(z)[::-1]:
        pro = np.mean([np.mean([z[i][at] >= t for at in region]) for i, region in defects])
        points.append(((z[masks == 0] >= t).mean(), pro))
    false, pro = np.array(points).T
    grid = np.unique(np.r_[false[false < 0.3], 0.3])
    want = np.trapezoid(np.interp(grid, false, pro), grid) / 0.3
    assert abs(aupro(parts, hist) - want) < 0.02
    ours_false, ours_pro = pro_curve(parts, hist)
    for f, v in points[1:]:
        assert (np.isclose(ours_false, f) & np.isclose(ours_pro, v)).any()


def test_aupimo_by_hand_over_many_images():
    "Bertoldo et al.: overlap of each faulty image against the mean false share of healthy ones"
    rng = np.random.default_rng(1)
    z = rng.normal(-4, 1.5, (8, 200, 200))
    masks = np.zeros((8, 200, 200), int)
    masks[:3, 50:60, 50:60] = 1
    z[:3, 50:60, 50:60] += np.array([2, 5, 8])[:, None, None]
    hist = histogram(z, masks, logits=True)
    low, high = 1e-3, 1e-1
    edges = EDGES[1:-1]
    false = np.array([np.mean([(one >= t).mean() for one in z[3:]]) for t in edges])
    for i, ours in enumerate(aupimo(hist, low=low, high=high)):
        found = np.array([(z[i][masks[i] > 0] >= t).mean() for t in edges])
        use = false > 0
        x = np.linspace(np.log(low), np.log(high), 20001)
        y = np.interp(x, np.log(false[use])[::-1], found[use][::-1])
        assert abs(ours - y.mean()) < 1e-3
    assert np.isnan(aupimo(hist[:3])).all(), 'without a healthy image nothing is told'
    with pytest.raises(InputError, match='rising'):
        aupimo(hist, low=0.1, high=0.01)


def made_up():
    "Six maps of logits at the middles of bins, and masks with six defects, the same on every machine"
    i, y, x = np.ogrid[:6, :64, :64]
    code = 40 + (37 * y * y + 101 * x + 53 * i * x + 17 * x * y) % 61 // 2
    masks = np.zeros(code.shape, int)
    boxes = [
        (0, 5, 5, 8, 8, 30),
        (0, 40, 20, 3, 20, 9),
        (1, 30, 30, 12, 4, 20),
        (3, 0, 50, 6, 14, 14),
        (3, 6, 49, 2, 1, 14),
        (3, 50, 3, 2, 2, 0),
    ]
    for at, top, left, h, w, more in boxes:
        box = np.s_[at, top : top + h, left : left + w]
        masks[box] = 1
        code[box] += more
    return (code - 64 + 0.5) / 8, masks


def test_the_values_of_anomalib():
    """What anomalib 2.7.0 says of the same maps and scores, computed once

    With `pip install anomalib==2.7.0`, z and masks as tensors, low and high as below:
        a = anomalib.metrics.aupro._AUPRO(fpr_limit=.3)
        a.update(z.float(), masks), a.compute()
        anomalib.metrics.pimo.functional.aupimo_scores(z, masks, 300000, (low,high))[4]
        anomalib.metrics.auroc._AUROC, .aupr._AUPR, .f1_score._F1Max: update(score, faulty), compute()
    The bounds of AUPIMO are false shares that occur, for anomalib takes the nearest one."""
    from imbal_al.measure.image_level import auroc, average_precision, image_curve

    z, masks = made_up()
    parts, hist = measure_parts(z, masks, logits=True), histogram(z, masks, logits=True)
    assert aupro(parts, hist, 0.05) == pytest.approx(0.5179119, abs=1e-6)
    assert aupro(parts, hist, 0.3) == pytest.approx(0.6192663, abs=1e-6)
    healthy = z[[2, 4, 5]]
    false = [(healthy >= t).mean() for t in np.unique(z)]
    low, high = sorted(set(false))[1:6:4]
    assert (low, high) == pytest.approx((0.015869140625, 0.14371744791666666))
    theirs = [0.681960690657344, 0.6460697537950458, 0.5248170285740044]
    assert aupimo(hist, low=low, high=high) == pytest.approx(theirs, abs=1e-9)
    score = np.array([0.9, 0.8, 0.8, 0.4, 0.3, 0.1, 0.35, 0.6, 0.05, 0.75])
    faulty = np.array([1, 1, 0, 0, 1, 0, 0, 1, 0, 0])
    assert auroc(score, faulty) == pytest.approx(0.7291667, abs=1e-6)
    assert average_precision(score, faulty) == pytest.approx(0.6916667, abs=1e-6)
    curve = image_curve(score, faulty)
    caught, flagged = 4 * curve.caught, 6 * curve.flagged
    assert (2 * caught / (caught + flagged + 4)).max() == pytest.approx(0.6666667, abs=1e-6)


def test_image_scores_are_those_of_scikit_learn():
    metrics = pytest.importorskip('sklearn.metrics', reason='pip install scikit-learn')
    rng = np.random.default_rng(0)
    for n in (20, 200):
        y = rng.random(n) < 0.3
        y[:2] = True, False
        score = np.round(rng.normal(y, 1), 1)
        w = rng.uniform(0.2, 3, n)
        for weights in (None, w):
            assert np.isclose(
                auroc(score, y, weights), metrics.roc_auc_score(y, score, sample_weight=weights)
            )
            assert np.isclose(
                average_precision(score, y, weights=weights),
                metrics.average_precision_score(y, score, sample_weight=weights),
            )
        for pi in (0.01, 0.05, 0.5):
            v = np.where(y, pi / y.sum(), (1 - pi) / (~y).sum())
            want = metrics.average_precision_score(y, score, sample_weight=v)
            assert np.isclose(average_precision(score, y, pi), want)
        fpr, tpr, at = metrics.roc_curve(y, score, drop_intermediate=False)
        ours = image_curve(score, y)
        assert np.allclose(ours.caught, tpr) and np.allclose(ours.flagged, fpr)


def test_spared_by_trying_every_threshold():
    rng = np.random.default_rng(3)
    y = rng.random(80) < 0.4
    score = np.round(rng.normal(2 * y, 1), 1)
    for slip in (0, 0.05, 0.1, 0.5):
        best = 0
        for t in np.r_[score, np.inf]:
            if (score[y] < t).mean() <= slip + 1e-12:
                best = max(best, (score[~y] < t).mean())
        assert np.isclose(spared(score, y, slip), best)


def test_prevalence_moves_precision_only_and_groups_widen():
    rng = np.random.default_rng(0)
    y = np.arange(120) < 40
    score = rng.normal(2 * y, 1)
    rare, often = (caught_and_flagged(score, y, 1.0, pi, draws=30) for pi in (0.01, 0.5))
    assert rare.caught == often.caught and rare.flagged == often.flagged
    assert rare.auroc == often.auroc and rare.precision.mean < 0.1 < often.precision.mean
    c, f = rare.caught.mean, rare.flagged.mean
    assert np.isclose(rare.precision.mean, 0.01 * c / (0.01 * c + 0.99 * f))
    by_part = caught_and_flagged(np.repeat(score, 3), np.repeat(y, 3), 1.0, groups=np.arange(360) // 3)
    thrice = caught_and_flagged(np.repeat(score, 3), np.repeat(y, 3), 1.0)
    one = caught_and_flagged(score, y, 1.0)
    def width(i):
        return i.high - i.low
    assert width(thrice.caught) < 0.7 * width(one.caught)
    assert width(by_part.caught) > 0.95 * width(one.caught), 'three photographs of a part are one'


def test_shares_of_parts_do_not_depend_on_how_often_an_image_is_there():
    z, masks = pictures(9)
    once = part_level(measure_parts(z, masks, logits=True), 0.5, 2)
    twice = part_level(
        measure_parts(np.tile(z, (2, 1, 1)), np.tile(masks, (2, 1, 1)), logits=True),
        0.5,
        2,
        groups=np.tile(np.arange(9), 2),
    )
    assert np.isclose(once.found.mean, twice.found.mean)
    assert np.isclose(once.false.mean, twice.false.mean)
    assert np.isclose(once.overlap.low, twice.overlap.low, atol=0.01)


def test_sizes_hold_all_defects():
    parts = measure_parts(*pictures(12), logits=True)
    level = part_level(parts)
    assert level.by_size.defects.sum() == level.defects == len(parts.area_K)
    found = (level.by_size.found * level.by_size.defects).sum()
    assert np.isclose(found, level.n_found)


def test_probabilities_are_logits_and_bad_input_is_named():
    z, masks = pictures(3)
    p = 1 / (1 + np.exp(-z.astype(float)))
    a, b = measure_parts(z, masks, logits=True), measure_parts(p, masks)
    assert (a.peak_NA == b.peak_NA).all() and (a.hist_KB == b.hist_KB).all()
    with pytest.raises(InputError, match='one mask for each'):
        measure_parts(p, masks[:2])
    with pytest.raises(InputError, match='one shape'):
        part_record(z[0], masks[0][:5])
    bad = z[0].copy()
    bad[0, 0] = math.nan
    with pytest.raises(InputError, match='nan'):
        part_record(bad, masks[0])
    with pytest.raises(InputError, match='smallest area 0'):
        part_level(a, min_area=0)
    with pytest.raises(InputError, match='one of each per image'):
        auroc([1, 2], [1])
    with pytest.raises(InputError, match='slip'):
        spared([1, 2], [0, 1], 1)


def test_an_image_without_anything_and_one_that_is_all_defect():
    empty, full = np.full((5, 5), -20.0), np.full((5, 5), 20.0)
    parts = measure_parts([empty, full], [0 * empty, 1 + 0 * full], logits=True)
    assert parts.peak_NA[0].max() == 0 and parts.peak_NA[1, 0] == 127
    level = part_level(parts)
    assert (level.n_found, level.false.mean, level.overlap.mean) == (1, 0, 1)
    assert math.isnan(auroc([], [])) and average_precision([1.0], [1]) == 1


def test_scores_of_histograms_are_the_highest_bins():
    z, masks = pictures(5)
    hist = histogram(z, masks, logits=True)
    want = [np.searchsorted(EDGES, one.max(), side='right') - 1 for one in z]
    assert list(histogram_scores(hist)) == list(np.clip(want, 0, 127))
    parts = measure_parts(z, masks, logits=True)
    assert (parts.peak_NA[:, 0] == histogram_scores(hist)).all()
    assert P_EDGES[64] == 0.5


def test_the_ends_of_an_overlap_are_shares():
    "Of few defects an interval by Student's distribution may leave 0 to 1"
    from imbal_al.measure.parts import _share
    from imbal_al.measure.statistics import Interval

    assert _share(Interval(0.02, -0.02, 0.06, 10), 10, 0.95) == Interval(0.02, 0.0, 0.06, 10)
    assert _share(Interval(0.98, 0.9, 1.06, 10), 10, 0.95) == Interval(0.98, 0.9, 1.0, 10)
    assert math.isnan(_share(Interval(0.5, math.nan, math.nan, 1), 1, 0.95).low)
