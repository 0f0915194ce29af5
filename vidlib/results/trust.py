"""What a reader of a number must know, from a run's record; and what a run must not train or choose on.

A number of an incomplete benchmark carries its coverage. A video that took another's place in training is named. Test
videos are neither trained nor selected on: not under another name, and not by the run whose weights training starts
from.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from vidlib.basics.digests import file_digest
from vidlib.basics.errors import UserError
from vidlib.basics.words import few
from vidlib.data.catalogue import entries, official
from vidlib.data.folder import VIDEO_ENDINGS
from vidlib.data.manifest import Manifest, Row, normalised

TESTED = ("test", "novel")  # the splits that a final table reads
SHOWN = 3  # names in a sentence


# ---------------------------------------------------------------- what a number carries


def coverage_line(result: Mapping[str, Any]) -> str:
    """``test 480 of 480 listed videos`` for each split, and what of it was left out."""
    said = []
    for line in result["coverage"]:
        of = line.get("of", f"split {line['split']}")
        whole = "" if of == f"split {line['split']}" else f" of {of}"
        lost = line.get("left_out") or {}
        out = f" ({len(lost)} cannot be read and are left out: {few(lost, SHOWN)})" if lost else ""
        said.append(f"{line['split']} {line['present']:,} of {line['listed']:,} listed videos{whole}{out}")
    return ", ".join(said)


def incomplete(result: Mapping[str, Any]) -> str:
    """``train 401 of 430, test 40 of 43 videos``, the splits that lack some; empty where the data are complete."""
    lacking = []
    for line in result.get("coverage") or ():
        if line["present"] < line["listed"]:
            of = line.get("of", "")
            name = of if of and not of.startswith("split ") else line["split"]
            lacking.append(f"{name} {line['present']:,} of {line['listed']:,}")
    return f"{', '.join(dict.fromkeys(lacking))} videos" if lacking else ""


def beside(studied: Mapping[Any, Sequence[Any]], result: Mapping[str, Any]) -> dict[str, str]:
    """The table cell that says what ``result``'s data lack: none where the data of all runs studied are complete."""
    lacking = any(incomplete(run.result) for same in studied.values() for run in same)
    return {"data": incomplete(result) or "complete"} if lacking else {}


def replaced(lines: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of a run's metrics, the training videos that did not decode: video, class, cause, times, what took its place."""
    lost: dict[str, dict[str, Any]] = {}
    for each in (each for line in lines for each in line.get("replaced", ())):
        new = {"video": each["video"], "class": each["cls"], "cause": each["cause"], "times": 0, "by": []}
        one = lost.setdefault(each["video"], new)
        one["times"] += 1
        one["by"] = sorted({*one["by"], each["by"]})
    return [lost[video] for video in sorted(lost)]


def replaced_line(result: Mapping[str, Any]) -> str:
    """In words, for the protocol; empty where nothing was replaced."""
    lost = result.get("replaced") or []
    if not lost:
        return ""
    number, times = len(lost), sum(one["times"] for one in lost)
    named = "; ".join(f"{one['video']} ({one['cause']}) {one['times']} times" for one in lost[:SHOWN])
    more = "" if number <= SHOWN else "; and so on, all in result.json"
    videos = "video that does not decode" if number == 1 else "videos that do not decode"
    return f"{number} training {videos}, replaced {times} times by another of the class: {named}{more}"


def replaced_lines(studied: Mapping[Any, Sequence[Any]]) -> Iterator[str]:
    """``replaced_line`` of every run of a study that has one."""
    for run in {run.id: run for same in studied.values() for run in same}.values():
        if said := replaced_line(run.result):
            yield f"Run {run.id}: {said}."


# ---------------------------------------------------------------- what is not trained or chosen on


def refuse_shared(manifest: Manifest, contents: bool) -> None:
    """UserError where one file is a test video and one to train or select on, under whatever names; ``contents`` as for
    ``shared``."""
    for row, other, how in shared(manifest, contents):
        verb = "selected" if other.split.startswith("val") else "trained"
        raise UserError(
            f"{manifest.name}: {row.split} video {manifest.files[row.video]} {how} {other.split} video "
            f"{manifest.files[other.video]}; nothing is {verb} on test videos: take one of the two away"
        )


def shared(manifest: Manifest, contents: bool) -> Iterator[tuple[Row, Row, str]]:
    """Test videos that are one file with a video to train or select on, that video, and how they are one.

    ``contents``: also files of equal content, for a user's own videos; a published list is what it is.
    """
    tested = [row for split in TESTED if split in manifest.splits for row in manifest.videos(split)]
    learnt = [row for split in manifest.splits if split not in TESTED for row in manifest.videos(split)]
    nodes = {key: row for row in learnt if (key := _node(manifest, row))}
    for row in tested:
        if other := nodes.get(_node(manifest, row)):
            yield row, other, "is the same file as"
    if not contents:
        return
    sizes: dict[int, list[Row]] = defaultdict(list)
    for row in learnt:
        sizes[_size(manifest, row)].append(row)
    digests: dict[Row, str] = {}
    for row in tested:
        for other in sizes.get(_size(manifest, row), ()) if _size(manifest, row) > 0 else ():
            for each in (row, other):
                if each not in digests:
                    digests[each] = file_digest(manifest.path(each))
            if digests[row] == digests[other]:
                yield row, other, "has the same content as"


def refuse_start(init: str, before: Manifest, after: Manifest) -> None:
    """UserError where the run ``init``, whose weights training starts from, was trained or selected on test videos of
    ``after``, or on a class that ``after`` tests as a new one; ``before`` holds that run's splits."""
    new = set(after.classes("train")) if "train" in after.splits else set()
    seen = {normalised(before.text(c)) for split in before.splits if split not in TESTED for c in before.classes(split)}
    learnt = [row for split in before.splits if split not in TESTED for row in before.videos(split)]
    nodes = {key for row in learnt if (key := _node(before, row))}
    named = _namer(before, after)
    ids = {named(row) for row in learnt} if named else set()
    for split in TESTED:
        rows = after.videos(split) if split in after.splits else ()
        if shared := [row for row in rows if (named and named(row) in ids) or _node(after, row) in nodes]:
            names = few((row.video for row in shared), SHOWN)
            raise UserError(
                f"init: {init} was trained or selected on {len(shared)} of the {len(rows)} {split} videos ({names}); "
                "start from a run that has not seen them"
            )
        texts = {cls: normalised(after.text(cls)) for cls in sorted({row.cls for row in rows} - new)}
        if known := [cls for cls, text in texts.items() if text in seen]:
            which = few(known, SHOWN)
            raise UserError(
                f"init: {init} was trained or selected on {len(known)} classes that {split} holds as new ones "
                f"({which}); start from a run that has not seen them"
            )


def _namer(a: Manifest, b: Manifest) -> Callable[[Row], str] | None:
    """What names a video in both manifests: its whole id in one data set, in two that cut one source differently
    (``ids`` of the catalogue) its id without class folder and ending; None where nothing does."""
    names = [manifest.source(split) for manifest, split in ((a, "train"), (b, "test"))]  # b's are to be tested on
    names = [name.split(" to ")[0].replace("official_", official.PREFIX, 1) for name in names]
    if names[0] == names[1]:
        return (lambda row: row.video) if a.root == b.root else None
    if not set(names) <= set(entries.every()) or len({entries.entry(name).ids for name in names}) > 1:
        return None

    def bare(row: Row) -> str:
        name = PurePosixPath(row.video).name
        return name.removesuffix(suffix) if (suffix := PurePosixPath(name).suffix).lower() in VIDEO_ENDINGS else name

    return bare


def _node(manifest: Manifest, row: Row) -> tuple[int, int] | None:
    """What a file is to the disk, whatever its names; None of an absent one."""
    try:
        status = os.stat(manifest.path(row))
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _size(manifest: Manifest, row: Row) -> int:
    try:
        return os.stat(manifest.path(row)).st_size
    except OSError:
        return -1
