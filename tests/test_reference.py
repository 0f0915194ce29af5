"""The site of the evidence: a page of every paper, method and benchmark, whose facts are the package's own."""

import re

import nbformat
import pytest
from bs4 import BeautifulSoup

import vidlib
from docs import pages, reference
from tests import prepared, site
from tests.browser import finding
from vidlib.data.catalogue import entries
from vidlib.params import notebooks
from vidlib.studies import ladder, paper_claims


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The site beside one small notebook; (folder, bodies, name -> its page)."""
    out = tmp_path_factory.mktemp("site")
    cells = [nbformat.v4.new_markdown_cell("# Start", id="m0")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), out / "index.ipynb")
    bodies = reference.bodies(str(out))
    pages.write([out / "index.ipynb"], out, "stored", bodies)
    return out, bodies, {name: BeautifulSoup((out / f"{name}.html").read_text(), "html.parser") for name in bodies}


def test_every_paper_method_and_benchmark_has_a_page_and_no_link_fails(made):
    out, bodies, shown = made
    wanted = {f"paper-{name}" for name in paper_claims.CLAIMS} | {f"method-{name}" for name in vidlib.list_methods()}
    wanted |= {f"benchmark-{name.replace(':', '_')}" for name in entries.every()}
    assert shown.keys() == wanted | {"evidence", "questions", "api"}
    assert {link["href"].removesuffix(".html") for link in shown["evidence"].select("main a[href]")} >= wanted
    assert site.faults(out) == []
    books = {name for body in bodies.values() for name in re.findall(r'href="([\w-]+)\.ipynb', body)} - shown.keys()
    assert books <= {path.stem for path in prepared.NOTEBOOKS} and len(books) > 5


@pytest.mark.skipif(bool(finding.lacking()), reason=finding.lacking())
def test_pages_fit_screens_of_three_widths_and_are_searched(made):
    assert site.looked_at(made[0], ("shift", "sparse"), "method-gghm.html") == []


def test_pages_say_what_records_catalogue_and_signatures_say(made):
    shown = made[2]
    rows = ladder.results("motion")
    own = rows[(rows["method"] == "ma_fsar") & (rows["column"] == ladder.FROZEN)].iloc[0]
    for page in ("paper-ma_fsar", "method-ma_fsar", "evidence"):
        assert f"{own['accuracy']:.1f} ± {own['half']:.1f}" in shown[page].text
    assert "[recalled, unchecked]" in shown["paper-ma_fsar"].text
    assert [cell.text for cell in shown["method-gghm"].find(string="alpha").find_parent("tr").select("td")][1:] == [
        "float",
        "0.5",
    ]
    facts = entries.entry("hmdb51")
    text = " ".join(shown["benchmark-hmdb51"].text.split())
    assert all(words in text for words in (facts.licence, facts.where, facts.layout, *facts.notes)), "<class> is shown"
    assert "open_method(" in shown["api"].text and "support videos per class" in shown["api"].text


def test_a_benchmark_says_on_whose_test_it_must_not_be_trained(made):
    row = made[2]["benchmark-ssv2_full"].find("a", string="ssv2_small").find_parent("tr")
    assert [cell.text for cell in row.select("td")][1:] == ["7", "24"]


def test_commands_of_the_pages_are_taken(made):
    commands = {
        line
        for name, page in made[2].items()
        if name.startswith(("method-", "benchmark-"))
        for part in page.select("pre, td")
        for line in re.findall(r"^vidlib run [^\n]+", part.text, re.M)
    }
    assert len(commands) > 100
    for command in commands:
        name, *changes = command.split()[2:]
        assert notebooks.request(name, notebooks.settings(changes[1:]))
