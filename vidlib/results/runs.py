"""Run folders: ``runs/<id>/{params.json, environment.json, metrics.jsonl, readings.jsonl, result.json, episodes.npz,
checkpoint.safetensors, figures/}``.

The id hashes what determines the result (``identity``). Device, workers and folders stay out; versions of libraries do
too, but are compared where a finished run is reused.
"""

import collections
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import socket
import subprocess
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from vidlib.basics import paths
from vidlib.basics.errors import UserError
from vidlib.basics.lock import Lock
from vidlib.results.identity import VERSION, Identity

NAMED = (
    "torch",
    "torchvision",
    "lightning",
    "open_clip_torch",
    "timm",
    "av",
    "decord",
    "numpy",
    "safetensors",
    "einops",
)
COMPARED = ("torch", "open_clip_torch", "timm", "av")  # versions that can move a result's digits


# ---------------------------------------------------------------- lines of JSON


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """Append one JSON line in one write."""
    with open(path, "ab", buffering=0) as file:
        file.write((json.dumps(record) + "\n").encode())


def read_lines(path: Path) -> list[dict]:
    """All whole lines; a last line cut off by a kill is left out."""
    if not path.is_file():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [json.loads(line) for line in lines if line.strip()]


def keep_lines(path: Path, keep: Callable[[dict], bool]) -> list[dict]:
    """Drop the lines that ``keep`` refuses (and a half-written last one); return those that stay."""
    kept = [line for line in read_lines(path) if keep(line)]
    with paths.atomic_write(path) as part:
        part.write_text("".join(json.dumps(line) + "\n" for line in kept))
    return kept


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    with paths.atomic_write(path) as part:
        part.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


# ---------------------------------------------------------------- environment


def environment() -> dict[str, Any]:
    """What the run ran on: versions, processor, threads, commit; the host only as a hash, no user, no path."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "versions": versions(NAMED),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "cuda": torch.version.cuda if gpu else None,
        "commit": _commit(),
        "host": hashlib.sha256(socket.gethostname().encode()).hexdigest()[:12],
    }


def versions(names: Iterable[str]) -> dict[str, str | None]:
    """The installed version of each distribution, None where it is absent."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def _cpu_name() -> str:
    try:
        return re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text()).group(1)
    except (OSError, AttributeError):
        return platform.processor() or platform.machine()


def _commit() -> str | None:
    root = paths.checkout()
    if root is None or not (root / ".git").exists():
        return None
    try:
        ask = functools.partial(subprocess.run, cwd=root, capture_output=True, text=True, timeout=10)
        commit = ask(["git", "rev-parse", "HEAD"])
        changed = ask(["git", "status", "--porcelain"]).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return None
    return commit.stdout.strip() + ("+changes" if changed else "") if commit.returncode == 0 else None


# ---------------------------------------------------------------- the run


class Run:
    """One execution with its folder. ``state`` is ``new``, ``interrupted`` or ``finished``.

    An unfinished run holds its folder's lock until ``finish`` or ``close``; use it as a context manager.
    """

    def __init__(self, folder: Path, home: Path, state: str, lock: Lock | None):
        self.folder, self.home, self.state, self._lock = folder, home, state, lock

    @property
    def id(self) -> str:
        return self.home.name

    def path(self, *parts: str) -> Path:
        """A file of this run; ``path("figures", "curve.png")`` makes the figures folder."""
        path = self.folder.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @property
    def params(self) -> dict[str, Any]:
        return json.loads(self.path("params.json").read_text())

    @property
    def result(self) -> dict[str, Any]:
        """What ``finish`` was given, with ``finished`` (date, UTC); a ``UserError`` where the run is not finished."""
        if self.state != "finished":
            raise UserError(f"run {self.id} is {self.state}, it has no result yet: run it to its end first")
        return json.loads(self.path("result.json").read_text())

    @property
    def environment(self) -> dict[str, Any]:
        """What it ran on, and its ``identity``; empty where that was not recorded."""
        file = self.path("environment.json")
        return json.loads(file.read_text()) if file.is_file() else {}

    @property
    def identity(self) -> int:
        """The version of the scheme that its id follows; 1 before class texts and the like were hashed."""
        return self.environment.get("identity", {}).get("version", 1)

    def metrics(self) -> pd.DataFrame:
        """metrics.jsonl, one row per optimiser step."""
        return pd.DataFrame(read_lines(self.path("metrics.jsonl")))

    def count_reading(self, split: str, purpose: str) -> None:
        """Record that ``split`` was read, and what for: each look at val and test is counted, repeated ones too."""
        line = {"split": split, "purpose": purpose, "date": _now()}
        append_line(self.path("readings.jsonl"), line)

    def readings(self) -> dict[str, int]:
        """How often each split was read."""
        return dict(collections.Counter(line["split"] for line in read_lines(self.path("readings.jsonl"))))

    def finish(self, result: Mapping[str, Any]) -> "Run":
        """Write result.json, which makes the run finished; a repeated run takes the place of the one it repeats."""
        write_json(self.path("result.json"), {**result, "finished": _now()})
        self.state = "finished"
        self.close()
        self.folder = _settle(self.folder, self.home)
        return self

    def close(self) -> None:
        """Give the lock back; the run stays as far as it is."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Run({self.id}, {self.state})"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def open_run(identity: Identity, *, fresh: bool = False, say: Callable[[str], None] = print) -> Run:
    """The run of that identity: new, interrupted (go on with it) or finished (reuse it; ``say`` tells so).

    ``fresh`` repeats a finished run; the old record stays until the new one is finished, then beside it, dated.

    Raises ``UserError`` where another process owns the run.
    """
    home = _home(identity)
    repeat = home.with_name(home.name + ".fresh")
    _settle(repeat, home)
    if (home / "result.json").is_file() and not fresh:
        run = Run(home, home, "finished", None)
        say(
            f"run {run.id} was finished on {run.result['finished'][:16]} UTC{_other_versions(run)} and is reused "
            "(fresh=True repeats it)"
        )
        return run
    folder = repeat if (home / "result.json").is_file() else home
    lock = Lock(folder / "lock.json").acquire()
    for part in folder.glob(".part-*"):  # what a kill left half-written
        part.unlink()
    state = "interrupted" if (folder / "environment.json").is_file() else "new"
    write_json(folder / "params.json", dict(identity.params or identity.values))
    hashed = {"version": VERSION, "values": dict(identity.values), "contents": dict(identity.contents)}
    here = {"id": home.name, "identity": hashed, **environment()}
    if state == "interrupted":
        before = json.loads((folder / "environment.json").read_text())
        earlier = before.pop("earlier", [])
        say(f"run {home.name} was interrupted and goes on")
        here["earlier"] = earlier + ([before] if before != here else [])
    write_json(folder / "environment.json", here)
    return Run(folder, home, state, lock)


def find(identity: Identity) -> Run | None:
    """The finished run that ``open_run`` would reuse, or None; nothing is made or locked."""
    home = _home(identity)
    return Run(home, home, "finished", None) if (home / "result.json").is_file() else None


def _home(identity: Identity) -> Path:
    return Path(identity.root or paths.runs_dir()) / identity.id


def _other_versions(run: Run) -> str:
    """`` with torch 2.13.0 (here 2.14.1)`` where a library that can move digits has another version now."""
    then, now = run.environment.get("versions", {}), versions(COMPARED)
    other = [f"{name} {then.get(name)} (here {now[name]})" for name in COMPARED if then.get(name) != now[name]]
    return f" with {', '.join(other)}" if other else ""


def _settle(folder: Path, home: Path) -> Path:
    """Move a finished repetition to the run's own place, the record it repeats beside it under its date."""
    if folder == home or not (folder / "result.json").is_file():
        return home if folder == home else folder
    if home.exists():
        done = home / "result.json"
        date = json.loads(done.read_text())["finished"] if done.is_file() else f"{_now()} unfinished"
        home.rename(home.with_name(f"{home.name}.{re.sub('[^0-9]', '', date[:19])}"))
    (folder / "lock.json").unlink(missing_ok=True)
    folder.rename(home)
    return home


def load_all(root: str | Path | None = None) -> pd.DataFrame:
    """One row per finished run: ``id``, ``folder``, ``identity`` (an earlier number's runs are never reused), the
    parameters by name, ``result.<key>`` (nested keys joined by dots), ``readings.<split>``. Repetitions in progress,
    replaced records and unreadable folders are left out."""
    rows = []
    for file in sorted(Path(root or paths.runs_dir()).glob("*/result.json")):
        home = file.parent
        if "." in home.name:
            continue
        run = Run(home, home, "finished", None)
        try:
            row = {
                "id": run.id,
                "folder": str(home),
                "identity": run.identity,
                **run.params,
                **_flat("result", run.result),
            }
        except (OSError, json.JSONDecodeError):
            continue
        rows.append(row | {f"readings.{split}": n for split, n in run.readings().items()})
    return pd.DataFrame(rows)


def _flat(prefix: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {name: leaf for key, inner in value.items() for name, leaf in _flat(f"{prefix}.{key}", inner).items()}
