"""How similar the videos of each class are to the text of each."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from vidlib.viz import style


@style.figure
def similarities(
    found: dict[str, np.ndarray], names: Sequence[str], *, title: str = "", figure: Figure | None = None
) -> Figure:
    """Side by side, one panel per model: ``[K K]`` mean cosines, rows the classes of videos, columns those of texts.

    Each row is centred at its mean, since a CLIP's cosines all lie close together: what counts is which stands out.
    """
    count = len(names)
    side = 1.6 + 0.24 * count
    if style.narrow():
        size, shape = (style.sizes().width, (0.3 + 2.4 * len(found))), (len(found), 1)
    else:
        size, shape = style.page(2.6 + side * len(found), side + 2.2, lines=True), (1, len(found))
    figure = style.new_figure(size, figure, "constrained")
    axes = figure.subplots(*shape, squeeze=False, sharey=True, sharex=True).reshape(1, -1)
    shown = {name: values - values.mean(1, keepdims=True) for name, values in found.items()}
    limit = max(float(np.abs(values).max()) for values in shown.values())
    for ax, (name, values) in zip(axes[0], shown.items(), strict=True):
        image = ax.imshow(values, cmap="PuOr", vmin=-limit, vmax=limit, aspect="equal")
        ax.plot(values.argmax(1), range(count), "o", markersize=3, color=style.INK)
        style.dress(ax, "text of" if ax is axes[0, -1] or not style.narrow() else "", "", grid=None)
        ax.set_xticks(range(count), names, rotation=90, fontsize=style.SMALL - 1)
        ax.set_yticks(range(count), names, fontsize=style.SMALL - 1)
        right = int((values.argmax(1) == np.arange(count)).sum())
        style.title(ax, f"{name}: {right} of {count} classes nearest to their own text")
    axes[0, 0].set_ylabel("videos of")
    bar = figure.colorbar(image, ax=axes[0].tolist(), fraction=0.03, pad=0.02)
    style.dress_bar(bar, "cosine minus the row's mean (dot: nearest text)")
    style.remember(figure, table(found, names))
    if title:
        style.heading(figure, title)
    return figure


def table(found: dict[str, np.ndarray], names: Sequence[str]) -> pd.DataFrame:
    """The drawn cosines: columns model, videos, text, cosine."""
    rows = [
        {"model": model, "videos": names[i], "text": names[j], "cosine": float(values[i, j])}
        for model, values in found.items()
        for i, j in np.ndindex(values.shape)
    ]
    return pd.DataFrame(rows)
