"""M2-CLIP against its released code."""

import open_clip
import pytest
import torch
from einops import rearrange
from torch import multiprocessing
from torch.nn import functional as F

from tests.conftest import close, golden
from tests.methods.small import FRAMES, TEXT, VISION, same, shaken
from vidlib.backbones.clip import CLIPBackbone
from vidlib.basics.errors import UserError
from vidlib.data.labelled import LabelledBatch
from vidlib.methods.m2clip import HEADS, M2CLIP
from vidlib.training.checkpoints import load_trainable, save_trainable

CLASSES, WORDS, CONTEXT = 5, 7, 12
FIXTURES = ("m2clip", "m2clip_mlponly")
BOTH = ("attention", "mlp")


def backbone(seed: int = 0, width: int = 16) -> CLIPBackbone:
    torch.manual_seed(seed)
    text = {**TEXT, "width": width, "layers": 2}
    return CLIPBackbone(open_clip.CLIP(16, VISION, text, quick_gelu=True), "small")


def build(seed: int = 0, **arguments) -> M2CLIP:
    known = {"classes": CLASSES, "vocabulary": WORDS, "width": 6, "text_width": 6, "dropout": 0.0}
    return M2CLIP(backbone(seed), FRAMES, **{**known, **arguments})


def make(**arguments) -> M2CLIP:
    return shaken(build(**arguments))


def sentences(number: int, generator: torch.Generator) -> torch.Tensor:
    ids = torch.randint(1, 49000, (number, CONTEXT), generator=generator)
    for row, length in zip(ids, torch.randint(4, CONTEXT, (number,), generator=generator), strict=True):
        row[0], row[length], row[length + 1 :] = 49406, 49407, 0
    return ids


def batch(size: int = 4, seed: int = 2) -> LabelledBatch:
    g = torch.Generator().manual_seed(seed)
    clips = torch.randn(size, FRAMES, 3, 16, 16, generator=g)
    labels = torch.arange(size) % 3
    words = torch.full((size, CONTEXT), -100)
    words[:, 2] = torch.randint(WORDS, (size,), generator=g)
    words[0, 1] = 3  # so that processes have different numbers of them
    ids, class_ids, masked = (sentences(n, g) for n in (size, CLASSES, size))
    return LabelledBatch(clips, labels, ids, class_ids, masked, words)


def close_for_its_size(a: torch.Tensor, b: torch.Tensor) -> bool:
    """For a residual stream that reaches 760, where 1e-5 is less than float32 tells apart: the golden itself is up to
    4e-4 from the same network in float64, as ours is."""
    return torch.allclose(a, b, rtol=1e-4, atol=1e-6 * b.abs().max().item()) and (a - b).norm() <= 1e-6 * b.norm()


# ---- the released code


def released(fixture: str, variant: str = "released", state=None, **arguments):
    """The method with the fixture's weights, its batch, what it should give."""
    meta, tensors = golden(fixture)
    c = meta["config"]
    parts: dict[str, dict[str, torch.Tensor]] = {"input": {}, "state": {}, "output": {}}
    for key, value in tensors.items():
        part, name = key.split(".", 1)
        parts[part][name] = value
    vision = {"image_size": c["image_resolution"], "patch_size": c["vision_patch_size"], "width": c["vision_width"]}
    vision |= {"layers": c["vision_layers"], "head_width": 64}
    text = {"context_length": c["context_length"], "vocab_size": c["vocab_size"], "width": c["transformer_width"]}
    text |= {"heads": c["transformer_heads"], "layers": c["transformer_layers"] - 1}
    method = M2CLIP(
        CLIPBackbone(open_clip.CLIP(c["embed_dim"], vision, text, quick_gelu=True), "golden"),
        c["num_frames"],
        classes=c["num_classes"],
        vocabulary=c["mlm_head_len"],
        width=c["vision_adapter_width"],
        text_width=c["text_adapter_width"],
        adapter_places=BOTH if c["vision_adapter_pre_attn"] else ("mlp",),
        text_adapter_places=BOTH if c["text_adapter_pre_attn"] else ("mlp",),
        text_adapter_layers=c["text_adapter_layers"],
        variant=variant,
        **arguments,
    )
    method.load_released(parts["state"] if state is None else state)
    given = parts["input"]
    clips = rearrange(given["video"], "b c t h w -> b t c h w")
    whole = LabelledBatch(
        clips, given["labels"], given["text"], given["class_text"], given["text"], given["mlm_labels"]
    )
    return method.eval(), whole, given, parts["output"], parts["state"]


@pytest.mark.parametrize("fixture", FIXTURES)
@pytest.mark.parametrize("grad", [True, False])
def test_equals_the_released_towers_and_heads(fixture, grad):
    method, whole, _, wanted, _ = released(fixture)
    with torch.set_grad_enabled(grad):
        features = method.embed(whole.clips)
        assert close(features["video"], wanted["video_feature"])
        assert close(features["frames"], wanted["frame_features"])
        assert close(features["logits"], wanted["fc_logits"])
        text = method.encode_text(whole.ids)
        assert close(text, wanted["text_feature"])
        assert close_for_its_size(method.text_states(whole.ids), wanted["text_tokens"])
        assert close(method.word_head(method.decode(whole.ids, features["frames"])), wanted["mlm_logits"])
        assert close(F.normalize(features["video"], dim=-1), wanted["image_embedding_normalised"])
        logits = method.scale * F.normalize(features["video"], dim=-1) @ F.normalize(text, dim=-1).T
        assert close(logits, wanted["logits_per_image"]) and close(logits.T, wanted["logits_per_text"])
        told = method.score(features, method.encode_text(whole.class_ids)[None])
        assert close(told, wanted["class_similarity_softmax"])


@pytest.mark.parametrize("fixture", FIXTURES)
def test_equals_the_released_adapters_and_block(fixture):
    method, _, given, wanted, _ = released(fixture)
    block, adapters, tokens = method.backbone.blocks[1], method.visual_adapters[1], given["tokens"]
    time = {"t": method.frames}
    with torch.no_grad():
        assert close(adapters["mlp"](tokens), wanted["adapter_mlp_block1"])
        patches = rearrange(tokens[:, 1:], "(b t) n d -> b t n d", **time)
        assert close(adapters["mlp"].difference(patches).flatten(0, 1), wanted["offset_adapter_block1"])
        assert close(method.image_block(block, adapters, tokens), wanted["block1"])
        frames = method.frame_adapter(rearrange(given["frame_vec"], "(b t) c -> b t c", **time))
        assert close(frames.flatten(0, 1), wanted["t_adapter"])


@pytest.mark.parametrize("fixture", FIXTURES)
def test_equals_the_released_losses_and_total(fixture):
    method, whole, _, wanted, _ = released(fixture)
    found = method(whole)
    same_class = (whole.labels[:, None] == whole.labels).float()
    target = (10 * same_class).softmax(-1)  # the two directions, whose mean is our term
    both = [F.kl_div(wanted[f"logits_per_{x}"].log_softmax(-1), target, reduction="sum") / 3 for x in ("image", "text")]
    assert close(both[0], wanted["loss_kl_image"]) and close(both[1], wanted["loss_kl_text"])
    assert close(found.losses["contrastive"], 0.25 * (wanted["loss_kl_image"] + wanted["loss_kl_text"]))
    assert close(found.losses["cross_modal"], 0.5 * wanted["loss_cross_modal_ce"])
    assert close(found.losses["visual"], wanted["loss_fc"])
    assert close(found.parts["class_logits"].softmax(-1), wanted["class_similarity_softmax"])
    assert wanted["loss_mlm_all_ignored"].isnan()
    assert found.losses["mlm"] == 0 and not found.losses["mlm"].requires_grad and not method.masks_words
    paper = released(fixture, "paper")[0](whole)
    assert close(paper.losses["mlm"], 0.1 * wanted["loss_mlm"])
    assert close(paper.losses["visual"], wanted["loss_fc"])
    assert close(found.loss + paper.losses["mlm"], wanted["loss_total"])


def test_the_paper_variant_uses_the_ground_truth_and_one_softmax():
    method, whole, _, wanted, _ = released("m2clip", "paper")
    found = method(whole)
    same_class = (whole.labels[:, None] == whole.labels).float()
    target = same_class / same_class.sum(-1, keepdim=True)
    both = [F.kl_div(wanted[f"logits_per_{x}"].log_softmax(-1), target, reduction="sum") / 3 for x in ("image", "text")]
    assert close(found.losses["contrastive"], 0.25 * (both[0] + both[1]))
    own_scale = wanted["class_similarity_softmax"].log() * method.scale / 100
    assert close(found.losses["cross_modal"], 0.5 * F.cross_entropy(own_scale, whole.labels))
    assert close(found.loss, torch.stack([found.losses[head] for head in HEADS]).sum()) and method.masks_words


def test_a_checkpoint_of_the_trained_tensors_alone_is_enough():
    full, whole, _, _, state = released("m2clip")
    trained = {name: value for name, value in state.items() if "adapter" in name}
    part = released("m2clip", state=trained)[0]
    assert {name for name in full.trainable()} == {name for name in part.trainable()} and len(trained) < len(state)
    assert len(part.trainable()) == len(trained)
    for name, value in part.trainable().items():
        assert torch.equal(value, full.trainable()[name])
    for ours, theirs in zip(part.decoder.parameters(), part.backbone.text_blocks[-1].parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert not close(part.encode_video(whole.clips), full.encode_video(whole.clips))


def test_a_released_state_that_does_not_fit_is_refused_and_changes_nothing():
    method, _, _, _, state = released("m2clip_mlponly")
    before = {name: value.clone() for name, value in method.state_dict().items()}
    changed = {name: value + 1 for name, value in state.items() if "t_adapter" not in name}
    changed |= {"visual.adapter_fc.weight": torch.zeros(9, 128), "visual.fc_adapter": torch.zeros(1)}
    with pytest.raises(UserError) as error:
        method.load_released(changed)
    for problem in ("lacks visual.t_adapter.fc1.weight", "lacks visual.t_adapter.conv.bias", "has visual.fc_adapter"):
        assert problem in str(error.value)
    assert "has visual.adapter_fc.weight of shape (9, 128) instead of (6, 128)" in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    with pytest.raises(UserError, match="has .*adapter_pre_attn"):
        method.load_released(released("m2clip")[4])


# ---- parameters


def counts(**arguments) -> dict[str, int]:
    from vidlib.backbones import clip

    with torch.device("meta"):
        method = M2CLIP(clip.load("ViT-B-16-quickgelu", ""), frames=8, **arguments)
    found: dict[str, int] = {}
    for name, p in method.trainable().items():
        found[name.split(".")[0]] = found.get(name.split(".")[0], 0) + p.numel()
    return found


ENHANCEMENT = 768 * 384 + 384 + 3 * 384 + 384 + 384 * 768 + 768
DIFFERENCE = 768 * 384 + 384 + 9 * 384 + 384 + 384 * 768 + 768
FRAME_ADAPTER = 512 * 256 + 256 + 3 * 256 + 256 + 256 * 512 + 512
TEXT_ADAPTER = 512 * 384 + 384 + 384 * 512 + 512


def word_head(words: int) -> int:
    return 512 * 512 + 512 + 2 * 512 + 512 * words + words


def test_trainable_parameters_for_kinetics_400():
    found = counts(classes=400, vocabulary=521)
    assert found == {
        "visual_adapters": 12 * (ENHANCEMENT + DIFFERENCE),
        "text_adapters": 2 * TEXT_ADAPTER,
        "frame_adapter": FRAME_ADAPTER,
        "classifier": 768 * 400 + 400,
        "word_head": word_head(521),
    }
    millions = {name: round(number / 1e6, 2) for name, number in found.items()}
    assert millions == {
        "visual_adapters": 14.25, "text_adapters": 0.79, "frame_adapter": 0.26, "classifier": 0.31, "word_head": 0.53
    }  # fmt: skip
    assert sum(found.values()) == 16_138_649 and round(sum(found.values()) / 1e6, 2) == 16.14


def test_trainable_parameters_for_something_something_v2():
    found = counts(classes=174, vocabulary=235, adapter_places=BOTH, text_adapter_places=BOTH, text_adapter_layers=13)
    assert found["visual_adapters"] == 24 * (ENHANCEMENT + DIFFERENCE) == 28_495_872  # 28.5 M
    assert found["text_adapters"] == 26 * TEXT_ADAPTER == 10_246_912  # 10.2 M
    assert sum(found.values()) == 39_524_761 and round(sum(found.values()) / 1e6, 1) == 39.5


def test_only_what_is_added_trains_and_all_of_it_gets_gradients():
    method = make(adapter_places=BOTH, text_adapter_places=BOTH, text_adapter_layers=3)
    parts = {"visual_adapters", "text_adapters", "frame_adapter", "classifier", "word_head"}
    assert {name.split(".")[0] for name in method.trainable()} == parts
    assert not any(p.requires_grad for p in [*method.backbone.parameters(), *method.decoder.parameters()])
    method.train()(batch()).loss.backward()
    still = {name for name, p in method.trainable().items() if not p.grad.abs().max() > 0}
    assert still == {name for name in method.trainable() if name.startswith("visual_adapters.1.mlp.difference.")}
    assert all(p.grad is None for p in method.backbone.parameters())
    assert all(name.startswith("text_adapters.") == name.startswith(tuple(method.rates)) for name in method.trainable())
    assert set(method.rates.values()) == {0.5}


def test_training_moves_the_loss():
    method, whole = build(), batch()
    before = {name: p.clone() for name, p in method.named_parameters()}
    optimiser = torch.optim.AdamW(method.trainable().values(), lr=1e-2)
    losses = []
    for _ in range(12):
        optimiser.zero_grad()
        loss = method(whole).loss
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    for name, p in method.named_parameters():
        assert p.requires_grad or torch.equal(p, before[name]), name


def test_saves_and_loads_what_trains(tmp_path):
    method, whole = make(), batch()
    save_trainable(method, tmp_path / "m2clip.safetensors")
    other = build()
    assert not same(other.eval()(whole).loss, method.eval()(whole).loss)
    load_trainable(other, tmp_path / "m2clip.safetensors")
    assert torch.equal(other(whole).loss, method(whole).loss)


# ---- towers


def test_untrained_equals_clip_without_text_adapters():
    method, clips = build(text_adapter_layers=0, adapter_places=BOTH).eval(), torch.randn(2, FRAMES, 3, 16, 16)
    ids = batch().ids
    with torch.no_grad():
        frames = method.backbone.encode_image(clips.flatten(0, 1)).unflatten(0, (2, FRAMES))
        assert torch.equal(method.embed(clips)["frames"], frames)
        assert torch.equal(method.encode_video(clips), frames.mean(1))
        assert same(method.encode_text(ids), method.backbone.clip.encode_text(ids))
        assert not same(build(text_adapter_layers=2).encode_text(ids), method.encode_text(ids), 1e-3)


def test_text_adapter_layers_count_the_extra_block():
    for layers, there in ((0, []), (1, [2]), (2, [1, 2]), (3, [0, 1, 2])):
        method = build(text_adapter_layers=layers)
        assert [i for i, block in enumerate(method.text_adapters) if len(block)] == there
        without = build(text_adapter_layers=layers, heads=("contrastive",))
        assert [i for i, block in enumerate(without.text_adapters) if len(block)] == [i for i in there if i < 2]


@pytest.mark.parametrize("score", ["contrastive", "visual"])
def test_a_video_does_not_depend_on_the_others(score):
    method, clips = make(score=score).eval(), torch.randn(3, FRAMES, 3, 16, 16)
    alone, together = method.embed(clips[:1]), method.embed(clips)
    assert set(alone) == {"video", "frames", "logits"}
    for name, value in alone.items():
        assert same(value, together[name][:1]), name


def test_the_order_of_frames_matters_to_every_temporal_part():
    clips = torch.randn(1, FRAMES, 3, 16, 16)
    plain = {"ted": (), "heads": ("visual",), "score": "visual"}
    for arguments in (plain | {"ted": ("enhancement",)}, plain | {"ted": ("difference",)}):
        method = make(adapter_places=BOTH, **arguments).eval()
        assert not same(method.embed(clips)["logits"], method.embed(clips.flip(1))["logits"], 1e-3)
    method = make(**plain).eval()
    assert same(method.embed(clips)["logits"], method.embed(clips.flip(1))["logits"])
    method = make(ted=(), heads=("contrastive",)).eval()  # the adapter after the projection
    assert not same(method.encode_video(clips), method.encode_video(clips.flip(1)), 1e-3)


def test_bfloat16_autocast_trains():
    method, whole = make(), batch()
    plain = method(whole)
    with torch.autocast("cpu", torch.bfloat16):
        found = method(whole)
    found.loss.backward()
    for head, loss in found.losses.items():
        assert loss.dtype == torch.float32 and torch.isclose(loss, plain.losses[head], rtol=0.2), head
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.trainable().values())


def test_dropout_acts_in_training_only():
    method, clips = make(dropout=0.5), torch.randn(2, FRAMES, 3, 16, 16)
    method.eval()
    assert torch.equal(method.embed(clips)["logits"], method.embed(clips)["logits"])
    method.train()
    first, second = method.embed(clips), method.embed(clips)
    assert not torch.equal(first["logits"], second["logits"]) and torch.equal(first["video"], second["video"])
    assert not method.backbone.training


# ---- heads


@pytest.mark.parametrize("head", HEADS)
def test_a_head_alone_has_its_loss_and_its_parameters_and_no_more(head):
    score = "visual" if head == "visual" else "contrastive"
    method, whole = make(heads=[head], score=score), batch()
    found = method(whole)
    assert list(found.losses) == [head] and method.masks_words == (head == "mlm")
    own = {"contrastive": {"text_adapters", "frame_adapter"}, "visual": {"classifier"}}
    own |= {"cross_modal": own["contrastive"], "mlm": own["contrastive"] | {"word_head"}}
    assert {name.split(".")[0] for name in method.trainable()} == own[head] | {"visual_adapters"}
    found.loss.backward()
    dead = "visual_adapters.1.mlp.difference."
    for name, p in method.trainable().items():
        assert name.startswith(dead) or p.grad.abs().max() > 0, name
    assert found.hits.dtype == torch.bool and found.hits.shape == whole.labels.shape


def test_leaving_a_head_out_leaves_the_other_losses():
    method, whole = make().eval(), batch()
    every = method(whole).losses
    assert list(every) == ["contrastive", "cross_modal", "visual", "mlm"]
    for head in HEADS:
        less = build(heads=[other for other in HEADS if other != head]).eval()
        shared = {name: value for name, value in method.state_dict().items() if name in less.state_dict()}
        less.load_state_dict(shared)
        assert {name: loss.item() for name, loss in less(whole).losses.items()} == {
            name: loss.item() for name, loss in every.items() if name != head
        }


def test_weights_scale_the_terms():
    whole = batch()
    plain, other = make().eval()(whole), make(weights={"mlm": 1.0, "visual": 0.0}).eval()(whole)
    assert torch.isclose(other.losses["mlm"], 10 * plain.losses["mlm"]) and other.losses["visual"] == 0
    assert torch.equal(other.losses["contrastive"], plain.losses["contrastive"])
    assert torch.isclose(plain.loss, sum(plain.losses.values()))


def test_cross_modal_trains_through_the_class_texts():
    method, whole = make(heads=("cross_modal",), text_adapter_layers=3), batch()
    found = method(whole)
    cosines = (
        F.normalize(method.encode_video(whole.clips), dim=-1)
        @ F.normalize(method.encode_text(whole.class_ids), dim=-1).T
    )
    assert same(found.loss, 0.5 * F.cross_entropy(method.scale * cosines, whole.labels))
    assert torch.equal(found.hits, cosines.argmax(-1) == whole.labels)
    found.loss.backward()
    assert all(p.grad.abs().max() > 0 for p in method.text_adapters.parameters())


def test_masked_words_are_read_from_the_video():
    method, whole = make().eval(), batch()
    before = method(whole).losses["mlm"]
    logits = method.word_head(method.decode(whole.masked_ids, method.embed(whole.clips)["frames"]))
    assert same(before, 0.1 * F.cross_entropy(logits.flatten(0, 1), whole.words.flatten()))
    whole.clips = whole.clips.flip(0)
    assert not same(method(whole).losses["mlm"], before, 1e-4)
    whole.words = torch.full_like(whole.words, -100)
    nothing = method(whole)
    assert nothing.losses["mlm"] == 0
    nothing.loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in method.parameters())
    whole.masked_ids = None
    with pytest.raises(UserError, match="masked_ids"):
        method(whole)
    assert make(variant="released")(whole).losses["mlm"] == 0


def test_scores_of_any_texts_or_of_the_training_classes():
    method, clips = make().eval(), torch.randn(2, FRAMES, 3, 16, 16)
    names = [f"moving {i} things" for i in range(CLASSES + 2)]
    told = method.scores(clips, names)
    assert told.shape == (2, CLASSES + 2) and same(told.sum(-1), torch.ones(2)) and method.uses_text
    text = method.encode_text(method.backbone.tokenize([f"A video of {name}" for name in names]))
    cosines = F.normalize(method.encode_video(clips), dim=-1) @ F.normalize(text, dim=-1).T
    assert same(told, (method.scale * cosines).softmax(-1))
    by_classifier = make(score="visual").eval()
    assert not by_classifier.uses_text
    told = by_classifier.scores(clips, names[:CLASSES])
    assert same(told, by_classifier.embed(clips)["logits"].softmax(-1))
    with pytest.raises(UserError, match=f"{CLASSES} training classes .* {CLASSES + 2}"):
        by_classifier.scores(clips, names)


def test_hits_follow_the_score():
    whole = batch()
    method = make(score="visual").eval()
    found = method(whole)
    assert torch.equal(found.hits, found.parts["logits"].argmax(-1) == whole.labels)
    method = make().eval()
    found = method(whole)
    assert torch.equal(found.hits, found.parts["class_logits"].argmax(-1) == whole.labels)
    for heads in (("contrastive",), ("mlm",)):
        found = make(heads=heads).eval()(whole)
        assert found.hits.shape == whole.labels.shape


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"heads": ()}, "heads is empty; give one or more of 'contrastive', 'cross_modal', 'visual', 'mlm'"),
        ({"heads": ("crossmodal",)}, "heads has 'crossmodal', which is unknown; did you mean 'cross_modal'"),
        ({"heads": ("zzz",)}, "heads has 'zzz'.*known are contrastive"),
        ({"heads": "mlm"}, "heads must be a list of names, got 'mlm'"),
        ({"heads": ("visual",), "weights": {"mlm": 1.0}}, "weights has 'mlm'"),
        ({"ted": ("differences",)}, "ted has 'differences'.*'difference'"),
        ({"adapter_places": ("mpl",)}, "adapter_places has 'mpl'.*'mlp'"),
        ({"text_adapter_places": ("attn",)}, "text_adapter_places has 'attn'.*'attention'"),
        ({"text_adapter_layers": 4}, "text_adapter_layers must be from 0 to 3, got 4"),
        ({"score": "text"}, "score must be one of 'contrastive', 'visual', got 'text'"),
        ({"score": "visual", "heads": ("mlm",)}, "score 'visual' reads the classifier"),
        ({"variant": "papers"}, "variant must be one of 'paper', 'released'"),
        ({"vocabulary": 0}, "vocabulary must be the number of words"),
        ({"classes": 0}, "classes must be at least 1"),
        ({"width": 0}, "width must be at least 1"),
        ({"template": "A video"}, "template must contain {}"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        build(**arguments)


def test_a_narrow_text_tower_has_no_word_head():
    with pytest.raises(UserError, match="'mlm' needs a text tower as wide as the joint space; small has 8 and 16"):
        M2CLIP(backbone(width=8), FRAMES, classes=CLASSES, vocabulary=WORDS)
    heads = ("contrastive", "cross_modal", "visual")
    method = M2CLIP(backbone(width=8), FRAMES, classes=CLASSES, heads=heads, width=6, text_width=6)
    assert method(batch()).loss.isfinite()


def test_clips_of_another_length_are_refused():
    with pytest.raises(UserError, match=f"frames={FRAMES}"):
        make().embed(torch.randn(1, FRAMES + 1, 3, 16, 16))


def test_choices_are_named_with_what_the_sources_say():
    found = {name: value for name, value, _ in build(score="visual").unsettled()}
    assert found["score"] == "visual" and found["text_adapter_layers"] == 2 and len(found) == 4


# ---- several processes


def half(rank: int, folder: str) -> None:
    """The loss of one of two processes, and its gradients summed as the loop does."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    method, whole = make(), batch()
    at = slice(2 * rank, 2 * rank + 2)
    mine = {name: getattr(whole, name)[at] for name in ("clips", "labels", "ids", "masked_ids", "words")}
    found = method(LabelledBatch(class_ids=whole.class_ids, **mine))
    (found.loss / 2).backward()
    for p in method.trainable().values():
        torch.distributed.all_reduce(p.grad)
    gradients = {name: p.grad for name, p in method.trainable().items()}
    torch.save((found.losses, gradients, found.hits), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_equal_one(tmp_path):
    multiprocessing.spawn(half, (str(tmp_path),), nprocs=2)
    method, whole = make(), batch()
    found = method(whole)
    found.loss.backward()
    for rank in (0, 1):
        losses, gradients, hits = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert list(losses) == list(found.losses)
        assert all(same(losses[head], found.losses[head]) for head in losses)
        for name, p in method.trainable().items():
            assert torch.allclose(gradients[name], p.grad, rtol=1e-4, atol=1e-5 * p.grad.abs().max().item()), name
        at = slice(2 * rank, 2 * rank + 2)
        assert torch.equal(hits, (found.parts["class_logits"].argmax(-1) == whole.labels)[at])
