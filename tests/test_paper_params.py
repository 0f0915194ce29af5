"""Parameters of the notebooks of papers: their recipes, the method's own arguments, the methods beside it."""

import inspect
from pathlib import Path

import pytest

from vidlib import methods
from vidlib.errors import UserError
from vidlib.open_params import by_recipe
from vidlib.paper_params import SloshNetParams

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
MODELS = {"sloshnet": SloshNetParams}
FILES = [file for name in MODELS for file in sorted((RECIPES / name).glob("*.yaml"))]


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_recipe_is_the_same_run_through_its_notebook_and_through_the_door(file):
    p = MODELS[file.parent.name].from_file(file)
    here = p.run_params()
    if file.stem.endswith("shot"):
        there = by_recipe(p.method, {"dataset": p.dataset, "shot": p.shot})
        assert methods.arguments(here) == methods.arguments(there)
        assert here.determining() == there.determining()


@pytest.mark.parametrize("name", MODELS)
def test_own_parameters_are_arguments_of_the_method(name):
    model = MODELS[name]
    assert set(model.OWN) <= set(model.model_fields) and all(
        methods.takes(model().run_params(), own) for own in model.OWN
    )
    methods.check(model().run_params())
    constructor = inspect.signature(methods.METHODS[name]).parameters
    assert all(constructor[own].default == usual for own, usual in model.OWN.items() if usual is not None)


def test_own_arguments_reach_the_run_and_changes_win():
    p = SloshNetParams.parse({"fusion": "gp1", "cardinalities": "[1, 3]", "variant": "released", "lr": 5e-4})
    run = p.run_params(seed=3, options={"fusion": "sum"})
    assert run.method == "sloshnet" and run.seed == 3 and run.lr == 5e-4 and run.variant == "released"
    assert run.options == {"fusion": "sum", "cardinalities": [1, 3]}
    assert p.run_params("sloshnet").options["fusion"] == "gp1"


def test_a_method_beside_it_trains_as_its_own_recipe_says_on_the_same_protocol():
    p = SloshNetParams.parse({"way": 3, "frames": 4, "lr": 5e-4, "metric_scale": 0.7, "compare": "otam"})
    beside = p.run_params("otam", seed=1)
    assert (beside.way, beside.frames, beside.backbone, beside.seed) == (3, 4, "resnet-mini", 1)
    shared = {"dataset": "moving_shapes", "shot": 1, "backbone": "resnet-mini", "pretrained": "resnet-mini"}
    alone = by_recipe("otam", shared)
    same = ("lr", "metric_scale", "train_episodes", "options")
    assert all(getattr(beside, name) == getattr(alone, name) for name in same) and beside.lr != 5e-4
    assert SloshNetParams.parse({"train_episodes": 7}).run_params("otam").train_episodes == 7  # as long, if said
    assert p.planned == ("sloshnet", "otam")


def test_slips_are_named():
    with pytest.raises(UserError, match="unknown parameter 'fussion'.*'fusion'"):
        SloshNetParams.parse({"fussion": "gp1"})
    with pytest.raises(UserError, match="fusion: 'max' is not one of"):
        SloshNetParams.parse({"fusion": "max"})
    with pytest.raises(UserError, match="cardinalities"):
        SloshNetParams.parse({"cardinalities": "one"})
