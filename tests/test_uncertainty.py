"Uncertainty: gradients against autograd, BALD against its definition, one pass that changes nothing"

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from imbal_al.core import InputError
from imbal_al.data.synthetic import image
from imbal_al.networks.device import DeviceData
from imbal_al.networks.models import ARCHS, create_model, last_layer
from imbal_al.networks.scoring import score
from imbal_al.networks.uncertainty import (
    FIELDS, _dropouts, badge_embedding, dropping, measure, mutual_information,
)
from imbal_al.strategies.choose import STRATEGIES
from imbal_al.strategies.scores import mean_entropy
from imbal_al.studies.run_config import _DROPOUT

pytestmark = pytest.mark.usefixtures('one_thread')


def made(arch='fpn', encoder='lite0', **k):
    torch.manual_seed(0)
    m = create_model(arch, encoder, None, **k).eval()
    with torch.no_grad():
        [o.weight.mul_(3) for o in (last_layer(m)[0],)]
    return m


@pytest.fixture(scope='module')
def net():
    return made()


@pytest.fixture(scope='module')
def data():
    ims = [image('steel', i, (40, 56), faulty=i % 2 == 0) for i in range(7)]
    return DeviceData(np.stack([o[0] for o in ims])[..., None], np.stack([o[1] for o in ims]))


@pytest.fixture(scope='module')
def whole(net, data):
    return measure(net, data, range(7), FIELDS, precision='fp32')


def probabilities(net, data):
    with torch.inference_mode():
        return data.crop(net(data.batch(torch.arange(7))[0]).softmax(1)[:, 1]).double().numpy()


def test_what_follows_from_the_probabilities(net, data, whole):
    p = probabilities(net, data)
    on = p >= 0.5
    np.testing.assert_allclose(whole['margin'], np.abs(2 * p - 1).mean((1, 2)), rtol=1e-4)
    np.testing.assert_allclose(whole['entropy'], mean_entropy(p), rtol=1e-4)
    h = [mean_entropy(q[o][None])[0] if o.any() else 0 for q, o in zip(p, on)]
    np.testing.assert_allclose(whole['foreground_entropy'], h, rtol=1e-3)
    assert 0 < on.mean() < 1


def test_what_scoring_gives_too_is_the_same(net, data, whole):
    s = score(net, data, range(7), embedding=True, precision='fp32')
    np.testing.assert_array_equal(whole['foreground'], s.foreground)
    for k in ('entropy', 'embedding'):
        np.testing.assert_allclose(whole[k], getattr(s, k), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    'arch,encoder,classes',
    [
        ('fpn', 'lite0', 2),
        ('fpn', 'lite0', 1),
        ('unet', 'lite0', 2),
        ('pspnet', 'lite0', 2),
        ('deeplabv3', 'lite0', 2),
        ('segnet', 'vgg16', 2),
    ],
)
def test_gradient_is_autograd_s(data, arch, encoder, classes):
    "Of the mean cross entropy towards the network's own prediction, padded pixels left out"
    m = made(arch, encoder, classes=classes)
    w = last_layer(m)[0].weight
    got = measure(m, data, range(2), ['gradient'], precision='fp32')['gradient']
    for i in range(2):
        out = data.crop(m(data.batch([i])[0]))
        z = out[:, 1] - out[:, 0] if classes == 2 else out[:, 0]
        (g,) = torch.autograd.grad(F.binary_cross_entropy_with_logits(z, (z >= 0).float()), w)
        want = g[-1].flatten().numpy()
        size = np.abs(want).max()
        np.testing.assert_allclose(got[i] / size, want / size, atol=1e-3)
        assert size > 1e-9


def test_a_sure_network_has_short_gradients():
    "Longest where p is 1/2"
    m = made()
    f = torch.ones(3, 128, 4, 4)
    z = torch.tensor([0.0, 2.0, 30.0])[:, None, None].expand(3, 16, 16)
    n = badge_embedding(m, f, z, (0,) * 4).norm(dim=1)
    assert n[0] > n[1] > n[2] and n[2] < 1e-9


def test_bald_is_its_definition():
    z = torch.randn(6, 3, 5, 4, generator=torch.Generator().manual_seed(0)) * 3
    p = z.sigmoid().double().numpy()
    want = mean_entropy(p.mean(0)) - np.mean([mean_entropy(o) for o in p], 0)
    np.testing.assert_allclose(mutual_information(z), want, rtol=1e-5)
    assert (want > 0).all()


def test_no_disagreement_no_bald():
    z = torch.randn(1, 2, 4, 4).expand(5, 2, 4, 4)
    assert (
        mutual_information(z).max() < 1e-7
        and (mutual_information(z) >= 0).all()
        and torch.isfinite(mutual_information(torch.full((3, 1, 2, 2), 1e4))).all()
    )


def test_bald_follows_from_the_seed_and_grows_no_larger_than_entropy(net, data, whole):
    again = measure(net, data, range(7), ['bald'], precision='fp32')['bald']
    np.testing.assert_array_equal(again, whole['bald'])
    assert (
        (again != measure(net, data, range(7), ['bald'], precision='fp32', seed=1)['bald']).any()
        and (again > 0).all()
        and again.max() < np.log(2)
    )


def test_which_networks_have_dropout():
    "The table that configurations are checked by"
    for a in ARCHS:
        assert bool(_dropouts(made(a, 'vgg16' if a == 'segnet' else 'lite0'))) == (a in _DROPOUT), a


@pytest.mark.parametrize('arch', ['unet', 'segnet'])
def test_no_dropout_is_one_line(data, arch):
    m = made(arch, 'vgg16' if arch == 'segnet' else 'lite0')
    with pytest.raises(InputError, match='no dropout behind its encoder.*fpn') as e:
        measure(m, data, range(2), ['bald'])
    assert '\n' not in str(e.value) and not any(o.training for o in m.modules())


def test_nothing_is_changed(net, data):
    before, rng = copy.deepcopy(net.state_dict()), torch.get_rng_state().clone()
    measure(net, data, range(3), FIELDS)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items()) and torch.equal(
        rng, torch.get_rng_state()
    )
    assert not any(o.training for o in net.modules()) and all(
        p.requires_grad and p.grad is None for p in net.parameters()
    )
    with pytest.raises(RuntimeError), dropping(net):
        raise RuntimeError
    assert not any(o.training for o in net.modules()), 'after an error too'


@pytest.mark.parametrize('bs', [1, 3])
def test_batch_size_does_not_matter(net, data, whole, bs):
    m = measure(net, data, range(7), FIELDS, bs=bs, precision='fp32')
    for k in ('entropy', 'margin', 'foreground_entropy', 'embedding', 'gradient'):
        np.testing.assert_allclose(m[k], whole[k], rtol=1e-2, atol=1e-5)


def test_masks_do_not_leak(net, data, whole):
    m = measure(net, DeviceData(data.images, 1 - data.masks), range(7), FIELDS, precision='fp32')
    for k in FIELDS:
        np.testing.assert_array_equal(m[k], whole[k])


def test_only_what_is_asked_for(net, data):
    m = measure(net, data, [], ['margin', 'gradient'])
    assert list(m) == ['margin', 'gradient'] and len(m['margin']) == 0
    with pytest.raises(InputError, match="unknown field 'badge'.*gradient"):
        measure(net, data, [0], ['badge'])


def test_every_field_of_a_strategy_is_made_somewhere():
    made_elsewhere = {'faulty', 'labelled_faulty', 'pi_t', 'progress', 'training_embedding'}
    for name, f in STRATEGIES.items():
        assert f.needs <= set(FIELDS) | made_elsewhere, name


def test_half_precision_is_close(net, data, whole):
    m = measure(net, data, range(7), FIELDS, precision='bf16')
    np.testing.assert_allclose(m['margin'], whole['margin'], atol=0.05)
    assert all(np.isfinite(v).all() for v in m.values()) and m['gradient'].dtype == np.float32
