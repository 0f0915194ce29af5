"""How far tricks get that understand nothing: the floors and the bars of a few-shot data set.

``measure`` asks them all on the same episodes, those on which the house's methods are tested. What a row knows of a
video is in ``traces``; ``Asked`` scores it, by any vectors or similarities.

Legend: `V` videos of a split, `E` episodes, `W` way, `S` supports, `Q` queries, `T` frames, `C` feature width.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

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


def measure(
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
    others: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> pd.DataFrame:
    """Every shortcut on ``dataset`` (an embedded world, a benchmark that is here, ``folder:PATH``), a row per split.

    Columns: shortcut, tower ("" where none looks), split, accuracy, half (of its 95% interval over episodes), low,
    high, half_videos and half_classes (the same by video asked and by class), chance, order and order_half (accuracy
    in order minus that of shuffled frames, paired by episode), note. Fractions, not percent.

    ``pretrained``: the weights, by default those that ship under the backbone's name. ``seed``: of what is drawn here;
    the tested episodes are the house's. ``others``: shortcut -> split -> similarity [V V], rows of one's own.
    UserError: unknown data or tower, episodes that do not fit, a video of ``splits`` that does not decode.
    """
    pretrained = pretrained or (backbone if backbone in base.SHIPPED else "")
    if not pretrained:
        raise UserError(f"pretrained: {backbone} has no weights of that name; give a tag of it, or a file")
    given = {"dataset": dataset, "backbone": backbone, "pretrained": pretrained, "way": way, "shot": shot}
    params = RunParams.parse(
        given | {"test_episodes": episodes, "frames": frames, "seed": seed, "method": "ordered_differences"}
    )
    if frames < 3:
        raise UserError(f"frames: {frames} are too few: the shortcuts take steps and triples of frames; give 3 or more")
    backbones.check(params.backbone, params.pretrained)
    manifest = few_shot.open_manifest(params)
    chosen = [split for split in dict.fromkeys(splits) if split in manifest.splits]
    if not chosen or "train" not in manifest.splits:
        raise UserError(
            f"split: {' and '.join(splits)} of {manifest.name} should be among {', '.join(manifest.splits)}, train "
            "beside them"
        )
    asking = {split: asked(manifest, split, way, shot, episodes) for split in chosen}
    if "val" in manifest.splits:  # the best single frame is chosen there
        asking.setdefault("val", asked(manifest, "val", way, shot, episodes))
    learning = asked(manifest, "train", min(way, len(manifest.classes("train"))), shot, max(TRAINED), seed)
    tower = few_shot.open_backbone(params)
    train = look(manifest, "train", learning.rows, tower, frames, may_fail=True)
    traces = {split: look(manifest, split, one.rows, tower, frames) for split, one in asking.items()}

    rows: list[dict[str, object]] = []

    def add(shortcut: str, split: str, result: Evaluation, note: str = "", looks: bool = True, **more: float) -> None:
        row = {"shortcut": shortcut, "tower": backbone if looks else "", "split": split, "accuracy": result.accuracy}
        row |= {"half": result.interval, "low": result.ends[0], "high": result.ends[1]}
        row |= {f"half_{kind}": result.intervals[kind] for kind in ("videos", "classes")}
        rows.append(row | {"chance": 1 / way, "order": np.nan, "order_half": np.nan} | more | {"note": note})

    def add_pair(shortcut: str, split: str, plain: Evaluation, mixed: Evaluation, note: str = "") -> None:
        gap = paired(plain, mixed)
        add(shortcut, split, plain, note)
        add(f"{shortcut}, frames shuffled", split, mixed, note, order=gap.difference, order_half=gap.interval)

    heads = _heads(learning, train, tower, seed)
    single = {split: _by_frame(asking[split], each.frames) for split, each in traces.items()}
    for split in chosen:
        one, each, shuffled = asking[split], traces[split], _shuffled(traces[split])
        for name in METRICS:
            shortcut, note = f"frozen features, {name}", "of random weights" if name == "trx" else ""
            result = one.by_metric(name, each.frames, seed)
            if name == "otam":
                add_pair(shortcut, split, result, one.by_metric(name, shuffled, seed), note)
            else:
                add(shortcut, split, result, note)
        best, where = _best_frame(single, split)
        add("best single frame", split, single[split][best], f"frame {best + 1} of {frames}, {where}")
        for number, head in heads.items():
            results = [one.by_vectors(_paths(head, features)) for features in (each.frames, shuffled)]
            add_pair(f"ordered differences, {number} episodes", split, *results)
        add("background alone", split, one.by_vectors(each.background))
        for shortcut in ("motion", "file", "packets"):
            scaled = _standardised(getattr(each, shortcut), getattr(train, shortcut)[train.read])
            add(NAMES[shortcut], split, one.by_vectors(scaled, euclidean=True), looks=False)
        for shortcut, similarities in (others or {}).items():
            if split in similarities:
                add(shortcut, split, one.by_similarity(similarities[split]), looks=False)
    table = pd.DataFrame(rows)
    table.attrs |= {"dataset": dataset, "note": manifest.note, "lost": train.lost}
    table.attrs["checksums"] = {split: one.checksum for split, one in asking.items()}
    return table


NAMES = {
    "motion": "global motion statistics",
    "file": "file: size, duration, rate, packets",
    "packets": "file: bytes in eight parts, in order",
}


def _heads(learning: Asked, train: Traces, tower: backbones.Backbone, seed: int) -> dict[int, OrderedDifferences]:
    """Ordered differences after each number of ``TRAINED`` episodes on the training split's frozen features."""
    read = set(train.read)
    heads, text = {}, torch.zeros(1, learning.sampler.way, 0)
    for number in TRAINED:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            head = OrderedDifferences(tower, train.frames.shape[1])
        optimizer = torch.optim.Adam(head.projection.parameters(), lr=RATE)
        for episode in learning.episodes[:number]:
            if not read >= {*episode.support.tolist(), *episode.query.tolist()}:
                continue  # a video of it does not decode
            support, query = ({"path": head.path(train.frames[r])[None]} for r in (episode.support, episode.query))
            labels = torch.from_numpy(episode.support_labels)[None]
            targets = Targets(*(torch.from_numpy(x)[None] for x in (episode.query_labels, episode.class_ids)), text)
            optimizer.zero_grad()
            head.match(support, labels, query, text, targets).loss.backward()
            optimizer.step()
        heads[number] = head
    return heads


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


def _standardised(values: Tensor, train: Tensor) -> Tensor:
    """``values`` [V N] less the mean of ``train`` [M N], over its deviation; over 1 where all of that are alike."""
    deviation = train.std(dim=0, correction=0)
    return (values - train.mean(dim=0)) / torch.where(deviation > 1e-6, deviation, torch.ones(()))
