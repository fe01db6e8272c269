"""Every reader of an export, whatever bytes and values it meets: masks of the image's size, or one line

Never another error, a hang, or memory for what is not there."""

import base64, io, json, re, time, tracemalloc, zipfile

import numpy as np, pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st
from PIL import Image

from imbal_al.core import InputError
from imbal_al.project.annotations import brush_result, coco_json, cvat_xml
from imbal_al.project.exports import read_export
from test_fuzz import ANY, changed, text, torn

H, W = 12, 16
SEEN = (H, W)
MASK = np.zeros(SEEN, bool)
MASK[3:8, 4:10] = True
fuzz = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
pytestmark = pytest.mark.filterwarnings('error::RuntimeWarning')  # a user would see it as noise


def picture(kind='png'):
    out = io.BytesIO()
    Image.fromarray(MASK.astype(np.uint8) * 255).save(out, kind)
    return out.getvalue()


PNG = base64.b64encode(picture()).decode()
SIZES = dict(original_width=W, original_height=H, image_rotation=0)


def result(kind, **value):
    return dict(id=kind, type=kind, from_name='a', to_name='b', value=value, **SIZES)


STUDIO = [
    dict(
        id=1,
        data=dict(image='/data/a.png'),
        annotations=[
            dict(
                completed_by=1,
                updated_at='2026-01-02T03:04:05Z',
                result=[
                    brush_result(MASK, 'x'),
                    result('polygonlabels', points=[[10, 10], [50, 10], [50, 60]]),
                    result('rectanglelabels', x=1, y=2, width=30, height=40, rotation=5),
                    result('ellipselabels', x=50, y=50, radiusX=20, radiusY=10, rotation=0),
                    result('bitmask', imageDataURL='data:image/png;base64,' + PNG),
                    dict(id='c', type='choices', value=dict(choices=['ok'])),
                ],
            )
        ],
    )
]
LEAST = [
    dict(
        id=1,
        image='/data/a.png',
        annotator=1,
        annotation_id=3,
        brush=[dict(format='rle', rle=brush_result(MASK, 'x')['value']['rle'], **SIZES)],
        polygon=[dict(points=[[10, 10], [50, 10], [50, 60]], polygonlabels=['defect'], **SIZES)],
        healthy='ok',
    )
]
COCO = coco_json([('a.png', SEEN, MASK), ('b.png', SEEN, 0 * MASK)])
COCO['annotations'].append(
    dict(id=2, image_id=2, category_id=1, segmentation=[[1, 1, 9, 1, 9, 8, 1, 8]], iscrowd=0)
)
COCO['annotations'].append(
    dict(id=3, image_id=2, category_id=2, segmentation=dict(size=[H, W], counts='d03h0'))
)
LABELME = dict(
    version='5.0',
    flags=dict(ok=False),
    imagePath='a.png',
    imageHeight=H,
    imageWidth=W,
    shapes=[
        dict(label='x', points=[[1, 2], [8, 2], [8, 9]], shape_type='polygon'),
        dict(label='x', points=[[1, 2], [8, 9]], shape_type='rectangle'),
        dict(label='x', points=[[5, 5], [8, 5]], shape_type='circle'),
        dict(label='x', points=[[5, 5], [8, 5]], shape_type='line'),
        dict(label='x', points=[[0, 0], [W, H]], shape_type='mask', mask=PNG),
    ],
)
SHAPES = (
    '<polygon label="x" points="1,1;9,1;9,8" z_order="1"/>'
    '<box label="x" xtl="1" ytl="2" xbr="8" ybr="9" rotation="30"/>'
    '<ellipse label="x" cx="6" cy="6" rx="3" ry="2"/>'
)
CVAT = cvat_xml([('a.png', SEEN, MASK), ('b.png', SEEN, 0 * MASK)]).replace(
    '<tag ', SHAPES + '<tag '
)
YOLO = '0 0.1 0.1 0.9 0.1 0.9 0.8\n1 0.2 0.2 0.5 0.2 0.5 0.6 0.2 0.6\n'
NAMES = 'names:\n  0: scratch\n  1: good\n'
HOSTILE = [
    *('inf', '-inf', 'nan', '1e308', '-1', '0', '1e400', '9' * 30, '9' * 5000, '', 'x', '0x1', '1_0'),
    *('4611686018427387904', '-9223372036854775808', '18446744073709551616', '\x00', '1,1', '½'),
]


def calm(path):
    "What a path gives: masks or one line each, quickly, with little memory"
    tracemalloc.start()
    began = time.process_time()
    masks = []
    try:
        for one in read_export(path, {SEEN}).drawn:
            assert '\n' not in one.error, one.error
            if not one.error:
                masks.append(painted(one))
    except InputError as e:
        assert str(e) and '\n' not in str(e)
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert most < 2e8 and time.process_time() - began < 5
    return masks


def painted(one):
    try:
        found = one.painted(SEEN)
    except ValueError as e:
        assert str(e) and '\n' not in str(e)
        return None
    assert found.kinds.shape == SEEN and found.kinds.max() <= len(found.names)
    return found.kinds


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('exports')


JSONS = dict(studio=STUDIO, least=LEAST, coco=COCO, labelme=LABELME)


@pytest.mark.parametrize('form', JSONS)
def test_the_whole_ones_are_read(folder, form):
    "Else nothing below is tried"
    (folder / 'a.json').write_bytes(text(JSONS[form]))
    masks = calm(folder / 'a.json')
    assert masks and all(one is not None and one.any() for one in masks)


@pytest.mark.parametrize('form', JSONS)
def test_json(folder, form):
    @fuzz
    @given(changed(JSONS[form]).map(text) | torn(text(JSONS[form])) | ANY)
    def attack(content):
        (folder / 'a.json').write_bytes(content)
        calm(folder / 'a.json')

    attack()


@st.composite
def hostile(draw, good):
    "A text with one of its numbers replaced"
    places = list(re.finditer(r'-?\d+(\.\d+)?', good))
    at = draw(st.sampled_from(places))
    return good[: at.start()] + draw(st.sampled_from(HOSTILE)) + good[at.end() :]


LAUGHS = '<!DOCTYPE a [<!ENTITY a "ha">' + ''.join(
    f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip('abcdefgh', 'bcdefghi')
)


@fuzz
@given(hostile(CVAT).map(str.encode) | torn(CVAT.encode()) | st.binary(max_size=99))
@example(CVAT.encode())
@example((LAUGHS + ']><annotations><image name="&i;"/></annotations>').encode())
@example(b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotations>&x;</annotations>')
@example(b'<annotations>' * 30_000)
def test_cvat(folder, content):
    (folder / 'a.xml').write_bytes(content)
    calm(folder / 'a.xml')


def bomb(levels=9):
    "A list of lists that as text is a thousand million words"
    lines = ['a0: &a0 [x, x, x, x, x, x, x, x, x, x]']
    for i in range(1, levels):
        lines.append(f'a{i}: &a{i} [{", ".join([f"*a{i - 1}"] * 10)}]')
    return '\n'.join(lines) + f'\nnames: [*a{levels - 1}]\n'


@fuzz
@given(
    hostile(YOLO).map(lambda o: o.encode('utf-8', 'replace')) | torn(YOLO.encode()),
    torn(NAMES.encode()) | ANY,
)
@example(YOLO.encode(), bomb().encode())
@example(YOLO.encode(), bomb().replace('[*a8]', '{0: *a8}').encode())
@example(b'0 1e308 -1e308 .1 .1 .5 .5', b'')
@example(YOLO.encode(), b'names: {[1]: 2}')
@example(YOLO.encode(), b'names: &a [*a]')
@example(YOLO.encode(), b'names: [2026-13-45, 1:99:99, !!binary "x", 0o9]')
def test_yolo(folder, labels, names):
    at = folder / 'yolo'
    at.mkdir(exist_ok=True)
    (at / 'a.txt').write_bytes(labels)
    (at / 'data.yaml').write_bytes(names)
    calm(at)
    calm(at / 'a.txt')


@pytest.mark.parametrize('kind', ['png', 'bmp', 'tiff'])
def test_pictures(folder, kind):
    at = folder / kind
    at.mkdir()

    @fuzz
    @given(torn(picture(kind)) | st.binary(max_size=80))
    def attack(content):
        (at / f'a.{kind}').write_bytes(content)
        calm(at)

    attack()


@fuzz
@given(torn(picture()), st.booleans())
def test_pictures_inside_an_export(folder, content, is_labelme):
    "A torn picture in labelme's mask, and in Label Studio's bitmask"
    inside = base64.b64encode(content).decode()
    whole = text(LABELME if is_labelme else STUDIO)
    (folder / 'p.json').write_bytes(whole.replace(PNG.encode(), inside.encode()))
    calm(folder / 'p.json')


def archive(method, **files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, 'w', method) as z:
        for name, content in files.items():
            z.writestr(name.replace('_', '/').replace('DOT', '.'), content)
    return out.getvalue()


ZIPS = [
    archive(method, **files)
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    for files in (
        dict(annotationsDOTxml=CVAT),
        dict(aDOTjson=json.dumps(COCO)),
        dict(labels_aDOTtxt=YOLO, dataDOTyaml=NAMES),
        dict(SegmentationClass_aDOTpng=picture(), labelmapDOTtxt='good:0,0,0::\nx:255,255,255::\n'),
    )
]


@settings(fuzz, max_examples=80)
@given(st.sampled_from(ZIPS).flatmap(torn))
def test_archives(folder, content):
    (folder / 'a.zip').write_bytes(content)
    calm(folder / 'a.zip')
