"""The manifest of a benchmark as ``vidlib data add`` leaves it: one TSV file that is read fast and by people.

``$VIDLIB_DATA/<name>/manifest.tsv`` starts with ``# key: value`` lines (YAML: benchmark, family, folders, counts), then
holds one line per video: split, class, video, number of the folder, file in that folder. The file is replaced as a
whole, by one process at a time.
"""

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from vidlib import paths
from vidlib.data.manifest import Row
from vidlib.errors import UserError
from vidlib.lock import Lock

COLUMNS = ("split", "class", "video", "folder", "file")
UNSAFE = ("\t", "\n", "\r", "\0")  # a name with one of these cannot stand on a line
FORMAT = 1
WAIT = 120.0  # seconds for another process to finish writing; it takes seconds where a manifest is large
_here = threading.Lock()  # a process may hold a ``Lock`` twice


@dataclass(frozen=True)
class Stored:
    """``rows`` with ``places``: video -> (number in ``folders``, path in that folder). ``family`` names the published
    lists that were matched, empty where class folders were taken."""

    name: str
    rows: tuple[Row, ...]
    places: dict[str, tuple[int, str]]
    folders: tuple[str, ...]
    family: str = ""
    linked: bool = False  # links that lead outside the folders were followed
    facts: dict[str, Any] = field(default_factory=dict)  # counts for a reader of the file

    def file(self, video: str) -> Path:
        """Where a video lies."""
        folder, name = self.places[video]
        return Path(self.folders[folder], name)

    def rooted(self) -> tuple[Path, dict[str, str]]:
        """The one folder that holds all the others, and each video's path relative to it."""
        root = os.path.commonpath(self.folders)
        before = ["" if folder == root else os.path.relpath(folder, root) + "/" for folder in self.folders]
        if not any(before):
            return Path(root), {video: name for video, (_, name) in self.places.items()}
        return Path(root), {video: before[folder] + name for video, (folder, name) in self.places.items()}


def place(name: str) -> Path:
    """Where the manifest of a benchmark lies."""
    return paths.absolute(paths.data_dir() / name / "manifest.tsv")


def read(name: str) -> Stored | None:
    """The stored manifest; None where there is none. UserError where the file is damaged or leads outside."""
    path = place(name)
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            text = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"manifest {path} cannot be read: {error.strerror}") from None
    head, line, _ = text.partition("\t".join(COLUMNS) + "\n")
    facts = _head(path, head) if line else None
    if not isinstance(facts, dict) or not line or not text.endswith("\n"):
        raise UserError(f"manifest {path} is damaged or not vidlib's; delete it and run vidlib data add {name} again")
    if facts.get("format") != FORMAT:
        raise UserError(f"manifest {path} has format {facts.get('format')!r}, this vidlib reads {FORMAT}: add it again")
    body = text[len(head) + len(line) :].split("\n")
    body.pop()
    del text
    rows, places = _parse(path, body, len(facts["folders"]))
    rest = {key: value for key, value in facts.items() if key not in ("format", "benchmark", "family", "folders")}
    linked = bool(rest.pop("links_followed", False))
    return Stored(name, rows, places, tuple(facts["folders"]), facts["family"], linked, rest)


def _head(path: Path, head: str) -> Any:
    try:
        facts = yaml.safe_load("\n".join(line.removeprefix("# ") for line in head.split("\n")))
    except yaml.YAMLError:
        return None
    whole = isinstance(facts, dict) and isinstance(facts.get("folders"), list) and "family" in facts
    return facts if whole else None


def _parse(path: Path, lines: list[str], folders: int) -> tuple[tuple[Row, ...], dict[str, tuple[int, str]]]:
    rows, places = [], {}
    same: dict[str, str] = {}  # a million rows share few splits and classes
    make = Row._make
    try:
        for line in lines:
            split, cls, video, folder, file = line.split("\t")
            rows.append(make((video, same.setdefault(cls, cls), same.setdefault(split, split))))
            places[video] = (int(folder), file)
    except ValueError:
        number = len(rows) + 1
        raise UserError(f"manifest {path}: video line {number} is not of the form {' '.join(COLUMNS)}") from None
    bad = next((f"{n} {file}" for n, file in places.values() if n >= folders or n < 0 or not inside(file)), None)
    if bad:
        raise UserError(f"manifest {path} names {bad!r}, which is not a file inside its folders; add the videos again")
    return tuple(rows), places


def inside(name: str) -> bool:
    """Whether a relative path stays in its folder: not absolute, without ``..``."""
    return not (name.startswith("/") or (".." in name and ".." in PurePosixPath(name).parts)) and name != ""


def write(stored: Stored) -> Path:
    """Replace the manifest of a benchmark as a whole; call it inside ``alone``."""
    facts = {"format": FORMAT, "benchmark": stored.name, "family": stored.family, "folders": list(stored.folders)}
    facts |= {"links_followed": stored.linked} | stored.facts
    head = yaml.safe_dump(facts, allow_unicode=True, sort_keys=False, width=1 << 20)
    path = place(stored.name)
    with writing(path) as part, open(part, "w", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        file.writelines(f"# {line}\n" for line in head.splitlines())
        file.write("\t".join(COLUMNS) + "\n")
        for row in sorted(stored.rows, key=lambda row: (row.split, row)):
            folder, name = stored.places[row.video]
            file.write(f"{row.split}\t{row.cls}\t{row.video}\t{folder}\t{name}\n")
    return path


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A TSV file beside a manifest, replaced as a whole."""
    with writing(path) as part, open(part, "w", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        for row in (columns, *rows):
            file.write("\t".join(cell.replace("\t", "\\t").replace("\n", "\\n") for cell in row) + "\n")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """``atomic_write`` whose failures (a full disk, a folder without permission) are one sentence."""
    try:
        with paths.atomic_write(path) as part:
            yield part
    except OSError as error:
        kept = "; what was there before is unchanged" if path.exists() else ""
        raise UserError(f"{path} cannot be written: {error.strerror or error}{kept}") from None


@contextlib.contextmanager
def alone(path: Path, wait: float = WAIT) -> Iterator[None]:
    """One process at a time holds ``path`` (a lock file); others wait up to ``wait`` seconds, then UserError."""
    lock, until = Lock(path), time.monotonic() + wait
    if not _here.acquire(timeout=wait):
        raise UserError(f"{path.parent} is being written by this process; wait for it")
    try:
        while True:
            try:
                lock.acquire()
                break
            except UserError as busy:
                if time.monotonic() >= until:
                    raise UserError(str(busy).replace("run folder", "folder", 1)) from None
                time.sleep(0.1)
            except OSError as error:
                raise UserError(f"{path.parent} cannot be written: {error.strerror or error}") from None
        try:
            yield
        finally:
            lock.release()
    finally:
        _here.release()
