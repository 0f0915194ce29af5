"""Several runs of a study: long trainings on a CPU beside each other, each in a process of one thread.

Two threads make one small training little faster, two trainings keep two cores busy. What is short, or not on a CPU,
is done one after another in this process.
"""

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from vidlib.basics.devices import pick_device
from vidlib.basics.progress import cores
from vidlib.results import runs
from vidlib.training import processes
from vidlib.training.run import AnyParams

LONG = 1000  # training videos: with fewer, a process of its own takes longer to begin than it saves


def run_all(module: ModuleType, wanted: Sequence[AnyParams], opened: Any = None) -> list[runs.Run]:
    """The finished runs of ``wanted``, in their order.

    ``module`` is ``few_shot`` or ``video_text``, ``opened`` what its ``run`` takes beside the parameters. The first
    UserError ends them all; what is done stays.
    """
    apart = [params for params in wanted if _long(module, params, opened)]
    if len(apart) < 2 or cores() < 2 or processes.is_child():
        return [module.run(params, opened) for params in wanted]
    apart.sort(key=lambda params: module.videos(params, opened), reverse=True)  # the longest first, a short one last
    together = min(cores(), len(apart))
    print(f"{len(apart)} trainings in processes of one thread, {together} at a time", flush=True)
    processes.run_each(apart, module.__name__, together, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
    done = [processes.found(module.recorded(params, opened)) if params in apart else None for params in wanted]
    return [run or module.run(params, opened) for run, params in zip(done, wanted, strict=True)]


def run_named(
    module: ModuleType, planned: Mapping[str, Sequence[AnyParams]], opened: Any = None
) -> dict[str, list[runs.Run]]:
    """``run_all`` of what is planned under each name."""
    done = iter(run_all(module, [params for each in planned.values() for params in each], opened))
    return {name: [next(done) for _ in each] for name, each in planned.items()}


def _long(module: ModuleType, params: AnyParams, opened: Any) -> bool:
    """Whether it trains long on a CPU, and has to be done."""
    if params.devices > 1 or pick_device(params.device) != "cpu" or module.videos(params, opened) < LONG:
        return False
    return params.fresh or module.recorded(params, opened) is None
