"""Progress for people and for logs: a bar where a person looks, one line every 30 s elsewhere."""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm.auto import tqdm

Item = TypeVar("Item")
SPARSE_SECONDS = 30.0  # papermill stores every line that a cell prints: one each half minute keeps an hour's log short


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
    done = start
    for item in items:
        yield item
        done += 1
        now = time.monotonic()
        if now - last >= SPARSE_SECONDS:
            last = now
            rest = f", about {(total - done) * (now - began) / (done - start):.0f} s left" if total else ""
            print(f"{label}: {done}{f' of {total}' if total else ''}{rest}", flush=True)


_said: set[str] = set()


def say_once(sentence: str) -> None:
    """Print what a person should know of what was given, the first time in this process."""
    if sentence not in _said:
        _said.add(sentence)
        print(sentence, flush=True)
