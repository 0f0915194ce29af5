"""Heads on frozen towers, from stores of frame features: runs, surfaces, open set and calibration of towers.ipynb.

``kept`` maps a tower to its stores, ``found`` a (head, tower) to its runs, each one per seed.
"""

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from vidlib import methods
from vidlib.basics.devices import make_fabric
from vidlib.basics.errors import UserError
from vidlib.data.catalogue.benchmarks import FOLDER
from vidlib.data.features import HEAD, Store
from vidlib.data.manifest import Manifest
from vidlib.params.by_recipe import FROZEN, untrained
from vidlib.params.few_shot import RunParams
from vidlib.params.tools import TowersParams
from vidlib.results import calibration, open_set, runs
from vidlib.results.accuracy import Evaluation
from vidlib.results.intervals import each_called, over_seeds
from vidlib.studies import comparison, tables
from vidlib.studies.tables import label
from vidlib.training import embedding, evaluate_episodes, few_shot, stored

TRANSFER = "logistic_regression"  # plain transfer
Kept = Mapping[str, Sequence[Store]]
Found = Mapping[tuple[str, str], Sequence[runs.Run]]


def run_params(p: TowersParams, head: str, tower: str, seed: int) -> RunParams:
    """A head's run: it reads frame features alone, of videos that look to all heads as to the store. What has nothing
    to train is the untrained run that other notebooks have too."""
    kind = methods.find(head)
    looks = {name: RunParams.model_fields[name].default for name in (*stored.LOOK, "test_frames")}
    params = p.run_params(tower, head, seed=seed, **looks)
    params = params if kind.learns else untrained(params)
    return params.model_copy(update={"options": params.options | dict(kind.from_features or {})})


def open_data(p: TowersParams) -> Manifest:
    """The videos; of a benchmark whose features alone are here, what the first tower's store says of them."""
    return few_shot.open_manifest(run_params(p, FROZEN, next(iter(p.planned)), p.seed))


def _of(store: Store, manifest: Manifest) -> Manifest:
    """``manifest``; where no videos are here, that of the store, in which they then "lie"."""
    return manifest if _with_videos(manifest) else store.manifest()


def _with_videos(manifest: Manifest) -> bool:
    return not (manifest.root / HEAD).is_file()


def embed(p: TowersParams, manifest: Manifest) -> tuple[dict[str, list[Store]], pd.DataFrame]:
    """The store of every tower (a random one has other weights for each seed), made now where it is not there yet by
    what ``vidlib data embed`` calls; and what each is and took (NaN seconds: it was there)."""
    learn = any(methods.find(head).learns for head in p.compared) or manifest.name.startswith(FOLDER)
    kept, rows = {}, []
    for tower, named in p.planned.items():
        kept[tower] = []
        for seed in _seeds(p, tower):
            params, new, began = run_params(p, FROZEN, tower, seed), False, time.perf_counter()
            if _with_videos(manifest):
                plan = embedding.plan(params, p.views, () if learn else ("val", "test"))
                new = bool(plan.store.lacking())
                for line in embedding.embed(plan, p.workers):
                    print(line)
                store = Store(plan.store.folder)
            elif there := stored.find(params, None):
                store = there.store
            else:
                raise UserError(f"towers: of {p.dataset} no videos are here, and no store of {tower}; import one")
            if lacking := len(store.lacking()):
                raise UserError(
                    f"{lacking} shards of {store.folder} are another process's work: run again once it ends"
                )
            kept[tower].append(store)
            row = {"tower": tower if named["pretrained"] else f"{tower}, seed {seed}", "videos": len(store.index)}
            row |= {"views": 1 + store.views, "numbers a frame": store.width, "MB": store.bytes / 1e6}
            rows.append(row | {"seconds": time.perf_counter() - began if new else np.nan, "store": store.folder.name})
        kept[tower] *= p.seeds // len(kept[tower])
    return kept, pd.DataFrame(rows).set_index("tower")


def run_all(p: TowersParams, manifest: Manifest, kept: Kept) -> tuple[dict[tuple[str, str], list[runs.Run]], list[str]]:
    """The runs of every head on every tower, finished ones reused; what cannot be, and why (UserError: none can).

    What neither trains nor has random weights is one run for all seeds.
    """
    found, missing = {}, []
    for head in p.compared:
        for tower in p.planned:
            try:
                same = not methods.find(head).learns
                each = [run_params(p, head, tower, seed) for seed in (_seeds(p, tower) if same else tables.seeds(p))]
                for params in each:
                    if why := methods.reads_frames(params):
                        raise UserError(why)
                    methods.check(params)
            except UserError as reason:
                missing.append(f"{label(head)} on {tower}: {reason}")
                continue
            pairs = zip(each, kept[tower], strict=False)  # fewer runs than seeds where all are one
            done = [few_shot.run(_reading(params, store), _of(store, manifest)) for params, store in pairs]
            found[head, tower] = done * (p.seeds // len(done))
    if not found:
        raise UserError(f"heads: none of them can be had; {missing[0]}")
    return found, missing


def _seeds(p: TowersParams, tower: str) -> Sequence[int]:
    """Those of a tower's weights: of pretrained ones the first stands for all."""
    return [p.seed] if p.planned[tower]["pretrained"] else tables.seeds(p)


def _reading(params: RunParams, store: Store) -> RunParams:
    return params.model_copy(update={"features": str(store.folder)})


def rows(p: TowersParams, found: Found) -> pd.DataFrame:
    """Accuracy on test as ``viz.heatmap.grid`` draws it: head, tower, accuracy, half (per cent), over; all in order,
    NaN where there is no run."""
    drawn = []
    for head, tower in itertools.product(p.compared, p.planned):
        line = {"head": label(head), "tower": tower, "accuracy": np.nan, "half": np.nan, "over": None}
        if same := found.get((head, tower)):
            mean, halves = over_seeds([run.result["test"] for run in tables.once(same)])
            over = next(iter(halves))
            line |= {"accuracy": 100 * mean, "half": 100 * halves[over], "over": over}
        drawn.append(line)
    return pd.DataFrame(drawn)


def beside(p: TowersParams, found: Found) -> dict[str, dict[tuple[str, str], tuple[str, str]]]:
    """What each is set against: plain transfer on the same tower, and the same head on random weights."""
    controls = {named["backbone"]: tower for tower, named in p.planned.items() if not named["pretrained"]}
    transfer = {(head, tower): (TRANSFER, tower) for head, tower in found}
    random = {(head, tower): (head, controls.get(p.planned[tower]["backbone"], "")) for head, tower in found}
    named = {f"minus {label(TRANSFER)}": transfer, "minus random weights": random}
    return {name: {a: b for a, b in pairs.items() if a != b and b in found} for name, pairs in named.items()}


def table(p: TowersParams, found: Found) -> pd.DataFrame:
    """The same with every interval, paired differences (points) to what ``beside`` says, the control of shuffled
    frames, what trained and what that took."""
    lines, others = [], beside(p, found)
    for (head, tower), same in found.items():
        results = [run.result for run in tables.once(same)]
        row = {"head": label(head), "tower": tower, "test accuracy": tables.mean_interval(results, "test")}
        row["frames shuffled"] = tables.mean_interval(results, "frames_shuffled")
        for name, pairs in others.items():
            mean, halves = tables.apart(same, found[pairs[head, tower]]) if (head, tower) in pairs else (0, {})
            row[name] = f"{100 * mean:+.1f} {each_called(halves)}" if halves else "-"
        trains = results[0]["fit"] is not None
        row["trained (M)"] = results[0]["cost"]["trainable"] / 1e6 if trains else 0.0
        row["training (s)"] = float(np.mean([result["fit"]["seconds"] for result in results])) if trains else 0.0
        row["ms a test episode"] = 1000 * results[0]["test"]["seconds"] / results[0]["test"]["episodes"]
        lines.append(row | {"seeds": len(results)})
    return pd.DataFrame(lines).set_index(["head", "tower"])


def as_it_came_out(p: TowersParams, found: Found) -> Iterator[str]:
    """What the runs say of the questions that one has; "above" is by the interval over seeds, of one over videos."""
    grid = rows(p, found).pivot(index="head", columns="tower", values="accuracy")[list(p.planned)]
    whole = grid[[tower for tower, named in p.planned.items() if named["pretrained"]]].dropna()
    if min(whole.shape) > 1:
        by_head, by_tower = (float(whole.std(axis).mean()) for axis in (0, 1))
        yield (
            f"standard deviation of {len(whole)} heads on one tower: {by_head:.1f} points; of {len(whole.T)} towers "
            f"under one head: {by_tower:.1f} (means, without random weights)"
        )
    for tower in grid:
        own = grid[tower].dropna().sort_values()
        text = f"{tower}: best is {own.index[-1]}, {own.iloc[-1]:.1f}%, worst {own.index[0]}, {own.iloc[0]:.1f}%"
        yield f"{text}; guessing is {100 / p.way:.1f}%"
    for name, pairs in beside(p, found).items():
        for tower in grid:
            said: dict[str, list[str]] = {"above": [], "below": [], "undecided": []}
            for (head, _), other in ((pair, other) for pair, other in pairs.items() if pair[1] == tower):
                mean, halves = tables.apart(found[head, tower], found[other])
                half = halves.get("seeds", halves["videos"]) or 0
                said["above" if mean > half else "below" if -mean > half else "undecided"].append(label(head))
            if any(said.values()):
                yield f"{tower} {name}: " + "; ".join(f"{how} {', '.join(own) or 'none'}" for how, own in said.items())


# ---------------------------------------------------------------- embed once, match many


def opened(run: runs.Run, manifest: Manifest, split: str, store: Store) -> tuple[methods.FewShotMethod, few_shot.Split]:
    """A run's method, and a split of which ``store`` holds the frame features."""
    params, method = few_shot.trained_method(run)
    manifest = _of(store, manifest)
    reads = stored.find(_reading(params, store), manifest)
    return method, few_shot.open_split(params, manifest, method.backbone, split, reads)


def surfaces(p: TowersParams, manifest: Manifest, found: Found, kept: Kept) -> pd.DataFrame:
    """Accuracy on val by way and shot of the heads that are drawn, on the first tower that each has, as
    ``viz.heatmap.grid`` draws it: panel, way, shot, accuracy, half (per cent)."""
    shapes = [(way, shot) for way in p.ways for shot in p.shots]
    parts = []
    for head, tower in _drawn(p, found):
        reading = partial(opened, split="val", store=kept[tower][0])
        done = comparison.by_shape(p, manifest, {head: found[head, tower]}, shapes, reading)
        parts.append(done.assign(panel=f"{label(head)} on {tower}"))
    return pd.concat(parts).rename(columns={"interval": "half"}).drop(columns="method").reset_index(drop=True)


def _drawn(p: TowersParams, found: Found) -> list[tuple[str, str]]:
    pairs = [next(((head, tower) for tower in p.planned if (head, tower) in found), None) for head in p.drawn]
    if not any(pairs):
        raise UserError(f"shown: {p.shown} can be had on none of the towers; name heads of the table above")
    return [pair for pair in pairs if pair]


@dataclass(frozen=True)
class Answers:
    """Of one head on one tower all logits: of val's and test's episodes, and of test's episodes asked about videos of
    none of their classes (None where the split has no other class)."""

    val: Evaluation
    test: Evaluation
    outside: Evaluation | None


def answers(p: TowersParams, manifest: Manifest, found: Found, kept: Kept) -> dict[tuple[str, str], Answers]:
    """``Answers`` of the first seed of every head on every tower; a reading of val and of test is counted."""
    given, fabric = {}, make_fabric(p.device, p.precision)
    for (head, tower), same in found.items():
        done = {}
        for split in ("val", "test"):
            method, part = opened(same[0], manifest, split, kept[tower][0])
            settings = {"fabric": fabric, "label": f"{label(head)} on {split}"}
            listed = (method, part.clips, part.sampler, p.answer_episodes, part.text)
            same[0].count_reading(split, "open set and calibration")
            done[split] = evaluate_episodes.evaluate(*listed, keep_parts=True, **settings)
        beyond = len(part.sampler.classes) > p.way
        outside = evaluate_episodes.evaluate_outside(*listed, **settings) if beyond else None
        given[head, tower] = Answers(done["val"], done["test"], outside)
    return given


def open_set_table(given: Mapping[tuple[str, str], Answers]) -> pd.DataFrame:
    """AUROC, and what is kept and refused at the threshold that val chose, per cent with each interval: over videos and
    classes those asked alone, without supports, and called so."""
    lines = []
    for (head, tower), each in given.items():
        if each.outside is None:
            continue
        found = open_set.measure(each.test, each.outside, each.val)
        row = {"head": label(head), "tower": tower}
        for name in ("auroc", "known_kept", "unknown_rejected"):
            row[name.replace("_", " ").replace("auroc", "AUROC")] = _with_halves(found[name], found[f"{name}_half"])
        lines.append(row | {"threshold (logit)": found["threshold"]})
    return pd.DataFrame(lines).set_index(["head", "tower"]) if lines else pd.DataFrame()


def _with_halves(value: float, halves: Mapping[str, float]) -> str:
    called = {kind if kind == "episodes" else f"asked {kind}": half for kind, half in halves.items()}
    return f"{100 * value:.1f}% {each_called(called)}"


def roc(p: TowersParams, given: Mapping[tuple[str, str], Answers]) -> tuple[pd.DataFrame, dict[str, tuple]]:
    """Of the heads that are drawn the curves and their points at val's threshold, as ``viz.confidence.open_set`` draws
    them."""
    curves, chosen = [], {}
    for head, tower in _drawn(p, given):
        if (each := given[head, tower]).outside is not None:
            known, unknown = (open_set.scores(one) for one in (each.test, each.outside))
            name, limit = f"{label(head)} on {tower}", open_set.threshold(open_set.scores(each.val))
            shares = dict(zip(("unknown", "known"), open_set.curve(known, unknown), strict=True))
            curves.append(pd.DataFrame(shares).assign(method=name))
            chosen[name] = tuple(float((scores >= limit).mean()) for scores in (unknown, known))
    return (pd.concat(curves, ignore_index=True) if curves else pd.DataFrame()), chosen


def calibration_table(given: Mapping[tuple[str, str], Answers]) -> pd.DataFrame:
    """The temperature fitted on val; expected calibration error (points) and loss on test, before it and after."""
    lines = []
    for (head, tower), each in given.items():
        found = calibration.measure(each.test, each.val)
        row = {"head": label(head), "tower": tower, "temperature": found["temperature"]}
        row |= {"ECE": 100 * found["ece"], "ECE after": 100 * found["ece_after"]}
        lines.append(row | {"loss": found["loss"], "loss after": found["loss_after"]})
    return pd.DataFrame(lines).set_index(["head", "tower"])


def reliability(p: TowersParams, given: Mapping[tuple[str, str], Answers], fitted: bool) -> pd.DataFrame:
    """The curves of the heads that are drawn, on test, before a temperature is fitted on val or after, as
    ``viz.confidence.reliability`` draws them."""
    parts = []
    for head, tower in _drawn(p, given):
        each = given[head, tower]
        warm = calibration.fit_temperature(*calibration.answers(each.val)) if fitted else 1.0
        parts.append(calibration.reliability(each.test, warm).assign(method=f"{label(head)} on {tower}"))
    return pd.concat(parts, ignore_index=True)


def from_videos(p: TowersParams, manifest: Manifest, run: runs.Run, store: Store) -> float:
    """The largest difference of a run's logits on five episodes of val, as part of the largest, from the store and from
    the videos themselves, in float32; NaN where no videos are here."""
    if not _with_videos(manifest):
        return np.nan
    method, val = opened(run, manifest, "val", store)
    _, plain = few_shot.open_trained(run, manifest)
    settings: dict[str, Any] = {"fabric": make_fabric(p.device, "32-true"), "keep_parts": True, "label": "claims"}
    both = []
    for one in (val, plain):
        done = evaluate_episodes.evaluate(method, one.clips, val.sampler, 5, val.text, **settings)
        both.append(np.concatenate(done.logits))
    return float(np.abs(both[0] - both[1]).max() / max(1.0, np.abs(both[1]).max()))
