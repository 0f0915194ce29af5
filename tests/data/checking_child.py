"""``python -m tests.data.checking_child LINES FOLDER``: a check that is killed once its ledger has LINES lines."""

import os
import signal
import sys

from vidlib.data import checking

lines, folder = int(sys.argv[1]), sys.argv[2]
written = checking._row


def row(line: checking.Line) -> str:
    global lines
    lines -= 1
    if lines < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return written(line)


checking._row = row
checking.check(f"folder:{folder}", workers=2)
