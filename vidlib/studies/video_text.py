"""A study of ActionCLIP or M2-CLIP: its runs over seeds, what stands beside it, drawn clips, what is said of them.

Its tables are those of ``tables``, and by way of this module a notebook has them all.
"""

import numpy as np
import pandas as pd
import torch
from torch import nn

from vidlib import backbones, methods
from vidlib.data.clips import Clips
from vidlib.data.manifest import Manifest
from vidlib.data.protocols import labels_line
from vidlib.params.video_text import VideoTextRunParams, VideoTextStudy
from vidlib.results import published, runs, trust
from vidlib.studies.tables import (  # noqa: F401 (the tables, for notebooks)
    Studied,
    bubble_rows,
    cost_table,
    data_name,
    describe_runs,
    differences,
    drawn,
    label,
    published_of,
    result_table,
    seeds,
    splits,
    tested,
    weights,
)
from vidlib.training import side_by_side, video_text
from vidlib.training.video_text import Opened
from vidlib.viz import filmstrip
from vidlib.viz.style import show


def steps(p: VideoTextStudy) -> dict[str, VideoTextRunParams]:
    """What is run for the first seed: CLIP as it was pre-trained, prompted, fine-tuned; and the classifier beside it.

    The classifier has ActionCLIP's visual tower and no text, so that it has no part in zero_shot.
    """
    plain = {"visual_prompt": "meanp", "templates": "label_words", "tune": "none", "learned_scale": False}
    planned = {
        "pretrained": p.run_params(method="actionclip", options=plain, epochs=0, variant="paper"),
        "prompted": p.run_params(epochs=0),
        p.METHOD: p.run_params(),
    }
    if p.unimodal and p.protocol != "zero_shot":
        options = {"visual_prompt": "meanp"} if p.METHOD != "actionclip" else p.options()
        own = {"lr": 1e-4} if p.METHOD != "actionclip" else {}  # the rate of a tower, not of adapters
        planned["unimodal"] = p.run_params(
            method="actionclip", options=options, ablation="unimodal", variant="paper", **own
        )
    return planned


def run_steps(p: VideoTextStudy) -> dict[str, list[runs.Run]]:
    """The finished runs of ``steps`` for every seed; of frozen CLIP with given weights one serves all seeds."""
    planned = {}
    for name, params in steps(p).items():
        same = name == "pretrained" and p.pretrained and p.protocol != "kshot" and not p.train_per_class
        planned[name] = [params.model_copy(update={"seed": seed}) for seed in ([p.seed] if same else seeds(p))]
    finished = side_by_side.run_named(video_text, planned)
    return {name: same * (p.seeds // len(same)) for name, same in finished.items()}


def draw_clips(p: VideoTextStudy, manifest: Manifest) -> tuple[Opened, Clips]:
    """Show three val videos of different places in the list; the untrained run opened, and the clips of val."""
    opened = video_text.open_run(p.run_params())
    clips = video_text.open_views(p, opened.method, manifest, "val")[0]
    tower = opened.method.backbone
    for row in range(0, len(clips), max(1, len(clips) // 3))[:3]:
        pixels = filmstrip.to_uint8(clips.test(row), tower.mean, tower.std)
        show(filmstrip.clip(pixels, title=f"val: {manifest.text(clips.rows[row].cls)}").figure)
    return opened, clips


def harmonic_means(studied: Studied) -> pd.Series:
    """Of runs that met base and novel classes, the harmonic mean of both accuracies (%), averaged over seeds."""
    values = {
        label(name): 100 * float(np.mean([run.result["harmonic"] for run in same]))
        for name, same in studied.items()
        if "harmonic" in same[0].result
    }
    return pd.Series(values, name="harmonic mean (%)", dtype=float)


def describe(p: VideoTextStudy, studied: Studied) -> None:
    """Print the protocol of the result table: what was done, coverage, seeds, runs, readings of test, the command."""
    run = studied[p.METHOD][0]
    print(f"Protocol: {run.result['said']}")
    print(labels_line(run.result["labels"]))
    if run.result["overlap"]:
        print(f"Class names in training and test data: {', '.join(run.result['overlap'])}.")
    print(f"Coverage: {trust.coverage_line(run.result)}.")
    views = run.result["test"]["views"]
    print(f"Test: {views}, {p.frames} frames each; weights {weights(run.result)}.")
    for split in splits(studied):
        if parts := run.result[split].get("standard_splits"):
            each = ", ".join(f"{n}: {100 * value:.1f}" for n, value in parts.items())
            mean, deviation = (100 * run.result[split][name] for name in ("mean", "deviation"))
            print(f"{label(p.METHOD)}, {split} over standard splits: {mean:.1f} ± {deviation:.1f} (deviation; {each}).")
    describe_runs(p, studied, p.METHOD)


def counts_beside_published() -> pd.DataFrame:
    """Millions of parameters that ActionCLIP's modules train here, part by part, beside the published count; index
    backbone. Leaving out the word embeddings comes nearest; ``unexplained`` is what is left."""
    figures, table = published.rows(label("actionclip"), "Kinetics-400", metric="top1"), {}
    for paper, backbone in (("ViT-B/32", "ViT-B-32-quickgelu"), ("ViT-B/16", "ViT-B-16-quickgelu")):
        with torch.device("meta"):
            built = methods.build("actionclip", backbones.load(backbone, ""))
        parts = built.parameter_parts()
        row, seen = {}, set()
        for name, part in {"word embeddings": built.backbone.clip.token_embedding, **parts}.items():
            own = part.parameters() if isinstance(part, nn.Module) else part
            new = {id(each): each.numel() for each in own if each.requires_grad and id(each) not in seen}
            row[name], seen = row.get(name, 0) + sum(new.values()) / 1e6, seen | set(new)
        known = figures[(figures["backbone"] == paper) & figures["trainable_params_M"].notna()].iloc[0]
        theirs, how = known["trainable_params_M"], known["trainable_params_M_confidence"]
        row |= {"all, here": sum(row.values()), "published": published.mark(theirs, how)}
        table[paper] = row | {"unexplained": row["all, here"] - row["word embeddings"] - theirs}
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("backbone")


def published_bubbles() -> pd.DataFrame:
    """Published Kinetics-400 top-1 figures with a count of trained parameters, as ``viz.bubbles`` draws them."""
    rows = published.load()
    rows = rows[(rows["dataset"] == "Kinetics-400") & (rows["metric"] == "top1") & rows["trainable_params_M"].notna()]
    rows = rows[~rows["method"].str.contains(published.RERUN, case=False)]
    rows = rows.sort_values("value").drop_duplicates(["method", "backbone", "frames"], keep="last")
    frames = rows["frames"].map(lambda count: f", {count:.0f} frames" if count == count else "")
    return published.bubbles(rows, rows["method"] + " " + rows["backbone"].fillna("") + frames)
