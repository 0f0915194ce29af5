"""``make book``: every notebook, executed, as a site of HTML pages with an index and a search; in ``book/``.

At smoke size (the default) everything is run anew and small: the pages show how a notebook looks, and their numbers
mean nothing. At ``--size default`` the notebooks run with their own defaults on the records in the runs folder; what is
finished there is reused, what is not is trained. The pages load nothing over the network, and open from the disk too.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import nbformat

from docs import pages
from tests import prepared
from vidlib.basics import paths
from vidlib.basics.words import closest


def execute(source: Path, target: Path, size: str) -> str:
    """Run a notebook through papermill; its complaint in one line where it failed, else an empty string."""
    if source.stem in prepared.BARE:
        target.write_text(source.read_text())
        return ""
    smoke = ["-f", str(prepared.ROOT / "tests" / "smoke" / f"{source.stem}.yaml")] if size == "smoke" else []
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", str(source), str(target), *smoke]
    runs = target.parent / "runs" if size == "smoke" else paths.runs_dir()
    done = subprocess.run(command, capture_output=True, text=True, env=prepared.environment(runs), cwd=prepared.ROOT)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["papermill gave no reason"])[-1]


def build(names: list[str], size: str, book: Path) -> dict[str, str]:
    """Execute the named notebooks and write the site into ``book``; name -> complaint of those that failed.

    A notebook that failed has a page all the same, which ends where it stopped. Pages of earlier builds stay: their
    executed notebooks lie in ``book/executed``.
    """
    executed = book / "executed"
    executed.mkdir(parents=True, exist_ok=True)
    failed = {}
    for name in dict.fromkeys([*names, "index"]):
        target = executed / f"{name}.ipynb"
        target.unlink(missing_ok=True)
        print(f"{name} ...", flush=True)
        complaint = execute(prepared.ROOT / "notebooks" / f"{name}.ipynb", target, size)
        if complaint:
            failed[name] = complaint
        if target.is_file():
            notebook = nbformat.read(target, as_version=4)
            notebook.metadata["executed_at"] = size
            nbformat.write(notebook, target)
    pages.write(sorted(executed.glob("*.ipynb")), book, size)
    return failed


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 where every notebook ran, 1 where one failed, 2 where a name is wrong."""
    known = [path.stem for path in prepared.NOTEBOOKS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="notebooks, by name; without any, all")
    parser.add_argument("--size", choices=["default", "smoke"], default="smoke")
    parser.add_argument("--out", type=Path, default=prepared.ROOT / "book")
    asked = parser.parse_args(arguments)
    for name in asked.names:
        if name not in known:
            print(f"make book: there is no notebook '{name}'{closest(name, known)}", file=sys.stderr)
            return 2
    failed = build(asked.names or known, asked.size, asked.out.absolute())
    for name, complaint in failed.items():
        print(f"make book: {name} failed: {complaint}", file=sys.stderr)
    print(f"the book: {asked.out / 'index.html'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
