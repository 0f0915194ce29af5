"""The rendered notebooks: equations, links, anchors, search, how they were executed, names that are wrong."""

import json

import nbformat
import pytest
from math_core import LatexError

from docs import book, pages
from tests import site
from tests.browser import finding

WIDGET = {"application/vnd.jupyter.widget-view+json": {"model_id": "m"}, "text/plain": "a slider"}


def _notebook(path, *sources, output=None):
    cells = [nbformat.v4.new_markdown_cell(source, id=f"m{i}") for i, source in enumerate(sources)]
    if output:
        shown = nbformat.v4.new_output("display_data", data=output)
        cells.append(nbformat.v4.new_code_cell("draw()", id="drawn", outputs=[shown]))
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def _book(tmp_path, *sources, output=None):
    notebooks = [_notebook(tmp_path / "index.ipynb", "# Start\n\nhere"), tmp_path / "one.ipynb"]
    _notebook(notebooks[1], *sources, output=output)
    pages.write(notebooks, tmp_path, "smoke")
    return (tmp_path / "one.html").read_text()


def test_a_page_says_how_it_was_executed_and_stays_in_the_site(tmp_path, capsys):
    (tmp_path / "executed").mkdir()
    _notebook(tmp_path / "executed" / "ma_fsar.ipynb", "# Built before")
    assert book.main(["index", "--out", str(tmp_path)]) == 0
    page = (tmp_path / "index.html").read_text()
    assert "numbers that were computed mean nothing" in page
    assert 'href="ma_fsar.html"' in page and "few_shot.ipynb</td>" in page, "what has no page is no link"
    assert site.faults(tmp_path) == []


def test_links_lead_to_pages_and_files_have_pages_of_their_own(tmp_path):
    text = "[a](index.ipynb#Start) [b](../vidlib/training/loop.py) [c](gone.ipynb) [d](https://example.org) [e](#Two)"
    page = _book(tmp_path, "# One", f"## Two\n\n{text}", "## Two\n\nagain")
    assert 'href="index.html#Start"' in page and ">c<" not in page and 'href="https://example.org"' in page
    assert '<span class="k">def</span>' in (tmp_path / "vidlib.training.loop.py.html").read_text()
    assert site.faults(tmp_path) == []


def test_equations_are_mathml_and_a_wrong_one_is_told(tmp_path):
    aligned = r"$$\begin{aligned} a_i &= \tilde b \\ c &= \binom82 \end{aligned}$$"
    page = _book(tmp_path, f"# One\n\nWith $x_{{GT}} < 1$,\n{aligned}")
    assert page.count("<math") == 2 and page.count("<mtr") == 2 and "$" not in page
    with pytest.raises(LatexError):
        _book(tmp_path, r"$\frac{1$")


def test_anchors_stay_when_a_cell_is_put_before_and_search_leads_to_them(tmp_path):
    page = _book(tmp_path, "# One", "## Two\n\nfew words", output=WIDGET)
    assert 'href="#cell-id=drawn"' in page and 'href="#Two"' in page and "widget-view" not in page
    words = json.loads((tmp_path / "words.js").read_text().removeprefix("const WORDS = ").rstrip(";\n"))
    assert words[-1] == ["one", "One", "cell-id=drawn", "Two", "a slider"]
    assert words[-2] == ["one", "One", "cell-id=m1", "Two", "Two few words"]


def test_faults_of_a_site_are_found(tmp_path):
    _book(tmp_path, "# One\n\n[a](#nowhere)", output={"text/html": '<img src="https://example.org/a.png">'})
    leads, loads = site.faults(tmp_path)
    assert leads == "one.html: #nowhere leads nowhere" and loads == "one.html loads https://example.org/a.png"


@pytest.mark.skipif(bool(finding.lacking()), reason=finding.lacking())
def test_what_a_page_loads_from_elsewhere_is_seen_in_the_browser(tmp_path):
    _book(tmp_path, "# One\n\nfew words", output={"text/html": '<img src="https://example.org/a.png">'})
    assert "https://example.org/a.png" in site.looked_at(tmp_path, ("few", "words"), "one.html")


def test_a_wrong_name_is_one_sentence(capsys):
    assert book.main(["ma_fsa"]) == 2
    assert capsys.readouterr().err == "make book: there is no notebook 'ma_fsa' (did you mean 'ma_fsar'?)\n"
