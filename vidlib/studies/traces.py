"""What a video leaves for who does not understand it: a tower's frames, its background, how much moved, its file.

Legend: `V` videos of a split, `T` frames, `C` width of a frame's feature, `H` `W` pixels, `N` numbers of a file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vidlib.backbones import Backbone
from vidlib.basics.devices import pick_device
from vidlib.basics.errors import UserError
from vidlib.basics.progress import track
from vidlib.data.clips import CONTROLLED, Clips, Undecodable
from vidlib.data.disk.packets import Packets, packets
from vidlib.data.manifest import Manifest
from vidlib.data.transforms import ClipTransform

BATCH = 16  # videos that go through the tower at a time
GREY, SIDE = (0.299, 0.587, 0.114), 48  # weights of a grey picture, and its sides, on which motion is measured
SHARES = 8  # equal parts of a file's packets, in order


@dataclass
class Traces:
    """What is known of the videos of one split, in the order of ``manifest.videos(split)``; rows not asked for are 0.

    ``frames`` [V T C], the tower's features; ``background`` [V C], of the median over time as one picture; ``motion``
    [V 4(T-1)+4], see ``motion_of``; ``file`` [V 12], see ``file_of``; ``packets`` [V 8], shares of the file's bytes in
    eight equal parts of it. ``read``: the rows that were looked at; ``lost``: the videos that did not decode.
    """

    manifest: Manifest
    split: str
    frames: Tensor
    background: Tensor
    motion: Tensor
    file: Tensor
    packets: Tensor
    read: list[int]
    lost: list[str]

    def test(self, row: int) -> Tensor:
        """The frames' features [T C] of a video: for ``controls.ShuffledFrames``, as if they were its clip."""
        return self.frames[row]


def look(
    manifest: Manifest, split: str, rows: Sequence[int], backbone: Backbone, frames: int, may_fail: bool = False
) -> Traces:
    """Decode each of ``rows`` once, its ``frames`` segment centres, and keep what ``Traces`` says of it.

    UserError, naming the file, where a video does not decode; ``may_fail``: it is left at 0 and named in ``lost``.
    """
    backbone = backbone.to(pick_device()).eval()
    shown = ClipTransform(backbone.image_size, backbone.mean, backbone.std, train=False)
    clips = Clips(manifest, split, frames, None, shown, seed=0)
    found: dict[str, Tensor] = {}
    chunk: dict[int, tuple[Tensor, ...]] = {}  # row -> picture, motion, file, packets
    read: list[int] = []
    lost: list[str] = []

    def keep() -> None:
        pictures, *others = (torch.stack(each) for each in zip(*chunk.values(), strict=True))
        values = (*_features(backbone, pictures), *others)
        for name, value in zip(("frames", "background", "motion", "file", "packets"), values, strict=True):
            found.setdefault(name, value.new_zeros(len(clips), *value.shape[1:]))[list(chunk)] = value
        read.extend(chunk)
        chunk.clear()

    for row in track(sorted(rows), f"{manifest.name} {split}: videos read"):
        path = manifest.path(clips.rows[row])
        try:
            raw = clips.raw(row)
        except Undecodable as error:
            if not may_fail:
                raise UserError(f"{path} cannot be decoded ({error.cause}); {CONTROLLED}") from None
            lost.append(clips.rows[row].video)
            continue
        chunk[row] = (shown(raw), motion_of(raw), *file_of(packets(path)))
        if len(chunk) == BATCH:
            keep()
    if chunk:
        keep()
    if not found:
        raise UserError(f"{manifest.name}: none of the {len(rows)} videos of split {split} that were asked for decodes")
    return Traces(manifest, split, **found, read=read, lost=lost)


def _features(backbone: Backbone, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """``pictures [B T 3 S S]`` -> the frames' features [B T C] and those of the median over time [B C]."""
    together = torch.cat([pictures.flatten(0, 1), pictures.median(dim=1).values])
    with torch.no_grad():
        features = backbone.encode_image(together.to(next(backbone.trunk.parameters()).device)).float().cpu()
    return features[: -len(pictures)].unflatten(0, pictures.shape[:2]), features[-len(pictures) :]


def motion_of(frames: np.ndarray) -> Tensor:
    """How much a clip moves as a whole, frames uint8 [T H W 3] -> [4(T-1)+4], T >= 2.

    Of every step of the grey picture, 48 pixels a side: the mean absolute difference; the shift of the whole, right and
    down in pixels, where phase correlation peaks; that shift's length. Then each one's deviation over the steps.
    """
    grey = torch.from_numpy(np.ascontiguousarray(frames)).float() @ torch.tensor(GREY)
    grey = F.interpolate(grey[:, None], (SIDE, SIDE), mode="area")[:, 0]
    waves = torch.fft.fft2(grey - grey.mean(dim=(1, 2), keepdim=True))
    cross = waves[1:] * waves[:-1].conj()
    peaks = torch.fft.ifft2(cross / cross.abs().clamp(min=1e-6)).real.flatten(1).argmax(1)
    down, right = ((at + SIDE // 2) % SIDE - SIDE // 2 for at in (peaks // SIDE, peaks % SIDE))
    difference = grey.diff(dim=0).abs().mean(dim=(1, 2))
    steps = torch.stack([difference, right.float(), down.float(), torch.hypot(right.float(), down.float())])
    return torch.cat([steps.flatten(), steps.std(dim=1, correction=0)])


def file_of(given: Packets) -> tuple[Tensor, Tensor]:
    """What a file tells, [12] and [8]: logarithms of its bytes, seconds, packets, rate, bits a packet, mean bytes of a
    key packet and of another, the largest and the spread of the others; width, height, number of keys. And the shares
    of the bytes in eight equal parts of the packets, in their order."""
    keys, others = given.sizes[given.keys], given.sizes[~given.keys]
    key, other = (float(each.mean()) if len(each) else 0.0 for each in (keys, others))
    spread, largest = (float(others.std()), float(others.max())) if len(others) else (0.0, 0.0)
    bits = 8 * given.sizes.mean()
    heavy: list[Any] = [given.size, given.seconds, len(given.sizes), given.rate, bits, key, other, largest, spread]
    whole = torch.tensor([given.width, given.height, len(keys)], dtype=torch.float32)
    parts = np.add.reduceat(np.append(given.sizes, 0), np.arange(SHARES) * len(given.sizes) // SHARES)
    shares = torch.from_numpy(parts / given.sizes.sum()).float()
    return torch.cat([torch.tensor(heavy, dtype=torch.float32).log1p(), whole]), shares
