"""Can the executors do the work? Asked of each of them before any image is read. [Spark]

What ``make_probe`` returns runs on executors; the rest on the driver.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirabelle.config import Config
from mirabelle.errors import ConfigError, PreflightError
from mirabelle.network.embedding import Precision
from mirabelle.network.preparing import precision_on
from mirabelle.spark.cluster import killed_for_memory, slots, task_cpus
from mirabelle.spark.planning import engine_threads
from mirabelle.spark.tasks import run_tasks, take_own_gpu
from mirabelle.storage import S3Options, absolute, is_s3
from mirabelle.storage.opening import AS_AWS_SAYS
from mirabelle.worker.probe import ENGINE_IMPORTS, IMPORTS, probe

if TYPE_CHECKING:
    from pyspark import SparkConf, SparkContext

MAX_ROUNDS = 5
# Modules that workers import, beside Python's own.
HIDEABLE = (*IMPORTS, *(module for modules in ENGINE_IMPORTS.values() for module in modules), "py4j", "pyspark")


@dataclass(frozen=True)
class Worker:
    """What one executor's Python told of itself and its machine."""

    host: str
    python: str
    cores: int
    cpu: str
    precisions: tuple[Precision, ...]
    versions: dict[str, str]
    problems: tuple[str, ...]
    fast_int8: bool = True


@dataclass(frozen=True)
class Preflight:
    """What the cluster can do, and what follows from it.

    Attributes:
        workers: one an executor machine.
        slots: tasks that run at once, over all.
        threads: each worker's engine may use.
        precision: settled: ``auto`` is bf16 where every machine has it natively.
        warnings: sentences for the user.
    """

    workers: tuple[Worker, ...]
    slots: int
    threads: int
    precision: Precision
    warnings: tuple[str, ...]


def run_preflight(
    context: SparkContext, config: Config, s3: S3Options = AS_AWS_SAYS, certified: Sequence[Precision] = ()
) -> Preflight:
    """Probe every executor and settle what depends on the answers.

    Args:
        context: Spark's.
        config: its engine and paths count.
        s3: how buckets are reached; each executor tries those that the configuration names.
        certified: what ``engine.precision`` auto may be by a certificate, the best first.

    Raises:
        PreflightError: a module is missing somewhere, a version does not do, or the precision cannot be had.
    """
    warnings = check_gpus(context.getConf(), config.engine.name)
    places = tuple(path for path in (absolute(config.images.root), absolute(config.output)) if is_s3(path))
    probing = make_probe(config.engine.name, places, s3)
    facts: list[dict[str, Any]] = []
    at_once = 0
    # Executors join one after the other, and a lost one counts until Spark knows: ask until nothing moves.
    for _ in range(MAX_ROUNDS):
        if (counted := slots(context)) == at_once:
            break
        at_once = counted
        facts = _ask(context, probing, at_once)
    # One answer a machine; one with problems before any without.
    facts.sort(key=lambda fact: len(fact["problems"]))
    by_host = {fact["host"]: _worker(fact) for fact in facts}
    workers = tuple(by_host[host] for host in sorted(by_host))
    for worker in workers:
        if worker.problems:
            raise PreflightError(f"the workers on {worker.host} cannot do the work: {'; '.join(worker.problems)}")
    settled = settle(workers, at_once, task_cpus(context), config, certified)
    return replace(settled, warnings=(*warnings, *settled.warnings))


def check_gpus(conf: SparkConf, engine: str) -> tuple[str, ...]:
    """Warnings about the GPUs that executors have, by Spark's properties.

    Raises:
        PreflightError: Keras would use none of them, or the wrong one.
    """
    executor, task = (conf.get(f"spark.{of}.resource.gpu.amount") for of in ("executor", "task"))
    if not executor:
        return ()
    if engine != "keras":
        return (f"executors have a GPU, and engine.name {engine} uses none; set it to keras, or take other machines",)
    if executor != "1":
        raise PreflightError(
            f"spark.executor.resource.gpu.amount is {executor}, and a worker process keeps the GPU of its first task;"
            " set it to 1, and have an executor for each GPU"
        )
    if not task:
        raise PreflightError(
            "executors have a GPU, and tasks ask for none; set spark.task.resource.gpu.amount, to 0.25 for four tasks"
            " a GPU"
        )
    return ()


def _ask(context: SparkContext, probing: Callable[[int], str], at_once: int) -> list[dict[str, Any]]:
    try:
        # Several probes a slot, so that none is missed while its Python starts.
        return [json.loads(fact) for fact in run_tasks(context, 2 * at_once, probing)]
    except Exception as error:  # Spark wraps whatever a worker raised before our code could answer
        raise PreflightError(_explain(str(error))) from error


def settle(
    workers: tuple[Worker, ...],
    at_once: int,
    cpus_per_task: int,
    config: Config,
    certified: Sequence[Precision] = (),
) -> Preflight:
    """What follows from the workers' answers: threads, precision, warnings."""
    slots_each = -(-at_once // len(workers))
    cores = min(worker.cores for worker in workers)
    threads = engine_threads(cpus_per_task, slots_each, cores)
    native = [precision for precision in workers[0].precisions if all(precision in w.precisions for w in workers)]
    precision = precision_on(config, native, certified)
    if precision == "bf16" and precision not in native and config.engine.name == "openvino":
        raise ConfigError("engine.precision is bf16, which these CPUs don't have natively; use auto or float32")
    if precision == "int8" and len({worker.fast_int8 for worker in workers}) > 1:
        # They add bytes up in 16 bits, which overflow: a cosine of 0.9997 to the others' features was seen.
        raise ConfigError(
            "engine.precision is int8, and some of these CPUs have VNNI or AMX and others have not, whose features"
            " differ a little; take machines of one kind, or engine.precision float32"
        )
    warnings = []
    if threads * slots_each > cores:
        warnings.append(
            f"Spark runs {slots_each} tasks at once on machines of {cores} cores; give local[{cores}] or a larger"
            " spark.task.cpus, or the tasks will take turns"
        )
    if precision == "int8" and not workers[0].fast_int8:
        warnings.append(
            "engine.precision is int8, and these CPUs have neither VNNI nor AMX: it runs, more slowly than on others,"
            " and `mirabelle certify` on one of them measures whether it pays"
        )
    pythons = {worker.python for worker in workers}
    if len(pythons) > 1:
        warnings.append(f"the workers have different Pythons: {', '.join(sorted(pythons))}")
    return Preflight(workers, at_once, threads, precision, tuple(warnings))


def make_probe(engine: str, places: tuple[str, ...] = (), s3: S3Options = AS_AWS_SAYS) -> Callable[[int], str]:
    """The function that executors run: one JSON fact a task."""

    def run(_: int) -> str:
        # Before anything is imported that uses it.
        on_gpu = engine == "keras" and take_own_gpu()
        return json.dumps(probe(engine, places, s3, on_gpu))

    return run


def _worker(fact: dict[str, Any]) -> Worker:
    return Worker(**{**fact, "precisions": tuple(fact["precisions"]), "problems": tuple(fact["problems"])})


def _explain(error: str) -> str:
    """One sentence out of Spark's many lines."""
    if killed := killed_for_memory(error):
        return killed
    lines = [line.strip() for line in error.splitlines()]
    hiding = _hiding(Path.cwd(), error)
    if hiding:
        names = " and ".join(str(path) for path in hiding)
        return f"{names} is found by the workers' Python before the module of that name; rename it, or start elsewhere"
    missing = next((line for line in lines if "ModuleNotFoundError" in line or "No module named" in line), None)
    if missing:
        module = missing.rpartition("No module named")[2].split(";")[0].strip(" '\".)")
        return (
            f"the workers' Python has no module {module}; install it there, point PYSPARK_PYTHON at a Python that has"
            " it, or send it with --py-files"
        )
    mismatch = next((line for line in lines if "PYTHON_VERSION_MISMATCH" in line or "different version" in line), None)
    if mismatch:
        mismatch = mismatch.rpartition("] ")[2].rstrip(". ")
        return f"{mismatch[:300]}; set PYSPARK_PYTHON to the same version on driver and workers"
    program = re.search(r'Cannot run program "([^"]+)": (.*)', error)
    if program:
        return (
            f"the workers' Python {program[1]} does not start ({program[2]}); set PYSPARK_PYTHON to one that is there"
        )
    telling = [line for line in lines if ("Error" in line or "Exception" in line) and not line.startswith("at ")]
    told = telling[-1] if telling else next(filter(None, lines), "no reason given")
    return f"the workers' Python does not start: {told[:300]}"


def _hiding(folder: Path, error: str) -> list[Path]:
    """Files of the working directory, where Python looks first, that hide modules and that an error speaks of.

    A daemon that ends before it can say anything may have met any of them.
    """
    speechless = "reading the port number from pyspark.daemon" in error
    found = []
    for name in sorted({*sys.stdlib_module_names, *HIDEABLE}):
        for path in (folder / f"{name}.py", folder / name / "__init__.py"):
            # One's own checkout may be the working directory.
            ours = getattr(sys.modules.get(name), "__file__", None) == str(path)
            spoken_of = re.search(rf"{re.escape(str(path))}\"|[mM]odule(?: named)? '{name}[.']", error)
            if path.is_file() and not ours and (speechless or spoken_of):
                found.append(path)
    return found
