"Accept, look, reject: the rule against brute force, in the project, in the file and without us"

import csv
import json
import re
import runpy
import subprocess
import sys
from types import SimpleNamespace

import numpy as np, pytest
from PIL import Image
from typer.testing import CliRunner

from imbal_al.core import InputError, read_json
from imbal_al.data.synthetic import image
from imbal_al.measure.metrics import EDGES, P_EDGES
from imbal_al.measure.parts import AREAS, measure_parts
from imbal_al.measure.statistics import count_interval
from imbal_al.measure.verdict import (
    PartCosts,
    Rule,
    VERDICTS,
    judge,
    parts_to_show,
    read_rule,
    rule_by_alarms,
    rule_by_costs,
    rule_by_recall,
    rule_values,
    verdict_codes,
    verdict_level,
    with_threshold,
)
from small import run, steel_project

EXTRA = 'pip install onnx onnxruntime'


def line(n_faulty=12, n_healthy=40, seed=0):
    "Maps of logits on a line: blobs in faulty images, smaller and fainter ones in healthy"
    rng = np.random.default_rng(seed)
    z = np.full((n_faulty + n_healthy, 16, 16), -9.0)
    masks = np.zeros_like(z)
    for i, one in enumerate(z):
        faulty = i < n_faulty
        side = rng.integers(1, 6) if faulty else rng.integers(1, 4)
        one[3 : 3 + side, 3 : 3 + side] = rng.normal(2 if faulty else -1, 2)
        masks[i, 3:7, 3:7] = faulty
    return z, measure_parts(z, masks, logits=True), np.arange(len(z)) < n_faulty


def cost(codes, y, costs, pi):
    look = costs.look or 0
    faulty = np.mean([{0: costs.missed, 1: look, 2: 0}[c] for c in codes[y]])
    healthy = np.mean([{0: 0, 1: look, 2: costs.scrapped}[c] for c in codes[~y]])
    return pi * faulty + (1 - pi) * healthy


@pytest.mark.parametrize('look', [None, 0.5, 3, 50])
@pytest.mark.parametrize('pi', [0.05, 0.5])
def test_no_rule_on_the_grid_is_cheaper(look, pi):
    for seed in range(3):
        z, parts, y = line(seed=seed)
        costs = PartCosts(100, 10, look)
        ours = cost(verdict_codes(parts, rule_by_costs(parts, y, pi, costs)), y, costs, pi)
        for a in range(0, 12, 2):
            peak = parts.peak_NA[:, a]
            for low in range(1, 128, 2):
                for high in [low] if look is None else range(low, 129, 4):
                    codes = (peak >= low).astype(int) + (peak >= high)
                    assert cost(codes, y, costs, pi) >= ours - 1e-9


def test_records_and_maps_get_the_same_verdicts():
    z, parts, y = line()
    for rule in (Rule(), Rule(P_EDGES[50], 4, P_EDGES[90]), Rule(P_EDGES[70], 16, P_EDGES[70])):
        said = [judge(one, rule).verdict for one in z]
        assert said == [VERDICTS[code] for code in verdict_codes(parts, rule)]
        for one in z:
            found = judge(one, rule)
            assert (found.verdict == 'accept') == (found.defects == 0) == (not found.mask.any())
            assert not (found.mask & (one < np.log(rule.threshold / (1 - rule.threshold)))).any()


def test_what_may_slip_is_kept_and_costs_the_fewest_good_parts():
    z, parts, y = line(40, 100)
    for slip in (0, 0.03, 0.1, 0.3):
        flagged = verdict_codes(parts, rule_by_recall(parts, y, slip)) > 0
        assert (~flagged[y]).mean() <= slip + 1e-12
        for a in range(len(AREAS)):
            for k in range(1, 128):
                other = parts.peak_NA[:, a] >= k
                if (~other[y]).mean() <= slip:
                    assert other[~y].sum() >= flagged[~y].sum()


def test_alarms_on_good_parts_alone():
    z, parts, y = line(0, 100)
    for share in (0, 0.05, 0.5):
        rule = rule_by_alarms(parts, y, share)
        k = int(np.argmin(np.abs(P_EDGES - rule.threshold)))
        assert (parts.peak_NA[:, 0] >= k).mean() <= share
        assert k == 1 or (parts.peak_NA[:, 0] >= k - 1).mean() > share
    with pytest.raises(InputError, match='no faulty part is labelled'):
        rule_by_recall(parts, y, 0.01)
    with pytest.raises(InputError, match='none is faulty'):
        rule_by_costs(parts, y, 0.05, PartCosts(10, 1))


def test_what_is_known_of_a_rule():
    z, parts, y = line(30, 90)
    rule = Rule(P_EDGES[60], 2, P_EDGES[80])
    codes = verdict_codes(parts, rule)
    level = verdict_level(parts, y, rule, 0.05, PartCosts(100, 10, 1))
    assert level.missed == count_interval(int((codes[y] == 0).sum()), 30)
    assert level.scrapped == count_interval(int((codes[~y] == 2).sum()), 90)
    assert np.isclose(
        level.review, 0.05 * (codes[y] == 1).mean() + 0.95 * (codes[~y] == 1).mean()
    )
    assert level.cost.low <= level.cost.mean <= level.cost.high
    assert parts_to_show(0.01) == 299 and 0.99**299 < 0.05 < 0.99**298


def test_costs_on_labels_that_chose_are_flattered_those_of_folds_are_not():
    rng = np.random.default_rng(0)
    inside, fair = [], []
    for seed in range(6):
        z = np.full((60, 6, 6), -9.0)
        z[:, 2, 2] = rng.normal(0, 3, 60)
        y = np.arange(60) < 20
        parts = measure_parts(z, np.zeros_like(z), logits=True)
        costs = PartCosts(10, 10, 6)
        rule = rule_by_costs(parts, y, 0.5, costs)
        inside.append(cost(verdict_codes(parts, rule), y, costs, 0.5))
        fair.append(verdict_level(parts, y, rule, 0.5, costs, seed=seed).cost.mean)
    assert np.mean(fair) > 1.05 * np.mean(inside), 'scores without any sense cost 5 a part'
    assert abs(np.mean(fair) - 5) < 1


def test_rules_that_cannot_be():
    for bad in (dict(threshold=2), dict(min_area=0), dict(min_area=1.5), dict(reject=0.1)):
        with pytest.raises(InputError):
            Rule(**bad)
    for values in (None, {}, dict(rule_values(Rule()), more=1), dict(rule_values(Rule()), reject=0)):
        with pytest.raises(InputError):
            read_rule(values)
    for rule in (Rule(), Rule(0.2, 3, 0.2), Rule(0.2, 3, 0.9)):
        assert read_rule(json.loads(json.dumps(rule_values(rule)))) == rule
    assert with_threshold(Rule(0.2, 3), 0.5) == Rule(0.5, 3)


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    "24 pictures, half of them held out, half of them faulty, one trained round"
    from imbal_al.project.labelled import write_label
    from imbal_al.project.rounds import next_round

    d = tmp_path_factory.mktemp('verdict')
    p, truth = steel_project(d, 24, (48, 40), 2, steps=3, held_out=0.5, seed=1)
    for id in p.units.id:
        write_label(p, id, truth[p.row[id]['name']])
    next_round(p, 0, device='cpu')
    return p


def test_records_of_an_old_round_are_made_anew_and_a_damaged_file_is_no_answer(project, capsys):
    from imbal_al.project.heldout_records import heldout_parts
    from imbal_al.project.state import split_labels

    folder = project.dir / 'rounds/001'
    ids = split_labels(project, project.units.id)[1]
    read, first = heldout_parts(project, folder, ids)
    assert read == ids and len(first) == len(ids)
    file = folder / 'heldout_parts.npz'
    for content in (None, b'no zip', file.read_bytes()[:100]):
        file.unlink()
        if content is not None:
            file.write_bytes(content)
        again = heldout_parts(project, folder, ids)[1]
        assert (again.peak_NA == first.peak_NA).all() and (again.hist_KB == first.hist_KB).all()


def test_where_says_parts_at_the_verdict_or_else_at_the_threshold(project):
    from imbal_al.project.standing import where
    from imbal_al.project.verdict import Wanted, choose_verdict, undo_verdict

    before = where(project, 0.05, draws=30)
    assert not before.in_parts.chosen
    assert before.in_parts.rule.threshold == before.point.threshold
    for words in ('Healthy images flagged', 'of the flagged', 'need no human', 'False regions'):
        assert words in str(before), words
    choose_verdict(project, Wanted(rule=Rule(0.3, 4)))
    after = where(project, 0.05, draws=30)
    assert after.in_parts.chosen and after.in_parts.rule == Rule(0.3, 4)
    assert after.in_parts.images.faulty + after.in_parts.images.healthy == after.held_out
    assert undo_verdict(project) is None


def test_chosen_kept_put_back_and_damaged(project):
    from imbal_al.project.state import read_verdict
    from imbal_al.project.verdict import Wanted, choose_verdict, undo_verdict, verdict_account

    first = choose_verdict(project, Wanted(slip=0.0))
    assert read_verdict(project) == first.level.rule and first.level.missed.mean == 0
    second = choose_verdict(project, Wanted(costs=PartCosts(100, 5, 1)), 0.05)
    assert read_json(project.dir / 'verdict.json')['account'] == str(second) == verdict_account(project)
    assert undo_verdict(project) == first.level.rule
    path = project.dir / 'verdict.json'
    whole = path.read_text()
    for bad in ('', '{}', whole[: len(whole) // 2], whole.replace('imbal_al verdict 1', 'other')):
        path.write_text(bad)
        with pytest.raises(InputError, match='verdict.json is damaged'):
            read_verdict(project)
    path.unlink()
    assert read_verdict(project) is None


def test_the_file_gives_the_projects_verdicts_and_predict_applies_it(project, tmp_path):
    pytest.importorskip('onnxruntime', reason=EXTRA)
    from imbal_al.cli import app
    from imbal_al.project.deploy import export
    from imbal_al.project.heldout_records import heldout_parts
    from imbal_al.project.predictor import open_model, predict_folder
    from imbal_al.project.state import split_labels

    run, dir = CliRunner().invoke, str(project.dir)
    ids = split_labels(project, project.units.id)[1]
    parts = heldout_parts(project, project.dir / 'rounds/001', ids)[1]
    at = P_EDGES[int(np.median(parts.peak_NA[:, 0]))]
    options = ['--threshold', str(at), '--min-area', '2', '--reject', str(min(at + 0.05, 0.99))]
    said = run(app, ['verdict', dir, *options])
    assert said.exit_code == 0 and 'Chosen by hand' in said.output
    assert 'Chosen by hand' in run(app, ['verdict', dir]).output
    made = export(project, tmp_path / 'm.onnx')
    rule = read_rule(made.meta['verdict'])
    assert rule.threshold == made.meta['threshold'] == at and rule.min_area == 2
    table = predict_folder(open_model(made.path), project.images, tmp_path / 'out', overlays=False)
    rows = {row['image']: row for row in csv.DictReader(table.open())}
    want = verdict_codes(parts, rule)
    assert {rows[project.row[id]['image']]['verdict'] for id in ids} <= set(VERDICTS)
    for id, code in zip(ids, want):
        row = rows[project.row[id]['image']]
        assert row['verdict'] == VERDICTS[code] and row['flagged'] == str(int(code > 0))
        assert (int(row['defects']) > 0) == (code > 0)
    other = run(
        app,
        ['predict', str(made.path), str(project.images), '--out', str(tmp_path / 'few'), '--min-area', '5000'],
    )
    assert other.exit_code == 0
    assert {row['verdict'] for row in csv.DictReader((tmp_path / 'few/table.csv').open())} == {'accept'}
    again = ['predict', str(made.path), str(project.images), '--out', str(tmp_path / 'few')]
    refused = run(app, again)
    assert refused.exit_code != 0 and 'another threshold or smallest area' in str(
        refused.output + str(refused.exception)
    )
    card = made.card.read_text()
    assert '## Verdict' in card and str(rule) in card and '## Use without imbal_al' in card
    assert run(app, ['verdict', dir, '--undo']).output.strip() == 'the verdict is now: none'


def test_a_file_of_other_verdicts_is_not_kept(project, tmp_path, monkeypatch):
    pytest.importorskip('onnxruntime', reason=EXTRA)
    from imbal_al.project import deploy

    real = deploy.verdict_codes
    monkeypatch.setattr(deploy, 'verdict_codes', lambda parts, rule: 2 - real(parts, rule))
    with pytest.raises(InputError, match='the exported file says'):
        deploy.export(project, tmp_path / 'm.onnx')
    assert not (tmp_path / 'm.onnx').exists() and not (tmp_path / 'm.md').exists()


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    "(folder of the file and the lines of its card, what `predict` says of pictures of several windows)"
    pytest.importorskip('onnxruntime', reason=EXTRA)
    from imbal_al.project.deploy import export
    from imbal_al.project.labelled import write_label
    from imbal_al.project.heldout_records import heldout_parts
    from imbal_al.project.predictor import open_model, predict_folder
    from imbal_al.project.rounds import next_round
    from imbal_al.project.state import split_labels
    from imbal_al.project.verdict import Wanted, choose_verdict

    d = tmp_path_factory.mktemp('lines')
    small = dict(window=64, overlap=32, steps=3, seed=4, held_out=0.6)
    p, truth = steel_project(d, 10, (150, 100), 2, **small)
    for id in p.units.id:
        write_label(p, id, truth[p.row[id]['name']])
    made = next_round(p, 0, device='cpu')
    ids = split_labels(p, p.units.id)[1]
    peaks = np.sort(heldout_parts(p, made.folder, ids)[1].peak_NA[:, list(AREAS).index(4)])
    low, high = (float(P_EDGES[peaks[at]]) for at in (2, -1))
    choose_verdict(p, Wanted(rule=Rule(low, 4, high)))
    made = export(p, d / 'm.onnx')
    code = made.card.read_text().split('```python\n')[1].split('```')[0]
    (d / 'use.py').write_text(code)
    table = predict_folder(open_model(made.path), p.images, d / 'o', False)
    return d, {row['image']: f"{row['verdict']} {row['defects']}" for row in csv.DictReader(table.open())}


def said_by_the_lines(d, name, capsys, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['use.py', str(d / 'm.onnx'), str(d / 'i' / name)])
    runpy.run_path(str(d / 'use.py'))
    return capsys.readouterr().out.strip()


def test_the_lines_of_the_card_are_25_and_stand_alone(exported):
    d, want = exported
    code = (d / 'use.py').read_text()
    assert len([line for line in code.split('\n') if line]) <= 25 and ';' not in code
    assert 'imbal_al' not in code.replace("['imbal_al']", '')
    assert max(map(len, code.split('\n'))) <= 100
    name = min(want, key=want.get)
    run = [sys.executable, 'use.py', 'm.onnx', f'i/{name}']
    said = subprocess.run(run, cwd=d, capture_output=True, text=True, check=True)
    assert (said.stdout.strip(), said.stderr) == (want[name], '')


def test_the_lines_of_the_card_say_what_predict_says(exported, capsys, monkeypatch):
    "Pictures of several windows that overlap, each verdict, several defects in one"
    d, want = exported
    assert {said.split()[0] for said in want.values()} == set(VERDICTS)
    assert max(int(said.split()[1]) for said in want.values()) > 1
    assert {name: said_by_the_lines(d, name, capsys, monkeypatch) for name in want} == want


class _ByOpenVino:
    "What onnxruntime's session does, done by OpenVINO"

    def __init__(self, path):
        import onnx

        ov = pytest.importorskip('openvino', reason='pip install openvino')
        exact = {'INFERENCE_PRECISION_HINT': 'f32'}
        self.graph = ov.Core().compile_model(path, 'CPU', exact)
        self.meta = {one.key: one.value for one in onnx.load(path).metadata_props}
        self.ran = 0

    def get_modelmeta(self):
        return SimpleNamespace(custom_metadata_map=self.meta)

    def run(self, names, given):
        self.ran += 1
        return [self.graph(given)[name] for name in names]


def test_openvino_gives_the_verdicts_of_predict(exported, capsys, monkeypatch):
    "The lines of the card, with OpenVINO in place of onnxruntime"
    import onnxruntime

    pytest.importorskip('openvino', reason='pip install openvino')
    d, want = exported
    session = _ByOpenVino(str(d / 'm.onnx'))
    monkeypatch.setattr(onnxruntime, 'InferenceSession', lambda path: session)
    assert {name: said_by_the_lines(d, name, capsys, monkeypatch) for name in want} == want
    assert session.ran >= 4 * len(want)


def test_axes_of_the_file_have_names(exported):
    onnx = pytest.importorskip('onnx', reason=EXTRA)
    graph = onnx.load(str(exported[0] / 'm.onnx')).graph
    shape = graph.input[0].type.tensor_type.shape.dim
    assert [one.denotation for one in shape] == ['windows', 'height', 'width', 'channels']
    assert shape[0].dim_param == 'windows'


@pytest.fixture(scope='module')
def nothing_found(tmp_path_factory):
    "A project of 14 pictures whose labels are all healthy, and the mask of the one that has a defect"
    from imbal_al.project.labelled import write_label

    d = tmp_path_factory.mktemp('healthy')
    p, truth = steel_project(d, 14, (32, 32), 100, steps=2, held_out=0.4, seed=1)
    for id in p.units.id:
        if p.row[id]['name'] != '00.png':
            write_label(p, id, np.zeros((32, 32)))
    (d / 'masks').mkdir()
    Image.fromarray(truth['00.png'].astype(np.uint8) * 255).save(d / 'masks' / '00.png')
    return d, str(p.dir)


def test_without_a_defect_every_command_names_the_same_remedy(nothing_found):
    d, p = nothing_found
    for words in (
        ('where', p, '--prevalence', 0.05),
        ('verdict', p, '--alarms', 0.1),
        ('export', p, d / 'no.onnx'),
        ('next', p, '--budget', 0, '--device', 'cpu'),
        ('guide', p, '--misses-cost', 5, '--alarms-cost', 1),
    ):
        code, said = run(*words)
        assert code and 'has no network: none of its 13 labels is a defect' in said, said
        assert f'imbal-al next {p} --budget 50' in said and f'imbal-al ingest {p} MASKS' in said
    said = run('verdict', p)[1]
    assert 'has no network' in said and '--alarms' not in said  # It would be refused
    assert 'exhausted' not in run('project', 'status', p)[1]


def test_from_healthy_tests_alone_a_verdict_is_had(nothing_found):
    "The remedies are followed, one after the other, up to what `predict` says"
    pytest.importorskip('onnxruntime', reason=EXTRA)
    from imbal_al.project.state import split_labels
    from imbal_al.project.store import open_project

    d, p = nothing_found
    project = open_project(p)
    code, said = run('next', p, '--budget', 50, '--device', 'cpu')
    assert code == 0 and 'no model yet' in said, said
    assert run('ingest', p, d / 'masks')[0] == 0
    assert run('next', p, '--budget', 0, '--device', 'cpu')[0] == 0
    code, said = run('where', p, '--prevalence', 0.05)
    assert code and 'Healthy images flagged' in said and 'none of them faulty' in said, said
    code, said = run('verdict', p, '--slip', 0.01)
    command = re.search('`imbal-al (verdict .*?)`', said)[1]
    assert code and command.endswith('--alarms 0.05') and command in run('verdict', p)[1]
    code, said = run(*command.split())
    assert code == 0 and 'at most 5 % of the good parts are flagged' in said, said
    where = run('where', p, '--prevalence', 0.05)[1]
    flagged, healthy = map(int, re.search(r'Healthy images flagged: (\d+) of (\d+)', where).groups())
    assert 'by the verdict' in where and flagged <= 0.05 * healthy
    code, said = run('export', p, d / 'm.onnx')
    assert code == 0, said
    card = (d / 'm.md').read_text()
    assert 'at most 5 % of the good parts are flagged' in card and '- There are no scores; once' in card
    assert 'No faulty part is among the tests' in card and 'The scores hold' not in card
    assert 'on: that of the verdict below. This was **not** tested at a prevalence.' in card
    code, said = run('export', p, d / 'no.onnx', '--prevalence', 0.05)
    assert code and 'none of them faulty' in said and 'export without a prevalence' in said, said
    assert run('predict', d / 'm.onnx', d / 'i', '--out', d / 'o')[0] == 0
    with open(d / 'o/table.csv', newline='') as f:
        rows = list(csv.DictReader(f))
    held_out = split_labels(project, project.units.id)[1]
    names = {project.row[id]['name'] for id in held_out}
    assert len(rows) == 14 and len(names) == healthy
    assert sum(row['verdict'] != 'accept' for row in rows if row['image'] in names) == flagged
    (d / 'tomorrow').mkdir()
    for i in range(4):
        Image.fromarray(image('steel', 100 + i, (32, 32))[0]).save(d / 'tomorrow' / f'{i}.png')
    assert run('predict', d / 'm.onnx', d / 'tomorrow', '--out', d / 'o2')[0] == 0
    code, said = run('watch', d / 'o2', '--project', p)
    assert code == 0 and re.search('^4 pictures, against 14 of the project', said, re.M), said
    assert re.search('^share +too few pictures', said, re.M), said


def test_a_defect_that_is_held_out_trains_nothing_and_one_is_too_few_to_test_on(tmp_path):
    from imbal_al.project.labelled import write_label
    from imbal_al.project.state import split_labels

    p, truth = steel_project(tmp_path, 8, (32, 32), 1, steps=2, held_out=0.5, seed=1)
    train, tests = split_labels(p, p.units.id)
    for id in [*train, *tests[1:]]:
        write_label(p, id, np.zeros((32, 32)))
    write_label(p, tests[0], truth[p.row[tests[0]]['name']])
    for words in (('next', p.dir, '--budget', 0, '--device', 'cpu'), ('where', p.dir, '--prevalence', 0.05)):
        code, said = run(*words)
        assert code == 2 and 'labelled are held out for tests (1), none is left to train on' in said, said
    write_label(p, train[0], truth[p.row[train[0]]['name']])
    assert run('next', p.dir, '--budget', 0, '--device', 'cpu')[0] == 0
    code, said = run('where', p.dir, '--prevalence', 0.05)
    assert code == 2 and 'has too few faulty held-out labels (1)' in said, said


def test_a_rule_that_accepts_nothing_says_so():
    assert str(Rule(0.0)) == 'Accept no part: at a probability of 0 each has a region. Look at every one.'
    assert str(Rule(0.0, min_area=2)).startswith('Accept a part without a region of at least 2 px')


@pytest.mark.parametrize(
    'options, words',
    [
        (['--missed-cost', '5'], 'give both --missed-cost and --scrapped-cost'),
        (['--look-cost', '5'], 'give both'),
        (['--min-area', '5'], 'go with --threshold'),
        (['--slip', '0.1', '--alarms', '0.1'], 'slip and alarms'),
        (['--missed-cost', '5', '--scrapped-cost', '1'], '--prevalence 0.05'),
        (['--slip', '1'], 'share of faulty parts that may be missed'),
        (['--slip', '0.1', '--prevalence', '7'], 'share of faulty parts above 0'),
        (['--undo'], 'no verdict that could be taken back'),
    ],
)
def test_one_line_says_what_is_missing(project, options, words):
    from imbal_al.cli import app

    said = CliRunner().invoke(app, ['verdict', str(project.dir), *options])
    assert said.exit_code != 0 and words in said.output + str(said.exception)
    assert not (project.dir / 'verdict.json').exists()


def test_grid_is_that_of_the_histograms():
    assert len(EDGES) == len(P_EDGES) == 129
