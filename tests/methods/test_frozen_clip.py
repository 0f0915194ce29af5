"""Frozen CLIP: open_clip's features, nothing trained."""

import torch

from tests.methods.small import FRAMES, WAY, batch, make, same


def test_features_are_open_clips():
    method, clips = make("frozen_clip").eval(), torch.randn(2, FRAMES, 3, 16, 16)
    with torch.no_grad():
        frames = method.backbone.encode_image(clips.flatten(0, 1)).view(2, FRAMES, -1)
        found = method.embed(clips, None, "query")
    assert torch.equal(found["metric.frames"], frames) and torch.equal(found["pooled"], frames.mean(1))


def test_nothing_trains_even_with_a_metric_that_could():
    assert make("frozen_clip", metric="trx").trainable() == {}


def test_a_support_video_as_query_is_nearest_to_itself():
    method, episodes = make("frozen_clip", metric="cosine").eval(), batch(episodes=1)
    episodes.query, episodes.targets = episodes.support.clone(), None
    assert torch.equal(method(episodes).logits.argmax(-1), episodes.support_labels)


def test_text_weight_mixes_in_the_zero_shot_scores():
    episodes = batch()
    without, with_text = make("frozen_clip").eval()(episodes), make("frozen_clip", text_weight=1.0).eval()(episodes)
    assert same(without.logits, without.parts["q2s"].log_softmax(-1))
    assert same(with_text.logits, without.parts["q2t"].log_softmax(-1))
    assert with_text.logits.shape[-1] == WAY
