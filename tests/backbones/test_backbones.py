"""One interface for towers of both kinds, and names that lead to the right one."""

import pytest
import torch

from vidlib import backbones
from vidlib.basics.errors import UserError
from vidlib.params.few_shot import FewShotParams


@pytest.mark.parametrize("name", ["clip-mini", "resnet-mini"])
def test_both_small_backbones_keep_the_interface(name):
    backbone = backbones.load(name, "")
    x = torch.randn(2, 3, backbone.image_size, backbone.image_size)
    maps, features = backbone.stages(x), backbone.encode_image(x)
    assert backbone.name == name and len(backbone.mean) == len(backbone.std) == 3
    assert [m.shape[1] for m in maps] == list(backbone.map_dims) and len(maps) == 4
    assert features.shape == backbone.pool(maps[-1]).shape == (2, backbone.embed_dim)
    assert min(maps[-1].shape[-2:]) >= 4
    assert len(backbone.encode_text(["a", "b"], ("{}",))) == 2
    assert bool(backbone.encode_text(["a"], ("{}",)).numel()) == backbone.has_text
    assert isinstance(backbone.logit_scale, float)
    assert not any(p.requires_grad for p in backbone.parameters())
    backbone.unfreeze()
    trained = {id(p) for p in backbone.parameters() if p.requires_grad}
    assert trained and trained <= {id(p) for p in backbone.trunk.parameters()}


def test_the_small_ones_come_first_and_no_name_twice():
    names = backbones.names()
    assert names[:2] == ("clip-mini", "resnet-mini") and len(set(names)) == len(names)
    assert {"ViT-B-16-quickgelu", "resnet50"} <= set(names)


@pytest.mark.parametrize(
    ("given", "meant"),
    [("resnet-min", "resnet-mini"), ("ResNet50", "resnet50"), ("ViT-B-16-quikgelu", "ViT-B-16-quickgelu")],
)
def test_a_misspelt_name_gets_the_nearest_of_either_kind(given, meant):
    for call in (backbones.check, backbones.load):
        with pytest.raises(UserError, match=f"'{given}' is unknown; did you mean.*'{meant}'"):
            call(given, "")


def test_freeze_bn_reaches_the_resnet():
    for freeze in (True, False):
        assert backbones.load("resnet-mini", "", freeze).freeze_bn is freeze


@pytest.mark.parametrize(
    ("backbone", "pretrained", "words"),
    [
        (
            "resnet-mini",
            "clip-mini",
            "clip-mini's weights do not fit backbone 'resnet-mini'; give pretrained=resnet-mini",
        ),
        ("clip-mini", "resnet-mini", "resnet-mini's weights do not fit.*give pretrained=clip-mini"),
        ("resnet50", "resnet-mini", "resnet-mini's weights do not fit backbone 'resnet50'; give a tag"),
        ("resnet50", "clip-mini", "clip-mini's weights do not fit backbone 'resnet50'; give a tag"),
    ],
)
def test_shipped_weights_fit_their_own_backbone_alone(backbone, pretrained, words):
    with pytest.raises(UserError, match=words):
        FewShotParams.parse({"backbone": backbone, "pretrained": pretrained})
    FewShotParams.parse({"backbone": "resnet-mini", "pretrained": "resnet-mini"})
