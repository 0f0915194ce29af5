"""The contract of notebook cell, recipe and run record: what is refused, and in which words."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from vidlib import params as room
from vidlib.basics.errors import UserError
from vidlib.params.base import Params
from vidlib.params.few_shot import METHOD_NAMES, FewShotParams, MAFSARParams, RunParams
from vidlib.params.notebooks import MODELS
from vidlib.params.tools import PredictParams
from vidlib.params.video_text import M2CLIPParams


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"shoot": 3}, ["'shoot'", "did you mean 'shot'"]),
        ({"shot": "five"}, ["shot", "'five'", "integer"]),
        ({"shot": 0}, ["shot", "at least 1"]),
        ({"shot": True}, ["shot", "whole number"]),
        ({"metric": "dtw"}, ["metric", "'dtw'", "'otam'", "'trx'"]),
        ({"compare": "aim,clipfsar"}, ["compare", "'clipfsar'", "clip_fsar"]),
        ({"backbone": "ViT-B-32"}, ["pretrained", "ViT-B-32"]),
        ({"lr": float("nan")}, ["lr", "finite"]),
        ({"mix": 1.5}, ["mix", "at most 1"]),
        ({"metric": "trx", "frames": 2}, ["frames", "trx", "at least 3"]),
        ({"variant": "released"}, ["variant", "'paper'"]),
        ({"shot": 0, "way": "x"}, ["shot", "way"]),
    ],
)
def test_a_wrong_parameter_is_named_in_one_sentence(given, words):
    with pytest.raises(UserError) as error:
        MAFSARParams.parse(given)
    message = str(error.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


def test_strings_that_papermill_hands_over_are_understood():
    params = MAFSARParams.parse({"shot": "5", "lr": "1e-3", "fresh": "true", "compare": ""})
    assert (params.shot, params.lr, params.fresh, params.compared) == (5, 1e-3, True, ())
    assert MAFSARParams.parse({"fresh": "false"}).fresh is False


def test_what_papermill_and_yaml_make_of_names_is_understood(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for given in (2024, [2024], "2024"):
        assert PredictParams.parse({"videos": given, "classes": "a,b"}).videos == [str(tmp_path / "2024")]
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("videos: 2024-05-01\nclasses: [a dog running, opening a door, 7]\n")
    read = PredictParams.from_file(recipe)
    assert (read.videos, read.classes) == ([str(tmp_path / "2024-05-01")], "a dog running,opening a door,7")
    recipe.write_text("compare: [aim, clip_fsar]\n")
    assert MAFSARParams.from_file(recipe).compared == ("aim", "clip_fsar")
    assert MAFSARParams.parse({"compare": []}).compared == ()
    assert M2CLIPParams.parse({"heads": ["contrastive", "mlm"]}).heads == "contrastive,mlm"
    for wrong in ({"compare": ["aim,otam"]}, {"compare": [None]}, {"compare": {"aim": 1}}, {"metric": ["otam"]}):
        with pytest.raises(UserError, match="compare|metric"):
            MAFSARParams.parse(wrong)
    assert MAFSARParams.parse({"template": "a {photo} of {}"}).template == "a {photo} of {}"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"schedule": "steps"}, ["milestones", "schedule 'steps'"]),
        ({"milestones": [[0.5, 0.1]]}, ["milestones", "'cosine'"]),
        ({"schedule": "steps", "milestones": [[0.5]]}, ["milestones"]),
        ({"schedule": "step"}, ["schedule", "'steps'"]),
        ({"optimizer": "adagrad"}, ["optimizer", "'sgd'"]),
        ({"crop": "squashed"}, ["crop", "'squashed window'"]),
        ({"momentum": 1}, ["momentum", "less than 1"]),
    ],
)
def test_a_wrong_choice_of_a_recipe_is_named(given, words):
    with pytest.raises(UserError) as error:
        RunParams.parse(given)
    assert all(word in str(error.value) for word in words), error.value


def test_milestones_in_words_or_lists_are_the_same():
    drops = [[0.5, 0.1], [9000, 0.01]]
    one, two = (RunParams.parse({"schedule": "steps", "milestones": m}) for m in (drops, "[[0.5, 0.1], [9000, 0.01]]"))
    assert one == two and one.milestones == [(0.5, 0.1), (9000, 0.01)]


def test_first_run_refuses_any_unknown_name_and_a_rerun_only_close_ones():
    cells = {"shot": 1, "In": [], "Out": {}, "_i": "", "exit": object()}
    assert MAFSARParams.from_notebook(dict(cells)).shot == 1
    with pytest.raises(UserError, match="banana"):
        MAFSARParams.from_notebook({**cells, "banana": 1})
    MAFSARParams.from_notebook(cells)
    cells["table"] = {"later": "cell"}
    MAFSARParams.from_notebook(cells)
    with pytest.raises(UserError, match="shots"):
        MAFSARParams.from_notebook({**cells, "shots": 3})


def test_params_are_frozen():
    params = MAFSARParams()
    with pytest.raises(ValueError, match="frozen"):
        params.shot = 5


def test_paths_are_made_absolute_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    params = MAFSARParams.parse(
        {"dataset": "folder:clips", "runs": "here", "backbone": "ViT-B-32", "pretrained": "w.pt"}
    )
    assert params.dataset == f"folder:{tmp_path}/clips"
    assert params.runs == f"{tmp_path}/here"
    assert params.pretrained == f"{tmp_path}/w.pt"


def test_where_it_runs_does_not_determine_the_result():
    here = RunParams().determining()
    there = RunParams(device="cpu", workers=3, runs="/elsewhere", fresh=True).determining()
    assert here == there
    assert RunParams(shot=5).determining() != here


def test_run_params_carry_the_shared_fields():
    run = MAFSARParams(shot=5, seeds=3).run_params("aim", seed=2)
    assert (run.method, run.shot, run.seed) == ("aim", 5, 2)
    assert set(FewShotParams.model_fields) <= set(RunParams.model_fields)


def test_names_agree_with_the_rooms_that_implement_them():
    from vidlib.matching import METRICS
    from vidlib.methods import METHODS

    assert set(get_args(FewShotParams.model_fields["metric"].annotation)) == set(METRICS)
    assert METHOD_NAMES == tuple(METHODS)


def test_recipes_are_read_and_refused(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("shot: 5\nlr: 1.0e-4\n")
    assert MAFSARParams.from_file(recipe).lr == 1e-4
    recipe.write_text("shoot: 5\n")
    with pytest.raises(UserError, match="mine.yaml.*shoot"):
        MAFSARParams.from_file(recipe)
    with pytest.raises(UserError, match="nowhere.yaml does not exist"):
        MAFSARParams.from_file(tmp_path / "nowhere.yaml")


def test_only_what_is_not_the_default_is_shown(capsys):
    MAFSARParams.parse({"shot": 5, "device": "cpu", "compare": "aim"}).show()
    assert capsys.readouterr().out == "not the defaults: device 'cpu', shot 5\n"
    MAFSARParams().show()
    assert capsys.readouterr().out == f"all {len(MAFSARParams.model_fields)} parameters have their defaults\n"


def test_options_of_ma_fsar_are_its_own_alone():
    p = MAFSARParams.parse({"options": "{joint: false}", "train_query": 5, "crop": "window", "optimizer": "adam"})
    ours, beside = p.run_params(), p.run_params("aim")
    assert ours.method == "ma_fsar" and ours.options == {"joint": False} and beside.options == {}
    assert all((run.train_query, run.crop, run.optimizer) == (5, "window", "adam") for run in (ours, beside))
    assert MAFSARParams().run_params().determining() == RunParams().determining(), "its defaults are a run's"


def below(model: type) -> Iterator[type]:
    for child in model.__subclasses__():
        yield child
        yield from below(child)


def test_no_parameters_stand_on_more_than_three_others():
    classes = set(below(Params))
    assert set(MODELS.values()) <= classes
    for model in classes:
        above = [base for base in model.__mro__[1:] if issubclass(base, Params)]
        assert len(above) <= 3, f"{model.__name__}: {', '.join(base.__name__ for base in above)}"
        mixed = [base for base in model.__mro__[1:] if base.__module__.startswith("vidlib") and base not in above]
        fields = {name for base in mixed for name in base.__dict__.get("__annotations__", ()) if name.islower()}
        assert not fields, f"fields outside of a model: {fields}"


def test_no_finished_model_is_written_into():
    """Nothing in the room assigns to an attribute, but a model as it is made, nor to ``__dict__`` or to options."""
    for file in sorted(Path(room.__file__).parent.glob("*.py")):
        tree = ast.parse(file.read_text())
        made = [n for f in ast.walk(tree) if getattr(f, "name", "") == "model_post_init" for n in ast.walk(f)]
        for node in ast.walk(tree):
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            for target in targets if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign) else ():
                place = target.value if isinstance(target, ast.Subscript) else target
                written = isinstance(place, ast.Attribute) and node not in made
                assert not written, f"{file.name}:{node.lineno} writes {ast.unparse(target)}"
        assert "__setattr__" not in file.read_text() and "setattr(" not in file.read_text()
