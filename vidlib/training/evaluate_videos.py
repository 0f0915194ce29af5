"""Testing video-text methods: every view of every video embedded once, then set against the texts of all classes.

Legend: `V` videos, `K` classes, `P` templates, `C` joint-space width.

The controls of the few-shot evaluation stand beside: frames in another order, class texts of other classes.
"""

import hashlib
import time
from collections.abc import Sequence

import torch
from lightning_fabric import Fabric
from torch import Tensor

from vidlib.basics.devices import make_fabric, place, ready
from vidlib.basics.progress import track
from vidlib.data.clips import Clips
from vidlib.methods.video_text import Features, VideoTextMethod
from vidlib.results.accuracy import Evaluation
from vidlib.training.controls import PERMUTED, SHUFFLED, ShuffledFrames, permuted, words


def recognise(
    method: VideoTextMethod,
    views: Sequence[Clips],
    *,
    fabric: Fabric | None = None,
    label: str = "evaluation",
    controls: bool = False,
) -> dict[str, Evaluation]:
    """``method`` on all videos of a split, in every one of ``views`` (the same videos; probabilities are averaged).

    The classes are those of the split. Under "" the evaluation; with ``controls`` also under the name of each, that of
    the texts where they matter to the method.
    """
    fabric = fabric or make_fabric()
    method = ready(fabric, method)
    manifest, split = views[0].manifest, views[0].split
    classes = manifest.classes(split)
    with fabric.autocast():
        text = method.class_text([manifest.text(cls) for cls in classes])
    scored = {"": _scores(method, views, text, fabric, label)}
    if controls:
        shuffled = [ShuffledFrames(clips, split) for clips in views]
        scored[SHUFFLED] = _scores(method, shuffled, text, fabric, f"{label}, frames shuffled")
        if method.uses_text:
            features = scored[""][1]
            scored[PERMUTED] = _score(method, features, permuted(text), fabric), features, 0.0
    number = {cls: i for i, cls in enumerate(classes)}
    key = f"{manifest.checksum(split)}\t{','.join(classes)}"
    same = {
        "truth": torch.tensor([number[row.cls] for row in views[0].rows]).numpy(),
        "split": split,
        "classes": classes,
        "checksum": hashlib.sha256(key.encode()).hexdigest(),
        "how": f"{len(views)} view{'s' if len(views) > 1 else ''} of each video",
    }
    return {
        name: Evaluation.of_videos(**same, probabilities=each.numpy(), seconds=seconds, controls=words(name))
        for name, (each, _, seconds) in scored.items()
    }


def embed_videos(
    method: VideoTextMethod, clips: Clips, *, fabric: Fabric | None = None, batch: int = 4, label: str = "evaluation"
) -> Features:
    """What ``embed`` gives of every video of the split, ``[V ...]``, on the device."""
    fabric = fabric or make_fabric()
    batch *= 1 if fabric.device.type == "cpu" else 10
    rows, parts = range(len(clips.manifest.videos(clips.split))), []
    for start in track(range(0, len(rows), batch), f"{label}: embedding"):
        frames = place(fabric, torch.stack([clips.test(row) for row in rows[start : start + batch]]))
        with torch.no_grad(), fabric.autocast():
            parts.append(method.embed(frames))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _scores(
    method: VideoTextMethod, views: Sequence, text: Tensor, fabric: Fabric, label: str
) -> tuple[Tensor, list[Features], float]:
    """Mean probabilities [V K] over the views, every view's features, seconds."""
    began = time.perf_counter()
    features = [embed_videos(method, clips, fabric=fabric, label=label) for clips in views]
    return _score(method, features, text, fabric), features, time.perf_counter() - began


@torch.no_grad()
def _score(method: VideoTextMethod, features: Sequence[Features], text: Tensor, fabric: Fabric) -> Tensor:
    with fabric.autocast():
        each = [method.score(view, text).float() for view in features]
    return torch.stack(each).mean(0).cpu()
