"""Where things lie: the cache, the data, the runs; nothing else in vidlib decides a folder."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import platformdirs

_CHECKOUT = Path(__file__).resolve().parents[2]


def checkout() -> Path | None:
    """The source checkout that vidlib runs from, or None where it is installed without one."""
    return _CHECKOUT if (_CHECKOUT / "pyproject.toml").is_file() else None


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


def absolute(path: str | Path) -> Path:
    """A user's path, relative to the kernel's working folder, made absolute (``~`` expanded, links kept)."""
    return Path(os.path.abspath(Path(path).expanduser()))


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; rename it to ``path`` on success, remove it on failure.

    The file is flushed to disk before the rename, so a reader sees the old file or the whole new one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".part-", suffix=path.suffix)  # libraries read the ending
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
