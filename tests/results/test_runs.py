"""Run folders: what the id depends on, who owns a folder, what becomes of finished, interrupted and repeated runs."""

import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vidlib.basics import digests, lock
from vidlib.basics.errors import UserError
from vidlib.results import runs
from vidlib.results.identity import Identity

HOW = {"method": "ma_fsar", "lr": 1e-3, "seed": 0}


def named(root, values=HOW, **contents) -> Identity:
    return Identity("ma_fsar", values, contents, {**values, "device": "cpu"}, str(root))


def opened(root, values=HOW, fresh=False, say=lambda line: None):
    return runs.open_run(named(root, values), fresh=fresh, say=say)


def test_id_depends_on_what_determines_the_result(tmp_path):
    one = named(tmp_path).id
    assert one == Identity("ma_fsar", dict(reversed(HOW.items())), {}, {"device": "cuda"}, "elsewhere").id
    assert one.startswith("ma_fsar-") and opened(tmp_path).id == one
    others = [named(tmp_path, HOW | {"lr": 2e-3}), named(tmp_path, test="abc"), named(tmp_path, test="abd")]
    assert len({one, *(other.id for other in others)}) == 4


def test_digests_follow_content_not_place(tmp_path):
    for name in "ab":
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "x.bin").write_bytes(bytes(200_000))
        (tmp_path / name / "m.py").write_text("x = 1\n")
    assert digests.folder_digest(tmp_path / "a") == digests.folder_digest(tmp_path / "b")
    assert digests.package_digest(tmp_path / "a") == digests.package_digest(tmp_path / "b")
    assert digests.file_digest(tmp_path / "a/m.py") == digests.file_digest(tmp_path / "b/m.py")
    (tmp_path / "b/m.py").write_text("x = 2\n")
    digests.package_digest.cache_clear()
    assert digests.package_digest(tmp_path / "a") != digests.package_digest(tmp_path / "b")
    with open(tmp_path / "b/deep/x.bin", "r+b") as file:
        file.seek(-5, os.SEEK_END)
        file.write(b"y")
    (tmp_path / "b/m.py").write_text("x = 1\n")
    assert digests.folder_digest(tmp_path / "a") != digests.folder_digest(tmp_path / "b")


def test_new_interrupted_finished_reused(tmp_path):
    said = []
    with opened(tmp_path, say=said.append) as run:
        assert run.state == "new"
        runs.append_line(run.path("metrics.jsonl"), {"step": 1, "loss": 0.5})
        run.count_reading("val", "selection at step 1")
        run.path(".part-left.json").write_text("half")
        with pytest.raises(UserError, match="interrupted|new"):
            run.result  # noqa: B018
    with opened(tmp_path, say=said.append) as run:
        assert run.state == "interrupted" and "goes on" in said[-1] and not run.path(".part-left.json").exists()
        run.count_reading("test", "final table")
        run.count_reading("test", "frames shuffled")
        run.finish({"test": {"accuracy": 0.5}})
        assert run.state == "finished"
    again = opened(tmp_path, say=said.append)
    assert again.state == "finished" and again.result["test"] == {"accuracy": 0.5}
    assert again.result["finished"][:16] in said[-1] and "fresh" in said[-1]
    assert again.readings() == {"val": 1, "test": 2} and list(again.metrics()["loss"]) == [0.5]
    assert again.params == HOW | {"device": "cpu"}


def test_other_versions_are_said_where_a_run_is_reused(tmp_path):
    run, said = opened(tmp_path).finish({}), []
    opened(tmp_path, say=said.append)
    assert " with " not in said[-1]
    then = run.environment
    then["versions"] |= {"torch": "1.0", "numpy": "0.9"}
    runs.write_json(run.path("environment.json"), then)
    assert opened(tmp_path, say=said.append).state == "finished", "compared, not hashed"
    assert f"with torch 1.0 (here {runs.versions(['torch'])['torch']}) and is reused" in said[-1]


def test_runs_of_an_older_identity_are_read_and_told_apart(tmp_path):
    old = tmp_path / "ma_fsar-0123456789abcdef"
    old.mkdir()
    runs.write_json(old / "params.json", HOW)
    runs.write_json(old / "environment.json", {"digests": {"vidlib": "abc"}, "versions": {}})
    runs.write_json(old / "result.json", {"test": {"accuracy": 0.3}, "finished": "2026-01-01T00:00:00+00:00"})
    opened(tmp_path).finish({"test": {"accuracy": 0.4}})
    table = runs.load_all(tmp_path).set_index("identity")
    assert table["result.test.accuracy"].to_dict() == {1: 0.3, 2: 0.4}


def test_fresh_repeats_and_keeps_the_old_record(tmp_path):
    opened(tmp_path).finish({"accuracy": 0.1})
    first = opened(tmp_path, fresh=True)
    assert first.state == "new" and opened(tmp_path).result["accuracy"] == 0.1
    first.close()
    second = opened(tmp_path, fresh=True)
    assert second.state == "interrupted" and second.folder == first.folder
    second.finish({"accuracy": 0.2})
    assert opened(tmp_path).result["accuracy"] == 0.2
    assert second.path("result.json").is_file() and second.folder == second.home
    kept = [p for p in tmp_path.iterdir() if p.name != second.id]
    assert [json.loads((p / "result.json").read_text())["accuracy"] for p in kept] == [0.1]
    assert list(runs.load_all(tmp_path)["result.accuracy"]) == [0.2]


def test_a_repetition_killed_before_the_exchange_is_put_in_place(tmp_path):
    old = opened(tmp_path).finish({"accuracy": 0.1})
    fresh = opened(tmp_path, fresh=True)
    runs.write_json(fresh.path("result.json"), {"accuracy": 0.2, "finished": "2026-01-01T00:00:00+00:00"})
    fresh.close()
    assert opened(tmp_path).result["accuracy"] == 0.2
    assert old.home.is_dir() and not fresh.folder.exists()


def hold(root: str, ready, seconds: float = 60) -> None:
    opened(Path(root))
    ready.set()
    time.sleep(seconds)


def test_two_owners_are_kept_apart_and_a_dead_one_is_not_in_the_way(tmp_path):
    start = multiprocessing.get_context("fork")
    ready = start.Event()
    owner = start.Process(target=hold, args=(str(tmp_path), ready))
    owner.start()
    assert ready.wait(120)
    with pytest.raises(UserError, match=rf"in use by process {owner.pid} on .*heartbeat"):
        opened(tmp_path)
    opened(tmp_path, HOW | {"seed": 1}).close()
    owner.kill()
    owner.join()
    run = opened(tmp_path)
    assert run.state == "interrupted"
    run.close()
    assert not run.path("lock.json").exists()


def test_a_run_that_another_process_finished_meanwhile_is_reused(tmp_path, monkeypatch):
    own, said = lock.Lock.acquire, []

    def late(self):
        monkeypatch.setattr(lock.Lock, "acquire", own)
        opened(tmp_path).finish({"accuracy": 0.5})
        return self.acquire()

    monkeypatch.setattr(lock.Lock, "acquire", late)
    run = opened(tmp_path, say=said.append)
    assert run.state == "finished" and run.result["accuracy"] == 0.5 and "is reused" in said[0]
    assert not run.path("lock.json").exists()


def test_locks_of_other_hosts_and_reused_numbers(tmp_path, monkeypatch):
    path = tmp_path / "lock.json"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": 0}))
    with pytest.raises(UserError, match="process 1 on elsewhere"):
        lock.Lock(path).acquire()
    monkeypatch.setattr(lock, "HEARTBEAT", 0.02)
    long_ago = time.time() - 2 * lock.SILENT
    os.utime(path, (long_ago, long_ago))
    lock.Lock(path).acquire().release()
    path.write_text(json.dumps(lock._me() | {"pid": os.getppid(), "started": 1.0}))
    lock.Lock(path).acquire().release()
    assert not path.exists()


def test_heartbeat_renews_the_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "HEARTBEAT", 0.02)
    held = lock.Lock(tmp_path / "lock.json").acquire()
    os.utime(held.path, (1, 1))
    for _ in range(200):
        if held.path.stat().st_mtime > 1:
            break
        time.sleep(0.02)
    assert held.path.stat().st_mtime > 1
    held.release()


def test_one_of_many_wins_a_stale_lock(tmp_path):
    """Eight processes meet a dead owner's lock at once: exactly one takes it over."""
    (tmp_path / "lock.json").write_text(json.dumps(lock._me() | {"pid": 2**22 + 5, "started": 1.0}))
    start = multiprocessing.get_context("fork")
    wins, gate, done = start.Value("i", 0), start.Barrier(8), start.Barrier(8)

    def try_it():
        gate.wait()
        try:
            lock.Lock(tmp_path / "lock.json").acquire()
            with wins.get_lock():
                wins.value += 1
        except UserError:
            pass
        done.wait()  # the winner lives until all have tried
        os._exit(0)

    children = [start.Process(target=try_it) for _ in range(8)]
    for child in children:
        child.start()
    for child in children:
        child.join(300)
    assert wins.value == 1


def test_environment_names_no_user_and_no_place():
    found = runs.environment()
    text = json.dumps(found)
    assert found["versions"]["torch"] and found["threads"] >= 1 and len(found["host"]) == 12
    assert str(Path.home()) not in text and os.getcwd() not in text and sys.executable not in text
    host = subprocess.run(["uname", "-n"], capture_output=True, text=True).stdout.strip()
    assert host not in text


def test_lines_survive_a_cut_and_can_be_dropped(tmp_path):
    path = tmp_path / "m.jsonl"
    for step in range(5):
        runs.append_line(path, {"step": step})
    with open(path, "ab") as file:
        file.write(b'{"step": 5, "lo')
    assert [line["step"] for line in runs.read_lines(path)] == list(range(5))
    runs.keep_lines(path, lambda line: line["step"] < 3)
    assert path.read_text() == '{"step": 0}\n{"step": 1}\n{"step": 2}\n'


def test_load_all_is_one_row_per_finished_run(tmp_path):
    for seed in range(3):
        run = opened(tmp_path, HOW | {"seed": seed})
        run.count_reading("test", "final table")
        if seed < 2:
            run.finish({"test": {"accuracy": seed / 10, "per_class": {"a": 1.0}}})
    table = runs.load_all(tmp_path)
    assert sorted(table["seed"]) == [0, 1] and set(table["method"]) == {"ma_fsar"}
    assert dict(zip(table["seed"], table["result.test.accuracy"], strict=True)) == {0: 0.0, 1: 0.1}
    assert list(table["readings.test"]) == [1, 1] and list(table["result.test.per_class.a"]) == [1.0, 1.0]
    assert runs.load_all(tmp_path / "nothing").empty


@pytest.mark.parametrize("name", ["result.json", "environment.json", "params.json"])
@pytest.mark.parametrize("content", ["", "[]", "{", "null", "\0\0\0", '"text"', "[" * 100_000, "9" * 5000])
def test_a_damaged_file_of_a_run_is_a_sentence(tmp_path, name, content):
    run = opened(tmp_path)
    run.finish({"test": {"accuracy": 0.5}})
    run.path(name).write_text(content)
    with pytest.raises(
        UserError, match=rf"{name} cannot be read .*: put back a copy of it, or delete the run's folder"
    ):
        [opened(tmp_path), run.result, run.params, run.environment]


@pytest.mark.parametrize("content", ["", "[]", "{", "\0\0\0"])
def test_a_damaged_environment_of_an_interrupted_run_is_a_sentence(tmp_path, content):
    run = opened(tmp_path)
    run.close()
    run.path("environment.json").write_text(content)
    with pytest.raises(UserError, match="environment.json cannot be read .*: delete it, and the same command goes on"):
        opened(tmp_path)
    assert not run.path("lock.json").exists()
    run.path("environment.json").unlink()
    opened(tmp_path).close()


def test_runs_folders_that_cannot_be_are_sentences(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    where = r"lock.json cannot be written: .*; (a part of that path is a file: give another folder|give .*folder.*)"
    for root in (tmp_path / "file", tmp_path / "file" / "runs", "/proc/nowhere", tmp_path / ("long" * 100)):
        with pytest.raises(UserError, match=where):
            opened(root)
        assert runs.find(named(root)) is None
    monkeypatch.setattr(
        Path, "mkdir", lambda self, **_: (_ for _ in ()).throw(PermissionError(13, "denied", str(self)))
    )
    with pytest.raises(UserError, match="cannot be written: denied; give a folder that you may write to"):
        opened(tmp_path / "other")


@pytest.mark.parametrize("number, words", [(28, "free some space"), (30, "that can be written"), (5, "another folder")])
def test_a_disk_that_fails_is_a_sentence_with_the_path_and_what_to_do(tmp_path, monkeypatch, number, words):
    run = opened(tmp_path)

    def fails(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fails)
    for file, write in (
        ("result.json", lambda: run.finish({})),
        ("params.json", lambda: runs.write_json(run.path("params.json"), {})),
    ):
        with pytest.raises(UserError, match=rf"{run.folder / file} cannot be written: {os.strerror(number)}.*{words}"):
            write()
    assert run.state == "new" and not (run.folder / "result.json").exists() and run.params == HOW | {"device": "cpu"}
    os.symlink("/dev/full", run.path("readings.jsonl"))
    with pytest.raises(UserError, match=r"readings.jsonl cannot be written: No space left on device; free some space"):
        run.count_reading("test", "report")


BAD = {
    "[]": "it holds a list",
    "{}": "",
    '{"test": {"accuracy": "high"}}': "result.test.accuracy is 'high'",
    '{"test": {"accuracy": true}}': "is True",
    "\0": "it is damaged",
    '{"finished": [], "cost": 7, "coverage": 3, "fit": "yes"}': "",
}


@pytest.mark.parametrize("content", BAD)
def test_one_bad_record_is_named_and_the_others_are_listed(tmp_path, content):
    opened(tmp_path, HOW | {"seed": 1}).finish({"test": {"accuracy": 0.5}})
    bad = opened(tmp_path, HOW | {"seed": 2}).finish({})
    bad.path("result.json").write_text(content)
    table = runs.load_all(tmp_path)
    assert table["result.test.accuracy"].dropna().to_list() == [0.5]
    assert BAD[content] in str(table.attrs["unreadable"].get(bad.id, ""))
    assert bool(BAD[content]) == (bad.id in table.attrs["unreadable"])
