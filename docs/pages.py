"""Executed notebooks as a site that loads nothing over the network: pages, a search over all of them, source files.

Equations become MathML when the site is built. A cell's anchor is ``cell-id=`` with its id, as in JupyterLab, so a link
stays when cells are inserted before it; a heading's anchor is its text. A heading that stands twice on a page keeps the
bare anchor for its first place. Files under ``../`` that a notebook links to become pages of their source.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import jinja2
import nbformat
from bs4 import BeautifulSoup, Tag
from markupsafe import Markup
from math_core import LatexToMathML
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_for_filename

ROOT = Path(__file__).resolve().parent.parent
SITE = Path(__file__).parent / "site"
WIDGETS = "application/vnd.jupyter.widget-view+json"  # their JavaScript would come from the network
TEX = LatexToMathML()
SAID = {
    "smoke": "Executed at smoke size: it shows how a notebook looks, and numbers that were computed mean nothing.",
    "default": "Executed with the defaults of each notebook.",
    "stored": "As stored, not executed: make book executes it.",
    "data": "Made from the package's own data and its shipped records.",
    "source": "A file as it was when these pages were made.",
}
DOORS = {"index": "Notebooks", "evidence": "Evidence", "questions": "Questions", "api": "API"}


class Renderer(IPythonRenderer):
    """Markdown of a notebook, its equations as MathML; raises ``LatexError`` where TeX is wrong."""

    def inline_math(self, body: str) -> str:
        shown = TEX.convert_with_local_state(body, displaystyle=False)
        return f'<span class="long">{shown}</span>' if len(body) > 50 else shown  # has a line of its own on a phone

    def block_math(self, body: str) -> str:
        return f'<span class="wide">{TEX.convert_with_local_state(body, displaystyle=True)}</span>'

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(rf"\begin{{{name}}}{body}\end{{{name}}}")


def markdown(text: str) -> str:
    return MarkdownWithMath(renderer=Renderer(escape=False)).render(text)


def _cells(notebook: nbformat.NotebookNode) -> BeautifulSoup:
    """The cells of a notebook, as nbconvert lays them out, without prompts and widgets."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.id = "injected-parameters"  # papermill draws a new one each time
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGETS, None)
    exporter = HTMLExporter(template_file="base.html.j2", exclude_input_prompt=True, exclude_output_prompt=True)
    exporter.register_filter("markdown2html", markdown)
    return BeautifulSoup(exporter.from_notebook_node(notebook)[0], "html.parser")


def _source(path: Path) -> BeautifulSoup:
    if path.suffix == ".md":
        return BeautifulSoup(f'<div class="jp-RenderedMarkdown">{markdown(path.read_text())}</div>', "html.parser")
    code = highlight(path.read_text(), get_lexer_for_filename(path.name), HtmlFormatter())
    return BeautifulSoup(f"<h1>{path.relative_to(ROOT)}</h1>{code}", "html.parser")


def _link(soup: BeautifulSoup, pages: set[str]) -> set[Path]:
    """Turn links to notebooks and files into links to pages; those to what is not there become text. The files."""
    files = set()
    for link in soup.select("a[href]"):
        place, mark, fragment = link["href"].partition("#")
        path = (ROOT / "notebooks" / place).resolve()
        if "://" in place or not place:
            continue
        if place.removesuffix(".ipynb") in pages and place.endswith(".ipynb"):
            link["href"] = f"{path.stem}.html{mark}{fragment}"
        elif path.is_file() and path.is_relative_to(ROOT) and path.suffix != ".ipynb":
            files.add(path)
            link["href"] = _named(path)
        else:
            link.unwrap()
    return files


def _named(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).parts) + ".html"


def _words(part: Tag) -> str:
    return " ".join(part.get_text().replace("¶", "").split())


def _finish(soup: BeautifulSoup) -> tuple[list[tuple[int, str, str]], list[list[str]]]:
    """Set anchors, scrolling boxes and names of figures; (level, anchor, text) of h2, h3, [anchor, section, text]."""
    contents, records, taken, section = [], [], set(), ""
    for block in soup.select("h1, h2, h3, h4, p, li, th, td, summary, br"):
        block.insert_after("\n")  # else the words on its two sides become one
    for table in soup.find_all("table"):
        table.wrap(soup.new_tag("div", attrs={"class": "wide"}))
    for part in soup.select("h1, h2, h3, h4, img, .jp-Cell"):
        if part.name == "img":
            part["alt"] = f"figure: {section}"
        elif part.name != "div":
            anchor = part.get("id", "")
            for sign in part.select("a.anchor-link"):
                sign["class"], sign["title"] = "here", "link to this heading"
            if anchor in taken:
                del part["id"]
            elif part.name in ("h2", "h3") and anchor:
                contents.append((int(part.name[1]), anchor, _words(part)))
            taken.add(anchor)
        else:
            first = part.find(["h1", "h2", "h3"])
            section = _words(first) if first else section
            shown = part.select(".jp-OutputArea" if "jp-CodeCell" in part["class"] else ".jp-RenderedMarkdown")
            text = " ".join(_words(box) for box in shown)
            if text:
                records.append([part["id"], section, text])
            here = soup.new_tag("a", attrs={"class": "here", "href": f"#{part['id']}", "title": "link to this cell"})
            here.string = "#"
            part.insert(0, here)
    return contents, records


def write(notebooks: list[Path], book: Path, size: str, bodies: Mapping[str, str] | None = None) -> None:
    """Make the pages of executed notebooks, and all that they need, in the folder ``book``.

    ``size`` is said of those that do not tell in their metadata at which size they were executed (``executed_at``).
    ``bodies``: further pages, name -> HTML, with cells, headings and links as a notebook's page has them.
    """
    page = jinja2.Environment(loader=jinja2.FileSystemLoader(SITE), autoescape=True).get_template("page.html.j2")
    pages, words = {path.stem for path in notebooks} | (bodies or {}).keys(), []
    doors = {f"{name}.html": said for name, said in DOORS.items() if name == "index" or name in pages}

    def add(name: str, soup: BeautifulSoup, said: str, title: str = "") -> set[Path]:
        """Write one page, and note its words for the search; the files that it links to."""
        files = _link(soup, pages)
        contents, records = _finish(soup)
        title = title or (_words(soup.h1) if soup.h1 else name)
        shown = page.render(title=title, said=said, contents=contents, body=Markup(soup), doors=doors)
        (book / f"{name}.html").write_text(shown)
        words.extend([name, title, *record] for record in records)
        return files

    files = set()
    for path in notebooks:
        notebook = nbformat.read(path, as_version=4)
        ran = any(cell.cell_type == "code" for cell in notebook.cells)
        said = ("" if ran else "Of the pages: ") + SAID[notebook.metadata.get("executed_at", size)]
        files |= add(path.stem, _cells(notebook), said)
    for name, body in (bodies or {}).items():
        files |= add(name, BeautifulSoup(body, "html.parser"), SAID["data"])
    for path in files:
        add(_named(path).removesuffix(".html"), _source(path), SAID["source"], path.name)
    (book / "words.js").write_text(f"const WORDS = {json.dumps(words, ensure_ascii=False)};\n")
    shutil.copy(SITE / "search.js", book)
    (book / "site.css").write_text((SITE / "site.css").read_text() + HtmlFormatter().get_style_defs(".highlight"))
