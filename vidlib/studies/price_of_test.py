"""The price of choosing on test: trainings of the ladder that look at val and at test at every checkpoint.

Val chooses, as in every run here, so what is trained is the plain run's to the bit; what test would have chosen is
known beside it. Legend: `R` runs, `C` checkpoints, `K` of them compared.
"""

import fcntl
import hashlib
import inspect
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lightning_fabric import Fabric
from torch import Tensor, nn

from vidlib.backbones import Backbone
from vidlib.basics import paths
from vidlib.basics.digests import digest
from vidlib.basics.errors import UserError
from vidlib.params.few_shot import RunParams
from vidlib.params.names import label
from vidlib.results import runs
from vidlib.results.intervals import half_width
from vidlib.studies import ladder, records
from vidlib.training import few_shot
from vidlib.training import run as running
from vidlib.training.evaluate_episodes import evaluate

WORLD, SEEDS = "motion", 5
METHODS = (*ladder.READERS, *(name for name in ladder.TRAINED if name not in ladder.READERS))  # the cheap ones first
SIZE = {"val_episodes": 500, "val_every": -(-ladder.EPISODES // 12), "test_episodes": 2000, "also_shots": []}
COMPARED = (1, 2, 3, 4, 6, 12)
POOLED = "mean over methods"
NAME = "price_of_test"  # in result.json, and of the files in a run's folder and in records/
WHAT = "val and test at every checkpoint, to know what test would have chosen: no result of the method"
COMMAND = "vidlib evidence price"
MAKE = f"make it with: {COMMAND}"

Maps = dict[bytes, list[Tensor]]  # frames, by their digest -> a tower's maps of them


class Watched(few_shot.Episodes):
    """A run that evaluates test, too, at every selection and keeps all answers; it selects on val."""

    def digests(self) -> dict[str, str]:
        return super().digests() | {"price of test": digest(inspect.getsource(Watched))}

    def validation(self, method: nn.Module, fabric: Fabric) -> Callable[[nn.Module], float]:
        home = runs.home_of(running.identity(self))
        listed = []
        for name, episodes in (("val", self.params.val_episodes), ("test", self.params.test_episodes)):
            split = self.split(method, name)
            listed.append((split.clips, split.sampler, episodes, split.text))
        made: Maps = {}

        def both(trained: nn.Module) -> float:
            step = len(runs.read_lines(home / runs.METRICS)) + 1  # the line of this one comes after
            how: dict[str, Any] = {"fabric": fabric, "workers": self.params.workers}
            with remembered(method.backbone, made):
                val, test = (evaluate(trained, *each, label=f"step {step}", **how) for each in listed)
            record = runs.Run(home, home, "interrupted", None)
            record.count_reading("test", f"what test would choose: step {step}")
            keep(record.path(f"{NAME}.npz"), step, val.hits, test.hits)
            return val.accuracy

        return both

    def test(self, method: nn.Module, fabric: Fabric, record: runs.Run) -> dict[str, Any]:
        kept = np.load(record.path(f"{NAME}.npz"))
        steps = [line["step"] for line in runs.read_lines(record.path(runs.METRICS)) if "val_accuracy" in line]
        if kept["step"].tolist() != steps:
            raise UserError(f"{record.folder} has lost checkpoints of {NAME}.npz: delete the folder and run it anew")
        sampler = self.split(method, "test").sampler
        found = {"what": WHAT, "checksum": sampler.checksum(self.params.test_episodes), "steps": steps}
        return {NAME: found | {split: kept[split].mean(1).tolist() for split in ("val", "test")}}


@contextmanager
def remembered(tower: Backbone, made: Maps) -> Iterator[None]:
    """In the block a frozen ``tower`` takes its maps from ``made``, and adds those of frames that it has not seen yet:
    every checkpoint looks at the same videos."""
    stages = getattr(tower, "stages", None)
    if not stages or any(parameter.requires_grad for parameter in tower.parameters()):
        yield
        return

    def once(frames: Tensor) -> list[Tensor]:
        key = hashlib.blake2b(frames.cpu().numpy()).digest()
        if key not in made:
            made[key] = stages(frames)
        return made[key]

    tower.stages = once
    try:
        yield
    finally:
        del tower.stages


def keep(file: Path, step: int, val: np.ndarray, test: np.ndarray) -> None:
    """Add a checkpoint's answers (1 right, 0 wrong) to ``file``; what a run that was killed left of it and of later
    ones goes. Arrays step [C], val and test [C answers]."""
    new = {"step": np.array([step]), "val": val[None].astype(bool), "test": test[None].astype(bool)}
    if file.is_file():
        with np.load(file) as old:
            earlier = old["step"] < step
            new = {name: np.concatenate([old[name][earlier], value]) for name, value in new.items()}
    with paths.atomic_write(file) as part, open(part, "wb") as out:
        np.savez_compressed(out, **new)


# ---------------------------------------------------------------- runs


def planned(method: str) -> list[RunParams]:
    """The runs of a method, with the rate and scale of its best try in the ladder; a UserError where that lacks."""
    best = ladder.best(method, ladder.FROZEN)
    chosen = {"lr": best.lr, "metric_scale": best.metric_scale}
    return [ladder.run_params(method, ladder.FROZEN, WORLD, seed=seed, **SIZE, **chosen) for seed in range(SEEDS)]


def chains() -> list[Iterator[list[RunParams]]]:
    """For ``evidence``: a round of each method, the cheap ones first."""
    return [map(planned, [method]) for method in METHODS]


def one(params: RunParams, root: Path) -> str:
    """For ``evidence``: do a run, write the record in ``root`` anew with it; what came out, in words."""
    began = time.monotonic()
    found = run(params).result[NAME]
    val, test = np.array(found["val"]), np.array(found["test"])
    write(root)
    said = f"test {100 * test[val.argmax()]:.1f} as val chooses, {100 * test.max():.1f} as test does"
    return f"{params.method}, seed {params.seed}: {said} in {time.monotonic() - began:.0f} s"


def run(params: RunParams) -> runs.Run:
    """Such a run, finished; reused where there is one."""
    return running.run(_work(params))


def _work(params: RunParams) -> Watched:
    if not params.val_episodes or params.report != "test":
        raise UserError("what choosing on test gains needs val_episodes to choose on, and report=test")
    params = params.model_copy(update={"devices": 1, "fresh": False})  # its folder is that of its id
    return Watched(params, few_shot.open_manifest(params))


# ---------------------------------------------------------------- the record


@dataclass(frozen=True)
class Price:
    """Right answers at each checkpoint: ``val [R C]``, ``test [R C 2]`` in the episodes of even and of odd number; of
    the checkpoints that val and that test choose each answer to test, ``chosen [R 2 answers]``. ``about``: what
    the record says, its ``runs`` [R] with method and seed."""

    about: dict[str, Any]
    val: np.ndarray
    test: np.ndarray
    chosen: np.ndarray


def of_runs(finished: list[runs.Run]) -> Price:
    """The record of finished runs."""
    about: dict[str, Any] = {"what": WHAT, "command": COMMAND, "world": WORLD, "column": ladder.FROZEN, "params": {}}
    about["runs"], arrays = [], []
    for one in finished:
        params, result, environment = one.params, one.result, one.environment
        with np.load(one.path(f"{NAME}.npz")) as kept:
            val, answers = kept["val"].sum(1), kept["test"].reshape(len(kept["step"]), params["test_episodes"], -1)
        test = np.stack([answers[:, half::2].sum((1, 2)) for half in (0, 1)], 1)
        arrays.append((val, test, np.stack([answers[c].ravel() for c in _chosen(val, test)])))
        about["params"][params["method"]] = {name: value for name, value in params.items() if name != "seed"}
        about |= {"steps": result[NAME]["steps"], "checksum": result[NAME]["checksum"]}
        line = {"method": params["method"], "seed": params["seed"], "run": one.id, "commit": environment["commit"]}
        line |= {"code": environment["identity"]["contents"]["source"], "finished": result["finished"]}
        line["seconds"] = round(result["fit"]["seconds"] + result["fit"]["selection_seconds"])
        about["runs"].append(line)
    return Price(about, *(np.stack(each) for each in zip(*arrays, strict=True)))


def _chosen(val: np.ndarray, test: np.ndarray) -> tuple[int, int]:
    """The checkpoint that val chooses and that which test does, the earlier of equals."""
    return int(val.argmax()), int(test.sum(1).argmax())


def write(root: Path) -> None:
    """Make the record in ``root`` of those planned runs that are finished, and of those that it has already; one
    process at a time."""
    root.mkdir(parents=True, exist_ok=True)
    handle = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        old, wanted = load(root), list[RunParams]()
        for method in METHODS:
            try:
                wanted += planned(method)
            except UserError:  # its tries are not all here: what the record has of it stays
                wanted += [params for params in params_of(old) if params.method == method] if old else []
        finished = [run for params in wanted if (run := running.recorded(_work(params)))]
        if finished:
            save(together(of_runs(finished), old, wanted), root)
    finally:
        os.close(handle)


def together(new: Price, old: Price | None, wanted: list[RunParams]) -> Price:
    """The ``wanted`` runs, in their order: as in ``new``, else as in ``old``, if that has the same episodes and
    checkpoints."""
    alike = old and all(old.about[name] == new.about[name] for name in ("steps", "checksum"))
    found = {key: (price, place) for price in (old, new)[not alike :] for place, key in enumerate(_keys(price))}
    parts = [found[key] for key in map(records.key, wanted) if key in found]
    lines = [price.about["runs"][place] for price, place in parts]
    own = {line["method"]: price.about["params"][line["method"]] for line, (price, _) in zip(lines, parts, strict=True)}
    arrays = [np.stack([getattr(price, name)[place] for price, place in parts]) for name in ("val", "test", "chosen")]
    return Price(new.about | {"params": own, "runs": lines}, *arrays)


def params_of(price: Price) -> list[RunParams]:
    """The parameters of each of its runs."""
    params, lines = price.about["params"], price.about["runs"]
    return [RunParams.parse(params[line["method"]] | {"seed": line["seed"]}) for line in lines]


def _keys(price: Price) -> list[str]:
    return [records.key(params) for params in params_of(price)]


def has(params: RunParams) -> bool:
    """Whether the record at hand has this run."""
    price = load()
    return bool(price) and records.key(params) in _keys(price)


def save(price: Price, folder: Path) -> None:
    """Write the record: an .npz that holds all of it, and beside it a .json that says what it is."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {"val": price.val.astype(np.int16), "test": price.test.astype(np.int16)}
    bits = {"chosen": np.packbits(price.chosen, axis=-1), "answers": price.chosen.shape[-1]}
    bits["about"] = np.array(json.dumps(price.about))
    with paths.atomic_write(folder / f"{NAME}.npz") as part, open(part, "wb") as out:
        np.savez_compressed(out, **arrays, **bits)
    runs.write_json(folder / f"{NAME}.json", price.about)


def load(folder: Path | None = None) -> Price | None:
    """The record of ``folder``, default that which comes with vidlib; None where there is none, a UserError where its
    numbers contradict each other."""
    folder = folder or paths.records_dir()
    if not folder or not (folder / f"{NAME}.npz").is_file():
        return None
    file = records.npz(folder / f"{NAME}.npz")
    if lacking := {"about", "val", "test", "chosen", "answers"} - file.keys():
        raise UserError(f"{folder / NAME}.npz lacks {', '.join(sorted(lacking))}; {MAKE}")
    about = json.loads(str(file["about"]))
    chosen = np.unpackbits(file["chosen"], axis=-1, count=int(file["answers"])).astype(bool)
    price = Price(about, file["val"].astype(int), file["test"].astype(int), chosen)
    if {len(about["runs"])} != {len(price.val), len(price.test), len(chosen)}:
        raise UserError(f"{folder / NAME}.npz tells of {len(about['runs'])} runs and keeps others; {MAKE}")
    for val, test, answers in zip(price.val, price.test, chosen, strict=True):
        if [test[c].sum() for c in _chosen(val, test)] != answers.sum(1).tolist():
            raise UserError(f"{folder / NAME}.npz: answers and their counts differ; {MAKE}")
    return price


def read(folder: Path | None = None) -> pd.DataFrame | None:
    """``summary`` of the record, each method by its printed name; it prints what is missing, of no record all."""
    price = load(folder)
    if price is None:
        print(f"There is no record of what choosing on test gains; {MAKE}")
        return None
    done = Counter(line["method"] for line in price.about["runs"])
    lacking = [f"{label(name)} {SEEDS - done[name]} of {SEEDS}" for name in METHODS if done[name] < SEEDS]
    if lacking:
        print(f"The record lacks seeds: {', '.join(lacking)}.")
    found = summary(rows(price))
    return found.assign(method=found["method"].map(label))


def gains(val: np.ndarray, test: np.ndarray, k: int) -> dict[str, float]:
    """What test gains over val where ``k`` checkpoints are compared, the last among them, in right answers of all: mean
    over every such choice of ``k``. ``val [C]``, ``test [C 2]`` as in ``Price``.

    ``gain``: test chooses on the episodes that are reported. ``same``, ``other``: it chooses on one half of them and
    that half is reported, or the other one; both as often as over all.
    """
    last = len(val) - 1
    compared = np.array([(*some, last) for some in combinations(range(last), k - 1)])

    def chosen(right: np.ndarray) -> np.ndarray:
        return np.take_along_axis(compared, right[compared].argmax(1)[:, None], 1)[:, 0]

    whole, by_val = test.sum(1), chosen(val)
    found = {"gain": float((whole[chosen(whole)] - whole[by_val]).mean())}
    for name, shift in (("same", 0), ("other", 1)):
        halves = [test[chosen(test[:, h]), (h + shift) % 2] - test[by_val, (h + shift) % 2] for h in (0, 1)]
        found[name] = float(np.mean(halves) * 2)
    return found


def rows(price: Price) -> pd.DataFrame:
    """A row for each run and number compared: method, seed, k, gain, same, other (points), val, test (per cent: the
    accuracy on test as val and as test choose among all checkpoints)."""
    share = 100 / price.chosen.shape[-1]
    found = []
    for line, val, test in zip(price.about["runs"], price.val, price.test, strict=True):
        by_val, by_test = (share * test[c].sum() for c in _chosen(val, test))
        for k in (k for k in COMPARED if k <= len(val)):
            points = {name: share * gain for name, gain in gains(val, test, k).items()}
            own = {"method": line["method"], "seed": line["seed"], "k": k, "val": by_val, "test": by_test}
            found.append(own | points)
    return pd.DataFrame(found)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each method and number compared: mean over seeds, ``interval`` (half of 95%, t over seeds; NaN of one)
    and ``seeds``; then those of ``POOLED``: the mean of the means of the methods with several seeds, its interval over
    them."""
    every = [_means(rows, ["method", "k"])]
    whole = every[0][every[0]["seeds"] > 1]
    every.append(_means(whole, ["k"]).assign(method=POOLED))
    return pd.concat(every, ignore_index=True).replace(np.inf, np.nan)


def _means(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    groups = rows.assign(seeds=rows.get("seeds", 1)).groupby(by, sort=False)
    found = groups[["val", "test", "gain", "same", "other"]].mean()
    found = found.assign(
        interval=groups["gain"].agg(lambda gain: half_width(gain.to_numpy())), seeds=groups["seeds"].sum()
    )
    return found.reset_index()


def table(summary: pd.DataFrame) -> pd.DataFrame:
    """As text, a line for each method: runs, test as val and as test choose among all checkpoints, and the gain by how
    many are compared, in points."""
    most = summary[summary["k"] == summary["k"].max()].set_index("method")
    shown = most[["val", "test"]].map("{:.1f}".format).set_axis(["val chooses (%)", "test chooses (%)"], axis=1)
    shown.insert(0, "runs", most["seeds"])
    for k, part in summary.groupby("k"):
        halves = [f" ± {half:.2f}" if np.isfinite(half) else "" for half in part["interval"]]
        points = [f"{gain:.2f}{half}" for gain, half in zip(part["gain"], halves, strict=True)]
        shown[f"of {k}"] = pd.Series(points, part["method"])
    return shown.assign(**{"half, the same": most["same"], "half, other": most["other"]})
