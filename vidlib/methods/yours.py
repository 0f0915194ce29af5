"""A user's own method: ``FILE.py:CLASS``, loaded by path.

The content of that one file is what tells its runs apart, so it must stand alone: it imports installed packages, and
nothing that lies beside it.
"""

import ast
import importlib.util
import inspect
import sys
from pathlib import Path

from vidlib.basics import paths
from vidlib.basics.digests import file_digest
from vidlib.basics.errors import UserError
from vidlib.basics.words import suggest
from vidlib.methods.base import FewShotMethod


def is_file(name: str) -> bool:
    """Whether a method's name is a user's ``FILE.py:CLASS``."""
    return name.rpartition(":")[0].endswith(".py")


def split(name: str) -> tuple[Path, str]:
    """``FILE.py:CLASS`` -> the file, absolute, and the class's name; UserError where the file is absent."""
    file, _, cls = name.rpartition(":")
    path = paths.absolute(file)
    if not path.is_file():
        raise UserError(f"method: the file {path} does not exist; give FILE.py:CLASS")
    return path, cls


def load(name: str) -> type[FewShotMethod]:
    """The class that ``FILE.py:CLASS`` names; a file that changed is read again.

    UserError where the file is absent, cannot be run or does not stand alone, and where the class is absent, is no
    ``FewShotMethod`` or lacks ``embed`` or ``match``.
    """
    path, wanted = split(name)
    module = _module(path)
    cls = getattr(module, wanted, None)
    methods = [n for n, c in vars(module).items() if _is_method(c) and c.__module__ == module.__name__]
    if cls is None:
        otherwise = f"its methods are {', '.join(methods) or 'none'}"
        raise UserError(f"method: {path} has no class {wanted!r}; {suggest(wanted, methods, otherwise)}")
    if not _is_method(cls):
        raise UserError(f"method: {wanted!r} in {path} is no subclass of vidlib.methods.FewShotMethod; make it one")
    if inspect.isabstract(cls):
        lacking = " and ".join(sorted(cls.__abstractmethods__))
        raise UserError(f"method: {wanted!r} in {path} lacks {lacking}; vidlib.methods.FewShotMethod says what they do")
    return cls


def digest(name: str) -> str:
    """What tells the runs of ``FILE.py:CLASS`` apart: the file's content, wherever it lies."""
    return file_digest(split(name)[0])


def _is_method(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, FewShotMethod) and value is not FewShotMethod


def _module(path: Path) -> object:
    """The file as a module, run once for each content."""
    name = f"vidlib_yours_{file_digest(path)[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    _stands_alone(path)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and the like look themselves up there
    try:  # not by the loader, which takes a file of the same second and size for the one that it has compiled
        exec(compile(path.read_bytes(), str(path), "exec"), vars(module))
    except Exception as error:
        del sys.modules[name]
        line = next(
            (f.lineno for f in reversed(inspect.getinnerframes(error.__traceback__)) if f.filename == str(path)), 0
        )
        raise UserError(f"method: {path} cannot be run: {type(error).__name__} in line {line}: {error}") from error
    return module


def _stands_alone(path: Path) -> None:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 0
        raise UserError(f"method: {path} is not Python: {getattr(error, 'msg', error)} in line {line}") from None
    for node in ast.walk(tree):
        relative = isinstance(node, ast.ImportFrom) and node.level
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", "") or ""]
        for top in (n.partition(".")[0] for n in names if isinstance(node, (ast.Import, ast.ImportFrom))):
            beside = (
                top and top != "vidlib" and any((path.parent / p).exists() for p in (f"{top}.py", f"{top}/__init__.py"))
            )
            if relative or beside:
                raise UserError(
                    f"method: {path} imports {top or 'what lies beside it'} in line {node.lineno}; put all of it into "
                    "that one file, whose content alone tells its runs apart"
                )
