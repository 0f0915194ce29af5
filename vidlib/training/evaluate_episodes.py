"""Evaluation over a frozen list of episodes: every video embedded once per role, episodes matched in batches.

Legend: `V` videos, `K` classes of the split, `E` episodes, `W` way, `S` supports, `Q` queries, `D` text width.

``evaluate`` = ``embed_videos`` + ``match_episodes``, kept apart so that another metric or mixing weight needs no new
embedding. ``evaluate_each_episode`` is the literal evaluation, and the one where nothing can be embedded once: videos
mix in the method (``whole_episode = True``), or a clip's frames vary by episode (``clips.by_episode``). Both give the
same predictions except where the two best logits lie within ``accuracy.NEAR``: the size of the batches moves the last
digits. Such near-ties are counted. All processes take part (``reading``), and each has the result.
"""

import itertools
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from vidlib.basics.devices import make_fabric, place, ready
from vidlib.results.accuracy import Evaluation
from vidlib.training import controls, encoded, reading

GATHERED = 16 << 20  # bytes of features in one batch of episodes: more costs more to gather than it saves in matching

Scored = dict[int, tuple[np.ndarray, dict[str, np.ndarray]]]  # episode -> logits [Q W], named parts
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
    workers: int = 0,
) -> Evaluation:
    """Accuracy of ``method`` on episodes 0..``episodes``-1 of ``sampler``.

    Args:
        clips: ``clips.test(row)`` is float [T C H W], ``clips.manifest.videos(split)`` names the rows.
        text: [K D] raw text features of the split's classes.
        control: one of ``controls.CONTROLS``, as none by default.
        keep_parts: keep all logits, the method's named parts included, for ``Evaluation.remix``.
        workers: loader processes of each process.
    """
    fabric = fabric or make_fabric(device, precision)
    listed = [sampler[i] for i in range(episodes)]
    how: dict[str, Any] = {"fabric": fabric, "label": label}
    if not each_anew(method, clips):
        clips = encoded.shared(method, clips, listed, workers=workers, **how)
    clips, text = controls.applied(control, clips, text, sampler.split)
    if each_anew(method, clips):
        how |= {"keep_parts": keep_parts, "workers": workers}
        result = evaluate_each_episode(method, clips, sampler, episodes, text, **how)
    else:
        features = embed_videos(method, clips, listed, text, workers=workers, **how)
        result = match_episodes(method, features, sampler, listed, text, keep_parts=keep_parts, **how)
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
    method: nn.Module,
    clips: Any,
    sampler: Any,
    episodes: int,
    text: Tensor,
    *,
    fabric: Fabric | None = None,
    workers: int = 0,
    others: Mapping[str, Any] | None = None,
) -> dict[str, Evaluation]:
    """``evaluate`` under each of ``controls.CONTROLS``, that of the texts where ``method.uses_text``, by its name; and,
    under their own names, on as many episodes of each sampler in ``others`` without a control.

    A video is read once for all of them, and what a control leaves alone is reused.
    """
    others = others or {}
    fabric = fabric or make_fabric()
    names = [name for name in controls.CONTROLS if name != controls.PERMUTED or getattr(method, "uses_text", True)]
    if each_anew(method, clips):
        given = (method, clips, sampler, episodes, text)
        each = {name: evaluate(*given, fabric=fabric, control=name, workers=workers) for name in names}
        given = {name: (method, clips, other, episodes, text) for name, other in others.items()}
        return each | {name: evaluate(*own, fabric=fabric, workers=workers) for name, own in given.items()}
    listed = [sampler[i] for i in range(episodes)]
    drawn = {name: [other[i] for i in range(episodes)] for name, other in others.items()}
    every = [*listed, *itertools.chain(*drawn.values())]
    clips = encoded.shared(method, clips, every, fabric, workers=workers)
    videos = clips.manifest.videos(sampler.split)
    features = _embedded(method, clips, every, text, names, videos, fabric=fabric, workers=workers)
    evaluations = {}
    for name in names:
        texts = controls.permuted(text) if name == controls.PERMUTED else text
        evaluations[name] = match_episodes(method, features[name], sampler, listed, texts, fabric=fabric)
        evaluations[name].controls = controls.words(name)
    for name, episode_list in drawn.items():
        evaluations[name] = match_episodes(method, features[""], others[name], episode_list, text, fabric=fabric)
        evaluations[name].controls = controls.words("")
    return evaluations


def embed_videos(
    method: nn.Module,
    clips: Any,
    episodes: Sequence[Any],
    text: Tensor,
    *,
    fabric: Fabric | None = None,
    batch: int = 4,
    label: str = "evaluation",
    workers: int = 0,
) -> Features:
    """Every video that ``episodes`` use, read once and embedded once per role it plays: a support with its own class's
    text where the method wants it, a query without. Stays on the device; V x what ``embed`` gives for one.

    ``batch`` videos go through at a time; four keep two CPU cores busiest (measured), a GPU takes ten times as many."""
    how = {"fabric": fabric or make_fabric(), "batch": batch, "label": label, "workers": workers}
    return _embedded(method, clips, episodes, text, ("",), **how)[""]


def _embedded(
    method: nn.Module,
    clips: Any,
    episodes: Sequence[Any],
    text: Tensor,
    names: Sequence[str],
    videos: Sequence[Any] = (),
    *,
    fabric: Fabric,
    workers: int,
    batch: int = 4,
    label: str = "evaluation",
) -> dict[str, Features]:
    """``embed_videos`` under each of the controls ``names``, from one reading; ``videos`` are all of the split."""
    method = ready(fabric, method)
    text = place(fabric, text)
    roles: dict[str, dict[int, int]] = {"support": {}, "query": {}}
    by_role, reads_text = getattr(method, "by_role", True), getattr(method, "support_text", False)
    for episode in episodes:
        for role, rows, labels in (
            ("support", episode.support, episode.support_labels),
            ("query", episode.query, episode.query_labels),
        ):
            roles[role].update(zip(rows.tolist(), episode.class_ids[labels].tolist(), strict=True))
    rows = sorted(set().union(*roles.values()))
    if not by_role:
        roles = {"query": dict.fromkeys(rows, 0)}
    made = [(name, role) for name in names for role in roles if name != controls.PERMUTED or role == "support"]
    made = [(name, role) for name, role in made if name != controls.PERMUTED or reads_text]

    def embed(some: list[int], frames: Tensor, most: int) -> reading.Made:
        """(control, role, name) -> [B ...], zero of a video that does not play the role; absent where none does."""
        found = {}
        for name, role in made:
            mine = [i for i, row in enumerate(some) if row in roles[role]]
            if not mine:
                continue
            shown = frames
            if name == controls.SHUFFLED:
                shown = controls.shuffled(frames, [videos[row].video for row in some], 1)
            texts = controls.permuted(text) if name == controls.PERMUTED else text
            own = texts[[roles[role][some[i]] for i in mine]] if role == "support" and reads_text else None
            embedded = method.embed(shown[mine] if len(mine) < len(some) else shown, own, role)
            for key, value in embedded.items():
                if len(mine) < len(some):
                    padded = value.new_zeros(len(some), *value.shape[1:])
                    padded[mine] = value
                    value = padded
                found[name, role, key] = value
        return found

    every = reading.over(clips, rows, embed, fabric, workers=workers, batch=batch, label=f"{label}: embedding")
    features: dict[str, Features] = {}
    for name in names:
        own = {role: {k: v for (n, r, k), v in every.items() if (n, r) == (name, role)} for role in roles}
        features[name] = (features[""] if name == controls.PERMUTED else {}) | {r: v for r, v in own.items() if v}
        if not by_role and name != controls.PERMUTED:
            features[name]["support"] = features[name]["query"]
    return features


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
        step = max(1, min(batch, GATHERED // max(1, size), -(-len(members) // fabric.world_size)))
        batches += [members[start : start + step] for start in range(0, len(members), step)]

    def scored(members: list[int]) -> Scored:
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
        return {i: (scores[j], {name: part[j] for name, part in kept.items()}) for j, i in enumerate(members)}

    found = reading.each(batches, scored, fabric, label=f"{label}: matching")
    logits, parts = ([found[i][which] for i in range(len(episodes))] for which in (0, 1))
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
    workers: int = 0,
) -> Evaluation:
    """The same by embedding all videos of every episode anew: the reference, slower by far."""
    from vidlib.data.episodes import EpisodeDataset

    fabric = fabric or make_fabric()
    method = ready(fabric, method)
    began = time.perf_counter()
    source = EpisodeDataset(clips, sampler, text.cpu(), False, episodes)
    mine = [i for part in reading.shares(range(episodes), fabric) for i in part]
    loaded = reading.ahead(source, mine, workers, fabric, clips)

    def scored(i: int) -> Scored:
        one = place(fabric, next(loaded))
        with torch.no_grad(), fabric.autocast():
            match = method(one)
        kept = match.parts.items() if keep_parts else ()
        return {i: (match.logits[0].float().cpu().numpy(), {n: part[0].float().cpu().numpy() for n, part in kept})}

    found = reading.each(range(episodes), scored, fabric, workers=workers, label=f"{label}: episode by episode")
    logits, parts = ([found[i][which] for i in range(episodes)] for which in (0, 1))
    listed = [sampler[i] for i in range(episodes)]
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
