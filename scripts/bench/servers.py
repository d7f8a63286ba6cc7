"""The servers that are asked: Mirabelle's and a peer's, each a process of its own on a port of its own. Starts them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from closed_loop import Address
from sides import NOT_INSTALLED, PEERS, PYTHONS, CannotRun

OURS, PEER = "Mirabelle", "BentoML"
# A server that takes longer to be ready hangs.
READY_SECONDS = 60
END_SECONDS = 20


@dataclass(frozen=True)
class Running:
    """A server that is ready.

    Attributes:
        address: where it takes pictures.
        ready_seconds: from its process's start to its being ready.
        pid: of its process; those that it has started count for it.
    """

    address: Address
    ready_seconds: float
    pid: int

    def resident_mib(self) -> float:
        """Memory that it and what it started has resident now; what they share counts for each."""
        return sum(_resident_kib(pid) for pid in _family(self.pid)) / 1024


@contextmanager
def mirabelle(bundle: str, threads: int, settings: list[str]) -> Iterator[Running]:
    """``mirabelle serve`` as a user starts it, but for ``settings``, on ``threads`` cores."""
    options = [part for setting in [f"threads={threads}", *settings] for part in ("--set", setting)]
    port = free_port()
    command = [sys.executable, "-m", "mirabelle", "serve", bundle, "--port", str(port), *options]
    with _started(command, dict(os.environ), Address(port, "/v1/predict"), "/health/ready") as running:
        yield running


@contextmanager
def bentoml(bundle: str, threads: int, scratch: Path) -> Iterator[Running]:
    """The same network and classifier behind BentoML.

    Raises:
        CannotRun: its packages are not installed.
    """
    python = PYTHONS["bench"]
    if not python.is_file():
        raise CannotRun(NOT_INSTALLED)
    port = free_port()
    environment = {
        **os.environ,
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_HOME": str(scratch / "bentoml"),
        "BENCH_BUNDLE": bundle,
        "BENCH_THREADS": str(threads),
    }
    command = [str(python), "-m", "bentoml", "serve", "bentoml_service:Answering", "--port", str(port)]
    command += ["--working-dir", str(PEERS), "--host", "127.0.0.1"]
    with _started(command, environment, Address(port, "/predict", "images"), "/readyz") as running:
        yield running


def peer_version() -> str:
    """Of the peer, as it stands in its environment; raises CannotRun where there is none."""
    python = PYTHONS["bench"]
    if not python.is_file():
        raise CannotRun(NOT_INSTALLED)
    told = subprocess.run(
        [str(python), "-c", "from importlib.metadata import version; print(version('bentoml'))"],
        capture_output=True,
        text=True,
        check=False,
    )
    if told.returncode:
        raise CannotRun(NOT_INSTALLED)
    return told.stdout.strip()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def _started(command: list[str], environment: dict[str, str], address: Address, ready: str) -> Iterator[Running]:
    began = time.perf_counter()
    # A file, as nobody reads a pipe meanwhile.
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=said, env=environment, start_new_session=True
        ) as process,
    ):
        try:
            yield Running(address, _until_ready(process, said, f"{address.port}{ready}", began), process.pid)
        finally:
            _end(process)


def _until_ready(process: subprocess.Popen[bytes], said: IO[str], where: str, began: float) -> float:
    """Seconds until it says that it is ready; raises CannotRun where it ends before, or is not in time."""
    while (spent := time.perf_counter() - began) < READY_SECONDS:
        if process.poll() is not None:
            said.seek(0)
            lines = said.read().strip().splitlines()
            raise CannotRun(f"the server ended: {lines[-1][:300] if lines else 'nothing was said'}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{where}", timeout=5) as answer:
                if answer.status == 200:
                    return time.perf_counter() - began
        except OSError:
            time.sleep(0.01)
    raise CannotRun(f"the server was not ready after {spent:.0f} s")


def _end(process: subprocess.Popen[bytes]) -> None:
    """As its supervisor would; with all that it has started where it does not heed that."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _family(pid: int) -> list[int]:
    """A process and those it has started, and so on."""
    try:
        tasks = Path(f"/proc/{pid}/task")
        children = [int(one) for task in tasks.iterdir() for one in (task / "children").read_text().split()]
    except OSError:
        return [pid]
    return [pid, *(each for child in children for each in _family(child))]


def _resident_kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS")), 0)
