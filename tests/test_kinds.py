"F1, images caught and defects found by kind of defect: against counts by hand"

import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from imbal_al.core import InputError, read_json, write_json
from imbal_al.data.catalog import load_source
from imbal_al.data.patches import open_store
from imbal_al.measure.parts import measure_parts
from imbal_al.results import kind_means, with_kinds
from imbal_al.results.kinds import window_kinds
from imbal_al.results.report import _found as found_part
from imbal_al.runs.folder import read_record, write_record
from imbal_al.studies.run_records import keep_parts

RESULTS = Path(__file__).resolve().parent.parent / 'data/results'


def by_hand(hist, own, sound, pi):
    "F1 at 1/2 of some faulty and all healthy images"
    hit = hist[own, 1, 64:].sum() / own.sum()
    missed = hist[own, 1, :64].sum() / own.sum()
    false = hist[own, 0, 64:].sum() / own.sum()
    alarms = hist[sound, 0, 64:].sum() / sound.sum()
    return 2 * pi * hit / (2 * pi * hit + pi * missed + pi * false + (1 - pi) * alarms)


@pytest.fixture(scope='module')
def archived(tmp_path_factory):
    at = tmp_path_factory.mktemp('archive')
    with tarfile.open(RESULTS / 'runs/losses.tar.xz') as tar:
        tar.extractall(at, filter='data')
    return at / 'losses/runs'


def test_the_stored_table_is_that_of_the_stored_histograms(archived):
    table = pd.read_csv(RESULTS / 'losses_kinds.csv')
    windows = pd.read_csv(RESULTS / 'losses_kinds_windows.csv')
    judged = windows[windows['split'] == 'val']
    sound = (judged['faulty'] == 0).to_numpy()
    for config in table['config'].unique()[::35]:
        hist = read_record(archived / config / 'final.npz')['hist'].astype(int)
        assert (hist[:, 1].sum(1) > 0).tolist() == (~sound).tolist()
        rows = table[table['config'] == config].set_index('kind')
        assert rows.index.tolist() == ['all', 'Blowhole', 'Crack']
        for kind in ('Blowhole', 'Crack'):
            own = ~sound & (judged['kind'] == kind).to_numpy()
            assert rows.images[kind] == own.sum()
            assert rows.groups[kind] == judged['group'][own].nunique()
            assert rows.pixels[kind] == hist[own, 1].sum()
            assert rows.f1[kind] == pytest.approx(by_hand(hist, own, sound, 0.05), abs=1e-4)
            peak = [np.flatnonzero(one.sum(0)).max() for one in hist]
            least = next(k for k in range(129) if (np.array(peak)[sound] >= k).mean() <= 0.05)
            assert rows.caught[kind] == pytest.approx((np.array(peak)[own] >= least).mean(), abs=1e-4)


def test_kinds_together_are_what_all_images_say():
    table = pd.read_csv(RESULTS / 'losses_kinds.csv')
    images = pd.read_csv(RESULTS / 'losses_images.csv').set_index('config')
    of = table.pivot(index='config', columns='kind', values='caught')
    count = table.pivot(index='config', columns='kind', values='images')
    shared = (of * count)[['Blowhole', 'Crack']].sum(axis=1) / count['all']
    np.testing.assert_allclose(shared, images.image_caught[shared.index], atol=2e-4)
    inside = table.dropna(subset=['f1_low'])
    assert (inside.f1_low <= inside.f1 + 1e-4).all() and (inside.f1 <= inside.f1_high + 1e-4).all()


def tiles(at, each=3):
    "A folder of magnetic tiles: cracks, breaks and sound ones, 32 pixels a side, each tile by itself"
    for k, kind in enumerate(('Crack', 'Break', 'Free')):
        folder = at / f'mtsdd/MT_{kind}/Imgs'
        folder.mkdir(parents=True)
        for i in range(each):
            mask = np.zeros((32, 32), np.uint8)
            if kind != 'Free':
                mask[: k + 1, :2] = 255
            name = f'exp1_num_{1000 * (each * k + i)}'
            Image.fromarray(np.full((32, 32), 100 + i, np.uint8)).save(folder / f'{name}.jpg')
            Image.fromarray(mask).save(folder / f'{name}.png')
    return at


@pytest.fixture
def study(tmp_path, monkeypatch):
    "(folder, results, data folder) of one run of active learning: cracks are found, breaks are not"
    monkeypatch.setenv('IMBAL_AL_CACHE', str(tmp_path / 'cache'))
    root = tiles(tmp_path / 'data')
    store = open_store(load_source('mtsdd', root), (32, 32))
    kinds = store.table['image'].str.extract(r'MT_(\w+)/')[0]
    heldout = np.random.default_rng(0).permutation(len(store))
    alarm = store.masks[heldout] * (kinds[heldout] == 'Crack').to_numpy()[:, None, None] * 0.999
    hist = np.zeros((len(store), 2, 128), int)
    for i, (p, mask) in enumerate(zip(alarm, store.masks[heldout])):
        for truth in (0, 1):
            hist[i, truth, 0] = ((mask == truth) & (p == 0)).sum()
            hist[i, truth, 120] = ((mask == truth) & (p > 0)).sum()
    run = tmp_path / 'study/runs/abc'
    none = np.zeros(0, int)
    faulty = store.table['faulty'].to_numpy()[heldout]
    write_record(
        run / 'scenario.npz',
        dict(heldout=heldout, heldout_faulty=faulty, validation=none, validation_faulty=none),
    )
    write_record(run / 'cycle_02.npz', dict(hist=hist, hist_validation=hist[:0]))
    config = dict(data='mtsdd', patch=[32, 32], stride='none', channels=1, cycles=2)
    write_json(run / 'config.json', config | dict(content=store.meta['content']))
    keep_parts_of(run, alarm, store.masks[heldout])
    results = dict(config='abc', data='mtsdd', strategy='random', pi_u=0.5, pi_t=0.05, cycle=[1, 2])
    return tmp_path / 'study', pd.DataFrame(results), root


def keep_parts_of(run, alarm, masks):
    from imbal_al.measure.parts import part_at

    parts = measure_parts(alarm, masks)
    keep_parts(run, [part_at(parts, i) for i in range(len(parts))])


def test_a_run_is_joined_with_the_kinds_of_its_own_images(study):
    folder, results, root = study
    rows = with_kinds(results, folder, root=root).set_index('kind')
    assert rows.index.tolist() == ['all', 'Break', 'Crack']
    assert rows.f1.tolist() == [pytest.approx(2 * 2 / (2 * 2 + 4)), 0, 1]
    assert rows.caught.tolist() == [0.5, 0, 1] and rows.found.tolist() == [0.5, 0, 1]
    assert rows.images.tolist() == [6, 3, 3] and rows.pixels.tolist() == [18, 12, 6]
    assert rows.found_low['Crack'] < 0.5 and rows.found_high['Break'] > 0.5
    told = kind_means(with_kinds(results, folder, root=root))
    assert told.found.tolist() == ['0.500', '0.000', '1.000']


def test_kinds_that_were_kept_take_the_place_of_the_images(study, tmp_path):
    folder, results, root = study
    kept = window_kinds('mtsdd', (32, 32), channels=1, root=root)
    path = tmp_path / 'kinds.csv'
    kept.to_csv(path, index=False)
    seen = with_kinds(results, folder, kept=pd.read_csv(path), root=tmp_path / 'nowhere')
    pd.testing.assert_frame_equal(seen, with_kinds(results, folder, root=root))
    with pytest.raises(InputError, match='other images of mtsdd'):
        with_kinds(results, folder, kept=kept.assign(content='0'))
    with pytest.raises(InputError, match='9 histograms for'):
        with_kinds(results, folder, kept=kept.iloc[:0], root=other_tiles(tmp_path, folder))


def other_tiles(tmp_path, folder):
    "A data folder with more tiles, whose checksum the run does not know"
    path = folder / 'runs/abc/config.json'
    config = read_json(path)
    write_json(path, {name: value for name, value in config.items() if name != 'content'})
    record = read_record(folder / 'runs/abc/scenario.npz')
    write_record(folder / 'runs/abc/scenario.npz', record | dict(heldout=record['heldout'][:4]))
    return tiles(tmp_path / 'more', 4)


def test_what_has_no_kinds_is_said(study, tmp_path):
    folder, results, root = study
    with pytest.raises(InputError, match='synthetic:4:32 has no kinds of defect; sets that have'):
        window_kinds('synthetic:4:32', (32, 32))
    with pytest.raises(InputError, match='no run of .* by kind of defect: .*gone'):
        with_kinds(results.assign(config='gone'), folder, root=root)
    (folder / 'runs/abc/config.json').write_text('{half')
    with pytest.raises(InputError, match='abc/config.json is missing or damaged'):
        with_kinds(results, folder, root=root)
    with pytest.raises(InputError, match='no column config'):
        with_kinds(results.drop(columns='config'), folder, root=root)


def test_the_report_shows_kinds_where_there_are_some(study):
    folder, results, root = study
    scored = results.assign(f1=0.5, f1_heldout=0.5, repeat=0, labelled=4, seed=0, model='fpn')
    text = found_part(folder, scored, {}, False, root)
    assert 'By kind of defect' in text and '<td>Crack</td>' in text
    without = found_part(folder, scored.assign(data='synthetic:4:32'), {}, False, root)
    assert 'By kind of defect' not in without
