"""``vidlib verify``: the weights of a run are its own, and 100 of its test episodes answered anew come out alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from vidlib.basics import paths
from vidlib.basics.errors import UserError
from vidlib.data.catalogue.benchmarks import WORLDS
from vidlib.data.episodes import Episode, EpisodeSampler
from vidlib.data.world import worlds
from vidlib.params.few_shot import RunParams
from vidlib.results import runs
from vidlib.results.accuracy import NEAR
from vidlib.studies.verify.subject import Subject
from vidlib.training import checkpoints, few_shot
from vidlib.training.evaluate_episodes import evaluate

EPISODES = 100


def folder_of(it: Subject) -> runs.Run | None:
    """The run folder of a subject: its own, or the one of that name among a person's runs."""
    if not it.kept:
        return it.run
    home = paths.runs_dir() / it.run.id
    try:
        return runs.read(home) if home.is_dir() else None
    except UserError:
        return None


def weights(it: Subject) -> Iterator[str]:
    """The weights in its folder were written by a run of its own settings, and are of the step that it selected."""
    run = folder_of(it)
    if run is None or it.fit is None:
        return
    meta = checkpoints.read(run.path(runs.WEIGHTS))[1]
    own = {"step": it.fit["selected"], "steps": it.fit["steps"], "val_accuracy": it.fit["val_accuracy"]}
    found = {name: meta.get(name) for name in own}
    wanted = {"seed": it.params.seed, "lr": it.params.lr, "weight_decay": it.params.weight_decay}
    found |= {name: meta.get("settings", {}).get(name) for name in wanted}
    for name, value in (own | wanted).items():
        if found[name] != value:
            yield f"{runs.WEIGHTS} was written with {name} {found[name]}, and its record says {value}"


def why_not(it: Subject) -> str:
    """Why nothing of it can be replayed; empty where it can."""
    p = it.params
    if not isinstance(p, RunParams):
        return "labelled videos, which all of a test would need"
    if it.fit is not None and folder_of(it) is None:
        return "its weights, which are not here"
    if it.work is None:
        return "its videos, which are not here"
    names = {p.dataset, p.test_dataset} & {*WORLDS}
    if lacking := [name for name in names if not (worlds.folder(name) / "complete").is_file()]:
        return f"its world {lacking[0]}, which is not rendered here"
    return ""


class Chosen:
    """Some episodes of a sampler, numbered anew."""

    def __init__(self, sampler: EpisodeSampler, numbers: np.ndarray) -> None:
        self.sampler, self.numbers = sampler, numbers

    def __getitem__(self, i: int) -> Episode:
        return self.sampler[int(self.numbers[i])]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sampler, name)


def replay(it: Subject) -> Iterator[str]:
    """Some of its test episodes, answered anew by its method with its weights, come out as on record, near ties apart:
    which ones is drawn anew each time, so that no changed answer is known to be safe."""
    p, run = it.params, folder_of(it)
    method = few_shot.trained_method(run)[1] if run and it.fit else few_shot.open_method(p).eval()
    split = few_shot.open_split(p, it.work.manifest, method.backbone, it.report)
    samplers = it.work.tested()
    chosen = np.sort(np.random.default_rng().permutation(p.test_episodes)[: EPISODES // len(samplers)])
    for name, sampler in samplers.items():
        listed = (split.clips, Chosen(sampler, chosen), len(chosen), split.text)
        again = evaluate(method, *listed, device=p.device, precision=p.precision, label=f"replaying {it.run.id}")
        stored = it.tests[name]
        then = stored.hits[np.isin(stored.episode, chosen)]
        other = int(((again.hits != then) & (again.margin >= NEAR)).sum())
        if other:
            yield f"{other} of {len(then)} answers to {name} are others when {len(chosen)} of its episodes are replayed"
