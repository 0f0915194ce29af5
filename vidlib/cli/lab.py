"""``vidlib lab DIR``: a working copy of the notebooks, the recipes and the manifests, which never loses a change.

``DIR`` is laid out as the checkout is, so that the commands of README and recipes work there. ``DIR/.origin.json`` has
the digest of each file as it was given: a file of another digest is the user's.
"""

import contextlib
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from vidlib.basics import paths
from vidlib.basics.digests import PACKAGE, file_digest
from vidlib.basics.errors import UserError
from vidlib.params.notebooks import folder
from vidlib.results.runs import write_json

GIVEN = ("notebooks", "recipes", "data_manifests")
ORIGIN = ".origin.json"
LOST = "delete it; then each file that is not as vidlib has it now counts as yours"


def unpack(root: Path) -> Iterator[str]:
    """Write each file that is absent or still as it was given; in lines, what of the user's was kept, and how many new.

    ``root/vidlib`` leads to the package, where links can be made: the notebooks show its source.
    """
    paths.check_writable(root, "DIR", folder=True)
    if (root / GIVEN[0]).resolve() == folder(GIVEN[0]).resolve():
        raise UserError(f"DIR: {root} is where vidlib's own notebooks lie; give another folder")
    origin = paths.read_json(root / ORIGIN, LOST) if (root / ORIGIN).exists() else {}
    new = 0
    for source in (file for name in GIVEN for file in paths.files_under(folder(name))):
        name = source.relative_to(paths.shipped()).as_posix()
        target, now = root / name, file_digest(source)
        there = file_digest(target) if target.is_file() else None
        if there not in (None, now, origin.get(name)):
            if origin.get(name) != now:
                yield f"kept your {target}; vidlib's own has changed since"
            continue
        if there != now:
            with paths.atomic_write(target) as part:
                shutil.copyfile(source, part)
            new += 1
        origin[name] = now
    write_json(root / ORIGIN, origin)
    link = root / "vidlib"
    with contextlib.suppress(OSError):
        earlier = link.is_symlink() and link.resolve() != PACKAGE.resolve()
        if earlier:  # of another environment, whose package would be imported from here
            link.unlink()
        link.symlink_to(PACKAGE, target_is_directory=True)
    yield f"{root}: {len(origin)} notebooks, recipes and manifests, {new} of them new; what you change is kept"


def command(root: Path) -> list[str]:
    """What opens the copy in this environment's JupyterLab."""
    start = root / GIVEN[0] / "index.ipynb"
    return [sys.executable, "-m", "jupyterlab", str(start), f"--ServerApp.root_dir={root}"]


def lab(place: str, open_it: bool) -> Iterator[str]:
    """``unpack`` into ``place``, then open it or say how."""
    root = paths.absolute(place)
    yield from unpack(root)
    if open_it:
        with contextlib.suppress(KeyboardInterrupt):
            subprocess.run(command(root), check=False)
    else:
        yield f"open it:  {shlex.join(command(root))}"
