"""What a user gives to be told: video files and folders, texts of classes, example videos; and a few to try it on."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vidlib.basics.digests import digest
from vidlib.basics.errors import UserError
from vidlib.basics.paths import LINKS, absolute, atomic_write, cache_dir, walk
from vidlib.basics.words import few, printable
from vidlib.data.folder import VIDEO_ENDINGS, list_videos, nfc
from vidlib.data.world import worlds

WORLD = "scene"
CHOSEN = ("a yellow cross", "four squares", "an orange square and a cyan cross", "a moon on a striped ground")
SHOTS, ASKED = 3, 2  # of each class: example videos, and videos to tell
BROKEN = "clip-0.mp4"


@dataclass(frozen=True)
class Demo:
    """A small folder of videos, one of them broken, and their classes: as texts, as example videos, and the truth."""

    videos: Path
    classes: str
    support: Path
    truth: dict[str, str]


def demo() -> Demo:
    """A few val clips of the embedded world, rendered into the cache under names that do not tell their class."""
    key = {"world": worlds.CHECKSUM[WORLD], "classes": CHOSEN, "videos": [SHOTS, ASKED]}
    root = cache_dir() / f"your_videos-{digest(key)[:8]}"
    files, truth = {}, {}
    for c, name in enumerate(CHOSEN):
        for i in range(SHOTS + ASKED):
            number = (i - SHOTS) * len(CHOSEN) + (c * 3 + i) % len(CHOSEN) + 1
            file = f"support/{name}/{i}.mp4" if i < SHOTS else f"videos/clip-{number}.mp4"
            if i >= SHOTS:
                truth[file.removeprefix("videos/")] = name
            files[root / file] = worlds.video(name, i)
    files[root / "videos" / BROKEN] = ""
    for file, clip in files.items():
        if not file.is_file():
            with atomic_write(file) as part:
                part.write_bytes(worlds.encoded(WORLD, clip) if clip else b"not a video")
    return Demo(root / "videos", ",".join(CHOSEN), root / "support", truth)


def list_files(given: Sequence[str | Path]) -> dict[Path, str]:
    """The files given, and the videos in the folders given and below; each with the name that a table shows.

    Links are followed. In folders hidden files and other endings than a video's are passed over; a file that is named
    is always tried, and so is a link that leads nowhere: it is told with the files that cannot be read.
    """
    listed: dict[Path, str] = {}
    for root in map(absolute, given):
        if not root.exists():
            raise UserError(f"videos: {root} does not exist; give a folder or files")
        inside, passed = _inside(root) if root.is_dir() else ([root], {})
        if not inside:
            said = few((f"{name}: {why}" for name, why in passed.items()), 3, "; ")
            also = f"; passed over: {said}" if said else ""
            raise UserError(f"videos: {root} holds no video files ({', '.join(sorted(VIDEO_ENDINGS))}); {LINKS}{also}")
        short = len(given) == 1 and root.is_dir()
        listed |= {file: shown(file.relative_to(root) if short else file) for file in inside}
    return listed


def _inside(root: Path) -> tuple[list[Path], dict[str, str]]:
    """The video files below a folder, sorted, and what cannot be read there with the reasons."""
    files, passed = [], {}
    for name, entry, why in walk(root):
        if os.path.splitext(name)[1].lower() in VIDEO_ENDINGS and (entry is None or entry.is_file()):
            files.append(root / name)
        elif why:
            passed[shown(Path(name))] = why
    return sorted(files), passed


def class_texts(given: str) -> tuple[str, ...]:
    """The texts in a file, one a line, or between commas."""
    path = absolute(given)
    if os.path.isfile(path):
        try:
            texts = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise UserError(f"classes: {path} is not text in UTF-8; write one class a line") from None
    elif given.endswith(".txt") or os.path.isdir(path):
        raise UserError(f"classes: {path} is not a file; give texts with commas between, or a file of one a line")
    else:
        texts = given.split(",")
    texts = [text.strip() for text in texts if text.strip()]
    return _distinct(texts, "classes", "give two or more, with commas between or one a line of a file")


def examples(root: str | Path) -> dict[str, list[Path]]:
    """class -> its example videos, from a folder with one directory of videos per class; names are the directories'."""
    root = absolute(root)
    form = "give a folder with one directory of example videos per class"
    if not root.is_dir():
        raise UserError(f"support: {root} {'is not a folder' if root.exists() else 'does not exist'}; {form}")
    inside = sorted((d for d in root.iterdir() if d.is_dir() and not d.name.startswith(".")), key=lambda d: nfc(d.name))
    by_class = {nfc(d.name): list_videos(d) for d in inside}
    _distinct(by_class, "support", form)
    for name, files in by_class.items():
        if not files:
            raise UserError(f"support: class {name!r} in {root} holds no video files; add some or remove the directory")
    return by_class


def _distinct(names: Sequence[str], what: str, right: str) -> tuple[str, ...]:
    if len(names) < 2:
        number = "1 class leaves" if len(names) == 1 else "no classes leave"
        raise UserError(f"{what}: {number} nothing to tell; {right}")
    if twice := [name for i, name in enumerate(names) if name in [*names][:i]]:
        raise UserError(f"{what}: {twice[0]!r} is given twice; give each class once")
    return tuple(names)


def shown(path: Path) -> str:
    """A path as text that can be printed, whatever bytes its name has."""
    return printable(str(path))
