"""A method with its classes as one file that runs without vidlib: ``torch.export``'s program, or ONNX.

The file takes the uint8 frames [1 T H W 3] of one video, already resized and cropped, and gives probabilities [1 K]:
image tower, head, and the classes' texts or example videos, embedded once. What it needs beside frames (classes, number
of frames, sizes) lies in it, as ``about.json`` of a program and under ``about`` in the properties of an ONNX model.

Legend: `B` videos, `K` classes, `T` frames.
"""

import importlib.util
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy, deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from vidlib import __version__
from vidlib.basics.devices import make_fabric, ready
from vidlib.basics.errors import UserError
from vidlib.basics.paths import absolute, atomic_write, check_writable
from vidlib.data.sampling import segment_indices
from vidlib.params.tools import PredictParams
from vidlib.studies.predict import guess
from vidlib.studies.predict.files import class_texts, list_files
from vidlib.studies.predict.show import Opened

FORMS = (".pt2", ".onnx")  # torch.export's, ONNX
NEAR = 1e-4  # largest difference of a probability between the file and the method: float32, other orders of sums
OPSET = 20


class Classifier(nn.Module):
    """Frames uint8 [B T H W 3] to probabilities [B K], with what tells the classes as buffers; traced with B = 1."""

    def __init__(self, opened: Opened, classes: dict[str, Tensor], few_shot: bool):
        super().__init__()
        self.method, self.few_shot, self.names = deepcopy(opened.method), few_shot, tuple(classes)
        for module in self.method.modules():  # a number that Python computes with, as the scale of texts, is a constant
            for name, value in [*module.named_parameters(recurse=False)]:
                if value.numel() == 1:
                    delattr(module, name)
                    setattr(module, name, value.detach().clone())
        for i, value in enumerate(classes.values()):
            self.register_buffer(f"known_{i}", value)
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(opened.transform, name)).view(3, 1, 1))

    def forward(self, frames: Tensor) -> Tensor:
        clips = (frames.permute(0, 1, 4, 2, 3).float() / 255 - self.mean) / self.std
        known = {name: getattr(self, f"known_{i}") for i, name in enumerate(self.names)}
        text = known.pop("text")
        if not self.few_shot:
            return self.method.score(self.method.embed(clips), text).float()
        labels = known.pop("labels")
        query = {name: value[None] for name, value in self.method.embed(clips, None, "query").items()}
        return self.method.match(known, labels, query, text).logits[0].softmax(-1).float()


@dataclass(frozen=True)
class About:
    """What lies in the file beside the program: how frames are picked and resized, and what an output means."""

    classes: list[str]
    frames: int
    resize: int
    size: int
    squash: bool
    picked: str
    method: str
    vidlib: str = __version__


def build(p: PredictParams, opened: Opened) -> tuple[Classifier, About]:
    """The classifier in evaluation mode, on the CPU in float32, and what it needs to be used."""
    fabric = make_fabric("cpu", "32-true")
    look, method = opened.transform, ready(fabric, opened.method)
    with torch.no_grad():
        if p.few_shot:
            known = guess.known_classes(p, opened, fabric)
            names, given = [*known.names], {name: value[None] for name, value in known.support.items()}
            given |= {"labels": known.labels[None], "text": known.text[None]}
        else:
            names = [*class_texts(p.classes)]
            given = {"text": method.class_text(names)}
    if method.choices.get("transductive"):
        raise UserError("export: the method compares all videos at once, so that no file of it tells one video alone")
    if opened.pick is not segment_indices:
        raise UserError("export: the method does not take the segments' centres; give a run with sampling segments")
    picked = "the middle of each of equal segments"
    about = About(names, opened.frames, look.resize, look.size, look.squash, picked, opened.words)
    classifier = Classifier(opened, {name: value.detach().clone() for name, value in given.items()}, p.few_shot)
    return classifier.eval().requires_grad_(False), about


def checked(given: str) -> Path:
    """The file, absolute; UserError where its ending is unknown, what writes it is not installed, or it exists."""
    file = absolute(given)
    if file.suffix not in FORMS:
        raise UserError(f"export: {file.name} ends with none of {', '.join(FORMS)}")
    if file.suffix == ".onnx" and not all(map(importlib.util.find_spec, ("onnx", "onnxscript"))):
        raise UserError("export: ONNX wants more packages: pip install onnx onnxscript, or name a .pt2")
    if file.exists():
        raise UserError(f"export: {file} exists; give another name, or remove it")
    check_writable(file, "export")
    return file


def export(p: PredictParams, file: Path) -> tuple[float, About]:
    """Write the file, whole or not at all; the largest difference of a probability on the videos of ``p``.

    UserError where the program cannot be made, or gives other probabilities.
    """
    opened = guess.open_method(p)
    classifier, about = build(p, opened)
    frames = torch.stack([_frames(path, opened) for path in list_files(p.videos)])
    with torch.no_grad():
        wanted = torch.cat([classifier(one) for one in frames.split(1)])
    try:
        with torch.no_grad(), _quiet():
            # what hangs on the values of the known classes' labels, as checks of them, follows the real ones
            program = torch.export.draft_export(classifier, (frames[:1],))
    except Exception as error:  # torch raises what its tracing meets
        raise _cannot("torch.export", about, error) from error
    with atomic_write(file) as part:
        with _quiet():
            got = (_onnx if file.suffix == ".onnx" else _program)(program, part, about, frames)
        worst = float((got - wanted).abs().max())
        if not worst <= NEAR:
            raise UserError(f"export: the file's probabilities differ by {worst:.1e} from the method's; not written")
    return worst, about


def _frames(path: Path, opened: Opened) -> Tensor:
    """A video's frames uint8 [T H W 3], resized and cropped."""
    plain = copy(opened.transform)
    plain.mean, plain.std = (0.0,) * 3, (1.0,) * 3
    clip = replace(opened, transform=plain).read(path)
    return (255 * clip).round().to(torch.uint8).permute(0, 2, 3, 1)


def _cannot(what: str, about: About, error: Exception) -> UserError:
    first = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return UserError(f"export: {what} cannot follow {about.method.splitlines()[0]} ({first})")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's warnings of what it assumed: the file is compared with the method."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _program(program: torch.export.ExportedProgram, part: Path, about: About, frames: Tensor) -> Tensor:
    """Write it as ``part`` and read it again: its probabilities of ``frames``."""
    with open(part, "wb") as file:
        torch.export.save(program, file, extra_files={"about.json": json.dumps(asdict(about))})
    with open(part, "rb") as file, torch.no_grad():
        module = torch.export.load(file).module()
        return torch.cat([module(one) for one in frames.split(1)])


def _onnx(program: torch.export.ExportedProgram, part: Path, about: About, frames: Tensor) -> Tensor:
    """The same as ONNX, by onnxruntime where it is installed, else by onnx's own slow reference."""
    import onnx

    try:
        model = torch.onnx.export(program, dynamo=True, opset_version=OPSET, verbose=False).model_proto
    except Exception as error:
        raise _cannot("ONNX", about, error) from error
    onnx.helper.set_model_props(model, {"about": json.dumps(asdict(about))})
    onnx.checker.check_model(model)
    onnx.save(model, str(part))
    try:
        import onnxruntime
    except ImportError:
        from onnx.reference import ReferenceEvaluator

        run = ReferenceEvaluator(onnx.load(str(part))).run
    else:
        run = onnxruntime.InferenceSession(str(part), providers=["CPUExecutionProvider"]).run
    [name] = [each.name for each in model.graph.input]
    return torch.cat([torch.from_numpy(run(None, {name: one.numpy()})[0]) for one in frames.split(1)])
