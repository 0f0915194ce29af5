"""``vidlib evidence``: all trainings that the suite's claims rest on, in processes of one thread, packed into records.

A part is a list of chains; a chain gives its runs in rounds, the next once those before have finished. What is finished
in the runs folder is not run again, so the same command goes on after a kill.
"""

import functools
import heapq
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import ModuleType

import torch

from vidlib.basics import paths
from vidlib.basics.errors import UserError
from vidlib.basics.lock import Busy
from vidlib.basics.words import closest
from vidlib.params.few_shot import RunParams
from vidlib.params.notebooks import MODELS
from vidlib.studies import ablations, ladder, price_of_test, records
from vidlib.training import few_shot, video_text
from vidlib.training import run as running
from vidlib.training.run import AnyParams

Chain = Iterator[list[AnyParams]]
Say = Callable[[str], None]
LATER, WAIT = 10, 5.0  # the turn of a run that another command is at; seconds until it is looked at again
DEFECT = ("sloshnet", ladder.RESNET, "scrambles_time")  # of the released code, in the ladder: what raised it most
ABLATED = ("ma_fsar", "sloshnet", "gghm", "actionclip", "m2clip")


def parts() -> dict[str, Callable[[], list[Chain]]]:
    """What gives the chains of each part, in the order of their worth."""
    columns = {"frozen": ladder.FROZEN, "resnet": ladder.RESNET, "tuned": ladder.TUNED}
    found = {name: functools.partial(ladder.chains, column) for name, column in columns.items()}
    found["price"] = price_of_test.chains
    found["defect"] = lambda: [(ladder.ablated(*row) for row in [DEFECT])]
    found["ablations"] = lambda: [iter([each]) for each in ablated()]
    return found | {"defaults": lambda: [iter([each]) for each in defaults()]}


def check(wanted: Sequence[str]) -> None:
    """UserError where one of these is no part."""
    known = list(parts())
    for name in wanted:
        if name not in known:
            raise UserError(f"part '{name}' is not one of {', '.join(known)}{closest(name, known)}")


def defaults() -> list[list[AnyParams]]:
    """The run that each few-shot paper's notebook does by default, with three seeds: the band that others lie in."""
    notebooks = [MODELS[name]() for name in ("ma_fsar", "sloshnet", "gghm")]
    return [[p.run_params(p.method, seed=seed) for seed in range(ladder.SEEDS)] for p in notebooks]


def ablated() -> list[list[AnyParams]]:
    """The rows of the notebooks' tables of ablations, one run for each seed: the full methods, then what is changed."""
    rows = [list(ablations.of_defaults(method).values()) for method in ABLATED]
    return [of[0] for of in rows] + [row for of in rows for row in of[1:]]


def hours() -> str:
    """What all of it costs, from the shipped records of those who did it."""
    took = [(record.result["fit"] or {}).get("seconds", 0.0) for record in records.load()]
    if price := price_of_test.load():
        took += [line["seconds"] for line in price.about["runs"]]
    if not took:
        return "no records are here to tell how long it takes"
    did = f"{len(took)} runs are on record; trainings, and looks at every checkpoint,"
    return f"{did} took {sum(took) / 3600:.1f} hours of one process there"


def run(wanted: Sequence[str], at_once: int, root: Path, say: Say, missing: bool = False) -> list[str]:
    """Do the parts of these names (``check``), all without any, ``at_once`` runs at a time, each packed into the
    records in ``root``; with ``missing`` only what has no record at hand. The complaints of the runs that failed."""
    known, failed = parts(), list[str]()
    settings = {"mp_context": multiprocessing.get_context("spawn"), "initializer": _alone}
    with ProcessPoolExecutor(at_once, **settings) as pool:
        for name in wanted or known:
            lacks = functools.partial(_lacking, HAS.get(name, records.find)) if missing else list
            chains = [map(lacks, chain) for chain in known[name]()]
            failed += _part(name, chains, pool, at_once, root, say)
    return failed


def _part(name: str, chains: list[Chain], pool: ProcessPoolExecutor, at_once: int, root: Path, say: Say) -> list[str]:
    waiting: list[tuple[tuple[int, int, int], AnyParams]] = []
    left, failed = dict.fromkeys(range(len(chains)), 0), []
    active: dict[Future, tuple[tuple[int, int, int], AnyParams]] = {}

    def more(place: int) -> None:
        try:
            batch = next(filter(None, chains[place]), [])
        except UserError as error:
            failed.append(f"{name}: {error}")
            return
        left[place] = len(batch)
        for number, params in enumerate(batch):
            world = -1 if params.report == "val" else ladder.WORLDS.index(params.dataset)  # tries before rows
            heapq.heappush(waiting, ((world, place, number), params))

    for place in left:
        more(place)
    while waiting or active:
        while waiting and len(active) < at_once:
            turn, params = heapq.heappop(waiting)
            active[pool.submit(attempt, name, params, root)] = (turn, params)
        for future in wait(active, return_when=FIRST_COMPLETED).done:
            (world, place, number), params = active.pop(future)
            try:
                said = future.result()
            except BrokenProcessPool:
                raise UserError(
                    f"{name}: a process was killed, for memory perhaps; the same command goes on, with "
                    "--jobs 1 in half the memory"
                ) from None
            except Exception as error:  # of one run, which is no reason to lose the others
                kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
                said = f"{params.method} on {params.dataset} failed: {kind}{error}"
                failed.append(said)
            if said is None:  # another command does it: after all others, and then it is finished
                heapq.heappush(waiting, ((world + LATER, place, number), params))
                continue
            say(f"{time.strftime('%H:%M:%S')} {name}: {said} ({len(waiting)} waiting)")
            left[place] -= 1
            if not left[place]:
                more(place)
    return failed


def _lacking(found: Callable[[AnyParams], object], batch: list[AnyParams]) -> list[AnyParams]:
    return [params for params in batch if not found(params)]


def attempt(name: str, params: AnyParams, root: Path) -> str | None:
    """What a run of a part says in the end; None where another command is at it."""
    try:
        return DOES.get(name, one)(params, root)
    except Busy:
        time.sleep(WAIT)
        return None


def one(params: AnyParams, root: Path) -> str:
    """Do one run, or find it finished, and pack it; what came out, in words."""
    began = time.monotonic()
    run = running.run(_module(params).work(params))
    records.pack(run, root)
    what = f"{params.method} {params.ablation} on {params.dataset}, seed {params.seed}, lr {params.lr:.1e}"
    scale = f", scale {params.metric_scale:.3g}" if isinstance(params, RunParams) else ""
    accuracy, took = run.result[params.report]["accuracy"], time.monotonic() - began
    return f"{what.replace('  ', ' ')}{scale}: {100 * accuracy:.1f} in {took:.0f} s"


def _module(params: AnyParams) -> ModuleType:
    return few_shot if isinstance(params, RunParams) else video_text


# What does the runs of a part that are no plain ones, as ``one`` does, and whether the record has them
DOES, HAS = {"price": price_of_test.one}, {"price": price_of_test.has}


def again(name: str, say: Say) -> None:
    """Do a record's run anew here, and say both results."""
    then = next((record for record in records.load() if record.id == name), None)
    if then is None:
        raise UserError(f"no shipped record is called '{name}'{closest(name, [r.id for r in records.load()])}")
    say(f"on record ({records.made_by(then)}): {then.result[then.params['report']]['accuracy']:.4f}")
    params = records.parsed(then).model_copy(update={"runs": ""})
    now = _module(params).run(params)
    say(f"here, run {now.id}: {now.result[then.params['report']]['accuracy']:.4f}")


def folder() -> Path:
    """Where records are written: ``$VIDLIB_RECORDS``, else ``records/`` of the checkout; never in a wheel's."""
    root = paths.checkout()
    found = os.environ.get("VIDLIB_RECORDS") or (root and root / "records")
    if not found:
        raise UserError("records: there is no checkout to write them into; set VIDLIB_RECORDS to a folder")
    return Path(found)


def _alone() -> None:
    """One thread for a process that has another beside it."""
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    torch.set_num_threads(1)
