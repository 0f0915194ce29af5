"""A lock file that keeps two owners of a run folder apart and outlives neither of them.

The file holds host, process and the process's start time; a thread renews its date as a heartbeat. A lock is stale when
its process is gone (same host) or its heartbeat has stopped for ``SILENT`` seconds (another host), and is taken over.
"""

import contextlib
import fcntl
import json
import os
import socket
import tempfile
import threading
from pathlib import Path

import psutil

from vidlib.basics.errors import UserError
from vidlib.basics.paths import atomic_write

HEARTBEAT = 15.0  # seconds
SILENT = 300.0  # twenty missed heartbeats: another host's process is taken for dead


def _me() -> dict:
    return {"host": _host(), "pid": os.getpid(), "started": psutil.Process().create_time()}


def _host() -> str:
    """Host name and process-number space: two containers of one name do not see each other's processes."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return f"{socket.gethostname()} {space}".strip()


class Lock:
    """``acquire`` or a ``UserError`` that names the other owner; ``release`` when done. A process may hold it twice."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self._stop: threading.Event | None = None

    def acquire(self) -> "Lock":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._one_at_a_time():
            owner = self._owner()
            if owner is not None and not self._stale(owner):
                host = str(owner.get("host")).split(" ")[0]
                raise UserError(
                    f"run folder {self.path.parent} is in use by process {owner.get('pid')} on {host} "
                    f"(heartbeat {self._age():.0f} s ago): wait for it, stop it, or delete {self.path.name} there "
                    "if that process is gone"
                )
            with atomic_write(self.path) as part:
                part.write_text(json.dumps(_me()))
        self._stop = threading.Event()
        threading.Thread(target=self._beat, args=(self._stop,), daemon=True).start()
        return self

    def release(self) -> None:
        if self._stop is not None:
            self._stop.set()
            self._stop = None
            if self._owner() == _me():
                self.path.unlink(missing_ok=True)

    def _beat(self, stop: threading.Event) -> None:
        while not stop.wait(HEARTBEAT):
            with contextlib.suppress(OSError):
                os.utime(self.path)

    def _owner(self) -> dict | None:
        try:
            return json.loads(self.path.read_text())
        except (FileNotFoundError, json.JSONDecodeError):  # written whole by a rename, so unreadable means not ours
            return None

    def _stale(self, owner: dict) -> bool:
        if owner.get("host") != _host():
            return self._age() > SILENT
        if owner == _me():
            return True
        try:
            return abs(psutil.Process(owner["pid"]).create_time() - owner["started"]) > 1  # the number was given anew
        except (psutil.NoSuchProcess, KeyError):
            return True

    def _age(self) -> float:
        """Seconds since the last heartbeat, by the file system's own clock."""
        with tempfile.NamedTemporaryFile(dir=self.path.parent) as now:
            return os.stat(now.name).st_mtime - self.path.stat().st_mtime

    @contextlib.contextmanager
    def _one_at_a_time(self):
        """Nobody else looks at the lock while we do; file systems that cannot lock a folder do without."""
        handle = os.open(self.path.parent, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)
