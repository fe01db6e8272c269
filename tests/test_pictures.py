"Which picture it is: exchanged, renamed, deleted, doubled ones; links; odd names; lost and odd files"

import os, shutil

import numpy as np, pytest
from PIL import Image
from typer.testing import CliRunner

from imbal_al.cli import app
from imbal_al.core import InputError, read_json, write_json
from imbal_al.project.intake import drop, look, new
from imbal_al.project.labelled import labels, read_mask, write_label
from imbal_al.project.pictures import content_of
from imbal_al.project.state import is_held_out, waiting
from imbal_al.project.store import groups_of, open_project


def png(path, seed, shape=(32, 40), ink=None):
    "A picture that no other seed has"
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, shape).astype(np.uint8)
    Image.fromarray(pixels if ink is None else pixels * 0 + ink).save(path)
    return path


def run(*args):
    "(exit code, all that was said)"
    done = CliRunner().invoke(app, [str(o) for o in args])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


@pytest.fixture
def at(tmp_path):
    "A project of ten pictures, the first six labelled: seed i has i+1 pixels of defect"
    for i in range(10):
        png(tmp_path / f'camera/{i}.png', i)
    p = new(tmp_path / 'p', tmp_path / 'camera', window=32, overlap=0, held_out=0.3, steps=2)
    for i in range(6):
        m = np.zeros((32, 40))
        m.flat[: i + 1] = 1
        write_label(p, p.units.id[i], m)
    return tmp_path


def pixels(dir):
    "image -> pixels of its label"
    p = open_project(dir)
    t = labels(p)
    return {p.row[id]['image']: n for id, n in zip(t.id, t.pixels)}


def test_two_exchanged_under_their_names_keep_their_labels(at):
    a, b, c = (at / 'camera' / o for o in ('0.png', '5.png', 'x'))
    a.rename(c), b.rename(a), c.rename(b)
    said = []
    q = look(open_project(at / 'p'), said.append)
    assert len(q.units) == 8 and len(said) == 1 and '0.png, 5.png' in said[0] and len(labels(q)) == 4
    p = new(at / 'p', at / 'camera')
    assert pixels(at / 'p') == {'5.png': 1, '1.png': 2, '2.png': 3, '3.png': 4, '4.png': 5, '0.png': 6}
    assert any('2 renamed' in o for o in p.notes)


def test_a_retaken_picture_loses_its_label_until_the_old_one_is_back(at):
    old = (at / 'camera/2.png').read_bytes()
    png(at / 'camera/2.png', 99)
    p = new(at / 'p', at / 'camera')
    assert any('1 another picture under the same name (1 of them labelled' in o for o in p.notes)
    assert '2.png' not in pixels(at / 'p') and len(p.units) == 10 and p.units.id.is_unique
    other = next(id for id, image in zip(p.units.id, p.units.image) if image == '2.png')
    m = np.zeros((32, 40))
    m.flat[:50] = 1
    write_label(p, other, m)
    (at / 'camera/2.png').write_bytes(old)
    p = new(at / 'p', at / 'camera')
    assert pixels(at / 'p')['2.png'] == 3 and p.row[other]['why'] == 'lost'
    png(at / 'camera/again.png', 99)
    new(at / 'p', at / 'camera')
    assert pixels(at / 'p')['again.png'] == 50


def test_same_size_and_time_but_other_bytes_is_another_picture(at):
    for i in (0, 1):
        png(at / f'bmp/{i}.bmp', i)
    p = new(at / 'q', at / 'bmp', window=32, overlap=0)
    f = at / 'bmp/0.bmp'
    was = f.stat()
    png(at / 'bmp/0.bmp', 7)
    os.utime(f, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert f.stat().st_size == was.st_size and f.stat().st_mtime_ns == was.st_mtime_ns
    assert list(look(open_project(at / 'q'), print).units.image) == ['1.bmp']


def test_touched_copied_and_saved_again_is_the_same_picture(at):
    os.utime(at / 'camera/0.png', (1, 1))
    shutil.copy(at / 'camera/1.png', at / 'x')
    os.replace(at / 'x', at / 'camera/1.png')
    said = []
    assert len(look(open_project(at / 'p'), said.append).units) == 10 and not said
    assert new(at / 'p', at / 'camera').notes == []


def test_renamed_and_moved_keep_label_unit_and_hold_out(at):
    before = open_project(at / 'p')
    held = {id: is_held_out(before, before.row[id]['image']) for id in before.units.id}
    (at / 'camera/old').mkdir()
    for i in range(10):
        (at / f'camera/{i}.png').rename(at / f'camera/old/part_{9-i}.png')
    p = new(at / 'p', at / 'camera')
    assert list(p.units.id) == list(before.units.id) and len(labels(p)) == 6
    assert p.units.name[0] == 'old/part_9.png'
    assert {id: is_held_out(p, p.row[id]['image']) for id in p.units.id} == held
    shutil.move(at / 'camera', at / 'elsewhere')
    q = new(at / 'p', at / 'elsewhere')
    assert q.notes == [] and q.units.equals(p.units)
    assert {id: is_held_out(q, q.row[id]['image']) for id in q.units.id} == held


def test_a_second_days_folder_is_refused_and_the_remedy_works(at):
    for i in range(10):
        png(at / f'day2/{i}.png', 100 + i)
    code, said = run('project', 'new', at / 'p', '--images', at / 'day2')
    assert code == 2 and 'holds 0 of the 6 labelled pictures' in said and 'one folder' in said
    assert len(labels(open_project(at / 'p'))) == 6
    for o in ('camera', 'day2'):
        shutil.move(at / o, at / 'all' / o)
    code, said = run('project', 'new', at / 'p', '--images', at / 'all')
    assert code == 0 and '10 renamed' in said
    assert len(open_project(at / 'p').units) == 20
    assert pixels(at / 'p') == {f'camera/{i}.png': i + 1 for i in range(6)}


def test_a_deleted_labelled_picture_costs_a_line_and_can_be_taken_out(at):
    (at / 'camera/1.png').unlink()
    code, said = run('next', at / 'p', '--budget', 2)
    assert code == 0 and 'labels trained on' in said
    assert len([o for o in said.splitlines() if '1.png' in o]) == 1
    assert run('project', 'drop', at / 'p', '1.png') == (0, '1 unit taken out\n')
    assert 'gone or other' not in run('next', at / 'p', '--budget', 2)[1]
    assert '1 dropped' in run('project', 'status', at / 'p')[1]
    code, said = run('project', 'drop', at / 'p', 'nothing.png')
    assert code == 2 and 'nothing.png is no unit' in said
    p = new(at / 'p', at / 'camera')
    assert '1.png' not in set(p.units.image)
    assert drop(p, ['1.png'], back=True) == 1
    assert [o['why'] for o in open_project(at / 'p').gone] == ['lost']
    png(at / 'camera/found.png', 1)
    new(at / 'p', at / 'camera')
    assert pixels(at / 'p')['found.png'] == 2


def test_what_is_dropped_stays_out_and_comes_back_with_its_label(at):
    p = open_project(at / 'p')
    id = p.units.id[0]
    assert drop(p, [id, '7.png']) == 2
    (at / 'camera/0.png').rename(at / 'camera/new_name.png')
    p = new(at / 'p', at / 'camera')
    assert len(p.units) == 8 and p.row[id]['image'] == 'new_name.png' and len(labels(p)) == 5
    assert drop(p, ['new_name.png', '7.png'], back=True) == 2
    assert pixels(at / 'p')['new_name.png'] == 1 and len(open_project(at / 'p').units) == 10


def test_windows_are_dropped_one_by_one(at):
    png(at / 'wide/a.png', 1, (64, 128))
    p = new(at / 'w', at / 'wide', unit='window', window=32, overlap=0)
    assert drop(p, ['a.png@0,32']) == 1
    p = new(at / 'w', at / 'wide')
    assert len(p.units) == 7 and 'a.png@0,32' not in set(p.units.name)
    next(p.dir.glob('units-*.csv')).unlink()
    q = new(at / 'w', at / 'wide')
    assert set(q.units.id) == set(p.units.id) and len(q.gone) == 1


def test_a_label_of_a_picture_that_is_gone_is_kept(at):
    p = open_project(at / 'p')
    id = p.units.id[8]
    png(at / 'camera/8.png', 88)
    png(at / f'masks/8-{id}.png', 0, ink=255)
    code, said = run('ingest', at / 'p', at / 'masks')
    assert code == 0 and 'is kept and does not count' in said
    assert '8.png' not in pixels(at / 'p') or len(labels(look(open_project(at / 'p')))) == 6
    png(at / 'camera/8.png', 8)
    new(at / 'p', at / 'camera')
    assert pixels(at / 'p')['8.png'] == 32 * 40


def test_a_lost_unit_is_not_waited_for(at):
    assert run('next', at / 'p', '--budget', 3)[0] == 0
    p = open_project(at / 'p')
    out = waiting(p)
    for id in out:
        (at / 'camera' / p.row[id]['image']).unlink()
    assert waiting(new(at / 'p', at / 'camera')) == []
    code, said = run('next', at / 'p', '--budget', 1)
    assert code == 0 and 'round 2' in said


def test_twins_are_one_group_and_stay_it(tmp_path):
    for i in range(8):
        png(tmp_path / f'i/a{i}.png', i)
        png(tmp_path / f'i/b{i}.png', i)
    p = new(tmp_path / 'p', tmp_path / 'i', held_out=0.5)
    assert any(o.startswith('8 are there under another name') for o in p.notes)
    assert all(is_held_out(p, f'a{i}.png') == is_held_out(p, f'b{i}.png') for i in range(8))
    held = [is_held_out(p, f'b{i}.png') for i in range(8)]
    assert set(held) == {True, False} and len(set(groups_of(p, p.units.id))) == 8
    for i in range(8):
        (tmp_path / f'i/a{i}.png').unlink()
        png(tmp_path / f'i/late{i}.png', i)
    q = new(tmp_path / 'p', tmp_path / 'i')
    assert [is_held_out(q, f'b{i}.png') for i in range(8)] == held
    assert [is_held_out(q, f'late{i}.png') for i in range(8)] == held


def test_links_are_followed_without_loops_and_our_output_is_no_input(tmp_path):
    png(tmp_path / 'i/1.png', 1)
    png(tmp_path / 'else/deep/2.png', 2)
    png(tmp_path / 'i/found/masks/1.png', 3)
    write_json(tmp_path / 'i/found/predict.json', dict(model='x'))
    (tmp_path / 'i/read.me').touch()
    for name, to in dict(line2='else', loop='i', up='.').items():
        os.symlink(tmp_path / to, tmp_path / 'i' / name)
    os.symlink(tmp_path / 'i', tmp_path / 'else/deep/back')
    os.symlink(tmp_path / 'nowhere', tmp_path / 'i/dead')
    os.symlink(tmp_path / 'else/deep/2.png', tmp_path / 'i/3.png')
    p = new(tmp_path / 'p', tmp_path / 'i')
    assert list(p.units.image) == ['1.png', '3.png', 'line2/deep/2.png']
    assert sum('is a link to' in o for o in p.skipped) == 3
    assert any('passed over' in o and '.me 1' in o for o in p.notes)


@pytest.mark.parametrize('name', [b'gr\xfc.png', b'a\nb.png', b'a\rb.png', b'\x1b[31m.png', b'a\xc2\x85b.png'])
def test_a_name_that_fits_nowhere_costs_a_line(tmp_path, name):
    png(tmp_path / 'i/ok.png', 1)
    shutil.copy(tmp_path / 'i/ok.png', os.fsencode(tmp_path / 'i') + b'/' + name)
    code, said = run('project', 'new', tmp_path / 'p', '--images', tmp_path / 'i')
    assert code == 0 and '1 image' in said and said.count('its name') == 1
    assert len(said.splitlines()) == 3 and said.isascii()


@pytest.mark.parametrize('name', ['a\u2028b.png', 'ü' * 125 + '.png', 'x' * 251 + '.png', 'a,"b" {c}%.png', "=1+1'.png"])
def test_a_name_that_is_merely_odd_works(tmp_path, name):
    png(tmp_path / 'i' / name, 1)
    png(tmp_path / 'i/b.png', 2)
    assert run('project', 'new', tmp_path / 'p', '--images', tmp_path / 'i', '--window', 32)[0] == 0
    assert set(open_project(tmp_path / 'p').units.image) == {name, 'b.png'}
    assert run('next', tmp_path / 'p', '--budget', 2)[0] == 0
    png(tmp_path / 'm' / name, 0, ink=255)
    assert '1 new' in run('ingest', tmp_path / 'p', tmp_path / 'm')[1]
    assert pixels(tmp_path / 'p') == {name: 32 * 40}


def test_images_away_is_one_line(at):
    shutil.move(at / 'camera', at / 'away')
    for command in (['next', at / 'p'], ['where', at / 'p', '--prevalence', 0.1]):
        code, said = run(*command)
        assert code == 2 and said.count('\n') == 1 and 'holds none of the 10 images' in said
    assert not (at / 'p/rounds').exists()
    assert run('project', 'new', at / 'p', '--images', at / 'away')[0] == 0
    assert run('next', at / 'p', '--budget', 1)[0] == 0


def test_a_table_of_units_that_is_lost_is_made_again(at):
    (at / 'camera/0.png').rename(at / 'camera/zero.png')
    png(at / 'camera/1.png', 77)
    p = new(at / 'p', at / 'camera')
    for damage in (lambda f: f.unlink(), lambda f: f.write_bytes(b'\xff'), lambda f: f.write_text('id\n')):
        damage(next((at / 'p').glob('units-*.csv')))
        code, said = run('project', 'status', at / 'p')
        assert code == 2 and f'imbal-al project new {at}/p --images' in said
        assert run('project', 'new', at / 'p', '--images', at / 'camera')[0] == 0
        q = open_project(at / 'p')
        assert set(q.units.id) == set(p.units.id) and pixels(at / 'p')['zero.png'] == 1
        assert '1.png' not in pixels(at / 'p')


def test_a_project_of_an_early_version_goes_on_and_learns_its_pictures(at):
    f = at / 'p/project.json'
    found = read_json(f)
    next((at / 'p').glob('pictures-*.json')).unlink()
    write_json(f, {k: v for k, v in found.items() if k not in ('pictures', 'gone')})
    assert len(labels(open_project(at / 'p'))) == 6
    ids = list(open_project(at / 'p').units.id)
    assert run('next', at / 'p', '--budget', 1)[0] == 0
    p = open_project(at / 'p')
    assert len(p.pictures) == 10 and list(p.units.id) == ids
    assert p.pictures['3.png'].content == content_of(at / 'camera/3.png')
    (at / 'camera/3.png').rename(at / 'camera/three.png')
    new(at / 'p', at / 'camera')
    assert pixels(at / 'p')['three.png'] == 4


def test_what_a_newer_version_has_written_is_kept(at):
    f = at / 'p/project.json'
    found = read_json(f)
    found['settings']['focal_gamma'] = [2, 3]
    found['from_the_future'] = dict(a=1)
    write_json(f, found)
    png(at / 'camera/new.png', 50)
    assert len(new(at / 'p', at / 'camera').units) == 11
    drop(open_project(at / 'p'), ['new.png'])
    again = read_json(f)
    assert again['settings']['focal_gamma'] == [2, 3] and again['from_the_future'] == dict(a=1)


@pytest.mark.parametrize(
    'change',
    [
        dict(id=None),
        dict(images=3),
        dict(settings=[]),
        dict(units=7),
        dict(skipped='x'),
        dict(gone=[1]),
        dict(gone='x'),
        dict(settings=dict(window='big')),
        dict(settings=dict(steps=[])),
        dict(settings=dict(unit=None)),
        dict(settings=dict(group_by='(')),
    ],
)
def test_odd_fields_are_one_line(at, change):
    f = at / 'p/project.json'
    write_json(f, read_json(f) | change)
    for command in (['project', 'status', at / 'p'], ['project', 'new', at / 'p', '--images', at / 'camera']):
        code, said = run(*command)
        assert code == 2 and said.count('\n') == 1 and 'project.json' in said


def test_labels_that_may_not_be_read_stop_every_command(at):
    f = next((at / 'p/labels').glob('*.json'))
    f.write_bytes(b'')
    names = ('0.png', '1.png', '2.png', '3.png', '4.png', '5.png')
    for name in names:
        png(at / 'm' / name, 0, ink=255)
    for command in (['next', at / 'p'], ['project', 'status', at / 'p'], ['ingest', at / 'p', at / 'm']):
        code, said = run(*command)
        assert code == 2 and f.name in said and 'move it away and ingest' in said
    assert not (at / 'p/rounds').exists() and f.read_bytes() == b''


def test_a_label_is_written_without_listing_the_others(at, monkeypatch):
    "The time of an ingest is that of its own labels"
    p = open_project(at / 'p')

    def no(*args, **kw):
        raise AssertionError('all labels are listed')

    with monkeypatch.context() as m:
        for module, name in ((os, 'listdir'), (os, 'scandir')):
            m.setattr(module, name, no)
        assert write_label(p, p.units.id[9], np.ones((32, 40))) == 'new'
        assert write_label(p, p.units.id[9], np.zeros((32, 40))) == 'changed'
    assert read_mask(p, p.units.id[9]).sum() == 0 and read_mask(p, p.units.id[9], 1).sum() == 1280


def test_a_folder_of_images_and_masks_is_read_past_a_name_that_fits_nowhere(tmp_path, caplog):
    for i, name in enumerate(('ok.png', 'a\u2028b.png')):
        png(tmp_path / 'i' / name, i)
        png(tmp_path / 'm' / name, i, ink=0)
    for o in ('i', 'm'):
        shutil.copy(tmp_path / o / 'ok.png', os.fsencode(tmp_path / o) + b'/gr\xfc.png')
    code, said = run('data', 'check', f'folder:{tmp_path}/i:{tmp_path}/m')
    assert code == 0 and caplog.text.count('is not UTF-8') == 2 and '40x32 (2)' in said


def test_a_label_whose_rights_were_taken_stops(at, unprivileged):
    p = open_project(at / 'p')
    f = at / f'p/labels/{p.units.id[0]}.json'
    f.chmod(0)
    for o in [at, *at.parents][:3]:
        o.chmod(0o755)
    with unprivileged():
        if os.access(at / 'p', os.R_OK, effective_ids=True):
            with pytest.raises(InputError, match='Permission denied.*make it readable'):
                labels(p)


def test_odd_names_in_a_table_of_predictions(tmp_path):
    from imbal_al.project.predictor import _done, _stems

    rows = 'image,verdict,defect_pixels,error\n"a\u2028b.png",review,3,\n"c\x85d.png",review,3,\n'
    (tmp_path / 't.csv').write_text(rows, encoding='utf-8')
    assert list(_done(tmp_path / 't.csv')) == ['a\u2028b.png', 'c\x85d.png']
    stems = _stems(['x' * 251 + '.png', 'x' * 251 + '.bmp', 'y' * 250 + '.jpeg', 'd/' + 'ü' * 126 + '.a'])
    assert len(set(stems.values())) == 4 and all(
        len(f'{o}.png'.encode().split(b'/')[-1]) <= 255 for o in stems.values()
    )
