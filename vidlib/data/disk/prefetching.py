"""``prefetch``: every clip of a benchmark decoded once, made smaller, and kept as uint8 frames for fast training.

They lie as ``prefetched`` says, in shards of about 512 MB. A line of the index is written after the bytes it speaks of
are on the disk, so that what an interrupted call leaves can be read, and is continued.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import yaml

from vidlib.basics import paths
from vidlib.basics.errors import UserError
from vidlib.basics.progress import track
from vidlib.data import pool, prefetched, video
from vidlib.data.catalogue import benchmarks, official, store
from vidlib.data.disk.shrinking import shrunk, smaller
from vidlib.data.manifest import Manifest
from vidlib.data.prefetched import Kept, Store, place

SHARD = 512_000_000  # bytes
HEAD = 128  # bytes before a shard's frames: numpy pads its header to this
COMMIT = 64_000_000  # bytes after which what was written is made sure of
MARGIN = 1 << 30  # bytes of the disk that stay free
SAMPLE = 24  # clips looked at to estimate the size


@dataclass(frozen=True)
class Plan:
    """What ``fetch`` will do: clips that are there (``done``) and not, bytes to come (estimated) and bytes free."""

    manifest: Manifest
    folder: Path
    short: int
    frames: int | None
    done: dict[str, Kept]
    todo: tuple[str, ...]
    estimate: int
    free: int

    def line(self) -> str:
        """For people."""
        what = prefetched.words({"frames": self.frames, "short": self.short})
        return (
            f"{self.manifest.name}: {len(self.todo)} of {len(self.manifest.files)} clips to decode ({what}), about "
            f"{self.estimate / 1e9:.2f} GB, {self.free / 1e9:.1f} GB free in {self.folder}"
        )


def plan(name: str, short: int, frames: int | None = None) -> Plan:
    """What ``fetch`` would do: decides nothing by itself and writes nothing.

    ``short``: pixels of the short side (smaller clips stay as they are); ``frames``: that many segment centres of each
    clip, None for all.

    Raises UserError: sizes that make no sense, nothing to decode, another size there already, a disk too small.
    """
    if short < 16 or (frames is not None and frames < 1):
        raise UserError(
            f"size and frames: {short} and {frames}; give a short side of 16 pixels or more, and 1 frame or more"
        )
    if name.startswith(benchmarks.FOLDER) or name in benchmarks.WORLDS:
        raise UserError(f"{name}: only a benchmark of data_manifests/ with videos of its own can be prefetched")
    manifest = official.load_any(name)
    folder = place(manifest.name)
    made = prefetched.made(folder) if (folder / "store.yaml").is_file() else None
    if made and (made["short"], made["frames"]) != (short, frames):
        raise UserError(
            f"{folder} holds clips of another form ({prefetched.words(made)}); ask for that, or delete the folder"
        )
    known = prefetched.index(folder) if made else {}
    rows = {row.video: row for row in manifest.rows}
    done = {
        v: kept
        for v, kept in known.items()
        if v in rows and prefetched.stamp(manifest.path(rows[v])) == (kept.size, kept.changed)
    }
    todo = tuple(v for v in rows if v not in done)
    free = shutil.disk_usage(next(p for p in (folder, *folder.parents) if p.exists())).free
    found = Plan(manifest, folder, short, frames, done, todo, 0, free)
    estimate = _estimate(found, rows) if todo else 0
    found = Plan(manifest, folder, short, frames, done, todo, estimate, free)
    if estimate + MARGIN > free:
        raise UserError(
            f"{found.line()}: that does not fit (1 GB is to stay free); give a smaller --size, or --frames N, or "
            "another VIDLIB_DATA"
        )
    return found


def _estimate(wanted: Plan, rows: dict[str, Any]) -> int:
    """Bytes to come, from the frame counts and sizes of a few clips spread over the list."""
    step = max(1, len(wanted.todo) // SAMPLE)
    items = [(wanted.manifest.path(rows[v]),) for v in wanted.todo[::step][:SAMPLE]]
    sizes = []
    for _, result in pool.each(smaller, items, min(4, os.cpu_count() or 1), video.TIMEOUT):
        if not isinstance(result, Exception):
            count, height, width = result
            scale = min(1.0, wanted.short / min(height, width))
            sizes.append(min(count, wanted.frames or count) * round(height * scale) * round(width * scale) * 3)
    return int(sum(sizes) / len(sizes) * len(wanted.todo)) if sizes else 0


def fetch(wanted: Plan, workers: int | None = None, timeout: float = video.TIMEOUT) -> tuple[Store, dict[str, str]]:
    """Do what ``plan`` said: the store, and video -> cause of those that do not decode. Ended, the next call continues.

    Raises UserError where another process is at it, or the disk is full.
    """
    folder = wanted.folder
    bad: dict[str, str] = {}
    rows = {row.video: row for row in wanted.manifest.rows}
    with store.alone(folder / "prefetch.lock", wait=0):
        if not (folder / "store.yaml").is_file():
            with paths.atomic_write(folder / "store.yaml") as part:
                part.write_text(yaml.safe_dump({"format": 1, "short": wanted.short, "frames": wanted.frames}))
        writer = _Writer(folder, prefetched.index(folder))
        items = [(wanted.manifest.path(rows[v]), wanted.short, wanted.frames) for v in wanted.todo]
        stamps = [prefetched.stamp(path) for path, *_ in items]
        try:
            results = pool.each(shrunk, items, workers or os.cpu_count() or 1, timeout)
            for number, result in track(results, "prefetched", len(rows), start=len(rows) - len(items)):
                if isinstance(result, Exception):
                    bad[wanted.todo[number]] = pool.cause(result, items[number][0])
                else:
                    writer.add(wanted.todo[number], stamps[number], result)
            writer.commit()
        except OSError as error:
            raise UserError(
                f"{folder} cannot be written: {error.strerror}; what is done stays, call it again"
            ) from None
        finally:
            writer.close()
    return Store(folder), bad


class _Writer:
    """Appends clips to the last shard, or a new one; ``commit`` makes them sure: bytes first, then their lines."""

    def __init__(self, folder: Path, known: dict[str, Kept]) -> None:
        self.folder, self._lines, self._since = folder, [], 0
        last = max((kept.shard for kept in known.values()), default=0)
        end = max((kept.offset + kept.bytes for kept in known.values() if kept.shard == last), default=0)
        self._open(last, end)
        with paths.atomic_write(folder / "index.tsv") as part:  # without a line that was cut off
            part.write_text("".join(map(_row, known.values())), encoding="utf-8", errors="surrogateescape")

    def _open(self, shard: int, end: int) -> None:
        path = prefetched.shard(self.folder, shard)
        path.touch()
        self._shard, self._end, self._file = shard, end, open(path, "r+b")  # noqa: SIM115
        self._file.truncate(HEAD + end)
        self._file.seek(HEAD + end)

    def add(self, name: str, stamp: tuple[int, int], frames: np.ndarray) -> None:
        if self._end and self._end + frames.nbytes > SHARD:
            self.commit()
            self._file.close()
            self._open(self._shard + 1, 0)
        self._file.write(np.ascontiguousarray(frames).data)
        self._lines.append(Kept(name, *stamp, self._shard, self._end, *frames.shape[:3]))
        self._end += frames.nbytes
        self._since += frames.nbytes
        if self._since >= COMMIT:
            self.commit()

    def commit(self) -> None:
        _head(self._file, self._end)
        self._file.flush()
        os.fsync(self._file.fileno())
        with open(self.folder / "index.tsv", "a", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            file.writelines(map(_row, self._lines))
        self._lines, self._since = [], 0

    def close(self) -> None:
        try:
            self._file.close()
        except OSError:  # a full disk: what is not committed is written again
            pass


def _head(file: BinaryIO, size: int) -> None:
    """numpy's header of a flat array of ``size`` bytes, before what is there."""
    file.seek(0)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (size,)})
    if file.tell() != HEAD:
        raise AssertionError(f"numpy's header takes {file.tell()} bytes")
    file.seek(HEAD + size)


def _row(kept: Kept) -> str:
    return "\t".join(map(str, astuple(kept))) + "\n"


def report(found: Store, bad: dict[str, str]) -> Iterator[str]:
    """What was done, for people."""
    size = sum(kept.bytes for kept in found.kept.values())
    yield f"{len(found.kept)} clips ({found.words}), {size / 1e9:.2f} GB in {found.folder}"
    for name, why in sorted(bad.items()):
        yield f"  does not decode: {name}: {why}"
