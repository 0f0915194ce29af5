"""Work for a pool's child processes: it hangs, crashes, fails or answers. Imports little, so that it starts at once."""

import os
import time

from vidlib.data.guard import beat


def work(number: int) -> int:
    if number == 1:
        time.sleep(3600)
    if number == 2:
        os.abort()
    if number == 3:
        raise ValueError("no")
    return 10 * number


def steps(number: int, seconds: float) -> int:
    """Work that goes on for ``number`` times ``seconds``, then hangs where ``number`` is odd."""
    for _ in range(number):
        time.sleep(seconds)
        beat()
    time.sleep(3600 * (number % 2))
    return number
