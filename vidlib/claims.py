"""What the notebooks claim, each for named parameters: checked, or said not to be claimed or testable here.

A claim that does not hold raises ``AssertionError``, so the notebook fails.
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from vidlib import comparing, evaluation, runs, study, training
from vidlib.data.episodes import assemble
from vidlib.data.manifest import Manifest
from vidlib.methods import METHODS, FewShotMethod, build
from vidlib.open_params import ComparisonParams, FewShotNotebookParams, OpenParams, YourMethodParams
from vidlib.params import MAFSARParams, ProtocolParams
from vidlib.results import paired

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


def few_shot(p: OpenParams, manifest: Manifest, found: Mapping[str, Sequence[runs.Run]]) -> Iterator[str]:
    """What few_shot.ipynb claims of any method; of a user's own only what the protocol owes."""
    yield from _same_episodes(found)
    yield from _finds_itself(p, manifest, found["frozen"][0], "otam")
    yield from _order(p, manifest, found[p.method][0])
    yield from _learns(p, found)


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


def _order(p: OpenParams, manifest: Manifest, run: runs.Run) -> Iterator[str]:
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


def _learns(p: OpenParams, found: Mapping[str, Sequence[runs.Run]]) -> Iterator[str]:
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


def _finds_itself(p: ProtocolParams, manifest: Manifest, run: runs.Run, metric: str) -> Iterator[str]:
    """With the query being the support video itself, labels, episodes and metric must agree: every query is found."""
    claim = "frozen features recognise a query that is one of the support videos itself (at least 95%)"
    if metric == "trx" or p.shot > 1:
        yield f"not claimed here: {claim}; claimed for 1 shot and a metric without weights of its own"
        return
    method, val = training.open_trained(run, manifest)
    drawn = [val.sampler[i] for i in range(min(100, p.test_episodes))]
    episodes = [replace(e, query=e.support, query_labels=e.support_labels) for e in drawn]
    features = evaluation.embed_videos(method, val.clips, episodes, val.text, label="claims")
    accuracy = evaluation.match_episodes(method, features, val.sampler, episodes, val.text).accuracy
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
