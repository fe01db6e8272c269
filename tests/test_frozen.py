"""A project that trains on frozen features goes every way that any other goes"""

import numpy as np
import pytest
import torch
from PIL import Image

from imbal_al.core import InputError
from imbal_al.data.synthetic import image
from imbal_al.networks.features import read_features
from imbal_al.networks.predict import network
from imbal_al.project.changes import change
from imbal_al.project.deploy import export
from imbal_al.project.intake import new
from imbal_al.project.labelled import write_label
from imbal_al.project.network import cold_model, heldout_hist, read_model, score_units, train, write_model
from imbal_al.project.predictor import open_model
from imbal_al.project.rounds import next_round
from imbal_al.project.store import open_project


@pytest.fixture
def project(tmp_path):
    "Eight small pictures, four with a defect, all labelled"
    (tmp_path / 'images').mkdir()
    pictures = [image('steel', i, (64, 64), faulty=i < 4) for i in range(8)]
    for i, (pixels, _) in enumerate(pictures):
        Image.fromarray(pixels).save(tmp_path / 'images' / f'{i}.png')
    p = new(
        tmp_path / 'p', tmp_path / 'images', window=64, overlap=0, steps=4, bs=4, train='frozen'
    )
    for id, (_, mask) in zip(p.units.id, pictures):
        write_label(p, id, mask)
    return p


def test_train_keep_read_score_and_export(project, tmp_path):
    p = project
    labelled = [(id, 1) for id in p.units.id]
    net = train(p, labelled, seed=0)
    before = {name: value.clone() for name, value in cold_model(p).encoder.state_dict().items()}
    for name, value in net.encoder.state_dict().items():
        assert torch.equal(value, before[name]), f'{name} of the encoder was trained'
    kept = read_features(p.dir / 'features/labelled_lite0', net.seen.key)
    assert kept.tokens.shape == (8, 14, 14, 656)
    path = p.dir / 'rounds/001/model.pt'
    path.parent.mkdir(parents=True)
    write_model(path, net)
    assert path.stat().st_size < 1_000_000, 'the frozen weights do not belong into the file'
    picture = p.read(p.row[p.units.id[0]])[None, ..., None]
    again, same = (network(one, precision='fp32')(picture)[0] for one in (read_model(p, path), net))
    assert np.abs(again - same).max() < 1e-4
    seen, lines = score_units(p, net, list(p.units.id), embedding=True)
    assert not lines and seen['embedding'].shape == (8, 3 + 24 + 40 + 112)
    assert heldout_hist(p, path.parent, list(p.units.id))[1].sum() == 8 * 64 * 64


@pytest.mark.slow
def test_a_round_is_exported_and_its_file_agrees(project, tmp_path):
    p = project
    made = next_round(p, budget=0)
    assert made.record['train']
    out = export(p, tmp_path / 'model.onnx')
    assert out.meta['train'] == 'frozen' and 'efficientnet-lite0' in out.meta['encoder_from']
    assert 'light decoder on frozen features of lite0' in out.card.read_text(encoding='utf-8')
    picture = p.read(p.row[p.units.id[0]])
    z = next(open_model(out.path).logits([picture]))
    net = read_model(p, made.folder / 'model.pt')
    own, _ = network(net, precision='fp32')(picture[None, ..., None])
    assert np.abs(z - own[0]).max() < 1e-3 * max(1, np.abs(z).max())


def test_another_way_trains_anew_and_never_mixes(project, capsys):
    p = project
    first = next_round(p, budget=0)
    change(p, train='fine-tune')
    p = open_project(p.dir)
    assert read_model(p, first.folder / 'model.pt') is None
    assert next_round(p, budget=0).number == 2
    with pytest.raises(InputError, match="unknown encoder to freeze 'resnet18'; .*lite0"):
        change(p, train='frozen', encoder='resnet18')
    with pytest.raises(InputError, match="unknown way to train 'freeze'"):
        change(p, train='freeze')
