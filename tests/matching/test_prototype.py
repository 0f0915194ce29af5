"""Prototype and order-free cosine against their equations, one query and one class at a time."""

import pytest
import torch
from torch.nn import functional as F

from vidlib.matching.prototype import Cosine, MeanPrototype

LABELS = torch.tensor([[2, 0, 1, 0, 2, 2]])


def _episode() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(1, 6, 5, 7), torch.randn(1, 4, 3, 7)


def _logits(metric, support, query):
    return metric.compare(metric.prepare(support), LABELS, metric.prepare(query), 3)[0]


def test_euclidean():
    support, query = _episode()
    logits = _logits(MeanPrototype(), support, query)
    for q in range(4):
        for c in range(3):
            prototype = support[0, LABELS[0] == c].mean(dim=(0, 1))
            expected = -((query[0, q].mean(dim=0) - prototype) ** 2).sum()
            torch.testing.assert_close(logits[q, c], expected, rtol=1e-4, atol=1e-5)


def test_cosine_to_the_prototype_and_mean_cosine_to_the_videos_differ():
    support, query = _episode()
    to_prototype, to_videos = (
        _logits(metric, support, query) for metric in (MeanPrototype("cosine", eps=1e-9), Cosine(eps=1e-9))
    )
    for q in range(4):
        for c in range(3):
            video, others = query[0, q].mean(dim=0), support[0, LABELS[0] == c].mean(dim=1)
            expected = F.cosine_similarity(video, others.mean(dim=0), dim=0) - 1
            torch.testing.assert_close(to_prototype[q, c], expected, rtol=1e-4, atol=1e-5)
            expected = torch.stack([F.cosine_similarity(video, other, dim=0) for other in others]).mean() - 1
            torch.testing.assert_close(to_videos[q, c], expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(to_prototype, to_videos)


@pytest.mark.parametrize(
    "metric", [MeanPrototype(), MeanPrototype("cosine"), Cosine()], ids=["l2", "proto-cos", "cosine"]
)
def test_blind_to_the_order_of_frames(metric):
    support, query = _episode()
    shuffled = support[:, :, torch.randperm(5)]
    torch.testing.assert_close(_logits(metric, shuffled, query), _logits(metric, support, query))


def test_refuses_an_unknown_kind():
    with pytest.raises(ValueError, match="kind is 'manhattan'"):
        MeanPrototype("manhattan")
