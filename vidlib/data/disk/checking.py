"""``check``: every clip decoded once, in several processes; a ledger of what is broken, short, odd or there twice.

The ledger is a TSV file, one line per video file, written as the work goes: a killed check continues where it was. A
line counts as long as the file's size and time of change stay. It lies in ``$VIDLIB_DATA/<name>/check.tsv`` for a
benchmark, and in vidlib's cache for ``folder:PATH``, whose folder stays as it is.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vidlib.basics import paths
from vidlib.basics.errors import UserError
from vidlib.basics.progress import track
from vidlib.data import pool, video
from vidlib.data.catalogue import benchmarks, official, readable, store
from vidlib.data.catalogue.ledger import Line, place, read, row, write
from vidlib.data.disk.examining import Examined, examine
from vidlib.data.disk.scanning import scan
from vidlib.data.prefetched import stamp

SHORT = 8  # frames: fewer than the methods' usual clip
STATES = ("unreadable", "damaged", "short", "odd", "duplicate", "good")  # the worst first: a file has one
SHOWN, BROKEN = 12, 200  # lines of a state in a report; more of what is broken
SAME = "same content as "


@dataclass(frozen=True)
class Checked:
    """``lines`` sorted by file, ``again`` of them from an earlier check; ``passed`` maps links to why not read."""

    what: str
    root: Path
    ledger: Path
    lines: tuple[Line, ...]
    again: int
    passed: dict[str, str]

    def report(self, shown: int = SHOWN) -> Iterator[str]:
        """For people: how many of each state, and the first of each with its cause, ``shown`` where not broken."""
        counts = Counter(line.state for line in self.lines)
        said = ", ".join(f"{counts[state]} {state}" for state in reversed(STATES) if counts[state])
        earlier = f", {self.again} of them as an earlier check found them" if self.again else ""
        yield f"{self.what}: {len(self.lines)} files in {self.root}{earlier}: {said or 'none'}"
        good = [line for line in self.lines if line.frames]
        if good:
            frames, seconds = sorted(line.frames for line in good), sum(line.seconds for line in good)
            middle, every = frames[len(frames) // 2], f"{sum(frames)} in all; {seconds / 60:.1f} minutes"
            yield f"frames: {frames[0]} to {frames[-1]}, median {middle}, {every}"
        if doubles := sum(SAME in line.why for line in self.lines):
            yield f"of the same content as another: {doubles}, whatever else they are"
        for state in STATES[:-1]:
            held = [line for line in self.lines if line.state == state]
            most = shown if state not in STATES[:2] else BROKEN
            for line in held[:most]:
                yield f"  {state:<10} {line.file}: {line.why}"
            if len(held) > most:
                yield f"  {state:<10} ... and {len(held) - most} more"
        for name, why in sorted(self.passed.items())[:shown]:
            yield f"  not read   {name}: {why}"
        yield f"ledger: {self.ledger}"


def check(
    what: str,
    workers: int | None = None,
    timeout: float = video.TIMEOUT,
    again: bool = False,
    ledger: str | Path | None = None,
) -> Checked:
    """Decode every clip of a benchmark, or every video file under ``folder:PATH`` in any layout.

    ``workers`` processes (default: one per core); ``timeout`` seconds without a frame of a file, then it is
    unreadable. ``again`` forgets an earlier ledger. Ended at any time, the next call continues.

    Raises UserError: nothing to check, another check of the same at work, a ledger that cannot be written.
    """
    root, names, passed = _targets(what)
    path = paths.absolute(ledger) if ledger else place(what, root)
    if workers is not None and workers < 1:
        raise UserError(f"workers: {workers} processes cannot check anything; give at least 1")
    with store.alone(path.with_suffix(".lock"), wait=0):
        known = {} if again else read(path)
        now = {name: stamp(root / name) for name in names}
        done = {name: known[name] for name in names if name in known and _same(known[name], now[name])}
        write(path, [*done.values()])  # what is stale or cut off goes before lines are added
        count = len(done)
        for line in _examined(root, names, now, done, path, workers or os.cpu_count() or 1, timeout):
            done[line.file] = line
        lines = _doubled([done[name] for name in sorted(done)])
        write(path, lines)
    return Checked(what, root, path, tuple(lines), count, passed)


def _targets(what: str) -> tuple[Path, list[str], dict[str, str]]:
    if what.startswith(benchmarks.FOLDER):
        found = scan(what.removeprefix(benchmarks.FOLDER) or ".")
        root, names, passed = found.root, [file.name for file in found.files], found.refused
    else:
        manifest = official.load_any(what)
        root, names, passed = Path(manifest.root), sorted(set(manifest.files.values())), {}
    if not names:
        raise UserError(f"{what}: there is no video file in {root} to check")
    return root, names, passed


def _same(line: Line, now: tuple[int, int]) -> bool:
    """Whether a line still holds: the file has not changed, and what kept it from being read is its own."""
    return (line.size, line.changed) == now and now[0] >= 0 and not readable.passing(line.why)


def _examined(
    root: Path,
    names: Sequence[str],
    now: dict[str, tuple[int, int]],
    done: dict[str, Line],
    path: Path,
    workers: int,
    timeout: float,
) -> Iterator[Line]:
    """The lines of the files that are not in ``done``, each added to the ledger at once."""
    todo = [name for name in names if name not in done]
    results = pool.each(examine, [(root / name,) for name in todo], workers, timeout)
    with open(path, "a", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        for number, result in track(results, "checked", len(names), start=len(done)):
            name = todo[number]
            line = _line(name, now[name], result, root / name)
            try:
                file.write(row(line))
                file.flush()
            except OSError as error:
                raise UserError(f"{path} cannot be written: {error.strerror}; the next check continues") from None
            yield line


def _line(name: str, now: tuple[int, int], result: Examined | Exception, path: Path) -> Line:
    if isinstance(result, Exception):
        return Line(name, *now, "unreadable", why=pool.cause(result, path))
    few = [f"{result.frames} frame{'s' * (result.frames != 1)}"] if result.frames < SHORT else []
    why = [*([result.damage] if result.damage else []), *few, *result.odd]
    state = "damaged" if result.damage else "short" if few else "odd" if result.odd else "good"
    found = (result.frames, result.header, round(result.seconds, 3), round(result.rate, 3), result.width, result.height)
    return Line(name, *now, state, *found, result.content, "; ".join(why))


def _doubled(lines: Sequence[Line]) -> list[Line]:
    """The lines, those of a content that an earlier file has marked as its duplicates."""
    first: dict[str, str] = {}
    marked = []
    for line in lines:
        why = "; ".join(part for part in line.why.split("; ") if not part.startswith(SAME))
        state = "good" if line.state == "duplicate" else line.state
        if line.content and first.setdefault(line.content, line.file) != line.file:
            why = "; ".join(filter(None, (why, f"{SAME}{first[line.content]}")))
            state = "duplicate" if state == "good" else state
        marked.append(replace(line, state=state, why=why))
    return marked
