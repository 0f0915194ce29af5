"""The benchmarks side by side: what each is, what of it lies on this machine, how long its clips are, what it asks.

Nothing is rendered; clips are decoded only where ``lengths`` is asked for a few of them.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vidlib.basics import paths
from vidlib.basics.errors import UserError
from vidlib.data.catalogue import entries, ledger, official
from vidlib.data.disk import lists
from vidlib.data.manifest import Manifest, Row
from vidlib.data.world import worlds

if TYPE_CHECKING:  # pandas, decoders and torch are imported where a function needs them: a list should come at once
    import pandas as pd

SAMPLED = 48  # clips of a benchmark whose frames are counted where no ledger of ``vidlib data check`` is there


def overview() -> "pd.DataFrame":
    """One row per benchmark: name, what, classes and videos of its splits as ``64/12/24`` (``?`` not stated),
    directional, frames, and ``here``: what of it lies on this machine."""
    import pandas as pd

    return pd.DataFrame([row(name) for name in entries.every()]).set_index("name")


def row(name: str) -> dict[str, object]:
    """A benchmark's row of ``overview``."""
    facts = entries.entry(name)
    number = {split: len(classes) for split, classes in facts.texts().items()}
    videos = facts.videos()
    if isinstance(facts, entries.Standard):
        what = "standard splits" if facts.standard_splits > 1 else "standard split"
        number = {"all": len(facts.classes)}
        videos = {split: n for split, n in videos.items() if not split[-1:].isdigit() or split.endswith("1")}
    else:
        what = "few-shot" if isinstance(facts, entries.FewShot) else "few-shot, rendered here"
    said = {"name": name, "what": what, "classes": _counts(number.values()), "videos": _counts(videos.values())}
    return said | {"directional": facts.directional, "frames": facts.frames, "here": here(name)}


def _counts(numbers: Iterable[int | None]) -> str:
    return "/".join("?" if n is None else str(n) for n in numbers)


def here(name: str) -> str:
    """In a few words: what of a benchmark lies on this machine. Nothing is rendered or decoded."""
    facts = entries.entry(name)
    if isinstance(facts, entries.World):
        return "rendered" if (worlds.folder(name) / "complete").is_file() else "nothing yet"
    standard = isinstance(facts, entries.Standard)
    data = paths.absolute(paths.data_dir())
    short = name.removeprefix(official.PREFIX)
    said: list[str] = []
    try:
        if standard:
            folder = data / short / "annotations"
            said = ["split files"] if folder.is_dir() and any(folder.iterdir()) else []
        else:
            families = list(lists.stored(name))
            said = [f"lists of {' and '.join(families)}"] if families else []
        manifest = official.load_any(name)
        there = Counter(row.split for row in manifest.rows)
        said.append("videos " + _counts(there[split] for split in manifest.listed))
    except UserError:  # nothing, or so that load refuses it; opening the benchmark says what is missing
        if next(iter(official.videos_under(data / short)), None):
            said.append("videos, not of every split" if standard else f"videos for vidlib data add {name}")
    return ", ".join(said) or "nothing"


def present(names: Iterable[str] = ()) -> dict[str, Manifest]:
    """Name -> manifest of every benchmark with videos here; a world is rendered where it is not yet."""
    found = {}
    for name in names or entries.every():
        try:
            found[name] = official.load_any(name)
        except UserError:
            continue
    return found


def coverage(found: dict[str, Manifest]) -> "pd.DataFrame":
    """One row per benchmark and split: classes, listed, present, and the share of the listed videos in per cent."""
    import pandas as pd

    rows = []
    for name, manifest in found.items():
        for row in manifest.coverage().table.to_dict("records"):
            share = 100 * row["present"] / row["listed"] if row["listed"] else 0.0
            kept = {key: row[key] for key in ("split", "classes", "listed", "present")}
            rows.append({"benchmark": name, **kept, "present (%)": share})
    return pd.DataFrame(rows).set_index(["benchmark", "split"])


def lengths(found: dict[str, Manifest]) -> "pd.DataFrame":
    """One row per clip whose length is known: benchmark, frames, source. All clips of a ledger of ``vidlib data check``
    that are good; else ``SAMPLED`` of the manifest, evenly from its rows, counted now."""
    import pandas as pd

    rows = []
    for name, manifest in found.items():
        checked = ledger.known(name, manifest.root).values()
        if checked:
            rows += [(name, line.frames, "ledger") for line in checked if line.state not in ("unreadable", "damaged")]
            continue
        picked = np.unique(np.linspace(0, len(manifest.rows) - 1, SAMPLED).astype(int))
        rows += [(name, _frames(manifest.path(manifest.rows[i])), f"{len(picked)} clips counted") for i in picked]
    table = pd.DataFrame(rows, columns=["benchmark", "frames", "source"])
    return table[table["frames"] > 0].reset_index(drop=True)


def _frames(file: Path) -> int:
    from vidlib.data import video

    try:
        return video.count_frames(file)
    except video.VideoError:
        return 0


def first_episode(
    name: str, split: str, way: int, shot: int, query: int, source: Path | None = None
) -> "pd.DataFrame | None":
    """Episode 0 of a few-shot benchmark, one row per class: class, text, supports, queries (video ids).

    From the local manifest where the split's videos are here, else from published lists (of the first family), kept or
    in ``source``; None where neither is: which videos an episode holds depends on the list.
    """
    import pandas as pd

    from vidlib.data.episodes import EpisodeSampler

    manifest = present([name]).get(name)
    if manifest is None:
        published = lists.known(name, source)
        if not published:
            return None
        rows: tuple[Row, ...] = next(iter(published.values())).rows
        texts = {cls: text or cls for same in entries.entry(name).texts().values() for cls, text in same.items()}
        manifest = Manifest(name, rows, Path(), {}, prompts=texts)
    episode = EpisodeSampler(manifest, split, way, shot, query, seed=0)[0]
    videos = manifest.videos(split)
    return pd.DataFrame(
        {
            "class": cls,
            "text": manifest.text(cls),
            "supports": ", ".join(videos[i].video for i in episode.support[episode.support_labels == k]),
            "queries": ", ".join(videos[i].video for i in episode.query[episode.query_labels == k]),
        }
        for k, cls in enumerate(episode.classes)
    )
