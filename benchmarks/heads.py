"""What a head costs for one 5-way 1-shot episode of 25 queries, T = 8, in products of two 1024 x 1024 matrices.

``python -m benchmarks.heads [NAME ...]`` prints one row per head and width; exit code 1 where one costs more than its
claim or gives other logits. float32; two threads in wall time, where every step waits for both: on a machine that has
other work, ``--threads 1`` compares CPU times instead.

claim: a tenth of what the released code's head was measured to cost in this unit, for OTAM at 2048 a fifth, for Bi-MHM
    a half.
ours: ``compare`` (of a method, ``match``) on embedded videos, for as many episodes at once as ``match_episodes`` takes.
embed: what a head does once per video, after the backbone, for one video.
literal: the version in tests/literal, from frame features, one episode at a time; timed once. times: over ours.
difference: between the logits of the two, over the largest.
peak: of tensors that ``ours`` holds beyond the features it is given, in MB.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import open_clip
import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from benchmarks.measure import in_products, peak_bytes, verdict
from tests.literal import bimhm, clip_fsar, hyrsm, otam, trx
from vidlib import methods
from vidlib.backbones.clip import CLIPBackbone
from vidlib.layers.positions import placed
from vidlib.matching import base, build_metric
from vidlib.training.evaluate_episodes import GATHERED

WAY, QUERIES, FRAMES, MOST = 5, 25, 8, 250
LABELS = torch.arange(WAY)
Features = dict[str, Tensor]
COLUMNS = (
    "head",
    "width",
    "released",
    "claim",
    "ours",
    "embed",
    "literal",
    "times",
    "difference",
    "peak",
    "episodes",
    "",
)
ROW = "{:10} {:>5} {:>8} {:>7} {:>7} {:>8} {:>7} {:>5} {:>10} {:>5} {:>8} {}"


@dataclass
class Head:
    """``embed(frames [B T D], role)`` and ``match(support, labels [E S], query)`` as in a method, ``literal(supports
    [S T D], queries [Q T D])`` -> [Q W]."""

    embed: Callable[[Tensor, str], Features]
    match: Callable[[Features, Tensor, Features], Tensor]
    literal: Callable[[Tensor, Tensor], Tensor]


def weights(module: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    found = {name: value for name, value in module.state_dict().items() if name.startswith(prefix)}
    return {name.removeprefix(prefix): value for name, value in found.items()}


def metric_head(name: str, width: int, literal: Callable[[nn.Module, Tensor, Tensor], Tensor], **options) -> Head:
    metric = build_metric(name, dim=width, frames=FRAMES, **options).eval()
    return Head(
        lambda frames, role: metric.prepare(frames),
        lambda support, labels, query: metric.compare(support, labels, query, WAY),
        lambda supports, queries: literal(metric, supports, queries),
    )


def otam_head(width: int) -> Head:
    return metric_head("otam", width, lambda metric, s, q: otam.logits(s, LABELS, q, metric.lam))


def bimhm_head(width: int) -> Head:
    return metric_head("bimhm", width, lambda metric, s, q: bimhm.logits(s, LABELS, q))


def trx_head(width: int, cardinalities: tuple[int, ...]) -> Head:
    def literal(metric: nn.Module, supports: Tensor, queries: Tensor) -> Tensor:
        found = [
            trx.logits(supports, LABELS, queries, weights(head), w)
            for w, head in zip(cardinalities, metric.transformers, strict=True)
        ]
        return sum(found) / len(found)

    return metric_head("trx", width, literal, cardinalities=cardinalities)


def method(name: str, width: int, **arguments) -> nn.Module:
    """A method on a tower of next to nothing, whose features have this width."""
    vision = {"image_size": 16, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8}
    text = {"context_length": 8, "vocab_size": 64, "width": 8, "heads": 2, "layers": 1}
    tower = CLIPBackbone(open_clip.CLIP(width, vision, text), "narrow")
    return methods.build(name, tower, frames=FRAMES, variant="released", **arguments).eval()


def hyrsm_head(width: int) -> Head:
    head = method("hyrsm", width)

    def literal(supports: Tensor, queries: Tensor) -> Tensor:
        supports, queries = (
            torch.stack(
                [
                    hyrsm.intra_relation(video, weights(head.intra), head.intra.heads)
                    for video in placed(videos, head.position_a, head.position_b, usual=False)
                ]
            )
            for videos in (supports, queries)
        )
        return hyrsm.logits(supports, LABELS, queries, weights(head.inter), head.inter.heads, True, False)

    def match(support: Features, labels: Tensor, query: Features) -> Tensor:
        return head.match(support, labels, query, torch.empty(len(labels), WAY, 0)).logits

    return Head(lambda frames, role: head.embed_frames(frames), match, literal)


def clip_fsar_head(width: int) -> Head:
    head, text = method("clip_fsar", width), torch.randn(WAY, width)

    def embed(frames: Tensor, role: str) -> Features:
        own = repeat(text, "w c -> (e w) c", e=len(frames) // WAY) if role == "support" else None
        return head.embed_frames(frames, own, role)

    def match(support: Features, labels: Tensor, query: Features) -> Tensor:
        return head.match(support, labels, query, text.expand(len(labels), -1, -1)).logits

    return Head(embed, match, lambda s, q: clip_fsar.logits(s, LABELS, q, text, weights(head.context)))


# What builds a head; for each width what its released code costs, and the share of it that is claimed.
HEADS: dict[str, tuple[Callable[[int], Head], Mapping[int, tuple[float, float]]]] = {
    "OTAM": (otam_head, {512: (0.36, 0.1), 2048: (0.36, 0.2)}),
    "Bi-MHM": (bimhm_head, {512: (0.025, 0.5), 2048: (0.072, 0.5)}),
    "TRX{2}": (lambda width: trx_head(width, (2,)), {512: (2.8, 0.1), 2048: (9.6, 0.1)}),
    "TRX{2,3}": (lambda width: trx_head(width, (2, 3)), {512: (12.4, 0.1), 2048: (36, 0.1)}),
    "HyRSM": (hyrsm_head, {512: (1.1, 0.1), 2048: (16, 0.1)}),
    "CLIP-FSAR": (clip_fsar_head, {512: (1.4, 0.1)}),
}


@torch.inference_mode()
def measure(head: Head, width: int, repeats: int = 9) -> dict[str, float]:
    """One row's measured columns."""

    def embedded(episodes: int) -> tuple[Features, Features]:
        both = []
        for role, videos in (("support", WAY), ("query", QUERIES)):
            frames = frames_of[role][:episodes]
            features = head.embed(rearrange(frames, "e n t d -> (e n) t d"), role)
            both.append({k: rearrange(x, "(e n) ... -> e n ...", n=videos) for k, x in features.items()})
        return both[0], both[1]

    frames_of = {role: 1 + torch.randn(1, n, FRAMES, width) for role, n in (("support", WAY), ("query", QUERIES))}
    size = sum(x.numel() * x.element_size() for features in embedded(1) for x in features.values())
    episodes = min(MOST, max(1, GATHERED // size))
    for role, frames in frames_of.items():
        frames_of[role] = torch.cat([frames, 1 + torch.randn(episodes - 1, *frames.shape[1:])])
    support, query = embedded(episodes)
    labels = LABELS.expand(episodes, WAY)
    ours = head.match(support, labels, query)[0]
    videos = frames_of["query"].flatten(0, 1)[:32]
    expected: list[Tensor] = []
    one = frames_of["support"][0], frames_of["query"][0]
    literal = in_products(lambda: expected.append(head.literal(*one)), 1)
    return {
        "ours": in_products(lambda: head.match(support, labels, query), repeats) / episodes,
        "embed": in_products(lambda: head.embed(videos, "query"), repeats) / len(videos),
        "literal": literal,
        "difference": float((ours - expected[0]).abs().max() / expected[0].abs().max()),
        "peak": peak_bytes(lambda: head.match(support, labels, query)) / 2**20,
        "episodes": episodes,
    }


def main() -> int:
    """A line for each head and width."""
    parser = argparse.ArgumentParser(description="Cost of an episode's matching, in products of two matrices.")
    parser.add_argument("wanted", nargs="*", metavar="NAME", help=", ".join(HEADS))
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    if set(given.wanted) - set(HEADS):
        parser.error(f"known heads are {', '.join(HEADS)}")
    torch.set_num_threads(given.threads)
    print(
        f"in pieces of {base.CHUNK:,} numbers, {4 * base.CHUNK >> 20} MB; times in products of two 1024 x 1024 matrices"
    )
    print(ROW.format(*COLUMNS))
    met = True
    for name, (build, widths) in HEADS.items():
        for width, (released, share) in widths.items() if not given.wanted or name in given.wanted else ():
            torch.manual_seed(0)
            found = measure(build(width), width)
            good = found["ours"] <= released * share and found["difference"] < 1e-4
            numbers = [f"{found[key]:.3g}" for key in ("ours", "embed", "literal")]
            numbers += [f"{found['literal'] / found['ours']:.0f}", f"{found['difference']:.0e}", f"{found['peak']:.0f}"]
            row = [name, width, released, f"{released * share:.3g}", *numbers, found["episodes"], verdict(good)]
            print(ROW.format(*row), flush=True)
            met &= good
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
