"""``vidlib data embed``: each video of a benchmark through a frozen tower, once; ``data.features`` says how it is kept.

Every shard is claimed by one process, encoded, and written whole; so several commands, or the processes of ``torchrun
-m vidlib.cli data embed``, may work on one store, and a killed one loses the shard that it was at. Loader processes
decode.
"""

import contextlib
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vidlib import backbones
from vidlib.basics import paths
from vidlib.basics.devices import make_fabric, ready
from vidlib.basics.digests import digest, file_digest
from vidlib.basics.errors import UserError
from vidlib.basics.lock import Lock
from vidlib.basics.progress import track
from vidlib.basics.words import few
from vidlib.data import features, prefetched
from vidlib.data.catalogue import benchmarks
from vidlib.data.clips import Clips, Undecodable
from vidlib.data.folder import AGAIN
from vidlib.data.manifest import Manifest, Row
from vidlib.data.sampling import RULES
from vidlib.params.few_shot import FewShotParams
from vidlib.results import runs
from vidlib.training import few_shot, reading, stored

SAMPLE = 4  # videos that say how long all will take
FRAMES = 32  # frames through the tower at a time on a CPU, ten times as many on another device
MARGIN = 1 << 28  # bytes of the disk that stay free


@dataclass
class Plan:
    """What ``embed`` will do: the ``store`` as it will be, its videos.json, and the ``clips`` of every list."""

    store: features.Store
    videos: dict[str, Any]
    clips: Mapping[str, Clips]
    backbone: backbones.Backbone
    fabric: Fabric


def plan(
    params: FewShotParams, views: int = 0, splits: Sequence[str] = (), dtype: str = "float32", out: str = ""
) -> Plan:
    """The store that ``params`` (dataset, tower, frames, seed and looks) mean, with ``views`` augmented views of what
    may be trained on; of all ``splits`` or some. Nothing is written. UserError for what cannot be made."""
    if views < 0 or (views and ("queries" in (params.flip, params.colour) or params.train_frames != "random")):
        raise UserError(
            f"views: {views} with flip={params.flip}, colour={params.colour}, train_frames={params.train_frames}; give "
            "0 or more, and such that supports and queries look alike (no queries, train_frames random)"
        )
    backbones.check(params.backbone, params.pretrained)
    whole = params.dataset.startswith(benchmarks.FOLDER)
    if whole and splits:
        raise UserError(
            f"split: {', '.join(splits)}; a folder's splits depend on the episodes, so all of it is encoded"
        )
    manifest = benchmarks.load(params.dataset).keep_readable() if whole else few_shot.open_manifest(params)
    if unknown := sorted(set(splits) - set(manifest.splits)):
        raise UserError(f"split: {few(unknown)} is none of {', '.join(manifest.splits)}")
    lists = {split: manifest.videos(split) for split in splits or manifest.splits}
    if whole:
        rows = sorted(row for row in manifest.rows if not row.video.endswith(AGAIN))
        manifest = Manifest(
            manifest.name, tuple(row._replace(split=features.WHOLE) for row in rows), manifest.root, manifest.files
        )
        lists = {features.WHOLE: manifest.videos(features.WHOLE)}
    fabric = make_fabric(params.device, "32-true")
    backbone = few_shot.open_backbone(params, params.freeze_bn)
    looks, want = few_shot.transforms(params, manifest, backbone), stored.wanted(params)
    head = {"format": features.FORMAT, "dataset": manifest.name, "prefetched": prefetched.note(manifest.name)}
    head["tower"] = want["tower"] | {"weights": stored.weights_digest(backbone), "width": backbone.embed_dim}
    head["test"] = want["test"] | {"transform": stored.described(looks["test"])}
    learned = want["train"] | {"transform": stored.described(looks["support"])}
    head["train"] = {"views": views, "seed": params.seed} | learned if views else {"views": 0}
    head |= {"dtype": dtype, "lists": {}}
    for name, rows in lists.items():
        head["lists"][name] = {"checksum": features.checksum(rows), "videos": len(rows)}
    videos = {"rows": {name: [list(row) for row in rows] for name, rows in lists.items()}, "note": manifest.note}
    videos |= {"directional": manifest.directional, "prompts": dict(manifest.prompts), "listed": dict(manifest.listed)}
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{manifest.name.removeprefix('folder:')}-{params.backbone}").strip("-.")
    folder = paths.absolute(out) if out else features.place() / f"{name}-{digest(head)[:12]}"
    given = (params.frames, looks["support"], looks["test"], params.seed)
    clips = {one: Clips(manifest, one, *given, pick=RULES[params.sampling]) for one in lists}
    if (folder / features.HEAD).is_file():
        there = features.Store(folder).head
        if other := [key for key in head if there[key] != head[key]]:
            raise UserError(
                f"out: {folder} holds another store ({other[0]} differs); give another folder, or delete that"
            )
    elif folder.is_dir() and any(file.name != features.VIDEOS for file in folder.glob("[!.]*")):
        raise UserError(f"out: {folder} is not empty and holds no store of features; give another folder")
    return Plan(features.Store(folder, head), videos, clips, ready(fabric, backbone), fabric)


def embed(wanted: Plan, workers: int = 0, dry_run: bool = False) -> Iterator[str]:
    """Make the store: first its size and hours, then the work, then what came of it; line by line.

    A shard that another process has claimed is left to it. UserError where the disk is full; what is done stays.
    """
    store, todo = wanted.store, wanted.store.lacking()
    rows = [(shard, place) for shard in todo for place in range(store.shape(shard)[0])]
    free = shutil.disk_usage(next(p for p in (wanted.store.folder, *wanted.store.folder.parents) if p.exists())).free
    left = sum(int(np.prod(store.shape(shard))) for shard in todo) * store.dtype.itemsize
    yield f"{store.words} in {wanted.store.folder}; {free / 1e9:.1f} GB free"
    if left + MARGIN > free:
        raise UserError(f"{left / 1e6:.1f} MB more do not fit there (256 MB are to stay free); give another --out")
    if todo:
        seconds = _trial(wanted, rows, workers) * len(rows)
        time_left = f"{seconds / 3600:.1f} hours" if seconds > 5400 else f"{seconds / 60:.1f} minutes"
        yield f"{len(rows)} videos to encode, about {time_left} ({seconds / 3600:.2f} hours)"
    if dry_run:
        return
    if not (wanted.store.folder / features.HEAD).is_file():
        runs.write_json(wanted.store.folder / features.VIDEOS, wanted.videos)
        runs.write_json(wanted.store.folder / features.HEAD, wanted.store.head)
    busy: list[str] = []
    try:
        with reading.loading(workers):
            for shard, block, lost in track(_encoded(wanted, todo, workers, busy), "shards encoded", len(todo)):
                _write(wanted, shard, block, lost)
    except KeyboardInterrupt:
        raise UserError("interrupted: the same command goes on where it stopped") from None
    store = features.Store(wanted.store.folder)
    if lacking := store.lacking():
        yield f"{len(lacking)} of {len(store.every())} shards are another process's work still"
        return
    for part in wanted.store.folder.glob("**/.part-*"):  # what killed commands left
        part.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        (wanted.store.folder / "claims").rmdir()
    lost = [(shard, *one) for shard in store.every() for one in store.said(shard)["lost"].items()]
    yield f"whole: {len(store.index)} videos, {store.bytes / 1e6:.1f} MB, digest {store.digest[:16]} in {store.folder}"
    for shard, place, why in lost:
        yield f"  does not decode: {_row(wanted.clips, shard, int(place))[1].video}: {why}"


def _had(lock: Lock, again: int = 2) -> bool:
    """Whether a claim could be had; False where another process has it. UserError for the disk's own trouble."""
    try:
        lock.acquire()
    except UserError:
        if lock.path.exists():
            return False
        if not again:  # the disk's own trouble
            raise
        return _had(lock, again - 1)  # its owner gave it back meanwhile
    return True


def _row(clips: Mapping[str, Clips], shard: str, place: int) -> tuple[int, Row]:
    """The number in its list of a video of a shard, and its row."""
    name, _, number = shard.rpartition("-")
    row = int(number) * features.PER_SHARD + place
    return row, clips[name].rows[row]


class _Looks(Dataset):
    """(shard, place) -> the video's views [V T 3 H W], or why it does not decode."""

    def __init__(self, clips: Mapping[str, Clips], views: int) -> None:
        self.clips, self.views = clips, views

    def __getitem__(self, at: tuple[str, int]) -> tuple[str, int, Tensor | str]:
        shard, place = at
        name = shard.rpartition("-")[0]
        try:
            row, _ = _row(self.clips, shard, place)
            views = self.clips[name].views(row, self.views if name in features.TRAINED else 0)
            return shard, place, reading.shared(views)
        except Undecodable as error:
            return shard, place, error.cause


def _encoded(
    wanted: Plan, todo: Sequence[str], workers: int, busy: list[str]
) -> Iterator[tuple[str, np.ndarray, dict[str, str]]]:
    """The shards that this process claims: features [videos views T C], and which do not decode."""
    held: dict[str, Lock] = {}

    def claimed() -> Iterator[tuple[str, int]]:  # asked a little ahead of what is encoded
        for shard in todo:
            lock = Lock(wanted.store.folder / "claims" / f"{shard}.json")
            if not _had(lock):
                busy.append(shard)
                continue
            held[shard] = lock
            if wanted.store.done(shard):
                held.pop(shard).release()
                continue
            yield from ((shard, place) for place in range(wanted.store.shape(shard)[0]))

    looks = _Looks(wanted.clips, wanted.store.views)
    loader = DataLoader(looks, batch_size=None, sampler=claimed(), num_workers=workers, generator=torch.Generator())
    blocks: dict[str, np.ndarray] = {}
    lost: dict[str, dict[str, str]] = {}
    try:
        for shard, place, clips in loader:
            block = blocks.setdefault(shard, np.zeros(wanted.store.shape(shard), np.float32))
            gone = lost.setdefault(shard, {})
            if isinstance(clips, str):
                gone[str(place)] = clips
            else:
                block[place] = encode(wanted.backbone, clips, wanted.fabric)
            if place == len(block) - 1:
                yield shard, blocks.pop(shard), gone
                held.pop(shard).release()
    finally:
        for lock in held.values():
            lock.release()


def encode(backbone: backbones.Backbone, clips: Tensor, fabric: Fabric) -> np.ndarray:
    """``clips [V T 3 H W]`` -> features float32 [V T C]."""
    most = FRAMES if fabric.device.type == "cpu" else 10 * FRAMES
    with torch.no_grad():
        parts = [backbone.encode_image(fabric.to_device(part)) for part in clips.flatten(0, 1).split(most)]
    return torch.cat(parts).float().cpu().unflatten(0, clips.shape[:2]).numpy()


def _write(wanted: Plan, shard: str, block: np.ndarray, lost: dict[str, str]) -> None:
    """The shard, then what stands beside it."""
    kept = block.astype(wanted.store.dtype)
    if not np.isfinite(kept).all():
        raise UserError(
            f"features of {shard} are too large for {wanted.store.dtype} or not finite; give --dtype float32"
        )
    name = shard.rpartition("-")[0]
    manifest = wanted.clips[name].manifest
    sizes = [manifest.path(_row(wanted.clips, shard, place)[1]).stat().st_size for place in range(len(block))]
    file = wanted.store.folder / f"{shard}.npy"
    with paths.atomic_write(file) as part:
        np.save(part, kept, allow_pickle=False)
        found = file_digest(part)
    runs.write_json(file.with_suffix(".json"), {"sha256": found, "sizes": sizes, "lost": lost})


def _trial(wanted: Plan, rows: Sequence[tuple[str, int]], workers: int) -> float:
    """Seconds that a video takes, from some of ``rows``, spread over them."""
    looks, spent = _Looks(wanted.clips, wanted.store.views), [0.0, 0.0]
    chosen = rows[:: max(1, len(rows) // SAMPLE)][:SAMPLE]
    for number, at in enumerate((chosen[0], *chosen)):
        began = time.perf_counter()
        clips = looks[at][2]
        decoded = time.perf_counter()
        if not isinstance(clips, str):
            encode(wanted.backbone, clips, wanted.fabric)
        if number:  # the first warms up
            spent = [spent[0] + decoded - began, spent[1] + time.perf_counter() - decoded]
    decode, towards = (seconds / len(chosen) for seconds in spent)
    return max(decode / workers, towards) if workers else decode + towards
