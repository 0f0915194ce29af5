"""Pretrained towers behind one interface, so that every metric method runs on a CLIP image tower or on a ResNet.

`B` images, `C` width of a frame's feature, `D_i` channels of stage i. A backbone has

``name``, ``image_size`` (pixels), ``mean``, ``std`` (input normalisation), ``embed_dim`` (C), ``map_dims`` (D_i of the
four stages, shallow first), ``has_text``, ``trunk`` (the image tower: what full tuning trains), ``logit_scale``;
``encode_image(x [B 3 H W]) -> [B C]``, a frame's feature;
``stages(x [B 3 H W]) -> [[B D_1 h_1 w_1], ..., [B D_4 h_4 w_4]]``, maps from shallow to deep;
``pool(map [B D_4 h w]) -> [B C]``: the feature of a deepest map, so that maps need no second pass;
``encode_text(names, templates) -> [W C]``, or ``[W 0]`` where there is no text tower.
``unfreeze()`` makes the trunk train. Every parameter starts frozen; ``train()`` leaves in evaluation mode what a
backbone keeps there.
"""

from pathlib import Path
from types import ModuleType

from vidlib.backbones import clip, resnet
from vidlib.backbones.clip import CLIPBackbone
from vidlib.backbones.resnet import ResNetBackbone
from vidlib.basics.paths import absolute
from vidlib.basics.words import nearest

Backbone = CLIPBackbone | ResNetBackbone


def names() -> tuple[str, ...]:
    """Every name that ``backbone`` may take: the two small ones that ship with vidlib, then CLIP ViTs, then ResNets."""
    return (*clip.names()[:1], *resnet.names()[:1], *clip.names()[1:], *resnet.names()[1:])


def check(backbone: str, pretrained: str) -> None:
    """Raise UserError where ``load`` would for a reason that can be known without building or downloading anything."""
    _backend(backbone).check(backbone, pretrained)


def load(backbone: str, pretrained: str, freeze_bn: bool = True) -> Backbone:
    """The backbone in float32 and evaluation mode, every parameter frozen.

    ``pretrained``: "" for random weights (from torch's current seed), a tag, or a local file. ``freeze_bn``: a ResNet's
    BatchNorm keeps its running statistics, and its scales and shifts, in training too; a ViT has none.
    """
    if _backend(backbone) is resnet:
        return resnet.load(backbone, pretrained, freeze_bn)
    return clip.load(backbone, pretrained)


def weights_file(backbone: str, pretrained: str) -> Path | None:
    """The file that ``load`` reads weights from; None for random ones and for a tag, whose file lies elsewhere."""
    if pretrained and pretrained in (clip.MINI, resnet.MINI):
        return Path(_backend(backbone).MINI_DIR) / "weights.safetensors"
    path = absolute(pretrained)
    return path if pretrained and path.is_file() else None


def _backend(backbone: str) -> ModuleType:
    """The file that knows the name, or the nearest name, which its error can then suggest."""
    near = nearest(backbone, names(), cutoff=0.4)
    return resnet if near and near[0] in resnet.names() else clip
