"""What a folder must hold to be read as a store, and what is said of one that is damaged."""

import json

import pytest

from vidlib.basics.errors import UserError
from vidlib.data.features import Store, stores

HEAD = {
    "format": 1,
    "dataset": "motion",
    "prefetched": "",
    "tower": {"backbone": "clip-mini", "pretrained": "clip-mini", "weights": "0" * 64, "width": 2},
    "test": {"frames": 3},
    "train": {"views": 2},
    "dtype": "float32",
    "lists": {"train": {"checksum": "a", "videos": 70}, "test": {"checksum": "b", "videos": 5}},
}


def write(folder, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "head.json").write_text(json.dumps(HEAD | changes))
    return folder


def test_shapes_follow_from_the_head(tmp_path):
    store = Store(write(tmp_path / "s"))
    assert store.every() == ["train-0000", "train-0001", "test-0000"] == store.lacking()
    assert [store.shape(shard) for shard in store.every()] == [(64, 3, 3, 2), (6, 3, 3, 2), (5, 1, 3, 2)]
    assert store.bytes == 4 * (70 * 3 + 5) * 3 * 2
    assert "motion (train 70, test 5 videos), clip-mini clip-mini, 3 frames, 1 test view and 2 augmented" in store.words


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"dtype": "object"},
        {"lists": {"../x": {"checksum": "a", "videos": 1}}},
        {"lists": {"train": {"videos": 0}}},
        {"lists": []},
        {"tower": {}},
        {"train": None},
    ],
)
def test_a_head_that_is_none_of_ours_is_one_sentence(tmp_path, changes):
    with pytest.raises(UserError, match="is not of format 1, which is read here: delete it"):
        Store(write(tmp_path, **changes))


def test_damaged_folders_are_named_and_passed_over_in_a_list(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDLIB_DATA", str(tmp_path))
    with pytest.raises(UserError, match="is no store of features"):
        Store(tmp_path / "nothing")
    place = tmp_path / "features"
    write(place / "good")
    (write(place / "bad") / "head.json").write_text("{")
    write(place / ".part-x")
    assert [store.folder.name for store in stores()] == ["good"]
    with pytest.raises(UserError, match="head.json cannot be read .*: delete it"):
        Store(place / "bad")
    with pytest.raises(UserError, match="train-0000.npy is cut off or damaged"):
        Store(place / "good").array("train-0000")
