"""``vidlib verify``: whether what a run's folder or a shipped record says holds, from its own files and this package.

A check is a function that yields a sentence for what does not hold. Nothing is trained or rendered, no GPU is needed.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vidlib.basics import paths
from vidlib.basics.errors import UserError
from vidlib.basics.words import few
from vidlib.results import runs, trust
from vidlib.studies import records
from vidlib.studies.verify import checks, replay, together
from vidlib.studies.verify.subject import Subject

ALONE = (*checks.CHECKS, replay.weights)
TOGETHER = (together.twins, together.strangers, together.once, together.tests, together.costs, together.bands)
REPLAYING = 20.0  # seconds after which no other run is replayed


@dataclass(frozen=True)
class Finding:
    """What does not hold: of which run or file, found by which check, in a sentence."""

    of: str
    check: str
    said: str

    def __str__(self) -> str:
        return f"{self.of}: {self.said}"


@dataclass
class Verdict:
    """What was found: ``findings`` do not hold, ``flagged`` is unlike its kind, ``unknown`` (what -> runs) could not be
    checked, ``partial`` (run -> words) is of incomplete data."""

    subjects: int = 0
    findings: list[Finding] = field(default_factory=list)
    flagged: list[Finding] = field(default_factory=list)
    unknown: Counter = field(default_factory=Counter)
    partial: dict[str, str] = field(default_factory=dict)
    replayed: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def lines(self) -> Iterator[str]:
        """All but the findings, in words."""
        yield from (f"flagged: {each}" for each in self.flagged)
        if self.flagged:
            yield "flagged is what is unlike the same run with other seeds: to be looked at, no error by itself"
        yield from (f"{name} is of incomplete data: {said}" for name, said in self.partial.items())
        yield from (f"not checked, of {number}: {what}" for what, number in sorted(self.unknown.items()))
        again = f"replayed: {few(self.replayed, 5)}" if self.replayed else "none replayed"
        holds = "what they say holds" if not self.findings else f"{len(self.findings)} things do not hold"
        number = len(ALONE) + len(TOGETHER) + 2
        yield f"{self.subjects} runs or records, {number} checks in {self.seconds:.0f} s, {again}; {holds}"


def found(path: str | Path, unread: Callable[[str, UserError], object] | None = None) -> list[runs.Run]:
    """The runs that a path names: a run's folder, a record's .json, a folder of records or of runs. One of several
    folders that cannot be read is told to ``unread``, by its name."""
    path = paths.absolute(path)
    if path.suffix == ".json" and path.is_file() and path.parent.name == "runs":
        return [records.Record(path)]
    if any((path / "runs").glob("[!.]*.json")):
        return records.load(path)
    homes = [path] if (path / "result.json").is_file() else [file.parent for file in sorted(path.glob("*/result.json"))]
    whole = []
    for home in homes:
        try:
            whole += filter(None, [runs.read(home)])
        except UserError as error:
            if unread is None or len(homes) == 1:
                raise
            unread(home.name, error)
    if not whole:
        raise UserError(
            f"{path} is no finished run, record, or folder of them: give RUN, records/ or records/runs/ID.json"
        )
    return whole


def verify(where: Sequence[str | Path] = (), replaying: float = REPLAYING) -> Verdict:
    """Check all that ``where`` names, by default the shipped records; ``replaying``: seconds for it."""
    began = time.monotonic()
    roots = [*where] or [place for place in [paths.records_dir()] if place]
    if not roots:
        raise UserError("no records are here: give a run's folder, or a folder of records")
    verdict, subjects = Verdict(), []

    def unread(name: str, error: UserError) -> None:
        verdict.findings.append(Finding(name, "read", str(error)))

    for run in (run for root in roots for run in found(root, unread)):
        verdict.subjects += 1
        if it := _subject(run, verdict.findings, verdict.unknown):
            subjects.append(it)
            _alone(it, verdict)
    own = {it.run.id for it in subjects}
    shipped = [it for run in records.load() if run.id not in own and (it := _subject(run, []))]
    for check in TOGETHER:
        into = verdict.flagged if check is together.bands else verdict.findings
        for it, said in check([it for it in shipped + subjects if _usable(it)]):
            if it.run.id in own:
                into.append(Finding(it.run.id, check.__name__, said))
    for root in (Path(root) for root in roots if (Path(root) / "runs").is_dir()):
        verdict.findings += [Finding(of, "figures", said) for of, said in together.figures(root)]
    _replay(subjects, verdict, replaying)
    for it in subjects:
        verdict.unknown.update(dict.fromkeys(it.unknown, 1))
    verdict.seconds = time.monotonic() - began
    return verdict


def unlike(own: Sequence[runs.Run]) -> list[str]:
    """What ``bands`` says of runs beside the shipped records of their kinds; nothing where none is of a kind."""
    subjects = [it for run in own if (it := _subject(run, []))]
    kinds, names = {together.kind(it) for it in subjects}, {run.params["method"] for run in own}
    shipped = [run for run in records.load() if run.params["method"] in names and run.id not in {r.id for r in own}]
    same = [it for run in shipped if (it := _subject(run, [])) and together.kind(it) in kinds]
    flagged = together.bands([it for it in [*same, *subjects] if _usable(it)]) if same else ()
    return [f"{it.run.id}: {said}" for it, said in flagged if it in subjects]


def _subject(run: runs.Run, findings: list[Finding], unknown: Counter | None = None) -> Subject | None:
    try:
        if what := runs.studied(run):
            (Counter() if unknown is None else unknown)[f"a study's run ({what})"] += 1
            return None
        return Subject(run)
    except (UserError, KeyError, TypeError, AttributeError) as error:
        findings.append(Finding(run.id, "read", f"it cannot be read as a record ({error})"))
        return None


def _alone(it: Subject, verdict: Verdict) -> None:
    for check in ALONE:
        verdict.findings += [Finding(it.run.id, check.__name__, said) for said in _said(check, it)]
    vars(it).pop("tests", None)  # some MB
    if not it.broken and (lacking := trust.incomplete(it.result)):
        verdict.partial[it.run.id] = lacking


def _said(check: Callable[[Subject], Iterator[str]], it: Subject) -> list[str]:
    """``together.said_by`` of one run, which is broken where it cannot be read."""
    return together.said_by(check, it, lambda: setattr(it, "broken", True))


def _usable(it: Subject) -> bool:
    """Whether its answers, cost and curve can be read."""
    if not it.broken:
        costs = [it.result["cost"].get(name) for name in ("total", "trainable", "gmacs", "clips_per_second")]
        it.broken = None in costs
    if not it.broken and it.fit:
        _said(lambda it: iter([] if it.signature and together.measures(it) else []), it)
    return not it.broken


def _replay(subjects: Sequence[Subject], verdict: Verdict, seconds: float) -> None:
    """Replay what can be, those with a folder first, until the seconds are over."""
    began = time.monotonic()
    for it in sorted(subjects, key=lambda it: (it.fit is None, it.kept)):
        if why := replay.why_not(it):
            it.unknown.append(f"a replay, for {why}")
        elif time.monotonic() - began > seconds:
            it.unknown.append("a replay, for time: verify it alone")
        else:
            verdict.findings += [Finding(it.run.id, "replay", said) for said in _said(replay.replay, it)]
            verdict.replayed.append(it.run.id)
