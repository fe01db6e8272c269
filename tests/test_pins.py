"""What must stay when the code is rewritten or moved, recorded before

The values in tests/pins were recorded at commit 742108b, from the code before rewriting. After a
change of behaviour that is wanted, record again:  python tests/test_pins.py --record [NAME ...]
What a pin is made of, to compare two commits:     python tests/test_pins.py --show NAME

A value under `bits` is compared where processor and versions are those it was recorded with: it
may differ in its last digits elsewhere. A value under `about` is compared with a tolerance. All
others (texts, whole numbers, tables of six digits) are compared exactly, everywhere. A training of
a network comes out otherwise on another processor: there, of the pins in `TRAINED` only names and
texts count.
"""

import hashlib, importlib.metadata, importlib.util, json, math, os, re, sys, tarfile, tempfile
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np, pandas as pd, pytest, torch, typer
from PIL import Image
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))
from pins import api

HERE = Path(__file__).parent / 'pins'
RESULTS = Path(__file__).parent.parent / 'data' / 'results'
TIMES = ('commit', 'seconds', 'phases', 'provenance', 'sha256', 'computed', 'minutes', 'time', 'id')
SHOWN = []


# How values are written down


def sha(data):
    "The first 16 digits of a SHA-256"
    return hashlib.sha256(data if isinstance(data, bytes) else data.encode()).hexdigest()[:16]


def text(s):
    "A text, by its sum; `--show` prints it whole"
    SHOWN.append(s)
    return sha(s)


def floats(values, digits=None):
    "Numbers: their bits (or those of `digits` digits), and three sums that show any change"
    a = np.ascontiguousarray(values, dtype=None if hasattr(values, 'dtype') else float)
    SHOWN.append(f'{a.dtype} {a.shape} {a.ravel()[:40].tolist()}')
    x = np.nan_to_num(a.astype(float).ravel(), nan=-0.123, posinf=9e9, neginf=-9e9)
    exact = a.tobytes() if digits is None else '\n'.join(f'{o:.{digits}g}' for o in x)
    sums = [x.sum(), np.abs(x).sum(), x @ np.sin(np.arange(len(x)) + 1.0)]
    return dict(shape=list(a.shape), bits=sha(exact), about=[float(f'{o:.9g}') for o in sums])


def frame(table):
    "A table: as text with six digits, and with all of them"
    table = table.reset_index(drop=True)
    rounded = table.copy()
    for k in rounded.select_dtypes('number'):
        if rounded[k].dtype.kind == 'f':
            rounded[k] = rounded[k].round(9) + 0.0
    SHOWN.append(table.to_csv(index=False))
    return dict(
        columns=list(map(str, table.columns)),
        rows=len(table),
        digits=sha(rounded.to_csv(index=False, float_format='%.6g')),
        bits=sha(table.to_csv(index=False)),
    )


def trained(table):
    "A table whose numbers come from a training: words and whole numbers apart from the others"
    real = [k for k in table if table[k].dtype.kind == 'f']
    out = frame(table)
    del out['digits']
    return dict(out, words=frame(table.drop(columns=real)), numbers=floats(table[real].to_numpy()))


def timeless(o):
    "JSON values without what time, machine and commit decide"
    if isinstance(o, dict):
        return {k: timeless(v) for k, v in sorted(o.items()) if k not in TIMES}
    return [timeless(v) for v in o] if isinstance(o, list) else o


def arrays(record):
    "A record's arrays, name by name"
    return {k: one_array(record[k]) for k in sorted(record) if k not in TIMES}


def one_array(a):
    a = np.asarray(a)
    return floats(a) if a.dtype.kind in 'fiub' else [str(o) for o in a.ravel()]


def picture(path):
    with Image.open(path) as im:
        return dict(mode=im.mode, size=list(im.size), bits=sha(np.asarray(im).tobytes()))


def call(*args):
    "What a command prints on its standard output"
    r = CliRunner().invoke(api.app, list(map(str, args)), env=dict(COLUMNS='160'))
    assert r.exit_code == 0, (args, r.output, r.exception)
    return r.stdout


def neutral(s, folder):
    "A text without the temporary folder and the commit"
    return re.sub(r'\b[0-9a-f]{10}\b\+?', 'COMMIT', s.replace(str(folder), 'FOLDER'))


def state(folder):
    "What `imbal-al status` says, without how long it took"
    words = re.sub(r'\s+', ' ', call('status', folder))
    return text(re.sub(r', (about )?[\d.]+ \w+ (a training lately|left)', '', words))


# The machine that a value belongs to


@cache
def machine():
    "What floating-point results may depend on"
    names = ('torch', 'numpy', 'scipy', 'pandas', 'matplotlib', 'pillow', 'typer', 'click', 'rich')
    return dict(
        cpu=processor(),
        capability=torch.backends.cpu.get_cpu_capability(),
        precision=api.choose_precision('cpu')['eval'],
        versions={k: version(k) for k in names},
    )


def processor():
    "Name and generation: two of one name may round differently"
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.exists() else []
    names = ('cpu family', 'model', 'model name', 'stepping')
    told = {k.strip(): v.strip() for k, _, v in (line.partition(':') for line in lines)}
    return ', '.join(f'{name} {told[name]}' for name in names if name in told)


def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


# 1: studies


SMALL = dict(
    data='synthetic:40:64',
    patch=(32, 32),
    pi_u=0.5,
    pi_t=(0.5, 0.1),
    pool_size=40,
    test_size=10,
    heldout_size=12,
    validation_size=8,
    cycles=2,
    batch=8,
    steps=12,
    bs=8,
)


def study_files(folder):
    "Tables, plan and records of a study of active learning"
    results = pd.read_csv(folder / 'results.csv').drop(columns='commit')
    picks = pd.read_csv(folder / 'picks.csv')
    first = picks[picks.cycle == 1]
    return dict(
        files=sorted(o.name for o in folder.iterdir() if o.is_file()),
        results=trained(results),
        picks=dict(rows=len(picks), columns=list(picks), bits=sha(picks.to_csv(index=False))),
        first_picks=frame(first[[k for k in first if first[k].dtype.kind in 'ibO']]),
        plan=timeless(json.loads((folder / 'study.json').read_text())),
        runs={o.name: run_files(o) for o in sorted((folder / 'runs').iterdir())},
    )


def run_files(folder):
    "Names, configuration and arrays of a run"
    names = sorted(o.name for o in folder.iterdir())
    config = timeless(json.loads((folder / 'config.json').read_text()))
    records = {o: arrays(dict(np.load(folder / o))) for o in names if o.endswith('.npz')}
    return dict(names=names, config=config, records=records)


def pin_study(tmp):
    "Two strategies in this process, and what is said about them afterwards"
    base = api.RunConfig(**SMALL)
    configs = api.plan(base, ['random', 'entropy'], [0.5], 1, [0.1])
    assert api.run_study(tmp, configs, 0, 'cpu') == []
    out = study_files(tmp)
    out['advice'] = dict(bits=text('\n\n'.join(o.account() for o in api.advise_folder(tmp))))
    out['compare'] = dict(bits=text(neutral(call('compare', tmp), tmp)))
    out['status'] = state('.')
    call('collect', tmp)
    out['collected'] = list(pd.read_csv(tmp / 'collected.csv'))
    return out


def pin_study_command(tmp):
    "`imbal-al study`, with other options, in a worker process"
    args = '--data synthetic:40:64 --patch 32 --pool-size 40 --test-size 10 --cycles 2 --batch 8'
    grid = '--strategies coreset,margin --losses dibe --fn-weights 0.3 --pi-u 0.5 --pi-t 0.1'
    how = '--repeats 1 --steps 6 --bs 8 --workers 1 --device cpu --seed 3'
    call('study', *f'{args} {grid} {how}'.split(), '--out', tmp / 'study')
    out = study_files(tmp / 'study')
    out['figures'] = sorted(o.name for o in (tmp / 'study' / 'figures').iterdir())
    for run in out['runs'].values():
        assert run['config']['precision']['eval'] in ('fp32', 'bf16')
        run['config']['precision']['eval'] = "the processor's: a worker chooses by itself"
    return out


def pin_loss_study(tmp):
    "Two losses on a tiny network, and its report"
    base = api.LossConfig(
        data='synthetic:24:64', size=32, width=0.5, steps=8, validations=2, bs=4, weights=None
    )
    configs = api.plan_losses(base, ['ft', 'dibe'], fn_weights=[0.3, 0.7])
    assert api.run_losses(tmp, configs, 0, 'cpu') == []
    report = api.write_report(tmp).read_text()
    return dict(
        results=trained(api.loss_results(tmp).drop(columns='commit')),
        plan=timeless(json.loads((tmp / 'study.json').read_text())),
        runs={o.name: loss_run_files(o) for o in sorted((tmp / 'runs').iterdir())},
        report=re.findall(r'<h\d[^>]*>(.*?)</h\d>', report),
        table_heads=re.findall(r'<th[^>]*>(.*?)</th>', report),
    )


def loss_run_files(folder):
    names = sorted(o.name for o in folder.iterdir())
    config = timeless(json.loads((folder / 'config.json').read_text()))
    return dict(names=names, config=config, final=arrays(dict(np.load(folder / 'final.npz'))))


# 2: a project


def line_image(i):
    return api.image('steel', i, (32, 40), faulty=i % 2 == 0)


def give_labels(project, masks):
    "Answer the round that is out with masks"
    masks.mkdir()
    for path in sorted(project.glob('rounds/*/queue/images/*')):
        mask = line_image(int(path.name[:2]))[1]
        Image.fromarray(mask * 255).save(masks / path.name)


def pin_project(tmp):
    "Images, two rounds, labels as masks, what `where` says, and the network"
    d, images = tmp / 'p', tmp / 'images'
    images.mkdir()
    for i in range(24):
        Image.fromarray(line_image(i)[0]).save(images / f'{i:02d}.png')
    new = '--window 32 --train fine-tune --steps 12 --held-out 0.5 --seed 1'.split()
    with pytest.MonkeyPatch.context() as m:  # a project's id is random, and its units' ids follow
        m.setattr(os, 'urandom', lambda n: bytes(range(n)))
        said = [call('project', 'new', d, '--images', images, *new)]
    said.append(call('next', d, '--budget', 18, '--strategy', 'coreset', '--device', 'cpu'))
    give_labels(d, tmp / 'masks')
    said.append(call('ingest', d, tmp / 'masks'))
    said.append(call('next', d, '--budget', 4, '--device', 'cpu', '--strategy', 'margin'))
    for form in ('coco', 'cvat', 'labelstudio'):
        call('project', 'labels', d, tmp / f'labels.{form}', '--form', form)
    said += [call('project', 'status', d), call('project', 'release', d)]
    told = call('where', d, '--prevalence', 0.2, '--misses-cost', 5, '--alarms-cost', 1)
    names = sorted(str(o.relative_to(d)) for o in d.rglob('*') if o.is_file())
    return dict(
        said=[without_sight(neutral(o, tmp)).splitlines() for o in said],
        where=dict(bits=text(told)),
        labels=frame(api.labels(api.open_project(d)).drop(columns=['time', 'at'], errors='ignore')),
        exports=[text(neutral((tmp / f'labels.{o}').read_text(), tmp)) for o in ('coco', 'cvat')],
        files={nameless(k): project_file(d / k, tmp) for k in names if '002' not in k},
        second=dict(bits={k: project_file(d / k, tmp) for k in names if '002' in k}),
        model=exported(d, tmp),
    )


def without_sight(text):
    "What a network of twelve steps sees in the rest of the pool is the processor's affair"
    return re.sub(r'In \d+ of those that are not labelled .*', 'In N of those that are not labelled ...', text)


def nameless(text):
    "The table of pictures is named after the times that are in it"
    return re.sub('pictures-[0-9a-f]{8}', 'pictures-HASH', text)


def project_file(path, tmp):
    "What a project's file holds, without time and place"
    if path.name.startswith('pictures-'):
        return {k: o[3:] for k, o in sorted(json.loads(path.read_text()).items())}
    if path.suffix == '.pt':
        state = torch.load(path, weights_only=True)
        return dict(names=text('\n'.join(state)), values=floats(total(state)))
    if path.suffix == '.npz':
        return arrays(dict(np.load(path)))
    if path.suffix in ('.png', '.jpg'):
        return picture(path)
    if path.name in ('project.json', 'round.json', 'done.json', 'queue.json'):
        return timeless(json.loads(nameless(path.read_text()).replace(str(tmp), 'FOLDER')))
    content = path.read_text().replace(str(tmp), 'FOLDER')
    return dict(bits=text(content), lines=content.count('\n'))


def total(state):
    "The sum of each of a network's weights"
    return np.array([float(v.double().sum()) for v in state.values()])


def exported(d, tmp):
    "Initializers and metadata of the ONNX file; where ONNX is not installed, nothing is compared"
    if not all(map(importlib.util.find_spec, ('onnx', 'onnxruntime'))):
        return None
    import onnx
    from onnx import numpy_helper

    call('export', d, tmp / 'm.onnx', '--prevalence', 0.2)
    m = onnx.load(tmp / 'm.onnx')
    sums = [float(numpy_helper.to_array(o).astype(float).sum()) for o in m.graph.initializer]
    return dict(
        initializers=floats(sums),
        names={o.key: sorted(json.loads(o.value)) for o in m.metadata_props},
        metadata=dict(bits={o.key: timeless(json.loads(o.value)) for o in m.metadata_props}),
        card=dict(bits=text(neutral((tmp / 'm.md').read_text(), tmp))),
    )


# 3: configurations and plans


def pin_configs(tmp):
    "Hashes of runs and grids: they name the folders of finished runs"
    run, loss = api.RunConfig, api.LossConfig
    kinds = dict(
        default=run(),
        small=run(**SMALL),
        dibe=run(loss='dibe'),
        tversky=run(loss='tversky', fn_weight=0.9, train_pi=0.2),
        healthy=run(healthy_share=0.15, pi_u=1),
        shift=run(pi_u=1, pi_t=(1, 0.05, 0.02), strategy='quota'),
        warm=run(stop='converged', warm_start=True, strategy='badge', repeat=4, seed=7),
        network=run(arch='unet', encoder='resnet18', weights=None, in_channels=1, channels=1),
        epochs=run(steps=None, epochs=3, lr=1e-4, schedule='flat', mode='paper', heldout_size=None),
        measured=run(precision_by='measured', patch=(64, 100), stride='even', strategy='bald'),
        loss_default=loss(),
        loss_dis=loss(loss='dibe_dis', variant='class', fn_weight=0.3),
        loss_segnet=loss(arch='segnet', width=0.5, data='cfd', options=dict(gamma=2.0)),
        loss_window=loss(patch=96, data='mtsdd_crack', augment='fixed', class_weight=0.75),
        loss_epochs=loss(loss='hf', steps=None, epochs=20, clip=0.05, prior=0.01, seed=3),
        loss_plain=loss(loss='bce', even=False, precision='bf16', momentum=0.0),
    )
    grid = api.plan(
        run(),
        ['random', 'entropy', 'clasp'],
        [0.1, 1],
        2,
        (0.05, 0.02),
        ['combo_paper', 'dibe', 'bce'],
        (0.3, None),
    )
    losses = api.plan_losses(
        loss(),
        list(api.LOSSES),
        ['unet', 'segnet', 'fpn'],
        2,
        (None, 0.1),
        ('region', 'tversky'),
    )
    presets = {f'{n} {d}': preset_hash(n, d) for n in ('quick', 'laptop', 'paper') for d in DATA}
    return dict(
        hashes={k: v.hash for k, v in kinds.items()},
        fields={k: asdict(v) for k, v in kinds.items() if k in ('default', 'loss_default')},
        grid=[len(grid), text('\n'.join(o.hash for o in grid))],
        losses=[len(losses), text('\n'.join(o.hash for o in losses))],
        presets=presets,
        labels=[v.label() for k, v in kinds.items() if k.startswith('loss')],
    )


DATA = ('sd900', 'severstal', 'cfd')


def preset_hash(name, data):
    base, strategies, pis, repeats = api.preset(name, data)
    return [base.hash, list(strategies), list(pis), repeats, api.loss_preset(name, data).hash]


# 4: the command line


def pin_commands(tmp):
    "Every command's options, defaults and help, and the help as it is printed"
    return dict(walk('imbal-al', typer.main.get_command(api.app), ()))


def walk(name, command, path):
    printed = call(*path, '--help')
    words = re.sub(r'[\s─-╿]+', ' ', printed).strip()
    yield name, dict(
        help=' '.join((command.help or '').split()),
        options=[option(o) for o in command.params],
        printed=dict(bits=text(words)),
    )
    for sub, inner in sorted(getattr(command, 'commands', {}).items()):
        yield from walk(f'{name} {sub}', inner, (*path, sub))


def option(o):
    "What a user can see of an option or argument"
    default = o.default if isinstance(o.default, (str, int, float, tuple, list, bool)) else None
    names = [*o.opts, *o.secondary_opts]
    return dict(
        names=names,
        default=None if default is None else repr(default),
        help=getattr(o, 'help', None),
        required=o.required,
        metavar=o.metavar,
        nargs=o.nargs,
        limits=[getattr(o, k, None) for k in ('min', 'max')],
    )


# 5: what follows from the saved tables


def saved(name):
    return pd.read_csv(RESULTS / name)


def figure(fig):
    "A figure's numbers in words"
    import matplotlib.pyplot as plt

    said = api.alt_text(fig)
    plt.close('all')
    return text(said)


def pin_active_learning(tmp):
    "Claims, comparison and figures of the first study"
    results, picks = saved('active_learning.csv'), saved('active_learning_picks.csv.gz')
    table = api.claims(results, picks)
    steel = results[(results.data == 'sd900') & np.isclose(results.pi_u, 0.1)]
    areas = api.run_areas(steel[np.isclose(steel.pi_t, 0.05)], 'f1_heldout')
    gain = api.paired_interval(*api.paired_areas(areas, 'entropy', 'random'), kind='wider')
    c = api.compare_folder(RESULTS / 'active_learning.csv', only=['random', 'entropy', 'coreset'])
    return dict(
        claims=frame(table),
        markdown=text(api.claims_markdown(table)),
        summary=text(api.claims_markdown(api.summary(table))),
        in_short=text(api.claims_markdown(api.in_short(table))),
        areas=frame(areas),
        gain=floats(gain[:3]),
        compare=text(api.report_markdown(c)),
        pairs=frame(c.pairs),
        methods=frame(c.methods),
        agreement=frame(c.agreement),
        penalty=frame(c.penalty.share),
        figures=[figure(o) for o in api.figures_of(c).values()],
        uniqueness=frame(api.uniqueness_table(picks[picks.data == 'potato_leaf'])),
        fig4=figure(api.fig4(results, 'f1_heldout', data='sd900')),
        fig5=figure(api.fig5(picks[picks.data == 'sd900'], bank=(4479, 3621))),
        least=[api.least_repeats(0.05, n) for n in (1, 3, 15, 66)],
    )


def pin_losses_tables(tmp):
    "Tables 3 to 6, claims, figures and guidance of the loss study"
    results = saved('losses.csv')
    how = dict(fn_weight=0.7, variant='region')
    tables = [f(results, **how) for f in (api.table3, api.table4, api.table5)]
    six = api.table6(results)
    table = api.loss_claims(results, **how)
    evidence = api.variant_evidence(results)
    nets = results[results.model.str.contains('unet|pspnet')]
    unet = results[(results['data'] == 'mtsdd_crack') & results.model.str.startswith('unet')]
    pair = unet[unet.loss.isin(['ft', 'dibe_reg'])]
    ratios = dict(mtsdd_extreme=1070, mtsdd_blowhole=324, mtsdd_crack=106, cfd=61)
    c = api.compare_folder(RESULTS / 'losses.csv', only=['ft', 'dibe_reg', 'hf', 'dibe'])
    return dict(
        final=frame(api.final(results)),
        tables=[frame(o) for o in tables],
        markdown=[text(api.table_markdown(o)) for o in tables],
        table6=[frame(six), text(api.table6_markdown(six))],
        replays=frame(api.replays(results)),
        claims=frame(table),
        claims_markdown=text(api.claims_markdown(table)),
        summary=text(api.claims_markdown(api.summary(table))),
        evidence=frame(evidence),
        verdict=text(api.variant_verdict(evidence)),
        half=frame(api.epochs_to_half(pair[pair.fn_weight == 0.7])),
        fig9=figure(api.fig9(results)),
        fig10=figure(api.fig10(nets)),
        fig11=figure(api.fig11(results)),
        fig14=figure(api.fig14(results, losses=('ft', 'dibe_reg'), x='step', ratios=ratios)),
        compare=[text(api.report_markdown(c)), frame(c.pairs), frame(c.methods)],
        guidance=replayed(results),
    )


def replayed(results):
    "The search for a weight, on trainings that are there already"
    sweep = api.final(results)
    sweep = sweep[(sweep['data'] == 'mtsdd_extreme') & (sweep.loss == 'tversky')]
    sweep = sweep[(sweep.seed == 0) & sweep.model.str.startswith('unet')].set_index('fn_weight')

    def train(w):
        return sweep.loc[w, ['oii', 'iou', 'precision', 'recall']].to_dict()

    found, every = api.guide(train, (0.1, 0.3), 5), api.grid(train, 5)
    accounts = [found.account(), found.account(markdown=True), every.account()]
    return [*map(text, accounts), frame(api.compare_guidance(found, every))]


def pin_both_ends(tmp):
    "Losses of F1, remedies, strategies and costs of labels of the study of both ends"
    runs, rates, ways, label_rows = (
        saved(f'both_ends_{o}.csv') for o in ('runs', 'losses', 'recoveries', 'labels')
    )
    last = rates[rates.cycle == rates.groupby('config').cycle.transform('max')]
    guided = api.guided(runs, last, 0.05)
    plain = api.against_plain(runs, 'entropy')
    values = cost_values(runs, rates)
    c = compared(runs, rates)
    return dict(
        plain=frame(plain),
        loss_rows=frame(api.loss_rows(runs, rates, 0.05)),
        guided=frame(guided),
        remedies=frame(api.remedy_table(runs, ways, 'entropy', guided)),
        compare=text(api.report_markdown(c)),
        pairs=frame(c.pairs),
        costs=frame(api.cost_table(api.cost_curves(label_rows, values))),
        dear=frame(api.cost_table(api.cost_curves(label_rows, values, mask=600.0))),
        pools=frame(pools(runs, last)),
        sampling=list(api.with_sampling(saved('both_ends.csv'), {}).columns),
    )


def cost_values(runs, rates):
    "F1 with its threshold set, of the runs with the usual loss"
    mine = runs[(runs.loss == 'combo_paper') & (runs.healthy_share == 0) & runs.train_pi.isna()]
    values = rates[['config', 'cycle', 'f1_tuned']].rename(columns=dict(f1_tuned='f1'))
    values = values.merge(mine[['config', 'data', 'pi_u', 'strategy', 'repeat']], on='config')
    setting = [f'{d} {u:g}' for d, u in zip(values['data'], values.pi_u)]
    return values.assign(setting=setting, method=values.strategy, unit=values.repeat)


def compared(runs, rates):
    "Strategies by F1 with its threshold set, on steel"
    results = saved('both_ends.csv')
    mine = runs[(runs.loss == 'combo_paper') & (runs.healthy_share == 0) & runs.train_pi.isna()]
    mine = mine[mine.strategy.isin(['random', 'entropy', 'coreset', 'quota', 'clasp'])]
    table = results[np.isclose(results.pi_t, 0.05) & (results['data'] == 'sd900')]
    table = table.merge(mine[['config']], on='config')
    table = table.merge(rates[['config', 'cycle', 'f1_tuned']], on=['config', 'cycle'])
    how = dict(value='f1_tuned', reference='random', test='t', common=True)
    return api.compare_results(table, what='area', **how)


def pools(runs, last):
    "Growth of the loss and difference of F1 between the full and the rarer pool, run by run"
    rows, at = [], last.set_index('config')
    plain = api.against_plain(runs, 'entropy')
    for (d, r), o in plain[plain.remedy == 'plain'].groupby(['data', 'repeat']):
        by = o.set_index('pi_u').config
        us = sorted(by.index)
        if len(us) < 2 or not by.isin(at.index).all():
            continue
        a, b = (api.rates_in(at.loc[by[u]]) for u in (us[0], us[-1]))
        grown, apart = api.growth(a, us[0], b, us[-1], 0.05), api.difference(a, b, 0.05)
        lost = numbers_of(api.split_loss(b, us[-1], 0.05))
        row = dict(data=d, repeat=r, f1=float(api.f1_at(a, 0.05)), oii=float(api.oii_at(a, 0.05)))
        rows.append(dict(row, **grown, **{f'd_{k}': v for k, v in apart.items()}))
        rows[-1] |= {f'l_{k}': v for k, v in lost.items()}
    return pd.DataFrame(rows)


def pin_archives(tmp):
    "Archived run folders: the table that follows, and what thresholds get back"
    with tarfile.open(RESULTS / 'runs' / 'potato_leaf-pool10.tar.xz') as t:
        t.extractall(tmp, filter='data')
    folder = tmp / 'al'
    configs = [read_config(o) for o in sorted(folder.glob('runs/*/config.json'))]
    api.save_plan(folder, configs)
    results = api.results_table(folder)
    kept = saved('active_learning.csv')
    kept = kept[kept.config.isin(set(results.config))]
    assert len(kept) == len(results)
    runs = [folder / 'runs' / o.hash for o in configs if o.strategy in ('entropy', 'random')]
    told = [shifted(api.read_run(o)) for o in runs]
    advice = [o.account() for o in api.advise_folder(folder)]
    advice += [o.account() for o in api.advise_folder(folder, pi_t=0.02, budget=0.06)]
    report = api.write_report(folder).read_text()
    report = re.sub(r'src="data:[^"]*"', '', report)
    return dict(
        results=frame(results),
        advice=[text(o) for o in advice],
        compare=text(neutral(call('compare', folder), tmp)),
        status=state('al'),
        losses=frame(pd.DataFrame([o['lost'] for o in told])),
        promises=frame(pd.DataFrame([p for o in told for p in o['promises']])),
        accounts=[text(o['account']) for o in told],
        ways=frame(pd.DataFrame([w for o in told[:2] for w in o['ways']])),
        estimates=[o['estimates'] for o in told[:3]],
        report=text(report_text(report)),
    )


def report_text(html):
    "A report without tags, times and versions"
    html = re.sub(r'<(style|script).*?</\1>', '', html, flags=re.S)
    words = re.sub(r'\s+', ' ', re.sub(r'<[^>]+>', ' ', html))
    words = re.sub(r'\S*/al\b', 'FOLDER', words)
    times = r'\d{4}-\d\d-\d\d[T ][\d:]+\S*|\d+ \w{3,9} \d{4}(, \d\d:\d\d)?|\b[0-9a-f]{10}\b\+?'
    return re.sub(times, 'TIME', words)


def read_config(path):
    content = json.loads(path.read_text())
    known = api.RunConfig.__dataclass_fields__
    return api.as_config({k: v for k, v in content.items() if k in known})


def shifted(run):
    "What notebook 33 asks of an archived run"
    hist, faulty = run['hist'], run['faulty']
    own, own_faulty = run['hist_validation'], run['faulty_validation']
    here = hist[run['tests'][0.05]]
    lost = api.decompose(hist, faulty, run['config']['pi_u'], 0.05)
    promises, account = [], ''
    for gate, kw in ((False, dict(pi=0.05)), (True, dict(unlabelled=here))):
        o = api.operating_point(own, own_faulty, gate=gate, draws=20, **kw)
        met = api.f1_at(api.image_rates(hist, faulty, o.threshold, o.gate), 0.05)
        row = dict(threshold=o.threshold, gate=o.gate, f1=o.f1.mean, low=o.f1.low, met=met)
        promises.append(row)
        account += o.account() + '\n'
    fitted = api.cross_fitted(own, own_faulty, 0.05, True, 1.0)
    aims = (0.02, [0.05, 0.2])
    careful = [tuple(api.choose_threshold(own, own_faulty, p, True, 1.0)) for p in aims]
    estimate = api.estimate_prevalence(own, own_faulty, here, 'bbse', draws=20)
    back = api.recovery([0.3, 0.4, 0.5], [0.4, 0.4, 0.55], [0.5, 0.6, 0.7], kind='wider')
    return dict(
        lost=numbers_of(lost),
        promises=promises,
        account=account,
        ways=api.threshold_remedies(run, 0.05, draws=20),
        estimates=list(map(floats, (fitted, np.array(careful), estimate.draws, back[:3]))),
    )


def numbers_of(loss):
    "The single numbers of a `Loss`, by name"
    return {k: float(v) for k, v in asdict(loss).items() if isinstance(v, (int, float))}


def pin_loss_archive(tmp):
    "The archived loss study: its table is the saved one"
    with tarfile.open(RESULTS / 'runs' / 'losses.tar.xz') as t:
        t.extractall(tmp, filter='data')
    results = api.loss_results(tmp / 'losses')
    kept = saved('losses.csv')
    return dict(
        results=frame(results),
        same=bool(len(kept) == len(results)),
        status=state('losses'),
        minutes=floats(api.price(saved('loop.csv'))),
    )


# 6: losses, images, picks


def fixed(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def pin_losses(tmp):
    "Value and gradient of every loss on fixed logits, with misses and in several readings"
    out = {}
    for name in api.LOSSES:
        out[name] = loss_at(api.make_loss(name), 1)
        out[f'{name} per image'] = loss_at(api.make_loss(name, reduction='none'), 1)
        takes = api.LOSSES[name][1].__init__.__kwdefaults__
        if 'fn_weight' in takes:
            out[f'{name} 0.3'] = loss_at(api.make_loss(name, 0.3), 1)
        if 'variant' in takes:
            for v in ('class', 'normalised', 'tversky'):
                out[f'{name} {v}'] = loss_at(api.make_loss(name, 0.6, v), 1)
    out['combo_paper'] = loss_at(api.PaperComboLoss(), 2)
    return out


def loss_at(loss, channels):
    "Three images: two with defects, one without"
    z = torch.tensor(3 * fixed(5, 3, channels, 9, 11), dtype=torch.float64, requires_grad=True)
    y = torch.tensor(fixed(6, 3, 9, 11) > np.array([0.5, 1.6, 9.0])[:, None, None]).long()
    value = loss(z, y if channels == 2 else y[:, None])
    value.sum().backward()
    return [floats(np.atleast_1d(value.detach().numpy()), 12), floats(z.grad.numpy(), 12)]


def pin_images(tmp):
    "Synthetic images and masks"
    out = {}
    for kind in ('cells', 'steel', 'leaves'):
        images, masks = api.dataset(kind, 4, (48, 64), seed=3, prevalence=0.5)
        one, mask = api.image(kind, 7, 40, seed=1, faulty=True, defect_ratio=0.02)
        parts = (images, masks, one, mask)
        out[kind] = dict(
            shapes=[list(o.shape) for o in parts],
            pixels=[int(o.sum()) for o in (masks, mask)],
            sums=dict(about=[float(o.mean()) for o in (images, one)]),
            bits=[sha(o.tobytes()) for o in parts],
        )
    return out


def candidates(n=60):
    "Scores of made-up images"
    near = fixed(1, n, 8)
    return api.Candidates(
        n=n,
        entropy=fixed(2, n) ** 2,
        foreground=np.random.default_rng(3).integers(0, 4, n),
        embedding=near,
        labelled_embedding=fixed(4, 5, 8),
        labelled_faulty=np.arange(5) % 2 == 0,
        faulty=fixed(5, n) > 0.8,
        margin=1 / (1 + fixed(6, n) ** 2),
        foreground_entropy=fixed(7, n) ** 2,
        gradient=near * fixed(8, n, 1),
        bald=fixed(9, n) ** 2,
        pi_t=0.2,
        progress=0.4,
    )


def pin_strategies(tmp):
    "Which images each strategy picks, at once and at most two of a group"
    c, out = candidates(), {}
    groups = np.arange(c.n) // 4
    for name in sorted(api.STRATEGIES):
        picked = api.select(name, c, 12, np.random.default_rng(11))
        spread = api.select_spread(name, c, 12, np.random.default_rng(11), groups, 2)
        out[name] = [picked.tolist(), spread.tolist()]
    points = fixed(12, 3000, 16).round(1)
    out['needs'] = {k: sorted(f.needs) for k, f in sorted(api.STRATEGIES.items())}
    out['on device'] = [k for k, f in sorted(api.STRATEGIES.items()) if f.on_device]
    out['k_center'] = api.k_center_greedy(points, 80, labelled=[5, 17]).tolist()
    out['k_center half'] = api.k_center_greedy(points.astype(np.float32), 80).tolist()
    out['k_center tensor'] = [int(o) for o in device_picks(points)]
    out['mean entropy'] = floats(api.mean_entropy(1 / (1 + np.exp(-fixed(13, 6, 5, 5)))))
    return out


def device_picks(points):
    "The same strategy on tensors, as it gets them from a network on a card"
    c = candidates(500)
    c.embedding = torch.tensor(points[:500], dtype=torch.float32)
    c.labelled_embedding = torch.tensor(points[500:520], dtype=torch.float32)
    return api.select('coreset', c, 30, np.random.default_rng(0))


# Comparison and recording


PINS = {k[4:]: f for k, f in list(globals().items()) if k.startswith('pin_')}
TRAINED = ('study', 'study_command', 'loss_study', 'project')


def value_of(name):
    "A pin's value in this code"
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        m.setenv('IMBAL_AL_CACHE', str(Path(d) / 'cache'))
        m.setenv('IMBAL_AL_DATA', '/no/data')
        m.setenv('OMP_NUM_THREADS', '1')
        m.setattr('imbal_al.networks.device._is_fast', lambda name: False)  # fp32 on every processor
        (Path(d) / 'at').mkdir()
        m.chdir(Path(d) / 'at')
        return json.loads(json.dumps(PINS[name](Path(d) / 'at')))


def differences(new, old, where, ignored):
    "Places at which two values are not the same"
    if isinstance(old, dict) and isinstance(new, dict):
        for k in sorted({*old, *new}):
            if k not in old or k not in new:
                yield f'{where}.{k} is {"new" if k in new else "gone"}'
            elif k not in ignored:
                compare = far if k == 'about' else differences
                yield from compare(new[k], old[k], f'{where}.{k}', ignored)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (a, b) in enumerate(zip(new, old)):
            yield from differences(a, b, f'{where}[{i}]', ignored)
    elif new != old:
        yield f'{where}: {str(new)[:200]} in place of {str(old)[:200]}'


def far(new, old, where, ignored):
    "Where numbers differ by more than rounding"
    if len(new) != len(old):
        yield f'{where}: {len(new)} numbers in place of {len(old)}'
    scale = max([1e-9, *map(abs, old)])
    for a, b in zip(new, old):
        if not math.isclose(a, b, rel_tol=1e-7, abs_tol=1e-7 * scale):
            yield f'{where}: about {a} in place of {b}'


@pytest.mark.parametrize('name', PINS)
def test_it_is_as_it_was_recorded(name):
    kept = json.loads((HERE / f'{name}.json').read_text())
    ignored = ('bits', 'about', 'digits') if name in TRAINED else ('bits',)
    if kept['machine'] == machine():
        ignored = ()
    value = value_of(name)
    if name == 'project' and value['model'] is None:
        value['model'] = kept['value']['model']  # ONNX is not installed here
    found = list(differences(value, kept['value'], name, ignored))
    assert not found, '\n'.join(found[:20])


def record(names):
    for name in names or PINS:
        content = dict(machine=machine(), value=value_of(name))
        (HERE / f'{name}.json').write_text(json.dumps(content, indent=1, ensure_ascii=False) + '\n')
        print(name, (HERE / f'{name}.json').stat().st_size)


def show(names):
    for name in names:
        SHOWN.clear()
        value_of(name)
        print('\n----\n'.join(SHOWN))


if __name__ == '__main__':
    dict([('--record', record), ('--show', show)])[sys.argv[1]](sys.argv[2:])
