"Hard corners of measure.shift, .prevalence and .threshold: exact decompositions, known shifts found again, thresholds that behave, one-line errors"

import json

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from imbal_al.core import InputError, stream
from imbal_al.measure.metrics import (
    BINS, P_EDGES, best_threshold, prevalence_weights, scores, scores_at, threshold_bin,
)
from imbal_al.measure.oii import oii
from imbal_al.measure.prevalence import (
    _bbse_prevalence, _calibrate_pixels, em_prevalence, _fit_logistic, _image_scores,
    estimate_prevalence, hedge, made_up_images,
)
from imbal_al.measure.shift import (
    _alarm_ratio, _relative_loss, decompose, difference, f1_at, gated_counts, growth, image_rates,
    oii_at, split_loss,
)
from imbal_al.measure.statistics import resample_units
from imbal_al.measure.threshold import (
    choose_threshold, cross_fitted, deal_folds, operating_point,
)
from imbal_al.results.remedies import recoveries, recovery, recovery_table, WAYS
from imbal_al.studies.run_records import read_run, run_operating_point

quick = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32 - 1)
shares = st.floats(0.01, 1)
VAL, FV = made_up_images(60, 60, seed=1)


def images(seed, n=12):
    "Small random histograms, half of the images faulty"
    rng = np.random.default_rng(seed)
    hist = rng.poisson(rng.choice([0.02, 0.3, 2], (n, 2, 1)), (n, 2, BINS)).astype(np.uint32)
    hist[:, 0, 0] += 50
    hist[n // 2 :, 1] = 0
    hist[0, 1, 70] += 1
    return hist, np.arange(n) < n // 2


# --- decomposition


@quick
@given(seeds, shares, shares, st.floats(0.02, 0.98), st.integers(0, 60))
def test_parts_add_up_to_the_loss_of_the_scores(seed, a, b, t, gate):
    hist, y = images(seed)
    d = decompose(hist, y, a, b, t)
    assert d.arithmetic == 0
    lost = scores_at(hist, y, a, t)['f1'] - scores_at(hist, y, b, t)['f1']
    assert d.arithmetic + d.like + d.excess == pytest.approx(
        lost, abs=1e-12
    ) and d.lost == pytest.approx(lost, abs=1e-12)
    if d.f1_from > 0:
        assert float(_relative_loss(d.ratio, a, b)) == pytest.approx(d.share, abs=1e-9)
    gated = decompose(hist, y, a, b, t, gate)
    c = gated_counts(hist, t, gate)
    assert gated.f1_to == pytest.approx(
        float(scores(*prevalence_weights(y, b) @ c)['f1']), nan_ok=True
    )


@quick
@given(seeds, shares, st.floats(0.02, 0.98))
def test_oii_and_f1_follow_the_weights(seed, pi, t):
    hist, y = images(seed)
    tp, fp, fn = prevalence_weights(y, pi) @ gated_counts(hist, t)
    r = image_rates(hist, y, t)
    assert f1_at(r, pi) == pytest.approx(2 * tp / (2 * tp + fp + fn)) and oii_at(
        r, pi
    ) == pytest.approx(oii(tp, fp, fn), abs=1e-9)


@quick
@given(seeds, shares, shares)
def test_silent_healthy_images_cost_nothing(seed, a, b):
    hist, y = images(seed)
    hist[~y, :, 64:] = 0
    d = decompose(hist, y, a, b)
    assert d.lost == 0 and d.alarms == pytest.approx(0, abs=1e-12) and d.ratio == 0


def test_nothing_is_lost_on_the_spot_and_oii_falls_with_the_prevalence():
    assert decompose(VAL, FV, 1.0, 1.0).lost == 0
    o = oii_at(image_rates(VAL, FV), np.linspace(0.01, 1, 30))
    assert (np.diff(o) >= -1e-12).all() and o[0] < -0.8


@given(st.floats(0, 5), shares, shares)
def test_alarm_ratio_inverts_the_loss(k, a, b):
    if abs(a - b) > 1e-3:
        assert float(_alarm_ratio(_relative_loss(k, a, b), a, b)) == pytest.approx(
            k, rel=1e-5, abs=1e-9
        )


@quick
@given(seeds, seeds, shares, shares, st.floats(0.01, 0.5))
def test_growth_and_difference_are_complete_and_antisymmetric(s, t, fa, fb, to):
    a, b = (image_rates(*images(o)) for o in (s, t))
    g, back = growth(a, fa, b, fb, to), growth(b, fb, a, fa, to)
    assert g['total'] == pytest.approx(
        float(_relative_loss(b.ratio, fb, to) - _relative_loss(a.ratio, fa, to)), abs=1e-9
    )
    assert all(g[k] == pytest.approx(-back[k], abs=1e-9) for k in g)
    d = difference(a, b, to)
    assert d['total'] == pytest.approx(f1_at(b, to) - f1_at(a, to), abs=1e-12) and d['faulty'] + d[
        'healthy'
    ] == pytest.approx(d['total'], abs=1e-12)


def test_bootstrap_weights_count_images():
    w = resample_units(FV, None, 1, stream(3, 'x'))[0]
    again = np.repeat(np.arange(len(FV)), w.astype(int))
    assert image_rates(VAL, FV, weights=w) == pytest.approx(image_rates(VAL[again], FV[again]))


# --- prevalence


@quick
@given(seeds, st.floats(0.05, 0.95))
def test_em_ends_where_em_ends(seed, v):
    q, pi = np.random.default_rng(seed).beta(0.5, 0.8, 60), v
    for _ in range(4000):
        e = pi / v * q
        new = np.mean(e / (e + (1 - pi) / (1 - v) * (1 - q)))
        if abs(new - pi) < 1e-13:
            break
        pi = new
    assert em_prevalence(q, v)[0] == pytest.approx(pi, abs=2e-4)


def gaussian(n1, n0, seed):
    "Scores whose true logit of being faulty is 2s at equal shares"
    rng = np.random.default_rng(seed)
    return np.r_[rng.normal(1, 1, n1), rng.normal(-1, 1, n0)]


@pytest.mark.parametrize('pi', [0.02, 0.05, 0.3, 0.7])
def test_known_shift_is_found_in_scores(pi):
    s_v, y, n = gaussian(2000, 2000, 0), np.repeat([1.0, 0.0], 2000), 20000
    s_d = gaussian(round(n * pi), n - round(n * pi), 1)
    a, b = _fit_logistic(s_v, y, np.ones((1, 4000)))[0]
    assert a == pytest.approx(2, abs=0.15) and b == pytest.approx(0, abs=0.15)
    q = lambda s: 1 / (1 + np.exp(-a * s - b))
    assert em_prevalence(q(s_d), 0.5)[0] == pytest.approx(pi, abs=0.015)
    assert _bbse_prevalence(
        (q(s_d) >= 0.5).mean(), (q(s_v[:2000]) >= 0.5).mean(), (q(s_v[2000:]) >= 0.5).mean()
    ) == pytest.approx(pi, abs=0.02)


@pytest.mark.parametrize('method', ['em', 'bbse'])
def test_estimate_from_histograms_with_an_interval(method):
    dep, fd = made_up_images(60, 540, seed=5)
    e = estimate_prevalence(VAL, FV, dep, method, draws=60)
    assert e.pi.low < fd.mean() < e.pi.high and e.pi.low <= e.pi.mean <= e.pi.high and e.p > 0.02
    assert e.pi == estimate_prevalence(VAL, FV, dep.sum(1), method, draws=60).pi


def test_calibrated_mean_is_the_share_of_faulty():
    s = _image_scores(VAL, 'mean')
    y = np.arange(len(s)) < 20
    a, b = _fit_logistic(s, y.astype(float), np.ones((1, len(s))))[0]
    assert (1 / (1 + np.exp(-a * s - b))).mean() == pytest.approx(y.mean(), abs=1e-6)


def test_classes_that_do_not_overlap_have_a_finite_answer():
    s, y = np.r_[np.ones(5), -np.ones(5)], np.repeat([1.0, 0.0], 5)
    a, b = _fit_logistic(s, y, np.ones((1, 10)))[0]
    assert np.isfinite([a, b]).all() and 1 < a < 50


def test_foreign_images_are_noticed_and_own_ones_are_not():
    p = [
        estimate_prevalence(
            *made_up_images(60, 60, seed=k), made_up_images(10, 190, seed=100 + k)[0], draws=100
        ).p
        for k in range(5)
    ]
    assert np.mean(np.array(p) < 0.05) <= 0.2 and np.median(p) > 0.1
    assert (
        estimate_prevalence(VAL, FV, made_up_images(0, 200, seed=9, alarms=1.0)[0], draws=100).p
        < 0.05
    )


# --- threshold and gate


@settings(max_examples=8, deadline=None)
@given(seeds, st.floats(0.02, 1))
def test_choice_is_the_best_of_all(seed, pi):
    hist, y = images(seed)
    gates = [0, 2, 5, 20]
    c = choose_threshold(hist, y, pi, gate=gates)
    by_hand = [
        np.nan_to_num(float(scores(*prevalence_weights(y, pi) @ gated_counts(hist, t, g))['f1']))
        for g in gates
        for t in P_EDGES
    ]
    assert c.f1 == pytest.approx(max(by_hand)) and c.f1 == pytest.approx(
        f1_at(image_rates(hist, y, c.threshold, c.gate), pi)
    )
    plain = choose_threshold(hist, y, pi)
    assert (
        plain.gate == 0
        and plain.f1 == pytest.approx(best_threshold(hist, y, pi)[1])
        and plain.f1 <= c.f1 + 1e-12
    )


@quick
@given(seeds)
def test_rarer_defects_never_raise_f1_or_alarms_per_found_pixel(seed):
    hist, y = images(seed)
    best = [choose_threshold(hist, y, p) for p in (1.0, 0.5, 0.2, 0.05, 0.01)]
    assert (np.diff([c.f1 for c in best]) <= 1e-12).all()
    r = [image_rates(hist, y, c.threshold) for c in best]
    assert (np.diff([o.alarm / o.tp for o in r]) <= 1e-9).all()


def test_more_caution_stays_nearer_to_a_half_and_costs_little():
    far = [
        abs(threshold_bin(choose_threshold(VAL, FV, 0.05, caution=c).threshold) - 64)
        for c in (0, 0.5, 1, 2, 5, 1e9)
    ]
    assert far == sorted(far, reverse=True) and far[0] > far[-1] == 0
    c = choose_threshold(VAL, FV, 0.05, gate=True, caution=1e9)
    assert (c.threshold, c.gate) == (0.5, 0)


def test_caution_with_groups_of_one_is_caution_without():
    one, none = (choose_threshold(VAL, FV, 0.05, True, 1.0, g) for g in (np.arange(len(FV)), None))
    assert one == none


def test_copies_grouped_together_make_it_more_cautious():
    many = np.repeat(np.arange(len(FV)), 9)
    far = lambda g: abs(
        threshold_bin(choose_threshold(VAL[many], FV[many], 0.05, caution=2.0, groups=g).threshold)
        - 64
    )
    assert choose_threshold(VAL[many], FV[many], 0.05, caution=2.0, groups=many)[
        :2
    ] == choose_threshold(VAL, FV, 0.05, caution=2.0)[:2] and far(many) < far(None)


def test_order_of_images_does_not_matter():
    p = np.random.default_rng(0).permutation(len(FV))
    for kw in (dict(), dict(gate=True), dict(gate=True, caution=1.0)):
        assert (
            choose_threshold(VAL[p], FV[p], 0.05, **kw)[:2]
            == choose_threshold(VAL, FV, 0.05, **kw)[:2]
        )


def test_gate_drops_hits_too():
    assert (gated_counts(VAL, 0.5, 10**6)[:, :2] == 0).all() and (
        gated_counts(VAL, 0.5, 10**6)[:, 2] == VAL[:, 1].sum(1)
    ).all()


def test_cross_fitting_leaves_an_image_out():
    "A sole faulty image per fold decides nothing about its own threshold: spoil it and its counts' threshold stays"
    y = deal_folds(FV, None, 5, stream(0, 'folds'))
    a = cross_fitted(VAL, FV, 0.05, folds=5, repeats=1)
    spoiled = VAL.copy()
    i = 3
    spoiled[i, 1] = np.roll(VAL[i, 1], -40)
    for f in range(5):
        assert (FV & (y == f)).any()
    b = cross_fitted(spoiled, FV, 0.05, folds=5, repeats=1)
    same = y == y[i]
    same[i] = False
    assert (a[same] == b[same]).all()


def test_cross_fitting_takes_the_luck_out():
    "On thirty images the best point looks better than it is; cross-fitted counts do not, on average"
    luck, left = [], []
    for k in range(6):
        h, y = made_up_images(15, 15, seed=60 + k)
        luck.append(choose_threshold(h, y, 0.05, gate=True).f1)
        left.append(
            float(scores(*prevalence_weights(y, 0.05) @ cross_fitted(h, y, 0.05, gate=True))['f1'])
        )
    assert np.mean(luck) > np.mean(left) + 0.05


def test_groups_stay_in_one_fold():
    g = np.arange(len(FV)) % 30
    fold = deal_folds(FV, g, 5, stream(0, 'x'))
    assert all(len(set(fold[g == k])) == 1 for k in range(30))


# --- calibrated pixels


def test_calibration_is_a_monotone_change_and_right_on_average():
    p = _calibrate_pixels(VAL, FV, 0.05)
    assert (np.diff(p) > 0).all()
    back, fore = np.tensordot(prevalence_weights(FV, 0.05), VAL.astype(float), 1)
    assert (back + fore) @ p == pytest.approx(fore.sum(), rel=1e-3)


# --- recovery


def test_recovery_is_a_ratio_of_sums():
    assert recovery([0.1, 0.5], [0.2, 0.49], [0.3, 0.501]).mean == pytest.approx(0.09 / 0.201)
    assert np.isnan(recovery([0.5], [0.6], [0.509]).mean) and not np.isnan(
        recovery([0.5], [0.6], [0.511]).mean
    )
    r = recovery([0.1, 0.2, 0.3], [0.3, 0.4, 0.5], [0.3, 0.4, 0.5])
    assert (r.mean, r.low, r.high) == pytest.approx((1, 1, 1))


def test_recovery_of_few_runs_is_less_sure():
    raw, fixed, oracle = (
        np.array([0.1, 0.2, 0.15]),
        np.array([0.15, 0.35, 0.3]),
        np.array([0.3, 0.4, 0.35]),
    )
    gain, gap = fixed - raw, oracle - raw
    a, b = (recovery(raw, fixed, oracle, kind=k) for k in ('bootstrap', 'wider'))
    assert a.mean == b.mean and b.low < a.low and b.high > a.high
    half = 4.302653 * np.std(gain - a.mean * gap, ddof=1) / np.sqrt(3) / gap.mean()
    assert (b.low, b.high) == pytest.approx((a.mean - half, a.mean + half), rel=1e-5)
    assert recovery([0.1], [0.2], [0.3], kind='wider').mean == pytest.approx(0.5) and np.isnan(
        recovery([0.1], [0.2], [0.3], kind='wider').low
    )
    bad("unknown kind of interval 'x'", lambda: recovery(raw, fixed, oracle, kind='x'))


def test_split_loss_is_decompose():
    assert split_loss(image_rates(VAL, FV, 0.7, 9), 0.8, 0.05) == decompose(
        VAL, FV, 0.8, 0.05, 0.7, 9
    )
    bad(
        'F1 is not defined',
        lambda: split_loss(image_rates(VAL, FV)._replace(tp=0, fp=0, fn=0), 0.5, 0.1),
    )


def test_ways_rank_as_they_must():
    test, ft = made_up_images(80, 80, seed=20)
    r = recoveries(
        test[20:140],
        ft[20:140],
        VAL[20:100],
        FV[20:100],
        0.05,
        1.0,
        made_up_images(5, 45, seed=21)[0],
        draws=20,
    )
    assert tuple(r) == WAYS and all(
        (r['oracle'] >= r[k] - 1e-12).all()
        for k in (
            'raw',
            'unaware',
            'known',
            'half',
            'twice',
            'em',
            'bbse',
            'em_hedged',
            'careful',
            'em_careful',
        )
    )
    assert all((r['oracle_gate'] >= r[k] - 1e-12).all() for k in WAYS)
    t = recovery_table([r, r, r], draws=50).set_index('way')
    assert t.recovery['oracle'] == 1 and t.gain['raw'] == 0 and (t.runs == 3).all()


# --- one call


def test_operating_point_keeps_its_promise_on_new_images():
    new, fn = made_up_images(400, 400, seed=30)
    o = operating_point(VAL, FV, pi=0.05, draws=60)
    assert o.f1.low < f1_at(image_rates(new, fn, o.threshold, o.gate), 0.05) < o.f1.high
    assert (
        o.f1_half.low < f1_at(image_rates(new, fn), 0.05) < o.f1_half.high
        and o.pi.mean == 0.05
        and o.estimate is None
    )
    assert o.lost.arithmetic == 0 and o.wrong[0.5] < o.wrong[1.0] < o.wrong[2.0]
    text = o.account()
    assert '5.0% faulty images, as given' in text and 'Beware' not in text


def test_operating_point_of_a_stream_without_faults_says_so():
    o = operating_point(VAL, FV, unlabelled=made_up_images(0, 60, seed=3, alarms=0.0)[0], draws=40)
    assert (
        np.isfinite(o.f1.mean)
        and o.pi.mean == pytest.approx(0, abs=1e-9)
        and 'no faulty image is seen among 60' in o.account()
    )


def test_faulty_only_validation_is_enough_only_for_faulty_only_use():
    o = operating_point(VAL[FV], FV[FV], pi=1.0, draws=20)
    assert o.lost is None and o.n_healthy == 0 and o.account()
    with pytest.raises(InputError, match='needs healthy images'):
        operating_point(VAL[FV], FV[FV], pi=0.05)


@pytest.fixture
def run_folder(tmp_path):
    n = len(FV)
    (tmp_path / 'config.json').write_text(json.dumps(dict(pi_u=0.5, pi_t=[0.5, 0.1])))
    ids = np.arange(n)
    np.savez_compressed(
        tmp_path / 'scenario.npz',
        heldout=ids + 7,
        heldout_faulty=FV,
        validation=ids + 500,
        validation_faulty=FV,
        test_0=ids[:10] + 7,
        test_1=ids[5:9] + 7,
    )
    for c in (1, 2):
        np.savez_compressed(
            tmp_path / f'cycle_0{c}.npz', hist=VAL, hist_validation=VAL * np.uint32(c)
        )
    return tmp_path


def test_run_folder(run_folder):
    r = read_run(run_folder)
    assert (
        r['cycle'] == 2
        and (r['tests'][0.1] == np.arange(5, 9)).all()
        and read_run(run_folder, 1)['hist_validation'].sum() * 2 == r['hist_validation'].sum()
    )
    a = run_operating_point(run_folder, pi=0.05, draws=20, cycle=1)
    b = operating_point(VAL, FV, pi=0.05, draws=20)
    assert a.account() == b.account() and a.f1 == b.f1


# --- bad input


def bad(line, f, *a, **kw):
    with pytest.raises(InputError, match=line) as e:
        f(*a, **kw)
    assert '\n' not in str(e.value)


@pytest.mark.parametrize(
    'call,line',
    [
        (lambda: decompose(VAL, FV, 1, 0), 'prevalence 0'),
        (lambda: decompose(VAL, FV, 1.5, 0.1), 'prevalence 1.5'),
        (lambda: decompose(VAL, FV, 'x', 0.1), 'no number'),
        (lambda: decompose(VAL[:, 0], FV, 1, 0.1), 'have shape'),
        (lambda: decompose(VAL, FV[:3], 1, 0.1), 'one flag per image'),
        (lambda: decompose(VAL, ~FV, 1, 0.1), 'flagged healthy but holds'),
        (lambda: decompose(VAL, FV * 2, 1, 0.1), 'must be 0 or 1'),
        (lambda: image_rates(VAL[FV], FV[FV]), 'no healthy image'),
        (lambda: image_rates(VAL, FV, gate=-1), 'gate -1'),
        (lambda: _alarm_ratio(0.99, 0.1, 0.05), 'cannot come from prevalence'),
        (lambda: _alarm_ratio(0.1, 0.1, 0.1), 'the same'),
        (lambda: choose_threshold(VAL, FV, 0), 'prevalence 0'),
        (lambda: choose_threshold(VAL, FV, np.nan), 'prevalence nan'),
        (lambda: choose_threshold(VAL[~FV], FV[~FV], 0.1), 'needs faulty images'),
        (lambda: choose_threshold(VAL, FV, 0.1, gate=1.5), 'whole numbers'),
        (lambda: choose_threshold(VAL, FV, 0.1, caution=-1), 'caution -1'),
        (lambda: choose_threshold(VAL, FV, 0.1, caution=1.0, groups=[1]), 'one group per image'),
        (lambda: cross_fitted(VAL[59:61], FV[59:61], 0.1), 'too few'),
        (lambda: cross_fitted(VAL, FV, 0.1, folds=1), 'folds 1'),
        (lambda: estimate_prevalence(VAL, FV, VAL, 'guess'), 'unknown method'),
        (lambda: estimate_prevalence(VAL, FV, VAL, score='x'), 'unknown image score'),
        (lambda: estimate_prevalence(VAL[FV], FV[FV], VAL), 'without the other kind'),
        (lambda: estimate_prevalence(VAL, FV, VAL[:0]), 'at least 1'),
        (lambda: estimate_prevalence(VAL, FV, np.zeros((2, BINS))), 'holds no pixel'),
        (lambda: estimate_prevalence(VAL, FV, VAL, draws=3), 'at least 20'),
        (lambda: estimate_prevalence(VAL, FV, VAL, level=2), 'no confidence'),
        (lambda: recovery([1], [1, 2], [1]), 'one value of each'),
        (lambda: recovery_table([]), 'at least one run'),
        (lambda: operating_point(VAL, FV), 'give either pi'),
        (lambda: operating_point(VAL, FV, pi=0.1, unlabelled=VAL), 'give either pi'),
        (lambda: operating_point(VAL, pi=0.1), 'faulty is missing'),
        (lambda: operating_point(VAL, FV, pi=0), 'prevalence 0'),
    ],
)
def test_bad_input_is_one_line(call, line):
    bad(line, call)


def test_bad_run_folders(run_folder, tmp_path_factory):
    bad('holds no cycle', read_run, tmp_path_factory.mktemp('empty'))
    bad('has no cycle 9; it has 1 to 2', read_run, run_folder, 9)
    bad('histograms have shape', operating_point, run_folder, FV, pi=0.1)
    whole = (run_folder / 'cycle_02.npz').read_bytes()
    (run_folder / 'cycle_02.npz').write_bytes(whole[:100])
    bad('cycle_02.npz is damaged', run_operating_point, run_folder, pi=0.1)
    np.savez(run_folder / 'cycle_02.npz', hist=VAL)
    bad('holds no hist_validation', read_run, run_folder)
    (run_folder / 'scenario.npz').unlink()
    bad('scenario.npz is missing', read_run, run_folder, 1)


# --- found by breaking the code: each of these lines could be wrong without a test failing


def test_like_is_the_background_rate_of_faulty_images_times_healthy_pixels():
    hist = np.zeros((3, 2, BINS), np.uint32)
    hist[0, 1, 70] = 20
    hist[0, 0, 70] = 6
    hist[0, 0, 10] = 54
    hist[1, 1, 10] = 20
    hist[1, 0, 10] = 20
    hist[2, 0, 10] = 90
    hist[2, 0, 80] = 10
    r = image_rates(hist, [1, 1, 0])
    assert (
        r.like == pytest.approx(6 / 80 * 100)
        and r.alarm == 10
        and (r.tp, r.fp, r.fn) == (10, 3, 10)
    )
    d = decompose(hist, [1, 1, 0], 1.0, 0.05)
    assert d.like == pytest.approx(
        d.f1_from * float(_relative_loss(r.like / r.counted, 1.0, 0.05))
    ) and d.like != pytest.approx(d.lost)


def test_em_counts_an_image_as_often_as_its_weight():
    rng = np.random.default_rng(3)
    q = rng.uniform(0.01, 0.99, 40)
    w = rng.integers(0, 4, 40).astype(float)
    assert em_prevalence(q, 0.4, w[None])[0] == pytest.approx(
        em_prevalence(np.repeat(q, w.astype(int)), 0.4)[0], abs=1e-9
    )
    assert em_prevalence(q, 0.4, w[None])[0] != pytest.approx(em_prevalence(q, 0.4)[0], abs=1e-3)


def test_logistic_is_where_the_ridge_has_it():
    s = np.r_[-3.0, -2, -1, 1, 2, 3]
    y = (s > 0).astype(float)
    a, b = _fit_logistic(s, y, np.ones((1, 6)), ridge=0.5)[0]
    x, slope = s / s.std(), a * s.std()
    q = 1 / (1 + np.exp(-(a * s + b)))
    assert ((y - q) * x).sum() == pytest.approx(0.5 * slope, rel=1e-6) and (
        y - q
    ).sum() == pytest.approx(0, abs=1e-6)


def test_of_equal_thresholds_the_one_nearest_to_a_half():
    hist = np.zeros((2, 2, BINS), np.uint32)
    hist[0, 1, 120] = 9
    hist[:, 0, 5] = 50
    assert choose_threshold(hist, [1, 0], 0.1).threshold == 0.5
    hist[1, 0, 90] = 3
    assert choose_threshold(hist, [1, 0], 0.1).threshold == P_EDGES[91]


def test_several_prevalences_are_judged_by_their_mean_f1():
    c = choose_threshold(VAL, FV, [0.02, 0.9])
    mean = lambda t: np.mean([scores_at(VAL, FV, p, t)['f1'] for p in (0.02, 0.9)])
    assert c.f1 == pytest.approx(mean(c.threshold)) and c.f1 == pytest.approx(
        max(map(mean, P_EDGES))
    )


# --- what an operating point is made of

FEW, FF = made_up_images(25, 25, seed=5)  # Here caution makes a difference


def below(p, n=40, seed=3):  # Unlabelled images, a share p of them faulty
    f = round(p * n)
    h, _ = made_up_images(max(f, 1), n - f, seed=seed)
    return h.sum(1)


def test_an_operating_point_is_careful_unless_told_not_to_be():
    """One standard error of caution, in the choice and in what is expected of it"""
    careful, plain = (choose_threshold(FEW, FF, 0.05, caution=c) for c in (1.0, 0.0))
    assert careful.threshold != plain.threshold
    o = operating_point(FEW, FF, 0.05, draws=20)
    assert o.threshold == careful.threshold
    for caution in (0.0, 1.0):
        fixed = prevalence_weights(FF, 0.05) @ cross_fitted(FEW, FF, 0.05, False, caution, seed=0)
        assert operating_point(FEW, FF, 0.05, caution=caution, draws=20).f1.mean == pytest.approx(
            float(scores(*fixed)['f1'])
        )
    assert not np.allclose(
        cross_fitted(FEW, FF, 0.05, False, 1.0), cross_fitted(FEW, FF, 0.05, False, 0.0)
    )


def test_an_estimated_prevalence_is_hedged_and_widens_what_is_expected():
    from imbal_al.measure.prevalence import above_nothing

    u = below(0.1)
    est = estimate_prevalence(VAL, FV, u, draws=300)
    o = operating_point(VAL, FV, unlabelled=u)
    assert (
        o.threshold
        == choose_threshold(VAL, FV, hedge(above_nothing(est)[1]), caution=1.0).threshold
    )
    known = operating_point(VAL, FV, o.pi.mean)
    width = lambda i: i.high - i.low
    assert width(o.f1) > 1.1 * width(known.f1)


def test_images_of_another_kind_are_warned_of():
    odd = np.zeros((40, BINS), np.uint32)
    odd[:20, 5] = VAL[0].sum()
    odd[20:, 120] = VAL[0].sum()
    assert any(
        'fit no mixture' in w for w in operating_point(VAL, FV, unlabelled=odd, draws=200).warnings
    )
    assert not any(
        'fit no mixture' in w
        for w in operating_point(VAL, FV, unlabelled=below(0.3, 100), draws=200).warnings
    )


def test_a_gate_is_chosen_with_caution():
    hist, y = made_up_images(40, 40, seed=7)
    r = recoveries(hist, y, FEW, FF, 0.05, draws=20)

    def f1(c):
        return float(
            scores(*prevalence_weights(y, 0.05) @ gated_counts(hist, c.threshold, c.gate))['f1']
        )

    careful, plain = (choose_threshold(FEW, FF, 0.05, True, c) for c in (1.0, 0.0))
    assert (
        careful != plain
        and r['gate'][0] == pytest.approx(f1(careful))
        and r['known'][0] == pytest.approx(f1(choose_threshold(FEW, FF, 0.05)))
    )


def test_a_hedge_moves_with_its_draw():
    from imbal_al.results.remedies import _estimates

    e = _estimates(VAL, FV, below(0.3, 100), None, 30, 0)
    em, hedged = e['em'][:, 0], e['em_hedged']
    free = (hedged > 0.006).all(1) & (hedged < 1).all(1)
    assert free.sum() > 20 and np.ptp(em) > 0.02
    np.testing.assert_allclose((hedged - hedged[0]).mean(1)[free], (em - em[0])[free], atol=1e-9)


def test_variance_of_a_difference_is_that_of_images_around_the_mean_of_their_kind():
    """By hand, for two thresholds and one gate"""
    from imbal_al.measure.threshold import weights_at, _variance

    ks, gates, pi = np.array([70, 50]), np.zeros(2, int), 0.1
    share = weights_at(FV, pi)[0]
    e = []
    f = np.array([float(scores(*share @ gated_counts(VAL, P_EDGES[k]))['f1']) for k in ks])
    for k, o in zip(ks, f):
        tp, fp, fn = gated_counts(VAL, P_EDGES[k]).T
        counted = 2 * tp + fp + fn
        e.append((2 * tp - o * counted) / (share @ counted) * share)
    d = e[0] - e[1]
    d = np.where(FV, d - d[FV].mean(), d - d[~FV].mean())
    assert (
        _variance(VAL, FV, pi, np.ones(len(FV)), gates, ks, f, None)[1]
        == pytest.approx((d**2).sum())
        and (d**2).sum() > 0
    )


def test_what_is_not_known_of_the_prevalence_adds_to_caution():
    """The rule in full, for two prevalences far apart"""
    from imbal_al.measure.threshold import _f1_tables, _variance

    for seed in range(6):
        hist, y = made_up_images(40, 40, seed=seed)
        pis, w = np.array([0.01, 0.4]), np.ones(len(y))
        gates = np.zeros(1, int)
        each = np.stack(
            [next(iter(_f1_tables(hist, y, np.array([[p]]), w[None], gates)))[0, 0] for p in pis]
        )
        f = each.mean(0)
        best = threshold_bin(choose_threshold(hist, y, pis).threshold)
        assert f[best] == pytest.approx(f.max())
        ks = np.r_[best, [k for k in range(BINS + 1) if abs(k - 64) < abs(best - 64) and f[k] > 0]]
        mid = next(iter(_f1_tables(hist, y, np.array([[pis.mean()]]), w[None], gates)))[0, 0]
        v = _variance(hist, y, pis.mean(), w, gates[ks * 0], ks, mid[ks], None) + np.var(
            each[:, [best]] - each[:, ks], axis=0
        )
        ok = ks[f[best] - f[ks] <= np.sqrt(v) + 1e-12]
        assert (
            abs(threshold_bin(choose_threshold(hist, y, pis, caution=1.0).threshold) - 64)
            == np.abs(ok - 64).min()
        )
