"""What speaks for a class, in the trained methods of runs."""

import numpy as np
import torch

from vidlib.data.episodes import assemble
from vidlib.studies import looking
from vidlib.training import few_shot
from vidlib.viz import filmstrip, gradcam


def test_runs_are_looked_at_on_a_query_of_val(sloshnet):
    _, manifest, run = sloshnet
    frames, cls, maps = looking.gradcam_maps(manifest, {"SloshNet": run}, query=1, stage=2)
    method, val = few_shot.open_trained(run, manifest)
    episode = val.sampler[0]
    clip = val.clips.test(int(episode.query[1]))
    assert np.array_equal(frames, filmstrip.to_uint8(clip, method.backbone.mean, method.backbone.std))
    assert cls == manifest.text(episode.classes[episode.query_labels[1]])
    whole = assemble(val.clips, [episode], val.text, train=False)
    assert torch.allclose(maps["SloshNet"], gradcam.query_map(method, whole, 1, 1, stage=2))
