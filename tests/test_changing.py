"Changing one's mind: settings set later, units released, records of a round that somebody changed"

import json, shutil

import numpy as np, pytest
from PIL import Image
from typer.testing import CliRunner

from imbal_al.cli import app
from imbal_al.core import InputError, read_json, seal, write_json
from imbal_al.data.synthetic import image
from imbal_al.project.changes import change, parsed
from imbal_al.project.intake import new
from imbal_al.project.labelled import labels, write_label
from imbal_al.project.rounds import next_round
from imbal_al.project.state import changed_after, rounds, rounds_with_model, skipped_units, waiting
from imbal_al.project.store import open_project
from imbal_al.project.taken import ingest
from imbal_al.runs.lock import held
from kills import killed_at

SHAPE = (32, 40)


def steel(i):
    return image('steel', i, SHAPE, faulty=i % 2 == 0)


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    "A project of 16 images, 8 of them labelled, and one round trained on these"
    base = tmp_path_factory.mktemp('made')
    (base / 'camera').mkdir()
    for i in range(16):
        Image.fromarray(steel(i)[0]).save(base / f'camera/{i:02d}.png')
    kw = dict(window=32, overlap=0, steps=2, bs=2, weights=None, held_out=0.4)
    p = new(base / 'p', base / 'camera', **kw)
    for id in p.units.id[:8]:
        write_label(p, id, steel(int(p.row[id]['image'][:2]))[1])
    next_round(p, 4, 'random', 'cpu')
    return base


@pytest.fixture
def at(made, tmp_path):
    "A copy of it, of the same images"
    shutil.copytree(made / 'p', tmp_path / 'p')
    return tmp_path


def run(*args):
    "(exit code, all that was said)"
    done = CliRunner().invoke(app, [str(o) for o in args])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def files(dir):
    "Every label's file as bytes"
    return {o.name: o.read_bytes() for o in sorted((dir / 'labels').iterdir())}


def test_settings_are_set_and_shown_labels_stay_and_the_next_model_is_trained_with_them(at):
    before = files(at / 'p')
    code, said = run('project', 'set', at / 'p', 'steps=3', 'window=64', 'loss=dibe')
    assert code == 0 and 'steps=2 -> 3' in said and 'window=32 -> 64' in said and '--budget 0' in said
    p = open_project(at / 'p')
    assert (p.settings.steps, p.settings.window, p.settings.loss) == (3, 64, 'dibe')
    assert files(at / 'p') == before and len(labels(p)) == 8 and len(waiting(p)) == 4
    code, said = run('project', 'status', at / 'p')
    assert code == 0 and 'steps=3' in said and 'changed after round 1' in said and '8 labelled' in said
    assert rounds_with_model(p) == []
    code, said = run('where', at / 'p', '--prevalence', 0.3)
    assert code == 2 and 'settings of now' in said and '--budget 0' in said
    code, said = run('next', at / 'p', '--budget', 0, '--device', 'cpu')
    assert code == 0 and 'round 2' in said
    assert [r['number'] for _, r in rounds_with_model(p)] == [2]
    stamp = (rounds(p)[1] / 'model.pt').stat().st_mtime_ns
    assert run('next', at / 'p', '--budget', 0)[0] == 0 and len(rounds(p)) == 2, 'it is up to date'
    assert (rounds(p)[1] / 'model.pt').stat().st_mtime_ns == stamp


def test_a_queue_that_is_out_says_that_settings_were_changed(at):
    change(open_project(at / 'p'), steps=1)
    code, said = run('next', at / 'p', '--budget', 4, '--device', 'cpu')
    assert code == 0 and 'settings were changed since' in said and 'still waits' in said


@pytest.mark.parametrize(
    'words, says',
    [
        (['steps'], 'write name=value'),
        (['steps=0'], 'give a whole number above 0'),
        (['steps=x'], 'give a whole number'),
        (['lr=fast'], 'give a number'),
        (['lr=nan'], 'give a number above 0'),
        (['stepps=3'], 'choose one of: unit, window'),
        (['steps=3', 'steps=4'], 'given twice'),
        (['window=100'], 'a multiple of 32'),
        (['overlap=32'], 'no step forward'),
        (['loss=best'], "unknown loss 'best'"),
        (['arch=best'], "unknown network 'best'"),
        (['encoder=best'], "no encoder 'best'"),
        (['schedule=best'], "unknown schedule 'best'"),
        (['weights=best'], "unknown weights 'best'"),
        (['unit=window'], 'decides what a label is of'),
        (['held_out=0.1'], 'only tested on'),
        (['seed=7', 'steps=3'], 'only tested on'),
        (['group_by=folder'], 'only tested on'),
    ],
)
def test_what_cannot_be_set_is_one_line_and_changes_nothing(at, words, says):
    before = (at / 'p/project.json').read_bytes()
    code, said = run('project', 'set', at / 'p', *words)
    assert code == 2 and says in said and len(said.strip().split('\n')) == 1
    assert (at / 'p/project.json').read_bytes() == before


def test_the_remedy_for_what_cannot_be_changed_works(at):
    "The line says two commands; given as they stand they make a project that has the labels"
    said = run('project', 'set', at / 'p', 'held_out=0.5')[1]
    one, two = (o.split() for o in said.split('`')[1:4:2])
    assert run(*[str(at / 'NEW') if o == 'NEW' else o for o in one[1:]])[0] == 0
    assert run(*[str(at / 'NEW') if o == 'NEW' else o for o in two[1:]])[0] == 0
    q = open_project(at / 'NEW')
    assert q.settings.held_out == 0.5 and len(labels(q)) == 8


def test_before_the_first_label_images_may_be_dealt_anew(tmp_path):
    (tmp_path / 'camera').mkdir()
    for i in range(4):
        Image.fromarray(steel(i)[0]).save(tmp_path / f'camera/part{i // 2}_{i}.png')
    new(tmp_path / 'p', tmp_path / 'camera', window=32, overlap=0)
    assert run('project', 'set', tmp_path / 'p', 'group_by=part([0-9]+)', 'seed=3', 'held_out=0.5')[0] == 0
    code, said = run('project', 'set', tmp_path / 'p', 'group_by=part')
    assert code == 2 and 'into one group' in said


@pytest.mark.parametrize('n', range(1, 5))
def test_killed_in_the_middle_it_is_as_before_or_as_after(at, n):
    before, kept = files(at / 'p'), read_json(at / 'p/project.json')['settings']
    killed_at(n, lambda: change(open_project(at / 'p'), steps=5, loss='dibe'))
    p = open_project(at / 'p')
    assert (p.settings.steps, p.settings.loss) in ((2, kept['loss']), (5, 'dibe'))
    assert files(at / 'p') == before and len(labels(p)) == 8 and len(waiting(p)) == 4
    change(p, steps=5, loss='dibe')
    p = open_project(at / 'p')
    assert p.settings.steps == 5 and changed_after(p) == 1 and len(p.more['changes']) == 1


def test_a_round_that_was_interrupted_goes_on_with_the_new_settings(at):
    p = open_project(at / 'p')
    folder = rounds(p)[0]
    picks = read_json(folder / 'queue.json')['picks']
    (folder / 'queue/done.json').unlink()
    change(p, steps=3, overlap=0, window=64, arch='unet')
    assert not (folder / 'model.pt').exists()
    made = next_round(open_project(at / 'p'), 4, 'random', 'cpu')
    assert made.number == 1 and made.picks == picks and (folder / 'model.pt').exists()
    assert [o['number'] for _, o in rounds_with_model(open_project(at / 'p'))] == [1]


def test_a_guided_loss_is_not_set_aside_silently(at):
    numbers = dict.fromkeys(('threshold', 'prevalence', 'misses_cost', 'alarms_cost'), 0.5)
    guide = at / 'p/guide.json'
    write_json(guide, dict(numbers, form='imbal_al costs 1', loss='dibe', fn_weight=0.8))
    with pytest.raises(InputError, match='imbal-al guide` has chosen'):
        change(open_project(at / 'p'), loss='dice')
    guide.unlink()
    assert change(open_project(at / 'p'), loss='dice')


def test_units_are_released_by_id_and_name_and_nothing_of_a_wrong_list(at):
    p = open_project(at / 'p')
    out = waiting(p)
    code, said = run('project', 'release', at / 'p', out[0], 'nothing.png')
    assert code == 2 and 'nothing.png' in said and waiting(p) == out
    labelled = labels(p)['id'].iloc[0]
    assert run('project', 'release', at / 'p', labelled)[0] == 2
    assert run('project', 'release', at / 'p', out[0], p.row[out[1]]['name'])[0] == 0
    assert waiting(p) == out[2:]
    assert run('project', 'release', at / 'p')[0] == 0 and waiting(p) == []


def skipped_export(p, ids, at):
    "The last queue's tasks, some of them skipped and the others untouched"
    tasks = json.loads((rounds(p)[-1] / 'queue/labelstudio.json').read_text())
    for task in tasks:
        if task['data']['id'] in ids:
            task['annotations'] = [dict(result=[], was_cancelled=True, updated_at='2026-02-01T10:00:00Z')]
    at.write_text(json.dumps(tasks))
    return at


def test_skipped_tasks_go_back_once(at):
    p = open_project(at / 'p')
    out = waiting(p)
    export = skipped_export(p, out[:2], at / 'e.json')
    assert run('ingest', at / 'p', export)[0] == 0
    assert skipped_units(p) == out[:2]
    assert '2 of those that wait for labels were skipped' in run('project', 'status', at / 'p')[1]
    assert run('project', 'release', at / 'p', '--skipped', out[0])[0] == 2
    code, said = run('project', 'release', at / 'p', '--skipped')
    assert code == 0 and '2 units' in said and waiting(p) == out[2:]
    ingest(p, export)
    assert skipped_units(p) == [] and '0 units' in run('project', 'release', at / 'p', '--skipped')[1]
    assert waiting(p) == out[2:]


def test_a_skipped_unit_that_is_labelled_later_is_not_released(at):
    p = open_project(at / 'p')
    out = waiting(p)
    ingest(p, skipped_export(p, out[:2], at / 'e.json'))
    write_label(p, out[0], np.ones(SHAPE))
    assert skipped_units(p) == out[1:2]


def change_file(path, name, value):
    "A field set to something else by hand, the checksum made anew; '' takes it out"
    found = read_json(path)
    found.pop(name, None)
    if value != '':
        found[name] = value
    path.write_text(json.dumps(seal(found)))


COMMANDS = (
    ('project', 'status'),
    ('project', 'release'),
    ('next', '--budget', 4, '--device', 'cpu'),
    ('where', '--prevalence', 0.3),
)
ODD = [
    ('round.json', 'number', 'one'),
    ('round.json', 'number', 7),
    ('round.json', 'number', ''),
    ('round.json', 'budget', None),
    ('round.json', 'budget', -1),
    ('round.json', 'cold', 'no'),
    ('round.json', 'cold', ''),
    ('round.json', 'train', None),
    ('round.json', 'train', [['a']]),
    ('round.json', 'train', ''),
    ('round.json', 'test', {}),
    ('round.json', 'from_pool', 'x'),
    ('round.json', 'strategy', 3),
    ('queue.json', 'picks', ''),
    ('queue.json', 'picks', None),
    ('queue.json', 'picks', ['a']),
    ('queue.json', 'picks', [dict(id='a')]),
    ('queue.json', 'picks', [dict(id=3, why='', held_out=False)]),
    ('released.json', 'ids', 3),
    ('released.json', 'ids', [3]),
]


@pytest.mark.parametrize('file, name, value', ODD)
def test_an_odd_field_of_a_round_is_one_line_and_removing_the_file_is_the_remedy(at, file, name, value):
    path = at / 'p/rounds/001' / file
    if file == 'released.json':
        write_json(path, dict(ids=[]))
    change_file(path, name, value)
    for command, *more in COMMANDS:
        args = [command, *more, at / 'p'] if command == 'project' else [command, at / 'p', *more]
        code, said = run(*args)
        assert 'Traceback' not in said
        if code and 'too few healthy' not in said:
            assert code == 2 and str(path) in said and 'remove it' in said and said.count('\n') == 1
    assert run('next', at / 'p', '--budget', 4, '--device', 'cpu')[0] == 2 or file == 'released.json'
    path.unlink()
    assert run('project', 'status', at / 'p')[0] == 0
    code, said = run('next', at / 'p', '--budget', 4, '--device', 'cpu')
    assert code == 0 and len(labels(open_project(at / 'p'))) == 8


def test_an_id_in_a_queue_that_is_no_unit_is_passed_over_with_a_line(at):
    folder = at / 'p/rounds/001'
    picks = read_json(folder / 'queue.json')['picks']
    change_file(folder / 'queue.json', 'picks', [*picks, dict(id='0' * 12, why='', held_out=False)])
    (folder / 'queue/done.json').unlink()
    code, said = run('next', at / 'p', '--budget', 4, '--device', 'cpu')
    assert code == 0 and '000000000000 is in the queue and no unit' in said


@pytest.mark.parametrize('odd', [3, [3], [dict(after='x')]])
def test_odd_changes_are_one_line(at, odd):
    change_file(at / 'p/project.json', 'changes', odd)
    for words in (('project', 'status', at / 'p'), ('project', 'set', at / 'p', 'steps=9')):
        code, said = run(*words)
        assert code == 2 and 'invalid entries in changes' in said


def test_nothing_is_set_while_a_round_runs(at):
    with held(at / 'p/next.json'):
        code, said = run('project', 'set', at / 'p', 'steps=9')
    assert code == 2 and 'is held by process' in said


def test_words_are_read_by_the_kind_of_the_setting():
    found = parsed(['lr=1e-3', 'weights=none', 'group_by=', 'steps=7', 'arch=unet'])
    assert found == dict(lr=0.001, weights=None, group_by='', steps=7, arch='unet')
