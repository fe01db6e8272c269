"Loss study: configurations, splits, run folders, resume, guidance over runs"

import json, time
from dataclasses import asdict, replace

import numpy as np, pandas as pd, pytest, quick

from imbal_al.core import InputError, read_json, write_json
from imbal_al.runs.folder import read_record
from imbal_al.studies import loss_training
from imbal_al.studies.loss_config import (
    LossConfig, as_loss_config, check_loss_config, diverged, read_training,
)
from imbal_al.studies.loss_study import (
    load_loss_plan, loss_origin, loss_preset, loss_results, loss_status, plan_losses, run_losses,
    train_at,
)
from imbal_al.studies.loss_training import check_parts, load_parts, run_loss, validation_split

TINY = LossConfig(
    data='synthetic:20:64', weights=None, width=0.25, steps=4, validations=2, bs=4, lr=1e-3
)


def test_equal_trainings_have_equal_hashes():
    assert (
        LossConfig(loss='ft').hash
        == LossConfig(loss='ft', fn_weight=0.7).hash
        == LossConfig(loss='ft', fn_weight=0.7000000001).hash
    )
    assert (
        LossConfig(loss='dibe', variant='region', options=dict(b=1, a=2)).hash
        == LossConfig(loss='dibe', options=(('a', 2), ('b', 1))).hash
    )
    assert LossConfig(arch='segnet', width=0.5, weights='imagenet') == LossConfig(
        arch='segnet', width=0.5, weights=None, encoder='vgg16'
    )
    assert LossConfig(data='cfd').patch == (160, 160) == LossConfig(data='cfd', patch=160).patch


@pytest.mark.parametrize(
    'k,v',
    [
        ('loss', 'ft'),
        ('fn_weight', 0.3),
        ('variant', 'class'),
        ('lr', 0.1),
        ('seed', 1),
        ('width', 0.5),
        ('size', 64),
        ('options', dict(gamma=1.0)),
    ],
)
def test_another_setting_is_another_run(k, v):
    assert replace(LossConfig(), **{k: v}).hash != LossConfig().hash


def test_json_and_back():
    c = LossConfig(data='cfd', options=dict(gamma=1.0), fn_weight=0.3)
    assert as_loss_config(json.loads(json.dumps(asdict(c)))) == c
    with pytest.raises(InputError, match='unknown setting'):
        as_loss_config(dict(los='ft'))


@pytest.mark.parametrize(
    'bad,say',
    [
        (dict(loss='x'), 'unknown loss'),
        (dict(arch='x'), 'unknown network'),
        (dict(lr=0.0), 'lr = 0'),
        (dict(lr=float('nan')), 'lr = nan'),
        (dict(momentum=1), 'momentum = 1'),
        (dict(bs=1), 'bs = 1'),
        (dict(steps=None), 'neither steps nor epochs'),
        (dict(steps=0), 'steps = 0'),
        (dict(validations=0), 'validations = 0'),
        (dict(seed=-1), 'seed = -1'),
        (dict(augment='x'), 'unknown augmentation'),
        (dict(schedule='x'), 'unknown schedule'),
        (dict(variant='x'), 'variant must be one of'),
        (dict(fn_weight=-0.1), 'fn_weight'),
        (dict(loss='dice', fn_weight=0.3), 'no setting'),
        (dict(options=dict(q=1)), "no setting 'q'"),
        (dict(width=0), 'width'),
    ],
)
def test_what_cannot_run_is_refused(bad, say):
    with pytest.raises(InputError, match=say) as e:
        check_loss_config(LossConfig(**bad))
    assert len(str(e.value).splitlines()) == 1


def test_split_keeps_groups_together():
    t = pd.DataFrame(dict(group=np.repeat(np.arange(10), 3), split=''))
    a, b = validation_split(t, 0.4)
    assert (
        len(b) == 12
        and sorted([*a, *b]) == list(range(30))
        and not set(t.group[a]) & set(t.group[b])
    )
    assert (validation_split(t, 0.4)[1] == b).all()
    own = t.assign(split=['train'] * 20 + ['val'] * 10)
    assert list(validation_split(own)[1]) == list(range(20, 30))


def test_plan_has_no_doubles_and_goes_seed_by_seed():
    p = plan_losses(
        LossConfig(), ['ft', 'dice', 'dibe'], ['unet', 'segnet'], 3, (0.3, 0.7), ('region', 'class')
    )
    assert len(p) == 3 * 2 * (2 + 1 + 4) == len({c.hash for c in p}) and [
        c.seed for c in p
    ] == sorted(c.seed for c in p)
    assert len(plan_losses(LossConfig(), ['ft', 'ft'], seeds=1, fn_weights=(None, 0.7))) == 1
    assert [
        c.encoder
        for c in plan_losses(LossConfig(encoder='resnet18', weights=None), ['ft'], ['unet', 'fpn'])
    ] == ['resnet18'] * 2
    assert [c.encoder for c in plan_losses(LossConfig(), ['ft'], ['unet', 'segnet'])] == [
        'lite0',
        'vgg16',
    ]
    with pytest.raises(InputError, match='unknown loss'):
        plan_losses(LossConfig(), ['dicee'])


def test_presets():
    assert (
        loss_preset('laptop', 'mtsdd_blowhole').size == 96
        and loss_preset('laptop', 'cfd').size is None
        and loss_preset('paper', 'cfd').augment == 'fixed'
    )
    with pytest.raises(InputError, match='unknown preset'):
        loss_preset('huge', 'cfd')


def test_one_run_and_its_folder(tmp_path):
    r = run_loss(TINY, tmp_path)
    d = tmp_path / TINY.hash
    assert {o.name for o in d.iterdir()} == {
        'config.json',
        'final.npz',
        'parts.npz',
        'records.json',
        'result.json',
    }
    f = read_record(d / 'final.npz')
    assert f['losses'].shape == (4,) and f['hist'].sum() == r['valid_images'] * 64 * 64
    last = r['rows'][-1]
    assert (f['hist'][:, 1].sum() == last['tp'] + last['fn']) and set(r['provenance']) >= {
        'commit',
        'cpu',
        'versions',
        'threads',
        'precision',
    }
    f = d / 'result.json'
    before = f.stat().st_mtime_ns
    assert run_loss(TINY, tmp_path) == r and f.stat().st_mtime_ns == before


@pytest.mark.parametrize('damage', ['cut', 'lost', 'no rows'])
def test_a_damaged_result_is_trained_again_to_the_same(damage, tmp_path):
    r = run_loss(TINY, tmp_path)
    f = tmp_path / TINY.hash / 'result.json'
    dict(cut=lambda: f.write_text(f.read_text()[:50]), lost=f.unlink).get(
        damage, lambda: f.write_text('{}')
    )()
    assert read_training(f.parent) is None
    again = run_loss(TINY, tmp_path)
    assert again['rows'] == r['rows']


def test_changed_images_are_refused(tmp_path):
    run_loss(TINY, tmp_path)
    d = tmp_path / TINY.hash
    (d / 'result.json').unlink()
    c = read_json(d / 'config.json')
    write_json(d / 'config.json', dict(c, content='other'))
    with pytest.raises(InputError, match='have changed since this run began'):
        run_loss(TINY, tmp_path)


@pytest.fixture(scope='module')
def study(tmp_path_factory):
    "Two losses, two seeds, and one that diverges"
    d = tmp_path_factory.mktemp('study')
    configs = plan_losses(TINY, ['ft', 'bce'], seeds=2) + [replace(TINY, lr=1e20)]
    return d, configs, run_losses(d, configs, workers=1)


def test_the_table(study):
    d, configs, failed = study
    t = loss_results(d)
    want = 'data model loss variant fn_weight seed epoch iou precision recall oii fp fn tp config commit'.split()
    assert set(want) <= set(t) and len(t) == 8 and t.groupby(['loss', 'seed']).ngroups == 4
    assert (
        t[t.loss == 'bce'].fn_weight.isna().all()
        and (t[t.loss == 'ft'].fn_weight == 0.7).all()
        and t.groupby('config').step.max().eq(4).all()
    )
    assert pd.read_csv(d / 'results.csv').shape == t.shape
    o = loss_origin(d)
    assert o['runs'] == 4 and o['provenance'][0]['runs'] == 4 and len(o['configs']) == 4


def test_a_diverged_run_is_marked_and_the_rest_goes_on(study):
    d, configs, failed = study
    assert len(failed) == 1 and 'diverged' in failed[0] and configs[-1].hash in failed[0]
    assert sorted(loss_status(d).state) == ['done'] * 4 + ['failed']
    f = d / 'runs' / configs[-1].hash / 'failed.json'
    before = f.stat().st_mtime_ns
    assert run_losses(d, configs, workers=1) == failed and f.stat().st_mtime_ns == before
    assert diverged(d / 'runs' / configs[-1].hash)


def test_the_number_of_workers_changes_nothing(study, tmp_path):
    d, configs, _ = study
    run_losses(tmp_path, configs[:4], workers=2)
    a, b = (pd.read_csv(o / 'results.csv') for o in (d, tmp_path))
    pd.testing.assert_frame_equal(a, b)


def test_a_killed_study_goes_on_and_equals_an_unbroken_one(study, tmp_path):
    d, configs, _ = study
    code = f"from imbal_al.studies.loss_config import as_loss_config\nfrom imbal_al.studies.loss_study import run_losses\nfrom pathlib import Path\nif __name__=='__main__': run_losses({str(tmp_path)!r}, [as_loss_config(o) for o in {[asdict(c) for c in configs[:3]]!r}], workers=1)"
    script = tmp_path / 'go.py'
    script.write_text(code)
    p = quick.Program(script)
    for _ in range(600):
        if list(tmp_path.glob('runs/*/result.json')):
            break
        time.sleep(0.1)
    p.kill()
    p.wait()
    run_losses(tmp_path, configs[:4], workers=1)
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / 'results.csv'), pd.read_csv(d / 'results.csv')
    )


def test_no_defect_to_validate_on_and_too_few_images(monkeypatch):
    with pytest.raises(InputError, match='fewer than a batch of 16'):
        check_parts([replace(TINY, bs=16)])
    from imbal_al.data.catalog import load_source

    monkeypatch.setattr(
        loss_training,
        'load_source',
        lambda name, root: (
            s := load_source(name, root),
            setattr(s, 'table', s.table.assign(mask='', decoder='')),
        )[0],
    )
    load_parts.cache_clear()
    with pytest.raises(InputError, match='no defect in its validation part'):
        check_parts([TINY])
    load_parts.cache_clear()


def test_guidance_trains_nothing_twice(study, monkeypatch):
    d, configs, _ = study
    from imbal_al.losses.guidance import guide

    base = replace(configs[0], loss='ft')
    train = train_at(base, d, seeds=2, workers=1)
    seen = []

    def counted(w):
        seen.append(w)
        return train(w)

    g = guide(counted, (-1.0, -0.9), 3)
    n = len(list((d / 'runs').glob('*/result.json')))
    guide(counted, (-1.0, -0.9), 3)
    assert len(list((d / 'runs').glob('*/result.json'))) == n and g.trials
    with pytest.raises(InputError, match='no false-negative weight'):
        train_at(replace(base, loss='dice', fn_weight=None), d)


def test_seeds_of_a_candidate_are_counted_together(study):
    d, configs, _ = study
    got = train_at(replace(configs[0], loss='ft'), d, seeds=2, workers=1)(0.7)
    last = loss_results(d).query("loss=='ft' and fn_weight==.7 and step==4")
    tp, fp, fn = last[['tp', 'fp', 'fn']].sum()
    assert len(last) == 2 and np.isclose(got['iou'], tp / (tp + fp + fn))


def test_another_kind_of_study_is_refused(study, tiny):
    from imbal_al.runs.plan import save_plan

    with pytest.raises(InputError, match='another kind'):
        save_plan(study[0], [tiny])
    with pytest.raises(InputError, match='no loss study'):
        load_loss_plan(study[0].parent)


def test_a_lost_plan_is_made_again_from_the_run_folders(study, tmp_path):
    import shutil
    from imbal_al.runs.plan import load_plan, save_plan

    shutil.copytree(study[0], tmp_path / 's')
    (tmp_path / 's' / 'study.json').write_text('broken')
    save_plan(tmp_path / "s", study[1][:1])
    assert (
        {c.hash for c in load_plan(tmp_path / "s")}
        == {p.parent.name for p in (study[0] / "runs").glob("*/config.json")}
        >= {c.hash for c in study[1]}
    )
