"Training on a fixed split: augmentation, refusal, divergence, checkpoints"

import sys

import numpy as np, pytest, torch

from imbal_al.core import InputError
from imbal_al.measure.oii import score_counts
from imbal_al.data.synthetic import dataset
from imbal_al.networks.augment import (
    augment_random, _change, fixed_copies, resize_pairs,
)
from imbal_al.losses.names import loss_takes
from imbal_al.losses.registry import LOSSES, make_loss
from imbal_al.networks.fixed_split import (
    Parts, fit_curve, _read_checkpoint, sgd_learner, stretch, validation_counts,
)


@pytest.fixture(scope='module')
def parts():
    x, y = dataset('steel', 18, size=32, seed=3)
    return Parts(x[..., None], y, range(12), range(12, 18))


def fit(parts, loss='dibe', checkpoint=None, stop=None, seconds=0, schedule='cosine', **kw):
    class Stop(Exception):
        pass

    def tell(step, row):
        if step == stop:
            raise Stop('killed')

    learn = sgd_learner(
        parts,
        make_loss(loss),
        **{
            **dict(arch='unet', weights=None, width=0.25, bs=4, steps=6, validations=3, lr=0.02),
            **kw,
        },
        tell=tell,
    )
    try:
        return fit_curve(learn, schedule, checkpoint, seconds), learn
    except Stop:
        return None, learn


@pytest.mark.parametrize('loss', LOSSES)
def test_every_loss_can_be_made_and_takes_a_step(loss, parts):
    "One step changes the loss; nothing is nan"
    rows, _ = fit(parts, loss, steps=2, validations=2)
    assert [o['step'] for o in rows] == [1, 2] and np.isfinite(
        [o['train_loss'] for o in rows]
    ).all()


def test_loss_settings():
    assert make_loss('dibe', 0.9, 'class', gamma=1.0).gamma == 1.0
    assert loss_takes('hf', 'exponent') and not loss_takes('dice', 'fn_weight')
    for args, say in (
        (('dicee',), 'unknown loss'),
        (('bce', 0.5), "no setting 'fn_weight'"),
        (('tversky', 0.5, 'class'), "no setting 'variant'"),
    ):
        with pytest.raises(InputError, match=say):
            make_loss(*args)
    with pytest.raises(InputError, match='nothing'):
        make_loss('ft', nothing=1)


def test_resize_keeps_area_and_type():
    y = np.zeros((3, 60, 60), np.uint8)
    y[1, 10:30, 10:30] = 1
    x, z = resize_pairs(np.repeat(y[..., None] * 200, 3, 3), y, 24)
    assert (
        x.shape == (3, 24, 24, 3)
        and x.dtype == np.uint8
        and z.dtype == np.uint8
        and set(np.unique(z)) == {0, 1}
    )
    assert abs(z[1].mean() - y[1].mean()) < 0.02 and not z[0].any()
    assert resize_pairs(x, z, None)[0] is x and resize_pairs(x, z, 24)[1] is z


def test_changes_leave_the_mean_or_colour_they_should():
    x = torch.rand(4, 3, 9, 9, generator=torch.Generator().manual_seed(0)) * 120 + 40
    f = torch.tensor([0.7, 0.9, 1.1, 1.3])
    assert torch.allclose(
        _change(x, 'brightness', f).mean((1, 2, 3)), x.mean((1, 2, 3)) * f, rtol=1e-4
    )
    c = _change(x, 'contrast', f)
    assert torch.allclose(c.std((2, 3)).mean(1) / x.std((2, 3)).mean(1), f, rtol=0.05)
    assert torch.allclose(_change(x, 'saturation', f).mean(1), x.mean(1), atol=1e-2)
    grey = x[:, :1].expand(-1, 3, -1, -1)
    assert torch.allclose(_change(grey, 'saturation', f), grey, atol=1e-3)
    assert (_change(x * 10, 'brightness', f) <= 255).all()


def test_random_augmentation_flips_image_and_mask_together():
    x = torch.arange(8.0).view(1, 1, 1, 8).expand(64, 3, 4, 8).clone()
    y = (x[:, 0] >= 6).long()
    a, b = augment_random(x, y, torch.Generator().manual_seed(0))
    flipped = b[:, 0, 0] == 1
    assert 16 < int(flipped.sum()) < 48
    assert ((a[:, 0, 0, 0] > a[:, 0, 0, -1]) == flipped).all()


def test_fixed_copies_are_fixed_and_seeded():
    x, y = dataset('leaves', 4, size=32, seed=0)
    a, b = fixed_copies(x, y, 5)
    assert len(a) == len(b) == 20 and (b.reshape(5, 4, 32, 32)[[0, 2, 3, 4]] == y).all()
    assert (fixed_copies(x, y, 5)[0] == a).all() and (fixed_copies(x, y, 6)[0] != a).any()
    assert all((a[4 * k : 4 * k + 4] != x).any() for k in range(1, 5))


@pytest.mark.parametrize(
    'train,valid,say',
    [
        ([], [1], 'both parts need some'),
        ([0, 1], [1], 'both the training and the validation'),
        ([0, 1], [3], 'no defect in its validation part'),
    ],
)
def test_parts_refuse(train, valid, say):
    y = np.zeros((4, 32, 32), np.uint8)
    y[:2, 4:8, 4:8] = 1
    with pytest.raises(InputError, match=say):
        Parts(np.zeros((4, 32, 32, 1), np.uint8), y, train, valid, 'demo')


def test_fewer_images_than_a_batch(parts):
    with pytest.raises(InputError, match='12 training images, fewer than a batch of 13'):
        fit(parts, bs=13)


def test_the_validation_part_is_never_trained_on(parts):
    seen = []
    _, learn = fit(parts)
    for x, _ in learn.dls.train:
        seen.append(x)
    assert set(learn.dls.train.idx.tolist()) == set(range(12)) and list(parts.valid) == list(
        range(12, 18)
    )


def test_counts_are_those_of_the_whole_part(parts):
    rows, learn = fit(parts)
    data, i = parts.data, torch.as_tensor(parts.valid)
    with torch.no_grad():
        p = data.crop(learn.model(data.normalise(data.raw(i)))[:, 0]) >= 0
    y = data.masks[i] > 0
    want = [int((p & y).sum()), int((p & ~y).sum()), int((~p & y).sum())]
    assert (
        list(validation_counts(learn.model, parts, bs=4))
        == want
        == [rows[-1][k] for k in ('tp', 'fp', 'fn')]
    )
    assert rows[-1]['oii'] == score_counts([want])['oii']


def test_same_seed_same_rows_and_the_global_generator_is_left_alone(parts):
    torch.manual_seed(1)
    a = fit(parts)[0]
    x = torch.rand(1)
    torch.manual_seed(1)
    assert torch.rand(1) == x
    assert repr(fit(parts)[0]) == repr(a) != repr(fit(parts, seed=1)[0])


@pytest.mark.parametrize('stop', [4, 6])
@pytest.mark.parametrize('schedule', ['flat', 'cosine'])
def test_a_killed_training_ends_as_an_unbroken_one(stop, schedule, parts, tmp_path):
    "Killed twice, at the same and at a later validation"
    whole, first = fit(parts, schedule=schedule)
    path = tmp_path / 'state'
    assert fit(parts, checkpoint=path, stop=stop, schedule=schedule)[0] is None and path.exists()
    assert _read_checkpoint(path)['epoch'] == stop // 2 - 1
    assert fit(parts, checkpoint=path, stop=stop, schedule=schedule)[0] is None
    rows, learn = fit(parts, checkpoint=path, schedule=schedule)
    assert repr(rows) == repr(whole) and not path.exists() and not list(tmp_path.iterdir())
    assert [float(o) for o in learn.recorder.losses] == [
        float(o) for o in first.recorder.losses
    ], 'the recorded losses of all steps, smoothed as if nothing had been'


def test_a_damaged_checkpoint_is_not_read(parts, tmp_path):
    whole = fit(parts)[0]
    path = tmp_path / 'state'
    fit(parts, checkpoint=path, stop=6)
    path.write_bytes(path.read_bytes()[:-200])
    assert _read_checkpoint(path) is None and repr(fit(parts, checkpoint=path)[0]) == repr(whole)


def test_a_full_disk_costs_the_checkpoint_not_the_training(parts, tmp_path, caplog, monkeypatch):
    "The write fails in its middle; the training ends as it would have"
    import resource

    whole = fit(parts)[0]
    monkeypatch.setattr(sys, 'dont_write_bytecode', True)  # No module's cache shall be cut off
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    try:
        rows = fit(parts, checkpoint=tmp_path / 'state')[0]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    assert (
        repr(rows) == repr(whole)
        and f"cannot write {tmp_path/'state'}" in caplog.text
        and not list(tmp_path.iterdir())
    )


@pytest.mark.parametrize('loss', ['bce', 'dibe_reg'])
def test_divergence_names_step_and_last_finite_loss(loss, parts):
    with pytest.raises(
        FloatingPointError,
        match=r'^the training diverged at step \d+ \(validation stretch \d\): .*; '
        r'last finite loss [\d.e+-]+; use a smaller learning rate$',
    ):
        fit(parts, loss, lr=1e20, schedule='flat', steps=30)


@pytest.mark.parametrize(
    'given,want',
    [((10, 4, 7, None, 3), (3, 3)), ((10, 4, None, 6, 3), (4, 3)), ((10, 4, 2, None, 5), (1, 5))],
)
def test_stretch(given, want):
    assert stretch(*given) == want


def test_unknown_augmentation(parts):
    with pytest.raises(InputError, match='unknown augmentation'):
        fit(parts, augment='mixup')
