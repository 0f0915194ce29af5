"""The rows of the tables of ablations: what they mean, what the evidence runs of them, what is said of differences."""

from types import SimpleNamespace

import numpy as np
import pytest

from vidlib import methods
from vidlib.params.notebooks import MODELS, request
from vidlib.studies import ablations, evidence

# Rows that mean the run of another row, so that it is not made twice.
EQUIVALENT = {
    ("ma_fsar", "TPCM, temporal, local with text"): "without joint adaptation",
    ("actionclip", "Transf"): "full method",
    ("gghm", "full tuning of the image tower"): "full method",
}


@pytest.mark.parametrize("method", ablations.ABLATIONS)
def test_no_two_rows_mean_the_same(method):
    rows = ablations.planned(MODELS[method](), method, [0])
    assert len(rows) == 1 + len(ablations.ABLATIONS[method]), "a label stands for one row"
    first: dict[str, str] = {}
    same = {}
    for name, (params,) in rows.items():
        if (before := first.setdefault(ablations.meaning(params), name)) != name:
            same[method, name] = before
    assert same == {key: of for key, of in EQUIVALENT.items() if key[0] == method}
    run = ablations.of_defaults(method)
    assert list(run) == [name for name in rows if (method, name) not in EQUIVALENT]
    assert all([params.seed for params in each] == [0, 1, 2] for each in run.values())
    used = {change.change for change in ablations.ABLATIONS[method]}
    assert set(methods.ABLATIONS[method]) <= used, "what has a name has a row"


@pytest.mark.parametrize("method", ["ma_fsar", "sloshnet"])
def test_a_default_notebook_finds_what_the_laptop_recipe_trains(method):
    laptop, default = request(f"{method}/laptop").params, MODELS[method]()
    assert laptop.ablations and laptop.seeds == ablations.SEEDS
    assert ablations.base(laptop, method) == ablations.base(default, method)


def test_the_meaning_of_a_run_holds_what_its_method_takes_by_default():
    base = ablations.base(MODELS["ma_fsar"](), "ma_fsar")
    said = base.model_copy(update={"options": {"learned": [], "joint": True}})
    assert ablations.meaning(said) == ablations.meaning(base)
    assert ablations.meaning(base.model_copy(update={"seed": 1})) != ablations.meaning(base)


def test_a_row_that_means_what_one_before_means_has_its_runs(monkeypatch):
    monkeypatch.setattr(ablations.video_text, "open_plan", lambda params: None)
    monkeypatch.setattr(ablations.video_text, "recorded", lambda params, data: None)
    done = ablations.run(MODELS["actionclip"](), "actionclip")  # whose recipe has Transf
    assert done["Transf"] == done["full method"] != done["MeanP"]
    assert ablations.table(done, "actionclip").loc["Transf", ablations.SAID] == "the full method itself"


def test_the_evidence_runs_full_methods_first_then_each_row_with_its_seeds():
    rows = evidence.ablated()
    assert [row[0].method for row in rows[: len(evidence.ABLATED)]] == list(evidence.ABLATED)
    assert not any(params.ablation for row in rows[: len(evidence.ABLATED)] for params in row)
    after = [row[0].method for row in rows[len(evidence.ABLATED) :]]
    assert list(dict.fromkeys(after)) == list(evidence.ABLATED) == sorted(set(after), key=after.index)
    assert all(params.report == "val" and [p.seed for p in row] == [0, 1, 2] for row in rows for params in row)
    assert [list(chain) for chain in evidence.parts()["ablations"]()] == [[row] for row in rows]


def test_the_evidence_has_the_default_run_of_each_notebook():
    for method, each in zip(("ma_fsar", "sloshnet", "gghm"), evidence.defaults(), strict=True):
        assert each[0] == MODELS[method]().run_params(method) and [params.seed for params in each] == [0, 1, 2]


def test_a_run_of_either_kind_is_done_and_said(monkeypatch, tmp_path):
    done, packed = SimpleNamespace(result={"val": {"accuracy": 0.5}}), []
    monkeypatch.setattr(evidence.records, "pack", lambda run, root: packed.append((run, root)))
    for method, module in (("ma_fsar", "few_shot"), ("actionclip", "video_text")):
        monkeypatch.setattr(getattr(evidence, module), "work", lambda params: params)
        monkeypatch.setattr(evidence.running, "run", lambda work: done)
        params = ablations.of_defaults(method)["full method"][0]
        said = evidence.one(params, tmp_path)
        assert f"{method} on {params.dataset}, seed 0" in said and ": 50.0 in" in said
    assert packed == [(done, tmp_path)] * 2


@pytest.mark.parametrize(
    ("gaps", "half", "said"),
    [
        ([0.02], 0.01, "higher beyond its interval over episodes"),
        ([-0.02], 0.01, "lower beyond its interval over episodes"),
        ([0.02], 0.03, "no difference beyond its interval over episodes"),
        ([-0.02, -0.021, -0.02], 0.5, "lower beyond its interval over 3 seeds"),
        ([0.02, -0.01, 0.03], 0.0, "no difference beyond its interval over 3 seeds"),
    ],
)
def test_a_row_says_whether_it_differs(gaps, half, said, monkeypatch):
    def made(name, seed, accuracy):
        cost = {"trainable": 0, "training_memory": None}
        params = {"seed": seed, "report": "val"}
        result = {"cost": cost, "fit": None, "coverage": []}
        return SimpleNamespace(id=f"{name} {seed}", params=params, result=result, accuracy=accuracy, interval=half)

    def gap(here, full):
        summary = {"accuracy": here.accuracy - full.accuracy, "interval": half}
        return SimpleNamespace(summary=lambda: summary)

    monkeypatch.setattr(ablations, "tested", lambda run, what="": run)
    monkeypatch.setattr(ablations, "_gap", gap)
    full = [made("full", seed, 0.5) for seed in range(len(gaps))]
    changed = [made("changed", seed, 0.5 + each) for seed, each in enumerate(gaps)]
    done = {"full method": full, "without joint adaptation": changed, "without TPCM": list(full)}
    table = ablations.table(done, "ma_fsar")
    word = table[ablations.SAID]
    assert word["without joint adaptation"] == said and word["metric TRX"] == ""
    assert word["without TPCM"] == word["full method"] == "the full method itself"
    assert np.isnan(table.loc["metric TRX", "difference"])
    assert table.loc["full method", "training memory (MiB)"] == 0, "nothing was trained"
    html = ablations.styled(table).to_html()
    assert said in html and "not run" in html
    assert said.endswith(f" over {table.loc['without joint adaptation', 'over']}")
    fewer = ablations.table(done | {"full method": full[:1]}, "ma_fsar").loc["without joint adaptation"]
    assert fewer["over"] == "episodes" and fewer[ablations.SAID].endswith(" over episodes"), "one seed is compared"
