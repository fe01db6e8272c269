"""Whatever bytes a reader meets: a value, nothing, or one line. Never another error, a hang, or memory for what is not there"""

import json, struct, time, tracemalloc, zipfile
from dataclasses import asdict

import numpy as np, pytest, torch
from hypothesis import HealthCheck, example, given, settings, strategies as st
from PIL import Image

from imbal_al.data import catalog
from imbal_al.data import magnetic_tiles
from imbal_al.data import masks
from imbal_al.cli.shared import numbers_of, patch_of
from imbal_al.core import InputError, read_json, seal, to_json, unseal, write_json
from imbal_al.runs.plan import load_plan, save_plan, study_kind
from imbal_al.runs.collect import results_table, status
from imbal_al.losses.guidance import _read_memory
from imbal_al.studies.loss_config import (
    LossConfig, as_loss_config, check_loss_config, diverged, read_training,
)
from imbal_al.studies.loss_study import load_loss_plan
from imbal_al.data.patches import open_store, read_store
from imbal_al.studies.run_config import RunConfig, as_config, check_config
from imbal_al.runs.folder import read_record, read_result, records_whole, write_record
from imbal_al.networks.fixed_split import _CHECKPOINT, _read_checkpoint

settings.register_profile(
    'fuzz',
    max_examples=150,
    deadline=2000,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile('fuzz')


def calm(f, *args):
    "What `f` returns; None if it refuses in one line. Any other error is the test's"
    try:
        return f(*args)
    except InputError as e:
        assert str(e) and '\n' not in str(e)


@pytest.fixture(scope='module')
def d(tmp_path_factory):
    return tmp_path_factory.mktemp('fuzz')


PLAIN = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-3, 300)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([10**400, -(2**63), 2**63, 1e308, float('nan'), '', 'synthetic', '../x'])
)
JSON = st.recursive(
    PLAIN,
    lambda o: st.lists(o, max_size=4) | st.dictionaries(st.text(max_size=6), o, max_size=4),
    max_leaves=12,
)
DEEP = '[' * 200_000


@st.composite
def changed(draw, good):
    "A good JSON value with one place replaced, removed or added"
    o = json.loads(json.dumps(good, default=list))
    at = o
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not keys:
            return draw(JSON)
        k = draw(st.sampled_from(keys))
        if isinstance(at[k], (dict, list)) and at[k] and draw(st.integers(0, 3)):
            at = at[k]
            continue
        what = draw(st.sampled_from(['replace', 'remove', 'add']))
        if what == 'replace':
            at[k] = draw(JSON)
        elif what == 'remove':
            del at[k]
        elif isinstance(at, dict):
            at[draw(st.text(max_size=6))] = draw(JSON)
        else:
            at.append(draw(JSON))
        return o


@st.composite
def torn(draw, good: bytes):
    "Good bytes with some cut away, flipped, repeated or put in"
    b = bytearray(good)
    i = draw(st.integers(0, len(b) - 1))
    what = draw(st.sampled_from(['flip', 'cut', 'head', 'put', 'zero', 'twice']))
    if what == 'flip':
        b[i] ^= draw(st.integers(1, 255))
    elif what == 'cut':
        del b[i : i + draw(st.integers(1, 200))]
    elif what == 'head':
        del b[:i]
    elif what == 'put':
        b[i:i] = draw(st.binary(min_size=1, max_size=20))
    elif what == 'zero':
        b[i : i + 64] = bytes(len(b[i : i + 64]))
    else:
        b += b[i:]
    return bytes(b)


def text(o):
    return json.dumps(o).encode()


ANY = (
    st.binary(max_size=300)
    | JSON.map(text)
    | st.sampled_from([DEEP.encode(), b'\xff\xfe', b'{"a":' * 9999, b'1' * 6000])
)


# --- masks


@given(
    st.text(alphabet='0123456789 -;.e+\t', max_size=60) | st.text(max_size=30),
    st.integers(1, 9),
    st.integers(1, 9),
)
@example('1 9223372036854775807 1 9223372036854775807', 3, 3)
@example('', 3, 3)
def test_run_lengths(runs, h, w):
    m = calm(masks.read_mask, f'train.csv::a.jpg::{runs}', 'runs', (h, w))
    assert m is None or (m.shape == (h, w) and m.max() <= 1)


@given(st.text(max_size=40))
def test_decoders_of_text_take_any_text(mask):
    for o in ('runs', 'coco'):
        calm(masks.read_mask, mask, o, (4, 4))


@given(
    st.text(max_size=60)
    | st.text(alphabet=[chr(48 + i) for i in range(64)], max_size=60)
    | st.lists(PLAIN, max_size=9)
)
@example('o' * 500_000)
@example([2**62] * 4 + [16])
def test_coco_counts(counts):
    t = time.perf_counter()
    calm(
        masks.read_mask,
        'a::b::' + json.dumps(dict(size=[4, 4], masks=[dict(size=[4, 4], counts=counts)])),
        'coco',
        (4, 4),
    )
    assert time.perf_counter() - t < 1
    try:
        assert masks.coco_counts(counts).dtype == np.int64
    except (ValueError, OverflowError, TypeError):
        pass


NUMBER = st.floats() | st.integers() | st.floats(-10, 10) | PLAIN


@given(st.lists(st.lists(st.lists(NUMBER, max_size=8), max_size=3) | JSON, max_size=3) | JSON)
@example([[[0, 0, 2e9, 2e9]]])
@example([[[0, 0, 1e300, 0, 1e300, 1e300]]])
@example([[[0, 0, -39, 40, 39, -40]]])
def test_coco_masks(drawn):
    m = calm(
        masks.read_mask, 'a::b::' + json.dumps(dict(size=[4, 4], masks=drawn)), 'coco', (4, 4)
    )
    assert m is None or m.shape == (4, 4)


COCO = dict(
    images=[
        dict(id=0, file_name='a.jpg', width=8, height=8),
        dict(id=1, file_name='b.jpg', width=8, height=8),
    ],
    annotations=[
        dict(id=0, image_id=0, segmentation=[[0, 0, 4, 0, 4, 4]]),
        dict(id=1, image_id=1, segmentation=dict(size=[8, 8], counts=[60, 4])),
    ],
    categories=[],
)


@pytest.fixture(scope='module')
def potato(d):
    at = d / 'potato' / 'train'
    at.mkdir(parents=True)
    for o in 'ab':
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(at / f'{o}.jpg')
    return at / '_annotations.coco.json'


@given(ANY | changed(COCO).map(text))
@example(text(dict(COCO, images=[dict(COCO['images'][0], file_name=['a.jpg'])])))
@example(text(dict(COCO, images=[dict(COCO['images'][0], height=float('inf'))])))
def test_coco_files(potato, data):
    potato.write_bytes(data)
    s = calm(catalog.load_source, 'potato', potato.parent.parent.parent)
    for i in range(len(s) if s else 0):
        calm(lambda: s[i])


LINES = st.lists(
    st.lists(st.floats() | st.floats(0, 1) | st.text(max_size=4), max_size=7), max_size=4
).map(lambda o: '\n'.join(' '.join(map(str, l)) for l in o).encode('utf-8', 'replace'))


@given(st.binary(max_size=60) | LINES)
@example(b'0 1e400 1')
@example(b'0 0x1 1\n0 1_0 1')
def test_yolo(d, data):
    (d / '0.txt').write_bytes(data)
    m = calm(masks.read_mask, str(d / '0.txt'), 'yolo', (4, 4))
    assert m is None or m.shape == (4, 4)


@pytest.fixture(scope='module')
def severstal(d):
    at = d / 'severstal' / 'train_images'
    at.mkdir(parents=True)
    Image.fromarray(np.full((8, 8), 99, np.uint8)).save(at / 'a.jpg')
    return d / 'severstal' / 'train.csv'


@given(
    st.binary(max_size=80)
    | torn(b'ImageId,ClassId,EncodedPixels\na.jpg,1,1 3\na.jpg,2,9 3\n')
    | torn(b'ImageId_ClassId,EncodedPixels\na.jpg_1,1 3\n')
    | st.text(max_size=30).map(lambda o: f'ImageId,ClassId,EncodedPixels\na.jpg,1,{o}\n'.encode())
)
@example(b'ImageId,EncodedPixels\na.jpg\n')
def test_severstal_table(severstal, data):
    severstal.write_bytes(data)
    s = calm(catalog.load_source, 'severstal', severstal.parent.parent)
    if s:
        calm(lambda: s[0])


@given(st.binary(max_size=60) | torn(b'x_num_1.jpg\t0\ny_num_2.jpg\t1\n'))
def test_tile_groups(d, data):
    (d / 'TILE_GROUPS.tsv').write_bytes(data)
    calm(magnetic_tiles._read_groups, d / 'TILE_GROUPS.tsv', ['x_num_1.jpg'])


# --- names and options


@given(
    st.text(max_size=30)
    | st.tuples(
        st.sampled_from(['synthetic', 'synthetic_cells', 'folder', 'thc112', 'sd900']),
        st.text(max_size=20),
    ).map(':'.join)
)
@example('synthetic:999999999999')
@example('synthetic:5:99999999')
@example('folder:\0:\0')
def test_names_of_data_sets(d, name):
    tracemalloc.start()
    try:
        s = calm(catalog.load_source, name, d / 'none')
        assert tracemalloc.get_traced_memory()[1] < 5e8
    finally:
        tracemalloc.stop()
    assert s is None or len(s)


@given(st.text(max_size=12) | st.text(alphabet='0123456789x,.e- ', max_size=12))
def test_options(text):
    calm(numbers_of, text, '--pi-u')
    calm(patch_of, text)


# --- configurations and plans


@given(JSON | changed(asdict(RunConfig())))
def test_run_configurations(o):
    c = calm(as_config, o)
    if c is not None:
        calm(check_config, c)
        assert len(c.hash) == 12


@given(JSON | changed(asdict(LossConfig())))
def test_loss_configurations(o):
    c = calm(as_loss_config, o)
    if c is not None:
        calm(check_loss_config, c)


@pytest.fixture(scope='module')
def studies(d):
    (a := d / 'al').mkdir()
    (b := d / 'losses').mkdir()
    save_plan(a, [RunConfig()])
    save_plan(b, [LossConfig()])
    return {o: json.loads((o / 'study.json').read_text()) for o in (a, b)}


def every_reader(folder):
    for f in (study_kind, load_plan, load_loss_plan, status, results_table):
        calm(f, folder)


@given(st.data())
def test_plans(studies, data):
    folder = data.draw(st.sampled_from(list(studies)))
    raw = data.draw(ANY | changed(studies[folder]).map(text) | torn(text(studies[folder])))
    (folder / 'study.json').write_bytes(raw)
    every_reader(folder)


# --- results


@given(JSON.filter(lambda o: isinstance(o, dict)))
def test_seals(content):
    plain = {k: v for k, v in json.loads(to_json(content)).items() if k != 'sha256'}
    assert to_json(unseal(json.loads(to_json(seal(content))))) == to_json(plain)


def test_every_flipped_byte_of_a_sealed_file_is_seen(d):
    "Nothing comes back, or what was written"
    good = dict(
        rows=[dict(f1=0.8125, iou=1e-05, name='a"b', nan=float('nan'), n=12, none=None, yes=True)],
        hash='x',
    )
    f = d / 'sealed.json'
    write_json(f, good)
    raw = f.read_bytes()
    want = to_json(good)
    seen = 0
    for i in range(len(raw)):
        for bit in range(8):
            b = bytearray(raw)
            b[i] ^= 1 << bit
            f.write_bytes(b)
            o = read_json(f)
            seen += o is None
            assert o is None or to_json(o) == want, (i, bit)
    assert seen > 0.9 * 8 * len(raw)


RESULT = seal(dict(config=dict(data='x'), rows=[dict(f1=0.5)], provenance=dict(commit='c')))


@given(
    ANY | changed(RESULT).map(text) | torn(text(RESULT)),
    ANY | changed(seal({'cycle_01.npz': [5, 6, 7]})).map(text),
)
def test_results(d, result, records):
    (d / 'result.json').write_bytes(result)
    (d / 'failed.json').write_bytes(result)
    (d / 'records.json').write_bytes(records)
    for f in (read_result, read_training):
        assert isinstance(f(d), (dict, type(None)))
    assert (
        isinstance(read_json(d / 'result.json'), (dict, type(None)))
        and records_whole(d) in (True, False)
        and isinstance(diverged(d), (str, type(None)))
    )


MEMORY = dict(
    form='imbal_al guidance 1',
    trainings=[
        dict(key='k', fn_weight=0.5, result=dict(oii=0.1)),
        dict(key={}, fn_weight=0.3, failed='why'),
    ],
)


@given(ANY | changed(MEMORY).map(text) | torn(text(MEMORY)))
@example(text(dict(MEMORY, trainings=[dict(key='k', fn_weight=10**400, result={})])))
def test_memory_of_a_guidance(d, data):
    (d / 'memory.json').write_bytes(data)
    calm(_read_memory, d / 'memory.json')


# --- records, checkpoints, stores


@pytest.fixture(scope='module')
def record(d):
    write_record(
        d / 'good.npz',
        dict(
            hist=np.arange(512).reshape(2, 2, 128),
            phases=np.array(['train', 'test']),
            empty=np.empty(0),
        ),
    )
    return (d / 'good.npz').read_bytes()


@given(st.data())
def test_records(d, record, data):
    (d / 'r.npz').write_bytes(data.draw(st.binary(max_size=200) | torn(record)))
    r = read_record(d / 'r.npz')
    assert r is None or all(isinstance(o, np.ndarray) and o.dtype.kind != 'O' for o in r.values())


def npy(shape, descr='<f8', data=b''):
    head = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    head += b' ' * (-(len(head) + 11) % 64) + b'\n'
    return b'\x93NUMPY\x01\x00' + struct.pack('<H', len(head)) + head + data


@pytest.mark.parametrize(
    'content',
    [
        npy((10**12,)),
        npy((2**31, 2**31)),
        npy((-1,)),
        npy((-2, -2)),
        npy((10**9,), '|u1', b'abc'),
        npy((3,), '|O', b'x' * 24),
        npy((10**12,), '|V0'),
        npy("__import__('os')"),
        npy(('a',)),
        npy((1,), 'x'),
        b'\x93NUMPY\x09\x00',
        b'',
    ],
)
def test_records_that_claim_more_than_they_hold(d, content):
    with zipfile.ZipFile(d / 'c.npz', 'w') as z:
        z.writestr('hist.npy', content)
    tracemalloc.start()
    r = read_record(d / 'c.npz')
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2e6 and (r is None or all(o.nbytes == 0 for o in r.values()))


def test_a_record_that_would_fill_the_memory_is_not_unpacked(d):
    "3 GB of zeros in 3 MB"
    with (
        zipfile.ZipFile(d / 'bomb.npz', 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as z,
        z.open('hist.npy', 'w', force_zip64=True) as f,
    ):
        f.write(npy((2**28,), '<f4'))
        for _ in range(64):
            f.write(bytes(2**24))
    tracemalloc.start()
    t = time.perf_counter()
    assert (
        read_record(d / 'bomb.npz') is None
        and tracemalloc.get_traced_memory()[1] < 2e6
        and time.perf_counter() - t < 1
    )
    tracemalloc.stop()


@pytest.fixture(scope='module')
def checkpoint(d):
    state = {k: None for k in _CHECKPOINT} | dict(
        epoch=1, model=dict(w=torch.arange(64.0)), rows=[dict(iou=0.5)]
    )
    torch.save(state, d / 'good.pt')
    return (d / 'good.pt').read_bytes()


@given(st.data())
def test_checkpoints(d, checkpoint, data):
    (d / 'c.pt').write_bytes(data.draw(st.binary(max_size=200) | torn(checkpoint)))
    s = _read_checkpoint(d / 'c.pt')
    assert s is None or (
        s['epoch'] == 1
        and torch.equal(s['model']['w'], torch.arange(64.0))
        and s['rows'] == [dict(iou=0.5)]
    )


def test_every_flipped_byte_of_a_checkpoint_is_seen(d, checkpoint):
    "The weights come back as they were, or not at all; PyTorch alone does not look at the checksums"
    seen = 0
    for i in range(0, len(checkpoint), 3):
        b = bytearray(checkpoint)
        b[i] ^= 1 << i % 8
        (d / 'f.pt').write_bytes(b)
        s = _read_checkpoint(d / 'f.pt')
        seen += s is None
        assert s is None or torch.equal(s['model']['w'], torch.arange(64.0)), i
    assert seen > 100


@pytest.fixture(scope='module')
def store(d):
    return open_store(catalog.load_source('synthetic:2:32'), 32, root=d / 'cache')


@given(st.data())
def test_stores(store, data):
    meta = store.path / 'meta.json'
    good = meta.read_bytes()
    m = json.loads(good)
    try:
        meta.write_bytes(
            data.draw(
                ANY
                | changed(m).map(text)
                | changed({k: v for k, v in m.items() if k != 'sha256'}).map(text)
                | torn(good)
            )
        )
        s = read_store(store.path)
        assert s is None or s.images.shape == (2, 32, 32, 1)
    finally:
        meta.write_bytes(good)
