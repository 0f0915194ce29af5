"""Batched OTAM against the literal version, one pair and one cell at a time: a ratio from one run, and equal results.

``python -m benchmarks.otam`` prints one line; exit code 1 if the ratio is under 50 or the results differ. Both run
on one thread and are measured in CPU time, so that a busy machine does not change the ratio.
"""

import sys

import torch

from benchmarks.measure import cpu_seconds, verdict
from tests.literal.otam import both_directions
from vidlib.matching.otam import OTAM, otam_distance

CLAIM, LAM, FRAMES, WIDTH = 50, 0.1, 8, 64
EPISODES, BATCH, WAY = 10_000, 500, 5
LITERAL_PAIRS = 2_500


def main() -> int:
    """Both directions on the same cost tables; then 10,000 episodes from frame features, for the record."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    cost = 1.5 * torch.rand(BATCH, WAY, WAY, FRAMES, FRAMES, generator=generator)

    def batched() -> torch.Tensor:
        return otam_distance(cost, LAM) + otam_distance(cost.mT, LAM)

    tables = cost.flatten(0, 2)[:LITERAL_PAIRS].tolist()
    with torch.inference_mode():
        batched()  # warm-up
        runs = [cpu_seconds(batched) for _ in range(9)]
        fast = sorted(run[0] for run in runs)[4] / (BATCH * WAY * WAY)
        slow, expected = cpu_seconds(lambda: [both_directions(table, LAM) for table in tables])
        slow /= LITERAL_PAIRS
        apart = (runs[0][1].flatten()[:LITERAL_PAIRS].double() - torch.tensor(expected).double()).abs().max().item()

        metric = OTAM(LAM)
        features = metric.prepare(torch.randn(BATCH, WAY, FRAMES, WIDTH, generator=generator))
        labels = torch.arange(WAY).expand(BATCH, WAY)
        once, _ = cpu_seconds(
            lambda: [metric.compare(features, labels, features, WAY) for _ in range(EPISODES // BATCH)]
        )

    ratio = slow / fast
    met = ratio >= CLAIM and apart < 1e-4
    print(
        f"OTAM both directions, T = {FRAMES}: batched {fast * 1e6:.2f} us a pair, literal {slow * 1e6:.1f} us: "
        f"{ratio:.0f} times faster (claim: at least {CLAIM}, {verdict(met)}), largest difference "
        f"{apart:.0e}; {EPISODES:,} episodes 5-way 1-shot, one query a class, in {once:.1f} s of one core"
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
