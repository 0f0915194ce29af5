import numpy as np
import pytest
import torch

from tests.viz.conftest import boxes, overlapping
from vidlib.basics.errors import UserError
from vidlib.viz import attention, filmstrip

GRID = (2, 3)


def weights(extra: int) -> torch.Tensor:
    return torch.randn(4, 2, 7 + extra, 7 + extra).softmax(-1)


def test_maps_are_the_class_tokens_row_over_patches():
    w = weights(2)
    maps = attention.class_token_maps(w, GRID)
    assert maps.shape == (4, 2, 3)
    for t in range(4):
        for i in range(2):
            for j in range(3):
                assert maps[t, i, j] == pytest.approx(w[t, :, 0, 1 + 3 * i + j].mean().item(), rel=1e-6)


def test_patches_extra_tokens_and_itself_share_the_attention():
    w = weights(2)
    total = attention.class_token_maps(w, GRID).sum((1, 2)) + attention.extra_mass(w, GRID) + w[:, :, 0, 0].mean(1)
    torch.testing.assert_close(total, torch.ones(4))
    assert attention.extra_mass(weights(0), GRID).eq(0).all()


def test_half_precision_is_read_as_float():
    assert attention.class_token_maps(weights(1).bfloat16(), GRID).dtype == torch.float32


def test_upsampling_keeps_a_constant_and_the_peaks_place():
    assert attention.upsample(torch.full((1, 2, 3), 0.3), (8, 12)).eq(0.3).all()
    one = torch.zeros(1, 2, 3)
    one[0, 1, 2] = 1
    row, column = divmod(attention.upsample(one, (8, 12))[0].argmax().item(), 12)
    assert row >= 4 and column >= 8


def test_weights_of_another_grid_are_an_error():
    with pytest.raises(UserError, match="at least 10"):
        attention.class_token_maps(weights(0), (3, 3))


def test_figure_has_a_row_per_method_and_one_scale_per_frame(frames):
    mine, other = weights(2), weights(0)
    maps = {"MA-FSAR": attention.class_token_maps(mine, GRID), "AIM": attention.class_token_maps(other, GRID)}
    masses = {"MA-FSAR": attention.extra_mass(mine, GRID)}
    fig = attention.maps(frames, maps, masses, title="last layer, embedded world")
    top, *grid = fig.axes[:3]
    step = 32 + filmstrip.air(32)
    for t in range(4):
        own = slice(t * step, t * step + 32)
        np.testing.assert_array_equal(top.images[0].get_array()[:, own], frames[t])
        peak = max(maps[name][t].max().item() for name in maps)
        for ax, name in zip(grid, maps, strict=True):
            drawn = ax.images[-1]
            assert drawn.get_clim() == (0, 1)
            wanted = attention.upsample(maps[name], (24, 32))[t] / peak
            np.testing.assert_allclose(drawn.get_array()[:, own], wanted, atol=1e-6)
        assert grid[0].get_xticklabels()[t].get_text() == f"extra {100 * masses['MA-FSAR'][t]:.0f}%"
    assert not grid[1].get_xticklabels() and top.get_xticks()[1] == step + 15.5
    labels = [ax.texts[0] for ax in (top, *grid)] + fig.texts + top.get_xticklabels() + grid[0].get_xticklabels()
    assert not overlapping([*boxes(labels), *(ax.get_window_extent() for ax in (top, *grid))])


def test_a_rollout_multiplies_the_layers_residual_and_all():
    one, two = weights(2), weights(1)
    rolled = attention.rollout([one, two], GRID)
    for t in range(4):
        total = torch.eye(7)
        for layer in (one, two):
            own = layer[t, :, :7, :7].mean(0)
            total = (0.5 * own / own.sum(-1, keepdim=True) + 0.5 * torch.eye(7)) @ total
        torch.testing.assert_close(rolled[t].flatten(), total[0, 1:])
    with pytest.raises(UserError, match="at least one layer"):
        attention.rollout([], GRID)


def test_the_table_holds_every_patch():
    maps = {"AIM": attention.class_token_maps(weights(0), GRID)}
    table = attention.table(maps)
    assert len(table) == 4 * 6 and table["extra"].isna().all()
    assert table.query("frame == 2 and row == 1 and column == 2")["attention"].item() == pytest.approx(
        maps["AIM"][1, 1, 2].item()
    )


def test_maps_of_other_frames_are_refused(frames):
    with pytest.raises(UserError, match="AIM has 3 maps for 4 frames"):
        attention.maps(frames, {"AIM": torch.rand(3, 2, 3)})
