"""What a paper claims beside what the shipped records say of it here: holds, fails, no difference beyond its interval.

A claim is about another method (``above``: the ladder's rows on the same episodes), about a part of the method
(``part``: its ablation, judged on val of the notebook's world) or about its texts (``texts``: against the same weights
with the classes' texts permuted). Embedded worlds and small towers: that a claim fails here does not refute the paper.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from vidlib.basics.errors import UserError
from vidlib.results.accuracy import PERMUTED, paired
from vidlib.results.intervals import over_seeds
from vidlib.studies import ladder, tables

HOLDS, FAILS, OPEN, NONE = "holds", "fails", "no difference beyond its interval", "not on record"


class Claim(NamedTuple):
    """``better`` is in the paper's words ours; ``above`` a method, ``part`` the label of an ablation that lacks it."""

    words: str
    above: str = ""
    part: str = ""
    texts: bool = False


CLAIMS = {
    "ma_fsar": (
        Claim("above CLIP-FSAR", above="clip_fsar"),
        Claim("above AIM's adapters under the same metric", above="aim"),
        Claim("above TRX", above="trx"),
        Claim("above OTAM", above="otam"),
        Claim("temporal adaptation helps", part="without global temporal adaptation"),
        Claim("local adaptation helps", part="without local adaptation"),
        Claim("joint adaptation helps", part="without joint adaptation"),
        Claim("TPCM helps", part="without TPCM"),
        Claim("the text token in the support branch helps", part="no text token in the support branch"),
        Claim("adapters are as good as full tuning, or better", part="full tuning of the image tower"),
        Claim("class texts are used", texts=True),
    ),
    "gghm": (
        Claim("above HyRSM", above="hyrsm"),
        Claim("above STRM", above="strm"),
        Claim("above TRX", above="trx"),
        Claim("above OTAM", above="otam"),
        Claim("the graph's guidance helps", part="without the graph's guidance"),
        Claim("dense temporal modelling helps", part="without dense temporal modelling"),
        Claim("frames and tuples are better than frames alone", part="frames alone (alpha 0)"),
        Claim("frames and tuples are better than tuples alone", part="tuples alone (alpha 1)"),
    ),
    "sloshnet": (
        Claim("above HyRSM", above="hyrsm"),
        Claim("above STRM", above="strm"),
        Claim("above TRX", above="trx"),
        Claim("above OTAM", above="otam"),
        Claim("fusing low and high maps helps", part="the deepest map alone"),
        Claim("a searched fusion is better than an even one", part="a fixed mix: every operation a third"),
        Claim("the long-term module helps", part="without the long-term module"),
        Claim("the short-term module helps", part="without the short-term module"),
    ),
    "actionclip": (
        Claim("matching texts is better than a classifier", part="1-of-N classifier (unimodal)"),
        Claim("prompts are better than label words", part="label words instead of prompts"),
        Claim("Transf is better than MeanP", part="MeanP"),
        Claim("joint, before the network, hurts", part="joint, pre-network"),
        Claim("shift, inside the network, hurts", part="shift, in-network"),
        Claim("tuning both towers is better than the image tower alone", part="image tower alone"),
        Claim("tuning both towers is better than the text tower alone", part="text tower alone"),
    ),
    "m2clip": (
        Claim("temporal enhancement helps", part="without temporal enhancement"),
        Claim("temporal difference helps", part="without temporal difference"),
        Claim("text adapters help", part="without text adapters"),
        Claim("four heads are better than the contrastive one alone", part="contrastive head alone"),
        Claim("cross-modal classification helps", part="without cross-modal classification"),
        Claim("masked language modelling helps", part="without masked language modelling"),
        Claim("visual classification helps", part="without visual classification"),
    ),
}


def table(method: str, changes: pd.DataFrame) -> pd.DataFrame:
    """One row per claim and condition: points in favour of the paper, half the 95% interval, and what they say.

    ``changes``: ``ablations.table`` of the method; a claim of a part holds where the change without it is worse.
    """
    rows = []
    for claim in CLAIMS[method]:
        for where, points, half in _measured(method, claim, changes):
            rows.append({"claim": claim.words, "here": where, "points": points, "half": half, "so": said(points, half)})
    return pd.DataFrame(rows).set_index(["claim", "here"])


def said(points: float, half: float) -> str:
    """A difference in words."""
    if not np.isfinite(points):
        return NONE
    return OPEN if not np.isfinite(half) or abs(points) <= half else HOLDS if points > 0 else FAILS


def summary(claims: pd.DataFrame) -> str:
    """How many claims hold in every condition on record, in some, in none."""
    known = claims[claims["so"] != NONE].groupby(level="claim", sort=False)["so"]
    kinds = known.agg(
        lambda so: "hold" if set(so) == {HOLDS} else "hold in part" if HOLDS in set(so) else _not(set(so))
    )
    counts = kinds.value_counts()
    words = [f"{counts[kind]} {kind}" for kind in ("hold", "hold in part", "fail", "stay open") if kind in counts]
    lacking = claims.index.get_level_values("claim").nunique() - len(kinds)
    words += [f"{lacking} have no record" if lacking else ""]
    return f"Of {len(kinds) + lacking} claims: {', '.join(filter(None, words))}."


def _not(kinds: set[str]) -> str:
    return "fail" if FAILS in kinds else "stay open"


def _measured(method: str, claim: Claim, changes: pd.DataFrame) -> Iterator[tuple[str, float, float]]:
    if claim.part:
        row = changes.loc[claim.part] if claim.part in changes.index else {}
        yield "ablation, val", -row.get("difference", np.nan), row.get("half", np.nan)
        return
    known = False
    for column in ladder.COLUMNS:
        for world in ladder.WORLDS:
            try:
                points, half = (
                    _texts(method, column, world) if claim.texts else ladder.gap(method, claim.above, column, world)
                )
            except UserError:
                continue
            known = True
            yield f"{world}, {column}", points, half
    if not known:
        yield "ladder", np.nan, np.nan


def _texts(method: str, column: str, world: str) -> tuple[float, float]:
    """Points that a method loses where the classes' texts are permuted, and half the interval over seeds."""
    same = ladder.studied(column, world).get(method)
    if not same or PERMUTED not in same[0].result:
        raise UserError(f"{method} has no record with texts on {world}")
    gaps = [paired(tables.tested(run), tables.tested(run, PERMUTED)) for run in same]
    mean, halves = over_seeds([gap.summary() for gap in gaps])
    return 100 * mean, 100 * (halves.get("seeds") or halves["episodes"])


FORMAT = {"points": "{:+.1f}", "half": "± {:.1f}"}
