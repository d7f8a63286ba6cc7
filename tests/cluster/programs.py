"""Programs that a test starts, with all that descends from them, and which can be killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pyspark

from conftest import REPOSITORY
from submit.conftest import environment

T = TypeVar("T")

SPARK_HOME = Path(pyspark.__file__).parent
LOOPBACK = "127.0.0.1"
# Short-lived JVMs that share two cores: compiling them well costs more than it brings.
JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"


def spark_environment(scratch: Path) -> dict[str, str]:
    """The user's without another Spark's settings; what killed processes leave behind stays in ``scratch``."""
    scratch.mkdir(exist_ok=True)
    own = {k: v for k, v in environment().items() if not k.startswith(("SPARK_", "PYTHONPATH"))}
    places = {"SPARK_LOCAL_DIRS": str(scratch), "TMPDIR": str(scratch)}
    return {**own, **places, "SPARK_HOME": str(SPARK_HOME), "SPARK_LOCAL_IP": LOOPBACK, "SPARK_DAEMON_JAVA_OPTS": JAVA}


@dataclass(frozen=True)
class Process:
    """One live process."""

    pid: int
    command: str

    def kill(self) -> None:
        """End it as a power cut would."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def live_processes(wanted: Callable[[list[bytes], str], bool]) -> list[Process]:
    """Those of this machine that are wanted, by their environment and their command line."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # of another user, or ended meanwhile
        if wanted(variables, command):
            found.append(Process(int(folder.name), command))
    return found


class Program:
    """A started command, its log, and all that descends from it.

    Descendants are known by a mark in their environment: it outlives orphaning, and nobody else's process has it.
    """

    def __init__(self, command: list[str], log: Path, variables: Mapping[str, str] | None = None) -> None:
        self.log = log
        self._mark = f"TEST_PROGRAM={log}"
        name, _, value = self._mark.partition("=")
        with log.open("wb") as file:
            self._leader = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env={**spark_environment(log.parent / "scratch"), **(variables or {}), name: value},
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._leader.pid

    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._leader.poll()

    def text(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(errors="replace")

    def say(self, line: str) -> None:
        """A line for its standard input."""
        assert self._leader.stdin is not None
        self._leader.stdin.write(f"{line}\n".encode())
        self._leader.stdin.flush()

    def processes(self, having: str = "") -> list[Process]:
        """The live ones, itself among them, whose command line has ``having`` in it."""
        return live_processes(lambda variables, command: self._mark.encode() in variables and having in command)

    def kill(self) -> None:
        """End the leader alone."""
        self._leader.kill()
        self._leader.wait()

    def end(self) -> None:
        """End the leader and all that descends from it; returns when none is left."""
        if self.exit_code() is None:
            # First at one stroke, so that none of the leader's group sees another gone.
            os.killpg(self.pid, signal.SIGKILL)
            self._leader.wait()
        if self._leader.stdin is not None:
            self._leader.stdin.close()

        def gone() -> bool:
            for process in (left := self.processes()):
                process.kill()
            return not left

        wait_until(gone, 30, f"the processes of {self.log.name} to be gone")


def printed(program: Program, pattern: str, seconds: float = 60) -> str:
    """What ``pattern`` catches in a program's log, once it is there."""

    def found() -> str | None:
        assert program.exit_code() is None, program.text()
        match = re.search(pattern, program.text())
        return match and match[1]

    answer = wait_until(found, seconds, f"{program.log} to have {pattern}")
    assert answer is not None
    return answer


def wait_until(ready: Callable[[], T], seconds: float, what: str, pause_s: float = 0.1) -> T:
    """Ask until the answer is true, and return it."""
    deadline = time.monotonic() + seconds
    while not (answer := ready()):
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(pause_s)
    return answer
