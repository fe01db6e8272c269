"The loop with masks as the annotator"

import numpy as np, pytest
from PIL import Image

from imbal_al.core import InputError
from imbal_al.project.intake import new
from imbal_al.project.labelled import labels
from imbal_al.project.state import rounds
from imbal_al.dev.rehearsal import _rehearsal_figure, _truth_of, rehearse
from imbal_al.data.catalog import load_source
from imbal_al.data.synthetic import image


@pytest.fixture
def folder(tmp_path):
    for d in ('images', 'masks'):
        (tmp_path / d).mkdir()
    for i in range(12):
        a, m = image('steel', i, (32, 48), faulty=i % 2 == 0)
        Image.fromarray(a).save(tmp_path / 'images' / f'{i:02d}.png')
        Image.fromarray(m * 255).save(tmp_path / 'masks' / f'{i:02d}.png')
    return tmp_path


def test_the_truth_of_windows_is_that_of_the_data_set(folder):
    s = load_source(f"folder:{folder/'images'}:{folder/'masks'}")
    p = new(folder / 'p', folder / 'images', unit='window', window=32, overlap=0)
    mask = _truth_of(p, s)
    for r in p.units.to_dict('records'):
        m = np.asarray(Image.open(folder / 'masks' / r['image'])) > 0
        assert (mask(r['id']) == m[r['y'] : r['y'] + r['h'], r['x'] : r['x'] + r['w']]).all()
    other = new(folder / 'q', folder / 'masks')
    with pytest.raises(InputError, match='is no image of'):
        _truth_of(other, s)(other.units.id[0])


def test_killed_between_rounds_it_goes_on_and_the_table_is_the_same(folder, monkeypatch):
    s = load_source(f"folder:{folder/'images'}:{folder/'masks'}")
    go = lambda p: rehearse(p, _truth_of(p, s), 5, 2, seconds=(6, 60))
    from imbal_al.dev import rehearsal as m

    p = new(
        folder / 'p', folder / 'images', window=32, overlap=0, steps=1, bs=2, weights=None, seed=1
    )
    real = m._annotate
    calls = []

    def stop(*a):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*a)

    monkeypatch.setattr(m, '_annotate', stop)
    with pytest.raises(KeyboardInterrupt):
        go(p)
    monkeypatch.setattr(m, '_annotate', real)
    t = go(p)
    assert (
        len(labels(p)) == 10
        and len(rounds(p)) == 3
        and t.labelled.tolist()[-1] == 10
        and t.minutes.iloc[-1]
        == pytest.approx((t.faulty.iloc[-1] * 60 + (10 - t.faulty.iloc[-1]) * 6) / 60)
        and go(p).equals(t)
    )
    assert len(_rehearsal_figure(dict(a=t, b=[t, t])).axes) == 2


def test_a_loop_is_played_gathered_and_not_played_twice(folder, monkeypatch):
    "Groups lie in one folder, are held out together; halved images and masks; kinds"
    from dataclasses import replace
    from imbal_al.dev import rehearsal as m

    s = load_source(f"folder:{folder/'images'}:{folder/'masks'}")
    t = s.table.copy()
    t['group'] = [f'g{int(o[:2])//2}' for o in t['name']]
    t['kind'] = ['A' if int(o[:2]) < 10 else 'B' for o in t['name']]
    monkeypatch.setattr(m, 'load_source', lambda name, root=None: replace(s, name='tiny', table=t))
    l = m.Loop(
        'tiny',
        'random',
        0,
        groups=5,
        shrink=2,
        kinds='A',
        unit='image',
        window=32,
        steps=1,
        bs=2,
        held_out=0.4,
        tests=3,
        budget=3,
        cycles=2,
    )
    a = m.play(l, folder / 'root')
    d = folder / 'root/data/tiny-5-2-A'
    assert (
        sorted(o.name for o in (d / 'images').iterdir()) == [f'{i:04d}' for i in range(5)]
        and len(list(d.glob('images/*/*.png'))) == 10
    )
    im, ms = (
        np.asarray(Image.open(next((d / k).glob('*/00000.png')))) for k in ('images', 'masks')
    )
    x, y = image('steel', 0, (32, 48), faulty=True)
    assert (
        im.shape == (16, 24)
        and np.abs(im - x.reshape(16, 2, 24, 2).mean((1, 3))).max() <= 0.5
        and ((ms > 0) == (y.reshape(16, 2, 24, 2).mean((1, 3)) >= 0.5)).all()
    )
    b, made = m.gather(folder / 'root')
    assert (
        len(b) == len(a)
        and set(b['config']) == {l.key}
        and list(made.values())[0]['kinds'] == 'A'
        and m.play(l, folder / 'root').equals(a)
    )
    assert (
        l.key != replace(l, kinds='').key
        and l.key == replace(l, seed=5, strategy='entropy').key
        and (a.f1_best.isna() | (a.f1_best >= a.f1.fillna(0) - 0.05)).all()
    )
    with pytest.raises(InputError, match='holds no loop'):
        m.gather(folder)
