"""A real Slurm of three virtual nodes on this machine, in a folder of its own, from Debian's packages."""

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

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
NodeName=n[1-3] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{ports[1]}-{ports[3]}] CPUs=2 Boards=1 SocketsPerBoard=1 \
CoresPerSocket=2 ThreadsPerCore=1 RealMemory=4000
PartitionName=p Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def lacking() -> list[str]:
    """The programs that are not here."""
    return [name for name in PROGRAMS if not shutil.which(name, path=_path())]


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin"


def refusal() -> str:
    """Why there can be no cluster here, with what installs it; else empty."""
    names = ", ".join(lacking())
    return f"Slurm is not installed here ({names} not found): {INSTALL}" if names else ""


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

    def _start(self, *command: str, name: str = "") -> None:
        with open(self.folder / "daemons.log", "a") as log:
            environment = os.environ | self.environment
            self._processes[name or command[0]] = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )

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
        self._start("slurmd", "-D", "-N", node, name=node)

    def up(self, node: str) -> bool:
        """Whether the node's daemon runs."""
        return self._processes[node].poll() is None

    def kill(self, node: str, jobs: bool = True) -> int:
        """SIGKILL to the node's daemon, with ``jobs`` to all that it had started; how many processes that were."""
        killed = []
        if node in self._processes and self.up(node):
            killed.append(self._processes[node].pid)
            self._processes[node].kill()
            self._processes[node].wait()
        while jobs and (left := self.children(node)):  # one that starts another meanwhile leaves that
            for number in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
            killed += left
            time.sleep(0.05)
        return len({*killed})

    def children(self, node: str) -> list[int]:
        """The processes of the node's jobs, and of this cluster's alone: Slurm's own, and what those have started."""
        parents = {number: _stat(number) for number in (int(p.name) for p in Path("/proc").glob("[0-9]*"))}
        found = set()
        for number in parents:
            with contextlib.suppress(OSError):
                said = Path(f"/proc/{number}/environ").read_bytes().split(b"\0")
                if f"SLURMD_NODENAME={node}".encode() in said and self._ours(said):
                    found.add(number)
        for number in [*found]:  # the daemon of the step stands above
            above = parents.get(number)
            if above and above[1] in parents and parents[above[1]] and parents[above[1]][0] == "slurmstepd":
                found.add(above[1])
        return sorted(found)

    def _ours(self, said: list[bytes]) -> bool:
        return f"SLURM_CONF={self.environment['SLURM_CONF']}".encode() in said


def _stat(number: int) -> tuple[str, int] | None:
    """A process's name and its parent."""
    try:
        name, _, rest = Path(f"/proc/{number}/stat").read_text().partition("(")[2].rpartition(") ")
    except OSError:
        return None
    return name, int(rest.split()[1])


def _ports(count: int) -> list[int]:
    """Free ports in a row."""
    for first in range(16800, 32000, 10):
        with contextlib.ExitStack() as held:
            try:
                for port in range(first, first + count):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port))
                return [*range(first, first + count)]
            except OSError:
                continue
    raise RuntimeError("no free ports")


if __name__ == "__main__":
    sys.exit(refusal())
