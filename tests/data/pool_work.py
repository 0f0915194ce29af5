"""Work for a pool's child processes: it hangs, crashes, fails or answers. Imports little, so that it starts at once."""

import os
import time


def work(number: int) -> int:
    if number == 1:
        time.sleep(60)
    if number == 2:
        os.abort()
    if number == 3:
        raise ValueError("no")
    return 10 * number
