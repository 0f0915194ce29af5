"""Which videos of val and test can be read, found out once, before any episode is drawn from them.

What ``vidlib data check`` found of a benchmark counts; the other files are opened and their first frame decoded, and
the outcome is kept in the cache until the file changes.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from vidlib.basics import paths
from vidlib.basics.errors import UserError
from vidlib.basics.progress import track
from vidlib.data import pool, video
from vidlib.data.catalogue import ledger, store
from vidlib.data.manifest import Manifest, Row, passing, unreadable_because
from vidlib.data.prefetched import stamp

FEW = 64  # files that one process opens before others have started
Stamp = tuple[int, int]  # bytes and time of change; (-1, -1) of an absent file


def keep(manifest: Manifest, splits: Iterable[str], ledgers: Mapping[str, Path] | None = None) -> Manifest:
    """``manifest`` without the videos of ``splits`` that are absent or cannot be decoded, named in its note and in
    ``left_out``.

    ``ledgers``: benchmark -> root, where ``vidlib data check`` may have looked before. UserError where a class of such
    a split has no video that can be read: with fewer classes to choose among, the split would be an easier one.
    """
    splits = [split for split in splits if split in manifest.splits]
    rows = [row for split in splits for row in manifest.videos(split)]
    causes = _causes(manifest, rows, ledgers if ledgers is not None else {manifest.name: Path(manifest.root)})
    bad = {row: cause for row, cause in causes.items() if cause}
    kept = manifest.without(bad)
    for split in splits:
        left = kept.classes(split) if split in kept.splits else ()
        for cls in sorted(set(manifest.classes(split)) - set(left)):
            row = next(row for row in bad if (row.split, row.cls) == (split, cls))
            raise UserError(
                f"{manifest.name}: no video of class {cls!r} in split {split} can be read (first failure: "
                f"{manifest.path(row)}: {bad[row]}); mend or get its videos: without the class the split is another one"
            )
    return kept


def _causes(manifest: Manifest, rows: Iterable[Row], ledgers: Mapping[str, Path]) -> dict[Row, str]:
    """Why a row cannot be read; empty where it can."""
    rows = list(rows)
    paths_of = {row: str(manifest.path(row)) for row in rows}
    now = {path: stamp(Path(path)) for path in paths_of.values()}
    known = {
        path: "the file is absent" if stamp[0] < 0 else "the file is empty"
        for path, stamp in now.items()
        if stamp[0] <= 0
    }
    for name, root in ledgers.items():
        for file, line in ledger.known(name, root).items():
            path = str(root / file)
            if now.get(path) == (line.size, line.changed) and not passing(line.why):
                known.setdefault(path, line.why if line.state == "unreadable" else "")
    place = _place(manifest)
    before = _read(place)
    known |= {
        path: before[path][1]
        for path, stamp in now.items()
        if path not in known and path in before and before[path][0] == stamp and not passing(before[path][1])
    }
    todo = [path for path in dict.fromkeys(paths_of.values()) if path not in known]
    if todo:
        found = _look(todo, manifest.name)
        known |= found
        kept = {path: (now[path], cause) for path, cause in found.items() if not passing(cause)}
        _write(place, before | kept)
    return {row: known[path] for row, path in paths_of.items()}


def _look(todo: list[str], name: str) -> dict[str, str]:
    if len(todo) <= FEW:
        return {path: unreadable_because(Path(path)) for path in todo}
    found = {}
    workers = min(8, os.cpu_count() or 1)
    results = pool.each(_probe, [(path,) for path in todo], workers, video.TIMEOUT)
    for number, result in track(results, f"{name}: can it be read", len(todo)):
        path = todo[number]
        found[path] = pool.cause(result, Path(path)) if isinstance(result, Exception) else ""
    return found


def _probe(path: str) -> None:
    video.probe(path, timeout=None)


def _place(manifest: Manifest) -> Path:
    mark = hashlib.sha256(os.fsencode(f"{manifest.name}\t{manifest.root}")).hexdigest()[:16]
    return paths.absolute(paths.cache_dir() / "readable" / f"{mark}.tsv")


def _read(place: Path) -> dict[str, tuple[Stamp, str]]:
    """path -> its stamp and cause; a line that is not of that form counts as absent."""
    try:
        lines = place.read_bytes().decode("utf-8", "surrogateescape").split("\n")
    except OSError:
        return {}
    found = {}
    for line in lines:
        cells = line.split("\t")
        if len(cells) == 4 and cells[1].isdigit() and cells[2].isdigit():
            found[cells[0]] = (int(cells[1]), int(cells[2])), cells[3]
    return found


def _write(place: Path, known: Mapping[str, tuple[Stamp, str]]) -> None:
    with (
        paths.atomic_write(place) as part,
        open(part, "w", encoding="utf-8", errors="surrogateescape", newline="\n") as file,
    ):
        for path, (stamp, cause) in known.items():
            if not any(mark in path for mark in store.UNSAFE):
                file.write(f"{path}\t{stamp[0]}\t{stamp[1]}\t{' '.join(cause.split())}\n")
