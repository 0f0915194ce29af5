"""A store in one file: what comes out is what went in; a changed, cut, strange or malicious file is one sentence."""

import hashlib
import json
import zipfile

import numpy as np
import pytest

from tests.training.small_store import folder, made
from vidlib.basics.errors import UserError
from vidlib.data import features
from vidlib.data.disk import sharing


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A store and its file."""
    root, patch = tmp_path_factory.mktemp("sharing"), pytest.MonkeyPatch()
    patch.setenv("VIDLIB_DATA", str(root / "data"))
    store = made(folder(root), views=1)
    file = sharing.export(sharing.find(store.folder.name), root / "clips.zip")
    patch.undo()
    return store, file


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    monkeypatch.setenv("VIDLIB_DATA", str(tmp_path / "other"))


def changed(file, target, change):
    """The archive again, its members (name -> bytes) changed and their checksums made right."""
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members.pop(sharing.SUMS)
    change(members)
    sums = {name: hashlib.sha256(value).hexdigest() for name, value in members.items()}
    with zipfile.ZipFile(target, "w") as archive:
        for name, value in ({sharing.SUMS: json.dumps(sums).encode()} | members).items():
            archive.writestr(name, value)
    return target


def test_a_store_goes_through_a_file(shared):
    store, file = shared
    found = sharing.take(file)
    assert found.folder == features.place() / "clips" and found.digest == store.digest
    assert [one.folder for one in features.stores()] == [found.folder]
    for video in store.index:
        assert np.array_equal(found.feature(video, 1), store.feature(video, 1))
    assert "/" not in json.dumps(found.head).replace("transforms", "").replace("folder:", ""), "no path goes along"
    with pytest.raises(UserError, match="clips is there already; delete it, or give another --out"):
        sharing.take(file)
    with pytest.raises(UserError, match="clips.zip is there already"):
        sharing.export(store, file)


def test_changed_and_cut_files_leave_nothing(shared, tmp_path):
    _, file = shared
    whole, wrong = file.read_bytes(), tmp_path / "wrong.zip"
    at = whole.index(b"NUMPY") + 3000
    for broken in (whole[: len(whole) // 2], whole[:-30], whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :], b"no"):
        wrong.write_bytes(broken)
        with pytest.raises(UserError, match="wrong.zip is cut off or changed .*: nothing of it was taken") as error:
            sharing.take(wrong)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="does not exist"):
        sharing.take(tmp_path / "none.zip")
    assert list(features.place().glob("*")) == []


@pytest.mark.parametrize("name", ["../evil.json", "/tmp/evil.json", "a/train-0000.npy", "run.py", "x.npy.py"])
def test_a_path_that_leaves_the_folder_is_refused(shared, tmp_path, name):
    def change(members):
        members[name] = b"{}"

    wrong = changed(shared[1], tmp_path / "wrong.zip", change)
    with pytest.raises(UserError, match=r"holds '.*', which is no file of a store: nothing of it was taken"):
        sharing.take(wrong)
    assert list(features.place().glob("*")) == [] and not (tmp_path / "evil.json").exists()


def test_what_would_run_something_is_not_read(shared, tmp_path):
    def pickled(members):
        import io

        made = io.BytesIO()
        np.save(made, np.array([print], dtype=object), allow_pickle=True)
        members["all-0000.npy"] = made.getvalue()

    def lists(members):
        head = json.loads(members["head.json"])
        head["lists"] = {"../../x": head["lists"]["all"]}
        members["head.json"] = json.dumps(head).encode()

    def fewer(members):
        members.pop("all-0000.json")

    for change in (pickled, lists, fewer):
        with pytest.raises(UserError, match="holds no whole store .*: nothing of it was taken"):
            sharing.take(changed(shared[1], tmp_path / "wrong.zip", change))
    assert list(features.place().glob("*")) == []


def test_a_store_that_is_not_whole_or_was_changed_is_not_exported(tmp_path, shared):
    sharing.take(shared[1], str(tmp_path / "mine"))
    shard = tmp_path / "mine" / "all-0000.npy"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(UserError, match="all-0000.npy is not what was written"):
        sharing.export(sharing.find(str(tmp_path / "mine")), tmp_path / "out.zip")
    shard.unlink()
    with pytest.raises(UserError, match="lacks 1 of its shards"):
        sharing.export(sharing.find(str(tmp_path / "mine")), tmp_path / "out.zip")
    with pytest.raises(UserError, match="is no store of features"):
        sharing.find(str(tmp_path / "nothing"))
    assert not (tmp_path / "out.zip").exists()
