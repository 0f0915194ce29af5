"""``python -m tests.data.disk.checking_child LINES FOLDER``: a check that is killed once its ledger has LINES lines."""

import os
import signal
import sys

from vidlib.data.catalogue import ledger
from vidlib.data.disk import checking

lines, folder = int(sys.argv[1]), sys.argv[2]
written = checking.row


def row(line: ledger.Line) -> str:
    global lines
    lines -= 1
    if lines < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return written(line)


checking.row = row
checking.check(f"folder:{folder}", workers=2)
