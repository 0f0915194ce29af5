"""The ledger of ``vidlib data check``: what decoding found of each video file, one line a file.

A TSV file, ``$VIDLIB_DATA/<name>/check.tsv`` for a benchmark and in vidlib's cache for ``folder:PATH``, whose folder
stays as it is. A line counts as long as the file's size and time of change stay.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from vidlib.basics import paths
from vidlib.basics.errors import UserError
from vidlib.data.catalogue import benchmarks


@dataclass(frozen=True)
class Line:
    """One file: its name below ``root``, bytes, time of change (ns), state, what decoding found, ``why`` in words."""

    file: str
    size: int
    changed: int
    state: str
    frames: int = 0
    header: int = 0
    seconds: float = 0.0
    rate: float = 0.0
    width: int = 0
    height: int = 0
    content: str = ""
    why: str = ""


COLUMNS = tuple(field.name for field in fields(Line))


def known(what: str, root: Path) -> dict[str, Line]:
    """File -> what an earlier check found; whether a line still counts, its size and time of change say."""
    return read(place(what, root))


def place(what: str, root: Path) -> Path:
    """Where the ledger of a benchmark, or of ``folder:PATH``, lies."""
    if not what.startswith(benchmarks.FOLDER):
        return paths.absolute(paths.data_dir() / what.replace(":", "_") / "check.tsv")
    mark = hashlib.sha256(os.fsencode(root)).hexdigest()[:8]
    return paths.absolute(paths.cache_dir() / "checks" / f"{root.name or 'root'}-{mark}.tsv")


def row(line: Line) -> str:
    """A line as it stands in the file."""
    return "\t".join(str(cell).replace("\t", " ").replace("\n", " ") for cell in astuple(line)) + "\n"


def write(path: Path, lines: Sequence[Line]) -> None:
    """Write a whole ledger, atomically."""
    with (
        paths.atomic_write(path) as part,
        open(part, "w", encoding="utf-8", errors="surrogateescape", newline="\n") as file,
    ):
        file.write("\t".join(COLUMNS) + "\n")
        file.writelines(map(row, lines))


def read(path: Path) -> dict[str, Line]:
    """What an earlier check found; a line that was cut off counts as absent."""
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"ledger {path} cannot be read: {error.strerror}") from None
    titles, *lines = text.split("\n")
    if titles.split("\t") != list(COLUMNS):
        raise UserError(f"{path} is not a ledger of vidlib data check; give another --ledger, or delete it")
    found = {}
    for line in lines[:-1]:
        cells = line.split("\t")
        try:
            kinds = (str, int, int, str, int, int, float, float, int, int, str, str)
            one = Line(*(kind(cell) for kind, cell in zip(kinds, cells, strict=True)))
        except ValueError:
            continue
        found[one.file] = one
    return found
