"""Ten training episodes (or batches) and ten tests of a run, measured: seconds, the peak of memory, bytes written.

Nothing of it is a result; no run folder is opened.
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from vidlib.basics.devices import make_fabric, place, ready
from vidlib.params.few_shot import RunParams
from vidlib.params.video_text import VideoTextRunParams
from vidlib.results import cost, runs
from vidlib.training import compiling, evaluate_episodes, few_shot, loop, memory, micro_batches, video_text
from vidlib.training.evaluate_videos import recognise
from vidlib.training.run import Work

TEN = 10
DEFAULTS = {"by_role": True, "uses_text": True, "support_text": False}  # what a method need not say
AnyRun = RunParams | VideoTextRunParams


@dataclass(frozen=True)
class Measured:
    """What ten of each took. Seconds: of a training episode (batch), of embedding a test video, of matching a test
    episode. MiB at the peak of a training step and of embedding. Bytes of weights, of a resumable state, of a step's
    record, of what is kept of a test episode (video). ``whole``: test episodes are embedded anew, each its own.
    ``by_role``, ``uses_text``, ``support_text``: as the method says."""

    train: float
    embed: float
    match: float
    train_memory: float
    test_memory: float
    weights: int
    state: int
    line: float
    kept: float
    whole: bool
    steps_per_epoch: int
    trained: bool
    by_role: bool = True
    uses_text: bool = True
    support_text: bool = False


def measure(params: AnyRun) -> Measured:
    """Train and test on ten episodes or batches in a folder that is removed again."""
    fabric = make_fabric(params.device, params.precision)
    return _few_shot(params, fabric) if isinstance(params, RunParams) else _labelled(params, fabric)


def embeddings(episodes: Any, by_role: bool) -> int:
    """How many embeddings the episodes need: of each video one, or one for each role that it plays."""
    roles: list[set[int]] = [set(), set()]
    for episode in episodes:
        roles[0].update(np.asarray(episode.support).tolist())
        roles[1].update(np.asarray(episode.query).tolist())
    return len(roles[0]) + len(roles[1]) if by_role else len(roles[0] | roles[1])


def _built(work: Work, fabric: Fabric) -> Any:
    return compiling.compiled(work.build(), work.params.compile, fabric.device.type)


def _few_shot(params: RunParams, fabric: Fabric) -> Measured:
    work = few_shot.work(params)
    method = micro_batches.split(_built(work, fabric), params.micro_batch)
    trained = bool(params.train_episodes and method.trainable())
    taken: dict[str, Any] = {"train": 0.0, "train_memory": 0.0, "weights": 0, "state": 0, "line": 0.0}
    if trained:
        source = work.split(method, "train").training(TEN)
        taken = _training(method, source, work, fabric)
    split = work.split(method, params.report)
    fabric.to_device(method)
    whole = evaluate_episodes.each_anew(method, split.clips)
    listed = [split.sampler[i] for i in range(TEN)]
    given = {"fabric": fabric, "label": "test"}

    def embedded(number: int) -> Any:
        """Of the first episodes: their result where each is embedded anew, else their videos' features."""
        if whole:
            return evaluate_episodes.evaluate_each_episode(
                method, split.clips, split.sampler, number, split.text, **given
            )
        return evaluate_episodes.embed_videos(method, split.clips, listed[:number], split.text, **given)

    peak = cost.peak_memory(lambda: embedded(1), holding=method)
    began = time.perf_counter()
    found = embedded(TEN)
    embed = (time.perf_counter() - began) / (TEN if whole else embeddings(listed, getattr(method, "by_role", True)))
    began = time.perf_counter()
    if not whole:
        found = evaluate_episodes.match_episodes(method, found, split.sampler, listed, split.text, **given)
    match = 0.0 if whole else (time.perf_counter() - began) / TEN
    arrays = (found.per_trial, found.episode, found.truth, found.predicted, found.margin)
    kept = sum(array.nbytes for array in arrays) / TEN
    said = {name: getattr(method, name, default) for name, default in DEFAULTS.items()}
    said |= {"whole": whole, "steps_per_epoch": 0, "trained": trained}
    return Measured(**taken, embed=embed, match=match, test_memory=peak, kept=kept, **said)


def _labelled(params: VideoTextRunParams, fabric: Fabric) -> Measured:
    work = video_text.work(params)
    method = micro_batches.split(_built(work, fabric), params.micro_batch)
    batches = work.source(method, (0, 1))
    trained = bool(params.epochs and method.trainable())
    taken: dict[str, Any] = {"train": 0.0, "train_memory": 0.0, "weights": 0, "state": 0, "line": 0.0}
    if trained:
        taken = _training(method, batches, work, fabric)
    fabric.to_device(method)
    views = video_text.open_views(params, method, work.manifest, video_text.REPORTS[params.report][0])
    ten = [_First(view, TEN) for view in views[:1]]
    peak = cost.peak_memory(lambda: recognise(method, ten, fabric=fabric, label="test"), holding=method)
    began = time.perf_counter()
    found = recognise(method, ten, fabric=fabric, label="test")[""]
    seconds = time.perf_counter() - began
    kept = found.probabilities.nbytes / len(found.probabilities)
    return Measured(
        **taken,
        embed=seconds / len(ten[0].rows),
        match=0.0,
        test_memory=peak,
        kept=kept,
        whole=False,
        steps_per_epoch=batches.per_epoch,
        trained=trained,
    )


def _training(method: Any, source: Any, work: Work, fabric: Fabric) -> dict[str, Any]:
    """Peak of memory of a training step, then ten batches through the loop: seconds each, and what it wrote."""
    settings = work.fit_settings() | {"schedule": "constant", "milestones": (), "together": work.TOGETHER}
    ready(fabric, method)
    peak, _ = memory.of_training(method, place(fabric, source[0]), fabric, settings)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        loop.fit(method, source, batches=TEN, **settings, fabric=fabric, folder=folder)
        spent = time.perf_counter() - began
        lines = runs.read_lines(Path(folder, loop.METRICS))
        size = Path(folder, loop.METRICS).stat().st_size / len(lines)
        sizes = [Path(folder, name).stat().st_size for name in (loop.WEIGHTS, loop.STATE)]
    later = lines[1:]  # the first step warms up
    seconds = sum(line["seconds"] for line in later) / (TEN - lines[0]["episode"]) if later else spent / TEN
    return {"train": seconds, "train_memory": peak, "weights": sizes[0], "state": sizes[1], "line": size}


class _First:
    """The first videos of a view's split, spread over its classes."""

    def __init__(self, view: Any, number: int) -> None:
        rows = range(len(view.rows))
        self.view, self.chosen = view, list(rows)[:: max(1, len(rows) // number)][:number]
        self.rows = [view.rows[i] for i in self.chosen]
        self.split, self.manifest = view.split, _Part(view.manifest, view.split, self.rows)

    def test(self, row: int) -> torch.Tensor:
        return self.view.test(self.chosen[row])


class _Part:
    """A manifest that holds some videos of one split, and knows all its classes."""

    def __init__(self, manifest: Any, split: str, rows: Sequence[Any]) -> None:
        self._manifest, self._split, self._rows = manifest, split, rows

    def videos(self, split: str) -> Sequence[Any]:
        return self._rows if split == self._split else self._manifest.videos(split)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manifest, name)
