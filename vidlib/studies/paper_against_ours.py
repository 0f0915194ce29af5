"""The page "paper against ours": every published few-shot figure of our methods, and the run that repeats it, if any.

It is made from the run records alone. Only a run on the paper's data set, shot and backbone stands beside a figure; the
local copy's coverage is printed with it. Where ours is lower, the page says so first.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from vidlib.basics.paths import atomic_write, runs_dir
from vidlib.data.catalogue.benchmarks import WORLDS
from vidlib.methods import METHODS
from vidlib.params import recipes
from vidlib.params.few_shot import RunParams
from vidlib.results import published, runs
from vidlib.results.accuracy import seed_interval
from vidlib.studies.tables import label, published_of

DATASETS = {
    "HMDB51": "hmdb51",
    "UCF101": "ucf101",
    "Kinetics-100": "kinetics100",
    "SSv2-Small": "ssv2_small",
    "SSv2-Full": "ssv2_full",
}
BACKBONES = {"ResNet-50": "resnet50", "CLIP ViT-B/16": "ViT-B-16"}  # how the names begin here
FILE = "paper_against_ours.md"
SAME_RUN = sorted(RunParams.model_fields.keys() - RunParams.PLACE - {"seed"})
ENOUGH = 100  # test episodes: a run of fewer was a trial
OUTCOMES = ("lower", "within our interval", "higher", "not run")


def cells() -> pd.DataFrame:
    """The published few-shot figures of our methods, other people's reruns left out.

    Columns: method (our name), shown (the paper's), dataset (ours), shot, backbone (the paper's), value, confidence.
    """
    rows = []
    for method in METHODS:
        figures = published_of(method)
        figures = figures[
            figures["dataset"].isin(DATASETS) & ~figures["method"].str.contains(published.RERUN, case=False)
        ]
        for _, figure in figures.iterrows():
            row = {"method": method, "shown": figure["method"], "dataset": DATASETS[figure["dataset"]]}
            row["shot"] = int(figure["protocol"].split()[1].split("-")[0])
            rows.append(row | {name: figure[name] for name in ("backbone", "value", "confidence")})
    return pd.DataFrame(rows)


def compare(records: pd.DataFrame) -> pd.DataFrame:
    """``cells`` beside ``records`` (``runs.load_all``): ours, its interval, difference in points, outcome, run."""
    same = groups(records)
    rows = []
    for _, cell in cells().iterrows():
        ours = best(same, cell)
        row = {"method": cell["shown"], "dataset": cell["dataset"], "shot": cell["shot"], "backbone": cell["backbone"]}
        row["paper (%)"] = published.mark(cell["value"], cell["confidence"])
        row |= {"ours (%)": "-", "difference": np.nan, "outcome": "not run", "seeds": 0, "coverage": "-", "run": "-"}
        if ours is not None:
            gap = ours["accuracy"] - cell["value"]
            outcome = "within our interval" if abs(gap) <= ours["half"] else "lower" if gap < 0 else "higher"
            row |= {"ours (%)": f"{ours['accuracy']:.1f} ± {ours['half']:.1f}", "difference": gap, "outcome": outcome}
            row |= {name: ours[name] for name in ("seeds", "coverage", "run")}
        recipe = recipes.find(cell["method"], cell["dataset"], cell["shot"])
        rows.append(row | {"command": recipes.command(recipe) if recipe else "no recipe yet"})
    table = pd.DataFrame(rows)
    table["outcome"] = pd.Categorical(table["outcome"], OUTCOMES, ordered=True)
    return table.sort_values("outcome", kind="stable").reset_index(drop=True)


def world(records: pd.DataFrame) -> pd.DataFrame:
    """What ran on the embedded worlds, the best first: no paper has a figure there."""
    inside = [g for g in groups(records) if g["dataset"] in WORLDS]
    columns = ["dataset", "way", "shot", "method", "backbone", "training episodes", "accuracy (%)", "seeds", "run"]
    rows = [
        g | {"accuracy (%)": f"{g['accuracy']:.1f} ± {g['half']:.1f}", "training episodes": g["train_episodes"]}
        for g in sorted(inside, key=lambda g: (g["dataset"], g["way"], g["shot"], -g["accuracy"]))
    ]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(method=table["method"].map(label))


def write(root: str | Path = "") -> tuple[Path, pd.DataFrame]:
    """Write the page into the runs folder ``root`` (default: the usual one); the file and its first table."""
    folder = Path(root or runs_dir())
    records = runs.load_all(folder)
    table = compare(records)
    with atomic_write(folder / FILE) as part:
        part.write_text("\n".join(_page(table, world(records))) + "\n", encoding="utf-8")
    return folder / FILE, table


def summary(table: pd.DataFrame) -> str:
    """In one sentence: how many published figures were repeated, and how they came out."""
    counts = table["outcome"].value_counts()
    run = len(table) - counts["not run"]
    said = ", ".join(f"{counts[name]} {name}" for name in OUTCOMES[:-1])
    return f"{run} of {len(table)} published figures have a run on their data set and backbone here: {said}."


def _page(table: pd.DataFrame, worlds: pd.DataFrame) -> Iterator[str]:
    yield "# Paper against ours\n"
    yield summary(table) + " Intervals are 95%: over seeds where there are several, else over the test episodes of one"
    yield "trained model. A difference is ours minus the paper's, in points; papers print no intervals.\n"
    run = table[table["outcome"] != "not run"].drop(columns="command")
    yield from markdown(run.assign(difference=run["difference"].map("{:+.1f}".format)))
    yield "\n## Not run\n"
    idle = table[table["outcome"] == "not run"]
    yield from markdown(idle[["method", "dataset", "shot", "backbone", "paper (%)", "command"]])
    yield "\n## The embedded world\n"
    yield "Not a benchmark of the field: no paper reports it, and none of its numbers belongs beside a published one.\n"
    yield from markdown(worlds)


def markdown(table: pd.DataFrame) -> Iterator[str]:
    if not len(table):
        yield "None."
        return
    yield "| " + " | ".join(table.columns) + " |"
    yield "|" + "---|" * len(table.columns)
    for row in table.astype(str).itertuples(index=False):
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def groups(records: pd.DataFrame) -> list[dict]:
    """Runs that differ in nothing but the seed, joined: accuracy and half interval in per cent. No untrained ones."""
    if not len(records):
        return []
    done = records[(records["report"] == "test") & (records["ablation"] == "")]
    done = done[(done["result.test.episodes"] >= ENOUGH) & (done["train_episodes"] > 0)]
    keys = done.reindex(columns=SAME_RUN).astype(str).agg("\t".join, axis=1)
    return [_group(part) for _, part in done.groupby(keys)] if len(done) else []


def _group(part: pd.DataFrame) -> dict:
    part = part.sort_values("result.finished").drop_duplicates("seed", keep="last").sort_values("seed")
    values, first = part["result.test.accuracy"].tolist(), part.iloc[0]
    mean, half = seed_interval(values, first["result.test.interval"])
    test = next((line for line in first["result.coverage"] if line["split"] == "test"), {"present": 0, "listed": 1})
    group = {name: first[name] for name in ("method", "dataset", "way", "shot", "backbone", "train_episodes")}
    if not first["result.cost.trainable"]:
        group["train_episodes"] = 0
    group |= {"accuracy": 100 * mean, "half": 100 * half, "seeds": len(part), "run": ", ".join(part["id"])}
    return group | {"coverage": f"{test['present']:,} of {test['listed']:,}", "finished": part["result.finished"].max()}


def best(ours: Sequence[dict], cell: pd.Series) -> dict | None:
    """The runs of a published cell: those with the most seeds, of them the latest."""
    start = BACKBONES.get(cell["backbone"])
    fit = [
        g
        for g in ours
        if (g["method"], g["dataset"], g["way"], g["shot"]) == (cell["method"], cell["dataset"], 5, cell["shot"])
        and start is not None
        and g["backbone"].startswith(start)
    ]
    return max(fit, key=lambda g: (g["seeds"], g["finished"]), default=None)
