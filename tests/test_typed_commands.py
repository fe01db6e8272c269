"Commands that a message names: they can be typed as they stand, and help"

import re, shlex
from pathlib import Path

import numpy as np, pytest
from PIL import Image

import imbal_al
from imbal_al.core import InputError, write_json
from imbal_al.project import queue as queues
from imbal_al.project.intake import new
from imbal_al.project.labelled import write_label
from imbal_al.project.network import cold_model, write_model
from imbal_al.project.queue import _contact_sheet
from imbal_al.project.state import how_to_label
from imbal_al.project.verdict import choose_verdict, Wanted
from imbal_al.results.study_table import read_study
from small import png, run, steel_project

PATHS = r'\{(p\.dir|dir|project\.dir|p\.images|folder|found|project|opened\.images|path\.name)\}'


def commands(said):
    "The words of each command of ours between backticks"
    return [shlex.split(text) for text in re.findall(r'`(imbal-al [^`]*)`', ' '.join(said.split()))]


@pytest.fixture
def pictures(tmp_path):
    "Six pictures in a folder whose name has a blank and a bracket"
    for i in range(6):
        png(tmp_path / 'Line 3 (new)' / f'part {i}.png', i)
    return tmp_path / 'Line 3 (new)'


def test_no_command_names_a_path_that_a_shell_would_break():
    "A path in a command is quoted, wherever the command is told"
    home = Path(imbal_al.__file__).parent
    found = []
    for file in sorted(home.rglob('*.py')):
        for line in file.read_text().splitlines():
            tail = line[line.find('imbal-al ') :] if 'imbal-al ' in line else ''
            if re.search(PATHS, tail.split(';')[0]) and 'dev' not in file.parts:
                found.append(f'{file.name}: {line.strip()}')
    assert not found, found


def test_another_unit_in_a_folder_with_a_blank(pictures, tmp_path):
    "The command that a refusal names makes the other project; nothing is promised of labels where there are none"
    p = tmp_path / 'my parts'
    assert run('project', 'new', p, '--images', pictures, '--window', 32)[0] == 0
    code, said = run('project', 'set', p, 'unit=window')
    assert code == 2 and 'ingest NEW' not in said and 'nothing is labelled here' in said
    (_, *words), = commands(said)
    code, said = run(*[str(tmp_path / 'new one') if word == 'NEW' else word for word in words], '--window', 32)
    assert code == 0, said


def test_with_every_unit_labelled_more_pictures_come_first(pictures, tmp_path):
    "No command that has nothing left to ask for is named"
    p = new(tmp_path / 'my parts', pictures, window=32, overlap=0, held_out=0.5)
    for id in p.units['id']:
        write_label(p, id, np.zeros((32, 40)))
    code, said = run('next', p.dir, '--budget', 0)
    assert code == 2 and 'all units are labelled, so put more pictures into' in said
    again = [words for words in commands(said) if words[1:3] == ['project', 'new']]
    assert len(again) == 1 and not [words for words in commands(said) if words[1] == 'next'], said
    png(pictures / 'one more.png', 9)
    assert run(*again[0][1:])[0] == 0
    assert run('next', p.dir, '--budget', 1, '--device', 'cpu')[0] == 0
    code, said = run('verdict', p.dir)
    assert code == 0 and '--alarms' not in said and '1 that wait for labels' in said, said


def test_labels_that_wait_come_before_more_units(pictures, tmp_path):
    p = new(tmp_path / 'p', pictures, window=32, overlap=0, held_out=0.5)
    assert how_to_label(p).startswith('label more with `imbal-al next ')
    assert run('next', p.dir, '--budget', 2, '--strategy', 'random', '--device', 'cpu')[0] == 0
    assert how_to_label(p) == 'label the 2 that wait for labels and ingest them'


@pytest.mark.parametrize('unit', ['image', 'window'])
def test_a_verdict_on_windows_says_so(tmp_path, unit):
    "Alarms on windows are no alarms on parts: four windows a picture flag up to four times as many"
    (tmp_path / 'in').mkdir()
    for i in range(4):
        pixels = np.full((64, 64), 90 + i, np.uint8)
        Image.fromarray(pixels).save(tmp_path / 'in' / f'{i}.png')
    p = new(tmp_path / 'p', tmp_path / 'in', unit=unit, window=32, overlap=0, held_out=0.99, weights=None)
    for row in p.units.itertuples():
        write_label(p, row.id, np.zeros((row.h, row.w)))
    first = p.dir / 'rounds/001'
    first.mkdir(parents=True)
    about = dict(number=1, cold=False, train=[], test=[], strategy='random', budget=0)
    write_json(first / 'round.json', about)
    write_model(first / 'model.pt', cold_model(p))
    said = str(choose_verdict(p, Wanted(alarms=0.3)))
    one = 'window' if unit == 'window' else 'part'
    assert f'of the good {one}s are flagged' in said and f'Of the good {one}s it has ' in said
    assert ('A picture has 4 and is flagged if one of them is' in said) == (unit == 'window'), said


def test_a_hundred_pictures_with_nothing_drawn_are_two_lines(tmp_path):
    "Where defects are rare most pictures have none: what they say is told once"
    for i in range(100):
        png(tmp_path / 'camera' / f'{i:02d}.png', i)
    p = new(tmp_path / 'p', tmp_path / 'camera', window=32, overlap=0)
    images = [dict(id=i, file_name=f'{i:02d}.png', width=40, height=32) for i in range(100)]
    write_json(tmp_path / 'coco.json', dict(images=images, annotations=[], categories=[dict(id=1, name='crack')]))
    code, said = run('ingest', p.dir, tmp_path / 'coco.json')
    assert code == 0 and said.count('nothing drawn on it') == 1 and '  the same of 99 more: 01.png, ' in said
    assert len(said.splitlines()) < 6, said


def test_what_is_missing_is_explained():
    code, said = run('where', 'parts')
    assert code == 2 and '(Share of faulty units at deployment, such as 0.05)' in said and 'where --help' in said
    code, said = run('project', 'new')
    assert code == 2 and "(The project's folder); `imbal-al project new --help` has an example" in said


def test_advice_asks_for_no_table_that_it_refuses(tmp_path):
    code, said = run('advise', tmp_path)
    assert code == 2 and 'CSV' not in said
    with pytest.raises(InputError, match='as CSV'):
        read_study(tmp_path)


def test_the_sheet_of_a_queue_names_pictures_in_folders_with_blanks(monkeypatch):
    "The end of a name is what tells pictures apart; a blank does not cut it off, and an umlaut is one"
    told = []

    class Draw:
        def __init__(self, sheet):
            self.font = None

        def textlength(self, text):
            return 5 * len(text)

        def text(self, at, line, fill):
            told.append(line)

    monkeypatch.setattr(queues.ImageDraw, 'Draw', Draw)
    _contact_sheet([(Image.new('RGB', (160, 160)), ['Dienstag früh/Schicht 2/kos23_Part4 ä.png', 'at random'])])
    assert told == ['..üh/Schicht 2/kos23_Part4 ä.png', 'at random']


def test_predict_takes_a_file(pictures):
    code, said = run('predict', pictures, pictures)
    assert code == 2 and 'is a folder; `imbal-al export PROJECT model.onnx` writes one' in said


def test_a_round_that_only_trains_says_what_waits_and_what_is_next(tmp_path):
    "With a queue out it says so; the command that it names is one that can be typed"
    p, truth = steel_project(tmp_path, 8, (32, 40), 2, steps=2, held_out=0.3)
    for row in p.units.itertuples():
        if row.Index < 6:
            write_label(p, row.id, truth[row.image])
    assert run('next', p.dir, '--budget', 2, '--strategy', 'random', '--device', 'cpu')[0] == 0
    code, said = run('next', p.dir, '--budget', 0, '--device', 'cpu')
    assert code == 0 and '; 2 units of a queue wait for labels' in said, said
    last = said.strip().splitlines()[-1]
    assert last == f'next: imbal-al where {p.dir} --prevalence 0.05'
    assert run(*shlex.split(last.removeprefix('next: '))[1:])[0] in (0, 2)
