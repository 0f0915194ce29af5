"""STRM against its released code; its classifier, which here is a module; the grid of patches; what it adds to TRX."""

import dataclasses

import pytest
import torch
from timm.models.resnet import BasicBlock, ResNet
from torch.nn import functional as F

from tests.conftest import golden
from tests.literal import strm as literal
from tests.methods.small import FRAMES, backbone, batch, clip_resnet, make, same
from vidlib import methods
from vidlib.backbones import resnet as resnets
from vidlib.backbones.resnet import ResNetBackbone
from vidlib.basics.errors import UserError
from vidlib.matching import base
from vidlib.methods import strm
from vidlib.results import cost
from vidlib.training import checkpoints

CLASSIFIER = "new_dist_loss_post_pat."


def small(dim: int = 64) -> ResNetBackbone:
    return ResNetBackbone(ResNet(BasicBlock, [1, 1, 1, 1], num_classes=0, channels=(8, 8, 8, dim)), "small", 64)


def released(lacking: tuple[str, ...] = (), **arguments):
    """The method with the fixture's weights but those under ``lacking``, in evaluation mode; the fixture's tensors."""
    meta, t = golden("strm")
    config = meta["config"]
    sizes = {"cardinalities": config["temp_set"], "out_dim": config["trans_linear_out_dim"]}
    sizes |= {"frames": config["seq_len"], "variant": "released"}
    method = methods.build("strm", small(config["trans_linear_in_dim"]), **{**sizes, **arguments})
    state = {k.removeprefix("state."): v for k, v in t.items() if k.startswith("state.")}
    method.load_released({k: v for k, v in state.items() if not k.startswith(lacking)})
    return method.eval(), t


def matched(method, t, shot: int):
    """The match of the fixture's episode, from deepest maps on."""
    frames = method.frames
    maps = (t[name].unflatten(0, (-1, frames)) for name in (f"input.support_maps_{shot}shot", "input.query_maps"))
    support, query = (
        {key: value[None] for key, value in method.embed_frames(method.enriched_patches(x)).items()} for x in maps
    )
    labels = t[f"input.support_labels_{shot}shot"][None]
    return method.match(support, labels, query, torch.empty(1, int(labels.max()) + 1, 0))


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- released code


@torch.no_grad()
def test_golden_enrichment():
    method, t = released()
    close(method.patch_enrichment(t["input.patch_tokens"]), t["output.patch_enrich"])
    close(method.frame_enrichment(t["input.query_frames"]), t["output.frame_enrich"])


@pytest.mark.parametrize("shot", [1, 5])
@torch.no_grad()
def test_golden_logits(shot):
    method, t = released()
    match, tuples, near = (
        matched(method, t, shot),
        t[f"output.logits_{shot}shot"],
        t[f"output.logits_post_pat_{shot}shot"],
    )
    close(match.parts["q2s"], tuples)
    close(match.parts["similarity"], near)
    close(match.logits, tuples + 0.1 * near)


@torch.no_grad()
def test_golden_similarity_of_pairs():
    method, t = released(lacking=("transformers.1.", f"{CLASSIFIER}1."), cardinalities=(2,))
    support, query = (
        method.similarity.prepare(t[f"input.{x}"][None]) for x in ("support_frames_5shot", "query_frames")
    )
    labels = t["input.support_labels_5shot"][None]
    logits = method.similarity.compare(support, labels, query, int(labels.max()) + 1)[0]
    close(logits, t["output.dist_card2_5shot"])


@torch.no_grad()
def test_golden_state_as_real_files_hold_it():
    """Without the classifier, and with DataParallel's prefixes: the score of tuples alone can be had, no other."""
    method, t = released(lacking=(CLASSIFIER,))
    with pytest.raises(UserError, match="never saved.*similarity_weight=0"):
        matched(method, t, 1)
    alone, _ = released(lacking=(CLASSIFIER,), similarity_weight=0.0)
    close(matched(alone, t, 1).logits, t["output.logits_1shot"])
    state = {k.removeprefix("state."): v for k, v in t.items() if k.startswith("state.") and CLASSIFIER not in k}
    wrapped = {
        k.replace("attn_pat.", "attn_pat.module.").replace("fr_enrich.", "fr_enrich.module."): v
        for k, v in state.items()
    }
    for parameter in alone.parameters():
        parameter.zero_()
    alone.load_released(wrapped)
    close(matched(alone, t, 1).logits, t["output.logits_1shot"])


def test_a_released_file_with_a_key_too_few_is_an_error():
    with pytest.raises(RuntimeError, match="mlp.2.bias"):
        released(lacking=("attn_pat.Bot_MLP.hid_fc.bias",))


# ---------------------------------------------------------------- parts, literally


@torch.no_grad()
def test_parts_equal_the_literal_version():
    method = make("strm", on=lambda: small(12), frames=4, cardinalities=(1, 2)).eval()
    patches, frames = torch.randn(5, 12), torch.randn(3, 4, 12)
    ours = method.patch_enrichment(patches[None])[0]
    close(ours, literal.enriched_patches(patches, method.patch_enrichment.state_dict()).float())
    mixed = literal.enriched_frames(frames[0], method.frame_enrichment.state_dict()).float()
    close(method.frame_enrichment(frames)[0], mixed)
    labels, classifier = torch.tensor([[1, 0, 1]]), method.similarity
    query = torch.randn(2, 4, 12)
    logits = classifier.compare(classifier.prepare(frames[None]), labels, classifier.prepare(query[None]), 2)[0]
    for q in range(2):
        for c in range(2):
            videos, weights = list(frames[labels[0] == c]), classifier.state_dict()
            each = [literal.similarity(query[q], videos, weights, f"linears.{i}", w) for i, w in enumerate((1, 2))]
            assert logits[q, c].item() == pytest.approx(sum(each) / 2, rel=1e-4)


@torch.no_grad()
def test_working_in_pieces_changes_nothing(monkeypatch):
    classifier = strm.SimilarityClassifier(6, (2, 3), 0.0, 1.0).eval()
    support, query = classifier.prepare(torch.randn(3, 5, 8, 6)), classifier.prepare(torch.randn(3, 4, 8, 6))
    labels = torch.tensor([[0, 1, 1, 0, 0], [1, 0, 0, 0, 0], [0, 1, 0, 1, 1]])
    whole = classifier.compare(support, labels, query, 2)
    for numbers in (1, 60_000):
        monkeypatch.setattr(base, "CHUNK", numbers)
        close(classifier.compare(support, labels, query, 2), whole)


def test_gradients_are_exact_and_finite_where_videos_are_equal():
    classifier = strm.SimilarityClassifier(3, (2,), 0.0, 1.0).double()
    frames = [torch.randn(1, n, 3, 3, dtype=torch.float64, requires_grad=True) for n in (3, 2)]
    labels = torch.tensor([[0, 1, 0]])

    def logits(support, query):
        return classifier.compare(classifier.prepare(support), labels, classifier.prepare(query), 2)

    assert torch.autograd.gradcheck(logits, frames)
    same_video = frames[0].detach().requires_grad_()
    logits(same_video, same_video).sum().backward()
    assert same_video.grad.isfinite().all() and same_video.grad.abs().sum() > 0


# ---------------------------------------------------------------- the classifier is a module


def test_the_classifier_is_trained_saved_and_switched_to_evaluation():
    method, episodes = make("strm", dropout=0.5), batch()
    trained = {name for name in method.trainable() if name.startswith("similarity.")}
    assert trained == {"similarity.linears.0.weight", "similarity.linears.0.bias"}
    assert trained < checkpoints.trainable_state(method).keys()
    assert not same(method.train()(episodes).parts["similarity"], method(episodes).parts["similarity"])
    assert torch.equal(method.eval()(episodes).parts["similarity"], method(episodes).parts["similarity"])


def test_released_leaves_it_a_random_projection_through_which_the_trunk_learns():
    method = make("strm", variant="released").train()
    assert not any(name.startswith("similarity") for name in method.trainable())
    method(batch()).losses["similarity"].backward()
    assert method.similarity.linears[0].weight.grad is None
    assert method.backbone.visual.conv1.weight.grad.abs().sum() > 0


def test_its_weight_stands_in_loss_and_score():
    episodes = batch()
    light, heavy = (make("strm", similarity_weight=w).eval()(episodes) for w in (0.1, 0.3))
    assert same(3 * light.losses["similarity"], heavy.losses["similarity"])
    for match, weight in ((light, 0.1), (heavy, 0.3)):
        assert same(match.logits, match.parts["q2s"] + weight * match.parts["similarity"])
    assert list(make("strm", similarity_weight=0.0).eval()(episodes).parts) == ["q2s"]


def test_metric_scale_is_on_every_logit():
    plain, sharp = (make("strm", metric_scale=s).eval()(batch()) for s in (1.0, 2.0))
    assert same(2 * plain.logits, sharp.logits) and same(2 * plain.parts["similarity"], sharp.parts["similarity"])


# ---------------------------------------------------------------- patches


@torch.no_grad()
def test_patches_are_the_largest_of_their_cell():
    method = make("strm", on=lambda: small(8), grid=(2, 3)).eval()
    maps = torch.randn(2, FRAMES, 8, 4, 6)
    cells = [maps[..., 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].amax((-2, -1)) for i in range(2) for j in range(3)]
    expected = method.patch_enrichment(torch.stack(cells, dim=2)).mean(2)
    assert same(method.enriched_patches(maps), expected)


@torch.no_grad()
def test_a_small_map_keeps_its_size_in_paper_and_is_repeated_in_released():
    maps, seen = torch.randn(1, FRAMES, 8, 2, 2), {}
    for variant in ("paper", "released"):
        method = make("strm", on=lambda: small(8), variant=variant).eval()
        method.patch_enrichment.register_forward_hook(lambda _, x, __, v=variant: seen.update({v: x[0].shape[-2]}))
        method.enriched_patches(maps)
    assert seen == {"paper": 4, "released": 16}


@torch.no_grad()
def test_patches_of_a_clip_tower_are_read_out_as_its_features_are():
    method, clips = make("strm", on=backbone).eval(), torch.randn(2, FRAMES, 3, 16, 16)
    maps = method.frame_maps(clips)[-1]
    read = method.backbone.head(maps.flatten(3).transpose(2, 3))  # one by one; 2 x 2 patches: nothing is pooled
    assert same(method.enriched_patches(maps), method.patch_enrichment(read).mean(2))


@pytest.mark.parametrize(("name", "options"), [("strm", {}), ("gghm", {"pool": "after"})])
def test_patches_of_a_clip_resnet_are_read_out_one_by_one(name, options):
    method = make(name, on=clip_resnet, **options).eval()
    pool, maps = method.backbone.visual.attnpool, torch.randn(5, 256, 1, 1)
    assert len(pool.positional_embedding) == 1 + 2 * 2, "the tower's own maps have four places"
    with torch.no_grad():
        assert same(method.backbone.pool(maps), pool.c_proj(pool.v_proj(maps[..., 0, 0])))
        found = method(batch(pixels=64)).logits
    assert found.shape == (2, 4, 3) and found.isfinite().all()


def test_wrong_arguments_are_refused():
    for wrong in ({"grid": (4,)}, {"grid": (0, 4)}, {"similarity_weight": -0.1}, {"variant": "code"}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            make("strm", **wrong)


# ---------------------------------------------------------------- the whole


def test_stripped_of_all_it_adds_it_is_trx_on_pairs():
    plain = {"patch_enrichment": False, "frame_enrichment": False, "similarity_weight": 0.0}
    bare, trx, episodes = make("strm", **plain).eval(), make("trx", cardinalities=(2,)).eval(), batch()
    bare.load_state_dict(trx.state_dict())
    assert torch.equal(bare(episodes).logits, trx(episodes).logits)


def test_the_order_of_a_querys_frames_matters():
    method, episodes = make("strm").eval(), batch()
    backwards = dataclasses.replace(episodes, query=episodes.query.flip(2))
    assert not same(method(episodes).logits, method(backwards).logits, 1e-3)


def test_parameters_with_resnet50():
    """59.18 M as registered in the released code (norms of the values included), and the classifier's 4.2 M."""
    with torch.device("meta"):
        table = cost.parameters(methods.build("strm", resnets.load("resnet50", "")))["total"]
    registered = table["all"] - table["similarity"] + 2 * 1152
    assert round(registered / 1e6, 2) == 59.18
    assert table["similarity"] == 4096 * 1024 + 1024
    millions = {name: round(table[name] / 1e6, 2) for name in ("patch_enrichment", "frame_enrichment", "metric")}
    assert millions == {"patch_enrichment": 17.84, "frame_enrichment": 8.39, "metric": 9.44}


def test_bfloat16_of_wide_frames_is_finite():
    """Attention without a scale: scores of 300 channels reach thousands, and their softmax must stay finite."""
    method = strm.PatchEnrichment(300, 0.0)
    torch.nn.init.ones_(method.gamma)
    with torch.autocast("cpu", torch.bfloat16):
        out = method(30 * torch.randn(2, 16, 300))
    assert out.isfinite().all()
    F.mse_loss(out.float(), torch.zeros_like(out)).backward()
    assert all(p.grad.isfinite().all() for p in method.parameters())
