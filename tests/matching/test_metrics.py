"""What every metric must satisfy, whatever it computes."""

import pytest
import torch

from benchmarks.measure import peak_bytes
from vidlib.matching import METRICS, base, bimhm_distance, build_metric, otam_distance
from vidlib.matching.base import class_mean, in_pieces

E, W, Q, T, D = 3, 3, 4, 6, 8
LABELS = torch.tensor([[0, 1, 2, 0, 1, 2], [2, 2, 1, 0, 2, 0], [0, 0, 0, 1, 2, 0]])  # 2-2-2, 2-1-3 and 4-1-1 shots


@pytest.fixture(params=METRICS)
def metric(request):
    return build_metric(request.param, dim=D, frames=T).eval().requires_grad_(False)


def _logits(metric, support, labels, query, way=W):
    return metric.compare(metric.prepare(support), labels, metric.prepare(query), way)


def _episodes():
    return torch.randn(E, LABELS.shape[1], T, D), torch.randn(E, Q, T, D)


def test_prepare_keeps_leading_dimensions(metric):
    frames = torch.randn(2, 5, T, D)
    together = metric.prepare(frames)
    for name, x in metric.prepare(frames[1, 3]).items():
        assert together[name].shape[:2] == (2, 5)
        torch.testing.assert_close(together[name][1, 3], x, rtol=1e-5, atol=1e-5)


def test_episodes_together_equal_episodes_apart(metric):
    support, query = _episodes()
    together = _logits(metric, support, LABELS, query)
    assert together.shape == (E, Q, W)
    apart = [_logits(metric, support[e : e + 1], LABELS[e : e + 1], query[e : e + 1]) for e in range(E)]
    torch.testing.assert_close(together, torch.cat(apart), rtol=1e-4, atol=1e-5)


def test_classes_in_another_order_permute_the_logits(metric):
    support, query = _episodes()
    renamed = torch.tensor([2, 0, 1])
    logits, other = _logits(metric, support, LABELS, query), _logits(metric, support, renamed[LABELS], query)
    torch.testing.assert_close(other[..., renamed], logits, rtol=1e-4, atol=1e-5)


def test_supports_in_another_order_change_nothing(metric):
    support, query = _episodes()
    order = torch.randperm(LABELS.shape[1])
    other = _logits(metric, support[:, order], LABELS[:, order], query)
    torch.testing.assert_close(other, _logits(metric, support, LABELS, query), rtol=1e-4, atol=1e-5)


def test_a_query_does_not_depend_on_the_others(metric):
    support, query = _episodes()
    others = query.clone()
    others[:, 1:] = 100 * torch.randn_like(others[:, 1:])
    before, after = _logits(metric, support, LABELS, query), _logits(metric, support, LABELS, others)
    assert torch.equal(before[:, 0], after[:, 0])
    assert not torch.allclose(before[:, 1:], after[:, 1:])


def test_a_class_depends_on_its_own_supports_only(metric):
    support, query = _episodes()
    other = support.clone()
    other[LABELS == 1] = torch.randn_like(other[LABELS == 1])
    before, after = _logits(metric, support, LABELS, query), _logits(metric, other, LABELS, query)
    torch.testing.assert_close(before[..., [0, 2]], after[..., [0, 2]], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(before[..., 1], after[..., 1])


def test_finds_the_class_whose_video_it_has_seen(metric):
    support, _ = _episodes()
    query = support[:, 1:5] + 0.01 * torch.randn(E, 4, T, D)
    one_each = torch.arange(6).expand(E, -1)
    logits = _logits(metric, support, one_each, query, way=6)
    assert torch.equal(logits.argmax(-1), one_each[:, 1:5])


def test_bfloat16_and_autocast_stay_close(metric):
    support, query = (x.bfloat16() for x in _episodes())
    expected = _logits(metric, support.float(), LABELS, query.float())
    half = _logits(metric, support, LABELS, query)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = _logits(metric, support.float(), LABELS, query.float())
    assert half.dtype == cast.dtype == torch.float32
    for ours in (half, cast):
        torch.testing.assert_close(ours, expected, rtol=0.02, atol=0.02)


def test_float64_goes_through(metric):
    support, query = (x.double() for x in _episodes())
    logits = _logits(metric.double(), support, LABELS, query)
    assert logits.dtype == torch.float64
    torch.testing.assert_close(logits.float(), _logits(metric.float(), support.float(), LABELS, query.float()))


def test_gradients_reach_every_frame(metric):
    support, query = (x.requires_grad_() for x in _episodes())
    _logits(metric, support, LABELS, query).log_softmax(-1)[..., 0].sum().backward()
    for x in (support, query):
        assert x.grad.isfinite().all()
        assert (x.grad.abs().sum(-1) > 0).float().mean() > 0.9


@pytest.mark.parametrize("frames", [4, 16, 32])
def test_any_number_of_frames(frames):
    for name in set(METRICS) - {"trx"} if frames == 32 else METRICS:
        metric = build_metric(name, dim=D, frames=frames).eval()
        support = torch.randn(2, 3, frames, D)
        logits = _logits(metric, support, torch.arange(3).expand(2, -1), support[:, 1:2] + 0.01)
        assert logits.argmax(-1).tolist() == [[1], [1]]


@pytest.mark.parametrize("numbers", [1, 2_000])
def test_working_in_pieces_changes_nothing(metric, numbers, monkeypatch):
    support, query = _episodes()
    whole = _logits(metric, support, LABELS, query)
    monkeypatch.setattr(base, "CHUNK", numbers)
    torch.testing.assert_close(_logits(metric, support, LABELS, query), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("most", "pieces"), [(1, (1, 1)), (14, (1, 2)), (20, (1, 2)), (21, (1, 3)), (50, (2, 3)), (999, (4, 3))]
)
def test_pieces_are_as_large_as_may_be(most, pieces, monkeypatch):
    """Seven numbers for a query, of three in each of four episodes: whole episodes where one fits, else queries."""
    monkeypatch.setattr(base, "CHUNK", most)
    x, seen = torch.arange(12.0).view(4, 3), []

    def step(support, query):
        seen.append(tuple(query["x"].shape))
        return support["y"][:, None] + query["x"]

    found = in_pieces(step, {"y": 100 * torch.arange(4)}, {"x": x}, numbers=7)
    assert torch.equal(found, 100 * torch.arange(4)[:, None] + x)
    assert max(seen) == pieces and all(e * q * 7 <= most or e * q == 1 for e, q in seen)


@pytest.mark.parametrize("name", ["otam", "bimhm", "trx"])
def test_memory_does_not_grow_with_the_episodes(name, monkeypatch):
    monkeypatch.setattr(base, "CHUNK", 40_000)
    metric = build_metric(name, dim=D, frames=T).eval()

    def peak(episodes):
        support, query = torch.randn(episodes, 5, T, D), torch.randn(episodes, 20, T, D)
        given = metric.prepare(support), torch.arange(5).expand(episodes, 5), metric.prepare(query)
        with torch.inference_mode():
            metric.compare(*given, 5)
            return peak_bytes(lambda: metric.compare(*given, 5))

    few, many = peak(48), peak(96)  # both cut into pieces of the same size
    logits = 4 * 48 * 20 * 5  # bytes of those of the further episodes, held with the distances they come from
    assert few < 12 * 4 * 40_000
    assert many < few + 6 * logits


def test_scale_multiplies_the_logits():
    support, query = _episodes()
    for name in METRICS:
        torch.manual_seed(1)
        plain = build_metric(name, dim=D, frames=T).eval()
        torch.manual_seed(1)
        scaled = build_metric(name, dim=D, frames=T, scale=3.0).eval()
        expected = 3 * _logits(plain, support, LABELS, query)
        torch.testing.assert_close(_logits(scaled, support, LABELS, query), expected)


def test_nothing_is_made_on_another_device():
    """On the meta device, a tensor made on the CPU by mistake would stop the arithmetic."""
    cost = torch.empty(2, 3, 3, 3, device="meta")
    assert otam_distance(cost).shape == bimhm_distance(cost).shape == (2, 3)
    assert otam_distance(cost).device.type == "meta"


def test_class_mean_of_unbalanced_classes():
    values = torch.tensor([[[1.0, 2.0, 4.0, 9.0]]])
    assert class_mean(values, torch.tensor([[1, 0, 1, 1]]), 2).tolist() == [[[2.0, pytest.approx(14 / 3)]]]


def test_bad_labels_are_named(metric):
    support, query = _episodes()
    with pytest.raises(ValueError, match="class 3 of episode 0 no support"):
        _logits(metric, support, LABELS, query, way=4)
    with pytest.raises(ValueError, match="labels holds 2, but with way = 2 a label lies between 0 and 1"):
        _logits(metric, support, LABELS, query, way=2)


def test_unknown_names_and_short_videos_are_refused():
    with pytest.raises(ValueError, match="'otan' is unknown.*'otam'.*known are otam, bimhm"):
        build_metric("otan", dim=D, frames=T)
    with pytest.raises(ValueError, match="frames is 2.*at least 3"):
        build_metric("trx", dim=D, frames=2)
