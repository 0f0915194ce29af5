"""What a test of recognition found: top-1 and top-5 with intervals over videos, per class, and what to compare it with.

Legend: `V` videos, `K` classes among which was chosen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from vidlib.basics.errors import UserError
from vidlib.basics.paths import atomic_write
from vidlib.results.accuracy import confusion, dict_of, half_width, pairs_of, per_class, shares

CONDITIONAL = "95% interval over videos, conditional on one trained model and one set of classes"


@dataclass
class Recognised:
    """``probabilities [V K]``, ``truth [V]`` (number of the class); fractions, not percent.

    ``checksum`` is that of the tested list and of ``classes``: two results with the same one can be paired.
    ``per_episode`` has the name that ``results.paired`` reads: each video is one trial.
    """

    split: str
    classes: tuple[str, ...]
    checksum: str
    views: str
    seconds: float
    truth: np.ndarray
    probabilities: np.ndarray
    controls: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not np.isfinite(self.probabilities).all():
            worst = int((~np.isfinite(self.probabilities)).any(1).argmax())
            raise UserError(f"the scores of test video {worst} are not finite: try precision 32-true")

    @property
    def predicted(self) -> np.ndarray:
        return self.probabilities.argmax(-1)

    @property
    def per_episode(self) -> np.ndarray:
        return (self.predicted == self.truth).astype(float)

    @property
    def accuracy(self) -> float:
        """Top-1."""
        return float(self.per_episode.mean())

    @property
    def top5(self) -> float:
        """How often the class is among the five most likely; 1 where there are no more than five."""
        own = np.take_along_axis(self.probabilities, self.truth[:, None], 1)
        return float(((self.probabilities > own).sum(1) < 5).mean())

    @property
    def interval(self) -> float:
        """Half the width of the 95% interval of top-1 over videos."""
        return half_width(self.per_episode)

    @property
    def chance(self) -> float:
        return 1 / len(self.classes)

    @property
    def confusion(self) -> np.ndarray:
        """Counts [K K]: true class by predicted class."""
        return confusion(self.truth, self.predicted, len(self.classes))

    def per_class(self) -> pd.DataFrame:
        """One row per class: videos and top-1 (NaN where there is no video)."""
        return per_class(self.confusion, self.classes, "videos")

    def summary(self) -> dict[str, Any]:
        """JSON values for a run's result.json."""
        return {
            "accuracy": self.accuracy,
            "interval": self.interval,
            "interval_note": CONDITIONAL,
            "top5": self.top5,
            "chance": self.chance,
            "videos": len(self.truth),
            "classes": len(self.classes),
            "checksum": self.checksum,
            "split": self.split,
            "views": self.views,
            "seconds": round(self.seconds, 3),
            "controls": self.controls,
            "per_class": shares(self.per_class()),
        }

    def save(self, path: str | Path) -> None:
        """Write all of it to an .npz file."""
        with atomic_write(path) as part, open(part, "wb") as file:
            np.savez_compressed(
                file,
                split=self.split,
                classes=np.array(self.classes),
                checksum=self.checksum,
                views=self.views,
                seconds=self.seconds,
                truth=self.truth,
                probabilities=self.probabilities.astype(np.float32),
                controls=pairs_of(self.controls),
            )

    @classmethod
    def load(cls, path: str | Path) -> Recognised:
        """Read what ``save`` wrote."""
        with np.load(path, allow_pickle=False) as file:
            return cls(
                split=str(file["split"]),
                classes=tuple(map(str, file["classes"])),
                checksum=str(file["checksum"]),
                views=str(file["views"]),
                seconds=float(file["seconds"]),
                truth=file["truth"],
                probabilities=file["probabilities"],
                controls=dict_of(file["controls"]),
            )


def harmonic(a: float, b: float) -> float:
    """The harmonic mean of two accuracies, 0 where both are."""
    return float(stats.hmean([a, b])) if a and b else 0.0
