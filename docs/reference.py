"""``make site``: the pages of the evidence beside those of the notebooks; in ``site/``.

One page per paper, method and benchmark, the questions, the public face, all from the package's own data: docstrings,
recipes, catalogue, published figures, records. Notebooks come as ``make book`` executed them, else as they are stored.
"""

import argparse
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import yaml
from markupsafe import Markup, escape

import vidlib
from docs import pages
from tests import prepared
from vidlib import methods, testing
from vidlib.cli import report_table
from vidlib.data.catalogue import entries
from vidlib.data.disk import auditing, surveying
from vidlib.methods import FewShotMethod, VideoTextMethod
from vidlib.params import notebooks, open_choices, recipes
from vidlib.params.names import label
from vidlib.results import published
from vidlib.studies import ablations, ladder, paper_claims
from vidlib.studies.tables import published_of

QUESTIONS = Path(__file__).with_name("questions.yaml")
NO_RUN = "No run of a published cell is at hand: the benchmarks of the field were not run here."
SAID = (
    "What the papers claim beside what was measured here, on small towers and embedded worlds, from records that "
    "vidlib verify checks. Every page is made from the package's own data."
)
COMMANDS = {  # how videos of each kind of benchmark come here
    entries.World: "vidlib run few_shot --set dataset={0}\nvidlib data shortcuts {0}",
    entries.FewShot: "vidlib data lists {0} --from LISTS\nvidlib data add {0} --videos DIR\nvidlib data check {0}",
    entries.Standard: "vidlib data import-official {0} --from SPLITS\nvidlib data add {0} --videos DIR\n"
    "vidlib data check {0}",
}
FACTS = ("protocol", "called", "splits", "prompt", "licence", "where", "layout")


def write(out: Path, runs: str = "") -> None:
    """The site in the folder ``out``; ``runs``: a folder of runs that published cells are looked for in."""
    executed = {path.name: path for path in sorted((pages.ROOT / "book" / "executed").glob("*.ipynb"))}
    out.mkdir(parents=True, exist_ok=True)
    pages.write([executed.get(path.name, path) for path in prepared.NOTEBOOKS], out, "stored", bodies(runs))


def bodies(runs: str = "") -> dict[str, str]:
    """Name of a page -> its HTML; links as a notebook has them (``docs.pages`` turns them)."""
    climbed = _rungs()
    met = auditing.overlaps(entries.every())
    made: dict[str, tuple[str, dict[str, Any]]] = {
        "questions": ("questions", {"groups": questions().items()}),
        "api": ("api", {"parts": _face(), "models": _models()}),
    }
    for name in paper_claims.CLAIMS:
        made[f"paper-{name}"] = ("paper", {"p": _paper(name, climbed, runs)})
    for name in vidlib.list_methods():
        made[f"method-{name}"] = ("method", {"m": _method(name, climbed)})
    for name in entries.every():
        made[_of_benchmark(name)] = ("benchmark", {"b": _benchmark(name, met)})
    made["evidence"] = ("evidence", {"said": SAID, "tables": _contents(made, climbed)})
    loader = jinja2.Environment(loader=jinja2.FileSystemLoader(pages.SITE), autoescape=True, trim_blocks=True)
    loader.filters |= {"prose": prose, "slug": lambda text: re.sub(r"\W+", "-", text).strip("-").lower()}
    kinds = loader.get_template("reference.html.j2").module
    return {name: str(getattr(kinds, kind)(**given)) for name, (kind, given) in made.items()}


def questions() -> Mapping[str, list[dict[str, str]]]:
    """The questions by group; of each what is asked, the answer, the command, what it must print, how it is tested."""
    return yaml.safe_load(QUESTIONS.read_text())


def prose(text: str) -> Markup:
    """A docstring as paragraphs: numbered points and ``name: meaning`` begin lines, double backticks mark code."""
    parts = re.split(r"\n\s*\n", inspect.cleandoc(text))
    lines = [re.split(r"\n(?=\d+\. |- |[\w, ]{1,60}: )", part) for part in parts if part.strip()]
    joined = ("<br>".join(" ".join(escape(line).split()) for line in part) for part in lines)
    marked = (re.sub("(`+)(.+?)\\1", r"<code>\2</code>", part) for part in joined)
    return Markup("".join(f"<p>{part}</p>" for part in marked))


def _link(text: str, href: str) -> Markup:
    return Markup('<a href="{}">{}</a>').format(href, text)


def _of_benchmark(name: str) -> str:
    return f"benchmark-{name.replace(':', '_')}"


def _doc(name: str) -> str:
    return sys.modules[methods.find(name).__module__].__doc__ or ""


def _notebook(name: str) -> str:
    return name if name in notebooks.MODELS else "few_shot"


def _rungs() -> pd.DataFrame:
    """The ladder's rows, ready to print."""
    found = ladder.table().drop(columns="seconds", errors="ignore")
    for column, form in ladder.FORMAT.items():
        if column in found:
            found[column] = found[column].map(form.format, na_action="ignore")
    return found.fillna("").reset_index()


def _rows(name: str, climbed: pd.DataFrame) -> pd.DataFrame:
    names = {label(name)} | ({label("with_text")} if name == "frozen_clip" else set())
    return climbed[climbed["method"].isin(names)] if len(climbed) else climbed


def _links(name: str) -> list[tuple[str, str]]:
    """A method's notebook and file."""
    book = _notebook(name)
    return [(f"{book}.ipynb", f"{book}.ipynb"), (f"methods/{name}.py", f"../vidlib/methods/{name}.py")]


def _paper(name: str, climbed: pd.DataFrame, runs: str) -> dict[str, Any]:
    changes = ablations.table(ablations.run(notebooks.MODELS[name](), name), name)
    claims = paper_claims.table(name, changes)
    shown = claims.reset_index()
    for column, form in paper_claims.FORMAT.items():
        shown[column] = shown[column].map(form.format, na_action="ignore").astype(object).fillna("-")
    cells = report_table.table(name, runs)
    ran = (cells["ours (%)"] != "").any()
    cells = cells.loc[:, (cells != "").any()]
    return {
        "name": label(name),
        "adds": _doc(name),
        "links": [*_links(name), ("arguments", f"method-{name}.ipynb"), ("recipes", f"method-{name}.ipynb#recipes")],
        "summary": paper_claims.summary(claims),
        "claims": shown,
        "ladder": _rows(name, climbed),
        "repeated": "Ours is a run that is the published cell." if ran else NO_RUN,
        "cells": cells,
        "figures": published.table(published_of(name)),
    }


def _method(name: str, climbed: pd.DataFrame) -> dict[str, Any]:
    kind, choices = methods.find(name), open_choices.of(name)
    words = [(argument, repr(c.here), c.words, c.look) for argument, c in choices.items()]
    own = [] if _notebook(name) == name else [f"--set method={name}"]
    return {
        "name": label(name),
        "first": _doc(name).split("\n\n")[0],
        "links": [*_links(name), *([("its paper", f"paper-{name}.ipynb")] if name in paper_claims.CLAIMS else [])],
        "runs": " ".join(["vidlib run", _notebook(name), *own]),
        "ladder": _rows(name, climbed),
        "kind": kind.__name__,
        "arguments": _arguments(kind),
        "doc": inspect.getdoc(kind) or "",
        "choices": pd.DataFrame(words, columns=["argument", "here", "known", "where to look in the paper"]),
        "recipes": _recipes(name),
        "sheets": [(recipes.short(file), file.read_text()) for file in _sheets(name)],
    }


def _arguments(kind: Callable) -> pd.DataFrame:
    rows = []
    for name, given in inspect.signature(kind).parameters.items():
        if name != "backbone":
            type_ = inspect.formatannotation(given.annotation).replace("collections.abc.", "")
            rows.append((name, type_, "needed" if given.default is given.empty else repr(given.default)))
    return pd.DataFrame(rows, columns=["argument", "type", "default"])


def _recipes(name: str) -> pd.DataFrame:
    rows = []
    for file in _sheets(name):
        said = recipes.read(file)
        rows.append((said.get("dataset", "motion"), said.get("shot", ""), f"vidlib run {name}/{file.stem}"))
    return pd.DataFrame(rows, columns=["dataset", "shot", "command"])


def _sheets(name: str) -> list[Path]:
    return sorted((pages.ROOT / "recipes" / name).glob("*.yaml"))


def _benchmark(name: str, met: pd.DataFrame) -> dict[str, Any]:
    facts, here = entries.entry(name), surveying.row(name)
    said = [(word, getattr(facts, word)) for word in FACTS]
    said += [("frames", facts.frames), *((f"frames, {split}", how) for split, how in facts.sampling.items())]
    said.append(("direction", "matters: no flips" if facts.directional else "does not matter: flips allowed"))
    counts = [(s, len(facts.texts()[s]), "not stated" if n is None else n) for s, n in facts.videos().items()]
    each = [(split, cls, text or "unknown") for split, every in facts.texts().items() for cls, text in every.items()]
    shared = met[(met["trained"] == name) & (met["tested"] != name) & (met["classes"] > 0)]
    shared = shared.assign(tested=[_link(other, f"{_of_benchmark(other)}.ipynb") for other in shared["tested"]])
    short = name.removeprefix("official:")
    return {
        "title": facts.title,
        "task": f"{facts.task}\n\n``{name}``: {here['what']}.",
        "commands": COMMANDS[type(facts)].format(name).replace(f"import-official {name}", f"import-official {short}"),
        "links": [(f"data_manifests/{_file(name)}", f"../data_manifests/{_file(name)}")],
        "facts": pd.DataFrame(said, columns=["what", "says"]),
        "counts": pd.DataFrame(counts, columns=["split", "classes", "videos"]),
        "classes": pd.DataFrame(each, columns=["split", "class", "text"]),
        "notes": facts.notes,
        "met": shared[["tested", "classes", "of"]],
    }


def _file(name: str) -> str:
    return f"{name.replace('official:', 'official_')}.yaml"


def _contents(made: Mapping[str, tuple[str, Any]], climbed: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The tables of the page that leads to the others."""

    def linked(kind: str, text: Callable[[str, Any], tuple]) -> list[tuple]:
        rows = (
            (name.partition("-")[2], name, of)
            for name, (each, given) in made.items()
            if each == kind
            for of in given.values()
        )
        return [(_link(of.get("name", short), f"{name}.ipynb"), *text(short, of)) for short, name, of in rows]

    benchmark = linked("benchmark", lambda short, of: (of["title"], dict(of["facts"].values)["licence"]))
    papers = linked("paper", lambda short, of: (_doc(short).split("\n\n")[0], of["summary"]))
    return [
        ("Papers", pd.DataFrame(papers, columns=["paper", "what it is", "its claims here"])),
        ("Methods", pd.DataFrame(linked("method", lambda short, of: (of["first"], of["runs"])),
                                 columns=["method", "what it is", "command"])),
        ("Benchmarks", pd.DataFrame(benchmark, columns=["benchmark", "what", "licence"])),
        ("All methods on record", climbed),
    ]  # fmt: skip


def _face() -> list[dict[str, Any]]:
    """What may be imported: the functions of ``vidlib``, ``check_method``, and the contract of a method."""
    every: list[tuple[str, Any]] = [(f"vidlib.{name}", getattr(vidlib, name)) for name in sorted(vidlib.__all__)]
    every += [("vidlib.testing.check_method", testing.check_method)]
    every += [(f"vidlib.methods.{kind.__name__}", kind) for kind in (FewShotMethod, VideoTextMethod)]
    parts = []
    for name, thing in every:
        own = vars(thing).items() if inspect.isclass(thing) else ()
        rows = [(n, str(inspect.signature(f)), prose(inspect.getdoc(f) or ""))
                for n, f in own if inspect.isfunction(f) and not n.startswith("_")]  # fmt: skip
        shown = f"{name.rpartition('.')[2]}{inspect.signature(thing)}"
        members = pd.DataFrame(rows, columns=["method", "signature", "what it does"])
        parts.append({"name": name, "signature": shown, "doc": inspect.getdoc(thing) or "", "members": members})
    return parts


def _models() -> list[dict[str, Any]]:
    """The parameters of each notebook, from its model."""
    models = []
    for name, model in notebooks.MODELS.items():
        left = model.left_open()
        rows = [(n, "by the recipe" if n in left else repr(f.default), f.description or "")
                for n, f in model.model_fields.items()]  # fmt: skip
        said = f"{model.__module__}.{model.__name__}: of cell, recipe, command line and run record alike."
        fields = pd.DataFrame(rows, columns=["parameter", "default", "what it is"])
        models.append({"name": f"Parameters of {name}.ipynb", "said": said, "fields": fields})
    return models


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=pages.ROOT / "site")
    parser.add_argument("--runs", default="", help="the runs folder, default the usual one")
    asked = parser.parse_args(arguments)
    write(asked.out.absolute(), asked.runs)
    print(f"the site: {asked.out / 'evidence.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
