"""CLIP-FSAR against its released code, head and both inference forms."""

import open_clip
import pytest
import torch

from tests.conftest import golden
from tests.literal import clip_fsar as literal
from tests.methods.small import batch, make, same
from vidlib import methods
from vidlib.backbones.clip import CLIPBackbone

VISION = {"image_size": 16, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8}
TEXT = {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}
CASES = [(1, True), (5, True), (5, False)]


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-4, atol=1e-6)


def released(merge_before: bool, **arguments):
    meta, tensors = golden("clip_fsar")
    config = meta["config"]
    tower = CLIPBackbone(open_clip.CLIP(tensors["input.query"].shape[-1], VISION, TEXT), "golden")
    still = {"dropout": 0.0, "ffn_dropout": 0.0, "variant": "released", "merge_before": merge_before}
    method = methods.build("clip_fsar", tower, frames=config["frames"], **still, **arguments)
    method.load_released({k.removeprefix("state."): v for k, v in tensors.items() if k.startswith("state.")})
    return method, tensors


def run(method, tensors, shot: int, texts: str):
    """The head on golden frames: the match, and all videos' backbone means."""
    labels = tensors[f"input.support_labels_{shot}shot"]
    real = tensors[f"input.real_support_labels_{shot}shot"]
    ids = torch.stack([real[labels == c][0] for c in range(int(labels.max()) + 1)])
    text = tensors[f"input.{texts}"][ids]
    own = text[labels] if method.support_text else None
    support = method.embed_frames(tensors[f"input.support_{shot}shot"], own, "support")
    query = method.embed_frames(tensors["input.query"], None, "query")
    match = method.match(
        {k: v[None] for k, v in support.items()}, labels[None], {k: v[None] for k, v in query.items()}, text[None]
    )
    return match, torch.cat([support["pooled"], query["pooled"]])


@pytest.mark.parametrize(("shot", "merge"), CASES)
def test_equals_the_released_training_outputs(shot, merge):
    method, tensors = released(merge)
    match, pooled = run(method.train(), tensors, shot, "text_train")
    name = f"output.train_{shot}shot_mergebefore{int(merge)}"
    assert close(match.logits[0], tensors[f"{name}_logits"])
    assert close(method.class_logits(pooled[None], tensors["input.text_train"])[0], tensors[f"{name}_class_logits"])


@pytest.mark.parametrize(("shot", "merge"), CASES)
@pytest.mark.parametrize("form", ["visual", "text", "combine09", "combine05_single"])
def test_equals_the_released_evaluation_scores(shot, merge, form):
    arguments = {
        "visual": {},
        "text": {"inference": "text"},
        "combine09": {"inference": "combined", "text_coefficient": 0.9},
        "combine05_single": {
            "inference": "combined",
            "text_coefficient": 0.5,
            "metric_options": {"lam": 0.5, "bidirectional": False},
        },
    }[form]
    method, tensors = released(merge, **arguments)
    match, _ = run(method.eval(), tensors, shot, "text_test")
    scores = match.logits[0] if form == "visual" else match.logits[0].exp()
    wanted = f"text_{shot}shot" if form == "text" else f"{form}_{shot}shot_mergebefore{int(merge)}"
    assert close(scores, tensors[f"output.eval_{wanted}_logits"])


@pytest.mark.parametrize("shot", [1, 5])
def test_equals_the_literal_version(shot):
    method, tensors = released(True)
    match, _ = run(method.eval(), tensors, shot, "text_test")
    labels, real = (tensors[f"input.{kind}support_labels_{shot}shot"] for kind in ("", "real_"))
    texts = torch.stack([tensors["input.text_test"][real[labels == c][0]] for c in range(int(labels.max()) + 1)])
    videos = tensors[f"input.support_{shot}shot"], labels, tensors["input.query"]
    assert close(match.logits[0], literal.logits(*videos, texts, method.context.state_dict()))


def test_equals_the_released_transformer():
    method, tensors = released(True)
    assert close(method.eval().modulate(tensors["input.query"], None), tensors["output.context2_selfattn"])


@pytest.mark.parametrize(("shot", "merge"), CASES)
def test_a_single_support_modulated_beforehand_gives_what_its_mean_gives(shot, merge):
    method, tensors = released(merge)
    beforehand, _ = run(method.eval(), tensors, shot, "text_test")
    embed, seen = method.embed_frames, []

    def without(*arguments):
        seen.append({k: v for k, v in embed(*arguments).items() if arguments[2] == "query" or "metric." not in k})
        return seen[-1]

    method.embed_frames = without
    later, _ = run(method, tensors, shot, "text_test")
    assert list(seen[0]) == ["pooled", "frames"] and close(beforehand.logits, later.logits)


def test_parameters_of_vit_b_16():
    from vidlib.backbones import clip

    with torch.device("meta"):
        method = methods.build("clip_fsar", clip.load("ViT-B-16-quickgelu", ""), frames=8)
    trained = method.trainable()
    assert sum(p.numel() for n, p in trained.items() if n.startswith("backbone")) == 86_192_640
    assert sum(p.numel() for n, p in trained.items() if n.startswith("context")) == 3_149_824
    assert not any(".transformer." in n and ".visual." not in n for n in trained)  # the text tower stays


def test_variants_differ_where_the_docstring_says():
    episodes = batch()
    ours, theirs = (make("clip_fsar", variant=variant).eval()(episodes) for variant in ("paper", "released"))
    assert torch.equal(ours.logits, theirs.logits) and torch.equal(ours.losses["q2s"], theirs.losses["q2s"])
    assert not torch.equal(ours.losses["text"], theirs.losses["text"])
    paper, code = make("clip_fsar").mix(ours.parts, 0.0), make("clip_fsar", variant="released").mix(ours.parts, 0.0)
    assert same(paper, (ours.parts["q2s"] / 3).log_softmax(-1)) and same(code, (ours.parts["q2s"] / 8).log_softmax(-1))


def test_the_text_term_reads_all_training_classes_and_its_weight():
    episodes = batch()
    light, heavy = (make("clip_fsar", text_loss_weight=w).eval()(episodes).losses for w in (1.0, 3.0))
    assert same(3 * light["text"], heavy["text"]) and torch.equal(light["q2s"], heavy["q2s"])
    episodes.targets.all_text[:] = torch.randn_like(episodes.targets.all_text)
    assert not same(make("clip_fsar").eval()(episodes).losses["text"], heavy["text"])


def test_frozen_tower_trains_the_head_alone():
    names = make("clip_fsar", finetune="frozen").trainable()
    assert "scale" in names and not any(n.startswith("backbone") for n in names)
