"Inputs that nobody had tried before, of the kinds that labelling tools, cameras and disks are known for"

import json, os, shutil, unicodedata

import numpy as np, pytest
from PIL import Image
from typer.testing import CliRunner

from imbal_al.cli import app
from imbal_al.project.intake import new
from imbal_al.project.labelled import labels, read_mask, write_label
from imbal_al.project.pictures import twins
from imbal_al.project.state import is_held_out
from imbal_al.project.store import open_project

SHAPE = (32, 40)


def run(*args):
    "(exit code, all that was said)"
    done = CliRunner().invoke(app, [str(o) for o in args])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def png(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, SHAPE).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def made(tmp, *names):
    for i, name in enumerate(names):
        png(tmp / 'camera' / name, i)
    return new(tmp / 'p', tmp / 'camera', window=32, overlap=0, held_out=0)


def areas(tmp):
    "image -> pixels of its label"
    p = open_project(tmp / 'p')
    table = labels(p)
    return {p.row[id]['image']: int(n) for id, n in zip(table['id'], table['pixels'])}


def box(x, y, w, h):
    "A Label Studio rectangle, pixels"
    value = dict(x=x * 2.5, y=y * 3.125, width=w * 2.5, height=h * 3.125, rotation=0, rectanglelabels=['scratch'])
    return dict(type='rectanglelabels', id=f'{x}{y}', original_width=40, original_height=32, value=value)


def task(image, *results, by=1, at='2026-02-01T10:00:00Z', **more):
    return dict(
        data=dict(image=image),
        annotations=[dict(result=list(results), completed_by=by, updated_at=at, **more)],
    )


def ingested(tmp, found, *options):
    path = tmp / 'export.json'
    path.write_text(found if isinstance(found, str) else json.dumps(found), encoding='utf-8')
    return run('ingest', tmp / 'p', path, *options)


def test_a_region_that_says_no_defect_beside_one_that_is_refused_or_none(tmp_path):
    "C: CVAT, a polygon called No_Defect; a hole of it in a scratch"
    made(tmp_path, '0.png', '1.png')
    shape = '<box label="{}" xtl="{}" ytl="4" xbr="{}" ybr="14" z_order="{}"/>'
    hole = shape.format('scratch', 4, 24, 0) + shape.format('No_Defect', 8, 12, 1)
    text = (
        '<annotations>'
        f'<image id="0" name="0.png" width="40" height="32">{hole}</image>'
        f'<image id="1" name="1.png" width="40" height="32">{shape.format("No_Defect", 2, 9, 0)}</image>'
        '</annotations>'
    )
    (tmp_path / 'a.xml').write_text(text)
    code, said = run('ingest', tmp_path / 'p', tmp_path / 'a.xml')
    assert areas(tmp_path) == {'0.png': 160} and 'no defect: no defect' in said
    assert '1.png' in said and 'without a pixel of a defect' in said


def test_three_pictures_in_a_circle_and_one_written_anew_with_the_same_bytes(tmp_path):
    "D: a -> b -> c -> a; another file is copied over itself"
    p = made(tmp_path, 'a.png', 'b.png', 'c.png', 'd.png')
    for i, id in enumerate(p.units.id):
        mask = np.zeros(SHAPE)
        mask.flat[: i + 1] = 1
        write_label(p, id, mask)
    c = tmp_path / 'camera'
    for old, fresh in (('c', 'x'), ('b', 'c'), ('a', 'b'), ('x', 'a')):
        (c / f'{old}.png').rename(c / f'{fresh}.png')
    (c / 'd.png').write_bytes((c / 'd.png').read_bytes())
    code, said = run('project', 'new', tmp_path / 'p', '--images', c)
    assert code == 0 and '3 renamed' in said
    assert areas(tmp_path) == {'b.png': 1, 'c.png': 2, 'a.png': 3, 'd.png': 4}


def test_a_folder_renamed_and_a_deleted_picture_that_has_a_twin(tmp_path):
    "E: labels follow; the twin is known under the name of the deleted one"
    p = made(tmp_path, 'day1/a.png', 'day1/b.png', 'day1/c.png')
    for i, id in enumerate(p.units.id):
        write_label(p, id, np.eye(*SHAPE) * (i == 0))
    c = tmp_path / 'camera'
    (c / 'day1').rename(c / 'Tag 1')
    shutil.copy(c / 'Tag 1/a.png', c / 'copy.png')
    (c / 'Tag 1/a.png').unlink()
    code, said = run('project', 'new', tmp_path / 'p', '--images', c)
    assert code == 0 and '3 renamed' in said
    assert areas(tmp_path) == {'copy.png': 32, 'Tag 1/b.png': 0, 'Tag 1/c.png': 0}


def test_letters_with_marks_apart_on_the_disk_and_together_in_the_export(tmp_path):
    "F: NFD on the disk, as macOS writes it, NFC in the export"
    name = 'Prüfung_é.png'
    made(tmp_path, unicodedata.normalize('NFD', name))
    code, said = ingested(tmp_path, [task('/data/' + unicodedata.normalize('NFC', name), box(4, 4, 10, 5))])
    assert code == 0 and list(areas(tmp_path).values()) == [50]


@pytest.mark.parametrize('name', ['a,b;c.png', "it's.png", '100%.png', 'a#b?c.png', ' lead.png', 'a&b<c>"d.png'])
def test_signs_in_names_go_out_and_come_back_in_all_forms(tmp_path, name):
    "F and K: every form of labels names the image so that it is found again"
    p = made(tmp_path, name, 'other.png')
    for id in p.units.id:
        write_label(p, id, np.eye(*SHAPE) * (p.row[id]['image'] == name))
    for form, to in dict(png='masks', coco='c.json', cvat='c.xml', labelstudio='l.json').items():
        assert run('project', 'labels', tmp_path / 'p', tmp_path / to, '--form', form)[0] == 0
        assert '2 same' in run('ingest', tmp_path / 'p', tmp_path / to)[1], form


@pytest.mark.parametrize(
    'name',
    [
        '\\\\server\\share\\line3\\sub\\x.png',
        's3://bucket/key/sub/x.png',
        'https://host/data/local-files/?d=line3%2Fsub%2Fx.png',
        'file:///home/me/sub/x.png',
        './sub/x.png',
    ],
)
def test_paths_of_other_machines(tmp_path, name):
    "G: the tail of the path names one image, and another x.png is not meant"
    made(tmp_path, 'sub/x.png', 'top/x.png')
    code, said = ingested(tmp_path, [task(name, box(4, 4, 10, 5))])
    assert code == 0 and areas(tmp_path) == {'sub/x.png': 50}, said


def test_a_tail_that_two_images_have_is_a_line(tmp_path):
    made(tmp_path, 'sub/x.png', 'top/x.png')
    code, said = ingested(tmp_path, [task('x.png', box(4, 4, 10, 5))])
    assert code == 2 and 'may be sub/x.png or top/x.png' in said and said.count('\n') == 1


def test_ratings_texts_and_key_points_beside_a_shape(tmp_path):
    "H: nothing of it is a defect, and all of it is named"
    made(tmp_path, '0.png')
    size = dict(original_width=40, original_height=32)
    beside = [
        dict(type='rating', id='r', value=dict(rating=3)),
        dict(type='textarea', id='44', value=dict(text=['deep']), **size),
        dict(type='keypointlabels', id='k', value=dict(x=1, y=1, width=1, keypointlabels=['scratch']), **size),
        dict(type='relation', from_id='44', to_id='k', direction='right'),
    ]
    code, said = ingested(tmp_path, [task('0.png', box(4, 4, 10, 5), *beside)])
    assert code == 0 and areas(tmp_path) == {'0.png': 50}
    for kind in ('rating', 'textarea', 'keypoint', 'relation'):
        assert kind in said


def test_times_of_two_zones_and_annotators_who_differ(tmp_path):
    "I: 23:30 UTC is later than 01:00 at +02:00; two who differ are asked about"
    made(tmp_path, '0.png', '1.png')
    old = [task('0.png', box(4, 4, 10, 5), at='2026-01-31T23:30:00Z')]
    assert ingested(tmp_path, old)[0] == 0
    code, said = ingested(tmp_path, [task('0.png', box(20, 4, 10, 6), at='2026-02-01T01:00:00+02:00')])
    assert '1 older' in said and areas(tmp_path) == {'0.png': 50}
    two = task('1.png', box(4, 4, 10, 5), by=1)
    two['annotations'] += task('1.png', box(9, 4, 10, 5), by=2)['annotations']
    code, said = ingested(tmp_path, [two])
    assert code == 1 and '1 refused' in said and 'several annotators' in said
    assert ingested(tmp_path, [two], '--on-conflict', 'union')[0] == 0
    assert areas(tmp_path) == {'0.png': 50, '1.png': 75}


def test_links_in_a_circle_and_a_project_among_its_images(tmp_path):
    "L: two folders that link to each other; the project, its queue and labels are no images"
    c = tmp_path / 'camera'
    for i, name in enumerate(('one/a.png', 'two/b.png')):
        png(c / name, i)
    os.symlink(c / 'two', c / 'one/to_two')
    os.symlink(c / 'one', c / 'two/to_one')
    args = ('--images', c, '--window', 32, '--overlap', 0, '--held-out', 0)
    assert '2 images' in run('project', 'new', c / 'p', *args)[1]
    assert run('next', c / 'p', '--budget', 1, '--device', 'cpu')[0] == 0
    assert '2 images' in run('project', 'new', c / 'p', '--images', c)[1]


def test_equal_pictures_three_times_over_two_groups(tmp_path):
    "M: all of them are trained on, or all of them tested on"
    c = tmp_path / 'camera'
    for i in range(30):
        png(c / f'part{i:02d}/1.png', i)
        png(c / f'part{i:02d}/2.png', 50 + i)
    for i in range(5):
        for j in (40, 41):
            png(c / f'part{2 * i + j}/3.png', i)
    p = new(tmp_path / 'p', c, window=32, overlap=0, group_by='folder')
    same = twins({image: known.content for image, known in p.pictures.items()})
    assert len(same) == 10
    assert all(is_held_out(p, image) == is_held_out(p, first) for image, first in same.items())


def coco(tmp, annotations, images=None):
    images = images or [dict(id=i, file_name=f'{i}.png', width=40, height=32) for i in range(2)]
    found = dict(images=images, annotations=annotations, categories=[dict(id=1, name='scratch')])
    return ingested(tmp, found)


SQUARE = [[4, 4, 14, 4, 14, 9, 4, 9]]


def test_coco_boxes_without_an_outline_cost_their_image_and_not_the_file(tmp_path):
    "P: segmentation [] with a box; a run length of another size; the rest is taken"
    made(tmp_path, '0.png', '1.png', '2.png')
    images = [dict(id=i, file_name=f'{i}.png', width=40, height=32) for i in range(3)]
    one = dict(category_id=1, iscrowd=0)
    code, said = coco(
        tmp_path,
        [
            dict(one, id=1, image_id=0, segmentation=SQUARE),
            dict(one, id=2, image_id=1, segmentation=[], bbox=[1, 1, 5, 5]),
            dict(one, id=3, image_id=2, segmentation=dict(size=[8, 8], counts=[64])),
        ],
        images,
    )
    assert code == 1 and areas(tmp_path) == {'0.png': 50}
    assert '1.png' in said and '2.png' in said


def test_coco_ids_given_twice_are_a_line(tmp_path):
    "P: two images with one id: which one is meant nobody knows"
    made(tmp_path, '0.png', '1.png')
    images = [dict(id=7, file_name=f'{i}.png', width=40, height=32) for i in range(2)]
    code, said = coco(tmp_path, [dict(id=1, image_id=7, category_id=1, segmentation=SQUARE)], images)
    assert '7' in said and areas(tmp_path) == {}, said


def test_a_polygon_whose_corners_are_one_point_is_no_healthy_image(tmp_path):
    "Q: without area; it is drawn as what it is, or said"
    made(tmp_path, '0.png')
    value = dict(points=[[50, 50], [50, 50], [50, 50]], polygonlabels=['scratch'])
    size = dict(original_width=40, original_height=32)
    code, said = ingested(tmp_path, [task('0.png', dict(type='polygonlabels', id='a', value=value, **size))])
    assert areas(tmp_path).get('0.png', 1) > 0 and ('0.png' in said or '1 new' in said)


def test_a_mask_of_a_label_that_was_exchanged_with_another_is_found_out(tmp_path):
    "f05: two label pictures exchanged on the disk; the remedy works"
    p = made(tmp_path, '0.png', '1.png')
    (tmp_path / 'masks').mkdir()
    for i in range(2):
        mask = np.zeros(SHAPE, np.uint8)
        mask[: 3 + i] = 255
        Image.fromarray(mask).save(tmp_path / f'masks/{i}.png')
    assert run('ingest', tmp_path / 'p', tmp_path / 'masks')[0] == 0
    a, b = (tmp_path / 'p/labels' / f'{id}.1.png' for id in p.units.id)
    one, two = a.read_bytes(), b.read_bytes()
    a.write_bytes(two), b.write_bytes(one)
    code, said = run('project', 'labels', tmp_path / 'p', tmp_path / 'out')
    assert code == 2 and 'was changed after it was ingested' in said
    assert run('ingest', tmp_path / 'p', tmp_path / 'masks')[0] == 0
    assert run('project', 'labels', tmp_path / 'p', tmp_path / 'out')[0] == 0
    assert [int((read_mask(p, id)).sum()) for id in p.units.id] == [120, 160]
