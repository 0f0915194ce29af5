"""vidlib: reproducible CLIP-based and few-shot video action recognition.

The names below are its public face; ``import vidlib`` loads no torch, a function what it needs. Import vidlib before
torch: threads are then told to wait passively, which on a shared machine makes a training step several times faster.
"""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from vidlib.methods import FewShotMethod, VideoTextMethod

__version__ = "0.1.0"
__all__ = ["list_backbones", "list_benchmarks", "list_methods", "load_runs", "open_method"]

os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # read once, when torch's OpenMP is loaded; child processes inherit it


def list_methods() -> tuple[str, ...]:
    """The methods by name: the few-shot ones, then those of videos and texts (ActionCLIP, M2-CLIP)."""
    from vidlib.params.few_shot import METHOD_NAMES
    from vidlib.params.video_text import VIDEO_TEXT_NAMES

    return METHOD_NAMES + VIDEO_TEXT_NAMES


def list_backbones(*patterns: str) -> "pd.DataFrame":
    """The backbones as a table, by name: whether they give frames, class texts and blocks to adapt, and what a frame
    costs. Without patterns clip-mini, resnet-mini and all of open_clip's (a minute); timm's image models by patterns
    such as "vit_*dinov2*". Loads torch, downloads nothing."""
    from vidlib.studies import tower_table

    return tower_table.table(*patterns)


def list_benchmarks() -> tuple[str, ...]:
    """What ``dataset`` may name besides ``folder:PATH``: the embedded worlds, the few-shot benchmarks, and, as
    ``official:NAME``, the data sets with standard splits. ``vidlib data list`` says what of them is here."""
    from vidlib.data.catalogue import entries

    return entries.every()


def open_method(
    name: str, backbone: str = "clip-mini", pretrained: str | None = None, **arguments: object
) -> "FewShotMethod | VideoTextMethod":
    """A method on a loaded backbone, on the CPU and in evaluation mode; what it adds to the backbone is untrained.

    name: one of ``list_methods()``, or your own as ``FILE.py:CLASS``.
    backbone: one of ``list_backbones()``, or any image model of timm.
    pretrained: the backbone's weights: one of its tags (downloaded by open_clip or timm), a local file, or ``""`` for
        random ones. None: those that come with vidlib, which clip-mini and resnet-mini have.
    arguments: of the method's constructor, such as ``frames=8``; M2-CLIP needs ``classes`` and ``vocabulary``.

    UserError, one sentence with the nearest known name: an unknown method, backbone, weights or argument, one that is
    lacking, and a method that needs a CLIP on a backbone that is none.
    """
    from vidlib import backbones, methods
    from vidlib.basics.errors import UserError

    methods.find(name)
    if pretrained is None and backbone in backbones.names():
        pretrained = backbone
        if backbones.weights_file(backbone, pretrained) is None:
            raise UserError(f"pretrained: {backbone} comes without weights; give a tag, a local file, or '' for random")
    return methods.build(name, backbones.load(backbone, pretrained or ""), **arguments).eval()


def load_runs(root: "str | Path | None" = None) -> "pd.DataFrame":
    """One row per finished run of the folder ``root`` (default: where runs are recorded): ``id``, ``folder``, the
    parameters by name, ``result.<key>`` with nested keys joined by dots; empty where there are none.

    UserError where ``root`` is no folder. No torch is loaded.
    """
    from vidlib.basics import paths
    from vidlib.basics.errors import UserError
    from vidlib.results import runs

    if root is not None and not paths.absolute(root).is_dir():
        raise UserError(f"root: {paths.absolute(root)} is no folder; give the folder of the runs")
    return runs.load_all(root and paths.absolute(root))
