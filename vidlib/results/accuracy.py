"""What a test measured: accuracy with its interval, per class and per trial, and paired comparisons.

A trial is an episode, of which several queries may be asked, or a video that is set against all classes.

Legend: `N` trials, `K` classes of the split, `R` answers: all queries, episode after episode, or the videos.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from vidlib.basics.errors import UserError
from vidlib.basics.paths import atomic_write
from vidlib.results.intervals import (
    clustered,
    each_called,
    gap_of_shares,
    half_width,
    percent,
    wilson,
)
from vidlib.results.over_draws import over_classes, over_videos

NEAR = 1e-4  # two best logits closer than this: a prediction that rounding may turn
STORED = {  # the field of a kind of trial -> its key in a file; of videos the rest follows from the probabilities
    "episode": {"how": "mode", "per_trial": "per_episode"}
    | {name: name for name in ("episode", "truth", "predicted", "margin", "query", "support", "of_row")},
    "video": {"how": "views", "truth": "truth", "probabilities": "probabilities"},
}
LATER = ("query", "support", "of_row")  # keys that files of earlier days lack
SHUFFLED, PERMUTED = "frames_shuffled", "texts_permuted"  # the controls, as files and records name them
ASKED = {"episode": "queries", "video": "videos"}
UNKNOWN = float("nan")  # an interval for which the file keeps too little


@dataclass
class Evaluation:
    """Accuracy of one method on one list of trials; fractions, not percent.

    ``truth``, ``predicted`` (numbers of the class in ``classes``; -1: another, a record keeps no more), both
    [R], hold every answer; ``per_trial [N]`` each trial's accuracy. ``checksum`` is that of the list: two evaluations
    with the same one can be paired. ``how`` the trials were embedded: once or in each episode; the views of each video.

    Of episodes there are ``episode``, ``margin`` (best two logits apart) and ``query`` (the video asked), all [R],
    ``support`` [N S], rows of ``manifest.videos(split)`` as those, and ``of_row``, the class of each row (None in files
    of earlier days); when asked for ``logits`` and ``parts`` (lists over ``episodes``, [Q W] arrays). Of videos there
    are ``probabilities [N K]``.
    """

    trial: Literal["episode", "video"]
    split: str
    classes: tuple[str, ...]
    checksum: str
    how: str
    seconds: float
    per_trial: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray
    controls: dict[str, str] = field(default_factory=dict)
    episode: np.ndarray | None = None
    margin: np.ndarray | None = None
    query: np.ndarray | None = None
    support: np.ndarray | None = None
    of_row: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    logits: list[np.ndarray] | None = None
    parts: list[dict[str, np.ndarray]] | None = None
    episodes: Sequence[Any] | None = None

    @classmethod
    def of_episodes(
        cls,
        source: Any,
        episodes: Sequence[Any],
        logits: Sequence[np.ndarray],
        parts: list[dict[str, np.ndarray]] | None,
        how: str,
        seconds: float,
        checksum: str = "",
    ) -> Evaluation:
        """Score ``logits`` ([Q W] per episode) against the episodes' labels; given ``parts``, both are kept.

        ``source``, a sampler, knows ``split``, ``classes``, ``of_row`` and, where none is given, the ``checksum``.
        """
        for i, scores in enumerate(logits):
            if not np.isfinite(scores).all():
                raise UserError(f"the logits of test episode {i} are not finite: try precision 32-true")
        guesses = [scores.argmax(-1) for scores in logits]
        best = [np.sort(scores, -1) for scores in logits]
        hits = [guess == episode.query_labels for guess, episode in zip(guesses, episodes, strict=True)]
        return cls(
            trial="episode",
            split=source.split,
            classes=tuple(source.classes),
            checksum=checksum or source.checksum(len(episodes)),
            how=how,
            seconds=seconds,
            per_trial=np.array([hit.mean() for hit in hits]),
            truth=np.concatenate([episode.class_ids[episode.query_labels] for episode in episodes]),
            predicted=np.concatenate([e.class_ids[guess] for e, guess in zip(episodes, guesses, strict=True)]),
            episode=np.repeat(np.arange(len(episodes)), [len(hit) for hit in hits]),
            margin=np.concatenate([scores[:, -1] - scores[:, -2] for scores in best]),
            query=np.concatenate([e.query for e in episodes]),
            support=np.stack([e.support for e in episodes]),
            of_row=source.of_row,
            logits=list(logits) if parts is not None else None,
            parts=parts,
            episodes=episodes if parts is not None else None,
        )

    @classmethod
    def of_videos(cls, truth: np.ndarray, probabilities: np.ndarray, **rest: Any) -> Evaluation:
        """Top-1 of ``probabilities [N K]``, kept as float32, against ``truth [N]``; ``rest`` as the class's fields."""
        if not np.isfinite(probabilities).all():
            worst = int((~np.isfinite(probabilities)).any(1).argmax())
            raise UserError(f"the scores of test video {worst} are not finite: try precision 32-true")
        probabilities = probabilities.astype(np.float32, copy=False)
        guess = probabilities.argmax(-1)
        answers = {"truth": truth, "predicted": guess, "per_trial": (guess == truth).astype(float)}
        return cls(trial="video", **answers, probabilities=probabilities, **rest)

    @property
    def accuracy(self) -> float:
        """Mean over trials; of videos, top-1."""
        return float(self.per_trial.mean())

    @property
    def hits(self) -> np.ndarray:
        """[R]: 1 where an answer is right, else 0."""
        return (self.predicted == self.truth).astype(float)

    @property
    def ends(self) -> tuple[float, float]:
        """The 95% interval over trials: Student's t of the episodes' accuracies, Wilson's of right and wrong videos."""
        if self.trial == "video":
            return wilson(float(self.per_trial.sum()), len(self.per_trial))
        half = half_width(self.per_trial)
        return self.accuracy - half, self.accuracy + half

    @property
    def interval(self) -> float:
        """How far the 95% interval over trials reaches; of Wilson's, which is no wider on one side, the farther end."""
        if self.trial == "episode":
            return half_width(self.per_trial)
        return max(abs(end - self.accuracy) for end in self.ends)

    @property
    def intervals(self) -> dict[str, float]:
        """Half of each 95% interval by what is taken to vary: ``episodes``, ``videos`` and ``classes``; NaN where it
        is unknown. That over episodes holds for these videos and classes alone, that over videos for these classes."""
        return _intervals(self, self.interval, self.per_trial)

    @property
    def conditional(self) -> str:
        """What the interval is of."""
        return f"95% interval over {self.trial}s, conditional on one trained model and one set of classes"

    @property
    def near_ties(self) -> int:
        """Queries whose two best logits lie within ``NEAR``."""
        return int((self.margin < NEAR).sum())

    @property
    def top5(self) -> float:
        """How often a video's class is among the five most likely; 1 where there are no more than five."""
        own = np.take_along_axis(self.probabilities, self.truth[:, None], 1)
        return float(((self.probabilities > own).sum(1) < 5).mean())

    @property
    def chance(self) -> float:
        """Of a video that is set against all classes."""
        return 1 / len(self.classes)

    @property
    def confusion(self) -> np.ndarray:
        """Counts [K K]: true class by predicted class; a ``UserError`` where only right and wrong were kept."""
        if (self.predicted < 0).any():
            raise UserError("a record keeps which answers were right, not what else was answered: run it anew to see")
        counts = np.zeros((len(self.classes),) * 2, dtype=np.int64)
        np.add.at(counts, (self.truth, self.predicted), 1)
        return counts

    def per_class(self) -> pd.DataFrame:
        """One row per class of the split: queries (or videos) asked and accuracy (NaN where none was)."""
        number, right = (np.bincount(self.truth, w, len(self.classes)) for w in (None, self.hits))
        share = np.divide(right, number, out=np.full(len(number), np.nan), where=number > 0)
        return pd.DataFrame({"class": self.classes, ASKED[self.trial]: number, "accuracy": share})

    def remix(self, mix: Callable[[dict[str, np.ndarray]], np.ndarray]) -> Evaluation:
        """The same under other logits: ``mix`` turns an episode's parts by name (each [Q W]) into logits [Q W]."""
        if self.parts is None:
            raise UserError("this evaluation kept no parts: evaluate with keep_parts=True")
        logits = [mix(part) for part in self.parts]
        other = Evaluation.of_episodes(self, self.episodes, logits, self.parts, self.how, 0.0, self.checksum)
        other.controls = self.controls
        return other

    def summary(self) -> dict[str, Any]:
        """JSON values for a run's result.json."""
        asked = self.per_class().dropna(subset="accuracy")
        record = {"accuracy": self.accuracy, "interval": self.interval, "interval_note": self.conditional}
        record["intervals"] = {kind: half if np.isfinite(half) else None for kind, half in self.intervals.items()}
        if self.trial == "video":
            record |= dict(zip(("low", "high"), self.ends, strict=True))
            record |= {"top5": self.top5, "chance": self.chance, "classes": len(self.classes)}
        else:
            record["near_ties"] = self.near_ties
        record |= {f"{self.trial}s": len(self.per_trial), "checksum": self.checksum, "split": self.split}
        record |= {STORED[self.trial]["how"]: self.how, "seconds": round(self.seconds, 3), "controls": self.controls}
        return record | {"per_class": dict(zip(asked["class"], asked["accuracy"].astype(float), strict=True))}

    def save(self, path: str | Path) -> None:
        """Write what is needed for later comparisons (not the logits) to an .npz file."""
        kept = ((name, getattr(self, own)) for own, name in STORED[self.trial].items())
        stored = {name: value for name, value in kept if value is not None}
        stored |= {name: getattr(self, name) for name in ("split", "checksum", "seconds")}
        stored["classes"] = np.array(self.classes)
        stored["controls"] = np.array(list(self.controls.items()), dtype=str).reshape(-1, 2)
        with atomic_write(path) as part, open(part, "wb") as file:
            np.savez_compressed(file, **stored)

    @classmethod
    def load(cls, path: str | Path) -> Evaluation:
        """Read what ``save`` wrote; a ``UserError`` where the file is absent or damaged."""
        try:
            with np.load(path, allow_pickle=False) as file:
                trial = "video" if "probabilities" in file else "episode"
                own = {name: file[key] for name, key in STORED[trial].items() if key not in LATER or key in file}
                own |= {"split": str(file["split"]), "classes": tuple(map(str, file["classes"]))}
                own |= {"checksum": str(file["checksum"]), "how": str(own["how"]), "seconds": float(file["seconds"])}
                own["controls"] = {str(key): str(value) for key, value in file["controls"]}
        except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f"{path} cannot be read ({error}): run the run anew with fresh=True") from None
        return cls.of_videos(**own) if trial == "video" else cls(trial, **own)

    def __str__(self) -> str:
        trials = f"{len(self.per_trial):,} {self.trial}s"
        others = {kind: half for kind, half in self.intervals.items() if kind != f"{self.trial}s"}
        return f"{percent(self.accuracy, self.interval)} over {trials} ({self.conditional}; {each_called(others)})"


@dataclass(frozen=True)
class Paired:
    """How much more accurate a is than b on the same trials: mean difference and half its 95% interval, fractions.

    ``intervals`` as those of ``Evaluation``, of the difference.
    """

    difference: float
    interval: float
    trials: int
    trial: str
    intervals: dict[str, float] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """As that of an ``Evaluation``, of the difference; for ``intervals.over_seeds``."""
        record = {"accuracy": self.difference, "interval": self.interval, "intervals": self.intervals}
        return record | {f"{self.trial}s": self.trials}

    def __str__(self) -> str:
        both = f"{self.trials:,} paired {self.trial}s"
        others = each_called({kind: half for kind, half in self.intervals.items() if kind != f"{self.trial}s"})
        points = f"{100 * self.difference:+.1f} ± {100 * self.interval:.1f}"
        return f"{points}{others and f' ({others})'} points over {both}"


def paired(a: Evaluation, b: Evaluation) -> Paired:
    """``a`` minus ``b``, trial by trial; a ``UserError`` where the two did not meet the same ones."""
    if a.checksum != b.checksum or len(a.per_trial) != len(b.per_trial):
        raise UserError(
            f"the results are of different {a.trial}s ({len(a.per_trial)} with checksum {a.checksum[:12]}, "
            f"{len(b.per_trial)} with {b.checksum[:12]}): evaluate both on the same ones"
        )
    gaps = a.per_trial - b.per_trial
    difference = float(gaps.mean())
    half = half_width(gaps)
    if a.trial == "video":
        half = max(abs(end - difference) for end in gap_of_shares(gaps))
    known = a if a.support is not None else b
    return Paired(difference, half, len(gaps), a.trial, _intervals(known, half, gaps))


def _intervals(asked: Evaluation, over_trials: float, values: np.ndarray) -> dict[str, float]:
    """The intervals of the mean of ``values`` [N], one for each trial of ``asked``."""
    if asked.trial == "video":
        return {"videos": over_trials, "classes": clustered(values, asked.truth)}
    if asked.support is None:
        return {"episodes": over_trials, "videos": UNKNOWN, "classes": UNKNOWN}
    number = len(values)
    videos = np.concatenate([asked.support, asked.query.reshape(number, -1)], 1)
    in_it = np.zeros((number, len(asked.classes)), bool)
    np.put_along_axis(in_it, asked.of_row[asked.support], True, 1)
    classes = np.nonzero(in_it)[1].reshape(number, -1)
    over = {"videos": over_videos(values, videos, asked.of_row)}
    return {"episodes": over_trials} | over | {"classes": over_classes(values, classes, len(asked.classes))}


def harmonic(a: float, b: float) -> float:
    """The harmonic mean of two accuracies, 0 where both are."""
    return float(stats.hmean([a, b])) if a and b else 0.0
