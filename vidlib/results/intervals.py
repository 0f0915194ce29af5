"""95% intervals of an accuracy by what is taken to vary, and how they are written.

An interval over episodes holds for the videos and classes at hand; what other videos or classes could have given is in
``results.over_draws``, of labelled videos, where nothing but the asked varies, in ``clustered``. intervals.ipynb counts
how often each holds. Legend: `N` trials, `R` answers.
"""

from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

Z = NormalDist().inv_cdf(0.975)


def students_t(freedom: int) -> float:
    """Its 97.5% quantile."""
    from scipy import stats  # here, so that command lines start without it

    return float(stats.t.ppf(0.975, freedom))


def half_width(values: np.ndarray) -> float:
    """Half the 95% interval of the mean: t quantile times standard error; infinite for one value."""
    n = len(values)
    if n < 2:
        return float("inf")
    return float(students_t(n - 1) * values.std(ddof=1) / np.sqrt(n))


def seed_interval(values: Sequence[float], single: float) -> tuple[float, float]:
    """Mean and half the 95% interval over seeds; one seed keeps its own interval over trials, ``single``."""
    if len(values) == 1:
        return values[0], single
    return float(np.mean(values)), half_width(np.asarray(values))


def clustered(values: np.ndarray, cluster: np.ndarray) -> float:
    """Half the 95% interval of the mean of ``values`` [R], of which those of one ``cluster`` [R] go together.

    The cluster-robust standard error (Liang and Zeger 1986) with G / (G - 1), and t with G - 1 degrees of freedom for
    G clusters; infinite for one.
    """
    sums = np.bincount(np.unique(cluster, return_inverse=True)[1], values - values.mean())
    g = len(sums)
    if g < 2:
        return float("inf")
    return float(students_t(g - 1) * np.sqrt(g / (g - 1) * np.square(sums).sum()) / len(values))


def wilson(right: float, number: int) -> tuple[float, float]:
    """The 95% interval of a share of which ``right`` of ``number`` outcomes are the sample (Wilson 1927)."""
    if not number:
        return 0.0, 1.0
    middle = (right + Z**2 / 2) / (number + Z**2)
    half = Z * np.sqrt(right * (number - right) / number + Z**2 / 4) / (number + Z**2)
    return float(max(0.0, middle - half)), float(min(1.0, middle + half))


def gap_of_shares(gaps: np.ndarray) -> tuple[float, float]:
    """The 95% interval of the mean of ``gaps`` [N] in -1, 0 and 1, as two shares of the same outcomes differ (Bonett
    and Price 2012): Wald's with one more outcome on either side, so that it has a width where none differs."""
    n = len(gaps) + 2
    up, down = (((gaps * sign > 0).sum() + 1) / n for sign in (1, -1))
    half = Z * np.sqrt((up + down - (up - down) ** 2) / n)
    return float(max(-1.0, up - down - half)), float(min(1.0, up - down + half))


def percent(accuracy: float, interval: float) -> str:
    """``46.2% ± 0.9``."""
    return f"{100 * accuracy:.1f}% ± {100 * interval:.1f}"


def each_called(intervals: Mapping[str, float | None]) -> str:
    """``± 0.9 episodes, ± 2.1 videos, ± 6.9 classes`` of fractions. Unknown is what is None or not finite, and what has
    no width: where all answers are alike, an interval of their spread tells nothing."""
    known = {kind: half for kind, half in intervals.items() if half and 1e-12 < half < np.inf}  # less is rounding
    words = [f"± {100 * half:.1f} {kind}" for kind, half in known.items()]
    lacking = [kind for kind in intervals if kind not in known]
    return ", ".join(words + ([f"{' and '.join(lacking)} unknown"] if lacking else []))


def over_seeds(records: Sequence[Mapping[str, Any]]) -> tuple[float, dict[str, float | None]]:
    """The mean accuracy of one evaluation's ``summary`` for each seed, and its intervals by what varies.

    With several seeds there is one over ``seeds``; the others are the means of the seeds' own, which that of the mean
    does not pass. None where a record of earlier days does not tell.
    """
    first = records[0]
    own = "videos" if "videos" in first else "episodes"
    kinds = (own, "videos", "classes")
    each = [{own: record["interval"], **record.get("intervals", {})} for record in records]
    halves: dict[str, float | None] = {}
    for kind in dict.fromkeys(kinds):
        values = [one.get(kind) for one in each]
        halves[kind] = None if None in values else float(np.mean(values))
    mean, half = seed_interval([record["accuracy"] for record in records], first["interval"])
    return mean, ({"seeds": half} | halves if len(records) > 1 else halves)


def cell(records: Sequence[Mapping[str, Any]]) -> str:
    """``47.3% ± 0.9 episodes, ± 2.1 videos, ± 6.9 classes`` of one evaluation's ``summary`` for each seed; of one seed
    on videos Wilson's interval by its ends, ``98.0% (90.0 to 99.6 videos), ± 1.5 classes``."""
    mean, halves = over_seeds(records)
    if len(records) == 1 and "low" in records[0]:
        ends = f"({100 * records[0]['low']:.1f} to {100 * records[0]['high']:.1f} videos)"
        halves.pop("videos")
        return f"{100 * mean:.1f}% {ends}, {each_called(halves)}"
    return f"{100 * mean:.1f}% {each_called(halves)}"
