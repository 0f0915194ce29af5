"""Call a function in a child process that can be stopped: decoders hang and crash, and no thread can be cut off.

The child is a plain subprocess: it needs no ``__main__`` guard, works in notebooks, under any start method and in
DataLoader workers (which may not start multiprocessing children). It stays for the next call, so a call costs two
messages over pipes; each process has its own, and it ends with that process.
"""

import atexit
import contextlib
import faulthandler
import importlib
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vidlib.basics.errors import UserError

TIMEOUT = 60.0  # seconds without a sign of work (``beat``), however long a file is; ``VARIABLE`` gives another number
VARIABLE = "VIDLIB_VIDEO_TIMEOUT"
BEAT, BEAT_SECONDS = "still at work", 1.0
START_SECONDS = 300.0  # importing takes long on a cold disk or a busy machine; a call's own time counts from ready
ORPHAN_SECONDS = 5.0  # the child ends itself this long after its call's limit, should its parent be gone


class Late(Exception):
    """Nothing came of the call for as long as it was given; its process was stopped. The words say so."""

    def __init__(self, seconds: float = TIMEOUT) -> None:
        more = f"no frame came in that time; {VARIABLE}=SECONDS gives a slow machine more"
        super().__init__(f"reading took longer than {seconds:g} s and was stopped: {more}")


class Died(Exception):
    """The process ended during the call, as a crashing decoder does."""


class Guard:
    """One child process for calls with a time limit; started at the first call and again after a stop."""

    def __init__(self) -> None:
        self._forget()
        atexit.register(self.stop)
        if hasattr(os, "register_at_fork"):  # a forked worker must not talk to its parent's child
            os.register_at_fork(after_in_child=self._forget)

    def call(self, function: Callable[..., Any], *args: Any, timeout: float) -> Any:
        """``function(*args)``, a module's own function with picklable arguments, in the child.

        ``timeout`` in seconds, counted anew whenever the function calls ``beat``. Raises ``Late``, ``Died``, or what
        the function raised.
        """
        timeout = limit(timeout)
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()
            reply = self._exchange((function.__module__, function.__qualname__, args, timeout), timeout)
        succeeded, value = reply
        if not succeeded:
            raise value
        return value

    def stop(self) -> int | None:
        """End the child, if there is one; its exit status."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.kill()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):  # what was not sent yet no longer matters
                pipe.close()
        return process.wait()

    def _start(self) -> None:
        self.stop()
        root = str(Path(__file__).resolve().parents[2])
        search = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", f"from {__name__} import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": search},
            start_new_session=True,  # an interrupt meant for this process is not the child's
        )
        self._exchange(None, START_SECONDS)

    def _exchange(self, request: Any, timeout: float) -> Any:
        process, late = self._process, threading.Event()

        def stop() -> None:
            late.set()
            process.kill()

        def started() -> threading.Timer:
            timer = threading.Timer(timeout, stop)
            timer.daemon = True
            timer.start()
            return timer

        timer = started()
        try:
            pickle.dump(request, process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
            process.stdin.flush()
            while (reply := pickle.load(process.stdout)) == BEAT:
                timer.cancel()
                timer = started()
            return reply
        except (EOFError, OSError, pickle.UnpicklingError):
            status = self.stop()
            raise (Late(timeout) if late.is_set() else Died(f"exit status {status}")) from None
        except BaseException:  # an interrupt between question and answer: the answer must not reach the next call
            self.stop()
            raise
        finally:
            timer.cancel()
            timer.join()

    def _forget(self) -> None:
        inherited = getattr(self, "_process", None)
        self._lock, self._process = threading.Lock(), None
        if inherited is not None:
            inherited.stdin.close()
            inherited.stdout.close()


def limit(timeout: float) -> float:
    """``timeout``, where it is the default what ``VARIABLE`` says; UserError where that is no number of seconds."""
    said = os.environ.get(VARIABLE, "")
    if timeout != TIMEOUT or not said:
        return timeout
    try:
        seconds = float(said)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < threading.TIMEOUT_MAX:
        raise UserError(f"{VARIABLE} is {said!r}; give seconds above 0, such as 300, or leave it unset")
    return seconds


_tell: Callable[[], None] | None = None  # in a child at work: how it says that it goes on


def beat() -> None:
    """Say that a long call goes on, so that its time counts anew; nothing where no guard waits."""
    if _tell is not None:
        _tell()


def serve() -> None:
    """The child's loop: answer pickled requests on stdin until it closes."""
    global _tell
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the replies
    with open(os.devnull, "w") as nowhere:
        while True:
            try:
                request = pickle.load(requests)
            except EOFError:
                return
            reply: tuple[bool, Any] = (True, None)
            if request is not None:
                module, name, args, timeout = request
                last = -float("inf")

                def tell(timeout: float = timeout) -> None:
                    nonlocal last
                    if time.monotonic() - last > min(BEAT_SECONDS, timeout / 4):
                        last = time.monotonic()
                        faulthandler.dump_traceback_later(timeout + ORPHAN_SECONDS, exit=True, file=nowhere)
                        pickle.dump(BEAT, replies, protocol=pickle.HIGHEST_PROTOCOL)
                        replies.flush()

                faulthandler.dump_traceback_later(timeout + ORPHAN_SECONDS, exit=True, file=nowhere)
                _tell = tell
                try:
                    reply = (True, getattr(importlib.import_module(module), name)(*args))
                except Exception as error:
                    reply = (False, error)
                _tell = None
                faulthandler.cancel_dump_traceback_later()
            pickle.dump(reply, replies, protocol=pickle.HIGHEST_PROTOCOL)
            replies.flush()
