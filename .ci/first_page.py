"""What the first page shows: the loop on 100 drawn photographs, its commands' output and its picture

    python .ci/first_page.py        a few minutes; writes data/results/first_page.json and figures/loop.png
"""

import json, os, shlex, subprocess, sys, tempfile, time
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from imbal_al.core import provenance
from imbal_al.data.synthetic import image

AT = Path(__file__).resolve().parent.parent / 'data/results'
SIZE, SEED = 64, 7
LOOP = """
project new parts --images photos --window 64 --held-out 0.4
next parts --budget 30 --device cpu
ingest parts masks
next parts --budget 30 --device cpu
ingest parts masks
where parts --prevalence 0.05
export parts model.onnx --prevalence 0.05
predict model.onnx tomorrow --out found --threads 1
"""


def photograph(folder, i):
    "Draw a photograph, one in five with a defect; returns its mask"
    picture, mask = image('leaves', i, SIZE, seed=SEED, faulty=i % 5 == 0)
    folder.mkdir(exist_ok=True)
    Image.fromarray(picture).save(folder / f'{i:03d}.png')
    return mask


def annotate(root, truth):
    "Draw the masks of the newest queue, as the person at the screen does"
    queue = sorted((root / 'parts/rounds').glob('*/queue/images'))[-1]
    out = root / 'masks'
    out.mkdir(exist_ok=True)
    for path in queue.iterdir():
        mask = truth[path.name.split('-')[0] + '.png']
        Image.fromarray(255 * mask).save(out / path.name)


def give(root, line):
    "Give a command as a terminal does; what it says, and the seconds it took"
    program = Path(sys.executable).parent / 'imbal-al'
    began = time.time()
    result = subprocess.run(
        [program, *shlex.split(line)],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, 'COLUMNS': '80'},
    )
    if result.returncode:
        sys.exit(f'{line}: {result.stdout}')
    return result.stdout.replace(f'{root}/', '').strip(), round(time.time() - began, 1)


def play(root, truth):
    "Give the commands; (command, what it says, seconds) of each"
    said = []
    for line in LOOP.strip().split('\n'):
        if line.startswith('ingest'):
            annotate(root, truth)
        said.append((f'imbal-al {line}', *give(root, line)))
        print(*said[-1], sep='\n', flush=True)
    return said


def outlined(picture, mask):
    "A picture with the outline of a mask in red"
    out = np.repeat(np.repeat(picture, 3, 0), 3, 1)
    big = np.repeat(np.repeat(mask > 0, 3, 0), 3, 1)
    inside = big.copy()
    for axis in (0, 1):
        for shift in (1, -1):
            inside &= np.roll(big, shift, axis)
    out[big & ~inside] = [230, 20, 20]
    return out


def filled(picture, mask):
    out = picture.copy()
    out[mask > 0] = [230, 20, 20]
    return out


def sheet(pictures, columns=3):
    "Pictures side by side with a white line between"
    cells = [np.pad(p, ((2, 2), (2, 2), (0, 0)), constant_values=255) for p in pictures]
    rows = [np.concatenate(cells[i : i + columns], 1) for i in range(0, len(cells), columns)]
    return np.concatenate(rows)


def read(path):
    return np.asarray(Image.open(path).convert('RGB'))


def draw(root, truth):
    "Four steps in a row: the folder, what to label first, one mask, defects found on new photographs"
    photos = [read(root / f'photos/{i:03d}.png') for i in range(1, 10)]
    queue = sorted((root / 'parts/rounds').glob('*/queue/images'))[0]
    names = [path.name.split('-')[0] + '.png' for path in sorted(queue.iterdir())]
    asked = [read(root / 'photos' / name) for name in names[:9]]
    faulty = next((name for name in names if truth[name].any()), names[0])
    found = sorted((root / 'tomorrow').glob('*.png'))
    at = {path.stem: path for path in (root / 'found/masks').rglob('*.png')}
    shown = [filled(read(path), np.asarray(Image.open(at[path.stem]))) for path in found][:9]
    n_faulty = sum(bool(truth[name].any()) for name in names)
    share = sum(bool(mask.any()) for mask in truth.values()) / len(truth)
    steps = [
        (sheet(photos), f'your photographs\n{share:.0%} faulty'.replace('%', ' %')),
        (sheet(asked), f'what to label first\n{n_faulty} of {len(names)} faulty'),
        (outlined(read(root / 'photos' / faulty), truth[faulty]), 'you draw the defect\n'),
        (sheet(shown), "tomorrow's photographs\ndefects found"),
    ]
    fig = Figure(figsize=(9, 2.75), layout='constrained')
    for ax, (picture, title) in zip(fig.subplots(1, 4), steps):
        ax.imshow(picture, interpolation='nearest')
        ax.set_title(title, fontsize=10)
        ax.set_axis_off()
    fig.savefig(AT / 'figures/loop.png', dpi=110, metadata=dict(Software=None))


def main():
    with tempfile.TemporaryDirectory() as room:
        root = Path(room)
        truth = {f'{i:03d}.png': photograph(root / 'photos', i) for i in range(100)}
        for i in range(100, 109):
            photograph(root / 'tomorrow', i)
        said = play(root, truth)
        draw(root, truth)
    made = provenance()
    text = json.dumps(dict(said=said, load=os.getloadavg()[0], made=made), indent=1, default=str)
    (AT / 'first_page.json').write_text(text + '\n')


if __name__ == '__main__':
    main()
