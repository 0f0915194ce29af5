"""The catalogue of benchmarks: counts of the published splits, absent and partial copies, unknown names."""

import hashlib
from pathlib import Path

import pytest
import yaml

from tests.data.small import write_clip, write_folder
from vidlib.basics.errors import UserError
from vidlib.data.catalogue import benchmarks, entries, official
from vidlib.data.world import worlds
from vidlib.data.world.kinds import KINDS
from vidlib.params.names import WORLDS

# Published counts: classes and videos of train, val, test.
COUNTS = {
    "hmdb51": [(31, 4280), (10, 1194), (10, 1292)],
    "ucf101": [(70, 9154), (10, 1421), (21, 2745)],
    "kinetics100": [(64, 6400), (12, 1200), (24, 2400)],
    "ssv2_small": [(64, 6400), (12, 1200), (24, 2400)],
    "ssv2_full": [(64, 67013), (12, 1926), (24, 2857)],
}
DIRECTIONAL = {"ssv2_small", "ssv2_full"}


def test_the_catalogue_names_the_worlds_and_the_five_benchmarks() -> None:
    assert WORLDS == tuple(worlds.WORLDS)  # params know the names without the drawing
    assert benchmarks.names() == (*WORLDS, *sorted(COUNTS))


@pytest.mark.parametrize("name", COUNTS)
def test_published_splits(name: str) -> None:
    facts = benchmarks.describe(name)
    for needed in ("title", "protocol", "called", "task", "prompt", "licence", "where", "layout", "sampling", "notes"):
        assert facts[needed], needed
    assert facts["name"] == name and facts["frames"] == 8 and facts["directional"] is (name in DIRECTIONAL)
    classes = facts["classes"]
    assert [(len(classes[s]), sum(c["videos"] for c in classes[s])) for s in ("train", "val", "test")] == COUNTS[name]
    every = [c["name"] for split in classes.values() for c in split]
    assert len({benchmarks.normalised(c) for c in every}) == len(every)  # no directory is two classes
    for family in ("trx", "clip_fsar"):
        assert {len(facts["checksums"][family][split]) for split in classes} == {64}
    same = facts["checksums"]["trx"] == facts["checksums"]["clip_fsar"]
    assert same is (name != "kinetics100")
    assert benchmarks.splits_of(name) == {s: tuple(sorted(c["name"] for c in v)) for s, v in classes.items()}


def test_texts_are_words() -> None:
    texts = {c["name"]: c["text"] for n in COUNTS for s in benchmarks.describe(n)["classes"].values() for c in s}
    assert texts["brush_hair"] == "brush hair" and texts["ApplyEyeMakeup"] == "apply eye makeup"
    assert texts["Closing [something]"] == "Closing something"
    assert texts["val0"] == "Holding something over something"  # of a label whose class another source names
    assert not [name for name, text in texts.items() if text is None]
    assert not [text for text in texts.values() if text and set(text) & set("[]_")]


@pytest.mark.parametrize("world", WORLDS)
def test_worlds_take_their_classes_from_the_code(world: str) -> None:
    splits = benchmarks.splits_of(world)
    assert splits == {s: tuple(sorted(c)) for s, c in worlds.classes(world).items()}
    facts = benchmarks.describe(world)
    assert facts["counts"] == {split: len(classes) for split, classes in splits.items()}
    assert facts["clips_per_class"] == {split: worlds.clips(world, split) for split in splits}
    assert facts["directional"] is (world not in KINDS) and facts["name"] == facts["ids"] == world
    assert "not a benchmark of the field" in (benchmarks.catalogue() / f"{world}.yaml").read_text().lower()


STANDARD = {  # classes; train and test videos of each standard split, None where no whole source was at hand
    "official:hmdb51": (51, [(3570, 1530)] * 3),
    "official:kinetics400": (400, [(None, None)]),
    "official:ssv2": (174, [(None, 24777)]),
    "official:ucf101": (101, [(9537, 3783), (9586, 3734), (9624, 3696)]),
}


def test_every_entry_of_the_catalogue_is_of_its_form() -> None:
    assert entries.every() == (*benchmarks.names(), *STANDARD)
    for name in entries.every():
        made = entries.entry(name)
        assert made.name == name and made.videos().keys() == made.texts().keys()
    for name, (classes, videos) in STANDARD.items():
        made = entries.entry(name)
        assert len(made.classes) == classes and made.standard_splits == len(videos)
        assert list(made.videos().values()) == [number for pair in videos for number in pair]
        assert made.directional is (name == "official:ssv2")
        known = {
            (n, part) for n, pair in enumerate(videos, 1) for part, v in zip(("train", "test"), pair, strict=True) if v
        }
        assert {(n, part) for n, sums in made.checksums.items() for part in sums} == known
        short = name.removeprefix("official:")
        assert made.title == official.OFFICIAL[short].title and made.directional is official.OFFICIAL[short].directional
        if short in ("ucf101", "hmdb51"):  # the loader makes texts of names: the catalogue says the same
            assert {c.name: c.text for c in made.classes} == {c.name: official.spaced(c.name) for c in made.classes}
    assert {c.name for c in entries.entry("official:ucf101").classes} == _classes("ucf101")
    assert {c.name for c in entries.entry("official:hmdb51").classes} == _classes("hmdb51")
    assert {c.name for c in entries.entry("official:kinetics400").classes} > _classes("kinetics100")
    sthsth = {benchmarks.normalised(c.name) for c in entries.entry("official:ssv2").classes}
    texts = [t for n in ("ssv2_full", "ssv2_small") for c in entries.entry(n).texts().values() for t in c.values()]
    assert {benchmarks.normalised(text) for text in texts} <= sthsth


def _classes(name: str) -> set[str]:
    return {cls for classes in benchmarks.splits_of(name).values() for cls in classes}


SPOILT = [
    ({"frames": 0}, "frames: Input should be greater"),
    ({"licences": "x"}, "licences: Extra inputs"),
    ({"prompt": "a photo"}, "prompt: String should match"),
    ({"name": "hmdb"}, "its name is 'hmdb', not 'hmdb51'"),
    ({"checksums": {"trx": {"train": "0" * 64}}}, "the entry: Value error, checksums and classes name different"),
    ({"label_order": {"val": [0, 0]}}, "label_order of val is no order of its classes"),
]


@pytest.mark.parametrize(("spoilt", "words"), SPOILT, ids=str)
def test_an_entry_of_another_form_is_named(spoilt: dict, words: str, tmp_path: Path, monkeypatch) -> None:
    facts = yaml.safe_load((benchmarks.catalogue() / "hmdb51.yaml").read_text()) | spoilt
    (tmp_path / "hmdb51.yaml").write_text(yaml.safe_dump(facts))
    monkeypatch.setattr(benchmarks, "catalogue", lambda: tmp_path)
    with pytest.raises(UserError, match=words):
        entries.entry.__wrapped__("hmdb51")


def test_unknown_names_are_answered_with_the_known() -> None:
    with pytest.raises(UserError, match=r"dataset: 'nowhere' is not known; give motion, .*folder:PATH"):
        benchmarks.load("nowhere")
    with pytest.raises(UserError, match="did you mean 'hmdb51'"):
        benchmarks.splits_of("hmdb_51")
    with pytest.raises(UserError, match="did you mean 'official:ucf101'"):
        entries.entry("oficial:ucf101")
    with pytest.raises(UserError, match="'folder:' lacks its path"):
        benchmarks.load("folder:")


def test_folders_load_by_name(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "mine")
    manifest = benchmarks.load(f"folder:{root}")
    splits = {split: manifest.classes(split) for split in manifest.splits}
    assert benchmarks.splits_of(f"folder:{root}") == splits and sorted(map(len, splits.values())) == [2, 2, 2]


def test_absent_videos_name_the_benchmark_and_what_it_expects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDLIB_DATA", str(tmp_path))
    said = rf"dataset ucf101: the videos of UCF101 few-shot are absent; expected .*{tmp_path}/ucf101/<class>/<video"
    with pytest.raises(UserError, match=said) as error:
        benchmarks.load("ucf101")
    assert "train 70 classes with 9154 videos" in str(error.value) and "Central Florida" in str(error.value)


def _copy(root: Path, name: str, directories: dict[str, int], ending: str = "avi") -> None:
    for directory, number in directories.items():
        (root / name / directory).mkdir(parents=True)
        for i in range(number):
            (root / name / directory / f"clip {i}.{ending}").write_bytes(b"x")


def test_a_partial_copy_is_counted_against_the_published_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDLIB_DATA", str(tmp_path))
    _copy(tmp_path, "ucf101", {"apply eye_makeup": 3, "Archery": 2, "HIGHJUMP": 2})
    with pytest.raises(UserError, match="the videos of UCF101 few-shot of its split test are absent"):
        benchmarks.load("ucf101")
    _copy(tmp_path, "ucf101", {"diving": 4, "not a class": 9})
    manifest = benchmarks.load("ucf101")
    assert manifest.classes("train") == ("ApplyEyeMakeup", "Archery") and manifest.classes("test") == ("Diving",)
    assert manifest.text("ApplyEyeMakeup") == "apply eye makeup" and manifest.directional is False
    coverage = manifest.coverage()
    assert coverage.table[["listed", "present"]].values.tolist() == [[9154, 5], [1421, 2], [2745, 4]]
    assert "train/ApplyEyeMakeup: 142 of 145 videos" in coverage.missing
    assert "train holds 5 videos and is not the published list of 9154" in manifest.note


def test_labels_and_web_ids_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDLIB_DATA", str(tmp_path))
    _copy(tmp_path, "ssv2_full", {"train1": 1, "val0": 1, "Picking something up": 1, "holding  something": 2}, "webm")
    manifest = benchmarks.load("ssv2_full")
    assert manifest.classes("train") == ("Closing [something]", "Holding [something]") and manifest.directional is True
    assert (
        manifest.classes("test") == ("Picking [something] up",)
        and manifest.text("val0") == "Holding something over something"
    )
    _copy(tmp_path, "ssv2_full", {"Showing something to the camera": 2}, "webm")  # the class of label val9
    assert benchmarks.load("ssv2_full").classes("val") == ("val0", "val9")
    root = tmp_path / "kinetics100"
    for cls in ("bowling", "baking_cookies", "busking"):
        (root / cls).mkdir(parents=True)
        (root / cls / f"-abc_{cls[:6]}_000012_000022.mp4").write_bytes(b"x")
        (root / cls / "holiday_000001.mp4").write_bytes(b"x")
    ids = [row.video for row in benchmarks.load("kinetics100").videos("train")]
    assert ids == ["bowling/-abc_bowlin", "bowling/holiday_000001"]


def test_a_whole_copy_is_recognised_by_its_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDLIB_DATA", str(tmp_path))
    names = {"train": "Archery", "val": "HighJump", "test": "Diving"}
    for cls in names.values():
        write_clip(tmp_path / "tiny" / cls / f"v_{cls}_g01_c01.avi")
    lines = {split: hashlib.sha256(f"{cls}/v_{cls}_g01_c01\n".encode()).hexdigest() for split, cls in names.items()}
    facts = {
        "name": "tiny", "title": "Tiny", "directional": False, "where": "here",
        "checksums": {"trx": lines, "clip_fsar": {**lines, "train": "0"}},
        "classes": {split: [{"name": cls, "text": cls, "videos": 1}] for split, cls in names.items()},
    }  # fmt: skip
    monkeypatch.setattr(benchmarks, "describe", lambda name: facts)
    note = benchmarks.load("tiny").note
    assert "train is the published list (trx)" in note and "test is the published list (trx and clip_fsar)" in note
    assert "not comparable" not in note
