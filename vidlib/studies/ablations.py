"""Ablations that need training: run where they are asked for, read from their run folders elsewhere.

Each runs over the seeds of the study, like what it is set against, and differences are taken seed by seed. What has no
record is listed as not run. They are judged on val: test is read once per run, for the final table.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from vidlib import methods
from vidlib.matching import METRIC_SCALES
from vidlib.params.base import Params
from vidlib.params.few_shot import OneMethod, RunParams
from vidlib.params.notebooks import MODELS
from vidlib.params.video_text import VideoTextRunParams, VideoTextStudy
from vidlib.results import runs, trust
from vidlib.results.accuracy import Evaluation, Paired, paired
from vidlib.results.intervals import over_seeds, seed_interval
from vidlib.studies import records
from vidlib.studies.ladder import SEEDS
from vidlib.studies.tables import Studied, first, label, of_videos, over, seeds, tested
from vidlib.training import few_shot, side_by_side, video_text


@dataclass(frozen=True)
class Ablation:
    """A named change: ``change`` is one of ``methods.ABLATIONS``, ``params`` changes parameters of the run.

    ``group``: what the change takes apart, where ablations of several parts stand in one table.
    """

    label: str
    change: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    group: str = ""

    def of(self, base: Params) -> Params:
        """The run that is ``base``, of RunParams or VideoTextRunParams, with this change."""
        return type(base).parse({**base.model_dump(), "ablation": self.change, **self.params})


def other_metric(name: str) -> dict[str, Any]:
    """The parameters of a run under this metric: its logits have a scale of their own."""
    return {"metric": name, "metric_scale": METRIC_SCALES[name]}


FULL = Ablation("full method")
SAID, NEW = "beyond its interval", "new classes"  # columns: what a difference says; of labelled videos, new classes
NUMBERS = ("accuracy", "interval", "difference", "half", "half, videos", "half, classes")
NUMBERS += (NEW, f"{NEW}, difference", f"{NEW}, half")
NUMBERS += ("trained (M)", "training memory (MiB)", "training (s)")
TESTS = 1000  # val episodes that judge an ablation
THREE = ["a photo of {}", "a video of {}", "the action of {}"]
WHOLE = {"test_episodes": 100}  # where videos of an episode mix, each is embedded anew
ABLATIONS = {
    "ma_fsar": (
        Ablation("without global temporal adaptation", "no_temporal", group="adaptation"),
        Ablation("without local adaptation", "no_local", group="adaptation"),
        Ablation("without joint adaptation", "no_joint", group="adaptation"),
        Ablation("without TPCM", "no_tpcm", group="adaptation"),
        Ablation("temporal adaptation on all tokens", "all_tokens", group="adaptation"),
        Ablation("full tuning of the image tower", "full_tuning", group="adaptation"),
        Ablation("nothing trained: frozen tower, metric, texts", "untrained", group="stacked"),
        Ablation("TPCM alone", "tpcm_alone", group="stacked"),
        Ablation("TPCM, temporal", "up_to_temporal", group="stacked"),
        Ablation("TPCM, temporal, local without text", "up_to_local", group="stacked"),
        Ablation("TPCM, temporal, local with text", "no_joint", group="stacked"),
        Ablation("no text token in the support branch", "no_text_token", group="support's text"),
        Ablation("TPCM as plain self-attention", "plain_attention", group="support's text"),
        Ablation("neither text token nor text in TPCM", "no_text_in_support", group="support's text"),
        Ablation("CLIP-FSAR's concatenation in TPCM", "concat", group="support's text"),
        Ablation("without the loss L_Q2S", "no_q2s", group="losses"),
        Ablation("without the loss L_S2T", "no_s2t", group="losses"),
        Ablation("without the loss L_Q2T", "no_q2t", group="losses"),
        Ablation("text losses among all training classes", "all_texts", group="losses"),
        Ablation("temperature 1", "temperature_1", group="losses"),
        Ablation("temperature learned", "learned_temperature", group="losses"),
        Ablation("a = 0: no text in loss and score", params={"mix": 0.0}, group="mix"),
        Ablation("a = 0.5", params={"mix": 0.5}, group="mix"),
        Ablation("a of the score learned", "learned_mix", group="mix"),
        Ablation("template: the class name alone", params={"template": "{}"}, group="template"),
        Ablation("templates: three, averaged", params={"template": THREE}, group="template"),
        Ablation("metric Bi-MHM", params=other_metric("bimhm"), group="metric"),
        Ablation("metric TRX", params=other_metric("trx"), group="metric"),
        Ablation("metric mean prototype", params=other_metric("prototype"), group="metric"),
        Ablation("4 frames", params={"frames": 4}, group="episode"),
        Ablation("16 frames", params={"frames": 16}, group="episode"),
        Ablation("3 ways (chance 33.3)", params={"way": 3}, group="episode"),
        Ablation("8 ways (chance 12.5)", params={"way": 8}, group="episode"),
    ),
    "gghm": (
        Ablation("without the graph's guidance", "no_graph"),
        Ablation("without dense temporal modelling", "no_dense"),
        Ablation("without the patch relation", "no_patch"),
        Ablation("without the channel relation", "no_channel"),
        Ablation("frames alone (alpha 0)", "frame_only"),
        Ablation("tuples alone (alpha 1)", "tuple_only"),
        Ablation("one graph for all queries (transductive)", "transductive"),
        Ablation("without the loss on the graph's edges", "no_graph_loss"),
        Ablation("frozen tower", "frozen_tower"),
        Ablation("full tuning of the image tower", "full_tuning"),
    ),
    "sloshnet": (
        Ablation("the deepest map alone", "last_map"),
        Ablation("a fixed mix: every operation a third", "even_fusion"),
        Ablation("a fixed fusion: GP1 on every edge", "only_gp1"),
        Ablation("a fixed fusion: GP2 on every edge", "only_gp2"),
        Ablation("a fixed fusion: Sum on every edge", "only_sum"),
        Ablation("without the long-term module", "no_long_term"),
        Ablation("without the short-term module", "no_short_term"),
        Ablation("without both temporal modules", "no_temporal"),
        Ablation("frozen tower", "frozen_tower"),
        Ablation("tuples of one frame alone", "singles"),
        Ablation("released defect: mixes_videos", "mixes_videos", WHOLE),
        Ablation("released defect: scrambles_time", "scrambles_time"),
        Ablation("released defect: leaves_betas", "leaves_betas"),
        Ablation("released defect: normalised apart", params={"normalise": "grey/backbone"}),
        Ablation("released, all defects of the module", params={"variant": "released", **WHOLE}),
    ),
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
        Ablation("text adapters in the word head alone", "word_head_adapter", group="text adapters"),
        Ablation("text adapters in every block", "all_text_adapters", group="text adapters"),
        Ablation("contrastive head alone", "contrastive_alone", group="heads"),
        Ablation("without cross-modal classification", "no_cross_modal", group="heads"),
        Ablation("without masked language modelling", "no_mlm", group="heads"),
        Ablation("without visual classification", "no_visual", group="heads"),
        Ablation("scored by the classifier", "by_classifier", group="supervised"),
        Ablation("scored by it, without the contrastive head", "no_contrastive", group="supervised"),
        Ablation("the classifier alone", "classifier_alone", group="supervised"),
    ),
}
AnyStudy = OneMethod | VideoTextStudy


def changes(method: str) -> pd.DataFrame:
    """What each ablation of ``method`` changes, by its name: arguments of the constructor, parameters of the run."""
    rows = {}
    for ablation in ABLATIONS[method]:
        arguments = methods.ABLATIONS[method].get(ablation.change, {})
        both = {"constructor arguments": arguments, "parameters of the run": ablation.params}
        words = {kind: ", ".join(f"{n}={value!r}" for n, value in changed.items()) for kind, changed in both.items()}
        rows[ablation.label] = {"of": ablation.group} | words
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("ablation")
    return table.loc[:, (table != "").any()]


def base(p: AnyStudy, method: str) -> RunParams | VideoTextRunParams:
    """The run of ``method`` that ablations change: judged on val, so that nothing is selected there (the last weights
    count), and of a size that does not follow the notebook's: a laptop recipe's records serve a default run."""
    if isinstance(p, VideoTextStudy):
        return p.run_params(epochs=p.ablation_epochs, select=False, val_every=1, report="val")
    size = {"train_episodes": p.ablation_episodes, "test_episodes": TESTS, "val_episodes": 0, "val_every": 1}
    return p.run_params(method, report="val", **size)


def run(p: AnyStudy, method: str) -> dict[str, list[runs.Run]]:
    """The runs of ``method`` and its ablations on record, by label, one for each seed that has one: the study's and as
    many as the evidence has. Those of the study's are trained first where ``p.ablations``."""
    return _had(p, method, p.ablations)


def planned(p: AnyStudy, method: str, seeds: Sequence[int]) -> dict[str, list[RunParams | VideoTextRunParams]]:
    """The runs of ``method`` and its ablations, by label, one for each seed."""
    whole = base(p, method)
    each = {ablation.label: ablation.of(whole) for ablation in (FULL, *ABLATIONS[method])}
    return {name: [params.model_copy(update={"seed": seed}) for seed in seeds] for name, params in each.items()}


def of_defaults(method: str) -> dict[str, list[RunParams | VideoTextRunParams]]:
    """The runs whose records fill the table for whoever opens the notebook: its defaults, ``SEEDS`` seeds."""
    return distinct(planned(MODELS[method](), method, range(SEEDS)))


def distinct(rows: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """``rows`` of ``planned`` without those that mean the same runs as a row before."""
    first = {meaning(each[0]): name for name, each in reversed(rows.items())}
    return {name: each for name, each in rows.items() if name in first.values()}


def meaning(params: RunParams | VideoTextRunParams) -> str:
    """What determines a run besides its data: constructor arguments, defaults among them, and parameters."""
    arguments = {name: each.default for name, each in signature(methods.find(params.method)).parameters.items()}
    values = {n: value for n, value in params.determining().items() if n not in ("options", "ablation")}
    return json.dumps([arguments | methods.arguments(params), values], sort_keys=True, default=str)


def _had(p: AnyStudy, method: str, train: bool) -> dict[str, list[runs.Run]]:
    whole = base(p, method)
    kind = few_shot if isinstance(whole, RunParams) else video_text
    data = few_shot.open_manifest(whole) if kind is few_shot else video_text.open_plan(whole)  # the same for all
    if train:
        side_by_side.run_named(kind, distinct(planned(p, method, seeds(p))), data)
    wanted = planned(p, method, range(p.seed, p.seed + max(p.seeds, SEEDS)))
    done = {
        meaning(each[0]): [run for one in each if (run := kind.recorded(one, data) or records.find(one))]
        for each in distinct(wanted).values()
    }
    return {name: had for name, each in wanted.items() if (had := done[meaning(each[0])])}


def table(done: Studied, method: str) -> pd.DataFrame:
    """One row per ablation of ``method``, on val: accuracy, its paired difference to the full method in points, cost;
    NaN: not run, so that ``done``, from ``run``, has none.

    With several seeds accuracies are means over them, differences are taken seed by seed, and the intervals are over
    seeds; with one they are over its trials, and ``over`` says which that of the difference is. ``half, videos`` and
    ``half, classes`` are those over other videos and over other classes. Of another number of ways there is no
    difference: chance is another. What met fewer of the same episodes is compared on those. ``beyond its interval``
    says in words what a difference is. Of labelled videos, new classes have columns of their own. Where ablations have
    groups, the column ``of`` says which.
    """
    rows, whole = [], done.get(FULL.label, ())
    for ablation in (FULL, *ABLATIONS[method]):
        row = {"ablation": ablation.label, "of": ablation.group, "over": "", SAID: ""} | dict.fromkeys(NUMBERS, np.nan)
        if same := done.get(ablation.label, ()):
            results = [run.result for run in same]
            row |= {"over": over(same)} | trust.beside(done, results[0])
            row["trained (M)"] = results[0]["cost"]["trainable"] / 1e6
            row["training memory (MiB)"] = results[0]["cost"]["training_memory"] if row["trained (M)"] else 0.0
            row["training (s)"] = float(np.mean([each["fit"]["seconds"] if each["fit"] else 0.0 for each in results]))
            row |= _against(same, whole)
            if all("val_novel" in result for result in results):
                new = _against(same, [run for run in whole if "val_novel" in run.result], "val_novel")
                row |= {f"{NEW}, {n}": new[n] for n in ("difference", "half", SAID) if n in new}
                row[NEW] = new["accuracy"]
        rows.append(row)
    rows = pd.DataFrame(rows).set_index("ablation")
    rows = rows.drop(columns=[n for n in NUMBERS if n.startswith(("half, ", NEW)) and rows[n].isna().all()])
    if (words := f"{NEW}, {SAID}") in rows:
        rows[words] = rows[words].fillna("")
    return rows if rows["of"].any() else rows.drop(columns="of")


def _against(same: Sequence[runs.Run], whole: Sequence[runs.Run], what: str = "") -> dict[str, Any]:
    """What ``table`` says of a row's runs beside those of the full method, on ``what`` they were tested on."""
    here, full = ({run.params["seed"]: tested(run, what) for run in each} for each in (same, whole))
    mean, half = seed_interval([each.accuracy for each in here.values()], next(iter(here.values())).interval)
    row: dict[str, Any] = {"accuracy": 100 * mean, "interval": 100 * half}
    if whole and same[0].params.get("way") != whole[0].params.get("way"):
        return row | {SAID: "not compared: chance is another"}
    if not (gaps := [_gap(here[seed], full[seed]) for seed in here if seed in full]):
        return row
    mean, halves = over_seeds([gap.summary() for gap in gaps])
    own = "videos" if of_videos(same[0]) else "episodes"
    half, kind = halves.pop(own), own
    if "seeds" in halves:
        half, kind = halves.pop("seeds"), f"{len(gaps)} seeds"
    row |= {"difference": 100 * mean, "half": 100 * half, "over": kind}
    row |= {f"half, {of}": np.nan if one is None else 100 * one for of, one in halves.items()}
    if {run.id for run in same} <= {run.id for run in whole}:
        return row | {SAID: "the full method itself"}
    word = "higher" if mean > 0 else "lower"
    return row | {SAID: f"{word if abs(mean) > half else 'no difference'} beyond its interval over {kind}"}


def _gap(here: Evaluation, full: Evaluation) -> Paired:
    """What an ablation of one seed is above the full method of that seed; unpaired where they met other episodes."""
    if here.checksum == full.checksum:
        return paired(here, full)
    count = min(len(here.per_trial), len(full.per_trial))
    if here.trial == full.trial == "episode" and here.support is not None and full.support is not None:
        ours, theirs = first(here, count), first(full, count)
        if np.array_equal(ours.support, theirs.support) and np.array_equal(ours.query, theirs.query):
            return paired(ours, theirs)
    both = {kind: float(np.hypot(half, full.intervals[kind])) for kind, half in here.intervals.items()}
    own = float(np.hypot(here.interval, full.interval))
    return Paired(here.accuracy - full.accuracy, own, len(here.per_trial), here.trial, both)


def styled(changes: pd.DataFrame) -> Styler:
    """``table`` with one digit, and three of the parameters; of what was run a number that is none is a dash."""
    numbers, ran, shown = [name for name in changes if name in NUMBERS], changes["accuracy"].notna(), changes.style
    for rows, words in ((changes.index[ran], "-"), (changes.index[~ran], "not run")):
        shown = shown.format("{:.1f}", na_rep=words, subset=(rows, numbers))
        shown = shown.format("{:.3f}", na_rep=words, subset=(rows, ["trained (M)"]))
    return shown


def tradeoff_rows(p: VideoTextStudy, studied: Studied) -> pd.DataFrame:
    """Rows of ``viz.tradeoff``: every configuration with an accuracy on trained and on new classes, in per cent.

    The steps as tested, the ablations on record, on val; both over seeds.
    """
    rows = []
    for name, same in studied.items():
        results = [run.result for run in same]
        if all("novel" in result for result in results):
            row = {"name": label(name), "group": "steps, on test", "over": over(same)}
            rows.append(row | _both(results, "test", "novel"))
    groups = {ablation.label: ablation.group or "full method" for ablation in (FULL, *ABLATIONS[p.METHOD])}
    for name, had in _had(p, p.METHOD, False).items():
        results = [run.result for run in had]
        if all("val_novel" in result for result in results):
            row = {"name": name, "group": f"{groups[name]}, on val", "over": over(had)}
            rows.append(row | _both(results, "val", "val_novel"))
    return pd.DataFrame(rows)


def _both(results: Sequence[Mapping[str, Any]], trained: str, new: str) -> dict[str, float]:
    numbers = {}
    for name, split in (("trained", trained), ("new", new)):
        accuracy, half = seed_interval([r[split]["accuracy"] for r in results], results[0][split]["interval"])
        numbers |= {name: 100 * accuracy, f"{name}_half": 100 * half}
    return numbers
