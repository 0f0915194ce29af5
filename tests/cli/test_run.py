"""``vidlib run``: which notebook a recipe means, what is refused before a kernel starts, what is kept."""

import json
import re

import nbformat
import papermill
import pytest
import yaml

from tests.prepared import BARE
from vidlib import cli
from vidlib.basics.errors import UserError
from vidlib.basics.paths import checkout
from vidlib.cli import run
from vidlib.params import notebooks, recipes
from vidlib.params.notebooks import MODELS, request, settings

NOTEBOOKS = checkout() / "notebooks"
FILES = sorted((checkout() / "recipes").glob("*/*.yaml"))
CELLS = """world: str = "motion"  # which world
backbone: str = "clip-mini"  # tower
episodes: int = 2000  # episodes
examples: int = 6  # classes
stills: int = 1024  # stills
retrain: bool = False  # train
retrain_steps: int = 0  # steps
seed: int = 0  # seed"""


def test_the_one_list_names_every_notebooks_own_parameters():
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} - BARE.keys() == set(MODELS)
    for name, model in MODELS.items():
        guard = re.search(r"(\w+)\.from_notebook\(globals\(\)\)", (NOTEBOOKS / f"{name}.ipynb").read_text())
        assert guard[1] == model.__name__


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_recipe_means_its_notebook_by_its_short_name(file):
    short = f"{file.parent.name}/{file.stem}"
    asked = request(short)
    assert f"papermill notebooks/{asked.notebook}.ipynb" in file.read_text()
    assert asked.arguments == [short] and set(asked.given) == set(recipes.read(file))


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("ma_fsar/labtop", {}, r"'ma_fsar/labtop' is neither .*did you mean 'ma_fsar/laptop'"),
        ("nope", {}, "nor a recipe.*notebooks are ma_fsar, .*recipes such as .* are there for .*otam"),
        ("trx/hmdb", {}, "nor a recipe.*of trx there are trx/hmdb51_1shot, trx/hmdb51_5shot"),
        ("ma_fsar/laptop", {"shoot": "3"}, "unknown parameter 'shoot'.*did you mean 'shot'"),
        ("ma_fsar", {"shot": "True"}, "shot: 'True' is not a valid integer"),
        ("sloshnet/laptop", {"options": "1"}, "options: '1' is not of the form"),
    ],
    ids=["recipe", "nothing near", "of a method", "name", "value", "options"],
)
def test_what_is_wrong_is_named_in_a_sentence(name, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        request(name, changes)


def test_a_recipe_of_the_users_own(tmp_path):
    own = tmp_path / "mine.yaml"
    own.write_text("shot: 5\n")
    with pytest.raises(UserError, match="names no notebook: say which with --notebook ma_fsar"):
        request(str(own))
    with pytest.raises(UserError, match="notebook: 'ma_fsr' is not one of .*did you mean 'ma_fsar'"):
        request(str(own), notebook="ma_fsr")
    asked = request(str(own), {"lr": "1e-3"}, "ma_fsar")
    assert dict(asked.given) == {"shot": 5, "lr": 1e-3} and asked.params.shot == 5
    assert asked.arguments == [str(own), "--notebook", "ma_fsar", "--set", "lr=0.001"]
    own.write_text("# papermill notebooks/gghm.ipynb out.ipynb\nalpha: 0.3\n")
    assert request(str(own)).notebook == "gghm"
    (tmp_path / "otam").mkdir()
    (own := tmp_path / "otam" / "a.yaml").write_text("shot: 5\n")
    assert request(str(own)).notebook == "few_shot"
    own.write_text("shot: [5\n")
    with pytest.raises(UserError, match="cannot be read as YAML"):
        request(str(own))


def test_text_becomes_what_the_parameter_is():
    given = {"milestones": "[[0.5, 0.1]]", "schedule": "steps", "lr": "None", "options": "{lam: 0.2}", "ablations": "0"}
    asked = request("few_shot", {k: v for k, v in given.items() if k != "ablations"})
    assert asked.given["milestones"] == [[0.5, 0.1]] and asked.given["lr"] is None
    assert asked.given["options"] == {"lam": 0.2}, "as given, without the recipe's"
    assert asked.params.options["lam"] == 0.2
    assert settings(["template=a photo of {}, moving", " x = y=z"]) == {"template": "a photo of {}, moving", "x": "y=z"}
    with pytest.raises(UserError, match="'shot' is not of the form name=value"):
        settings(["shot"])


@pytest.mark.parametrize("word", ["run", "sweep"])
def test_a_wrong_parameter_is_said_before_a_kernel_starts(word, monkeypatch, capsys):
    monkeypatch.setattr(papermill, "execute_notebook", lambda *_, **__: pytest.fail("a kernel was started"))
    grid = ["--grid", "seed=0,1"] if word == "sweep" else []
    assert cli.main([word, "ma_fsar/laptop", *grid, "--set", "way=99"]) == 1
    said = capsys.readouterr()
    assert "way: 99 is more than the 16 classes of split val of motion; give at most 16" in said.err
    assert cli.main([word, "otam/hmdb51_1shot", *grid]) == 1
    assert "dataset hmdb51: the videos of HMDB51" in capsys.readouterr().err, "absent videos too"


# ---------------------------------------------------------------- execution


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A notebook of a few lines in the place of worlds.ipynb, and runs in a folder of their own."""
    (tmp_path / "notebooks").mkdir()

    def write(*code: str) -> None:
        cells = [nbformat.v4.new_code_cell(CELLS, metadata={"tags": ["parameters"]})]
        notebook = nbformat.v4.new_notebook(cells=[*cells, *map(nbformat.v4.new_code_cell, code)])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, tmp_path / "notebooks" / "worlds.ipynb")

    real = notebooks.folder
    monkeypatch.setattr(notebooks, "folder", lambda name: tmp_path / name if name == "notebooks" else real(name))
    monkeypatch.setenv("VIDLIB_RUNS", str(tmp_path / "runs"))
    return write


def test_the_executed_copy_lies_with_the_runs_and_how_far_it_is_comes_out(small, tmp_path, capfd):
    slow = "progress.SPARSE_SECONDS = 0\nlist(progress.track(range(3), 'val'))"
    small(f"from vidlib.basics import progress\n{slow}\nprint('seed', seed + 1, examples)")
    assert cli.main(["run", "worlds", "--set", "seed=7", "examples=3"]) == 0
    said = capfd.readouterr()
    file = tmp_path / "runs" / "notebooks" / said.out.split("/")[-1].strip()
    assert f"notebook {file}" in said.out and "val: 2 of 3, about 0 s left\n" in said.err and "seed 8" not in said.err
    notebook = nbformat.read(file, 4)
    assert "seed 8 3" in json.dumps(notebook) and "input_path" in notebook.metadata.papermill
    assert [f.name for f in file.parent.iterdir()] == [file.name], "no lock, no unfinished copy"
    asked = request("worlds", {"seed": "7", "examples": "3"})
    assert run.executed(asked) == file and run.finished(asked)
    assert not run.finished(request("worlds", {"seed": "8", "examples": "3"}))


def test_a_failing_notebook_keeps_its_copy_and_the_whole_one_before_it_stays(small, tmp_path, capsys):
    mood = tmp_path / "mood"
    small("print('before')", f"assert not open({str(mood)!r}).read(), 'the claim is false'", "print('after')")
    mood.write_text("")
    assert cli.main(["run", "worlds"]) == 0
    (whole,) = (tmp_path / "runs" / "notebooks").glob("*.ipynb")
    content = whole.read_bytes()
    mood.write_text("bad")
    capsys.readouterr()
    assert cli.main(["run", "worlds"]) == 1
    said = capsys.readouterr().err
    part = run.unfinished(whole)
    last = said.strip().splitlines()[-1]
    assert last == f"worlds.ipynb stopped at In [3] with AssertionError: the claim is false -> {part}"
    assert "open(" in said, "the traceback's last lines"
    assert "before" in part.read_text() and "after\\n" not in json.dumps(nbformat.read(part, 4).cells[-1].outputs)
    assert whole.read_bytes() == content


def test_a_kernel_that_dies_is_said_so(small, capsys):
    small("import os\nos._exit(9)")
    assert cli.main(["run", "worlds"]) == 1
    assert "ended or did not start" in capsys.readouterr().err


def test_one_process_at_a_time_makes_a_copy(small, tmp_path, capsys):
    small("pass")
    asked = request("worlds")
    lock = run.executed(asked).with_suffix(".lock")
    lock.parent.mkdir(parents=True)
    lock.write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": 0}))
    assert cli.main(["run", "worlds"]) == 1
    assert "is being made already" in capsys.readouterr().err and lock.is_file()


def test_the_command_repeats_the_request():
    asked = request("few_shot", {"method": "trx", "options": "{cardinalities: [2]}", "template": "a film of {}"})
    words = run.command(asked).split(" ")
    assert words[:3] == ["vidlib", "run", "few_shot"]
    import shlex

    again = request("few_shot", settings(shlex.split(run.command(asked))[4:]))
    assert again == asked
    assert yaml.safe_load(yaml.safe_dump(dict(asked.given))) == dict(asked.given), "plain values"
