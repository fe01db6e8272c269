"Scoring: the same numbers from any batch size, equal to the numpy definitions"

import numpy as np
import pytest
import torch

from imbal_al.networks.device import DeviceData
from imbal_al.measure.metrics import BINS, EDGES, counts, histogram
from imbal_al.networks.models import create_model
from imbal_al.networks.scoring import (
    _logit_histogram, embed, embed_training_mode, embeddings, forward, pixel_entropy, score,
)
from imbal_al.strategies.scores import mean_entropy
from imbal_al.data.synthetic import image

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture(scope='module')
def net():
    torch.manual_seed(0)
    return create_model().eval()


def load(size):
    ims = [image('steel', i, size, faulty=i % 2 == 0) for i in range(7)]
    return DeviceData(np.stack([o[0] for o in ims])[..., None], np.stack([o[1] for o in ims]))


@pytest.fixture(scope='module')
def data():
    return load((40, 56))


@pytest.fixture(scope='module')
def whole(net, data):
    return score(net, data, range(7), True, True, precision='fp32')


@pytest.fixture(scope='module')
def logits(net, data):
    "The plain way: the whole stack, in one pass"
    with torch.inference_mode():
        o = net(data.normalise(data.raw(torch.arange(7)))).double()
    return data.crop(o[:, 1] - o[:, 0]).numpy()


# --- entropy


def test_entropy_of_a_logit():
    z = torch.linspace(-12, 12, 1001, dtype=torch.float64)
    np.testing.assert_allclose(
        pixel_entropy(z), mean_entropy(torch.sigmoid(z)[:, None]), atol=1e-12
    )
    z = torch.tensor([0.0, 50, -50, 88, -104, 1e4, -1e4, 3e38, float('inf'), -float('inf')])
    h = pixel_entropy(z)
    assert (
        h[0] == pytest.approx(np.log(2))
        and torch.isfinite(h).all()
        and (h >= 0).all()
        and (h[1:] < 1e-19).all()
    )
    assert torch.equal(pixel_entropy(z), pixel_entropy(-z))
    assert pixel_entropy(torch.tensor(20.0)) == pytest.approx(
        21 * np.exp(-20), rel=1e-5
    ), 'where 1-p is 0 in float32'
    assert torch.isnan(pixel_entropy(torch.tensor(float('nan'))))


# --- histograms


def test_histogram_is_numpy_s():
    g = torch.Generator().manual_seed(0)
    z = torch.randn(5, 30, 40, generator=g) * 6
    y = (torch.rand(5, 30, 40, generator=g) < 0.1).long()
    near = (z * 8 - (z * 8).round()).abs() < 1e-4
    z[near] = ((z * 8).round() / 8)[near]
    z[0, 0, :6] = torch.tensor([-1e9, 1e9, -8, 8, 0, -0.0])
    np.testing.assert_array_equal(
        _logit_histogram(z, y), histogram(z.numpy(), y.numpy(), logits=True)
    )


def test_every_edge_belongs_to_the_bin_above():
    z = torch.tensor(EDGES[:-1], dtype=torch.float32).view(1, 1, -1)
    assert torch.equal(
        _logit_histogram(z, torch.zeros_like(z))[0, 0], torch.ones(BINS, dtype=torch.long)
    )


def test_histograms_count_what_argmax_counts(whole, logits, data):
    y = data.masks.numpy()
    p = logits >= 0
    want = np.stack(
        [(p & (y > 0)).sum((1, 2)), (p & (y == 0)).sum((1, 2)), (~p & (y > 0)).sum((1, 2))], 1
    )
    assert np.abs(counts(whole.hist) - want).max() <= 2
    assert (
        whole.hist.sum(2) == np.stack([(y == 0).sum((1, 2)), (y > 0).sum((1, 2))], 1)
    ).all(), 'padding is not counted'


# --- scores


def test_scores_are_the_plain_way_s(whole, logits):
    np.testing.assert_allclose(whole.entropy, mean_entropy(1 / (1 + np.exp(-logits))), rtol=1e-4)
    assert np.abs(whole.foreground - (logits >= 0).sum((1, 2))).max() <= 2
    assert (
        whole.entropy.dtype == np.float32
        and whole.embedding.dtype == np.float32
        and whole.hist.dtype == np.uint16
        and whole.hist.shape == (7, 2, BINS)
    )


@pytest.mark.parametrize('bs', [1, 2, 3, 100])
def test_batch_size_does_not_matter(net, data, whole, bs):
    s = score(net, data, range(7), True, True, bs=bs, precision='fp32')
    np.testing.assert_allclose(s.entropy, whole.entropy, rtol=1e-5)
    np.testing.assert_allclose(s.embedding, whole.embedding, atol=1e-6)
    assert (
        np.abs(s.hist.astype(int) - whole.hist).sum() <= 8
        and np.abs(s.foreground - whole.foreground).max() <= 2
    )


def test_order_and_repetition_of_the_indices(net, data, whole):
    i = np.array([6, 0, 3, 3])
    s = score(net, data, i, True, True, bs=2, precision='fp32')
    np.testing.assert_allclose(s.entropy, whole.entropy[i], rtol=1e-5)
    np.testing.assert_allclose(s.embedding, whole.embedding[i], atol=1e-6)


def test_nothing_more_than_asked_for(net, data):
    s = score(net, data, [0], precision='fp32')
    assert s.embedding is None and s.hist is None
    s = score(net, data, [])
    assert len(s.entropy) == len(s.foreground) == 0


def test_bf16_is_close(net, data, whole):
    s = score(net, data, range(7), True, True, precision='bf16')
    np.testing.assert_allclose(s.entropy, whole.entropy, rtol=0.15)
    np.testing.assert_allclose(s.embedding, whole.embedding, atol=0.03)
    assert (s.embedding * whole.embedding).sum(1).min() > 0.99 and s.hist.sum() == whole.hist.sum()


def test_masks_do_not_leak_into_scores(net, data, whole):
    other = DeviceData(data.images, 1 - data.masks)
    s = score(net, other, range(7), True, precision='fp32')
    np.testing.assert_array_equal(s.entropy, whole.entropy)
    np.testing.assert_array_equal(s.embedding, whole.embedding)


def test_scoring_leaves_the_network_alone(net, data):
    before = {k: v.clone() for k, v in net.state_dict().items()}
    s = torch.get_rng_state().clone()
    score(net, data, range(7), True, True)
    embed_training_mode(net, data, range(7), 3)
    assert (
        not net.training
        and all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
        and torch.equal(s, torch.get_rng_state())
    )
    assert all(p.requires_grad and p.grad is None for p in net.parameters())


def test_large_images_count_in_wider_integers(net):
    d = DeviceData(np.zeros((1, 256, 256, 1), np.uint8), np.zeros((1, 256, 256), np.uint8))
    s = score(net, d, [0], hist=True, precision='fp32')
    assert s.hist.dtype == np.uint32 and s.hist.sum() == 2**16


def test_one_channel_networks(data):
    torch.manual_seed(0)
    m = create_model(classes=1).eval()
    with torch.inference_mode():
        x = data.normalise(data.raw(torch.arange(2)))
        z, maps = forward(m, x)
        assert torch.equal(z, m(x)[:, 0]) and len(maps) == 6


# --- embeddings


def test_embedding_by_hand(whole, net, data):
    maps = [torch.ones(1, 1, 2, 2) * 3, torch.tensor([[[[0.0, 8.0]]]])]
    np.testing.assert_allclose(embed(maps), [[0.6, 0.8]], rtol=1e-6)
    assert torch.equal(embed([torch.zeros(2, 3, 4, 4)]), torch.zeros(2, 3)), 'no division by zero'
    np.testing.assert_allclose(np.linalg.norm(whole.embedding, axis=1), 1, rtol=1e-5)
    assert whole.embedding.shape[1] == sum(
        net.encoder.out_channels
    ), 'all six maps, the image included'


def test_training_mode_depends_on_batch_and_seed(net, data, whole):
    a = embed_training_mode(net, data, range(6), 3, seed=1)
    np.testing.assert_array_equal(a, embed_training_mode(net, data, range(6), 3, seed=1))
    assert (
        np.abs(a - whole.embedding[:6]).max() > 0.01
        and np.abs(a - embed_training_mode(net, data, range(6), 6, seed=1)).max() > 1e-3
    )
    np.testing.assert_allclose(np.linalg.norm(a, axis=1), 1, rtol=1e-5)


def test_the_encoder_alone_gives_the_same_embeddings(whole, net, data):
    np.testing.assert_array_equal(
        embeddings(net, data, range(7), precision='fp32'),
        score(net, data, range(7), embedding=True, precision='fp32').embedding,
    )
    assert len(embeddings(net, data, [])) == 0

    class Bad(torch.nn.Module):
        encoder = staticmethod(lambda x: [x * float('nan')])

    with pytest.raises(FloatingPointError, match='diverged'):
        embeddings(Bad(), data, [0], precision='fp32')


def test_embeddings_may_stay_where_the_images_are(net, data):
    a, b = embeddings(net, data, range(5)), embeddings(net, data, range(5), host=False)
    assert isinstance(a, np.ndarray) and torch.is_tensor(b) and np.array_equal(a, b.numpy())
