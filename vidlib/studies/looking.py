"""What a trained method sees: which text a video is near to, where it looks, and when; what speaks for a class."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vidlib.data.episodes import assemble
from vidlib.data.manifest import Manifest
from vidlib.layers.attention import capture_attention
from vidlib.methods import VideoTextMethod
from vidlib.results import runs
from vidlib.studies.tables import label
from vidlib.training import few_shot, video_text
from vidlib.training.evaluate_videos import embed_videos
from vidlib.viz import attention, filmstrip, gradcam


def text_similarities(run: runs.Run, split: str) -> tuple[np.ndarray, list[str]]:
    """Mean cosine of the videos of each class with the text of each, ``[K K]`` (rows: videos), and the classes."""
    params, opened = video_text.open_trained(run)
    method, manifest = opened.method, opened.manifest
    clips = video_text.open_views(params, method, manifest, split)[0]
    classes = list(manifest.classes(split))
    text = method.class_text([manifest.text(cls) for cls in classes])
    video = embed_videos(method, clips, label="similarities")["video"]
    cosines = nn.functional.normalize(video, dim=-1) @ nn.functional.normalize(text, dim=-1).mean(0).mT
    rows = np.array([classes.index(row.cls) for row in clips.rows])
    means = np.stack([cosines.cpu().numpy()[rows == k].mean(0) for k in range(len(classes))])
    return means, [manifest.text(cls) for cls in classes]


def attention_maps(trained: Mapping[str, runs.Run]) -> tuple[np.ndarray, dict[str, Tensor], dict[str, Tensor], str]:
    """The frames of val's first video; of each run the class token's last-layer maps [T gh gw] and the weight of each
    frame in what the temporal attention of its head looks at [T] (none for heads without one); the video's class."""
    frames, maps, times, cls = None, {}, {}, ""
    for name, run in trained.items():
        params, opened = video_text.open_trained(run)
        method = opened.method
        clips = video_text.open_views(params, method, opened.manifest, "val")[0]
        clip = clips.test(0)
        with torch.no_grad(), capture_attention(method) as weights, _frame_weights(method) as over_time:
            method.embed(clip[None])
        last = weights[method.backbone.layers - 1, "local"]
        if len(last) == params.frames:  # joint has one sequence for all frames
            maps[label(name)] = attention.class_token_maps(last, method.backbone.grid)
        if over_time:
            times[label(name)] = over_time[0]
        frames = filmstrip.to_uint8(clip, method.backbone.mean, method.backbone.std)
        cls = opened.manifest.text(clips.rows[0].cls)
    return frames, maps, times, cls


def gradcam_maps(
    manifest: Manifest, found: Mapping[str, runs.Run], *, query: int = 0, **options: Any
) -> tuple[np.ndarray, str, dict[str, Tensor]]:
    """For a query of the first episode of val: its frames ``[T H W 3]``, its class, and for the trained method of each
    run its map ``[T h w]`` for that class; ``options`` go to ``gradcam.query_map``."""
    maps: dict[str, Tensor] = {}
    for name, run in found.items():
        method, val = few_shot.open_trained(run, manifest)
        drawn = val.sampler[0]
        batch, label = assemble(val.clips, [drawn], val.text, train=False), int(drawn.query_labels[query])
        maps[name] = gradcam.query_map(method, batch, query, label, **options)
        frames = filmstrip.to_uint8(batch.query[0, query], method.backbone.mean, method.backbone.std)
    return frames, manifest.text(drawn.classes[label]), maps


@contextmanager
def _frame_weights(method: VideoTextMethod) -> Iterator[list[Tensor]]:
    """Collects, while a method embeds a video, how much the last block of its head looks at each frame, [T]."""
    frames: list[Tensor] = []

    def look(module: nn.Module, given: tuple, kwargs: dict, _: object) -> None:
        weights = module.forward(*given, **{**kwargs, "need_weights": True})[1]  # [1 T T], heads averaged
        frames.append(weights[0].mean(0).detach())

    blocks = getattr(getattr(method, "head", None), "blocks", None)
    handle = blocks[-1].attn.register_forward_hook(look, with_kwargs=True) if blocks is not None else None
    try:
        yield frames
    finally:
        if handle:
            handle.remove()
