"The reviewer by keys, without a browser"

import numpy as np, pytest
from PIL import Image

from imbal_al.core import InputError, write_json
from imbal_al.project.intake import new
from imbal_al.project.labelled import labels, read_label, read_mask
from imbal_al.project.queue import write_queue
from imbal_al.project.review import _KEYS, _picture, _status_line, Session


@pytest.fixture
def project(tmp_path):
    (tmp_path / 'i').mkdir()
    for i in range(3):
        Image.new('L', (60, 40), 30 * i).save(tmp_path / 'i' / f'{i}.png')
    p = new(tmp_path / 'p', tmp_path / 'i', window=32, overlap=0)
    prob = np.zeros((40, 60))
    prob[2:12, 2:12] = 0.9
    prob[20:25, 30:35] = 0.6
    prob[35, 50] = 0.7
    picks = [dict(id=o, why='w', held_out=i == 2) for i, o in enumerate(p.units.id)]
    write_queue(p, p.dir / 'rounds/001/queue', picks, lambda id: prob)
    write_json(p.dir / 'rounds/001/queue.json', dict(picks=picks))
    return p


def press(s, keys):
    for k in keys:
        s.key(k)
    return s


def test_a_healthy_image_is_one_key(project):
    s = press(Session(project), 'hhh')
    assert (
        s.done
        and labels(project).pixels.tolist() == [0, 0, 0]
        and 'all done: 3 units' in _status_line(s)
        and _picture(s)
    )


def test_accepting_thresholds_and_regions(project):
    a, b, c = project.units.id
    press(Session(project), 'a')
    assert read_mask(project, a).sum() == 126
    press(Session(project, [b]), '2a')
    m = read_mask(project, b)
    assert m.sum() == 101 and not m[20:25, 30:35].any()
    press(Session(project, [b]), '1212a')
    assert (
        read_label(project, b)['versions'][-1]['pixels'] == 101
    ), 'a labelled unit begins with its label'
    press(Session(project, [c]), 'a')
    assert read_label(project, c) is None, 'a held-out unit has no prediction to accept'
    s = press(Session(project, [a]), '++++')
    assert abs(s.drawing.threshold - 0.7) < 1e-9


def test_threshold_removes_what_is_less_sure(project):
    s = press(Session(project), '+++')
    assert (
        s.drawing.mask().sum() == 101
        and press(s, '+++').drawing.mask().sum() == 100
        and press(s, '-' * 99).drawing.threshold == pytest.approx(0.05)
        and press(s, '0').drawing.mask().sum() == 126
    )


def test_painting_erasing_and_the_pen_stay_inside(project):
    c = project.units.id[2]
    s = Session(project, [c])
    assert s.drawing.pen == [20, 30]
    press(s, 'p')
    n = s.drawing.mask().sum()
    assert n == 113
    press(s, 'e')
    assert not s.drawing.mask().any()
    press(s, 'i' * 99 + 'j' * 99)
    assert s.drawing.pen == [0, 0]
    press(s, 'k' * 99 + 'l' * 99)
    assert s.drawing.pen == [39, 59]
    r = s.drawing.radius
    assert (
        press(s, ']').drawing.radius > r
        and press(s, '[' * 50).drawing.radius == 1
        and press(s, ']' * 50).drawing.radius <= 200
    )
    press(s, 'pa')
    assert s.done and read_mask(project, c).all()


def test_back_and_otherwise_is_a_version_and_other_keys_do_nothing(project):
    s = press(Session(project), 'hb')
    assert s.at == 0
    press(s, 'zZ \t?')
    assert s.at == 0
    press(s, 'pa')
    assert len(read_label(project, project.units.id[0])['versions']) == 2
    press(s, 'b')
    press(s, 'h')
    assert [o['pixels'] for o in read_label(project, project.units.id[0])['versions']] == [
        0,
        113,
        0,
    ]
    press(s, 'bbbbbb')
    assert s.at == 0
    press(s, 'nnnnnnn')
    assert s.done and press(s, _KEYS.replace('b', '')).done


def test_pictures_of_any_size_and_lost_images(project):
    s = Session(project)
    assert _picture(s).size == (540, 360) and _picture(s, 30).size == (30, 20)
    (project.images / '0.png').unlink()
    s = Session(project)
    assert len(s.ids) == 2 and 'is missing' in s.said
    with pytest.raises(InputError, match='is no unit'):
        Session(project, ['x'])


def test_the_widget_takes_keys_and_clears_them(project):
    pytest.importorskip('ipywidgets', reason='pip install ipywidgets')
    from imbal_al.project.review import reviewer

    w = reviewer(project)
    w.entry.value = 'hn'
    assert (
        w.session.at == 2
        and w.entry.value == ''
        and w.children[3].value[:4] == b'\x89PNG'
        and '3 of 3' in w.children[0].value
    )


def test_a_mask_by_clicks_is_accepted_like_any_other(project):
    "On the dark square of a picture, by the pen's place; a click beside it takes away, one can be taken back"
    c = project.units.id[2]
    pixels = np.full((40, 60), 200, np.uint8)
    pixels[17:24, 27:34] = 90
    Image.fromarray(pixels).save(project.images / project.row[c]['image'])
    s = Session(project, [c])
    assert s.drawing.pen == [20, 30]
    press(s, 'c')
    grown = s.drawing.mask()
    assert (grown == (pixels == 90)).mean() > 0.99 and 40 <= grown.sum() <= 52
    press(s, '[[[[lllx')
    assert (s.drawing.mask() <= grown).all() and s.drawing.mask().sum() < grown.sum()
    press(s, 'u')
    assert (s.drawing.mask() == grown).all()
    press(s, 'a')
    assert (read_mask(project, c) == grown).all()
    assert read_label(project, c)['versions'][-1]['by'] == 'reviewer'


def test_a_click_beside_alone_says_nothing(project):
    s = press(Session(project, [project.units.id[2]]), 'x')
    assert not s.drawing.mask().any() and s.drawing.clicks
