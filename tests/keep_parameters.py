"""``make tables``: write each notebook's parameters from its model, so that cell, fold and model say the same.

A notebook of few parameters has all of them in its code cell tagged ``parameters``. Of many, the first code cell has
the main ones (names are kept, lines written anew) and a Markdown cell behind it folds all of them away; that one is
tagged ``parameters``: papermill reads defaults and help from its source and injects what is given behind it.
"""

import json
import re
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tests import prepared
from vidlib.params.base import Params
from vidlib.params.notebooks import MODELS

TAG = "parameters"
FOLD = '''<details><summary>All {count} parameters</summary>

To change one that is not above, add a line `name = value` to the cell above, or give it by `-p` or `-f`.{open}

```python
{lines}
"""Written from {model} by make tables NAMES={name}."""
```

</details>'''  # the last line of code has an "=": with that, papermill's reading of the last parameter ends
OPEN = " What is `None` is as the method's recipe says; the next cell prints it."


def line(model: type[Params], name: str) -> str:
    """A parameter as papermill reads it: ``name: type = default  # help``; None where a recipe completes it."""
    field = model.model_fields[name]
    default = None if name in model.left_open() else field.default
    shown = json.dumps(default, ensure_ascii=False) if isinstance(default, str) else repr(default)
    return f"{name}: {type(field.default).__name__} = {shown}  # {field.description}"


def lines(model: type[Params], names: list[str] | None = None) -> str:
    """Those of ``names`` that ``model`` has; without any, all: the notebook's own first, where it runs last."""
    place, own = getattr(model, "PLACE", ()), vars(model)["__annotations__"]
    every = sorted(model.model_fields, key=lambda name: (name in place, name not in own))
    return "\n".join(line(model, name) for name in (every if names is None else names) if name in every)


def fold(name: str) -> str:
    """The Markdown cell that folds all parameters of notebook ``name`` away."""
    model = MODELS[name]
    said = {"open": OPEN if model.left_open() else "", "model": model.__name__, "name": name}
    return FOLD.format(count=len(model.model_fields), lines=lines(model), **said)


def tagged(notebook: NotebookNode) -> int:
    """The place of the cell that papermill takes for the parameters."""
    return next(i for i, cell in enumerate(notebook.cells) if TAG in cell.metadata.get("tags", []))


def visible(notebook: NotebookNode) -> NotebookNode:
    """The code cell in which a person sees parameters."""
    place = tagged(notebook)
    return notebook.cells[place if notebook.cells[place].cell_type == "code" else place - 1]


def keep(path: Path) -> int:
    """Write the parameters of a notebook anew; how many its code cell shows."""
    notebook = nbformat.read(path, as_version=4)
    model, cell, seen = MODELS[path.stem], notebook.cells[tagged(notebook)], visible(notebook)
    names = re.findall(r"^(\w+):", seen.source, re.M)
    if cell is seen:  # it has them all
        names += [name for name in model.model_fields if name not in names]
    else:
        cell.source = fold(path.stem)
    seen.source = lines(model, names)
    nbformat.write(notebook, path)
    return len(seen.source.splitlines())


if __name__ == "__main__":
    for path in prepared.NOTEBOOKS:
        if path.stem in MODELS and (path.stem in sys.argv[1:] or not sys.argv[1:]):
            print(f"{path.stem}: {keep(path)} of {len(MODELS[path.stem].model_fields)} parameters in its cell")
