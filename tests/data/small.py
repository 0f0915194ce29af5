"""Small real videos and manifests without files, for the tests of this folder."""

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np

from vidlib.data.manifest import Manifest, Row


def write_clip(path: Path, frames: int = 12, shade: int = 128, size: int = 32) -> Path:
    """An H.264 clip of grey frames; frame i is lighter by 4 i than ``shade`` (modulo 256)."""
    return write_pictures(path, [np.full((size, size, 3), (shade + 4 * i) % 256) for i in range(frames)])


def write_pictures(path: Path, pictures: Sequence[np.ndarray]) -> Path:
    """An H.264 clip of pictures [H W 3] of one size, values 0 to 255, ten a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "5", "preset": "ultrafast", "threads": "1"}
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture.astype(np.uint8), format="rgb24")))
        container.mux(stream.encode())
    return path


def write_folder(root: Path, classes: int = 6, clips: int = 2) -> Path:
    """``root/class0/0.mp4`` and so on."""
    for c in range(classes):
        for i in range(clips):
            write_clip(root / f"class{c}" / f"{i}.mp4", frames=4 + i, shade=20 * c)
    return root


def listed(classes: int = 6, videos: int = 8, root: str = "/nowhere", split: str = "test", order: int = 1) -> Manifest:
    """A manifest without files; ``order`` -1 lists the rows backwards."""
    rows = [Row(f"v{c}_{i}", f"class {c}", split) for c in range(classes) for i in range(videos)][::order]
    return Manifest("listed", tuple(rows), Path(root), {row.video: f"{root}/{row.video}.mp4" for row in rows})
