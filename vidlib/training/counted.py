"""What a run takes, counted from shapes alone: no device, no video, no weights and no number is needed.

The method is built as for the run and its tensors are replaced by PyTorch's fake ones, which have shapes, dtypes and no
memory; a real training step then goes through the real code. Counted are the FLOPs of matrix products and convolutions
and the tensors that live at a time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from vidlib.basics.devices import make_fabric
from vidlib.data.catalogue import benchmarks, official
from vidlib.data.episodes import EpisodeBatch, Targets
from vidlib.data.labelled import LabelledBatch
from vidlib.data.manifest import Manifest, Row
from vidlib.data.protocols import plan
from vidlib.params.few_shot import RunParams
from vidlib.params.video_text import VideoTextRunParams
from vidlib.results import cost
from vidlib.training import across, few_shot, memory, micro_batches, video_text
from vidlib.training.trial import DEFAULTS, AnyRun

AT_ONCE = 40  # videos that a GPU embeds at a time in testing
LINE = 300  # bytes of a step's record


@dataclass(frozen=True)
class Counted:
    """FLOPs of a training episode (batch), of embedding a test video (of a whole test episode where each is embedded
    anew), of matching a test episode; videos of a training episode and of an embedding; of ``trial.Measured`` all but
    the seconds; the data set's lists."""

    train: float
    embed: float
    match: float
    videos: int
    tested: int
    said: Mapping[str, Any]
    manifest: Manifest


class _Answers(TorchDispatchMode):
    """What only numbers could tell: a scalar is 1, a mask is true everywhere."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN204 - torch's own signature
        if func is torch.ops.aten._local_scalar_dense.default:
            return 1
        if "index" in func.name() and isinstance(args[1], list | tuple):  # a mask among indices
            places = [[x] if x is None or x.dtype != torch.bool else [_all(x)] * x.ndim for x in args[1]]
            args = (args[0], [x for each in places for x in each], *args[2:])
        return func(*args, **(kwargs or {}))


def _all(mask: Tensor) -> Tensor:
    return mask.new_zeros(mask.numel(), dtype=torch.int64)


def published(dataset: str, split: int = 1) -> Manifest:
    """The manifest of ``dataset`` by the number of videos that its description gives each class; what has none there
    (embedded worlds, folders, official Kinetics-400 and Something-Something) is opened as for a run."""
    if dataset.startswith(official.PREFIX):
        name = dataset.removeprefix(official.PREFIX)
        official.describe(name)
        facts = benchmarks.read(benchmarks.catalogue() / f"official_{name}.yaml")
        if not all("train" in each for each in facts["classes"]):
            return official.load(name, split)
        counts = [(c["name"], part, c[part][split - 1]) for c in facts["classes"] for part in ("train", "test")]
    elif dataset.startswith(benchmarks.FOLDER) or dataset in benchmarks.WORLDS:
        return benchmarks.load(dataset)
    else:
        facts = benchmarks.describe(dataset)
        counts = [(c["name"], part, c["videos"]) for part, classes in facts["classes"].items() for c in classes]
    rows = tuple(Row(f"{part} {cls} {i}", cls, part) for cls, part, number in counts for i in range(number))
    return Manifest(dataset, rows, benchmarks.catalogue(), {row.video: row.video for row in rows})


def count(params: AnyRun, precision: str) -> Counted:
    """A training step and a test of ``params``' method in ``precision``, at the sizes of the run."""
    params = params.model_copy(update={"pretrained": "", "init": "", "device": "cpu"})
    labelled = isinstance(params, VideoTextRunParams)
    if labelled:
        sets = [published(name, params.official_split) for name in (params.dataset, params.test_dataset) if name]
        given = {name: getattr(params, name) for name in ("train_per_class", "seed", "remove_overlap", "select")}
        planned = plan(sets[0], params.protocol, other=sets[1] if len(sets) > 1 else None, **given)
        work = video_text.LabelledClips(params, planned)
        method = work.build()
        parts, videos = [_clips(params, work.opened)] * 2, [params.batch, 1]
    else:
        sets = [published(name) for name in (params.dataset, params.test_dataset) if name]
        lists = across.opened(sets, params.remove_overlap, params.texts)
        work = few_shot.Episodes(params.model_copy(update={"features": "never"}), lists)
        method, shapes = work.build(), (few_shot._train_shape(params), (params.shot, params.query))
        parts = [_episode(params, method, lists, *shape) for shape in shapes]
        videos = [params.way * sum(shape) for shape in shapes]
    manifest = work.manifest
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    parts = [{name: fake.from_tensor(value) for name, value in part.items()} for part in parts]
    method = micro_batches.split(_faked(method, fake), params.micro_batch)
    trained = bool((params.epochs if labelled else params.train_episodes) and method.trainable())
    fabric = make_fabric("cpu", "bf16-mixed" if "mixed" in precision else precision)
    flops, taken = 0.0, (0.0, 0.0)
    with fake, _Answers():
        learn, test = (_batch(part) for part in parts)
        if trained:
            method.train()
            flops = 2e9 * cost.gmacs(lambda: method(learn).loss.backward())
            method.zero_grad(set_to_none=True)
            taken = memory.of_training(method, learn, fabric, work.fit_settings())
        method.eval()
        clip, role = (test.clips[:1], ()) if labelled else (test.query[0, :1], (None, "query"))
        embed = 2e9 * cost.gmacs(method.embed, clip, *role)
        many = clip.expand(AT_ONCE, *clip.shape[1:])
        with torch.no_grad(), fabric.autocast():
            tested = cost.peak_memory(lambda: method.embed(many, *role), holding=method, device="cpu")
        episode = 0.0 if labelled else 2e9 * cost.gmacs(method, test)
    weights = 4 * sum(p.numel() for p in method.trainable().values())
    said: dict[str, Any] = {"trained": trained, "train_memory": taken[0], "test_memory": tested, "weights": weights}
    said |= {"state": round(2 * weights + taken[1] * cost.MIB), "line": LINE}  # it holds the best weights besides
    if labelled:
        said |= {"kept": 4 * len(manifest.classes("test")), "whole": False}
        said |= {"steps_per_epoch": len(manifest.videos("train")) // params.batch}
        return Counted(flops, embed, 0.0, *videos, said, manifest)
    whole = getattr(method, "whole_episode", False) or params.test_frames != "fixed"
    said |= {name: getattr(method, name, default) for name, default in DEFAULTS.items()}
    said |= {"kept": 40 * params.way * params.query, "whole": whole, "steps_per_epoch": 0}
    if whole:
        return Counted(flops, episode, 0.0, *videos, said, manifest)
    return Counted(flops, embed, max(0.0, episode - videos[1] * embed), videos[0], 1, said, manifest)


def _faked(method: nn.Module, fake: FakeTensorMode) -> nn.Module:
    """``method`` with every weight and buffer replaced by its shape; one that has two names stays one."""
    seen: dict[int, Tensor] = {}
    for module in method.modules():
        for held in (module._parameters, module._buffers):
            for name, value in held.items():
                if value is not None and id(value) not in seen:
                    made = fake.from_tensor(value.detach())
                    learned = isinstance(value, nn.Parameter)
                    seen[id(value)] = nn.Parameter(made, requires_grad=value.requires_grad) if learned else made
                held[name] = None if value is None else seen[id(value)]
    return method


def _episode(params: RunParams, method: Any, manifest: Manifest, shot: int, query: int) -> dict[str, Tensor]:
    size, width = method.backbone.image_size, method.backbone.embed_dim
    clips = torch.zeros(1, 1, 1, 1, 1, 1)  # expanded, so that nothing is held
    shape = (params.frames, 3, size, size)
    labels, way = torch.arange(params.way), params.way
    found = {"support": clips.expand(1, way * shot, *shape), "support_labels": labels.repeat(shot)[None]}
    found |= {"query": clips.expand(1, way * query, *shape), "query_labels": labels.repeat(query)[None]}
    text = torch.zeros(len(manifest.classes("train")), width if method.backbone.has_text else 0)
    return found | {"text": text[:1].expand(1, way, -1), "class_ids": labels[None], "all_text": text}


def _clips(params: VideoTextRunParams, opened: video_text.Opened) -> dict[str, Tensor]:
    tower, labels = opened.method.backbone, torch.arange(params.batch) % len(opened.manifest.classes("train"))
    ids = tower.tokenize([opened.manifest.text(cls) for cls in opened.manifest.classes("train")])
    clips = torch.zeros(1, 1, 1, 1, 1).expand(params.batch, params.frames, 3, tower.image_size, tower.image_size)
    found = {"clips": clips, "labels": labels, "ids": ids[labels], "class_ids": ids}
    return found | ({"masked_ids": ids[labels], "words": ids[labels]} if opened.method.masks_words else {})


def _batch(part: Mapping[str, Tensor]) -> Any:
    if "clips" in part:
        return LabelledBatch(**part)
    targets = Targets(**{field.name: part[field.name] for field in fields(Targets)})
    return EpisodeBatch(part["support"], part["support_labels"], part["query"], part["text"], targets)
