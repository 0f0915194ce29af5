"""What one process, two, and four on one or two nodes do alike: tests on episodes and on labelled clips, whole runs."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch

from tests.tiny import Tiny, TinyClips, sampler, texts
from tests.training.labelled_child import Pictures, make
from tests.training.small_store import made, params
from vidlib.basics import lock
from vidlib.basics.devices import exchange, make_fabric
from vidlib.basics.errors import UserError
from vidlib.data import features
from vidlib.params.video_text import VideoTextRunParams
from vidlib.results.runs import Run
from vidlib.training import few_shot, reading, video_text
from vidlib.training import run as running
from vidlib.training.evaluate_episodes import evaluate, evaluate_each_episode, evaluate_with_controls
from vidlib.training.evaluate_videos import embed_videos, recognise


def numbers() -> dict[str, np.ndarray]:
    """Of 30 videos in batches of four and 23 episodes: margins, features and probabilities, in several rounds."""
    before, reading.ROUND = reading.ROUND, 1
    fabric = make_fabric("cpu", "32-true")
    listed = (Tiny().eval(), TinyClips("test", 1.5), sampler("test", shot=(1, 2, 1), query=2), 23, texts("test"))
    found = {f"episodes {name}": done.margin for name, done in evaluate_with_controls(*listed, fabric=fabric).items()}
    found["selected"] = evaluate(*listed, fabric=fabric, keep_parts=True, workers=1).logits
    found["each"] = evaluate_each_episode(*listed, fabric=fabric, workers=1).margin
    method, _ = make("actionclip")
    views = [Pictures("test"), Pictures("test")]
    for name, done in recognise(method, views, fabric=fabric, controls=True).items():
        found[f"videos {name}"] = done.probabilities
    found["features"] = embed_videos(method, views[0], fabric=fabric)["video"].numpy()
    reading.ROUND = before
    return {name: np.asarray(value) for name, value in found.items()}


def whole_runs(dataset: str, folder: Path, devices: int = 1) -> list[Run]:
    """A run on episodes, which trains, selects and tests, and one on labelled clips; torchrun's number of devices
    counts where it has started us."""
    labelled = {"dataset": dataset, "pretrained": "", "frames": 2, "batch": 4, "epochs": 1, "device": "cpu"}
    labelled |= {"val_every": 1, "select": True, "runs": str(folder), "options": {"visual_prompt": "meanp"}}
    one = few_shot.run(params(dataset, runs=str(folder), devices=devices))
    return [one, video_text.run(VideoTextRunParams.parse(labelled | {"test_clips": 3}))]


def refused(dataset: str, folder: Path) -> list[str]:
    """The sentences of a run whose folder another process holds, and of a process that alone has something to say."""
    work = few_shot.work(params(dataset, runs=str(folder), seed=1))
    claim = folder / running.identity(work).id / "lock.json"
    fabric, said = make_fabric("cpu", "32-true"), []
    if fabric.is_global_zero:
        claim.parent.mkdir(parents=True, exist_ok=True)
        owner = {"host": lock._host(), "pid": os.getppid(), "started": lock._started(os.getppid())}
        claim.write_text(json.dumps(owner))

    def alone() -> None:
        if fabric.global_rank == fabric.world_size - 1:
            raise UserError("only the last one knows")

    for attempt in (lambda: running.run(work), lambda: exchange(fabric, alone)):
        try:
            attempt()
        except UserError as error:
            said.append(str(error))
    return said


if __name__ == "__main__":
    torch.set_num_threads(1)
    dataset, out = sys.argv[1], Path(sys.argv[2])
    rank = os.environ["RANK"]
    np.savez(out / f"numbers{rank}.npz", **numbers())
    done = whole_runs(dataset, out / "runs", devices=3)
    features.PER_SHARD = 5  # a process claims shards, whatever started it
    made(dataset, views=1, out=str(out / "store"), workers=1)
    (out / f"said{rank}.json").write_text(json.dumps([refused(dataset, out / "runs"), [run.id for run in done]]))
