"""Graphics cards by name: what their makers say of them, for estimates and for shares of a peak."""

from dataclasses import dataclass

from vidlib.basics.errors import UserError
from vidlib.basics.words import suggest


@dataclass(frozen=True)
class Card:
    """Dense TFLOP/s (no sparsity) of 16-bit matrix products summed in float32 and of plain float32; gigabytes of
    memory; whether it computes in bfloat16."""

    half: float
    single: float
    memory: int
    bf16: bool = True

    def peak(self, precision: str) -> float:
        """TFLOP/s under one of Fabric's precisions."""
        return self.half if "mixed" in precision else self.single


CARDS = {  # from the makers' data sheets; A100, H100 and H200 as SXM, the A100 with 80 GB
    "RTX 3090": Card(71, 35.6, 24),
    "RTX 4090": Card(165, 82.6, 24),
    "RTX 5090": Card(209.5, 104.8, 32),
    "A100": Card(312, 19.5, 80),
    "H100": Card(989, 67, 80),
    "H200": Card(989, 67, 141),
    "L4": Card(121, 30.3, 24),
    "T4": Card(65, 8.1, 16, bf16=False),
}


def _key(name: str) -> str:
    return name.lower().replace(" ", "").replace("-", "").replace("_", "")


def card(name: str) -> tuple[str, Card]:
    """The card of that name, whatever its capitals and spaces; a UserError suggests the nearest."""
    keys = {_key(each): each for each in CARDS} | {_key(each).removeprefix("rtx"): each for each in CARDS}
    if _key(name) in keys:
        return keys[_key(name)], CARDS[keys[_key(name)]]
    near = suggest(keys.get(name, name.upper()), CARDS, f"known are {', '.join(CARDS)}.")
    raise UserError(f"on: there is no card {name!r} in vidlib's table; {near}")


def named(device: str) -> Card | None:
    """The card that a driver calls ``device`` ("NVIDIA H100 80GB HBM3"); None where the table has none, or another
    build."""
    words = set(device.replace("-", " ").split())
    if words & {"PCIe", "NVL", "Laptop", "D"}:
        return None
    return next((found for name, found in CARDS.items() if words >= set(name.split())), None)
