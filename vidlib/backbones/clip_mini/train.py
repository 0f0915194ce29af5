"""Train clip-mini from scratch on captioned stills: ``python -m vidlib.backbones.clip_mini.train OUT [STEPS]``.

`B` stills, `C` the joint space's width, `R` features with a name, `L` names. Three losses are added:

1. CLIP's contrastive loss (Radford et al. 2021, figure 3): cross entropy over the B x B cosines of stills and captions
   in both directions, with a learned temperature;
2. of looks (the patches' part after RegionCLIP, Zhong et al. 2022): the last token of the patch where a thing's middle
   lies is to be nearest to that thing's own 'a red star' among the captions of all 10 x 8 looks, and so is the feature
   of a still with things of one look alone;
3. of places: the feature of a still with one thing is to be nearest to its 'a thing at the top' among all places.

A batch holds runs of stills that differ in one thing alone (``runs``). Stills are drawn when needed and never repeat.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from vidlib.backbones import clip, weights
from vidlib.backbones.clip import CLIPBackbone
from vidlib.basics.errors import UserError
from vidlib.basics.paths import atomic_write
from vidlib.basics.progress import track
from vidlib.data.world.drawing import COLOURS, SHAPES
from vidlib.data.world.said import place
from vidlib.data.world.scenes import article
from vidlib.data.world.stills import LEAST, Facts, plain_stills, runs, stills

STEPS = 3200
RUNS = (("shape", 8, 4), ("colour", 4, 1), ("place", 4, 7), ("", 1, 8), ("crowd", 1, 24))  # what differs, length, runs
SEED = 2026
HELD_OUT = 77_000  # a seed of stills that training never draws (training draws SEED's)
LR, MATRIX_LR, WEIGHT_DECAY, WARMUP = 1e-3, 0.01, 0.05, 50  # MATRIX_LR: of matrices, by Muon
WEIGHTS = {"loss": 1.0, "looks": 1.5, "places": 1.0}  # of the three losses
LARGE = 0.09  # radius of the smallest things while training starts; it falls to the stills' own
CHECKPOINT_EVERY = 200
PLACES = ("in the upper left", "at the top", "in the upper right", "on the left side", "in the middle",
          "on the right side", "in the lower left", "at the bottom", "in the lower right")  # fmt: skip
WHERE = tuple(sorted({f"a thing {place(x / 20, y / 20)}" for x in range(1, 20) for y in range(1, 20)}))
LOOKS = tuple(article(f"{colour} {shape}") for colour in COLOURS for shape in SHAPES)


def pixels(images: np.ndarray, backbone: CLIPBackbone) -> Tensor:
    """uint8 [B H W 3] -> float32 [B 3 H W] as the tower expects it."""
    x = rearrange(torch.from_numpy(images), "b h w c -> b c h w").float() / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (backbone.mean, backbone.std))
    return ((x - mean) / std).to(backbone.visual.conv1.weight.device)


def contrastive_loss(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """Features [B C] of pairs, unit length -> CLIP's symmetric loss."""
    logits = scale * images @ texts.T
    target = torch.arange(len(images), device=images.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def looks_shown(shown: Sequence[Facts], grid: int) -> Tensor:
    """Which tokens have which look: still, token, look; int64 [3 R]. ``grid`` patches make a side.

    Token 0 is the whole still, where all its things have one look; token 1 + p is patch p, where the middle of a thing
    lies that no later thing covers.
    """
    rows = []
    for i, one in enumerate(shown):
        looks = [LOOKS.index(article(f"{c} {thing.shape}")) for c, thing in zip(one.colours, one.things, strict=True)]
        if len(set(looks)) == 1:
            rows.append((i, 0, looks[0]))
        for k, thing in enumerate(one.things):
            if all(np.hypot(thing.x - over.x, thing.y - over.y) > over.size for over in one.things[k + 1 :]):
                column, row = (min(grid - 1, max(0, int(grid * at))) for at in (thing.x, thing.y))
                rows.append((i, 1 + grid * row + column, looks[k]))
    return torch.tensor(rows).T


def places_shown(shown: Sequence[Facts]) -> Tensor:
    """Which stills have one thing and where it lies: still, place among WHERE; int64 [2 R]."""
    lone = [(i, one.things[0]) for i, one in enumerate(shown) if len(one.things) == 1]
    rows = [(i, WHERE.index(f"a thing {place(thing.x, thing.y)}")) for i, thing in lone]
    return torch.tensor(rows, dtype=torch.long).view(-1, 2).T


def naming_loss(features: Tensor, names: Tensor, wanted: Tensor, scale: Tensor) -> Tensor:
    """Features [R C] and those of names [L C], unit length, each one's right name [R] -> cross entropy, 0 of none."""
    return F.cross_entropy(scale * features @ names.T, wanted, reduction="sum") / max(1, len(wanted))


def _optimisers(model: nn.Module) -> list[torch.optim.Optimizer]:
    """Muon for the matrices between layers, AdamW without decay for all else.

    Muon (Jordan et al. 2024) makes the singular values of a matrix's step equal; in trials it learned shapes sooner.
    """
    ends = ("embedding", "projection", "visual.proj")
    matrices = {n: p for n, p in model.named_parameters() if p.ndim == 2 and not any(end in n for end in ends)}
    others = [p for n, p in model.named_parameters() if n not in matrices]
    return [
        torch.optim.Muon(list(matrices.values()), lr=MATRIX_LR, weight_decay=WEIGHT_DECAY, momentum=0.95),
        torch.optim.AdamW(others, lr=LR, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def _whiten_patches(model: nn.Module, images: Tensor) -> None:
    """Start the patches' filters as the whitened main components of the busier patches of ``images`` [B 3 H W].

    Edges, which tell shapes, then weigh as much from the first step on as the ground's colour, which fills a patch.
    """
    filters = model.visual.conv1.weight  # [D 3 p p]
    size = filters.shape[-1]
    patches = rearrange(images, "b c (h p) (w q) -> (b h w) c (p q)", p=size, q=size)
    busy = patches.std(-1).mean(-1)
    x = patches[busy > busy.quantile(0.6)].flatten(1)
    x = x - x.mean(0)
    powers, components = torch.linalg.eigh(x.T @ x / len(x))  # rising
    powers, components = powers.flip(0)[: len(filters)], components.flip(1)[:, : len(filters)]
    filters.data = (components / (powers + 0.01 * powers[3]).sqrt()).T.reshape(filters.shape).contiguous()


def _place_patches(model: nn.Module) -> None:
    """Start the patches' position vectors as sines and cosines of column and row, as strong as the patches themselves.

    open_clip's own start is noise of 0.09, much weaker than what the patches hold.
    """
    table = model.visual.positional_embedding.data  # [1+N D]
    rows, columns = model.visual.grid_size
    waves = 2 * np.pi * 2.0 ** torch.linspace(-2, 2, table.shape[1] // 4)
    at = torch.arange(rows * columns) + 0.5
    down, across = at.div(columns, rounding_mode="floor") / rows, (at % columns) / columns
    parts = [wave(line[:, None] * waves) for line in (across, down) for wave in (torch.sin, torch.cos)]
    table[1:] = 1.5 * torch.cat(parts, dim=1)


def _simple(step: int, steps: int) -> float:
    """The share of stills with one fully described thing: all at first, 0.3 from half of the training on."""
    return max(0.3, 1 - 0.7 * step / max(1, steps / 2))


def _least(step: int, steps: int) -> float:
    """Radius of the smallest thing: LARGE for a third of the training, then falling to the stills' own LEAST."""
    return min(LARGE, max(LEAST, LARGE - (LARGE - LEAST) * (3 * step / steps - 1)))


def _pace(step: int, steps: int) -> float:
    """Part of the learning rates at a step: a linear rise, then a linear fall to nothing."""
    warmup = min(WARMUP, max(1, steps // 10))
    return (step + 1) / warmup if step < warmup else (steps - step) / max(1, steps - warmup)


def _losses(backbone: CLIPBackbone, batch: tuple, tokens: Tensor, names: Tensor, half: bool) -> dict[str, Tensor]:
    """The three losses; ``batch``: what ``runs`` gives, ``tokens``: of captions [B 40], ``names``: LOOKS, WHERE."""
    model, (images, _, shown) = backbone.clip, batch
    x, scale = pixels(images, backbone), model.logit_scale.exp()
    still, token, look = looks_shown(shown, model.visual.grid_size[0]).to(x.device)
    lone, where = places_shown(shown).to(x.device)
    # on a processor the plain attention's backward is much quicker than the fused one's (torch 2.14, bfloat16)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=half), sdpa_kernel(SDPBackend.MATH):
        seen, patches = model.visual(x)
        patches = patches @ model.visual.proj
        read = model.encode_text(torch.cat([tokens, names]))
    every, read = (F.normalize(f.float(), dim=-1) for f in (torch.cat([seen[:, None], patches], dim=1), read))
    captions, looks, places = read.split([len(tokens), len(LOOKS), len(WHERE)])
    return {
        "loss": contrastive_loss(every[:, 0], captions, scale),
        "looks": naming_loss(every[still, token], looks, look, scale),
        "places": naming_loss(every[lone, 0], places, where, scale),
    }


def train(out: str | Path, steps: int = STEPS, seed: int = SEED, device: str = "cpu") -> list[dict[str, float]]:
    """Train a fresh clip-mini and write its weights, half precision, to ``out`` (.safetensors).

    A checkpoint beside ``out`` lets an interrupted training of the same steps and seed go on. Returns step, losses and
    temperature of every 50th step. Raises UserError where the loss is not finite.
    """
    out = Path(out)
    checkpoint = out.with_name(f"{out.stem}.checkpoint.pt")
    torch.manual_seed(seed)
    backbone = clip.load(clip.MINI, "").to(device)
    model = backbone.clip.train().requires_grad_(True)
    model.visual.output_tokens = True
    _place_patches(model)
    _whiten_patches(model, pixels(runs(seed, steps, (("", 1, 600),), 1.0, LARGE)[0], backbone))
    tokenize = clip.tokenizer(clip.MINI, model.context_length)
    names = tokenize(LOOKS + WHERE).to(device)
    optimisers, first, history = _optimisers(model), 0, []
    rates = [[group["lr"] for group in optimiser.param_groups] for optimiser in optimisers]
    if checkpoint.is_file():
        saved = weights.opened(checkpoint, device)
        if (saved["steps"], saved["seed"]) == (steps, seed):
            model.load_state_dict(saved["model"])
            for optimiser, state in zip(optimisers, saved["optimisers"], strict=True):
                optimiser.load_state_dict(state)
            first, history = saved["step"], saved["history"]
            print(f"clip-mini: going on from step {first} of {steps}")
    # bfloat16 is quicker wherever the processor has wide registers for it
    half = device != "cpu" or torch.backends.cpu.get_cpu_capability() == "AVX512"
    began = time.monotonic()
    for step in track(range(first, steps), "clip-mini", total=steps, start=first):
        batch = runs(seed, step, RUNS, _simple(step, steps), _least(step, steps))
        for optimiser, most in zip(optimisers, rates, strict=True):
            for group, rate in zip(optimiser.param_groups, most, strict=True):
                group["lr"] = rate * _pace(step, steps)
        losses = _losses(backbone, batch, tokenize(batch[1]).to(device), names, half)
        loss = sum(WEIGHTS[name] * value for name, value in losses.items())
        if not torch.isfinite(loss):
            raise UserError(f"clip-mini: the loss at step {step} is {loss.item()}; give a smaller learning rate")
        model.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, float(np.log(100)))
        if step % 50 == 0 or step == steps - 1:
            said = {name: value.item() for name, value in losses.items()}
            history.append({"step": step, **said, "scale": model.logit_scale.exp().item(),
                            "seconds": time.monotonic() - began})  # fmt: skip
        if step % 100 == 0 and step > first:
            said = ", ".join(f"{name} {value.item():.3f}" for name, value in losses.items())
            print(f"clip-mini: step {step} of {steps}, {said}", flush=True)
        if (step + 1) % CHECKPOINT_EVERY == 0 and step + 1 < steps:
            state = {"model": model.state_dict(), "optimisers": [optimiser.state_dict() for optimiser in optimisers]}
            with atomic_write(checkpoint) as path:
                torch.save({**state, "step": step + 1, "history": history, "steps": steps, "seed": seed}, path)
    write(model, out)
    checkpoint.unlink(missing_ok=True)
    return history


def write(model: nn.Module, out: Path) -> None:
    """The state dict under open_clip's own keys, float16, as safetensors."""
    state = {name: value.detach().half().cpu().contiguous() for name, value in model.state_dict().items()}
    with atomic_write(out) as path:
        save_file(state, path, metadata={"backbone": clip.MINI, "activation": "GELU"})


@torch.no_grad()
def features(backbone: CLIPBackbone, images: np.ndarray) -> Tensor:
    """uint8 [B H W 3] -> unit image features [B C]."""
    parts = [backbone.encode_image(pixels(part, backbone)) for part in np.array_split(images, -(-len(images) // 256))]
    return F.normalize(torch.cat(parts), dim=-1)


@torch.no_grad()
def evaluate(backbone: CLIPBackbone, count: int = 1024, seed: int = HELD_OUT) -> dict[str, float]:
    """Accuracies on stills that training never drew.

    ``image_to_text``, ``text_to_image``: recall at 1 among groups of 256 (of ``count``, rounded down to whole groups;
    fewer than 256 make one group) with no two captions alike. ``shape``, ``colour``, ``place``: naming one thing among
    8 shapes, 10 colours, 9 places.
    """
    backbone.eval()
    group = min(256, count)
    images, captions = stills(seed, 0, count + count // 4)
    kept = sorted({caption: i for i, caption in reversed(list(enumerate(captions)))}.values())[: count // group * group]
    seen = features(backbone, images[kept])
    read = F.normalize(backbone.encode_text([captions[i] for i in kept], ("{}",)), dim=-1)
    pairs = list(zip(seen.split(group), read.split(group), strict=True))
    right = torch.arange(group, device=seen.device)
    result = {
        "image_to_text": np.mean([((s @ r.T).argmax(1) == right).float().mean().item() for s, r in pairs]),
        "text_to_image": np.mean([((r @ s.T).argmax(1) == right).float().mean().item() for s, r in pairs]),
    }
    images, facts = plain_stills(seed, count)
    seen = features(backbone, images)
    tasks = {"shape": ("a {}", SHAPES), "colour": ("something {}", tuple(COLOURS)), "place": ("a thing {}", PLACES)}
    for what, (template, names) in tasks.items():
        read = F.normalize(backbone.encode_text(names, (template, f"a photo of {template}")), dim=-1)
        said = (seen @ read.T).argmax(1).tolist()
        result[what] = float(np.mean([names[i] == fact[what] for i, fact in zip(said, facts, strict=True)]))
    return {name: round(float(value), 4) for name, value in result.items()}


if __name__ == "__main__":
    for line in train(sys.argv[1], *(int(steps) for steps in sys.argv[2:3])):
        print(line)
    print(evaluate(clip.load(clip.MINI, sys.argv[1])))
