"""What one GPU makes of vidlib, in at most eight minutes, as one JSON.

``python -m benchmarks.gpu [--tiny] [--seconds N]`` needs torch, open_clip (which brings timm) and this checkout;
nothing is downloaded, weights are random. Beside them, as wheels on ``PYTHONPATH`` or installed: einops, platformdirs,
pydantic, pandas, av, and lightning and tqdm for ``repeated``. A part whose library is not there, or for which no time
is left, is named under ``left_out``; compiling comes last. Exit code 1 where a part fails or an equality (``holds``)
does not hold. Videos have 8 frames of 224 x 224. ``peak`` is the rate of a matrix product in this process; ``share``
stands against it, ``of_nominal`` against what the card's maker says. ``--tiny`` is the CPU form, at sizes at which
speeds mean nothing; there compiling only traces.
"""

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
from torch import Tensor, nn

from vidlib import backbones
from vidlib.cli import cards

WAY, CLASSES = 5, 24
TWINS = {"ViT-B-16-quickgelu": "vit_base_patch16_clip_quickgelu_224", "PE-Core-B-16": "vit_pe_core_base_patch16_224"}
TINY = {"clip-mini": "test_vit"}
NAMES = ("otam", "ma_fsar", "clip_fsar", "aim", "actionclip")  # the first tunes the whole tower and adds nothing
COMPILING = 75.0  # seconds that must be left before something is compiled


class Bench:
    """Device, sizes, the time that is left, and what one part tells the next."""

    def __init__(self, tiny: bool, seconds: float) -> None:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it once, before ``deterministic``
        self.device = "cuda" if torch.cuda.is_available() and not tiny else "cpu"
        self.tiny, self.ends = tiny, time.perf_counter() + seconds
        self.frames = 3 if tiny else 8
        self.twins, self.backend = (TINY, "eager") if tiny else (TWINS, "inductor")
        self.name = next(iter(self.twins))
        self.pretrained = self.name if tiny else ""
        self.found: dict[str, Any] = {}
        self.left_out: dict[str, str] = {}

    def left(self) -> float:
        return self.ends - time.perf_counter()

    def autocast(self, wanted: bool = True) -> torch.autocast:
        return torch.autocast(self.device, torch.bfloat16, enabled=wanted)

    def wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], Any]) -> float:
        """Of one call: the median, after one that is not timed."""
        taken = []
        for _ in range(3 if self.tiny else 12):
            self.wait()
            began = time.perf_counter()
            work()
            self.wait()
            taken.append(time.perf_counter() - began)
        return statistics.median(taken[1:])

    def tower(self, name: str = "") -> Any:
        torch.manual_seed(0)
        return backbones.load(name or self.name, self.pretrained).to(self.device)

    def method(self, name: str) -> nn.Module:
        from vidlib import methods

        tower = self.tower()
        torch.manual_seed(0)
        return methods.build(name, tower, frames=self.frames).to(self.device)

    def batch(self, method: nn.Module, seed: int = 0) -> Any:
        """An episode with one support and one query of each class, or as many labelled clips."""
        from vidlib.data.episodes import EpisodeBatch, Targets
        from vidlib.data.labelled import LabelledBatch

        draw, tower = torch.Generator().manual_seed(seed), method.backbone
        clips = torch.randn(2, 1, WAY, self.frames, 3, tower.image_size, tower.image_size, generator=draw)
        labels = torch.arange(WAY)[None]
        if not hasattr(method, "match"):
            ids = tower.tokenize([f"action {number}" for number in range(CLASSES)])
            found = LabelledBatch(clips.flatten(0, 2), labels[0].repeat(2), ids[labels[0].repeat(2)], ids)
            return LabelledBatch(*(v.to(self.device) for v in vars(found).values() if isinstance(v, Tensor)))
        text = torch.randn(CLASSES, tower.embed_dim, generator=draw)
        targets = Targets(labels, labels, text)
        return EpisodeBatch(clips[0], labels, clips[1], text[labels], targets).to(self.device)


# ---------------------------------------------------------------- parts


def peak(b: Bench) -> dict[str, Any]:
    """TFLOP/s of a product of square matrices, in bf16 and in float32, and what the maker says."""
    size = 256 if b.tiny else 8192
    found: dict[str, Any] = {}
    for name, dtype in (("bf16", torch.bfloat16), ("float32", torch.float32)):
        one, other = torch.randn(2, size, size, device=b.device, dtype=dtype)
        found[name] = 2 * size**3 / b.seconds(lambda: one @ other) / 1e12  # noqa: B023
    card = cards.named(torch.cuda.get_device_name()) if b.device == "cuda" else None
    return found | {"nominal_bf16": card.half if card else None}


def embedding(b: Bench, compiled: bool = False) -> dict[str, Any]:
    """Videos a second of each tower: vidlib's, open_clip's own and timm's twin, all under bf16 autocast."""
    from vidlib.results import cost

    found: dict[str, Any] = {}
    for name, twin in b.twins.items():
        ours = b.tower(name)
        plain = open_clip.create_model(name).visual if name in open_clip.list_models() else ours.clip.visual
        each = {"vidlib": ours.encode_image, "open_clip": plain.to(b.device).eval()}
        each["timm"] = timm.create_model(twin, num_classes=0).to(b.device).eval()
        for kind, run in each.items():
            if compiled and not b.tiny and b.left() < COMPILING:
                b.left_out[f"embedding, compiled: {name}, {kind}"] = "no time left"
                continue
            size = run.patch_embed.img_size[0] if kind == "timm" else ours.image_size
            videos = 1 if b.tiny else 32
            frames = torch.randn(videos * b.frames, 3, size, size, device=b.device)
            flops = 2e9 * cost.gmacs(run, frames[:1]) * b.frames
            work = torch.compile(run, backend=b.backend) if compiled else run
            with torch.no_grad(), b.autocast():
                speed = videos / b.seconds(lambda: work(frames))  # noqa: B023
            rate, nominal = speed * flops / 1e12, b.found["peak"]["nominal_bf16"]
            said = {"videos_per_second": speed, "gflop_per_video": flops / 1e9, "share": rate / b.found["peak"]["bf16"]}
            found[f"{name}, {kind}"] = said | {"of_nominal": rate / nominal if nominal else None}
    return found


def _step(b: Bench, name: str, compiled: bool = False) -> dict[str, Any]:
    from vidlib.results import cost
    from vidlib.training import compiling

    method = compiling.compiled(b.method(name), compiled, b.device, b.backend).train()
    batch = b.batch(method)
    trained = [p for p in method.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5)

    def step() -> None:
        with b.autocast():
            loss = method(batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    seconds = b.seconds(step)
    state = [v for each in optimizer.state.values() for v in each.values() if isinstance(v, Tensor)]
    found = {"steps_per_second": 1 / seconds, "trained": sum(p.numel() for p in trained)}
    found["memory_mib"] = cost.peak_memory(step, holding=method, beside=state)
    return found | ({"compiled": compiling.counts()} if compiled else {})


def training(b: Bench) -> dict[str, Any]:
    """A step on ten videos, five ways (ActionCLIP: ten labelled clips): AdamW, bf16 autocast; against full tuning."""
    found = {name: _step(b, name) for name in NAMES}
    for each in found.values():
        each["speed_of_full_tuning"] = each["steps_per_second"] / found["otam"]["steps_per_second"]
        each["memory_of_full_tuning"] = each["memory_mib"] / found["otam"]["memory_mib"]
    return found


def matching(b: Bench) -> dict[str, Any]:
    """Episodes of 5 ways, 1 shot and 1 query a class, on embedded features of 1,000 videos."""
    from vidlib.matching import build_metric

    episodes, videos, width, at_once = (40, 50, 64, 20) if b.tiny else (10_000, 1000, 512, 250)
    frames = torch.randn(videos, b.frames, width, device=b.device)
    rows = torch.randint(videos, (episodes, 2, WAY), device=b.device)
    labels = torch.arange(WAY, device=b.device).expand(at_once, WAY)
    found = {}
    for name in ("otam", "bimhm", "trx"):
        metric = build_metric(name, dim=width, frames=b.frames).to(b.device).eval()

        def match(metric: Any = metric) -> None:
            features = metric.prepare(frames)
            for part in rows.split(at_once):
                support, query = ({key: value[part[:, i]] for key, value in features.items()} for i in (0, 1))
                metric.compare(support, labels, query, WAY)

        with torch.no_grad(), b.autocast():
            found[name] = {"episodes": episodes, "seconds": b.seconds(match)}
    return found


class _Episodes:
    """Training episodes drawn from their numbers; ``until``: at that one the run is broken off."""

    def __init__(self, b: Bench, method: nn.Module, until: int = -1) -> None:
        self.b, self.method, self.until = b, method, until

    def __getitem__(self, number: int) -> Any:
        if number == self.until:
            raise InterruptedError
        return self.b.batch(self.method, seed=number)


def _trained(b: Bench, folder: str, until: int = -1) -> dict[str, Tensor]:
    from vidlib.training.loop import fit

    method = b.method("ma_fsar")
    given = {"lr": 1e-3, "seed": 0, "device": b.device, "precision": "bf16-mixed", "deterministic": True}
    with suppress(InterruptedError):
        fit(method, _Episodes(b, method, until), batches=4, checkpoint_every=1, folder=folder, **given)
    return {name: value.detach().cpu().clone() for name, value in method.trainable().items()}


def repeated(b: Bench) -> dict[str, Any]:
    """Four episodes of MA-FSAR: twice with ``deterministic``; once broken off after two, then gone on with."""
    with tempfile.TemporaryDirectory() as folder:
        first, second = (_trained(b, f"{folder}/{name}") for name in ("first", "second"))
        broken, resumed = (_trained(b, f"{folder}/broken", until) for until in (2, -1))
    others = {"deterministic": second, "resumed": resumed, "broken_off": broken}
    return {f"{name}_apart": max(float((first[n] - v).abs().max()) for n, v in x.items()) for name, x in others.items()}


def precision(b: Bench) -> dict[str, Any]:
    """Logits of MA-FSAR under bf16 autocast against float32, same weights and episodes."""
    method = b.method("ma_fsar").eval()
    found = []
    for seed in range(2 if b.tiny else 20):
        batch = b.batch(method, seed)
        batch.targets = None
        with torch.no_grad():
            pair = []
            for half in (False, True):
                with b.autocast(half):
                    pair.append(method(batch).logits.float())
        found.append(pair)
    full, half = (torch.cat(each) for each in zip(*found, strict=True))
    agree = float((full.argmax(-1) == half.argmax(-1)).float().mean())
    said = {"largest_difference": float((full - half).abs().max()), "largest_logit": float(full.abs().max())}
    return said | {"argmax_agrees": agree, "queries": full.shape[:-1].numel()}


def loading(b: Bench) -> dict[str, Any]:
    """Videos a second that one process decodes (of 100 frames of 340 x 256) and cuts to the tower's size, and how
    many such processes keep embedding fed."""
    from vidlib.data import video
    from vidlib.data.transforms import ClipTransform
    from vidlib.data.world.worlds import encode

    length, size = (16, 64) if b.tiny else (100, 224)
    still = (
        torch.randint(256, (16, 22, 3), dtype=torch.uint8).repeat_interleave(16, 0).repeat_interleave(16, 1)[:, :340]
    )
    moving = torch.stack([still.roll((i, 2 * i), (0, 1)) for i in range(length)]).numpy()
    transform = ClipTransform(size=size, mean=(0.5,) * 3, std=(0.25,) * 3, train=False)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "clip.mp4")
        file.write_bytes(encode(moving, fps=25, quantiser=23))
        indices = [i * length // b.frames for i in range(b.frames)]
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        rate = 1 / b.seconds(lambda: transform(video.read_frames(file, indices)))
        torch.set_num_threads(threads)
    ours = {name: row for name, row in b.found.get("embedding", {}).items() if "vidlib" in name}
    workers = {name.split(",")[0]: math.ceil(row["videos_per_second"] / rate) for name, row in ours.items()}
    return {"videos_per_second_of_one_worker": rate, "workers_that_keep_up": workers}


PARTS: dict[str, tuple[float, Callable[[Bench], dict[str, Any]]]] = {  # seconds that a GPU may need for it
    "peak": (0, peak),
    "embedding": (40, embedding),
    "training": (60, training),
    "matching": (20, matching),
    "repeated": (40, repeated),
    "precision": (20, precision),
    "loading": (15, loading),
    "embedding, compiled": (COMPILING, lambda b: embedding(b, compiled=True)),
    "training, compiled": (2 * COMPILING, lambda b: {"aim": _step(b, "aim", compiled=True)}),
}


def measure(tiny: bool, seconds: float) -> dict[str, Any]:
    """Every part for which there is time, in order."""
    b, began = Bench(tiny, seconds), time.perf_counter()
    if b.device == "cpu" and not tiny:
        raise SystemExit("no CUDA device is here; --tiny is the CPU form")
    failed = {}
    for name, (needs, part) in PARTS.items():
        if b.left() < (0 if tiny else needs):
            b.left_out[name] = "no time left"
            continue
        try:
            b.found[name] = part(b)
        except ImportError as error:
            b.left_out[name] = str(error)
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {error}"
        if b.device == "cuda":
            torch.cuda.empty_cache()
    same = b.found.get("repeated", {})
    holds = {name: same[f"{name}_apart"] == 0 for name in ("deterministic", "resumed") if same}
    said = {"device": torch.cuda.get_device_name() if b.device == "cuda" else "cpu", "tiny": tiny, "frames": b.frames}
    said |= {"torch": torch.__version__, "open_clip": open_clip.__version__, "timm": timm.__version__}
    said |= {"seconds": time.perf_counter() - began} | b.found
    return said | {"holds": holds, "left_out": b.left_out, "failed": failed}


def main() -> int:
    parser = argparse.ArgumentParser(description="What one GPU makes of vidlib, as one JSON.")
    parser.add_argument("--tiny", action="store_true", help="on the CPU, at tiny sizes")
    parser.add_argument("--seconds", type=float, default=460, help="after these no part begins that would take longer")
    parser.add_argument("--out", default="bench_gpu.json", help="where the JSON is written, too")
    given = parser.parse_args()
    found = measure(given.tiny, given.seconds)
    text = json.dumps(found, indent=1)
    Path(given.out).write_text(text + "\n")
    print(text)
    return int(bool(found["failed"]) or not all(found["holds"].values()))


if __name__ == "__main__":
    sys.exit(main())
