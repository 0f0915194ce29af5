"""``vidlib report page``: the runs folder as one HTML file that needs nothing else, not even JavaScript.

A table of all finished runs, grouped by what they were tested on, the best first; then each run with its result and
interval, coverage, parameters, environment, figures, and the commands that repeat it. Runs that are not finished, and
folders that cannot be read, are listed as such. ``report_page.html.j2`` is the page; it escapes whatever stands in it.
"""

import base64
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from vidlib.basics import paths
from vidlib.basics.errors import UserError
from vidlib.basics.paths import atomic_write
from vidlib.cli import run
from vidlib.data.catalogue.benchmarks import WORLDS
from vidlib.params import notebooks
from vidlib.params.few_shot import RunParams
from vidlib.params.names import label
from vidlib.params.video_text import VideoTextRunParams
from vidlib.results import runs
from vidlib.results.budget import budget
from vidlib.results.identity import VERSION
from vidlib.results.intervals import each_called

FILE = "report.html"
TEMPLATE = "report_page.html.j2"  # beside this file
PICTURES = {".png": "image/png", ".svg": "image/svg+xml"}


@dataclass
class Record:
    """What one run folder holds and what the page says of it; ``trouble`` says why one has no result."""

    folder: Path
    params: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    trouble: str = ""
    line: list[Any] = field(default_factory=list)
    article: dict[str, Any] = field(default_factory=dict)
    key: tuple = ()

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
    folder = runs.existing(root)
    file = paths.absolute(out) if out else folder / FILE
    if file.is_dir():
        raise UserError(f"out: {file} is a folder; give a file, such as {file / FILE}")
    paths.check_writable(file, "out")
    found = records(folder)
    with paths.written("out", file), atomic_write(file) as part:
        part.write_text(_page(folder, found), encoding="utf-8")
    return file, sum(not record.trouble for record in found)


def records(root: Path) -> list[Record]:
    """Every run folder of ``root``: finished ones first, by data, then from the best down; then the others by name."""
    found = []
    for folder in sorted({file.parent for name in ("params", "result") for file in root.glob(f"*/{name}.json")}):
        record = Record(folder)
        try:
            run = runs.read(folder) or runs.Run(folder, folder, "interrupted", None)
            record.params, record.environment = run.params, run.environment
            if run.state == "finished":
                record.result = run.result
                record.trouble = runs.studied(run)
                if not record.trouble:
                    record.line, record.article, record.key = _line(record), _article(record), _sorted_by(record)
            else:
                record.trouble = "not finished"
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            record.trouble = f"cannot be read ({type(error).__name__}: {error})"
        if "." in record.folder.name and not record.trouble:
            record.trouble = "replaced by a repetition"
        found.append(record)
    done = [record for record in found if not record.trouble]
    done.sort(key=lambda record: record.key)
    return done + [record for record in found if record.trouble]


def _sorted_by(record: Record) -> tuple[str, str, float, str]:
    return *_group(record), -record.main["accuracy"], record.folder.name


def _group(record: Record) -> tuple[str, str]:
    """(data set, protocol): what may stand in one table."""
    p = record.params
    if "protocol" in p:
        data = p.get("dataset", "")
        each = p.get("train_per_class", p.get("shot"))  # the name in earlier records
        said = p["protocol"] + (f", {each} per class" if each else "")
    else:
        data, said = p.get("dataset", ""), f"{p.get('way')}-way {p.get('shot')}-shot, {p.get('query')} query per class"
    other = f", tested on {p['test_dataset']}" if p.get("test_dataset") else ""
    lists = f", split {p['official_split']}" if data.startswith("official:") and "official_split" in p else ""
    return f"{data}{lists}{other}", f"{said}, {record.split}"


def _page(folder: Path, found: list[Record]) -> str:
    done = [record for record in found if not record.trouble]
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in done:
        groups.setdefault(_group(record), []).append(record)
    own = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return own.get_template(TEMPLATE).render(
        folder=folder.name,
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        groups=[
            {"data": data, "protocol": said, "world": data in WORLDS, "rows": [record.line for record in same]}
            for (data, said), same in groups.items()
        ],
        others=[[record.folder.name, record.trouble] for record in found if record.trouble],
        articles=[record.article for record in done],
    )


def _line(record: Record) -> list[Any]:
    """A run's row in the table of its group; the first cell leads to its article."""
    p, found = record.params, record.main
    tested = found.get("episodes") or found.get("videos") or ""
    cells = [{"link": record.folder.name, "text": _name(p)}, p.get("backbone", ""), p.get("frames", "")]
    cells += [
        budget(record.params, record.result),
        p.get("seed", ""),
        _accuracy(found),
        f"{tested:,}" if tested else "",
    ]
    return [*cells, _coverage(record), str(record.result["finished"])[:10]]


def _article(record: Record) -> dict[str, Any]:
    """What the template says of one run."""
    p, result = record.params, record.result
    tested = []
    for name, found in sorted(result.items(), key=lambda pair: (pair[0] != record.split, pair[0])):
        if isinstance(found, dict) and "accuracy" in found:
            on = f"{found['episodes']:,} episodes" if "episodes" in found else f"{found.get('videos', 0):,} videos"
            tested.append([name.replace("_", " "), _accuracy(found), on, str(found.get("checksum", ""))[:12]])
    coverage = [
        [line.get("split", ""), f"{line.get('present', 0):,}", f"{line.get('listed', 0):,}"]
        for line in result.get("coverage", [])
    ]
    said = {"id": record.folder.name, "name": _name(p), "data": _group(record)[0], "seed": p.get("seed", "")}
    said |= {"finished": str(result["finished"])[:16].replace("T", " "), "note": _note(record.main)}
    said |= {"tested": tested, "coverage": coverage, "command": command(p), "alone": alone(record)}
    said |= {"figures": _figures(record), "cost": _rows(result.get("cost") or {}), "params": _rows(p)}
    ran_on = dict(record.environment)
    hashed = ran_on.pop("identity", {})
    said |= {"identity": _rows(_flat(hashed)), "older": hashed.get("version", 1) < VERSION}
    return said | {"environment": _rows(_flat(ran_on))}


def _figures(record: Record) -> list[dict[str, str]]:
    files = sorted(f for f in record.folder.glob("figures/*") if f.suffix in PICTURES and not f.name.startswith("."))
    drawn = {f.stem: f for f in sorted(files, key=lambda f: f.suffix == ".png")}  # of two kinds the png
    return [
        {
            "title": name.replace("_", " "),
            "kind": PICTURES[file.suffix],
            "content": base64.b64encode(file.read_bytes()).decode(),
        }
        for name, file in sorted(drawn.items())
    ]


def _rows(values: Mapping[str, Any]) -> list[list[Any]]:
    return [[name, _value(value)] for name, value in sorted(values.items())]


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
    shown = label(str(params.get("method", "?")))
    said = [shown, params.get("ablation") or "", "released" if params.get("variant") == "released" else ""]
    return ", ".join(filter(None, said))


def _accuracy(found: Mapping[str, Any]) -> str:
    if "low" in found:  # of a share near 0 or 1 its ends lie unevenly
        return "{:.1f} ({:.1f} to {:.1f})".format(*(100 * found[name] for name in ("accuracy", "low", "high")))
    return f"{100 * found['accuracy']:.1f} ± {100 * found['interval']:.1f}" if "interval" in found else ""


def _note(found: Mapping[str, Any]) -> str:
    """What the interval is of, and how wide those over other videos and classes are, where that is known."""
    note = found.get("interval_note", "")
    others = {kind: half for kind, half in found.get("intervals", {}).items() if f"over {kind}" not in note}
    return "; ".join(filter(None, (note, each_called(others))))


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
