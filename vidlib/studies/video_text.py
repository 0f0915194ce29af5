"""A study of ActionCLIP or M2-CLIP: its runs over seeds, what stands beside it, and the tables that compare them."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from vidlib.params.video_text import VideoTextRunParams, VideoTextStudy
from vidlib.results import published, runs, trust
from vidlib.results.accuracy import paired
from vidlib.results.recognised import Recognised
from vidlib.studies import few_shot as study
from vidlib.training import video_text

Found = Mapping[str, Sequence[runs.Run]]

LABELS = {
    "actionclip": "ActionCLIP",
    "m2clip": "M2-CLIP",
    "pretrained": "frozen CLIP, label words",
    "prompted": "prompted, untrained",
    "unimodal": "1-of-N classifier",
}
NOTES = {"test": "classes that were trained", "novel": "new classes"}


def label(name: str) -> str:
    return LABELS.get(name, name)


def seeds(p: VideoTextStudy) -> range:
    return range(p.seed, p.seed + p.seeds)


def steps(p: VideoTextStudy) -> dict[str, VideoTextRunParams]:
    """What is run for the first seed: CLIP as it was pre-trained, prompted, fine-tuned; and the classifier beside it.

    The classifier has ActionCLIP's visual tower and no text, so that it has no part in zero_shot.
    """
    plain = {"visual_prompt": "meanp", "templates": "label_words", "tune": "none", "learned_scale": False}
    found = {
        "pretrained": p.run_params(method="actionclip", options=plain, epochs=0, variant="paper"),
        "prompted": p.run_params(epochs=0),
        p.METHOD: p.run_params(),
    }
    if p.unimodal and p.protocol != "zero_shot":
        options = {"visual_prompt": "meanp"} if p.METHOD != "actionclip" else p.options()
        own = {"lr": 1e-4} if p.METHOD != "actionclip" else {}  # the rate of a tower, not of adapters
        found["unimodal"] = p.run_params(
            method="actionclip", options=options, ablation="unimodal", variant="paper", **own
        )
    return found


def run_steps(p: VideoTextStudy) -> dict[str, list[runs.Run]]:
    """The finished runs of ``steps`` for every seed; of frozen CLIP with given weights one serves all seeds."""
    found = {}
    for name, params in steps(p).items():
        same = name == "pretrained" and p.pretrained and p.protocol != "kshot" and not p.train_per_class
        each = [p.seed] if same else seeds(p)
        found[name] = [video_text.run(params.model_copy(update={"seed": seed})) for seed in each]
        found[name] *= p.seeds if same else 1
    return found


def tested(run: runs.Run, what: str = "test") -> Recognised:
    """A run's probabilities of every video of a split, ``what`` as in result.json ("test", "novel_texts_permuted")."""
    return Recognised.load(run.path(f"{what}.npz"))


def splits(found: Found) -> list[str]:
    """The splits that the runs report: test, and of base_to_novel novel."""
    return [split for split in NOTES if any(split in run.result for same in found.values() for run in same)]


def result_table(found: Found) -> pd.DataFrame:
    """One row per step and split: top-1 with its interval, top-5, both controls, chance, what it trains and costs."""
    rows = []
    for name, same in found.items():
        results = [run.result for run in same]
        for split in splits(found):
            if split not in results[0]:
                continue
            row = {"": label(name), "tested on": NOTES[split] if "novel" in splits(found) else split}
            row["top-1"] = study.mean_interval(results, split)
            row |= trust.beside(found, results[0])
            row["top-5"] = f"{100 * np.mean([r[split]['top5'] for r in results]):.1f}%"
            row["chance"] = f"{100 * results[0][split]['chance']:.1f}%"
            for control in ("frames_shuffled", "texts_permuted"):
                key = f"{split}_{control}"
                row[control.replace("_", " ")] = study.mean_interval(results, key) if key in results[0] else "-"
            row["trained (M)"] = f"{results[0]['cost']['trainable'] / 1e6:.3f}"
            row["GMACs"] = f"{results[0]['cost']['gmacs']:.2f}"
            row["minutes"] = f"{sum(r['fit']['seconds'] for r in results if r['fit']) / 60:.1f}"
            rows.append(row | {"seeds": len({run.id for run in same})})
    return pd.DataFrame(rows).set_index(["", "tested on"])


def harmonic_means(found: Found) -> pd.Series:
    """Of runs that met base and novel classes, the harmonic mean of both accuracies (%), averaged over seeds."""
    values = {
        label(name): 100 * float(np.mean([run.result["harmonic"] for run in same]))
        for name, same in found.items()
        if "harmonic" in same[0].result
    }
    return pd.Series(values, name="harmonic mean (%)", dtype=float)


def differences(found: Found, of: str) -> pd.DataFrame:
    """``of`` minus every other step on the same videos, seed by seed, with its paired interval (points)."""
    rows = []
    for name, split in ((name, split) for name in found for split in splits(found) if name != of):
        for ours, theirs in zip(found[of], found[name], strict=True):
            if split not in ours.result or split not in theirs.result:
                continue
            gap = paired(tested(ours, split), tested(theirs, split))
            row = {f"{label(of)} minus": label(name), "tested on": split, "seed": ours.params["seed"]}
            row |= {"points": 100 * gap.difference, "± (paired 95%)": 100 * gap.interval}
            row |= trust.beside(found, ours.result)
            rows.append(row | {"videos": gap.episodes})
    return pd.DataFrame(rows).round(1)


def describe(p: VideoTextStudy, found: Found) -> None:
    """Print the protocol of the result table: what was done, coverage, seeds, runs, readings of test, the command."""
    run = found[p.METHOD][0]
    print(f"Protocol: {run.result['said']}")
    if run.result["overlap"]:
        print(f"Class names in training and test data: {', '.join(run.result['overlap'])}.")
    print(f"Coverage: {trust.coverage_line(run.result)}.")
    views = run.result["test"]["views"]
    print(f"Test: {views}, {p.frames} frames each; weights {'selected on val' if p.select else 'of the last step'}.")
    for split in splits(found):
        if parts := run.result[split].get("standard_splits"):
            each = ", ".join(f"{n}: {100 * value:.1f}" for n, value in parts.items())
            mean, deviation = (100 * run.result[split][name] for name in ("mean", "deviation"))
            print(f"{label(p.METHOD)}, {split} over standard splits: {mean:.1f} ± {deviation:.1f} (deviation; {each}).")
    over = f"{p.seeds} seeds (Student's t)" if p.seeds > 1 else "videos, conditional on one trained model"
    print(f"Seeds: {', '.join(map(str, seeds(p)))}. Interval: 95% over {over}.")
    for name, same in found.items():
        readings = ", ".join(f"{split} {n}" for split, n in sorted(same[0].readings().items()))
        finished = same[0].result["finished"][:16]
        print(f"{label(name)}: run {same[0].id}, finished {finished} UTC; times each split was read: {readings}.")
    for line in trust.replaced_lines(found):
        print(line)
    print(f"Command: {study.command(p.METHOD, p.changed())}")


def bubble_rows(found: Found, split: str = "test") -> pd.DataFrame:
    """Our runs but the untrained one, as ``viz.bubbles`` draws them: per cent, and parameters in millions."""
    rows = []
    for name, same in found.items():
        results = [run.result for run in same if split in run.result]
        if not results or name == "prompted":
            continue
        accuracy, half = study.seed_interval([r[split]["accuracy"] for r in results], results[0][split]["interval"])
        row = {"name": label(name), "trainable_M": results[0]["cost"]["trainable"] / 1e6, "accuracy": 100 * accuracy}
        row |= {"low": 100 * (accuracy - half), "high": 100 * (accuracy + half), "gmacs": results[0]["cost"]["gmacs"]}
        rows.append(row | {"origin": "ours", "confidence": "measured"})
    return pd.DataFrame(rows)


def cost_table(found: Found) -> pd.DataFrame:
    """Parameters, GMACs, clips per second and training memory of every step."""
    rows = {label(name): same[0].result["cost"] for name, same in found.items()}
    table = pd.DataFrame.from_dict(rows, orient="index")
    table[["total", "trainable"]] /= 1e6
    names = {"total": "all (M)", "trainable": "trained (M)", "gmacs": "GMACs per clip"}
    names |= {"clips_per_second": "clips per second", "training_memory": "training memory (MiB)"}
    return table.rename(columns=names)[list(names.values())]


def published_of(method: str) -> pd.DataFrame:
    """The published closed-set, zero-shot and K-shot figures of a method and of those that its tables compare with."""
    return published.rows(method=method)


def published_bubbles() -> pd.DataFrame:
    """Published Kinetics-400 top-1 figures with a count of trained parameters, as ``viz.bubbles`` draws them."""
    rows = published.load()
    rows = rows[(rows["dataset"] == "Kinetics-400") & (rows["metric"] == "top1") & rows["trainable_params_M"].notna()]
    rows = rows[~rows["method"].str.contains(published.RERUN, case=False)]
    rows = rows.sort_values("value").drop_duplicates(["method", "backbone", "frames"], keep="last")
    frames = rows["frames"].map(lambda count: f", {count:.0f} frames" if count == count else "")
    return pd.DataFrame(
        {
            "name": rows["method"] + " " + rows["backbone"].fillna("") + frames,
            "backbone": rows["backbone"],
            "trainable_M": rows["trainable_params_M"],
            "accuracy": rows["value"],
            "low": np.nan,
            "high": np.nan,
            "gmacs": rows["gflops"],
            "origin": "published",
            "confidence": rows["confidence"],
            "source": rows["source"],
        }
    ).reset_index(drop=True)
