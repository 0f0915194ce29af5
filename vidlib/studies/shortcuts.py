"""How far tricks get that understand nothing: the floors and the bars of a few-shot data set.

``measure`` asks them all on the same episodes, those on which the house's methods are tested. What a row knows of a
video is in ``traces``; ``Asked`` scores it, by any vectors or similarities.

Legend: `V` videos of a split, `E` episodes, `W` way, `S` supports, `Q` queries, `T` frames, `C` feature width.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vidlib import backbones
from vidlib.basics.errors import UserError
from vidlib.data.episodes import Episode, EpisodeSampler, Targets
from vidlib.data.manifest import Manifest
from vidlib.matching import METRICS, build_metric, class_mean
from vidlib.methods.base import class_means, cosine
from vidlib.methods.ordered_differences import OrderedDifferences
from vidlib.params import base
from vidlib.params.few_shot import RunParams
from vidlib.results.accuracy import Evaluation, paired
from vidlib.studies.traces import Traces, look
from vidlib.training import few_shot
from vidlib.training.controls import ShuffledFrames

TOGETHER = 250  # episodes that are matched at a time
TRAINED = (3, 100)  # training episodes of the ordered differences
# Their Adam's, one episode a step. The means of three seeds on 2,000 val episodes of moving_shapes with the towers of
# the time, of 3e-4, 1e-3, 3e-3, 1e-2 and 3e-2: clip-mini 76.8, 76.9, 76.7, 74.2, 67.1 after 3 episodes and 77.5, 78.5,
# 78.3, 77.8, 78.4 after 100; resnet-mini 78.8, 79.4, 79.9, 77.1, 71.9 and 84.6, 84.9, 84.3, 83.8, 83.9.
RATE = 3e-3
SPLITS = ("val", "test")
SHUFFLED = ", frames shuffled"  # ends the name of a shortcut that lost the order
NAMES = {  # shortcuts that need no tower, by their field of ``Traces``
    "motion": "global motion statistics",
    "file": "file: size, duration, rate, packets",
    "packets": "file: bytes in eight parts, in order",
}
Logits = Callable[[Tensor, Tensor, Tensor], Tensor]  # support rows [E S], labels [E S], query rows [E Q] -> [E Q W]


@dataclass
class Asked:
    """The episodes of one split that every row meets; ``checksum`` names them."""

    sampler: EpisodeSampler
    episodes: list[Episode]
    checksum: str

    @property
    def rows(self) -> list[int]:
        """The videos that an episode uses, by their row in ``manifest.videos(split)``."""
        return np.unique([[*e.support, *e.query] for e in self.episodes]).tolist()

    def by_logits(self, logits: Logits) -> Evaluation:
        """What ``logits`` answers, asked for up to ``TOGETHER`` episodes at a time."""
        began, found = time.perf_counter(), []
        for start in range(0, len(self.episodes), TOGETHER):
            group = self.episodes[start : start + TOGETHER]
            support, labels, query = (
                torch.from_numpy(np.stack([getattr(e, name) for e in group]))
                for name in ("support", "support_labels", "query")
            )
            with torch.no_grad():
                found += [*logits(support, labels, query).numpy()]
        seconds = time.perf_counter() - began
        return Evaluation.of_episodes(self.sampler, self.episodes, found, None, "embed once", seconds, self.checksum)

    def by_vectors(self, vectors: Tensor, euclidean: bool = False) -> Evaluation:
        """``vectors`` [V D]: the nearest mean of a class's supports, by cosine or by Euclidean distance."""

        def logits(support: Tensor, labels: Tensor, query: Tensor) -> Tensor:
            means = class_means(vectors[support], labels, self.sampler.way)
            return -torch.cdist(vectors[query], means) if euclidean else cosine(vectors[query], means)

        return self.by_logits(logits)

    def by_similarity(self, similarity: Tensor) -> Evaluation:
        """``similarity`` [V V], of a query (row) to a support (column), larger where nearer; a class's mean counts."""

        def logits(support: Tensor, labels: Tensor, query: Tensor) -> Tensor:
            pairs = similarity[query[:, :, None], support[:, None]]
            return class_mean(pairs.float(), labels, self.sampler.way)

        return self.by_logits(logits)

    def by_texts(self, pooled: Tensor, texts: Tensor) -> Evaluation:
        """``pooled`` [V C] against the ``texts`` [classes C] of the split's classes: no support is looked at."""
        ids = torch.from_numpy(np.stack([episode.class_ids for episode in self.episodes]))
        every = cosine(pooled[None], texts[None])[0]  # [V classes]
        starts = iter(range(0, len(ids), TOGETHER))

        def logits(support: Tensor, labels: Tensor, query: Tensor) -> Tensor:
            start = next(starts)
            return every[query[:, :, None], ids[start : start + TOGETHER][:, None]]

        return self.by_logits(logits)

    def by_metric(self, name: str, frames: Tensor, seed: int = 0) -> Evaluation:
        """``frames`` [V T C] under a metric of ``matching``; the weights of TRX are random, from ``seed``."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            metric = build_metric(name, dim=frames.shape[2], frames=frames.shape[1]).eval()
        with torch.no_grad():
            kept = metric.prepare(frames)

        def logits(support: Tensor, labels: Tensor, query: Tensor) -> Tensor:
            ours, theirs = ({key: x[rows] for key, x in kept.items()} for rows in (query, support))
            return metric.compare(theirs, labels, ours, self.sampler.way)

        return self.by_logits(logits)


def asked(manifest: Manifest, split: str, way: int, shot: int, episodes: int, seed: int | None = None) -> Asked:
    """The first ``episodes`` of a split, one query a class: those that methods are tested on, or a ``seed``'s own."""
    seed = few_shot.EVALUATION_SEED if seed is None else seed
    sampler = EpisodeSampler(manifest, split, way, shot, 1, seed)
    return Asked(sampler, [sampler[i] for i in range(episodes)], sampler.checksum(episodes))


@dataclass
class Material:
    """What the shortcuts work with: the episodes and the ``traces`` of each split, those to learn from, and the tower.

    ``learning`` are the episodes of the training split, ``train`` its traces, read when they are first asked for.
    ``traces`` and ``asked`` hold val beside the ``splits`` that were asked for, where there is one: the best single
    frame is chosen there.
    """

    manifest: Manifest
    splits: tuple[str, ...]
    tower: backbones.Backbone
    asked: dict[str, Asked]
    traces: dict[str, Traces]
    learning: Asked
    frames: int
    seed: int

    @cached_property
    def train(self) -> Traces:
        return look(self.manifest, "train", self.learning.rows, self.tower, self.frames, may_fail=True)

    @cached_property
    def heads(self) -> dict[int, OrderedDifferences]:
        """Ordered differences after each number of ``TRAINED`` episodes of ``learning``, on frozen features."""
        return {number: _head(self, number) for number in TRAINED}


def _head(material: Material, episodes: int) -> OrderedDifferences:
    """Ordered differences after so many of ``material.learning`` on the training split's frozen features."""
    train, learning = material.train, material.learning
    read, text = set(train.read), torch.zeros(1, learning.sampler.way, 0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(material.seed)
        head = OrderedDifferences(material.tower, train.frames.shape[1])
    optimizer = torch.optim.Adam(head.projection.parameters(), lr=RATE)
    for episode in learning.episodes[:episodes]:
        if not read >= {*episode.support.tolist(), *episode.query.tolist()}:
            continue  # a video of it does not decode
        support, query = ({"path": head.path(train.frames[r])[None]} for r in (episode.support, episode.query))
        labels = torch.from_numpy(episode.support_labels)[None]
        targets = Targets(*(torch.from_numpy(x)[None] for x in (episode.query_labels, episode.class_ids)), text)
        optimizer.zero_grad()
        head.match(support, labels, query, text, targets).loss.backward()
        optimizer.step()
    return head


def gather(
    dataset: str,
    backbone: str = "clip-mini",
    pretrained: str = "",
    *,
    splits: Sequence[str] = SPLITS,
    way: int = 5,
    shot: int = 1,
    episodes: int = 2000,
    frames: int = 8,
    seed: int = 0,
) -> Material:
    """Read every video that the tested episodes use, once; arguments and errors as of ``measure``."""
    pretrained = pretrained or (backbone if backbone in base.SHIPPED else "")
    if not pretrained:
        raise UserError(f"pretrained: {backbone} has no weights of that name; give a tag of it, or a file")
    given = {"dataset": dataset, "backbone": backbone, "pretrained": pretrained, "way": way, "shot": shot}
    given |= {"test_episodes": episodes, "frames": frames, "seed": seed, "method": "ordered_differences"}
    params = RunParams.parse(given)
    if frames < 3:
        raise UserError(f"frames: {frames} are too few: the shortcuts take steps and triples of frames; give 3 or more")
    backbones.check(params.backbone, params.pretrained)
    manifest = few_shot.open_manifest(params)
    chosen = tuple(split for split in dict.fromkeys(splits) if split in manifest.splits)
    if not chosen or "train" not in manifest.splits:
        raise UserError(
            f"split: {' and '.join(splits)} of {manifest.name} should be among {', '.join(manifest.splits)}, train "
            "beside them"
        )
    wanted = dict.fromkeys([*chosen, *(["val"] if "val" in manifest.splits else [])])
    meet = {split: asked(manifest, split, way, shot, episodes) for split in wanted}
    fewer = min(way, len(manifest.classes("train")))
    learning = asked(manifest, "train", fewer, shot, max(TRAINED), seed)
    tower = few_shot.open_backbone(params)
    seen = {split: look(manifest, split, one.rows, tower, frames) for split, one in meet.items()}
    return Material(manifest, chosen, tower, meet, seen, learning, frames, seed)


def measure(
    dataset: str,
    backbone: str = "clip-mini",
    pretrained: str = "",
    *,
    seed: int = 0,
    others: Mapping[str, Mapping[str, Tensor]] | None = None,
    only: Sequence[str] = ("",),
    **settings: Any,
) -> pd.DataFrame:
    """Every shortcut on ``dataset`` (an embedded world, a benchmark that is here, ``folder:PATH``), a row per split.

    Columns: shortcut, tower ("" where none looks), split, accuracy, half (of its 95% interval over episodes), low,
    high, half_videos and half_classes (the same over other videos, over other classes), chance, order and order_half
    (accuracy in order minus that of shuffled frames, paired by episode), note. Fractions, not percent.

    ``pretrained``: the weights, by default those that ship under the backbone's name. ``seed``: of what is drawn here;
    the tested episodes are the house's. ``settings``: ``splits``, ``way``, ``shot``, ``episodes`` and ``frames`` of
    ``gather``. ``others``: shortcut -> split -> similarity [V V], rows of one's own. ``only``: how the names of the
    shortcuts begin that are measured, all by default.
    UserError: unknown data or tower, episodes that do not fit, a video of ``splits`` that does not decode.
    """
    material = gather(dataset, backbone, pretrained, seed=seed, **settings)
    rows = []
    for split in material.splits:
        plain = None
        for shortcut, note, work in _each(material, split, others or {}):
            if not shortcut.startswith(tuple(only)):
                continue
            result = work()
            blind = shortcut in (*NAMES.values(), *(others or {}))
            row = {"shortcut": shortcut, "tower": "" if blind else backbone, "split": split}
            row |= {"accuracy": result.accuracy, "half": result.interval, "low": result.ends[0], "high": result.ends[1]}
            row |= {f"half_{kind}": result.intervals[kind] for kind in ("videos", "classes")}
            gap = paired(plain, result) if plain and shortcut.endswith(SHUFFLED) else None
            row |= {"chance": 1 / material.asked[split].sampler.way, "order": gap.difference if gap else np.nan}
            rows.append(row | {"order_half": gap.interval if gap else np.nan, "note": note})
            plain = result
    table = pd.DataFrame(rows)
    lost = material.train.lost if "train" in vars(material) else []
    table.attrs |= {"dataset": dataset, "note": material.manifest.note, "lost": lost}
    table.attrs["checksums"] = {split: one.checksum for split, one in material.asked.items()}
    return table


def _each(
    material: Material, split: str, others: Mapping[str, Mapping[str, Tensor]]
) -> Iterator[tuple[str, str, Callable[[], Evaluation]]]:
    """Each shortcut's name, note and what measures it; one with shuffled frames right after it with frames in order."""
    one, traces = material.asked[split], material.traces[split]
    shuffled = _shuffled(traces)
    for metric in METRICS:
        shortcut, note = f"frozen features, {metric}", "of random weights" if metric == "trx" else ""
        yield shortcut, note, partial(one.by_metric, metric, traces.frames, material.seed)
        if metric == "otam":
            yield shortcut + SHUFFLED, note, partial(one.by_metric, metric, shuffled, material.seed)
    if material.tower.has_text:
        yield "class texts alone", "no support", lambda: one.by_texts(traces.frames.mean(1), _texts(material, split))
    single = {name: _by_frame(material.asked[name], each.frames) for name, each in material.traces.items()}
    best, where = _best_frame(single, split)
    note = f"frame {best + 1} of {traces.frames.shape[1]}, {where}"
    yield "best single frame", note, lambda: single[split][best]
    for number in TRAINED:
        for order, features in (("", traces.frames), (SHUFFLED, shuffled)):
            name = f"ordered differences, {number} episodes{order}"
            yield name, "", lambda n=number, x=features: one.by_vectors(_paths(material.heads[n], x))
    yield "median picture over time", "", partial(one.by_vectors, traces.background)
    for name, shortcut in NAMES.items():
        yield shortcut, "", lambda name=name: one.by_vectors(_standardised(traces, material.train, name), True)
    for shortcut, similarities in others.items():
        if split in similarities:
            yield shortcut, "", partial(one.by_similarity, similarities[split])


def _texts(material: Material, split: str) -> Tensor:
    """The classes' texts, sorted by class, as every few-shot run of the tower reads them: [classes C]."""
    names = [material.manifest.text(name) for name in material.manifest.classes(split)]
    with torch.no_grad():
        return material.tower.encode_text(names, RunParams().templates).float().cpu()


def _paths(head: OrderedDifferences, frames: Tensor) -> Tensor:
    with torch.no_grad():
        return head.path(frames)


def _shuffled(traces: Traces) -> Tensor:
    """``traces.frames`` in the order that the house's control of time gives each video's."""
    clips = ShuffledFrames(traces, traces.split)
    return torch.stack([clips.test(row) for row in range(len(traces.frames))])


def _by_frame(one: Asked, frames: Tensor) -> list[Evaluation]:
    """Each of the T positions alone, by cosine."""
    return [one.by_vectors(frames[:, t]) for t in range(frames.shape[1])]


def _best_frame(single: Mapping[str, Sequence[Evaluation]], split: str) -> tuple[int, str]:
    """The position that is best on val, else on ``split`` itself, and which of the two in words."""
    by = "val" if "val" in single else split
    best = int(np.argmax([result.accuracy for result in single[by]]))
    return best, "chosen on val" if by == "val" else f"chosen on {split} itself, for there is no val"


def _standardised(traces: Traces, train: Traces, name: str) -> Tensor:
    """``name`` of ``traces`` [V N] less the mean of ``train``'s, over its deviation; over 1 where all are alike."""
    values, learned = getattr(traces, name), getattr(train, name)[train.read]
    deviation = learned.std(dim=0, correction=0)
    return (values - learned.mean(dim=0)) / torch.where(deviation > 1e-6, deviation, torch.ones(()))
