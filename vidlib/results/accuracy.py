"""What an evaluation found: accuracy with its interval, per class and per episode, and paired comparisons.

Legend: `N` episodes, `Q` queries of one, `W` way, `K` classes of the split, `R` all queries, episode after episode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from vidlib.basics.errors import UserError
from vidlib.basics.paths import atomic_write

NEAR = 1e-4  # two best logits closer than this: a prediction that rounding may turn
CONDITIONAL = "95% interval over episodes, conditional on one trained model and one set of classes"


@dataclass
class EvalResult:
    """Accuracy of one method on one list of episodes; fractions, not percent.

    ``episode``, ``truth``, ``predicted`` (class ids of the split), ``margin`` (best two logits apart), all [R], hold
    every query; ``per_episode [N]`` each episode's accuracy. ``logits`` and ``parts`` (lists over episodes, [Q W]
    arrays) are there when asked for.
    """

    split: str
    classes: tuple[str, ...]
    checksum: str
    mode: str
    seconds: float
    per_episode: np.ndarray
    episode: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray
    margin: np.ndarray
    controls: dict[str, str] = field(default_factory=dict)
    logits: list[np.ndarray] | None = None
    parts: list[dict[str, np.ndarray]] | None = None
    episodes: Sequence[Any] | None = None

    @classmethod
    def collect(
        cls,
        sampler: Any,
        episodes: Sequence[Any],
        logits: Sequence[np.ndarray],
        parts: list[dict[str, np.ndarray]] | None,
        mode: str,
        seconds: float,
        checksum: str = "",
    ) -> EvalResult:
        """Score ``logits`` ([Q W] per episode) against the episodes' labels; given ``parts``, both are kept."""
        if any(not np.isfinite(scores).all() for scores in logits):
            worst = next(i for i, scores in enumerate(logits) if not np.isfinite(scores).all())
            raise UserError(f"the logits of test episode {worst} are not finite: try precision 32-true")
        guesses = [scores.argmax(-1) for scores in logits]
        best = [np.sort(scores, -1) for scores in logits]
        hits = [guess == episode.query_labels for guess, episode in zip(guesses, episodes, strict=True)]
        return cls(
            split=sampler.split,
            classes=tuple(sampler.classes),
            checksum=checksum or sampler.checksum(len(episodes)),
            mode=mode,
            seconds=seconds,
            per_episode=np.array([hit.mean() for hit in hits]),
            episode=np.repeat(np.arange(len(episodes)), [len(hit) for hit in hits]),
            truth=np.concatenate([episode.class_ids[episode.query_labels] for episode in episodes]),
            predicted=np.concatenate([e.class_ids[guess] for e, guess in zip(episodes, guesses, strict=True)]),
            margin=np.concatenate([scores[:, -1] - scores[:, -2] for scores in best]),
            logits=list(logits) if parts is not None else None,
            parts=parts,
            episodes=episodes if parts is not None else None,
        )

    @property
    def accuracy(self) -> float:
        """Mean over episodes."""
        return float(self.per_episode.mean())

    @property
    def interval(self) -> float:
        """Half the width of the 95% interval over episodes."""
        return half_width(self.per_episode)

    @property
    def near_ties(self) -> int:
        """Queries whose two best logits lie within ``NEAR``."""
        return int((self.margin < NEAR).sum())

    @property
    def confusion(self) -> np.ndarray:
        """Counts [K K]: true class by predicted class."""
        return confusion(self.truth, self.predicted, len(self.classes))

    def per_class(self) -> pd.DataFrame:
        """One row per class of the split: queries asked and accuracy (NaN where no episode asked)."""
        return per_class(self.confusion, self.classes, "queries")

    def remix(self, mix: Callable[[dict[str, np.ndarray]], np.ndarray]) -> EvalResult:
        """The result under other logits: ``mix`` turns an episode's parts by name (each [Q W]) into logits [Q W]."""
        if self.parts is None:
            raise UserError("this result kept no parts: evaluate with keep_parts=True")
        logits = [mix(part) for part in self.parts]
        source = _Source(self.split, self.classes)
        other = EvalResult.collect(source, self.episodes, logits, self.parts, self.mode, 0.0, self.checksum)
        other.controls = self.controls
        return other

    def summary(self) -> dict[str, Any]:
        """JSON values for a run's result.json."""
        return {
            "accuracy": self.accuracy,
            "interval": self.interval,
            "interval_note": CONDITIONAL,
            "episodes": len(self.per_episode),
            "checksum": self.checksum,
            "split": self.split,
            "mode": self.mode,
            "near_ties": self.near_ties,
            "seconds": round(self.seconds, 3),
            "controls": self.controls,
            "per_class": shares(self.per_class()),
        }

    def save(self, path: str | Path) -> None:
        """Write what is needed for later comparisons (not the logits) to an .npz file."""
        with atomic_write(path) as part, open(part, "wb") as file:
            np.savez_compressed(
                file,
                split=self.split,
                classes=np.array(self.classes),
                checksum=self.checksum,
                mode=self.mode,
                seconds=self.seconds,
                controls=pairs_of(self.controls),
                **{name: getattr(self, name) for name in ARRAYS},
            )

    @classmethod
    def load(cls, path: str | Path) -> EvalResult:
        """Read what ``save`` wrote."""
        with np.load(path, allow_pickle=False) as file:
            return cls(
                split=str(file["split"]),
                classes=tuple(map(str, file["classes"])),
                checksum=str(file["checksum"]),
                mode=str(file["mode"]),
                seconds=float(file["seconds"]),
                controls=dict_of(file["controls"]),
                **{name: file[name] for name in ARRAYS},
            )

    def __str__(self) -> str:
        return f"{percent(self.accuracy, self.interval)} over {len(self.per_episode):,} episodes ({CONDITIONAL})"


ARRAYS = ("per_episode", "episode", "truth", "predicted", "margin")


@dataclass(frozen=True)
class _Source:
    """Stands in for a sampler where a result is scored anew."""

    split: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Paired:
    """How much more accurate a is than b on the same episodes: mean difference and half its 95% interval, fractions."""

    difference: float
    interval: float
    episodes: int

    @property
    def apart(self) -> bool:
        """Zero lies outside the interval."""
        return abs(self.difference) > self.interval

    def __str__(self) -> str:
        return f"{100 * self.difference:+.1f} ± {100 * self.interval:.1f} points over {self.episodes:,} paired episodes"


def paired(a: EvalResult, b: EvalResult) -> Paired:
    """``a`` minus ``b``, episode by episode; a ``UserError`` where the two did not meet the same episodes."""
    if a.checksum != b.checksum or len(a.per_episode) != len(b.per_episode):
        raise UserError(
            f"the results are of different episodes ({len(a.per_episode)} with checksum {a.checksum[:12]}, "
            f"{len(b.per_episode)} with {b.checksum[:12]}): evaluate both on the same ones"
        )
    difference = a.per_episode - b.per_episode
    return Paired(float(difference.mean()), half_width(difference), len(difference))


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts [K K] of true class by predicted class, both given as numbers of the class."""
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (truth, predicted), 1)
    return counts


def per_class(counts: np.ndarray, classes: Sequence[str], asked: str) -> pd.DataFrame:
    """One row per class of ``confusion``'s counts: how many were ``asked``, and accuracy (NaN where none was)."""
    number = counts.sum(1)
    share = np.divide(counts.diagonal(), number, out=np.full(len(number), np.nan), where=number > 0)
    return pd.DataFrame({"class": classes, asked: number, "accuracy": share})


def shares(table: pd.DataFrame) -> dict[str, float]:
    """class -> accuracy of a table of ``per_class``, without the classes that were not asked."""
    known = table.dropna(subset="accuracy")
    return dict(zip(known["class"], known["accuracy"].astype(float), strict=True))


def pairs_of(controls: Mapping[str, str]) -> np.ndarray:
    """A dict of strings as an array [N 2], as an .npz can hold it; ``dict_of`` turns it back."""
    return np.array(list(controls.items()), dtype=str).reshape(-1, 2)


def dict_of(pairs: np.ndarray) -> dict[str, str]:
    """What ``pairs_of`` made an array of."""
    return {str(key): str(value) for key, value in pairs}


def half_width(values: np.ndarray) -> float:
    """Half the 95% interval of the mean: t quantile times standard error; infinite for one value."""
    n = len(values)
    if n < 2:
        return float("inf")
    return float(stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n))


def percent(accuracy: float, interval: float) -> str:
    """``46.2% ± 0.9``."""
    return f"{100 * accuracy:.1f}% ± {100 * interval:.1f}"
