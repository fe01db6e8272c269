"""A real Label Studio on loopback: tasks in with pre-annotations, annotations out, by its API.

Runs only when asked: IMBAL_AL_LABEL_STUDIO=PATH/label-studio (pip install label-studio, in an environment of its own)"""
import io, json, os, signal, socket, subprocess, time, urllib.error, urllib.request, zipfile

import numpy as np, pytest
from PIL import Image

from imbal_al.annotations import LS_CONFIG
from imbal_al.project import labels, new, read_mask
from imbal_al.queue import as_annotations, ingest, write_queue
from imbal_al.synthetic import image

COMMAND = os.environ.get('IMBAL_AL_LABEL_STUDIO')
pytestmark = pytest.mark.skipif(not COMMAND, reason='set IMBAL_AL_LABEL_STUDIO to the label-studio command to try the real one')
TOKEN = 'imbalaltoken0123456789imbalaltoken012345'


@pytest.fixture(scope='module')
def studio(tmp_path_factory):
    "Its address, while it runs"
    home = tmp_path_factory.mktemp('studio')
    with socket.socket() as s: s.bind(('127.0.0.1',0)); port = s.getsockname()[1]
    env = {**os.environ, 'LABEL_STUDIO_BASE_DATA_DIR':str(home), 'LABEL_STUDIO_USERNAME':'a@example.org', 'LABEL_STUDIO_PASSWORD':'only-on-loopback-1', 'LABEL_STUDIO_USER_TOKEN':TOKEN, 'LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN':'true',
           'COLLECT_ANALYTICS':'false', 'LATEST_VERSION_CHECK':'false', 'SENTRY_DSN':'', 'FRONTEND_SENTRY_DSN':''}
    log = open(home/'log','w')
    proc = subprocess.Popen([COMMAND,'start','--no-browser','--port',str(port),'--internal-host','127.0.0.1'], env=env, stdout=log, stderr=log, cwd=home, start_new_session=True)
    url = f'http://127.0.0.1:{port}'
    for _ in range(400):
        try: urllib.request.urlopen(url+'/health', timeout=2); break
        except OSError:
            assert proc.poll() is None, (home/'log').read_text()[-2000:]
            time.sleep(1)
    else: pytest.fail((home/'log').read_text()[-2000:])
    yield url
    os.killpg(proc.pid, signal.SIGTERM); proc.wait(30)


def ask(url, path, data=None):
    r = urllib.request.Request(url+path, None if data is None else json.dumps(data).encode(), {'Authorization':f'Token {TOKEN}', 'Content-Type':'application/json'})
    try:
        with urllib.request.urlopen(r, timeout=120) as f: return f.read()
    except urllib.error.HTTPError as e: pytest.fail(f'{path}: {e.code} {e.read()[:500]}')


def test_tasks_in_and_annotations_out(studio, tmp_path):
    (tmp_path/'i').mkdir(); truth = {}
    for i in range(4): a,truth[f'{i}.png'] = image('steel', i, (48,72), faulty=i<3); Image.fromarray(a).save(tmp_path/'i'/f'{i}.png')
    p = new(tmp_path/'p', tmp_path/'i', window=32, overlap=0); q = p.dir/'rounds/001/queue'; mask = lambda id: truth[p.row[id]['name']]
    write_queue(p, q, [dict(id=o, why='a test', held_out=False) for o in p.units.id], lambda id: .9*np.roll(mask(id), 3, 1), model='round 1')
    tasks = json.loads((q/'labelstudio.json').read_text())

    project = json.loads(ask(studio, '/api/projects', dict(title='imbal_al', label_config=LS_CONFIG)))['id']
    got = json.loads(ask(studio, f'/api/projects/{project}/import?return_task_ids=true', tasks)); assert (got['task_count'], got['prediction_count'])==(4,4)
    there = json.loads(ask(studio, f'/api/projects/{project}/export?exportType=JSON&download_all_tasks=true')); assert len(there)==4 and {o['data']['id'] for o in there}==set(p.units.id)

    by = {t['data']['id']:a for t,a in zip(tasks, as_annotations(tasks, mask))}
    for t in there:
        predicted = json.loads(ask(studio, f"/api/predictions?task={t['id']}"))[0]['result']; id = t['data']['id']
        assert predicted==next(o for o in tasks if o['data']['id']==id)['predictions'][0]['result'], 'the pre-annotation is there as it was written'
        ask(studio, f"/api/tasks/{t['id']}/annotations", dict(result=by[id]['annotations'][0]['result'], lead_time=3))
    f = tmp_path/'export.json'; f.write_bytes(ask(studio, f'/api/projects/{project}/export?exportType=JSON'))
    r = ingest(p, f); assert dict(r.counts)==dict(new=4), str(r)
    assert all((read_mask(p, o)==mask(o)).all() for o in p.units.id) and labels(p)['at'].ne('').all()
    assert dict(ingest(p, f).counts)==dict(same=4)

    with zipfile.ZipFile(io.BytesIO(ask(studio, f'/api/projects/{project}/export?exportType=BRUSH_TO_PNG'))) as z:
        own = sorted(np.asarray(Image.open(io.BytesIO(z.read(o)))).astype(bool).tobytes() for o in z.namelist() if o.endswith('.png'))
    assert own==sorted((mask(o)>0).tobytes() for o in p.units.id if mask(o).any()), 'its own converter reads the same masks'

    t = there[0]; ask(studio, f"/api/tasks/{t['id']}/annotations", dict(result=[], was_cancelled=False))
    f.write_bytes(ask(studio, f'/api/projects/{project}/export?exportType=JSON')); r = ingest(p, f)
    assert r.counts['empty']==1 and r.counts['same']==3 and any('2 annotations' in o for o in r.lines)
