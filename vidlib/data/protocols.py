"""What is trained on which videos and tested on which: closed_set, zero_shot, kshot, base_to_novel.

A protocol turns a manifest into another one whose splits say what a run may read: ``train``, ``val`` (to choose by) and
``test``, for base_to_novel also ``novel`` and, where the manifest has val classes, ``val_novel``; ``said`` tells in
words what was done. There are two kinds of manifest:
of *standard splits* (the same classes in train and test, such as UCF101's) and of *disjoint classes* (few-shot
benchmarks and the embedded worlds), whose training classes serve as the seen ones. Where videos of one class must be
divided, their ids' sha256 orders them, so that it depends on neither paths nor order; only the K videos of kshot are
drawn by a seed. Test videos are the same for every seed and every K.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from vidlib.basics.errors import UserError
from vidlib.basics.words import closest
from vidlib.data.folder import borrowed
from vidlib.data.manifest import Manifest, Row, normalised
from vidlib.params.video_text import PROTOCOL_NAMES

PROTOCOLS = PROTOCOL_NAMES
VAL, TEST = 0.15, 0.25  # shares of a class's videos, where a protocol must divide them
CUT = 0.05  # val's share of a standard training split, which papers train on whole


@dataclass(frozen=True)
class Plan:
    """``manifest`` with the splits of the protocol, what was done in words, class names that train and test share
    where they should not (as the test data set spells them), and the data sets it was made of (``planning``)."""

    manifest: Manifest
    said: str
    overlap: tuple[str, ...] = ()
    bases: tuple[Manifest, ...] = ()


def plan(
    manifest: Manifest,
    protocol: str,
    *,
    train_per_class: int = 0,
    seed: int = 0,
    other: Manifest | None = None,
    remove_overlap: bool = True,
) -> Plan:
    """Apply ``protocol`` to ``manifest``.

    Args:
        train_per_class: training videos per class; 0 is all. kshot wants at least 1.
        seed: of the videos that kshot and base_to_novel draw.
        other: for zero_shot, another data set to test on (its test split); else the manifest's own test classes.
        remove_overlap: leave out of the test classes that are training classes too; else they stay and are reported.

    UserError: unknown protocol, a manifest that it does not fit, a class with too few videos.
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"protocol: {protocol!r} is not one of {', '.join(PROTOCOLS)}{closest(protocol, PROTOCOLS)}")
    if other is not None and protocol != "zero_shot":
        raise UserError(f"test_dataset is for protocol zero_shot, not {protocol}")
    if protocol == "kshot" and train_per_class < 1:
        raise UserError(
            "train_per_class: kshot trains on that many videos per class; give at least 1, such as 2, 4, 8 or 16"
        )
    made = {"closed_set": _closed, "zero_shot": _zero, "kshot": _kshot, "base_to_novel": _base_to_novel}[protocol]
    if protocol == "zero_shot":
        return _zero(manifest, other, remove_overlap, train_per_class, seed)
    return made(manifest, train_per_class, seed)


def disjoint(manifest: Manifest) -> bool:
    """Whether train and test share no class, as in few-shot benchmarks."""
    return not set(manifest.classes("train")) & set(manifest.classes("test"))


def _closed(manifest: Manifest, each: int, seed: int) -> Plan:
    if disjoint(manifest):
        rows = _divided(manifest.videos("train"))
        said = f"closed set: the {_number(rows, 'train')} training classes, each class's videos divided anew"
    else:
        rows = _standard(manifest)
        said = "closed set: the standard test split; val is cut from train"
    rows = _few(rows, each, seed)
    return Plan(replace(manifest, rows=tuple(rows)), _counted(said + _per_class(each), rows))


def _zero(manifest: Manifest, other: Manifest | None, remove_overlap: bool, each: int, seed: int) -> Plan:
    if other is None:
        if not disjoint(manifest):
            raise UserError(
                f"protocol zero_shot: train and test of {manifest.name} have the same classes; give test_dataset, or "
                "base_to_novel"
            )
        rows = [row for row in manifest.rows if row.split in ("train", "val", "test")]
        if borrowed(manifest):
            rows = [*_divided(manifest.videos("train"), test=0.0), *manifest.videos("test")]
        rows = _few(rows, each, seed)
        said = "zero-shot: trained on seen classes, tested on others, with the texts of those alone"
        return Plan(replace(manifest, rows=tuple(rows)), _counted(said + _per_class(each), rows))
    seen = {normalised(manifest.text(cls)) for cls in manifest.classes("train")}
    shared = tuple(cls for cls in other.classes("test") if normalised(other.text(cls)) in seen)
    tested = [r for r in other.videos("test") if not (remove_overlap and r.cls in shared)]
    if not tested:
        raise UserError(f"protocol zero_shot: every test class of {other.name} is a training class of {manifest.name}")
    own = _divided(manifest.videos("train"), test=0.0) if disjoint(manifest) else _standard(manifest)
    own = [r for r in _few(own, each, seed) if r.split != "test"]
    merged = _merged(manifest, own, other, tested)
    what = "left out" if remove_overlap else "kept"
    overlap = f"; {len(shared)} class names are in both and {what}" if shared else "; no class name is in both"
    said = f"zero-shot: trained on {manifest.name}, tested on {other.name} with the texts of its classes{overlap}"
    return Plan(merged, _counted(said + _per_class(each), merged.rows), shared)


def _kshot(manifest: Manifest, each: int, seed: int) -> Plan:
    if disjoint(manifest):
        rows = _divided(manifest.videos("test"), val=0.25, test=0.5)
        said = (
            f"all-way {each}-shot: the {_number(rows, 'train')} novel classes, half of each class's videos for testing"
        )
    else:
        rows = _standard(manifest)
        said = f"all-way {each}-shot: the standard test split"
    rows = _few(rows, each, seed)
    return Plan(replace(manifest, rows=tuple(rows)), _counted(f"{said}; the {each} videos drawn by seed {seed}", rows))


def _base_to_novel(manifest: Manifest, each: int, seed: int) -> Plan:
    if disjoint(manifest):
        base, novel = _divided(manifest.videos("train")), manifest.videos("test")
        said = "base to novel: base are the training classes, novel the test classes"
    else:
        classes = manifest.classes("train")
        first = set(classes[: (len(classes) + 1) // 2])
        base = [row for row in _standard(manifest) if row.cls in first]
        novel = [row for row in manifest.videos("test") if row.cls not in first]
        said = "base to novel: base is the first half of the classes by name, novel the other"
    rows = _few(base, each, seed) + [row._replace(split="novel") for row in novel]
    if disjoint(manifest) and "val" in manifest.splits and not borrowed(manifest):
        rows += [row._replace(split="val_novel") for row in manifest.videos("val")]
    return Plan(replace(manifest, rows=tuple(rows)), _counted(said + _per_class(each), rows))


def _order(row: Row, salt: str = "") -> bytes:
    return hashlib.sha256(f"{salt}{row.video}".encode()).digest()


def _by_class(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row.cls].append(row)
    return {cls: sorted(found[cls], key=_order) for cls in sorted(found)}


def _divided(rows: Iterable[Row], val: float = VAL, test: float = TEST) -> list[Row]:
    """Each class's videos divided into test, val and train, at least one of each that has a share."""
    made = []
    for cls, videos in _by_class(rows).items():
        counts = [max(1, round(share * len(videos))) if share else 0 for share in (test, val)]
        if sum(counts) >= len(videos):
            raise UserError(f"class {cls!r} has {len(videos)} videos, too few to divide into train, val and test")
        parts = ["test"] * counts[0] + ["val"] * counts[1]
        parts += ["train"] * (len(videos) - len(parts))
        made += [row._replace(split=part) for row, part in zip(videos, parts, strict=True)]
    return made


def _standard(manifest: Manifest) -> list[Row]:
    """Standard splits; where there is no val, a share of each class's training videos becomes it."""
    rows = list(manifest.videos("train"))
    if "val" not in manifest.splits:
        return [*_divided(rows, val=CUT, test=0.0), *manifest.videos("test")]
    return [*rows, *manifest.videos("val"), *manifest.videos("test")]


def _few(rows: list[Row], each: int, seed: int) -> list[Row]:
    """``each`` training videos of each class, drawn by ``seed``; all where it is 0. The other splits stay."""
    if not each:
        return rows
    kept = [row for row in rows if row.split != "train"]
    for cls, videos in _by_class(row for row in rows if row.split == "train").items():
        if len(videos) < each:
            raise UserError(f"train_per_class: class {cls!r} has {len(videos)} training videos; give at most that many")
        kept += sorted(videos, key=lambda row: _order(row, f"{seed}\t"))[:each]
    return kept


def _merged(manifest: Manifest, own: list[Row], other: Manifest, tested: list[Row]) -> Manifest:
    """One manifest of two data sets: ids, files and texts of the tested one carry its name."""
    mark = f"{other.name}:"
    rows = own + [Row(mark + row.video, mark + row.cls, "test") for row in tested]
    files = {row.video: str(manifest.path(row)) for row in own}
    files |= {mark + row.video: str(other.path(row)) for row in tested}
    texts = {cls: manifest.text(cls) for cls in {row.cls for row in own}}
    texts |= {mark + cls: other.text(cls) for cls in {row.cls for row in tested}}
    note = " ".join(filter(None, (manifest.note, other.note)))
    name = f"{manifest.name} to {other.name}"
    return replace(
        manifest, name=name, rows=tuple(rows), files=files, prompts=texts, note=note, listed={},
        directional=manifest.directional,
    )  # fmt: skip


def _number(rows: Iterable[Row], split: str) -> int:
    return len({row.cls for row in rows if row.split == split})


def _per_class(each: int) -> str:
    return f", {each} training videos per class" if each else ""


def _counted(said: str, rows: Iterable[Row]) -> str:
    rows = list(rows)
    order = [
        split for split in ("train", "val", "test", "novel", "val_novel") if any(row.split == split for row in rows)
    ]
    counts = (
        f"{split} {sum(r.split == split for r in rows):,} videos of {_number(rows, split)} classes" for split in order
    )
    return f"{said}: {', '.join(counts)}."
