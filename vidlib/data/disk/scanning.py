"""Which video files lie in a folder, in any layout, without leaving it."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vidlib.basics.errors import UserError
from vidlib.basics.paths import absolute
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
    linked: bool = False


def scan(folder: str | Path, follow_links: bool = False) -> Scan:
    """Every file under ``folder`` with an ending of VIDEO_ENDINGS in any case, however deep.

    Hidden files and folders are passed over, and pipes and devices. A link is read where it ends inside the folder, or
    anywhere with ``follow_links``; else it is refused by name. No folder is read twice, so loops of links end.

    Raises UserError: no such folder, or one that cannot be read.
    """
    root = absolute(folder)
    if not root.is_dir():
        raise UserError(f"videos folder {root} {'is not a folder' if root.exists() else 'does not exist'}")
    real = os.path.realpath(root)
    found = Scan(root, linked=follow_links)
    try:
        os.scandir(root).close()
    except OSError as error:
        raise UserError(f"videos folder {root} cannot be read: {error.strerror}") from None
    seen = {_identity(root)}
    links: list[tuple[str, str]] = []
    open_folders = [""]
    while open_folders or links:
        if not open_folders:  # links to folders last: a folder that is also there itself goes by its own name
            open_folders += _linked(root, links.pop(0)[0], seen, found)
            continue
        before = open_folders.pop()
        for entry in _entries(root, before, found):
            name = f"{before}{entry.name}"
            if entry.is_symlink() and not _may_follow(entry.path, name, real, follow_links, found):
                continue
            if entry.is_dir():
                if entry.is_symlink():
                    links.append((f"{name}/", entry.path))
                elif (it := _identity(entry.path)) not in seen:
                    seen.add(it)
                    open_folders.append(f"{name}/")
            elif os.path.splitext(entry.name)[1].lower() in VIDEO_ENDINGS:
                _take(entry, name, found)
    found.files.sort(key=lambda file: file.name)
    return found


def _entries(root: Path, before: str, found: Scan) -> Iterator[os.DirEntry]:
    try:
        with os.scandir(root / before) as entries:
            yield from sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    except OSError as error:
        found.refused[before or "."] = f"the folder cannot be read: {error.strerror}"


def _linked(root: Path, name: str, seen: set[tuple[int, int]], found: Scan) -> list[str]:
    it = _identity(root / name)
    if it in seen:
        found.refused[name.rstrip("/")] = "a link to a folder that is read already"
        return []
    seen.add(it)
    return [name]


def _may_follow(path: str, name: str, real: str, follow_links: bool, found: Scan) -> bool:
    target = os.path.realpath(path)
    if not os.path.exists(target):  # a loop of links, too
        found.refused[name] = "a link that leads nowhere"
        return False
    if not follow_links and os.path.commonpath((real, target)) != real:
        found.refused[name] = f"a link that leads outside the folder, to {target}; --follow-links would read it"
        return False
    return True


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


def _identity(path: str | Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino
