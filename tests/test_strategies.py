"imbal_al.strategies: greedy k-center against brute force, entropy at its ends, and what holds for every strategy"
import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from imbal_al.core import InputError
from imbal_al.strategies import *


def brute(x, n, labelled=()):
    "The definition, in float64"
    x, c, out = np.asarray(x, np.float64), list(labelled), []
    far = lambda a: ((x-a)**2).sum(1)
    while len(out)<n:
        d = np.min([far(x[o]) for o in c], 0) if c else far(x.mean(0))
        d[list(labelled)+out] = -1
        out.append(int(d.argmax())); c.append(out[-1])
    return np.array(out)


def check_greedy(x, picks, labelled=(), rtol=1e-4):
    "Each pick is as far from all centres as any other point, up to rounding: ties may go either way"
    x, c = np.asarray(x, np.float64), list(labelled)
    assert len(set(picks.tolist())|set(labelled))==len(picks)+len(labelled)
    scale = np.ptp(x, axis=0).max() if len(x) else 0
    for p in picks:
        d = np.sqrt(np.min([((x-x[o])**2).sum(1) for o in c], 0) if c else ((x-x.mean(0))**2).sum(1))
        free = np.setdiff1d(np.arange(len(x)), c)
        assert d[p] >= d[free].max()*(1-rtol)-3e-4*scale
        c.append(int(p))


R = np.random.default_rng(0)
CLOUDS = dict(
    random=R.normal(size=(300,16)), unit=(lambda a: a/np.linalg.norm(a,axis=1,keepdims=True))(R.random((300,64))),
    clustered=np.repeat(R.normal(size=(6,8))*10, 50, 0)+R.normal(size=(300,8))*.1, line=R.normal(size=(300,1)), plane=R.random((300,2)),
    far=R.normal(size=(300,8))+1e4, one_away=np.r_[R.normal(size=(299,4)), [[50.,0,0,0]]])


# --- k-center greedy

@pytest.mark.parametrize('block', [1,2,7,64,1024])
@pytest.mark.parametrize('name', CLOUDS)
def test_equals_brute_force(name, block):
    x = CLOUDS[name]
    for labelled in ((), (3,), tuple(range(0,300,17))):
        np.testing.assert_array_equal(k_center_greedy(x, 40, labelled, block), brute(x, 40, labelled))


@pytest.mark.parametrize('block', [5,1024])
@pytest.mark.parametrize('name', CLOUDS)
def test_float32_is_greedy_up_to_rounding(name, block):
    x = CLOUDS[name].astype(np.float32)
    for labelled in ((), (7,19)): check_greedy(x, k_center_greedy(x, 60, labelled, block), labelled)


def test_float32_close_to_the_origin_equals_brute_force():
    x = CLOUDS['unit'].astype(np.float32)
    np.testing.assert_array_equal(k_center_greedy(x, 50, [1,2], 16), brute(x, 50, [1,2]))


@pytest.mark.parametrize('block', [1,3,8,1024])
def test_ties_and_duplicates_take_the_lowest_index(block):
    same = np.zeros((40,3))
    assert k_center_greedy(same, 40, block=block).tolist()==list(range(40))
    assert k_center_greedy(same, 3, [0,1], block).tolist()==[2,3,4]
    grid = np.array([[i,j] for i in range(6) for j in range(6)], float).repeat(2, 0)
    np.testing.assert_array_equal(k_center_greedy(grid, 72, block=block), brute(grid, 72))
    np.testing.assert_array_equal(k_center_greedy(grid, 60, [5,6], block), brute(grid, 60, [5,6]))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_whole_numbers_equal_brute_force(data):
    "Small whole numbers are exact in float64 on both sides: no tolerance at all"
    n, d = data.draw(st.integers(1,25)), data.draw(st.integers(1,3))
    x = np.array(data.draw(st.lists(st.lists(st.integers(-4,4), min_size=d, max_size=d), min_size=n, max_size=n)), float)
    labelled = data.draw(st.lists(st.integers(0,n-1), unique=True, min_size=1))
    x -= x.sum(0)/len(x) if len(x)&(len(x)-1)==0 else 0
    k, block = data.draw(st.integers(0,n-len(labelled))), data.draw(st.sampled_from([1,2,5,1024]))
    picks = k_center_greedy(x, k, labelled, block)
    check_greedy(x, picks, tuple(labelled), 1e-9)


def test_prefix_property():
    x = CLOUDS['random']
    np.testing.assert_array_equal(k_center_greedy(x, 50, [1], 16)[:20], k_center_greedy(x, 20, [1], 16))


def test_torch_input_is_the_same():
    x = CLOUDS['random'].astype(np.float32)
    want = k_center_greedy(x, 20, [4,5])
    np.testing.assert_array_equal(k_center_greedy(torch.tensor(x, requires_grad=True), 20, torch.tensor([4,5])), want)
    check_greedy(torch.tensor(x).bfloat16().float().numpy(), k_center_greedy(torch.tensor(x).bfloat16(), 20, [4,5]), (4,5))
    check_greedy(x.astype(np.float16), k_center_greedy(x.astype(np.float16), 20, [4,5]), (4,5))


def test_memory_mapped_and_read_only_input(tmp_path):
    x = CLOUDS['random'].astype(np.float32); np.save(tmp_path/'x.npy', x)
    m = np.load(tmp_path/'x.npy', mmap_mode='r')
    np.testing.assert_array_equal(k_center_greedy(m, 20, [0]), k_center_greedy(x, 20, [0]))
    np.testing.assert_array_equal(k_center_greedy(x[::-1], 20, [0]), k_center_greedy(x[::-1].copy(), 20, [0]))
    np.testing.assert_array_equal(x, np.load(tmp_path/'x.npy'))


def test_integers_are_points_too():
    x = R.integers(0, 255, (50,3)).astype(np.uint8)
    check_greedy(x, k_center_greedy(x, 20, [0]), (0,))


def test_ends():
    x = CLOUDS['random']
    for o in (k_center_greedy(x, 0), k_center_greedy(x, 0, range(300)), k_center_greedy(np.empty((0,5)), 0)): assert o.shape==(0,) and o.dtype==np.int64
    assert sorted(k_center_greedy(x, 300))==list(range(300))
    assert k_center_greedy(x, 1, list(set(range(300))-{77})).tolist()==[77]
    assert k_center_greedy(x, 2, [3,3,3]).tolist()==k_center_greedy(x, 2, [3]).tolist()
    assert k_center_greedy(x[:1], 1).tolist()==[0]


@pytest.mark.parametrize('n,labelled', [(301,None), (300,[0]), (1,range(300)), (-1,None)])
def test_more_than_is_left(n, labelled):
    with pytest.raises(ValueError, match='left of 300'): k_center_greedy(CLOUDS['random'], n, labelled)


@pytest.mark.parametrize('labelled,match', [([300],'300'), ([-1],'-1'), (np.zeros(300,bool),'indices'), ([.5],'indices')])
def test_bad_labelled(labelled, match):
    with pytest.raises(InputError, match=match): k_center_greedy(CLOUDS['random'], 1, labelled)


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_not_a_number_is_refused(bad, dtype):
    x = CLOUDS['random'].astype(dtype); x[200,3] = bad
    with pytest.raises(InputError, match='nan'), np.errstate(all='ignore'): k_center_greedy(x, 3)


def test_wrong_shape():
    for x in (np.zeros(5), np.zeros((5,2,2))):
        with pytest.raises(InputError, match='N,D'): k_center_greedy(x, 1)


# --- entropy

def test_entropy_by_hand():
    p = np.array([[[.5,.5],[.5,.5]], [[0,1],[1,0]], [[.25,.75],[.5,0]]])
    h = -.25*np.log(.25)-.75*np.log(.75)
    np.testing.assert_allclose(mean_entropy(p), [np.log(2), 0, (2*h+np.log(2))/4], rtol=1e-14)
    assert (np.signbit(mean_entropy(p))==0).all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_entropy_of_torch(dtype):
    p = torch.rand(4,3,5, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    np.testing.assert_allclose(mean_entropy(p), mean_entropy(p.detach().double().numpy()))


def test_entropy_is_silent_and_exact_at_the_ends():
    with np.errstate(all='raise'): assert mean_entropy(np.array([[0.,1.],[1.,1.]])).tolist()==[0,0]
    assert mean_entropy(np.array([[1e-300,5e-324]]))[0]>=0
    assert mean_entropy(np.zeros((2,4,4),np.uint8)).tolist()==[0,0]


def test_entropy_of_nothing(): assert mean_entropy(np.empty((0,4,4))).shape==(0,)


@pytest.mark.parametrize('bad', [np.nan, -.01, 1.01, np.inf])
def test_entropy_refuses(bad):
    with pytest.raises(InputError, match=r'\[0,1\]'): mean_entropy(np.array([[.5,bad]]))


def test_entropy_shape():
    with pytest.raises(InputError, match='N,H,W'): mean_entropy(np.zeros(3))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0,1), min_size=1, max_size=8))
def test_entropy_bounds_and_symmetry(p):
    a, b = mean_entropy([p]), mean_entropy([[1-o for o in p]])
    assert 0<=a[0]<=np.log(2)+1e-12 and abs(a-b)<1e-9


# --- every strategy

def candidates(n=30, seed=0):
    r = np.random.default_rng(seed)
    return Candidates(n, r.random(n).astype(np.float32), r.integers(0,3,n), r.normal(size=(n,5)).astype(np.float32), r.normal(size=(4,5)).astype(np.float32), r.random(n)<.3)


def rng(): return np.random.default_rng(1)


def test_registry():
    assert set(STRATEGIES)=={'random','entropy','coreset','coreset_paper','random_faulty','random_predicted_faulty'}
    assert STRATEGIES['coreset'].needs=={'embedding'} and STRATEGIES['coreset_paper'].needs=={'training_embedding'} and STRATEGIES['random'].needs==set()


@pytest.mark.parametrize('name', STRATEGIES)
def test_every_strategy(name):
    c = candidates(); before = copy.deepcopy(c)
    for n in (0,1,13,30):
        p = select(name, c, n, rng())
        assert p.dtype==np.int64 and p.shape==(n,) and len(set(p.tolist()))==n and set(p.tolist())<=set(range(30))
        np.testing.assert_array_equal(p, select(name, copy.deepcopy(c), n, rng()))
    for k,v in vars(before).items(): np.testing.assert_array_equal(getattr(c,k), v)
    with pytest.raises(InputError, match='31 .*30'): select(name, c, 31, rng())


@pytest.mark.parametrize('name', STRATEGIES)
def test_no_strategy_looks_at_more_than_it_says(name):
    "Truth above all: only random_faulty may see it"
    a, b, needs = candidates(), candidates(seed=5), STRATEGIES[name].needs
    for k in ('entropy','foreground','faulty'):
        if k in needs: setattr(b, k, getattr(a, k))
    if needs&{'embedding','training_embedding'}: b.embedding,b.labelled_embedding = a.embedding,a.labelled_embedding
    np.testing.assert_array_equal(select(name, a, 10, rng()), select(name, b, 10, rng()))
    assert 'faulty' not in needs or name=='random_faulty'


def test_unknown_strategy():
    with pytest.raises(InputError, match="unknown strategy 'entropie'.*entropy"): select('entropie', candidates(), 1, rng())


@pytest.mark.parametrize('name,field', [('random_faulty','faulty'), ('random_predicted_faulty','foreground')])
def test_preferred_first_then_the_rest(name, field):
    c = candidates(); good = set(np.flatnonzero(getattr(c, field)>0).tolist()); k = len(good)
    assert set(select(name, c, k, rng()).tolist())==good
    more = select(name, c, k+5, rng())
    assert set(more[:k].tolist())==good and not set(more[k:].tolist())&good
    draws = {tuple(sorted(select(name, c, 3, np.random.default_rng(i)).tolist())) for i in range(20)}
    assert len(draws)>5
    setattr(c, field, np.zeros(30, int))
    assert len(set(select(name, c, 30, rng()).tolist()))==30


def test_random_is_uniform():
    c, r = Candidates(10), rng()
    n = np.bincount(np.concatenate([select('random', c, 3, r) for _ in range(4000)]), minlength=10)
    assert abs(n-1200).max()<5*np.sqrt(4000*.3*.7)


def test_entropy_takes_the_highest_and_breaks_ties_by_index():
    assert select('entropy', Candidates(5, np.array([.1,.5,.2,.5,0])), 4, rng()).tolist()==[1,3,2,0]


def test_coreset_counts_all_labelled_as_centres():
    c = Candidates(3, embedding=np.array([[0.,0],[1,0],[10,0]]), labelled_embedding=np.array([[10.,.2],[0,.1]]))
    np.testing.assert_array_equal(select('coreset', c, 3, rng())+2, brute(np.r_[c.labelled_embedding, c.embedding], 3, (0,1)))
    assert select('coreset', c, 1, rng()).tolist()==[1]
