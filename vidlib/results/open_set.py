"""Open set: how well a score tells queries of an episode's classes from queries of none of them.

``known`` and ``unknown`` are evaluations of the same episodes that kept their logits: the latter of
``evaluate_outside``. A query is said to be "none of these" where its score lies below a threshold, chosen on val.

Legend: `R` queries, `W` way.
"""

from typing import Any

import numpy as np
from scipy.special import softmax

from vidlib.basics.errors import UserError
from vidlib.results.accuracy import Evaluation
from vidlib.results.intervals import clustered, students_t

# The largest logit, the default, and the largest probability, which forgets how near anything is. On val of motion and
# scene, 1 and 5 shot, 1,000 episodes, the logit's AUROC is at most 0.3 points below, and up to 20 above (class texts).
SCORES = ("logit", "softmax")
KEPT = 0.95  # of val's known queries, the share that the threshold lets pass


def scores(evaluation: Evaluation, score: str = SCORES[0], temperature: float = 1.0) -> np.ndarray:
    """How sure each answer is, [R]: one of ``SCORES``, the logits divided by ``temperature`` first."""
    if evaluation.logits is None:
        raise UserError("this evaluation kept no logits: evaluate with keep_parts=True")
    if score not in SCORES:
        raise UserError(f"score: {score!r} is not one of {', '.join(SCORES)}")
    logits = np.concatenate(evaluation.logits).astype(float) / temperature
    return (softmax(logits, -1) if score == "softmax" else logits).max(-1)


def threshold(known: np.ndarray, kept: float = KEPT) -> float:
    """The largest one that at least the share ``kept`` of the scores ``known`` [R] reach."""
    return float(np.sort(known)[int(np.floor((1 - kept) * len(known) + 1e-9))])


def auroc(known: np.ndarray, unknown: np.ndarray) -> float:
    """How often a known query has the larger score than an unknown one, ties half."""
    return float(_above(known, unknown).mean())


def curve(known: np.ndarray, unknown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shares of unknown and of known queries whose score reaches each of the scores, from none to all."""
    at = np.unique(np.concatenate([known, unknown]))[::-1]
    shares = [1 - np.searchsorted(np.sort(values), at, "left") / len(values) for values in (unknown, known)]
    return tuple(np.concatenate([[0.0], share]) for share in shares)


def measure(
    known: Evaluation, unknown: Evaluation, val_known: Evaluation, *, score: str = SCORES[0], kept: float = KEPT
) -> dict[str, Any]:
    """``auroc``; and at the ``threshold`` that lets ``kept`` of ``val_known``'s queries pass, the shares
    ``known_kept`` and ``unknown_rejected``. Each has its 95% intervals by what varies, ``<name>_half``: episodes,
    videos asked, and their classes."""
    inside, outside = scores(known, score), scores(unknown, score)
    limit = threshold(scores(val_known, score), kept)
    result: dict[str, Any] = {"score": score, "threshold": limit, "auroc": auroc(inside, outside)}
    result |= {"known_kept": float((inside >= limit).mean()), "unknown_rejected": float((outside < limit).mean())}
    for kind, of in {"episodes": "episode", "videos": "query", "classes": "truth"}.items():
        both = getattr(known, of), getattr(unknown, of)
        halves = {"auroc": _auroc_half(inside, outside, *both)}
        halves["known_kept"] = clustered((inside >= limit).astype(float), both[0])
        halves["unknown_rejected"] = clustered((outside < limit).astype(float), both[1])
        for name, half in halves.items():
            result.setdefault(f"{name}_half", {})[kind] = half
    return result


def _above(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The share of ``others`` that each value exceeds, ties half."""
    ordered = np.sort(others)
    return sum(np.searchsorted(ordered, values, side) for side in ("left", "right")) / (2 * len(others))


def _auroc_half(known: np.ndarray, unknown: np.ndarray, of_known: np.ndarray, of_unknown: np.ndarray) -> float:
    """Half the 95% interval of an AUROC whose queries of one cluster go together (Obuchowski, Biometrics 1997)."""
    number = np.unique(np.concatenate([of_known, of_unknown]), return_inverse=True)[1]
    parts = []
    for values in (_above(known, unknown), 1 - _above(unknown, known)):
        parts.append((values - values.mean()) / len(values))
    sums = np.bincount(number, np.concatenate(parts))
    if len(sums) < 2:
        return float("inf")
    return float(students_t(len(sums) - 1) * np.sqrt(len(sums) / (len(sums) - 1) * np.square(sums).sum()))
