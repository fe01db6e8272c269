"imbal_al.data.scenarios: exact numbers, no leak, pairs that are pairs, and refusals that tell the truth"

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, example, given, settings, strategies as st

from imbal_al.core import InputError
from imbal_al.data.scenarios import MODES, split_groups, n_faulty, largest_size, make_scenario

R = np.random.default_rng(0)
TABLE = pd.DataFrame(
    dict(group=[f'g{i//4}' for i in range(2000)], faulty=(R.random(2000) < 0.4).astype(int))
)
PI = st.floats(0, 1) | st.sampled_from([0.0, 0.05, 0.07, 0.1, 0.29, 0.3, 0.5, 0.58, 0.9, 1.0, 1])


def make(pi_u=0.3, pool=200, pi_t=(0.3, 0.05), test=60, **kw):
    return make_scenario(TABLE, pi_u, pool, pi_t, test, **kw)


def arrays(s):
    return [s.pool, s.validation, s.heldout, *s.tests.values()]


def same(a, b):
    return list(a.tests) == list(b.tests) and all(
        np.array_equal(x, y) for x, y in zip(arrays(a), arrays(b))
    )


# --- how many


@pytest.mark.parametrize(
    'size,pi,n',
    [
        (100, 0.29, 29),
        (4300, 0.07, 301),
        (100, 0.58, 58),
        (500, 0.05, 25),
        (4300, 0.1, 430),
        (7, 0.5, 3),
        (10, 0.3, 3),
        (3, 1, 3),
        (3, 0, 0),
        (10, 0.999, 9),
        (1000, 0.57, 570),
        (200, 0.115, 23),
    ],
)
def test_n_faulty(size, pi, n):
    assert n_faulty(size, pi) == n


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 100), st.integers(1, 10**5))
def test_n_faulty_of_whole_percents(k, size):
    assert n_faulty(size, k / 100) == k * size // 100


@settings(max_examples=300, deadline=None)
@given(PI, st.integers(0, 400), st.integers(0, 400))
@example(1e-300, 0, 5)
@example(1 - 1e-16, 5, 0)
@example(5e-324, 3, 3)
def test_largest_size_is_the_largest(pi, faulty, healthy):
    ok = lambda n: n_faulty(n, pi) <= faulty and n - n_faulty(n, pi) <= healthy
    n = largest_size(pi, faulty, healthy)
    assert n >= 0 and ok(n) and not ok(n + 1)


# --- a scenario


@settings(max_examples=60, deadline=None)
@given(
    PI,
    st.integers(1, 400),
    st.lists(PI, min_size=1, max_size=3, unique=True),
    st.integers(1, 120),
    st.integers(0, 3),
    st.integers(0, 2**40),
    st.sampled_from(MODES),
)
def test_exact_numbers_and_no_leak(pi_u, pool, pi_t, test, repeat, seed, mode):
    try:
        s = make(pi_u, pool, tuple(pi_t), test, repeat=repeat, seed=seed, mode=mode)
    except InputError:
        assume(False)
    f, g = TABLE.faulty.to_numpy(), TABLE.group.to_numpy()
    assert len(s.pool) == pool and f[s.pool].sum() == n_faulty(pool, pi_u)
    assert list(s.tests) == list(pi_t)
    for p, t in s.tests.items():
        assert len(t) == test and f[t].sum() == n_faulty(test, p) and set(t) <= set(s.heldout)
    for a in arrays(s):
        assert len(set(a.tolist())) == len(a)
    parts = [s.pool, s.validation, s.heldout]
    for i in range(3):
        for j in range(i):
            assert not set(parts[i]) & set(parts[j])
            if mode == 'paired':
                assert not set(g[parts[i]]) & set(g[parts[j]])


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('faulty', [0, 1])
def test_tests_are_prefixes_of_each_other(mode, faulty):
    "Per class, the test at one prevalence is the beginning of the test at another: nothing but the prevalence differs"
    s = make(pi_t=(0.5, 0.05, 0.3), mode=mode)
    f = TABLE.faulty.to_numpy()
    a, b, c = ([i for i in s.tests[p] if f[i] == faulty] for p in (0.5, 0.05, 0.3))
    for x in (a, b, c):
        for y in (a, b, c):
            n = min(len(x), len(y))
            assert x[:n] == y[:n]
    small = make(pi_t=(0.5,), test=20, mode=mode)
    assert [i for i in small.tests[0.5] if f[i] == faulty] == a[:10]


def test_smaller_pools_are_part_of_larger_ones():
    assert set(make(pool=50).pool) < set(make(pool=200).pool)


def test_repeats_and_seeds():
    assert (
        same(make(), make()) and not same(make(), make(repeat=1)) and not same(make(), make(seed=1))
    )
    assert same(make(mode='paper', repeat=0), make(mode='paper', repeat=14)) and not same(
        make(mode='paper'), make(mode='paper', seed=1)
    )
    assert same(make(repeat=np.int64(2)), make(repeat=2))


def test_paired_prevalences_share_their_split():
    a, b = make(0.1), make(0.9)
    assert (
        np.array_equal(a.heldout, b.heldout)
        and np.array_equal(a.validation, b.validation)
        and set(a.pool) & set(b.pool)
    )


def test_pinned():
    "What the stored results were drawn with"
    s = make_scenario(
        pd.DataFrame(
            dict(group=[f'g{i//2}' for i in range(60)], faulty=[i % 3 == 0 for i in range(60)])
        ),
        0.5,
        10,
        (0.5,),
        4,
    )
    assert [s.pool.tolist(), s.tests[0.5].tolist()] == [
        [9, 6, 3, 45, 48, 16, 46, 8, 29, 53],
        [27, 21, 59, 26],
    ]


def test_scenario_does_not_depend_on_the_index_of_the_table():
    t = TABLE.set_index(np.arange(2000)[::-1])
    assert same(make(), make_scenario(t, 0.3, 200, (0.3, 0.05), 60)) and same(
        make(), make_scenario(TABLE.assign(faulty=TABLE.faulty == 1), 0.3, 200, (0.3, 0.05), 60)
    )


def test_paper_mode_splits_by_patch_80_10_10():
    s = make(mode='paper')
    assert abs(len(s.heldout) - 200) <= 2 and abs(len(s.validation) - 200) <= 2
    assert set(TABLE.group[s.pool]) & set(TABLE.group[s.heldout])


def test_groups_stay_together_and_are_stratified():
    g = np.repeat(np.arange(300), 3)
    f = np.zeros(900, bool)
    f[: 30 * 3 : 3] = True
    part = split_groups(g, f, rng=np.random.default_rng(0))
    assert all(len(set(part[g == i])) == 1 for i in range(300))
    assert np.bincount(part[::3][:30]).tolist() == [21, 3, 6] and np.bincount(
        part[::3]
    ).tolist() == [210, 30, 60]


# --- limits on what is evaluated


@pytest.mark.parametrize('limit', [0, 10, 60, 100, 10**6, None])
def test_heldout_limit(limit):
    s, whole, f = make(heldout_size=limit, validation_size=limit), make(), TABLE.faulty.to_numpy()
    assert (
        set(s.heldout) <= set(whole.heldout)
        and np.array_equal(s.pool, whole.pool)
        and all(np.array_equal(s.tests[k], whole.tests[k]) for k in s.tests)
    )
    assert all(set(t) <= set(s.heldout) for t in s.tests.values())
    if limit == 100:
        assert f[s.heldout].sum() == 50 and len(s.heldout) == 107
    if limit in (None, 10**6):
        assert set(s.heldout) == set(whole.heldout) and set(s.validation) == set(whole.validation)
    if limit == 10:
        assert len(s.validation) == 10 and f[s.validation].sum() == 5


def test_heldout_is_filled_up_where_one_class_is_short():
    t = pd.DataFrame(dict(group=range(1000), faulty=[i < 50 for i in range(1000)]))
    s = make_scenario(t, 0.02, 100, (0.05,), 20, heldout_size=100, validation_size=50)
    assert (
        len(s.heldout) == 100
        and t.faulty[s.heldout].sum() == 10
        and len(s.validation) == 50
        and t.faulty[s.validation].sum() == 5
    )


# --- refusals


@settings(max_examples=60, deadline=None)
@given(PI, st.sampled_from(MODES), st.booleans(), st.integers(0, 5))
def test_refusal_names_the_largest_size(pi, mode, pool, repeat):
    "The size it names works, one more does not"
    kw = lambda n: (
        dict(pi_u=pi, pool=n, pi_t=(0.3,), test=1)
        if pool
        else dict(pi_u=0.3, pool=1, pi_t=(pi,), test=n)
    )
    with pytest.raises(InputError) as e:
        make(**kw(3000), mode=mode, repeat=repeat)
    line = str(e.value)
    n = int(re.search(r'is (\d+)$', line)[1])
    assert '\n' not in line and line.startswith(
        f"{'pi_u' if pool else 'pi_t'} = {pi:g} with 3000 patches needs"
    )
    assert n > 0
    make(**kw(n), mode=mode, repeat=repeat)
    with pytest.raises(InputError):
        make(**kw(n + 1), mode=mode, repeat=repeat)


@pytest.mark.parametrize(
    'kw,match',
    [
        (dict(pi_u=-0.1), 'pi_u'),
        (dict(pi_u=1.01), '1.01'),
        (dict(pi_u=float('nan')), 'nan'),
        (dict(pi_u='0.1'), 'pi_u'),
        (dict(pi_u=None), 'None'),
        (dict(pi_t=(0.1, 2)), r'pi_t\[1\]'),
        (dict(pool=0), 'pool_size'),
        (dict(pool=-5), '-5'),
        (dict(pool=2.5), '2.5'),
        (dict(test=0), 'test_size'),
        (dict(seed=-1), 'seed'),
        (dict(repeat=-1), 'repeat'),
        (dict(repeat=0.5), 'repeat'),
        (dict(mode='unpaired'), 'paired, paper'),
    ],
)
def test_bad_settings(kw, match):
    with pytest.raises(InputError, match=match) as e:
        make(**kw)
    assert '\n' not in str(e.value)


@pytest.mark.parametrize('faulty', [0, 1])
def test_one_class_only(faulty):
    t = pd.DataFrame(dict(group=range(100), faulty=faulty))
    s = make_scenario(t, float(faulty), 70, (float(faulty),), 20)
    assert len(s.pool) == 70 and len(s.validation) == 10
    with pytest.raises(
        InputError,
        match=(
            'there are 0; the largest size at this prevalence is 1$'
            if not faulty
            else 'there are 0; the largest'
        ),
    ):
        make_scenario(t, 0.5, 10, (float(faulty),), 5)


def test_one_group_cannot_be_split():
    t = pd.DataFrame(dict(group='all', faulty=[0, 1] * 50))
    with pytest.raises(InputError, match='largest size at this prevalence is 0'):
        make_scenario(t, 0.5, 10, (0.5,), 5)
    with pytest.raises(InputError):
        make_scenario(t.iloc[:0], 0.5, 10, (0.5,), 5)


# --- the stream


@settings(max_examples=40, deadline=None)
@given(PI, st.integers(1, 300), st.integers(0, 200), st.integers(0, 3), st.sampled_from(MODES))
def test_the_stream_is_healthy_and_apart(pi_u, pool, size, repeat, mode):
    try:
        s = make(pi_u, pool, stream_size=size, repeat=repeat, mode=mode)
    except InputError:
        assume(False)
    f, g = TABLE.faulty.to_numpy(), TABLE.group.to_numpy()
    assert (
        len(set(s.stream.tolist())) == size
        and not f[s.stream].any()
        and not set(s.stream) & (set(s.pool) | set(s.heldout) | set(s.validation))
    )
    if mode == 'paired':
        assert not set(g[s.stream]) & (set(g[s.heldout]) | set(g[s.validation]))
    assert (
        same(s, make(pi_u, pool, repeat=repeat, mode=mode))
        and (
            make(pi_u, pool, stream_size=size // 2, repeat=repeat, mode=mode).stream
            == s.stream[: size // 2]
        ).all()
    )


def test_a_stream_that_is_too_small_says_how_much_there_is():
    with pytest.raises(
        InputError, match='the stream is to give 2000 healthy patches, ([0-9]+) are left'
    ) as e:
        make(stream_size=2000)
    n = int(re.search('patches, ([0-9]+) are', str(e.value))[1])
    assert len(make(stream_size=n).stream) == n and '\n' not in str(e.value)
    with pytest.raises(InputError):
        make(stream_size=n + 1)
