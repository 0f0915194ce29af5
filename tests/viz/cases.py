"""Every public figure function on small, fixed data: what the stored images show and what the layout tests draw."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vidlib.matching import otam_path
from vidlib.viz import (
    ablation,
    alignment,
    architecture_search,
    attention,
    bubbles,
    catalogue,
    confidence,
    confusion,
    coverage,
    curves,
    distribution,
    filmstrip,
    gradcam,
    guidance,
    heatmap,
    ladder,
    missing_videos,
    price_of_test,
    shortcuts,
    side_by_side,
    tradeoff,
)

CLASSES = ("moving from left to right", "growing", "turning clockwise", "fading away")
METHODS = ("MA-FSAR", "SloshNet", "GgHM", "CLIP-FSAR", "AIM", "OTAM", "TRX", "STRM")


def wave(*shape: int, seed: int = 0) -> np.ndarray:
    """Values in 0 to 1 that no random generator's version changes."""
    at = np.arange(int(np.prod(shape)), dtype=float).reshape(shape)
    return (np.sin(12.9898 * at + 78.233 * (1 + seed)) * 43758.5453) % 1.0


def clip(seed: int = 0, frames: int = 8) -> np.ndarray:
    """A square that goes from left to right over a ground of its own colour, uint8 [T 24 32 3]."""
    made = np.full((frames, 24, 32, 3), (60 + 40 * seed) % 256, np.uint8)
    for t in range(frames):
        made[t, 8:16, 3 * t : 3 * t + 8] = (230, 180, 40 * (seed % 6))
    return made


def _ours() -> pd.DataFrame:
    rows = [("MA-FSAR", 0.31, 57.2, 0.19), ("AIM", 0.22, 49.0, 0.23), ("CLIP-FSAR", 0.97, 52.3, 0.13)]
    rows += [("frozen CLIP", 0.0, 25.1, 0.13), ("TRX", 0.25, 48.2, 0.16)]
    table = pd.DataFrame(rows, columns=["name", "trainable_M", "accuracy", "gmacs"])
    table = table.assign(low=table["accuracy"] - 1.3, high=table["accuracy"] + 1.3, over="episodes")
    table["training"] = np.where(table["trainable_M"] > 0, "450 episodes", "nothing")
    return table.assign(origin="ours", confidence="measured")


def _printed() -> pd.DataFrame:
    rows = [
        ("MA-CLIP", 14.3, 59.1, "verified"),
        ("CLIP-FSAR", 87.0, 54.5, "secondary"),
        ("AIM", 14.3, 50.2, "recalled"),
    ]
    rows += [("OTAM", np.nan, 36.4, "recalled"), ("EMP-Net", 88.0, 57.1, "verified")]
    return pd.DataFrame(rows, columns=["name", "trainable_M", "accuracy", "confidence"]).assign(origin="published")


def _metrics(steps: int = 120, seed: int = 0) -> pd.DataFrame:
    at = np.arange(1, steps + 1)
    loss = 1.7 * np.exp(-at / 60) + 0.3 * wave(steps, seed=seed)
    table = pd.DataFrame({"episode": at, "loss": loss, "accuracy": 0.2 + at / 200 * wave(steps, seed=seed + 1)})
    table["loss.q2s"], table["loss.q2t"] = 0.7 * loss, 0.3 * loss
    table["val_accuracy"] = np.where(at % 40 == 0, 0.3 + at / 400, np.nan)
    return table


def _seeds() -> pd.DataFrame:
    runs = [_metrics(seed=2 * seed).assign(seed=seed) for seed in range(3)]
    for seed, run in enumerate(runs):
        run["loss"], run["val_accuracy"] = run["loss"] * (1 + 0.15 * seed), run["val_accuracy"] - 0.04 * seed
        run["accuracy"] *= 1 + 0.2 * seed
    return pd.concat(runs)


def _ablations() -> pd.DataFrame:
    rows = [("no text token", -4.2, "trained"), ("no temporal adaptation at all", -7.5, "trained")]
    rows += [("frames shuffled", -3.1, "test"), ("metric bimhm", 0.6, "test"), ("no joint adapter", np.nan, "trained")]
    table = pd.DataFrame(rows, columns=["name", "delta", "kind"])
    return table.assign(low=table["delta"] - 1.1, high=table["delta"] + 1.1, over="episodes")


def _search() -> pd.DataFrame:
    steps = np.arange(1, 41)
    table = pd.DataFrame({"episode": steps, "loss": 1.0})
    for group in ("s1<s0", "s2<s0", "s2<s1", "out"):
        names = ("s0", "s1", "s2") if group == "out" else ("GP1", "GP2", "Sum")
        for i, name in enumerate(names):
            table[f"{group}.{name}"] = 1 / 3 + (i - 1) * steps / 200
    return table


def _shapes() -> pd.DataFrame:
    lines = []
    for i, name in enumerate((*METHODS, "frozen clip-mini")):
        for varied, values in (("shot", (1, 2, 5)), ("way", (2, 5, 8))):
            for k, value in enumerate(values):
                accuracy = 42 + 2.5 * i + (6 * k if varied == "shot" else -6 * k)
                lines.append({"method": name, "varied": varied, "value": value, "accuracy": accuracy, "interval": 2.0})
    return pd.DataFrame(lines)


def _costs() -> pd.DataFrame:
    numbers = {
        "embedding": [80.0, 60.0, 41.0],
        "matching": [4.0, 0.5, 9.0],
        "training memory (MiB)": [120, np.nan, 300],
    }
    return pd.DataFrame(numbers, index=["TRX", "frozen resnet-mini", "MA-FSAR"])


def _hybrid() -> pd.DataFrame:
    return pd.DataFrame(
        {"world": world, "weights": weights, "alpha": alpha, "accuracy": base + 12 * alpha * sign, "interval": 2.0}
        for world, sign in (("moving_shapes", 1), ("moving_shapes_scene", -1))
        for weights, base in (("trained", 70.0), ("untrained", 40.0))
        for alpha in (0.0, 0.25, 0.5, 0.75, 1.0)
    )


def _tradeoff() -> pd.DataFrame:
    rows = [("CLIP itself", "steps", 20, 15), ("adapters", "steps", 60, 25), ("no text", "towers", 50, 22)]
    table = pd.DataFrame(rows, columns=["name", "group", "trained", "new"])
    return table.assign(trained_half=2.5, new_half=3.0, over="3 seeds")


def _cost() -> np.ndarray:
    q, s = np.meshgrid(np.arange(8), np.arange(8), indexing="ij")
    return 0.15 + 0.12 * np.abs(q - np.minimum(1.4 * s, 7)) + 0.03 * wave(8, 8)


def _maps() -> dict[str, torch.Tensor]:
    names = ("MA-FSAR", "AIM", "frozen CLIP")
    return {name: torch.from_numpy(0.02 * wave(8, 4, 4, seed=i)) for i, name in enumerate(names)}


def _per_class() -> pd.DataFrame:
    rows = [
        {"method": method, "name": name, "seed": seed, "accuracy": base - 11 * i + 14 * wave(3, seed=i)[seed]}
        for method, base in (("MA-FSAR", 82), ("frozen CLIP", 45))
        for i, name in enumerate(CLASSES)
        for seed in range(3)
    ]
    return pd.DataFrame(rows)


def _missing() -> pd.DataFrame:
    rows = [
        {"share": share, "repeat": r, "accuracy": 50 - 12 * share + 8 * share * (wave(6)[r] - 0.5), "interval": 1.4}
        for share in (0.0, 0.1, 0.5)
        for r in range(6)
    ]
    return pd.DataFrame(rows)


def _coverage() -> pd.DataFrame:
    rows = []
    for truth, interval, covered in (
        ("these videos", "episodes", 95),
        ("fresh videos", "episodes", 48),
        ("fresh videos", "asked videos", 88),
        ("fresh videos", "videos", 96),
    ):
        for k, asked in enumerate(("mean of frames", "paired")):
            held = covered - 3 * k
            row = {"truth": truth, "interval": interval, "asked": asked, "covered": held}
            rows.append(row | {"low": held - 3, "high": held + 2, "claimed": interval != "episodes" or k == 0})
    return pd.DataFrame(rows)


def _shortcuts() -> pd.DataFrame:
    names = ("frozen features, otam", "frozen features, otam, frames shuffled", "file: size, duration, rate, packets")
    rows = [
        {"shortcut": name, "split": split, "accuracy": 0.22 + 0.03 * i + 0.02 * j}
        for i, name in enumerate(names)
        for j, split in enumerate(("val", "test"))
    ]
    rows += [{"shortcut": "oracle", "split": split, "accuracy": 0.95} for split in ("val", "test")]
    table = pd.DataFrame(rows).assign(chance=0.2, tower="clip-mini")
    return table.assign(low=table["accuracy"] - 0.01, high=table["accuracy"] + 0.01)


def _sizes() -> pd.DataFrame:
    rows = [("SSv2-Small", "train", 6400), ("SSv2-Small", "val", 1200), ("SSv2-Small", "test", 2400)]
    rows += [
        ("SSv2-Full", "train", 77500),
        ("SSv2-Full", "val", 1926),
        ("SSv2-Full", "test", 2854),
        ("UCF101", "test", 2745),
    ]
    return pd.DataFrame(rows, columns=["benchmark", "split", "videos"])


def _overlaps() -> pd.DataFrame:
    names = ("SSv2-Small", "SSv2-Full", "Kinetics-100")
    rows = [
        {
            "trained": a,
            "tested": b,
            "classes": (7 * i + 5 * j) % 24,
            "of": 24,
            "videos": 568 if i == 1 and j == 0 else None,
        }
        for i, a in enumerate(names)
        for j, b in enumerate(names)
    ]
    return pd.DataFrame(rows).astype({"videos": "Int64"})


def _reliability() -> pd.DataFrame:
    at = np.linspace(0.3, 0.97, 8)
    lines = {"logistic regression": at, "Tip-Adapter": at**2, "frozen CLIP with text": np.sqrt(at) - 0.05}
    rows = [
        {"method": method, "confidence": sure, "accuracy": right, "half": 0.05, "answers": 250}
        for method, line in lines.items()
        for sure, right in zip(at, line, strict=True)
    ]
    return pd.DataFrame(rows)


def _open_set() -> pd.DataFrame:
    at = np.linspace(0, 1, 21)
    powers = {"logistic regression": 0.3, "SimpleShot": 0.6}
    return pd.concat(pd.DataFrame({"method": m, "unknown": at, "known": at**p}) for m, p in powers.items())


def _grid() -> pd.DataFrame:
    rows = [
        {"head": head, "tower": tower, "accuracy": 30 + 9 * i + 14 * j, "half": 1.2 + 0.1 * i}
        for i, head in enumerate(("OTAM", "SimpleShot", "logistic regression", "TRX"))
        for j, tower in enumerate(("clip-mini", "resnet-mini", "random weights"))
    ]
    return pd.DataFrame(rows[:-1])


def _surface() -> pd.DataFrame:
    rows = [
        {"panel": panel, "way": way, "shot": shot, "accuracy": base + 6 * shot - 2 * way, "half": 1.0}
        for panel, base in (("OTAM", 60), ("logistic regression", 66))
        for way in (2, 5, 10, 20)
        for shot in (1, 2, 5)
    ]
    return pd.DataFrame(rows)


def _runs() -> pd.DataFrame:
    names = ("MA-FSAR, 1-shot, seed 0", "AIM, 1-shot, seed 0", "frozen CLIP, 1-shot, seed 0")
    table = pd.DataFrame({"name": names, "accuracy": (57.2, 49.0, 25.1)})
    return table.assign(low=table["accuracy"] - 1.3, high=table["accuracy"] + 1.3)


def _episode(width: str) -> Figure:
    supports, labels = np.stack([clip(i) for i in range(4)]), range(4)
    return filmstrip.episode(supports, labels, supports[::-1], [3, 2, 1, 0], CLASSES, title="Episode 0", width=width)


def _one_query(width: str) -> Figure:
    supports, cost = np.stack([clip(i) for i in range(4)]), _cost()
    given = (CLASSES, [1.2, 3.4, 2.2, 5.0], [0.7, 0.1, 0.15, 0.05], cost, otam_path(torch.from_numpy(cost)))
    return alignment.episode(clip(5), supports, *given, truth=0, shown=0, title="Query 0 of episode 0", width=width)


def _compare(width: str) -> Figure:
    runs = _runs()
    metrics = {runs["name"][0]: _metrics(), runs["name"][1]: _metrics(seed=3)}
    return curves.compare(metrics, runs, title="Runs side by side", width=width)


COUNTS = np.array([[12, 3, 2, 0], [1, 20, 4, 0], [0, 0, 9, 7], [0, 0, 0, 0]])
TRUTH = [2, 0, 1, 3]


def _guided(seed: int) -> np.ndarray:
    values = wave(4, 4, seed=seed) ** 2
    return values / values.sum(1, keepdims=True)


def _price() -> pd.DataFrame:
    rows = [(name, k, (0.3 + 0.1 * i) * np.log2(k)) for i, name in enumerate(METHODS) for k in (1, 2, 3, 4, 6, 12)]
    rows += [("all methods", k, 0.65 * np.log2(k)) for k in (1, 2, 3, 4, 6, 12)]
    return pd.DataFrame(rows, columns=["method", "k", "gain"]).assign(interval=lambda table: 0.4 * table["gain"])


def _ladder() -> pd.DataFrame:
    rows = []
    for c, column in enumerate(("clip-mini frozen", "resnet-mini tuned", "clip-mini tuned")):
        for i, name in enumerate((*METHODS[:5], *METHODS[6:])):
            rows.append((column, name, 24 + 14 * wave(8, seed=c)[i], 0.09 * 2.1**c * (i + 1), (20 + 25 * i) * 2**c))
    rows += [("clip-mini frozen", name, value, 0, 0) for name, value in (("frozen CLIP", 22.5), ("SimpleShot", 23.8))]
    columns = ["column", "name", "accuracy", "trained (M)", "seconds"]
    return pd.DataFrame(rows, columns=columns).assign(half=1.1, over="seeds")


CASES: dict[str, Callable[[str], Axes | Figure | np.ndarray]] = {
    "ablation": lambda w: ablation.plot(_ablations(), title="Change against full MA-FSAR", baseline=57.2, width=w),
    "alignment": lambda w: alignment.plot(
        _cost(),
        otam_path(torch.from_numpy(_cost())).numpy(),
        query=clip(1),
        support=clip(2),
        title="One query, one support clip",
        width=w,
    ),
    "alignment_episode": _one_query,
    "attention": lambda w: attention.maps(
        clip(), _maps(), {"MA-FSAR": torch.full((8,), 0.1)}, title="Last-layer attention, one val video", width=w
    ),
    "bubbles": lambda w: bubbles.plot(_ours(), title="Ours: moving_shapes, 5-way 1-shot", width=w),
    "bubbles_panels": lambda w: bubbles.panels(
        _ours(), _printed(), ours_title="Ours: moving_shapes", published_title="Published: SSv2-Small", width=w
    )[0],
    "catalogue_sizes": lambda w: catalogue.sizes(_sizes(), title="Videos per split", width=w),
    "catalogue_overlap": lambda w: catalogue.overlap(_overlaps(), title="Test classes also trained on", width=w),
    "confidence_open_set": lambda w: confidence.open_set(
        _open_set(), title="None of these, motion", chosen={"SimpleShot": (0.55, 0.7)}, width=w
    ),
    "confidence_reliability": lambda w: confidence.reliability(_reliability(), title="Reliability, motion", width=w),
    "confusion": lambda w: confusion.plot(COUNTS, CLASSES, title="MA-FSAR on the test classes", width=w),
    "curves": lambda w: curves.training(_metrics(), title="MA-FSAR on moving_shapes, seed 0", way=5, width=w),
    "curves_compare": _compare,
    "curves_seeds": lambda w: curves.training(_seeds(), title="MA-FSAR on moving_shapes, 3 seeds", way=5, width=w),
    "distribution": lambda w: distribution.plot(_per_class(), title="MA-FSAR, 3 seeds", chance=20, width=w),
    "filmstrip_clip": lambda w: filmstrip.clip(clip(), title="moving from left to right", width=w),
    "filmstrip_episode": _episode,
    "gradcam": lambda w: gradcam.figure(clip(), _maps(), title="Grad-CAM of one query", width=w),
    "guidance": lambda w: guidance.similarities(
        {"before guidance": _guided(0), "after guidance": _guided(1)}, TRUTH, CLASSES, title="Queries, classes", width=w
    ),
    "guidance_hybrid": lambda w: guidance.hybrid(_hybrid(), way=5, title="From frames to tuples", width=w),
    "heatmap": lambda w: heatmap.similarities(
        {"before": wave(4, 4), "after": np.eye(4) + 0.3 * wave(4, 4)}, CLASSES, title="Videos and texts", width=w
    ),
    "heatmap_grid": lambda w: heatmap.grid(_grid(), down="head", across="tower", title="Heads and towers", width=w),
    "heatmap_surface": lambda w: heatmap.grid(_surface(), down="way", across="shot", title="Ways and shots", width=w),
    "coverage": lambda w: coverage.plot(_coverage(), title="How often intervals hold the true value", width=w),
    "missing_videos": lambda w: missing_videos.plot(_missing(), title="Missing videos", width=w),
    "architecture_search": lambda w: architecture_search.plot(_search(), title="SloshNet's search", width=w),
    "ladder": lambda w: ladder.plot(_ladder(), title="Every method on three towers", width=w),
    "price_of_test": lambda w: price_of_test.plot(_price(), title="What choosing on test gains", width=w),
    "shortcuts": lambda w: shortcuts.plot(
        _shortcuts(),
        title="Shortcuts on motion, clip-mini",
        allowed={"frozen features, otam": (0, 30), "oracle": (90, 100)},
        width=w,
    ),
    "side_by_side": lambda w: side_by_side.accuracy(_shapes(), way=5, title="Shots and ways", width=w),
    "side_by_side_cost": lambda w: side_by_side.cost(_costs(), title="What an episode costs", width=w),
    "tradeoff": lambda w: tradeoff.plot(
        _tradeoff(), title="Trained against new classes", chance={"trained": 1.6, "new": 6.2}, width=w
    ),
}


AGAIN = ("curves_seeds", "heatmap_surface")  # a figure function that has a case already, on other data


def draw(name: str, width: str) -> Figure:
    """A case's figure."""
    made = CASES[name](width)
    made = made.flat[0] if isinstance(made, np.ndarray) else made
    return made.figure if isinstance(made, Axes) else made
