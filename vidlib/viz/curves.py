"""How training went: loss above, accuracy below, raw values behind their running mean."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from vidlib.errors import UserError
from vidlib.viz import style


@style.figure
def training(
    metrics: pd.DataFrame,
    axes: Sequence[Axes] | None = None,
    *,
    title: str = "",
    x: str = "episode",
    window: int | None = None,
    way: int | None = None,
) -> np.ndarray:
    """Two axes, returned as an array: loss, and accuracy in per cent, over the training episodes.

    ``metrics`` is a run's metrics.jsonl as a table: ``x``, loss, accuracy (0 to 1), and where there are any
    val_accuracy (0 to 1, NaN between validations) and ``loss.NAME``, the weighted terms of the loss. ``window`` is the
    width of the running mean in rows (default a twentieth of them, at least 5); ``way`` adds the line of chance.
    """
    absent = [name for name in (x, "loss", "accuracy") if name not in metrics]
    if absent or not len(metrics):
        raise UserError(
            f"metrics: a training curve needs rows with {x}, loss and accuracy; "
            f"{', '.join(absent) or 'every row'} not there"
        )
    if axes is None:
        axes = style.new_figure(style.page(9.0, 5.6), layout="constrained").subplots(2, 1, sharex=True)
    upper, lower = axes
    window = window or max(5, len(metrics) // 20)
    along = metrics[x].to_numpy(float)

    _line(upper, along, metrics["loss"], style.BLUE, "total", window)
    terms = [name for name in metrics if name.startswith("loss.")]
    for number, name in enumerate(terms if len(terms) > 1 else []):
        upper.plot(
            along,
            style.smooth(metrics[name], window),
            color=style.CYCLE[1 + number % (len(style.CYCLE) - 1)],
            linestyle=("--", "-.", ":")[number % 3],
            linewidth=1.4,
            label=name.removeprefix("loss."),
        )
    style.dress(upper, "", "loss (nats)")
    upper.set_ylim(bottom=min(0.0, float(np.nanmin(metrics["loss"]))))

    _line(lower, along, 100 * metrics["accuracy"], style.BLUE, "training", window)
    if "val_accuracy" in metrics and metrics["val_accuracy"].notna().any():
        asked = metrics["val_accuracy"].notna().to_numpy()
        lower.plot(
            along[asked],
            100 * metrics["val_accuracy"][asked],
            color=style.RED,
            marker="D",
            markersize=6,
            linewidth=1.0,
            linestyle="--",
            label="validation classes" if x == "episode" else "validation",
            zorder=4,
        )
    if way:
        lower.axhline(100 / way, color=style.GREY, linestyle=":", linewidth=1.2, label=f"chance ({100 / way:.0f}%)")
    style.dress(lower, f"training {x}", "accuracy (%)")
    lower.set_ylim(0, 103)
    for ax in (upper, lower):
        place = {"loc": "best"} if style.narrow() else {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
        ax.legend(fontsize=style.SMALL, frameon=False, **place)
    style.remember(upper, metrics)
    style.title(upper, title)
    return np.asarray([upper, lower])


def _line(ax: Axes, along: np.ndarray, values: pd.Series, color: str, label: str, window: int) -> None:
    """Raw values thin and pale, their running mean on top; few values are drawn as points with a line."""
    if len(values) <= 2 * window:
        ax.plot(along, values, color=color, marker="o", markersize=3.5, linewidth=1.4, label=label)
        return
    ax.plot(along, values, color=color, alpha=0.25, linewidth=0.7, gid="raw")
    ax.plot(
        along,
        style.smooth(values, window),
        color=color,
        linewidth=2.0,
        zorder=3,
        label=f"{label} (mean of {window} rows)",
    )
