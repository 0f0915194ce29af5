"""GgHM looked into without training it: frames against tuples in two worlds, and what the graph does. All on val."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from vidlib.basics.devices import make_fabric, place
from vidlib.data.episodes import EpisodeSampler, assemble
from vidlib.data.manifest import Manifest
from vidlib.methods.gghm import GgHM
from vidlib.params.by_recipe import GgHMParams
from vidlib.params.few_shot import RunParams
from vidlib.results import runs
from vidlib.results.accuracy import paired
from vidlib.training import evaluate_episodes, few_shot
from vidlib.training.few_shot import EVALUATION_SEED, Split

ALPHAS = tuple(i / 10 for i in range(11))
SHOWN = 3  # queries per class in the figure of one episode


def other_world(p: GgHMParams) -> runs.Run:
    """GgHM trained as ``p`` says, in the world beside: the last weights count, and nothing but val is read of it."""
    return few_shot.run(p.run_params(dataset=p.beside, report="val", val_episodes=0, val_every=1))


def by_alpha(p: GgHMParams, trained: Sequence[runs.Run]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Accuracy on val of every run, as trained and untrained, by alpha; nothing is trained, each video embedded once.

    -> rows (world, weights, alpha, accuracy and interval in per cent), and per world and weights tuples alone minus
    frames alone on the same episodes, in points with its paired interval.
    """
    fabric, rows, gaps = make_fabric(p.device, p.precision), [], []
    for run in trained:
        params = RunParams.parse(run.params)
        manifest = few_shot.open_manifest(params)
        method, val = few_shot.open_trained(run, manifest)
        run.count_reading("val", "hybrid weight")
        for weights, model in (("trained", method), ("untrained", few_shot.open_method(params))):
            settings = {"fabric": fabric, "keep_parts": True, "label": f"{params.dataset}, {weights}"}
            plain = evaluate_episodes.evaluate(model, val.clips, val.sampler, p.test_episodes, val.text, **settings)
            row = {"world": params.dataset, "weights": weights}
            mixed = {alpha: evaluate_episodes.mix(model, plain, alpha) for alpha in ALPHAS}
            rows += [
                row | {"alpha": alpha, "accuracy": 100 * r.accuracy, "interval": 100 * r.interval}
                for alpha, r in mixed.items()
            ]
            gap = paired(mixed[1.0], mixed[0.0])
            row |= {"frames (%)": 100 * mixed[0.0].accuracy, "tuples (%)": 100 * mixed[1.0].accuracy}
            row |= {"tuples minus frames": 100 * gap.difference, "± (paired 95%)": 100 * gap.interval}
            row |= {f"± {kind}": 100 * half for kind, half in gap.intervals.items() if kind != "episodes"}
            gaps.append(row | {"best alpha": max(ALPHAS, key=lambda alpha: mixed[alpha].accuracy)})
    return pd.DataFrame(rows), pd.DataFrame(gaps).set_index(["world", "weights"])


def one_episode(
    p: GgHMParams, manifest: Manifest, method: GgHM, val: Split
) -> tuple[dict[str, np.ndarray], np.ndarray, list[str]]:
    """The first val episode with ``SHOWN`` queries a class, or as many as fit, before and after the graph's guidance,
    and the edges that guide.

    -> panels [Q W] in 0 to 1, the queries' classes [Q], the classes' names. Similarities are softmax of the logits;
    "before" is the same trained model with the guidance left out.
    """
    fewest = min(Counter(row.cls for row in manifest.videos("val")).values())
    shown = max(1, min(SHOWN, fewest - p.shot))
    sampler = EpisodeSampler(manifest, "val", p.way, p.shot, shown, EVALUATION_SEED)
    episode = sampler[0]
    batch = place(make_fabric(p.device, p.precision), assemble(val.clips, [episode], val.text, train=False))
    method = method.to(batch.support.device).eval()
    with torch.no_grad():
        after = method(batch)
        guidance, method.guidance = method.guidance, None
        before = method(batch)
        method.guidance = guidance
    panels = {"before guidance": before.logits[0].softmax(-1), "after guidance": after.logits[0].softmax(-1)}
    if "graph" in after.parts:
        panels["the query's edges, which guide"] = after.parts["graph"][0].exp()
    names = [manifest.text(name) for name in episode.classes]
    return {name: values.float().cpu().numpy() for name, values in panels.items()}, episode.query_labels, names
