"""The stored manifest: read as written, whole after a kill or on a full disk, and by one process at a time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.fake_disk import identity, lay, published
from vidlib.basics.errors import UserError
from vidlib.data.catalogue import benchmarks, store
from vidlib.data.disk.adding import add
from vidlib.data.manifest import Row

ROOT = Path(__file__).parents[3]


def _child(what: str, disk: Path, videos: int = 30) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.data.disk.adding_child", what, str(disk), str(videos)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=dict(os.environ))


def _disk(root: Path, videos: int = 30, part: slice = slice(None)) -> Path:
    lay(root, [f"{identity(row)}.avi" for row in published("ucf101", 3, videos).rows[part]])
    return root


def _stored(**changed: object) -> store.Stored:
    rows = (Row("a b/ü 手", "a b", "test"), Row("a/1", "a", "train"), Row("a/[2]", "a", "train"))
    files = {"a/1": "x/1.mp4", "a/[2]": "[2].AVI", "a b/ü 手": "ü\u2028手.mkv"}
    made = {"name": "hmdb51", "rows": rows, "files": files, "elsewhere": {"a/[2]": 1, "a b/ü 手": 1}, "family": "trx"}
    made["folders"] = ("/v/one", "/v/two: #x")
    return store.Stored(**{**made, "facts": {"videos": {"test": 1, "train": 2}}, **changed})


def test_what_is_written_is_read(data: Path) -> None:
    stored = _stored()
    path = store.write(stored)
    assert store.read("hmdb51") == stored and path == data / "hmdb51" / "manifest.tsv"
    lines = path.read_text().split("\n")
    assert lines[0] == "# format: 1" and "test\ta b\ta b/ü 手\t1\tü\u2028手.mkv" in lines
    root, files = stored.rooted()
    assert root == Path("/v") and files["a/1"] == "one/x/1.mp4" and files["a/[2]"] == "two: #x/[2].AVI"
    one = _stored(folders=("/v/one",), elsewhere={})
    assert one.rooted() == (Path("/v/one"), stored.files)


def test_there_is_none_at_first(data: Path) -> None:
    assert store.read("hmdb51") is None


@pytest.mark.parametrize("file", ["../out.mp4", "/etc/passwd", "a/../../x.mp4", ""])
def test_a_manifest_that_leads_outside_is_refused(file: str, data: Path) -> None:
    store.write(_stored(files={**_stored().files, "a/1": file}))
    with pytest.raises(UserError, match="not a file inside its folders") as error:
        store.read("hmdb51")
    assert file in str(error.value)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 3],
        lambda text: text[:-3],
        lambda text: text.replace("train\ta\t", "train ", 1),
        lambda text: text.replace("format: 1", "format: 9"),
        lambda text: text.replace("\t1\t", "\t7\t"),
        lambda text: text.replace("folders", "olders"),
        lambda text: "",
    ],
)
def test_a_damaged_manifest_is_named(damage, data: Path) -> None:
    path = store.write(_stored())
    path.write_text(damage(path.read_text()))
    with pytest.raises(UserError, match="manifest .*hmdb51/manifest.tsv"):
        store.read("hmdb51")


@pytest.mark.parametrize("how", ["kill", "full"])
def test_a_kill_and_a_full_disk_leave_the_old_manifest_whole(how: str, data: Path, tmp_path: Path) -> None:
    one, two = _disk(tmp_path / "one", part=slice(0, 100)), _disk(tmp_path / "two", part=slice(90, 270))
    add("ucf101", one, {"trx": published("ucf101", 3, 30)})
    before = store.place("ucf101").read_bytes()
    child = _child(how, two)
    said = child.communicate(timeout=120)[1]
    assert child.returncode == (-9 if how == "kill" else 1), said
    assert how == "kill" or "cannot be written: File too large; what was there before is unchanged" in said
    assert store.place("ucf101").read_bytes() == before and len(benchmarks.load("ucf101").rows) == 100
    added = add("ucf101", two, {"trx": published("ucf101", 3, 30)})  # the killed process's lock holds nobody up
    assert (added.before, added.new, len(benchmarks.load("ucf101").rows)) == (100, 170, 270)


def test_several_adds_at_once_lose_nothing(data: Path, tmp_path: Path) -> None:
    disks = [_disk(tmp_path / f"disk{i}", part=slice(i, None, 3)) for i in range(3)]
    children = [_child("add", disk) for disk in disks]
    for child in children:
        said = child.communicate(timeout=120)[1]
        assert child.returncode == 0, said
    assert len(benchmarks.load("ucf101").rows) == 270
    assert sorted(p.name for p in (data / "ucf101").iterdir()) == [
        "coverage.tsv", "left_out.tsv", "manifest.tsv", "missing.tsv",
    ]  # fmt: skip


def test_a_writer_that_does_not_finish_is_named(data: Path, tmp_path: Path) -> None:
    lock = tmp_path / "manifest.lock"
    code = (
        "import sys, time; from pathlib import Path; from vidlib.basics.lock import Lock\n"
        "Lock(Path(sys.argv[1])).acquire(); print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(lock)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"in use by process {holder.pid}"):
            with store.alone(lock, wait=0.3):
                pass
    finally:
        holder.kill()
        holder.wait()
    with store.alone(lock, wait=0.3):
        assert lock.exists()
    assert not lock.exists()
