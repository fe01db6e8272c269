"What costs ask for: by hand, resumable, judged fairly, and what next rounds and exports make of it"

import math

import numpy as np, pytest
from PIL import Image

from imbal_al.project import costs as m
from imbal_al.core import InputError, note, read_json, write_json
from imbal_al.project.costs import (
    _elasticity, _fair_counts, cost_target, cost_threshold, guide_costs,
)
from imbal_al.measure.metrics import BINS
from imbal_al.measure.oii import oii
from imbal_al.project.intake import new
from imbal_al.project.labelled import labels, write_label
from imbal_al.project.state import rounds
from imbal_al.measure.statistics import Interval
from imbal_al.project.state import exported_round, guided_loss, is_held_out
from imbal_al.project.rounds import next_round
from imbal_al.measure.prevalence import made_up_images
from imbal_al.runs.folder import write_record
from imbal_al.measure.threshold import cost_point, operating_curve


def test_elasticity_by_hand():
    fn = np.linspace(1, 200, BINS + 1)
    assert abs(_elasticity(1000 / fn**2, fn, 60) - 2) < 1e-9
    assert math.isnan(_elasticity(np.zeros(129), fn, 60)) and math.isnan(
        _elasticity(1 / fn, np.ones(129), 60)
    )


@pytest.mark.parametrize('misses,alarms', [(5, 1), (1, 1), (1, 3)])
def test_the_interval_holds_the_cheapest_and_the_condition_is_met(misses, alarms):
    hist, y = made_up_images(300, 600)
    t = cost_target(hist, y, 0.1, misses, alarms, draws=20)
    c = cost_point(hist, y, 0.1, misses, alarms, 20)
    assert (
        t.threshold == c.threshold
        and t.oii.mean == c.oii.mean
        and t.low <= c.oii.mean <= t.high
        and t.high - t.low >= 0.2 - 1e-9
        and not t.assumed
    )
    w = m.prevalence_draws(y, 0.1, 0)
    tp, fp, fn = operating_curve(hist, w)
    k = m.cheapest(alarms * fp[0] + misses * fn[0])
    assert abs(math.log(fp[0, k] / fn[0, k] / (misses / alarms / t.elasticity))) < 0.35


def test_only_the_ratio_of_costs_counts_and_dearer_misses_ask_for_less_oii():
    hist, y = made_up_images(60, 120)
    same = [cost_target(hist, y, 0.1, *o, draws=10) for o in ((4, 2), (2, 1))]
    assert same[0] == same[1]
    oiis = [cost_target(hist, y, 0.1, o, 1, draws=10).oii.mean for o in (0.2, 1, 5, 25)]
    assert oiis == sorted(oiis, reverse=True) and oiis[0] > oiis[-1]


def test_a_network_that_finds_nothing_names_no_interval():
    blind = np.zeros((4, 2, BINS))
    blind[:, 0, 40] = 90
    blind[:2, 1, 30] = 10
    y = np.array([1, 1, 0, 0])
    t = cost_target(blind, y, 0.1, 5, 1, draws=10)
    middle = oii(1, 5 / 6, 1 / 6)
    assert t.assumed and t.low <= middle <= t.high and abs(t.high - t.low - 0.2) < 0.021


@pytest.mark.parametrize('bad', [(0, 1), (1, -1), (math.inf, 1), (math.nan, 1)])
def test_costs_that_are_none(bad):
    hist, y = made_up_images(5, 5)
    with pytest.raises(InputError, match='two numbers above 0'):
        cost_target(hist, y, 0.1, *bad)


def test_fair_counts_judge_each_unit_by_the_others():
    hist, y = made_up_images(10, 20)
    a = _fair_counts(hist, y, 0.1, 5, 1)
    other = hist.copy()
    other[0] = np.roll(other[0], 9, -1)
    b = _fair_counts(other, y, 0.1, 5, 1)
    assert (
        a.shape == (30, 3)
        and not np.array_equal(a[0], b[0])
        and np.allclose(a.sum(1) - a[:, 1], hist[:, 1].sum(1))
    )
    tiny, one = made_up_images(1, 1)
    assert _fair_counts(tiny, one, 0.5, 1, 1).shape == (2, 3), 'too few to deal: the whole'


# Trainings are played: the logits of a training with weight w are those of made-up images, moved by 60*(w-1/2)-20 bins.


def moved(h, s):
    out = np.zeros_like(h)
    for b in range(BINS):
        out[..., min(max(b + s, 0), BINS - 1)] += h[..., b]
    return out


@pytest.fixture
def played(tmp_path, monkeypatch):
    d = tmp_path / 'i'
    d.mkdir()
    for i in range(60):
        Image.new('L', (32, 32), i).save(d / f'{i:02d}.png')
    p = new(tmp_path / 'p', d, window=32, overlap=0, weights=None, held_out=0.5, seed=1)
    for k, o in enumerate(p.units.id):
        write_label(p, o, np.full((32, 32), k % 2 == 0))
    test = [o for o in p.units.id if is_held_out(p, p.row[o]['image'])]
    y = dict(zip(p.units.id, [k % 2 == 0 for k in range(60)]))
    hist, flags = made_up_images(30, 30, seed=3)
    f, h = list(hist[flags]), list(hist[~flags])
    base = {o: (f if y[o] else h).pop() for o in test}
    log = dict(trained=[], fail=(), stop=None)

    def train(p, labelled, seed, device, loss, w):
        if w in log['fail']:
            raise FloatingPointError('it diverged')
        if len(log['trained']) == log['stop']:
            raise KeyboardInterrupt
        log['trained'].append(w)
        return w

    def hists(p, folder, ids, device='cpu'):
        if not (folder / 'model.pt').exists():
            return None
        s = round(60 * (float((folder / 'model.pt').read_text()) - 0.5)) - 20
        h = np.stack([moved(base[o], s) for o in ids])
        write_record(folder / 'heldout.npz', dict(hist=h))
        return list(ids), h

    def save(path, net):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(net))

    monkeypatch.setattr(m, 'train', train)
    monkeypatch.setattr(m, 'heldout_hist', hists)
    monkeypatch.setattr(m, 'write_model', save)
    monkeypatch.setattr(
        m, 'read_model', lambda p, path, device='cpu': path.read_text() if path.exists() else None
    )
    return p, log


def own(p, w):
    "A round that a network with the project's own loss has"
    t = labels(p)
    test = [o for o in t.id if is_held_out(p, p.row[o]['image'])]
    f = p.dir / 'rounds/001'
    write_json(
        f / 'round.json',
        dict(
            number=1,
            budget=0,
            strategy='entropy',
            cold=False,
            train=[[o, 1] for o in t.id if o not in set(test)],
            test=[[o, 1] for o in test],
        ),
    )
    (f / 'model.pt').write_text(str(w))
    write_json(f / 'queue.json', dict(picks=[]))
    write_json(f / 'queue/done.json', dict(picks=[]))


def test_a_target_is_reached_and_written(played):
    p, log = played
    g = guide_costs(p, 5, 1, prevalence=0.2, target=(-0.75, -0.35), draws=40)
    assert (
        g.search.stop == 'inside'
        and log['trained'][0] == 0.5
        and len(log['trained']) == g.search.trainings
        and g.kept == 'weight'
        and -0.75 <= g.search.best.oii <= -0.35
    )
    q = read_json(p.dir / 'guide.json')
    assert (q['fn_weight'], q['loss'], q['threshold'], q['misses_cost'], q['prevalence']) == (
        g.fn_weight,
        'dibe',
        g.point.threshold,
        5,
        0.2,
    ) and guided_loss(p) == dict(loss='dibe', fn_weight=g.fn_weight)
    r = read_json(rounds(p)[-1] / 'round.json')
    assert (
        g.round == 1 == len(rounds(p))
        and r['fn_weight'] == g.fn_weight
        and r['budget'] == 0
        and (rounds(p)[0] / 'model.pt').read_text() == str(g.fn_weight)
        and (rounds(p)[0] / 'queue/done.json').exists()
    )
    assert (
        cost_threshold(p, rounds(p)[-1])[0] == g.point.threshold
        and cost_threshold(p, rounds(p)[-1], 0.9)[0] <= g.point.threshold
    )


def test_without_a_target_the_costs_name_it(played):
    p, _ = played
    dear, cheap = (guide_costs(p, *o, prevalence=0.2, draws=40) for o in ((8, 1), (1, 8)))
    assert (
        dear.target.high < cheap.target.low
        and not dear.own
        and dear.point.threshold < cheap.point.threshold
        and 'ask for an OII of' in str(dear)
        and 'How sure: ' in str(dear)
    )


@pytest.mark.parametrize('stop', [0, 1, 2])
def test_stopped_and_given_again_nothing_is_trained_twice(played, stop):
    p, log = played
    log['stop'] = stop
    go = lambda: guide_costs(p, 5, 1, prevalence=0.2, target=(-0.99, -0.9), draws=20)
    with pytest.raises(KeyboardInterrupt):
        go()
    assert not (p.dir / 'guide.json').exists() and rounds(p) == []
    log['stop'] = None
    g = go()
    assert len(log['trained']) == len(set(log['trained'])) == g.search.trainings >= 2
    n = len(log['trained'])
    again = go()
    assert len(log['trained']) == n and str(again) == str(g) and len(rounds(p)) == 1


def test_other_costs_train_nothing_that_is_there_but_new_labels_do(played):
    p, log = played
    guide_costs(p, 5, 1, prevalence=0.2, draws=20)
    guide_costs(p, 1, 5, prevalence=0.05, draws=20)
    assert len(log['trained']) == len(set(log['trained']))
    id = next(o for o in p.units.id if not is_held_out(p, p.row[o]['image']))
    write_label(p, id, np.eye(32))
    n = len(log['trained'])
    guide_costs(p, 5, 1, prevalence=0.2, draws=20)
    assert log['trained'][n] == 0.5


def test_a_network_clearly_better_keeps_its_weight_and_gets_the_threshold(played, monkeypatch):
    p, log = played
    own(p, 0.5)
    real = m.heldout_hist

    def noisy(p, folder, ids, device='cpu'):
        o = real(p, folder, ids, device)
        return (
            o
            if o is None or 'guide' not in folder.parts
            else (o[0], np.stack([h[::-1] if h[1].any() else h for h in o[1]]))
        )

    monkeypatch.setattr(m, 'heldout_hist', noisy)
    g = guide_costs(p, 5, 1, prevalence=0.5, draws=60)
    assert (
        g.kept == 'threshold'
        and g.fn_weight is None
        and g.change.low > 0
        and 'only the threshold kept' in str(g)
        and len(rounds(p)) == 1
        and guided_loss(p) == {}
    )
    assert cost_threshold(p, rounds(p)[-1])[0] == g.point.threshold


def test_beside_the_projects_own_network_the_same_one_is_no_gain(played):
    p, _ = played
    own(p, 0.5)
    g = guide_costs(p, 5, 1, prevalence=0.2, target=(-1, 1), draws=40)
    assert (
        g.fn_weight == 0.5
        and (g.change.mean, g.change.low, g.change.high) == (0, 0, 0)
        and 'which may be no gain at all' in str(g)
        and g.round == 2
    )


def test_failed_trainings_are_remembered(played):
    p, log = played
    log['fail'] = (0.5,)
    g = guide_costs(p, 5, 1, prevalence=0.2, target=(-0.9, 0.9), draws=20)
    assert g.fn_weight != 0.5 and 'it diverged' in str(g)
    log['fail'] = (0.1, 0.3, 0.5, 0.7, 0.9)
    id = next(o for o in p.units.id if not is_held_out(p, p.row[o]['image']))
    write_label(p, id, np.eye(32))
    with pytest.raises(InputError, match='diverge'):
        guide_costs(p, 5, 1, prevalence=0.2, draws=20)


def test_killed_while_the_round_is_written(played, monkeypatch):
    p, log = played
    real = m.write_queue
    monkeypatch.setattr(m, 'write_queue', lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        guide_costs(p, 5, 1, prevalence=0.2, draws=20)
    monkeypatch.setattr(m, 'write_queue', real)
    g = guide_costs(p, 5, 1, prevalence=0.2, draws=20)
    assert g.round == 1 == len(rounds(p)) and (rounds(p)[0] / 'queue/done.json').exists()


def test_the_prevalence_is_that_of_the_held_out_labels_by_default(played):
    p, _ = played
    t = labels(p)
    g = guide_costs(p, 5, 1, draws=20)
    test = t[[is_held_out(p, p.row[o]['image']) for o in t.id]]
    assert (
        not g.given
        and abs(g.prevalence - test.faulty.mean()) < 1e-12
        and 'as in the held-out labels' in str(g)
    )


def test_a_guidance_is_adopted_when_shown_or_asked_and_is_taken_back(played, monkeypatch):
    p, log = played
    own(p, 0.5)
    same = dict(prevalence=0.2, draws=40, candidates=1)
    kept = guide_costs(p, 5, 1, accept=False, **same)
    assert not kept.shown and not kept.adopted and 'It is not adopted' in str(kept)
    assert not (p.dir / 'guide.json').exists() and len(rounds(p)) == 1
    asked = guide_costs(p, 5, 1, **same)
    assert asked.adopted and 'not adopted' not in str(asked) and guided_loss(p)
    guided = exported_round(p)[1]['number']
    assert guided == 2
    first = read_json(p.dir / 'guide.json')
    guide_costs(p, 1, 5, **same)
    assert m.undo_guide(p) == first['account']
    assert read_json(p.dir / 'guide.json')['misses_cost'] == 5
    assert m.undo_guide(p) == 'no guidance' and guided_loss(p) == {}
    assert exported_round(p)[1]['number'] == 1, 'the network before is exported again'
    with pytest.raises(InputError, match='nothing to take back'):
        m.undo_guide(p)
    better = m.replace(asked, change=Interval(-2.0, -3.0, -1.0, 30))
    worse = m.replace(asked, change=Interval(-2.0, -5.0, 1.0, 30))
    assert better.shown and not worse.shown
    alone = m.replace(asked, change=None, saved=Interval(-2.0, -3.0, -1.0, 30))
    assert alone.shown and not m.replace(alone, saved=Interval(-1.0, -3.0, 1.0, 30)).shown


def test_lost_files_are_made_again(played):
    p, log = played
    guide_costs(p, 5, 1, prevalence=0.2, draws=20)
    at = next((p.dir / 'guide').glob('*/0.5'))
    (at / 'model.pt').unlink()
    n = len(log['trained'])
    guide_costs(p, 5, 1, prevalence=0.2, draws=20)
    assert log['trained'][n:] == [0.5]
    note.cache_clear()
    (p.dir / 'guide.json').write_text('{')
    for ask in (lambda: guided_loss(p), lambda: cost_threshold(p, rounds(p)[-1])):
        with pytest.raises(InputError, match='guide.json is damaged'):
            ask()
    guide_costs(p, 5, 1, prevalence=0.2, draws=20)
    assert guided_loss(p) and cost_threshold(p, rounds(p)[-1]), 'the told command mends it'
    (p.dir / 'guide.json').unlink()
    assert guided_loss(p) == {} and cost_threshold(p, rounds(p)[-1]) is None


@pytest.mark.parametrize(
    'kw,says',
    [
        (dict(misses=0), 'two numbers above 0'),
        (dict(loss='focal'), 'unknown loss'),
        (dict(loss='magic'), 'unknown loss'),
        (dict(prevalence=0), 'prevalence 0'),
        (dict(prevalence=1.5), 'prevalence 1.5'),
        (dict(candidates=0), '0 candidates'),
        (dict(target=(0.3, 0.1)), 'reversed'),
        (dict(target='x'), 'no interval'),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(played, kw, says):
    p, log = played
    with pytest.raises(InputError, match=says) as e:
        guide_costs(p, **{**dict(misses=5, alarms=1), **kw})
    assert (
        '\n' not in str(e.value)
        and not (p.dir / 'guide').exists()
        and not (p.dir / 'guide.json').exists()
        and not log['trained']
    )


def test_labels_that_are_missing_and_a_round_that_is_open(played, tmp_path):
    p, _ = played
    q = new(tmp_path / 'q', p.images, window=32, overlap=0, held_out=0.5, seed=1)
    with pytest.raises(InputError, match='no labelled defect'):
        guide_costs(q, 5, 1)
    for o in q.units.id:
        write_label(q, o, np.ones((32, 32)))
    with pytest.raises(InputError, match='none of them healthy'):
        guide_costs(q, 5, 1)
    own(p, 0.5)
    (p.dir / 'rounds/001/queue/done.json').unlink()
    with pytest.raises(InputError, match='was interrupted'):
        guide_costs(p, 5, 1)


def test_the_next_round_is_trained_with_the_weight(played, monkeypatch):
    from imbal_al.project import rounds as r

    p, _ = played
    g = guide_costs(p, 5, 1, prevalence=0.2, draws=20)
    seen = []

    def only_seen(p, labelled, seed, device, loss, fn_weight, progress):
        seen.append((loss, fn_weight))
        raise InputError('enough')

    monkeypatch.setattr(r, 'train', only_seen)
    with pytest.raises(InputError, match='enough'):
        next_round(p, 0, device='cpu')
    assert (
        seen == [('dibe', g.fn_weight)]
        and read_json(rounds(p)[-1] / 'round.json')['fn_weight'] == g.fn_weight
    )


def test_a_threshold_that_does_not_pay_is_called_that(played):
    from dataclasses import replace

    p, _ = played
    g = guide_costs(p, 5, 1, prevalence=0.2, draws=20)
    told = 'no cheaper than 0.5'
    assert told in str(replace(g, half=g.cost.mean)) and told not in str(
        replace(g, half=g.cost.mean + 1)
    )
