"`next` in a project without a labelled defect: what looks unlike the rest comes first"

import csv, io, json, shutil

import numpy as np, pytest, quick
from PIL import Image
from starlette.testclient import TestClient

from imbal_al.core import InputError
from imbal_al.live.server import make_app, make_live
from imbal_al.networks import features as F
from imbal_al.project import first_finds as P
from imbal_al.project.annotations import decode_brush
from imbal_al.project.intake import new
from imbal_al.project.labelled import write_label
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
    return new(tmp_path / 'p', tmp_path / 'camera', held_out=0.2, steps=2, **quick.NETWORK)


def names(p, picks):
    return [p.row[pick['id']]['name'] for pick in picks]


def test_anomaly_finds_the_odd_ones_first(parts):
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


def test_a_cold_start_is_anomaly_unless_another_is_asked_for(parts):
    assert next_round(parts, 4, 'entropy', 'cpu').record['start'] == 'anomaly'


def test_core_set_is_taken_at_its_word(parts):
    made = next_round(parts, 4, 'coreset', 'cpu')
    assert 'start' not in made.record
    assert made.picks[0]['why'] == 'cold start: unlike the others'


def test_pictures_that_cannot_be_read_are_passed_over(parts):
    (parts.images / '29.png').write_bytes(b'no picture')
    made = next_round(parts, 38, 'anomaly', 'cpu')
    assert '29.png' not in names(parts, [pick for pick in made.picks if not pick['held_out']])


def test_a_cap_holds_for_anomaly():
    assert P._capped([0, 1, 2, 3, 4], 'aaabb', 4, 1) == [0, 3, 1, 4]
    assert P._capped([0, 1, 2], 'abc', 2, 5) == [0, 1]
    assert P._capped([0, 1], 'ab', 9, 1) == [0, 1]


@pytest.fixture
def cold(parts):
    "A first round by anomaly"
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


@pytest.fixture
def page(parts, cold):
    "The page of a project without a label, its trainer not started"
    return TestClient(make_app(make_live(parts.dir)), base_url='http://127.0.0.1')


def redness(page, id, heat, **more):
    "How much redder than blue each pixel of a picture on the page is; the pictures are grey"
    got = page.get(f'/picture/{id}.png', params=dict(heat=heat, full=1, **more))
    assert got.status_code == 200
    pixels = np.asarray(Image.open(io.BytesIO(got.content))).astype(int)
    return pixels[..., 0] - pixels[..., 2]


def test_before_the_first_label_the_page_shows_where_first_finds_looked(parts, cold, page):
    "The heat of the queue's files above its median, 3/4 of red at the most"
    view = page.get('/api/view').json()
    assert view['version'] == '' and view['labelled'] == 0
    assert {one['id'] for one in view['queue']} == {pick['id'] for pick in cold.picks}
    assert {one['hot'] for one in view['queue'] if one['held_out']} == {False}
    hot = [one['id'] for one in view['queue'] if one['hot']]
    assert len(hot) == len(heats(cold)) > 4
    for id in hot:
        [path] = (cold.queue / 'heat').glob(f'*{id}.png')
        heat = np.asarray(Image.open(path)) / 255
        out = np.clip((heat - np.median(heat)) / (heat.max() - np.median(heat)), 0, 1)
        expected = 0.75 * out * heat.max() * (228 - 30)
        assert expected.max() > 100
        assert np.abs(redness(page, id, 1) - expected).max() < 3
        assert not redness(page, id, 0).any()


def test_what_is_tested_on_has_no_heat_on_the_page(parts, cold, page):
    tests = [pick['id'] for pick in cold.picks if pick['held_out']]
    assert tests
    for id in tests:
        assert not redness(page, id, 1).any()


def test_a_core_set_queue_has_no_heat(parts):
    made = next_round(parts, 10, 'coreset', 'cpu')
    page = TestClient(make_app(make_live(parts.dir)), base_url='http://127.0.0.1')
    view = page.get('/api/view').json()
    assert [one['hot'] for one in view['queue']] == [False] * len(made.picks)
    for pick in made.picks:
        assert not redness(page, pick['id'], 1).any()


def test_once_there_is_a_network_its_heat_is_shown(parts, cold, page):
    "Units of the cold queue that are still out, too"
    ours = [pick['id'] for pick in cold.picks if not pick['held_out']]
    spot = np.zeros((64, 64), np.uint8)
    spot[20:28, 30:38] = 1
    for i, id in enumerate(ours[:4]):
        write_label(parts, id, spot * (i < 2), 'x', '2026-01-01T00:00:00Z')
    before = redness(page, ours[4], 1)
    next_round(parts, 4, 'random', 'cpu')
    view = page.get('/api/view').json()
    assert view['version'] == 'round 2'
    assert {one['hot'] for one in view['queue']} == {True, False}
    assert (redness(page, ours[4], 1) != before).any()
