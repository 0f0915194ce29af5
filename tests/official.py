"""Files as the released codes write them: the golden heads, small image towers under the released names, wrappers."""

import re

import open_clip
import torch
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor

from tests.conftest import golden
from vidlib.backbones.clip import CLIPBackbone
from vidlib.backbones.resnet import ResNetBackbone

TEXT = {"context_length": 12, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}
CHILDREN = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
STATES = {  # method -> fixture, prefix of its state there
    "sloshnet": ("sloshnet", "state."),
    "strm": ("strm", "state."),
    "trx": ("trx", "state.transformers."),
    "hyrsm": ("bimhm", "state.hyrsm."),
    "molo": ("molo", "state."),
    "clip_fsar": ("clip_fsar", "state."),
    "aim": ("aim_vit", "state.tadapter2."),
}
METHODS = tuple(STATES)


def head(method: str) -> dict[str, Tensor]:
    """The golden state of a method: all but a ResNet trunk, and for CLIP-FSAR all but the tower."""
    fixture, prefix = STATES[method]
    cut = prefix.removesuffix("transformers.")
    state = {key.removeprefix(cut): x for key, x in golden(fixture)[1].items() if key.startswith(prefix)}
    return {key: x for key, x in state.items() if not key.startswith("new_dist_loss_post_pat")}  # in no real file


def backbone(method: str, seed: int = 0):
    """A small backbone of the golden head's width, random weights and statistics."""
    torch.manual_seed(seed)
    if method == "aim":
        vision = {"image_size": 32, "patch_size": 8, "width": 64, "layers": 3, "head_width": 16}
        return CLIPBackbone(open_clip.CLIP(32, vision, TEXT, quick_gelu=True), "small")
    if method == "clip_fsar":
        vision = {"image_size": 16, "patch_size": 8, "width": 16, "layers": 2, "head_width": 8}
        return CLIPBackbone(open_clip.CLIP(64, vision, TEXT, quick_gelu=True), "small")
    trunk = ResNet(BasicBlock, [1, 1, 1, 1], channels=(8, 16, 32, 64), num_classes=0)
    for name, value in trunk.named_buffers():
        if "running" in name:
            value.uniform_(0.5, 1.5)
    return ResNetBackbone(trunk, "tiny", 32)


def trunk(method: str, tower) -> dict[str, Tensor]:
    """The image tower of a backbone under the released code's names; SloshNet's with the classifier it never uses."""
    if method == "aim":
        return {}  # the golden state holds it
    state = {name: value.clone() for name, value in tower.trunk.state_dict().items()}
    if method == "clip_fsar":
        return {f"backbone.{name}": value for name, value in state.items()}
    if method == "sloshnet":
        return {f"resnet.{name}": value for name, value in state.items()} | {"resnet.fc.weight": torch.zeros(3, 3)}
    prefix = "resnet" if method in ("trx", "strm") else "backbone"
    return {f"{prefix}.{CHILDREN[n.split('.')[0]]}.{n.split('.', 1)[1]}": value for n, value in state.items()}


def official(method: str, tower=None) -> dict[str, Tensor]:
    """A whole released state dict of ``method`` in the released module's own names."""
    return head(method) | trunk(method, tower or backbone(method, seed=5))


def saved(method: str, state: dict[str, Tensor]) -> dict:
    """``state`` as the released code saves it: its container, and the wrappers that its default machine adds."""
    if method in ("trx", "strm", "sloshnet"):  # the trunk on several GPUs
        state = {name.replace("resnet.", "resnet.module.", 1): value for name, value in state.items()}
        return {"iteration": 5, "model_state_dict": state, "optimizer_state_dict": {"state": {}}}
    if method == "aim":
        state = {f"backbone.{name}": value for name, value in state.items()}
        return {"meta": {"epoch": 3}, "state_dict": state | {"cls_head.fc_cls.weight": torch.zeros(4, 64)}}
    state = {f"module.head.{name}": value for name, value in state.items()}
    return {"epoch": 3, "model_state": state, "optimizer_state": {"state": {}}, "cfg": "TRAIN: {}"}


def resnet18_state(prefix: str, kind=BasicBlock, blocks=(2, 2, 2, 2)) -> dict[str, Tensor]:
    """A torchvision ResNet's trunk, by number."""
    state = ResNet(kind, list(blocks), num_classes=0).state_dict()
    return {f"{prefix}.{CHILDREN[n.split('.')[0]]}.{n.split('.', 1)[1]}": value for n, value in state.items()}


RESNETS = {"resnet18": (BasicBlock, (2, 2, 2, 2)), "resnet50": (Bottleneck, (3, 4, 6, 3))}


# ---------------------------------------------------------------- ActionCLIP and M2-CLIP

POST = {"meanp": "meanP", "conv1d": "Conv_1D", "lstm": "LSTM", "transf": "Transf", "transf_cls": "Transf_cls"}
VISUAL_PROMPTS = ("joint", "shift", *POST)
M2CLIPS = ("m2clip", "m2clip_mlponly")


def actionclip_backbone(seed: int = 0, heads: int = 2, vocabulary: int = 100) -> CLIPBackbone:
    """Random weights in the sizes of ActionCLIP's golden towers. Its golden heads have two heads of attention, as many
    as the text tower then must have; the golden text tower itself has four."""
    torch.manual_seed(seed)
    vision = {"image_size": 32, "patch_size": 8, "width": 128, "layers": 2, "head_width": 64}
    text = {"context_length": 16, "vocab_size": vocabulary, "width": 64, "heads": heads, "layers": 2}
    return CLIPBackbone(open_clip.CLIP(32, vision, text, quick_gelu=True), "small")


def actionclip(prompt: str) -> dict[str, Tensor]:
    """The golden towers with the golden head under ``fusion.``, as the released code names them for ``prompt``."""
    tensors = golden("actionclip_vit")[1]
    state = {key.removeprefix("state."): value for key, value in tensors.items() if key.startswith("state.")}
    if prompt != "joint":
        state.pop("visual.time_embedding")
    if prompt == "shift":
        state = {re.sub(r"^(visual\..*resblocks\.\d)", r"\1.net", key): value for key, value in state.items()}
    start = f"state.{POST.get(prompt)}."
    heads = golden("actionclip_visual_prompt")[1]
    return state | {f"fusion.{k.removeprefix(start)}": v for k, v in heads.items() if k.startswith(start)}


def actionclip_saved(state: dict[str, Tensor]) -> dict:
    """``state`` as the released training saves it: the head apart and on several GPUs."""
    head = {f"module.{name.removeprefix('fusion.')}": x for name, x in state.items() if name.startswith("fusion.")}
    towers = {name: x for name, x in state.items() if not name.startswith("fusion.")}
    optimizer = {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 5e-6}]}
    entries = {"model_state_dict": towers, "fusion_model_state_dict": head, "optimizer_state_dict": optimizer}
    return {"epoch": 49, **entries}


def m2clip_backbone(seed: int = 0) -> CLIPBackbone:
    """Random weights in the sizes of M2-CLIP's golden towers."""
    torch.manual_seed(seed)
    vision = {"image_size": 32, "patch_size": 8, "width": 128, "layers": 2, "head_width": 64}
    text = {"context_length": 16, "vocab_size": 100, "width": 32, "heads": 2, "layers": 12}
    return CLIPBackbone(open_clip.CLIP(32, vision, text, quick_gelu=True), "small")


def m2clip(fixture: str, whole: bool = True) -> dict[str, Tensor]:
    """The golden state, or the trained tensors of it, which the released training saves alone."""
    state = {k.removeprefix("state."): x for k, x in golden(fixture)[1].items() if k.startswith("state.")}
    return {name: value for name, value in state.items() if whole or "adapter" in name}


def m2clip_saved(state: dict[str, Tensor]) -> dict:
    return {"model": {f"module.{name}": value for name, value in state.items()}, "next_epoch": 12}
