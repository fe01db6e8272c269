"Where a model stands: by hand, at any prevalence, on what was never trained on"

import numpy as np, pytest
from PIL import Image

from imbal_al.core import InputError, note
from imbal_al.measure.metrics import scores_at
from imbal_al.project.intake import new
from imbal_al.project.labelled import write_label
from imbal_al.project.state import is_held_out
from imbal_al.project.rounds import next_round
from imbal_al.measure.prevalence import made_up_images
from imbal_al.data.synthetic import image
from imbal_al.measure.threshold import cost_point, prevalence_draws
from imbal_al.project.standing import _expected_gain, _rounds_at, _verdict, where
from imbal_al.project.heldout_records import heldout_hist
from imbal_al.measure.statistics import interval
from imbal_al.measure.statistics import Interval


def test_scores_of_the_whole_sample_are_those_of_the_metrics_room():
    from imbal_al.measure.metrics import counts

    hist, y = made_up_images(20, 50)
    for pi in (0.05, 0.5, 1.0):
        s = _rounds_at([counts(hist)], prevalence_draws(y, pi, 20))
        want = scores_at(hist, y, pi)
        for k in ('f1', 'precision', 'recall', 'iou'):
            assert abs(s[k][0, 0] - want[k]) < 1e-12


def test_windows_of_one_image_are_drawn_together():
    y = np.array([1, 1, 0, 0, 1, 0], bool)
    w = prevalence_draws(y, 0.3, 200, groups=[0, 0, 0, 1, 1, 1])
    ok = np.isfinite(w).all(1)
    assert (w[ok][:, 0] == w[ok][:, 1]).all() and np.allclose(w[ok].sum(1), 1)


def test_intervals_widen_with_fewer_units():
    width = []
    for n in (15, 150):
        from imbal_al.measure.metrics import counts

        hist, y = made_up_images(n, 2 * n)
        i = interval(_rounds_at([counts(hist)], prevalence_draws(y, 0.1, 300))['f1'][0])
        width.append(i.high - i.low)
    assert width[0] > 1.5 * width[1]


def test_gain_by_hand_and_what_is_said():
    n, f = np.array([50, 100, 200]), np.array([[0.5, 0.5], [0.6, 0.6], [0.7, 0.7]])
    g = _expected_gain(n, f, 200)
    assert abs(g.mean - 0.1) < 1e-9
    assert _expected_gain([50, 50, 100], f[:3]) is None and _expected_gain(n[:2], f[:2]) is None
    for low, high, word in (
        (0.02, 0.1, 'are likely to pay'),
        (-0.1, 0.005, 'unlikely'),
        (-0.1, 0.1, 'inconclusive: '),
    ):
        assert word in _verdict(Interval(0.01, low, high, 3))
    rough = _expected_gain(
        np.array([50, 100, 200, 400]), np.array([0.5, 0.7, 0.5, 0.7])[:, None] * np.ones((1, 301))
    )
    assert rough.low < 0 < rough.high, 'a curve that jumps tells nothing'


def test_costs():
    hist, y = made_up_images(40, 80)
    for m, a in ((1, 1), (10, 1), (1, 10)):
        c = cost_point(hist, y, 0.1, m, a)
        assert c.cost <= c.cost_half + 1e-9 and c.oii.low <= c.oii.mean <= c.oii.high
    assert cost_point(hist, y, 0.1, 3, 3).threshold == cost_point(hist, y, 0.1, 1, 1).threshold
    for bad in ((0, 1), (1, -1), (float('inf'), 1), (float('nan'), 1)):
        with pytest.raises(InputError, match='costs'):
            cost_point(hist, y, 0.1, *bad)


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    d = tmp_path_factory.mktemp('where')
    (d / 'i').mkdir()
    truth = {}
    for i in range(24):
        a, truth[f'{i:02d}.png'] = image('steel', i, (32, 40), faulty=i % 2 == 0)
        Image.fromarray(a).save(d / 'i' / f'{i:02d}.png')
    p = new(
        d / 'p', d / 'i', window=32, overlap=0, steps=1, bs=2, weights=None, held_out=0.5, seed=1
    )
    with pytest.raises(InputError, match='no trained model yet'):
        where(p, 0.1)
    for o in p.units.id:
        write_label(p, o, truth[p.row[o]['name']])
    next_round(p, 0, device='cpu')
    return p


def test_a_projects_standing_and_again_from_what_is_kept(project, monkeypatch):
    s = where(project, 0.1, draws=40)
    assert (
        s.held_out == sum(is_held_out(project, o) for o in project.units.image)
        and s.trained + s.held_out == 24
        and s.newer == 0
        and len(s.curve) == 1
    )
    assert (
        s.gain is None
        and 'too early to say' in s.advice
        and 'Round 1, trained on' in str(s)
        and 0 <= s.point.threshold <= 1
    )
    from imbal_al.project import network as m

    monkeypatch.setattr(m, 'read_model', lambda *a: pytest.fail('the histograms are there'))
    again = where(project, 0.1, draws=40)
    assert again.curve.equals(s.curve) and again.point.f1 == s.point.f1


def test_a_corrected_held_out_label_is_looked_at_again(project):
    id = next(o for o in project.units.id if is_held_out(project, project.row[o]['image']))
    f = project.dir / 'rounds/001'
    before = heldout_hist(project, f, [id])[1]
    write_label(project, id, np.ones((32, 40)))
    after = heldout_hist(project, f, [id])[1]
    assert (
        after[0, 1].sum() == 1280
        and before.sum() == after.sum()
        and not np.array_equal(before, after)
    )
    trained = next(o for o in project.units.id if not is_held_out(project, project.row[o]['image']))
    write_label(project, trained, np.ones((32, 40)))
    assert where(project, 0.1, draws=20).newer == 1


@pytest.mark.parametrize('pi', [0, -1, 1.1, 'x', None, float('nan')])
def test_prevalences_that_are_none(project, pi):
    with pytest.raises(InputError, match='prevalence'):
        where(project, pi)


def test_one_kind_only_is_said(tmp_path, project):
    p = new(
        tmp_path / 'p',
        project.images,
        window=32,
        overlap=0,
        steps=1,
        bs=2,
        weights=None,
        held_out=0.5,
        seed=1,
    )
    for o in p.units.id:
        write_label(p, o, np.ones((32, 40)))
    next_round(p, 0, device='cpu')
    with pytest.raises(InputError, match='none of them healthy'):
        where(p, 0.1)
    assert where(p, 1, draws=20).prevalence == 1


def test_a_lost_model_is_said(project, tmp_path):
    import shutil
    from imbal_al.project.store import open_project

    shutil.copytree(project.dir, tmp_path / 'p')
    p = open_project(tmp_path / 'p')
    note.cache_clear()
    (p.dir / 'rounds/001/model.pt').write_bytes(b'x')
    (p.dir / 'rounds/001/heldout.npz').unlink(missing_ok=True)
    with pytest.raises(InputError, match='no model can be read back'):
        where(p, 0.1)


def test_thresholds_are_chosen_in_the_precision_of_the_exported_file(project, monkeypatch):
    from imbal_al.networks import device as learner
    from imbal_al.measure.metrics import histogram
    from imbal_al.project.labelled import read_mask
    from imbal_al.project.state import project_windows, split_labels
    from imbal_al.project.network import read_model
    from imbal_al.networks.predict import network, predict

    ids = split_labels(project, project.units['id'])[1]
    f = project.dir / 'rounds/001'
    net = read_model(project, f / 'model.pt')

    def hist(precision):
        return np.stack(
            [
                histogram(z[None], read_mask(project, i)[None], logits=True)[0]
                for i, (z, _) in zip(
                    ids,
                    predict(
                        network(net, 'lite0', precision=precision),
                        [project.read(project.row[i]) for i in ids],
                        project_windows(project),
                    ),
                )
            ]
        )

    monkeypatch.setattr(learner, 'choose_precision', lambda device: dict(train='fp32', eval='bf16'))
    half, full = hist(None), hist('fp32')
    assert not np.array_equal(half, full), 'bf16 makes no difference here: this test could not fail'
    assert np.array_equal(heldout_hist(project, f, ids)[1], full)
    r = dict(np.load(f / 'heldout.npz'))
    np.savez(f / 'heldout.npz', keys=r['keys'], hist=half)
    assert np.array_equal(
        heldout_hist(project, f, ids)[1], full
    ), 'histograms kept in another precision are made again'
