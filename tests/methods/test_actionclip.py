"""ActionCLIP against its released code, and what each choice of its constructor means."""

import re

import open_clip
import pytest
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from tests.conftest import close, golden
from tests.methods.small import FRAMES, backbone, same, shaken
from vidlib.backbones import clip
from vidlib.backbones.clip import CLIPBackbone
from vidlib.basics.errors import UserError
from vidlib.methods.actionclip import PROMPTS, ActionCLIP
from vidlib.methods.video_text import LabelledBatch, contrast, similarities
from vidlib.results import cost
from vidlib.training import checkpoints

POST = {"meanp": "meanP", "conv1d": "Conv_1D", "lstm": "LSTM", "transf": "Transf", "transf_cls": "Transf_cls"}
VISUAL_PROMPTS = ("joint", "shift", *POST)
NAMES = ["abseiling", "playing basketball", "brushing hair", "air drumming"]


# ---------------------------------------------------------------- the released code


def tower(**text) -> CLIPBackbone:
    """Random weights in the sizes of the golden towers."""
    vision = {"image_size": 32, "patch_size": 8, "width": 128, "layers": 2, "head_width": 64}
    text = {"context_length": 16, "vocab_size": 100, "width": 64, "heads": 4, "layers": 2} | text
    return CLIPBackbone(open_clip.CLIP(32, vision, text, quick_gelu=True), "golden")


def towers_state() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The golden CLIP's state without the time embedding, which only ``joint`` has; all golden tensors."""
    _, tensors = golden("actionclip_vit")
    state = {key.removeprefix("state."): value for key, value in tensors.items() if key.startswith("state.")}
    state.pop("visual.time_embedding")
    return state, tensors


def released(visual_prompt: str = "meanp", **arguments) -> tuple[ActionCLIP, dict[str, Tensor], Tensor]:
    state, tensors = towers_state()
    if visual_prompt == "joint":
        state["visual.time_embedding"] = tensors["state.visual.time_embedding"]
    if visual_prompt == "shift":
        state = {re.sub(r"^(visual\..*resblocks\.\d)", r"\1.net", key): value for key, value in state.items()}
        assert "visual.transformer.resblocks.1.net.ln_1.bias" in state
    method = ActionCLIP(tower(), 8, visual_prompt=visual_prompt, **{"variant": "released"} | arguments)
    method.load_released(state)
    return method.eval(), tensors, rearrange(tensors["input.image"], "(b t) c h w -> b t c h w", t=8)


@pytest.mark.parametrize("grad", [True, False])
def test_equals_the_released_towers(grad):
    method, tensors, clips = released()
    with torch.set_grad_enabled(grad):
        frames = method.backbone.encode_image(tensors["input.image"])
        assert close(frames, tensors["output.encode_image"])
        assert close(method.encode_video(clips), frames.unflatten(0, (2, 8)).mean(1))
        assert close(method.encode_text(tensors["input.text"]), tensors["output.encode_text"])
        logits = method.scale * similarities(frames, method.encode_text(tensors["input.text16"]))
    assert close(logits, tensors["output.logits_per_image"]) and close(logits.mT, tensors["output.logits_per_text"])


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_equals_the_released_joint_and_shifted_towers(variant):
    method, tensors, clips = released("joint", variant=variant)
    assert close(method.encode_video(clips), tensors["output.encode_image_joint"])
    method, tensors, clips = released("shift", variant=variant)
    assert close(method.shifted(tensors["input.image"]), tensors["output.encode_image_tsm"])
    assert close(method.encode_video(clips), tensors["output.encode_image_tsm"].unflatten(0, (2, 8)).mean(1))


def test_equals_the_released_loss_and_its_target():
    method, tensors, _ = released()
    video, text, labels = (tensors[f"input.loss_{name}"] for name in ("image_emb", "text_emb", "labels"))
    with torch.no_grad():
        logits = method.scale * similarities(video, text)
        assert close(logits, tensors["output.loss_logits_per_image"])
        assert close(logits.mT, tensors["output.loss_logits_per_text"])
        truth = (labels[:, None] == labels).float()
        assert torch.equal(truth, tensors["output.loss_gt"])
        assert truth.sum(-1).max() > 1  # some label repeats
        for target, variant in (((10 * truth).softmax(-1), True), (truth / truth.sum(-1, keepdim=True), False)):
            each = [
                (target * (target.clamp(min=1e-30).log() - x.log_softmax(-1))).sum(-1).mean()
                for x in (logits, logits.mT)
            ]
            found = contrast(video, text, labels, method.scale, released=variant)
            assert close(found, (each[0] + each[1]) / 2)
            names = ("loss_img", "loss_txt", "loss_total")
            equal = [close(x, tensors[f"output.{name}"]) for x, name in zip((*each, found), names, strict=True)]
            assert equal == [variant] * 3


@pytest.mark.parametrize("wrapped", ["", "module."])
@pytest.mark.parametrize("visual_prompt", POST)
def test_equals_the_released_heads_in_a_merged_state(visual_prompt, wrapped):
    _, tensors = golden("actionclip_visual_prompt")
    method = ActionCLIP(tower(width=128, heads=2), 8, visual_prompt=visual_prompt, variant="released").eval()
    state = {name: torch.randn_like(value) for name, value in method.backbone.clip.state_dict().items()}
    prefix = f"state.{POST[visual_prompt]}."
    head = {f"fusion.{wrapped}{k.removeprefix(prefix)}": v for k, v in tensors.items() if k.startswith(prefix)}
    method.load_released(state | head)
    assert close(method.head(tensors["input.x"]), tensors[f"output.{POST[visual_prompt]}"])
    assert method.missing == ()
    assert all(torch.equal(value, state[name]) for name, value in method.backbone.clip.state_dict().items())


def test_the_prompts_are_those_of_the_released_code():
    meta, tensors = golden("actionclip_text_prompt")
    text = {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}
    method = ActionCLIP(tower(**text), 8, visual_prompt="meanp", variant="released")
    assert list(method.templates) == meta["templates"] and len(PROMPTS) == 16
    seen = []
    method.encode_text = lambda ids: seen.append(ids) or torch.zeros(len(ids), 32)
    assert method.class_text(meta["class_names"]).shape == (16, 5, 32)
    assert torch.equal(torch.cat(seen), tensors["output.classes"])
    assert torch.equal(torch.cat(seen).unflatten(0, (16, 5)), tensors["output.text_dict"])


def test_a_released_state_that_does_not_fit_is_refused_with_the_names():
    state, tensors = towers_state()
    method = ActionCLIP(tower(), 8, visual_prompt="lstm")
    before = {name: value.clone() for name, value in method.state_dict().items()}
    with pytest.raises(UserError, match=r"lacks ln_final\.weight, logit_scale; it has unknown decoder\.weight"):
        left_out = ("logit_scale", "ln_final.weight")
        wrong = {k: v for k, v in state.items() if k not in left_out} | {"decoder.weight": torch.ones(1)}
        method.load_released(wrong)
    with pytest.raises(UserError, match=r"'lstm': it has unknown visual\.time_embedding"):
        method.load_released(state | {"visual.time_embedding": tensors["state.visual.time_embedding"]})
    with pytest.raises(UserError, match=r"has unknown visual\.transformer\.resblocks\.0\.net\.ln_1\.bias"):
        method.load_released(state | {"visual.transformer.resblocks.0.net.ln_1.bias": torch.ones(128)})
    with pytest.raises(UserError, match=r"lacks fusion\.lstm_visual\.bias_hh_l0.*unknown fusion\.shift\.weight"):
        method.load_released(state | {"fusion.shift.weight": torch.ones(32, 1, 3)})
    with pytest.raises(UserError, match=r"text_projection of shape \(64, 16\) instead of \(64, 32\)"):
        method.load_released(state | {"text_projection": torch.ones(64, 16)})
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    with pytest.raises(UserError, match=r"lacks visual\.time_embedding"):
        ActionCLIP(tower(), 8, visual_prompt="joint").load_released(state)


@pytest.mark.parametrize("frames", [9, 16])
def test_a_released_table_shorter_than_the_clip_is_refused(frames):
    _, tensors = golden("actionclip_visual_prompt")
    state, _ = towers_state()
    for visual_prompt in ("transf", "transf_cls"):
        prefix = f"state.{POST[visual_prompt]}."
        head = {f"fusion.{k.removeprefix(prefix)}": v for k, v in tensors.items() if k.startswith(prefix)}
        method = ActionCLIP(tower(), frames, visual_prompt=visual_prompt)
        if visual_prompt == "transf" and frames <= 12:
            method.load_released(state | head)
            assert torch.equal(method.head.positions, head["fusion.frame_position_embeddings.weight"][:frames])
            continue
        with pytest.raises(UserError, match="of shape .* instead of"):
            method.load_released(state | head)


def test_towers_alone_leave_the_head_and_say_so():
    state, _ = towers_state()
    method = ActionCLIP(tower(), 8, visual_prompt="lstm", objective="one_of_n", classes=5)
    lstm = {name: value.clone() for name, value in method.head.state_dict().items()}
    method.load_released(state)
    assert set(method.missing) == {f"head.{name}" for name in lstm} | {"classifier.weight", "classifier.bias"}
    assert all(torch.equal(value, lstm[name]) for name, value in method.head.state_dict().items())


# ---------------------------------------------------------------- any ActionCLIP


def make(**arguments) -> ActionCLIP:
    return shaken(ActionCLIP(backbone(), **{"frames": FRAMES, **arguments}))


def batch(seed: int = 2) -> LabelledBatch:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor([0, 2, 1, 2, 3])
    ids = backbone().tokenize([PROMPTS[3 * i].format(NAMES[c]) for i, c in enumerate(labels)])
    clips = torch.randn(5, FRAMES, 3, 16, 16, generator=generator)
    return LabelledBatch(clips, labels, ids, backbone().tokenize(NAMES))


@pytest.mark.parametrize("objective", ["video_text", "one_of_n"])
@pytest.mark.parametrize("visual_prompt", VISUAL_PROMPTS)
def test_gradients_reach_what_is_trained_and_nothing_else(visual_prompt, objective):
    method = make(visual_prompt=visual_prompt, objective=objective, classes=4).train()
    outcome = method(batch())
    assert list(outcome.losses) == ["contrast" if objective == "video_text" else "class"]
    assert outcome.hits.shape == (5,) and outcome.hits.dtype == torch.bool and outcome.parts["video"].shape == (5, 16)
    assert outcome.loss.isfinite() and outcome.loss.ndim == 0
    outcome.loss.backward()
    assert [n for n, p in method.trainable().items() if p.grad is None or p.grad.abs().sum() == 0] == []
    assert [n for n, p in method.named_parameters() if not p.requires_grad and p.grad is not None] == []


@pytest.mark.parametrize("visual_prompt", ["joint", "lstm"])
@pytest.mark.parametrize("tune", ["both", "image", "text", "none"])
def test_what_is_trained(tune, visual_prompt):
    own = {"time_embedding"} if visual_prompt == "joint" else {"head"}
    for learned_scale in (True, False):
        method = ActionCLIP(backbone(), FRAMES, visual_prompt=visual_prompt, tune=tune, learned_scale=learned_scale)
        names = dict(method.backbone.clip.named_parameters())
        image = {f"backbone.clip.{name}" for name in names if name.startswith("visual.")}
        text = {f"backbone.clip.{name}" for name in names} - image - {"backbone.clip.logit_scale"}
        wanted = {"both": image | text, "image": image, "text": text, "none": set()}[tune]
        wanted = wanted | ({"backbone.clip.logit_scale"} if learned_scale else set())
        trained = method.trainable().keys()
        assert {name for name in trained if name.startswith("backbone")} == wanted
        assert {name.split(".")[0] for name in trained - wanted} == own


def test_the_unimodal_baseline_has_no_text():
    for tune, trains in (("both", True), ("image", True), ("none", False)):
        method = ActionCLIP(backbone(), FRAMES, tune=tune, objective="one_of_n", classes=4)
        parts = {".".join(name.split(".")[:3]) for name in method.trainable() if name.startswith("backbone")}
        assert parts == ({"backbone.clip.visual"} if trains else set())
        assert not method.uses_text and {"classifier.weight", "classifier.bias"} <= method.trainable().keys()
    assert ActionCLIP.uses_text and make().uses_text


def test_the_classifier_is_trained_by_cross_entropy_and_scores_by_softmax():
    method, given = make(objective="one_of_n", classes=4, visual_prompt="transf").eval(), batch()
    with torch.no_grad():
        outcome, features = method(given), method.embed(given.clips)
        scores = method.score(features, torch.randn(16, 4, 16))
        logits = features["video"] @ method.classifier.weight.T + method.classifier.bias
        assert same(outcome.loss, F.cross_entropy(logits, given.labels))
        assert same(scores, logits.softmax(-1)) and torch.equal(scores.argmax(-1) == given.labels, outcome.hits)
        assert torch.equal(method.scores(given.clips, NAMES), scores)
        with pytest.raises(UserError, match="its 4 training classes.*the scores of 3"):
            method.scores(given.clips, NAMES[:3])


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_the_loss_is_the_contrast_of_videos_and_their_sentences(variant):
    method, given = make(variant=variant).eval(), batch()
    with torch.no_grad():
        outcome = method(given)
        video, text = method.encode_video(given.clips), method.encode_text(given.ids)
        assert torch.equal(outcome.parts["video"], video) and torch.equal(outcome.parts["text"], text)
        scale = method.backbone.log_scale.exp()
        wanted, other = (contrast(video, text, given.labels, scale, x == variant) for x in ("released", "paper"))
        assert torch.equal(outcome.loss, wanted) and not torch.equal(outcome.loss, other)
        found = (F.normalize(video, dim=-1) @ F.normalize(text, dim=-1).T).argmax(-1)
        assert torch.equal(outcome.hits, given.labels[found] == given.labels)


@pytest.mark.parametrize(("variant", "scale"), [("paper", 7.0), ("released", 100.0)])
def test_scores_are_the_mean_over_templates_of_softmax_over_classes(variant, scale):
    method = make(variant=variant, visual_prompt="meanp").eval()
    clips = batch().clips
    with torch.no_grad():
        method.backbone.log_scale.fill_(torch.tensor(7.0).log())
        scores, video = method.scores(clips, NAMES), F.normalize(method.encode_video(clips), dim=-1)
        each = []
        for template in PROMPTS:
            text = method.encode_text(method.backbone.tokenize([template.format(name) for name in NAMES]))
            each.append((scale * video @ F.normalize(text, dim=-1).T).softmax(-1))
    assert same(scores, torch.stack(each).mean(0), 1e-4) and same(scores.sum(-1), torch.ones(5))
    assert not same(scores, each[0], 1e-3)


def test_templates():
    assert make().templates == make(templates="prompts").templates == PROMPTS
    assert make(templates="label_words").templates == ("{}",)
    method = make(templates=["a {}", "the {}"])
    assert method.templates == ("a {}", "the {}") and method.class_text(NAMES).shape == (2, 4, 16)


@pytest.mark.parametrize("visual_prompt", VISUAL_PROMPTS)
def test_a_video_depends_on_no_other_and_on_the_order_of_its_frames(visual_prompt):
    method, clips = make(visual_prompt=visual_prompt).eval(), batch().clips
    with torch.no_grad():
        together = method.encode_video(clips)
        assert same(method.encode_video(clips[1:3]), together[1:3])
        changed = clips.clone()
        changed[0, -1] += 1
        after = method.encode_video(changed)
        assert same(after[1:], together[1:]) and not same(after[0], together[0])
        ordered = not same(method.encode_video(clips.flip(1)), together, 1e-4)
    assert ordered == (visual_prompt != "meanp")


@pytest.mark.parametrize("visual_prompt", VISUAL_PROMPTS)
def test_trained_weights_saved_and_loaded_give_the_same_bits(visual_prompt, tmp_path):
    trained, clips = make(visual_prompt=visual_prompt).eval(), batch().clips
    checkpoints.save_trainable(trained, tmp_path / "weights.safetensors")
    fresh = ActionCLIP(backbone(), FRAMES, visual_prompt=visual_prompt).eval()
    assert not torch.equal(fresh.scores(clips, NAMES), trained.scores(clips, NAMES))
    checkpoints.load_trainable(fresh, tmp_path / "weights.safetensors")
    assert torch.equal(fresh.scores(clips, NAMES), trained.scores(clips, NAMES))


@pytest.mark.parametrize("objective", ["video_text", "one_of_n"])
@pytest.mark.parametrize("visual_prompt", VISUAL_PROMPTS)
def test_bfloat16_autocast_is_finite_and_close(visual_prompt, objective):
    method, given = make(visual_prompt=visual_prompt, objective=objective, classes=4).eval(), batch()
    exact = method(given)
    with torch.autocast("cpu", torch.bfloat16):
        outcome = method(given)
        scores = method.score(method.embed(given.clips), method.class_text(NAMES))
    assert (outcome.parts["video"] - exact.parts["video"]).abs().max() < 0.1 * exact.parts["video"].abs().max()
    assert outcome.loss.isfinite() and abs(outcome.loss - exact.loss) < 0.2 * exact.loss
    assert scores.dtype == torch.float32 and torch.allclose(scores.sum(-1), torch.ones(5), atol=1e-5)
    outcome.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.trainable().values())


def test_rates_are_those_of_the_head_and_the_classifier():
    method = make(objective="one_of_n", classes=4)
    fast = {name for name in method.trainable() if any(name.startswith(start) for start in method.rates)}
    assert fast == {name for name in method.trainable() if not name.startswith("backbone.")}
    assert set(method.rates.values()) == {10.0} and set(make(head_lr=3).rates.values()) == {3}


def test_sizes_on_vit_b_32():
    with torch.device("meta"):
        method = ActionCLIP(clip.load("ViT-B-32-quickgelu", ""), 8)
    table = cost.parameters(method)
    assert table.total["image tower"] + table.total["text tower"] == 151_277_313  # CLIP's, temperature included
    assert table.total["head"] == 6 * 3_152_384 + 8 * 512
    assert table.total["all"] == table.trainable["all"] == 151_277_313 + table.total["head"]


def test_unsettled_choices_are_told():
    told = {name: value for name, value, _ in make(head_lr=3.0, learned_scale=False).unsettled()}
    assert told == {"learned_scale": False, "head_lr": 3.0}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"visual_prompt": "lstms"}, "visual_prompt must be one of 'joint', 'shift', 'meanp'.*'lstms'"),
        ({"variant": "new"}, "variant must be one of 'paper', 'released'"),
        ({"tune": "all"}, "tune must be one of 'both', 'image', 'text', 'none', got 'all'"),
        ({"objective": "cross_entropy"}, "objective must be one of 'video_text', 'one_of_n'"),
        ({"objective": "one_of_n"}, "classes must be the number of training classes.*None"),
        ({"objective": "one_of_n", "classes": 4, "tune": "text"}, "tune 'text'"),
        ({"templates": "sixteen"}, "templates must be one of 'prompts', 'label_words', got 'sixteen'"),
        ({"templates": ["no place"]}, r"templates must be one or more strings that contain \{\}"),
        ({"templates": []}, "templates must be one or more strings"),
        ({"head_lr": 0}, "head_lr must be positive, got 0"),
    ],
)
def test_wrong_arguments_are_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        ActionCLIP(backbone(), FRAMES, **arguments)


def test_clips_of_another_length_are_refused():
    with pytest.raises(UserError, match=f"clips have {FRAMES + 1} frames"):
        make().encode_video(torch.randn(1, FRAMES + 1, 3, 16, 16))
