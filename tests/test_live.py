"The live loop: what is sent, kept, answered and shown; killed and started again"

import base64
import io
import json
import socket
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import quick
import torch
from PIL import Image
from starlette.testclient import TestClient

from imbal_al.core import InputError
from imbal_al.live import inbox, server, studio
from imbal_al.live.answers import Answers, answer_tasks
from imbal_al.live.trainer import Plan, Trainer
from imbal_al.live.view import alarms, page_view, slow_view
from imbal_al.measure.image_level import caught_and_flagged
from imbal_al.measure.metrics import threshold_bin
from imbal_al.measure.parts import AREAS
from imbal_al.project import rounds as rounds_room
from imbal_al.project.annotations import decode_brush
from imbal_al.project.intake import drop, new
from imbal_al.project.labelled import labels, read_label, read_mask, write_label
from imbal_al.project.heldout_records import heldout_parts
from imbal_al.project.queue import as_annotations
from imbal_al.project.state import (
    is_held_out,
    read_picks,
    read_verdict,
    rounds,
    rounds_with_model,
    split_labels,
    waiting,
)
from imbal_al.project.store import open_project
from imbal_al.project.taken import ingest
from imbal_al.runs.lock import held
from small import leaves_project, square_project

TOKEN = 'a-secret-of-sixteen-or-more'


@pytest.fixture
def parts(tmp_path):
    "(project of 24 leaves, id -> mask)"
    return leaves_project(tmp_path, 24, 32, steps=2, held_out=0.4)


def event(p, id, mask, number):
    "What Label Studio sends for a saved annotation"
    task = dict(id=number, data=dict(id=id, project=p.id, name=p.row[id]['name']))
    made = as_annotations([task], lambda _: mask)[0]['annotations'][0]
    return dict(action='ANNOTATION_CREATED', task=task, annotation=dict(made, id=number, task=number))


def client(live):
    return TestClient(server.make_app(live), base_url='http://127.0.0.1')


def test_an_annotation_is_on_disk_before_it_is_answered(parts, monkeypatch):
    "The server dies between its answer and the ingestion; the next one takes the label"
    p, truth = parts
    id = p.units['id'][0]
    monkeypatch.setattr(server, '_take', lambda live: None)
    assert client(server.make_live(p.dir)).post('/webhook', json=event(p, id, truth(id), 7)).json() == dict(kept=1)
    assert len(labels(p)) == 0 and (p.dir / 'live/inbox/7.json').exists()
    again = server.make_live(p.dir)
    server._before(again, p)
    assert (read_mask(p, id) == truth(id)).all() and not list((p.dir / 'live/inbox').iterdir())
    server._before(again, p)
    assert labels(p)["version"].nunique() == 1 and len(labels(p)) == 1


@pytest.mark.parametrize('task', [[3], dict(id=3), True, -1, None, '7'])
def test_an_event_with_an_odd_number_tells_of_nothing(parts, task):
    p, truth = parts
    id = p.units['id'][0]
    sent = event(p, id, truth(id), 7)
    for odd in (dict(sent, annotation=dict(sent['annotation'], task=task)), dict(sent, task=dict(sent['task'], id=task))):
        assert client(server.make_live(p.dir)).post('/webhook', json=odd).json() == dict(kept=0)


def test_a_copy_in_the_inbox_holds_nothing_up(parts):
    p, truth = parts
    id = p.units['id'][0]
    (p.dir / 'live/inbox').mkdir(parents=True)
    (p.dir / 'live/inbox/7 (copy).json').write_text('[]')
    live = server.make_live(p.dir)
    client(live).post('/webhook', json=event(p, id, truth(id), 7))
    assert (read_mask(p, id) == truth(id)).all()


def test_an_annotation_that_cannot_be_taken_now_waits(parts, monkeypatch):
    "The project is held by another command, a label beside it is damaged, the images are gone: it is tried again"
    p, truth = parts
    a, b = p.units['id'][:2]
    live = server.make_live(p.dir)
    one, inbox_at = client(live), p.dir / 'live/inbox/7.json'
    with monkeypatch.context() as m:
        m.setattr(inbox, 'ingest', lambda *a, **kw: (_ for _ in ()).throw(InputError('lock.json is held')))
        assert one.post('/webhook', json=event(p, a, truth(a), 7)).json() == dict(kept=1)
    assert len(labels(p)) == 0 and inbox_at.exists() and 'lock.json is held' in live.lines[-1]
    server._take(live)
    assert (read_mask(p, a) == truth(a)).all() and not inbox_at.exists()
    path = p.dir / f'labels/{a}.json'
    whole = path.read_bytes()
    path.write_bytes(whole[:9])
    for number, id in ((7, a), (8, b)):
        one.post('/webhook', json=event(p, id, truth(id) * 0, number))
    assert inbox_at.exists() and 'is damaged' in live.lines[-1]
    path.write_bytes(whole)
    p.images.rename(p.images.with_name('unplugged'))
    server._take(live)
    assert inbox_at.exists() and not (p.dir / f'labels/{b}.json').exists()
    p.images.with_name('unplugged').rename(p.images)
    server._take(live)
    assert set(labels(p)['id']) == {a, b} and not list(inbox_at.parent.iterdir())
    assert not read_mask(p, a).any() and not read_mask(p, b).any()


def test_one_that_is_never_understood_takes_no_other_with_it(parts):
    p, truth = parts
    id = p.units['id'][0]
    live = server.make_live(p.dir)
    bad = dict(event(p, id, truth(id), 1), task=dict(id=1))
    for sent in (bad, event(p, id, truth(id), 2)):
        inbox.keep_event(p, sent)
    server._take(live)
    assert (read_mask(p, id) == truth(id)).all() and not list((p.dir / 'live/inbox').iterdir())
    assert len(live.lines) == 1 and 'is none of' in live.lines[0]


def test_twelve_annotations_at_once(parts):
    "Two annotators and more save at the same time: every label is there, none twice"
    p, truth = parts
    ids = p.units['id'].tolist()[:12]
    one = client(server.make_live(p.dir))
    with ThreadPoolExecutor(6) as pool:
        got = list(
            pool.map(lambda at: one.post('/webhook', json=event(p, ids[at], truth(ids[at]), at + 1)), range(12))
        )
    assert all(r.json() == dict(kept=1) for r in got)
    assert set(labels(p)['id']) == set(ids) and labels(p)['version'].nunique() == 1
    assert all((read_mask(p, id) == truth(id)).all() for id in ids)


@pytest.mark.parametrize('sent', [b'', b'[]', b'{"action": "ANNOTATION_CREATED"}', b'\xff', b'{"a":' * 3000])
def test_what_is_no_event_changes_nothing(parts, sent):
    p, _ = parts
    r = client(server.make_live(p.dir)).post(
        '/webhook', content=sent, headers={'Content-Type': 'application/json'}
    )
    assert r.status_code in (200, 400) and len(labels(p)) == 0
    assert r.status_code == 400 or r.json() == dict(kept=0)


def test_only_who_has_the_token_gets_in(parts):
    p, _ = parts
    live = server.make_live(p.dir, token=TOKEN)
    there = TestClient(server.make_app(live), base_url='http://10.0.0.7:9090')
    for path in ('/', '/health', '/api/view', '/page.js', '/picture/x.png'):
        r = there.get(path)
        assert r.status_code == 401 and 'Authorization' in r.json()['error'], path
    assert there.get('/health', headers={'Authorization': f'Token {TOKEN}x'}).status_code == 401
    assert there.get('/health', headers={'Authorization': f'Token {TOKEN[:-1]}'}).status_code == 401
    for given in (f'Token {TOKEN}', f'Bearer {TOKEN}'):
        assert there.get('/health', headers={'Authorization': given}).status_code == 200
    assert there.get('/health', auth=('anybody', TOKEN)).status_code == 200
    assert there.get(f'/?token={TOKEN}').status_code == 200
    assert there.get('/api/view').status_code == 200, 'the cookie of the page'
    with pytest.raises(InputError, match='give --token'):
        server.check_access('0.0.0.0', '')


def test_a_page_of_another_site_can_do_nothing(parts):
    "By its name pointing here, or by a form"
    p, truth = parts
    live = server.make_live(p.dir)
    assert TestClient(server.make_app(live), base_url='http://rebound.example').get('/api/view').status_code == 403
    id = p.units['id'][0]
    form = json.dumps(event(p, id, truth(id), 1))
    assert client(live).post('/webhook', content=form, headers={'Content-Type': 'text/plain'}).status_code == 415
    assert len(labels(p)) == 0
    head = client(live).get('/').headers
    assert "default-src 'self'" in head['content-security-policy'] and head['x-content-type-options'] == 'nosniff'


def test_a_project_is_served_once(parts, monkeypatch):
    p, _ = parts
    monkeypatch.setattr(server.uvicorn, 'run', lambda *a, **kw: pytest.fail('served twice'))
    with held(p.dir / 'live/serve.json', 1.0):
        with pytest.raises(InputError, match='is held by process'):
            server.serve(server.make_live(p.dir))


@pytest.fixture
def trained(parts):
    "A project with a first queue labelled by hand and a network"
    p, truth = parts
    trainer = Trainer(p.dir, Plan(every=6, budget=12))
    assert trainer.look()
    for pick in read_picks(rounds(p)[0]):
        write_label(p, pick['id'], truth(pick['id']), 'a test', '')
    assert trainer.look() and len(rounds_with_model(p)) == 1
    return open_project(p.dir), truth, trainer


def test_a_training_that_is_killed_is_gone_on_with(parts, monkeypatch):
    p, truth = parts
    trainer = Trainer(p.dir, Plan(every=6, budget=12))
    trainer.look()
    first = [pick['id'] for pick in read_picks(rounds(p)[0])]
    for id in first:
        write_label(p, id, truth(id), 'a test', '')

    def killed(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(rounds_room, 'train', killed)
        with pytest.raises(KeyboardInterrupt):
            trainer.look()
    assert len(rounds(p)) == 2 and not rounds_with_model(p)
    again = Trainer(p.dir, Plan(every=6, budget=12))
    assert again.look() and not again.look()
    assert len(rounds(p)) == 2 and len(rounds_with_model(p)) == 1
    assert not set(first) & {pick['id'] for pick in read_picks(rounds(p)[1])}


def test_a_task_is_answered_as_its_queue_was_filled(trained):
    p, _, _ = trained
    queue = rounds(p)[1] / 'queue'
    tasks = json.loads((queue / 'labelstudio.json').read_text())
    answers = Answers(p.dir)
    assert answers.version() == 'round 2' and len(tasks) == 12
    for task, found in zip(tasks, answer_tasks(answers, tasks)):
        id = task['data']['id']
        if is_held_out(p, p.row[id]['image']):
            assert found == []
            continue
        png = np.asarray(Image.open(next((queue / 'predictions').glob(f'*{id}*')))) > 0
        result = found[0]['result']
        mask = decode_brush(result[0]['value']['rle'], png.shape) if result else np.zeros(png.shape, bool)
        assert (mask == png).all() and found[0]['model_version'] == 'round 2'
        assert found[0]['score'] == pytest.approx(task['predictions'][0]['score'], abs=1e-3)


def test_the_slider_tells_what_a_verdict_does(trained):
    "Caught and flagged of the table are those of `caught_and_flagged`"
    p, _, _ = trained
    slow_view(p, Answers(p.dir), None)
    table = page_view(p)['verdict']
    _, ids = split_labels(p, labels(p)['id'])
    read, seen = heldout_parts(p, rounds_with_model(p)[-1][0], ids)
    faulty = dict(zip(labels(p)['id'], labels(p)['faulty']))
    y = np.array([faulty[id] for id in read], bool)
    assert (table['n_faulty'], table['n_healthy']) == (y.sum(), (~y).sum()) and y.any() and not y.all()
    for threshold, area in ((0.5, 0), (0.02, 3), (0.9, 1)):
        k = threshold_bin(threshold)
        told = caught_and_flagged(seen.peak_NA[:, area].astype(int), y, k, 0.1, draws=2)
        assert table['caught'][area][k] == pytest.approx(told.n_caught / told.faulty, abs=1e-4)
        assert table['flagged'][area][k] == pytest.approx(told.n_flagged / told.healthy, abs=1e-4)
    one = client(server.make_live(p.dir, Plan(prevalence=0.1)))
    said = one.post('/api/verdict', json=dict(threshold=table['thresholds'][70], min_area=int(AREAS[3])))
    assert said.status_code == 200 and read_verdict(p).min_area == AREAS[3]
    assert page_view(p)['rule']['threshold'] == pytest.approx(table['thresholds'][70], abs=1e-4)


def same_state(one, other):
    "Are two states of networks the same, to the last bit?"
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_state(one[name], other[name]) for name in one)
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_the_same_labels_by_file_and_live_give_the_same_round(parts, tmp_path):
    "Network and picks, in two projects of the same images"
    p, truth = parts
    other = new(tmp_path / 'q', p.images, window=32, overlap=0, steps=2, bs=4, held_out=0.4, seed=1)
    named = {unit['name']: unit['id'] for unit in other.units.to_dict('records')}
    live = client(server.make_live(other.dir))
    tasks, masks = [], {}
    for number, (name, id) in enumerate(sorted(named.items())[:14], 1):
        mine = p.units['id'][p.units['name'] == name].item()
        masks[mine] = truth(mine)
        tasks.append(dict(data=dict(id=mine, project=p.id, name=name)))
        live.post('/webhook', json=event(other, id, truth(mine), number))
    (tmp_path / 'export.json').write_text(json.dumps(as_annotations(tasks, masks.get)))
    ingest(p, tmp_path / 'export.json')
    made = [rounds_room.next_round(one, 6, device='cpu') for one in (p, other)]
    names = [[one.row[pick['id']]['name'] for pick in r.picks] for one, r in zip((p, other), made)]
    assert names[0] == names[1] and len(names[0]) == 6 and not made[0].record['cold']
    mine, others = (torch.load(r.folder / 'model.pt', weights_only=True) for r in made)
    assert same_state(mine, others)


def test_what_is_fetched_is_ingested_when_it_has_changed(parts, monkeypatch):
    p, truth = parts
    a, b = p.units['id'][:2]
    tasks = []
    for number, id in enumerate((a, b), 1):
        sent = event(p, id, truth(id), number)
        tasks.append(dict(sent['task'], annotations=[sent['annotation']]))
    live, exports = server.make_live(p.dir, desk=studio.LabelStudio(studio.Studio('http://127.0.0.1:9', 'k'))), []
    monkeypatch.setattr(studio, 'all_tasks', lambda studio: tasks)
    real = inbox.ingest

    def taken(p, path, **how):
        exports.append([task['id'] for task in json.loads(path.read_text())])
        return real(p, path, **how)

    def take_all():
        live.desk.fetch(p, live.say)

    monkeypatch.setattr(inbox, 'ingest', taken)
    for _ in range(2):
        take_all()
    assert exports == [[1, 2]] and set(labels(p)['id']) == {a, b}
    tasks[1]['annotations'][0]['updated_at'] = '2026-02-01T00:00:00Z'
    tasks.append(dict(id=3, data=dict(image='/data/zebra.png'), annotations=[]))
    take_all()
    assert exports == [[1, 2], [2]]
    tasks[2]['annotations'] = [dict(tasks[0]['annotations'][0], id=9)]
    for _ in range(2):
        take_all()
    assert exports == [[1, 2], [2], [3]] and 'none of its 1 image' in live.lines[-1]


def test_what_is_fetched_and_cannot_be_taken_now_is_fetched_again(parts, monkeypatch):
    p, truth = parts
    id = p.units['id'][0]
    sent = event(p, id, truth(id), 1)
    desk, lines = studio.LabelStudio(studio.Studio('http://127.0.0.1:9', 'k')), []
    monkeypatch.setattr(studio, 'all_tasks', lambda studio: [dict(sent['task'], annotations=[sent['annotation']])])
    with monkeypatch.context() as m:
        m.setattr(inbox, 'ingest', lambda *a, **kw: (_ for _ in ()).throw(InputError('lock.json is held')))
        with pytest.raises(InputError, match='is held'):
            desk.fetch(p, lines.append)
    desk.fetch(p, lines.append)
    assert (read_mask(p, id) == truth(id)).all()


class Surest:
    "Stands for a network that finds one corner everywhere"

    device = 'cpu'

    def probability(self, p, id):
        prob = np.zeros((32, 32))
        prob[:3, :4] = 0.5 + p.units['id'].tolist().index(id) / 100
        return prob


def test_alarms_are_answered_by_one_word(trained):
    p, truth, _ = trained
    live = server.make_live(p.dir)
    found = alarms(p, Surest(), most=50)
    healthy = labels(p)['id'][~labels(p)['faulty'].astype(bool)]
    assert {one['id'] for one in found} == set(healthy) and found[0]['peak'] == max(one['peak'] for one in found)
    assert all(one['pixels'] == 12 for one in found)
    live.answers.probability = Surest().probability
    one = client(live)
    false = found[0]['id']
    assert 'no defect (same)' in one.post('/api/alarm', json=dict(id=false, real=False)).json()['said']
    tested = next(a['id'] for a in found if a['held_out'])
    r = one.post('/api/alarm', json=dict(id=tested, real=True))
    assert r.status_code == 400 and 'draw it in the labelling tool' in r.json()['error']
    real = next(a['id'] for a in found if not a['held_out'] and a['id'] != false)
    assert 'a defect (changed)' in one.post('/api/alarm', json=dict(id=real, real=True)).json()['said']
    assert read_mask(p, real).sum() == 12 and read_mask(p, tested).sum() == 0
    assert one.post('/api/alarm', json=dict(id='none', real=True)).status_code == 400


def test_alarms_are_looked_for_in_what_was_labelled_last(dots):
    p, _ = dots
    ids = p.units['id'].tolist()
    for day, id in enumerate(reversed(ids)):
        write_label(p, id, np.zeros((32, 32)), 'a test', f'2026-01-0{day + 1}T00:00:00Z')
    assert {one['id'] for one in alarms(p, Surest(), looked_at=3)} == set(ids[:3])


# What Label Studio's smart tools send: the form of its SAM example's request (label-studio-ml-backend,
# segment_anything_model/model.py at 005a6fe), and `params.context` as its api_connector.py puts it there
def drawn(kind, value, **more):
    return dict(
        original_width=32,
        original_height=32,
        image_rotation=0,
        value={**value, 'labels': ['defect (click)'], kind: ['defect (click)']},
        id='fBWv1t0S2L',
        from_name='click',
        to_name='image',
        type=kind,
        origin='manual',
        **more,
    )


def asked(p, id, results):
    return dict(
        tasks=[dict(id=3, data=dict(id=id, project=p.id))],
        model_version='',
        project='1.1700000000',
        label_config='<View/>',
        params=dict(login=None, password=None, context=dict(result=results)),
    )


@pytest.fixture
def dots(tmp_path):
    "(project of eight pictures with a dark square each, its pixels); half of them are tested on"
    return square_project(tmp_path, 8, (32, 32), window=32, held_out=0.5)


def suggested(answer):
    [found] = answer.json()['results']
    [one] = found['result']
    assert (one['from_name'], one['to_name'], one['type']) == ('brush', 'image', 'brushlabels')
    assert one['value']['brushlabels'] == ['defect'] and one['value']['format'] == 'rle'
    return decode_brush(one['value']['rle'], (32, 32))


def test_a_smart_tool_is_answered_by_a_mask(dots):
    p, square = dots
    one, id = client(server.make_live(p.dir)), p.units['id'][0]
    click = drawn('keypointlabels', dict(x=75.0, y=40.0, width=0.3), is_positive=True)
    first = suggested(one.post('/predict', json=asked(p, id, [click])))
    assert (first == square).mean() > 0.99
    beside = drawn('keypointlabels', dict(x=81.0, y=40.0, width=0.3), is_positive=False)
    less = suggested(one.post('/predict', json=asked(p, id, [click, beside])))
    assert not less[12, 25] and (less <= first).all() and less[12, 21]
    box = drawn('rectanglelabels', dict(x=56.0, y=25.0, width=38.0, height=31.0, rotation=0))
    assert (suggested(one.post('/predict', json=asked(p, id, [box]))) == square).mean() > 0.99
    del click['is_positive']
    assert (suggested(one.post('/predict', json=asked(p, id, [click]))) == first).all(), 'older tools do not say'
    empty = drawn('rectanglelabels', dict(x=0, y=0, width=30, height=30, rotation=0))
    assert (suggested(one.post('/predict', json=asked(p, id, [empty, box]))) == square).mean() > 0.99, 'the last box'
    assert len(labels(p)) == 0, 'a suggestion is no label'


def test_a_suggestion_is_named_by_what_was_drawn(dots):
    "The same drawing has the same name, another one another: an annotator may take both"
    p, _ = dots
    one, id = client(server.make_live(p.dir)), p.units['id'][0]
    places = dict(x=75.0, y=40.0, width=0.3), dict(x=78.0, y=40.0, width=0.3)
    clicks = [drawn('keypointlabels', place, is_positive=True) for place in places]
    found = [one.post('/predict', json=asked(p, id, [click])).json()['results'][0] for click in [*clicks, clicks[0]]]
    names = [each['result'][0]['id'] for each in found]
    assert names[0] == names[2] != names[1]
    assert {(each['score'], each['model_version']) for each in found} == {(1.0, 'clicks')}


def test_a_click_on_a_task_of_another_project_is_answered_with_nothing(dots):
    p, _ = dots
    sent = asked(p, p.units['id'][0], [drawn('keypointlabels', dict(x=75.0, y=40.0, width=0.3), is_positive=True)])
    sent['tasks'][0]['data'] = dict(id='elsewhere', project='another')
    found = client(server.make_live(p.dir)).post('/predict', json=sent).json()['results']
    assert [one['result'] for one in found] == [[]]


@pytest.mark.parametrize(
    'results', [[dict(type='keypointlabels')], [None], 'x', [drawn('keypointlabels', dict(x='a', y=2))]]
)
def test_what_is_no_drawing_is_answered_with_nothing_and_said(dots, results):
    p, _ = dots
    live = server.make_live(p.dir)
    found = client(live).post('/predict', json=asked(p, p.units['id'][0], results)).json()['results']
    assert [one['result'] for one in found] == [[]]
    assert 'draw with key points or a rectangle' in live.lines[-1] and '\n' not in live.lines[-1]


def test_a_mask_is_clicked_on_the_page_and_kept_once(dots):
    p, square = dots
    live = server.make_live(p.dir)
    one, id = client(live), p.units['id'][0]
    seen = one.post('/api/clicks', json=dict(id=id, clicks=[[12, 24, True]])).json()
    tint = np.array(Image.open(io.BytesIO(base64.b64decode(seen['mask'].partition(',')[2]))))
    on = tint[..., 3] > 0
    assert on.sum() == seen['pixels'] and (on == square).mean() > 0.99 and (tint[on] == tint[12, 24]).all()
    assert 0 < tint[12, 24, 3] < 200, 'the picture is seen through it'
    less = one.post('/api/clicks', json=dict(id=id, clicks=[[12, 24, True], [12, 26, False]])).json()
    assert less['pixels'] < seen['pixels']
    assert seen['mask'].startswith('data:image/png;base64,') and abs(seen['pixels'] - square.sum()) <= 4
    body = dict(id=id, clicks=[[12, 24, True]], version=seen['version'])
    assert one.post('/api/label', json=body).json()['said'] == '0.png: a defect (new)'
    assert read_mask(p, id).sum() == seen['pixels'] and (read_mask(p, id) == square).mean() > 0.99
    assert 'a defect (same)' in one.post('/api/label', json=body).json()['said']
    assert len(labels(p)) == 1 and len(read_label(p, id)['versions']) == 1, 'once, however often it is sent'
    other = p.units['id'][1]
    assert 'no defect (new)' in one.post('/api/label', json=dict(id=other, healthy=True)).json()['said']
    assert labels(p).set_index('id').loc[other, 'pixels'] == 0
    full = one.get(f'/picture/{id}.png?full=1').content
    assert Image.open(io.BytesIO(full)).size == (32, 32)


def test_eight_masks_from_the_page_at_once(dots):
    "Two people at one project: each label is that of its own picture"
    p, _ = dots
    one = client(server.make_live(p.dir))
    ids = p.units['id'].tolist()[:4]

    def keep(k):
        clicks = [[12, 24, True]] if k % 2 else []
        body = dict(id=ids[k % 4], clicks=clicks, healthy=not clicks, version='')
        return one.post('/api/label', json=body).json()

    with ThreadPoolExecutor(8) as pool:
        assert all('said' in found for found in pool.map(keep, range(8)))
    assert labels(p).set_index('id')['faulty'].astype(bool).reindex(ids).tolist() == [False, True, False, True]


@pytest.mark.parametrize(
    'path, body, said',
    [
        ('clicks', dict(id='none', clicks=[[1, 1, True]]), 'load the page again'),
        ('clicks', dict(clicks=[[99, 1, True]]), 'click on the picture'),
        ('clicks', dict(clicks=[[1, 1]]), 'send clicks as'),
        ('clicks', dict(clicks=[[1, 1, False]]), 'give a positive one'),
        ('label', dict(clicks=[[1, 1, True]], version='round 7'), 'look at the mask again'),
    ],
)
def test_what_is_no_click_on_the_page_is_refused_in_a_line(dots, path, body, said):
    p, _ = dots
    r = client(server.make_live(p.dir)).post(f'/api/{path}', json=dict(dict(id=p.units['id'][0]), **body))
    assert r.status_code == 400 and said in r.json()['error'] and '\n' not in r.json()['error']
    assert len(labels(p)) == 0


def test_a_key_that_was_pressed_by_mistake_is_taken_back(dots):
    "A mask that equals a replaced version is taken: on the page the last word counts"
    p, square = dots
    one, id = client(server.make_live(p.dir)), p.units['id'][0]
    clicked = dict(id=id, clicks=[[12, 24, True]], version='')
    sent = [clicked, dict(id=id, healthy=True), clicked]
    said = [one.post('/api/label', json=body).json()['said'] for body in sent]
    assert said == ['0.png: a defect (new)', '0.png: no defect (changed)', '0.png: a defect (changed)']
    assert (read_mask(p, id) == square).mean() > 0.99


@pytest.mark.parametrize(
    'path, body, said',
    [
        ('clicks', '{"id": "ID", "clicks": [[Infinity, 1, true]]}', 'send clicks as'),
        ('clicks', '{"id": "ID", "clicks": [[NaN, 1, true]]}', 'send clicks as'),
        ('verdict', '{"threshold": 0.5, "min_area": Infinity}', 'send threshold and min_area'),
        ('verdict', '{"threshold": NaN, "min_area": 1}', 'threshold'),
        ('alarm', '{"id": ["ID"], "real": true}', 'send the id of an alarm'),
    ],
)
def test_odd_json_is_refused_in_a_line(dots, path, body, said):
    p, _ = dots
    text, head = body.replace('ID', p.units['id'][0]), {'Content-Type': 'application/json'}
    r = client(server.make_live(p.dir)).post(f'/api/{path}', content=text, headers=head)
    assert r.status_code == 400 and said in r.json()['error'] and '\n' not in r.json()['error']


def test_an_endless_rectangle_is_answered_with_nothing(dots):
    p, _ = dots
    live = server.make_live(p.dir)
    value = dict(x=0, y=0, width=float('inf'), height=9)
    text = json.dumps(asked(p, p.units['id'][0], [drawn('rectanglelabels', value)]))
    r = client(live).post('/predict', content=text, headers={'Content-Type': 'application/json'})
    assert [one['result'] for one in r.json()['results']] == [[]]
    assert 'draw with key points or a rectangle' in live.lines[-1]


def test_a_unit_that_was_dropped_is_not_clicked_on(dots):
    p, _ = dots
    id = p.units['id'][0]
    live = server.make_live(p.dir)
    drop(p, [id])
    r = client(live).post('/api/clicks', json=dict(id=id, clicks=[[12, 24, True]]))
    assert r.status_code == 400 and 'load the page again' in r.json()['error']


def test_the_network_has_no_say_where_it_is_tested(dots, monkeypatch):
    from imbal_al.live.clicked import clicked_mask
    from imbal_al.project.clicks import Click

    p, square = dots
    told = []

    class Told:
        last = (None, None)
        now = 'round 1'

        def version(self):
            return self.now

        def probability(self, p, id):
            told.append(id)
            return square * 0.9

    pairs = list(zip(p.units['id'], p.units['image']))
    other = next(id for id, image in pairs if not is_held_out(p, image))
    held = {is_held_out(p, image): id for id, image in pairs}
    assert other != held[False], 'two that are trained on'
    answers = Told()
    for _ in range(2):
        clicked_mask(p, answers, held[False], [Click(((12, 24),))])
    clicked_mask(p, answers, held[True], [Click(((12, 24),))])
    assert told == [held[False]], 'asked once for two clicks, and never for a unit that is tested on'
    clicked_mask(p, answers, other, [Click(((12, 24),))])
    answers.now = 'round 2'
    clicked_mask(p, answers, other, [Click(((12, 24),))])
    assert told[1:] == [other, other], 'anew for another unit, and for another network'


def started(dir, port):
    "`imbal-al serve` in a process of its own, once it answers"
    words = ['serve', str(dir), '--port', str(port), '--every', '4', '--budget', '4']
    process = quick.Program('-c', 'from imbal_al.cli import main; main()', *words)
    for _ in range(1200):
        assert process.poll() is None
        try:
            urllib.request.urlopen(f'http://127.0.0.1:{port}/health', timeout=1).close()
            return process
        except OSError:
            time.sleep(0.1)
    pytest.fail('no answer in two minutes')


def posted(port, sent):
    "An event sent to the server; was it answered?"
    given = dict(data=json.dumps(sent).encode(), headers={'Content-Type': 'application/json'})
    asked = urllib.request.Request(f'http://127.0.0.1:{port}/webhook', **given)
    try:
        return json.load(urllib.request.urlopen(asked, timeout=60)) == dict(kept=1)
    except OSError:
        return False


@pytest.mark.slow
def test_killed_again_and_again_nothing_is_lost_and_nothing_asked_for_twice(parts):
    "SIGKILL while it trains and while annotations come in; what was answered is a label in the end, once"
    p, truth = parts
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    answered, number = {}, 0
    for wait in (0.0, 0.7, 0.2, 2.0):
        process = started(p.dir, port)
        for _ in range(600):
            if waiting(p):
                break
            time.sleep(0.1)
        for id in waiting(p)[:3]:
            number += 1
            if posted(port, event(p, id, truth(id), number)):
                answered[id] = truth(id)
        time.sleep(wait)
        process.kill()
        process.wait()
    live = server.make_live(p.dir, Plan(every=4, budget=4))
    server._before(live, p)
    while live.trainer.look():
        pass
    table = labels(p)
    assert set(answered) <= set(table['id']) and len(answered) >= 6 and table['version'].nunique() == 1
    assert all((read_mask(p, id) == mask).all() for id, mask in answered.items())
    picks = [pick['id'] for folder in rounds(p) for pick in read_picks(folder) or []]
    assert len(picks) == len(set(picks))
