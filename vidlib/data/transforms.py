"""From decoded frames to what a model takes: one crop, one flip, one colour change for all frames of a clip.

Legend: `T` frames, `C` channels, `H` height, `W` width. Every random number comes from the generator passed in, so
that a clip's augmentation depends on (seed, episode, slot) and not on the worker that computes it; torch's global state
is neither read nor changed (torchvision's own random transforms would).
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import RandAugment
from torchvision.transforms.v2 import functional as F

from vidlib.basics.errors import UserError

_TRIES = 10  # crops drawn before the largest central one of an allowed shape is taken, as torchvision does
# Where a multi-scale crop may lie, in quarters of what is spare down and across: corners, sides, centre, and between.
_FIXED = tuple((y, x) for y in (0, 2, 4) for x in (0, 2, 4)) + ((1, 1), (1, 3), (3, 1), (3, 3))


class ClipTransform:
    """uint8 frames [T H W C] to a float32 clip [T C size size], scaled to 0..1, then ``mean`` and ``std`` per channel.

    Test (``train=False``): the short side is resized to ``resize`` pixels (default ``size``), the centre is cropped.
    Training: a crop of random area (``scale``, a share of the picture) and shape (``ratio``, width to height), resized;
    with ``scale=None`` the short side is resized to ``resize``, or at random up to ``stretch`` times that, and a
    ``size`` x ``size`` window placed at random (M2-CLIP's released code: 1 to 1.15 times ``size``). ``multi_scale``:
    TSN's crop, which ActionCLIP's released code has: height and width are two of these shares of the short side, the
    same or neighbours in this order, at one of 13 fixed places.
    ``squash`` resizes both sides to ``resize`` there, and in testing, whatever the picture's shape. ``flip`` mirrors
    half of the training clips left to right: only where the benchmark is not directional. ``jitter`` is the largest
    relative change of brightness, contrast and saturation, ``hue`` the largest turn of the colour circle, ``grey`` the
    part of the clips without colour; one draw of each for a clip. ``place`` is where along the longer side the test
    crop lies, from 0 (left or top) over 0.5 (the centre) to 1: several make the spatial views of a test.
    ``rand_augment`` (operations, magnitude of 30): torchvision's RandAugment before the crop, one draw for a clip.

    Where place tells the class (small worlds), keep the crop mild: ``scale=(0.8, 1)``.
    """

    def __init__(
        self,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        train: bool,
        flip: bool = False,
        scale: tuple[float, float] | None = (0.5, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        resize: int | None = None,
        jitter: float = 0.0,
        hue: float = 0.0,
        grey: float = 0.0,
        squash: bool = False,
        place: float = 0.5,
        rand_augment: tuple[int, int] | None = None,
        stretch: float = 1.0,
        multi_scale: Sequence[float] = (),
        interpolation: InterpolationMode = InterpolationMode.BICUBIC,
    ) -> None:
        if size < 1 or (resize is not None and resize < size):
            raise UserError(f"resize must be at least size, and size at least 1 pixel: got {resize} and {size}")
        if scale is not None and not 0 < scale[0] <= scale[1] <= 1:
            raise UserError(f"scale must be two shares of the picture, 0 < smallest <= largest <= 1: got {scale}")
        if not 0 < ratio[0] <= ratio[1]:
            raise UserError(f"ratio must be two ratios of width to height, 0 < smallest <= largest: got {ratio}")
        if not 0 <= place <= 1:
            raise UserError(f"place must lie in 0 <= place <= 1: got {place}")
        if not 0 <= jitter < 1:
            raise UserError(f"jitter must lie in 0 <= jitter < 1: got {jitter}")
        if not 0 <= hue <= 0.5 or not 0 <= grey <= 1:
            raise UserError(f"hue must lie in 0 <= hue <= 0.5 and grey in 0 <= grey <= 1: got {hue} and {grey}")
        if stretch < 1 or not all(0 < share <= 1 for share in multi_scale):
            raise UserError(
                "stretch must be at least 1, multi_scale shares of the short side in 0 < share <= 1: "
                f"got {stretch} and {tuple(multi_scale)}"
            )
        self.stretch, self.multi_scale = stretch, tuple(multi_scale)
        self.size, self.resize, self.train, self.flip = size, resize or size, train, flip
        self.scale, self.ratio, self.jitter, self.interpolation = scale, ratio, jitter, interpolation
        self.hue, self.grey, self.squash, self.place = hue, grey, squash, place
        self.rand_augment = (
            RandAugment(*rand_augment, interpolation=InterpolationMode.BILINEAR) if rand_augment else None
        )
        self.mean, self.std = tuple(mean), tuple(std)

    def __call__(self, frames: np.ndarray | Tensor, generator: torch.Generator | None = None) -> Tensor:
        """``frames`` uint8 [T H W C] -> float32 [T C size size]; training needs a ``generator``, testing uses none."""
        if isinstance(frames, np.ndarray):
            frames = torch.from_numpy(np.require(frames, requirements=("C", "W")))  # a mapped file is read-only
        clip = rearrange(frames, "t h w c -> t c h w")
        if not self.train:
            clip = self._window(self._resized(clip))
        elif generator is None:
            raise UserError("a training transform needs a torch.Generator seeded for its clip: got generator=None")
        else:
            clip = self._augmented(clip, generator)
        scaled = F.to_dtype(clip.contiguous(), torch.float32, scale=True)
        return F.normalize(scaled, self.mean, self.std, inplace=clip.dtype == torch.uint8)  # then it is nobody else's

    def _augmented(self, clip: Tensor, generator: torch.Generator) -> Tensor:
        """One draw of every number, whatever the options use: an option changes its own effect and no other's."""
        draws = torch.rand(8 + 2 * _TRIES, generator=generator, dtype=torch.float64).tolist()
        flip, brightness, contrast, saturation, down, across, *shapes, hue, grey = draws
        if self.rand_augment:
            with torch.random.fork_rng(devices=[]):  # its chance is global
                torch.manual_seed(int(2**53 * hue))
                clip = self.rand_augment(clip)
        if self.scale is None and not self.multi_scale:
            clip = self._resized(clip, 1 + shapes[0] * (self.stretch - 1))
            top, left = _place(clip.shape[-2:], (self.size, self.size), (down, across))
            clip = F.crop(clip, top, left, self.size, self.size)
        else:
            if self.multi_scale:
                top, left, height, width = self._fixed(clip.shape[-2:], shapes)
            else:
                height, width = self._shape(clip.shape[-2:], shapes)
                top, left = _place(clip.shape[-2:], (height, width), (down, across))
            out = [self.size, self.size]
            clip = F.resized_crop(clip, top, left, height, width, out, self.interpolation, antialias=True)
        if self.flip and flip < 0.5:
            clip = F.horizontal_flip(clip)
        if self.jitter:
            frames = len(clip)
            tall = rearrange(clip, "t c h w -> c (t h) w")  # contrast turns about one mean: the clip's
            tall = F.adjust_brightness(tall, 1 + self.jitter * (2 * brightness - 1))
            tall = F.adjust_contrast(tall, 1 + self.jitter * (2 * contrast - 1))
            tall = F.adjust_saturation(tall, 1 + self.jitter * (2 * saturation - 1))
            clip = rearrange(tall, "c (t h) w -> t c h w", t=frames)
        if self.hue:
            clip = F.adjust_hue(clip, self.hue * (2 * hue - 1))
        if grey < self.grey:
            clip = F.rgb_to_grayscale(clip, num_output_channels=3)
        return clip

    def _resized(self, clip: Tensor, stretch: float = 1.0) -> Tensor:
        """The short side, or with ``squash`` both, at ``resize`` pixels times ``stretch``."""
        sides = [round(stretch * self.resize)] * (2 if self.squash else 1)
        return F.resize(clip, sides, self.interpolation, antialias=True)

    def _window(self, clip: Tensor) -> Tensor:
        """The test crop: the centre, or ``place`` along the longer side."""
        if self.place == 0.5:
            return F.center_crop(clip, [self.size, self.size])
        spare = [side - self.size for side in clip.shape[-2:]]
        shares = [self.place if side == max(spare) else 0.5 for side in spare]
        top, left = (round(share * side) for share, side in zip(shares, spare, strict=True))
        return F.crop(clip, top, left, self.size, self.size)

    def _fixed(self, picture: Sequence[int], draws: Sequence[float]) -> tuple[int, int, int, int]:
        """Top, left, height and width of a ``multi_scale`` crop: sides and place drawn from those there are."""
        sides = [int(min(picture) * share) for share in self.multi_scale]
        sides = [self.size if abs(side - self.size) < 3 else side for side in sides]  # as there
        sides = [max(1, min(side, *picture)) for side in sides]
        pairs = [(h, w) for i, h in enumerate(sides) for j, w in enumerate(sides) if abs(i - j) <= 1]
        height, width = pairs[int(draws[0] * len(pairs))]
        down, across = _FIXED[int(draws[1] * len(_FIXED))]
        return down * ((picture[0] - height) // 4), across * ((picture[1] - width) // 4), height, width

    def _shape(self, picture: Sequence[int], draws: list[float]) -> tuple[int, int]:
        """Height and width of a crop: area even over ``scale``, the logarithm of its shape even over ``ratio``."""
        height, width = picture
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for share, shape in zip(draws[::2], draws[1::2], strict=True):
            area = height * width * (self.scale[0] + share * (self.scale[1] - self.scale[0]))
            aspect = math.exp(low + shape * (high - low))
            h, w = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
            if 0 < h <= height and 0 < w <= width:
                return h, w
        aspect = min(max(width / height, self.ratio[0]), self.ratio[1])
        return min(height, round(width / aspect)), min(width, round(height * aspect))


def _place(picture: Sequence[int], window: Sequence[int], draws: Sequence[float]) -> list[int]:
    """Top and left of a window placed evenly at random inside a picture."""
    return [int(draw * (outer - inner + 1)) for outer, inner, draw in zip(picture, window, draws, strict=True)]
