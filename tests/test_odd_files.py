"Files as they come from cameras, editors and colleagues, through the command line: handled, or refused in one line"

import csv, importlib.util, json, shutil

import numpy as np, pytest, typer
from PIL import Image
from typer.testing import CliRunner

from imbal_al.cli.lines import OneLine
from imbal_al.project.labelled import labels, read_mask
from imbal_al.project.store import open_project
from imbal_al.project.commands import register
from imbal_al.project.queue import as_annotations
from imbal_al.data.images import read_image
from imbal_al.data.synthetic import image

app = typer.Typer(cls=OneLine)
register(app, OneLine)
DEPLOY = all(map(importlib.util.find_spec, ('onnx', 'onnxruntime', 'huggingface_hub')))


def say(*a):
    r = CliRunner().invoke(app, [str(o) for o in a])
    assert r.exception is None or isinstance(r.exception, SystemExit), r.exception
    return r


def made(d, images, *more):
    r = say(
        'project',
        'new',
        d,
        '--images',
        images,
        '--window',
        32,
        '--steps',
        1,
        '--held-out',
        0,
        '--seed',
        1,
        *more,
    )
    assert r.exit_code == 0, r.output
    return r.output


def first(d, n=50):
    r = say('next', d, '--budget', n, '--strategy', 'random', '--device', 'cpu')
    assert r.exit_code == 0, r.output
    return {o['image']: o for o in csv.DictReader(open(d / 'rounds/001/queue/queue.csv'))}


def shown(d, o):
    return np.asarray(Image.open(d / 'rounds/001/queue/images' / o['file']))


RAMP = np.tile(np.arange(40, dtype=np.uint8) * 6, (32, 1))
COLOUR = np.stack([RAMP, 255 - RAMP, np.full_like(RAMP, 60)], -1)


@pytest.fixture
def folder(tmp_path):
    (d := tmp_path / 'images').mkdir()
    return d


@pytest.mark.parametrize(
    'kind,want,far',
    [
        ('rgba', COLOUR, 0),
        ('palette', COLOUR, 8),
        ('cmyk', COLOUR, 12),
        ('la', np.stack([RAMP] * 3, -1), 0),
        ('1', np.stack([np.where(RAMP > 127, 255, 0)] * 3, -1), 0),
        ('webp', COLOUR, 25),
        ('gif', COLOUR, 12),
    ],
)
def test_modes_reach_the_annotator_as_they_look(tmp_path, folder, kind, want, far):
    im = Image.fromarray(COLOUR)
    grey = Image.fromarray(RAMP)
    name = dict(cmyk='a.jpg', webp='a.webp', gif='a.bmp').get(kind, 'a.png')
    f = folder / name
    if kind == 'rgba':
        im.putalpha(Image.fromarray(RAMP))
        im.save(f)
    elif kind == 'palette':
        im.convert('P', palette=Image.Palette.ADAPTIVE, colors=64).save(f)
    elif kind == 'cmyk':
        im.convert('CMYK').save(f, quality=100, subsampling=0)
    elif kind == 'la':
        grey.putalpha(Image.fromarray(255 - RAMP))
        grey.save(f)
    elif kind == '1':
        grey.convert('1', dither=Image.Dither.NONE).save(f)
    elif kind == 'gif':
        im.convert('P', palette=Image.Palette.ADAPTIVE, colors=64).save(f)
    else:
        im.save(f, quality=95)
    Image.fromarray(COLOUR).save(folder / 'b.png')  # so that the project is in colour
    made(tmp_path / 'p', folder)
    q = first(tmp_path / 'p')
    a = shown(tmp_path / 'p', q[name])
    assert a.shape == want.shape and np.abs(a.astype(int) - want).max() <= far


def test_a_turned_picture_is_upright_and_so_is_its_mask(tmp_path, folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RAMP).save(folder / 'a.jpg', exif=exif, quality=100)
    d = tmp_path / 'p'
    made(d, folder)
    a = shown(d, first(d)['a.jpg'])
    assert a.shape == (40, 32) and a[0].mean() < 20 < 200 < a[-1].mean(), 'as every viewer shows it'
    m = tmp_path / 'm'
    m.mkdir()
    Image.fromarray(np.pad(np.full((4, 4), 255, np.uint8), ((0, 28), (0, 36)))).save(m / 'a.png')
    r = say('ingest', d, m)
    assert r.exit_code == 0 and '1 new' in r.output
    p = open_project(d)
    (id,) = labels(p)['id']
    of_stored = read_mask(p, id)
    assert of_stored.sum() == 16 and of_stored[:4, -4:].all(), 'drawn on the stored pixels, turned alike'
    Image.fromarray(np.pad(np.full((4, 4), 255, np.uint8), ((0, 36), (0, 28)))).save(m / 'a.png')
    assert '1 changed' in say('ingest', d, m).output and read_mask(open_project(d), id)[:4, :4].all()


@pytest.mark.parametrize('top,bits', [(4095, 12), (900, 10), (255, 8), (65535, 16), (16000, 14)])
def test_16_bit_files_use_the_bits_that_the_camera_has(tmp_path, folder, top, bits):
    for i in range(3):
        Image.fromarray(
            (RAMP.astype(np.float64) / RAMP.max() * top * (1 - 0.2 * i)).astype(np.uint16)
        ).save(folder / f'{i}.png')
    said = made(tmp_path / 'p', folder)
    p = open_project(tmp_path / 'p')
    assert (
        p.settings.bits == bits
        and p.settings.channels == 1
        and (f'{bits} of 16 bits used' in said) == (bits < 16)
    )
    a = [p.read(u) for u in p.units.to_dict('records')]
    assert (
        a[0].max() == round(255 * top / (2**bits - 1)) and a[0].max() > a[1].max() > a[2].max()
    ), 'one scale for all: a darker image stays darker'
    assert len(np.unique(a[0])) >= 38, 'no grey level is lost'


def test_an_image_with_more_bits_than_the_others_is_a_line(tmp_path, folder):
    for i in range(3):
        Image.fromarray(RAMP.astype(np.uint16) * 16).save(folder / f'{i}.png')
    d = tmp_path / 'p'
    made(d, folder)
    Image.fromarray(RAMP.astype(np.uint16) * 250).save(folder / '9.png')
    made(d, folder)
    r = say('next', d, '--budget', 4, '--strategy', 'coreset', '--device', 'cpu')
    assert (
        r.exit_code == 0
        and '9.png holds pixels up to 58500, more than 12 bits' in r.output
        and '3 units to label' in r.output
    )
    assert (
        'bits = 11'
        in say(
            'project', 'new', tmp_path / 'q', '--images', folder, '--window', 32, '--bits', 11
        ).output
        and 'made with bits 12' in say('project', 'new', d, '--images', folder, '--bits', 16).output
    )
    made(tmp_path / 'r', folder, '--bits', 16)
    assert len(first(tmp_path / 'r')) == 4


@pytest.mark.skipif(not DEPLOY, reason='pip install onnx onnxruntime to try the exported file')
def test_the_exported_file_reads_12_bits_as_the_project_does(tmp_path, folder):
    for i in range(6):
        Image.fromarray(
            image('steel', i, (32, 40), faulty=i % 2 == 0)[0].astype(np.uint16) * 16
        ).save(folder / f'{i}.png')
    d = tmp_path / 'p'
    made(d, folder)
    first(d)
    p = open_project(d)
    assert p.settings.bits == 12
    (tmp_path / 'e.json').write_text(
        json.dumps(
            as_annotations(
                json.loads((d / 'rounds/001/queue/labelstudio.json').read_text()),
                lambda id: image(
                    'steel',
                    int(p.row[id]['name'][0]),
                    (32, 40),
                    faulty=int(p.row[id]['name'][0]) % 2 == 0,
                )[1],
            )
        )
    )
    say('ingest', d, tmp_path / 'e.json')
    say('next', d, '--budget', 0, '--device', 'cpu')
    assert (
        say('export', d, tmp_path / 'm.onnx').exit_code == 0
        and '0..4095' in (tmp_path / 'm.md').read_text()
    )
    from imbal_al.project.predictor import open_model
    from imbal_al.project.state import project_windows
    from imbal_al.project.network import read_model
    from imbal_al.networks.predict import network, predict

    model = open_model(tmp_path / 'm.onnx', 1)
    assert model.meta['bits'] == 12
    a = read_image(str(folder / '0.png'), 1, model.meta['bits'])
    assert (a == p.read(p.units.iloc[0])).all() and a.max() > 100
    (z,) = model.logits([a])
    want, _ = next(
        predict(
            network(read_model(p, d / 'rounds/002/model.pt'), 'lite0', 3, 'cpu', 'fp32'),
            [a],
            project_windows(p),
        )
    )
    assert np.abs(z - want).max() < 1e-3
    assert say(
        'predict', tmp_path / 'm.onnx', folder, '--out', tmp_path / 'o'
    ).exit_code == 0 and all(not o['error'] for o in csv.DictReader(open(tmp_path / 'o/table.csv')))


def test_files_that_cannot_be_read_are_a_line_each_and_the_rest_goes_on(tmp_path, folder):
    for i in range(6):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (32, 40), dtype=np.uint8)).save(
            folder / f'{i}.png'
        )
    (folder / 'zero.png').touch()
    (folder / 'text.png').write_text('no image')
    (folder / 'half.png').write_bytes((b := (folder / '0.png').read_bytes())[: len(b) // 2])
    (folder / 'notes.txt').write_text('x')
    (folder / 'dir.png').mkdir()
    Image.fromarray(np.zeros((4, 4), np.float32)).save(folder / 'float.tif')
    Image.fromarray(np.random.default_rng(9).integers(0, 255, (32, 40), dtype=np.uint8)).save(
        folder / 'cut.jpg'
    )
    (folder / 'cut.jpg').write_bytes((b := (folder / 'cut.jpg').read_bytes())[: len(b) * 2 // 3])
    d = tmp_path / 'p'
    said = made(d, folder)
    assert (
        'zero.png is empty; it is left out' in said
        and 'text.png cannot be read as an image' in said
        and ('half.png cannot be read' in said or 'half.png is cut off' in said)
        and 'cut.jpg is cut off' in said
        and 'float.tif holds floating-point pixels; save it with 8 or 16 bits; it is left out' in said
        and 'notes.txt' not in said
        and 'Traceback' not in said
    )
    r = say('next', d, '--budget', 20, '--device', 'cpu')
    assert (
        r.exit_code == 0
        and 'float.tif' not in r.output
        and '6 units to label' in r.output
    )
    assert len(list(csv.DictReader(open(d / 'rounds/001/queue/queue.csv')))) == 6


def test_random_picks_no_image_that_cannot_be_read(tmp_path, folder):
    for i in range(4):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (32, 40), dtype=np.uint8)).save(
            folder / f'{i}.png'
        )
    Image.open(folder / '0.png').save(tmp_path / '0.jpg')
    b = (tmp_path / '0.jpg').read_bytes()
    [(folder / f'half{i}.jpg').write_bytes(b[: len(b) * 2 // 3]) for i in range(4)]
    made(tmp_path / 'p', folder)
    assert sorted(first(tmp_path / 'p', 4)) == [f'{i}.png' for i in range(4)]


def test_two_images_of_one_name_are_two(tmp_path, folder):
    for k in ('a', 'b'):
        (folder / k).mkdir()
        Image.fromarray(RAMP if k == 'a' else 255 - RAMP).save(folder / k / 'x.png')
    d = tmp_path / 'p'
    made(d, folder)
    q = first(d)
    assert sorted(q) == ['a/x.png', 'b/x.png'] and len({o['file'] for o in q.values()}) == 2
    mask = lambda n: Image.fromarray(
        np.pad(np.full((n, n), 255, np.uint8), ((0, 32 - n), (0, 40 - n)))
    )
    m = tmp_path / 'm'
    (m / 'b').mkdir(parents=True)
    mask(3).save(m / 'x.png')
    r = say('ingest', d, m)
    assert (
        r.exit_code == 2
        and 'may be a/x.png or b/x.png' in r.output
        and len(r.output.strip().splitlines()) == 1
        and not len(labels(open_project(d)))
    )
    (m / 'x.png').unlink()
    mask(5).save(m / 'b/x.png')
    assert '1 new' in say('ingest', d, m).output
    p = open_project(d)
    t = labels(p)
    assert (
        len(t) == 1
        and p.row[t['id'][0]]['name'] == 'b/x.png'
        and read_mask(p, t['id'][0]).sum() == 25
    )
    mask(4).save(m / q['a/x.png']['file'])
    assert (
        '1 new, 1 same' in say('ingest', d, m).output
    ), "the queue's own names are never ambiguous"


def test_masks_without_image_and_exports_of_another_project(tmp_path, folder):
    for i in range(3):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (32, 40), dtype=np.uint8)).save(
            folder / f'{i}.png'
        )
    d, other = tmp_path / 'p', tmp_path / 'q'
    made(d, folder)
    made(other, folder)
    first(d)
    first(other)
    m = tmp_path / 'm'
    m.mkdir()
    Image.new('L', (40, 32), 255).save(m / '17.png')
    r = say('ingest', d, m)
    assert (
        r.exit_code == 2
        and '17.png is no image of this project' in r.output
        and len(r.output.strip().splitlines()) == 1
    )
    Image.new('L', (40, 32)).save(m / '1.png')
    r = say('ingest', d, m)
    assert (
        r.exit_code == 0
        and '1 new, 1 unknown' in r.output
        and '17.png is no image of this project' in r.output
    )
    e = tmp_path / 'e.json'
    e.write_text(
        json.dumps(
            as_annotations(
                json.loads((other / 'rounds/001/queue/labelstudio.json').read_text()),
                lambda id: np.zeros((32, 40)),
            )
        )
    )
    r = say('ingest', d, e)
    assert (
        r.exit_code == 0
        and 'of another project, images known: 3 by their pictures' in r.output
        and len(labels(open_project(d))) == 3
    )
    for f in ('cvat.xml', 'coco.json'):
        shutil.copy(other / 'rounds/001/queue' / f, tmp_path / f)
        r = say('ingest', d, tmp_path / f)
        assert r.exit_code == 0 and len(labels(open_project(d))) == 3, r.output


def test_a_photograph_in_the_place_of_a_mask(tmp_path, folder):
    a = image('steel', 0, (32, 40))[0]
    Image.fromarray(a).save(folder / '0.png')
    Image.fromarray(a).save(folder / '1.png')
    d = tmp_path / 'p'
    made(d, folder)
    m = tmp_path / 'm'
    m.mkdir()
    Image.fromarray(a).save(m / '0.png')
    r = say('ingest', d, m)
    assert r.exit_code == 1 and 'is no mask' in r.output and not len(labels(open_project(d)))
