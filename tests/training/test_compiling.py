"""``compile``: the same numbers within a tolerance, the same names of weights, counts in the record, a refusal."""

from functools import partial

import pytest
import torch

from tests.data.small import write_folder
from tests.methods.small import make
from tests.tiny import FRAMES, TEXT, Tiny, training
from vidlib.basics.errors import UserError
from vidlib.layers.attention import capture_attention
from vidlib.params.few_shot import RunParams
from vidlib.results import runs
from vidlib.training import compiling, few_shot
from vidlib.training.loop import fit


def test_embedding_and_training_are_those_of_the_uncompiled_method(tmp_path):
    try:
        compiling.check("cpu")
    except UserError as error:
        pytest.skip(str(error))
    plain, fast = Tiny(dropout=0).eval(), compiling.compiled(Tiny(dropout=0).eval(), True, "cpu")
    assert list(fast.state_dict()) == list(plain.state_dict())
    fast.load_state_dict(plain.state_dict())  # its tower is drawn at random
    clips, text = torch.randn(3, FRAMES, 1, 2, 2), torch.randn(3, TEXT)
    for given in ((clips, text, "support"), (clips[:2], None, "query")):
        with torch.no_grad():
            assert torch.allclose(fast.embed(*given)["frames"], plain.embed(*given)["frames"], atol=1e-6)
    made = compiling.counts()
    assert made["graphs"] == 2 and made["recompilations"] == 1 and made["breaks"] == 0
    for name, method in {"plain": plain, "fast": fast}.items():
        fit(method, training(4), batches=4, lr=1e-3, seed=0, folder=tmp_path / name, device="cpu", precision="32-true")
    for name, value in plain.state_dict().items():
        assert torch.allclose(fast.state_dict()[name], value, atol=1e-5), name
    assert compiling.counts()["graphs"] > made["graphs"], "training has graphs of its own"


def test_a_run_says_what_was_compiled_and_is_a_run_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(compiling, "compiled", partial(compiling.compiled, backend="eager"))
    given = {"dataset": f"folder:{write_folder(tmp_path / 'videos', classes=8, clips=4)}", "runs": str(tmp_path)}
    given |= {"method": "aim", "way": 2, "frames": 2, "train_episodes": 2, "val_episodes": 0, "test_episodes": 2}
    params = RunParams.parse(given | {"device": "cpu"})
    compiled = params.model_copy(update={"compile": True})
    plain, run = few_shot.run(params), few_shot.run(compiled)
    assert run.id != plain.id and "compile" not in params.determining() and compiled.determining()["compile"] is True
    counted = run.result["cost"]["compiled"]
    assert counted["graphs"] > 1 and counted["recompilations"] > 0 and "compiled" not in plain.result["cost"]
    assert run.result["test"]["accuracy"] == plain.result["test"]["accuracy"]
    weights = [few_shot.trained_method(each)[1].state_dict() for each in (plain, run)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=1e-5) for name in weights[0])
    assert runs.read(run.home).params["compile"] is True


def test_attention_is_captured_from_what_is_not_compiled():
    method = make("aim").eval()
    clips = torch.randn(1, method.frames, 3, method.backbone.image_size, method.backbone.image_size)
    method.embed = torch.compile(method.embed, backend="eager")
    with torch.no_grad():
        features = method.embed(clips, None, "query")
        with capture_attention(method) as maps:
            again = method.embed(clips, None, "query")
    assert len(maps) == 2 * method.backbone.layers
    assert all(torch.allclose(again[name], value, atol=1e-6) for name, value in features.items())


def test_no_compiler_is_a_sentence(monkeypatch):
    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", lambda: "no-such-compiler")
    with pytest.raises(UserError, match="a C\\+\\+ compiler is not on this machine.*compile=false"):
        compiling.compiled(Tiny(), True, "cpu")
    monkeypatch.setattr("torch.utils._triton.has_triton", lambda: False)
    with pytest.raises(UserError, match="Triton"):
        compiling.check("cuda")
    untouched = Tiny()
    assert compiling.compiled(untouched, False, "cuda") is untouched and "embed" not in vars(untouched)
