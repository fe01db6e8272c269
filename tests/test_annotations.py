"Files of labelling tools: masks survive both ways, what is broken is one line"

import io, json, zipfile
import xml.etree.ElementTree as ET

import numpy as np, pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from imbal_al.core import InputError
from imbal_al.data.shapes import box_corners, polygon_mask
from imbal_al.project.annotations import (
    brush_result, coco_json, cvat_xml, decode_brush, encode_brush,
)
from imbal_al.project.coco import read_coco
from imbal_al.project.cvat import read_cvat
from imbal_al.project.exports import read_export
from imbal_al.project.labelstudio import read_labelstudio


def some(h, w, share, seed):
    return np.random.default_rng(seed).random((h, w)) < share


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 40), st.sampled_from([0, 0.02, 0.5, 1]), st.integers(0, 99)
)
def test_masks_survive_every_form(h, w, share, seed):
    m = some(h, w, share, seed)
    s = (h, w)
    assert (decode_brush(encode_brush(m), s) == m).all()
    assert (read_cvat(ET.fromstring(cvat_xml([('a', s, m)])))[0].mask(s) == m).all()
    assert (read_coco(json.loads(json.dumps(coco_json([('a', s, m)]))))[0][0].mask(s) == m).all()


def test_runs_longer_than_a_packet():
    m = np.zeros((300, 400), bool)
    m[100:250] = True
    assert (decode_brush(encode_brush(m), m.shape) == m).all()
    for v in (0, 1):
        assert (decode_brush(encode_brush(np.full((513, 129), v)), (513, 129)) == v).all()


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60), st.booleans(), st.integers(0, 200))
def test_damaged_brushes_are_refused_never_wrong_in_size(noise, cut, at):
    good = encode_brush(some(6, 7, 0.4, 1))
    bad = good[:at] if cut else good[:7] + list(noise)
    try:
        assert decode_brush(bad, (6, 7)).shape == (6, 7)
    except ValueError as e:
        assert '\n' not in str(e)


@pytest.mark.parametrize(
    'rle,says',
    [
        ([], 'not of'),
        (None, 'no bytes'),
        ([300] * 20, 'no bytes'),
        (['a'], 'no bytes'),
        ([255] * 40, 'not of'),
    ],
)
def test_brushes_that_are_none(rle, says):
    with pytest.raises(ValueError, match=says):
        decode_brush(rle, (6, 7))


def test_polygons_hold_the_pixels_whose_centres_they_hold():
    assert polygon_mask([(2, 3), (7, 3), (7, 5), (2, 5)], (9, 9)).sum() == 10
    assert polygon_mask([(-5, -5), (50, -5), (50, 50), (-5, 50)], (9, 9)).all()
    bow = polygon_mask([(0, 0), (8, 8), (8, 0), (0, 8)], (8, 8))
    assert 0 < bow.sum() < 64 and not bow[1, 4]
    assert polygon_mask([(3, 3)], (9, 9)).sum() == 1
    turned = polygon_mask(box_corners(10, 10, 6, 4, 180), (20, 20))
    assert turned[6:10, 4:10].all() and turned.sum() == 24
    for bad in ([], [(1, 2, 3)], [(float('nan'), 1)], [(1e9, 1)], 'abc'):
        with pytest.raises(ValueError):
            polygon_mask(bad, (9, 9))


def test_polygon_area_is_that_of_the_formula():
    rng = np.random.default_rng(0)
    for _ in range(20):
        t = np.sort(rng.random(12)) * 2 * np.pi
        p = np.c_[60 + 50 * np.cos(t), 60 + 40 * np.sin(t)]
        area = 0.5 * abs(
            np.dot(p[:, 0], np.roll(p[:, 1], -1)) - np.dot(p[:, 1], np.roll(p[:, 0], -1))
        )
        assert abs(polygon_mask(p, (120, 120)).sum() - area) <= 0.03 * area + 8


SIZE = dict(original_width=7, original_height=6)


def task(*results, **kw):
    return dict(
        data=dict(id='i', project='p', name='n'),
        annotations=[dict(dict(result=list(results), updated_at='1'), **kw)],
    )


@pytest.mark.parametrize(
    'result,says',
    [
        (dict(type='brushlabels', **SIZE, value=dict(format='png')), "format 'png'"),
        (dict(type='brushlabels', value=dict(format='rle', rle=[])), "lacks 'original_height'"),
        (dict(type='brushlabels', **SIZE), "lacks 'value'"),
        (dict(type='cuboidlabels', **SIZE, value={}), 'cuboidlabels'),
        (dict(type='polygonlabels', **SIZE, value=dict(points=[['a', 1]])), 'could not convert'),
        (dict(type='polygonlabels', **SIZE, value=dict(points=3)), 'not iterable'),
        (
            dict(
                type='rectanglelabels',
                **SIZE,
                image_rotation=90,
                value=dict(x=1, y=1, width=2, height=2),
            ),
            'turned image',
        ),
        (
            dict(type='brushlabels', original_width='x', original_height=6, value={}),
            'invalid literal',
        ),
        (3, 'not subscriptable'),
        (dict(value={}), "lacks 'type'"),
    ],
)
def test_label_studio_results_that_cannot_be_used(result, says):
    (d,) = read_labelstudio([task(result)])
    assert says in d.error and not d.shapes


def test_label_studio_takes_the_last_annotation_and_leaves_out_skipped_ones():
    a, b = np.zeros((6, 7)), np.ones((6, 7))
    t = task(brush_result(a, 'x'))
    t['annotations'][0]['updated_at'] = '2026-01-01T10:00Z'
    t['annotations'] += [
        dict(result=[brush_result(b, 'y')], updated_at='2026-01-02T01:00+02:00'),
        dict(result=[], updated_at='2026-01-04', was_cancelled=True),
        dict(result=[brush_result(a, 'z')], updated_at='2026-01-01T22:59:59.9Z'),
    ]
    (d,) = read_labelstudio([t])
    assert d.mask((6, 7)).all() and d.at == '2026-01-02T01:00+02:00' and len(d.notes) == 1
    (two,) = read_labelstudio([task(brush_result(a, 'x'), brush_result(np.ones((3, 3)), 'y'))])
    assert 'two sizes' in two.error
    found = read_labelstudio([dict(data=dict(image='/data/upload/1/x.png'), annotations=[])])
    assert [(d.name, d.state) for d in found] == [('/data/upload/1/x.png', 'untouched')]


CVAT = '<annotations><image name="a.png" width="7" height="6">%s</image></annotations>'


@pytest.mark.parametrize(
    'inner,says',
    [
        ('<mask rle="1,2" left="0" top="0" width="2" height="2"/>', 'add up to 3'),
        ('<mask rle="a" left="0" top="0" width="2" height="2"/>', 'could not convert'),
        ('<mask rle="4" left="0" top="0" width="2"/>', "lacks 'height'"),
        ('<cuboid xtl1="1"/>', "kind 'cuboid'"),
        ('<polygon points="1,2;3"/>', 'reshape'),
        ('<mask rle="inf" left="0" top="0" width="2" height="2"/>', 'a run length of inf'),
    ],
)
def test_cvat_images_that_cannot_be_used(inner, says):
    (d,) = read_cvat(ET.fromstring(CVAT % inner))
    assert says in d.error


def test_cvat_mask_out_of_the_image():
    (d,) = read_cvat(
        ET.fromstring(CVAT % '<mask rle="0,4" left="6" top="0" width="2" height="2"/>')
    )
    with pytest.raises(ValueError, match='reaches out'):
        d.mask((6, 7))
    (turned,) = read_cvat(
        ET.fromstring(CVAT % '<box xtl="1" ytl="2" xbr="5" ybr="4" rotation="90"/>')
    )
    m = turned.mask((6, 7))
    assert m.sum() == 8 and m[1:5, 2:4].all()


def test_coco_segmentations_that_cannot_be_used():
    base = dict(images=[dict(id=1, file_name='a', height=6, width=7)], categories=[])
    for seg, says in (
        (None, 'boxes'),
        (dict(counts=[1, 2], size=[6, 7]), 'add up to 3'),
        (dict(counts=[42]), 'size'),
        (dict(counts=[42], size=[7, 6]), None),
    ):
        (d,), _ = read_coco(dict(base, annotations=[dict(image_id=1, segmentation=seg)]))
        if says:
            assert says in d.error
        else:
            with pytest.raises(ValueError, match='6 x 7 pixels on an image of 7 x 6'):
                d.mask((6, 7))
    (d,), _ = read_coco(
        dict(base, annotations=[dict(image_id=1, segmentation=[[1, 1, 3, 1, 3, 3, 1, 3]])])
    )
    assert d.mask((6, 7)).sum() == 4
    (d,), _ = read_coco(
        dict(base, annotations=[dict(image_id=1, segmentation=dict(size=[6, 7], counts='1Y1'))])
    )
    assert d.error or d.shapes


def test_files_that_are_no_export(tmp_path):
    for name, text, says in (
        ('a.json', '{', 'no complete export'),
        ('b.json', '{}', 'is none of'),
        ('c.json', '[1]', 'is none of'),
        ('d.json', '', 'no complete export'),
        ('e.xml', '<a/>', "its root is 'a'"),
        ('f.xml', '<annotations>', 'no complete export'),
        ('g.json', '{"images":{},"annotations":[]}', 'is none of'),
        ('i.json', '[[]]', 'is none of'),
        ('j.json', '[' * 100000, 'no complete export'),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=says) as e:
            read_export(tmp_path / name)
        assert '\n' not in str(e.value) and name in str(e.value)
    (tmp_path / 'b.bin').write_bytes(b'\xff\xfe\x00')
    with pytest.raises(InputError, match='cannot be read'):
        read_export(tmp_path / 'b.bin')
    with pytest.raises(InputError, match='is missing'):
        read_export(tmp_path / 'nowhere.json')


def test_archives_and_folders(tmp_path):
    m = some(6, 7, 0.5, 0)
    x = cvat_xml([('a.png', (6, 7), m)])
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as z:
        z.writestr('annotations.xml', x)
        z.writestr('images/a.png', b'')
    found = read_export(tmp_path / 'a.zip')
    kind, (d,) = found.tool, found.drawn
    assert kind == 'cvat' and (d.mask((6, 7)) == m).all()
    with zipfile.ZipFile(tmp_path / 'b.zip', 'w') as z:
        z.writestr('a.png', b'')
    with pytest.raises(InputError, match='holds 0 XML or JSON'):
        read_export(tmp_path / 'b.zip')
    f = tmp_path / 'masks'
    f.mkdir()
    Image.fromarray(m.astype(np.uint8)).save(f / 'ones.png')
    Image.fromarray(m.astype(np.uint8) * 255).convert('RGBA').save(f / 'rgba.png')
    Image.fromarray(0 * m.astype(np.uint8)).save(f / 'black.png')
    (f / 'broken.png').touch()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (6, 7), dtype=np.uint8)).save(
        f / 'photo.png'
    )
    found = read_export(f)
    kind, out = found.tool, found.drawn
    d = {o.name: o for o in out}
    assert (
        kind == 'png'
        and (d['ones.png'].mask((6, 7)) == m).all()
        and (d['rgba.png'].mask((6, 7)) == m).all()
        and d['black.png'].is_healthy()
        and 'is empty' in d['broken.png'].error
        and 'is no mask' in d['photo.png'].error
    )


def voc(
    to,
    masks,
    labelmap='# label:color (RGB):parts:actions\nbackground:0,0,0::\ndefect:250,50,83::\nno defect:1,2,3::\n',
    palette=False,
):
    with zipfile.ZipFile(to, 'w') as z:
        if labelmap:
            z.writestr('labelmap.txt', labelmap)
        z.writestr('ImageSets/Segmentation/default.txt', '\n'.join(masks))
        for n, a in masks.items():
            im = Image.fromarray(np.asarray(a, np.uint8))
            im = im.convert('P', palette=Image.Palette.ADAPTIVE) if palette else im
            b = io.BytesIO()
            im.save(b, 'png')
            for d in ('SegmentationClass', 'SegmentationObject'):
                z.writestr(f'{d}/{n}.png', b.getvalue())


@pytest.mark.parametrize('palette', [False, True])
def test_cvat_segmentation_mask(tmp_path, palette):
    m = np.zeros((6, 9), bool)
    m[1:3, 2:7] = True
    red, grey = np.array([250, 50, 83]), np.array([1, 2, 3])
    voc(
        tmp_path / 'a.zip',
        {'sub/a': m[..., None] * red, 'b': np.zeros((6, 9, 3)), 'c': np.ones((6, 9, 1)) * grey},
        palette=palette,
    )
    found = read_export(tmp_path / 'a.zip')
    tool, out = found.tool, found.drawn
    by = {o.name: o for o in out}
    assert (
        tool == 'cvat'
        and list(by) == ['b.png', 'c.png', 'sub/a.png']
        and (by['sub/a.png'].mask((6, 9)) == m).all()
        and not by['b.png'].is_healthy()
        and by['c.png'].is_healthy()
    )
    with zipfile.ZipFile(tmp_path / 'a.zip') as z:
        for n in z.namelist():
            (f := tmp_path / 'd' / n).parent.mkdir(parents=True, exist_ok=True)
            f.write_bytes(z.read(n))
    assert [(o.name, len(o.shapes), o.said) for o in read_export(tmp_path / 'd').drawn] == [
        (o.name, len(o.shapes), o.said) for o in out
    ], 'unpacked it says the same'
    voc(tmp_path / 'n.zip', {'a': m[..., None] * red}, labelmap='')
    assert read_export(tmp_path / 'n.zip').drawn[0].mask((6, 9)).sum() == 10
    voc(tmp_path / 'o.zip', {'a': m[..., None] * red}, labelmap='background:250,50,83::\n')
    assert not (
        read_export(tmp_path / 'o.zip').drawn[0].mask((6, 9))[~m].any()
    ), 'the background may have a colour; black stays background'
    with zipfile.ZipFile(tmp_path / 'x.zip', 'w') as z:
        z.writestr('SegmentationClass/a.png', b'none')
    assert 'cannot be read' in read_export(tmp_path / 'x.zip').drawn[0].error


def test_cvat_ellipses_and_videos(tmp_path):
    x = '<annotations><image id="0" name="a.png" width="99" height="99"><ellipse label="defect" source="manual" occluded="0" cx="50" cy="40" rx="30.5" ry="10" rotation="30" z_order="0"></ellipse></image></annotations>'
    (tmp_path / 'e.xml').write_text(x)
    m = read_export(tmp_path / 'e.xml').drawn[0].mask((99, 99)) > 0
    ys, xs = np.nonzero(m)
    assert (
        m.sum() == pytest.approx(np.pi * 305, rel=0.02)
        and (xs.mean() + 0.5, ys.mean() + 0.5) == pytest.approx((50, 40), abs=0.3)
        and np.cov(xs, ys)[0, 1] > 0
    ), 'the right end is turned down, clockwise as one sees it'
    (tmp_path / 'v.xml').write_text(
        '<annotations><track id="0" label="defect"><box frame="0" xtl="1" ytl="1" xbr="2" ybr="2"/></track></annotations>'
    )
    with pytest.raises(InputError, match='CVAT for images 1.1'):
        read_export(tmp_path / 'v.xml')


def test_label_studio_ellipses():
    r = dict(
        type='ellipselabels',
        original_width=200,
        original_height=100,
        value=dict(x=50, y=50, radiusX=10, radiusY=20, rotation=0, ellipselabels=['defect']),
    )
    m = read_labelstudio([dict(data=dict(image='a.png'), annotations=[dict(result=[r])])])[0].mask(
        (100, 200)
    )
    assert m.sum() == pytest.approx(np.pi * 400, rel=0.02) and m[30:70, 80:120].sum() == m.sum()
