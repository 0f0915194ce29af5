"""What determines a run's result, and so its id; and what does not.

What computes enters by its source, what is read by its content, a parameter by its value. ``COMPUTING`` and ``EXEMPT``
divide the package; a test holds them against what the entry points import.
"""

import ast
import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidlib.basics.digests import PACKAGE, digest, file_digest

VERSION = 2  # of this scheme: 1 hashed all of vidlib's source, and no class text
COMPUTING = ("basics", "data", "layers", "matching", "backbones", "results", "training")  # and of methods one closure
EXEMPT = {
    "params": "values enter, ablations as the constructor arguments that they mean",
    "data/catalogue": "what it reads enters: the rows of each split, class texts, direction",
    "data/disk": "prepares what is read, and names what two data sets share: what is left of a split enters",
    "backbones/clip_mini/train.py": "made weights, which enter by content",
    "backbones/resnet_mini/train.py": "made weights, which enter by content",
    "methods/__init__.py": "names classes and their arguments; the class enters by source, the arguments by value",
    "methods/ablated.py": "names arguments, which enter by value",
    "methods/yours.py": "opens a user's file, which enters by content",
    "methods/released": "reads the papers' checkpoints; no run starts from one",
    "training/tracking.py": "copies what a run writes",
    "testing": "asks methods for their contract",
    "viz": "draws what is finished",
    "studies": "says what is finished",
    "cli": "starts runs and says what is finished",
}


@dataclass(frozen=True)
class Identity:
    """One run: ``values`` and ``contents`` (name -> digest) are hashed, ``params`` are recorded as they were given.

    ``values`` are plain JSON values, without paths. ``root``: the runs folder, None for the default.
    """

    label: str
    values: Mapping[str, Any]
    contents: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    root: str | None = None

    @property
    def id(self) -> str:
        """``<label>-<hash>``."""
        label = re.sub(r"[^A-Za-z0-9_]+", "_", self.label).strip("_") or "run"
        hashed = {"version": VERSION, "values": dict(self.values), "contents": dict(self.contents)}
        return f"{label}-{digest(hashed)[:16]}"


def sources(method: Path | None = None, package: Path = PACKAGE) -> list[Path]:
    """The files whose source determines a run of the method in the file ``method``: the computing rooms, that file
    where it is vidlib's own, and what it imports of ``methods/``. A user's file enters by content elsewhere."""
    files = {path for room in COMPUTING for path in (package / room).rglob("*.py")}
    files = {path for path in files if not exempt(path, package)}
    return sorted(files | (set(_in_methods(method, package)) if method else set()))


def exempt(path: Path, package: Path = PACKAGE) -> bool:
    """Whether a file of the package is left out of every identity."""
    name = path.relative_to(package).as_posix()
    return any(name == one or name.startswith(f"{one}/") for one in EXEMPT)


@functools.cache
def code_digest(method: Path | None = None, package: Path = PACKAGE) -> str:
    """Digest of ``sources``, read once in a process."""
    return digest([[path.relative_to(package).as_posix(), file_digest(path)] for path in sources(method, package)])


def _in_methods(method: Path, package: Path) -> Iterator[Path]:
    """``method`` where it is vidlib's, and what it imports of ``methods/`` at first or second hand, ``base`` always."""
    seen: set[Path] = set()
    todo = [method, package / "methods" / "base.py"]
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        if path.is_relative_to(package):
            yield path
        beside = (file for file in imported(path, package) if file.is_relative_to(package / "methods"))
        todo += [file for file in beside if not exempt(file, package)]


def imported(path: Path, package: Path = PACKAGE) -> set[Path]:
    """The files of the package that a file imports, at its head or inside a function."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    found = set()
    for parts in (name.split(".")[1:] for name in names if name.split(".")[0] == "vidlib"):
        place = package.joinpath(*parts)
        found |= {file for file in (place.with_suffix(".py"), place / "__init__.py") if parts and file.is_file()}
    return found
