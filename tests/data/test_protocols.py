"""What each protocol reads for training, selection and testing."""

import hashlib
import re

import pytest

from vidlib.basics.errors import UserError
from vidlib.data.manifest import Manifest, Row
from vidlib.data.protocols import labelled, labels_line, plan


def manifest(
    classes: dict[str, tuple[str, ...]], videos: int = 20, name: str = "made", root: str = "/none"
) -> Manifest:
    """``classes``: split -> its classes, each with ``videos`` videos; a class in two splits has them in both."""
    rows = [Row(f"{c}/{s}{i}", c, s) for s, names in classes.items() for c in names for i in range(videos)]
    return Manifest(name, tuple(rows), root, {row.video: f"{row.video}.mp4" for row in rows}, prompts={"a": "alpha"})


DISJOINT = manifest({"train": ("a", "b", "c"), "val": ("d", "e"), "test": ("f", "g")})
STANDARD = manifest({"train": ("a", "b", "c"), "test": ("a", "b", "c")})


def videos(made: Manifest, split: str) -> set[str]:
    return {row.video for row in made.videos(split)}


def test_closed_set_of_disjoint_classes_divides_the_training_classes():
    made = plan(DISJOINT, "closed_set").manifest
    assert {split: made.classes(split) for split in made.splits} == dict.fromkeys(
        ("train", "val", "test"), ("a", "b", "c")
    )
    assert [len(videos(made, split)) for split in ("train", "val", "test")] == [36, 9, 15]
    assert videos(made, "train") | videos(made, "val") | videos(made, "test") == videos(DISJOINT, "train")


def test_closed_set_of_standard_splits_keeps_the_test_split_and_cuts_val_from_train():
    made = plan(STANDARD, "closed_set").manifest
    assert videos(made, "test") == videos(STANDARD, "test")
    assert videos(made, "val") and videos(made, "train") | videos(made, "val") == videos(STANDARD, "train")


def test_zero_shot_keeps_classes_apart():
    made = plan(DISJOINT, "zero_shot")
    assert made.manifest.rows == tuple(r for r in DISJOINT.rows) and made.overlap == ()
    with pytest.raises(UserError, match="give test_dataset, or base_to_novel"):
        plan(STANDARD, "zero_shot")


def test_zero_shot_on_another_data_set_names_and_removes_what_was_trained_on():
    other = manifest({"train": ("x",), "test": ("A l-p_h a", "h")}, name="other", root="/other")
    made = plan(STANDARD, "zero_shot", other=other)  # class a reads "alpha"
    assert made.overlap == ("A l-p_h a",) and made.manifest.classes("test") == ("other:h",)
    assert "1 class names are in both and left out" in made.said
    kept = plan(STANDARD, "zero_shot", other=other, remove_overlap=False)
    assert len(kept.manifest.classes("test")) == 2 and kept.overlap == made.overlap and "kept" in kept.said
    row = made.manifest.videos("test")[0]
    assert str(made.manifest.path(row)) == f"/other/{row.video.removeprefix('other:')}.mp4"
    assert made.manifest.text("other:h") == "h" and "test" in made.manifest.splits
    assert not videos(made.manifest, "train") & videos(made.manifest, "val")
    assert [made.manifest.source(split) for split in ("train", "val", "test")] == ["made", "made", "other"]
    with pytest.raises(UserError, match="every test class of same is a training class"):
        plan(STANDARD, "zero_shot", other=manifest({"train": ("b",), "test": ("b",)}, name="same"))
    with pytest.raises(UserError, match="test_dataset is for protocol zero_shot"):
        plan(STANDARD, "closed_set", other=other)


@pytest.mark.parametrize("made", [DISJOINT, STANDARD], ids=["disjoint", "standard"])
def test_kshot_draws_k_videos_by_the_seed_and_tests_on_the_same_ones(made):
    plans = {(k, seed): plan(made, "kshot", train_per_class=k, seed=seed).manifest for k in (1, 4) for seed in (0, 1)}
    classes = made.classes("test")
    for (k, _), one in plans.items():
        assert one.classes("train") == classes == one.classes("test")
        assert len(videos(one, "train")) == k * len(classes)
        assert not videos(one, "train") & (videos(one, "val") | videos(one, "test"))
    assert len({frozenset(videos(one, "test")) for one in plans.values()}) == 1
    assert videos(plans[4, 0], "train") != videos(plans[4, 1], "train")
    assert videos(plans[1, 0], "train") < videos(plans[4, 0], "train"), "more shots add to the fewer"
    with pytest.raises(UserError, match="at least 1"):
        plan(made, "kshot")
    with pytest.raises(UserError, match="training videos; give at most that many"):
        plan(made, "kshot", train_per_class=20)


@pytest.mark.parametrize("made", [DISJOINT, STANDARD], ids=["disjoint", "standard"])
def test_base_to_novel_trains_on_base_alone(made):
    one = plan(made, "base_to_novel").manifest
    assert one.splits == ("train", "val", "test", "novel") + (("val_novel",) if made is DISJOINT else ())
    if made is DISJOINT:
        assert one.classes("val_novel") == ("d", "e")
    assert one.classes("train") == one.classes("test") == one.classes("val")
    assert not set(one.classes("novel")) & set(one.classes("train"))
    assert set(one.classes("novel")) == ({"f", "g"} if made is DISJOINT else {"c"})


@pytest.mark.parametrize("protocol", ["kshot", "closed_set", "zero_shot", "base_to_novel"])
@pytest.mark.parametrize("splits", ["disjoint", "standard"])
def test_with_k_videos_a_class_weights_are_selected_on_none_beyond_them(splits, protocol):
    disjoint = splits == "disjoint"
    made = manifest({"train": ("a", "b", "c"), "test": ("f", "g") if disjoint else ("a", "b", "c")}, videos=40)
    needs = protocol == "zero_shot" and not disjoint
    other = manifest({"test": ("y", "z")}, name="other", root="/other") if needs else None
    for k, held in ((2, 1), (4, 1), (8, 2)):
        given = {"train_per_class": k, "seed": 1, "other": other}
        last, selecting = (plan(made, protocol, **given, select=select) for select in (False, True))
        known = videos(last.manifest, "train")
        train, val = (videos(selecting.manifest, split) for split in ("train", "val"))
        classes = len(last.manifest.classes("train"))
        assert train | val == known and len(known) == k * classes and len(val) == held * classes
        assert selecting.manifest.classes("val") == selecting.manifest.classes("train")
        for split in set(last.manifest.splits) - {"train", "val"}:
            assert videos(selecting.manifest, split) == videos(last.manifest, split)
        assert f"; {k} videos per class drawn by seed 1, {held} of them to select on. Labelled videos" in selecting.said
        assert f"{held * classes} of {classes} classes to select on" in selecting.said
        assert "none (the last weights) to select on" in last.said
    with pytest.raises(UserError, match="select: the 1 training video of each class cannot be divided"):
        plan(made, protocol, train_per_class=1, select=True, other=other)


def test_what_it_says_counts_labels_by_their_use():
    assert plan(DISJOINT, "kshot", train_per_class=2, seed=3).said == (
        "all-way 2-shot: the 2 novel classes, half of each class's videos for testing; 2 videos per class drawn by "
        "seed 3. Labelled videos: 4 of 2 classes to train on, none (the last weights) to select on, 20 of 2 classes to "
        "test on. For pictures and ablations: val 10 of 2 classes."
    )
    assert plan(DISJOINT, "zero_shot", select=True).said == (
        "zero-shot: trained on seen classes, tested on others, with the texts of those alone. Labelled videos: 60 of 3 "
        "classes to train on, 40 of 2 other classes to select on, 40 of 2 other classes to test on."
    )
    both = plan(DISJOINT, "base_to_novel", select=True).said
    assert both.endswith("15 of 3 classes to test on, and 40 of 2 other classes. For pictures and ablations: val_novel "
        "40 of 2 other classes.")  # fmt: skip


def test_labels_are_counted_by_use():
    made = plan(STANDARD, "kshot", train_per_class=4, select=True).manifest
    labels = labelled(made, {"train": "train", "selection": "val", "test": "test", "other": ""})
    assert labels["train"] == {"videos": 9, "classes": 3} and labels["selection"] == {"videos": 3, "classes": 3}
    line = "Labelled videos used: train 9 of 3 classes, selection 3 of 3 classes, test 60 of 3 classes, other 0."
    assert labels_line(labels) == line


def test_what_cannot_be_divided_is_refused():
    with pytest.raises(UserError, match="did you mean 'kshot'"):
        plan(DISJOINT, "k_shot", train_per_class=2)
    with pytest.raises(UserError, match="class 'a' has 1 videos, too few to divide"):
        plan(manifest({"train": ("a", "b"), "test": ("c",)}, videos=1), "closed_set")


def test_the_order_of_rows_plays_no_part():
    turned = Manifest("made", DISJOINT.rows[::-1], "/none", DISJOINT.files)
    for protocol in ("closed_set", "base_to_novel"):
        assert set(plan(turned, protocol).manifest.rows) == set(plan(DISJOINT, protocol).manifest.rows)


UCF = ("ucf101", [f"v_Dive_g{i // 6:02}_c{i % 6:02}" for i in range(1, 61)])  # 11 recordings
HMDB = ("hmdb51", [f"film_{i // 9}_dive_{'fu'[i % 2]}_{'cn'[i % 2]}m_np1_le_med_{i}" for i in range(60)])  # 7


@pytest.mark.parametrize(("name", "ids"), [UCF, HMDB])
@pytest.mark.parametrize("protocol", ["closed_set", "kshot", "zero_shot", "base_to_novel"])
@pytest.mark.parametrize("disjoint", [True, False], ids=["disjoint", "standard"])
def test_clips_of_one_recording_stay_on_one_side(name, ids, protocol, disjoint):
    rows = [Row(f"{c}/{i}", c, "train") for c in "ab" for i in ids]
    rows += [Row(f"{c}/test_{i}", c, "test") for c in ("cd" if disjoint else "ab") for i in ids]
    made = Manifest(name if disjoint else f"official_{name}", tuple(rows), "/none", {row.video: "" for row in rows})
    other = manifest({"test": ("y", "z")}, name="other", root="/other") if protocol == "zero_shot" else None
    planned = plan(made, protocol, other=other, train_per_class=2 if protocol == "kshot" else 0).manifest
    cut = r"_c\d+$" if name == "ucf101" else r"_[fu]_.*"
    held = {split: {re.sub(cut, "", video) for video in videos(planned, split)} for split in planned.splits}
    assert sum(map(len, held.values())) == len(set().union(*held.values())), "no recording in two splits"
    whole = len(videos(planned, "train")) + len(videos(planned, "val"))
    assert protocol == "kshot" or 0 < len(videos(planned, "val")) <= 0.25 * whole


def test_a_class_of_one_recording_cannot_be_divided():
    rows = tuple(Row(f"{c}/v_g01_c{i:02}", c, split) for c, split in (("a", "train"), ("b", "test")) for i in range(9))
    with pytest.raises(UserError, match="class 'a' has 9 videos of 1 recordings, too few to divide"):
        plan(Manifest("ucf101", rows, "/none", {}), "closed_set")


def test_where_no_recording_is_named_the_hash_of_the_id_orders():
    made = plan(DISJOINT, "closed_set").manifest
    for cls in "abc":
        own = sorted((row.video for row in DISJOINT.videos("train") if row.cls == cls), key=_digest)
        parts = {"test": own[:5], "val": own[5:8], "train": own[8:]}
        for split, wanted in parts.items():
            assert {row.video for row in made.videos(split) if row.cls == cls} == set(wanted)


def _digest(video: str) -> bytes:
    return hashlib.sha256(video.encode()).digest()
