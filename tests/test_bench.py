"imbal_al.bench: every row runs in its short form, the table is kept row by row; no time is judged"

import json
from itertools import count

import numpy as np
import pandas as pd
import pytest

from imbal_al.dev import bench
from imbal_al.core import InputError


@pytest.fixture(autouse=True)
def cache_home(tmp_path_factory, monkeypatch):
    monkeypatch.setenv('IMBAL_AL_CACHE', str(tmp_path_factory.getbasetemp() / 'bench_cache'))
    monkeypatch.delenv('IMBAL_AL_DATA', raising=False)
    monkeypatch.setattr(bench.gc, 'collect', lambda: 0)  # Before each measurement: .4 s here, and no time is judged


@pytest.mark.parametrize('name', [o for o in bench._ROWS if 'cuda' not in o])
def test_every_row_runs(name):
    lines = bench._measure(bench._ROWS[name], short=True, rounds=1)
    assert [o['against'].split(' (not')[0] for o in lines] == list(bench._ROWS[name].wanted)
    for o in lines:
        assert (
            set(o) == set(bench._COLUMNS)
            and o['ours_s'] > 0
            and o['kind'] in ('floor', 'plain', 'peer', 'bar')
            and o['short']
        )
        assert np.isnan(o['ratio']) if 'not installed' in o['against'] else o['theirs_s'] >= 0
        assert o['kind'] == 'peer' or 'not installed' not in o['against']


def test_rounds_take_turns_and_the_first_does_not_count():
    said = []
    t = bench._pairs(dict(a=lambda: said.append('a') or 2.0, b=lambda: said.append('b') or 3.0), 2)
    assert said == list('ababab') and t['b'].tolist() == [3, 3]


def test_a_finished_row_is_not_measured_again(tmp_path, monkeypatch):
    n = []
    monkeypatch.setitem(
        bench._ROWS,
        'x',
        bench._Row(
            'x',
            'nothing',
            lambda tmp: n.append(1) or dict(ours=lambda: 1.0, twice=lambda: 2.0),
            dict(twice=('plain', 1)),
            {},
            {},
        ),
    )
    for again in (False, False, True):
        t = bench.run_rows(['x'], tmp_path / 'b.csv', rounds=1, again=again, say=lambda o: None)
    assert len(n) == 2 and len(t) == 1 and t['ratio'].tolist() == [2]
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / 'b.csv')[['row', 'ratio']],
        t[['row', 'ratio']].reset_index(drop=True),
        check_dtype=False,
    )


def test_a_row_that_fails_leaves_the_others(tmp_path, monkeypatch):
    def bad(tmp):
        raise RuntimeError('no')

    monkeypatch.setitem(
        bench._ROWS, 'x', bench._Row('x', 'nothing', lambda tmp: dict(ours=lambda: 1.0), {}, {}, {})
    )
    monkeypatch.setitem(bench._ROWS, 'y', bench._Row('y', 'nothing', bad, {}, {}, {}))
    with pytest.raises(RuntimeError):
        bench.run_rows(
            ['9 counts', 'y'], tmp_path / 'b.csv', short=True, rounds=1, say=lambda o: None
        )
    assert set(pd.read_csv(tmp_path / 'b.csv')['row']) == {'9 counts'}


def test_rows_by_number():
    assert (
        bench.wanted_rows('9') == ['9 counts', '9 histograms']
        and bench.wanted_rows('5') == ['5']
        and bench.wanted_rows('5 cuda') == ['5 cuda']
        and bench.wanted_rows('cuda') == [k for k in bench._ROWS if 'cuda' in k] != []
    )
    with pytest.raises(InputError, match='no such row'):
        bench.wanted_rows('5,77')


def test_embeddings_are_like_a_networks():
    x = bench._embeddings(300, 20)
    assert (
        x.dtype == np.float32
        and (x >= 0).all()
        and np.allclose((x * x).sum(1), 1, atol=1e-5)
        and (x != bench._embeddings(300, 20, 1)).any()
    )


def test_what_is_asked_for_is_what_the_issue_asks_for():
    asked = {
        k: {a: v for a, (_, v) in r.wanted.items() if v == v}
        for k, r in bench._ROWS.items()
        if 'cuda' not in k
    }
    counting = {'logits read once': 0.9, 'count_nonzero': 0.5, 'torchmetrics': 40, 'smp.metrics': 8}
    assert asked == {
        '5': {'matvec': 10, 'scikit-activeml': 40, 'lightly-mundig': 8},
        '6': {'a minute': 1},
        '7 open': {'PNG': 100},
        '7 batch': {'2 ms': 1},
        '8': {'one process, image by image': 1.8, 'one process, patch by patch': 1.8},
        '9 counts': counting,
        '9 histograms': counting,
        '10 help': {'a second': 1},
        '10 import': {'a second': 1},
        '2': {'bare loop': 1 / 1.05},
        '3 train': {'fp32 contiguous': 1.4},
        '3 eval': {'fp32 contiguous': 2},
        '4': {'forward pass': 1 / 1.05},
        '1': {'plain way': 3.5, 'lean script': 1 / 1.1},
        '11': {'its first cycle': 20},
        '12': {'one after the other': 1},
        '13': {'OpenVINO alone': 1 / 1.05},
        '14 labels': {},
        '14 overlap': {},
        '15': {},
        '16': {},
        '16 frozen': {},
    }


def test_memory_is_in_the_table_and_stays_with_its_row(tmp_path):
    said = []
    t = bench.run_rows(['6', '7 batch'], tmp_path / 'b.csv', short=True, rounds=1, say=said.append)
    m = t.groupby('row')['memory_mb'].max()
    x = 4000 * 24 * 4 / 1e6
    assert 0 < m['6'] < 4 * x and np.isnan(m['7 batch']) and any('MB allocated' in o for o in said)
    assert np.isnan(
        pd.read_csv(tmp_path / 'b.csv').set_index('row').loc['7 batch', 'memory_mb']
    ).all()


def test_what_is_held_is_what_numpy_allocates():
    assert (
        8e6 <= bench._allocated(lambda: np.zeros(10**6) + 1) < 8.2e6 + 8e6
        and bench._allocated(lambda: None) < 1e5
    )


def test_a_missed_bar_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(
        bench._ROWS,
        'x',
        bench._Row(
            'x',
            'nothing',
            lambda tmp: dict(ours=lambda: 2.0, other=lambda: 1.0, seen=lambda: 1.0),
            dict(other=('floor', 1), seen=('plain', bench._NONE)),
            {},
            {},
        ),
    )
    said = []
    bench.run_rows(['x'], tmp_path / 'b.csv', rounds=1, say=said.append)
    assert [o.endswith('MISSED') for o in said] == [True, False] and 'wanted' not in said[1]


def test_a_round_is_made_in_three_ways(tmp_path):
    "Each begins with the same labels, picks from the same pictures, and leaves what is needed to go on"
    settings = dict(window=32, steps=1, bs=2, encoder='tu-mobilenetv3_small_050', weights=None)
    p, masks = bench._round_project(tmp_path, 8, 64, 4, **settings)
    round = bench._Round(project=p, budget=2, at=tmp_path, number=count())
    pairs, pool = bench._paths(p)
    assert len(masks) == 8 and 0 < len(pairs) <= 4 and 0 < len(pool) <= 4
    for way in (bench._our_round, lambda r: bench._plain_round(r, 0), bench._lean_round):
        way(round)
    assert (tmp_path / '0' / 'rounds' / '001' / 'queue' / 'labelstudio.json').exists()
    assert not (p.dir / 'rounds').exists(), 'ours works on a copy'
    for number in ('1', '2'):
        folder = tmp_path / number
        picks = json.loads((folder / 'queue.json').read_text())
        assert len(picks) == 2 and set(picks) <= set(map(str, pool))
        for pick in picks:
            shown = bench._pixels(folder / pick.rpartition('/')[2])
            assert shown.shape == (64, 64) and set(np.unique(shown)) <= {0, 255}
        assert (folder / 'model.pt').stat().st_size > 1000


def test_windows_are_joined_where_they_were(tmp_path):
    whole = np.arange(64).reshape(8, 8) - 20.0
    round = bench._Round(project=None, budget=1, at=tmp_path, number=count())
    windows = bench._cut_up(whole, 4)
    bench._leave(round, {}, [tmp_path / 'a.png'], np.zeros(1), [windows])
    assert ((bench._pixels(tmp_path / '0' / 'a.png') > 0) == (whole >= 0)).all()
