"""Files from elsewhere never run code, never leave their folder, never fill the memory or the disk"""

import ast, io, os, pickle, re, stat, struct, tracemalloc, zipfile, zlib
from pathlib import Path

import numpy as np, pytest, torch
from PIL import Image

import imbal_al
from imbal_al.data import sources
from imbal_al.data import download
from imbal_al.core import InputError
from imbal_al.data.download import _unpack
from imbal_al.data.catalog import check_source, load_source
from imbal_al.data.sources import folder_source
from imbal_al.data.images import read_image
from imbal_al.data.masks import read_mask
from imbal_al.runs.folder import read_record, read_result
from imbal_al.networks.fixed_split import _CHECKPOINT, _read_checkpoint

PACKAGE = sorted(Path(imbal_al.__file__).parent.glob('*.py'))


class Bomb:
    "Unpickled, it makes a file"

    def __init__(self, flag):
        self.flag = str(flag)

    def __reduce__(self):
        return (os.mkdir, (self.flag,))


def one_line(e):
    assert '\n' not in str(e.value)
    return str(e.value)


# --- no code in data


def as_npz(path, bomb):
    np.savez(
        path,
        **{k: np.arange(3) for k in ('position', 'next')},
        selected=np.array([bomb], dtype=object),
    )


def as_npy_in_npz(path, bomb):
    with zipfile.ZipFile(path, 'w') as z:
        z.writestr('selected.npy', pickle.dumps(bomb))


def as_pickle(path, bomb):
    path.write_bytes(pickle.dumps(bomb))


def as_structured(path, bomb):
    np.savez(path, selected=np.array([(1, bomb)], dtype=[('a', int), ('b', object)]))


@pytest.mark.parametrize(
    'make,dangerous',
    [(as_npz, True), (as_npy_in_npz, True), (as_pickle, True), (as_structured, True)],
)
def test_a_record_runs_no_code(tmp_path, make, dangerous):
    f, flag = tmp_path / 'cycle_01.npz', tmp_path / 'ran'
    make(f, Bomb(flag))
    assert read_record(f) is None and not flag.exists()
    if make is not as_npy_in_npz:
        with np.load(f, allow_pickle=True) if make is not as_pickle else open(f, 'rb') as o:
            o['selected'] if make is not as_pickle else pickle.load(o)
        assert flag.exists(), 'the bomb is a bomb'


def as_state(path, bomb):
    torch.save({k: None for k in _CHECKPOINT} | dict(epoch=1, model=bomb), path)


def as_legacy(path, bomb):
    torch.save(dict(epoch=1, model=bomb), path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize('make', [as_state, as_legacy, as_pickle])
def test_a_checkpoint_runs_no_code(tmp_path, make):
    f, flag = tmp_path / 'checkpoint.pt', tmp_path / 'ran'
    make(f, Bomb(flag))
    assert _read_checkpoint(f) is None and not flag.exists()
    torch.load(f, weights_only=False) if make is not as_pickle else pickle.loads(f.read_bytes())
    assert flag.exists(), 'the bomb is a bomb'


def test_weights_from_the_hub_s_cache_run_no_code(tmp_path, monkeypatch):
    "torchvision looks into a folder that anybody may have filled, and checks no hash of what is there"
    from imbal_al.networks.models import vgg16_state_dict
    from torchvision.models import VGG16_BN_Weights

    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    f = tmp_path / 'hub' / 'checkpoints' / Path(VGG16_BN_Weights.IMAGENET1K_V1.url).name
    f.parent.mkdir(parents=True)
    torch.save(dict(features=Bomb(tmp_path / 'ran')), f)
    with pytest.raises(InputError, match="weights of 'vgg16'") as e:
        vgg16_state_dict()
    one_line(e)
    assert not (tmp_path / 'ran').exists()


def test_json_names_no_class_to_make(tmp_path):
    (tmp_path / 'result.json').write_text(
        '{"rows": [], "py/object": "os.system", "__reduce__": ["os.system", "true"], "!!python/object/apply:os.system": ["true"]}'
    )
    r = read_result(tmp_path)
    assert set(map(type, r.values())) == {list, str}


def test_matlab_masks_run_no_code(tmp_path):
    "An object of a Python class inside a .mat file is no part of the format; a pickle under that name is refused"
    f = tmp_path / '001.mat'
    as_pickle(f, Bomb(tmp_path / 'ran'))
    with pytest.raises(InputError, match='001.mat') as e:
        read_mask(str(f), 'cfd', (2, 2))
    one_line(e)
    assert not (tmp_path / 'ran').exists()


# --- no such call in the package

UNSAFE = {
    'pickle',
    'cPickle',
    'dill',
    'joblib',
    'cloudpickle',
    'marshal',
    'shelve',
    'yaml',
    'ruamel',
    'jsonpickle',
    'tarfile',
}


def unsafe(code: str) -> list:
    "What in a module's source could run code from a file, or unpack one anywhere"
    out = []
    for n in ast.walk(ast.parse(code)):
        if isinstance(n, (ast.Import, ast.ImportFrom)):
            names = [a.name for a in n.names] if isinstance(n, ast.Import) else [n.module or '']
            out += [f'{n.lineno}: import {o}' for o in names if o.split('.')[0] in UNSAFE]
        if not isinstance(n, ast.Call):
            continue
        name, given = ast.unparse(n.func), {k.arg: ast.unparse(k.value) for k in n.keywords}
        last = name.rpartition('.')[2]
        bad = (
            name in ('eval', 'exec', 'compile', '__import__', 'os.system', 'os.popen')
            or last in ('read_pickle', 'extractall', 'unpack_archive', 'literal_unpickle')
            or (
                name == 'torch.load'
                or last in ('get_state_dict', 'load_state_dict_from_url', 'load_url')
            )
            and given.get('weights_only') != 'True'
            or (name in ('np.load', 'numpy.load', 'np.lib.format.read_array'))
            and given.get('allow_pickle') != 'False'
            or given.get('shell') not in (None, 'False')
            or name.startswith('torch.hub.')
        )
        if bad:
            out.append(f'{n.lineno}: {ast.unparse(n)[:80]}')
    return out


@pytest.mark.parametrize('path', PACKAGE, ids=lambda p: p.stem)
def test_the_package_calls_nothing_that_runs_files(path):
    assert [
        o
        for o in unsafe(path.read_text())
        if not (path.stem == 'both_ends' and o.endswith('import tarfile'))
    ] == []  # `_reuse`, tried below, unpacks nothing: it copies named files


def test_an_archive_of_runs_writes_nowhere_else(tmp_path):
    import io, tarfile
    from imbal_al.dev.shift_study import _reuse
    from imbal_al.studies.run_config import RunConfig

    c = RunConfig()
    at = tmp_path / 'study'
    with tarfile.open(tmp_path / 'a.tar', 'w') as t:
        for name in (
            f'../../{c.hash}/evil.json',
            f'{tmp_path}/out/{c.hash}/abs.json',
            '../evil.json',
            'other/evil.json',
        ):
            m = tarfile.TarInfo(name)
            m.size = 2
            t.addfile(m, io.BytesIO(b'{}'))
        m = tarfile.TarInfo(f'runs/{c.hash}/link.json')
        m.type, m.linkname = tarfile.SYMTYPE, '/etc/passwd'
        t.addfile(m)
    assert _reuse(at, [tmp_path / 'a.tar'], [c]) == []
    assert sorted(
        str(p.relative_to(tmp_path)) for p in tmp_path.rglob('*.json') if p.name != 'study.json'
    ) == [f'study/runs/{c.hash}/{o}' for o in ('abs.json', 'evil.json')]


@pytest.mark.parametrize(
    'code',
    [
        "import pickle",
        "from yaml import load",
        "import numpy as np; np.load(f)",
        "np.load(f, allow_pickle=True)",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "eval(text)",
        "exec(text)",
        "subprocess.run(x, shell=True)",
        "pd.read_pickle(f)",
        "z.extractall(d)",
        "W.get_state_dict(progress=False)",
        "torch.hub.load('x','y')",
        "shutil.unpack_archive(f)",
        "os.system('x')",
        "import tarfile",
    ],
)
def test_such_a_call_would_be_seen(code):
    assert unsafe(code)


def test_safe_calls_are_let_through():
    assert (
        unsafe(
            "torch.load(f, weights_only=True); np.load(f, allow_pickle=False); re.compile('x'); model.eval(); json.loads(t); subprocess.run(['git'])"
        )
        == []
    )


# --- archives


def archive(path, *members, **kw):
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as z:
        for name, data in members:
            m = zipfile.ZipInfo('x')
            m.filename = name
            m.external_attr = kw.get('mode', 0o644) << 16
            m.compress_type = zipfile.ZIP_DEFLATED
            z.writestr(m, data)
    return path


@pytest.mark.parametrize(
    'name',
    [
        '../evil',
        'a/../../evil',
        'a/b/../../../evil',
        '/evil',
        '//evil',
        '\\evil',
        '..\\evil',
        'a\\..\\..\\evil',
        'C:/evil',
        'C:evil',
        '\\\\host\\share\\evil',
        './../evil',
        '..',
    ],
)
def test_an_archive_writes_below_its_folder_only(tmp_path, name):
    a = archive(tmp_path / 'a.zip', ('good.png', b'x'), (name, b'evil'))
    before = set(tmp_path.rglob('*'))
    with pytest.raises(InputError, match='leads out of the folder; do not use this archive') as e:
        _unpack(a, tmp_path / 'to' / 'deep')
    assert (
        str(a) in one_line(e) and set(tmp_path.rglob('*')) == before and not Path('/evil').exists()
    )


def test_links_in_archives_are_refused(tmp_path):
    "Also the one that a later member would be written through"
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as z:
        m = zipfile.ZipInfo('out')
        m.external_attr = 0o120777 << 16
        z.writestr(m, str(tmp_path / 'elsewhere'))
        z.writestr('out/evil', 'x')
    (tmp_path / 'elsewhere').mkdir()
    with pytest.raises(InputError, match='leads out') as e:
        _unpack(tmp_path / 'a.zip', tmp_path / 'to')
    one_line(e)
    assert not list((tmp_path / 'elsewhere').iterdir()) and not (tmp_path / 'to').exists()


@pytest.mark.parametrize('mode', [0o060666, 0o020666, 0o010666, 0o104755])
def test_devices_pipes_and_set_user_bits_become_plain_files(tmp_path, mode):
    _unpack(archive(tmp_path / 'a.zip', ('x/d', b'x'), ('y/e', b'x'), mode=mode), tmp_path / 'to')
    s = (tmp_path / 'to' / 'x' / 'd').stat()
    assert stat.S_ISREG(s.st_mode) and not s.st_mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IXUSR)


def test_a_file_and_a_folder_of_one_name(tmp_path):
    with pytest.raises(InputError, match='a.zip') as e:
        _unpack(
            archive(tmp_path / 'a.zip', ('x/a', b'x'), ('x/a/b', b'y'), ('y/c', b'z')),
            tmp_path / 'to',
        )
    one_line(e)


def zeros(path, mb, declare=None):
    "An archive of zeros; `declare` writes another size into its directory"
    with (
        zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as z,
        z.open('images/0.bmp', 'w', force_zip64=False) as f,
    ):
        for _ in range(mb):
            f.write(bytes(10**6))
    if declare is not None:
        b = bytearray(path.read_bytes())
        at = b.rindex(b'PK\x01\x02')
        b[at + 24 : at + 28] = struct.pack('<I', declare)
        path.write_bytes(b)
    return path


def test_an_archive_that_would_fill_the_disk(tmp_path):
    "1.2 GB in 5 MB: it says so itself, and is refused before anything is written"
    a = zeros(tmp_path / 'bomb.zip', 2, declare=1_200_000_000)
    with pytest.raises(InputError, match=r'has 0.0 MB and would become 1.20 GB') as e:
        _unpack(a, tmp_path / 'to')
    assert str(a) in one_line(e) and not list((tmp_path / 'to').rglob('*'))


def test_an_archive_larger_than_the_disk(tmp_path, monkeypatch):
    a = archive(tmp_path / 'a.zip', ('x/x.png', bytes(10000)))
    monkeypatch.setattr(download.shutil, 'disk_usage', lambda p: type('U', (), dict(free=100)))
    with pytest.raises(InputError, match='make room') as e:
        _unpack(a, tmp_path / 'to')
    one_line(e)


@pytest.mark.parametrize('declare', [1000, 0, 1_999_999])
def test_an_archive_that_lies_about_its_size(tmp_path, declare):
    "It unpacks to 2 MB and declares less: no more than declared is written, and it is called damaged"
    a = zeros(tmp_path / 'liar.zip', 2, declare)
    with pytest.raises(InputError, match='liar.zip is damaged') as e:
        _unpack(a, tmp_path / 'to')
    one_line(e)
    assert sum(o.stat().st_size for o in (tmp_path / 'to').rglob('*') if o.is_file()) <= declare


def test_small_archives_of_plain_images_are_no_bombs(tmp_path):
    "Empty masks compress a thousandfold and are fine"
    assert _unpack(zeros(tmp_path / 'masks.zip', 20), tmp_path / 'to') == 1


# --- images


def png(w, h):
    chunk = lambda k, d: struct.pack('>I', len(d)) + k + d + struct.pack('>I', zlib.crc32(k + d))
    return (
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', struct.pack('>IIBBBBB', w, h, 8, 0, 0, 0, 0))
        + chunk(b'IDAT', zlib.compress(bytes(1000)))
        + chunk(b'IEND', b'')
    )


def bmp(w, h):
    return (
        b'BM'
        + struct.pack('<IHHI', 100, 0, 0, 54)
        + struct.pack('<IiiHHIIiiII', 40, w, h, 1, 24, 0, 0, 0, 0, 0, 0)
        + bytes(46)
    )


def gif(w, h):
    return (
        b'GIF89a'
        + struct.pack('<HH', w, h)
        + b'\x80\x00\x00'
        + bytes(6)
        + b','
        + struct.pack('<HHHH', 0, 0, w, h)
        + b'\x00\x02\x02\x44\x01\x00;'
    )


@pytest.mark.parametrize(
    'name,data,pixels',
    [
        ('a.png', png(50_000, 50_000), 2_500_000_000),
        ('b.bmp', bmp(30_000, 30_000), 900_000_000),
        ('c.png', png(2**31 - 1, 2**31 - 1), (2**31 - 1) ** 2),
        ('d.gif', gif(65_000, 65_000), 4_225_000_000),
    ],
)
def test_an_image_bomb_is_refused_with_its_size(tmp_path, name, data, pixels):
    f = tmp_path / name
    f.write_bytes(data)
    tracemalloc.start()
    for read in (lambda: read_image(str(f)), lambda: read_mask(str(f), 'nonzero', (8, 8))):
        with pytest.raises(InputError) as e:
            read()
        assert (
            one_line(e)
            == f'{f} says that it has {pixels:,} pixels, above the limit of {Image.MAX_IMAGE_PIXELS:,}; set the environment variable IMBAL_AL_MAX_PIXELS={pixels} to read it, or cut it into tiles'
        )
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


def test_an_image_bomb_in_a_folder_is_a_problem_among_others(tmp_path):
    for o in ('images', 'masks'):
        (tmp_path / o).mkdir()
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / o / 'a.png')
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / o / 'b.png')
    s = folder_source(tmp_path / 'images', tmp_path / 'masks')
    (tmp_path / 'images' / 'b.png').write_bytes(png(50_000, 50_000))
    r = check_source(s)
    assert r['unreadable'] == 1 and '2,500,000,000 pixels' in r['problems'][0] and r['images'] == 2


def test_a_bomb_of_text_in_a_png(tmp_path):
    "A compressed comment of 200 MB"
    chunk = lambda k, d: struct.pack('>I', len(d)) + k + d + struct.pack('>I', zlib.crc32(k + d))
    good = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(good, 'PNG')
    b = good.getvalue()
    (tmp_path / 't.png').write_bytes(
        b[:33] + chunk(b'zTXt', b'c\0\0' + zlib.compress(bytes(200_000_000), 1)) + b[33:]
    )
    tracemalloc.start()
    with pytest.raises(InputError, match='t.png') as e:
        read_image(str(tmp_path / 't.png'))
    one_line(e)
    assert tracemalloc.get_traced_memory()[1] < 5e7
    tracemalloc.stop()


# --- names inside files, downloads


def test_names_in_annotations_stay_in_their_folder(tmp_path):
    at = tmp_path / 'potato' / 'train'
    at.mkdir(parents=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / 'secret.jpg')
    (at / '_annotations.coco.json').write_text(
        '{"images": [{"id": 0, "file_name": "../../secret.jpg", "width": 8, "height": 8}], "annotations": []}'
    )
    with pytest.raises(InputError, match='is missing but in') as e:
        load_source('potato', tmp_path)
    one_line(e)
    s = tmp_path / 'severstal' / 'train_images'
    s.mkdir(parents=True)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(s / 'a.jpg')
    (s.parent / 'train.csv').write_text('ImageId,EncodedPixels\n../../secret.jpg,1 1\n')
    with pytest.raises(InputError, match='is missing but in train.csv') as e:
        load_source('severstal', tmp_path)
    one_line(e)


def test_every_download_is_one_commit_over_https():
    "A name that moves (main, latest) would be another data set tomorrow; the first archive's hash is pinned beside the data"
    downloads = {name: known.download for name, known in sources.DATA_SETS.items()}
    urls = {d.url for d in downloads.values() if d.url} - {
        downloads['ksdd2'].url
    }  # Its authors keep one archive under one name
    assert len(urls) >= 6 and all(re.fullmatch(r'https://[\w.]+/\S+/[0-9a-f]{40}', o) for o in urls)


def test_a_download_s_hash_is_checked(tmp_path):
    "Published hash, pinned hash, no hash yet; tests/test_sources.py does the same over a socket"
    d, pin = sources.Download('https://x', sha256='a' * 64), tmp_path / 'pin.json'
    with pytest.raises(InputError, match='published') as e:
        download._verify_sum('b' * 64, d, pin)
    one_line(e)
    download._verify_sum('a' * 64, d, pin)
    download._verify_sum('b' * 64, sources.Download('https://x'), pin)
    pin.write_text('{"sha256": "%s"}' % ('c' * 64))
    with pytest.raises(InputError, match='remove that file') as e:
        download._verify_sum('b' * 64, sources.Download('https://x'), pin)
    assert str(pin) in one_line(e)
