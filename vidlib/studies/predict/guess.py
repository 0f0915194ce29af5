"""Guesses for a user's own videos: by the texts of the classes (zero-shot), or by example videos of each (few-shot).

Zero-shot asks ActionCLIP without training, which is a frozen CLIP and its mean over frames, or a finished run of
ActionCLIP or M2-CLIP. Few-shot makes one episode of all classes: every example a support, every video a query. Each
video is read once and embedded once, at the frames that the method takes without chance.

Legend: `V` videos, `K` classes, `T` frames, `S` example videos.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from vidlib import backbones, methods
from vidlib.basics.devices import make_fabric, place, ready
from vidlib.basics.errors import UserError
from vidlib.basics.paths import absolute, check_writable
from vidlib.basics.progress import track
from vidlib.data.folder import readable
from vidlib.data.guard import VARIABLE
from vidlib.data.manifest import Manifest
from vidlib.data.sampling import RULES, segment_indices
from vidlib.data.transforms import ClipTransform
from vidlib.params.base import SHIPPED
from vidlib.params.few_shot import RunParams
from vidlib.params.tools import DEFAULT_FRAMES, DEFAULT_METHOD, PredictParams
from vidlib.params.video_text import VIDEO_TEXT_NAMES, VideoTextRunParams
from vidlib.results import cost, runs
from vidlib.studies.predict import held_out
from vidlib.studies.predict.files import class_texts, demo, examples, list_files, shown
from vidlib.studies.predict.show import Opened, Predicted
from vidlib.training import few_shot, video_text
from vidlib.training import step as stepping

MATCHED = 64  # queries matched at a time; their logits do not depend on each other


# ---------------------------------------------------------------- what the user gave


def checked(p: PredictParams, overwrite: bool = False, figures: str = "") -> PredictParams:
    """``p`` again, or a ``UserError`` of one sentence for what cannot work, before anything is built or read."""
    backbones.check(p.backbone, p.pretrained)
    if p.csv and os.path.isdir(p.csv):
        raise UserError(f"csv: {p.csv} is a folder; give the name of a file")
    if p.csv and not overwrite and os.path.exists(p.csv):
        raise UserError(f"csv: {p.csv} exists; give another name, or --overwrite (in a notebook, remove the file)")
    if p.csv:
        check_writable(p.csv, "csv")
    if figures:
        check_writable(figures, "figures", folder=True)
    if p.run:
        open_record(p)
    if p.videos:
        list_files(p.videos)
        _ = examples(p.support) if p.few_shot else class_texts(p.classes)
    return p


# ---------------------------------------------------------------- the method


def open_record(p: PredictParams) -> runs.Run:
    """The finished run that ``p`` names, of the kind and with the values that the other parameters say."""
    home = absolute(p.run)
    try:
        record = runs.read(home)
    except UserError as error:
        raise UserError(f"run: {error}") from None
    if record is None:
        state = "is not a finished run" if home.is_dir() else "is no folder"
        raise UserError(f"run: {home} {state}; give a run's folder, with params.json and result.json in it")
    try:
        own = record.params
        text = own["method"] in VIDEO_TEXT_NAMES
    except (ValueError, LookupError, TypeError):
        raise UserError(
            f"run: {home / 'params.json'} holds no parameters of a run; give another run's folder"
        ) from None
    if p.videos and text == p.few_shot:
        wanted = "class texts: give classes" if text else "example videos of each class: give support"
        other = "a few-shot method" if text else "actionclip or m2clip"
        raise UserError(f"run: {home.name} is of {own['method']}, which wants {wanted}, or a run of {other}")
    if p.method and p.method != own["method"]:
        raise UserError(f"method: the run is of {own['method']}, not {p.method}; leave method out")
    if p.frames and p.frames != own["frames"]:
        raise UserError(f"frames: the run has {own['frames']} a video, not {p.frames}; leave frames out")
    for name in ("backbone", "pretrained"):
        if getattr(p, name) not in (own[name], PredictParams.model_fields[name].default):
            raise UserError(f"{name}: the run has {own[name]!r}, not {getattr(p, name)!r}; leave {name} out")
    return record


def open_zero_shot(p: PredictParams) -> Opened:
    """ActionCLIP or M2-CLIP: of the run, else ActionCLIP without training and the mean over frames."""
    if p.run:
        record = open_record(p)
        params, trained = video_text.open_trained(record)
        method, words = trained.method, f"{params.method}, run {record.id}"
        if not method.uses_text:
            raise UserError(
                f"run: {record.id} scores by a classifier of its training classes, which cannot meet yours; "
                "give a run that scores by texts"
            )
    else:
        plain = {"visual_prompt": "meanp", "tune": "none"}
        given = {"method": "actionclip", "backbone": p.backbone, "pretrained": p.pretrained, "options": plain}
        params = VideoTextRunParams.parse(given | {"frames": p.frames or DEFAULT_FRAMES})
        methods.check(params)
        stepping.seed_everything(params.seed, -1)
        method = methods.build(params, backbones.load(p.backbone, p.pretrained)).eval()
        words = f"frozen {_tower(p)} under ActionCLIP's {len(method.templates)} sentences a class"
    look = ClipTransform(**video_text.test_look(params, method), train=False)
    words = f"{words}, {params.frames} frames a video{_knows(p)}"
    return Opened(method, params.frames, segment_indices, look, (), words)


def open_few_shot(p: PredictParams) -> Opened:
    """Any few-shot method: the run's with its selected weights, else untrained on the backbone."""
    if p.run:
        record = open_record(p)
        params, method = few_shot.trained_method(record)
        words = f"{record.params['method']}, run {record.id}"
    else:
        given = {"method": p.method or DEFAULT_METHOD, "backbone": p.backbone, "pretrained": p.pretrained}
        params = RunParams.parse(given | {"frames": p.frames or DEFAULT_FRAMES})
        methods.check(params)
        method, words = few_shot.open_method(params), f"{params.method}, untrained, on {_tower(p)}"
    if getattr(method, "whole_episode", False):
        raise UserError(f"method: {words} mixes the videos of an episode, so a guess would depend on the other videos")
    nowhere = Manifest("your videos", (), Path(), {})
    look = few_shot.transforms(params, nowhere, method.backbone)["test"]
    words = f"{words}, {params.frames} frames a video{_knows(p)}"
    return Opened(method.eval(), params.frames, RULES[params.sampling], look, params.templates, words)


def _tower(p: PredictParams) -> str:
    weights = f"weights {p.pretrained}" if p.pretrained else "random weights"
    return p.backbone if p.pretrained == p.backbone else f"{p.backbone} ({weights})"


def _knows(p: PredictParams) -> str:
    """What the towers that ship with vidlib do not know, which a person with photographs should."""
    if p.run or p.pretrained not in SHIPPED:
        return ""
    better = "give backbone ViT-B-32-quickgelu and pretrained openai, or a run"
    return f"\n{p.pretrained} knows drawn shapes alone: of filmed videos its guesses tell nothing ({better})"


# ---------------------------------------------------------------- the guesses


def ways(p: PredictParams) -> dict[str, PredictParams]:
    """What the notebook shows: the way that the user chose, or without videos both on ``given.demo``, where the run or
    the backbone allows both."""
    if p.videos:
        return {"few-shot" if p.few_shot else "zero-shot": p}
    own = demo()
    told = {"zero-shot": {"classes": own.classes, "method": ""}, "few-shot": {"support": str(own.support)}}
    if p.run:
        del told["few-shot" if open_record(p).params["method"] in VIDEO_TEXT_NAMES else "zero-shot"]
    elif p.method or backbones.texts_need(p.backbone, p.pretrained):
        del told["zero-shot"]
    shared = p.model_dump() | {"videos": [str(own.videos)]}
    return {way: PredictParams.parse(shared | given) for way, given in told.items()}


def open_method(p: PredictParams) -> Opened:
    """The method that ``p`` asks for, in evaluation mode."""
    return open_few_shot(p) if p.few_shot else open_zero_shot(p)


def predict(p: PredictParams, opened: Opened) -> Predicted:
    """The scores of every video of ``p`` that can be read; UserError where none can."""
    names, fabric = list_files(p.videos), make_fabric(p.device, p.precision)
    began = time.perf_counter()
    classes, scores, read, supports, *sure = (_few_shot if p.few_shot else _zero_shot)(p, opened, [*names], fabric)
    if not np.isfinite(scores).all():
        worst = names[read.files[int((~np.isfinite(scores)).any(1).argmax())]]
        raise UserError(f"the scores of {worst} are not finite: try precision 32-true")
    known = {os.path.realpath(path) for path in supports.files}
    return Predicted(
        p.few_shot,
        opened.words,
        classes,
        read.files,
        scores,
        read.causes,
        len(supports.files),
        supports.causes,
        sum(os.path.realpath(path) in known for path in read.files),
        time.perf_counter() - began,
        max(read.memory, supports.memory),
        names,
        *sure,
    )


@dataclass
class _Read:
    """``features`` of the ``files`` that could be read, ``rows`` their places in the list; MiB at the peak."""

    features: dict[str, Tensor]
    files: list[Path]
    rows: list[int]
    causes: dict[Path, str]
    memory: float


def _zero_shot(p: PredictParams, opened: Opened, files: list[Path], fabric: Fabric) -> tuple:
    classes = class_texts(p.classes)
    method = ready(fabric, opened.method)
    with fabric.autocast():
        text = method.class_text(classes)
    read = _embedded(opened, files, fabric, "videos", lambda clips, rows: method.embed(clips))
    with torch.no_grad(), fabric.autocast():
        scores = method.score(read.features, text).float()
    return classes, scores.cpu().numpy(), read, _Read({}, [], [], {}, 0.0)


@dataclass
class Known:
    """What tells K classes by their example videos: ``support`` [S ...] with ``labels`` [S], the classes' ``text``."""

    names: tuple[str, ...]
    support: dict[str, Tensor]
    labels: Tensor
    text: Tensor
    read: _Read


def known_classes(p: PredictParams, opened: Opened, fabric: Fabric) -> Known:
    """The example videos of every class, embedded; UserError where a class has none that can be read."""
    by_class = examples(p.support)
    texts = backbones.class_texts(opened.method.backbone, [readable(name) for name in by_class], opened.templates)
    method, text = ready(fabric, opened.method), place(fabric, texts)
    labels = torch.tensor([k for k, same in enumerate(by_class.values()) for _ in same], device=fabric.device)

    def embed_example(clips: Tensor, rows: list[int]) -> dict[str, Tensor]:
        own = text[labels[rows]] if method.support_text else None
        return method.embed(clips, own, "support" if method.by_role else "query")

    given = [file for same in by_class.values() for file in same]
    supports = _embedded(opened, given, fabric, "example videos", embed_example)
    for name, same in by_class.items():
        if not set(same) - supports.causes.keys():
            raise UserError(
                f"support: no example video of class {name!r} can be read (first failure: {shown(same[0])}: "
                f"{supports.causes[same[0]]}); replace them or remove the directory"
            )
    return Known(tuple(by_class), supports.features, labels[supports.rows], text, supports)


def _few_shot(p: PredictParams, opened: Opened, files: list[Path], fabric: Fabric) -> tuple:
    """One episode of all classes; a class's number of examples is its own."""
    known = known_classes(p, opened, fabric)
    method, labels, text = ready(fabric, opened.method), known.labels, known.text

    def embed_video(clips: Tensor, rows: list[int]) -> dict[str, Tensor]:
        return method.embed(clips, None, "query")

    read = _embedded(opened, files, fabric, "videos", embed_video)
    support = {name: value[None] for name, value in known.support.items()}
    together = method.choices.get("transductive", False)  # GgHM's: then the queries of an episode do depend on another
    step, logits = len(read.files) if together else MATCHED, []
    for start in range(0, len(read.files), step):
        query = {name: value[None, start : start + step] for name, value in read.features.items()}
        with torch.no_grad(), fabric.autocast():
            logits.append(method.match(support, labels[None], query, text[None]).logits[0].float())
    logits = torch.cat(logits)
    held = "the method compares all videos at once" if together else held_out.lacking(labels, [*known.names])
    if not held:
        asked = known.support
        if method.by_role:
            asked = _embedded(opened, known.read.files, fabric, "example videos, as videos", embed_video).features
        with fabric.autocast():
            told = held_out.logits_of(method, known.support, asked, labels, text)
        held = held_out.measured(told.cpu().numpy(), labels.cpu().numpy())
    return known.names, logits.softmax(-1).cpu().numpy(), read, known.read, logits.cpu().numpy(), held


def _embedded(opened: Opened, files: list[Path], fabric: Fabric, what: str, embed: Callable) -> _Read:
    """``embed(clips, rows)`` of every file that can be read, a few at a time; UserError where none can."""
    batch = 4 if fabric.device.type == "cpu" else 40
    parts: list[dict[str, Tensor]] = []
    rows: list[int] = []
    causes: dict[Path, str] = {}
    memory, largest = 0.0, 0

    def work(clips: list[Tensor], own: list[int]) -> None:
        with torch.no_grad(), fabric.autocast():
            parts.append(embed(place(fabric, torch.stack(clips)), own))

    for start in track(range(0, len(files), batch), f"{what}: reading and embedding"):
        clips = {}
        for row, file in enumerate(files[start : start + batch], start):
            try:
                clips[row] = opened.read(file)
            except (ValueError, RuntimeError, MemoryError) as error:  # a UserError is a ValueError
                causes[file] = _cause(file, error)
        if not clips:
            continue
        step = partial(work, [*clips.values()], [*clips])
        if len(clips) > largest:
            memory, largest = cost.peak_memory(step, holding=opened.method), len(clips)
        else:
            step()
        rows += clips
    if not rows:
        first = causes[files[0]]
        right = "" if VARIABLE in first else "; give files that a player can open"
        raise UserError(
            f"none of the {len(files)} {what} can be read (first failure: {shown(files[0])}: {first}){right}"
        )
    features = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return _Read(features, [files[row] for row in rows], rows, causes, memory)


def _cause(file: Path, error: Exception) -> str:
    said = shown(Path(" ".join(str(error).split()).replace(shown(file), "").strip(": .")))
    return said or type(error).__name__
