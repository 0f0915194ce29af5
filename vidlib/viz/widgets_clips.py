"""Views of clips: an episode and how its clips align, and where a method looks.

What costs time (decoding, embedding, attention) is done once per clip and kept; a turned control repeats the drawing.
`T` frames, `W` classes, `D` width.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from vidlib.basics.errors import UserError
from vidlib.data.episodes import Episode, EpisodeSampler
from vidlib.layers.attention import capture_attention
from vidlib.matching import frame_cost, otam_path
from vidlib.viz import alignment, attention, filmstrip
from vidlib.viz.widgets import Control, View
from vidlib.viz.widgets_ahead import nearest

KEPT, ROOM = 512, 1 << 29  # what a view keeps of clips, maps and embeddings: so many of each kind, so many bytes
EPISODES = 50  # episodes that a slider offers
LAST, ROLLOUT, MEAN, EVERY, NONE = "last layer", "rollout", "mean", "all", "none"


class Split(Protocol):
    """What is read of an opened split: its clips, its episodes, the texts of its classes ``[K D]``."""

    clips: Any
    sampler: EpisodeSampler
    text: Tensor


class Seen:
    """A few-shot method and a split: what of a clip is computed once and kept."""

    def __init__(self, method: nn.Module, split: Split) -> None:
        self.method, self.split = method.eval(), split
        backbone = method.backbone
        self.clips = _fit(3 * method.frames * backbone.image_size**2)  # how many are kept
        self.maps = 0
        if hasattr(backbone, "blocks"):
            tokens = 1 + backbone.grid[0] * backbone.grid[1]
            self.maps = _fit(backbone.layers * method.frames * backbone.heads * tokens**2)
        self.clip = functools.lru_cache(self.clips)(self._clip)
        self.embedded = functools.lru_cache(KEPT)(self._embedded)
        self.weights = functools.lru_cache(self.maps)(self._weights)
        self.match = functools.lru_cache(KEPT)(self._match)

    def pixels(self, row: int) -> np.ndarray:
        """The frames that the method reads, uint8 ``[T H W 3]``."""
        return self.clip(row)[1]

    def _clip(self, row: int) -> tuple[Tensor, np.ndarray]:
        clip, backbone = self.split.clips.test(row), self.method.backbone
        return clip, filmstrip.to_uint8(clip, backbone.mean, backbone.std)

    def _text(self, row: int) -> Tensor:
        cls = self.split.clips.manifest.videos(self.split.sampler.split)[row].cls
        return self.split.text[self.split.sampler.classes.index(cls)][None]

    def _embedded(self, row: int, role: str) -> dict[str, Tensor]:
        """One video as ``embed`` gives it, with a leading 1; a support comes with its own class text."""
        device = next(self.method.parameters()).device
        text = self._text(row).to(device) if role == "support" and self.method.support_text else None
        with torch.no_grad():
            return self.method.embed(self.clip(row)[0][None].to(device), text, role)

    def frames(self, row: int, role: str) -> Tensor:
        """The features of its frames that the metric compares ``[T D]``; where it has none, the backbone's own."""
        embedding = self.embedded(row, role)
        frames = embedding.get("frames", embedding.get("metric.frames"))
        if frames is None or frames.ndim != 3 or frames.shape[1] != self.method.frames:
            device = next(self.method.parameters()).device
            with torch.no_grad():
                frames = self.method.frame_features(self.clip(row)[0][None].to(device))
        return frames[0].float().cpu()

    def _match(self, number: int) -> np.ndarray:
        """An episode's shares ``[Q W]``: softmax of the method's logits."""
        episode, device = self.split.sampler[number], next(self.method.parameters()).device
        sides = []
        for rows, role in ((episode.support, "support"), (episode.query, "query")):
            each = [self.embedded(int(row), role) for row in rows]
            sides.append({name: torch.cat([one[name] for one in each])[None] for name in each[0]})
        labels = torch.from_numpy(episode.support_labels)[None].to(device)
        text = self.split.text[torch.from_numpy(episode.class_ids)][None].to(device)
        with torch.no_grad():
            return self.method.match(sides[0], labels, sides[1], text).logits[0].softmax(-1).cpu().numpy()

    def _weights(self, row: int, text: bool) -> list[Tensor]:
        """Local attention of every layer, each ``[T H N N]``; with ``text`` as a support with its class's text."""
        device = next(self.method.parameters()).device
        given = (self._text(row).to(device), "support") if text else (None, "query")
        with torch.no_grad(), capture_attention(self.method) as captured:
            self.method.embed(self.clip(row)[0][None].to(device), *given)
        return [captured[layer, "local"].cpu() for layer in range(self.method.backbone.layers)]


def _fit(numbers: int) -> int:
    """How many things of so many numbers, of four bytes, are kept."""
    return min(KEPT, max(4, ROOM // (4 * numbers)))


@dataclass(frozen=True)
class Pair:
    """A query and a support clip of an episode: distances of their frames ``[Tq Ts]`` and OTAM's path ``[P 2]``."""

    cost: np.ndarray
    path: np.ndarray


def aligned(seen: Seen, query: int, support: int) -> Pair:
    """How the clips in these rows of the split align under ``seen``'s method."""
    ours, theirs = seen.frames(query, "query"), seen.frames(support, "support")
    cost = frame_cost(ours[None, None], theirs[None, None])[0, 0, 0]
    return Pair(cost.numpy(), otam_path(cost).numpy())


def episodes(method: nn.Module, split: Split, *, title: str = "", episodes: int = EPISODES) -> View:
    """The episode browser: draw an episode, step through its queries and supports, see distances and the alignment.

    Controls: ``episode``, ``query`` (from 1), ``against`` (the class whose clip is aligned, from 1, or "guess") and
    ``shot`` (which of that class's clips, from 1). The distance is the mean of the frames' along OTAM's path.
    """
    seen, sampler = Seen(method, split), split.sampler
    first = sampler[0]

    def draw(episode: int, query: int, against: object, shot: int) -> Figure:
        drawn: Episode = sampler[episode]
        row, truth = int(drawn.query[query - 1]), int(drawn.query_labels[query - 1])
        shares = seen.match(episode)[query - 1]
        shown = int(np.argmax(shares)) if against == "guess" else int(against) - 1
        own = [np.flatnonzero(drawn.support_labels == cls) for cls in range(sampler.way)]
        rows = [int(drawn.support[places[min(shot, len(places)) - 1]]) for places in own]
        pairs = [aligned(seen, row, other) for other in rows]
        return alignment.episode(
            seen.pixels(row),
            np.stack([seen.pixels(other) for other in rows]),
            [split.clips.manifest.text(name) for name in drawn.classes],
            [float(pair.cost[tuple(pair.path.T)].mean()) for pair in pairs],
            shares,
            pairs[shown].cost,
            pairs[shown].path,
            truth=truth,
            shown=shown,
            title=f"{title}: episode {episode}, query {query}" if title else f"Episode {episode}, query {query}",
        )

    def ahead(episode: int, **_: object) -> Iterator[Callable[[], object]]:
        each = len(first.support) + len(first.query)
        for number in nearest(episode, range(episodes))[: seen.clips // each]:
            drawn = sampler[number]
            yield from (functools.partial(seen.embedded, int(row), "query") for row in drawn.query)
            yield from (functools.partial(seen.embedded, int(row), "support") for row in drawn.support)
            yield functools.partial(seen.match, number)

    controls = {
        "episode": Control(range(episodes)),
        "query": Control(range(1, len(first.query) + 1)),
        "against": Control(("guess", *range(1, sampler.way + 1)), label="aligned with class"),
        "shot": Control(range(1, max(sampler.shots) + 1), label="support clip"),
    }
    return View(draw, controls, ahead=ahead)


def attentions(methods: Mapping[str, tuple[nn.Module, Split]], *, title: str = "", clips: int = 0) -> View:
    """The attention explorer: two methods side by side on one clip.

    ``methods`` maps a name to a method and the split opened for it (the same videos for all). Controls: ``clip`` (row
    of the split), ``frame`` (from 1, or "all"), ``layer`` (from 1, or "last layer" or "rollout", the product of all),
    ``head`` (from 1, or "mean"; a rollout takes the mean), ``left`` and ``right`` (methods), ``text`` (the class text
    as a token, on or off, for methods that have one). ``clips`` offered; 0 for all of the split.
    """
    for name, (method, _) in methods.items():
        if not hasattr(method.backbone, "blocks"):
            raise UserError(f"{name} has no attention to look at: its backbone is not a ViT; Grad-CAM serves there")
    seen = {name: Seen(method, split) for name, (method, split) in methods.items()}
    split = next(iter(methods.values()))[1]
    names, backbones = tuple(methods), [method.backbone for method, _ in methods.values()]
    videos = split.clips.manifest.videos(split.sampler.split)

    offered = min(clips or len(videos), len(videos))

    def with_token(name: str, text: str) -> bool:
        return text == "on" and has_text_token(methods[name][0])

    def draw(clip: int, frame: object, layer: object, head: object, left: str, right: str, text: str) -> Figure:
        frames = seen[left].pixels(clip)
        at = list(range(len(frames))) if frame == EVERY else [int(frame) - 1]
        shown, masses = {}, {}
        for name in dict.fromkeys(n for n in (left, right) if n != NONE):
            own, token = seen[name], with_token(name, text)
            called = f"{name}, text on" if token else name
            weights, grid = own.weights(clip, token), own.method.backbone.grid
            maps, mass = looked_at(weights, grid, layer, head)
            shown[called] = maps[at]
            if mass is not None and mass.any():
                masses[called] = mass[at]
        words = "rollout of all layers" if layer == ROLLOUT else layer if layer == LAST else f"layer {layer}"
        words += "" if layer == ROLLOUT else ", mean of heads" if head == MEAN else f", head {head}"
        cls = split.clips.manifest.text(videos[clip].cls)
        heading = f"{title}: {cls}, {words}" if title else f"{cls}, {words}"
        return attention.maps(frames[at], shown, masses, title=heading, numbers=[i + 1 for i in at])

    def ahead(clip: int, left: str, right: str, text: str, **_: object) -> Iterator[Callable[[], object]]:
        shown = [name for name in dict.fromkeys((left, right)) if name != NONE]
        most = min(seen[name].maps for name in shown) - 2
        for row in nearest(clip, range(offered))[:most]:
            yield functools.partial(seen[left].pixels, row)
            yield from (functools.partial(seen[name].weights, row, with_token(name, text)) for name in shown)

    tokens = any(has_text_token(method) for method, _ in methods.values())
    controls = {
        "clip": Control(range(offered)),
        "frame": Control((EVERY, *range(1, next(iter(methods.values()))[0].frames + 1))),
        "layer": Control((LAST, ROLLOUT, *range(1, min(b.layers for b in backbones) + 1))),
        "head": Control((MEAN, *range(1, min(b.blocks[0].attn.num_heads for b in backbones) + 1))),
        "left": Control(names),
        "right": Control((*names, NONE), value=names[1] if len(names) > 1 else NONE),
        "text": Control(("off", "on") if tokens else ("off",), label="text token"),
    }
    return View(draw, controls, ahead=ahead)


def has_text_token(method: nn.Module) -> bool:
    """Whether the class text is a token of the tower, so that turning it off changes where the method looks."""
    return len(getattr(method, "text_projections", ())) > 0


def looked_at(
    weights: list[Tensor], grid: tuple[int, int], layer: object, head: object
) -> tuple[Tensor, Tensor | None]:
    """Maps ``[T gh gw]`` of a layer and head, and what goes to extra tokens ``[T]``; of a rollout None for those."""
    if layer == ROLLOUT:
        return attention.rollout(weights, grid), None
    chosen = weights[-1 if layer == LAST else int(layer) - 1]
    chosen = chosen if head == MEAN else chosen[:, [int(head) - 1]]
    return attention.class_token_maps(chosen, grid), attention.extra_mass(chosen, grid)
