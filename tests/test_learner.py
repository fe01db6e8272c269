"Device, augmentation, batches, learner: what is trained on, in which order, and that nothing else is touched"

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.ndimage import gaussian_filter

from imbal_al.core import InputError
from imbal_al.data.synthetic import image
from imbal_al.networks import learner
from imbal_al.networks.augment import augment, _gaussian_blur
from imbal_al.networks.batches import Batches, MixedBatches
from imbal_al.networks.device import cast, choose_precision, DeviceData
from imbal_al.networks.learner import Converged, fit, lr_schedule, make_learner, SCHEDULES

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture(scope='module')
def data():
    ims = [image('steel', i, 32, faulty=True, defect_ratio=0.1) for i in range(16)]
    return DeviceData(np.stack([o[0] for o in ims])[..., None], np.stack([o[1] for o in ims]))


def blank(shape, n=4, c=1, value=0, **kw):
    return DeviceData(
        np.full((n, *shape, c), value, np.uint8), np.ones((n, *shape), np.uint8), **kw
    )


def gen(s=0):
    return torch.Generator().manual_seed(s)


def train(data, seed=0, steps=2, **kw):
    kw.setdefault('precision', dict(train='fp32', eval='fp32'))
    l = make_learner(data, range(len(data)), bs=8, steps=steps, seed=seed, **kw)
    fit(l, 'flat')
    return l


def weights(l):
    return torch.cat([p.detach().flatten() for p in l.model.parameters()])


# --- data


def test_paper_padding():
    "256x400 becomes 256x416: 8 columns on either side, black before the normalisation, background in the mask"
    d = blank((256, 400), value=200)
    assert d.pad == (8, 8, 0, 0)
    x, y = d.batch(torch.arange(2))
    r = d.raw(torch.arange(2))
    assert x.shape == (2, 3, 256, 416) and y.shape == (2, 256, 416) and y.dtype == torch.int64
    assert (r[..., :8] == 0).all() and (r[..., -8:] == 0).all() and (r[..., 8:-8] == 200).all()
    assert (x[..., :8] == -1).all() and y.sum() == 2 * 256 * 400 and (y[..., :8] == 0).all()
    assert d.crop(y).shape == (2, 256, 400) and d.crop(y).all()


@pytest.mark.parametrize('shape', [(32, 32), (33, 47), (16, 100), (64, 63), (1, 1)])
def test_crop_undoes_padding(shape):
    r = np.random.default_rng(0)
    im, m = r.integers(0, 256, (3, *shape, 3)).astype(np.uint8), r.integers(
        0, 2, (3, *shape)
    ).astype(np.uint8)
    d = DeviceData(im, m)
    i = torch.tensor([2, 0])
    assert d.raw(i).shape[-1] % 32 == 0 and d.raw(i).shape[-2] % 32 == 0
    np.testing.assert_array_equal(d.crop(d.raw(i)).permute(0, 2, 3, 1).numpy(), im[[2, 0]])
    np.testing.assert_array_equal(d.crop(d.target(i)).numpy(), m[[2, 0]])
    l, rr, t, b = d.pad
    assert 0 <= rr - l <= 1 and 0 <= b - t <= 1


def test_normalisation_and_grey():
    d = blank((32, 32), value=255)
    assert (d.batch(torch.tensor([0]))[0] == 1).all() and d.raw(torch.tensor([0])).shape[1] == 3
    x = blank((32, 32), c=3, value=255, encoder='resnet18').batch(torch.tensor([0]))[0][0, :, 0, 0]
    np.testing.assert_allclose(
        x, (1 - np.array([0.485, 0.456, 0.406])) / [0.229, 0.224, 0.225], rtol=1e-5
    )
    assert blank((32, 32), in_channels=1).batch(torch.tensor([0]))[0].shape[1] == 1


def test_data_takes_memory_maps_and_leaves_them_alone(tmp_path):
    a = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 1)).astype(np.uint8)
    (tmp_path / 'x').write_bytes(a.tobytes())
    m = np.memmap(tmp_path / 'x', np.uint8, 'r', shape=a.shape)
    d = DeviceData(m, np.zeros((4, 32, 32), np.uint8))
    x = d.raw(torch.tensor([1]))
    x += 5
    np.testing.assert_array_equal(d.images.numpy(), a)
    assert len(d) == 4


# --- augmentation


def test_blur_is_scipy_s():
    x = torch.rand(3, 2, 24, 30, generator=gen()) * 255
    s = torch.tensor([0.5, 1.3, 2.0])
    want = np.stack(
        [
            [gaussian_filter(c, float(k), mode='mirror', radius=6) for c in im]
            for im, k in zip(x.double().numpy(), s)
        ]
    )
    np.testing.assert_allclose(_gaussian_blur(x, s), want, rtol=1e-4, atol=1e-3)


def test_blur_ends():
    x = torch.rand(2, 1, 16, 16, generator=gen())
    np.testing.assert_allclose(_gaussian_blur(x, torch.zeros(2)), x, atol=1e-6)
    np.testing.assert_allclose(
        _gaussian_blur(torch.full((1, 3, 9, 9), 7.0), torch.tensor([2.0])), 7, rtol=1e-5
    )
    assert _gaussian_blur(torch.rand(1, 1, 4, 3), torch.tensor([2.0])).shape == (1, 1, 4, 3)


def test_augmentation_statistics():
    "Each with probability 1/2, independently; the mask follows the flip and is never blurred"
    n = 4000
    x = torch.zeros(n, 1, 8, 8)
    x[..., 0] = 100
    x[:, :, 4, 1] = 50
    y = torch.zeros(n, 8, 8, dtype=torch.long)
    y[..., 0] = 1
    a, b = augment(x.clone(), y.clone(), gen())
    flip = b[:, 0, -1] == 1
    blur = (a != x).flatten(1).any(1) & (a != x.flip(-1)).flatten(1).any(1)
    for o in (flip, blur):
        assert abs(o.float().mean() - 0.5) < 0.03
    assert abs((flip & blur).float().mean() - 0.25) < 0.03
    assert (
        (b.sum((1, 2)) == 8).all()
        and torch.equal(b[flip], y[flip].flip(-1))
        and torch.equal(b[~flip], y[~flip])
    )
    assert torch.equal(a[~blur & flip], x[~blur & flip].flip(-1)) and torch.equal(
        a[~blur & ~flip], x[~blur & ~flip]
    )
    side = torch.where(flip, a[..., -1].mean((1, 2)), a[..., 0].mean((1, 2)))[blur]
    lo, hi = (float(_gaussian_blur(x[:1], torch.tensor([s]))[..., 0].mean()) for s in (2.0, 0.5))
    assert (
        side.min() >= lo - 0.1
        and side.max() <= hi + 0.1
        and side.min() < lo + 1
        and side.max() > hi - 1
    )


def test_augmentation_follows_its_generator_only():
    x, y = torch.rand(6, 3, 16, 16, generator=gen(1)), torch.zeros(6, 16, 16, dtype=torch.long)
    a = augment(x.clone(), y.clone(), gen(3))[0]
    torch.manual_seed(99)
    np.random.seed(3)
    assert torch.equal(a, augment(x.clone(), y.clone(), gen(3))[0]) and not torch.equal(
        a, augment(x.clone(), y.clone(), gen(4))[0]
    )


# --- batches


@pytest.mark.parametrize(
    'n,bs,steps', [(10, 3, 7), (8, 8, 3), (5, 50, 4), (9, 4, 1), (1, 1, 5), (10, 3, 3)]
)
def test_order(n, bs, steps):
    idx = np.arange(100, 100 + n)
    b = Batches(blank((32, 32), 1), idx, bs, steps, gen())
    o = b.order()
    bs = min(bs, n)
    per = n // bs
    assert o.shape == (steps, bs) and set(o.flatten().tolist()) <= set(idx)
    for k in range(0, steps, per):
        e = o[k : k + per].flatten()
        assert len(set(e.tolist())) == len(e)
    assert len(b) == steps
    if n > 2 and steps > 2 * per:
        assert not torch.equal(o[:per], o[per : 2 * per])


def test_order_drops_another_rest_each_time():
    o = Batches(blank((32, 32), 1), range(10), 3, 60, gen()).order().view(20, 9)
    assert len({(set(range(10)) - set(r.tolist())).pop() for r in o}) > 3


def test_batches_are_the_data(data):
    b = Batches(data, [5, 3], 2, 1, gen(), aug=None)
    x, y = next(iter(b))
    i = Batches(data, [5, 3], 2, 1, gen()).order()[0]
    assert torch.equal(x, data.normalise(data.raw(i))) and torch.equal(y, data.target(i))


@pytest.mark.parametrize(
    'n,bs,kw,want',
    [
        (86, 50, dict(epochs=40), 40),
        (860, 50, dict(epochs=40), 680),
        (86, 50, dict(), 40),
        (86, 50, dict(steps=7), 7),
        (10, 50, dict(epochs=3), 3),
        (100, 50, dict(steps=5, epochs=40), 5),
    ],
)
def test_steps_of_the_paper(n, bs, kw, want, monkeypatch):
    "Cycle 1 trains 40 steps, cycle 10 680"
    monkeypatch.setattr(learner, 'create_model', lambda *a, **kw: torch.nn.Conv2d(3, 2, 1))
    assert make_learner(blank((32, 32), 1), np.zeros(n, int), bs=bs, **kw).dls.train.steps == want


# --- training


@pytest.fixture(scope='module')
def once(data):
    return train(data)


def test_same_seed_same_bits_whatever_the_global_state(data, once):
    torch.manual_seed(1234)
    np.random.seed(5)
    random.seed(6)
    b = train(data)
    assert torch.equal(weights(once), weights(b)) and [float(o) for o in once.recorder.losses] == [
        float(o) for o in b.recorder.losses
    ]
    for x, y in zip(once.model.buffers(), b.model.buffers()):
        assert torch.equal(x, y)


def test_other_seed_other_network(data, once):
    assert not torch.equal(weights(once), weights(train(data, seed=1)))


def test_global_generators_go_on_as_if_nothing_had_been(data):
    torch.manual_seed(7)
    np.random.seed(7)
    random.seed(7)
    before = torch.get_rng_state().clone(), np.random.get_state()[1].copy(), random.getstate()
    train(data, steps=1)
    assert (
        torch.equal(before[0], torch.get_rng_state())
        and (before[1] == np.random.get_state()[1]).all()
        and before[2] == random.getstate()
    )


def test_data_are_not_changed_by_training(data):
    a, m = data.images.clone(), data.masks.clone()
    train(data, steps=1)
    assert torch.equal(a, data.images) and torch.equal(m, data.masks)


def test_it_learns(data):
    l = train(data, steps=25, lr=2e-3)
    v = [float(o) for o in l.recorder.losses]
    assert len(v) == 25 and np.mean(v[-5:]) < 0.6 * np.mean(v[:3])
    assert not l.model.training


def test_silent(data, capsys):
    train(data, steps=1)
    o = capsys.readouterr()
    assert o.out == o.err == ''


def test_divergence_is_an_error(data):
    "Found by the loss on its way, or at the end"
    with pytest.raises((FloatingPointError, InputError), match='learning rate'):
        train(data, steps=3, lr=1e20)


def test_divergence_at_the_last_step_is_an_error(data, monkeypatch):
    monkeypatch.setattr(learner, 'create_model', lambda *a, **kw: torch.nn.Conv2d(3, 2, 1))
    monkeypatch.setitem(learner.LOSSES, 'combo_paper', lambda: lambda p, y: p.mean() * float('nan'))
    with pytest.raises(FloatingPointError, match='smaller learning rate'):
        train(data, steps=1)


def test_bf16_trains_close_to_fp32(data):
    a, b = (train(data, steps=4, precision=dict(train=p, eval='fp32')) for p in ('fp32', 'bf16'))
    np.testing.assert_allclose(
        [float(o) for o in a.recorder.losses], [float(o) for o in b.recorder.losses], rtol=0.1
    )
    assert all(p.dtype == torch.float32 for p in b.model.parameters())


def test_cosine_schedule(data, monkeypatch):
    monkeypatch.setattr(learner, 'create_model', lambda *a, **kw: torch.nn.Conv2d(3, 2, 1))
    l = make_learner(data, range(16), bs=8, steps=50, lr=0.01)
    fit(l, 'cosine')
    lrs = np.array(l.recorder.lrs)
    assert (
        len(lrs) == 50
        and lrs[0] == pytest.approx(0.001, rel=0.3)
        and lrs.argmax() in (9, 10, 11)
        and lrs.max() == pytest.approx(0.01, rel=0.02)
        and lrs[-1] < 3e-4
    )
    l = make_learner(data, range(16), bs=8, steps=4, lr=0.01)
    fit(l, 'flat')
    assert l.recorder.lrs == [0.01] * 4


def test_weight_decay_is_adam_s(data, monkeypatch):
    monkeypatch.setattr(learner, 'create_model', lambda *a, **kw: torch.nn.Conv2d(3, 2, 1))
    l = make_learner(data, range(16), bs=8, steps=1, wd=0.03)
    fit(l, 'flat')
    o = l.opt.opt
    assert (
        type(o) is torch.optim.Adam
        and {g['weight_decay'] for g in o.param_groups} == {0.03}
        and sum(len(g['params']) for g in o.param_groups) == 2
    )


@pytest.mark.parametrize(
    'kw,match',
    [(dict(loss='dise'), 'combo_paper'), (dict(arch='fnp'), 'fpn'), (dict(idx=[]), 'at least one')],
)
def test_bad_input(data, kw, match):
    with pytest.raises(InputError, match=match):
        make_learner(data, kw.pop('idx', range(4)), steps=1, **kw)


def test_unknown_schedule_and_precision(data, once):
    with pytest.raises(InputError, match='flat, cosine'):
        lr_schedule('cos', 1.0)
    with pytest.raises(InputError, match='fp32, bf16'):
        cast('fp8', 'cpu')


def test_precision_choice(monkeypatch):
    assert choose_precision('cuda:1') == dict(train='fp32', eval='fp32')
    for fast in (True, False):
        for f in ('_is_amx_tile_supported', '_is_avx512_bf16_supported'):
            monkeypatch.setattr(torch.cpu, f, lambda: fast, raising=False)
        assert choose_precision('cpu') == dict(train='fp32', eval='bf16' if fast else 'fp32')


# --- batches at a prevalence


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 30),
    st.integers(1, 30),
    st.floats(0.01, 1),
    st.integers(1, 16),
    st.integers(0, 99),
)
def test_batches_at_a_prevalence(nf, nh, pi, bs, seed):
    "Patches of the drawn class, within six standard deviations of the share; the same from the same seed"
    data, idx = blank((32, 32), 1), np.arange(50, 50 + nf + nh)
    f = np.arange(nf + nh) < nf
    draw = lambda: MixedBatches(data, idx, bs, 300, torch.Generator().manual_seed(seed), pi, f)
    b = draw()
    o = b.order()
    n = o.numel()
    want = (o < 50 + nf).double().mean().item()
    assert (
        o.shape == (300, min(bs, nf + nh))
        and set(o.flatten().tolist()) <= set(idx.tolist())
        and b.share == want
    )
    assert abs(want - pi) <= 6 * (pi * (1 - pi) / n) ** 0.5 + 1e-9 and (draw().order() == o).all()


def test_within_a_class_all_are_drawn_alike():
    b = MixedBatches(blank((32, 32), 1), range(10), 10, 4000, gen(), 0.5, np.arange(10) < 2)
    n = np.bincount(b.order().flatten(), minlength=10)
    assert abs(n[:2] / 40000 - 0.25).max() < 0.012 and abs(n[2:] / 40000 - 0.0625).max() < 0.007


@pytest.mark.parametrize(
    'faulty,pi,share', [([True] * 6, 0.5, 1.0), ([False] * 6, 0.5, 0.0), ([True] * 6, 1.0, 1.0)]
)
def test_a_class_that_is_missing_means_plain_batches(faulty, pi, share):
    b = MixedBatches(blank((32, 32), 1), range(6), 3, 8, gen(), pi, faulty)
    o = b.order()
    assert b.share == share
    if pi < 1:
        assert all(sorted(r.tolist()) == list(range(6)) for r in o.view(4, 6))


def test_the_learner_reads_what_is_faulty(data):
    l = make_learner(data, range(16), bs=8, steps=60, train_pi=0.2)
    assert l.dls.train.faulty.tolist() == (data.masks[:16].flatten(1).amax(1) > 0).tolist()
    l = make_learner(data, range(16), bs=8, steps=60, train_pi=0.2, faulty=[True] + [False] * 15)
    o = l.dls.train.order()
    assert (o == 0).double().mean().item() == l.dls.train.share < 0.35


# --- ending when the loss has converged


def watched(losses, steps, schedule='cosine'):
    "(steps taken, learning rates, the callback) for given losses, without a network"
    from types import SimpleNamespace

    rates, cb = [], Converged(steps, 1.0, schedule)
    cb.before_fit()
    cb.learn = SimpleNamespace(opt=SimpleNamespace(set_hyper=lambda k, v: rates.append(v)))
    for i in range(steps):
        cb.before_batch()
        cb.learn.loss = torch.tensor(float(losses[i]))
        try:
            cb.after_batch()
        except learner.CancelTrainException:
            break
    return i + 1, np.array(rates), cb


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.sampled_from(SCHEDULES), st.integers(0, 99), st.floats(0, 0.2))
def test_a_converged_training_keeps_to_its_limit(steps, schedule, seed, fall):
    "Never longer than the limit; up and down by cosines with the full rate between; checks are few"
    losses = np.exp(-fall * np.arange(steps)) * np.random.default_rng(seed).uniform(0.5, 1.5, steps)
    n, r, cb = watched(losses, steps, schedule)
    t = cb.n
    assert (
        n == len(r) <= steps
        and len(cb.means) <= steps // 5 + 1
        and (r <= 1 + 1e-9).all()
        and (r > 0).all()
    )
    if schedule == 'flat':
        assert (r == 1).all() and n >= min(steps, 20)
    else:
        assert (
            n >= min(steps, 2 * t + 20)
            and (np.diff(r[:t]) > 0).all()
            and (r[t : n - t] == 1).all()
            and (t == 0 or r[n - t] == 1 and (np.diff(r[n - t :]) < 0).all())
        )


@pytest.mark.parametrize(
    'losses,n',
    [
        ([1.0] * 120, 68),
        ([1.0] * 60 + [0.5] * 60, 68),
        ([0.96 ** (i / 10) for i in range(120)], 68),
        ([0.94 ** (i / 10) for i in range(120)], 120),
        ([1.0] * 34 + [0.9] * 86, 78),
    ],
)
def test_when_it_ends(losses, n):
    "Of 120 steps 24 warm up, 24 are the tail; first compared after step 44; what falls later is not waited for"
    assert watched(losses, 120)[0] == n


def test_nothing_is_decided_on_nan():
    assert watched([float('nan')] * 60, 60)[0] == 60


class Level(torch.nn.Module):
    def forward(self, z, y):
        return 0 * z.float().sum() + 1


def test_a_learner_that_has_converged(data):
    "Not a step too many"
    l = make_learner(data, range(16), bs=2, steps=40, lr=0.01, loss=Level())
    fit(l, 'cosine', 'converged')
    lrs = l.recorder.lrs
    assert (
        len(l.recorder.losses) == len(lrs) == 36
        and not l.model.training
        and lrs[8:29] == [0.01] * 21
        and lrs[-1] < 0.001
    )
    with pytest.raises(InputError, match='none, converged'):
        fit(l, 'flat', 'soon')


def test_a_start_is_taken_over(data):
    net = train(data, steps=1).model
    state = {k: v.clone() for k, v in net.state_dict().items()}
    l = make_learner(data, range(16), bs=8, steps=1, seed=9, start=net.state_dict())
    got = l.model.state_dict()
    assert all(torch.equal(got[k], state[k]) for k in state)
    fit(l)
    assert all(torch.equal(net.state_dict()[k], state[k]) for k in state) and any(
        not torch.equal(l.model.state_dict()[k], state[k]) for k in state
    )
