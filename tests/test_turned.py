"Labels of photographs that a camera turned: of the pixels as stored, or as shown; asked where both fit; told once"

import io, json, zipfile

import numpy as np, pytest
from PIL import Image

from imbal_al.core import read_json
from imbal_al.project.labelled import labels, read_mask
from imbal_al.project.store import open_project
from test_cases import drawn, ingest, project
from test_mask_pictures import TURNS, photograph
from test_pictures import run

POINTS = [(2.0, 3.0), (12.0, 3.0), (12.0, 9.0), (2.0, 9.0)]
STORED = {name: np.zeros(shape, bool) for name, shape in dict(wide=(32, 48), square=(32, 32)).items()}
for one in STORED.values():
    one[3:9, 2:12] = True
FORMS = ['coco', 'cvat', 'yolo', 'voc']


def export(path, form, size, points=POINTS):
    "A rectangle on a picture of (width, height)"
    if form != 'voc':
        return drawn(path, form, points, size, 'a.jpg')
    mask = np.zeros(size[::-1], np.uint8)
    (left, top), (right, bottom) = np.array(points[0], int), np.array(points[2], int)
    mask[top:bottom, left:right] = 255
    out = io.BytesIO()
    Image.fromarray(mask).save(out, 'png')
    path.mkdir(exist_ok=True)
    with zipfile.ZipFile(path / 'v.zip', 'w') as z:
        z.writestr('SegmentationClass/a.png', out.getvalue())
    return path / 'v.zip'


def camera(tmp_path, shape, turn, *words):
    "A project of one photograph"
    (tmp_path / 'camera').mkdir()
    photograph(tmp_path / 'camera/a.jpg', shape, turn)
    return project(tmp_path, *words)[0]


def label(p):
    found = open_project(p)
    (id,) = labels(found)['id']
    return read_mask(found, id) > 0


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('name,turn', [('wide', 3), ('square', 3), ('square', 6), ('square', 8)])
def test_asked_where_both_fit_and_both_answers_work(tmp_path, form, name, turn):
    stored = STORED[name]
    p = camera(tmp_path, stored.shape, turn)
    at = export(tmp_path / 'e', form, stored.shape[::-1])
    code, said = ingest(p, at)
    assert code == 1 and f'EXIF orientation {turn}' in said and "'stored'" in said and 'a.' in said
    assert not len(labels(open_project(p)))
    assert ingest(p, at, '--mask-values', 'upright')[0] == 0 and np.array_equal(label(p), stored)
    assert ingest(p, at, '--mask-values', 'stored')[0] == 0
    assert np.array_equal(label(p), TURNS[turn](stored))


@pytest.mark.parametrize('form', ['coco', 'cvat', 'voc'])
@pytest.mark.parametrize('turn', [6, 8])
def test_the_size_decides_where_it_can(tmp_path, form, turn):
    stored = STORED['wide']
    p = camera(tmp_path, stored.shape, turn)
    assert ingest(p, export(tmp_path / 'e', form, (48, 32)))[0] == 0
    assert np.array_equal(label(p), TURNS[turn](stored))
    shown = export(tmp_path / 'f', form, (32, 48))
    assert ingest(p, shown)[0] == 0 and label(p)[3:9, 2:12].all() and label(p).sum() == 60
    code, said = ingest(p, shown, '--mask-values', 'stored')
    assert code == 1 and "leave 'stored' out" in said


@pytest.mark.parametrize('turn', [3, 6])
def test_shares_of_the_sides_fit_both_ways_on_any_picture(tmp_path, turn):
    stored = STORED['wide']
    p = camera(tmp_path, stored.shape, turn)
    at = export(tmp_path / 'e', 'yolo', (48, 32))
    assert ingest(p, at)[0] == 1
    assert ingest(p, at, '--mask-values', 'stored')[0] == 0
    assert np.array_equal(label(p), TURNS[turn](stored))


@pytest.mark.parametrize('form', FORMS)
def test_what_is_the_same_either_way_is_not_asked(tmp_path, form):
    p = camera(tmp_path, (32, 32), 3)
    middle = [(6.0, 10.0), (26.0, 10.0), (26.0, 22.0), (6.0, 22.0)]
    assert ingest(p, export(tmp_path / 'e', form, (32, 32), middle))[0] == 0 and label(p).sum() == 240


@pytest.mark.parametrize('form', ['labelstudio', 'labelme'])
def test_tools_that_show_a_photograph_upright_are_believed(tmp_path, form):
    p = camera(tmp_path, (32, 32), 3)
    assert ingest(p, drawn(tmp_path / 'e', form, POINTS, (32, 32), 'a.jpg'))[0] == 0
    assert np.array_equal(label(p), STORED['square'])


def test_names_of_kinds_stay_on_turned_shapes(tmp_path):
    "A background above a defect is a hole after the turn, too"
    p = camera(tmp_path, (32, 32), 6)
    at = export(tmp_path / 'e', 'coco', (32, 32))
    found = json.loads(at.read_text())
    found['categories'].append(dict(id=2, name='background'))
    hole = [4.0, 5.0, 8.0, 5.0, 8.0, 7.0, 4.0, 7.0]
    found['annotations'].append(dict(id=2, image_id=1, category_id=2, segmentation=[hole]))
    at.write_text(json.dumps(found))
    assert ingest(p, at, '--mask-values', 'stored')[0] == 0
    wanted = STORED['square'].copy()
    wanted[5:7, 4:8] = False
    assert np.array_equal(label(p), TURNS[6](wanted))


@pytest.mark.parametrize('form', ['png', 'coco', 'cvat', 'labelstudio'])
def test_our_own_labels_of_a_turned_photograph_come_back(tmp_path, form):
    p = camera(tmp_path, (32, 32), 6)
    ingest(p, export(tmp_path / 'e', 'coco', (32, 32)), '--mask-values', 'stored')
    before = label(p)
    to = tmp_path / ('out' if form == 'png' else f'out.{"xml" if form == "cvat" else "json"}')
    assert run('project', 'labels', p, to, '--form', form)[0] == 0
    code, said = ingest(p, to, '--mask-values', 'auto')
    assert code == 0 and '1 same' in said and np.array_equal(label(p), before)


def test_the_answer_is_remembered_and_said_and_forgotten(tmp_path):
    p = camera(tmp_path, (32, 32), 3)
    at = export(tmp_path / 'e', 'coco', (32, 32))
    assert ingest(p, at, '--mask-values', 'stored')[0] == 0
    assert read_json(p / 'ingest.json') == dict(mask_values='stored')
    moved = export(tmp_path / 'f', 'coco', (32, 32), [(x + 3, y) for x, y in POINTS])
    code, said = ingest(p, moved)
    assert code == 0 and 'mask values: stored, as given at an earlier ingest' in said
    assert label(p)[23:29, 17:27].all() and label(p).sum() == 60
    assert 'mask values' not in ingest(p, drawn(tmp_path / 'g', 'labelstudio', POINTS, (32, 32), 'a.jpg'))[1]
    code, said = ingest(p, moved, '--mask-values', 'auto')
    assert code == 1 and 'EXIF orientation' in said and not (p / 'ingest.json').exists()
    assert ingest(p, moved)[0] == 1


@pytest.mark.parametrize('text', ['{"mask_values": "blue"}', '{"mask_values": 3}'])
def test_an_odd_memory_is_one_line_and_its_remedy_works(tmp_path, text):
    p = camera(tmp_path, (32, 32), 3)
    (p / 'ingest.json').write_text(text)
    at = export(tmp_path / 'e', 'coco', (32, 32))
    code, said = ingest(p, at)
    assert code == 2 and 'ingest.json' in said and 'give --mask-values' in said and said.count('\n') == 1
    assert ingest(p, at, '--mask-values', 'stored')[0] == 0 and ingest(p, at)[0] == 0


def test_what_brought_no_label_is_not_remembered(tmp_path):
    p = camera(tmp_path, (32, 48), 6)
    assert ingest(p, export(tmp_path / 'e', 'coco', (32, 48)), '--mask-values', 'stored')[0] == 1
    assert not (p / 'ingest.json').exists()
