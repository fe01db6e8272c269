"The synthetic images: exact masks, twins, ratios, corner sizes, bad input, the same bytes in another process"

import hashlib, subprocess, sys
import numpy as np, pytest
from hypothesis import given, settings, strategies as st

from imbal_al.core import InputError
from imbal_al.data.synthetic import KINDS, dataset, image

kinds = st.sampled_from(KINDS)
sides = st.integers(16, 96)


def digest(*a):
    return hashlib.sha256(b''.join(np.ascontiguousarray(o).tobytes() for o in a)).hexdigest()[:16]


@settings(max_examples=60, deadline=None)
@given(
    kinds,
    st.integers(0, 10**12),
    st.tuples(sides, sides),
    st.integers(0, 10**20),
    st.one_of(st.none(), st.floats(1e-6, 0.5)),
)
def test_mask_is_exactly_what_changed(kind, index, size, seed, ratio):
    img, mask = image(kind, index, size, seed, True, ratio)
    twin, none = image(kind, index, size, seed, False, ratio)
    assert (
        img.dtype == mask.dtype == np.uint8
        and mask.shape == size
        and img.shape == size + ((3,) if kind == 'leaves' else ())
    )
    changed = img != twin
    if changed.ndim == 3:
        changed = changed.any(-1)
    assert np.array_equal(changed, mask == 1) and mask.max() == 1 and not none.any()
    if ratio is not None:
        assert mask.sum() == max(1, round(ratio * size[0] * size[1]))


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('size', [(16, 16), (16, 300), (400, 20), (33, 65)])
@pytest.mark.parametrize('ratio', [1e-9, 1 / 2000, 0.5])
def test_any_shape_meets_the_ratio(kind, size, ratio):
    for i in range(3):
        assert image(kind, i, size, 5, True, ratio)[1].sum() == max(
            1, round(ratio * size[0] * size[1])
        )


@pytest.mark.parametrize('kind', KINDS)
def test_healthy_image_knows_no_ratio(kind):
    a = image(kind, 3, 48, 1, False)[0]
    assert np.array_equal(a, image(kind, 3, 48, 1, False, 0.3)[0])
    for r in (0.001, 0.3):
        b, m = image(kind, 3, 48, 1, True, r)
        assert np.array_equal(a[m == 0], b[m == 0])


@pytest.mark.parametrize(
    'kind,lo,hi', [('cells', 1 / 2000, 1 / 200), ('steel', 0.005, 0.05), ('leaves', 0.01, 0.15)]
)
def test_natural_ratio(kind, lo, hi):
    share = np.array([image(kind, i, 128, 2, True)[1].mean() for i in range(40)])
    assert lo * 0.9 <= share.min() < lo * 3 and hi / 3 < share.max() <= hi * 1.1


@pytest.mark.parametrize('kind', KINDS)
def test_prevalence(kind):
    drawn = np.array([image(kind, i, 16)[1].any() for i in range(200)])
    assert 70 <= drawn.sum() <= 130
    assert np.array_equal(drawn[:20], [image(kind, i, (40, 24))[1].any() for i in range(20)])
    some, more = (dataset(kind, 40, 16, 0, p)[1].any((1, 2)) for p in (0.2, 0.8))
    assert 2 <= some.sum() <= 15 and 25 <= more.sum() <= 38 and not (some & ~more).any()
    assert (
        dataset(kind, 5, 16, 0, 1)[1].any((1, 2)).all() and not dataset(kind, 5, 16, 0, 0)[1].any()
    )


@pytest.mark.parametrize('kind', KINDS)
def test_images_differ(kind):
    seen = {digest(image(kind, i, 32, s, False)[0]) for i in range(8) for s in range(3)}
    assert len(seen) == 24
    masks = {digest(image(kind, i, 64, 0, True, 0.02)[1]) for i in range(12)}
    assert len(masks) == 12


@pytest.mark.parametrize('kind', KINDS)
def test_tones_are_a_photograph(kind):
    x, _ = dataset(kind, 30, 64, seed=4, prevalence=0)
    means = x.reshape(30, -1).mean(1)
    assert 40 < means.min() and means.max() < 215 and means.std() > 8
    assert ((x == 0) | (x == 255)).mean() < 0.02


@pytest.mark.parametrize('kind', KINDS)
def test_contrast_runs_from_barely_to_clearly_visible(kind):
    c = []
    for i in range(60):
        img, m = image(kind, i, 96, 6, True)
        twin = image(kind, i, 96, 6, False)[0]
        c.append(np.abs(img.astype(int) - twin)[m == 1].mean())
    assert min(c) < 15 and max(c) > 30


FIXED = {'cells': '6ccd57456d2b3b23', 'steel': '0cc823a4fc37b3ac', 'leaves': '1a620f2bcdada5fb'}


@pytest.mark.parametrize('kind', KINDS)
def test_fixed_bytes(kind):
    """Changes only when the drawing is changed on purpose, or numpy its random streams.

    Then every seed means another image."""
    assert (
        digest(*image(kind, 7, (48, 80), 11, True), *image(kind, 8, 33, 11, True, 0.01))
        == FIXED[kind]
    )


def test_same_in_another_process():
    code = (
        "import hashlib\nfrom imbal_al.data.synthetic import KINDS, dataset\n"
        "drawn = (o.tobytes() for k in KINDS for o in dataset(k, 3, (40,56), 9))\n"
        "print(hashlib.sha256(b''.join(drawn)).hexdigest()[:16])"
    )
    out = subprocess.run(
        [sys.executable, '-c', code],
        capture_output=True,
        text=True,
        check=True,
        env={'PYTHONHASHSEED': '77', 'PATH': ''},
    )
    assert out.stdout.strip() == digest(*(o for k in KINDS for o in dataset(k, 3, (40, 56), 9)))


def test_global_random_state_is_neither_read_nor_written():
    np.random.seed(1)
    a = image('steel', 0, 32)
    before = np.random.get_state()[1].copy()
    assert np.array_equal(before, np.random.get_state()[1])
    np.random.seed(2)
    assert np.array_equal(a[0], image('steel', 0, 32)[0])


def test_results_may_be_written_to():
    for kind in KINDS:
        first = image(kind, 1, 32, faulty=True)
        keep = [o.copy() for o in first]
        for o in first:
            o[:] = 0
        assert all(map(np.array_equal, keep, image(kind, 1, 32, faulty=True)))


@pytest.mark.parametrize(
    'call,word',
    [
        (lambda: image('wood', 0), 'wood'),
        (lambda: image('', 0), 'cells, steel, leaves'),
        (lambda: image('steel', -1), 'index is -1'),
        (lambda: image('steel', 1.5), 'index is 1.5'),
        (lambda: image('steel', True), 'index is True'),
        (lambda: image('steel', 0, seed=-3), 'seed is -3'),
        (lambda: image('steel', 0, seed=None), 'seed is None'),
        (lambda: image('steel', 0, 15), 'size 15'),
        (lambda: image('steel', 0, 64.0), 'size 64.0'),
        (lambda: image('steel', 0, (64, 8)), 'size (64, 8)'),
        (lambda: image('steel', 0, (64, 64, 3)), 'size (64, 64, 3)'),
        (lambda: image('steel', 0, '64'), "size '64'"),
        (lambda: image('steel', 0, 10**9), 'size 1000000000'),
        *[
            (lambda r=r: image('cells', 0, defect_ratio=r), 'defect_ratio')
            for r in (0, -0.1, 0.51, float('nan'), float('inf'), '1%', True)
        ],
        (lambda: image('cells', 0, faulty='yes'), "faulty is 'yes'"),
        (lambda: dataset('steel', 0), 'n is 0'),
        (lambda: dataset('steel', 2, prevalence=1.1), 'prevalence is 1.1'),
        (lambda: dataset('wood', 2), 'wood'),
        (lambda: dataset('steel', 2, prevalence=float('nan')), 'prevalence is nan'),
    ],
)
def test_bad_input_is_one_line(call, word):
    with pytest.raises(InputError) as e:
        call()
    assert word in str(e.value) and '\n' not in str(e.value)
