"""The loop, played on arrays: picks, rounds that go on where they stopped, and what a row says."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from imbal_al.core import InputError, read_json, stream
from imbal_al.dev import played_loop
from imbal_al.dev.lines import Line, LINES, split, Windows
from imbal_al.dev.played_loop import _Arm, _ARMS, _Play, _play, _table
from imbal_al.networks.features import encode, Features, load_encoder

SIDE, N = 64, 24
LINE = Line('made up', SIDE, 0.25, 16, 18, 6)


@pytest.fixture(scope='module')
def windows():
    "Flat grey windows, one a group; in every fourth a bright square: a defect"
    images = np.full((N, SIDE, SIDE, 1), 90, np.uint8)
    images += np.random.default_rng(0).integers(0, 9, images.shape, dtype=np.uint8)
    masks = np.zeros((N, SIDE, SIDE), np.uint8)
    masks[::4, 20:30, 20:30] = 1
    images[masks > 0] = 230
    seen = load_encoder('lite0_fine', (SIDE, SIDE))
    tokens, embedding = encode(images, seen)

    def novel():
        return Features(tokens[..., :112], embedding, {})

    def plain():
        return embedding.astype(np.float32)

    return Windows(
        images=images,
        masks=masks,
        faulty=np.arange(N) % 4 == 0,
        groups=np.arange(N),
        seen=seen,
        tokens=tokens,
        novel=novel,
        odd=novel,
        plain=plain,
    )


def play_of(start='random_faulty', strategy='random', train='frozen', stops=(4, 8), seed=0):
    "A short one"
    return _Play(LINE, _Arm('one', start, train, strategy, 2), seed, stops)


def played(play, folder, windows, most=99):
    "Its records"
    folder.mkdir(exist_ok=True)
    _play(play, folder, most, lambda line: windows, lambda *a, **b: None)
    return [read_json(folder / f'{play.key(k)}.json') for k in range(len(play.stops))]


def without_time(record):
    "A record without what a clock says"
    row = {k: v for k, v in record['row'].items() if k not in ('training', 'looking')}
    return dict(record, row=row)


def test_groups_are_never_on_both_sides_and_the_pool_has_its_share(windows):
    pairs = replace(windows, groups=np.arange(N) // 2)
    for seed in range(5):
        pool, test = split(pairs, LINE, seed)
        assert not set(pairs.groups[pool]) & set(pairs.groups[test])
        assert windows.faulty[pool].sum() == round(LINE.pool * LINE.pi)


def test_the_oracle_finds_all_and_the_queue_says_which(windows, tmp_path):
    first, last = played(play_of(), tmp_path, windows)
    assert first['row']['queue'] == 'xxxx'
    assert first['row']['found'] == last['row']['found'] == 4
    assert last['row']['queue'] == '....'
    assert len(set(last['labelled'])) == 8
    assert last['next'] == []


def test_a_bright_square_is_found_by_novelty(windows, tmp_path):
    first, _ = played(play_of('anomaly', 'entropy'), tmp_path, windows)
    assert first['row']['queue'] == 'xxxx'


def test_without_a_defect_nothing_is_trained_and_the_start_picks_on(windows, tmp_path):
    healthy = replace(windows, faulty=np.zeros(N, bool))
    first, last = played(play_of('coreset', 'entropy'), tmp_path, healthy)
    assert not first['trained'] and not last['trained']
    assert (last['row']['f1'], last['row']['hit'], last['row']['ap']) == (0, 0, LINE.pi)
    assert len(set(last['labelled'])) == 8


def test_a_random_order_is_the_stream_s_own(windows, tmp_path):
    play = play_of('random')
    first, _ = played(play, tmp_path, windows)
    pool, _ = split(windows, play.line, play.seed)
    wanted = pool[stream(0, 'picks', 'made up', 0).permutation(len(pool))[:4]]
    assert first['labelled'] == wanted.tolist()


@pytest.mark.parametrize('train', ['frozen', 'fine-tune'])
def test_going_on_is_as_if_nothing_had_stopped(windows, tmp_path, train):
    play = play_of(strategy='entropy', train=train)
    at_once = played(play, tmp_path / 'at_once', windows)
    played(play, tmp_path / 'later', windows, most=4)
    assert len(list((tmp_path / 'later').glob('*.json'))) == 1
    later = played(play, tmp_path / 'later', windows)
    assert [without_time(one) for one in at_once] == [without_time(one) for one in later]
    assert at_once[0]['trained']


def test_entropy_picks_the_windows_of_highest_entropy(windows, tmp_path, monkeypatch):
    bright = windows.images.reshape(N, -1).mean(1)

    def logits(of):
        "The brighter, the less certain"
        z = 9 - 4 * (bright[of] - bright.min()) / np.ptp(bright)
        return np.broadcast_to(z[:, None, None], (len(of), SIDE, SIDE)).astype(np.float32)

    monkeypatch.setitem(played_loop._WAYS, 'frozen', lambda *given: logits)
    play = play_of(strategy='entropy')
    first, _ = played(play, tmp_path, windows)
    left = np.setdiff1d(split(windows, play.line, play.seed)[0], first['labelled'])
    assert first['next'] == left[np.argsort(-bright[left])[:4]].tolist()


def test_what_hangs_on_settings_has_a_name_of_its_own():
    play = play_of()
    keys = {play.key(0), play.key(1), replace(play, seed=1).key(0)}
    keys |= {replace(play, arm=replace(play.arm, steps=3)).key(0)}
    keys |= {replace(play, stops=(4, 9)).key(0)}
    assert len(keys) == 5
    assert replace(play, stops=(4, 8, 12)).key(0) == play.key(0)


def test_the_table_has_a_row_for_each_round(windows, tmp_path):
    played(play_of(), tmp_path, windows)
    t = _table(tmp_path, lambda data: windows.faulty)
    assert t['labels'].tolist() == [4, 8]
    assert t['then'].tolist() == [t['queue'][1], '']
    assert t['minutes'].tolist() == [4.0, 4.2]  # four masks of a minute; four keys of three seconds
    assert t['commit'].notna().all() and (t['seed'] == 0).all()


def test_an_empty_folder_and_an_unknown_arm_are_told(tmp_path):
    with pytest.raises(InputError, match='holds no round; play one'):
        _table(tmp_path)
    with pytest.raises(InputError, match="arm 'nwe'"):
        played_loop.main(['--runs', str(tmp_path / 'runs'), '--arms', 'nwe'])


def test_the_table_s_rounds_are_those_that_would_be_played_now():
    "Their names tell: a round of another way to pick has another one"
    table = pd.read_csv(Path(__file__).parents[1] / 'data/results/played_loop.csv', dtype=dict(config=str))
    own = table.set_index(['data', 'arm', 'seed', 'labels']).config
    for line, arm in product(LINES, _ARMS):
        play = _Play(line, arm, 0)
        assert [play.key(k) for k in range(4)] == own.loc[line.data, arm.name, 0].tolist()
