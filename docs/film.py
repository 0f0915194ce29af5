"""``python -m docs.film``: README's moving picture: explore.ipynb, its sliders moved, from finished runs."""

import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from tests.browser import finding
from tests.browser.opening import SCROLL, Notebook
from tests.browser.serving import serving
from vidlib.basics import paths

ROOT = Path(__file__).resolve().parents[1]
FILM = ROOT / "docs" / "explore.gif"
STEPS, WIDTH, COLOURS, MILLISECONDS = 7, 880, 64, 700


def main() -> None:
    """Open it, run it, and take a picture after each step of the first slider of each view."""
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        folder = Path(place)
        shutil.copytree(ROOT / "notebooks", folder / "notebooks")
        (folder / "jupyter").mkdir()
        with serving(folder / "notebooks", folder / "jupyter", paths.runs_dir()) as lab:
            browser = playwright.chromium.launch(executable_path=finding.chromium())
            notebook = Notebook(browser.new_page(viewport={"width": 1200, "height": 900}), lab, "explore", folder)
            notebook.open()
            notebook.run_all()
            assert not notebook.faults(), notebook.faults()
            frames = [frame for number, _, handle in notebook.sliders() for frame in _moved(notebook, number, handle)]
            browser.close()
    first, *others = frames
    first.save(FILM, save_all=True, append_images=others, duration=MILLISECONDS, loop=0, optimize=True)
    print(f"{FILM}: {len(frames)} pictures, {FILM.stat().st_size / 1e6:.1f} MB")


def _moved(notebook: Notebook, number: int, handle: object) -> list[Image.Image]:
    pictures = []
    notebook.page.evaluate(SCROLL, number)
    handle.focus()
    for _ in range(STEPS):
        notebook.page.wait_for_timeout(1500)  # the picture of a step is drawn anew
        shot = Image.open(io.BytesIO(notebook.page.screenshot())).convert("RGB")
        shot = shot.resize((WIDTH, round(shot.height * WIDTH / shot.width)), Image.Resampling.LANCZOS)
        pictures.append(shot.quantize(COLOURS))
        notebook.page.keyboard.press("ArrowRight")
    return pictures


if __name__ == "__main__":
    main()
