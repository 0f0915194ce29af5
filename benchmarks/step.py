"""One training step of every method at its small recipe, on random frames: what part of the matrix product's rate.

``python -m benchmarks.step [NAME ...]`` prints a table; methods that train nothing embed and match an episode instead,
and ViT-B/32 and B/16 with random weights embed frames and take a step of MA-FSAR. Per episode (of the video-text
methods, per batch): GFLOP of the forward and backward matrix products that are done, attention's too, as torch counts
them; seconds, the best of several; GFLOP/s as a share of ``@`` on two 2048 x 2048 float32 matrices in the same process
and moments; MiB at the peak of the step. Decoding is not in it.

Where oneDNN multiplies faster than the library behind ``@`` (see ``vidlib.layers.quick``) its rate is given too, and a
share may pass 1. The claims are shares of ``@``: at least 0.6 for MA-FSAR, AIM and CLIP-FSAR on clip-mini, at least
0.75 for embedding with a ViT-B.
"""

import argparse
import sys
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.measure import cpu_seconds, verdict, wall_seconds
from vidlib import backbones, methods
from vidlib.basics import paths
from vidlib.basics.devices import make_fabric
from vidlib.data.episodes import EpisodeBatch, Targets
from vidlib.data.labelled import LabelledBatch
from vidlib.layers import quick
from vidlib.params import recipes
from vidlib.params.by_recipe import by_recipe
from vidlib.params.few_shot import RunParams
from vidlib.params.video_text import VideoTextRunParams
from vidlib.results import cost
from vidlib.training import few_shot, memory, step

SIDE, CLASSES, FRAMES = 2048, 24, 8  # of the matrices; of a training split; that a ViT-B embeds
SHAPES = ("ViT-B-32-quickgelu", "ViT-B-16-quickgelu")
SMALL = {"frames": 2, "way": 2, "pretrained": ""}  # a ViT-B's episode
CLAIMED, WANTED, EMBEDDING = ("ma_fsar", "aim", "clip_fsar"), 0.60, 0.75
Work = Callable[[], Any]


def episode(params: RunParams, tower: backbones.Backbone) -> EpisodeBatch:
    """One training episode of random frames."""
    shape = (params.frames, 3, tower.image_size, tower.image_size)
    shot, query = params.train_shot or params.shot, params.train_query or params.query
    text = torch.randn(CLASSES, tower.embed_dim)
    support, queries = (torch.arange(params.way).repeat(each)[None] for each in (shot, query))
    clips = (torch.randn(1, labels.shape[1], *shape) for labels in (support, queries))
    ids = torch.arange(params.way)[None]
    return EpisodeBatch(next(clips), support, next(clips), text[ids], Targets(queries, ids, text))


def labelled(params: VideoTextRunParams, method: methods.VideoTextMethod) -> LabelledBatch:
    """One training batch of random frames, a sentence for each."""
    size, labels = method.backbone.image_size, torch.arange(params.batch) % CLASSES
    ids = method.backbone.tokenize([f"a video of number {number}" for number in range(CLASSES)])
    words = torch.arange(ids.shape[1]).expand(params.batch, -1) if method.masks_words else None
    clips = torch.randn(params.batch, params.frames, 3, size, size)
    return LabelledBatch(clips, labels, ids[labels], ids, ids[labels], words)


def training(method: Any, batch: Any, params: Any) -> tuple[Work, float]:
    """A step as ``loop.fit`` takes it, and MiB at its peak."""
    settings = {name: getattr(params, name) for name in memory.OF_OPTIMIZER if hasattr(params, name)}
    name = getattr(params, "optimizer", "adamw")
    own = step.optimizers(method, name, **settings)
    trained = [p for p in method.parameters() if p.requires_grad]
    fabric = make_fabric("cpu", "32-true")

    def work() -> None:
        step.seed_everything(0, 0)
        match = method(batch)
        step.measure(match, batch, "the benchmark")
        fabric.backward(match.loss)
        torch.nn.utils.clip_grad_norm_(trained, params.clip_grad or float("inf"))
        step.take_step(None, own)

    settings |= {"optimizer": name, "batches_per_step": 1, "seed": 0, "clip_grad": 0.0, "deterministic": False}
    return work, memory.of_training(method.train(), batch, fabric, settings)[0]


def testing(method: Any, work: Work) -> tuple[Work, float]:
    """``work`` of an evaluated method, and MiB at its peak."""
    method.eval()

    def quiet() -> None:
        with torch.no_grad():
            work()

    return quiet, cost.peak_memory(quiet, holding=method)


def small(name: str) -> tuple[Work, float]:
    """A method at its small recipe."""
    torch.manual_seed(0)
    if name in methods.VIDEO_TEXT:
        said = recipes.read(paths.checkout() / "recipes" / name / "laptop.yaml")
        own = {key: value for key, value in said.items() if key in VideoTextRunParams.model_fields}
        params = VideoTextRunParams.parse(own | {"method": name})
        facts = methods.taken(name, classes=CLASSES, vocabulary=4 * CLASSES)
        method = methods.build(params, backbones.load(params.backbone, params.pretrained), **facts)
        return training(method, labelled(params, method), params)
    params = by_recipe(name, {"dataset": "motion", "shot": 1})
    method = few_shot.open_method(params)
    batch = episode(params, method.backbone)
    return training(method, batch, params) if method.trainable() else testing(method, lambda: method(batch))


def shaped(name: str, backbone: str) -> tuple[Work, float]:
    """A ViT-B: ``name`` "embedding", or a method that takes a step."""
    torch.manual_seed(0)
    if name == "embedding":
        tower = backbones.load(backbone, "")
        frames = torch.randn(FRAMES, 3, tower.image_size, tower.image_size)
        return testing(tower, lambda: tower.encode_image(frames))
    params = by_recipe(name, {"dataset": "motion", "shot": 1, "backbone": backbone, **SMALL})
    method = few_shot.open_method(params)
    return training(method, episode(params, method.backbone), params)


def rounds(work: Work, repeats: int) -> tuple[float, float, float]:
    """Seconds of ``work``, GFLOP/s of ``@`` and of oneDNN: the best of ``repeats`` each, taken in turn."""
    seconds = cpu_seconds if torch.get_num_threads() == 1 else wall_seconds
    one, other = torch.randn(2, SIDE, SIDE)
    kinds = [work, lambda: one @ other, lambda: quick.linear(one, other)]
    work()
    taken = [[seconds(each)[0] for each in kinds] for _ in range(repeats)]
    best = [min(times) for times in zip(*taken, strict=True)]
    return best[0], *(2 * SIDE**3 / 1e9 / each for each in best[1:])


def main() -> int:
    rows = {f"{name}": (lambda name=name: small(name)) for name in [*methods.METHODS, *methods.VIDEO_TEXT]}
    for shape in SHAPES:
        for name in ("embedding", "ma_fsar"):
            rows[f"{shape} {name}"] = lambda name=name, shape=shape: shaped(name, shape)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="rows of the table: " + ", ".join(rows))
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    print(f"{torch.get_num_threads()} thread(s); shares of @ and of oneDNN's product")
    print(f"{'':32}{'GFLOP':>8}{'s':>8}{'GFLOP/s':>9}{'of @':>7}{'of oneDNN':>11}{'MiB':>7}")
    failed = False
    for row, make in rows.items():
        if given.names and row not in given.names and row.split()[-1] not in given.names:
            continue
        work, mib = make()
        gflop = 2 * cost.gmacs(work)
        taken, product, other = rounds(work, given.repeats)
        rate = gflop / taken
        line = f"{row:32}{gflop:8.1f}{taken:8.3f}{rate:9.0f}{rate / product:7.2f}{rate / other:11.2f}{mib:7.0f}"
        least = WANTED if row in CLAIMED else EMBEDDING if row.endswith("embedding") else 0
        met = rate / product >= least
        failed |= not met
        print(line + (f"  at least {least:.2f} of @: {verdict(met)}" if least else ""), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
