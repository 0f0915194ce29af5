"""Matrices as cells of colour, and one of them: how similar the videos of each class are to the text of each."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from vidlib.viz import style


def cells(ax: Axes, values: pd.DataFrame, words: np.ndarray | None = None, letters: int = 26, **look) -> QuadMesh:
    """A cell per value, 0 to 100 unless ``look`` (seaborn's ``heatmap``) says otherwise, NaN grey; ``words`` in them.

    Names of rows, columns and both axes are those of ``values``. Those of few rows are wrapped at so many ``letters``.
    """
    lines = min(0.8, 24 / max(values.shape))  # between many cells thinner ones, which leave their colours
    look = {"vmin": 0, "vmax": 100, "cmap": "Blues", "linewidths": lines} | look
    write = {"annot": words, "fmt": "", "annot_kws": {"fontsize": style.SMALL}}
    sns.heatmap(values, ax=ax, cbar=False, xticklabels=False, yticklabels=False, **write, **look)
    for text, value in zip(ax.texts, values.to_numpy()[values.notna()], strict=False):
        text.set_color("white" if value > 60 else style.INK)  # seaborn's own white begins where it is hard to read
    style.dress(ax, ax.get_xlabel(), ax.get_ylabel(), grid=None)
    ax.set_facecolor("#EFEFEF")
    across, down = (np.arange(count) + 0.5 for count in values.shape[::-1])
    ax.set_xticks(across, values.columns, rotation=90, fontsize=style.SMALL)  # a second line would meet the next name
    rows = [style.wrap(str(name), letters) for name in values.index] if len(values) <= 12 else values.index
    ax.set_yticks(down, rows, rotation=0, fontsize=style.SMALL)
    ax.tick_params(length=0)
    return ax.collections[0]


@style.figure
def similarities(cosines: Mapping[str, np.ndarray], names: Sequence[str], *, title: str = "") -> Figure:
    """Side by side, one panel per model: ``[K K]`` mean cosines, rows the classes of videos, columns those of texts.

    Each row is centred at its mean, since a CLIP's cosines all lie close together: what counts is which stands out.
    """
    count, panels = len(names), len(cosines)
    side = 1.6 + 0.24 * count
    if style.narrow():
        size, shape = (style.sizes().width, (0.3 + 2.4 * panels)), (panels, 1)
    else:
        size, shape = style.page(2.6 + side * panels, side + 2.5, lines=True), (1, panels)
    figure = style.new_figure(size, "constrained")
    axes = figure.subplots(*shape, squeeze=False, sharey=True, sharex=True).ravel()
    centred = {model: values - values.mean(1, keepdims=True) for model, values in cosines.items()}
    limit = max(float(np.abs(values).max()) for values in centred.values())
    for ax, (model, values) in zip(axes, centred.items(), strict=True):
        columns = pd.Index(names, name="text of" if ax is axes[-1] or not style.narrow() else None)
        rows = pd.Index(names, name="videos of" if ax is axes[0] else None)
        look = {"cmap": "PuOr", "vmin": -limit, "vmax": limit, "square": True}
        image = cells(ax, pd.DataFrame(values, rows, columns), letters=99, **look)
        nearest = values.argmax(1)
        dots = {"markersize": 4, "color": style.INK, "markeredgecolor": "white", "markeredgewidth": 0.6}
        ax.plot(nearest + 0.5, np.arange(count) + 0.5, "o", **dots)
        style.title(ax, f"{model}: {(nearest == range(count)).sum()} of {count} classes nearest to their own text")
    style.bar(image, axes.tolist(), "cosine minus the row's mean (dot: nearest text)", fraction=0.03)
    style.remember(figure, table(cosines, names))
    if title:
        style.heading(figure, title)
    return figure


@style.figure
def grid(rows: pd.DataFrame, *, down: str, across: str, title: str = "") -> Figure:
    """Accuracy by two things at once, as heads and towers, or way and shot: a cell each, with its interval in it.

    ``rows``: columns named as ``down`` and ``across``, accuracy, half (of the 95% interval; per cent), where it is not
    over episodes alone, over, and where there is more than one panel, panel. A cell that has no row is grey; all panels
    share one scale.
    """
    style.need(rows, "a heat map", down, across, "accuracy", "half")
    named = rows if "panel" in rows else rows.assign(panel="")
    panels = list(dict.fromkeys(named["panel"]))
    lines, columns = (list(dict.fromkeys(named[name])) for name in (down, across))
    side, tall = 1.6 + 0.62 * len(columns), 1.3 + 0.5 * len(lines)
    tall += 0.07 * max(len(str(name)) for name in columns)
    shape = (len(panels), 1) if style.narrow() else (1, len(panels))
    size = (1.0 + side, tall * len(panels)) if style.narrow() else (1.0 + side * len(panels), tall)
    fig = style.new_figure(style.page(*size, lines=True), "constrained")
    axes = fig.subplots(*shape, squeeze=False, sharex=True, sharey=True).ravel()
    for ax, panel in zip(axes, panels, strict=True):
        part = named[named["panel"] == panel].set_index([down, across])
        values, halves = (part[name].unstack().reindex(index=lines, columns=columns) for name in ("accuracy", "half"))
        words = np.char.add(np.char.mod("%.1f", values), np.char.mod("\n±%.1f", halves))
        image = cells(ax, values, np.where(values.notna(), words, ""), letters=20)
        if max(len(str(name)) for name in columns) < 4:
            ax.tick_params(axis="x", rotation=0)
        if ax is not axes[0] and not style.narrow():
            ax.set_ylabel("")
        ax.set_title(style.wrap(panel, 10 + 8 * len(columns)), fontsize=style.NORMAL, loc="left")
    over = style.interval(rows if "over" in rows else rows.assign(over="episodes"))
    style.bar(image, axes.tolist(), f"accuracy (%)\n±: {over}", fraction=0.05)
    style.heading(fig, title)
    style.remember(fig, rows)
    return fig


def table(cosines: Mapping[str, np.ndarray], names: Sequence[str]) -> pd.DataFrame:
    """The drawn cosines: columns model, videos, text, cosine."""
    rows = [
        {"model": model, "videos": names[i], "text": names[j], "cosine": float(values[i, j])}
        for model, values in cosines.items()
        for i, j in np.ndindex(values.shape)
    ]
    return pd.DataFrame(rows)
