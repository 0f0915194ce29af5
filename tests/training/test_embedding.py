"""``vidlib data embed``: what is encoded is what runs see; killed, shared or full, a store is whole or goes on."""

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.small_store import folder, made, params
from vidlib.basics import lock
from vidlib.basics.errors import UserError
from vidlib.data import features
from vidlib.data.features import Store
from vidlib.training import embedding, few_shot

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> str:
    return folder(tmp_path_factory.mktemp("embedding"))


@pytest.fixture(autouse=True)
def _small(monkeypatch, tmp_path):
    monkeypatch.setenv("VIDLIB_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(features, "PER_SHARD", 5)


def clips_of(p, split):
    manifest, backbone = few_shot.open_manifest(p), few_shot.open_backbone(p)
    return few_shot.open_split(p, manifest, backbone, split).clips, backbone


def test_a_store_holds_what_the_tower_makes_of_each_video(videos):
    plan = embedding.plan(params(videos), 2)
    said = list(embedding.embed(plan))
    store = Store(plan.store.folder)
    assert "folder:clips (all 24 videos), resnet-mini resnet-mini, 3 frames, 1 test view and 2 augm" in said[0]
    assert re.search(r"24 videos to encode, about [\d.]+ minutes \([\d.]+ hours\)", said[1])
    assert said[-1].startswith("whole: 24 videos, 0.2 MB") and store.lacking() == []
    assert {file.suffix for file in plan.store.folder.iterdir()} == {".json", ".npy"} and len(store.every()) == 5
    test, backbone = clips_of(params(videos), "test")
    assert len(test.rows) == 8
    for row, listed in enumerate(test.rows):
        with torch.no_grad():
            wanted = backbone.encode_image(test.test(row))
        assert np.abs(store.feature(listed.video, 0) - wanted.numpy()).max() < 1e-5
    train, _ = clips_of(params(videos), "train")
    with torch.no_grad():
        wanted = backbone.encode_image(train.views(0, 2).flatten(0, 1)).unflatten(0, (3, 3)).numpy()
    found = np.stack([store.feature(train.rows[0].video, view) for view in range(3)])
    assert np.abs(found - wanted).max() < 1e-5 and np.abs(found[1] - found[2]).max() > 1e-3
    assert made(videos, views=2).digest == store.digest, "nothing is done again"


def test_views_depend_on_seed_and_video_alone(videos, tmp_path):
    one, two = (made(videos, seed=seed, out=str(tmp_path / f"s{seed}")) for seed in (0, 1))
    again = made(videos, out=str(tmp_path / "again"), workers=1)
    assert again.digest == one.digest != two.digest, "loader processes change nothing"
    same = [
        [np.array_equal(one.feature(video, view), two.feature(video, view)) for video in one.index] for view in range(3)
    ]
    assert all(same[0]) and not all(same[1]) and not all(same[2])


def test_float16_is_half_as_large_and_nearly_the_same(videos):
    whole, half = made(videos, views=0), made(videos, views=0, dtype="float16")
    assert half.bytes * 2 == whole.bytes and half.folder != whole.folder
    for video in whole.index:
        assert np.allclose(half.feature(video, 0), whole.feature(video, 0), rtol=2e-3, atol=1e-3)


def test_random_weights_are_those_of_the_run(videos):
    store = made(videos, views=0, pretrained="", seed=3)
    assert store.head["tower"]["pretrained"] == "random weights of seed 3"
    run = few_shot.work(params(videos, "frozen_clip", pretrained="", seed=3))
    assert run.found.store.folder == store.folder and run.build()
    assert few_shot.work(params(videos, "frozen_clip", pretrained="", seed=4)).found is None


def test_a_video_that_does_not_decode_is_named_and_the_rest_is_whole(tmp_path):
    dataset = folder(tmp_path)
    plan = embedding.plan(params(dataset), 1)
    broken = plan.clips["all"].manifest.path(plan.clips["all"].rows[3])
    broken.write_bytes(broken.read_bytes()[:200])
    said = list(embedding.embed(plan))
    assert said[-2].startswith("whole: 24 videos") and said[-1].startswith("  does not decode: class0/3.mp4: ")
    assert Store(plan.store.folder).lost("class0/3.mp4") and not Store(plan.store.folder).lost("class0/2.mp4")


def test_a_killed_command_goes_on(videos, tmp_path):
    code = (
        "import os, signal\nfrom vidlib.data import features\nfrom vidlib.training import embedding\n"
        "from tests.training.small_store import params\nfeatures.PER_SHARD = 5\n"
        "write, done = embedding._write, []\n"
        "def third(*given):\n    write(*given)\n    done.append(1)\n"
        "    if len(done) == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"embedding._write = third\nlist(embedding.embed(embedding.plan(params({videos!r}), 1)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == -signal.SIGKILL
    plan = embedding.plan(params(videos), 1)
    assert len(plan.store.lacking()) == 3 and [store.folder for store in features.stores()] == [plan.store.folder]
    kept = {shard: (plan.store.folder / f"{shard}.npy").stat().st_mtime_ns for shard in ("all-0000", "all-0001")}
    said = list(embedding.embed(plan))
    assert "14 videos to encode" in said[1] and said[-1].startswith("whole: 24 videos")
    assert kept == {shard: (plan.store.folder / f"{shard}.npy").stat().st_mtime_ns for shard in kept}
    whole = made(videos, views=1, out=str(tmp_path / "undisturbed"))
    assert whole.digest == Store(plan.store.folder).digest


def test_two_writers_share_the_work(videos, tmp_path):
    plan = embedding.plan(params(videos), 1)
    code = (
        "import sys\nfrom vidlib.data import features\nfrom vidlib.training import embedding\n"
        "from tests.training.small_store import params\nfeatures.PER_SHARD = 5\n"
        f"print(*embedding.embed(embedding.plan(params({videos!r}), 1)), sep='\\n')\n"
    )
    at_once = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True)
        for _ in range(2)
    ]
    assert [process.wait(timeout=120) for process in at_once] == [0, 0]
    assert Store(plan.store.folder).lacking() == [] and not list(plan.store.folder.glob("**/.part-*"))
    assert Store(plan.store.folder).digest == made(videos, views=1, out=str(tmp_path / "alone")).digest


def test_a_shard_that_another_process_holds_is_left_to_it(videos):
    plan = embedding.plan(params(videos), 0)
    owner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        claim = plan.store.folder / "claims" / "all-0002.json"
        claim.parent.mkdir(parents=True)
        claim.write_text(f'{{"host": "{lock._host()}", "pid": {owner.pid}, "started": "{lock._started(owner.pid)}"}}')
        assert list(embedding.embed(plan))[-1] == "1 of 5 shards are another process's work still"
        assert Store(plan.store.folder).lacking() == ["all-0002"]
        assert few_shot.work(params(videos)).found is None, "a store that is not whole is passed over"
        with pytest.raises(UserError, match="1 of its 5 shards are not there yet; vidlib data embed"):
            few_shot.work(params(videos, features=str(plan.store.folder)))
    finally:
        owner.kill()
        owner.wait()
    assert list(embedding.embed(plan))[-1].startswith("whole: 24 videos")


def test_a_full_disk_is_one_sentence_and_what_is_done_stays(videos, monkeypatch):
    plan, save, done = embedding.plan(params(videos), 0), np.save, []

    def full(*given, **how):
        done.append(1)
        if len(done) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(*given, **how)

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(UserError, match=r"all-0002.npy cannot be written: No space left on device; free some space"):
        list(embedding.embed(plan))
    assert Store(plan.store.folder).lacking() == ["all-0002", "all-0003", "all-0004"]
    assert not list((plan.store.folder / "claims").glob("*")) and not list(plan.store.folder.glob(".part-*"))
    assert list(embedding.embed(plan))[-1].startswith("whole: 24 videos")


def test_too_small_a_disk_is_said_before_anything_is_written(videos, monkeypatch):
    plan = embedding.plan(params(videos), 0)
    monkeypatch.setattr(embedding.shutil, "disk_usage", lambda path: type("Usage", (), {"free": embedding.MARGIN}))
    with pytest.raises(UserError, match="0.1 MB more do not fit there"):
        list(embedding.embed(plan))
    assert not plan.store.folder.exists()


def test_a_dry_run_writes_nothing(videos):
    plan = embedding.plan(params(videos), 0)
    assert len(list(embedding.embed(plan, dry_run=True))) == 2 and not plan.store.folder.exists()


def test_what_cannot_be_made_is_one_sentence(videos, tmp_path):
    for given, views, said in (({"colour": "queries"}, 1, "views: 1 with .*colour=queries"), ({}, -1, "views: -1")):
        with pytest.raises(UserError, match=said):
            embedding.plan(params(videos, **given), views)
    with pytest.raises(UserError, match="split: test; a folder's splits depend on the episodes"):
        embedding.plan(params(videos), 0, ["test"])
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty and holds no store"):
        embedding.plan(params(videos), 0, out=str(out))
    store = made(videos, views=0, out=str(tmp_path / "store"))
    with pytest.raises(UserError, match=r"holds another store \(test differs\)"):
        embedding.plan(params(videos, frames=4), 0, out=str(store.folder))


def test_a_claim_that_its_owner_gives_back_meanwhile_is_asked_for_again(tmp_path, monkeypatch):
    honest, asked = lock.Lock.acquire, []

    def given_back(self):
        asked.append(1)
        if len(asked) == 1:
            raise UserError("in use by process 1")  # and its file is gone again when we look
        return honest(self)

    monkeypatch.setattr(lock.Lock, "acquire", given_back)
    claim = lock.Lock(tmp_path / "claims" / "all-0000.json")
    assert embedding._had(claim) and len(asked) == 2
    claim.release()
    monkeypatch.setattr(lock.Lock, "acquire", lambda self: (_ for _ in ()).throw(UserError("no space left")))
    with pytest.raises(UserError, match="no space left"):
        embedding._had(claim)
