"""What tests of resuming kill: a short training in a process of its own."""

import os
import signal

import torch

from tests.tiny import Tiny, TinyClips, sampler, texts, training
from vidlib.basics import paths
from vidlib.results import runs
from vidlib.training import checkpoints
from vidlib.training.evaluate_episodes import evaluate
from vidlib.training.loop import fit

EPISODES, PER_STEP = 90, 2


def train(folder: str, die: str = "", count: int = 0) -> None:
    """Train to the end, or die by SIGKILL after ``count`` times of ``die``: "after a line", "half a file", "before the
    rename"."""
    torch.set_num_threads(1)
    if die:
        _die_at(die, count)

    def validate(method):
        return evaluate(method, TinyClips("val"), sampler("val"), 20, texts("val"), device="cpu").accuracy

    fit(
        Tiny(0.3),
        training(EPISODES),
        batches=EPISODES,
        batches_per_step=PER_STEP,
        lr=2e-2,
        seed=7,
        clip_grad=1.0,
        folder=folder,
        device="cpu",
        precision="32-true",
        validate=validate,
        val_every=6,
        checkpoint_every=4,
    )


def _die_at(what: str, count: int) -> None:
    calls = iter(range(count))
    save, replace, append = checkpoints.save_file, paths.os.replace, runs.append_line

    def half(tensors, path, **rest):
        save(tensors, path, **rest)
        if next(calls, None) is None:
            os.truncate(path, os.path.getsize(path) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    def never(source, target):
        if next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    def line(path, record):
        append(path, record)
        if next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    if what == "half a file":
        checkpoints.save_file = half
    elif what == "after a line":
        runs.append_line = line
    else:
        paths.os.replace = never
