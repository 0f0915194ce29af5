"""A user's own folder of clips: splits by seed or by file, and one sentence for what cannot be used."""

import shutil
import unicodedata
from pathlib import Path

import pytest

from tests.data.small import write_clip, write_folder
from vidlib.basics.errors import UserError
from vidlib.data.folder import borrowed, from_folder, readable, split_classes
from vidlib.data.protocols import plan


@pytest.mark.parametrize(
    "number, sizes",
    [(4, (2, 0, 2)), (5, (3, 0, 2)), (6, (2, 2, 2)), (15, (5, 5, 5)), (24, (14, 5, 5)), (100, (60, 20, 20))],
)
def test_classes_are_divided_as_documented(number: int, sizes: tuple[int, int, int]) -> None:
    names = [f"c{i}" for i in range(number)]
    splits = split_classes(names, seed=0)
    assert tuple(len(splits[s]) for s in ("train", "val", "test")) == sizes
    assert sorted(sum(splits.values(), [])) == sorted(names)
    assert split_classes(names[::-1], seed=0) == splits
    if number > 6:
        assert split_classes(names, seed=1) != splits


def test_the_division_is_fixed_across_versions() -> None:
    assert split_classes("abcdef", seed=0) == {"train": ["e", "f"], "val": ["a", "b"], "test": ["c", "d"]}


def test_folder_with_odd_names(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "my clips")
    odd = unicodedata.normalize("NFD", "Bücher tragen")
    write_clip(root / odd / "ein Film.MP4".replace("MP4", "mp4"))
    (root / odd / "notes.txt").write_text("not a video")
    (root / odd / ".hidden.mp4").write_text("not a video")
    (root / ".cache").mkdir()
    manifest = from_folder(root)
    assert manifest.name == "folder:my clips" and manifest.directional
    assert {row.cls for row in manifest.rows} == {*(f"class{i}" for i in range(6)), "Bücher tragen"}
    row = next(row for row in manifest.rows if row.cls == "Bücher tragen")
    assert row.video == "Bücher tragen/ein Film.mp4" and manifest.path(row).is_file()
    classes = [set(manifest.classes(split)) for split in manifest.splits]
    assert len(classes) == 3 and not classes[0] & classes[1] and not classes[2] & (classes[0] | classes[1])
    table = manifest.coverage(check_readable=True).table
    assert table[["listed", "present", "readable"]].sum().tolist() == [13, 13, 13]


def test_few_classes_leave_val_to_other_videos_of_the_training_classes(tmp_path: Path) -> None:
    manifest = from_folder(write_folder(tmp_path / "f", classes=4, clips=4))
    assert manifest.classes("val") == manifest.classes("train") and len(manifest.videos("val")) == 4
    assert not set(manifest.classes("test")) & set(manifest.classes("train"))
    assert "No classes are left for val" in manifest.note


def test_splits_yaml(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "f", classes=7, clips=3)
    (root / "splits.yaml").write_text("train: [class5, class4]\nval: [class1, class0]\ntest: [class2, class3]\n")
    manifest = from_folder(root)
    assert manifest.classes("train") == ("class4", "class5") and manifest.classes("test") == ("class2", "class3")
    assert "left out: class6" in manifest.note
    other = tmp_path / "other.yaml"
    other.write_text("train: [class0, class1]\ntest: [class2, class3]\n")
    assert from_folder(root, splits_yaml=other).classes("val") == ("class0", "class1")


@pytest.mark.parametrize(
    "text, said",
    [
        ("train: [class0, class1]\ntest: [class2, klass3]", "'klass3' in test, which has no directory .* class0, "),
        ("train: [class0, class1]\ntest: [class1, class2]", "'class1' in train and again in test"),
        ("train: [class0, class1]\ntest: [class2]", "names 1 test classes; name at least 2"),
        ("training: [class0]", "names the split 'training'"),
        ("- class0", "does not map splits"),
        ("train: [", "cannot be read as YAML"),
        ("train: [class0, no]\ntest: [class2, class3]", "the class False is no text: put it in quotes"),
        ("train: [class0, class1]\ntest: [class2, 001]", "the class 1 is no text: put it in quotes"),
    ],
)
def test_bad_splits_yaml_is_named(tmp_path: Path, text: str, said: str) -> None:
    root = write_folder(tmp_path / "f", classes=4, clips=1)
    (root / "splits.yaml").write_text(text)
    with pytest.raises(UserError, match=said) as error:
        from_folder(root)
    assert str(root / "splits.yaml") in str(error.value) and "\n" not in str(error.value)


def test_unusable_folders_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"{tmp_path}/nowhere does not exist; give folder:PATH"):
        from_folder("nowhere")
    (tmp_path / "bare").mkdir()
    with pytest.raises(UserError, match="bare holds no class directories"):
        from_folder("bare")
    root = write_folder(tmp_path / "f", classes=3, clips=1)
    with pytest.raises(UserError, match=r"has only 3 classes \(class0, class1, class2\).*at least 4"):
        from_folder(root)
    (root / "lonely").mkdir()
    (root / "lonely" / "notes.txt").write_text("nothing")
    with pytest.raises(UserError, match="class 'lonely' is empty: .*f/lonely holds no video files"):
        from_folder(root)


def test_what_a_file_system_keeps_for_itself_is_passed_over_and_what_hides_is_named(tmp_path, monkeypatch) -> None:
    root = write_folder(tmp_path / "f", classes=4, clips=2)
    (root / "lost+found").mkdir()
    classes = len(from_folder(root).classes("train"))
    own = Path.iterdir

    def hidden(folder: Path):
        if folder.name in ("lost+found", "class1"):
            raise PermissionError(13, "Permission denied", str(folder))
        return own(folder)

    monkeypatch.setattr(Path, "iterdir", hidden)
    with pytest.raises(UserError, match=r"f/class1 cannot be listed \(Permission denied\); mend it or move it away"):
        from_folder(root)
    (root / "class1").rename(root / ".class1")
    write_clip(root / "class9" / "0.mp4"), write_clip(root / "class9" / "1.mp4")
    assert len(from_folder(root).classes("train")) == classes
    with pytest.raises(UserError, match="~nobody-here.*nobody of that name has a home here"):
        from_folder("~nobody-here/clips")


def test_a_folder_of_broken_clips_names_the_first_failure(tmp_path: Path) -> None:
    for c in range(6):
        for i in range(2):
            (tmp_path / f"class{c}").mkdir(exist_ok=True)
            (tmp_path / f"class{c}" / f"{i}.mp4").write_bytes(b"rubbish" * 50)
    with pytest.raises(UserError, match=r"none of the 12 clips .*first failure: .*class0/0.mp4: .+replace them"):
        from_folder(tmp_path)
    write_clip(tmp_path / "class3" / "1.mp4")  # one good clip: the folder opens, the classes without one do not
    with pytest.raises(UserError, match="no clip of class 'class0' can be decoded"):
        from_folder(tmp_path).keep_readable()


def test_class_names_become_words() -> None:
    assert [readable(n) for n in ("brush_hair", "ApplyEyeMakeup", "YoYo", "noFight", "moving  up")] == [
        "brush hair", "apply eye makeup", "yo yo", "no fight", "moving up",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "classes, way, sizes",
    [(4, 2, (2, 0, 2)), (6, 3, (3, 0, 3)), (7, 5, (4, 0, 3)), (10, 5, (5, 0, 5)), (15, 5, (5, 5, 5))],
)
def test_classes_are_divided_so_that_an_episode_fits(classes: int, way: int, sizes: tuple[int, int, int]) -> None:
    splits = split_classes([f"c{i}" for i in range(classes)], seed=0, way=way)
    assert tuple(len(splits[s]) for s in ("train", "val", "test")) == sizes


@pytest.mark.parametrize(
    "clips, need, train, val",
    [(4, (2, 2), 2, 2), (5, (2, 2), 3, 2), (6, (2, 2), 4, 2), (8, (4, 4), 4, 4), (9, (2, 2), 6, 3)],
)
def test_val_takes_as_many_videos_as_an_episode_needs(
    tmp_path: Path, clips: int, need: tuple[int, int], train: int, val: int
) -> None:
    manifest = from_folder(write_folder(tmp_path / "f", classes=4, clips=clips), need=need)
    assert len(manifest.videos("train")) == 2 * train and len(manifest.videos("val")) == 2 * val
    assert not borrowed(manifest) and "No classes are left for val" in manifest.note


def test_where_too_few_videos_are_there_val_holds_the_training_videos_again(tmp_path: Path) -> None:
    manifest = from_folder(write_folder(tmp_path / "f", classes=4, clips=3))
    assert borrowed(manifest) and "not to select on" in manifest.note
    files = [{manifest.path(row) for row in manifest.videos(split)} for split in ("train", "val")]
    assert files[0] == files[1] and len(files[0]) == 6 and len(manifest.keep_readable().rows) == 18


def test_folders_of_splits_above_the_classes_are_named_and_read_where_asked(tmp_path: Path) -> None:
    for split, first in (("train", 0), ("Validation", 3), ("test", 5)):
        for c in range(first, first + 2 + (split == "train")):
            write_clip(tmp_path / split / f"c{c}" / "0.mp4")
    with pytest.raises(
        UserError, match="folders of splits above .*train 3.*write the one word folders into .*anew.*folder:"
    ):
        from_folder(tmp_path)
    (tmp_path / "splits.yaml").write_text("folders\n")
    manifest = from_folder(tmp_path)
    assert [manifest.classes(split) for split in manifest.splits] == [("c0", "c1", "c2"), ("c3", "c4"), ("c5", "c6")]
    assert len(manifest.keep_readable().rows) == 7


@pytest.mark.parametrize(("clips", "val"), [(40, 2), (4, 1), (3, 3)])
def test_of_folders_that_share_classes_a_protocol_cuts_a_small_val(tmp_path: Path, clips: int, val: int) -> None:
    for cls in "ab":
        for split, count in (("train", clips), ("test", 2)):
            first = write_clip(tmp_path / split / cls / "0.mp4")
            for i in range(1, count):
                shutil.copy(first, first.with_name(f"{i}.mp4"))
    (tmp_path / "splits.yaml").write_text("folders\n")
    manifest = from_folder(tmp_path, need=(3, 1))
    assert borrowed(manifest) == (clips == 3) and ("val" in manifest.splits) == (clips == 3)
    made = plan(manifest, "closed_set").manifest
    kept = clips if clips == 3 else clips - val
    assert {split: len(made.videos(split)) for split in made.splits} == {"train": 2 * kept, "val": 2 * val, "test": 4}
