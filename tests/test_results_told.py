"data/README.md tells where every table of data/results is from; what it says of one table by another is so"

import csv, json, re, tarfile
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd

from imbal_al.dev.rehearsal import Loop
from imbal_al.results.remedies import label_baseline

ROOT = Path(__file__).resolve().parents[1]
TOLD = (ROOT / 'data' / 'README.md').read_text()
RESULTS = ROOT / 'data' / 'results'


def commands():
    "Rows of the table of commands: (names, command, shown in, commit, hardware)"
    lines = TOLD.split('## A command for each table')[1].split('\n## ')[0].splitlines()
    rows = [[cell.strip() for cell in re.split(r'(?<!\\)\|', line)[1:-1]] for line in lines if line[:1] == '|']
    assert all(len(row) == 5 for row in rows)
    return rows[2:]


def test_every_table_has_a_command():
    named = ' '.join(row[0] for row in commands())
    files = [path.name for path in RESULTS.iterdir() if path.is_file()]
    lacks = [name for name in files if name.endswith(('.csv', '.csv.gz', '.txt')) and name not in named]
    assert not lacks
    for name in re.findall(r'`([a-z_]+\.(?:csv|json|txt))`', named):
        assert (RESULTS / name).is_file(), name


def test_every_row_says_command_commit_and_hardware():
    for row in commands():
        assert all(row), row


def test_notebooks_that_are_named_are_there():
    there = {path.name.split('_')[0].split('.')[0] for path in (ROOT / 'nbs').glob('*.ipynb')}
    there |= {f"dev/{path.name.split('_')[0]}" for path in (ROOT / 'nbs' / 'dev').glob('*.ipynb')}
    for row in commands():
        for name in re.findall(r'`([^`]+)`', row[2]):
            assert name in there, name
    for name in re.findall(r'[Nn]otebook `([^`]+)`', TOLD):
        assert name in there or (ROOT / 'nbs' / f'{name}.ipynb').is_file(), name


def test_no_table_is_broken_by_a_blank_line():
    lines = TOLD.splitlines()
    for before, blank, after in zip(lines, lines[1:], lines[2:]):
        assert not (before[:1] == '|' and not blank and after[:1] == '|'), after[:60]


def test_tables_have_a_commit_and_a_seed_or_say_where():
    for row in commands():
        for name in re.findall(r'`([a-z_]+\.csv)`', row[0]):
            with open(RESULTS / name, newline='') as file:
                head = next(csv.reader(file))
            if row[3] == 'in':
                assert 'commit' in head and ('seed' in head or 'config' in head), name


def test_processors_are_the_two_tables_beside_each_other():
    both = pd.read_csv(RESULTS / 'both_ends_processors.csv')
    ends = pd.read_csv(RESULTS / 'both_ends.csv')
    shifted = ends[np.isclose(ends.pi_t, 0.05)].drop_duplicates(['config', 'cycle'])
    card = shifted.set_index(['config', 'cycle']).f1_heldout
    keys = list(zip(both.config, both.cycle))
    np.testing.assert_array_equal(card[keys].to_numpy(), both.f1_cuda)
    study = pd.read_csv(RESULTS / 'active_learning.csv')
    study = study[np.isclose(study.pi_t, 0.05)].set_index(['config', 'cycle']).f1_heldout
    cpu = study.reindex(keys).to_numpy()
    assert np.isfinite(cpu).sum() == 270
    same = np.isfinite(cpu) & (both.commit_cpu == '783559d6fa').to_numpy()
    assert same.any()
    np.testing.assert_allclose(cpu[same], both.f1_cpu[same], atol=6e-6)


def test_every_loop_is_made_again_by_its_entry():
    loops = json.loads((RESULTS / 'loop_origin.json').read_text())['loops']
    known = {field.name for field in fields(Loop)}
    made = [Loop(**{key: value for key, value in each.items() if key in known}) for each in loops.values()]
    assert [loop.name for loop in made] == list(loops) and len(loops) == 18
    keys = set(pd.read_csv(RESULTS / 'loop.csv').config)
    assert keys == {loop.key for loop in made}


def test_labels_or_a_threshold_are_what_the_archived_runs_say(tmp_path):
    with tarfile.open(RESULTS / 'runs' / 'potato_leaf-pool100.tar.xz') as archive:
        archive.extractall(tmp_path, filter='data')
    made = label_baseline(tmp_path / 'al')
    kept = pd.read_csv(RESULTS / 'threshold_labels.csv')
    kept = kept[kept.config.isin(set(made.config))].reset_index(drop=True)
    assert len(kept) == len(made) == 15
    pd.testing.assert_frame_equal(kept, made, check_dtype=False, rtol=1e-5)
    last = made[made.cycle == 5].set_index('config').raw
    study = pd.read_csv(RESULTS / 'active_learning.csv')
    study = study[(study.cycle == 5) & np.isclose(study.pi_t, 0.05)].set_index('config').f1_heldout
    np.testing.assert_allclose(last, study[last.index], atol=1e-9)
