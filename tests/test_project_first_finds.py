"`next` in a project without a labelled defect: what looks unlike the rest comes first"

import csv, json, shutil

import numpy as np, pytest
from PIL import Image

from imbal_al.core import InputError
from imbal_al.networks import features as F
from imbal_al.project import first_finds as P
from imbal_al.project.annotations import decode_brush
from imbal_al.project.intake import new
from imbal_al.project.rounds import next_round
from imbal_al.project.taken import ingest
from imbal_al.project.state import unlabelled_units


@pytest.fixture
def parts(tmp_path):
    "Forty pictures of one texture; two have a dark spot"
    rng = np.random.default_rng(0)
    (tmp_path / 'camera').mkdir()
    for i in range(40):
        pixels = rng.normal(120, 6, (64, 64))
        if i in (11, 29):
            pixels[20:28, 30:38] = 10
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / 'camera' / f'{i:02}.png')
    return new(tmp_path / 'p', tmp_path / 'camera', held_out=0.2)


def names(p, picks):
    return [p.row[pick['id']]['name'] for pick in picks]


def test_anomaly_finds_the_odd_ones_first(parts, monkeypatch):
    monkeypatch.setattr(P, 'dinov2_file', lambda: None)
    said, pool = [], unlabelled_units(parts)[0]
    made = next_round(parts, 10, 'anomaly', 'cpu', say=said.append)
    ours = [pick for pick in made.picks if not pick['held_out']]
    first = names(parts, ours)
    odd = {parts.row[id]['name'] for id in pool} & {'11.png', '29.png'}
    assert odd and odd <= set(first[:3]), first
    assert ours[0]['why'].startswith('anomaly: ') and ' sd beside pictures like it' in ours[0]['why']
    assert {pick['why'] for pick in made.picks if pick['held_out']} == {'to test on, at random'}
    assert made.record['start'] == 'anomaly' and any('features (lite0)' in line for line in said)
    assert F.read_features(parts.dir / 'features' / 'lite0') is not None
    again = next_round(parts, 10, 'anomaly', 'cpu')
    assert again.picks == made.picks and not again.fresh


def test_without_dinov2_a_cold_start_is_core_set_as_before(parts, monkeypatch):
    monkeypatch.setattr(P, 'dinov2_file', lambda: None)
    made = next_round(parts, 4, 'entropy', 'cpu')
    assert 'start' not in made.record
    assert made.picks[0]['why'] == 'cold start: unlike the others'


def test_with_dinov2_a_cold_start_is_anomaly(parts, monkeypatch):
    monkeypatch.setattr(P, 'dinov2_file', lambda: 'there')
    monkeypatch.setitem(F.ENCODERS, 'dinov2', F._Lite0)
    assert P.cold_strategy('entropy') == 'anomaly'
    assert next_round(parts, 4, 'entropy', 'cpu').record['start'] == 'anomaly'


def test_a_damaged_dinov2_file_is_said_and_core_set_taken(monkeypatch, caplog):
    def damaged():
        raise InputError('x.onnx has the SHA-256 0000')

    monkeypatch.setattr(P, 'dinov2_file', damaged)
    assert P.cold_strategy('entropy') == 'coreset'
    assert 'x.onnx has the SHA-256' in caplog.text


def test_pictures_that_cannot_be_read_are_passed_over(parts, monkeypatch):
    monkeypatch.setattr(P, 'dinov2_file', lambda: None)
    (parts.images / '29.png').write_bytes(b'no picture')
    made = next_round(parts, 38, 'anomaly', 'cpu')
    assert '29.png' not in names(parts, [pick for pick in made.picks if not pick['held_out']])


def test_a_cap_holds_for_anomaly():
    assert P._capped([0, 1, 2, 3, 4], 'aaabb', 4, 1) == [0, 3, 1, 4]
    assert P._capped([0, 1, 2], 'abc', 2, 5) == [0, 1]
    assert P._capped([0, 1], 'ab', 9, 1) == [0, 1]


@pytest.fixture
def cold(parts, monkeypatch):
    "A first round by anomaly"
    monkeypatch.setattr(P, 'dinov2_file', lambda: None)
    return next_round(parts, 10, 'anomaly', 'cpu')


def heats(made):
    return {path.name: path.read_bytes() for path in sorted((made.queue / 'heat').iterdir())}


def tasks_of(made):
    tasks = json.loads((made.queue / 'labelstudio.json').read_text())
    return {task['data']['id']: task for task in tasks}


def test_a_cold_queue_shows_where_a_unit_is_unlike_the_rest(parts, cold):
    "The dark spot at rows 20 to 28 and columns 30 to 38 is what map and pre-annotation mark"
    named = {pick['id']: parts.row[pick['id']]['name'] for pick in cold.picks}
    ours = [pick['id'] for pick in cold.picks if not pick['held_out']]
    odd = [id for id in ours if named[id] in ('11.png', '29.png')]
    assert odd and len(heats(cold)) == len(ours)
    for id in odd:
        [path] = (cold.queue / 'heat').glob(f'*{id}.png')
        heat = np.asarray(Image.open(path)).astype(float)
        y, x = np.unravel_index(heat.argmax(), heat.shape)
        assert heat.shape == (64, 64) and 14 <= y <= 34 and 24 <= x <= 44
        [prediction] = tasks_of(cold)[id]['predictions']
        mask = decode_brush(prediction['result'][0]['value']['rle'], (64, 64)) > 0
        assert prediction['model_version'] == 'anomaly' and mask[24, 34] and mask.mean() < 0.25
        assert (mask == (heat >= 0.75 * heat.max())).mean() > 0.99  # But for the picture's rounding


def test_held_out_units_and_files_that_are_labels_hold_no_heat(cold):
    for pick in cold.picks:
        assert ('predictions' in tasks_of(cold)[pick['id']]) == (not pick['held_out'])
    assert not (cold.queue / 'predictions').exists()
    assert '<mask' not in (cold.queue / 'cvat.xml').read_text()
    assert json.loads((cold.queue / 'coco.json').read_text())['annotations'] == []
    with open(cold.queue / 'queue.csv', newline='') as file:
        assert {row['predicted_pixels'] for row in csv.DictReader(file)} == {''}


def test_a_cold_queue_that_was_cut_off_is_written_with_the_same_heat(parts, cold):
    before, tasks = heats(cold), tasks_of(cold)
    shutil.rmtree(cold.queue)
    again = next_round(parts, 10, 'anomaly', 'cpu')
    assert again.picks == cold.picks and heats(again) == before and tasks_of(again) == tasks


def test_without_kept_maps_the_queue_is_as_by_core_set(parts, cold):
    "A damaged file, or a round from before maps were kept"
    shutil.rmtree(cold.queue)
    (cold.folder / 'novelty.npz').write_bytes(b'no maps')
    again = next_round(parts, 10, 'anomaly', 'cpu')
    assert not (again.queue / 'heat').exists()
    assert not any('predictions' in task for task in tasks_of(again).values())


def test_heat_is_no_label(parts, cold):
    with pytest.raises(InputError, match='holds what the model predicted'):
        ingest(parts, cold.queue / 'heat')
