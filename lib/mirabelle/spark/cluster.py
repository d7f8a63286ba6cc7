"""The cluster that a session works on: its size, and whether it sends executors at all. [Spark, its master]

Driver only. Spark itself waits for executors for as long as anyone lets it, and says so in its log alone.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mirabelle.errors import PreflightError

if TYPE_CHECKING:
    from pyspark import SparkContext

log = logging.getLogger(__name__)

LOOKS_EVERY_SECONDS = 0.5
SAYS_SO_AFTER_SECONDS = 10.0


@dataclass(frozen=True)
class Cluster:
    """Where a session's tasks run.

    Attributes:
        master: as Spark has it, ``local[2]``, ``spark://host:7077``, ``yarn``.
        deploy_mode: of the driver, ``client`` or ``cluster``.
        application: Spark's id for it, which the cluster's own pages and logs go by.
        executors: processes that tasks run in; 0: the driver's own.
        cores: tasks that run at once, over all.
    """

    master: str
    deploy_mode: str
    application: str
    executors: int
    cores: int

    def __str__(self) -> str:
        where = f"{self.executors:,} executors" if self.executors else "the driver alone"
        return f"on {self.master}: {where}, {self.cores:,} tasks at once, application {self.application}"


def cluster_of(context: SparkContext) -> Cluster:
    """What Spark knows of the cluster at this moment; executors may still join."""
    master = str(context.master)
    executors = 0 if is_local(master) else _executors(context)
    mode = context.getConf().get("spark.submit.deployMode", "client") or "client"
    return Cluster(master, mode, str(context.applicationId), executors, slots(context))


def slots(context: SparkContext) -> int:
    """Tasks that run at once, over the whole cluster."""
    # Asked of the scheduler: defaultParallelism is a setting, and may be anything.
    scala = context._jsc.sc()
    return max(1, int(scala.maxNumConcurrentTasks(scala.resourceProfileManager().defaultResourceProfile())))


def task_cpus(context: SparkContext) -> int:
    """Cores that Spark sets aside for each task."""
    return int(context.getConf().get("spark.task.cpus", "1") or "1")


def await_executor(context: SparkContext, seconds: float) -> None:
    """Return once a first executor has come; at once where the driver does the work itself.

    Args:
        context: Spark's.
        seconds: to wait at most.

    Raises:
        PreflightError: none has come; the sentence has what was asked, what the cluster offers, and the setting.
    """
    master = str(context.master)
    if is_local(master):
        return
    given_up = threading.Event()
    done = threading.Event()

    def watch() -> None:
        started = time.monotonic()
        said = False
        while not done.wait(LOOKS_EVERY_SECONDS) and not _executors(context):
            waited = time.monotonic() - started
            if waited > seconds:
                given_up.set()
                # Time and again: the job may not have begun yet.
                context.cancelAllJobs()
            elif waited > SAYS_SO_AFTER_SECONDS and not said:
                said = True
                log.info("waiting for executors from %s, for %.0f s at most", master, seconds)

    watcher = threading.Thread(target=watch, daemon=True, name="waiting for executors")
    watcher.start()
    try:
        # With dynamic allocation none comes before there is something to do.
        context._jsc.sc().range(0, 1, 1, 1).count()
    except Exception as error:
        if given_up.is_set():
            raise PreflightError(_why_none(context, master, seconds)) from error
        raise
    finally:
        done.set()
        watcher.join()


def killed_for_memory(said: str) -> str | None:
    """A sentence for an executor that had too little, by Spark's words for how it ended; None: it ended otherwise.

    A JVM would tell; this is the Python beside it, which YARN or the kernel ended without a word to it.
    """
    exceeding = re.search(r"memory limits?\.\s.*?([\d.]+ [KMGT]?i?B of [\d.]+ [KMGT]?i?B) physical memory used", said)
    if not exceeding and not re.search(r"[Ee]xit ?(code is|code|status):? 137", said):
        return None
    used = f"{exceeding[1]} used" if exceeding else "exit code 137"
    return (
        f"an executor's container was killed for its memory ({used}); set spark.executor.memoryOverhead higher, to"
        " about 1g for each of spark.executor.cores: the Python workers live in it, outside of spark.executor.memory"
    )


def is_local(master: str) -> bool:
    """Whether the driver does the work itself; ``local-cluster[...]``, which tests take, has executors."""
    return re.match(r"local(\[|$)", master) is not None


def _executors(context: SparkContext) -> int:
    # The driver is in this map, too.
    return int(context._jsc.sc().getExecutorMemoryStatus().size()) - 1


def _why_none(context: SparkContext, master: str, seconds: float) -> str:
    conf = context.getConf()
    memory = int(context._jsc.sc().executorMemory())
    cores = conf.get("spark.executor.cores")
    asked = f"an executor asks for {memory:,} MiB (spark.executor.memory)"
    asked += f" and {cores} cores (spark.executor.cores)" if cores else ""
    try:
        offered = _offer(context, master) if master.startswith("spark://") else ""
    except Exception as error:  # the master's own answer, by Spark's inner ways; without it the sentence is shorter
        log.debug("the master did not say what it has: %s", error)
        offered = ""
    return (
        f"no executor has come from {master} within {seconds:.0f} s (limits.executor_wait_seconds): {asked}"
        f"{offered or '; ask for less, or make room on the cluster'}"
    )


def _offer(context: SparkContext, master: str) -> str:
    """What a standalone cluster's workers have, as the end of a sentence, with the way out."""
    state = _master_state(context, master)
    alive = [worker for worker in state.workers() if worker.state().toString() == "ALIVE"]
    if not alive:
        return ", and the cluster has no worker; start one with sbin/start-worker.sh"
    own = context.getConf()
    memory, cores = int(context._jsc.sc().executorMemory()), int(own.get("spark.executor.cores") or 1)
    most = max(alive, key=lambda worker: worker.memory())
    told = (
        f", and the largest of {len(alive)} workers has {most.memory():,} MiB and"
        f" {max(worker.cores() for worker in alive)} cores"
    )
    if most.memory() < memory:
        return f"{told}; set spark.executor.memory to {most.memory()}m or less"
    if all(worker.cores() < cores for worker in alive):
        return f"{told}; set spark.executor.cores to {max(worker.cores() for worker in alive)} or less"
    free = max(alive, key=lambda worker: (worker.coresFree() >= cores, worker.memoryFree()))
    return (
        f"{told}, of which {free.memoryFree():,} MiB and {free.coresFree()} cores are free; wait for the other"
        " applications, or limit them with spark.cores.max"
    )


def _master_state(context: SparkContext, master: str) -> Any:
    """A standalone master's answer to ``RequestMasterState``, which its own page is made of."""
    jvm: Any = context._jvm

    def object_of(name: str) -> Any:
        return jvm.java.lang.Class.forName(f"{name}$").getField("MODULE$").get(None)

    request = object_of("org.apache.spark.deploy.DeployMessages$RequestMasterState")
    tags = object_of("scala.reflect.ClassTag")
    tag = tags.apply(jvm.java.lang.Class.forName("org.apache.spark.deploy.DeployMessages$MasterStateResponse"))
    remote = context._jsc.sc().env().rpcEnv()
    for place in master.removeprefix("spark://").split(","):
        host, _, port = place.rpartition(":")
        state = remote.setupEndpointRef(jvm.org.apache.spark.rpc.RpcAddress(host, int(port)), "Master").askSync(
            request, tag
        )
        if state.status().toString() == "ALIVE":
            return state
    raise PreflightError(f"none of {master} is the acting master")
