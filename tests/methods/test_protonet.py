"""ProtoNet: both forms against their equations, what each variant takes, blindness to order."""

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from tests.methods.small import batch, make, resnet, same
from vidlib.basics.errors import UserError


def pooled(method, clips):
    """``[E N T 3 H W] -> [E N C]``: mean frame features."""
    with torch.no_grad():
        return method.frame_features(clips.flatten(0, 1)).mean(1).unflatten(0, clips.shape[:2])


def test_paper_is_minus_the_squared_distance_to_the_mean_of_the_supports():
    method, episodes = make("protonet", metric_scale=0.5).eval(), batch(episodes=1, shots=(2, 1, 3))
    support, query = pooled(method, episodes.support)[0], pooled(method, episodes.query)[0]
    logits = method(episodes).logits[0]
    for c in range(3):
        prototype = support[episodes.support_labels[0] == c].mean(0)
        assert same(logits[:, c], -0.5 * (query - prototype).square().sum(-1))


def test_released_is_the_mean_cosine_of_the_supports_but_for_a_constant():
    method, episodes = make("protonet", variant="released").eval(), batch(episodes=1, shots=(2, 1, 3))
    support, query = pooled(method, episodes.support)[0], pooled(method, episodes.query)[0]
    lengths = query.norm(dim=-1)[:, None] * support.norm(dim=-1) + 0.01
    cosines = query @ support.T / lengths
    logits = method(episodes).logits[0]
    for c in range(3):
        assert same(logits[:, c] + 1, cosines[:, episodes.support_labels[0] == c].mean(-1))


def test_paper_with_a_cosine_takes_it_to_the_prototype():
    method, episodes = make("protonet", kind="cosine").eval(), batch(episodes=1, shots=(2, 1, 3))
    support, query = pooled(method, episodes.support)[0], pooled(method, episodes.query)[0]
    prototypes = torch.stack([support[episodes.support_labels[0] == c].mean(0) for c in range(3)])
    assert same(method(episodes).logits[0] + 1, F.cosine_similarity(query[:, None], prototypes[None], dim=-1))


def test_released_flag_for_distances_is_the_papers_form():
    episodes = batch(shots=(2, 1, 3))
    flagged = make("protonet", variant="released", kind="euclidean").eval()(episodes)
    assert torch.equal(flagged.logits, make("protonet").eval()(episodes).logits)


@pytest.mark.parametrize("on", [None, resnet], ids=["clip", "resnet"])
def test_the_order_of_a_querys_frames_changes_nothing(on):
    method, episodes = make("protonet", **({"on": on} if on else {})).eval(), batch()
    with torch.no_grad():
        backwards = dataclasses.replace(episodes, query=episodes.query.flip(2))
        assert same(method(episodes).logits, method(backwards).logits)


def test_wrong_arguments_are_refused():
    for wrong in ({"kind": "dot"}, {"variant": "release"}, {"finetune": "head"}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            make("protonet", **wrong)


def test_frozen_leaves_nothing_to_train():
    assert make("protonet", finetune="frozen").trainable() == {}
    assert [(name, value) for name, value, _ in make("protonet").unsettled()] == [("kind", "euclidean")]
