"What tools write is read as they mean it: names, voices, times, paths, and what is no area"

import base64, io, json, zipfile
from pathlib import Path

import numpy as np, pytest
from hypothesis import given, settings, strategies as st
from PIL import Image
from typer.testing import CliRunner

from imbal_al.cli import app
from imbal_al.core import InputError
from imbal_al.data.masks import read_mask as read_source_mask
from imbal_al.data.shapes import polygon_mask
from imbal_al.project.annotations import brush_result
from imbal_al.project.exports import read_export
from imbal_al.project.intake import new
from imbal_al.project.kinds import kind_names, read_kinds
from imbal_al.project.labelled import labels, read_label, read_mask, write_label
from imbal_al.project.store import open_project

H, W = 48, 64
SIZE = dict(original_height=H, original_width=W, image_rotation=0)
PERCENT = [[18.75, 62.5 / 3], [46.875, 62.5 / 3], [46.875, 125 / 3], [18.75, 125 / 3]]
SQUARE = [12, 10, 30, 10, 30, 20, 12, 20]  # 18 x 10 = 180 pixels


@pytest.fixture
def made(tmp_path):
    return make(tmp_path, 'a.png', 'b.png', 'line/c.png')


def make(tmp_path, *names, size=(H, W), **more):
    for i, name in enumerate(names):
        path = tmp_path / 'camera' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full(size, 30 * i + 9, np.uint8)).save(path)
    new(tmp_path / 'P', tmp_path / 'camera', window=32, overlap=0, held_out=0.0, **more)
    return tmp_path


def take(at, found, *options, code=0):
    "Ingest by the command line: what is said; `found` is a path, or what becomes a JSON file"
    path = found if isinstance(found, Path) else at / 'export.json'
    if not isinstance(found, Path):
        path.write_text(json.dumps(found))
    done = CliRunner().invoke(app, ['ingest', str(at / 'P'), str(path), *options])
    assert done.exit_code == code, done.output + repr(done.exception)
    assert 'Traceback' not in done.output
    return done.output


def px(at):
    p = open_project(at / 'P')
    return {p.row[id]['name']: int(read_mask(p, id).sum()) for id in labels(p)['id']}


def region(points=PERCENT, label='defect', **more):
    value = dict(points=points, polygonlabels=[label])
    return dict(type='polygonlabels', value=value, **SIZE, **more)


def task(image, *annotations, **more):
    done = [
        one if isinstance(one, dict) else dict(result=one, updated_at='2026-02-01T10:00Z')
        for one in annotations
    ]
    return dict(data=dict(image=image), annotations=done, **more)


def choice(word, **more):
    return dict(type='choices', value=dict(choices=[word]), **more)


def xml(at, *images, meta=''):
    text = ''.join(
        f'<image name="{name}" width="{W}" height="{H}">{inner}</image>' for name, inner in images
    )
    path = at / 'export.xml'
    path.write_text(f'<annotations>{meta}{text}</annotations>')
    return path


def cvat(label, x, y, right, bottom, z=0):
    corners = f'{x},{y};{right},{y};{right},{bottom};{x},{bottom}'
    return f'<polygon label="{label}" points="{corners}" z_order="{z}"/>'


def coco(*annotations, names=('a.png',), categories=(), **more):
    images = [dict(id=i, file_name=name, width=W, height=H) for i, name in enumerate(names)]
    marks = [dict(dict(image_id=0, category_id=1), **one) for one in annotations]
    kinds = [dict(id=i, name=name) for i, name in enumerate(categories, 1)]
    return dict(dict(images=images, annotations=marks, categories=kinds), **more)


# Names


def test_a_hole_is_cut_by_what_lies_above_and_nothing_by_what_lies_below(made):
    hole = cvat('defect', 5, 5, 45, 40) + cvat('Back_Ground', 15, 12, 35, 30, 1)
    below = cvat('defect', 15, 12, 35, 30) + cvat('unlabeled', 0, 0, 64, 48, -1)
    said = take(made, xml(made, ('a.png', hole.replace('Back_Ground', 'BG')), ('b.png', below)))
    assert px(made) == {'a.png': 40 * 35 - 20 * 18, 'b.png': 360}
    assert 'counted as defect: defect (2); no defect: bg (1), unlabeled (1)' in said
    assert '360 pixels of defects lie below bg' in said


def test_a_defect_wholly_below_a_background_is_asked_whatever_empty_says(made):
    covered = cvat('dent', 9, 9, 12, 12) + cvat('background', 0, 0, 64, 48)
    said = take(made, xml(made, ('a.png', covered)), '--empty', 'healthy')
    assert px(made) == {} and 'all its defects lie below background' in said


def test_names_that_count_and_names_that_do_not(made):
    drawn = cvat('scratch', 0, 0, 10, 4) + cvat('Void', 0, 10, 10, 14) + cvat('dust', 0, 2, 10, 8)
    for options, pixels, says in (
        ((), 80, 'counted as defect: dust (1), scratch (1); no defect: void (1)'),
        (('--ignore', 'dust'), 40, 'passed over: dust (1)'),
        (('--defects', 'void, scratch'), 80, 'passed over: dust (1)'),
        (('--defects', 'SCRATCH', '--ignore', 'rust'), 40, 'nothing in it is called rust'),
    ):
        said = take(made, xml(made, ('a.png', drawn)), '--revert', *options)
        assert px(made) == {'a.png': pixels} and says in said, (options, said)
    said = take(made, xml(made, ('b.png', drawn)), '--defects', 'scrach', code=2)
    assert 'is called scrach; its names are dust, scratch, void' in said and len(px(made)) == 1
    assert 'give it once' in take(made, xml(made), '--defects', 'a', '--ignore', 'A', code=2)


def test_kinds_are_kept_per_pixel_and_survive(made):
    drawn = cvat('scratch', 0, 0, 10, 4) + cvat('dent', 5, 2, 20, 6, 1)
    take(made, xml(made, ('a.png', drawn), ('b.png', cvat('defect', 0, 0, 2, 2))))
    p = open_project(made / 'P')
    kinds, names = read_kinds(p, p.units['id'][0])
    assert names == {1: 'defect', 2: 'scratch', 3: 'dent'}
    assert kinds[1, 7] == 2 and kinds[3, 7] == 3 and kinds[3, 19] == 3 and kinds[40, 40] == 0
    assert np.bincount(kinds.ravel())[1:].tolist() == [0, 30, 60]
    assert read_kinds(p, p.units['id'][1])[0].max() == 1
    assert '2 same' in take(made, made / 'export.xml')
    swapped = cvat('dent', 0, 0, 10, 4) + cvat('scratch', 5, 2, 20, 6, 1)
    said = take(made, xml(made, ('a.png', swapped)))
    assert 'the kinds of its 90 defect pixels are others (version 2)' in said
    assert kind_names(p) == ['defect', 'scratch', 'dent']
    id, kinds = p.units['id'][0], read_kinds(p, p.units['id'][0])[0]
    assert write_label(p, id, kinds > 0) == 'same', 'a mask without names takes none away'
    less = (kinds > 0) & (np.arange(W) < 8)
    less[40, 40] = True
    assert write_label(p, id, less) == 'changed'
    kept = read_kinds(p, id)[0]
    assert kept[40, 40] == 1 and (kept[less & (kinds > 0)] == kinds[less & (kinds > 0)]).all()
    (made / 'P/kinds.json').write_text('{')
    with pytest.raises(InputError, match='kinds.json is damaged'):
        read_kinds(p, p.units['id'][0])


def test_a_project_of_yesterday_goes_on(made):
    p = open_project(made / 'P')
    id = p.units['id'][0]
    mask = polygon_mask(np.reshape(SQUARE, (-1, 2)), (H, W))
    assert write_label(p, id, mask, 'cvat: x', '2026-01-01') == 'new'
    version = read_label(p, id)['versions'][0]
    assert set(version) == {'file', 'content', 'pixels', 'by', 'at'} and not list(
        (made / 'P').glob('kinds*')
    )
    stored = np.asarray(Image.open(made / 'P/labels' / version['file']))
    assert set(np.unique(stored)) == {0, 255}
    assert '1 same' in take(made, coco(dict(segmentation=[SQUARE]), categories=['defect']))


def png(array):
    out = io.BytesIO()
    Image.fromarray(np.asarray(array, np.uint8)).save(out, 'png')
    return out.getvalue()


def test_a_coloured_mask_counts_no_void_no_ignore_and_no_background(made):
    picture = np.zeros((H, W, 3), np.uint8)
    picture[:] = (9, 9, 9)
    picture[0:4], picture[4:6], picture[6:8] = (250, 50, 83), (1, 2, 3), (224, 224, 192)
    picture[10:11] = (0, 0, 0)
    with zipfile.ZipFile(made / 'voc.zip', 'w') as z:
        z.writestr('labelmap.txt', '# n\nBackground:9,9,9::\nignore:1,2,3::\nrust:250,50,83::\n')
        z.writestr('SegmentationClass/a.png', png(picture))
    said = take(made, made / 'voc.zip')
    assert px(made) == {'a.png': 4 * W} and 'counted as defect: rust (1); no defect:' in said


# Beside a shape


@pytest.mark.parametrize('word', ['defect', 'unsure', 'Not OK', 'camera left'])
def test_a_word_without_a_shape_is_no_healthy_image(made, word):
    both = [task('a.png', [choice(word)])], xml(made, ('b.png', f'<tag label="{word}"/>'))
    for found in both:
        said = take(made, found, '--empty', 'healthy')
        assert '1 empty' in said and f'{word!r}' in said and px(made) == {}
    for found in both:
        take(made, found, '--empty', 'healthy', '--ignore', word)
    assert px(made) == {'a.png': 0, 'b.png': 0}


def test_what_holds_no_area_is_passed_over_and_said(made):
    beside = [
        dict(type='relation', from_id='r', to_id='s'),
        dict(type='number', id='r', value=dict(number=3)),
        dict(type='keypointlabels', value=dict(x=1, y=1), **SIZE),
        choice('good', id='r'),
    ]
    points = '<points label="defect" points="3,4"/>'
    said = take(
        made,
        [task('a.png', [region(id='r'), *beside]), task('b.png', beside[2:3])],
        '--empty',
        'healthy',
    )
    assert px(made) == {'a.png': 180} and 'b.png has points and no area' in said
    assert 'choices (1), keypoint (2), number (1), relation (1)' in said
    said = take(made, xml(made, ('b.png', cvat('dent', 0, 0, 3, 3) + points)))
    assert px(made)['b.png'] == 9 and 'passed over beside the shapes: points (1)' in said


def test_an_erased_brush_is_healthy_with_no_defect_or_with_empty_healthy(made):
    erased = brush_result(np.zeros((H, W)), 'r')
    found = [task('a.png', [erased, choice('no defect')]), task('b.png', [erased])]
    assert '1 new, 1 empty' in take(made, found) and px(made) == {'a.png': 0}
    take(made, found, '--empty', 'healthy')
    assert px(made) == {'a.png': 0, 'b.png': 0}
    both = [task('line/c.png', [region(), choice('no defect')])]
    assert 'has one drawn' in take(made, both, code=1)
    doubt = [task('line/c.png', [choice('no defect'), choice('unsure')])]
    assert "marked 'unsure'" in take(made, doubt, code=1)


def test_labels_of_a_region_may_stand_in_a_result_of_their_own(made):
    plain = dict(type='polygon', id='r', value=dict(points=PERCENT), **SIZE)
    name = dict(type='labels', id='r', value=dict(points=PERCENT, labels=['background']), **SIZE)
    picture = np.zeros((H, W, 4))
    picture[:2] = 255
    address = 'data:image/png;base64,' + base64.b64encode(png(picture)).decode()
    bits = dict(
        type='bitmasklabels', value=dict(imageDataURL=address, bitmasklabels=['rust']), **SIZE
    )
    take(made, [task('a.png', [region(), plain, name, bits])])
    assert px(made) == {'a.png': 2 * W}


# Which annotation


def voice(result, by, at='2026-02-01T10:00Z', **more):
    return dict(result=result, completed_by=by, updated_at=at, **more)


LOW = [[x, y + 50] for x, y in PERCENT]


def test_annotators_who_disagree_are_refused_until_somebody_decides(made):
    two = [
        task(
            'a.png',
            voice([region()], 1, '2026-02-01T11:00+02:00'),
            voice([region(LOW)], dict(email='eva@x'), '2026-02-01T10:00Z'),
        )
    ]
    said = take(made, two, code=1)
    assert '1: 180 px, eva@x: 180 px' in said and '--on-conflict' in said and px(made) == {}
    take(made, two, '--on-conflict', 'last')
    p = open_project(made / 'P')
    assert read_mask(p, p.units['id'][0])[34:44, 12:30].all() and px(made) == {'a.png': 180}
    take(made, two, '--on-conflict', 'union')
    assert px(made) == {'a.png': 360}
    silent = [task('b.png', voice([region()], 1), voice([], 2))]
    assert 'from several annotators' in take(made, silent, code=1)
    agreed = [task('b.png', voice([region()], 1), voice([region()], 2))]
    assert '1 new' in take(made, agreed)
    kinds = [
        task(
            'line/c.png',
            voice([region(label='dent')], 1),
            voice([region(label='rust')], 2, '2026-03-01T00:00Z'),
        )
    ]
    assert 'from several annotators' in take(made, kinds, code=1), 'of one place, two kinds'
    assert 'way out of a conflict' in take(made, two, '--on-conflict', 'first', code=2)


def test_ground_truth_before_later_ones_and_the_last_of_one_annotator(made):
    found = [
        task(
            'a.png',
            voice([region()], 1, '2026-02-01', ground_truth=True),
            voice([choice('ok')], 2, '2026-03-01'),
        ),
        task(
            'b.png',
            voice([choice('ok')], 1, '2026-02-01T09:30+00:00'),
            voice([region()], 1, '2026-02-01T10:00+01:00'),
        ),
    ]
    take(made, found)
    assert px(made) == {'a.png': 180, 'b.png': 0}


def test_skipped_and_untouched_tasks_are_named(made):
    found = [
        task('a.png', dict(result=[], was_cancelled=True)),
        task('b.png'),
        task('line/c.png', [region()]),
    ]
    said = take(made, found)
    assert '1 new, 1 skipped, 1 untouched' in said
    assert 'skipped (1): a.png' in said and 'untouched (1): b.png' in said


def test_an_older_export_never_replaces_a_newer_label(made):
    def meta(at):
        return f'<meta><dumped>{at}</dumped></meta>'

    small, large = cvat('defect', 0, 0, 2, 2), cvat('defect', 0, 0, 3, 3)
    take(made, xml(made, ('a.png', large), meta=meta('2026-02-10 09:00:00+02:00')))
    assert '1 older' in take(
        made, xml(made, ('a.png', small), meta=meta('2026-02-10 06:59:00.5+00:00'))
    )
    older = coco(dict(segmentation=[SQUARE]), info=dict(date_created='2026/02/09'))
    said = take(made, older)
    assert 'this label is of 2026/02/09, the project' in said and px(made) == {'a.png': 9}
    same_day = coco(dict(segmentation=[SQUARE]), info=dict(date_created='2026-02-10'))
    assert '1 changed' in take(made, same_day) and px(made) == {'a.png': 180}
    assert '1 changed' in take(made, older | coco(dict(segmentation=[[0, 0, 4, 0, 4, 4, 0, 4]]),
        info=dict(date_created='2026/02/09')), '--revert')
    assert px(made) == {'a.png': 16}


def test_a_label_saved_again_is_as_new_as_its_last_save(made):
    for at in ('2026-02-01T00:00Z', '2026-03-01T00:00Z'):
        take(made, [task('a.png', voice([region()], 1, at))])
    between = [task('a.png', voice([choice('no defect')], 1, '2026-02-15T00:00Z'))]
    assert '1 older' in take(made, between) and px(made) == {'a.png': 180}


# COCO


def test_oddities_of_a_coco_file_cost_a_line_each(made):
    found = coco(
        dict(image_id='0', segmentation=SQUARE, category_id='1'),
        dict(image_id=77, segmentation=[SQUARE]),
        dict(image_id=1, segmentation=[[1, 1, float('nan'), 4, 4, 4]]),
        dict(image_id=2.0, segmentation=[[3.5, 4.5, 9.5, 4.5, 3.5, 4.5]]),
        names=('a.png', 'b.png', 'line/c.png'),
        categories=['crack'],
    )
    found['images'][0] |= dict(height=str(H), width=float(W))
    found['annotations'].append(None)
    said = take(made, found, code=1)
    assert px(made) == {'a.png': 180, 'line/c.png': 7}
    assert '(image_id 77)' in said and 'b.png: ' in said and 'which are no objects' in said
    found['images'] += found['images'][:1]
    assert said.count('\n') <= 8 and 'two images of the file have the id 0' in take(
        made, found, code=1
    )


@pytest.mark.parametrize('points', [[12, 10, 30, 10, 30, 20, 12, 20], [3.2, 4.7, 40.5, 9.1, 8, 33]])
def test_a_polygon_is_the_same_in_every_reader(made, points):
    corners = np.reshape(points, (-1, 2))
    want = polygon_mask(corners, (H, W))
    record = dict(size=[H, W], masks=[[points]])
    assert (read_source_mask(f'f::a::{json.dumps(record)}', 'coco', (H, W)) == want).all()
    shares = ' '.join(f'{v:.9f}' for v in (corners / [W, H]).ravel())
    label = dict(label='defect', points=corners.tolist(), shape_type='polygon')
    (made / 'a.txt').write_text(f'0 {shares}\n')
    (made / 'me.json').write_text(
        json.dumps(dict(shapes=[label], imagePath='a.png', imageHeight=H, imageWidth=W))
    )
    (made / 'co.json').write_text(json.dumps(coco(dict(segmentation=[points]))))
    (made / 'ls.json').write_text(
        json.dumps([task('a.png', [region((corners / [W, H] * 100).tolist())])])
    )
    text = ';'.join(f'{x},{y}' for x, y in corners)
    xml(made, ('a.png', f'<polygon label="defect" points="{text}"/>'))
    for name in ('a.txt', 'me.json', 'co.json', 'ls.json', 'export.xml'):
        (drawn,) = read_export(made / name).drawn
        assert (drawn.mask((H, W)) == want).all(), name


def test_pycocotools_agrees():
    "Run lengths to the pixel; polygons but for their outline"
    coco_mask = pytest.importorskip('pycocotools.mask', reason='pip install pycocotools')
    rng = np.random.default_rng(0)
    far = total = 0
    for _ in range(100):
        turns = np.sort(rng.random(9)) * 2 * np.pi
        p = np.c_[32 + 25 * np.cos(turns), 24 + 20 * np.sin(turns)]
        theirs = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([p.ravel().tolist()], H, W)))
        far += np.count_nonzero(theirs != polygon_mask(p, (H, W)))
        total += theirs.sum()
        runs = coco_mask.encode(np.asfortranarray(theirs))
        record = dict(size=[H, W], masks=[dict(size=[H, W], counts=runs['counts'].decode())])
        assert (read_source_mask(f'f::a::{json.dumps(record)}', 'coco', (H, W)) == theirs).all()
    assert far < 0.02 * total
    box = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([SQUARE], H, W)))
    assert (box == polygon_mask(np.reshape(SQUARE, (-1, 2)), (H, W))).all()


def test_a_polygon_of_two_points_is_a_line_and_said(made):
    said = take(made, [task('a.png', [region([[12.5, 25], [50, 25]])])])
    assert px(made) == {'a.png': 25} and 'polygon of 2 points; it is drawn as the line' in said


# Other forms


def test_labelme_with_lines_circles_flags_and_folders(made):
    folder = made / 'me' / 'line'
    folder.mkdir(parents=True)
    base = dict(imageHeight=H, imageWidth=W, imageData=None, version='5')
    shapes = [
        dict(label='crack', points=[[3.5, 4.5], [9.5, 4.5]], shape_type='line'),
        dict(label='ok', points=[[3, 4], [5, 8]], shape_type='rectangle'),
        dict(label='x', points=[[1, 1]], shape_type='point'),
    ]
    (folder / 'c.json').write_text(json.dumps(dict(base, shapes=shapes, imagePath='c.png')))
    (folder / 'c.png').write_bytes(png(np.full((H, W), 77)))
    moved = dict(base, shapes=shapes[:1], imagePath='C:\\u\\camera\\a.png')
    (made / 'me/a.json').write_text(json.dumps(moved))
    flags = dict(base, shapes=[], flags=dict(good=True, bad=False), imagePath='b.png')
    (made / 'me/b.json').write_text(json.dumps(flags))
    said = take(made, made / 'me')
    assert px(made) == {'a.png': 7, 'b.png': 0, 'line/c.png': 5}
    assert 'drawn as the line' in said and 'point (1)' in said


def test_yolo_with_names_in_an_archive_and_boxes_refused(made):
    shares = ' '.join(f'{v:.9f}' for v in (np.reshape(SQUARE, (-1, 2)) / [W, H]).ravel())
    with zipfile.ZipFile(made / 'y.zip', 'w') as z:
        z.writestr('data.yaml', 'train: images\nnames:\n  0: background\n  3: dent\n')
        z.writestr('labels/train/1a2b3c4d-a.txt', f'3 {shares}\n')
        z.writestr('labels/train/b.txt', '3 0.5 0.5 0.1 0.1\n')
        z.writestr('labels/train/line/c.txt', '')
        z.writestr('images/train/b.png', png(np.zeros((H, W))))
    said = take(made, made / 'y.zip', code=1)
    assert px(made) == {'a.png': 180} and 'a box is no outline' in said
    assert 'counted as defect: dent (1)' in said and 'line/c.png has nothing drawn' in said


def test_json_min_with_two_annotators_and_other_names_of_controls(made):
    row = dict(image='s3://bucket/camera/line/c.png?X=1', id=7, annotator=1, lead_time=3, note='left')
    mark = dict(points=PERCENT, polygonlabels=['dent'], original_width=W, original_height=H)
    found = [dict(row, poly=[mark]), dict(row, annotator=2, verdict='ok')]
    assert 'from several annotators' in take(made, found, code=1)
    take(made, found[:1])
    assert px(made) == {'line/c.png': 180}


@pytest.mark.parametrize(
    'name,text',
    [
        ('x.json', '{"version": 1}'),
        ('x.csv', 'a,b\n1,2\n'),
        ('folder/readme.md', 'hello'),
        ('folder/x.json', '{"a": [1]}'),
        ('folder/x.json', '{'),
    ],
)
def test_what_is_nothing_lists_the_forms_and_fails(made, name, text):
    path = made / 'given' / name
    path.parent.mkdir(parents=True)
    path.write_text(text)
    given = path.parent if name.startswith('folder') else path
    said = take(made, given, code=2)
    assert 'YOLO segmentation' in said or 'no complete export' in said


@pytest.mark.parametrize(
    'name',
    [
        'images/line/c.png',
        '/home/me/camera/line/c.png',
        r'D:\camera\line\c.png',
        'https://host/camera/line/c.png?sign=1',
        '/data/local-files/?d=camera/line/c.png',
        '/data/upload/3/0a1b2c3d-c.png',
        'train/c_png.rf.0123456789abcdef.jpg',
        'C.PNG',
    ],
)
def test_the_tail_of_a_path_names_an_image(made, name):
    take(made, coco(dict(segmentation=[SQUARE]), names=[name]))
    assert px(made) == {'line/c.png': 180}


def test_a_tail_that_names_two_or_another_folder_names_none(tmp_path):
    at = make(tmp_path, 'one/1.png', 'two/1.png')
    for name, says in (('1.png', 'may be'), ('0a1b2c3d-1.png', 'may be'), ('six/1.png', 'no image')):
        assert says in take(at, coco(dict(segmentation=[SQUARE]), names=[name]), code=2)
    take(at, coco(dict(segmentation=[SQUARE]), names=['/x/two/1.png']))
    assert px(at) == {'two/1.png': 180}


def test_full_size_masks_label_the_windows_of_a_photograph(tmp_path):
    at = make(tmp_path, 'a.png', size=(64, 96), unit='window')
    mask = np.zeros((64, 96), np.uint8)
    mask[20:40, 30:50] = 255
    (at / 'masks').mkdir()
    Image.fromarray(mask).save(at / 'masks/a.png')
    said = take(at, at / 'masks')
    p = open_project(at / 'P')
    assert len(px(at)) == len(p.units) and 'unknown' not in said
    for unit in p.units.to_dict('records'):
        y, x, h, w = (unit[side] for side in 'yxhw')
        assert (read_mask(p, unit['id']) == (mask[y : y + h, x : x + w] > 0)).all()
    Image.fromarray(mask[:60]).save(at / 'masks/a.png')
    assert 'a.png is 96 x 64 pixels, its label 96 x 60' in take(at, at / 'masks', code=1)


# Hostile files


def test_a_mask_much_larger_than_any_image_is_not_decoded(made, monkeypatch):
    (made / 'masks').mkdir()
    Image.new('1', (9000, 9000)).save(made / 'masks/a.png')
    monkeypatch.setattr(Image.Image, 'load', lambda *a: pytest.fail('decoded'))
    assert 'its label 9000 x 9000' in take(made, made / 'masks', code=1)
    with zipfile.ZipFile(made / 'voc.zip', 'w') as z:
        z.write(made / 'masks/a.png', 'SegmentationClass/a.png')
    assert 'its label 9000 x 9000' in take(made, made / 'voc.zip', code=1)


def test_run_lengths_whose_sum_wraps_are_refused(made):
    wraps = [2**62] * 4 + [H * W]
    assert np.sum(np.array(wraps, np.int64)) == H * W, 'as 64 bits see it'
    said = take(made, coco(dict(segmentation=dict(size=[H, W], counts=wraps))), code=1)
    assert 'a.png: a run length of 4611686018427387904; left as it was' in said
    half = [2**61] * 8 + [H * W]
    text = ', '.join(map(str, half))
    inner = f'<mask label="x" rle="{text}" left="0" top="0" width="{W}" height="{H}"/>'
    said = take(made, xml(made, ('a.png', inner)), code=1)
    assert 'run lengths that add up to 1.84e+19, not to 3072 pixels' in said


BAD = st.sampled_from(
    [float('inf'), float('-inf'), float('nan'), 2**62, 2**64, 10**400, -1, 0, '', None, [], {}, 'x', 1e300, 1e308]
)


@pytest.mark.filterwarnings('error::RuntimeWarning')
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_hostile_numbers_are_one_line(tmp_path_factory, data):
    "Any value of an export replaced by another: an error of its image, or of the file"
    exports = (
        [task('a.png', [region(), brush_result(np.eye(6), 'b'), choice('ok')])],
        coco(dict(segmentation=dict(size=[H, W], counts=[12, H * W - 12])), categories=['x']),
        dict(
            shapes=[dict(label='x', points=[[1, 2], [3, 4]], shape_type='circle')],
            imagePath='a',
            imageHeight=H,
            imageWidth=W,
        ),
        [dict(image='a.png', id=1, annotator=1, p=[dict(points=PERCENT, original_width=W)])],
    )
    found = json.loads(json.dumps(data.draw(st.sampled_from(exports))))
    at = found
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(at[key], (dict, list)) or not at[key] or data.draw(st.booleans()):
            break
        at = at[key]
    at[key] = data.draw(BAD)
    path = tmp_path_factory.mktemp('h') / 'x.json'
    path.write_text(json.dumps(found))
    try:
        drawn = read_export(path).drawn
    except InputError as e:
        assert '\n' not in str(e)
        return
    for one in drawn:
        if one.error or one.shape not in (None, (H, W)):
            continue
        try:
            assert one.mask((H, W)).shape == (H, W)
        except ValueError as e:
            assert '\n' not in str(e)
