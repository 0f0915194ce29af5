"""Calibration: whether an answer that is 90% sure is right nine times in ten; and one number that mends it.

Of episodes that kept their logits, and of labelled videos with their probabilities. Legend: `R` answers, `W` classes.
"""

from typing import Any

import numpy as np
import pandas as pd
from scipy import optimize
from scipy.special import log_softmax

from vidlib.basics.errors import UserError
from vidlib.results.accuracy import Evaluation
from vidlib.results.intervals import clustered

BINS = 10
LIMITS = (1e-3, 1e3)  # of a temperature


def answers(evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray]:
    """Logits [R W] (of videos the logarithms of their probabilities) and the place of the true class among them [R]."""
    if evaluation.trial == "video":
        return np.log(np.maximum(evaluation.probabilities.astype(float), 1e-12)), evaluation.truth
    if evaluation.logits is None:
        raise UserError("this evaluation kept no logits: evaluate with keep_parts=True")
    labels = [episode.query_labels for episode in evaluation.episodes]
    return np.concatenate(evaluation.logits).astype(float), np.concatenate(labels)


def loss(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0, doubt: float = 0.0) -> float:
    """Mean negative log-likelihood of ``logits`` [R W] divided by ``temperature``; the part ``doubt`` of each
    answer counts for the other classes, all alike."""
    chances = log_softmax(logits / temperature, -1)
    own = np.take_along_axis(chances, labels[:, None], 1)[:, 0]
    others = (chances.sum(-1) - own) / (chances.shape[1] - 1)
    return float(-((1 - doubt) * own + doubt * others).mean())


def fit_temperature(logits: np.ndarray, labels: np.ndarray, doubt: float = 0.0) -> float:
    """The temperature of the least ``loss`` (Guo et al., ICML 2017), within ``LIMITS``; it changes no answer."""
    inside = tuple(np.log(LIMITS))
    found = optimize.minimize_scalar(
        lambda log: loss(logits, labels, np.exp(log), doubt), bounds=inside, method="bounded", options={"xatol": 1e-6}
    )
    return float(np.exp(found.x))


def reliability(evaluation: Evaluation, temperature: float = 1.0, bins: int = BINS) -> pd.DataFrame:
    """Answers in order of how sure they are, in ``bins`` of equally many: confidence, accuracy, half, answers.

    ``half``: of the accuracy's 95% interval, clustered by episode (or video). Fractions, not per cent.
    """
    logits, labels = answers(evaluation)
    sure, right = _sure(logits, labels, temperature)
    trial = evaluation.episode if evaluation.trial == "episode" else np.arange(len(right))
    rows = []
    for part in np.array_split(np.argsort(sure, kind="stable"), min(bins, len(sure))):
        half = clustered(right[part], trial[part])
        rows.append((sure[part].mean(), right[part].mean(), half, len(part)))
    return pd.DataFrame(rows, columns=["confidence", "accuracy", "half", "answers"])


def ece(table: pd.DataFrame) -> float:
    """Expected calibration error of ``reliability``: the mean gap of confidence and accuracy, by answers."""
    return float(np.average((table["confidence"] - table["accuracy"]).abs(), weights=table["answers"]))


def measure(test: Evaluation, val: Evaluation, bins: int = BINS) -> dict[str, Any]:
    """The ``temperature`` fitted on ``val``; ``ece`` and ``loss`` of ``test`` before it and after (``ece_after``)."""
    warm = fit_temperature(*answers(val))
    result: dict[str, Any] = {"temperature": warm}
    for name, temperature in (("", 1.0), ("_after", warm)):
        result[f"ece{name}"] = ece(reliability(test, temperature, bins))
        result[f"loss{name}"] = loss(*answers(test), temperature)
    return result


def _sure(logits: np.ndarray, labels: np.ndarray, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """The largest probability of each answer, and 1 where it is right."""
    sure = np.exp(log_softmax(logits / temperature, -1).max(-1))
    return sure, (logits.argmax(-1) == labels).astype(float)
