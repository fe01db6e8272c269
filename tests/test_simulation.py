"imbal_al.studies.simulation: a run is its configuration, whatever happens to it on the way"

import json, os, signal, time, zipfile
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import quick
import torch
from PIL import Image

from imbal_al.core import InputError, read_json, to_json, write_json
from imbal_al.data.synthetic import image
from imbal_al.measure.metrics import counts, pooled, scores
from imbal_al.runs.folder import read_record, read_result, write_record
from imbal_al.results.in_images import with_images
from imbal_al.runs.lock import Lock
from imbal_al.strategies.choose import STRATEGIES
from imbal_al.studies import simulation
from imbal_al.studies.run_config import RunConfig, as_config, batch_split
from imbal_al.studies.run_records import load_patches, read_run, stored_parts
from imbal_al.studies.first_batch import first_batch
from imbal_al.studies.simulation import Trainings, run, workspace


def records(folder):
    return [read_record(p) for p in sorted(folder.glob('cycle_*.npz'))]


def text(folder):
    return '\n'.join(
        o for o in (folder / 'result.json').read_text().splitlines() if '"commit"' not in o
    )


def same_run(a: Path, b: Path):
    "Every byte but the times"
    assert (
        text(a) == text(b) and (a / 'config.json').read_bytes() == (b / 'config.json').read_bytes()
    )
    x, y = records(a), records(b)
    assert len(x) == len(y)
    for r, s in zip(x, y):
        assert set(r) == set(s)
        for k in set(r) - {'seconds'}:
            assert r[k].dtype == s[k].dtype and r[k].tobytes() == s[k].tobytes(), k
    p, q = read_record(a / 'scenario.npz'), read_record(b / 'scenario.npz')
    assert set(p) == set(q) and all(np.array_equal(p[k], q[k]) for k in p)


@pytest.fixture(scope='module')
def cfg(tiny):
    return replace(tiny, strategy='entropy', cycles=3)


@pytest.fixture(scope='module')
def unbroken(cfg, tmp_path_factory):
    "Runs that nothing happened to: three cycles of entropy, two of all the others"
    d = tmp_path_factory.mktemp('unbroken')
    run(cfg, d)
    for s in STRATEGIES:
        run(replace(cfg, strategy=s, cycles=2), d)
    return d


@pytest.fixture
def half(cfg, unbroken, tmp_path):
    "The same run as it looks when it was killed after its second cycle"
    import shutil

    d = tmp_path / 'runs' / cfg.hash
    shutil.copytree(unbroken / cfg.hash, d)
    for o in ('result.json', 'cycle_03.npz'):
        (d / o).unlink()
    return d


def cut(p):
    os.truncate(p, p.stat().st_size // 2)


def flip(p):
    "A byte in the middle of a file, of the largest array where it has some: not each byte between them counts"
    b = bytearray(p.read_bytes())
    at = len(b) // 2
    if p.suffix == '.npz':
        with zipfile.ZipFile(p) as arrays:
            largest = max(arrays.infolist(), key=lambda array: array.compress_size)
        at = largest.header_offset + 30 + len(largest.filename) + largest.compress_size // 2
    b[at] ^= 255
    p.write_bytes(b)


def trainings(monkeypatch):
    n, f = [], simulation.run_cycle
    monkeypatch.setattr(simulation, 'run_cycle', lambda c, j, *a: (n.append(j), f(c, j, *a))[1])
    return n


# --- configurations


def test_hashes_are_pinned():
    "Folders are found again by these; a default may be added, never changed"
    assert RunConfig().hash == '44136fa355b3'
    assert (
        RunConfig(
            data='sd900', strategy='entropy', pi_u=0.5, pi_t=(0.5, 0.05), repeat=3, lr=1e-3
        ).hash
        == '614bfe6270d2'
    )


def test_defaults_are_pinned():
    assert {f.name: f.default for f in fields(RunConfig)} == dict(
        data='synthetic',
        patch=(64, 64),
        stride='none',
        channels=None,
        pi_u=0.1,
        pi_t=(0.1, 0.05),
        pool_size=2000,
        test_size=400,
        heldout_size=400,
        validation_size=200,
        mode='paired',
        strategy='random',
        repeat=0,
        seed=0,
        cycles=5,
        batch=40,
        arch='fpn',
        encoder='lite0',
        weights='imagenet',
        in_channels=3,
        loss='combo_paper',
        lr=2e-3,
        wd=1e-4,
        bs=16,
        steps=60,
        epochs=None,
        schedule='cosine',
        precision_by='device',
        fn_weight=None,
        healthy_share=0.0,
        healthy_price=0.05,
        stop='none',
        warm_start=False,
        train_pi=None,
        start='random',
    )


OTHER = dict(
    data='x',
    patch=(32, 64),
    stride='even',
    channels=3,
    pi_u=0.2,
    pi_t=(0.1,),
    pool_size=1999,
    test_size=401,
    heldout_size=None,
    validation_size=None,
    mode='paper',
    strategy='entropy',
    repeat=1,
    seed=1,
    cycles=6,
    batch=41,
    arch='unet',
    encoder='resnet18',
    weights=None,
    in_channels=1,
    loss='dice',
    lr=1e-3,
    wd=0.0,
    bs=17,
    steps=None,
    epochs=3,
    schedule='flat',
    precision_by='measured',
    fn_weight=0.3,
    healthy_share=0.5,
    healthy_price=0.2,
    stop='converged',
    warm_start=True,
    train_pi=0.05,
    start='anomaly',
)


def test_every_field_changes_the_hash():
    assert set(OTHER) == {f.name for f in fields(RunConfig)}
    assert (
        len({RunConfig(**{k: v}).hash for k, v in OTHER.items()} | {RunConfig().hash})
        == len(OTHER) + 1
    )


def test_json_round_trip():
    for c in (RunConfig(), RunConfig(**OTHER)):
        assert as_config(json.loads(json.dumps(asdict(c)))) == c and hash(
            as_config(asdict(c))
        ) == hash(c)
    assert as_config({}) == RunConfig()


def test_an_unknown_key_is_one_line():
    with pytest.raises(InputError, match="'stratgy'.*strategy") as e:
        as_config(dict(stratgy='random'))
    assert '\n' not in str(e.value)


def test_strategy_is_no_part_of_the_scenario():
    assert (
        RunConfig(strategy='entropy', steps=3).scenario_key()
        == RunConfig().scenario_key()
        != RunConfig(repeat=1).scenario_key()
    )


@pytest.mark.parametrize(
    'kw,match',
    [
        (dict(strategy='entropie'), 'entropie'),
        (dict(batch=41), '41 .*pool of 40'),
        (dict(batch=8, cycles=6), '48 .*40'),
        (dict(batch=0), 'batch = 0'),
        (dict(batch=2.5), '2.5'),
        (dict(cycles=0), 'cycles'),
        (dict(pool_size=-1), 'pool_size'),
        (dict(bs=0), 'bs'),
        (dict(test_size=0), 'test_size'),
        (dict(steps=None, epochs=None), 'steps nor epochs'),
        (dict(steps=-2), 'steps = -2'),
        (dict(steps=None, epochs=-1), 'epochs = -1'),
        (dict(lr=0), 'lr = 0'),
        (dict(lr=-1e-3), 'lr'),
        (dict(lr=float('nan')), 'lr = nan'),
        (dict(fn_weight=0.3), "'combo_paper' has no false-negative weight"),
        (dict(loss='unified', fn_weight=0.3), "'unified' has no setting 'fn_weight'"),
        (dict(loss='dibe', fn_weight='high'), 'high'),
        (dict(loss='dibe', fn_weight=2.0), 'fn_weight'),
        (dict(loss='dibe', fn_weight=float('nan')), 'fn_weight'),
        (dict(strategy='bald', arch='unet'), 'bald.*dropout.*fpn'),
        (dict(healthy_share=1.0), 'healthy_share = 1'),
        (dict(healthy_share=-0.1), 'healthy_share = -0.1'),
        (dict(healthy_share=float('nan')), 'healthy_share = nan'),
        (dict(healthy_share='much'), "'much' cannot be read"),
        (dict(healthy_share=None), 'None cannot be read'),
        (dict(healthy_share=0.01), 'buys 8 masks and 0 clicks'),
        (dict(healthy_share=0.99), 'buys 0 masks and 160 clicks'),
        (dict(healthy_price=0.0), 'healthy_price = 0'),
        (dict(healthy_price=-1), 'healthy_price = -1'),
        (dict(healthy_price=float('inf')), 'healthy_price = inf'),
        (
            dict(healthy_share=0.5, healthy_price=0.01),
            'the stream is to give 800 healthy patches, [0-9]+ are left',
        ),
        (dict(train_pi=0), 'train_pi = 0'),
        (dict(train_pi=1.1), 'train_pi = 1.1'),
        (dict(train_pi=float('nan')), 'train_pi = nan'),
        (dict(stop='soon'), 'none, converged'),
        (dict(start='anomalous'), 'random, coreset, anomaly'),
        (dict(warm_start=1), 'warm_start = 1'),
        (dict(train_pi='x'), "'x' cannot be read"),
        (dict(wd=-1), 'wd = -1'),
        (dict(arch='fnp'), 'fpn, unet'),
        (dict(loss='dise'), 'combo_paper'),
        (dict(schedule='cos'), 'flat, cosine'),
        (dict(mode='x'), 'paired, paper'),
        (dict(stride='x'), 'none, even'),
        (dict(pi_u=1.5), 'pi_u'),
        (dict(pi_t=(2.0,)), '2.0'),
        (dict(data='nowhere'), 'nowhere'),
        (dict(patch=(8, 8)), '8x8'),
    ],
)
def test_a_configuration_that_cannot_run(tiny, tmp_path, kw, match):
    "One line, before anything is written"
    with pytest.raises(InputError, match=match) as e:
        run(replace(tiny, **kw), tmp_path / 'runs')
    assert '\n' not in str(e.value) and not list((tmp_path / 'runs').glob('*/*.json')) + list(
        (tmp_path / 'runs').glob('*/*.npz')
    )


def test_the_whole_pool_can_be_labelled(tiny, tmp_path):
    r = run(replace(tiny, batch=40, cycles=1), tmp_path)
    assert r['rows'][0]['budget'] == 1


# --- losses


def test_weight_of_misses_has_one_name():
    "Given or left at its default, the same run"
    assert (
        RunConfig(loss='dibe')
        == RunConfig(loss='dibe', fn_weight=0.7)
        == RunConfig(loss='dibe', fn_weight=0.7000000001)
        and RunConfig(loss='dibe').hash == RunConfig(loss='dibe', fn_weight=0.7).hash
    )
    assert RunConfig(loss='unified').fn_weight is None and RunConfig().fn_weight is None
    assert 'fn_weight' not in json.dumps(
        {
            f.name: getattr(RunConfig(), f.name)
            for f in fields(RunConfig)
            if getattr(RunConfig(), f.name) != f.default
        }
    )


@pytest.mark.parametrize('loss', ['dibe', 'tversky', 'unified', 'combo', 'bce'])
def test_a_loss_changes_the_training_and_nothing_before_it(tiny, unbroken, loss, tmp_path):
    "Same pool, first batch and first weights as with the paper's loss: only the steps differ"
    c = replace(tiny, strategy='margin', loss=loss)
    run(c, tmp_path)
    a, b = (
        records(tmp_path / c.hash)[0],
        records(unbroken / replace(tiny, strategy='entropy', cycles=3).hash)[0],
    )
    assert (
        (a['selected'] == b['selected']).all()
        and a['losses'][0] != b['losses'][0]
        and np.isfinite(a['losses']).all()
    )
    assert (a['hist'] != b['hist']).any() and read_result(tmp_path / c.hash)['rows'][0][
        'loss'
    ] == loss


def test_two_channels_are_one_logit():
    from imbal_al.losses.registry import OnTwoChannels, make_loss

    z, y = (
        torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(0)),
        torch.zeros(3, 8, 8).long(),
    )
    y[:, :2] = 1
    for k in ('dibe', 'tversky', 'unified', 'bce'):
        assert OnTwoChannels(make_loss(k))(z, y) == make_loss(k)(z[:, 1:] - z[:, :1], y)
    a = OnTwoChannels(make_loss('bce'))(z, y)
    assert float(a) == pytest.approx(float(torch.nn.functional.cross_entropy(z, y)), rel=1e-5)


# --- healthy patches of the stream, and batches at a prevalence

SHARE = dict(healthy_share=0.5, healthy_price=0.5)  # four masks and eight clicks a cycle


@pytest.fixture(scope='module')
def shared(cfg, tmp_path_factory):
    "Runs of two strategies that buy healthy patches"
    d = tmp_path_factory.mktemp('shared')
    for s in ('entropy', 'coreset'):
        run(replace(cfg, strategy=s, **SHARE), d)
    return d


def test_what_a_budget_buys():
    for c in (
        RunConfig(batch=b, healthy_share=s, healthy_price=p)
        for b in (1, 7, 40, 86)
        for s in (0, 0.1, 0.25, 0.5, 0.9)
        for p in (0.05, 0.1, 1 / 7, 1.0)
    ):
        masks, clicks = batch_split(c)
        assert (
            0 <= masks <= c.batch
            and clicks >= 0
            and abs(masks + clicks * c.healthy_price - c.batch) <= c.healthy_price / 2 + 1e-9
        )
    assert batch_split(RunConfig()) == (40, 0) == batch_split(RunConfig(healthy_price=0.7))


def test_the_stream_is_healthy_and_of_no_other_part(shared, cfg):
    c = replace(cfg, **SHARE)
    t = load_patches(cfg.store_key(), None).table
    sc = read_record(shared / c.hash / 'scenario.npz')
    faulty, group = t.faulty.to_numpy(), t.group.to_numpy()
    assert (
        len(set(sc['stream'])) == 24
        and not faulty[sc['stream']].any()
        and not set(sc['stream']) & set(sc['pool'])
    )
    for k in ('heldout', 'validation'):
        assert not set(group[sc['stream']]) & set(group[sc[k]])
    assert (sc['validation_faulty'] == faulty[sc['validation']]).all() and len(
        sc['validation']
    ) == 4


def test_records_tell_what_was_clicked(shared, cfg):
    c = replace(cfg, **SHARE)
    d = shared / c.hash
    rs, sc, rows = records(d), read_record(d / 'scenario.npz'), read_result(d)['rows']
    assert np.concatenate([r['stream'] for r in rs]).tolist() == sc['stream'].tolist()
    assert (
        [len(r['position']) for r in rs] == [4] * 3
        and [len(r['next']) for r in rs] == [4, 4, 0]
        and len({*np.concatenate([r['position'] for r in rs])}) == 12
    )
    assert [(r['cycle'], r['labelled'], r['budget'], r['clicks']) for r in rows] == [
        (j, 8 * j, 8 * j / 40, 8 * j) for j in (1, 2, 3) for _ in (0.5, 0.1)
    ]
    for r in rs:
        assert r['hist'].shape == (len(sc['heldout']), 2, 128) and r['hist_validation'].shape == (
            4,
            2,
            128,
        )
    assert [r['faulty_share'] for r in rows[::2]] == [float(o['faulty'].mean()) for o in rs]


def test_the_stream_is_trained_on(cfg, shared, monkeypatch):
    seen, f = [], simulation.make_learner
    monkeypatch.setattr(
        simulation,
        'make_learner',
        lambda data, idx, *a, **k: (seen.append((data, idx)), f(data, idx, *a, **k))[1],
    )
    c = replace(cfg, **SHARE)
    rs = records(shared / c.hash)
    labelled = np.concatenate([r['position'] for r in rs[:2]])
    simulation.run_cycle(c, 2, labelled, trainings=Trainings())
    data, idx = seen[0]
    sc, _, ids, faulty, _ = workspace(c.scenario_key(), c.encoder, c.in_channels, 'cpu', None)
    assert ids[idx].tolist() == [
        *np.concatenate([r['selected'] for r in rs[:2]]),
        *np.concatenate([r['stream'] for r in rs[:2]]),
    ]
    assert not data.masks[idx[8:]].any() and not faulty[idx[8:]].any()


def test_the_stream_is_paired(shared, cfg, unbroken):
    "The same clicks, first picks and first network for all strategies; the first picks are the head of those without clicks"
    a, b = (
        records(shared / replace(cfg, strategy=s, **SHARE).hash) for s in ('entropy', 'coreset')
    )
    for k in set(a[0]) - {'seconds', 'next', 'hist_next'}:
        assert a[0][k].tobytes() == b[0][k].tobytes(), k
    assert (
        all((x['stream'] == y['stream']).all() for x, y in zip(a, b))
        and (a[1]['position'] != b[1]['position']).any()
    )
    plain = records(unbroken / cfg.hash)
    assert (
        a[0]['position'].tolist() == plain[0]['position'][:4].tolist()
        and a[0]['hist'].tobytes() != plain[0]['hist'].tobytes()
    )


def counted(monkeypatch):
    "Cycles trained from now on, whatever their records"
    n, real = [], simulation._train

    def train(config, labelled, cycle, *rest):
        n.append(cycle)
        return real(config, labelled, cycle, *rest)

    monkeypatch.setattr(simulation, '_train', train)
    return n


def test_first_trainings_are_shared(cfg, tmp_path, monkeypatch):
    "Also after the cycles in between; another share is another training"
    n, own = counted(monkeypatch), simulation.Trainings()
    for s in ('entropy', 'random', 'coreset'):
        run(replace(cfg, strategy=s, cycles=2, **SHARE), tmp_path, trainings=own)
    assert n == [1, 2, 2, 2]
    run(replace(cfg, cycles=2), tmp_path, trainings=own)
    assert n == [1, 2, 2, 2, 1, 2]


OPTIONS = dict(
    healthy=SHARE,
    train_pi=dict(train_pi=0.25),
    both=dict(SHARE, train_pi=0.1),
    stop=dict(stop='converged', steps=24, bs=2, schedule='flat'),
    warm=dict(warm_start=True),
    all=dict(SHARE, train_pi=0.1, stop='converged', warm_start=True),
)


@pytest.mark.parametrize('name', OPTIONS)
def test_resumed_with_options(cfg, tmp_path, name):
    "Same seed, same bytes: unbroken, resumed at each cycle in a process that remembers nothing, and with a damaged record"
    import shutil

    c = replace(cfg, **OPTIONS[name])
    run(c, tmp_path / 'whole', trainings=Trainings())
    whole = tmp_path / 'whole' / c.hash
    for j in (1, 2):
        part = tmp_path / str(j) / c.hash
        shutil.copytree(whole, part)
        workspace.cache_clear()
        for o in ('result.json', *(f'cycle_{i:02d}.npz' for i in range(j + 1, 4))):
            (part / o).unlink()
        run(c, tmp_path / str(j), trainings=Trainings())
        same_run(part, whole)
    flip(part / 'cycle_01.npz')
    run(c, tmp_path / '2', trainings=Trainings())
    same_run(part, whole)


def test_options_differ_from_the_plain_run(cfg, unbroken, tmp_path):
    plain, seen = records(unbroken / cfg.hash)[1]['losses'].tobytes(), set()
    for o in OPTIONS.values():
        c = replace(cfg, cycles=2, **o)
        run(c, tmp_path)
        seen.add(records(tmp_path / c.hash)[1]['losses'].tobytes())
    assert len(seen | {plain}) == len(OPTIONS) + 1


def test_the_record_says_what_was_drawn(cfg, tmp_path):
    c = replace(cfg, cycles=1, steps=40, train_pi=0.25)
    run(c, tmp_path)
    r = records(tmp_path / c.hash)[0]
    assert abs(float(r['train_share']) - 0.25) < 0.1
    c = replace(cfg, cycles=1, pi_u=1.0, pi_t=(0.1,), pool_size=30, train_pi=0.25)
    run(c, tmp_path)
    assert float(records(tmp_path / c.hash)[0]['train_share']) == 1


def test_a_record_without_the_option_s_fields_is_not_taken(shared, cfg, tmp_path, monkeypatch):
    import shutil

    c = replace(cfg, **SHARE)
    d = tmp_path / c.hash
    shutil.copytree(shared / c.hash, d)
    (d / 'result.json').unlink()
    n = trainings(monkeypatch)
    r = read_record(d / 'cycle_02.npz')
    del r['stream']
    write_record(d / 'cycle_02.npz', r)
    run(c, tmp_path)
    assert n == [2]
    same_run(d, shared / c.hash)


# --- ending early, and beginning with the last weights


def test_a_converged_cycle_ends_early(cfg, tmp_path, monkeypatch):
    "The record has the steps taken, and no more than the limit"
    from imbal_al.networks import learner

    monkeypatch.setattr(learner, '_LEAST_FALL', 0.999)
    c = replace(cfg, cycles=1, steps=36, bs=2, stop='converged')
    run(c, tmp_path, trainings=Trainings())
    n = len(records(tmp_path / c.hash)[0]['losses'])
    assert n == 34  # 7 steps of warm-up, two windows of 10, 7 of tail


@pytest.fixture
def steps_of(monkeypatch):
    "Cycles trained, whatever their records"
    return counted(monkeypatch)


@pytest.fixture(scope='module')
def warm(cfg, tmp_path_factory):
    c, d = replace(cfg, warm_start=True), tmp_path_factory.mktemp('warm')
    run(c, d)
    return c, d / c.hash


def test_a_warm_start_begins_where_the_last_cycle_ended(warm, unbroken, cfg, monkeypatch):
    from imbal_al.networks import device

    c, d = warm
    rs = records(d)
    first = rs[0]['position']
    prec = device.choose_precision('cpu')
    assert (
        rs[0]['hist'].tobytes() == records(unbroken / cfg.hash)[0]['hist'].tobytes()
        and rs[1]['hist'].tobytes() != records(unbroken / cfg.hash)[1]['hist'].tobytes()
    )
    seen, f = [], simulation.make_learner
    monkeypatch.setattr(
        simulation,
        'make_learner',
        lambda *a, **k: (
            lambda l: (seen.append({n: v.clone() for n, v in l.model.state_dict().items()}), l)[1]
        )(f(*a, **k)),
    )
    own = simulation.Trainings()
    ended = own.trained(c, 1, first, 'cpu', None, prec).network.state_dict()
    ended = {k: v.clone() for k, v in ended.items()}
    seen.clear()
    again = np.concatenate([first, rs[0]['next']])
    simulation.run_cycle(c, 2, again, precision=prec, trainings=own)
    assert all(torch.equal(seen[-1][k], ended[k]) for k in ended)


def test_no_weights_are_left(warm):
    assert sorted(o.name for o in warm[1].iterdir()) == [
        'config.json',
        'cycle_01.npz',
        'cycle_02.npz',
        'cycle_03.npz',
        'parts.npz',
        'records.json',
        'result.json',
        'scenario.npz',
    ]


def stopped_in(c, folder, cycle, monkeypatch):
    "A run that ended while the record of a cycle was written; its process is forgotten"
    real = simulation.write_record

    def stop(path, record):
        if path.name == f'cycle_{cycle:02d}.npz':
            raise KeyboardInterrupt
        real(path, record)

    with monkeypatch.context() as m:
        m.setattr(simulation, 'write_record', stop)
        with pytest.raises(KeyboardInterrupt):
            run(c, folder, trainings=Trainings())


@pytest.mark.parametrize(
    'cycle,kept,again', [(1, [1], [1, 2, 3]), (2, [1, 2], [2, 3]), (3, [2], [3])]
)
def test_kept_weights_save_the_trainings_before(
    warm, tmp_path, monkeypatch, steps_of, cycle, kept, again
):
    c, d = warm
    stopped_in(c, tmp_path, cycle, monkeypatch)
    part = tmp_path / c.hash
    assert sorted(o.name for o in part.glob('weights*')) == [f'weights_{k:02d}.npz' for k in kept]
    steps_of.clear()
    run(c, tmp_path, trainings=Trainings())
    assert steps_of == again
    same_run(part, d)
    assert not list(part.glob('weights*'))


@pytest.mark.parametrize(
    'damage',
    [
        flip,
        lambda p: p.unlink(),
        lambda p: np.savez(p, labelled_so_far=np.arange(16), w=np.ones(3)),
    ],
)
def test_damaged_weights_are_trained_again(warm, tmp_path, monkeypatch, steps_of, damage):
    c, d = warm
    stopped_in(c, tmp_path, 3, monkeypatch)
    part = tmp_path / c.hash
    damage(part / 'weights_02.npz')
    steps_of.clear()
    run(c, tmp_path, trainings=Trainings())
    assert sorted(steps_of) == [1, 2, 3]
    same_run(part, d)


def test_killed_before_each_rename(cfg, tmp_path):
    "With all options on, in child processes; then to the end here"
    from kills import killed_at

    c = replace(cfg, cycles=2, **OPTIONS['all'])
    run(c, tmp_path / 'whole', trainings=Trainings())
    n, part = 0, tmp_path / 'part'
    while (code := killed_at(n, lambda: run(c, part, trainings=Trainings()))) == 9:
        n += 1
        assert n < 40
    assert code == 0 and n > 0 and not list((tmp_path / 'part' / c.hash).glob('weights*'))
    same_run(tmp_path / 'part' / c.hash, tmp_path / 'whole' / c.hash)


def test_options_in_worker_processes(cfg, tmp_path):
    from imbal_al.studies.learning_study import run_study

    cs = [replace(cfg, cycles=2, strategy=s, **OPTIONS['all']) for s in ('entropy', 'random')]
    for n in (0, 2):
        assert run_study(tmp_path / str(n), cs, n, 'cpu') == []
    for c in cs:
        same_run(tmp_path / '0' / 'runs' / c.hash, tmp_path / '2' / 'runs' / c.hash)
    import pandas as pd

    t = pd.read_csv(tmp_path / '2' / 'results.csv')
    assert (
        t.clicks.tolist() == [8, 8, 16, 16] * 2
        and set(t.labelled) == {8, 16}
        and (t.labelled / t.budget).round().eq(40).all()
    )


# --- what a run holds


def test_records(unbroken, cfg):
    d, c = unbroken / cfg.hash, cfg
    sc, rs = read_record(d / 'scenario.npz'), records(d)
    position = np.concatenate([r['position'] for r in rs])
    assert len(rs) == 3 and len(set(position.tolist())) == 24 and (position < 40).all()
    for j, r in enumerate(rs):
        assert (
            (r['selected'] == sc['pool'][r['position']]).all()
            and r['hist'].shape == (len(sc['heldout']), 2, 128)
            and r['hist_validation'].shape == (4, 2, 128)
        )
        assert (
            (r['hist'].sum((1, 2)) == 32 * 32).all()
            and np.isfinite(r['losses']).all()
            and len(r['losses']) == 2
            and len(r['seconds']) == len(r['phases']) == 4
        )
        if j < 2:
            assert (rs[j + 1]['position'] == r['next']).all() and len(r['hist_next']) == 8
    assert len(rs[-1]['next']) == 0
    assert sorted(o.name for o in d.iterdir()) == [
        'config.json',
        'cycle_01.npz',
        'cycle_02.npz',
        'cycle_03.npz',
        'parts.npz',
        'records.json',
        'result.json',
        'scenario.npz',
    ]


def test_faulty_flags_are_the_store_s(unbroken, cfg):
    t, d = load_patches(cfg.store_key(), None).table, unbroken / cfg.hash
    sc = read_record(d / 'scenario.npz')
    for r in records(d):
        assert (r['faulty'] == t.faulty.to_numpy()[r['selected']].astype(bool)).all()
    for k in ('heldout', 'validation'):
        assert (sc[f'{k}_faulty'] == t.faulty.to_numpy()[sc[k]].astype(bool)).all()
    assert (
        t.faulty.to_numpy()[sc['pool']].sum() == 20 and t.faulty.to_numpy()[sc['test_1']].sum() == 1
    )


def test_rows_follow_from_the_records(unbroken, cfg):
    d = unbroken / cfg.hash
    rows, sc, rs = (
        json.loads((d / 'result.json').read_text())['rows'],
        read_record(d / 'scenario.npz'),
        records(d),
    )
    assert [(r['cycle'], r['pi_t'], r['labelled'], r['budget']) for r in rows] == [
        (j, p, 8 * j, 8 * j / 40) for j in (1, 2, 3) for p in (0.5, 0.1)
    ]
    held = sc['heldout'].tolist()
    for i, r in enumerate(rows):
        h = rs[i // 2]['hist'][[held.index(o) for o in sc[f'test_{i%2}']]]
        want = scores(*pooled(counts(h)))
        for k in simulation._METRICS:
            np.testing.assert_equal(r[k], want[k])
        assert (
            r['faulty_share'] == rs[i // 2]['faulty'].mean()
            and r['config'] == cfg.hash
            and r['strategy'] == 'entropy'
            and r['model'] == f'{cfg.arch}-{cfg.encoder}'
        )
    assert set(rows[0]) >= set(
        'data model loss strategy pi_u pi_t repeat seed cycle labelled budget f1 iou precision recall f1_heldout faulty_share config commit'.split()
    )


def test_strategies_are_paired(unbroken, cfg):
    "Same pool, tests, first batch and first network for all; then they part"
    ds = {s: unbroken / replace(cfg, strategy=s, cycles=2).hash for s in STRATEGIES}
    first = {s: records(d)[0] for s, d in ds.items()}
    a = first['random']
    for r in first.values():
        for k in ('selected', 'position', 'faulty', 'hist', 'hist_validation', 'losses'):
            assert a[k].tobytes() == r[k].tobytes()
    assert len({r['next'].tobytes() for r in first.values()}) >= 5
    rows = [
        [
            {k: v for k, v in o.items() if k not in ('strategy', 'config')}
            for o in read_json(d / 'result.json')['rows'][:2]
        ]
        for d in ds.values()
    ]
    assert all(str(o) == str(rows[0]) for o in rows)
    assert first['random_faulty']['next'].size and records(ds['random_faulty'])[1]['faulty'].all()


def test_every_run_differs_from_another_repeat(unbroken, cfg, tmp_path):
    c = replace(cfg, strategy='random', cycles=1)
    a, b = run(c, tmp_path), run(replace(c, repeat=1), tmp_path)
    x, y = (records(tmp_path / o['hash'])[0] for o in (a, b))
    assert (
        set(x['selected']) != set(y['selected']) and x['losses'].tobytes() != y['losses'].tobytes()
    )
    assert (
        x['losses'].tobytes()
        == records(unbroken / replace(c, cycles=2).hash)[0]['losses'].tobytes()
    ), 'the first cycle does not know how many follow'


def test_first_batch_is_pinned(tiny):
    assert (
        first_batch(tiny, 40).tolist()
        == first_batch(replace(tiny, strategy='coreset', steps=9), 40).tolist()
        == [11, 19, 38, 4, 28, 34, 2, 6]
    )


# --- interruptions


def test_killed_in_the_middle_of_a_cycle(cfg, unbroken, tmp_path):
    "SIGKILL in a process of its own; the run goes on here and ends with the same bytes"
    code = f"from imbal_al.studies.run_config import as_config\nfrom imbal_al.studies.simulation import run\nimport sys, json\nrun(as_config(json.loads(sys.argv[1])), {str(tmp_path)!r})"
    p, d = (
        quick.Program('-c', code, json.dumps(asdict(cfg))),
        tmp_path / cfg.hash,
    )
    try:
        while not (d / 'cycle_01.npz').exists():
            assert p.poll() is None
            time.sleep(0.002)
    finally:
        os.kill(p.pid, signal.SIGKILL)
    assert p.wait() == -9 and not (d / 'result.json').exists() and not (d / 'cycle_03.npz').exists()
    stamp = (d / 'cycle_01.npz').stat().st_mtime_ns
    run(cfg, tmp_path)
    same_run(d, unbroken / cfg.hash)
    assert (d / 'cycle_01.npz').stat().st_mtime_ns == stamp, 'what was done is not done again'
    assert not [o.name for o in d.iterdir() if o.name.endswith('.tmp')]


@pytest.mark.parametrize('where', ['before', 'within'])
def test_killed_while_writing_a_record(half, cfg, unbroken, monkeypatch, where):
    "Whatever the instant: an error in place of the kill, before the rename or within the write"
    real = simulation.write_record

    def stop(path, record):
        if where == 'within':
            path.with_name(f'.{path.name}.12345678.tmp').write_bytes(b'PK\3\4 half')
        raise KeyboardInterrupt

    monkeypatch.setattr(simulation, 'write_record', stop)
    with pytest.raises(KeyboardInterrupt):
        run(cfg, half.parent)
    monkeypatch.setattr(simulation, 'write_record', real)
    run(cfg, half.parent)
    same_run(half, unbroken / cfg.hash)
    assert not [o.name for o in half.iterdir() if o.name.endswith('.tmp')]


def test_killed_before_the_result(half, cfg, unbroken, monkeypatch):
    import shutil

    for o in ('cycle_03.npz', 'parts.npz'):
        shutil.copy(unbroken / cfg.hash / o, half)
    n = trainings(monkeypatch)
    run(cfg, half.parent)
    same_run(half, unbroken / cfg.hash)
    assert n == []


def test_resumed_at_each_cycle(half, cfg, unbroken, monkeypatch):
    n = trainings(monkeypatch)
    run(cfg, half.parent)
    assert n == [3]
    same_run(half, unbroken / cfg.hash)


@pytest.mark.parametrize(
    'damage,redone',
    [
        (lambda d: cut(d / 'cycle_02.npz'), [2, 3]),
        (lambda d: flip(d / 'cycle_02.npz'), [2, 3]),
        (lambda d: (d / 'cycle_02.npz').write_bytes(b''), [2, 3]),
        (lambda d: (d / 'cycle_01.npz').unlink(), [1, 3]),
        (lambda d: np.savez(d / 'cycle_02.npz', position=np.arange(3)), [2, 3]),
        (lambda d: np.savez(d / 'scenario.npz', pool=np.arange(3)), [3]),
        (lambda d: (d / 'config.json').write_text('{"conte'), [3]),
        (lambda d: (d / 'config.json').unlink(), [3]),
        (lambda d: flip(d / 'scenario.npz'), [3]),
        (lambda d: (d / 'scenario.npz').unlink(), [3]),
        (lambda d: (d / 'result.json').write_text('{"rows": ['), [3]),
    ],
)
def test_damage_is_repaired(half, cfg, unbroken, monkeypatch, damage, redone):
    damage(half)
    n = trainings(monkeypatch)
    run(cfg, half.parent)
    assert n == redone
    same_run(half, unbroken / cfg.hash)


@pytest.mark.parametrize(
    'damage,redone',
    [
        (lambda d: cut(d / 'cycle_02.npz'), [2]),
        (lambda d: flip(d / 'cycle_01.npz'), [1]),
        (lambda d: (d / 'cycle_03.npz').unlink(), [3]),
        (lambda d: (d / 'parts.npz').unlink(), [3]),
        (lambda d: cut(d / 'parts.npz'), [3]),
        (lambda d: flip(d / 'parts.npz'), [3]),
        (lambda d: (d / 'parts.npz').write_bytes(b''), [3]),
        (lambda d: np.savez(d / 'parts.npz', form='of somebody else'), [3]),
        (lambda d: flip(d / 'records.json'), []),
        (lambda d: (d / 'records.json').unlink(), []),
    ],
)
def test_a_finished_run_whose_records_are_damaged_is_not_finished(
    cfg, unbroken, tmp_path, monkeypatch, caplog, damage, redone
):
    "Only the damaged cycle is trained again; the file is named; what has no list of records is taken as it is"
    import shutil

    d = tmp_path / cfg.hash
    shutil.copytree(unbroken / cfg.hash, d)
    n = trainings(monkeypatch)
    damage(d)
    assert (read_result(d) is None) == (redone != [] or (d / 'records.json').exists())
    run(cfg, tmp_path)
    assert n == redone and read_result(d)
    same_run(d, unbroken / cfg.hash)
    assert bool(caplog.messages) == (redone != [] or 'records.json' in caplog.text)


def no_parts(d, other):
    (d / 'parts.npz').unlink()


def parts_of_another_run(d, other):
    (d / 'parts.npz').write_bytes((other / 'parts.npz').read_bytes())


def parts_of_fewer_images(d, other):
    fields = read_record(d / 'parts.npz')
    np.savez(d / 'parts.npz', **fields | dict(of_K=fields['of_K'][:0], hist_KB=fields['hist_KB'][:0]))


@pytest.mark.parametrize(
    'damage',
    [
        no_parts,
        parts_of_another_run,
        parts_of_fewer_images,
        lambda d, other: cut(d / 'parts.npz'),
        lambda d, other: flip(d / 'parts.npz'),
        lambda d, other: (d / 'parts.npz').write_bytes(b''),
        lambda d, other: np.savez(d / 'parts.npz', form='of somebody else'),
        lambda d, other: np.savez(d / 'parts.npz', form='imbal_al parts 1'),
    ],
)
def test_parts_that_are_damaged_before_the_result_are_made_anew(
    half, cfg, unbroken, monkeypatch, caplog, damage
):
    "Killed between the last record and the result: only the last cycle is trained again, the file is named"
    import shutil

    for name in ('cycle_03.npz', 'parts.npz'):
        shutil.copy(unbroken / cfg.hash / name, half)
    damage(half, unbroken / replace(cfg, strategy='coreset', cycles=2).hash)
    n = trainings(monkeypatch)
    run(cfg, half.parent)
    assert n == [3] and 'parts.npz' in caplog.text
    same_run(half, unbroken / cfg.hash)


def test_parts_that_are_cut_off_are_never_half_read(cfg, unbroken, tmp_path):
    "All that was kept, or nothing; at any length"
    whole = (unbroken / cfg.hash / 'parts.npz').read_bytes()
    for n in range(0, len(whole), 37):
        (tmp_path / 'parts.npz').write_bytes(whole[:n])
        assert stored_parts(tmp_path) is None, n
    (tmp_path / 'parts.npz').write_bytes(whole)
    assert len(stored_parts(tmp_path)) == len(stored_parts(unbroken / cfg.hash))


@pytest.mark.parametrize('at', ['in the middle', 'before it has its name', 'after'])
def test_killed_while_parts_are_kept(half, cfg, unbroken, at):
    "SIGKILL in a process of its own, at the file that is written before the last record"
    (half / 'parts.npz').unlink()
    code = '''if 1:
        import json, os, signal, sys, zipfile
        from imbal_al.studies import simulation
        from imbal_al.studies.run_config import as_config
        real_keep, real_replace, real_write = simulation.keep_parts, os.replace, zipfile.ZipFile.writestr
        def die(*given, **more): os.kill(os.getpid(), signal.SIGKILL)
        def keep(folder, records):
            if sys.argv[2]=='in the middle':
                real_open, left = zipfile.ZipFile.open, [2]
                def opened(*given, **more):
                    left[0] -= 1
                    return real_open(*given, **more) if left[0] else die()
                zipfile.ZipFile.open = opened
            if sys.argv[2]=='before it has its name': os.replace = die
            real_keep(folder, records)
            die()
        simulation.keep_parts = keep
        simulation.run(as_config(json.loads(sys.argv[1])), sys.argv[3])'''
    died = quick.Program('-c', code, json.dumps(asdict(cfg)), at, half.parent)
    _, said = died.communicate()
    assert died.poll() == -signal.SIGKILL, said[-2000:]
    assert not (half / 'cycle_03.npz').exists() and not (half / 'result.json').exists()
    assert (half / 'parts.npz').exists() == (at == 'after')
    assert [o.name for o in half.iterdir() if o.name.endswith('.tmp')] or at == 'after'
    run(cfg, half.parent)
    same_run(half, unbroken / cfg.hash)
    assert not [o.name for o in half.iterdir() if o.name.endswith('.tmp')]


def test_a_record_that_does_not_follow_is_not_taken(half, cfg, unbroken, monkeypatch):
    "Whole, but from another run"
    import shutil

    shutil.copy(unbroken / replace(cfg, strategy='coreset', cycles=2).hash / 'cycle_02.npz', half)
    n = trainings(monkeypatch)
    run(cfg, half.parent)
    assert n == [2, 3]
    same_run(half, unbroken / cfg.hash)


def test_copied_and_old_run_folders_are_finished(cfg, unbroken, tmp_path, monkeypatch):
    "Other times of change, no list of records, no checksum in the result"
    import shutil

    d = tmp_path / cfg.hash
    shutil.copytree(unbroken / cfg.hash, d)
    monkeypatch.setattr(simulation, 'workspace', lambda *a: 1 / 0)
    for o in d.iterdir():
        os.utime(o, (1, 1))
    assert run(cfg, tmp_path)['hash'] == cfg.hash
    (d / 'records.json').unlink()
    (d / 'result.json').write_text(to_json(read_json(d / 'result.json')))
    assert run(cfg, tmp_path)['hash'] == cfg.hash


def test_a_run_made_before_parts_were_kept_is_finished(cfg, unbroken, tmp_path, monkeypatch):
    "Nothing is done again for it, and a table has nothing to say of its defects"
    import shutil

    d = tmp_path / 'runs' / cfg.hash
    shutil.copytree(unbroken / cfg.hash, d)
    results = pd.DataFrame(read_json(d / 'result.json')['rows'])
    told = with_images(results, tmp_path)
    assert told.defects_found.notna().all() and told.defects_false.ge(0).all()
    assert with_images(results, tmp_path, every=True).defects_found.notna().sum() == len(told)
    (d / 'parts.npz').unlink()
    marks = read_json(d / 'records.json')
    del marks['parts.npz']
    write_json(d / 'records.json', marks)
    monkeypatch.setattr(simulation, 'workspace', lambda *a: 1 / 0)
    assert run(cfg, tmp_path / 'runs')['hash'] == cfg.hash
    old = with_images(results, tmp_path)
    assert old.defects_found.isna().all() and old.image_ap.notna().all()


def test_the_parts_kept_are_those_of_the_last_network(cfg, unbroken):
    "Flagged by its highest peak, image by image, as the histograms have it"
    d = unbroken / cfg.hash
    parts, hist = stored_parts(d), read_run(d)['hist']
    assert len(parts) == len(hist)
    highest = 127 - (hist.sum(1)[:, ::-1] > 0).argmax(1)
    assert (parts.peak_NA[:, 0] == highest).all()
    of_image = np.zeros((len(hist), 128))
    np.add.at(of_image, parts.of_K, parts.hist_KB)
    assert (of_image == hist[:, 1]).all()


def test_a_damaged_result_is_written_again_without_training(cfg, unbroken, tmp_path, monkeypatch):
    import shutil

    d = tmp_path / cfg.hash
    shutil.copytree(unbroken / cfg.hash, d)
    n = trainings(monkeypatch)
    for bad in ('', '{', '[]', '[1]', 'null', '"x"'):
        (d / 'result.json').write_text(bad)
        run(cfg, tmp_path)
        same_run(d, unbroken / cfg.hash)
    assert n == []


def test_any_flipped_byte_of_a_record_is_seen(unbroken, cfg, tmp_path):
    "The arrays come back as they were, or not at all; no error of another kind"
    p = unbroken / cfg.hash / 'cycle_01.npz'
    good, raw, bad = read_record(p), p.read_bytes(), 0
    f = tmp_path / 'r.npz'
    for i in sorted({*range(0, len(raw), 11), *range(len(raw) - 1100, len(raw), 2)}):
        for bit in (1, 128):
            b = bytearray(raw)
            b[i] ^= bit
            f.write_bytes(b)
            r = read_record(f)
            if r is None:
                bad += 1
            else:
                assert all(
                    r[k].dtype == good[k].dtype and r[k].tobytes() == good[k].tobytes() for k in r
                ), i
    assert bad > 500
    for n in range(0, len(raw), 97):
        f.write_bytes(raw[:n])
        assert read_record(f) is None


# --- runs that are done, locked, or not ours


def test_a_finished_run_is_skipped(cfg, unbroken, monkeypatch):
    d = unbroken / cfg.hash
    stamps = {o: o.stat().st_mtime_ns for o in d.iterdir()}
    n = trainings(monkeypatch)
    monkeypatch.setattr(simulation, 'workspace', lambda *a: 1 / 0)
    r = run(cfg, unbroken)
    assert (
        r == read_json(d / 'result.json')
        and n == []
        and {o: o.stat().st_mtime_ns for o in d.iterdir()} == stamps
    )


def test_a_run_in_other_hands_is_left_alone(half, cfg):
    before = {o: o.stat().st_mtime_ns for o in half.iterdir()}
    lock = Lock(half / 'owner.json')
    lock.acquire()
    with lock:
        assert run(cfg, half.parent) is None
    assert {o: o.stat().st_mtime_ns for o in half.iterdir()} == before


def test_changed_images_are_refused(tmp_path, tiny, monkeypatch):
    monkeypatch.setenv('IMBAL_AL_CACHE', str(tmp_path / 'cache'))
    for o in ('images', 'masks'):
        (tmp_path / o).mkdir()
    for i in range(30):
        im, m = image('steel', i, 64, faulty=i % 2 == 0)
        Image.fromarray(im).save(tmp_path / 'images' / f'{i}.png')
        Image.fromarray(m * 255).save(tmp_path / 'masks' / f'{i}.png')
    c = replace(
        tiny,
        data=f"folder:{tmp_path/'images'}:{tmp_path/'masks'}",
        pi_u=0.4,
        pi_t=(0.4,),
        cycles=1,
        pool_size=16,
        test_size=5,
    )
    fresh = lambda: (load_patches.cache_clear(), workspace.cache_clear())
    fresh()
    a = run(c, tmp_path / 'runs', trainings=Trainings())
    d = tmp_path / 'runs' / c.hash
    (d / 'result.json').unlink()
    old = (tmp_path / 'images' / '3.png').read_bytes()
    im = np.array(Image.open(tmp_path / 'images' / '3.png'))
    im[0, 0] ^= 1
    Image.fromarray(im).save(tmp_path / 'images' / '3.png')
    fresh()
    with pytest.raises(InputError, match='have changed') as e:
        run(c, tmp_path / 'runs', trainings=Trainings())
    assert str(d) in str(e.value) and not (d / 'result.json').exists()
    (tmp_path / 'images' / '3.png').write_bytes(old)
    fresh()
    assert to_json(run(c, tmp_path / 'runs', trainings=Trainings())['rows']) == to_json(a['rows'])
    fresh()


def test_places_one_may_not_write_to(cfg, half, tmp_path, open_dir, unprivileged):
    (tmp_path / 'file').write_text('')
    with pytest.raises(InputError, match='file'):
        run(cfg, tmp_path / 'file')
    d = open_dir / cfg.hash
    d.mkdir(mode=0o755)
    with unprivileged():
        for o in (open_dir, open_dir / 'new'):
            with pytest.raises(InputError, match='you may write to') as e:
                run(cfg, o)
            assert '\n' not in str(e.value)
    assert list(d.iterdir()) == []


def test_only_strategies_that_say_so_get_tensors_of_a_gpu(monkeypatch, tiny):
    "The network's device decides, the strategy has to agree"
    from types import SimpleNamespace

    asked = []
    monkeypatch.setattr(
        simulation, 'embeddings', lambda net, data, idx, precision=None, host=True: asked.append(host)
    )
    monkeypatch.setattr(
        simulation,
        'score',
        lambda *a, **kw: SimpleNamespace(entropy=None, foreground=None, embedding=None),
    )
    assert [k for k, f in STRATEGIES.items() if f.on_device] == ['coreset']
    for strategy, device, host in (
        ('coreset', 'cuda', False),
        ('coreset', 'cpu', True),
        ('entropy_coreset', 'cuda', True),
    ):
        asked.clear()
        simulation._candidates(
            replace(tiny, strategy=strategy),
            None,
            SimpleNamespace(device=SimpleNamespace(type=device)),
            np.arange(3),
            np.arange(2),
            np.zeros(5, bool),
            1,
            'fp32',
        )
        assert asked == [host] * (2 if strategy == 'coreset' else 1)
