import io, json, os, pickle, signal, socket, subprocess, sys, threading, time, zipfile
from dataclasses import replace
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np, pandas as pd, pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from imbal_al.data import sources as S
from imbal_al.data import catalog
from imbal_al.data import public_sets
from imbal_al.core import InputError
from imbal_al.data.masks import coco_counts, read_mask
from imbal_al.data.catalog import (
    check_source, list_data, load_source, _patch_counts, report_lines,
)
from imbal_al.data.sources import DATA_SETS, data_root, folder_source
from imbal_al.data.patches import open_store
from imbal_al.data.images import WINDOW, crop, dark_edge, read_image
from imbal_al.data.magnetic_tiles import _defect_windows, _second_view, _split_tiles, _tile_groups
from imbal_al.data.download import get_data, _unpack
from imbal_al.data.public_sets import flip_groups


def refuses(*words):
    "An InputError of one line that holds every word"

    class Check:
        def __enter__(self):
            return self

        def __exit__(self, kind, e, tb):
            assert kind is not None and issubclass(kind, InputError), f'no InputError but {e!r}'
            assert '\n' not in str(e) and all(o in str(e) for o in words), str(e)
            return True

    return Check()


def save(path, a, **kw):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    (a if isinstance(a, Image.Image) else Image.fromarray(np.asarray(a, np.uint8))).save(path, **kw)
    return str(path)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path_factory.mktemp('cache')))


def known(monkeypatch, name, **facts):
    "Other facts of a data set, for one test"
    monkeypatch.setitem(DATA_SETS, name, replace(DATA_SETS[name], **facts))


@cache
def loaded(name):
    "A data set that several tests look at"
    return load_source(name)


def real(name):
    "The data set at IMBAL_AL_DATA; skips where it is not"
    try:
        return loaded(name)
    except InputError as e:
        pytest.skip(str(e)[:80])


# ---------------------------------------------------------------- images

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20


@pytest.mark.parametrize('mode', ['1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'CMYK', 'I;16', 'I'])
@pytest.mark.parametrize('channels', [1, 3])
def test_every_mode_becomes_uint8(tmp_path, mode, channels):
    im = (
        Image.fromarray(GREY.astype(np.uint16) * 257)
        if mode == 'I;16'
        else (
            Image.fromarray(GREY.astype(np.int32) * 257)
            if mode == 'I'
            else Image.fromarray(GREY).convert(mode)
        )
    )
    p = save(tmp_path / ('a.tif' if mode in ('CMYK', 'I') else 'a.png'), im)
    a = read_image(p, channels)
    assert (
        a.dtype == np.uint8
        and a.shape == ((3, 4) if channels == 1 else (3, 4, 3))
        and a.flags.writeable
    )
    want = np.where(GREY > 127, 255, 0) if mode == '1' else GREY
    if mode != '1':
        assert np.abs((a if channels == 1 else a[..., 0]).astype(int) - want).max() <= 1


def test_16_bit_uses_its_full_range(tmp_path):
    p = save(
        tmp_path / 'a.png', Image.fromarray(np.array([[0, 128, 129, 32768, 65535]], np.uint16))
    )
    assert read_image(p, 1).tolist() == [[0, 0, 1, 128, 255]]


def test_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    p = save(tmp_path / 'a.jpg', np.zeros((8, 16)), exif=exif)
    assert read_image(p, 1).shape == (16, 8)


@pytest.mark.parametrize('ending', ['png', 'jpg', 'bmp', 'tif'])
def test_truncated_file(tmp_path, ending):
    p = Path(save(tmp_path / f'a.{ending}', np.random.default_rng(0).integers(0, 256, (64, 64))))
    p.write_bytes(p.read_bytes()[: p.stat().st_size // 2])
    with refuses(str(p)):
        read_image(str(p), 1)


@pytest.mark.parametrize(
    'content', [b'', b'hello', b'\x89PNG\r\n\x1a\n', b'BM', b'\xff\xd8\xff\xe0']
)
def test_no_image(tmp_path, content):
    p = tmp_path / 'a.png'
    p.write_bytes(content)
    with refuses(str(p)):
        read_image(str(p))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 255))
def test_damaged_png_never_leaks_another_error(tmp_path_factory, at, value):
    p = tmp_path_factory.getbasetemp() / 'damaged.png'
    data = bytearray(Path(save(p, np.arange(256).reshape(16, 16))).read_bytes())
    data[at % len(data)] = value
    p.write_bytes(bytes(data))
    try:
        assert read_image(str(p), 1).ndim == 2
    except InputError as e:
        assert str(p) in str(e)


def test_missing_folder_and_bomb(tmp_path, monkeypatch):
    with refuses('a.png', 'missing'):
        read_image(str(tmp_path / 'a.png'))
    with refuses(str(tmp_path)):
        read_image(str(tmp_path))
    p = save(tmp_path / 'b.png', np.zeros((64, 64)))
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
    with refuses('b.png', 'above the limit of 1,000', 'IMBAL_AL_MAX_PIXELS'):
        read_image(p)


def test_float_pixels_are_refused(tmp_path):
    with refuses('a.tif', 'floating-point'):
        read_image(save(tmp_path / 'a.tif', Image.fromarray(np.ones((2, 2), np.float32))))


# ---------------------------------------------------------------- masks


def test_mask_of_another_size_and_unknown_decoder(tmp_path):
    p = save(tmp_path / 'm.png', np.zeros((3, 4)))
    with refuses(p, '4 x 3', '3 x 4'):
        read_mask(p, 'nonzero', (4, 3))
    with refuses("unknown mask decoder 'magic'", 'nonzero'):
        read_mask(p, 'magic', (3, 4))
    with refuses('gone.png'):
        read_mask(str(tmp_path / 'gone.png'), 'over127', (3, 4))


def test_palette_mask_counts_indices_not_colours(tmp_path):
    im = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    im = im.convert('P')
    im.putpalette([255, 255, 255, 0, 0, 0, 9, 9, 9])
    im.putdata([0, 1, 2])
    assert read_mask(save(tmp_path / 'm.png', im), 'nonzero', (1, 3)).tolist() == [[0, 1, 1]]


def test_alpha_is_no_defect(tmp_path):
    p = save(
        tmp_path / 'm.png', Image.fromarray(np.array([[[0, 0, 0, 255], [0, 9, 0, 255]]], np.uint8))
    )
    assert read_mask(p, 'nonzero', (1, 2)).tolist() == [[0, 1]]


def slow_runs(text, shape):
    flat = np.zeros(shape[0] * shape[1], np.uint8)
    v = list(map(int, text.split()))
    for s, n in zip(v[::2], v[1::2]):
        flat[s - 1 : s - 1 + n] = 1
    return flat.reshape(shape, order='F')


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.data())
def test_run_lengths_round_trip(h, w, data):
    m = np.array(
        data.draw(st.lists(st.integers(0, 1), min_size=h * w, max_size=h * w)), np.uint8
    ).reshape(h, w)
    edges = np.flatnonzero(np.diff(np.r_[0, m.reshape(-1, order='F'), 0]))
    text = ' '.join(f'{a+1} {b-a}' for a, b in zip(edges[::2], edges[1::2]))
    if not text:
        return
    assert (slow_runs(text, (h, w)) == m).all() and (
        read_mask(f'f::i::{text}', 'runs', (h, w)) == m
    ).all()


@pytest.mark.parametrize(
    'text',
    [
        '1',
        '1 2 3',
        '0 1',
        '-1 3',
        '7 1',
        '6 2',
        '1 0',
        '1 -1',
        '1 2 2 1',
        '3 1 3 1',
        'a b',
        '1.5 2',
        '1 99999999999999999999',
        '9223372036854775807 1',
        '2 9223372036854775807',
        '1 1;',
        ';1 1',
    ],
)
def test_bad_run_lengths_name_file_and_image(text):
    with refuses('train.csv', 'x.jpg'):
        read_mask(f'train.csv::x.jpg::{text}', 'runs', (2, 3))


def test_touching_runs_and_overlapping_classes_are_fine():
    assert read_mask('f::i::1 2 3 1;2 2', 'runs', (2, 3)).sum() == 3


def pack(counts):
    "COCO's packed string, written from its description"
    out = ''
    for i, c in enumerate(counts):
        x, more = c - (counts[i - 2] if i > 2 else 0), True
        while more:
            bits, x = x & 31, x >> 5
            more = not (x == 0 and not bits & 16 or x == -1 and bits & 16)
            out += chr(48 + bits + 32 * more)
    return out


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=30))
def test_coco_string_round_trip(counts):
    assert coco_counts(pack(counts)).tolist() == counts


def coco(masks, size=(4, 6)):
    return '_annotations.coco.json::a.jpg::' + json.dumps(dict(size=list(size), masks=masks))


def test_coco_string_and_list_agree():
    a = read_mask(coco([dict(size=[4, 6], counts=[5, 3, 10, 6])]), 'coco', (4, 6))
    b = read_mask(coco([dict(size=[4, 6], counts=pack([5, 3, 10, 6]))]), 'coco', (4, 6))
    assert a.sum() == 9 and (a == b).all() and a.reshape(-1, order='F')[5:8].all()


@pytest.mark.parametrize(
    'masks',
    [
        [dict(size=[4, 6], counts=[5, 3])],
        [dict(size=[4, 6], counts=[30, -6])],
        [dict(size=[6, 4], counts=[24])],
        [dict(size=[4, 6], counts='Q')],
        [dict(size=[4, 6], counts='~')],
        [dict(size=[4, 6], counts='\u00e9')],
        [dict(counts=[24])],
        [dict(size=[4, 6], counts=[1e400])],
        [[[0, 0, 1]]],
        [[['a', 'b']]],
        [[[0, 0, float('nan'), 1, 2, 2]]],
        [[7]],
        [3],
    ],
)
def test_bad_coco_masks_name_file_and_image(masks):
    with refuses('_annotations.coco.json', 'a.jpg'):
        read_mask(coco(masks), 'coco', (4, 6))


def test_coco_of_another_size():
    with refuses('a.jpg', '[6, 4]', '[4, 6]'):
        read_mask(coco([[[0, 0, 1, 0, 1, 1]]]), 'coco', (6, 4))


@pytest.mark.parametrize('text', ['0 0.1', '0 1.5 0.5', '0 x y', '0', '0 -0.5 0', '0 nan 0'])
def test_bad_contours(tmp_path, text):
    p = tmp_path / '000.txt'
    p.write_text(text)
    with refuses('000.txt', 'line 1'):
        read_mask(str(p), 'yolo', (4, 4))


def test_contour_of_one_or_two_points(tmp_path):
    p = tmp_path / '000.txt'
    p.write_text('0 0 0\n0 0.5 0.5 0.75 0.5\n')
    assert read_mask(str(p), 'yolo', (4, 4)).tolist() == [
        [1, 0, 0, 0],
        [0, 0, 0, 0],
        [0, 0, 1, 1],
        [0, 0, 0, 0],
    ]


def test_bad_matlab_file(tmp_path):
    (tmp_path / '001.mat').write_bytes(b'nonsense')
    with refuses('001.mat'):
        read_mask(str(tmp_path / '001.mat'), 'cfd', (2, 2))


# ---------------------------------------------------------------- readers


def severstal(root, csv, names=('a.jpg', 'b.jpg')):
    for o in names:
        save(root / 'severstal' / 'train_images' / o, np.full((256, 1600), 99))
    (root / 'severstal' / 'train.csv').write_text(csv)


def test_severstal_both_forms_agree(tmp_path):
    severstal(tmp_path / 'new', 'ImageId,ClassId,EncodedPixels\nb.jpg,1,1 256\nb.jpg,3,513 10\n')
    severstal(
        tmp_path / 'old',
        'ImageId_ClassId,EncodedPixels\na.jpg_1,\na.jpg_2,\nb.jpg_1,1 256\nb.jpg_3,513 10\n',
    )
    for o in ('new', 'old'):
        s = load_source('severstal', tmp_path / o)
        assert (
            list(s.table['name']) == ['a.jpg', 'b.jpg']
            and s.table['mask'][0] == ''
            and s.drop == 'dark_edge'
            and s.channels == 1
        )
        im, m = s[1]
        assert im.shape == (256, 1600) and m[:, 0].all() and m.sum() == 266 and m[:10, 2].all()


def test_severstal_bad(tmp_path):
    severstal(tmp_path, 'ImageId,ClassId,EncodedPixels\nc.jpg,1,1 256\n')
    with refuses('c.jpg', 'train.csv'):
        load_source('severstal', tmp_path)
    severstal(tmp_path, 'some,thing\n1,2\n')
    with refuses('train.csv', 'EncodedPixels'):
        load_source('severstal', tmp_path)
    (tmp_path / 'severstal' / 'train.csv').write_bytes(b'')
    with refuses('train.csv'):
        load_source('severstal', tmp_path)
    (tmp_path / 'severstal' / 'train.csv').unlink()
    with refuses('train.csv', 'missing'):
        load_source('severstal', tmp_path)


def test_dark_edge_boundary():
    a = np.full((256, 1600), 200, np.uint8)
    a[:, :31] = 5
    assert not dark_edge(a)
    a[:, 31] = 5
    assert dark_edge(a) and dark_edge(np.stack([a] * 3, -1))
    a[0, 31] = 255
    assert not dark_edge(a)
    assert not dark_edge(np.full((4, 4, 3), (0, 0, 30), np.uint8)) and dark_edge(
        np.full((4, 4, 3), (0, 0, 15), np.uint8)
    )


def test_dark_edge_images_are_counted_but_not_cut(tmp_path):
    severstal(tmp_path, 'ImageId,ClassId,EncodedPixels\nb.jpg,1,1 256\n')
    save(tmp_path / 'severstal' / 'train_images' / 'c.png', np.zeros((256, 1600)))
    r = check_source(load_source('severstal', tmp_path))
    assert (r['images'], r['dropped'], r['patches'], r['faulty_patches']) == (3, 1, 8, 1)
    assert any('12,568' in o for o in r['problems'])


def roboflow(root, kind, n=4):
    for folder in ('train', 'valid', 'test'):
        at = root / 'potato' / folder
        images, annotations = [], []
        for i in range(n):
            name = f'leaf{i//2}_jpg.rf.{folder}{i}.jpg'
            m = np.zeros((512, 512), np.uint8)
            if i:
                m[:10, : 20 * i] = i
            save(at / name, np.full((512, 512, 3), 100))
            images.append(dict(id=i, file_name=name, width=512, height=512))
            if kind == 'mask':
                save(at / name.replace('.jpg', '_mask.png'), m)
            elif i:
                annotations.append(
                    dict(
                        id=i, image_id=i, segmentation=[[0, 0, 20 * i, 0, 20 * i, 10, 0, 10]]
                    )
                )
        if kind == 'coco':
            (at / '_annotations.coco.json').write_text(
                json.dumps(dict(images=images, annotations=annotations, categories=[]))
            )
        else:
            (at / '_classes.csv').write_text('Pixel Value, Class\n0, background\n1, blight\n')


def test_roboflow_exports_agree(tmp_path):
    masks = {}
    for kind in ('mask', 'coco'):
        roboflow(tmp_path / kind, kind)
        s = load_source('potato', tmp_path / kind)
        assert (
            len(s) == 12
            and set(s.table['split']) == {'train', 'val', 'test'}
            and s.table['group'].nunique() == 2
        )
        assert all(o.startswith('leaf') and '.rf.' not in o for o in s.table['group'])
        masks[kind] = np.stack([s[i][1] for i in range(len(s))])
    assert list(s.table['name']) == sorted(s.table['name']) and s.table['name'][0].startswith(
        'test/'
    )
    assert (masks['mask'] == masks['coco']).all() and masks['mask'].sum() == 3 * 10 * 20 * (
        1 + 2 + 3
    )


def test_roboflow_torn_groups_are_reported(tmp_path):
    roboflow(tmp_path, 'mask')
    assert any(
        '2 groups lie in more than one split' in o
        for o in check_source(load_source('potato', tmp_path))['problems']
    )


def test_roboflow_bad(tmp_path):
    roboflow(tmp_path, 'coco')
    at = tmp_path / 'potato' / 'train'
    p = at / '_annotations.coco.json'
    d = json.loads(p.read_text())
    save(at / 'extra.jpg', np.zeros((512, 512, 3)))
    with refuses('extra.jpg', 'not listed'):
        load_source('potato', tmp_path)
    (at / 'extra.jpg').unlink()
    p.write_text(
        json.dumps(
            {**d, 'images': d['images'] + [dict(id=99, file_name='gone.jpg', width=1, height=1)]}
        )
    )
    with refuses('gone.jpg', 'missing'):
        load_source('potato', tmp_path)
    p.write_text(
        json.dumps(
            {
                **d,
                'annotations': d['annotations']
                + [dict(id=9, image_id=77, segmentation=[[0, 0, 1, 1, 2, 2]])],
            }
        )
    )
    with refuses('_annotations.coco.json', '77'):
        load_source('potato', tmp_path)
    p.write_text(
        json.dumps(
            {**d, 'annotations': [dict(id=9, image_id=1, bbox=[0, 0, 1, 1], segmentation=[])]}
        )
    )
    with refuses('without a segmentation'):
        load_source('potato', tmp_path)
    for text in ('{', '[]', '{"images":3}', '\x00'):
        p.write_text(text)
        with refuses('_annotations.coco.json'):
            load_source('potato', tmp_path)


def test_roboflow_mask_missing(tmp_path):
    roboflow(tmp_path, 'mask')
    next((tmp_path / 'potato' / 'valid').glob('*_mask.png')).unlink()
    with refuses('has no mask'):
        load_source('potato', tmp_path)


def test_cfd_ignores_images_without_truth(tmp_path):
    from scipy.io import savemat

    truth = np.empty((1, 1), dtype=[('Segmentation', 'O')])
    truth[0, 0]['Segmentation'] = np.array([[1, 2], [3, 4]], np.uint16)
    (tmp_path / 'cfd' / 'groundTruth').mkdir(parents=True)
    savemat(tmp_path / 'cfd' / 'groundTruth' / '001.mat', dict(groundTruth=truth))
    for o in ('001', '201'):
        save(tmp_path / 'cfd' / 'image' / f'{o}.jpg', np.zeros((2, 2, 3)))
    s = load_source('cfd', tmp_path)
    assert len(s) == 1 and s[0][1].tolist() == [[0, 1], [0, 1]]


def test_kolektor_blocks_twins_and_torn_split(tmp_path):
    def item(split, n, text=''):
        save(
            tmp_path / 'kolektorsdd' / 'Datasets' / 'images' / split / f'{n:03}.jpg',
            np.zeros((8, 8)),
        )
        p = tmp_path / 'kolektorsdd' / 'Datasets' / 'labels' / split / f'{n:03}.txt'
        p.parent.mkdir(parents=True, exist_ok=True)
        p.write_text(text)

    for n in (5, 7, 8, 148):
        item('train', n)
    item('val', 16, '0 0 0 0.5 0.5 0 0.5')
    t = load_source('kolektorsdd', tmp_path).table
    assert (
        list(t['group']) == ['0', '0', '1', '0', '2']
        and list(t['split']) == ['train'] * 4 + ['val']
        and (t['mask'] != '').sum() == 1
    )
    item('val', 9)
    assert set(load_source('kolektorsdd', tmp_path).table['split']) == {''}


def surface(home, folder, part, mask, ending='.png'):
    save(home / folder / f'{part}.jpg', np.full((4, 5), 90))
    save(home / folder / f'{part}_label{ending}', np.asarray(mask))


def test_kolektor_masks_of_the_mirror(tmp_path):
    home = tmp_path / 'mirror' / 'data' / 'KolektorSDD'
    surface(home, 'kos01', 'Part0', np.eye(4, 5), '.bmp')
    surface(home, 'kos26', 'Part0', np.eye(4, 5), '.bmp')
    surface(home, 'kos27', 'Part7', np.zeros((4, 5)), '.bmp')
    (tmp_path / 'mirror' / 'train.py').write_text('not wanted')
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as z:
        for path in sorted((tmp_path / 'mirror').rglob('*.*')):
            z.write(path, Path('Unet-50cf572a') / path.relative_to(tmp_path / 'mirror'))
    root = tmp_path / 'data'
    r = get_data('kolektorsdd_masks', root, archive=tmp_path / 'a.zip')
    assert r['check']['problems'] == ['3 images, expected 280 (counted here) or 399 (the complete set, as published)']
    assert not (root / 'kolektorsdd_masks' / 'train.py').exists()
    s = load_source('kolektorsdd_masks', root)
    assert list(s.table['group']) == ['kos01', 'kos01', 'kos27']
    assert [int(s[i][1].sum()) for i in range(3)] == [4, 4, 0]


def test_kolektor_masks_incomplete_or_double(tmp_path):
    home = tmp_path / 'kolektorsdd_masks'
    surface(home, 'kos01', 'Part0', np.eye(4, 5))
    surface(home, 'kos01', 'Part1', np.eye(4, 5))
    (home / 'kos01' / 'Part1_label.png').unlink()
    with refuses('Part1.jpg', 'has no mask', '(1 such images)'):
        load_source('kolektorsdd_masks', tmp_path)
    surface(home, 'data/kos01', 'Part0', np.eye(4, 5))
    with refuses('kos01/Part0', 'remove one'):
        load_source('kolektorsdd_masks', tmp_path)
    with refuses('kolektorsdd_masks', 'data get kolektorsdd_masks'):
        load_source('kolektorsdd_masks', tmp_path / 'elsewhere')


def strips(home, *names):
    for name in names:
        save(home / f'{name}.png', np.full((32, 64), 90))


def test_aitex_as_its_archives_hold_it(tmp_path, caplog):
    home = tmp_path / 'aitex'
    strips(home / 'Defect_images', '0001_002_00', '0044_019_04', '0100_025_08')
    strips(home / 'NoDefect_images', '2306881-210020u/0000_000_01', '2306894-210033u/0000_000_00')
    a, b = np.zeros((2, 32, 64))
    a[3, 5], b[31, 63] = 255, 255
    for name, mask in (('0001_002_00_mask', a), ('0044_019_04_mask1', a), ('0044_019_04_mask2', b)):
        save(home / 'Mask_images' / f'{name}.png', mask)
    s = load_source('aitex', tmp_path)
    assert len(s) == 4 and s.table['group'].nunique() == 4
    assert [int(s[i][1].sum()) for i in range(4)] == [1, 2, 0, 0]
    assert np.argwhere(s[1][1]).tolist() == [[3, 5], [31, 63]]
    assert '0100_025_08.png has no mask; it is left out' in caplog.text
    assert check_source(s, patch=(32, 32))['problems'] == []
    store = open_store(s, 32, root=tmp_path / 'cache')
    assert store.table['faulty'].tolist() == [1, 0, 1, 1, 0, 0, 0, 0]
    save(home / 'Mask_images' / '0044_019_04_mask2.png', a)
    again = open_store(load_source('aitex', tmp_path), 32, root=tmp_path / 'cache')
    assert again.table['faulty'].tolist() == [1, 0, 1, 0, 0, 0, 0, 0], 'one file of a union changed'
    save(home / 'Mask_images' / '0044_019_04_mask2.png', a[:16])
    with refuses('0044_019_04_mask2.png', '64 x 16'):
        load_source('aitex', tmp_path)[1]
    strips(home / 'Mask_images', '0044_019_05_mask')
    with refuses('0044_019_05_mask.png', 'of no image'):
        load_source('aitex', tmp_path)
    strips(home / 'Mask_images', 'odd')
    with refuses('odd.png', 'NAME_mask.png'):
        load_source('aitex', tmp_path)
    with refuses('afid', 'archive FILE.zip'):
        get_data('aitex', tmp_path / 'new')


def test_mtsdd_groups_with_and_without_the_table(tmp_path):
    assert _tile_groups(['a_num_1.jpg', 'a_num_401.jpg', 'a_num_802.jpg']) == {
        'a_num_1.jpg': '0',
        'a_num_401.jpg': '0',
        'a_num_802.jpg': '1',
    }
    with refuses('a.jpg', '_num_NUMBER'):
        _tile_groups(['a.jpg'])
    names = ['exp1_num_10', 'exp2_num_100', 'exp1_num_900']
    for o, k in zip(names, ('Free', 'Crack', 'Free')):
        for e in ('jpg', 'png'):
            save(
                tmp_path / 'mtsdd' / f'MT_{k}' / 'Imgs' / f'{o}.{e}',
                np.full((4, 4), 128 if k == 'Crack' else 127),
            )
    s = load_source('mtsdd', tmp_path)
    g = dict(zip(s.table['name'], s.table['group']))
    assert (
        g['MT_Crack/Imgs/exp2_num_100.jpg']
        == g['MT_Free/Imgs/exp1_num_10.jpg']
        != g['MT_Free/Imgs/exp1_num_900.jpg']
    )
    assert [s[i][1].sum() for i in range(3)] == [16, 0, 0] and set(s.table['kind']) == {
        'Crack',
        'Free',
    }
    (tmp_path / 'mtsdd' / 'TILE_GROUPS.tsv').write_text('exp1_num_10.jpg\t7\n')
    with refuses('TILE_GROUPS.tsv', 'exp1_num_900.jpg'):
        load_source('mtsdd', tmp_path)


def potato_leaf(root, n, seed=0):
    rng = np.random.default_rng(seed)
    for i in range(n):
        save(
            root
            / 'potato_leaf'
            / 'potato'
            / 'train'
            / 'Late blight'
            / 'images'
            / f'Late_blight_{i}.JPG',
            np.kron(rng.integers(0, 256, (4, 4)), np.ones((8, 8))),
        )
        save(
            root
            / 'potato_leaf'
            / 'potato'
            / 'train'
            / 'Late blight'
            / 'masks'
            / f'Late_blight_{i}_pseudo.png',
            np.zeros((32, 32, 3)),
        )


def test_potato_leaf_groups_copies_in_the_complete_set(tmp_path, monkeypatch):
    potato_leaf(tmp_path, 3)
    at = tmp_path / 'potato_leaf' / 'potato' / 'train' / 'Late blight'
    Image.open(at / 'images' / 'Late_blight_0.JPG').transpose(Image.Transpose.ROTATE_90).save(
        at / 'images' / 'Late_blight_2.JPG'
    )
    load = lambda: public_sets._potato_leaf(tmp_path, subset=2).table['group']
    g = load()
    assert (
        g[0] == g[2] != g[1] and load_source('potato_leaf', tmp_path).table['group'].nunique() == 3
    )
    monkeypatch.setattr(public_sets, 'flip_groups', lambda *a: pytest.fail('not kept in the cache'))
    assert list(load()) == list(g)
    for o in (Path(os.environ['XDG_CACHE_HOME'])).rglob('*.json'):
        o.write_text('{')
    monkeypatch.setattr(public_sets, 'flip_groups', flip_groups)
    assert list(load()) == list(g)


def test_order_does_not_depend_on_the_file_system(tmp_path, monkeypatch):
    potato_leaf(tmp_path, 12)
    a = load_source('potato_leaf', tmp_path).table
    walk = os.walk
    monkeypatch.setattr(
        os, 'walk', lambda *k, **kw: ((at, dirs, names[::-1]) for at, dirs, names in walk(*k, **kw))
    )
    pd.testing.assert_frame_equal(a, load_source('potato_leaf', tmp_path).table)
    assert list(a['name']) == sorted(a['name'])


def test_two_images_with_one_name(tmp_path):
    potato_leaf(tmp_path, 1)
    at = tmp_path / 'potato_leaf' / 'potato' / 'train' / 'Late blight' / 'images'
    save(at / 'Late_blight_0.png', np.zeros((32, 32)))
    with refuses('Late_blight_0.JPG', 'Late_blight_0.png'):
        load_source('potato_leaf', tmp_path)


@pytest.mark.parametrize('name', DATA_SETS)
def test_missing_data_set_says_where_and_how(tmp_path, name):
    with refuses(f"data set '{name}' not found in {tmp_path}", f'imbal-al data get {name}'):
        load_source(name, tmp_path)


@pytest.mark.parametrize('name', DATA_SETS)
def test_empty_data_set(tmp_path, name):
    for o in (
        'SD-saliency-900/Source Images',
        'SD-saliency-900/Ground truth',
        'potato',
        'image',
        'groundTruth',
        'Datasets/images',
        'Datasets/labels',
        'train_images',
        'train',
        'test',
        'Defect_images',
        'Mask_images',
        'NoDefect_images',
    ):
        (tmp_path / (DATA_SETS[name].folder or name) / o).mkdir(parents=True)
    for o in {o.below for o in DATA_SETS.values() if o.below}:
        for part in ('train', 'val'):
            [
                (tmp_path / 'dibe' / o / f'{part}_{k}').mkdir(parents=True)
                for k in ('dataset', 'label')
            ]
    if name == 'severstal':
        (tmp_path / name / 'train.csv').write_text('ImageId,ClassId,EncodedPixels\n')
    with refuses('no image found in'):
        load_source(name, tmp_path)


@pytest.mark.parametrize(
    'name',
    [
        'sd901',
        '',
        'severstal:3',
        'folder',
        'folder:a',
        'folder:a:b:c:d:e',
        'synthetic:x',
        'synthetic:0',
        'synthetic_steel:1:0',
        'synthetic:1:1:1:1',
        '../sd900',
    ],
)
def test_bad_names(name):
    with refuses():
        load_source(name)


def test_sources_pickle_and_list():
    s = load_source('synthetic_steel:5:32')
    t = pickle.loads(pickle.dumps(s))
    pd.testing.assert_frame_equal(s.table, t.table)
    d = list_data()
    assert {*DATA_SETS} <= set(d['name']) and (
        d[d['name'].isin(DATA_SETS)][['licence', 'cite', 'url']] != ''
    ).all().all()


def test_data_root_order(tmp_path, monkeypatch):
    (tmp_path / 'x' / 'data').mkdir(parents=True)
    (tmp_path / 'x' / 'nbs').mkdir()
    monkeypatch.chdir(tmp_path / 'x' / 'nbs')
    monkeypatch.setenv('IMBAL_AL_DATA', 'data')
    assert data_root() == tmp_path / 'x' / 'data' and data_root(tmp_path) == tmp_path
    monkeypatch.delenv('IMBAL_AL_DATA')
    assert data_root() == Path(os.environ['XDG_CACHE_HOME']) / 'imbal_al' / 'data'


def test_synthetic_image_and_mask_come_from_one_draw():
    for kind, ch in (('cells', 1), ('steel', 1), ('leaves', 3)):
        s = load_source(f'synthetic_{kind}:12:64:3')
        shares = []
        for i in range(len(s)):
            im, m = s[i]
            shares.append(m.any())
            assert (
                im.shape == ((64, 64) if ch == 1 else (64, 64, 3))
                and m.shape == (64, 64)
                and set(np.unique(m)) <= {0, 1}
            )
        assert 0 < sum(shares) < 12
        im[:] = 0
        assert s[11][0].any()
        assert read_image(s.table['image'][0], 1).shape == (64, 64) and read_image(
            s.table['image'][0], 3
        ).shape == (64, 64, 3)


# ---------------------------------------------------------------- folders


def test_folder_nested_and_suffix(tmp_path):
    for o in ('x/a', 'y/a', 'b'):
        save(tmp_path / 'im' / f'{o}.jpg', np.zeros((4, 4, 3)))
    for o in ('x/a', 'y/a_label', 'b_mask'):
        save(tmp_path / 'ma' / f'{o}.png', np.full((4, 4), 255 * (o != 'x/a')))
    save(tmp_path / 'im' / '.checkpoints' / 'c.jpg', np.zeros((4, 4)))
    save(tmp_path / 'im' / '._b.jpg', np.zeros((4, 4)))
    s = load_source(f"folder:{tmp_path/'im'}:{tmp_path/'ma'}")
    assert (
        list(s.table['name']) == ['b.jpg', 'x/a.jpg', 'y/a.jpg']
        and [s[i][1].sum() for i in range(3)] == [16, 0, 16]
        and s.channels == 3
    )


def test_folder_bad(tmp_path):
    im, ma = tmp_path / 'im', tmp_path / 'ma'
    im.mkdir()
    ma.mkdir()
    with refuses('no image found', str(im)):
        folder_source(im, ma)
    with refuses('gone', 'not a folder'):
        folder_source(tmp_path / 'gone', ma)
    save(im / 'a.png', np.zeros((4, 4)))
    with refuses('a.png', 'has no mask'):
        folder_source(im, ma)
    with refuses('has no mask'):
        load_source(f'folder:{im}:{ma}')
    assert load_source(f'folder:{im}:{ma}:healthy').table['mask'][0] == ''
    save(ma / 'a.png', np.zeros((4, 4)))
    save(ma / 'a_mask.png', np.zeros((4, 4)))
    with refuses('a.png', 'a_mask.png', 'both masks'):
        folder_source(im, ma)
    (ma / 'a_mask.png').unlink()
    save(im / 'a.jpg', np.zeros((4, 4)))
    with refuses('a.jpg', 'a.png', 'one name'):
        folder_source(im, ma)
    with refuses('mask decoder'):
        folder_source(im, ma, 'what')
    (im / 'a.jpg').unlink()
    with refuses('regular expression'):
        folder_source(im, ma, group='(')


def test_folder_groups_and_class_numbers(tmp_path):
    for o in ('tile1_a', 'tile1_b', 'tile2_a', 'odd'):
        save(tmp_path / f'{o}.png', np.zeros((2, 2)))
        save(tmp_path / f'{o}_gt.png', [[0, 50], [99, 200]])
    s = folder_source(tmp_path, tmp_path, 'nonzero', group=r'(tile\d)')
    assert list(s.table['group']) == ['odd.png', 'tile1', 'tile1', 'tile2'] and s[0][1].sum() == 3
    with refuses('odd_gt.png', 'nonzero', 'over127'):
        folder_source(tmp_path, tmp_path)[0]


# ---------------------------------------------------------------- windows


def at_windows(tmp_path, *boxes, **kw):
    "One image of 6x8 pixels, each pixel's value its place, a defect in two corners; a row per window"
    a = np.arange(48).reshape(6, 8)
    m = np.zeros((6, 8))
    m[0, 0] = m[5, 6:] = 255
    t = pd.DataFrame(
        [
            dict(
                name=f'{i}',
                image=save(tmp_path / 'a.png', a),
                mask=save(tmp_path / 'm.png', m),
                decoder='over127',
                group='0',
                split='',
                **dict(zip(WINDOW, o)),
            )
            for i, o in enumerate(boxes)
        ]
    )
    return S.Source('made', t, channels=1), a.astype(np.uint8), m > 0


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(-20, 20),
    st.integers(-20, 20),
    st.integers(1, 25),
    st.integers(1, 25),
)
def test_crop_is_padding_by_reflection(H, W, y, x, h, w):
    a = np.arange(H * W).reshape(H, W)
    if y >= H or x >= W or y + h <= 0 or x + w <= 0:
        with refuses('outside an image'):
            crop(a, (y, x, h, w))
        return
    want = np.pad(a, 64, mode='reflect')[64 + y : 64 + y + h, 64 + x : 64 + x + w]
    assert (crop(a, (y, x, h, w)) == want).all() and (
        crop(np.stack([a] * 3, -1), (y, x, h, w))[..., 1] == want
    ).all()


def test_a_window_cuts_image_and_mask_alike(tmp_path):
    s, a, m = at_windows(tmp_path, (1, 2, 3, 4), (-2, -3, 6, 8), (4, 4, 4, 8))
    for i, (y, x, h, w) in enumerate([(1, 2, 3, 4), (-2, -3, 6, 8), (4, 4, 4, 8)]):
        big = lambda o: np.pad(o, 8, mode='reflect')[8 + y : 8 + y + h, 8 + x : 8 + x + w]
        im, mask = s[i]
        assert (im == big(a)).all() and (mask == big(m)).all()
    assert (
        s[1][1].sum() == 1 and s[2][1].sum() == 3
    ), 'the corner pixel is the mirror itself; the row of two lies at 5, 6 and mirrors once more at 8'


@pytest.mark.parametrize(
    'box,word',
    [
        ((0, 0, 0, 4), 'window of 0x4'),
        ((0, 0, 4, -1), '4x-1'),
        ((0, 0, 4), 'no whole window'),
        (('a', 0, 4, 4), 'no whole window'),
        ((0, None, 4, 4), 'no whole window'),
        ((6, 0, 4, 4), 'outside an image'),
        ((0, -9, 4, 9), 'outside an image'),
    ],
)
def test_bad_windows_are_one_line(tmp_path, box, word):
    s, *_ = at_windows(tmp_path, box)
    with refuses(word):
        s[0]
    r = check_source(s)
    assert r['unreadable'] == 1 and len(r['problems']) == 1 and word in r['problems'][0]


def test_check_counts_windows_not_images(tmp_path):
    s, *_ = at_windows(tmp_path, (0, 0, 3, 4), (3, 4, 3, 4), (0, 4, 3, 4))
    r = check_source(s, patch=(3, 4))
    assert (
        r['images'],
        r['faulty_images'],
        r['pixels'],
        r['defect_pixels'],
        r['patches'],
        r['sizes'],
    ) == (3, 2, 36, 3, 3, {'4x3': 3}) and '3 windows' in report_lines(r)[0]


@settings(max_examples=60, deadline=None)
@given(st.integers(8, 60), st.integers(8, 60), st.integers(0, 9), st.integers(0, 10**6))
def test_windows_hold_every_defect_pixel(H, W, n, seed):
    rng = np.random.default_rng(seed)
    m = np.zeros((H, W), np.uint8)
    m[rng.integers(0, H, n), rng.integers(0, W, n)] = 1
    ws, seen = _defect_windows(m, 16), np.zeros((H, W), bool)
    for y, x in ws:
        for o, side in ((y, H), (x, W)):
            assert o == -((16 - side) // 2) if side < 16 else 0 <= o <= side - 16
        new = (
            m[max(y, 0) : y + 16, max(x, 0) : x + 16]
            & ~seen[max(y, 0) : y + 16, max(x, 0) : x + 16]
        )
        assert new.any(), 'a window for nothing'
        seen[max(y, 0) : y + 16, max(x, 0) : x + 16] = True
        y2, x2 = _second_view(m, (y, x), 16, 2)
        assert crop(m, (y2, x2, 16, 16)).any()
        if (y2, x2) != (y, x):
            assert (
                m[max(y2, 0) : y2 + 16, max(x2, 0) : x2 + 16].sum()
                >= m[max(y, 0) : y + 16, max(x, 0) : x + 16].sum()
            )
    assert seen[m > 0].all() and len(ws) <= n and ws == _defect_windows(m, 16)


def test_tiles_are_dealt_whole_and_near_the_wish():
    rng = np.random.default_rng(0)
    for k in (3, 10, 16, 17, 120):
        n = rng.integers(1, 13, k)
        want = int(0.6 * n.sum())
        part = _split_tiles(n, rng.integers(0, 900, k), want)
        assert part.shape == (k,) and abs(n[part].sum() - want) <= (0 if k > 9 else 6)
    assert _split_tiles([5, 5, 5], [0, 0, 0], 5, [0, 0, -1]).tolist() == [
        False,
        False,
        True,
    ] and _split_tiles([5, 5], [0, 0], 0, [1, -1]).tolist() == [True, False]


def magnetic(root, kinds=('Blowhole', 'Crack', 'Free'), shape=(300, 260), tiles=4):
    for j, kind in enumerate(kinds):
        for t in range(tiles):
            for i in range(2):
                m = np.zeros(shape)
                m[150:154, 100 : 110 + i] = 255 * (kind != 'Free')
                at = root / 'mtsdd' / f'MT_{kind}' / 'Imgs' / f'exp{i}_num_{t*3000+j*1000+i}'
                save(f'{at}.jpg', np.random.default_rng((j, t, i)).integers(0, 256, shape))
                save(f'{at}.png', m)


def test_mtsdd_windows_without_the_real_images(tmp_path):
    magnetic(tmp_path)
    b, e = (load_source(f'mtsdd_{o}', tmp_path).table for o in ('blowhole', 'extreme'))
    assert (
        (b['view'] == 1).sum() == 8
        and (b['view'] == 2).sum() == 8
        and set(b['kind']) == {'Blowhole'}
        and len(e) == 24
        and set(e['view']) == {1}
    )
    assert (
        (e.groupby('group')['split'].nunique() == 1).all()
        and set(e['split']) <= {'train', 'val'}
        and list(b['name']) == sorted(b['name'])
        and b['name'].is_unique
    )
    both = {**dict(zip(b['group'], b['split']))}
    assert all(both.get(g, o) == o for g, o in zip(e['group'], e['split']))
    pd.testing.assert_frame_equal(b, load_source('mtsdd_blowhole', tmp_path).table)


def test_mtsdd_windows_bad(tmp_path):
    magnetic(tmp_path, ('Free',), tiles=1)
    with refuses('no image found'):
        load_source('mtsdd_crack', tmp_path)
    assert len(load_source('mtsdd_extreme', tmp_path)) == 2
    magnetic(tmp_path, ('Crack',), tiles=1)
    p = next((tmp_path / 'mtsdd' / 'MT_Crack' / 'Imgs').glob('*.jpg'))
    p.write_bytes(b'no image')
    with refuses(p.name, 'cannot be read'):
        load_source('mtsdd_crack', tmp_path)


def test_cfd_is_split_by_number(tmp_path):
    from scipy.io import savemat

    truth = np.empty((1, 1), dtype=[('Segmentation', 'O')])
    truth[0, 0]['Segmentation'] = np.ones((2, 2), np.uint16)
    (tmp_path / 'cfd' / 'groundTruth').mkdir(parents=True)
    for i in range(1, 119):
        savemat(tmp_path / 'cfd' / 'groundTruth' / f'{i:03}.mat', dict(groundTruth=truth))
        save(tmp_path / 'cfd' / 'image' / f'{i:03}.jpg', np.zeros((2, 2, 3)))
    t = load_source('cfd', tmp_path).table
    assert list(t['split']) == ['train'] * 60 + ['val'] * 58 and t['name'][59] == '060.jpg'


# ---------------------------------------------------------------- the layout of KLIVIS/DIBE


def dibe(root, folder='THC112', side=112, n=12, order=sorted, first=0, tail='_112', val=3):
    "A made-up folder; the labels are random, so that each is its own"
    stems, rng = [f'img_{first+i}' for i in range(n)], np.random.default_rng(0)
    for part, names in (('train', stems), ('val', [f'img_{i}' for i in range(val)])):
        at = {o: root / 'dibe' / folder / f'{part}_{o}{tail}' for o in ('dataset', 'label')}
        masks = {o: rng.integers(0, 2, (side, side)) * 255 for o in names}
        for o in names:
            save(at['dataset'] / f'{o}.png', rng.integers(0, 256, (side, side, 3)))
            save(at['label'] / f'{o}.png', masks[o])
        if part == 'val':
            continue
        for i, o in enumerate(order(stems)):
            for k, c in enumerate(('filp', 'Contrast', 'Brightness', 'Saturation')):
                name = f'{n+1+4*i+k}_{c}.png'
                save(at['dataset'] / name, np.full((side, side, 3), k))
                save(at['label'] / name, masks[o][:, ::-1] if k == 0 else masks[o])
    return root / 'dibe' / folder


def test_dibe_split_and_copies(tmp_path):
    dibe(tmp_path)
    s = load_source('thc112', tmp_path)
    c = load_source('thc112:copies', tmp_path)
    assert (
        len(s) == 15
        and s.table['split'].value_counts().to_dict() == {'train': 12, 'val': 3}
        and set(s.table['copy']) == {''}
        and s.channels == 3
    )
    assert c.table['copy'].value_counts().to_dict() == {
        '': 15,
        'flip': 12,
        'contrast': 12,
        'brightness': 12,
        'saturation': 12,
    } and set(c.table[c.table['copy'] != '']['split']) == {'train'}
    assert (
        s.name == 'thc112'
        and c.name == 'thc112:copies'
        and c.licence == s.licence == DATA_SETS['thc112'].licence
        and s.root == c.root
    )
    assert (
        (c.table.groupby('group')['split'].nunique() == 1).all()
        and s.table['group'].nunique() == 15
        and set(c.table['group']) == set(s.table['group'])
    )


@pytest.mark.parametrize('order', [sorted, list])
@pytest.mark.parametrize('first', [0, 1])
def test_dibe_copies_go_with_their_originals(tmp_path, order, first):
    dibe(tmp_path, order=order, first=first)
    t = load_source('thc112:copies', tmp_path).table
    masks = {
        g: read_mask(m, 'label', (112, 112))
        for g, m, c in zip(t['group'], t['mask'], t['copy'])
        if not c
    }
    for g, m, c in zip(t['group'], t['mask'], t['copy']):
        if c:
            assert (
                read_mask(m, 'label', (112, 112))[:, :: -1 if c == 'flip' else 1] == masks[g]
            ).all()


def test_dibe_other_folders_have_no_number(tmp_path):
    for name, folder in (
        ('dibe_blowhole', 'Blowhole'),
        ('dibe_crack', 'Crack'),
        ('dibe_cfd', 'CFD'),
    ):
        dibe(tmp_path, folder, 48, 3, tail='')
        s = load_source(name, tmp_path)
        assert len(s) == 6 and s[0][0].shape == (48, 48, 3) and 0 < s[0][1].mean() < 1


def test_dibe_bad(tmp_path):
    at = dibe(tmp_path)
    load, more = (lambda: load_source('thc112', tmp_path)), (
        lambda: load_source('thc112:copies', tmp_path)
    )
    with refuses("'copy'", 'thc112:copies'):
        load_source('thc112:copy', tmp_path)
    with refuses("'thc448' not found", 'dibe/THC448'):
        load_source('thc448', tmp_path)
    label = at / 'train_label_112' / 'img_3.png'
    kept = label.read_bytes()
    label.unlink()
    with refuses('img_3.png has no mask'):
        load()
    label.write_bytes(kept)
    copy = at / 'train_label_112' / '24_Saturation.png'
    kept = copy.read_bytes()
    copy.unlink()
    assert len(load()) == 15
    with refuses('24_Saturation.png has no mask'):
        more()
    save(copy, np.ones((112, 112)))
    with refuses('24_Saturation', 'no original'):
        more()
    copy.write_bytes(kept)
    assert len(more()) == 63
    for o in ('dataset', 'label'):
        os.rename(at / f'train_{o}_112' / '13_filp.png', at / f'train_{o}_112' / '77_filp.png')
    with refuses('77_filp', 'does not fit the numbering after 12 originals'):
        more()
    save(at / 'val_dataset_112' / 'img_1.png', np.zeros((112, 113, 3)))
    with refuses('img_1.png is 113 x 112', '112 x 112'):
        load()
    save(at / 'val_dataset_112' / 'img_1.png', np.zeros((112, 112, 3)))
    save(at / 'val_label_112' / 'img_1.png', np.zeros((56, 112)))
    assert any('112 x 56' in o for o in check_source(load())['problems'])
    (at / 'train_dataset_112' / 'img_2.png').write_bytes(b'')
    with refuses('img_2.png is empty'):
        load()
    os.rename(at / 'val_label_112', at / 'val_other')
    with refuses('no folder for val_label', 'THC112'):
        load()


def test_dibe_counts_are_compared_with_the_paper(tmp_path):
    dibe(tmp_path)
    problems = check_source(load_source('thc112', tmp_path))['problems']
    assert len(problems) == 1 and problems[0].startswith('15 images, expected 2,511 (the paper)')
    dibe_sets = [k for k, o in DATA_SETS.items() if o.below]
    assert len(dibe_sets) == 6
    assert all(o['images'] == o['train'] + o['val'] for k in dibe_sets for o in DATA_SETS[k].expect)


def test_listing_shows_the_part_of_dibe_that_is_there(tmp_path):
    dibe(tmp_path)
    magnetic(tmp_path, tiles=1)
    d = list_data(tmp_path).set_index('name')
    assert (
        d['here'][['thc112', 'mtsdd_extreme', 'mtsdd']].all()
        and not d['here'][['thc448', 'dibe_cfd', 'cfd']].any()
        and d['folder']['thc448'].endswith('dibe/THC448')
    )


# ---------------------------------------------------------------- checking


def test_check_lists_every_problem(tmp_path):
    for o in 'abcd':
        save(tmp_path / 'im' / f'{o}.png', np.random.default_rng(ord(o)).integers(0, 256, (64, 64)))
        save(tmp_path / 'ma' / f'{o}.png', np.zeros((64, 64)))
    (tmp_path / 'im' / 'a.png').write_bytes(b'')
    save(tmp_path / 'ma' / 'b.png', np.zeros((32, 64)))
    (tmp_path / 'im' / 'd.png').write_bytes((tmp_path / 'im' / 'c.png').read_bytes())
    seen = []
    r = check_source(
        folder_source(tmp_path / 'im', tmp_path / 'ma', channels=1), lambda *a: seen.append(a)
    )
    assert (
        r['unreadable'] == 2
        and len(r['problems']) == 3
        and 'a.png' in r['problems'][0]
        and 'b.png' in r['problems'][1]
        and 'c.png = d.png; remove one of each' in r['problems'][2]
    )
    assert (
        r['twins'] == ['c.png = d.png']
        and seen[-1] == (4, 4)
        and r['background_per_defect'] == float('inf')
    )
    assert (
        all('\n' not in o for o in report_lines(r))
        and sum(o.startswith('problem') for o in report_lines(r)) == 3
    )


@given(
    st.integers(1, 20), st.integers(1, 20), st.integers(1, 6), st.integers(1, 6), st.integers(0, 5)
)
def test_patch_counts(H, W, h, w, seed):
    m = np.random.default_rng(seed).random((H, W)) < 0.05
    tiles = [
        m[y : y + h, x : x + w].any()
        for y in range(0, H - h + 1, h)
        for x in range(0, W - w + 1, w)
    ]
    assert _patch_counts(m, (h, w)) == (len(tiles), sum(tiles))


def test_paper_counts_are_consistent():
    (p,) = DATA_SETS['potato'].expect
    (s,) = DATA_SETS['severstal'].expect
    assert (
        p['faulty_patches'] + p['healthy_patches'] == p['patches'] == 4 * p['images']
        and s['patches'] <= 4 * s['images']
    )


def test_wrong_count_is_a_problem(tmp_path, monkeypatch):
    known(
        monkeypatch,
        'severstal',
        expect=[dict(by='the paper', images=2, patches=9, faulty_patches=1)],
    )
    severstal(tmp_path, 'ImageId,ClassId,EncodedPixels\nb.jpg,1,1 256\n')
    problems = check_source(load_source('severstal', tmp_path))['problems']
    assert len(problems) == 1 and problems[0].startswith('8 patches, expected 9 (the paper)')


# ---------------------------------------------------------------- real data


@pytest.mark.parametrize(
    'name',
    [
        'sd900',
        'mtsdd',
        'mtsdd_tiny',
        'cfd',
        'kolektorsdd',
        'kolektorsdd_masks',
        'mtsdd_blowhole',
        'mtsdd_crack',
        'mtsdd_extreme',
    ],
)
def test_real_counts(name):
    r = check_source(real(name))
    assert r['problems'] == [] and r['twins'] == [] and r['images'] > 0


@pytest.mark.parametrize(
    'name,train,val',
    [('mtsdd_blowhole', 101, 70), ('mtsdd_crack', 46, 31), ('mtsdd_extreme', 674, 466)],
)
def test_real_windows_are_split_by_tile(name, train, val):
    t = real(name).table
    assert (
        t['split'].value_counts().to_dict() == {'train': train, 'val': val}
        and (t.groupby('group')['split'].nunique() == 1).all()
    )
    part = {
        g: o
        for k in ('blowhole', 'crack')
        for g, o in zip(*[loaded(f'mtsdd_{k}').table[c] for c in ('group', 'split')])
    }
    assert all(
        part.get(g, o) == o for g, o in zip(t['group'], t['split'])
    ), 'one split of the tiles for all three'
    if name == 'mtsdd_extreme':
        assert t['kind'].value_counts().to_dict() == {'Free': 952, 'Blowhole': 115, 'Crack': 73}


@pytest.mark.parametrize('kind', ['Blowhole', 'Crack'])
def test_real_windows_hold_every_defect_pixel(kind):
    t = real(f'mtsdd_{kind.lower()}').table
    whole = loaded('mtsdd').table
    whole = whole[whole['kind'] == kind]
    for i, (m, rows) in enumerate(t.groupby('mask')):
        a = read_mask(m, 'over127', Image.open(m).size[::-1])
        left = a.copy()
        for y, x in zip(rows['y'], rows['x']):
            left[max(y, 0) : y + 224, max(x, 0) : x + 224] = 0
        assert not left.any(), m
    assert set(t['image']) == set(whole['image'])


def test_real_potato_leaf():
    s = real('potato_leaf')
    assert len(s) in (1967, 5048) and s.channels == 3
    shares = [s[i][1].mean() for i in range(0, len(s), 100)]
    assert all(o > 0 for o in shares) and 0.02 < np.mean(shares) < 0.3


def test_real_tile_groups_follow_the_rule():
    s = real('mtsdd')
    derived = _tile_groups([Path(o).name for o in s.table['image']])
    pairs = {(g, derived[Path(o).name]) for g, o in zip(s.table['group'], s.table['image'])}
    assert len(pairs) == s.table['group'].nunique() == len(set(derived.values())) == 168


def test_real_loading_is_quick():
    real('potato_leaf')
    t = time.perf_counter()
    load_source('potato_leaf')
    assert time.perf_counter() - t < 2


# ---------------------------------------------------------------- download


def tiny(path, n=4, extra=None, link=None):
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as z:
        for i in range(n):
            for folder, e in (('Source Images', 'bmp'), ('Ground truth', 'png')):
                save(
                    path.parent / 'one' / f'a.{e}',
                    np.full((64, 64), 255 * (i % 2) if e == 'png' else 10 * i),
                )
                z.write(
                    path.parent / 'one' / f'a.{e}', f'MCITF-1/SD-saliency-900/{folder}/In_{i}.{e}'
                )
        z.writestr('MCITF-1/README.md', 'x')
        if extra:
            z.writestr(extra, 'x')
        if link:
            m = zipfile.ZipInfo(f'MCITF-1/SD-saliency-900/{link}')
            m.external_attr = 0o120777 << 16
            z.writestr(m, '/etc/passwd')
    return path.read_bytes()


class Server(ThreadingHTTPServer):
    "Serves `body`, all of it or up to `cut` bytes, waiting `pause` seconds in the middle"

    daemon_threads = True

    def __init__(self, body, cut=None, pause=0, length=True, code=200):
        class H(BaseHTTPRequestHandler):
            def log_message(self, *a):
                pass

            def do_GET(self):
                self.send_response(code)
                if length:
                    self.send_header('Content-Length', str(len(body)))
                self.end_headers()
                try:
                    self.wfile.write(body[: len(body) // 2])
                    self.wfile.flush()
                    time.sleep(pause)
                    self.wfile.write(body[len(body) // 2 : cut])
                except OSError:
                    pass

        super().__init__(('127.0.0.1', 0), H)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f'http://127.0.0.1:{self.server_port}/sd900.zip'

    def __exit__(self, *a):
        self.shutdown()
        super().__exit__(*a)


def offer(monkeypatch, url, sha256='', n=4):
    known(
        monkeypatch,
        'sd900',
        download=S.Download(url, ('SD-saliency-900',), sha256=sha256),
        expect=[dict(by='made here', images=n, faulty_images=n // 2)],
    )


def left(root):
    return sorted(os.listdir(root)) if root.is_dir() else []


@pytest.mark.parametrize('length', [True, False])
def test_get_good(tmp_path, monkeypatch, length):
    body, root, seen = tiny(tmp_path / 'a.zip'), tmp_path / 'new' / 'data', []
    with Server(body, length=length) as s:
        offer(monkeypatch, s.url)
        r = get_data('sd900', root, lambda *a: seen.append(a))
        assert left(root) == ['sd900', 'sd900.download.json'] and left(root / 'sd900') == [
            'SD-saliency-900'
        ]
        assert (
            len(load_source('sd900', root)) == 4
            and r['check']['problems'] == []
            and r['check']['root'] == str(root / 'sd900')
        )
        assert {o[0] for o in seen} == {'download', 'unpack', 'check'} and seen[0][2] == (
            len(body) if length else None
        )
    assert get_data('sd900', root) == dict(folder=str(root / 'sd900'))


def test_get_wrong_checksum(tmp_path, monkeypatch):
    with Server(tiny(tmp_path / 'a.zip')) as s:
        offer(monkeypatch, s.url, sha256='0' * 64)
        with refuses('SHA-256', 'expected 0000'):
            get_data('sd900', tmp_path / 'data')
    assert left(tmp_path / 'data') == []


def test_get_pins_the_first_checksum(tmp_path, monkeypatch):
    root = tmp_path / 'data'
    with Server(tiny(tmp_path / 'a.zip')) as s:
        offer(monkeypatch, s.url)
        get_data('sd900', root)
    os.rename(root / 'sd900', tmp_path / 'moved')
    with Server(tiny(tmp_path / 'b.zip', extra='MCITF-1/SD-saliency-900/more.txt')) as s:
        offer(monkeypatch, s.url)
        with refuses('sd900.download.json', 'remove that file'):
            get_data('sd900', root)
        assert left(root) == ['sd900.download.json']
        (root / 'sd900.download.json').unlink()
        get_data('sd900', root)
    assert left(root) == ['sd900', 'sd900.download.json']


@pytest.mark.parametrize('length', [True, False])
def test_get_truncated(tmp_path, monkeypatch, length):
    with Server(tiny(tmp_path / 'a.zip'), cut=-200, length=length) as s:
        offer(monkeypatch, s.url)
        with refuses('sd900.zip broke off' if length else 'archive.zip is damaged'):
            get_data('sd900', tmp_path / 'data')
    assert left(tmp_path / 'data') == []


@pytest.mark.parametrize(
    'extra',
    [
        '../evil.txt',
        'MCITF-1/../../evil.txt',
        '/evil.txt',
        'C:/evil.txt',
        'MCITF-1\\..\\..\\evil.txt',
    ],
)
def test_get_archive_that_leaves_its_folder(tmp_path, monkeypatch, extra):
    with Server(tiny(tmp_path / 'a.zip', extra=extra)) as s:
        offer(monkeypatch, s.url)
        with refuses('leads out of the folder'):
            get_data('sd900', tmp_path / 'data')
    assert left(tmp_path / 'data') == [] and not list(tmp_path.rglob('evil*'))


def test_get_archive_with_a_link(tmp_path):
    tiny(tmp_path / 'a.zip', link='In_9.png')
    with refuses('leads out of the folder'):
        _unpack(tmp_path / 'a.zip', tmp_path / 'to')
    assert not (tmp_path / 'to').exists()


def test_get_wrong_content(tmp_path, monkeypatch):
    with Server(tiny(tmp_path / 'a.zip', n=6)) as s:
        offer(monkeypatch, s.url)
        with refuses('6 images, expected 4'):
            get_data('sd900', tmp_path / 'data')
    assert left(tmp_path / 'data') == []


def test_get_refused_and_offline(tmp_path, monkeypatch):
    with Server(b'no', code=404) as s:
        offer(monkeypatch, s.url)
        with refuses('404', '--archive', str(tmp_path / 'data' / 'sd900'), 'Ground truth'):
            get_data('sd900', tmp_path / 'data')
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    offer(monkeypatch, f'http://127.0.0.1:{port}/a.zip')
    with refuses('cannot download', '--archive', str(tmp_path / 'data' / 'sd900')):
        get_data('sd900', tmp_path / 'data')
    assert left(tmp_path / 'data') == []


def test_get_stalled_server(tmp_path, monkeypatch):
    with Server(tiny(tmp_path / 'a.zip'), pause=3) as s:
        offer(monkeypatch, s.url)
        with refuses('sd900'):
            get_data('sd900', tmp_path / 'data', timeout=0.3)
    assert left(tmp_path / 'data') == []


@pytest.mark.parametrize('name', ['severstal', 'potato'])
def test_get_needs_account(tmp_path, name):
    with refuses('account', '--archive FILE.zip', str(tmp_path / name)):
        get_data(name, tmp_path)


def test_get_from_archive(tmp_path):
    root = tmp_path / 'data'
    severstal(tmp_path / 'src', 'ImageId,ClassId,EncodedPixels\nb.jpg,1,1 256\n')
    with zipfile.ZipFile(tmp_path / 'k.zip', 'w') as z:
        for p in (tmp_path / 'src' / 'severstal').rglob('*.*'):
            z.write(p, p.relative_to(tmp_path / 'src' / 'severstal'))
        z.writestr('test_images/x.jpg', 'never read')
    r = get_data('severstal', root, archive=tmp_path / 'k.zip')
    assert (
        left(root) == ['severstal']
        and left(root / 'severstal') == ['train.csv', 'train_images']
        and any('12,568' in o for o in r['check']['problems'])
    )
    with refuses('gone.zip'):
        get_data('potato', root, archive=tmp_path / 'gone.zip')
    with refuses('k.zip', 'none of train, valid, test'):
        get_data('potato', root, archive=tmp_path / 'k.zip')
    (tmp_path / 'bad.zip').write_bytes(b'PK no zip')
    with refuses('bad.zip', 'damaged'):
        get_data('potato', root, archive=tmp_path / 'bad.zip')
    data = bytearray((tmp_path / 'k.zip').read_bytes())
    data[len(data) // 3] ^= 255
    (tmp_path / 'bad.zip').write_bytes(data)
    with refuses('bad.zip'):
        _unpack(tmp_path / 'bad.zip', tmp_path / 'to')
    assert left(root) == ['severstal']


def test_get_no_permission(tmp_path):
    if os.geteuid() == 0:
        (tmp_path / 'data').write_text('a file where the folder should be')
    else:
        (tmp_path / 'data').mkdir(mode=0o500)
    with refuses(str(tmp_path / 'data')):
        get_data('sd900', tmp_path / 'data')


def test_killed_half_way_leaves_no_data_set(tmp_path, monkeypatch):
    root, body = tmp_path / 'data', tiny(tmp_path / 'a.zip')
    code = '''import sys
from dataclasses import replace
from imbal_al.data.download import get_data
from imbal_al.data.sources import DATA_SETS, Download
here = Download(sys.argv[1], ('SD-saliency-900',))
DATA_SETS['sd900'] = replace(DATA_SETS['sd900'], download=here)
get_data('sd900', sys.argv[2])'''
    with Server(body, pause=60) as s:
        p = subprocess.Popen([sys.executable, '-c', code, s.url, str(root)])
        until = time.time() + 30
        while not list(root.glob('.get-*/archive.zip')) and time.time() < until:
            time.sleep(0.02)
        p.send_signal(signal.SIGKILL)
        p.wait()
    assert (
        p.returncode == -signal.SIGKILL
        and len(left(root)) == 1
        and left(root)[0].startswith('.get-sd900-')
    )
    with refuses('not found'):
        load_source('sd900', root)
    with Server(body) as s:
        offer(monkeypatch, s.url)
        get_data('sd900', root)
    assert left(root) == ['sd900', 'sd900.download.json']


# --- a data set is one function


def ksdd2_zip(path, lost=''):
    "An archive of the form of KolektorSDD2, with its double picture"
    with zipfile.ZipFile(path, 'w') as z:
        for o, value in (('train/10000.png', 0), ('train/10001.png', 255), ('test/20000.png', 0)):
            for e in ('', '_GT'):
                if o.replace('.png', e + '.png') == lost:
                    continue
                b = io.BytesIO()
                Image.new('L' if e else 'RGB', (20, 30), value if e else (80, 80, 80)).save(
                    b, 'png'
                )
                z.writestr(o.replace('.png', e + '.png'), b.getvalue())
                if o == 'train/10001.png':
                    z.writestr(f'train/10001{e} (copy).png', b.getvalue())
        z.writestr('split_weakly_0.pyb', b'not wanted')
    return path.read_bytes()


def test_get_ksdd2_over_a_socket(tmp_path, monkeypatch):
    root = tmp_path / 'data'
    counts = [dict(by='here', images=3, train=2, val=1, faulty_images=1)]
    with Server(ksdd2_zip(tmp_path / 'a.zip')) as s:
        here = S.Download(s.url, DATA_SETS['ksdd2'].download.keep)
        known(monkeypatch, 'ksdd2', download=here, expect=counts)
        r = get_data('ksdd2', root)
    assert (
        left(root) == ['ksdd2', 'ksdd2.download.json']
        and left(root / 'ksdd2') == ['test', 'train']
        and r['check']['problems'] == []
    )
    t = load_source('ksdd2', root)
    assert (
        list(t.table['name']) == ['test/20000.png', 'train/10000.png', 'train/10001.png']
        and t.channels == 1
        and t.licence == 'CC BY-NC-SA 4.0'
        and t[2][1].all()
    )


def test_ksdd2_of_other_counts_or_without_a_mask_is_refused(tmp_path, monkeypatch):
    for lost, words in (
        ('', '3 images, expected 3,335 (as published)'),
        ('train/10000_GT.png', '10000.png has no mask'),
    ):
        with Server(ksdd2_zip(tmp_path / 'a.zip', lost)) as s:
            known(monkeypatch, 'ksdd2', download=S.Download(s.url, ('train', 'test')))
            with refuses(words):
                get_data('ksdd2', tmp_path / 'data')
        assert left(tmp_path / 'data') == []


def test_a_set_of_ones_own_is_one_function(tmp_path, monkeypatch):
    monkeypatch.setitem(DATA_SETS, 'mine', None)

    @S.data_set(
        'mine',
        1,
        'CC0',
        'me',
        'https://example.org',
        'images and masks',
        S.Download(keep=('i', 'm'), steps=('ask me',)),
    )
    def mine(root):
        home = S.home_of('mine', root, needs=['i', 'm'])
        return S.folder_source(home / 'i', home / 'm')

    assert (
        catalog.load_source is load_source
        and 'mine' in list(list_data(tmp_path)['name'])
        and not list_data(tmp_path).set_index('name').here['mine']
    )
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as z:
        for o in ('i/1.png', 'm/1.png'):
            b = io.BytesIO()
            Image.new('L', (8, 8), 255).save(b, 'png')
            z.writestr(o, b.getvalue())
    with refuses('mine needs an account: ask me'):
        get_data('mine', tmp_path)
    get_data('mine', tmp_path, archive=tmp_path / 'a.zip')
    assert len(load_source('mine', tmp_path)) == 1
    for bad in ('Mine', 'a b', 'folder', 'steel:1', ''):
        with refuses('cannot name a data set'):
            S.data_set(bad, 1, '', '', '', '', S.Download())
