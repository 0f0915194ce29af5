"""Recipes: each parses as its notebook's parameters, names its notebook, and names traps beside its choices."""

import re
from functools import cache
from pathlib import Path

import pytest

from vidlib import backbones, methods
from vidlib.data.catalogue import benchmarks
from vidlib.params import by_recipe, recipes
from vidlib.params.base import Params
from vidlib.params.few_shot import RunParams
from vidlib.params.notebooks import MODELS
from vidlib.training import step as stepping

ROOT = Path(__file__).resolve().parents[2] / "recipes"
FILES = sorted(ROOT.glob("*/*.yaml"))
CELLS = [f for f in FILES if re.fullmatch(r".+_[15]shot", f.stem)]
BENCHMARKS = ("hmdb51", "kinetics100", "ssv2_full", "ssv2_small", "ucf101")
RELEASED = ("sloshnet", "hyrsm", "molo", "trx", "strm", "clip_fsar")  # whose code tests on the test list
PAPERS = (*RELEASED, "otam", "protonet", "aim", "gghm", "ma_fsar")


def name(file: Path) -> str:
    return f"{file.parent.name}/{file.stem}"


def notebook_class(file: Path) -> type[Params]:
    """The class of the notebook that the first comment names."""
    return MODELS[re.search(r"papermill notebooks/(\w+)\.ipynb", file.read_text())[1]]


@cache
def checked(backbone: str, pretrained: str) -> None:
    backbones.check(backbone, pretrained)


@cache
def fewest_classes(dataset: str) -> int:
    return min(map(len, benchmarks.splits_of(dataset).values()))


@cache
def run_of(file: Path) -> RunParams:
    """The run that the recipe asks for: a notebook's own parameters are constructor arguments."""
    said = recipes.read(file)
    given = {"dataset": said["dataset"], "shot": said["shot"]}
    return by_recipe.by_recipe(file.parent.name, given)


@pytest.mark.parametrize("method", PAPERS)
def test_there_is_one_for_every_benchmark_and_shot(method):
    assert {f"{d}_{k}shot" for d in BENCHMARKS for k in (1, 5)} <= {f.stem for f in ROOT.glob(f"{method}/*.yaml")}


@pytest.mark.parametrize("file", FILES, ids=name)
def test_it_names_its_command_and_parses_as_its_notebooks_parameters(file):
    comments = []
    for line in file.read_text().splitlines():
        if not line.startswith("#"):
            break
        comments.append(line)
    lead = " ".join(comments)
    assert f"-f recipes/{file.parent.name}/{file.name}" in lead and "papermill notebooks/" in lead
    values = recipes.read(file)
    parsed = notebook_class(file).from_file(file)
    assert all(
        getattr(parsed, key) == (pairs(value) if key == "milestones" else value) for key, value in values.items()
    )


def pairs(value: list) -> list:
    return [tuple(pair) for pair in value]


@pytest.mark.parametrize("file", CELLS, ids=name)
def test_it_asks_for_a_run_that_can_be_built(file):
    run, said = run_of(file), recipes.read(file)
    assert (run.method, run.dataset, f"{run.dataset}_{run.shot}shot") == (file.parent.name, said["dataset"], file.stem)
    methods.check(run)
    checked(run.backbone, run.pretrained)
    assert run.way == 5 and fewest_classes(run.dataset) >= 5
    stepping.shares(run.milestones, run.train_episodes)
    assert all(place < 1 or place < run.train_episodes for place, _ in run.milestones)
    numbers = ("lr", "weight_decay", "arch_lr", "warmup", "metric_scale")
    assert all(isinstance(said[key], float) for key in numbers if key in said), "YAML 1.1 reads 1e-4 as text"


@pytest.mark.parametrize("file", CELLS, ids=name)
def test_it_chooses_on_val_and_tests_on_fixed_frames(file):
    run, text = run_of(file), file.read_text()
    assert run.val_episodes > 0 and run.report == "test" and run.test_frames == "fixed"
    assert "We have not run this recipe" in text
    assert not re.search(r"https?:|@|/mnt|/home|/work", text)
    if file.parent.name in RELEASED:
        assert re.search(r"Trap: [^#]*TEST\s+list", text.replace("\n#  ", "")), "selection on the test list"
        assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("file", [f for f in CELLS if f.parent.name in RELEASED], ids=name)
def test_every_trap_of_the_papers_is_named_beside_the_choice(file):
    run, said = run_of(file), commented(file)
    method, small = file.parent.name, run.dataset in ("hmdb51", "ucf101", "kinetics100")
    traps = {key for key, comment in said.items() if "Trap:" in comment}
    wanted = {"val_episodes"}
    if method in ("hyrsm", "molo", "clip_fsar", "sloshnet"):
        wanted |= {"weight_decay"}
        wanted |= {"test_frames"} if run.dataset != "kinetics100" or method == "sloshnet" else set()
        wanted |= {"milestones"} if method != "sloshnet" else {"normalise", "arch_lr"}
    if method in ("molo", "clip_fsar") and run.shot == 5:
        wanted |= {"train_shot"}
    if method in ("trx", "strm"):
        wanted |= {"normalise"}
    if method not in ("clip_fsar",) and not small:
        wanted |= {"flip"}
    if method == "strm":
        wanted |= {"variant"}
    if (method, run.dataset, run.shot) == ("sloshnet", "ucf101", 5):
        wanted |= {"shot"}
    assert wanted <= traps, wanted - traps


def commented(file: Path) -> dict[str, str]:
    """Field -> its comment, continued lines included."""
    found: dict[str, str] = {}
    key = ""
    for line in file.read_text().splitlines():
        if match := re.match(r"(\w+): [^#]*(?:# (.*))?$", line):
            key, found[match[1]] = match[1], match[2] or ""
        elif line.startswith("#   ") and key:
            found[key] += " " + line[4:]
    return found


CASES = {  # a few numbers read from the papers' sheets by hand
    "hyrsm/ssv2_full_1shot": {
        "lr": 1e-4,
        "train_query": 7,
        "train_episodes": 40000,
        "milestones": [(0.225, 0.1), (0.375, 0.01)],
    },
    "hyrsm/kinetics100_5shot": {"lr": 2.2e-5, "train_query": 3, "sampling": "span", "normalise": "grey"},
    "hyrsm/hmdb51_1shot": {"episodes_per_step": 2, "weight_decay": 2e-3, "optimizer": "adam"},
    "hyrsm/ucf101_5shot": {"milestones": [(0.56, 0.5), (0.84, 0.1)], "warmup": 0.28, "train_shot": 0},
    "molo/ucf101_5shot": {"train_shot": 1, "train_query": 6, "milestones": [(0.6667, 0.1)], "options": (0.6, 0.05)},
    "molo/kinetics100_1shot": {"lr": 2e-5, "train_episodes": 5000, "sampling": "span"},
    "clip_fsar/ucf101_5shot": {"lr": 2e-6, "train_shot": 1, "flip": "none", "milestones": [(0.4, 0.1), (0.6, 0.01)]},
    "clip_fsar/kinetics100_1shot": {"flip": "queries", "colour": "queries", "warmup": 0.05, "train_shot": 0},
    "trx/ssv2_full_5shot": {"lr": 1e-3, "optimizer": "sgd", "momentum": 0.0, "query_sum": True, "normalise": "none"},
    "trx/hmdb51_5shot": {"train_episodes": 10000, "episodes_per_step": 16, "schedule": "constant", "flip": "all"},
    "strm/kinetics100_5shot": {"train_query": 5, "lr": 1e-4, "variant": "paper"},
    "strm/ucf101_5shot": {"train_query": 4, "sampling": "ends"},
    "sloshnet/ssv2_full_5shot": {
        "train_query": 5,
        "lr": 1e-3,
        "milestones": [(48000, 0.5), (64000, 0.1), (72000, 0.01)],
    },
    "sloshnet/kinetics100_1shot": {"query": 1, "milestones": [(9000, 0.5), (12000, 0.1), (13500, 0.01)]},
    "sloshnet/kinetics100_5shot": {"train_query": 5, "milestones": [(6000, 0.5), (8000, 0.1), (9000, 0.01)]},
    "otam/ssv2_full_1shot": {"train_episodes": 50000, "episodes_per_step": 1, "lr": 1e-3, "query_sum": False},
    "aim/ssv2_small_1shot": {"optimizer": "adamw", "lr": 3e-4, "weight_decay": 0.05},
}


@pytest.mark.parametrize("recipe", CASES)
def test_numbers_of_the_papers(recipe):
    run, wanted = run_of(ROOT / f"{recipe}.yaml"), dict(CASES[recipe])
    if options := wanted.pop("options", ()):
        assert (run.options["class_loss_weight"], run.options["reconstruction_weight"]) == options
    assert {key: getattr(run, key) for key in wanted} == wanted


def test_options_follow_the_benchmark():
    def options(recipe):
        return run_of(ROOT / f"{recipe}.yaml").options

    assert [options(f"hyrsm/{d}_1shot")["class_loss_weight"] for d in BENCHMARKS] == [0.15, 0.4, 0.6, 0.15, 0.15]
    assert [options(f"molo/{d}_5shot")["class_loss_weight"] for d in BENCHMARKS] == [0.4, 0.1, 0.8, 0.15, 0.6]
    assert [options(f"clip_fsar/{d}_1shot")["text_loss_weight"] for d in BENCHMARKS] == [1.2, 1.5, 3.0, 3.0, 1.5]
    assert [options(f"hyrsm/{d}_1shot").get("position_b") for d in BENCHMARKS] == [None, 0.01, None, None, None]
    assert [options(f"sloshnet/{d}_1shot")["cardinalities"] for d in BENCHMARKS] == [[1], [1], [1, 2], [1, 2], [1]]


def test_the_halved_epochs_are_the_loops():
    """Where ``i // unit + i / unit`` first reaches each of the YAML's steps, counted out."""
    for recipe, unit, steps in (
        ("hyrsm/ssv2_full_1shot", 3000, (6, 9)),
        ("molo/hmdb51_1shot", 500, (3, 5)),
        ("clip_fsar/kinetics100_1shot", 250, (6, 9)),
    ):
        run = run_of(ROOT / f"{recipe}.yaml")
        counted = [next(i for i in range(run.train_episodes) if i // unit + i / unit >= step) for step in steps]
        assert [round(place * run.train_episodes) for place, _ in run.milestones] == counted
        assert round(run.warmup * run.train_episodes) == unit
