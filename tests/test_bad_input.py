"""Every public entry, given what it cannot use: the exact line that a user sees. One table; `AT` is the folder of the test

A case is a call and its line. A line names the file or value and says what to do; the command line prints it after `imbal-al: ` and leaves with exit code 2.
"""

import json
from dataclasses import fields, replace

import numpy as np, pandas as pd, pytest, torch
from PIL import Image
from typer.testing import CliRunner

from imbal_al.results import figures
from imbal_al.losses import guidance
from imbal_al.results import loss_tables as loss_figures
from imbal_al.measure import metrics
from imbal_al.measure import statistics
from imbal_al.measure import oii
from imbal_al.data import patches
from imbal_al.data import scenarios
from imbal_al.data import sources
from imbal_al.data import catalog
from imbal_al.data import images
from imbal_al.data import masks
from imbal_al.strategies import scores as strategies
from imbal_al.strategies import choose, registry
from imbal_al.data import synthetic
from imbal_al.cli import app
from imbal_al.core import InputError, write_text
from imbal_al.runs.plan import load_plan, save_plan
from imbal_al.studies.learning_study import preset
from imbal_al.networks.device import DeviceData, cast
from imbal_al.networks.learner import lr_schedule, make_learner
from imbal_al.studies.loss_config import LossConfig, as_loss_config, check_loss_config
from imbal_al.studies.loss_study import load_loss_plan, loss_preset, plan_losses, train_at
from imbal_al.losses.pixel import BCELoss, FocalLoss
from imbal_al.losses.region import DiceLoss, FocalTverskyLoss, TverskyLoss
from imbal_al.losses.compound import PaperComboLoss
from imbal_al.networks.models import SegNet, _scaled, create_model
from imbal_al.studies.run_config import RunConfig, as_config, check_config
from imbal_al.studies.simulation import run
from imbal_al.networks.fixed_split import Parts, sgd_learner
from imbal_al.losses.registry import make_loss
from imbal_al.networks.augment import resize_pairs


@pytest.fixture(scope='module')
def at(tmp_path_factory):
    "Images and masks of every damaged kind, made once"
    d = tmp_path_factory.mktemp('bad')
    m = pytest.MonkeyPatch()
    m.chdir(d)
    for k in ('IMBAL_AL_DATA', 'IMBAL_AL_CACHE', 'XDG_CACHE_HOME'):
        m.setenv(k, str(d / k[-5:].lower().strip('_')))
    for o in ('images', 'masks', 'none', 'twice'):
        (d / o).mkdir()
    for i in range(4):
        im, y = synthetic.image('steel', i, 64, faulty=i % 2 == 0)
        Image.fromarray(im).save(d / 'images' / f'{i}.png')
        Image.fromarray(y * 255).save(d / 'masks' / f'{i}.png')
    png = (d / 'images' / '0.png').read_bytes()
    (d / 'cut.png').write_bytes(png[:300])
    (d / 'empty.png').write_bytes(b'')
    (d / 'text.png').write_text('no image')
    (d / 'file').write_text('')
    Image.fromarray(np.ones((4, 4), np.float32)).save(d / 'float.tif')
    Image.fromarray(np.array([[0, 1, 50, 200]], np.uint8)).save(d / 'four.png')
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(d / 'small.png')
    for o in ('a.png', 'a.bmp'):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(d / 'twice' / o)
    (d / 'bad.mat').write_text('nonsense')
    (d / '0.txt').write_text('0 .5 .5 .5\n')
    (d / '1.txt').write_text('0 .5 1.5 .1 .1\n')
    (d / '2.txt').write_text('0 a b\n')
    s = d / 'data' / 'severstal' / 'train_images'
    s.mkdir(parents=True)
    (s / 'a.jpg').write_bytes(png)
    (s.parent / 'train.csv').write_text('some,thing\n1,2\n')
    t = d / 'data' / 'mtsdd' / 'MT_Free' / 'Imgs'
    t.mkdir(parents=True)
    (t / 'x.jpg').write_bytes(png)
    (t / 'x.png').write_bytes(png)
    for o in ('study', 'losses', 'newer'):
        (d / o).mkdir()
    (d / 'study' / 'study.json').write_text('{"runs": ')
    (d / 'losses' / 'study.json').write_text('{"kind": "LossConfig", "runs": {}}')
    (d / 'newer' / 'study.json').write_text('{"runs": {"x": {"magic": 1}}}')
    (d / 'memory.json').write_text('{"form": ')
    (d / 'other.json').write_text('{}')
    (d / 'half.json').write_text('{"form": "imbal_al guidance 1", "trainings": [{"key": "k"}]}')
    save_plan(d / 'early', [TINY])
    (d / 'list').mkdir()
    (d / 'list' / 'study.json').write_text('{"runs": {"x": [1]}}')
    yield d
    m.undo()


def cli(*args):
    "The only line that a command prints, on the error stream, with exit code 2"
    r = CliRunner().invoke(app, [str(o) for o in args])
    if r.exception and not isinstance(r.exception, SystemExit):
        raise r.exception
    assert (
        r.exit_code == 2
        and r.stdout == ''
        and r.stderr.startswith('imbal-al: ')
        and r.stderr.count('\n') == 1
    ), (r.exit_code, r.stdout, r.stderr)
    raise InputError(r.stderr[len('imbal-al: ') : -1])


TABLE = pd.DataFrame(dict(group=range(100), faulty=[1] * 20 + [0] * 80))
COCO = lambda drawn: masks.read_mask(
    'a.json::a.jpg::' + json.dumps(dict(size=[2, 3], masks=drawn)), 'coco', (2, 3)
)
RUNS = lambda text: masks.read_mask('train.csv::a.jpg::' + text, 'runs', (2, 3))
X, Y = torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 4)
HIST = np.zeros((2, 2, 128), int)
OWN = ('--data', 'folder:images:masks')
TINY = RunConfig(
    data='synthetic:40:64',
    patch=(32, 32),
    pi_u=0.5,
    pi_t=(0.5,),
    pool_size=40,
    test_size=10,
    cycles=2,
    batch=8,
    steps=2,
    bs=8,
)
LOSS = LossConfig(data='synthetic:20:64', weights=None, width=0.25, steps=4, validations=2, bs=4)
IMAGES, MASKS = np.zeros((8, 32, 32, 3), np.uint8), np.zeros((8, 32, 32), np.uint8)
ROW = dict(image='a.png', y=0, x=0, h=8, w=8)
RNG = np.random.default_rng(0)


def gives(**kw):
    return lambda w: kw


CASES = {
    # --- command line
    'command': (lambda at: cli('stduy'), "No such command 'stduy'. Did you mean 'study'?"),
    'option': (lambda at: cli('study', '--xyz', 'odd'), 'No such option: --xyz'),
    'study whole number': (
        lambda at: cli('study', '--steps', 'two'),
        "Invalid value for '--steps': Input should be a valid integer, unable to parse string as an integer",
    ),
    'study below its least': (
        lambda at: cli('study', '--bs', '1'),
        "Invalid value for '--bs': Input should be greater than or equal to 2",
    ),
    'study pi_t': (
        lambda at: cli('study', '--pi-t', '0.1,x'),
        "--pi-t '0.1,x' is no list of numbers; write for example --pi-t 0.1,1",
    ),
    'study pi_u out of range': (
        lambda at: cli('study', '--pi-u', '1.5'),
        'pi_u = 1.5 is no prevalence; give a number from 0 to 1',
    ),
    'study strategy': (
        lambda at: cli('study', '--strategies', 'random,entropi'),
        "unknown strategy 'entropi'; choose one of: random, random_faulty, random_predicted_faulty, entropy, coreset, coreset_paper, margin, entropy_foreground, bald, clasp, entropy_coreset, quota, badge, nearest, largest_alarm",
    ),
    'study preset': (
        lambda at: cli('study', '--preset', 'fast'),
        "unknown preset 'fast'; choose one of: story, quick, laptop, paper",
    ),
    'study patch': (
        lambda at: cli('study', '--patch', '64x'),
        "--patch '64x' is no size; write for example 64 or 256x400",
    ),
    'study batch': (
        lambda at: cli('study', '--batch', '50', '--pool-size', '40'),
        'a batch of 50 is larger than the pool of 40; take a smaller batch or a larger pool',
    ),
    'study data set': (
        lambda at: cli('study', '--data', 'sevrstal'),
        "unknown data set 'sevrstal'; choose one of: <data sets>",
    ),
    'study data not there': (
        lambda at: cli('study', '--data', 'sd900'),
        "data set 'sd900' not found in AT/data; put it there as AT/data/sd900 or run `imbal-al data get sd900`",
    ),
    'study network': (
        lambda at: cli('study', '--arch', 'fnp'),
        "unknown network 'fnp'; choose one of: fpn, unet, pspnet, deeplabv3, segnet",
    ),
    'study prevalence not met': (
        lambda at: cli(
            'study',
            '--data',
            'synthetic:10:64',
            '--patch',
            '32',
            '--pi-u',
            '0.9',
            '--batch',
            '8',
            '--pool-size',
            '40',
        ),
        'pi_u = 0.9 with 40 patches needs 36 faulty patches, there are 11; the largest size at this prevalence is 13',
    ),
    'losses loss': (
        lambda at: cli('losses', '--losses', 'ft,dicee'),
        "unknown loss 'dicee'; choose one of: bce, wbce, focal, dice, tversky, ft, dibe_reg, combo, el, hf, unified, dibe_dis, dibe",
    ),
    'losses no loss': (
        lambda at: cli('losses', '--losses', ','),
        "--losses ',' is empty; write for example --losses ft,dibe",
    ),
    'losses fn_weights': (
        lambda at: cli('losses', '--fn-weights', 'low,high'),
        "--fn-weights 'low,high' is no list of numbers; write for example --fn-weights 0.1,1",
    ),
    'losses model': (
        lambda at: cli('losses', '--models', 'unett'),
        "unknown network 'unett'; choose one of: fpn, unet, pspnet, deeplabv3, segnet",
    ),
    'losses preset': (
        lambda at: cli('losses', '--preset', 'huge'),
        "unknown preset 'huge'; choose one of: quick, laptop, paper",
    ),
    'losses data set': (
        lambda at: cli('losses', '--data', 'mtsd'),
        "unknown data set 'mtsd'; choose one of: <data sets>",
    ),
    'losses data not there': (
        lambda at: cli('losses', '--data', 'cfd'),
        "data set 'cfd' not found in AT/data; put it there as AT/data/cfd or run `imbal-al data get cfd`",
    ),
    'losses window unknown': (
        lambda at: cli('losses', *OWN),
        'folder:images:masks: say how large the windows shall be (--patch), its images may differ in size',
    ),
    'losses window no size': (
        lambda at: cli('losses', '--patch', 'a'),
        "--patch 'a' is no size; write for example 64 or 256x400",
    ),
    'losses variant': (
        lambda at: cli('losses', '--losses', 'dibe_dis', '--variants', 'pixel'),
        "variant must be one of region, class, normalised, tversky, got 'pixel'",
    ),
    'losses fn_weight negative': (
        lambda at: cli('losses', '--fn-weights', '-0.1'),
        'fn_weight must be at least 0, got -0.1',
    ),
    'losses rate': (lambda at: cli('losses', '--lr', '-1'), 'lr = -1.0; give a number above 0'),
    'losses width': (
        lambda at: cli('losses', '--width', '0'),
        'width = 0.0; give a number above 0',
    ),
    'losses augment': (
        lambda at: cli('losses', '--augment', 'blur'),
        "unknown augmentation 'blur'; choose one of: random, fixed, none",
    ),
    'losses size': (
        lambda at: cli('losses', '--size', '8'),
        "Invalid value for '--size': Input should be greater than or equal to 16",
    ),
    'losses steps': (
        lambda at: cli('losses', '--steps', '0'),
        "Invalid value for '--steps': Input should be greater than or equal to 1",
    ),
    'losses device': (
        lambda at: cli('losses', '--data', 'synthetic:20:64', '--bs', '4', '--device', 'gpu'),
        "device 'gpu' cannot be used here (Expected one of cpu, cuda, ipu, xpu, mkldnn, opengl, opencl, ideep, hip, ve, fpga, maia, xla, lazy, vulkan, mps, meta, hpu, mtia, privateuseone device type at start of device string: gpu); write cpu, cuda or cuda:1, or leave it out",
    ),
    'losses batch': (
        lambda at: cli('losses', '--data', 'synthetic:20:64', '--bs', '64'),
        'synthetic:20:64 has 12 training images, fewer than a batch of 64; use a smaller batch',
    ),
    'losses out': (
        lambda at: cli(
            'losses', '--data', 'synthetic:20:64', '--bs', '4', '--width', '0.25', '--out', 'file'
        ),
        'cannot create file: File exists; choose a folder you may write to',
    ),
    'guide loss': (
        lambda at: cli('guide', '--loss', 'dice'),
        "loss 'dice' has no false-negative weight to guide; choose one of: tversky, ft, dibe_reg, hf, dibe_dis, dibe",
    ),
    'guide target reversed': (
        lambda at: cli('guide', '--target', '0.3', '0.1'),
        'target (0.3, 0.1) is reversed; give the lower end first: (0.1, 0.3)',
    ),
    'guide target out of range': (
        lambda at: cli('guide', '--target', '0', '2'),
        'target has 2, which no OII can be; give two numbers between -1 and 1',
    ),
    'guide target no number': (
        lambda at: cli('guide', '--target', 'low', 'high'),
        "Invalid value for '--target': Input should be a valid number, unable to parse string as a number",
    ),
    'guide candidates': (
        lambda at: cli('guide', '--candidates', '0'),
        "Invalid value for '--candidates': Input should be greater than or equal to 1",
    ),
    'status nowhere': (
        lambda at: cli('status', 'nowhere'),
        'nowhere holds no study (no readable study.json); give the folder that `imbal-al study --out` or `imbal-al losses --out` wrote to',
    ),
    'data check': (
        lambda at: cli('data', 'check', 'potatoes'),
        "unknown data set 'potatoes'; choose one of: <data sets>",
    ),
    'data check folder': (
        lambda at: cli('data', 'check', 'folder:images:none'),
        "AT/images/0.png has no mask in AT/none (4 such images); add it, or say that a missing mask means healthy (missing='healthy'; folder:IMAGES:MASKS:healthy)",
    ),
    'data get': (
        lambda at: cli('data', 'get', 'nothing'),
        "unknown data set 'nothing'; choose one of: <downloads>",
    ),
    'data get account': (
        lambda at: cli('data', 'get', 'severstal', '--data-root', 'none'),
        'severstal needs an account: make an account at kaggle.com; accept the rules at https://www.kaggle.com/c/severstal-steel-defect-detection/rules; download all files there as one zip; run `imbal-al data get severstal --archive FILE.zip --data-root AT/none`, or fill AT/none/severstal with train.csv and train_images/*.jpg',
    ),
    'data get archive missing': (
        lambda at: cli('data', 'get', 'sd900', '--archive', 'none.zip'),
        'cannot read none.zip: No such file or directory; give the archive you downloaded',
    ),
    'data get no archive': (
        lambda at: cli('data', 'get', 'sd900', '--archive', 'text.png'),
        'text.png is damaged or no zip file (File is not a zip file); download it again',
    ),
    'retry nowhere': (
        lambda at: cli('retry', 'nowhere'),
        'nowhere holds no study (no readable study.json); give the folder that `imbal-al study --out` or `imbal-al losses --out` wrote to',
    ),
    'collect nowhere': (
        lambda at: cli('collect', 'nowhere'),
        'nowhere holds no study (no readable study.json); give the folder that `imbal-al study --out` or `imbal-al losses --out` wrote to',
    ),
    'collect too early': (
        lambda at: cli('collect', 'early'),
        'early: no run is finished yet; `imbal-al status early` says how far it is',
    ),
    'study backend': (
        lambda at: cli('study', '--backend', 'dask'),
        "unknown backend 'dask'; choose one of: serial, ray",
    ),
    'guide address': (
        lambda at: cli('guide', '--address', 'here:6379'),
        '--address here:6379 is for --backend ray',
    ),
    'study address': (
        lambda at: cli('study', '--address', 'here:6379'),
        '--address here:6379 is for --backend ray',
    ),
    'losses steps and epochs': (
        lambda at: cli('losses', '--steps', '5', '--epochs', '2'),
        '--steps and --epochs are both given; give one',
    ),
    # --- files
    'write below a file': (
        lambda at: write_text(at / 'file' / 'x.csv', ''),
        'cannot write AT/file/x.csv: File exists; choose a folder you may write to',
    ),
    'image missing': (
        lambda at: images.read_image(f'{at}/gone.png'),
        'AT/gone.png is missing; restore the file or take it out of the data set',
    ),
    'image empty': (
        lambda at: images.read_image(f'{at}/empty.png'),
        'AT/empty.png is empty; fetch or export the file again, or take it out',
    ),
    'image cut': (
        lambda at: images.read_image(f'{at}/cut.png'),
        'AT/cut.png cannot be read as an image (image file is truncated); fetch or export the file again, or take it out',
    ),
    'image is text': (
        lambda at: images.read_image(f'{at}/text.png'),
        'AT/text.png cannot be read as an image (it is none); fetch or export the file again, or take it out',
    ),
    'image is a folder': (
        lambda at: images.read_image(f'{at}/images'),
        'AT/images is a folder; give an image file',
    ),
    'image of floats': (
        lambda at: images.read_image(f'{at}/float.tif'),
        'AT/float.tif holds floating-point pixels; save it with 8 or 16 bits',
    ),
    'mask size': (
        lambda at: masks.read_mask(f'{at}/small.png', 'nonzero', (8, 9)),
        'mask AT/small.png is 8 x 8 pixels, its image 9 x 8; export the mask again',
    ),
    'mask decoder': (
        lambda at: masks.read_mask(f'{at}/small.png', 'magic', (8, 8)),
        "unknown mask decoder 'magic'; choose one of: over127, nonzero, synthetic, classes, colours, alpha, inverted, auto, label, union, potato_palette, cfd, runs, coco, yolo",
    ),
    'mask of many values': (
        lambda at: masks.read_mask(f'{at}/four.png', 'auto', (1, 4)),
        "mask AT/four.png has 4 values (1, 200, ...); say which is meant: 'nonzero' (class numbers) or 'over127' (smoothed borders) (--mask-values NAME, or folder:IMAGES:MASKS:NAME)",
    ),
    'mask matlab': (
        lambda at: masks.read_mask(f'{at}/bad.mat', 'cfd', (8, 8)),
        'AT/bad.mat cannot be read as a CrackForest ground truth; fetch the data set again',
    ),
    'run lengths odd': (
        lambda at: RUNS('1 2 3'),
        'train.csv, image a.jpg: 3 run-length numbers, pairs of start and length needed; fetch the file again',
    ),
    'run lengths outside': (
        lambda at: RUNS('6 2'),
        "train.csv, image a.jpg: run 6 2 is outside the image's 6 pixels; fetch the file again",
    ),
    'run lengths overlap': (
        lambda at: RUNS('1 3 2 1'),
        'train.csv, image a.jpg: run 2 1 overlaps the one before it; fetch the file again',
    ),
    'run lengths letters': (
        lambda at: RUNS('1 b'),
        "train.csv, image a.jpg: '1 b' is no list of whole numbers; fetch the file again",
    ),
    'COCO sum': (
        lambda at: COCO([dict(size=[2, 3], counts=[2, 2])]),
        'a.json, image a.jpg: run lengths that add up to 4, not to 6 pixels; export the annotations again',
    ),
    'COCO string': (
        lambda at: COCO([dict(size=[2, 3], counts='~')]),
        "a.json, image a.jpg: '~' is no character of a run length; export the annotations again",
    ),
    'COCO size': (
        lambda at: COCO([dict(size=[3, 2], counts=[6])]),
        "a.json, image a.jpg: its size [3, 2] is not the image's [2, 3]; export the annotations again",
    ),
    'COCO key': (
        lambda at: COCO([dict(counts=[6])]),
        "a.json, image a.jpg: 'size' is missing; export the annotations again",
    ),
    'COCO polygon': (
        lambda at: COCO([[[0, 0, 1]]]),
        'a.json, image a.jpg: the polygon [0, 0, 1] is no list of x, y pairs; export the annotations again',
    ),
    'COCO polygon far away': (
        lambda at: COCO([[[0, 0, 2e9, 2e9]]]),
        'a.json, image a.jpg: a polygon reaches to 2e+09, far outside the image; export the annotations again',
    ),
    'YOLO pairs': (
        lambda at: masks.read_mask(f'{at}/0.txt', 'yolo', (8, 8)),
        'AT/0.txt, line 1: not a class and pairs of numbers; fetch the data set again',
    ),
    'YOLO outside': (
        lambda at: masks.read_mask(f'{at}/1.txt', 'yolo', (8, 8)),
        'AT/1.txt, line 1: a point is outside the image; fetch the data set again',
    ),
    'YOLO letters': (
        lambda at: masks.read_mask(f'{at}/2.txt', 'yolo', (8, 8)),
        'AT/2.txt, line 1: not a class and pairs of numbers; fetch the data set again',
    ),
    'window incomplete': (
        lambda at: images.window_of(dict(image='a.png', y=0, x=0)),
        'a.png has no whole window; give the whole numbers y, x, h, w',
    ),
    'window empty': (
        lambda at: images.window_of(dict(ROW, w=0)),
        'a.png has a window of 8x0 pixels; give a height and width of 1 or more',
    ),
    'window outside': (
        lambda at: images.crop(np.zeros((8, 8)), (9, 0, 4, 4)),
        'the window 4x4 at 9, 0 lies outside an image of 8x8 pixels; correct y and x',
    ),
    # --- data sets
    'source': (
        lambda at: catalog.load_source('kolektor'),
        "unknown data set 'kolektor'; choose one of: <data sets>",
    ),
    'source synthetic': (
        lambda at: catalog.load_source('synthetic:many'),
        "'synthetic:many' is no synthetic source; write synthetic:COUNT:SIZE:SEED, whole numbers",
    ),
    'source synthetic kind': (
        lambda at: catalog.load_source('synthetic_wood'),
        "unknown data set 'synthetic_wood'; choose one of: <data sets>",
    ),
    'source folder name': (
        lambda at: catalog.load_source('folder:images'),
        "'folder:images' is no folder source; write folder:IMAGES:MASKS, then :nonzero or another reading of masks, and :healthy, if needed",
    ),
    'source folder missing': (
        lambda at: catalog.load_source('folder:nowhere:masks'),
        'AT/nowhere is not a folder; give the folder of images and the folder of masks',
    ),
    'source folder empty': (
        lambda at: catalog.load_source('folder:none:masks'),
        'no image found in AT/none; give a folder with .jpg, .jpeg, .png, .bmp, .tif, .tiff, .webp files',
    ),
    'source folder without masks': (
        lambda at: catalog.load_source('folder:images:none'),
        "AT/images/0.png has no mask in AT/none (4 such images); add it, or say that a missing mask means healthy (missing='healthy'; folder:IMAGES:MASKS:healthy)",
    ),
    'source folder two of one name': (
        lambda at: catalog.load_source('folder:twice:masks'),
        'AT/twice/a.bmp and AT/twice/a.png are two files with one name; remove or rename one',
    ),
    'source folder group': (
        lambda at: sources.folder_source('images', 'masks', group='('),
        "group '(' is no regular expression (missing ), unterminated subpattern at position 0); write for example group='(tile[0-9]+)'",
    ),
    'source folder missing masks mean': (
        lambda at: sources.folder_source('images', 'masks', missing='faulty'),
        "unknown meaning of a missing mask 'faulty'; choose one of: refuse, healthy",
    ),
    'source severstal': (
        lambda at: catalog.load_source('severstal'),
        'AT/data/severstal/train.csv has no columns ImageId (or ImageId_ClassId) and EncodedPixels; fetch the file again',
    ),
    'source mtsdd': (
        lambda at: catalog.load_source('mtsdd'),
        "x.jpg has no '_num_NUMBER' in its name; fetch the data set again",
    ),
    'source dibe part': (
        lambda at: catalog.load_source('thc112:copy'),
        "unknown part 'copy' of thc112; write thc112 or thc112:copies",
    ),
    # --- stores and scenarios
    'store patch': (
        lambda at: patches.open_store(catalog.load_source('synthetic:4:64'), 8),
        'patch of 8x8 pixels; use at least 16x16',
    ),
    'store stride': (
        lambda at: patches.open_store(catalog.load_source('synthetic:4:64'), 32, 'odd'),
        "unknown stride 'odd'; choose one of: none, even",
    ),
    'store channels': (
        lambda at: patches.open_store(catalog.load_source('synthetic:4:64'), 32, channels=2),
        'unknown number of channels 2; choose one of: 1, 3',
    ),
    'store patch too large': (
        lambda at: patches.open_store(catalog.load_source('synthetic:4:64'), 65),
        'synthetic:steel:0:64:0 is 64x64 pixels, smaller than a patch of 65x65; choose a smaller patch',
    ),
    'store cache': (
        lambda at: patches.open_store(catalog.load_source('synthetic:4:64'), 32, root=at / 'file'),
        'cannot create AT/file: File exists; set IMBAL_AL_CACHE to a folder you may write to',
    ),
    'scenario prevalence': (
        lambda at: scenarios.make_scenario(TABLE, 1.5, 10),
        'pi_u = 1.5 is no prevalence; give a number from 0 to 1',
    ),
    'scenario pool': (
        lambda at: scenarios.make_scenario(TABLE, 0.9, 60),
        'pi_u = 0.9 with 60 patches needs 54 faulty patches, there are 14; the largest size at this prevalence is 16',
    ),
    'scenario test': (
        lambda at: scenarios.make_scenario(TABLE, 0.1, 10, (0.5,), 100),
        'pi_t = 0.5 with 100 patches needs 50 faulty patches, there are 4; the largest size at this prevalence is 9',
    ),
    'scenario size': (
        lambda at: scenarios.make_scenario(TABLE, 0.1, 0),
        'pool_size = 0; give a whole number above 0',
    ),
    'scenario seed': (
        lambda at: scenarios.make_scenario(TABLE, 0.1, 10, test_size=10, seed=-1),
        'seed = -1; give a whole number, 0 or larger',
    ),
    'scenario mode': (
        lambda at: scenarios.make_scenario(TABLE, 0.1, 10, mode='pair'),
        "unknown scenario mode 'pair'; choose one of: paired, paper",
    ),
    'synthetic kind': (
        lambda at: synthetic.image('wood', 0),
        "unknown kind of synthetic image 'wood'; choose one of: cells, steel, leaves",
    ),
    'synthetic size': (
        lambda at: synthetic.image('steel', 0, size=8),
        'size 8 cannot be drawn; give a whole number of pixels from 16 to 16384, or (height, width)',
    ),
    # --- losses and OII
    'loss': (
        lambda at: make_loss('dicee'),
        "unknown loss 'dicee'; choose one of: bce, wbce, focal, dice, tversky, ft, dibe_reg, combo, el, hf, unified, dibe_dis, dibe",
    ),
    'loss setting': (
        lambda at: make_loss('dice', fn_weight=0.3),
        "loss 'dice' has no setting 'fn_weight'; it takes: smooth, per_image, reduction, ignore_index",
    ),
    'loss fn_weight': (
        lambda at: TverskyLoss(fn_weight=-0.1),
        'fn_weight must be at least 0, got -0.1',
    ),
    'loss fn_weight above 1': (
        lambda at: TverskyLoss(fn_weight=1.2),
        'fp_weight must be given when fn_weight is above 1, got fn_weight 1.2',
    ),
    'loss fn_weight text': (
        lambda at: TverskyLoss(fn_weight='high'),
        "fn_weight must be a number, got 'high'",
    ),
    'loss exponent': (
        lambda at: FocalTverskyLoss(exponent='x'),
        "exponent must be a number or one of paper, abraham, got 'x'",
    ),
    'loss reduction': (
        lambda at: BCELoss(reduction='avg'),
        "reduction must be one of mean, sum, none, got 'avg'",
    ),
    'loss variant': (
        lambda at: make_loss('dibe_dis', variant='pixel'),
        "variant must be one of region, class, normalised, tversky, got 'pixel'",
    ),
    'loss ignore_index': (
        lambda at: BCELoss(ignore_index=0.5),
        'ignore_index must be an integer or None, got 0.5',
    ),
    'loss shapes': (
        lambda at: BCELoss()(X, Y[:, :2]),
        'targets must be (2, 1, 4, 4) like the logits or (2, 4, 4), got (2, 2, 4)',
    ),
    'loss labels 255': (
        lambda at: DiceLoss()(X, Y + 255),
        'targets must be 0 or 1, got values from 255 to 255; give soft or other labels a threshold first, or name them with ignore_index',
    ),
    'loss labels of classes': (
        lambda at: FocalLoss()(torch.zeros(2, 3, 4, 4), (Y + 3).long()),
        'targets must be labels from 0 to 2, got 3 to 3',
    ),
    'loss no tensor': (
        lambda at: BCELoss()(X.numpy(), Y),
        'logits must be a torch tensor, got ndarray',
    ),
    'loss integers': (
        lambda at: BCELoss()(X.long(), Y),
        'logits must be floating point, got torch.int64',
    ),
    'loss nan': (
        lambda at: BCELoss()(X / 0 * 0, Y),
        'logits hold NaN or infinity (or the pixel losses overflow); look at the step before the loss, e.g. its learning rate or half precision',
    ),
    'loss two channels': (
        lambda at: PaperComboLoss()(X, Y.long()),
        'logits must be (N,C,H,W) with a channel for each class, background too, got (2, 1, 4, 4)',
    ),
    'OII negative': (
        lambda at: oii.oii(1, -1, 2),
        'fp must not be negative, got -1; give counts or rates of pixels',
    ),
    'OII threshold': (
        lambda at: oii.pixel_counts(X, Y, threshold=2),
        'threshold must be between 0 and 1, got 2',
    ),
    # --- guidance
    'guidance candidates': (
        lambda at: guidance.candidates(0),
        'n = 0 candidates; give a whole number from 1 to 10000',
    ),
    'guidance own candidates': (
        lambda at: guidance.guide(gives(oii=0), n=(0.5, 0.2)),
        'candidates (0.5, 0.2); give a number of them, or rising values between 0 and 1',
    ),
    'guidance target': (
        lambda at: guidance.check_target('balanced'),
        "target 'balanced' is no interval; give two numbers such as (.1, .3)",
    ),
    'guidance train': (
        lambda at: guidance.guide('ft'),
        "train = 'ft' cannot be called; give a function of fn_weight",
    ),
    'guidance result': (
        lambda at: guidance.guide(lambda w: 0.3),
        'train(fn_weight=0.5) returned float, not a dict; return dict(oii=..., iou=..., precision=...)',
    ),
    'guidance result lacks': (
        lambda at: guidance.guide(gives(iou=0.5)),
        "train(fn_weight=0.5) returned no 'oii'; it has: iou",
    ),
    'guidance result out of range': (
        lambda at: guidance.guide(gives(oii=3)),
        'train(fn_weight=0.5) returned oii = 3; it lies between -1 and 1',
    ),
    'guidance failures': (
        lambda at: guidance.guide(gives(oii=0), failures=0),
        'failures = 0; give a whole number from 1',
    ),
    'guidance tie': (
        lambda at: guidance._middle([0, 1], tie='left'),
        "unknown tie rule 'left'; choose one of: nearest, furthest, lower, upper",
    ),
    'guidance trial twice': (
        lambda at: guidance.next_candidate([(1, 0.5), (1, 0.5)]),
        'candidate 1 is in the trials 2 times; give each one once',
    ),
    'guidance grid by': (
        lambda at: guidance.grid(gives(oii=0), by='f1'),
        "unknown score 'f1'; choose one of: iou, precision, recall",
    ),
    'guidance memory damaged': (
        lambda at: guidance._read_memory(at / 'memory.json'),
        'AT/memory.json is damaged (Expecting value: line 1 column 10 (char 9)); mend it, or move it away to train again',
    ),
    'guidance memory of another form': (
        lambda at: guidance._read_memory(at / 'other.json'),
        'AT/other.json holds no trainings of a guidance; choose another file',
    ),
    'guidance memory half': (
        lambda at: guidance._read_memory(at / 'half.json'),
        'AT/half.json is damaged (training 1 of 1 is not whole); mend it, or move it away to train again',
    ),
    'guidance over runs': (
        lambda at: train_at(replace(LOSS, loss='dice', fn_weight=None), at / 'x'),
        "loss 'dice' has no false-negative weight to guide; choose one of: tversky, ft, dibe_reg, hf, dibe_dis, dibe",
    ),
    # --- plans and run folders
    'plan no study': (
        lambda at: load_plan(at / 'none'),
        'AT/none holds no study (no readable study.json); give the folder that `imbal-al study --out` or `imbal-al losses --out` wrote to',
    ),
    'plan damaged': (
        lambda at: load_plan(at / 'study'),
        'AT/study holds no study (no readable study.json); give the folder that `imbal-al study --out` or `imbal-al losses --out` wrote to',
    ),
    'plan of something else': (
        lambda at: load_plan(at / 'list'),
        'AT/list/study.json is no plan of runs; give the command that planned the study again',
    ),
    'plan of a newer version': (
        lambda at: load_plan(at / 'newer'),
        "AT/newer/study.json: unknown setting of a run 'magic'; choose one of: <settings of a run>",
    ),
    'plan of another kind': (
        lambda at: save_plan(at / 'kinds', [TINY]) or save_plan(at / 'kinds', [LOSS]),
        'AT/kinds holds a study of another kind; choose another folder (--out)',
    ),
    'plan of losses': (
        lambda at: load_loss_plan(at / 'newer'),
        'AT/newer holds no loss study (no readable study.json of that kind); give the folder that `imbal-al losses --out` wrote to',
    ),
    'plan preset': (
        lambda at: preset('fast', 'x'),
        "unknown preset 'fast'; choose one of: story, quick, laptop, paper",
    ),
    'run setting': (
        lambda at: as_config(dict(stratgy='random')),
        "unknown setting of a run 'stratgy'; choose one of: <settings of a run>",
    ),
    'run no dict': (
        lambda at: as_config([1, 2]),
        "a run is given as '[1, 2]'; give its settings by name",
    ),
    'run pi_t': (
        lambda at: RunConfig(pi_t=('high',)),
        "pi_t = ('high',) cannot be read; give numbers such as (0.1, 0.05)",
    ),
    'run strategy': (
        lambda at: run(replace(TINY, strategy='entropie'), at / 'runs'),
        "unknown strategy 'entropie'; choose one of: random, random_faulty, random_predicted_faulty, entropy, coreset, coreset_paper, margin, entropy_foreground, bald, clasp, entropy_coreset, quota, badge, nearest, largest_alarm",
    ),
    'run cycles': (
        lambda at: check_config(replace(TINY, cycles=6)),
        '6 cycles of 8 label 48 patches, the pool has 40; take fewer cycles or a smaller batch',
    ),
    'run rate': (
        lambda at: check_config(replace(TINY, lr=float('nan'))),
        'lr = nan; give a learning rate above 0',
    ),
    'run rate text': (
        lambda at: check_config(replace(TINY, lr='fast')),
        "lr = 'fast'; give a learning rate above 0",
    ),
    'run patch': (
        lambda at: check_config(replace(TINY, patch=('a', 'b'))),
        "patch = ('a', 'b'); give height and width in pixels, such as (64, 64)",
    ),
    'run data': (lambda at: check_config(replace(TINY, data=5)), 'data = 5; give a name'),
    'run channels': (
        lambda at: check_config(replace(TINY, in_channels=2)),
        'in_channels = 2; give 1 or 3',
    ),
    'run heldout': (
        lambda at: check_config(replace(TINY, heldout_size=-1)),
        'heldout_size = -1; give a whole number, 0 or larger, or None for all',
    ),
    'run length': (
        lambda at: check_config(replace(TINY, steps=None)),
        'neither steps nor epochs is given; set one of them',
    ),
    'run into a file': (
        lambda at: run(TINY, at / 'file'),
        'cannot create AT/file/6c87675030d6: Not a directory; choose a folder you may write to',
    ),
    'training setting': (
        lambda at: as_loss_config(dict(los='ft')),
        "unknown setting of a training 'los'; choose one of: <settings of a training>",
    ),
    'training length': (
        lambda at: check_loss_config(replace(LOSS, steps=None)),
        'neither steps nor epochs is given; set one of them',
    ),
    'training momentum': (
        lambda at: check_loss_config(replace(LOSS, momentum=1)),
        'momentum = 1; give a number of 0 or more and below 1',
    ),
    'training batch': (
        lambda at: check_loss_config(replace(LOSS, bs=1)),
        'bs = 1; batch normalisation needs a batch of 2 or more',
    ),
    'training precision': (
        lambda at: check_loss_config(replace(LOSS, precision='fp8')),
        "unknown precision 'fp8'; choose one of: fp32, bf16, fp16",
    ),
    'training option': (
        lambda at: check_loss_config(replace(LOSS, options=dict(q=1))),
        "loss 'dibe' has no setting 'q'; it takes: class_weight, gamma, fn_weight, fp_weight, mix, variant, smooth, per_image, reduction, ignore_index",
    ),
    'training seeds': (lambda at: plan_losses(LOSS, ['ft'], seeds=0), '0 seeds; give 1 or more'),
    'training preset': (
        lambda at: loss_preset('huge', 'cfd'),
        "unknown preset 'huge'; choose one of: quick, laptop, paper",
    ),
    # --- training, models
    'parts empty': (
        lambda at: Parts(IMAGES, MASKS, [0], [], 'mine'),
        'mine has 1 training and 0 validation images; both parts need some',
    ),
    'parts overlap': (
        lambda at: Parts(IMAGES, MASKS, [0, 1], [1], 'mine'),
        'mine: an image is in both the training and the validation part; split by image and group',
    ),
    'parts without a defect': (
        lambda at: Parts(IMAGES, MASKS, [0], [1], 'mine'),
        'mine has no defect in its validation part of 1 images; IoU and OII are undefined there, split it otherwise',
    ),
    'parts too few': (
        lambda at: sgd_learner(
            Parts(IMAGES, MASKS | 1, range(4), [5], 'mine'),
            make_loss('ft'),
            weights=None,
            width=0.25,
        ),
        'mine has 4 training images, fewer than a batch of 8; use a smaller batch',
    ),
    'parts augmentation': (
        lambda at: sgd_learner(
            Parts(IMAGES, MASKS | 1, range(4), [5], 'mine'),
            make_loss('ft'),
            weights=None,
            width=0.25,
            bs=4,
            augment='blur',
        ),
        "unknown augmentation 'blur'; choose one of: random, fixed, none",
    ),
    'parts size': (lambda at: resize_pairs(IMAGES, MASKS, 8), 'size = 8 px; use 16 or more'),
    'learner nothing labelled': (
        lambda at: make_learner(DeviceData(IMAGES, MASKS), []),
        'no labelled patch to train on; give at least one',
    ),
    'learner schedule': (
        lambda at: lr_schedule('cos', 0.1),
        "unknown schedule 'cos'; choose one of: flat, cosine",
    ),
    'learner precision': (
        lambda at: cast('fp8', 'cpu'),
        "unknown precision 'fp8'; choose one of: fp32, bf16, fp16",
    ),
    'network': (
        lambda at: create_model('unett'),
        "unknown network 'unett'; choose one of: fpn, unet, pspnet, deeplabv3, segnet",
    ),
    'network encoder': (
        lambda at: create_model('unet', 'efficientnet-b33', None),
        "smp has no encoder 'efficientnet-b33' with weights None; see segmentation_models_pytorch.encoders.get_encoder_names()",
    ),
    'network width': (
        lambda at: _scaled(64, 0),
        'width 0 is not a positive number; 1 is the network as published, 0.25 has a quarter of its channels',
    ),
    'network channels': (
        lambda at: create_model('unet', 'lite0', 'imagenet', in_channels=1),
        "lite0's ImageNet weights are for 3 channels, not 1; repeat grey images to 3",
    ),
    'network segnet weights': (
        lambda at: create_model('segnet', 'vgg16', 'coco'),
        "segnet has no weights 'coco'; known: imagenet, or none",
    ),
    'network segnet width': (
        lambda at: create_model('segnet', 'vgg16', 'imagenet', width=0.5),
        'pretrained weights of segnet exist only for width 1, not 0.5; use weights none',
    ),
    'network segnet image': (
        lambda at: SegNet(width=0.125)(torch.zeros(1, 3, 16, 64)),
        'SegNet halves an image five times and needs 32 pixels a side; this one has 16 x 64',
    ),
    # --- strategies and metrics
    'strategy': (
        lambda at: choose.select('entropi', registry.Candidates(5), 2, RNG),
        "unknown strategy 'entropi'; choose one of: random, random_faulty, random_predicted_faulty, entropy, coreset, coreset_paper, margin, entropy_foreground, bald, clasp, entropy_coreset, quota, badge, nearest, largest_alarm",
    ),
    'strategy batch': (
        lambda at: choose.select('random', registry.Candidates(5), 6, RNG),
        'a batch of 6 is larger than the 5 images left in the pool; take a smaller batch or fewer cycles',
    ),
    'strategy probabilities': (
        lambda at: strategies.mean_entropy(np.full((1, 2, 2), 1.5)),
        'probabilities must lie in [0,1] and not be nan; apply a sigmoid or softmax first',
    ),
    'strategy shape': (
        lambda at: strategies.mean_entropy(np.zeros(3)),
        'probabilities have the shape (3,); give (N,H,W)',
    ),
    'metrics histograms': (
        lambda at: metrics.counts(np.zeros((2, 128))),
        'histograms have shape (2, 128); expected (n, 2, 128)',
    ),
    'metrics threshold': (
        lambda at: metrics.threshold_bin(1.5),
        'threshold 1.5 is not a probability; give a number from 0 to 1',
    ),
    'metrics masks': (
        lambda at: metrics.histogram(np.zeros((1, 2, 2)), np.full((1, 2, 2), 255)),
        'masks must hold 0 and 1 only; divide by 255 or compare with 0 first',
    ),
    'metrics shapes': (
        lambda at: metrics.histogram(np.zeros((1, 2, 2)), np.zeros((1, 2, 3))),
        'predictions (1, 2, 2) and masks (1, 2, 3) must have one shape (N,H,W)',
    ),
    'metrics nan': (
        lambda at: metrics.histogram(np.full((1, 2, 2), np.nan), np.zeros((1, 2, 2))),
        'predictions hold nan; the model has diverged',
    ),
    'metrics logits': (
        lambda at: metrics.histogram(np.full((1, 2, 2), 3.0), np.zeros((1, 2, 2)), logits=False),
        'probabilities lie outside [0, 1]; for logits pass logits=True',
    ),
    'metrics prevalence': (
        lambda at: metrics.prevalence_weights([0, 0], 0.5),
        'pi_t 0.5 needs faulty images, there are none; hold out some or use pi_t=0',
    ),
    'metrics flags': (
        lambda at: metrics.scores_at(HIST, [1], 0.5),
        '2 histograms but 1 faulty flags; with pi_t give one flag per image',
    ),
    'metrics best threshold': (
        lambda at: metrics.best_threshold(HIST),
        'no defect pixel in these images (or pi_t is 0); a best threshold needs some',
    ),
    'metrics uniqueness': (
        lambda at: metrics.uniqueness([[1, 2]]),
        'uniqueness compares repeats, got 1; give at least 2 selections',
    ),
    'metrics uniqueness sizes': (
        lambda at: metrics.uniqueness([[1, 2], [1]]),
        'selections of sizes [1, 2]; give equally many ids, at least 1, per repeat',
    ),
    'metrics random uniqueness': (
        lambda at: metrics.random_uniqueness(5, 6, 2),
        'batch 6 does not fit a pool of 5; give 1 to 5',
    ),
    'metrics area': (
        lambda at: metrics.budget_auc([0.1, 0.1], [1, 2]),
        'an area needs at least two different budgets, none twice; got [0.1, 0.1]',
    ),
    'metrics interval': (
        lambda at: statistics.mean_interval([1, 2], kind='normal'),
        "unknown kind of interval 'normal'; choose one of: bootstrap, student, wider",
    ),
    'metrics pairs': (
        lambda at: statistics.paired_interval([1, 2], [1]),
        'paired values of shapes (2,) and (1,); give the same repeats of both',
    ),
    'metrics margin': (
        lambda at: statistics.non_inferior([1, 2], [1, 2], margin=-1),
        'margin -1 is negative; give the disadvantage that is shrugged off as a positive number',
    ),
    # --- figures and claims
    'figure columns': (
        lambda at: figures.fig4(pd.DataFrame(dict(data=['x']))),
        'the results table lacks columns strategy, pi_u, pi_t, repeat, cycle, budget, f1; it has data',
    ),
    'figure empty': (
        lambda at: loss_figures.check_losses(pd.DataFrame(columns=['data'])),
        'the losses table lacks columns model, loss, variant, fn_weight, seed, epoch, iou; it has data',
    ),
}

TYPES = {'loss fn_weight text', 'loss ignore_index', 'loss no tensor', 'loss integers'}
LONG = {
    '<data sets>': [*sources.SYNTHETIC, *sources.listed_sources(), 'folder:IMAGES:MASKS'],
    '<downloads>': sources.ordered_sources(),
    '<settings of a run>': [f.name for f in fields(RunConfig)],
    '<settings of a training>': [f.name for f in fields(LossConfig)],
}


@pytest.mark.parametrize('name', CASES)
def test_bad_input(at, name):
    "The whole line, the folder of the test replaced by AT and long lists of names by what they are"
    call, line = CASES[name]
    with pytest.raises(TypeError if name in TYPES else InputError) as e:
        call(at)
    said = str(e.value).replace(str(at), 'AT')
    for k, v in LONG.items():
        said = said.replace(', '.join(v), k)
    assert said == line


def test_the_table_is_large_and_its_lines_are_lines():
    lines = [o for _, o in CASES.values()]
    assert len(CASES) >= 150 and all('\n' not in o and 15 < len(o) < 600 for o in lines)


def test_an_input_error_is_one_line_whatever_it_is_given():
    assert str(InputError('a\nb\r\nc.png is empty')) == 'a b c.png is empty'


def test_a_pattern_without_an_end_is_refused_in_a_thread_too():
    "Only the main thread has the timer; a server's threads have not"
    from concurrent.futures import ThreadPoolExecutor

    from imbal_al.data.sources import named_group

    with ThreadPoolExecutor(1) as threads:
        endless = threads.submit(named_group, 'a' * 40 + '.png', '(a+)+$')
        with pytest.raises(InputError, match='comes to no end'):
            endless.result(timeout=60)
        assert threads.submit(named_group, 'tile7_b.png', '((?:tile)+7)').result() == 'tile7'
        assert threads.submit(named_group, 'tile7_b.png', '(tile7').exception() is not None
