"""Views without a browser: values are set, and what was drawn is looked at."""

import asyncio
import gc
import json
import types

import ipywidgets
import numpy as np
import pandas as pd
import pytest
import torch

from tests.methods.small import FRAMES, make
from tests.viz import cases
from vidlib.basics.errors import UserError
from vidlib.data.episodes import EpisodeSampler
from vidlib.data.manifest import Manifest, Row
from vidlib.results import runs
from vidlib.training.few_shot import Split
from vidlib.viz import bubbles, widgets, widgets_ahead, widgets_clips, widgets_runs


class Clips:
    """Random clips for a CLIP of 16 pixels; reads are counted."""

    def __init__(self) -> None:
        rows = [Row(f"{c}/{v}.mp4", f"action {c}", "val") for c in range(4) for v in range(4)]
        self.manifest = Manifest("tiny", tuple(rows), None, {row.video: row.video for row in rows})
        self.reads = 0

    def test(self, row: int) -> torch.Tensor:
        self.reads += 1
        return torch.randn(FRAMES, 3, 16, 16, generator=torch.Generator().manual_seed(row))


@pytest.fixture
def split() -> Split:
    clips = Clips()
    sampler = EpisodeSampler(clips.manifest, "val", 3, 2, 1, 0)
    return Split(clips, sampler, torch.randn(4, 16, generator=torch.Generator().manual_seed(9)))


@pytest.mark.parametrize(
    ("session", "kernel", "said", "wanted"),
    [(True, True, "", True), (True, False, "", False), (False, True, "", False)]
    + [(True, True, "0", False), (False, False, "1", True)],
)
def test_a_front_end_is_a_named_session_with_a_kernel(monkeypatch, session, kernel, said, wanted):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.setenv("VIDLIB_WIDGETS", said)
    if session:
        monkeypatch.setenv("JPY_SESSION_NAME", "some.ipynb")
    shell = types.SimpleNamespace(kernel=1) if kernel else types.SimpleNamespace()
    monkeypatch.setattr(widgets, "get_ipython", lambda: shell)
    assert widgets.front_end() is wanted
    monkeypatch.setenv("VIDLIB_WIDGETS", "yes")
    with pytest.raises(UserError, match="give 1"):
        widgets.front_end()


def view() -> widgets.View:
    return widgets.View(
        lambda run: bubbles.plot(cases._ours(), chosen=run).figure,
        {"run": widgets.Control(list(cases._ours()["name"]))},
    )


def test_without_a_front_end_the_figure_is_shown_and_no_widget_made(monkeypatch):
    shown, made = [], []
    monkeypatch.setattr(widgets, "display", shown.append)
    monkeypatch.setattr(widgets, "front_end", lambda: False)
    monkeypatch.setattr(ipywidgets.Widget, "open", lambda self: made.append(self))
    one = view()
    one.show()
    assert [picture.figure for picture in shown] == [one.figure] and made == []
    monkeypatch.setattr(widgets, "front_end", lambda: True)
    one.show()
    assert isinstance(shown[1], ipywidgets.VBox) and made


def test_turning_a_control_redraws_and_setting_a_value_turns_the_control():
    one = view()
    box = one.widget()
    control, picture = box.children[0].children[0], box.children[1]
    before = bytes(picture.value)
    assert before.startswith(b"\x89PNG")
    control.value = "AIM"
    assert one.values == {"run": "AIM"} and bytes(picture.value) != before
    one.set(run="MA-FSAR")
    assert control.value == "MA-FSAR" and bytes(picture.value) == before
    with pytest.raises(UserError, match="run: 'AIMM' is not one of .*did you mean 'AIM'"):
        one.set(run="AIMM")
    with pytest.raises(UserError, match="'rum' is no value of this view"):
        one.set(rum=1)
    assert one.values == {"run": "MA-FSAR"}


def test_episode_browser_draws_what_the_method_scores_and_reads_each_clip_once(split):
    method = make("ma_fsar", metric="otam")
    browser = widgets_clips.episodes(method, split)
    episode = split.sampler[0]
    seen = widgets_clips.Seen(method, split)
    shares = browser.drawn["share"].dropna().to_numpy()
    np.testing.assert_allclose(shares, seen.match(0)[0], rtol=1e-5)
    pair = widgets_clips.aligned(seen, int(episode.query[0]), int(episode.support[2 * int(np.argmax(shares))]))
    np.testing.assert_allclose(browser.drawn["distance"].dropna()[:9], pair.cost.ravel(), rtol=1e-4)
    reads = split.clips.reads
    _ = browser.set(against=2)
    assert split.clips.reads == reads, "the clips of this episode were read before"
    before = browser.drawn["distance"].dropna().to_numpy()
    _ = browser.set(shot=2)
    assert not np.array_equal(before, browser.drawn["distance"].dropna())
    assert "aligned" in browser.figure.axes[0].texts[2].get_text()


def test_attention_explorer_shows_layer_head_rollout_and_text_token(split):
    methods = {"MA-FSAR": (make("ma_fsar"), split), "AIM": (make("aim"), split)}
    view = widgets_clips.attentions(methods)
    seen = widgets_clips.Seen(methods["MA-FSAR"][0], split)
    weights, grid = seen.weights(0, False), methods["MA-FSAR"][0].backbone.grid

    def drawn(name: str = "MA-FSAR") -> np.ndarray:
        return view.drawn.query("method == @name")["attention"].to_numpy()

    last = widgets_clips.looked_at(weights, grid, "last layer", "mean")[0]
    np.testing.assert_allclose(drawn(), last.flatten(), rtol=1e-5)
    _ = view.set(layer=1, head=2, frame=2)
    np.testing.assert_allclose(drawn(), weights[0][1, 1, 0, 1 : 1 + grid[0] * grid[1]], rtol=1e-5)
    assert set(view.drawn["frame"]) == {2} and set(view.drawn["method"]) == {"MA-FSAR", "AIM"}
    rolled = view.set(layer="rollout", frame="all") and drawn()
    assert not np.allclose(rolled, last.flatten())
    off = view.set(layer="last layer", head="mean", right="none") and drawn()
    _ = view.set(text="on")
    assert set(view.drawn["method"]) == {"MA-FSAR, text on"}
    assert not np.allclose(off, drawn("MA-FSAR, text on")), "the text token changes where it looks"


def record(root, name: str, accuracy: float, **params) -> None:
    folder = root / name
    folder.mkdir(parents=True)
    params = {"method": "otam", "dataset": "tiny", "way": 5, "shot": 1, "seed": 0, "lr": 0.1} | params
    (folder / "params.json").write_text(json.dumps(params))
    result = {"test": {"accuracy": accuracy, "interval": 0.01}, "cost": {"trainable": 1e5, "gmacs": 0.2}}
    (folder / "result.json").write_text(json.dumps({**result, "finished": "2030-01-01T00:00:00"}))
    for row in cases._metrics(20).fillna(0.3).to_dict("records"):
        runs.append_line(folder / "metrics.jsonl", row)


def test_run_browser_filters_compares_and_opens_parameters(tmp_path):
    record(tmp_path, "otam-aaaaaa", 0.5)
    record(tmp_path, "otam-bbbbbb", 0.6, shot=5)
    record(tmp_path, "trx-cccccc", 0.7, method="trx")
    view = widgets_runs.browser(tmp_path)
    assert sorted(view.drawn["accuracy"]) == [50, 70], "at first the newest and what met the same episodes"
    _ = view.set(where="method=otam")
    assert [line[-6:] for line in view.drawn["name"]] == ["aaaaaa"]
    _ = view.set(chosen=view.controls["chosen"].options)
    assert [line[-6:] for line in view.drawn["name"]] == ["aaaaaa", "bbbbbb"]
    _ = view.set(where="method=otam shot=5")
    assert list(view.drawn["accuracy"]) == [60] and view.table.loc["shot"].iloc[-1] == 5
    _ = view.set(where="")
    _ = view.set(chosen=view.controls["chosen"].options[:2])
    assert view.table.loc["shot", "differs"] == "yes" and view.table.loc["lr", "differs"] == ""
    assert view.table.index[0] in ("shot", "id", "accuracy")
    for wrong, sentence in (("shoot=1", "did you mean 'shot'"), ("nothing", "no run of 3 matches")):
        with pytest.raises(UserError, match=sentence):
            view.set(where=wrong)
    _ = view.widget()
    view.turn("where", "<i>=1")
    assert "no run has a parameter &#x27;&lt;i&gt;&#x27;" in view._words.value and view.values["where"] == ""
    with pytest.raises(UserError, match="no finished run"):
        widgets_runs.browser(tmp_path / "none")


def test_runs_that_are_chosen_at_first_met_the_newest_ones_episodes():
    table = pd.DataFrame(
        [
            ("a", "ucf101", 16, 1, "2030-01-01"),
            ("b", "ucf101", 5, 1, "2030-01-02"),
            ("c", "ucf101", 5, 1, "2030-01-04"),
            ("d", "ucf101", 5, 5, "2030-01-03"),
            ("e", "hmdb51", 5, 1, "2030-01-03"),
        ],
        columns=["line", "dataset", "way", "shot", "result.finished"],
    )
    assert list(widgets_runs.comparable(table)["line"]) == ["c", "b"]
    assert list(widgets_runs.comparable(table.iloc[:0])["line"]) == []


def test_bubble_view_rings_the_chosen_run_and_names_it(tmp_path):
    record(tmp_path, "otam-aaaaaa", 0.5)
    record(tmp_path, "trx-cccccc", 0.7, method="trx")
    view = widgets_runs.bubble_view(widgets_runs.bubble_rows(widgets_runs.every(tmp_path)))
    names = view.controls["run"].options

    def ringed() -> list[str]:
        shapes = [c for c in view.figure.axes[0].collections if (c.get_gid() or "").startswith("bubble:")]
        return [c.get_gid().removeprefix("bubble:") for c in shapes if c.get_linewidths()[0] > 2]

    assert ringed() == [names[0]]
    _ = view.set(run=names[1])
    assert ringed() == [names[1]] and view.table.loc["id"].item() == "trx-cccccc"
    assert pd.notna(view.drawn["accuracy"]).all()


async def _until_idle(one: widgets.View) -> None:
    while one.ahead.busy:
        await asyncio.sleep(0.01)


def test_clips_of_the_next_turns_are_read_while_nobody_turns(split, monkeypatch):
    monkeypatch.setattr(widgets_ahead, "LONGEST", 60.0)  # a busy machine
    view = widgets_clips.episodes(make("ma_fsar"), split, episodes=6)
    before = split.clips.reads

    async def person() -> None:
        view.widget()
        await _until_idle(view)
        read = split.clips.reads
        assert read > before
        view.turn("episode", 3)
        view.turn("query", 2)
        assert split.clips.reads == read

    asyncio.run(person())
    assert view.values["episode"] == 3


def test_without_an_event_loop_nothing_is_computed_ahead(split):
    view = widgets_clips.attentions({"MA-FSAR": (make("ma_fsar"), split)})
    view.widget()
    assert split.clips.reads == 1


def test_work_ahead_goes_by_nearness_stops_after_a_slow_piece_and_leaves_out_what_fails(monkeypatch):
    assert widgets_ahead.nearest(2, range(5)) == [3, 1, 4, 0]
    monkeypatch.setattr(widgets_ahead, "PAUSE", 0.0)
    done = []

    def refuse():
        done.append("refused")
        raise UserError("broken")

    def slow():
        monkeypatch.setattr(widgets_ahead, "LONGEST", 0.0)
        done.append("slow")

    async def main():
        work = widgets_ahead.Ahead()
        work.start([lambda: done.append("dropped")])
        work.start([refuse, lambda: done.append(1), slow, lambda: done.append("never")])
        for _ in range(20):
            await asyncio.sleep(0.001)

    asyncio.run(main())
    assert done == ["refused", 1, "slow"]


def test_a_turn_is_not_held_up_by_a_collection_of_garbage():
    seen = []
    one = widgets.View(lambda run: seen.append(gc.isenabled()) or view().figure, {"run": widgets.Control(range(3))})
    one.widget()
    one.turn("run", 1)
    assert seen == [True, False] and gc.isenabled()
