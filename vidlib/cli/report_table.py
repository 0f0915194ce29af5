"""``vidlib report table PAPER``: every figure that a paper prints, beside the runs here that repeat it, as one table.

Only a run that is the published cell (``studies.repetition``) stands beside a figure, with how its recipe differs; any
other on the same data and protocol is a partial run, in a column of its own. What was not run is blank, so that a table
for a draft holds nothing that was not measured.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from vidlib.basics.errors import UserError
from vidlib.basics.words import closest
from vidlib.params import recipes
from vidlib.params.few_shot import METHOD_NAMES
from vidlib.params.names import label
from vidlib.params.notebooks import folder, request
from vidlib.params.video_text import VIDEO_TEXT_NAMES, VideoTextRunParams
from vidlib.results import published, runs
from vidlib.studies import paper_against_ours, repetition

PUBLISHED = "published (%)"
COLUMNS = ["dataset", "protocol", "backbone", PUBLISHED, "ours (%)", "± 95%", "over", "seeds", "coverage", "command"]
OTHER, PARTIAL = "other than the recipe", "partial run"  # further columns, of a table that has any
DATASETS = {"Kinetics-400": "kinetics400", "HMDB51": "hmdb51", "UCF101": "ucf101", "SSv2": "ssv2"}
TRAINED_ON = "kinetics400"  # before a zero-shot test
BACKBONES = {"ViT-B/16": "ViT-B-16", "ViT-B/32": "ViT-B-32"}
VIEWS = {(4, 3): (3, 3)}  # the four crops of M2-CLIP's code lie unevenly; ours are three (its recipe says so)
SAME_RUN = sorted(VideoTextRunParams.model_fields.keys() - VideoTextRunParams.PLACE - {"seed"})
SAME_RUN += [paper_against_ours.ASKED]
Key = tuple[str, str, int, str, int, tuple[int, int]]  # data, protocol, train_per_class, backbone, frames, views


def table(paper: str, root: str | Path = "") -> pd.DataFrame:
    """The figures of ``paper`` (a method's name, as in ma_fsar or MA-FSAR) with the columns of ``COLUMNS``, as text;
    numbers in per cent; before the last, ``OTHER`` and ``PARTIAL`` where a run has any. A UserError names the nearest
    where there is none of that name."""
    names = {name: label(name) for name in (*METHOD_NAMES, *VIDEO_TEXT_NAMES)}
    found = [name for name, shown in names.items() if paper.lower() in (name.lower(), shown.lower())]
    if not found:
        raise UserError(f"paper: '{paper}' is not one of {', '.join(names)}{closest(paper, [*names, *names.values()])}")
    records = runs.load_all(runs.existing(root) if root else None)
    for name, why in records.attrs.get("unreadable", {}).items():
        print(f"left out: run {name}: {why}", file=sys.stderr)
    rows = _labelled(found[0], records) if found[0] in VIDEO_TEXT_NAMES else _few_shot(found[0], records)
    if not rows:
        raise UserError(f"paper: no published figure of {names[found[0]]} is known here, so that there is no table")
    more = [name for name in (OTHER, PARTIAL) if any(row.get(name) for row in rows)]
    return pd.DataFrame(rows, columns=[*COLUMNS[:-1], *more, COLUMNS[-1]]).fillna("").astype(str)


def written(found: pd.DataFrame, form: str) -> str:
    """The table as text, csv, latex or markdown."""
    if form == "csv":
        return found.to_csv(index=False).rstrip("\n")
    if form == "markdown":
        return "\n".join(paper_against_ours.markdown(found))
    if form == "latex":
        return latex(found)
    return found.to_string(index=False, justify="left")


def latex(found: pd.DataFrame) -> str:
    """A tabular with booktabs' rules (``\\usepackage{booktabs}``); special characters escaped, commands left out."""
    shown = found.drop(columns="command")
    style = shown.style.format(escape="latex").format_index(escape="latex", axis=1).hide(axis="index")
    text = style.to_latex(hrules=True, column_format="l" * len(shown.columns))
    return text.replace("±", r"$\pm$").rstrip("\n")


def _row(ours: Mapping[str, Any] | None, part: Mapping[str, Any] | None, recipe: Path | None) -> dict[str, str]:
    row = dict.fromkeys(COLUMNS[4:], "")
    if ours is not None:
        row |= {"ours (%)": f"{ours['accuracy']:.1f}", "± 95%": f"{ours['half']:.1f}", "over": ours["over"]}
        row |= {"seeds": str(ours["seeds"]), "coverage": ours["coverage"], OTHER: "; ".join(ours["differs"])}
    elif part is not None:
        row[PARTIAL] = f"{part['accuracy']:.1f} ± {part['half']:.1f}: {'; '.join(part['differs'])}"
    if recipe is not None:
        row["command"] = f"vidlib run {recipe.parent.name}/{recipe.stem}"
    return row


def _few_shot(method: str, records: pd.DataFrame) -> list[dict[str, str]]:
    groups = paper_against_ours.groups(records, least=1)
    rows = []
    cells = paper_against_ours.cells()
    for _, cell in cells[cells["method"] == method].iterrows():
        row = {"dataset": cell["dataset"], "protocol": f"5-way {cell['shot']}-shot", "backbone": cell["backbone"]}
        row[PUBLISHED] = published.mark(cell["value"], cell["confidence"])
        recipe = recipes.find(method, cell["dataset"], cell["shot"])
        ours, part = paper_against_ours.best(groups, cell), paper_against_ours.nearest(groups, cell)
        rows.append(row | _row(ours, part, recipe))
    return rows


# ---------------------------------------------------------------- videos and texts


def _labelled(method: str, records: pd.DataFrame) -> list[dict[str, str]]:
    figures = published.rows(method=label(method), metric="top1")
    figures = figures[figures["dataset"].isin(DATASETS) & figures["method"].str.startswith(label(method))]
    sheets = {_key(recipes.read(file)): file for file in sorted(folder("recipes").glob(f"{method}/*_*.yaml"))}
    rows = []
    for _, figure in figures.iterrows():
        key = _published_key(figure)
        others = re.search(published.RERUN, figure["method"], re.IGNORECASE)
        if key is None or (
            others and key[1] not in ("kshot", "zero_shot")
        ):  # of these two there are others' runs alone
            continue
        row = {"dataset": figure["dataset"], "protocol": figure["protocol"] + (", run by others" if others else "")}
        row["backbone"] = f"{figure['backbone']}, {key[4]} frames"
        row[PUBLISHED] = published.mark(figure["value"], figure["confidence"])
        wanted = {"backbone": key[3] + "-quickgelu", "pretrained": "openai", "frames": key[4]}
        wanted |= dict(zip(("test_clips", "test_crops"), key[5], strict=True))
        recipe = request(str(sheets[key])).params.run_params() if key in sheets else None
        ours, part = _ours(
            method, records, key, wanted, recipe, key[1] == "closed_set" and "K400" in figure["pretraining"]
        )
        if ours and (printed := _views(figure)) != key[5]:
            ours["differs"].append("test views {}x{} (paper: {}x{})".format(*key[5], *printed))
        rows.append(row | _row(ours, part, sheets.get(key)))
    return rows


def _published_key(figure: pd.Series) -> Key | None:
    """What a published figure was measured on; None for ablations and other protocols than ours."""
    said, data = figure["protocol"], DATASETS[figure["dataset"]]
    shot = re.match(r"K=(\d+) ", said)
    protocol = "kshot" if shot else "zero_shot" if said == "zero-shot" else "closed_set"
    if protocol == "closed_set" and not said.startswith("supervised") or figure["backbone"] not in BACKBONES:
        return None
    if figure["frames"] != figure["frames"] or "own K400 copy" in said or "log" in said:
        return None
    seen = _views(figure)
    count = int(shot[1]) if shot else 0
    return data, protocol, count, BACKBONES[figure["backbone"]], int(figure["frames"]), VIEWS.get(seen, seen)


def _views(figure: pd.Series) -> tuple[int, ...]:
    views = re.search(r"(\d+)x(\d+)", figure["protocol"])
    return tuple(map(int, views.groups())) if views else (1, 1)


def _key(values: Mapping[str, Any]) -> Key:
    """The same of a recipe or of a run's parameters."""
    data = str(values.get("test_dataset") or values["dataset"]).removeprefix("official:")
    backbone = next((name for name in BACKBONES.values() if str(values.get("backbone", "")).startswith(name)), "")
    views = int(values.get("test_clips", 1)), int(values.get("test_crops", 1))
    protocol = str(values.get("protocol", "closed_set"))
    if protocol == "zero_shot" and str(values["dataset"]).removeprefix("official:") != TRAINED_ON:
        protocol = "zero_shot, trained on other data"
    each = int(values.get("train_per_class", values.get("shot", 0)))  # the second name in earlier records
    return data, protocol, each, backbone, int(values.get("frames", 8)), views


def _ours(
    method: str,
    records: pd.DataFrame,
    key: Key,
    wanted: Mapping[str, Any],
    recipe: VideoTextRunParams | None,
    on: bool,
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The trained runs that repeat a published cell, over their seeds: of several groups that with the most, then the
    latest; and of those on its data and protocol the partial one with the least that keeps it from being the cell.
    ``on``: the cell's model was trained on Kinetics-400 before."""
    if not len(records) or "epochs" not in records:
        return None, None
    done = records[(records["method"] == method) & (records["report"] == "test") & (records["ablation"] == "")]
    done = done[done["epochs"] > 0]
    done = done[[_key(row)[:3] == key[:3] for row in done.to_dict("records")]] if len(done) else done
    groups = paper_against_ours.joined(done, SAME_RUN)
    for group in groups:
        group["apart"] = repetition.apart(group["row"], wanted, recipe)
        if on and not (repetition.known(init := group["row"].get("init")) and init):
            group["apart"].append("starts from no run on Kinetics-400 (init)")
    ours = [g | {"differs": repetition.differences(g["row"], wanted, recipe)} for g in groups if not g["apart"]]
    part = [g | {"differs": g["apart"]} for g in groups if g["apart"]]
    return (
        max(ours, key=lambda g: (g["seeds"], g["finished"]), default=None),
        max(part, key=lambda g: (-len(g["differs"]), g["seeds"], g["finished"]), default=None),
    )
