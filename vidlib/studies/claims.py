"""What the notebooks claim, each for named parameters: checked, or said not to be claimed or testable here.

A claim that does not hold raises ``AssertionError``, so the notebook fails.
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from vidlib.data.episodes import assemble
from vidlib.data.manifest import Manifest
from vidlib.methods import METHODS, FewShotMethod, build
from vidlib.params.by_recipe import (
    ByRecipe,
    ComparisonParams,
    FewShotNotebookParams,
    GgHMParams,
    SloshNetParams,
    YourMethodParams,
)
from vidlib.params.few_shot import FewShotParams, MAFSARParams
from vidlib.results import runs
from vidlib.results.accuracy import paired
from vidlib.studies import comparison as comparing
from vidlib.studies import few_shot as study
from vidlib.training import evaluate_episodes
from vidlib.training import few_shot as training
from vidlib.viz import architecture_search

DEFAULT_GAIN, LAPTOP_GAIN, SHUFFLE_LOSS = 0.15, 0.28, 0.05
ENOUGH_TRAINING, ENOUGH_TESTS, LAPTOP_TRAINING = 450, 1000, 1200
B16_TRAINABLE = 18_535_168
ORDER_BLIND = ("protonet", "bimhm")  # a video is a set of frames to them
ORDERED = ("otam", "trx")  # frame metrics that see the order
COUNTED = {"trx": 47.1, "hyrsm": 65.6, "molo": 89.6, "sloshnet": 166.8}  # published, millions, ResNet-50
NAMED = ("dataset", "backbone", "pretrained", "way", "shot", "metric", "frames", "mix")


def ma_fsar(
    p: MAFSARParams, manifest: Manifest, found: Mapping[str, Sequence[runs.Run]], method: FewShotMethod
) -> Iterator[str]:
    """Check the claims one after another; each line says what was found."""
    yield from _same_episodes(found)
    yield from _finds_itself(p, manifest, found["frozen_clip"][0], p.metric)
    yield from _fewer_parameters(p, method)
    yield from _gain(p, found)
    yield from _needs_time(p, found)


def _same_episodes(found: Mapping[str, Sequence[runs.Run]]) -> Iterator[str]:
    lists = {run.result["test"]["checksum"] for same in found.values() for run in same}
    assert len(lists) == 1, f"the methods met different test episodes: {sorted(lists)}"
    yield f"holds: all methods met the same test episodes (list {lists.pop()[:12]})"


def few_shot(p: ByRecipe, manifest: Manifest, found: Mapping[str, Sequence[runs.Run]]) -> Iterator[str]:
    """What few_shot.ipynb claims of any method; of a user's own only what the protocol owes."""
    yield from _same_episodes(found)
    yield from _finds_itself(p, manifest, found["frozen"][0], "otam")
    yield from _order(p, manifest, found[p.method][0])
    yield from _learns(p, found)


def gghm(
    p: GgHMParams, manifest: Manifest, found: Mapping[str, Sequence[runs.Run]], worlds: pd.DataFrame
) -> Iterator[str]:
    """What gghm.ipynb claims; ``worlds`` is the second table of ``guiding.by_alpha``."""
    yield from _same_episodes(found)
    yield from _finds_itself(p, manifest, found["frozen"][0], "otam")
    yield from _neutral(manifest, found["gghm"][0])
    yield from _learns(p, found)
    yield from _frames_and_tuples(p, worlds)


def _neutral(manifest: Manifest, run: runs.Run) -> Iterator[str]:
    """The first val episode: what its graph starts from, and what a query's logits depend on."""
    method, val = training.open_trained(run, manifest)
    if method.guidance is None:
        yield "not claimed here: what the graph sees, there is none"
        return
    seen = {}
    method.guidance.graph.register_forward_hook(lambda _, given, edges: seen.update(start=given[1]))
    batch = assemble(val.clips, [val.sampler[0]], val.text, train=False)
    with torch.no_grad():
        plain = method(batch).logits[:, 0]
        batch.query[:, 1:] = batch.query[:, 1:].flip(2).roll(1, dims=1)
        moved = float((method(batch).logits[:, 0] - plain).abs().max())
    way = plain.shape[-1]
    assert (seen["start"][way:, :way] == 0.5).all() and torch.equal(seen["start"][:way, :way].cpu(), torch.eye(way))
    yield "holds: a query's edges start neutral, at 0.5; the others tell which classes are one and which are not"
    claim = "a query's score does not depend on the other queries"
    if method.guidance.shared:
        assert moved > 0, "a shared graph should see the other queries"
        yield f"not claimed here: {claim}; all queries of an episode share a graph (transductive)"
    else:
        assert moved < 1e-4 * float(plain.abs().max()), f"{claim}: others moved it by {moved:.2g}"
        yield f"holds: {claim}"


def _frames_and_tuples(p: GgHMParams, worlds: pd.DataFrame) -> Iterator[str]:
    """The paper's claim about matching, in each world as it came out; a world that decides neither way says so."""
    suits = {"moving_shapes": ("tuples", "time", 1), "moving_shapes_scene": ("frames", "appearance", -1)}
    for (world, weights), row in worlds.iterrows():
        if world not in suits:
            continue
        better, what, sign = suits[world]
        gap, half = (row[column] for column in ("tuples minus frames", "± (paired 95%)"))
        verdict = "holds" if sign * gap > half else "does not hold" if sign * gap < -half else "undecided"
        claim = f"{better} suit {what} better, {weights} on {world}, val, one model"
        yield f"{verdict}: {claim}: tuples minus frames {gap:+.1f} ± {half:.1f} points"
    learned = worlds.xs("trained", level="weights")
    if p.as_recipe and "moving_shapes" in learned.index:
        gap, half = learned.loc["moving_shapes", ["tuples minus frames", "± (paired 95%)"]]
        assert gap > half, f"with this notebook's defaults tuples beat frames on moving_shapes: {gap:+.1f} ± {half:.1f}"


def sloshnet(
    p: SloshNetParams, manifest: Manifest, found: Mapping[str, Sequence[runs.Run]], changed: pd.DataFrame
) -> Iterator[str]:
    """What sloshnet.ipynb claims; ``changed`` is the table of ``at_test``, whose verdicts are as they came out."""
    run = found["sloshnet"][0]
    yield from _same_episodes(found)
    yield from _finds_itself(p, manifest, found["frozen"][0], "otam")
    yield from _order(p, manifest, run)
    yield from _videos_apart(manifest, run)
    yield from _searched(p, run)
    yield from _learns(p, found)
    for part in ("the long-term module", "the short-term module"):
        if f"without {part}" in changed.index:
            gap, half = -changed.loc[f"without {part}", "difference"], changed.loc[f"without {part}", "half"]
            verdict = "holds" if gap > half else "does not hold" if gap < -half else "undecided"
            yield f"{verdict}: the trained weights need {part}: it is worth {gap:+.1f} ± {half:.1f} points at test, val"


def _videos_apart(manifest: Manifest, run: runs.Run) -> Iterator[str]:
    """The first val episode with other queries beside the first one."""
    method, val = training.open_trained(run, manifest)
    batch = assemble(val.clips, [val.sampler[0]], val.text, train=False)
    with torch.no_grad():
        plain = method(batch).logits
        batch.query[:, 1:] = batch.query[:, 1:].flip(2).roll(1, dims=1)
        part = float((method(batch).logits - plain)[:, 0].abs().max() / plain.std())
    found = f"other queries move a query's logits by up to {part:.2g} of their spread"
    assert method.whole_episode == (part > 1e-4), f"a method that says whole_episode {method.whole_episode}: {found}"
    if method.whole_episode:
        yield f"does not hold here, as the released code has it: a query's score does not depend on others; {found}"
    else:
        yield f"holds: a query's score does not depend on the other queries: {found}"


def _searched(p: SloshNetParams, run: runs.Run) -> Iterator[str]:
    """The weights that the run's record watched: shares of one, and moved by training."""
    claim = "the search moved: some operation's weight changed by at least 0.02 in training"
    if p.fusion != "search" or not run.result["fit"]:
        yield f"not claimed here: {claim}; nothing was searched"
        return
    watched = run.metrics()
    for group, names in architecture_search.groups(list(watched)).items():
        assert (watched[names].sum(axis=1) - 1).abs().max() < 1e-3, f"the weights of {group} do not add up to one"
    operations = [name for name in watched if "<" in name]
    moved = float((watched[operations].iloc[-1] - watched[operations].iloc[0]).abs().max())
    if p.as_recipe:
        assert moved >= 0.02, f"{claim}: found {moved:.3f}"
        yield f"holds: {claim}: the largest change is {moved:.3f}"
    else:
        yield f"not claimed here: {claim}; the largest change is {moved:.3f}"


def your_method(
    p: YourMethodParams, manifest: Manifest, found: Mapping[str, Sequence[runs.Run]], checks: pd.DataFrame, own: bool
) -> Iterator[str]:
    """What your_method.ipynb claims: the contract, the protocol and, of the method written there, what it gains."""
    assert set(checks["holds"]) <= {"yes", "not required"}, "the contract does not hold"
    yield f"holds: {study.label(p.method)} meets the contract in all {len(checks)} checks"
    yield from _same_episodes(found)
    yield from _finds_itself(p, manifest, found["frozen"][0], "otam")
    claim = f"with this notebook's defaults {study.label(p.method)} is above frozen features, intervals apart"
    if not own or not p.as_recipe or p.dataset != "moving_shapes":
        yield f"not claimed here: {claim}"
        return
    for ours, floor in zip(found[p.method], found["frozen"], strict=True):
        ours, floor = study.tested(ours), study.tested(floor)
        assert ours.accuracy - ours.interval > floor.accuracy + floor.interval, f"{claim}: {ours}, {floor}"
    yield f"holds: {claim}: {ours} against {floor}"


def comparison(p: ComparisonParams, found: Mapping[str, Sequence[runs.Run]], missing: pd.DataFrame) -> Iterator[str]:
    """What comparison.ipynb claims: one list of episodes, every method accounted for, commands that give the rows."""
    if not found:
        yield "not claimed here: anything, no method has its runs"
        return
    yield from _same_episodes(found)
    asked = {study.label(name) for name in p.compared}
    shown = {study.label(name) for name in found} | set(missing.index)
    assert asked <= shown, f"neither shown nor missing: {', '.join(sorted(asked - shown))}"
    yield f"holds: each of the {len(asked)} methods is in the table or listed as missing"
    for name in (name for name in p.compared if name in found):
        words = shlex.split(comparing.command(p, name))
        given = {words[i + 1]: words[i + 2] for i, word in enumerate(words) if word == "-p"}
        alone = FewShotNotebookParams.parse(given).run_params()
        assert alone.determining() == p.run_params(name).determining(), f"the command of {name} does another run"
    yield "holds: the command of every row does that row's run"
    for name in COUNTED:
        theirs, ours = COUNTED[name], comparing.count(name, "resnet50")
        assert abs(ours / theirs - 1) < 0.01, f"{study.label(name)} on ResNet-50: {ours:.1f} M, published {theirs:.1f}"
    same = ", ".join(f"{study.label(name)} {theirs:.1f}" for name, theirs in COUNTED.items())
    yield f"holds: our modules on ResNet-50 train as many parameters as published, within 1%: {same} M"


def _order(p: ByRecipe, manifest: Manifest, run: runs.Run) -> Iterator[str]:
    """The first val episodes, with every query as it is and with its frames reversed."""
    method, val = training.open_trained(run, manifest)
    batch = assemble(val.clips, [val.sampler[i] for i in range(2)], val.text, train=False)
    with torch.no_grad():
        plain = method(batch).logits
        turned = method(replace(batch, query=batch.query.flip(2))).logits
    part = float((turned - plain).abs().max() / plain.std())
    found = f"reversed, a query's frames move its logits by up to {part:.2g} of their spread"
    if p.method in ORDER_BLIND:
        assert part < 1e-4, f"{study.label(p.method)} should not see the order of frames: {found}"
        yield f"holds: the order of a query's frames plays no part: {found}"
    elif p.method in METHODS and p.metric in ORDERED:
        assert part > 1e-3, f"{study.label(p.method)} should see the order of frames: {found}"
        yield f"holds: it sees the order of frames: {found}"
    else:
        yield f"not claimed here: whether it sees the order of frames; {found}"


def _learns(p: ByRecipe, found: Mapping[str, Sequence[runs.Run]]) -> Iterator[str]:
    world = "moving_shapes_scene" if p.method in ORDER_BLIND else "moving_shapes"
    claim = f"trained by its small recipe it is above itself untrained on the new classes of {world}, intervals apart"
    if p.method not in METHODS or not found[p.method][0].result["cost"]["trainable"]:
        yield f"not claimed here: {claim}; claimed for the methods of this suite that train anything"
    elif p.dataset != world or not p.as_recipe:
        yield f"not claimed here: {claim}; nothing but method, seed and seeds may be given then"
    else:
        pairs = [(study.tested(a), study.tested(b)) for a, b in zip(found[p.method], found["untrained"], strict=True)]
        for trained, before in pairs:
            apart = trained.accuracy - trained.interval > before.accuracy + before.interval
            assert apart, f"{claim}: the intervals overlap, {trained} and {before}"
        gains = ", ".join(f"{100 * paired(a, b).difference:+.1f}" for a, b in pairs)
        yield f"holds: {claim}: {gains} points, seeds: {len(pairs)}"


def _finds_itself(p: FewShotParams, manifest: Manifest, run: runs.Run, metric: str) -> Iterator[str]:
    """With the query being the support video itself, labels, episodes and metric must agree: every query is found."""
    claim = "frozen features recognise a query that is one of the support videos itself (at least 95%)"
    if metric == "trx" or p.shot > 1:
        yield f"not claimed here: {claim}; claimed for 1 shot and a metric without weights of its own"
        return
    method, val = training.open_trained(run, manifest)
    drawn = [val.sampler[i] for i in range(min(100, p.test_episodes))]
    episodes = [replace(e, query=e.support, query_labels=e.support_labels) for e in drawn]
    features = evaluate_episodes.embed_videos(method, val.clips, episodes, val.text, label="claims")
    accuracy = evaluate_episodes.match_episodes(method, features, val.sampler, episodes, val.text).accuracy
    assert accuracy >= 0.95, f"{claim}: found {accuracy:.1%}"
    yield f"holds: {claim}: {accuracy:.1%} of {len(episodes)} val episodes"


def _fewer_parameters(p: MAFSARParams, method: FewShotMethod) -> Iterator[str]:
    ours = sum(x.numel() for x in method.trainable().values())
    theirs = build("clip_fsar", method.backbone, frames=p.frames)
    full = sum(x.numel() for x in theirs.trainable().values())
    build("frozen_clip", method.backbone, frames=p.frames)  # freezes the backbone again
    assert ours < full, f"MA-FSAR trains {ours:,} parameters, CLIP-FSAR {full:,}"
    yield f"holds: MA-FSAR trains fewer parameters than CLIP-FSAR on {p.backbone}: {ours:,} against {full:,}"
    if p.backbone.startswith("ViT-B-16") and p.frames == 8 and p.metric == "otam":
        assert ours == B16_TRAINABLE, f"{ours:,} trainable parameters, expected {B16_TRAINABLE:,}"
        yield f"holds: {ours:,} trainable parameters with ViT-B/16, 8 frames and OTAM"


def _gain(p: MAFSARParams, found: Mapping[str, Sequence[runs.Run]]) -> Iterator[str]:
    wanted = LAPTOP_GAIN if p.seeds >= 3 and p.train_episodes >= LAPTOP_TRAINING else DEFAULT_GAIN
    claim = f"MA-FSAR is at least {100 * wanted:.0f} points above frozen CLIP on novel classes, intervals apart"
    named = {name: MAFSARParams.model_fields[name].default for name in NAMED}
    if any(getattr(p, name) != value for name, value in named.items()):
        yield f"not claimed here: {claim}; claimed for {', '.join(f'{n} {v}' for n, v in named.items())}"
        return
    if p.train_episodes < ENOUGH_TRAINING or p.test_episodes < ENOUGH_TESTS:
        need = f"{ENOUGH_TRAINING} training and {ENOUGH_TESTS} test episodes"
        yield f"too small to test: {claim}; it needs {need}, this run had {p.train_episodes} and {p.test_episodes}"
        return
    pairs = [(study.tested(a), study.tested(b)) for a, b in zip(found["ma_fsar"], found["frozen_clip"], strict=True)]
    mean = float(np.mean([paired(ours, floor).difference for ours, floor in pairs]))
    assert mean >= wanted, f"{claim}: found {100 * mean:+.1f} as the mean of {len(pairs)} seeds"
    for ours, floor in pairs:
        apart = ours.accuracy - ours.interval > floor.accuracy + floor.interval
        assert apart, f"{claim}: the intervals overlap, {ours} and {floor}"
    yield f"holds: {claim}: {100 * mean:+.1f}, seeds: {len(pairs)}"


def _needs_time(p: MAFSARParams, found: Mapping[str, Sequence[runs.Run]]) -> Iterator[str]:
    claim = f"on moving_shapes MA-FSAR loses at least {100 * SHUFFLE_LOSS:.0f} points when the frames are shuffled"
    if p.dataset != "moving_shapes" or p.backbone != "clip-mini" or p.frames < 8:
        yield f"not claimed here: {claim}; claimed with clip-mini and 8 frames or more"
    elif p.train_episodes < ENOUGH_TRAINING or p.test_episodes < ENOUGH_TESTS:
        yield f"too small to test: {claim}"
    else:
        results = [run.result for run in found["ma_fsar"]]
        loss = float(np.mean([r["test"]["accuracy"] - r["frames_shuffled"]["accuracy"] for r in results]))
        assert loss >= SHUFFLE_LOSS, f"{claim}: found {100 * loss:.1f}"
        yield f"holds: {claim}: {100 * loss:.1f}"
