"""The embedded worlds, rendered as real clips."""
