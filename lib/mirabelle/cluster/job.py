"""A job as every kind of cluster takes it: what it runs, from which files, how large. Touches nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from mirabelle.cluster.packing import CACHE, ENVIRONMENT
from mirabelle.cluster.sizing import Size

PYTHON = f"./{ENVIRONMENT}/bin/python"


@dataclass(frozen=True)
class Files:
    """Where the cluster finds what was packed: paths, or s3:// URIs."""

    script: str
    zipped: str
    environment: str
    network: str
    config: str


@dataclass(frozen=True)
class Job:
    """What is submitted.

    Attributes:
        name: for people, in the cluster's own lists.
        token: the same one starts the job once.
        files: what it runs from.
        size: of it.
    """

    name: str
    token: str
    files: Files
    size: Size

    @property
    def arguments(self) -> list[str]:
        """Of the script; all settings are in the one file, as arguments may be too long for a cluster."""
        return ["--config", self.files.config, "--set", f"cache={CACHE}"]

    @property
    def properties(self) -> dict[str, str]:
        """Spark's, on every kind of cluster."""
        size = self.size
        return {
            "spark.archives": f"{self.files.environment}#{ENVIRONMENT},{self.files.network}#{CACHE}",
            "spark.submit.pyFiles": self.files.zipped,
            "spark.executor.instances": str(size.executors),
            "spark.executor.cores": str(size.cores),
            "spark.executor.memory": f"{size.memory_gib}g",
            "spark.executor.memoryOverhead": f"{size.overhead_gib}g",
            "spark.driver.cores": str(size.cores),
            "spark.driver.memory": "4g",
            "spark.driver.memoryOverhead": "3g",
            "spark.task.cpus": "1",
            # So many as were asked for, from the start: nothing is learnt by growing slowly.
            "spark.dynamicAllocation.enabled": "false",
        }


@dataclass(frozen=True)
class Request:
    """One call of a service of AWS, as botocore names it."""

    service: str
    operation: str
    parameters: dict[str, Any]


class Phase(Enum):
    """Where a submitted job stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class State:
    """What the cluster says of a job.

    Attributes:
        phase: in our words.
        told: in its own, with the details that it gives.
    """

    phase: Phase
    told: str

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self.phase in (Phase.DONE, Phase.FAILED, Phase.CANCELLED)


class Target(Protocol):
    """A kind of cluster that is spoken to over the network."""

    def requests(self, job: Job) -> Sequence[Request]:
        """What would be asked to start a job, in this order; ids that earlier answers give stand as ``<...>``."""

    def start(self, job: Job) -> str:
        """Start it; its id."""

    def state(self, identity: str) -> State:
        """Where it stands."""

    def cancel(self, identity: str) -> None:
        """End it."""

    def told(self, identity: str) -> list[tuple[str, str]]:
        """Where it and its logs are looked at."""
