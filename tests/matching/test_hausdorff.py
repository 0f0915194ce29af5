"""Bi-MHM against the released code and the literal version."""

import pytest
import torch

from tests.conftest import golden
from tests.literal.bimhm import bimhm
from tests.literal.bimhm import logits as literal_logits
from vidlib.matching.hausdorff import BiMHM, bimhm_distance


def test_golden_logits():
    _, t = golden("bimhm")
    metric, labels = BiMHM(), t["input.mhm_labels"][None]
    support, query = metric.prepare(t["input.mhm_support"][None]), metric.prepare(t["input.mhm_query"][None])
    logits = metric.compare(support, labels, query, way=int(labels.max()) + 1)[0]
    torch.testing.assert_close(logits, t["output.mhm_logits"], rtol=1e-4, atol=1e-5)


def test_golden_logits_where_every_query_has_its_own_supports():
    _, t = golden("bimhm")
    metric, support = BiMHM(), t["input.mhm_support_perquery"]
    labels = t["input.mhm_labels"].expand(len(support), -1)
    query = metric.prepare(t["input.mhm_query"][:, None])
    logits = metric.compare(metric.prepare(support), labels, query, way=int(labels.max()) + 1)[:, 0]
    torch.testing.assert_close(logits, t["output.mhm_logits_distinct"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("tq", "ts"), [(1, 1), (4, 4), (8, 8), (5, 9), (32, 32)])
def test_equals_the_literal_version(tq, ts):
    cost = torch.rand(2, 3, tq, ts)
    expected = torch.tensor([bimhm(table) for table in cost.flatten(0, 1).tolist()]).view(2, 3)
    torch.testing.assert_close(bimhm_distance(cost), expected, rtol=1e-5, atol=1e-5)


def test_an_episode_equals_the_literal_version():
    support, query, labels = torch.randn(5, 7, 6), torch.randn(3, 4, 6), torch.tensor([1, 0, 2, 1, 1])
    metric = BiMHM()
    logits = metric.compare(metric.prepare(support[None]), labels[None], metric.prepare(query[None]), 3)[0]
    torch.testing.assert_close(logits, literal_logits(support, labels, query), rtol=1e-4, atol=1e-5)


def test_means_divide_each_direction_by_its_frames():
    cost = torch.tensor([[0.0, 1.0, 0.5], [1.0, 0.25, 1.0]])
    assert bimhm_distance(cost).item() == pytest.approx((0 + 0.25) + (0 + 0.25 + 0.5))
    assert bimhm_distance(cost, mean=True).item() == pytest.approx((0 + 0.25) / 2 + (0 + 0.25 + 0.5) / 3)


def test_gradients():
    cost = torch.rand(2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(bimhm_distance, cost)


def test_a_video_of_zeros_is_finite():
    metric, nothing = BiMHM(), {"frames": torch.zeros(1, 2, 4, 3)}
    logits = metric.compare(nothing, torch.tensor([[0, 1]]), nothing, 2)
    torch.testing.assert_close(logits, torch.full((1, 2, 2), -8.0))
