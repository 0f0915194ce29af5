"""What a notebook needs to take one optimiser step by hand under the conditions of a run's own first step."""

import copy
from typing import Any

from lightning_fabric import Fabric
from torch import nn

from vidlib.basics.devices import make_fabric, place
from vidlib.params.few_shot import RunParams
from vidlib.training import micro_batches


def begin(params: RunParams, method: nn.Module, batch: Any) -> tuple[nn.Module, Any, Fabric]:
    """A copy of ``method`` in training mode and ``batch``, on the device and in the precision of the run of ``params``,
    which embeds ``micro_batch`` videos at once; and the Fabric under whose ``autocast`` it computes."""
    fabric = make_fabric(params.device, params.precision)
    learner = micro_batches.split(copy.deepcopy(method), params.micro_batch)
    learner = fabric.to_device(fabric.strategy.precision.convert_module(learner))
    return learner.train(), place(fabric, batch), fabric
