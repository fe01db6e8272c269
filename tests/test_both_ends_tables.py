"imbal_al.both_ends_tables: every number is the run folders' own"

import json

import numpy as np
import pandas as pd
import pytest

from imbal_al.dev.shift_study import _part_configs
from imbal_al.dev.shift_study_tables import tables, write_both_ends, main
from imbal_al.dev.shift_study_tables import _finished, _label_rows, _origin, _run_settings
from imbal_al.core import InputError
from imbal_al.runs.collect import results_table
from imbal_al.studies.learning_study import run_study
from imbal_al.measure.metrics import scores_at
from imbal_al.measure.threshold import choose_threshold
from imbal_al.measure.shift import f1_at, image_rates
from imbal_al.studies.run_records import read_run
from imbal_al.studies.run_records import load_patches
from imbal_al.runs.folder import read_record
from imbal_al.results.remedies import rates_in, threshold_remedies

SMALL = dict(
    data='synthetic:60:64',
    patch=(32, 32),
    pool_size=40,
    test_size=10,
    heldout_size=24,
    validation_size=16,
    cycles=2,
    batch=4,
    steps=1,
    bs=4,
    weights=None,
)


@pytest.fixture(scope='module')
def study(tmp_path_factory):
    d = tmp_path_factory.mktemp('study')
    cs = _part_configs('tiles', 1, **SMALL)[:3]
    assert run_study(d, cs, 0, 'cpu') == []
    (d / 'runs' / cs[2].hash / 'result.json').unlink()
    return d, cs


@pytest.fixture(scope='module')
def files(study):
    seen = []
    write_both_ends(study[0], study[0] / 'out', progress=lambda i, n: seen.append((i, n)))
    assert seen == [(1, 2), (2, 2)]
    return {f.name: f for f in (study[0] / 'out').iterdir()}


def table(files, name):
    return pd.read_csv(files[f'both_ends{name}.csv'])


def test_only_finished_runs_are_in_it(study, files):
    want = {c.hash for c in study[1][:2]}
    assert {c.hash for c in _finished(study[0])} == want
    for n in ('', '_runs', '_losses', '_recoveries', '_labels'):
        assert set(table(files, n).config) == want, n
    assert set(json.loads(files['both_ends_origin.json'].read_text())['configs']) == want
    assert len(results_table(study[0])) == len(table(files, ''))


def test_rates_and_thresholds_are_the_folders(study, files):
    t = table(files, '_losses').set_index(['config', 'cycle'])
    assert len(t) == 4
    for c in study[1][:2]:
        for j in (1, 2):
            r, o = read_run(study[0] / 'runs' / c.hash, j), t.loc[c.hash, j]
            groups = load_patches(c.store_key(), None).table['group'].to_numpy()[r['validation']]
            k = choose_threshold(
                r['hist_validation'], r['faulty_validation'], 0.05, caution=1.0, groups=groups
            ).threshold
            assert o.threshold == pytest.approx(k, rel=1e-4) and o.f1_tuned == pytest.approx(
                scores_at(r['hist'], r['faulty'], 0.05, k)['f1'], rel=1e-4
            )
            assert f1_at(rates_in(o), 0.3) == pytest.approx(
                scores_at(r['hist'], r['faulty'], 0.3)['f1'], rel=1e-3
            )
            assert rates_in(o, 'v_')[:4] == pytest.approx(
                image_rates(r['hist_validation'], r['faulty_validation'])[:4], rel=1e-3
            )


def test_f1_agrees_with_the_results_table(files):
    a, b = table(files, ''), table(files, '_losses').set_index(['config', 'cycle'])
    a = a[np.isclose(a.pi_t, 0.05)]
    assert [f1_at(rates_in(b.loc[c, j]), 0.05) for c, j in zip(a.config, a.cycle)] == pytest.approx(
        a.f1_heldout.tolist(), rel=1e-3
    )


def test_ways_are_those_of_the_last_cycle(study, files):
    t = table(files, '_recoveries')
    c = study[1][0]
    r = read_run(study[0] / 'runs' / c.hash)
    mine = threshold_remedies(
        r,
        0.05,
        load_patches(c.store_key(), None).table['group'].astype(str).to_numpy()[r['validation']],
    )
    o = t[t.config == c.hash]
    assert (
        o.way.tolist() == [m['way'] for m in mine]
        and o.f1.tolist() == pytest.approx([m['f1'] for m in mine], rel=1e-4)
        and o.gate.tolist() == [m['gate'] for m in mine]
    )


def test_labels_are_counted_from_what_was_picked(study, files):
    t = table(files, '_labels')
    for c in study[1][:2]:
        store = load_patches(c.store_key(), None).table
        d = study[0] / 'runs' / c.hash
        for j in (1, 2):
            ids = read_record(d / f'cycle_{j:02d}.npz')['selected']
            o = t[(t.config == c.hash) & (t.cycle == j)].iloc[0]
            assert (o.faulty, o.healthy, o.clicks, o.defect_pixels) == (
                store.faulty[ids].sum(),
                len(ids) - store.faulty[ids].sum(),
                0,
                store.defect_pixels[ids].sum(),
            )
        assert o.pool_pixels == store.defect_pixels[read_record(d / 'scenario.npz')['pool']].sum()


def test_clicks_of_the_line(tmp_path):
    c = _part_configs(
        'tiles', 1, **dict(SMALL, healthy_share=0.5, healthy_price=0.5, pi_u=0.2, pi_t=(0.05,))
    )[0]
    assert run_study(tmp_path, [c], 0, 'cpu') == []
    o = pd.DataFrame(_label_rows(tmp_path / 'runs' / c.hash, c))
    assert o.clicks.tolist() == [4, 4] and (o.faulty + o.healthy).tolist() == [2, 2]
    assert (
        _run_settings(c)['healthy_share'] == 0.5
        and _origin(tmp_path)['configs'][c.hash]['healthy_share'] == 0.5
    )


def test_again_with_more_runs(study, files, tmp_path):
    d, cs = study
    before = {k: f.read_bytes() for k, f in files.items()}
    write_both_ends(d, tmp_path)
    assert {k: (tmp_path / k).read_bytes() for k in before} == before
    run_study(d, cs, 0, 'cpu')
    write_both_ends(d, tmp_path)
    assert len(pd.read_csv(tmp_path / 'both_ends_runs.csv')) == 3
    (d / 'runs' / cs[2].hash / 'result.json').unlink()


def test_advice_is_that_of_the_command(study, files):
    from imbal_al.results.advise import advise_folder

    assert (
        files['both_ends_advice.txt'].read_text()
        == '\n\n'.join(o.account() for o in advise_folder(study[0])) + '\n'
    )


def test_nothing_finished(tmp_path, study):
    from imbal_al.runs.plan import save_plan

    save_plan(tmp_path, study[1])
    with pytest.raises(InputError, match='no run of .* is finished') as e:
        tables(tmp_path)
    assert '\n' not in str(e.value)
    with pytest.raises(SystemExit, match='is finished'):
        main([str(tmp_path), str(tmp_path / 'o')])
    with pytest.raises(SystemExit, match='give the folder of the study'):
        main([str(tmp_path)])


def test_command(study, tmp_path, capsys):
    main([str(study[0]), str(tmp_path)])
    said = capsys.readouterr().out
    assert (
        '2 of 2 runs' in said
        and 'both_ends_advice.txt' in said
        and len(list(tmp_path.iterdir())) == 7
    )
