"A quiet line is called quiet, a drift by its name, and records of something else are refused"

import json, os, shutil, subprocess, sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np, pytest
from PIL import Image
from scipy import stats
from small import run

from imbal_al.core import InputError
from imbal_al.data.synthetic import image
from imbal_al.dev.watch import _Scale, Bank, called, day, make_bank, study
from imbal_al.project.deploy import export
from imbal_al.project.intake import new
from imbal_al.project.labelled import labels, write_label
from imbal_al.project.predictor import open_model, open_watcher, predict_folder, watch_file
from imbal_al.project import reference
from imbal_al.project.reference import frozen_watcher
from imbal_al.project.rounds import next_round
from imbal_al.project.store import open_project
from imbal_al.project.watch import watch_line
from imbal_al.project.watched import DIM, found_records, part_file, ROW, Watcher

SMALL = _Scale(parts=66, each=2, side=32, reference=40, pictures=(52,), days=3, quiet=3)


def ends(pixels, mask):
    "A made-up encoder of 152 numbers: how strong the grain is along and across"
    from imbal_al.networks.background import evened

    x = evened(pixels).astype(float)
    along, across = np.abs(np.diff(x, axis=0)), np.abs(np.diff(x, axis=1))
    parts = np.array_split(along.ravel(), DIM // 2) + np.array_split(across.ravel(), DIM // 2)
    return np.array([part.mean() for part in parts], np.float16)


@pytest.fixture(scope='module')
def bank():
    return make_bank(SMALL, Watcher('0' * 16, ends))


def test_a_hundred_quiet_days_raise_no_more_alarms_than_were_promised(bank):
    "Five percent are promised; more than 10 of 100 would be chance in one of 80 such tests"
    days = [day(bank, SMALL, 'quiet', 52, seed) for seed in range(100)]
    alarms = sum(bool(called(one, 'moved')) for one in days)
    assert stats.binom.sf(10, 100, 0.05) < 1 / 80
    assert alarms <= 10


def test_each_drift_is_named_and_hardly_another_kind(bank):
    "A blur moves this made-up encoder, too; where the focus has moved no surface is called moved"
    table = study(bank, SMALL, say=lambda line: None).set_index('state')
    for state in ('dark_20', 'softer', 'noisy'):
        assert table.named[state] == 3, state
    for state in ('dark_20', 'softer', 'noisy'):
        assert table.other[state] <= 1, state
    assert table.light.drop(['dark_10', 'dark_20']).sum() <= 1


def waves(pixels, mask):
    "A made-up encoder of 152 numbers: how strong each wave of the surface is"
    from imbal_al.networks.background import evened

    strong = np.abs(np.fft.rfft2(evened(pixels).astype(float)))
    return np.log1p(strong)[:9].ravel()[:DIM].astype(np.float16)


def test_a_woven_surface_is_called_moved():
    "Faintly woven, at the same light and sharpness; no other kind is called as often"
    woven = make_bank(SMALL, Watcher('0' * 16, waves))
    named = [called(day(woven, SMALL, 'woven', 52, seed), 'moved') for seed in range(6)]
    assert sum('surface' in one for one in named) >= 4
    assert sum('focus' in one for one in named) <= 2 and sum('light' in one for one in named) <= 2
    assert sum('share' in one for one in named) <= 1


def test_three_times_as_many_faulty_parts_are_called_a_moved_share(bank):
    "100 parts that are tested on, 125 of today; the pictures are alike, so nothing else has moved"
    many = Bank({'quiet': np.tile(bank.rows['quiet'], (5, 1))}, bank.basis)
    scale = replace(SMALL, parts=5 * SMALL.parts, reference=200)
    named = [called(day(many, scale, 'faulty_30', 250, seed), 'moved') for seed in range(6)]
    assert sum('share' in one for one in named) >= 5
    for kind in ('light', 'focus', 'surface'):
        assert sum(kind in one for one in named) <= 1, kind
    quiet = [called(day(many, scale, 'quiet', 250, seed), 'moved') for seed in range(6)]
    assert sum('share' in one for one in quiet) <= 1


def photographs(folder, n, first, gain=1.0, every=3):
    "n pictures of steel, and name -> mask"
    folder.mkdir(exist_ok=True)
    truth = {}
    for i in range(n):
        pixels, mask = image('steel', first + i, 64, faulty=i % every == 0)
        name = f'{first + i:03d}.png'
        truth[name] = mask
        Image.fromarray(np.rint(gain * pixels).astype(np.uint8)).save(folder / name)
    return truth


@pytest.fixture(scope='module')
def line(tmp_path_factory):
    "(folder, project, its labels' masks): a project of 40 pictures, exported as m.onnx"
    at = tmp_path_factory.mktemp('line')
    truth = photographs(at / 'i', 40, 0)
    settings = dict(window=64, overlap=0, steps=2, bs=2, weights=None, held_out=0.5, seed=1)
    p = new(at / 'p', at / 'i', **settings)
    for id in p.units.id:
        write_label(p, id, truth[p.row[id]['name']])
    next_round(p, 0, device='cpu')
    export(p, at / 'm.onnx', threshold=0.5)
    return at, p


def test_a_darker_day_is_found_drawn_queued_and_labelled(line, tmp_path):
    at, p = line
    truth = photographs(tmp_path / 'today', 24, 500, gain=0.7)
    code, said = run('predict', at / 'm.onnx', tmp_path / 'today', '--out', tmp_path / 'found')
    assert code == 0
    code, said = run('watch', tmp_path / 'found', '--project', p.dir)
    assert code == 0 and '24 pictures, against 40 of the project' in said
    told = json.loads((tmp_path / 'found/watch/watch.json').read_text())
    verdict = {one['kind']: one['verdict'] for one in told['findings']}
    light = next(one for one in told['findings'] if one['kind'] == 'light')
    assert verdict['light'] == 'moved' and 'darker' in light['says']
    percent = float(light['says'].split(' %')[0])
    assert 10 <= percent <= 55, light['says']
    assert Image.open(tmp_path / 'found/watch/watch.png').size[1] > 300
    queue = tmp_path / 'found/watch/queue'
    tasks = json.loads((queue / 'labelstudio.json').read_text())
    assert 0 < len(tasks) <= 20 and all('sd from the reference' in t['data']['why'] for t in tasks)
    shutil.copytree(p.dir, tmp_path / 'p')
    shutil.copytree(at / 'i', tmp_path / 'i')
    shutil.copytree(tmp_path / 'found/watch/pictures', tmp_path / 'i', dirs_exist_ok=True)
    assert run('project', 'new', tmp_path / 'p', '--images', tmp_path / 'i')[0] == 0
    (tmp_path / 'masks').mkdir()
    for t in tasks:
        name = t['data']['name'].split('/')[-1]
        file = next((queue / 'images').glob(f"*{t['data']['id']}.png")).name
        Image.fromarray(truth[name] * 255).save(tmp_path / 'masks' / file)
    code, said = run('ingest', tmp_path / 'p', tmp_path / 'masks', '--empty', 'healthy')
    assert code == 0 and f'{len(tasks)} new' in said
    assert len(labels(open_project(tmp_path / 'p'))) == 40 + len(tasks)


def test_nothing_has_moved_on_a_like_day_and_the_reference_is_kept(line, tmp_path):
    at, p = line
    photographs(tmp_path / 'today', 20, 700)
    run('predict', at / 'm.onnx', tmp_path / 'today', '--out', tmp_path / 'found')
    lines = []
    first = watch_line(p, tmp_path / 'found', say=lines.append)
    assert first.moved == [] and 0 < first.held_out < first.reference == 40
    stamp = (p.dir / 'watch/reference.npz').stat().st_mtime_ns
    again = watch_line(p, tmp_path / 'found', say=lines.append)
    assert [str(one) for one in again.findings] == [str(one) for one in first.findings]
    assert (p.dir / 'watch/reference.npz').stat().st_mtime_ns == stamp


def test_what_cannot_be_compared_is_refused_in_a_line(line, tmp_path):
    at, p = line
    photographs(tmp_path / 'today', 4, 900)
    found, model = tmp_path / 'found', open_model(at / 'm.onnx')
    with pytest.raises(InputError, match='no folder of results'):
        watch_line(p, tmp_path / 'today')
    predict_folder(model, tmp_path / 'today', found)
    with pytest.raises(InputError, match=r'keeps no record .* give `imbal-al predict MODEL FOLDER'):
        watch_line(p, found)
    predict_folder(model, tmp_path / 'today', found, watch=Watcher('0' * 16, ends))
    with pytest.raises(InputError, match='embeddings of another encoder'):
        watch_line(p, found)
    assert run('predict', at / 'm.onnx', tmp_path / 'today', '--out', found)[0] == 0
    assert 'light' in str(watch_line(p, found))
    (tmp_path / 'o').mkdir()
    photographs(tmp_path / 'o/i', 6, 0)
    other = new(tmp_path / 'o/p', tmp_path / 'o/i', window=64, overlap=0)
    with pytest.raises(InputError, match='another network than one of'):
        watch_line(other, found)
    predict_folder(model, p.images, tmp_path / 'own', watch=None)
    run('predict', at / 'm.onnx', p.images, '--out', tmp_path / 'own')
    with pytest.raises(InputError, match='pictures of .* themselves'):
        watch_line(p, tmp_path / 'own')
    kept = (p.dir / 'watch/reference.npz').read_bytes()
    away = p.images.rename(p.images.with_name('away'))
    try:
        with pytest.raises(InputError, match=r'none of the 40 pictures of .* put them back'):
            watch_line(p, found)
    finally:
        away.rename(p.images)
    assert (p.dir / 'watch/reference.npz').read_bytes() == kept
    assert 'light' in str(watch_line(p, found))  # Put back, they are compared with again


def test_a_killed_prediction_goes_on_and_its_records_are_those_of_one_run(
    line, tmp_path, monkeypatch
):
    at, _ = line
    photographs(tmp_path / 'today', 6, 900)
    watcher, model = Watcher('0' * 16, ends), open_model(at / 'm.onnx')
    predict_folder(model, tmp_path / 'today', tmp_path / 'whole', watch=watcher, bs=1)
    seen = []

    def stopping(pixels, mask):
        seen.append(1)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return ends(pixels, mask)

    with pytest.raises(KeyboardInterrupt):
        stopped = Watcher('0' * 16, stopping)
        predict_folder(model, tmp_path / 'today', tmp_path / 'out', watch=stopped, bs=1)
    with open(part_file(tmp_path / 'out', watcher.key), 'ab') as f:
        f.write(b'x' * (ROW.itemsize // 2))
    predict_folder(model, tmp_path / 'today', tmp_path / 'out', watch=watcher, bs=1)
    whole, again = (found_records(tmp_path / name) for name in ('whole', 'out'))
    assert whole.names == again.names and len(whole) == 6
    assert whole.rows.tobytes() == again.rows.tobytes()


ALONE = """
import importlib.abc, sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split('.')[0] in ('torch','torchvision','timm','fastai','onnx'): raise ImportError(name)

sys.meta_path.insert(0, Missing())
from imbal_al.cli import main
main()
"""


def alone(*args):
    "(exit code, all that was said) where onnxruntime is installed and torch and onnx are not"
    words = [sys.executable, '-c', ALONE, *map(str, args)]
    env = dict(os.environ, OMP_NUM_THREADS='1')
    done = subprocess.run(words, capture_output=True, text=True, env=env)
    return done.returncode, done.stdout + done.stderr


def test_a_station_without_torch_keeps_the_same_records(line, tmp_path):
    at, p = line
    photographs(tmp_path / 'today', 24, 500, gain=0.7)
    station = tmp_path / 'station'
    station.mkdir()
    for name in ('m.onnx', 'm.watch.onnx'):
        shutil.copy(at / name, station)
    code, said = alone('predict', station / 'm.onnx', tmp_path / 'today', '--out', tmp_path / 'a')
    assert code == 0 and 'no record' not in said, said
    code, said = run('predict', at / 'm.onnx', tmp_path / 'today', '--out', tmp_path / 'b')
    assert code == 0
    a, b = (found_records(tmp_path / name) for name in 'ab')
    assert a.names == b.names and len(a) == 24 and a.about == b.about
    assert np.allclose(a.rows['surface'].astype(float), b.rows['surface'].astype(float), atol=0.01)
    assert a.rows['surface'].astype(float).std() > 0.05
    assert 'light' in watch_line(p, tmp_path / 'a').moved
    code, said = alone('watch', tmp_path / 'a', '--project', p.dir, '--queue', 0)
    assert code == 0 and 'light' in said, said


@pytest.mark.parametrize('words', [('where', '--prevalence', 0.1), ('verdict', '--slip', 0.2)])
def test_what_is_kept_of_held_out_units_is_told_without_torch(line, tmp_path, words):
    "The same words twice: with the network, which is asked for what is missing, then alone"
    command, *options = words
    folder = shutil.copytree(line[1].dir, tmp_path / 'p')
    code, first = run(command, folder, *options)
    assert code == 0
    code, second = alone(command, folder, *options)
    assert (code, second.split()) == (0, first.split())


def damage(kind, model, path):
    "Make a watch file one that cannot be used"
    content = path.read_bytes()
    if kind == 'missing':
        path.unlink()
    elif kind == 'cut off':
        path.write_bytes(content[: len(content) // 2])
    elif kind == 'changed':
        at = len(content) // 2
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    else:
        path.write_bytes(model.read_bytes())


SAID = {
    'missing': 'is missing; copy it from beside the exported model, or export that again',
    'cut off': 'cannot be read as an ONNX model; export the model again',
    'changed': 'its checksum differs; copy it again, or export it again',
    'a model': 'is no encoder of this version; export the model again',
}


@pytest.mark.parametrize('kind', SAID)
def test_without_its_encoder_all_is_predicted_but_the_record_and_a_line_says_how(
    line, tmp_path, kind
):
    at, p = line
    photographs(tmp_path / 'today', 4, 500)
    shutil.copy(at / 'm.onnx', tmp_path)
    shutil.copy(at / 'm.watch.onnx', tmp_path)
    model, found = tmp_path / 'm.onnx', tmp_path / 'found'
    damage(kind, model, watch_file(model))
    code, said = run('predict', model, tmp_path / 'today', '--out', found)
    told = [line for line in said.splitlines() if 'no record' in line]
    assert code == 0 and len(told) == 1 and SAID[kind] in told[0], said
    assert len((found / 'table.csv').read_text().splitlines()) == 5
    with pytest.raises(InputError, match='keeps no record .* it adds what is missing'):
        watch_line(p, found)
    run('export', p.dir, model, '--threshold', '.5')
    code, said = run('predict', model, tmp_path / 'today', '--out', found)
    assert code == 0 and 'no record' not in said
    assert len(found_records(found)) == 4


def foreign(path, **arrays):
    "Arrays of somebody else in a file's place"
    with open(path, 'wb') as f:
        np.savez(f, **(arrays or dict(x=np.arange(3))))


def test_records_cut_off_are_refused_and_made_again_and_a_reference_is_made_anew(line, tmp_path):
    at, p = line
    photographs(tmp_path / 'today', 20, 700)
    found = tmp_path / 'found'
    run('predict', at / 'm.onnx', tmp_path / 'today', '--out', found)
    first = watch_line(p, found)
    whole = found_records(found)
    kept = [p.dir / 'watch' / name for name in ('reference.npz', 'basis.npz', 'encoder.onnx')]
    sizes = [path.stat().st_size for path in kept]
    for bad in ('cut off', 'foreign'):
        for path in kept:
            foreign(path) if bad == 'foreign' else os.truncate(path, path.stat().st_size // 2)
        assert list(map(str, watch_line(p, found).findings)) == list(map(str, first.findings))
        assert [path.stat().st_size for path in kept] == sizes
    path = found / 'watch.npz'
    content = path.read_bytes()
    for bad in (content[: len(content) // 2], b'', b'something else'):
        path.write_bytes(bad)
        with pytest.raises(InputError, match='or it is damaged.* predict MODEL FOLDER --out'):
            watch_line(p, found)
    for about in ({}, dict(names=['a'], rows=np.zeros(1, ROW), about='[]')):
        foreign(path, **about)
        with pytest.raises(InputError, match='keeps no record'):
            watch_line(p, found)
    run('predict', at / 'm.onnx', tmp_path / 'today', '--out', found)
    assert found_records(found).rows.tobytes() == whole.rows.tobytes()


def test_an_encoder_of_another_key_is_written_anew(tmp_path, monkeypatch):
    path = tmp_path / 'encoder.onnx'
    key = frozen_watcher(path).key
    stamp = path.stat().st_mtime_ns
    assert frozen_watcher(path, key).key == key and path.stat().st_mtime_ns == stamp
    path.write_bytes(path.read_bytes()[:1000])
    assert frozen_watcher(path, key).key == key
    assert open_watcher(path).key == key
    stamp = path.stat().st_mtime_ns
    assert frozen_watcher(path, 'x' * 32).key == key and path.stat().st_mtime_ns > stamp


class Counted:
    "Makes an empty record of a picture, and counts"

    def __init__(self, folder):
        self.p = SimpleNamespace(images=folder, dir=folder)
        self.looked = 0

    def record(self, name, content):
        self.looked += 1
        row = np.zeros((), ROW)
        row['content'] = content
        return row


def test_records_of_another_round_or_rule_are_made_anew(tmp_path):
    "A reference that was kept for one network says nothing of the next"
    photographs(tmp_path, 3, 0)
    names, path = sorted(one.name for one in tmp_path.glob('*.png')), tmp_path / 'reference.npz'
    work = Counted(tmp_path)
    for about, looked in ((dict(round=1), 3), (dict(round=1), 3), (dict(round=2), 6), (dict(round=2), 6)):
        kept = reference._records(work, names, path, about, lambda line: None)
        assert work.looked == looked and kept.names == names and len(kept.rows) == 3
