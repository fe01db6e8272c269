"What CVAT's files say, attribute by attribute: shapes, stacking order, words, times, colours, sizes"

import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from imbal_al.project.cvat import _colours, fits, read_cvat, read_voc

SIZE = 20, 30


def images(inner, meta='', about=''):
    text = f'<annotations>{meta}<image name="a.png" height="20" width="30"{about}>{inner}</image></annotations>'
    return read_cvat(ET.fromstring(text))


def seen(inner):
    "bool (20,30): where a defect is drawn"
    (d,) = images(inner)
    assert not d.error, d.error
    return d.mask(SIZE) > 0


def filled(top, left, bottom, right):
    out = np.zeros(SIZE, bool)
    out[top:bottom, left:right] = True
    return out


BOX = '<box label="%s" xtl="%s" ytl="%s" xbr="%s" ybr="%s" z_order="%s"/>'


def test_every_kind_of_shape_lies_where_it_was_drawn():
    assert (seen('<box xtl="2" ytl="3" xbr="12" ybr="9"/>') == filled(3, 2, 9, 12)).all()
    turned = seen('<box xtl="2" ytl="5" xbr="12" ybr="9" rotation="90"/>')
    assert (turned == filled(2, 5, 12, 9)).all()
    assert (seen('<polygon points="2,3;12,3;12,9;2,9;"/>') == filled(3, 2, 9, 12)).all()
    assert (seen('<polygon points="2,3; 12,3; 12,9; 2,9; "/>') == filled(3, 2, 9, 12)).all(), 'blanks'
    mask = '<mask rle="1, 2, 4, 2" left="4" top="5" width="3" height="3"/>'
    wanted = np.zeros(SIZE, bool)
    wanted[5, 5:7] = True
    wanted[7, 5:7] = True
    assert (seen(mask) == wanted).all()
    line = seen('<polyline points="2.5,3.5;8.5,3.5"/>')
    assert (line == filled(3, 2, 4, 9)).all()
    ys, xs = np.indices(SIZE) + 0.5
    inside = ((xs - 15) / 11) ** 2 + ((ys - 10) / 4) ** 2 < 1
    assert (seen('<ellipse cx="15" cy="10" rx="11" ry="4"/>') != inside).sum() <= 2
    upright = ((xs - 15) / 4) ** 2 + ((ys - 10) / 9) ** 2 < 1
    assert (seen('<ellipse cx="15" cy="10" rx="9" ry="4" rotation="90"/>') != upright).sum() <= 2


def test_a_box_without_a_rotation_is_not_turned():
    box = '<box xtl="5" ytl="20" xbr="880" ybr="40"/>'
    wide = f'<annotations><image name="a" height="60" width="900">{box}</image></annotations>'
    (d,) = read_cvat(ET.fromstring(wide))
    mask = d.mask((60, 900)) > 0
    assert mask.sum() == 875 * 20 and mask[20:40, 5:880].all()
    wide = wide.replace(box, '<ellipse cx="450" cy="30" rx="440" ry="9"/>')
    (d,) = read_cvat(ET.fromstring(wide))
    mask = d.mask((60, 900)) > 0
    assert (mask == mask[::-1]).all() and (mask == mask[:, ::-1]).all(), 'even on both sides'


@pytest.mark.parametrize('at', ['left="-1" top="0"', 'left="0" top="-1"'])
def test_a_mask_that_begins_outside_is_refused_when_it_is_read(at):
    (d,) = images(f'<mask rle="0,4" {at} width="2" height="2"/>')
    assert d.error == 'a mask that reaches out of the image' and not d.shapes


@pytest.mark.parametrize('at, fine', [((28, 18), True), ((29, 18), False), ((28, 19), False)])
def test_a_mask_may_touch_the_far_edges_and_not_cross_them(at, fine):
    (d,) = images('<mask rle="0,4" left="%d" top="%d" width="2" height="2"/>' % at)
    assert not d.error
    if fine:
        assert (d.mask(SIZE) > 0).sum() == 4
    else:
        with pytest.raises(ValueError, match='reaches out'):
            d.mask(SIZE)


def test_a_mask_in_the_corner_and_empty_runs():
    assert (seen('<mask rle="0,1" left="0" top="0" width="1" height="1"/>') == filled(0, 0, 1, 1)).all()
    assert not seen('<mask rle="1" left="0" top="0" width="1" height="1"/>').any()


@pytest.mark.parametrize('shape', ['box', 'polyline'])
def test_what_lies_above_counts(shape):
    "A background above cuts, one below does not; without z_order a shape lies at 0"
    line = '<polyline label="scratch" points="2.5,3.5;8.5,3.5" z_order="%s"/>'
    drawn = line if shape == 'polyline' else BOX % ('scratch', 2, 3, 9, 4, '%s')
    whole = filled(3, 2, 4, 9)
    for place, other, wanted in (('2', '1', whole), ('1', '2', filled(3, 2, 4, 5)), ('-1', '', filled(3, 2, 4, 5))):
        hole = BOX % ('background', 5, 0, 30, 20, other)
        assert (seen(drawn % place + hole) == wanted).all(), (place, other)
        assert (seen(hole + drawn % place) == wanted).all(), (place, other)
    below = BOX % ('background', 5, 0, 30, 20, '-1')
    assert (seen(below + (drawn % '')) == whole).all()
    assert (seen(below + (drawn % '').replace('z_order=""', '')) == whole).all()
    above = BOX % ('background', 5, 0, 30, 20, '1')
    assert (seen(above + (drawn % '')) == filled(3, 2, 4, 5)).all(), 'without z_order it lies at 0, below 1'
    hidden = '<polyline label="background" points="2.5,3.5;8.5,3.5" z_order="1"/>'
    assert (seen(BOX % ('dent', 0, 0, 30, 20, '') + hidden) == ~whole).all()


def test_a_line_is_said_and_has_its_name():
    (d,) = images('<polyline label="scratch" points="2.5,3.5;8.5,3.5"/>')
    assert d.notes == ['a.png has a polyline without area; it is drawn as the line it is']
    assert d.painted(SIZE).names == ('scratch',)
    (d,) = images('<polyline points="2.5,3.5;8.5,3.5"/><box xtl="2" ytl="8" xbr="12" ybr="9"/>')
    assert d.painted(SIZE).names == ('defect',) and len(d.notes) == 1


def test_words_and_points_are_no_shapes():
    (d,) = images('<tag label="unsure"/><tag/><points label="a" points="1,2"/><points points="3,4"/>')
    assert (d.said, d.beside, d.shapes, d.error) == (['unsure', 'defect'], ['points', 'points'], [], '')
    assert d.shape == SIZE


META = '<meta><task><updated>2026-01-02 10:00</updated></task></meta>'
DUMPED = '<meta><job><updated>2026-01-02</updated></job><dumped> 2026-01-03 11:00 \n</dumped></meta>'


def test_when_and_by_whom():
    (d,) = images('')
    assert (d.name, d.at, d.by, d.pixels) == ('a.png', '', '', '')
    assert [images('', meta)[0].at for meta in (META, DUMPED)] == ['2026-01-02 10:00', '2026-01-03 11:00']
    (d,) = images('', DUMPED, ' at="2026-01-09" by="ann" pixels="upright"')
    assert (d.at, d.by, d.pixels) == ('2026-01-09', 'ann', 'upright')
    assert images('', '', ' pixels="stored"')[0].pixels == ''
    (d,) = read_cvat(ET.fromstring('<annotations><image height="2" width="3"/></annotations>'))
    assert (d.name, d.shape) == ('?', (2, 3))


def test_one_image_that_cannot_be_read_costs_no_other():
    text = (
        '<annotations><image name="a" height="2"/><image name="b" height="4" width="5">'
        '<box xtl="0" ytl="0" xbr="2" ybr="2"/></image></annotations>'
    )
    a, b = read_cvat(ET.fromstring(text))
    assert "lacks 'width'" in a.error and not b.error and (b.mask((4, 5)) > 0).sum() == 4
    with pytest.raises(ValueError, match='CVAT for video; export as CVAT for images 1.1'):
        read_cvat(ET.fromstring('<annotations><image name="a" height="2" width="2"/><track/></annotations>'))


def test_a_labelmap_line_by_line():
    text = 'a : 1, 2 ,3::\n#b:4,5,6::\nc:7,8::\nd:7,8,9,10::\ne:1,x,3::\nf\n\ng:11,12,13:hand,foot:run\nh:14,15,16'
    given = {colour: name for colour, name in _colours(text).items() if name not in ('background', 'void')}
    assert given == {(1, 2, 3): 'a', (11, 12, 13): 'g', (14, 15, 16): 'h'}
    assert _colours('') == {(0, 0, 0): 'background', (224, 224, 192): 'void'}
    assert _colours('good:0,0,0::')[0, 0, 0] == 'good', 'a labelmap may say what black is'


def test_what_may_be_decoded():
    side = 1 << 15
    unknown = [fits(size, None) for size in ((side, side), (side, side - 1), (1, 1), (2, 1 << 29))]
    assert unknown == [False, True, True, False]
    sizes = {(3, 4), (5, 6)}
    assert all(fits(size, sizes) for size in ((4, 3), (3, 4), (6, 5)))
    assert not any(fits(size, sizes) for size in ((3, 5), (4, 4)))


def png(pixels, mode=None, form='png'):
    out = io.BytesIO()
    im = Image.fromarray(np.asarray(pixels, np.uint8))
    (im.convert(mode) if mode else im).save(out, form)
    return out.getvalue()


def painted():
    "uint8 (4,6,3): four colours, each with three bytes of its own"
    out = np.zeros((4, 6, 3), np.uint8)
    out[0, :2], out[1, :3], out[2, 1], out[3, 5] = (250, 50, 83), (1, 2, 3), (9, 8, 7), (224, 224, 192)
    return out


def voc(files, **how):
    return read_voc(list(files), files.__getitem__, **how)


LABELMAP = '\ufeffscratch:250,50,83::\nGut é:1,2,3::\n'.encode() + b'\xff:5,5,5::\n'


@pytest.mark.parametrize('mode', [None, 'RGBA'])
def test_a_coloured_mask_class_by_class(mode):
    (d,) = voc({'x/labelmap.txt': LABELMAP, 'x/SegmentationClass/sub/a.PNG': png(painted(), mode)})
    assert (d.name, d.shape, d.pixels, d.error, d.said) == ('sub/a.PNG', (4, 6), '', '', [])
    assert d.notes == ['sub/a.PNG has the colour (9, 8, 7), which its labelmap does not name; it counts as a defect']
    pixels = {shape.name: int(np.asarray(shape.draw((4, 6))).sum()) for shape in d.shapes}
    assert pixels == {'background': 17, 'scratch': 2, 'Gut é': 3, 'defect': 1, 'void': 1}
    scratch = next(shape for shape in d.shapes if shape.name == 'scratch').draw((4, 6))
    assert np.argwhere(scratch).tolist() == [[0, 0], [0, 1]]


def test_every_byte_of_a_colour_counts():
    "Sixteen colours that differ in one byte, each of its own name"
    colours = [(r, g, b) for r in (1, 2, 255) for g in (1, 129) for b in (1, 254)]
    lines = ''.join(f'n{i}:{r},{g},{b}::\n' for i, (r, g, b) in enumerate(colours))
    picture = np.array(colours, np.uint8)[None]
    (d,) = voc({'labelmap.txt': lines.encode(), 'SegmentationClass/a.png': png(picture)})
    at = {shape.name: np.argwhere(shape.draw(picture.shape[:2])).tolist() for shape in d.shapes}
    assert at == {f'n{i}': [[0, i]] for i in range(len(colours))} and not d.notes


def test_names_that_are_masks_in_their_order():
    files = {
        'SegmentationClass/b.png': png(painted()),
        'SegmentationClass/a.png': png(painted()),
        'SegmentationClass/SegmentationClass/c.png': png(painted()),
        'SegmentationClass/readme.txt': b'',
        'SegmentationObject/a.png': png(painted()),
        'JPEGImages/a.png': b'',
        'other/labelmap.txt.png': b'',
        'labelmap.txt': LABELMAP,
    }
    found = voc(files)
    assert [d.name for d in found] == ['SegmentationClass/c.png', 'a.png', 'b.png']
    assert not any(d.error for d in found)


def test_a_picture_that_is_of_no_image_is_not_decoded():
    body = png(painted())
    cut = body[: body.index(b'IDAT') + 6]  # Its header is whole
    for maps in ({'labelmap.txt': LABELMAP}, {}):
        files = {'SegmentationClass/a.png': cut, **maps}
        (d,) = voc(files, sizes={(5, 6)})
        assert (d.shape, d.shapes, d.error) == ((4, 6), [], '')
        for sizes in ({(4, 6)}, {(6, 4)}, None):
            (d,) = voc(files, sizes=sizes)
            assert d.error, sizes


def test_without_a_labelmap_it_is_a_mask_like_any_other():
    mask = np.zeros((4, 6), np.uint8)
    mask[1, 2:5] = 1
    files = {'SegmentationClass/a.png': png(mask), 'SegmentationClass/b.png': png(mask * 0)}
    a, b = voc(files)
    assert (a.shape, len(a.shapes), int((a.mask((4, 6)) > 0).sum())) == ((4, 6), 1, 3)
    assert (b.shape, b.shapes, b.said, b.error) == ((4, 6), [], [], '')
    odd = {'SegmentationClass/a.png': png(np.arange(24, dtype=np.uint8).reshape(4, 6) * 9)}
    (d,) = voc(odd)
    assert 'a.png' in d.error and 'its mask cannot be read' not in d.error
    (d,) = voc({'SegmentationClass/a.png': b'none'})
    assert d.error.startswith('its mask cannot be read (')


def test_a_mask_that_a_camera_has_turned_has_the_size_it_is_shown_in():
    exif, out = Image.Exif(), io.BytesIO()
    exif[274] = 6
    Image.fromarray(np.eye(4, 6, dtype=np.uint8) * 255).save(out, 'png', exif=exif)
    (d,) = voc({'SegmentationClass/a.png': out.getvalue()})
    assert (d.shape, d.error) == ((6, 4), '') and int((d.mask((6, 4)) > 0).sum()) == 4


def test_how_values_are_meant_is_passed_on():
    mask = np.full((4, 6), 255, np.uint8)
    mask[1, 2:5] = 0
    files = {'SegmentationClass/a.png': png(mask)}
    drawn = {values: voc(files, values=values)[0] for values in ('auto', 'inverted')}
    assert int((drawn['inverted'].mask((4, 6)) > 0).sum()) == 3
    told = drawn['auto']
    assert told.error or (told.mask((4, 6)) > 0).sum() != 3


def test_a_class_called_good_speaks_where_nothing_else_is_drawn():
    good = np.zeros((4, 6, 3), np.uint8)
    good[:2] = 1, 2, 3
    maps = {'labelmap.txt': b'good:1,2,3::\ndent:250,50,83::\n'}
    (d,) = voc({'SegmentationClass/a.png': png(good), **maps})
    assert d.said == ['good'] and d.is_healthy()
    good[3] = 250, 50, 83
    (d,) = voc({'SegmentationClass/a.png': png(good), **maps})
    assert d.said == [] and not d.is_healthy()
    (d,) = voc({'SegmentationClass/a.png': png(good * 0), **maps})
    assert d.said == [] and not d.is_healthy()
