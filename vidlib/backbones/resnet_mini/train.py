"""Train resnet-mini from scratch on stills of the embedded world: ``python -m vidlib.backbones.resnet_mini.train OUT``.

`B` stills, `C` width of the pooled feature. Linear maps of the pooled feature tell what a still shows: where its things
lie, how large they are and how they are turned, which colours and shapes there are, how many, on which ground. The maps
are thrown away, the trunk is kept. Stills are drawn when needed and never repeat; nothing here moves.
"""

import sys
import time
from collections.abc import Sequence
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
from vidlib.data.world.drawing import COLOURS, GROUND_COLOURS, PATTERNS, SHAPES
from vidlib.data.world.stills import Facts, facts, plain_stills

STEPS = 1200
BATCH = 128
SEED = 2027
HELD_OUT = 78_000  # a seed of stills that training never draws (training draws SEED's)
LR, WEIGHT_DECAY, WARMUP = 4e-3, 0.05, 60
CHECKPOINT_EVERY = 200
MOST = 4  # things in a still
TURN = 0.3  # what a turn counts beside lengths
CELLS, SPREAD = 8, 0.09  # the map of places is CELLS x CELLS; a thing spreads over this part of the side
COLOUR_NAMES, GROUND_NAMES = tuple(COLOURS), tuple(GROUND_COLOURS)
FACTS = {  # name: (values, kind, weight in the loss)
    "where": (CELLS**2, "shares", 8.0),
    "middle": (4, "lengths", 4.0),
    "single": (5, "lengths", 4.0),
    "each": (3 * len(COLOURS), "lengths", 2.0),
    "apart": (1, "lengths", 1.0),
    "colours": (len(COLOURS), "shares", 4.0),
    "shapes": (len(SHAPES), "shares", 3.0),
    "count": (MOST, "class", 1.0),
    "pattern": (len(PATTERNS), "class", 0.25),
    "ground": (len(GROUND_COLOURS), "class", 0.25),
}


def targets(shown: Sequence[Facts]) -> dict[str, Tensor]:
    """What the stills show: values in units of the side, ``nan`` where a still has none.

    ``where`` [B CELLS*CELLS]: 1 at the middle of a thing, falling off around it; ``middle`` [B 4]: mean x, mean y, mean
    size, faintest alpha; ``single`` [B 5]: x, y, size, sine and cosine (times TURN) of the only thing's angle; ``each``
    [B colours*3]: x, y, size of the only thing of a colour; ``apart`` [B 1]: distance of two things; ``colours``,
    ``shapes`` [B n]: 1 where there is one; ``count``, ``pattern``, ``ground`` [B]: classes.
    """
    table = {name: [] for name in FACTS}
    line = (np.arange(CELLS) + 0.5) / CELLS
    for one in shown:
        at = np.array([[t.x, t.y, t.size] for t in one.things])
        across, down = line - at[:, 0, None, None], line[:, None] - at[:, 1, None, None]
        table["where"].append(np.exp(-(across**2 + down**2) / (2 * SPREAD**2)).max(0).ravel())
        table["middle"].append([*at.mean(0), min(t.alpha for t in one.things)])
        turn = one.things[0].angle
        single = [*at[0], TURN * np.sin(turn), TURN * np.cos(turn)]
        table["single"].append(single if len(at) == 1 else [np.nan] * 5)
        each = np.full((len(COLOURS), 3), np.nan)
        for name, place in zip(one.colours, at, strict=True):
            if one.colours.count(name) == 1:
                each[COLOUR_NAMES.index(name)] = place
        table["each"].append(each.ravel())
        table["apart"].append([np.hypot(*(at[0] - at[1])[:2]) if len(at) == 2 else np.nan])
        table["colours"].append([float(name in one.colours) for name in COLOURS])
        table["shapes"].append([float(any(t.shape == name for t in one.things)) for name in SHAPES])
        table["count"].append(len(at) - 1)
        table["pattern"].append(PATTERNS.index(one.ground.pattern))
        table["ground"].append(GROUND_NAMES.index(one.ground.name))
    return {
        name: torch.tensor(np.array(rows), dtype=torch.long if FACTS[name][1] == "class" else torch.float32)
        for name, rows in table.items()
    }


class Readers(nn.ModuleDict):
    """A linear map from the pooled feature [B C] for each fact."""

    def __init__(self, width: int) -> None:
        super().__init__({name: nn.Linear(width, values) for name, (values, _, _) in FACTS.items()})

    def losses(self, features: Tensor, wanted: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weighted loss of each fact, of what is told alone."""
        found = {}
        for name, (_, kind, weight) in FACTS.items():
            said, told = self[name](features), wanted[name]
            if kind == "class":
                loss = F.cross_entropy(said, told)
            elif kind == "shares":
                loss = F.binary_cross_entropy_with_logits(said, told)
            else:  # a tenth of the side is one
                known = ~told.isnan()
                loss = F.smooth_l1_loss(10 * said[known], 10 * told[known], reduction="sum") / known.sum().clamp(min=1)
            found[name] = weight * loss
        return found


def pixels(images: np.ndarray, backbone: ResNetBackbone) -> Tensor:
    """uint8 [B H W 3] -> float32 [B 3 H W] as the trunk expects it."""
    x = rearrange(torch.from_numpy(images), "b h w c -> b c h w").float() / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (backbone.mean, backbone.std))
    return ((x - mean) / std).to(next(backbone.trunk.parameters()).device)


def _pace(step: int, steps: int) -> float:
    """Part of LR at a step: a linear rise, then half a cosine."""
    warmup = min(WARMUP, max(1, steps // 10))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + float(np.cos(np.pi * (step - warmup) / max(1, steps - warmup))))


def _simple(step: int, steps: int) -> float:
    """The share of stills with one fully visible thing: all at first, 0.3 from a third of the training on."""
    return max(0.3, 1 - 0.7 * step / max(1, steps / 3))


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
    model = nn.ModuleDict({"trunk": backbone.trunk, "readers": Readers(backbone.embed_dim).to(device)})
    optimiser, first, history = _optimiser(model), 0, []
    if checkpoint.is_file():
        saved = weights.opened(checkpoint, device)
        if (saved["steps"], saved["seed"]) == (steps, seed):
            model.load_state_dict(saved["model"])
            optimiser.load_state_dict(saved["optimiser"])
            first, history = saved["step"], saved["history"]
            print(f"resnet-mini: going on from step {first} of {steps}")
    began = time.monotonic()
    for step in track(range(first, steps), "resnet-mini", total=steps, start=first):
        shown = facts(seed, step * BATCH, BATCH, _simple(step, steps))
        images = pixels(np.stack([one.picture() for one in shown]), backbone)
        wanted = {name: value.to(device) for name, value in targets(shown).items()}
        for group in optimiser.param_groups:
            group["lr"] = LR * _pace(step, steps)
        losses = model["readers"].losses(backbone.encode_image(images), wanted)
        loss = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(loss):
            raise UserError(f"resnet-mini: the loss at step {step} is {loss.item()}; give a smaller learning rate")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        if step % 50 == 0 or step == steps - 1:
            parts = {name: round(value.item(), 4) for name, value in losses.items()}
            history.append({"step": step, "loss": loss.item(), **parts, "seconds": time.monotonic() - began})
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
    wanted = targets(shown)
    for what in ("count", "pattern", "ground"):
        found[what] = _read(seen, wanted[what].tolist(), count)
    alone = ~wanted["single"][:, 0].isnan()
    said, true = _ridge(seen[alone], wanted["single"][alone, :2], count // 4)
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
