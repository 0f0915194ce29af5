"""Texts of classes that a user gives: a YAML file of ``class: text`` or ``class: [text, text]``."""

from collections.abc import Collection, Iterable
from pathlib import Path

from vidlib.basics import plain_yaml
from vidlib.basics.errors import UserError
from vidlib.basics.words import closest, few

FORM = "write class: text, or class: [text, text]"


def read(file: str, known: Collection[str]) -> dict[str, tuple[str, ...]]:
    """class -> its descriptions; UserError: no such file, another form, a class that is none of ``known``."""
    path = Path(file)
    if not path.is_file():
        raise UserError(f"texts: the file {path} does not exist")
    said = plain_yaml.read(path, FORM)
    if not isinstance(said, dict):
        raise UserError(f"texts: {path} does not map classes to texts; {FORM}")
    found = {cls: _texts(path, cls, given) for cls, given in said.items()}
    for cls in found:
        if cls not in known:
            raise UserError(f"texts: {path} describes {cls!r}, which is no class of the data{closest(cls, known)}")
    return found


def refuse_missing(file: str, given: Collection[str], used: Iterable[str]) -> None:
    """UserError where a class of ``used`` is not among those that the file gave texts."""
    if missing := sorted(set(used) - set(given)):
        raise UserError(f"texts: {file} lacks {len(missing)} of the classes: {few(missing)}; describe each of them")


def _texts(path: Path, cls: str, given: object) -> tuple[str, ...]:
    texts = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list) else ()
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise UserError(f"texts: {path} gives class {cls!r} no text ({given!r:.60}); {FORM}")
    return texts
