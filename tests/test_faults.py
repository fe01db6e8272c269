"The short form of the fault campaign (`make faults` is the long one), and that a campaign sees what it looks for"

from pathlib import Path

import numpy as np, pandas as pd, pytest, quick

from imbal_al.core import write_json
from imbal_al.dev.campaign import append
from imbal_al.dev.faults import (
    _campaign_figure,
    _damage,
    _differences,
    _FILES,
    _halves,
    _outcome,
    _repeated,
    _stamps,
    _Try,
    _where,
    _World,
    campaign_table,
)
from imbal_al.runs.folder import write_record


def test_short_campaign(tmp_path):
    "Kills, Ctrl-C, damage, full disks, the clock, two drivers, no memory: all survive, nothing is trained twice"
    code = 'from imbal_al.dev.faults import main; main()'
    campaign = quick.Program('-c', code, '--short', '--out', tmp_path / 'faults.csv')
    said, errors = campaign.communicate(timeout=1200)
    t = pd.read_csv(tmp_path / 'faults.csv', keep_default_na=False)
    bad = t[(t.outcome != 'survived') | (t.repeated > 0)]
    assert campaign.poll() == 0 and len(bad) == 0, said + errors[-2000:]
    assert (
        set(t.kind)
        >= {'kill -9', 'truncated', 'flipped', 'disk full', 'clock', 'two drivers', 'out of memory'}
        and len(t) >= 15
    )
    noticed = t[
        (t.kind == 'truncated') & ~t.target.str.endswith('final.npz')
    ]  # before the run is finished, nobody reads that file
    assert (
        all(o.target.split(': ')[1] in o.message for o in noticed.itertuples())
        and t[t.kind == 'disk full'].message.str.contains('cannot write').all()
    )


@pytest.fixture
def study(tmp_path):
    d = tmp_path / 'study' / 'runs' / 'x'
    d.mkdir(parents=True)
    write_record(d / 'cycle_01.npz', dict(a=np.arange(50), seconds=np.ones(1)))
    write_json(d / 'result.json', dict(rows=[dict(f1=0.5, commit='a')], seconds=3))
    (tmp_path / 'study' / 'results.csv').write_text('f1,commit\n0.5,a\n')
    return tmp_path


def test_a_difference_is_seen(study):
    "In a table, a result, a record; a left-over; not in the commit or the seconds"
    want = _outcome(study)
    d = study / 'study' / 'runs' / 'x'
    assert _differences(study, want) == []
    write_json(d / 'result.json', dict(rows=[dict(f1=0.5, commit='b')], seconds=4))
    write_record(d / 'cycle_01.npz', dict(a=np.arange(50), seconds=np.zeros(1)))
    (study / 'study' / 'results.csv').write_text('f1,commit\n0.5,b\n')
    assert _differences(study, want) == []
    (study / 'study' / 'results.csv').write_text('f1,commit\n0.6,b\n')
    write_record(d / 'cycle_01.npz', dict(a=np.arange(51), seconds=np.zeros(1)))
    (d / '.x.tmp').write_text('')
    assert _differences(study, want) == ['results.csv', 'runs/x/cycle_01.npz', '.x.tmp']


@pytest.mark.parametrize('how', ['truncated', 'flipped'])
def test_half_a_file_is_seen(study, how):
    rng = np.random.default_rng(0)
    assert _halves(study) == []
    f = _where(study, 'result.json', rng)
    _damage(f, how, rng)
    assert _halves(study) == ['study/runs/x/result.json']


def test_repeated_work_is_seen(study):
    w = _World('al', [], None, 'runs/*/cycle_*.npz')
    before = _stamps(w, study)
    assert len(before) == 1 and _repeated(w, study, before) == 0
    write_record(
        study / 'study' / 'runs' / 'x' / 'cycle_01.npz', dict(a=np.arange(50), seconds=np.ones(1))
    )
    assert _repeated(w, study, before) == 1 and _repeated(w, study, before, list(before)) == 0


def test_table_and_figure(tmp_path):
    for o in (
        _Try('kill -9', 'al', 0, 'survived'),
        _Try('kill -9', 'al', 1, 'lost: x', 2),
        _Try('flipped', 'al: a', 0, 'not tried: no such file'),
    ):
        append(tmp_path / 'd' / 'f.csv', o)
    t = pd.read_csv(tmp_path / 'd' / 'f.csv')
    assert list(t) == [
        'kind',
        'target',
        'seed',
        'outcome',
        'repeated',
        'message',
        'commit',
    ] and campaign_table(t).values.tolist() == [['kill -9', 2, 1, 1, 2]]
    assert _campaign_figure(t).get_size_inches()[0] <= 6


def test_the_campaign_on_record():
    "What is in data/results: more than a hundred kills, every kind of file, nothing lost"
    path = Path(__file__).parent.parent / 'data' / 'results' / 'faults.csv'
    if not path.exists():
        pytest.skip('no campaign on record yet; `make faults`')
    t = pd.read_csv(path, keep_default_na=False)
    c = campaign_table(t).set_index('kind')
    assert (c.survived == c.tries).all() and (c.repeated == 0).all()
    if len(t) > 200:
        files = {f'{k}: {o}' for k in _FILES for o in _FILES[k]}
        assert c.tries['kill -9'] >= 100 and files <= set(t.target)
