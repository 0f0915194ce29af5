"""Tables for a paper: a DataFrame as a LaTeX table."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from vidlib.basics.paths import atomic_write

SIGNS = {"±": r"$\pm$", "\N{MINUS SIGN}": "$-$", "×": r"$\times$", "–": "--", "…": r"\ldots{}", "≥": r"$\geq$"}
MARKS = {**{mark: f"\\{mark}" for mark in "&%$#_{}"}, "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
MARKS |= {"\\": r"\textbackslash{}", "<": r"\textless{}", ">": r"\textgreater{}", **SIGNS}


def escape(text: object) -> str:
    """Plain text as LaTeX writes it: its marks escaped, ± and other signs in their own notation."""
    return "".join(MARKS.get(letter, letter) for letter in str(text))


def table(
    rows: pd.DataFrame,
    to: str | Path | None = None,
    *,
    caption: str = "",
    label: str = "",
    digits: int | Mapping[str, int] = 1,
    index: bool = True,
) -> str:
    """``rows`` as LaTeX with booktabs' rules (``\\usepackage{booktabs}``); written to ``to`` where given.

    Numbers stand right with ``digits`` after the point (one number, or one per column), text left; what is missing is
    blank. Caption and label are optional; without both it is a bare tabular.
    """
    named = rows.reset_index() if index and rows.index.name else rows
    aligned = "".join("r" if pd.api.types.is_numeric_dtype(named[column]) else "l" for column in named)
    shown = pd.DataFrame({column: named[column].map(_writer(column, named[column], digits)) for column in named})
    lines = [f"\\begin{{tabular}}{{{aligned}}}", r"\toprule", _line(map(escape, shown.columns)), r"\midrule"]
    lines += [*(_line(row) for row in shown.itertuples(index=False)), r"\bottomrule", r"\end{tabular}"]
    if caption or label:
        above = [f"\\caption{{{escape(caption)}}}"] if caption else []
        above += [f"\\label{{{label}}}"] if label else []
        lines = [r"\begin{table}", r"\centering", *above, *lines, r"\end{table}"]
    text = "\n".join(lines) + "\n"
    if to is not None:
        with atomic_write(to) as part:
            part.write_text(text, encoding="utf-8")
    return text


def _line(cells: object) -> str:
    return " & ".join(cells) + r" \\"


def _writer(name: str, column: pd.Series, digits: int | Mapping[str, int]) -> Callable[[object], str]:
    """How a cell of this column is written."""
    places = digits.get(name, 1) if isinstance(digits, Mapping) else digits
    real = pd.api.types.is_float_dtype(column)

    def write(value: object) -> str:
        if value is None or (not isinstance(value, (list, dict)) and pd.isna(value)):
            return ""
        return f"{value:.{places}f}".replace("-", "$-$") if real else escape(value)

    return write
