"""How sure a guess by examples is: each example in its turn is held out and told by the others.

Legend: `V` videos, `S` example videos, `K` classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor

from vidlib.methods import FewShotMethod
from vidlib.results import calibration, open_set


@dataclass
class HeldOut:
    """``right`` of ``number`` examples were told by the others. Their logits [S K] give the ``temperature`` of the
    confidence, and the ``threshold`` that the largest logit of ``open_set.KEPT`` of them reaches."""

    number: int
    right: int
    temperature: float
    threshold: float

    def confidence(self, logits: np.ndarray) -> np.ndarray:
        """``logits [V K]`` as probabilities."""
        return softmax(logits / self.temperature, -1)

    def none_of_these(self, logits: np.ndarray) -> np.ndarray:
        """[V]: whether not one logit of a video reaches the threshold."""
        return logits.max(-1) < self.threshold


def lacking(labels: Tensor, names: Sequence[str]) -> str:
    """Why examples of these ``labels`` [S] cannot be told by the others, "" where they can."""
    counts = labels.bincount(minlength=len(names)).tolist()
    single = [name for name, count in zip(names, counts, strict=True) if count < 2]
    return f"class {single[0]!r} has one example; give two or more of each class" if single else ""


def measured(logits: np.ndarray, labels: np.ndarray) -> HeldOut:
    """Of ``logits [S K]`` and the examples' own classes [S].

    So few answers, all right, would make every guess certain. Laplace's rule keeps it from that: the likelihood counts
    (K - 1) / (S + K) of each example as if it were of the other classes.
    """
    number, classes = logits.shape
    warm = calibration.fit_temperature(logits, labels, (classes - 1) / (number + classes))
    right = int((logits.argmax(-1) == labels).sum())
    return HeldOut(number, right, warm, open_set.threshold(logits.max(-1)))


def logits_of(
    method: FewShotMethod, support: Mapping[str, Tensor], query: Mapping[str, Tensor], labels: Tensor, text: Tensor
) -> Tensor:
    """[S K]: each example, as a query, against the others; ``support`` and ``query`` are its features in both roles."""
    rows = []
    for i in range(len(labels)):
        others = torch.arange(len(labels), device=labels.device) != i
        rest = {name: value[others][None] for name, value in support.items()}
        alone = {name: value[i : i + 1][None] for name, value in query.items()}
        with torch.no_grad():
            rows.append(method.match(rest, labels[others][None], alone, text[None]).logits[0, 0].float())
    return torch.stack(rows)
