"""What ``prefetching`` kept of a benchmark's clips: small uint8 frames, read through a memory map.

``$VIDLIB_DATA/<name>/prefetch/`` holds shards, each an ``.npy`` file of bytes with one clip after the other,
``index.tsv`` with a line per clip, and ``store.yaml`` with how they were made. ``VIDLIB_PREFETCH=0`` passes
them over.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from vidlib.basics import paths
from vidlib.basics.errors import UserError
from vidlib.basics.progress import say_once


@dataclass(frozen=True)
class Kept:
    """Where a video's frames uint8 [frames height width 3] lie, and of which file (``size``, ``changed``) they are."""

    video: str
    size: int
    changed: int
    shard: int
    offset: int
    frames: int
    height: int
    width: int

    @property
    def bytes(self) -> int:
        return self.frames * self.height * self.width * 3


class Store:
    """The frames that ``prefetch`` kept; ``frames(video, path)`` gives a clip's or None where they are not current."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made, self.kept = made(folder), index(folder)
        self._shards: dict[int, np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_shards": {}}

    def frames(self, name: str, path: Path) -> np.ndarray | None:
        """uint8 [N H W 3], a read-only view of the disk; None where the video is not kept or its file has changed."""
        kept = self.kept.get(name)
        if kept is None or stamp(path) != (kept.size, kept.changed):
            return None
        if kept.shard not in self._shards:
            try:
                self._shards[kept.shard] = np.load(shard(self.folder, kept.shard), mmap_mode="r")
            except (OSError, ValueError):
                return None
        flat = self._shards[kept.shard][kept.offset : kept.offset + kept.bytes]
        whole = len(flat) == kept.bytes
        return np.asarray(flat).reshape(kept.frames, kept.height, kept.width, 3) if whole else None

    @property
    def words(self) -> str:
        return words(self.made)


def words(form: dict[str, Any]) -> str:
    """How clips were made, such as ``all frames, short side 256``."""
    frames = "all frames" if form["frames"] is None else f"{form['frames']} frames a clip"
    return f"{frames}, short side {form['short']}"


def find(name: str, frames: int = 0, views: int = 1) -> Store | None:
    """What was prefetched of a benchmark, read once until its index changes; None where nothing was, it is to be passed
    over, or only some frames were, which would serve several ``views`` in time all alike. UserError where it keeps
    fewer than ``frames`` of a clip."""
    if not _wanted(name):
        return None
    store = _store(place(name), stamp(place(name) / "index.tsv"))
    kept = store.made["frames"]
    if kept is not None and views > 1:
        say_once(f"{store.folder} keeps {kept} frames of a clip: {views} views in time are decoded anew.")
        return None
    if kept is not None and kept < frames:
        raise UserError(
            f"frames: {frames}, and {store.folder} keeps {kept} of a clip; VIDLIB_PREFETCH=0 decodes the videos, or "
            "delete that folder and prefetch again"
        )
    return store


@lru_cache(maxsize=8)
def _store(folder: Path, index: tuple[int, int]) -> Store:
    return Store(folder)


def note(name: str) -> str:
    """What a reader of a result must know of it; empty where nothing was prefetched."""
    if not _wanted(name):
        return ""
    form = made(place(name))
    but = "" if form["frames"] is None else " but for several test views in time"
    return f"Frames were prefetched ({words(form)}), not decoded anew{but}."


def _wanted(name: str) -> bool:
    return os.environ.get("VIDLIB_PREFETCH") != "0" and (place(name) / "store.yaml").is_file()


def place(name: str) -> Path:
    """The folder of what was prefetched of a benchmark."""
    return paths.absolute(paths.data_dir() / name / "prefetch")


def made(folder: Path) -> dict[str, Any]:
    try:
        made = yaml.safe_load((folder / "store.yaml").read_text())
        return {"short": int(made["short"]), "frames": made["frames"]}
    except (OSError, yaml.YAMLError, TypeError, KeyError, ValueError):
        raise UserError(f"{folder / 'store.yaml'} is damaged; delete {folder} and prefetch again") from None


def index(folder: Path) -> dict[str, Kept]:
    """video -> where its frames lie; the last line of a video counts, one that was cut off does not."""
    path, found = folder / "index.tsv", {}
    lines: Sequence[str] = path.read_bytes().decode("utf-8", "surrogateescape").split("\n") if path.is_file() else [""]
    for line in lines[:-1]:
        name, *numbers = line.split("\t")
        try:
            found[name] = Kept(name, *map(int, numbers))
        except (ValueError, TypeError):
            continue
    return found


def stamp(path: Path) -> tuple[int, int]:
    """A file's bytes and time of change; (-1, -1) of an absent one."""
    try:
        status = os.stat(path)
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def shard(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:04}.npy"
