"""Train clip-mini from scratch on captioned stills: ``python -m vidlib.backbones.clip_mini.train OUT [STEPS]``.

`B` stills, `C` the joint space's width. The contrastive loss is CLIP's (Radford et al. 2021, figure 3): cross entropy
over the B x B cosines in both directions, with a learned temperature. Stills are drawn when needed and never repeat.
"""

import sys
import time
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
from vidlib.data.world.stills import plain_stills, stills

STEPS = 2600  # about 12 minutes on 2 cores
BATCH = 128
ALIKE = 4  # runs of stills with equal colours and shapes: only place, size and tilt tell them apart
SEED = 2026
HELD_OUT = 77_000  # a seed of stills that training never draws (training draws SEED's)
LR, WEIGHT_DECAY, WARMUP = 8e-4, 0.1, 100  # at 2e-3 the tower stays blind to places
CHECKPOINT_EVERY = 200
PLACES = ("in the upper left", "at the top", "in the upper right", "on the left side", "in the middle",
          "on the right side", "in the lower left", "at the bottom", "in the lower right")  # fmt: skip


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


def _optimiser(model: nn.Module) -> torch.optim.AdamW:
    """Weight decay for matrices only; not for biases, norms, embeddings and the temperature."""
    matrices = [p for n, p in model.named_parameters() if p.ndim >= 2 and "embedding" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim < 2 or "embedding" in n]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.98), eps=1e-6)


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
    table[1:] = 0.7 * torch.cat(parts, dim=1)


def _simple(step: int, steps: int) -> float:
    """The share of stills with one fully described thing: all at first, 0.3 from a third of the training on."""
    return max(0.3, 1 - 0.7 * step / max(1, steps / 3))


def _pace(step: int, steps: int) -> float:
    """Part of LR at a step: a linear rise, then half a cosine."""
    warmup = min(WARMUP, max(1, steps // 10))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + float(np.cos(np.pi * (step - warmup) / max(1, steps - warmup))))


def train(out: str | Path, steps: int = STEPS, seed: int = SEED, device: str = "cpu") -> list[dict[str, float]]:
    """Train a fresh clip-mini and write its weights, half precision, to ``out`` (.safetensors).

    A checkpoint beside ``out`` lets an interrupted training of the same steps and seed go on. Returns step, loss and
    temperature of every 50th step. Raises UserError where the loss is not finite.
    """
    out = Path(out)
    checkpoint = out.with_name(f"{out.stem}.checkpoint.pt")
    torch.manual_seed(seed)
    backbone = clip.load(clip.MINI, "").to(device)
    model = backbone.clip.train().requires_grad_(True)
    _place_patches(model)
    tokens = clip.tokenizer(clip.MINI, model.context_length)
    optimiser, first, history = _optimiser(model), 0, []
    if checkpoint.is_file():
        saved = weights.opened(checkpoint, device)
        if (saved["steps"], saved["seed"]) == (steps, seed):
            model.load_state_dict(saved["model"])
            optimiser.load_state_dict(saved["optimiser"])
            first, history = saved["step"], saved["history"]
            print(f"clip-mini: going on from step {first} of {steps}")
    # bfloat16 is quicker wherever the processor has wide registers for it
    half = device != "cpu" or torch.backends.cpu.get_cpu_capability() == "AVX512"
    began = time.monotonic()
    for step in track(range(first, steps), "clip-mini", total=steps, start=first):
        images, captions = stills(seed, step * BATCH, BATCH, ALIKE, _simple(step, steps))
        for group in optimiser.param_groups:
            group["lr"] = LR * _pace(step, steps)
        # on a processor the plain attention's backward is much quicker than the fused one's (torch 2.14, bfloat16)
        with torch.autocast(device, torch.bfloat16, enabled=half), sdpa_kernel(SDPBackend.MATH):
            seen = model.encode_image(pixels(images, backbone))
            read = model.encode_text(tokens(captions))
        seen, read = F.normalize(seen.float(), dim=-1), F.normalize(read.float(), dim=-1)
        loss = contrastive_loss(seen, read, model.logit_scale.exp())
        if not torch.isfinite(loss):
            raise UserError(f"clip-mini: the loss at step {step} is {loss.item()}; give a smaller learning rate")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, float(np.log(100)))
        if step % 50 == 0 or step == steps - 1:
            history.append({"step": step, "loss": loss.item(), "scale": model.logit_scale.exp().item(),
                            "seconds": time.monotonic() - began})  # fmt: skip
        if step % 200 == 0 and step > first:
            print(f"clip-mini: step {step} of {steps}, loss {loss.item():.3f}", flush=True)
        if (step + 1) % CHECKPOINT_EVERY == 0 and step + 1 < steps:
            state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1}
            with atomic_write(checkpoint) as path:
                torch.save({**state, "history": history, "steps": steps, "seed": seed}, path)
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
