"""The embedded world, rendered as real clips."""
