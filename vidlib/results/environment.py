"""What a run ran on: versions, processor, threads, commit; no user and no place."""

import functools
import hashlib
import importlib.metadata
import os
import platform
import re
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vidlib.basics import paths

NAMED = ("torch", "torchvision", "lightning-fabric", "open_clip_torch", "timm", "av", "decord", "numpy")
NAMED += ("safetensors", "einops")
COMPARED = ("torch", "open_clip_torch", "timm", "av")  # versions that can move a result's digits


def environment() -> dict[str, Any]:
    """What the run ran on: versions, processor, threads, commit; the host only as a hash, no user, no path."""
    import torch  # here, so that records are read without it

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "versions": versions(NAMED),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "cuda": torch.version.cuda if gpu else None,
        "commit": _commit(),
        "host": hashlib.sha256(socket.gethostname().encode()).hexdigest()[:12],
    }


def versions(names: Iterable[str]) -> dict[str, str | None]:
    """The installed version of each distribution, None where it is absent."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def _cpu_name() -> str:
    try:
        return re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text()).group(1)
    except (OSError, AttributeError):
        return platform.processor() or platform.machine()


def _commit() -> str | None:
    root = paths.checkout()
    if root is None or not (root / ".git").exists():
        return None
    try:
        ask = functools.partial(subprocess.run, cwd=root, capture_output=True, text=True, timeout=10)
        commit = ask(["git", "rev-parse", "HEAD"])
        changed = ask(["git", "status", "--porcelain"]).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return None
    return commit.stdout.strip() + ("+changes" if changed else "") if commit.returncode == 0 else None
