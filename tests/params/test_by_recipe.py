"""What is left open is as the recipe says, what is given wins, and each run is named by what determines it."""

from pathlib import Path

import pytest
import yaml

from vidlib import methods
from vidlib.basics.errors import UserError
from vidlib.params import base, recipes
from vidlib.params.by_recipe import (
    MIXED_EPISODES,
    ComparisonParams,
    FewShotNotebookParams,
    GgHMParams,
    SloshNetParams,
    YourMethodParams,
    by_recipe,
    frozen,
    untrained,
)
from vidlib.params.few_shot import METHOD_NAMES, RunParams
from vidlib.params.tools import TowersParams
from vidlib.params.video_text import VIDEO_TEXT_NAMES
from vidlib.studies import ablations

FOLDERS = (Path(__file__).resolve().parents[2] / "recipes").iterdir()
RECIPES = sorted(file for folder in FOLDERS if folder.name not in VIDEO_TEXT_NAMES for file in folder.glob("*.yaml"))

OF_PAPERS = {"sloshnet": SloshNetParams}
PAPERS = [file for file in RECIPES if file.parent.name in OF_PAPERS and file.stem != "laptop"]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with two recipes of TRX and the start values of a user's method."""
    small = "backbone: resnet-mini\npretrained: resnet-mini\nlr: 3.0e-4\noptions: {dropout: 0.0}\n"
    for name, text in {
        "trx/motion.yaml": small,
        "trx/hmdb51_5shot.yaml": "method: trx\ndataset: hmdb51\nlr: 1.0e-3\ncardinalities: [2]\nseeds: 3\n",
        "your_method/motion.yaml": "lr: 5.0e-4\n",
    }.items():
        file = tmp_path / "recipes" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("# How to:\n#   papermill notebooks/few_shot.ipynb out.ipynb -f recipes/" + name + "\n" + text)
    monkeypatch.setattr(recipes.paths, "checkout", lambda: tmp_path)
    return tmp_path


def test_what_is_left_open_is_as_the_recipe_says(checkout, capsys):
    p = FewShotNotebookParams.parse({"method": "trx", "lr": None, "frames": None, "clip_grad": 0.5, "shot": 5})
    assert (p.lr, p.backbone, p.clip_grad, p.frames, p.shot) == (3e-4, "resnet-mini", 0.5, 8, 5)
    assert p.options == {"dropout": 0.0}
    p.show()
    said = capsys.readouterr().out
    given, recipe, default = said.splitlines()[:3]
    assert given == "given: shot 5, clip_grad 0.5"
    assert recipe.startswith("recipes/trx/motion.yaml: ") and "lr 0.0003" in recipe and "dropout" in recipe
    assert default.startswith("defaults: ") and "frames 8" in said and said.count("clip_grad") == 1
    FewShotNotebookParams.parse({"method": "otam", "device": "cpu"}).show()
    assert "given: method 'otam', device 'cpu'\notam has no recipe for motion\n" in capsys.readouterr().out


def test_what_is_given_wins_and_options_add_up(checkout):
    p = FewShotNotebookParams.parse({"method": "trx", "lr": 0.1, "options": "{cardinalities: [2], dropout: 0.2}"})
    assert p.lr == 0.1 and p.options == {"cardinalities": [2], "dropout": 0.2}
    run = p.run_params(seed=4)
    assert (run.method, run.lr, run.seed, run.options) == ("trx", 0.1, 4, p.options)
    assert p.changed() == {"lr": 0.1, "options": {"cardinalities": [2], "dropout": 0.2}}


def test_weights_belong_to_a_backbone(checkout):
    assert FewShotNotebookParams.parse({"method": "trx", "backbone": "clip-mini"}).pretrained == "clip-mini"
    with pytest.raises(UserError, match="pretrained"):
        FewShotNotebookParams.parse({"method": "trx", "backbone": "resnet50"})
    assert FewShotNotebookParams.parse({"method": "trx", "backbone": "resnet50", "pretrained": ""}).pretrained == ""


def test_a_recipe_of_another_data_set_and_parameters_of_its_notebook(checkout):
    p = FewShotNotebookParams.parse({"method": "trx", "dataset": "hmdb51", "shot": 5})
    assert p.lr == 1e-3 and p.options == {"cardinalities": [2]} and p.seeds == 1
    assert FewShotNotebookParams.parse({"method": "trx", "dataset": "hmdb51", "shot": 1}).lr == 1e-3, "none for 1 shot"
    assert FewShotNotebookParams.parse({"method": "trx", "dataset": "folder:x"}).lr == 3e-4
    file = recipes.find("trx", "hmdb51", 5)
    assert recipes.command(file) == "papermill notebooks/few_shot.ipynb out.ipynb -f recipes/trx/hmdb51_5shot.yaml"


def test_as_recipe_says_whether_anything_was_changed(checkout):
    cell = {"method": "trx", "lr": None, "shot": 1, "seeds": 3, "options": {}, "dataset": "motion"}
    assert FewShotNotebookParams.parse(cell).as_recipe
    assert FewShotNotebookParams.parse(cell | {"lr": 3e-4, "options": {"dropout": 0.0}}).as_recipe, (
        "what it says anyway"
    )
    for change in ({"lr": 1e-4}, {"shot": 5}, {"options": {"dropout": 0.1}}, {"method": "otam"}):
        assert not FewShotNotebookParams.parse(cell | change).as_recipe


def test_another_method_keeps_the_protocol_and_takes_its_own_recipe(checkout):
    p = FewShotNotebookParams.parse({"method": "otam", "frames": 4, "lr": 0.5, "train_episodes": 7, "shot": 2})
    other = p.run_params("trx")
    assert (other.frames, other.shot, other.lr, other.train_episodes) == (4, 2, 3e-4, 7)
    assert (other.backbone, other.pretrained) == ("clip-mini", "clip-mini"), "beside each other: on one backbone"
    assert other.options == {"dropout": 0.0}


def test_floors_keep_nothing_of_the_training(checkout):
    runs = [by_recipe("trx", {"dataset": "motion", "shot": 1, "lr": lr, "momentum": 0.5}) for lr in (0.1, 0.2)]
    assert runs[0] != runs[1]
    for floor in (frozen, untrained):
        assert floor(runs[0]) == floor(runs[1])
        assert floor(runs[0]).backbone == "resnet-mini"
    assert untrained(runs[0]).options == {"dropout": 0.0} and untrained(runs[0]).train_episodes == 0
    assert frozen(runs[0]).method == "frozen_clip" and frozen(runs[0]).options == {}


def test_a_method_of_ones_own_starts_from_its_recipe(checkout, tmp_path):
    p = YourMethodParams.parse({"method": "", "lr": None})
    assert p.lr == 5e-4 and p.planned == ("otam",)
    named = p.named(str(tmp_path / "mine.py") + ":Mine")
    assert named.method.endswith("mine.py:Mine") and "method" not in named.changed()
    given = YourMethodParams.parse({"method": "mine.py:Mine"})
    assert given.named("other.py:Other") is given and "method" in given.changed()


def test_a_comparison_takes_each_recipe_under_one_protocol(checkout):
    p = ComparisonParams.parse({"methods": "trx, protonet", "train_episodes": 0, "way": 3})
    assert p.compared == ("trx", "protonet", "otam")
    run = p.run_params("trx", seed=2)
    assert (run.lr, run.way, run.seed, run.train_episodes) == (3e-4, 3, 2, 800)
    small = ComparisonParams(train_episodes=5, backbone="clip-mini").run_params("trx")
    assert (small.train_episodes, small.val_episodes, small.pretrained) == (5, 0, "clip-mini")
    assert set(ComparisonParams().compared) == set(METHOD_NAMES) - {"frozen_clip"}


@pytest.mark.parametrize(
    ("model", "given", "words"),
    [
        (FewShotNotebookParams, {"method": "txr"}, ["method", "'txr'", "did you mean 'trx'"]),
        (FewShotNotebookParams, {"method": "mine.py"}, ["FILE.py:CLASS"]),
        (FewShotNotebookParams, {"compare": "otam,trxx"}, ["compare", "'trxx'", "'trx'"]),
        (FewShotNotebookParams, {"shoot": 1}, ["'shoot'", "'shot'"]),
        (FewShotNotebookParams, {"options": "[1]"}, ["options", "{name: value"]),
        (FewShotNotebookParams, {"options": "a: ["}, ["options", "{name: value"]),
        (FewShotNotebookParams, {"options": 5}, ["options"]),
        (ComparisonParams, {"methods": "otam,trxx"}, ["methods", "'trxx'"]),
        (ComparisonParams, {"methods": ""}, ["methods"]),
        (ComparisonParams, {"against": "ottam"}, ["against", "'otam'"]),
    ],
)
def test_a_wrong_parameter_is_named_in_one_sentence(model, given, words):
    with pytest.raises(UserError) as error:
        model.parse(given)
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value), str(error.value)


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_recipe_names_its_notebook_and_can_be_run_from_the_door(file):
    command = recipes.command(file)
    notebook = file.parents[2] / command.split()[1] if command else file
    assert notebook.suffix == ".ipynb" and command.endswith(f"recipes/{file.parent.name}/{file.name}"), command
    said = yaml.safe_load(file.read_text())
    if file.parent.name == recipes.YOURS:
        return
    if file.parent.name == "towers":  # of many methods
        assert TowersParams.parse(said)
        return
    given = {"dataset": said.get("dataset", "motion"), "shot": said.get("shot", 1)}
    run = by_recipe(file.parent.name, given)
    found = recipes.find(file.parent.name, *given.values())
    if found == file:
        kept = {name: value for name, value in said.items() if name in RunParams.model_fields and name != "options"}
        assert RunParams.parse(kept | {"method": run.method, "options": run.options}) == run
    methods.check(run)


def test_the_small_recipes_meet_the_same_test_episodes():
    small = [file for file in RECIPES if file.stem == recipes.SMALL]
    chosen = [{**RunParams().model_dump(), **yaml.safe_load(file.read_text())} for file in small]
    for field in ("way", "shot", "query", "test_episodes"):
        assert len({values[field] for values in chosen}) == 1, field


def test_shipped_backbones_are_those_that_load():
    from vidlib import backbones

    assert base.SHIPPED == backbones.names()[:2]


# ---------------------------------------------------------------- the notebooks of papers: arguments of the method


@pytest.mark.parametrize("file", PAPERS, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_recipe_is_the_same_run_given_left_open_and_through_the_door(file):
    model = OF_PAPERS[file.parent.name]
    p = model.from_file(file)
    there = by_recipe(p.method, {"dataset": p.dataset, "shot": p.shot})
    assert p.run_params().determining() == there.determining()
    assert model.parse({"dataset": p.dataset, "shot": p.shot}).run_params().determining() == there.determining()


@pytest.mark.parametrize("name", OF_PAPERS)
def test_own_parameters_are_arguments_of_the_method(name):
    model = OF_PAPERS[name]
    assert all(methods.taken(model().run_params().method, **{own: None}) for own in model.OWN)
    methods.check(model().run_params())


def test_own_arguments_given_win_over_the_recipe_and_a_command_repeats_them():
    p = SloshNetParams.parse({"fusion": "gp1", "cardinalities": "[1, 3]", "options": "{dropout: 0.0}", "lr": 5e-4})
    assert p.run_params().options == {"fusion": "gp1", "cardinalities": [1, 3], "dropout": 0.0}
    assert (p.fusion, p.cardinalities, p.run_params().lr) == ("gp1", [1, 3], 5e-4)
    assert p.changed() == {"fusion": "gp1", "cardinalities": [1, 3], "options": {"dropout": 0.0}, "lr": 5e-4}
    assert SloshNetParams.parse(p.changed()).run_params().determining() == p.run_params().determining()
    open_ = SloshNetParams.parse({"fusion": None, "cardinalities": None})
    assert (open_.fusion, open_.cardinalities) == ("search", [1, 2]) and open_.as_recipe and not p.as_recipe
    assert SloshNetParams.parse({"dataset": "kinetics100"}).cardinalities == [1]


def test_slips_are_named():
    with pytest.raises(UserError, match="unknown parameter 'fussion'.*'fusion'"):
        SloshNetParams.parse({"fussion": "gp1"})
    with pytest.raises(UserError, match="fusion: 'max' is not one of"):
        SloshNetParams.parse({"fusion": "max"})
    with pytest.raises(UserError, match="cardinalities"):
        SloshNetParams.parse({"cardinalities": "one"})
    with pytest.raises(UserError, match="method: 'otam' is not"):
        SloshNetParams.parse({"method": "otam"})


def test_where_videos_mix_a_small_world_is_tested_on_fewer_episodes():
    released = SloshNetParams.parse({"variant": "released", "test_episodes": None})
    assert released.test_episodes == MIXED_EPISODES < SloshNetParams().test_episodes
    assert released.changed() == {"variant": "released", "test_episodes": MIXED_EPISODES}, "the command says so"
    assert SloshNetParams.parse({"variant": "released", "test_episodes": 900}).test_episodes == 900
    assert SloshNetParams.parse({"variant": "released", "dataset": "ssv2_full"}).test_episodes == 10000


@pytest.mark.parametrize(("model", "name"), [(SloshNetParams, "sloshnet"), (GgHMParams, "gghm")])
def test_every_ablation_changes_what_the_notebook_has_chosen(model, name):
    """Also where the user gives an own parameter of the notebook, which is an option of the run."""
    own = {"fusion": "gp1"} if name == "sloshnet" else {"alpha": 0.4}
    base = model.parse(own).run_params(name)
    for ablation in ablations.ABLATIONS[name]:
        changed = ablation.of(base)
        same = methods.arguments(changed) == methods.arguments(base)
        as_chosen = ("only_gp1", "full_tuning")[name == "gghm"]
        assert not same or ablation.params or ablation.change == as_chosen, ablation.label
