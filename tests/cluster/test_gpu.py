"""Executors with GPUs that are none: Spark believes a machine that says so, and hands them out to tasks."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.disturbance import finish
from cluster.programs import SPARK_HOME, Program, wait_until
from cluster.standalone import SMALL_EXECUTORS, Cluster
from cluster.test_pages import on, typed
from cluster.test_readme import SMALLER
from conftest import REPOSITORY, SMALL

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not Path("/proc/self/environ").is_file(), reason="processes are found in /proc"),
]

# Two executors a worker, a GPU each, which two tasks share.
TWO_TASKS_A_GPU = {
    "spark.executor.cores": "2",
    "spark.executor.resource.gpu.amount": "1",
    "spark.task.resource.gpu.amount": "0.5",
}
LOOK = """
import json
from mirabelle.spark.session import open_context
from mirabelle.spark.tasks import run_tasks, take_own_gpu

def look(_):
    import json, os, time
    from pyspark import TaskContext
    took = take_own_gpu()
    time.sleep(0.5)  # long enough that every worker takes a share
    given = TaskContext.get().resources()["gpu"].addresses
    return json.dumps([took, given, os.environ.get("CUDA_VISIBLE_DEVICES"), os.getppid(), os.getpid()])

with open_context({}) as context:
    # The second time in processes that have a GPU already.
    told = [json.loads(text) for _ in range(2) for text in run_tasks(context, 16, look)]
print("told:" + json.dumps(told))
"""


@pytest.fixture(scope="module")
def cluster(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two workers of four cores and two GPUs, by our script and an ``nvidia-smi`` of the test's."""
    folder = tmp_path_factory.mktemp("gpus")
    (folder / "bin").mkdir()
    (folder / "bin" / "nvidia-smi").write_text("#!/bin/sh\nprintf '0\\n1\\n'\n")
    (folder / "bin" / "nvidia-smi").chmod(0o755)
    options = (
        f"-Dspark.worker.resource.gpu.amount=2 -Dspark.worker.resource.gpu.discoveryScript={REPOSITORY}/conf/gpus.sh"
    )
    variables = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "SPARK_WORKER_OPTS": options}
    with Cluster(folder, wheel, cores=4, memory="2g", variables=variables) as started:
        yield started


def test_each_task_sees_the_gpu_that_spark_gave_it_and_no_other(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "look.py").write_text(LOOK)
    run = cluster.submit([], TWO_TASKS_A_GPU, job=str(tmp_path / "look.py"))
    finish(run)
    (line,) = [line for line in run.text().splitlines() if line.startswith("told:")]
    told = json.loads(line.removeprefix("told:"))
    assert len(told) == 32
    seen: dict[int, set[str]] = {}
    processes: dict[int, set[int]] = {}
    for took, given, visible, executor, process in told:
        assert took is True
        assert [visible] == given
        seen.setdefault(executor, set()).add(visible)
        processes.setdefault(executor, set()).add(process)
    assert sorted(map(sorted, seen.values())) == [["0"], ["0"], ["1"], ["1"]]
    assert max(map(len, processes.values())) == 2, "no two tasks shared a GPU"


def refused(run: Program) -> str:
    """The one sentence of a run that must be refused."""
    wait_until(lambda: run.exit_code() is not None, 240, "the run to end")
    assert run.exit_code() == 2, run.text()
    assert "Traceback" not in run.text()
    (error,) = [line for line in run.text().splitlines() if line.startswith("error: ")]
    return error


def test_the_pages_command_comes_as_far_as_keras_that_sees_no_gpu(
    cluster: Cluster, wheel: Path, pictures: Path, cache: Path, tmp_path: Path
) -> None:
    # The rest is as the page and conf/spark-gpu.conf have it; JAX is not here.
    conf = {**SMALL_EXECUTORS, "spark.executor.cores": "4", "spark.task.cpus": "1"}
    conf["spark.executorEnv.KERAS_BACKEND"] = "tensorflow"
    given = " ".join(f"--conf {shlex.quote(f'{key}={value}')}" for key, value in conf.items())
    places = {**on(pictures, tmp_path), "spark-submit --": f"{SPARK_HOME / 'bin' / 'spark-submit'} {given} --"}
    places |= {"spark://HOST:7077": cluster.url, "dist/mirabelle-0.1.0-py3-none-any.whl": str(wheel)}
    run = cluster.start("page", typed("docs/cluster/gpu.md", "spark-submit", places, [*SMALLER, f"cache={cache}"]))
    error = refused(run)
    assert re.search(r"Spark gave a task GPU [01], and Keras on tensorflow sees none; NVIDIA's driver and ", error)


def test_two_gpus_an_executor_are_refused(cluster: Cluster, pictures: Path, cache: Path, tmp_path: Path) -> None:
    settings = [*SMALL, "engine.name=keras", f"images.root={pictures}", f"output={tmp_path / 'out'}", f"cache={cache}"]
    conf = {"spark.executor.resource.gpu.amount": "2", "spark.task.resource.gpu.amount": "1"}
    assert "gpu.amount is 2, and a worker process keeps the GPU of its first task" in refused(
        cluster.submit(settings, {**TWO_TASKS_A_GPU, **conf})
    )
