"""What ``vidlib verify`` looks at: a run or record with what its checks share, and its videos listed, not rendered."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from vidlib import methods
from vidlib.basics.digests import digest
from vidlib.basics.errors import UserError
from vidlib.data.catalogue.benchmarks import WORLDS
from vidlib.data.episodes import EpisodeSampler
from vidlib.data.manifest import Manifest, Row
from vidlib.data.protocols import plan
from vidlib.data.world import kinds, worlds
from vidlib.params.few_shot import RunParams
from vidlib.params.video_text import VideoTextRunParams
from vidlib.results import runs
from vidlib.results.accuracy import PERMUTED, SHUFFLED, Evaluation
from vidlib.results.identity import VERSION, code_digest
from vidlib.studies import records, tables
from vidlib.training import across, few_shot, video_text
from vidlib.training import run as running

_VIDEO = ("dataset", "test_dataset", "protocol", "train_per_class", "seed", "remove_overlap", "select")
_VIDEO += ("official_split",)
_EPISODES = ("dataset", "test_dataset", "remove_overlap", "texts", "way", "shot", "query", "train_shot", "train_query")
SIZED = ("method", "arguments", "backbone", "dataset", "test_dataset", "protocol", "frames")
DECIDES_VIDEOS = {RunParams: {*_EPISODES}, VideoTextRunParams: {*_VIDEO}}


class Subject:
    """A run or record that is verified, and what its checks share; ``unknown``: what could not be checked, and why."""

    def __init__(self, run: runs.Run):
        self.run, self.unknown = run, list[str]()
        self.kept = isinstance(run, records.Record)  # else a run's folder, which has all
        self.result, self.raw, self.environment = run.result, run.params, run.environment
        identity = self.environment.get("identity", {})
        if identity.get("version") != VERSION:
            raise UserError(f"its identity is of scheme {identity.get('version')}, and {VERSION} is read here")
        self.values, self.contents = identity["values"], identity["contents"]
        self.params = (VideoTextRunParams if tables.of_videos(run) else RunParams).parse(self.raw)
        self.report, self.fit = self.params.report, self.result["fit"]
        self.episodes, self.broken = isinstance(self.params, RunParams), False
        self.names = [name for name, test in self.result.items() if isinstance(test, dict) and "checksum" in test]

    @functools.cached_property
    def todays(self) -> bool:
        """Whether the code that computed it is the code here."""
        return code_digest(methods.source_file(self.params.method)) == self.contents["source"]

    @functools.cached_property
    def tests(self) -> dict[str, Evaluation]:
        return {name: tables.tested(self.run, name) for name in self.names}

    @property
    def sized(self) -> str:
        """What decides how many parameters there are."""
        return digest([self.values.get(name) for name in SIZED])

    @functools.cached_property
    def bits(self) -> dict[tuple[str, str], tuple[int, np.ndarray]]:
        """Of each test, by its name and list: how many answers there are, and which are right, packed."""
        each = self.tests.items()
        return {(name, t.checksum): (len(t.hits), np.packbits(t.hits.astype(bool))) for name, t in each}

    @functools.cached_property
    def signature(self) -> tuple[str, int, int]:
        """A digest of all lists and answers; of the reported one, how many are right and how many there are."""
        answers = [[checksum, packed.tobytes().hex()] for (_, checksum), (_, packed) in self.bits.items()]
        reported = self.tests[self.report].hits
        return digest(answers), int(reported.sum()), len(reported)

    @functools.cached_property
    def curve(self) -> list[dict]:
        """metrics.jsonl, thinned as in a record."""
        if self.kept:
            return self.run.curve
        return records.thinned(runs.read_lines(self.run.path(runs.METRICS)))

    @functools.cached_property
    def work(self) -> running.Work | None:
        """The run as its parameters mean it today, its videos listed; None where they are not here."""
        try:
            return work_of(self.params)
        except UserError as error:
            self.unknown.append(f"its lists of videos, which are not here ({error})")
            return None

    @functools.cached_property
    def selections(self) -> list[dict]:
        """The lines of the curve at which val was asked."""
        return [line for line in self.curve if "val_accuracy" in line]

    @property
    def answers(self) -> dict[str, np.ndarray]:
        """What a record keeps of each test: bits, or ranks."""
        return records.read_npz(self.run.file.with_suffix(".npz"))

    @property
    def asked(self) -> dict[str, tuple[str, int, str]]:
        """Every test that its parameters ask for -> (split, shot, control); some are not of every method."""
        p, each = self.params, ("", SHUFFLED, PERMUTED)
        if isinstance(p, VideoTextRunParams):
            splits = video_text.REPORTS[p.report]
            return {f"{split}_{c}" if c else split: (split, 0, c) for split in splits for c in each}
        same = {c or p.report: (p.report, p.shot, c) for c in each}
        return same | {f"{p.report}_{shot}shot": (p.report, shot, "") for shot in p.also_shots}


# ---------------------------------------------------------------- what lies here, listed


def listed(name: str) -> Manifest:
    """The manifest of an embedded world of which no clip need be here."""
    rows = [
        Row(worlds.video(cls, number), cls, split)
        for split, classes in worlds.classes(name).items()
        for cls in classes
        for number in range(worlds.clips(name, split))
    ]
    files = {row.video: f"{row.split}/{row.video}.mp4" for row in rows}
    return Manifest(name, tuple(rows), worlds.folder(name), files, directional=name not in kinds.KINDS)


def work_of(params: RunParams | VideoTextRunParams) -> running.Work:
    """A run of these parameters, its videos listed; UserError where they are not here."""
    opened = _opened(type(params), params.model_dump_json(include=DECIDES_VIDEOS[type(params)]))
    if isinstance(params, VideoTextRunParams):
        return video_text.LabelledClips(params, opened)
    return few_shot.Episodes(params.model_copy(update={"features": "never"}), opened)


@functools.cache
def _opened(kind: type, given: str) -> Any:
    """The manifest, or plan, of the parameters that decide it."""
    p = kind.parse(json.loads(given))
    names = list(filter(None, (p.dataset, p.test_dataset)))
    if not set(names) <= set(WORLDS):
        return few_shot.open_manifest(p) if kind is RunParams else video_text.open_plan(p)
    bases = [listed(name) for name in names]
    if kind is RunParams:
        return across.opened(bases, p.remove_overlap, p.texts)
    how = {"train_per_class": p.train_per_class, "seed": p.seed, "select": p.select}
    other = bases[1] if len(bases) > 1 else None
    return plan(bases[0], p.protocol, other=other, remove_overlap=p.remove_overlap, **how)


@functools.cache
def contents_of(kind: type, given: str) -> Mapping[str, str]:
    """The digests of what a run of these parameters, as JSON, reads today."""
    return running.identity(work_of(kind.parse(json.loads(given)))).contents


class _Drawn(EpisodeSampler):
    """A sampler that draws an episode once."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._had: dict[int, Any] = {}

    def __getitem__(self, i: int) -> Any:
        return self._had[i] if i in self._had else self._had.setdefault(i, super().__getitem__(i))


_lists: dict[tuple[str, int], dict[str, Any]] = {}


def drawn(manifest: Manifest, split: str, way: int, shot: int, query: int, episodes: int) -> dict[str, Any]:
    """``checksum``, ``of_row``, ``support``; ``truth``, ``query`` and ``episode`` (all [R]) of a list, drawn once."""
    sampler = _Drawn(manifest, split, way, shot, query, few_shot.EVALUATION_SEED)
    key = (sampler.key, episodes)
    if key not in _lists:
        each = [sampler[i] for i in range(episodes)]
        _lists[key] = {
            "checksum": sampler.checksum(episodes),
            "truth": np.concatenate([one.class_ids[one.query_labels] for one in each]),
            "query": np.concatenate([one.query for one in each]),
            "support": np.stack([one.support for one in each]),
            "of_row": sampler.of_row,
            "episode": np.repeat(np.arange(episodes), [len(one.query) for one in each]),
        }
    return _lists[key]
