"imbal_al.studies.first_batch: how a run of a study begins, and that no number depends on who computes it"

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from imbal_al.core import InputError, stream
from imbal_al.networks.features import encode, keep_features, load_encoder
from imbal_al.studies import first_batch as module
from imbal_al.studies.first_batch import first_batch, keep_pools
from imbal_al.studies.learning_study import preset, run_study, story
from imbal_al.studies.run_config import RunConfig, as_config, check_config
from imbal_al.studies.run_records import load_patches, scenario_of
from imbal_al.studies.simulation import run

SMALL = dict(
    data='synthetic:40:128',
    patch=(64, 64),
    pool_size=30,
    batch=6,
    cycles=1,
    pi_u=0.1,
    pi_t=(0.1,),
    test_size=8,
    heldout_size=8,
    validation_size=0,
    steps=2,
    bs=4,
)


@pytest.fixture(scope='module')
def runs():
    "Three repeats with the features that they start by"
    runs = [RunConfig(**SMALL, start='anomaly', repeat=repeat) for repeat in range(3)]
    keep_pools(runs)
    return runs


def faulty_in(config, batch):
    table = load_patches(config.store_key(), None).table
    pool = scenario_of(config.scenario_key(), table).pool
    return int(table.faulty.to_numpy()[pool[batch]].sum())


def cosine(a, b):
    a, b = a.astype(float), b.astype(float)
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def other_scores(tokens, rng):
    "Means of the ten patches least like the five most similar of a memory of other pictures"
    N, h, w, D = tokens.shape
    flat = tokens.reshape(N * h * w, D).astype(float)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    drawn = np.sort(rng.choice(N * h * w, N * h * w // 16, replace=False))
    out = []
    for i in range(N):
        memory = flat[drawn[drawn // (h * w) != i]]
        similar = np.sort(flat[i * h * w : (i + 1) * h * w] @ memory.T, 1)[:, -5:]
        out.append(np.mean(np.sort(1 - similar.mean(1))[-10:]))
    return np.array(out)


def beside_alike(scores, embedding):
    "How many deviations each is above the forty whose embeddings point most nearly its way"
    out = []
    for i, own in enumerate(embedding):
        others = [j for j in range(len(scores)) if j != i]
        others.sort(key=lambda j: -cosine(own, embedding[j]))
        alike = scores[others[:40]]
        out.append((scores[i] - alike.mean()) / alike.std())
    return np.array(out)


def normal(scores):
    "What a normal variable has at the scores' ranks"
    places = norm.ppf((np.arange(len(scores)) + 0.5) / len(scores))
    return places[np.argsort(np.argsort(scores))]


def mixed_pool(config):
    "(pictures, places) of a pool in the order in which it is looked at, and what draws next"
    store = load_patches(config.store_key(), None)
    pool = scenario_of(config.scenario_key(), store.table).pool
    rng = stream(config.seed, 'start', config.start, config.repeat)
    mixed = rng.permutation(len(pool))
    return [store.images[i] for i in pool[mixed]], mixed, rng


def looked_at(pictures):
    encoder = load_encoder('lite0', (64, 64))
    parts = [encode([picture], encoder) for picture in pictures]
    return [np.concatenate(part) for part in zip(*parts)]


def test_anomaly_picks_what_an_independent_computation_picks(runs):
    "Step by step in float64, from the pictures"
    pictures, mixed, rng = mixed_pool(runs[0])
    tokens, embedding = looked_at(pictures)
    scores = other_scores(tokens, rng)
    both = normal(scores) + normal(beside_alike(scores, embedding))
    want = mixed[np.argsort(-both)[:6]]
    assert first_batch(runs[0], 30).tolist() == want.tolist()


def test_coreset_picks_what_is_farthest_from_all_before(runs):
    config = replace(runs[1], start='coreset')
    pictures, mixed, _ = mixed_pool(config)
    points = looked_at(pictures)[1].astype(float)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    picked = [int(np.argmax(np.linalg.norm(points - points.mean(0), axis=1)))]
    while len(picked) < 6:
        near = [min(np.linalg.norm(one - points[i]) for i in picked) for one in points]
        picked.append(int(np.argmax(near)))
    assert first_batch(config, 30).tolist() == mixed[picked].tolist()


def test_anomaly_starts_with_more_faulty_ones_than_random(runs):
    "Six of thirty, three of them faulty, in three pools: random expects 1.8 in all"
    found = [faulty_in(run, first_batch(run, 30)) for run in runs]
    drawn = [replace(run, start='random') for run in runs]
    by_chance = [faulty_in(run, first_batch(run, 30)) for run in drawn]
    assert sum(found) > sum(by_chance) and sum(found) >= 5


def test_all_strategies_of_a_repeat_begin_alike_and_repeats_differ(runs):
    a, b = first_batch(runs[0], 30), first_batch(replace(runs[0], strategy='entropy'), 30)
    assert a.tolist() == b.tolist() != first_batch(runs[1], 30).tolist()
    assert len(set(a.tolist())) == 6 and a.dtype == np.int64 and 0 <= a.min() <= a.max() < 30


def test_equal_patches_are_not_taken_in_the_order_of_the_pool(runs, monkeypatch):
    "A pool lists its faulty patches first: where nothing tells patches apart, those must not come first"
    same = np.ones((30, 4, 4, 3), np.float32), np.ones((30, 3), np.float32)
    monkeypatch.setattr(module, '_features', lambda *a: None)
    monkeypatch.setattr(module, '_rows_of', lambda *a: same)
    module._picked.cache_clear()
    for start in ('coreset', 'anomaly'):
        seen = [first_batch(replace(run, start=start), 30) for run in runs]
        assert sum((one < 3).sum() for one in seen) < 5
    module._picked.cache_clear()


def test_features_are_computed_once_and_grow_with_what_is_asked(runs, monkeypatch, tmp_path):
    monkeypatch.setenv('IMBAL_AL_CACHE', str(tmp_path))
    load_patches.cache_clear()
    module._picked.cache_clear()
    seen = []
    from imbal_al.networks import features

    encode = features.encode
    counted = lambda pictures, e: (seen.append(len(pictures)), encode(pictures, e))[1]
    monkeypatch.setattr(features, 'encode', counted)
    store = load_patches(runs[0].store_key(), None)
    first, second = (scenario_of(c.scenario_key(), store.table).pool[:6] for c in runs[:2])
    module._features(store, first)
    n = sum(seen)
    module._features(store, first)
    assert sum(seen) == n and n in (6, 7)  # One more tells the shapes
    module._features(store, second)
    kept = module._features(store, first)
    assert len(kept) == len({*first, *second})
    assert sum(seen) - n <= len({*second} - {*first}) + 1
    one = load_encoder('lite0', (64, 64))
    tokens = module._rows_of(store, first, kept)[0]
    assert np.array_equal(tokens, np.concatenate([encode([store.images[i]], one)[0] for i in first]))
    load_patches.cache_clear()
    module._picked.cache_clear()


def test_features_of_another_encoder_are_not_mixed(runs, tmp_path, monkeypatch):
    "A folder that another encoder has filled is computed anew"
    monkeypatch.setenv('IMBAL_AL_CACHE', str(tmp_path))
    load_patches.cache_clear()
    store = load_patches(runs[0].store_key(), None)
    other = load_encoder('lite0', (48, 64))
    folder = store.path.with_name(f'features-{store.path.name}-lite0')
    keep_features(store.images[:4], folder, other)
    kept = module._features(store, [1, 2])
    own = load_encoder('lite0', (64, 64))
    assert kept.meta['key'] == own.key != other.key and len(kept) == 2
    assert np.array_equal(kept.tokens[0], encode([store.images[1]], own)[0][0])
    load_patches.cache_clear()


def test_any_number_of_workers_makes_the_same_table(runs, tmp_path):
    "Two starts, in this process and in two others"
    configs = [replace(runs[0], start=start) for start in ('random', 'anomaly')]
    for workers in (0, 2):
        assert run_study(tmp_path / str(workers), configs, workers=workers, device='cpu') == []
    names = ('results.csv', 'picks.csv')
    alone, two = ([(tmp_path / w / name).read_text() for name in names] for w in '02')
    assert alone == two and len(alone[0].splitlines()) == 3


def test_a_run_records_the_patches_that_its_start_picks(runs, tmp_path):
    run(runs[2], tmp_path)
    with np.load(tmp_path / runs[2].hash / 'cycle_01.npz') as record:
        assert record['position'].tolist() == first_batch(runs[2], 30).tolist()
    content = json.loads((tmp_path / runs[2].hash / 'config.json').read_text())
    assert content['start'] == 'anomaly'


def test_the_default_is_the_papers_and_keeps_every_hash():
    assert {preset(name, 'mtsdd')[0].start for name in ('quick', 'laptop', 'paper')} == {'random'}
    assert {c.start for c in story()} == {'random'}
    before = dict(data='sd900', strategy='entropy', pi_u=0.5, pi_t=(0.5, 0.05), repeat=3, lr=1e-3)
    assert as_config(before).hash == as_config(dict(before, start='random')).hash == '614bfe6270d2'
    assert as_config(dict(before, start='anomaly')).hash != '614bfe6270d2'


@pytest.mark.parametrize('start', ['anomalie', '', None, 3])
def test_another_start_is_refused_in_one_line(start):
    with pytest.raises(InputError, match='random, coreset, anomaly') as e:
        check_config(RunConfig(start=start))
    assert '\n' not in str(e.value)
