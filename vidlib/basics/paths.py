"""Where things lie: the cache, the data, the runs; nothing else in vidlib decides a folder.

And how our own files are written and read there: whole or not at all, and with one way of failing, a ``UserError`` that
names the path and says what to do.
"""

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import platformdirs

from vidlib.basics.errors import UserError

GUARDS: dict[Path, Callable[[], None]] = {}  # lock file -> raises where this process has lost it (``lock.Lock``)
REMEDIES = {
    errno.ENOSPC: "free some space there, or give another folder, and start the same command again",
    errno.EDQUOT: "free some of your quota there, or give another folder, and start the same command again",
    errno.EROFS: "give a folder that can be written",
    errno.EACCES: "give a folder that you may write to",
    errno.EPERM: "give a folder that you may write to",
    errno.ENOTDIR: "a part of that path is a file: give another folder",
    errno.EEXIST: "a part of that path is a file: give another folder",
    errno.EISDIR: "that is a folder: give a file",
}
_CHECKOUT = Path(__file__).resolve().parents[2]
_SHIPPED = _CHECKOUT / "vidlib" / "shipped"  # in a wheel alone (setup.py)


def checkout() -> Path | None:
    """The source checkout that vidlib runs from, or None where it is installed without one."""
    return _CHECKOUT if (_CHECKOUT / "pyproject.toml").is_file() and not _SHIPPED.is_dir() else None


def shipped() -> Path:
    """The folder of notebooks/, recipes/, data_manifests/ and records/: the checkout, else the wheel's."""
    return checkout() or _SHIPPED


def cache_dir() -> Path:
    """Rendered worlds and other things that can be made again: ``$VIDLIB_CACHE``, else the user cache folder."""
    return Path(os.environ.get("VIDLIB_CACHE") or platformdirs.user_cache_dir("vidlib"))


def data_dir() -> Path:
    """Downloaded benchmarks, one folder each: ``$VIDLIB_DATA``, else the user data folder."""
    return Path(os.environ.get("VIDLIB_DATA") or Path(platformdirs.user_data_dir("vidlib")) / "data")


def runs_dir() -> Path:
    """Run folders: ``$VIDLIB_RUNS``, else ``runs/`` in the checkout, else the user data folder."""
    if os.environ.get("VIDLIB_RUNS"):
        return Path(os.environ["VIDLIB_RUNS"])
    root = checkout()
    return root / "runs" if root else Path(platformdirs.user_data_dir("vidlib")) / "runs"


def records_dir() -> Path | None:
    """Records of finished runs that come with vidlib: ``$VIDLIB_RECORDS``, else ``records/`` in ``shipped``; None
    where there are none."""
    place = os.environ.get("VIDLIB_RECORDS", shipped() / "records")
    return Path(place) if place and Path(place).is_dir() else None


def absolute(path: str | Path) -> Path:
    """A user's path, relative to the kernel's working folder, made absolute (``~`` expanded, links kept)."""
    try:
        return Path(os.path.abspath(Path(path).expanduser()))
    except RuntimeError:
        raise UserError(f"{path}: nobody of that name has a home here; a file called so is ./{path}") from None


LINKS = "links are followed wherever they lead, each folder once"  # the one rule, of all that reads folders


def walk(root: str | Path) -> Iterator[tuple[str, os.DirEntry | None, str]]:
    """What is no folder under ``root``, however deep, hidden names apart: (name with '/' between parts, entry, "").

    Links are followed wherever they lead, but no folder is read twice, so loops end; links to folders come last, for a
    folder that is also there itself goes by its own name. What cannot be read is (name, None, why).
    """
    seen: set[tuple[int, int]] = set()
    folders, links = [""], []
    while folders or links:
        before = folders.pop() if folders else links.pop(0)
        try:
            status = os.stat(os.path.join(root, before))
            if (status.st_dev, status.st_ino) in seen:
                yield before.rstrip("/"), None, f"a link to a folder that is read already: {LINKS}"
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(os.path.join(root, before)) as found:
                entries = sorted((e for e in found if not e.name.startswith(".")), key=lambda entry: entry.name)
        except OSError as error:
            yield before or ".", None, f"the folder cannot be read: {error.strerror}"
            continue
        for entry in entries:
            name = f"{before}{entry.name}"
            if entry.is_symlink() and not os.path.exists(entry.path):  # a loop of links, too
                yield name, None, "a link that leads nowhere"
            elif entry.is_dir():
                (links if entry.is_symlink() else folders).append(f"{name}/")
            else:
                yield name, entry, ""


def files_under(root: str | Path) -> list[Path]:
    """The plain files that ``walk`` finds, sorted."""
    return sorted(Path(root, name) for name, entry, _ in walk(root) if entry is not None and entry.is_file())


def check_writable(path: str | Path, what: str, folder: bool = False) -> None:
    """UserError where a file (or ``folder``) could not be written, tried before the work that fills it; makes nothing.

    ``what`` names the parameter. The nearest folder that is there takes a small file, which goes at once.
    """
    path = absolute(path)
    place = path if folder else path.parent
    try:
        if os.path.lexists(path) and not (path.is_dir() if folder else path.is_file()):
            raise UserError(f"{what}: {path} is no {'folder' if folder else 'plain file'}; give another name")
        nearest = next(p for p in (place, *place.parents) if _there(p))
        _there(path)  # a name that is too long
        with tempfile.TemporaryFile(dir=nearest) as tried:
            tried.write(b"0" * 4096)
            tried.flush()
    except OSError as error:
        raise UserError(f"{what}: {path} cannot be written ({error.strerror or error}); give another place") from None


def _there(path: Path) -> bool:
    try:
        os.stat(path)
    except FileNotFoundError:
        if path.is_symlink():
            raise
        return False
    return True


@contextlib.contextmanager
def written(what: str, path: str | Path) -> Iterator[None]:
    """What is written to ``path`` inside the ``with``; a failure is one sentence that begins with ``what``."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{what}: {error}") from None
    except OSError as error:
        raise UserError(f"{what}: {path} cannot be written ({error.strerror or error}); give another place") from None


@contextlib.contextmanager
def atomic_write(path: str | Path, remedy: str = "") -> Iterator[Path]:
    """Yield a temporary name beside ``path``; rename it to ``path`` on success, remove it on failure.

    The file is flushed to disk before the rename, so a reader sees the old file or the whole new one. Failures of the
    disk (``remedy``: what to do about them), and a folder whose lock this process has lost, are a ``UserError``.
    """
    path = Path(path)
    check_ours(path)
    temporary = None
    with writing(path, remedy):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=".part-", suffix=path.suffix)  # libraries read it
            os.close(handle)
            temporary = Path(name)
            yield temporary
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            check_ours(path)
            os.replace(temporary, path)
        finally:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)


def append(path: Path, data: bytes) -> None:
    """Add ``data`` to the end of a file in one write: all of it, or a ``UserError`` and the file as it was."""
    check_ours(path)
    with writing(path), open(path, "ab", buffering=0) as file:
        before = file.tell()
        try:
            if file.write(data) != len(data):  # a disk takes what fits, without an error
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            with contextlib.suppress(OSError):
                file.truncate(before)
            raise


def flush(path: Path) -> None:
    """Have what was appended to a file on the disk, whatever happens to the machine."""
    with writing(path), open(path, "rb") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def writing(path: Path, remedy: str = "") -> Iterator[None]:
    """Failures of the disk at ``path`` as one sentence; those of files elsewhere pass."""
    try:
        yield
    except OSError as error:
        where = Path(os.fsdecode(error.filename)) if isinstance(error.filename, (str, bytes)) else path
        if where.parent != path.parent and where not in path.parents:
            raise
        kept = "; what was there before is unchanged" if os.path.isfile(path) else ""
        remedy = remedy or REMEDIES.get(error.errno, "give another folder, or see to that one")
        raise UserError(f"{path} cannot be written: {error.strerror or error}{kept}; {remedy}") from None


def check_ours(path: Path) -> None:
    """A ``UserError`` where ``path`` lies in a folder whose lock this process held and has lost."""
    for lock, check in [*GUARDS.items()]:
        if lock.parent in path.parents:
            check()


def read_json(path: Path, remedy: str = "delete it to make it anew") -> dict[str, Any]:
    """Names and values of a JSON file of ours; a ``UserError`` where it is empty, damaged or holds another thing."""
    try:
        text = path.read_bytes().decode()
        value = json.loads(text)
        why = f"it holds a {type(value).__name__} instead of names with values"
    except OSError as error:
        value, why = None, error.strerror or str(error)
    except (ValueError, RecursionError) as error:  # of the text, its encoding or its depth
        value, why = None, f"it is damaged: {error}" if os.path.getsize(path) else "it is empty"
    if not isinstance(value, dict):
        raise UserError(f"{path} cannot be read ({why}): {remedy}")
    return value
