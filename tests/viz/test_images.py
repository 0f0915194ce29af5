"""Every figure as a picture: what is stored, what is cut off, what is drawn as a table.

A stored image is small (50 dots per inch) and grey, so the comparison also sees what a grey print shows. Both pictures
are averaged over 4 by 4 dots before their root mean square difference is taken: letters of the DejaVu that matplotlib
ships move by a fraction of a dot between versions of FreeType, which then counts little, while a bar, bubble or line at
another place counts fully. The tolerance of 4 of 255 grey levels lies far above what a repetition gives (0), and below
what one changed number gives (``test_another_number_is_another_picture``). ``VIDLIB_STORE_IMAGES=1`` writes them anew.
"""

import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.viz import cases
from tests.viz.conftest import words_over_words
from vidlib.basics.errors import UserError
from vidlib.viz import bubbles, paper, style

IMAGES = Path(__file__).parent / "images"
DPI, BLOCK, TOLERANCE = 50, 4, 4.0
WIDTHS = {"": "screen", "column": "column", "page": "page"}


def picture(figure) -> Image.Image:
    """A figure's page in grey."""
    into = io.BytesIO()
    figure.savefig(into, format="png", dpi=DPI, facecolor="white")
    return Image.open(into).convert("L")


def difference(one: Image.Image, other: Image.Image) -> float:
    """Root mean square difference in grey levels, of averages over blocks."""
    assert one.size == other.size, (one.size, other.size)
    blocks = []
    for image in (one, other):
        values = np.asarray(image, float)
        height, width = (side - side % BLOCK for side in values.shape)
        parts = values[:height, :width].reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK)
        blocks.append(parts.mean((1, 3)))
    return float(np.sqrt(((blocks[0] - blocks[1]) ** 2).mean()))


def cut_off(figure) -> float:
    """The most inches by which text is cut off at a side; 0 where none is."""
    figure.draw_without_rendering()
    box, page = figure.get_tightbbox(), figure.get_size_inches()
    return max(0.0, -box.x0, box.x1 - page[0], -box.y0, box.y1 - page[1])


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", cases.CASES)
def test_figure_looks_as_stored_and_nothing_is_cut_off(name, width):
    figure = cases.draw(name, width)
    drawn, stored = picture(figure), IMAGES / f"{name}_{WIDTHS[width]}.png"
    if os.environ.get("VIDLIB_STORE_IMAGES"):
        IMAGES.mkdir(exist_ok=True)
        drawn.quantize(32).save(stored, optimize=True)
    assert difference(drawn, Image.open(stored).convert("L")) < TOLERANCE
    if width:
        assert figure.get_figwidth() == pytest.approx(paper.WIDTHS[width].width)
        assert cut_off(figure) < 0.005, "text beyond the page's edge, in inches"
    assert len(style.drawn(figure))
    assert not words_over_words(figure)


def test_another_number_is_another_picture(monkeypatch):
    before = picture(cases.draw("bubbles", "column"))
    ours = cases._ours()
    ours.loc[0, ["accuracy", "low", "high"]] += 8
    monkeypatch.setattr(cases, "_ours", lambda: ours)
    assert difference(before, picture(cases.draw("bubbles", "column"))) > TOLERANCE


def test_every_public_figure_function_has_a_case_and_takes_a_width():
    import importlib
    import inspect
    import pkgutil

    import vidlib.viz

    marked = inspect.signature(bubbles.plot).parameters["width"]
    functions = {
        f"{module.name}.{name}"
        for module in pkgutil.iter_modules(vidlib.viz.__path__)
        for name, thing in inspect.getmembers(importlib.import_module(f"vidlib.viz.{module.name}"), inspect.isfunction)
        if thing.__module__ == f"vidlib.viz.{module.name}"
        and inspect.signature(thing).parameters.get("width") == marked
    }
    assert len(functions) == len(cases.CASES) - len(cases.AGAIN), functions
    with pytest.raises(UserError, match="width: 'colum' is not one of column, page .did you mean 'column'"):
        bubbles.plot(cases._ours(), width="colum")


def test_paper_keeps_its_width_and_letters_and_ends_with_the_context():
    with style.paper("column"):
        assert style.SMALL == 6.0 and style.narrow()
        ax = style.new_axes(9.0, 5.0)
    assert ax.figure.get_figwidth() == pytest.approx(3.3) and style.SMALL == 8.0 and not style.narrow()


def test_saving_writes_vectors_and_the_remembered_table(tmp_path):
    figure = cases.draw("confusion", "column")
    style.save(figure, tmp_path, "confusion")
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".csv", ".pdf", ".png", ".svg"]
    assert Image.open(tmp_path / "confusion.png").width == pytest.approx(3.3 * style.DPI, abs=1)
    assert (tmp_path / "confusion.pdf").read_bytes().startswith(b"%PDF")
    assert len(pd.read_csv(tmp_path / "confusion.csv")) == 16
    with pytest.raises(UserError, match="no figure function"):
        style.save(style.new_axes(2, 2).figure, tmp_path, "empty")
