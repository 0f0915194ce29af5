"""Train resnet-mini from scratch on stills of the embedded world: ``python -m vidlib.backbones.resnet_mini.train OUT``.

`B` stills, `C` width of the pooled feature. Instance contrast (SimCLR, Chen et al. 2020): two views of one still, which
differ in light, noise, a small shift and a cut-out square, are to be nearer to each other than to any other still of
the batch. Nothing says what a still shows: no name, no place, no number. A batch holds runs of stills of one cast in
other places and runs of one picture with another shape or colour in it (``runs``), so that a ground or a cast alone
never tells a still. The projection head is thrown away, the trunk is kept. Stills never repeat; nothing here moves.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vidlib.backbones import Backbone, resnet, weights
from vidlib.backbones.resnet import ResNetBackbone
from vidlib.basics.errors import UserError
from vidlib.basics.paths import atomic_write
from vidlib.basics.progress import track
from vidlib.data.world.stills import LEAST, facts, plain_stills, runs

STEPS = 2600
RUNS = (("place", 8, 4), ("shape", 8, 2), ("colour", 4, 3), ("", 1, 4))  # what differs, stills in a run, runs
SEED = 2027
HELD_OUT = 78_000  # a seed of stills that training never draws (training draws SEED's)
LR, WEIGHT_DECAY, WARMUP = 3e-3, 0.05, 60
CHECKPOINT_EVERY = 200
WIDTH, TEMPERATURE = 128, 0.1  # of the projection head and its cosines
LARGE = 0.12  # radius of the smallest things while training starts; it falls to the stills' own
LIGHT, TINT, NOISE, SHIFT, CUT = 0.2, 0.05, 0.02, 0.02, (0.05, 0.15)  # how views differ, see ``view``


def view(images: Tensor, chance: torch.Generator) -> Tensor:
    """Another look at stills [B 3 H W], 0 to 1, that leaves what they show where it is.

    Brightness and contrast change by up to LIGHT, each channel by up to TINT; noise of up to NOISE is added; a still is
    shifted and scaled by up to SHIFT of its side; a square of CUT (least, most) of the side takes its mean colour.
    """

    def between(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(len(images), *shape, generator=chance)

    zoom, shift = 1 + between(-SHIFT, SHIFT, 1, 1), 2 * between(-SHIFT, SHIFT, 2, 1)
    affine = torch.cat([zoom * torch.eye(2), shift], dim=2)
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    x = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    mean = x.mean((1, 2, 3), keepdim=True)
    x = (x - mean) * between(1 - LIGHT, 1 + LIGHT, 1, 1, 1) + mean * between(1 - LIGHT, 1 + LIGHT, 1, 1, 1)
    x = x * between(1 - TINT, 1 + TINT, 3, 1, 1)
    side, column, row = between(*CUT, 1, 1), between(0, 1, 1, 1), between(0, 1, 1, 1)
    line = (torch.arange(x.shape[-1]) + 0.5) / x.shape[-1]
    cut = ((line - column).abs() < side / 2) & ((line[:, None] - row).abs() < side / 2)  # [B H W]
    x = torch.where(cut[:, None], x.mean((2, 3), keepdim=True), x)
    noise = torch.randn(x.shape, generator=chance) * between(0, NOISE, 1, 1, 1)
    return (x + noise).clamp(0, 1)


def nt_xent(one: Tensor, other: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Projections of two views [B D] each -> the loss of Chen et al. 2020, eq. 1, mean over all 2B views."""
    z = F.normalize(torch.cat([one, other]), dim=-1)
    logits = (z @ z.T / temperature).fill_diagonal_(-torch.inf)
    return F.cross_entropy(logits, torch.arange(len(z), device=z.device).roll(len(one)))


def _normalised(images: Tensor, backbone: ResNetBackbone) -> Tensor:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (backbone.mean, backbone.std))
    return ((images - mean) / std).to(next(backbone.trunk.parameters()).device)


def _zero_to_one(images: np.ndarray) -> Tensor:
    return rearrange(torch.from_numpy(images), "b h w c -> b c h w").float() / 255


def pixels(images: np.ndarray, backbone: ResNetBackbone) -> Tensor:
    """uint8 [B H W 3] -> float32 [B 3 H W] as the trunk expects it."""
    return _normalised(_zero_to_one(images), backbone)


def _pace(step: int, steps: int) -> float:
    """Part of LR at a step: a linear rise, then half a cosine."""
    warmup = min(WARMUP, max(1, steps // 10))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + float(np.cos(np.pi * (step - warmup) / max(1, steps - warmup))))


def _simple(step: int, steps: int) -> float:
    """The share of stills with one fully visible thing: all at first, 0.5 from a third of the training on."""
    return max(0.5, 1 - 0.5 * step / max(1, steps / 3))


def _least(step: int, steps: int) -> float:
    """Radius of the smallest thing: falls from LARGE to the stills' own LEAST in two thirds of the training."""
    return max(LEAST, LARGE - (LARGE - LEAST) * 1.5 * step / steps)


def _optimiser(model: nn.Module) -> torch.optim.AdamW:
    """Weight decay for matrices and kernels only; not for biases and norms."""
    kernels = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    return torch.optim.AdamW(
        [{"params": kernels, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}], lr=LR
    )


def train(out: str | Path, steps: int = STEPS, seed: int = SEED, device: str = "cpu") -> list[dict[str, float]]:
    """Train a fresh resnet-mini and write its weights to ``out`` (.safetensors).

    A checkpoint beside ``out`` lets an interrupted training of the same steps and seed go on. Returns step, loss and
    seconds of every 50th step. Raises UserError where the loss is not finite.
    """
    out = Path(out)
    checkpoint = out.with_name(f"{out.stem}.checkpoint.pt")
    torch.manual_seed(seed)
    backbone = resnet.load(resnet.MINI, "", freeze_bn=False).to(device)
    backbone.unfreeze()
    backbone.train()
    width = backbone.embed_dim
    head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, WIDTH)).to(device)
    model = nn.ModuleDict({"trunk": backbone.trunk, "head": head})
    optimiser, first, history = _optimiser(model), 0, []
    if checkpoint.is_file():
        saved = weights.opened(checkpoint, device)
        if (saved["steps"], saved["seed"]) == (steps, seed):
            model.load_state_dict(saved["model"])
            optimiser.load_state_dict(saved["optimiser"])
            first, history = saved["step"], saved["history"]
            print(f"resnet-mini: going on from step {first} of {steps}")
    # bfloat16 is quicker wherever the processor has wide registers for it
    half = device != "cpu" or torch.backends.cpu.get_cpu_capability() == "AVX512"
    began = time.monotonic()
    for step in track(range(first, steps), "resnet-mini", total=steps, start=first):
        images = _zero_to_one(runs(seed, step, RUNS, _simple(step, steps), _least(step, steps), light=0.0)[0])
        chance = torch.Generator().manual_seed(seed * 1_000_003 + step)
        views = torch.cat([view(images, chance) for _ in range(2)])
        for group in optimiser.param_groups:
            group["lr"] = LR * _pace(step, steps)
        with torch.autocast(device, torch.bfloat16, enabled=half):
            seen = backbone.encode_image(_normalised(views, backbone))
        loss = nt_xent(*head(seen.float()).chunk(2))
        if not torch.isfinite(loss):
            raise UserError(f"resnet-mini: the loss at step {step} is {loss.item()}; give a smaller learning rate")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        if step % 50 == 0 or step == steps - 1:
            history.append({"step": step, "loss": loss.item(), "seconds": time.monotonic() - began})
        if step % 100 == 0:
            print(f"resnet-mini: step {step} of {steps}, loss {loss.item():.3f}", flush=True)
        if (step + 1) % CHECKPOINT_EVERY == 0 and step + 1 < steps:
            state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1}
            with atomic_write(checkpoint) as path:
                torch.save({**state, "history": history, "steps": steps, "seed": seed}, path)
    resnet.save(backbone, out)
    checkpoint.unlink(missing_ok=True)
    return history


@torch.no_grad()
def features(backbone: Backbone, images: np.ndarray) -> Tensor:
    """uint8 [B H W 3] -> pooled features [B C]."""
    return torch.cat(
        [backbone.encode_image(pixels(part, backbone)) for part in np.array_split(images, len(images) // 64)]
    )


@torch.no_grad()
def evaluate(backbone: Backbone, count: int = 1024, seed: int = HELD_OUT) -> dict[str, float]:
    """How well linear regressions on the frozen feature tell what ``count`` stills show that training never drew.

    They are fitted on four times as many others. Accuracies: ``shape``, ``colour``, ``place`` of one thing among 8, 10
    and 9; ``count`` of things, ``pattern`` and ``ground`` among 4, 6 and 8, on stills of every kind. ``middle``: how
    far from the truth the middle of a lone thing is told, on average, as part of the side.
    """
    backbone.eval()
    found = {}
    images, told = plain_stills(seed, 5 * count)
    seen = features(backbone, images)
    for what in ("shape", "colour", "place"):
        found[what] = _read(seen, [fact[what] for fact in told], count)
    shown = facts(seed, 0, 5 * count)
    seen = features(backbone, np.stack([one.picture() for one in shown]))
    found["count"] = _read(seen, [len(one.things) for one in shown], count)
    found["pattern"] = _read(seen, [one.ground.pattern for one in shown], count)
    found["ground"] = _read(seen, [one.ground.name for one in shown], count)
    alone = torch.tensor([len(one.things) == 1 for one in shown])
    middles = torch.tensor([[one.things[0].x, one.things[0].y] for one in shown if len(one.things) == 1])
    said, true = _ridge(seen[alone], middles, count // 4)
    found["middle"] = (said - true).norm(dim=-1).mean().item()
    return {name: round(float(value), 4) for name, value in found.items()}


def _read(seen: Tensor, labels: list, count: int) -> float:
    """Accuracy on the first ``count`` of a classifier by least squares, fitted on the others."""
    classes = sorted(set(labels))
    where = torch.tensor([classes.index(label) for label in labels])
    said, _ = _ridge(seen, F.one_hot(where, len(classes)).float(), count)
    return (said.argmax(1) == where[:count]).float().mean().item()


def _ridge(seen: Tensor, wanted: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Fit ``seen [N C] -> wanted [N D]`` on all but the first ``count``; -> (told, true) of those, [count D]."""
    x, y = seen.cpu().double(), wanted.double()
    mean, scale = x[count:].mean(0), x[count:].std(0).clamp(min=1e-6)
    x = torch.cat([(x - mean) / scale, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)
    fit = x[count:]
    weights = torch.linalg.solve(fit.T @ fit + 1e-3 * len(fit) * torch.eye(x.shape[1]), fit.T @ y[count:])
    return (x[:count] @ weights).float(), y[:count].float()


if __name__ == "__main__":
    for line in train(sys.argv[1], *(int(steps) for steps in sys.argv[2:3])):
        print(line)
    print(evaluate(resnet.load(resnet.MINI, sys.argv[1])))
