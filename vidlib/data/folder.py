"""A user's own videos: one directory per class, classes split by a seed or by a file."""

import hashlib
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from vidlib.basics import plain_yaml
from vidlib.basics.errors import UserError
from vidlib.basics.paths import absolute
from vidlib.data.manifest import SPLITS, Manifest, Row, refuse_all_broken, unreadable_because

VIDEO_ENDINGS = frozenset(
    ".3gp .asf .avi .flv .gif .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .vob .webm .wmv".split()
)
NEEDED = 2  # classes that a split must hold: an episode tells at least two classes apart
FORM = "write {train: [class, ...], val: [class, ...], test: [class, ...]}"
SPLIT_NAMES = {"train": "train", "training": "train", "test": "test", "testing": "test"}
SPLIT_NAMES |= dict.fromkeys(("val", "valid", "validation", "dev"), "val")
FOLDERS = "folders"  # in splits.yaml: the splits are the folders above the classes
AGAIN = " (again)"  # ends the name of a training video that val holds, too
GIVE = "give folder:PATH where PATH holds one directory of videos per class"


def from_folder(
    path: str | Path,
    seed: int = 0,
    splits_yaml: str | Path | None = None,
    *,
    way: int = NEEDED,
    need: tuple[int, int] = (NEEDED, NEEDED),
) -> Manifest:
    """A manifest of a user's own clips: ``path`` holds one directory per class, each with video files.

    Hidden files and directories are passed over, and so are files whose ending is not in VIDEO_ENDINGS. The classes
    are split by ``splits_yaml`` (default: ``splits.yaml`` in the folder, where there is one; ``{train: [class, ...],
    val: [...], test: [...]}``, classes in none of them are left out), else by ``split_classes(classes, seed, ...)``.
    Where no class is left for val, a third of each training class's videos becomes val, or as many as an episode takes:
    selection then sees training classes, while test stays novel. ``need`` is how many videos of a class an episode of
    train takes, and one of val; where too few for both are there, val holds the training videos again (``borrowed``),
    to be looked at, not to select on.

    Folders of splits (train, val, test) above the class directories are read so where ``splits.yaml`` is the one word
    ``folders``; else a UserError offers it. Where train and test share classes and val is absent, it stays so unless a
    class has no more than ``need`` videos: a protocol cuts it from train.

    Raises UserError: no such folder, no class directory, a class without videos, no clip that can be decoded, fewer
    than four classes, a splits file that is not of that form or names an absent class or a class twice.
    """
    root = absolute(path)
    if over := _split_folders(root):
        return _from_split_folders(root, over, way, need)
    clips = _class_videos(root)
    _check_some_decode(root, clips)
    file = absolute(splits_yaml) if splits_yaml else root / "splits.yaml"
    splits = _read_splits(file, clips) if splits_yaml or file.is_file() else split_classes(clips, seed, str(root), way)
    rows, files, note = [], {}, []
    for split, names in splits.items():
        for cls in names:
            for clip in clips[cls]:
                video = f"{cls}/{nfc(clip.name)}"
                rows.append(Row(video, cls, split))
                files[video] = clip.relative_to(root).as_posix()
    if left := sorted(set(clips) - {row.cls for row in rows}):
        note.append(f"Classes in no split of {file.name}, left out: {', '.join(left)}.")
    if not splits["val"]:
        rows, files, said = _with_val(rows, files, way, need)
        note.append(said)
    prompts = {cls: readable(cls) for cls in clips}
    return Manifest(f"folder:{root.name}", tuple(rows), root, files, prompts=prompts, note=" ".join(note))


def _split_folders(root: Path) -> dict[str, Path]:
    """split -> its folder, where ``root`` holds folders named for splits, with class directories in them."""
    inside = _folders(root) if root.is_dir() else []
    over = {SPLIT_NAMES.get(d.name.lower(), ""): d for d in inside}
    deep = all(any(map(list_videos, _folders(d))) for d in inside)
    return over if "" not in over and "train" in over and 1 < len(over) == len(inside) and deep else {}


def _from_split_folders(root: Path, over: Mapping[str, Path], way: int, need: tuple[int, int]) -> Manifest:
    """The splits as the folders say, where splits.yaml asks for it; else the UserError that offers so."""
    names, clips = ", ".join(d.name for d in over.values()), {split: _class_videos(d) for split, d in over.items()}
    file = root / "splits.yaml"
    if not file.is_file() or file.read_text(encoding="utf-8", errors="replace").strip() != FOLDERS:
        held = ", ".join(f"{over[split].name} {len(found)}" for split, found in clips.items())
        raise UserError(
            f"dataset folder {root} holds the folders of splits above the class directories (classes: {held}); to read "
            f"them as the splits, write the one word {FOLDERS} into {file}; to draw splits anew from one of them, give "
            f"folder:{over['train']}"
        )
    if "test" not in over:
        raise UserError(f"dataset folder {root}: of {names} none is test; add it")
    rows, files = [], {}
    for split, found in clips.items():
        _check_some_decode(over[split], found)
        for cls, videos in found.items():
            for clip in videos:
                rows.append(Row(f"{over[split].name}/{cls}/{nfc(clip.name)}", cls, split))
                files[rows[-1].video] = clip.relative_to(root).as_posix()
    note = [f"Splits are those of the folders {names}."]
    fewest = min(map(len, clips["train"].values()))
    standard = clips["train"].keys() & clips["test"].keys() and fewest > need[0]
    if "val" not in over and not standard:  # of standard splits a protocol cuts val, a smaller one
        rows, files, said = _with_val(rows, files, way, need)
        note.append(said)
    prompts = {row.cls: readable(row.cls) for row in rows}
    return Manifest(f"folder:{root.name}", tuple(rows), root, files, prompts=prompts, note=" ".join(note))


def _with_val(rows: list[Row], files: dict[str, str], way: int, need: tuple[int, int]) -> tuple[list, dict, str]:
    """Rows and files with a val split cut from the training videos, or holding them again, and which in words."""
    own = _val_from_train(rows, *need)
    if len({row.cls for row in own if row.split == "val"}) >= way:
        rows, held = own, "every third video of each training class, or as many as an episode takes"
    else:
        again = [row._replace(video=f"{row.video}{AGAIN}", split="val") for row in rows if row.split == "train"]
        files = files | {row.video: files[row.video.removesuffix(AGAIN)] for row in again}
        rows, held = rows + again, "the training videos again, to look at and not to select on"
    return rows, files, f"No classes are left for val: it holds {held}."


def borrowed(manifest: Manifest) -> bool:
    """Whether val holds the training videos again, because too few are there to be divided."""
    return "val" in manifest.splits and any(row.video.endswith(AGAIN) for row in manifest.videos("val"))


def split_classes(
    classes: Iterable[str], seed: int, where: str = "the folder", way: int = NEEDED
) -> dict[str, list[str]]:
    """Divide classes into disjoint train, val and test: novel classes are met in test only.

    The classes are ordered by the sha256 of ``seed<TAB>class``, so neither platform nor listing matters. The first of
    them are test, as many again val, the rest train: a third each, but no more than five, or a fifth of all where
    that is more (train/val/test of 6 classes: 2/2/2, 15: 5/5/5, 24: 14/5/5, 100: 60/20/20). Four or five classes
    leave no val: 2 are test, the rest train. Where ``way`` classes are more than that, as many are test, as far as half
    of all allow, and val is left out where it would have fewer. With fewer than four, no two classes would be novel:
    UserError.
    """
    order = sorted(classes, key=lambda cls: hashlib.sha256(f"{seed}\t{cls}".encode()).hexdigest())
    if len(order) < 2 * NEEDED:
        raise UserError(
            f"dataset folder {where} has only {len(order)} class{'es' * (len(order) != 1)} "
            f"({', '.join(sorted(order))}); few-shot evaluation on novel classes needs at least 4 class directories, "
            "two to train on and two others to test on"
        )
    test = max(NEEDED, min(len(order) // 3, 5), len(order) // 5)
    test = max(test, min(way, len(order) // 2))
    val = test if len(order) >= 3 * test else 0
    parts = {"train": order[test + val :], "val": order[test : test + val], "test": order[:test]}
    return {split: sorted(names) for split, names in parts.items()}


def list_videos(directory: Path) -> list[Path]:
    """The video files directly in a directory, sorted by name; hidden files and other endings are passed over;
    links are followed, and one that leads nowhere is listed, as a file that cannot be read."""
    found = (f for f in _inside(directory) if f.suffix.lower() in VIDEO_ENDINGS and not f.name.startswith("."))
    return sorted((f for f in found if f.is_file() or not f.exists()), key=lambda f: nfc(f.name))


def _folders(root: Path) -> list[Path]:
    """The folders in a folder, hidden ones and the file system's own apart."""
    return [d for d in _inside(root) if d.is_dir() and not d.name.startswith(".") and d.name != "lost+found"]


def _inside(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except OSError as error:
        raise UserError(f"{directory} cannot be listed ({error.strerror or error}); mend it or move it away") from None


def readable(name: str) -> str:
    """A class directory's name as words: ``brush_hair`` -> brush hair, ``ApplyEyeMakeup`` -> apply eye makeup."""
    words = re.sub(r"[_\s]+", " ", name).strip()
    camel = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", words)
    return camel.lower() if camel != words else words


def nfc(name: str) -> str:
    """Unicode composed form: the same name on file systems that store it decomposed; bytes that are not UTF-8 are read
    as Latin-1, which most of them are, so that ids and class texts are text whatever a file is called."""
    if not name.isascii() and any("\udc80" <= letter <= "\udcff" for letter in name):
        name = os.fsencode(name).decode("latin-1")
    return unicodedata.normalize("NFC", name)


def _class_videos(root: Path) -> dict[str, list[Path]]:
    """class -> its video files, classes sorted; a class without videos is an error."""
    if not root.is_dir():
        raise UserError(f"dataset folder {root} {'is not a folder' if root.exists() else 'does not exist'}; {GIVE}")
    found = sorted(_folders(root), key=lambda d: nfc(d.name))
    if lost := [d.name for d in root.iterdir() if not d.exists() and d.suffix.lower() not in VIDEO_ENDINGS]:
        raise UserError(f"dataset folder {root}: the link {sorted(lost)[0]!r} leads nowhere; mend it or remove it")
    if not found:
        raise UserError(f"dataset folder {root} holds no class directories; {GIVE}")
    clips: dict[str, list[Path]] = {}
    for directory in found:
        if clips.setdefault(nfc(directory.name), own := list_videos(directory)) is not own:
            raise UserError(f"dataset folder {root} has two directories of class {nfc(directory.name)!r}; join them")
    for directory in found:
        if not clips[nfc(directory.name)]:
            raise UserError(
                f"class {directory.name!r} is empty: {directory} holds no video files "
                f"({', '.join(sorted(VIDEO_ENDINGS))}); add some or remove the directory"
            )
    return clips


def _check_some_decode(root: Path, clips: Mapping[str, list[Path]]) -> None:
    """Raise UserError unless some clip decodes: one clip of each class in turn, up to the first that does."""
    failed: list[tuple[Path, str]] = []
    for turn in range(max(map(len, clips.values()))):
        for files in clips.values():
            if turn < len(files):
                cause = unreadable_because(files[turn])
                if not cause:
                    return
                failed.append((files[turn], cause))
    refuse_all_broken("dataset folder", root, len(failed), *failed[0])


def _read_splits(path: Path, clips: Mapping[str, object]) -> dict[str, list[str]]:
    if not path.is_file():
        raise UserError(f"splits file {path} does not exist; {FORM}")
    read = plain_yaml.read(path, FORM)
    if not isinstance(read, dict) or not all(isinstance(v, list) or v is None for v in read.values()):
        raise UserError(f"splits file {path} does not map splits to lists of classes; {FORM}")
    if unknown := [split for split in read if split not in SPLITS]:
        raise UserError(f"splits file {path} names the split {str(unknown[0])!r}; {FORM}")
    if odd := [cls for names in read.values() for cls in names or () if not isinstance(cls, str)]:
        raise UserError(f"splits file {path}: the class {odd[0]!r:.40} is no text: put it in quotes; {FORM}")
    splits = {split: sorted(map(nfc, read.get(split) or [])) for split in SPLITS}
    placed: dict[str, str] = {}
    for split, names in splits.items():
        for cls in names:
            if cls not in clips:
                raise UserError(
                    f"splits file {path} names class {cls!r} in {split}, which has no directory in the dataset folder; "
                    f"the classes there are {', '.join(clips)}"
                )
            if cls in placed:
                raise UserError(
                    f"splits file {path} names class {cls!r} in {placed[cls]} and again in {split}; "
                    "name a class once, or test classes would not be novel"
                )
            placed[cls] = split
    for split in ("train", "test"):
        if len(splits[split]) < NEEDED:
            raise UserError(f"splits file {path} names {len(splits[split])} {split} classes; name at least {NEEDED}")
    return splits


def _val_from_train(rows: list[Row], train: int, val: int) -> list[Row]:
    """Every third video of each training class, in the order of their names, moved to val; ``val`` evenly chosen ones
    where a third is fewer, and none of a class that would keep fewer than ``train``."""
    of_class: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.video):
        if row.split == "train":
            of_class[row.cls].append(row)
    moved: set[Row] = set()
    for same in of_class.values():
        count = len(same)
        chosen = same[2::3] if count // 3 >= val else [same[(i + 1) * count // val - 1] for i in range(min(val, count))]
        if count - len(chosen) >= train:
            moved |= set(chosen)
    return [row._replace(split="val") if row in moved else row for row in sorted(rows, key=lambda row: row.video)]
