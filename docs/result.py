"""``python -m docs.result``: what README opens with, made of ``records/``: a table and ``docs/ladder.png``.

The table stands in README between two marks; a test holds it against the records.
"""

import sys
from pathlib import Path

from vidlib.basics.errors import UserError
from vidlib.basics.paths import atomic_write
from vidlib.studies import ladder
from vidlib.viz import ladder as figure

ROOT = Path(__file__).resolve().parents[1]
README, PICTURE = ROOT / "README.md", ROOT / "docs" / "ladder.png"
BEGIN, END = "<!-- the result, made by python -m docs.result -->\n", "<!-- end of the result -->\n"
WORLD = "motion"
ROWS = (("sloshnet", ladder.RESNET), ("gghm", ladder.RESNET), ("ma_fsar", ladder.TUNED), ("ma_fsar", ladder.FROZEN))
ROWS += (("frozen_clip", ladder.FROZEN),)


def lines() -> str:
    """The table, in Markdown."""
    shots = {shot: ladder.results(WORLD, test) for test, shot in ladder.SHOTS.items()}
    rows = ["| | tower | trained (M) | 1-shot (%) | 5-shot (%) | seeds |", "|---|---|---|---|---|---|"]
    for method, column in ROWS:
        each = [table[(table["column"] == column) & (table["method"] == method)].squeeze() for table in shots.values()]
        if not all(len(row) for row in each):
            raise UserError(f"{method} has no record in {column} on {WORLD}: make evidence does it")
        first = each[0]
        over = "" if first["over"] == "seeds" else " (videos)"
        cells = [f"{row['accuracy']:.1f} ± {row['half']:.1f}{over}" for row in each]
        facts = [first["name"], column, f"{first['trained (M)']:.3f}", *cells, str(first["seeds"])]
        rows.append(f"| {' | '.join(facts)} |")
    return "\n".join(rows) + "\n"


def placed(text: str, table: str, file: Path = README, begin: str = BEGIN, end: str = END) -> str:
    """``text``, which ``file`` holds, with ``table`` between its marks; UserError where it lacks them."""
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise UserError(f"{file} lacks the marks {begin.strip()} and {end.strip()}")
    return f"{before}{begin}{table}{end}{after}"


def main() -> int:
    with atomic_write(README) as part:
        part.write_text(placed(README.read_text(), lines()))
    drawn = figure.plot(
        ladder.results(WORLD), title=f"{WORLD} (an embedded world, not a benchmark of the field), 5-way 1-shot"
    )
    with atomic_write(PICTURE) as part:
        drawn.savefig(part, format="png", dpi=100, facecolor="white")
    return 0


if __name__ == "__main__":
    sys.exit(main())
