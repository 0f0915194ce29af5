"""Speed and memory, always as ratios within one run. ``python -m benchmarks`` (``make bench``) runs all, names some."""
