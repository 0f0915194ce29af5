"""One thing changed at test, the trained weights kept: what a part is worth to a method that learned with it.

Judged on val, episode by episode against the method as it was trained, so that test stays unread. What embeds every
episode anew (videos of an episode that mix, frames drawn at random) meets fewer episodes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch

from vidlib.basics.devices import make_fabric
from vidlib.data.manifest import Manifest
from vidlib.layers.fusion_search import OPERATIONS
from vidlib.methods.gghm import GgHM
from vidlib.methods.sloshnet import DEFECTS, SloshNet
from vidlib.params.few_shot import FewShotParams, RunParams
from vidlib.results import runs
from vidlib.results.accuracy import Evaluation, paired
from vidlib.studies import tables
from vidlib.training import evaluate_episodes, few_shot

AS_TRAINED = "as trained"
WHOLE = 100  # episodes of what cannot embed a video once


def _as_it_is(method: Any) -> None:
    pass


@dataclass(frozen=True)
class Change:
    """A change by name: ``alter`` changes the trained method in place, ``params`` how its test frames are read.

    ``kind`` groups rows of a table.
    """

    label: str
    alter: Callable[[Any], None] = _as_it_is
    params: Mapping[str, Any] = field(default_factory=dict)
    kind: str = ""


def run(
    p: FewShotParams, manifest: Manifest, trained: runs.Run, changes: Sequence[Change], episodes: int
) -> dict[str, Evaluation]:
    """Evaluate ``trained`` on the first ``episodes`` episodes of val (``WHOLE`` at most where each is embedded anew),
    as it is and with each change alone; by label, in order."""
    fabric = make_fabric(p.device, p.precision)
    trained.count_reading("val", "changed at test")
    tests = {}
    for change in (Change(AS_TRAINED), *changes):
        method, val = few_shot.open_trained(trained, manifest)
        if change.params:
            read = RunParams.parse({**trained.params, **change.params})
            val = few_shot.open_split(read, manifest, method.backbone, "val")
        change.alter(method)
        count = min(episodes, WHOLE) if evaluate_episodes.each_anew(method, val.clips) else episodes
        settings = {"fabric": fabric, "label": change.label}
        tests[change.label] = evaluate_episodes.evaluate(method, val.clips, val.sampler, count, val.text, **settings)
    return tests


def table(tests: Mapping[str, Evaluation], changes: Sequence[Change]) -> pd.DataFrame:
    """One row per change: accuracy on val and its paired difference to the method as trained, per cent and points.

    Where the two met different numbers of episodes they are compared on those that both met.
    """
    kinds, full, rows = {change.label: change.kind for change in changes}, tests[AS_TRAINED], []
    for label, here in tests.items():
        row = {"changed at test": label, "what": kinds.get(label, "")}
        row |= {"accuracy": 100 * here.accuracy, "interval": 100 * here.interval}
        row |= {"difference": float("nan"), "half": float("nan"), "episodes": len(here.per_trial)}
        if here is not full:
            both = min(len(here.per_trial), len(full.per_trial))
            gap = paired(*(tables.first(result, both) for result in (here, full)))
            row |= {"difference": 100 * gap.difference, "half": 100 * gap.interval, "episodes": both}
        rows.append(row)
    return pd.DataFrame(rows).set_index("changed at test")


# ---------------------------------------------------------------- SloshNet


def sloshnet(method: SloshNet) -> tuple[Change, ...]:
    """What can be changed of ``method`` at test: its fusion, its temporal modules, the released code's defects."""
    return (*(_fusions() if method.fuses else ()), *_modules(method), *_defects(method))


def _fusions() -> tuple[Change, ...]:
    def operations(chosen: int | None) -> Callable[[SloshNet], None]:
        @torch.no_grad()
        def alter(method: SloshNet) -> None:
            method.fusion.alpha.zero_()
            if chosen is not None:
                method.fusion.alpha[:, chosen] = 100.0  # a weight of one, to the last digit

        return alter

    @torch.no_grad()
    def last(method: SloshNet) -> None:
        method.fusion.beta.zero_()
        method.fusion.beta[-1] = 100.0

    changes = [Change("every operation a third", operations(None), kind="fusion")]
    changes += [
        Change(f"only {name}, on every edge", operations(i), kind="fusion") for i, name in enumerate(OPERATIONS)
    ]
    return (*changes, Change("the deepest map alone", last, kind="fusion"))


def _modules(method: SloshNet) -> tuple[Change, ...]:
    def without(name: str) -> Callable[[SloshNet], None]:
        return lambda method: setattr(method, name, None)

    modules = {"long_term": "without the long-term module", "short_term": "without the short-term module"}
    there = {name: words for name, words in modules.items() if getattr(method, name) is not None}
    return tuple(Change(words, without(name), kind="temporal module") for name, words in there.items())


def _defects(method: SloshNet) -> tuple[Change, ...]:
    def toggled(name: str) -> Callable[[SloshNet], None]:
        return lambda method: setattr(method, "defects", method.defects ^ {name})

    changes = []
    for name in DEFECTS[:2] if method.long_term is not None else ():  # the third acts in training alone
        words = f"without the defect {name}" if name in method.defects else f"with the defect {name}"
        changes.append(Change(words, toggled(name), kind="released code"))
    grey = Change(
        "test frames in the other statistics (0.45, 0.225)", params={"normalise": "grey"}, kind="released code"
    )
    drawn = Change("random frames of supports", params={"test_frames": "random supports"}, kind="released code")
    return (*changes, grey, drawn)


# ---------------------------------------------------------------- GgHM


def gghm(method: GgHM) -> tuple[Change, ...]:
    """What can be changed of ``method`` at test: the graph that guides, dense temporal modelling, the matching."""
    return (*_guided(method), *_dense(method), *_matching(method))


def _guided(method: GgHM) -> tuple[Change, ...]:
    if method.guidance is None:
        return ()

    def unknowing(method: GgHM) -> None:
        edges = method.guidance.edges
        method.guidance.edges = lambda *nodes: torch.full_like(edges(*nodes), 0.5)

    def alone(method: GgHM) -> None:
        method.mix = lambda parts, alpha: parts["graph"]

    def shared(method: GgHM) -> None:
        method.guidance.shared = not method.guidance.shared

    words = "a graph for each query" if method.guidance.shared else "one graph for all queries (transductive)"
    return (
        Change("without the graph's guidance", lambda method: setattr(method, "guidance", None), kind="graph"),
        Change("guided by edges of a half, which know no class", unknowing, kind="graph"),
        Change(words, shared, kind="graph"),
        Change("the query's edges instead of matching", alone, kind="graph"),
    )


def _dense(method: GgHM) -> tuple[Change, ...]:
    if method.dense is None:
        return ()

    def without(name: str) -> Callable[[GgHM], None]:
        return lambda method: setattr(method.dense, name, None)

    there = [name for name in ("patch", "channel") if getattr(method.dense, name) is not None]
    parts = [Change(f"without the {name} relation", without(name), kind="dense modelling") for name in there]
    whole = Change(
        "without dense temporal modelling", lambda method: setattr(method, "dense", None), kind="dense modelling"
    )
    return (*(parts if len(parts) > 1 else ()), whole)


def _matching(method: GgHM) -> tuple[Change, ...]:
    other = "cosine" if method.distance == "euclidean" else "euclidean"
    return (
        Change(f"{other} distance", lambda method: setattr(method, "distance", other), kind="matching"),
        Change("tuples without places in time", lambda method: setattr(method, "position", 0.0), kind="matching"),
    )
