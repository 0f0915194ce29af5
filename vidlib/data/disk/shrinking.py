"""A clip decoded and made smaller, in a child process of ``prefetching``; the same bytes on every machine.

Pillow's bilinear filter (antialiased) resizes each frame; frames that are small enough stay as they were decoded.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from vidlib.data import video
from vidlib.data.sampling import segment_indices


def shrunk(path: Path, short: int, frames: int | None) -> np.ndarray:
    """All frames, or ``frames`` segment centres (all of a clip with fewer), uint8 [N H W 3] of short side ``short``."""
    if frames is None:
        clip = video.read_all(path, timeout=None)
    else:
        count = video.count_frames(path, timeout=None)
        wanted = segment_indices(count, frames) if count > frames else np.arange(count)
        clip = video.read_frames(path, wanted, timeout=None)
    height, width = clip.shape[1:3]
    if min(height, width) <= short:
        return clip
    size = (round(width * short / min(height, width)), round(height * short / min(height, width)))
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR)) for frame in clip])


def smaller(path: Path) -> tuple[int, int, int]:
    """(frames, height, width) of a clip as it is."""
    found = video.probe(path, timeout=None)
    return video.count_frames(path, timeout=None), found.height, found.width
