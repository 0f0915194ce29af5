"""The work of ``vidlib data``: from disks and lists to a benchmark."""
