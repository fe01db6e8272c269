"Labels of one project into another: by the pictures' content, by names, or refused in a line"

import json, shutil

import numpy as np, pytest

from imbal_al.core import InputError
from imbal_al.project.intake import drop, new
from imbal_al.project.kinds import read_kinds
from imbal_al.project.label_files import export_labels
from imbal_al.project.labelled import labels, read_mask, write_label
from imbal_al.project.queue import as_annotations, write_queue
from imbal_al.project.store import open_project
from imbal_al.project.taken import ingest
from small import png, run


def mask(i, shape=(32, 64)):
    "i+1 pixels in a pattern that no other number has"
    out = np.zeros(shape, np.uint8)
    out.flat[i :: 37] = 1
    return out


@pytest.fixture
def at(tmp_path):
    "Four pictures, a project of them, all labelled"
    for i in range(4):
        png(tmp_path / f'one/part{i}.png', i, (32, 64))
    p = new(tmp_path / 'p', tmp_path / 'one', window=32, overlap=0)
    for id in p.units.id:
        write_label(p, id, mask(int(p.row[id]['image'][4])))
    return tmp_path


def by_image(p):
    return {p.row[id]['name']: read_mask(p, id) for id in labels(p)['id']}


def test_a_project_by_content_renamed_and_moved(at):
    for i in range(4):
        png(at / f'two/day/{9 - i}.png', i, (32, 64))
    q = new(at / 'q', at / 'two', window=64, overlap=0)
    code, said = run('ingest', at / 'q', at / 'p')
    assert code == 0 and '4 new' in said and '4 by their pictures' in said
    found = by_image(q)
    assert all((found[f'day/{9 - i}.png'] == mask(i)).all() for i in range(4))
    assert '4 same' in run('ingest', at / 'q', at / 'p')[1]


def test_the_same_name_and_another_picture_is_refused(at):
    shutil.copytree(at / 'one', at / 'two')
    png(at / 'two/part1.png', 77, (32, 64))
    q = new(at / 'q', at / 'two', window=32, overlap=0)
    code, said = run('ingest', at / 'q', at / 'p')
    assert code == 0 and '3 new, 1 unknown' in said and 'part1.png is another picture here' in said
    assert 'part1.png' not in by_image(q)
    export = exported(open_project(at / 'p'), at / 'r1.json')
    for drop_field in (False, True):
        if drop_field:
            tasks = json.loads(export.read_text())
            for task in tasks:
                del task['data']['picture']
            export.write_text(json.dumps(tasks))
        code, said = run('ingest', at / 'q', export)
        assert code == 0 and 'part1.png is another picture here' in said and '3 by their pictures' in said
    assert 'part1.png' not in by_image(q)


def exported(p, path, url='', of=None):
    "What Label Studio would export of a queue with all units"
    picks = [dict(id=id, why='', held_out=False) for id in p.units.id]
    shutil.rmtree(p.dir / 'rounds', ignore_errors=True)
    write_queue(p, p.dir / 'rounds/001/queue', picks, lambda id: None, url)
    tasks = json.loads((p.dir / 'rounds/001/queue/labelstudio.json').read_text())
    path.write_text(json.dumps(as_annotations(tasks, lambda id: read_mask(p, id))))
    return path


def test_an_export_with_addresses_of_an_early_version_goes_by_name_and_says_so(at):
    export = exported(open_project(at / 'p'), at / 'r1.json', 'http://host/')
    tasks = json.loads(export.read_text())
    for task in tasks:
        del task['data']['picture']
    export.write_text(json.dumps(tasks))
    q = new(at / 'q', at / 'one', window=32, overlap=0)
    report = ingest(q, export)
    assert report.counts['new'] == 4 and '4 by their names alone, the pictures were not compared' in str(report)
    assert all((by_image(q)[f'part{i}.png'] == mask(i)).all() for i in range(4))


def test_an_ambiguous_picture_is_refused_and_the_remedy_works(at):
    shutil.copytree(at / 'one', at / 'two')
    (at / 'two/part0.png').rename(at / 'two/x.png')
    shutil.copy(at / 'two/x.png', at / 'two/y.png')
    new(at / 'q', at / 'two', window=32, overlap=0)
    code, said = run('ingest', at / 'q', at / 'p')
    assert '3 new, 1 unknown' in said and 'may be x.png or y.png, which are the same picture' in said
    words = said.split('take one out: `')[1].split('`')[0].split()
    assert run(*words[1:])[0] == 0
    assert '1 new, 3 same' in run('ingest', at / 'q', at / 'p')[1]
    assert (by_image(open_project(at / 'q'))['x.png'] == mask(0)).all()


@pytest.mark.parametrize('size', [32, 64, 96])
def test_windows_into_images_and_images_into_windows(tmp_path, size):
    for i in range(2):
        png(tmp_path / f'one/{i}.png', i, (96, 96))
    p = new(tmp_path / 'p', tmp_path / 'one', unit='window', window=32, overlap=0)
    whole = mask(3, (96, 96))
    for id in p.units.id:
        y, x = p.row[id]['y'], p.row[id]['x']
        if p.row[id]['image'] == '0.png' or y == x == 0:
            write_label(p, id, whole[y : y + 32, x : x + 32])
    unit = 'image' if size == 96 else 'window'
    q = new(tmp_path / 'q', tmp_path / 'one', unit=unit, window=size, overlap=0)
    report = ingest(q, tmp_path / 'p')
    for id in labels(q)['id']:
        u = q.row[id]
        part = whole[u['y'] : u['y'] + u['h'], u['x'] : u['x'] + u['w']]
        assert (read_mask(q, id) == part).all()
    images = [q.row[id]['image'] for id in labels(q)['id']]
    assert images.count('1.png') == (size == 32) and images.count('0.png') == {32: 9, 64: 4, 96: 1}[size]
    assert ('is a window that no unit' in str(report)) == (size != 32)


def test_kinds_go_with_their_names(at):
    p = open_project(at / 'p')
    kinds = mask(0) + np.roll(mask(0), 1, 1) * 2
    tasks = [dict(data=dict(id=p.units.id[0]))]
    assert tasks
    from imbal_al.project.kinds import number_kinds

    numbers = number_kinds(p, kinds, ('scratch', 'dent'))
    write_label(p, p.units.id[0], kinds > 0, kinds=numbers)
    q = new(at / 'q', at / 'one', window=32, overlap=0)
    ingest(q, at / 'p')
    id = q.units.id[0]
    found, names = read_kinds(q, id)
    named = np.array(['', *[names[i] for i in sorted(names)]])[found]
    want = np.array(['', 'scratch', 'dent'])[kinds]
    assert (named == want).all()


def test_labels_exported_as_masks_go_into_another_project_and_into_a_study(at):
    p = open_project(at / 'p')
    export_labels(p, at / 'masks')
    q = new(at / 'q', at / 'one', window=32, overlap=0)
    assert ingest(q, at / 'masks').counts['new'] == 4
    assert all((by_image(q)[f'part{i}.png'] == mask(i)).all() for i in range(4))


def test_itself_none_and_damaged_are_one_line(at):
    assert run('ingest', at / 'p', at / 'p')[0] == 2
    q = new(at / 'q', at / 'one', window=32, overlap=0)
    with pytest.raises(InputError, match='has no label yet'):
        ingest(open_project(at / 'p'), at / 'q')
    p = open_project(at / 'p')
    first = p.units.id[0]
    (p.dir / 'labels' / f'{first}.1.png').write_bytes(b'x')
    report = ingest(q, at / 'p')
    assert report.counts['new'] == 3 and 'part0.png: ' in str(report) and 'left out' in str(report)
    drop(p, ['part1.png'])
    assert ingest(q, at / 'p').counts['same'] == 2
