"What must stay together stays together, in the hold-out, in folds and bootstraps; every strategy that a project can serve"

import json

import numpy as np, pytest, quick
from PIL import Image

from imbal_al.core import InputError, read_json
from imbal_al.project.intake import new
from imbal_al.project.labelled import labels, write_label
from imbal_al.project.settings import group_of
from imbal_al.project.store import groups_of, open_project
from imbal_al.project.queue import as_annotations
from imbal_al.project.taken import ingest
from imbal_al.project.state import rounds, waiting
from imbal_al.project.begun import project_strategies
from imbal_al.project.rounds import check_strategy, next_round
from imbal_al.project.state import is_held_out, split_labels
from imbal_al.project.network import _measure_units, read_model, score_pool, score_units
from imbal_al.data.synthetic import image
from imbal_al.measure.threshold import prevalence_draws
from imbal_al.project.standing import where

TRUTH = {}


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    "24 images of 8 parts, three views of each; every other part is faulty"
    d = tmp_path_factory.mktemp('images')
    for part in range(8):
        for view in range(3):
            a, m = image('steel', 3 * part + view, (40, 50), faulty=part % 2 == 0)
            f = d / f'line{part//4}' / f'part{part}_view{view}.png'
            f.parent.mkdir(exist_ok=True)
            Image.fromarray(a).save(f)
            TRUTH[f'line{part//4}/{f.name}'] = m
    return d


def make(tmp, images, **kw):
    return new(
        tmp / 'p',
        images,
        **{
            **dict(
                window=32,
                overlap=0,
                steps=1,
                bs=2,
                **quick.NETWORK,
                held_out=0.5,
                seed=4,
                group_by='part[0-9]+',
            ),
            **kw,
        },
    )


def label_all(p, n=None):
    for o in p.units.id[:n]:
        r = p.row[o]
        write_label(p, o, TRUTH[r['image']][r['y'] : r['y'] + r['h'], r['x'] : r['x'] + r['w']])


def parts(p, ids):
    return {group_of(p.row[o]['image'], 'part[0-9]+') for o in ids}


@pytest.mark.parametrize('unit', ['image', 'window'])
def test_groups_are_dealt_as_a_whole(tmp_path, images, unit):
    p = make(tmp_path, images, unit=unit)
    train, test = split_labels(p, list(p.units.id))
    assert train and test and not parts(p, train) & parts(p, test)
    free = make(tmp_path / 'free', images, unit=unit, group_by='')
    a, b = split_labels(free, list(free.units.id))
    assert parts(free, a) & parts(free, b), 'without the option views of one part are dealt apart'
    assert open_project(p.dir).settings.group_by == 'part[0-9]+'


def test_without_the_option_the_draw_is_the_one_it_was(tmp_path, images):
    from imbal_al.core import stream

    p = make(tmp_path, images, group_by='', seed=2)
    assert all(
        is_held_out(p, o) == bool(stream(2, 'held out', o).random() < 0.5) for o in p.units.image
    )


def test_folds_and_bootstraps_take_groups(tmp_path, images, monkeypatch):
    from imbal_al.project import standing as m

    p = make(tmp_path, images)
    label_all(p)
    next_round(p, 0, device='cpu')
    seen = []
    real = m.operating_point
    monkeypatch.setattr(
        m,
        'operating_point',
        lambda *a, groups=None, **k: (seen.append(groups), real(*a, groups=groups, **k))[1],
    )
    where(p, 0.3, draws=20)
    ids = split_labels(p, list(p.units.id))[1]
    assert seen[0] == [group_of(p.row[o]['image'], 'part[0-9]+') for o in ids]
    w = prevalence_draws(
        np.array([TRUTH[p.row[o]['image']].any() for o in ids]), 0.3, 50, groups=groups_of(p, ids)
    )
    w = w[np.isfinite(w).all(1)]
    for g in set(seen[0]):
        at = [i for i, o in enumerate(seen[0]) if o == g]
        assert len(at) == 3 and (w[:, at] == w[:, at[:1]]).all()


def test_a_kind_of_one_group_only_is_said(tmp_path, images):
    p = make(tmp_path, images, seed=2)
    label_all(p)
    next_round(p, 0, device='cpu')
    with pytest.raises(
        InputError, match=r'all 3 held-out faulty labels are of one group \(part0\)'
    ):
        where(p, 0.3, draws=20)


def test_groups_of_single_images_are_none(tmp_path, images):
    p = make(tmp_path, images, group_by='')
    assert groups_of(p, p.units.id) is None and groups_of(p, []) is None
    q = make(tmp_path / 'q', images, group_by='', unit='window')
    assert set(groups_of(q, q.units.id)) == set(q.units.image)
    f = make(tmp_path / 'f', images, group_by='folder')
    assert set(groups_of(f, f.units.id)) == {'line0', 'line1'}


@pytest.mark.parametrize(
    'by,says',
    [
        ('(', 'no regular expression'),
        ('part', 'puts all 24 images into one group'),
        (7, 'group_by = 7'),
        (None, 'group_by = None'),
    ],
)
def test_patterns_that_cannot_work(tmp_path, images, by, says):
    with pytest.raises(InputError, match=says) as e:
        make(tmp_path, images, group_by=by)
    assert '\n' not in str(e.value) and not (tmp_path / 'p').exists()


def test_groups_are_decided_once(tmp_path, images):
    make(tmp_path, images)
    with pytest.raises(InputError, match="was made with group_by part"):
        new(tmp_path / 'p', images, group_by='folder')
    assert new(tmp_path / 'p', images).settings.group_by == 'part[0-9]+'


def test_every_strategy_that_can_be_served_makes_a_round(tmp_path, images):
    p = make(tmp_path, images, group_by='')
    label_all(p, 8)
    names = project_strategies()
    seen = set(labels(p).id)
    assert {
        'margin',
        'bald',
        'badge',
        'quota',
        'clasp',
        'entropy_foreground',
        'entropy_coreset',
        'nearest',
        'largest_alarm',
    } <= set(names) and not {'random_faulty', 'coreset_paper'} & set(names)
    for k in ('margin', 'bald', 'badge', 'quota', 'clasp', 'nearest', 'largest_alarm'):
        r = next_round(p, 2, k, 'cpu', prevalence=0.2)
        ids = {o['id'] for o in r.picks}
        assert len(ids) == 2 and not ids & seen
        seen |= ids
        t = json.loads((r.queue / 'labelstudio.json').read_text())
        (tmp_path / 'e.json').write_text(
            json.dumps(as_annotations(t, lambda o: TRUTH[p.row[o]['image']]))
        )
        ingest(p, tmp_path / 'e.json')
    assert read_json(r.folder / 'round.json')['prevalence'] == 0.2


def test_the_second_pass_is_the_mean_of_the_windows_and_kept(tmp_path, images):
    from imbal_al.networks.device import DeviceData
    from imbal_al.project.state import project_windows
    from imbal_al.networks.uncertainty import measure
    from imbal_al.networks.tiling import windows_of

    p = make(tmp_path, images, group_by='')
    label_all(p, 8)
    r = next_round(p, 0, device='cpu')
    net = read_model(p, r.folder / 'model.pt')
    ids = list(p.units.id[:5])
    got = _measure_units(p, net, ids, ('gradient',), bs=3)
    x = np.stack(windows_of(p.read(p.row[ids[1]]), project_windows(p)))
    want = measure(
        net, DeviceData(x, x[..., 0], 'cpu', p.settings.encoder, 3), np.arange(len(x)), ('gradient',)
    )['gradient'].mean(0)
    assert (
        got['gradient'].shape[0] == 5
        and len(x) > 1
        and np.allclose(got['gradient'][1], want, rtol=0.05, atol=1e-4 * np.abs(want).max() + 1e-7)
    )
    (tmp_path / 's').mkdir()
    one = score_pool(p, net, ids, tmp_path / 's', 'cpu', False)
    assert 'gradient' not in one and 'gradient' in score_pool(
        p, net, ids, tmp_path / 's', 'cpu', False, second=('gradient',)
    ), 'a file that lacks it is made again'
    assert (
        score_pool(p, None, ids, tmp_path / 's', 'cpu', False, second=('gradient',))[
            'gradient'
        ].shape
        == got['gradient'].shape
    )


def test_bald_without_dropout_is_refused_before_anything_is_trained(tmp_path, images):
    p = make(tmp_path, images, arch='unet', group_by='')
    label_all(p, 6)
    with pytest.raises(InputError, match='no dropout behind its encoder'):
        next_round(p, 2, 'bald', 'cpu')
    assert not (p.dir / 'rounds').exists()
    check_strategy(p, 'margin')


def test_a_training_between_does_not_hide_the_queue_that_is_out(tmp_path, images):
    p = make(tmp_path, images, group_by='')
    label_all(p, 8)
    one = next_round(p, 3, device='cpu')
    assert (
        next_round(p, 0, device='cpu').number == one.number
    ), 'nothing has come: there is nothing to train'
    o = next(o for o in p.units.id[8:] if o not in waiting(p))
    write_label(p, o, TRUTH[p.row[o]['image']])
    assert next_round(p, 0, device='cpu').number == 2
    again = next_round(p, 3, device='cpu')
    assert (
        not again.fresh
        and again.number == one.number
        and again.picks == one.picks
        and len(waiting(p)) == 3
        and len(rounds(p)) == 2
    )


def test_nearest_asks_for_the_units_most_like_a_labelled_faulty_one(tmp_path, images):
    "Cosines one by one, from the round's own network"
    from imbal_al.project.state import unlabelled_units

    p = make(tmp_path, images, group_by='')
    label_all(p, 8)
    pool, t = unlabelled_units(p)[0], labels(p)
    trained = split_labels(p, t['id'])[0]
    faulty = [id for id in trained if t.set_index('id').faulty[id]]
    assert 0 < len(faulty) < len(trained)
    r = next_round(p, 4, 'nearest', 'cpu')
    net = read_model(p, r.folder / 'model.pt')
    seen = score_units(p, net, [*pool, *faulty], embedding=True)[0]
    e = dict(zip(seen['ids'].tolist(), seen['embedding'].astype(float)))
    cosine = lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    best = {id: max(cosine(e[id], e[find]) for find in faulty) for id in pool}
    picked = [pick['id'] for pick in r.picks if not pick['held_out']]
    assert picked == sorted(pool, key=lambda id: -best[id])[: len(picked)] and len(picked) >= 2
    assert r.picks[0]['why'].startswith('nearest, ')


def test_the_largest_alarm_is_answered_with_one_key(tmp_path, images):
    "What is picked has most pixels above 1/2; a false alarm becomes a healthy label, an empty mask"
    from imbal_al.networks.predict import network, predict
    from imbal_al.project.labelled import read_label
    from imbal_al.project.network import project_windows
    from imbal_al.project.review import Session
    from imbal_al.project.state import unlabelled_units

    p = make(tmp_path, images, group_by='')
    label_all(p, 8)
    pool = unlabelled_units(p)[0]
    r = next_round(p, 4, 'largest_alarm', 'cpu')
    run = network(read_model(p, r.folder / 'model.pt'), p.settings.encoder, 3, 'cpu')
    pixels = {}
    for id in pool:
        z, _ = next(predict(run, [p.read(p.row[id])], project_windows(p)))
        pixels[id] = int((z >= 0).sum())
    picked = [pick for pick in r.picks if not pick['held_out']]
    most = sorted(pixels.values(), reverse=True)
    assert [pixels[pick['id']] for pick in picked] == most[: len(picked)] and len(picked) >= 2
    assert picked[0]['why'] == f'largest_alarm, {most[0]} px predicted'
    session = Session(p, [picked[0]['id']])
    session.key('h')
    assert read_label(p, picked[0]['id']) and not labels(p).set_index('id').faulty[picked[0]['id']]
