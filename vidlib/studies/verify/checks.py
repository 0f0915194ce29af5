"""Checks of ``vidlib verify`` on one run: what it is, what was asked and answered, how it was trained and chosen."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any

import numpy as np

from vidlib import methods
from vidlib.basics import paths
from vidlib.basics.digests import digest
from vidlib.basics.errors import UserError
from vidlib.results import runs
from vidlib.results.accuracy import PERMUTED, harmonic
from vidlib.results.identity import Identity
from vidlib.studies import records
from vidlib.studies.verify.subject import DECIDES_VIDEOS, Subject, contents_of, drawn
from vidlib.training import controls, few_shot, video_text
from vidlib.training import run as running
from vidlib.training.step import rate_at, shares

SAME = 1e-12  # numbers that are recomputed
ROUNDED = 1e-3  # a sum of means that were written with five digits


def name(it: Subject) -> Iterator[str]:
    """Its name is the hash of what determined it."""
    made = Identity(it.values["method"], it.values, it.contents).id
    named = it.run.id if it.kept else it.run.id.partition(".")[0]  # of a folder: .2 where it was done afresh
    for where, said in (("its name is", named), ("it says", it.environment["id"])):
        if said != made:
            yield f"its parameters and contents hash to {made}, and {where} {said}"


def parameters(it: Subject) -> Iterator[str]:
    """Its parameters mean what was hashed."""
    meant = it.params.determining() | {"method": it.params.method.rpartition(":")[2]}
    meant = json.loads(json.dumps(meant | {"arguments": methods.arguments(it.params)}))
    named_by_content = {*running.RESOLVED, *it.contents} - {*it.values}
    for each in sorted({*it.values, *meant} - named_by_content - {"directional"}):
        hashed, here = it.values.get(each, "absent"), meant.get(each, "absent")
        if hashed != here and (each in it.values or each in it.raw or it.todays):  # earlier code had fewer parameters
            yield f"{each} is {here!r} in its parameters, and {hashed!r} was hashed into its name"


def contents(it: Subject) -> Iterator[str]:
    """Weights, videos of each split and class texts are those that are here."""
    if it.work is None:
        return
    deciding = DECIDES_VIDEOS[type(it.params)] | {"method", "backbone", "pretrained", "init", "precision"}
    here = contents_of(type(it.params), it.params.model_dump_json(include=deciding))
    for each in sorted({*it.contents, *here} - {*records.FREE}):
        there, now = it.contents.get(each, "none"), here.get(each, "none")
        if there != now:
            yield f"the digest of {each} is {there[:16]} in it, and {now[:16]} here"
    if it.values["directional"] != it.work.manifest.directional:
        yield f"directional is {it.values['directional']}, and {it.work.manifest.directional} of its videos"


def code(it: Subject) -> Iterator[str]:
    """The list of source files that a record names hashes to the digest in it."""
    source = it.contents["source"]
    if not it.kept:
        it.unknown += [] if it.todays else ["the code, which is another one than is here"]
        return
    files = paths.read_json(it.run.file.parent.parent / "code" / f"{source[:16]}.json", records.DAMAGED)
    if (made := digest([[each, files[each]] for each in sorted(files, key=PurePosixPath)])) != source:
        yield f"code/{source[:16]}.json hashes to {made[:16]}, and the record names {source[:16]}"


# ---------------------------------------------------------------- what was asked and answered


def asked(it: Subject) -> Iterator[str]:
    """It holds the tests that its parameters ask for, and no others, under the controls that they are called by."""
    optional = {each for each, (split, _, control) in it.asked.items() if control == PERMUTED or "novel" in split}
    if lacking := sorted(it.asked.keys() - optional - {*it.names}):
        yield f"it lacks the test {', '.join(lacking)}, which its parameters ask for"
    if more := sorted({*it.names} - it.asked.keys()):
        yield f"it holds the test {', '.join(more)}, which its parameters do not ask for"
    for each in sorted(it.asked.keys() & {*it.names}):
        if it.result[each]["controls"] != controls.words(it.asked[each][2]):
            yield f"{each} was made with {it.result[each]['controls']}"


def lists(it: Subject) -> Iterator[str]:
    """Every list of trials is the one that its parameters draw anew, and has as many answers as questions."""
    for each, tested in it.tests.items():
        split, shot, _ = it.asked[each]
        episodes, number = tested.trial == "episode", len(tested.truth)
        differs = {"split": (tested.split, split)}
        if episodes and len(tested.per_trial) != it.params.test_episodes:
            yield f"{each} has {len(tested.per_trial):,} episodes, and test_episodes is {it.params.test_episodes:,}"
        if it.kept:
            asked = records.read_npz(it.run.file.parent.parent / "lists" / f"{tested.checksum[:16]}.npz")
            differs["checksum in the file"] = (str(asked["checksum"]), tested.checksum)
            kept = it.answers[each]
            if (
                len(kept) != (-(-number // 8) if episodes else number)
                or np.unpackbits(kept)[number if episodes else 8 * number :].any()
            ):
                yield f"{each} does not keep {number:,} answers, as its list asks"
        if it.work is not None:
            manifest, p = it.work.manifest, it.params
            classes = manifest.classes(split)
            differs["classes"] = (tested.classes, classes)
            if episodes:
                new = drawn(manifest, split, p.way, shot, p.query, len(tested.per_trial))
            else:
                key = f"{manifest.checksum(split)}\t{','.join(classes)}".encode()
                rows = [classes.index(row.cls) for row in manifest.videos(split)]
                new = {"checksum": hashlib.sha256(key).hexdigest(), "truth": np.array(rows)}
            differs |= {what: (getattr(tested, what), value) for what, value in new.items()}
        if wrong := [what for what, pair in differs.items() if not np.array_equal(*pair)]:
            yield f"the list of {each} is not the one that its parameters draw: another {', another '.join(wrong)}"


def numbers(it: Subject) -> Iterator[str]:
    """Every printed number follows from the stored outcomes."""
    for each, tested in it.tests.items():
        whole = tested
        if it.kept:  # of margins and probabilities a record keeps nothing, of videos the rank of the true class
            nothing = np.zeros((len(tested.truth), len(tested.classes)))
            whole = replace(tested, margin=nothing, probabilities=nothing)
        new = whole.summary()
        lacking = {"seconds"} | ({"near_ties"} | ({"per_class"} if each != it.report else set()) if it.kept else set())
        if it.kept and tested.trial == "video":
            new["top5"] = float((it.answers[each] < 5).mean())
        if not it.episodes and it.work is not None:
            new |= video_text.by_standard_split(it.params, it.work.manifest, whole)
        new, old = flat({n: v for n, v in new.items() if n not in lacking}), flat(it.result[each])
        for what, value in new.items():
            if not same(old.get(what), value):
                yield f"{what} of {each} is {old.get(what)}, and its outcomes give {value}"
        if extra := sorted(n for n in old if n not in new and n.startswith(("per_class.", "intervals."))):
            yield f"{extra[0]} of {each} has no outcomes"
    if "harmonic" in it.result:
        made = harmonic(*(it.tests[split].accuracy for split in video_text.REPORTS[it.report]))
        if not same(it.result["harmonic"], made):
            yield f"harmonic is {it.result['harmonic']}, and its two accuracies give {made}"


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested names joined by dots."""
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= flat(inner, f"{prefix}{key}.") if isinstance(inner, Mapping) else {f"{prefix}{key}": inner}
    return found


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, numbers to ``SAME``."""
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=SAME, abs_tol=SAME)
    return one == other


# ---------------------------------------------------------------- reading, training, choosing


def readings(it: Subject) -> Iterator[str]:
    """Test was read once for the report, once for each control and further shot; val once for each selection."""
    expected = Counter({it.report: len(it.names)}) + Counter(val=len(it.selections))
    found = it.run.readings() if it.kept else records.readings(it.run)
    for split in sorted({*found, *expected}):
        times, right = found.get(split, 0), expected[split]
        if times != right:
            again = " (a kill while it is read, and then a resume, reads it again)" if times > right > 0 else ""
            yield f"{split} was read {times} times, and its tests and selections are {right}{again}"
    lines = [] if it.kept else runs.read_lines(it.run.path("readings.jsonl"))
    for (split, purpose), times in Counter((line["split"], line["purpose"]) for line in lines).items():
        if times > 1 and split == it.report and purpose in {"report", *it.names}:
            yield f"{split} was read {times} times for {purpose}, and once is right"


def _length(it: Subject) -> tuple[int, int]:
    """Training batches, and optimiser steps between selections."""
    p = it.params
    if it.episodes:
        return p.train_episodes, max(1, p.val_every // p.episodes_per_step)
    each = len(it.work.manifest.videos("train")) // p.batch
    batches, every = it.work.length(SimpleNamespace(per_epoch=each))
    return batches, max(1, every)


def training(it: Subject) -> Iterator[str]:
    """As many steps as the parameters ask for, along their schedule, on a curve of finite losses that adds up."""
    if it.work is None:
        return
    batches, number, settings = _length(it)[0], it.result["cost"]["trainable"], it.work.fit_settings()
    if (it.fit is not None) != bool(batches and number):
        yield f"{batches} training batches of {number} parameters do not go with its fit"
    if it.fit is None:
        if it.curve:
            yield "nothing was trained, and yet it has a curve"
        return
    steps, unit = math.ceil(batches / settings["batches_per_step"]), "episode" if it.episodes else "batch"
    means = [line for line in it.curve if "loss" in line]
    if it.fit["steps"] != steps:
        yield f"it has {it.fit['steps']} training steps, and its parameters mean {steps}"
    if not means or (means[-1]["step"], means[-1][unit]) != (it.fit["steps"], batches):
        yield f"its curve does not end at step {it.fit['steps']} with {unit} {batches}"
    if any(not math.isfinite(line["loss"]) or not 0 <= line["accuracy"] <= 1 for line in means):
        yield "its curve has a loss that is not finite, or an accuracy that is none"
    taken = [b - a for a, b in itertools.pairwise([0, *(line["step"] for line in means)])]
    sums = {"seconds": sum(line["seconds"] * n for line, n in zip(means, taken, strict=True))}
    sums["selection_seconds"] = sum(line["selection_seconds"] for line in it.selections)
    for what, total in sums.items():
        if not math.isclose(total, it.fit[what], rel_tol=ROUNDED, abs_tol=1e-5):
            yield f"{what} of its fit are {it.fit[what]:.4f}, and those of its curve {total:.4f}"
    schedule = (settings["warmup"], settings.get("schedule", "cosine"))
    schedule += (shares(settings.get("milestones", ()), batches),)
    whole = it.curve if it.kept else runs.read_lines(it.run.path(runs.METRICS))  # a record has it of selections alone
    for line in (line for line in whole if "lr" in line):
        rate = it.params.lr * rate_at(line["step"], steps, *schedule)
        if not math.isclose(line["lr"], rate, rel_tol=1e-9, abs_tol=1e-15):
            yield f"lr at step {line['step']} of its curve is {line['lr']:.4g}, and its schedule has {rate:.4g}"


def selection(it: Subject) -> Iterator[str]:
    """Val chose: the weights are of the best selection on its curve, the first of equals; without any, the last."""
    if it.fit is None or it.work is None:
        return
    steps, selected, accuracy = (it.fit[each] for each in ("steps", "selected", "val_accuracy"))
    selects = it.params.val_episodes > 0 if it.episodes else it.params.select
    every = _length(it)[1]
    wanted = sorted({*range(every, steps + 1, every), steps}) if selects else []
    if (had := [line["step"] for line in it.selections]) != wanted:
        yield f"its curve has selections at steps {had}, and its parameters ask for {wanted}"
    best = max(it.selections, key=lambda line: (line["val_accuracy"], -line["step"]), default={"step": steps})
    if (selected, accuracy) != (best["step"], best.get("val_accuracy")):
        yield (
            f"step {selected} was selected, of accuracy {accuracy} on val, and its curve has step {best['step']} as "
            f"best, with {best.get('val_accuracy')}: val did not choose"
        )
    answers = it.params.val_episodes * it.params.way * it.params.query if it.episodes else 0
    for line in it.selections:
        right = line["val_accuracy"] * answers
        if abs(right - round(right)) > 1e-6:
            yield f"val accuracy {line['val_accuracy']} at step {line['step']} is no share of {answers} answers"


def coverage(it: Subject) -> Iterator[str]:
    """What it says of its data adds up, is of the videos that were hashed, and agrees with the lists of today."""
    lines = {line["split"]: line for line in it.result["coverage"]}
    for split in sorted(lines.keys() | {n.removeprefix("split ") for n in it.contents if n.startswith("split ")}):
        line = lines.get(split, {"checksum": "none"})
        if line["checksum"] != it.contents.get(f"split {split}"):
            yield f"coverage of {split} is not of the videos that were hashed: its checksum is another"
            continue
        lost, whole = len(line["left_out"]), line.get("of") == f"split {split}"
        counts = f"{line['used']:,} used, {line['present']:,} present, {lost} left out, of {line['listed']:,}"
        if whole and not line["used"] == line["present"] <= line["listed"] - lost:
            yield f"coverage of {split} does not add up: {counts}"
        if it.work is not None:
            manifest = it.work.manifest
            here = {"used": len(manifest.videos(split)), "classes": len(manifest.classes(split))}
            if whole:
                here["listed"] = sum(manifest.listed.get(split, {}).values()) or here["used"] + lost
            wrong = [f"{what} {line[what]:,}, not {n:,}" for what, n in here.items() if line[what] != n]
            if wrong:
                yield f"coverage of {split} has {' and '.join(wrong)}, as its list"
    chosen = it.fit is not None and it.fit["val_accuracy"] is not None
    uses = {"train": "train" if it.fit else "", "selection": "val" if chosen else ""}
    for use, labels in it.result["labels"].items():
        line = lines.get(uses.get(use, use), {"used": 0, "classes": 0})
        if labels != {"videos": line["used"], "classes": line["classes"]}:
            yield f"it says that {use} used {labels['videos']:,} labelled videos, and its coverage {line['used']:,}"


_counted: dict[str, dict[str, int]] = {}  # what ``Subject.sized`` says -> parameters, the same for many records


def size(it: Subject) -> Iterator[str]:
    """A record has as many parameters as its method when that is built."""
    if not (it.kept and it.episodes):
        return
    if it.sized not in _counted:
        try:
            method = few_shot.open_method(it.params.model_copy(update={"pretrained": "", "init": ""}))
        except UserError:  # its classes or its code are not here
            return
        each = {"total": method.parameters(), "trainable": method.trainable().values()}
        _counted[it.sized] = {name: sum(p.numel() for p in of) for name, of in each.items()}
    for name, number in _counted[it.sized].items():
        if it.result["cost"][name] != number:
            yield f"it says {name} {it.result['cost'][name]:,}, and its method has {number:,}"


CHECKS = (name, parameters, contents, code, asked, lists, numbers, readings, training, selection, coverage, size)
