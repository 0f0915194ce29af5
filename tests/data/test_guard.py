"""Calls in a child process: answered, kept for the next, cut off when late, survived when they crash."""

import multiprocessing
import os
import time

import numpy as np
import pytest

from tests.data.pool_work import steps
from vidlib.basics.errors import UserError
from vidlib.data.guard import TIMEOUT, VARIABLE, Died, Guard, Late, limit


@pytest.fixture(scope="module")
def guard():
    guard = Guard()
    yield guard
    guard.stop()


def test_answers_from_one_lasting_child(guard):
    first = guard.call(os.getpid, timeout=30)
    assert first != os.getpid()
    assert guard.call(os.getpid, timeout=30) == first


def test_arrays_come_back_writable(guard):
    array = guard.call(np.zeros, (2, 3), timeout=30)
    array[0, 0] = 1
    assert array.sum() == 1


def test_raises_what_the_function_raised(guard):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        guard.call(os.stat, "/nowhere", timeout=30)


def test_cuts_off_what_takes_too_long_and_goes_on(guard):
    guard.call(os.getpid, timeout=30)
    with pytest.raises(Late):
        guard.call(time.sleep, 3600, timeout=0.3)
    assert guard.call(len, "abc", timeout=30) == 3


def test_work_that_goes_on_is_not_cut_off_however_long_it_is(guard):
    guard.call(steps, 0, 0.0, timeout=30)  # the child imports it
    assert guard.call(steps, 60, 0.1, timeout=4.0) == 60  # 6 s
    with pytest.raises(Late, match="took longer than 1.5 s.*VIDLIB_VIDEO_TIMEOUT"):
        guard.call(steps, 3, 0.1, timeout=1.5)
    assert guard.call(len, "abc", timeout=30) == 3


def test_the_limit_can_be_set(guard, monkeypatch):
    monkeypatch.setenv(VARIABLE, "0.5")
    with pytest.raises(Late, match="took longer than 0.5 s"):
        guard.call(time.sleep, 60, timeout=TIMEOUT)
    assert limit(30.0) == 30.0, "a limit that was given counts"
    for wrong in ("soon", "-1", "nan", "inf"):
        monkeypatch.setenv(VARIABLE, wrong)
        with pytest.raises(UserError, match=f"VIDLIB_VIDEO_TIMEOUT is '{wrong}'; give seconds"):
            guard.call(len, "abc", timeout=TIMEOUT)


def test_survives_a_crash(guard):
    with pytest.raises(Died, match="exit status 7"):
        guard.call(os._exit, 7, timeout=30)
    assert guard.call(len, "abc", timeout=30) == 3


def test_prints_do_not_mix_with_answers(guard):
    assert guard.call(os.write, 1, b"noise", timeout=30) == 5
    assert guard.call(len, "abc", timeout=30) == 3


def _other(guard, queue):
    queue.put(guard.call(os.getpid, timeout=30))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
def test_a_forked_daemon_has_a_child_of_its_own(guard):
    mine = guard.call(os.getpid, timeout=30)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    worker = context.Process(target=_other, args=(guard, queue), daemon=True)  # as a DataLoader's worker
    worker.start()
    theirs = queue.get(timeout=60)
    worker.join()
    assert theirs != mine
    assert guard.call(os.getpid, timeout=30) == mine
