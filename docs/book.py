"""``make book``: every notebook, executed, as a page of HTML, with an index page; in ``book/``.

At smoke size (the default) everything is run anew and small: the pages show how a notebook looks, and their numbers
mean nothing. At ``--size default`` the notebooks run with their own defaults on the records in the runs folder; what is
finished there is reused, what is not is trained. Equations are set by MathJax, which the pages load from the network.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import nbformat

from tests import prepared
from vidlib.basics import paths
from vidlib.basics.words import closest

SAID = {
    "smoke": "Executed at smoke size: it shows how a notebook looks, and **numbers that were computed mean nothing**.",
    "default": "Executed with the defaults of each notebook.",
}
LINK = re.compile(r"\]\((\w+)\.ipynb\)")


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


def paged(path: Path, size: str, built: set[str]) -> None:
    """Make an executed notebook ready for its page: how it was executed on top, links to pages instead of notebooks."""
    notebook = nbformat.read(path, as_version=4)
    said = f"*{SAID[size]}* [All notebooks](index.html)"
    if path.stem == "index":
        said = f"*Of the pages:* {SAID[size]}"
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = LINK.sub(lambda m: f"]({m[1]}.html)" if m[1] in built else m[0], cell.source)
    notebook.cells.insert(0, nbformat.v4.new_markdown_cell(said, id="how-executed"))
    nbformat.write(notebook, path)


def build(names: list[str], size: str, book: Path) -> dict[str, str]:
    """Execute the named notebooks and write their pages into ``book``; name -> complaint of those that failed.

    A notebook that failed has a page all the same, which ends where it stopped.
    """
    executed = book / "executed"
    executed.mkdir(parents=True, exist_ok=True)
    failed, there = {}, []
    for name in names:
        target = executed / f"{name}.ipynb"
        target.unlink(missing_ok=True)
        print(f"{name} ...", flush=True)
        complaint = execute(prepared.ROOT / "notebooks" / f"{name}.ipynb", target, size)
        if complaint:
            failed[name] = complaint
        if target.is_file():
            there.append(target)
    pages = {path.stem for path in there} | {path.stem for path in book.glob("*.html")}
    for path in there:
        paged(path, size, pages)
    command = [sys.executable, "-m", "nbconvert", "--log-level=ERROR", "--to", "html", "--output-dir", str(book)]
    subprocess.run([*command, *map(str, there)], check=True)
    return failed


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 where every notebook ran, 1 where one failed, 2 where a name is wrong."""
    known = [path.stem for path in prepared.NOTEBOOKS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="notebooks, by name; without any, all")
    parser.add_argument("--size", choices=sorted(SAID), default="smoke")
    parser.add_argument("--out", type=Path, default=prepared.ROOT / "book")
    asked = parser.parse_args(arguments)
    for name in asked.names:
        if name not in known:
            print(f"make book: there is no notebook '{name}'{closest(name, known)}", file=sys.stderr)
            return 2
    failed = build(asked.names or known, asked.size, asked.out.absolute())
    for name, complaint in failed.items():
        print(f"make book: {name} failed: {complaint}", file=sys.stderr)
    print(f"the book: {asked.out / 'index.html'}" if (asked.out / "index.html").is_file() else f"pages: {asked.out}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
