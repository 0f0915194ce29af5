"""Work ahead of a person: what the next turn of a control may need, computed while the kernel waits.

A piece runs in the kernel's own thread, between two of its messages, so that it never runs beside a cell or a turn.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator

from vidlib.basics.errors import UserError

PAUSE = 0.02  # seconds of work, and then of waiting, in which a message is answered; a piece that is begun is ended
LONGEST = 0.25  # seconds: after a piece that took longer nothing more is computed, for a person would have to wait


def nearest(value: int, offered: Iterable[int]) -> list[int]:
    """The other values that are offered, those near to ``value`` first, upwards before downwards."""
    return sorted((other for other in offered if other != value), key=lambda other: (abs(other - value), -other))


class Ahead:
    """One row of pieces of work; a new row takes the place of what is left of the old one.

    ``busy`` while there is a next piece.
    """

    def __init__(self) -> None:
        self._left: Iterator[Callable[[], object]] = iter(())
        self.busy = False

    def start(self, pieces: Iterable[Callable[[], object]]) -> None:
        """Begin with ``pieces`` as soon as the kernel waits; without a running event loop (a script) do nothing."""
        self._left = iter(pieces)
        self._book()

    def _book(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        if not self.busy:
            self.busy = True
            loop.call_later(PAUSE, self._step)

    def _step(self) -> None:
        self.busy = False
        began = time.perf_counter()
        for piece in self._left:  # as many as take no time, because they were done before
            try:
                piece()
            except UserError:
                pass  # said when a person comes to it
            if (spent := time.perf_counter() - began) > PAUSE:
                break
        else:
            return
        if spent < LONGEST:
            self._book()
