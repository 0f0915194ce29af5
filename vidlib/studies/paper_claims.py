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
    """In words; better than the method ``above``, than without ``part`` (an ablation's label), or ``texts`` read."""

    words: str
    above: str = ""
    part: str = ""
    texts: bool = False


ABOVE = {"ma_fsar": ("clip_fsar", "aim", "trx", "otam")} | dict.fromkeys(
    ("gghm", "sloshnet"), ("hyrsm", "strm", "trx", "otam")
)
PARTS = {  # method -> the claim that a part of it helps -> the ablation without that part
    "ma_fsar": {
        "temporal adaptation helps": "without global temporal adaptation",
        "local adaptation helps": "without local adaptation",
        "joint adaptation helps": "without joint adaptation",
        "TPCM helps": "without TPCM",
        "the text token in the support branch helps": "no text token in the support branch",
        "adapters are as good as full tuning, or better": "full tuning of the image tower",
    },
    "gghm": {
        "the graph's guidance helps": "without the graph's guidance",
        "dense temporal modelling helps": "without dense temporal modelling",
        "frames and tuples are better than frames alone": "frames alone (alpha 0)",
        "frames and tuples are better than tuples alone": "tuples alone (alpha 1)",
    },
    "sloshnet": {
        "fusing low and high maps helps": "the deepest map alone",
        "a searched fusion is better than an even one": "a fixed mix: every operation a third",
        "the long-term module helps": "without the long-term module",
        "the short-term module helps": "without the short-term module",
    },
    "actionclip": {
        "matching texts is better than a classifier": "1-of-N classifier (unimodal)",
        "prompts are better than label words": "label words instead of prompts",
        "Transf is better than MeanP": "MeanP",
        "joint, before the network, hurts": "joint, pre-network",
        "shift, inside the network, hurts": "shift, in-network",
        "tuning both towers is better than the image tower alone": "image tower alone",
        "tuning both towers is better than the text tower alone": "text tower alone",
    },
    "m2clip": {
        "temporal enhancement helps": "without temporal enhancement",
        "temporal difference helps": "without temporal difference",
        "text adapters help": "without text adapters",
        "four heads are better than the contrastive one alone": "contrastive head alone",
        "cross-modal classification helps": "without cross-modal classification",
        "masked language modelling helps": "without masked language modelling",
        "visual classification helps": "without visual classification",
    },
}
TEXTS = {"ma_fsar": (Claim("class texts are used", texts=True),)}
CLAIMS = {
    method: (
        *(Claim(f"above {tables.label(name)}", above=name) for name in ABOVE.get(method, ())),
        *(Claim(words, part=label) for words, label in of.items()),
        *TEXTS.get(method, ()),
    )
    for method, of in PARTS.items()
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
    """Points that a method loses where the classes' texts are permuted, and half the interval over seeds or videos."""
    same = ladder.studied(column, world).get(method)
    if not same or PERMUTED not in same[0].result:
        raise UserError(f"{method} has no record with texts on {world}")
    gaps = [paired(tables.tested(run), tables.tested(run, PERMUTED)) for run in same]
    mean, halves = over_seeds([gap.summary() for gap in gaps])
    return 100 * mean, 100 * (halves.get("seeds") or halves["videos"])


FORMAT = {"points": "{:+.1f}", "half": "± {:.1f}"}
