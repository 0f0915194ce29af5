"""What a paper claims beside what the shipped records say of it here: holds, fails, no difference beyond its interval.

A claim is about another method (``above``: the ladder's rows on the same episodes), about a part of the method
(``part``: its ablation, judged on val of the notebook's world; of labelled videos on new classes besides) or about its
texts (``texts``: against the same weights with the classes' texts permuted). Embedded worlds and small towers: that a
claim fails here does not refute the paper.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from vidlib.basics.errors import UserError
from vidlib.results.accuracy import PERMUTED, paired
from vidlib.results.intervals import over_seeds
from vidlib.studies import ablations, ladder, tables

HOLDS, FAILS, OPEN, NONE = "holds", "fails", "no difference beyond its interval", "not on record"
ONCE = "one training: no claim"  # a claim that a method is better rests on several seeds
BLIND = "; searched blindly: "  # and of whom: no try of theirs had left chance, so that another rate may say otherwise


class Claim(NamedTuple):
    """In words; better than the method ``above``, than without ``part`` (an ablation's label), or ``texts`` read.
    ``frozen``: besides, than the same with its tower tuned, too, each at the rate and scale of its own search."""

    words: str
    above: str = ""
    part: str = ""
    texts: bool = False
    frozen: bool = False


ABOVE = {"ma_fsar": ("clip_fsar", "aim", "trx", "otam")} | dict.fromkeys(
    ("gghm", "sloshnet"), ("hyrsm", "strm", "trx", "otam")
)
FROZEN = "adapters are better than full tuning"
PARTS = {  # method -> the claim that a part of it helps -> the ablation without that part
    "ma_fsar": {
        "temporal adaptation helps": "without global temporal adaptation",
        "local adaptation helps": "without local adaptation",
        "joint adaptation helps": "without joint adaptation",
        "TPCM helps": "without TPCM",
        "the text token in the support branch helps": "no text token in the support branch",
        FROZEN: "full tuning of the image tower",
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
        *(Claim(words, part=label, frozen=words == FROZEN) for words, label in of.items()),
        *TEXTS.get(method, ()),
    )
    for method, of in PARTS.items()
}


def table(method: str, changes: pd.DataFrame) -> pd.DataFrame:
    """One row per claim and condition: points in favour of the paper, half the 95% interval (over seeds; of one
    training over its trials, which claims nothing), and what they say.

    ``changes``: ``ablations.table`` of the method; a claim of a part holds where the change without it is worse.
    """
    rows = []
    for claim in CLAIMS[method]:
        for where, points, half, so in _measured(method, claim, changes):
            rows.append({"claim": claim.words, "here": where, "points": points, "half": half, "so": so})
    return pd.DataFrame(rows).set_index(["claim", "here"])


def said(points: float, half: float) -> str:
    """A difference in words."""
    if not np.isfinite(points):
        return NONE
    return OPEN if not np.isfinite(half) or abs(points) <= half else HOLDS if points > 0 else FAILS


def summary(claims: pd.DataFrame) -> str:
    """How many claims hold in every condition on record, hold here and fail there, hold nowhere."""
    known = claims[claims["so"] != NONE].groupby(level="claim", sort=False)["so"]
    kinds = known.agg(lambda so: _kind({each.split(BLIND)[0] for each in so} - {ONCE}))
    counts = kinds.value_counts()
    words = [f"{counts[kind]} {kind}" for kind in KINDS if kind in counts]
    lacking = claims.index.get_level_values("claim").nunique() - len(kinds)
    words += [f"{lacking} have no record" if lacking else ""]
    compared = claims[np.isfinite(claims["half"]) & (claims["so"] != ONCE)]["so"]
    found = f"Of {len(kinds) + lacking} claims: {', '.join(filter(None, words))}."
    chance = "comparisons has its own 95%: if nothing differed, about one in twenty would show a difference."
    blind = int(compared.str.contains(BLIND).sum())
    searched = f" {blind} of them were searched blindly." if blind else ""
    return f"{found} Each of the {len(compared)} {chance}{searched}" if len(compared) else found


KINDS = ("hold", "hold in part", "hold here and fail there", "fail", "fail in part", "stay open")


def _kind(so: set[str]) -> str:
    if {HOLDS, FAILS} <= so:
        return KINDS[2]
    if HOLDS in so:
        return KINDS[0] if so == {HOLDS} else KINDS[1]
    return KINDS[5] if FAILS not in so else KINDS[3] if so == {FAILS} else KINDS[4]


def _measured(method: str, claim: Claim, changes: pd.DataFrame) -> Iterator[tuple[str, float, float, str]]:
    if claim.part:
        row = changes.loc[claim.part] if claim.part in changes.index else {}
        on = {"ablation, val": "", f"ablation, {ablations.NEW}, val": f"{ablations.NEW}, "}
        for where, of in on.items():
            points, half = -row.get(f"{of}difference", np.nan), row.get(f"{of}half", np.nan)
            if not of or np.isfinite(points):  # few-shot methods are judged on new classes alone
                several = str(row.get("over", "")).endswith("seeds") or not np.isfinite(points)
                yield where, points, half, said(points, half) if several else ONCE
        if claim.frozen:
            columns = [ladder.studied(column, "motion").get(method, []) for column in (ladder.FROZEN, ladder.TUNED)]
            points, half = ladder.apart(*columns) if all(columns) else (np.nan, np.nan)
            yield "motion, against the tower tuned besides", points, half, said(points, half)
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
            yield f"{world}, {column}", points, half, _of_trainings(points, half, method, claim.above, column, world)
    if not known:
        yield "ladder", np.nan, np.nan, NONE


def _of_trainings(points: float, half: float, method: str, other: str, column: str, world: str) -> str:
    """``said`` where both sides have several trainings, or nothing to train; of whom the search was blind besides."""
    both = [name for name in (method, other) if name]
    if any(ladder.trained_once(name, column, world) for name in both):
        return ONCE
    blindly = [tables.label(name) for name in both if ladder.searched_blindly(name, column)]
    return said(points, half) + (BLIND + ", ".join(blindly) if blindly else "")


def _texts(method: str, column: str, world: str) -> tuple[float, float]:
    """Points that a method loses where the classes' texts are permuted, and half the interval over seeds or videos."""
    same = ladder.studied(column, world).get(method)
    if not same or PERMUTED not in same[0].result:
        raise UserError(f"{method} has no record with texts on {world}")
    gaps = [paired(tables.tested(run), tables.tested(run, PERMUTED)) for run in same]
    return ladder.points(*over_seeds([gap.summary() for gap in gaps]))


FORMAT = {"points": "{:+.1f}", "half": "± {:.1f}"}
