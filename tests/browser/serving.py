"""A JupyterLab of its own: a person's settings, sessions and notebooks neither matter nor change."""

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

READY = 120.0  # seconds in which the server must answer
FOLDERS = {
    "JUPYTER_CONFIG_DIR": "config",
    "JUPYTER_DATA_DIR": "data",
    "JUPYTER_RUNTIME_DIR": "runtime",
    "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    "JUPYTERLAB_SETTINGS_DIR": "settings",
}
# Else a question about Jupyter's news covers the lower right of every screenshot.
NO_NEWS = "@jupyterlab/apputils-extension/notification.jupyterlab-settings"


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab and the folder that it serves."""

    address: str
    token: str
    root: Path

    def url(self, notebook: str) -> str:
        """The page of one notebook, without tabs left over from another visit."""
        return f"{self.address}/lab/tree/{notebook}?token={self.token}&reset"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _environment(folder: Path, runs: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("JPY_SESSION_NAME", "PYTEST_ADDOPTS")}
    own = {name: str(folder / place) for name, place in FOLDERS.items()}
    for place in own.values():
        Path(place).mkdir(parents=True, exist_ok=True)
    settings = folder / "settings" / NO_NEWS
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    return {**kept, **own, "VIDLIB_RUNS": str(runs), "JUPYTER_PREFER_ENV_PATH": "1"}


@contextlib.contextmanager
def serving(root: Path, folder: Path, runs: Path) -> Iterator[Lab]:
    """JupyterLab over the notebooks in ``root``; what it writes of its own goes into ``folder``, runs into ``runs``."""
    lab = Lab(f"http://127.0.0.1:{_free_port()}", secrets.token_hex(16), root)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", "--ServerApp.port_retries=0"]
    command += [f"--port={lab.address.rpartition(':')[2]}", f"--IdentityProvider.token={lab.token}"]
    command += [f"--ServerApp.root_dir={root}", "--LabApp.expose_app_in_browser=True"]
    command += ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    environment = _environment(folder, runs)
    log = folder / "server.log"
    with log.open("w") as out:
        server = subprocess.Popen(command, env=environment, cwd=root, stdout=out, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + READY
        while not _answers(lab):
            if server.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"JupyterLab did not start; it said:\n{log.read_text()[-2000:]}")
            time.sleep(0.3)
        yield lab
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _answers(lab: Lab) -> bool:
    try:
        with urllib.request.urlopen(f"{lab.address}/api/status?token={lab.token}", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False
