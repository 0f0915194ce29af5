"""What a method costs: parameters by part, multiply-adds, clips per second, peak memory.

Everything here takes a module, or a function and its arguments: any method's ``forward`` or ``embed`` will do.
Units: GMACs are 10^9 multiply-adds (the papers print them and call them FLOPs), memory is MiB (2^20 bytes).
"""

import contextlib
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from vidlib.basics.errors import UserError

MIB = 2**20
ALL, OWN = "all", "(own)"
Parts = Mapping[str, nn.Module | nn.Parameter | Iterable[nn.Parameter]]


# ---------------------------------------------------------------- parameters


def parameters(module: nn.Module, parts: Parts | None = None) -> pd.DataFrame:
    """Parameters by part: index ``part``, columns ``total`` and ``trainable``, last row ``all``.

    ``parts`` names groups of parameters; without it the module's ``parameter_parts()`` is asked where it has one, else
    its top-level children are the parts (``(own)`` for parameters that lie directly on it). A parameter counts once, in
    the first part that has it; what no part names is ``rest``. So the parts always add up to the last row.
    """
    if parts is None:
        parts = (
            module.parameter_parts()
            if hasattr(module, "parameter_parts")
            else {**dict(module.named_children()), OWN: list(module.parameters(recurse=False))}
        )
    inside = {id(p) for p in module.parameters()}
    seen: set[int] = set()
    table: dict[str, tuple[int, int]] = {}
    for name, group in {**parts, "rest": module}.items():
        members = [p for p in _members(group) if id(p) not in seen]
        foreign = sum(id(p) not in inside for p in members)
        if foreign:
            raise UserError(f"parts: {name!r} holds {foreign} parameters that the module does not have")
        members = list({id(p): p for p in members}.values())
        seen.update(id(p) for p in members)
        if members or name not in (OWN, "rest"):
            table[name] = (sum(p.numel() for p in members), sum(p.numel() for p in members if p.requires_grad))
    frame = pd.DataFrame.from_dict(table, orient="index", columns=["total", "trainable"], dtype="int64")
    frame.loc[ALL] = frame.sum()
    return frame.rename_axis("part")


def _members(group: nn.Module | nn.Parameter | Iterable[nn.Parameter]) -> list[nn.Parameter]:
    if isinstance(group, nn.Module):
        return list(group.parameters())
    return [group] if isinstance(group, nn.Parameter) else list(group)


# ---------------------------------------------------------------- multiply-adds


def gmacs(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
    """GMACs of one call ``fn(*args, **kwargs)``: half the FLOPs of its matrix products and convolutions.

    Divide by the clips in the call for GMACs per clip. Element-wise work (softmax, norms, OTAM's recursion) is not
    counted, as in the papers. Meta tensors do, and cost nothing.

    Gradients are enabled and fused attention is switched off while counting: the counter does not know PyTorch's fused
    multi-head attention, which eval mode takes under ``no_grad``, and takes with gradients too where a whole tower is
    frozen; it would lose a third of a ViT.
    """
    counter = FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten.convolution_backward: _convolution_backward}
    )
    with torch.enable_grad(), _unfused(), counter:
        fn(*args, **kwargs)
    return counter.get_total_flops() / 2e9


def _convolution_backward(gradient, x, weight, *given, out_shape=None) -> int:  # noqa: ANN001, ANN002
    """FLOPs of a convolution's gradients; torch's own count takes one in groups for a dense one."""
    *_, transposed, _, _, wanted = given
    return sum(wanted[:2]) * conv_flop_count(x, weight, gradient, transposed)


@contextlib.contextmanager
def _unfused() -> Iterator[None]:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


# ---------------------------------------------------------------- time and memory


def throughput(fn: Callable[[], Any], clips: int, seconds: float = 2.0, warmup: int = 1) -> float:
    """Clips per second of ``fn()``, which handles ``clips`` clips a call: repeated for at least ``seconds``.

    ``warmup`` calls come first and are not timed; a GPU is synchronised before each reading of the clock. Gradients are
    as the caller has them: wrap in ``torch.no_grad`` for inference.
    """
    for _ in range(warmup):
        fn()
    _synchronise()
    calls, began = 0, time.perf_counter()
    while True:
        fn()
        _synchronise()
        calls += 1
        spent = time.perf_counter() - began
        if spent >= seconds:
            return clips * calls / spent


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_memory(
    fn: Callable[[], Any],
    holding: nn.Module | None = None,
    device: str | None = None,
    beside: Iterable[torch.Tensor] = (),
) -> float:
    """MiB at the peak of ``fn()``: the tensors it adds, plus parameters, buffers and gradients of ``holding``, plus
    ``beside``, what else is held throughout.

    It is the peak in the mode, precision and gradients that ``fn`` works in: for a training step see
    ``training.memory``. ``device`` is where the work happens: by default where ``holding``'s parameters lie, else a GPU
    if there is one. On a GPU it is the allocator's own peak; elsewhere it is the peak of
    live tensors, counted from the operator that makes them to their last user. The two are the same quantity but for
    scratch space within one operator, which only the first sees. Both work in a notebook, where the process's
    resident memory says little.
    """
    held = _held_bytes(holding, beside)
    if device is None:
        placed = next(holding.parameters(), None) if holding is not None else None
        device = placed.device.type if placed is not None else "cuda" if torch.cuda.is_available() else "cpu"
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        fn()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before + held) / MIB
    with _LiveTensors() as live:
        fn()
    return (live.peak + held) / MIB


def _held_bytes(module: nn.Module | None, beside: Iterable[torch.Tensor]) -> int:
    tensors = [*beside]
    if module is not None:
        tensors += [*module.parameters(), *module.buffers()]
        tensors += [p.grad for p in module.parameters() if p.grad is not None]
    storages = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


class _LiveTensors(TorchDispatchMode):
    """Counts the bytes of storages that operators allocate, from their making to their release."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN204 - torch's own signature
        kwargs = kwargs or {}
        for old in tree_leaves((args, kwargs)):  # what existed before the call is not its doing
            if isinstance(old, torch.Tensor):
                self._note(old, new=False)
        out = func(*args, **kwargs)
        for made in tree_leaves(out):
            if isinstance(made, torch.Tensor):
                self._note(made, new=True)
        return out

    def _note(self, tensor: torch.Tensor, new: bool) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes() if new else 0
        self.live += size
        self.peak = max(self.peak, self.live)

        def released(_: weakref.ref, key: int = key, size: int = size) -> None:
            self.live -= size
            self._known.pop(key, None)

        self._known[key] = weakref.ref(storage, released)
