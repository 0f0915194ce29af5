"""What no source settles, and what a person who has the paper entered: ``vidlib/methods/open_choices.yaml``.

A value that is entered there becomes the default of its constructor argument (``vidlib.methods.arguments``, ``build``),
the words beside it become "the paper, p. N", and recipes of published cells follow. The file's head says how.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from vidlib.basics.digests import PACKAGE
from vidlib.basics.errors import UserError
from vidlib.basics.words import suggest
from vidlib.params.few_shot import METHOD_NAMES
from vidlib.params.video_text import VIDEO_TEXT_NAMES

FILE = PACKAGE / "methods" / "open_choices.yaml"
NAMES = (*METHOD_NAMES, *VIDEO_TEXT_NAMES)
OF_RUNS = {"mix_weight": "mix"}  # an argument -> the parameter of runs and recipes that gives it


@dataclass(frozen=True)
class Choice:
    """One open choice: the value ``here``, what is ``known``, where to ``look``; a paper's ``value`` and ``page``."""

    here: Any
    known: str
    look: str
    value: Any = None
    page: int | str | None = None

    @property
    def entered(self) -> bool:
        return self.page is not None

    @property
    def words(self) -> str:
        return f"the paper, p. {self.page}" if self.entered else self.known


def of(method: str) -> Mapping[str, Choice]:
    """The open choices of a method by argument; none of a user's own. UserError where the file is not as it should."""
    return _read(FILE, FILE.stat().st_mtime_ns).get(method, {})


def values(method: str) -> dict[str, Any]:
    """What was entered: argument -> the paper's value."""
    return {argument: choice.value for argument, choice in of(method).items() if choice.entered}


def listed(kind: type, sources: Mapping[str, str], taken: Mapping[str, Any]) -> list[tuple[str, Any, str]]:
    """(argument, value taken, words) of a method's class; a value other than the one entered is said to be another."""
    paper = values(name_of(kind))
    rows = [(argument, taken[argument], words) for argument, words in sources.items() if argument in taken]
    other = {argument for argument, value, _ in rows if argument in paper and _plain(paper[argument]) != _plain(value)}
    return [(a, value, f"{words}, has {paper[a]!r}" if a in other else words) for a, value, words in rows]


def in_recipe(method: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's values with what was entered in their place; what a recipe does not name is no business of its."""
    said, options = dict(said), said.get("options")
    for argument, value in values(method).items():
        if OF_RUNS.get(argument, argument) in said:
            said[OF_RUNS.get(argument, argument)] = value
        elif isinstance(options, Mapping) and argument in options:
            said["options"] = options = {**options, argument: value}
    return said


def name_of(kind: type) -> str:
    """The name of the method that a class is, or extends; "" where it is none of vidlib's: one file, one method."""
    modules = (each.__module__.rpartition(".") for each in kind.__mro__)
    return next((name for room, _, name in modules if room == "vidlib.methods" and name in NAMES), "")


class Sources:
    """The class attribute ``sources``: argument -> words, of the class that is asked."""

    def __get__(self, method: object, kind: type) -> dict[str, str]:
        return {argument: choice.words for argument, choice in of(name_of(kind)).items()}


@functools.lru_cache(maxsize=2)
def _read(file: Path, changed: int) -> dict[str, dict[str, Choice]]:
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(found, Mapping) or not all(isinstance(lines, Mapping) for lines in found.values()):
        raise UserError(f"{file} should hold methods, and below each its arguments; its head says how")
    for method in found:
        if method not in NAMES:
            raise UserError(f"{file}: {method!r} is no method; {suggest(method, NAMES)}")
    return {m: {str(a): _choice(f"{file}: {m}, {a}", line) for a, line in lines.items()} for m, lines in found.items()}


def _choice(where: str, line: Any) -> Choice:
    known = ("here", "known", "look", "value", "page")
    if not isinstance(line, Mapping) or not set(known[:3]) <= set(line):
        raise UserError(f"{where}: a choice has here, known and look, and from who has the paper value and page")
    for key in line:
        if key not in known:
            raise UserError(f"{where} has an entry {key!r}; {suggest(key, known)}")
    choice = Choice(**{**line, "known": str(line["known"]), "look": str(line["look"])})
    if choice.page is None and choice.value is None:
        return choice
    if choice.page is None or "value" not in line:
        raise UserError(f"{where}: a value and the page of the paper go together; give both, or neither")
    if isinstance(choice.page, bool) or not isinstance(choice.page, int | str) or choice.page in ("", 0):
        raise UserError(f"{where}: page {choice.page!r} is not a page, as in page: 5")
    if choice.here is not None and not _alike(choice.value, choice.here):
        raise UserError(f"{where}: value {choice.value!r} is of another kind than {choice.here!r}, the value here")
    return replace(choice, value=float(choice.value)) if isinstance(choice.here, float) else choice


def _alike(value: Any, here: Any) -> bool:
    number = isinstance(here, float) and isinstance(value, int) and not isinstance(value, bool)
    return number or type(value) is type(here)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
