"""Which benchmarks there are, and what of them is here."""
