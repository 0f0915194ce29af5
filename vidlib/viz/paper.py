"""A figure on paper: as wide as a column or a page, letters of a size that is read there; what was drawn, as a table.

Every public figure function is marked with ``figure``, which gives it ``width`` ("column" or "page"; empty: the size
that suits a screen, or what a surrounding ``paper`` says). What people name, classes, files and methods, is drawn as
it is written there: no text of our figures is read as mathematics or TeX.
"""

import contextlib
import functools
import inspect
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import matplotlib as mpl
import numpy as np
import pandas as pd
from IPython import get_ipython
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from vidlib.basics.errors import UserError
from vidlib.basics.words import closest
from vidlib.viz import letters

Drawn = TypeVar("Drawn")


@dataclass(frozen=True)
class Sizes:
    """Letters in typographic points; the width of a figure in inches, 0 for what suits it on a screen."""

    small: float
    normal: float
    title: float
    width: float = 0.0


SCREEN = Sizes(8.0, 9.5, 11.0)
WIDTHS = {"column": Sizes(6.0, 7.0, 7.5, 3.3), "page": Sizes(6.5, 7.5, 8.5, 6.9)}
LOOK = {"font.family": "DejaVu Sans", "lines.markersize": 4.0, "hatch.linewidth": 0.6, "axes.linewidth": 0.6}
_BACKEND = ("backend", "backend_fallback", "interactive", "toolbar", "webagg", "tk.", "timezone", "savefig.directory")
PLAIN = {name: value for name, value in mpl.rcParamsDefault.items() if not name.startswith(_BACKEND)}
PLAIN |= {"text.parse_math": False, "text.usetex": False}  # else "$_$" or "50%" in a class's name ends the drawing
LIVE = ("ipympl", "widget", "nbagg", "notebook")  # backends that show a figure below its cell, beside inline
_SIZES: ContextVar[Sizes] = ContextVar("sizes", default=SCREEN)
_TABLES: "weakref.WeakKeyDictionary[Figure, list[pd.DataFrame]]" = weakref.WeakKeyDictionary()
_ON_PAPER: "weakref.WeakSet[Figure]" = weakref.WeakSet()


def sizes() -> Sizes:
    """What holds where a figure is drawn now."""
    return _SIZES.get()


def narrow() -> bool:
    """Whether there is only a column's width."""
    return 0 < sizes().width < 5


@contextlib.contextmanager
def paper(width: str = "page") -> Iterator[Sizes]:
    """What is drawn inside the ``with`` is for paper: "column" is 3.3 inches wide, "page" 6.9, letters 6 to 8.5 points.

    An empty ``width`` keeps the size; another one is a ``UserError``. Neither way does matplotlibrc count.
    """
    if width and width not in WIDTHS:
        raise UserError(f"width: {width!r} is not one of {', '.join(WIDTHS)}{closest(str(width), list(WIDTHS))}")
    token = _SIZES.set(WIDTHS[width] if width else sizes())
    try:
        with mpl.rc_context(PLAIN | (LOOK if sizes().width else {})):
            yield sizes()
    finally:
        _SIZES.reset(token)


def figure(draw: Callable[..., Drawn]) -> Callable[..., Drawn]:
    """Gives a figure function the keyword ``width``, see ``paper``."""

    @functools.wraps(draw)
    def inner(*args: Any, width: str = "", **kwargs: Any) -> Drawn:
        with paper(width):
            given = [value for value in (*args, *kwargs.values()) if isinstance(value, (Axes, Figure))]
            for text in (text for where in given for text in where.findobj(Text)):  # made elsewhere
                text.set_parse_math(False)
                text.set_usetex(False)
            made = draw(*args, **kwargs)
            root = _root(made[0] if isinstance(made, tuple) else made)
            for ax in root.axes:  # else a shared axis makes the labels of its ticks when it is drawn
                ax.xaxis.get_major_ticks(), ax.yaxis.get_major_ticks()
        letters.complete(root)
        return made

    signature = inspect.signature(draw)
    keyword = inspect.Parameter("width", inspect.Parameter.KEYWORD_ONLY, default="", annotation=str)
    inner.__signature__ = signature.replace(parameters=[*signature.parameters.values(), keyword])
    return inner


def page(width: float, height: float, *, lines: bool = False) -> tuple[float, float]:
    """Inches of a figure that suits a screen as ``width`` by ``height``: on paper it has the paper's width.

    The height shrinks with the width, but never so far that its letters no longer fit; a figure made of ``lines`` of
    text shrinks as they do.
    """
    if not sizes().width:
        return width, height
    letters = sizes().small / SCREEN.small
    return sizes().width, height * min(max(sizes().width / width, letters * (1.0 if lines else 0.62)), 1.0)


def new_figure(size: tuple[float, float], layout: str | None = None) -> Figure:
    """A new figure of pyplot's, of so many inches (``page`` gives them)."""
    made = plt.figure(figsize=size, layout=layout)
    if sizes().width:
        _ON_PAPER.add(made)
    return made


def is_paper(figure: Figure) -> bool:
    """Whether a figure was made for paper and has its width already."""
    return figure in _ON_PAPER


def remember(what: Axes | Figure, table: pd.DataFrame) -> None:
    """Keep the table that was drawn with its figure, for ``drawn`` and ``save``."""
    _TABLES.setdefault(_root(what), []).append(table)


def drawn(what: Axes | Figure | np.ndarray) -> pd.DataFrame:
    """What a figure function drew on this figure or these axes, as a table; ``UserError`` where none did."""
    tables = _TABLES.get(_root(what))
    if not tables:
        raise UserError("drawn: no figure function of vidlib.viz drew on this figure, so it has no table")
    return tables[0] if len(tables) == 1 else pd.concat(tables, ignore_index=True)


def _root(what: Any) -> Figure:
    first = what.flat[0] if isinstance(what, np.ndarray) else what
    return first.get_figure(root=True) if isinstance(first, Axes) else first


def _plain_notebook() -> None:
    """In a notebook, what environment, matplotlibrc and start-up files set before does not change its figures and
    tables; what a cell sets afterwards does."""
    shell = get_ipython()
    if hasattr(shell, "kernel"):
        if mpl.get_backend().lower() not in LIVE:
            shell.run_line_magic("matplotlib", "inline")
        mpl.rcParams.update(PLAIN)
        pd.reset_option("^display")


_plain_notebook()
