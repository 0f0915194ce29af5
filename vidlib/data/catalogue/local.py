"""What a name stands for: a few-shot benchmark, or ``official:NAME``, a data set with standard splits."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vidlib.data.catalogue import benchmarks, official
from vidlib.data.manifest import Manifest, Row


@dataclass(frozen=True)
class Every:
    """All listed videos of a data set, as one published list."""

    family: str
    rows: tuple[Row, ...]


def load(name: str) -> Manifest:
    """The manifest of what is here: of a data set, its standard split 1."""
    if name.startswith(official.PREFIX):
        return official.load(name.removeprefix(official.PREFIX))
    return benchmarks.load(name)


def standard(name: str) -> tuple[dict[str, Any], dict[str, Every]]:
    """The facts of ``official:NAME`` in the form of a benchmark's, and its one list."""
    short = name.removeprefix(official.PREFIX)
    facts, rows = official.describe(short), official.every(short)
    counts: dict[str, Counter] = {}
    for row in rows:
        counts.setdefault(row.split, Counter())[row.cls] += 1
    classes = {
        s: [{"name": c, "text": None, "videos": n} for c, n in sorted(held.items())] for s, held in counts.items()
    }
    made = {"name": official.place(short), "title": facts.title, "where": facts.where, "classes": classes}
    made |= {"checksums": {"official": _checksums(rows)}, "id_length": 11 if short.startswith("kinetics") else None}
    return made, {"official": Every("official", rows)}


def _checksums(rows: tuple[Row, ...]) -> Mapping[str, str]:
    lines: dict[str, list[bytes]] = {}
    for row in rows:
        lines.setdefault(row.split, []).append(f"{row.video}\n".encode())
    return {split: hashlib.sha256(b"".join(sorted(held))).hexdigest() for split, held in lines.items()}
