"""``vidlib estimate RECIPE --on CARD``: hours, memory and disk on a machine that is not here, from counted FLOPs.

Nothing is measured but shapes; the rate is a stated share of the card's peak. timm's own tables of ViT-B/16 at 224
(images a second in bf16) come to 0.78 of an RTX 3090's peak, 0.74 of an RTX 4090's and of an RTX 5090's, embedding
alone and with frames at hand; training has more that is no matrix product. Half is taken.
"""

from vidlib import backbones, methods
from vidlib.basics.errors import UserError
from vidlib.cli import cards
from vidlib.cli.estimate import MIB, amount_said, extrapolate
from vidlib.cli.run import command, main_runs
from vidlib.params.few_shot import RunParams
from vidlib.params.notebooks import Request
from vidlib.training.counted import count
from vidlib.training.trial import Measured

DECODED = (
    30.0  # videos a second and core: 33 measured, of 100 frames of 340 x 256 in H.264, 8 of them read and cut to 224
)


def estimate(request: Request, on: str, share: float = 0.5, cores: int = 16, decoded: float = DECODED) -> list[str]:
    """The lines that say it; UserError for an unknown card, a share outside (0, 1], or a notebook of no method."""
    name, card = cards.card(on)
    if not 0 < share <= 1:
        raise UserError(f"share: {share} is not a part of the card's peak, above 0 and at most 1")
    if cores < 1 or not decoded > 0:
        raise UserError(f"cores and decoded: {cores} that decode {decoded:g} videos a second; give more than none")
    own = main_runs(request)
    if not own:
        raise UserError(f"{request.notebook} studies no single method; estimate the recipe of a method")
    params = own[0]
    backbones.check(params.backbone, params.pretrained)
    methods.check(params)
    precision = params.precision if params.precision != "auto" else "bf16-mixed" if card.bf16 else "32-true"
    if precision == "bf16-mixed" and not card.bf16:
        raise UserError(f"precision: a {name} does not compute in bf16; give --set precision=16-mixed")
    if precision == "64-true":
        raise UserError("precision: of 64-bit numbers vidlib's table has no peak; give --set precision=32-true")
    counted = count(params, precision)
    rate = share * card.peak(precision) * 1e12
    seconds = {part: getattr(counted, part) / rate for part in ("train", "embed", "match")}
    measured = Measured(**seconds, **counted.said)
    cost = extrapolate(params, measured, counted.manifest)
    one = "episode" if isinstance(params, RunParams) else "batch"
    needs = {"training": counted.videos / seconds["train"]} if measured.trained else {}
    needs["testing"] = counted.tested / seconds["embed"]
    slower = {part: max(1.0, need / (cores * decoded)) for part, need in needs.items()}
    waits = cost.train * slower.get("training", 1.0) + (cost.select + cost.test) * slower["testing"]
    peak = max(measured.train_memory, measured.test_memory)
    fits = "fits" if peak * MIB < 0.95e9 * card.memory else "does not fit; with a small micro_batch it may"
    parts = f"training {cost.train:.2f}, selection on val {cost.select:.2f}, test with controls {cost.test:.2f}"
    found = [
        (f"a training {one}", f"{counted.train / 1e9:,.1f} GFLOP, forward and backward", measured.trained),
        (f"a test {'episode' if measured.whole else 'video'}, embedded", f"{counted.embed / 1e9:,.1f} GFLOP", True),
        ("memory, training step", f"{measured.train_memory:,.0f} MiB, optimiser's state included", measured.trained),
        ("memory, embedding", f"{measured.test_memory:,.0f} MiB", True),
        (f"in {card.memory} GB of memory", fits, True),
        ("hours of one run", f"{cost.hours:.2f} ({parts})", True),
        ("hours with such decoding", f"{waits:.2f}", waits > cost.hours),
        (f"hours of {len(own)} seeds", f"{waits * len(own):.2f}, one after another", len(own) > 1),
        ("disk of one run", f"{cost.bytes / MIB:,.1f} MiB, {cost.bytes_running / MIB:,.1f} MiB while it trains", True),
        *((f"decoding for {part}", _decoding(need, cores, decoded), True) for part, need in needs.items()),
    ]
    return [
        f"estimate for: {command(request)}",
        f"on: one {name}, {precision}, which is not here: an estimate from counted FLOPs, nothing was run",
        f"at: {share:g} of its {card.peak(precision):g} TFLOP/s (--share)",
        f"\ncounted, and extrapolated to {amount_said(params, measured)}",
        *(f"  {word:<26}{said}" for word, said, there in found if there),
        "not counted: methods beside it, figures, videos on disk; small towers reach less of the peak",
    ]


def _decoding(need: float, cores: int, decoded: float) -> str:
    """Whether so many cores decode as fast as the card wants videos."""
    have = cores * decoded
    verdict = "keeps up" if need <= have else f"does not keep up, {need / have:.1f} times too slow"
    return f"{verdict}: {need:,.0f} videos/s needed, {cores} cores at {decoded:g} (--cores, --decoded) give {have:,.0f}"
