"""Which class is taken for which."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from vidlib.basics.errors import UserError
from vidlib.viz import heatmap, style


@style.figure
def plot(matrix: np.ndarray, names: Sequence[str], ax: Axes | None = None, *, title: str = "") -> Axes:
    """Rows are true classes, columns predicted ones, colour and number the share of the row in per cent.

    ``matrix [K K]`` holds counts. Episodes hold only a few of the classes, so a row's errors are spread over the
    classes that its episodes happened to hold. Numbers are written for at most 16 classes; a class never asked is left
    blank.
    """
    share = shares(matrix, names)
    count = len(names)
    if ax is None:
        side, wide = 3.2 + 0.46 * count, style.sizes().width
        ax = style.new_axes(wide, 0.9 * wide) if style.narrow() else style.new_axes(side + 1.6, side)
    written = count <= (8 if style.narrow() else 16)
    words = np.where(share >= 0.5, np.char.mod("%.0f", share), "") if written else None
    drawn = pd.DataFrame(share, pd.Index(names, name="true class"), pd.Index(names, name="predicted class"))
    style.bar(heatmap.cells(ax, drawn, words, square=True), ax, "share of the true class (%)")
    style.remember(ax, table(matrix, names))
    style.title(ax, title)
    return ax


def shares(matrix: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Counts ``[K K]`` as per cent of each row; NaN where a class was never asked."""
    matrix = np.asarray(matrix, float)
    if matrix.shape != (len(names), len(names)):
        raise UserError(
            f"matrix: {len(names)} classes need {len(names)} x {len(names)} counts, not "
            f"{' x '.join(map(str, matrix.shape))}"
        )
    total = matrix.sum(1, keepdims=True)
    return np.divide(100 * matrix, total, out=np.full_like(matrix, np.nan), where=total > 0)


def table(matrix: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """The drawn numbers, for ``style.save``: columns true, predicted, count, share (per cent of the true class)."""
    share = shares(matrix, names)
    return pd.DataFrame(
        [
            {"true": names[i], "predicted": names[j], "count": np.asarray(matrix)[i, j], "share": share[i, j]}
            for i in range(len(names))
            for j in range(len(names))
        ]
    )
