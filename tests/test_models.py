"imbal_al.models: one factory, with weights that are there"
import os, subprocess, sys

import pytest
import torch

from imbal_al.core import InputError
from imbal_al.models import *


@pytest.fixture(scope='module')
def lite0(): return create_model().eval()


@pytest.mark.parametrize('arch', ARCHS)
def test_every_network_keeps_the_size(arch):
    torch.manual_seed(0); m = create_model(arch, weights=None, classes=1).eval()
    with torch.inference_mode(): assert m(torch.zeros(1,3,64,96)).shape==(1,1,64,96)


def test_channels():
    m = create_model(weights=None, in_channels=1, classes=2).eval()
    with torch.inference_mode(): assert m(torch.zeros(1,1,32,32)).shape==(1,2,32,32)
    with pytest.raises(InputError, match='3 channels, not 1'): create_model(in_channels=1)


def test_imagenet_weights_are_in_the_encoder_and_nowhere_else(lite0):
    w = lite0_state_dict(); own = lite0.encoder.state_dict()
    got = {k for k in own if k.removeprefix('model.') in w}
    assert got==set(own) and len(own)>200
    for k,v in own.items(): assert torch.equal(v, w[k.removeprefix('model.')])
    assert {k for k in w if f'model.{k}' not in own}=={f'{o}.{p}' for o,ps in dict(conv_head=['weight'], bn2=['weight','bias','running_mean','running_var','num_batches_tracked'], classifier=['weight','bias']).items() for p in ps}


def test_the_random_part_follows_torch_s_seed():
    make = lambda s: (torch.manual_seed(s), create_model())[1].state_dict()
    a, b, c = make(0), make(0), make(1)
    assert all(torch.equal(a[k],b[k]) for k in a)
    differ = {k.split('.')[0] for k in a if not torch.equal(a[k],c[k])}
    assert differ=={'decoder','segmentation_head'}


def test_training_step_changes_all_weights(lite0):
    m = create_model(); m.train(); m(torch.rand(4,3,64,64)).square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in m.parameters() if p.requires_grad)


def test_normalisation():
    assert encoder_stats('lite0')==HALF and encoder_stats('efficientnet-b3')==IMAGENET


@pytest.mark.parametrize('kw,match', [(dict(arch='fnp'),'fpn, unet'), (dict(encoder='efficientnet-b33'),'efficientnet-b33'), (dict(encoder='resnet18',weights='imagenot'),'imagenot')])
def test_unknown_names(kw, match):
    with pytest.raises(InputError, match=match) as e: create_model(**{'weights':None, **kw})
    assert '\n' not in str(e.value)


def test_weights_that_cannot_be_fetched(tmp_path):
    "Offline, an encoder whose weights are not installed is refused in one line"
    code = "from imbal_al.models import *; from imbal_al.core import InputError\ntry: create_model(encoder='resnet18')\nexcept InputError as e: print(e)"
    env = dict(os.environ, HF_HUB_OFFLINE='1', HF_HOME=str(tmp_path), TORCH_HOME=str(tmp_path))
    out = subprocess.run([sys.executable,'-c',code], env=env, capture_output=True, text=True).stdout.strip().split('\n')
    assert len(out)==1 and "'resnet18'" in out[0] and 'lite0' in out[0]
