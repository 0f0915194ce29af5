"""Runs in processes of their own, one of several by torchrun: never a fork of this one; an error comes back as one."""

import argparse
import contextlib
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from vidlib.basics.devices import agree, make_fabric, pick_device
from vidlib.basics.errors import UserError
from vidlib.basics.progress import COUNTING, cores, shower
from vidlib.params.base import Params

Found = TypeVar("Found")


def is_child() -> bool:
    """Whether torchrun started this process."""
    return torch.distributed.is_torchelastic_launched()


def run_apart(params: Params, module: str, devices: int) -> None:
    """Have torchrun run ``module`` with ``params`` in ``devices`` processes, which share the threads, passing on what
    they print."""
    if pick_device(params.device) == "cuda" and devices > torch.cuda.device_count():
        raise UserError(f"devices: {devices} are more than the {torch.cuda.device_count()} GPUs that are here")
    given = os.environ.get("OMP_NUM_THREADS", "")
    share = min(cores() // devices, int(given) if given.isdigit() else cores())
    by = ("torch.distributed.run", "--standalone", f"--nproc-per-node={devices}")
    run_each([params], module, 1, by, OMP_NUM_THREADS=str(max(1, share)))


def found(run: Found | None) -> Found:
    """What such a process has finished; a UserError where it is not there, since that process knew it by another id."""
    if run is None:
        raise UserError(
            "the run was finished under another id: vidlib's source or the data have changed since this process "
            "started; restart the kernel, and it is reused"
        )
    return run


def run_each(wanted: Sequence[Params], module: str, at_once: int, by: Sequence[str] = (), **environment: str) -> None:
    """``module``, by way of another one's words ``by``, with each of ``wanted``, ``at_once`` at a time in processes of
    their own, passing on what they print. The first that fails ends all, with the sentence of its UserError."""
    said: queue.Queue[tuple[int, str | None]] = queue.Queue()  # of a process a line; None at its end
    words = [*by, "-m", module] if by else [module]
    waiting, active, counts = list(range(len(wanted))), dict[int, subprocess.Popen](), dict[int, str]()
    show, began = None, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder, str(number)) for number in waiting]
        try:
            while waiting or active:
                while waiting and len(active) < at_once:
                    number = waiting.pop(0)
                    places[number].mkdir()
                    active[number] = _start(wanted[number], words, places[number], environment)
                    threading.Thread(target=_read, args=(active[number], number, said), daemon=True).start()
                number, line = said.get()
                if line is None:
                    counts.pop(number, None)
                    _end(active.pop(number), module, places[number])
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
    if show:
        show(f"{len(wanted)} run{'s' * (len(wanted) > 1)} in {(time.monotonic() - began) / 60:.1f} min", True)


def _start(params: Params, words: Sequence[str], place: Path, environment: Mapping[str, str]) -> subprocess.Popen:
    file = place / "params.json"
    file.write_text(params.model_dump_json())
    command = [sys.executable, "-m", *words, "--params", str(file), "--trouble", str(place / "trouble")]
    headless = {name: value for name, value in os.environ.items() if name != "JPY_SESSION_NAME"}
    with open(place / "stderr", "w") as errors:
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            errors="replace",
            env={**headless, **environment},
        )


def _read(process: subprocess.Popen, number: int, said: queue.Queue) -> None:
    for line in process.stdout:
        said.put((number, line.rstrip()))
    process.wait()
    said.put((number, None))


def _end(process: subprocess.Popen, module: str, place: Path) -> None:
    """A UserError where a process did not end well: its own sentence, else its last words are printed."""
    if process.returncode == 0:
        return
    if (place / "trouble").is_file():
        raise UserError((place / "trouble").read_text())
    print((place / "stderr").read_text(errors="replace")[-4000:])
    fault = place / "trouble.fault"
    why = fault.read_text() if fault.is_file() else f"code {process.returncode}"
    raise UserError(f"{module} in a process of its own ended with {why}, see above")


def main(kind: type[Params], open_work: Callable[[Any], Any], run: Callable[[Any], Any], about: str) -> None:
    """``torchrun -m MODULE --params FILE``: one run from a parameter file, in the processes that torchrun started, on
    one node or several; what one of them cannot open ends all."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--params", required=True, help="a recipe (YAML) or a run's params.json")
    parser.add_argument("--trouble", help="a file that takes the sentence of an error")
    given = parser.parse_args()
    try:
        params = kind.from_file(given.params)
        if is_child():  # its devices are those that torchrun was told
            run(agree(make_fabric(params.device, params.precision), lambda: open_work(params)))
        else:
            run(open_work(params))
    except UserError as error:
        if given.trouble:
            Path(given.trouble).write_text(str(error))
        sys.exit(str(error))
    except Exception as error:  # told apart from what follows from it in the other processes: the first one counts
        if given.trouble:
            with contextlib.suppress(FileExistsError), open(f"{given.trouble}.fault", "x") as fault:
                fault.write(f"{type(error).__name__}: {error}")
        raise
