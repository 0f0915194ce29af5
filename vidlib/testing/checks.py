"""The checks of the contract: each takes a ``Bench`` and says what it found, or raises ``Broken`` saying what is wrong.

Legend: `E` episodes, `B` videos, `W` way, `S` supports, `Q` queries, `T` frames, `D` text width, `K` training classes.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from vidlib.basics.words import few
from vidlib.data.episodes import EpisodeBatch, Targets
from vidlib.methods.base import Match, class_rows
from vidlib.testing.bench import NAMES, QUERIES, WAY, Bench, Broken
from vidlib.training import checkpoints

Check = Callable[[Bench], str]


def _forward(bench: Bench) -> str:
    for shots in ((1,) * WAY, (3,) * WAY):
        batch = bench.batch(episodes=2, shots=shots)
        match = bench.match(batch)
        _well_formed(match, (2, QUERIES, WAY), "with targets")
        if not match.losses:
            raise Broken("match gives no losses though it was given targets")
        for name, loss in match.losses.items():
            if loss.ndim or not torch.isfinite(loss):
                raise Broken(f"the loss {name!r} is {loss}, not one finite number")
    with torch.no_grad():
        for role in ("support", "query"):
            text = batch.text[:, 0] if bench.method.support_text and role == "support" else None
            features = bench.method.embed(batch.query[:, 0], text, role)
            short = [name for name, value in features.items() if len(value) != 2]
            if short:
                raise Broken(f"embed of 2 videos gives {short[0]!r} with {len(features[short[0]])} rows")
    return f"logits [E Q W]; losses {', '.join(match.losses)}; features {', '.join(features)}"


def _well_formed(match: Match, shape: tuple[int, ...], when: str) -> None:
    if tuple(match.logits.shape) != shape:
        raise Broken(f"logits are {tuple(match.logits.shape)} {when}, not {shape}")
    if not torch.isfinite(match.logits).all():
        raise Broken(f"logits {when} are not finite")


def _shots_and_ways(bench: Bench) -> str:
    for shots in ((1, 3, 1), (1, 1), (2,) * 5, (1,) * 6):
        found = bench.match(bench.batch(shots=shots))
        _well_formed(found, (1, QUERIES, len(shots)), f"for {len(shots)} ways with {shots} supports")
    return "1 to 3 supports, unbalanced too; 2 to 6 ways"


def _backward(bench: Bench) -> str:
    method = bench.make().train()
    trained = method.trainable()
    if not trained:
        return "nothing is trained"
    for shots in ((1,) * WAY, (1, 3, 2)):
        method(bench.batch(shots=shots)).loss.backward()
    unreached = [name for name, p in trained.items() if p.grad is None]
    if unreached:
        raise Broken(f"no loss reaches {few(unreached, 3)}; freeze what is not trained")
    wild = [name for name, p in trained.items() if not torch.isfinite(p.grad).all()]
    if wild:
        raise Broken(f"the gradient of {few(wild, 3)} is not finite")
    return f"{sum(p.numel() for p in trained.values()):,} parameters get a gradient"


def _repeats(bench: Bench) -> str:
    bench.evaluate(bench.batch(seed=5))
    bench.same(bench.logits, bench.evaluate(bench.plain), "the same episode gives other logits the second time")
    return "the same episode gives the same logits, whatever came between"


def _sees_the_query(bench: Bench) -> str:
    other = replace(bench.plain, query=bench.batch(seed=7).query)
    if float((bench.evaluate(other) - bench.logits).abs().max()) <= 10 * bench.tolerance:
        raise Broken("other query videos leave the logits as they are: the query is not looked at")
    return "other query videos give other logits"


def _support_order(bench: Bench) -> str:
    batch = bench.batch(shots=(2, 1, 3))
    plain = bench.evaluate(batch)
    for order in (batch.support_labels[0].argsort(), batch.support_labels[0].argsort(descending=True)):
        turned = replace(batch, support=batch.support[:, order], support_labels=batch.support_labels[:, order])
        bench.same(plain, bench.evaluate(turned), "another order of the supports changes the logits")
    return "another order gives the same logits"


def _class_order(bench: Bench) -> str:
    batch, new = bench.batch(shots=(2, 1, 1)), torch.tensor([2, 0, 1])  # class c becomes new[c]
    old = new.argsort()
    turned = replace(batch, support_labels=new[batch.support_labels], text=batch.text[:, old])
    what = "numbering the classes otherwise does more than permute the logits"
    bench.same(bench.evaluate(batch)[..., old], bench.evaluate(turned), what)
    return "other numbers for the classes permute the logits"


def _query_order(bench: Bench) -> str:
    order = torch.tensor([2, 0, 3, 1])
    turned = bench.evaluate(replace(bench.plain, query=bench.plain.query[:, order]))
    bench.same(bench.logits[:, order], turned, "a query's place among the queries changes its logits")
    return "a query's place among the queries does not matter"


def _other_queries(bench: Bench) -> str:
    query = bench.plain.query.clone()
    query[:, 1:] = bench.batch(seed=7).query[:, 1:]
    bench.same(
        bench.logits[:, :1],
        bench.evaluate(replace(bench.plain, query=query))[:, :1],
        "other queries change a query's logits",
    )
    alone = bench.evaluate(replace(bench.plain, query=bench.plain.query[:, :1]))
    bench.same(bench.logits[:, :1], alone, "a query alone gets other logits than in company")
    return "a query's logits are the same alone and beside any others"


def _other_videos(bench: Bench) -> str:
    for role, videos, text in _roles(bench, bench.plain):
        together = bench.method.embed(videos, text, role)
        for i in range(len(videos)):
            alone = bench.method.embed(videos[i : i + 1], None if text is None else text[i : i + 1], role)
            for name, value in alone.items():
                _same_features(together[name][i : i + 1], value, f"{name!r} of a {role} changes with the other videos")
    return "a video's features are the same alone and beside any others"


def _roles(bench: Bench, batch: EpisodeBatch) -> Iterator[tuple[str, Tensor, Tensor | None]]:
    """Role, videos ``[B T 3 H W]`` and class texts of the first episode, as the evaluation embeds them."""
    wanted = bench.method.support_text
    text = class_rows(batch.text, batch.support_labels)[0] if wanted else None
    with torch.no_grad():
        yield "support", batch.support[0], text
        yield "query", batch.query[0], None


def _same_features(one: Tensor, other: Tensor, what: str) -> None:
    one, other = one.float(), other.float()
    if one.shape != other.shape or float((one - other).abs().max()) > 1e-4 * float(one.abs().max()) + 1e-6:
        raise Broken(what)


def _labels_of_queries(bench: Bench) -> str:
    labels = bench.plain.targets.query_labels
    for given in (labels, (labels + 1) % WAY):
        targets = replace(bench.plain.targets, query_labels=given)
        found = bench.match(replace(bench.plain, targets=targets)).logits
        bench.same(bench.logits, found, "the queries' labels change the logits: an answer leaks")
    ids = bench.plain.targets.class_ids
    targets = replace(bench.plain.targets, class_ids=(ids + 1) % len(NAMES), all_text=bench.texts.flip(0))
    found = bench.match(replace(bench.plain, targets=targets)).logits
    bench.same(bench.logits, found, "what only a loss may see (targets) changes the logits")
    return "logits are the same with any targets and without"


def _texts(bench: Bench) -> str:
    method, batch = bench.method, bench.plain
    if not bench.texts.shape[1]:
        return "the backbone has no texts"
    other = replace(batch, text=batch.text.roll(1, dims=1))
    if not method.uses_text:
        bench.same(bench.logits, bench.evaluate(other), "class texts change the logits though uses_text is False")
        return "class texts change nothing, as uses_text = False says"
    if not method.support_text:
        with torch.no_grad():
            plain = method.embed(batch.support[0], None, "support")
            given = method.embed(batch.support[0], batch.text[0], "support")
        for name, value in plain.items():
            _same_features(value, given[name], "embed reads a support's class text though support_text is False")
    return "a query is embedded without any text"


def _batches(bench: Bench) -> str:
    whole = bench.batch(episodes=3, shots=(2, 1, 1))
    found = bench.match(whole)
    singles = [bench.match(one(whole, e)) for e in range(3)]
    one_by_one = torch.cat([match.logits for match in singles])
    bench.same(one_by_one, found.logits, "episodes in a batch get other logits than one by one")
    mean = torch.stack([match.loss for match in singles]).mean()
    bench.same(mean, found.loss, "the loss of a batch is not the mean over its episodes")
    return "three episodes together are the three one by one"


def one(whole: EpisodeBatch, e: int) -> EpisodeBatch:
    """Episode ``e`` of a batch, as a batch."""
    at = slice(e, e + 1)
    targets = Targets(whole.targets.query_labels[at], whole.targets.class_ids[at], whole.targets.all_text)
    return EpisodeBatch(whole.support[at], whole.support_labels[at], whole.query[at], whole.text[at], targets)


def _embed_and_match(bench: Bench) -> str:
    batch, method = bench.batch(shots=(2, 1, 1)), bench.method
    features: dict[str, dict[str, Tensor]] = {}
    for role, videos, text in _roles(bench, batch):
        rows = [method.embed(v[None], None if text is None else text[i : i + 1], role) for i, v in enumerate(videos)]
        features[role] = {name: torch.cat([row[name] for row in rows])[None] for name in rows[0]}
    with torch.no_grad():
        cut = method.match(features["support"], batch.support_labels, features["query"], batch.text).logits
        other = {} if method.by_role or method.support_text else method.embed(batch.query[0], None, "support")
    bench.same(bench.evaluate(batch), cut, "embedding each video once and matching gives other logits than forward")
    for name, value in other.items():
        _same_features(features["query"][name][0], value, "by_role is False, but a support is embedded unlike a query")
    return "each video embedded once, then matched, gives what forward gives"


def _save_and_load(bench: Bench) -> str:
    if not bench.method.trainable():
        return "nothing is trained"
    fresh = bench.make(seed=1)
    with TemporaryDirectory() as folder:
        file = Path(folder, "weights.safetensors")
        checkpoints.save_trainable(bench.method, file)
        checkpoints.load_trainable(fresh, file)
    with torch.no_grad():
        found = fresh(replace(bench.plain, targets=None)).logits
    bench.same(
        bench.logits, found, "a new one with the saved weights gives other logits: something trained is not saved"
    )
    return "a new one with the saved weights gives the same logits"


def _bfloat16(bench: Bench) -> str:
    method = bench.make().train()
    with torch.autocast("cpu", torch.bfloat16):
        match = method(bench.plain)
    _well_formed(match, tuple(bench.logits.shape), "under bfloat16 autocast")
    if not torch.isfinite(match.loss):
        raise Broken("the loss under bfloat16 autocast is not finite")
    return "finite under bfloat16 autocast"


WHOLE = {"order of queries", "other queries", "other videos", "embed and match"}  # not asked of whole_episode methods
CHECKS: dict[str, tuple[str, Check]] = {
    "shapes": ("logits [E Q W], named losses, features [B ...], all finite", _forward),
    "shots and ways": ("any number of supports, equal or not; any number of classes", _shots_and_ways),
    "gradients": ("every trained parameter gets a finite gradient", _backward),
    "looks at the query": ("other query videos give other logits", _sees_the_query),
    "repeats": ("no chance and no memory in evaluation", _repeats),
    "order of supports": ("plays no part", _support_order),
    "order of classes": ("plays no part", _class_order),
    "order of queries": ("plays no part", _query_order),
    "other queries": ("do not touch a query's logits", _other_queries),
    "other videos": ("do not touch a video's features", _other_videos),
    "labels of queries": ("never reach the logits", _labels_of_queries),
    "class texts": ("are read where the method says so", _texts),
    "batches": ("a batch of episodes is the episodes one by one", _batches),
    "embed and match": ("together are forward, so that a video is embedded once", _embed_and_match),
    "save and load": ("what is trained is what is saved", _save_and_load),
    "bfloat16": ("autocast is survived", _bfloat16),
}
