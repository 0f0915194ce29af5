"""A study of one few-shot method: its runs over seeds, the methods beside it, a drawn episode, what is said of them.

Its tables are those of ``tables``, and by way of this module a notebook has them all.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from vidlib import backbones, methods
from vidlib.backbones import Backbone
from vidlib.basics.devices import make_fabric
from vidlib.data.episodes import Episode
from vidlib.data.manifest import Manifest
from vidlib.data.protocols import labels_line
from vidlib.matching import METRIC_SCALES
from vidlib.methods import find
from vidlib.methods.base import tagged
from vidlib.params.by_recipe import (
    BASELINES,
    FROZEN,
    ORDERED,
    WITH_TEXT,
    ByRecipe,
    baseline,
    frozen,
    ordered,
    own_rate,
    untrained,
)
from vidlib.params.few_shot import FewShotParams, MAFSARParams, OneMethod, RunParams
from vidlib.results import runs, trust
from vidlib.results.accuracy import Evaluation
from vidlib.studies import verify
from vidlib.studies.tables import (  # noqa: F401 (the tables, for notebooks)
    Studied,
    bubble_rows,
    command,
    data_name,
    describe_runs,
    differences,
    drawn,
    interval_note,
    label,
    published_of,
    result_table,
    seeds,
    tested,
    weights,
)
from vidlib.studies.where import attention_maps, on_objects  # noqa: F401 (for notebooks)
from vidlib.training import controls, evaluate_episodes, few_shot, side_by_side
from vidlib.training.evaluate_episodes import mix
from vidlib.training.few_shot import Split
from vidlib.viz import filmstrip
from vidlib.viz.style import show

FLOORS = (FROZEN, ORDERED)  # what stands beside a paper's method whatever is named in ``compare``


def run_methods(p: OneMethod, names: Sequence[str], manifest: Manifest | None = None) -> dict[str, list[runs.Run]]:
    """One finished run per method and seed, in the order of ``names``; finished ones are reused, the others run now.

    Methods beside ``p.method`` share its parameters; their learning rate is that of their recipes, if none was given.
    Pretrained and untrained, frozen CLIP is the same for every seed and runs once. Ordered differences, a floor too,
    train by their own recipe and not by the notebook's parameters.
    """
    planned = {}
    for name in dict.fromkeys(names):
        same = name == FROZEN and p.pretrained
        each = [p.run_params(name, seed=seed) for seed in ([p.seed] if same else seeds(p))]
        if name == ORDERED:
            each = [ordered(params) for params in each]
        elif name not in (p.method, FROZEN) and "lr" not in p.changed():
            each = [own_rate(params) for params in each]
        planned[name] = each
    return _finished(p, planned, manifest)


def run_beside(p: ByRecipe, manifest: Manifest | None = None) -> dict[str, list[runs.Run]]:
    """The runs of ``p.method``, of those in ``compare``, of itself untrained and of its backbone's frozen features."""
    each = {name: [p.run_params(name, seed=seed) for seed in seeds(p)] for name in (p.method, *p.compared)}
    each["untrained"] = [untrained(params) for params in each[p.method]]
    same = p.pretrained != ""  # random weights follow from the seed
    each["frozen"] = [frozen(params) for params in each[p.method][: 1 if same else None]]
    return _finished(p, each, manifest)


def _finished(
    p: FewShotParams, planned: Mapping[str, Sequence[RunParams]], manifest: Manifest | None
) -> dict[str, list[runs.Run]]:
    """The runs of ``planned``; one that is the same for every seed stands for all."""
    finished = side_by_side.run_named(few_shot, planned, manifest or few_shot.open_manifest(p))
    return {name: same * (p.seeds // len(same)) for name, same in finished.items()}


def run_baselines(p: OneMethod, manifest: Manifest) -> dict[str, list[runs.Run]]:
    """The runs of ``BASELINES`` on the backbone of ``p``, for its tables; of one without texts those that read none.

    ``manifest`` as the other runs had it: with the same one no video is encoded again that a floor has encoded.
    """
    each = [p.run_params(FROZEN, seed=seed) for seed in (seeds(p) if p.pretrained == "" else [p.seed])]
    texts = not backbones.texts_need(each[0].backbone, each[0].pretrained)
    named = (n for n in BASELINES if n not in p.planned)
    names = [n for n in named if texts or n != WITH_TEXT and not find(n).needs_clip]
    finished = {name: [few_shot.run(baseline(name, params), manifest) for params in each] for name in names}
    return {name: same * (p.seeds // len(each)) for name, same in finished.items()}


def draw_episode(p: FewShotParams, manifest: Manifest) -> tuple[Backbone, Split, Episode]:
    """Show episode 0 of val as a filmstrip; the backbone, the split opened with it, and the episode."""
    tower = few_shot.open_backbone(p, getattr(p, "freeze_bn", True))
    val = few_shot.open_split(p, manifest, tower, "val")
    episode = val.sampler[0]
    supports, queries = (
        [filmstrip.to_uint8(val.clips.test(row), tower.mean, tower.std) for row in rows]
        for rows in (episode.support, episode.query)
    )
    names = [manifest.text(cls) for cls in episode.classes]
    title = f"Episode 0 of val, {p.dataset}: {p.way}-way {p.shot}-shot"
    show(filmstrip.episode(supports, episode.support_labels, queries, episode.query_labels, names, title=title))
    if p.texts:
        print(f"Class texts, of {p.texts}, in {' | '.join(p.templates)}:\n{class_texts(manifest).to_string()}")
    return tower, val, episode


def class_texts(manifest: Manifest) -> pd.DataFrame:
    """What a text encoder reads of each class: split, class, its texts."""
    rows = [
        (split, cls, " | ".join(manifest.texts(cls))) for split in manifest.splits for cls in manifest.classes(split)
    ]
    return pd.DataFrame(rows, columns=["split", "class", "texts"]).set_index(["split", "class"])


def about(method: str) -> str:
    """What a method is: the words at the head of its file."""
    cls = find(method)
    return inspect.getdoc(inspect.getmodule(cls)) or inspect.getdoc(cls) or "its file does not say"


def arguments(params: RunParams) -> pd.DataFrame:
    """The constructor's arguments: the value in this run, and the default."""
    defaults = constructor(params.method)
    here = defaults | methods.arguments(params)
    rows = [{"argument": name, "here": repr(here[name]), "default": repr(defaults[name])} for name in defaults]
    return pd.DataFrame(rows).set_index("argument")


def constructor(method: str) -> dict[str, Any]:
    """The arguments that a method's constructor has, with their defaults."""
    known = inspect.signature(find(method)).parameters
    return {name: p.default for name, p in known.items() if p.default is not inspect.Parameter.empty}


def without_training(p: MAFSARParams, manifest: Manifest, run: runs.Run) -> tuple[pd.DataFrame, pd.DataFrame]:
    """MA-FSAR as ``run`` trained it, on val: accuracy (%) by mixing weight, and with one thing changed at test."""
    method, val = few_shot.open_trained(run, manifest)
    run.count_reading("val", "ablations without training")

    fabric = make_fabric(p.device, p.precision)
    episodes = [val.sampler[i] for i in range(p.test_episodes)]

    def embedded(control: str = "") -> evaluate_episodes.Features:
        clips, _ = controls.applied(control, val.clips, val.text, "val")
        return evaluate_episodes.embed_videos(method, clips, episodes, val.text, fabric=fabric, label="val")

    def matched(features: evaluate_episodes.Features) -> Evaluation:
        settings = {"fabric": fabric, "keep_parts": True, "label": "val"}
        return evaluate_episodes.match_episodes(method, features, val.sampler, episodes, val.text, **settings)

    features = embedded()
    own = matched(features)
    mixed = {f"{weight:g}": mix(method, own, weight) for weight in (0, 0.1, 0.25, 0.5, 0.75, 0.9, 1)}
    changed = {"as trained": own, "frames shuffled": matched(embedded(controls.SHUFFLED))}
    if method.support_text:
        method.support_text = False
        changed["text off (no class text anywhere, a = 0)"] = mix(method, matched(embedded()), 0.0)
        method.support_text = True
    for name in ("otam", "bimhm", "prototype", "cosine"):  # those without weights of their own
        if name != p.metric:
            method.use_metric(name, METRIC_SCALES[name])
            for role in features.values():
                role |= tagged(method.metric.prepare(role["frames"]), "metric")
            changed[f"metric {name} in the place of {p.metric}"] = matched(features)
    return _accuracies(mixed, "mixing weight a"), _accuracies(changed, "changed at test")


def _accuracies(by: Mapping[str, Evaluation], what: str) -> pd.DataFrame:
    table = {
        key: {"val accuracy (%)": 100 * each.accuracy}
        | {f"± {kind}": 100 * half for kind, half in each.intervals.items()}
        for key, each in by.items()
    }
    return pd.DataFrame.from_dict(table, orient="index").rename_axis(what)


def shot_rule_line(studied: Studied) -> str:
    """What each method averages over the supports of a class, in one sentence for the protocol."""
    params = {label(name): RunParams.parse(same[0].params) for name, same in studied.items()}
    by: dict[str, list[str]] = {}
    for name, each in params.items():
        by.setdefault(methods.shot_rule(each), []).append(name)
    said = [f"{rule + ' are averaged' if rule else 'its own'} ({', '.join(own)})" for rule, own in by.items()]
    alone = all(each.shot == 1 for each in params.values())
    return f"Shot rule, of a class's supports: {'; '.join(said)}{'; one support is both alike' if alone else ''}."


def describe(p: FewShotParams, manifest: Manifest, studied: Studied, of: str, notebook: str) -> None:
    """Print the protocol of the result table: what was tested on what, how often test was read, how to repeat it.

    ``of`` is the method studied, ``notebook`` the file's name without its ending.
    """
    result = studied[of][0].result
    shape = f"{p.way}-way {p.shot}-shot, {p.query} query per class, {p.frames} frames at segment centres, novel classes"
    listed = f"{result['test']['episodes']:,} test episodes, list {result['test']['checksum'][:12]}"
    print(f"Data: {data_name(manifest)}; {trust.coverage_line(result)}.")
    other = ", whose classes are neither trained nor tested on" if result["labels"]["selection"]["videos"] else ""
    print(f"Protocol: {shape}; {listed}; weights {weights(result)}{other}.")
    print(labels_line(result["labels"]))
    print(shot_rule_line(studied))
    for said in verify.unlike(studied[of]):
        print(f"Unlike its kind on record, {said}")
    describe_runs(p, studied, notebook)
