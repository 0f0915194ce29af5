"""What stands before the slash in a published list: a class of the catalogue, or a label such as ``train12``.

A label is resolved by the class folder in its videos' paths, by videos that another family lists under a class name, or
by its number in the catalogue's order of classes. Ways that contradict each other are reported.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vidlib.basics.errors import UserError
from vidlib.basics.words import closest
from vidlib.data.catalogue.entries import FewShot
from vidlib.data.disk.list_files import ANONYMOUS, Line
from vidlib.data.manifest import Row, normalised

FOLDER, SHARED, ORDER, NOWHERE = "class folder", "shared videos", "catalogue's order", "unresolved"


@dataclass(frozen=True)
class Resolved:
    """``cls``: the class as the catalogue names it; ``text``: in words, None where no source has it; ``way``: how the
    class was found (``class folder``, ``shared videos``, ``catalogue's order``, or ``unresolved``)."""

    cls: str
    text: str | None
    way: str


def resolve(
    facts: FewShot, lines: Mapping[str, list[Line]], others: Mapping[str, Iterable[Row]]
) -> tuple[dict[str, Resolved], list[str]]:
    """Label -> its class, for the anonymous labels of one family's lists; and, in words, where sources contradict.

    Args:
        lines: split -> lines.
        others: family -> rows with class names, of the same benchmark.

    UserError: a class that is not of the protocol or stands in another split's list, a label whose videos lie in two
    classes, two labels of one class, a label beyond the number of classes.
    """
    names = {normalised(cls.name): (cls.name, split) for split, classes in facts.classes.items() for cls in classes}
    known = {row.video.removeprefix(f"{row.cls}/"): row for rows in others.values() for row in rows}
    labels: dict[str, Resolved] = {}
    said: list[str] = []
    for split, found in lines.items():
        groups: dict[str, list[Line]] = defaultdict(list)
        for line in found:
            groups[line.label].append(line)
        texts = facts.texts()[split]
        for label, group in groups.items():
            anonymous = ANONYMOUS.fullmatch(label)
            if not anonymous:
                _check_class(label, split, names, group[0].place, facts)
                continue
            number = int(anonymous[2])
            if number >= len(texts):
                raise UserError(
                    f"{group[0].place}: label {label!r} is beyond the {len(texts)} {split} classes of {facts.name} "
                    f"({split}0 to {split}{len(texts) - 1}); is this another benchmark's list?"
                )
            ways = {
                FOLDER: _by_folder(label, group, split, names, facts),
                SHARED: _by_videos(label, group, split, known),
                ORDER: _by_order(facts, split, number),
            }
            ways = {way: cls for way, cls in ways.items() if cls is not None}
            way, cls = next(iter(ways.items()), (NOWHERE, label))
            labels[label] = Resolved(cls, texts.get(cls), way)
            said += [f"{label} is {cls!r} by {way}, but {c!r} by {w}" for w, c in ways.items() if c != cls]
    for cls, number in Counter(found.cls for found in labels.values()).items():
        if number > 1:
            same = [label for label, found in labels.items() if found.cls == cls]
            raise UserError(f"labels {' and '.join(same)} are both {cls!r} of {facts.name}; fetch the lists again")
    return labels, said


def _check_class(cls: str, split: str, names: Mapping[str, tuple[str, str]], place: str, facts: FewShot) -> None:
    known = names.get(normalised(cls))
    if known is None:
        near = closest(cls, tuple(name for name, _ in names.values()))
        raise UserError(f"{place}: {cls!r} is no class of {facts.name}{near}; is this another benchmark's list?")
    if known[1] != split:
        raise UserError(f"{place}: {known[0]!r} is a {known[1]} class of {facts.name}, but stands in a list of {split}")


def _by_folder(
    label: str, group: list[Line], split: str, names: Mapping[str, tuple[str, str]], facts: FewShot
) -> str | None:
    """The class whose name the videos' folder bears; None where the folders are no classes (one folder of videos)."""
    folders = {line.folder: line.place for line in group if line.folder is not None}
    if not any(normalised(folder) in names for folder in folders):
        return None
    for folder, place in folders.items():
        _check_class(folder, split, names, place, facts)
    classes = {names[normalised(folder)][0]: place for folder, place in folders.items()}
    if len(classes) > 1:
        (one, _), (two, place) = list(classes.items())[:2]
        raise UserError(f"{place}: label {label!r} stands for two class folders, {one!r} and {two!r}; fetch it again")
    return next(iter(classes))


def _by_videos(label: str, group: list[Line], split: str, known: Mapping[str, Row]) -> str | None:
    """The class of more than half of the videos that another family has in this split; ``compare`` names the rest."""
    there = Counter(row.cls for row in (known.get(line.video) for line in group) if row and row.split == split)
    for cls, number in there.most_common(1):
        if 2 * number <= there.total():
            raise UserError(
                f"{group[0].place}: videos of label {label!r} have {len(there)} classes in another list, none of them "
                "more than half; fetch the lists again"
            )
        return None if ANONYMOUS.fullmatch(cls) and cls != label else cls
    return None


def _by_order(facts: FewShot, split: str, number: int) -> str | None:
    order = facts.label_order.get(split, range(len(facts.classes[split])) if facts.labels else None)
    return facts.classes[split][order[number]].name if order is not None else None
