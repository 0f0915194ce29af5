"""``python -m docs.cards``: what the cards of towers and worlds state in numbers, written anew between their marks.

A tower's front matter and table come from ``records/``; a world's tables from its entry and ``cards/shortcuts.csv``,
which ``--measure`` makes anew in some minutes. A test holds the cards against all of it.
"""

import sys
from pathlib import Path

import pandas as pd

from docs.result import ROOT, placed
from vidlib.basics.paths import atomic_write
from vidlib.data.catalogue import entries
from vidlib.studies import bars, ladder, model_card

BEGIN, END = "<!-- numbers, made by python -m docs.cards -->\n", "<!-- end of the numbers -->\n"
CARDS = ROOT / "docs" / "cards"
MEASURED = CARDS / "shortcuts.csv"  # of each bar, what was measured on 2,000 episodes of val and of test
TOWERS = {"clip-mini": ladder.FROZEN, "resnet-mini": ladder.RESNET}
KEY = ["world", "shortcut", "tower", "split", "what"]  # what no tower is needed for was measured beside each alike
ASKED = [("motion", "clip-mini"), ("motion", "resnet-mini"), ("words", "clip-mini"), ("scene", "clip-mini")]


def place(name: str) -> Path:
    """The card of a tower, which lies beside its weights, or of a world."""
    return ROOT / f"vidlib/backbones/{name.replace('-', '_')}/CARD.md" if name in TOWERS else CARDS / f"{name}.md"


def tower(name: str) -> tuple[str, str]:
    """Front matter and table of a tower: how far its frozen features get, nothing trained."""
    done = [ladder.studied(TOWERS[name], world).get("frozen_clip", []) for world in ladder.WORLDS]
    found = [each for same in done for run in same for each in model_card.results(run)]
    rows = ["| world | asked | accuracy (%) |", "|---|---|---|"] if found else ["No record yet."]
    for each in found:
        (metric,), asked = each["metrics"], each["task"]["name"].rpartition(", ")[2]
        said = f"{metric['value']:.1f} ± {metric['args']['interval_95']:.1f}"
        rows.append(f"| {each['dataset']['type']} | {asked} | {said} |")
    facts = {"license": "mit", "language": "en", "pipeline_tag": "image-feature-extraction", "tags": ["toy"]}
    front = model_card.front_matter(name, found, **facts)
    return front, "\n".join(rows) + "\n"


def world(name: str) -> str:
    """Tables of a world: its splits, and its bars with what was measured."""
    facts, measured = entries.entry(name), pd.read_csv(MEASURED, keep_default_na=False)
    rows = ["| split | classes | videos a class | videos |", "|---|---|---|---|"]
    rows += [f"| {s} | {n} | {facts.clips_per_class[s]} | {facts.videos()[s]:,} |" for s, n in facts.counts.items()]
    rows += ["", "| shortcut, or oracle | tower | bar (%) | val | test |", "|---|---|---|---|---|"]
    keys = ["shortcut", "tower", "what", "bar"]
    for (shortcut, of, what, bar), each in measured[measured["world"] == name].groupby(keys, sort=False):
        got = each.set_index("split")["measured (%)"]
        said = f"{shortcut}{': what the order of frames gives' if what == 'order' else ''}"
        rows.append(f"| {said} | {of} | {bar} | {got['val']:.1f} | {got['test']:.1f} |")
    return "\n".join(rows) + "\n"


def written(name: str) -> str:
    """The card of a tower or world with its numbers as they are today; UserError: it lacks the marks."""
    text = place(name).read_text()
    front, numbers = tower(name) if name in TOWERS else ("", world(name))
    if front:
        text = front + text.partition("---\n")[2].partition("---\n")[2]
    return placed(text, numbers, place(name), BEGIN, END)


def main() -> int:
    if "--measure" in sys.argv:
        found = [bars.held(bars.measure(one, of, barred=True)) for one, of in ASKED]
        with atomic_write(MEASURED) as part:
            pd.concat(found).drop_duplicates(KEY).to_csv(part, index=False, float_format="%.2f")
    for name in (*TOWERS, *ladder.WORLDS):
        text = written(name)
        with atomic_write(place(name)) as part:
            part.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
