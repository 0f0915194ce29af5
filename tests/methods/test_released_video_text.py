"""Released checkpoints of ActionCLIP and M2-CLIP: what names and shapes tell, what is refused, what they compute."""

import pytest
import torch
from einops import rearrange
from torch import Tensor

from tests import official
from tests.conftest import close, golden
from tests.methods.small import resnet
from vidlib.backbones import clip, weights
from vidlib.basics.errors import UserError
from vidlib.methods import released
from vidlib.methods.m2clip import M2CLIP
from vidlib.methods.released import trunks

load = released.load_released
TOWERS = ("ViT-B-32-quickgelu", "ViT-B-16-quickgelu", "ViT-L-14-quickgelu", "ViT-L-14-336-quickgelu")
SMALL = {"actionclip": official.actionclip_backbone, "m2clip": official.m2clip_backbone}
STATES = [("actionclip", prompt) for prompt in official.VISUAL_PROMPTS]
STATES += [("m2clip", fixture) for fixture in official.M2CLIPS]


def state_of(method: str, variant: str) -> dict[str, Tensor]:
    return official.actionclip(variant) if method == "actionclip" else official.m2clip(variant)


# ---------------------------------------------------------------- what the released codes compute


@pytest.mark.parametrize("prompt", official.VISUAL_PROMPTS)
def test_golden_actionclip_files_give_the_released_method(prompt, tmp_path):
    state, tensors, heads = official.actionclip(prompt), golden("actionclip_vit")[1], golden("actionclip_visual_prompt")
    torch.save(official.actionclip_saved(state), tmp_path / "official.pt")
    found = load("actionclip", tmp_path / "official.pt", backbone=official.actionclip_backbone(seed=5))
    assert found.visual_prompt == prompt and found.released and not found.training
    assert found.frames == 8 and found.missing == ()
    clips = rearrange(tensors["input.image"], "(b t) c h w -> b t c h w", t=8)
    with torch.no_grad():
        video = found.encode_video(clips)
        if prompt == "joint":
            assert close(video, tensors["output.encode_image_joint"])
        elif prompt == "shift":
            assert close(video, tensors["output.encode_image_tsm"].unflatten(0, (2, 8)).mean(1))
        else:
            wanted = heads[1][f"output.{official.POST[prompt]}"]
            assert close(found.head(heads[1]["input.x"]), wanted)
            assert close(video, found.head(tensors["output.encode_image"].unflatten(0, (2, 8))))
    for name, value in found.backbone.clip.state_dict().items():
        spelt = name.replace("resblocks.0.", "resblocks.0.net.").replace("resblocks.1.", "resblocks.1.net.")
        assert torch.equal(value, state[spelt if prompt == "shift" and name.startswith("visual.") else name]), name


def test_golden_actionclip_text_tower_is_the_files():
    tensors = golden("actionclip_vit")[1]
    found = load("actionclip", official.actionclip("meanp"), backbone=official.actionclip_backbone(5, heads=4))
    assert close(found.encode_text(tensors["input.text"]), tensors["output.encode_text"])


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("fixture", official.M2CLIPS)
def test_golden_m2clip_files_give_the_released_method(fixture, whole, tmp_path):
    wanted, state = golden(fixture)[1], official.m2clip(fixture)
    backbone = official.m2clip_backbone(seed=5)
    if not whole:  # the CLIP with its own weights
        backbone.clip.load_state_dict({name: state[name] for name in backbone.clip.state_dict()})
    torch.save(official.m2clip_saved(official.m2clip(fixture, whole)), tmp_path / "official.pth")
    found = load("m2clip", tmp_path / "official.pth", backbone=backbone)
    assert found.released and found.missing == () and not found.training
    clips = rearrange(wanted["input.video"], "b c t h w -> b t c h w")
    with torch.no_grad():
        features, text = found.embed(clips), found.encode_text(wanted["input.text"])
        assert close(features["video"], wanted["output.video_feature"])
        assert close(features["logits"], wanted["output.fc_logits"])
        assert close(text, wanted["output.text_feature"])
        if whole:  # the golden block of the word head is no copy of the last, as a real one is
            words = found.word_head(found.decode(wanted["input.text"], features["frames"]))
            assert close(words, wanted["output.mlm_logits"])
        told = found.score(features, found.encode_text(wanted["input.class_text"])[None])
        assert close(told, wanted["output.class_similarity_softmax"])
    by_classifier = load("m2clip", tmp_path / "official.pth", backbone=backbone, score="visual")
    assert close(by_classifier.score(features, torch.zeros(1, 6, 32)), wanted["output.fc_logits"].softmax(-1))


@pytest.mark.parametrize(("method", "variant"), [("actionclip", "transf"), ("m2clip", "m2clip_mlponly")])
def test_golden_states_in_half_precision_are_read(method, variant):
    state = {name: value.half() for name, value in state_of(method, variant).items()}
    found = load(method, state, backbone=SMALL[method](seed=5))
    assert all(value.dtype == torch.float32 for value in found.state_dict().values())
    for name, value in found.backbone.clip.state_dict().items():
        assert torch.equal(value, state[name].float()), name


# ---------------------------------------------------------------- what names and shapes tell


@pytest.mark.parametrize(("method", "variant"), STATES)
def test_golden_states_are_recognised_and_surveyed(method, variant):
    state = state_of(method, variant)
    saved = official.actionclip_saved(state) if method == "actionclip" else official.m2clip_saved(state)
    found = released.survey(method, state)
    again = released.survey(method, weights.tidy(weights.unwrap(saved).tensors))
    assert released.recognise(state) == method and found == again
    assert found.missing == found.unknown == () and not found.backbone
    assert found.trunk == "a ViT of width 128, 2 layers, patches of 8, for 32 pixels"
    table = "fusion.frame_position_embeddings.weight"
    assert found.unused == ((table,) if variant in ("conv1d", "lstm", "transf_cls") else ())
    assert bool(found.remark) == (variant == "meanp")
    if method == "actionclip":
        frames = {"frames": 8} if variant in ("joint", "transf_cls") else {}
        assert found.sizes == {"features": 32, "visual_prompt": variant} | frames


def test_golden_m2clip_sizes_follow_from_names_and_shapes():
    common = {"features": 32, "classes": 6, "vocabulary": 11, "width": 24, "text_width": 20}
    both = {"adapter_places": ("attention", "mlp"), "text_adapter_places": ("attention", "mlp")}
    one = {"adapter_places": ("mlp",), "text_adapter_places": ("mlp",)}
    for whole in (True, False):
        sizes = [released.survey("m2clip", official.m2clip(fixture, whole)).sizes for fixture in official.M2CLIPS]
        assert sizes == [common | both | {"text_adapter_layers": 13}, common | one | {"text_adapter_layers": 2}]
    alone = {n: x for n, x in official.m2clip("m2clip_mlponly", False).items() if ".11.adapter" not in n}
    assert released.survey("m2clip", alone).sizes["text_adapter_layers"] == 1
    found = load("m2clip", alone, backbone=official.m2clip_backbone())
    assert [len(adapters) for adapters in found.text_adapters] == [0] * 12 + [1]


@pytest.mark.parametrize("frames", [16, 32])
def test_golden_frames_follow_from_tables_of_positions(frames):
    state = official.actionclip("transf_cls")
    state["fusion.transformer.pos_embed"] = torch.randn(1, 1 + frames, 32)
    found = load("actionclip", state, backbone=official.actionclip_backbone())
    assert found.frames == frames and torch.equal(found.head.positions, state["fusion.transformer.pos_embed"][0])
    state = official.actionclip("joint") | {"visual.time_embedding": torch.randn(frames, 128)}
    assert load("actionclip", state, backbone=official.actionclip_backbone()).frames == frames
    state = official.actionclip("transf")
    state["fusion.frame_position_embeddings.weight"] = torch.randn(77, 32)
    assert load("actionclip", state, backbone=official.actionclip_backbone(), frames=frames).frames == frames


@pytest.mark.parametrize("name", TOWERS)
def test_openais_towers_are_named_by_their_shapes(name):
    with torch.device("meta"):
        tower = clip.load(name, "")
        state = tower.clip.state_dict()
        found = released.survey("actionclip", state)
        assert (found.backbone, found.missing, found.unknown) == (name, (), ())
        assert found.sizes["features"] == tower.embed_dim
        state["visual.positional_embedding"] = torch.zeros(5, tower.width)
    assert trunks.clip_tower(state, "visual").name == ""


def test_kinetics_files_of_m2clip_are_surveyed():
    """Sizes of the released script; names as the class spells them, which the golden states hold it to."""
    with torch.device("meta"):
        method = M2CLIP(clip.load("ViT-B-16-quickgelu", ""), classes=400, vocabulary=521)
    state = {method.released_name(name): value for name, value in method.state_dict().items()}
    found = released.survey("m2clip", state)
    assert (found.backbone, found.missing, found.unknown) == ("ViT-B-16-quickgelu", (), ())
    trained = released.survey("m2clip", {name: value for name, value in state.items() if "adapter" in name})
    assert (trained.backbone, trained.trunk, trained.missing, trained.unknown) == ("", "", (), ())
    places = {"adapter_places": ("mlp",), "text_adapter_places": ("mlp",), "text_adapter_layers": 2}
    wanted = {"features": 512, "classes": 400, "vocabulary": 521, "width": 384, "text_width": 384, **places}
    assert found.sizes == trained.sizes == wanted


@pytest.mark.parametrize("method", SMALL)
def test_golden_backbone_is_built_as_the_file_tells(method, monkeypatch):
    asked = []

    def small(name: str, pretrained: str):
        asked.append((name, pretrained))
        return SMALL[method](seed=5)

    monkeypatch.setattr(released.backbones, "load", small)
    monkeypatch.setitem(trunks.CLIPS, (128, 2, 8, 32), "a small one")
    state = official.actionclip("lstm") if method == "actionclip" else official.m2clip("m2clip")
    found = load(method, state)
    assert asked == [("a small one", "")] and found.missing == ()
    assert all(torch.equal(value, state[name]) for name, value in found.backbone.clip.state_dict().items())


# ---------------------------------------------------------------- files that lack something


def plain_clip() -> dict[str, Tensor]:
    """OpenAI's own files hold three numbers beside the weights."""
    state = official.actionclip("meanp")
    return state | {name: torch.tensor(1) for name in ("input_resolution", "context_length", "vocab_size")}


def test_golden_plain_clip_is_the_mean_over_frames():
    tensors, state = golden("actionclip_vit")[1], plain_clip()
    found = load("actionclip", state, backbone=official.actionclip_backbone(5))
    clips = rearrange(tensors["input.image"], "(b t) c h w -> b t c h w", t=8)
    features = found.embed(clips)
    assert close(features["video"], tensors["output.encode_image"].unflatten(0, (2, 8)).mean(1))
    assert found.missing == () and found.score(features, torch.randn(2, 3, 32)).shape == (2, 3)
    survey = released.survey("actionclip", state)
    assert survey.unknown == () and "plain CLIP" in survey.remark and len(survey.unused) == 3


@pytest.mark.parametrize(
    ("arguments", "lacking"),
    [
        ({"visual_prompt": "transf"}, "head.positions"),
        ({"visual_prompt": "conv1d"}, "head.conv.weight"),
        ({"objective": "one_of_n", "classes": 4}, "classifier.weight"),
    ],
)
def test_golden_towers_without_their_head_refuse_the_score_alone(arguments, lacking):
    found = load("actionclip", plain_clip(), backbone=official.actionclip_backbone(5), **arguments)
    assert lacking in found.missing and all(name.startswith(("head.", "classifier.")) for name in found.missing)
    features = found.embed(torch.randn(1, 8, 3, 32, 32))
    with pytest.raises(UserError, match=f"held no weights of .*{lacking}.*which this score needs"):
        found.score(features, torch.randn(1, 4, 32))
    found.missing = ()
    assert found.score(features, torch.randn(1, 4, 32)).shape == (1, 4)


def test_golden_m2clip_without_its_clip_asks_for_one_with_weights(monkeypatch):
    state = official.m2clip("m2clip", whole=False)
    for given in ({}, {"backbone": "ViT-B-16-quickgelu"}):
        with pytest.raises(UserError, match="holds no CLIP, only what m2clip trained.*give backbone=.*pretrained="):
            load("m2clip", state, **given)
    with pytest.raises(UserError, match="holds no image tower: give backbone="):
        load("m2clip", state, pretrained="openai")
    asked = []
    monkeypatch.setattr(
        released.backbones, "load", lambda *given: asked.append(given) or official.m2clip_backbone(seed=7)
    )
    found = load("m2clip", state, backbone="some ViT", pretrained="some weights")
    assert asked == [("some ViT", "some weights")] and found.missing == ()
    kept = official.m2clip_backbone(seed=7)
    for name, value in kept.state_dict().items():
        assert torch.equal(found.backbone.state_dict()[name], value)
    for ours, theirs in zip(found.decoder.parameters(), kept.text_blocks[-1].parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("method", "variant"), [*STATES, ("m2clip", "trained alone")])
def test_golden_states_with_a_name_missing_or_too_many_are_refused_with_it(method, variant):
    state = official.m2clip("m2clip", False) if variant == "trained alone" else state_of(method, variant)
    backbone = SMALL[method]()
    needed = [name for name in state if name not in released.survey(method, state).unused]
    for name in needed[:: max(1, len(needed) // 12)]:
        if name in ("visual.time_embedding", "fusion.shift.weight"):  # without it, it is another prompt's state
            continue
        with pytest.raises(UserError) as error:
            load(method, {key: value for key, value in state.items() if key != name}, backbone=backbone)
        assert name in str(error.value), (name, error.value)
    odd = {"decoder.adapter": torch.ones(1), "encoder.adapter": torch.ones(1)}
    with pytest.raises(UserError, match=r"has unknown decoder\.adapter, encoder\.adapter$"):
        load(method, state | odd, backbone=backbone)


def test_golden_heads_in_part_or_in_pairs_are_refused():
    backbone = official.actionclip_backbone()
    cut = {n: x for n, x in official.actionclip("conv1d").items() if n != "fusion.shift.weight"}
    with pytest.raises(UserError, match=r"lacks fusion\.transformer\.resblocks\.0"):  # the table alone
        load("actionclip", cut, backbone=backbone)
    lstm = {name: x for name, x in official.actionclip("lstm").items() if "lstm_visual" in name}
    for prompt in ("joint", "shift", "transf"):
        with pytest.raises(UserError, match=r"fusion\.lstm_visual|fusion\.transformer"):
            load("actionclip", official.actionclip(prompt) | lstm, backbone=backbone)
    with pytest.raises(UserError, match=r"does not fit.*lacks fusion\.shift\.weight"):
        load("actionclip", official.actionclip("lstm"), backbone=backbone, visual_prompt="conv1d")
    five = {n: x for n, x in official.actionclip("transf").items() if ".resblocks.5." not in n}
    with pytest.raises(UserError, match=r"lacks fusion\.transformer\.resblocks\.5"):
        load("actionclip", five, backbone=backbone)


def test_golden_files_of_another_code_or_size_are_named():
    whole, prompt = official.m2clip("m2clip"), official.actionclip("transf")
    with pytest.raises(UserError, match="written by the released code of m2clip, not of actionclip"):
        load("actionclip", whole, backbone=official.m2clip_backbone())
    with pytest.raises(UserError, match="written by the released code of actionclip, not of m2clip"):
        load("m2clip", prompt, backbone=official.m2clip_backbone())
    with pytest.raises(UserError, match=r"released code of trx: it lacks transformers\.0"):  # no word of ActionCLIP
        load("trx", plain_clip(), backbone=official.backbone("trx"))
    with pytest.raises(UserError, match="width 32, and those of backbone small have 64"):
        load("actionclip", prompt, backbone=official.backbone("clip_fsar"))
    with pytest.raises(UserError, match="a ViT of width 128.*has no name here: give backbone="):
        load("actionclip", prompt)
    with pytest.raises(UserError, match="token_embedding.weight of shape .100, 64. instead of .200, 64."):
        load("actionclip", prompt, backbone=official.actionclip_backbone(vocabulary=200))
    shorter = {  # a text tower with a block less
        name.replace("transformer.resblocks.11.", "transformer.resblocks.10.").replace(".12.", ".11."): value
        for name, value in official.m2clip("m2clip_mlponly", whole=False).items()
    }
    with pytest.raises(UserError, match=r"lacks transformer\.resblocks\.12.*has transformer\.resblocks\.10.*unknown"):
        load("m2clip", shorter, backbone=official.m2clip_backbone())


def test_golden_arguments_and_backbones_that_do_not_fit_are_refused():
    state, backbone = official.actionclip("transf"), official.actionclip_backbone()
    with pytest.raises(UserError, match="'actionclip' has no argument 'visual_promt'; did you mean 'visual_prompt'"):
        load("actionclip", state, backbone=backbone, visual_promt="lstm")
    with pytest.raises(UserError, match="'actionclip' has no argument 'xyz'; known are classes, frames"):
        load("actionclip", state, backbone=backbone, xyz=1)
    with pytest.raises(UserError, match="'m2clip' has no argument 'variant'"):
        load("m2clip", official.m2clip("m2clip"), backbone=official.m2clip_backbone(), variant="paper")
    wide = resnet()
    wide.embed_dim = 32
    with pytest.raises(UserError, match="adapts a CLIP ViT, and backbone test_resnet is none"):
        load("actionclip", state, backbone=wide)
    with pytest.raises(UserError, match="did you mean 'actionclip'"):
        load("action_clip", state)


@pytest.mark.parametrize("method", SMALL)
def test_golden_weights_that_a_method_forgets_to_read_are_named(method, monkeypatch):
    def without_text(self, state):
        skipped = {id(x) for name, x in self.state_dict(keep_vars=True).items() if "clip.ln_final" in name}
        with torch.no_grad():
            for value in self.state_dict(keep_vars=True).values():
                if id(value) not in skipped:
                    value.copy_(value.clone())

    monkeypatch.setattr(released.CLASSES[method], "load_released", without_text)
    state = official.actionclip("lstm") if method == "actionclip" else official.m2clip("m2clip")
    with pytest.raises(UserError, match=r"as they were built: backbone\.clip\.ln_final\.weight, .*ln_final\.bias$"):
        load(method, state, backbone=SMALL[method]())
