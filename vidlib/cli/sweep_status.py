"""``vidlib sweep --status``: how far each cell of a grid is, read from the run folders alone; nothing is started."""

import collections
from collections.abc import Sequence
from pathlib import Path

from vidlib.basics.errors import UserError
from vidlib.basics.lock import Lock
from vidlib.cli import run as running
from vidlib.cli.sweep import Cell
from vidlib.results import runs
from vidlib.results.intervals import cell as percent
from vidlib.training import checkpoints

STATES = ("finished", "running", "failed", "interrupted", "not begun")


def lines(found: Sequence[Cell]) -> list[str]:
    """A line for each cell, and how many there are of each state."""
    said = [f"{cell.name}: {', '.join(filter(None, (cell.state, words)))}" for cell, words in look(found)]
    counts = collections.Counter(cell.state for cell in found)
    return [*said, ", ".join(f"{counts[state]} {state}" for state in STATES) + f" of {len(found)} cells"]


def look(found: Sequence[Cell]) -> list[tuple[Cell, str]]:
    """Set ``state`` (one of ``STATES``) and ``why`` of each cell; each with what else is known of it."""
    return [(cell, _look(cell)) for cell in found]


def _look(cell: Cell) -> str:
    target, failed = running.executed(cell.request), running.failure(cell.request)
    cell.why = ""
    if running.finished(cell.request):
        cell.state = "finished"
        own = [run for run in running.recorded(cell.request) if run is not None]
        return "; ".join(f"{run.params['report']} {percent([run.result[run.params['report']]])}" for run in own)
    far = "; ".join(filter(None, map(_far, running.homes(cell.request))))
    if holder := Lock(target.with_suffix(".lock")).holder():
        cell.state = "running"
        return f"{holder}{far and '; '}{far}"
    if failed.is_file():
        cell.state, cell.why = "failed", failed.read_text().strip()
        return f"{cell.why}{far and '; '}{far}"
    if far or running.unfinished(target).is_file():
        cell.state = "interrupted"
        return far
    cell.state, job = "not begun", target.with_suffix(".job")
    return f"submitted as job {job.read_text().strip()}" if job.is_file() else ""


def _far(home: Path) -> str:
    """How far a run is; empty where it has not begun."""
    if runs.finished(home):
        return f"run {home.name} finished"
    if not home.is_dir():
        return ""
    try:
        steps = runs.read_lines(home / runs.METRICS)
        said = f"step {steps[-1]['step']}" if steps else "begun"
        if not (home / runs.STATE).is_file():
            return f"run {home.name}: {said}, no checkpoint yet"
        done, total = checkpoints.progress(home / runs.STATE)
    except UserError as error:  # of this run; the others are told
        return str(error)
    return f"run {home.name}: {said} of {total}, checkpoint at {done}"
