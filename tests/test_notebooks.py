"""Every notebook runs: at smoke size here, at its defaults under `make test-notebooks`."""

import json
import logging
import os
import re
import shutil
import subprocess
import symtable
import sys
from pathlib import Path

import nbformat
import papermill
import pytest
import yaml
from bs4 import BeautifulSoup

from docs import pages
from tests import cells, keep_parameters, site
from tests.browser import finding
from tests.prepared import BARE, NOTEBOOKS, ROOT, environment, prepare
from vidlib.params.notebooks import MODELS

COMPUTING = [path for path in NOTEBOOKS if path.stem not in BARE]
EXERCISES = ("ma_fsar", "sloshnet", "gghm", "actionclip", "m2clip", "few_shot", "datasets")
BY_HAND = ("ma_fsar", "sloshnet", "gghm")  # notebooks that take one step by hand and assert their own claims
SMOKE = os.environ.get("VIDLIB_NOTEBOOK_SIZE", "smoke") == "smoke"


def _prepare(path: Path, folder: Path) -> Path:
    return prepare(path, folder, SMOKE)


def _nbval(notebook: Path) -> subprocess.CompletedProcess:
    """Run a notebook; the cells tagged ``nbval-check-output`` must give what is stored with them, addresses apart."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--nbval-lax"]
    command += ["-p", "tests.executed", "--nbval-sanitize-with", str(ROOT / "tests" / "tables.cfg"), str(notebook)]
    own = {"VIDLIB_DATA": str(notebook.parent / "data")} if SMOKE else {}  # stores of features
    where = environment(notebook.parent / "runs") | own
    return subprocess.run(command, capture_output=True, text=True, env=where, cwd=ROOT)


def test_every_notebook_has_its_model_and_its_smoke_size():
    assert {path.stem for path in NOTEBOOKS} == set(MODELS) | set(BARE)
    for name, model in MODELS.items():
        smoke = yaml.safe_load((ROOT / "tests" / "smoke" / f"{name}.yaml").read_text())
        model.parse(smoke)


@pytest.mark.parametrize("path", COMPUTING, ids=lambda path: path.stem)
def test_parameters_cell_and_model_agree(path):
    """papermill's own reading of the cell has every field, with the model's default and type, and says what it is."""
    shown = papermill.inspect_notebook(str(path))
    model = MODELS[path.stem]
    assert set(shown) == set(model.model_fields)
    for name, field in model.model_fields.items():
        assert shown[name]["inferred_type_name"] == type(field.default).__name__, name
        default = None if name in model.left_open() else field.default  # None: as the method's recipe says
        assert eval(shown[name]["default"]) == default, name
        assert shown[name]["help"] == field.description and len(field.description) > 5, name


@pytest.mark.parametrize("path", COMPUTING, ids=lambda path: path.stem)
def test_a_person_meets_the_main_parameters_and_a_fold_of_all(path):
    """As ``make tables`` writes them; what the cell says is what the notebook has without it."""
    notebook, model = nbformat.read(path, as_version=4), MODELS[path.stem]
    seen, tagged = keep_parameters.visible(notebook), notebook.cells[keep_parameters.tagged(notebook)]
    names = re.findall(r"^(\w+):", seen.source, re.M)
    assert notebook.cells.index(seen) == 1 and len(seen.source.splitlines()) <= 25
    assert seen.source == keep_parameters.lines(model, names)
    if tagged is seen:
        assert set(names) == set(model.model_fields)
    else:
        assert tagged.source == keep_parameters.fold(path.stem) and tagged.cell_type == "markdown"
    given: dict[str, object] = {}
    exec(seen.source, given)
    assert dict(model.parse({name: given[name] for name in names})) == dict(model.parse({}))


@pytest.mark.parametrize("path", COMPUTING, ids=lambda path: path.stem)
def test_papermill_knows_every_parameter_and_the_guard_takes_it(path, tmp_path, caplog):
    model = MODELS[path.stem]
    defaults = model.parse({}).model_dump()
    with caplog.at_level(logging.WARNING, logger="papermill"):
        target = tmp_path / path.name
        prepared = papermill.execute_notebook(path, target, defaults, prepare_only=True, progress_bar=False)
    assert [record.getMessage() for record in caplog.records] == []
    cells = prepared.cells
    injected = next(i for i, cell in enumerate(cells) if "injected-parameters" in cell.metadata.get("tags", []))
    assert "from_notebook" in cells[injected + 1].source, "what is given stands between the fold and the guard"
    given: dict[str, object] = {}
    exec(cells[injected].source, given)
    assert dict(model.parse({name: given[name] for name in defaults})) == dict(model.parse({}))


def test_a_page_folds_the_parameters_away():
    """Markdown's rules: the fence is code, with the fold around it, not the text of a paragraph."""
    from nbconvert.filters.markdown_mistune import markdown2html_mistune

    page = markdown2html_mistune(keep_parameters.fold("gghm"))
    assert re.match(r"<details><summary>All \d+ parameters</summary>\s*<p>To change one", page)
    code = page[page.index('<div class="highlight">') : page.index("</div>")]
    assert "graph_weight" in code and "```" not in page and page.rstrip().endswith("</details>")


@pytest.mark.parametrize("path", COMPUTING, ids=lambda path: path.stem)
def test_no_later_cell_takes_the_name_of_a_parameter(path):
    """Else the guard cell, run again by a person, would read something else than the parameters cell says."""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    guard = next(i for i, cell in enumerate(cells) if "from_notebook" in cell.source)
    for cell in cells[guard:]:
        if cell.source.startswith("%%"):
            continue
        names = symtable.symtable(cell.source, path.name, "exec").get_symbols()
        taken = {name.get_name() for name in names if name.is_assigned() or name.is_imported()}
        assert taken & set(MODELS[path.stem].model_fields) == set(), cell.source


@pytest.mark.parametrize("path", COMPUTING, ids=lambda path: path.stem)
def test_cells_ask_only_for_parameters_that_there_are(path):
    model = MODELS[path.stem]
    code = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    asked = {name for name in re.findall(r"\bp\.(\w+)", code)}
    assert {name for name in asked if name not in model.model_fields and not hasattr(model, name)} == set()


def _opening(path: Path) -> str:
    return nbformat.read(path, as_version=4).cells[0].source


@pytest.mark.parametrize("path", COMPUTING, ids=lambda path: path.stem)
def test_notebook_opens_with_claim_cost_and_three_parameters(path):
    opening = _opening(path)
    assert "**The claim" in opening and "**What it costs.**" in opening
    _, _, listed = opening.partition("**The three parameters most worth changing**:")
    named = [name for name in re.findall(r"`(\w+)`", listed) if name in MODELS[path.stem].model_fields]
    assert len(set(named)) >= 3, listed


@pytest.mark.parametrize("path", [p for p in COMPUTING if p.stem in EXERCISES], ids=lambda path: path.stem)
def test_exercises_have_answers_folded_away(path):
    last = nbformat.read(path, as_version=4).cells[-1].source
    assert last.startswith("## Exercises")
    questions = re.findall(r"^\*\*\d\.\*\* ", last, re.M)
    # The blank lines are what makes Markdown and equations work inside the fold.
    answers = re.findall(r"^<details><summary>Answer</summary>\n\n.+?\n\n</details>$", last, re.M | re.S)
    assert 2 <= len(questions) == len(answers)


@pytest.mark.parametrize("name", BY_HAND)
def test_a_step_is_taken_by_hand_before_the_loop_that_a_link_shows(name):
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    by_hand = "\n".join(cells.under(name, "## The model").values())
    for part in (".embed(", ".match(", ".losses", ".backward()", "stepping.optimizers(", ".step()", "assert_close("):
        assert part in by_hand, part
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\((\S+loop\.py)\)", text)
    assert links and all((ROOT / "notebooks" / link).is_file() for link in links)
    asserted = cells.under(name, "## Claims")
    last = [cell.id for cell in notebook.cells if cell.cell_type == "code"][-len(asserted) :]
    assert list(asserted) == last and "assert " in "\n".join(asserted.values())


def test_index_leads_to_every_notebook():
    text = "\n".join(cell.source for cell in nbformat.read(ROOT / "notebooks" / "index.ipynb", as_version=4).cells)
    linked = set(re.findall(r"\]\((\S+?)\)", text))
    assert linked == {path.name for path in COMPUTING}


def test_a_changed_table_fails_the_notebook(tmp_path):
    """The stored table of published figures, one figure of it changed: the comparison is no empty one."""
    target = _prepare(ROOT / "notebooks" / "ma_fsar.ipynb", tmp_path)
    notebook = nbformat.read(target, as_version=4)
    place = next(i for i, cell in enumerate(notebook.cells) if "published.table" in cell.source)
    notebook.cells = notebook.cells[: place + 1]
    data = notebook.cells[place].outputs[0].data
    assert "83.4" in data["text/plain"]
    data["text/plain"] = data["text/plain"].replace("83.4", "93.4")
    nbformat.write(notebook, target)
    done = _nbval(target)
    assert done.returncode != 0 and "Cell outputs differ" in done.stdout, done.stdout[-3000:]


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A folder for the notebooks that ran, with their outputs."""
    return tmp_path_factory.mktemp("executed")


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("path", COMPUTING, ids=lambda path: path.stem)
def test_notebook_runs(path, tmp_path, worlds, executed):
    target = _prepare(path, tmp_path)
    done = _nbval(target)
    assert done.returncode == 0, done.stdout[-6000:]
    shutil.copy(target, executed)


@pytest.fixture(scope="module")
def book(executed):
    """The site of all notebooks as the tests above ran them; it stays in ``out/book``, to be looked at."""
    missing = {path.stem for path in COMPUTING} - {path.stem for path in executed.glob("*.ipynb")}
    if missing:
        pytest.skip(f"the site needs every notebook executed; missing: {', '.join(sorted(missing))}")
    out = ROOT / "out" / "book"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    notebooks = [ROOT / "notebooks" / "index.ipynb", *sorted(executed.glob("*.ipynb"))]
    pages.write(notebooks, out, "smoke" if SMOKE else "default")
    return out


def test_the_site_of_all_notebooks_is_whole(book):
    assert {path.stem for path in NOTEBOOKS} <= {path.stem for path in book.glob("*.html")}
    assert site.faults(book) == []
    for path in COMPUTING:
        page = (book / path.name).with_suffix(".html").read_text()
        assert "jp-OutputArea-output" in page and "<img" in page, path.stem
    index = BeautifulSoup((book / "index.html").read_text(), "html.parser")
    assert {link["href"] for link in index.select("main a")} >= {f"{path.stem}.html" for path in COMPUTING}


@pytest.mark.skipif(bool(finding.lacking()), reason=finding.lacking())
def test_the_site_works_in_a_browser_without_a_network(book):
    assert site.looked_at(book, ("ordered", "pairs"), "gghm.html") == []


@pytest.mark.timeout(1800)
def test_a_false_claim_fails_the_notebook(tmp_path, worlds):
    """With the labels of two classes swapped in what the metric sees, ma_fsar.ipynb must not pass: its claims fail."""
    target = _prepare(ROOT / "notebooks" / "ma_fsar.ipynb", tmp_path)
    notebook = nbformat.read(target, as_version=4)
    claimed = cells.under("ma_fsar", "## Claims")
    needed = ("from_notebook(", "open_manifest(", "draw_episode(", "open_method(", "run_methods(")
    notebook.cells = [
        cell
        for cell in notebook.cells
        if cell.metadata.get("tags") == ["injected-parameters"]
        or cell.id in claimed
        or (cell.cell_type == "code" and (": str = " in cell.source or any(word in cell.source for word in needed)))
    ]
    guard = next(i for i, cell in enumerate(notebook.cells) if "from_notebook" in cell.source)
    swap = """
from vidlib.matching.base import Metric
from vidlib.matching import METRICS
def swapped(compare):
    def inner(self, support, labels, query, way):
        return compare(self, support, labels, query, way)[..., [1, 0, *range(2, way)]]
    return inner
for metric in METRICS.values():
    metric.compare = swapped(metric.compare)
"""
    notebook.cells.insert(guard + 1, nbformat.v4.new_code_cell(swap))
    nbformat.write(notebook, target)
    done = _nbval(target)
    assert done.returncode != 0
    assert "AssertionError" in done.stdout, done.stdout[-3000:]


def test_a_wrong_parameter_stops_papermill_in_the_first_cells(tmp_path):
    out = tmp_path / "out.ipynb"
    command = [
        sys.executable,
        "-m",
        "papermill",
        str(ROOT / "notebooks" / "ma_fsar.ipynb"),
        str(out),
        "-p",
        "shoot",
        "3",
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(tmp_path / "runs"), cwd=tmp_path)
    assert done.returncode != 0 and "UserError: unknown parameter" in done.stderr
    ran = [cell for cell in json.loads(out.read_text())["cells"] if cell.get("execution_count")]
    assert len(ran) <= 4, "it stopped in its first cells"
