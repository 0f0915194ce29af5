"""Speed and memory, always as ratios within one run. ``python -m benchmarks`` (``make bench``) runs all, names some."""

import os

# Before torch starts its threads: one that waits for the other sleeps. On a machine with other work, spinning keeps the
# other off the core it waits for, and a ratio of many small steps to one large one becomes that of their waits.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
