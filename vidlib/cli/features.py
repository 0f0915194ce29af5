"""``vidlib data embed``, ``export-features`` and ``import-features``: stores of frame features from a command line."""

import argparse
from collections.abc import Iterator
from typing import Any

from vidlib.basics.errors import UserError


def add_commands(commands: Any) -> None:
    embed = commands.add_parser("embed", help="each video through a frozen tower, once; runs then read the features")
    embed.add_argument("name", metavar="NAME|folder:PATH", help="a benchmark, or your own videos")
    embed.add_argument("--backbone", default="clip-mini", help="the tower (default: clip-mini)")
    embed.add_argument("--pretrained", metavar="TAG|FILE", help="its weights (default: those that ship); '' is random")
    embed.add_argument("--frames", type=int, default=8, metavar="T", help="frames of a video (default: 8)")
    embed.add_argument("--views", type=int, default=0, metavar="A", help="augmented views, to train on (default: none)")
    embed.add_argument("--split", action="append", default=[], help="one of its splits; may be repeated (default: all)")
    embed.add_argument("--dtype", default="float32", choices=("float32", "float16"), help="default: float32")
    embed.add_argument("--seed", type=int, default=0, help="of augmented views, and of random weights (default: 0)")
    embed.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="a run's parameters, as crop=window")
    embed.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    embed.add_argument("--workers", type=int, metavar="N", help="processes that decode (default: one per core but one)")
    embed.add_argument("--out", default="", metavar="DIR", help="where it lies (default: one folder for each store)")
    embed.add_argument("--dry-run", action="store_true", help="say how much it would be, and stop")
    embed.set_defaults(do=embed_videos)
    one = commands.add_parser("export-features", help="a store of features as one file, with checksums")
    one.add_argument("store", metavar="STORE", help="its folder, or its name as vidlib data list prints it")
    one.add_argument("file", metavar="FILE")
    one.set_defaults(do=lambda given: export_features(given.store, given.file))
    one = commands.add_parser("import-features", help="check such a file, and put the store where runs find it")
    one.add_argument("file", metavar="FILE")
    one.add_argument("--out", default="", metavar="DIR", help="where it is to lie (default: where stores are)")
    one.set_defaults(do=lambda given: import_features(given.file, given.out))


def embed_videos(given: argparse.Namespace) -> Iterator[str]:
    """``embed``: its size and hours first, then the work and its report."""
    import os

    from vidlib.data.catalogue import benchmarks
    from vidlib.params import base, few_shot
    from vidlib.params import notebooks as read

    if not given.name.startswith(benchmarks.FOLDER):
        benchmarks.describe(given.name)  # a wrong name is said before torch is loaded
    if (given.workers or 0) < 0:
        raise UserError(f"workers: {given.workers} processes cannot decode; give 0 or more")
    if given.pretrained is None and given.backbone not in base.SHIPPED:
        raise UserError(f"pretrained: which weights of {given.backbone}? Give a tag or a file, or '' for random ones")
    said = {"dataset": given.name, "pretrained": given.backbone if given.pretrained is None else given.pretrained}
    said |= {name: getattr(given, name) for name in ("backbone", "frames", "seed", "device")}
    p = few_shot.FewShotParams.parse(said | read.settings(given.set))
    from vidlib.training import embedding

    workers = max(0, (os.cpu_count() or 1) - 1) if given.workers is None else given.workers
    plan = embedding.plan(p, given.views, given.split, given.dtype, given.out)
    yield from embedding.embed(plan, workers, given.dry_run)


def export_features(store: str, file: str) -> Iterator[str]:
    """A store as one file."""
    from vidlib.data.disk import sharing

    found = sharing.find(store)
    made = sharing.export(found, file)
    yield f"{found.words}: {made.stat().st_size / 1e6:.1f} MB in {made}"


def import_features(file: str, out: str = "") -> Iterator[str]:
    """A store out of one file."""
    from vidlib.data.disk import sharing

    found = sharing.take(file, out)
    yield f"{found.words}, digest {found.digest[:16]} in {found.folder}"
