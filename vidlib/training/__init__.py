"""From parameters to a finished run."""
