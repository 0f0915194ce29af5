"""95% intervals of a few-shot accuracy over other videos, supports too, and over all the classes of an episode.

An interval clustered by the video, or class, that is asked leaves out the supports, on which an answer hangs as well:
it is too narrow for fresh videos, and ``studies.coverage`` counts how often each holds.

Here every unit (video or class) stands for all episodes that it has a part in. Legend: `E` episodes, `M` units of one
episode, `U` units, `s_u` the sum over the episodes of u of (value - mean) / E. Within a group of n exchangeable units
of which an episode takes m, leaving u out moves the mean by -s_u / (1 - m / n), so that the jackknife's variance is

    V = sum over groups of n (n - 1) / (n - m)^2 * sum over its units of (s_u - their mean)^2.

An episode's own noise is in V once for each of its units, M (n - 1) / (n - m) times; it is taken off but for once, and
degrees of freedom are as many fewer (Satterthwaite 1946) as what is left is less sure than V.
"""

import numpy as np

from vidlib.results.intervals import students_t


def over_videos(values: np.ndarray, videos: np.ndarray, cls: np.ndarray) -> float:
    """Half the 95% interval of the mean of ``values`` [E], one for each episode, over other videos of these classes.

    ``videos`` [E M]: rows of all videos of an episode, supports and queries; ``cls`` [U]: the class of every row. For
    a comparison ``values`` are differences. Infinite where a class has no more videos than an episode takes.
    """
    return _over(values, videos, cls)


def over_classes(values: np.ndarray, classes: np.ndarray, number: int) -> float:
    """The same over other classes with other videos: ``classes`` [E W], of ``number`` in all."""
    return _over(values, classes, np.zeros(number, np.int64))


def _over(values: np.ndarray, units: np.ndarray, group: np.ndarray) -> float:
    episodes, taken = units.shape
    group = np.unique(group, return_inverse=True)[1]
    n = np.bincount(group)
    of = group[units]
    together = (of[:, :, None] == of[:, None]).mean() * taken  # m
    if (n <= together).any() or episodes < 2:
        return float("inf")
    apart = values - values.mean()
    sums = np.bincount(units.ravel(), np.repeat(apart, taken), len(group)) / episodes
    sums -= (np.bincount(group, sums) / n)[group]
    total = (n * (n - 1) / (n - together) ** 2 * np.bincount(group, np.square(sums))).sum()
    own = np.square(apart).sum() / episodes**2
    again = taken * ((n - 1) / (n - together)).mean() - 1
    variance = max(own, total - again * own)
    if not variance:
        return 0.0
    freedom = max(1, int((n - 1).sum() * min(1.0, variance / total) ** 2))
    return float(students_t(freedom) * np.sqrt(variance))
