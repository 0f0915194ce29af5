"""What the notebooks of papers write out by hand: it holds for other parameters, and fails where the method differs."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch

from tests import cells
from tests.data.small import write_folder
from vidlib.basics.errors import UserError
from vidlib.layers import fusion_search, graph
from vidlib.methods.ma_fsar import MAFSAR
from vidlib.params.by_recipe import GgHMParams, SloshNetParams
from vidlib.params.few_shot import MAFSARParams
from vidlib.studies import by_hand
from vidlib.studies import few_shot as study
from vidlib.training import few_shot
from vidlib.viz import filmstrip

PARAMS = {"ma_fsar": MAFSARParams, "sloshnet": SloshNetParams, "gghm": GgHMParams}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("by_hand") / "clips", classes=7, clips=4)


def drawn(notebook: str, folder, **given) -> dict[str, object]:
    """The names that a notebook has bound before its cells by hand."""
    p = PARAMS[notebook].parse({"dataset": f"folder:{folder}", "way": 2, "frames": 3, "device": "cpu", **given})
    manifest, tower = few_shot.open_manifest(p), few_shot.open_backbone(p)
    val = few_shot.open_split(p, manifest, tower, "val")
    run_params = p.run_params("ma_fsar") if notebook == "ma_fsar" else p.run_params()
    names = {"p": p, "manifest": manifest, "tower": tower, "val": val, "episode": val.sampler[0]}
    method = few_shot.open_method(run_params)
    names |= {"method": method, "model": method, "run_params": run_params, "study": study, "filmstrip": filmstrip}
    clip = torch.stack([val.clips.test(row) for row in names["episode"].support[:2]])
    text = val.text[names["episode"].class_ids[names["episode"].support_labels[:2]]]
    return names | {"clip": clip, "text": text, "plt": plt, "pd": pd, "torch": torch}


def written_out(notebook: str) -> list[str]:
    """The cells by hand."""
    found = cells.under(notebook, "## The model")
    return [source for name, source in found.items() if not name.startswith("cell-") and name != "gghm-09"]


@pytest.mark.parametrize(
    ("notebook", "given"),
    [
        ("ma_fsar", {"metric": "trx", "shot": 2, "train_episodes": 0}),
        ("ma_fsar", {"pretrained": "", "mix": 1.0, "micro_batch": 1, "precision": "64-true"}),
        ("sloshnet", {"variant": "released"}),
        ("sloshnet", {"fusion": "last", "shot": 2, "options": {"long_term": False, "short_term": False}}),
        ("gghm", {"shot": 2, "options": {"transductive": True, "graph_loss": "last", "edges": "intra"}}),
        # at the recipe's scale these clips are told so surely that plain SGD moves no printed digit
        ("gghm", {"backbone": "clip-mini", "metric_scale": 0.5, "alpha": 1.0, "optimizer": "sgd"}),
    ],
    ids=str,
)
def test_what_is_written_out_holds_for_other_parameters(notebook, given, folder):
    names = drawn(notebook, folder, **given)
    before = {name: each.clone() for name, each in names["method"].state_dict().items()}
    lines = cells.run(written_out(notebook), **names)
    said = next(line for line in lines if line.startswith("L of the same episode"))
    first, last = (float(word) for word in said.split() if word[0].isdigit())
    assert last < first
    assert all(torch.equal(before[name], each) for name, each in names["method"].state_dict().items()), "a copy learns"


def test_nothing_to_train_is_said(folder):
    lines = cells.run(
        written_out("gghm"), **drawn("gghm", folder, finetune="frozen", options={"graph": False, "dense": None})
    )
    assert lines[-1] == "With these parameters nothing is trained."


@pytest.mark.parametrize("notebook", PARAMS)
def test_another_module_or_loss_than_written_out_fails(notebook, folder, monkeypatch):
    names = drawn(notebook, folder)
    with monkeypatch.context() as patch:
        honest = MAFSAR.adapted_block
        if notebook == "ma_fsar":  # the text is forgotten
            patch.setattr(
                MAFSAR,
                "adapted_block",
                lambda self, block, layer, x, text, adapters, keep: honest(self, block, layer, x, None, adapters, keep),
            )
        elif notebook == "sloshnet":
            patch.setattr(fusion_search, "_gate", lambda x: x.mean((-2, -1), keepdim=True))
        else:
            patch.setattr(graph, "_rows", lambda edges: edges)
        with pytest.raises(AssertionError, match="close"):
            cells.run(written_out(notebook), **names)
    honest_match = type(names["method"]).match

    def heavier(self, *given):
        match = honest_match(self, *given)
        match.losses = {name: 1.1 * term for name, term in match.losses.items()}
        return match

    monkeypatch.setattr(type(names["method"]), "match", heavier)
    with pytest.raises(AssertionError, match="close"):
        cells.run(written_out(notebook), **names)


def test_the_copy_embeds_in_pieces_as_its_run_does(folder):
    names = drawn("sloshnet", folder, variant="released", micro_batch=1)
    with pytest.raises(UserError, match="micro_batch"):
        by_hand.begin(names["run_params"], names["method"], None)
