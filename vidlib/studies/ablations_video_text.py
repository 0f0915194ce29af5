"""ActionCLIP and M2-CLIP taken apart: ablations that need training, and what fits trained classes against new ones."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from vidlib.params.video_text import VideoTextRunParams, VideoTextStudy
from vidlib.studies import ablations as ablating
from vidlib.studies import few_shot as study
from vidlib.studies.ablations import Ablation
from vidlib.studies.video_text import Found, label, tested
from vidlib.training import video_text

ABLATIONS = {
    "actionclip": (
        Ablation("1-of-N classifier (unimodal)", "unimodal", group="objective"),
        Ablation("label words instead of prompts", "label_words", group="text prompt"),
        Ablation("temperature fixed", "fixed_scale", group="text prompt"),
        Ablation("joint, pre-network", "joint", group="visual prompt"),
        Ablation("shift, in-network", "shift", group="visual prompt"),
        Ablation("MeanP", "meanp", group="visual prompt"),
        Ablation("Conv1D", "conv1d", group="visual prompt"),
        Ablation("LSTM", "lstm", group="visual prompt"),
        Ablation("Transf", "transf", group="visual prompt"),
        Ablation("Transf_cls", "transf_cls", group="visual prompt"),
        Ablation("image tower alone", "tune_image", group="towers"),
        Ablation("text tower alone", "tune_text", group="towers"),
        Ablation("neither tower", "tune_none", group="towers"),
    ),
    "m2clip": (
        Ablation("without temporal enhancement", "no_enhancement", group="TED-Adapter"),
        Ablation("without temporal difference", "no_difference", group="TED-Adapter"),
        Ablation("without both branches", "no_ted", group="TED-Adapter"),
        Ablation("without text adapters", "no_text_adapters", group="text adapters"),
        Ablation("contrastive head alone", "contrastive_alone", group="heads"),
        Ablation("without cross-modal classification", "no_cross_modal", group="heads"),
        Ablation("without masked language modelling", "no_mlm", group="heads"),
        Ablation("without visual classification", "no_visual", group="heads"),
    ),
}


def base(p: VideoTextStudy) -> VideoTextRunParams:
    """The run that ablations change: ``ablation_epochs`` long, judged on val, so that nothing is selected there, and
    how often a notebook selects does not matter."""
    return p.run_params(epochs=p.ablation_epochs, select=False, val_every=1, report="val")


def table(p: VideoTextStudy) -> pd.DataFrame:
    """``ablating.table`` of the method and all its ablations: trained now where ``p.ablations``, else on record."""
    ablations = ABLATIONS[p.METHOD]
    found = ablating.had(base(p), ablations, video_text.run if p.ablations else video_text.recorded)
    return ablating.table(found, ablations, lambda run: tested(run, "val"))


def tradeoff_rows(p: VideoTextStudy, found: Found) -> pd.DataFrame:
    """Rows of ``viz.tradeoff``: every configuration with an accuracy on trained and on new classes, in per cent.

    The steps as tested, over seeds; the ablations on record, on val.
    """
    rows = []
    for name, same in found.items():
        results = [run.result for run in same]
        if all("novel" in result for result in results):
            rows.append({"name": label(name), "group": "steps, on test"} | _both(results, "test", "novel"))
    ablations = (ablating.FULL, *ABLATIONS[p.METHOD])
    groups = {ablation.label: ablation.group or "full method" for ablation in ablations}
    for name, run in ablating.had(base(p), ablations[1:], video_text.recorded).items():
        if "val_novel" in run.result:
            group = f"{groups[name]}, on val"
            rows.append({"name": name, "group": group} | _both([run.result], "val", "val_novel"))
    return pd.DataFrame(rows)


def _both(results: Sequence[Mapping[str, Any]], trained: str, new: str) -> dict[str, float]:
    found = {}
    for name, split in (("trained", trained), ("new", new)):
        accuracy, half = study.seed_interval([r[split]["accuracy"] for r in results], results[0][split]["interval"])
        found |= {name: 100 * accuracy, f"{name}_half": 100 * half}
    return found
