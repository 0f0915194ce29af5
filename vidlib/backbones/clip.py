"""CLIP towers by name, loaded and saved: with those beside it and ``weights``, the only file that knows open_clip.

Every model that open_clip lists, and ``clip-mini``, whose config and weights ship with vidlib. Nothing touches the
network unless ``pretrained`` is a tag such as "openai". OpenAI's weights were trained with QuickGELU: they belong to
the names that end in ``-quickgelu``, and this file refuses the others, because a model saved under such a name would
come back with another activation.
"""

import json
from collections.abc import Sequence
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path

import open_clip
import torch
from open_clip.modified_resnet import ModifiedResNet
from safetensors.torch import save_file
from torch import nn

from vidlib.backbones import clip_names, weights
from vidlib.backbones.clip_resnet import CLIPResNetBackbone
from vidlib.backbones.clip_towers import TEMPLATES, CLIPBackbone, Images, tokenizer
from vidlib.basics.errors import UserError
from vidlib.basics.paths import absolute, atomic_write
from vidlib.basics.progress import say_once
from vidlib.basics.words import first_line, suggest

__all__ = ["TEMPLATES", "CLIPBackbone", "check", "load", "names", "save", "texts_need", "tokenizer"]

MINI = "clip-mini"
MINI_DIR = Path(__file__).parent / "clip_mini"
SCHEMES = ("local-dir:", "hf-hub:")  # open_clip's own, for a folder and for a repository of the hub
OPENAIS = (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)


def names() -> tuple[str, ...]:
    """Every name that ``backbone`` may take: clip-mini first, then all that open_clip lists."""
    return (MINI, *open_clip.list_models())


def check(backbone: str, pretrained: str) -> None:
    """Raise UserError where ``load`` would for a reason that can be known without building or downloading anything."""
    if backbone not in names():
        if backbone.startswith(SCHEMES):
            raise UserError(_scheme(backbone))
        otherwise = "choose 'clip-mini' or an open_clip model such as 'ViT-B-16-quickgelu'."
        raise UserError(f"backbone {backbone!r} is unknown; {suggest(backbone, names(), otherwise, 3, 0.4)}")
    if pretrained == "":
        return
    if pretrained in _tags(backbone):
        if backbone != MINI:
            quick = open_clip.get_pretrained_cfg(backbone, pretrained).get("quick_gelu", False)
            _check_activation(backbone, "QuickGELU" if quick else "GELU", f"pretrained {pretrained!r}")
        return
    path = weights.file_at(pretrained)
    if not path:
        raise UserError(
            f"pretrained {pretrained!r} is neither a tag of {backbone} ({', '.join(_tags(backbone))}) nor "
            f"a file or a folder with one (tried {absolute(pretrained)}); '' gives random weights."
        )
    theirs = clip_names.said_by(path.parent / "open_clip_config.json").get("model_cfg")
    if absolute(pretrained).is_dir() and theirs and _tower(theirs) != _tower(_config(backbone)):
        same = [name for name in names()[1:] if _tower(open_clip.get_model_config(name)) == _tower(theirs)]
        same.sort(key=lambda name: open_clip.get_model_config(name) != theirs)  # several share an image tower
        right = f"the right name is backbone={same[0]!r}" if same else "no name of open_clip's has its architecture"
        raise UserError(f"pretrained folder {path.parent} holds another model than backbone {backbone!r}; {right}.")


def load(backbone: str, pretrained: str) -> CLIPBackbone:
    """The CLIP model ``backbone`` in float32 and evaluation mode, every parameter frozen.

    ``pretrained``: "" for random weights (from torch's current seed), a tag that open_clip knows for this name
    ("openai"; downloaded, or read from open_clip's cache), or a file (safetensors, a state dict, or OpenAI's archive),
    or a folder with one, as open_clip's ``local-dir:`` names it. The input's mean and deviation are the tag's or those
    that the folder tells; else those that all tags of the model share, else OpenAI's.
    """
    check(backbone, pretrained)
    config, need = _config(backbone), texts_need(backbone, pretrained)
    try:
        clip = _images(config) if need else _build(config)
    except Exception as cause:
        raise UserError(f"backbone {backbone!r} cannot be built here ({first_line(cause)}).") from cause
    (mean, std), path, told = _statistics(backbone), None, False
    if backbone == MINI:
        mean, std = config.get("mean", mean), config.get("std", std)
    if pretrained and pretrained in _tags(backbone):
        told = True  # a tag, and clip-mini, say how they were trained
        if backbone == MINI:
            path = MINI_DIR / "weights.safetensors"
        else:
            tag = open_clip.get_pretrained_cfg(backbone, pretrained)
            mean, std = tag.get("mean", OPENAIS[0]), tag.get("std", OPENAIS[1])
            path = _downloaded(backbone, pretrained, tag)
    elif pretrained:
        path = weights.file_at(pretrained)
        beside = clip_names.said_by(path.parent / "open_clip_config.json").get("preprocess_cfg", {})
        theirs = clip_names.said_by(path.parent / "preprocessor_config.json")  # of transformers
        mean = beside.get("mean", theirs.get("image_mean", mean))
        std = beside.get("std", theirs.get("image_std", std))
    if path is not None:
        _load_weights(clip, Path(path), backbone, told)
    return _wrapped(clip, backbone, mean, std, need, _reader(backbone, pretrained))


def frames(backbone: str) -> CLIPBackbone:
    """The image tower of ``backbone`` alone, with random weights."""
    check(backbone, "")
    return _wrapped(_images(_config(backbone)), backbone, *_statistics(backbone), texts_need(backbone, ""), backbone)


def texts_need(backbone: str, pretrained: str) -> str:
    """What class texts of ``backbone`` would need that is not here, in a sentence; "" where they can be given.

    A tokenizer or text tower of a hub is looked for in the hub's cache on this machine, in the folder ``pretrained``,
    and where ``pretrained`` is a tag on the hub itself.
    """
    text = _config(backbone)["text_cfg"]
    reader, tower = text.get("hf_tokenizer_name"), text.get("hf_model_name")
    if not (reader or tower):
        return ""
    lacks = ["the package transformers (pip install transformers)"] if find_spec("transformers") is None else []
    online = pretrained in _tags(backbone)
    source = _reader(backbone, pretrained).removeprefix(SCHEMES[0])
    for what, name, kind, at in (
        ("tokenizer", reader, "AutoTokenizer", source if source != backbone else reader),
        ("text tower", tower, "AutoConfig", tower),
    ):
        if name and (lacks or not _on_hub(kind, at, online)):
            lacks.append(f"the {what} {name} of the Hugging Face hub")
    needed = " and ".join(lacks)
    return lacks and f"class texts of backbone {backbone!r} need {needed}; its images work without." or ""


def _wrapped(clip: nn.Module, *facts) -> CLIPBackbone:
    return (CLIPResNetBackbone if isinstance(clip.visual, ModifiedResNet) else CLIPBackbone)(clip, *facts)


def _on_hub(kind: str, name: str, online: bool) -> bool:
    import transformers

    try:
        getattr(transformers, kind).from_pretrained(name, local_files_only=not online)
    except Exception:  # the hub's client fails in many ways
        return False
    return True


def _reader(backbone: str, pretrained: str) -> str:
    """open_clip's name of the tokenizer: the model's, or the folder that holds one beside its weights."""
    folder = absolute(pretrained) if pretrained else None
    there = folder and (folder / "tokenizer_config.json").is_file() and (folder / "open_clip_config.json").is_file()
    return f"{SCHEMES[0]}{folder}" if there else backbone


def _tower(config: dict) -> tuple:
    """What makes an image tower, however much of it a config says."""
    vision = {**config.get("vision_cfg", {}), "timm_model_pretrained": False}
    try:
        return config.get("embed_dim"), open_clip.CLIPVisionCfg(**vision)
    except TypeError:  # a key of another version
        return config.get("embed_dim"), vision


def _statistics(backbone: str) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and deviation that all tags of a model share, else OpenAI's."""
    tags = [] if backbone == MINI else [open_clip.get_pretrained_cfg(backbone, tag) for tag in _tags(backbone)]
    found = {(tuple(tag.get("mean", OPENAIS[0])), tuple(tag.get("std", OPENAIS[1]))) for tag in tags}
    return found.pop() if len(found) == 1 else OPENAIS


def _downloaded(backbone: str, pretrained: str, tag: dict) -> str:
    try:
        return open_clip.download_pretrained(tag)
    except Exception as cause:
        raise UserError(
            f"pretrained {pretrained!r} for backbone {backbone!r} could not be downloaded "
            f"({first_line(cause)}); give a local file instead."
        ) from cause


def save(backbone: CLIPBackbone, path: str | Path) -> None:
    """Write the whole model as safetensors, with its name and activation, so that ``load`` refuses a wrong name."""
    state = {key: value.detach().cpu().contiguous() for key, value in backbone.clip.state_dict().items()}
    with atomic_write(path) as temporary:
        save_file(state, temporary, metadata={"backbone": backbone.name, "activation": backbone.activation})


def _config(backbone: str) -> dict:
    if backbone == MINI:
        return json.loads((MINI_DIR / "config.json").read_text())
    return open_clip.get_model_config(backbone)


def _scheme(backbone: str) -> str:
    """What to give instead of open_clip's ``local-dir:FOLDER`` or ``hf-hub:REPOSITORY``."""
    scheme, place = backbone.split(":", 1)
    start = f"backbone {backbone!r}: a model's name and its weights are given apart here, not as open_clip's {scheme}:"
    folder = absolute(place)
    if scheme == "local-dir" and place and not folder.is_dir():
        return f"{start}, and the folder {folder} does not exist."
    if scheme == "local-dir" and place:
        wanted = clip_names.said_by(folder / "open_clip_config.json").get("model_cfg")
        same = [name for name in names()[1:] if open_clip.get_model_config(name) == wanted]
        if same and weights.file_at(place):
            return f"{start}; give backbone={same[0]!r} and pretrained='{folder}'."
    return (
        f"{start}; give the name of the same architecture, such as 'ViT-B-16-quickgelu', as backbone, and its "
        "downloaded folder or file (open_clip_model.safetensors) as pretrained."
    )


def _tags(backbone: str) -> list[str]:
    return [MINI] if backbone == MINI else open_clip.list_pretrained_tags_by_model(backbone)


def _build(config: dict) -> nn.Module:
    """The whole model with random weights: nothing is downloaded for a part of it."""
    config = deepcopy(config)
    if "timm_model_name" in config["vision_cfg"]:
        config["vision_cfg"]["timm_model_pretrained"] = False
    custom = config.get("custom_text", False) or "hf_model_name" in config["text_cfg"]
    if "hf_model_name" in config["text_cfg"]:
        config["text_cfg"]["hf_model_pretrained"] = False
    keys = ["embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "init_logit_scale", "init_logit_bias"]
    kind = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    if "multimodal_cfg" in config:
        kind, keys = open_clip.CoCa, [*keys, "multimodal_cfg"]
    return kind(**{key: config[key] for key in keys if key in config})


def _images(config: dict) -> Images:
    """The image tower alone; CoCa's gives its tokens beside its feature, which only its decoder reads."""
    vision = config["vision_cfg"] | {"output_tokens": False}
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False
    visual = open_clip.model._build_vision_tower(config["embed_dim"], vision, config.get("quick_gelu", False))
    return Images(visual, config)


def _check_activation(backbone: str, activation: str, source: str) -> None:
    quick = _config(backbone).get("quick_gelu", False)
    if (activation == "QuickGELU") != quick:
        right = backbone.removesuffix("-quickgelu") if quick else f"{backbone}-quickgelu"
        raise UserError(
            f"{source} was trained with {activation}, which backbone {backbone!r} does not use; "
            f"the right name is backbone={right!r}."
        )


def _load_weights(clip: nn.Module, path: Path, backbone: str, told: bool) -> None:
    """Fill ``clip`` from a file; UserError where the file's name, its activation or its shapes are another model's.
    ``told``: its activation and statistics are known already; else what the file does not say of them is said, and so
    is that position embeddings are of another grid."""
    stored = weights.read(path)
    state = clip_names.from_transformers(weights.tidy(stored.tensors))
    activation = stored.notes.get("activation") or clip_names.activation_beside(path)
    if activation and not told:
        _check_activation(backbone, activation, f"pretrained file {path}")
    if (named := stored.notes.get("backbone", backbone)) != backbone:
        raise UserError(
            f"pretrained file {path} was saved of backbone {named!r}, not {backbone!r}; give backbone={named!r}."
        )
    problem = ""
    if isinstance(clip, Images):
        state = {name: value for name, value in state.items() if name.startswith(("visual.", "logit_"))}
    try:
        state = open_clip.convert.convert_state_dict(clip, state)
        state.pop("text.transformer.embeddings.position_ids", None)  # a range of numbers, in old files
        if "positional_embedding" in state and hasattr(clip, "text"):
            state = open_clip.model.convert_to_custom_text_state_dict(state)
        for name in {"logit_scale", "logit_bias"} & state.keys():
            state[name] = state[name].reshape(getattr(clip, name).shape)  # a number, or one in a list
        if clip.logit_bias is not None and "logit_bias" not in state:
            state["logit_bias"] = torch.zeros_like(clip.logit_bias)  # as open_clip does: weights of no sigmoid
        # float32, because no grid of float16 is resized on a CPU
        state = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
        before = len(state.get("visual.positional_embedding", ()))
        open_clip.model.resize_pos_embed(state, clip)
        after = len(state.get("visual.positional_embedding", ()))
        if not isinstance(clip, Images):
            open_clip.model.resize_text_pos_embed(state, clip)
        problem = weights.misfit(clip.state_dict(), state)
        clip.load_state_dict(state)
    except Exception as cause:
        raise UserError(
            f"pretrained file {path} does not hold weights of backbone {backbone!r}: {problem or first_line(cause)}."
        ) from cause
    if before != after:
        say_once(f"{path}: its {before} position embeddings are resized to the {after} of backbone {backbone!r}.")
    if not (told or activation):
        say_once(_untold(path, backbone))


def _untold(path: Path, backbone: str) -> str:
    """What a file of weights cannot tell of itself, and what is therefore assumed."""
    here, there, twin = "GELU", "QuickGELU, as OpenAI's were,", f"{backbone}-quickgelu"
    if _config(backbone).get("quick_gelu", False):
        here, there, twin = "QuickGELU", "GELU", backbone.removesuffix("-quickgelu")
    other = (
        f"; weights trained with {there} belong to backbone={twin!r}" if twin in names() and twin != backbone else ""
    )
    whose = "OpenAI's" if _statistics(backbone) == OPENAIS else "its tags'"
    return (
        f"{path} does not say with which activation and which statistics of pixels it was trained: it runs with "
        f"{here}, as backbone {backbone!r} does, and {whose} mean and deviation{other}."
    )
