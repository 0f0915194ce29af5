"""What stands around the bubbles: axes with room for a key and a note, limits, sizes, and the key itself."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation, Transform

from vidlib.viz import style

KEY = 4.0  # under the axes, in heights of a small letter
_SMALLEST, _LARGEST = 60.0, 750.0  # areas in square points, on a screen
AREAS = {"gmacs": "GMACs per clip", "total_M": "total parameters (M)"}


def axes(fig: Figure, notes: Sequence[str]) -> np.ndarray:
    """Axes beside each other, in a column one over the other, with room under each for its key and its note."""
    wide, tall = fig.get_size_inches()
    letter = style.SMALL / 72
    rows = len(notes) if style.narrow() else 1
    left, right, over = 5.5 * letter, 1.2 * letter, 4.5 * letter
    length = _letters((wide - left - right) * rows / len(notes) - 3 * letter)
    under = (note_at() + 1.4 * max(style.wrap(text, length).count("\n") + bool(text) for text in notes)) * letter
    share = (tall - rows * (under + over)) / rows
    grid = {"left": left / wide, "right": 1 - right / wide, "top": 1 - over / tall, "bottom": under / tall}
    grid |= {"wspace": 0.16, "hspace": (under + over) / share}
    return fig.subplots(rows, len(notes) // rows, gridspec_kw=grid, squeeze=False).ravel()


def note_at() -> float:
    """How far under the axes the note begins, in small letters: under a key of two lines, on a screen one."""
    return KEY + 1.6 + (2 if style.sizes().width else 1) * (_diameter() + 0.5)


def _diameter() -> float:
    """Of the largest bubble, in heights of a small letter."""
    return 2 * (areas()[1] / np.pi) ** 0.5 / style.SMALL


def letters(ax: Axes) -> int:
    """How many small letters a line under ``ax`` has room for."""
    return _letters(ax.get_position().width * ax.figure.get_figwidth())


def _letters(inches: float) -> int:
    return int(inches * 72 / (0.56 * style.SMALL))


def below(ax: Axes, letters: float) -> Transform:
    """Across as the axes, downwards so many heights of a small letter under them."""
    return ax.transAxes + ScaledTranslation(0, -letters * style.SMALL / 72, ax.figure.dpi_scale_trans)


def areas() -> tuple[float, float]:
    """The smallest and the largest bubble, in square points; on paper they shrink as letters do."""
    shrink = (style.SMALL / 8.0) ** 2 if not style.narrow() else 0.3
    return _SMALLEST * shrink, _LARGEST * shrink


def sizes(values: pd.Series) -> np.ndarray:
    """Areas in square points, proportional to the values with the largest at its most; NaN gets the smallest."""
    values = values.to_numpy(float)
    smallest, largest = areas()
    top = np.nanmax(values) if np.isfinite(values).any() else np.nan
    return np.nan_to_num(np.maximum(largest * values / top, smallest), nan=2 * smallest)


def limits(ax: Axes, drawn: pd.DataFrame, still: pd.DataFrame) -> None:
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    if len(drawn):
        left, right = drawn["trainable_M"].min(), drawn["trainable_M"].max()
        widen = max((right / left) ** 0.22, 1.9)  # room for bubbles and labels at both ends
        ax.set_xlim(left / widen, right * widen)
    reach = pd.concat([drawn, still])[["low", "accuracy", "high"]].to_numpy(float)
    if np.isfinite(reach).any():
        low, high = np.nanmin(reach), np.nanmax(reach)
        room = max(0.15 * (high - low), 3.0)
        ax.set_ylim(max(low - room, 0.0), min(high + room, 108.0))


def key(ax: Axes, drawn: pd.DataFrame, area: str) -> None:
    """Under the axes: what shape, outline and area mean."""
    handles = []
    for origin in sorted(set(drawn["origin"])):
        look = style.LOOK[origin]
        handles.append(
            ax.scatter(
                [],
                [],
                s=areas()[1] / 9,
                marker=look["marker"],
                facecolor=look["facecolor"],
                hatch=look["hatch"],
                edgecolor=look["edgecolor"],
                label=_meaning(origin, set(drawn["confidence"])),
            )
        )
        if set(drawn["confidence"]) & set(style.UNCHECKED):
            handles.append(
                ax.scatter(
                    [],
                    [],
                    s=areas()[1] / 9,
                    marker=look["marker"],
                    facecolor=look["facecolor"],
                    linestyle="--",
                    hatch=look["hatch"],
                    edgecolor=look["edgecolor"],
                    label="recalled, unchecked",
                )
            )
    if drawn["low"].notna().any():
        handles.append(Line2D([], [], color=style.INK, marker="_", linewidth=1.4, label=style.interval(drawn)))
    known = drawn[area].dropna() if area != "accuracy" else drawn[area].iloc[:0]  # the axis tells it already
    if len(known):
        values = sorted({float(f"{v:.2g}") for v in (known.min(), known.max())})
        for value in values:
            unit = f" {AREAS.get(area, area)}" if value == values[-1] else ""
            look = style.LOOK[drawn["origin"].iloc[0]]
            size = float(np.clip(areas()[1] * value / known.max(), *areas()))
            handles.append(
                ax.scatter(
                    [],
                    [],
                    s=size,
                    marker=look["marker"],
                    facecolor="none",
                    edgecolor=style.GREY,
                    label=f"{value:g}{unit}",
                )
            )
    if handles:
        lengths = [len(str(handle.get_label())) + 7 for handle in handles]
        room = letters(ax)
        across = len(handles) if sum(lengths) <= room else 2 if 2 * max(lengths) <= room else 1
        ax.legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=(-0.02, 0.0),
            bbox_transform=below(ax, KEY),
            ncols=across,
            frameon=False,
            fontsize=style.SMALL,
            handlelength=max(2.2, _diameter() + 0.2),
            handleheight=_diameter() if len(known) else None,
            handletextpad=0.6,
            scatteryoffsets=[0.3],
            columnspacing=1.2,
            borderpad=0.4,
        )


def _meaning(origin: str, confidence: set[str]) -> str:
    if origin == "ours":
        return "measured here"
    names = {"verified": "verified", "secondary": "quoted by others"}
    how = " or ".join(text for key, text in names.items() if key in confidence)
    return f"published, {how}" if how else "published"
