"""Several runs of a study: long trainings on a CPU beside each other, each in a process of one thread.

Two threads make one small training little faster (by a third here), two trainings make full use of two cores. What is
short, or not on a CPU, is done one after another in this process.
"""

import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from vidlib.basics.devices import pick_device
from vidlib.basics.errors import UserError
from vidlib.basics.progress import COUNTING, shower
from vidlib.results import runs
from vidlib.training import processes
from vidlib.training.run import AnyParams

LONG = 1000  # training videos: with fewer, a process of its own takes longer to begin than it saves


def run_all(module: ModuleType, wanted: Sequence[AnyParams], opened: Any = None) -> list[runs.Run]:
    """The finished runs of ``wanted``, in their order.

    ``module`` is ``few_shot`` or ``video_text``, ``opened`` what its ``run`` takes beside the parameters. The first
    UserError ends them all; what is done stays.
    """
    apart = [params for params in wanted if _long(module, params, opened)]
    if len(apart) < 2 or _cores() < 2 or processes.is_child():
        return [module.run(params, opened) for params in wanted]
    _run_apart(module, apart)
    return [module.recorded(params, opened) if params in apart else module.run(params, opened) for params in wanted]


def run_named(
    module: ModuleType, planned: Mapping[str, Sequence[AnyParams]], opened: Any = None
) -> dict[str, list[runs.Run]]:
    """``run_all`` of what is planned under each name."""
    done = iter(run_all(module, [params for each in planned.values() for params in each], opened))
    return {name: [next(done) for _ in each] for name, each in planned.items()}


def _long(module: ModuleType, params: AnyParams, opened: Any) -> bool:
    """Whether it trains long on a CPU, and has to be done."""
    if params.devices > 1 or pick_device(params.device) != "cpu" or module.videos(params, opened) < LONG:
        return False
    return params.fresh or module.recorded(params, opened) is None


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run_apart(module: ModuleType, wanted: Sequence[AnyParams]) -> None:
    """Each of ``wanted`` in a process, as many at a time as there are cores, passing on what they print."""
    print(f"{len(wanted)} trainings in processes of one thread, {min(_cores(), len(wanted))} at a time", flush=True)
    said: queue.Queue[tuple[int, str | None]] = queue.Queue()  # of a process a line; None at its end
    waiting, active = list(enumerate(wanted)), dict[int, subprocess.Popen]()
    counts: dict[int, str] = {}
    show = None
    with tempfile.TemporaryDirectory() as folder:
        try:
            while waiting or active:
                while waiting and len(active) < _cores():
                    number, params = waiting.pop(0)
                    active[number] = _start(module, params, Path(folder, str(number)))
                    threading.Thread(target=_read, args=(active[number], number, said), daemon=True).start()
                number, line = said.get()
                if line is None:
                    counts.pop(number, None)
                    _end(active.pop(number), wanted[number], Path(folder, str(number)))
                elif COUNTING.fullmatch(line):
                    counts[number] = line
                    show = show or shower()
                    show("; ".join(counts[each] for each in sorted(counts)), False)
                elif line:
                    print(line, flush=True)
        finally:
            for process in active.values():
                process.terminate()
            for process in active.values():
                process.wait()


def _start(module: ModuleType, params: AnyParams, place: Path) -> subprocess.Popen:
    place.mkdir()
    file = place / "params.json"
    file.write_text(params.model_dump_json())
    own = {name: value for name, value in os.environ.items() if name != "JPY_SESSION_NAME"}
    own |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-m", module.__name__, "--params", str(file), "--trouble", str(place / "trouble")]
    with open(place / "stderr", "w") as errors:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=own)


def _read(process: subprocess.Popen, number: int, said: queue.Queue) -> None:
    for line in process.stdout:
        said.put((number, line.strip()))
    process.wait()
    said.put((number, None))


def _end(process: subprocess.Popen, params: AnyParams, place: Path) -> None:
    """A UserError where a process did not end well: its own sentence, else its last words."""
    if process.returncode == 0:
        return
    if (place / "trouble").is_file():
        raise UserError((place / "trouble").read_text())
    print((place / "stderr").read_text()[-4000:])
    raise UserError(f"the process that trained {params.method} ended with code {process.returncode}, see above")
