"A project's folder: what is listed, what is refused in one line, what survives a kill"

import numpy as np, pandas as pd, pytest
from PIL import Image

from imbal_al.core import InputError
from imbal_al.project.intake import new
from imbal_al.project.labelled import label_state, labels, read_label, read_mask, write_label
from imbal_al.project.store import open_project
from imbal_al.project.units import list_images, unit_rows


def png(path, shape=(40, 50), value=90, **kw):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(shape, value, np.uint8)).save(path, **kw)
    return path


@pytest.fixture
def images(tmp_path):
    for o in ('a/1.png', 'b/1.png', 'b/deep/x.jpg'):
        png(tmp_path / 'images' / o)
    return tmp_path / 'images'


@pytest.fixture
def project(tmp_path, images):
    return new(tmp_path / 'p', images, window=32, overlap=0)


def test_bad_files_cost_one_line_each_and_the_rest_is_listed(images):
    (images / 'empty.png').touch()
    (images / 'text.jpg').write_text('no image')
    (images / 'notes.txt').write_text('x')
    png(images / '.hidden/1.png')
    (images / 'two\nlines.png').write_bytes(b'')
    rows, lines = list_images(images)
    assert [o['image'] for o in rows] == ['a/1.png', 'b/1.png', 'b/deep/x.jpg']
    assert (
        len(lines) == 3
        and not any('\n' in o for o in lines)
        and sum('is empty' in o for o in lines) == 1
        and sum('its name holds a line break' in o for o in lines) == 1
        and sum('cannot be read as an image' in o for o in lines) == 1
    )


def test_sizes_are_those_of_the_upright_image(images):
    e = Image.Exif()
    e[274] = 6
    png(images / 'a/turned.jpg', (20, 60), exif=e)
    r = {o['image']: o for o in list_images(images)[0]}['a/turned.jpg']
    assert (r['height'], r['width']) == (60, 20)
    p = new(images.parent / 'p', images)
    assert p.read(p.row[p.units.set_index('name').id['a/turned.jpg']]).shape == (60, 20)


def test_a_project_inside_its_images_is_not_listed(images):
    p = new(images / 'project', images)
    png(images / 'project/rounds/001/images/1.png')
    assert len(new(images / 'project', images).units) == 3 == len(p.units)


@pytest.mark.parametrize(
    'kw,says',
    [
        (dict(unit='pixel'), 'unknown unit'),
        (dict(window=100), 'multiple of 32'),
        (dict(overlap=256), 'no step'),
        (dict(held_out=1), 'held_out'),
        (dict(held_out='x'), 'held_out'),
        (dict(steps=0), 'steps = 0'),
        (dict(bs=True), 'bs = True'),
        (dict(seed=-1), 'seed = -1'),
        (dict(lr=0), 'lr = 0'),
        (dict(channels=2), 'channels = 2'),
        (dict(colour=1), "unknown setting of a project 'colour'"),
    ],
)
def test_bad_settings_are_one_line_and_leave_nothing(tmp_path, images, kw, says):
    with pytest.raises(InputError, match=says) as e:
        new(tmp_path / 'p', images, **kw)
    assert '\n' not in str(e.value) and not (tmp_path / 'p').exists()


def test_folders_that_cannot_be(tmp_path, images):
    for f, says in (
        (lambda: new(tmp_path / 'p', tmp_path / 'nowhere'), 'is no folder'),
        (lambda: new(images, images), 'is there already and is no project'),
        (lambda: open_project(images), 'is no project'),
        (lambda: open_project(tmp_path / 'x'), 'is no project'),
    ):
        with pytest.raises(InputError, match=says):
            f()
    (tmp_path / 'none').mkdir()
    with pytest.raises(InputError, match='holds no image'):
        new(tmp_path / 'p', tmp_path / 'none')
    png(tmp_path / 'file.png')
    with pytest.raises(InputError, match='is there already'):
        new(tmp_path / 'file.png', images)


def test_damage_is_said_in_one_line(project):
    units = next(project.dir.glob('units-*.csv'))
    text = units.read_text()
    units.write_text(text.replace('40', '41', 1))
    with pytest.raises(InputError, match='was changed'):
        open_project(project.dir)
    units.write_text(text)
    f = project.dir / 'project.json'
    good = f.read_text()
    f.write_text(good.replace('"bs": 16', '"bs": 17'))
    with pytest.raises(InputError, match='damaged'):
        open_project(project.dir)
    f.write_text(good)
    assert len(open_project(project.dir).units) == 3
    f.write_text('{"form": "other"}')
    with pytest.raises(InputError, match='not of a project'):
        open_project(project.dir)


def test_new_images_come_moved_images_are_found_and_labels_stay(project, images, tmp_path):
    m = np.zeros((40, 50))
    m[3, 4] = 1
    id = project.units.id[1]
    write_label(project, id, m)
    images.rename(tmp_path / 'moved')
    png(tmp_path / 'moved/new.png')
    p = new(project.dir, tmp_path / 'moved')
    assert (
        len(p.units) == 4
        and list(p.units.id[:3]) == list(project.units.id)
        and read_mask(p, id).sum() == 1
        and p.read(p.units.iloc[0]).shape == (40, 50)
    )
    with pytest.raises(InputError, match='overlap 0, not 8'):
        new(project.dir, tmp_path / 'moved', overlap=8)


def test_two_images_of_one_name_are_two_units(project):
    a, b = (project.row[project.units.set_index('name').id[o]] for o in ('a/1.png', 'b/1.png'))
    assert a['id'] != b['id']
    write_label(project, a['id'], np.ones((40, 50)))
    assert read_label(project, b['id']) is None and labels(project).id.tolist() == [a['id']]


def test_windows_cover_the_image_and_small_images_are_whole():
    rows = [
        dict(image='big.png', height=100, width=333, grey=True),
        dict(image='small.png', height=20, width=70, grey=True),
    ]
    u = pd.DataFrame(unit_rows('p', rows, 'window', 64))
    seen = np.zeros((100, 333), int)
    for o in u[u.image == 'big.png'].itertuples():
        assert o.y + o.h <= 100 and o.x + o.w <= 333
        seen[o.y : o.y + o.h, o.x : o.x + o.w] += 1
    assert seen.min() == 1 and u.id.is_unique
    s = u[u.image == 'small.png']
    assert s.h.tolist() == [20, 20] and s.w.tolist() == [64, 64] and s.x.tolist() == [0, 6]


def test_versions_are_kept_and_repeats_change_nothing(project):
    id, a, b = project.units.id[0], np.zeros((40, 50)), np.ones((40, 50))
    assert [write_label(project, id, o) for o in (a, a, b, b, a)] == [
        'new',
        'same',
        'changed',
        'same',
        'older',
    ]
    assert label_state(project, id, a, True) == 'changed'
    assert (read_mask(project, id) == 1).all() and (read_mask(project, id, 1) == 0).all()
    for v in (0, 3):
        with pytest.raises(InputError, match='has no version'):
            read_mask(project, id, v)
    before = {o: o.stat().st_mtime_ns for o in project.dir.rglob('*')}
    write_label(project, id, b)
    assert before == {o: o.stat().st_mtime_ns for o in project.dir.rglob('*')}


def test_masks_that_do_not_fit(project):
    with pytest.raises(InputError, match='is no unit'):
        write_label(project, 'f' * 12, np.zeros((40, 50)))
    for shape in ((50, 40), (40, 50, 3), (0, 0)):
        with pytest.raises(InputError, match='export it again in full size'):
            write_label(project, project.units.id[0], np.zeros(shape))
    assert not (project.dir / 'labels').exists()


@pytest.mark.parametrize('content', ['{"half', '', '[]', '{"id": 1, "versions": [1]}', '{"versions": {"a": 1}}'])
def test_a_label_that_cannot_be_read_stops_and_its_history_stays(project, content):
    id = project.units.id[0]
    write_label(project, id, np.ones((40, 50)))
    f = project.dir / 'labels' / f'{id}.json'
    f.write_text(content)
    for read in (lambda: labels(project), lambda: write_label(project, id, np.zeros((40, 50)))):
        with pytest.raises(InputError, match=f'{id}.json .*move it away and ingest'):
            read()
    assert f.read_text() == content
    f.rename(f.with_suffix('.away'))
    assert write_label(project, id, np.zeros((40, 50))) == 'new'
    assert sorted(o.name for o in f.parent.glob('*.png')) == [f'{id}.1.png', f'{id}.2.png']
    assert read_mask(project, id).sum() == 0


def test_an_emptied_mask_is_mended_by_the_same_label(project):
    id = project.units.id[0]
    m = np.arange(2000).reshape(40, 50) % 3 == 0
    write_label(project, id, m)
    (project.dir / 'labels' / f'{id}.1.png').write_bytes(b'')
    with pytest.raises(InputError, match='missing or damaged; ingest'):
        read_mask(project, id)
    assert write_label(project, id, m) == 'same' and (read_mask(project, id) == m).all()


def test_killed_before_any_rename_and_repeated_all_is_there_once(tmp_path, images):
    from kills import killed_at

    def all_of_it(n):
        p = new(tmp_path / f'p{n}', images, window=32, overlap=0)
        for i, id in enumerate(p.units.id):
            write_label(p, id, np.arange(2000).reshape(40, 50) % (i + 2) == 0)

    for n in range(10):
        assert killed_at(n, lambda: all_of_it(n)) == (9 if n < 9 else 0)
        all_of_it(n)
        p = open_project(tmp_path / f'p{n}')
        t = labels(p)
        assert t.version.tolist() == [1, 1, 1] and [read_mask(p, o).sum() for o in t.id] == [
            1000,
            667,
            500,
        ]


def test_only_one_process_makes_it(tmp_path, images):
    from imbal_al.runs.lock import held, Lock
    from imbal_al.project import store as m

    new(tmp_path / 'p', images)
    lock = Lock(tmp_path / 'p/lock.json')
    assert lock.acquire()
    with lock, pytest.MonkeyPatch.context() as k:
        k.setattr(m, 'held', lambda path: held(path, 0))
        with pytest.raises(InputError, match='is held by process'):
            new(tmp_path / 'p', images)
