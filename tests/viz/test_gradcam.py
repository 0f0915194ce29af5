import copy
import dataclasses

import numpy as np
import pytest
import torch

from tests.methods.small import FRAMES, backbone, batch, make, resnet
from tests.viz.conftest import boxes, overlapping
from vidlib.basics.errors import UserError
from vidlib.viz import filmstrip, gradcam


def episode(on):
    made = batch(episodes=1, shots=(1, 1, 1), queries=2, pixels=64 if on is resnet else 16)
    return made if on is backbone else dataclasses.replace(made, text=made.text[..., :0])


@pytest.mark.parametrize(
    ("name", "on"), [("sloshnet", resnet), ("protonet", resnet), ("sloshnet", backbone)], ids=("slosh", "proto", "vit")
)
def test_a_map_is_the_weighted_activation_of_the_query(name, on):
    """Weights against finite differences of the logit: a small step of one channel of one frame, at all its places."""
    method, whole = make(name, on=on).double().eval(), episode(on)
    whole = dataclasses.replace(whole, support=whole.support.double(), query=whole.query.double())
    module, first, step = gradcam._stage(method, 4), FRAMES, 1e-6  # the second query's first frame

    def logit(change=None) -> tuple[float, torch.Tensor]:
        """The second query's logit of class 2, and its activations [T D h w]."""
        outputs = []

        def hook(module, args, output):
            outputs.append(output if not outputs or change is None else output + change(output))
            return outputs[-1]  # the first call has the supports

        handle = module.register_forward_hook(hook)
        with torch.no_grad():
            score = method(whole).logits[0, 1, 2].item()
        handle.remove()
        return score, gradcam._maps(method, outputs[1])[first:]

    plain, maps = logit()
    exact = _weights(method, whole)
    for t in (0, FRAMES - 1):
        for d in range(0, maps.shape[1], maps.shape[1] // 3):

            def change(output, t=t, d=d):
                mask = torch.zeros_like(output)
                where = mask[first + t, d] if output.ndim == 4 else mask[first + t, 1:, d]
                where.fill_(step)
                return mask

            slope = (logit(change)[0] - plain) / step / maps[0, 0].numel()
            assert slope == pytest.approx(exact[t, d].item(), rel=1e-3, abs=1e-6) and slope != 0
    expected = torch.einsum("td,tdhw->thw", exact, maps).relu()
    looked = gradcam.query_map(method, whole, query=1, cls=2, stage=4)
    assert torch.allclose(looked.double(), expected, rtol=1e-4, atol=1e-7)


def _weights(method, whole):
    with gradcam._leaves(method, 4) as leaves:
        logit = method(whole).logits[0, 1, 2]
    gradient = torch.autograd.grad(logit, leaves[1])[0]
    return gradcam._maps(method, gradient)[FRAMES:].mean((2, 3))


def test_stages_have_their_own_sizes_and_the_method_is_left_as_it_was():
    method, whole = make("sloshnet", on=resnet, variant="released").train(), episode(resnet)
    before = copy.deepcopy(method.state_dict())
    sides = [gradcam.query_map(method, whole, 0, 0, stage=stage).shape[-1] for stage in gradcam.STAGES]
    assert sides == [16, 8, 4, 2] and method.training
    assert all(torch.equal(before[key], value) for key, value in method.state_dict().items())
    assert all(p.grad is None for p in method.parameters())
    assert not any(module._forward_hooks for module in method.modules())


def test_another_query_and_another_class_have_other_maps():
    method, whole = make("sloshnet", on=resnet).eval(), episode(resnet)
    one = gradcam.query_map(method, whole, 0, 0, stage=2)
    assert one.shape == (FRAMES, 8, 8) and (one >= 0).all() and one.max() > 0
    others = [gradcam.query_map(method, whole, q, c, stage=2) for q, c in ((1, 0), (0, 1))]
    others.append(gradcam.query_map(method, whole, 0, 0, stage=2, against=True))
    assert not any(torch.allclose(one, other) for other in others)


def test_what_cannot_be_looked_at_is_refused():
    method, whole = make("sloshnet", on=resnet), episode(resnet)
    with pytest.raises(UserError, match="2 and 0 do not lie in an episode of 2 queries"):
        gradcam.query_map(method, whole, 2, 0)
    with pytest.raises(UserError, match="stage: 5"):
        gradcam.query_map(method, whole, 0, 0, stage=5)
    with pytest.raises(UserError, match="one episode, not at 2"):
        gradcam.query_map(method, batch(episodes=2, pixels=64), 0, 0)


def test_each_method_has_its_own_scale_in_the_figure(frames):
    maps = {"SloshNet": torch.rand(4, 2, 3), "OTAM": 1e-7 * torch.rand(4, 2, 3)}
    fig = gradcam.figure(frames, maps, title="stage 2")
    top, *grid = fig.axes[:3]
    step = 32 + filmstrip.air(32)
    for ax, value in zip(grid, maps.values(), strict=True):
        whole = ax.images[-1].get_array()
        drawn = np.stack([whole[:, t * step : t * step + 32] for t in range(4)])
        wanted = torch.nn.functional.interpolate(value[:, None], (24, 32), mode="bilinear")[:, 0] / value.max()
        np.testing.assert_allclose(drawn, wanted, atol=1e-5)
    labels = [ax.texts[0] for ax in (top, *grid)] + fig.texts + top.get_xticklabels()
    assert not overlapping([*boxes(labels), *(ax.get_window_extent() for ax in (top, *grid))])
    assert "activation" in fig.axes[-1].get_ylabel()
    table = gradcam.table(maps)
    assert len(table) == 2 * 4 * 6 and "activation" in table and "extra" not in table
