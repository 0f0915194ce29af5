"""Checks of ``vidlib verify`` on several runs together: copied answers, unlike costs, and the band of each kind.

A kind is a run without its seed and whatever the code: the same method, tower, data and budget.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from vidlib.basics import paths
from vidlib.basics.digests import digest
from vidlib.basics.errors import UserError
from vidlib.studies import coverage, price_of_test, records
from vidlib.studies.verify.subject import Subject

CURVES = ("accuracy", "val accuracy", "training loss")
LIVED = ("method", "arguments", "backbone", "dataset", "seed", "lr", "frames", "shot", "train_episodes", "epochs")
TELLING = 50  # right answers, and wrong ones, at least, where equal answers are no chance
LEAST = 6.0  # points that a band of accuracies reaches at least; of a loss a quarter of it

Said = Iterator[tuple[Subject, str]]


def kind(it: Subject) -> str:
    """What a run and its other seeds have in common."""
    values = {name: value for name, value in it.values.items() if name != "seed"}
    return digest([values, {name: value for name, value in it.contents.items() if name not in records.FREE}])


def _kinds(subjects: Sequence[Subject]) -> dict[str, list[Subject]]:
    found: dict[str, list[Subject]] = defaultdict(list)
    for it in subjects:
        found[kind(it)].append(it)
    return found


def twins(subjects: Sequence[Subject]) -> Said:
    """No two trained runs of other seeds, rates or methods have the same answers on every list, to the bit. On a short
    one alone they can: ActionCLIP's fixed temperature changes none of 288 on val, and some on new classes."""
    found: dict[str, list[Subject]] = defaultdict(list)
    for it in subjects:
        if it.fit and it.report in it.names:
            answers, right, number = it.signature
            if TELLING <= right <= number - TELLING:
                found[answers].append(it)
    for first, *rest in found.values():
        for it in rest:
            if other := [name for name in LIVED if it.values.get(name) != first.values.get(name)]:
                yield (
                    it,
                    f"its answers are those of {first.run.id} to the bit, though they differ in {', '.join(other)}",
                )


def costs(subjects: Sequence[Subject]) -> Said:
    """The seeds of a kind have as many parameters and multiply-adds."""
    for same in _kinds(subjects).values():
        for what in ("total", "trainable", "gmacs"):
            for it in same[1:]:
                if it.result["cost"][what] != same[0].result["cost"][what]:
                    here, there = it.result["cost"][what], same[0].result["cost"][what]
                    yield it, f"it says {what} {here:,}, and another seed of its kind, {same[0].run.id}, {there:,}"


def measures(it: Subject) -> dict[str, tuple[float, float]]:
    """Where a training ended, and how far a band reaches at least: accuracies in percent, mean loss of its last fifth.

    What chance does in as few answers as were asked is within the band."""
    losses = [line["loss"] for line in it.curve if "loss" in line]
    loss = float(np.mean(losses[-max(1, len(losses) // 5) :]))
    found = {"training loss": (loss, loss / 4)}
    if it.report in it.names:
        test = it.result[it.report]
        found["accuracy"] = (100 * test["accuracy"], max(LEAST, 200 * test["interval"]))
    if it.fit["val_accuracy"] is not None:
        p = it.params
        answers = p.val_episodes * p.way * p.query if it.episodes else it.result["labels"]["selection"]["videos"]
        found["val accuracy"] = (100 * it.fit["val_accuracy"], max(LEAST, 200 / answers**0.5))
    return found


def bands(subjects: Sequence[Subject]) -> Said:
    """Every trained run lies in the band of the other seeds of its kind: their mean and four deviations, theirs or
    those that are usual in other kinds, whichever is more; or as far as ``measures`` says at least."""
    trained = [[(it, measures(it)) for it in same if it.fit] for same in _kinds(subjects).values()]
    for what in CURVES:
        kinds = [[(it, *own[what]) for it, own in same if what in own] for same in trained]
        spreads = {k: np.std([value for _, value, _ in same], ddof=1) for k, same in enumerate(kinds) if len(same) > 2}
        for k, same in enumerate(kinds):
            usual = float(np.median([spread for other, spread in spreads.items() if other != k] or [0.0]))
            for i, (it, value, least) in enumerate(same):
                others = [other for _, other, _ in same[:i] + same[i + 1 :]]
                if not others:
                    continue
                middle, own = float(np.mean(others)), float(np.std(others, ddof=1)) if len(others) > 1 else 0.0
                reach = max(4 * own, 4 * usual, least)
                if abs(value - middle) > reach:
                    ends = f"{middle - reach:.3g} to {middle + reach:.3g}"
                    seeds = f"{len(others)} other seed{'s' if len(others) > 1 else ''}"
                    yield it, f"its {what} {value:.3g} is outside the band of its kind, {ends} by {seeds}"


def _price(folder: Path) -> Iterator[str]:
    """Answers and counts agree (``load``), and each run of the record has its method's parameters."""
    price = price_of_test.load(folder)
    for line in price.about["runs"]:
        if line["method"] not in price.about["params"]:
            yield f"it names no parameters of {line['method']}"
    if len(price.about["runs"]) != len(price.val) or price.val.shape[1] != len(price.about["steps"]):
        yield f"it tells of {len(price.about['runs'])} runs, {len(price.about['steps'])} checkpoints, and keeps others"


def _intervals(folder: Path) -> Iterator[str]:
    """As many replicates as it says, and of every one the difference of its two methods."""
    kept, about = coverage.load(folder)
    for each in kept:
        for what in ("estimate", "truth"):
            first, second, difference = each[what].T
            if len(each[what]) != about["replicates"]:
                yield f"it tells of {about['replicates']} replicates, and keeps {len(each[what])}"
            elif np.abs(second - first - difference).max() > 2:  # each is rounded
                yield f"an {what} of the pair is not the difference of the two methods"


FIGURES: dict[str, Callable[[Path], Iterator[str]]] = {price_of_test.NAME: _price, coverage.NAME: _intervals}


def figures(root: Path) -> Iterator[tuple[str, str]]:
    """Further files of a folder of records: each can be read, and holds what ``FIGURES`` checks of it."""
    for file in sorted(root.rglob("*.json")):
        if file.parent.name not in ("runs", "code"):
            paths.read_json(file, records.DAMAGED)
            try:
                yield from ((file.name, said) for said in FIGURES.get(file.stem, lambda _: iter(()))(file.parent))
            except UserError as error:
                yield file.name, str(error)
