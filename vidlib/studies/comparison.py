"""Every method under one protocol: its runs, one table, accuracy by shots and ways, what an episode costs.

``studied`` maps a method's name to its runs, one per seed; the floors are named ``frozen <backbone>``.
"""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from vidlib import backbones, methods
from vidlib.basics.devices import make_fabric
from vidlib.basics.errors import UserError
from vidlib.data.episodes import EpisodeSampler
from vidlib.data.manifest import Manifest
from vidlib.data.protocols import labels_line
from vidlib.params.by_recipe import ComparisonParams, by_recipe, frozen
from vidlib.params.few_shot import RunParams
from vidlib.results import published, runs, trust
from vidlib.results.intervals import each_called
from vidlib.studies import paper_against_ours, tables
from vidlib.studies.tables import Studied, label
from vidlib.training import encoded, evaluate_episodes, few_shot, side_by_side
from vidlib.training.few_shot import EVALUATION_SEED

PAPER_BACKBONES = {"ResNet-50": "resnet50", "CLIP ViT-B/16": "ViT-B-16-quickgelu"}
FLOOR = "frozen "


def run_all(p: ComparisonParams) -> tuple[dict[str, list[runs.Run]], pd.DataFrame]:
    """The runs that can be had, in the order of ``p.compared``, then the floors; and what is missing, why, and how.

    With ``p.train`` a run that has no record is done now, else it is missing.
    """
    planned, missing, manifest = {}, [], few_shot.open_manifest(p)
    for name in p.compared:
        planned[name] = [p.run_params(name, seed=seed) for seed in tables.seeds(p)]
        try:
            methods.check(planned[name][0])
        except UserError as reason:
            del planned[name]
            missing.append({"method": label(name), "why": str(reason), "command": ""})
    if p.train:
        finished = side_by_side.run_named(few_shot, planned, manifest)
    else:
        finished = {name: [few_shot.recorded(params, manifest) for params in each] for name, each in planned.items()}
    for name in [name for name, done in finished.items() if None in done]:
        del finished[name]
        missing.append({"method": label(name), "why": "no record of such a run", "command": command(p, name)})
    get, floors = few_shot.run if p.train else few_shot.recorded, {}
    for name in finished:
        floors.setdefault(planned[name][0].backbone, planned[name][0])
    for backbone, params in floors.items():
        if (floor := get(frozen(params), manifest)) is not None:
            finished[f"{FLOOR}{backbone}"] = [floor] * p.seeds
    return finished, pd.DataFrame(missing, columns=["method", "why", "command"]).set_index("method")


def command(p: ComparisonParams, name: str) -> str:
    """The line that does a method's run alone: the same run, so that it is reused here."""
    given = {n: v for n, v in p.changed().items() if n in RunParams.model_fields or n == "seeds"}
    given |= {"method": name, "test_episodes": p.test_episodes, "train_episodes": p.train_episodes, "val_episodes": 0}
    if not p.train_episodes:
        del given["train_episodes"], given["val_episodes"]
    return tables.command("few_shot", given)


def table(p: ComparisonParams, studied: Studied) -> pd.DataFrame:
    """One row per method: accuracy on test, paired differences to ``p.against`` and frozen features, cost, command."""
    rows = []
    for name, same in studied.items():
        results, params = [run.result for run in tables.once(same)], RunParams.parse(same[0].params)
        row = {"method": label(name), "backbone": params.backbone}
        row["test accuracy"] = tables.mean_interval(results, "test")
        row |= trust.beside(studied, results[0])
        row["frames shuffled"] = tables.mean_interval(results, "frames_shuffled")
        row[f"minus {label(p.against)}"] = _gap(studied, name, p.against)
        row["minus frozen features"] = _gap(studied, name, f"{FLOOR}{params.backbone}")
        row |= tables.sizes(results[0])
        row["training episodes"] = params.train_episodes if results[0]["fit"] else 0
        row["seeds"] = len(results)
        rows.append(row | {"command": "" if name.startswith(FLOOR) else command(p, name)})
    return pd.DataFrame(rows).set_index("method") if rows else pd.DataFrame()


def describe_labels(studied: Studied) -> None:
    """Print how many labelled videos each run used for what; methods that used the same share a line."""
    lines: dict[str, list[str]] = {}
    for name, same in studied.items():
        lines.setdefault(labels_line(same[0].result["labels"]), []).append(label(name))
    for line, names in lines.items():
        print(f"{line.removesuffix('.')} ({', '.join(names)}).")


def _gap(studied: Studied, name: str, other: str) -> str:
    """``+3.1 ± 1.2 episodes, ± 2.0 videos, ± 5.1 classes``: ``name`` minus ``other`` on the same episodes, in points;
    over seeds besides where there are several."""
    if name == other or other not in studied:
        return "-"
    mean, halves = tables.apart(studied[name], studied[other])
    return f"{100 * mean:+.1f} {each_called(halves)}"


# ---------------------------------------------------------------- shots and ways


def by_shots_and_ways(
    p: ComparisonParams,
    manifest: Manifest,
    studied: Studied,
    shots: Sequence[int] = (1, 2, 3, 5),
    ways: Sequence[int] = (2, 3, 5, 8),
) -> pd.DataFrame:
    """Accuracy on val of the methods as trained, by shots at ``p.way`` and by ways at ``p.shot``; nothing is trained.

    Columns: method, varied ("shot", "way"), value, accuracy and interval (per cent); the rest as of ``by_shape``.
    """
    lines = [("shot", k, p.way, k) for k in shots] + [("way", n, n, p.shot) for n in ways]
    found = by_shape(p, manifest, studied, dict.fromkeys((way, shot) for _, _, way, shot in lines))
    rows = []
    for name, own in found.groupby("method", sort=False):
        measured = own.set_index(["way", "shot"])[["accuracy", "interval"]].to_dict("index")
        for varied, value, *shape in lines:
            if of := measured.get(tuple(shape)):
                rows.append({"method": name, "varied": varied, "value": value} | of)
    return pd.DataFrame(rows, columns=["method", "varied", "value", "accuracy", "interval"])


def by_shape(
    p: Any,
    manifest: Manifest,
    studied: Studied,
    shapes: Iterable[tuple[int, int]],
    opened: Callable[[runs.Run, Manifest], Any] = few_shot.open_trained,
) -> pd.DataFrame:
    """Accuracy on val of the methods as trained (``opened``: with val, ready to use), for each way and shot of
    ``shapes``; each video is embedded once for all of them.

    Columns: method, way, shot, accuracy and interval (per cent). Shapes that val cannot give are left out, and so are
    methods that embed every episode anew.
    """
    fabric, rows, samplers = make_fabric(p.device, p.precision), [], {}
    for way, shot in shapes:
        with contextlib.suppress(UserError):  # too few classes, or videos of one
            samplers[way, shot] = EpisodeSampler(manifest, "val", way, shot, p.query, EVALUATION_SEED)
    drawn = {shape: [sampler[i] for i in range(p.shape_episodes)] for shape, sampler in samplers.items()}
    for name, same in studied.items():
        method, val = opened(same[0], manifest)
        if evaluate_episodes.each_anew(method, val.clips):
            continue
        same[0].count_reading("val", "shots and ways")
        every = [episode for listed in drawn.values() for episode in listed]
        settings = {"fabric": fabric, "label": f"{label(name)} on val"}
        clips = encoded.shared(method, val.clips, every, **settings)
        features = evaluate_episodes.embed_videos(method, clips, every, val.text, **settings)
        for shape, sampler in samplers.items():
            done = evaluate_episodes.match_episodes(method, features, sampler, drawn[shape], val.text, **settings)
            row = {"method": label(name), "way": shape[0], "shot": shape[1]}
            rows.append(row | {"accuracy": 100 * done.accuracy, "interval": 100 * done.interval})
    return pd.DataFrame(rows, columns=["method", "way", "shot", "accuracy", "interval"])


# ---------------------------------------------------------------- cost


def costs(p: ComparisonParams, studied: Studied) -> pd.DataFrame:
    """What an episode of ``p``'s shape costs, from the run records; index method.

    Milliseconds of a test episode, every video embedded anew (``embedding``) and matched in batches (``matching``);
    seconds of a training episode, selections not counted, and MiB of a training step (tensors alive at its peak:
    weights, gradients and the optimiser's state among them).
    """
    rows = []
    videos = p.way * (p.shot + p.query)
    for name, same in studied.items():
        results = [run.result for run in same]
        cost, test, fit = results[0]["cost"], results[0]["test"], results[0]["fit"]
        params = RunParams.parse(same[0].params)
        whole, embedding = 1000 * test["seconds"] / test["episodes"], 1000 * videos / cost["clips_per_second"]
        row = {"method": label(name), "embedding": embedding}
        row["matching"] = max(0.0, whole - embedding) if test["mode"] == "each episode" else whole
        row["training (s)"] = fit["seconds"] / params.train_episodes if fit else np.nan
        row["training memory (MiB)"] = cost["training_memory"] if fit else np.nan
        rows.append(row | {"evaluated": test["mode"]})
    return pd.DataFrame(rows).set_index("method").astype({"training memory (MiB)": float}) if rows else pd.DataFrame()


# ---------------------------------------------------------------- published figures


def count(method: str, backbone: str, dataset: str = "ssv2_small", shot: int = 1) -> float:
    """Millions of parameters that ``method`` trains on ``backbone`` by its recipe of ``dataset``; of 64 classes."""
    params = by_recipe(method, {"dataset": dataset, "shot": shot, "backbone": backbone})
    with torch.device("meta"):
        trunk = backbones.load(backbone, "")
        built = methods.build(params, trunk, **methods.taken(method, classes=64))
    return sum(p.numel() for p in built.trainable().values()) / 1e6


def published_bubbles(dataset: str, protocol: str = "5-way 1-shot") -> pd.DataFrame:
    """``published.comparison``; a count that no paper printed is our module's, and ``counted`` says so. Every figure
    that sets published counts beside accuracies is drawn of this."""
    rows = published.comparison(dataset, protocol).assign(counted=False)
    ours = {label(name): name for name in methods.METHODS}
    shot = int(protocol.split()[1].split("-")[0])
    for i, row in rows[rows["trainable_M"].isna()].iterrows():
        name, backbone = ours.get(row["name"]), PAPER_BACKBONES.get(row["backbone"])
        if name and backbone:
            counted = count(name, backbone, paper_against_ours.DATASETS[dataset], shot)
            rows.loc[i, ["trainable_M", "counted", "count_confidence"]] = counted, True, None
    return rows
