"""Testing video-text methods: every view of every video embedded once, then set against the texts of all classes.

Legend: `B` videos of a batch, `V` views of each, `K` classes, `P` templates, `C` joint-space width.

The controls of the few-shot evaluation stand beside: frames in another order, class texts of other classes. A video is
read once for all its views and controls; all processes take part (``reading``).
"""

import hashlib
import time
from collections.abc import Sequence

import torch
from lightning_fabric import Fabric
from torch import Tensor

from vidlib.basics.devices import make_fabric, ready
from vidlib.data.clips import Clips, Views
from vidlib.methods.video_text import Features, VideoTextMethod
from vidlib.results.accuracy import Evaluation
from vidlib.training import reading
from vidlib.training.controls import PERMUTED, SHUFFLED, permuted, shuffled, words


def recognise(
    method: VideoTextMethod,
    views: Sequence[Clips] | Views,
    *,
    fabric: Fabric | None = None,
    label: str = "evaluation",
    controls: bool = False,
    workers: int = 0,
) -> dict[str, Evaluation]:
    """``method`` on all videos of a split, in every one of ``views`` (the same videos; probabilities are averaged).

    The classes are those of the split. Under "" the evaluation; with ``controls`` also under the name of each, that of
    the texts where they matter to the method. ``seconds`` are those of all together. On every process the same.
    """
    fabric = fabric or make_fabric()
    method = ready(fabric, method)
    views = views if isinstance(views, Views) else Views(views)
    manifest, split, rows = views.manifest, views.split, views.rows
    classes = manifest.classes(split)
    began = time.perf_counter()
    with torch.no_grad(), fabric.autocast():
        text = method.class_text([manifest.text(cls) for cls in classes])
    asked = {"": {"": text}} | ({SHUFFLED: {SHUFFLED: text}} if controls else {})
    if controls and method.uses_text:
        asked[""][PERMUTED] = permuted(text)

    def score(some: list[int], frames: Tensor, most: int) -> dict[str, Tensor]:
        """Of ``frames [B V T ...]`` the mean probabilities [B K] over the views, by control."""
        found: dict[str, list[Tensor]] = {}
        for order, texts in asked.items():
            shown = shuffled(frames, [rows[row].video for row in some], 2) if order else frames
            for part in shown.flatten(0, 1).split(most):
                features = method.embed(part)
                for name, given in texts.items():
                    found.setdefault(name, []).append(method.score(features, given).float())
        return {name: torch.cat(parts).unflatten(0, (len(some), -1)).mean(1) for name, parts in found.items()}

    every = range(len(rows))
    scores = reading.over(views, every, score, fabric, workers=workers, label=f"{label}: videos")
    seconds = time.perf_counter() - began
    number = {cls: i for i, cls in enumerate(classes)}
    key = f"{manifest.checksum(split)}\t{','.join(classes)}"
    same = {
        "truth": torch.tensor([number[row.cls] for row in rows]).numpy(),
        "split": split,
        "classes": classes,
        "checksum": hashlib.sha256(key.encode()).hexdigest(),
        "how": f"{views.count} view{'s' if views.count > 1 else ''} of each video",
    }
    return {
        name: Evaluation.of_videos(
            **same, probabilities=scores[name].cpu().numpy(), seconds=seconds, controls=words(name)
        )
        for name in ("", SHUFFLED, PERMUTED)
        if name in scores
    }


def embed_videos(
    method: VideoTextMethod, clips: Clips, *, fabric: Fabric | None = None, batch: int = 4, label: str = "evaluation"
) -> Features:
    """What ``embed`` gives of every video of the split, ``[V ...]``, on the device of every process."""
    fabric = fabric or make_fabric()
    rows = range(len(clips.manifest.videos(clips.split)))
    embed = lambda some, frames, most: method.embed(frames)  # noqa: E731
    return reading.over(clips, rows, embed, fabric, batch=batch, label=f"{label}: embedding")
