"""Cells of a notebook, run here with names of a test's own: what a notebook asserts is tested where it stands."""

import contextlib
import io

import nbformat

from tests.prepared import ROOT


def under(notebook: str, heading: str) -> dict[str, str]:
    """id -> source of the code cells below a Markdown cell that begins with ``heading``, up to the next of its rank."""
    cells = nbformat.read(ROOT / "notebooks" / f"{notebook}.ipynb", as_version=4).cells
    found, inside, rank = {}, False, heading.split()[0] + " "
    for cell in cells:
        if cell.cell_type == "markdown" and cell.source.startswith(rank):
            inside = cell.source.startswith(heading)
        elif inside and cell.cell_type == "code":
            found[cell.id] = cell.source
    assert found, f"{notebook} has no code under {heading}"
    return found


def run(sources: list[str], **names: object) -> list[str]:
    """Execute ``sources`` one after another with ``names``; the lines they print."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for source in sources:
            exec(compile(source, "a notebook's cell", "exec"), names)
    return printed.getvalue().splitlines()


def claims(notebook: str, *ids: str, **names: object) -> list[str]:
    """Run the claims of a notebook, all of them or the cells ``ids``."""
    found = under(notebook, "## Claims")
    return run([found[name] for name in ids or found], **names)
