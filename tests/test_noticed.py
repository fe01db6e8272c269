"What `project new` and `data check` notice: numbers of parts, files cut off, equal pictures; labels out and in again"

import io

import numpy as np, pytest
from PIL import Image

from imbal_al.data.catalog import check_source, load_source
from imbal_al.project.intake import new
from imbal_al.project.label_files import export_labels
from imbal_al.project.labelled import labels, read_mask, write_label
from imbal_al.project.noticed import is_cut_off, parts_in
from imbal_al.project.state import is_held_out
from imbal_al.project.store import open_project
from imbal_al.project.taken import ingest
from small import png, run


NAMES = [
    ([f'part{i:03d}_cam{j}.png' for i in range(6) for j in range(3)], 'part([0-9]+)', 6),
    ([f'{i}_{side}.jpg' for i in range(6) for side in ('left', 'right')], '^([0-9]+)', 6),
    ([f'SN{i}/{j}.png' for i in range(6) for j in range(2)], 'SN([0-9]+)', 6),
    ([f'line3_tile{i}_shot{j}.png' for i in range(4) for j in range(5)], '_tile([0-9]+)', 4),
    ([f'20260110_101{i}00_board{i}-{j}.png' for i in range(4) for j in range(5)], '_board([0-9]+)', 4),
    ([f'img{i:04d}.png' for i in range(20)], None, 0),
    ([f'{i:04d}.png' for i in range(20)], None, 0),
    ([f'2026-01-{10 + i}/cam{j}.png' for i in range(4) for j in range(2)], None, 0),
    ([f'cam{j}_{i:04d}.png' for i in range(20) for j in range(1)], None, 0),
    (['a.png'], None, 0),
    (['good/a.png', 'good/b.png', 'bad/c.png'], None, 0),
]


@pytest.mark.parametrize('names, pattern, groups', NAMES)
def test_numbers_of_parts_in_names(names, pattern, groups):
    found = parts_in(names)
    assert (found.pattern if found else None) == pattern and (found.groups if found else 0) == groups


def test_what_a_new_project_says_of_parts_can_be_typed(tmp_path):
    for i in range(6):
        for j in range(2):
            png(tmp_path / f'camera/part{i}_cam{j}.png', 10 * i + j)
    said = run('project', 'new', tmp_path / 'p', '--images', tmp_path / 'camera', '--window', 32)[1]
    assert 'part0_cam0.png and part0_cam1.png' in said and "--group-by 'part([0-9]+)'" in said
    words = said.split('keep them together: `')[1].split('`')[0].replace("'", '').split()
    assert run(*words[1:])[0] == 0
    p = open_project(tmp_path / 'p')
    assert p.settings.group_by == 'part([0-9]+)'
    for i in range(6):
        assert is_held_out(p, f'part{i}_cam0.png') == is_held_out(p, f'part{i}_cam1.png')
    option = said.split('or --group-by ')[1].split("'")[1]
    args = ('--images', tmp_path / 'camera', '--window', 32, '--group-by', option)
    code, said = run('project', 'new', tmp_path / 'q', *args)
    assert code == 0 and 'numbers of parts' not in said and '6 groups' in said


@pytest.mark.parametrize('kind', ['png', 'jpeg', 'bmp', 'tiff', 'webp'])
def test_a_file_that_was_cut_off_is_named_and_taken_when_it_is_whole(tmp_path, kind):
    for i in range(3):
        png(tmp_path / f'camera/{i}.png', i)
    out = io.BytesIO()
    pixels = np.random.default_rng(9).integers(0, 255, (32, 40)).astype(np.uint8)
    Image.fromarray(pixels).save(out, kind)
    path = tmp_path / f'camera/cut.{kind}'
    path.write_bytes(out.getvalue()[: len(out.getvalue()) * 2 // 3])
    assert is_cut_off(path)
    code, said = run('project', 'new', tmp_path / 'p', '--images', tmp_path / 'camera', '--window', 32)
    assert code == 0 and f'cut.{kind}' in said and '3 images' in said
    path.write_bytes(out.getvalue())
    code, said = run('project', 'new', tmp_path / 'p', '--images', tmp_path / 'camera')
    assert code == 0 and '4 images' in said
    assert not is_cut_off(path)


def test_twins_stay_together_with_groups_too_and_data_check_names_them(tmp_path):
    for i in range(12):
        png(tmp_path / f'camera/part{i:02d}_a.png', i)
        png(tmp_path / f'camera/part{i:02d}_b.png', 100 + i)
        (tmp_path / 'masks').mkdir(exist_ok=True)
    for i in range(4):
        png(tmp_path / f'camera/part{20 + i}_a.png', i)
    args = ('--images', tmp_path / 'camera', '--window', 32, '--group-by', 'part([0-9]+)')
    code, said = run('project', 'new', tmp_path / 'p', *args)
    assert code == 0 and '4 are there under another name' in said and 'part20_a.png as part00_a.png' in said
    p = open_project(tmp_path / 'p')
    for i in range(4):
        assert is_held_out(p, f'part{20 + i}_a.png') == is_held_out(p, f'part{i:02d}_a.png')
    for path in (tmp_path / 'camera').iterdir():
        Image.new('L', (40, 32)).save(tmp_path / 'masks' / path.name)
    code, said = run('data', 'check', f"folder:{tmp_path / 'camera'}:{tmp_path / 'masks'}")
    assert code == 1 and 'no problems' not in said
    assert '4 images are the same picture as another one' in said and 'part00_a.png = part20_a.png' in said


def exif(path, pixels, turn):
    "A picture with a note that it is to be turned"
    im = Image.fromarray(pixels)
    about = im.getexif()
    about[0x0112] = turn
    im.save(path, exif=about)


def odd_mask(shape, i):
    out = np.zeros(shape, np.uint8)
    out.flat[i::29] = 1
    return out


def make_odd(folder):
    "Pictures of many kinds; all have names without a twin"
    for name in ('plain.png', 'sub/plain2.png', 'sub/deep/a b.png', 'grün.png', 'x' * 240 + '.png', 'with.dot.png'):
        png(folder / name, len(name))
    rgb = np.random.default_rng(0).integers(0, 255, (32, 40, 3)).astype(np.uint8)
    exif(folder / 'turned.jpg', rgb, 6)
    for turn in range(2, 9):
        exif(folder / f'turned{turn}.png', rgb, turn)
    Image.fromarray((rgb[..., 0].astype(np.uint16) * 16)).save(folder / 'deep.tif')
    Image.fromarray(rgb).save(folder / 'colour.bmp')


@pytest.mark.parametrize('unit', ['image', 'window'])
def test_exported_masks_are_input_of_a_study_and_of_a_project_back_to_the_pixel(tmp_path, unit):
    make_odd(tmp_path / 'camera')
    p = new(tmp_path / 'p', tmp_path / 'camera', unit=unit, window=32, overlap=0)
    want = {}
    for i, id in enumerate(p.units.id):
        u = p.row[id]
        whole = want.setdefault(u['image'], odd_mask((u['height'], u['width']), i))
        write_label(p, id, whole[u['y'] : u['y'] + u['h'], u['x'] : u['x'] + u['w']])
    export_labels(p, tmp_path / 'masks')
    source = load_source(f"folder:{tmp_path / 'camera'}:{tmp_path / 'masks'}")
    assert sorted(source.table['name']) == sorted(want)
    for i, name in enumerate(source.table['name']):
        image, mask = source[i]
        assert image.shape[:2] == mask.shape and (mask == want[name]).all(), name
    assert check_source(source)['problems'] == []
    q = new(tmp_path / 'q', tmp_path / 'camera', unit=unit, window=32, overlap=0)
    assert ingest(q, tmp_path / 'masks').counts['new'] == len(q.units)
    for id in labels(q)['id']:
        u = q.row[id]
        part = want[u['image']][u['y'] : u['y'] + u['h'], u['x'] : u['x'] + u['w']]
        assert (read_mask(q, id) == part).all()


def test_an_image_labelled_in_part_keeps_its_windows_and_says_so(tmp_path, caplog):
    for i in range(2):
        png(tmp_path / f'camera/{i}.png', i, (32, 64))
    p = new(tmp_path / 'p', tmp_path / 'camera', unit='window', window=32, overlap=0)
    for id in p.units.id[:3]:
        write_label(p, id, odd_mask((32, 32), 3))
    export_labels(p, tmp_path / 'masks')
    names = sorted(o.name for o in (tmp_path / 'masks').iterdir())
    assert len(names) == 2 and '0.png' in names and 'where they overlap: 1 image' in caplog.text
    assert ingest(p, tmp_path / 'masks').counts['same'] == 3
