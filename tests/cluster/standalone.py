"""A real standalone Spark cluster on loopback: a master and workers as processes of their own, which can be killed."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from cluster.programs import JAVA, LOOPBACK, SPARK_HOME, Process, Program, printed, wait_until

DAEMON = [str(SPARK_HOME / "bin" / "spark-class")]
# Port 0 is any free one; the log tells which.
ANY_PORT = ["--host", LOOPBACK, "--port", "0", "--webui-port", "0"]
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


class Cluster:
    """A master and two workers, a core and 1 GiB each unless told otherwise, with variables of the workers' own.

    Attributes:
        folder: of the logs and work folders.
        url: for ``spark-submit --master``.
        workers: by name; each one's executor and that one's Pythons are among its processes.
    """

    def __init__(
        self,
        folder: Path,
        wheel: Path,
        cores: int = 1,
        memory: str = "1g",
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self._variables = variables
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
            self.url = printed(master, r"Starting Spark master at (spark://\S+)")
            self._page = printed(master, r"Bound MasterWebUI to \S+, and started at (http://\S+)")
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
        self.workers[name] = self.start(name, given, self._variables)

    def state(self) -> dict:
        """What the master tells of itself: its workers and applications."""
        with OPENER.open(f"{self._page}/json/", timeout=10) as answer:
            return json.load(answer)

    def processes(self, having: str) -> list[Process]:
        """Of the workers, their executors and Pythons, those whose command line has ``having`` in it."""
        return [process for worker in self.workers.values() for process in worker.processes(having)]

    def submit(
        self,
        settings: Sequence[str],
        conf: Mapping[str, str] | None = None,
        master: str = "",
        job: str = "jobs/extract_features.py",
    ) -> Program:
        """Start ``jobs/extract_features.py``, or another program, here, or on another master."""
        given = [str(SPARK_HOME / "bin" / "spark-submit"), "--properties-file", "conf/spark-standalone.conf"]
        given += ["--master", master or self.url, "--py-files", str(self._wheel)]
        for key, value in {**SMALL_EXECUTORS, **(conf or {})}.items():
            given += ["--conf", f"{key}={value}"]
        given.append(job)
        for setting in settings:
            given += ["--set", setting]
        return self.start("driver", given)

    def start(self, name: str, command: list[str], variables: Mapping[str, str] | None = None) -> Program:
        """Start a program that ends with the cluster; ``name`` is that of its log."""
        number = sum(program.log.name.startswith(f"{name}.") for program in self._started)
        program = Program(command, self.folder / f"{name}.{number}.log", variables)
        self._started.append(program)
        return program
