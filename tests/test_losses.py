"""Losses: hard corner cases, bad input, properties, and an independent high-precision computation."""

import inspect, math, pickle, subprocess, sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from mpmath import mp, mpf
from torch.nn import functional as F

import imbal_al.losses as L
from imbal_al.losses import numerics, pixel, region
from imbal_al.losses.names import (
    FN_WEIGHT, LOSS_NAMES, LOSS_SETTINGS, VARIANTS, loss_takes, losses_with,
)
from imbal_al.losses.registry import LOSSES, make_loss

torch.set_num_threads(1)
PIXEL = ['BCELoss', 'WBCELoss', 'FocalLoss', 'DIBEDisLoss']
REGION = ['DiceLoss', 'TverskyLoss', 'FocalTverskyLoss', 'DIBERegLoss']
COMPOUND = ['ComboLoss', 'ExpLogLoss', 'HybridFocalLoss', 'UnifiedFocalLoss', 'DIBELoss']
BINARY = PIXEL + REGION + COMPOUND
ALL = BINARY + ['PaperComboLoss']
make = lambda name, **kw: getattr(L, name)(**kw)


def example(seed=0, n=3, size=8, share=0.2, dtype=torch.float32, channels=1):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, channels, size, size, generator=g, dtype=torch.float64).mul(3).to(dtype)
    y = (torch.rand(n, size, size, generator=g) < share).long()
    return x, y


def logits_for(name, x):
    "Binary logits as two channels for the loss that wants them."
    return torch.cat([-x / 2, x / 2], 1) if name == 'PaperComboLoss' else x


# signatures

KEYWORDS = dict(
    class_weight='WBCE Focal Combo HybridFocal UnifiedFocal DIBEDis DIBE',
    gamma='Focal HybridFocal UnifiedFocal ExpLog DIBEDis DIBEReg DIBE',
    fn_weight='Tversky FocalTversky HybridFocal DIBEDis DIBEReg DIBE',
    fp_weight='Tversky FocalTversky HybridFocal DIBEDis DIBEReg DIBE',
    exponent='FocalTversky HybridFocal',
    mix='Combo ExpLog HybridFocal UnifiedFocal DIBE',
    variant='DIBEDis DIBE',
    smooth='Dice Tversky FocalTversky DIBEReg Combo ExpLog HybridFocal UnifiedFocal DIBE PaperCombo',
    per_image='Dice Tversky FocalTversky DIBEReg Combo ExpLog HybridFocal UnifiedFocal DIBE',
)


@pytest.mark.parametrize('name', ALL)
def test_keywords(name):
    par = inspect.signature(getattr(L, name)).parameters
    want = {k for k, v in KEYWORDS.items() if name.removesuffix('Loss') in v.split()} | {
        'reduction',
        'ignore_index',
    }
    assert set(par) == want and all(p.kind is p.KEYWORD_ONLY for p in par.values())
    with pytest.raises(TypeError):
        getattr(L, name)(1.0)


def keywords(made):
    "The keyword-only parameters of a constructor, in their order"
    found = inspect.signature(made).parameters.values()
    return tuple(p.name for p in found if p.kind is p.KEYWORD_ONLY)


def test_the_table_of_names_is_that_of_the_constructors():
    "Names and settings are told without torch; here they are held against the classes"
    assert list(LOSS_NAMES) == list(LOSSES) == list(LOSS_SETTINGS)
    assert {name: title for name, (title, _) in LOSSES.items()} == LOSS_NAMES
    assert {name: keywords(made) for name, (_, made) in LOSSES.items()} == LOSS_SETTINGS
    assert {made.__name__ for _, made in LOSSES.values()} == set(BINARY)
    for loss in losses_with('fn_weight'):
        assert make_loss(loss, FN_WEIGHT).fn_weight == FN_WEIGHT
    for loss in losses_with('variant'):
        assert make_loss(loss).variant == VARIANTS[0]
        for variant in VARIANTS:
            assert make_loss(loss, variant=variant).variant == variant


def test_names_and_the_face_load_no_torch():
    code = """
import sys, imbal_al.losses as losses
assert losses.loss_takes('dibe', 'fn_weight') and len(losses.LOSS_NAMES) == 13
assert 'torch' not in sys.modules
assert set(losses.__all__) <= set(dir(losses))
for name in losses.__all__: getattr(losses, name)
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert not done.returncode, done.stderr


def test_a_loss_of_ones_own_has_a_name_until_it_is_taken_away(monkeypatch):
    class OwnLoss(torch.nn.Module):
        def __init__(self, *, fn_weight=0.5):
            super().__init__()
            self.fn_weight = fn_weight

    monkeypatch.setitem(LOSSES, 'own', ('Own', OwnLoss))
    assert make_loss('own', 0.9).fn_weight == 0.9 and loss_takes('own', 'fn_weight')
    assert losses_with('fn_weight')[-1] == 'own' and LOSS_NAMES['own'] == 'Own'
    monkeypatch.undo()
    assert 'own' not in LOSSES and 'own' not in LOSS_NAMES and 'own' not in LOSS_SETTINGS


def test_defaults():
    assert (pixel.FocalLoss().gamma, pixel.FocalLoss().class_weight) == (2, 0.25)
    assert (region.TverskyLoss().fn_weight, round(region.TverskyLoss().fp_weight, 12)) == (0.7, 0.3)
    assert (
        region.FocalTverskyLoss().exponent == 4 / 3
        and region.FocalTverskyLoss(exponent='abraham').exponent == 0.75
    )
    assert all(
        make(k).gamma == 0.3 for k in ('ExpLogLoss', 'DIBEDisLoss', 'DIBERegLoss', 'DIBELoss')
    )
    assert (
        L.ExpLogLoss().mix == 0.2
        and L.UnifiedFocalLoss().class_weight == 0.6
        and L.DIBELoss(fn_weight=0.9).fp_weight == pytest.approx(0.1)
    )
    assert all(make(k).smooth == 1 and make(k).per_image is False for k in REGION + COMPOUND)


# shapes, types, reductions


@pytest.mark.parametrize('name', BINARY)
@pytest.mark.parametrize(
    'target_type',
    [torch.bool, torch.uint8, torch.int64, torch.float16, torch.float32, torch.float64],
)
def test_shapes_and_target_types(name, target_type):
    x, y = example()
    y, want = y.to(target_type), make(name)(x, y)
    for a, b in ((x, y), (x[:, 0], y), (x, y[:, None])):
        assert torch.equal(make(name)(a, b), want)
    assert want.shape == () and want.dtype == torch.float32
    none = make(name, reduction='none')
    assert none(x, y).shape == (x.shape if name in PIXEL else (3,)) and none(x[:, 0], y).shape == (
        x[:, 0].shape if name in PIXEL else (3,)
    )


@pytest.mark.parametrize('name', ALL)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_computed_in_float32_or_float64(name, dtype):
    x, y = example(dtype=dtype)
    x = logits_for(name, x).requires_grad_()
    loss = make(name)(x, y)
    loss.backward()
    assert (
        loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        and x.grad.dtype == dtype
    )
    assert float(loss) == pytest.approx(float(make(name)(x.detach().double(), y)), rel=2e-5)


@pytest.mark.parametrize('name', ALL)
@pytest.mark.parametrize('classes', [2, 3, 5])
def test_multi_class_shapes(name, classes):
    x, _ = example(channels=classes)
    y = torch.randint(0, classes, (3, 8, 8))
    assert make(name)(x, y).shape == () and torch.equal(make(name)(x, y), make(name)(x, y[:, None]))
    assert make(name, reduction='none')(x, y).shape == (y.shape if name in PIXEL else (3,))
    assert make(name).decodes(make(name).activation(x)).shape == y.shape


@pytest.mark.parametrize('name', BINARY)
def test_multi_class_is_the_mean_of_one_against_the_rest(name):
    x, _ = example(channels=3)
    y = torch.randint(0, 3, (3, 8, 8))
    each = [make(name)(x[:, c], y == c) for c in range(3)]
    torch.testing.assert_close(make(name)(x, y), torch.stack(each).mean(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize('name', ALL)
def test_reductions_agree(name):
    x, y = example()
    x, kw = logits_for(name, x), dict(per_image=True) if name in REGION + COMPOUND else {}
    loss = make(name, reduction='none', **kw)
    none = loss(x, y)
    loss.reduction = 'mean'
    if name != 'PaperComboLoss':
        torch.testing.assert_close(loss(x, y), none.mean())
    mean = loss(x, y)
    loss.reduction = 'sum'
    torch.testing.assert_close(loss(x, y), mean * (x.numel() if name in PIXEL else 3))
    if name not in PIXEL:
        for i in range(3):
            torch.testing.assert_close(make(name)(x[i : i + 1], y[i : i + 1]), none[i])


def test_per_image_and_batch_by_hand():
    x = torch.zeros(2, 1, 2)
    y = torch.tensor([[[1, 1]], [[0, 0]]])
    assert float(region.DiceLoss()(x, y)) == pytest.approx(1 - 3 / 5)
    assert float(region.DiceLoss(per_image=True)(x, y)) == pytest.approx((1 - 3 / 4 + 1 - 1 / 2) / 2)
    assert region.DiceLoss(reduction='none')(x, y).tolist() == pytest.approx([0.25, 0.5])
    assert float(L.ExpLogLoss(mix=1, per_image=True)(x, y)) == pytest.approx(math.log(2) ** 0.3)
    assert float(L.ExpLogLoss(mix=1)(x, y)) == pytest.approx(math.sqrt(2) * math.log(2) ** 0.3)


# extremes

MASKS = dict(
    empty=lambda y: y * 0,
    full=lambda y: y * 0 + 1,
    single=lambda y: y * 0 + F.one_hot(torch.tensor(5), 64).view(8, 8),
    some=lambda y: y,
)
LOGITS = dict(
    wrong=lambda y: (1 - 2 * y) * 1e4,
    low=lambda y: y * 0 - 1e4,
    high=lambda y: y * 0 + 1e4,
    right=lambda y: (2 * y - 1) * 1e4,
)


@pytest.mark.parametrize('name', ALL)
@pytest.mark.parametrize(
    'dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64, 'autocast']
)
def test_saturated_logits(name, dtype):
    real = torch.float16 if dtype == 'autocast' else dtype
    for mask in MASKS.values():
        y = mask(example()[1])
        for kind, fill in LOGITS.items():
            for smooth in ([1.0, 0.0] if name in REGION + COMPOUND else [None]):
                x = logits_for(name, fill(y.double())[:, None]).to(real).requires_grad_()
                loss_fn = make(name, **({} if smooth is None else dict(smooth=smooth)))
                with torch.autocast('cpu', torch.bfloat16, enabled=dtype == 'autocast'):
                    loss = loss_fn(x, y)
                loss.backward()
                assert torch.isfinite(loss) and torch.isfinite(x.grad).all(), (kind, smooth)
                wrong = ((x[:, -1:] > 0) != (y[:, None] > 0)).expand_as(x)
                if wrong.any():
                    assert x.grad[wrong].abs().sum() > 0, (kind, smooth)


@pytest.mark.parametrize('name', REGION)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_wrong_saturated_pixel_has_a_gradient_of_the_right_sign(name, dtype):
    y = example()[1]
    x = ((1 - 2 * y) * 1e4)[:, None].to(dtype).requires_grad_()
    make(name)(x, y).backward()
    assert (x.grad.sign() == (1 - 2 * y)[:, None]).all()


@pytest.mark.parametrize(
    'name,smooth', [*[(name, 1.0) for name in ALL], *[(name, 0.0) for name in ALL if name not in PIXEL]]
)
def test_false_alarms_on_an_empty_mask_are_punished(name, smooth):
    kw = {} if name in PIXEL else dict(smooth=smooth)
    y = torch.zeros(2, 8, 8, dtype=torch.long)
    last = -1
    for level in (-30.0, -8.0, -3.0, 0.0, 3.0):
        x = torch.full((2, 1, 8, 8), level, dtype=torch.float64, requires_grad=True)
        loss = make(name, **kw)(logits_for(name, x), y)
        loss.backward()
        assert loss > last and (x.grad > 0).all()
        last = float(loss)


@pytest.mark.parametrize('name', REGION)
def test_without_smoothing_the_logarithm_is_exact_to_logits_of_minus_200(name):
    y = example()[1]
    x = torch.where(y > 0, -200.0, -20.0)[:, None]
    ours = make(name, smooth=0)(x, y)
    assert float(ours) == pytest.approx(float(make(name, smooth=0)(x.double(), y)), rel=1e-6)
    if name == 'DIBERegLoss':
        tp, fn, fp = (
            math.log(int(y.sum())) - 200,
            math.log(int(y.sum())),
            math.log(int((1 - y).sum())) - 20,
        )
        assert float(ours) == pytest.approx(
            (np.logaddexp(tp, np.logaddexp(fn, fp) - math.log(2)) - tp) ** 0.3, rel=1e-6
        )


# ignore_index


@pytest.mark.parametrize('name', ALL)
def test_ignored_pixels_have_no_say(name):
    x, y = example(size=6)
    x = logits_for(name, x)
    cut, kept = make(name)(x[..., :4], y[..., :4]), y.clone()
    kept[..., 4:] = 255
    x[..., 4:] = math.nan
    x.requires_grad_()
    loss = make(name, ignore_index=255)(x, kept)
    loss.backward()
    torch.testing.assert_close(loss, cut)
    assert (x.grad[..., 4:] == 0).all() and x.grad.isfinite().all()
    if name in PIXEL:
        assert (make(name, ignore_index=255, reduction='none')(x, kept)[..., 4:] == 0).all()


@pytest.mark.parametrize('name', ALL)
@pytest.mark.parametrize('reduction', pixel.REDUCTIONS)
@pytest.mark.parametrize('smooth', [1.0, 0.0])
def test_all_ignored_is_zero(name, reduction, smooth):
    kw = {} if name in PIXEL else dict(smooth=smooth)
    x, y = example()
    x = logits_for(name, x).requires_grad_()
    loss = make(name, ignore_index=-1, reduction=reduction, **kw)(x, y * 0 - 1)
    loss.sum().backward()
    assert (loss == 0).all() and (x.grad == 0).all()


@pytest.mark.parametrize('name', REGION + COMPOUND)
def test_an_image_without_valid_pixels_does_not_count(name):
    x, y = example()
    part = y.clone()
    part[0] = 9
    torch.testing.assert_close(
        make(name, per_image=True, ignore_index=9)(x, part),
        make(name, per_image=True)(x[1:], y[1:]),
    )


# derivatives

VARIED = (
    [(k, {}) for k in ALL]
    + [(k, dict(per_image=True)) for k in REGION + COMPOUND]
    + [(k, dict(smooth=0)) for k in REGION + COMPOUND]
    + [
        (k, dict(variant=v, fn_weight=0.8, fp_weight=0.4, gamma=1.5))
        for k in ('DIBEDisLoss', 'DIBELoss')
        for v in VARIANTS
    ]
    + [
        ('TverskyLoss', dict(fn_weight=0, fp_weight=1)),
        ('FocalTverskyLoss', dict(exponent='abraham')),
        ('FocalLoss', dict(gamma=0.3)),
    ]
)


@pytest.mark.parametrize('name,kw', VARIED)
def test_gradcheck(name, kw):
    x, y = example(size=3, share=0.4, n=2, dtype=torch.float64)
    x = logits_for(name, x).requires_grad_()
    for reduction in ('mean', 'none'):
        assert torch.autograd.gradcheck(
            lambda v: make(name, reduction=reduction, **kw)(v, y), (x,), eps=1e-6, atol=1e-7
        )
    x3 = torch.randn(2, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    y3 = torch.tensor([[[0, 1, 2], [2, 7, 0]], [[1, 1, 0], [7, 0, 2]]])
    assert torch.autograd.gradcheck(
        lambda v: make(name, ignore_index=7, **kw)(v, y3), (x3,), eps=1e-6, atol=1e-7
    )


@pytest.mark.parametrize('name', ALL)
def test_backward_twice(name):
    x, y = example()
    x = logits_for(name, x).requires_grad_()
    loss = make(name)(x, y)
    (one,) = torch.autograd.grad(loss, x, retain_graph=True)
    one = one.clone()
    (two,) = torch.autograd.grad(loss * 3, x)
    torch.testing.assert_close(two, one * 3)


@pytest.mark.parametrize('name', ALL)
def test_second_derivatives_say_they_are_missing(name):
    x, y = example()
    x = logits_for(name, x).requires_grad_()
    with pytest.raises(RuntimeError, match='second derivatives'):
        torch.autograd.grad(make(name)(x, y), x, create_graph=True)


# against an independent computation with 40 digits, at one defect pixel in 65,536


def reference(name, groups, **kw):
    "The formulas of the papers, straight from probabilities. groups: (logit, label, how many)."
    a, b = (
        kw.get('fn_weight', mpf('.7') if 'Tversky' in name or 'Hybrid' in name else mpf('.5')),
        None,
    )
    b = kw.get('fp_weight', 1 - a)
    delta = kw.get('class_weight', mpf('.5') if name in ('WBCELoss', 'ComboLoss') else mpf('.25'))
    gamma = kw.get('gamma', 2 if name in ('FocalLoss', 'HybridFocalLoss') else mpf('.3'))
    mix, q, variant = (
        kw.get('mix', mpf('.2') if name == 'ExpLogLoss' else mpf('.5')),
        kw.get('exponent', mpf(4) / 3),
        kw.get('variant', 'region'),
    )
    if name == 'UnifiedFocalLoss':
        delta, gamma = mpf('.6'), mpf('.5')
    n = sum(k for *_, k in groups)
    sig = lambda x: 1 / (1 + mp.exp(-x))
    mean = lambda f: sum(k * f(sig(x), sig(-x), y, x) for x, y, k in groups) / n
    tp, fn, fp = (
        sum(k * sig(s * x) for x, y, k in groups if y == l) for s, l in ((1, 1), (-1, 1), (1, 0))
    )
    dice, index = (2 * tp + 1) / (2 * tp + fp + fn + 1), lambda a, b: (tp + 1) / (
        tp + a * fn + b * fp + 1
    )
    wbce = lambda p, m, y, x: -delta * mp.log(p) if y else -(1 - delta) * mp.log(m)
    focal = lambda g: mean(lambda p, m, y, x: (m if y else p) ** g * wbce(p, m, y, x))

    def dis(p, m, y, x):
        w, t = (a if y else b), (p if y else m)
        hard = (x < 0) if y else (x >= 0)
        scale = dict(region=w if hard else 1, tversky=1, normalised=2 * w)
        scale['class'] = w
        log = mp.log(t / (t + w * (1 - t))) if variant == 'tversky' else mp.log(t)
        return -(delta if y else 1 - delta) * scale[variant] * (1 - t) ** gamma * log

    pos = sum(k for _, y, k in groups if y)
    weight = {label: mp.sqrt(mpf(n) / max(k, 1)) for label, k in ((1, pos), (0, n - pos))}
    return {
        'BCELoss': lambda: mean(lambda p, m, y, x: -mp.log(p if y else m)),
        'WBCELoss': lambda: mean(wbce),
        'FocalLoss': lambda: focal(gamma),
        'DIBEDisLoss': lambda: mean(dis),
        'DiceLoss': lambda: 1 - dice,
        'TverskyLoss': lambda: 1 - index(a, b),
        'FocalTverskyLoss': lambda: (1 - index(a, b)) ** q,
        'DIBERegLoss': lambda: (-mp.log(index(a, b))) ** gamma,
        'ComboLoss': lambda: mix * mean(wbce) + (1 - mix) * (1 - dice),
        'ExpLogLoss': lambda: (1 - mix) * (-mp.log(dice)) ** gamma
        + mix * mean(lambda p, m, y, x: weight[y] * (-mp.log(p if y else m)) ** gamma),
        'HybridFocalLoss': lambda: mix * focal(gamma) + (1 - mix) * (1 - index(a, b)) ** q,
        'UnifiedFocalLoss': lambda: mix * focal(1 - gamma)
        + (1 - mix) * (1 - index(delta, 1 - delta)) ** gamma,
        'DIBELoss': lambda: mix * mean(dis) + (1 - mix) * (-mp.log(index(a, b))) ** gamma,
        'PaperComboLoss': lambda: mean(lambda p, m, y, x: -mp.log(p if y else m))
        + (
            2
            - (tp + 1) / (tp + (fp + fn) / 2 + 1)
            - (n - pos - fp + 1) / (n - pos - fp + (fp + fn) / 2 + 1)
        )
        / 2,
    }[name]()


SCENES = dict(
    missed=(-12.0, [(-12.0, 40000), (-9.0, 20000), (-30.0, 5000), (2.0, 535)]),
    found=(14.0, [(-14.0, 60000), (-40.0, 5535)]),
    quiet=(-60.0, [(-60.0, 65535)]),
    unsure=(0.5, [(-5.0, 65000), (0.25, 535)]),
)
REFERENCE = (
    [(k, {}) for k in ALL]
    + [('DIBEDisLoss', dict(variant=v, fn_weight=0.8)) for v in VARIANTS]
    + [
        ('DIBELoss', dict(variant='tversky', fn_weight=0.9)),
        ('TverskyLoss', dict(fn_weight=0.1, fp_weight=0.9)),
        ('FocalTverskyLoss', dict(exponent=0.75)),
        ('DIBERegLoss', dict(gamma=0.9, fn_weight=0.3)),
    ]
)


@pytest.mark.parametrize('scene', SCENES)
@pytest.mark.parametrize('name,kw', REFERENCE)
def test_high_precision_at_one_in_65536(name, kw, scene):
    mp.dps = 40
    defect, rest = SCENES[scene]
    groups = [(mpf(defect), 1, 1)] + [(mpf(v), 0, k) for v, k in rest]
    x = torch.cat([torch.full((k,), v) for v, k in [(defect, 1)] + rest]).view(1, 1, 256, 256)
    y = torch.zeros(1, 256, 256, dtype=torch.long)
    y[0, 0, 0] = 1
    exact = {k: mpf(str(v)) if isinstance(v, float) else v for k, v in kw.items()}
    want = reference(name, groups, **exact)
    slope = mp.diff(lambda d: reference(name, [(mpf(defect) + d, 1, 1)] + groups[1:], **exact), 0)
    other = mp.diff(
        lambda d: reference(
            name,
            groups[:1]
            + [(groups[1][0] + d, 0, 1), (groups[1][0], 0, groups[1][2] - 1)]
            + groups[2:],
            **exact,
        ),
        0,
    )
    for dtype, rel in ((torch.float32, 2e-5), (torch.float64, 1e-12)):
        z = x.detach().to(dtype, copy=True).requires_grad_()
        loss = make(name, **kw)(logits_for(name, z), y)
        loss.backward()
        assert float(loss) == pytest.approx(float(want), rel=rel)
        assert float(z.grad[0, 0, 0, 0]) == pytest.approx(float(slope), rel=10 * rel)
        assert float(z.grad[0, 0, 0, 1]) == pytest.approx(float(other), rel=10 * rel)


# far logits: a value has no limit on either path, and the derivative does not see one


def far_example(seed, share, size=8):
    "Logits of either sign up to 1000, and a share of defects; (1,1,size,size) float64 and (1,size,size)."
    g = np.random.default_rng(seed)
    pixels = size * size
    x = g.choice([-1, 1], pixels) * 10 ** g.uniform(-1, 3, pixels)
    y = np.zeros(pixels, int)
    y[g.permutation(pixels)[: max(1, round(share * pixels))]] = 1
    x[np.flatnonzero(y)[0]] = -1000 * g.uniform(0.1, 1)
    shape = 1, size, size
    x = torch.tensor(x, dtype=torch.float32).double().view(1, *shape)
    return x, torch.tensor(y).view(shape)


def as_groups(x, y):
    "Pixels as `reference` takes them."
    return [(mpf(v), label, 1) for v, label in zip(x.flatten().tolist(), y.flatten().tolist())]


def slope_of(name, groups, pixel):
    "The reference's derivative in the logit of one pixel, with 40 digits."
    logit, label, _ = groups[pixel]

    def moved(by):
        return reference(name, groups[:pixel] + [(logit + by, label, 1)] + groups[pixel + 1 :])

    return mp.diff(moved, 0)


PATHS = dict(sparse=lambda seed: (1 + seed % 4) / 64, dense=lambda seed: (5 + seed % 28) / 64)
PRECISIONS = [(torch.float32, 2e-5), (torch.float64, 1e-12)]


@pytest.mark.parametrize('path', PATHS)
@pytest.mark.parametrize('seed', range(40))
def test_far_logits_with_40_digits(seed, path):
    mp.dps = 40
    x, y = far_example(seed, PATHS[path](seed))
    assert (numerics.as_pixels(x, y).at is None) == (path == 'dense')
    groups = as_groups(x, y)
    first = y.flatten().tolist().index(1)
    for name in ALL:
        want = reference(name, groups)
        slope = slope_of(name, groups, first) if seed % 4 == 0 else None
        for dtype, rel in PRECISIONS:
            z = x.to(dtype, copy=True).requires_grad_()
            loss = make(name)(logits_for(name, z), y)
            loss.backward()
            assert float(loss.detach()) == pytest.approx(float(want), rel=rel), (name, dtype)
            if slope is None:
                continue
            got = float(z.grad.flatten()[first])
            assert got == pytest.approx(float(slope), rel=10 * rel, abs=1e-15), (name, dtype)


@pytest.mark.parametrize('dtype', [torch.float16, torch.float32, torch.float64])
def test_one_missed_defect_of_16_pixels_costs_what_its_logit_says(dtype):
    y = torch.zeros(1, 4, 4, dtype=torch.long)
    y[0, 0, 0] = 1
    x = torch.full((1, 1, 4, 4), -1000.0, dtype=dtype)
    two = torch.cat([-x / 2, x / 2], 1)
    assert float(pixel.BCELoss()(x, y)) == 62.5
    assert float(pixel.BCELoss(reduction='none')(x, y)[0, 0, 0, 0]) == 1000
    assert float(L.PaperComboLoss()(two, y)) > 62.5
    slope = x.clone().requires_grad_()
    L.ExpLogLoss(mix=1)(slope, y).backward()
    want = -math.sqrt(16) / 16 * 0.3 * 1000**-0.7
    assert float(slope.grad[0, 0, 0, 0]) == pytest.approx(want, rel=1e-3 if dtype == torch.float16 else 1e-6)


def few_labels(seed, classes, size=8):
    "Far logits of some classes; labels where all but three pixels are ignored, so that the rows are sparse."
    g = np.random.default_rng(seed)
    shape = 1, classes, size, size
    x = g.choice([-1, 1], shape) * 10 ** g.uniform(-1, 3, shape)
    y = np.full(size * size, 99)
    y[g.permutation(size * size)[:3]] = g.integers(0, classes, 3)
    x = torch.tensor(x, dtype=torch.float32).double()
    y = torch.tensor(y).view(1, size, size)
    assert numerics.as_pixels(x, y, 99).at is not None
    return x, y


@pytest.mark.parametrize('classes', [3, 5, 17])
@pytest.mark.parametrize('seed', range(5))
def test_far_logits_by_class(seed, classes):
    mp.dps = 40
    x, y = few_labels(seed, classes)
    seen = (y != 99).flatten()
    labels = y.flatten()[seen]
    for name in BINARY:
        want = 0
        for c in range(classes):
            groups = as_groups(x[0, c].flatten()[seen], (labels == c).long())
            want += reference(name, groups) / classes
        for dtype, rel in PRECISIONS:
            got = float(make(name, ignore_index=99)(x.to(dtype), y))
            assert got == pytest.approx(float(want), rel=rel), (name, dtype)


def softmax_reference(x, labels, classes):
    "Cross entropy and Dice of the classes that are held, over columns of logits (C,P), with 40 digits."
    shares = []
    for column in x.T.tolist():
        powers = [mp.exp(mpf(v)) for v in column]
        shares.append([power / sum(powers) for power in powers])
    pixels = range(len(labels))
    total = sum(-mp.log(shares[i][labels[i]]) for i in pixels) / len(labels)
    for c in set(labels):
        tp = sum(shares[i][c] for i in pixels if labels[i] == c)
        fp = sum(shares[i][c] for i in pixels if labels[i] != c)
        fn = sum(1 - shares[i][c] for i in pixels if labels[i] == c)
        total += (1 - (tp + 1) / (tp + fp / 2 + fn / 2 + 1)) / classes
    return total


@pytest.mark.parametrize('classes', [2, 3, 5, 17])
@pytest.mark.parametrize('ignored', [True, False])
def test_far_logits_under_a_softmax(classes, ignored):
    mp.dps = 1000
    for seed in range(3):
        x, y = few_labels(seed, classes)
        if not ignored:
            y = torch.randint(0, classes, y.shape, generator=torch.Generator().manual_seed(seed))
        seen = (y != 99).flatten()
        labels = y.flatten()[seen].tolist()
        want = softmax_reference(x[0].flatten(1)[:, seen], labels, classes)
        for dtype, rel in PRECISIONS:
            got = float(L.PaperComboLoss(ignore_index=99)(x.to(dtype), y))
            assert got == pytest.approx(float(want), rel=rel), dtype
    mp.dps = 40


@pytest.mark.parametrize('name', ALL)
@pytest.mark.parametrize('per_image', [True, False])
@pytest.mark.parametrize('reduction', pixel.REDUCTIONS)
def test_a_batch_of_one(name, per_image, reduction):
    kw = dict(per_image=per_image) if name in REGION + COMPOUND else {}
    for share in (0.0, 0.03, 0.3):
        for dtype in (torch.float32, torch.float64):
            x, y = example(n=1, share=share, dtype=dtype)
            x = logits_for(name, x).requires_grad_()
            one = make(name, reduction=reduction, **kw)(x, y)
            one.sum().backward()
            assert x.grad.isfinite().all()
            twice = torch.cat([x, x]), torch.cat([y, y])
            two = make(name, reduction='none')(*twice)
            torch.testing.assert_close(two[:1], make(name, reduction='none')(x, y))
            if reduction != 'none' and name not in PIXEL:
                torch.testing.assert_close(one, two[0])


# peers, where they are right


def smp_pair():
    S = pytest.importorskip('segmentation_models_pytorch').losses
    x, y = example(n=4, size=16, share=0.3)
    return S, x / 3, y


def test_paper_combo_is_smp_dice_plus_cross_entropy():
    S, x, y = smp_pair()
    for seed in range(5):
        x = torch.randn(
            4, 2, 16, 16, generator=torch.Generator().manual_seed(seed), requires_grad=True
        )
        target = y if seed else y * 0
        ours, theirs = L.PaperComboLoss()(x, target), S.DiceLoss('multiclass', smooth=1)(
            x, target
        ) + F.cross_entropy(x, target)
        torch.testing.assert_close(ours, theirs, rtol=2e-6, atol=0)
        a, b = (torch.autograd.grad(v, x)[0] for v in (ours, theirs))
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-7)
    many = torch.randn(4, 4, 16, 16)
    labels = torch.randint(0, 3, (4, 16, 16))
    torch.testing.assert_close(
        L.PaperComboLoss()(many, labels),
        S.DiceLoss('multiclass', smooth=1)(many, labels) + F.cross_entropy(many, labels),
        rtol=2e-6,
        atol=0,
    )
    labels[:, :3] = 9
    torch.testing.assert_close(
        L.PaperComboLoss(ignore_index=9)(many, labels),
        S.DiceLoss('multiclass', smooth=1, ignore_index=9)(many, labels)
        + F.cross_entropy(many, labels, ignore_index=9),
        rtol=2e-6,
        atol=0,
    )


def test_smp_dice_tversky_focal():
    S, x, y = smp_pair()
    close = lambda a, b: torch.testing.assert_close(a, b, rtol=5e-6, atol=1e-7)
    close(region.DiceLoss(smooth=2)(x, y), S.DiceLoss('binary', smooth=1)(x, y))
    close(
        region.TverskyLoss(fn_weight=0.7)(x, y),
        S.TverskyLoss('binary', alpha=0.3, beta=0.7, smooth=1)(x, y),
    )
    close(
        region.FocalTverskyLoss(exponent='abraham')(x, y),
        S.TverskyLoss('binary', alpha=0.3, beta=0.7, smooth=1, gamma=0.75)(x, y),
    )
    close(pixel.FocalLoss()(x, y), S.FocalLoss('binary', alpha=0.25, gamma=2)(x, y.float()))


def test_monai():
    M = pytest.importorskip('monai.losses')
    _, x, y = smp_pair()
    f = y[:, None].float()
    close = lambda a, b: torch.testing.assert_close(a, b, rtol=5e-6, atol=1e-7)
    close(
        region.DiceLoss(per_image=True)(x, y), M.DiceLoss(sigmoid=True, smooth_nr=1, smooth_dr=1)(x, f)
    )
    close(region.DiceLoss()(x, y), M.DiceLoss(sigmoid=True, batch=True, smooth_nr=1, smooth_dr=1)(x, f))
    close(
        region.TverskyLoss(per_image=True)(x, y),
        M.TverskyLoss(sigmoid=True, alpha=0.3, beta=0.7, smooth_nr=1, smooth_dr=1)(x, f),
    )
    close(pixel.FocalLoss()(x, y), M.FocalLoss(gamma=2, alpha=0.25)(x, f))


def test_kornia():
    K = pytest.importorskip('kornia.losses')
    _, x, y = smp_pair()
    torch.testing.assert_close(
        pixel.FocalLoss()(x, y),
        K.BinaryFocalLossWithLogits(0.25, reduction='mean')(x, y[:, None].float()),
        rtol=5e-6,
        atol=1e-7,
    )


# properties

shapes = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 6))
share = st.floats(0, 1)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(BINARY),
    shape=shapes,
    channel=st.booleans(),
    defects=share,
    seed=st.integers(0, 99),
    scale=st.sampled_from([0.0, 1.0, 30.0, 1e4]),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    w=st.tuples(share, share, share, share),
)
def test_any_shape_type_and_weights(name, shape, channel, defects, seed, scale, dtype, w):
    g = torch.Generator().manual_seed(seed)
    x = (torch.randn(shape, generator=g) * scale).clamp(-1e4, 1e4).to(dtype)
    x = (x[:, None] if channel else x).requires_grad_()
    y = torch.rand(shape, generator=g) < defects
    kw = dict(
        zip(
            ('class_weight', 'mix', 'fn_weight', 'fp_weight'),
            (w[0], w[1], w[2] + 0.01, w[3] + 0.01),
        )
    )
    kw = {k: v for k, v in kw.items() if name.removesuffix('Loss') in KEYWORDS[k].split()}
    loss = make(name, **kw)(x, y)
    loss.backward()
    assert loss >= 0 and loss.isfinite() and x.grad.isfinite().all() and x.grad.shape == x.shape
    torch.testing.assert_close(make(name, **kw)(x.flip(-1), y.flip(-1)), loss, rtol=1e-4, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(name=st.sampled_from(BINARY), seed=st.integers(0, 999), where=st.integers(0, 15))
def test_a_pixel_made_more_wrong_never_lowers_the_loss(name, seed, where):
    x, y = example(seed, n=1, size=4, share=0.4, dtype=torch.float64)
    worse = x.clone()
    worse.view(-1)[where] += 0.5 * (1 - 2 * y.view(-1)[where])
    kw = dict(fn_weight=1.0, fp_weight=1.0) if name in ('DIBEDisLoss', 'DIBELoss') else {}
    assert make(name, **kw)(worse, y) >= make(name, **kw)(x, y) - 1e-12


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), w=st.floats(0.01, 0.98))
def test_raising_fn_weight_pulls_harder_on_misses(seed, w):
    x, y = example(seed, n=1, size=5, share=0.5, dtype=torch.float64)
    x.requires_grad_()
    for name in ('TverskyLoss', 'DIBERegLoss', 'DIBEDisLoss'):
        pull = []
        for a in (w, w + 0.01):
            (g,) = torch.autograd.grad(make(name, fn_weight=a)(x, y), x)
            pull.append(
                g[:, 0][(y == 1) & (x[:, 0] < 0)].abs().sum()
                / g[:, 0][(y == 0) & (x[:, 0] > 0)].abs().sum().clamp(min=1e-12)
            )
        assert pull[1] >= pull[0]


# fastai, pickling


@pytest.mark.parametrize('name', ALL)
def test_pickled_loss_is_the_same(name):
    x, y = example()
    x, loss = logits_for(name, x), make(name, reduction='sum', ignore_index=3)
    twin = pickle.loads(pickle.dumps(loss))
    assert (
        twin.reduction == 'sum'
        and twin.ignore_index == 3
        and repr(twin) == repr(loss)
        and torch.equal(twin(x, y), loss(x, y))
    )


@pytest.mark.parametrize('name', ALL)
def test_fastai_tensors(name):
    from fastai.torch_core import TensorImage, TensorMask

    x, y = example()
    x = logits_for(name, x)
    loss = make(name)(TensorImage(x), TensorMask(y))
    assert type(loss) is torch.Tensor and torch.equal(loss, make(name)(x, y))
    probs = make(name).activation(TensorImage(x))
    want = x.softmax(1) if name == 'PaperComboLoss' else x.sigmoid()
    torch.testing.assert_close(probs, want)
    assert torch.equal(make(name).decodes(probs), (x[:, -1] >= 0).long())


# bad input

X, Y = torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 4)
BAD_CALLS = [
    (ValueError, r'\(2, 4, 5\)', X, torch.zeros(2, 4, 5)),
    (ValueError, r'\(3, 4, 4\)', X, torch.zeros(3, 4, 4)),
    (ValueError, r'\(4, 4\)', X[0, 0], Y[0]),
    (ValueError, '0 or 1', X, Y + 0.5),
    (ValueError, '0 or 1', X, Y - 1),
    (ValueError, '0 or 1', X, Y.long() + 2),
    (ValueError, '0 or 1', X, Y * math.nan),
    (ValueError, 'NaN', X * math.nan, Y),
    (TypeError, 'int64', X.long(), Y),
    (TypeError, 'list', [[0.0]], Y),
    (TypeError, 'ndarray', X, Y.numpy()),
    (TypeError, 'complex64', X, Y * 1j),
    (ValueError, '0 to 2', torch.zeros(2, 3, 4, 4), Y.long() + 3),
    (TypeError, 'float32', torch.zeros(2, 3, 4, 4), Y),
    (ValueError, r'\(2, 4, 5\)', torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 5).long()),
]


@pytest.mark.parametrize('error,message,x,y', BAD_CALLS)
@pytest.mark.parametrize('name', ['BCELoss', 'TverskyLoss', 'DIBELoss'])
def test_bad_call(name, error, message, x, y):
    with pytest.raises(error, match=message):
        make(name)(x, y)


def test_bad_call_paper_combo():
    for x, y in (
        (X, Y),
        (torch.zeros(2, 2, 4, 4), Y),
        (torch.zeros(2, 2, 4, 4) * math.nan, Y.long()),
        (torch.zeros(2, 2, 4, 4), Y.long() + 2),
    ):
        with pytest.raises((ValueError, TypeError)):
            L.PaperComboLoss()(x, y)


def test_one_nan_logit_is_found():
    for name in ALL:
        x, y = example()
        x = logits_for(name, x)
        x[1, 0, 2, 2] = math.nan
        with pytest.raises(ValueError, match='NaN'):
            make(name)(x, y)


BAD_WORDS = [
    ('FocalLoss', dict(gamma=-1), ValueError),
    ('FocalLoss', dict(gamma='2'), TypeError),
    ('FocalLoss', dict(class_weight=1.1), ValueError),
    ('TverskyLoss', dict(fn_weight=-0.1), ValueError),
    ('TverskyLoss', dict(fp_weight=-1), ValueError),
    ('TverskyLoss', dict(fn_weight=0, fp_weight=0), ValueError),
    ('TverskyLoss', dict(fn_weight=2), ValueError),
    ('TverskyLoss', dict(smooth=-1), ValueError),
    ('TverskyLoss', dict(per_image=1), TypeError),
    ('FocalTverskyLoss', dict(exponent=0), ValueError),
    ('FocalTverskyLoss', dict(exponent='x'), ValueError),
    ('ComboLoss', dict(mix=1.5), ValueError),
    ('DIBEDisLoss', dict(variant='best'), ValueError),
    ('DIBERegLoss', dict(gamma=0), ValueError),
    ('DIBERegLoss', dict(gamma=math.nan), ValueError),
    ('BCELoss', dict(ignore_index=0.5), TypeError),
    ('UnifiedFocalLoss', dict(gamma=2), ValueError),
    ('BCELoss', dict(alpha=1), TypeError),
]


@pytest.mark.parametrize('name,kw,error', BAD_WORDS)
def test_bad_keyword(name, kw, error):
    with pytest.raises(error, match=next(iter(kw)) if kw != dict(fn_weight=2) else 'fp_weight'):
        make(name, **kw)


@pytest.mark.parametrize('name', ALL)
def test_unknown_reduction(name):
    with pytest.raises(ValueError, match="mean, sum, none, got 'avg'"):
        make(name, reduction='avg')
    loss = make(name)
    with pytest.raises(ValueError, match='reduction'):
        loss.reduction = None
    assert loss.reduction == 'mean'
