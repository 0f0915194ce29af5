"""Episodes across data sets: trained and selected on one, tested on the novel classes of another."""

from collections.abc import Collection
from dataclasses import dataclass, fields

from vidlib.basics.errors import UserError
from vidlib.basics.words import few
from vidlib.data.manifest import Manifest
from vidlib.data.protocols import merged

LEARNT = ("train", "val")  # the splits that a run trains and selects on


@dataclass(frozen=True)
class Crossed(Manifest):
    """Train and val of one data set, test of another: ``overlap`` names the classes and videos of that test split that
    train or val hold too."""

    overlap: tuple[str, ...] = ()


def cross(manifest: Manifest, other: Manifest, shared: Collection[str], remove: bool) -> Crossed:
    """``manifest``'s train and val with the test split of ``other``; ``shared``: its test classes that are in those.

    Where no name is in both, the test split keeps its ids and so its checksum: its episodes are those that ``other``'s
    own runs meet. UserError where every class is shared and to be removed.
    """
    own = [row for split in LEARNT if split in manifest.splits for row in manifest.videos(split)]
    tested = [row for row in other.videos("test") if not (remove and row.cls in shared)]
    if not tested:
        raise UserError(
            f"test_dataset: every test class of {other.name} is one that {manifest.name} trains or selects on; give "
            "another data set, or remove_overlap false to test on them all the same"
        )
    taken = {name for row in own for name in (row.video, row.cls)}
    mark = f"{other.name}:" if any(name in taken for row in tested for name in (row.video, row.cls)) else ""
    made = merged(manifest, own, other, tested, mark)
    listed = {split: manifest.listed[split] for split in LEARNT if split in manifest.listed}
    if "test" in other.listed:
        listed["test"] = {mark + cls: n for cls, n in other.listed["test"].items() if not (remove and cls in shared)}
    lost = {video: why for video, why in manifest.left_out.items() if why[0] in LEARNT}
    lost |= {mark + video: why for video, why in other.left_out.items() if why[0] == "test"}
    every = {f.name: getattr(made, f.name) for f in fields(made)} | {"listed": listed, "left_out": lost}
    return Crossed(**every, overlap=tuple(sorted(shared)))


def shared_line(made: Crossed, videos: Collection[str], remove: bool) -> str:
    """What train or val and the test split of a crossed manifest share, and what was done with it, in a sentence."""
    classes, what = made.overlap, "left out" if remove else "kept"
    parts = [f"{len(classes)} of its classes"] * bool(classes) + [f"{len(videos)} of its other videos"] * bool(videos)
    met = f"{' and '.join(parts)} are in both and {what}: {few([*classes, *sorted(videos)])}"
    met = met if parts else "no class name and no video is in both"
    return f"Trained and selected on {made.sources['train']}, tested on {made.sources['test']}; {met}."
