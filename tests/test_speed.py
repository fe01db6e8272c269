"What is done for speed changes nothing else: layouts, the device's own loss, no waiting, choices that are kept"

from functools import partial

import numpy as np
import pytest
import torch
from fastai.optimizer import OptimWrapper
from hypothesis import given, settings, strategies as st

from imbal_al.core import InputError, read_json
from imbal_al.losses.compound import ComboOnDevice, PaperComboLoss
from imbal_al.networks import learner
from imbal_al.networks.device import cast, DeviceData
from imbal_al.networks.learner import fit, lr_schedule, make_learner, measured_precision
from imbal_al.networks.scoring import score
from imbal_al.studies import simulation
from imbal_al.studies.run_config import RunConfig
from imbal_al.studies.simulation import run
from imbal_al.networks.uncertainty import measure

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture(scope='module')
def data():
    g = np.random.default_rng(0)
    return DeviceData(
        g.integers(0, 256, (8, 32, 32, 1), dtype=np.uint8),
        (g.random((8, 32, 32)) < 0.1).astype(np.uint8),
    )


def formats(net):
    return {
        o.weight.is_contiguous(memory_format=torch.channels_last)
        for o in net.modules()
        if isinstance(o, torch.nn.Conv2d) and o.weight.shape[1] > 1 and o.weight.shape[2] > 1
    }


# --- layout


def test_the_layout_of_a_network_is_that_of_its_precision(data):
    net = make_learner(
        data, range(8), bs=4, steps=1, precision=dict(train='fp32 contiguous', eval='fp32')
    ).model.eval()
    seen = []
    net.encoder.model.conv_stem.register_forward_pre_hook(
        lambda m, i: seen.append(i[0].is_contiguous())
    )
    assert formats(net) == {False}
    a = score(net, data, range(8), True, True, precision='fp32 contiguous')
    assert seen == [True] and formats(net) == {False}
    b = score(net, data, range(8), True, True, precision='fp32')
    assert seen == [True, False] and formats(net) == {True}
    np.testing.assert_allclose(a.entropy, b.entropy, rtol=1e-4)
    np.testing.assert_allclose(a.embedding, b.embedding, atol=1e-5)
    m = measure(net, data, range(8), ['margin'], precision='bf16 contiguous')
    assert seen[2:] == [True] and np.isfinite(m['margin']).all()


def test_channels_last_is_left_as_it_is(data):
    net = make_learner(
        data, range(8), bs=4, steps=1, precision=dict(train='fp32', eval='fp32')
    ).model.eval()
    before = [o.data_ptr() for o in net.parameters()]
    score(net, data, range(2), precision='fp32')
    assert (
        formats(net) == {True}
        and before == [o.data_ptr() for o in net.parameters()]
        and not net.encoder._forward_pre_hooks
    )


def test_training_in_either_layout_is_the_same_but_for_rounding(data):
    nets = [
        fit(
            make_learner(
                data, range(8), bs=8, steps=2, lr=1e-4, precision=dict(train=o, eval='fp32')
            )
        )
        for o in ('fp32', 'fp32 contiguous')
    ]
    a, b = (torch.cat([p.detach().flatten() for p in o.parameters()]) for o in nets)
    assert (a - b).abs().max() < 5e-4 and not torch.equal(a, b)


@pytest.mark.parametrize('name', ['int8', 'contiguous', 'fp32 sideways'])
def test_unknown_layouts_and_precisions(name):
    with pytest.raises(InputError, match='precision'):
        cast(name, 'cpu')


# --- the choice by measurement


def test_the_fastest_of_what_was_measured_is_chosen(data, monkeypatch):
    times = {('train', 'bf16 contiguous'): 1.0, ('eval', 'bf16'): 2.0}
    monkeypatch.setattr(learner, '_step_seconds', lambda m, x, y, *k: times.get(k, 5.0))
    p = measured_precision(data, bs=4, rounds=1)
    assert (
        (p['train'], p['eval']) == ('bf16 contiguous', 'bf16')
        and p['train_fp32 contiguous'] == 5
        and len(p) == 2 + 2 * 4
    )


def test_a_run_keeps_what_it_measured(tmp_path, monkeypatch):
    monkeypatch.setenv('IMBAL_AL_CACHE', str(tmp_path / 'cache'))
    asked = []
    chosen = {'train': 'fp32 contiguous', 'eval': 'bf16', 'train_fp32': 0.02, 'eval_bf16': 0.01}

    def measured(*a):
        asked.append(a[1:])
        return dict(chosen)

    monkeypatch.setattr(learner, 'measured_precision', measured)
    monkeypatch.setattr(simulation, 'measured_precision', measured, raising=False)
    c = RunConfig(
        data='synthetic:60:64',
        pool_size=12,
        test_size=4,
        heldout_size=8,
        validation_size=2,
        batch=4,
        cycles=2,
        steps=1,
        bs=4,
        pi_u=0.5,
        pi_t=(0.5,),
        strategy='coreset',
        precision_by='measured',
    )
    r = run(c, tmp_path)
    d = tmp_path / c.hash
    assert (
        asked == [('fpn', 'lite0', 4)]
        and r['provenance']['precision'] == chosen
        and read_json(d / 'config.json')['precision'] == chosen
    )
    for o in ('result.json', 'cycle_02.npz'):
        (d / o).unlink()
    again = run(c, tmp_path)
    assert (
        len(asked) == 1 and again['rows'] == r['rows']
    ), 'a run that goes on does not measure anew'


def test_a_run_measures_by_itself(tmp_path, monkeypatch):
    monkeypatch.setenv('IMBAL_AL_CACHE', str(tmp_path / 'cache'))
    c = RunConfig(
        data='synthetic:60:64',
        pool_size=12,
        test_size=4,
        heldout_size=8,
        validation_size=2,
        batch=4,
        cycles=1,
        steps=1,
        bs=4,
        pi_u=0.5,
        pi_t=(0.5,),
        precision_by='measured',
    )
    p = run(c, tmp_path)['provenance']['precision']
    for phase in ('train', 'eval'):
        assert p[f'{phase}_{p[phase]}'] == min(v for k, v in p.items() if k.startswith(phase + '_'))


# --- on the device


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0.0, 0.1, 1.0]))
def test_the_device_s_loss_is_the_paper_s(seed, share):
    g = torch.Generator().manual_seed(seed)
    z = (4 * torch.randn(3, 2, 8, 8, generator=g)).requires_grad_()
    y = (torch.rand(3, 8, 8, generator=g) < share).long()
    a, b = PaperComboLoss()(z, y), ComboOnDevice()(z, y)
    torch.testing.assert_close(a.float(), b, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        *(torch.autograd.grad(o, z)[0] for o in (a, b)), rtol=1e-4, atol=1e-7
    )


def test_the_host_waits_for_nothing_while_training():
    "Tensors of the meta device have no values: whatever asks for one raises an error"
    d = DeviceData(np.zeros((12, 32, 48, 1), np.uint8), np.zeros((12, 32, 48), np.uint8), 'meta')
    l = make_learner(
        d,
        range(12),
        weights=None,
        bs=4,
        steps=3,
        epochs=None,
        precision=dict(train='fp32', eval='fp32'),
    )
    l.opt_func = partial(OptimWrapper, opt=torch.optim.Adam)
    with l.no_logging():
        l.fit(1, cbs=lr_schedule('cosine', l.lr))
    assert len(l.recorder.losses) == 3 and all(o.is_meta for o in l.recorder.losses)
    with pytest.raises((RuntimeError, NotImplementedError)):
        l.recorder.losses[0].item()


def test_losses_are_fastai_s(data):
    kw = dict(bs=4, steps=3, epochs=None, precision=dict(train='fp32', eval='fp32'))
    a, b = (make_learner(data, range(8), **kw) for _ in range(2))
    b.recorder.smooth_loss = learner.AvgSmoothLoss()
    for o in (a, b):
        fit(o)
    assert [float(o) for o in a.recorder.losses] == [float(o) for o in b.recorder.losses] and float(
        a.recorder.losses[0]
    ) > 0


def test_compiling_is_asked_for(data, monkeypatch):
    n = []
    monkeypatch.setattr(torch.nn.Module, 'compile', lambda self: n.append(type(self).__name__))
    for o in (False, True):
        make_learner(data, range(8), bs=4, steps=1, compiled=o)
    assert n == ['FPN']
