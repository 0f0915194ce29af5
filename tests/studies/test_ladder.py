"""The ladder is fair by construction, and its rows are what its records say."""

from types import SimpleNamespace

import numpy as np
import pytest

from vidlib.basics.errors import UserError
from vidlib.results.accuracy import Evaluation
from vidlib.studies import evidence, ladder, tables


def summary(accuracy):
    return {"accuracy": accuracy, "interval": 0.01, "intervals": {"videos": 0.02, "classes": 0.05}, "episodes": 10_000}


@pytest.fixture
def on_record(monkeypatch):
    """Every run has a record but AIM's; a rate of 1e-3 is best for TRX, and a third of its scale."""

    def had(params):
        if params.method == "aim":
            raise UserError("no record")
        good = 0.3 - abs(np.log10(params.lr) + 3) / 10 - abs(np.log10(params.metric_scale / 0.1)) / 20
        accuracy = good + 0.01 * params.seed
        trained = params.train_episodes > 0
        result = {params.report: summary(accuracy), "test_5shot": summary(accuracy + 0.1)}
        result["cost"] = {"trainable": 93_312 if trained else 0}
        result["fit"] = {"seconds": 50.0} if trained else None
        return SimpleNamespace(params=params.model_dump(), result=result, id=params.method)

    monkeypatch.setattr(ladder, "had", had)


def test_every_method_has_the_same_tries_and_episodes(on_record):
    for column in ladder.COLUMNS:
        for method in ladder.TRAINED:
            if not ladder.has(method, column) or method == "aim":
                continue
            tried = [params for each in ladder.tries(method, column) for params in each]
            assert len({(params.lr, params.metric_scale) for params in tried}) == 5, (method, column)
            assert {params.train_episodes for params in tried} == {300}
            assert {(params.report, params.dataset, params.test_episodes) for params in tried} == {
                ("val", "motion", 1000)
            }
            rows = ladder.rows(method, column)
            same = {(p.train_episodes, p.val_episodes, p.val_every, p.test_episodes, p.frames, p.way) for p in rows}
            assert same == {(600, 200, 300, 10_000, 8, 5)}, (method, column)
            few = column == ladder.TUNED and ladder.blind(ladder.best(method, column))
            assert not few or method in ("hyrsm", "molo"), "whose tries stay at chance here"
            assert sorted(p.seed for p in rows if p.dataset == "motion") == [0, 1, 2][: 1 if few else 3]


def test_the_search_does_not_move_with_the_recipes(on_record):
    """What it found may be written at a recipe without making its own tries others."""
    for method, scale in ladder.BEGAN.items():
        tried = [params for each in ladder.tries(method, ladder.RESNET) for params in each]
        assert tried[0].metric_scale == scale
        assert sorted({params.metric_scale / scale for params in tried}) == pytest.approx([1 / 3, 1, 3])


def test_what_a_column_trains():
    tuned = {method: ladder.settings(method, ladder.TUNED) for method in ladder.TRAINED}
    assert tuned["aim"] is None and tuned["ma_fsar"]["options"]["finetune"] == "full"
    frozen = {method: ladder.settings(method, ladder.FROZEN) for method in ladder.TRAINED}
    assert "finetune" not in frozen["ma_fsar"]["options"] and frozen["trx"]["options"]["finetune"] == "frozen"
    assert ladder.settings("clip_fsar", ladder.RESNET) is None and ladder.has("simple_shot", ladder.RESNET)
    assert not ladder.has("with_text", ladder.RESNET) and ladder.untrained("otam", ladder.FROZEN)


def test_the_best_try_serves_every_row(on_record):
    rows = ladder.rows("trx", ladder.FROZEN)
    assert {(row.lr, round(row.metric_scale, 6)) for row in rows} == {(1e-3, 0.1)}
    assert {(row.dataset, row.seed) for row in rows} == {(w, s) for w in ladder.WORLDS for s in range(3)}
    assert [(row.dataset, row.train_episodes) for row in ladder.rows("otam", ladder.FROZEN)] == [
        ("motion", 0),
        ("words", 0),
        ("scene", 0),
    ]


def test_a_row_with_one_thing_changed_keeps_all_else(on_record):
    plain, changed = ladder.rows("sloshnet", ladder.RESNET), ladder.ablated(*evidence.DEFECT)
    assert [params.ablation for params in changed] == ["scrambles_time"] * ladder.SEEDS
    assert [params.model_copy(update={"ablation": ""}) for params in changed] == plain
    assert [list(chain) for chain in evidence.parts()["defect"]()] == [[changed]]


def test_the_table_says_means_over_seeds_and_what_is_missing(on_record):
    row = ladder.table().loc[(ladder.FROZEN, "TRX")]
    assert row["motion 1-shot"] == "31.0 ± 2.5" and row["scene 5-shot"] == "41.0 ± 2.5"
    assert row["trained (M)"] == pytest.approx(0.093312) and row["seeds"] == 3
    assert ladder.table().loc[(ladder.FROZEN, "SimpleShot"), "motion 1-shot"].endswith("± 2.0 (videos)")
    assert ladder.missing(ladder.FROZEN, "motion") == ["AIM"]


def test_what_the_tries_leave_open_is_named(on_record):
    """1e-3 is best everywhere: the largest of the tuned columns, not of the frozen one; AIM has no tries.
    MoLo's scale is so far from what is best here that no try of it leaves chance."""
    edges = [line for line in ladder.searched().splitlines() if "the largest rate" in line]
    assert [line.split(":")[0] for line in edges] == [ladder.RESNET, ladder.TUNED]
    assert "TRX" in edges[0] and "MA-FSAR" in edges[1] and "AIM" not in "".join(edges)
    (scale,) = [line for line in ladder.searched().splitlines() if f"{ladder.FROZEN}: the smallest scale" in line]
    assert "TRX" in scale and "ordered" not in scale, "which has no scale"
    blind = [line for line in ladder.searched().splitlines() if "blindly" in line]
    assert [line.split(":")[0] for line in blind] == list(ladder.RATES)
    assert all("MoLo" in line and "TRX" not in line for line in blind)


def test_where_a_method_stands(on_record):
    lines = ladder.place("trx", ladder.FROZEN, ladder.RESNET).splitlines()
    assert [line.split(",")[1].strip() for line in lines[::2]] == [*ladder.WORLDS, "motion"]
    assert [ladder.RESNET in line for line in lines] == [False] * 6 + [True] * 2
    assert "1-shot: TRX 31.0 ± 2.5, 1 of " in lines[0] and "the best of the others: " in lines[0]
    assert "5-shot: TRX 41.0 ± 2.5, 1 of " in lines[1]
    assert ladder.place("aim", ladder.FROZEN) == "on record, clip-mini frozen: nothing of AIM yet"


def test_a_gap_is_paired_seed_by_seed(on_record, monkeypatch):
    answers = {"trx": [1, 1, 1, 0], "simple_shot": [1, 0, 0, 0]}

    def tested(run, what):
        right = np.array(answers[run.id])
        return Evaluation(
            "episode", "test", ("a", "b"), "list", "embed once", 0.0, right.astype(float), np.zeros(4, int),
            np.where(right, 0, -1), episode=np.arange(4), query=np.arange(4),
        )  # fmt: skip

    monkeypatch.setattr(tables, "tested", tested)
    assert ladder.gap("trx", "simple_shot", ladder.FROZEN, "motion")[0] == pytest.approx(50.0)
    with pytest.raises(UserError, match="AIM has no record on motion: make evidence does it"):
        ladder.gap("aim", "trx", ladder.FROZEN, "motion")
