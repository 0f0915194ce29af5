"""Towers of timm, which know no texts: any of its image models by its name, and what ``resnet`` shares with them.

`B` images, `C` width of a frame's feature (``embed_dim``).

A name that open_clip has too means open_clip's model; timm's is then ``timm:NAME``. Nothing touches the network unless
``pretrained`` is a timm tag such as "lvd142m".
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import open_clip
import timm
from safetensors.torch import save_file
from torch import Tensor, nn

from vidlib.backbones import clip_names, vit, weights
from vidlib.basics.errors import UserError
from vidlib.basics.paths import absolute, atomic_write
from vidlib.basics.words import few, first_line, suggest

PREFIX = "timm:"
MEAN, STD = timm.data.IMAGENET_DEFAULT_MEAN, timm.data.IMAGENET_DEFAULT_STD  # what torchvision normalises with


class ImageBackbone(vit.Adaptable, nn.Module):
    """A timm model as the methods see it (interface: ``vidlib.backbones``); every parameter starts frozen.

    Of a ViT it also has what ``vidlib.backbones.vit`` lists. freeze_bn: BatchNorm keeps its running statistics, and its
    scales and shifts, in training too. A trunk that is not unfrozen keeps them anyway, and nothing is dropped out.
    """

    has_text = False
    logit_scale = 1.0
    logit_bias = None

    def __init__(
        self,
        trunk: nn.Module,
        name: str,
        image_size: int,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
        freeze_bn: bool = True,
    ) -> None:
        super().__init__()
        self.trunk = trunk.requires_grad_(False)
        self.name, self.image_size, self.mean, self.std = name, image_size, tuple(mean), tuple(std)
        self.embed_dim = getattr(trunk, "head_hidden_size", trunk.num_features)
        self.texts_need = f"class texts need a CLIP, and backbone {name!r} is an image model alone."
        self.vit = vit.view(trunk)
        self.freeze_bn = freeze_bn
        self.eval()

    @property
    def visual(self) -> nn.Module:
        return self.trunk

    def encode_image(self, x: Tensor) -> Tensor:
        """``[B 3 H W] -> [B C]``: timm's own feature before a classifier; of an encoder without pooling the mean."""
        y = self.trunk(x)
        return y if y.ndim == 2 else y.mean((-2, -1)) if y.ndim == 4 else y.mean(1)

    def encode_text(self, names: Sequence[str], templates: Sequence[str] = ()) -> Tensor:
        """``[W 0]``: there is no text tower."""
        return next(self.trunk.parameters()).new_zeros(len(names), 0)

    def unfreeze(self) -> None:
        """Full tuning: the whole trunk trains, BatchNorm only without ``freeze_bn``."""
        self.trunk.requires_grad_(True)
        if self.freeze_bn:
            for norm in self._norms():
                norm.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "ImageBackbone":
        """The trunk stays in evaluation mode, but for a BatchNorm whose scales train."""
        super().train(mode)
        self.trunk.eval()
        for norm in self._norms():
            norm.train(mode and norm.weight is not None and norm.weight.requires_grad)
        return self

    def _norms(self) -> list[nn.Module]:
        return [m for m in self.trunk.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


@cache
def names() -> tuple[str, ...]:
    """timm's models that are no ResNets, by the names that ``backbone`` may take."""
    others = [name for name in timm.list_models() if name not in set(timm.list_models(module="resnet"))]
    return tuple(f"{PREFIX}{name}" if name in open_clip.list_models() else name for name in others)


def check(backbone: str, pretrained: str) -> None:
    """Raise UserError where ``load`` would for a reason that can be known without building or downloading anything."""
    name = bare(backbone)
    if name not in timm.list_models():
        whole, _, tag = name.rpartition(".")
        otherwise = "choose a timm model such as vit_base_patch14_dinov2."
        if whole in timm.list_models():
            raise UserError(f"backbone {backbone!r} names its weights too; give {whole!r}, and pretrained={tag!r}.")
        known = [each for each in names() if name in each]  # "dinov2" is part of many
        said = f"there are {few(known)}." if known else suggest(backbone, names(), otherwise, 3, 0.4)
        raise UserError(f"backbone {backbone!r} is unknown; {said}")
    check_weights(backbone, pretrained, tags(backbone))
    height, width = _size(name)
    if height != width:
        raise UserError(f"backbone {backbone!r} takes pictures of {height} x {width}, and clips are square here.")


def check_weights(backbone: str, pretrained: str, known: Sequence[str]) -> None:
    """UserError where ``pretrained`` is neither a tag of ``known`` nor a file, nor a folder with one."""
    if pretrained and pretrained not in known and not weights.file_at(pretrained):
        raise UserError(
            f"pretrained {pretrained!r} is neither a tag of {backbone} ({few(known, 12) or 'it has none'}) nor a file "
            f"or a folder with one (tried {absolute(pretrained)}; '' gives random weights); "
            f"{suggest(pretrained, known, 'give one of them.', 3, 0.4)}"
        )


def load(backbone: str, pretrained: str, freeze_bn: bool = True) -> ImageBackbone:
    """The timm model ``backbone`` without its classifier, in float32 and evaluation mode, every parameter frozen.

    ``pretrained``: "" for random weights (from torch's current seed), a tag that timm knows for this name (downloaded,
    or read from its cache), a file with timm's keys, or a folder with one. Size and normalisation are those of the tag;
    for a folder with a config.json of timm's those that it tells, for a file those that ``save`` noted, else timm's.
    """
    check(backbone, pretrained)
    trunk, facts = build(backbone, pretrained)
    return ImageBackbone(trunk, backbone, freeze_bn=freeze_bn, **facts)


def build(backbone: str, pretrained: str, **arguments: object) -> tuple[nn.Module, dict]:
    """timm's model, and the facts of its input: image_size, mean, std."""
    name, arguments = bare(backbone), {"num_classes": 0} | arguments
    if pretrained in tags(backbone):
        try:
            trunk = timm.create_model(f"{name}.{pretrained}", pretrained=True, **arguments)
        except Exception as cause:  # the hub's client fails in many ways
            raise UserError(
                f"pretrained {pretrained!r} for backbone {backbone!r} could not be downloaded "
                f"({first_line(cause)}); give a local file instead."
            ) from cause
        return trunk, _facts(trunk.pretrained_cfg)
    trunk = timm.create_model(name, pretrained=False, **arguments)
    facts = _facts(trunk.pretrained_cfg)
    if pretrained:
        facts |= fill(trunk, weights.file_at(pretrained), backbone)
    return trunk, facts


def fill(trunk: nn.Module, path: Path, backbone: str) -> dict:
    """Fill ``trunk`` from a file; UserError names keys that do not fit. -> what is told about the input, by the file or
    by the config.json of timm's beside it."""
    stored = weights.read(path)
    facts, beside = stored.notes, clip_names.said_by(path.parent / "config.json")
    theirs = facts.get("backbone") or (beside.get("architecture") if "pretrained_cfg" in beside else None) or backbone
    if bare(theirs) != bare(backbone):
        raise UserError(
            f"pretrained file {path} holds weights of another backbone; the right name is backbone={theirs!r}."
        )
    state, own = weights.tidy(stored.tensors), trunk.state_dict()
    spare = tuple(f"{part}." for part in _classifiers(trunk))
    state = {key: value for key, value in state.items() if key in own or not key.startswith(spare)}
    if problem := weights.misfit(own, state):
        raise UserError(f"pretrained file {path} does not fit backbone {backbone!r}: {problem}.")
    trunk.load_state_dict(state, strict=False)
    told = _facts(beside["pretrained_cfg"]) if "pretrained_cfg" in beside else {}
    return told | json.loads(facts.get("input", "{}"))


def save(backbone: ImageBackbone, path: str | Path) -> None:
    """Write the trunk as safetensors, with its name, size and normalisation, so that ``load`` refuses a wrong name."""
    state = {key: value.detach().cpu().contiguous() for key, value in backbone.trunk.state_dict().items()}
    facts = {"image_size": backbone.image_size, "mean": backbone.mean, "std": backbone.std}
    with atomic_write(path) as temporary:
        save_file(state, temporary, metadata={"backbone": backbone.name, "input": json.dumps(facts)})


def tags(backbone: str) -> list[str]:
    return [name.split(".", 1)[1] for name in timm.list_models(f"{bare(backbone)}.*", pretrained=True)]


def bare(backbone: str) -> str:
    """timm's own name."""
    return backbone.removeprefix(PREFIX)


def _size(name: str) -> tuple[int, int]:
    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return tuple(config.input_size[-2:]) if config else (224, 224)


def _facts(config: Mapping) -> dict:
    size = config.get("input_size") or (3, 224, 224)
    return {"image_size": size[-1], "mean": config.get("mean") or MEAN, "std": config.get("std") or STD}


def _classifiers(trunk: nn.Module) -> tuple[str, ...]:
    found = getattr(trunk, "pretrained_cfg", {"classifier": "fc"}).get("classifier") or ()
    return (found,) if isinstance(found, str) else tuple(found)
