"""Which video files lie in a folder, in any layout."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from vidlib.basics.errors import UserError
from vidlib.basics.paths import absolute, walk
from vidlib.data.catalogue.store import UNSAFE
from vidlib.data.folder import VIDEO_ENDINGS


@dataclass(frozen=True)
class Found:
    """A video file: ``name`` relative to the folder ('/' between parts), ``size`` in bytes."""

    name: str
    size: int


@dataclass
class Scan:
    """``files`` sorted by name; ``refused`` maps what was passed over, relative to ``root``, to why."""

    root: Path
    files: list[Found] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


def scan(folder: str | Path) -> Scan:
    """Every file under ``folder`` with an ending of VIDEO_ENDINGS in any case, however deep.

    Hidden files and folders are passed over, and pipes and devices. Links are read wherever they lead; no folder is
    read twice, so loops of links end (``paths.walk``). What was passed over is refused by name.

    Raises UserError: no such folder, or one that cannot be read.
    """
    root = absolute(folder)
    if not root.is_dir():
        raise UserError(f"videos folder {root} {'is not a folder' if root.exists() else 'does not exist'}")
    found = Scan(root)
    try:
        os.scandir(root).close()
    except OSError as error:
        raise UserError(f"videos folder {root} cannot be read: {error.strerror}") from None
    for name, entry, why in walk(root):
        if entry is None:
            found.refused[name] = why
        elif os.path.splitext(entry.name)[1].lower() in VIDEO_ENDINGS:
            _take(entry, name, found)
    found.files.sort(key=lambda file: file.name)
    return found


def _take(entry: os.DirEntry, name: str, found: Scan) -> None:
    try:
        size = entry.stat().st_size
    except OSError as error:  # it went away meanwhile
        found.refused[name] = f"cannot be looked at: {error.strerror}"
        return
    if not entry.is_file():
        found.refused[name] = "not a plain file"
    elif any(mark in name for mark in UNSAFE):
        found.refused[name] = "its name holds a tab or a line break; rename it"
    else:
        found.files.append(Found(name, size))
