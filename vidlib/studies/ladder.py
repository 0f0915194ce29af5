"""The fair ladder: every method and floor on equal towers, worlds, training episodes and tries; what is run, and rows.

A column is a tower and whether it is tuned. Each method that trains has the same number of tries in each column, on val
of the world motion: rates, then scales of its logits at the best rate; the best serves all three worlds. Runs are
trained at one shot and tested at one and five.
"""

from collections.abc import Iterator
from typing import Any

from vidlib import methods
from vidlib.basics.errors import UserError
from vidlib.params.by_recipe import ORDERED, by_recipe
from vidlib.params.few_shot import RunParams
from vidlib.studies import records

WORLDS = ("motion", "words", "scene")
TRAINED = ("ma_fsar", "sloshnet", "gghm", "clip_fsar", "aim", "trx", "strm", "hyrsm", "molo", ORDERED)
METRICS = ("otam", "bimhm", "protonet")  # nothing is trained on a frozen tower
FLOORS = ("zero_shot_clip", "frozen_clip", "with_text", "simple_shot", "logistic_regression", "tip_adapter")
FROZEN, TUNED, RESNET = "clip-mini frozen", "clip-mini tuned", "resnet-mini tuned"
COLUMNS = {FROZEN: "clip-mini", RESNET: "resnet-mini", TUNED: "clip-mini"}
RATES = {FROZEN: (3e-4, 1e-3, 3e-3), RESNET: (1e-4, 3e-4, 1e-3), TUNED: (1e-4, 3e-4, 1e-3)}
SCALES = (1 / 3, 3.0)  # beside 1, of the recipe's own
EPISODES, TRY_EPISODES = 600, 300  # with half of it no method that adapts a tower leaves chance, so tries say nothing
SEEDS = 3


def settings(method: str, column: str) -> dict[str, Any] | None:
    """Tower and constructor arguments of ``method`` in ``column``; None where it has no place there."""
    tower = {"backbone": COLUMNS[column], "pretrained": COLUMNS[column]}
    own = by_recipe(method, {"dataset": "motion", "shot": 1, **tower}).options
    known = methods.taken(method, finetune="full")
    if column == FROZEN:
        adapts = method == "ma_fsar" or not known  # small modules in a tower that stays as it is
        tuning = {} if adapts else {"finetune": "frozen"}
    elif known:
        tuning = {"finetune": "full"}
    elif column == RESNET and method in (*FLOORS, ORDERED):  # what they stand on there, too
        tuning = {}
    else:
        return None
    return tower | {"options": own | tuning}


def run_params(method: str, column: str, world: str, **changes: Any) -> RunParams | None:
    """A run of the ladder; None where the method has no place in the column."""
    if (own := settings(method, column)) is None:
        return None
    size = {"train_episodes": EPISODES, "val_episodes": 200, "val_every": EPISODES // 2, "test_episodes": 10_000}
    given = {"dataset": world, "shot": 1, "way": 5, "query": 1, "also_shots": [5], **own, **size, **changes}
    params = by_recipe(method, given)
    try:
        methods.check(params)
    except UserError:
        return None
    return params


def tries(method: str, column: str) -> Iterator[list[RunParams]]:
    """The tries of a method in a column, in two rounds: rates, then scales, once the rates have their runs."""
    small = {"train_episodes": TRY_EPISODES, "val_episodes": 0, "val_every": 1, "report": "val", "also_shots": []}
    small |= {"test_episodes": 1000, "seed": 0}
    first = run_params(method, column, "motion", **small)
    if first is None:
        return
    rates = [first.model_copy(update={"lr": lr}) for lr in RATES[column]]
    yield rates
    leading = _best(rates)
    yield [leading.model_copy(update={"metric_scale": first.metric_scale * by}) for by in SCALES]


def best(method: str, column: str) -> RunParams:
    """The best try of a method in a column; UserError where a try has no run."""
    return _best([params for each in tries(method, column) for params in each])


def _best(tried: list[RunParams]) -> RunParams:
    """The one with the highest accuracy on val; UserError where one has no run."""
    found = [(run.result["val"]["accuracy"], -i) for i, run in enumerate(map(had, tried))]
    return tried[-max(found)[1]]


def had(params: RunParams) -> Any:
    """The record of a run; a UserError where there is none."""
    if (run := records.find(params)) is None:
        raise UserError(f"{params.method} has no run on {params.dataset} yet: make evidence does it")
    return run


def chains(column: str) -> list[Iterator[list[RunParams]]]:
    """The chain of each method and floor that has a place in a column."""
    return [chain(method, column) for method in (*FLOORS, *METRICS, *TRAINED) if has(method, column)]


def chain(method: str, column: str) -> Iterator[list[RunParams]]:
    """All runs of a method in a column in rounds, each to be asked for when those before have their runs."""
    if not untrained(method, column):
        yield from tries(method, column)
    yield rows(method, column)


def untrained(method: str, column: str) -> bool:
    """Whether nothing is trained there, so that there is nothing to try and one run does."""
    return method in FLOORS or column == FROZEN and method in METRICS


def rows(method: str, column: str) -> list[RunParams]:
    """The runs of a row: each world and seed, with the rate and scale of the best try."""
    if untrained(method, column):
        return [params for world in WORLDS if (params := _untrained(method, column, world))]
    if run_params(method, column, "motion") is None:
        return []
    tried = best(method, column)
    chosen = {"lr": tried.lr, "metric_scale": tried.metric_scale}
    return [run_params(method, column, world, seed=seed, **chosen) for world in WORLDS for seed in seeds(column, world)]


def seeds(column: str, world: str) -> range:
    """The seeds of a row: fewer where every video goes through a tower that is trained, away from motion."""
    if column == FROZEN or world == "motion":
        return range(SEEDS)
    return range(0 if column == TUNED and world == "scene" else 1)


def has(method: str, column: str) -> bool:
    """Whether a method has a place in a column."""
    if method == "with_text" and column == RESNET:  # its tower reads no texts
        return False
    one = _untrained if untrained(method, column) else run_params
    return one(method, column, "motion") is not None


def _untrained(method: str, column: str, world: str) -> RunParams | None:
    change = {"method": "frozen_clip", "ablation": method} if method == "with_text" else {"method": method}
    size = {"train_episodes": 0, "val_episodes": 0}
    return run_params(change.pop("method"), column, world, **size, **change)
