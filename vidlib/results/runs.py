"""Run folders: ``runs/<id>/{params.json, environment.json, metrics.jsonl, readings.jsonl, result.json, episodes.npz,
checkpoint.safetensors, figures/}``.

A run is finished when ``result.json`` is there and so is every file that it names: it is written last but for the state
that a resume needs, which is taken away after it. A kill between any two writes leaves a run to go on with or one that
is finished.
The id hashes what determines the result (``identity``). Device, workers and folders stay out; versions of libraries do
too, but are compared where a finished run is reused.
"""

import collections
import contextlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidlib.basics import paths
from vidlib.basics.errors import UserError
from vidlib.basics.lock import Lock
from vidlib.results.environment import COMPARED, environment, versions
from vidlib.results.identity import VERSION, Identity

if TYPE_CHECKING:
    import pandas as pd

STATE, WEIGHTS, METRICS = "state.safetensors", "checkpoint.safetensors", "metrics.jsonl"
ALWAYS = ("params.json", "environment.json")
NUMBERS = ("accuracy", "interval", "trainable", "gmacs")  # wherever they stand in a result
ANEW = "put back a copy of it, or delete the run's folder to run it anew"


# ---------------------------------------------------------------- lines of JSON


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """Append one JSON line in one write."""
    paths.append(path, (json.dumps(record) + "\n").encode())


def read_lines(path: Path) -> list[dict]:
    """All whole lines; a last line cut off by a kill is left out. A ``UserError`` names a line that is none of ours."""
    if not path.is_file():
        return []
    found = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            found += [json.loads(line)] if line.strip() else []
            if found and not isinstance(found[-1], dict):
                raise ValueError(f"a {type(found[-1]).__name__} instead of names with values")
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} is damaged in line {number} ({error}): {ANEW}") from None
    return found


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
        """A file of this run; ``path("figures", "curve.png")`` makes the figures folder. A ``UserError`` where the
        run's folder was deleted or became another's."""
        path = self.folder.joinpath(*parts)
        paths.check_ours(path)
        if not os.path.isdir(self.folder):
            raise UserError(f"run folder {self.folder} was deleted: run it anew")
        with paths.writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _read(self, name: str) -> dict[str, Any]:
        return paths.read_json(self.path(name), ANEW)

    @property
    def params(self) -> dict[str, Any]:
        return self._read("params.json")

    @property
    def result(self) -> dict[str, Any]:
        """What ``finish`` was given, with ``finished`` (date, UTC); a ``UserError`` where the run is not finished."""
        if self.state != "finished":
            raise UserError(f"run {self.id} is {self.state}, it has no result yet: run it to its end first")
        return self._read("result.json")

    @property
    def environment(self) -> dict[str, Any]:
        """What it ran on, and its ``identity``; empty where that was not recorded."""
        return self._read("environment.json") if self.path("environment.json").is_file() else {}

    @property
    def identity(self) -> int:
        """The version of the scheme that its id follows; 1 before class texts and the like were hashed."""
        own = self.environment.get("identity", {})
        return own.get("version", 1) if isinstance(own, dict) else 1

    def metrics(self) -> "pd.DataFrame":
        """metrics.jsonl, one row per optimiser step."""
        import pandas as pd  # here, so that a record is read without it

        return pd.DataFrame(read_lines(self.path("metrics.jsonl")))

    def count_reading(self, split: str, purpose: str) -> None:
        """Record that ``split`` was read, and what for: each look at val and test is counted, repeated ones too."""
        line = {"split": split, "purpose": purpose, "date": _now()}
        append_line(self.path("readings.jsonl"), line)
        paths.flush(self.path("readings.jsonl"))

    def readings(self) -> dict[str, int]:
        """How often each split was read."""
        return dict(collections.Counter(line["split"] for line in read_lines(self.path("readings.jsonl"))))

    def finish(self, result: Mapping[str, Any], files: Iterable[str] = ()) -> "Run":
        """Write result.json, which makes the run finished; a repeated run takes the place of the one it repeats.

        ``files``: what the run must hold beside it, weights and trials; a ``UserError`` where one is not there.
        """
        files = sorted(files)
        if lost := [name for name in (*ALWAYS, *files) if not self.path(name).is_file()]:
            raise UserError(f"run folder {self.folder} has lost {', '.join(lost)}: delete it and run it anew")
        write_json(self.path("result.json"), {**result, "files": files, "finished": _now()})
        self.path(STATE).unlink(missing_ok=True)
        self.state = "finished"
        self.folder = _settle(self.folder, self.home)
        self.close()
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
    home = home_of(identity)
    repeat = _repetition(home)
    if done := finished(repeat):  # killed before it took its place: it is the one that was asked for
        lock = Lock(repeat / "lock.json").acquire()
        try:
            _settle(repeat, home)
        finally:
            lock.release()
    if finished(home) and (done or not fresh):
        with contextlib.suppress(OSError):  # of a kill right after the end, on a disk that may be read alone
            (home / STATE).unlink(missing_ok=True)
        run = Run(home, home, "finished", None)
        said = str(run.result.get("finished", "an unknown date"))[:16]
        say(f"run {run.id} was finished on {said} UTC{_other_versions(run)} and is reused (fresh=True repeats it)")
        return run
    folder = repeat if finished(home) else home
    lock = Lock(folder / "lock.json").acquire()
    if finished(folder):  # by another process, between our look and the lock
        lock.release()
        return open_run(identity, say=say)
    try:
        return _begin(identity, folder, home, lock, say)
    except BaseException:
        lock.release()
        raise


def _begin(identity: Identity, folder: Path, home: Path, lock: Lock, say: Callable[[str], None]) -> Run:
    """Write what a run is and what it runs on into its folder, which ``lock`` holds."""
    for part in folder.glob(".part-*"):  # what a kill left half-written
        part.unlink()
    if os.path.isfile(folder / "result.json"):
        say(f"run {home.name} has a result but lacks {', '.join(_lacking(folder))}: it is run anew")
        os.replace(folder / "result.json", folder / "result.incomplete.json")
    state = "interrupted" if (folder / "environment.json").is_file() else "new"
    remedy = "delete it, and the same command goes on"
    before = paths.read_json(folder / "environment.json", remedy) if state == "interrupted" else {}
    write_json(folder / "params.json", dict(identity.params or identity.values))
    hashed = {"version": VERSION, "values": dict(identity.values), "contents": dict(identity.contents)}
    here = {"id": home.name, "identity": hashed, **environment()}
    if state == "interrupted":
        earlier = before.pop("earlier", [])
        say(f"run {home.name} was interrupted and goes on")
        here["earlier"] = earlier + ([before] if before != here else [])
    write_json(folder / "environment.json", here)
    return Run(folder, home, state, lock)


def find(identity: Identity) -> Run | None:
    """The finished run that ``open_run`` would reuse, or None; nothing is made or locked."""
    home = home_of(identity)
    folder = next((folder for folder in (_repetition(home), home) if finished(folder)), None)
    return Run(folder, home, "finished", None) if folder else None


def finished(folder: Path) -> bool:
    """Whether a run folder holds a finished run, whole: its result and all that belongs to it. A ``UserError`` where
    the result cannot be read."""
    return os.path.isfile(folder / "result.json") and not _lacking(folder)


def _lacking(folder: Path) -> list[str]:
    """What a run with a result should hold and does not; earlier records, never reused, do not name their files."""
    record = paths.read_json(folder / "result.json", ANEW)
    files = (*ALWAYS, *map(str, record["files"])) if isinstance(record.get("files"), list) else ALWAYS[:1]
    return [name for name in files if not os.path.isfile(folder / name)]


def studied(run: Run) -> str:
    """What a study's run says that it is, which reports no split as a run does; "" of any other."""
    said = [each["what"] for each in run.result.values() if isinstance(each, dict) and "what" in each]
    return said[0] if said and run.params.get("report") not in run.result else ""


def trials(what: str, summary: Mapping[str, Any], report: str) -> str:
    """The file that holds the trials of a test, ``what`` it is called in result.json beside its ``summary``."""
    return "episodes.npz" if what == report and "episodes" in summary else f"{what}.npz"


def _repetition(home: Path) -> Path:
    return home.with_name(home.name + ".fresh")


def home_of(identity: Identity) -> Path:
    """Where the run of that identity lies, or would."""
    return Path(identity.root or paths.runs_dir()) / identity.id


def _other_versions(run: Run) -> str:
    """`` with torch 2.13.0 (here 2.14.1)`` where a library that can move digits has another version now."""
    then, now = run.environment.get("versions"), versions(COMPARED)
    then = then if isinstance(then, dict) else {}
    other = [f"{name} {then.get(name)} (here {now[name]})" for name in COMPARED if then.get(name) != now[name]]
    return f" with {', '.join(other)}" if other else ""


def _settle(folder: Path, home: Path) -> Path:
    """Move a finished repetition, whose lock is held, to the run's own place, the record it repeats beside it under its
    date."""
    if folder == home:
        return home
    (folder / STATE).unlink(missing_ok=True)
    with paths.writing(home):
        if home.exists():
            date = _now()
            with contextlib.suppress(UserError, KeyError):  # of a record that cannot be read
                date = Run(home, home, "finished", None).result["finished"]
            date = re.sub("[^0-9]", "", str(date)[:19])
            taken = (home.with_name(f"{home.name}.{date}{more}") for more in ("", *(f"-{n}" for n in range(2, 1000))))
            home.rename(next(place for place in taken if not place.exists()))
        (folder / "lock.json").unlink(missing_ok=True)
        folder.rename(home)
    return home


def existing(root: str | Path | None = None) -> Path:
    """The folder of the runs, default: the usual one; a UserError where it does not exist."""
    folder = Path(root or paths.runs_dir())
    if not folder.is_dir():
        raise UserError(f"runs: {folder} does not exist; give the folder of the runs, or run something first")
    return folder


def load_all(root: str | Path | None = None) -> "pd.DataFrame":
    """One row per finished run: ``id``, ``folder``, ``identity`` (an earlier number's runs are never reused), the
    parameters by name, ``result.<key>`` (nested keys joined by dots), ``readings.<split>``. Repetitions in progress,
    replaced records and incomplete ones are left out; so are unreadable ones, which ``attrs["unreadable"]`` of the
    table names, folder -> why."""
    import pandas as pd

    rows, unreadable = [], {}
    for file in sorted(Path(root or paths.runs_dir()).glob("*/result.json")):
        home = file.parent
        if "." in home.name:
            continue
        try:
            record = read(home)
            if record is None:
                continue
            row = {"id": home.name, "folder": str(home), "identity": record.identity, **record.params}
            row |= _flat("result", record.result)
            rows.append(row | {f"readings.{split}": n for split, n in record.readings().items()})
        except UserError as error:
            unreadable[home.name] = str(error)
    table = pd.DataFrame(rows)
    table.attrs["unreadable"] = unreadable
    return table


def read(home: Path) -> Run | None:
    """The finished run of a folder, None where it holds none that is whole; a ``UserError`` where what it holds is no
    record of a run."""
    if not finished(home):
        return None
    run = Run(home, home, "finished", None)
    _ = run.params, run.environment
    for key, value in _flat("result", run.result).items():
        number = key.rpartition(".")[2] in NUMBERS and value is not None
        if number and (not isinstance(value, (int, float)) or isinstance(value, bool)):
            raise UserError(f"{home / 'result.json'} is no record of a run: {key} is {value!r}; {ANEW}")
    return run


def _flat(prefix: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {name: leaf for key, inner in value.items() for name, leaf in _flat(f"{prefix}.{key}", inner).items()}
