"Batches with at most k of a group: for every strategy, in a project, and told by the command"

from collections import Counter

import numpy as np, pytest
from PIL import Image
from hypothesis import given, settings, strategies as st

from imbal_al.core import InputError
from imbal_al.project.intake import new
from imbal_al.project.labelled import write_label
from imbal_al.project.state import queued
from imbal_al.project.rounds import _at_random, next_round
from imbal_al.project.state import is_held_out, unit_group
from imbal_al.strategies.choose import STRATEGIES, _take, select, select_spread

from imbal_al.strategies.registry import Candidates
from imbal_al.data.synthetic import image


def candidates(n, seed=0):
    g = np.random.default_rng(seed)
    x = g.normal(size=(n, 3))
    return Candidates(
        n,
        entropy=g.random(n),
        foreground=g.integers(0, 9, n),
        embedding=x,
        labelled_embedding=x[:1] + 9,
        faulty=g.random(n) < 0.3,
        margin=g.random(n),
        foreground_entropy=g.random(n),
        gradient=g.normal(size=(n, 3)),
        bald=g.random(n),
        pi_t=0.2,
        progress=0.5,
    )


@pytest.mark.parametrize('name', sorted(STRATEGIES))
def test_every_strategy_is_spread_as_evenly_as_the_groups_allow(name):
    c, groups = candidates(23), np.repeat([5, 7, 6, 2], [15, 4, 3, 1])
    for most in (1, 2, 3):
        for n in (0, 1, 4, 9, 23):
            at = select_spread(name, c, n, np.random.default_rng(1), groups, most)
            assert len(set(at.tolist())) == n == len(at) and at.dtype == np.int64
            had = Counter(groups[at].tolist())
            cap = next(
                k * most for k in range(1, 24) if sum(min(k * most, o) for o in (15, 4, 3, 1)) >= n
            )
            assert all(v <= cap for v in had.values()), (n, most, had)
        assert np.array_equal(
            select_spread(name, c, 9, np.random.default_rng(3), groups, most),
            select_spread(name, c, 9, np.random.default_rng(3), groups, most),
        ), 'same seed, same picks'


@given(st.lists(st.integers(0, 4), min_size=1, max_size=25), st.integers(1, 4), st.data())
@settings(max_examples=60, deadline=None)
def test_with_a_ranking_it_is_the_best_of_those_with_room(groups, most, data):
    n = data.draw(st.integers(0, len(groups)))
    s = np.array(data.draw(st.permutations(range(len(groups)))), float)
    left, cap, want = list(np.argsort(-s)), most, []
    while len(want) < n:
        ok = [i for i in left if sum(groups[j] == groups[i] for j in want) < cap]
        if not ok:
            cap += most
            continue
        want.append(ok[0])
        left.remove(ok[0])
    assert (
        select_spread(
            'entropy', Candidates(len(groups), entropy=s), n, np.random.default_rng(0), groups, most
        ).tolist()
        == want
    )


def test_wide_enough_it_is_select():
    c = candidates(12)
    for name in STRATEGIES:
        assert np.array_equal(
            select_spread(name, c, 5, np.random.default_rng(2), np.arange(12), 1),
            select(name, c, 5, np.random.default_rng(2)),
        )


def test_some_of_the_candidates_keep_their_own():
    c = candidates(6)
    t = _take(c, np.array([4, 1]), [2])
    assert (
        t.n == 2
        and t.entropy.tolist() == c.entropy[[4, 1]].tolist()
        and t.pi_t == 0.2
        and t.progress == 0.5
        and np.array_equal(t.labelled_embedding, np.r_[c.labelled_embedding, c.embedding[[2]]])
        and len(c.labelled_embedding) == 1
    )
    assert _take(Candidates(3), np.array([0])).entropy is None


@pytest.mark.parametrize(
    'args,says',
    [
        ((5, 'ab', 1), 'groups of 2 candidates given, there are 6'),
        ((2, 'abcabc', 0), 'most = 0'),
        ((2, 'abcabc', 1.5), 'most = 1.5'),
        ((2, 'abcabc', True), 'most = True'),
        ((9, 'abcabc', 1), 'a batch of 9 is larger than the 6'),
    ],
)
def test_what_cannot_be_is_refused(args, says):
    with pytest.raises(InputError, match=says):
        select_spread(
            'random', candidates(6), args[0], np.random.default_rng(0), list(args[1]), args[2]
        )


@pytest.fixture
def project(tmp_path):
    truth = {}
    for g in range(4):
        (tmp_path / 'i' / f'{g}').mkdir(parents=True)
        for i in range(8):
            a, truth[f'{g}/{i}.png'] = image('steel', 8 * g + i, (32, 32), faulty=i % 2 == 0)
            Image.fromarray(a).save(tmp_path / 'i' / f'{g}' / f'{i}.png')
    p = new(
        tmp_path / 'p',
        tmp_path / 'i',
        window=32,
        overlap=0,
        steps=1,
        bs=2,
        weights=None,
        seed=1,
        group_by='folder',
        held_out=0.0,
    )
    for o in p.units['id']:
        if p.row[o]['image'] in ('0/0.png', '1/1.png', '2/2.png'):
            write_label(p, o, truth[p.row[o]['image']])
    return p


@pytest.mark.parametrize('strategy', ['entropy', 'random', 'coreset'])
def test_a_queue_holds_at_most_so_many_of_a_folder(project, strategy):
    r = next_round(project, 8, strategy, 'cpu', per_group=2)
    had = Counter(unit_group(project, o['id']) for o in r.picks)
    assert r.record['per_group'] == 2 and had == {str(g): 2 for g in range(4)}


def test_it_is_part_of_what_a_round_has_decided(project):
    r = next_round(project, 4, 'entropy', 'cpu', per_group=1)
    (r.queue / 'done.json').unlink()
    said = []
    again = next_round(project, 4, 'entropy', 'cpu', say=said.append)
    assert again.picks == r.picks and any(
        'at most 1 of a group; that one is finished first' in o for o in said
    )


def test_units_to_test_on_stay_a_plain_random_sample(tmp_path, project):
    def tests(k):
        p = new(
            tmp_path / f'q{k}',
            tmp_path / 'i',
            window=32,
            overlap=0,
            steps=1,
            bs=2,
            weights=None,
            seed=3,
            group_by='folder',
            held_out=0.5,
        )
        picks = [o for o in next_round(p, 10, 'random', 'cpu', per_group=k).picks if o['held_out']]
        assert all(is_held_out(p, p.row[o['id']]['image']) for o in picks)
        return [p.row[o['id']]['image'] for o in picks]

    free = tests(0)
    assert len(free) == 5 and free == tests(1) and len({o[0] for o in free}) < 5


def test_random_with_a_cap_reads_no_more_than_it_needs(project, monkeypatch):
    read = []
    monkeypatch.setattr(
        type(project), 'read', lambda self, unit, channels=None: read.append(unit['image'])
    )
    ids = _at_random(project, project.units['id'], 4, 'x', per_group=1)
    assert len(read) == 4 and sorted(unit_group(project, o) for o in ids) == ['0', '1', '2', '3']
    assert _at_random(project, project.units['id'], 99, 'x', per_group=1).__len__() == 32


@pytest.mark.parametrize('k', [-1, 1.5, True, '2'])
def test_a_cap_that_is_none_is_refused(project, k):
    with pytest.raises(InputError, match='per_group = '):
        next_round(project, 2, per_group=k)


def test_the_command_takes_it(project, capsys):
    from typer.testing import CliRunner
    from imbal_al.cli import app

    r = CliRunner().invoke(
        app, ['next', str(project.dir), '--budget', '4', '--per-group', '1', '--device', 'cpu']
    )
    assert r.exit_code == 0, r.output
    assert Counter(unit_group(project, o) for o in queued(project)) == {str(g): 1 for g in range(4)}
