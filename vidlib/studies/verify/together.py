"""Checks of ``vidlib verify`` on several runs: copied answers, second records, unlike costs, the band of each kind.

A kind is a run without its seed and whatever the code: the same method, tower, data and budget.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import tokenize
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from vidlib.basics import paths
from vidlib.basics.digests import digest
from vidlib.basics.errors import UserError
from vidlib.studies import coverage, fresh_videos, ladder, price_of_test, records
from vidlib.studies.verify.subject import Subject, drawn, listed

CURVES = ("accuracy", "val accuracy", "training loss")
LIVED = ("method", "arguments", "backbone", "dataset", "seed", "lr", "frames", "shot", "train_episodes", "epochs")
TELLING = 50  # right answers, and wrong ones, at least, where equal answers are no chance
LONG, APART = 5_000, 0.02  # answers of a list; the least share in which runs that differ in LIVED differ (2.9% here)
SURE = 50_000  # answers from which those of two seeds at chance agree more than invented ones do (0.08 against 0.02)
LEAST = 6.0  # points that a band of accuracies reaches at least; of a loss a quarter of it

Said = Iterator[tuple[Subject, str]]
T = TypeVar("T")


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
            if other := _unlike(it, first):
                yield (
                    it,
                    f"its answers are those of {first.run.id} to the bit, though they differ in {', '.join(other)}",
                )
    yield from _near_twins(subjects)


def _near_twins(subjects: Sequence[Subject]) -> Said:
    """On a long list the records of such runs differ in at least ``APART`` of the answers: one test of another run is
    found among own ones."""
    lists: dict[tuple[str, str], list[tuple[Subject, np.ndarray]]] = defaultdict(list)
    for it in (it for it in subjects if it.fit and it.kept):
        for where, (number, packed) in it.bits.items():
            if number >= LONG:
                lists[where].append((it, packed))
    for (test, checksum), same in lists.items():
        number = same[0][0].bits[test, checksum][0]
        for i, (it, packed) in enumerate(same):
            for first, others in same[:i]:
                differ = int(np.bitwise_count(packed ^ others).sum())
                copied = differ < APART * number and it.signature[0] != first.signature[0]
                close = _unlike(it, first) == ["arguments"] and number < 2 * LONG  # an ablation may change few answers
                if copied and _unlike(it, first) and not close:
                    yield it, f"all but {differ} of its answers to {test} are those of {first.run.id}"


def _unlike(it: Subject, other: Subject) -> list[str]:
    """In what two runs differ that ought to show in their answers."""
    return [name for name in LIVED if it.values.get(name) != other.values.get(name)]


def strangers(subjects: Sequence[Subject]) -> Said:
    """The answers of a kind's seeds hang together: some episodes are easier than others. Invented ones do not."""
    for same in _kinds([it for it in subjects if it.fit and it.kept]).values():
        for it in same:
            others = [other for other in same if other is not it]
            for where, (number, packed) in it.bits.items() if others else ():
                each = [_phi(packed, other.bits[where][1], number) for other in others if where in other.bits]
                if number >= SURE and each and max(each) < 5 / math.sqrt(number):
                    yield it, f"its answers to {where[0]} have nothing in common with those of other seeds of its kind"


def _phi(one: np.ndarray, other: np.ndarray, number: int) -> float:
    """The correlation of right and wrong in two lists of bits; 1 where one of them never varies."""
    a, b, both = (int(np.bitwise_count(bits).sum()) / number for bits in (one, other, one & other))
    spread = a * (1 - a) * b * (1 - b)
    return (both - a * b) / math.sqrt(spread) if spread else 1.0


def once(subjects: Sequence[Subject]) -> Said:
    """In a folder of records a run has one, and a kind the seeds from 0 on."""
    kept = [it for it in subjects if it.kept]
    first: dict[tuple[Path, str], Subject] = {}
    for it in kept:
        if (other := first.setdefault((it.run.file.parent, records.key(it.params)), it)) is not it:
            yield it, f"it is a second record of the run of {other.run.id}: delete the one that is not meant"
    for same in _kinds(kept).values():
        seeds = {it.params.seed for it in same}
        if lacking := sorted({*range(max(seeds))} - seeds):
            yield same[0], f"its kind has seeds {sorted(seeds)}, and no record of {lacking}"


def tests(subjects: Sequence[Subject]) -> Said:
    """The seeds of a kind have the same tests, where the same code made them."""
    for same in _kinds(subjects).values():
        for it in same:
            alike = [other for other in same if other.contents["source"] == it.contents["source"]]
            fuller = next((other for other in alike if {*other.names} - {*it.names}), it)
            if lacking := sorted({*fuller.names} - {*it.names}):
                yield it, f"it lacks the test {', '.join(lacking)}, which {fuller.run.id} of its kind has"


def costs(subjects: Sequence[Subject]) -> Said:
    """Runs of one method, tower and data have as many parameters, the seeds of a kind as many multiply-adds, too."""
    alike: dict[str, list[Subject]] = defaultdict(list)
    for it in subjects:
        alike[it.sized].append(it)
        seconds = [it.result["cost"]["clips_per_second"], *(it.result[name]["seconds"] for name in it.names)]
        if not all(np.isfinite(each) and each >= 0 for each in seconds):
            yield it, "a time or speed in it is negative, or no number"
    for groups, names in ((alike, ("total", "trainable")), (_kinds(subjects), ("gmacs",))):
        for same in groups.values():
            for what, it in itertools.product(names, same[1:]):
                if it.result["cost"][what] != same[0].result["cost"][what]:
                    here, there = it.result["cost"][what], same[0].result["cost"][what]
                    yield it, f"it says {what} {here:,}, and {same[0].run.id}, which is as large, {there:,}"


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
    """Answers and counts agree (``load``); each run is of its name, once, at what the ladder's tries chose, on the list
    and at the checkpoints that its parameters mean, with counts that can be."""
    price, number = price_of_test.load(folder), 0
    if paths.read_json(folder / f"{price_of_test.NAME}.json", records.DAMAGED) != price.about:
        yield f"it says another thing than {price_of_test.NAME}.npz holds"
    lines, every = price.about["runs"], price_of_test.params_of(price)
    seeds: dict[str, list[int]] = defaultdict(list)
    for line, p in zip(lines, every, strict=True):
        seeds[p.method].append(p.seed)
        if line["method"] != p.method or not line["run"].startswith(f"{p.method}-") or not line["seconds"] >= 0:
            yield f"run {line['run']} is said to be of {line['method']}, of {line['seconds']} s"
        with contextlib.suppress(UserError):  # whose tries are not here
            best = ladder.best(p.method, price.about["column"])
            if (p.lr, p.metric_scale) != (best.lr, best.metric_scale):
                yield f"{p.method} has lr {p.lr} and scale {p.metric_scale}, which its tries did not choose"
        ends = math.ceil(p.train_episodes / p.episodes_per_step), max(1, p.val_every // p.episodes_per_step)
        if price.about["steps"] != sorted({*range(ends[1], ends[0] + 1, ends[1]), ends[0]}):
            yield f"the checkpoints of {p.method} are not those that its parameters mean"
        asked = drawn(listed(price.about["world"]), "test", p.way, p.shot, p.query, p.test_episodes)
        if price.about["checksum"] != asked["checksum"]:
            yield f"its list is not the one that the parameters of {p.method} draw"
        number = p.test_episodes * p.way * p.query
        if price.val.max() > p.val_episodes * p.way * p.query or price.chosen.shape[-1] != number:
            yield f"it counts more right answers than the parameters of {p.method} ask for, or keeps others"
    for method, own in seeds.items():
        if sorted(own) != [*range(len(own))]:
            yield f"{method} has seeds {own}, each from 0 on once"
    if price.val.shape[1] != len(price.about["steps"]) or min(price.val.min(), price.test.min()) < 0:
        yield "it has fewer checkpoints than it says, or counts below none"
    if price.test.max() > number / 2:
        yield "it counts more right answers on test than there are"
    for one, other in itertools.combinations(range(len(lines)), 2):
        if np.array_equal(price.val[one], price.val[other]) or np.array_equal(price.chosen[one], price.chosen[other]):
            yield f"{lines[one]['run']} and {lines[other]['run']} have the same answers"


def _intervals(folder: Path) -> Iterator[str]:
    """As many replicates as it says, and of every one the difference of its two methods."""
    kept, about = coverage.load(folder)
    for each, setting in zip(kept, about["settings"], strict=True):
        number = len(fresh_videos.classes(setting["group"]))
        drawn_of = about["videos"] / about["pool"][setting["group"]], about["classes"] / number
        if each["share"].tolist() != [drawn_of[number != about["classes"]]]:
            yield f"a replicate of {setting['name']} has another share of its pool than it says"
        if each["half"].shape != (about["replicates"], 3, len(about["intervals"])) or each["half"].min() < 0:
            yield f"the intervals of {setting['name']} are not as many as its replicates, or below none"
        for what in ("estimate", "truth"):
            first, second, difference = each[what].T
            if len(each[what]) != about["replicates"]:
                yield f"it tells of {about['replicates']} replicates, and keeps {len(each[what])}"
            elif np.abs(second - first - difference).max() > 2:  # each is rounded
                yield f"an {what} of the pair is not the difference of the two methods"


FIGURES: dict[str, Callable[[Path], Iterator[str]]] = {price_of_test.NAME: _price, coverage.NAME: _intervals}


def figures(root: Path) -> Iterator[tuple[str, str]]:
    """Further files of a folder of records: each can be read, has its partner, and holds what ``FIGURES`` checks."""
    for file in sorted(root.glob("runs/*.npz")):
        if not file.with_suffix(".json").is_file() and file.name[0] != ".":
            yield file.name, f"it has no {file.stem}.json: {records.DAMAGED}"
    for name, check in FIGURES.items():
        if any((root / f"{name}{ending}").is_file() for ending in (".json", ".npz")):
            yield from ((f"{name}.json", said) for said in said_by(check, root))


def said_by(check: Callable[[T], Iterator[str]], of: T, broken: Callable[[], object] = lambda: None) -> list[str]:
    """What a check says; that what it needs is not there, or of another kind, is a finding too, and ``broken``."""
    try:
        return [*check(of)]
    except UserError as error:
        broken()
        return [str(error)]
    except (LookupError, TypeError, ValueError, AttributeError, zlib.error, tokenize.TokenError) as error:
        broken()
        return [f"its record lacks what '{check.__name__}' reads, or holds another thing there ({error!r})"]
