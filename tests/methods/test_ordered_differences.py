"""Ordered differences: steps between frames, projected, joined in order, against the class's mean."""

import pytest
import torch
from torch.nn import functional as F

from tests.methods.small import FRAMES, WAY, backbone, batch, make, resnet, same
from vidlib import methods
from vidlib.basics.errors import UserError
from vidlib.testing import check_method


def literal(method, episodes) -> torch.Tensor:
    """Logits [E Q W], one number at a time."""

    def vector(clip: torch.Tensor) -> torch.Tensor:
        features = method.backbone.encode_image(clip)
        steps = [method.projection.weight @ (features[t + 1] - features[t]) for t in range(len(features) - 1)]
        return torch.cat(steps)

    logits = torch.zeros(*episodes.query.shape[:2], WAY)
    for e, (support, labels) in enumerate(zip(episodes.support, episodes.support_labels, strict=True)):
        vectors = [vector(clip) for clip in support]
        for c in range(WAY):
            mean = torch.stack([v for v, label in zip(vectors, labels, strict=True) if label == c]).mean(0)
            for q, clip in enumerate(episodes.query[e]):
                logits[e, q, c] = method.scale * F.cosine_similarity(vector(clip), mean, dim=0)
    return logits


@pytest.mark.parametrize("on", [backbone, resnet])
def test_logits_are_the_cosines_of_joined_steps(on):
    episodes = batch(shots=(2, 1, 3), pixels=16 if on == backbone else 64)
    method = make("ordered_differences", on=on).eval()
    with torch.no_grad():
        match = method(episodes)
        assert same(match.logits, literal(method, episodes), 1e-4)
    assert match.logits.abs().max() <= method.scale and same(match.loss, match.losses["q2s"])


def test_order_matters_and_appearance_that_stays_does_not():
    method, episodes = make("ordered_differences").eval(), batch(shots=(1, 1, 1))
    with torch.no_grad():
        before = method(episodes).logits
        episodes.query = episodes.query.flip(2)
        assert not same(before, method(episodes).logits, 1e-2)
        frames = torch.randn(2, FRAMES, 16)
        assert same(method.path(frames), method.path(frames + torch.randn(2, 1, 16)), 1e-4)


def test_the_projection_alone_is_trained_and_counts_feature_width_times_width():
    method = make("ordered_differences")
    assert list(method.trainable()) == ["projection.weight"]
    assert sum(p.numel() for p in method.trainable().values()) == 16 * 64
    assert make("ordered_differences", width=5).embed(batch().support[0], None, "query")["path"].shape[1] == 10


@pytest.mark.parametrize("name", ["clip-mini", "resnet-mini"])
def test_the_contract_holds(name):
    assert set(check_method("ordered_differences", name)["holds"]) == {"yes"}


def test_one_frame_has_no_step():
    with pytest.raises(UserError, match="2 frames or more"):
        methods.build("ordered_differences", backbone(), frames=1)
