"""ResNets with their four stage maps.

`B` images, `H` `W` pixels, `D_i` channels of stage i, `C` width of a frame's feature (``embed_dim``, which is D_4).

Any timm ResNet by its name ("resnet50", "resnet18", ...), and ``resnet-mini``, whose weights ship with vidlib. Nothing
touches the network unless ``pretrained`` is a timm tag such as "tv_in1k" (torchvision's) or "a1_in1k".
"""

from pathlib import Path

import timm
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn

from vidlib.backbones import images, weights
from vidlib.backbones.images import ImageBackbone, save
from vidlib.basics.errors import UserError
from vidlib.basics.words import suggest

__all__ = ["MINI", "ResNetBackbone", "check", "load", "names", "save"]

MINI = "resnet-mini"
MINI_DIR = Path(__file__).parent / "resnet_mini"
MINI_SIZE = 64


class ResNetBackbone(ImageBackbone):
    """A timm ResNet as the methods see it (interface: ``vidlib.backbones``); every parameter starts frozen."""

    @property
    def map_dims(self) -> tuple[int, ...]:
        """Channels of the four stage maps."""
        return tuple(info["num_chs"] for info in self.trunk.feature_info[-4:])

    def stages(self, x: Tensor) -> list[Tensor]:
        """``[B 3 H W] -> [[B D_1 H/4 W/4], ..., [B D_4 H/32 W/32]]``; twice as high and wide in resnet-mini."""
        net = self.trunk
        x = net.maxpool(net.act1(net.bn1(net.conv1(x))))
        maps = []
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            x = stage(x)
            maps.append(x)
        return maps

    def pool(self, deepest: Tensor) -> Tensor:
        """``[B C h w] -> [B C]``: the mean over places."""
        return deepest.mean((-2, -1))

    def encode_image(self, x: Tensor) -> Tensor:
        """``[B 3 H W] -> [B C]``, after global average pooling."""
        return self.pool(self.stages(x)[-1])


def names() -> tuple[str, ...]:
    """Every name that ``backbone`` may take: resnet-mini first, then timm's ResNets."""
    return (MINI, *timm.list_models(module="resnet"))


def check(backbone: str, pretrained: str) -> None:
    """Raise UserError where ``load`` would for a reason that can be known without building or downloading anything."""
    if backbone not in names():
        otherwise = "choose resnet-mini or a timm ResNet such as resnet50."
        raise UserError(f"backbone {backbone!r} is unknown; {suggest(backbone, names(), otherwise, 3, 0.4)}")
    images.check_weights(backbone, pretrained, [MINI] if backbone == MINI else images.tags(backbone))


def load(backbone: str, pretrained: str, freeze_bn: bool = True) -> ResNetBackbone:
    """The ResNet ``backbone`` without its classifier, in float32 and evaluation mode, every parameter frozen.

    ``pretrained``: see ``images.load``; a file may have timm's or torchvision's keys, and where it tells nothing of its
    input, its size and normalisation are torchvision's.
    """
    check(backbone, pretrained)
    # where scales are frozen, a residual branch that starts at zero would stay there
    start = {"num_classes": 0, "zero_init_last": not freeze_bn}
    tag = backbone != MINI and pretrained in images.tags(backbone)
    if backbone == MINI:
        trunk, facts = _mini(**start), {"image_size": MINI_SIZE}
    else:
        trunk, facts = images.build(backbone, pretrained if tag else "", **start)
    if not tag:
        facts = {"image_size": facts["image_size"]}
    if pretrained and not tag:
        path = MINI_DIR / "weights.safetensors" if pretrained == MINI else weights.file_at(pretrained)
        facts |= images.fill(trunk, path, backbone)
    return ResNetBackbone(trunk, backbone, freeze_bn=freeze_bn, **facts)


def _mini(**start) -> ResNet:
    """One block a stage and no pooling in the stem: at 64 pixels the maps are 32, 16, 8 and 4 wide."""
    trunk = ResNet(BasicBlock, [1] * 4, channels=(16, 32, 128, 256), stem_type="deep", stem_width=8, **start)
    trunk.maxpool = nn.Identity()
    return trunk
