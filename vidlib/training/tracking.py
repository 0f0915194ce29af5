"""Copies of a run's curves and result in the experiment tracker that a laboratory has (``track``).

``metrics.jsonl`` stays the record. A tracker is imported only where it is named; its own environment variables say
where it keeps things (``MLFLOW_TRACKING_URI``, ``TRACKIO_DIR``, ``WANDB_MODE``, ...), else they stay beside the run. A
run is called by its id, so that one that was interrupted goes on under its name; the steps after its last checkpoint
are there twice, with the same numbers.
"""

import importlib
import importlib.util
import os
from collections.abc import Callable, Mapping
from typing import Any

from vidlib.basics.errors import UserError
from vidlib.results import runs

PROJECT = "vidlib"
MODULES = {"tensorboard": "torch.utils.tensorboard"}  # what is imported of a tracker, where it is not its own name


class Tracker:
    """``log`` takes a line of metrics.jsonl, ``finish`` a run's result; with no name neither does anything."""

    def __init__(self, name: str, run: runs.Run | None):
        self._write, self._close = (_nothing, _nothing) if run is None or not name else _opened(name, run)

    def log(self, line: Mapping[str, Any]) -> None:
        """The numbers of one optimiser step, by ``step``."""
        self._write(numbers({k: v for k, v in line.items() if k != "step"}), line["step"])

    def finish(self, result: Mapping[str, Any]) -> None:
        """The numbers of a result, named ``result/test/accuracy``, at the last step."""
        step = (result.get("fit") or {}).get("steps", 0)
        self._write(numbers(result, "result"), step)

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()


def check(name: str) -> None:
    """UserError where the tracker of this name is not installed; nothing is imported."""
    if name and importlib.util.find_spec(name) is None:
        raise UserError(
            f"track: {name} is not installed: pip install {name}, or leave track empty; metrics.jsonl in the run's "
            "folder holds the curves anyway"
        )


def numbers(values: Mapping[str, Any], under: str = "") -> dict[str, float]:
    """All numbers of nested ``values`` by their names joined with slashes; of ``per_class`` none: they are a table."""
    found: dict[str, float] = {}
    for name, value in values.items():
        name = f"{under}/{name}" if under else str(name)
        if isinstance(value, Mapping) and not name.endswith("per_class"):
            found |= numbers(value, name)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[name] = float(value)
    return found


def _opened(name: str, run: runs.Run) -> tuple[Callable[..., Any], Callable[[], Any]]:
    """How the tracker writes numbers at a step, and how it is closed."""
    check(name)
    known = run.params
    if name == "trackio":
        os.environ.setdefault("TRACKIO_DIR", str(run.home.parent / "trackio"))  # read where it is imported
    module = importlib.import_module(MODULES.get(name, name))
    if name == "tensorboard":
        writer = module.SummaryWriter(str(run.path("tensorboard")))
        writer.add_text("params", "\n".join(f"    {key}: {value}" for key, value in known.items()))

        def add(values: dict[str, float], step: int) -> None:
            for key, value in values.items():
                writer.add_scalar(key, value, step)

        return add, writer.close
    if name == "mlflow":
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            module.set_tracking_uri(f"sqlite:///{run.home.parent / 'mlflow.db'}")
        module.set_experiment(PROJECT)
        before = module.search_runs(filter_string=f"tags.mlflow.runName = '{run.id}'", output_format="list")
        module.start_run(before[0].info.run_id if before else None, run_name=None if before else run.id)
        module.log_params({key: str(value)[:500] for key, value in known.items()})
        return lambda values, step: module.log_metrics(values, step=step), module.end_run
    if name == "wandb":
        here = {"dir": str(run.folder), "id": run.id, "name": run.id, "resume": "allow"}
    else:
        here = {"name": run.id, "resume": "allow", "embed": False}
    opened = module.init(project=PROJECT, config=dict(known), **here)
    return lambda values, step: opened.log(values, step=step), opened.finish


def _nothing(*_: Any) -> None:
    pass
