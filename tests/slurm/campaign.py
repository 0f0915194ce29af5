"""The campaign: 60 cells on three virtual nodes of which 12 are killed at random moments, against the same cells made
without Slurm. ``python -m tests.slurm.campaign FOLDER [CELLS KILLS]`` prints one JSON; it takes an hour or so.

Every second kill takes the daemon of a node alone, so that its jobs live on; the others everything on the node. A
node comes back some time later, which ends what lived on there. Slurm lets a requeued job wait two minutes; here it is
the next to start.
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


def on_slurm(small: Small, cluster: Cluster, cells: int, kills: int) -> tuple[pd.DataFrame, dict]:
    """The table of the cells made by Slurm while nodes die, and what happened."""
    said = small.vidlib(*sweep(grid(cells), "--slurm", "time=240", "array_parallelism=2"))
    print(said, file=sys.stderr)
    began = time.monotonic()
    log = disturb(cluster, re.search(r"job (\d+): \d+ cells", said)[1], small.folder.parent / "runs", kills)
    csv = re.search(r"(/\S+\.csv)", said)[1]
    return pd.read_csv(csv), {"minutes": round((time.monotonic() - began) / 60, 1), "kills": log}


def disturb(cluster: Cluster, array: str, folder: Path, kills: int, seed: int = 0) -> list[dict]:
    """Kill nodes at random moments until nothing is queued; what was done, a dict for each kill.

    Two cells run at once, and two more while a node is down, so that a requeued job meets the one before it.
    """
    drawn, log, seen, down, began = random.Random(seed), [], set(), "", time.monotonic()
    then = began + drawn.uniform(5, 90)  # of the next deed: a kill, or the return of the node that is ``down``
    while cluster.ask("squeue", "--noheader") and time.monotonic() - began < LONGEST:
        time.sleep(1)
        busy = [node for node in NODES if cluster.up(node) and cluster.children(node)]
        if time.monotonic() < then:
            pass
        elif down and cluster.ask("sinfo", "--noheader", f"--nodes={down}", "--format=%T") == "down*":
            cluster.start(down)
            cluster.ask("scontrol", "update", f"JobId={array}", "ArrayTaskThrottle=2")
            down, then = "", time.monotonic() + drawn.uniform(5, 60)
        elif not down and busy and len(log) < kills:
            down, then = drawn.choice(busy), time.monotonic() + drawn.uniform(30, 120)
            done = len([*folder.glob("*/result.json")])
            log.append(
                {"second": round(time.monotonic() - began), "node": down, "all": len(log) % 2 == 1, "runs": done}
            )
            log[-1]["processes"] = cluster.kill(down, jobs=log[-1]["all"])
            log[-1]["left"] = len(cluster.children(down))
            cluster.ask("scontrol", "update", f"JobId={array}", "ArrayTaskThrottle=4")
            if drawn.random() < 0.5:  # as a site's health check would; else Slurm finds it out, in half a minute
                cluster.ask("scontrol", "update", f"NodeName={down}", "State=DOWN", "Reason=killed")
            print(log[-1], file=sys.stderr, flush=True)
        pending = cluster.ask("squeue", "--noheader", "--array", "--states=PENDING", "--Format=JobArrayID,RestartCnt")
        for job, times in (line.split() for line in pending.splitlines()):
            if times != "0" and (job, times) not in seen:  # at once and first, so that it meets the one before it
                seen.add((job, times))
                cluster.ask("scontrol", "update", f"JobId={job}", "StartTime=now", "Priority=4294901800")
    return log


def counted(small: Small) -> dict:
    """How often things were done, by the run folders and by what the jobs printed."""
    folder = small.folder.parent / "runs"
    every = [home for home in folder.iterdir() if home.name != "notebooks"]
    printed = [file.read_text() for file in folder.glob("notebooks/*.slurm/*.out")]
    purposes = [[line["purpose"] for line in runs.read_lines(home / "readings.jsonl")] for home in every]
    steps = [[line["step"] for line in runs.read_lines(home / runs.METRICS)] for home in every]
    return {
        "run folders": len(every),
        "finished": sum(runs.finished(home) for home in every),
        "made anew beside another": sum("." in home.name for home in every),
        "runs whose steps are not 1..n once each": sum(own != [*range(1, len(own) + 1)] for own in steps),
        "runs that read test once for their result": sum(own.count("report") == 1 for own in purposes),
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
