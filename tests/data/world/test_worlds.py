"""The embedded world: fixed, class in the motion alone, rendered whole, words that were met before."""

import hashlib
import re
import subprocess
import sys

import av
import numpy as np
import pytest

from vidlib.basics.errors import UserError
from vidlib.data.world import moving_shapes
from vidlib.data.world.actions import ACTIONS
from vidlib.data.world.motions import Open
from vidlib.data.world.scenes import SCENES
from vidlib.data.world.stills import place, still, stills, tilt

FUNCTION_WORDS = set("a an and the to of from in on then while".split())
REVERSED = {  # one is the other played backwards
    "moving from left to right": "moving from right to left",
    "growing": "shrinking",
    "two things coming together": "two things moving apart",
    "covering something": "uncovering something",
    "appearing slowly": "fading away",
    "rising straight up": "falling straight down",
}


@pytest.mark.parametrize("flavour", moving_shapes.FLAVOURS)
def test_the_world_is_the_one_whose_checksum_is_fixed(flavour):
    assert moving_shapes.checksum(flavour) == moving_shapes.CHECKSUM[flavour], "a changed world needs another name"


@pytest.mark.parametrize("flavour", moving_shapes.FLAVOURS)
def test_splits_are_large_and_disjoint(flavour):
    classes = moving_shapes.classes(flavour)
    assert len(classes["train"]) >= 24 and len(classes["val"]) >= 8 and len(classes["test"]) >= 12
    names = [name for split in classes.values() for name in split]
    assert len(set(names)) == len(names) >= 40
    assert moving_shapes.CLIPS >= 30
    files = [file for *_, file in moving_shapes._listing(flavour)]
    assert len(set(files)) == len(files)


def test_every_word_of_a_novel_name_was_met_before():
    """In its still sense in a caption, or in a training action's name."""
    captions = " ".join(stills(1, 0, 3000)[1])
    known = set(re.findall(r"[a-z]+", captions)) | FUNCTION_WORDS
    for flavour in moving_shapes.FLAVOURS:
        classes = moving_shapes.classes(flavour)
        seen = known | set(" ".join(classes["train"]).split())
        unmet = {name: set(name.split()) - seen for split in ("val", "test") for name in classes[split]}
        assert {name: words for name, words in unmet.items() if words} == {}


def test_captions_know_no_motion():
    words = set(re.findall(r"[a-z]+", " ".join(stills(2, 0, 3000)[1])))
    verbs = {word for action in ACTIONS for word in action.name.split() if word.endswith("ing")} - {
        "thing",
        "something",
    }
    assert verbs and words & verbs == set()


@pytest.mark.parametrize(("one", "other"), REVERSED.items())
def test_opposite_actions_show_the_same_frames_in_reverse(one, other):
    """So that no single frame, and no set of frames, tells them apart."""
    motions = {action.name: action.motion for action in ACTIONS}
    for v in (Open(1, 0.3, 0.2), Open(-1, 2.0, 0.7)):
        for t in np.linspace(0, 1, 9):
            np.testing.assert_allclose(motions[one](t, v), motions[other](1 - t, v), atol=1e-9)


def test_nuisances_are_drawn_alike_for_every_class():
    """With one generator, two actions of one thing get the same ground, shape, colour and bystanders' number."""
    still_part = [moving_shapes.action_clip(a, np.random.default_rng(5)) for a in ACTIONS if a.things == 1]
    border = [clip[0, 0, :, :].tolist() for clip in still_part]
    assert sum(row == border[0] for row in border) > 0.7 * len(border)


@pytest.mark.parametrize("flavour", moving_shapes.FLAVOURS)
def test_clips_are_pure_functions_and_every_class_moves(flavour):
    kinds = ACTIONS if flavour == "moving_shapes" else SCENES
    for kind in kinds:
        clip = moving_shapes.clip_frames(flavour, kind.name, 3)
        assert clip.shape == (24, 72, 72, 3) and clip.dtype == np.uint8
        if flavour == "moving_shapes":  # many frames differ plainly from the one in the middle
            changed = np.abs(clip.astype(int) - clip[12]).max((1, 2, 3)) > 30
            assert changed.sum() >= 8, kind.name
    again = moving_shapes.clip_frames(flavour, kinds[0].name, 3)
    np.testing.assert_array_equal(again, moving_shapes.clip_frames(flavour, kinds[0].name, 3))
    assert not np.array_equal(again, moving_shapes.clip_frames(flavour, kinds[0].name, 4))


def test_encoded_clips_are_h264_near_what_was_drawn_and_the_same_each_time(tmp_path):
    frames = moving_shapes.clip_frames("moving_shapes", "growing", 0)
    data = moving_shapes.encode(frames)
    for number in range(12):  # with rate control, libx264 gave other bytes once in ten times, after other clips
        moving_shapes.encode(moving_shapes.clip_frames("moving_shapes", "falling straight down", number))
        assert moving_shapes.encode(frames) == data
    (tmp_path / "clip.mp4").write_bytes(data)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert decoded.shape == frames.shape
    error = np.mean((decoded.astype(float) - frames) ** 2)
    assert 10 * np.log10(255**2 / error) > 28


def test_a_worker_goes_on_where_another_stopped(tmp_path):
    """It leaves whole clips alone, makes absent ones, and leaves no temporary file."""
    listing = moving_shapes._listing("moving_shapes")
    parts = len(listing) // 3
    for *_, file in listing:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    mine = [tmp_path / file for *_, file in listing[5::parts]]
    mine[0].write_bytes(b"whole")
    subprocess.run(
        [sys.executable, "-m", "vidlib.data.world.moving_shapes", "moving_shapes", str(tmp_path), "5", str(parts)],
        check=True,
    )
    assert mine[0].read_bytes() == b"whole"
    split, name, number, _ = listing[5 + parts]
    assert split == "train"
    assert mine[1].read_bytes() == moving_shapes.encode(moving_shapes.clip_frames("moving_shapes", name, number))
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(mine)


def test_manifest_lists_files_that_are_there(worlds):
    manifest = moving_shapes.manifest()
    assert "not a benchmark" in manifest.note and manifest.directional
    assert {split: manifest.classes(split) for split in manifest.splits} == moving_shapes.classes()
    assert all(manifest.path(row).is_file() for row in manifest.rows)
    assert len(manifest.videos("test")) == 16 * moving_shapes.CLIPS
    assert moving_shapes.CHECKSUM["moving_shapes"][:8] in manifest.root.name
    assert not list(manifest.root.glob("*/*/.part-*"))
    row = manifest.videos("val")[0]
    number = int(row.video.split("/")[1])
    drawn = moving_shapes.encode(moving_shapes.clip_frames("moving_shapes", row.cls, number))
    assert hashlib.sha256(manifest.path(row).read_bytes()).digest() == hashlib.sha256(drawn).digest()


def test_bad_input_is_named(tmp_path):
    with pytest.raises(UserError, match="'moving_shape'"):
        moving_shapes.classes("moving_shape")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="VIDLIB_CACHE"):
        moving_shapes.manifest(cache=tmp_path / "file")


def test_a_failing_worker_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(UserError, match="rendering moving_shapes"):
        moving_shapes.manifest(cache=tmp_path)
    assert not list(tmp_path.rglob("complete"))


def test_words_for_places_and_tilts():
    assert place(0.5, 0.5) == "in the middle" and place(0.1, 0.1) == "in the upper left corner"
    assert place(0.7, 0.5) == "on the right side" and place(0.3, 0.7) == "in the lower left"
    assert tilt(0.0) == "upright" and tilt(0.7) == "tilted to the right" and tilt(-0.7) == "tilted to the left"
    assert tilt(np.pi) == "upside down" and tilt(2 * np.pi + 1.5) == "lying on its right side"


def test_stills_of_one_cast_differ_in_place_not_in_colour():
    pair = [still(np.random.default_rng(i), np.random.default_rng(9), simple=1.0) for i in range(6)]
    looks = {re.search(r"an? (\w+ \w+) (?:in|at|on) ", caption).group(1) for _, caption in pair}
    assert len(looks) == 1 and len({caption for _, caption in pair}) > 1
    images, captions = stills(4, 10, 4, alike=4)
    again, same = stills(4, 8, 8, alike=4)
    np.testing.assert_array_equal(images[:2], again[2:4])
    assert captions[:2] == same[2:4]


@pytest.mark.parametrize("flavour", moving_shapes.FLAVOURS)
def test_masks_are_where_the_things_of_the_class_are_drawn(flavour):
    """Drawn once more without them, a clip differs inside the mask and nowhere else; bystanders are no part of it."""
    listing = {
        f"{moving_shapes._slug(name)}/{number:02d}": name for _, name, number, _ in moving_shapes._listing(flavour)
    }
    for video in list(listing)[::173]:
        masks = moving_shapes.object_masks(flavour, video)
        frames = moving_shapes.clip_frames(flavour, listing[video], int(video[-2:]))
        kind, rng = moving_shapes._chance(flavour, listing[video], int(video[-2:]))
        film = (moving_shapes.action_film if flavour == "moving_shapes" else moving_shapes.scene_film)(kind, rng)
        bare = film._replace(actors=[[] for _ in film.actors]).frames()
        moved = np.abs(frames.astype(int) - bare).max(-1)
        assert masks.shape == (24, 72, 72) and masks.dtype == bool and masks.any()
        assert (moved[masks] > 5).mean() > 0.97, f"{video}: ground inside the mask"
        assert (moved[~masks] > 0).mean() < 0.03, f"{video}: more than edges outside the mask"
    with pytest.raises(UserError, match="no clip 'growing/99'"):
        moving_shapes.object_masks("moving_shapes", "growing/99")
