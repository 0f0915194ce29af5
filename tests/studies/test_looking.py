"""What speaks for a class, in the trained methods of runs."""

import numpy as np
import torch

from tests.data.small import write_folder
from vidlib.data.episodes import assemble
from vidlib.params.few_shot import RunParams
from vidlib.studies import looking
from vidlib.training import few_shot
from vidlib.viz import filmstrip, gradcam


def test_runs_are_looked_at_on_a_query_of_val(tmp_path):
    p = RunParams(
        method="sloshnet",
        dataset=f"folder:{write_folder(tmp_path / 'clips', classes=7, clips=3)}",
        backbone="resnet-mini",
        pretrained="",
        way=2,
        frames=2,
        train_episodes=0,
        val_episodes=0,
        test_episodes=1,
        device="cpu",
        runs=str(tmp_path / "runs"),
    )
    manifest = few_shot.open_manifest(p)
    run = few_shot.run(p)
    frames, cls, maps = looking.gradcam_maps(manifest, {"SloshNet": run}, query=1, stage=2)
    method, val = few_shot.open_trained(run, manifest)
    episode = val.sampler[0]
    clip = val.clips.test(int(episode.query[1]))
    assert np.array_equal(frames, filmstrip.to_uint8(clip, method.backbone.mean, method.backbone.std))
    assert cls == manifest.text(episode.classes[episode.query_labels[1]])
    whole = assemble(val.clips, [episode], val.text, train=False)
    assert torch.allclose(maps["SloshNet"], gradcam.query_map(method, whole, 1, 1, stage=2))
