"""A manifest: which videos there are, of which class, in which split, and how much of that the local copy holds."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from vidlib.errors import UserError
from vidlib.paths import absolute

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("train", "val", "test")
VIDEO_ENDINGS = frozenset(
    ".3gp .asf .avi .flv .gif .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .vob .webm .wmv".split()
)
NEEDED = 2  # classes that a split must hold: an episode tells at least two classes apart


@dataclass(frozen=True)
class Row:
    """One video of one class in one split; ``video`` is unique in its manifest and never an absolute path."""

    video: str
    cls: str
    split: str


@dataclass(frozen=True)
class Coverage:
    """How much of a manifest the local copy holds.

    ``table`` has one row per split: split, classes, listed, present, readable (None where it was not checked).
    ``missing`` names what is listed and not there; ``unreadable`` maps a file (relative to the root) to the cause.
    """

    table: pd.DataFrame
    missing: list[str]
    unreadable: dict[str, str]


@dataclass(frozen=True)
class Manifest:
    """Rows and where their files lie.

    ``files`` maps a video id to its path relative to ``root``. ``directional`` True: no horizontal flip in training.
    ``prompts`` maps a class to its readable text. ``listed`` (split -> class -> number of videos) is what was published,
    where that can differ from the rows found on disk. ``note`` says in words what a reader of a result must know.
    """

    name: str
    rows: tuple[Row, ...]
    root: Path
    files: Mapping[str, str]
    directional: bool = True
    prompts: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    listed: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        seen: dict[str, Row] = {}
        for row in self.rows:
            if row.video in seen:
                raise UserError(
                    f"{self.name}: video {row.video!r} is listed twice (class {seen[row.video].cls!r} in "
                    f"{seen[row.video].split}, class {row.cls!r} in {row.split}); each video may be listed once."
                )
            seen[row.video] = row

    @cached_property
    def _by_split(self) -> dict[str, tuple[Row, ...]]:
        found: dict[str, list[Row]] = defaultdict(list)
        for row in self.rows:
            found[row.split].append(row)
        order = [*(s for s in SPLITS if s in found), *sorted(s for s in found if s not in SPLITS)]
        return {split: tuple(sorted(found[split], key=lambda row: (row.video, row.cls))) for split in order}

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that hold videos: train, val, test, then any other by name."""
        return tuple(self._by_split)

    def classes(self, split: str) -> tuple[str, ...]:
        """The classes of a split, sorted by name."""
        return tuple(sorted({row.cls for row in self.videos(split)}))

    def videos(self, split: str) -> tuple[Row, ...]:
        """The rows of a split, sorted by (video, class)."""
        if split not in self._by_split:
            raise UserError(f"{self.name} has no split {split!r}; it has {', '.join(self.splits) or 'none'}.")
        return self._by_split[split]

    def path(self, row: Row) -> Path:
        """Where the file of a row lies."""
        return Path(self.root) / self.files[row.video]

    def text(self, cls: str) -> str:
        """The readable text of a class; its name where no prompt is given."""
        return self.prompts.get(cls, cls)

    def checksum(self, split: str) -> str:
        """sha256 of the sorted ``video<TAB>class<LF>`` lines of a split: the same wherever the files lie."""
        lines = sorted(f"{row.video}\t{row.cls}\n" for row in self.videos(split))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def coverage(self, check_readable: bool = False) -> Coverage:
        """Count what is listed, present and (with ``check_readable``: every file is opened and decoded a little) readable."""
        import pandas as pd

        missing, unreadable, table = [], {}, []
        for split in [*self.splits, *(s for s in self.listed if s not in self.splits)]:
            rows = self._by_split.get(split, ())
            there = [row for row in rows if self.path(row).is_file()]
            missing += [self.files[row.video] for row in rows if not self.path(row).is_file()]
            counts = self.listed.get(split)
            if counts:
                have = {cls: sum(row.cls == cls for row in there) for cls in counts}
                missing += [f"{split}/{cls}: {n - have[cls]} of {n}" for cls, n in counts.items() if have[cls] < n]
            if check_readable:
                bad = {self.files[row.video]: cause for row in there if (cause := _cause(self.path(row)))}
                unreadable |= bad
            table.append(
                {
                    "split": split,
                    "classes": len({row.cls for row in rows}),
                    "listed": sum(counts.values()) if counts else len(rows),
                    "present": len(there),
                    "readable": len(there) - len(bad) if check_readable else None,
                }
            )
        return Coverage(pd.DataFrame(table), missing, unreadable)

    def keep_readable(self) -> Manifest:
        """The manifest without the files that are absent or cannot be decoded, which its note then names.

        Raises UserError where nothing, or nothing of one class, can be read, with the first failure's cause.
        """
        causes = {row.video: _cause(self.path(row)) for row in self.rows}
        bad = [row for row in self.rows if causes[row.video]]
        if not bad:
            return self
        kept = tuple(row for row in self.rows if not causes[row.video])
        first = f"{self.path(bad[0])}: {causes[bad[0].video]}"
        if not kept:
            raise UserError(_all_broken(self.name, self.root, len(bad), first))
        for cls in sorted({row.cls for row in bad} - {row.cls for row in kept}):
            lost = next(row for row in bad if row.cls == cls)
            raise UserError(
                f"{self.name}: no clip of class {cls!r} can be decoded (first failure {self.path(lost)}: "
                f"{causes[lost.video]}); replace its clips or remove the class."
            )
        names = ", ".join(self.files[row.video] for row in bad[:5]) + (", ..." if len(bad) > 5 else "")
        note = f"{len(bad)} of {len(self.rows)} clips cannot be read and are left out: {names}."
        files = {row.video: self.files[row.video] for row in kept}
        return replace(self, rows=kept, files=files, note=f"{self.note} {note}".strip())


def from_folder(path: str | Path, seed: int = 0, splits_yaml: str | Path | None = None) -> Manifest:
    """A manifest of a user's own clips: ``path`` holds one directory per class, each with video files.

    Hidden files and directories are passed over, and so are files whose ending is not in VIDEO_ENDINGS. The classes are
    split by ``splits_yaml`` (default: ``splits.yaml`` in the folder, where there is one; ``{train: [class, ...], val: [...],
    test: [...]}``, classes in none of them are left out), else by ``split_classes(classes, seed)``. Where no class is left
    for val, every third video of each training class becomes val: selection then sees training classes, test stays novel.

    Raises UserError: no such folder, no class directory, a class without videos, no clip that can be decoded, fewer than
    four classes, a splits file that is not of that form, names an absent class or a class twice.
    """
    root = absolute(path)
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise UserError(f"dataset folder {root} {what}; give folder:PATH where PATH holds one directory of videos per class.")
    directories = sorted((d for d in root.iterdir() if d.is_dir() and not d.name.startswith(".")), key=lambda d: _nfc(d.name))
    if not directories:
        raise UserError(f"dataset folder {root} holds no class directories; put each class's videos into a directory of its own.")
    clips = {_nfc(d.name): list_videos(d) for d in directories}
    for directory in directories:
        if not clips[_nfc(directory.name)]:
            raise UserError(
                f"class {directory.name!r} in dataset folder {root} holds no videos; add some "
                f"({', '.join(sorted(VIDEO_ENDINGS))}) or remove the directory."
            )
    _refuse_all_broken(root, clips)
    chosen = Path(splits_yaml) if splits_yaml else root / "splits.yaml"
    note = []
    if splits_yaml or chosen.is_file():
        splits = _read_splits(absolute(chosen), clips)
        left = sorted(set(clips) - {cls for names in splits.values() for cls in names})
        note += [f"classes in no split of {chosen.name}, left out: {', '.join(left)}."] if left else []
    else:
        splits = split_classes(clips, seed, where=str(root))
    rows, files = [], {}
    for split, names in splits.items():
        for cls in names:
            for clip in clips[cls]:
                video = f"{cls}/{_nfc(clip.name)}"
                rows.append(Row(video, cls, split))
                files[video] = clip.relative_to(root).as_posix()
    if not splits.get("val"):
        rows = _val_from_train(rows)
        note.append("too few classes for a val split of its own: val is every third video of each training class.")
    prompts = {cls: readable(cls) for cls in clips}
    return Manifest(f"folder:{root.name}", tuple(rows), root, files, prompts=prompts, note=" ".join(note))


def split_classes(classes: Iterable[str], seed: int, where: str = "the folder") -> dict[str, list[str]]:
    """Divide classes into disjoint train, val and test: novel classes are met in test only.

    The classes are ordered by the sha256 of ``seed<TAB>class``, so the order does not hang on platform or listing. The first
    of them are test, as many again val, the rest train: a third each, but no more than five, or a fifth of all where that
    is more (6 classes: 2/2/2 in train/val/test, 15: 5/5/5, 24: 14/5/5, 100: 60/20/20). Four or five classes leave no val: 2 are
    test, the rest train. With fewer, no two classes would be novel: UserError.
    """
    order = sorted(classes, key=lambda cls: hashlib.sha256(f"{seed}\t{cls}".encode()).hexdigest())
    if len(order) < 2 * NEEDED:
        raise UserError(
            f"dataset folder {where} has {len(order)} class{'es' * (len(order) != 1)} ({', '.join(sorted(order))}); few-shot "
            "evaluation needs at least 4, two to train on and two others to test on: add class directories."
        )
    test = max(NEEDED, min(len(order) // 3, 5), len(order) // 5)
    val = test if len(order) >= 3 * NEEDED else 0
    return {
        "train": sorted(order[test + val :]),
        "val": sorted(order[test : test + val]),
        "test": sorted(order[:test]),
    }


def list_videos(directory: Path) -> list[Path]:
    """The video files directly in a directory, sorted by name; hidden files and other endings are passed over."""
    found = (f for f in directory.iterdir() if f.suffix.lower() in VIDEO_ENDINGS and not f.name.startswith(".") and f.is_file())
    return sorted(found, key=lambda f: _nfc(f.name))


def readable(name: str) -> str:
    """A class directory's name as words: ``brush_hair`` -> brush hair, ``ApplyEyeMakeup`` -> apply eye makeup."""
    words = re.sub(r"[_\s]+", " ", name).strip()
    camel = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", words)
    return camel.lower() if camel != words else words


def _nfc(name: str) -> str:
    """Unicode composed form: the same name on file systems that store it decomposed."""
    return unicodedata.normalize("NFC", name)


def _cause(path: Path) -> str:
    """Why a video cannot be read, in words; empty where it can."""
    from vidlib.data import video

    if not path.is_file():
        return "the file is absent"
    try:
        video.probe(path)
    except Exception as error:  # any decoder's complaint is the file's fault, and is named to the user
        return " ".join(str(error).split()).replace(f"{path}: ", "").rstrip(".") or type(error).__name__
    return ""


def _all_broken(name: str, root: Path, number: int, first: str) -> str:
    return (
        f"{name}: none of the {number} clips in {root} can be decoded (first failure {first}); "
        "replace them with videos that a player can open."
    )


def _refuse_all_broken(root: Path, clips: Mapping[str, list[Path]]) -> None:
    """Raise UserError unless some clip decodes; looks at one clip of each class in turn and stops at the first that does."""
    first, number = "", 0
    for turn in range(max(map(len, clips.values()))):
        for files in clips.values():
            if turn < len(files):
                cause = _cause(files[turn])
                if not cause:
                    return
                first, number = first or f"{files[turn]}: {cause}", number + 1
    raise UserError(_all_broken("dataset folder", root, number, first))


def _read_splits(path: Path, clips: Mapping[str, object]) -> dict[str, list[str]]:
    form = "write {train: [class, ...], val: [class, ...], test: [class, ...]}"
    if not path.is_file():
        raise UserError(f"splits file {path} does not exist; {form}.")
    try:
        read = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"splits file {path} is not YAML ({' '.join(str(error).split())}); {form}.") from None
    if not isinstance(read, dict) or not all(isinstance(v, list) or v is None for v in read.values()):
        raise UserError(f"splits file {path} is not a mapping of splits to lists of classes; {form}.")
    if unknown := [str(split) for split in read if split not in SPLITS]:
        raise UserError(f"splits file {path} names the split {unknown[0]!r}; the splits are train, val and test.")
    splits = {split: [_nfc(str(cls)) for cls in read.get(split) or []] for split in SPLITS}
    placed: dict[str, str] = {}
    for split, names in splits.items():
        for cls in names:
            if cls not in clips:
                raise UserError(
                    f"splits file {path} names class {cls!r} in {split}, which has no directory beside it; "
                    f"the classes are {', '.join(clips)}."
                )
            if cls in placed:
                raise UserError(
                    f"splits file {path} names class {cls!r} in {placed[cls]} and again in {split}; "
                    "a class belongs to one split, or test would not be novel."
                )
            placed[cls] = split
    for split in ("train", "test"):
        if len(splits[split]) < NEEDED:
            raise UserError(f"splits file {path} gives {split} {len(splits[split])} class(es); it needs at least {NEEDED}.")
    return {split: sorted(names) for split, names in splits.items()}


def _val_from_train(rows: list[Row]) -> list[Row]:
    """Every third video of each training class, in the order of their names, moved to val."""
    number: dict[str, int] = defaultdict(int)
    moved = []
    for row in sorted(rows, key=lambda row: row.video):
        if row.split == "train":
            number[row.cls] += 1
            row = replace(row, split="val") if number[row.cls] % 3 == 0 else row
        moved.append(row)
    return moved
