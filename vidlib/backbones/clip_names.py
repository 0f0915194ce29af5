"""CLIP's weights under transformers' names, and what the file beside them says of their activation."""

import json
import re
from pathlib import Path

import torch
from torch import Tensor

# transformers' names, part by part -> open_clip's; both towers' blocks alike
NAMES = (
    (r"^vision_model\.(embeddings\.)?", "visual."),
    (r"^text_model\.(embeddings\.)?", ""),
    (r"(^|\.)encoder\.layers\.", r"\1transformer.resblocks."),
    (r"\.self_attn\.", ".attn."),
    (r"\.layer_norm(\d)\.", r".ln_\1."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
    (r"\.patch_embedding\.", ".conv1."),
    (r"position_embedding\.weight$", "positional_embedding"),
    (r"\.pre_layrnorm\.", ".ln_pre."),
    (r"\.post_layernorm\.", ".ln_post."),
    (r"^final_layer_norm\.", "ln_final."),
    (r"^visual_projection\.weight$", "visual.proj"),
    (r"^text_projection\.weight$", "text_projection"),
)
PROJECTIONS = ("visual.proj", "text_projection")  # a Linear's weight there, a plain matrix here: transposed
ACTIVATIONS = {"quick_gelu": "QuickGELU", "gelu": "GELU"}


def from_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """``state`` by open_clip's names where it is a CLIPModel of transformers, else as it is."""
    if not any(name.startswith("vision_model.") for name in state):
        return state
    found = {}
    for name, value in state.items():
        if name.endswith("position_ids"):  # a range of numbers, in old files
            continue
        for pattern, there in NAMES:
            name = re.sub(pattern, there, name)
        found[name] = value.T.contiguous() if name in PROJECTIONS else value
    for name in [name for name in found if ".attn.q_proj." in name]:
        keys = [name.replace("q_proj", f"{part}_proj") for part in "qkv"]
        if found.keys() >= set(keys):
            found[name.replace("q_proj.", "in_proj_")] = torch.cat([found.pop(key) for key in keys])
    return found


def said_by(config: Path) -> dict:
    """A JSON file's mapping; empty where there is none."""
    try:
        found = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def activation_beside(path: Path) -> str | None:
    """What ``config.json`` (transformers) or ``open_clip_config.json`` beside the weights says, where one is there."""
    theirs = said_by(path.parent / "config.json").get("vision_config")
    if isinstance(theirs, dict):
        return ACTIVATIONS.get(theirs.get("hidden_act", "quick_gelu"))
    ours = said_by(path.parent / "open_clip_config.json").get("model_cfg")
    if isinstance(ours, dict):
        return "QuickGELU" if ours.get("quick_gelu") else "GELU"
    return None
