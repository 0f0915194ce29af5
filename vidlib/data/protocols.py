"""What is trained on which videos and tested on which: closed_set, zero_shot, kshot, base_to_novel.

A protocol turns a manifest into another one whose splits say what a run may read: ``train``, ``val`` (to choose by) and
``test``, for base_to_novel also ``novel`` and, where the manifest has val classes, ``val_novel``; ``said`` tells in
words what was done. There are two kinds of manifest:
of *standard splits* (the same classes in train and test, such as UCF101's) and of *disjoint classes* (few-shot
benchmarks and the embedded worlds), whose training classes serve as the seen ones. Where videos of one class must be
divided, their ids' sha256 orders them, so that it depends on neither paths nor order; what is cut from one recording
(``RECORDINGS``) stays together. Only K training videos of each class are drawn by a seed, and of them, one by one,
those that are selected on. Test videos are the same for every seed and every K.

Who trains on K videos of each class may know K labels of each: weights that are selected are selected on some of them.
``said`` tells how many labelled videos serve for what; val's that select nothing are for pictures and ablations.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from vidlib.basics.errors import UserError
from vidlib.basics.words import closest
from vidlib.data.folder import borrowed
from vidlib.data.manifest import Manifest, Row, normalised
from vidlib.params.video_text import PROTOCOL_NAMES

PROTOCOLS = PROTOCOL_NAMES
VAL, TEST = 0.15, 0.25  # shares of a class's videos, where a protocol must divide them
CUT = 0.05  # val's share of a standard training split, which papers train on whole
SELECTION = 0.25  # val's share of K training videos of each class, where weights are selected
# Of a video's id what names the recording that it was cut from, by data set: ..._g08_c01, ..._u_nm_np1_ba_goo_0.
RECORDINGS = {"ucf101": r".*(?=_c\d+$)", "hmdb51": r".*(?=_[fhlu]_[cn]m_np\d)"}
Labels = Mapping[str, Mapping[str, int]]  # use -> videos, classes


@dataclass(frozen=True)
class Plan:
    """``manifest`` with the splits of the protocol, what was done in words, class names that train and test share
    where they should not (as the test data set spells them), and the data sets it was made of
    (``training.video_text.open_plan``)."""

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
    select: bool = False,
) -> Plan:
    """Apply ``protocol`` to ``manifest``.

    Args:
        train_per_class: training videos per class; 0 is all. kshot wants at least 1.
        seed: of the videos that kshot and base_to_novel draw.
        other: for zero_shot, another data set to test on (its test split); else the manifest's own test classes.
        remove_overlap: leave out of the test classes that are training classes too; else they stay and are reported.
        select: weights will be selected on val; of ``train_per_class`` videos it gets its share then.

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
    if select and train_per_class == 1:
        raise UserError(
            "select: the 1 training video of each class cannot be divided into videos to train and to select on; give "
            "select false for the last weights, or train_per_class 2 or more"
        )
    draw = Draw(train_per_class, seed, select)
    if protocol == "zero_shot":
        return _zero(manifest, other, remove_overlap, draw)
    return {"closed_set": _closed, "kshot": _kshot, "base_to_novel": _base_to_novel}[protocol](manifest, draw)


@dataclass(frozen=True)
class Draw:
    """``each`` training videos of each class (0: all), drawn by ``seed``; ``select``: val selects weights."""

    each: int
    seed: int
    select: bool

    @property
    def held(self) -> int:
        """How many of them go to val."""
        return max(1, round(SELECTION * self.each)) if self.each and self.select else 0


def labelled(manifest: Manifest, uses: Mapping[str, str]) -> Labels:
    """How many labelled videos, of how many classes, each use (train, selection, ...) has; its split or "" for none."""
    rows = {use: [row for row in manifest.rows if row.split == split] for use, split in uses.items()}
    return {use: {"videos": len(own), "classes": len({row.cls for row in own})} for use, own in rows.items()}


def labels_line(labels: Labels) -> str:
    """``labelled`` in a sentence, in the order of use; a record has names in that of the alphabet."""
    uses = sorted(labels, key=lambda use: (use != "train", use != "selection"))
    said = {use: f" of {labels[use]['classes']} classes" if labels[use]["videos"] else "" for use in uses}
    each = (f"{use} {labels[use]['videos']:,}{said[use]}" for use in uses)
    return f"Labelled videos used: {', '.join(each)}."


def disjoint(manifest: Manifest) -> bool:
    """Whether train and test share no class, as in few-shot benchmarks."""
    return not set(manifest.classes("train")) & set(manifest.classes("test"))


def _closed(manifest: Manifest, draw: Draw) -> Plan:
    if disjoint(manifest):
        rows = _divided(manifest, "train")
        said = f"closed set: the {_number(rows, 'train')} training classes, each class's videos divided anew"
    else:
        rows = _standard(manifest)
        said = "closed set: the standard test split; val is cut from train"
    rows = _few(rows, draw)
    return Plan(replace(manifest, rows=tuple(rows)), _counted(said, draw, rows))


def _zero(manifest: Manifest, other: Manifest | None, remove_overlap: bool, draw: Draw) -> Plan:
    if other is None:
        if not disjoint(manifest):
            raise UserError(
                f"protocol zero_shot: train and test of {manifest.name} have the same classes; give test_dataset, or "
                "base_to_novel"
            )
        rows = [row for row in manifest.rows if row.split in ("train", "val", "test")]
        if borrowed(manifest):
            rows = [*_divided(manifest, "train", test=0.0), *manifest.videos("test")]
        rows = _few(rows, draw)
        said = "zero-shot: trained on seen classes, tested on others, with the texts of those alone"
        return Plan(replace(manifest, rows=tuple(rows)), _counted(said, draw, rows))
    seen = {normalised(manifest.text(cls)) for cls in manifest.classes("train")}
    shared = tuple(cls for cls in other.classes("test") if normalised(other.text(cls)) in seen)
    tested = [r for r in other.videos("test") if not (remove_overlap and r.cls in shared)]
    if not tested:
        raise UserError(f"protocol zero_shot: every test class of {other.name} is a training class of {manifest.name}")
    own = _divided(manifest, "train", test=0.0) if disjoint(manifest) else _standard(manifest)
    own = [r for r in _few(own, draw) if r.split != "test"]
    made = merged(manifest, own, other, tested, f"{other.name}:")
    what = "left out" if remove_overlap else "kept"
    overlap = f"; {len(shared)} class names are in both and {what}" if shared else "; no class name is in both"
    said = f"zero-shot: trained on {manifest.name}, tested on {other.name} with the texts of its classes{overlap}"
    return Plan(made, _counted(said, draw, made.rows), shared)


def _kshot(manifest: Manifest, draw: Draw) -> Plan:
    if disjoint(manifest):
        rows = _divided(manifest, "test", val=0.25, test=0.5)
        said = (
            f"all-way {draw.each}-shot: the {_number(rows, 'train')} novel classes, "
            "half of each class's videos for testing"
        )
    else:
        rows = _standard(manifest)
        said = f"all-way {draw.each}-shot: the standard test split"
    rows = _few(rows, draw)
    return Plan(replace(manifest, rows=tuple(rows)), _counted(said, draw, rows))


def _base_to_novel(manifest: Manifest, draw: Draw) -> Plan:
    if disjoint(manifest):
        base, novel = _divided(manifest, "train"), manifest.videos("test")
        said = "base to novel: base are the training classes, novel the test classes"
    else:
        classes = manifest.classes("train")
        first = set(classes[: (len(classes) + 1) // 2])
        base = [row for row in _standard(manifest) if row.cls in first]
        novel = [row for row in manifest.videos("test") if row.cls not in first]
        said = "base to novel: base is the first half of the classes by name, novel the other"
    rows = _few(base, draw) + [row._replace(split="novel") for row in novel]
    if disjoint(manifest) and "val" in manifest.splits and not borrowed(manifest):
        rows += [row._replace(split="val_novel") for row in manifest.videos("val")]
    return Plan(replace(manifest, rows=tuple(rows)), _counted(said, draw, rows))


def _order(row: Row, salt: str = "") -> bytes:
    return hashlib.sha256(f"{salt}{row.video}".encode()).digest()


def _by_class(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row.cls].append(row)
    return {cls: sorted(found[cls], key=_order) for cls in sorted(found)}


def _divided(manifest: Manifest, split: str, val: float = VAL, test: float = TEST) -> list[Row]:
    """Each class's videos of ``split`` divided into test, val and train, at least one of each that has a share; a
    recording whose videos are more than is left of a share is passed over for it."""
    made = []
    for cls, left in _recordings(manifest, split).items():
        count, recordings = sum(map(len, left)), len(left)
        for part, share in (("test", test), ("val", val)):
            room, taken, rest = max(1, round(share * count)) if share else 0, [], []
            for clips in left:
                fits = len(clips) <= room
                room -= fits * len(clips)
                (taken if fits else rest).append(clips)
            if share and rest and not taken:
                taken = [rest.pop(rest.index(min(rest, key=len)))]
            left = rest
            made += [row._replace(split=part) for clips in taken for row in clips]
        if not left:
            of = f" of {recordings} recordings" if recordings < count else ""
            raise UserError(f"class {cls!r} has {count} videos{of}, too few to divide into train, val and test")
        made += [row._replace(split="train") for clips in left for row in clips]
    return made


def _recordings(manifest: Manifest, split: str) -> dict[str, list[list[Row]]]:
    """Class -> its videos of ``split``, those of one recording together, in the order of the recordings' hashes; where
    ids do not name it, each is a recording of its own."""
    pattern, found = RECORDINGS.get(manifest.name.removeprefix("official_"), ""), {}
    for cls, videos in _by_class(manifest.videos(split)).items():
        clips: dict[str, list[Row]] = defaultdict(list)
        for row in videos:
            named = pattern and re.match(pattern, row.video)
            clips[named[0] if named else row.video].append(row)
        found[cls] = [clips[name] for name in sorted(clips, key=lambda name: hashlib.sha256(name.encode()).digest())]
    return found


def _standard(manifest: Manifest) -> list[Row]:
    """Standard splits; where there is no val, a share of each class's training videos becomes it."""
    if "val" not in manifest.splits:
        return [*_divided(manifest, "train", val=CUT, test=0.0), *manifest.videos("test")]
    return [row for split in ("train", "val", "test") for row in manifest.videos(split)]


def _few(rows: list[Row], draw: Draw) -> list[Row]:
    """The drawn training videos of each class, all where K is 0; the other splits stay.

    Where weights are selected on videos out of K, those are val and no others.
    """
    if not draw.each:
        return rows
    kept = [row for row in rows if row.split != "train" and not (draw.held and row.split == "val")]
    for cls, videos in _by_class(row for row in rows if row.split == "train").items():
        if len(videos) < draw.each:
            raise UserError(f"train_per_class: class {cls!r} has {len(videos)} training videos; give at most that many")
        drawn = sorted(videos, key=lambda row: _order(row, f"{draw.seed}\t"))[: draw.each]
        kept += drawn[: draw.each - draw.held]
        kept += [row._replace(split="val") for row in drawn[draw.each - draw.held :]]
    return kept


def merged(manifest: Manifest, own: list[Row], other: Manifest, tested: list[Row], mark: str) -> Manifest:
    """One manifest of two data sets: ids, files and texts of the tested one begin with ``mark``."""
    rows = own + [Row(mark + row.video, mark + row.cls, "test") for row in tested]
    files = {row.video: str(manifest.path(row)) for row in own}
    files |= {mark + row.video: str(other.path(row)) for row in tested}
    texts = {cls: manifest.text(cls) for cls in {row.cls for row in own}}
    texts |= {mark + cls: other.text(cls) for cls in {row.cls for row in tested}}
    sources = dict.fromkeys((row.split for row in own), manifest.name) | {"test": other.name}
    note = " ".join(dict.fromkeys(filter(None, (manifest.note, other.note))))
    name = f"{manifest.name} to {other.name}"
    said = dict(manifest.descriptions) | {mark + cls: each for cls, each in other.descriptions.items()}
    return replace(
        manifest, name=name, rows=tuple(rows), files=files, prompts=texts, note=note, listed={}, descriptions=said,
        directional=manifest.directional, sources=sources,
    )  # fmt: skip


def _number(rows: Iterable[Row], split: str) -> int:
    return len({row.cls for row in rows if row.split == split})


def _counted(said: str, draw: Draw, rows: Iterable[Row]) -> str:
    """What was done, then how many labelled videos are trained, selected and tested on, and how many choose nothing."""
    rows = list(rows)
    trained = {row.cls for row in rows if row.split == "train"}

    def of(split: str) -> str:
        own = [row for row in rows if row.split == split]
        other = "" if {row.cls for row in own} & trained else " other"
        return f"{len(own):,} of {_number(own, split)}{other} classes" if own else "none"

    if draw.each:
        said += f"; {draw.each} videos per class drawn by seed {draw.seed}"
        said += f", {draw.held} of them to select on" if draw.held else ""
    selected = of("val") if draw.select else "none (the last weights)"
    said += f". Labelled videos: {of('train')} to train on, {selected} to select on, {of('test')} to test on"
    if any(row.split == "novel" for row in rows):
        said += f", and {of('novel')}"
    free = [f"{split} {of(split)}" for split in ("val", "val_novel") if any(row.split == split for row in rows)]
    free = free[1:] if draw.select else free
    return f"{said}. For pictures and ablations: {', '.join(free)}." if free else f"{said}."
