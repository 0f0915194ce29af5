"""Ablations that need training: run where they are asked for, read from their run folders elsewhere.

What has no record is listed as not run. They are judged on val: test is read once per run, for the final table.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from vidlib.params.base import Params
from vidlib.params.few_shot import OneMethod
from vidlib.results import runs, trust
from vidlib.results.accuracy import paired
from vidlib.studies import few_shot as study
from vidlib.training import few_shot


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


FULL = Ablation("full method")
NUMBERS = ("accuracy", "interval", "difference", "half", "trained (M)", "memory (MiB)", "seconds")
ABLATION_TESTS = 2000  # val episodes that judge an ablation
MA_FSAR = (
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
GGHM = (
    Ablation("without the graph's guidance", "no_graph"),
    Ablation("without dense temporal modelling", "no_dense"),
    Ablation("without the patch relation", "no_patch"),
    Ablation("without the channel relation", "no_channel"),
    Ablation("frames alone (alpha 0)", "frame_only"),
    Ablation("tuples alone (alpha 1)", "tuple_only"),
    Ablation("one graph for all queries (transductive)", "transductive"),
)
WHOLE = {"test_episodes": 300}  # where videos of an episode mix, each is embedded anew
SLOSHNET = (
    Ablation("the deepest map alone", "last_map"),
    Ablation("a fixed mix: every operation a third", "even_fusion"),
    Ablation("a fixed fusion: GP1 on every edge", "only_gp1"),
    Ablation("a fixed fusion: GP2 on every edge", "only_gp2"),
    Ablation("a fixed fusion: Sum on every edge", "only_sum"),
    Ablation("without the long-term module", "no_long_term"),
    Ablation("without the short-term module", "no_short_term"),
    Ablation("without both temporal modules", "no_temporal"),
    Ablation("frozen tower", "frozen_tower"),
    Ablation("released defect: mixes_videos", "mixes_videos", WHOLE),
    Ablation("released defect: scrambles_time", "scrambles_time"),
    Ablation("released defect: leaves_betas", "leaves_betas"),
    Ablation("released defect: normalised apart", params={"normalise": "grey/backbone"}),
    Ablation("released, all defects of the module", params={"variant": "released", **WHOLE}),
)


def run(p: OneMethod, method: str, ablations: Iterable[Ablation], **changes: Any) -> dict[str, runs.Run]:
    """The runs of all ablations of ``method`` that can be had: trained now where ``p.ablations``, else those on record.

    ``changes`` are changes of the run's parameters that the full method and all ablations share.

    They are judged on val, so nothing is selected there (the last weights count), and their size does not follow the
    notebook's: a laptop recipe's records serve a default run.
    """
    size = {"train_episodes": p.ablation_episodes, "test_episodes": ABLATION_TESTS, "val_episodes": 0, "val_every": 1}
    base = p.run_params(method, report="val", **size, **changes)
    return had(base, ablations, few_shot.run if p.ablations else few_shot.recorded)


def had(base: Params, ablations: Iterable[Ablation], get: Callable[[Params], runs.Run | None]) -> dict[str, runs.Run]:
    """label -> what ``get`` gives for the full method ``base`` and for each ablation of it, without the Nones."""
    found = {ablation.label: get(ablation.of(base)) for ablation in (FULL, *ablations)}
    return {label: run for label, run in found.items() if run is not None}


def table(
    found: Mapping[str, runs.Run], ablations: Iterable[Ablation], tested: Callable[[runs.Run], Any] = study.tested
) -> pd.DataFrame:
    """One row per ablation, on val: accuracy, its paired difference to the full method in points, cost; NaN: not run.

    Another number of ways makes other episodes, so its difference is not paired but of two intervals. ``tested`` reads
    the result on val of a run. Where ablations have groups, the column ``of`` says which.
    """
    rows = []
    full = tested(found[FULL.label]) if FULL.label in found else None
    for ablation in (FULL, *ablations):
        done = found.get(ablation.label)
        row = {"ablation": ablation.label, "of": ablation.group} | dict.fromkeys(NUMBERS, np.nan)
        if done is not None:
            result, here = done.result, tested(done)
            row |= {"accuracy": 100 * here.accuracy, "interval": 100 * here.interval}
            row |= trust.beside({label: [run] for label, run in found.items()}, result)
            row |= {"trained (M)": result["cost"]["trainable"] / 1e6, "memory (MiB)": result["cost"]["training_memory"]}
            row["seconds"] = result["fit"]["seconds"] if result["fit"] else 0.0
            if full is not None and here.checksum == full.checksum:
                gap = paired(here, full)
                row |= {"difference": 100 * gap.difference, "half": 100 * gap.interval}
            elif full is not None:
                row |= {"difference": 100 * (here.accuracy - full.accuracy)}
                row["half"] = 100 * float(np.hypot(here.interval, full.interval))
        rows.append(row)
    rows = pd.DataFrame(rows).set_index("ablation")
    return rows if rows["of"].any() else rows.drop(columns="of")


def drawn(changes: pd.DataFrame) -> pd.DataFrame:
    """``table`` as ``viz.ablation.plot`` draws it."""
    changed = changes.drop(index=FULL.label)
    rows = pd.DataFrame({"name": changed.index, "delta": changed["difference"].to_numpy(), "kind": "trained"})
    rows["low"], rows["high"] = (rows["delta"] + sign * changed["half"].to_numpy() for sign in (-1, 1))
    return rows
