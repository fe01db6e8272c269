"Twenty inputs more that nobody had tried: what shells, spreadsheets, old tools and hasty hands make of exports"

import json
import os

import numpy as np, pytest
from PIL import Image

from imbal_al.project.store import open_project
from test_cases import drawn, pixels, project
from test_mask_pictures import photograph
from test_pictures import png, run
from test_what_comes_out import photo, table, write_bright


@pytest.fixture
def one(tmp_path):
    "A project of one picture, 0.png of 40 x 32"
    png(tmp_path / 'camera/0.png', 0)
    return project(tmp_path)[0]


SQUARE = [(5.0, 5.0), (15.0, 5.0), (15.0, 15.0), (5.0, 15.0)]


@pytest.mark.parametrize('coding', ['utf-16', 'utf-16-le', 'utf-16-be', 'utf-8-sig'])
def test_an_export_that_a_windows_shell_has_written_anew(one, tmp_path, coding):
    at = drawn(tmp_path / 'e', 'coco', SQUARE)
    mark = {'utf-16-le': b'\xff\xfe', 'utf-16-be': b'\xfe\xff'}.get(coding, b'')
    at.write_bytes(mark + at.read_text().encode(coding))
    assert run('ingest', one, at)[0] == 0 and pixels(one) == {'0.png': 100}


def test_json_lines_are_a_list(tmp_path):
    for i in range(2):
        png(tmp_path / f'camera/{i}.png', i)
    p, _ = project(tmp_path)
    parts = [json.loads(drawn(tmp_path / 'e', 'labelstudio', SQUARE, name=f'{i}.png').read_text()) for i in range(2)]
    at = tmp_path / 'lines.jsonl'
    at.write_text('\n'.join(json.dumps(task) for part in parts for task in part) + '\n\n')
    assert run('ingest', p, at)[0] == 0 and pixels(p) == {'0.png': 100, '1.png': 100}
    at.write_text(at.read_text() + '{')
    code, said = run('ingest', p, at)
    assert code == 2 and 'several JSON texts' in said and said.count('\n') == 1


@pytest.mark.parametrize('text', ['image,label\n0.png,1\n', 'hello', '%PDF-1.4', '', '{"a": 1', '<a>', '[1, 2'])
def test_what_no_tool_has_written_names_no_exception_of_python(one, tmp_path, text):
    (tmp_path / 'e.dat').write_text(text)
    code, said = run('ingest', one, tmp_path / 'e.dat')
    assert code == 2 and said.count('\n') == 1 and 'Error' not in said and 'export' in said


def test_a_polyline_is_the_line_it_is(one, tmp_path):
    line = '<polyline label="scratch" points="20.5,20.5;29.5,20.5"/><polygon label="dent" points="2,2;4,2;4,4;2,4"/>'
    image = f'<image id="0" name="0.png" width="40" height="32">{line}</image>'
    (tmp_path / 'e.xml').write_text(f'<annotations>{image}</annotations>')
    code, said = run('ingest', one, tmp_path / 'e.xml')
    assert code == 0 and 'has a polyline without area' in said and pixels(one) == {'0.png': 10 + 4}


def test_a_box_drawn_backwards_and_one_beyond_the_picture(one, tmp_path):
    for corners, area in (((20, 20, 10, 10), 100), ((-5, -5, 10, 10), 100), ((-50, -50, 90, 90), 1280)):
        words = ' '.join(f'{side}="{place}"' for side, place in zip(('xtl', 'ytl', 'xbr', 'ybr'), corners))
        image = f'<image id="0" name="0.png" width="40" height="32"><box label="defect" {words}/></image>'
        (tmp_path / 'e.xml').write_text(f'<annotations>{image}</annotations>')
        assert run('ingest', one, tmp_path / 'e.xml', '--revert')[0] == 0 and pixels(one) == {'0.png': area}


def test_names_that_differ_in_case_alone(tmp_path):
    for i, name in enumerate(('A.png', 'a.png')):
        png(tmp_path / 'camera' / name, i)
        drawn(tmp_path / 'e', 'labelme', SQUARE if i else SQUARE[:3], name=name)
    p, _ = project(tmp_path)
    assert run('ingest', p, tmp_path / 'e')[0] == 0
    assert pixels(p)['a.png'] == 100 and pixels(p)['A.png'] < 60


def test_labels_go_to_a_file_or_a_folder_as_they_need(one, tmp_path):
    assert run('ingest', one, drawn(tmp_path / 'e', 'coco', SQUARE))[0] == 0
    (tmp_path / 'd').mkdir()
    (tmp_path / 'f').write_text('mine')
    for to, form, says in (('d', 'coco', 'is a folder; give a file'), ('f', 'png', 'is a file; give a folder')):
        code, said = run('project', 'labels', one, tmp_path / to, '--form', form)
        assert code == 2 and says in said and said.count('\n') == 1
    assert (tmp_path / 'f').read_text() == 'mine' and not list((tmp_path / 'd').iterdir())


def test_pictures_smaller_than_a_window_and_of_one_pixel(tmp_path):
    model = write_bright(tmp_path / 'm.onnx')
    photo(tmp_path / 'i/a.png', (0, 0), size=(5, 7))
    Image.new('L', (1, 1), 200).save(tmp_path / 'i/b.png')
    assert run('predict', model, tmp_path / 'i', '--out', tmp_path / 'o')[0] == 0
    found = {name: (row['defect_pixels'], row['width'], row['height']) for name, row in table(tmp_path / 'o').items()}
    assert found == {'a.png': ('16', '7', '5'), 'b.png': ('1', '1', '1')}


def test_orientations_that_do_not_exist_are_none(tmp_path):
    for turn in (0, 9):
        photograph(png(tmp_path / f'camera/{turn}.jpg', turn), (32, 40), turn)
    assert set(open_project(project(tmp_path)[0]).units['h']) == {32}


def test_a_background_class_of_yolo_cuts_a_hole_and_an_empty_file_is_a_question(tmp_path):
    for i in range(2):
        png(tmp_path / f'camera/{i}.png', i)
    p, _ = project(tmp_path)
    at = tmp_path / 'y/labels/train'
    at.mkdir(parents=True)
    (tmp_path / 'y/data.yaml').write_text('names:\n  0: crack\n  1: background\n')
    hole = [(x / 40, y / 32) for x, y in ((7, 7), (9, 7), (9, 9), (7, 9))]
    around = [(x / 40, y / 32) for x, y in SQUARE]
    rows = [' '.join(map(str, [i, *np.ravel(points)])) for i, points in enumerate((around, hole))]
    (at / '0.txt').write_text('\n'.join(rows))
    (at / '1.txt').write_text('')
    code, said = run('ingest', p, tmp_path / 'y')
    assert code == 0 and '1 empty' in said and pixels(p) == {'0.png': 96}


def whole_yolo(tmp_path, name, text):
    (tmp_path / 'y').mkdir(exist_ok=True)
    (tmp_path / 'y' / f'{name}.txt').write_text(text)


OUTLINE = '0 ' + ' '.join(f'{x / 40:.4f} {y / 32:.4f}' for x, y in SQUARE)


@pytest.mark.parametrize(
    'text',
    [OUTLINE.replace('.', ','), OUTLINE.replace(' ', ','), OUTLINE.replace(' ', ';'), f'# a\n{OUTLINE}', 'scratch' + OUTLINE[1:]],
)
def test_a_text_of_a_yolo_folder_that_is_none_is_said(tmp_path, text):
    "Decimal commas, other separators, a comment, a name for the number: the image is not silently without label"
    for i in range(2):
        png(tmp_path / f'camera/{i}.png', i)
    p, _ = project(tmp_path)
    whole_yolo(tmp_path, '0', OUTLINE)
    whole_yolo(tmp_path, '1', text)
    whole_yolo(tmp_path, 'classes', 'scratch\n')
    code, said = run('ingest', p, tmp_path / 'y')
    assert code == 0 and pixels(p) == {'0.png': 100}
    assert 'passed over: 1 text file without lines of a class and its outline (1.txt)' in said


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='no named pipes here')
def test_nobody_waits_for_a_pipe(one, tmp_path):
    "A named pipe among the pictures, among the masks, in the place of an export, in folder:"
    os.mkfifo(tmp_path / 'camera/1.png')
    (tmp_path / 'masks').mkdir()
    mask = np.zeros((32, 40), np.uint8)
    mask[5:15, 5:15] = 255
    Image.fromarray(mask).save(tmp_path / 'masks/0.png')
    os.mkfifo(tmp_path / 'masks/1.png')
    os.mkfifo(tmp_path / 'e.json')
    line = '1.png is a pipe or a device, no file; it is left out'
    code, said = run('project', 'new', one, '--images', tmp_path / 'camera')
    assert code == 0 and line in said
    code, said = run('ingest', one, tmp_path / 'masks')
    assert code == 0 and line in said and pixels(one) == {'0.png': 100}
    code, said = run('ingest', one, tmp_path / 'e.json')
    assert code == 2 and 'e.json is a pipe or a device; save it as a file' in said
    code, said = run('data', 'check', f'folder:{tmp_path / "camera"}:{tmp_path / "masks"}')
    assert code == 0 and '1 images' in said


def test_boxes_of_pascal_voc_are_told_what_xml_is_understood(one, tmp_path):
    (tmp_path / 'e.xml').write_text('<annotation><filename>0.png</filename><object/></annotation>')
    code, said = run('ingest', one, tmp_path / 'e.xml')
    assert code == 2 and "its root is 'annotation', where CVAT for images 1.1 has annotations" in said


def test_a_file_of_another_form_among_those_of_labelme_is_said(tmp_path):
    "VGG's annotator beside labelme: its image is not silently without label"
    for i in range(2):
        png(tmp_path / f'camera/{i}.png', i)
    p, _ = project(tmp_path)
    drawn(tmp_path / 'e', 'labelme', SQUARE, name='0.png')
    (tmp_path / 'e' / '1.json').write_text(json.dumps({'1.png99': dict(filename='1.png', regions=[])}))
    code, said = run('ingest', p, tmp_path / 'e')
    assert code == 0 and pixels(p) == {'0.png': 100}
    assert 'passed over: 1 XML or JSON file of a form that is not understood (1.json)' in said


@pytest.mark.parametrize('name', ['1_mask.png', 'masks/1.png'])
def test_masks_beside_files_of_labelme_are_said(tmp_path, name):
    "A folder of two ways: its masks are not read, and not passed over without a word"
    for i in range(2):
        png(tmp_path / f'camera/{i}.png', i)
    p, _ = project(tmp_path)
    drawn(tmp_path / 'e', 'labelme', SQUARE, name='0.png')
    png(tmp_path / 'e' / '0.png', 0)
    (tmp_path / 'e' / name).parent.mkdir(exist_ok=True)
    Image.fromarray(np.full((32, 40), 255, np.uint8)).save(tmp_path / 'e' / name)
    code, said = run('ingest', p, tmp_path / 'e')
    assert code == 0 and pixels(p) == {'0.png': 100}
    assert f'passed over: 1 mask beside files of labelme; give a folder that holds masks alone ({name})' in said
