"""Every notebook is one pytest item, run by nbdev's own runner in a process that ends with it; `NB_FLAGS='slow cuda'` runs
the flagged cells too"""

import faulthandler, os, sys
import pytest
from nbdev.config import get_config
from nbdev.doclinks import nbglob
from nbdev.test import test_nb as run_nb

import quick

cfg = get_config()
notebooks = sorted(nbglob(cfg.nbs_path, as_path=True))
force = os.environ.get('NB_FLAGS', '').split()
LONGEST = 60.0 * (10 if force else 5)  # Seconds after which a notebook is ended; it then says where it was


def run_there(notebook, log, longest, surroundings):
    "In a process of its own: run a notebook, write what it prints into `log`; the exit status says how it went"
    os.environ.clear()
    os.environ.update(surroundings)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.stdout = sys.__stdout__ = open(1, 'w', closefd=False)
    sys.stderr = sys.__stderr__ = open(2, 'w', closefd=False)
    quick.commands_once()
    quick.networks_once()
    quick.same_server()
    quick.workers_forked()
    faulthandler.dump_traceback_later(longest, exit=True, file=sys.stderr)
    ok, _ = run_nb(
        notebook,
        skip_flags=cfg.tst_flags.split(),
        force_flags=force,
        basepath=cfg.config_path,
    )
    faulthandler.cancel_dump_traceback_later()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0 if ok else 1)


def outcome(notebook, log, longest=LONGEST):
    "Did it run to its end, and what did it print?"
    told = notebook.absolute(), log, longest, dict(os.environ)
    process = quick.PROCESSES.Process(target=run_there, args=told)
    process.start()
    process.join()
    return process.exitcode == 0, log.read_text(errors='replace')


@pytest.mark.parametrize(
    'notebook', notebooks, ids=[str(p.relative_to(cfg.nbs_path).with_suffix('')) for p in notebooks]
)
def test_notebook(notebook, tmp_path):
    ok, printed = outcome(notebook, tmp_path / 'printed.txt')
    assert ok, f'{notebook} failed:\n{printed[-6000:]}'


def written(folder, *sources):
    "A notebook with these cells"
    import nbformat

    path = folder / 'made_up.ipynb'
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_a_failing_notebook_fails_and_says_where(tmp_path):
    ok, printed = outcome(written(tmp_path, 'a = 1', 'assert a == 2'), tmp_path / 'printed.txt')
    assert not ok and 'assert a == 2' in printed


def test_a_notebook_that_hangs_is_ended_and_says_where(tmp_path):
    path = written(tmp_path, 'import time\ndef wait_for_ever():\n    while True: time.sleep(.1)', 'wait_for_ever()')
    ok, printed = outcome(path, tmp_path / 'printed.txt', longest=2.0)
    assert not ok and 'wait_for_ever' in printed
