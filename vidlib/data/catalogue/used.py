"""What of a benchmark a run really used, for its record: coverage, checksums, whether a list is a published one."""

from collections.abc import Sequence
from typing import Any

from vidlib.data.catalogue import benchmarks
from vidlib.data.manifest import Manifest

COUNTS = ("listed", "present")


def record(manifest: Manifest, bases: Sequence[Manifest] = ()) -> list[dict[str, Any]]:
    """For each split of ``manifest``: split, classes, listed, present, readable, used (videos), ``checksum`` of those
    rows, ``published`` (see below), ``left_out`` (file -> cause), ``of``.

    ``bases`` are the data sets that a protocol made ``manifest`` of. Where it divides or joins their videos anew, there
    is no published count of the split: ``listed`` and ``present`` are then those of the whole data set it comes from,
    and ``of`` says so. Of a manifest across data sets (``crossed``) ``of`` is the one that the split is of.
    """
    own = {line["split"]: line for line in manifest.coverage().table.to_dict("records")}
    lines = []
    for split in manifest.splits:
        lost = {video: (file, why) for video, (of, file, why) in manifest.left_out.items() if of == split}
        line = own[split] | _counts(manifest, bases, split, set(lost), own[split])
        line |= {"used": len(manifest.videos(split)), "checksum": manifest.checksum(split)}
        line |= {"of": source} if not bases and (source := manifest.source(split)) != manifest.name else {}
        lines.append(line | {"published": published(manifest, split), "left_out": dict(sorted(lost.values()))})
    return lines


def published(manifest: Manifest, split: str) -> list[str] | None:
    """Whose published list the split's videos are, all of them and no other; None where the data set has none."""
    if (name := manifest.source(split)) not in benchmarks.names():
        return None
    facts = benchmarks.describe(name)
    rows = [row._replace(video=row.video.removeprefix(f"{name}:")) for row in manifest.videos(split)]
    return benchmarks.published(facts, rows, split) if "checksums" in facts else None


def _counts(
    manifest: Manifest, bases: Sequence[Manifest], split: str, lost: set[str], own: dict[str, Any]
) -> dict[str, Any]:
    """``listed``, ``present``, and ``of`` what they count."""
    if not bases:
        return {name: own[name] for name in COUNTS} | {"of": f"split {split}"}
    ids = {row.video for row in manifest.videos(split)} | lost
    for base in bases:
        mark = f"{base.name}:"
        there = {row.video for row in base.videos(split)} if split in base.splits else set()
        if {video.removeprefix(mark) for video in ids} == there:
            line = next(line for line in base.coverage().table.to_dict("records") if line["split"] == split)
            return {"listed": line["listed"], "present": line["present"] - len(lost), "of": f"split {split}"}
    some = next(iter(ids))
    source = next((base for base in bases[1:] if some.startswith(f"{base.name}:")), bases[0])
    whole = source.coverage().table
    numbers = {"listed": int(whole["listed"].sum()), "present": int(whole["present"].sum()) - len(lost)}
    return numbers | {"of": source.name}
