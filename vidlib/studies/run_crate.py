"""``vidlib report crate``: a finished run as an RO-Crate of the profile Process Run Crate 0.5, which machines read.

The action is the run: vidlib its instrument, parameters and digests of what was read its inputs, tests and files its
results. What the run does not record is left out: who started it, and when it began where the folder was copied.
"""

import json
import mimetypes
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vidlib.basics import paths
from vidlib.basics.errors import UserError
from vidlib.params.base import PlaceParams
from vidlib.params.names import label
from vidlib.results import runs
from vidlib.studies import records

FILE = "ro-crate-metadata.json"
CRATE, PROFILE = "https://w3id.org/ro/crate/1.1", "https://w3id.org/ro/wfrun/process/0.5"
OURS = {"@id": "https://spdx.org/licenses/MIT", "@type": "CreativeWork", "name": "MIT", "description": "of vidlib"}
THEIRS = {"@id": "#licence", "@type": "CreativeWork", "name": "not stated", "description": "Who made the run decides."}
GIVEN = ("params.json", "environment.json")  # inputs among the files; the others are results
TOLD = ("accuracy", "interval", "interval_note", "episodes", "checksum")  # of a test
RAN_ON = ("python", "platform", "cpu", "cores", "threads", "gpu", "cuda")
Entity = dict[str, Any]


def described(run: runs.Run, files: Mapping[str, Path]) -> Entity:
    """The JSON-LD of a finished run whose crate holds ``files``, by their names in it; UserError: no result."""
    params, result, here = run.params, run.result, run.environment
    read = here.get("identity", {}).get("contents", {})
    module = "video_text" if "protocol" in params else "few_shot"
    place = ", ".join(f"{name} {here[name]}" for name in RAN_ON if here.get(name))
    said = f"python -m vidlib.training.{module} --params params.json; on {place}. Who started it is not recorded."
    version = f"commit {here.get('commit') or 'unknown'}; sha256 of what computes: {read.get('source', 'unknown')}"
    needs = [_software(f"#software-{name}", name, of) for name, of in here.get("versions", {}).items() if of]
    tool = _software("#vidlib", "vidlib", version) | {"softwareRequirements": _refs(needs)}
    kept = [_file(name, path) for name, path in files.items()]
    inputs = [_value("parameter", *one) for one in params.items() if one[0] not in PlaceParams.PLACE]
    inputs += [_value("sha256", *one) for one in read.items()]
    tests = {name: test for name, test in result.items() if isinstance(test, dict) and "accuracy" in test}
    told = {f"{name} {key}": test[key] for name, test in tests.items() for key in TOLD if key in test}
    told |= {f"{part} {key}": v for part in ("cost", "fit") for key, v in (result.get(part) or {}).items()}
    outputs = [_value("result", *one) for one in told.items()]
    title = f"{label(str(params['method']))} on {params.get('test_dataset') or params['dataset']}, run {run.id}"
    action = {"@id": "#run", "@type": "CreateAction", "name": title, "description": said}
    action |= {"instrument": {"@id": "#vidlib"}, "actionStatus": "http://schema.org/CompletedActionStatus"}
    action |= {"endTime": result["finished"]} | ({"startTime": at} if (at := _began(run)) else {})
    action["object"] = _refs([*(one for one in kept if one["@id"] in GIVEN), *inputs])
    action["result"] = _refs([*(one for one in kept if one["@id"] not in GIVEN), *outputs])
    profile = {"@id": PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}
    terms = OURS if isinstance(run, records.Record) else THEIRS
    root = {"@id": "./", "@type": "Dataset", "name": title, "description": f"A finished run of vidlib: {title}."}
    root |= {"datePublished": result["finished"], "license": _refs([terms])[0], "conformsTo": {"@id": PROFILE}}
    root |= {"hasPart": _refs(kept), "mentions": {"@id": "#run"}}
    about = {"@id": FILE, "@type": "CreativeWork", "conformsTo": {"@id": CRATE}, "about": {"@id": "./"}}
    graph = [about, root, profile, terms, action, tool, *needs, *kept, *inputs, *outputs]
    return {"@context": f"{CRATE}/context", "@graph": graph}


def write(run: runs.Run, out: Path | None = None) -> Path:
    """Make the crate of a run or record in the folder ``out`` (default: ``crates/`` among the runs); that folder.

    UserError: ``out`` holds something that is no crate of this run, or cannot be written; a file of the run is gone.
    """
    out = out or paths.runs_dir() / "crates" / run.id
    if out.exists() and not ((out / FILE).is_file() and f"run {run.id}" in (out / FILE).read_text()):
        raise UserError(f"out: {out} is there and is no crate of this run; give a folder that is not there yet")
    held = files(run)
    if lacking := [path for path in held.values() if not path.is_file()]:
        raise UserError(f"{lacking[0]} is not here: {records.DAMAGED}")
    told = json.dumps(described(run, held), indent=1, ensure_ascii=False) + "\n"
    with paths.written("out", out):
        with paths.atomic_write(out / FILE) as part:  # first, so that one that was interrupted is known as ours
            part.write_text(told)
        for name, path in held.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, out / name)
    return out


def files(run: runs.Run) -> dict[str, Path]:
    """What the crate holds, by its name there: all of a run's folder, or a record with its answers and lists."""
    if not isinstance(run, records.Record):
        every = sorted(path for path in run.folder.rglob("*") if path.is_file() and path.name[0] != ".")
        return {path.relative_to(run.folder).as_posix(): path for path in every}
    root, code = run.file.parent.parent, run.environment["identity"]["contents"]["source"]
    lists = [each["checksum"] for each in run.result.values() if isinstance(each, dict) and "checksum" in each]
    named = [root / "code" / f"{code[:16]}.json", *(root / "lists" / f"{one[:16]}.npz" for one in lists)]
    held = [run.file, run.file.with_suffix(".npz"), *named]
    return {path.relative_to(root).as_posix(): path for path in held}


def _software(key: str, name: str, version: str) -> Entity:
    return {"@id": key, "@type": "SoftwareApplication", "name": name, "softwareVersion": version}


def _file(name: str, path: Path) -> Entity:
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return {
        "@id": name,
        "@type": "File",
        "name": path.name,
        "encodingFormat": kind,
        "contentSize": str(path.stat().st_size),
    }


def _value(kind: str, name: str, value: Any) -> Entity:
    value = value if isinstance(value, (bool, int, float, str)) else json.dumps(value)
    return {"@id": f"#{kind}-{name.replace(' ', '-')}", "@type": "PropertyValue", "name": name, "value": value}


def _refs(entities: list[Entity]) -> list[Entity]:
    return [{"@id": one["@id"]} for one in entities]


def _began(run: runs.Run) -> str | None:
    """When params.json was written, as the file system has it; None of a record, a resumed run, a copied folder."""
    if isinstance(run, records.Record) or "earlier" in run.environment:
        return None
    at = datetime.fromtimestamp(run.path("params.json").stat().st_mtime, UTC).isoformat(timespec="seconds")
    return at if at <= run.result["finished"] else None
