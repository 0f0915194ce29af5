"""The embedded worlds: fixed, class in the motion alone where it should be, rendered whole."""

import hashlib
import io
import os
import subprocess
import sys

import av
import numpy as np
import pytest

from vidlib.basics.errors import UserError
from vidlib.data.world import worlds as embedded
from vidlib.data.world.actions import ACTIONS
from vidlib.data.world.kinds import KINDS
from vidlib.data.world.motions import Open
from vidlib.data.world.scenes import action_film
from vidlib.data.world.stage import FRAMES

WORLDS = tuple(embedded.WORLDS)
EASY = tuple(world for world in WORLDS if world not in KINDS)
REVERSED = {  # one is the other played backwards
    "moving from left to right": "moving from right to left",
    "growing": "shrinking",
    "two things coming together": "two things moving apart",
    "covering something": "uncovering something",
    "appearing slowly": "fading away",
    "rising straight up": "falling straight down",
}


def decoded(data: bytes) -> tuple[np.ndarray, float]:
    """The frames of an H.264 clip, and how many a second."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
        return frames, float(stream.average_rate)


@pytest.mark.parametrize("world", WORLDS)
def test_a_world_is_the_one_whose_checksum_is_fixed(world):
    assert embedded.checksum(world) == embedded.CHECKSUM[world], "a changed world needs another name"
    assert embedded.CHECKSUM[world][:8] in embedded.folder(world).name


@pytest.mark.parametrize("world", WORLDS)
def test_splits_are_large_and_disjoint(world):
    classes = embedded.classes(world)
    assert len(classes["train"]) >= 24 and len(classes["val"]) >= 8 and len(classes["test"]) >= 16
    names = [name for split in classes.values() for name in split]
    assert len(set(names)) == len(names) == len(embedded.WORLDS[world])
    assert all(embedded.clips(world, split) >= 30 for split in embedded.SPLITS)
    listing = embedded._listing(world)
    assert len(set(listing.values())) == len({row.video for row in listing}) == len(listing)
    assert len(listing) == sum(len(names) * embedded.clips(world, split) for split, names in classes.items())


def test_val_of_a_new_world_is_as_large_as_its_test():
    for world in KINDS:
        assert [len(names) for names in embedded.classes(world).values()] == [24, 16, 16]
        assert embedded.clips(world, "val") == embedded.clips(world, "test")


@pytest.mark.parametrize(("one", "other"), REVERSED.items())
def test_opposite_actions_show_the_same_frames_in_reverse(one, other):
    """So that no single frame, and no set of frames, tells them apart."""
    motions = {action.name: action.motion for action in ACTIONS}
    for v in (Open(1, 0.3, 0.2), Open(-1, 2.0, 0.7)):
        for t in np.linspace(0, 1, 9):
            np.testing.assert_allclose(motions[one](t, v), motions[other](1 - t, v), atol=1e-9)


def test_nuisances_are_drawn_alike_for_every_action():
    """With one generator, two actions of one thing get the same ground, shape, colour and bystanders' number."""
    clips = [action_film(a, np.random.default_rng(5)).frames() for a in ACTIONS if a.things == 1]
    border = [clip[0, 0, :, :].tolist() for clip in clips]
    assert sum(row == border[0] for row in border) > 0.7 * len(border)


@pytest.mark.parametrize("world", WORLDS)
def test_clips_are_pure_functions_and_every_class_moves(world):
    least, most = (24, 24) if world in EASY else FRAMES
    for kind in embedded.WORLDS[world]:
        clip = embedded.drawn(world, embedded.video(kind.name, 3)).frames()
        assert least <= len(clip) <= most and clip.shape[1:] == (72, 72, 3) and clip.dtype == np.uint8
        if world != "moving_shapes_scene":  # many frames differ plainly from the one in the middle
            changed = np.abs(clip.astype(int) - clip[len(clip) // 2]).max((1, 2, 3)) > 30
            assert changed.sum() >= 8, kind.name
    one, other = (embedded.drawn(world, embedded.video(kind.name, number)).frames() for number in (3, 4))
    np.testing.assert_array_equal(one, clip)
    assert one.shape != other.shape or not np.array_equal(one, other)


def test_encoded_clips_are_near_what_was_drawn_and_the_same_each_time():
    frames = embedded.drawn("moving_shapes", "growing/00").frames()
    data = embedded.encode(frames)
    for number in range(12):  # with rate control, libx264 gave other bytes once in ten times, after other clips
        embedded.encoded("moving_shapes", embedded.video("falling straight down", number))
        assert embedded.encoded("moving_shapes", "growing/00") == data
    shown, rate = decoded(data)
    assert shown.shape == frames.shape and rate == 12
    error = np.mean((shown.astype(float) - frames) ** 2)
    assert 10 * np.log10(255**2 / error) > 28


@pytest.mark.parametrize("world", KINDS)
def test_a_new_clip_has_a_quantiser_and_a_rate_of_its_own(world):
    name = embedded.classes(world)["val"][0]
    films = [embedded.drawn(world, embedded.video(name, n)) for n in range(8)]
    assert len({film.quantiser for film in films}) > 3 and len({film.rate for film in films}) > 3
    for film in sorted(films, key=lambda film: film.quantiser)[:: len(films) - 1]:  # the finest and the coarsest
        frames = film.frames()
        data = embedded.encode(frames, film.rate, film.quantiser)
        shown, rate = decoded(data)
        assert shown.shape == frames.shape and rate == film.rate
        error = np.mean((shown.astype(float) - frames) ** 2)
        assert 10 * np.log10(255**2 / error) > 26, film.quantiser
        assert len(embedded.encode(frames, film.rate, film.quantiser + 4)) < len(data)
    assert embedded.encoded(world, embedded.video(name, 0)) == embedded.encode(
        films[0].frames(), films[0].rate, films[0].quantiser
    )


@pytest.mark.parametrize("world", ["words", "moving_shapes"])
def test_a_worker_goes_on_where_another_stopped(world, tmp_path):
    """It leaves whole clips alone, makes absent ones, and leaves no temporary file."""
    listing = list(embedded._listing(world).items())
    parts = len(listing) // 3
    for _, file in listing:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    mine = [tmp_path / file for _, file in listing[5::parts]]
    mine[0].write_bytes(b"whole")
    command = [sys.executable, "-m", "vidlib.data.world.worlds", world, str(tmp_path), "5", str(parts)]
    subprocess.run(command, check=True)
    assert mine[0].read_bytes() == b"whole"
    assert mine[1].read_bytes() == embedded.encoded(world, listing[5 + parts][0].video)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(mine)


def test_manifest_lists_files_that_are_there(worlds):
    manifest = embedded.manifest()
    assert manifest.name == "motion" and "not a benchmark" in manifest.note and not manifest.directional
    assert {split: manifest.classes(split) for split in manifest.splits} == embedded.classes()
    assert all(manifest.path(row).is_file() for row in manifest.rows)
    for split in manifest.splits:
        assert len(manifest.videos(split)) == len(embedded.classes()[split]) * embedded.clips("motion", split)
    assert manifest.root == embedded.folder() and not list(manifest.root.glob("*/*/.part-*"))
    row = manifest.videos("val")[0]
    drawn = embedded.encoded("motion", row.video)
    assert hashlib.sha256(manifest.path(row).read_bytes()).digest() == hashlib.sha256(drawn).digest()


def test_a_rendering_that_was_killed_goes_on(worlds, tmp_path):
    """Whole clips stay as they are, two that are absent come to be, what a process that is gone left goes."""
    whole, root = embedded.manifest().root, embedded.folder(cache=tmp_path)
    files = list(embedded._listing("motion").values())
    gone, kept = files[10:30:19], [*files[:10], *files[11:29], *files[30:]]
    for file in kept:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).symlink_to(whole / file)
    with subprocess.Popen(["true"]) as ended:
        pass
    for process in (ended.pid, os.getpid()):
        (root / gone[0]).with_name(f".part-{process}-00.mp4").write_bytes(b"half")
    assert embedded.manifest(cache=tmp_path).root == root and (root / "complete").is_file()
    assert all((root / file).is_symlink() for file in kept)
    assert [part.name for part in root.glob("*/*/.part-*")] == [f".part-{os.getpid()}-00.mp4"], "it is at work yet"
    for file in gone:
        assert not (root / file).is_symlink() and (root / file).read_bytes() == (whole / file).read_bytes()


def test_an_easy_world_has_directions(tmp_path):
    folder = embedded.folder("moving_shapes", tmp_path)
    folder.mkdir()
    (folder / "complete").write_text("")
    assert embedded.manifest("moving_shapes", tmp_path).directional and "motion" not in folder.name


def test_bad_input_is_named(tmp_path):
    with pytest.raises(UserError, match="'moving_shape'.*motion, scene, words"):
        embedded.classes("moving_shape")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="VIDLIB_CACHE"):
        embedded.manifest(cache=tmp_path / "file")
    for video in ("growing/32", "growing", "growing/x", "growling/00"):
        with pytest.raises(UserError, match=f"moving_shapes has no clip '{video}'"):
            embedded.drawn("moving_shapes", video)
    kind = KINDS["motion"][0]
    assert kind.split == "val" and embedded.drawn("motion", embedded.video(kind.name, 31))
    with pytest.raises(UserError, match="motion has no clip"):
        embedded.encoded("motion", embedded.video(kind.name, 32))


def test_a_failing_worker_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(UserError, match="rendering motion"):
        embedded.manifest(cache=tmp_path)
    assert not list(tmp_path.rglob("complete"))


@pytest.mark.parametrize("world", WORLDS)
def test_masks_are_where_the_things_of_the_class_are_drawn(world):
    """Drawn once more without them, a clip differs inside the mask and nowhere else; bystanders are no part of it."""
    for row in list(embedded._listing(world))[::193]:
        film = embedded.drawn(world, row.video)
        masks, frames = film.masks(), film.frames()
        bare = film._replace(actors=[[] for _ in film.actors]).frames()
        moved = np.abs(frames.astype(int) - bare).max(-1)
        assert masks.shape == frames.shape[:3] and masks.dtype == bool and masks.any()
        assert (moved[masks] > 5).mean() > 0.97, f"{row.video}: ground inside the mask"
        assert (moved[~masks] > 0).mean() < 0.05, f"{row.video}: more than edges outside the mask"
