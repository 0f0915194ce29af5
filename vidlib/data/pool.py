"""The same work on many files in several child processes, each of which can be stopped (``guard``)."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from vidlib.data.guard import Died, Guard, Late
from vidlib.data.manifest import in_words

_END = object()


def each(
    function: Callable[..., Any], items: Sequence[tuple], workers: int, timeout: float
) -> Iterator[tuple[int, Any]]:
    """``function(*item)`` for every item: (number of the item, what it returned or raised), as they are done.

    ``function`` is a module's own, its arguments picklable. ``timeout`` in seconds without a ``beat`` (``Late``); a
    process that dies is replaced (``Died``). At most two results a worker wait to be taken. Ends its
    processes when closed.
    """
    todo, taking, stop = iter(enumerate(items)), threading.Lock(), threading.Event()
    results: queue.Queue = queue.Queue(2 * workers)
    guards = [Guard() for _ in range(max(1, min(workers, len(items))))]

    def put(result: Any) -> None:
        while not stop.is_set():
            try:
                return results.put(result, timeout=0.2)
            except queue.Full:
                continue

    def work(guard: Guard) -> None:
        while not stop.is_set():
            with taking:
                number, item = next(todo, (None, ()))
            if number is None:
                break
            try:
                result = guard.call(function, *item, timeout=timeout)
            except Exception as error:
                result = error
            put((number, result))
        guard.stop()
        put(_END)

    threads = [threading.Thread(target=work, args=(guard,), daemon=True) for guard in guards]
    for thread in threads:
        thread.start()
    try:
        left = len(threads)
        while left:
            result = results.get()
            if result is _END:
                left -= 1
            else:
                yield result
    finally:
        stop.set()
        for guard in guards:
            guard.stop()  # an answer that is still awaited does not come
        for thread in threads:
            thread.join()
        for guard in guards:
            guard.stop()


def cause(error: Exception, path: Path) -> str:
    """What went wrong with a file, in words that leave its name out."""
    if isinstance(error, Late):
        return str(error)
    if isinstance(error, Died):
        return f"the decoder crashed while reading it ({error})"
    return in_words(error, path)
