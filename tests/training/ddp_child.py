"""Two optimiser steps of the tiny method with the gradients written down: run alone and under torchrun, compared."""

import sys
from pathlib import Path

import torch
from torch import nn

from tests.tiny import TEXT, Tiny, training
from vidlib.training import loop
from vidlib.training.loop import fit

PRECISIONS = {"64-true": torch.float64, "32-true": torch.float32}


class Normed(Tiny):
    """With a BatchNorm that trains, called for the supports and for the queries."""

    def __init__(self) -> None:
        super().__init__(0.3)
        self.norm = nn.BatchNorm1d(TEXT)

    def embed(self, clips, text, role):
        frames = super().embed(clips, text, role)["frames"]
        return {"frames": self.norm(frames.flatten(0, 1)).view_as(frames)}


def steps(folder: Path, precision: str) -> dict[str, torch.Tensor]:
    """The gradients of the first step (NaN where a parameter has none) and the statistics in the end; five episodes in
    steps of three."""
    method, found, plain = Normed(), {}, loop.sum_gradients

    def spy(fabric, parameters):
        plain(fabric, parameters)
        for name, p in method.named_parameters():
            if p.requires_grad and name not in found:
                found[name] = torch.full_like(p, torch.nan) if p.grad is None else p.grad.clone()

    loop.sum_gradients = spy
    try:
        fit(
            method,
            training(5),
            batches=5,
            batches_per_step=3,
            lr=1e-2,
            seed=1,
            device="cpu",
            precision=precision,
            folder=folder,
        )
    finally:
        loop.sum_gradients = plain
    return found | dict(method.norm.named_buffers())


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in PRECISIONS:
        out = Path(sys.argv[1], name)
        gradients = steps(out, name)
        torch.save(gradients, out / f"gradients{torch.distributed.get_rank()}.pt")
