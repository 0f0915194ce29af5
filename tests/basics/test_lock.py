"""Locks under clocks that step, owners that pause, and files that no lock wrote."""

import json
import multiprocessing
import os
import signal
import threading
import time

import psutil
import pytest

from vidlib.basics import lock, paths
from vidlib.basics.errors import UserError

START = multiprocessing.get_context("fork")
ELSEWHERE = {"host": "elsewhere", "pid": 7, "started": "another boot 1"}


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(lock, "HEARTBEAT", 0.02)


def hold(path, ready) -> None:
    lock.Lock(path).acquire()
    ready.set()
    time.sleep(60)


@pytest.fixture
def owner(tmp_path):
    """A process that holds the lock."""
    ready = START.Event()
    child = START.Process(target=hold, args=(tmp_path / "lock.json", ready))
    child.start()
    assert ready.wait(60)
    yield child
    os.kill(child.pid, signal.SIGCONT)
    child.kill()
    child.join()


@pytest.mark.parametrize("step", [-86400.0, -2.0, 2.0, 86400.0])
def test_a_clock_that_steps_takes_no_lock_of_the_living(owner, tmp_path, monkeypatch, step):
    told, now = psutil.Process.create_time, time.time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: told(self) + step)
    monkeypatch.setattr(time, "time", lambda: now() + step)
    path = tmp_path / "lock.json"
    os.utime(path, (now() - step, now() - step))
    with pytest.raises(UserError, match=f"in use by process {owner.pid}"):
        lock.Lock(path).acquire()


def test_a_process_that_pauses_keeps_its_lock(owner, tmp_path):
    os.kill(owner.pid, signal.SIGSTOP)
    path = tmp_path / "lock.json"
    os.utime(path, (1, 1))
    with pytest.raises(UserError, match=f"in use by process {owner.pid}"):
        lock.Lock(path).acquire()


def test_a_dead_process_that_nobody_buried_is_not_in_the_way(owner, tmp_path):
    os.kill(owner.pid, signal.SIGKILL)
    for _ in range(500):  # a zombie of ours until it is joined
        if lock._started(owner.pid) is None:
            break
        time.sleep(0.01)
    assert psutil.pid_exists(owner.pid)
    lock.Lock(tmp_path / "lock.json").acquire().release()


def test_another_persons_process_that_is_hidden_is_judged_by_its_heartbeat(owner, tmp_path, monkeypatch):
    path = tmp_path / "lock.json"
    real = lock._started
    monkeypatch.setattr(lock, "_started", lambda pid: real(pid) if pid == os.getpid() else None)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1 if path.exists() else 1)
    assert f"process {owner.pid}" in lock.Lock(path).holder()
    with pytest.raises(lock.Busy, match=f"in use by process {owner.pid}"):
        lock.Lock(path).acquire()
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid if path.exists() else 1)
    assert lock.Lock(path).holder() == "", "of one's own a process that is not there is gone"
    lock.Lock(path).acquire().release()


def test_another_host_that_beats_is_alive_whatever_its_clock_says(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "HEARTBEAT", 1.0)  # as long as a busy machine may keep the other from its beat
    path, stop = tmp_path / "lock.json", threading.Event()
    path.write_text(json.dumps(ELSEWHERE))

    def beat(date=1.0):
        while not stop.wait(0.002):
            os.utime(path, (date := date + 1, date))

    os.utime(path, (1, 1))
    beating = threading.Thread(target=beat)
    beating.start()
    try:
        with pytest.raises(UserError, match="in use by process 7 on elsewhere"):
            lock.Lock(path).acquire()
    finally:
        stop.set()
        beating.join()
    lock.Lock(path).acquire().release()


def test_who_lost_the_lock_renews_and_writes_nothing_more(tmp_path, quick):
    held = lock.Lock(tmp_path / "run" / "lock.json").acquire()
    file = tmp_path / "run" / "metrics.jsonl"
    paths.append(file, b"one\n")
    held.path.write_text(json.dumps(ELSEWHERE))  # it took over while we paused
    os.utime(held.path, (1, 1))
    lost = r"run folder .*run is no longer this process's \(process 7 on elsewhere took it over\): nothing more"
    with pytest.raises(UserError, match=lost):
        paths.append(file, b"two\n")
    with pytest.raises(UserError, match=lost), paths.atomic_write(file) as part:
        part.write_text("two\n")
    time.sleep(0.2)
    assert held.path.stat().st_mtime == 1 and file.read_bytes() == b"one\n"
    assert sorted(p.name for p in file.parent.iterdir()) == ["lock.json", "metrics.jsonl"]
    with paths.atomic_write(tmp_path / "elsewhere.txt") as part:
        part.write_text("other folders are nobody's")
    held.release()
    assert json.loads(held.path.read_text()) == ELSEWHERE, "another's lock stays"
    paths.append(file, b"free again\n")


def test_lost_while_a_file_is_being_written(tmp_path):
    held = lock.Lock(tmp_path / "lock.json").acquire()
    file = tmp_path / "state.bin"
    file.write_text("theirs")
    with pytest.raises(UserError, match="it was deleted"), paths.atomic_write(file) as part:
        part.write_text("ours")
        held.path.unlink()
    assert file.read_text() == "theirs"
    held.release()


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"[1, 2]", b'"text"', b"words", b"7", b"null", b"\x00\xff\xfe\x80", b"{", b"{}", b"[" * 100_000]
    + [json.dumps(ELSEWHERE | {"pid": pid}).encode() for pid in (-1, 0, True, "7", 1e9, 1 << 70)]
    + [json.dumps(ELSEWHERE | odd).encode() for odd in ({"host": 3}, {"started": -1}, {"started": []})]
    + [b'{"host": "a", "started": 1, "pid": ' + b"9" * 5000 + b"}"],
    ids=lambda content: repr(content[:30]),
)
def test_an_odd_lock_file_is_a_sentence(tmp_path, content):
    path = tmp_path / "lock.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"lock\.json .*: delete it if nothing is running in that folder"):
        lock.Lock(path).acquire()
    assert path.read_bytes() == content
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match=r"lock\.json .*: delete it if nothing is running in that folder"):
        lock.Lock(path).acquire()
