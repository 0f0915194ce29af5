"""The page "paper against ours": every published few-shot figure of our methods, and the run that repeats it, if any.

It is made from the run records alone. Only a run that is the published cell (``repetition``) is higher or lower than
its figure, and how its recipe differs stands beside; any other run of the method on that data set is shown as partial,
with what keeps it from being the cell. Where ours is lower, the page says so first.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vidlib.basics.paths import atomic_write, runs_dir
from vidlib.data.catalogue.benchmarks import WORLDS
from vidlib.params import recipes
from vidlib.params.by_recipe import by_recipe
from vidlib.params.few_shot import METHOD_NAMES, RunParams
from vidlib.results import published, runs
from vidlib.results.intervals import seed_interval
from vidlib.studies import repetition
from vidlib.studies.tables import label, published_of

DATASETS = {
    "HMDB51": "hmdb51",
    "UCF101": "ucf101",
    "Kinetics-100": "kinetics100",
    "SSv2-Small": "ssv2_small",
    "SSv2-Full": "ssv2_full",
}
BACKBONES = {  # the paper's -> ours, with the weights that it starts from
    "ResNet-50": {"backbone": "resnet50", "pretrained": "tv_in1k"},
    "CLIP ViT-B/16": {"backbone": "ViT-B-16-quickgelu", "pretrained": "openai"},
}
METRICS = {"ma_fsar": "otam", "aim": "otam", "clip_fsar": "otam"}  # of the methods that take any
SCORES = {"with text term": "combined", "visual matching": "visual"}  # CLIP-FSAR's figures -> its argument inference
FILE = "paper_against_ours.md"
ASKED = "result.test.checksum"  # runs that were asked other questions are no seeds of one
SAME_RUN = [*sorted(RunParams.model_fields.keys() - RunParams.PLACE - {"seed"}), ASKED]
ENOUGH = 100  # test episodes: a run of fewer was a trial
OUTCOMES = ("lower", "within our interval", "higher", "partial run", "not run")
REPEATED = OUTCOMES[:3]


def cells() -> pd.DataFrame:
    """The published few-shot figures of our methods, other people's reruns left out.

    Columns: method (our name), shown (the paper's), dataset (ours), shot, backbone (the paper's), frames, value,
    confidence.
    """
    rows = []
    for method in METHOD_NAMES:
        figures = published_of(method)
        figures = figures[
            figures["dataset"].isin(DATASETS) & ~figures["method"].str.contains(published.RERUN, case=False)
        ]
        for _, figure in figures.iterrows():
            row = {"method": method, "shown": figure["method"], "dataset": DATASETS[figure["dataset"]]}
            row["shot"] = int(figure["protocol"].split()[1].split("-")[0])
            rows.append(row | {name: figure[name] for name in ("backbone", "frames", "value", "confidence")})
    return pd.DataFrame(rows)


def compare(records: pd.DataFrame) -> pd.DataFrame:
    """``cells`` beside ``records`` (``runs.load_all``): ours, its interval, difference in points, outcome, run, and how
    its recipe differs, or, of a partial run, what keeps it from being the cell."""
    same = groups(records, least=1)
    rows = []
    for _, cell in cells().iterrows():
        ours, part = best(same, cell), None
        if ours is None:
            part = nearest(same, cell)
        row = {"method": cell["shown"], "dataset": cell["dataset"], "shot": cell["shot"], "backbone": cell["backbone"]}
        row["paper (%)"] = published.mark(cell["value"], cell["confidence"])
        row |= {"ours (%)": "-", "difference": np.nan, "outcome": "not run", "seeds": 0, "coverage": "-"}
        row |= {"partial run (%)": "-", "differs": "-", "run": "-"}
        if ours is not None:
            gap = ours["accuracy"] - cell["value"]
            outcome = "within our interval" if abs(gap) <= ours["half"] else "lower" if gap < 0 else "higher"
            row |= {"ours (%)": f"{ours['accuracy']:.1f} ± {ours['half']:.1f}", "difference": gap, "outcome": outcome}
        if part is not None:
            row |= {"partial run (%)": f"{part['accuracy']:.1f} ± {part['half']:.1f}", "outcome": "partial run"}
        if (shown := ours or part) is not None:
            row |= {name: shown[name] for name in ("seeds", "coverage", "run")}
            row["differs"] = "; ".join(shown["differs"]) or "-"
        recipe = recipes.find(cell["method"], cell["dataset"], cell["shot"])
        rows.append(row | {"command": recipes.command(recipe) if recipe else "no recipe yet"})
    table = pd.DataFrame(rows)
    table["outcome"] = pd.Categorical(table["outcome"], OUTCOMES, ordered=True)
    return table.sort_values("outcome", kind="stable").reset_index(drop=True)


def world(records: pd.DataFrame) -> pd.DataFrame:
    """What ran on the embedded worlds, the best first: no paper has a figure there."""
    inside = [g for g in groups(records) if set(g["dataset"].split(" to ")) <= set(WORLDS)]
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
    run = sum(counts[name] for name in REPEATED)
    said = ", ".join(f"{counts[name]} {name}" for name in REPEATED)
    part = counts["partial run"]
    beside = f" Beside {part} others stands a partial run, which is neither higher nor lower." if part else ""
    return f"{run} of {len(table)} published figures are repeated by a run here: {said}.{beside}"


def _page(table: pd.DataFrame, worlds: pd.DataFrame) -> Iterator[str]:
    yield "# Paper against ours\n"
    yield summary(table) + " Intervals are 95%: over seeds where there are several, else over other"
    yield "videos, of one trained model: another seed may differ by more. A difference is ours minus the paper's, in"
    yield "points; papers print no intervals.\n"
    run = table[table["outcome"].isin(REPEATED)].drop(columns=["command", "partial run (%)"])
    run = run.rename(columns={"differs": "other than the recipe"})
    yield from markdown(run.assign(difference=run["difference"].map("{:+.1f}".format)))
    yield "\n## Partial runs\n"
    yield "Not these cells, for the reasons given: no number here is higher or lower than the paper's.\n"
    part = table[table["outcome"] == "partial run"].rename(columns={"differs": "what keeps it from being the cell"})
    yield from markdown(part.drop(columns=["command", "ours (%)", "difference", "outcome"]))
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


def groups(records: pd.DataFrame, least: int = ENOUGH) -> list[dict]:
    """Runs that differ in nothing but the seed, joined: accuracy and half interval in per cent. No untrained ones, none
    of fewer than ``least`` test episodes."""
    if not {"result.test.episodes", "train_episodes"} <= {*records}:  # no run, or none of these
        return []
    done = records[(records["report"] == "test") & (records["ablation"] == "")]
    done = done[(done["result.test.episodes"] >= least) & (done["train_episodes"] > 0)]
    facts = ("method", "dataset", "way", "shot", "backbone", "train_episodes")
    found = [{name: group["row"][name] for name in facts} | group for group in joined(done, SAME_RUN)]
    for group in found:
        if repetition.known(other := group["row"].get("test_dataset")) and other:
            group["dataset"] += f" to {other}"
        if not group["row"]["result.cost.trainable"]:
            group["train_episodes"] = 0
    return found


def joined(done: pd.DataFrame, same: Sequence[str]) -> list[dict]:
    """Runs tested on test that agree in the columns ``same``, the latest of each seed: accuracy and half interval in
    per cent, what the interval is over, their coverage, and the first's ``row``."""
    if not len(done):
        return []
    keys = done.reindex(columns=list(same)).map(str).agg("\t".join, axis=1)
    return [_joined(part) for _, part in done.groupby(keys)]


def _joined(part: pd.DataFrame) -> dict:
    part = part.sort_values("result.finished").drop_duplicates("seed", keep="last").sort_values("seed")
    first = part.iloc[0]
    mean, half = seed_interval(part["result.test.accuracy"].tolist(), first["result.test.interval"])
    lines = first["result.coverage"] if isinstance(first["result.coverage"], list) else []
    test = next((line for line in lines if line["split"] == "test"), {"present": 0, "listed": 0})
    group = {"accuracy": 100 * mean, "half": 100 * half, "seeds": len(part), "run": ", ".join(part["id"])}
    group |= {"coverage": f"{test['present']:,} of {test['listed']:,}", "finished": part["result.finished"].max()}
    over = "seeds" if len(part) > 1 else "videos"
    if len(part) == 1 and repetition.known(first.get("result.test.episodes")):
        if repetition.known(wider := first.get("result.test.intervals.videos")):
            group["half"] = 100 * wider
        else:  # of earlier days
            over = "episodes"
    return group | {"over": over, "row": first.to_dict()}


def best(ours: Sequence[dict], cell: pd.Series) -> dict | None:
    """The runs that repeat a published cell: those with the most seeds, of them the latest; ``differs``: from its
    recipe, line by line."""
    wanted, recipe = asked(cell)
    fit = [g for g in _of(ours, cell) if not repetition.apart(g["row"], wanted, recipe)]
    found = max(fit, key=lambda g: (g["seeds"], g["finished"]), default=None)
    return found and found | {"differs": repetition.differences(found["row"], wanted, recipe)}


def nearest(ours: Sequence[dict], cell: pd.Series) -> dict | None:
    """The partial run to show beside a cell: of the method's on its data set and shot that with the least that keeps it
    from being the cell (``differs``)."""
    wanted, recipe = asked(cell)
    rest = [g | {"differs": repetition.apart(g["row"], wanted, recipe)} for g in _of(ours, cell)]
    rest = [g for g in rest if g["differs"] and g["shot"] == cell["shot"]]
    return max(rest, key=lambda g: (-len(g["differs"]), g["seeds"], g["finished"]), default=None)


def asked(cell: pd.Series) -> tuple[dict[str, Any], RunParams | None]:
    """What a cell was measured with, by parameter, and its recipe's run; None where no recipe of it is at hand."""
    wanted = {"way": 5, "shot": cell["shot"], "frames": cell["frames"]}
    wanted |= BACKBONES.get(cell["backbone"], {"backbone": cell["backbone"]})
    if metric := METRICS.get(cell["method"]):
        wanted["metric"] = metric
    for score in (score for words, score in SCORES.items() if words in cell["shown"]):
        wanted["inference"] = score
    key = cell["method"], cell["dataset"], cell["shot"]
    recipe = by_recipe(key[0], {"dataset": key[1], "shot": key[2]}) if recipes.find(*key) else None
    return wanted, recipe


def _of(ours: Sequence[dict], cell: pd.Series) -> list[dict]:
    return [g for g in ours if (g["method"], g["dataset"]) == (cell["method"], cell["dataset"])]
