"The loop from the command line, and what is refused in one line"

import importlib.util, json, subprocess, sys
from pathlib import Path

import numpy as np, pytest, typer
from PIL import Image
from typer.testing import CliRunner

from imbal_al.cli.lines import OneLine
from imbal_al.project.intake import new
from imbal_al.project.rounds import next_round
from imbal_al.project.store import open_project
from imbal_al.project.commands import _found_in, register
from imbal_al.project.queue import as_annotations
from imbal_al.data.synthetic import image

app = typer.Typer(cls=OneLine)
register(app, OneLine)
DEPLOY = all(map(importlib.util.find_spec, ('onnx', 'onnxruntime')))


def say(*a):
    r = CliRunner().invoke(app, [str(o) for o in a])
    assert r.exception is None or isinstance(r.exception, SystemExit), r.exception
    return r


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    d = tmp_path_factory.mktemp('images')
    for i in range(14):
        Image.fromarray(image('steel', i, (32, 40), faulty=i % 2 == 0)[0]).save(d / f'{i:02d}.png')
    (d / 'empty.png').touch()
    return d


def truth(name):
    return image('steel', int(name[:2]), (32, 40), faulty=int(name[:2]) % 2 == 0)[1]


def test_the_loop(tmp_path, images):
    d = tmp_path / 'p'
    r = say(
        'project',
        'new',
        d,
        '--images',
        images,
        '--window',
        32,
        '--steps',
        1,
        '--held-out',
        0.5,
        '--seed',
        1,
    )
    assert (
        r.exit_code == 0
        and '14 images, grey; 1 file left out' in r.output
        and 'empty.png is empty' in r.output
    )
    r = say('next', d, '--budget', 14, '--device', 'cpu')
    assert (
        r.exit_code == 0 and 'round 1: 14 units to label' in r.output and 'no model yet' in r.output
    )
    assert 'still waits' in say('next', d, '--budget', 6).output
    p = open_project(d)
    t = json.loads((d / 'rounds/001/queue/labelstudio.json').read_text())
    e = tmp_path / 'e.json'
    e.write_text(json.dumps(as_annotations(t, lambda id: truth(p.row[id]['name']))))
    r = say('ingest', d, e)
    assert r.exit_code == 0 and '14 new' in r.output
    assert '14 labelled' in say('project', 'status', d).output
    assert 'trained on' in say('next', d, '--budget', 0).output
    r = say(
        'where',
        d,
        '--prevalence',
        0.1,
        '--misses-cost',
        5,
        '--alarms-cost',
        1,
        '--figure',
        tmp_path / 'curve.png',
    )
    assert (
        r.exit_code == 0
        and 'Expect there: F1' in r.output
        and 'another 50 labels' in r.output.lower()
        and 'Cheapest from' in r.output
        and (tmp_path / 'curve.png').stat().st_size > 3000
    )
    assert (
        say('project', 'labels', d, tmp_path / 'l.json', '--form', 'coco').exit_code == 0
        and len(json.loads((tmp_path / 'l.json').read_text())['images']) == 14
    )
    if not DEPLOY:
        assert 'pip install onnx onnxruntime' in say('export', d, tmp_path / 'm.onnx').output
        return
    assert 'threshold' in say('export', d, tmp_path / 'm.onnx', '--prevalence', 0.1).output
    r = say('predict', tmp_path / 'm.onnx', images, '--out', tmp_path / 'out')
    assert r.exit_code == 0 and len((tmp_path / 'out/table.csv').read_text().splitlines()) == 16


@pytest.mark.parametrize(
    'args,says',
    [
        (('project', 'new', '{p}', '--images', '{nowhere}'), 'is no folder'),
        (('project', 'new', '{p}'), "Missing option"),
        (('project', 'new', '{p}', '--images', '{i}', '--window', '100'), 'multiple of 32'),
        (('project', 'new', '{p}', '--images', '{i}', '--unit', 'pixel'), 'unknown unit'),
        (('next', '{i}'), 'is no project'),
        (('next', '{q}', '--strategy', 'magic'), 'unknown strategy'),
        (('next', '{q}', '--budget', '-1'), 'greater than or equal to 0'),
        (('next', '{q}', '--device', 'tpu9'), "device 'tpu9' cannot be used"),
        (('next', '{q}', '--budget', '0'), 'no labelled defect'),
        (('ingest', '{q}', '{nowhere}'), 'is missing'),
        (('ingest', '{q}', '{i}'), 'the images themselves'),
        (('ingest', '{q}', '{i}/00.png'), 'cannot be read'),
        (('where', '{q}', '--prevalence', '0.1'), 'no trained model'),
        (('where', '{q}'), 'Missing option'),
        (('where', '{q}', '--prevalence', '2'), 'prevalence 2'),
        (('where', '{q}', '--prevalence', '.1', '--misses-cost', '1'), 'give both'),
        (('where', '{q}', '--prevalence', '.1', '--figure', '{p}.xyz'), "unknown ending of a figure '.xyz'"),
        (('where', '{q}', '--prevalence', '.1', '--device', 'tpu9'), "device 'tpu9' cannot be used"),
        (('verdict', '{q}', '--threshold', '.5', '--min-area', '0'), 'smallest area 0'),
        (('project', 'labels', '{q}', '{p}'), 'no label yet'),
        (('project', 'status', '{i}'), 'is no project'),
    ],
)
def test_refusals_are_one_line_and_exit_code_2(tmp_path, images, args, says):
    q = tmp_path / 'q'
    say('project', 'new', q, '--images', images, '--window', 32)
    r = say(
        *[a.format(p=tmp_path / 'p', i=images, q=q, nowhere=tmp_path / 'nowhere') for a in args]
    )
    assert (
        r.exit_code == 2 and says in r.output and len(r.output.strip().splitlines()) == 1
    ), r.output


def test_a_refused_label_is_exit_code_1_and_release(tmp_path, images):
    d = tmp_path / 'p'
    say('project', 'new', d, '--images', images, '--window', 32, '--steps', 1)
    say('next', d, '--budget', 3, '--device', 'cpu')
    m = tmp_path / 'm'
    m.mkdir()
    Image.new('L', (9, 9)).save(m / '00.png')
    r = say('ingest', d, m)
    assert r.exit_code == 1 and '40 x 32 pixels, its label 9 x 9' in r.output
    assert '3 units back' in say('project', 'release', d).output


@pytest.mark.parametrize('folder', ['.', '..'])
def test_the_folder_one_stands_in_can_be_predicted(monkeypatch, images, folder):
    "It has no name as it is typed, so results lie beside the one that it is"
    monkeypatch.chdir(images)
    r = say('predict', 'gone.onnx', folder)
    assert r.exit_code == 2 and len(r.output.strip().splitlines()) == 1
    assert ('gone.onnx is missing' if DEPLOY else 'pip install onnx onnxruntime') in r.output
    assert _found_in(Path('.')) == images.resolve().with_name(f'{images.name}-found')


def test_help_is_there_for_each():
    for a in (
        (),
        ('project',),
        ('project', 'new'),
        ('next',),
        ('ingest',),
        ('where',),
        ('export',),
        ('predict',),
    ):
        assert say(*a, '--help').exit_code == 0


def main(*a):
    from imbal_al.cli import app

    return CliRunner().invoke(app, [str(o) for o in a])


@pytest.mark.parametrize(
    'args,says',
    [
        (('guide', '{q}'), 'give both --misses-cost and --alarms-cost'),
        (('guide', '{q}', '--misses-cost', '5', '--alarms-cost', '1'), 'no labelled defect'),
        (('guide', '{i}', '--misses-cost', '5', '--alarms-cost', '1'), 'is no project'),
        (
            ('guide', '{q}', '--misses-cost', '5', '--alarms-cost', '1', '--size', '64'),
            '--size is for loss studies',
        ),
        (('guide', '{q}', '--grid'), '--grid is for loss studies'),
        (('guide', '--misses-cost', '5'), '--misses-cost is for projects'),
        (('guide', '--prevalence', '.1'), '--prevalence is for projects'),
        (('guide', '{q}', '--misses-cost', '0', '--alarms-cost', '1'), 'two numbers above 0'),
        (
            ('guide', '{q}', '--misses-cost', '5', '--alarms-cost', '1', '--loss', 'focal'),
            'unknown loss',
        ),
        (
            ('guide', '{q}', '--misses-cost', '5', '--alarms-cost', '1', '--device', 'tpu9'),
            'cannot be used here',
        ),
        (('project', 'new', '{p}', '--images', '{i}', '--group-by', '('), 'no regular expression'),
        (('project', 'new', '{p}', '--images', '{i}', '--group-by', 'png'), 'into one group'),
        (('next', '{q}', '--strategy', 'random_faulty'), 'looks at the truth'),
        (('next', '{q}', '--strategy', 'quota'), '--prevalence 0.05'),
    ],
)
def test_guide_and_groups_refuse_in_one_line(tmp_path, images, args, says):
    q = tmp_path / 'q'
    say('project', 'new', q, '--images', images, '--window', 32)
    r = main(*[a.format(p=tmp_path / 'p', i=images, q=q) for a in args])
    assert (
        r.exit_code == 2 and says in r.output and len(r.output.strip().splitlines()) == 1
    ), r.output


def test_groups_are_told(tmp_path, images):
    r = say(
        'project', 'new', tmp_path / 'p', '--images', images, '--window', 32, '--group-by', '^[01]'
    )
    assert r.exit_code == 0 and '2 groups, ' in r.output and 'so few that intervals' in r.output
    assert (
        '14 images without a match'
        in say(
            'project',
            'new',
            tmp_path / 'r',
            '--images',
            images,
            '--window',
            32,
            '--group-by',
            'part[0-9]',
        ).output
    )


def test_a_project_is_guided_from_the_command_line(tmp_path, images, monkeypatch):
    from imbal_al.project import costs
    from imbal_al.networks.models import create_model
    from imbal_al.project.labelled import write_label
    from imbal_al.project.state import rounds

    q = tmp_path / 'q'
    say('project', 'new', q, '--images', images, '--window', 32, '--held-out', 0.5, '--seed', 1, '--train', 'fine-tune')
    p = open_project(q)
    for o in p.units.id:
        write_label(p, o, truth(p.row[o]['name']))
    monkeypatch.setattr(costs, 'train', lambda *a: create_model(weights=None).eval())
    r = main(
        'guide',
        q,
        '--misses-cost',
        5,
        '--alarms-cost',
        1,
        '--prevalence',
        0.2,
        '--candidates',
        1,
        '--device',
        'cpu',
        '--accept',
    )
    assert (
        r.exit_code == 0
        and 'ask for an OII of' in r.output
        and 'How sure: ' in r.output
        and 'the next rounds train with dibe, fn_weight 0.5' in r.output
        and len(rounds(p)) == 1
    )
    r = say('where', q, '--prevalence', 0.2)
    assert r.exit_code == 0 and 'Round 1, trained on' in r.output
    if DEPLOY:
        e = say('export', q, tmp_path / 'm.onnx')
        assert (
            e.exit_code == 0
            and 'costs 5 and a false one 1' in ' '.join((tmp_path / 'm.md').read_text().split())
            and 'dibe with a false-negative weight of 0.5' in (tmp_path / 'm.md').read_text()
        ), e.output


def test_what_neither_trains_nor_looks_loads_no_torch(tmp_path, images):
    "One process gives the commands in turn and says after each which heavy libraries are loaded"
    p, masks = tmp_path / 'p', tmp_path / 'masks'
    masks.mkdir()
    for name in ('00.png', '01.png'):
        Image.fromarray(truth(name) * np.uint8(255)).save(masks / name)
    lines = [
        ['project', 'new', p, '--images', images, '--window', 32],
        ['project', 'status', p],
        ['ingest', p, masks],
        ['project', 'labels', p, tmp_path / 'labels'],
        ['project', 'drop', p, '13.png'],
        ['project', 'release', p],
        ['project', 'set', p, 'steps=3'],
        ['project', 'status', p],
        ['verdict', p],
        ['data', 'list'],
        *([*word.split(), '--help'] for word in ('', 'next', 'where', 'study', 'export', 'predict')),
    ]
    code = (
        'import sys\n'
        'from typer.testing import CliRunner\n'
        'from imbal_al.cli import app\n'
        f'for line in {[[str(word) for word in line] for line in lines]}:\n'
        '    code = CliRunner().invoke(app, line).exit_code\n'
        "    heavy = [m for m in ('torch', 'matplotlib', 'fastai') if m in sys.modules]\n"
        '    print(*line[:2], code, heavy)\n'
        'import imbal_al.project.predictor\n'
        "print('torch' in sys.modules)"
    )
    said = subprocess.check_output([sys.executable, '-c', code], text=True).splitlines()
    assert [line for line in said[:-1] if not line.endswith('0 []')] == []
    assert len(said) == len(lines) + 1 and said[-1] == 'False'


def test_what_is_refused_is_refused_before_pytorch_is_loaded(tmp_path, images):
    nowhere, project = str(tmp_path / 'nope'), str(tmp_path / 'p')
    new(tmp_path / 'p', images)
    lines = [
        ['next', nowhere],
        ['next', project, '--strategy', 'magic'],
        ['next', project, '--budget', '9', '--tests', '10'],
        ['export', nowhere, str(tmp_path / 'model.onnx')],
        ['guide', nowhere, '--misses-cost', '5', '--alarms-cost', '1'],
        ['guide', nowhere, '--undo'],
        ['guide', nowhere, '--misses-cost', '5'],
    ]
    code = (
        'import sys\n'
        'from imbal_al.cli import main\n'
        f'for line in {lines}:\n'
        "    sys.argv = ['imbal-al', *line]\n"
        '    try: main()\n'
        "    except SystemExit as error: print(line[0], error.code, 'torch' in sys.modules)\n"
    )
    ran = subprocess.run([sys.executable, '-c', code], text=True, capture_output=True)
    assert ran.stdout.splitlines() == [f'{line[0]} 2 False' for line in lines]
    words = ['nope', 'magic', 'tests = 10', 'nope', 'nope', 'nope', '--alarms-cost']
    assert [word in said for word, said in zip(words, ran.stderr.splitlines(), strict=True)] == [True] * 7


def test_a_queue_that_waits_is_told_before_pytorch_is_loaded(tmp_path, images):
    p = new(tmp_path / 'p', images)
    next_round(p, 4, 'random', 'cpu')
    code = (
        'import sys\n'
        'from typer.testing import CliRunner\n'
        'from imbal_al.cli import app\n'
        f"r = CliRunner().invoke(app, ['next', {str(p.dir)!r}])\n"
        "print(r.exit_code, r.output.splitlines()[0], 'torch' in sys.modules)\n"
    )
    said = subprocess.check_output([sys.executable, '-c', code], text=True)
    assert said == '0 round 1 still waits for its labels; ingest its labels first False\n'


def test_status_loads_few_libraries(tmp_path, images):
    new(tmp_path / 'p', images)
    code = (
        'import sys\n'
        'from typer.testing import CliRunner\n'
        'from imbal_al.cli import app\n'
        f"r = CliRunner().invoke(app, ['project', 'status', {str(tmp_path / 'p')!r}])\n"
        "print(r.exit_code, [m for m in ('torch', 'matplotlib', 'scipy', 'fastai') if m in sys.modules])\n"
    )
    assert subprocess.check_output([sys.executable, '-c', code], text=True) == '0 []\n'
