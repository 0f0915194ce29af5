"""What a training step takes of memory, measured as training does it: mode, gradients, precision, optimiser."""

from collections.abc import Mapping
from typing import Any

from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from vidlib.results import cost
from vidlib.training import checkpoints
from vidlib.training.step import deterministic_kernels, optimizers, seed_everything

OF_OPTIMIZER = ("lr", "weight_decay", "momentum", "decayed", "arch_lr", "layer_decay", "betas")


def of_training(method: nn.Module, batch: Any, fabric: Fabric, settings: Mapping[str, Any]) -> tuple[float, float]:
    """MiB at the peak of a step of ``loop.fit`` with ``settings``, and how much of it is the optimiser's state.

    ``method`` and ``batch`` are on the device. In the peak: weights, buffers, gradients, what is kept for the backward
    pass (``micro_batch`` as the method has it), the optimiser's state; not the batch. It is a second step, since the
    state of the optimiser is made in the first; where a step has several batches it has two here, the later of which
    meets gradients. What was learned and the mode are as before afterwards.
    """
    given = {name: settings[name] for name in OF_OPTIMIZER if name in settings}
    own = optimizers(method, settings.get("optimizer", "adamw"), **given)
    mode, learned = method.training, checkpoints.trainable_state(method)

    def step() -> None:
        for _ in range(min(2, settings["batches_per_step"])):
            seed_everything(settings["seed"], 0)
            with fabric.autocast():
                outcome = method(batch)
            fabric.backward(outcome.loss)
        clip_grad_norm_([p for p in method.parameters() if p.requires_grad], settings["clip_grad"] or float("inf"))
        for optimizer in own:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    method.train()
    with deterministic_kernels(settings["deterministic"]):
        step()
        checkpoints.put_trainable(method, learned)  # a loss scaler would have skipped steps that are not finite
        state = [v for each in own for s in each.state.values() for v in s.values() if isinstance(v, Tensor)]
        peak = cost.peak_memory(step, holding=method, beside=state)
    method.zero_grad(set_to_none=True)
    checkpoints.put_trainable(method, learned)
    method.train(mode)
    return peak, sum(v.untyped_storage().nbytes() for v in state) / cost.MIB
