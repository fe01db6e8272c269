"""A project whose network is the mean of several light decoders"""

import numpy as np
import pytest
from PIL import Image

from imbal_al.core import InputError
from imbal_al.data.synthetic import image
from imbal_al.networks.frozen import SideBySide
from imbal_al.networks.predict import network
from imbal_al.project.changes import change
from imbal_al.project.deploy import export
from imbal_al.project.intake import new
from imbal_al.project.labelled import write_label
from imbal_al.project.network import _training_windows, read_model, train, write_model
from imbal_al.project.rounds import next_round
from imbal_al.project.store import open_project


@pytest.fixture
def three(tmp_path):
    "A labelled project of sixteen pictures with three decoders"
    (tmp_path / 'i').mkdir()
    truth = {}
    for i in range(16):
        pixels, truth[f'{i:02d}.png'] = image('steel', i, (32, 40), faulty=i % 2 == 0)
        Image.fromarray(pixels).save(tmp_path / 'i' / f'{i:02d}.png')
    how = dict(window=32, overlap=0, steps=2, bs=4, held_out=0.5, seed=1, train='frozen', members=3)
    p = new(tmp_path / 'p', tmp_path / 'i', **how)
    for id in p.units.id:
        write_label(p, id, truth[p.row[id]['name']])
    return p


def test_it_is_trained_kept_read_and_exported(three, tmp_path):
    done = next_round(three, 0, device='cpu')
    net = read_model(three, done.folder / 'model.pt')
    assert isinstance(net.decoder, SideBySide) and len(net.decoder.each) == 3
    made = export(three, tmp_path / 'm.onnx', prevalence=0.1)
    assert made.far < 1e-3 and made.meta['members'] == 3
    assert 'the mean of 3 light decoders on frozen features of lite0' in made.card.read_text()


def test_its_logits_are_the_mean_of_the_members_and_come_back_from_the_file(three, tmp_path):
    labelled = [(id, 1) for id in three.units.id]
    told = []
    net = train(three, labelled, seed=0, tell=lambda *steps: told.append(steps))
    assert told == [(i + 1, 6) for i in range(6)], 'one bar for all members'
    write_model(tmp_path / 'model.pt', net)
    again = read_model(three, tmp_path / 'model.pt')
    images = _training_windows(three, labelled)[0][:4]  # A gigabyte for all sixteen

    def logits(one):
        return network(one, precision='fp32')(images)[0]

    assert (logits(net) == logits(again)).all()
    head = net.segmentation_head[0]
    weight, bias = head.weight.data.clone(), head.bias.data.clone()
    apart = []
    for i in range(3):
        head.weight.data.zero_()
        head.weight.data[:, 32 * i : 32 * (i + 1)] = 3 * weight[:, 32 * i : 32 * (i + 1)]
        apart.append(logits(net))
    head.weight.data, head.bias.data = weight, bias
    np.testing.assert_allclose(np.mean(apart, 0), logits(net), atol=1e-4)
    assert np.std(apart, 0).max() > 1e-3


def test_it_is_changed_later_and_refused_beside_fine_tuning(three):
    next_round(three, 0, device='cpu')
    assert change(three, members=1)
    p = open_project(three.dir)
    assert p.settings.members == 1
    with pytest.raises(InputError, match="give members = 1, or train = 'frozen'"):
        change(p, members=2, train='fine-tune')
    with pytest.raises(InputError, match='members = 0; give a whole number above 0'):
        change(p, members=0)
    assert open_project(three.dir).settings.members == 1
