import numpy as np
import pandas as pd
import pytest
from matplotlib.markers import MarkerStyle

from tests.viz.conftest import boxes, overlapping
from vidlib.basics.errors import UserError
from vidlib.results import published
from vidlib.viz import bubbles, style


@pytest.fixture
def ours() -> pd.DataFrame:
    rows = [
        ("MA-FSAR", 0.31, 57.2, 0.19),
        ("AIM", 0.22, 49.0, 0.23),
        ("CLIP-FSAR", 0.97, 52.3, 0.13),
        ("frozen CLIP", 0.0, 25.1, 0.13),
    ]
    table = pd.DataFrame(rows, columns=["name", "trainable_M", "accuracy", "gmacs"])
    return table.assign(low=table["accuracy"] - 1.3, high=table["accuracy"] + 1.3, origin="ours", confidence="verified")


def bubbles_of(ax) -> dict:
    return {c.get_gid().removeprefix("bubble:"): c for c in ax.collections if (c.get_gid() or "").startswith("bubble:")}


def labels_of(ax) -> list:
    return [
        t
        for t in ax.texts
        if t.get_text()
        and t.get_window_extent().intersection(t.get_window_extent(), ax.get_window_extent()) is not None
    ]


def test_one_bubble_per_method_with_area_by_accuracy_and_ma_fsar_the_star(ours):
    ax = bubbles.plot(ours, title="embedded world")
    drawn = bubbles_of(ax)
    assert set(drawn) == {"MA-FSAR", "AIM", "CLIP-FSAR"}
    areas = {name: c.get_sizes()[0] for name, c in drawn.items()}
    filled = {"o": np.pi / 4, "*": 5 * 0.5 * 0.5 * 0.381966 * np.sin(np.pi / 5)}  # of the square around the marker
    assert filled["o"] * areas["AIM"] / (filled["*"] * areas["MA-FSAR"]) == pytest.approx(49.0 / 57.2, rel=1e-3)
    corners = {name: len(c.get_paths()[0].vertices) for name, c in drawn.items()}
    star = len(MarkerStyle("*").get_path().vertices)
    assert [name for name, count in corners.items() if count == star] == ["MA-FSAR"]
    by_cost = {name: c.get_sizes()[0] for name, c in bubbles_of(bubbles.plot(ours, area="gmacs")).items()}
    assert filled["o"] * by_cost["AIM"] / (filled["*"] * by_cost["MA-FSAR"]) == pytest.approx(0.23 / 0.19, rel=1e-3)
    assert ax.get_xscale() == "log" and "(M" in ax.get_xlabel() and "(%)" in ax.get_ylabel()
    assert sum((line.get_gid() or "").startswith("line:") for line in ax.lines) == 1  # frozen CLIP trains nothing
    assert len(ax.containers) == 3  # an interval each


def test_published_rows_without_count_are_noted_not_guessed():
    rows = published.comparison()
    ax = bubbles.plot(rows)
    drawn = bubbles_of(ax)
    assert not {"OTAM", "TRX", "STRM"} & set(drawn) and "EMP-Net" in drawn
    note = bubbles.note(rows)
    assert "OTAM 36.4 [recalled, unchecked]" in note and "not published" in note
    texts = [t.get_text() for t in ax.texts]
    assert any("OTAM 36.4" in " ".join(text.split()) for text in texts)
    for name, confidence in zip(rows["name"], rows["confidence"], strict=True):
        if name in drawn and confidence == "recalled":
            assert any(text.startswith(name) and "[recalled, unchecked]" in text for text in texts)
            assert drawn[name].get_linestyle()[0][1] is not None  # dashed


def test_panels_keep_ours_and_published_apart(ours, tmp_path):
    rows = published.comparison()
    fig, table = bubbles.panels(
        ours,
        rows,
        ours_title="embedded world moving_shapes, 5-way 1-shot " * 2,
        published_title="SSv2-Small, 5-way 1-shot",
    )
    left, right = fig.axes
    assert set(bubbles_of(left)) == {"MA-FSAR", "AIM", "CLIP-FSAR"} and "MA-CLIP (v1)" in bubbles_of(right)
    hatches = {c.get_hatch() for c in bubbles_of(left).values()}, {c.get_hatch() for c in bubbles_of(right).values()}
    assert hatches[0].isdisjoint(hatches[1])
    for ax in (left, right):
        assert not overlapping(boxes(labels_of(ax)))
    assert not overlapping([ax.get_legend().get_window_extent() for ax in (left, right)])
    style.save(fig, tmp_path, "bubbles", table)
    read = pd.read_csv(tmp_path / "bubbles.csv")
    assert read["name"].tolist() == [*ours["name"], *rows["name"]]
    np.testing.assert_allclose(read["accuracy"], [*ours["accuracy"], *rows["accuracy"]])


def test_a_panel_of_mixed_origins_is_refused(ours):
    with pytest.raises(UserError, match="one panel draws one origin"):
        bubbles.plot(pd.concat([ours, published.comparison()]))
    with pytest.raises(UserError, match="accuracy"):
        bubbles.plot(ours.drop(columns="accuracy"))


def test_the_budget_of_training_stands_in_the_note_and_bars_say_what_they_are_over(ours):
    rows = ours.assign(training=["450 episodes", "450 episodes", "90 episodes", "nothing"], over="episodes")
    assert "Training: MA-FSAR, AIM 450 episodes; CLIP-FSAR 90 episodes; frozen CLIP nothing." in bubbles.note(rows)
    ax = bubbles.plot(rows)
    assert "95% interval over episodes" in [text.get_text() for text in ax.get_legend().get_texts()]
    assert list(style.drawn(ax)["training"]) == list(rows["training"])


def test_total_parameters_can_be_the_area(ours):
    ax = bubbles.plot(ours.assign(total_M=[4.0, 2.0, 1.0, 1.0]), area="total_M")
    areas = {name: c.get_sizes()[0] for name, c in bubbles_of(ax).items()}
    filled = bubbles.FILLED["*"] / bubbles.FILLED["o"]
    assert filled * areas["MA-FSAR"] / areas["AIM"] == pytest.approx(2)
    assert any("total parameters" in text.get_text() for text in ax.get_legend().get_texts())


def test_two_floors_close_together_and_a_bubble_beside_keep_their_labels_apart(ours):
    floor = ours.iloc[3:].assign(name="frozen ResNet", accuracy=25.6, low=24.3, high=26.9)
    near = ours.iloc[2:3].assign(name="SloshNet", trainable_M=1.4, accuracy=27.5, low=26.2, high=28.8)
    ax = bubbles.plot(pd.concat([ours, floor, near]), notes=False)
    ax.figure.draw_without_rendering()
    labels = {t.get_text(): t for t in ax.texts if "trains nothing" in t.get_text()}
    assert set(labels) == {"frozen CLIP: trains nothing", "frozen ResNet: trains nothing"}
    assert not overlapping(boxes(labels.values()))
    slosh = next(t for t in ax.texts if t.get_text() == "SloshNet")
    assert not overlapping(boxes([slosh, *labels.values()]))


def test_frozen_runs_of_one_accuracy_keep_their_labels_apart(ours):
    floors = [ours.iloc[3:].assign(name=f"frozen CLIP, seed {seed}") for seed in range(4)]
    ax = bubbles.plot(pd.concat([ours.iloc[:3], *floors]), notes=False, width="column")
    labels = [t for t in ax.texts if "trains nothing" in t.get_text()]
    assert len(labels) == 4
    assert not overlapping(boxes(labels))
