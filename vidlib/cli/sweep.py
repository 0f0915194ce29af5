"""``vidlib sweep``: a recipe's notebook once for each cell of a grid, in processes of their own.

Every cell is validated before the first starts. A cell that is finished is skipped, a failed one does not stop the
others, and after Ctrl-C the same command goes on: what is done is read from the run folders, not from a state of its
own. ``<runs>/notebooks/sweep-<id>.csv`` lists the cells, written anew after each.
"""

import contextlib
import itertools
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pandas as pd

from vidlib.basics.digests import digest
from vidlib.basics.errors import UserError
from vidlib.basics.paths import atomic_write
from vidlib.basics.progress import COUNTING, cores
from vidlib.cli import run as running
from vidlib.params.notebooks import Request, request
from vidlib.results.intervals import over_seeds

LOOK_SECONDS = 0.2
TELL_SECONDS = 30.0
PATIENCE_SECONDS = 20.0  # for a process that was interrupted to end by itself
BUSY = "is in use by process"  # of lock.Lock: another cell is making a run that both need


@dataclass
class Cell:
    """One cell: its values, its request, ``state`` (waiting, running, finished, skipped, failed, interrupted), minutes,
    and why it failed."""

    values: Mapping[str, str]
    request: Request
    state: str = "waiting"
    minutes: float | None = None
    why: str = ""
    process: subprocess.Popen | None = field(default=None, repr=False)
    log: IO[str] | None = field(default=None, repr=False)
    began: float = 0.0
    gpu: str = ""  # what it was given where there are several; empty: all of them

    @property
    def name(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.values.items()) or "the recipe itself"


def grid(pairs: Sequence[str]) -> dict[str, list[str]]:
    """``["shot=1,5", "seed=0,1,2"]`` as name -> values; commas within brackets do not divide."""
    found: dict[str, list[str]] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        values = [value.strip() for value in re.split(r",(?![^\[{(]*[\]})])", text)]
        if not equals or not name.strip() or not all(values):
            raise UserError(f"'{pair}' is not of the form name=value,value, as in seed=0,1,2")
        if name.strip() in found:
            raise UserError(f"the grid names {name.strip()} twice: give all of its values at once")
        found[name.strip()] = values
    return found


def cells(
    recipe: str, axes: Mapping[str, Sequence[str]], changes: Mapping[str, str] | None = None, notebook: str = ""
) -> list[Cell]:
    """The checked cells of the grid; a UserError names every cell that cannot run, one a line."""
    both = sorted(set(axes) & set(changes or {}))
    if both:
        raise UserError(f"{', '.join(both)}: given in the grid and beside it; give each once")
    found: dict[Path, Cell] = {}
    wrong: dict[str, list[str]] = {}
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        name = " ".join(f"{key}={value}" for key, value in chosen.items())
        try:
            asked = running.checked(request(recipe, {**(changes or {}), **chosen}, notebook))
            found.setdefault(running.executed(asked), Cell(chosen, asked))
        except UserError as error:
            wrong.setdefault(str(error), []).append(name)
    if wrong:
        lines = [f"{'; '.join(names)}: {error}" for error, names in wrong.items()]
        raise UserError("\n".join([*lines, "nothing was started"]))
    return list(found.values())


def expected(cell: Cell) -> tuple[float | None, str]:
    """Hours of a cell's own runs that have no record yet, and from what: an estimate or earlier runs; else None."""
    from vidlib.cli import estimate  # here, because it loads torch and a job of Slurm that waits needs none

    hours, source = 0.0, "its runs, which are recorded"
    own = running.main_runs(cell.request)
    if not own:
        return None, "unknown"
    for params, run in zip(own, running.recorded(cell.request), strict=True):
        if run is not None and not params.fresh:
            continue
        measured = estimate.known(cell.request, params)
        if measured is not None:
            hours, source = hours + estimate.extrapolate(params, measured).hours, "vidlib estimate"
            continue
        before = estimate.trained_before(cell.request, params)
        if before is None:
            return None, "unknown"
        hours, source = hours + before, "training of earlier runs; their tests not counted"
    return hours, source


def plan(found: Sequence[Cell], jobs: int) -> list[str]:
    """What will be done, in lines: how many cells, how many are finished, and what the rest is expected to take."""
    todo = [cell for cell in found if cell.state == "waiting"]
    lines = [f"{len(found)} cells, {len(found) - len(todo)} of them finished and skipped, {jobs} at a time"]
    costs = [expected(cell) for cell in todo]
    hours = [cost for cost, _ in costs if cost is not None]
    unknown = len(costs) - len(hours)
    if todo:
        sources = "; ".join(dict.fromkeys(source for cost, source in costs if cost is not None))
        said = f"{sum(hours):.2f} hours for {len(hours)} of them, one after another (from {sources})" if hours else ""
        rest = f"unknown for {unknown}: vidlib estimate measures it" if unknown else ""
        lines.append("expected cost: " + ", ".join(filter(None, (said, rest))))
    return lines


def skip_finished(found: Sequence[Cell]) -> None:
    """Mark the cells whose notebook is whole and whose runs are recorded; ``fresh`` ones never are."""
    for cell in found:
        if not getattr(cell.request.params, "fresh", False) and running.finished(cell.request):
            cell.state = "skipped"


def run(found: Sequence[Cell], jobs: int, say: Callable[[str], None]) -> Path:
    """Run what is waiting, ``jobs`` at a time; the CSV of all cells. Ctrl-C ends what runs, writes the CSV, goes up."""
    csv = summary_file(found)
    waiting = [cell for cell in found if cell.state == "waiting"]
    gpus = _gpus() if jobs > 1 else []
    active: list[Cell] = []
    held: list[Cell] = []  # they need a run that another cell is making
    told = time.monotonic()
    try:
        while waiting or active or held:
            if not active and not waiting:
                waiting, held = held, []
            while waiting and len(active) < jobs:
                cell = waiting.pop(0)
                used = [other.gpu for other in active]
                shared = len(gpus) < 2 or getattr(cell.request.params, "devices", 1) > 1
                cell.gpu = "" if shared else min(gpus, key=used.count)
                _start(cell, jobs)
                active.append(cell)
                say(f"{cell.name}: started{f' on GPU {cell.gpu}' if cell.gpu else ''}")
            time.sleep(LOOK_SECONDS)
            for cell in [cell for cell in active if cell.process.poll() is not None]:
                active.remove(cell)
                _end(cell)
                if cell.state == "failed" and BUSY in cell.why and active:
                    cell.state, cell.why = "waiting", ""
                    held.append(cell)
                    say(f"{cell.name}: waits for a run that another cell is making")
                    continue
                waiting, held = held + waiting, []
                running.note(cell.request, cell.why)
                _keep(found, csv, say)
                done = sum(cell.state in ("finished", "skipped", "failed") for cell in found)
                why = f", {cell.why}" if cell.why else ""
                say(f"{cell.name}: {cell.state} after {cell.minutes:.1f} min{why} ({done} of {len(found)} cells)")
            if time.monotonic() - told >= TELL_SECONDS and active:
                told = time.monotonic()
                for cell in active:
                    counted = _last(cell) if COUNTING.fullmatch(_last(cell)) else "running"
                    say(f"{cell.name}: {counted}, {(time.monotonic() - cell.began) / 60:.1f} min so far")
    except BaseException:
        for cell in active:
            _interrupt(cell)
        _keep(found, csv, say)
        raise
    _keep(found, csv, say)
    return csv


def _keep(found: Sequence[Cell], csv: Path, say: Callable[[str], None]) -> None:
    """``write``; where the disk does not take it the cells go on, and it is said."""
    try:
        write(found, csv)
    except (OSError, UserError) as error:
        say(f"{csv} cannot be written ({error}); the cells go on")


def _gpus() -> list[str]:
    """The GPUs that processes started here see, by the names that CUDA_VISIBLE_DEVICES takes."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name.strip()]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return re.findall(r"^GPU (\d+):", listed.stdout, re.M)


def command_of(cell: Cell) -> list[str]:
    """What a cell's process runs."""
    return [sys.executable, "-m", "vidlib.cli", "run", *cell.request.arguments]


def _start(cell: Cell, jobs: int) -> None:
    headless = {name: value for name, value in os.environ.items() if name != "JPY_SESSION_NAME"}
    headless["PYTHONUNBUFFERED"] = "1"  # its last line is to be what it said last
    if jobs > 1:
        headless["OMP_NUM_THREADS"] = str(max(1, cores() // jobs))
    if cell.gpu:
        headless["CUDA_VISIBLE_DEVICES"] = cell.gpu
    cell.log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
    settings = {"stdin": subprocess.DEVNULL, "stdout": cell.log, "stderr": subprocess.STDOUT, "env": headless}
    cell.process = subprocess.Popen(
        command_of(cell), **settings, start_new_session=True
    )  # Ctrl-C reaches it once: by us
    cell.state, cell.began = "running", time.monotonic()


def _end(cell: Cell) -> None:
    cell.minutes = (time.monotonic() - cell.began) / 60
    cell.state, cell.why = "finished", ""
    if cell.process.returncode:
        cell.state = "failed"
        code = cell.process.returncode
        cell.why = killed(code) or _last(cell) or f"it ended with code {code}"
    cell.log.close()


def killed(code: int) -> str:
    """By which signal a process ended, itself (-9) or what it had started, as a shell says it (137); else empty."""
    number = -code if code < 0 else code - 128
    if number not in {*signal.Signals}:
        return ""
    memory = "; the system does that where memory runs out" if number == signal.SIGKILL else ""
    return f"it was killed by signal {number} ({signal.Signals(number).name}{memory})"


def _interrupt(cell: Cell) -> None:
    cell.process.send_signal(signal.SIGINT)
    try:
        cell.process.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(cell.process.pid, signal.SIGKILL)
        cell.process.wait()
    _end(cell)
    cell.state, cell.why = "interrupted", ""


def _last(cell: Cell) -> str:
    """The last line that a cell's process printed."""
    cell.log.seek(0)
    lines = [line.strip() for line in cell.log.read().splitlines() if line.strip()]
    cell.log.seek(0, os.SEEK_END)
    return lines[-1] if lines else ""


# ---------------------------------------------------------------- said


def summary_file(found: Sequence[Cell]) -> Path:
    """The sweep's CSV: its name hashes the cells, so that the same command writes the same file."""
    first = found[0].request
    key = digest([[cell.request.notebook, cell.request.determining] for cell in found])[:12]
    return running.runs_folder(first) / "notebooks" / f"sweep-{first.notebook}-{key}.csv"


def write(found: Sequence[Cell], csv: Path) -> None:
    """One row per cell: its values, state, minutes, mean accuracy, half interval (fractions) and what it is over,
    runs, notebook."""
    rows = []
    for cell in found:
        row = {**cell.values, "state": cell.state, "minutes": cell.minutes and round(cell.minutes, 2)}
        row |= {"accuracy": None, "interval": None, "over": "", "runs": "", "notebook": ""}
        if cell.state in ("finished", "skipped"):
            own = [run for run in running.recorded(cell.request) if run is not None]
            results = [run.result[run.params["report"]] for run in own]
            if results:
                mean, halves = over_seeds(results)
                row |= {"accuracy": mean, "interval": next(iter(halves.values())), "over": next(iter(halves))}
            row |= {"runs": " ".join(run.id for run in own), "notebook": str(running.executed(cell.request))}
        rows.append(row | {"why": cell.why, "command": running.command(cell.request)})
    with atomic_write(csv) as part:
        pd.DataFrame(rows).to_csv(part, index=False)


def outcome(found: Sequence[Cell]) -> list[str]:
    """What came out, in lines: counts, then each cell that failed and why."""
    counts = {state: sum(cell.state == state for cell in found) for state in ("finished", "skipped", "failed")}
    lines = [", ".join(f"{number} {state}" for state, number in counts.items()) + f" of {len(found)} cells"]
    return lines + [f"failed: {cell.name}: {cell.why}" for cell in found if cell.state == "failed"]
