"""What is in a kernel besides the parameters cell: papermill's own names, and what start-up files left."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tests.prepared import ROOT
from vidlib.basics.errors import UserError
from vidlib.params.few_shot import MAFSARParams
from vidlib.params.notebooks import MODELS

GUARD = """from vidlib.params.few_shot import MAFSARParams
p = MAFSARParams.from_notebook(globals())
print(p.way, p.shot, p.query, p.seed)"""


def ran(folder: Path, *options: str, startup: str = "") -> str:
    """What the guard prints under papermill with ``options``, after start-up code."""
    (folder / "profile_default" / "startup").mkdir(parents=True)
    (folder / "profile_default" / "startup" / "mine.py").write_text(startup)
    cell = nbformat.v4.new_code_cell("way: int = 5\nseed: int = 0", metadata={"tags": ["parameters"]})
    kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    made = nbformat.v4.new_notebook(cells=[cell, nbformat.v4.new_code_cell(GUARD)], metadata=kernel)
    nbformat.write(made, folder / "in.ipynb")
    kept = {name: value for name, value in os.environ.items() if name != "JPY_SESSION_NAME"}
    place = {"IPYTHONDIR": str(folder), "PYTHONPATH": str(ROOT), "JUPYTER_PREFER_ENV_PATH": "1"}
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", "in.ipynb", "out.ipynb", *options]
    done = subprocess.run(command, env=kept | place, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    last = json.loads((folder / "out.ipynb").read_text())["cells"][-1]["outputs"]
    return "".join(last[0]["text"]).strip()


def test_papermill_may_inject_its_paths(tmp_path: Path) -> None:
    assert ran(tmp_path, "--inject-paths", "-p", "shot", "3") == "5 3 1 0"


def test_what_a_start_up_file_leaves_is_no_parameter(tmp_path: Path) -> None:
    """Neither an unknown name, nor a parameter's that no cell sets; one that a cell sets to the same value counts."""
    assert ran(tmp_path, "-p", "shot", "3", startup="DEBUG = True\nquery = 4\nshot = 3\nseed = 7\n") == "5 3 1 0"


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_every_guard_takes_what_papermill_injects(model) -> None:
    own = {"PAPERMILL_INPUT_PATH": "a.ipynb", "PAPERMILL_OUTPUT_PATH": "b", "PAPERMILL_OUTPUT_DIR_PATH": "c"}
    assert dict(model.from_notebook(dict(own))) == dict(model.parse({}))


def test_a_wrong_name_is_still_refused() -> None:
    with pytest.raises(UserError, match="unknown parameter 'PAPERMIL_INPUT_PATH'"):
        MAFSARParams.from_notebook({"PAPERMIL_INPUT_PATH": "a.ipynb"})
