"What goes out comes back; what does not fit is one line, and what is repeated changes nothing"

import json, shutil

import numpy as np, pytest
from PIL import Image

from imbal_al.core import InputError, write_json
from imbal_al.project.intake import new
from imbal_al.project.label_files import export_labels
from imbal_al.project.labelled import labels, read_label, read_mask, write_label
from imbal_al.project.queue import as_annotations, _contact_sheet, _thumbnail, _wrapped, write_queue
from imbal_al.project.state import queued, release, waiting
from imbal_al.project.taken import ingest
from kills import killed_at


def mask(i, h=24, w=40):
    m = np.zeros((h, w), np.uint8)
    m[3:9, i : i + 7] = i % 3 > 0
    return m


@pytest.fixture
def made(tmp_path):
    for i, o in enumerate(('a/1.png', 'a/2.png', 'b/1.png', 'b/3.png', 'c 4.png')):
        f = tmp_path / 'images' / o
        f.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((24, 40), 40 * i, np.uint8)).save(f)
    p = new(tmp_path / 'p', tmp_path / 'images', window=32, overlap=0)
    truth = {o: mask(i) for i, o in enumerate(p.units.id)}
    picks = [dict(id=o, why=f'because {i}', held_out=i == 0) for i, o in enumerate(p.units.id)]
    write_queue(p, p.dir / 'rounds/001/queue', picks, lambda id: truth[id] * 0.8)
    return p, truth, p.dir / 'rounds/001/queue', picks, tmp_path


def tasks(q):
    return json.loads((q / 'labelstudio.json').read_text())


def save(path, o):
    path.write_text(json.dumps(o))
    return path


def test_a_queue_holds_the_same_picks_in_every_form(made):
    p, truth, q, picks, _ = made
    t = tasks(q)
    assert [o['data']['id'] for o in t] == list(truth) and {o['data']['project'] for o in t} == {
        p.id
    }
    assert 'predictions' not in t[0] and not list(
        (q / 'predictions').glob(f'*{picks[0]["id"]}*')
    ), 'a held-out unit has no pre-annotation'
    assert (
        len(list((q / 'images').glob('*.png'))) == 5
        and len(list((q / 'predictions').glob('*.png'))) == 4
    )
    ids = list(truth)
    m = np.asarray(Image.open(next((q / 'predictions').glob(f'*{ids[1]}.png'))))
    assert (m == truth[ids[1]] * 255).all()
    pr = np.asarray(Image.open(next((q / 'probabilities').glob(f'*{ids[1]}.png'))))
    assert pr.max() == 204
    rows = (q / 'queue.csv').read_text().splitlines()
    assert len(rows) == 6 and 'because 1' in rows[2]
    assert t[3]['predictions'][0]['result'] == [], 'nothing predicted is an empty prediction'


def test_predictions_of_the_queue_itself_are_not_labels(made):
    p, truth, q, *_ = made
    for o in ('predictions', 'probabilities'):
        with pytest.raises(InputError, match='what the model predicted'):
            ingest(p, q / o)
    assert (
        ingest(p, q / 'cvat.xml').counts['empty'],
        ingest(p, q / 'coco.json').counts['empty'],
    ) == (2, 2), 'pictures without a prediction are not healthy'


def test_the_round_trip_and_twice_more(made):
    p, truth, q, _, tmp = made
    e = save(tmp / 'e.json', as_annotations(tasks(q), truth.get))
    assert dict(ingest(p, e).counts) == dict(new=5) and all(
        (read_mask(p, k) == v).all() for k, v in truth.items()
    )
    stamp = {o: o.stat().st_mtime_ns for o in (p.dir / 'labels').iterdir()}
    assert dict(ingest(p, e).counts) == dict(same=5) and stamp == {
        o: o.stat().st_mtime_ns for o in (p.dir / 'labels').iterdir()
    }
    for form, to in dict(png='m', coco='c.json', cvat='c.xml', labelstudio='l.json').items():
        assert export_labels(p, tmp / to, form) == 5 and dict(ingest(p, tmp / to).counts) == dict(
            same=5
        )


def test_relabelled_keeps_both_and_an_old_export_does_not_undo_it(made):
    p, truth, q, _, tmp = made
    id = list(truth)[1]
    old = save(tmp / 'old.json', as_annotations(tasks(q), truth.get))
    ingest(p, old)
    r = ingest(p, save(tmp / 'new.json', as_annotations(tasks(q)[1:2], lambda i: 1 - truth[i])))
    assert (
        dict(r.counts) == dict(changed=1)
        and 'version 2' in r.lines[0]
        and (read_mask(p, id, 1) == truth[id]).all()
        and (read_mask(p, id) == 1 - truth[id]).all()
    )
    r = ingest(p, old)
    assert dict(r.counts) == dict(same=4, older=1) and (read_mask(p, id) == 1 - truth[id]).all()
    assert (
        ingest(p, old, revert=True).counts['changed'] == 1
        and (read_mask(p, id) == truth[id]).all()
        and len(read_label(p, id)['versions']) == 3
    )


def test_an_export_of_another_project_is_taken_by_its_pictures_or_refused_whole(made):
    p, truth, q, _, tmp = made
    other = new(tmp / 'other', tmp / 'images', window=32, overlap=0)
    e = save(tmp / 'e.json', as_annotations(tasks(q), truth.get))
    ingest(p, e)
    export_labels(p, tmp / 'c.json', 'coco')
    export_labels(p, tmp / 'c.xml', 'cvat')
    export_labels(p, tmp / 'm', 'png')
    report = ingest(other, e)
    assert dict(report.counts) == dict(new=5) and 'images known: 5 by their pictures' in str(report)
    pairs = [(id, p.row[id]['name']) for id in labels(p)['id']]
    here = dict(zip(other.units.name, other.units.id))
    for id, name in pairs:
        assert (read_mask(other, here[name]) == read_mask(p, id)).all()
    for name in ('c.json', 'c.xml', 'm'):
        assert dict(ingest(other, tmp / name).counts) == dict(same=5), 'the same images by name'
    (tmp / 'others').mkdir()
    Image.new('L', (40, 32)).save(tmp / 'others/x.png')
    third = new(tmp / 'third', tmp / 'others', window=32, overlap=0)
    for name in ('e.json', 'c.json', 'c.xml', 'm'):
        with pytest.raises(InputError, match='none of its 5 images') as x:
            ingest(third, tmp / name)
        assert '\n' not in str(x.value) and not (third.dir / 'labels').exists()


def test_each_thing_that_does_not_fit_is_one_line_and_the_rest_is_taken(made):
    p, truth, q, _, tmp = made
    t = as_annotations(tasks(q), truth.get)
    ids = list(truth)
    t[1]['annotations'][0]['result'][0]['original_width'] = 41  # another size
    t[2]['annotations'][0]['result'] = []  # nothing drawn
    t[4]['annotations'][0]['result'][0]['value']['rle'] = [1, 2, 3]  # damaged
    t.append(dict(t[0], data=dict(t[0]['data'], id='f' * 12, name='foreign.png')))
    r = ingest(p, save(tmp / 'e.json', t))
    assert (
        dict(r.counts) == dict(new=2, refused=2, empty=1, unknown=1)
        and len(r.lines) == 4
        and not any('\n' in o for o in r.lines)
    )
    assert labels(p).id.tolist() == [ids[0], ids[3]]
    assert (
        ingest(p, tmp / 'e.json', empty='healthy').counts['new'] == 1
        and read_mask(p, ids[2]).sum() == 0
    )
    with pytest.raises(InputError, match='meaning of empty'):
        ingest(p, tmp / 'e.json', empty='maybe')


def test_duplicates_with_one_mask_are_fine_and_with_two_are_refused(made):
    p, truth, q, _, tmp = made
    t = as_annotations(tasks(q), truth.get)
    assert dict(ingest(p, save(tmp / 'a.json', t + t)).counts) == dict(new=5)
    r = ingest(p, save(tmp / 'b.json', t + as_annotations(tasks(q)[1:2], lambda i: 1 - truth[i])))
    assert dict(r.counts) == dict(same=4, refused=1) and 'with different masks' in r.lines[0]


def test_file_names_are_understood_or_said_to_be_ambiguous(made):
    p, truth, q, _, tmp = made
    by = dict(zip(p.units.name, p.units.id))
    d = tmp / 'masks'

    def put(name, id):
        f = d / name
        f.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(truth[id] * 255).save(f)

    put('2.png', by['a/2.png'])
    put('b/1.png', by['b/1.png'])
    put(f"prefix-3-{by['b/3.png']}_edited.png", by['b/3.png'])
    put('1.png', by['a/1.png'])
    put('x/2.png', by['a/2.png'])
    put('nobody.png', by['a/2.png'])
    r = ingest(p, d)
    assert (
        set(labels(p).id) == {by['a/2.png'], by['b/1.png'], by['b/3.png']}
        and r.counts['unknown'] == 3
    )
    assert any('may be a/1.png or b/1.png' in o for o in r.lines) and any(
        'nobody.png is no image' in o for o in r.lines
    )


def test_a_queue_killed_at_every_file_and_written_again_is_the_same(made):
    p, truth, q, picks, tmp = made
    want = {o.relative_to(q): o.read_bytes() for o in q.rglob('*') if o.is_file()}
    n = 0
    while True:
        f = p.dir / 'rounds' / f'{n:03d}k'
        code = killed_at(n, lambda: write_queue(p, f, picks, lambda id: truth[id] * 0.8))
        write_queue(p, f, picks, lambda id: truth[id] * 0.8)
        assert {
            o.relative_to(f): o.read_bytes()
            for o in f.rglob('*')
            if o.is_file() and not o.name.endswith('.tmp')
        } == want
        shutil.rmtree(f)
        n += 3
        if code == 0:
            break
    assert n > 20


def test_an_ingest_killed_at_every_file_and_repeated_loses_nothing(made):
    p, truth, q, _, tmp = made
    e = save(tmp / 'e.json', as_annotations(tasks(q), truth.get))
    n = 0
    while True:
        code = killed_at(n, lambda: ingest(p, e))
        r = ingest(p, e)
        assert (
            sum(r.counts.values()) == 5
            and labels(p).version.tolist() == [1] * 5
            and all((read_mask(p, k) == v).all() for k, v in truth.items())
        )
        shutil.rmtree(p.dir / 'labels')
        n += 1
        if code == 0:
            break
    assert n == 11


def test_units_that_are_out_and_given_up(made):
    p, truth, q, picks, _ = made
    write_json(p.dir / 'rounds/001/queue.json', dict(picks=picks))
    ids = list(truth)
    write_label(p, ids[0], truth[ids[0]])
    assert (
        waiting(p) == ids[1:]
        and release(p) == 4
        and waiting(p) == []
        and list(queued(p)) == ids[:1]
        and release(p) == 0
    )


def test_an_image_that_has_gone_or_changed_costs_a_line(made):
    p, truth, _, picks, tmp = made
    (tmp / 'images/a/1.png').unlink()
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp / 'images/a/2.png')
    lines = write_queue(p, tmp / 'q', picks, lambda id: None)
    assert (
        len(lines) == 2
        and any('is missing' in o for o in lines)
        and any('it was 40 x 24' in o for o in lines)
        and len(tasks(tmp / 'q')) == 3
    )


def test_pictures():
    assert _thumbnail(np.zeros((400, 100), np.uint8), np.ones((400, 100))).size == (
        40,
        160,
    ) and _thumbnail(np.zeros((3, 5, 3), np.uint8)).size == (160, 96)
    assert _contact_sheet([(Image.new('RGB', (160, 90)), ['ä' * 99, ''])] * 7).size[0] > 500
    a = np.asarray(_thumbnail(np.zeros((40, 40), np.uint8), np.pad(np.ones((20, 20)), 10)))
    assert (
        a.shape == (160, 160, 3)
        and a[39, 39].sum() == a[0, 0].sum() == 0
        and tuple(a[40, 60]) == (228, 40, 30)
        and 50 < a[80, 80, 0] < 120
    ), 'an outline in red, a tint within'
    a = np.asarray(
        _thumbnail(np.zeros((4000, 4000), np.uint8), np.pad(np.ones((3, 3)), ((7, 3990), (7, 3990))))
    )
    assert (a[..., 0] > 0).any(), 'three pixels of sixteen million are seen'
    from PIL import ImageDraw

    d = ImageDraw.Draw(Image.new('L', (9, 9)))
    for text, most in (
        ('entropy 0.125, 16663 px predicted and more of this and that', 2),
        ('folder/with/a/very/long/name/and_a_file_that_goes_on_and_on.png', 1),
        ('', 1),
    ):
        out = _wrapped(d, text, 160, most)
        assert (
            1 <= len(out) <= most
            and all(d.textlength(o) <= 160 for o in out)
            and (most == 2 or not text or out[0].endswith('on.png'))
        )
