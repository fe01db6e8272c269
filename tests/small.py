"Small pictures and projects of them, and commands as somebody gives them"

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from imbal_al.cli import app
from imbal_al.data.synthetic import image
from imbal_al.project.intake import new


def run(*args):
    "(exit code, all that was said) of a command"
    done = CliRunner().invoke(app, [str(o) for o in args])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def png(path, seed, shape=(32, 40)):
    "A picture of noise"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, shape).astype(np.uint8)).save(path)


def steel_project(folder, n, shape, every, **settings):
    "(project, name -> mask) of n pictures of steel, every so many of them faulty; the network is small"
    (folder / 'i').mkdir()
    truth = {}
    for i in range(n):
        pixels, truth[f'{i:02d}.png'] = image('steel', i, shape, faulty=i % every == 0)
        Image.fromarray(pixels).save(folder / 'i' / f'{i:02d}.png')
    small = dict(window=32, overlap=0, bs=2, weights=None) | settings
    return new(folder / 'p', folder / 'i', **small), truth


def leaves_project(folder, n, side, **settings):
    "(project, id -> mask) of n pictures of leaves, every second one faulty"
    (folder / 'i').mkdir()
    truth = {}
    for i in range(n):
        pixels, truth[f'{i:02d}.png'] = image('leaves', i, side, faulty=i % 2 == 0)
        Image.fromarray(pixels).save(folder / 'i' / f'{i:02d}.png')
    p = new(folder / 'p', folder / 'i', window=side, overlap=0, bs=4, seed=1, **settings)
    return p, lambda id: truth[p.row[id]['name']]


def square_project(folder, n, shape, **settings):
    "(project, bool mask) of n bright pictures with the same dark square each"
    (folder / 'i').mkdir()
    mask = np.zeros(shape, bool)
    mask[10:16, 20:27] = True
    for i in range(n):
        pixels = np.where(mask, 90, 200 + i).astype(np.uint8)
        Image.fromarray(pixels).save(folder / 'i' / f'{i}.png')
    return new(folder / 'p', folder / 'i', overlap=0, **settings), mask
