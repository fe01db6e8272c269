"""A real Label Studio on loopback: tasks in with pre-annotations, annotations out, by its API.

The program is that of `make tools`, or the one that IMBAL_AL_LABEL_STUDIO names (PATH/label-studio).
"""

import io, json, os, signal, socket, subprocess, time, urllib.error, urllib.request, zipfile
from contextlib import contextmanager

import numpy as np, pytest
from PIL import Image

from imbal_al.data.shapes import polygon_mask
from imbal_al.project.annotations import LS_CONFIG, decode_brush
from imbal_al.project.intake import new
from imbal_al.project.labelled import labels, read_mask
from imbal_al.project.store import open_project
from imbal_al.project.queue import as_annotations, write_queue
from imbal_al.project.taken import ingest
from imbal_al.project.state import waiting
from imbal_al.project.rounds import next_round
from imbal_al.data.synthetic import image
from imbal_al.project.standing import where
from real import tool

pytestmark = pytest.mark.real
TOKEN = 'imbalaltoken0123456789imbalaltoken012345'


@pytest.fixture(scope='module')
def studio(tmp_path_factory):
    "Its address, while it runs"
    with running(tmp_path_factory.mktemp('studio')) as url:
        yield url


@contextmanager
def running(home, **more):
    "A server that keeps its data in a folder; `more` are further variables of its environment"
    command = os.environ.get('IMBAL_AL_LABEL_STUDIO') or tool('label-studio')
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    env = {
        **os.environ,
        'LABEL_STUDIO_BASE_DATA_DIR': str(home),
        'LABEL_STUDIO_USERNAME': 'a@example.org',
        'LABEL_STUDIO_PASSWORD': 'only-on-loopback-1',
        'LABEL_STUDIO_USER_TOKEN': TOKEN,
        'LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN': 'true',
        'COLLECT_ANALYTICS': 'false',
        'LATEST_VERSION_CHECK': 'false',
        'SENTRY_DSN': '',
        'FRONTEND_SENTRY_DSN': '',
        **more,
    }
    log = open(home / 'log', 'w')
    proc = subprocess.Popen(
        [command, 'start', '--no-browser', '--port', str(port), '--internal-host', '127.0.0.1'],
        env=env,
        stdout=log,
        stderr=log,
        cwd=home,
        start_new_session=True,
    )
    url = f'http://127.0.0.1:{port}'
    try:
        wait_for(url, proc, home / 'log')
        yield url
    finally:
        os.killpg(proc.pid, signal.SIGTERM)
        proc.wait(30)


def wait_for(url, proc, log, seconds=600):
    "Until the server answers; it makes its data base first"
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            return urllib.request.urlopen(url + '/health', timeout=2).close()
        except OSError:
            assert proc.poll() is None, log.read_text()[-2000:]
            time.sleep(0.5)
    pytest.fail(f'no answer in {seconds} seconds: {log.read_text()[-2000:]}')


def ask(url, path, data=None):
    r = urllib.request.Request(
        url + path,
        None if data is None else json.dumps(data).encode(),
        {'Authorization': f'Token {TOKEN}', 'Content-Type': 'application/json'},
    )
    try:
        with urllib.request.urlopen(r, timeout=120) as f:
            return f.read()
    except urllib.error.HTTPError as e:
        pytest.fail(f'{path}: {e.code} {e.read()[:500]}')


def test_tasks_in_and_annotations_out(studio, tmp_path):
    (tmp_path / 'i').mkdir()
    truth = {}
    for i in range(4):
        a, truth[f'{i}.png'] = image('steel', i, (48, 72), faulty=i < 3)
        Image.fromarray(a).save(tmp_path / 'i' / f'{i}.png')
    p = new(tmp_path / 'p', tmp_path / 'i', window=32, overlap=0)
    q = p.dir / 'rounds/001/queue'
    mask = lambda id: truth[p.row[id]['name']]
    write_queue(
        p,
        q,
        [dict(id=o, why='a test', held_out=False) for o in p.units.id],
        lambda id: 0.9 * np.roll(mask(id), 3, 1),
        model='round 1',
    )
    tasks = json.loads((q / 'labelstudio.json').read_text())

    project = project_in(studio, 'imbal_al')
    got = json.loads(ask(studio, f'/api/projects/{project}/import?return_task_ids=true', tasks))
    assert (got['task_count'], got['prediction_count']) == (4, 4)
    there = json.loads(
        ask(studio, f'/api/projects/{project}/export?exportType=JSON&download_all_tasks=true')
    )
    assert len(there) == 4 and {o['data']['id'] for o in there} == set(p.units.id)

    by = {t['data']['id']: a for t, a in zip(tasks, as_annotations(tasks, mask))}
    for t in there:
        predicted = json.loads(ask(studio, f"/api/predictions?task={t['id']}"))[0]['result']
        id = t['data']['id']
        assert (
            predicted == next(o for o in tasks if o['data']['id'] == id)['predictions'][0]['result']
        ), 'the pre-annotation is there as it was written'
        ask(
            studio,
            f"/api/tasks/{t['id']}/annotations",
            dict(result=by[id]['annotations'][0]['result'], lead_time=3),
        )
    f = tmp_path / 'export.json'
    f.write_bytes(ask(studio, f'/api/projects/{project}/export?exportType=JSON'))
    r = ingest(p, f)
    assert dict(r.counts) == dict(new=4), str(r)
    assert (
        all((read_mask(p, o) == mask(o)).all() for o in p.units.id) and labels(p)['at'].ne('').all()
    )
    assert dict(ingest(p, f).counts) == dict(same=4)

    with zipfile.ZipFile(
        io.BytesIO(ask(studio, f'/api/projects/{project}/export?exportType=BRUSH_TO_PNG'))
    ) as z:
        own = sorted(
            np.asarray(Image.open(io.BytesIO(z.read(o)))).astype(bool).tobytes()
            for o in z.namelist()
            if o.endswith('.png')
        )
    assert own == sorted(
        (mask(o) > 0).tobytes() for o in p.units.id if mask(o).any()
    ), 'its own converter reads the same masks'

    t = there[0]
    ask(studio, f"/api/tasks/{t['id']}/annotations", dict(result=[], was_cancelled=False))
    f.write_bytes(ask(studio, f'/api/projects/{project}/export?exportType=JSON'))
    r = ingest(p, f)
    assert (
        r.counts['empty'] == 1
        and r.counts['same'] == 3
        and any('2 annotations' in o for o in r.lines)
    )


def project_in(url, title):
    return json.loads(ask(url, '/api/projects', dict(title=title, label_config=LS_CONFIG)))['id']


def take_in(url, project, round_):
    "Import a round's queue; id -> number of its task"
    tasks = json.loads((round_.queue / 'labelstudio.json').read_text())
    got = json.loads(ask(url, f'/api/projects/{project}/import?return_task_ids=true', tasks))
    assert (got['task_count'], got['prediction_count']) == (
        len(tasks),
        sum('predictions' in o for o in tasks),
    )
    there = json.loads(
        ask(url, f'/api/projects/{project}/export?exportType=JSON&download_all_tasks=true')
    )
    return {
        o['data']['id']: o['id']
        for o in there
        if o['data']['id'] in {t['data']['id'] for t in tasks}
    }


def rectangle(m):
    "One drawn box, in percent, and the mask that it is"
    y, x = np.nonzero(m)
    (h, w), box = m.shape, (x.min(), y.min(), x.max() + 1, y.max() + 1)
    out = np.zeros_like(m)
    out[box[1] : box[3], box[0] : box[2]] = 1
    value = dict(
        x=100 * box[0] / w,
        y=100 * box[1] / h,
        width=100 * (box[2] - box[0]) / w,
        height=100 * (box[3] - box[1]) / h,
        rotation=0,
        rectanglelabels=['defect (rectangle)'],
    )
    return [
        dict(
            type='rectanglelabels',
            from_name='rectangle',
            to_name='image',
            original_width=w,
            original_height=h,
            image_rotation=0,
            value={
                k: float(v) if k in ('x', 'y', 'width', 'height') else v for k, v in value.items()
            },
        )
    ], out


def polygon(m):
    "One drawn triangle, in percent, and the mask that it is"
    h, w = m.shape
    pts = [(4, 5), (w - 6, 9), (w // 2, h - 4)]
    out = polygon_mask(pts, m.shape).astype(np.uint8)
    return [
        dict(
            type='polygonlabels',
            from_name='polygon',
            to_name='image',
            original_width=w,
            original_height=h,
            image_rotation=0,
            value=dict(
                points=[[100 * x / w, 100 * y / h] for x, y in pts],
                closed=True,
                polygonlabels=['defect (polygon)'],
            ),
        )
    ], out


def by_hand(url, tasks, truth):
    "An annotator of many habits; id -> the mask that each label must become"
    meant = {}
    for k, (id, task) in enumerate(sorted(tasks.items())):
        m = truth(id)
        brush = as_annotations([dict(data=dict(id=id))], lambda _: m)[0]['annotations'][0]['result']
        result, meant[id] = (
            (brush, m) if not m.any() or k % 3 == 0 else rectangle(m) if k % 3 == 1 else polygon(m)
        )
        ask(url, f'/api/tasks/{task}/annotations', dict(result=result, lead_time=5))
    return meant


def taken_back(url, project, p, f):
    f.write_bytes(ask(url, f'/api/projects/{project}/export?exportType=JSON'))
    return ingest(p, f)


def test_the_whole_loop_twice_round(studio, tmp_path):
    (tmp_path / 'i').mkdir()
    masks = {}
    for i in range(24):
        a, masks[f'{i:02d}.png'] = image('leaves', i, 64, faulty=i % 2 == 0)
        Image.fromarray(a).save(tmp_path / 'i' / f'{i:02d}.png')
    p = new(
        tmp_path / 'p', tmp_path / 'i', window=64, overlap=0, steps=30, bs=4, held_out=0.4, seed=1
    )
    truth = lambda id: masks[p.row[id]['name']]
    ls = project_in(studio, 'loop')

    first = next_round(p, 10, device='cpu')
    tasks = take_in(studio, ls, first)
    assert first.record['cold'] and set(tasks) == {o['id'] for o in first.picks}
    meant = by_hand(studio, tasks, truth)
    assert dict(taken_back(studio, ls, p, tmp_path / 'one.json').counts) == dict(
        new=10
    ) and not waiting(p)

    second = next_round(p, 6, device='cpu')
    tasks = take_in(studio, ls, second)
    assert not second.record['cold'] and not set(tasks) & set(meant), 'nothing is asked for twice'
    shown = {
        o['data']['id']: o['predictions'][0]['result']
        for o in json.loads((second.queue / 'labelstudio.json').read_text())
        if o.get('predictions')
    }
    seen = 0
    for id, task in tasks.items():
        there = json.loads(ask(studio, f'/api/predictions?task={task}'))
        assert [o['result'] for o in there] == [shown[o] for o in [id] if o in shown]
        for o in shown.get(id, []):
            if o['type'] == 'brushlabels':
                m = decode_brush(o['value']['rle'], (64, 64))
                seen += 1
                assert (
                    m
                    == (
                        np.asarray(Image.open(next((second.queue / 'predictions').glob(f'*{id}*'))))
                        > 0
                    )
                ).all()
    assert seen, 'no task shows a predicted defect'

    meant |= by_hand(studio, tasks, truth)
    assert dict(taken_back(studio, ls, p, tmp_path / 'two.json').counts) == dict(new=6, same=10)
    assert dict(ingest(p, tmp_path / 'one.json').counts) == dict(
        same=10
    ), 'an older export does no harm'
    again = open_project(p.dir)
    assert set(labels(again)['id']) == set(meant)
    wrong = {id: int((read_mask(again, id) != (m > 0)).sum()) for id, m in meant.items()}
    assert not any(wrong.values()), wrong
    third = next_round(again, 0, device='cpu')
    assert len(third.record['train']) + len(third.record['test']) == 16 and where(
        again, 0.3, draws=20
    ).trained == len(third.record['train'])


def drawn(url, task, result, **more):
    "Save an annotation of a task, as the interface does"
    return json.loads(ask(url, f'/api/tasks/{task}/annotations', dict(result=result, lead_time=4, **more)))


def two_annotators(url, project, p, truth):
    """Tasks by name: a brush, a polygon, a skipped one, one that two agree on, one on which they differ, an untouched one

    Returns the masks that labels must become, by name."""
    q = p.dir / 'rounds/001/queue'
    write_queue(p, q, [dict(id=o, why='a test', held_out=False) for o in p.units.id], lambda id: None)
    tasks = json.loads((q / 'labelstudio.json').read_text())
    ask(url, f'/api/projects/{project}/import', tasks)
    there = json.loads(ask(url, f'/api/projects/{project}/export?exportType=JSON&download_all_tasks=true'))
    number = {p.row[o['data']['id']]['name']: o['id'] for o in there}
    second = json.loads(ask(url, '/api/users/', dict(email='second@example.org', username='second')))['id']
    brush = lambda m: as_annotations([dict(data=dict(id='x'))], lambda _: m)[0]['annotations'][0]['result']
    triangle, corners = polygon(truth['1.png'])
    drawn(url, number['0.png'], brush(truth['0.png']))
    drawn(url, number['1.png'], triangle)
    drawn(url, number['2.png'], brush(truth['2.png']), was_cancelled=True)
    drawn(url, number['3.png'], brush(truth['3.png']))
    drawn(url, number['3.png'], brush(truth['3.png']), completed_by=second)
    drawn(url, number['4.png'], brush(truth['4.png']))
    drawn(url, number['4.png'], rectangle(truth['4.png'])[0], completed_by=second)
    return {'0.png': truth['0.png'], '1.png': corners, '3.png': truth['3.png']}


def read_back(p):
    "The masks of a project by name"
    return {p.row[o]['name']: read_mask(p, o) for o in labels(p)['id']}


def test_skipped_tasks_and_two_annotators(studio, tmp_path):
    (tmp_path / 'i').mkdir()
    truth = {}
    for i in range(6):
        a, truth[f'{i}.png'] = image('steel', i, (48, 72), faulty=True)
        Image.fromarray(a).save(tmp_path / 'i' / f'{i}.png')
    p = new(tmp_path / 'p', tmp_path / 'i', window=32, overlap=0)
    project = project_in(studio, 'two')
    meant = two_annotators(studio, project, p, truth)

    f = tmp_path / 'export.json'
    f.write_bytes(ask(studio, f'/api/projects/{project}/export?exportType=JSON&download_all_tasks=true'))
    r = ingest(p, f)
    assert (r.counts['new'], r.counts['skipped'], r.counts['untouched']) == (3, 1, 1), str(r)
    assert 'skipped (1): 2.png' in str(r) and 'untouched (1): 5.png' in str(r)
    assert '4.png' in str(r) and '--on-conflict' in str(r), 'two who differ are refused'
    found = read_back(p)
    assert set(found) == set(meant)
    assert all((found[name] == mask).all() for name, mask in meant.items())

    least = tmp_path / 'min.json'
    least.write_bytes(ask(studio, f'/api/projects/{project}/export?exportType=JSON_MIN'))
    r = ingest(p, least)
    assert r.counts['same'] == 3 and r.counts['new'] == 0 and '--on-conflict' in str(r), str(r)

    assert ingest(p, f, on_conflict='union').counts['new'] == 1
    box = rectangle(truth['4.png'])[1]
    assert (read_back(p)['4.png'] == box).all(), 'the box holds the brush'
