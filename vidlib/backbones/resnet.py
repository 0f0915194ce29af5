"""ResNets with their four stage maps: the only file that knows timm.

`B` images, `H` `W` pixels, `D_i` channels of stage i, `C` width of a frame's feature (``embed_dim``, which is D_4).

Any timm ResNet by its name ("resnet50", "resnet18", ...), and ``resnet-mini``, whose weights ship with vidlib. Nothing
touches the network unless ``pretrained`` is a timm tag such as "tv_in1k" (torchvision's) or "a1_in1k".
"""

import json
from collections.abc import Sequence
from pathlib import Path

import timm
from safetensors.torch import save_file
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn

from vidlib.backbones import weights
from vidlib.basics.errors import UserError
from vidlib.basics.paths import absolute, atomic_write
from vidlib.basics.words import suggest

MINI = "resnet-mini"
MINI_DIR = Path(__file__).parent / "resnet_mini"
MINI_SIZE = 64
MEAN, STD = timm.data.IMAGENET_DEFAULT_MEAN, timm.data.IMAGENET_DEFAULT_STD  # what torchvision normalises with


class ResNetBackbone(nn.Module):
    """A timm ResNet as the methods see it (interface: ``vidlib.backbones``); every parameter starts frozen.

    freeze_bn: BatchNorm keeps its running statistics, and its scales and shifts, in training too. A trunk that is not
    unfrozen keeps them anyway.
    """

    has_text = False
    logit_scale = 1.0

    def __init__(
        self,
        trunk: ResNet,
        name: str,
        image_size: int,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
        freeze_bn: bool = True,
    ) -> None:
        super().__init__()
        self.trunk = trunk.requires_grad_(False)
        self.name, self.image_size, self.mean, self.std = name, image_size, tuple(mean), tuple(std)
        self.map_dims = tuple(info["num_chs"] for info in trunk.feature_info[-4:])
        self.embed_dim = self.map_dims[-1]
        self.freeze_bn = freeze_bn
        self.eval()

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

    def encode_text(self, names: Sequence[str], templates: Sequence[str] = ()) -> Tensor:
        """``[W 0]``: a ResNet has no text tower."""
        return next(self.trunk.parameters()).new_zeros(len(names), 0)

    def unfreeze(self) -> None:
        """Full tuning: the whole trunk trains, BatchNorm only without ``freeze_bn``."""
        self.trunk.requires_grad_(True)
        if self.freeze_bn:
            for norm in self._norms():
                norm.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "ResNetBackbone":
        """As ever, but a BatchNorm whose scales do not train stays in evaluation mode."""
        super().train(mode)
        for norm in self._norms():
            norm.train(mode and norm.weight.requires_grad)
        return self

    def _norms(self) -> list[nn.Module]:
        return [m for m in self.trunk.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def names() -> tuple[str, ...]:
    """Every name that ``backbone`` may take: resnet-mini first, then timm's ResNets."""
    return (MINI, *timm.list_models(module="resnet"))


def check(backbone: str, pretrained: str) -> None:
    """Raise UserError where ``load`` would for a reason that can be known without building or downloading anything."""
    if backbone not in names():
        otherwise = "choose resnet-mini or a timm ResNet such as resnet50."
        raise UserError(f"backbone {backbone!r} is unknown; {suggest(backbone, names(), otherwise, 3, 0.4)}")
    tags = _tags(backbone)
    if pretrained == "" or pretrained in tags:
        return
    path = absolute(pretrained)
    if not path.is_file():
        raise UserError(
            f"pretrained {pretrained!r} is neither a tag of {backbone} ({', '.join(tags) or 'it has none'}) nor "
            f"a file (tried {path}; '' gives random weights); {suggest(pretrained, tags, 'give one of them.', 3, 0.4)}"
        )


def load(backbone: str, pretrained: str, freeze_bn: bool = True) -> ResNetBackbone:
    """The ResNet ``backbone`` without its classifier, in float32 and evaluation mode, every parameter frozen.

    ``pretrained``: "" for random weights (from torch's current seed), a tag that timm knows for this name (downloaded,
    or read from its cache), or a file: safetensors, or a state dict in a .pt or .pth file, with timm's or torchvision's
    keys. Size and normalisation are those of the tag; for a file those that ``save`` noted, else torchvision's.
    """
    check(backbone, pretrained)
    # where scales are frozen, a residual branch that starts at zero would stay there
    start = {"num_classes": 0, "zero_init_last": not freeze_bn}
    path = absolute(pretrained) if pretrained else None
    if backbone == MINI:
        trunk, facts = _mini(**start), {"image_size": MINI_SIZE}
        path = MINI_DIR / "weights.safetensors" if pretrained == MINI else path
    elif pretrained in _tags(backbone):
        try:
            trunk = timm.create_model(f"{backbone}.{pretrained}", pretrained=True, **start)
        except Exception as cause:  # the hub's client fails in many ways
            raise UserError(
                f"pretrained {pretrained!r} for backbone {backbone!r} could not be downloaded "
                f"({_first_line(cause)}); give a local file instead."
            ) from cause
        config, path = trunk.pretrained_cfg, None
        facts = {"image_size": config["input_size"][-1], "mean": config["mean"], "std": config["std"]}
    else:
        trunk = timm.create_model(backbone, pretrained=False, **start)
        facts = {"image_size": trunk.pretrained_cfg.get("input_size", (3, 224, 224))[-1]}
    if path is not None:
        facts |= _load_weights(trunk, path, backbone)
    return ResNetBackbone(trunk, backbone, freeze_bn=freeze_bn, **facts)


def save(backbone: ResNetBackbone, path: str | Path) -> None:
    """Write the trunk as safetensors, with its name, size and normalisation, so that ``load`` refuses a wrong name."""
    state = {key: value.detach().cpu().contiguous() for key, value in backbone.trunk.state_dict().items()}
    facts = {"image_size": backbone.image_size, "mean": backbone.mean, "std": backbone.std}
    with atomic_write(path) as temporary:
        save_file(state, temporary, metadata={"backbone": backbone.name, "input": json.dumps(facts)})


def _mini(**start) -> ResNet:
    """One block a stage and no pooling in the stem: at 64 pixels the maps are 32, 16, 8 and 4 wide."""
    trunk = ResNet(BasicBlock, [1] * 4, channels=(16, 32, 128, 256), stem_type="deep", stem_width=8, **start)
    trunk.maxpool = nn.Identity()
    return trunk


def _tags(backbone: str) -> list[str]:
    if backbone == MINI:
        return [MINI]
    return [name.split(".", 1)[1] for name in timm.list_models(f"{backbone}.*", pretrained=True)]


def _load_weights(trunk: nn.Module, path: Path, backbone: str) -> dict:
    """Fill ``trunk`` from a file; UserError names keys that do not fit. -> what the file tells about the input."""
    stored = weights.read(path)
    facts = stored.notes
    if facts.get("backbone", backbone) != backbone:
        raise UserError(
            f"pretrained file {path} holds weights of another backbone; "
            f"the right name is backbone={facts['backbone']!r}."
        )
    state = {key: value for key, value in weights.tidy(stored.tensors).items() if not key.startswith("fc.")}
    if problem := weights.misfit(trunk.state_dict(), state):
        raise UserError(f"pretrained file {path} does not fit backbone {backbone!r}: {problem}.")
    trunk.load_state_dict(state, strict=False)
    return json.loads(facts.get("input", "{}"))


def _first_line(cause: Exception) -> str:
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0][:160]
