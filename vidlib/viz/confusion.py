"""Which class is taken for which."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from vidlib.basics.errors import UserError
from vidlib.viz import style


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
        side = 3.2 + 0.46 * count
        ax = style.new_axes(side + 1.6, side)
    image = ax.imshow(np.ma.masked_invalid(share), cmap="Blues", vmin=0, vmax=100, aspect="equal")
    ax.set_facecolor("#EFEFEF")
    if count <= (8 if style.narrow() else 16):
        for row, column in np.argwhere(np.isfinite(share)):
            value = share[row, column]
            if value >= 0.5:
                ax.text(
                    column,
                    row,
                    f"{value:.0f}",
                    ha="center",
                    va="center",
                    fontsize=style.SMALL,
                    fontweight="bold" if row == column else "normal",
                    color="white" if value > 55 else style.INK,
                )
    style.dress(ax, "predicted class", "true class", grid=None)
    ax.set_xticks(
        range(count),
        names,  # not wrapped: two lines side by side would run into the next label
        rotation=90,
        fontsize=style.SMALL,
    )
    ax.set_yticks(range(count), [style.wrap(name, 26) for name in names], fontsize=style.SMALL)
    ax.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    ax.grid(True, which="minor", color="white", linewidth=1.0)
    ax.tick_params(which="both", length=0)
    ax.spines[["left", "bottom"]].set_visible(False)
    bar = ax.figure.colorbar(image, ax=ax, fraction=0.035, pad=0.02)
    style.dress_bar(bar, "share of the true class (%)")
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
