"""OTAM: the method's logits from frames on, its variants, its sense of order, a released trunk."""

import dataclasses

import pytest
import torch
import torchvision
from timm.models.resnet import BasicBlock, ResNet
from torch import nn
from torchvision.models.resnet import BasicBlock as TorchvisionBlock

from tests.conftest import golden
from tests.literal import otam as literal
from tests.methods.small import batch, make, resnet, same
from vidlib import methods
from vidlib.backbones.resnet import ResNetBackbone
from vidlib.basics.errors import UserError


@pytest.mark.parametrize("shot", [1, 5])
def test_golden_logits_from_frames_on(shot):
    _, t = golden("otam")
    method, labels = methods.build("otam", resnet(), variant="released"), t[f"input.support_labels_{shot}shot"][None]
    support, query = (method.metric.prepare(t[f"input.{x}"][None]) for x in (f"support_{shot}shot", "query"))
    way = int(labels.max()) + 1
    logits = method.match(support, labels, query, torch.empty(1, way, 0)).logits[0]
    torch.testing.assert_close(logits, t[f"output.logits_{shot}shot"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("variant", "eps"), [("paper", 0.0), ("released", 0.01)])
def test_equals_the_literal_version_from_clips_on(variant, eps):
    arguments = {"variant": variant, "lam": 0.3, "metric_scale": 2.0}
    method, episodes = make("otam", **arguments).eval(), batch(episodes=1, shots=(2, 1, 1))
    with torch.no_grad():
        support, query = (method.frame_features(x[0]).tolist() for x in (episodes.support, episodes.query))
        logits = method(episodes).logits[0]
    for q in range(len(query)):
        for c in range(3):
            mine = [video for video, label in zip(support, episodes.support_labels[0], strict=True) if label == c]
            costs = [literal.both_directions(literal.cosine_cost(query[q], video, eps), 0.3) for video in mine]
            assert logits[q, c].item() == pytest.approx(-2 * sum(costs) / len(costs), rel=1e-4, abs=1e-5)


def test_the_order_of_a_querys_frames_matters():
    method, episodes = make("otam").eval(), batch()
    backwards = dataclasses.replace(episodes, query=episodes.query.flip(2))
    assert not same(method(episodes).logits, method(backwards).logits, 1e-3)


def test_choices_and_refusals():
    assert {name: value for name, value, _ in make("otam", lam=0.5).unsettled()} == {"lam": 0.5, "bidirectional": True}
    with pytest.raises(UserError, match="lam is 0"):
        make("otam", lam=0)


@pytest.mark.parametrize("prefix", ["resnet.", "backbone.", "resnet.module."])
def test_takes_the_trunk_of_a_released_file(prefix):
    """The released codes keep torchvision's children in a Sequential without the classifier."""
    theirs = torchvision.models.ResNet(TorchvisionBlock, [1, 1, 1, 1]).eval()
    for norm in (m for m in theirs.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.normal_()
    theirs = nn.Sequential(*list(theirs.children())[:-1])
    method = methods.build("otam", ResNetBackbone(ResNet(BasicBlock, [1, 1, 1, 1], num_classes=0), "tiny", 64))
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        wanted = theirs(x).flatten(1)
        assert not same(method.backbone.encode_image(x), wanted)
        method.load_released({f"{prefix}{key}": value for key, value in theirs.state_dict().items()})
        assert same(method.backbone.encode_image(x), wanted)


def test_a_trunk_that_does_not_fit_is_an_error():
    state = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=0).state_dict()
    names = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    state = {"resnet." + names[key.split(".")[0]] + key[len(key.split(".")[0]) :]: x for key, x in state.items()}
    del state["resnet.4.0.conv1.weight"]
    method = methods.build("otam", ResNetBackbone(ResNet(BasicBlock, [1, 1, 1, 1], num_classes=0), "tiny", 64))
    with pytest.raises(RuntimeError, match="layer1.0.conv1.weight"):
        method.load_released(state)
