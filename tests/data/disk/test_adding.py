"""``add``: a fake disk as users have it, with files missing, renamed, doubled and empty, becomes a manifest."""

import hashlib
import os
import unicodedata
from pathlib import Path

import pytest

from tests.data.fake_disk import Listed, identity, lay, published
from vidlib.basics.errors import UserError
from vidlib.data.catalogue import benchmarks, official, store
from vidlib.data.disk import lists
from vidlib.data.disk.adding import add
from vidlib.data.manifest import Row

SHARED = Path(os.environ.get("VIDLIB_SHARED") or Path(__file__).parents[4] / "shared") / "splits" / "lists"
LAYOUTS = {  # name, what a user's copy looks like: row -> path
    "hmdb51": lambda row, i: f"hmdb51_org/{row.cls}/{identity(row)}.avi",
    "ucf101": lambda row, i: f"UCF-101/{identity(row)}.{'avi' if i % 2 else 'AVI'}",  # flat, endings in either case
    "kinetics100": lambda row, i: (
        f"{row.split}_256/{row.cls.replace(' ', '_')}/{identity(row)}{'_000012_000022' if i % 3 else ''}.mp4"
    ),
    "ssv2_small": lambda row, i: f"20bn-something-something-v2/{identity(row)}.webm",
    "ssv2_full": lambda row, i: f"videos/{identity(row)}.mp4",
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_whole_disk_with_other_files_becomes_the_whole_list(name: str, data: Path, tmp_path: Path) -> None:
    lists, disk = published(name), tmp_path / "disk"
    lay(disk, [LAYOUTS[name](row, i) for i, row in enumerate(lists.rows)])
    lay(disk, ["other/not_of_the_list_at_all.mp4", "README.txt"])
    added = add(name, disk, {"trx": lists})
    assert added.new == len(lists.rows) and not added.missing
    assert added.rest == {"other/not_of_the_list_at_all.mp4": "not on the published list"}
    manifest = benchmarks.load(name)
    assert set(manifest.rows) == set(lists.rows)
    for i, row in enumerate(lists.rows):
        assert manifest.path(row) == disk / LAYOUTS[name](row, i)
    assert manifest.coverage().table.present.sum() == len(lists.rows)
    assert any("matched by the published lists of trx" in line for line in added.lines())


def test_missing_renamed_doubled_and_empty_files_are_told_apart(data: Path, tmp_path: Path) -> None:
    lists, disk = published("hmdb51", classes=2, videos=4), tmp_path / "disk"
    rows = [row for row in lists.rows if row.split == "train"]
    cls = rows[0].cls
    ids = [identity(row) for row in rows if row.cls == cls]
    decomposed = unicodedata.normalize("NFD", ids[2])
    assert decomposed != ids[2]
    lay(disk / cls, [f"{ids[0]}.avi", f"{ids[0]} (1).avi", f"{ids[0]}.avi.mp4", f"{decomposed}.AVI"])
    lay(disk / cls, [ids[3].replace("[", "_").replace("]!", "_").upper() + ".avi"])  # renamed
    lay(disk / "elsewhere", [f"{ids[0]}.mkv"])
    lay(disk / "cartwheel", [], b"")
    other = next(row.cls for row in rows if row.cls != cls)
    lay(disk / other, [f"{ids[1]}.avi"], b"")  # empty, and in another class's folder
    added = add("hmdb51", disk, {"trx": lists})
    chosen = added.stored.files
    assert chosen[f"{cls}/{ids[0]}"] == f"{cls}/{ids[0]}.avi" and len(chosen) == 4
    doubles = {file for file, why in added.rest.items() if why.startswith(f"a second file of {cls}/{ids[0]}")}
    assert doubles == {f"{cls}/{ids[0]} (1).avi", f"{cls}/{ids[0]}.avi.mp4", f"elsewhere/{ids[0]}.mkv"}
    assert list(added.loose) == [f"{cls}/{ids[3]}"] and list(added.strayed) == [f"{cls}/{ids[1]}"]
    assert added.empty == (f"{other}/{ids[1]}.avi",)
    assert len(added.missing) == len(lists.rows) - 4
    beside = (data / "hmdb51" / "missing.tsv").read_text().splitlines()
    assert beside[0] == "split\tclass\tvideo" and len(beside) == 1 + len(added.missing)
    covered = (data / "hmdb51" / "coverage.tsv").read_text()
    assert f"train\tall\t4\t8\ntrain\t{cls}\t4\t4\ntrain\t{other}\t0\t4\n" in covered
    said = "\n".join(added.lines())
    assert "train  4 of 8 videos (50.0%), 1 of 2 classes" in said and f"train/{other} 0 of 4" in said
    assert "missing: 20:" in said and "all in missing.tsv" in said and "is not the published list" in said


def test_a_copy_is_not_taken_for_the_next_number(data: Path, tmp_path: Path) -> None:
    lists = Listed("trx", (Row("catch/ball_0", "catch", "train"), Row("catch/ball_0_1", "catch", "train")))
    lay(tmp_path / "disk", ["catch/ball_0.avi", "catch/ball_0 (1).avi"])
    added = add("hmdb51", tmp_path / "disk", {"trx": lists})
    assert [row.video for row in added.stored.rows] == ["catch/ball_0"]


def test_web_ids_are_compared_letter_by_letter(data: Path, tmp_path: Path) -> None:
    cls = benchmarks.describe("kinetics100")["classes"]["train"][0]["name"]
    rows = tuple(Row(f"{cls}/{i}", cls, "train") for i in ("-abcdefghij", "_abcdefghij", "-ABCDEFGHIJ"))
    lay(tmp_path / "disk", ["-abcdefghij_000001_000011.mp4", "-ABCDEFGHIJ.mkv"])
    added = add("kinetics100", tmp_path / "disk", {"trx": Listed("trx", rows)})
    assert [row.video for row in added.missing] == [f"{cls}/_abcdefghij"] and not added.loose


def test_an_id_of_two_classes_needs_its_folder(data: Path, tmp_path: Path) -> None:
    rows = tuple(Row(f"{cls}/clip_{i}", cls, "train") for cls in ("catch", "climb") for i in range(2))
    lay(tmp_path / "disk", ["a/CATCH/deep/clip_0.avi", "a/climb/clip_0.avi", "clip_1.avi"])
    added = add("hmdb51", tmp_path / "disk", {"trx": Listed("trx", rows)})
    assert {row.video for row in added.stored.rows} == {"catch/clip_0", "climb/clip_0"}
    assert "2 listed videos have this name" in added.rest["clip_1.avi"]


def test_without_lists_class_folders_decide_at_any_depth(data: Path, tmp_path: Path) -> None:
    lay(
        tmp_path / "disk", ["x/train/Brush Hair/a.avi", "x/train/Brush Hair/a.mp4", "test/fall_floor/b/c.webm", "d.avi"]
    )
    added = add("hmdb51", tmp_path / "disk")
    manifest = benchmarks.load("hmdb51")
    assert {(row.video, row.split) for row in manifest.rows} == {("brush_hair/a", "train"), ("fall_floor/c", "train")}
    assert added.rest["d.avi"] == "in no folder named as a class of the benchmark"
    assert added.rest["x/train/Brush Hair/a.mp4"].startswith("a second file of brush_hair/a")
    lay(tmp_path / "disk", ["x/brush_hair/z.avi"])
    assert add("hmdb51", tmp_path / "disk").new == 1


def test_a_second_add_brings_more_and_loses_nothing(data: Path, tmp_path: Path) -> None:
    lists = published("ucf101", classes=2, videos=4)
    rows, one, two = lists.rows, tmp_path / "one", tmp_path / "two"
    lay(one, [f"{identity(row)}.avi" for row in rows[:10]])
    lay(two, [f"x/{identity(row)}.mp4" for row in rows[8:20]])
    first = add("ucf101", one, {"trx": lists})
    assert (first.before, first.new) == (0, 10)
    (one / f"{identity(rows[0])}.avi").unlink()
    (one / f"{identity(rows[1])}.avi").write_bytes(b"")
    lay(two, [f"{identity(rows[1])}.avi"])
    second = add("ucf101", two, {"trx": lists})
    assert (second.before, second.new) == (10, 10)
    assert list(second.gone) == [rows[0].video]
    manifest = benchmarks.load("ucf101")
    where = {row.video: manifest.path(row) for row in manifest.rows}
    assert where == {
        **{row.video: one / f"{identity(row)}.avi" for row in rows[2:10]},
        **{row.video: two / f"x/{identity(row)}.mp4" for row in rows[10:20]},
        rows[1].video: two / f"{identity(rows[1])}.avi",  # the earlier file is empty now
    }
    assert len(manifest.coverage().table) == 3 and manifest.coverage().table.present.sum() == 19
    with pytest.raises(UserError, match="matched to the published lists of trx; give --lists DIR again"):
        add("ucf101", two)


def test_a_folder_that_is_not_there_is_not_forgotten_unasked(data: Path, tmp_path: Path) -> None:
    lists = published("ucf101", classes=1, videos=4)
    one, two = tmp_path / "one", tmp_path / "two"
    lay(one, [f"{identity(row)}.avi" for row in lists.rows[:8]])
    lay(two, [f"{identity(row)}.avi" for row in lists.rows[6:]])
    add("ucf101", one, {"trx": lists})
    one.rename(tmp_path / "away")
    with pytest.raises(UserError, match="its videos were in .*one, which is not there now"):
        benchmarks.load("ucf101")
    with pytest.raises(UserError, match="6 videos of its manifest were in .*/one, which is not there now.*--forget"):
        add("ucf101", two, {"trx": lists})
    assert add("ucf101", tmp_path / "away", {"trx": lists}).new == 8  # the same files at their new place: none is lost
    (tmp_path / "away").rename(one)
    assert len(add("ucf101", two, {"trx": lists}, forget=True).gone) == 8
    assert len(benchmarks.load("ucf101").rows) == 6


def test_ids_that_differ_in_marks_alone_are_not_mixed_up(data: Path, tmp_path: Path) -> None:
    rows = tuple(Row(f"catch/{i}", "catch", "train") for i in ("ball[1]", "ball(1)", "ball-2"))
    lay(tmp_path / "disk", ["catch/ball_1.avi", "catch/ball(1).avi", "catch/ball_2.avi"])
    added = add("hmdb51", tmp_path / "disk", {"trx": Listed("trx", rows)})
    assert added.stored.files == {"catch/ball(1)": "catch/ball(1).avi", "catch/ball-2": "catch/ball_2.avi"}
    assert "2 listed videos have this name" in added.rest["catch/ball_1.avi"]


def test_of_two_families_the_fuller_is_taken_and_stays(data: Path, tmp_path: Path) -> None:
    a = published("kinetics100", classes=1, videos=4)
    cls = a.rows[0].cls
    b = Listed("clip_fsar", (*a.rows[1:], Row(f"{cls}/zzzzzzzzzzz", cls, "train")))
    lay(tmp_path / "disk", [f"{identity(row)}.mp4" for row in b.rows])
    both = {"trx": a, "clip_fsar": b}
    added = add("kinetics100", tmp_path / "disk", both)
    assert added.stored.family == "clip_fsar" and added.other == {"trx": 11}
    lay(tmp_path / "disk", [f"{identity(a.rows[0])}.mp4"])
    assert add("kinetics100", tmp_path / "disk", both).stored.family == "clip_fsar"
    assert add("kinetics100", tmp_path / "disk", both, family="trx").stored.family == "trx"
    with pytest.raises(UserError, match="no lists of 'trk' .did you mean 'trx'"):
        add("kinetics100", tmp_path / "disk", both, family="trk")


@pytest.mark.parametrize("entry", ["catch/../../secret", "/etc/passwd", "catch/..\\x", "..", "~/x"])
def test_a_list_entry_that_leads_outside_is_refused_by_name(entry: str, data: Path, tmp_path: Path) -> None:
    lay(tmp_path / "disk", ["a.avi"])
    with pytest.raises(UserError, match="list of trx lists .* not a path inside") as error:
        add("hmdb51", tmp_path / "disk", {"trx": Listed("trx", (Row(entry, "catch", "train"),))})
    assert repr(entry) in str(error.value) and not (data / "hmdb51" / "manifest.tsv").exists()


def test_a_linked_data_set_is_added_and_stays_when_its_files_become_links(data: Path, tmp_path: Path) -> None:
    lists, disk = published("hmdb51", classes=1, videos=1), tmp_path / "disk"
    names = [f"{identity(row)}.avi" for row in lists.rows]
    lay(tmp_path / "pool", names)
    disk.mkdir()
    for name in names[1:]:
        (disk / name).symlink_to(tmp_path / "pool" / name)
    (disk / "more").symlink_to(tmp_path / "pool")
    assert len(add("hmdb51", disk, {"trx": lists}).stored.rows) == 3
    (disk / "more").unlink()
    added = add("hmdb51", disk, {"trx": lists})
    assert list(added.gone) == [lists.rows[0].video] and len(added.stored.rows) == 2


def test_the_note_says_which_split_is_the_published_list(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"train": "Archery", "val": "HighJump", "test": "Diving"}
    sums = {split: hashlib.sha256(f"{cls}/v_{cls}_g01_c01\n".encode()).hexdigest() for split, cls in names.items()}
    facts = {
        "name": "tiny", "title": "Tiny", "directional": False, "where": "here",
        "checksums": {"trx": sums, "clip_fsar": {**sums, "train": "0"}},
        "classes": {split: [{"name": cls, "text": cls, "videos": 1}] for split, cls in names.items()},
    }  # fmt: skip
    monkeypatch.setattr(benchmarks, "describe", lambda name: facts)
    lists = Listed("trx", tuple(Row(f"{cls}/v_{cls}_g01_c01", cls, split) for split, cls in names.items()))
    lay(tmp_path / "disk", ["v_Archery_g01_c01.avi", "v_Diving_g01_c01.avi"])
    note = add("tiny", tmp_path / "disk", {"trx": lists}).note
    assert "train is the published list (trx)" in note and "val holds 0 videos and is not the published" in note
    lay(tmp_path / "disk", ["v_HighJump_g01_c01.avi"])
    note = add("tiny", tmp_path / "disk", {"trx": lists}).note
    assert note == benchmarks.load("tiny").note and "not comparable" not in note
    assert "val is the published list (trx and clip_fsar)" in note


def test_names_that_are_not_utf8_survive(data: Path, tmp_path: Path) -> None:
    lists = published("hmdb51", classes=1, videos=1)
    folder = tmp_path / "disk" / "caf\udce9"  # a Latin-1 name on a UTF-8 system
    try:
        lay(folder, [f"{identity(row)}.avi" for row in lists.rows])
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    add("hmdb51", tmp_path / "disk", {"trx": lists})
    manifest = benchmarks.load("hmdb51")
    assert all(manifest.path(row).is_file() for row in manifest.rows) and len(manifest.rows) == 3
    assert store.read("hmdb51").family == "trx"


def test_a_data_set_of_standard_splits_is_found_wherever_it_lies(data: Path, tmp_path: Path) -> None:
    notes = {"1": "a 1\nb 2\nc 0\nd 1\n", "2": "a 2\nb 1\nc 1\nd 0\n", "3": "a 1\nb 1\nc 2\nd 2\n"}
    for split, lines in notes.items():
        text = "".join(f"x_{cls}.avi {part}\n" for cls, part in (line.split() for line in lines.splitlines()))
        lay(data / "hmdb51" / "annotations", [f"wave_test_split{split}.txt"], text.encode())
    disk = tmp_path / "far" / "away"
    lay(disk, ["wave/x_a.avi", "X_B.mp4", "x_c.avi", "x_e.avi"])
    added = add("official:hmdb51", disk)
    assert {(row.video, row.split) for row in added.stored.rows} == {
        ("wave/x_a", "train"), ("wave/x_b", "test"), ("wave/x_c", "other"),
    }  # fmt: skip
    assert [row.video for row in added.missing] == [
        "wave/x_d"
    ] and "test is the published list (official)" in added.note
    for split in (1, 2, 3):
        made = official.load("hmdb51", split)
        assert all(made.path(row).is_file() for row in made.rows)
    assert {row.video for row in made.rows} == {"wave/x_a", "wave/x_b", "wave/x_c"}
    assert benchmarks_untouched(data)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the published lists are not beside the checkout")
@pytest.mark.parametrize("name", ["hmdb51", "ucf101", "kinetics100", "ssv2_small"])
def test_a_disk_with_every_published_video_is_the_published_list(name: str, data: Path, tmp_path: Path) -> None:
    published = lists.read(name, SHARED)
    rows = published["trx"].rows
    lay(tmp_path / "disk", [f"{i % 7}/{identity(row)}.mp4" for i, row in enumerate(rows)])
    added = add(name, tmp_path / "disk", published)
    assert added.stored.family == "trx" and set(added.stored.rows) == set(rows) and not added.rest
    assert "not comparable" not in added.note and added.note.count("is the published list (trx") == 3
    assert added.other == ({"clip_fsar": 10_000 - 179 - 41 - 57} if name == "kinetics100" else {})


def benchmarks_untouched(data: Path) -> bool:
    """The few-shot benchmark of the same videos has a manifest of its own."""
    return store.read("hmdb51") is None and (data / "official_hmdb51" / "manifest.tsv").is_file()
