"""A manifest: which videos there are, of which class, in which split, and how much of that the local copy holds."""

from __future__ import annotations

import errno
import hashlib
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vidlib.basics.errors import UserError
from vidlib.basics.paths import absolute
from vidlib.basics.words import few, printable
from vidlib.data.guard import VARIABLE

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("train", "val", "test")
COSTLY = (VARIABLE, "the decoder crashed")  # causes that cost a minute or a process, each time that they are met
PASSING = COSTLY + tuple(  # causes that another time need not be there
    os.strerror(n) for n in (errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENOMEM)
)


class Row(NamedTuple):
    """One video of one class in one split; ``video`` is unique in its manifest and never an absolute path.

    A tuple, because a manifest may hold a million of them: ``row._replace(split="val")`` makes a changed copy.
    """

    video: str
    cls: str
    split: str


@dataclass(frozen=True)
class Coverage:
    """How much of a manifest the local copy holds.

    ``table`` has one row per split: split, classes, listed, present, and readable where it was checked.
    ``missing`` names what is listed and not there; ``unreadable`` maps a file (relative to the root) to the cause.
    """

    table: pd.DataFrame
    missing: list[str]
    unreadable: dict[str, str]


@dataclass(frozen=True)
class Manifest:
    """Rows and where their files lie.

    ``files`` maps a video id to its path relative to ``root``. ``directional`` True: no horizontal flip in training.
    ``prompts`` maps a class to its readable text. ``listed`` (split -> class -> number of videos) is what was
    published, where that can differ from the rows found on disk. ``note`` says what a reader of a result must know.
    ``left_out`` maps a video that was in a split and cannot be read to (split, file, cause). ``descriptions`` maps a
    class to texts that a user gave for it. ``sources`` maps a split to the data set that it is of, where there are two.
    """

    name: str
    rows: tuple[Row, ...]
    root: Path
    files: Mapping[str, str]
    directional: bool = True
    prompts: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    listed: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    left_out: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)
    descriptions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len({row.video for row in self.rows}) == len(self.rows):
            return
        seen: dict[str, Row] = {}
        for row in self.rows:
            if row.video in seen:
                first = seen[row.video]
                raise UserError(
                    f"{self.name}: video {row.video!r} is listed twice (class {first.cls!r} in {first.split}, class "
                    f"{row.cls!r} in {row.split}); each video may be listed once"
                )
            seen[row.video] = row

    @cached_property
    def _by_split(self) -> dict[str, tuple[Row, ...]]:
        found: dict[str, list[Row]] = defaultdict(list)
        for row in self.rows:
            found[row.split].append(row)
        order = [*(s for s in SPLITS if s in found), *sorted(s for s in found if s not in SPLITS)]
        return {split: tuple(sorted(found[split])) for split in order}  # tuples of one split: by video, then class

    @cached_property
    def _classes(self) -> dict[str, tuple[str, ...]]:
        return {split: tuple(sorted({row.cls for row in rows})) for split, rows in self._by_split.items()}

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that hold videos: train, val, test, then any other by name."""
        return tuple(self._by_split)

    def classes(self, split: str) -> tuple[str, ...]:
        """The classes of a split, sorted by name."""
        self.videos(split)  # an unknown split is named
        return self._classes[split]

    def videos(self, split: str) -> tuple[Row, ...]:
        """The rows of a split, sorted by (video, class)."""
        if split not in self._by_split:
            raise UserError(f"{self.name} has no split {split!r}; it has {', '.join(self.splits) or 'none'}")
        return self._by_split[split]

    def source(self, split: str) -> str:
        """The data set that a split is of."""
        return self.sources.get(split, self.name)

    def path(self, row: Row) -> Path:
        """Where the file of a row lies."""
        return Path(self.root) / self.files[row.video]

    def text(self, cls: str) -> str:
        """The readable text of a class; its name where no prompt is given."""
        return self.prompts.get(cls, cls)

    def texts(self, cls: str) -> tuple[str, ...]:
        """What a text encoder reads of a class: the user's descriptions, else its readable text."""
        return self.descriptions.get(cls) or (self.text(cls),)

    def checksum(self, split: str) -> str:
        """sha256 of the sorted ``video<TAB>class<LF>`` lines of a split: the same wherever the files lie."""
        lines = sorted(f"{row.video}\t{row.cls}\n".encode() for row in self.videos(split))
        return hashlib.sha256(b"".join(lines)).hexdigest()

    def coverage(self, check_readable: bool = False) -> Coverage:
        """Count what is listed and present; ``check_readable`` also opens every file, decodes a little of it and
        counts what is readable."""
        import pandas as pd

        missing, table = [], []
        gone = Counter(split for split, _, _ in self.left_out.values())
        unreadable = {file: cause for _, file, cause in self.left_out.values()}
        for split in [*self.splits, *(s for s in self.listed if s not in self.splits)]:
            rows, counts = self._by_split.get(split, ()), self.listed.get(split, {})
            there = [row for row in rows if self.path(row).is_file()]
            missing += [
                printable(self.files[row.video]) for row in sorted(set(rows) - set(there), key=lambda row: row.video)
            ]
            have = Counter(row.cls for row in there)
            missing += [f"{split}/{cls}: {n - have[cls]} of {n} videos" for cls, n in counts.items() if have[cls] < n]
            causes = {row: unreadable_because(self.path(row)) for row in there} if check_readable else {}
            bad = {printable(self.files[row.video]): cause for row, cause in causes.items() if cause}
            unreadable |= bad
            line = {"split": split, "classes": len({row.cls for row in rows})}
            line |= {"listed": sum(counts.values()) or len(rows) + gone[split], "present": len(there)}
            table.append(line | ({"readable": len(there) - len(bad)} if check_readable else {}))
        return Coverage(pd.DataFrame(table), missing, unreadable)

    def keep_readable(self) -> Manifest:
        """The manifest without the files that are absent or cannot be decoded, which its note then names.

        Raises UserError where nothing, or nothing of one class, can be read, with the first failure's cause.
        """
        causes = {row: unreadable_because(self.path(row)) for row in self.rows}
        bad = [row for row in self.rows if causes[row]]
        kept = self.without({row: causes[row] for row in bad})
        for cls in sorted({row.cls for row in bad} - {row.cls for row in kept.rows}):
            lost = next(row for row in bad if row.cls == cls)
            raise UserError(
                f"{self.name}: no clip of class {cls!r} can be decoded (first failure: {self.path(lost)}: "
                f"{causes[lost]}); replace its clips or remove the class"
            )
        return kept

    def without(self, causes: Mapping[Row, str]) -> Manifest:
        """The manifest without these rows, which cannot be read for the causes given; UserError where none is left."""
        bad, kept = [row for row in self.rows if row in causes], tuple(row for row in self.rows if row not in causes)
        if not bad:
            return self
        if not kept:
            refuse_all_broken(self.name, self.root, len(bad), self.path(bad[0]), causes[bad[0]])
        names = few(self.files[row.video] for row in bad)
        note = f"{len(bad)} of {len(self.rows)} clips cannot be read and are left out: {names}."
        gone = {row.video: (row.split, printable(self.files[row.video]), causes[row]) for row in bad}
        files = {row.video: self.files[row.video] for row in kept}
        note = f"{self.note} {note}".strip()
        return replace(self, rows=kept, files=files, note=note, left_out={**self.left_out, **gone})


def unreadable_because(path: Path) -> str:
    """Why a video cannot be read, in words; empty where it can. A file is opened once as long as it does not change and
    what kept it from being read is not ``passing``."""
    if not path.is_file():
        return "the file is absent"
    stat = path.stat()
    try:
        return _probed(path, stat.st_size, stat.st_mtime_ns)
    except _Passing as error:
        return str(error)


class _Passing(Exception):
    """A cause that is not remembered."""


@lru_cache(maxsize=1 << 17)
def _probed(path: Path, size: int, changed: int) -> str:
    if not size:
        return "the file is empty"
    from vidlib.data import video  # here, so that what is listed can be said without a decoder

    try:
        video.probe(path)
    except Exception as error:  # any decoder's complaint is the file's fault, and is named to the user
        if passing(cause := in_words(error, path)):
            raise _Passing(cause) from None
        return cause
    return ""


def passing(cause: str) -> bool:
    """Whether what kept a file from being read may be gone although the file has not changed: it is looked at again."""
    return any(mark in cause for mark in PASSING)


def in_words(error: Exception, path: Path) -> str:
    """What a decoder said of a file, in one line without the file's name."""
    if isinstance(error, MemoryError):
        return os.strerror(errno.ENOMEM)
    said = " ".join(str(error).split())
    return said.removeprefix(printable(str(absolute(path)))).lstrip(": ").rstrip(".") or type(error).__name__


def refuse_all_broken(name: str, root: Path, number: int, first: Path, cause: str) -> None:
    """Raise the UserError for clips none of which decodes."""
    right = "" if VARIABLE in cause else "; replace them with videos that a player can open"
    failure = f"(first failure: {first}: {cause})"
    raise UserError(f"{name}: none of the {number} clips in {root} can be decoded {failure}{right}")


def normalised(name: str) -> str:
    """A class name without case, spaces, underscores and punctuation: how a directory is told to be a class."""
    return "".join(c for c in unicodedata.normalize("NFKC", name).casefold() if c.isalnum())
