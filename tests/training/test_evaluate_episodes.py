"""Embedding once gives what embedding every episode gives; intervals, tables, controls and pairs are what they say."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from tests.tiny import Tiny, TinyClips, sampler, texts
from vidlib.basics.errors import UserError
from vidlib.methods.base import Match
from vidlib.results.accuracy import NEAR, Evaluation, paired
from vidlib.results.intervals import half_width
from vidlib.training import controls, evaluate_episodes
from vidlib.training.evaluate_episodes import (
    embed_videos,
    evaluate,
    evaluate_each_episode,
    match_episodes,
)


def run(method=None, split="test", episodes=40, noise=1.5, draw=None, **how) -> Evaluation:
    method, draw = method or Tiny().eval(), draw or sampler(split)
    return evaluate(method, TinyClips(split, noise), draw, episodes, texts(split), device="cpu", **how)


@pytest.mark.parametrize("shot, query", [(1, 1), (2, 3), ((1, 3, 2), 2)])
def test_embedding_once_equals_embedding_every_episode(shot, query):
    method, draw = Tiny().train(), sampler("test", shot=shot, query=query)
    once = run(method, draw=draw, keep_parts=True)
    anew = evaluate_each_episode(method, TinyClips("test", 1.5), draw, 40, texts("test"), keep_parts=True)
    sure = anew.margin > NEAR
    assert sure.mean() > 0.9 and not method.training
    assert np.array_equal(once.predicted[sure], anew.predicted[sure])
    assert np.allclose(once.logits, anew.logits, atol=1e-5)
    assert np.allclose([p["text"] for p in once.parts], [p["text"] for p in anew.parts], atol=1e-5)
    assert (once.how, anew.how) == ("embed once", "each episode") and once.checksum == anew.checksum
    assert 0.34 < once.accuracy < 1  # well over chance, and not so easy that nothing could differ


def test_every_video_is_read_once_and_embedded_once_per_role():
    calls = []

    class Counting(Tiny):
        def embed(self, clips, text, role):
            calls.append((role, len(clips)))
            return super().embed(clips, text, role)

    clips = TinyClips("test")
    evaluate(Counting(), clips, sampler("test"), 300, texts("test"), device="cpu")
    videos = len(clips.rows)
    assert clips.reads == videos
    assert [sum(n for role, n in calls if role == name) for name in ("support", "query")] == [videos, videos]


def test_support_gets_the_text_of_its_own_class():
    """A method that answers from the support's text alone is right exactly when that text is its class's."""

    class Telling(Tiny):
        def embed(self, clips, text, role):
            if text is not None:
                return {"class": torch.cdist(text, texts("test")).argmin(-1)}
            paths = torch.stack([TinyClips("test", 0.0).test(6 * c) for c in range(5)])
            return {"class": (clips[:, None] - paths).square().flatten(2).sum(-1).argmin(-1)}

        def match(self, support, labels, query, text, targets=None):
            own = torch.zeros(*query["class"].shape, text.shape[1])
            same = (query["class"][:, :, None] == support["class"][:, None]).float()
            own.scatter_add_(2, labels[:, None].expand_as(same), same)
            return Match(own)

    draw = sampler("test")
    for result in (
        evaluate(Telling(), TinyClips("test", 0.0), draw, 50, texts("test"), device="cpu"),
        evaluate_each_episode(Telling(), TinyClips("test", 0.0), draw, 50, texts("test")),
    ):
        assert result.accuracy == 1.0
    wrong = evaluate(Telling(), TinyClips("test", 0.0), draw, 50, texts("test"), device="cpu", control="texts_permuted")
    assert wrong.accuracy < 0.8


def test_matching_in_batches_equals_one_by_one(monkeypatch):
    method, draw, clips = Tiny().eval(), sampler("test", query=2), TinyClips("test", 1.5)
    listed = [draw[i] for i in range(23)]
    features = embed_videos(method, clips, listed, texts("test"))
    one = match_episodes(method, features, draw, listed, texts("test"), batch=1, keep_parts=True)
    many = match_episodes(method, features, draw, listed, texts("test"), batch=7, keep_parts=True)
    monkeypatch.setattr(evaluate_episodes, "GATHERED", 1)
    tight = match_episodes(method, features, draw, listed, texts("test"), keep_parts=True)
    assert np.allclose(one.logits, many.logits, atol=1e-6) and np.allclose(one.logits, tight.logits, atol=1e-6)
    assert np.array_equal(one.truth, many.truth) and np.array_equal(one.episode, np.repeat(np.arange(23), 6))


def test_interval_and_tables():
    result = run(episodes=60, draw=sampler("test", query=2))
    low, high = stats.t.interval(0.95, 59, result.accuracy, stats.sem(result.per_trial))
    assert result.interval == pytest.approx((high - low) / 2)
    assert result.accuracy == pytest.approx(result.per_trial.mean())
    assert half_width(np.array([0.5])) == math.inf
    table, counts = result.per_class(), result.confusion
    assert counts.sum() == 60 * 6 and counts.diagonal().sum() == round(result.accuracy * 360)
    assert list(table["class"]) == list(result.classes) and table["queries"].sum() == 360
    hits = result.truth == result.predicted
    assert table["accuracy"][2] == pytest.approx(hits[result.truth == 2].mean())
    assert np.allclose([hits[result.episode == i].mean() for i in range(60)], result.per_trial)
    assert "conditional on one trained model" in str(result)


def test_paired_interval_is_of_the_differences():
    a, b = run(), run(noise=3.0)
    compared = paired(a, b)
    difference = a.per_trial - b.per_trial
    assert compared.difference == pytest.approx(a.accuracy - b.accuracy) and compared.difference > 0
    assert compared.interval == pytest.approx(half_width(difference))
    with pytest.raises(UserError, match="different episodes"):
        paired(a, run(draw=sampler("test", seed=1)))
    with pytest.raises(UserError, match="different episodes"):
        paired(a, run(episodes=39))


def test_near_ties_are_counted():
    class Undecided(Tiny):
        def match(self, *args, **rest):
            match = super().match(*args, **rest)
            match.logits = torch.zeros_like(match.logits)
            return match

    assert run(Undecided(), episodes=10).near_ties == 30
    result = run()
    assert result.near_ties == (result.margin < NEAR).sum() < 5


def test_shuffled_frames_hurt_and_are_the_same_every_time():
    plain, shuffled = run(noise=0.3), run(noise=0.3, control="frames_shuffled")
    gap = paired(plain, shuffled)
    assert gap.difference > gap.interval and plain.accuracy > shuffled.accuracy + 0.1
    again = run(noise=0.3, control="frames_shuffled")
    assert np.array_equal(shuffled.predicted, again.predicted)
    assert shuffled.controls == {"frame_order": "shuffled", "text_order": "own"}
    clips = TinyClips("test")
    other = controls.ShuffledFrames(clips, "test")
    for row in range(10):
        a, b = clips.test(row), other.test(row)
        assert not torch.equal(a, b) and torch.equal(a.flatten(1).sort(0).values, b.flatten(1).sort(0).values)


def test_controls_together_are_the_controls_one_by_one():
    method, split = Tiny(), "test"
    given = (method, TinyClips(split), sampler(split), 30, texts(split))
    together = evaluate_episodes.evaluate_with_controls(*given)
    assert tuple(together) == controls.CONTROLS
    for name in controls.CONTROLS:
        alone = evaluate(*given, control=name)
        assert np.array_equal(together[name].predicted, alone.predicted) and together[name].controls == alone.controls
    assert not np.array_equal(together[""].predicted, together["frames_shuffled"].predicted)
    assert not np.array_equal(together[""].predicted, together["texts_permuted"].predicted)


def test_permuted_texts_leave_no_class_its_own():
    for classes in (2, 5, 24):
        text = torch.randn(classes, 3)
        other = controls.permuted(text)
        assert not (text == other).all(1).any()
        assert torch.equal(text.sort(0).values, other.sort(0).values)
    templates = torch.arange(2 * 5 * 3.0).reshape(2, 5, 3)
    other = controls.permuted(templates)
    assert other.shape == templates.shape and not (other == templates).all(-1).any()
    order = [int((templates[0] == row).all(-1).nonzero()) for row in other[0]]
    assert torch.equal(other[1], templates[1][order]), "all templates alike"


def test_a_control_is_known_or_refused():
    assert run(control="texts_permuted").controls == {"frame_order": "in order", "text_order": "permuted"}
    with pytest.raises(UserError, match="control: 'texts_permutted' is not one of frames_shuffled, texts_permuted"):
        run(control="texts_permutted")


def test_remix_gives_the_result_of_another_mix():
    result = run(keep_parts=True)
    same = result.remix(lambda parts: parts["visual"] + 0.1 * parts["text"])
    assert np.array_equal(same.predicted, result.predicted) and same.checksum == result.checksum
    text = result.remix(lambda parts: parts["text"])
    assert np.array_equal(text.predicted[:3], result.episodes[0].class_ids[result.parts[0]["text"].argmax(-1)])
    assert paired(result, text).trials == 40
    with pytest.raises(UserError, match="keep_parts"):
        run().remix(lambda parts: parts["text"])


def test_a_method_that_cannot_be_cut_runs_episode_by_episode():
    class Whole(Tiny):
        whole_episode = True

    result = run(Whole(), episodes=5)
    assert result.how == "each episode" and np.array_equal(result.predicted, run(episodes=5).predicted)


def test_clips_that_vary_by_episode_are_read_in_every_episode():
    class Varying(TinyClips):
        by_episode = True

        def drawn(self, row, episode, slot, role):
            return self.test(row) + 0.5 * self._draw(f"{episode} {slot} {role}", *self.test(row).shape).to(self.dtype)

    given = (Tiny(), Varying("test"), sampler("test"), 12, texts("test"))
    result, still = evaluate(*given, device="cpu"), run(episodes=12)
    assert result.how == "each episode" and not np.allclose(result.margin, still.margin)
    assert np.array_equal(result.margin, evaluate(*given, device="cpu").margin)
    together = evaluate_episodes.evaluate_with_controls(*given)
    assert {found.how for found in together.values()} == {"each episode"}
    assert not np.array_equal(together["frames_shuffled"].margin, together[""].margin)


def test_logits_that_are_not_finite_stop():
    method = Tiny()
    method.text_scale.data.fill_(math.nan)
    with pytest.raises(UserError, match="logits of test episode 0"):
        run(method, episodes=3)


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_other_precisions(precision):
    result = run(precision=precision, noise=0.3)
    assert abs(result.accuracy - run(noise=0.3).accuracy) < 0.1
