"imbal-al: bad input is one line and exit code 2; a small study from the first call to the last"

import importlib, json, os, re, shutil, subprocess, sys, time

import pytest
from PIL import Image
from typer.testing import CliRunner

from imbal_al.cli import app
from imbal_al.cli.lines import size_text
from imbal_al.text import duration_text
from imbal_al.data.synthetic import image

TINY = '--data synthetic:40:64 --patch 32 --strategies random,entropy --pi-u 0.5 --pi-t 0.1 --repeats 1 --cycles 2 --batch 8 --pool-size 40 --test-size 10 --steps 2 --bs 8 --workers 1 --device cpu'.split()
COMMAND = [sys.executable, '-c', 'from imbal_al.cli import main; main()']


def call(*args):
    r = CliRunner().invoke(app, [str(o) for o in args])
    if r.exception and not isinstance(r.exception, SystemExit):
        raise r.exception
    return r


def shell(*args, **kw):
    return subprocess.run([*COMMAND, *map(str, args)], capture_output=True, text=True, **kw)


@pytest.fixture
def at(tmp_path, monkeypatch):
    "A folder to work in, with images, masks and no data set"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('IMBAL_AL_DATA', str(tmp_path / 'data'))
    monkeypatch.setenv('IMBAL_AL_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
    for o in ('images', 'masks'):
        (tmp_path / o).mkdir()
    for i in range(4):
        im, m = image('steel', i, 64, faulty=i % 2 == 0)
        Image.fromarray(im).save(tmp_path / 'images' / f'{i}.png')
        Image.fromarray(m * 255).save(tmp_path / 'masks' / f'{i}.png')
    return tmp_path


def small(path):
    Image.fromarray(image('steel', 0, 64)[1][:60]).save(path)


def empty(at):
    (at / 'none').mkdir()


def severstal(at, runs):
    d = at / 'data' / 'severstal'
    (d / 'train_images').mkdir(parents=True)
    Image.open(at / 'images' / '0.png').save(d / 'train_images' / 'a.jpg')
    (d / 'train.csv').write_text(f'ImageId,ClassId,EncodedPixels\na.jpg,1,{runs}\n')


OWN = ('--data', 'folder:images:masks', '--patch', '32')
BAD = dict(
    image_missing=(
        lambda at: (
            (at / 'images' / '1.png').symlink_to('gone')
            if not (at / 'images' / '1.png').unlink()
            else 0
        ),
        OWN,
        'images/1.png',
    ),
    image_empty=(
        lambda at: (at / 'images' / '1.png').write_bytes(b''),
        OWN,
        'images/1.png is empty',
    ),
    image_unreadable=(
        lambda at: (at / 'images' / '1.png').write_text('no image'),
        OWN,
        'images/1.png',
    ),
    image_truncated=(lambda at: os.truncate(at / 'images' / '1.png', 500), OWN, 'images/1.png'),
    mask_truncated=(lambda at: os.truncate(at / 'masks' / '1.png', 30), OWN, 'masks/1.png'),
    mask_of_another_size=(lambda at: small(at / 'masks' / '2.png'), OWN, 'masks/2.png is 64 x 60'),
    mask_missing=(lambda at: (at / 'masks' / '2.png').unlink(), OWN, 'images/2.png has no mask'),
    two_of_one_name=(
        lambda at: Image.open(at / 'images' / '0.png').save(at / 'images' / '0.jpg'),
        OWN,
        'two files with one name',
    ),
    patch_too_large=(None, ('--data', 'folder:images:masks', '--patch', '65'), '65x65'),
    folder_empty=(empty, ('--data', 'folder:none:masks'), 'no image found in'),
    folder_missing=(None, ('--data', 'folder:nowhere:masks'), 'nowhere is not a folder'),
    folder_name=(None, ('--data', 'folder:images'), 'folder:IMAGES:MASKS'),
    synthetic_name=(None, ('--data', 'synthetic:many'), 'synthetic:COUNT:SIZE:SEED'),
    data_unknown=(None, ('--data', 'sevrstal'), "unknown data set 'sevrstal'"),
    data_not_there=(None, ('--data', 'sd900'), "'sd900' not found in"),
    run_length=(
        lambda at: severstal(at, '4000 200'),
        ('--data', 'severstal', '--patch', '32'),
        '4000 200 is outside',
    ),
    run_length_odd=(
        lambda at: severstal(at, '1 2 3'),
        ('--data', 'severstal', '--patch', '32'),
        '3 run-length numbers',
    ),
    strategy_unknown=(None, ('--strategies', 'random,entropi'), "unknown strategy 'entropi'"),
    preset_unknown=(None, ('--preset', 'fast'), "unknown preset 'fast'"),
    prevalence_out_of_range=(None, ('--pi-u', '1.5'), 'pi_u = 1.5'),
    prevalence_no_number=(None, ('--pi-u', '0.1,half'), "--pi-u '0.1,half'"),
    prevalence_of_a_test=(None, ('--pi-t', '-1'), '-1'),
    prevalence_cannot_be_met=(
        None,
        ('--data', 'synthetic:10:64', '--patch', '32', '--pi-u', '0.9'),
        'largest size at this prevalence is',
    ),
    test_cannot_be_met=(
        None,
        (
            '--data',
            'synthetic:40:64',
            '--patch',
            '32',
            '--pool-size',
            '10',
            '--batch',
            '2',
            '--pi-u',
            '.5',
            '--test-size',
            '5000',
        ),
        'pi_t = 0.5 with 5000',
    ),
    batch_larger_than_the_pool=(
        None,
        ('--batch', '50', '--pool-size', '40'),
        'batch of 50 is larger than the pool of 40',
    ),
    cycles_larger_than_the_pool=(
        None,
        ('--batch', '20', '--cycles', '3', '--pool-size', '40'),
        'label 60 patches, the pool has 40',
    ),
    network_unknown=(None, ('--arch', 'fnp'), "unknown network 'fnp'"),
    mode_unknown=(None, ('--mode', 'pair'), "'pair'"),
    stride_unknown=(None, ('--stride', 'odd'), "'odd'"),
    patch_no_size=(None, ('--patch', '64x'), "--patch '64x'"),
    patch_three=(None, ('--patch', '64x64x3'), '64x64x3'),
    patch_tiny=(None, ('--patch', '8'), '8x8'),
    rate_negative=(None, ('--lr', '-0.1'), '-0.1'),
    rate_nan=(None, ('--lr', 'nan'), 'nan'),
    out_is_a_file=(lambda at: (at / 'file').write_text(''), (*TINY, '--out', 'file'), 'file'),
    no_strategy=(None, ('--strategies', ','), '--strategies'),
    no_prevalence=(None, ('--pi-u', ','), '--pi-u'),
    encoder_unknown=(None, (*TINY, '--encoder', 'efficientnet-b33'), 'efficientnet-b33'),
    device_unknown=(None, (*TINY, '--device', 'gpu'), 'gpu'),
    repeats_zero=(None, ('--repeats', '0'), '--repeats'),
    seed_negative=(None, ('--seed', '-1'), '--seed'),
    cycles_no_number=(None, ('--cycles', 'many'), '--cycles'),
)


@pytest.mark.parametrize('name', BAD)
def test_bad_input(name, at):
    "Exit code 2, one line on stderr that names it, nothing on stdout, nothing left behind"
    make, args, match = BAD[name]
    if make:
        make(at)
    before = sorted(at.rglob('*'))
    r = call('study', *args)
    lines = r.stderr.strip().split('\n')
    assert (
        r.exit_code == 2
        and len(lines) == 1
        and match in lines[0]
        and lines[0].startswith('imbal-al: ')
        and 'Traceback' not in r.stderr
        and r.stdout == ''
    )
    new = [o.relative_to(at) for o in sorted(at.rglob('*')) if o not in before]
    assert not [o for o in new if o.parts[0] not in ('cache', 'xdg')] and not [
        o for o in new if '.tmp' in o.name
    ], new


@pytest.mark.parametrize(
    'args,match',
    [
        (('status', 'nowhere'), 'nowhere holds no study'),
        (('status', '.'), 'holds no study'),
        (('retry', 'nowhere'), 'nowhere holds no study'),
        (('collect', 'nowhere'), 'nowhere holds no study'),
        (('study', '--address', 'auto'), '--address auto is for --backend ray'),
        (('losses', '--gpu-share', '2'), '--gpu-share'),
        (('data', 'check', 'sd900'), "'sd900' not found"),
        (('data', 'check', 'nothing'), "unknown data set 'nothing'"),
        (('data', 'check', 'folder:images:none'), 'is not a folder'),
        (('data', 'get', 'nothing'), "unknown data set 'nothing'"),
        (('data', 'get', 'severstal'), 'severstal needs an account'),
        (('data', 'get', 'potato'), 'potato needs an account'),
        (('data', 'get', 'sd900', '--archive', 'none.zip'), 'none.zip'),
        (('data', 'get', 'sd900', '--archive', 'images/0.png'), 'images/0.png'),
    ],
)
def test_bad_input_of_the_others(args, match, at):
    before = sorted(at.rglob('*'))
    r = call(*args)
    lines = r.stderr.strip().split('\n')
    assert r.exit_code == 2 and len(lines) == 1 and match in lines[0]
    assert [o.name for o in sorted(at.rglob('*')) if o not in before] in ([], ['data'])


def test_a_process_says_one_line_too(at):
    r = shell('study', '--strategies', 'x')
    assert (
        r.returncode == 2
        and r.stdout == ''
        and r.stderr.count('\n') == 1
        and r.stderr.startswith("imbal-al: unknown strategy 'x'; choose one of: ")
    )


def test_data_check_lists_every_problem(at):
    os.truncate(at / 'images' / '1.png', 500)
    (at / 'masks' / '3.png').write_bytes(b'')
    before = sorted(at.rglob('*'))
    r = call('data', 'check', 'folder:images:masks')
    assert (
        r.exit_code == 1
        and len(re.findall('^problem: .*png', r.stdout, re.M)) == 2
        and 'Traceback' not in r.output
        and sorted(at.rglob('*')) == before
    )
    os.unlink(at / 'images' / '1.png')
    os.unlink(at / 'images' / '3.png')
    r = call('data', 'check', 'folder:images:masks')
    assert r.exit_code == 0 and 'no problems' in r.stdout and '2 images' in r.stdout


def test_no_place_to_write(at, open_dir, unprivileged, monkeypatch):
    monkeypatch.setenv('IMBAL_AL_CACHE', str(open_dir / 'cache'))
    monkeypatch.chdir(open_dir)
    with unprivileged():
        r = call('study', *TINY, '--out', open_dir / 'study')
    assert (
        r.exit_code == 2
        and len(r.stderr.strip().split('\n')) == 1
        and str(open_dir) in r.stderr
        and list(open_dir.iterdir()) == []
    )


# --- help


@pytest.mark.parametrize(
    'args',
    [
        ('study',),
        ('status',),
        ('retry',),
        ('collect',),
        ('data', 'list'),
        ('data', 'check'),
        ('data', 'get'),
    ],
)
def test_help_has_examples(args):
    r = call(*args, '--help')
    assert r.exit_code == 0 and 'Example' in r.stdout and f"imbal-al {' '.join(args)}" in r.stdout


def test_help_is_quick_and_lists_the_commands():
    r = shell('--help')
    assert r.returncode == 0 and all(o in r.stdout for o in ('study', 'status', 'data'))
    code = "import sys\nfrom typer.testing import CliRunner\nfrom imbal_al.cli import app\nCliRunner().invoke(app, ['study','--help'])\nprint([m for m in ('torch','pandas','matplotlib','fastai','scipy') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, '-c', code], text=True).strip() == '[]'


def test_data_list(at):
    (at / 'data' / 'mtsdd').mkdir(parents=True)
    r = call('data', 'list')
    assert r.exit_code == 0 and all(
        o in r.stdout
        for o in (
            'severstal',
            'potato_leaf',
            'sd900',
            'mtsdd',
            'cfd',
            'kolektorsdd',
            'synthetic_cells',
        )
    )
    row = {
        o.split()[1]: o.split()[3]
        for o in r.stdout.splitlines()
        if len(o.split()) > 3 and o.split()[1] in ('mtsdd', 'sd900')
    }
    assert row == dict(mtsdd='yes', sd900='no')


# --- a study


def test_dry_run_writes_no_study(at):
    r = call('study', *TINY, '--dry-run')
    assert (
        r.exit_code == 0
        and re.search(r'^2 runs, 4 trainings; about .* ms a training step', r.stdout)
        and re.search(r'^disk: \S+ k?B', r.stdout, re.M)
        and not (at / 'runs').exists()
    )
    m = re.search(
        r'^memory: about (\S+) (MB|GB) at most, in (\d+) processes of 1 thread', r.stdout, re.M
    )
    assert m and 0.1 < float(m[1]) / (1000 if m[2] == 'MB' else 1) < 50 and int(m[3]) >= 2


LOSSES = '--data synthetic:40:64 --patch 32 --losses ft,dibe --steps 2 --bs 4 --device cpu'.split()


@pytest.mark.parametrize(
    'command, words, noun', [('study', TINY, 'run'), ('losses', LOSSES, 'training')]
)
def test_a_dry_run_prices_what_is_left(at, monkeypatch, command, words, noun):
    from imbal_al.core import InputError
    from imbal_al.runs.folder import write_result

    room, made = importlib.import_module(f'imbal_al.cli.{command}'), []

    def finished(folder, configs, *_):
        made.extend(folder / 'runs' / config.hash for config in configs)
        for run in made:
            write_result(run, dict(rows=[]), [])
        raise InputError('no training here')

    monkeypatch.setattr(room, 'loud_run', finished)
    asked = [command, *words, '--out', 'study']
    assert re.search(rf'^2 {noun}s[,;] .*about ', call(*asked, '--dry-run').stdout)
    assert call(*asked).exit_code == 2 and len(made) == 2
    shutil.rmtree(made[0])
    said = call(*asked, '--dry-run').stdout
    assert re.search(rf'^1 of 2 {noun}s are finished in study; left: 1 {noun}[,;] .*about ', said)
    write_result(made[0], dict(rows=[]), [])
    said = call(*asked, '--dry-run').stdout
    assert said == f'2 of 2 {noun}s are finished in study; nothing is left\n'


def test_images_are_cut_by_as_many_processes_as_asked_for(at, monkeypatch):
    from imbal_al.studies import learning_study

    seen = []
    real = learning_study.open_store
    monkeypatch.setattr(learning_study, 'open_store', lambda *a, **kw: seen.append(kw) or real(*a, **kw))
    for few, n in ((1, 3), (10**6, 1)):
        monkeypatch.setattr(learning_study, '_FEW_IMAGES', few)
        seen.clear()
        assert (
            call('study', *TINY, '--dry-run', '--workers', '3').exit_code == 0
            and {o['workers'] for o in seen} == {n}
            and all(callable(o['progress']) for o in seen)
        )


def test_a_study_from_end_to_end(at):
    r = shell('study', *TINY, '--out', 'mine', cwd=at)
    d = at / 'mine'
    assert r.returncode == 0, r.stderr
    assert 'Warning' not in r.stderr and '2 runs, 4 trainings into mine' in r.stderr
    assert 'entropy' in r.stdout and 'results.csv' in r.stdout
    for o in ('fig4', 'fig5'):
        f = d / 'figures' / f'{o}_synthetic_40_64.png'
        assert Image.open(f).size[0] > 500 and str(f.relative_to(at)) in r.stdout
    assert {o.name for o in d.iterdir()} >= {
        'figures',
        'picks.csv',
        'results.csv',
        'runs',
        'study.json',
    } and not [o for o in d.rglob('*') if o.name.endswith('.tmp')]
    stamps = {o: o.stat().st_mtime_ns for o in (d / 'runs').rglob('*')}
    t0 = time.process_time()
    again = call('study', *TINY, '--out', 'mine')
    assert (
        again.exit_code == 0
        and {o: o.stat().st_mtime_ns for o in (d / 'runs').rglob('*')} == stamps
        and time.process_time() - t0 < 20
    )
    s = call('status', 'mine')
    assert (
        s.exit_code == 0
        and '2 of 2 runs done, 0 running, 0 failed, 0 left; 4 of 4 trainings' in s.stdout
    )
    run = json.loads(next((d / 'runs').glob('*/config.json')).read_text())['hash']
    (d / 'runs' / run / 'result.json').unlink()
    (d / 'runs' / run / 'config.json').write_text('{"content": "other"}')
    r = call('study', *TINY, '--out', 'mine')
    assert (
        r.exit_code == 1
        and len(
            [
                o
                for o in r.stderr.splitlines()
                if o.startswith('failed: ') and run in o and 'have changed' in o
            ]
        )
        == 1
        and 'Traceback' not in r.output
    )
    s = call('status', 'mine')
    assert (
        s.exit_code == 0
        and '1 of 2 runs done, 0 running, 1 failed, 0 left' in s.stdout
        and 'have changed' in s.stdout
    )


# --- status, retry, collect


@pytest.fixture
def stub_study(tmp_path):
    "Two runs done, one failed, one left"
    import stubs

    cs = [stubs.Stub(0), stubs.Stub(1), stubs.Stub(2, 'wrong')]
    stubs.run_all(tmp_path / 's', cs, 0, 'cpu')
    from imbal_al.runs.plan import save_plan

    save_plan(tmp_path / 's', [stubs.Stub(3)])
    return tmp_path / 's', [*cs, stubs.Stub(3)]


def test_status_says_who_and_why(stub_study):
    from imbal_al.runs.lock import Lock

    d, cs = stub_study
    (d / 'runs' / cs[3].hash).mkdir()
    lock = Lock(d / 'runs' / cs[3].hash / 'owner.json')
    lock.acquire()
    with lock:
        r = call('status', d)
    assert (
        r.exit_code == 0
        and '2 of 4 runs done, 1 running, 1 failed, 0 left; 2 of 4 trainings' in r.stdout
    )
    lines = r.stdout.splitlines()
    assert [
        o
        for o in lines
        if o.startswith(f'failed: {cs[2].hash}') and o.endswith('ValueError: wrong in two lines')
    ]
    assert [
        o for o in lines if o.startswith(f'running: {cs[3].hash}') and f':{os.getpid()} since' in o
    ]


def test_watch_ends_with_the_study(stub_study):
    import stubs, threading

    d, cs = stub_study
    t = threading.Timer(0.5, lambda: stubs.run_stub(cs[3], d / 'runs', 'cpu', None, 1))
    t.start()
    r = call('status', d, '--watch', '--every', '.1')
    t.join()
    assert (
        r.exit_code == 0
        and '2 of 4 runs done, 0 running, 1 failed, 1 left' in r.stdout
        and r.stdout.strip()
        .splitlines()[-1]
        .startswith('3 of 4 runs done, 0 running, 1 failed, 0 left')
    )


def test_retry_and_collect(stub_study, monkeypatch):
    import dataclasses, stubs
    from imbal_al.runs import engine
    from imbal_al.runs import plan

    d, cs = stub_study
    real = engine.run_all
    monkeypatch.setattr(engine, 'run_all', lambda f, c, w, *a, **k: real(f, c, 0, *a, **k))
    r = call('retry', d, '--device', 'cpu')
    assert (
        r.exit_code == 1
        and 'failed: ' in r.stderr
        and 'wrong in two lines' in r.stderr
        and stubs.attempts(d / 'runs', cs[2]) == 2
    )
    fine = (
        lambda c, runs, *a: stubs.write_result(
            runs / c.hash, dict(rows=[dict(number=2, j=0, config=c.hash)]), []
        )
        or {}
    )
    monkeypatch.setitem(plan._KINDS, 'Stub', dataclasses.replace(stubs.STUBS, run=fine))
    assert (
        call('retry', d, '--device', 'cpu').stdout == '1 done\n'
        and 'nothing has failed' in call('retry', d).stdout
    )
    r = call('collect', d)
    assert (
        r.exit_code == 0
        and '3 of 4 runs are in it' in r.stdout
        and (d / 'collected.csv').exists()
        and (d / 'collected.parquet').exists()
    )


def test_ctrl_c_is_one_line(at, monkeypatch):
    from imbal_al.studies import learning_study

    def stop(*a, **k):
        raise KeyboardInterrupt

    monkeypatch.setattr(learning_study, 'run_all', stop)
    r = call('study', *TINY, '--out', 'mine')
    assert (
        r.exit_code == 130
        and [o for o in r.stderr.splitlines() if o.startswith('imbal-al: ')]
        == ['imbal-al: stopped; run it again to resume']
        and 'Traceback' not in r.output
    )


# --- words


def test_durations_and_sizes():
    assert [duration_text(o) for o in (0, 59, 120, 7200, 3e5)] == [
        '0 s',
        '59 s',
        '2 min',
        '2.0 h',
        '3.5 days',
    ]
    assert [size_text(o) for o in (0, 999, 1000, 2.5e6, 1e12)] == [
        '0 B',
        '999 B',
        '1 kB',
        '2.5 MB',
        '1e+03 GB',
    ]


# --- losses in studies, compare, advise


def test_losses_of_a_study_from_call_to_figures(at):
    r = call(
        'study',
        *TINY,
        '--strategies',
        'random',
        '--losses',
        'combo_paper,dibe',
        '--fn-weights',
        '0.3',
        '--out',
        'mine',
    )
    assert r.exit_code == 0 and 'dibe 0.3' in r.stdout and 'combo_paper' in r.stdout, r.output
    assert sorted(o.name for o in (at / 'mine' / 'figures').iterdir()) == [
        f'{f}_synthetic_40_64_{l}.png'
        for f in ('fig4', 'fig5')
        for l in ('combo_paper', 'dibe_0.3')
    ]
    s = call('status', 'mine')
    assert 'dibe' in s.stdout and '2 of 2 runs done' in s.stdout
    r = call('compare', 'mine', '--methods', 'loss', '--out', 'mine/compare')
    assert (
        r.exit_code == 0
        and 'One repeat decides nothing' in r.stdout
        and (at / 'mine' / 'compare' / 'compare.md').read_text().strip() in r.stdout
        and 'written: ' in r.stdout
    )
    r = call('compare', 'mine')
    assert (
        r.exit_code == 2
        and 'no setting has two methods to compare' in r.stderr
        and len(r.stderr.splitlines()) == 1
    )
    r = call('advise', 'mine')
    assert (
        r.exit_code == 0 and 'strategy:   random' in r.stdout and 'not known:' in r.stdout
    ), r.output


@pytest.mark.parametrize(
    'args,match',
    [
        (('--losses', 'dise'), "unknown loss 'dise'"),
        (('--losses', ','), '--losses'),
        (('--fn-weights', '0.3'), '--fn-weights is for the losses'),
        (('--losses', 'dibe', '--fn-weights', 'high'), '--fn-weights'),
        (('--losses', 'dibe', '--fn-weights', '2'), 'fn_weight'),
        (('--strategies', 'bald', '--arch', 'unet'), 'dropout'),
    ],
)
def test_bad_losses_are_one_line(at, args, match):
    r = call('study', *TINY, *args)
    assert (
        r.exit_code == 2
        and match in r.stderr
        and len(r.stderr.splitlines()) == 1
        and not (at / 'runs').exists()
    )


@pytest.fixture
def two(at):
    "A results table: two strategies, six repeats"
    rows = [
        f'x,m,{s},0.5,0.05,{r},0,{j},{40*j},{.02*j},{.5+.1*(s=="b")+.01*r},combo_paper,h{s}{r}'
        for s in 'ab'
        for r in range(6)
        for j in (1, 2)
    ]
    (at / 't.csv').write_text(
        '\n'.join(
            [
                'data,model,strategy,pi_u,pi_t,repeat,seed,cycle,labelled,budget,f1,loss,config',
                *rows,
            ]
        )
        + '\n'
    )
    return at


def test_compare_a_table(two):
    r = call('compare', 't.csv', '--value', 'f1', '--at', 'final', '--reference', 'a')
    assert (
        r.exit_code == 0
        and 'final value' in r.stdout
        and 'b − a' in r.stdout
        and '+0.100' in r.stdout
        and '| better |' in r.stdout
    ), r.output
    assert call('compare', 't.csv', '--only', 'a,b').exit_code == 0


@pytest.mark.parametrize(
    'args,match',
    [
        (('none',), 'is not there'),
        (('t.csv', '--value', 'f2'), 'f2'),
        (('t.csv', '--at', 'late'), "unknown summary 'late'"),
        (('t.csv', '--at', '0.9'), '0.9 is outside of the budgets that were run'),
        (('t.csv', '--target', '0'), 'target = 0'),
        (('t.csv', '--reference', 'c'), "unknown reference 'c'"),
        (('t.csv', '--methods', 'colour'), "unknown axis of methods 'colour'"),
        (('t.csv', '--test', 'z'), "unknown test 'z'"),
        (('t.csv', '--family', 'x'), "unknown family 'x'"),
        (('t.csv', '--only', 'a'), 'two methods'),
        (('t.csv', '--only', 'c'), "unknown strategy 'c'"),
        (('t.csv', '--only', ','), 'no strategy is named'),
        (('t.csv', '--margin', '-1'), 'margin'),
    ],
)
def test_bad_comparisons_are_one_line(two, args, match):
    r = call('compare', *args)
    assert (
        r.exit_code == 2
        and match in r.stderr
        and len(r.stderr.splitlines()) == 1
        and 'Traceback' not in r.output
    ), r.output


@pytest.mark.parametrize(
    'args,match', [(('none',), 'is not there'), (('t.csv',), 'is a table alone')]
)
def test_bad_advice_is_one_line(two, args, match):
    r = call('advise', *args)
    assert r.exit_code == 2 and match in r.stderr and len(r.stderr.splitlines()) == 1


def test_a_folder_with_two_ways_to_start(at):
    "Their rows are not mixed: not in the table that is printed, not in figures, not in comparisons"
    for start in ('random', 'coreset'):
        args = ('--strategies', 'random', '--start', start, '--out', 'mine')
        r = call('study', *TINY, *args)
        assert r.exit_code == 0, r.output
    figures = {o.name for o in (at / 'mine' / 'figures').iterdir()}
    assert figures >= {f'fig4_synthetic_40_64_start_{start}.png' for start in ('random', 'coreset')}
    r = call('compare', 'mine', '--methods', 'start')
    assert r.exit_code == 0 and 'start coreset' in r.stdout and 'start random' in r.stdout, r.output
