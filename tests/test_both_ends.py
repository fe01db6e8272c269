"The shift study: the plan, and runs of an earlier study taken over"

import io, tarfile

import pytest

from imbal_al.dev.shift_study import both_ends, costs, run_both_ends
from imbal_al.dev.shift_study import _PARTS, _left, _part_configs, _reuse
from imbal_al.core import InputError
from imbal_al.runs.plan import load_plan
from imbal_al.runs.collect import results_table
from imbal_al.studies.learning_study import run_study
from imbal_al.studies.run_config import RunConfig, check_config
from imbal_al.runs.folder import read_result

SMALL = dict(
    data='synthetic:40:64',
    patch=(32, 32),
    pool_size=40,
    test_size=10,
    heldout_size=12,
    validation_size=4,
    cycles=2,
    batch=4,
    steps=1,
    bs=4,
    weights=None,
)


def test_every_run_can_run_and_is_paired():
    cs = both_ends()
    [check_config(c) for c in cs]
    assert len({c.hash for c in cs}) == len(cs) == len(set(cs))
    groups = {}
    for c in cs:
        groups.setdefault(
            (c.data, c.pi_u, c.strategy, c.loss, c.fn_weight, c.healthy_share, c.train_pi), set()
        ).add(c.repeat)
    assert set(map(frozenset, groups.values())) == {frozenset(range(6))}
    scenarios = {}
    for c in cs:
        scenarios.setdefault((c.data, c.pi_u, c.repeat), set()).add(c.scenario_key()[:-1])
    assert all(
        len(v) == 1 for v in scenarios.values()
    ), 'one pool and one test for all methods of a repeat'
    assert {(c.data, c.pi_u) for c in cs} == {
        (d, u) for d in ('sd900', 'potato_leaf') for u in (0.1, 1.0)
    } | {('mtsdd', 0.05), ('mtsdd', 1.0)} and all(0.05 in c.pi_t for c in cs)


def test_parts_go_repeat_by_repeat():
    for p in _PARTS:
        assert [c.repeat for c in _part_configs(p)] == sorted(c.repeat for c in _part_configs(p)), p


def test_parts_are_what_they_say():
    of = lambda p: {(c.data, c.pi_u, c.healthy_share, c.train_pi, c.loss) for c in _part_configs(p)}
    assert of('steel_healthy') == {
        ('sd900', u, h, None, 'combo_paper') for u in (0.1, 1.0) for h in (0.05, 0.15)
    }
    assert of('leaves_weighted') == {
        ('potato_leaf', 0.1, 0.0, 0.05, 'combo_paper'),
        ('potato_leaf', 1.0, 0.15, 0.05, 'combo_paper'),
    }
    assert of('tiles_healthy') == {
        ('mtsdd', 1.0, h, None, 'combo_paper') for h in (0.05, 0.15)
    } and {c.pool_size for c in _part_configs('tiles_healthy')} == {900}
    assert {(c.loss, c.fn_weight) for c in _part_configs('steel_losses')} == {
        ('dibe', 0.3),
        ('dibe', 0.7),
        ('tversky', 0.3),
        ('tversky', 0.7),
        ('unified', None),
    }


@pytest.mark.parametrize('data', ['sd900', 'potato_leaf', 'mtsdd'])
def test_every_pool_and_test_can_be_drawn(data):
    from imbal_al.data.scenarios import make_scenario
    from imbal_al.studies.run_records import load_patches

    try:
        load_patches(next(c for c in both_ends() if c.data == data).store_key(), None)
    except InputError:
        pytest.skip(f'{data} is not here; see imbal-al data list')
    for key in {c.scenario_key() for c in both_ends() if c.data == data}:
        where, pi_u, pool, pi_t, test, held, val, mode, seed, rep, clicks = key
        s = make_scenario(
            load_patches(where, None).table,
            pi_u,
            pool,
            pi_t,
            test,
            seed,
            rep,
            mode,
            held,
            val,
            clicks,
        )
        assert len(s.pool) == pool and len(s.stream) == clicks


def test_the_first_study_s_runs_are_in_it():
    "Their configurations are the defaults, which never change"
    mine = {c.hash for c in both_ends()}
    for d, s, u, r in (
        ('sd900', 'entropy', 0.1, 5),
        ('sd900', 'random', 1.0, 2),
        ('potato_leaf', 'coreset', 0.1, 0),
    ):
        assert (
            RunConfig(
                data=d, strategy=s, pi_u=u, pi_t=(u, 0.05) if u != 0.05 else (0.05,), repeat=r
            ).hash
            in mine
        )


@pytest.mark.parametrize(
    'call,match',
    [
        (lambda: both_ends(['x']), "unknown part of the plan 'x'.*tiles"),
        (lambda: both_ends(repeats=0), '0 repeats'),
        (lambda: both_ends([]), '0 parts'),
        (
            lambda: _part_configs('tiles', 1, loss='dise')
            and [check_config(c) for c in _part_configs('tiles', 1, loss='dise')],
            'dise',
        ),
    ],
)
def test_bad_input(call, match):
    with pytest.raises(InputError, match=match) as e:
        call()
    assert '\n' not in str(e.value)


@pytest.fixture(scope='module')
def done(tmp_path_factory):
    d = tmp_path_factory.mktemp('old')
    cs = _part_configs('tiles', 1, **SMALL)[:2]
    assert run_study(d, cs, 0, 'cpu') == []
    with tarfile.open(d / 'old.tar.xz', 'w:xz') as t:
        t.add(d / 'runs', 'al/runs')
    return d, cs


def test_finished_runs_are_taken_over(done, tmp_path):
    old, cs = done
    want = _part_configs('tiles', 1, **SMALL)
    assert (
        _reuse(tmp_path, [old / 'old.tar.xz'], want) == sorted(c.hash for c in cs)
        and _left(tmp_path, want) == want[2:]
    )
    assert read_result(tmp_path / 'runs' / cs[0].hash) == read_result(old / 'runs' / cs[0].hash)
    assert (
        _reuse(tmp_path, [old / 'old.tar.xz'], want) == []
        and _reuse(tmp_path / 'other', [old / 'old.tar.xz'], want[2:]) == []
        and not (tmp_path / 'other').exists()
    )


def test_nothing_of_them_is_trained_again(done, tmp_path, monkeypatch):
    from imbal_al.studies import simulation

    n, f = [], simulation.run_cycle
    monkeypatch.setattr(simulation, 'run_cycle', lambda c, *a: (n.append(c.strategy), f(c, *a))[1])
    old, cs = done
    assert run_both_ends(tmp_path, ['tiles'], 1, 0, [old / 'old.tar.xz'], **SMALL) == []
    assert (
        set(n) == {'coreset', 'quota', 'clasp'}
        and len(load_plan(tmp_path)) == 5
        and results_table(tmp_path).strategy.nunique() == 5
    )
    n.clear()
    assert run_both_ends(tmp_path, ['tiles'], 1, 0, **SMALL) == [] and not n


def test_a_damaged_run_is_not_taken_as_finished(done, tmp_path):
    old, cs = done
    bad = tmp_path / 'bad.tar'
    with tarfile.open(bad, 'w') as t:
        for c in cs:
            b = (old / 'runs' / c.hash / 'result.json').read_bytes()
            b = b[:-9] if c is cs[0] else b
            m = tarfile.TarInfo(f'x/{c.hash}/result.json')
            m.size = len(b)
            t.addfile(m, io.BytesIO(b))
    assert _reuse(tmp_path / 's', [bad], cs) == [cs[1].hash]


def test_foreign_archives_stay_in_their_place(tmp_path):
    c = _part_configs('tiles', 1)[0]
    evil = tmp_path / 'evil.tar'
    with tarfile.open(evil, 'w') as t:
        for name in (
            f'../../{c.hash}/../up.json',
            f'/{c.hash}/abs.json',
            f'{c.hash}/owner.json',
            'result.json',
        ):
            m = tarfile.TarInfo(name)
            m.size = 2
            t.addfile(m, io.BytesIO(b'{}'))
        m = tarfile.TarInfo(f'{c.hash}/link.json')
        m.type = tarfile.SYMTYPE
        m.linkname = '/etc/passwd'
        t.addfile(m)
    assert _reuse(tmp_path / 's', [evil], [c]) == []
    assert [o.name for o in (tmp_path / 's').rglob('*') if o.is_file() or o.is_symlink()] == [
        'abs.json'
    ] and not (tmp_path / 'up.json').exists()


@pytest.mark.parametrize(
    'make', [lambda p: None, lambda p: p.write_bytes(b'no archive'), lambda p: p.write_bytes(b'')]
)
def test_unreadable_archives_are_one_line(tmp_path, make):
    p = tmp_path / 'a.tar.xz'
    make(p)
    with pytest.raises(InputError, match='a.tar.xz cannot be read as an archive') as e:
        _reuse(tmp_path, [p], both_ends())
    assert '\n' not in str(e.value)


def test_costs_count_what_is_left(done, tmp_path):
    old, cs = done
    how = dict(parts=['tiles'], repeats=1, workers=1, **SMALL)
    a = costs(tmp_path, **how)
    _reuse(tmp_path, [old / 'old.tar.xz'], cs)
    b = costs(tmp_path, **how)
    assert (
        list(a.done) == [0]
        and list(b.done) == [2]
        and list(a.runs) == list(b.runs) == [5]
        and a.hours[0] > 0
        and b.hours[0] > 0
    )
