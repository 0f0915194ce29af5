"""A study of ActionCLIP or M2-CLIP: its runs over seeds, what stands beside it, and the tables that compare them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from vidlib import published, recognising, runs, study
from vidlib.layers.attention import capture_attention
from vidlib.methods import VideoTextMethod
from vidlib.recognised import Recognised
from vidlib.recognition import embed_videos
from vidlib.recognition_params import RecogniseRunParams, RecogniseStudyParams
from vidlib.results import paired
from vidlib.viz import attention, filmstrip

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


def seeds(p: RecogniseStudyParams) -> range:
    return range(p.seed, p.seed + p.seeds)


def steps(p: RecogniseStudyParams) -> dict[str, RecogniseRunParams]:
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


def run_steps(p: RecogniseStudyParams) -> dict[str, list[runs.Run]]:
    """The finished runs of ``steps`` for every seed; of frozen CLIP with given weights one serves all seeds."""
    found = {}
    for name, params in steps(p).items():
        same = name == "pretrained" and p.pretrained and p.protocol != "kshot" and not p.shot
        each = [p.seed] if same else seeds(p)
        found[name] = [recognising.run(params.model_copy(update={"seed": seed})) for seed in each]
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
            rows.append(row | {"videos": gap.episodes})
    return pd.DataFrame(rows).round(1)


def describe(p: RecogniseStudyParams, found: Found) -> None:
    """Print the protocol of the result table: what was done, coverage, seeds, runs, readings of test, the command."""
    run = found[p.METHOD][0]
    print(f"Protocol: {run.result['said']}")
    if run.result["overlap"]:
        print(f"Class names in training and test data: {', '.join(run.result['overlap'])}.")
    print(f"Coverage: {study.coverage_line(run.result)}.")
    views = run.result["test"]["views"]
    print(f"Test: {views}, {p.frames} frames each; weights {'selected on val' if p.select else 'of the last step'}.")
    over = f"{p.seeds} seeds (Student's t)" if p.seeds > 1 else "videos, conditional on one trained model"
    print(f"Seeds: {', '.join(map(str, seeds(p)))}. Interval: 95% over {over}.")
    for name, same in found.items():
        readings = ", ".join(f"{split} {n}" for split, n in sorted(same[0].readings().items()))
        finished = same[0].result["finished"][:16]
        print(f"{label(name)}: run {same[0].id}, finished {finished} UTC; times each split was read: {readings}.")
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


# ---------------------------------------------------------------- ablations


@dataclass(frozen=True)
class Ablation:
    """A named change: ``change`` is one of ``methods.ABLATIONS``, ``group`` is what it takes apart."""

    label: str
    change: str
    group: str
    options: Mapping[str, Any] = field(default_factory=dict)


FULL = Ablation("full method", "", "")
NUMBERS = ("accuracy", "interval", "difference", "half", "trained (M)", "memory (MiB)", "seconds")
ACTIONCLIP = (
    Ablation("1-of-N classifier (unimodal)", "unimodal", "objective"),
    Ablation("label words instead of prompts", "label_words", "text prompt"),
    Ablation("temperature fixed", "fixed_scale", "text prompt"),
    Ablation("joint, pre-network", "joint", "visual prompt"),
    Ablation("shift, in-network", "shift", "visual prompt"),
    Ablation("MeanP", "meanp", "visual prompt"),
    Ablation("Conv1D", "conv1d", "visual prompt"),
    Ablation("LSTM", "lstm", "visual prompt"),
    Ablation("Transf", "transf", "visual prompt"),
    Ablation("Transf_cls", "transf_cls", "visual prompt"),
    Ablation("image tower alone", "tune_image", "towers"),
    Ablation("text tower alone", "tune_text", "towers"),
    Ablation("neither tower", "tune_none", "towers"),
)
M2CLIP = (
    Ablation("without temporal enhancement", "no_enhancement", "TED-Adapter"),
    Ablation("without temporal difference", "no_difference", "TED-Adapter"),
    Ablation("without both branches", "no_ted", "TED-Adapter"),
    Ablation("without text adapters", "no_text_adapters", "text adapters"),
    Ablation("contrastive head alone", "contrastive_alone", "heads"),
    Ablation("without cross-modal classification", "no_cross_modal", "heads"),
    Ablation("without masked language modelling", "no_mlm", "heads"),
    Ablation("without visual classification", "no_visual", "heads"),
)


def run_ablations(p: RecogniseStudyParams, ablations: Iterable[Ablation]) -> dict[str, runs.Run]:
    """The runs of the full method and all ablations that can be had: trained now where ``p.ablations``, else on record.

    They are trained for ``ablation_epochs`` and tested on ``val`` by ``val_table``: nothing is selected there.
    """
    found = {}
    for ablation in (FULL, *ablations):
        params = p.run_params(epochs=p.ablation_epochs, select=False, ablation=ablation.change, report="val")
        done = recognising.run(params) if p.ablations else recognising.recorded(params)
        if done is not None:
            found[ablation.label] = done
    return found


def ablation_table(found: Mapping[str, runs.Run], ablations: Iterable[Ablation]) -> pd.DataFrame:
    """One row per ablation on val: top-1, paired difference to the full method in points, cost; NaN: not run."""
    rows = []
    full = tested(found[FULL.label], "val") if FULL.label in found else None
    for ablation in (FULL, *ablations):
        row = {"ablation": ablation.label, "of": ablation.group}
        row |= dict.fromkeys(NUMBERS, np.nan)
        done = found.get(ablation.label)
        if done is not None:
            here, cost = tested(done, "val"), done.result["cost"]
            row |= {"accuracy": 100 * here.accuracy, "interval": 100 * here.interval}
            row |= {"trained (M)": cost["trainable"] / 1e6, "memory (MiB)": cost["training_memory"]}
            row["seconds"] = done.result["fit"]["seconds"] if done.result["fit"] else 0.0
            if full is not None:
                gap = paired(here, full)
                row |= {"difference": 100 * gap.difference, "half": 100 * gap.interval}
        rows.append(row)
    return pd.DataFrame(rows).set_index("ablation")


def drawn(changes: pd.DataFrame) -> pd.DataFrame:
    """``ablation_table`` as ``viz.ablation.plot`` draws it."""
    changed = changes.drop(index=FULL.label)
    rows = pd.DataFrame({"name": changed.index, "delta": changed["difference"].to_numpy(), "kind": "trained"})
    rows["low"], rows["high"] = (rows["delta"] + sign * changed["half"].to_numpy() for sign in (-1, 1))
    return rows


# ---------------------------------------------------------------- looking


def text_similarities(run: runs.Run, split: str) -> tuple[np.ndarray, list[str]]:
    """Mean cosine of the videos of each class with the text of each, ``[K K]`` (rows: videos), and the classes."""
    params, opened = recognising.open_trained(run)
    method, manifest = opened.method, opened.manifest
    clips = recognising.open_views(params, method, manifest, split)[0]
    classes = list(manifest.classes(split))
    text = method.class_text([manifest.text(cls) for cls in classes])
    video = embed_videos(method, clips, label="similarities")["video"]
    cosines = nn.functional.normalize(video, dim=-1) @ nn.functional.normalize(text, dim=-1).mean(0).mT
    rows = np.array([classes.index(row.cls) for row in clips.rows])
    means = np.stack([cosines.cpu().numpy()[rows == k].mean(0) for k in range(len(classes))])
    return means, [manifest.text(cls) for cls in classes]


def attention_maps(
    found: Mapping[str, runs.Run], split: str = "val", row: int = 0
) -> tuple[np.ndarray, dict[str, Tensor], dict[str, Tensor], str]:
    """The frames of one video; of each run the class token's last-layer maps [T gh gw] and the weight of each frame
    in what the temporal attention of its head looks at [T] (none for heads without one); the video's class."""
    frames, maps, times, cls = None, {}, {}, ""
    for name, run in found.items():
        params, opened = recognising.open_trained(run)
        method = opened.method
        clips = recognising.open_views(params, method, opened.manifest, split)[0]
        clip = clips.test(row)
        with torch.no_grad(), capture_attention(method) as weights, _frame_weights(method) as over_time:
            method.embed(clip[None])
        last = weights[method.backbone.layers - 1, "local"]
        if len(last) == params.frames:  # joint has one sequence for all frames
            maps[label(name)] = attention.class_token_maps(last, method.backbone.grid)
        if over_time:
            times[label(name)] = over_time[0]
        frames = filmstrip.to_uint8(clip, method.backbone.mean, method.backbone.std)
        cls = opened.manifest.text(clips.rows[row].cls)
    return frames, maps, times, cls


class _frame_weights:  # noqa: N801 (a context manager)
    """Collects, while a method embeds a video, how much the last block of its head looks at each frame, [T]."""

    def __init__(self, method: VideoTextMethod) -> None:
        blocks = getattr(getattr(method, "head", None), "blocks", None)
        self.attn = blocks[-1].attn if blocks is not None else None

    def __enter__(self) -> list[Tensor]:
        found: list[Tensor] = []
        if self.attn is not None:

            def look(module: nn.Module, given: tuple, kwargs: dict, _: object) -> None:
                weights = module.forward(*given, **{**kwargs, "need_weights": True})[1]  # [1 T T], heads averaged
                found.append(weights[0].mean(0).detach())

            self.handle = self.attn.register_forward_hook(look, with_kwargs=True)
        return found

    def __exit__(self, *_: object) -> None:
        if self.attn is not None:
            self.handle.remove()


# ---------------------------------------------------------------- trade-off, published


def tradeoff_rows(p: RecogniseStudyParams, found: Found) -> pd.DataFrame:
    """Rows of ``viz.tradeoff``: every configuration with an accuracy on trained and on new classes, in per cent.

    The steps as tested, over seeds; the ablations on record, on val.
    """
    rows = []
    for name, same in found.items():
        results = [run.result for run in same]
        if all("novel" in result for result in results):
            rows.append({"name": label(name), "group": "steps, on test"} | _both(results, "test", "novel"))
    ablations = ACTIONCLIP if p.METHOD == "actionclip" else M2CLIP
    for ablation in (FULL, *ablations):
        params = p.run_params(epochs=p.ablation_epochs, select=False, ablation=ablation.change, report="val")
        done = recognising.recorded(params)
        if done is not None and "val_novel" in done.result:
            group = f"{ablation.group or 'full method'}, on val"
            rows.append({"name": ablation.label, "group": group} | _both([done.result], "val", "val_novel"))
    return pd.DataFrame(rows)


def _both(results: Sequence[Mapping[str, Any]], trained: str, new: str) -> dict[str, float]:
    found = {}
    for name, split in (("trained", trained), ("new", new)):
        accuracy, half = study.seed_interval([r[split]["accuracy"] for r in results], results[0][split]["interval"])
        found |= {name: 100 * accuracy, f"{name}_half": 100 * half}
    return found


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
