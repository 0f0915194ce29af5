"""Fetch published lists from an address that the user gives: a list file, or a .zip or .tar archive that holds some.

Only files that are lists by their names are kept, nothing else of an archive is written; sizes are limited.
"""

import contextlib
import io
import tarfile
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from vidlib.basics import paths
from vidlib.basics.errors import UserError
from vidlib.data.disk.list_files import EXPECTED, FILES, LARGEST

LONGEST = 512 << 20  # bytes of a download: a repository's archive with its figures stays below
UNPACKED = 8 << 30  # bytes of all files in an archive, which a .tar.gz makes one read through
SILENT = 60  # seconds without a byte
CHUNK = 1 << 20


def is_address(source: str) -> bool:
    """Whether ``source`` is an address of the web rather than a path."""
    return "://" in source


@contextlib.contextmanager
def opened(source: str) -> Iterator[Path]:
    """The folder or file that ``source`` names; of an address, a temporary folder with the lists found there.

    UserError: an address that is not http or https or does not answer, a download that is too large or holds no list,
    an archive that is damaged or names a path outside itself.
    """
    if not is_address(source):
        yield paths.absolute(source)
        return
    with tempfile.TemporaryDirectory(prefix="vidlib-lists-") as name:
        folder = Path(name)
        file = folder / "download"
        final = _download(source, file)
        target = folder / "lists"
        target.mkdir()
        if zipfile.is_zipfile(file):
            count = _unpack(source, _zip_members(file), target)
        elif tarfile.is_tarfile(file):
            count = _unpack(source, _tar_members(file), target)
        else:
            names = [PurePosixPath(urllib.parse.unquote(urllib.parse.urlparse(a).path)) for a in (source, final)]
            listed = [path for path in names if _is_list(path.name)]
            count = len(listed[:1])
            for path in listed[:1]:
                inner = target / (path.parent.name.replace("..", "") or "list")  # the folder can name the benchmark
                inner.mkdir()
                file.rename(inner / path.name)
        if not count:
            raise UserError(f"{source} holds no list; expected an archive or one of {EXPECTED}")
        yield target


def _is_list(name: str) -> bool:
    return any(form.fullmatch(name) for form in FILES.values())


def _download(address: str, file: Path) -> str:
    """Write what ``address`` answers to ``file``; the address after redirects."""
    if urllib.parse.urlparse(address).scheme not in ("http", "https"):
        raise UserError(f"{address}: only http and https addresses are fetched; give one, or a local folder")
    request = urllib.request.Request(address, headers={"User-Agent": "vidlib"})
    try:
        with urllib.request.urlopen(request, timeout=SILENT) as answer, open(file, "wb") as out:
            if urllib.parse.urlparse(answer.geturl()).scheme not in ("http", "https"):
                raise UserError(f"{address} leads to {answer.geturl()}, which is not fetched")
            size = 0
            while chunk := answer.read(CHUNK):
                size += len(chunk)
                if size > LONGEST:
                    raise UserError(f"{address} has more than {LONGEST >> 20} MiB; fetch it yourself and give a folder")
                out.write(chunk)
            promised = answer.headers.get("Content-Length")
            if promised and promised.isdigit() and size < int(promised):
                raise UserError(f"{address}: only {size} of {promised} bytes came; try again")
            return answer.geturl()
    except urllib.error.HTTPError as error:
        raise UserError(f"{address} answers {error.code} {error.reason}; check the address") from None
    except (OSError, ValueError) as error:  # URLError, a broken connection, a malformed address
        if isinstance(error, UserError):
            raise
        reason = getattr(error, "reason", error)
        raise UserError(f"{address} cannot be fetched ({reason}); check the address and the network") from None


Member = tuple[str, BinaryIO]


def _zip_members(file: Path) -> Iterator[Member]:
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if not member.is_dir() and _is_list(PurePosixPath(member.filename).name):
                with archive.open(member) as stream:
                    yield member.filename, stream


def _tar_members(file: Path) -> Iterator[Member]:
    with tarfile.open(file) as archive:
        size = 0
        for member in archive:
            size += member.size
            if size > UNPACKED:
                raise tarfile.TarError(f"it unpacks to more than {UNPACKED >> 20} MiB")
            if member.isfile() and _is_list(PurePosixPath(member.name).name):  # links and devices are passed over
                yield member.name, archive.extractfile(member) or io.BytesIO()


def _unpack(source: str, members: Iterator[Member], target: Path) -> int:
    """Write each list below ``target`` under its path in the archive; their number."""
    count = size = 0
    try:
        for name, stream in members:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in path.parts[0]:
                raise UserError(f"{source}: its entry {name!r} lies outside the archive; such an entry is refused")
            content = stream.read(LARGEST + 1)
            size += len(content)
            if len(content) > LARGEST or size > LONGEST:
                raise UserError(f"{source}: its entry {name!r} has more than {LARGEST >> 20} MiB and is no list")
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (target / path).write_bytes(content)
            count += 1
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, RuntimeError, NotImplementedError) as error:
        raise UserError(
            f"{source} is an archive that cannot be used ({error}); give another one, or a folder"
        ) from None
    return count
