"""A fake disk and fake lists, in the forms that users of the benchmarks have them; the files are empty or tiny."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vidlib.data.catalogue import benchmarks
from vidlib.data.manifest import Row


@dataclass(frozen=True)
class Listed:
    """What ``lists.read`` gives for one family."""

    family: str
    rows: tuple[Row, ...]


HMDB_IDS = (  # forms that HMDB51's names have
    "{c}ing_in_the_rain_(2004)_{c}_u_nm_np1_ba_med_{i}",
    "#{i}22_{c}_ups_f_nm_np1_ri_goo_{i}",
    "Bücher & more;_{c}_{i}",
    "prelinger_[{c}]!_cm_np1_le_bad_{i}",
)


def ids(name: str, cls: str, number: int) -> list[str]:
    """Video ids as they look in each benchmark."""
    if name == "kinetics100":
        return [f"{'-_'[i % 2]}{abs(hash_of(cls)) % 10**6:06}Ab{i:02}" for i in range(number)]
    if name.startswith("ssv2"):
        return [str(1000 * (hash_of(cls) % 200_000) + i) for i in range(number)]
    if name == "ucf101":
        return [f"v_{cls}_g{i // 4 + 1:02}_c{i % 4 + 1:02}" for i in range(number)]
    return [HMDB_IDS[i % 4].format(c=cls, i=i) for i in range(number)]


def hash_of(text: str) -> int:
    return sum(ord(c) * 31**k for k, c in enumerate(text))


def published(name: str, classes: int = 3, videos: int = 5, family: str = "trx") -> Listed:
    """A list of the first ``classes`` of each split of a benchmark, ``videos`` of each."""
    rows = []
    for split, entries in benchmarks.describe(name)["classes"].items():
        for entry in entries[:classes]:
            rows += [Row(f"{entry['name']}/{i}", entry["name"], split) for i in ids(name, entry["name"], videos)]
    return Listed(family, tuple(rows))


def identity(row: Row) -> str:
    return row.video.removeprefix(f"{row.cls}/")


def lay(root: Path, names: Sequence[str], content: bytes = b"x") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
