"""CLIP's ResNets, for released checkpoints alone: every released recipe of CLIP-FSAR tunes the RN50.

`B` images, `D_i` channels of stage i, `C` width of the joint space. What adapts a ViT's blocks cannot run on them, so
``backbones.load`` does not offer them.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from vidlib.backbones import clip
from vidlib.backbones.clip import CLIPBackbone

NAMES = ("RN50-quickgelu", "RN101-quickgelu")


class CLIPResNetBackbone(CLIPBackbone):
    """A CLIP with a ResNet for its image tower as CLIP-FSAR sees it; every parameter starts frozen."""

    def __init__(self, model: nn.Module, name: str, mean: Sequence[float], std: Sequence[float]) -> None:
        nn.Module.__init__(self)  # a ViT has other parts
        self.clip = model.eval().requires_grad_(False)
        self.name, self.mean, self.std = name, tuple(mean), tuple(std)
        self.embed_dim, self.image_size = model.visual.output_dim, model.visual.image_size

    @property
    def map_dims(self) -> tuple[int, ...]:
        """Channels of the four stage maps."""
        stages = (self.visual.layer1, self.visual.layer2, self.visual.layer3, self.visual.layer4)
        return tuple(stage[-1].conv3.out_channels for stage in stages)

    def stages(self, x: Tensor) -> list[Tensor]:
        """``[B 3 H W] -> [[B D_1 H/4 W/4], ..., [B D_4 H/32 W/32]]``."""
        x, maps = self.visual.stem(x), []
        for stage in (self.visual.layer1, self.visual.layer2, self.visual.layer3, self.visual.layer4):
            x = stage(x)
            maps.append(x)
        return maps

    def pool(self, deepest: Tensor) -> Tensor:
        """``[B D_4 h w] -> [B C]``: attention pooling, CLIP's own feature; for maps of the tower's own size."""
        return self.visual.attnpool(deepest)


def load(backbone: str, pretrained: str) -> CLIPResNetBackbone:
    """One of ``NAMES``; ``pretrained``: "" for random weights, open_clip's tag ("openai"), or a file."""
    return CLIPResNetBackbone(*clip.build(backbone, pretrained))
