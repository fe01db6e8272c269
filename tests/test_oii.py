"""Output imbalance: kinds, edges, Proposition 1, Table 1, and fastai."""

import csv, math, pickle, subprocess, sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

import imbal_al
from imbal_al.measure.oii import (
    class_counts, class_oii, imbalance_metrics, imbalance_recorder, iou, oii, pixel_counts,
    precision, recall, score_counts, soft_oii,
)

count = st.one_of(st.just(0.0), st.floats(1e-6, 1e12))
ROWS = list(
    csv.DictReader(open(Path(imbal_al.__file__).parent.parent / 'data/reference/table1.csv'))
)


@pytest.mark.parametrize('row', ROWS, ids=lambda r: r['no'])
def test_table_1(row):
    tp, fp, fn, want_iou, pa, want = (float(row[k]) for k in ('tp', 'fp', 'fn', 'iou', 'pa', 'oii'))
    assert len(ROWS) == 10
    for got, printed in (
        (iou(tp, fp, fn), want_iou),
        (precision(tp, fp), pa),
        (oii(tp, fp, fn), want),
    ):
        assert abs(got - printed) < 0.0005 + 1e-9


@settings(max_examples=300, deadline=None)
@given(count, count, count, st.floats(1e-3, 1e3))
def test_proposition_1(tp, fp, fn, scale):
    v = oii(tp, fp, fn)
    assert v == pytest.approx(-oii(tp, fn, fp), abs=1e-15) and -1 <= v <= 1 and v * (fn - fp) >= 0
    assert oii(tp * scale, fp * scale, fn * scale) == pytest.approx(v, abs=1e-9)
    if fp and fn:
        k = fp / fn
        want = math.copysign(1, fn - fp) * (1 - tp / (tp + fp + fn) / 2) * (1 - 1 / (k + 1 / k - 1))
        assert v == pytest.approx(want, rel=1e-6, abs=1e-9)
    assert abs(oii(2 * tp + 1, fp, fn)) <= abs(v) + 1e-12


@settings(max_examples=100, deadline=None)
@given(count, st.floats(0.01, 1e6), st.floats(1.01, 50))
def test_more_misses_more_index(tp, error, times):
    assert oii(tp, error, error * times) > 0 > oii(tp, error * times, error)
    assert oii(0, error, error * times * 1.1) > oii(0, error, error * times)


def test_edges():
    assert oii(0, 0, 5) == 1 and oii(0, 0, 1e-300) == 1 and oii(0, 5, 0) == -1
    assert oii(3, 0, 1) == pytest.approx(1 - 0.75 / 2) and oii(3, 1, 0) == pytest.approx(
        -(1 - 0.75 / 2)
    )
    assert -1 < oii(1, 10_000, 0) < -0.99
    for e in (0, 1, 1e9, 1e308):
        assert oii(2, e, e) == 0
    assert oii(0, 0, 0) == 0 and oii(1e308, 1e308, 0) == pytest.approx(-0.75)


def test_zero_division():
    assert math.isnan(iou(0, 0, 0)) and math.isnan(precision(0, 0)) and math.isnan(recall(0, 0))
    assert (
        iou(0, 0, 0, zero_division=1),
        precision(0, 0, zero_division=0),
        recall(0, 0, zero_division=0.5),
    ) == (1, 0, 0.5)
    with np.errstate(all='raise'):
        a = iou(np.array([0, 1]), np.array([0, 1]), np.array([0, 2]))
    assert np.isnan(a[0]) and a[1] == 0.25
    t = torch.zeros(2, requires_grad=True)
    iou(t, t * 0, t * 0, zero_division=0).sum().backward()
    assert t.grad.isfinite().all()


KINDS = [
    (lambda v: v, float),
    (np.float32, np.float32),
    (lambda v: np.array([[v]], np.int64), np.ndarray),
    (lambda v: np.array(v, np.float16), np.generic),
    (lambda v: torch.tensor(v, dtype=torch.float64), torch.Tensor),
    (lambda v: torch.tensor([v], dtype=torch.int64), torch.Tensor),
    (lambda v: torch.tensor([v, v], dtype=torch.bfloat16), torch.Tensor),
]


@pytest.mark.parametrize('cast,kind', KINDS)
def test_same_kind_comes_back(cast, kind):
    for f, args, want in (
        (oii, (1, 1, 2), 7 / 24),
        (iou, (1, 1, 2), 0.25),
        (precision, (1, 1), 0.5),
        (recall, (1, 3), 0.25),
    ):
        out = f(*map(cast, args))
        assert isinstance(out, kind) and np.allclose(
            out.double() if kind is torch.Tensor else out, want, atol=2e-3
        )
        if kind in (np.ndarray, torch.Tensor):
            assert out.shape == cast(1).shape
    half = [torch.tensor(v, dtype=torch.float16) for v in (6e4, 6e4, 1.0)]
    assert oii(*half).dtype == torch.float16 and float(oii(*half)) == pytest.approx(
        oii(59968, 59968, 1), abs=1e-3
    )
    assert np.float16(-0.75) == oii(*(np.float16(v) for v in (6e4, 6e4, 0)))


@settings(max_examples=50, deadline=None)
@given(
    hnp.arrays(
        np.int64,
        hnp.array_shapes(max_dims=3, max_side=4).map(lambda s: (3, *s)),
        elements=st.integers(0, 10**6),
    )
)
def test_any_shape_is_elementwise(counts):
    out = oii(*counts)
    assert np.allclose(np.ravel(out), [oii(*map(int, c)) for c in counts.reshape(3, -1).T])
    assert np.allclose(oii(*torch.tensor(counts)).numpy(), out, atol=1e-6)


@pytest.mark.parametrize('bad', [-1, -1e-9, np.array([1, -2]), torch.tensor([-1.0])])
def test_negative_counts(bad):
    for f, args in (
        (oii, (1, bad, 1)),
        (iou, (bad, 1, 1)),
        (precision, (1, bad)),
        (recall, (1, bad)),
    ):
        with pytest.raises(ValueError, match='must not be negative'):
            f(*args)


def test_micro_average_is_zero_and_macro_is_not():
    c = np.random.default_rng(0).integers(0, 50, (3, 3))
    counts = class_counts(c)
    each, mean = class_oii(counts)
    assert (
        oii(*counts.sum(0)) == 0
        and mean == pytest.approx(each.mean())
        and each.shape == (3,)
        and abs(mean) > 0
    )
    for k, v in enumerate(each):
        assert v == pytest.approx(oii(c[k, k], c[:, k].sum() - c[k, k], c[k].sum() - c[k, k]))
    for f, bad in (
        (class_counts, np.ones((2, 3))),
        (class_oii, np.ones((3, 4))),
        (class_oii, np.ones(3)),
    ):
        with pytest.raises(ValueError):
            f(bad)


def test_pixel_counts_against_a_plain_loop():
    g = torch.Generator().manual_seed(0)
    for channels in (1, 2, 4):
        x = torch.randn(3, channels, 5, 6, generator=g)
        y = torch.randint(0, max(2, channels), (3, 5, 6), generator=g)
        y[0, 0] = 9
        got = pixel_counts(x, y, ignore_index=9)
        label = (x[:, 0] >= 0).long() if channels == 1 else x.argmax(1)
        classes = range(1, 2) if channels < 3 else range(channels)
        want = [
            [
                sum(f(int(p), int(t)) for p, t in zip(label.flatten(), y.flatten()) if t != 9)
                for f in (
                    lambda p, t: p == k and t == k,
                    lambda p, t: p == k and t != k,
                    lambda p, t: p != k and t == k,
                )
            ]
            for k in classes
        ]
        assert got.tolist() == want
    x = torch.tensor([[[[1.4, 1.3]]]])
    assert pixel_counts(x, torch.ones(1, 1, 2), threshold=0.8).tolist() == [[1, 0, 1]]
    assert pixel_counts(torch.cat([x * 0, x], 1), torch.ones(1, 1, 2), threshold=0.8).tolist() == [
        [1, 0, 1]
    ]
    for call in (
        lambda: pixel_counts(x, torch.ones(1, 1, 3)),
        lambda: pixel_counts(x, torch.ones(1, 1, 2), threshold=1.0),
    ):
        with pytest.raises(ValueError):
            call()


def test_soft_oii():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(3, 1, 4, 4, generator=g, dtype=torch.float64, requires_grad=True), (
        torch.rand(3, 4, 4, generator=g) < 0.3
    )
    assert torch.autograd.gradcheck(lambda v: soft_oii(v, y), (x,)) and torch.autograd.gradcheck(
        lambda v: soft_oii(v, y, per_image=True), (x,)
    )
    assert soft_oii(x, y, per_image=True).shape == (3,)
    hard = (x * 1e4).detach()
    counts = pixel_counts(hard, y)[0]
    assert float(soft_oii(hard, y)) == pytest.approx(oii(*counts))
    part = y.long()
    part[0] = 7
    assert float(soft_oii(hard, part, ignore_index=7)) == pytest.approx(
        float(soft_oii(hard[1:], y[1:]))
    )
    empty = torch.full((1, 4, 4), -1e4, requires_grad=True)
    soft_oii(empty, torch.zeros(1, 4, 4)).backward()
    assert empty.grad.isfinite().all()
    with pytest.raises(ValueError):
        soft_oii(x, y[:, :3])


def test_import_is_cheap():
    code = "import sys, imbal_al.measure.oii as o; o.oii(1, 2, 3); sys.exit('torch' in sys.modules or 'fastai' in sys.modules)"
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0
    import imbal_al.measure.oii

    with pytest.raises(AttributeError):
        imbal_al.measure.oii.nonsense


def learner(**kw):
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner

    torch.manual_seed(0)
    images = torch.rand(40, 1, 6, 6)
    pairs = list(zip(images, (images[:, 0] > 0.8).long()))
    dls = DataLoaders.from_dsets(pairs[:20], pairs[20:], bs=7, num_workers=0)
    return (
        Learner(
            dls,
            torch.nn.Conv2d(1, 1, 1),
            loss_func=lambda x, y: torch.nn.functional.binary_cross_entropy_with_logits(
                x[:, 0], y.float()
            ),
            lr=0.3,
            **kw,
        ),
        pairs[20:],
    )


def test_recorder_and_metrics_add_counts_over_the_epoch():
    import fastai.callback.progress

    recorder = imbalance_recorder(threshold=0.4)
    learn, valid = learner(cbs=recorder, metrics=imbalance_metrics(threshold=0.4))
    with learn.no_bar(), learn.no_logging():
        learn.fit(3)
    assert [r['epoch'] for r in recorder.records] == [0, 1, 2]
    with torch.no_grad():
        want = score_counts(
            pixel_counts(
                learn.model(torch.stack([a for a, _ in valid])),
                torch.stack([b for _, b in valid]),
                threshold=0.4,
            )
        )
    last = recorder.records[-1]
    for k, v in want.items():
        assert last[k] == pytest.approx(v, nan_ok=True)
    assert np.allclose(learn.recorder.values[-1][-4:], list(want.values()), equal_nan=True)
    assert list(learn.recorder.metric_names[3:7]) == ['oii', 'iou', 'precision', 'recall']
    with learn.no_bar():
        learn.get_preds()
    assert len(recorder.records) == 3


def test_recorder_and_metrics_can_be_pickled():
    assert pickle.loads(pickle.dumps(imbalance_recorder(ignore_index=3))).count.keywords == dict(
        threshold=0.5, ignore_index=3
    )
    assert [m.name for m in pickle.loads(pickle.dumps(imbalance_metrics()))] == [
        'oii',
        'iou',
        'precision',
        'recall',
    ]
    from imbal_al.measure.oii import ImbalanceRecorder

    assert isinstance(imbalance_recorder(), ImbalanceRecorder)
