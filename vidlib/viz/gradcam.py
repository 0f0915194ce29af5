"""Which places of a query speak for its class: Grad-CAM (Selvaraju et al., ICCV 2017) on one stage of the backbone.

`S` supports, `Q` queries, `T` frames, `D` channels and `h w` places of the stage's maps. Activations ``A [T D h w]``,
their gradient ``G`` of a class's logit in the whole episode, supports and metric included:
``map[t] = relu(sum_d mean_hw(G[t, d]) A[t, d])``. With a metric the logit is minus a distance, so a map shows what
brings the query closer to that class.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch
from einops import einsum, reduce
from matplotlib.figure import Figure
from torch import Tensor, nn

from vidlib.basics.errors import UserError
from vidlib.data.episodes import EpisodeBatch
from vidlib.viz import attention, style

STAGES = (1, 2, 3, 4)


def query_map(
    method: nn.Module, batch: EpisodeBatch, query: int, cls: int, *, stage: int = 4, against: bool = False
) -> Tensor:
    """Of query ``query`` in an episode (a batch of one), the map ``[T h w]`` for class ``cls`` of the episode; >= 0.

    method: a few-shot one, which sends all frames through its backbone, supports before queries. stage: 1 to 4, of the
    backbone; a late stage knows more, an early one has more places, and where a ViT's feature is its class token nobody
    reads the patches of stage 4. against: the gradient of the class's log probability, so that what speaks for the
    other classes counts against; else of its logit alone.
    """
    if len(batch.support) != 1:
        raise UserError(f"batch: Grad-CAM looks at one episode, not at {len(batch.support)}")
    supports, queries, frames = batch.support.shape[1], batch.query.shape[1], batch.query.shape[2]
    if not (0 <= query < queries and 0 <= cls < batch.text.shape[1]):
        raise UserError(
            f"query and cls: {query} and {cls} do not lie in an episode of {queries} queries and "
            f"{batch.text.shape[1]} classes"
        )
    training = method.training
    with torch.enable_grad(), _leaves(method.eval(), stage) as leaves:
        logits = method(batch).logits[0, query]
    method.train(training)
    seen = sum(map(len, leaves))
    if seen != (supports + queries) * frames:
        raise UserError(
            f"{type(method).__name__} sent {seen} frames through stage {stage} of its backbone, not the "
            f"{(supports + queries) * frames} of the episode: Grad-CAM cannot tell the query's"
        )
    score = (logits.log_softmax(-1) if against else logits)[cls]
    gradients = torch.autograd.grad(score, leaves, allow_unused=True)
    gradients = [torch.zeros_like(a) if g is None else g for a, g in zip(leaves, gradients, strict=True)]
    at = slice((supports + query) * frames, (supports + query + 1) * frames)  # supports come first, then queries
    both = ([*map(torch.detach, leaves)], gradients)
    activations, gradient = (_maps(method, torch.cat(x)[at]).float() for x in both)
    weights = reduce(gradient, "t d h w -> t d", "mean")
    return einsum(weights, activations, "t d, t d h w -> t h w").relu()


@contextmanager
def _leaves(method: nn.Module, stage: int) -> Iterator[list[Tensor]]:
    """Collects the outputs of a stage, one for each call, and cuts the graph there, so that they take gradients."""
    leaves: list[Tensor] = []

    def cut(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        leaves.append(output.detach().requires_grad_(True))
        return leaves[-1]

    handle = _stage(method, stage).register_forward_hook(cut)
    try:
        yield leaves
    finally:
        handle.remove()


def _stage(method: nn.Module, stage: int) -> nn.Module:
    """A ResNet's stage, or the block of a ViT that ends its quarter."""
    if stage not in STAGES:
        raise UserError(f"stage: {stage} is not one of {', '.join(map(str, STAGES))}")
    backbone = method.backbone
    if hasattr(backbone, "blocks"):
        block = backbone.blocks[max(1, round(backbone.layers * stage / 4)) - 1]
        return getattr(block, "block", block)  # timm's own is what its tower calls
    if not hasattr(backbone.trunk, f"layer{stage}"):
        raise UserError(f"Grad-CAM looks at a ResNet's stages or a ViT's blocks, and {backbone.name} has neither")
    return getattr(backbone.trunk, f"layer{stage}")


def _maps(method: nn.Module, x: Tensor) -> Tensor:
    """A ResNet's ``[T D h w]`` as it is; a ViT's tokens ``[T 1+N D]`` without the class token, on their grid."""
    return x if x.ndim == 4 else x[:, method.backbone.prefix :].transpose(1, 2).unflatten(2, method.backbone.grid)


@style.figure
def figure(frames: np.ndarray, maps: Mapping[str, Tensor], *, title: str = "") -> Figure:
    """The clip ``[T H W 3]`` above each method's maps ``[T h w]`` over it, each in units of its own largest value."""
    meaning = "activation / clip's strongest place"
    return attention.maps(frames, maps, title=title, meaning=meaning, each=True, kept=table(maps))


def table(maps: Mapping[str, Tensor]) -> pd.DataFrame:
    """The drawn numbers, for ``style.save``: method, frame (from 1), row, column, activation."""
    rows = attention.table(maps)
    return rows.rename(columns={"attention": "activation"}).drop(columns="extra")
