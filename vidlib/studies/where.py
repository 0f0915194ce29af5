"""Where few-shot methods look: the class token's attention on the frames of a video, as a query and as a support.

A support comes with its own class's text, which a method may have as one more token; a query never does. Legend: `T`
frames, `H`, `W` pixels, `gh`, `gw` patches.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from vidlib.basics.progress import track
from vidlib.data.catalogue.benchmarks import WORLDS
from vidlib.data.clips import ROLES
from vidlib.data.manifest import Manifest
from vidlib.data.world import worlds
from vidlib.layers.attention import capture_attention
from vidlib.results.intervals import half_width
from vidlib.studies.tables import Studied, label
from vidlib.training import few_shot
from vidlib.training.few_shot import Split
from vidlib.viz import attention, filmstrip

VIDEOS = 32  # of val, evenly over its list, on whose objects attention is measured
TRIED = 16  # first videos of val, of which one is shown


def roles(method: nn.Module) -> tuple[str, ...]:
    """As what a video can be looked at: as a query alone, where a support is seen as it is."""
    return ROLES[::-1] if method.by_role else ROLES[1:]


def called(name: str, method: nn.Module, role: str) -> str:
    """The row of a method's maps in one role."""
    return f"{label(name)}, {role}" if method.by_role else label(name)


def last_layer(method: nn.Module, split: Split, row: int, role: str) -> Tensor:
    """Attention weights of the last layer within frames, ``[T H N N]``, of one video in a role."""
    clip = split.clips.test(row)[None]
    text = None
    if role == "support" and method.support_text:
        text = split.text[[split.sampler.classes.index(split.clips.rows[row].cls)]]
    with torch.no_grad(), capture_attention(method) as weights:
        method.eval().embed(clip, text, role)
    return weights[method.backbone.layers - 1, "local"]


def attention_maps(
    manifest: Manifest, studied: Studied, row: int | None = None, wanted: Sequence[str] = ("query",)
) -> tuple[np.ndarray, dict[str, Tensor], dict[str, Tensor]]:
    """The frames of one val video, default the one of the first ``TRIED`` in which most moves, and of every method in
    each of the roles ``wanted`` the class token's last-layer maps and extra mass. A method to which both roles are one
    has one map."""
    frames, maps, masses = None, {}, {}
    for name, same in studied.items():
        method, val = few_shot.open_trained(same[0], manifest)
        backbone = method.backbone
        if row is None:
            moves = [val.clips.test(i).diff(dim=0).square().mean() for i in range(min(TRIED, len(val.clips)))]
            row = int(torch.stack(moves).argmax())
        for role in (role for role in roles(method) if role in wanted or not method.by_role):
            last = last_layer(method, val, row, role)
            key = called(name, method, role) if len(wanted) > 1 else label(name)
            maps[key] = attention.class_token_maps(last, backbone.grid)
            masses[key] = attention.extra_mass(last, backbone.grid)
        frames = filmstrip.to_uint8(val.clips.test(row), backbone.mean, backbone.std)
    return frames, maps, masses


def object_pixels(split: Split, row: int) -> Tensor:
    """Where the object of an embedded world's video is, through the same choice of frames and the same crop as its
    clip: bool ``[T H W]``."""
    clips = split.clips
    masks = worlds.drawn(clips.manifest.source(clips.split), clips.rows[row].video).masks()
    masks = masks[clips.pick(len(masks), clips.frames, None)].astype(np.uint8) * 255
    look = clips.transform_test
    seen = look(np.repeat(masks[..., None], 3, axis=3), None)[:, 0]
    return seen * look.std[0] + look.mean[0] > 0.5


def on_objects(manifest: Manifest, studied: Studied, videos: int = VIDEOS) -> pd.DataFrame:
    """The part of the class token's attention to patches that falls on the object, in per cent, per method and role.

    On ``videos`` of val, with half the 95% interval over them, and beside it the part of the picture that the object
    takes, which is what attention without a preference gives. Empty for data of which no object is known.
    """
    if manifest.source("val") not in WORLDS:
        return pd.DataFrame()
    rows, of_clip = [], {}
    for name, same in studied.items():
        method, val = few_shot.open_trained(same[0], manifest)
        chosen = np.unique(np.linspace(0, len(val.clips) - 1, min(videos, len(val.clips))).round().astype(int)).tolist()
        for role in roles(method):
            shares = []
            for row in track(chosen, f"{called(name, method, role)}: attention on objects"):
                masks = of_clip.setdefault(row, object_pixels(val, row))
                last = last_layer(method, val, row, role)
                shares.append(attention.on_object(attention.class_token_maps(last, method.backbone.grid), masks))
            even = [attention.on_object(torch.ones(len(masks), 1, 1), masks) for masks in of_clip.values()]
            known = 100 * np.array([share for share in shares if share == share])
            line = {"method": label(name), "role": role if method.by_role else "both alike"}
            line |= {"on the object (%)": known.mean(), "± videos": half_width(known), "videos": len(known)}
            rows.append(line | {"its part of the picture (%)": 100 * float(np.nanmean(even))})
    return pd.DataFrame(rows).set_index(["method", "role"])
