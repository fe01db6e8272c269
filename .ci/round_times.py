"""Seconds of each command of three rounds with a new project's defaults: 500 drawn images of 512 pixels, 50 labels a round

    OMP_NUM_THREADS=1 python .ci/round_times.py FOLDER        five minutes on two quiet cores
"""

import os, subprocess, sys, time
from pathlib import Path

import numpy as np
from PIL import Image

from imbal_al.core import provenance
from imbal_al.data.synthetic import image

IMAGES, SIDE, BUDGET, ROUNDS = 500, 512, 50, 3


def drawn(folder):
    "Draw the images, one in ten with a defect; name -> mask"
    folder.mkdir(parents=True)
    truth = {}
    for i in range(IMAGES):
        pixels, truth[f'{i:03d}'] = image('steel', i, SIDE, faulty=i % 10 == 0)
        Image.fromarray(pixels).save(folder / f'{i:03d}.png')
    return truth


def give(at, *words):
    "Give a command as a terminal does, and say how long it took"
    line = [Path(sys.executable).parent / 'imbal-al', *map(str, words)]
    began = time.time()
    done = subprocess.run(line, cwd=at, capture_output=True, text=True)
    print(f'{time.time() - began:6.1f} s  imbal-al {" ".join(line[1:])}', flush=True)
    if done.returncode:
        sys.exit(done.stderr)


def label(at, truth):
    "Save the masks of the newest queue"
    queue = sorted((at / 'parts/rounds').glob('*/queue/images'))[-1]
    (at / 'masks').mkdir(exist_ok=True)
    for path in queue.iterdir():
        mask = truth[path.name.split('-')[0]]
        Image.fromarray(255 * mask.astype(np.uint8)).save(at / 'masks' / path.name)


def main(at):
    truth = drawn(at / 'images')
    give(at, 'project', 'new', 'parts', '--images', 'images')
    for _ in range(ROUNDS):
        give(at, 'next', 'parts', '--budget', BUDGET, '--device', 'cpu')
        label(at, truth)
        give(at, 'ingest', 'parts', 'masks')
    made = provenance()
    print(f'{made["cpu"]}, {made["cores"]} cores, commit {made["commit"]}, load {os.getloadavg()[0]:.1f}')


if __name__ == '__main__':
    main(Path(sys.argv[1]).absolute())
