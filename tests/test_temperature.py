"""A project's network that is too sure of itself"""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import imbal_al.networks.members as members_room
import imbal_al.networks.temperature as temperature_room
import imbal_al.project.network as network_room
from imbal_al.data.synthetic import image
from imbal_al.measure.metrics import histogram
from imbal_al.networks.models import ARCHS, create_model
from imbal_al.networks.predict import network
from imbal_al.networks.temperature import temper
from imbal_al.project.intake import new
from imbal_al.project.labelled import write_label
from imbal_al.project.network import _training_windows, read_model, train, write_model


@pytest.fixture(scope='module')
def labelled_project(tmp_path_factory):
    "(project that trains on frozen features, what is labelled)"
    there = tmp_path_factory.mktemp('sure')
    (there / 'images').mkdir()
    drawn = [image('steel', i, (64, 64), faulty=i < 2) for i in range(4)]
    for i, (pixels, _) in enumerate(drawn):
        Image.fromarray(pixels).save(there / 'images' / f'{i}.png')
    p = new(there / 'p', there / 'images', window=64, overlap=0, bs=4, steps=80, lr=0.03, train='frozen')
    for id, (_, mask) in zip(p.units.id, drawn):
        write_label(p, id, mask)
    return p, [(id, 1) for id in p.units.id]


def logits_of(p, net, labelled):
    "Of the labelled windows, float32"
    images, masks = _training_windows(p, labelled)
    return network(net, precision='fp32')(images)[0], masks


@pytest.fixture(scope='module')
def too_sure(labelled_project):
    "(the network as it is before it is tempered, its surest logit)"
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(members_room, 'temper', lambda net, largest: asked.append(largest))
        net = train(*labelled_project, seed=0)
    return net, asked[0]


def test_order_and_decisions_stay_and_thresholds_are_left(labelled_project, too_sure):
    p, labelled = labelled_project
    plain, largest = too_sure
    net = deepcopy(plain)
    assert temper(net, largest) == largest / 8 > 1.2
    before, masks = logits_of(p, plain, labelled)
    after, _ = logits_of(p, net, labelled)
    assert before.max() == pytest.approx(largest, abs=0.3)
    np.testing.assert_allclose(after, before * (8 / largest), rtol=1e-4, atol=1e-4)
    assert ((after >= 0) == (before >= 0)).all()
    in_last_bin = [histogram(z, masks, logits=True)[:, :, -1].sum() for z in (before, after)]
    assert in_last_bin[0] > 4 * in_last_bin[1]


def test_it_is_read_back_as_it_was_written(labelled_project, too_sure, tmp_path):
    p, labelled = labelled_project
    net, largest = deepcopy(too_sure[0]), too_sure[1]
    temper(net, largest)
    write_model(tmp_path / 'model.pt', net)
    again = read_model(p, tmp_path / 'model.pt')
    assert (logits_of(p, net, labelled)[0] == logits_of(p, again, labelled)[0]).all()


def test_all_weights_trained_are_as_sure_as_they_are_in_use(labelled_project, monkeypatch):
    p, labelled = labelled_project
    tuned = replace(p, settings=replace(p.settings, train='fine-tune', steps=40, lr=0.02))
    seen, told = [], []
    with monkeypatch.context() as patch:
        patch.setattr(network_room, 'temper', lambda net, largest: seen.append(largest))
        plain = train(tuned, labelled, seed=0, tell=lambda *done: told.append(done))
    assert told == [(i + 1, 40) for i in range(40)]
    monkeypatch.setattr(temperature_room, '_TOP', 2.0)
    net = train(tuned, labelled, seed=0)
    before, after = (logits_of(tuned, one, labelled)[0] for one in (plain, net))
    assert 2 < seen[0] < 8
    assert seen[0] == pytest.approx(before.max(), rel=0.1), 'in evaluation mode, without augmentation'
    assert after.max() == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize('arch', ARCHS)
def test_every_architecture(arch):
    net = create_model(arch, 'vgg16' if arch == 'segnet' else 'lite0', None, 2, 3, width=0.25).eval()
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = net(x)
        assert temper(net, 16) == 2
        after = net(x)
    torch.testing.assert_close(after, before / 2, rtol=1e-4, atol=1e-5)
