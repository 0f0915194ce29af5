"""Videos embedded a few at a time in training, for less memory and the same gradients.

Each piece goes through ``torch.utils.checkpoint``: what its layers keep for the backward pass is dropped after the
forward one and computed again, so that the activations of one piece at a time are held. The loss sees the embeddings of
all videos, so that this holds for every loss. It costs a second forward pass.

What draws random numbers inside ``embed`` (dropout) draws others than without pieces, as another device would. A
BatchNorm in training takes its statistics from all videos at once, and is refused.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

from vidlib.basics.errors import UserError

M = TypeVar("M", bound=nn.Module)


def split(method: M, size: int) -> M:
    """``method`` with ``embed`` taking at most ``size`` videos at a time wherever gradients are kept; 0: all at once.

    A UserError where a video's embedding depends on others: the method mixes them, or (when it embeds) a BatchNorm is
    trained.
    """
    if size < 0:
        raise UserError(f"micro_batch: {size} is not at least 0")
    if size == 0:
        return method
    if getattr(method, "whole_episode", False):
        raise UserError(
            f"micro_batch: {type(method).__name__} mixes the videos of a set here, so that they cannot be embedded in "
            "pieces; give micro_batch 0"
        )
    method.embed = _in_pieces(method.embed, size)
    return method


def _in_pieces(embed: Callable[..., dict[str, Tensor]], size: int) -> Callable[..., dict[str, Tensor]]:
    def pieces(clips: Tensor, text: Tensor | None = None, *role: str) -> dict[str, Tensor]:
        given = (text, *role) if role else ()  # a video-text method's embed has the clips alone
        if not torch.is_grad_enabled() or len(clips) <= size:
            return embed(clips, *given)
        found = []
        with _no_trained_statistics():
            for start in range(0, len(clips), size):
                part = slice(start, start + size)
                own = (text[part] if isinstance(text, Tensor) else text, *role) if role else ()
                found.append(checkpoint(embed, clips[part], *own, use_reentrant=False))
        return {name: torch.cat([each[name] for each in found]) for name in found[0]}

    return pieces


@contextmanager
def _no_trained_statistics() -> Iterator[None]:
    def refuse(module: nn.Module, _: Any) -> None:
        if isinstance(module, _NormBase) and module.training:
            raise UserError(
                "micro_batch: a BatchNorm is trained here, whose statistics are those of all videos at once; give "
                "micro_batch 0 (freeze_bn true freezes those of a ResNet)"
            )

    handle = nn.modules.module.register_module_forward_pre_hook(refuse)
    try:
        yield
    finally:
        handle.remove()
