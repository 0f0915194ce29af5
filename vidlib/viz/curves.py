"""How training went: loss above, accuracy below; raw values behind their running mean, several seeds as a band."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vidlib.viz import style

TERMS = {  # terms of a loss by their names in papers, and in words
    "q2s": "query against supports (q2s)",
    "s2t": "support against texts (s2t)",
    "q2t": "query against texts (q2t)",
}


@style.figure
def training(
    metrics: pd.DataFrame,
    axes: Sequence[Axes] | None = None,
    *,
    title: str = "",
    x: str = "episode",
    way: int | None = None,
) -> np.ndarray:
    """Two axes, returned as an array: loss, and accuracy in per cent, over the training episodes.

    ``metrics`` is a run's metrics.jsonl as a table: ``x``, loss, accuracy (0 to 1), and where there are any
    val_accuracy (0 to 1, NaN between validations) and ``loss.NAME``, the weighted terms of the loss. A running mean is
    over a twentieth of a run's rows, at least 5; ``way`` adds the line of chance. Those of several seeds stand under
    each other with a column ``seed``: a line is the mean of the seeds' running means, its band goes from the lowest
    seed to the highest.
    """
    style.need(metrics, "a training curve", x, "loss", "accuracy", given="metrics")
    if axes is None:
        axes = style.new_figure(style.page(9.0, 5.6), layout="constrained").subplots(2, 1, sharex=True)
    upper, lower = axes
    metrics = metrics.reset_index(drop=True)
    seeds = metrics["seed"] if "seed" in metrics else pd.Series(0, metrics.index)
    window = max(5, len(metrics) // seeds.nunique() // 20)
    runs = pd.DataFrame({"seed": seeds, "x": metrics[x]})

    _line(upper, runs.assign(y=metrics["loss"]), window, x, color=style.BLUE, label="total")
    terms = [name for name in metrics if name.startswith("loss.")]
    for number, name in enumerate(terms if len(terms) > 1 else []):
        look = {"color": style.CYCLE[1 + number % (len(style.CYCLE) - 1)], "linestyle": ("--", "-.", ":")[number % 3]}
        label = TERMS.get(name.removeprefix("loss."), name.removeprefix("loss."))
        _line(upper, runs.assign(y=metrics[name]), window, x, raw=False, linewidth=1.4, label=label, **look)
    style.dress(upper, "", "loss (nats)")
    upper.set_ylim(bottom=min(0.0, float(np.nanmin(metrics["loss"]))))

    _line(lower, runs.assign(y=100 * metrics["accuracy"]), window, x, color=style.BLUE, label="training")
    if "val_accuracy" in metrics and metrics["val_accuracy"].notna().any():
        asked = runs.assign(y=100 * metrics["val_accuracy"]).dropna()
        look = {"color": style.RED, "marker": "D", "markersize": 6, "linestyle": "--", "linewidth": 1.0, "zorder": 4}
        _mean(lower, asked, label="validation classes" if x == "episode" else "validation", **look)
    if way:
        lower.axhline(100 / way, color=style.GREY, linestyle=":", linewidth=1.2, label=f"chance ({100 / way:.0f}%)")
    style.dress(lower, f"training {x}", "accuracy (%)")
    lower.set_ylim(0, 103)
    for ax in (upper, lower):
        place = {"loc": "best"} if style.narrow() else {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
        ax.legend(fontsize=style.SMALL, frameon=False, **place)
    style.remember(upper, metrics)
    style.title(upper, title)
    return np.asarray([upper, lower])


def _line(ax: Axes, runs: pd.DataFrame, window: int, unit: str, *, raw: bool = True, label: str, **look) -> None:
    """The running mean of ``y`` over ``x``, of one seed above its ``raw`` values; few values are points with a line."""
    by_seed = runs.groupby("seed")["y"]
    if raw and by_seed.size().max() <= 2 * window:
        _mean(ax, runs, marker="o", markersize=3.5, linewidth=1.4, label=label, **look)
        return
    if raw and by_seed.ngroups == 1:
        ax.plot(runs["x"], runs["y"], color=look["color"], alpha=0.25, linewidth=0.8, gid="raw")
    means = runs.assign(y=by_seed.transform(style.smooth, window))
    several = f", {by_seed.ngroups} seeds, all in the band" if by_seed.ngroups > 1 else ""
    spacing = (runs["x"].max() - runs["x"].min()) / max(1, by_seed.size().max() - 1)  # a row may be of several
    label = f"{label} (mean of {window * max(1, round(spacing))} {unit}s{several})" if raw else label
    _mean(ax, means[by_seed.cumcount() % max(1, window // 4) == 0], label=label, **{"linewidth": 2.0} | look)


def _mean(ax: Axes, runs: pd.DataFrame, **look) -> None:
    """The mean of the seeds at each ``x``, in a band from the lowest to the highest."""
    sns.lineplot(runs, x="x", y="y", errorbar=("pi", 100), err_kws={"linewidth": 0}, ax=ax, legend=False, **look)


@style.figure
def compare(
    metrics: Mapping[str, pd.DataFrame],
    results: pd.DataFrame,
    *,
    title: str = "",
) -> Figure:
    """Several runs: training loss and accuracy (running means, val as marks) left, what they reached on the right.

    ``metrics`` maps a run's name to its metrics as ``training`` takes them; ``results`` has the columns name, accuracy,
    low and high (per cent), one row per run, those that trained nothing among them. Looks go by the order of
    ``results``.
    """
    style.need(results, "a comparison of runs", "name", "accuracy", "low", "high", given="results")
    letters = 22 if style.narrow() else 30
    names = [style.wrap(str(name), letters) for name in results["name"]]
    fig = style.new_figure(style.page(11.0, 2.6 + 0.3 * max(len(results), 7), lines=style.narrow()))
    loss, accuracy, reached = _places(fig, max(len(line) for name in names for line in name.split("\n")))
    for number, row in enumerate(results.itertuples()):
        look = {"color": style.CYCLE[number % len(style.CYCLE)], "linestyle": ("-", "--", "-.", ":")[number // 6 % 4]}
        marker = "osD^vPX"[number % 7]
        own = metrics.get(row.name)
        if own is not None and len(own):
            window = max(5, len(own) // 20)
            loss.plot(own["episode"], style.smooth(own["loss"], window), linewidth=1.5, **look)
            accuracy.plot(own["episode"], 100 * style.smooth(own["accuracy"], window), linewidth=1.5, **look)
            if "val_accuracy" in own and (asked := own["val_accuracy"].notna()).any():
                at = {"marker": marker, "markersize": 6, "markeredgecolor": style.INK, "linestyle": "none"}
                accuracy.plot(own["episode"][asked], 100 * own["val_accuracy"][asked], color=look["color"], **at)
        reach = [[row.accuracy - row.low], [row.high - row.accuracy]]
        ends = {"markeredgecolor": style.INK, "markersize": 7, "capsize": 3, "linewidth": 1.4}
        reached.errorbar(row.accuracy, number, xerr=np.nan_to_num(reach), fmt=marker, color=look["color"], **ends)
    if not loss.lines:
        for ax in (loss, accuracy):
            ax.text(0.5, 0.5, "these runs trained nothing", transform=ax.transAxes, ha="center", fontsize=style.NORMAL)
    style.dress(loss, "", "loss (nats)")
    style.dress(accuracy, "training episode", "accuracy (%)")
    accuracy.set_ylim(0, 103)
    of = " or ".join(dict.fromkeys(results["split"])) if "split" in results else "test"
    style.dress(reached, f"{of} accuracy (%), {style.interval(results)}", "", grid="x")
    reached.set_yticks(range(len(results)), names)
    reached.tick_params(axis="y", length=0)
    reached.set_ylim(len(results) - 0.4, -0.6)
    style.remember(fig, results)
    if title:
        style.heading(fig, title)
    return fig


def _places(fig: Figure, longest: int) -> tuple[Axes, Axes, Axes]:
    """Axes for loss, accuracy and what was reached; margins are counted in letters, which is quicker than a layout."""
    wide, tall = fig.get_size_inches()
    letter = style.SMALL / 72
    words = (0.62 * longest + 1.5) * letter
    bottom, top = 4.5 * letter / tall, 1 - 4 * letter / tall
    if style.narrow():
        upper, lower = {"left": 6 * letter / wide, "right": 1 - letter / wide}, {"left": words / wide}
        cut = bottom + 0.3 * (top - bottom)
        grid = fig.add_gridspec(2, 1, hspace=0.35, bottom=cut + 7 * letter / tall, top=top, **upper)
        last = fig.add_gridspec(1, 1, bottom=bottom, top=cut, right=upper["right"], **lower)[0]
    else:
        middle = 0.96 - words / wide - 0.3
        grid = fig.add_gridspec(2, 1, hspace=0.2, bottom=bottom, top=top, left=6 * letter / wide, right=middle)
        last = fig.add_gridspec(1, 1, bottom=bottom, top=top, left=0.98 - 0.3, right=0.98)[0]
    return fig.add_subplot(grid[0]), fig.add_subplot(grid[1]), fig.add_subplot(last)
