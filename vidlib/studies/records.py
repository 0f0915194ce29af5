"""Records of finished runs that come with vidlib, in ``records/``: what a notebook reads where a person has no runs.

A record is ``runs/<id>.json`` (parameters, environment, result, readings, a thinned curve) and ``runs/<id>.npz``: which
answers of each test were right, packed as bits, of videos the rank of the true class. What was asked lies once for all
records in ``lists/<checksum>.npz``, the digests of the source that computed in ``code/<digest>.json``. No weights.

A record stands in for a run of the same parameters, whatever the code: ``made_by`` says what differs.
"""

from __future__ import annotations

import functools
import io
import json
import tokenize
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vidlib import methods
from vidlib.basics import paths
from vidlib.basics.digests import PACKAGE, digest, file_digest
from vidlib.basics.errors import UserError
from vidlib.methods import yours
from vidlib.params.few_shot import RunParams
from vidlib.params.video_text import VideoTextRunParams
from vidlib.results import runs
from vidlib.results.accuracy import LATER, Evaluation
from vidlib.results.identity import code_digest, sources
from vidlib.training.run import AnyParams

FREE = ("source", "features")  # contents that a record may differ in: code, and the digits of stored features
CURVE = 30  # lines that a curve is thinned to
MEANS = ("loss", "accuracy", "grad_norm", "seconds")  # of which a line of a curve has the mean
DAMAGED = "take the file anew from the repository"


class Record(runs.Run):
    """A finished run of which no folder is here: all that a ``Run`` tells, but for weights and single predictions."""

    def __init__(self, file: Path):
        super().__init__(file.with_suffix(""), file.with_suffix(""), "finished", None)
        self.file = file

    @functools.cached_property
    def _content(self) -> dict[str, Any]:
        content = paths.read_json(self.file, DAMAGED)
        lacking = {"params", "environment", "result", "readings", "curve"} - content.keys()
        if lacking:
            raise UserError(f"{self.file} lacks {', '.join(sorted(lacking))}: {DAMAGED}")
        return content

    def _read(self, name: str) -> dict[str, Any]:
        return self._content[name.removesuffix(".json")]

    @property
    def environment(self) -> dict[str, Any]:
        return self._content["environment"]

    def path(self, *parts: str) -> Path:
        """UserError: what is asked for lies in a run's folder, which a record has not."""
        raise UserError(f"{self.id} is a shipped record without {'/'.join(parts)}: {again(self)} trains it here")

    @property
    def curve(self) -> list[dict[str, Any]]:
        """Thinned: each line the mean of a stretch of steps, or a selection."""
        return self._content["curve"]

    def metrics(self) -> pd.DataFrame:
        """The curve as a table."""
        return pd.DataFrame(self.curve)

    def readings(self) -> dict[str, int]:
        return dict(self._content["readings"])

    def count_reading(self, split: str, purpose: str) -> None:
        """Nothing: no video is read."""

    def evaluation(self, what: str) -> Evaluation:
        """A test by its name in the result; its ``predicted`` is -1 where an answer is wrong."""
        summary, report = self.result[what], self.params["report"]
        asked = read_npz(self.file.parent.parent / "lists" / f"{summary['checksum'][:16]}.npz")
        kept = read_npz(self.file.with_suffix(".npz"))
        if lacking := {what, report} - kept.keys():
            raise UserError(f"{self.file.stem}.npz keeps no answers of {', '.join(sorted(lacking))}: {DAMAGED}")
        answers = kept[what]
        if asked["trial"] == "episode":
            if _differs(self.result, what, report):
                answers = answers ^ kept[report]
            answers = np.unpackbits(answers)[: len(asked["truth"])].astype(bool)
        if len(answers) != len(asked["truth"]):
            raise UserError(f"{self.file.stem}.npz has too few answers of {what}: {DAMAGED}")
        return _evaluation(summary, asked, answers)


def again(run: runs.Run) -> str:
    """The line that does a record's run anew."""
    return f"vidlib evidence {run.id}"


# ---------------------------------------------------------------- finding


def key(params: AnyParams) -> str:
    """The digest of what determines a run's result, as its parameters say it: code and content are looked at later."""
    values = {name: value for name, value in params.determining().items() if name != "precision"}
    return digest(json.loads(json.dumps(values)))


def find(params: AnyParams) -> Record | None:
    """The shipped record of a run, whatever code made it; None where there is none. No video is touched."""
    root = paths.records_dir()
    runs_of = root and root / "runs"
    there = runs_of.stat().st_mtime_ns if runs_of and runs_of.is_dir() else 0
    return _by_key(root, there).get(key(params))


def parsed(run: runs.Run) -> AnyParams:
    """A run's parameters."""
    kind = VideoTextRunParams if "protocol" in run.params else RunParams
    return kind.parse(run.params)


def load(root: Path | None = None) -> list[Record]:
    """All records, by their names; UserError where a folder is named that holds none."""
    files = _files(root or paths.records_dir())
    if root and not files:
        raise UserError(f"{root} holds no records: give a folder with runs/*.json")
    return [Record(file) for file in files]


def _files(root: Path | None) -> list[Path]:
    """Those of the records in a folder, in order; what is just being written is none."""
    return sorted(file for file in (root / "runs").glob("*.json") if file.name[0] != ".") if root else []


@functools.lru_cache(4)
def _by_key(root: Path | None, changed: int) -> dict[str, Record]:
    """The records of a folder by their keys; ``changed``: when one last came or went."""
    return dict(reversed([_keyed(file) for file in _files(root)]))


@functools.cache
def _keyed(file: Path) -> tuple[str, Record]:
    record = Record(file)
    return key(parsed(record)), record


def made_by(record: Record) -> str:
    """In words: when, by which commit, and what of the source that computes is another one today."""
    here = record.environment
    said = f"{record.result['finished'][:10]}, commit {(here.get('commit') or 'unknown')[:7]}"
    try:
        if code_digest(methods.source_file(record.params["method"])) == here["identity"]["contents"]["source"]:
            return f"{said}, by today's code"
    except UserError:
        return f"{said}, by a method that is not here"
    return f"{said}, by earlier code: since then {changed(record)} changed"


def changed(record: Record) -> str:
    """The source files that computed and are other ones today, by name."""
    code = record.environment["identity"]["contents"]["source"]
    then = paths.read_json(record.file.parent.parent / "code" / f"{code[:16]}.json", DAMAGED)
    now = _digests(methods.source_file(record.params["method"]))
    return ", ".join(sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name)))


@functools.cache
def _digests(method: Path) -> dict[str, str]:
    return {path.relative_to(PACKAGE).as_posix(): file_digest(path) for path in sources(method)}


# ---------------------------------------------------------------- packing


def pack(run: runs.Run, root: Path) -> Path:
    """Write the record of a finished run into ``root``; its file. UserError where the source that computed it is no
    longer here, since the record says which that was."""
    params, environment = run.params, run.environment
    if yours.is_file(params["method"]):
        raise UserError(f"{run.id} is of a method of your own, {params['method']}: records are of vidlib's")
    code = environment["identity"]["contents"]["source"]
    method = methods.source_file(params["method"])
    if code_digest(method) != code:
        raise UserError(f"{run.id} was computed by other code than is here: pack it with that code")
    result = {name: value for name, value in run.result.items() if name != "files"}
    report, kept = params["report"], {}
    for name in [name for name, test in result.items() if isinstance(test, dict) and "checksum" in test]:
        tested = Evaluation.load(run.path(runs.trials(name, result[name], report)))
        _write(root / "lists" / f"{tested.checksum[:16]}.npz", **_question(tested))
        kept[name] = _answers(tested)
        if name != report:
            result[name] = {key: value for key, value in result[name].items() if key != "per_class"}
    for name in [name for name in kept if _differs(result, name, report) and kept[name].dtype == bool]:
        kept[name] = kept[name] ^ kept[report]  # which is small where a control changes little
    packed = {name: np.packbits(each) if each.dtype == bool else each for name, each in kept.items()}
    _write(root / "runs" / f"{run.id}.npz", **packed)
    content = {"params": params, "environment": environment, "result": result, "readings": readings(run)}
    place = root / "runs" / f"{run.id}.json"
    sourced = root / "code" / f"{code[:16]}.json"
    if not sourced.is_file():
        _text(sourced, json.dumps(_digests(method), indent=0, sort_keys=True))
    _text(place, json.dumps(content | {"curve": thinned(runs.read_lines(run.path(runs.METRICS)))}, sort_keys=True))
    return place


def readings(run: runs.Run) -> dict[str, int]:
    """How often each split was read until the run's end; what a study looks at later chose nothing of it."""
    lines, end = runs.read_lines(run.path("readings.jsonl")), run.result["finished"]
    return dict(Counter(line["split"] for line in lines if line["date"] <= end))


def _differs(result: Mapping[str, Any], what: str, report: str) -> bool:
    """Whether the answers of a test are kept as those that differ from the reported one's: it asked the same."""
    return what != report and result[what]["checksum"] == result[report]["checksum"]


def thinned(lines: list[dict]) -> list[dict]:
    """At most ``CURVE`` lines of means and, with them, every selection."""
    short, stretch = [], max(1, -(-len(lines) // CURVE))
    for begin in range(0, len(lines), stretch):
        part = lines[begin : begin + stretch]
        had = {name: [line[name] for line in part if line.get(name) is not None] for name in MEANS}
        mean = {name: float(f"{np.mean(values):.5g}") for name, values in had.items() if values}
        short.append({n: v for n, v in part[-1].items() if n not in mean and isinstance(v, int)} | mean)
        short += [{n: v for n, v in line.items() if n not in MEANS} for line in part if "val_accuracy" in line]
    return short


def _question(tested: Evaluation) -> dict[str, np.ndarray]:
    """What a list of trials asks, in small numbers."""
    asked = {"truth": tested.truth.astype(np.uint16), "classes": np.array(tested.classes)}
    asked |= {"split": np.array(tested.split), "trial": np.array(tested.trial)}
    asked["checksum"] = np.array(tested.checksum)
    if tested.trial == "episode":
        asked["per_episode"] = np.bincount(tested.episode).astype(np.uint8)
        for name in (name for name in LATER if getattr(tested, name) is not None):
            asked[name] = getattr(tested, name).astype(np.uint32)
    return asked


def _answers(tested: Evaluation) -> np.ndarray:
    """Of episodes whether each answer is right; of videos the rank of the true class, at most 255."""
    if tested.trial == "episode":
        return tested.predicted == tested.truth
    own = np.take_along_axis(tested.probabilities, tested.truth[:, None], 1)
    rank = (tested.probabilities > own).sum(1)
    return np.where((rank == 0) & (tested.predicted != tested.truth), 1, rank).clip(0, 255).astype(np.uint8)


def _evaluation(summary: Mapping[str, Any], asked: Mapping[str, np.ndarray], answers: np.ndarray) -> Evaluation:
    truth = asked["truth"].astype(np.int64)
    right = answers if answers.dtype == bool else answers == 0
    trial = str(asked["trial"])
    rest: dict[str, Any] = {"per_trial": right.astype(float)}
    if trial == "episode":
        number = asked["per_episode"].astype(np.int64)
        episode = np.repeat(np.arange(len(number)), number)
        rest = {"per_trial": np.bincount(episode, right) / number, "episode": episode}
        rest |= {name: asked[name].astype(np.int64) for name in LATER if name in asked}
    return Evaluation(
        trial=trial,
        split=str(asked["split"]),
        classes=tuple(map(str, asked["classes"])),
        checksum=summary["checksum"],
        how=str(summary.get("mode") or summary.get("views")),
        seconds=float(summary["seconds"]),
        truth=truth,
        predicted=np.where(right, truth, -1),
        controls=dict(summary["controls"]),
        **rest,
    )


def npz(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a file as they are now; UserError where it cannot be read."""
    try:
        with np.load(file, allow_pickle=False) as content:
            return dict(content)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, tokenize.TokenError) as error:
        raise UserError(f"{file} cannot be read ({error}): {DAMAGED}") from None


read_npz = functools.lru_cache(64)(npz)


def _write(file: Path, **arrays: np.ndarray) -> None:
    """An .npz that is the same, byte for byte, whenever the arrays are: members have no date of their own."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(arrays):
            member = io.BytesIO()
            np.lib.format.write_array(member, np.asarray(arrays[name]), allow_pickle=False)
            archive.writestr(
                zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), member.getvalue(), zipfile.ZIP_DEFLATED
            )
    file.parent.mkdir(parents=True, exist_ok=True)
    with paths.atomic_write(file) as part:
        part.write_bytes(buffer.getvalue())


def _text(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with paths.atomic_write(file) as part:
        part.write_text(text + "\n")
