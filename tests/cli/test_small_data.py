"""A person's own few videos: what fits runs, what does not is said in one sentence before a kernel starts."""

from pathlib import Path

import pytest

from tests.data.small import write_folder
from vidlib.basics.errors import UserError
from vidlib.cli import run as running
from vidlib.params.notebooks import request
from vidlib.training import few_shot, video_text

FEWEST = {"backbone": "clip-mini", "frames": 2, "train_episodes": 1, "test_episodes": 2, "device": "cpu"}


def asked(root: Path, **values: object):
    return running.checked(request("few_shot", FEWEST | {"dataset": f"folder:{root}"} | values, ""))


def test_four_classes_of_four_videos_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDLIB_RUNS", str(tmp_path / "runs"))
    root = write_folder(tmp_path / "D", classes=4, clips=4)
    p = asked(root, way=2, shot=1, method="protonet", val_episodes=2, val_every=1).params.run_params()
    assert few_shot.run(p).result["test"]["episodes"] == 2


@pytest.mark.parametrize(
    "classes, clips, given, said",
    [
        (4, 3, {"way": 2}, "val_episodes: .* give val_episodes=0"),
        (4, 4, {"way": 2, "shot": 2}, "val_episodes: .* give val_episodes=0"),
        (4, 2, {"way": 2, "shot": 2, "val_episodes": 0}, "2 [+] 1 videos of a class.*as in shot=1 query=1"),
        (4, 1, {"way": 2, "val_episodes": 0}, "1 [+] 1 videos of a class.*add videos or remove it"),
        (7, 4, {"way": 5}, "way: 5 .* give at most 3"),
    ],
)
def test_what_does_not_fit_is_said_with_what_would(tmp_path: Path, classes, clips, given, said) -> None:
    root = write_folder(tmp_path / "D", classes=classes, clips=clips)
    with pytest.raises(UserError, match=said) as error:
        asked(root, **given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "classes, clips, given",
    [
        (4, 3, {"way": 2, "val_episodes": 0}),
        (4, 4, {"way": 2, "shot": 2, "val_episodes": 0}),
        (4, 2, {"way": 2, "val_episodes": 0}),
        (7, 4, {"way": 3}),
        (10, 4, {"way": 5}),
    ],
)
def test_what_was_said_to_fit_does(tmp_path: Path, classes, clips, given) -> None:
    p = asked(write_folder(tmp_path / "D", classes=classes, clips=clips), **given).params
    manifest = few_shot.open_manifest(p)
    for split in ("train", "val", "test"):
        assert few_shot.EpisodeSampler(manifest, split, p.way, p.shot, p.query, 0)[0]


@pytest.mark.parametrize("protocol", ["closed_set", "zero_shot", "base_to_novel"])
@pytest.mark.parametrize("clips", [3, 4])
def test_protocols_of_classes_divide_few_videos_and_never_choose_on_training_ones(tmp_path, protocol, clips) -> None:
    root = write_folder(tmp_path / "D", classes=4, clips=clips)
    p = asked_text(root, protocol=protocol).params
    manifest = video_text.open_plan(p).manifest
    files = {split: {manifest.path(row) for row in manifest.videos(split)} for split in manifest.splits}
    assert files["train"] and files["test"] and not files["train"] & files["test"]
    assert not any(files["train"] & own for split, own in files.items() if split != "train")


def asked_text(root: Path, **values: object):
    return running.checked(request("actionclip", {"dataset": f"folder:{root}", "device": "cpu"} | values, ""))
