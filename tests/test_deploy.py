"The exported file says what the network says; a folder costs the memory of a batch"

import csv, os

import numpy as np, pytest
from PIL import Image

from imbal_al.core import InputError
from imbal_al.project.deploy import export
from imbal_al.project.model_file import _Deployable, write_onnx
from imbal_al.project.predictor import (
    _COLUMNS, need_onnx, open_model, predict_folder, threshold_logit,
)
from imbal_al.networks.tiling import Windows
from imbal_al.networks.predict import network, predict

EXTRA = 'pip install onnx onnxruntime'
torch = pytest.importorskip('torch')


@pytest.fixture(scope='module')
def net():
    from imbal_al.networks.device import seeded
    from imbal_al.networks.models import create_model

    with seeded(3):
        return create_model(weights=None).eval()


@pytest.fixture(scope='module')
def model(net, tmp_path_factory):
    pytest.importorskip('onnx', reason=EXTRA)
    pytest.importorskip('onnxruntime', reason=EXTRA)
    path = tmp_path_factory.mktemp('m') / 'm.onnx'
    z = next(predict(network(net, precision='fp32'), images(1), Windows(64, 32)))[0]
    far = write_onnx(
        net,
        path,
        Windows(64, 32),
        1,
        threshold=float(1 / (1 + np.exp(-np.median(z)))),
        about=dict(round=7),
    )
    assert far < 1e-3
    return open_model(path)


def images(n, size=(70, 90)):
    return [
        np.random.default_rng(i).integers(0, 256, (size[0] + i, size[1], 1), dtype=np.uint8)
        for i in range(n)
    ]


def test_without_the_extra_one_line_says_what_to_install():
    with pytest.raises(InputError, match='pip install onnx onnxruntime'):
        need_onnx('no_such_library_of_ours')


def test_thresholds():
    assert (
        abs(threshold_logit(0.9) - np.log(9)) < 1e-9
        and -30 <= threshold_logit(0) < -25
        and 25 < threshold_logit(1) <= 30
    )
    for bad in (-0.1, 2, float('nan')):
        with pytest.raises(InputError):
            threshold_logit(bad)


def test_normalisation_is_inside_and_masks_are_at_the_threshold(net):
    x = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    for t in (0.2, 0.5, 0.8):
        with torch.inference_mode():
            z, m = _Deployable(net, threshold=t)(torch.from_numpy(x))
        assert (
            np.allclose(z, network(net, precision='fp32')(x)[0], atol=1e-4)
            and (m.numpy() == (z.numpy() >= threshold_logit(t))).all()
        )


def test_the_file_is_equal_to_the_network_on_images_of_any_size(net, model):
    a = list(model.logits(images(4)))
    b = [z for z, _ in predict(network(net, precision='fp32'), images(4), Windows(64, 32), 8)]
    assert max(np.abs(x - y).max() for x, y in zip(a, b, strict=True)) < 1e-3
    assert (
        model.windows == Windows(64, 32)
        and model.meta['round'] == 7
        and model.meta['channels'] == 1
    )


def test_a_file_that_disagrees_is_not_kept(net, tmp_path, monkeypatch):
    pytest.importorskip('onnx', reason=EXTRA)
    pytest.importorskip('onnxruntime', reason=EXTRA)
    from imbal_al.project import model_file

    real = model_file._disagreement
    monkeypatch.setattr(
        model_file,
        '_disagreement',
        lambda module, m, x: real(
            _Deployable(__import__('copy').deepcopy(net), 'resnet18', m.meta['threshold']), m, x
        ),
    )
    with pytest.raises(InputError, match='does not agree'):
        write_onnx(net, tmp_path / 'm.onnx', Windows(64, 32), 3)
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_no_model(tmp_path, model):
    (tmp_path / 'x.onnx').write_bytes(b'no model')
    with pytest.raises(InputError, match='cannot be read as an ONNX model'):
        open_model(tmp_path / 'x.onnx')
    with pytest.raises(InputError, match='is missing'):
        open_model(tmp_path / 'y.onnx')
    import onnx

    m = onnx.load(str(model.path))
    onnx.helper.set_model_props(m, {})
    onnx.save(m, str(tmp_path / 'z.onnx'))
    with pytest.raises(InputError, match='no model of this package'):
        open_model(tmp_path / 'z.onnx')


@pytest.fixture
def folder(tmp_path):
    for i, im in enumerate(images(4)):
        f = tmp_path / 'in' / ('b' if i % 2 else 'a') / f'{i//2}.png'
        f.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(im[..., 0]).save(f)
    Image.fromarray(images(1)[0][..., 0]).save(tmp_path / 'in/a/0.jpg')
    (tmp_path / 'in/two words.png').touch()
    (tmp_path / 'in/a/cut.png').write_bytes((tmp_path / 'in/a/1.png').read_bytes()[:900])
    return tmp_path / 'in'


def rows(path):
    return list(csv.DictReader(open(path, newline='')))


def test_a_folder_gives_masks_overlays_and_a_table_by_area(model, folder, tmp_path):
    t = rows(predict_folder(model, folder, tmp_path / 'out', bs=3))
    assert (
        list(t[0]) == _COLUMNS
        and len(t) == 7
        and [o['image'] for o in t if o['error']] == ['a/cut.png', 'two words.png']
    )
    area = [int(o['defect_pixels']) for o in t if not o['error']]
    assert area == sorted(area, reverse=True) and len(area) == 5 and area[0] > 0
    for o in t[:5]:
        name = (
            o['image'] if o['image'] in ('a/0.png', 'a/0.jpg') else os.path.splitext(o['image'])[0]
        )
        m = np.asarray(Image.open(tmp_path / 'out/masks' / f'{name}.png'))
        assert (
            (m > 0).sum() == int(o['defect_pixels'])
            and m.shape == (int(o['height']), int(o['width']))
            and (tmp_path / 'out/overlays' / f'{name}.jpg').exists()
        )
    z = next(model.logits([np.asarray(Image.open(folder / 'b/1.png'))]))
    m = np.asarray(Image.open(tmp_path / 'out/masks/b/1.png')) > 0
    assert (m == (z >= threshold_logit(model.meta['threshold']))).mean() > 0.999


def test_stopped_and_given_again_it_goes_on_and_the_table_is_the_same(
    model, folder, tmp_path, monkeypatch
):
    whole = predict_folder(model, folder, tmp_path / 'whole', overlays=False).read_text()
    seen = []
    from imbal_al.project import predictor

    real = predictor._write_results

    def stop(out, name, *a):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(name)
        real(out, name, *a)

    monkeypatch.setattr(predictor, '_write_results', stop)
    with pytest.raises(KeyboardInterrupt):
        predict_folder(model, folder, tmp_path / 'out', overlays=False, bs=1)
    with open(tmp_path / 'out/table.part.csv', 'a') as f:
        f.write('half,a,li')
    again = []
    monkeypatch.setattr(
        predictor, '_write_results', lambda out, name, *a: (again.append(name), real(out, name, *a))
    )
    assert (
        predict_folder(model, folder, tmp_path / 'out', overlays=False, bs=1).read_text() == whole
        and not set(seen) & set(again)
        and len(again) == 3
    )


def test_results_of_something_else_are_not_mixed(model, folder, tmp_path):
    predict_folder(model, folder, tmp_path / 'out', overlays=False)
    with pytest.raises(InputError, match='another model, folder or kind'):
        predict_folder(model, folder / 'a', tmp_path / 'out', overlays=False)
    with pytest.raises(InputError, match='holds something else'):
        predict_folder(model, folder, folder)
    (tmp_path / 'none').mkdir()
    for o, says in (('none', 'holds no image'), ('nowhere', 'is no folder')):
        with pytest.raises(InputError, match=says):
            predict_folder(model, tmp_path / o, tmp_path / 'o2')


def test_memory_is_that_of_a_batch(model, tmp_path, monkeypatch):
    from imbal_al.project import predictor

    (tmp_path / 'in').mkdir()
    alive, most = [0], [0]
    for i in range(40):
        Image.new('L', (64, 64), i).save(tmp_path / 'in' / f'{i}.png')

    def read(path, channels, *bits):
        alive[0] += 1
        most[0] = max(most[0], alive[0])
        return np.zeros((64, 64), np.uint8)

    monkeypatch.setattr(predictor, 'read_image', read)
    real = predictor._write_results
    monkeypatch.setattr(
        predictor, '_write_results', lambda *a: (alive.__setitem__(0, alive[0] - 1), real(*a))
    )
    predict_folder(model, tmp_path / 'in', tmp_path / 'out', overlays=False, bs=4)
    assert most[0] <= 14 and alive[0] == 0


def test_a_project_is_exported_with_its_card(tmp_path):
    pytest.importorskip('onnx', reason=EXTRA)
    pytest.importorskip('onnxruntime', reason=EXTRA)
    from imbal_al.project.intake import new
    from imbal_al.project.labelled import write_label
    from imbal_al.project.rounds import next_round
    from imbal_al.data.synthetic import image

    (tmp_path / 'i').mkdir()
    truth = {}
    for i in range(16):
        a, truth[f'{i:02d}.png'] = image('steel', i, (32, 40), faulty=i % 2 == 0)
        Image.fromarray(a).save(tmp_path / 'i' / f'{i:02d}.png')
    p = new(
        tmp_path / 'p',
        tmp_path / 'i',
        window=32,
        overlap=0,
        steps=1,
        bs=2,
        weights=None,
        held_out=0.5,
        seed=1,
    )
    with pytest.raises(InputError, match='no trained model'):
        export(p, tmp_path / 'm.onnx')
    for o in p.units.id:
        write_label(p, o, truth[p.row[o]['name']])
    next_round(p, 0, device='cpu')
    e = export(p, tmp_path / 'm.onnx', prevalence=0.1)
    assert (
        e.far < 1e-3
        and e.meta['prevalence'] == 0.1
        and e.meta['project'] == p.id
        and len(e.meta['f1']) == 4
        and open_model(e.path).windows == Windows(32, 0)
    )
    text = e.card.read_text()
    assert text.startswith('---') and 'F1' in text and '10 %' in text and '## Limits' in text
    plain = export(p, tmp_path / 'n.onnx', threshold=0.3)
    assert (
        plain.meta['threshold'] == 0.3 and plain.notes and 'not** tested' in plain.card.read_text()
    )
    with pytest.raises(InputError, match='no trained model of round 9'):
        export(p, tmp_path / 'o.onnx', round=9)
    (p.dir / 'rounds/001/model.pt').write_bytes(b'')
    with pytest.raises(InputError, match='damaged'):
        export(p, tmp_path / 'o.onnx')
