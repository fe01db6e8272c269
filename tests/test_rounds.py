"Rounds: killed at any step and repeated, the same picks; nothing labelled twice, nothing tested on trained on"

import json, os, shutil
from pathlib import Path

import numpy as np, pytest, quick
from PIL import Image

from imbal_al.project import network as m
from imbal_al.core import InputError, note, read_json
from imbal_al.project.intake import new
from imbal_al.project.labelled import labels, write_label
from imbal_al.project.store import open_project
from imbal_al.project.queue import as_annotations
from imbal_al.project.taken import ingest
from imbal_al.project.state import queued, release, waiting
from imbal_al.project.rounds import next_round
from imbal_al.project.state import is_held_out, unlabelled_units, split_labels
from imbal_al.project.network import score_pool, score_units, _training_windows
from imbal_al.data.synthetic import image
from kills import killed_at

TRUTH = {}


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    d = tmp_path_factory.mktemp('images')
    for i in range(20):
        a, mask = image('steel', i, (40, 50), faulty=i % 2 == 0)
        Image.fromarray(a).save(d / f'{i:02d}.png')
        TRUTH[f'{i:02d}.png'] = mask
    return d


def make(tmp, images, **kw):
    return new(
        tmp / 'p',
        images,
        **{**dict(window=32, overlap=0, steps=1, bs=2, **quick.NETWORK, seed=1), **kw},
    )


def annotate(p, r, but=()):
    t = json.loads((r.queue / 'labelstudio.json').read_text())
    f = p.dir.parent / 'e.json'
    f.write_text(
        json.dumps(
            as_annotations(
                [o for o in t if o['data']['id'] not in but], lambda id: TRUTH[p.row[id]['name']]
            )
        )
    )
    return ingest(p, f)


def label_all(p, n):
    for o in p.units.id[:n]:
        write_label(p, o, TRUTH[p.row[o]['name']])


def test_three_rounds_label_nothing_twice_and_never_train_on_the_test(tmp_path, images):
    p, seen = make(tmp_path, images), []
    for k, s in enumerate(('entropy', 'random', 'coreset'), 1):
        r = next_round(p, 5, s, 'cpu')
        assert r.fresh and r.number == k and len(r.picks) == 5 and r.record['cold'] == (k == 1)
        assert all(
            o['held_out'] == is_held_out(p, p.row[o['id']]['image']) for o in r.picks
        ) and any(o['held_out'] for o in r.picks)
        assert not any(is_held_out(p, p.row[o]['image']) for o, _ in r.record['train'])
        seen += [o['id'] for o in r.picks]
        annotate(p, r)
    assert len(set(seen)) == 15 and (labels(p).version == 1).all()
    r = next_round(p, 50, 'entropy', 'cpu')
    assert len(r.picks) == 5, 'all that is left'
    annotate(p, r)
    with pytest.raises(InputError, match='nothing is left to label'):
        next_round(p, 5, device='cpu')
    r = next_round(p, 0, device='cpu')
    assert (
        r.picks == []
        and len(r.record['train']) + len(r.record['test']) == 20
        and (r.folder / 'model.pt').exists()
    )


def test_a_queue_that_is_out_is_given_again_and_a_part_of_it_is_enough_to_go_on(tmp_path, images):
    p = make(tmp_path, images)
    a = next_round(p, 4, device='cpu')
    files = {o: o.stat().st_mtime_ns for o in p.dir.rglob('*') if o.is_file()}
    b = next_round(p, 4, device='cpu')
    assert (
        not b.fresh
        and b.picks == a.picks
        and files == {o: o.stat().st_mtime_ns for o in p.dir.rglob('*') if o.is_file()}
    )
    late = [o['id'] for o in a.picks[:2]]
    annotate(p, a, late)
    c = next_round(p, 4, device='cpu')
    assert (
        c.fresh
        and not {o['id'] for o in c.picks} & {o['id'] for o in a.picks}
        and set(late) <= set(waiting(p))
    )
    release(p)
    assert waiting(p) == [] and set(late) <= {*unlabelled_units(p)[0], *unlabelled_units(p)[1]}


def files(p):
    out = {}
    for o in sorted(p.dir.rglob('*')):
        if (
            o.is_file()
            and not o.name.startswith('.')
            and o.name not in ('next.json', 'project.json')
            and 'labels' not in o.parts
        ):
            out[str(o.relative_to(p.dir))] = o.read_bytes() if o.suffix != '.pt' else b''
    return out


@pytest.mark.parametrize('cold', [True, False])
def test_killed_at_any_file_and_repeated_the_picks_are_the_same(tmp_path, images, cold):
    p = make(tmp_path, images)
    if not cold:
        label_all(p, 6)
    shutil.copytree(p.dir, tmp_path / 'start')
    go = lambda: next_round(open_project(p.dir), 4, 'coreset', 'cpu')
    log = tmp_path / 'log'
    assert killed_at(999, go, log) == 0, log.read_text()
    want = files(p)
    points = (1, 2, 4, 14) if not cold else (1, 8)
    for n in points:
        shutil.rmtree(p.dir)
        shutil.copytree(tmp_path / 'start', p.dir)
        assert killed_at(n, go) == 9 and killed_at(999, go, log) == 0, log.read_text()
        assert files(p) == want, n
        assert len(queued(p)) == 4


def test_killed_before_each_of_its_last_files_a_queue_is_whole_once_it_is_repeated(tmp_path, images, monkeypatch):
    p = make(tmp_path, images)
    shutil.copytree(p.dir, tmp_path / 'start')
    moved, real = [], os.replace

    def counted(a, b):
        moved.append(Path(b).name)
        return real(a, b)

    with monkeypatch.context() as m:
        m.setattr(os, 'replace', counted)
        next_round(p, 4, 'coreset', 'cpu')
    want, log = files(p), tmp_path / 'log'
    assert any(name.endswith('overview.txt') for name in want) and moved[-1] == 'done.json'
    for n in range(len(moved) - 3, len(moved)):
        shutil.rmtree(p.dir)
        shutil.copytree(tmp_path / 'start', p.dir)
        go = lambda: next_round(open_project(p.dir), 4, 'coreset', 'cpu')
        assert killed_at(n, go) == 9 and killed_at(999, go, log) == 0, log.read_text()
        assert files(p) == want, moved[n]


def test_damaged_files_of_a_round_are_made_again(tmp_path, images):
    p = make(tmp_path, images)
    label_all(p, 6)
    r = next_round(p, 4, device='cpu')
    picks = r.picks
    note.cache_clear()
    (r.queue / 'done.json').unlink()
    (r.folder / 'model.pt').write_bytes(b'x')
    (r.folder / 'scores_000.npz').write_bytes(b'y')
    (r.folder / 'queue.json').write_text('{')
    assert next_round(p, 4, device='cpu').picks == picks
    (r.folder / 'round.json').write_text('{')
    note.cache_clear()
    two = next_round(p, 4, device='cpu')
    assert two.number == 2 and not {o['id'] for o in picks} & {
        o['id'] for o in two.picks
    }, 'picks that are out are not picked again'


def test_a_round_begun_otherwise_is_finished_first(tmp_path, images):
    p = make(tmp_path, images)
    label_all(p, 6)
    r = next_round(p, 4, 'random', 'cpu')
    (r.queue / 'done.json').unlink()
    said = []
    again = next_round(p, 2, 'entropy', 'cpu', say=said.append)
    assert again.picks == r.picks and 'that one is finished first' in said[0]


def test_unreadable_images_cost_a_line_and_are_not_picked(tmp_path, images):
    own = tmp_path / 'own'
    shutil.copytree(images, own)
    p = make(tmp_path, own)
    bad = [o for o in p.units.image if not is_held_out(p, o)][:3]
    (own / bad[0]).unlink()
    (own / bad[1]).write_bytes((own / bad[1]).read_bytes()[:200])
    Image.new('L', (9, 9)).save(own / bad[2])
    said = []
    r = next_round(p, 20, device='cpu', say=said.append)
    assert (
        [[b in o for b in bad] for o in said if 'gone or another picture now' in o] == [[True] * 3]
        and len(r.picks) == 17
        and not {p.row[o['id']]['image'] for o in r.picks} & set(bad)
    )


def test_scores_are_those_of_one_pass_whatever_the_chunks(tmp_path, images, monkeypatch):
    p = make(tmp_path, images)
    net = m.cold_model(p)
    ids = list(p.units.id)
    whole, _ = score_units(p, net, ids, embedding=True)
    monkeypatch.setattr(m, '_CHUNK', 7)
    (tmp_path / 's').mkdir()
    parts = score_pool(p, net, ids, tmp_path / 's', 'cpu', True)
    assert (
        parts['ids'].tolist() == ids
        and np.allclose(parts['entropy'], whole['entropy'], rtol=2e-2)
        and parts['embedding'].shape == whole['embedding'].shape
        and len(list((tmp_path / 's').iterdir())) == 3
    )
    stamp = {o: o.stat().st_mtime_ns for o in (tmp_path / 's').iterdir()}
    score_pool(p, None, ids, tmp_path / 's', 'cpu', True)
    assert stamp == {o: o.stat().st_mtime_ns for o in (tmp_path / 's').iterdir()}


@pytest.fixture
def always_worth(monkeypatch):
    "Every look is long enough to choose a way, and the fastest is the last that is tried"
    from imbal_al.networks import quick_look as room

    monkeypatch.setattr(room, '_WORTH', 0)
    monkeypatch.setattr('imbal_al.networks.device._is_fast', lambda name: False)  # fp32 on every processor
    turns = iter(range(1000, 0, -1))
    plain = room._seconds
    monkeypatch.setattr(room, '_seconds', lambda run, batch: (next(turns), plain(run, batch)[1]))
    monkeypatch.setattr(room, '_FASTER', 1)


@pytest.mark.parametrize('embedding', [False, True])
def test_a_quicker_way_says_the_same_and_is_gone_on_with(tmp_path, images, monkeypatch, always_worth, embedding):
    "The whole pool by PyTorch, and by the last of the other ways, killed after the first file"
    p, said = make(tmp_path, images, **quick.EXPORTED), []
    net = m.cold_model(p)
    ids = list(p.units.id)
    whole, _ = score_units(p, net, ids, embedding=embedding)
    monkeypatch.setattr(m, '_CHUNK', 7)
    folder = tmp_path / 's'
    folder.mkdir()
    score_pool(p, net, ids[:7], folder, 'cpu', embedding, said.append)
    way = read_json(folder / 'looked.json')['way']
    assert way['library'] == 'openvino' and said[0].startswith('looking with OpenVINO')
    monkeypatch.setattr('imbal_al.networks.quick_look._seconds', None)
    parts = score_pool(p, net, ids, folder, 'cpu', embedding, said.append)
    assert read_json(folder / 'looked.json')['way'] == way
    assert parts['ids'].tolist() == ids
    np.testing.assert_allclose(parts['entropy'], whole['entropy'], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(parts['embedding'], whole['embedding'], atol=1e-4)


def test_a_way_that_is_gone_is_said_and_nothing_is_mixed(tmp_path, images, monkeypatch, always_worth):
    p, said = make(tmp_path, images, **quick.EXPORTED), []
    net = m.cold_model(p)
    ids = list(p.units.id)
    monkeypatch.setattr(m, '_CHUNK', 7)
    folder = tmp_path / 's'
    folder.mkdir()
    score_pool(p, net, ids[:14], folder, 'cpu', False, said.append)
    first = (folder / 'scores_000.npz').stat().st_mtime_ns
    monkeypatch.setattr('imbal_al.networks.quick_look._others', list)
    parts = score_pool(p, net, ids, folder, 'cpu', False, said.append)
    assert any('is not here: all is looked at anew' in line for line in said)
    assert (folder / 'scores_000.npz').stat().st_mtime_ns > first and parts['ids'].tolist() == ids
    assert not (folder / 'looked.json').exists(), 'PyTorch is what needs no word'
    whole, _ = score_units(p, net, ids)
    np.testing.assert_array_equal(parts['foreground'], whole['foreground'])


def test_a_record_of_a_look_that_is_gone_decides_nothing(tmp_path, images):
    "Scores went with the settings; what was looked at with then must not be gone on with"
    p = make(tmp_path, images)
    ids, folder = list(p.units.id), tmp_path / 's'
    folder.mkdir()
    (folder / 'looked.json').write_text('{"way": {"library": "openvino"}}')
    score_pool(p, m.cold_model(p), ids[:5], folder, 'cpu', False)
    assert not (folder / 'looked.json').exists(), 'a short look is of PyTorch'


def test_a_way_that_says_otherwise_is_not_taken(tmp_path, images, monkeypatch, always_worth):
    "A library that computes something else, however fast"
    from imbal_al.networks import quick_look as room

    honest = room._by

    def wrong(*how):
        run = honest(*how)
        return lambda batch: (run(batch)[0] + 2, None)

    monkeypatch.setattr(room, '_by', wrong)
    p = make(tmp_path, images, **quick.EXPORTED)
    ids = list(p.units.id)
    (tmp_path / 's').mkdir()
    net = m.cold_model(p)
    got = score_pool(p, net, ids, tmp_path / 's', 'cpu', False)
    assert read_json(tmp_path / 's/looked.json')['way']['library'] == 'torch'
    whole, _ = score_units(p, net, ids)
    np.testing.assert_array_equal(got['entropy'], whole['entropy'])


def test_windows_of_one_image_go_the_same_way_and_defects_are_kept(tmp_path, images):
    p = make(tmp_path, images, unit='window', per_image=1)
    for _, o in p.units.groupby('image'):
        assert len({is_held_out(p, i) for i in o.image}) == 1
    q = make(tmp_path / 'q', images, per_image=1)
    label_all(q, 1)
    x, y = _training_windows(q, [(q.units.id[0], 1)])
    assert x.shape == (1, 32, 32, 1) and y.any(), 'the window with a defect is the one that is kept'
    tr, te = split_labels(q, list(q.units.id))
    assert len(tr) + len(te) == 20 and 0 < len(te) < 10


@pytest.mark.parametrize(
    'kw,says',
    [
        (dict(budget=-1), 'budget = -1'),
        (dict(budget=True), 'budget = True'),
        (dict(budget=1.5), 'budget = 1.5'),
        (dict(strategy='magic'), 'unknown strategy'),
        (dict(strategy='random_faulty'), 'looks at the truth'),
        (dict(strategy='coreset_paper'), 'looks at training embedding'),
        (dict(strategy='quota'), '--prevalence 0.05'),
        (dict(prevalence=2), 'prevalence 2'),
        (dict(budget=0), 'no labelled defect'),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_round(tmp_path, images, kw, says):
    p = make(tmp_path, images)
    with pytest.raises(InputError, match=says):
        next_round(p, **{**dict(device='cpu'), **kw})
    assert not (p.dir / 'rounds').exists()


@pytest.mark.parametrize('v', [-0.1, 1, True, 'half', None])
def test_a_balance_that_is_none(v):
    from imbal_al.project.settings import check_settings, Settings

    with pytest.raises(InputError, match='balance') as e:
        check_settings(Settings(balance=v))
    assert '\n' not in str(e.value)


@pytest.mark.parametrize('share,want', [(0.02, 0.3), (0.3, None), (0.5, None), (0, None)])
def test_training_is_drawn_towards_defects_where_they_are_rare(monkeypatch, share, want):
    import types
    from imbal_al.project.settings import Settings

    masks = np.zeros((100, 4, 4), np.uint8)
    masks[: int(100 * share), 0, 0] = 1
    got = {}
    monkeypatch.setattr(
        m, '_training_windows', lambda p, l: (np.zeros((100, 4, 4, 1), np.uint8), masks)
    )
    monkeypatch.setattr(m, 'make_learner', lambda *a, **k: got.update(k))
    monkeypatch.setattr(m, 'fit', lambda *a: a)
    monkeypatch.setattr(m, 'temper', lambda *a: 1)
    monkeypatch.setattr(m, '_surest', lambda *a: 0)
    m.train(types.SimpleNamespace(settings=Settings()), [], 0)
    assert got['train_pi'] == want


def test_the_thousandth_round_is_later_than_the_999th(tmp_path, monkeypatch):
    from types import SimpleNamespace
    from imbal_al.project import begun

    picked = {'a': dict(round='999'), 'b': dict(round='1000')}
    monkeypatch.setattr(begun, 'queued', lambda p: picked)
    monkeypatch.setattr(begun, 'waiting', lambda p: list(picked))
    assert begun._still_out(SimpleNamespace(dir=tmp_path)).number == 1000
