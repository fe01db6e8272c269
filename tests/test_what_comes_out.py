"What comes out of a project: predictions of the pictures that are there, labels that others read, models as exported"

import csv, json, os, re, shutil, subprocess, sys
from pathlib import Path

import numpy as np, pytest, quick
from PIL import Image

from imbal_al.core import InputError
from imbal_al.project.predictor import MODEL_FORM, open_model, predict_folder
from imbal_al.text import cell_text, shown_text

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
META = dict(size=32, overlap=0, margin=0, align=32, channels=1, threshold=0.5, form=MODEL_FORM)


def write_bright(path, **changed):
    "A model in ONNX that finds what is brighter than 150"
    from onnx import TensorProto as T, helper as h

    nodes = [
        h.make_node('Cast', ['image'], ['x'], to=T.FLOAT),
        h.make_node('ReduceMean', ['x', 'axes'], ['m'], keepdims=0),
        h.make_node('Sub', ['m', 'dark'], ['d']),
        h.make_node('Div', ['d', 'ten'], ['logit']),
    ]
    values = [
        h.make_tensor('axes', T.INT64, [1], [3]),
        h.make_tensor('dark', T.FLOAT, [], [150.0]),
        h.make_tensor('ten', T.FLOAT, [], [10.0]),
    ]
    shape = ['windows', 32, 32, 1]
    graph = h.make_graph(
        nodes,
        'bright',
        [h.make_tensor_value_info('image', T.UINT8, shape)],
        [h.make_tensor_value_info('logit', T.FLOAT, shape[:3])],
        values,
    )
    model = h.make_model(graph, opset_imports=[h.make_opsetid('', 18)], ir_version=8)
    h.set_model_props(model, {'imbal_al': json.dumps({**META, **changed})})
    onnx.save(model, str(path))
    return path


def photo(path, *corners, size=(40, 50)):
    "A dark picture with 4 x 4 bright pixels at each corner"
    im = np.full(size, 90, np.uint8)
    for y, x in corners:
        im[y : y + 4, x : x + 4] = 220
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'wb') as f:
        Image.fromarray(im).save(f, 'png')
    return im > 150


def call(*args, rc=0):
    "The command as a user gives it: (lines said, lines of errors)"
    done = quick.command(*args)
    out, err = done.stdout, done.stderr
    assert done.returncode == rc and 'Traceback' not in err, (done.returncode, out, err)
    return out, err


def table(out):
    with open(out / 'table.csv', newline='', encoding='utf-8') as f:
        return {row['image']: row for row in csv.DictReader(f)}


def masks(out):
    return sorted(path.relative_to(out / 'masks').as_posix() for path in (out / 'masks').rglob('*.png'))


@pytest.fixture
def model(tmp_path):
    return write_bright(tmp_path / 'm.onnx')


@pytest.fixture
def day(tmp_path):
    "A picture with a defect, one without, one that is broken, one in a folder"
    photos = tmp_path / 'photos'
    photo(photos / 'a.png', (3, 3))
    photo(photos / 'b.png')
    photo(photos / 'sub/c.png', (3, 3), (20, 20))
    (photos / 'broken.png').write_bytes((photos / 'a.png').read_bytes()[:60])
    return photos


def test_predict_again_tells_of_the_pictures_that_are_there(model, day, tmp_path):
    out = tmp_path / 'found'
    call('predict', model, day, '--out', out)
    first = table(out)
    assert [first[name]['defect_pixels'] for name in ('a.png', 'b.png', 'sub/c.png')] == ['16', '0', '32']
    assert first['broken.png']['error']
    kept = (out / 'masks/b.png').stat().st_mtime_ns
    changed = photo(day / 'a.png', (9, 9), (9, 20), (30, 30))
    repaired = photo(day / 'broken.png', (12, 12))
    (day / 'sub/c.png').unlink()
    photo(day / 'new.png', (1, 1))
    _, said = call('predict', model, day, '--out', out)
    assert '1 image gone' in said and '2 images changed since' in said
    now = table(out)
    assert {name: row['defect_pixels'] for name, row in now.items()} == {
        'a.png': '48',
        'b.png': '0',
        'broken.png': '16',
        'new.png': '16',
    }
    assert not any(row['error'] for row in now.values())
    assert masks(out) == ['a.png', 'b.png', 'broken.png', 'new.png']
    for name, truth in (('a', changed), ('broken', repaired)):
        assert ((np.asarray(Image.open(out / f'masks/{name}.png')) > 0) == truth).all()
        assert (out / f'overlays/{name}.jpg').is_file()
    assert not (out / 'overlays/sub/c.jpg').exists()
    assert (out / 'masks/b.png').stat().st_mtime_ns == kept


def test_a_picture_of_the_same_size_and_time_is_another_one_by_its_bytes(model, tmp_path):
    opened, photos, out = open_model(model), tmp_path / 'p', tmp_path / 'o'
    (photos).mkdir()
    for name, value in (('a.bmp', 90), ('b.bmp', 220)):
        Image.fromarray(np.full((32, 32), value, np.uint8)).save(photos / name)
        os.utime(photos / name, (10**9, 10**9))
    predict_folder(opened, photos, out)
    os.rename(photos / 'a.bmp', tmp_path / 'x')
    os.rename(photos / 'b.bmp', photos / 'a.bmp')
    os.rename(tmp_path / 'x', photos / 'b.bmp')
    predict_folder(opened, photos, out)
    assert {name: row['defect_pixels'] for name, row in table(out).items()} == {
        'a.bmp': '1024',
        'b.bmp': '0',
    }


def test_a_mask_that_was_removed_is_made_again(model, day, tmp_path):
    opened, out = open_model(model), tmp_path / 'o'
    predict_folder(opened, day, out)
    (out / 'masks/a.png').unlink()
    predict_folder(opened, day, out)
    assert (np.asarray(Image.open(out / 'masks/a.png')) > 0).sum() == 16


def test_a_picture_that_comes_beside_one_of_its_name_takes_no_mask_of_it(model, day, tmp_path):
    opened, out = open_model(model), tmp_path / 'o'
    predict_folder(opened, day, out)
    photo(day / 'a.jpg', (1, 1), (9, 9), (20, 20))
    photo(day / 'a.png.jpg', (1, 1), (9, 9), (20, 20), (30, 30))
    predict_folder(opened, day, out)
    assert masks(out) == ['a.jpg.png', 'a.png.jpg.png', 'a.png.png', 'b.png', 'sub/c.png']
    for name, pixels in (('a.png', 16), ('a.jpg', 48), ('a.png.jpg', 64)):
        mask = np.asarray(Image.open(out / f'masks/{name}.png'))
        assert (mask > 0).sum() == pixels == int(table(out)[name]['defect_pixels'])


def test_our_own_output_is_no_input(model, day, tmp_path):
    for _ in range(2):
        call('predict', model, day, '--out', day / 'found')
    call('predict', model, day, '--out', tmp_path / 'other')
    for out in (day / 'found', tmp_path / 'other'):
        assert set(table(out)) == {'a.png', 'b.png', 'broken.png', 'sub/c.png'}
    from imbal_al.project.intake import new

    assert set(new(tmp_path / 'P', day, window=32, overlap=0).units['image']) == {
        'a.png',
        'b.png',
        'sub/c.png',
    }
    for inside in ('found', 'found/masks'):
        _, said = call('predict', model, day / inside, '--out', tmp_path / 'x', rc=2)
        assert 'results of `imbal-al predict`' in said and len(said.splitlines()) == 1


def test_a_second_one_at_work_in_a_folder_is_refused(model, day, tmp_path):
    out = tmp_path / 'o'
    hold = (
        'import sys, time; from imbal_al.runs.lock import held\n'
        f'with held({str(out / "lock.json")!r}): print("mine", flush=True); time.sleep(60)'
    )
    first = subprocess.Popen([sys.executable, '-c', hold], stdout=subprocess.PIPE)
    try:
        assert first.stdout.readline() == b'mine\n'
        _, said = call('predict', model, day, '--out', out, rc=2)
        assert f'held by process {first.pid}' in said and not (out / 'table.part.csv').exists()
    finally:
        first.kill()
        first.wait()
    call('predict', model, day, '--out', out)
    assert len(table(out)) == 4 and not list(out.glob('lock*'))


def test_a_folder_that_was_moved_goes_on_and_another_one_is_refused(model, day, tmp_path):
    out = tmp_path / 'photos-found'
    call('predict', model, day)
    before = (out / 'masks/a.png').stat().st_mtime_ns
    (tmp_path / 'archive').mkdir()
    day, out = (shutil.move(path, tmp_path / 'archive') for path in (day, out))
    call('predict', model, day)
    out = Path(out)
    assert (out / 'masks/a.png').stat().st_mtime_ns == before and len(table(out)) == 4
    other = tmp_path / 'other'
    for name in ('a.png', 'b.png', 'sub/c.png', 'broken.png'):
        photo(other / name, (5, 5), (5, 15))
    _, said = call('predict', model, other, '--out', out, rc=2)
    assert 'another model, folder or kind' in said


def test_what_a_killed_one_left_is_swept(model, day, tmp_path):
    out = tmp_path / 'o'
    call('predict', model, day, '--out', out)
    left = [out / '.table.csv.0123abcd.tmp', out / 'masks/sub/.c.png.89abcdef.tmp']
    for path in left:
        path.write_bytes(b'half')
    call('predict', model, day, '--out', out)
    assert not any(path.exists() for path in left)


ODD = ['a\u2028b.png', 'two\nlines.png', 'cr\rx.png', 'tab\t.png', '"q".png', 'é.png', 'y' * 245 + '.png']


def test_names_of_all_kinds_have_a_row_and_a_mask(model, tmp_path):
    photos, out = tmp_path / 'p', tmp_path / 'o'
    for name in ODD:
        photo(photos / name, (3, 3))
    photo(photos / os.fsdecode(b'gr\xfcn.png'), (3, 3))
    plain = [name for name in ODD if not re.search(r'[\x00-\x1f\x7f-\x9f]', name)]
    for _ in range(2):
        _, said = call('predict', model, photos, '--out', out)
        assert said.count('rename it; it is left out') == len(ODD) - len(plain) + 1
        rows = table(out)
        assert set(rows) == set(plain)
        assert {row['defect_pixels'] for row in rows.values()} == {'16'}
        assert len(masks(out)) == len(plain)


def test_cells_that_a_spreadsheet_would_run_are_text(model, tmp_path):
    photos, out = tmp_path / 'p', tmp_path / 'o'
    names = ['=cmd()+1.png', '+1.png', '-1.png', '@x.png', "'q.png", 'plain.png']
    for name in names:
        photo(photos / name, (3, 3))
    for _ in range(2):
        call('predict', model, photos, '--out', out)
        cells = set(table(out))
        assert cells == {"'" + name for name in names[:-1]} | {'plain.png'}
        assert masks(out) == sorted(names)


def test_text_of_anybody():
    assert shown_text('\x1b]0;x\x07') == r'\x1b]0;x\x07' and shown_text('\x9b1m') == r'\x9b1m'
    assert shown_text('👩\u200d👩') == '👩\u200d👩' and shown_text('\u2067x') == r'\u2067x'
    assert [cell_text(value) for value in ('-2', '+3.5', '-2+3', '=', '1')] == ['-2', '+3.5', "'-2+3", "'=", '1']


@pytest.fixture
def labelled(tmp_path):
    "A project with four labels, one of them healthy, and their masks"
    from imbal_al.project.intake import new
    from imbal_al.project.labelled import write_label

    camera, truth = tmp_path / 'camera', {}
    for name, corners in {
        'a.png': [(3, 3), (20, 21)],
        'sub/b.png': [(0, 0), (28, 36)],
        'sub/deep/c.png': [],
        'd.png': [(7, 9)],
    }.items():
        truth[name] = photo(camera / name, *corners, size=(32, 40))
    p = new(tmp_path / 'P', camera, window=32, overlap=0)
    for id, unit in p.row.items():
        write_label(p, id, truth[unit['name']])
    return p, truth


def by_column(counts, shape):
    "COCO's run lengths, by its definition"
    flat = [i % 2 for i, n in enumerate(counts) for _ in range(n)]
    return np.array(flat).reshape(shape[::-1]).T


def test_labels_as_coco_are_such_as_trainers_take(labelled, tmp_path):
    p, truth = labelled
    call('project', 'labels', p.dir, tmp_path / 'l.json', '--form', 'coco')
    file = json.loads((tmp_path / 'l.json').read_text())
    name = {im['id']: im['file_name'] for im in file['images']}
    assert sorted(name.values()) == sorted(truth) and [o['name'] for o in file['categories']] == ['defect']
    assert sorted(name[o['image_id']] for o in file['annotations']) == ['a.png', 'd.png', 'sub/b.png']
    for o in file['annotations']:
        mask = truth[name[o['image_id']]]
        ys, xs = np.nonzero(mask)
        assert (by_column(o['segmentation']['counts'], (32, 40)) == mask).all()
        assert o['iscrowd'] == 0 and o['area'] == mask.sum() and o['category_id'] == 1
        assert o['bbox'] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
    from imbal_al.project.taken import ingest

    assert dict(ingest(p, tmp_path / 'l.json').counts) == dict(same=4)


def test_pycocotools_gives_the_masks_back(labelled, tmp_path):
    coco = pytest.importorskip('pycocotools.coco', reason='pip install pycocotools')
    p, truth = labelled
    from imbal_al.project.label_files import export_labels

    export_labels(p, tmp_path / 'l.json', 'coco')
    file = coco.COCO(tmp_path / 'l.json')
    for image in file.loadImgs(file.getImgIds()):
        found = file.loadAnns(file.getAnnIds(image['id'], iscrowd=False))
        mask = sum((file.annToMask(o) for o in found), np.zeros((32, 40), int))
        assert (mask == truth[image['file_name']]).all()


def test_masks_are_called_as_their_images_and_our_own_folder_reads_them(labelled, tmp_path):
    from imbal_al.data.sources import folder_source

    p, truth = labelled
    out = tmp_path / 'out'
    for _ in range(2):
        call('project', 'labels', p.dir, out)
    there = sorted(path.relative_to(out).as_posix() for path in out.rglob('*') if path.is_file())
    assert there == sorted(truth)
    source = folder_source(p.images, out)
    for i, name in enumerate(source.table['name']):
        assert (source[i][1] == truth[name]).all()
    said, _ = call('data', 'check', f'folder:{p.images}:{out}')
    assert 'no problems' in said or 'ok' in said.lower()


def test_masks_never_take_the_place_of_pictures(labelled, tmp_path):
    p, _ = labelled
    before = (p.images / 'a.png').read_bytes()
    shutil.copytree(p.images, tmp_path / 'copy')
    for to, says in ((p.images, 'where the images are'), (p.images / 'sub', 'where the images are'),
                     (tmp_path / 'copy', 'is no mask')):
        _, said = call('project', 'labels', p.dir, to, rc=2)
        assert says in said and len(said.splitlines()) == 1
    assert (p.images / 'a.png').read_bytes() == before == (tmp_path / 'copy/a.png').read_bytes()


def test_labels_without_a_name_of_their_own_come_back_by_their_id(tmp_path):
    from imbal_al.project.intake import new
    from imbal_al.project.label_files import export_labels
    from imbal_al.project.labelled import write_label
    from imbal_al.project.taken import ingest

    long = 'y' * 240
    for name in ('s/x.png', 's/x.bmp', f'{long}.png'):
        (tmp_path / 'i' / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((64, 64), 90, np.uint8)).save(tmp_path / 'i' / name)
    for i, unit in enumerate(('image', 'window')):
        p = new(tmp_path / f'p{i}', tmp_path / 'i', unit=unit, window=32, overlap=0)
        for id in p.row:
            mask = np.zeros((p.row[id]['h'], p.row[id]['w']), int)
            mask[1:5, 2:9] = 1
            write_label(p, id, mask)
        for form, to in dict(png='m', coco='c.json', cvat='c.xml', labelstudio='l.json').items():
            n = export_labels(p, tmp_path / f'o{i}' / to, form)
            assert n == len(p.units) == ingest(p, tmp_path / f'o{i}' / to).counts['same']
        files = len(list((tmp_path / f'o{i}/m').rglob('*.png')))
        # The windows of the long name become one mask; of two images x a window each keeps its own
        assert files == {'image': 3, 'window': 4 + 4 + 1}[unit]


def sealed(path):
    "The same model with its checksum"
    from imbal_al.project.predictor import BLANK, seal_model

    write_bright(path, sha256=BLANK)
    seal_model(path)
    return path


def test_a_flipped_bit_anywhere_is_said(tmp_path, model):
    path = sealed(tmp_path / 's.onnx')
    assert open_model(path).meta == open_model(model).meta, 'one without a checksum still opens'
    whole, bad = path.read_bytes(), tmp_path / 'bad.onnx'
    for at in range(0, len(whole), 3):
        bad.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        with pytest.raises(InputError, match='bad.onnx') as e:
            open_model(bad)
        assert '\n' not in str(e.value)
    for short in (0, 1, 100, len(whole) - 1):
        bad.write_bytes(whole[:short])
        with pytest.raises(InputError):
            open_model(bad)


CHANGED = [
    dict(size=64), dict(size='32'), dict(size=None), dict(size=-32), dict(size=2**62), dict(size=33),
    dict(overlap=32), dict(overlap=1.5), dict(margin=9), dict(align=0), dict(align=True),
    dict(channels=3), dict(channels=2), dict(channels='1'), dict(channels=[1]), dict(threshold=2),
    dict(threshold=float('nan')), dict(threshold='0.5'), dict(threshold=None), dict(threshold=True),
    dict(bits=11), dict(bits='8'), dict(form='imbal_al model 9'), dict(form=None), dict(sha256='x'),
    dict(sha256='0' * 64), dict(sha257='0' * 64),
]


@pytest.mark.parametrize('changed', CHANGED, ids=str)
def test_changed_metadata_is_one_line(tmp_path, changed):
    with pytest.raises(InputError, match='m.onnx') as e:
        open_model(write_bright(tmp_path / 'm.onnx', **changed))
    assert '\n' not in str(e.value)


def test_changed_metadata_of_a_sealed_model_is_one_line(tmp_path, day):
    path = sealed(tmp_path / 's.onnx')
    file = onnx.load(str(path))
    meta = json.loads(file.metadata_props[0].value)
    for text in (json.dumps({**meta, 'threshold': 0.2}), '[]', '{', '[' * 9999, '', '"a"'):
        onnx.helper.set_model_props(file, {'imbal_al': text})
        onnx.save(file, str(path))
        with pytest.raises(InputError, match='s.onnx'):
            open_model(path)
    _, said = call('predict', path, day, '--out', tmp_path / 'o', rc=2)
    assert len(said.splitlines()) == 1 and not (tmp_path / 'o').exists()


def test_what_is_written_is_sealed(tmp_path):
    pytest.importorskip('torch')
    from imbal_al.networks.device import seeded
    from imbal_al.networks.models import create_model
    from imbal_al.networks.tiling import Windows
    from imbal_al.project.model_file import write_onnx

    with seeded(0):
        net = create_model(weights=None).eval()
    path = tmp_path / 'm.onnx'
    write_onnx(net, path, Windows(32, 0), 1)
    whole = path.read_bytes()
    assert open_model(path).meta['threshold'] == 0.5 and 'sha256' not in open_model(path).meta
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(whole), 12):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(InputError, match='checksum differs|no model of this|damaged'):
            open_model(path)


@pytest.fixture(scope='module')
def trained_once(tmp_path_factory):
    "A project with a trained round and held-out labels of both kinds"
    from imbal_al.project.intake import new
    from imbal_al.project.labelled import write_label
    from imbal_al.project.rounds import next_round

    folder = tmp_path_factory.mktemp('trained')
    for i in range(16):
        path = folder / f'line/{i:02d}.png'
        photo(path, *[(8, 8)] * (i % 2), size=(32, 40))
        pixels = np.array(Image.open(path))
        pixels[0, 0] = i  # Equal pictures would be one group, held out together
        Image.fromarray(pixels).save(path)
    p = new(folder / 'T', folder / 'line', window=32, overlap=0, steps=1, bs=2, weights=None, held_out=0.5, seed=1)
    for id, unit in p.row.items():
        write_label(p, id, np.asarray(Image.open(p.images / unit['image'])) > 150)
    next_round(p, 0, device='cpu')
    return p


@pytest.fixture
def trained(trained_once, tmp_path):
    "A copy of it"
    from imbal_al.project.store import open_project

    return open_project(shutil.copytree(trained_once.dir, tmp_path / 'T'))


def test_a_network_no_better_than_none_is_said(trained, tmp_path):
    p, path = trained, tmp_path / 'm.onnx'
    said, warned = call('export', p.dir, path, '--threshold', '0')
    assert 'no better than calling every pixel a defect' in warned and 'threshold 0' in said
    assert 'Warning: this network is no better' in path.with_suffix('.md').read_text()
    assert 'no better' in open_model(path).meta['warning']
    _, again = call('predict', path, p.images, '--out', tmp_path / 'o')
    assert 'no better than calling every pixel a defect' in again


def test_a_damaged_guidance_is_not_none(trained, tmp_path):
    from imbal_al.project.deploy import export

    p = trained
    guide = p.dir / 'guide.json'
    for text in ('{', '[]', '{}', '{"form": "imbal_al costs 1"}', '{"form": "imbal_al costs 2"}', ''):
        guide.write_text(text)
        with pytest.raises(InputError, match='guide.json is damaged'):
            export(p, tmp_path / 'm.onnx')
    for command in (('export', p.dir, tmp_path / 'm.onnx'), ('next', p.dir, '--budget', '0')):
        _, said = call(*command, rc=2)
        assert 'guide.json is damaged' in said and not (tmp_path / 'm.onnx').exists()
    guide.unlink()
    call('export', p.dir, tmp_path / 'm.onnx')


def test_an_export_takes_the_place_of_nothing_and_sweeps(trained, tmp_path):
    p = trained
    (tmp_path / 'README.md').write_text('mine')
    _, said = call('export', p.dir, tmp_path / 'README.onnx', rc=2)
    assert 'no card of ours' in said and (tmp_path / 'README.md').read_text() == 'mine'
    _, said = call('export', p.dir, tmp_path / 'm.md', rc=2)
    assert 'name of the card' in said
    left, other = tmp_path / '.m.onnx.0123abcd.tmp', tmp_path / '.x.onnx.0123abcd.tmp'
    left.touch()
    other.touch()
    for _ in range(2):
        call('export', p.dir, tmp_path / 'm.onnx')
    assert not left.exists() and other.exists() and not list(tmp_path.glob('.m.onnx*'))


def test_names_are_shown_as_text_on_the_terminal(model, tmp_path):
    bad = '\x1b]0;owned\x07\x1b[31m.png'
    (tmp_path / 'i').mkdir()
    (tmp_path / 'i' / bad).write_bytes(b'none')
    photo(tmp_path / 'i/ok.png')
    said = call('project', 'new', tmp_path / 'P', '--images', tmp_path / 'i', '--window', '32')
    said += call('predict', tmp_path / ('x\x1b[2J.onnx'), tmp_path / 'i', rc=2)
    masks = tmp_path / 'm'
    photo(masks / '\x1b[31mno.png')
    said += call('ingest', tmp_path / 'P', masks, rc=2)
    for text in said:
        assert '\x1b' not in text and '\x07' not in text
    assert r'\x1b]0;owned\x07' in said[1] and r'x\x1b[2J.onnx' in said[3]


@pytest.mark.parametrize(
    'error,says',
    [
        (OSError(28, 'No space left on device', '/d/x'), '/d/x cannot be used: No space left'),
        (OSError(122, 'Disk quota exceeded'), 'Disk quota exceeded'),
        (MemoryError(), 'out of memory'),
        (OSError(12, 'Cannot allocate memory'), 'out of memory'),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), 'out of memory'),
        (RuntimeError('PytorchStreamWriter failed writing file data/0: file write failed'), 'cannot write the network'),
        (PermissionError(13, 'Permission denied', '/d/y'), '/d/y cannot be used'),
    ],
    ids=str,
)
def test_what_the_machine_lacks_is_one_line(model, day, tmp_path, monkeypatch, error, says):
    from typer.testing import CliRunner
    from imbal_al.cli import app
    from imbal_al.project import predictor, state

    def lack(*args, **named):
        raise error

    monkeypatch.setattr(predictor, 'predict_folder', lack)
    monkeypatch.setattr(state, 'rounds', lack)
    (tmp_path / 'P').mkdir()
    from imbal_al.project.intake import new

    new(tmp_path / 'Q', day, window=32, overlap=0)
    for args in (['predict', model, day], ['project', 'status', tmp_path / 'Q']):
        result = CliRunner().invoke(app, [str(a) for a in args])
        assert result.exit_code == 2 and says in result.output and len(result.output.splitlines()) == 1


def test_other_errors_are_not_hidden(model, day, monkeypatch):
    from typer.testing import CliRunner
    from imbal_al.cli import app
    from imbal_al.project import predictor

    monkeypatch.setattr(predictor, 'predict_folder', lambda *a, **k: [][1])
    assert isinstance(CliRunner().invoke(app, ['predict', str(model), str(day)]).exception, IndexError)


def test_a_full_disk_is_one_line(model, tmp_path):
    "A limit on the size of files stands for the end of the disk"

    photos = tmp_path / 'p'
    rng = np.random.default_rng(0)
    photos.mkdir()
    Image.fromarray(rng.integers(0, 256, (300, 300), dtype=np.uint8)).save(photos / 'a.png')
    code = (
        'import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); '
        'resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)); '
        'from imbal_al.cli import main; main()'
    )
    done = subprocess.run(
        [sys.executable, '-B', '-c', code, 'predict', model, photos, '--out', tmp_path / 'o'],
        capture_output=True,
        text=True,
        env=dict(os.environ, PYTHONPATH=str(Path(__file__).parent.parent)),
    )
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and 'File too large' in done.stderr
    assert not list((tmp_path / 'o').rglob('*.tmp')) and not (tmp_path / 'o/table.csv').exists()
    call('predict', model, photos, '--out', tmp_path / 'o')
    assert len(table(tmp_path / 'o')) == 1


def test_a_report_asks_nothing_of_the_network():
    from imbal_al.results.report import _head, _markdown

    text = 'a ![x](http://h/x.png) [y](http://h) <http://h> ![z][r] <img src=http://h>\n\n[r]: http://h/z.png\n'
    page = _markdown(text + '\n|a|\n|-|\n|![x](http://h/x.png)|\n')
    assert '<img' not in page and '<a ' not in page and 'href' not in page and '<table>' in page
    assert "default-src 'none'; img-src data:;" in _head('t')
