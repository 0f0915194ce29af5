"""The manifest of a benchmark as ``vidlib data add`` leaves it: one TSV file that is read fast and by people.

``$VIDLIB_DATA/<name>/manifest.tsv`` starts with ``# key: value`` lines (YAML: benchmark, family, folders, counts), then
holds one line per video: split, class, video, number of the folder, file in that folder. The file is replaced as a
whole, by one process at a time.
"""

import contextlib
import gc
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path, PurePosixPath
from sys import intern
from typing import Any, TextIO

import yaml

from vidlib.basics import paths
from vidlib.basics.errors import UserError
from vidlib.basics.lock import Lock
from vidlib.data.manifest import Row

COLUMNS = ("split", "class", "video", "folder", "file")
UNSAFE = ("\t", "\n", "\r", "\0")  # a name with one of these cannot stand on a line
FORMAT = 1
PIECE = 1 << 22  # characters read at a time: what a file's text takes beside its rows stays small
WAIT = 120.0  # seconds for another process to finish writing; it takes seconds where a manifest is large
_here: dict[Path, threading.Lock] = defaultdict(threading.Lock)  # a process may hold a ``Lock`` twice


@dataclass(frozen=True)
class Stored:
    """``rows``, ``files``: video -> path in its folder, and ``elsewhere``: video -> number in ``folders`` where that is
    not 0. ``family`` names the published lists that were matched, empty where class folders were taken."""

    name: str
    rows: tuple[Row, ...]
    files: dict[str, str]
    elsewhere: dict[str, int]
    folders: tuple[str, ...]
    family: str = ""
    facts: dict[str, Any] = field(default_factory=dict)  # counts for a reader of the file

    def file(self, video: str) -> Path:
        """Where a video lies."""
        return Path(self.folders[self.elsewhere.get(video, 0)], self.files[video])

    def rooted(self) -> tuple[Path, dict[str, str]]:
        """The one folder that holds all the others, and each video's path relative to it."""
        root = os.path.commonpath(self.folders)
        before = ["" if folder == root else os.path.relpath(folder, root) + "/" for folder in self.folders]
        if not any(before):
            return Path(root), self.files
        number = self.elsewhere.get
        return Path(root), {video: before[number(video, 0)] + name for video, name in self.files.items()}


def place(name: str) -> Path:
    """Where the manifest of a benchmark lies."""
    return paths.absolute(paths.data_dir() / name / "manifest.tsv")


def read(name: str) -> Stored | None:
    """The stored manifest; None where there is none. UserError where the file is damaged or leads outside."""
    path = place(name)
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file, _unwatched():
            facts = _head(file)
            if facts is None:
                raise UserError(f"manifest {path} is damaged or not vidlib's; delete it and add the videos again")
            if facts.get("format") != FORMAT:
                wrong = f"has format {facts.get('format')!r}, and this vidlib reads {FORMAT}"
                raise UserError(f"manifest {path} {wrong}; add the videos again")
            rows, files, elsewhere = _body(path, file, len(facts["folders"]))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"manifest {path} cannot be read: {error.strerror}") from None
    rest = {key: value for key, value in facts.items() if key not in ("format", "benchmark", "family", "folders")}
    rest.pop("links_followed", None)  # of an earlier vidlib
    return Stored(name, rows, files, elsewhere, tuple(facts["folders"]), facts["family"], rest)


@contextlib.contextmanager
def _unwatched() -> Iterator[None]:
    """Without Python's search for circles of references, which looks at millions of rows again and again."""
    watched = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if watched:
            gc.enable()


def _head(file: TextIO) -> dict[str, Any] | None:
    """The facts in the ``# `` lines; None unless the column titles follow them."""
    head = []
    while (line := file.readline()).startswith("# "):
        head.append(line[2:])
    try:
        facts = yaml.safe_load("".join(head))
    except yaml.YAMLError:
        return None
    whole = isinstance(facts, dict) and isinstance(facts.get("folders"), list) and "family" in facts
    return facts if whole and line == "\t".join(COLUMNS) + "\n" else None


def _body(path: Path, file: TextIO, folders: int) -> tuple[tuple[Row, ...], dict[str, str], dict[str, int]]:
    """The video lines, a piece at a time and a column at a time: a million in about a second."""
    rows: list[Row] = []
    files: dict[str, str] = {}
    elsewhere: dict[str, int] = {}
    while text := file.read(PIECE) + file.readline():
        cells = text.replace("\n", "\t\n\t").split("\t")
        if cells.pop() or cells[5::6].count("\n") != len(cells) / 6:
            raise UserError(f"manifest {path}: {_wrong_line(text, len(rows))}; add the videos again")
        splits, classes, videos, numbers, names = (cells[column::6] for column in range(5))
        rows += map(tuple.__new__, repeat(Row), zip(videos, map(intern, classes), map(intern, splits), strict=True))
        files.update(zip(videos, names, strict=True))
        if numbers.count("0") < len(numbers):
            elsewhere |= {v: _number(n) for v, n in zip(videos, numbers, strict=True) if n != "0"}
        if ".." in text or "\t/" in text or "\t\n" in text:
            for name in names:
                _refuse_outside(path, name, inside(name))
    for video, folder in elsewhere.items():
        _refuse_outside(path, files[video], 0 < folder < folders)
    return tuple(rows), files, elsewhere


def _refuse_outside(path: Path, name: str, fine: bool) -> None:
    if not fine:
        raise UserError(f"manifest {path} names {name!r}, which is not a file inside its folders; add the videos again")


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else -1


def _wrong_line(text: str, before: int) -> str:
    lines = text.split("\n")
    at = next((i for i, line in enumerate(lines) if line.count("\t") != len(COLUMNS) - 1), len(lines) - 1)
    whole = "is cut off" if at == len(lines) - 1 else f"is not of the form {' '.join(COLUMNS)}"
    return f"video line {before + at + 1} {whole}"


def inside(name: str) -> bool:
    """Whether a relative path stays in its folder: not absolute, without ``..``."""
    return not (name.startswith("/") or (".." in name and ".." in PurePosixPath(name).parts)) and name != ""


def write(stored: Stored) -> Path:
    """Replace the manifest of a benchmark as a whole; call it inside ``alone``."""
    facts = {"format": FORMAT, "benchmark": stored.name, "family": stored.family, "folders": list(stored.folders)}
    facts |= stored.facts
    head = yaml.safe_dump(facts, allow_unicode=True, sort_keys=False, width=1 << 20)
    path = place(stored.name)
    with (
        paths.atomic_write(path) as part,
        open(part, "w", encoding="utf-8", errors="surrogateescape", newline="\n") as file,
    ):
        file.writelines(f"# {line}\n" for line in head.splitlines())
        file.write("\t".join(COLUMNS) + "\n")
        for row in sorted(stored.rows, key=lambda row: (row.split, row)):
            folder, name = stored.elsewhere.get(row.video, 0), stored.files[row.video]
            file.write(f"{row.split}\t{row.cls}\t{row.video}\t{folder}\t{name}\n")
    return path


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A TSV file beside a manifest, replaced as a whole."""
    with (
        paths.atomic_write(path) as part,
        open(part, "w", encoding="utf-8", errors="surrogateescape", newline="\n") as file,
    ):
        for row in (columns, *rows):
            file.write("\t".join(cell.replace("\t", "\\t").replace("\n", "\\n") for cell in row) + "\n")


@contextlib.contextmanager
def alone(path: Path, wait: float = WAIT) -> Iterator[None]:
    """One process at a time holds ``path`` (a lock file); others wait up to ``wait`` seconds, then UserError."""
    lock, until, free = Lock(path), time.monotonic() + wait, 0
    if not _here[path].acquire(timeout=wait):
        raise UserError(f"{path.parent} is being written by this process; wait for it")
    try:
        while True:
            try:
                lock.acquire()
                break
            except UserError as busy:
                free = 0 if lock.holder() else free + 1
                if time.monotonic() >= until or free > 20:  # nobody holds it: it cannot be written
                    raise UserError(str(busy).replace("run folder", "folder", 1)) from None
                time.sleep(0.1)
        try:
            yield
        finally:
            lock.release()
    finally:
        _here[path].release()
