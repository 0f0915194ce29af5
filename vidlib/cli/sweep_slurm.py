"""``vidlib sweep --slurm KEY=VALUE ...``: the cells as an array of Slurm's jobs, handed over by submitit.

Up to three arrays, each after the one before it: stores of features (``--embed``), the cells, the CSV of all. A job may
be requeued at any moment, after preemption, the death of its node or at its time limit: what it runs goes on from its
checkpoint. The job of a node that Slurm takes for dead may live on: then the requeued one waits for its lock, and goes
on or finds the cell finished. What is done is read from the run folders, what is still queued from ``squeue``; nothing
is asked of ``sacct``, and submitit's own word on a job is not used.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidlib.basics.errors import UserError
from vidlib.basics.lock import Lock
from vidlib.basics.words import suggest
from vidlib.cli import run as running
from vidlib.cli import sweep as sweeping
from vidlib.params.few_shot import RunParams
from vidlib.params.notebooks import request, settings

NAME = "vidlib"  # of every job
WAIT_SECONDS = 10.0  # between two looks at a lock that another process holds
ENDING_SECONDS = 600.0  # what Slurm gives at most to a job that it has told to end
TIMES = 20  # how often a cell may reach its time limit and go on
SHORTEST = 5  # minutes; Slurm warns a job 90 s before its end
OTHER = "are another process's work still"  # of vidlib data embed
# Words of submitit's and shorter ones -> sbatch's.
SHORT = {"cpus": "cpus_per_task", "gpus": "gpus_per_node", "timeout_min": "time", "mem_gb": "mem"}
OURS = {"array", "chdir", "dependency", "error", "help", "input", "job_name", "kill_on_invalid_dep", "no_kill"}
OURS |= {"no_requeue", "ntasks", "ntasks_per_node", "open_mode", "output", "parsable", "requeue", "signal", "usage"}
OURS |= {"version", "wait", "wrap"}
COUNTS = {"time": SHORTEST, "array_parallelism": 1, "nodes": 1}


# ---------------------------------------------------------------- what a job does


class _Again:
    """A job that may begin again as it is; submitit asks for that where its time ends."""

    def checkpoint(self) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


@dataclass(frozen=True)
class CellJob(_Again):
    """One cell: what ``vidlib run`` does, after whoever else is at it."""

    recipe: str
    changes: Mapping[str, Any]
    notebook: str

    def __call__(self) -> None:
        asked = request(self.recipe, self.changes, self.notebook)
        lock = Lock(running.executed(asked).with_suffix(".lock"))
        told = False
        while not running.finished(asked):
            if holder := lock.holder():
                print(end="" if told else f"waiting for {holder}\n", flush=True)
                told = True
                time.sleep(WAIT_SECONDS)
                continue
            running.note(asked, "")
            code, last = _do("run", *asked.arguments)
            if code == 0:
                print("the cell is finished", flush=True)
                return
            if sweeping.BUSY in last:  # it, or a run that it shares with another cell
                home = re.search(f"run folder (.+?) {sweeping.BUSY}", last)
                time.sleep(WAIT_SECONDS)
                while home and Lock(Path(home[1], "lock.json")).holder():
                    time.sleep(WAIT_SECONDS)
                continue
            running.note(asked, sweeping.killed(code) or last or f"it ended with code {code}")
            sys.exit(1)
        print("the cell was finished already", flush=True)


@dataclass(frozen=True)
class StoreJob(_Again):
    """One store of features: ``vidlib`` with ``words``, until no other process has a part of it."""

    words: Sequence[str]

    def __call__(self) -> None:
        while OTHER in (done := _do(*self.words))[1]:
            time.sleep(WAIT_SECONDS)
        sys.exit(done[0])


@dataclass(frozen=True)
class TableJob(_Again):
    """The CSV of all cells, as they are then; the arguments of ``sweep.cells``."""

    recipe: str
    axes: Mapping[str, Sequence[str]]
    changes: Mapping[str, str]
    notebook: str

    def __call__(self) -> None:
        from vidlib.cli import sweep_status

        found = sweeping.cells(self.recipe, self.axes, self.changes, self.notebook)
        print(*sweep_status.lines(found), sep="\n", flush=True)
        sweeping.write(found, sweeping.summary_file(found))


def _do(*words: str) -> tuple[int, str]:
    """``vidlib`` with ``words`` in a process of its own, printing as it goes: its exit code, and the last line."""
    environment = {name: value for name, value in os.environ.items() if name != "JPY_SESSION_NAME"}
    environment["PYTHONUNBUFFERED"] = "1"  # its last line is to be what it said last
    cores = environment.get("SLURM_CPUS_PER_TASK") or environment.get("SLURM_CPUS_ON_NODE")
    if cores:
        environment.setdefault("OMP_NUM_THREADS", cores)
    settings = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    command = [sys.executable, "-m", "vidlib.cli", *words]
    process = subprocess.Popen(command, env=environment, text=True, errors="replace", **settings)
    last = ""
    for line in process.stdout:
        print(line, end="", flush=True)
        last = line.strip() or last
    if (code := process.wait()) in (-signal.SIGTERM, -signal.SIGUSR2):
        time.sleep(ENDING_SECONDS)  # Slurm ends us: a job that ended by itself now would not be requeued
    return code, last


# ---------------------------------------------------------------- handing over


def parameters(pairs: Sequence[str]) -> dict[str, Any]:
    """``["partition=p", "time=60"]`` by sbatch's own words, checked against those; ``time`` in minutes."""
    _submitit()
    known = sorted({*_words(), *SHORT, "array_parallelism"} - OURS)
    given: dict[str, Any] = {}
    for name, value in settings(list(pairs)).items():
        word = name.removeprefix("slurm_").replace("-", "_")
        value = f"{value}G" if word == "mem_gb" else value
        word = SHORT.get(word, word)
        if word in OURS:
            raise UserError(f"slurm: {name} is set by the sweep itself; leave it out")
        if word not in known:
            raise UserError(f"slurm: sbatch has no '{name}': {suggest(word, known, 'sbatch --help lists what it has')}")
        if word in given:
            raise UserError(f"slurm: {name} is given twice")
        if word in COUNTS and not (value.isascii() and value.isdigit() and int(value) >= COUNTS[word]):
            unit = " of minutes" if word == "time" else ""
            raise UserError(f"slurm: {name}: '{value}' is not a whole number{unit} of at least {COUNTS[word]}")
        given[word] = int(value) if word in COUNTS else True if value.lower() == "true" else value
    if "time" not in given:
        raise UserError("slurm: time is missing: how many minutes a cell may take at once, as in time=240")
    if given.pop("nodes", 1) > 1:
        raise UserError("slurm: nodes: a cell runs on one node; give it several devices of that with devices=N")
    return given


def _submitit() -> Any:
    try:
        import submitit
    except ImportError:
        raise UserError("slurm: submitit is missing: pip install submitit") from None
    if shutil.which("sbatch") is None:
        raise UserError("slurm: sbatch is not on PATH: give this command on a login node of the cluster")
    return submitit


def _ask(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"slurm: {command[0]} does not answer: {why}")
    return done.stdout


def _words() -> set[str]:
    """The long options of this sbatch."""
    found = re.findall(r"^ +(?:-\w,? +)?--([a-z][a-z-]+)", _ask("sbatch", "--help"), re.MULTILINE)
    return {word.replace("-", "_") for word in found}


def stores(found: Sequence[sweeping.Cell], views: int) -> list[list[str]]:
    """What makes the stores of features that the cells would read and that are not there, as words behind vidlib."""
    from vidlib import methods
    from vidlib.training import stored

    commands: dict[str, None] = {}
    for params in (params for cell in found for params in running.main_runs(cell.request)):
        if isinstance(params, RunParams) and params.features == "auto" and not methods.reads_frames(params):
            there = stored.find(params, running.work_of(params).manifest)
            if there is None or there.store.views < views:
                commands[stored.command(params, views)] = None
    return [shlex.split(command)[1:] for command in commands]


def submit(
    found: Sequence[sweeping.Cell], table: TableJob, given: Mapping[str, Any], views: int | None
) -> Iterator[str]:
    """Hand over the cells that wait and are not queued yet, the stores before and the CSV after them; in lines."""
    waiting = [cell for cell in found if cell.state == "waiting"]
    if any(getattr(cell.request.params, "fresh", False) for cell in waiting):
        raise UserError("fresh: a requeued job cannot tell its own result from the one to repeat; leave out --slurm")
    active = set(_ask("squeue", "--noheader", "--array", f"--name={NAME}", "--format=%i").split()) if waiting else set()
    todo = [cell for cell in waiting if _job(cell) not in active]
    yield (
        f"{len(found)} cells, {len(found) - len(waiting)} of them finished and skipped, {len(waiting) - len(todo)} "
        "queued or running"
    )
    if not todo:
        return
    csv = sweeping.summary_file(found)
    folder, before = csv.with_suffix(".slurm"), ""
    if views is not None and (wanted := stores(todo, views)):
        before = _array([StoreJob(words) for words in wanted], given, folder)[0]
        yield f"job {_first(before)}: {len(wanted)} stores of features"
    asked = [cell.request for cell in todo]
    jobs = [CellJob(one.recipe, dict(one.changes), one.notebook if one.chosen else "") for one in asked]
    after = {"dependency": f"afterok:{_first(before)}", "kill_on_invalid_dep": "yes"} if before else {}
    ids = _array(jobs, given | after, folder)  # not without its store, which would be another run
    for cell, number in zip(todo, ids, strict=True):
        running.note(cell.request, "")
        running.executed(cell.request).with_suffix(".job").write_text(number + "\n")
    yield f"job {_first(ids[0])}: {len(todo)} cells; each prints into {folder}"
    sweeping.write(found, csv)
    small = {word: value for word, value in given.items() if not re.match("gpus|gres|cpus_per_gpu|mem_per_gpu", word)}
    last = _array([table], small | {"dependency": f"afterany:{_first(ids[0])}"}, folder)[0]
    yield f"job {last}: the table of all cells, written when they have ended -> {csv}"
    yield "the same command with --status tells how far they are; without it, it submits what has failed"


def _job(cell: sweeping.Cell) -> str:
    """The job that the cell was last submitted as."""
    file = running.executed(cell.request).with_suffix(".job")
    return file.read_text().strip() if file.is_file() else ""


def _first(job: str) -> str:
    return job.partition("_")[0]


def _array(jobs: Sequence[Any], given: Mapping[str, Any], folder: Path) -> list[str]:
    """Hand over one array; Slurm's number of each job."""
    submitit = _submitit()
    executor = submitit.SlurmExecutor(folder, max_num_timeout=TIMES)
    more = {word: value for word, value in given.items() if word not in ("time", "array_parallelism")}
    own = {"job_name": NAME, "time": given["time"], "additional_parameters": more | {"requeue": True}}
    own |= {"array_parallelism": given["array_parallelism"]} if "array_parallelism" in given else {}
    if cores := given.get("cpus_per_task"):  # since Slurm 22.05 a step does not inherit it
        own["srun_args"] = [f"--cpus-per-task={cores}"]
    executor.update_parameters(**own)
    try:
        return [job.job_id for job in executor.submit_array(list(jobs))]
    except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
        raise UserError(f"slurm: not submitted: {str(error).strip().splitlines()[-1]}") from None
