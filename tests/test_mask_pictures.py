"Masks that are pictures: what is seen, what is asked. The right values are made by hand with numpy and PIL"

import shutil

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image, ImageFilter
from typer.testing import CliRunner

from imbal_al.cli import app
from imbal_al.core import InputError
from imbal_al.data.catalog import load_source
from imbal_al.data.masks import mask_picture, MASK_VALUES
from imbal_al.project.labelled import labels, read_mask as read_label_mask
from imbal_al.project.store import open_project

SHAPE = (48, 64)
BLOCK = np.zeros(SHAPE, bool)
BLOCK[12:27, 20:32] = True  # 180 pixels
RING = np.zeros(SHAPE, bool)
RING[11:28, 19:33] = True
RING &= ~BLOCK
LEFT = BLOCK & (np.arange(64) < 26)


def voc_palette():
    "Pascal VOC's colour map, by the rule of its development kit"
    out = []
    for number in range(256):
        rgb, rest = [0, 0, 0], number
        for shift in range(7, -1, -1):
            for channel in range(3):
                rgb[channel] |= (rest >> channel & 1) << shift
            rest >>= 3
        out += rgb
    return out


def numbers(*layers, dtype=np.uint8):
    a = np.zeros(SHAPE, dtype)
    for where, value in layers:
        a[where] = value
    return a


def palette(a, colours):
    im = Image.frombytes('P', a.shape[::-1], a.tobytes())
    im.putpalette(colours)
    return im


def rgba(colour, opaque, stored=(0, 0, 0)):
    a = np.zeros((*SHAPE, 4), np.uint8)
    a[..., :3] = stored
    a[opaque, :3] = colour
    a[opaque, 3] = 255
    return Image.fromarray(a)


def saved(tmp_path, im, name='m.png', **options):
    im = im if isinstance(im, Image.Image) else Image.fromarray(im)
    im.save(tmp_path / name, **options)
    return tmp_path / name


VOC = voc_palette()
READ = {
    'one class': numbers((BLOCK, 25)),
    'white': numbers((BLOCK, 255)),
    'bilevel': Image.fromarray(BLOCK),
    'small classes': numbers((BLOCK, 3), (LEFT, 1)),
    'instances': numbers((BLOCK, 1), *((BLOCK & (np.arange(64) == 20 + i), i + 1) for i in range(12))),
    'VOC with a void border': palette(numbers((BLOCK, 1), (RING, 255)), VOC),
    'VOC class above 20': palette(numbers((BLOCK, 38)), VOC),
    'VOC of two classes': palette(numbers((BLOCK, 200), (LEFT, 50)), VOC),
    'a palette of its own': palette(numbers((BLOCK, 2), (LEFT, 1)), [0, 0, 0, 0, 200, 0, 9, 9, 0]),
    'a palette on white': palette(numbers((BLOCK, 1)), [255, 255, 255, 255, 0, 0]),
    'a grey palette': palette(numbers((BLOCK, 255)), [i for i in range(256) for _ in 'rgb']),
    'a palette that is all black': palette(numbers((BLOCK, 1), (LEFT, 2)), [0] * 768),
    'VOC as colours': palette(numbers((BLOCK, 1), (LEFT, 15), (RING, 255)), VOC).convert('RGB'),
    'red and green': Image.fromarray(
        np.stack([255 * LEFT, 255 * (BLOCK & ~LEFT), 0 * BLOCK], -1).astype(np.uint8)
    ),
    'one dark colour': Image.fromarray(numbers((BLOCK, 60))[..., None] * np.uint8([0, 0, 1])),
    'white stored under nothing': rgba((255, 255, 255), BLOCK, stored=(255, 255, 255)),
    'red on nothing': rgba((255, 0, 0), BLOCK),
    'grey and alpha': Image.merge('LA', [Image.new('L', (64, 48), 255), Image.fromarray(BLOCK).convert('L')]),
    'nearly white': numbers((BLOCK, 254), (LEFT, 255)),
    'a veil of 40 %': Image.fromarray(numbers((BLOCK, 1))[..., None] * np.uint8([255, 0, 0, 102])),
    '16 bit white': numbers((BLOCK, 65535), dtype=np.uint16),
    '16 bit instances': numbers(
        (BLOCK, 1), *((BLOCK & (np.arange(64) == 20 + i), i + 1) for i in range(12)), dtype=np.uint16
    ),
}


@pytest.mark.parametrize('kind', READ)
def test_one_reading_fits(tmp_path, kind):
    assert np.array_equal(mask_picture(saved(tmp_path, READ[kind]))[0], BLOCK)


def test_a_transparent_number_is_background(tmp_path):
    for im in (palette(numbers((BLOCK, 1), (~BLOCK, 2)), VOC), Image.fromarray(numbers((BLOCK, 9), (~BLOCK, 2)))):
        path = saved(tmp_path, im, transparency=2)
        assert np.array_equal(mask_picture(path)[0], BLOCK)
        assert np.array_equal(mask_picture(path, 'nonzero')[0], BLOCK)


ASKED = {
    'stretched classes': (numbers((BLOCK, 200), (LEFT, 50)), 'nonzero', BLOCK),
    'stretched classes, the other way': (numbers((BLOCK, 200), (LEFT, 50)), 'over127', BLOCK & ~LEFT),
    'two numbers of classes': (numbers((BLOCK, 38), (LEFT, 25)), 'nonzero', BLOCK),
    'a grey void border': (numbers((BLOCK, 1), (RING, 255)), 'classes', BLOCK),
    'classes of all kinds with void': (
        numbers((BLOCK, 4), *((BLOCK & (np.arange(64) == 20 + i), i) for i in (1, 2, 3)), (RING, 255)),
        'classes',
        BLOCK,
    ),
    'void only': (palette(numbers((RING, 255)), VOC), 'classes', RING & False),
    'void only, meant as defect': (palette(numbers((RING, 255)), VOC), 'nonzero', RING),
    'white first in the palette': (palette(numbers((~BLOCK, 1)), [255] * 3 + [0] * 3), 'colours', BLOCK),
    'white first, by number': (palette(numbers((BLOCK, 1)), [255] * 3 + [0] * 3), 'nonzero', BLOCK),
    'black on nothing': (rgba((0, 0, 0), BLOCK), 'alpha', BLOCK),
    'black on nothing, no defect': (rgba((0, 0, 0), BLOCK), 'nonzero', BLOCK & False),
    '16 bit classes': (numbers((BLOCK, 300), (LEFT, 7), dtype=np.uint16), 'nonzero', BLOCK),
}


@pytest.mark.parametrize('kind', ASKED)
def test_two_readings_fit(tmp_path, kind):
    "A line that names the file and the answer, and the answer works"
    im, answer, right = ASKED[kind]
    path = saved(tmp_path, im)
    with pytest.raises(InputError, match='say which is meant') as e:
        mask_picture(path)
    assert f"'{answer}'" in str(e.value) and str(path) in str(e.value) and '\n' not in str(e.value)
    assert np.array_equal(mask_picture(path, answer)[0], right)


def test_smoothed_borders_are_cut_in_their_middle_and_it_is_said(tmp_path):
    wide = Image.fromarray(numbers((BLOCK, 255))).filter(ImageFilter.GaussianBlur(2))
    found, how = mask_picture(saved(tmp_path, wide))
    assert how == 'smoothed' and np.array_equal(found, np.asarray(wide) > 127)
    for name in ('m.jpg', 'm.webp'):
        found, how = mask_picture(saved(tmp_path, numbers((BLOCK, 255)), name, quality=80))
        assert np.array_equal(found, BLOCK), name
    with pytest.raises(InputError, match='lossy format'):
        mask_picture(saved(tmp_path, numbers((BLOCK, 200), (LEFT, 50)), 'm.jpg'))
    with pytest.raises(InputError, match='lossy format'):
        mask_picture(saved(tmp_path, numbers((BLOCK, 2), (LEFT, 1)), 'm.jpg', quality=100))


def test_a_photograph_is_no_mask(tmp_path):
    noise = np.random.default_rng(0).integers(30, 220, SHAPE).astype(np.uint8)
    for im in (noise, np.stack([noise, noise // 2, noise], -1)):
        with pytest.raises(InputError, match='is no mask'):
            mask_picture(saved(tmp_path, im))


def test_what_no_reading_fits_is_refused(tmp_path):
    rgb = np.zeros((*SHAPE, 3), np.uint8) + 255
    rgb[BLOCK] = (255, 0, 0)
    with pytest.raises(InputError, match='none of them is black'):
        mask_picture(saved(tmp_path, rgb))
    stored = rgba((255, 255, 255), BLOCK)
    stored.putalpha(0)
    with pytest.raises(InputError, match='transparent everywhere'):
        mask_picture(saved(tmp_path, stored))
    for value in (np.nan, 0.5):
        a = numbers((BLOCK, 1), (LEFT, value), dtype=np.float32)
        with pytest.raises(InputError, match='floating-point'):
            mask_picture(saved(tmp_path, a, 'm.tif'))
    with pytest.raises(InputError, match='below 0'):
        mask_picture(saved(tmp_path, numbers((BLOCK, 1), (RING, -1), dtype=np.int32), 'm.tif'))
    assert mask_picture(saved(tmp_path, numbers((BLOCK, 1), dtype=np.float32), 'm.tif'))[0].sum() == 180


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 255), min_size=35, max_size=35),
    st.sampled_from(['L', 'P', 'RGB', 'RGBA', 'LA']),
    st.sampled_from(MASK_VALUES),
)
def test_any_picture_is_read_or_refused_in_one_line(tmp_path_factory, values, mode, reading):
    path = tmp_path_factory.mktemp('any') / 'm.png'
    a = np.array(values, np.uint8).reshape(5, 7)
    im = palette(a, VOC) if mode == 'P' else Image.fromarray(a).convert(mode)
    im.save(path)
    try:
        found, how = mask_picture(path, reading)
    except InputError as e:
        assert '\n' not in str(e) and str(path) in str(e)
        return
    assert found.shape == (5, 7) and found.dtype == bool and how in ('', 'smoothed', 'void', 'mostly')
    assert not found[a == 0].any() or reading in ('alpha', 'inverted') or mode == 'P'


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_ingest_and_folder_read_alike_and_take_the_same_answer(tmp_path):
    for folder in ('camera', 'masks'):
        (tmp_path / folder).mkdir()
    for i, a in enumerate((numbers((BLOCK, 200), (LEFT, 50)), numbers((BLOCK, 255)))):
        saved(tmp_path / 'camera', np.full(SHAPE, 90 + i, np.uint8), f'{i}.png')
        saved(tmp_path / 'masks', a, f'{i}.png')
    p, source = tmp_path / 'P', f'folder:{tmp_path}/camera:{tmp_path}/masks'
    assert run('project', 'new', p, '--images', tmp_path / 'camera', '--window', 32).exit_code == 0
    first = run('ingest', p, tmp_path / 'masks')
    assert first.exit_code == 1 and '1 new, 1 refused' in first.output and '--mask-values' in first.output
    assert run('data', 'check', source).exit_code == 1
    assert run('ingest', p, tmp_path / 'masks', '--mask-values', 'nonzero').exit_code == 0
    assert run('data', 'check', source + ':nonzero').exit_code == 0
    project = open_project(p)
    assert all(np.array_equal(read_label_mask(project, id) > 0, BLOCK) for id in labels(project)['id'])
    s = load_source(source + ':nonzero')
    assert all(np.array_equal(s[i][1] > 0, BLOCK) for i in range(2))
    bad = run('ingest', p, tmp_path / 'masks', '--mask-values', 'magic')
    assert bad.exit_code and 'mask values' in bad.output


def camera(tmp_path, n=4):
    "A folder of photographs, and the project of it"
    (tmp_path / 'camera').mkdir()
    (tmp_path / 'masks').mkdir()
    for i in range(n):
        noise = np.random.default_rng(i).integers(60, 200, SHAPE).astype(np.uint8)
        saved(tmp_path / 'camera', noise, f'{i}.png')
    return tmp_path / 'P', tmp_path / 'camera', tmp_path / 'masks'


def new(p, images):
    made = run('project', 'new', p, '--images', images, '--window', 32)
    assert made.exit_code == 0, made.output
    return made.output


def taken(p):
    "Defect pixels by name"
    project = open_project(p)
    return {project.row[id]['name']: int(read_label_mask(project, id).sum()) for id in labels(project)['id']}


def test_masks_of_other_names_and_formats_are_taken(tmp_path):
    p, images, masks = camera(tmp_path)
    saved(masks, numbers((BLOCK, 255)), '0_mask.png')
    saved(masks, numbers((BLOCK, 255)), '1.jpg', quality=80)
    saved(masks, numbers((BLOCK, 255)), '2.webp', lossless=True)
    saved(masks, numbers((BLOCK, 255)), '3_gt.tif')
    (masks / 'notes.npy').write_bytes(b'x')
    new(p, images)
    r = run('ingest', p, masks)
    assert r.exit_code == 0 and '4 new' in r.output
    assert '1.jpg has smoothed borders' in r.output and 'passed over: 1 file with other endings (.npy 1)' in r.output
    assert taken(p) == {f'{i}.png': 180 for i in range(4)}
    (masks / 'notes.npy').unlink()
    r = run('data', 'check', f'folder:{images}:{masks}')
    assert r.exit_code == 0 and '4 faulty, 0 unreadable' in r.output and 'smoothed borders' in r.output


def test_masks_beside_their_images(tmp_path):
    p, images, _ = camera(tmp_path)
    for i in range(3):
        saved(images, numbers((BLOCK, 255)), f'{i}_mask.png')
    said = new(p, images)
    assert '4 images' in said and '0_mask.png is the mask of 0.png by its name (3 such files)' in said
    r = run('ingest', p, images)
    assert r.exit_code == 0 and '3 new' in r.output and 'passed over: 4 images beside the masks' in r.output
    assert taken(p) == {f'{i}.png': 180 for i in range(3)}


def test_one_mask_with_two_names_loses_no_other(tmp_path):
    p, images, masks = camera(tmp_path)
    for i in range(4):
        saved(masks, numbers((BLOCK, 255)), f'{i}.png')
    saved(masks, numbers((BLOCK, 255)), '0_gt.png')
    new(p, images)
    r = run('ingest', p, masks)
    assert r.exit_code == 0 and '4 new' in r.output
    assert taken(p) == {f'{i}.png': 180 for i in range(4)}
    saved(masks, numbers((LEFT, 255)), '0_gt.png')
    r = run('ingest', p, masks)
    assert r.exit_code == 1 and '0.png is in it 2 times with different masks' in r.output
    assert taken(p)['0.png'] == 180


TURNS = {  # by hand: what a viewer does with the stored pixels
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).T,
    8: lambda a: np.rot90(a, 1),
}


def photograph(path, shape, turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    noise = np.random.default_rng(turn).integers(60, 200, shape).astype(np.uint8)
    Image.fromarray(noise).save(path, exif=exif, quality=95)


@pytest.mark.parametrize('turn', TURNS)
def test_masks_of_turned_photographs(tmp_path, turn):
    "Turned where only the stored pixels fit; else asked, and both answers work, by ingest and by folder:"
    p, images, masks = camera(tmp_path, 0)
    photograph(images / 'a.jpg', SHAPE, turn)
    saved(masks, numbers((BLOCK, 255)), 'a.png')
    new(p, images)
    right = TURNS[turn](BLOCK)
    source = f'folder:{images}:{masks}'
    if turn < 5:
        r = run('ingest', p, masks)
        assert r.exit_code == 1 and 'EXIF orientation' in r.output and "'stored'" in r.output
        with pytest.raises(InputError, match='EXIF orientation'):
            load_source(source)[0]
        answers = dict(stored=right, upright=BLOCK)
    else:
        answers = dict(auto=right, stored=right)
    answers['nonzero+stored'] = right
    for answer, wanted in answers.items():
        r = run('ingest', p, masks, '--mask-values', answer, '--revert')
        assert r.exit_code == 0, r.output
        project = open_project(p)
        (id,) = labels(project)['id']
        assert np.array_equal(read_label_mask(project, id) > 0, wanted)
        assert np.array_equal(load_source(f'{source}:{answer}')[0][1] > 0, wanted)


def test_a_turned_mask_of_its_own_and_an_empty_one(tmp_path):
    p, images, masks = camera(tmp_path, 0)
    exif = Image.Exif()
    exif[0x0112] = 3
    for name in 'ab':
        photograph(images / f'{name}.jpg', SHAPE, 3)
    saved(masks, numbers((BLOCK, 255)), 'a.png', exif=exif)
    saved(masks, numbers(), 'b.png')
    new(p, images)
    assert run('ingest', p, masks).exit_code == 0
    project = open_project(p)
    found = {project.row[id]['name']: read_label_mask(project, id) > 0 for id in labels(project)['id']}
    assert np.array_equal(found['a.jpg'], BLOCK[::-1, ::-1]) and not found['b.jpg'].any()
    s = load_source(f'folder:{images}:{masks}')
    assert np.array_equal(s[0][1] > 0, BLOCK[::-1, ::-1]) and not s[1][1].any()
    assert run('ingest', p, masks, '--mask-values', 'stored+upright').exit_code


def test_print_colours_are_read_as_they_look(tmp_path):
    ink = np.stack([0 * BLOCK, 0 * BLOCK, 0 * BLOCK, 255 * ~BLOCK], -1).astype(np.uint8)
    path = saved(tmp_path, Image.fromarray(ink, 'CMYK'), 'm.tif')
    for reading in ('auto', 'nonzero', 'over127', 'colours'):
        assert np.array_equal(mask_picture(path, reading)[0], BLOCK)


def test_masks_elsewhere_beside_copies_of_their_images(tmp_path):
    "A folder with photographs and masks that is not the project's own: the photographs are passed over"
    p, images, _ = camera(tmp_path)
    new(p, images)
    copy = tmp_path / 'copy'
    copy.mkdir()
    for i in range(4):
        (copy / f'{i}.png').write_bytes((images / f'{i}.png').read_bytes())
    for i in range(2):
        saved(copy, numbers((BLOCK, 255)), f'{i}-mask.png')
    r = run('ingest', p, copy)
    assert r.exit_code == 0 and '2 new' in r.output and 'passed over: 4 images beside the masks' in r.output
    assert taken(p) == {'0.png': 180, '1.png': 180}


def test_a_whole_data_set_as_mvtec_has_it(tmp_path):
    "Its masks lie in a folder beside the images' folder: no images of the project, and taken as labels from there"
    rng = np.random.default_rng(0)
    for folder in ('train/good', 'test/good', 'test/crack', 'test/hole', 'ground_truth/crack', 'ground_truth/hole'):
        at = tmp_path / 'bottle' / folder
        at.mkdir(parents=True)
        for i in range(2):
            mask = folder.startswith('ground')
            a = numbers((LEFT if 'hole' in folder else BLOCK, 255)) if mask else rng.integers(60, 200, SHAPE)
            saved(at, a.astype(np.uint8), f'{i:03d}_mask.png' if mask else f'{i:03d}.png')
    p = tmp_path / 'P'
    said = new(p, tmp_path / 'bottle')
    assert '8 images' in said and '(4 such files)' in said
    wanted = {f'test/{kind}/{i:03d}.png': n for kind, n in (('crack', 180), ('hole', 90)) for i in range(2)}
    for folder in ('bottle', 'bottle/ground_truth'):
        r = run('ingest', p, tmp_path / folder)
        assert r.exit_code == 0 and ('4 new' if folder == 'bottle' else '4 same') in r.output, r.output
        assert taken(p) == wanted


def test_a_photograph_with_a_masks_name_stays_an_image(tmp_path):
    p, images, _ = camera(tmp_path, 2)
    noise = np.random.default_rng(9).integers(60, 200, SHAPE).astype(np.uint8)
    saved(images, noise, '0_label.png')
    assert '3 images' in new(p, images)


def test_the_images_alone_are_refused(tmp_path):
    p, images, _ = camera(tmp_path)
    new(p, images)
    r = run('ingest', p, images)
    assert r.exit_code == 2 and 'holds the images themselves' in r.output and not taken(p)


def test_a_mask_of_another_size_is_not_decoded_and_one_line(tmp_path):
    p, images, masks = camera(tmp_path, 2)
    saved(masks, np.zeros((9, 9), np.uint8), '0.png')
    saved(masks, numbers((BLOCK, 255)), '1.png')
    new(p, images)
    r = run('ingest', p, masks)
    assert r.exit_code == 1 and '0.png is 64 x 48 pixels, its label 9 x 9' in r.output and taken(p) == {'1.png': 180}


def test_full_size_masks_of_turned_photographs_for_windows(tmp_path):
    "Windows are cut from the mask as the photograph is shown"
    p, images, masks = camera(tmp_path, 0)
    photograph(images / 'a.jpg', (48, 64), 6)
    saved(masks, numbers((BLOCK, 255)), 'a.png')
    words = ('--images', images, '--unit', 'window', '--window', 32)
    assert run('project', 'new', p, *words).exit_code == 0
    r = run('ingest', p, masks)
    assert r.exit_code == 0, r.output
    right, project = TURNS[6](BLOCK), open_project(p)
    ids = labels(project)['id']
    assert len(ids) == len(project.units)
    for id in ids:
        y, x, h, w = (project.row[id][key] for key in 'yxhw')
        assert np.array_equal(read_label_mask(project, id) > 0, right[y : y + h, x : x + w])


def test_black_on_white_is_said_and_can_be_told(tmp_path):
    p, images, masks = camera(tmp_path)
    for i in range(4):
        saved(masks, numbers((~BLOCK, 255)), f'{i}.png')
    new(p, images)
    r = run('ingest', p, masks)
    assert r.exit_code == 0 and "more defect than background (4 such masks)" in r.output and "'inverted'" in r.output
    assert 'more defect than background' in run('data', 'check', f'folder:{images}:{masks}').output
    r = run('ingest', p, masks, '--mask-values', 'inverted')
    assert r.exit_code == 0 and '4 changed' in r.output and taken(p) == {f'{i}.png': 180 for i in range(4)}
    assert load_source(f'folder:{images}:{masks}:inverted')[0][1].sum() == 180
    for i in range(3):
        saved(masks, numbers((BLOCK, 255)), f'{i}.png')
    assert 'more defect' not in run('ingest', p, masks, '--revert').output


@pytest.mark.parametrize('packed', [False, True])
def test_pascal_voc_without_a_labelmap_is_read_as_any_mask(tmp_path, packed):
    "Grey class numbers with a void border of 255 ask, in a folder and in an archive; nothing drawn is not healthy"
    p, images, _ = camera(tmp_path, 3)
    at = tmp_path / 'voc/SegmentationClass'
    at.mkdir(parents=True)
    saved(at, numbers((BLOCK, 1), (RING, 255)), '0.png')
    saved(at, palette(numbers((BLOCK, 1), (RING, 255)), VOC), '1.png')
    saved(at, numbers(), '2.png')
    new(p, images)
    export = shutil.make_archive(str(tmp_path / 'voc'), 'zip', tmp_path / 'voc') if packed else tmp_path / 'voc'
    r = run('ingest', p, export)
    assert r.exit_code == 1 and "'classes'" in r.output and '1 new, 1 empty, 1 refused' in r.output, r.output
    assert taken(p) == {'1.png': 180}
    r = run('ingest', p, export, '--mask-values', 'classes')
    assert r.exit_code == 0 and taken(p) == {'0.png': 180, '1.png': 180}
