"Reports of studies that are finished, have failed in part, are running, have not begun, or are none"

from dataclasses import replace
from html.parser import HTMLParser

import pytest

from imbal_al.core import InputError, write_json
from imbal_al.results.report import _part, _settings, write_report


class Nesting(HTMLParser):
    "Every tag that is opened is closed, in order"

    empty = {'meta', 'img', 'br', 'hr', 'link'}

    def __init__(self, text):
        super().__init__()
        self.open, self.loads = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.loads += [v for k, v in attrs if k in ('src', 'href')]
        if tag not in self.empty:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag


def sound(path):
    text = path.read_text()
    page = Nesting(text)
    assert all(o.startswith(('data:', '#')) for o in page.loads), page.loads
    return text


@pytest.fixture(scope='module')
def study(tmp_path_factory, tiny):
    from imbal_al.studies.learning_study import run_study

    d = tmp_path_factory.mktemp('study')
    configs = [replace(tiny, strategy=s, repeat=r) for r in range(2) for s in ('random', 'entropy')]
    assert run_study(d, configs, workers=0) == []
    return d, configs


def test_a_finished_study(study):
    d, configs = study
    text = sound(write_report(d))
    assert (
        '4 of 4 runs done' in text
        and '<p>None.</p>' in text
        and all(c.hash in text for c in configs)
        and text.count('<figure>') >= 4
    )
    assert 'claims of the active-learning paper' in text and 'not the networks' in text
    shown = text.split('In images: faulty ones caught')[1].split('<h')[0]
    assert '<th>auroc</th>' in shown and 'Not shown' not in shown
    assert 'false regions per healthy image' in shown and 'within one' in shown, 'defects are of a patch'


def test_predictions_and_another_place(study, tmp_path):
    text = sound(write_report(study[0], tmp_path / 'deep' / 'r.html', predictions=1))
    assert 'Predictions: synthetic:40:64' in text and 'best, IoU' in text
    shown = text.split('Defects found by it')[1].split('<h')[0]
    assert 'Not shown' not in shown and 'overlap of a defect (PRO)' in shown and 'NO_PARTS' not in shown


def test_parts_of_a_run_are_those_of_its_histogram(study):
    "Trained again, all pixels of defects are where the stored histogram has them"
    import numpy as np
    from imbal_al.results.gallery import run_parts
    from imbal_al.studies.run_records import read_run

    d, configs = study
    parts, hist = run_parts(d, configs[0]), read_run(d / 'runs' / configs[0].hash)['hist']
    defect = np.zeros((len(hist), 128), int)
    np.add.at(defect, parts.of_K, parts.hist_KB.astype(int))
    assert len(parts) == len(hist) and (defect.sum(1) == hist[:, 1].sum(1)).all()
    moved = np.abs(np.cumsum(defect - hist[:, 1].astype(int), 1)).sum() / defect.sum()
    assert moved < 0.5, 'bins a pixel, for runs may be judged in bf16'


def test_images_that_are_not_here(study, monkeypatch):
    def gone(*args, **kwargs):
        raise InputError('the images are <gone>')

    monkeypatch.setattr('imbal_al.results.gallery.load_patches', gone)
    assert 'Not shown: the images are &lt;gone&gt;' in sound(write_report(study[0]))


def test_failed_running_and_left(study, tmp_path):
    import shutil
    from imbal_al.runs.plan import save_plan

    d = tmp_path / 's'
    shutil.copytree(study[0], d)
    a, b, c = (replace(study[1][0], repeat=r) for r in (7, 8, 9))
    save_plan(d, [a, b, c])
    (d / 'runs' / a.hash).mkdir()
    write_json(
        d / 'runs' / a.hash / 'failed.json',
        dict(line='no <memory> left', traceback='Traceback & more'),
    )
    from imbal_al.runs.lock import Lock

    (d / 'runs' / b.hash).mkdir()
    lock = Lock(d / 'runs' / b.hash / 'owner.json')
    assert lock.acquire()
    try:
        text = sound(write_report(d))
    finally:
        lock.release()
    assert '4 of 7 runs done, 1 running, 1 failed, 1 left' in text
    assert 'no &lt;memory&gt; left' in text and 'Traceback &amp; more' in text


def test_nothing_finished_yet(tmp_path, tiny):
    from imbal_al.runs.plan import save_plan

    save_plan(tmp_path, [tiny])
    text = sound(write_report(tmp_path))
    assert '0 of 1 runs done' in text and text.count('No run is finished yet') >= 2


def test_no_study(tmp_path):
    with pytest.raises(InputError, match='holds no study'):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_losses_one_of_them_diverged(tmp_path):
    from imbal_al.studies.loss_config import LossConfig
    from imbal_al.studies.loss_study import plan_losses, run_losses

    base = LossConfig(data='synthetic:16:32', width=0.25, steps=2, validations=2, bs=4)
    failed = run_losses(
        tmp_path, [*plan_losses(base, ['dice', 'tversky']), replace(base, lr=1e30)], workers=0
    )
    assert len(failed) == 1
    text = sound(write_report(tmp_path, predictions=1))
    assert (
        'diverged' in text
        and 'Losses and networks (table 4)' in text
        and '2 of 3 runs done' in text
        and 'Predictions: synthetic:16:32' in text
    )


def test_a_part_that_cannot_be_made_says_why():
    assert (
        'ZeroDivisionError' in _part('a', lambda: 1 / 0)
        and _part('', lambda: '<p>x</p>') == '<p>x</p>\n'
    )


def test_settings_name_what_varies(tiny):
    varies, shared = _settings([tiny, replace(tiny, lr=0.5)])
    assert varies.setting.tolist() == ['lr'] and 'lr' not in shared.setting.tolist()
    assert len(_settings([tiny])[0]) == 0


def test_images_of_a_study_are_told_and_compared(study):
    "The columns are those of the histograms, row by row; compare takes them by name"
    from imbal_al.measure.image_level import auroc, histogram_scores
    from imbal_al.results.compare_report import compare_folder
    from imbal_al.results.in_images import with_images
    from imbal_al.runs.collect import results_table
    from imbal_al.studies.run_records import read_run

    d, configs = study
    results = results_table(d)
    found = with_images(results, d, every=True)
    assert len(found) == len(results)
    row = found.iloc[-1]
    run = read_run(d / 'runs' / row.config, int(row.cycle))
    assert row.image_auroc == auroc(histogram_scores(run['hist']), run['faulty'])
    last = with_images(results, d)
    assert set(last.cycle) == {results.cycle.max()} and list(last.index) == list(results[results.cycle == 2].index)
    c = compare_folder(d, value='image_auroc', what='final')
    at = found[(found.cycle == found.cycle.max()) & (found.strategy == 'random') & (found.pi_t == found.pi_t.iloc[0])]
    ours = c.methods[c.methods.method == 'random']['mean']
    assert min(abs(ours - at.image_auroc.mean())) < 1e-9
    with pytest.raises(InputError, match='image_nothing'):
        compare_folder(d, value='image_nothing')
