"""JupyterLab in headless Chromium: a few notebooks wherever both are, every one under ``make test-browser``.

Screenshots go into ``out/browser``, or ``$VIDLIB_SCREENSHOTS``.
"""

import os
import shutil
from pathlib import Path

import nbformat
import pytest

from tests import prepared
from tests.browser import finding
from tests.browser.serving import serving

ALL = os.environ.get("VIDLIB_BROWSER") == "all"
SHOTS = Path(os.environ.get("VIDLIB_SCREENSHOTS") or prepared.ROOT / "out" / "browser")
SHORT = ("index", "your_videos")  # the first page, and the quickest notebook that shows guesses and pictures
LACKING = finding.lacking()

if LACKING and ALL:
    pytest.exit(f"make test-browser: {LACKING}", returncode=1)
if LACKING:
    pytest.skip(f"the browser tests are left out: {LACKING}", allow_module_level=True)

from tests.browser.opening import Notebook  # noqa: E402  (it imports playwright)

ONLY_ALL = pytest.mark.skipif(not ALL, reason="only under make test-browser")
NAMES = [path.stem for path in prepared.NOTEBOOKS if ALL or path.stem in SHORT]
SLIDER = """import io

import ipywidgets as widgets
from matplotlib.figure import Figure


def png(turns):
    figure = Figure(figsize=(3, 2))
    _ = figure.subplots().plot(range(turns + 1))
    held = io.BytesIO()
    figure.savefig(held, format="png")
    return held.getvalue()


picture = widgets.Image(value=png(1), layout=widgets.Layout(width="300px"))
slider = widgets.IntSlider(value=1, min=1, max=5)
slider.observe({observer}, names="value")
display(widgets.VBox([slider, picture]))"""
WARNING = "import sys\nprint('mind the step', file=sys.stderr)"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A served folder with every notebook, and three small ones that go wrong or right in known ways."""
    folder = tmp_path_factory.mktemp("browser")
    root = folder / "notebooks"
    root.mkdir()
    for path in prepared.NOTEBOOKS:
        shutil.copy(path, root)
    write = {
        "slider": [SLIDER.format(observer="lambda change: setattr(picture, 'value', png(change['new']))")],
        "dead_slider": [SLIDER.format(observer="lambda change: None")],
        "faulty": [WARNING, "1 / 0", "print('never')"],
    }
    for name, sources in write.items():
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, root / f"{name}.ipynb")
    (folder / "jupyter").mkdir()
    with serving(root, folder / "jupyter", folder / "runs") as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=finding.chromium())
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser, lab):
    """Opens a notebook by name on a page of its own; the page is closed at the end."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    pages = []

    def open_notebook(name):
        pages.append(browser.new_page(viewport={"width": 1400, "height": 1000}))
        notebook = Notebook(pages[-1], lab, name, SHOTS)
        notebook.open()
        return notebook

    yield open_notebook
    for page in pages:
        page.close()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", NAMES)
def test_a_person_can_run_it_from_top_to_bottom(name, lab, opened, worlds):
    prepared.prepare(prepared.ROOT / "notebooks" / f"{name}.ipynb", lab.root, smoke=True)
    notebook = opened(name)
    notebook.run_all()
    notebook.tour()
    assert notebook.faults() == []
    for number, cell, handle in notebook.sliders():
        notebook.move(number, cell, handle)
    assert notebook.faults() == []


def test_a_slider_moves_its_picture(opened):
    notebook = opened("slider")
    notebook.run_all()
    assert notebook.faults() == []
    (found,) = notebook.sliders()
    notebook.move(*found)


@ONLY_ALL
def test_a_slider_whose_picture_stays_is_told(opened, monkeypatch):
    monkeypatch.setattr("tests.browser.opening.REDRAW", 1500)
    notebook = opened("dead_slider")
    notebook.run_all()
    (found,) = notebook.sliders()
    with pytest.raises(Exception, match="Timeout"):
        notebook.move(*found)


@ONLY_ALL
def test_errors_and_warnings_are_told(opened):
    notebook = opened("faulty")
    notebook.run_all()
    told = "; ".join(notebook.faults())
    assert "cell 0 wrote to stderr: mind the step" in told
    assert "cell 1: ZeroDivisionError" in told
    assert "cell 2 did not run" in told


def test_a_link_of_the_index_opens_its_notebook(opened):
    opened("index").follow("ma_fsar.ipynb")
