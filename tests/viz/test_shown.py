"""What a notebook shows does not hang on a person's environment: backend, matplotlibrc, start-up files, locale."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tests.prepared import ROOT

DRAWS = """
import locale
import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import display
from vidlib.viz import curves, style, widgets
figure, ax = plt.subplots(figsize=(3, 2))
ax.plot([0, 1.5], [0, 0.25])
style.show(figure)
style.show(style.new_axes(3, 2).figure)
widgets.View(lambda n: style.new_axes(3, 2).figure, {"n": widgets.Control([1, 2])}).show()
display(pd.DataFrame({"value": [0.123456] * 9}))
"""


def shown(folder: Path, environment: dict[str, str]) -> list[dict]:
    """The outputs of ``DRAWS`` as papermill stores them."""
    source, out = folder / "in.ipynb", folder / "out.ipynb"
    kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    cell = nbformat.v4.new_code_cell(DRAWS)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), source)
    kept = {name: value for name, value in os.environ.items() if name not in ("JPY_SESSION_NAME", "MPLBACKEND")}
    place = {"PYTHONPATH": str(ROOT), "JUPYTER_PREFER_ENV_PATH": "1"}
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", str(source), str(out)]
    done = subprocess.run(command, env=kept | place | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    outputs = json.loads(out.read_text())["cells"][0]["outputs"]
    assert {output["output_type"] for output in outputs} == {"display_data"}, outputs
    return [output["data"] for output in outputs]


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("usual")
    return shown(folder, {"IPYTHONDIR": str(folder), "MPLCONFIGDIR": str(folder)})


def test_figures_are_shown_as_pictures(usual: list[dict]) -> None:
    assert ["image/png" in data for data in usual] == [True, True, True, False]


@pytest.mark.parametrize("kind", ["Agg", "TkAgg", "matplotlibrc", "startup", "settings"])
def test_a_persons_environment_changes_nothing(kind: str, usual: list[dict], tmp_path: Path) -> None:
    profile = tmp_path / "profile_default"
    (profile / "startup").mkdir(parents=True)
    environment = {"IPYTHONDIR": str(tmp_path), "MPLCONFIGDIR": str(tmp_path)}
    if kind.endswith("Agg"):
        environment["MPLBACKEND"] = kind
    if kind == "matplotlibrc":
        (tmp_path / "matplotlibrc").write_text("backend: svg\naxes.facecolor: black\nfont.size: 30\nsavefig.dpi: 20\n")
    if kind == "startup":
        (profile / "startup" / "mine.py").write_text(
            "import matplotlib.pyplot as plt, pandas as pd\nplt.style.use('dark_background')\n"
            "plt.rcParams['axes.formatter.use_locale'] = True\npd.options.display.precision = 2\n"
            "pd.options.display.max_rows = 4\n"
        )
    if kind == "settings":
        (profile / "ipython_config.py").write_text(
            "c.InlineBackend.figure_formats = {'svg'}\nc.InlineBackend.rc = {'figure.dpi': 30}\n"
        )
    assert shown(tmp_path, environment) == usual
