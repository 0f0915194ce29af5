"""Evaluation over a frozen list of episodes: every video embedded once per role, episodes matched in batches.

Legend: `V` videos, `K` classes of the split, `E` episodes, `W` way, `S` supports, `Q` queries, `D` text width.

``evaluate`` = ``embed_videos`` + ``match_episodes``, kept apart so that another metric or mixing weight needs no new
embedding. ``evaluate_each_episode`` is the literal evaluation, and the one where nothing can be embedded once: videos
mix in the method (``whole_episode = True``), or a clip's frames vary by episode (``clips.by_episode``). Both give the
same predictions except where the two best logits lie within ``accuracy.NEAR``: the size of the batches moves the last
digits. Such near-ties are counted.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from vidlib.basics.devices import make_fabric, place, ready
from vidlib.basics.progress import track
from vidlib.results.accuracy import Evaluation
from vidlib.training import controls, encoded

GATHERED = 16 << 20  # bytes of features in one batch of episodes: more costs more to gather than it saves in matching

Features = dict[str, dict[str, Tensor]]  # role -> name -> [V ...]; rows of videos that no episode uses are zero


def evaluate(
    method: nn.Module,
    clips: Any,
    sampler: Any,
    episodes: int,
    text: Tensor,
    *,
    device: str = "auto",
    precision: str = "auto",
    fabric: Fabric | None = None,
    control: str = "",
    keep_parts: bool = False,
    label: str = "evaluation",
) -> Evaluation:
    """Accuracy of ``method`` on episodes 0..``episodes``-1 of ``sampler``.

    Args:
        clips: ``clips.test(row)`` is float [T C H W], ``clips.manifest.videos(split)`` names the rows.
        text: [K D] raw text features of the split's classes.
        control: one of ``controls.CONTROLS``, as none by default.
        keep_parts: keep all logits, the method's named parts included, for ``Evaluation.remix``.
    """
    fabric = fabric or make_fabric(device, precision)
    listed = [sampler[i] for i in range(episodes)]
    if not each_anew(method, clips):
        clips = encoded.shared(method, clips, listed, fabric, label=label)
    clips, text = controls.applied(control, clips, text, sampler.split)
    if each_anew(method, clips):
        result = evaluate_each_episode(method, clips, sampler, episodes, text, fabric=fabric, keep_parts=keep_parts)
    else:
        features = embed_videos(method, clips, listed, text, fabric=fabric, label=label)
        settings = {"fabric": fabric, "keep_parts": keep_parts, "label": label}
        result = match_episodes(method, features, sampler, listed, text, **settings)
    result.controls = controls.words(control)
    return result


def evaluate_outside(
    method: nn.Module, clips: Any, sampler: Any, episodes: int, text: Tensor, **settings: Any
) -> Evaluation:
    """The same episodes asked about videos of none of their classes (``data.episodes.Outside``), logits kept.

    ``truth`` are the classes asked, so that no answer is right; ``settings`` as of ``evaluate``.
    """
    from vidlib.data.episodes import Outside

    outside = Outside(sampler)
    found = evaluate(method, clips, outside, episodes, text, keep_parts=True, **settings)
    return replace(found, truth=outside.asked(episodes), per_trial=np.zeros(episodes))


def evaluate_with_controls(
    method: nn.Module, clips: Any, sampler: Any, episodes: int, text: Tensor, *, fabric: Fabric | None = None
) -> dict[str, Evaluation]:
    """``evaluate`` under each of ``controls.CONTROLS``, that of the texts where ``method.uses_text``, by its name.

    What a control leaves alone is reused.
    """
    fabric = fabric or make_fabric()
    names = [name for name in controls.CONTROLS if name != controls.PERMUTED or getattr(method, "uses_text", True)]
    if each_anew(method, clips):
        given = (method, clips, sampler, episodes, text)
        return {name: evaluate(*given, fabric=fabric, control=name) for name in names}
    listed = [sampler[i] for i in range(episodes)]
    clips = encoded.shared(method, clips, listed, fabric)
    evaluations, own = {}, {}
    for name in names:
        seen, texts = controls.applied(name, clips, text, sampler.split)
        if name != controls.PERMUTED:
            features = embed_videos(method, seen, listed, texts, fabric=fabric)
            own = own or features
        elif getattr(method, "support_text", False):
            features = own | embed_videos(method, seen, listed, texts, fabric=fabric, wanted=("support",))
        else:
            features = own
        evaluations[name] = match_episodes(method, features, sampler, listed, texts, fabric=fabric)
        evaluations[name].controls = controls.words(name)
    return evaluations


def embed_videos(
    method: nn.Module,
    clips: Any,
    episodes: Sequence[Any],
    text: Tensor,
    *,
    fabric: Fabric | None = None,
    batch: int = 4,
    wanted: Sequence[str] = ("support", "query"),
    label: str = "evaluation",
) -> Features:
    """Every video that ``episodes`` use, read once and embedded once per ``wanted`` role it plays: a support with its
    own class's text where the method wants it, a query without. Stays on the device; V x what ``embed`` gives for one.

    ``batch`` videos go through at a time; four keep two CPU cores busiest (measured), a GPU takes ten times as many."""
    fabric = fabric or make_fabric()
    method = ready(fabric, method)
    text = place(fabric, text)
    batch *= 1 if fabric.device.type == "cpu" else 10
    roles: dict[str, dict[int, int]] = {"support": {}, "query": {}}
    by_role = getattr(method, "by_role", True)
    for episode in episodes:
        for role, rows, labels in (
            ("support", episode.support, episode.support_labels),
            ("query", episode.query, episode.query_labels),
        ):
            roles[role].update(zip(rows.tolist(), episode.class_ids[labels].tolist(), strict=True))
    roles = {role: roles[role] for role in wanted}
    rows = sorted(set().union(*roles.values()))
    if not by_role:
        roles = {"query": dict.fromkeys(rows, 0)}
    features: Features = {role: {} for role in roles}
    for start in track(range(0, len(rows), batch), f"{label}: embedding"):
        chunk = rows[start : start + batch]
        frames = place(fabric, torch.stack([clips.test(row) for row in chunk]))
        for role, classes in roles.items():
            mine = [i for i, row in enumerate(chunk) if row in classes]
            if not mine:
                continue
            own = [classes[chunk[i]] for i in mine]
            texts = text[own] if role == "support" and getattr(method, "support_text", False) else None
            with torch.no_grad(), fabric.autocast():
                embedded = method.embed(frames[mine] if len(mine) < len(chunk) else frames, texts, role)
            where = torch.tensor([chunk[i] for i in mine], device=frames.device)
            for name, value in embedded.items():
                if name not in features[role]:
                    features[role][name] = value.new_zeros(rows[-1] + 1, *value.shape[1:])
                features[role][name][where] = value
    return features if by_role else {"support": features["query"], "query": features["query"]}


def match_episodes(
    method: nn.Module,
    features: Features,
    sampler: Any,
    episodes: Sequence[Any],
    text: Tensor,
    *,
    fabric: Fabric | None = None,
    batch: int = 250,
    keep_parts: bool = False,
    label: str = "evaluation",
) -> Evaluation:
    """Match the first ``len(episodes)`` episodes of ``sampler`` on embedded videos, at most ``batch`` at a time.

    Episodes of one batch have equal numbers of supports and queries; a batch ends where its features pass ``GATHERED``.
    """
    fabric = fabric or make_fabric()
    method = ready(fabric, method)
    text = place(fabric, text)
    began = time.perf_counter()
    groups: dict[tuple, list[int]] = defaultdict(list)
    for i, episode in enumerate(episodes):
        groups[len(episode.support), len(episode.query), len(episode.class_ids)].append(i)
    batches = []
    for (supports, queries, _), members in groups.items():
        size = supports * _row_bytes(features["support"]) + queries * _row_bytes(features["query"])
        step = max(1, min(batch, GATHERED // max(1, size)))
        batches += [members[start : start + step] for start in range(0, len(members), step)]

    logits: list[np.ndarray] = [np.empty(0)] * len(episodes)
    parts: list[dict[str, np.ndarray]] = [{}] * len(episodes)
    for members in track(batches, f"{label}: matching"):
        support = _stack(episodes, members, "support", fabric)
        query = _stack(episodes, members, "query", fabric)
        with torch.no_grad(), fabric.autocast():
            match = method.match(
                {name: value[support] for name, value in features["support"].items()},
                _stack(episodes, members, "support_labels", fabric),
                {name: value[query] for name, value in features["query"].items()},
                text[_stack(episodes, members, "class_ids", fabric)],
            )
        scores = match.logits.float().cpu().numpy()
        kept = {name: part.float().cpu().numpy() for name, part in match.parts.items()} if keep_parts else {}
        for j, i in enumerate(members):
            logits[i] = scores[j]
            parts[i] = {name: part[j] for name, part in kept.items()}
    return Evaluation.of_episodes(
        sampler, episodes, logits, parts if keep_parts else None, "embed once", time.perf_counter() - began
    )


def evaluate_each_episode(
    method: nn.Module,
    clips: Any,
    sampler: Any,
    episodes: int,
    text: Tensor,
    *,
    fabric: Fabric | None = None,
    keep_parts: bool = False,
    label: str = "evaluation",
) -> Evaluation:
    """The same by embedding all videos of every episode anew: the reference, slower by far."""
    from vidlib.data.episodes import assemble

    fabric = fabric or make_fabric()
    method = ready(fabric, method)
    text = text.cpu()
    began = time.perf_counter()
    listed = [sampler[i] for i in range(episodes)]
    logits, parts = [], []
    for episode in track(listed, f"{label}: episode by episode"):
        one = place(fabric, assemble(clips, [episode], text, train=False))
        one.targets = None
        with torch.no_grad(), fabric.autocast():
            match = method(one)
        logits.append(match.logits[0].float().cpu().numpy())
        parts.append({name: part[0].float().cpu().numpy() for name, part in match.parts.items()})
    return Evaluation.of_episodes(
        sampler, listed, logits, parts if keep_parts else None, "each episode", time.perf_counter() - began
    )


# ---------------------------------------------------------------- helpers


def each_anew(method: nn.Module, clips: Any) -> bool:
    """Whether nothing can be embedded once: videos mix in the method, or a clip's frames depend on the episode."""
    return getattr(method, "whole_episode", False) or getattr(clips, "by_episode", False)


def mix(method: nn.Module, evaluation: Evaluation, weight: float) -> Evaluation:
    """``evaluation``, which kept its parts, under another weight of ``method.mix``."""
    return evaluation.remix(
        lambda parts: method.mix({k: torch.from_numpy(v) for k, v in parts.items()}, weight).numpy()
    )


def _stack(episodes: Sequence[Any], members: list[int], name: str, fabric: Fabric) -> Tensor:
    """One field of several episodes as a tensor [E ...] on the device."""
    return torch.from_numpy(np.stack([getattr(episodes[i], name) for i in members])).to(fabric.device)


def _row_bytes(features: dict[str, Tensor]) -> int:
    return sum(value[0].numel() * value.element_size() for value in features.values())
