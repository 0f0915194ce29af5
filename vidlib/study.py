"""A study of one method: its runs over seeds, the methods beside it, its ablations, and the tables that compare them.

Ablations that need training are run where they are asked for and read from their run folders elsewhere; what has no
record is listed as not run. They are judged on val: test is read once per run, for the final table.
"""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from IPython.display import display
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from scipy import stats
from torch import Tensor

from vidlib import evaluation, runs, training
from vidlib.data.benchmarks import WORLDS
from vidlib.data.manifest import Manifest
from vidlib.devices import make_fabric
from vidlib.layers.attention import capture_attention
from vidlib.methods.base import tagged
from vidlib.params import MAFSARParams, RunParams
from vidlib.results import EvalResult, paired, percent
from vidlib.viz import attention, filmstrip, style

LABELS = {"ma_fsar": "MA-FSAR", "aim": "AIM", "clip_fsar": "CLIP-FSAR", "frozen_clip": "frozen CLIP"}


@dataclass(frozen=True)
class Ablation:
    """A named change: ``change`` is one of ``methods.ABLATIONS``, ``params`` changes parameters of the run."""

    label: str
    change: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)

    def of(self, base: RunParams) -> RunParams:
        """The run that is ``base`` with this change."""
        return RunParams.parse({**base.model_dump(), "ablation": self.change, **self.params})


FULL = Ablation("full method")
ABLATION_TESTS = 2000  # val episodes that judge an ablation
MA_FSAR_ABLATIONS = (
    Ablation("without global temporal adaptation", "no_temporal"),
    Ablation("without local adaptation", "no_local"),
    Ablation("without joint adaptation", "no_joint"),
    Ablation("temporal adaptation on all tokens", "all_tokens"),
    Ablation("no text token in the support branch", "no_text_token"),
    Ablation("TPCM as plain self-attention", "plain_attention"),
    Ablation("without TPCM", "no_tpcm"),
    Ablation("without the loss L_Q2S", "no_q2s"),
    Ablation("without the loss L_S2T", "no_s2t"),
    Ablation("without the loss L_Q2T", "no_q2t"),
    Ablation("metric Bi-MHM", params={"metric": "bimhm"}),
    Ablation("metric TRX", params={"metric": "trx"}),
    Ablation("metric mean prototype", params={"metric": "prototype"}),
    Ablation("4 frames", params={"frames": 4}),
    Ablation("16 frames", params={"frames": 16}),
    Ablation("3 ways", params={"way": 3}),
    Ablation("8 ways", params={"way": 8}),
    Ablation("full tuning of the image tower", "full_tuning"),
)


def seeds(p: MAFSARParams) -> range:
    """The seeds of a study."""
    return range(p.seed, p.seed + p.seeds)


def run_methods(p: MAFSARParams, names: Sequence[str]) -> dict[str, list[runs.Run]]:
    """One finished run per method and seed, in the order of ``names``; finished ones are reused, the others run now.

    Pretrained and untrained, frozen CLIP is the same for every seed and runs once.
    """
    found = {}
    for name in names:
        same = name == "frozen_clip" and p.pretrained
        found[name] = [training.run(p.run_params(name, seed=seed)) for seed in ([p.seed] if same else seeds(p))]
        found[name] *= p.seeds if same else 1
    return found


def result_table(found: Mapping[str, Sequence[runs.Run]]) -> pd.DataFrame:
    """One row per method: accuracy on test with its interval, both controls, what it trains and what that took.

    With several seeds accuracies are means over them and the interval is over seeds (Student's t), else over episodes.
    """
    rows = []
    for name, same in found.items():
        results = [run.result for run in same]
        row = {"method": LABELS[name], "test accuracy": mean_interval(results, "test")}
        row["frames shuffled"] = mean_interval(results, "frames_shuffled")
        row["texts permuted"] = mean_interval(results, "texts_permuted")
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


def differences(found: Mapping[str, Sequence[runs.Run]], of: str = "ma_fsar") -> pd.DataFrame:
    """``of`` minus every other method on the same test episodes, seed by seed, with its paired interval (points)."""
    rows = []
    for name in found:
        if name == of:
            continue
        for ours, theirs in zip(found[of], found[name], strict=True):
            gap = paired(tested(ours), tested(theirs))
            row = {"MA-FSAR minus": LABELS[name], "seed": ours.params["seed"], "points": 100 * gap.difference}
            rows.append(row | {"± (paired 95%)": 100 * gap.interval, "episodes": gap.episodes})
    return pd.DataFrame(rows).round(1)


def tested(run: runs.Run) -> EvalResult:
    """A run's per-episode results on the split that it reports."""
    return EvalResult.load(run.path("episodes.npz"))


def run_ablations(p: MAFSARParams, ablations: Iterable[Ablation] = MA_FSAR_ABLATIONS) -> dict[str, runs.Run]:
    """The runs of all ablations that can be had: trained now where ``p.ablations``, else those with a record.

    They are judged on val, so nothing is selected there (the last weights count), and their size does not follow the
    notebook's: a laptop recipe's records serve a default run.
    """
    size = {"train_episodes": p.ablation_episodes, "test_episodes": ABLATION_TESTS, "val_episodes": 0, "val_every": 1}
    base = p.run_params("ma_fsar", report="val", **size)
    found = {}
    for ablation in (FULL, *ablations):
        params = ablation.of(base)
        run = training.run(params) if p.ablations else training.recorded(params)
        if run is not None:
            found[ablation.label] = run
    return found


def ablation_table(found: Mapping[str, runs.Run], ablations: Iterable[Ablation] = MA_FSAR_ABLATIONS) -> pd.DataFrame:
    """One row per ablation, on val: accuracy, its paired difference to the full method in points, cost; NaN: not run.

    Another number of ways makes other episodes, so its difference is not paired but of two intervals.
    """
    rows = []
    full = tested(found[FULL.label]) if FULL.label in found else None
    for ablation in (FULL, *ablations):
        run = found.get(ablation.label)
        row = {"ablation": ablation.label, "accuracy": np.nan, "interval": np.nan, "difference": np.nan, "half": np.nan}
        row |= {"trained (M)": np.nan, "memory (MiB)": np.nan, "seconds": np.nan}
        if run is not None:
            result, here = run.result, tested(run)
            row |= {"accuracy": 100 * here.accuracy, "interval": 100 * here.interval}
            row |= {"trained (M)": result["cost"]["trainable"] / 1e6, "memory (MiB)": result["cost"]["training_memory"]}
            row["seconds"] = result["fit"]["seconds"]
            if full is not None and here.checksum == full.checksum:
                gap = paired(here, full)
                row |= {"difference": 100 * gap.difference, "half": 100 * gap.interval}
            elif full is not None:
                row |= {"difference": 100 * (here.accuracy - full.accuracy)}
                row["half"] = 100 * float(np.hypot(here.interval, full.interval))
        rows.append(row)
    return pd.DataFrame(rows).set_index("ablation")


def ablation_rows(table: pd.DataFrame) -> pd.DataFrame:
    """``ablation_table`` as ``viz.ablation.plot`` draws it."""
    changed = table.drop(index=FULL.label)
    rows = pd.DataFrame({"name": changed.index, "delta": changed["difference"].to_numpy(), "kind": "trained"})
    rows["low"], rows["high"] = (rows["delta"] + sign * changed["half"].to_numpy() for sign in (-1, 1))
    return rows


def without_training(p: MAFSARParams, manifest: Manifest, run: runs.Run) -> tuple[pd.DataFrame, pd.DataFrame]:
    """MA-FSAR as ``run`` trained it, on val: accuracy (%) by mixing weight, and with one thing changed at test."""
    method, val = training.open_trained(run, manifest)
    run.count_reading("val", "ablations without training")

    fabric = make_fabric(p.device, p.precision)
    episodes = [val.sampler[i] for i in range(p.test_episodes)]

    def embedded(frame_order: str = "in order") -> evaluation.Features:
        clips, _ = evaluation.with_controls(val.clips, val.text, val.sampler, frame_order, "own")
        return evaluation.embed_videos(method, clips, episodes, val.text, fabric=fabric, label="val")

    def matched(features: evaluation.Features) -> EvalResult:
        settings = {"fabric": fabric, "keep_parts": True, "label": "val"}
        return evaluation.match_episodes(method, features, val.sampler, episodes, val.text, **settings)

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
        method, val = training.open_trained(same[0], manifest)
        backbone = method.backbone
        clip = val.clips.test(row)
        with torch.no_grad(), capture_attention(method) as weights:
            method.eval().embed(clip[None], None, "query")
        last = weights[backbone.layers - 1, "local"]
        maps[LABELS[name]] = attention.class_token_maps(last, backbone.grid)
        masses[LABELS[name]] = attention.extra_mass(last, backbone.grid)
        frames = filmstrip.to_uint8(clip, backbone.mean, backbone.std)
    return frames, maps, masses


def bubble_rows(found: Mapping[str, Sequence[runs.Run]]) -> pd.DataFrame:
    """Our own runs as ``viz.bubbles`` draws them: accuracies and intervals in per cent, parameters in millions."""
    rows = []
    for name, same in found.items():
        results = [run.result for run in same]
        accuracy, half = seed_interval([r["test"]["accuracy"] for r in results], results[0]["test"]["interval"])
        row = {"name": LABELS[name], "trainable_M": results[0]["cost"]["trainable"] / 1e6, "accuracy": 100 * accuracy}
        row |= {"low": 100 * (accuracy - half), "high": 100 * (accuracy + half), "gmacs": results[0]["cost"]["gmacs"]}
        rows.append(row | {"origin": "ours", "confidence": "measured"})
    return pd.DataFrame(rows)


def describe(p: MAFSARParams, manifest: Manifest, found: Mapping[str, Sequence[runs.Run]]) -> None:
    """Print the protocol of the result table: what was tested on what, how often test was read, how to repeat it."""
    run = found["ma_fsar"][0]
    test = run.result["test"]
    shape = f"{p.way}-way {p.shot}-shot, {p.query} query per class, {p.frames} frames at segment centres, novel classes"
    print(f"Data: {data_name(manifest)}; {coverage_line(run.result)}.")
    print(
        f"Protocol: {shape}; {test['episodes']:,} test episodes, list {test['checksum'][:12]}; weights selected on val."
    )
    print(f"Seeds: {', '.join(map(str, seeds(p)))}. Interval: {interval_note(p.seeds)}.")
    for name, same in found.items():
        readings = ", ".join(f"{split} {n}" for split, n in sorted(same[0].readings().items()))
        finished = same[0].result["finished"][:16]
        print(f"{LABELS[name]}: run {same[0].id}, finished {finished} UTC; times each split was read: {readings}.")
    default = type(p).model_fields
    changed = {name: value for name, value in p if value != default[name].default and name not in p.PLACE}
    options = "".join(f" -p {name} {shlex.quote(str(value))}" for name, value in changed.items())
    print(f"Command: papermill notebooks/ma_fsar.ipynb out.ipynb{options}")


def data_name(manifest: Manifest) -> str:
    """The data set's name, and for an embedded world what it is not."""
    world = " (the embedded world, not a benchmark of the field)" if manifest.name in WORLDS else ""
    return f"{manifest.name}{world}"


def interval_note(number: int) -> str:
    """What the interval of a table with this number of seeds is."""
    if number == 1:
        return "95% over episodes, conditional on one trained model and one set of classes"
    return f"95% over {number} seeds (Student's t), each tested on the same episodes"


def coverage_line(result: Mapping[str, Any]) -> str:
    """``test 480 of 480 listed videos present``, for each split."""
    return ", ".join(f"{c['split']} {c['present']:,} of {c['listed']:,} listed videos" for c in result["coverage"])


def show(figure: Figure, run: runs.Run | None = None, name: str = "", data: pd.DataFrame | None = None) -> None:
    """Display a figure, whatever the backend; with ``run``, write it and the table that it drew to the run's folder."""
    if run is not None:
        style.save(figure, run.path("figures"), name, data)
    display(figure)
    plt.close(figure)
