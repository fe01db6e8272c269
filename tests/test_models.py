"Models: one factory, with weights that are there"

import os, pickle, subprocess, sys

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest
import torch
from torch import nn

from imbal_al.networks import models
from imbal_al.core import InputError
from imbal_al.networks.device import DeviceData
from imbal_al.networks.models import (
    encoder_stats, lite_state_dict, Maps, ARCHS, create_model,
)
from imbal_al.networks.models import _HALF, _IMAGENET, _scaled, _unpool
from imbal_al.networks.scoring import forward, score

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture(scope='module')
def lite0():
    return create_model().eval()


def make(arch, seed=0, classes=2, width=1.0, **kw):
    torch.manual_seed(seed)
    return create_model(
        arch, 'vgg16' if arch == 'segnet' else 'lite0', None, classes, width=width, **kw
    )


@pytest.mark.parametrize('arch', ARCHS)
@pytest.mark.parametrize('classes', [1, 2])
def test_every_network_keeps_the_size(arch, classes):
    m = make(arch, classes=classes, width=0.25).eval()
    with torch.inference_mode():
        for h, w in ((64, 96), (128, 64), (160, 160)):
            assert m(torch.zeros(1, 3, h, w)).shape == (1, classes, h, w)


@pytest.mark.parametrize('arch', ARCHS)
def test_every_network_trains_on_batches_of_two(arch):
    "Batch statistics, at the size of the studies; the gradient reaches the first layer"
    m = make(arch, width=0.25).train()
    m(torch.rand(2, 3, 128, 128)).square().mean().backward()
    first = next(p for p in m.parameters())
    assert (
        first.dim() == 4
        and first.shape[1] == 3
        and torch.isfinite(first.grad).all()
        and first.grad.abs().sum() > 0
    )


@pytest.mark.parametrize('arch', ARCHS)
def test_every_network_follows_the_seed(arch):
    a, b, c = (make(arch, s, width=0.25).state_dict() for s in (0, 0, 1))
    assert all(torch.equal(a[k], b[k]) for k in a) and any(not torch.equal(a[k], c[k]) for k in a)


def test_channels():
    m = create_model(weights=None, in_channels=1, classes=2).eval()
    with torch.inference_mode():
        assert m(torch.zeros(1, 1, 32, 32)).shape == (1, 2, 32, 32)
    with pytest.raises(InputError, match='3 channels, not 1'):
        create_model(in_channels=1)


def test_imagenet_weights_are_in_the_encoder_and_nowhere_else(lite0):
    w = lite_state_dict()
    own = lite0.encoder.state_dict()
    got = {k for k in own if k.removeprefix('model.') in w}
    assert got == set(own) and len(own) > 200
    for k, v in own.items():
        assert torch.equal(v, w[k.removeprefix('model.')])
    assert {k for k in w if f'model.{k}' not in own} == {
        f'{o}.{p}'
        for o, ps in dict(
            conv_head=['weight'],
            bn2=['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked'],
            classifier=['weight', 'bias'],
        ).items()
        for p in ps
    }


def test_the_random_part_follows_torch_s_seed():
    make = lambda s: (torch.manual_seed(s), create_model())[1].state_dict()
    a, b, c = make(0), make(0), make(1)
    assert all(torch.equal(a[k], b[k]) for k in a)
    differ = {k.split('.')[0] for k in a if not torch.equal(a[k], c[k])}
    assert differ == {'decoder', 'segmentation_head'}


def test_training_step_changes_all_weights(lite0):
    m = create_model()
    m.train()
    m(torch.rand(4, 3, 64, 64)).square().mean().backward()
    assert all(
        p.grad is not None and torch.isfinite(p.grad).all()
        for p in m.parameters()
        if p.requires_grad
    )


def test_normalisation():
    assert encoder_stats('lite0') == _HALF and encoder_stats('efficientnet-b3') == _IMAGENET


@pytest.mark.parametrize(
    'kw,match',
    [
        (dict(arch='fnp'), 'fpn, unet'),
        (dict(encoder='efficientnet-b33'), 'efficientnet-b33'),
        (dict(encoder='resnet18', weights='imagenot'), 'imagenot'),
    ],
)
def test_unknown_names(kw, match):
    with pytest.raises(InputError, match=match) as e:
        create_model(**{'weights': None, **kw})
    assert '\n' not in str(e.value)


def test_weights_that_cannot_be_fetched(tmp_path):
    "Offline, an encoder whose weights are not installed is refused in one line"
    code = "from imbal_al.networks.models import *; from imbal_al.core import InputError\ntry: create_model(encoder='resnet18')\nexcept InputError as e: print(e)"
    env = dict(os.environ, HF_HUB_OFFLINE='1', HF_HOME=str(tmp_path), TORCH_HOME=str(tmp_path))
    out = (
        subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, text=True)
        .stdout.strip()
        .split('\n')
    )
    assert len(out) == 1 and "'resnet18'" in out[0] and 'lite0' in out[0]


# --- width

SMP = [a for a in ARCHS if a != 'segnet']


@pytest.mark.parametrize('arch', SMP)
def test_width_1_is_smp_s_own_network(arch):
    "The same weights from the same seed as smp's class without any argument, and the generator left in the same state: old studies stay what they are"
    import segmentation_models_pytorch as smp

    own = make(arch, 3)
    after = torch.get_rng_state()
    torch.manual_seed(3)
    theirs = getattr(smp, ARCHS[arch])(
        'tu-tf_efficientnet_lite0', encoder_weights=None, classes=2, in_channels=3
    )
    assert torch.equal(after, torch.get_rng_state())
    a, b = own.state_dict(), theirs.state_dict()
    assert list(a) == list(b) and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize('arch', SMP)
@pytest.mark.parametrize('width', [0.01, 0.3, 1.3])
def test_width_scales_the_decoder_and_keeps_the_encoder(arch, width):
    one, m = make(arch), make(arch, width=width)
    n = lambda part: sum(p.numel() for p in part.parameters())
    assert n(m.encoder) == n(one.encoder) and (n(m.decoder) < n(one.decoder)) == (width < 1)
    m.eval()
    with torch.inference_mode():
        assert m(torch.zeros(1, 3, 64, 64)).shape == (1, 2, 64, 64)


def test_a_narrow_decoder_keeps_the_encoder_s_weights():
    m = create_model('unet', width=0.25)
    assert torch.equal(
        m.encoder.state_dict()['model.conv_stem.weight'], lite_state_dict()['conv_stem.weight']
    )
    assert [b.conv1[0].out_channels for b in m.decoder.blocks] == [64, 32, 16, 8, 8]


@given(st.integers(1, 128), st.floats(0.001, 4))
def test_scaled_is_a_multiple_of_8_near_the_exact_width(c8, width):
    got = _scaled(8 * c8, width)
    assert (
        got % 8 == 0
        and got >= 8
        and (got == 8 or abs(got - 8 * c8 * width) <= 4 + 1e-9)
        and _scaled(8 * c8) == 8 * c8
    )


@pytest.mark.parametrize('width', [0, -1, float('nan'), float('inf'), '0.5', None, True])
@pytest.mark.parametrize('arch', ['fpn', 'segnet'])
def test_impossible_widths(arch, width):
    with pytest.raises(InputError, match='not a positive number') as e:
        make(arch, width=width)
    assert '\n' not in str(e.value)


# --- SegNet


@pytest.fixture(scope='module')
def full():
    return make('segnet')


@pytest.fixture
def small():
    return make('segnet', width=0.25)


def test_parameters_of_segnet(full):
    """By hand, from the layer table: 9 c_in c_out weights and c_out biases per convolution, two per channel of a batch norm

    pairs c_in c_out per stage: 3*64+64*64, 64*128+128*128, 128*256+2*256*256, 256*512+2*512*512, 3*512*512; outputs 2*64+2*128+3*256+6*512
    """
    pairs, down, up = (
        4288 + 24576 + 163840 + 655360 + 786432,
        4224,
        64 + (128 + 64) + (256 + 256 + 128) + (512 + 512 + 256) + 3 * 512,
    )
    assert (pairs, up) == (1_634_496, 3712)
    encoder, decoder, head = (
        9 * pairs + down + 2 * down,
        9 * (pairs - 3 * 64) + up + 2 * up,
        9 * 64 * 2 + 2,
    )
    n = lambda m: sum(p.numel() for p in m.parameters())
    assert (n(full.encoder), n(full.decoder), n(full.segmentation_head)) == (encoder, decoder, head)
    assert n(full) == 29_444_162


def test_the_decoder_mirrors_the_encoder(full):
    "Read backwards, the decoder's convolutions turn each of the encoder's round, but for the colours, which are the classes"
    down = [
        (m.in_channels, m.out_channels)
        for s in full.encoder.stages
        for m in s
        if isinstance(m, nn.Conv2d)
    ]
    up = [
        (m.in_channels, m.out_channels)
        for s in reversed(full.decoder.stages)
        for m in s
        if isinstance(m, nn.Conv2d)
    ] + [(64, 2)]
    assert (
        len(down) == len(up) == 13
        and up[:-1] == [(o, i) for i, o in down[:0:-1]]
        and down[0] == (3, 64)
    )
    assert [len(s) // 3 for s in full.encoder.stages] == [2, 2, 3, 3, 3] and [
        len(s) // 3 for s in full.decoder.stages
    ] == [1, 2, 3, 3, 3]
    assert full.encoder.out_channels == [3, 64, 128, 256, 512, 512]


def test_he_initialisation(full):
    for m in full.modules():
        if isinstance(m, nn.Conv2d):
            assert not m.bias.any()
            assert float(m.weight.detach().std()) == pytest.approx(
                (2 / (9 * m.in_channels)) ** 0.5, rel=0.1
            )


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 13),
    st.integers(2, 13),
    st.integers(0, 2**16),
    st.booleans(),
    st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_unpooling_puts_values_where_they_were(h, w, seed, last, dtype):
    "Each window: its largest value at its own place, zeros elsewhere; as `max_unpool2d`, and the gradient goes to those places only"
    x = torch.randn(2, 3, h, w, generator=torch.Generator().manual_seed(seed)).to(dtype)
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    maps = Maps([x])
    maps.pool(x)
    idx, size = maps.pools[0]
    back = _unpool(maps[1], idx, size)
    assert back.shape == x.shape and back.dtype == dtype
    torch.testing.assert_close(
        back, nn.functional.max_unpool2d(maps[1], idx, 2, 2, output_size=size), rtol=0, atol=0
    )
    want = torch.zeros_like(x)
    for i in range(h // 2):
        for j in range(w // 2):
            win = x.detach()[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].flatten(2)
            k = win.argmax(2, keepdim=True)
            want[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = (
                torch.zeros_like(win).scatter(2, k, win.gather(2, k)).unflatten(2, (2, 2))
            )
    assert torch.equal(back.detach(), want.detach())
    back.sum().backward()
    assert torch.equal(x.grad, (want != 0).to(dtype))


@pytest.mark.parametrize('size', [(32, 32), (33, 47), (63, 64), (50, 95)])
def test_segnet_takes_any_size_from_32(size, small):
    m = small.train()
    o = m(torch.rand(2, 3, *size))
    assert o.shape == (2, 2, *size)
    o.square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in m.parameters())


def test_segnet_refuses_less_than_32_pixels(small):
    with pytest.raises(InputError, match='32 pixels a side; this one has 31 x 64'):
        small(torch.rand(1, 3, 31, 64))


def test_segnet_in_bf16_and_channels_last(small):
    "The study's precision: the same logits within bf16's steps, and a finite gradient"
    x = torch.rand(2, 3, 64, 64)
    m = small.eval()
    with torch.inference_mode():
        a = m(x)
        b = m.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
        with torch.autocast('cpu', torch.bfloat16):
            c = m(x)
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert c.dtype == torch.bfloat16 and (c.float() - a).abs().mean() < 0.05 * a.abs().mean() + 0.02
    with torch.autocast('cpu', torch.bfloat16):
        m.train()(x).float().square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in m.parameters())


def test_segnet_obeys_strict_determinism(small):
    x = torch.rand(2, 3, 64, 64)
    grads = []
    torch.use_deterministic_algorithms(True)
    try:
        for _ in range(2):
            small.zero_grad()
            small(x).square().mean().backward()
            grads.append([p.grad.clone() for p in small.parameters()])
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(*grads))


def test_segnet_is_scored_like_the_others(small):
    "One pass gives the logits of a plain call, and the six maps, the image included, as embedding"
    m = small.eval()
    x = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        z, maps = forward(m, x)
        o = m(x)
    assert torch.equal(z, o[:, 1] - o[:, 0]) and len(maps) == 6
    rng = np.random.default_rng(0)
    s = score(
        m,
        DeviceData(
            rng.integers(0, 256, (5, 40, 56, 1), dtype=np.uint8), np.zeros((5, 40, 56), np.uint8)
        ),
        range(5),
        embedding=True,
        hist=True,
        precision='fp32',
    )
    assert s.embedding.shape == (5, sum(m.encoder.out_channels)) and np.allclose(
        np.linalg.norm(s.embedding, axis=1), 1, atol=1e-5
    )
    assert (s.hist.sum((1, 2)) == 40 * 56).all()


def test_segnet_pickles(small):
    m = small.eval()
    again = pickle.loads(pickle.dumps(m))
    x = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(m(x), again(x))


def test_imagenet_weights_land_in_their_layers(monkeypatch):
    "torchvision's own network, its batch norms made unlike each other, gives the same map; nothing of the decoder changes"
    from torchvision.models.vgg import cfgs, make_layers

    torch.manual_seed(1)
    layers = make_layers(cfgs['D'], batch_norm=True)
    vgg = nn.ModuleDict(dict(features=layers))  # VGG itself has a classifier of half a gigabyte
    for m in vgg.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.weight.data.uniform_(0.5, 1.5)
            m.bias.data.normal_()
            m.running_mean.normal_()
            m.running_var.uniform_(0.5, 2)
    state = {k: v for k, v in vgg.state_dict().items() if not k.endswith('num_batches_tracked')}
    monkeypatch.setattr(models, 'vgg16_state_dict', lambda: state)
    torch.manual_seed(0)
    got = create_model('segnet', 'vgg16').eval()
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(got.encoder(x)[-1], vgg.eval()['features'](x), rtol=1e-4, atol=1e-4)
    plain = make('segnet')
    assert all(
        torch.equal(v, plain.decoder.state_dict()[k]) for k, v in got.decoder.state_dict().items()
    )


@pytest.mark.parametrize(
    'kw,match',
    [
        (dict(encoder='lite0'), "'vgg16' only, not 'lite0'"),
        (dict(weights='imagenot'), 'imagenot'),
        (dict(weights='imagenet', width=0.5), 'only for width 1, not 0.5; use weights none'),
        (dict(weights='imagenet', in_channels=1), '3 channels, not 1'),
    ],
)
def test_what_segnet_cannot_have(kw, match, monkeypatch):
    monkeypatch.setattr(models, 'vgg16_state_dict', lambda: pytest.fail('asked the hub'))
    with pytest.raises(InputError, match=match) as e:
        create_model('segnet', **{'encoder': 'vgg16', 'weights': None, **kw})
    assert '\n' not in str(e.value)


def test_vgg16_weights_that_cannot_be_fetched(monkeypatch, tmp_path):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))

    def offline(*a, **k):
        raise OSError('no\nnet')

    monkeypatch.setattr('torch.hub.download_url_to_file', offline)
    with pytest.raises(InputError, match="'vgg16' could not be fetched") as e:
        create_model('segnet', 'vgg16')
    assert '\n' not in str(e.value) and 'weights none' in str(e.value)
