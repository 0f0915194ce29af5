"""``python -m benchmarks [NAME ...]``: each benchmark in a process of its own; exit code 1 where a claim is not met."""

import subprocess
import sys
from pathlib import Path

OTHERS = ("measure", "gpu")  # what they share, and what has a command of its own (make bench-gpu)
NAMES = sorted(p.stem for p in Path(__file__).parent.glob("[a-z]*.py") if p.stem not in OTHERS)


def main(wanted: list[str]) -> int:
    """Run ``wanted``, or all."""
    unknown = set(wanted) - set(NAMES)
    if unknown:
        print(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    failed = []
    for name in wanted or NAMES:
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"]).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
