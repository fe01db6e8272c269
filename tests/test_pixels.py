"Photographs of many bits, pages and pixels. The right values are made by hand with numpy and struct"

import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from imbal_al.cli import app
from imbal_al.core import InputError
from imbal_al.data.images import deep_pixels, orientation_of, read_image
from imbal_al.data.masks import mask_picture
from imbal_al.project.predictor import _read
from imbal_al.project.store import open_project

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 4096, (5, 7, 3)).astype(np.uint16)
COLOUR[0, 0] = 4095
ALPHA = np.full((5, 7, 1), 65535, np.uint16)


def png(path, a, kind):
    "A PNG of 16 bits, by its specification"
    rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in a)

    def chunk(name, data):
        return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))

    header = struct.pack('>IIBBBBB', a.shape[1], a.shape[0], 16, kind, 0, 0, 0)
    parts = chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')
    path.write_bytes(b'\x89PNG\r\n\x1a\n' + parts)
    return path


def tiff(path, a, order='<', photometric=2, extra=None, packed=False, planar=1):
    "A TIFF of 16 bits with one strip, by its specification"
    h, w = a.shape[:2]
    channels = 1 if a.ndim == 2 else a.shape[2]
    data = (a if planar == 1 else np.moveaxis(a, 2, 0)).astype(order + 'u2').tobytes()
    data = zlib.compress(data) if packed else data
    data += b'\0' * (len(data) % 2)
    tags = {256: (w,), 257: (h,), 258: (16,) * channels, 259: (8 if packed else 1,), 262: (photometric,)}
    tags |= {273: (8,), 277: (channels,), 278: (h,), 279: (len(data),), 284: (planar,)}
    if extra is not None:
        tags[338] = (extra,)
    at, out, more = 8 + len(data), struct.pack(order + 'H', len(tags)), b''
    behind = at + 2 + 12 * len(tags) + 4
    for tag, values in sorted(tags.items()):
        kind, letter = (4, 'I') if tag in (273, 279) else (3, 'H')
        packed_values = struct.pack(order + letter * len(values), *values)
        out += struct.pack(order + 'HHI', tag, kind, len(values))
        if len(packed_values) > 4:
            out += struct.pack(order + 'I', behind + len(more))
            more += packed_values
        else:
            out += packed_values.ljust(4, b'\0')
    start = (b'II*\0' if order == '<' else b'MM\0*') + struct.pack(order + 'I', at)
    path.write_bytes(start + data + out + struct.pack(order + 'I', 0) + more)
    return path


FORMS = {
    'png': lambda at: png(at / 'a.png', COLOUR, 2),
    'png alpha': lambda at: png(at / 'a.png', np.concatenate([COLOUR, ALPHA], -1), 6),
    'tiff': lambda at: tiff(at / 'a.tif', COLOUR),
    'tiff of a Mac': lambda at: tiff(at / 'a.tif', COLOUR, '>'),
    'tiff packed': lambda at: tiff(at / 'a.tif', COLOUR, packed=True),
    'tiff of a Mac, packed': lambda at: tiff(at / 'a.tif', COLOUR, '>', packed=True),
    'tiff alpha': lambda at: tiff(at / 'a.tif', np.concatenate([COLOUR, ALPHA], -1), extra=2),
    'tiff and more': lambda at: tiff(at / 'a.tif', np.concatenate([COLOUR, ALPHA], -1), extra=0),
}


@pytest.mark.parametrize('form', FORMS)
def test_colour_of_16_bits_is_read_whole(tmp_path, form):
    path = FORMS[form](tmp_path)
    assert np.array_equal(deep_pixels(path), COLOUR)
    assert np.array_equal(read_image(str(path), 3, 12), np.floor(COLOUR / 4095 * 255 + 0.5))
    full = np.floor(COLOUR / 65535 * 255 + 0.5)
    assert np.array_equal(read_image(str(path), 3), full)
    with pytest.raises(InputError, match='more than 10 bits'):
        read_image(str(path), 3, 10)


def test_what_cannot_be_read_whole_is_refused(tmp_path):
    grey = np.concatenate([COLOUR[..., :1], ALPHA], -1)
    for path in (png(tmp_path / 'a.png', grey, 4), tiff(tmp_path / 'b.tif', COLOUR, planar=2)):
        with pytest.raises(InputError, match='16-bit pixels|cannot be read'):
            read_image(str(path), 3)


def test_white_is_zero(tmp_path):
    grey = COLOUR[..., 0]
    right = np.floor(grey / 4095 * 255 + 0.5)
    assert np.array_equal(read_image(str(tiff(tmp_path / 'a.tif', grey, photometric=1)), 1, 12), right)
    assert np.array_equal(read_image(str(tiff(tmp_path / 'b.tif', grey, photometric=0)), 1, 12), 255 - right)


def test_white_is_zero_in_masks_too(tmp_path):
    mask = np.zeros((5, 7), np.uint16)
    mask[1:3, 2:5] = 65535
    for photometric, stored in ((1, mask), (0, 65535 - mask)):
        path = tiff(tmp_path / 'm.tif', stored, photometric=photometric)
        assert np.array_equal(mask_picture(path)[0], mask > 0)


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_a_project_finds_the_bits_of_colour(tmp_path):
    (tmp_path / 'camera').mkdir()
    big = np.kron(COLOUR, np.ones((16, 16, 1), np.uint16))
    png(tmp_path / 'camera/a.png', big, 2)
    r = run('project', 'new', tmp_path / 'P', '--images', tmp_path / 'camera', '--window', 32)
    assert r.exit_code == 0, r.output
    p = open_project(tmp_path / 'P')
    assert p.settings.bits == 12 and p.read(p.units.iloc[0]).max() == 255


def test_predict_reads_colour_at_the_models_bits(tmp_path):
    png(tmp_path / 'a.png', COLOUR, 2)
    picture = _read(tmp_path, dict(channels=3, bits=12), 'a.png')
    assert np.array_equal(picture.pixels, np.floor(COLOUR / 4095 * 255 + 0.5)) and not picture.error
    assert 'more than 10 bits' in _read(tmp_path, dict(channels=3, bits=10), 'a.png').error


@pytest.mark.parametrize('where', ['before', 'behind', 'nowhere'])
def test_a_png_is_decoded_for_its_orientation_only_where_it_may_stand_behind(tmp_path, monkeypatch, where):
    "eXIf may stand before or behind the pixels; most files have none, and are not decoded"
    path = png(tmp_path / 'a.png', COLOUR, 2)
    tags = b'II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0'
    exif = struct.pack('>I', len(tags)) + b'eXIf' + tags + struct.pack('>I', zlib.crc32(b'eXIf' + tags))
    content = path.read_bytes()
    at = {'before': 33, 'behind': len(content) - 12, 'nowhere': len(content)}[where]
    path.write_bytes(content[:at] + (exif if where != 'nowhere' else b'') + content[at:])
    assert read_image(str(path)).shape[:2] == ((5, 7) if where == 'nowhere' else (7, 5))
    if where != 'behind':
        monkeypatch.setattr(Image.Image, 'load', lambda *a: pytest.fail('decoded'))
    assert orientation_of(path) == (1 if where == 'nowhere' else 6)


def pages(path, n, smaller=False):
    ims = [Image.fromarray(np.full((48, 64), 40 * i, np.uint8)) for i in range(n)]
    if smaller:
        ims[0].save(path, save_all=True, append_images=[reduced(im) for im in ims[1:]])
    else:
        ims[0].save(path, save_all=True, append_images=ims[1:])


def reduced(im):
    im = im.resize((32, 24))
    im.encoderinfo = dict(tiffinfo={254: 1})
    return im


def test_pages_are_not_passed_over(tmp_path):
    (tmp_path / 'camera').mkdir()
    for name in ('stack.tif', 'moving.png', 'moving.webp'):
        pages(tmp_path / 'camera' / name, 3)
        with pytest.raises(InputError, match='holds 3 pictures'):
            read_image(str(tmp_path / 'camera' / name), 1)
    pages(tmp_path / 'camera/one.tif', 1)
    r = run('project', 'new', tmp_path / 'P', '--images', tmp_path / 'camera', '--window', 32)
    assert r.exit_code == 0 and r.output.count('holds 3 pictures') == 3 and '1 image' in r.output


def test_smaller_copies_are_no_pages(tmp_path):
    path = tmp_path / 'pyramid.tif'
    pages(path, 3, smaller=True)
    with Image.open(path) as im:
        assert im.n_frames == 3
    assert read_image(str(path), 1).shape == (48, 64)


LARGE = """
import sys
from imbal_al.data.images import read_image
try: print(read_image(sys.argv[1], 1).shape)
except Exception as e: print(type(e).__name__, e)
"""


def black_png(path, width, height):
    "A PNG of one bit a pixel, row by row: the test itself shall not hold 750 million pixels"

    def part(name, content):
        return struct.pack('>I', len(content)) + name + content + struct.pack('>I', zlib.crc32(name + content))

    squeeze, row = zlib.compressobj(1), bytes(1 + -(-width // 8))
    rows = b''.join(squeeze.compress(row) for _ in range(height)) + squeeze.flush()
    head = struct.pack('>IIBBBBB', width, height, 1, 0, 0, 0, 0)
    path.write_bytes(b'\x89PNG\r\n\x1a\n' + part(b'IHDR', head) + part(b'IDAT', rows) + part(b'IEND', b''))


def test_the_drawn_png_is_what_it_says(tmp_path):
    black_png(tmp_path / 'a.png', 21, 5)
    with Image.open(tmp_path / 'a.png') as im:
        assert (im.mode, im.size, im.getbbox()) == ('1', (21, 5), None)


@pytest.mark.parametrize('size, wanted', {
    (12288, 8192): '(8192, 12288)',
    (16384, 12288): '(12288, 16384)',
    (20000, 16000): '320,000,000 pixels (20000 x 16000), above the limit of 300,000,000',
    (30000, 25000): '750,000,000 pixels',
}.items())
def test_large_images(tmp_path, size, wanted):
    black_png(tmp_path / 'large.png', *size)
    words = [sys.executable, '-c', LARGE, str(tmp_path / 'large.png')]
    r = subprocess.run(words, capture_output=True, text=True)
    assert wanted in r.stdout and not r.stderr, r
    if wanted[0] != '(':
        assert 'InputError' in r.stdout and 'IMBAL_AL_MAX_PIXELS=' in r.stdout


def test_the_limit_is_raised_as_told(tmp_path, monkeypatch):
    Image.new('1', (2000, 2000)).save(tmp_path / 'large.png')
    words = [sys.executable, '-c', LARGE, str(tmp_path / 'large.png')]
    monkeypatch.setenv('IMBAL_AL_MAX_PIXELS', '3999999')
    r = subprocess.run(words, capture_output=True, text=True)
    assert 'IMBAL_AL_MAX_PIXELS=4000000' in r.stdout
    monkeypatch.setenv('IMBAL_AL_MAX_PIXELS', '4000000')
    assert '(2000, 2000)' in subprocess.run(words, capture_output=True, text=True).stdout
