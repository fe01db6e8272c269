"imbal_al.data.patches: windows, cutting, and a store that is whole, current, or not there"

import os, shutil, subprocess, sys
from pathlib import Path

import numpy as np, pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from imbal_al.data import patches
from imbal_al.core import InputError, config_hash
from imbal_al.data.patches import (
    STRIDES, windows, _fingerprint, read_store, cache_root, open_store, split_table,
)
from imbal_al.data.sources import folder_source
from imbal_al.data.catalog import load_source
from imbal_al.data.synthetic import image


def fill(d, n=4, size=(64, 96), kind='steel'):
    "A folder of images and one of masks"
    for o in ('images', 'masks'):
        (d / o).mkdir(parents=True, exist_ok=True)
    for i in range(n):
        im, m = image(kind, i, size=size, faulty=i % 2 == 0)
        Image.fromarray(im).save(d / 'images' / f'{i}.png')
        Image.fromarray(m * 255).save(d / 'masks' / f'{i}.png')
    return d


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
    return fill(tmp_path_factory.mktemp('pictures'))


@pytest.fixture
def own(pictures, tmp_path):
    return Path(shutil.copytree(pictures, tmp_path / 'data'))


def public(pictures, open_dir):
    "A copy that every user may read"
    d = Path(shutil.copytree(pictures, open_dir / 'data'))
    d.chmod(0o755)
    return d


def source(d):
    return folder_source(d / 'images', d / 'masks')


def opened(d, tmp_path, patch=32, **kw):
    return open_store(source(d), patch, root=tmp_path / 'cache', **kw)


def files(s):
    return {o.name: o.read_bytes() for o in s.path.iterdir() if o.name != 'meta.json'}


def built(monkeypatch):
    n, f = [], patches._build_store
    monkeypatch.setattr(patches, '_build_store', lambda *a: (n.append(a[2]), f(*a))[1])
    return n


# --- windows

sizes = st.tuples(st.integers(1, 200), st.integers(1, 200))


@settings(max_examples=200, deadline=None)
@given(sizes, sizes)
def test_side_by_side(shape, patch):
    w = windows(shape, patch)
    assert len(w) == (shape[0] // patch[0]) * (shape[1] // patch[1])
    assert w == sorted(
        (y * patch[0], x * patch[1])
        for y in range(shape[0] // patch[0])
        for x in range(shape[1] // patch[1])
    )


@settings(max_examples=200, deadline=None)
@given(sizes, sizes)
def test_even_stride_covers_everything_with_as_few_as_can_be(shape, patch):
    w, seen = windows(shape, patch, 'even'), np.zeros(shape, int)
    if patch[0] > shape[0] or patch[1] > shape[1]:
        assert w == []
        return
    for y, x in w:
        assert 0 <= y <= shape[0] - patch[0] and 0 <= x <= shape[1] - patch[1]
        seen[y : y + patch[0], x : x + patch[1]] += 1
    assert seen.min() >= 1 and len(w) == -(-shape[0] // patch[0]) * -(-shape[1] // patch[1])
    for axis in (0, 1):
        gaps = np.diff(sorted({o[axis] for o in w}))
        if len(gaps):
            assert np.ptp(gaps) <= 1


def test_unknown_stride():
    with pytest.raises(InputError, match="'odd'.*none, even"):
        windows((64, 64), (32, 32), 'odd')


# --- what is in a store


@pytest.mark.parametrize('stride', STRIDES)
@pytest.mark.parametrize('patch', [(32, 32), (17, 23), (64, 96), (63, 95), (16, 96)])
def test_every_pixel_is_the_source_s(pictures, tmp_path, patch, stride):
    src = source(pictures)
    s = open_store(src, patch, stride, root=tmp_path)
    assert (
        s.images.shape[1:] == (*patch, 1)
        and s.masks.shape == s.images.shape[:3]
        and len(s) == len(s.table) == 4 * len(windows((64, 96), patch, stride))
    )
    for i, r in enumerate(s.table.itertuples()):
        im = np.array(Image.open(pictures / 'images' / r.image))
        m = np.array(Image.open(pictures / 'masks' / r.image)) > 0
        cut = np.s_[r.y : r.y + patch[0], r.x : r.x + patch[1]]
        assert (s.images[i, ..., 0] == im[cut]).all() and (s.masks[i] == m[cut]).all()
        assert r.defect_pixels == m[cut].sum() and r.faulty == m[cut].any()
    assert s.meta['faulty'] == s.table.faulty.sum()


@pytest.mark.parametrize(
    'kind,channels', [('steel', None), ('steel', 3), ('leaves', None), ('leaves', 1)]
)
def test_grey_and_colour(tmp_path, kind, channels):
    d = fill(tmp_path / 'd', 2, (40, 40), kind)
    s = opened(d, tmp_path, 40, channels=channels)
    im = Image.open(d / 'images' / '0.png')
    want = np.array(im.convert('RGB' if s.images.shape[-1] == 3 else 'L'))
    assert s.images.shape[-1] == (channels or (3 if kind == 'leaves' else 1))
    np.testing.assert_array_equal(s.images[0], want if want.ndim == 3 else want[..., None])


def test_images_of_different_sizes(own, tmp_path):
    Image.fromarray(np.zeros((33, 200), np.uint8)).save(own / 'images' / '9.png')
    Image.fromarray(np.zeros((33, 200), np.uint8)).save(own / 'masks' / '9.png')
    s = opened(own, tmp_path)
    assert (
        s.table.groupby('image').size().to_dict()
        == {'0.png': 6, '1.png': 6, '2.png': 6, '3.png': 6, '9.png': 6}
        and s.table.faulty[24:].sum() == 0
    )


def test_odd_names_and_groups_survive(pictures, tmp_path):
    d = tmp_path / 'a b,"ü'
    (d / 'images').mkdir(parents=True)
    (d / 'masks').mkdir()
    for i, n in enumerate(['NA.png', '001.png', 'a,b"c.png', 'ü\u4e2d.png', 'nan.png']):
        shutil.copy(pictures / 'images' / '0.png', d / 'images' / n)
        shutil.copy(pictures / 'masks' / '0.png', d / 'masks' / n)
    src = source(d)
    s = open_store(src, 64, root=tmp_path / 'c')
    again = open_store(src, 64, root=tmp_path / 'c')
    assert (
        sorted(s.table.image) == sorted(src.table.name)
        and list(again.table.group) == list(src.table.group)
        and list(again.table.split) == [''] * 5
    )


def test_store_is_read_only(pictures, tmp_path):
    s = opened(pictures, tmp_path)
    with pytest.raises(ValueError):
        s.images[0] = 0


def test_dropped_images(tmp_path):
    src = load_source('synthetic:4:64')
    src.drop = 'dark_edge'
    real, n = patches._DROP['dark_edge'], []
    with pytest.MonkeyPatch.context() as m:
        m.setitem(patches._DROP, 'dark_edge', lambda im: n.append(1) or len(n) == 2)
        s = open_store(src, 32, root=tmp_path)
    assert len(s) == 12 and sorted(set(s.table.image.str[-1])) == ['0', '2', '3']
    with pytest.MonkeyPatch.context() as m:
        m.setitem(patches._DROP, 'dark_edge', lambda im: True)
        with pytest.raises(InputError, match='no image left'):
            open_store(src, 16, root=tmp_path)
    im = np.full((64, 100), 200, np.uint8)
    im[:, :2] = 5
    assert real(im) and not real(im[:, 1:])


def test_two_workers_write_the_same_bytes(pictures, tmp_path):
    a, b = open_store(source(pictures), 32, 'even', root=tmp_path / '1'), open_store(
        source(pictures), 32, 'even', root=tmp_path / '2', workers=2
    )
    assert files(a) == files(b) and a.meta['content'] == b.meta['content']


def test_content_is_what_pixels_and_table_are(own, pictures, tmp_path):
    a, b = opened(pictures, tmp_path), opened(own, tmp_path)
    assert a.path != b.path and a.meta['content'] == b.meta['content']
    im = np.array(Image.open(own / 'images' / '3.png'))
    im[0, 0] ^= 1
    Image.fromarray(im).save(own / 'images' / '3.png')
    assert opened(own, tmp_path).meta['content'] != a.meta['content']


def test_progress(pictures, tmp_path):
    seen = []

    def progress(it, total):
        for i, o in enumerate(it):
            seen.append((i, total))
            yield o

    opened(pictures, tmp_path, progress=progress)
    opened(pictures, tmp_path, progress=progress)
    assert seen == [(i, 4) for i in range(4)]


# --- opened once, opened again


def test_the_second_opening_reads_no_image(pictures, tmp_path, monkeypatch):
    a = opened(pictures, tmp_path)
    monkeypatch.setattr(patches, 'read_image', lambda *a: 1 / 0)
    b = opened(pictures, tmp_path)
    assert (a.images == b.images).all() and a.table.equals(b.table)


def test_settings_have_their_own_stores(pictures, tmp_path):
    src = source(pictures)
    kinds = [
        dict(patch=32),
        dict(patch=16),
        dict(patch=(32, 16)),
        dict(patch=32, stride='even'),
        dict(patch=32, channels=3),
    ]
    assert len({open_store(src, **k, root=tmp_path).path for k in kinds}) == 5
    assert (
        open_store(src, (32, 32), 'none', 1, tmp_path).path
        == open_store(src, 32, root=tmp_path).path
    )


def touch(p):
    s = p.stat()
    os.utime(p, ns=(s.st_atime_ns, s.st_mtime_ns + 1))


def flip(p, at=5):
    b = bytearray(p.read_bytes())
    b[at] ^= 255
    p.write_bytes(b)


@pytest.mark.parametrize(
    'change',
    [
        lambda d: touch(d / 'images' / '2.png'),
        lambda d: touch(d / 'masks' / '2.png'),
        lambda d: (d / 'images' / '2.png').write_bytes(
            (d / 'images' / '2.png').read_bytes() + b'\0'
        ),
        lambda d: [(d / o / '3.png').unlink() for o in ('images', 'masks')],
        lambda d: [shutil.copy(d / o / '3.png', d / o / '4.png') for o in ('images', 'masks')],
    ],
)
def test_rebuilt_when_a_file_changes(own, tmp_path, monkeypatch, change):
    opened(own, tmp_path)
    n = built(monkeypatch)
    opened(own, tmp_path)
    assert len(n) == 0
    change(own)
    opened(own, tmp_path)
    opened(own, tmp_path)
    assert len(n) == 1


@pytest.mark.parametrize(
    'damage',
    [
        lambda p: (p / 'meta.json').unlink(),
        lambda p: (p / 'meta.json').write_text('{'),
        lambda p: (p / 'meta.json').write_text('[]'),
        lambda p: (p / 'meta.json').write_text('null'),
        lambda p: (p / 'meta.json').write_bytes(b'\xff\xfe'),
        lambda p: (p / 'meta.json').write_text(
            (p / 'meta.json').read_text().replace('"shape"', '"shap"')
        ),
        lambda p: (p / 'meta.json').write_text(
            (p / 'meta.json').read_text().replace('"mtime": {', '"mtime": {}, "x": {')
        ),
        lambda p: (p / 'table.csv').unlink(),
        lambda p: flip(p / 'table.csv'),
        lambda p: (p / 'table.csv').write_text(''),
        lambda p: flip(p / 'images.u8'),
        lambda p: flip(p / 'masks.u8'),
        lambda p: (p / 'images.u8').unlink(),
        lambda p: os.truncate(p / 'images.u8', 100),
        lambda p: os.truncate(p / 'masks.u8', 0),
        lambda p: (p / 'images.u8').write_bytes((p / 'images.u8').read_bytes() + b'0'),
        lambda p: shutil.rmtree(p),
        lambda p: (shutil.rmtree(p), p.mkdir()),
        lambda p: (shutil.rmtree(p), p.write_text('a file')),
    ],
)
def test_rebuilt_when_damaged(pictures, tmp_path, monkeypatch, damage):
    s = opened(pictures, tmp_path)
    want = files(s)
    n = built(monkeypatch)
    del s
    path = next(o for o in (tmp_path / 'cache').iterdir() if o.is_dir())
    damage(path)
    assert files(opened(pictures, tmp_path)) == want and len(n) == 1


def test_silent_damage_is_found_by_the_full_check(pictures, tmp_path):
    s = opened(pictures, tmp_path)
    p = s.path / 'masks.u8'
    t = p.stat()
    flip(p)
    os.utime(p, ns=(t.st_atime_ns, t.st_mtime_ns))
    assert read_store(s.path) is not None and read_store(s.path, full=True) is None


def test_a_copied_store_is_whole(pictures, tmp_path, monkeypatch):
    s = opened(pictures, tmp_path)
    shutil.copytree(s.path, tmp_path / 'copy' / s.path.name, copy_function=shutil.copyfile)
    n = built(monkeypatch)
    open_store(source(pictures), 32, root=tmp_path / 'copy')
    assert n == []


def test_a_failed_build_leaves_the_cache_as_it_was(own, tmp_path):
    a = opened(own, tmp_path)
    want = files(a)
    os.truncate(own / 'images' / '2.png', 100)
    with pytest.raises(InputError, match='images/2.png'):
        opened(own, tmp_path)
    assert (
        files(a) == want
        and [o for o in (tmp_path / 'cache').iterdir() if o.name.startswith('.')] == []
    )


def test_what_a_killed_build_left_is_removed(pictures, tmp_path):
    s = opened(pictures, tmp_path)
    left, other = s.path.with_name(f'.{s.path.name}.deadbeef.tmp'), s.path.with_name(
        '.other-32x32-1.deadbeef.tmp'
    )
    for o in (left, other):
        o.mkdir()
        (o / 'images.u8').write_bytes(b'0' * 1000)
    opened(pictures, tmp_path)
    assert left.exists(), 'opening a whole store touches nothing'
    shutil.rmtree(s.path)
    opened(pictures, tmp_path)
    assert not left.exists() and other.exists()


def test_two_processes_at_once(pictures, tmp_path):
    code = '''import sys
from imbal_al.data import patches
from imbal_al.data.sources import folder_source
build = patches._build_store
def told(*a):
    print('built')
    build(*a)
patches._build_store = told
images, masks, root = sys.argv[1:]
store = patches.open_store(folder_source(images, masks), 16, root=root)
print(int(store.images.sum()))'''
    folders = [str(pictures / 'images'), str(pictures / 'masks'), str(tmp_path)]
    ps = [
        subprocess.Popen([sys.executable, '-c', code, *folders], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    out = [p.communicate()[0].split() for p in ps]
    assert (
        [p.returncode for p in ps] == [0, 0]
        and out[0][-1] == out[1][-1]
        and sum('built' in o for o in out) == 1
    )


# --- windows of an image, and the split


def windowed(d, *boxes, split=()):
    "A source whose rows are windows (y, x, h, w) of image 0"
    src = source(d)
    row = src.table.iloc[0].to_dict()
    src.table = pd.DataFrame([{**row, **dict(zip('yxhw', o))} for o in boxes])
    src.table['split'] = list(split) or ''
    return src


def test_a_window_a_row(pictures, tmp_path):
    boxes = [(3, 5, 32, 32), (-10, -7, 32, 32), (40, 70, 32, 32)]
    s = open_store(windowed(pictures, *boxes), 32, root=tmp_path)
    im, m = (np.array(Image.open(pictures / o / '0.png')) for o in ('images', 'masks'))
    assert list(zip(s.table.y, s.table.x)) == [o[:2] for o in boxes] and set(s.table.image) == {
        '0.png'
    }
    for i, (y, x, h, w) in enumerate(boxes):
        big = lambda a: np.pad(a, 40, mode='reflect')[40 + y : 40 + y + h, 40 + x : 40 + x + w]
        assert (
            (s.images[i, ..., 0] == big(im)).all()
            and (s.masks[i] == (big(m) > 0)).all()
            and s.table.defect_pixels[i] == (big(m) > 0).sum()
        )


def test_patches_within_a_window_keep_their_place_in_the_image(pictures, tmp_path):
    s = open_store(windowed(pictures, (-4, 10, 40, 64)), 20, 'even', root=tmp_path)
    assert list(zip(s.table.y, s.table.x)) == [(y, x) for y in (-4, 16) for x in (10, 25, 39, 54)]
    with pytest.raises(
        InputError, match='0.png has a window of 40x64 pixels, smaller than a patch of 48x48'
    ):
        open_store(windowed(pictures, (-4, 10, 40, 64)), 48, root=tmp_path)


def test_a_moved_window_and_a_new_split_build_anew(pictures, tmp_path, monkeypatch):
    n = built(monkeypatch)
    for boxes, split in (
        ([(0, 0, 32, 32)], ['train']),
        ([(0, 0, 32, 32)], ['train']),
        ([(0, 1, 32, 32)], ['train']),
        ([(0, 1, 32, 32)], ['val']),
    ):
        s = open_store(windowed(pictures, *boxes, split=split), 32, root=tmp_path)
    assert len(n) == 3 and s.table['x'].tolist() == [1] and s.table.split.tolist() == ['val']
    src = source(pictures)
    plain = open_store(src, 32, root=tmp_path)
    assert len(n) == 4
    src.table['split'] = ['train', 'val'] * 2
    for _ in range(2):
        again = open_store(src, 32, root=tmp_path)
    assert (
        len(n) == 5
        and again.table.split.tolist() == (['train'] * 6 + ['val'] * 6) * 2
        and (again.images == plain.images).all()
    )


def test_the_fingerprint_of_a_source_without_windows_is_the_old_one(pictures):
    src = source(pictures)
    t = src.table
    stat = lambda p: (os.stat(p).st_size, os.stat(p).st_mtime_ns)
    old = config_hash(
        dict(
            format=1,
            settings=dict(patch=[32, 32]),
            files=[(i, stat(i), m, stat(m)) for i, m in zip(t['image'], t['mask'])],
            decoder=list(t['decoder']),
            group=list(t['group']),
        ),
        32,
    )
    assert _fingerprint(src, dict(patch=[32, 32])) == old
    src.table['split'] = 'train'
    assert _fingerprint(src, dict(patch=[32, 32])) == old
    assert (
        len(
            {
                _fingerprint(windowed(pictures, o), {})
                for o in (
                    (0, 0, 32, 32),
                    (0, 0, 32, 33),
                    (0, 0, 33, 32),
                    (1, 0, 32, 32),
                    (0, 1, 32, 32),
                )
            }
        )
        == 5
    )


def test_windows_with_two_workers(pictures, tmp_path):
    boxes = [(i, -i, 32, 32) for i in range(5)]
    assert files(open_store(windowed(pictures, *boxes), 32, root=tmp_path / '1')) == files(
        open_store(windowed(pictures, *boxes), 32, root=tmp_path / '2', workers=2)
    )


# --- the table of sizes

TABLE2 = pd.DataFrame(
    dict(
        dataset=['Crack', 'CFD'],
        train=[46, 360],
        val=[31, 348],
        total=[77, 708],
        fg_bg=['1:113', '1:25'],
    )
)


def test_split_table(pictures, tmp_path):
    src = source(pictures)
    src.table['split'] = ['train', 'train', 'val', 'val']
    src.name = 'mtsdd_crack'
    s = open_store(src, 32, root=tmp_path)
    t = split_table(s, TABLE2)
    d, n = s.table.defect_pixels, 32 * 32
    assert len(t) == 1 and t.loc[
        0, ['data', 'train', 'val', 'total', 'paper', 'paper_train', 'paper_fg_bg']
    ].tolist() == ['mtsdd_crack', 12, 12, 24, 'Crack', 46, '1:113']
    assert (
        t.fg_bg[0] == f'1:{(24*n-d.sum())/d.sum():.0f}'
        and t.fg_bg_train[0] == f'1:{(12*n-d[:12].sum())/d[:12].sum():.0f}'
    )
    src.name, src.table['split'] = 'mine', ''
    plain = open_store(src, 32, root=tmp_path)
    t = split_table([s, plain], TABLE2)
    assert t.data.tolist() == ['mtsdd_crack', 'mine'] and t.loc[
        1, ['train', 'val', 'total', 'fg_bg_train', 'paper', 'paper_train']
    ].tolist() == [0, 0, 24, '', '', '']
    assert list(split_table([plain]).columns) == [
        'data',
        'train',
        'val',
        'total',
        'fg_bg',
        'fg_bg_train',
        'fg_bg_val',
    ]


def test_real_table_2():
    table2 = pd.read_csv(Path(__file__).parent.parent / 'data' / 'reference' / 'table2.csv')
    try:
        stores = [
            open_store(load_source(o), p)
            for o, p in (('mtsdd_blowhole', 224), ('mtsdd_crack', 224), ('cfd', 160))
        ]
    except InputError as e:
        pytest.skip(str(e)[:80])
    t = split_table(stores, table2)
    assert (
        t[['train', 'val', 'total']].to_numpy()
        == t[['paper_train', 'paper_val', 'paper_total']].to_numpy()
    ).all()
    assert t.fg_bg.tolist() == ['1:324', '1:106', '1:61'] and t.paper_fg_bg.tolist() == [
        '1:333',
        '1:113',
        '1:25',
    ]


# --- bad input


def refuse(d, tmp_path, match, **kw):
    before = sorted((tmp_path / 'cache').iterdir()) if (tmp_path / 'cache').exists() else []
    with pytest.raises(InputError, match=match) as e:
        opened(d, tmp_path, **kw)
    assert '\n' not in str(e.value)
    after = sorted((tmp_path / 'cache').iterdir()) if (tmp_path / 'cache').exists() else []
    assert [o for o in after if not o.name.endswith('.lock')] == [
        o for o in before if not o.name.endswith('.lock')
    ]


def test_a_missing_image_and_mask(own, tmp_path):
    src = source(own)
    (own / 'images' / '1.png').unlink()
    with pytest.raises(InputError, match='images/1.png'):
        open_store(src, 32, root=tmp_path / 'cache')
    refuse(Path(shutil.copytree(own, tmp_path / 'd2')), tmp_path, 'smaller than a patch', patch=128)
    src = source(own)
    (own / 'masks' / '2.png').unlink()
    with pytest.raises(InputError, match='masks/2.png'):
        open_store(src, 32, root=tmp_path / 'cache')


def test_a_mask_of_another_size(own, tmp_path):
    Image.fromarray(np.zeros((64, 95), np.uint8)).save(own / 'masks' / '1.png')
    refuse(own, tmp_path, r'masks/1.png is 95 x 64 pixels, its image 96 x 64')


@pytest.mark.parametrize('bad', [b'', b'no image', b'\x89PNG\r\n\x1a\n'])
def test_a_file_that_is_no_image(own, tmp_path, bad):
    (own / 'images' / '3.png').write_bytes(bad)
    refuse(own, tmp_path, 'images/3.png')


def test_a_truncated_image(own, tmp_path):
    os.truncate(own / 'images' / '3.png', (own / 'images' / '3.png').stat().st_size // 2)
    refuse(own, tmp_path, 'images/3.png')


@pytest.mark.parametrize(
    'kw,match',
    [
        (dict(patch=15), '15x15.*at least 16'),
        (dict(patch=(64, 0)), 'at least'),
        (dict(patch=-3), 'at least'),
        (dict(patch=65), 'smaller than a patch of 65x65'),
        (dict(patch=(64, 97)), '64x97'),
        (dict(stride='x'), 'stride'),
        (dict(channels=2), '1, 3'),
        (dict(channels=4), 'channels'),
    ],
)
def test_bad_settings(pictures, tmp_path, kw, match):
    refuse(pictures, tmp_path, match, **kw)


def test_error_in_a_worker_is_the_same_line(own, tmp_path):
    os.truncate(own / 'images' / '3.png', 60)
    refuse(own, tmp_path, 'images/3.png', workers=2)


def test_a_cache_one_may_not_write_to(pictures, tmp_path, open_dir, unprivileged):
    d = public(pictures, open_dir)
    (tmp_path / 'file').write_text('')
    with pytest.raises(InputError, match='IMBAL_AL_CACHE'):
        open_store(source(pictures), 32, root=tmp_path / 'file' / 'sub')
    with unprivileged():
        for root in (open_dir, open_dir / 'new'):
            with pytest.raises(InputError, match='IMBAL_AL_CACHE') as e:
                open_store(source(d), 32, root=root)
            assert str(open_dir) in str(e.value) and '\n' not in str(e.value)
    assert sorted(o.name for o in open_dir.iterdir()) == ['data']


def test_a_read_only_cache_can_be_read(pictures, open_dir, unprivileged):
    d = public(pictures, open_dir)
    s = open_store(source(d), 32, root=open_dir)
    with unprivileged():
        assert len(open_store(source(d), 32, root=open_dir)) == len(s)


def test_an_image_one_may_not_read(pictures, open_dir, unprivileged, tmp_path):
    d = public(pictures, open_dir)
    src = source(d)
    os.chmod(open_dir, 0o700)
    try:
        with unprivileged(), pytest.raises(InputError, match='images/0.png'):
            open_store(src, 32, root=open_dir.parent / 'x' / 'y')
    finally:
        os.chmod(open_dir, 0o755)


def test_cache_root(monkeypatch, tmp_path):
    monkeypatch.setenv('IMBAL_AL_CACHE', 'somewhere')
    monkeypatch.chdir(tmp_path)
    assert cache_root() == tmp_path / 'somewhere' and cache_root('/x') == Path('/x')
    monkeypatch.delenv('IMBAL_AL_CACHE')
    monkeypatch.setenv('XDG_CACHE_HOME', '/xdg')
    assert cache_root() == Path('/xdg/imbal_al')
    monkeypatch.delenv('XDG_CACHE_HOME')
    monkeypatch.setenv('HOME', '/h')
    assert cache_root() == Path('/h/.cache/imbal_al')
