"""ResNets with their four stage maps: the only file that knows timm.

Any timm ResNet by its name ("resnet50", "resnet18", ...), and ``resnet-mini``, whose weights ship with vidlib.
"""

import timm
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn

MINI = "resnet-mini"


class ResNetBackbone(nn.Module):
    """A timm ResNet as the methods see it (interface: ``vidlib.backbones``); every parameter starts frozen.

    freeze_bn: BatchNorm keeps its running statistics, and its scales and shifts, in training too.
    """

    has_text = False
    logit_scale = 1.0

    def __init__(self, trunk: ResNet, name: str, image_size: int, mean, std, freeze_bn: bool = True) -> None:
        super().__init__()
        self.trunk = trunk.eval().requires_grad_(False)
        self.name, self.image_size, self.mean, self.std = name, image_size, tuple(mean), tuple(std)
        self.map_dims = tuple(info["num_chs"] for info in trunk.feature_info[-4:])
        self.embed_dim = self.map_dims[-1]
        self.freeze_bn = freeze_bn

    def stages(self, x: Tensor) -> list[Tensor]:
        """``[B 3 H W] -> [[B D_1 H/4 W/4], ..., [B D_4 H/32 W/32]]``."""
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

    def encode_text(self, names, templates=()) -> Tensor:
        """``[W 0]``: a ResNet has no text tower."""
        return next(self.trunk.parameters()).new_zeros(len(names), 0)

    def unfreeze(self) -> None:
        """Full tuning: the whole trunk trains, BatchNorm's scales and shifts only without ``freeze_bn``."""
        self.trunk.requires_grad_(True)
        if self.freeze_bn:
            for norm in self._norms():
                norm.requires_grad_(False)

    def train(self, mode: bool = True) -> "ResNetBackbone":
        """As ever; with ``freeze_bn`` BatchNorm stays in evaluation mode."""
        super().train(mode)
        if self.freeze_bn:
            for norm in self._norms():
                norm.eval()
        return self

    def _norms(self) -> list[nn.Module]:
        return [m for m in self.trunk.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def names() -> tuple[str, ...]:
    return (MINI, *timm.list_models(module="resnet"))


def check(backbone: str, pretrained: str) -> None:
    pass


def load(backbone: str, pretrained: str, freeze_bn: bool = True) -> ResNetBackbone:
    if backbone == MINI:
        trunk = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=0, channels=(32, 64, 128, 256))
        return ResNetBackbone(trunk, backbone, 64, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), freeze_bn)
    trunk = timm.create_model(backbone, pretrained=False, num_classes=0)
    return ResNetBackbone(trunk, backbone, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), freeze_bn)
