"""Progress for people and for logs: a bar where a person looks, one line every 30 s elsewhere.

A notebook that papermill runs has no reader yet, and its console has one: the lines go there, past the notebook, which
keeps a single one that is rewritten and ends with how long it took.
"""

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm.auto import tqdm

Item = TypeVar("Item")
SPARSE_SECONDS = 30.0  # an hour's log stays short
EARLY_SECONDS = 5.0  # what takes longer than that is told early how long
BUSY = 1.5  # times as many processes want to run as there are cores: each waits for a third of its time or longer
COUNTING = re.compile(r".+: \d+( of \d+)?(, about \d+ s left)?$")  # a line of ``track``
_said: set[str] = set()


def interactive() -> bool:
    """True in a person's JupyterLab notebook or terminal; papermill, nbval, CI and child processes are headless."""
    return "JPY_SESSION_NAME" in os.environ or sys.stderr.isatty()


def track(items: Iterable[Item], label: str, total: int | None = None, start: int = 0) -> Iterator[Item]:
    """Yield ``items`` unchanged while showing how far they are; ``start`` items count as done before."""
    if total is None and hasattr(items, "__len__"):
        total = start + len(items)
    if interactive():
        yield from tqdm(items, desc=label, total=total, initial=start, leave=False)
        return
    began = last = time.monotonic()
    done, show, first = start, None, 0.0
    for item in items:
        yield item
        done += 1
        now = time.monotonic()
        first = first or now  # the first item has the start-up in it, so it tells nothing of the others
        known = total and done - start > 1
        left = (total - done) * (now - first) / (done - start - 1) if known else 0.0
        early = show is None and now - began >= EARLY_SECONDS and left >= SPARSE_SECONDS
        if early or now - last >= SPARSE_SECONDS:
            last = now
            rest = f", about {left:.0f} s left" if known else ""
            show = show or shower()
            show(f"{label}: {done}{f' of {total}' if total else ''}{rest}", False)
            _say_why_slow()
    if show:
        show(f"{label}: {done}{f' of {total}' if total else ''} in {(time.monotonic() - began) / 60:.1f} min", True)


def shower() -> Callable[[str, bool], None]:
    """What shows one line after another, and whether it is the last: in a kernel on its console, in the notebook in one
    place; elsewhere all but the last are printed."""
    kernel = "ipykernel" in sys.modules and "IPython" in sys.modules and sys.modules["IPython"].get_ipython()
    if not kernel:
        return lambda line, last: None if last else print(line, flush=True)
    from IPython.display import display

    place = display({"text/plain": ""}, raw=True, display_id=True)
    _to_console("")  # papermill's bar has left the console's line unended

    def show(line: str, last: bool) -> None:
        place.update({"text/plain": line}, raw=True)
        _to_console(line)

    return show


def _to_console(line: str) -> None:
    """A line on the stderr that the kernel was started with: ipykernel keeps it, and takes what is printed itself."""
    console = getattr(sys.stderr, "_original_stdstream_copy", None)
    try:
        os.write(sys.__stderr__.fileno() if console is None else console, f"{line}\n".encode())
    except (OSError, ValueError, AttributeError):  # a kernel may have none
        pass


def say_once(sentence: str) -> None:
    """Print what a person should know, the first time in this process."""
    if sentence not in _said:
        _said.add(sentence)
        print(sentence, flush=True)


def cores() -> int:
    """How many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _say_why_slow() -> None:
    """Say once that others use the machine, where its load is well above its cores."""
    here = cores()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > BUSY * here and "busy" not in _said:
        _said.add("busy")
        line = f"this machine is busy, so this takes longer: {load:.1f} processes want its {here} cores"
        print(line, flush=True)
        if "ipykernel" in sys.modules:
            _to_console(line)
