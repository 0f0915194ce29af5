"""MA-FSAR's adapters against CLIP-FSAR's full tuning: memory and time of a training step, as ratios from one run.

``python -m benchmarks.training_cost`` prints one line for each method and one with the ratios. Every method trains in a
child process of its own on the same random clips (5-way 1-shot, one query a class), with AdamW and gradients as in
training. On a CPU the memory is the child's peak resident size over what Python and its libraries took before the model
was built, and the time is CPU time on one thread; on a GPU they are the allocator's peak and wall time.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys

import psutil
import torch

from benchmarks.measure import cpu_seconds, wall_seconds
from vidlib import methods
from vidlib.backbones import clip
from vidlib.basics.devices import make_fabric, place
from vidlib.data.episodes import EpisodeBatch, Targets
from vidlib.training import step as stepping

NAMES, WAY, TRAIN_CLASSES = ("ma_fsar", "clip_fsar"), 5, 24


def measure(name: str, backbone: str, frames: int, steps: int, device: str) -> dict:
    """MiB at the peak and seconds a step of training ``name``; the first step, which allocates, is not timed."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    fabric = make_fabric(device, "auto")
    cuda = fabric.device.type == "cuda"
    before = psutil.Process().memory_info().rss
    tower = clip.load(backbone, "")
    method = fabric.to_device(methods.build(name, tower, frames=frames)).train()
    optimizer = torch.optim.AdamW(stepping.parameter_groups(method, 0.01), lr=1e-5)
    clips = torch.randn(2, 1, WAY, frames, 3, tower.image_size, tower.image_size)
    text, labels = torch.randn(TRAIN_CLASSES, tower.embed_dim), torch.arange(WAY)[None]
    batch = place(fabric, EpisodeBatch(clips[0], labels, clips[1], text[labels], Targets(labels, labels, text)))

    def step() -> None:
        with fabric.autocast():
            match = method(batch)
        fabric.backward(match.loss)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if cuda:
            torch.cuda.synchronize()

    taken = [(wall_seconds if cuda else cpu_seconds)(step)[0] for _ in range(steps + 1)]
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - before
    return {
        "memory": (torch.cuda.max_memory_allocated() if cuda else resident) / 2**20,
        "seconds": statistics.median(taken[1:]),
        "trainable": sum(p.numel() for p in method.parameters() if p.requires_grad),
        "device": str(fabric.device),
    }


def main() -> int:
    """One child per method, then the ratios."""
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description="Training memory and time of MA-FSAR against CLIP-FSAR.")
    parser.add_argument("--backbone", default="ViT-B-16-quickgelu" if cuda else "ViT-B-32-quickgelu")
    parser.add_argument("--frames", type=int, default=8 if cuda else 4)
    parser.add_argument("--steps", type=int, default=10 if cuda else 2)
    parser.add_argument("--device", default="cuda" if cuda else "cpu")
    parser.add_argument("--child", choices=NAMES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measure(given.child, given.backbone, given.frames, given.steps, given.device)))
        return 0
    found = {}
    for name in NAMES:
        command = [
            sys.executable,
            "-m",
            "benchmarks.training_cost",
            "--child",
            name,
            "--backbone",
            given.backbone,
            "--device",
            given.device,
        ]
        command += ["--frames", str(given.frames), "--steps", str(given.steps)]
        output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        found[name] = json.loads(output.splitlines()[-1])
        line = "{trainable:,} trainable parameters, {memory:.0f} MiB at the peak, {seconds:.2f} s a step on {device}"
        print(f"{name}: " + line.format(**found[name]), flush=True)
    ours, full = (found[name] for name in NAMES)
    print(
        f"MA-FSAR against CLIP-FSAR, {given.backbone}, T = {given.frames}, {WAY}-way 1-shot: "
        f"{ours['memory'] / full['memory']:.2f} of the memory, {ours['seconds'] / full['seconds']:.2f} of the time, "
        f"{ours['trainable'] / full['trainable']:.2f} of the trainable parameters"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
