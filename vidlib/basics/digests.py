"""Digests of JSON values, files, folders, and of vidlib's own source."""

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

from vidlib.basics.paths import files_under

PACKAGE = Path(__file__).resolve().parents[1]


def digest(value: Any) -> str:
    """sha256 of a JSON value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def file_digest(path: str | Path) -> str:
    """sha256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(path: str | Path, edge: int = 1 << 16) -> str:
    """Digest of a folder's files: relative names, sizes, first and last 64 KiB of each (a benchmark is large);
    linked ones count, hidden ones do not."""
    root, parts = Path(path), []
    for file in files_under(root):
        size = file.stat().st_size
        with open(file, "rb") as handle:
            content = hashlib.sha256(handle.read(edge))
            handle.seek(max(edge, size - edge))
            content.update(handle.read(edge))
        parts.append([file.relative_to(root).as_posix(), size, content.hexdigest()])
    return digest(parts)


@functools.cache
def package_digest(package: Path = PACKAGE) -> str:
    """Digest of all of vidlib's own source; read once in a process."""
    return digest([[p.relative_to(package).as_posix(), file_digest(p)] for p in sorted(package.rglob("*.py"))])
