"Every notebook is one pytest item, run by nbdev's own runner; `NB_FLAGS='slow cuda'` runs the flagged cells too"

import os
import pytest
from nbdev.config import get_config
from nbdev.doclinks import nbglob
from nbdev.test import test_nb as run_nb

cfg = get_config()
notebooks = sorted(nbglob(cfg.nbs_path, as_path=True))
force = os.environ.get('NB_FLAGS', '').split()


@pytest.mark.parametrize(
    'notebook', notebooks, ids=[str(p.relative_to(cfg.nbs_path).with_suffix('')) for p in notebooks]
)
def test_notebook(notebook):
    ok, _ = run_nb(
        notebook.absolute(),
        skip_flags=cfg.tst_flags.split(),
        force_flags=force,
        basepath=cfg.config_path,
    )
    assert ok, f'{notebook} failed; its traceback is above'
