"""The YAML that people give: plain, small and flat. Recipes, options, splits and lists of classes need no more of it.

Anchors and aliases (a few bytes that mean gigabytes), tags, names given twice, names that are no text, deep nesting and
endless numbers are refused before anything is built of them.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from vidlib.basics.errors import UserError

LARGEST = 1 << 18  # characters: a recipe has some hundreds, the splits of 700 classes 20,000
DEEPEST = 6  # of lists and names within one another
LONGEST = 40  # digits of a number
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Plain(Loader):
    """Names are text, each given once."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if key.tag != "tag:yaml.org,2002:str":
                raise ValueError(f"line {line}: the name {key.value!r:.40} is no text: put it in quotes")
            if key.value in seen:
                raise ValueError(f"line {line}: {key.value!r:.40} is given twice: give it once")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def parse(text: str) -> Any:
    """What ``text`` says; ValueError, in words, where it is not plain, small, flat YAML."""
    if len(text) > LARGEST:
        raise ValueError(f"{len(text):,} characters are more than the {LARGEST:,} that are read")
    try:
        depth = 0
        for event in yaml.parse(text, Loader=Loader):
            line = event.start_mark.line + 1
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise ValueError(f"line {line}: more than {DEEPEST} lists and names lie within one another")
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise ValueError(f"line {line}: anchors (&name) and aliases (*name) are not read: write it out")
            if getattr(event, "tag", None):
                raise ValueError(f"line {line}: tags ({event.tag[:40]}) are not read: write the value alone")
            bare = isinstance(event, yaml.ScalarEvent) and event.style in (None, "")
            if bare and len(event.value) > LONGEST and re.fullmatch(r"[-+.\d_:eExX]+", event.value):
                raise ValueError(f"line {line}: a number of {len(event.value):,} characters; {LONGEST} are read")
        return yaml.load(text, _Plain)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read(file: Path, form: str = "") -> Any:
    """What a file says; a ``UserError`` that names it where it cannot be read (``form``: what it should be)."""
    try:
        if file.stat().st_size > 4 * LARGEST:  # bytes
            raise ValueError(f"{file.stat().st_size:,} bytes are too many")
        return parse(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        said = (error.strerror if isinstance(error, OSError) else "") or error
        raise UserError(f"{file} cannot be read as YAML: {said}" + (f"; {form}" if form else "")) from None
