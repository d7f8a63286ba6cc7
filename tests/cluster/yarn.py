"""A real YARN on loopback, whose containers are processes of their own, which can be killed."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from cluster.programs import JAVA, LOOPBACK, SPARK_HOME, Process, Program, live_processes, printed, wait_until

HERE = Path(__file__).parent
# What is this machine's: Spark's jars are on it already, and its name may have no address.
MACHINE = {
    "spark.yarn.jars": f"local:{SPARK_HOME / 'jars'}/*",
    "spark.yarn.appMasterEnv.SPARK_LOCAL_IP": LOOPBACK,
    "spark.executorEnv.SPARK_LOCAL_IP": LOOPBACK,
    "spark.yarn.appMasterEnv.PYSPARK_PYTHON": sys.executable,
    "spark.yarn.appMasterEnv.HOME": str(Path.home()),
    "spark.driver.extraJavaOptions": JAVA,
    "spark.executor.extraJavaOptions": JAVA,
    "spark.ui.enabled": "false",
}
# Two cores do not carry four tasks an executor; the standalone tier tries that.
SMALL_EXECUTORS = {
    "spark.executor.cores": "1",
    "spark.executor.memory": "512m",
    "spark.executor.memoryOverhead": "1g",
    "spark.driver.memory": "1g",
}


class Yarn:
    """A ResourceManager and two NodeManagers.

    Attributes:
        folder: of logs, site files and the nodes' own.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: list[Program] = []

    def __enter__(self) -> Yarn:
        try:
            self._cluster = self.start("yarn", [sys.executable, str(HERE / "mini_yarn.py"), str(self.folder)])
            printed(self._cluster, "(YARN is up)", 300)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for program in reversed(self._started):
            program.end()

    def stop_node(self, number: int) -> None:
        """Begin to end a NodeManager with all its containers, for good; a small run may be over before it is gone."""
        self._cluster.say(f"stop-node {number}")

    def node_is_gone(self, number: int) -> None:
        """Wait for the end of a node that was told to stop."""
        printed(self._cluster, f"(node {number} is gone)", 60)

    def start(self, name: str, command: list[str], variables: Mapping[str, str] | None = None) -> Program:
        """Start a program that ends with the cluster; ``name`` is that of its log."""
        number = sum(program.log.name.startswith(f"{name}.") for program in self._started)
        conf = {"HADOOP_CONF_DIR": str(self.folder / "conf")}
        program = Program(command, self.folder / f"{name}.{number}.log", {**conf, **(variables or {})})
        self._started.append(program)
        return program

    def submit(
        self,
        mode: str,
        wheel: Path,
        settings: Sequence[str],
        conf: Mapping[str, str] | None = None,
        properties: str = "conf/spark-yarn.conf",
        job: str = "extract_features",
    ) -> Program:
        """Start ``jobs/extract_features.py``, or another, on small executors."""
        words = [str(SPARK_HOME / "bin" / "spark-submit"), "--master", "yarn", "--deploy-mode", mode]
        words += ["--properties-file", properties, "--py-files", str(wheel)]
        for key, value in {**MACHINE, **SMALL_EXECUTORS, **(conf or {})}.items():
            words += ["--conf", f"{key}={value}"]
        words.append(f"jobs/{job}.py")
        for setting in settings:
            words += ["--set", setting]
        return self.start(mode, words)

    def drivers(self, program: Program) -> list[Process]:
        """The live processes of an application's driver in cluster mode: JVM, Python, and the shell around them."""
        container = re.compile(rf"CONTAINER_ID=container_{self._application(program)}_\d+_000001".encode())
        return live_processes(lambda variables, _: any(map(container.fullmatch, variables)))

    def executors(self, program: Program) -> list[Process]:
        """The live JVMs of an application's executors."""
        container = f"container_{self._application(program)}_"
        return live_processes(lambda _, command: container in command and "CoarseGrainedExecutorBackend" in command)

    def attempts(self, program: Program) -> int:
        """How many times an application's driver was begun, by its containers' logs."""
        return len({file.parent.name for file in self._driver_files(program)})

    def driver_text(self, program: Program) -> str:
        """What the drivers of an application in cluster mode printed, one attempt after the other."""
        return "".join(file.read_text(errors="replace") for file in self._driver_files(program))

    def _driver_files(self, program: Program) -> list[Path]:
        found = self._application(program)
        return sorted(self.folder.glob(f"target/**/application_{found}/container_{found}_*_000001/stdout"))

    def _application(self, program: Program) -> str:
        found = re.search(r"Submitted application application_(\S+)", program.text())
        assert found, program.text()
        return found[1]


def ended(program: Program, seconds: float = 300) -> int:
    """The exit code of a run, once it has ended."""
    wait_until(lambda: program.exit_code() is not None, seconds, f"{program.log} to end")
    code = program.exit_code()
    assert code is not None
    return code
