"""What claims are checked with, and the claims of the notebooks that take any method.

The notebooks of single papers state and assert theirs in their own last cells. A claim that does not hold raises
``AssertionError``, so the notebook fails; what these parameters do not test is said instead.
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import torch

from vidlib.basics.devices import make_fabric
from vidlib.data.episodes import assemble
from vidlib.data.manifest import Manifest
from vidlib.methods import METHODS, FewShotMethod
from vidlib.params.by_recipe import (
    BASELINES,
    WITH_TEXT,
    ByRecipe,
    ComparisonParams,
    FewShotNotebookParams,
    YourMethodParams,
)
from vidlib.params.tools import TowersParams
from vidlib.results import calibration, open_set, runs
from vidlib.results.accuracy import Evaluation, paired
from vidlib.studies import comparison as comparing
from vidlib.studies import few_shot as study
from vidlib.studies import towers as heads_on_towers
from vidlib.training import evaluate_episodes
from vidlib.training import few_shot as training

# Whose small recipe was seen to gain on new classes, seed by seed, and on which world; of others nothing is claimed.
LEARNED = dict.fromkeys(("trx", "gghm", "sloshnet"), "motion")
# A video is a set of frames to them.
ORDER_BLIND = ("protonet", "bimhm", *(name for name in BASELINES if name != WITH_TEXT))
ORDERED = ("otam", "trx")  # frame metrics that see the order
COUNTED = {"hyrsm": 65.6, "molo": 89.6}  # millions on ResNet-50, of MoLo's complexity table as recalled
Found = Mapping[str, Sequence[runs.Run]]


def episode_lists(found: Mapping[Any, Sequence[runs.Run]]) -> set[str]:
    """The checksums of the lists of test episodes that the runs were tested on: one, where they met the same."""
    return {run.result["test"]["checksum"] for same in found.values() for run in same}


def finds_itself(manifest: Manifest, run: runs.Run, episodes: int) -> float:
    """The share of queries that are found where each is one of the support videos itself, on at most 100 val episodes.

    Labels, episodes and metric must agree for it to be near 1; frames and metric without weights of their own are.
    """
    method, val = training.open_trained(run, manifest)
    drawn = [val.sampler[i] for i in range(min(100, episodes))]
    listed = [replace(e, query=e.support, query_labels=e.support_labels) for e in drawn]
    features = evaluate_episodes.embed_videos(method, val.clips, listed, val.text, label="claims")
    return evaluate_episodes.match_episodes(method, features, val.sampler, listed, val.text).accuracy


def reversed_frames(method: FewShotMethod, val: training.Split) -> float:
    """How far logits move when the queries' frames are reversed: the most, in deviations of the logits, 2 episodes."""
    batch = assemble(val.clips, [val.sampler[i] for i in range(2)], val.text, train=False)
    with torch.no_grad():
        plain = method(batch).logits
        turned = method(replace(batch, query=batch.query.flip(2))).logits
    return float((turned - plain).abs().max() / plain.std())


def other_queries(method: FewShotMethod, val: training.Split) -> float:
    """How far the first query's logits move when the others of its episode are changed, in deviations of the logits."""
    batch = assemble(val.clips, [val.sampler[0]], val.text, train=False)
    with torch.no_grad():
        plain = method(batch).logits
        batch.query[:, 1:] = batch.query[:, 1:].flip(2).roll(1, dims=1)
        moved = (method(batch).logits - plain)[:, 0]
    return float(moved.abs().max() / plain.std())


def by_seed(found: Found, of: str, beside: str) -> list[tuple[Evaluation, Evaluation]]:
    """Seed by seed what was tested of a method, and of what stands beside it, on the same episodes."""
    return [(study.tested(a), study.tested(b)) for a, b in zip(found[of], found[beside], strict=True)]


def above(ours: Evaluation, floor: Evaluation) -> bool:
    """Whether ours is higher and the intervals do not meet."""
    return ours.accuracy - ours.interval > floor.accuracy + floor.interval


def gains(pairs: Sequence[tuple[Evaluation, Evaluation]]) -> list[float]:
    """Of each pair the difference, in points."""
    return [100 * paired(ours, floor).difference for ours, floor in pairs]


def verdict(gap: float, half: float) -> str:
    """A claim that ``gap`` is above zero, as it came out; undecided where half its interval reaches over zero."""
    return "holds" if gap > half else "does not hold" if gap < -half else "undecided"


def few_shot(p: ByRecipe, manifest: Manifest, found: Found) -> Iterator[str]:
    """What few_shot.ipynb claims of any method; of a user's own only what the protocol owes."""
    yield from _protocol(p, manifest, found)
    yield from _order(p, manifest, found[p.method][0])
    yield from learns(p, found)


def your_method(p: YourMethodParams, manifest: Manifest, found: Found, checks: pd.DataFrame) -> Iterator[str]:
    """What your_method.ipynb claims: the contract and the protocol; what the method gains is said as it came out."""
    assert set(checks["holds"]) <= {"yes", "not required"}, "the contract does not hold"
    yield f"holds: {study.label(p.method)} meets the contract in all {len(checks)} checks"
    yield from _protocol(p, manifest, found)
    for ours, floor in by_seed(found, p.method, "frozen"):
        yield f"not claimed, as it came out: {study.label(p.method)} {ours}, frozen features {floor}"


def comparison(p: ComparisonParams, found: Found, missing: pd.DataFrame) -> Iterator[str]:
    """What comparison.ipynb claims: one list of episodes, every method accounted for, commands that give the rows."""
    if not found:
        yield "not claimed here: anything, no method has its runs"
        return
    yield _same_episodes(found)
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
        assert abs(ours / theirs - 1) < 0.01, f"{study.label(name)} on ResNet-50: {ours:.1f} M, recalled {theirs:.1f}"
    same = ", ".join(f"{study.label(name)} {theirs:.1f}" for name, theirs in COUNTED.items())
    yield f"holds: our modules on ResNet-50 train as many as recalled of a published table, within 1%: {same} M"


def towers(
    p: TowersParams,
    manifest: Manifest,
    found: heads_on_towers.Found,
    kept: heads_on_towers.Kept,
    answers: Mapping[tuple[str, str], heads_on_towers.Answers],
) -> Iterator[str]:
    """What towers.ipynb claims: one list of episodes, features that are the videos', thresholds and temperatures of
    val; of which tower or head is better nothing."""
    yield _same_episodes(found)
    (head, tower), same = next(iter(found.items()))
    claim = "logits from the store are those from the videos, to 1e-5 of the largest"
    apart = heads_on_towers.from_videos(p, manifest, same[0], kept[tower][0])
    if make_fabric(p.device).device.type == "cpu" and apart == apart:
        assert apart < 1e-5, f"{claim}: {study.label(head)} on {tower} {apart:.1e}"
        yield f"holds: {claim}: {study.label(head)} on {tower}, {apart:.1e}"
    else:
        yield f"not claimed here, on another device or without videos: {claim}; {study.label(head)}, {apart:.1e}"
    trained = [(where, i, run) for where, same in found.items() for i, run in enumerate(same) if run.result["fit"]]
    for (head, tower), i, run in trained:
        assert run.result["features"]["digest"] == kept[tower][i].digest, f"{head} on {tower} trained on another store"
    if trained:
        yield f"holds: all {len(trained)} runs that train read the stores above, and no video"
    for (head, tower), each in answers.items():
        logits, labels = calibration.answers(each.val)
        warm = calibration.fit_temperature(logits, labels)
        assert calibration.loss(logits, labels, warm) <= calibration.loss(logits, labels) + 1e-6, (head, tower)
        scores = open_set.scores(each.val)
        assert (scores >= open_set.threshold(scores)).mean() >= open_set.KEPT, (head, tower)
    yield f"holds: each temperature lowers the loss of val, each threshold keeps {open_set.KEPT:.0%} of its queries"
    random = [name for name, named in p.planned.items() if not named["pretrained"]]
    yield f"not claimed here: that a tower or a head is better; the control is {', '.join(random) or 'not among them'}"


def _same_episodes(found: Mapping[Any, Sequence[runs.Run]]) -> str:
    lists = episode_lists(found)
    assert len(lists) == 1, f"the methods met different test episodes: {sorted(lists)}"
    return f"holds: all methods met the same test episodes (list {lists.pop()[:12]})"


def _protocol(p: ByRecipe, manifest: Manifest, found: Found) -> Iterator[str]:
    yield _same_episodes(found)
    claim = "frozen features recognise a query that is one of the support videos itself (at least 95%)"
    if p.shot > 1:
        yield f"not claimed here: {claim}; claimed for 1 shot"
        return
    accuracy = finds_itself(manifest, found["frozen"][0], p.test_episodes)
    assert accuracy >= 0.95, f"{claim}: found {accuracy:.1%}"
    yield f"holds: {claim}: {accuracy:.1%}"


def _order(p: ByRecipe, manifest: Manifest, run: runs.Run) -> Iterator[str]:
    part = reversed_frames(*training.open_trained(run, manifest))
    found = f"reversed, a query's frames move its logits by up to {part:.2g} of their spread"
    if p.method in ORDER_BLIND:
        assert part < 1e-4, f"{study.label(p.method)} should not see the order of frames: {found}"
        yield f"holds: the order of a query's frames plays no part: {found}"
    elif p.method in METHODS and p.metric in ORDERED:
        assert part > 1e-3, f"{study.label(p.method)} should see the order of frames: {found}"
        yield f"holds: it sees the order of frames: {found}"
    else:
        yield f"not claimed here: whether it sees the order of frames; {found}"


def learns(p: ByRecipe, found: Found) -> Iterator[str]:
    """That training gains on new classes: asserted where that was measured, else said as it came out."""
    world = LEARNED.get(p.method, "")
    how = "trained by its small recipe" if world else "trained"
    where = f"new classes of {world or 'an embedded world'}"
    claim = f"{how} {study.label(p.method)} is above itself untrained on {where}, intervals apart"
    if "untrained" not in found or not found[p.method][0].result["cost"]["trainable"]:
        yield f"not claimed here: {claim}; nothing was trained"
        return
    pairs = by_seed(found, p.method, "untrained")
    gained = f"{', '.join(f'{gain:+.1f}' for gain in gains(pairs))} points, seeds: {len(pairs)}"
    if p.dataset != world or not p.as_recipe:
        yield f"not claimed here: {claim}; as it came out: {gained}"
        return
    for trained, before in pairs:
        assert above(trained, before), f"{claim}: the intervals overlap, {trained} and {before}"
    yield f"holds: {claim}: {gained}"
