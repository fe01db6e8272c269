"imbal_al.results.advise: what is advised follows from made-up studies whose truth is known"

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from imbal_al.core import InputError, write_json
from imbal_al.measure.metrics import scores_at
from imbal_al.measure.prevalence import made_up_images
from imbal_al.measure.threshold import choose_threshold
from imbal_al.results.advise import _reference_of, _threshold_gain, Advice, advise_folder
from imbal_al.results.pairs import BETTER
from imbal_al.runs.collect import write_tables
from imbal_al.runs.folder import write_record
from imbal_al.runs.plan import save_plan
from imbal_al.studies.run_config import RunConfig
from imbal_al.studies.run_records import cycle_path, read_run
from imbal_al.studies.simulation import result_rows


def study(
    folder,
    hits,
    repeats=6,
    pi_u=0.5,
    data='made up',
    cycles=1,
    alarms=0.3,
    noise=0.05,
    early={},
):
    configs, folder = [], Path(folder)
    for r in range(repeats):
        for key, hit in hits.items():
            s, l, w = (*key, None)[:3] if isinstance(key, tuple) else (key, 'combo_paper', None)
            c = RunConfig(
                data=data,
                strategy=s,
                loss=l,
                fn_weight=w,
                repeat=r,
                pi_u=pi_u,
                pi_t=(pi_u, 0.05),
                pool_size=1000,
                cycles=cycles,
                batch=40,
            )
            configs.append(c)
            d = folder / 'runs' / c.hash
            recs = []
            for j in range(1, cycles + 1):
                h, y = made_up_images(
                    50,
                    50,
                    seed=r,
                    hit=hit
                    + 0.3 * (j - cycles)
                    + (early.get(s, 0) if j < cycles else 0)
                    + noise * np.random.default_rng([r, len(s)]).normal(),
                    alarms=alarms,
                )
                v, z = made_up_images(30, 30, seed=100 + r, hit=hit, alarms=alarms)
                recs.append(
                    dict(
                        hist=h, hist_validation=v, faulty=np.ones(40, bool), selected=np.arange(40)
                    )
                )
                write_record(cycle_path(d, j), recs[-1])
            ids = np.arange(len(y))
            sc = dict(
                pool=ids,
                heldout=ids,
                heldout_faulty=y,
                validation=ids[:60],
                validation_faulty=z,
                test_0=ids,
                test_1=ids,
            )
            write_record(d / 'scenario.npz', sc)
            write_json(d / 'config.json', asdict(c))
            write_json(d / 'result.json', dict(rows=result_rows(c, recs, sc), provenance={}))
    save_plan(folder, configs)
    write_tables(folder)
    return configs


@pytest.fixture(scope='module')
def clear(tmp_path_factory):
    d = tmp_path_factory.mktemp('clear')
    study(d, {'random': 1.5, 'entropy': 3.0, 'coreset': 1.5, 'random_faulty': 6.0})
    return d


def test_what_is_shown_is_advised(clear):
    (a,) = advise_folder(clear)
    text = a.account()
    assert (a.strategy, a.loss, a.method, a.reference) == (
        'entropy',
        'combo_paper',
        'entropy + combo_paper',
        'random + combo_paper',
    ) and np.isnan(a.fn_weight)
    assert (
        'Shown to be better than random' in text and 'p <0.001' in text and 'the loss has none' in text
    )


def test_the_truth_is_no_advice(clear):
    (a,) = advise_folder(clear)
    assert 'random_faulty' not in set(a.points.strategy) and 'random_faulty' not in a.account()


def test_run_point_by_hand(clear):
    (a,) = advise_folder(clear)
    o = a.points.iloc[0]
    r = read_run(Path(clear) / 'runs' / o.config)
    t = choose_threshold(r['hist_validation'], r['faulty_validation'], 0.05, caution=1.0).threshold
    assert (
        o.threshold == t
        and o.f1 == scores_at(r['hist'], r['faulty'], 0.05, t)['f1']
        and o.f1_half == scores_at(r['hist'], r['faulty'], 0.05)['f1']
    )
    assert (a.points.f1_oracle >= a.points[['f1', 'f1_half']].max(axis=1) - 1e-12).all()


def test_a_higher_mean_alone_is_no_reason(tmp_path):
    study(tmp_path, {'random': 2.0, 'entropy': 2.0}, 3, noise=0.5)
    (a,) = advise_folder(tmp_path)
    text = a.account()
    assert (
        a.method == 'random + combo_paper'
        and 'Nothing is shown to be better' in text
        and ('Front-runner' in text) == (a.pairs['mean'][0] > 0)
    )


def test_what_is_better_on_the_way_is_advised_where_the_end_is_level(tmp_path):
    hits = {'random': 2.0, 'entropy': 2.0, 'coreset': 2.0}
    study(tmp_path, hits, cycles=4, early={'entropy': 1.5})
    (a,) = advise_folder(tmp_path)
    text = a.account()
    assert a.method == 'entropy + combo_paper' and BETTER not in set(a.pairs.verdict)
    assert 'At the end of the budget nothing is shown to be better than random' in text
    row = a.way.set_index('a').loc[a.method]
    tuned = {}
    for run in a.points[a.points.strategy.isin(['random', 'entropy'])].itertuples():
        f1 = []
        for j in (1, 2, 3, 4):
            r = read_run(Path(tmp_path) / 'runs' / run.config, j)
            v = r['hist_validation'], r['faulty_validation']
            t = choose_threshold(*v, 0.05, caution=1.0).threshold
            f1.append(scores_at(r['hist'], r['faulty'], 0.05, t)['f1'])
        tuned[run.strategy, run.unit] = np.trapezoid(f1) / 3
    gain = [tuned['entropy', unit] - tuned['random', unit] for unit in set(a.points.unit)]
    assert row['mean'] == pytest.approx(np.mean(gain)) and row.p <= 0.05
    p = stats.ttest_1samp(gain, 0).pvalue  # Twice for the second look, twice for Holm's two
    assert row.p == pytest.approx(min(1, 2 * 2 * p))


def test_one_cycle_has_no_way(tmp_path):
    study(tmp_path, {'random': 2.0, 'entropy': 2.0})
    (a,) = advise_folder(tmp_path)
    assert a.strategy == 'random' and not len(a.way) and 'Nor over' not in a.account()


def test_level_on_the_way_too_says_so(tmp_path):
    study(tmp_path, {'random': 2.0, 'entropy': 2.0}, cycles=3, noise=0.5)
    (a,) = advise_folder(tmp_path)
    assert a.strategy == 'random' and len(a.way) == 1 and 'Nor over the whole budget' in a.account()


def test_what_is_worse_is_named(tmp_path):
    study(tmp_path, {'random': 3.0, 'entropy': 1.5})
    (a,) = advise_folder(tmp_path)
    assert (
        a.strategy == 'random'
        and 'Shown to be worse than random + combo_paper: entropy + combo_paper' in a.account()
    )


def test_losses_and_weights_are_methods(tmp_path):
    study(
        tmp_path,
        {
            ('random', 'combo_paper'): 1.5,
            ('entropy', 'dibe', 0.3): 3.0,
            ('entropy', 'dibe', 0.7): 1.5,
            ('entropy', 'unified'): 1.5,
        },
    )
    (a,) = advise_folder(tmp_path)
    assert (
        (a.strategy, a.loss, a.fn_weight) == ('entropy', 'dibe', 0.3)
        and 'fn_weight:  0.3' in a.account()
        and 'which loss' not in a.account()
        and 'which weight' not in a.account()
    )


def test_the_threshold_is_advised_where_it_gains(tmp_path, clear):
    study(tmp_path / 'a', {'random': 4.0}, alarms=1.0, pi_u=1.0)
    (a,) = advise_folder(tmp_path / 'a', pi_t=0.02)
    g = _threshold_gain(a)
    assert (g.low > 0) == ('It gains' in a.account()) and (g.low <= 0) == (
        'may be nothing' in a.account()
    )
    t = Advice.account(
        replace(
            a,
            points=a.points.assign(
                f1=a.points.f1_half + 0.1 + 0.001 * np.arange(6), f1_oracle=a.points.f1_half + 0.2
            ),
        )
    )
    assert 'It gains +0.1' in t and '% of what the best threshold could' in t
    t = Advice.account(replace(a, points=a.points.assign(f1=a.points.f1_half)))
    assert 'may be nothing' in t and 'threshold:  1/2' in t


def test_other_deployments_than_those_tested(clear):
    f = [advise_folder(clear, pi_t=p)[0].mine().f1.mean() for p in (0.01, 0.05, 0.5, 1.0)]
    assert f == sorted(f) and advise_folder(clear)[0].pi_t == 0.05


def test_budget(tmp_path):
    study(tmp_path, {'random': 3.0, 'entropy': 3.0}, 2, cycles=3)
    a, b = (advise_folder(tmp_path, budget=o)[0] for o in (0.04, 0.12))
    assert (
        a.labelled == 40
        and b.labelled == 120
        and b.budget == 0.12
        and a.points.f1.mean() < b.points.f1.mean()
        and advise_folder(tmp_path)[0].labelled == 120
    )


def test_several_pools_and_data_sets(tmp_path):
    study(tmp_path, {'random': 2.0, 'entropy': 3.0}, 2)
    study(tmp_path, {'random': 2.0, 'entropy': 3.0}, 2, pi_u=0.9)
    study(tmp_path, {'random': 2.0}, 2, data='other')
    assert [(a.data, a.pi_u) for a in advise_folder(tmp_path)] == [
        ('made up', 0.5),
        ('made up', 0.9),
        ('other', 0.5),
    ]
    assert [a.pi_u for a in advise_folder(tmp_path, 'made up', 0.9)] == [0.9]
    (o,) = advise_folder(tmp_path, 'other')
    assert 'only random + combo_paper was run' in o.account() and 'which strategy' in o.account()
    with pytest.raises(InputError, match='no pool of the study has 0.9 faulty'):
        advise_folder(tmp_path, 'other', 0.9)


def test_few_repeats_are_said(tmp_path):
    study(tmp_path, {'random': 1.5, 'entropy': 3.0}, 3)
    text = advise_folder(tmp_path)[0].account()
    assert 'a hint, 3 repeats are few' in text and 'add repeats' in text
    study(tmp_path / 'one', {'random': 1.5, 'entropy': 3.0}, 1)
    (a,) = advise_folder(tmp_path / 'one')
    text = a.account()
    assert a.strategy == 'random' and 'one repeat' in text and 'nan' not in text


def test_wilcoxon_with_too_few_repeats_says_so(clear):
    (a,) = advise_folder(clear, test='wilcoxon')
    assert a.strategy == 'random' and 'cannot decide below 7 repeats, there are 6' in a.account()


def test_only_common_repeats_count(tmp_path):
    study(tmp_path, {'random': 1.5}, 6)
    study(tmp_path, {'entropy': 3.0}, 4)
    (a,) = advise_folder(tmp_path)
    assert a.pairs.n.tolist() == [4] and a.mine().unit.nunique() == 4


def test_without_random_the_most_run_is_the_reference(tmp_path):
    study(tmp_path, {'entropy': 2.0}, 4)
    study(tmp_path, {'coreset': 2.0}, 2)
    assert advise_folder(tmp_path)[0].reference == 'entropy + combo_paper'


@pytest.mark.parametrize(
    'kw,match',
    [
        (dict(data='x'), "unknown data set of the study 'x'.*made up"),
        (dict(pi_u=0.3), 'no pool of the study has 0.3 faulty; it has 0.5'),
        (dict(pi_t=0.0), 'pi_t = 0'),
        (dict(pi_t=1.5), 'pi_t = 1.5'),
        (dict(pi_t=float('nan')), 'pi_t = nan'),
        (dict(budget=0.9), 'outside of what was labelled, 0.04 to 0.04'),
        (dict(test='z'), "unknown test 'z'.*wilcoxon"),
    ],
)
def test_bad_input(clear, kw, match):
    with pytest.raises(InputError, match=match) as e:
        advise_folder(clear, **kw)
    assert '\n' not in str(e.value)


def test_other_folders(clear, tmp_path):
    for bad, match in (
        (tmp_path, 'is not there'),
        (tmp_path / 'none', 'is not there'),
        (clear / 'results.csv', 'is a table alone'),
    ):
        with pytest.raises(InputError, match=match):
            advise_folder(bad)
    (tmp_path / 'losses.csv').write_text(
        'data,model,loss,variant,fn_weight,seed,epoch,iou\nx,u,ft,,0.7,0,1,0.5\n'
    )
    with pytest.raises(InputError, match='compares losses'):
        advise_folder(tmp_path / 'losses.csv')
    study(tmp_path / 'o', {'random_faulty': 2.0}, 2)
    with pytest.raises(InputError, match='told the truth'):
        advise_folder(tmp_path / 'o')


def test_missing_histograms_are_one_line(tmp_path):
    cs = study(tmp_path, {'random': 2.0}, 2)
    (tmp_path / 'runs' / cs[0].hash / 'cycle_01.npz').unlink()
    with pytest.raises(InputError, match='cycle') as e:
        advise_folder(tmp_path)
    assert '\n' not in str(e.value)


def test_bought_healthy_images_and_weighted_training_are_methods(tmp_path):
    cs = study(tmp_path, {'random': 1.5, 'entropy': 1.5})
    new = []
    for share, pi, hit in ((0.05, None, 3.0), (0.0, 0.05, 1.5)):
        for c in [o for o in cs if o.strategy == 'entropy']:
            n = replace(c, healthy_share=share, train_pi=pi)
            new.append(n)
            d = tmp_path / 'runs' / n.hash
            h, y = made_up_images(50, 50, seed=c.repeat, hit=hit)
            v, z = made_up_images(30, 30, seed=100 + c.repeat, hit=hit)
            rec = dict(hist=h, hist_validation=v, faulty=np.ones(40, bool), selected=np.arange(40))
            write_record(cycle_path(d, 1), rec)
            sc = dict(
                pool=np.arange(len(y)),
                heldout=np.arange(len(y)),
                heldout_faulty=y,
                validation=np.arange(60),
                validation_faulty=z,
                test_0=np.arange(len(y)),
                test_1=np.arange(len(y)),
            )
            write_record(d / 'scenario.npz', sc)
            write_json(d / 'config.json', asdict(n))
            write_json(d / 'result.json', dict(rows=result_rows(n, [rec], sc), provenance={}))
    save_plan(tmp_path, new)
    write_tables(tmp_path)
    (a,) = advise_folder(tmp_path)
    assert set(a.points.method) == {
        'random + combo_paper',
        'entropy + combo_paper',
        'entropy + combo_paper + healthy share 0.05',
        'entropy + combo_paper + training at 0.05',
    }
    assert (
        a.reference == 'random + combo_paper'
        and a.method == 'entropy + combo_paper + healthy share 0.05'
        and 'healthy:    0.05 of each budget' in a.account()
        and '--healthy-share 0.05' in a.account()
        and 'training:' not in a.account()
    )
    assert _reference_of(a.points[a.points.strategy == 'entropy']).method == 'entropy + combo_paper'
    m = replace(a, method='entropy + combo_paper + training at 0.05').account()
    assert 'training:   batches with 0.05 faulty' in m and 'healthy: ' not in m


def test_oii_is_at_the_threshold_that_is_advised(clear):
    from imbal_al.measure.shift import image_rates, oii_at

    (a,) = advise_folder(clear)
    o = a.points[a.points.threshold != 0.5].iloc[0]
    r = read_run(Path(clear) / 'runs' / o.config)
    assert o.oii == oii_at(image_rates(r['hist'], r['faulty'], o.threshold), 0.05) != o.oii_half


def test_repeats_are_counted_for_the_whole_family(clear):
    from imbal_al.results.pairs import pair_table

    (a,) = advise_folder(clear)
    wide = a.points.pivot(index='unit', columns='method', values='f1')
    m, ref = 'coreset + combo_paper', a.reference
    k = wide.shape[1] - 1
    assert k == 2
    needed = lambda f: pair_table(wide[[m, ref]], ref, test='t', family=f).needed.iloc[0]
    assert a.pairs.set_index('a').needed[m] == needed(k) and needed(k) != needed(1)


def test_the_reference_is_plain_where_it_can_be():
    rows = [
        dict(
            method=f'random + combo_paper + {h}',
            strategy='random',
            loss='combo_paper',
            fn_weight=np.nan,
            healthy_share=h,
            train_pi=np.nan,
            start=start,
        )
        for h, start in ((0.05, 'random'), (0.05, 'random'), (0.0, 'coreset'), (0.0, 'random'), (0.15, 'random'))
    ]
    rows[2]['method'] += ' + start coreset'
    assert _reference_of(pd.DataFrame(rows)).method == 'random + combo_paper + 0.0'


def test_a_gain_that_may_be_nothing_is_not_advised(clear, monkeypatch):
    from imbal_al.results import advise
    from imbal_al.measure.statistics import Interval

    (a,) = advise_folder(clear)
    for low, said in ((-0.01, 'threshold:  1/2'), (0.01, 'It gains +0.050 [+0.010, +0.100]')):
        monkeypatch.setattr(advise, '_threshold_gain', lambda a: Interval(0.05, low, 0.1, 6))
        assert said in a.account()
