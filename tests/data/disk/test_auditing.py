"""Overlap between benchmarks: classes by name and by video, videos by id, and what is said of it."""

import os
from pathlib import Path

import pytest

from tests.data.small_lists import videos, write_clip_fsar, write_trx
from vidlib.basics.errors import UserError
from vidlib.data.disk import auditing, lists

SHARED = Path(os.environ.get("VIDLIB_SHARED") or Path(__file__).resolve().parents[4] / "shared") / "splits" / "lists"
DROPPING = "Dropping something into something"
pytestmark = pytest.mark.usefixtures("data")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the published lists are not beside the checkout")
def test_the_published_ssv2_protocols_overlap_as_is_known():
    found = auditing.audit("ssv2_full", "ssv2_small", SHARED)
    order = ["train", "val", "test"]
    by_video = found.matrix("by_video")
    assert list(by_video.index) == list(by_video.columns) == order
    assert by_video.values.tolist() == [[24, 2, 7], [0, 0, 1], [0, 0, 2]]
    assert found.matrix("videos").values.tolist() == [[2400, 200, 568], [0, 0, 4], [0, 0, 20]]
    by_name = found.matrix("by_name")
    assert by_name.loc["train"].tolist() == [24, 2, 7] and by_name.loc["test"].tolist() == [9, 2, 2]
    assert "Twisting (wringing) [something] wet until water comes out" in found.names["train", "test"]
    assert found.warnings[1] == (
        "never test on the test list of ssv2_small what was trained on ssv2_full: 7 of its 24 classes and 568 of its "
        "videos lie in the train list of ssv2_full"
    )
    assert any("test list of ssv2_full what was trained on ssv2_small: 9 of its 24" in said for said in found.warnings)


def small(root: Path) -> Path:
    """Lists of both SSv2 protocols in which three test videos of one are training videos of the other."""
    full, less = videos("ssv2_full"), videos("ssv2_small", 3)
    for split, classes in full.items():
        full[split] = {cls: [f"9000{video}" for video in ids] for cls, ids in classes.items()}
    full["train"]["Dropping [something] into [something]"] = less["test"][DROPPING]
    full["val"]["val0"] = less["test"]["Opening something"][:1]  # a class that only its video tells
    write_trx(root, "ssv2_full", full)
    write_clip_fsar(root, "ssv2_small", less)
    return root


def test_shared_videos_are_counted_and_tell_classes_too(tmp_path):
    found = auditing.audit("ssv2_full", "ssv2_small", small(tmp_path))
    table = found.table.set_index(["split_a", "split_b"])
    assert table.loc[("train", "test"), ["classes", "by_name", "by_video", "videos"]].tolist() == [7, 7, 1, 3]
    assert table.loc[("val", "test"), ["classes", "by_name", "by_video", "videos"]].tolist() == [2, 1, 1, 1]
    assert found.names["val", "test"] == ("Scooping something up with something", "val0")
    assert table["videos"].sum() == 4
    assert (
        "never test on the test list of ssv2_small what was trained on ssv2_full: 7 of its 24 classes and 3 of its "
        in (found.warnings[1])
    )
    mirrored = auditing.audit("ssv2_small", "ssv2_full", tmp_path)
    assert sorted(mirrored.warnings) == sorted(found.warnings) and mirrored.table["videos"].sum() == 4


def test_stored_lists_serve_where_no_folder_is_given(tmp_path):
    unknown = auditing.audit("ssv2_full", "ssv2_small")
    assert unknown.table["videos"].isna().all() and unknown.table["classes"].sum() > 40
    assert "7 of its 24 classes lie in the train list of ssv2_full" in unknown.warnings[1]
    for name in ("ssv2_full", "ssv2_small"):
        lists.store(name, lists.read(name, small(tmp_path)))
    assert auditing.audit("ssv2_full", "ssv2_small").table["videos"].sum() == 4
    empty = tmp_path / "empty"
    empty.mkdir()
    assert auditing.audit("ssv2_full", "ssv2_small", empty).table["videos"].sum() == 4


def test_standard_splits_take_part_and_are_told_in_one_sentence(tmp_path, data):
    made = videos("ucf101")
    write_trx(tmp_path, "ucf101", made)
    folder = data / "ucf101" / "annotations"
    folder.mkdir(parents=True)
    first = made["train"]["Archery"][0]
    for n, ids in ((1, made["train"]["Archery"]), (3, [first])):  # split 2 is not there
        (folder / f"trainlist0{n}.txt").write_text("Archery/v_other.avi 3\n")
        (folder / f"testlist0{n}.txt").write_text("".join(f"Archery/{video}.avi\n" for video in ids))
    found = auditing.audit("ucf101", "official:ucf101", tmp_path)
    seen = found.table.dropna(subset="videos").set_index(["split_a", "split_b"])["videos"]
    assert seen["train", "test 1"] == 2 and seen["train", "test 3"] == 1 and ("train", "test 2") not in seen
    about = [said for said in found.warnings if "test list of official:ucf101" in said]
    assert len(about) == 1 and "70 of its 101 classes and 1 to 2 of its videos lie in the train list" in about[0]


def test_ids_of_another_source_are_not_compared(tmp_path):
    write_trx(tmp_path, "hmdb51", videos("hmdb51"))
    write_trx(tmp_path, "ucf101", videos("ucf101"))
    found = auditing.audit("hmdb51", "ucf101", tmp_path)
    assert found.table["videos"].isna().all() and found.table["classes"].sum() == 2
    assert {name for names in found.names.values() for name in names} == {"fencing", "punch"}
    worlds = auditing.audit("moving_shapes", "moving_shapes_scene")
    assert worlds.table["classes"].sum() == 0 and worlds.warnings == ()


def test_a_benchmark_against_itself_is_its_own_table(tmp_path):
    write_trx(tmp_path, "hmdb51", videos("hmdb51"))
    found = auditing.audit("hmdb51", "hmdb51", tmp_path)
    assert found.matrix("videos").values.tolist() == [[62, 0, 0], [0, 20, 0], [0, 0, 20]] and found.warnings == ()
    with pytest.raises(UserError, match="benchmark 'ssv2' is not known"):
        auditing.audit("hmdb51", "ssv2", tmp_path)
