"""What a backbone gives, as a table: frames, texts, blocks to adapt, and what a frame costs. Nothing is downloaded."""

from collections.abc import Iterator
from fnmatch import fnmatchcase

import pandas as pd
import torch

from vidlib import backbones
from vidlib.backbones import clip, resnet
from vidlib.basics.errors import UserError
from vidlib.basics.words import suggest
from vidlib.results import cost

COLUMNS = ("frames", "texts", "adapters", "maps", "parameters (M)", "GMACs", "input", "width")


def table(*patterns: str) -> pd.DataFrame:
    """A row for each of ``chosen(*patterns)``: see ``rows``; index ``backbone``."""
    return pd.DataFrame(rows(*patterns), columns=["backbone", *COLUMNS]).set_index("backbone")


def rows(*patterns: str) -> Iterator[tuple]:
    """Name; "yes"; whether there are class texts, or what they would need; whether adapters run and stage maps are
    given; the image tower's parameters, its multiply-adds for a frame, the frame's size in pixels, and its feature's
    width. Towers are built without memory, on torch's meta device."""
    for name in chosen(*patterns):
        try:
            tower = backbones.outline(name)
        except UserError as error:  # a tower whose pictures are not square
            yield (name, f"no: {error}", *[""] * 7)
            continue
        with torch.device("meta"):
            gmacs = cost.gmacs(tower.encode_image, torch.zeros(1, 3, tower.image_size, tower.image_size))
        given = [("no", "yes")[hasattr(tower, part)] for part in ("blocks", "map_dims")]
        millions = sum(p.numel() for p in tower.visual.parameters()) / 1e6
        yield (
            name,
            "yes",
            _texts(tower),
            *given,
            round(millions, 2),
            round(gmacs, 2),
            tower.image_size,
            tower.embed_dim,
        )


def chosen(*patterns: str) -> tuple[str, ...]:
    """The backbones whose names fit a pattern such as "vit_*dinov2*"; without one the two of vidlib and open_clip's."""
    known = backbones.names()
    if not patterns:
        return (*clip.names()[:1], resnet.MINI, *clip.names()[1:])
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise UserError(f"no backbone's name fits {pattern!r}; {suggest(pattern, known, 'timm has many more.', 3)}")
    return tuple(name for name in known if any(fnmatchcase(name, pattern) for pattern in patterns))


def _texts(tower: backbones.Backbone) -> str:
    if not isinstance(tower, backbones.CLIPBackbone):
        return "none"
    need = tower.texts_need.partition(" need ")[2].partition("; its images")[0]
    return f"need {need}" if need else "yes"
