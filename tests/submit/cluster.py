"""A real standalone Spark cluster on loopback: a master and workers as processes of their own, which can be killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
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
DAEMON = [str(SPARK_HOME / "bin" / "spark-class")]
# Port 0 is any free one; the log tells which.
ANY_PORT = ["--host", LOOPBACK, "--port", "0", "--webui-port", "0"]
# Short-lived JVMs that share two cores: compiling them well costs more than it brings.
JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
# Executors that fit the workers; the rest is as in the README's command.
SMALL_EXECUTORS = {
    "spark.driver.extraJavaOptions": JAVA,
    "spark.executor.extraJavaOptions": JAVA,
    "spark.driver.host": LOOPBACK,
    "spark.driver.bindAddress": LOOPBACK,
    "spark.driver.memory": "1g",
    "spark.executor.cores": "1",
    "spark.executor.memory": "512m",
    "spark.executor.memoryOverhead": "512m",
    "spark.ui.enabled": "false",
}
# A proxy in the environment is not for loopback.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


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
                stdin=subprocess.DEVNULL,
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

    def processes(self, having: str = "") -> list[Process]:
        """The live ones, itself among them, whose command line has ``having`` in it."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                variables = (folder / "environ").read_bytes().split(b"\0")
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue  # of another user, or ended meanwhile
            if self._mark.encode() in variables and having in command:
                found.append(Process(int(folder.name), command))
        return found

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

        def gone() -> bool:
            for process in (left := self.processes()):
                process.kill()
            return not left

        wait_until(gone, 30, f"the processes of {self.log.name} to be gone")


class Cluster:
    """A master and two workers, a core and 1 GiB each unless told otherwise.

    Attributes:
        folder: of the logs and work folders.
        url: for ``spark-submit --master``.
        workers: by name; each one's executor and that one's Pythons are among its processes.
    """

    def __init__(self, folder: Path, wheel: Path, cores: int = 1, memory: str = "1g") -> None:
        self.folder = folder
        self._size = ["--cores", str(cores), "--memory", memory]
        self._wheel = wheel
        self._started: list[Program] = []
        self.workers: dict[str, Program] = {}

    def __enter__(self) -> Cluster:
        try:
            # An application may lose as many executors as a test kills; REST would want a port that is always the same.
            options = "-Dspark.deploy.maxExecutorRetries=-1 -Dspark.master.rest.enabled=false"
            given = [*DAEMON, "org.apache.spark.deploy.master.Master", *ANY_PORT]
            master = self.start("master", given, {"SPARK_MASTER_OPTS": options})
            self.url = _printed(master, r"Starting Spark master at (spark://\S+)")
            self._page = _printed(master, r"Bound MasterWebUI to \S+, and started at (http://\S+)")
            for name in ("worker-a", "worker-b"):
                self.start_worker(name)
            wait_until(lambda: self.state()["aliveworkers"] == len(self.workers), 60, "the workers to be registered")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for program in self._started:
            program.end()

    def start_worker(self, name: str) -> None:
        """Start a worker, or a new one in the place of a killed one; does not wait."""
        place = [*self._size, "--work-dir", str(self.folder / name)]
        given = [*DAEMON, "org.apache.spark.deploy.worker.Worker", *ANY_PORT, *place, self.url]
        self.workers[name] = self.start(name, given)

    def state(self) -> dict:
        """What the master tells of itself: its workers and applications."""
        with OPENER.open(f"{self._page}/json/", timeout=10) as answer:
            return json.load(answer)

    def processes(self, having: str) -> list[Process]:
        """Of the workers, their executors and Pythons, those whose command line has ``having`` in it."""
        return [process for worker in self.workers.values() for process in worker.processes(having)]

    def submit(self, settings: Sequence[str], conf: Mapping[str, str] | None = None, master: str = "") -> Program:
        """Start ``jobs/extract_features.py`` here, or on another master."""
        given = [str(SPARK_HOME / "bin" / "spark-submit"), "--properties-file", "conf/spark-standalone.conf"]
        given += ["--master", master or self.url, "--py-files", str(self._wheel)]
        for key, value in {**SMALL_EXECUTORS, **(conf or {})}.items():
            given += ["--conf", f"{key}={value}"]
        given.append("jobs/extract_features.py")
        for setting in settings:
            given += ["--set", setting]
        return self.start("driver", given)

    def start(self, name: str, command: list[str], variables: Mapping[str, str] | None = None) -> Program:
        """Start a program that ends with the cluster; ``name`` is that of its log."""
        number = sum(program.log.name.startswith(f"{name}.") for program in self._started)
        program = Program(command, self.folder / f"{name}.{number}.log", variables)
        self._started.append(program)
        return program


def _printed(program: Program, pattern: str) -> str:
    """What ``pattern`` catches in a program's log, once it is there."""

    def found() -> str | None:
        assert program.exit_code() is None, program.text()
        match = re.search(pattern, program.text())
        return match and match[1]

    answer = wait_until(found, 60, f"{program.log} to have {pattern}")
    assert answer is not None
    return answer


def wait_until(ready: Callable[[], T], seconds: float, what: str, pause_s: float = 0.1) -> T:
    """Ask until the answer is true, and return it."""
    deadline = time.monotonic() + seconds
    while not (answer := ready()):
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(pause_s)
    return answer
