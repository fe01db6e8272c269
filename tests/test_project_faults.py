"The short form of the campaign of kills (`make project-faults` is the long one), and that it sees what it looks for"

import json

import numpy as np, pandas as pd, pytest

from imbal_al.project.store import labels, open_project, write_label
from imbal_al.dev.project_faults import _all_kills, _Campaign, _different, _play, _twice, table


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
