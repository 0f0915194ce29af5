"""Numbers of incomplete data say so; what did not decode is in the record; test videos are refused where one learns."""

import os
from pathlib import Path

import pytest

from tests.data.small import write_clip, write_folder
from vidlib.basics.errors import UserError
from vidlib.data import prefetched
from vidlib.data.catalogue import benchmarks, used
from vidlib.data.manifest import Manifest, Row
from vidlib.data.protocols import plan
from vidlib.params.by_recipe import ComparisonParams, FewShotNotebookParams, untrained
from vidlib.params.few_shot import RunParams
from vidlib.params.video_text import VideoTextRunParams
from vidlib.results import runs, trust
from vidlib.studies import comparison
from vidlib.studies import few_shot as study
from vidlib.training import few_shot, video_text
from vidlib.training.run import identity

SIZE = {"way": 2, "frames": 2, "train_episodes": 4, "val_episodes": 1, "val_every": 4, "test_episodes": 4}
TOWER = {"backbone": "clip-mini", "pretrained": "clip-mini", "device": "cpu", "workers": 0}


@pytest.fixture(scope="module")
def partial(tmp_path_factory):
    """A comparison on a part of UCF101 few-shot, one training and one test video of which do not decode."""
    root = tmp_path_factory.mktemp("partial")
    before = {name: os.environ.get(name) for name in ("VIDLIB_DATA", "VIDLIB_CACHE")}
    os.environ.update(VIDLIB_DATA=str(root / "data"), VIDLIB_CACHE=str(root / "cache"))
    folder = root / "data" / "ucf101"
    for shade, name in enumerate(("Archery", "ApplyEyeMakeup", "HorseRiding", "HighJump", "Diving", "GolfSwing")):
        for i in range(6):
            write_clip(folder / name / f"{i}.avi", frames=4 + i, shade=9 * shade)
    for name in ("Archery/0", "Archery/1", "Diving/2"):
        (folder / f"{name}.avi").write_bytes(b"broken" * 40)
    given = {**SIZE, **TOWER, "dataset": "ucf101", "method": "otam", "runs": str(root / "runs")}
    p = FewShotNotebookParams.parse(given)
    try:
        yield p, {"otam": [few_shot.run(p.run_params())], "untrained": [few_shot.run(untrained(p.run_params()))]}
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def test_a_result_holds_what_was_really_used(partial) -> None:
    p, found = partial
    result, manifest = found["otam"][0].result, few_shot.open_manifest(p)
    lines = {line["split"]: line for line in result["coverage"]}
    assert lines["test"]["used"] == 11 and list(lines["test"]["left_out"]) == ["Diving/2.avi"]
    assert lines["train"]["used"] == 12 and lines["train"]["listed"] == 9154 and not lines["train"]["left_out"]
    assert {split: line["checksum"] for split, line in lines.items()} == {s: manifest.checksum(s) for s in lines}
    assert all(line["published"] == [] for line in lines.values())


def test_every_table_says_that_the_data_are_incomplete(partial) -> None:
    p, found = partial
    said = "train 12 of 9,154, val 12 of 1,421, test 11 of 2,745 videos"
    for table in (comparison.table(ComparisonParams(against="otam"), found), study.result_table(found)):
        assert (table["data"] == said).all() and list(table.columns).index("data") <= 2
    assert (study.differences(found, "otam")["data"] == said).all()
    whole = {"coverage": [{"split": "test", "listed": 5, "present": 5, "of": "split test"}]}
    assert trust.incomplete(whole) == "" and trust.incomplete({}) == ""


def test_what_was_replaced_in_training_is_in_the_result_and_in_the_protocol(partial) -> None:
    p, found = partial
    run = found["otam"][0]
    lost = run.result["replaced"]
    assert {one["video"] for one in lost} == {"Archery/0", "Archery/1"}
    assert all(one["times"] == 4 and one["cause"] for one in lost), "an episode draws all six of the class"
    assert sum(one["times"] for one in lost) == sum(len(line) for line in run.metrics()["replaced"].dropna())
    (line,) = [line for line in trust.replaced_lines(found) if run.id in line]
    assert lost[0]["video"] in line and lost[0]["cause"] in line
    said = trust.coverage_line(run.result)
    assert "test 11 of 2,745 listed videos (1 cannot be read and are left out: Diving/2.avi)" in said


def test_a_test_video_that_fails_later_stops_the_evaluation_with_its_name(partial) -> None:
    p, found = partial
    manifest = few_shot.open_manifest(p)
    method, test = few_shot.open_trained(found["otam"][0], manifest, "test")
    row = manifest.videos("test")[0]
    kept = manifest.path(row).read_bytes()
    manifest.path(row).write_bytes(b"broken since")
    try:
        with pytest.raises(UserError, match=rf"^[^\n]*{row.video}\.avi cannot be decoded \([^\n]*never puts another"):
            few_shot.evaluate(method, test.clips, test.sampler, 8, test.text, device="cpu")
    finally:
        manifest.path(row).write_bytes(kept)


def test_coverage_of_a_protocol_is_that_of_what_it_was_made_of() -> None:
    rows = [
        Row(f"{split}/{c}/{v}", f"{split}{c}", split)
        for split in ("train", "val", "test")
        for c in "ab"
        for v in range(8)
    ]
    listed = {split: {f"{split}{c}": 10 for c in "ab"} for split in ("train", "val", "test")}
    base = Manifest("part", tuple(rows), Path("nowhere"), {row.video: row.video for row in rows}, listed=listed)
    made = plan(base, "zero_shot").manifest
    assert [(line["listed"], line["of"]) for line in used.record(made, [base])] == [(20, f"split {s}") for s in listed]
    divided = plan(base, "closed_set").manifest
    assert {(line["listed"], line["of"]) for line in used.record(divided, [base])} == {(60, "part")}
    lines = used.record(divided, [base])
    assert [line["used"] for line in lines] == [len(divided.videos(line["split"])) for line in lines]
    assert trust.incomplete({"coverage": lines}) == "part 0 of 60 videos", "none of the files is there"


# ---------------------------------------------------------------- guards


def _two(tmp_path: Path) -> Manifest:
    rows = tuple(Row(f"{split}/{c}", c, split) for split, classes in (("train", "ab"), ("test", "cd")) for c in classes)
    manifest = Manifest("mine", rows, tmp_path, {row.video: f"{row.video}.mp4" for row in rows})
    for i, row in enumerate(rows):
        write_clip(manifest.path(row), shade=30 * i)
    return manifest


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_one_file_under_two_names_is_not_trained_and_tested(tmp_path: Path, link) -> None:
    manifest = _two(tmp_path)
    trust.refuse_shared(manifest, contents=True)
    (tmp_path / "test" / "c.mp4").unlink()
    link(tmp_path / "train" / "b.mp4", tmp_path / "test" / "c.mp4")
    with pytest.raises(
        UserError, match=r"mine: test video test/c\.mp4 is the same file as train video train/b\.mp4; noth"
    ):
        trust.refuse_shared(manifest, contents=False)


def test_a_copy_of_a_test_video_among_ones_own_training_videos_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "clips", classes=7, clips=3)
    given = {**SIZE, **TOWER, "dataset": f"folder:{folder}", "method": "protonet", "runs": str(tmp_path / "runs")}
    p = few_shot.RunParams.parse(given)
    manifest = few_shot.open_manifest(p)
    for split, verb in (("train", "trained"), ("val", "selected")):
        own, tested = manifest.path(manifest.videos(split)[0]), manifest.path(manifest.videos("test")[1])
        kept = own.read_bytes()
        own.write_bytes(tested.read_bytes())
        with pytest.raises(
            UserError, match=f"test video .* has the same content as {split} video .*nothing is {verb} on"
        ):
            few_shot.run(p)
        own.write_bytes(kept)
    assert not (tmp_path / "runs").exists()


def test_weights_that_have_seen_the_test_list_are_no_start(tmp_path: Path, capsys) -> None:
    folder = write_folder(tmp_path / "clips", classes=8, clips=4)
    given = {"dataset": f"folder:{folder}", "frames": 2, "batch": 2, "pretrained": "", "device": "cpu"}

    def before(**more) -> str:
        home = tmp_path / f"run{len(list(tmp_path.glob('run*')))}"
        home.mkdir()
        runs.write_json(home / "params.json", dict(VideoTextRunParams.parse({**given, **more}).model_dump(mode="json")))
        return str(home)

    def start(init: str, **more) -> None:
        p = VideoTextRunParams.parse({**given, "init": init, **more})
        video_text.refuse_test_data(p, video_text.open_plan(p))

    seen, novel = before(), before(protocol="kshot", train_per_class=1)
    with pytest.raises(UserError, match=r"init: \S+ was trained or selected on \d+ of the \d+ test videos \("):
        start(novel, protocol="zero_shot")
    start(seen, protocol="zero_shot")
    start(seen, protocol="kshot", train_per_class=1)
    with pytest.raises(UserError, match="novel videos"):
        start(novel, protocol="base_to_novel")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "cannot be found out" not in capsys.readouterr().out
    start(str(empty), protocol="zero_shot")
    assert "init: what" in (said := capsys.readouterr().out) and "cannot be found out" in said


def test_weights_of_another_data_set_are_no_start_for_its_classes_as_new_ones(tmp_path: Path) -> None:
    after = _two(tmp_path)
    for split in ("train", "val"):
        rows = (Row("x/1", "Class_C", split), Row("x/2", "e", "train"))
        files = {row.video: row.video for row in rows}
        before = Manifest("other", rows, tmp_path / "other", files, prompts={"Class_C": "C"})
        _is_no_start(before, after)
    trust.refuse_start("run7", Manifest("other", rows[1:], tmp_path / "other", {"x/2": "x/2"}), after)


def _is_no_start(before: Manifest, after: Manifest) -> None:
    with pytest.raises(
        UserError, match=r"init: run7 was trained or selected on 1 classes that test holds as new ones \(c\)"
    ):
        trust.refuse_start("run7", before, after)


def test_two_benchmarks_that_cut_one_source_share_its_ids(tmp_path: Path) -> None:
    """A video has one id in SSv2-Full and SSv2-Small, whatever class each puts it into."""
    full = (Row("Some class/77", "Some class", "train"), Row("Some class/78", "Some class", "test"))
    before = Manifest("ssv2_full", full, tmp_path / "a", {row.video: row.video for row in full})
    small = (Row("Another/77", "Another", "test"), Row("A third/79", "A third", "train"))
    after = Manifest("ssv2_small", small, tmp_path / "b", {row.video: row.video for row in small})
    with pytest.raises(UserError, match=r"run7 was trained or selected on 1 of the 1 test videos \(Another/77\)"):
        trust.refuse_start("run7", before, after)
    trust.refuse_start("run7", Manifest("ucf101", full, tmp_path / "a", before.files), after)


def test_the_name_of_incomplete_data_carries_their_coverage(tmp_path: Path) -> None:
    (tmp_path / "here.avi").touch()
    rows = (Row("a/1", "a", "test"), Row("a/2", "a", "test"))
    manifest = Manifest("ssv2_small", rows, tmp_path, {"a/1": "here.avi", "a/2": "gone.avi"})
    assert study.data_name(manifest) == "ssv2_small (test 1 of 2 videos)"
    (tmp_path / "gone.avi").touch()
    assert study.data_name(manifest) == "ssv2_small"


def test_worlds_are_not_asked(monkeypatch) -> None:
    monkeypatch.setattr(trust, "refuse_shared", lambda *_, **__: pytest.fail("rendered by vidlib, apart by making"))
    p = VideoTextRunParams.parse({"dataset": benchmarks.WORLDS[0], "pretrained": ""})
    video_text.refuse_test_data(p, plan(_listed(), "zero_shot"))


def _listed() -> Manifest:
    rows = tuple(Row(f"{s}{c}{v}", f"{s}{c}", s) for s in ("train", "val", "test") for c in "ab" for v in range(3))
    return Manifest(benchmarks.WORLDS[0], rows, Path("nowhere"), {row.video: row.video for row in rows})


def test_prefetched_frames_make_another_run(tmp_path, monkeypatch):
    """They were resized once more than decoded ones, so that a result of theirs is not one of decoded frames."""
    params = RunParams(dataset=f"folder:{write_folder(tmp_path / 'clips')}", pretrained="")
    manifest = benchmarks.load(params.dataset)
    decoded = identity(few_shot.work(params, manifest))
    monkeypatch.setattr(prefetched, "note", lambda name: f"Frames of {name} were prefetched.")
    kept = identity(few_shot.work(params, manifest))
    assert kept.values == decoded.values
    assert kept.contents == decoded.contents | {"frames": f"Frames of {manifest.name} were prefetched."}
