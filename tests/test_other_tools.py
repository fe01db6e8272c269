"""Masks through other people's libraries and back, pixel for pixel: CVAT's (datumaro, cvat-sdk) and Label Studio's converter

Datumaro and the converter live in the environment of `make tools`, cvat-sdk among what the tests need."""

import json, subprocess
from pathlib import Path
import xml.etree.ElementTree as ET

import numpy as np, pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from imbal_al.data.shapes import polygon_mask
from imbal_al.project.annotations import coco_json, cvat_xml, decode_brush, encode_brush
from imbal_al.project.cvat import read_cvat
from imbal_al.project.exports import read_export
from real import tool

H, W = 37, 53
SCRIPT = Path(__file__).with_name('other_tools.py')


def ask(folder, what):
    "Let their libraries write or read"
    done = subprocess.run(
        [tool('python'), SCRIPT, what, folder], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]


def some_masks():
    rng = np.random.default_rng(3)
    whole, dot, line, empty = (np.zeros((H, W), bool) for _ in range(4))
    whole[:] = True
    dot[H - 1, W - 1] = True
    line[:, 0] = True
    rough = [rng.random((H, W)) < share for share in (0.01, 0.3, 0.7)]
    ring = np.zeros((H, W), bool)
    ring[5:30, 8:40] = True
    ring[9:20, 12:30] = False
    return np.array([*rough, ring, whole, dot, line, empty])


def some_polygons():
    "Six boxes of whole pixels and six round ones"
    rng = np.random.default_rng(4)
    corners = rng.integers((0, 0), (W // 2, H // 2), (6, 2))
    ends = corners + rng.integers(1, (W // 2, H // 2), (6, 2))
    boxes = [[(x, y), (u, y), (u, v), (x, v)] for (x, y), (u, v) in zip(corners, ends)]
    round_ones = []
    for _ in range(6):
        turns = np.sort(rng.random(4) + np.arange(4)) * np.pi / 2
        round_ones.append(np.c_[26 + 22 * np.cos(turns), 18 + 15 * np.sin(turns)])
    return np.round(np.array([*boxes, *round_ones], float), 2)


@pytest.fixture(scope='module')
def theirs(tmp_path_factory):
    "A folder with what their libraries have written"
    folder = tmp_path_factory.mktemp('theirs')
    np.savez(folder / 'truth.npz', masks=some_masks(), polygons=some_polygons())
    ask(folder, 'write')
    return folder


def by_stem(path):
    "What we read of an export, by the last part of the name without its ending"
    return {Path(one.name).stem: one for one in read_export(path).drawn}


def far(points, wrong):
    "Of the wrong pixels the largest distance of a centre from the outline"
    ys, xs = np.nonzero(wrong)
    centres, out = np.c_[xs + 0.5, ys + 0.5], np.full(len(xs), np.inf)
    for a, b in zip(points, np.roll(points, -1, 0)):
        along = np.clip(((centres - a) @ (b - a)) / ((b - a) @ (b - a)), 0, 1)
        out = np.minimum(out, np.linalg.norm(centres - a - along[:, None] * (b - a), axis=1))
    return out.max(initial=0)


@pytest.mark.parametrize('form', ['cvat/day.xml', 'coco_instances/annotations/instances_day.json'])
def test_what_datumaro_writes_is_read_to_the_pixel(theirs, form):
    found = by_stem(theirs / form)
    for i, mask in enumerate(some_masks()):
        one = found[f'mask {i}']
        assert not one.error and (one.mask((H, W)) == mask).all(), (form, i)
        assert {shape.name for shape in one.shapes} == ({'scratch'} if mask.any() else set())
    for i, points in enumerate(some_polygons()):
        assert (found[f'polygon {i}'].mask((H, W)) == polygon_mask(points, (H, W))).all()


def test_what_datumaro_paints_is_read_to_the_pixel(theirs):
    found = by_stem(theirs / 'voc_segmentation')
    masks = some_masks()
    assert len(found) >= len(masks) - 1, 'an item without a defect has no picture'
    for i, mask in enumerate(masks[:-1]):
        assert (found[f'mask {i}'].mask((H, W)) == mask).all(), i


def test_a_polygon_differs_from_cvats_only_on_its_outline(theirs):
    "CVAT draws by pycocotools, which rounds outlines outwards; boxes of whole pixels are the same"
    drawn = np.load(theirs / 'polygons.npz')['polygons']
    for i, (points, mask) in enumerate(zip(some_polygons(), drawn)):
        wrong = mask != polygon_mask(points, (H, W))
        assert far(points, wrong) < (0.75 if i >= 6 else 1e-9) and mask.any(), i


def test_what_we_write_is_read_by_them_to_the_pixel(tmp_path):
    masks = some_masks()
    ours = tmp_path / 'ours'
    (ours / 'annotations').mkdir(parents=True)
    rows = [(f'line/{i}.png', (H, W), mask) for i, mask in enumerate(masks)]
    (ours / 'cvat.xml').write_text(cvat_xml(rows))
    (ours / 'annotations/instances_day.json').write_text(json.dumps(coco_json(rows)))
    (ours / 'brush.json').write_text(json.dumps([encode_brush(mask) for mask in masks]))
    for name, _, _ in rows:
        (ours / 'images' / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (W, H)).save(ours / 'images' / name)
    stems = [f'line/{i}' for i in range(len(masks))]
    (tmp_path / 'names.json').write_text(json.dumps(dict(shape=[H, W], stems=stems)))
    ask(tmp_path, 'read')
    for form, found in np.load(tmp_path / 'read.npz').items():
        assert (found == masks).all(), form


def test_brushes_of_label_studios_converter(theirs):
    for mask, runs in zip(some_masks(), json.loads((theirs / 'brush.json').read_text())):
        assert (decode_brush(runs, (H, W)) == mask).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.sampled_from([0.05, 0.5, 1]), st.integers(0, 99))
def test_run_lengths_of_cvats_sdk(h, w, share, seed):
    "Both ways; theirs ends with the box, its last pixels included"
    sdk = pytest.importorskip('cvat_sdk.masks', reason='pip install cvat-sdk')
    mask = np.random.default_rng(seed).random((h, w)) < share
    mask[seed % h, seed % w] = True
    *runs, left, top, right, bottom = sdk.encode_mask(mask)
    attributes = dict(left=left, top=top, width=right - left + 1, height=bottom - top + 1)
    root = ET.Element('annotations')
    image = ET.SubElement(root, 'image', name='a', width=str(w), height=str(h))
    text = ', '.join(str(int(run)) for run in runs)
    ET.SubElement(image, 'mask', rle=text, **{key: str(at) for key, at in attributes.items()})
    assert (read_cvat(root)[0].mask((h, w)) == mask).all()

    own = ET.fromstring(cvat_xml([('a', (h, w), mask)])).find('image/mask').attrib
    x, y, wide, high = (int(own[key]) for key in ('left', 'top', 'width', 'height'))
    encoded = [*map(int, own['rle'].split(',')), x, y, x + wide - 1, y + high - 1]
    assert (sdk.decode_mask(encoded, image_width=w, image_height=h) == mask).all()
