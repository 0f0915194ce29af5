"""A study of one method: its runs over seeds, the methods beside it, and the tables that compare them."""

import inspect
import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from IPython.display import display
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from scipy import stats
from torch import Tensor

from vidlib import methods
from vidlib.basics.devices import make_fabric
from vidlib.basics.errors import UserError
from vidlib.data.catalogue.benchmarks import WORLDS
from vidlib.data.manifest import Manifest
from vidlib.layers.attention import capture_attention
from vidlib.methods import find
from vidlib.methods.base import tagged
from vidlib.params.by_recipe import ByRecipe, frozen, untrained
from vidlib.params.few_shot import MAFSARParams, OneMethod, RunParams
from vidlib.results import published, runs, trust
from vidlib.results.accuracy import EvalResult, paired, percent
from vidlib.training import evaluate_episodes, few_shot
from vidlib.viz import attention, filmstrip, style

LABELS = {
    "ma_fsar": "MA-FSAR",
    "sloshnet": "SloshNet",
    "gghm": "GgHM",
    "clip_fsar": "CLIP-FSAR",
    "aim": "AIM",
    "otam": "OTAM",
    "trx": "TRX",
    "strm": "STRM",
    "hyrsm": "HyRSM",
    "molo": "MoLo",
    "protonet": "ProtoNet",
    "bimhm": "Bi-MHM",
    "frozen_clip": "frozen CLIP",
    "frozen": "frozen features",
    "untrained": "itself, untrained",
}


def label(method: str) -> str:
    """A method's name as it is printed; of a user's own, its class's."""
    return LABELS.get(method, method.rpartition(":")[2])


def seeds(p: OneMethod) -> range:
    """The seeds of a study."""
    return range(p.seed, p.seed + p.seeds)


def run_methods(p: OneMethod, names: Sequence[str]) -> dict[str, list[runs.Run]]:
    """One finished run per method and seed, in the order of ``names``; finished ones are reused, the others run now.

    Pretrained and untrained, frozen CLIP is the same for every seed and runs once.
    """
    found = {}
    for name in names:
        same = name == "frozen_clip" and p.pretrained
        found[name] = [few_shot.run(p.run_params(name, seed=seed)) for seed in ([p.seed] if same else seeds(p))]
        found[name] *= p.seeds if same else 1
    return found


def run_beside(p: ByRecipe) -> dict[str, list[runs.Run]]:
    """The runs of ``p.method``, of those in ``compare``, of itself untrained and of its backbone's frozen features."""
    found = {}
    for name in (p.method, *p.compared):
        found[name] = [few_shot.run(p.run_params(name, seed=seed)) for seed in seeds(p)]
    found["untrained"] = [few_shot.run(untrained(p.run_params(seed=seed))) for seed in seeds(p)]
    same = p.pretrained != ""  # random weights follow from the seed
    floors = [few_shot.run(frozen(p.run_params(seed=seed))) for seed in ([p.seed] if same else seeds(p))]
    return found | {"frozen": floors * (p.seeds if same else 1)}


def about(method: str) -> str:
    """What a method is: the words at the head of its file."""
    cls = find(method)
    return inspect.getdoc(inspect.getmodule(cls)) or inspect.getdoc(cls) or "its file does not say"


def published_of(method: str) -> pd.DataFrame:
    """The rows of ``published`` that are a method's few-shot figures; empty where there are none."""
    try:
        found = published.rows(method=label(method))
    except UserError:
        return published.load().iloc[:0]
    return found[found["protocol"].str.fullmatch(r"\d+-way \d+-shot")]


def arguments(params: RunParams) -> pd.DataFrame:
    """The constructor's arguments: the value in this run, and the default."""
    defaults = constructor(params.method)
    here = defaults | methods.arguments(params)
    rows = [{"argument": name, "here": repr(here[name]), "default": repr(defaults[name])} for name in defaults]
    return pd.DataFrame(rows).set_index("argument")


def constructor(method: str) -> dict[str, Any]:
    """The arguments that a method's constructor has, with their defaults."""
    known = inspect.signature(find(method)).parameters
    return {name: p.default for name, p in known.items() if p.default is not inspect.Parameter.empty}


def result_table(found: Mapping[str, Sequence[runs.Run]]) -> pd.DataFrame:
    """One row per method: accuracy on test with its interval, both controls, what it trains and what that took.

    With several seeds accuracies are means over them and the interval is over seeds (Student's t), else over episodes.
    """
    rows = []
    for name, same in found.items():
        results = [run.result for run in same]
        row = {"method": label(name), "test accuracy": mean_interval(results, "test")} | trust.beside(found, results[0])
        row["frames shuffled"] = mean_interval(results, "frames_shuffled")
        if any("texts_permuted" in run.result for every in found.values() for run in every):
            row["texts permuted"] = mean_interval(results, "texts_permuted") if "texts_permuted" in results[0] else "-"
        row["trained (M)"] = f"{results[0]['cost']['trainable'] / 1e6:.3f}"
        row["GMACs"] = f"{results[0]['cost']['gmacs']:.2f}"
        row["selected at"] = ", ".join(selected_at(result) for result in results)
        row["minutes"] = f"{sum(result['fit']['seconds'] for result in results if result['fit']) / 60:.1f}"
        rows.append(row | {"seeds": len(same)})
    return pd.DataFrame(rows).set_index("method")


def selected_at(result: Mapping[str, Any]) -> str:
    """Which episode's weights were selected on val."""
    fit = result["fit"]
    return "untrained" if fit is None else f"step {fit['selected']} of {fit['steps']}"


def mean_interval(results: Sequence[Mapping[str, Any]], what: str) -> str:
    """``46.2% ± 0.9`` of one evaluation, over seeds where there are several."""
    accuracy, half = seed_interval([r[what]["accuracy"] for r in results], results[0][what]["interval"])
    return percent(accuracy, half)


def seed_interval(values: Sequence[float], single: float) -> tuple[float, float]:
    """Mean and half the 95% interval over seeds; one seed keeps its own interval over episodes, ``single``."""
    if len(values) == 1:
        return values[0], single
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values)), float(half)


def differences(found: Mapping[str, Sequence[runs.Run]], of: str) -> pd.DataFrame:
    """``of`` minus every other method on the same test episodes, seed by seed, with its paired interval (points)."""
    rows = []
    for name in found:
        if name == of:
            continue
        for ours, theirs in zip(found[of], found[name], strict=True):
            gap = paired(tested(ours), tested(theirs))
            row = {f"{label(of)} minus": label(name), "seed": ours.params["seed"], "points": 100 * gap.difference}
            row |= {"± (paired 95%)": 100 * gap.interval} | trust.beside(found, ours.result)
            rows.append(row | {"episodes": gap.episodes})
    return pd.DataFrame(rows).round(1)


def tested(run: runs.Run) -> EvalResult:
    """A run's per-episode results on the split that it reports."""
    return EvalResult.load(run.path("episodes.npz"))


def without_training(p: MAFSARParams, manifest: Manifest, run: runs.Run) -> tuple[pd.DataFrame, pd.DataFrame]:
    """MA-FSAR as ``run`` trained it, on val: accuracy (%) by mixing weight, and with one thing changed at test."""
    method, val = few_shot.open_trained(run, manifest)
    run.count_reading("val", "ablations without training")

    fabric = make_fabric(p.device, p.precision)
    episodes = [val.sampler[i] for i in range(p.test_episodes)]

    def embedded(frame_order: str = "in order") -> evaluate_episodes.Features:
        clips, _ = evaluate_episodes.with_controls(val.clips, val.text, val.sampler, frame_order, "own")
        return evaluate_episodes.embed_videos(method, clips, episodes, val.text, fabric=fabric, label="val")

    def matched(features: evaluate_episodes.Features) -> EvalResult:
        settings = {"fabric": fabric, "keep_parts": True, "label": "val"}
        return evaluate_episodes.match_episodes(method, features, val.sampler, episodes, val.text, **settings)

    def at(result: EvalResult, weight: float) -> EvalResult:
        return result.remix(
            lambda parts: method.mix({k: torch.from_numpy(v) for k, v in parts.items()}, weight).numpy()
        )

    features = embedded()
    own = matched(features)
    mixed = {f"{weight:g}": at(own, weight) for weight in (0, 0.1, 0.25, 0.5, 0.75, 0.9, 1)}
    changed = {"as trained": own, "frames shuffled": matched(embedded("shuffled"))}
    if method.support_text:
        method.support_text = False
        changed["text off (no class text anywhere, a = 0)"] = at(matched(embedded()), 0.0)
        method.support_text = True
    for name in ("otam", "bimhm", "prototype", "cosine"):  # those without weights of their own
        if name != p.metric:
            method.use_metric(name, p.metric_scale)
            for role in features.values():
                role |= tagged(method.metric.prepare(role["frames"]), "metric")
            changed[f"metric {name} in the place of {p.metric}"] = matched(features)
    return _accuracies(mixed, "mixing weight a"), _accuracies(changed, "changed at test")


def _accuracies(found: Mapping[Any, EvalResult], what: str) -> pd.DataFrame:
    table = {key: {"val accuracy (%)": 100 * r.accuracy, "± 95%": 100 * r.interval} for key, r in found.items()}
    return pd.DataFrame.from_dict(table, orient="index").rename_axis(what)


def attention_maps(
    manifest: Manifest, found: Mapping[str, Sequence[runs.Run]], row: int = 0
) -> tuple[np.ndarray, dict[str, Tensor], dict[str, Tensor]]:
    """The frames of one val video, as a query, and of every method the class token's last-layer maps and extra mass."""
    frames, maps, masses = None, {}, {}
    for name, same in found.items():
        method, val = few_shot.open_trained(same[0], manifest)
        backbone = method.backbone
        clip = val.clips.test(row)
        with torch.no_grad(), capture_attention(method) as weights:
            method.eval().embed(clip[None], None, "query")
        last = weights[backbone.layers - 1, "local"]
        maps[label(name)] = attention.class_token_maps(last, backbone.grid)
        masses[label(name)] = attention.extra_mass(last, backbone.grid)
        frames = filmstrip.to_uint8(clip, backbone.mean, backbone.std)
    return frames, maps, masses


def bubble_rows(found: Mapping[str, Sequence[runs.Run]]) -> pd.DataFrame:
    """Our own runs as ``viz.bubbles`` draws them: accuracies and intervals in per cent, parameters in millions."""
    rows = []
    for name, same in found.items():
        results = [run.result for run in same]
        accuracy, half = seed_interval([r["test"]["accuracy"] for r in results], results[0]["test"]["interval"])
        row = {"name": label(name), "trainable_M": results[0]["cost"]["trainable"] / 1e6, "accuracy": 100 * accuracy}
        row |= {"low": 100 * (accuracy - half), "high": 100 * (accuracy + half), "gmacs": results[0]["cost"]["gmacs"]}
        rows.append(row | {"origin": "ours", "confidence": "measured"})
    return pd.DataFrame(rows)


def describe(p: OneMethod, manifest: Manifest, found: Mapping[str, Sequence[runs.Run]], of: str, notebook: str) -> None:
    """Print the protocol of the result table: what was tested on what, how often test was read, how to repeat it.

    ``of`` is the method studied, ``notebook`` the file's name without its ending.
    """
    run = found[of][0]
    test = run.result["test"]
    shape = f"{p.way}-way {p.shot}-shot, {p.query} query per class, {p.frames} frames at segment centres, novel classes"
    print(f"Data: {data_name(manifest)}; {trust.coverage_line(run.result)}.")
    print(
        f"Protocol: {shape}; {test['episodes']:,} test episodes, list {test['checksum'][:12]}; weights selected on val."
    )
    print(f"Seeds: {', '.join(map(str, seeds(p)))}. Interval: {interval_note(p.seeds)}.")
    for name, same in found.items():
        readings = ", ".join(f"{split} {n}" for split, n in sorted(same[0].readings().items()))
        finished, mode = same[0].result["finished"][:16], same[0].result["test"]["mode"]
        print(
            f"{label(name)}: run {same[0].id}, finished {finished} UTC; evaluated by way of: {mode}; "
            f"times each split was read: {readings}."
        )
    for line in trust.replaced_lines(found):
        print(line)
    print(f"Command: {command(notebook, p.changed())}")


def command(notebook: str, changed: Mapping[str, Any]) -> str:
    """The line that runs a notebook with these parameters."""
    options = "".join(f" -p {name} {shlex.quote(_word(value))}" for name, value in changed.items())
    return f"papermill notebooks/{notebook}.ipynb out.ipynb{options}"


def _word(value: Any) -> str:
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def data_name(manifest: Manifest) -> str:
    """The data set's name, for an embedded world what it is not, and for incomplete data their coverage."""
    if manifest.name in WORLDS:
        return f"{manifest.name} (the embedded world, not a benchmark of the field)"
    lacking = trust.incomplete({"coverage": manifest.coverage().table.to_dict("records")})
    return f"{manifest.name} ({lacking})" if lacking else manifest.name


def interval_note(number: int) -> str:
    """What the interval of a table with this number of seeds is."""
    if number == 1:
        return "95% over episodes, conditional on one trained model and one set of classes"
    return f"95% over {number} seeds (Student's t), each tested on the same episodes"


def show(figure: Figure, run: runs.Run | None = None, name: str = "", data: pd.DataFrame | None = None) -> None:
    """Display a figure, whatever the backend; with ``run``, write it and the table that it drew to the run's folder."""
    if run is not None:
        style.save(figure, run.path("figures"), name, data)
    display(figure)
    plt.close(figure)
