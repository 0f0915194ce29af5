"""One run from its parameters: train (``fit``), select on val, test once with both controls, in one run folder.

``torchrun -m vidlib.training --params FILE`` does the same in several processes; ``run`` starts that where it is asked
for more than one device, so that no process is ever forked off a kernel.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vidlib import methods, runs, stepping
from vidlib.backbones import clip
from vidlib.data import benchmarks
from vidlib.data.clips import Clips
from vidlib.data.episodes import EpisodeDataset, EpisodeSampler
from vidlib.data.manifest import Manifest
from vidlib.data.transforms import ClipTransform
from vidlib.devices import make_fabric, pick_precision
from vidlib.digests import file_digest, folder_digest
from vidlib.errors import UserError
from vidlib.evaluation import evaluate
from vidlib.loop import STATE, Fit, fit
from vidlib.params import RunParams

EVALUATION_SEED = 0  # of val and test episodes: every method and every training seed meets the same ones


@dataclass
class Split:
    """One split ready to use: clips, episodes, and the raw class texts [K D] in the order of ``sampler.classes``."""

    clips: Clips
    sampler: EpisodeSampler
    text: Tensor

    def training(self, episodes: int) -> EpisodeDataset:
        """The first ``episodes`` episodes with augmentation and targets, as ``fit`` wants them."""
        return EpisodeDataset(self.clips, self.sampler, self.text, True, episodes)


def open_split(params: RunParams, manifest: Manifest, backbone: Any, name: str) -> Split:
    """Clips, episodes and class texts of split ``name`` as ``params`` ask for them."""
    size = {"size": backbone.image_size, "mean": backbone.mean, "std": backbone.std, "flip": not manifest.directional}
    crop = (0.8, 1.0) if params.dataset.startswith("moving_shapes") else (0.5, 1.0)  # there a place can tell the class
    learn = ClipTransform(**size, train=True, scale=crop) if name == "train" else None
    clips = Clips(manifest, name, params.frames, learn, ClipTransform(**size, train=False), params.seed)
    seed = params.seed if name == "train" else EVALUATION_SEED
    sampler = EpisodeSampler(manifest, name, params.way, params.shot, params.query, seed)
    return Split(clips, sampler, backbone.encode_text([manifest.text(cls) for cls in sampler.classes]))


def open_run(params: RunParams, manifest: Manifest, fresh: bool = False) -> runs.Run:
    """The run folder of ``params`` on ``manifest``; paths among them enter its id by their content."""
    determining = params.determining() | {"precision": pick_precision(params.precision, params.device)}
    other = {name: value for name, value in params if name not in determining}
    found = {f"split {name}": manifest.checksum(name) for name in manifest.splits}
    if params.dataset.startswith("folder:"):
        other["dataset"] = determining.pop("dataset")
        found["dataset"] = folder_digest(manifest.root)
    if Path(params.pretrained).is_file():
        other["pretrained"] = determining.pop("pretrained")
        found["pretrained"] = file_digest(params.pretrained)
    return runs.open_run(determining, other, params.runs or None, digests=found, fresh=fresh)


def run(params: RunParams) -> runs.Run:
    """Train, select on val, test once with both controls: the finished run of ``params``, reused where there is one.

    With ``devices`` > 1 the work is done by torchrun in processes of its own; none is started inside this one.
    """
    if params.devices > 1 and not torch.distributed.is_torchelastic_launched():
        return _run_apart(params)
    manifest = benchmarks.load(params.dataset)
    fabric = make_fabric(params.device, params.precision)
    record = open_run(params, manifest, params.fresh) if fabric.is_global_zero else None
    folder, state = fabric.broadcast((record.folder, record.state) if record else None)
    if state == "finished":
        return record or runs.Run(folder, folder, state, None)

    stepping.seed_everything(params.seed, -1)
    backbone = clip.load(params.backbone, params.pretrained)
    method = methods.build(params, backbone)
    losses = _train(params, manifest, fabric, method, folder, record)
    if record is None:  # another process than the first: its part is done
        return runs.Run(folder, folder, "finished", None)
    with record:
        test = open_split(params, manifest, backbone, "test")
        result = {"fit": asdict(losses) if losses else None, "unsettled": method.unsettled()}
        for name, control in CONTROLS.items():
            record.count_reading("test", name)
            listed = (test.clips, test.sampler, params.test_episodes, test.text)
            found = evaluate(method, *listed, fabric=fabric, **control)
            found.save(record.path("episodes.npz" if name == "test" else f"{name}.npz"))
            result[name] = found.summary()
        record.path(STATE).unlink(missing_ok=True)
        record.finish(result)
    return record


CONTROLS = {"test": {}, "frames_shuffled": {"frame_order": "shuffled"}, "texts_permuted": {"text_order": "permuted"}}


def _train(params, manifest, fabric, method, folder, record) -> Fit | None:
    """Fit ``method`` as ``params`` say, selecting on val; None where there is nothing to train."""
    if params.train_episodes == 0 or not any(p.requires_grad for p in method.parameters()):
        fabric.to_device(method)
        return None
    train = open_split(params, manifest, method.backbone, "train")
    validate = None
    if params.val_episodes:
        val = open_split(params, manifest, method.backbone, "val")

        def validate(trained: nn.Module) -> float:
            record.count_reading("val", "selection")
            return evaluate(trained, val.clips, val.sampler, params.val_episodes, val.text, fabric=fabric).accuracy

    return fit(
        method,
        train.training(params.train_episodes),
        episodes=params.train_episodes,
        episodes_per_step=params.episodes_per_step,
        lr=params.lr,
        weight_decay=params.weight_decay,
        warmup=params.warmup,
        clip_grad=params.clip_grad,
        seed=params.seed,
        fabric=fabric,
        folder=folder,
        validate=validate,
        val_every=max(1, params.val_every // params.episodes_per_step),
        deterministic=params.deterministic,
        workers=params.workers,
    )


def _run_apart(params: RunParams) -> runs.Run:
    """Have torchrun do the run in ``params.devices`` processes, passing on what they print."""
    with tempfile.TemporaryDirectory() as place:
        file, trouble = Path(place, "params.json"), Path(place, "stderr")
        file.write_text(params.model_dump_json())
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={params.devices}"]
        command += ["-m", "vidlib.training", "--params", str(file)]
        headless = {name: value for name, value in os.environ.items() if name != "JPY_SESSION_NAME"}
        with open(trouble, "w") as errors:
            child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=headless)
            for line in child.stdout:
                print(line, end="", flush=True)
        if child.wait() != 0:
            sentence = _error_file(file)
            if sentence.is_file():
                raise UserError(sentence.read_text())
            print(trouble.read_text()[-4000:])
            raise UserError(
                f"devices: the run in {params.devices} processes ended with code {child.returncode}, see above"
            )
    return open_run(params, benchmarks.load(params.dataset))


def _error_file(params_file: Path) -> Path:
    """Where a child process leaves the sentence of its ``UserError`` for the one that started it."""
    return params_file.with_suffix(".error")


def main() -> None:
    """``torchrun -m vidlib.training --params FILE``: one run from a parameter file."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--params", required=True, help="a recipe (YAML) or a run's params.json")
    file = Path(parser.parse_args().params)
    try:
        run(RunParams.from_file(file))
    except UserError as error:
        if torch.distributed.is_torchelastic_launched():
            _error_file(file).write_text(str(error))
        sys.exit(str(error))


if __name__ == "__main__":
    main()
