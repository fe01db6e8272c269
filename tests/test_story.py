"`make study` tells what both papers say: the verdicts hold for every recorded seed, and are what the table gives"

import json
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from scipy import stats
from typer.testing import CliRunner

from imbal_al.cli import app
from imbal_al.core import InputError
from imbal_al.results.story import StoryTable, save_story, story_so_far, story_text, story_verdicts
from imbal_al.studies import preset, story

RESULTS = Path(__file__).resolve().parent.parent / 'data/results'
SMALL = dict(pool_size=60, test_size=10, heldout_size=20, validation_size=20, batch=8, steps=2)


def options():
    return [o for k, v in SMALL.items() if k in ('pool_size', 'test_size', 'batch', 'steps')
            for o in (f"--{k.replace('_', '-')}", str(v))]  # fmt: skip


@pytest.fixture(scope='module')
def recorded():
    if not (RESULTS / 'story.csv').exists():
        pytest.skip('no checkout here: data/results/story.csv')
    return pd.read_csv(RESULTS / 'story.csv')


def differences(table):
    "The three paired differences of a seed, from the table alone"
    last = table[table.cycle == table.groupby(['pi_u', 'strategy']).cycle.transform('max')]
    f1 = last.pivot(index='repeat', columns=['pi_u', 'strategy'], values='f1')
    faulty = last[last.pi_u == 1].set_index('repeat').sort_index()
    return [
        (f1[0.1, 'entropy'] - f1[0.1, 'random']).to_numpy(),
        (faulty.f1 - faulty.f1_rare).to_numpy(),
        (faulty.f1_set - faulty.f1_rare).to_numpy(),
    ]


def test_what_the_recorded_seeds_say(recorded):
    """Student's interval by scipy; the library's is the wider of this and a bootstrap

    All three verdicts hold for every one of ten seeds."""
    assert recorded.seed.nunique() == 10
    for seed, table in recorded.groupby('seed'):
        verdicts = story_verdicts(table)
        for verdict, d in zip(verdicts, differences(table), strict=True):
            assert len(d) == 8
            low, high = stats.t.interval(0.95, 7, d.mean(), stats.sem(d))
            assert verdict.difference.mean == pytest.approx(d.mean())
            assert verdict.difference.low <= low + 1e-9 and verdict.difference.high >= high - 1e-9
            assert (verdict.word == 'supported') == (low > 0), (seed, verdict)
        assert [verdict.word for verdict in verdicts] == ['supported'] * 3, seed


def test_the_recorded_verdicts_are_those_of_the_table(recorded):
    origin = json.loads((RESULTS / 'story_origin.json').read_text())
    words = {str(s): [v.word for v in story_verdicts(t)] for s, t in recorded.groupby('seed')}
    assert origin['verdicts'] == words and origin['command'] == 'make story'


def test_the_recorded_runs_are_those_that_the_command_trains(recorded):
    for seed, table in recorded.groupby('seed'):
        assert set(table.config) == {config.hash for config in story(seed=int(seed))}


def test_verdicts_turn_with_the_numbers(recorded):
    table = recorded[recorded.seed == recorded.seed.max()].copy()
    swapped = table.replace({'strategy': {'random': 'entropy', 'entropy': 'random'}})
    rare = table.pi_u < 1
    mixed = pd.concat([swapped[rare], table[~rare]])
    assert [v.word for v in story_verdicts(mixed)] == ['refuted', 'supported', 'supported']
    table['f1_set'] = table.f1_rare
    assert story_verdicts(table)[2].word == 'inconclusive'
    two = table[table.repeat < 2]
    assert {v.word for v in story_verdicts(two)} == {'two runs'}


def test_a_repeat_that_is_not_whole_is_left_out(recorded):
    table = recorded[recorded.seed == recorded.seed.min()]
    part = table[~((table.repeat == 7) & (table.strategy == 'entropy'))]
    assert [v.difference.n for v in story_verdicts(part)] == [7, 8, 8]


def test_what_is_said_fits_a_terminal_of_80_columns(recorded):
    table = recorded[recorded.seed == recorded.seed.min()]
    lines = [*story_text(table).splitlines(), *story_so_far(table)]
    assert len(lines) >= 13 and max(map(len, lines)) <= 80
    assert all(f'{n}. ' in story_text(table) for n in (1, 2, 3))


def test_figures_of_nothing_say_so(tmp_path):
    nothing = StoryTable(tmp_path, [])()
    assert len(nothing) == 0 and story_so_far(nothing) == []
    assert [Image.open(p).format for p in save_story(nothing, tmp_path)] == ['PNG'] * 3


def test_the_plan_shares_what_can_be_shared():
    configs = story(repeats=3, seed=5)
    assert {c.seed for c in configs} == {5} and len({c.hash for c in configs}) == 9
    labels = {c.cycles * c.batch for c in configs}
    assert labels == {80}
    assert story()[0].scenario_key() == story()[1].scenario_key()


def test_preset_names_the_story():
    with pytest.raises(InputError, match='story, quick, laptop, paper'):
        preset('fast', 'x')
    with pytest.raises(InputError, match=r'story\(\)'):
        preset('story', 'x')


@pytest.mark.slow
def test_the_command_tells_the_story(tmp_path):
    out = tmp_path / 'study'
    args = ['study', *options(), '--arch', 'pspnet', '--repeats', '2', '--workers', '1', '--device', 'cpu']
    first = CliRunner().invoke(app, [*args, '--out', str(out)])
    assert first.exit_code == 0, first.output
    assert len(list((out / 'figures').glob('story_*.png'))) == 3
    for text in ('1. Entropy is ahead', 'two runs', 'project new parts', 'Figures grow in'):
        assert text in first.output
    told = first.output.split('\n1. ')[1]
    assert max(len(line) for line in told.splitlines() if str(tmp_path) not in line) <= 80
    again = CliRunner().invoke(app, [*args, '--out', str(out)])
    assert again.output.split('\n1. ')[1] == told


@pytest.mark.slow
def test_a_recorded_repeat_comes_out_again(recorded, tmp_path):
    "One run of a recorded seed, trained anew: the same F1, as far as processors agree"
    from imbal_al.studies import run

    seed = int(recorded.seed.min())
    config = next(c for c in story(seed=seed) if c.pi_u == 1)
    run(config, tmp_path / 'runs')
    now = StoryTable(tmp_path, [config])().iloc[0]
    then = recorded[recorded.config == config.hash].iloc[0]
    for name in ('f1', 'f1_rare', 'f1_set', 'f1_best'):
        assert now[name] == pytest.approx(then[name], abs=0.1)
    assert now.f1 > now.f1_set > now.f1_rare


@pytest.mark.parametrize(
    'args, says',
    [
        (('--preset', 'story', '--pi-u', '0.5'), 'its own strategies, pools and tests'),
        (('--preset', 'story', '--strategies', 'random'), 'take --preset quick'),
        (('--preset', 'stories'), 'story, quick, laptop, paper'),
    ],
)
def test_what_the_story_does_not_take_is_refused_in_a_line(args, says):
    r = CliRunner().invoke(app, ['study', *args])
    assert r.exit_code == 2 and says in r.output and len(r.output.strip().splitlines()) == 1


def test_what_is_on_the_way_is_shown_once_and_as_it_changes(capsys):
    "A study that runs: each line as soon as it is known, none twice, none lost"
    from imbal_al.cli import progress, shared

    said = iter([[], ['one'], ['one', 'two'], ['one', 'three'], ['one', 'three']])
    seen = []

    class Terminal:
        is_terminal = True

        def print(self, line, highlight):
            seen.append(line)

    class Bar:
        console = Terminal()
        __enter__ = __exit__ = lambda self, *a: None

        def add_task(self, *a, **k):
            return 0

        def update(self, *a, **k):
            pass

    def runner(*args, progress, **how):
        for done in range(5):
            progress(done, 5, [])
        return []

    with pytest.MonkeyPatch.context() as m:
        m.setattr(progress, '_progress_bar', Bar)
        work = shared.Work()
        assert progress.loud_run('x', [], work, {}, runner, lambda: next(said)) == []
    assert seen == ['one', 'two', 'three']
