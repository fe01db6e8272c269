"""A project that trains on frozen features goes every way that any other goes"""

import numpy as np
import pytest
import torch
from PIL import Image

from imbal_al.core import InputError, read_json
from imbal_al.data.synthetic import image
from imbal_al.networks import features
from imbal_al.networks.features import read_features
from imbal_al.networks.predict import network
from imbal_al.project.changes import change
from imbal_al.project.deploy import export
from imbal_al.project.intake import new
from imbal_al.project.labelled import write_label
from imbal_al.project import network as room
from imbal_al.project.heldout_records import heldout_hist
from imbal_al.project.network import (
    cold_model, read_model, score_pool, score_units, train, write_model
)
from imbal_al.project.predictor import open_model
from imbal_al.project.rounds import next_round
from imbal_al.project.store import open_project
from imbal_al.runs.folder import read_record, write_record


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


@pytest.fixture
def encoded(monkeypatch):
    "How many windows were encoded for the pool, batch by batch"
    from imbal_al.networks import feature_cache

    counts, honest = [], feature_cache.encode

    def counted(windows, encoder):
        counts.append(len(windows))
        return honest(windows, encoder)

    monkeypatch.setattr(feature_cache, 'encode', counted)
    return counts


def pool_of(p, net, folder, embedding=False, said=None):
    folder.mkdir(exist_ok=True)
    tell = said.append if said is not None else lambda line: None
    return score_pool(p, net, list(p.units.id), folder, 'cpu', embedding, tell)


def test_a_pool_is_encoded_once_and_scored_as_from_pixels(project, tmp_path, encoded, monkeypatch):
    monkeypatch.setattr('imbal_al.networks.device._is_fast', lambda name: False)  # fp32 on every processor
    p = project
    first = train(p, [(id, 1) for id in p.units.id], seed=0)
    a = pool_of(p, first, tmp_path / 'a', embedding=True)
    assert sum(encoded) == 8
    plain, _ = score_units(p, first, list(p.units.id), embedding=True)
    np.testing.assert_allclose(a['entropy'], plain['entropy'], rtol=0.02, atol=1e-4)
    np.testing.assert_allclose(a['embedding'], plain['embedding'], atol=2e-3)
    assert a['ids'].tolist() == plain['ids'].tolist()
    second = train(p, [(id, 1) for id in p.units.id], seed=1)
    b = pool_of(p, second, tmp_path / 'b')
    assert sum(encoded) == 8, 'another decoder, the same features'
    assert np.abs(b['entropy'] - a['entropy']).max() > 1e-3
    plain, _ = score_units(p, second, list(p.units.id))
    np.testing.assert_allclose(b['entropy'], plain['entropy'], rtol=0.02, atol=1e-4)
    assert read_json(tmp_path / 'b/looked.json')['way']['library'] == 'kept features'


def test_an_exchanged_picture_is_encoded_anew(project, tmp_path, encoded):
    p = project
    net = cold_model(p)
    a = pool_of(p, net, tmp_path / 'a')
    name = p.units.image.iloc[0]
    Image.fromarray(image('steel', 99, (64, 64), faulty=True)[0]).save(p.images / name)
    b = pool_of(open_project(p.dir), net, tmp_path / 'b')
    assert sum(encoded) == 16, 'the batch in which it lies'
    assert b['entropy'][0] != a['entropy'][0]
    np.testing.assert_array_equal(b['entropy'][1:], a['entropy'][1:])


def test_killed_while_it_looks_and_gone_on_with_says_the_same(project, tmp_path, monkeypatch):
    "The second file of scores does not come to be, nor the last line of the index"
    p = project
    net = train(p, [(id, 1) for id in p.units.id], seed=0)
    whole = pool_of(p, net, tmp_path / 'a')
    monkeypatch.setattr(room, '_CHUNK', 3)
    for path in (p.dir / 'features/pool_lite0').iterdir():
        path.unlink()
    whole_of_three = pool_of(p, net, tmp_path / 'b')
    np.testing.assert_allclose(whole_of_three['entropy'], whole['entropy'], rtol=1e-4)
    (tmp_path / 'b/scores_001.npz').unlink()
    index = p.dir / 'features/pool_lite0/index.txt'
    index.write_text(index.read_text()[:-2])
    again = pool_of(p, net, tmp_path / 'b')
    np.testing.assert_array_equal(again['entropy'], whole_of_three['entropy'])


def test_what_another_way_began_is_made_anew(project, tmp_path, monkeypatch):
    p, said = project, []
    monkeypatch.setattr(room, '_CHUNK', 3)
    net = cold_model(p)
    a = pool_of(p, net, tmp_path / 'a')
    for about in (None, '{"way": {"library": "onnxruntime", "version": "1", "precision": "fp32"}}'):
        if about:
            (tmp_path / 'a/looked.json').write_text(about)
        else:
            (tmp_path / 'a/looked.json').unlink()
        other = read_record(tmp_path / 'a/scores_000.npz')
        write_record(tmp_path / 'a/scores_000.npz', other | dict(entropy=other['entropy'] + 1))
        (tmp_path / 'a/scores_002.npz').unlink()
        b = pool_of(p, net, tmp_path / 'a', said=said)
        np.testing.assert_array_equal(b['entropy'], a['entropy'])
        assert said[0] == 'what was looked at in another way is looked at anew'
        said.clear()


def test_no_room_for_features_costs_a_line_and_nothing_else(project, tmp_path, monkeypatch, encoded):
    p, said = project, []
    net = cold_model(p)
    a = pool_of(p, net, tmp_path / 'a')
    monkeypatch.setenv('IMBAL_AL_FEATURES_GB', '0.0005')
    for path in (p.dir / 'features/pool_lite0').iterdir():
        path.unlink()
    b = pool_of(p, net, tmp_path / 'b', said=said)
    np.testing.assert_array_equal(b['entropy'], a['entropy'])
    assert sum('IMBAL_AL_FEATURES_GB' in line for line in said) == 1
    assert sum(encoded) == 16


class Patches(torch.nn.Module):
    "In the place of DINOv2, whose weights are not on every machine: a fixed look at each patch of 14 pixels"

    step, origin = 14, 'made up'

    def __init__(self, size):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.look = torch.nn.Conv2d(3, 384, 14, 14)

    def forward(self, x):
        tokens = self.look(x).permute(0, 2, 3, 1)
        return tokens, tokens.mean((1, 2))


@pytest.mark.slow
def test_two_encoders_have_a_decoder_each_from_the_first_round_to_the_exported_file(
    project, tmp_path, monkeypatch
):
    monkeypatch.setattr(features, '_DinoV2', Patches)
    change(project, encoder='dinov2+lite0')
    p = open_project(project.dir)
    told = []
    net = train(p, [(id, 1) for id in p.units.id], seed=0, tell=lambda *steps: told.append(steps))
    assert told[-1] == (8, 8), 'four steps for each encoder'
    assert [one.part for one in net.decoder.each] == [(0, 384), (384, 496)]
    kept = read_features(p.dir / 'features/labelled_dinov2+lite0', net.seen.key)
    assert kept.tokens.shape == (8, 16, 16, 384 + 656)
    made = next_round(p, budget=0)
    seen = pool_of(p, read_model(p, made.folder / 'model.pt'), tmp_path / 'pool', embedding=True)
    plain, _ = score_units(p, read_model(p, made.folder / 'model.pt'), list(p.units.id), embedding=True)
    np.testing.assert_allclose(seen['entropy'], plain['entropy'], rtol=0.02, atol=1e-3)
    out = export(p, tmp_path / 'model.onnx')
    assert out.meta['members'] == 2 and 'made up; and ImageNet' in out.meta['encoder_from']
    card = out.card.read_text(encoding='utf-8')
    assert 'the mean of 2 light decoders on frozen features of dinov2+lite0' in card
    picture = p.read(p.row[p.units.id[0]])
    z = next(open_model(out.path).logits([picture]))
    run = network(read_model(p, made.folder / 'model.pt'), p.settings.encoder, 3, precision='fp32')
    own, _ = run(picture[None, ..., None])
    assert np.abs(z - own[0]).max() < 1e-3 * max(1, np.abs(z).max())
    change(p, encoder='lite0')
    p = open_project(p.dir)
    assert read_model(p, made.folder / 'model.pt') is None, 'of other encoders'
    with pytest.raises(InputError, match='no model that was trained with its settings of now'):
        export(p, tmp_path / 'model.onnx')


def test_two_encoders_are_for_frozen_features_only(project):
    with pytest.raises(InputError, match="goes with train = 'frozen' only"):
        change(project, train='fine-tune', encoder='dinov2+lite0')
