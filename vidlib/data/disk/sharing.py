"""A store of features as one file, for who may have the features and not the videos: a zip, nothing in it compressed.

It holds the store's own files and ``checksums.json``, the sha256 of each. Reading one runs nothing: names are held
against those that a store has, JSON and plain arrays are read as such, and the folder appears once all is right.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

from vidlib.basics import paths
from vidlib.basics.digests import file_digest
from vidlib.basics.errors import UserError
from vidlib.data import features
from vidlib.data.features import HEAD, SHARD, VIDEOS, Store

SUMS = "checksums.json"
PIECE = 1 << 20


def find(store: str) -> Store:
    """A store by its folder, or by its name among those of ``vidlib data list``."""
    named = features.place() / store
    return Store(named if not os.path.isdir(paths.absolute(store)) and (named / HEAD).is_file() else store)


def export(store: Store, file: str | Path) -> Path:
    """Write ``store`` into one file; UserError where it is not whole, or a shard is not what was written."""
    file = paths.absolute(file)
    if lacking := store.lacking():
        raise UserError(f"{store.folder} lacks {len(lacking)} of its shards: make it whole with vidlib data embed")
    if file.exists():
        raise UserError(f"{file} is there already; give another name")
    names = _files(store)
    sums = {name: file_digest(store.folder / name) for name in names}
    for shard in store.every():
        if sums[f"{shard}.npy"] != store.said(shard)["sha256"]:
            raise UserError(f"shard {store.folder / shard}.npy is not what was written: {features.AGAIN}")
    with paths.atomic_write(file) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(SUMS), json.dumps(sums, indent=1))
        for name in names:
            archive.write(store.folder / name, name)
    return file


def _files(store: Store) -> list[str]:
    return [HEAD, VIDEOS, *(f"{shard}.{kind}" for shard in store.every() for kind in ("npy", "json"))]


def take(file: str | Path, out: str = "") -> Store:
    """The store in an exported file, put where stores are, or into ``out``; UserError where anything is wrong."""
    file = paths.absolute(file)
    if not file.is_file():
        raise UserError(f"file: {file} does not exist")
    folder = paths.absolute(out) if out else features.place() / file.stem
    if folder.exists():
        raise UserError(f"{folder} is there already; delete it, or give another --out")
    with paths.writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".part-", dir=folder.parent))
        try:
            _unpack(file, part)
            part.chmod(0o755)
            part.rename(folder)
        finally:
            with contextlib.suppress(OSError):
                shutil.rmtree(part, ignore_errors=True)
    return Store(folder)


def _unpack(file: Path, folder: Path) -> None:
    """Every member into ``folder``, held against its checksum; then the whole against its head."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = {member.filename: member for member in archive.infolist()}
            for name, member in members.items():
                if name not in (HEAD, VIDEOS, SUMS) and not SHARD.fullmatch(name.rpartition(".")[0]):
                    raise UserError(f"{file} holds {name!r}, which is no file of a store: nothing of it was taken")
                if member.compress_type != zipfile.ZIP_STORED or name.rpartition(".")[2] not in ("json", "npy"):
                    raise UserError(f"{file} was not made by vidlib data export-features: nothing of it was taken")
            sums = json.loads(archive.read(SUMS))
            listed = {*sums, SUMS} if isinstance(sums, dict) else set()
            if listed != set(members) or len(members) != len(archive.infolist()):
                raise ValueError("its files are not those that it lists")
            for name, wanted in sums.items():
                found = hashlib.sha256()
                with archive.open(name) as source, open(folder / name, "wb") as target:
                    while piece := source.read(PIECE):
                        found.update(piece)
                        target.write(piece)
                if found.hexdigest() != wanted:
                    raise ValueError(f"{name} has another checksum")
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{file} is cut off or changed ({error}): nothing of it was taken; get it anew") from None
    try:
        store = Store(folder)
        if store.lacking() or set(sums) != set(_files(store)):
            raise ValueError("its shards are not those that its head names")
        for shard in store.every():
            store.array(shard)
            if store.said(shard)["sha256"] != sums[f"{shard}.npy"]:
                raise ValueError(f"{shard} is of another store")
        counts = {name: len(rows) for name, rows in store.videos["rows"].items()}
        if counts != {name: one["videos"] for name, one in store.head["lists"].items()}:
            raise ValueError("its videos are not those that its head counts")
    except (UserError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        said = str(error).replace(str(folder), file.name)
        raise UserError(f"{file} holds no whole store ({said}): nothing of it was taken") from None
