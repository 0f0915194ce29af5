"""A notebook as a person meets it: opened in JupyterLab, run from top to bottom, its sliders moved, its pages seen."""

import json
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import ElementHandle, Error, Page
from playwright.sync_api import TimeoutError as LateError

from tests.browser.serving import Lab

START, RUN, REDRAW = 90_000, 900_000, 15_000  # milliseconds
SHOTS = 6  # screenshots of each notebook, from top to bottom
WIDGET = "application/vnd.jupyter.widget-view+json"
# The page shows a kernel as idle before one is attached, and run-all then runs nothing: ask the session itself.
CONNECTED = """() => {
  const context = window.jupyterapp?.shell.currentWidget?.sessionContext;
  return context && context.isReady && context.session?.kernel?.connectionStatus === 'connected';
}"""
RUN_ALL = """limit => Promise.race([
  window.jupyterapp.commands.execute('notebook:run-all-cells').then(() => true),
  new Promise(resolve => setTimeout(() => resolve(false), limit)),
])"""
CELL = "index => window.jupyterapp.shell.currentWidget.content.widgets[index].node"
SCROLL = """index => {
  const notebook = window.jupyterapp.shell.currentWidget.content;
  notebook.activeCellIndex = index;
  return notebook.scrollToItem(index, 'start');
}"""
CURRENT = "() => window.jupyterapp?.shell.currentWidget?.context?.path"
PICTURES = "cell => Array.from(cell.querySelectorAll('img, svg.main-svg'), seen => seen.src || seen.outerHTML).join()"


class Notebook:
    """One notebook on one page; ``complaints`` are what the browser's console called errors."""

    def __init__(self, page: Page, lab: Lab, name: str, shots: Path) -> None:
        self.page, self.lab, self.name, self.shots = page, lab, name, shots
        self.complaints: list[str] = []
        page.on("console", lambda m: self.complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def open(self) -> None:
        """Load the page until its kernel is attached; a start that hangs is tried once more."""
        for attempt in (1, 2):
            self.page.goto(self.lab.url(f"{self.name}.ipynb"), wait_until="domcontentloaded")
            try:
                self.page.wait_for_function(CONNECTED, timeout=START)
                return
            except LateError:
                if attempt == 2:
                    self.shot("no_kernel")
                    raise

    def run_all(self) -> None:
        """Run every cell and save; ``cells`` then reads what came out."""
        ended = self.page.evaluate(RUN_ALL, RUN)
        if not ended:
            self.shot("still_running")
        assert ended, f"{self.name} was still running after {RUN // 1000} s"
        self.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")

    def cells(self) -> list[dict]:
        """The cells as JupyterLab saved them."""
        return json.loads((self.lab.root / f"{self.name}.ipynb").read_text())["cells"]

    def faults(self) -> list[str]:
        """What a person would stumble over: cells that failed or did not run, warnings, errors in the console."""
        found = [f"console: {text}" for text in self.complaints]
        for number, cell in enumerate(self.cells()):
            if cell["cell_type"] != "code":
                continue
            if cell["execution_count"] is None and "".join(cell["source"]).strip():
                found.append(f"cell {number} did not run")
            for output in cell["outputs"]:
                if output["output_type"] == "error":
                    found.append(f"cell {number}: {output['ename']}: {output['evalue']}")
                elif output.get("name") == "stderr":
                    found.append(f"cell {number} wrote to stderr: {''.join(output['text'])[:300]}")
        return found

    def sliders(self) -> Iterator[tuple[int, ElementHandle, ElementHandle]]:
        """The first slider of each cell that shows one and lets it move: cell number, cell, slider."""
        for number, cell in enumerate(self.cells()):
            outputs = cell.get("outputs", [])
            if any(WIDGET in output.get("data", {}) for output in outputs):
                self.page.evaluate(SCROLL, number)  # cells off the screen may not be in the page
                node = self.page.evaluate_handle(CELL, number).as_element()
                try:
                    handle = node.wait_for_selector(".noUi-handle", timeout=5000)
                except Error:
                    continue  # a widget without a slider
                if handle.get_attribute("aria-valuemin") != handle.get_attribute("aria-valuemax"):
                    yield number, node, handle

    def move(self, number: int, cell: ElementHandle, handle: ElementHandle) -> None:
        """Move a slider by one step and wait until a picture beside it is another one."""
        before, value = cell.evaluate(PICTURES), handle.get_attribute("aria-valuenow")
        self.shot(f"cell{number:02}_before")
        handle.focus()
        last = value == handle.get_attribute("aria-valuemax")
        self.page.keyboard.press("ArrowLeft" if last else "ArrowRight")
        try:
            self.page.wait_for_function(
                f"([cell, before]) => ({PICTURES})(cell) !== before", arg=[cell, before], timeout=REDRAW
            )
        finally:
            self.shot(f"cell{number:02}_after")
        assert handle.get_attribute("aria-valuenow") != value, f"cell {number}: the slider did not move"

    def tour(self) -> None:
        """Screenshots from top to bottom."""
        count = len(self.cells())
        for place in sorted({*range(0, count, max(1, count // SHOTS)), count - 1}):
            self.page.evaluate(SCROLL, place)
            self.page.wait_for_timeout(400)  # what came into view is drawn
            self.shot(f"{place:02}")

    def follow(self, target: str) -> None:
        """Click the link to another notebook, as it stands in this one, and wait until that is open."""
        for number, cell in enumerate(self.cells()):
            if f"]({target})" in "".join(cell["source"]):
                self.page.evaluate(SCROLL, number)
                break
        else:
            raise AssertionError(f"{self.name} has no link to {target}")
        self.page.locator(f'.jp-RenderedMarkdown a[href*="{target}"]').first.click()
        self.page.wait_for_function(f"path => ({CURRENT})() === path", arg=target, timeout=START)

    def shot(self, what: str) -> None:
        """One picture of the window, ``<notebook>_<what>.png``."""
        self.page.screenshot(path=self.shots / f"{self.name}_{what}.png")
