"`imbal-al demo`: each step runs, its words are the commands' own, and what is done is not done again"

import configparser
import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from imbal_al.core import InputError
from imbal_al.data.synthetic import image
from imbal_al.live import demo as room, walk_demo
from imbal_al.project.labelled import labels, read_mask
from imbal_al.project.state import read_verdict, rounds, rounds_with_model
from imbal_al.project.store import open_project

SCALE = room._Scale(today=40, tomorrow=8, side=64, steps=4, bs=4, budgets=(16, 8), pi_today=0.5, held_out=0.4)


@pytest.fixture(scope='module')
def walked(tmp_path_factory):
    "(folder, what was shown) of a small demo"
    out, shown = tmp_path_factory.mktemp('demo') / 'd', []
    walk_demo(out, 3, SCALE, shown.append)
    return out, ''.join(shown)


@pytest.mark.slow
def test_the_whole_walk(walked):
    out, shown = walked
    told = re.findall(r'^\$ imbal-al (.*)$', shown, re.M)
    assert [line.split()[0] for line in told] == (
        'project project next ingest next ingest next where verdict export predict'.split()
    )
    p = open_project(out / 'parts')
    assert len(labels(p)) == 24 and len(rounds(p)) == 3 and len(rounds_with_model(p)) == 2
    assert 'labels-1.json (labelstudio): 16 new' in shown
    assert 'labels-2.json (labelstudio): 8 new' in shown
    assert read_verdict(p) is not None and 'labels  F1' in shown
    for name in ('curve.png', 'model.onnx', 'model.md', 'parts/rounds/002/queue/contact.png'):
        assert (out / name).is_file(), name
        assert name.rpartition('/')[0] in shown and name.rpartition('/')[2] in shown


@pytest.mark.slow
def test_the_annotator_draws_what_is_there(walked):
    out, shown = walked
    p = open_project(out / 'parts')
    for unit in p.units.to_dict('records'):
        if unit['id'] not in set(labels(p)['id']):
            continue
        number = int(unit['image'][6:9])
        faulty = room._is_faulty('today', number, SCALE.pi_today, 3)
        _, mask = image('steel', number, SCALE.side, 3, faulty)
        assert (read_mask(p, unit['id']) == mask).all()
    faulty = [int(n) for n in re.findall(r'photographs: (\d+) with a defect', shown)]
    assert sum(faulty) == int(labels(p)['faulty'].sum()) > 0


@pytest.mark.slow
def test_what_only_a_demo_knows_is_counted_from_the_files(walked):
    out, shown = walked
    caught, faulty, false, healthy = 0, 0, 0, 0
    for row in csv.DictReader((out / 'found/table.csv').open()):
        is_bad = np.asarray(Image.open(out / 'truth/tomorrow' / row['image'])).any()
        faulty, healthy = faulty + is_bad, healthy + (not is_bad)
        caught += is_bad and row['verdict'] != 'accept'
        false += not is_bad and row['verdict'] != 'accept'
    assert faulty + healthy == SCALE.tomorrow
    said = f"of tomorrow's photographs, {caught} of {faulty} faulty and {false} of {healthy} healthy ones are flagged"
    assert said in shown


@pytest.mark.slow
def test_given_again_it_shows_the_same_and_gives_no_command(walked, monkeypatch):
    out, shown = walked
    monkeypatch.setattr(room, '_run', lambda *a: pytest.fail(f'{a[0]} was given again'))
    again = []
    walk_demo(out, 3, SCALE, again.append)
    assert ''.join(again) == shown


@pytest.mark.slow
def test_a_step_that_was_interrupted_is_given_again(walked):
    "Killed after `ingest` and before its record: the labels are there once"
    out, shown = walked
    p = open_project(out / 'parts')
    before = labels(p)
    (out / 'steps/ingest-2.txt').unlink()
    again = []
    walk_demo(out, 3, SCALE, again.append)
    assert 'labels-2.json (labelstudio): 8 same' in ''.join(again)
    assert labels(open_project(out / 'parts')).equals(before)


def test_a_command_that_fails_ends_the_demo_in_one_line(tmp_path):
    with pytest.raises(InputError, match='give the folder'):
        room._run(('project', 'new', str(tmp_path / 'p'), '--images', str(tmp_path / 'none')), str)


def test_only_a_demo_of_the_same_seed_is_gone_on_with(tmp_path):
    from imbal_al.cli import app

    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine/a.txt').write_text('mine')
    r = CliRunner().invoke(app, ['demo', '--out', str(tmp_path / 'mine')])
    assert r.exit_code and 'holds something else; give another folder, for example --out demo2' in r.output
    assert [path.name for path in (tmp_path / 'mine').iterdir()] == ['a.txt']
    r = CliRunner().invoke(app, ['demo', '--out', str(tmp_path / 'mine/a.txt')])
    assert r.exit_code == 2 and 'a.txt holds something else; give another folder' in r.output
    assert (tmp_path / 'mine/a.txt').read_text() == 'mine'
    room._begin(tmp_path / 'd', 0, SCALE)
    with pytest.raises(InputError, match='holds a demo of seed 0'):
        walk_demo(tmp_path / 'd', 1, SCALE)
    assert json.loads((tmp_path / 'd/demo.json').read_text())['seed'] == 0


def test_what_the_server_needs_is_named_and_is_what_the_extra_brings(monkeypatch):
    "Without its packages: one line, and its remedy names what `live` asks for"
    from imbal_al.live import commands

    monkeypatch.setattr(commands, 'find_spec', lambda name: None)
    with pytest.raises(InputError) as told:
        commands._check_installed(["starlette", "uvicorn"])
    remedy = re.search('`pip install (.*)`', str(told.value)).group(1).split()
    settings = configparser.ConfigParser()
    settings.read(Path(__file__).parent.parent / 'settings.ini')
    asked = settings['DEFAULT']['live_requirements'].split()
    assert remedy == [re.match(r'[\w-]+', one).group() for one in asked]
    assert str(told.value).startswith('starlette and uvicorn not installed')
