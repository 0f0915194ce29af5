"""All trainings that the suite's claims rest on, in processes of one thread: what is finished is skipped.

A part is a list of chains; a chain gives its runs in rounds, the next once those before have finished.
"""

import heapq
import multiprocessing
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait

import torch

from vidlib.basics.errors import UserError
from vidlib.params.few_shot import RunParams
from vidlib.studies import ablations, ladder
from vidlib.training import few_shot, video_text
from vidlib.training.run import AnyParams

Chain = Iterator[list[AnyParams]]

ABLATED = ("ma_fsar", "actionclip", "m2clip", "sloshnet", "gghm")


def parts() -> dict[str, list[Chain]]:
    """The chains of each part, in the order of their worth."""
    methods = {ladder.FROZEN: (*ladder.FLOORS, *ladder.METRICS, *ladder.TRAINED)}
    methods |= {
        ladder.RESNET: (*ladder.FLOORS, *ladder.TRAINED, *ladder.METRICS),
        ladder.TUNED: (*ladder.TRAINED, *ladder.METRICS),
    }
    chains = {
        column: [ladder.chain(method, column) for method in methods[column] if ladder.has(method, column)]
        for column in ladder.COLUMNS
    }
    return chains | {"ablations": [iter([each]) for each in ablated()]}


def ablated() -> list[list[AnyParams]]:
    """The rows of the notebooks' tables of ablations, one run for each seed: the full methods, then what is changed."""
    rows = [list(ablations.of_defaults(method).values()) for method in ABLATED]
    return [of[0] for of in rows] + [row for of in rows for row in of[1:]]


def run(wanted: list[str], at_once: int) -> list[str]:
    """Do the parts; the complaints of the runs that failed."""
    waiting: list[tuple[tuple[int, int, int], AnyParams, Chain]] = []
    left: dict[int, int] = {}
    failed, count = [], 0

    def more(place: int, chain: Chain) -> None:
        nonlocal count
        try:
            batch = next(chain, [])
        except UserError as error:
            failed.append(str(error))
            return
        left[id(chain)] = len(batch)
        for params in batch:
            count += 1
            world = -1 if params.report == "val" else ladder.WORLDS.index(params.dataset)
            heapq.heappush(waiting, ((world, place, count), params, chain))

    begin = multiprocessing.get_context("spawn")
    for name in wanted:
        for place, chain in enumerate(parts()[name]):
            more(place, chain)
        active: dict[Future, tuple] = {}
        with ProcessPoolExecutor(at_once, mp_context=begin, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            while waiting or active:
                while waiting and len(active) < at_once:
                    (_, place, _), params, chain = heapq.heappop(waiting)
                    active[pool.submit(_one, params)] = (place, params, chain)
                for future in wait(active, return_when=FIRST_COMPLETED).done:
                    place, params, chain = active.pop(future)
                    try:
                        said = future.result()
                    except Exception as error:
                        said = f"failed: {type(error).__name__}: {error}"
                        failed.append(f"{params.method} on {params.dataset}: {error}")
                    print(f"{time.strftime('%H:%M:%S')} {name}: {said} ({len(waiting)} waiting)", flush=True)
                    left[id(chain)] -= 1
                    if not left[id(chain)]:
                        more(place, chain)
    return failed


def _one(params: AnyParams) -> str:
    began = time.monotonic()
    run = (few_shot if isinstance(params, RunParams) else video_text).run(params)
    result = run.result[params.report]
    scale = f" scale {params.metric_scale:.2g}" if isinstance(params, RunParams) else ""
    what = f"{params.method} {params.ablation} {params.dataset} lr {params.lr:.0e}{scale}"
    return (
        f"{what} seed {params.seed} {params.report}: {100 * result['accuracy']:.1f} in {time.monotonic() - began:.0f} s"
    )


if __name__ == "__main__":
    print("\n".join(run(sys.argv[2:] or list(parts()), int(sys.argv[1]))))
