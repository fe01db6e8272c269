"What only a GPU can show. Skipped without one; `python -m pytest tests/test_cuda.py` on a machine with one"

import numpy as np
import pytest
import torch

from imbal_al.networks import device
from imbal_al.studies import simulation
from imbal_al.runs import folder
from imbal_al.networks.device import DeviceData
from imbal_al.networks.learner import fit, make_learner
from imbal_al.networks.scoring import embeddings, score
from imbal_al.strategies.diversity import k_center_greedy
from imbal_al.data.synthetic import image
from imbal_al.losses.registry import LOSSES, OnTwoChannels, make_loss
from imbal_al.networks.uncertainty import measure
from fastai.callback.core import Callback

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')


@pytest.fixture(scope='module')
def patches():
    ims = [image('steel', i, 64, faulty=i % 2 == 0, defect_ratio=0.1) for i in range(48)]
    return np.stack([o[0] for o in ims])[..., None], np.stack([o[1] for o in ims])


@pytest.fixture(scope='module')
def data(patches):
    return DeviceData(*patches, 'cuda')


def trained(data, precision='fp32', **kw):
    l = make_learner(
        data,
        range(len(data)),
        lr=2e-3,
        bs=16,
        steps=8,
        seed=3,
        precision=dict(train=precision, eval=precision),
        **kw,
    )
    return fit(l, 'cosine'), [float(o) for o in l.recorder.losses]


class Silent(Callback):
    "From the third step on, waiting for the GPU is an error"

    order = 1000

    def before_batch(self):
        if self.iter == 2:
            torch.cuda.set_sync_debug_mode('error')

    def after_train(self):
        torch.cuda.set_sync_debug_mode('default')

    def after_cancel_train(self):
        torch.cuda.set_sync_debug_mode('default')


@pytest.mark.parametrize('precision', ['fp32', 'bf16', 'fp16'])
def test_no_step_waits_for_the_gpu(data, precision):
    try:
        trained(data, precision, cbs=[Silent()])
    finally:
        torch.cuda.set_sync_debug_mode('default')


def test_the_check_above_sees_a_wait(data):
    class Wait(Callback):
        def after_batch(self):
            float(self.learn.loss)

    with pytest.raises(RuntimeError, match='synchroniz'):
        try:
            trained(data, cbs=[Silent(), Wait()])
        finally:
            torch.cuda.set_sync_debug_mode('default')


@pytest.mark.parametrize('precision', ['fp32', 'bf16', 'fp16'])
def test_same_seed_same_weights(data, precision):
    a, b = (trained(data, precision) for _ in range(2))
    assert a[1] == b[1] and all(
        torch.equal(x, y) for x, y in zip(a[0].state_dict().values(), b[0].state_dict().values())
    )


def test_recorded_passes_change_nothing(data, monkeypatch):
    "Losses and weights of a training with CUDA graphs are those without, and the network forgets the graphs"
    net, losses = trained(data)
    assert 'forward' not in net.__dict__
    monkeypatch.setattr(device.Graphed, 'before_batch', lambda self: None)
    plain = trained(data)
    assert losses == pytest.approx(plain[1], rel=1e-3)
    for a, b in zip(net.state_dict().values(), plain[0].state_dict().values()):
        np.testing.assert_allclose(a.cpu(), b.cpu(), atol=1e-2)


def test_trains_as_the_cpu_does(data, patches):
    "Two steps of the same batches and weights, nothing dropped at random; rounding differs"
    tf32 = torch.backends.cudnn.allow_tf32

    def losses(d):
        l = make_learner(
            d,
            range(len(d)),
            lr=2e-3,
            bs=16,
            steps=2,
            seed=3,
            precision=dict(train='fp32', eval='fp32'),
        )
        for m in l.model.modules():
            if isinstance(m, torch.nn.modules.dropout._DropoutNd):
                m.p = 0
        fit(l, 'flat')
        return [float(o) for o in l.recorder.losses]

    try:
        torch.backends.cudnn.allow_tf32 = False
        a, b = losses(data), losses(DeviceData(*patches))
    finally:
        torch.backends.cudnn.allow_tf32 = tf32
    assert a == pytest.approx(b, rel=0.02)


def test_scores_are_those_of_the_cpu(data, patches):
    tf32 = torch.backends.cudnn.allow_tf32
    net = trained(data)[0]
    try:
        torch.backends.cudnn.allow_tf32 = False
        a = score(net, data, range(48), True, True, precision='fp32')
        e = embeddings(net, data, range(48), precision='fp32')
        more = measure(
            net, data, range(48), ('margin', 'foreground_entropy', 'gradient'), precision='fp32'
        )
    finally:
        torch.backends.cudnn.allow_tf32 = tf32
    cpu = DeviceData(*patches)
    net = net.cpu()
    b = score(net, cpu, range(48), True, True, precision='fp32')
    other = measure(
        net, cpu, range(48), ('margin', 'foreground_entropy', 'gradient'), precision='fp32'
    )
    np.testing.assert_allclose(a.entropy, b.entropy, atol=1e-4)
    np.testing.assert_allclose(a.embedding, b.embedding, atol=1e-4)
    np.testing.assert_allclose(e, a.embedding, atol=1e-5)
    assert (
        np.array_equal(a.hist.sum((1, 2)), b.hist.sum((1, 2)))
        and np.array_equal(a.hist.sum(2), b.hist.sum(2))
        and np.abs(a.hist.astype(int) - b.hist).sum() <= 0.01 * b.hist.sum()
    )
    assert np.abs(a.foreground - b.foreground).max() <= 5
    for k in more:
        np.testing.assert_allclose(more[k], other[k], atol=1e-3)


def test_histogram_is_exact(data):
    from imbal_al.measure.metrics import histogram
    from imbal_al.networks.scoring import _logit_histogram

    g = torch.Generator().manual_seed(0)
    z = 4 * torch.randn(6, 33, 47, generator=g)
    y = (torch.rand(6, 33, 47, generator=g) < 0.2).to(torch.uint8)
    assert np.array_equal(
        _logit_histogram(z.cuda(), y.cuda()).cpu().numpy(),
        histogram(z.numpy(), y.numpy(), logits=True),
    )


def points(kind):
    g = np.random.default_rng(5)
    x = g.normal(size=(3000, 16)).astype(np.float32)
    if kind == 'clustered':
        x = x * 0.01 + g.normal(size=(20, 16)).astype(np.float32)[g.integers(0, 20, 3000)]
    if kind == 'duplicates':
        x = x[g.integers(0, 60, 3000)]
    if kind == 'plane':
        x = x[:, :2].copy()
    if kind == 'far':
        x = x + 1000
    return x


@pytest.mark.parametrize('kind', ['random', 'clustered', 'duplicates', 'plane', 'far'])
@pytest.mark.parametrize('labelled', [0, 40])
def test_k_center_picks_are_those_of_the_cpu(kind, labelled):
    x = points(kind)
    l = np.arange(labelled)
    assert np.array_equal(
        k_center_greedy(torch.from_numpy(x).cuda(), 50, l), k_center_greedy(x, 50, l)
    )


@pytest.mark.parametrize('name', sorted(LOSSES))
def test_losses_and_gradients_are_those_of_the_cpu(name):
    g = torch.Generator().manual_seed(1)
    z = 3 * torch.randn(4, 2, 24, 24, generator=g)
    y = (torch.rand(4, 24, 24, generator=g) < 0.1).long()

    def both(device):
        a = z.to(device).requires_grad_()
        v = OnTwoChannels(make_loss(name))(a, y.to(device))
        v.backward()
        return float(v.detach()), a.grad.cpu().numpy()

    (a, ga), (b, gb) = both('cuda'), both('cpu')
    assert a == pytest.approx(b, rel=1e-4, abs=1e-6)
    np.testing.assert_allclose(ga, gb, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize('strategy', ['coreset', 'badge', 'bald'])
def test_interrupted_run_goes_on_to_the_same_records(tmp_path, tiny, monkeypatch, strategy):
    from dataclasses import replace

    c = replace(tiny, strategy=strategy, cycles=3, batch=6)
    whole = simulation.run(c, tmp_path / 'a', 'cuda')
    real = simulation.run_cycle
    simulation.workspace.cache_clear()

    def once(c, j, *a, **kw):
        if j == 2:
            raise KeyboardInterrupt
        return real(c, j, *a, **kw)

    monkeypatch.setattr(simulation, 'run_cycle', once)
    with pytest.raises(KeyboardInterrupt):
        simulation.run(c, tmp_path / 'b', 'cuda', trainings=simulation.Trainings())
    monkeypatch.setattr(simulation, 'run_cycle', real)
    again = simulation.run(c, tmp_path / 'b', 'cuda', trainings=simulation.Trainings())
    drop = lambda r: [{k: v for k, v in o.items() if k != 'commit'} for o in r['rows']]
    assert drop(whole) == drop(again)
    for j in (1, 2, 3):
        a, b = (
            folder.read_record(simulation.cycle_path(tmp_path / o / c.hash, j)) for o in 'ab'
        )
        assert all(np.array_equal(a[k], b[k]) for k in a if k not in ('seconds', 'phases'))


def test_workers_share_a_gpu(tmp_path, tiny):
    from dataclasses import replace
    from imbal_al.studies.learning_study import run_study

    cs = [replace(tiny, repeat=r) for r in range(2)]
    rows = []
    for workers in (1, 2):
        assert run_study(tmp_path / str(workers), cs, workers, 'cuda') == []
        rows.append(
            [
                {k: v for k, v in o.items() if k != 'commit'}
                for c in cs
                for o in folder.read_result(tmp_path / str(workers) / 'runs' / c.hash)['rows']
            ]
        )
    assert rows[0] == rows[1]
