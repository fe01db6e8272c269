"""Run every notebook by itself, or those named, and print how long each took

A notebook of more than LIMIT seconds is marked. `nbs/tutorials` has two minutes on two cores,
everything else one minute on one.
"""

import os, sys, time

os.environ.setdefault('OMP_NUM_THREADS', '1')
from nbdev.config import get_config
from nbdev.doclinks import nbglob
from nbdev.test import test_nb

LIMIT = dict(tutorials=120)


def row(path, cfg):
    "Name, seconds, processor seconds of this process, and what is to be said"
    name = str(path.relative_to(cfg.nbs_path).with_suffix(''))
    wall, cpu = time.perf_counter(), time.process_time()
    ok, _ = test_nb(path.absolute(), skip_flags=cfg.tst_flags.split(), basepath=cfg.config_path)
    took = time.perf_counter() - wall
    return (
        name,
        took,
        time.process_time() - cpu,
        'failed' if not ok else 'too long' if took > LIMIT.get(path.parent.name, 60) else '',
    )


def main(words):
    cfg = get_config()
    paths = [
        p
        for p in sorted(nbglob(cfg.nbs_path, as_path=True))
        if not words or any(w in str(p) for w in words)
    ]
    print(
        f'{"notebook":34} seconds  processor  ({os.getloadavg()[0]:.1f} others at work when this began)'
    )
    rows = []
    for p in paths:
        rows.append(row(p, cfg))
        name, wall, cpu, said = rows[-1]
        print(f'{name:34} {wall:7.1f} {cpu:10.1f}  {said}', flush=True)
    print(f'{"together":34} {sum(r[1] for r in rows):7.1f} {sum(r[2] for r in rows):10.1f}')
    if any(r[3] == 'failed' for r in rows):
        sys.exit(1)


if __name__ == '__main__':
    main(sys.argv[1:])
