"""What the notebooks of ActionCLIP and M2-CLIP claim, each for named parameters; elsewhere that is said instead."""

from collections.abc import Iterator, Mapping, Sequence

import torch

from vidlib import methods
from vidlib.backbones import clip
from vidlib.layers.gathering import processes
from vidlib.params.video_text import VideoTextStudy
from vidlib.results import runs
from vidlib.results.accuracy import paired
from vidlib.studies.video_text import label, splits, tested
from vidlib.training import video_text

TRAINED_ENOUGH = 3  # epochs below which nothing is claimed of what training does
M2CLIP_COUNTS = {  # trainable parameters with ViT-B/16 at 8 frames, as the sheet of its code adds them up
    "Kinetics-400, 12 x 384": (16_138_649, {"classes": 400, "vocabulary": 521}),
    "SSv2, 24 x 384": (
        39_524_761,
        {
            "classes": 174,
            "vocabulary": 235,
            "adapter_places": ("attention", "mlp"),
            "text_adapter_places": ("attention", "mlp"),
            "text_adapter_layers": 13,
        },
    ),
}


def actionclip(p: VideoTextStudy, found: Mapping[str, Sequence[runs.Run]]) -> Iterator[str]:
    """The claims of actionclip.ipynb."""
    yield from _same_videos(found)
    yield from _alone(found[p.METHOD][0])
    yield from _text_matters(p, found)
    yield from _learns(p, found)


def m2clip(p: VideoTextStudy, found: Mapping[str, Sequence[runs.Run]]) -> Iterator[str]:
    """The claims of m2clip.ipynb."""
    yield from _same_videos(found)
    yield from _alone(found[p.METHOD][0])
    yield from _starts_as_clip(p)
    for name, (count, sizes) in M2CLIP_COUNTS.items():
        with torch.device("meta"):
            method = methods.VIDEO_TEXT["m2clip"](clip.load("ViT-B-16-quickgelu", ""), 8, **sizes)
        ours = sum(parameter.numel() for parameter in method.trainable().values())
        assert ours == count, f"{name}: {ours:,} trainable parameters instead of {count:,}"
        yield f"holds: {name} with ViT-B/16 trains {count:,} parameters, as its code does"
    yield from _text_matters(p, found)
    yield from _learns(p, found)


def _same_videos(found: Mapping[str, Sequence[runs.Run]]) -> Iterator[str]:
    for split in splits(found):
        sums = {run.result[split]["checksum"] for same in found.values() for run in same if split in run.result}
        assert len(sums) == 1, f"{split}: the runs met different videos or classes"
        yield f"holds: all runs met the same {split} videos and classes (list {sums.pop()[:12]})"


def _alone(run: runs.Run) -> Iterator[str]:
    """A video's features are the same alone and beside others; nobody else's clips are gathered in a test."""
    params, opened = video_text.open_trained(run)
    clips = video_text.open_views(params, opened.method, opened.manifest, "val")[0]
    batch = torch.stack([clips.test(row) for row in range(min(4, len(clips)))])
    with torch.no_grad():
        together, one = opened.method.encode_video(batch), opened.method.encode_video(batch[:1])
    off = float((together[:1] - one).abs().max() / one.abs().max())
    assert off < 1e-4 and processes() == 1, f"other videos move a video's features by {off:.2g}"
    yield f"holds: a video's features do not depend on the other videos (largest difference {off:.1g} of the largest)"


def _starts_as_clip(p: VideoTextStudy) -> Iterator[str]:
    """Before training the adapters of the image side add exactly nothing."""
    opened = video_text.open_run(p.run_params())
    method = opened.method.eval()
    clip_shape = (2, p.frames, 3, method.backbone.image_size, method.backbone.image_size)
    clips = torch.randn(clip_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = method.backbone.encode_image(clips.flatten(0, 1)).unflatten(0, clip_shape[:2]).mean(1)
        off = float((method.encode_video(clips) - plain).abs().max() / plain.abs().max())
    assert off < 1e-5, f"untrained, its videos differ from frozen CLIP's by {off:.2g}"
    yield f"holds: untrained, its video features are frozen CLIP's (largest difference {off:.1g} of the largest)"


def _text_matters(p: VideoTextStudy, found: Mapping[str, Sequence[runs.Run]]) -> Iterator[str]:
    new = "novel" if "novel" in splits(found) else "test"
    claim = "on classes that training never saw it is above chance and above itself with class texts permuted"
    runs_here = found[p.METHOD]
    world = p.dataset in ("moving_shapes", "moving_shapes_scene") and p.pretrained == "clip-mini" and not p.test_dataset
    if p.protocol not in ("zero_shot", "base_to_novel") or not world or p.seeds < 3 or p.epochs < TRAINED_ENOUGH:
        where = f"claimed on the embedded worlds for three seeds or more, from {TRAINED_ENOUGH} epochs on"
        yield f"not claimed here: {claim}; {where}"
        return
    for run in runs_here:
        ours, permuted = tested(run, new), tested(run, f"{new}_texts_permuted")
        assert ours.accuracy - ours.interval > ours.chance, f"{claim}: {ours.accuracy:.3f}, chance {ours.chance:.3f}"
        gap = paired(ours, permuted)
        assert gap.difference > gap.interval, f"{claim}: {gap}"
    values = ", ".join(f"{100 * tested(run, new).accuracy:.1f}" for run in runs_here)
    yield f"holds: {claim}, intervals apart, in each of {p.seeds} seeds: {values}; chance {100 * ours.chance:.1f}"


def _learns(p: VideoTextStudy, found: Mapping[str, Sequence[runs.Run]]) -> Iterator[str]:
    claim = "trained it is above itself untrained on videos of trained classes, intervals apart"
    seen = p.protocol in ("closed_set", "base_to_novel")
    if not seen or p.epochs < TRAINED_ENOUGH or p.dataset != "moving_shapes" or p.train_per_class:
        where = f"claimed for closed_set and base_to_novel on moving_shapes, from {TRAINED_ENOUGH} epochs on"
        yield f"not claimed here: {claim}; {where}"
        return
    for after, before in zip(found[p.METHOD], found["prompted"], strict=True):
        a, b = tested(after), tested(before)
        assert a.accuracy - a.interval > b.accuracy + b.interval, f"{claim}: {a.accuracy:.3f} and {b.accuracy:.3f}"
    yield f"holds: {claim}: {100 * a.accuracy:.1f}% against {100 * b.accuracy:.1f}%"
    if "unimodal" in found:
        gap = paired(tested(found[p.METHOD][0]), tested(found["unimodal"][0]))
        yield f"as it came out: {label(p.METHOD)} minus the 1-of-N classifier on trained classes, seed {p.seed}: {gap}"
