"""A test's videos: read ahead by loader processes, made something of by all processes, and brought together again.

Batches are dealt to the processes in turn, so a batch holds the same videos whoever has it. After every ``ROUND`` of
its batches a process exchanges what it made with the others: none waits longer than their batches differ, and an error
of one is raised on all.
"""

import math
import re
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from vidlib.basics.devices import exchange, place
from vidlib.basics.errors import UserError
from vidlib.basics.progress import track

ROUND = 16  # batches of a process
AHEAD = 2  # items that each loader process has ready: a video in all its views, or an episode
MEMORY = re.compile(r"Bus error|shared memory (?:object|\(shm\))|/torch_\d+")  # what torch says where /dev/shm is full
DIED = re.compile(r"killed by signal: ([\w ]+)|Caught (MemoryError)")
ENDED = "exited unexpectedly"
Item, Key = TypeVar("Item"), TypeVar("Key")
Made = dict[Any, Tensor]  # key -> [videos ...]


def over(
    clips: Any,
    rows: Sequence[int],
    make: Callable[[list[int], Tensor, int], Made],
    fabric: Fabric,
    *,
    workers: int = 0,
    batch: int = 4,
    label: str = "evaluation",
) -> Made:
    """``make`` of all ``rows`` on every process: key -> [largest row + 1 ...] on the device, zero where nothing is.

    ``make(rows, frames, most)`` is given what ``clips.test`` gives of some rows, stacked on the device, and how many
    clips may go through a network at once: ``batch``, on other devices than a CPU ten times that, halved until it fits
    into memory. A video of several views (``clips.count``) comes with all of them.
    """
    views = getattr(clips, "count", 1)
    most = batch * (1 if fabric.device.type == "cpu" else 10)
    size = max(1, min(most // views, -(-len(rows) // fabric.world_size)))
    rounds = shares([list(rows[i : i + size]) for i in range(0, len(rows), size)], fabric)
    mine = [chunk for chunks in rounds for chunk in chunks]
    shown = iter(track(mine, label) if fabric.is_global_zero else ())

    def pieces(chunk: list[int], frames: Tensor) -> list[tuple[list[int], Made]]:
        nonlocal most
        while True:
            step = max(1, most // views)
            try:
                parts = [(chunk[i : i + step], frames[i : i + step]) for i in range(0, len(chunk), step)]
                with torch.no_grad(), fabric.autocast():
                    return [(some, make(some, part, most)) for some, part in parts]
            except torch.OutOfMemoryError:
                if most == 1:
                    raise UserError(f"{label}: not even one clip fits into the memory of {fabric.device}") from None
            most //= 2
            torch.cuda.empty_cache()

    def read(chunks: list[list[int]], made: list[tuple[list[int], Made]]) -> list:
        with loading(workers):
            for chunk in chunks:
                next(shown, None)
                made += pieces(chunk, torch.stack([place(fabric, next(videos)) for _ in chunk]))
        return [(some, {key: (value.shape, value.dtype) for key, value in values.items()}) for some, values in made]

    found: Made = {}
    with loading(workers):
        videos = ahead(_Tests(clips), [row for chunk in mine for row in chunk], workers, fabric, clips)
        for chunks in rounds:
            made: list[tuple[list[int], Made]] = []
            heads = exchange(fabric, partial(read, chunks, made))
            for some, values in made if fabric.world_size == 1 else _gathered(heads, made, fabric):
                for key, value in values.items():
                    if key not in found:
                        found[key] = value.new_zeros(max(rows) + 1, *value.shape[1:])
                    found[key][torch.tensor(some, device=value.device)] = value
        next(shown, None), next(videos, None)  # both are at their ends, and close
    return found


def each(
    items: Sequence[Item],
    do: Callable[[Item], dict[Key, Any]],
    fabric: Fabric,
    *,
    workers: int = 0,
    label: str = "evaluation",
) -> dict[Key, Any]:
    """What ``do`` gives of every item, all in one dict on every process, each of which does its share."""
    rounds, found = shares(items, fabric), {}
    shown = iter(track([item for mine in rounds for item in mine], label) if fabric.is_global_zero else ())

    def part(mine: list[Item]) -> dict[Key, Any]:
        made: dict[Key, Any] = {}
        with loading(workers):
            for item in mine:
                next(shown, None)
                made |= do(item)
        return made

    with loading(workers):
        for mine in rounds:
            for made in exchange(fabric, partial(part, mine)):
                found |= made
    next(shown, None)
    return found


def shares(items: Sequence[Item], fabric: Fabric) -> list[list[Item]]:
    """This process's part of ``items``, every n-th of them, a list for each round; all processes have as many."""
    step, rank = ROUND * fabric.world_size, fabric.global_rank
    rounds = [items[start : start + step] for start in range(0, len(items), step)]
    return [list(each[rank :: fabric.world_size]) for each in rounds]


def _gathered(heads: list, made: list[tuple[list[int], Made]], fabric: Fabric) -> Iterator[tuple[list[int], Made]]:
    """What all processes made, of which ``heads`` says rows, keys, shapes and kinds: one collective of bytes."""
    own = [value.contiguous().reshape(-1).view(torch.uint8) for _, values in made for value in values.values()]
    length = lambda shape, dtype: math.prod(shape) * dtype.itemsize  # noqa: E731
    longest = max(sum(length(*kind) for _, kinds in head for kind in kinds.values()) for head in heads)
    flat = torch.cat([torch.zeros(0, dtype=torch.uint8, device=fabric.device), *own])
    flat = torch.nn.functional.pad(flat, (0, longest - len(flat)))
    every = [torch.empty_like(flat) for _ in heads]
    torch.distributed.all_gather(every, flat)
    for head, part in zip(heads, every, strict=True):
        at = 0
        for rows, kinds in head:
            values = {}
            for key, (shape, dtype) in kinds.items():
                values[key] = part[at : at + length(shape, dtype)].clone().view(dtype).view(shape)
                at += length(shape, dtype)
            yield rows, values


# ---------------------------------------------------------------- loader processes


class _Tests(Dataset):
    def __init__(self, clips: Any):
        self.clips = clips

    def __getitem__(self, row: int) -> Tensor:
        return shared(self.clips.test(row))


def shared(clip: Tensor) -> Tensor:
    """``clip``, moved to shared memory by a loader process itself: where that is full, it can say so."""
    return clip.share_memory_() if get_worker_info() else clip


class _Order:
    """A sampler whose order is set anew for every pass."""

    order: Sequence[int] = ()

    def __iter__(self) -> Iterator[int]:
        return iter(self.order)

    def __len__(self) -> int:
        return len(self.order)


def ahead(source: Dataset, order: Sequence[int], workers: int, fabric: Fabric, clips: Any) -> Iterator[Any]:
    """``source[i]`` of ``clips`` for every i of ``order``, read ahead by ``workers`` processes, in this one by none.

    Those that read test clips stay, with what they remember, while no other clips are read and nobody says ``release``.
    What lies in memory or is mapped (``in_memory``) needs none.
    """
    if not workers or getattr(clips, "in_memory", False):
        yield from (source[i] for i in order)
        return
    key = id(clips), workers
    loader = _kept.pop(key, None) if isinstance(source, _Tests) else None
    release()  # a pass that ends in an error leaves none
    if loader is None:
        own = torch.Generator()  # else the loader draws from the global one
        how = {"pin_memory": fabric.device.type == "cuda", "prefetch_factor": AHEAD, "persistent_workers": True}
        loader = DataLoader(source, batch_size=None, sampler=_Order(), num_workers=workers, generator=own, **how)
    loader.sampler.order = order
    yield from loader
    if isinstance(source, _Tests):
        _kept[key] = loader


_kept: dict[tuple[int, int], DataLoader] = {}  # of the clips that were read last, and holding them: by how many


def release() -> None:
    """End the loader processes that stayed."""
    _kept.clear()


@contextmanager
def loading(workers: int) -> Iterator[None]:
    """Inside, what a loader process cannot do, and that one has died, is a ``UserError`` of one sentence."""
    try:
        yield
    except UserError as error:
        said = str(error)
        if not said.startswith("Caught "):
            raise
        raise UserError(said.strip().splitlines()[-1].split("Error: ", 1)[-1]) from None
    except (RuntimeError, OSError, MemoryError, EOFError) as error:
        said = _said(error)
        if workers and isinstance(error, (ConnectionError, EOFError)):  # it cannot hand over what it has read
            said += _ending()
        died, full = DIED.search(said), workers and MEMORY.search(said)
        if not (died or full or ENDED in said):
            raise
        how = (died[1] or died[2]).strip() if died else "no room" if full else ENDED
        free = f" of {shutil.disk_usage('/dev/shm').total / 1e9:.2f} GB" if full else ""
        why = f"the shared memory /dev/shm{free} is too small" if full else "as where the machine's memory runs out"
        _let_go(error)
        raise UserError(
            f"a loader process died ({how}: {why}); give fewer workers than {workers}, or workers=0, which reads in "
            "the process itself, or more memory (/dev/shm of a container: docker run --shm-size=8g)"
        ) from None


def _said(error: BaseException | None) -> str:
    """The words of an error and of those that it came of."""
    return f"{error}\n{_said(error.__context__)}" if error else ""


def _ending() -> str:
    """What torch says, when the signal comes, of a loader process that is about to end."""
    try:
        time.sleep(2.0)
    except RuntimeError as error:
        return str(error)
    return ENDED


def _let_go(error: BaseException | None) -> None:
    """Free what the frames of an error hold, a loader among it: torch would tell of its dead process again."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__
