"Compiled counts: the same numbers and the same errors as NumPy's, and never an import that cannot pay back"

import os
import subprocess
import sys
import warnings
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from imbal_al.core import InputError
from imbal_al.measure import counting
from imbal_al.measure.counting import HISTOGRAM, MASKS, counted_by, is_worth_it
from imbal_al.measure.metrics import EDGES, P_EDGES, confusion, histogram

HAS_NUMBA = find_spec('numba') is not None
FAR = [-99, 99, 1e300, -1e300, np.inf, -np.inf, 0.0, -0.0]
NEAR = np.r_[EDGES, np.nextafter(EDGES, -99), np.nextafter(EDGES, 99), FAR]
NEAR_P = np.r_[P_EDGES, np.nextafter(P_EDGES, -1), np.nextafter(P_EDGES, 2), 0.0, -0.0, 1e-300, 1 - 1e-16].clip(0, 1)


@pytest.fixture(params=['interpreted', 'compiled'])
def by(request, monkeypatch):
    "The steps as Python runs them, which needs nothing, and compiled where numba is installed"
    if request.param == 'interpreted':
        monkeypatch.setattr(counting, '_compiled', lambda step, dtype='f4': step)
    elif not HAS_NUMBA:
        pytest.skip('numba is not installed')
    return request.param


def told(f, *args, **named):
    "What a call gives, or the error that it raises"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            found = f(*args, **named)
    except InputError as e:
        return str(e)
    return found.dtype, found.shape, found.tobytes()


def same(f, *args, **named):
    "Both ways say the same; what they say"
    with counted_by('numpy'):
        wanted = told(f, *args, **named)
    with counted_by('compiled'):
        assert told(f, *args, **named) == wanted
    return wanted


def laid(array, how):
    "The same numbers, otherwise in memory"
    if how == 'fortran':
        return np.asfortranarray(array)
    if how == 'strided':
        wide = np.zeros((*array.shape[:2], 2 * array.shape[2]), array.dtype)
        wide[..., ::2] = array
        return wide[..., ::2]
    if how == 'turned':
        return array[:, ::-1].copy()[:, ::-1]
    array = array.copy()
    array.flags.writeable = how != 'read-only'
    return array


LAYOUTS = st.sampled_from(['plain', 'fortran', 'strided', 'turned', 'read-only'])


@st.composite
def predictions(draw):
    "values, masks, are they logits?"
    shape = tuple(draw(st.integers(0, most)) for most in (3, 6, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    logits = draw(st.booleans())
    near = rng.choice(NEAR if logits else NEAR_P, shape)
    far = rng.normal(-3, 5, shape) if logits else rng.random(shape)
    values = np.where(rng.random(shape) < 0.5, near, far)
    with np.errstate(all='ignore'):
        values = values.astype(draw(st.sampled_from(['f2', 'f4', 'f8', '>f4', 'i8'])))
    masks = (rng.random(shape) < 0.3).astype(draw(st.sampled_from(['?', 'u1', 'i8', 'f4'])))
    for array, odd in ((values, [np.nan, np.inf, -1, 2]), (masks, [2, 255, 7])):
        if array.size and array.dtype.kind not in '?i' and draw(st.integers(0, 3)) == 0:
            array.flat[draw(st.integers(0, array.size - 1))] = draw(st.sampled_from(odd))
    return laid(values, draw(LAYOUTS)), laid(masks, draw(LAYOUTS)), logits


@settings(max_examples=300, deadline=None)
@given(case=predictions())
def test_interpreted_histograms_are_numpys(case):
    values, masks, logits = case
    with pytest.MonkeyPatch.context() as m:
        m.setattr(counting, '_compiled', lambda step, dtype='f4': step)
        same(histogram, values, masks, logits=logits)


@pytest.mark.skipif(not HAS_NUMBA, reason='numba is not installed')
@settings(max_examples=200, deadline=None)
@given(case=predictions())
def test_compiled_histograms_are_numpys(case):
    values, masks, logits = case
    same(histogram, values, masks, logits=logits)


@settings(max_examples=100, deadline=None)
@given(
    shape=st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 9)),
    seed=st.integers(0, 2**32),
    kinds=st.tuples(*[st.sampled_from(['?', '?', 'u1', 'f8'])] * 2),
    how=st.tuples(LAYOUTS, LAYOUTS),
)
def test_masks_are_counted_as_numpy_counts_them(shape, seed, kinds, how):
    rng = np.random.default_rng(seed)
    p, y = (laid((rng.random(shape) < 0.4).astype(kind), layout) for kind, layout in zip(kinds, how))
    with pytest.MonkeyPatch.context() as m:
        if not HAS_NUMBA:
            m.setattr(counting, '_compiled', lambda step, dtype='f4': step)
        same(confusion, p, y)


@pytest.mark.parametrize('dtype', ['f2', 'f4', 'f8'])
def test_every_half_and_every_edge(by, dtype):
    "All 65,536 numbers of half precision, and whatever lies on an edge, as logits and as probabilities"
    with np.errstate(all='ignore'):
        every = np.r_[np.arange(2**16, dtype=np.uint16).view(np.float16), NEAR].astype(dtype)
    every = every[~np.isnan(every)]
    no_defect = np.zeros((1, 1, len(every)), bool)
    same(histogram, every[None, None], no_defect, logits=True)
    share = np.r_[every[(every >= 0) & (every <= 1)], NEAR_P.astype(dtype)][None, None]
    assert not isinstance(same(histogram, share, share > 0.5), str)


@pytest.mark.parametrize('side', [(300, 301), (256, 256), (1, 2**15), (1, 2**15 - 1), (1, 2**15 + 1)])
def test_large_images_are_counted_in_pieces(side):
    "Above 2**16 pixels in several, in pairs where they are many; 65,535 equal neighbours do not overflow"
    if not HAS_NUMBA:
        pytest.skip('numba is not installed')
    rng = np.random.default_rng(0)
    masks = rng.random((2, *side)) < 0.1
    for z in (rng.normal(-4, 4, (2, *side)).astype('f4'), np.full((2, *side), -20, 'f4')):
        assert not isinstance(same(histogram, z, masks, logits=True), str)
        same(confusion, z > 0, masks)
    same(confusion, np.ones((1, *side), bool), np.ones((1, *side), bool))


def test_a_wrong_mask_is_said_before_a_nan_and_image_by_image(by):
    "As NumPy does: the first image that is wrong, and of one image the mask; also where they are in other pieces"
    side = 300 if by == 'compiled' else 2
    z, masks = np.zeros((2, side, side), 'f4'), np.zeros((2, side, side), 'u1')
    z[0, 0, 0] = np.nan
    assert 'nan' in same(histogram, z, masks, logits=True)
    masks[1, 0, 0] = 2
    assert 'nan' in same(histogram, z, masks, logits=True)
    masks[0, -1, -1] = 2
    assert '0 and 1 only' in same(histogram, z, masks, logits=True)


# ---- when


def test_a_small_call_is_numpys_and_a_large_one_pays_back(monkeypatch):
    monkeypatch.setattr(counting, '_numba', counting.lru_cache(1)(lambda: None))
    assert not is_worth_it(HISTOGRAM - 1, HISTOGRAM) and is_worth_it(HISTOGRAM, HISTOGRAM)
    assert not is_worth_it(HISTOGRAM, MASKS)
    counting._numba()
    assert is_worth_it(1, HISTOGRAM), 'it is imported now'
    with counted_by('numpy'):
        assert not is_worth_it(2 * MASKS, MASKS)


def test_nothing_imports_it_that_does_not_count_a_billion_pixels():
    code = (
        'import sys, numpy as np\n'
        'from imbal_al.measure.metrics import confusion, histogram\n'
        'z = np.zeros((2, 64, 64), np.float32)\n'
        'histogram(z, z > 1, logits=True), confusion(z > 0, z > 1)\n'
        'import imbal_al.cli\n'
        'sys.exit("numba" in sys.modules)'
    )
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0


# ---- where it cannot be


def test_without_a_compiler_numpy_counts(monkeypatch):
    monkeypatch.setattr(counting, '_numba', lambda: None)
    counting._made.cache_clear()
    z = np.zeros((1, 2, 2), 'f4')
    same(histogram, z, z > 1, logits=True)
    same(confusion, z > 1, z > 1)
    with pytest.raises(counting.CannotCompile):
        counting.mask_counter()


class Stub:
    "A compiler that fails where it is to keep what it has compiled"

    def __init__(self, able):
        self.able, self.asked = able, []

    def njit(self, types, cache, nogil):
        self.asked.append(cache)
        if cache or not self.able:
            raise RuntimeError('cannot cache function: no locator available')
        return lambda step: step


@pytest.mark.parametrize('able', [True, False])
def test_what_cannot_be_kept_is_compiled_again_and_what_cannot_be_compiled_is_numpys(able, monkeypatch):
    stub = Stub(able)
    monkeypatch.setattr(counting, '_numba', lambda: stub)
    monkeypatch.setattr(counting, '_arguments', lambda *how: ())
    counting._made.cache_clear()
    z = np.linspace(-9, 9, 12).reshape(1, 3, 4).astype('f4')
    same(histogram, z, z > 8, logits=True)
    same(confusion, z > 1, z > 1)
    assert set(stub.asked) == {True, False}
    asked = len(stub.asked)
    same(histogram, z, z > 8, logits=True)
    assert len(stub.asked) == asked, 'what failed is not tried again'
    counting._made.cache_clear()


@pytest.mark.skipif(not HAS_NUMBA, reason='numba is not installed')
def test_a_folder_that_cannot_be_written_fails_nothing(tmp_path):
    "The real one, whose cache lies where nothing can be made: below a file"
    (tmp_path / 'file').write_text('')
    code = (
        'import numpy as np\n'
        'from imbal_al.measure.counting import _compiled, _count_pixels, counted_by\n'
        'from imbal_al.measure.metrics import confusion\n'
        'with counted_by("compiled"): print(confusion(np.ones((1, 3, 7), bool), np.ones((1, 3, 7), bool)))\n'
        'assert _compiled(_count_pixels) is not _count_pixels'
    )
    surroundings = dict(os.environ, NUMBA_CACHE_DIR=str(tmp_path / 'file'))
    done = subprocess.run([sys.executable, '-c', code], env=surroundings, capture_output=True, text=True)
    assert done.returncode == 0 and '[[21  0  0]]' in done.stdout, done.stderr
