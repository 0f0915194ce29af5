"""``vidlib report card``: the README of a run's trained weights, with its results as ``model-index``, the YAML that
model hubs read; the same front matter opens the cards of the towers that come with vidlib (``docs/cards.py``)."""

from collections.abc import Sequence
from typing import Any

import yaml

from vidlib.basics.errors import UserError
from vidlib.data.catalogue import benchmarks, entries
from vidlib.params.names import WORLDS
from vidlib.results import runs
from vidlib.studies import records, tables

TASK = "video-classification"
MEANT = {"frame_order": "in order", "text_order": "own"}  # else a test is a control, which shows what the order gives


def results(run: runs.Run) -> list[dict[str, Any]]:
    """What a run's tests came to, one entry of ``model-index`` for each that is no control."""
    found, (dataset, title, _) = [], _data(run)
    for name, test in tests(run).items():
        if test.get("controls", MEANT) != MEANT:
            continue
        shot = name.rpartition("_")[2].removesuffix("shot") if name.endswith("shot") else run.params.get("shot")
        asked = str(run.params["protocol"]) if "protocol" in run.params else f"{run.params['way']}-way {shot}-shot"
        of = {"interval_95": round(100 * test["interval"], 2), "interval_note": test.get("interval_note", "")}
        value = {"type": "accuracy", "value": round(100 * test["accuracy"], 2), "name": "accuracy (%)", "args": of}
        data = {"type": dataset, "name": title, "split": test["split"], "revision": test["checksum"][:12]}
        task = {"type": TASK, "name": f"{tables.named(run.params['method'], run)}, {asked}"}
        found.append({"task": task, "dataset": data, "metrics": [value]})
    return found


def front_matter(name: str, found: Sequence[dict[str, Any]], **facts: Any) -> str:
    """The YAML between lines of ``---`` that opens a card; without results there is no ``model-index``."""
    head = {"library_name": "vidlib", "pipeline_tag": TASK, **facts}
    head |= {"model-index": [{"name": name, "results": list(found)}]} if found else {}
    return f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=120)}---\n"


def card(run: runs.Run, command: str) -> str:
    """The README of a finished run's weights, which ``command`` trains again. UserError: it kept none."""
    if isinstance(run, records.Record) or not run.path(runs.WEIGHTS).is_file():
        raise UserError(f"{run.id} has no trained weights here, so that there is nothing to write a card of: {command}")
    (dataset, title, terms), fit, cost = _data(run), run.result["fit"], run.result["cost"]
    method, given = tables.named(run.params["method"], run), sorted(records.parsed(run).changed().items())
    name = f"{method} on {run.params['backbone']}, tested on {dataset}"
    rows = [
        f"| {key} | {100 * test['accuracy']:.1f} ± {100 * test['interval']:.1f} | {test['interval_note']} "
        f"| `{test['checksum'][:12]}` |"
        for key, test in tests(run).items()
    ]
    versions = ", ".join(f"{key} {value}" for key, value in run.environment.get("versions", {}).items() if value)
    note = "An embedded world is no benchmark of the field. " if dataset in WORLDS else ""
    open_choices = ", ".join(str(one[0]) for one in run.result.get("unsettled", [])) or "none named"
    return f"""{front_matter(name, results(run), license="unknown", tags=["action-recognition"])}
# {name}

What vidlib's run `{run.id}` trained: {cost["trainable"]:,} of {cost["total"]:,} numbers of {method},
in `{runs.WEIGHTS}`.

## Intended use

Repeating and comparing results, and as the `init` of another run. Nothing beyond what was tested below is known of it.

## Training

{fit["steps"]:,} optimiser steps in {fit["seconds"]:.0f} s; the weights are those of step {fit["selected"]:,}.
With {versions}. Again: `{command}`

What is not a default: {", ".join(f"`{key}` {value}" for key, value in given)}.

## Evaluation

{title}; the split test was read {run.readings().get("test", 0)} times.

| test | accuracy (%) ± 95% | what the interval is of | list |
|---|---|---|---|
{chr(10).join(rows)}

## Limits

{note}One training with one seed. Choices that no source at hand settles: {open_choices}.

## Licence

Of these weights not stated: who trained them decides. vidlib's code is MIT. Of the data: {terms}.
"""


def tests(run: runs.Run) -> dict[str, dict[str, Any]]:
    """The tests of a run by name, controls too."""
    return {key: test for key, test in run.result.items() if isinstance(test, dict) and "accuracy" in test}


def _data(run: runs.Run) -> tuple[str, str, str]:
    """What a run was tested on: its name, title and terms; of a user's folder no path."""
    name = str(run.params.get("test_dataset") or run.params["dataset"])
    if name.startswith(benchmarks.FOLDER):
        return "folder", "videos of one's own", "unknown to us"
    facts = entries.entry(name if name in entries.every() else f"official:{name}")
    return name, facts.title, facts.licence
