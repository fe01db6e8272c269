"""A CVAT that is played: the REST routes that cvat-sdk asks in *CVAT by its SDK*, on loopback

Nothing of imbal_al is used here. cvat-sdk checks every answer against CVAT's OpenAPI, masks are encoded and
decoded by `cvat_sdk.masks`, and a job is exported as CVAT's source does (`dump_as_cvat_annotation`): all frames of
the job, shapes with their run lengths or points, no predictions apart.
"""

import io
import json
import re
import xml.etree.ElementTree as ET
import zipfile
from base64 import b64decode
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from threading import Lock, Thread
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from cvat_sdk.masks import decode_mask, encode_mask
from cvat_sdk.version import VERSION
from PIL import Image

TOKEN = 'an-access-token'
USER = dict(username='owner', id=1, url='http://c/api/users/1', first_name='', last_name='')


class Refused(Exception):
    "(status, words)"


class Played:
    "What the server holds. Whoever annotates calls `draw` and `set_state`"

    def __init__(self):
        self.lock, self.numbers, self.url, self.gone = Lock(), count(1), '', False
        self.projects, self.tasks, self.jobs, self.requests, self.uploads = {}, {}, {}, {}, {}
        self.log = []  # (method, path) of every request
        self.replicas = 0  # Of each job, in tasks that are made from now on
        self.organizations = {}
        self.clock = datetime(2026, 3, 1, tzinfo=timezone.utc)

    # What an annotator does

    def now(self):
        self.clock += timedelta(seconds=1)
        return self.clock.isoformat()

    def draw(self, job, frame, mask=None, polygon=None, tag=None, track=False):
        "Replace what is on a frame: a mask (h,w), a polygon [(x, y)], a tag, or a track that begins there"
        shapes = self.jobs[job]['shapes']
        shapes[frame] = []
        if mask is not None and np.any(mask):
            shapes[frame].append(('mask', encode_mask(np.asarray(mask, bool))))
        if polygon is not None:
            shapes[frame].append(('polygon', polygon))
        if tag is not None:
            shapes[frame].append(('tag', tag))
        if track:
            shapes[frame].append(('track', ()))
        self.jobs[job]['updated_date'] = self.now()

    def set_state(self, job, state, assignee=None):
        one = self.jobs[job]
        one.update(state=state, updated_date=self.now())
        if assignee:
            one['assignee'] = dict(USER, username=assignee)

    def jobs_of(self, task):
        return sorted((one for one in self.jobs.values() if one['task_id'] == task), key=lambda one: one['id'])

    def mask_of(self, job, frame):
        "bool (h,w) of the masks on a frame"
        one = self.jobs[job]
        _, w, h = self.tasks[one['task_id']]['frames'][frame]
        out = np.zeros((h, w), bool)
        for kind, points in one['shapes'].get(frame, []):
            if kind == 'mask':
                out |= decode_mask(points, image_width=w, image_height=h)
        return out

    # Answers

    def storage(self):
        return dict(id=1, location='local', cloud_storage_id=None)

    def project(self, one):
        return dict(
            id=one['id'],
            url=f"{self.url}/api/projects/{one['id']}",
            name=one['name'],
            owner=USER,
            assignee=None,
            tasks=dict(count=0, url='http://c'),
            labels=dict(url='http://c'),
            task_subsets=[],
            created_date=one['created'],
            updated_date=one['created'],
            status='annotation',
            dimension='2d',
            organization=one['organization'],
            organization_id=one['organization'],
            target_storage=None,
            source_storage=None,
        )

    def task(self, one):
        jobs = self.jobs_of(one['id'])
        return dict(
            id=one['id'],
            url=f"{self.url}/api/tasks/{one['id']}",
            name=one['name'],
            project_id=one['project_id'],
            owner=USER,
            assignee=None,
            bug_tracker='',
            created_date=one['created'],
            updated_date=one['created'],
            overlap=0,
            segment_size=one['segment_size'],
            status='annotation',
            size=len(one['frames']),
            jobs=dict(
                count=len(jobs),
                completed=sum(job['state'] == 'completed' for job in jobs),
                validation=0,
                url='http://c',
            ),
            labels=dict(url='http://c'),
            organization=self.projects[one['project_id']]['organization'],
            target_storage=None,
            source_storage=None,
        )

    def job(self, one):
        task = self.tasks[one['task_id']]
        return dict(
            id=one['id'],
            url=f"{self.url}/api/jobs/{one['id']}",
            task_id=task['id'],
            task_name=task['name'],
            project_id=task['project_id'],
            assignee=one['assignee'],
            dimension='2d',
            mode='annotation',
            status='annotation',
            stage='annotation',
            state=one['state'],
            type=one['type'],
            frame_count=one['stop_frame'] - one['start_frame'] + 1,
            start_frame=one['start_frame'],
            stop_frame=one['stop_frame'],
            created_date=task['created'],
            updated_date=one['updated_date'],
            issues=dict(count=0, url='http://c'),
            labels=dict(url='http://c'),
            organization=None,
            target_storage=None,
            source_storage=None,
            parent_job_id=one['parent'],
        )

    def request(self, kind, task=None, job=None, result=None, failed=''):
        "A background request that is done at once; its answer on being started"
        rq = f'action={kind}&target=task&id={next(self.numbers)}'
        self.requests[rq] = dict(
            id=rq,
            status='failed' if failed else 'finished',
            message=failed,
            operation=dict(type=kind, target='task', task_id=task, job_id=job),
            created_date=self.now(),
            result_url=result,
            result_id=None,
        )
        return 202, dict(rq_id=rq)

    def listed(self, items, asked):
        "A page of a list"
        size, page = int(asked.get('page_size', 10)), int(asked.get('page', 1))
        more = len(items) > size * page
        return 200, dict(
            count=len(items),
            results=items[size * (page - 1) : size * page],
            next='http://c/next' if more else None,
            previous=None,
        )

    def get(self, words, asked):
        match words:
            case ['server', 'about']:
                return 200, dict(name='CVAT', description='', version=VERSION, logo_url='', subtitle='')
            case ['users', 'self']:
                return 200, dict(USER, groups=['user'])
            case ['organizations', number]:
                slug = self.organizations[int(number)]
                return 200, dict(id=int(number), slug=slug, name=slug, owner=USER)
            case ['projects']:
                found = [one for one in self.projects.values() if asked.get('search', '') in one['name']]
                return self.listed([self.project(one) for one in found], asked)
            case ['projects', number]:
                return 200, self.project(self.found(self.projects, number))
            case ['labels']:
                labels = self.projects[int(asked['project_id'])]['labels']
                return self.listed([dict(one, id=i + 1) for i, one in enumerate(labels)], asked)
            case ['tasks']:
                mine = [one for one in self.tasks.values() if one['project_id'] == int(asked['project_id'])]
                return self.listed([self.task(one) for one in mine], asked)
            case ['tasks', number]:
                return 200, self.task(self.found(self.tasks, number))
            case ['tasks', number, 'annotations']:
                return 200, self.held(int(number))
            case ['jobs']:
                return self.listed(self.asked_jobs(asked), asked)
            case ['jobs', number, 'file']:
                return 200, self.archive(int(number))
            case ['requests', rq]:
                return 200, self.requests[unquote(rq)]
        raise Refused(404, f'no route {words}')

    def found(self, table, number):
        if int(number) not in table:
            raise Refused(404, '{"detail":"Not found."}')
        return table[int(number)]

    def asked_jobs(self, asked):
        found = [self.job(one) for one in self.jobs.values()]
        for key in ('project_id', 'task_id', 'state'):
            if key in asked:
                found = [one for one in found if str(one[key]) == asked[key]]
        key = asked.get('sort', 'id')
        return sorted(found, key=lambda one: one[key.lstrip('-')], reverse=key.startswith('-'))

    def held(self, task):
        shapes, tags, tracks = [], [], []
        for job in self.jobs_of(task):
            for frame, drawn in job['shapes'].items():
                for kind, points in drawn:
                    if kind == 'tag':
                        tags.append(dict(label_id=2, frame=frame, id=1))
                    elif kind == 'track':
                        tracks.append(dict(label_id=1, frame=frame, id=1, shapes=[]))
                    else:
                        flat = [float(x) for x in np.ravel(points)]
                        shapes.append(dict(type=kind, label_id=1, frame=frame, id=1, points=flat))
        return dict(version=0, tags=tags, shapes=shapes, tracks=tracks)

    def archive(self, number):
        "A job as *CVAT for images 1.1* without images"
        job, root = self.jobs[number], ET.Element('annotations')
        ET.SubElement(root, 'version').text = '1.1'
        meta = ET.SubElement(root, 'meta')
        ET.SubElement(ET.SubElement(meta, 'job'), 'id').text = str(number)
        ET.SubElement(meta, 'dumped').text = self.now()
        frames = self.tasks[job['task_id']]['frames']
        for i in range(job['start_frame'], job['stop_frame'] + 1):
            name, w, h = frames[i]
            im = ET.SubElement(root, 'image', dict(id=str(i), name=name, width=str(w), height=str(h)))
            for kind, points in job['shapes'].get(i, []):
                self.dump(im, kind, points)
        out = io.BytesIO()
        with zipfile.ZipFile(out, 'w') as archive:
            archive.writestr('annotations.xml', ET.tostring(root))
        return out.getvalue()

    def dump(self, im, kind, points):
        about = dict(label='defect', source='manual', occluded='0')
        if kind == 'tag':
            ET.SubElement(im, 'tag', dict(label=points, source='manual'))
        elif kind == 'polygon':
            words = ';'.join(f'{x:.2f},{y:.2f}' for x, y in points)
            ET.SubElement(im, 'polygon', dict(about, points=words, z_order='0'))
        else:
            *runs, left, top, right, bottom = map(int, points)
            box = dict(left=left, top=top, width=right - left + 1, height=bottom - top + 1)
            rle = ', '.join(map(str, runs))
            ET.SubElement(im, 'mask', dict(about, rle=rle, z_order='0', **{k: str(v) for k, v in box.items()}))

    def post(self, words, asked, headers, body):
        if words in (['projects'], ['tasks']):
            return self.create(words[0], json.loads(body))
        match words:
            case ['jobs', number, 'dataset', 'export']:
                assert asked == dict(format='CVAT for images 1.1', save_images='False')
                return self.request('export:annotations', job=int(number), result=f'{self.url}/api/jobs/{number}/file')
            case ['tasks', number, 'data']:
                return self.data(self.found(self.tasks, number), headers, body)
            case ['tasks', number, 'annotations']:
                return self.annotations(self.found(self.tasks, number), asked, headers)
        raise Refused(404, f'no route {words}')

    def create(self, kind, spec):
        one = dict(spec, id=next(self.numbers), created=self.now())
        if kind == 'projects':
            self.projects[one['id']] = dict(one, organization=None)
            return 201, self.project(self.projects[one['id']])
        self.tasks[one['id']] = dict(one, frames=[], files={})
        return 201, self.task(self.tasks[one['id']])

    def data(self, task, headers, body):
        "Pictures come in several requests, then one that says in which order they are"
        if 'Upload-Start' in headers:
            return 202, None
        if 'Upload-Multiple' in headers:
            head = f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode()
            for part in BytesParser().parsebytes(head + body).get_payload():
                name = part.get_filename()
                if name:
                    with Image.open(io.BytesIO(part.get_payload(decode=True))) as im:
                        task['files'][name.split('/')[-1]] = im.size
            return 200, None
        sent = json.loads(body)
        assert sent['sorting_method'] == 'predefined'
        task['quality'] = sent['image_quality']
        task['frames'] = [(name, *task['files'][name]) for name in sent['upload_file_order']]
        for start in range(0, len(task['frames']), task['segment_size']):
            stop = min(start + task['segment_size'], len(task['frames'])) - 1
            parent = self.new_job(task, start, stop, 'annotation', None)
            for _ in range(self.replicas):
                self.new_job(task, start, stop, 'replica', parent)
        return self.request('create', task=task['id'])

    def new_job(self, task, start, stop, kind, parent):
        number = next(self.numbers)
        self.jobs[number] = dict(
            id=number,
            task_id=task['id'],
            start_frame=start,
            stop_frame=stop,
            type=kind,
            state='new',
            parent=parent,
            assignee=None,
            updated_date=self.now(),
            shapes={},
        )
        return number

    def annotations(self, task, asked, headers):
        "An upload by the protocol TUS, between a start and an end"
        if 'Upload-Start' in headers:
            return 202, None
        if 'Upload-Length' in headers:
            number = next(self.numbers)
            name = headers['Upload-Metadata'].split()[1]
            self.uploads[number] = b''
            more = {'Upload-Filename': b64decode(name).decode(), 'Location': f'{self.url}/api/upload/{number}'}
            return 201, None, more
        assert asked['format'] == 'CVAT 1.1'
        return self.put_in(task, self.uploads.popitem()[1])

    def put_in(self, task, xml):
        "As CVAT imports: what was there is replaced; an image that is not in the task ends it"
        number_of = {name: i for i, (name, _, _) in enumerate(task['frames'])}
        mine = self.jobs_of(task['id'])
        for job in mine:
            job['shapes'] = {}
        for im in ET.fromstring(xml).iter('image'):
            if im.get('name') not in number_of:
                return self.request('import:annotations', task=task['id'], failed='Could not match item id')
            frame = number_of[im.get('name')]
            for mask in im.iter('mask'):
                left, top, w, h = (int(mask.get(key)) for key in ('left', 'top', 'width', 'height'))
                points = [int(x) for x in mask.get('rle').split(',')] + [left, top, left + w - 1, top + h - 1]
                for job in mine:
                    if job['start_frame'] <= frame <= job['stop_frame']:
                        job['shapes'].setdefault(frame, []).append(('mask', points))
        return self.request('import:annotations', task=task['id'])


class Handler(BaseHTTPRequestHandler):
    "Requests in, JSON out"

    protocol_version = 'HTTP/1.1'
    disable_nagle_algorithm = True  # Else the body of each answer waits 40 ms for the head to be confirmed

    def answered(self):
        played, parts = self.server.played, urlsplit(self.path)
        words = [unquote(word) for word in parts.path.strip('/').split('/')][1:]
        body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        if self.headers.get('Transfer-Encoding') == 'chunked':
            body = self.chunks()
        with played.lock:
            played.log.append((self.command, parts.path))
            if words != ['server', 'about'] and self.headers.get('Authorization') != f'Bearer {TOKEN}':
                raise Refused(401, '{"detail":"Invalid token."}')
            asked = {key: value[0] for key, value in parse_qs(parts.query).items()}
            if self.command == 'GET':
                return played.get(words, asked)
            if self.command == 'POST':
                return played.post(words, asked, self.headers, body)
            if self.command == 'PATCH':
                number = int(words[1])
                played.uploads[number] += body
                return 204, None, {'Upload-Offset': str(len(played.uploads[number]))}
            task = played.tasks.pop(int(words[1]))
            played.jobs = {key: one for key, one in played.jobs.items() if one['task_id'] != task['id']}
            return 204, None

    def chunks(self):
        out = b''
        while size := int(self.rfile.readline(), 16):
            out += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return out

    def answer(self):
        if self.server.played.gone:  # Connections that are open still reach their thread
            self.close_connection = True
            return
        try:
            status, found, *more = self.answered()
        except Refused as e:
            status, found, more = e.args[0], e.args[1].encode(), []
        is_json = not isinstance(found, bytes) or status >= 400
        body = found if isinstance(found, bytes) else b'' if found is None else json.dumps(found).encode()
        self.send_response(status)
        self.send_header('Content-Type', 'application/json' if is_json else 'application/zip')
        self.send_header('Content-Length', str(len(body)))
        for key, value in (more[0] if more else {}).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PATCH = do_DELETE = answer

    def log_message(self, *about):
        pass


@contextmanager
def played_cvat():
    "A `Played` whose `url` answers until the block ends"
    played = Played()
    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server.daemon_threads = True
    server.played = played
    played.url = f'http://127.0.0.1:{server.server_address[1]}'
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield played
    finally:
        played.gone = True
        server.shutdown()
        server.server_close()


def rounds_of(played):
    "Name of a round -> its tasks"
    out = {}
    for one in played.tasks.values():
        name = re.search(r'\(imbal_al \S+ (\S+)\)$', one['name'])[1]
        out.setdefault(name, []).append(one)
    return out
