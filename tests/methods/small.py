"""A CLIP of a few thousand random weights, a small ResNet, and random episodes, for tests of the methods."""

import inspect

import open_clip
import torch

from vidlib.backbones.clip import CLIPBackbone
from vidlib.backbones.clip_resnet import CLIPResNetBackbone
from vidlib.backbones.resnet import ResNetBackbone
from vidlib.backbones.resnet import load as load_resnet
from vidlib.data.episodes import EpisodeBatch, Targets
from vidlib.methods import METHODS, FewShotMethod, build

FRAMES, WAY, CLASSES = 3, 3, 6
VISION = {"image_size": 16, "patch_size": 8, "width": 16, "layers": 2, "head_width": 8, "mlp_ratio": 2.0}
TEXT = {"context_length": 12, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}


def backbone(seed: int = 0, text: dict | None = None, **vision) -> CLIPBackbone:
    torch.manual_seed(seed)
    return CLIPBackbone(open_clip.CLIP(16, {**VISION, **vision}, {**TEXT, **(text or {})}, quick_gelu=True), "small")


def clip_resnet() -> CLIPResNetBackbone:
    """A CLIP with open_clip's ResNet: 256 channels in its deepest map, of 2 x 2 places for 64 pixels."""
    torch.manual_seed(0)
    vision = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 8, "patch_size": None}
    return CLIPResNetBackbone(open_clip.CLIP(16, vision, TEXT, quick_gelu=True), "small", (0.5,) * 3, (0.5,) * 3)


def resnet() -> ResNetBackbone:
    """timm's test ResNet with random weights: 0.5 million parameters, 384 channels in its deepest map."""
    torch.manual_seed(0)
    return load_resnet("test_resnet", "")


def shaken(method: FewShotMethod, seed: int = 1) -> FewShotMethod:
    """Every trained parameter moved away from its start, so that no branch is zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in method.trainable().values():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator).to(parameter)
    return method


def make(name: str, on=backbone, **arguments) -> FewShotMethod:
    """A shaken method on its own small backbone, ``on()``; no dropout."""
    known = inspect.signature(METHODS[name]).parameters
    still = {argument: 0.0 for argument in known if argument.endswith("dropout") or argument == "drop_path"}
    return shaken(build(name, on(), **{"frames": FRAMES, **still, **arguments}))


def batch(
    episodes: int = 2,
    shots: tuple[int, ...] = (1, 1, 1),
    queries: int = 4,
    seed: int = 2,
    dtype=torch.float32,
    frames: int = FRAMES,
    pixels: int = 16,
) -> EpisodeBatch:
    """Episodes of ``len(shots)`` classes; ``shots`` supports per class, in shuffled order."""
    way, classes = len(shots), max(CLASSES, len(shots))
    g = torch.Generator().manual_seed(seed)
    labels = torch.tensor([c for c, k in enumerate(shots) for _ in range(k)])
    labels = torch.stack([labels[torch.randperm(len(labels), generator=g)] for _ in range(episodes)])
    class_ids = torch.stack([torch.randperm(classes, generator=g)[:way] for _ in range(episodes)])
    all_text = torch.randn(classes, 16, generator=g, dtype=dtype)

    def clips(videos: int):
        return torch.randn(episodes, videos, frames, 3, pixels, pixels, generator=g, dtype=dtype)

    targets = Targets(torch.randint(way, (episodes, queries), generator=g), class_ids, all_text)
    return EpisodeBatch(clips(sum(shots)), labels, clips(queries), all_text[class_ids], targets)


def same(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-5) -> bool:
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance)


NAMES = tuple(METHODS)
BASELINES = ("zero_shot_clip", "simple_shot", "logistic_regression", "tip_adapter")
UNTRAINED = ("frozen_clip", *BASELINES)  # nothing trains
__all__ = [
    "BASELINES",
    "FRAMES",
    "NAMES",
    "UNTRAINED",
    "WAY",
    "backbone",
    "batch",
    "clip_resnet",
    "make",
    "resnet",
    "same",
    "shaken",
]
