"""Trainable parameters against accuracy, as in MA-FSAR's Figure 1c: area is accuracy, MA-FSAR is the star.

What we measured and what papers printed rest on other data and other backbones: ``panels`` sets them side by side with
one look, and no function here puts them on one axis.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from vidlib.basics.errors import UserError
from vidlib.basics.words import closest
from vidlib.viz import bubbles_frame as frame
from vidlib.viz import style

STAR = ("MA-FSAR", "MA-CLIP")  # the second is what its first version was called
FILLED = {"o": np.pi / 4, "s": 1.0, "*": 0.2806}  # the part of its square that a marker fills: a star is a pentagram
COLUMNS = ("name", "trainable_M", "accuracy", "low", "high", "gmacs", "origin", "confidence")


@style.figure
def plot(
    rows: pd.DataFrame,
    ax: Axes | None = None,
    *,
    title: str = "",
    area: str = "accuracy",
    notes: bool = True,
    chosen: str = "",
) -> Axes:
    """Bubbles of one panel: x trainable parameters (millions, log), y accuracy (per cent), bar its interval.

    ``rows`` has the columns name, trainable_M, accuracy, origin ("ours" or "published"), confidence, and where known
    low and high (per cent), training (the budget, which the note gives) and ``area``: "accuracy" as in the paper, or
    what it costs, "gmacs" per clip or "total_M". All rows share one origin, else ``UserError``.
    A method that trains nothing is a horizontal line (a log axis has no zero); a row without a published count is named
    in the note under the axes, not guessed; one without ``area`` gets the smallest bubble, and the note says so.
    ``counted`` True marks a published accuracy whose parameters were counted on our own module, and
    ``count_confidence`` how far a published count can be trusted where the accuracy can be otherwise. The bubble named
    ``chosen`` is ringed.
    """
    rows = _complete(rows, area)
    origins = sorted(set(rows["origin"]))
    if len(origins) > 1 or not set(origins) <= set(style.LOOK):
        raise UserError(f"rows: one panel draws one origin out of {', '.join(style.LOOK)}, not {', '.join(origins)}")
    ax = (
        ax
        if ax is not None
        else frame.axes(style.new_figure(style.page(6.5, 6.0, lines=True)), [note(rows, area) if notes else ""])[0]
    )
    drawn = rows[rows["trainable_M"].gt(0) & rows["accuracy"].notna()]
    still = rows[rows["trainable_M"].eq(0) & rows["accuracy"].notna()]
    sizes = frame.sizes(drawn[area]) * [FILLED["o"] / FILLED[_marker(row)] for _, row in drawn.iterrows()]
    for (_, row), size in zip(drawn.iterrows(), sizes, strict=True):
        _bubble(ax, row, size)
    frame.limits(ax, drawn, still)
    for _, row in still.iterrows():
        _line(ax, row)
    style.dress(ax, "trainable parameters (M, log scale)", "accuracy (%)")
    style.title(ax, title)
    frame.key(ax, drawn, area)
    if notes:
        ax.text(
            0.0,
            0.0,
            style.wrap(note(rows, area), frame.letters(ax)),
            transform=frame.below(ax, frame.note_at()),
            fontsize=style.SMALL,
            va="top",
            color=style.INK,
        )
    style.remember(ax, rows)
    points, radii = list(zip(drawn["trainable_M"], drawn["accuracy"], strict=True)), np.sqrt(sizes / np.pi)
    bars = _bars(ax, drawn)
    words = [f"{_label(row)}: trains nothing" for _, row in still.iterrows()]
    edges = still[["low", "accuracy", "high"]].agg(["min", "max"], axis=1).to_numpy(float)
    lines = style.place_words(ax, edges, words, [*bars, *style.discs(ax, points, radii)])
    style.place_labels(ax, points, [_label(row) for _, row in drawn.iterrows()], radii, [*bars, *lines])
    return ring(ax, chosen) if chosen else ax


def ring(ax: Axes, name: str) -> Axes:
    """Ring the bubble of this name, or mark its line, on axes that ``plot`` drew, and no other."""
    bubbles = {}
    for artist in (*ax.collections, *ax.lines):
        kind, colon, own = (artist.get_gid() or "").partition(":")
        if colon and kind in ("bubble", "line"):
            bubbles[own] = artist
            usual = style.INK if kind == "line" else style.LOOK[artist.origin]["edgecolor"]
            artist.set(**{"color" if kind == "line" else "edgecolor": style.RED if own == name else usual})
            artist.set_linewidth(3.0 if own == name else 1.3)
    if name not in bubbles and name not in set(style.drawn(ax)["name"]):
        raise UserError(f"chosen: no bubble is called '{name}'{closest(name, list(bubbles))}")
    return ax


@style.figure
def panels(
    ours: pd.DataFrame,
    published: pd.DataFrame,
    *,
    ours_title: str,
    published_title: str,
    area: str = "accuracy",
) -> tuple[Figure, pd.DataFrame]:
    """Two panels, ours left (in a column: above) and published right; returns the figure and the table drawn."""
    size = style.page(6.5, 11.0, lines=True) if style.narrow() else style.page(13.0, 6.6, lines=True)
    fig = style.new_figure(size)
    axes = frame.axes(fig, [note(rows, area) for rows in (ours, published)])
    plot(ours, axes[0], title=ours_title, area=area)
    plot(published, axes[1], title=published_title, area=area)
    return fig, style.drawn(fig)


def note(rows: pd.DataFrame, area: str = "accuracy") -> str:
    """What the panel cannot draw or could be misread, in sentences."""
    rows, said = _complete(rows, area), []
    absent = rows[rows["trainable_M"].isna() & rows["accuracy"].notna()]
    if len(absent):
        names = ", ".join(f"{row['name']} {_figure(row)}" for _, row in absent.iterrows())
        known = "published" if "published" in set(absent["origin"]) else "known"
        said.append(f"Not drawn, trainable parameters not {known}: {names}.")
    drawn = rows[rows["trainable_M"].gt(0)]
    counted = drawn["name"][drawn["counted"]]
    if len(counted):
        said.append(f"Trainable parameters not published, counted on our module instead: {', '.join(counted)}.")
    if len(drawn) and drawn[area].isna().all():
        said.append(f"{frame.AREAS.get(area, area)} not published: all bubbles have one size.")
    elif drawn[area].isna().any():
        names = ", ".join(drawn["name"][drawn[area].isna()])
        said.append(f"{frame.AREAS.get(area, area)} unknown, smallest bubble: {names}.")
    if area == "accuracy" and len(drawn):
        said.append("Area: accuracy.")
    budgets = rows.dropna(subset="training").groupby("training", sort=False)["name"].agg(", ".join)
    if len(budgets):
        said.append(f"Training: {'; '.join(f'{names} {budget}' for budget, names in budgets.items())}.")
    if drawn["low"].isna().all() and (rows["origin"] == "published").any():
        said.append("No intervals published.")
    return " ".join(said)


def _complete(rows: pd.DataFrame, area: str) -> pd.DataFrame:
    style.need(rows, "a bubble plot", "name", "trainable_M", "accuracy", "origin")
    rows = rows.copy().reset_index(drop=True)
    for column in ("low", "high", area):
        rows[column] = pd.to_numeric(rows[column]) if column in rows else np.nan
    rows["confidence"] = rows["confidence"].astype(object) if "confidence" in rows else ""
    same = "count_confidence" if "count_confidence" in rows else "confidence"
    rows["count_confidence"] = rows[same].astype(object)
    rows["training"] = rows["training"].astype(object) if "training" in rows else None
    rows["counted"] = rows["counted"].fillna(False).astype(bool) if "counted" in rows else False
    return rows


def _figure(row: pd.Series) -> str:
    return f"{row['accuracy']:.1f} {style.SHORT_MARKS.get(row['confidence'], '')}".rstrip()


def _label(row: pd.Series) -> str:
    name = str(row["name"])
    if len(name) > 18:
        name = name.replace(" (", "\n(", 1)
    how = style.SHORT_MARKS.get(row["count_confidence"], "")
    other = f"[count: {how.strip('[]')}]" if how and row["count_confidence"] != row["confidence"] else ""
    marks = (style.SHORT_MARKS.get(row["confidence"], ""), "[count: our module]" if row["counted"] else other)
    return "\n".join(filter(None, (name, *marks)))


def _marker(row: pd.Series) -> str:
    return "*" if str(row["name"]).startswith(STAR) else style.LOOK[row["origin"]]["marker"]


def _bubble(ax: Axes, row: pd.Series, size: float) -> None:
    look = style.LOOK[row["origin"]]
    if np.isfinite(row["low"]) and np.isfinite(row["high"]):
        reach = [[row["accuracy"] - row["low"]], [row["high"] - row["accuracy"]]]
        ax.errorbar(
            row["trainable_M"], row["accuracy"], yerr=reach, color=style.INK, capsize=4, linewidth=1.4, zorder=4
        )
    drawn = ax.scatter(
        row["trainable_M"],
        row["accuracy"],
        s=size,
        marker=_marker(row),
        facecolor=look["facecolor"],
        edgecolor=look["edgecolor"],
        hatch=look["hatch"],
        linewidth=1.3,
        alpha=0.85,
        zorder=3,
        linestyle="--" if row["confidence"] in style.UNCHECKED else "-",
        gid=f"bubble:{row['name']}",
    )
    drawn.origin = row["origin"]  # for ``ring``


def _line(ax: Axes, row: pd.Series) -> None:
    """A method that trains nothing: a dotted line with its interval as a band."""
    ax.axhline(row["accuracy"], color=style.INK, linestyle=":", linewidth=1.3, zorder=2, gid=f"line:{row['name']}")
    if np.isfinite(row["low"]) and np.isfinite(row["high"]):
        ax.axhspan(row["low"], row["high"], color=style.GREY, alpha=0.25, linewidth=0, zorder=1)


def _bars(ax: Axes, drawn: pd.DataFrame) -> list[Bbox]:
    """The interval bars in pixels, so that no label is written on one."""
    known = drawn[drawn["low"].notna() & drawn["high"].notna()]
    ends = [
        ax.transData.transform([(x, low), (x, high)])
        for x, low, high in zip(known["trainable_M"], known["low"], known["high"], strict=True)
    ]
    air = 5 * ax.figure.dpi / 72
    return [Bbox.from_extents(low[0] - air, low[1] - air, high[0] + air, high[1] + air) for low, high in ends]
