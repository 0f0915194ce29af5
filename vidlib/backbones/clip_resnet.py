"""CLIP's ResNets with their four stage maps.

`B` images, `D_i` channels of stage i, `C` width of the joint space.
"""

from torch import Tensor

from vidlib.backbones.clip_towers import CLIPBackbone


class CLIPResNetBackbone(CLIPBackbone):
    """A CLIP with open_clip's ModifiedResNet for its image tower; it has no blocks that a method could adapt."""

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
        """``[B D_4 h w] -> [B C]``: attention pooling, CLIP's own feature, of maps of the tower's own size; of a single
        place, as of a patch that is read by itself, its value alone, as MaskCLIP has it (Zhou et al., ECCV 2022)."""
        pool = self.visual.attnpool
        if deepest.shape[-2:] == (1, 1) and len(pool.positional_embedding) != 2:
            return pool.c_proj(pool.v_proj(deepest.flatten(1)))
        return pool(deepest)
