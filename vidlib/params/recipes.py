"""Recipes, as files: which one belongs to a method on a data set, and what it says.

``recipes/<method>/<dataset>_<shot>shot.yaml`` is a published table cell, ``recipes/<method>/motion.yaml`` the method's
small recipe for the embedded worlds, which also serves a user's folder. A user's method has its start values in
``recipes/your_method/``.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidlib.basics import paths, plain_yaml
from vidlib.basics.errors import UserError
from vidlib.params import open_choices
from vidlib.params.names import WORLDS

SMALL, YOURS = "motion", "your_method"


def find(method: str, dataset: str, shot: int) -> Path | None:
    """The recipe of ``method`` for ``dataset`` and ``shot``; None where it has none."""
    folder = paths.shipped() / "recipes" / (YOURS if not method or ":" in method else method)
    names = [f"{dataset}_{shot}shot", dataset]
    if small(dataset):
        names = [dataset.partition(":")[0], SMALL]
    found = (folder / f"{name}.yaml" for name in names)
    return next((file for file in found if file.is_file()), None)


def read(file: Path) -> Mapping[str, Any]:
    """What a recipe says, that of a published cell with what was entered in ``open_choices.yaml``; a UserError where it
    holds no parameters."""
    form = "it should be lines of 'name: value'"
    values = plain_yaml.read(file, form)
    if not isinstance(values, dict):
        raise UserError(f"{file} holds no parameters: {form}")
    cell = not small(str(values.get("dataset", SMALL)))
    return open_choices.in_recipe(file.parent.name, values) if cell else values


def small(dataset: str) -> bool:
    """Whether ``dataset`` is an embedded world or a user's folder, which the small recipes serve."""
    return dataset in WORLDS or dataset.startswith("folder:")


def command(file: Path) -> str:
    """The line that runs a recipe, from its first comment; "" where that names none."""
    head = "".join(line for line in file.read_text(encoding="utf-8").splitlines(keepends=True) if line.startswith("#"))
    named = re.search(r"papermill notebooks/\S+ \S+ .*-f \S+", head)
    return named[0] if named else ""


def short(file: Path) -> str:
    """A recipe's name as it is printed: its path in the checkout or the wheel."""
    root = paths.shipped()
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name
