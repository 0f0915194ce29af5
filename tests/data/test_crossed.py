"""Train and val of one data set, test of another, as one manifest."""

from pathlib import Path

import pytest

from vidlib.basics.errors import UserError
from vidlib.data.crossed import cross, shared_line
from vidlib.data.disk import auditing
from vidlib.data.manifest import Manifest, Row


def manifest(name: str, classes: dict[str, str], videos: int = 3, **more) -> Manifest:
    """``classes``: split -> the letters that name its classes, each with videos ``letter/0`` and so on."""
    rows = tuple(Row(f"{c}/{i}", c, split) for split, own in classes.items() for c in own for i in range(videos))
    return Manifest(name, rows, Path("/data") / name, {row.video: f"{row.video}.mp4" for row in rows}, **more)


FIRST = manifest("first", {"train": "abc", "val": "de", "test": "fg"}, directional=False)
LISTED = {"train": {"x": 4}, "test": {"f": 5, "b": 4, "y": 3}}
LOST = {"b/9": ("test", "b/9.mp4", "empty"), "x/9": ("train", "x/9.mp4", "empty")}
OTHER = manifest("other", {"train": "x", "test": "fby"}, listed=LISTED, left_out=LOST)


def test_what_is_trained_is_left_out_and_the_rest_keeps_its_names():
    made = cross(FIRST, OTHER, {"b"}, remove=True)
    assert {split: made.classes(split) for split in made.splits} == {
        "train": ("a", "b", "c"),
        "val": ("d", "e"),
        "test": ("f", "y"),
    }
    alone = manifest("other", {"test": "fy"})
    assert made.checksum("test") == alone.checksum("test"), "its episodes are those of other's own runs"
    assert [made.source(split) for split in made.splits] == ["first", "first", "other"] and made.overlap == ("b",)
    assert made.path(made.videos("test")[0]) == Path("/data/other/f/0.mp4") and not made.directional
    assert made.listed == {"test": {"f": 5, "y": 3}}
    assert FIRST.source("train") == "first" and made.name == "first to other"


def test_a_name_of_both_that_stays_is_marked():
    made = cross(FIRST, OTHER, {"b"}, remove=False)
    assert made.classes("test") == ("other:b", "other:f", "other:y") and made.text("other:b") == "b"
    assert made.listed["test"] == {"other:f": 5, "other:b": 4, "other:y": 3}
    assert made.left_out == {"other:b/9": LOST["b/9"]}
    assert shared_line(made, {"y/1"}, remove=False) == (
        "Trained and selected on first, tested on other; 1 of its classes and 1 of its other videos are in both and "
        "kept: b, y/1."
    )


def test_nothing_that_is_new_is_an_error():
    with pytest.raises(UserError, match="every test class of other is one that first trains or selects on"):
        cross(FIRST, OTHER, {"f", "b", "y"}, remove=True)


def test_a_class_of_another_name_is_met_by_a_published_id():
    """A video has one id in SSv2-Full and SSv2-Small; in a folder of one's own an id tells nothing."""
    full = Manifest("ssv2_full", (Row("Some class/77", "Some class", "val"),), Path("/a"), {})
    rows = (Row("Another/77", "Another", "test"), Row("some_class/78", "some_class", "test"), Row("z/1", "z", "test"))
    sides = [auditing.of_manifest(Manifest(name, rows, Path("/b"), {})) for name in ("ssv2_small", "folder:mine")]
    assert auditing.met(auditing.of_manifest(full), sides[0]) == {"Another", "some_class"}
    assert auditing.met(auditing.of_manifest(full), sides[1]) == {"some_class"}
