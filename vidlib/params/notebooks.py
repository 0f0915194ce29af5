"""Which parameters each notebook has, and which notebook a recipe belongs to: the one list that all share."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidlib.basics import paths
from vidlib.basics.errors import UserError
from vidlib.basics.words import closest
from vidlib.params import by_recipe, few_shot, recipes, tools, video_text
from vidlib.params.base import Params, plain_options

MODELS: dict[str, type[Params]] = {
    "ma_fsar": few_shot.MAFSARParams,
    "few_shot": by_recipe.FewShotNotebookParams,
    "your_method": by_recipe.YourMethodParams,
    "sloshnet": by_recipe.SloshNetParams,
    "gghm": by_recipe.GgHMParams,
    "comparison": by_recipe.ComparisonParams,
    "actionclip": video_text.ActionCLIPParams,
    "m2clip": video_text.M2CLIPParams,
    "worlds": tools.WorldParams,
    "your_videos": tools.PredictParams,
    "datasets": tools.DatasetsParams,
    "towers": tools.TowersParams,
    "intervals": tools.IntervalsParams,
    "explore": few_shot.ExploreParams,
}
NAMED = re.compile(r"papermill notebooks/(\w+)\.ipynb")


@dataclass(frozen=True)
class Request:
    """A notebook with its parameters: ``given`` by recipe and user, as plain values; ``params`` validated.

    ``recipe`` is a name that ``request`` takes, the notebook's own where it has its defaults; ``changes``: those of
    ``given`` that the user made to it. ``chosen``: whether the user, not the recipe, named the notebook.
    """

    notebook: str
    recipe: str
    given: Mapping[str, Any]
    changes: Mapping[str, Any]
    params: Params
    chosen: bool = False

    @property
    def source(self) -> Path:
        """The notebook's file."""
        return folder("notebooks") / f"{self.notebook}.ipynb"

    @property
    def determining(self) -> dict[str, Any]:
        """What was given, without what only says where it is done."""
        place = getattr(self.params, "PLACE", ())
        return {name: value for name, value in self.given.items() if name not in place}

    @property
    def arguments(self) -> list[str]:
        """What stands behind ``vidlib run`` for the same."""
        words = [self.recipe, *(["--notebook", self.notebook] if self.chosen else [])]
        pairs = [f"{name}={word(value)}" for name, value in self.changes.items()]
        return words + (["--set", *pairs] if pairs else [])


def folder(name: str) -> Path:
    """``notebooks`` or ``recipes`` of the checkout or the wheel; a UserError where vidlib is installed without."""
    place = paths.shipped() / name
    if not place.is_dir():
        raise UserError(f"vidlib is installed without its {name}/: pip install its wheel, or its checkout with -e")
    return place


def find_recipe(name: str) -> Path | None:
    """A recipe's file by its path or its short name, ``ma_fsar/laptop``; None where ``name`` is a notebook's."""
    given = paths.absolute(name)
    if given.is_file():
        return given
    short = name.removeprefix("recipes/").removesuffix(".yaml")
    root = folder("recipes")
    known = [file.relative_to(root).as_posix().removesuffix(".yaml") for file in sorted(root.glob("*/*.yaml"))]
    if short in known:
        return root / f"{short}.yaml"
    if name in MODELS:
        return None
    hint = closest(short, [*known, *MODELS])
    method = short.split("/")[0]
    inside = [name for name in known if name.startswith(f"{method}/")]
    if inside:
        hint += f"; of {method} there are {', '.join(inside)}"
    elif not hint:
        methods = sorted({name.split("/")[0] for name in known})
        hint = f"; notebooks are {', '.join(MODELS)}, recipes such as {known[0]} are there for {', '.join(methods)}"
    raise UserError(f"recipe: '{name}' is neither the file {given}, nor a recipe or notebook here{hint}")


def notebook_of(file: Path) -> str:
    """The notebook that a recipe names in its comment, else that of its folder's name; UserError where neither does."""
    named = NAMED.search("".join(line for line in file.read_text(encoding="utf-8").splitlines(True) if line[0] == "#"))
    name = named[1] if named else file.parent.name
    if not named and name in few_shot.METHOD_NAMES and name not in MODELS:
        name = "few_shot"
    if name not in MODELS:
        raise UserError(f"recipe {recipes.short(file)} names no notebook: say which with --notebook {'|'.join(MODELS)}")
    return name


def request(recipe: str, changes: Mapping[str, Any] | None = None, notebook: str = "") -> Request:
    """The notebook that ``recipe`` (a path, a short name, or a notebook's name) means, with ``changes`` to it.

    Values may be text, as a command line gives them. A UserError of one sentence names what is unknown or wrong.
    """
    if notebook and notebook not in MODELS:
        raise UserError(f"notebook: '{notebook}' is not one of {', '.join(MODELS)}{closest(notebook, list(MODELS))}")
    file = find_recipe(recipe)
    said: dict[str, Any] = {}
    if file is not None:
        said = dict(recipes.read(file))
    name = notebook or (notebook_of(file) if file else recipe)
    kind = MODELS[name]
    changes = {n: None if value == "None" and n in kind.left_open() else value for n, value in (changes or {}).items()}
    params = kind.parse({**said, **changes})
    plain = params.model_dump(mode="json")
    given = {key: value if value is None else plain[key] for key, value in {**said, **changes}.items()}
    for values in (said, changes):
        if "options" in values:  # the model's hold the recipe's beside
            given["options"] = plain_options(values["options"])
    shown = recipe
    if file is not None:
        root = folder("recipes")
        inside = file.is_relative_to(root)
        shown = file.relative_to(root).as_posix().removesuffix(".yaml") if inside else str(file)
    return Request(name, shown, given, {key: given[key] for key in changes}, params, bool(notebook))


def word(value: Any) -> str:
    """A value as a command line gives it."""
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def settings(pairs: list[str]) -> dict[str, str]:
    """``["shot=5", ...]`` as a dict; UserError where one is not of that form."""
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise UserError(f"'{pair}' is not of the form name=value, as in shot=5")
        found[name.strip()] = value.strip()
    return found
