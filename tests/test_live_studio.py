"""`imbal-al serve` beside a real Label Studio: predictions on opening a task, annotations by webhook, new tasks.

The programs are those of `make tools`; see tests/test_label_studio.py.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from imbal_al.project.annotations import decode_brush
from imbal_al.project.labelled import labels, read_mask
from imbal_al.project.queue import as_annotations
from imbal_al.project.state import is_held_out, read_picks, rounds, rounds_with_model, waiting
from imbal_al.project.store import open_project
from small import leaves_project, square_project
from test_label_studio import TOKEN, ask, running

pytestmark = pytest.mark.real


@pytest.fixture(scope='module')
def studio(tmp_path_factory):
    "A Label Studio that may call this machine; by default it may not"
    home = tmp_path_factory.mktemp('studio')
    with running(home, ML_BLOCK_LOCAL_IP='false', SSRF_PROTECTION_ENABLED='false') as url:
        yield url


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


class Served:
    "`imbal-al serve` in a process of its own"

    def __init__(self, dir, studio, port, *more):
        words = ['serve', str(dir), '--label-studio', studio, '--key', TOKEN, '--port', str(port), *more]
        code = 'from imbal_al.cli import main; main()'
        self.log = dir.parent / f'serve-{time.time_ns()}.log'
        env = {**os.environ, 'OMP_NUM_THREADS': '1'}
        self.process = subprocess.Popen(
            [sys.executable, '-W', 'ignore', '-c', code, *words],
            stdout=self.log.open('w'),
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=env,
        )

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)


def until(true, what, served, seconds=240):
    "Wait until something holds"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = true()
        if found:
            return found
        assert served.process.poll() is None, served.log.read_text()[-3000:]
        time.sleep(0.3)
    pytest.fail(f'{what} not within {seconds} s: {served.log.read_text()[-3000:]}')


@pytest.fixture
def parts(tmp_path):
    "(project, id -> mask)"
    return leaves_project(tmp_path, 30, 64, steps=12, held_out=0.3)


def studio_number(p):
    path = p.dir / 'live/studio.json'
    return json.loads(path.read_text())['number'] if path.exists() else None


def all_tasks(url, number):
    got = ask(url, f'/api/projects/{number}/export?exportType=JSON&download_all_tasks=true')
    return json.loads(got or '[]')  # Nothing at all where there is no task


def annotate(url, tasks, truth):
    "Save an annotation for each task, as the interface does"
    for task in tasks:
        id = task['data']['id']
        made = as_annotations([dict(data=dict(id=id))], lambda _: truth(id))[0]['annotations'][0]
        ask(url, f"/api/tasks/{task['id']}/annotations", dict(result=made['result'], lead_time=3))


def opened(url, number, task):
    "The predictions that Label Studio shows for a task: it asks its model when the task is opened"
    got = json.loads(ask(url, f"/api/tasks/{task['id']}?project={number}"))
    return got['predictions']


def versions(predictions):
    "Whose predictions they are"
    return [one['model_version'] for one in predictions]


def is_tested_on(p, task):
    return is_held_out(p, p.row[task['data']['id']]['image'])


def test_label_studio_and_the_server_go_round_together(studio, parts, tmp_path):
    p, truth = parts
    served = Served(p.dir, studio, free_port(), '--every', '10', '--budget', '10', '--strategy', 'entropy')
    try:
        number = until(lambda: studio_number(p), 'a project in Label Studio', served)
        first = until(lambda: len(all_tasks(studio, number)) == 10 and all_tasks(studio, number), 'tasks', served)
        assert [t['data']['id'] for t in sorted(first, key=lambda t: t['id'])] == [
            pick['id'] for pick in read_picks(rounds(p)[0])
        ], "in the strategy's order"
        until(lambda: json.loads(ask(studio, f'/api/ml?project={number}')), 'the model is connected', served)

        annotate(studio, first, truth)
        until(lambda: len(labels(p)) == 10, 'labels by webhook', served)
        assert all((read_mask(p, id) == truth(id)).all() for id in labels(p)['id'])

        until(lambda: rounds_with_model(p), 'a network', served)
        until(lambda: len(all_tasks(studio, number)) == 20, 'new tasks', served)
        there = all_tasks(studio, number)
        ids = [t['data']['id'] for t in there]
        assert len(set(ids)) == len(ids), 'nothing twice'

        shown = {t['data']['id']: opened(studio, number, t) for t in there if not t['annotations']}
        assert shown
        for id, found in shown.items():
            held = is_held_out(p, p.row[id]['image'])
            assert bool(found) != held, 'a unit that is tested on gets no prediction'
            assert all(one['model_version'] == 'round 2' for one in found)

        served.kill()
        left = [t for t in there if not t['annotations']]
        annotate(studio, left[:3], truth)
        served = Served(p.dir, studio, free_port(), '--every', '10', '--budget', '10')
        until(lambda: len(labels(p)) == 13, 'labels that no webhook brought', served)
        assert len(all_tasks(studio, number)) == 20 and len(waiting(open_project(p.dir))) == 7
    finally:
        served.kill()


def test_a_task_is_predicted_when_it_is_opened(studio, parts):
    "A task that was there before the network gets its prediction from the model"
    p, truth = parts
    served = Served(p.dir, studio, free_port(), '--every', '8', '--budget', '12')
    try:
        number = until(lambda: studio_number(p), 'a project in Label Studio', served)
        until(lambda: len(all_tasks(studio, number)) == 12, 'tasks', served)
        first = all_tasks(studio, number)
        for task in first:
            found = versions(opened(studio, number, task))
            assert found == ([] if is_tested_on(p, task) else ['anomaly']), 'no network yet'
        annotate(studio, first[:8], truth)
        until(lambda: rounds_with_model(p), 'a network', served)
        for task in first[8:]:
            found = versions(opened(studio, number, task))
            assert found == [] if is_tested_on(p, task) else 'round 2' in found, found
    finally:
        served.kill()


def test_labels_are_fetched_where_label_studio_cannot_reach_us(studio, parts):
    "It is told a dead address: that is said, and annotations come all the same"
    p, truth = parts
    dead = f'http://127.0.0.1:{free_port()}'
    served = Served(p.dir, studio, free_port(), '--every', '50', '--budget', '4', '--own', dead)
    try:
        number = until(lambda: studio_number(p), 'a project in Label Studio', served)
        until(lambda: len(all_tasks(studio, number)) == 4, 'tasks', served)
        annotate(studio, all_tasks(studio, number)[:2], truth)
        until(lambda: len(labels(p)) == 2, 'labels', served)
        assert 'ML_BLOCK_LOCAL_IP=false' in served.log.read_text()
    finally:
        served.kill()


def test_either_kind_of_key(studio):
    "A legacy token, and a personal access token, which is exchanged; a wrong one is said in a line"
    from imbal_al.core import InputError
    from imbal_al.live.studio import ask as asked, Studio

    both = dict(api_tokens_enabled=True, legacy_api_tokens_enabled=True, api_token_ttl_days=30)
    ask(studio, '/api/jwt/settings', both)
    personal = json.loads(ask(studio, '/api/token/', {}))['token']
    assert personal.count('.') == 2
    got = [asked(Studio(studio, key), '/api/projects')['count'] for key in (TOKEN, personal)]
    assert got[0] == got[1]
    for wrong in ('wrong', personal[:-3] + 'abc'):
        with pytest.raises(InputError, match='answers 401.*--key'):
            asked(Studio(studio, wrong), '/api/projects')


def clicked(task, x, y, **more):
    """What Label Studio 1.23.2's page sends once a smart key point is placed

    `{task, context: {result: regions}}`, from its main.js; a region's place is in percent, as its KeyPointRegionModel
    serializes it."""
    region = dict(
        original_width=64,
        original_height=48,
        image_rotation=0,
        value=dict(x=x, y=y, width=0.5, keypointlabels=['defect (click)'], labels=['defect (click)']),
        id='Kp2x_0aBcD',
        from_name='click',
        to_name='image',
        type='keypointlabels',
        origin='manual',
        is_positive=True,
    )
    return dict(task=task['id'], context=dict(result=[dict(region, **more)]))


def test_a_click_in_label_studio_is_answered_by_a_mask(studio, tmp_path):
    "Through its own route for smart tools: a brush mask of the square that was clicked, and nothing is kept"
    p, square = square_project(tmp_path, 4, (48, 64), window=64)
    served = Served(p.dir, studio, free_port(), '--every', '50', '--budget', '4')
    try:
        number = until(lambda: studio_number(p), 'a project in Label Studio', served)
        until(lambda: len(all_tasks(studio, number)) == 4, 'tasks', served)
        [model] = until(lambda: json.loads(ask(studio, f'/api/ml?project={number}')), 'the model is connected', served)
        assert model['is_interactive']
        route, task = f"/api/ml/{model['id']}/interactive-annotating", all_tasks(studio, number)[0]
        found = json.loads(ask(studio, route, clicked(task, x=100 * 24.5 / 64, y=100 * 12.5 / 48)))
        [suggestion] = found['data']['result']
        mask = decode_brush(suggestion['value']['rle'], (48, 64))
        assert suggestion['type'] == 'brushlabels' and mask[12, 24]
        assert (mask.astype(bool) != square).sum() <= 4, 'the square, but for its corners'
        no_click = ask(studio, route, clicked(task, x=5, y=5, is_positive=False))
        assert json.loads(no_click)['data']['result'] == [], 'beside a defect alone says nothing'
        assert 'give a positive one' in served.log.read_text()
        assert len(labels(p)) == 0 and json.loads(ask(studio, f"/api/tasks/{task['id']}/annotations")) == []
    finally:
        served.kill()
