"""Embed-once evaluation against embedding every episode anew: a ratio from one run, and the same predictions.

``python -m benchmarks.embed_once`` prints one line; exit code 1 if the ratio is under 10, or a prediction differs that
is no near-tie. MA-FSAR on clip-mini's architecture with random weights and random clips, so that videos are read for
nothing: reading, which embed-once also saves, would make the ratio larger. Both are measured in CPU time on one thread.
The ratio grows with the number of episodes, since embedding once costs the same for any; this is a small number.
"""

import sys
from pathlib import Path

import torch

from benchmarks.measure import cpu_seconds, verdict
from vidlib import methods
from vidlib.backbones import clip
from vidlib.basics.devices import make_fabric
from vidlib.data.episodes import EpisodeSampler
from vidlib.data.manifest import Manifest, Row
from vidlib.results.accuracy import NEAR
from vidlib.training.evaluate_episodes import embed_videos, evaluate, evaluate_each_episode, match_episodes

CLAIM, CLASSES, VIDEOS, EPISODES, WAY, FRAMES = 10, 12, 10, 400, 5, 8
MANY, LIMIT = 10_000, 90.0  # episodes and seconds, once features exist


class RandomClips:
    """A class's own random pictures with a video's own noise, as float [T C H W]."""

    def __init__(self, manifest: Manifest, size: int) -> None:
        self.manifest, self.split = manifest, "test"
        draw = torch.Generator().manual_seed(0)
        classes = torch.randn(CLASSES, FRAMES, 3, size, size, generator=draw)
        names = manifest.classes("test")
        self.clips = [
            classes[names.index(row.cls)] + torch.randn(FRAMES, 3, size, size, generator=draw)
            for row in manifest.videos("test")
        ]

    def test(self, row: int) -> torch.Tensor:
        return self.clips[row]


def main() -> int:
    """Both evaluations on the same episodes."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = [Row(f"{c}/{v}", f"class {c}", "test") for c in range(CLASSES) for v in range(VIDEOS)]
    manifest = Manifest("random clips", tuple(rows), Path(), {row.video: row.video for row in rows})
    backbone = clip.load("clip-mini", "")
    method = methods.build("ma_fsar", backbone, frames=FRAMES, mix_weight=0.0)
    clips = RandomClips(manifest, backbone.image_size)
    sampler = EpisodeSampler(manifest, "test", WAY, 1, 1, seed=0)
    text = 0.01 * torch.randn(CLASSES, backbone.embed_dim)  # random texts say nothing: small, the videos decide
    fabric = make_fabric("cpu", "32-true")

    evaluate_each_episode(method, clips, sampler, 5, text, fabric=fabric)  # warm-up
    fast, once = cpu_seconds(lambda: evaluate(method, clips, sampler, EPISODES, text, fabric=fabric))
    slow, anew = cpu_seconds(lambda: evaluate_each_episode(method, clips, sampler, EPISODES, text, fabric=fabric))

    listed = [sampler[i] for i in range(MANY)]
    features = embed_videos(method, clips, listed, text, fabric=fabric)
    matching, _ = cpu_seconds(lambda: match_episodes(method, features, sampler, listed, text, fabric=fabric))

    different = once.predicted != anew.predicted
    wrong = int((different & (anew.margin > NEAR)).sum())
    ratio = slow / fast
    met = ratio >= CLAIM and wrong == 0 and matching < LIMIT
    print(
        f"evaluation of {EPISODES} episodes, {WAY}-way 1-shot on {len(rows)} videos, MA-FSAR: embed once {fast:.1f} s, "
        f"every episode anew {slow:.1f} s: {ratio:.0f} times faster (claim: at least {CLAIM}, "
        f"{verdict(met)}); predictions that differ: {different.sum()} of {len(different)}, {wrong} of "
        f"them no near-tie; near-ties {anew.near_ties}; accuracy {anew.accuracy:.2f}; "
        f"{MANY:,} episodes matched on features in {matching:.1f} s of one core"
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
