"""What ``guess`` gives the user: tables, lines, a CSV, and frames with the attention over them.

Legend: `V` videos, `K` classes, `T` frames, `H` heads, `N` tokens.
"""

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from vidlib.basics.errors import UserError
from vidlib.basics.paths import absolute, atomic_write, written
from vidlib.basics.progress import track
from vidlib.data import video
from vidlib.data.clips import Pick
from vidlib.data.transforms import ClipTransform
from vidlib.layers.attention import capture_attention
from vidlib.methods import FewShotMethod, VideoTextMethod
from vidlib.studies.predict.files import shown
from vidlib.studies.predict.held_out import HeldOut
from vidlib.viz import attention, filmstrip, style

MEANING = {
    False: "a score is the probability of a class among those given; all of them add up to 1",
    True: "a score is softmax over the method's logits of the classes; all of them add up to 1",
}
UNCALIBRATED = (
    "not calibrated: 0.9 does not mean right nine times in ten, and a video of no given class gets a guess too"
)
SURE = (  # of a HeldOut
    "confidence: the score at the temperature {0.temperature:.3g}, fitted on your {0.number} examples, each told by "
    "the others ({0.right} of them right); one of 0.9 should be right nine times in ten, of videos like the examples\n"
    "none of these: said where the largest logit lies below {0.threshold:.4g}, which 95% of them or more reach"
)
COLUMNS = ["way", "video", "rank", "class", "score", "confidence", "none_of_these", "unreadable"]


@dataclass
class Opened:
    """A method in evaluation mode, how it reads a video, the templates of its class texts, and what it is in words."""

    method: FewShotMethod | VideoTextMethod
    frames: int
    pick: Pick
    transform: ClipTransform
    templates: tuple[str, ...]
    words: str

    def read(self, path: Path) -> Tensor:
        """A file's clip [T C H W]; UserError where it cannot be read."""
        frames = video.read_frames(path, self.pick(video.count_frames(path), self.frames, None))
        return self.transform(frames)


@dataclass
class Predicted:
    """``scores [V K]`` of the videos in ``read``; the others are in ``unreadable``, each with its cause.

    ``examples``: how many example videos were read; ``lost``: those that could not be; ``known``: how many of the
    videos are examples too. ``memory`` in MiB: the model's and its largest batch's. Of a few-shot way there are
    ``logits [V K]`` and ``held``, how sure they are, or why nothing can tell.
    """

    few_shot: bool
    words: str
    classes: tuple[str, ...]
    read: list[Path]
    scores: np.ndarray
    unreadable: dict[Path, str]
    examples: int
    lost: dict[Path, str]
    known: int
    seconds: float
    memory: float
    names: dict[Path, str]
    logits: np.ndarray | None = None
    held: HeldOut | str = ""

    @property
    def way(self) -> str:
        return "few-shot" if self.few_shot else "zero-shot"

    @property
    def speed(self) -> float:
        """Clips a second, reading included."""
        return (len(self.read) + self.examples) / self.seconds

    def guesses(self) -> dict[str, str]:
        """The first class of each video that was read, by the video's name."""
        return {
            self.names[path]: self.classes[best] for path, best in zip(self.read, self.scores.argmax(1), strict=True)
        }

    def table(self, top: int) -> pd.DataFrame:
        """COLUMNS: of each video its ``top`` classes; of one that could not be read no class, and the cause."""
        rows = []
        confidence, none = np.full_like(self.scores, math.nan), np.full(len(self.read), "")
        if isinstance(self.held, HeldOut):
            confidence = self.held.confidence(self.logits)
            none = np.where(self.held.none_of_these(self.logits), "yes", "no")
        for path, scores, sure, outside in zip(self.read, self.scores, confidence, none, strict=True):
            order = np.argsort(-scores, kind="stable")[:top]
            told = [(self.classes[k], scores[k], sure[k], outside, "") for k in order]
            rows += [(self.names[path], i, *one) for i, one in enumerate(told, 1)]
        rows += [(self.names[path], None, "", math.nan, math.nan, "", cause) for path, cause in self.unreadable.items()]
        table = pd.DataFrame([(self.way, *row) for row in rows], columns=COLUMNS)
        return table.astype({"rank": "Int64"})

    def about(self) -> Iterator[str]:
        """What guessed, and what its scores are."""
        yield f"{self.way}: {self.words}, {len(self.classes)} classes"
        yield MEANING[self.few_shot]
        yield SURE.format(self.held) if isinstance(self.held, HeldOut) else UNCALIBRATED
        if self.held and not isinstance(self.held, HeldOut):
            yield f"no confidence can be calibrated: {self.held}"

    def summary(self) -> Iterator[str]:
        """What was not read, and what it took; in sentences."""
        for title, causes in (("videos", self.unreadable), ("example videos", self.lost)):
            if causes:
                yield f"{title} that could not be read, and are not guessed at:"
                yield from (f"  {self.names.get(path, shown(path))}: {cause}" for path, cause in causes.items())
        if self.known:
            yield f"{self.known} of the videos are example videos too: their guesses tell nothing"
        also = f" and {self.examples} example videos" if self.few_shot else ""
        yield (
            f"{len(self.read)} videos{also} in {self.seconds:.1f} s: {self.speed:.1f} clips per second, "
            f"reading included; weights and tensors at their peak {self.memory:,.0f} MiB"
        )


def lines(predicted: Predicted, top: int) -> Iterator[str]:
    """The guesses as text: what they are, then each video's classes in order, then what was not read, and the cost."""
    yield from predicted.about()
    yield ""
    width = max(map(len, predicted.classes))
    for name, rows in predicted.table(top).dropna(subset=["rank"]).groupby("video", sort=False):
        yield f"{name}: none of these, it seems" if (rows["none_of_these"] == "yes").all() else name
        for row in rows.itertuples():
            sure = f"  confidence {row.confidence:.2f}" if row.confidence == row.confidence else ""
            yield f"  {row.rank}  {row[4]:<{width}}  {row.score:.3f}{sure}"
    yield ""
    yield from predicted.summary()


def write_csv(table: pd.DataFrame, file: str | Path, overwrite: bool = False) -> None:
    """Write ``table`` whole or not at all; UserError where the file exists and ``overwrite`` is not set."""
    if os.path.lexists(file) and not overwrite:
        raise UserError(f"csv: {file} exists; give another name, or --overwrite (in a notebook, remove the file)")
    with written("csv", file), atomic_write(file) as part:
        table.to_csv(part, index=False, float_format="%.6f", encoding="utf-8")


def figure(predicted: Predicted, opened: Opened, path: Path) -> tuple[Figure, pd.DataFrame]:
    """A video's frames, and where the tower is a ViT the class token's last attention over them; the numbers drawn."""
    clip = opened.read(path)
    frames = filmstrip.to_uint8(clip, opened.transform.mean, opened.transform.std)
    scores = predicted.scores[predicted.read.index(path)]
    guess = f"{predicted.way} guess: {predicted.classes[scores.argmax()]}, score {scores.max():.2f}"
    title = f"{predicted.names[path]}; {guess}"
    last, masses, numbers = {}, {}, pd.DataFrame({"class": predicted.classes, "score": scores})
    maps, name = _attention(opened, clip), "attention"
    if maps is not None:
        last[name] = attention.class_token_maps(maps, opened.method.backbone.grid)
        extra = attention.extra_mass(maps, opened.method.backbone.grid)
        masses |= {name: extra} if extra.any() else {}
        numbers = attention.table(last, masses)
    return attention.maps(frames, last, masses, title=title), numbers


def save_figures(predicted: Predicted, opened: Opened, folder: str | Path) -> None:
    """``figure`` of every video that was read, as PNG and CSV in ``folder``, numbered in order."""
    for number, path in enumerate(track(predicted.read, "figures"), 1):
        drawn, numbers = figure(predicted, opened, path)
        name = re.sub(r"\W+", "_", Path(predicted.names[path]).stem)
        with written("figures", folder):
            style.save(drawn, absolute(folder), f"{number:03d}_{name[:80]}", numbers, formats=("png",))
        plt.close(drawn)


def _attention(opened: Opened, clip: Tensor) -> Tensor | None:
    """The last block's attention [T H N N] as a query; None of a ResNet, and where all frames are one sequence."""
    method, tower = opened.method, opened.method.backbone
    if not hasattr(tower, "grid"):
        return None
    seen = SimpleNamespace(backbone=tower, attention_calls=getattr(method, "attention_calls", ("local",)))
    clips = clip[None].to(next(tower.trunk.parameters()))
    with torch.no_grad(), capture_attention(seen) as weights:
        method.embed(clips) if isinstance(method, VideoTextMethod) else method.embed(clips, None, "query")
    last = weights.get((tower.layers - 1, "local"))
    return None if last is None or len(last) != opened.frames else last
