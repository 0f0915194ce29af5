"""Baselines on frozen frame features averaged over time: what a video is to them, and how they match; nothing trains.

A video is the mean of its frames' features, blind to their order. No paper here: the methods' own files name theirs.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vidlib.methods.base import Features, FewShotMethod, Match, judged, one_of

if TYPE_CHECKING:
    from vidlib.backbones import Backbone
    from vidlib.data.episodes import Targets


class PooledMethod(FewShotMethod):
    """A subclass gives ``scores``; ``uses_text`` and ``needs_clip`` where it reads class texts."""

    uses_text = False
    by_role = False
    from_features = {}
    learns = False

    def __init__(self, backbone: "Backbone", frames: int, variant: str) -> None:
        super().__init__(backbone, frames, backbone.embed_dim)
        one_of("variant", variant, ("paper", "released"))  # both are the same

    def embed(self, clips: Tensor, text: Tensor | None, role: str) -> Features:
        """``pooled`` [B C]."""
        return {"pooled": self.frame_features(clips).mean(1)}

    def match(
        self, support: Features, labels: Tensor, query: Features, text: Tensor, targets: "Targets | None" = None
    ) -> Match:
        """The parts are those of ``scores``; the loss is only for the record."""
        parts = self.scores(support["pooled"], labels, query["pooled"], text)
        return judged(torch.stack([*parts.values()]).sum(0), targets, parts)

    def scores(self, support: Tensor, labels: Tensor, query: Tensor, text: Tensor) -> Features:
        """``support [E S C]``, ``labels [E S]``, ``query [E Q C]``, ``text [E W C]`` -> parts ``[E Q W]`` that add
        up to the logits: "q2s" of the supports, "q2t" of the texts."""
        raise NotImplementedError
