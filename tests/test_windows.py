"Tiling and prediction: every pixel once, no seams, any size, one batch in memory"

import numpy as np, pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from imbal_al.core import InputError
from imbal_al.data.images import read_image
from imbal_al.core import ahead
from imbal_al.networks.tiling import Windows, _fade, _layout, _starts
from imbal_al.networks.predict import predict


def value(batch):
    return batch[..., 0].astype(np.float32), None


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.sampled_from([Windows(64, 32), Windows(64, 16, 4), Windows(32, 0), Windows(96, 48, 16, 16)]),
    st.integers(1, 9),
)
def test_a_function_of_the_pixel_comes_back_uncut(h, w, o, bs):
    im = np.random.default_rng(h * 1000 + w).integers(0, 256, (h, w, 1), dtype=np.uint8)
    ((z, e),) = predict(value, [im], o, bs)
    assert e is None and z.shape == (h, w) and np.abs(z - im[..., 0]).max() < 1e-3


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 8), st.integers(0, 200))
def test_starts_cover_the_side_on_the_grid(length, k, overlap):
    try:
        w = Windows(32 * k, overlap)
    except InputError:
        assert overlap > 32 * k - 32
        return
    s = _starts(length, w)
    assert (
        s[0] == 0
        and all(o % 32 == 0 for o in s)
        and s[-1] + w.size >= length
        and (len(s) == 1 or s[-1] < length)
    )
    assert all(overlap <= a + w.size - b and a < b for a, b in zip(s, s[1:]))


def test_weights_sum_to_one_where_two_windows_overlap_evenly():
    w = Windows(64, 32)
    for m in (0, 4, 15):
        w = Windows(64, 32, m)
        assert np.allclose(_fade(w, False, True)[32:] + _fade(w, True, False)[:32], 1)


def test_equal_to_the_whole_image_within_the_margin_and_not_without():
    import torch

    torch.manual_seed(1)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 9, padding=4),
        torch.nn.Tanh(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(2, 1, 5, padding=2),
        torch.nn.Upsample(scale_factor=2),
    ).eval()

    def run(b):
        with torch.inference_mode():
            return net(torch.tensor(b).permute(0, 3, 1, 2).float() / 255)[:, 0].numpy(), None

    im = np.random.default_rng(0).integers(0, 256, (192, 160), dtype=np.uint8)
    whole = run(im[None, ..., None])[0][0]
    far = [
        np.abs(next(predict(run, [im], o))[0] - whole).max()
        for o in (Windows(64, 32, 12), Windows(64, 32), Windows(64, 0))
    ]
    assert far[0] < 1e-6 < far[1] < far[2]


def test_images_of_all_sizes_in_one_stream_keep_their_order_and_share_batches():
    rng, sizes = np.random.default_rng(0), [(10, 10), (200, 90), (64, 64), (3, 130), (65, 65)]
    ims, seen = [rng.integers(0, 256, (*o, 3), dtype=np.uint8) for o in sizes], []

    def run(b):
        seen.append(len(b))
        return b[..., 1].astype(np.float32), b.mean((1, 2))

    out = list(predict(run, iter(ims), Windows(64, 32), 4))
    assert all(np.allclose(z, im[..., 1]) for (z, _), im in zip(out, ims, strict=True)) and all(
        abs(np.linalg.norm(e) - 1) < 1e-5 for _, e in out
    )
    n = sum(len(_layout(o, Windows(64, 32))) for o in sizes)
    assert seen == [4] * (n // 4) + [n % 4] * (n % 4 > 0)


def test_memory_does_not_grow_with_the_number_of_images():
    made = 0

    def images():
        nonlocal made
        for _ in range(50):
            made += 1
            yield np.zeros((64, 64, 1), np.uint8)

    got = 0
    for _ in predict(value, images(), Windows(64, 32), 4):
        got += 1
        assert made - got < 4
    assert got == 50


def test_ahead_raises_where_the_result_would_be_and_stays_near():
    asked = []

    def f(o):
        asked.append(o)
        return 1 // (3 - o)

    g = ahead(f, range(100), 2)
    assert [next(g) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(g)
    assert len(asked) <= 6 and list(ahead(str, [])) == []


@pytest.mark.parametrize(
    'kw,says',
    [
        (dict(size=0), 'multiple of 32'),
        (dict(size=100), 'multiple of 32'),
        (dict(size=64, overlap=64), 'at most 32'),
        (dict(size=64, overlap=16, margin=8), 'more than 16'),
        (dict(size=64, overlap=0, margin=1), 'needs an overlap'),
        (dict(size='64'), 'number of pixels'),
        (dict(overlap=-1), 'number of pixels'),
        (dict(size=True), 'number of pixels'),
        (
            dict(
                size=64.0,
            ),
            'number of pixels',
        ),
    ],
)
def test_bad_windows_are_one_line(kw, says):
    with pytest.raises(InputError, match=says) as e:
        Windows(**kw)
    assert '\n' not in str(e.value)


def _save(path, im, **kw):
    im.save(path, **kw)
    return str(path)


def test_every_kind_of_file_is_read_upright_in_8_bit(tmp_path):
    grey = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    rgb = np.stack([grey, 255 - grey, grey // 2], -1)
    deep = _save(tmp_path / 'deep.png', Image.fromarray(grey.astype(np.uint16) * 257))
    assert (read_image(deep, 1) == grey).all() and (read_image(deep, 3) == grey[..., None]).all()
    tif = _save(tmp_path / 'deep.tif', Image.fromarray(grey.astype(np.uint16) * 257))
    assert (read_image(tif, 1) == grey).all()
    alpha = _save(tmp_path / 'alpha.png', Image.fromarray(np.dstack([rgb, grey])))
    assert (read_image(alpha, 3) == rgb).all()
    la = _save(
        tmp_path / 'la.png', Image.merge('LA', [Image.fromarray(grey), Image.fromarray(255 - grey)])
    )
    assert (read_image(la, 1) == grey).all()
    pal = Image.fromarray(grey // 10).convert('P')
    pal.putpalette(rgb.reshape(-1, 3).tobytes())
    assert (read_image(_save(tmp_path / 'pal.png', pal, transparency=0), 3) == rgb).all()
    assert (
        read_image(_save(tmp_path / 'bits.png', Image.fromarray(grey > 100)), 1)
        == (grey > 100) * 255
    ).all()
    flat = Image.new('CMYK', (6, 4), (0, 255, 255, 0))
    a = read_image(_save(tmp_path / 'cmyk.jpg', flat, quality=100), 3)
    assert a.shape == (4, 6, 3) and a[..., 0].min() > 200 and a[..., 1:].max() < 60
    exif = Image.Exif()
    exif[274] = 6
    turned = _save(tmp_path / 'exif.png', Image.fromarray(grey), exif=exif)
    assert (read_image(turned, 1) == np.rot90(grey, -1)).all()
