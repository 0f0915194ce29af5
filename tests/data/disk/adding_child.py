"""What a second process does to the manifest: ``python -m tests.data.disk.adding_child WHAT DISK VIDEOS``.

``add``: adds DISK, with a published list of VIDEOS per class. ``kill``: the same, but is killed (SIGKILL) while it
writes the manifest. ``full``: the same, but the disk takes no file over 4 KiB.
"""

import os
import resource
import signal
import sys

from tests.data.fake_disk import published
from vidlib.basics.errors import UserError
from vidlib.data.catalogue import store
from vidlib.data.disk.adding import add

what, disk, videos = sys.argv[1:]
if what == "full":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
if what == "kill":

    def killed(file: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    written = store.write

    def write(stored: store.Stored) -> None:
        os.fsync = killed  # the last step before the new file takes the old one's name
        written(stored)

    store.write = write
try:
    add("ucf101", disk, {"trx": published("ucf101", 3, int(videos))})
except UserError as error:
    sys.exit(str(error))
