"""``make tables``: store the outputs of the cells tagged ``nbval-check-output``, which the notebooks' tests compare.

These tables follow from the published figures, the embedded world and the modules alone, so that they are the same at
smoke size and at the defaults. Run it after a change that is meant to change them, and read the difference.
"""

import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbval.plugin import get_sanitize_patterns

from tests import prepared

TAG = "nbval-check-output"
RULES = Path(__file__).with_name("tables.cfg")


def checked(cell: NotebookNode) -> bool:
    """Whether a cell's stored output is compared."""
    return cell.cell_type == "code" and TAG in cell.metadata.get("tags", [])


def steady(value: Any) -> Any:
    """An output, or any part of it, without what ``tables.cfg`` takes out before a comparison."""
    if isinstance(value, str):
        for regex, new in get_sanitize_patterns(RULES.read_text()):
            value = re.sub(regex, new, value)
        return value
    if isinstance(value, dict):
        return type(value)({key: steady(part) for key, part in value.items()})
    return [steady(part) for part in value] if isinstance(value, list) else value


def keep(path: Path, folder: Path) -> int:
    """Run a notebook up to its last checked cell and store what the checked cells gave; their number."""
    notebook = nbformat.read(path, as_version=4)
    wanted = [cell.id for cell in notebook.cells if checked(cell)]
    if not wanted:
        return 0
    ran = nbformat.read(prepared.prepare(path, folder, smoke=True), as_version=4)
    last = next(i for i, cell in enumerate(ran.cells) if cell.id == wanted[-1])
    ran.cells = ran.cells[: last + 1]
    NotebookClient(ran, timeout=600, resources={"metadata": {"path": str(folder)}}).execute(
        env=prepared.environment(folder / "runs")
    )
    outputs = {cell.id: steady(cell.outputs) for cell in ran.cells if cell.cell_type == "code"}
    for cell in notebook.cells:
        if cell.id in wanted:
            cell.execution_count, cell.outputs = 1, outputs[cell.id]
            for output in cell.outputs:
                if "execution_count" in output:
                    output["execution_count"] = 1
    nbformat.write(notebook, path)
    return len(wanted)


if __name__ == "__main__":
    names = sys.argv[1:]
    for notebook in prepared.NOTEBOOKS:
        if not names or notebook.stem in names:
            with tempfile.TemporaryDirectory() as temporary:
                print(f"{notebook.stem}: {keep(notebook, Path(temporary))} tables kept", flush=True)
