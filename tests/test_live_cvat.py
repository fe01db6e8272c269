"""`imbal-al serve --cvat`: what is sent, fetched and noted, against a CVAT that is played (tests/played_cvat.py)

A real CVAT needs Docker and was not to be had: cvat-sdk makes the requests and checks the answers."""

import socket
import time

import numpy as np
import pytest
import quick
from PIL import Image

pytest.importorskip('cvat_sdk', reason='pip install cvat-sdk')

from cvat_sdk.core.proxies.tasks import Task

from imbal_al.core import InputError
from imbal_al.live import cvat
from imbal_al.live.commands import _check_installed, _desk_of, _Where
from imbal_al.live.cvat import Cvat
from imbal_al.live.desk import units_out
from imbal_al.live.server import make_live
from imbal_al.live.studio import Studio
from imbal_al.live.trainer import Plan
from imbal_al.project.labelled import labels, read_mask, write_label
from imbal_al.project.queue import write_queue
from imbal_al.project.rounds import next_round
from imbal_al.project.state import is_held_out, read_picks, rounds, rounds_with_model, waiting
from imbal_al.project.store import open_project
from imbal_al.project.taken import ingest
from imbal_al.project.units import file_name
from played_cvat import TOKEN, played_cvat, rounds_of
from small import leaves_project

NONE = dict(tag='no defect')


@pytest.fixture
def server():
    with played_cvat() as played:
        yield played


@pytest.fixture
def parts(tmp_path):
    "(project of 24 pictures, id -> mask)"
    return leaves_project(tmp_path, 24, 32, steps=2, held_out=0.4)


def desk(server, p, number=0):
    made = Cvat(Studio(server.url, TOKEN, number))
    assert made.connect(p, '', '') == []
    return made


def sent(server, p, budget=7):
    "A round in CVAT: (desk, task, ids in its order)"
    made = next_round(p, budget, device='cpu')
    one = desk(server, p)
    assert one.send(p) == 1
    (task,) = rounds_of(server)[made.folder.name]
    return one, task, [pick['id'] for pick in made.picks]


def fetched(one, p):
    "Lines that are said"
    lines = []
    one.fetch(p, lines.append)
    return lines


def annotate(server, task, ids, truth):
    "Draw every picture of a task as it should be; complete its jobs"
    for job in server.jobs_of(task['id']):
        for frame in range(job['start_frame'], job['stop_frame'] + 1):
            mask = truth(ids[frame])
            server.draw(job['id'], frame, **(dict(mask=mask) if mask.any() else NONE))
        server.set_state(job['id'], 'completed')


def test_a_queue_is_a_task_in_the_order_of_its_strategy(server, parts):
    p, _ = parts
    one, task, ids = sent(server, p)
    assert [name for name, _, _ in task['frames']] == [f'{file_name(p.row[id])}.png' for id in ids]
    assert [(j['start_frame'], j['stop_frame']) for j in server.jobs_of(task['id'])] == [(0, 4), (5, 6)]
    assert task['overlap'] == 0 and task['quality'] == 100, 'no picture is in two jobs, none is shown worse'
    (project,) = server.projects.values()
    assert [(label['name'], label['type']) for label in project['labels']] == [('defect', 'any'), ('no defect', 'tag')]
    assert one.send(p) == 0 and desk(server, p).send(p) == 0 and len(server.projects) == 1
    asked = len(server.log)
    assert one.send(p) == 0
    assert {path for _, path in server.log[asked:]} == {'/api/tasks'}, 'nothing is asked about a task that was sent'


@pytest.mark.parametrize('gone', [[2], [0, 1, 2]])
def test_a_picture_that_is_gone_from_the_queue_is_left_out(server, parts, gone):
    "A task of the others; none where none is left"
    p, _ = parts
    made = next_round(p, 3, device='cpu')
    names = [f"{file_name(p.row[pick['id']])}.png" for pick in made.picks]
    for at in gone:
        (made.queue / 'images' / names[at]).unlink()
    left = [name for at, name in enumerate(names) if at not in gone]
    assert desk(server, p).send(p) == bool(left)
    assert [[name for name, _, _ in task['frames']] for task in server.tasks.values()] == [left] * bool(left)


def test_masks_and_tags_come_back_to_the_pixel(server, parts):
    p, truth = parts
    one, task, ids = sent(server, p)
    annotate(server, task, ids, truth)
    assert fetched(one, p) == []
    assert set(labels(p)['id']) == set(ids) and any(truth(id).any() for id in ids)
    assert all((read_mask(p, id) == truth(id)).all() for id in ids)
    assert {id for id in ids if not truth(id).any()} == set(labels(p)['id'][~labels(p)['faulty'].astype(bool)])
    before = labels(p)
    for again in (one, desk(server, p)):
        exports = len(server.log)
        assert fetched(again, p) == []
        assert not any('dataset/export' in path for _, path in server.log[exports:])
    (p.dir / 'live/cvat.json').unlink()
    assert fetched(desk(server, p), p) == [] and labels(p).equals(before)


def test_a_polygon_comes_back_to_the_pixel(server, parts):
    "Its corners lie on the borders of pixels, so that there is one right answer"
    p, _ = parts
    one, task, ids = sent(server, p)
    first = server.jobs_of(task['id'])[0]['id']
    stairs = [(4, 3), (20, 3), (20, 9), (12, 9), (12, 15), (4, 15)]
    mask = np.zeros((32, 32), bool)
    mask[3:9, 4:20] = mask[9:15, 4:12] = True
    server.draw(first, 2, polygon=stairs)
    server.set_state(first, 'completed')
    fetched(one, p)
    assert labels(p)['id'].tolist() == [ids[2]] and (read_mask(p, ids[2]).astype(bool) == mask).all()


@pytest.mark.parametrize('state', ['new', 'in progress', 'rejected'])
def test_jobs_that_are_not_completed_are_left_alone(server, parts, state):
    p, truth = parts
    one, task, ids = sent(server, p)
    annotate(server, task, ids, truth)
    first, second = [job['id'] for job in server.jobs_of(task['id'])]
    server.set_state(second, state)
    fetched(one, p)
    assert set(labels(p)['id']) == set(ids[:5])


def test_a_picture_with_nothing_on_it_is_asked_about(server, parts):
    p, truth = parts
    one, task, ids = sent(server, p)
    job = server.jobs_of(task['id'])[1]['id']
    server.draw(job, 5, **NONE)
    server.set_state(job, 'completed')
    lines = fetched(one, p)
    assert labels(p)['id'].tolist() == [ids[5]]
    assert len(lines) == 1 and p.row[ids[6]]['name'] in lines[0] and 'mark that it has no defect' in lines[0]
    server.draw(job, 6, **NONE)
    assert fetched(one, p) == [] and set(labels(p)['id']) == set(ids[5:])


def test_what_is_drawn_anew_is_a_new_version(server, parts):
    p, truth = parts
    one, task, ids = sent(server, p)
    annotate(server, task, ids, truth)
    fetched(one, p)
    job = server.jobs_of(task['id'])[1]['id']
    other = np.zeros((32, 32), bool)
    other[1:4, 2:9] = True
    server.draw(job, 6, mask=other)
    lines = fetched(one, p)
    assert (read_mask(p, ids[6]).astype(bool) == other).all() and any('become 21' in line for line in lines)
    assert all((read_mask(p, id) == truth(id)).all() for id in ids[:6])


def test_a_job_that_only_changes_hands_takes_nothing_back(server, parts):
    "What was said on the page since stays"
    p, truth = parts
    one, task, ids = sent(server, p)
    annotate(server, task, ids, truth)
    fetched(one, p)
    said = np.zeros((32, 32), np.uint8)
    said[20:23, 20:23] = 1
    write_label(p, ids[0], said, 'the page', '2026-03-02T00:00:00Z')
    first, second = [job['id'] for job in server.jobs_of(task['id'])]
    server.clock = server.clock.replace(month=4)
    server.set_state(first, 'completed', 'bob')
    server.draw(second, 6, **NONE)
    fetched(one, p)
    assert (read_mask(p, ids[0]) == said).all() and read_mask(p, ids[6]).sum() == 0


def test_two_annotators_who_differ_are_refused_until_they_agree(server, parts):
    p, truth = parts
    server.replicas = 2
    one, task, ids = sent(server, p)
    annotate(server, task, ids, truth)
    for job in server.jobs_of(task['id']):
        if job['type'] == 'annotation':
            server.set_state(job['id'], 'new')
    ann, bob = [job['id'] for job in server.jobs_of(task['id']) if job['type'] == 'replica'][:2]
    server.set_state(ann, 'completed', 'ann')
    server.set_state(bob, 'completed', 'bob')
    mask = np.zeros((32, 32), bool)
    mask[1:3, 1:4] = True
    server.draw(bob, 1, mask=mask)
    server.draw(ann, 1, mask=mask[::-1])
    lines = fetched(one, p)
    assert set(labels(p)['id']) == set(ids) - {ids[1]}
    assert any('from several annotators' in line and 'ann: 6 px' in line and 'bob: 6 px' in line for line in lines)
    assert fetched(one, p) == [], 'it is said once'
    server.draw(ann, 1, mask=mask)
    assert fetched(one, p) == [] and (read_mask(p, ids[1]).astype(bool) == mask).all()


def test_a_difference_is_not_said_again_when_a_job_only_changes_hands(server, parts):
    "Neither alone, nor beside news of another job"
    p, truth = parts
    server.replicas = 2
    one, task, ids = sent(server, p)
    jobs = [job['id'] for job in server.jobs_of(task['id']) if job['type'] == 'replica']
    mask = np.zeros((32, 32), bool)
    mask[1:3, 1:4] = True
    for job, by in zip(jobs[:2], ('ann', 'bob')):
        for frame in range(5):
            server.draw(job, frame, mask=mask if frame or by == 'ann' else mask[::-1])
        server.set_state(job, 'completed', by)
    assert any('ann: 6 px' in line for line in fetched(one, p)) and len(labels(p)) == 4
    server.set_state(jobs[0], 'completed', 'cy')
    assert fetched(one, p) == []
    server.set_state(jobs[0], 'completed', 'ann')
    for job in jobs[2:]:
        for frame in (5, 6):
            server.draw(job, frame, mask=mask)
        server.set_state(job, 'completed')
    assert fetched(one, p) == [] and set(labels(p)['id']) == set(ids[1:])


def test_one_of_two_who_agreed_draws_something_else(server, parts):
    "What the other one had drawn counts against it, though only one job was changed"
    p, truth = parts
    server.replicas = 2
    one, task, ids = sent(server, p, 4)
    jobs = [job['id'] for job in server.jobs_of(task['id']) if job['type'] == 'replica']
    mask = np.zeros((32, 32), bool)
    mask[1:3, 1:4] = True
    for job, by in zip(jobs, ('ann', 'bob')):
        for frame in range(4):
            server.draw(job, frame, mask=mask)
        server.set_state(job, 'completed', by)
    assert fetched(one, p) == [] and len(labels(p)) == 4
    server.draw(jobs[1], 1, mask=mask[::-1])
    lines = fetched(one, p)
    assert any('ann: 6 px' in line and 'bob: 6 px' in line for line in lines), lines
    assert (read_mask(p, ids[1]).astype(bool) == mask).all()


def test_a_job_of_the_ground_truth_is_no_label(server, parts):
    "CVAT keeps it apart to judge annotators; its pictures are also in their jobs, and may be all of a task's"
    p, truth = parts
    one, task, ids = sent(server, p, 7)
    annotate(server, task, ids, truth)
    for first, last in ((0, 6), (0, 4)):
        judge = server.new_job(task, first, last, 'ground_truth', None)
        for frame in range(first, last + 1):
            server.draw(judge, frame, mask=np.ones((32, 32), bool))
        server.set_state(judge, 'completed', 'the.boss')
    assert fetched(one, p) == []
    assert all((read_mask(p, id) == truth(id)).all() for id in ids)


def test_the_remedy_for_two_who_differ_works(server, parts):
    "The file that the server laid together, with --on-conflict"
    p, truth = parts
    server.replicas = 2
    one, task, ids = sent(server, p)
    jobs = [job['id'] for job in server.jobs_of(task['id']) if job['type'] == 'replica'][:2]
    masks = np.zeros((2, 32, 32), bool)
    masks[0, 2:5, 2:5] = masks[1, 8:10, 8:10] = True
    for job, mask, by in zip(jobs, masks, ('ann', 'bob')):
        for frame in range(5):
            server.draw(job, frame, mask=mask)
        server.set_state(job, 'completed', by)
    fetched(one, p)
    assert len(labels(p)) == 0
    ingest(p, p.dir / 'live/cvat.xml', on_conflict='last')
    assert all((read_mask(p, id).astype(bool) == masks[1]).all() for id in ids[:5])


def test_what_replicas_were_merged_to_counts(server, parts):
    p, truth = parts
    server.replicas = 2
    one, task, ids = sent(server, p, 4)
    for job in server.jobs_of(task['id']):
        mask = np.zeros((32, 32), bool)
        mask[2:4, 2 : 4 + job['id'] % 7] = True
        for frame in range(4):
            server.draw(job['id'], frame, mask=mask)
        server.set_state(job['id'], 'completed')
    parent = next(job['id'] for job in server.jobs_of(task['id']) if job['type'] == 'annotation')
    assert fetched(one, p) == []
    assert all((read_mask(p, id).astype(bool) == server.mask_of(parent, i)).all() for i, id in enumerate(ids))


# Predictions


@pytest.fixture
def trained(parts):
    "A project whose queue has predictions, as a network might have made them: a bar each, of another length"
    p, truth = parts
    made = next_round(p, 8, device='cpu')
    picks = read_picks(made.folder)

    def probability(id):
        prob = np.full((32, 32), 0.1)
        prob[3:6, : 5 + [pick['id'] for pick in picks].index(id)] = 0.9
        return prob

    (made.queue / 'done.json').unlink()
    assert write_queue(p, made.queue, picks, probability) == []
    return p, truth, made


def predicted(made, p, id):
    path = made.queue / 'predictions' / f'{file_name(p.row[id])}.png'
    return np.asarray(Image.open(path)) > 0 if path.exists() else np.zeros((32, 32), bool)


def shown(server, made, p):
    "Does each picture of a round's task show its predicted mask?"
    (task,) = rounds_of(server)[made.folder.name]
    for job in server.jobs_of(task['id']):
        for frame in range(job['start_frame'], job['stop_frame'] + 1):
            id = task['frames'][frame][0].rsplit('-', 1)[1].removesuffix('.png')
            found = server.mask_of(job['id'], frame)
            assert (found == predicted(made, p, id)).all()
            assert not (is_held_out(p, p.row[id]['image']) and found.any())
    return sum(bool(job['shapes']) for job in server.jobs_of(task['id']))


def test_predictions_are_in_the_task_but_not_of_units_that_are_tested_on(server, trained):
    p, _, made = trained
    ids = [pick['id'] for pick in made.picks]
    assert any(is_held_out(p, p.row[id]['image']) for id in ids)
    assert any(predicted(made, p, id).any() for id in ids)
    desk(server, p).send(p)
    assert shown(server, made, p)


def test_units_that_have_a_label_by_now_are_left_out(server, trained):
    "Also of the predictions: CVAT refuses a file with an image that is not in the task"
    p, truth, made = trained
    gone = made.picks[0]['id']
    write_label(p, gone, truth(gone), 'a test', '')
    desk(server, p).send(p)
    (task,) = rounds_of(server)[made.folder.name]
    assert len(task['frames']) == 7 and gone not in str(task['frames']) and shown(server, made, p)


def test_a_task_that_is_made_again_has_its_predictions_again(server, trained):
    p, _, made = trained
    one = desk(server, p)
    one.send(p)
    server.tasks.clear()
    server.jobs.clear()
    assert one.send(p) == 1 and shown(server, made, p)


def test_what_is_noted_of_one_server_says_nothing_of_another(server, trained):
    "Both count from 1, so numbers of projects, tasks and jobs are the same there"
    p, _, made = trained
    assert desk(server, p).send(p) == 1 and shown(server, made, p)
    with played_cvat() as other:
        assert desk(other, p).send(p) == 1
        assert list(other.tasks) == list(server.tasks) and shown(other, made, p)


def killed(*given, **more):
    raise KeyboardInterrupt


@pytest.mark.parametrize('at', ['project', 'pictures', 'predictions', 'note'])
def test_killed_between_two_steps_nothing_is_made_twice(server, trained, monkeypatch, at):
    p, _, made = trained
    place = dict(
        project=(cvat, 'write_json'),
        pictures=(Task, 'upload_data'),
        predictions=(cvat, '_predict'),
        note=(cvat, 'write_json'),
    )[at]
    one = Cvat(Studio(server.url, TOKEN))
    if at != 'project':
        one.connect(p, '', '')
    with monkeypatch.context() as m:
        m.setattr(*place, killed)
        with pytest.raises(KeyboardInterrupt):
            one.connect(p, '', '') if at == 'project' else one.send(p)
    tasks = len(server.tasks)
    assert tasks == (0 if at == 'project' else 1)
    desk(server, p).send(p)
    assert len(server.tasks) == 1 and len(server.projects) == 1
    (task,) = server.tasks.values()
    assert len(task['frames']) == 8 and shown(server, made, p)


@pytest.mark.parametrize('how', ['drawn', 'begun', 'healthy', 'track'])
def test_predictions_that_come_late_replace_nothing(server, trained, monkeypatch, how):
    "The server was killed before it sent them, and somebody has begun since"
    p, _, made = trained
    with monkeypatch.context() as m:
        m.setattr(cvat, '_predict', killed)
        with pytest.raises(KeyboardInterrupt):
            desk(server, p).send(p)
    (task,) = server.tasks.values()
    first = server.jobs_of(task['id'])[0]['id']
    mask = np.zeros((32, 32), bool)
    mask[5, 5] = True
    if how == 'begun':
        server.set_state(first, 'in progress')
    else:
        server.draw(first, 0, **dict(drawn=dict(mask=mask), healthy=NONE, track=dict(track=True))[how])
    desk(server, p).send(p)
    assert (server.mask_of(first, 0) == (mask if how == 'drawn' else False)).all()
    assert not server.mask_of(first, 1).any() and len(server.tasks) == 1


def test_killed_before_it_is_noted_a_label_is_taken_once(server, parts, monkeypatch):
    p, truth = parts
    one, task, ids = sent(server, p)
    annotate(server, task, ids, truth)
    with monkeypatch.context() as m:
        m.setattr(cvat, 'take_export', killed)
        with pytest.raises(KeyboardInterrupt):
            one.fetch(p, print)
    assert len(labels(p)) == 0
    again = desk(server, p)
    with monkeypatch.context() as m:
        m.setattr(cvat, 'write_json', killed)
        with pytest.raises(KeyboardInterrupt):
            again.fetch(p, print)
    assert len(labels(p)) == len(ids)
    before = labels(p)
    assert fetched(desk(server, p), p) == [] and labels(p).equals(before)


def test_a_prediction_that_was_taken_away_stays_away(server, trained):
    "It was sent once; a job in which nothing is drawn, and which nobody has opened, gets it no second time"
    p, _, made = trained
    one = desk(server, p)
    one.send(p)
    (task,) = server.tasks.values()
    for job in server.jobs_of(task['id']):
        for frame in range(job['start_frame'], job['stop_frame'] + 1):
            server.draw(job['id'], frame)
    for again in (one, desk(server, p)):
        assert again.send(p) == 0
        assert not any(
            server.mask_of(job['id'], frame).any()
            for job in server.jobs_of(task['id'])
            for frame in range(job['start_frame'], job['stop_frame'] + 1)
        )


# The server


def test_the_cheap_question_sees_every_change_and_no_other(server, parts):
    "One job more, the first one drawn again, the last one drawn again; not a job that is not completed"
    p, truth = parts
    one, task, ids = sent(server, p)
    first, second = [job['id'] for job in server.jobs_of(task['id'])]
    seen = [one.counts()]
    for job, frame in ((first, 0), (second, 5)):
        server.draw(job, frame, **NONE)
        assert one.counts() == seen[-1]
        server.set_state(job, 'completed')
        seen.append(one.counts())
    for job, frame in ((first, 0), (second, 6), (second, 6)):
        server.draw(job, frame, **NONE)
        seen.append(one.counts())
    server.set_state(first, 'in progress')
    seen.append(one.counts())
    assert len(set(seen)) == len(seen), seen
    server.create('projects', dict(name='theirs', labels=[dict(name='defect', type='any')]))
    server.create('tasks', dict(name='theirs', project_id=max(server.projects), segment_size=5))
    job = server.new_job(server.tasks[max(server.tasks)], 0, 0, 'annotation', None)
    server.set_state(job, 'completed')
    assert one.counts() == seen[-1]


def test_what_is_drawn_again_in_a_completed_job_comes_with_the_next_look(server, parts):
    p, truth = parts
    live = make_live(p.dir, Plan(every=50, budget=12), desk=Cvat(Studio(server.url, TOKEN)))
    assert live.trainer.look(), live.trainer.doing.error
    (task,) = server.tasks.values()
    ids = [pick['id'] for pick in read_picks(rounds(p)[0])]
    annotate(server, task, ids, truth)
    live.trainer.look()
    other = np.zeros((32, 32), bool)
    other[1:4, 2:9] = True
    server.draw(server.jobs_of(task['id'])[-1]['id'], 11, mask=other)
    live.trainer.look()
    assert (read_mask(p, ids[11]).astype(bool) == other).all()


def test_another_round_that_is_completed_takes_nothing_back(server, parts):
    "Jobs of two tasks have the same frames; what was said on the page of a picture of the first stays"
    p, truth = parts
    one, task, ids = sent(server, p, 4)
    annotate(server, task, ids, truth)
    assert fetched(one, p) == []
    said = np.zeros((32, 32), np.uint8)
    said[20:23, 20:23] = 1
    write_label(p, ids[0], said, 'the page', '2026-03-02T00:00:00Z')
    server.clock = server.clock.replace(month=4)
    made = next_round(p, 4, device='cpu')
    assert one.send(p) == 1
    (again,) = rounds_of(server)[made.folder.name]
    asked = len(server.log)
    annotate(server, again, [pick['id'] for pick in made.picks], truth)
    assert fetched(one, p) == []
    assert sum('dataset/export' in path for _, path in server.log[asked:]) == 1
    assert (read_mask(p, ids[0]) == said).all() and len(labels(p)) == 8


def test_cvat_and_the_server_go_round_together(server, parts):
    "Queue, labels, network, next queue; what changes is asked for by one cheap question"
    p, truth = parts
    live = make_live(p.dir, Plan(every=6, budget=12), desk=Cvat(Studio(server.url, TOKEN)))
    assert live.trainer.look(), live.trainer.doing.error
    (first,) = rounds(p)
    (task,) = rounds_of(server)[first.name]
    ids = [pick['id'] for pick in read_picks(first)]
    assert not live.trainer.look() and not labels(p)['id'].tolist()
    asked = len(server.log)
    assert not live.trainer.look() and {path for _, path in server.log[asked:]} == {'/api/jobs'}
    annotate(server, task, ids, truth)
    assert live.trainer.look(), live.trainer.doing.error
    assert len(rounds_with_model(p)) == 1 and len(labels(p)) == 12
    assert all((read_mask(p, id) == truth(id)).all() for id in ids)
    second = rounds(p)[1]
    (task,) = rounds_of(server)[second.name]
    assert len(task['frames']) == len(waiting(open_project(p.dir))) and len(server.tasks) == 2
    again = make_live(p.dir, Plan(every=6, budget=12), desk=Cvat(Studio(server.url, TOKEN)))
    assert not again.trainer.look() and len(server.tasks) == 2


def test_a_task_that_was_removed_there_is_made_again(server, parts):
    p, _ = parts
    one, task, _ = sent(server, p)
    server.tasks.clear()
    server.jobs.clear()
    assert one.send(p) == 1 and len(server.tasks) == 1


def test_tasks_of_others_in_the_same_project_are_left_alone(server, parts, tmp_path):
    p, truth = parts
    one, task, ids = sent(server, p)
    annotate(server, task, ids, truth)
    task['name'] = 'mine'
    assert fetched(one, p) == [] and len(labels(p)) == 0


def test_a_task_that_was_renamed_is_still_ours(server, parts):
    "What somebody writes around the mark makes no second task, and its labels come"
    p, truth = parts
    one, task, ids = sent(server, p)
    task['name'] += ', for Ann'
    assert one.send(p) == 0 and len(server.tasks) == 1
    annotate(server, task, ids, truth)
    assert fetched(one, p) == [] and set(labels(p)['id']) == set(ids)


def test_a_task_that_was_restored_from_a_backup_hides_no_labels(server, parts):
    "Two tasks with one mark: the labels of the first come, too"
    p, truth = parts
    one, task, ids = sent(server, p)
    annotate(server, task, ids, truth)
    number = next(server.numbers)
    server.tasks[number] = dict(task, id=number)
    assert one.send(p) == 0 and fetched(one, p) == [] and len(labels(p)) == len(ids)


def test_two_projects_of_ours_in_one_of_theirs(server, parts, tmp_path):
    "Each gets the labels of its own tasks"
    p, truth = parts
    one, task, ids = sent(server, p)
    (tmp_path / 'other').mkdir()
    q, their = leaves_project(tmp_path / 'other', 24, 32, steps=2, held_out=0.4)
    made = next_round(q, 7, device='cpu')
    two = desk(server, q, task['project_id'])
    assert two.send(q) == 1 and len(server.projects) == 1 and p.id != q.id
    theirs = max(server.tasks.values(), key=lambda one: one['id'])
    annotate(server, theirs, [pick['id'] for pick in made.picks], their)
    asked = len(server.log)
    assert fetched(one, p) == [] and len(labels(p)) == 0
    assert not any('dataset/export' in path for _, path in server.log[asked:])
    assert fetched(two, q) == [] and len(labels(q)) == 7


@pytest.mark.slow
def test_the_command_killed_and_given_again(server, parts, tmp_path):
    "`imbal-al serve --cvat` in a process of its own: SIGKILL once tasks are there, labels come to the next one"
    p, truth = parts
    words = ['serve', str(p.dir), '--cvat', server.url, '--key', TOKEN, '--every', '50', '--budget', '7']
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        words += ['--port', str(s.getsockname()[1])]

    def served(until, what):
        run = quick.Program('-c', 'from imbal_al.cli import main; main()', *words)
        try:
            for _ in range(2400):
                if until():
                    return
                assert run.poll() is None, run.communicate()
                time.sleep(0.05)
            pytest.fail(f'{what} not in two minutes')
        finally:
            run.kill()
            run.wait()

    served(lambda: server.jobs, 'a task')
    (task,) = server.tasks.values()
    ids = [id for _, out in units_out(p) for id in out]
    annotate(server, task, ids, truth)
    served(lambda: len(labels(p)) == 7, 'labels')
    assert len(server.tasks) == 1 and len(server.projects) == 1
    assert all((read_mask(p, id) == truth(id)).all() for id in ids)


# What goes wrong is one line


def refused(match, act):
    with pytest.raises(InputError, match=match) as e:
        act()
    assert '\n' not in str(e.value)


def test_a_wrong_token(server, parts):
    wrong = Cvat(Studio(server.url, 'wrong'))
    refused('answers 401: .*Invalid token.*--key', lambda: wrong.connect(parts[0], '', ''))


def test_no_server(parts):
    gone = Cvat(Studio('http://127.0.0.1:9', TOKEN))
    refused('does not answer.*is CVAT running', lambda: gone.connect(parts[0], '', ''))


def test_a_server_that_goes_away_stops_nothing(parts):
    p, truth = parts
    with played_cvat() as server:
        live = make_live(p.dir, Plan(every=6, budget=12), desk=Cvat(Studio(server.url, TOKEN)))
        assert live.trainer.look()
    assert not live.trainer.look() and 'does not answer' in live.trainer.doing.error


def test_a_server_that_is_no_cvat(parts, monkeypatch):
    import played_cvat as room

    monkeypatch.setattr(room.Played, 'get', lambda *a: (200, b'<html>hello</html>'))
    with played_cvat() as server:
        refused('answers what cvat-sdk', lambda: Cvat(Studio(server.url, TOKEN)).connect(parts[0], '', ''))


def test_a_project_that_is_not_there_or_has_no_such_label(server, parts):
    p, _ = parts
    refused('has no project 7; its projects are', lambda: desk(server, p, 7))
    server.create('projects', dict(name='theirs', labels=[dict(name='defect', type='polygon')]))
    (number,) = server.projects
    refused("no label 'defect' and no label 'no defect' of the right type", lambda: desk(server, p, number))
    server.projects[number]['labels'] = [dict(name='defect', type='mask'), dict(name='no defect', type='tag')]
    next_round(p, 3, device='cpu')
    assert desk(server, p, number).send(p) == 1
    (task,) = server.tasks.values()
    assert task['project_id'] == number and len(server.projects) == 1


def test_the_project_that_was_given_last_is_taken_again(server, parts):
    p, _ = parts
    own = desk(server, p).there.project.id
    server.create('projects', dict(name='theirs', labels=[dict(name=n, type='any') for n in ('defect', 'no defect')]))
    given = max(server.projects)
    assert desk(server, p, given).there.project.id == given != own
    assert desk(server, p).there.project.id == given
    assert desk(server, p, own).there.project.id == own


def test_a_project_that_was_set_aside_under_another_name_is_not_taken(server, parts):
    p, _ = parts
    labels_there = [dict(name=name, type='any') for name in ('defect', 'no defect')]
    server.create('projects', dict(name=f'parts (imbal_al {p.id}) of March', labels=labels_there))
    (aside,) = server.projects
    assert desk(server, p).there.project.id != aside and len(server.projects) == 2


def test_a_project_of_an_organization_is_asked_in_its_name(server, parts):
    p, _ = parts
    server.create('projects', dict(name='theirs', labels=[dict(name=n, type='any') for n in ('defect', 'no defect')]))
    (number,) = server.projects
    server.projects[number]['organization'] = 5
    server.organizations[5] = 'acme'
    one = desk(server, p, number)
    assert one.there.client.organization_slug == 'acme'


def test_what_cvat_could_not_do(server, parts, monkeypatch):
    "The task without pictures that it leaves is made again"
    p, _ = parts
    next_round(p, 3, device='cpu')
    one, data = desk(server, p), server.data

    def failing(task, headers, body):
        if 'Upload-Finish' in headers:
            return server.request('create', failed='no space\nleft')
        return data(task, headers, body)

    with monkeypatch.context() as m:
        m.setattr(server, 'data', failing)
        refused('could not do what it was asked: no space left', lambda: one.send(p))
    assert one.send(p) == 1
    assert [len(task['frames']) for task in server.tasks.values()] == [3]


def test_the_sdk_is_asked_for_in_one_line(monkeypatch):
    "With a remedy that works: the name is that of the package on PyPI"
    with pytest.raises(InputError, match='pip install no-such-package'):
        _check_installed(['starlette', 'no-such-package'])
    _check_installed(['cvat-sdk'])


def test_a_key_of_another_tool_is_not_given_away(monkeypatch):
    monkeypatch.setenv('LABEL_STUDIO_API_KEY', 'of label studio')
    monkeypatch.delenv('CVAT_ACCESS_TOKEN', raising=False)
    refused('--cvat needs --key', lambda: _desk_of(_Where(cvat='http://127.0.0.1:1')))
    assert _desk_of(_Where()) is None, 'a variable alone asks for nothing'
    monkeypatch.setenv('CVAT_ACCESS_TOKEN', 'of cvat')
    assert _desk_of(_Where(cvat='http://127.0.0.1:1')).studio.key == 'of cvat'
    assert _desk_of(_Where(label_studio='http://127.0.0.1:1')).studio.key == 'of label studio'
