"""Views: a figure function with values that a person turns, and what is drawn anew.

Where a person looks a view has controls; elsewhere (papermill, nbval, nbconvert, a script) it is the static figure of
its values and no widget is even made, so that no dead one is stored. Who looks is decided by ``front_end``.
"""

import contextlib
import gc
import html
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ipywidgets
import matplotlib
import pandas as pd
from IPython import get_ipython
from IPython.display import display
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from vidlib.basics.errors import UserError
from vidlib.basics.words import closest
from vidlib.viz import style
from vidlib.viz.widgets_ahead import Ahead

DPI = 72  # of the picture in a view: drawing time goes with the dots


def front_end() -> bool:
    """Whether someone can turn a control: the code runs in a kernel that JupyterLab started for a notebook.

    Jupyter's server names the notebook in ``JPY_SESSION_NAME`` and a kernel's shell has a ``kernel``; papermill, nbval
    and nbconvert start kernels without the name. ``VIDLIB_WIDGETS`` (1 or 0) decides where another front end, such as
    an editor's, sets no name.
    """
    said = os.environ.get("VIDLIB_WIDGETS", "")
    if said not in ("", "0", "1"):
        raise UserError(f"VIDLIB_WIDGETS is {said!r}; give 1 (show controls), 0 (static figures) or leave it unset")
    if said:
        return said == "1"
    return "JPY_SESSION_NAME" in os.environ and hasattr(get_ipython(), "kernel")


@dataclass(frozen=True)
class Control:
    """One value of a view: the first of ``options`` at the start, or ``value``; ``several`` may be chosen at once.

    Whole numbers in unbroken order are a slider, other options a list to choose from; no options, a line of text.
    """

    options: Sequence[Any] = ()
    value: Any = None
    label: str = ""
    several: bool = False

    @property
    def start(self) -> Any:
        if self.value is not None:
            return self.value
        first = self.options[0] if self.options else ""
        return (first,) if self.several else first

    def checked(self, name: str, value: Any) -> Any:
        """``value``, or a ``UserError`` that names the options."""
        if not self.options:
            return str(value)
        for one in value if self.several else (value,):
            if one not in self.options:
                shown = [str(option) for option in self.options]
                known = f"{shown[0]} to {shown[-1]}" if self._numbers() else ", ".join(shown)
                raise UserError(f"{name}: {one!r} is not one of {known}{closest(str(one), shown)}")
        return tuple(value) if self.several else value

    def _numbers(self) -> bool:
        given = list(self.options)
        return len(given) > 2 and all(type(v) is int for v in given) and given == [*range(given[0], given[-1] + 1)]

    def widget(self, name: str, value: Any) -> ipywidgets.Widget:
        """The control as a widget, not yet connected."""
        shared = {"description": self.label or name, "value": value, "style": {"description_width": "initial"}}
        if not self.options:
            return ipywidgets.Text(**shared, continuous_update=False)
        if self.several:
            rows = min(8, max(3, len(self.options)))
            return ipywidgets.SelectMultiple(**shared, options=self.options, rows=rows, layout={"width": "46em"})
        if self._numbers():
            return ipywidgets.IntSlider(**shared, min=self.options[0], max=self.options[-1], continuous_update=False)
        return ipywidgets.Dropdown(**shared, options=self.options)


class View:
    """A figure of some values.

    ``draw(**values)`` gives the figure; ``beside(**values)``, if given, a table under it; ``options(**values)`` new
    options of some controls, by name, where they depend on other values; ``ahead(**values)`` pieces of work that make
    the next turns quick, nearest first (``Ahead``). ``figure`` is what is drawn now.
    """

    def __init__(
        self,
        draw: Callable[..., Figure],
        controls: Mapping[str, Control],
        beside: Callable[..., pd.DataFrame] | None = None,
        options: Callable[..., Mapping[str, Sequence[Any]]] | None = None,
        ahead: Callable[..., Iterable[Callable[[], object]]] | None = None,
    ) -> None:
        self.controls, self._draw, self._beside, self._options = dict(controls), draw, beside, options
        self._coming, self.ahead = ahead, Ahead()
        self.values = {name: control.start for name, control in self.controls.items()}
        self._widgets: dict[str, ipywidgets.Widget] = {}
        self._page = self._picture = self._words = None
        self._busy = False
        self.figure: Figure | None = None
        self.set()

    def set(self, **values: Any) -> Figure:
        """Take these values and draw; a value that is not among a control's options is a ``UserError``."""
        for name in values:
            if name not in self.controls:
                raise UserError(f"'{name}' is no value of this view; it has {', '.join(self.controls)}")
        wanted = self.values | values
        controls = dict(self.controls)
        if self._options:
            for name, options in self._options(**wanted).items():
                controls[name] = replace(controls[name], options=tuple(options), value=None)
                if name not in values:
                    wanted[name] = _kept(controls[name], wanted[name])
        wanted = {name: control.checked(name, wanted[name]) for name, control in controls.items()}
        figure = self._draw(**wanted)
        if self.figure is not None and self.figure is not figure:
            plt.close(self.figure)
        plt.close(figure)  # pyplot would show it once more at the end of the cell
        self.controls, self.values, self.figure = controls, wanted, figure
        self._follow()
        return figure

    @property
    def drawn(self) -> pd.DataFrame:
        """The table that the figure now shows."""
        return style.drawn(self.figure)

    @property
    def table(self) -> pd.DataFrame | None:
        """The table under the figure, for the values now."""
        return self._beside(**self.values) if self._beside else None

    def show(self) -> None:
        """Display it: with controls where there is a front end, else the static figure and the table."""
        if front_end():
            display(self.widget())
            return
        display(style.Picture(self.figure))
        if self._beside:
            display(self.table)

    def widget(self) -> ipywidgets.Widget:
        """Controls, picture and table in one box; made once."""
        if self._page is None:
            self._widgets = {name: c.widget(name, self.values[name]) for name, c in self.controls.items()}
            for name, widget in self._widgets.items():
                widget.observe(lambda change, name=name: self.turn(name, change["new"]), "value")
            self._picture = ipywidgets.Image(format="png", layout={"max_width": "100%", "object_fit": "contain"})
            self._words = ipywidgets.HTML()
            controls = ipywidgets.HBox(list(self._widgets.values()), layout={"flex_flow": "row wrap"})
            self._page = ipywidgets.VBox([controls, self._picture, self._words])
            self._follow()
        return self._page

    def turn(self, name: str, value: Any) -> None:
        """A person turned a control; what cannot be drawn is said under the picture, which stays."""
        if self._busy:
            return
        try:
            with _undisturbed():
                self.set(**{name: value})
        except UserError as error:
            self._words.value = f"<b>{html.escape(str(error))}</b>"

    def _follow(self) -> None:
        """Bring the widgets, if there are any, in line with the values."""
        if self._page is None:
            return
        self._busy = True
        try:
            for name, widget in self._widgets.items():
                options = self.controls[name].options
                if hasattr(widget, "options") and tuple(widget.options) != tuple(options):
                    widget.options = options
                if widget.value != self.values[name]:
                    widget.value = self.values[name]
        finally:
            self._busy = False
        self._picture.layout.width = f"{round(self.figure.get_figwidth() * DPI)}px"  # else it is stretched to the cell
        self._picture.value = png(self.figure)
        table = self.table
        self._words.value = "" if table is None else table.to_html(border=0)
        if self._coming:
            self.ahead.start(self._coming(**self.values))


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """No collection of garbage meanwhile: with a model in memory one takes longer than a picture."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG."""
    into = io.BytesIO()
    quick = {"compress_level": 1}  # half the time for a third more bytes, which stay on this machine
    # without hinting in an eighth of the time, and letters keep their widths
    with matplotlib.rc_context(style.PLAIN | {"text.hinting": "none"}):
        figure.savefig(into, format="png", dpi=DPI, facecolor="white", pil_kwargs=quick)
    return into.getvalue()


def _kept(control: Control, value: Any) -> Any:
    """``value`` as far as it is still among the options."""
    if control.several:
        return tuple(one for one in value if one in control.options) or control.start
    return value if value in control.options else control.start
