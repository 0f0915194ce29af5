"""OTAM against the released code, against the literal version, and in the properties that must hold."""

import pytest
import torch

from tests.conftest import golden
from tests.literal import otam as literal
from vidlib.matching.base import frame_cost
from vidlib.matching.otam import OTAM, otam_distance, otam_path


def _literal(cost: torch.Tensor, lam: float) -> torch.Tensor:
    tables = cost.double().flatten(0, -3).tolist()
    return torch.tensor([literal.otam(table, lam) for table in tables]).view(cost.shape[:-2])


def _close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_golden_distances():
    _, t = golden("otam")
    dists = t["input.dists"]
    _close(otam_distance(dists, 0.1), t["output.v1_lbda0.1_q2s"])
    _close(otam_distance(dists.mT, 0.1), t["output.v1_lbda0.1_s2q"])
    _close(otam_distance(dists, 0.5), t["output.v2_lbda0.5_q2s"])
    _close(otam_distance(dists.mT, 0.5), t["output.v2_lbda0.5_s2q"])
    _close(otam_distance(dists, 0.2), t["output.v2_lbda0.2_q2s"])
    _close(otam_distance(t["input.dists_rect"], 0.5), t["output.v2_lbda0.5_rect"])


def test_finite_where_the_released_code_overflows():
    _, t = golden("otam")
    released, cost = t["output.overflow_v1_q2s"], t["input.dists_overflow"]
    ours = otam_distance(cost, 0.1)
    assert ours.isfinite().all()
    _close(ours[released.isfinite()], released[released.isfinite()])
    _close(ours, _literal(cost, 0.1).float())


@pytest.mark.parametrize("shot", [1, 5])
def test_golden_logits(shot):
    _, t = golden("otam")
    labels = t[f"input.support_labels_{shot}shot"]
    metric = OTAM(lam=0.1)
    support = metric.prepare(t[f"input.support_{shot}shot"][None])
    logits = metric.compare(support, labels[None], metric.prepare(t["input.query"][None]), way=int(labels.max()) + 1)
    _close(logits[0], t[f"output.logits_{shot}shot"])


def test_golden_cosine():
    _, t = golden("otam")
    cost = frame_cost(t["input.query"][None], t["input.support_1shot"][None])[0]
    _close(1 - cost.permute(0, 2, 1, 3).reshape(t["output.cos_sim"].shape), t["output.cos_sim"])


@pytest.mark.parametrize(("tq", "ts"), [(1, 1), (1, 5), (5, 1), (2, 2), (4, 4), (8, 8), (6, 9), (16, 16), (32, 32)])
@pytest.mark.parametrize("lam", [0.1, 0.5])
def test_equals_the_literal_recursion(tq, ts, lam):
    cost = 2 * torch.rand(2, 3, tq, ts)
    _close(otam_distance(cost, lam), _literal(cost, lam).float())
    _close(otam_distance(cost.double(), lam), _literal(cost, lam).double())


def test_from_frames_equals_the_literal_version():
    metric, support, query = OTAM(lam=0.1), torch.randn(1, 3, 6, 5), torch.randn(1, 2, 8, 5)
    distance = metric.distance(metric.prepare(support), metric.prepare(query))
    for q in range(2):
        for s in range(3):
            cost = literal.cosine_cost(query[0, q].tolist(), support[0, s].tolist(), eps=0.01)
            assert distance[0, q, s].item() == pytest.approx(literal.both_directions(cost, 0.1), rel=1e-4)
    one_way = OTAM(lam=0.1, bidirectional=False)
    cost = literal.cosine_cost(query[0, 1].tolist(), support[0, 2].tolist(), eps=0.01)
    there = one_way.distance(one_way.prepare(support), one_way.prepare(query))[0, 1, 2].item()
    assert there == pytest.approx(literal.otam(cost, 0.1), rel=1e-4)


def test_an_episode_equals_the_literal_version():
    support, query, labels = torch.randn(5, 7, 6), torch.randn(3, 4, 6), torch.tensor([1, 0, 2, 1, 1])
    metric = OTAM(lam=0.2)
    logits = metric.compare(metric.prepare(support[None]), labels[None], metric.prepare(query[None]), 3)[0]
    _close(logits, literal.logits(support, labels, query, lam=0.2))


@pytest.mark.parametrize("lam", [0.1, 0.5])
@pytest.mark.parametrize("shape", [(2, 4, 4), (1, 3, 5), (2, 1, 3), (1, 3, 1)])
def test_gradients(shape, lam):
    cost = torch.rand(*shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: otam_distance(x, lam), cost)


def test_gradients_are_finite_where_the_released_code_overflows():
    cost = (1.5 + 0.4 * torch.rand(2, 32, 32)).requires_grad_()
    otam_distance(cost, 0.1).sum().backward()
    assert cost.grad.isfinite().all()
    # Every alignment crosses each support frame but the first exactly once, so the shares of a column add up to 1.
    _close(cost.grad.sum(dim=1)[:, 1:], torch.ones(2, 31))


def test_bfloat16_is_computed_in_float32():
    cost = torch.rand(3, 8, 8).bfloat16()
    ours = otam_distance(cost, 0.1)
    assert ours.dtype == torch.float32
    _close(ours, _literal(cost.float(), 0.1).float())


def test_same_order_different_order():
    """A video is nearer to itself than to itself backwards, and the order-free part of the features is the same."""
    frames = torch.randn(1, 4, 8, 64)
    metric = OTAM()
    labels = torch.arange(4)[None]
    same = metric.compare({"frames": frames}, labels, {"frames": frames}, 4)
    backwards = metric.compare({"frames": frames}, labels, {"frames": frames.flip(2)}, 4)
    assert (same.argmax(-1) == labels).all()
    assert (same.diagonal(dim1=1, dim2=2) > backwards.diagonal(dim1=1, dim2=2) + 1).all()


def test_path_of_a_known_alignment():
    cost = torch.ones(4, 4)
    cost[[0, 1, 2, 3], [0, 1, 2, 3]] = 0.0
    assert otam_path(cost).tolist() == [[0, 0], [1, 1], [2, 2], [3, 3]]
    late = torch.ones(5, 3)
    late[[2, 3, 4], [0, 1, 2]] = 0.0
    assert otam_path(late).tolist() == [[2, 0], [3, 1], [4, 2]]


@pytest.mark.parametrize(("tq", "ts"), [(8, 8), (5, 9), (9, 5), (1, 4), (4, 1)])
def test_path_is_where_the_soft_cost_goes_as_lam_falls(tq, ts):
    cost = torch.rand(tq, ts, dtype=torch.float64)
    path = otam_path(cost)
    assert (path.diff(dim=0) >= 0).all() and (path.diff(dim=0) <= 1).all()
    assert sorted(set(path[:, 1].tolist())) == list(range(ts)), "every support frame is crossed"
    total = cost[path[:, 0], path[:, 1]].sum()
    torch.testing.assert_close(otam_distance(cost, 1e-4), total, rtol=0, atol=1e-2)


def test_refuses_a_softness_of_zero():
    with pytest.raises(ValueError, match="lam is 0"):
        OTAM(lam=0)
