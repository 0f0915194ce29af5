"""The campaign: 60 cells on three virtual nodes of which 12 are killed at random moments, against the same cells made
without Slurm. ``python -m tests.slurm.campaign FOLDER [CELLS KILLS]`` prints one JSON; it takes an hour or so.

Every second kill takes the daemon of a node alone, so that its jobs live on; the others everything on the node. A
node comes back some time after Slurm has taken it for dead, which ends what lived on there. Slurm lets a requeued job
wait two minutes: here most need not wait so long.
"""

import json
import random
import re
import sys
import time
from pathlib import Path

import pandas as pd

from tests.slurm.cluster import NODES, Cluster
from tests.slurm.small import SIZE, Small, sweep
from vidlib.results import runs

LONGEST = 3 * 3600.0
# In one process, which is sooner done than a process for each cell; the kernels are their own as ever.
LOCAL = "import sys, json\nfrom vidlib import cli\nfor words in json.load(sys.stdin):\n    cli.main(words)"


def grid(cells: int) -> list[str]:
    return [f"seed={','.join(map(str, range(cells // 2)))}", "shot=1,2"]


def locally(small: Small, cells: int) -> pd.DataFrame:
    """The table of the cells made one after another without Slurm."""
    words = [["run", "few_shot", "--set", *SIZE, f"seed={i // 2}", f"shot={1 + i % 2}"] for i in range(cells)]
    process = small.started(program=LOCAL, runs="local")
    print(process.communicate(json.dumps(words))[0][-2000:], file=sys.stderr)
    return _table(small.vidlib(*sweep(grid(cells)), runs="local"))


def _table(said: str) -> pd.DataFrame:
    return pd.read_csv(re.search(r"(/\S+\.csv)", said)[1])


def on_slurm(small: Small, cluster: Cluster, cells: int, kills: int, seed: int = 0) -> tuple[pd.DataFrame, dict]:
    """The table of the cells made by Slurm while nodes die, and what happened."""
    drawn, log, folder = random.Random(seed), [], small.folder.parent
    said = small.vidlib(*sweep(grid(cells), "--slurm", "time=240", "array_parallelism=2"))
    print(said, file=sys.stderr)
    back: dict[str, float] = {}
    csv, began = Path(re.search(r"(/\S+\.csv)", said)[1]), time.monotonic()
    done = len(list(folder.glob("runs/*/result.json")))
    while cluster.ask("squeue", "--noheader") and time.monotonic() - began < LONGEST:
        time.sleep(drawn.uniform(1, 8))
        now = len(list(folder.glob("runs/*/result.json")))
        busy = [node for node in NODES if cluster.up(node) and cluster.children(node)]
        alive = [node for node in NODES if cluster.up(node)]
        if len(log) < kills and busy and len(alive) == len(NODES) and now >= done:
            node, whole = drawn.choice(busy), len(log) % 2 == 1
            log.append({"second": round(time.monotonic() - began), "node": node, "all": whole, "finished": now})
            log[-1]["processes"] = cluster.kill(node, jobs=whole)
            log[-1]["left"] = len(cluster.children(node))
            done = now + (cells - now) // (kills + 2 - len(log)) - 1  # spread over the cells
            print(log[-1], file=sys.stderr, flush=True)
        for node in NODES:
            if not cluster.up(node) and cluster.ask("sinfo", "--noheader", f"--nodes={node}", "--format=%T") == "down*":
                if time.monotonic() > back.setdefault(node, time.monotonic() + drawn.uniform(0, 100)):
                    cluster.start(node)
                    del back[node]
        for job in cluster.ask("squeue", "--noheader", "--array", "--states=PENDING", "--format=%i %r").splitlines():
            if job.endswith("BeginTime") and drawn.random() < 0.2:
                cluster.ask("scontrol", "update", f"JobId={job.split()[0]}", "StartTime=now")
    return pd.read_csv(csv), {"minutes": round((time.monotonic() - began) / 60, 1), "kills": log}


def counted(small: Small) -> dict:
    """How often things were done, by the run folders and by what the jobs printed."""
    folder = small.folder.parent / "runs"
    every = [home for home in folder.iterdir() if home.name != "notebooks"]
    printed = [file.read_text() for file in folder.glob("notebooks/*.slurm/*.out")]
    readings = [
        [line for line in runs.read_lines(home / "readings.jsonl") if line["split"] == "test"] for home in every
    ]
    steps = [[line["step"] for line in runs.read_lines(home / runs.METRICS)] for home in every]
    return {
        "run folders": len(every),
        "finished": sum(runs.finished(home) for home in every),
        "made anew beside another": sum("." in home.name for home in every),
        "runs whose steps are not 1..n once each": sum(own != [*range(1, len(own) + 1)] for own in steps),
        "readings of test as the result": [own.count("report") for own in readings].count(1),
        "notebooks": len([*folder.glob("notebooks/few_shot-*[0-9a-f].ipynb")]),
        "jobs that finished a cell": sum(text.count("the cell is finished") for text in printed),
        "jobs that found it finished": sum(text.count("the cell was finished already") for text in printed),
        "jobs that waited for another": sum(text.count("waiting for process") for text in printed),
        "jobs begun again": sum(max(0, text.count("Starting with JobEnvironment") - 1) for text in printed),
        "left in notebooks": sorted(f.name for f in (folder / "notebooks").glob("*.[ulf][noa][fci]*")),
    }


def main(folder: str, cells: int = 60, kills: int = 12) -> None:
    place = Path(folder).resolve()
    small = Small(place)
    local = locally(small, cells)
    with Cluster(place / "cluster") as cluster:
        small.environment = cluster.environment
        table, said = on_slurm(small, cluster, cells, kills)
        again = small.vidlib(*sweep(grid(cells), "--slurm", "time=240"))
    columns = ["seed", "shot", "accuracy", "interval", "runs"]
    said |= counted(small) | {"cells": len(table), "states": table["state"].value_counts().to_dict()}
    said |= {"the table is that made locally": table[columns].equals(local[columns]), "again": again.splitlines()}
    print(json.dumps(said, indent=1))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
