"""Shortcuts: the tool finds the one that works, stays near chance elsewhere, and asks what methods are asked."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tests.data.small import write_pictures
from tests.tiny import manifest
from vidlib import cli, methods
from vidlib.basics.errors import UserError
from vidlib.data.disk.packets import packets
from vidlib.params.few_shot import RunParams
from vidlib.studies import shortcuts, traces
from vidlib.training import few_shot
from vidlib.training.evaluate_episodes import evaluate

CLIPS, SIZE = 6, 32
SPLITS = {"train": ("a", "b"), "val": ("c", "d"), "test": ("e", "f")}
FLAT = np.ones((SIZE, SIZE, 3))
SMALL = {"way": 2, "episodes": 200}


def world(root: Path, clip: Callable[[int, int], list[np.ndarray]]) -> str:
    """A folder of six classes; ``clip(class, number)`` gives the pictures, and what it draws by number alone is the
    same in every class, so that it tells none."""
    for c, name in enumerate("abcdef"):
        for i in range(CLIPS):
            write_pictures(root / name / f"{i}.mp4", clip(c, i))
    lines = (f"{split}: [{', '.join(names)}]" for split, names in SPLITS.items())
    (root / "splits.yaml").write_text("\n".join(lines))
    return f"folder:{root}"


def nuisance(i: int, frames: int) -> list[np.ndarray]:
    """Flat pictures of colours drawn for the clip's number."""
    return [FLAT * colour for colour in np.random.default_rng(i).integers(40, 216, (frames, 3))]


def by_length(c: int, i: int) -> list[np.ndarray]:
    return nuisance(i, 1) * (8, 32, 10, 40, 9, 36)[c]


def by_first_frame(c: int, i: int) -> list[np.ndarray]:
    first = [(250, 0, 0), (0, 0, 250), (0, 250, 0), (250, 250, 0), (250, 0, 250), (0, 250, 250)][c]
    return [FLAT * first, *nuisance(i, 7)]


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> Callable[..., pd.DataFrame]:
    """The table of a world made by ``clip``, accuracy by (shortcut, split); made once."""
    made: dict[str, str] = {}

    def table(clip: Callable[[int, int], list[np.ndarray]], **given) -> pd.DataFrame:
        name = clip.__name__
        if name not in made:
            made[name] = world(tmp_path_factory.mktemp(name), clip)
        return shortcuts.measure(made[name], **SMALL, **given)

    return table


def test_length_tells_and_nothing_else_does(measured):
    table = measured(by_length)
    accuracy = table.set_index(["shortcut", "split"])["accuracy"]
    assert accuracy[shortcuts.NAMES["file"], "test"] > 0.95 and accuracy[shortcuts.NAMES["file"], "val"] > 0.95
    for shortcut in (
        "frozen features, prototype",
        "frozen features, otam",
        "median picture over time",
        "best single frame",
    ):
        assert accuracy[shortcut, "test"] < 0.6, shortcut
    assert (table["chance"] == 0.5).all() and set(table["split"]) == {"val", "test"}
    assert ((table["low"] <= table["accuracy"]) & (table["accuracy"] <= table["high"])).all()
    assert table.loc[table["shortcut"].isin(shortcuts.NAMES.values()), "tower"].eq("").all()


def test_one_frame_tells_its_place_is_chosen_on_val_and_order_is_what_shuffling_takes(measured):
    table = measured(by_first_frame).set_index(["shortcut", "split"])
    assert table.loc[("best single frame", "test"), "accuracy"] > 0.95
    assert table.loc[("best single frame", "test"), "note"] == "frame 1 of 8, chosen on val"
    for shortcut in (shortcuts.NAMES["packets"], "median picture over time"):
        assert table.loc[(shortcut, "test"), "accuracy"] < 0.75, shortcut
    for name in ("frozen features, otam", *(f"ordered differences, {n} episodes" for n in shortcuts.TRAINED)):
        plain, mixed = table.loc[(name, "test")], table.loc[(f"{name}, frames shuffled", "test")]
        assert mixed["order"] == pytest.approx(plain["accuracy"] - mixed["accuracy"]) and np.isnan(plain["order"])
    only = measured(by_first_frame, splits=("test",))
    assert only["accuracy"].tolist() == table["accuracy"].xs("test", level="split").tolist()


def test_rows_of_ones_own_are_similarities_of_the_same_episodes(measured):
    own = few_shot.open_manifest(RunParams.parse({"dataset": measured(by_length).attrs["dataset"], "way": 2}))
    classes = [row.cls for row in own.videos("test")]
    same = torch.tensor([[float(a == b) for b in classes] for a in classes])
    table = measured(by_length, others={"oracle": {"test": same}, "contrary": {"test": -same}})
    accuracy = table.set_index(["shortcut", "split"])["accuracy"]
    assert accuracy["oracle", "test"] == 1 and accuracy["contrary", "test"] == 0
    assert ("oracle", "val") not in accuracy


def test_a_similarity_and_vectors_agree_and_shots_are_averaged():
    one = shortcuts.asked(manifest(), "test", 3, 1, 50)
    vectors = torch.randn(len(manifest().videos("test")), 5, generator=torch.Generator().manual_seed(0))
    by_vectors = one.by_vectors(vectors, euclidean=True)
    assert (one.by_similarity(-torch.cdist(vectors, vectors)).predicted == by_vectors.predicted).all()
    assert 0.2 < by_vectors.accuracy < 0.5 and by_vectors.checksum == one.checksum
    several = shortcuts.asked(manifest(), "test", 3, 4, 50)
    labels = torch.tensor([int(row.cls[-1]) for row in manifest().videos("test")])
    assert several.by_similarity((labels[:, None] == labels).float()).accuracy == 1


def test_frozen_features_are_those_of_the_frozen_method_on_the_episodes_that_methods_meet(tmp_path):
    dataset = world(tmp_path / "D", by_first_frame)
    given = {"dataset": dataset, "way": 2, "backbone": "clip-mini", "pretrained": "clip-mini", "method": "frozen_clip"}
    params = RunParams.parse(given)
    own, tower = few_shot.open_manifest(params), few_shot.open_backbone(params)
    split = few_shot.open_split(params, own, tower, "test")
    method = methods.build("frozen_clip", tower, frames=8, metric="bimhm")
    expected = evaluate(method, split.clips, split.sampler, 40, split.text, device="cpu")
    one = shortcuts.asked(own, "test", 2, 1, 40)
    result = one.by_metric("bimhm", traces.look(own, "test", one.rows, tower, 8).frames)
    assert result.checksum == expected.checksum and (result.predicted == expected.predicted).all()


def test_the_best_frame_is_chosen_on_val_and_without_one_that_is_said():
    one = shortcuts.asked(manifest(), "test", 3, 1, 20)
    labels = torch.tensor([int(row.cls[-1]) for row in manifest().videos("test")])
    good, bad = one.by_similarity((labels[:, None] == labels).float()), one.by_similarity(torch.zeros(30, 30))
    assert shortcuts._best_frame({"val": [bad, good], "test": [good, bad]}, "test") == (1, "chosen on val")
    assert shortcuts._best_frame({"test": [good, bad]}, "test") == (0, "chosen on test itself, for there is no val")


def test_a_shift_is_seen_as_one():
    noise = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    clip = np.stack([np.roll(noise, (2 * t, -3 * t), (0, 1)) for t in range(4)])
    difference, right, down, length = traces.motion_of(clip)[:-4].view(4, 3)
    assert right.tolist() == [-3] * 3 and down.tolist() == [2] * 3 and (difference > 10).all()
    assert torch.allclose(length, torch.tensor(13.0).sqrt()) and traces.motion_of(clip[[0, 0]]).eq(0).all()


def test_packets_are_those_of_the_file(tmp_path):
    path = write_pictures(tmp_path / "one.mp4", nuisance(0, 20))
    found = packets(path)
    assert len(found.sizes) == 20 and found.keys[0] and 0 < found.sizes.sum() < found.size == path.stat().st_size
    assert (found.seconds, found.rate, found.width, found.height, found.streams) == (2.0, 10.0, SIZE, SIZE, 1)
    facts, shares = traces.file_of(found)
    assert facts[0] == pytest.approx(np.log1p(found.size)) and facts[2] == pytest.approx(np.log(21))
    assert shares.sum() == pytest.approx(1) and shares[0] == pytest.approx(found.sizes[:2].sum() / found.sizes.sum())
    (tmp_path / "none.mp4").write_bytes(b"nothing")
    with pytest.raises(UserError, match="none.mp4 is not a video"):
        packets(tmp_path / "none.mp4")


def test_a_train_video_that_breaks_is_named_and_one_of_test_stops(tmp_path):
    dataset = world(tmp_path / "D", by_length)
    params = RunParams.parse({"dataset": dataset, "way": 2, "backbone": "clip-mini", "pretrained": "clip-mini"})
    own, tower = few_shot.open_manifest(params), few_shot.open_backbone(params)
    for name in "ae":
        (tmp_path / "D" / name / "2.mp4").write_bytes(b"broken since")
    found = traces.look(own, "train", range(12), tower, 8, may_fail=True)
    assert found.lost == ["a/2.mp4"] and found.read == [row for row in range(12) if row != 2]
    assert found.frames[2].eq(0).all() and not found.frames[3].eq(0).all()
    with pytest.raises(UserError, match="e/2.mp4 cannot be decoded .*mend the file"):
        traces.look(own, "test", range(12), tower, 8)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"frames": 2}, "give 3 or more"),
        ({"backbone": "ViT-B-16"}, "pretrained: ViT-B-16 has no weights of that name"),
        ({"splits": ("vla",)}, "split: vla of .* should be among train, val, test"),
        ({"way": 3}, "way: 3"),
    ],
)
def test_what_cannot_be_measured_is_said(tmp_path, given, words):
    with pytest.raises(UserError, match=words) as error:
        shortcuts.measure(world(tmp_path / "D", by_length), **{"way": 2, "episodes": 5} | given)
    assert "\n" not in str(error.value)


def test_the_command_prints_one_line_each_and_writes_the_table(tmp_path, capsys):
    dataset, file = world(tmp_path / "D", by_length), tmp_path / "out.csv"
    assert cli.main(["data", "shortcuts", dataset, "--way", "2", "--episodes", "40", "--csv", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["shortcut", "val", "test"] and lines[-1] == f"kept: {file}"
    table = pd.read_csv(file)
    assert {line.split("  ")[0] for line in lines[1:]} > set(table["shortcut"])
    assert any("2-way 1-shot, tower clip-mini: chance 50.0%; 40 episodes" in line for line in lines)


def test_a_wrong_name_is_one_sentence(capsys):
    assert cli.main(["data", "shortcuts", "moving_shapse"]) == 1
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and "did you mean 'moving_shapes'" in printed.err and not printed.out
