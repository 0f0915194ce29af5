"""Where the class token looks: last-layer attention over patches, laid over the frames, as in MA-FSAR's Figure 1b.

`T` frames, `H` heads, `N` tokens in the order class token, patches row by row, extra tokens.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from einops import rearrange, reduce
from matplotlib import pyplot as plt
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from vidlib.basics.errors import UserError
from vidlib.viz import filmstrip, style

# From clear to dark, so that strong attention is dark in grey too and the frame shows where there is none.
_SCALE = plt.get_cmap("plasma_r")(np.linspace(0.15, 1, 256))
COLORS = ListedColormap(np.column_stack([_SCALE[:, :3], np.linspace(0, 0.9, 256)]), name="clear_to_dark")


def class_token_maps(weights: Tensor, grid: tuple[int, int]) -> Tensor:
    """Attention weights ``[T H N N]``, query axis before key axis -> ``[T gh gw]``: class token to patches, head mean.

    ``grid`` is the number of patches down and across. A map adds up to less than one: the rest is the class token's
    attention to itself and to extra tokens (``extra_mass``).
    """
    rows = _class_rows(weights, grid)
    return rearrange(rows[:, 1 : 1 + grid[0] * grid[1]], "t (gh gw) -> t gh gw", gh=grid[0])


def rollout(layers: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
    """Attention through all ``layers``, each ``[T H N N]``, first layer first -> ``[T gh gw]``, class token to patches.

    Abnar and Zuidema, ACL 2020: the mean of heads and the residual count half each, and layers multiply. Extra tokens
    live for one layer only: what goes to them is left out, and the rest of a row is scaled to one. A map adds up to
    less than one: the rest stays with the class token.
    """
    if not layers:
        raise UserError("layers: a rollout needs the attention of at least one layer")
    tokens = 1 + grid[0] * grid[1]
    total = None
    for weights in layers:
        _class_rows(weights, grid)
        own = reduce(weights[:, :, :tokens, :tokens].float(), "t h q k -> t q k", "mean")
        step = 0.5 * own / own.sum(-1, keepdim=True) + 0.5 * torch.eye(tokens, device=own.device)
        total = step if total is None else step @ total
    return rearrange(total[:, 0, 1:], "t (gh gw) -> t gh gw", gh=grid[0])


def extra_mass(weights: Tensor, grid: tuple[int, int]) -> Tensor:
    """The part of the class token's attention that goes to tokens after the patches, ``[T H N N] -> [T]``; 0 to 1."""
    return _class_rows(weights, grid)[:, 1 + grid[0] * grid[1] :].sum(-1)


def on_object(maps: Tensor, masks: Tensor) -> float:
    """The part of the attention to patches, ``maps [T gh gw]``, that falls on an object whose pixels ``masks [T H W]``
    are 1, else 0: the mean over the frames that show it, 0 to 1; NaN where none does. A patch counts by its share."""
    cover = F.adaptive_avg_pool2d(masks.float()[:, None], maps.shape[1:])[:, 0]
    seen = cover.sum((1, 2)) > 0
    shares = (maps.float() * cover).sum((1, 2)) / maps.float().sum((1, 2)).clamp(min=torch.finfo().tiny)
    return float(shares[seen].mean()) if seen.any() else float("nan")


def _class_rows(weights: Tensor, grid: tuple[int, int]) -> Tensor:
    patches = grid[0] * grid[1]
    if weights.ndim != 4 or weights.shape[-1] != weights.shape[-2] or weights.shape[-1] < 1 + patches:
        raise UserError(
            f"weights: a grid of {grid[0]} x {grid[1]} patches needs [frames, heads, N, N] with N of at "
            f"least {1 + patches}, not {list(weights.shape)}"
        )
    return reduce(weights[:, :, 0].float(), "t h n -> t n", "mean")


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """``[T gh gw] -> [T height width]``, bilinear between the patches' centres."""
    maps = rearrange(maps.float(), "t gh gw -> t 1 gh gw")
    return rearrange(F.interpolate(maps, size, mode="bilinear", align_corners=False), "t 1 h w -> t h w")


@style.figure
def maps(
    frames: np.ndarray,
    maps: Mapping[str, Tensor],
    masses: Mapping[str, Tensor] | None = None,
    *,
    title: str = "",
    meaning: str = "attention / frame's strongest patch",
    mass: str = "extra",
    each: bool = False,
    numbers: Sequence[int] | None = None,
    kept: pd.DataFrame | None = None,
) -> Figure:
    """One column per frame; the first row shows the frames, the next ones each method's map over them.

    ``frames [T H W 3]`` are pixels (uint8, or float from 0 to 1), ``maps`` has each method's ``[T gh gw]`` by name
    (``class_token_maps``), ``masses`` a share of each frame, ``[T]``, written under it after the word ``mass``: the
    attention that its extra tokens take.
    In each column one colour scale holds for all methods: from none to that frame's strongest patch in any of them;
    with ``each``, every method has its own scale, the same for all frames. ``meaning`` is what the colours stand for.
    ``numbers`` are the frames' own, where they are not 1 to T; ``kept`` is the table to remember where it is another
    than ``table`` makes.
    """
    frames = np.asarray(frames)
    frames = frames if frames.dtype == np.uint8 else (np.clip(frames, 0, 1) * 255).round().astype(np.uint8)
    count, height, width, _ = frames.shape
    masses = masses or {}
    for name, value in maps.items():
        if len(value) != count:
            raise UserError(f"maps: {name} has {len(value)} maps for {count} frames")
    if maps:
        peaks = torch.stack([value.float().cpu().amax((1, 2)) for value in maps.values()])  # [methods T]
        peaks = (peaks.amax(1, keepdim=True) if each else peaks.amax(0, keepdim=True)).expand_as(peaks)
        peaks = peaks.clamp(min=torch.finfo().tiny)
    numbers = list(numbers or range(1, count + 1))
    paper = style.sizes().width
    names = [style.wrap(name, 12) for name in ("frames", *maps)]
    longest = max(len(line) for name in names for line in name.split("\n"))
    key, below = (0.75, 0.26) if paper else (0.95, 0.2)
    margin = (0.62 * longest + 1.0) * style.NORMAL / 72 if paper else 1.15
    side = min(1.45, (paper - margin - key) / count - 0.05 if paper else 11.5 / count)
    key = paper - margin - count * (side + 0.05) if paper else key
    tall = side * height / width
    long = int(72 * len(maps) * (tall + below) / (0.55 * style.SMALL))
    title = style.wrap(title, style.title_width(margin + count * (side + 0.05) + key))
    heading = 0.2 * len(title.split("\n")) + 0.2 if title else 0.1
    wide = count * (side + 0.05) - 0.05
    page = (margin + wide + 0.05 + key, heading + (1 + len(maps)) * (tall + below) + 0.1)
    fig = style.new_figure(page)
    grid = fig.subplots(
        1 + len(maps),
        1,
        squeeze=False,
        gridspec_kw={
            "left": margin / page[0],
            "right": (margin + wide) / page[0],
            "top": 1 - heading / page[1],
            "bottom": below / page[1],
            "hspace": below / tall,
        },
    )[:, 0]
    step = width + filmstrip.air(width)
    middles = [t * step + (width - 1) / 2 for t in range(count)]
    grid[0].imshow(filmstrip.joined(frames), interpolation="none", aspect="auto")
    grid[0].set_xticks(middles, [f"{n}" if style.narrow() else f"frame {n}" for n in numbers])
    pale = filmstrip.joined(np.stack([_pale(frame) for frame in frames]))
    for row, (name, value) in enumerate(maps.items(), 1):
        large = upsample(value.cpu(), (height, width)) / peaks[row - 1, :, None, None]
        grid[row].imshow(pale, interpolation="none", aspect="auto")
        strength = filmstrip.joined(np.clip(large.numpy(force=True), 0, 1), 0)
        grid[row].imshow(strength, cmap=COLORS, vmin=0, vmax=1, interpolation="none", aspect="auto")
        shares = [f"{100 * float(share):.0f}%" for share in masses.get(name, ())]
        shares = shares if style.narrow() else [f"{mass} {share}" for share in shares]
        grid[row].set_xticks(middles if shares else [], shares)
    for ax, name in zip(grid, names, strict=True):
        words = {"ha": "right", "va": "center", "fontsize": style.NORMAL, "color": style.INK}
        ax.text(-0.08 * side / wide, 0.5, name, transform=ax.transAxes, **words)
        ax.tick_params(length=0, labelsize=style.SMALL, pad=2)
        ax.set_yticks([])
        ax.set_frame_on(False)
    if maps:
        top, bottom = grid[1].get_position().y1, grid[-1].get_position().y0
        bar = fig.colorbar(
            plt.cm.ScalarMappable(plt.Normalize(0, 1), COLORS),
            cax=fig.add_axes([1 - (key - 0.08) / page[0], bottom, 0.1 / page[0], top - bottom]),
        )
        style.dress_bar(bar, style.wrap(meaning, long))
    style.remember(fig, table(maps, masses, numbers) if kept is None else kept)
    if title:
        fig.text(0.06 / page[0], 1 - 0.07 / page[1], title, fontsize=style.TITLE, ha="left", va="top", color=style.INK)
    return fig


def _pale(frame: np.ndarray) -> np.ndarray:
    """A frame ``[H W 3]`` half way to grey and a third of the way to white, so that colour on it means attention."""
    grey = frame.astype(float).mean(-1, keepdims=True)
    return (170 / 255 * (0.4 * frame + 0.6 * grey) + 85).round().astype(np.uint8)


def table(
    maps: Mapping[str, Tensor],
    masses: Mapping[str, Tensor] | None = None,
    numbers: Sequence[int] | None = None,
) -> pd.DataFrame:
    """The drawn numbers, for ``style.save``: method, frame (from 1), row, column, attention, extra (its frame's)."""
    lines: list[dict] = []
    for name, value in maps.items():
        extra: Sequence[float] = (masses or {}).get(name, torch.full((len(value),), float("nan"))).tolist()
        for (t, i, j), weight in np.ndenumerate(value.numpy(force=True)):
            lines.append(
                {
                    "method": name,
                    "frame": numbers[t] if numbers else t + 1,
                    "row": i,
                    "column": j,
                    "attention": float(weight),
                    "extra": extra[t],
                }
            )
    return pd.DataFrame(lines)
