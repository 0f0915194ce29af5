"""Parameters of the notebooks of papers: their recipes, the method's own arguments, the methods beside it."""

from pathlib import Path

import pytest

from vidlib import methods
from vidlib.basics.errors import UserError
from vidlib.params.by_recipe import by_recipe
from vidlib.params.papers import MIXED_EPISODES, GgHMParams, SloshNetParams
from vidlib.studies import ablations

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
MODELS = {"sloshnet": SloshNetParams}
FILES = [file for name in MODELS for file in sorted((RECIPES / name).glob("*.yaml")) if file.stem != "laptop"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_recipe_is_the_same_run_given_left_open_and_through_the_door(file):
    model = MODELS[file.parent.name]
    p = model.from_file(file)
    there = by_recipe(p.method, {"dataset": p.dataset, "shot": p.shot})
    assert p.run_params().determining() == there.determining()
    assert model.parse({"dataset": p.dataset, "shot": p.shot}).run_params().determining() == there.determining()


@pytest.mark.parametrize("name", MODELS)
def test_own_parameters_are_arguments_of_the_method(name):
    model = MODELS[name]
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
        assert not same or ablation.params or ablation.change == "only_gp1", ablation.label
