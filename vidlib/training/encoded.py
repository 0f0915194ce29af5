"""Test videos through a frozen tower once: methods that read its frame features alone share what one of them encoded.

It lasts as long as the manifest that the runs were given: whoever opens the data anew encodes anew.
"""

import weakref
from collections.abc import Sequence
from typing import Any

from lightning_fabric import Fabric
from torch import Tensor, nn

from vidlib.basics.devices import ready
from vidlib.data.clips import Clips
from vidlib.training import reading
from vidlib.training.stored import weights_digest

_kept: dict[int, dict[str, dict[int, Tensor]]] = {}  # a manifest -> a tower and how it sees videos -> row -> [T C]


class Encoded:
    """``clips`` of which ``test(row)`` is what a tower made of the frames, [T C]."""

    by_episode, in_memory = False, True

    def __init__(self, clips: Clips, features: dict[int, Tensor]) -> None:
        self.manifest, self._features = clips.manifest, features

    def test(self, row: int) -> Tensor:
        return self._features[row]


def shared(
    method: nn.Module, clips: Any, episodes: Sequence[Any], fabric: Fabric, label: str = "", workers: int = 0
) -> Any:
    """``clips`` with every video that ``episodes`` use encoded, where ``method`` reads the features of a frozen tower
    and nothing else (``from_features``); else ``clips`` as they are."""
    wants = getattr(method, "from_features", None)
    frozen = wants is not None and not wants.keys() - {"finetune"}
    frozen = frozen and not any(p.requires_grad for p in method.backbone.parameters())
    if not frozen or not isinstance(clips, Clips):
        return clips
    manifest = clips.manifest
    if id(manifest) not in _kept:
        weakref.finalize(manifest, _kept.pop, id(manifest), None)
    look = [clips.split, clips.frames, clips.pick, sorted(vars(clips.transform_test).items())]
    key = f"{look} {weights_digest(method.backbone)} {fabric.device} {fabric.strategy.precision.precision}"
    features = _kept.setdefault(id(manifest), {}).setdefault(key, {})
    rows = {row for episode in episodes for row in (*episode.support.tolist(), *episode.query.tolist())}
    method, missing = ready(fabric, method), sorted(rows - features.keys())
    encode = lambda some, frames, most: {"": method.frame_features(frames)}  # noqa: E731
    what = f"{label or 'videos'}: frame features"
    if missing:
        found = reading.over(clips, missing, encode, fabric, workers=workers, label=what)[""].cpu()
        features |= {row: found[row].clone() for row in missing}
    return Encoded(clips, features)
