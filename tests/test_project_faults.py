"The short form of the campaign of kills (`make project-faults` is the long one), and that it sees what it looks for"

import json

import numpy as np, pandas as pd, pytest

from imbal_al.project.labelled import labels, write_label
from imbal_al.project.store import open_project
from imbal_al.dev.project_faults import (
    _all_kills,
    _asked_twice,
    _Campaign,
    _different,
    _lost,
    _play,
    _play_served,
    _twice,
    table,
)


@pytest.fixture(scope='module')
def c(tmp_path_factory):
    return _Campaign(tmp_path_factory.mktemp('c'), export=False, images=12)


def test_killed_and_given_again_nothing_is_lost_or_labelled_twice(c):
    t = pd.DataFrame([vars(o) for o in _all_kills(c, 6, 1)])
    bad = t[(t.outcome != 'survived') | (t.twice > 0)]
    assert len(bad) == 0, bad.to_string()
    assert (
        t.kills.sum() >= 6
        and set(table(t).columns) == {'command', 'tries', 'kills', 'survived', 'lost', 'twice'}
        and table(t).survived.sum() == len(t)
    )


def test_a_loss_would_be_seen(c):
    import shutil

    step = next(s for s in c.steps if s.name == 'ingest')
    f = c.base / 'seen'
    shutil.copytree(c.base / 'before' / 'next', f)
    assert _different(c, step, f) == []
    p = open_project(f / 'p')
    id = labels(p)['id'][0]
    assert _twice(f) == 0
    write_label(p, id, np.ones((32, 40)))
    assert _twice(f) == 1 and any(id in o for o in _different(c, step, f))
    shutil.rmtree(f)
    shutil.copytree(c.base / 'before' / 'next', f)
    (f / 'p/labels' / f'{id}.json').unlink()
    assert _different(c, step, f) == [f'p/labels/{id}.json']
    shutil.rmtree(f)
    shutil.copytree(c.base / 'before' / 'next', f)
    q = f / 'p/rounds/001/queue.json'
    d = json.loads(q.read_text())
    q.write_text(json.dumps({**d, 'x': 1}))
    assert any('queue.json' in o for o in _different(c, step, f))


def test_a_command_that_fails_counts_as_lost(c, monkeypatch):
    from dataclasses import replace

    step = next(s for s in c.steps if s.name == 'where')
    t = _play(c, replace(step, args=(*step.args[:2], '--prevalence', '7')), 0, 1)
    assert 'exit code 2' in t.outcome and table(pd.DataFrame([vars(t)])).lost.sum() == 1


@pytest.mark.slow
def test_a_server_that_is_killed_while_somebody_labels_loses_nothing(c, monkeypatch):
    monkeypatch.setitem(c.seconds, 'serve', 10)
    row = _play_served(c, 0, most=2)
    assert row.kills >= 1 and not row.bad, row


@pytest.fixture
def served(c, tmp_path):
    "(folder of a try, its tasks as Label Studio keeps them, each labelled)"
    import shutil

    folder = shutil.copytree(c.base / 'before' / 'next', tmp_path / 'try')
    return folder, json.loads((folder / 'export.json').read_text())


def test_a_label_that_a_server_lost_would_be_seen(served):
    folder, tasks = served
    assert len(tasks) == 8 and _lost(folder, tasks) == [] and _asked_twice(tasks) == 0
    id = tasks[0]['data']['id']
    assert _asked_twice([*tasks, tasks[0]]) == 1
    assert _lost(folder, tasks[1:]) == [f'task {id}']
    write_label(open_project(folder / 'p'), id, np.ones((32, 40)))
    assert _lost(folder, tasks) == [f'label {id}'] and _twice(folder) == 1
    (folder / 'p/labels' / f'{id}.json').unlink()
    assert _lost(folder, tasks) == [f'label {id}']
    (folder / 'log').write_text('p/labels/x.json is damaged\n')
    assert _lost(folder, [{**tasks[0], 'annotations': []}, *tasks[1:]]) == ['damaged']


def test_a_server_that_does_not_start_counts_as_lost(c, monkeypatch):
    "It ends by itself, with an exit code"
    monkeypatch.setattr('imbal_al.dev.project_faults._EVERY', 0)
    row = _play_served(c, 0, most=0)
    assert 'exit code 2' in row.outcome and row.bad
