"""Episodes across data sets, runs that start from others, and texts that a user gives: what is trained and tested."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.data.small import write_clip, write_folder
from vidlib.basics.errors import UserError
from vidlib.params.by_recipe import FewShotNotebookParams, untrained
from vidlib.params.few_shot import MAFSARParams, RunParams
from vidlib.results.accuracy import Evaluation
from vidlib.studies import few_shot as study
from vidlib.studies import repetition
from vidlib.studies.paper_against_ours import groups
from vidlib.studies.tables import data_name
from vidlib.training import across, checkpoints, few_shot
from vidlib.training.evaluate_episodes import evaluate
from vidlib.training.run import identity

SIZE = {"way": 2, "frames": 2, "train_episodes": 2, "val_episodes": 2, "val_every": 2, "test_episodes": 6}
HERE = {"device": "cpu", "precision": "32-true", "pretrained": ""}
SEEN = "Class 2"  # of the other folder's test classes the one that the first folder trains on, as class2


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """``first`` trains on class2 among others; ``other`` has other videos, and tests on that class, too."""
    root = tmp_path_factory.mktemp("folders")
    first = write_folder(root / "first", classes=7, clips=3)
    names = {"train": ["a", "b"], "val": ["c", "d"], "test": ["new one", "new two", SEEN]}
    for number, name in enumerate(name for split in names.values() for name in split):
        for i in range(3):
            write_clip(root / "other" / name / f"{i}.mp4", frames=5 + i, shade=7 + 13 * number)
    (root / "other" / "splits.yaml").write_text(json.dumps(names))
    return {"first": first, "other": root / "other", "root": root}


@pytest.fixture
def params(folders):
    """The parameters of a small run from ``first`` to ``other``."""

    def make(**given) -> RunParams:
        data = {"dataset": f"folder:{folders['first']}", "test_dataset": f"folder:{folders['other']}"}
        return RunParams.parse(HERE | SIZE | data | {"runs": str(folders["root"] / "runs"), **given})

    return make


def ids(*given: RunParams) -> list[str]:
    return [identity(few_shot.work(p)).id for p in given]


def written(path: Path, texts: dict) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(texts))
    return str(path)


def test_a_class_of_both_is_named_and_left_out(params):
    made = few_shot.open_manifest(few_shot.checked(params()))
    assert made.classes("test") == ("new one", "new two") and made.overlap == (SEEN,)
    assert "tested on folder:other; 1 of its classes are in both and left out: Class 2." in made.note
    assert made.note.count("\n") == 0 and "folder:first" in made.note and "folder:other" in made.note
    alone = few_shot.open_manifest(params(test_dataset=""))
    assert [made.videos(split) for split in ("train", "val")] == [alone.videos(split) for split in ("train", "val")]
    kept = few_shot.open_manifest(params(remove_overlap=False))
    assert kept.overlap == made.overlap and "kept: Class 2." in kept.note
    other = few_shot.open_manifest(params(test_dataset="", dataset=params().test_dataset))
    assert kept.checksum("test") == other.checksum("test") and len(kept.videos("test")) == 9
    assert data_name(made) == "folder:first to folder:other"


def test_a_video_of_both_is_found_whatever_it_is_called(params, folders, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(folders["other"], other)
    train = few_shot.open_manifest(params())
    seen = [train.path(train.videos(split)[0]) for split in ("train", "val")]
    (other / "new one" / "copy.mp4").write_bytes(seen[0].read_bytes())
    (other / "new two" / "link.mp4").symlink_to(seen[1])
    p = params(test_dataset=f"folder:{other}")
    made = few_shot.open_manifest(p)
    assert made.overlap == (SEEN, "new one/copy.mp4", "new two/link.mp4") and len(made.videos("test")) == 6
    assert "1 of its classes and 2 of its other videos are in both and left out" in made.note
    few_shot.work(p).refuse_test_data()
    with pytest.raises(UserError, match="link.mp4 is the same file as val video .*nothing is selected on"):
        few_shot.work(p.model_copy(update={"remove_overlap": False})).refuse_test_data()


def test_a_run_is_the_trained_one_tested_on_the_other_set(params):
    p = params()
    across, alone = few_shot.run(p), few_shot.run(params(test_dataset=""))
    files = [run.path("checkpoint.safetensors") for run in (across, alone)]
    here, there = (checkpoints.read(file)[0] for file in files)
    assert all(torch.equal(here[name], there[name]) for name in here.keys() | there.keys())
    by_hand = few_shot.open_manifest(params(dataset=p.test_dataset, test_dataset=""))
    by_hand = by_hand.without({row: "seen" for row in by_hand.videos("test") if row.cls == SEEN})
    method, test = few_shot.open_trained(alone, by_hand, "test")
    found = evaluate(method, test.clips, test.sampler, p.test_episodes, test.text, device="cpu")
    kept = Evaluation.load(across.path("episodes.npz"))
    assert np.array_equal(found.per_trial, kept.per_trial) and found.checksum == kept.checksum
    result = across.result
    assert result["overlap"] == [SEEN]
    of = {line["split"]: (line["of"], line["checksum"]) for line in result["coverage"]}
    assert of["train"] == ("folder:first", few_shot.open_manifest(p).checksum("train"))
    assert of["test"] == ("folder:other", by_hand.checksum("test"))
    again, split = few_shot.open_trained(across, few_shot.open_manifest(p), "test")
    assert split.sampler.classes == ("new one", "new two") and not again.training
    assert "overlap" not in alone.result


def test_the_other_set_what_is_removed_and_the_start_make_another_run(params, folders, tmp_path):
    run = few_shot.run(params(test_dataset=""))
    one, alone, kept, start = ids(
        params(), params(test_dataset=""), params(remove_overlap=False), params(init=str(run.folder))
    )
    assert len({one, alone, kept, start}) == 4
    moved = tmp_path / "moved" / "other"
    shutil.copytree(folders["other"], moved)
    shutil.copytree(run.folder, tmp_path / "run")
    assert ids(params(test_dataset=f"folder:{moved}"), params(init=str(tmp_path / "run"))) == [one, start]


def test_a_run_starts_from_anothers_weights(params, folders):
    first = few_shot.run(params(test_dataset=""))
    stored, _ = checkpoints.read(first.path("checkpoint.safetensors"))
    on = {"dataset": params().test_dataset, "test_dataset": "", "init": str(first.folder)}
    own = checkpoints.trainable_state(few_shot.open_method(params(**on)))
    assert all(torch.equal(own[name], value) for name, value in stored.items())
    with pytest.raises(UserError, match=r"trained or selected on 1 classes that test holds as new ones \(Class 2\)"):
        few_shot.run(params(**on))
    between = few_shot.run(params(test_dataset="", init=str(first.folder), seed=1))  # what it started from counts, too
    across.refuse_start(
        str(between.folder), RunParams, few_shot.open_manifest, few_shot.open_manifest(params(test_dataset=""))
    )
    opened = []
    with pytest.raises(UserError, match=f"init: {re.escape(str(first.folder))} was trained or selected on 1 classes"):
        across.refuse_start(
            str(between.folder),
            RunParams,
            lambda p: (
                opened.append(p.seed)
                or few_shot.open_manifest(p.model_copy(update={"dataset": "scene"} if p.init else {}))
            ),
            few_shot.open_manifest(params(**on)),
        )
    assert opened == [1, 0]
    tested = few_shot.run(params(init=str(first.folder), train_episodes=0))
    other = few_shot.run(params())
    assert tested.result["test"]["accuracy"] == other.result["test"]["accuracy"] and tested.result["fit"] is None
    with pytest.raises(UserError, match="init: .* is a run with method ma_fsar, whose weights do not fit aim"):
        few_shot.open_method(params(method="aim", init=str(first.folder)))
    with pytest.raises(UserError, match="does not fit MAFSAR: it lacks"):
        few_shot.open_method(params(metric="trx", init=str(first.folder), frames=3))
    shorter = {"init": str(folders["root"] / "nowhere")}
    with pytest.raises(UserError, match="init: .*nowhere is no folder of a finished run"):
        few_shot.checked(params(**shorter))


def test_what_stands_beside_a_run_is_tested_on_the_same_and_starts_from_none(params):
    given = {"test_dataset": "scene", "remove_overlap": False, "init": "before", "texts": "t.yaml", "template": "{}"}
    notebook = FewShotNotebookParams(method="aim", **given)
    for other in (
        notebook.run_params("otam"),
        untrained(notebook.run_params()),
        MAFSARParams(**given).run_params("aim"),
    ):
        assert (other.test_dataset, other.remove_overlap, other.init) == ("scene", False, "")
        assert other.texts.endswith("t.yaml") and other.templates == ("{}",)
    assert notebook.run_params().init.endswith("before")
    plain = FewShotNotebookParams(method="otam")
    assert plain.as_recipe and not any(
        FewShotNotebookParams(method="otam", **{name: given[name]}).as_recipe for name in ("test_dataset", "texts")
    )


def test_a_table_of_one_data_set_holds_no_run_across_two(params):
    import pandas as pd

    run = few_shot.run(params())
    row = {**run.params, "id": run.id, "result.test.accuracy": 0.5, "result.test.interval": 0.1, "seed": 0}
    row |= {"result.finished": "2026", "result.coverage": run.result["coverage"], "result.cost.trainable": 1}
    one = row | {"result.test.episodes": 1000, "dataset": "motion", "test_dataset": "scene"}
    assert {g["dataset"] for g in groups(pd.DataFrame([one, one | {"test_dataset": ""}]))} == {
        "motion",
        "motion to scene",
    }
    assert "starts from another run (init)" in repetition.apart(one | {"init": "before"}, {}, None)
    assert "starts from another run (init)" not in repetition.apart(one, {}, None)


# ---------------------------------------------------------------- texts


TEXTS = {f"class{c}": [f"a grey picture {c}", f"number {c} of a row"] if c % 2 else f"shade {c}" for c in range(7)}


def test_descriptions_and_templates_are_averaged_over_a_class(params, tmp_path):
    p = params(test_dataset="", texts=written(tmp_path / "t.yaml", TEXTS), template=["a {}", "{} again"])
    made, tower = few_shot.open_manifest(few_shot.checked(p)), few_shot.open_backbone(p)
    split = few_shot.open_split(p, made, tower, "train")
    for cls, text in zip(split.sampler.classes, split.text, strict=True):
        given = [TEXTS[cls]] if isinstance(TEXTS[cls], str) else TEXTS[cls]
        each = [tower.encode_text([template.replace("{}", t)], ("{}",)) for template in p.templates for t in given]
        assert torch.allclose(text, torch.cat(each).mean(0), atol=1e-5)
    table = study.class_texts(made)
    assert table.loc[("train", "class2"), "texts"] == "shade 2" and len(table) == 7
    assert table.loc[("test", "class1"), "texts"] == "a grey picture 1 | number 1 of a row"
    plain = few_shot.open_split(p, few_shot.open_manifest(params(test_dataset="")), tower, "train")
    assert not torch.allclose(split.text, plain.text)


def test_an_id_holds_what_the_texts_say_and_not_where_they_lie(params, tmp_path):
    def of(name: str, texts: dict) -> RunParams:
        return params(test_dataset="", texts=written(tmp_path / name, texts))

    one, moved, other = ids(of("t.yaml", TEXTS), of("moved/u.yaml", TEXTS), of("v.yaml", TEXTS | {"class1": "else"}))
    assert one == moved and len({one, other, *ids(params(test_dataset=""))}) == 3
    lists = ids(params(test_dataset="", template=["{}"]), params(test_dataset="", template="{}"))
    assert lists[0] == lists[1] != ids(params(test_dataset="", template=["{}", "a {}"]))[0]


def test_texts_reach_both_data_sets_and_long_ones_are_named(params, tmp_path, capsys):
    long = "a hand that goes up and down " * 40
    texts = TEXTS | {"new one": long, "new two": ["two", "a pair"]}
    p = params(texts=written(tmp_path / "t.yaml", texts))
    made = few_shot.open_manifest(few_shot.checked(p))
    assert made.texts("new two") == ("two", "a pair") and made.text("new two") == "new two"
    few_shot.open_split(p, made, few_shot.open_backbone(p), "test")
    assert re.search(r"cut to the \d+ tokens that .*: 'a photo of a hand that goes", capsys.readouterr().out)
    with pytest.raises(UserError, match="lacks 1 of the classes: Class 2"):
        few_shot.open_manifest(p.model_copy(update={"remove_overlap": False}))


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (TEXTS | {"clas1": "x"}, r"describes 'clas1', which is no class of the data \(did you mean 'class1'\?\)"),
        ({name: text for name, text in TEXTS.items() if name != "class3"}, "lacks 1 of the classes: class3; describe"),
        (TEXTS | {"class1": []}, r"gives class 'class1' no text \(\[\]\); write class: text, or class: \[text, text\]"),
        (TEXTS | {"class1": 3}, r"gives class 'class1' no text \(3\)"),
        (TEXTS | {"class1": ["a", " "]}, "gives class 'class1' no text"),
        (["class1"], "does not map classes to texts"),
    ],
    ids=str,
)
def test_texts_that_do_not_fit_are_refused_before_anything_is_opened(params, tmp_path, texts, words):
    with pytest.raises(UserError, match=words) as error:
        few_shot.checked(params(test_dataset="", texts=written(tmp_path / "t.yaml", texts)))
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------- what cannot work


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"test_dataset": "motion"}, "test_dataset: motion is dataset itself; leave it empty"),
        ({"test_dataset": "sceen"}, "'sceen' is not known.*did you mean 'scene'"),
        ({"test_dataset": "folder:nowhere"}, "nowhere does not exist"),
        ({"texts": "nowhere.yaml"}, "texts: the file .*nowhere.yaml does not exist"),
        ({"template": ["a {}", "b"]}, r"template: 'b' should have one \{\}"),
        ({"template": []}, r"template: \[\] should have one"),
        ({"template": "[a"}, r"template: '\[a' cannot be read as a list"),
        (
            {"dataset": "scene", "test_dataset": "moving_shapes_scene", "way": 12},
            "the 11 classes of split test of moving_shapes_scene that scene does not train or select on; give at most",
        ),
    ],
    ids=str,
)
def test_what_cannot_work_is_named_at_once(given, words, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=words):
        few_shot.checked(RunParams.parse({"dataset": "motion", "runs": str(tmp_path)} | given))


def test_a_list_of_templates_may_be_text():
    assert RunParams.parse({"template": "['a {}', 'b {}']"}).templates == ("a {}", "b {}")
    assert RunParams.parse({"template": ["a {}"]}).template == "a {}"
