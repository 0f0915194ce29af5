"""What people name is drawn as it is written: no class, file or method is read as mathematics, TeX or HTML."""

import io
import re

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.text import Text

from tests.viz import cases
from vidlib.cli import report_table
from vidlib.viz import confusion, filmstrip, heatmap, style

ODD = ("$_$", "$$", "$x_{", "50%", "a_b", "\\frac{", "^{&#~", "\\$5 and $6", "<b>&amp;", "_", "$\\undefined$", "{}")


def written(figure) -> list[str]:
    """Draw it in all formats; what stands in it."""
    for ending in style.FORMATS:
        figure.savefig(io.BytesIO(), format=ending)
    figure.draw_without_rendering()
    said = [text.get_text() for text in figure.findobj(Text) if text.get_text()]
    plt.close(figure)
    return said


@pytest.mark.parametrize("name", ODD)
def test_odd_names_are_drawn_as_they_are(name, tmp_path):
    names = (name, "plain")
    title = f"class {name}"
    for own in (False, True):
        ax = plt.figure().subplots() if own else None
        if own:
            ax.set_title("$x$")
            ax.figure.draw_without_rendering()
        said = written(confusion.plot(np.eye(2), names, ax, title=title).figure)
        assert name in said and title in said
    assert title in written(filmstrip.clip(cases.clip(), title=title).figure)
    clips, labels = np.stack([cases.clip(), cases.clip(1)]), [0, 1]
    assert name in written(filmstrip.episode(clips, labels, clips, labels, names, title=title))
    assert name in written(heatmap.similarities({name: np.eye(2)}, names, title=title))
    found = style.save(confusion.plot(np.eye(2), names).figure, tmp_path, "odd").parent
    assert pd.read_csv(found / "odd.csv", keep_default_na=False)["true"][0] == name
    plt.close("all")


@pytest.mark.parametrize("name", cases.CASES)
def test_no_text_of_a_figure_is_mathematics(name):
    with mpl.rc_context({"text.parse_math": True}):
        figure = cases.draw(name, "")
        figure.draw_without_rendering()
        numbers = r"[−\-\d.,%e+ ×]*"
        read = [t.get_text() for t in figure.findobj(Text) if t.get_parse_math() or t.get_usetex()]
        assert [text for text in read if not re.fullmatch(numbers, text)] == []
        assert "mathdefault" not in str([t.get_text() for t in figure.findobj(Text)])
    plt.close(figure)


def test_a_style_of_a_person_that_sets_tex_is_not_asked():
    with mpl.rc_context({"text.usetex": True}):
        assert "50%" in written(confusion.plot(np.eye(2), ("50%", "a_b")).figure)


def test_latex_is_escaped():
    table = pd.DataFrame({"dataset": ODD, "± 95%": ["1.0"] * len(ODD), "command": [""] * len(ODD)})
    rows = report_table.latex(table).split("\\midrule")[1].split("\\bottomrule")[0].split("\\\\\n")
    assert len(rows) == len(ODD) + 1
    for row in rows[:-1]:
        bare = re.sub(r"\\textbackslash\s|\\text\w+ ?|\\\^|\\[$%&#_{}]", "", row)
        bare = re.sub(r"\\textbackslash|\\textasciitilde|\\textasciicircum", "", bare)
        assert not re.search(r"[$%#_^~\\]", bare), row
