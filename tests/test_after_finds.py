"After the first finds: the same first labels for all, what each strategy then picks, and rounds that go on."

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from test_played_loop import windows  # noqa: F401

from imbal_al.core import InputError, read_json, stream
from imbal_al.dev import after_finds
from imbal_al.dev.after_finds import _First, _NAMES, _play, _table, _Way, compared
from imbal_al.dev.lines import Line, split
from imbal_al.strategies.choose import STRATEGIES

LINE = Line('made up', 64, 0.25, 16, 18, 6)


def way_of(strategy='entropy', stops=(2, 4, 6), seed=0):
    "A short one"
    return _Way(LINE, strategy, seed, stops, 2)


def played(way, folder, windows, first=None):
    "Its records"
    folder.mkdir(exist_ok=True)
    _play(way, folder, first or _First(), lambda line: windows, lambda *a, **b: None)
    return [read_json(folder / f'{way.key(k)}.json') for k in range(len(way.stops))]


def without_time(record):
    "A record without what a clock says"
    own = ('training', 'looking', 'config')
    return dict(record, row={k: v for k, v in record['row'].items() if k not in own})


def test_each_strategy_is_one_or_goes_on_by_novelty():
    assert set(_NAMES) - set(STRATEGIES) == {'anomaly'}
    assert {'entropy', 'nearest', 'largest_alarm', 'random_predicted_faulty', 'clasp', 'random'} <= set(_NAMES)


def test_all_begin_with_the_same_labels_and_the_same_network(windows, tmp_path):
    kept = _First()
    shared = [played(way_of(name), tmp_path / 'shared', windows, kept) for name in _NAMES]
    alone = [played(way_of(name), tmp_path / name, windows) for name in _NAMES]
    for ours, theirs in zip(shared, alone):
        assert [without_time(one) for one in ours] == [without_time(one) for one in theirs]
    begins = [without_time(one[0]) for one in shared]
    assert {tuple(one['labelled']) for one in begins} == {tuple(begins[0]['labelled'])}
    assert len({one['row']['f1'] for one in begins}) == 1
    assert len({tuple(one['next']) for one in begins}) > 2
    for first, _, last in shared:
        assert len(set(last['labelled'])) == 6 and last['labelled'][:2] == first['labelled']
        assert last['next'] == []


def test_strategies_pick_by_what_the_network_says(windows, tmp_path, monkeypatch):
    bright = windows.images.reshape(len(windows.images), -1).mean(1)

    def trained(w, way, k, labelled, split):
        "The brighter, the larger the alarm; entropy is the other way round"
        left = np.setdiff1d(split[0], labelled)
        own = dict(foreground=bright[left], entropy=-bright[left], foreground_entropy=bright[left] * 0)
        return dict(f1=0.0, f1_half=0.0, ap=0.0, hit=0.0, training=0.0, looking=0.0), own

    monkeypatch.setattr(after_finds, '_trained', trained)
    for name, order in (('largest_alarm', -bright), ('entropy', bright)):
        first, *_ = played(way_of(name), tmp_path / name, windows)
        left = np.setdiff1d(split(windows, LINE, 0)[0], first['labelled'])
        assert first['next'] == left[np.argsort(order[left])[:2]].tolist()
    first, *_ = played(way_of('random'), tmp_path / 'random', windows)
    wanted = left[stream(0, 'picks', 'made up', 1).permutation(len(left))[:2]]
    assert first['next'] == wanted.tolist()
    oracle = played(way_of('random_faulty'), tmp_path / 'oracle', windows)
    assert oracle[-1]['row']['found'] == windows.faulty[split(windows, LINE, 0)[0]].sum() == 4


def test_nearest_is_told_which_labelled_windows_are_faulty(windows, tmp_path):
    first, *_ = played(way_of('nearest'), tmp_path, windows)
    pool = split(windows, LINE, 0)[0]
    known = np.array(first['labelled'])
    assert windows.faulty[known].any()
    left, e = np.setdiff1d(pool, known), windows.plain()
    e = e / np.linalg.norm(e, axis=1, keepdims=True)
    most = (e[left] @ e[known[windows.faulty[known]]].T).max(1)
    assert set(first['next']) == set(left[np.argsort(-most)[:2]].tolist())


def test_without_a_defect_all_go_on_by_novelty_and_nothing_is_trained(windows, tmp_path):
    healthy = replace(windows, faulty=np.zeros(len(windows.images), bool))
    one = played(way_of('random'), tmp_path, healthy)
    two = played(way_of('anomaly'), tmp_path, healthy)
    assert [a['labelled'] for a in one] == [b['labelled'] for b in two]
    assert one[-1]['row']['training'] == one[-1]['row']['f1'] == 0


def test_going_on_is_as_if_nothing_had_stopped(windows, tmp_path):
    at_once = played(way_of(), tmp_path / 'at_once', windows)
    later = played(way_of(), tmp_path / 'later', windows)
    (tmp_path / 'later' / f'{way_of().key(2)}.json').unlink()
    (tmp_path / 'later' / f'{way_of().key(1)}.json').write_text('{half')
    later = played(way_of(), tmp_path / 'later', windows)
    assert [without_time(one) for one in at_once] == [without_time(one) for one in later]


def test_the_table_has_a_row_for_each_round_and_ways_that_ended_are_compared(windows, tmp_path):
    with pytest.raises(InputError, match='holds no round; play one'):
        _table(tmp_path)
    for seed in (0, 1):
        for name in ('entropy', 'random'):
            played(way_of(name, seed=seed), tmp_path, windows)
    t = _table(tmp_path)
    assert len(t) == 12 and t.labels.tolist() == [2, 4, 6] * 4
    told = compared(t)
    assert told[['value', 'strategy', 'seeds']].values.tolist() == [['f1', 'random', 2], ['found', 'random', 2]]
    by = t[t.labels > 2].groupby(['strategy', 'seed']).f1.mean()
    assert told['mean'][0] == pytest.approx((by['random'] - by['entropy']).mean())
    half = t.drop(index=t.index[(t.strategy == 'random') & (t.seed == 1) & (t.labels == 6)])
    assert set(compared(half).seeds) == {1}


def test_rows_of_seeds_that_another_machine_played_stay(windows, tmp_path):
    table = tmp_path / 'table.csv'
    for seed in (0, 1):
        played(way_of(seed=seed), tmp_path / str(seed), windows)
    before = _table(tmp_path / '0')
    before.assign(f1=0.125).to_csv(table, index=False)
    t = _table(tmp_path / '1', table)
    assert t.seed.tolist() == [0] * 3 + [1] * 3 and t.config.nunique() == 6
    assert t.f1[:3].tolist() == [0.125] * 3
    assert t.config[:3].tolist() == before.config.tolist()
    again = _table(tmp_path / '0', table)  # What is in the folder goes before what the table says
    assert again.f1.tolist() == before.f1.tolist()


def test_unknown_names_are_said(tmp_path):
    for given in (['--data', 'nowhere'], ['--strategies', 'entropi']):
        with pytest.raises(InputError, match='nowhere|entropi'):
            after_finds.main(['--runs', str(tmp_path / 'r'), *given])


def test_no_seed_is_said(tmp_path):
    with pytest.raises(InputError, match='no seed'):
        after_finds.main(['--runs', str(tmp_path / 'r'), '--from-seed', '10'])


def test_what_is_compared_leaves_out_what_is_not_paired():
    rows = [
        dict(data='d', strategy=name, seed=seed, labels=labels, found=1, f1=0.1 * seed)
        for name in ('entropy', 'random', 'clasp')
        for seed in range(3)
        for labels in (40, 80)
        if (name, seed) != ('clasp', 2)
    ]
    assert set(compared(pd.DataFrame(rows)).seeds) == {2}
