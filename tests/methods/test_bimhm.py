"""Bi-MHM alone: the method's logits from frames on, its variants, blindness to order."""

import dataclasses

import pytest
import torch

from tests.conftest import golden
from tests.literal.bimhm import bimhm
from tests.methods.small import FRAMES, batch, make, resnet, same
from vidlib import methods


def test_golden_logits_from_frames_on():
    _, t = golden("bimhm")
    method, labels = methods.build("bimhm", resnet(), variant="released"), t["input.mhm_labels"][None]
    support, query = (method.metric.prepare(t[f"input.mhm_{role}"][None]) for role in ("support", "query"))
    way = int(labels.max()) + 1
    logits = method.match(support, labels, query, torch.empty(1, way, 0)).logits[0]
    torch.testing.assert_close(logits, t["output.mhm_logits"], rtol=1e-4, atol=1e-5)


def test_equals_the_literal_version_from_clips_on():
    method, episodes = make("bimhm", variant="released", metric_scale=2.0).eval(), batch(episodes=1, shots=(2, 1, 1))
    with torch.no_grad():
        support, query = (method.frame_features(x[0]) for x in (episodes.support, episodes.query))
        logits = method(episodes).logits[0]
    labels = episodes.support_labels[0]
    for q in range(len(query)):
        for c in range(3):
            costs = [
                [[float(1 - torch.cosine_similarity(a, b, dim=0)) for b in other] for a in query[q]]
                for other in support[labels == c]
            ]
            expected = -2 * sum(bimhm(cost) for cost in costs) / len(costs)
            assert logits[q, c].item() == pytest.approx(expected, rel=1e-4)


def test_paper_averages_over_frames_what_released_sums():
    episodes = batch()
    paper, released = (make("bimhm", variant=v).eval()(episodes).logits for v in ("paper", "released"))
    assert same(released, FRAMES * paper)
    assert torch.equal(make("bimhm", mean=False).eval()(episodes).logits, released)
    assert [(name, value) for name, value, _ in make("bimhm").unsettled()] == [("mean", True)]


@pytest.mark.parametrize("on", [None, resnet], ids=["clip", "resnet"])
def test_the_order_of_a_querys_frames_changes_nothing(on):
    method, episodes = make("bimhm", **({"on": on} if on else {})).eval(), batch()
    with torch.no_grad():
        backwards = dataclasses.replace(episodes, query=episodes.query.flip(2))
        assert same(method(episodes).logits, method(backwards).logits)
