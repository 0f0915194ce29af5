"""Pretrained towers behind one interface, so that a method runs on every model of open_clip and of timm.

`B` images, `C` width of a frame's feature, `D_i` channels of stage i. A backbone has

``name``, ``image_size`` (pixels), ``mean``, ``std`` (input normalisation), ``embed_dim`` (C), ``has_text`` (and what
class texts would need, ``texts_need``), ``trunk`` (the image tower: what full tuning trains), ``logit_scale``,
``logit_bias`` (what SigLIP adds before its sigmoid, else None);
``encode_image(x [B 3 H W]) -> [B C]``, a frame's feature;
``encode_text(names, templates) -> [W C]``, which is ``[W 0]`` of an image model and a UserError of a CLIP whose texts
are not here; ``class_texts`` below asks either.
``unfreeze()`` makes the trunk train. Every parameter starts frozen; ``train()`` leaves in evaluation mode what a
backbone keeps there.

ResNets, and ViTs that read their class token, also give maps:
``map_dims`` (D_i of the four stages, shallow first);
``stages(x [B 3 H W]) -> [[B D_1 h_1 w_1], ..., [B D_4 h_4 w_4]]``, maps from shallow to deep;
``pool(map [B D_4 h w]) -> [B C]``: the feature of a deepest map, so that maps need no second pass.
ViTs also give what adapters need: see ``vidlib.backbones.vit``.
"""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from vidlib.backbones import clip, images, resnet, weights
from vidlib.backbones.clip import CLIPBackbone
from vidlib.backbones.images import ImageBackbone
from vidlib.backbones.resnet import ResNetBackbone
from vidlib.basics.words import nearest
from vidlib.layers import quick

Backbone = CLIPBackbone | ImageBackbone  # a ResNetBackbone is the second

__all__ = ["Backbone", "CLIPBackbone", "ImageBackbone", "ResNetBackbone", "check", "class_texts", "load", "names"]
__all__ += ["outline", "texts_need", "weights_file"]


def names() -> tuple[str, ...]:
    """Every name that ``backbone`` may take: the two small ones that ship with vidlib, then open_clip's models, then
    timm's ResNets, then all others of timm's."""
    return (*clip.names()[:1], *resnet.names()[:1], *clip.names()[1:], *resnet.names()[1:], *images.names())


def check(backbone: str, pretrained: str) -> None:
    """Raise UserError where ``load`` would for a reason that can be known without building or downloading anything."""
    _backend(backbone).check(backbone, pretrained)


def load(backbone: str, pretrained: str, freeze_bn: bool = True) -> Backbone:
    """The backbone in float32 and evaluation mode, every parameter frozen.

    ``pretrained``: "" for random weights (from torch's current seed), a tag, or a local file or folder. ``freeze_bn``:
    the BatchNorm of a timm model keeps its running statistics, and its scales and shifts, in training too.
    """
    backend = _backend(backbone)
    tower = clip.load(backbone, pretrained) if backend is clip else backend.load(backbone, pretrained, freeze_bn)
    return quick.quicken(tower)


def outline(backbone: str) -> Backbone:
    """The image tower of ``backbone`` on the meta device: its facts and shapes, without memory, weights or texts."""
    with torch.device("meta"):
        return clip.frames(backbone) if _backend(backbone) is clip else load(backbone, "")


def class_texts(backbone: Backbone, names: Sequence[str], templates: Sequence[str]) -> Tensor:
    """``backbone.encode_text``, or ``[W 0]`` where the texts of a CLIP are not here and a method asks for none."""
    if backbone.has_text or not backbone.texts_need:
        return backbone.encode_text(names, templates)
    return next(backbone.trunk.parameters()).new_zeros(len(names), 0)


def texts_need(backbone: str, pretrained: str) -> str:
    """What class texts would need that is not here, a sentence; "" where they can be given."""
    if _backend(backbone) is clip:
        return clip.texts_need(backbone, pretrained)
    return f"class texts need a CLIP, and backbone {backbone!r} is an image model alone."


def weights_file(backbone: str, pretrained: str) -> Path | None:
    """The file that ``load`` reads weights from; None for random ones and for a tag, whose file lies elsewhere."""
    if pretrained and pretrained in (clip.MINI, resnet.MINI):
        return Path(_backend(backbone).MINI_DIR) / "weights.safetensors"
    return weights.file_at(pretrained) if pretrained else None


def _backend(backbone: str) -> ModuleType:
    """The file that knows the name, or the nearest name, which its error can then suggest."""
    kinds = {images: images.names(), resnet: resnet.names(), clip: clip.names()}
    for kind, known in kinds.items():
        if backbone in known or (kind is images and backbone.startswith(images.PREFIX)):
            return kind
    if backbone.startswith(clip.SCHEMES):
        return clip
    if len(backbone) > 3 and any(backbone in name for name in images.names()):
        return images
    near = nearest(backbone, names(), cutoff=0.4)
    return next((kind for kind, known in kinds.items() if near and near[0] in known), clip)
