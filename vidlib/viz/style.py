"""One style for every figure: colours that the colour-blind tell apart, that differ in grey, and shapes beside them.

The two origins of a number never share a look: what we ran is a blue disc with an interval, what a paper printed is an
orange, hatched square. A dashed outline is a figure that nobody checked.
"""

import io
import itertools
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure

from vidlib.basics.errors import UserError
from vidlib.basics.paths import atomic_write
from vidlib.results.budget import budget
from vidlib.viz import letters
from vidlib.viz.paper import PLAIN, drawn, figure, is_paper, narrow, new_figure, page, paper, remember, sizes
from vidlib.viz.point_labels import discs, place_labels, place_words

if TYPE_CHECKING:
    from vidlib.results.runs import Run

# From Okabe and Ito's palette, ordered from dark to light so that grey keeps the order.
INK, BLUE, RED, GREEN, ORANGE, SKY, GREY = "#222222", "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#8A8A8A"
CYCLE = (BLUE, ORANGE, GREEN, RED, SKY, GREY)
LOOK: Mapping[str, dict] = {
    "ours": {"marker": "o", "facecolor": BLUE, "edgecolor": INK, "hatch": None},
    "published": {"marker": "s", "facecolor": "#F6D58E", "edgecolor": "#7A5200", "hatch": "/////"},
}
UNCHECKED = ("recalled", "seed")
SHORT_MARKS = {"recalled": "[recalled, unchecked]", "seed": "[unchecked]"}
DPI = 150
SHOWN_DPI = 100  # of a figure below its cell
FORMATS = ("png", "svg", "pdf")
BESIDE = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}  # where a key stands that has room

__all__ = [
    "discs",
    "drawn",
    "figure",
    "narrow",
    "page",
    "paper",
    "place_labels",
    "place_words",
    "remember",
    "save",
    "sizes",
]


def __getattr__(name: str) -> float:
    """``SMALL``, ``NORMAL`` and ``TITLE``: sizes of letters in points, on a screen or as ``paper`` says."""
    if name in ("SMALL", "NORMAL", "TITLE"):
        return getattr(sizes(), name.lower())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def new_axes(width: float, height: float, *, lines: bool = False) -> Axes:
    """A new figure with one axes, ``width`` by ``height`` inches on a screen; on paper as ``page`` says."""
    return new_figure(page(width, height, lines=lines), layout="constrained").subplots()


def dress(ax: Axes, xlabel: str = "", ylabel: str = "", grid: str | None = "both") -> Axes:
    """Labels, a light grid behind the data, no box."""
    ax.set_xlabel(xlabel, fontsize=sizes().normal)
    ax.set_ylabel(ylabel, fontsize=sizes().normal)
    ax.tick_params(labelsize=sizes().small + 0.5, color=GREY)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(GREY)
    if grid:
        ax.grid(True, axis=grid, color="#E4E4E4", linewidth=0.7)
        ax.set_axisbelow(True)
    return ax


def bar(image: ScalarMappable, ax: Axes | list[Axes], label: str, fraction: float = 0.035, pad: float = 0.02) -> None:
    """A bar beside ``ax`` that says what the colours of ``image`` mean."""
    (ax[0] if isinstance(ax, list) else ax).figure.colorbar(image, ax=ax, fraction=fraction, pad=pad)
    dress_bar(image.colorbar, label)


def dress_bar(bar: Colorbar, label: str) -> None:
    """What the colours of a bar mean, and no box around it."""
    bar.set_label(label, fontsize=sizes().small)
    bar.ax.tick_params(labelsize=sizes().small)
    bar.outline.set_visible(False)


def interval(rows: pd.DataFrame) -> str:
    """What the bars of ``rows`` are: the 95% interval, and over what where the column ``over`` says so."""
    kinds = [kind for kind in dict.fromkeys(rows["over"]) if isinstance(kind, str)] if "over" in rows else []
    return " ".join(["95% interval", *(["over", " or ".join(kinds)] if kinds else [])])


def title(ax: Axes, text: str, pad: float = 7.0) -> None:
    """A title over ``ax``, flush left and wrapped to its width; last, when the layout has settled."""
    if text:
        ax.figure.draw_without_rendering()
        inches = ax.get_position().width * ax.figure.get_figwidth()
        ax.set_title(wrap(text, title_width(inches)), fontsize=sizes().title, loc="left", color=INK, pad=pad)


def heading(fig: Figure, text: str, room: float = 0.3) -> None:
    """A title over a whole figure, flush left, ``room`` inches narrower than it."""
    words = wrap(text, title_width(fig.get_figwidth() - room)) or " "
    fig.suptitle(words, fontsize=sizes().title, x=0.01, ha="left", color=INK)


def title_width(inches: float) -> int:
    """Characters of a title that surely fit into so many inches."""
    return int(inches * 72 / (sizes().title * 0.56))


def wrap(text: str, width: int) -> str:
    """``text`` broken into lines of at most ``width`` characters; line breaks already there stay."""
    return "\n".join(
        itertools.chain.from_iterable(textwrap.wrap(line, max(width, 8)) or [""] for line in text.split("\n"))
    )


def save(
    fig: Figure, folder: str | Path, name: str, data: pd.DataFrame | None = None, formats: Sequence[str] = FORMATS
) -> Path:
    """Write ``name``.png, .svg and .pdf (or other ``formats``) and ``name``.csv, the table that was drawn.

    ``data`` is that table where the figure does not remember it (``drawn``). Each file is written to a temporary name
    and renamed. Nothing is cut off: a page grows to hold all text; a figure for paper keeps its width. Returns the
    first picture.
    """
    letters.complete(fig)
    folder, data = Path(folder), drawn(fig) if data is None else data
    how = {"dpi": DPI, "facecolor": "white", "bbox_inches": None if is_paper(fig) else "tight"}
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    for ending in formats:
        with atomic_write(folder / f"{name}.{ending}") as temporary:
            with plt.rc_context(PLAIN | {"svg.hashsalt": name, "pdf.fonttype": 42}):
                fig.savefig(temporary, format=ending, metadata=undated.get(ending), **how)
    with atomic_write(folder / f"{name}.csv") as temporary:
        data.to_csv(temporary, index=False)
    return folder / f"{name}.{formats[0]}"


class Picture:
    """A figure as every notebook shows it: a PNG of our own, whatever backend, output format or matplotlibrc is set."""

    def __init__(self, figure: Figure) -> None:
        self.figure = figure

    def _repr_png_(self) -> bytes:
        into = io.BytesIO()
        with plt.rc_context(PLAIN):
            self.figure.savefig(into, format="png", dpi=SHOWN_DPI, facecolor="white", bbox_inches="tight")
        return into.getvalue()

    def __repr__(self) -> str:
        return repr(self.figure)


def need(rows: pd.DataFrame, what: str, *columns: str, given: str = "rows") -> None:
    """A ``UserError`` where a table has not the ``columns`` of the figure ``what``, or no row."""
    if absent := [column for column in columns if column not in rows]:
        raise UserError(f"{given}: {what} needs the columns {', '.join(columns)}; {', '.join(absent)} not there")
    if not len(rows):
        raise UserError(f"{given}: {what} needs at least one row")


def show(figure: Figure, run: "Run | None" = None, name: str = "", data: pd.DataFrame | None = None) -> None:
    """Display a figure, whatever the backend; with ``run``, write it and the table that it drew to the run's folder.

    The table has a column ``training``, the run's own budget where the figure does not know those of its rows.
    """
    if run is not None:
        data = drawn(figure) if data is None else data
        data = data if "training" in data else data.assign(training=budget(run.params, run.result))
        save(figure, run.path("figures"), name, data)
    letters.complete(figure)
    display(Picture(figure))
    plt.close(figure)


def smooth(values: Sequence[float], window: int) -> np.ndarray:
    """Centred running mean over ``window`` values, over what there is at both ends; NaN values are left out."""
    return pd.Series(np.asarray(values, float)).rolling(max(1, window), center=True, min_periods=1).mean().to_numpy()
