"""A lock file that keeps two owners of a run folder apart and outlives neither of them.

The file holds host, process, and when the process started, counted by the kernel from its boot so that no clock moves
it; a thread renews the file's date as a heartbeat. A lock is stale when its process is gone (same host) or its
heartbeat has stopped for ``SILENT`` seconds and is seen to stand still (another host, or another person's process,
which this one may not see), and is taken over. Who wakes up
and finds the lock another's renews and writes nothing more.
"""

import contextlib
import fcntl
import json
import os
import socket
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from vidlib.basics import paths
from vidlib.basics.errors import UserError

HEARTBEAT = 15.0  # seconds
SILENT = 300.0  # twenty missed heartbeats: another host's process is taken for dead
SINCE = datetime.now(UTC).isoformat(timespec="seconds")  # for people; the process began about then


def _me() -> dict:
    return {"host": _host(), "pid": os.getpid(), "started": _started(os.getpid()), "since": SINCE}


def _started(pid: int) -> str | None:
    """When a process started, counted from the boot: no clock moves it; None of one that is gone or runs no more."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # gone, or hidden from us
        if Path("/proc/self/stat").exists():
            return None
        import psutil  # a system without /proc

        return str(psutil.Process(pid).create_time()) if psutil.pid_exists(pid) else None
    return None if fields[0] in "ZX" else f"{boot} {fields[19]}"


def _host() -> str:
    """Host name and process-number space: two containers of one name do not see each other's processes."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return f"{socket.gethostname()} {space}".strip()


class Busy(UserError):
    """Another process holds the lock."""


class Lock:
    """``acquire`` or a ``UserError`` that names the other owner; ``release`` when done. A process may hold it twice.

    While it is held, whatever is written into its folder through ``basics.paths`` is first checked with ``check``.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        self._own: dict | None = None
        self._stop: threading.Event | None = None

    def acquire(self) -> "Lock":
        with paths.writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            silent = self._silent()
            with self._one_at_a_time():
                owner = self._owner()
                if owner is not None and not self._stale(owner, silent):
                    host = owner["host"].split(" ")[0]
                    raise Busy(
                        f"run folder {self.path.parent} is in use by process {owner['pid']} on {host} "
                        f"(heartbeat {self._age():.0f} s ago): wait for it, stop it, or delete {self.path.name} there "
                        "if that process is gone"
                    )
                paths.GUARDS.pop(self.path, None)  # of a lock that this process held before
                self._own = _me()
                with paths.atomic_write(self.path) as part:
                    part.write_text(json.dumps(self._own))
        paths.GUARDS[self.path] = self.check
        self._stop = threading.Event()
        threading.Thread(target=self._beat, args=(self._stop,), daemon=True).start()
        return self

    def holder(self) -> str:
        """Who holds it, in words; empty where nobody does, or only who is gone or silent. Nothing is taken over."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if owner := self._owner():
                age = self._age()
                if age <= SILENT if self._unseen(owner) else _started(owner["pid"]) == owner["started"]:
                    since = f"since {owner['since']}, " if isinstance(owner.get("since"), str) else ""
                    host = owner["host"].split(" ")[0]
                    return f"process {owner['pid']} on {host} ({since}heartbeat {max(0, age):.0f} s ago)"
        return ""

    def release(self) -> None:
        if self._stop is not None:
            self._stop.set()
            self._stop = None
            paths.GUARDS.pop(self.path, None)
            with contextlib.suppress(OSError, UserError), self._one_at_a_time():
                if self._owner() == self._own:
                    self.path.unlink(missing_ok=True)

    def check(self) -> None:
        """A ``UserError`` where the lock is this process's no more: nothing more is written into its folder."""
        owner = self._owner()
        if owner != self._own:
            by = f"process {owner['pid']} on {owner['host'].split(' ')[0]} took it over" if owner else "it was deleted"
            raise UserError(
                f"run folder {self.path.parent} is no longer this process's ({by}): nothing more is written there; "
                "start the same command again"
            )

    def _beat(self, stop: threading.Event) -> None:
        while not stop.wait(HEARTBEAT):
            with contextlib.suppress(OSError, UserError), self._one_at_a_time():
                if self._owner() == self._own:
                    os.utime(self.path)

    def _owner(self) -> dict | None:
        """What the lock file says; None where there is none; a ``UserError`` where no lock of ours could say so."""
        if not os.path.lexists(self.path):
            return None
        remedy = "delete it if nothing is running in that folder"
        try:
            owner = paths.read_json(self.path, remedy)
        except UserError:
            if not os.path.lexists(self.path):  # released while we looked
                return None
            raise
        kinds = {"host": str, "pid": int, "started": (str, int, float)}
        odd = any(not isinstance(owner.get(name), kind) for name, kind in kinds.items())
        if odd or isinstance(owner["pid"], bool) or not 0 < owner["pid"] < 1 << 31 or str(owner["started"])[:1] == "-":
            raise UserError(f"{self.path} is not a lock that vidlib wrote: {remedy}")
        return owner

    def _silent(self) -> dict | None:
        """An unseen owner whose heartbeat is old and stands still for longer than one: its clock is not asked."""
        owner = self._owner()
        if owner is None or not self._unseen(owner) or not self._old():
            return None
        with contextlib.suppress(FileNotFoundError):
            before = self.path.stat().st_mtime_ns
            time.sleep(1.2 * HEARTBEAT)
            if self.path.stat().st_mtime_ns == before:
                return owner
        return None

    def _stale(self, owner: dict, silent: dict | None) -> bool:
        if self._unseen(owner):
            return owner == silent and self._old()
        return owner == _me() or _started(owner["pid"]) != owner["started"]

    def _unseen(self, owner: dict) -> bool:
        """Whether its process cannot be asked for: on another host, or another person's, which this one may hide."""
        if owner["host"] != _host():
            return True
        with contextlib.suppress(FileNotFoundError):
            return _started(owner["pid"]) is None and self.path.stat().st_uid != os.geteuid() != 0
        return False

    def _old(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return self._age() > SILENT
        return False

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
