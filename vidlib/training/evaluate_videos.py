"""Testing video-text methods: every view of every video embedded once, then set against the texts of all classes.

Legend: `V` videos, `K` classes, `P` templates, `C` joint-space width.

The controls of the few-shot evaluation stand beside: frames in another order, class texts of other classes.
"""

import hashlib
import time
from collections.abc import Sequence

import torch
from lightning.fabric import Fabric
from torch import Tensor

from vidlib.basics.devices import make_fabric, place
from vidlib.basics.progress import track
from vidlib.data.clips import Clips
from vidlib.methods.video_text import Features, VideoTextMethod
from vidlib.results.recognised import Recognised
from vidlib.training.evaluate_episodes import ShuffledFrames, permuted_text


def recognise(
    method: VideoTextMethod,
    views: Sequence[Clips],
    *,
    fabric: Fabric | None = None,
    label: str = "evaluation",
    controls: bool = False,
) -> dict[str, Recognised]:
    """``method`` on all videos of a split, in every one of ``views`` (the same videos; probabilities are averaged).

    The classes are those of the split. Under "" the result; with ``controls`` also under "frames_shuffled" and, where
    texts matter to the method, "texts_permuted".
    """
    fabric = fabric or make_fabric()
    method = fabric.to_device(fabric.strategy.precision.convert_module(method)).eval()
    manifest, split = views[0].manifest, views[0].split
    classes = manifest.classes(split)
    with fabric.autocast():
        text = method.class_text([manifest.text(cls) for cls in classes])
    found = {"": _scores(method, views, text, fabric, label)}
    if controls:
        shuffled = [ShuffledFrames(clips, split) for clips in views]
        found["frames_shuffled"] = _scores(method, shuffled, text, fabric, f"{label}, frames shuffled")
        if method.uses_text:
            features = found[""][1]
            found["texts_permuted"] = _score(method, features, permuted(text), fabric), features, 0.0
    number = {cls: i for i, cls in enumerate(classes)}
    truth = torch.tensor([number[row.cls] for row in views[0].rows]).numpy()
    key = f"{manifest.checksum(split)}\t{','.join(classes)}"
    settings = {
        "split": split,
        "classes": classes,
        "checksum": hashlib.sha256(key.encode()).hexdigest(),
        "views": f"{len(views)} view{'s' if len(views) > 1 else ''} of each video",
        "truth": truth,
    }
    results = {}
    for name, (probabilities, _, seconds) in found.items():
        controlled = {"frame_order": "shuffled" if name == "frames_shuffled" else "in order"}
        controlled["text_order"] = "permuted" if name == "texts_permuted" else "own"
        results[name] = Recognised(
            **settings, probabilities=probabilities.numpy(), seconds=seconds, controls=controlled
        )
    return results


def permuted(text: Tensor) -> Tensor:
    """``text [P K C]`` with every class given another class's sentences."""
    return permuted_text(text.movedim(1, 0)).movedim(0, 1)


def embed_videos(
    method: VideoTextMethod, clips: Clips, *, fabric: Fabric | None = None, batch: int = 4, label: str = "evaluation"
) -> Features:
    """What ``embed`` gives of every video of the split, ``[V ...]``, on the device."""
    fabric = fabric or make_fabric()
    batch *= 1 if fabric.device.type == "cpu" else 10
    rows, found = range(len(clips.manifest.videos(clips.split))), []
    for start in track(range(0, len(rows), batch), f"{label}: embedding"):
        frames = place(fabric, torch.stack([clips.test(row) for row in rows[start : start + batch]]))
        with torch.no_grad(), fabric.autocast():
            found.append(method.embed(frames))
    return {name: torch.cat([part[name] for part in found]) for name in found[0]}


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
