"""``vidlib data croissant``: an entry of the catalogue as Croissant 1.1, the JSON-LD of MLCommons that tools read.

It describes what the entry states: classes, counts, checksums of lists, terms. The file that it distributes is the
entry itself; videos are no part of it, and ``conditionsOfAccess`` says where they are to be had.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import vidlib
from vidlib.basics.digests import file_digest
from vidlib.basics.paths import atomic_write, written
from vidlib.data.catalogue import benchmarks, entries

_OWN = "arrayShape citeAs column containedIn equivalentProperty extract field fileProperty fileObject fileSet format"
_OWN += " includes isArray isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated replace"
_OWN += " samplingRate separator source subField transform"
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    **{name: f"cr:{name}" for name in _OWN.split()},
    **{name: {"@id": f"cr:{name}", "@type": "@json"} for name in ("data", "examples")},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    **{name: {"@container": "@language"} for name in ("name", "description")},
}
HEAD = {"@context": CONTEXT, "@type": "sc:Dataset", "conformsTo": "http://mlcommons.org/croissant/1.1"}
NUMBERS = ("classes/videos", "splits/videos", "splits/classes")  # fields; all others hold text
OURS = {  # of what vidlib renders
    "license": "https://spdx.org/licenses/MIT",
    "citeAs": f"the vidlib authors: vidlib {vidlib.__version__}",
    "creator": {"@type": "Organization", "name": "the vidlib authors"},
}


def source(name: str) -> Path:
    """The YAML file of an entry such as ``hmdb51`` or ``official:hmdb51``."""
    return benchmarks.catalogue() / f"{name.replace('official:', benchmarks.STANDARD)}.yaml"


def described(name: str) -> dict[str, Any]:
    """The JSON-LD of an entry; a UserError where there is none."""
    facts, file = entries.entry(name), source(name)
    held = {"@type": "cr:FileObject", "@id": "manifest", "name": file.name, "contentUrl": file.name}
    held |= {"encodingFormat": "application/yaml", "sha256": file_digest(file)}
    world = isinstance(facts, entries.World)
    access = "Videos are made where vidlib runs" if world else "Videos and their lists are no part of this, nor ours"
    said = {"name": facts.title, "alternateName": name, "version": vidlib.__version__, "url": facts.page}
    said["description"] = f"{facts.task}. Protocol: {facts.protocol}. Splits: {facts.splits}. Called: {facts.called}."
    said |= OURS if world else {"license": facts.licence, "citeAs": facts.cite}
    said["conditionsOfAccess"] = f"{access}: {facts.where}. Where vidlib reads them: {facts.layout}."
    said |= {"rai:dataLimitations": list(facts.notes), "distribution": [held], "recordSet": list(_record_sets(facts))}
    return HEAD | {key: value for key, value in said.items() if value}


def write(name: str, out: Path) -> Path:
    """Write an entry's JSON-LD into the folder ``out``, and the entry beside it, which it names; the JSON-LD's file."""
    text, file = json.dumps(described(name), indent=1, ensure_ascii=False) + "\n", source(name)
    with written("out", out):
        out.mkdir(parents=True, exist_ok=True)
    for place, content in ((out / file.name, file.read_text()), (made := out / f"{file.stem}.croissant.json", text)):
        with atomic_write(place) as part:
            part.write_text(content)
    return made


def _record_sets(facts: entries.Entry) -> Iterator[dict[str, Any]]:
    """Splits, classes of each, and checksums of lists where there are any; a number that is not stated is null."""
    texts, videos, lists = facts.texts(), facts.videos(), getattr(facts, "checksums", {})
    rows = [{"name": split, "classes": len(texts[split]), "videos": videos[split]} for split in texts]
    yield {"dataType": "cr:Split"} | _records("splits", rows, 1)
    counts = {split: _counts(facts, split) for split in texts}
    rows = [
        {"split": split, "name": cls, "text": text or "", "videos": counts[split][cls]}
        for split, classes in texts.items()
        for cls, text in classes.items()
    ]
    yield _records("classes", rows, 2)
    rows = [{"list": str(of), "split": s, "sha256": digest} for of, each in lists.items() for s, digest in each.items()]
    if rows:
        yield _records("checksums", rows, 2)


def _records(name: str, rows: list[dict[str, Any]], keys: int) -> dict[str, Any]:
    """A record set with its data in it; its first ``keys`` fields tell one record from the others."""
    ids = [f"{name}/{field}" for field in rows[0]]
    kinds = ["sc:Integer" if one in NUMBERS else "sc:Text" for one in ids]
    of = zip(ids, rows[0], kinds, strict=True)
    fields = [{"@type": "cr:Field", "@id": one, "name": short, "dataType": kind} for one, short, kind in of]
    data = [dict(zip(ids, row.values(), strict=True)) for row in rows]
    named = {"@type": "cr:RecordSet", "@id": name, "name": name, "key": [{"@id": one} for one in ids[:keys]]}
    return named | {"field": fields, "data": data}


def _counts(facts: entries.Entry, split: str) -> dict[str, int | None]:
    """Class -> the videos of a split, None where the entry states none."""
    if isinstance(facts, entries.World):
        return dict.fromkeys(facts.texts()[split], facts.clips_per_class[split])
    if isinstance(facts, entries.FewShot):
        return {each.name: each.videos for each in facts.classes[split]}
    part, _, number = split.partition(" ")
    every = {each.name: getattr(each, part) for each in facts.classes}
    return {name: counts and counts[int(number or 1) - 1] for name, counts in every.items()}
