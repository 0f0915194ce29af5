"""A real Slurm of three virtual nodes on this machine, in a folder of its own, from Debian's packages."""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
INSTALL = "sudo apt-get install slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge"
NODES = ("n1", "n2", "n3")
DEAD = 10  # seconds without an answer after which a node counts as dead
CONFIGURATION = """
ClusterName=vidlib
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout={dead}
KillWait=5
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName=n[1-3] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{ports[1]},{ports[2]},{ports[3]}] \
CPUs=2 Boards=1 SocketsPerBoard=1 CoresPerSocket=2 ThreadsPerCore=1 RealMemory=4000
PartitionName=p Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def refusal() -> str:
    """Why there can be no cluster here, with what installs it; else empty."""
    lacking = [name for name in PROGRAMS if not shutil.which(name, path=_path())]
    return f"Slurm is not installed here ({', '.join(lacking)} not found): {INSTALL}" if lacking else ""


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin"


class Cluster:
    """Up while used as a context manager; ``environment`` is what a command needs to speak with it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = {"PATH": _path(), "SLURM_CONF": str(folder / "slurm.conf")}
        self._processes: dict[str, subprocess.Popen] = {}

    def __enter__(self) -> "Cluster":
        (self.folder / "state").mkdir(parents=True)
        self.folder.chmod(0o755)
        (self.folder / "munge.key").write_bytes(os.urandom(1024))
        (self.folder / "munge.key").chmod(0o600)
        said = {"host": socket.gethostname().split(".")[0], "user": getpass.getuser(), "ports": _ports(4)}
        (self.folder / "slurm.conf").write_text(CONFIGURATION.format(folder=self.folder, dead=DEAD, **said))
        files = {"key-file": "key", "socket": "sock", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        munge = [f"--{option}={self.folder}/munge.{ending}" for option, ending in files.items()]
        try:
            self._start("munged", "--foreground", "--force", *munge)
            self._until(lambda: (self.folder / "munge.sock").exists(), "munged")
            self._start("slurmctld", "-D")
            for node in NODES:
                self.start(node)
            self._until(lambda: self.states().count("idle") == len(NODES), "the nodes")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            self.ask("scancel", "--full", "--signal=KILL", f"--user={getpass.getuser()}")
        for node in NODES:
            self.kill(node)
        for process in reversed(self._processes.values()):
            process.kill()
            process.wait()

    def _start(self, *command: str, node: str = "") -> None:
        with open(self.folder / "daemons.log", "a") as log:
            process = subprocess.Popen(command, env=os.environ | self.environment, stdout=log, stderr=log)
        self._processes[node or command[0]] = process

    def _until(self, true, what: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not true():
            if time.monotonic() > end:
                logs = "\n".join(file.read_text()[-1500:] for file in self.folder.glob("*.log"))
                raise RuntimeError(f"{what} did not come up in {seconds:.0f} s:\n{logs}")
            time.sleep(0.2)

    def ask(self, *command: str) -> str:
        """What one of Slurm's commands prints."""
        done = subprocess.run(command, env=os.environ | self.environment, capture_output=True, text=True, timeout=60)
        return done.stdout.strip()

    def states(self) -> list[str]:
        """What each node is: idle, mixed, allocated, down, ..."""
        return self.ask("sinfo", "--noheader", "--Node", "--format=%T").split()

    def start(self, node: str) -> None:
        """Bring up a node's daemon (again)."""
        self._start("slurmd", "-D", "-N", node, node=node)

    def up(self, node: str) -> bool:
        """Whether the node's daemon runs."""
        return self._processes[node].poll() is None

    def kill(self, node: str, jobs: bool = True) -> int:
        """SIGKILL to the node's daemon, with ``jobs`` to all that it had started; how many processes that were."""
        number = int(node in self._processes and self.up(node))
        if number:
            self._processes[node].kill()
            self._processes[node].wait()
        while jobs and (left := self.children(node)):  # one that starts another meanwhile leaves that
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(left, 10)
            number += len(left)
        return number

    def children(self, node: str) -> list[psutil.Process]:
        """What runs for the node's jobs: Slurm's own processes and those of the jobs, of this cluster alone."""
        wanted = {"SLURMD_NODENAME": node, "SLURM_CONF": self.environment["SLURM_CONF"]}.items()
        found = [one for one in psutil.process_iter(["environ"]) if wanted <= (one.info["environ"] or {}).items()]
        above = set()  # the daemons of steps, whose environment says nothing; first, else they report a job's end
        for one in found:
            with contextlib.suppress(psutil.Error, AttributeError):
                above |= {one.parent()} if one.parent().name() == "slurmstepd" else set()
        return [*above, *found]


def _ports(count: int) -> list[int]:
    """Free ports."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return sorted(each.getsockname()[1] for each in sockets)


if __name__ == "__main__":
    sys.exit(refusal() or 0)
