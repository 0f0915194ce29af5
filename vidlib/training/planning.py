"""What a run of a video-text method may read: its data sets as the protocol divides them, checked before it begins."""

from dataclasses import replace
from pathlib import Path

from vidlib.basics.errors import UserError
from vidlib.data.catalogue import benchmarks, official, readable
from vidlib.data.manifest import Manifest
from vidlib.data.protocols import Plan, plan
from vidlib.params.video_text import VideoTextParams, VideoTextRunParams
from vidlib.results import runs, trust


def open_plan(params: VideoTextParams) -> Plan:
    """The videos of the data set(s), as the protocol divides them; what it tests and chooses on without the videos that
    cannot be read, which the manifest's note names."""
    bases = [
        _manifest(name, split)
        for name, split in ((params.dataset, params.official_split), (params.test_dataset, 0))
        if name
    ]
    made = plan(
        bases[0],
        params.protocol,
        train_per_class=params.train_per_class,
        seed=params.seed,
        other=bases[1] if params.test_dataset else None,
        remove_overlap=params.remove_overlap,
    )
    manifest = replace(made.manifest, left_out={})  # the data sets' own: their splits are others
    if not {params.dataset, params.test_dataset} <= {"", *benchmarks.WORLDS}:
        held = [split for split in manifest.splits if split != "train"]
        manifest = readable.keep(manifest, held, {base.name: Path(base.root) for base in bases})
    lost = f" Without {len(manifest.left_out)} that cannot be read." if manifest.left_out else ""
    return replace(made, manifest=manifest, said=made.said + lost, bases=tuple(bases))


def _manifest(dataset: str, split: int) -> Manifest:
    if dataset.startswith(official.PREFIX):
        return official.load(dataset.removeprefix(official.PREFIX), split)
    manifest = benchmarks.load(dataset)
    return manifest.keep_readable() if dataset.startswith(benchmarks.FOLDER) else manifest


def refuse_test_data(params: VideoTextParams, planned: Plan) -> None:
    """UserError where a test video would be trained or selected on, by this run or by that of ``params.init``."""
    names = {params.dataset, params.test_dataset} - {""}
    if not names <= set(benchmarks.WORLDS):
        trust.refuse_shared(planned.manifest, contents=any(name.startswith(benchmarks.FOLDER) for name in names))
    if not params.init:
        return
    try:
        earlier = runs.Run(Path(params.init), Path(params.init), "finished", None).params
        before = open_plan(VideoTextRunParams.parse(earlier)).manifest
    except (UserError, OSError, ValueError) as error:
        said = " ".join(str(error).split())
        print(f"init: what {params.init} was trained on cannot be found out, so test videos may be among it ({said})")
        return
    trust.refuse_start(params.init, before, planned.manifest)
