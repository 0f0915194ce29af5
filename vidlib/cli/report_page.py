"""``vidlib report page``: the runs folder as one HTML file that needs nothing else, not even JavaScript.

A table of all finished runs, grouped by what they were tested on, the best first; then each run with its result and
interval, coverage, parameters, environment, figures, and the commands that repeat it. Runs that are not finished, and
folders that cannot be read, are listed as such.
"""

import base64
import html
import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vidlib.basics import paths
from vidlib.basics.errors import UserError
from vidlib.basics.paths import atomic_write
from vidlib.cli import run
from vidlib.data.catalogue.benchmarks import WORLDS
from vidlib.params import notebooks
from vidlib.params.few_shot import RunParams
from vidlib.params.video_text import VideoTextRunParams
from vidlib.studies.tables import label

FILE = "report.html"
PICTURES = {".png": "image/png", ".svg": "image/svg+xml"}
STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; font-size: .9rem; }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #8886; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.wide { overflow-x: auto; }
article { border-top: 2px solid #8888; margin-top: 2.5rem; }
pre { overflow-x: auto; background: #8882; padding: .6rem; white-space: pre-wrap; overflow-wrap: anywhere; }
img { max-width: 100%; height: auto; background: white; }
figure { margin: 1rem 0; }
figcaption, .note { color: GrayText; font-size: .9rem; }
"""


@dataclass
class Record:
    """What one run folder holds; ``trouble`` says why one has no result."""

    folder: Path
    params: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    trouble: str = ""

    @property
    def split(self) -> str:
        return str(self.params.get("report", "test"))

    @property
    def main(self) -> dict[str, Any]:
        """The result on the split that the run reports."""
        found = self.result.get(self.split)
        return found if isinstance(found, dict) else {}


def write(root: str | Path = "", out: str | Path = "") -> tuple[Path, int]:
    """Write the page of the runs folder ``root`` (default: the usual one) to ``out``; the file, and how many runs."""
    folder = Path(root or paths.runs_dir())
    if not folder.is_dir():
        raise UserError(f"runs: {folder} does not exist; give the folder of the runs, or run something first")
    found = records(folder)
    file = paths.absolute(out) if out else folder / FILE
    if file.is_dir():
        raise UserError(f"out: {file} is a folder; give a file, such as {file / FILE}")
    with atomic_write(file) as part:
        part.write_text("\n".join(_page(folder, found)) + "\n", encoding="utf-8")
    return file, sum(not record.trouble for record in found)


def records(root: Path) -> list[Record]:
    """Every run folder of ``root``: finished ones first, by data, then from the best down; then the others by name."""
    found = []
    for params in sorted(root.glob("*/params.json")):
        record = Record(params.parent)
        try:
            record.params = json.loads(params.read_text())
            record.environment = json.loads((record.folder / "environment.json").read_text())
            if (record.folder / "result.json").is_file():
                record.result = json.loads((record.folder / "result.json").read_text())
                record.main["accuracy"], record.result["finished"]
            else:
                record.trouble = "not finished"
        except (OSError, ValueError, KeyError, TypeError) as error:
            record.trouble = f"cannot be read ({type(error).__name__}: {error})"
        if "." in record.folder.name and not record.trouble:
            record.trouble = "replaced by a repetition"
        found.append(record)
    return sorted(found, key=lambda r: (bool(r.trouble), *_group(r), -r.main.get("accuracy", 0), r.folder.name))


def _group(record: Record) -> tuple[str, str]:
    """(data set, protocol): what may stand in one table."""
    p = record.params
    if "protocol" in p:
        data = p.get("dataset", "")
        each = p.get("train_per_class", p.get("shot"))  # the name in earlier records
        said = p["protocol"] + (f", {each} per class" if each else "")
        data += f", tested on {p['test_dataset']}" if p.get("test_dataset") else ""
    else:
        data, said = p.get("dataset", ""), f"{p.get('way')}-way {p.get('shot')}-shot, {p.get('query')} query per class"
    return str(data), f"{said}, {record.split}"


def _page(folder: Path, found: list[Record]) -> Iterator[str]:
    done = [record for record in found if not record.trouble]
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>Runs</title>\n<style>{STYLE}</style>\n</head>\n<body>"
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    yield f"<h1>Runs</h1>\n<p>{len(done)} finished runs in <code>{_text(folder.name)}</code>, written {date}. "
    yield "Accuracies are in per cent. An interval is 95% over the test episodes or videos of one run, conditional on "
    yield "one trained model and one set of classes; that one method is better is a claim for three seeds or more.</p>"
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in done:
        groups.setdefault(_group(record), []).append(record)
    for (data, said), same in groups.items():
        yield from _contents(data, said, same)
    if not done:
        yield "<p>No run is finished here.</p>"
    other = [record for record in found if record.trouble]
    if other:
        yield "<h2>Without a result</h2>"
        yield from _table(["folder", "why"], [[record.folder.name, record.trouble] for record in other])
    for record in done:
        yield from _article(record)
    yield "</body>\n</html>"


def _contents(data: str, said: str, same: list[Record]) -> Iterator[str]:
    yield f"<h2>{_text(data)}: {_text(said)}</h2>"
    if data in WORLDS:
        yield '<p class="note">The embedded world, not a benchmark of the field.</p>'
    rows = []
    for r in same:
        p = r.params
        link = f'<a href="#{_text(r.folder.name)}">{_text(_name(p))}</a>'
        cells = [link, *map(_text, (p.get("backbone", ""), p.get("frames", ""), _amount(r), p.get("seed", "")))]
        tested = r.main.get("episodes") or r.main.get("videos") or ""
        cells += [_text(_accuracy(r.main)), _text(f"{tested:,}" if tested else ""), _text(_coverage(r))]
        rows.append([*cells, _text(str(r.result["finished"])[:10])])
    head = ["method", "backbone", "frames", "trained on", "seed", "accuracy ± 95%", "tested on", "coverage", "finished"]
    yield from _table(head, rows, escaped=True, numbers={2, 4, 5, 6})


def _article(record: Record) -> Iterator[str]:
    p, result = record.params, record.result
    yield f'<article id="{_text(record.folder.name)}">\n<h2>{_text(_name(p))}, {_text(_group(record)[0])}, seed '
    yield f"{_text(p.get('seed', ''))}</h2>\n<p><code>{_text(record.folder.name)}</code>, finished "
    yield f"{_text(str(result['finished'])[:16])} UTC. {_text(record.main.get('interval_note', ''))}</p>"
    rows = []
    for name, found in sorted(result.items(), key=lambda pair: (pair[0] != record.split, pair[0])):
        if isinstance(found, dict) and "accuracy" in found:
            tested = f"{found['episodes']:,} episodes" if "episodes" in found else f"{found.get('videos', 0):,} videos"
            rows.append([name.replace("_", " "), _accuracy(found), tested, str(found.get("checksum", ""))[:12]])
    yield from _table(["tested", "accuracy ± 95%", "on", "list"], rows, numbers={1})
    coverage = [
        [line.get("split", ""), f"{line.get('present', 0):,}", f"{line.get('listed', 0):,}"]
        for line in result.get("coverage", [])
    ]
    yield "<h3>Coverage of the local copy</h3>"
    yield from _table(["split", "videos present", "videos listed"], coverage, numbers={1, 2})
    yield "<h3>Repeat it</h3>"
    notebook = command(p)
    if notebook:
        yield f"<p>In its notebook:</p>\n<pre>{_text(notebook)}</pre>"
    yield f"<p>This run alone (a finished run of the same code is reused):</p>\n<pre>{_text(alone(record))}</pre>"
    yield from _figures(record)
    cost = result.get("cost") or {}
    if cost:
        yield from _folded("Cost", cost)
    yield from _folded("Parameters", p)
    yield from _folded("Environment", _flat(record.environment))
    yield "</article>"


def _figures(record: Record) -> Iterator[str]:
    files = sorted(f for f in record.folder.glob("figures/*") if f.suffix in PICTURES and not f.name.startswith("."))
    drawn = {f.stem: f for f in sorted(files, key=lambda f: f.suffix == ".png")}  # of two kinds the png
    if drawn:
        yield "<h3>Figures</h3>"
    for name, file in sorted(drawn.items()):
        content = base64.b64encode(file.read_bytes()).decode()
        title = _text(name.replace("_", " "))
        yield f'<figure><img alt="{title}" loading="lazy" src="data:{PICTURES[file.suffix]};base64,{content}">'
        yield f"<figcaption>{title}</figcaption></figure>"


def _folded(title: str, values: Mapping[str, Any]) -> Iterator[str]:
    yield f"<details>\n<summary>{title}</summary>"
    yield from _table(["name", "value"], [[name, _value(value)] for name, value in sorted(values.items())])
    yield "</details>"


def _table(head: list[str], rows: list[list], escaped: bool = False, numbers: set[int] = frozenset()) -> Iterator[str]:
    if not rows:
        yield '<p class="note">None.</p>'
        return
    words = "".join(f"<th>{_text(word)}</th>" for word in head)
    yield f'<div class="wide"><table>\n<thead><tr>{words}</tr></thead>\n<tbody>'
    for row in rows:
        cells = (cell if escaped else _text(cell) for cell in row)
        kinds = (' class="number"' if i in numbers else "" for i in range(len(row)))
        yield "<tr>" + "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, cells, strict=True)) + "</tr>"
    yield "</tbody>\n</table></div>"


def _text(value: Any) -> str:
    return html.escape(str(value))


def _value(value: Any) -> str:
    return (
        json.dumps(value) if isinstance(value, (dict, list)) else f"{value:.4g}" if isinstance(value, float) else value
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{prefix}{name} ") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def _name(params: Mapping[str, Any]) -> str:
    method = str(params.get("method", "?"))
    said = [label(method), params.get("ablation") or "", "released" if params.get("variant") == "released" else ""]
    return ", ".join(filter(None, said))


def _amount(record: Record) -> str:
    if not record.result.get("fit"):
        return "nothing"
    params = record.params
    return f"{params['epochs']} epochs" if "epochs" in params else f"{params.get('train_episodes', 0):,} episodes"


def _accuracy(found: Mapping[str, Any]) -> str:
    return f"{100 * found['accuracy']:.1f} ± {100 * found['interval']:.1f}" if "interval" in found else ""


def _coverage(record: Record) -> str:
    lines = [line for line in record.result.get("coverage", []) if line.get("split") == record.split]
    return "; ".join(f"{line['present']:,} of {line['listed']:,}" for line in lines)


# ---------------------------------------------------------------- commands


def alone(record: Record) -> str:
    """The line that repeats exactly this run, from its own parameter file."""
    module = "vidlib.training.video_text" if "epochs" in record.params else "vidlib.training.few_shot"
    return shlex.join(["python", "-m", module, "--params", str(record.folder / "params.json")])


def command(params: Mapping[str, Any]) -> str:
    """The ``vidlib run`` of the notebook that makes a run of these parameters, or "" where none was found that does."""
    kind = VideoTextRunParams if "epochs" in params else RunParams
    try:
        target = kind.parse(params)
        name = target.method if target.method in notebooks.MODELS else "few_shot"
        model = notebooks.MODELS[name]
        first = {
            n: getattr(target, n) for n in ("dataset", "shot", "method") if n in model.model_fields
        }  # whose recipe
        chosen: dict[str, Any] = {n: v for n, v in first.items() if v != model.model_fields[n].default}
        for _ in range(3):  # what differs is set, until nothing does
            meant = run.main_runs(notebooks.request(name, chosen))[0]
            differs = {n: v for n, v in target.determining().items() if getattr(meant, n) != v}
            if not differs:
                return run.command(notebooks.request(name, chosen))
            chosen |= {n: v for n, v in (differs | target.options).items() if n in model.model_fields}
    except UserError:
        return ""
    return ""
