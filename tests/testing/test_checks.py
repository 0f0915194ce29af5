"""The contract's checks pass what meets it and find each way of breaking it, by name."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vidlib import methods
from vidlib.basics.errors import UserError
from vidlib.methods import FewShotMethod, Match
from vidlib.methods.base import class_means, cosine
from vidlib.testing import ContractError, check_method
from vidlib.testing.checks import CHECKS


class Sound(FewShotMethod):
    """The mean of frames through a layer with dropout, compared with class means."""

    uses_text = False
    by_role = False

    def __init__(self, backbone, frames=8, *, width=16):
        super().__init__(backbone, frames, feature_dim=width)
        self.layer = nn.Sequential(nn.Linear(backbone.embed_dim, width), nn.Dropout(0.1))

    def embed(self, clips, text, role):
        return {"mean": self.layer(self.frame_features(clips)).mean(1)}

    def match(self, support, labels, query, text, targets=None):
        logits = 5 * cosine(query["mean"], class_means(support["mean"], labels, text.shape[1]))
        losses = {}
        if targets is not None:
            losses["metric"] = F.cross_entropy(logits.flatten(0, 1), targets.query_labels.flatten())
        return Match(logits, losses)


class Dropping(Sound):
    def embed(self, clips, text, role):
        return {"mean": F.dropout(super().embed(clips, text, role)["mean"], 0.5, training=True)}


class Remembering(Sound):
    def match(self, support, labels, query, text, targets=None):
        before, self.last = getattr(self, "last", 0.0), query["mean"].mean().detach()
        return super().match(support, labels, {"mean": query["mean"] + before}, text, targets)


class Blind(Sound):
    def match(self, support, labels, query, text, targets=None):
        return super().match(support, labels, {"mean": torch.ones_like(query["mean"])}, text, targets)


class FirstSupportCounts(Sound):
    def match(self, support, labels, query, text, targets=None):
        first = F.one_hot(torch.zeros_like(labels[:, :1]), labels.shape[1])[:, 0, :, None]
        return super().match({"mean": support["mean"] + first}, labels, query, text, targets)


class PrefersClassZero(Sound):
    def match(self, support, labels, query, text, targets=None):
        match = super().match(support, labels, query, text, targets)
        return Match(match.logits + F.one_hot(torch.tensor(0), match.logits.shape[-1]), match.losses)


class PrefersFirstQuery(Sound):
    def match(self, support, labels, query, text, targets=None):
        match = super().match(support, labels, query, text, targets)
        place = torch.arange(match.logits.shape[1], device=labels.device)[:, None] + 1.0
        return Match(match.logits * place, match.losses)


class LooksAtOtherQueries(Sound):
    def match(self, support, labels, query, text, targets=None):
        mean = query["mean"]
        return super().match(support, labels, {"mean": mean - mean.mean(1, keepdim=True)}, text, targets)


class NormalisesOverVideos(Sound):
    def embed(self, clips, text, role):
        mean = super().embed(clips, text, role)["mean"]
        return {"mean": mean - mean.mean(0)}


class Peeks(Sound):
    def match(self, support, labels, query, text, targets=None):
        match = super().match(support, labels, query, text, targets)
        if targets is not None:
            match.logits = match.logits + F.one_hot(targets.query_labels, text.shape[1])
        return match


class ReadsTextSilently(Sound):
    def match(self, support, labels, query, text, targets=None):
        match = super().match(support, labels, query, text, targets)
        return Match(match.logits + text.sum(-1)[:, None], match.losses)


class MixesEpisodes(Sound):
    def match(self, support, labels, query, text, targets=None):
        mean = support["mean"]
        return super().match({"mean": mean + mean.mean(0)}, labels, query, text, targets)


class RoleInSecret(Sound):
    def embed(self, clips, text, role):
        mean = super().embed(clips, text, role)["mean"]
        return {"mean": mean * (2 if role == "support" else 1) + (role == "support")}


class ForgetsAWeight(Sound):
    def __init__(self, backbone, frames=8):
        super().__init__(backbone, frames)
        self.hidden = [torch.randn(16)]

    def embed(self, clips, text, role):
        return {"mean": super().embed(clips, text, role)["mean"] + self.hidden[0]}


class TrainsWhatNothingReaches(Sound):
    def __init__(self, backbone, frames=8):
        super().__init__(backbone, frames)
        self.idle = nn.Linear(3, 3)


class NeedsBalance(Sound):
    def match(self, support, labels, query, text, targets=None):
        episodes, supports = labels.shape
        order = labels.argsort(1)
        sorted_ = support["mean"].gather(1, order[..., None].expand_as(support["mean"]))
        means = sorted_.view(episodes, text.shape[1], supports // text.shape[1], -1).mean(2)
        return Match(5 * cosine(query["mean"], means), super().match(support, labels, query, text, targets).losses)


class NotFinite(Sound):
    def match(self, support, labels, query, text, targets=None):
        match = super().match(support, labels, query, text, targets)
        return Match(match.logits / 0.0, match.losses)


class OneLogitShort(Sound):
    def match(self, support, labels, query, text, targets=None):
        match = super().match(support, labels, query, text, targets)
        return Match(match.logits[..., 1:], match.losses)


class SumsTheLoss(Sound):
    def match(self, support, labels, query, text, targets=None):
        match = super().match(support, labels, query, text, targets)
        return Match(match.logits, {name: len(labels) * loss for name, loss in match.losses.items()})


BROKEN = {
    Dropping: ("repeats", "other logits the second time"),
    Remembering: ("repeats", "other logits the second time"),
    Blind: ("looks at the query", "not looked at"),
    FirstSupportCounts: ("order of supports", "another order"),
    PrefersClassZero: ("order of classes", "numbering the classes"),
    PrefersFirstQuery: ("order of queries", "place among the queries"),
    LooksAtOtherQueries: ("other queries", "other queries change"),
    NormalisesOverVideos: ("other videos", "'mean' of a support changes"),
    Peeks: ("labels of queries", "an answer leaks"),
    ReadsTextSilently: ("class texts", "though uses_text is False"),
    MixesEpisodes: ("batches", "other logits than one by one"),
    SumsTheLoss: ("batches", "not the mean over its episodes"),
    RoleInSecret: ("embed and match", "by_role is False"),
    ForgetsAWeight: ("save and load", "something trained is not saved"),
    TrainsWhatNothingReaches: ("gradients", "no loss reaches idle.weight"),
    NeedsBalance: ("shots and ways", "RuntimeError"),
    NotFinite: ("shapes", "not finite"),
    OneLogitShort: ("shapes", "(2, 4, 2)"),
}


def test_a_sound_method_meets_the_contract_on_both_backbones():
    table = check_method(Sound, width=8)
    assert list(table.index) == list(CHECKS) and (table["holds"] == "yes").all()
    assert check_method(Sound, "resnet18", only=("shapes", "class texts"))["found"]["class texts"].startswith(
        "the backbone"
    )


@pytest.mark.parametrize("broken", BROKEN, ids=lambda cls: cls.__name__)
def test_each_way_of_breaking_it_is_found(broken):
    check, words = BROKEN[broken]
    with pytest.raises(ContractError) as error:
        check_method(broken, only=(check,))
    assert words in str(error.value) and str(error.value).startswith(f"{broken.__name__} does not meet the contract")
    assert error.value.table.loc[check, "holds"] == "no"


@pytest.mark.parametrize("name", ["otam", "clip_fsar", "gghm"])
def test_methods_of_the_suite_pass(name):
    table = check_method(name, only=("shots and ways", "other queries", "labels of queries", "embed and match"))
    assert (table["holds"] == "yes").all() and name in methods.METHODS


def test_what_a_method_says_it_cannot_is_not_required():
    class Whole(LooksAtOtherQueries):
        whole_episode = True

    table = check_method(Whole, only=("other queries", "labels of queries"))
    assert table["holds"].tolist() == ["not required", "yes"]


def test_an_unknown_argument_is_named():
    with pytest.raises(UserError, match="no argument 'widht'"):
        check_method(Sound, widht=3)
