"""``vidlib estimate``: what a run will take, from ten of its own training episodes (or batches) and ten of its tests.

``training.trial`` measures; here it is extrapolated to all episodes, seeds and videos. What was measured is kept in
``<runs>/estimates/``, where ``vidlib sweep`` reads it.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vidlib.basics.devices import pick_device, pick_precision
from vidlib.basics.digests import digest
from vidlib.basics.errors import UserError
from vidlib.basics.paths import atomic_write
from vidlib.cli.run import command, main_runs, runs_folder
from vidlib.data.episodes import EpisodeSampler
from vidlib.data.manifest import Manifest
from vidlib.params.few_shot import RunParams
from vidlib.params.notebooks import Request
from vidlib.params.video_text import VideoTextRunParams
from vidlib.results import runs
from vidlib.training import few_shot, video_text
from vidlib.training.trial import TEN, AnyRun, Measured, embeddings, measure

MIB = 2**20
# What changes how long a run trains or where it is kept, but not how long an episode takes.
AMOUNT = {"train_episodes", "val_episodes", "val_every", "test_episodes", "epochs", "select", "seed", "lr", "arch_lr"}
AMOUNT |= {"weight_decay", "warmup", "schedule", "milestones", "layer_decay", "report", "runs", "fresh"}


@dataclass(frozen=True)
class Cost:
    """Hours of one run by part, and bytes on disk: at its end, and while it runs."""

    train: float
    select: float
    test: float
    bytes: float
    bytes_running: float

    @property
    def hours(self) -> float:
        return self.train + self.select + self.test


def shape(params: AnyRun, here: Mapping[str, Any] | None = None) -> str:
    """A digest of all that an episode's time depends on: parameters, device, precision, machine."""
    said = {name: value for name, value in params.model_dump(mode="json").items() if name not in AMOUNT}
    said |= {"device": pick_device(params.device), "precision": pick_precision(params.precision, params.device)}
    here = here or runs.environment()
    return digest(said | {name: here.get(name) for name in ("host", "gpu")})[:16]


def file_of(request: Request, params: AnyRun) -> Path:
    """Where the measurement of runs of this shape is kept."""
    return runs_folder(request) / "estimates" / f"{params.method.rpartition(':')[2]}-{shape(params)}.json"


def known(request: Request, params: AnyRun) -> Measured | None:
    """The measurement of an earlier ``vidlib estimate`` of this shape on this machine, or None."""
    try:
        return Measured(**json.loads(file_of(request, params).read_text()))
    except (OSError, TypeError, ValueError):
        return None


def trained_before(request: Request, params: AnyRun) -> float | None:
    """Hours that training (with its selections) takes, by the latest record of a run of this shape on this machine."""
    found = []
    for file in runs_folder(request).glob("*/result.json"):
        try:
            run = runs.read(file.parent)
            result, here, old = run.result, run.environment, type(params).parse(run.params)
            if runs.studied(run):  # it looked at more than a run does
                continue
        except (AttributeError, OSError, ValueError):  # not whole, of another kind or version, or being moved
            continue
        if result.get("fit") and shape(old, here) == shape(params):
            spent = result["fit"]["seconds"] + result["fit"].get("selection_seconds", 0.0)
            found.append((result["finished"], spent / _amount_trained(old)))
    return max(found)[1] * _amount_trained(params) / 3600 if found else None


def _amount_trained(params: AnyRun) -> int:
    return params.train_episodes if isinstance(params, RunParams) else params.epochs


def keep(request: Request, params: AnyRun, measured: Measured) -> Path:
    """Write the measurement where ``known`` finds it."""
    file = file_of(request, params)
    with atomic_write(file) as part:
        part.write_text(json.dumps(asdict(measured), indent=1) + "\n")
    return file


# ---------------------------------------------------------------- extrapolated


def extrapolate(params: AnyRun, measured: Measured, manifest: Manifest | None = None) -> Cost:
    """Hours and bytes of one whole run, from what ten episodes took; ``manifest`` where the videos are not here."""
    if isinstance(params, RunParams):
        train, select, test, tests = _few_shot_seconds(params, measured, manifest or few_shot.open_manifest(params))
        steps = math.ceil(params.train_episodes / params.episodes_per_step)
    else:
        train, select, test, tests = _labelled_seconds(
            params, measured, manifest or video_text.open_plan(params).manifest
        )
        steps = math.ceil(params.epochs * measured.steps_per_epoch / params.accumulate)
    end = measured.weights + measured.line * steps + measured.kept * tests
    return Cost(train / 3600, select / 3600, test / 3600, end, end + measured.state)


def _few_shot_seconds(params: RunParams, measured: Measured, manifest: Manifest) -> tuple[float, float, float, float]:
    text = measured.uses_text

    def of(split: str, episodes: int) -> tuple[float, float]:
        if not episodes:
            return 0.0, 0.0
        sampler = EpisodeSampler(manifest, split, params.way, params.shot, params.query, few_shot.EVALUATION_SEED)
        listed = (sampler[i] for i in range(episodes))
        units = episodes if measured.whole else embeddings(listed, measured.by_role)
        return units * measured.embed, episodes * measured.match

    train = params.train_episodes * measured.train if measured.trained else 0.0
    steps = math.ceil(params.train_episodes / params.episodes_per_step)
    every = max(1, params.val_every // params.episodes_per_step)
    select = math.ceil(steps / every) * sum(of("val", params.val_episodes)) if measured.trained else 0.0
    embed, match = of(params.report, params.test_episodes)
    passes = 2 + (text and (measured.whole or measured.support_text))  # as it is, frames shuffled, texts
    return train, select, embed * passes + match * (2 + text), params.test_episodes * (2 + text)


def _labelled_seconds(
    params: VideoTextRunParams, measured: Measured, manifest: Manifest
) -> tuple[float, float, float, float]:
    batches = params.epochs * measured.steps_per_epoch if measured.trained else 0
    looks = math.ceil(params.epochs / params.val_every) if params.select and batches else 0
    val = len(manifest.videos("val")) if "val" in manifest.splits else 0
    tested = sum(len(manifest.videos(s)) for s in video_text.REPORTS[params.report] if s in manifest.splits)
    views = params.test_clips * params.test_crops
    return batches * measured.train, looks * val * measured.embed, 2 * views * tested * measured.embed, 3 * tested


# ---------------------------------------------------------------- said


def estimate(request: Request) -> list[str]:
    """Measure the request's own method, keep the measurement, and say it in lines."""
    own = main_runs(request)
    if not own:
        raise UserError(
            f"{request.notebook} studies no single method, so that there is no episode to measure; estimate the recipe "
            "of a method"
        )
    params = own[0]
    measured = measure(params)
    kept = keep(request, params, measured)
    cost = extrapolate(params, measured)
    one, many = ("episode", "episodes") if isinstance(params, RunParams) else ("batch", "batches")
    here = runs.environment()
    where = here["gpu"] if pick_device(params.device) == "cuda" else f"{here['cpu']}, {here['threads']} thread(s)"
    sizes = f"weights {measured.weights / MIB:,.1f} MiB, state to resume from {measured.state / MIB:,.1f} MiB"
    found = [
        (f"a training {one}", f"{measured.train:.3f} s, reading its videos included", measured.trained),
        ("memory, training step", f"{measured.train_memory:,.0f} MiB, optimiser's state included", measured.trained),
        ("a test episode, embedded" if measured.whole else "a test video, embedded", f"{measured.embed:.3f} s", True),
        ("a test episode, matched", f"{measured.match:.4f} s", measured.match > 0),
        ("memory, embedding", f"{measured.test_memory:,.0f} MiB", True),
        ("on disk", sizes, measured.trained),
    ]
    parts = f"training {cost.train:.2f}, selection on val {cost.select:.2f}, test with controls {cost.test:.2f}"
    disk = f"{cost.bytes / MIB:,.1f} MiB, and {cost.bytes_running / MIB:,.1f} MiB while it trains; videos not counted"
    extrapolated = [
        ("hours of one run", f"{cost.hours:.2f} ({parts})", True),
        (f"hours of {len(own)} seeds", f"{cost.hours * len(own):.2f}, one after another", len(own) > 1),
        ("disk of one run", disk, True),
    ]
    precision = pick_precision(params.precision, params.device)
    data = " to ".join(filter(None, (params.dataset, params.test_dataset)))
    return [
        f"estimate for: {command(request)}",
        f"on: {where}, {precision}, one device",
        f"\nmeasured, on {TEN} training {many} and {TEN} tests of {params.method} on {data}",
        *(f"  {word:<26}{said}" for word, said, there in found if there),
        f"\nextrapolated, to {amount_said(params, measured)}",
        *(f"  {word:<26}{said}" for word, said, there in extrapolated if there),
        "not counted: methods beside it, ablations and figures of the notebook; videos that stay in memory read faster",
        f"kept in {kept} for vidlib sweep",
    ]


def amount_said(params: AnyRun, measured: Measured) -> str:
    if isinstance(params, RunParams):
        return f"{params.train_episodes:,} training and {params.test_episodes:,} test episodes"
    return f"{params.epochs} epochs of {measured.steps_per_epoch:,} batches of {params.batch}"
