"""How much of the attention falls on the object: by hand, and on clips of the world whose objects are known."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.methods.small import backbone
from vidlib.data.clips import Clips
from vidlib.data.manifest import Manifest, Row
from vidlib.data.transforms import ClipTransform
from vidlib.data.world import worlds
from vidlib.methods import build
from vidlib.results.intervals import half_width
from vidlib.studies import where
from vidlib.viz import attention

VIDEOS = 6


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Some val clips of motion, rendered here, and the methods that look at them, untrained."""
    root, names = tmp_path_factory.mktemp("world"), worlds.classes()["val"][:3]
    rows = tuple(Row(worlds.video(name, n), name, "val") for name in names for n in range(2))
    files = {row.video: f"{row.video.replace('/', '-')}.mp4" for row in rows}
    for row in rows:
        (root / files[row.video]).write_bytes(worlds.encoded("motion", row.video))
    manifest = Manifest(name="motion", rows=rows, root=root, files=files, directional=False)
    opened = {}
    for name in ("ma_fsar", "frozen_clip"):
        method = build(name, backbone(image_size=64), frames=4).eval()
        look = ClipTransform(64, method.backbone.mean, method.backbone.std, train=False)
        text = torch.randn(len(names), method.backbone.embed_dim)
        clips = Clips(manifest, "val", 4, None, look, seed=0)
        opened[name] = method, SimpleNamespace(clips=clips, sampler=SimpleNamespace(classes=names), text=text)
    return manifest, opened


def test_shares_by_hand():
    masks = torch.zeros(2, 8, 8)
    masks[0, :4, :4] = 1  # a quarter of the picture; the second frame does not show the object
    even, on, off = torch.ones(2, 2, 2), torch.zeros(2, 2, 2), torch.zeros(2, 2, 2)
    on[:, 0, 0], off[:, 1, 1] = 0.3, 0.3  # what goes to other tokens than patches does not count
    assert [attention.on_object(maps, masks) for maps in (even, on, off)] == pytest.approx([0.25, 1.0, 0.0])
    assert np.isnan(attention.on_object(even, torch.zeros(2, 8, 8)))


def test_the_mask_goes_through_what_the_clip_goes_through(world):
    _, opened = world
    method, split = opened["ma_fsar"]
    for row in range(VIDEOS):
        masks = where.object_pixels(split, row)
        pixels = split.clips.test(row) * torch.tensor(method.backbone.std)[:, None, None]
        whole = worlds.drawn("motion", split.clips.rows[row].video).masks()
        kept = whole[split.clips.pick(len(whole), 4, None)]
        assert masks.shape == pixels[:, 0].shape and masks.float().mean() == pytest.approx(
            kept.mean(), rel=0.15, abs=0.004
        )


def test_the_table_has_every_method_and_role_with_an_interval_over_videos(world, monkeypatch):
    manifest, opened = world
    monkeypatch.setattr(where.few_shot, "open_trained", lambda run, _: opened[run])
    table = where.on_objects(manifest, {name: [name] for name in opened}, videos=VIDEOS)
    assert list(table.index) == [("MA-FSAR", "query"), ("MA-FSAR", "support"), ("frozen CLIP", "both alike")]
    assert (table["videos"] == VIDEOS).all() and table["its part of the picture (%)"].nunique() == 1
    method, split = opened["ma_fsar"]
    shares = []
    for row in range(VIDEOS):
        maps = attention.class_token_maps(where.last_layer(method, split, row, "support"), method.backbone.grid)
        shares.append(100 * attention.on_object(maps, where.object_pixels(split, row)))
    line = table.loc[("MA-FSAR", "support")]
    assert line["on the object (%)"] == pytest.approx(np.mean(shares))
    assert line["± videos"] == pytest.approx(half_width(np.array(shares)))
