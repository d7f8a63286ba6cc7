"""The README's own lines for a cluster, copied out of it, on standalone and YARN, with what is shipped.

On whichever Spark these tests run, and in whichever way: the rows are those of Mirabelle's own Spark on one machine.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.disturbance import features, finish
from cluster.programs import LOOPBACK, SPARK_HOME, Program, wait_until
from cluster.standalone import Cluster
from cluster.yarn import MACHINE, Yarn, ended
from conftest import REPOSITORY, SMALL, draw_kinds, read_manifest
from documents import command

pytestmark = pytest.mark.long

# A small network, as the ImageNet weights of conf/fruits.yaml cannot be had everywhere, and pictures that are drawn.
SMALLER = [*SMALL, "images.include=['*.png']", "reduce.components=2"]
# One machine, whose name may have no address.
HERE = ["--conf", f"spark.driver.host={LOOPBACK}", "--conf", f"spark.driver.bindAddress={LOOPBACK}"]


@pytest.fixture(scope="module")
def cluster(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Workers of the size that conf/spark-standalone.conf asks for."""
    with Cluster(tmp_path_factory.mktemp("cluster"), wheel, cores=4, memory="2g") as started:
        yield started


def own_spark() -> dict[str, str]:
    """The variables with which spark-submit is of Mirabelle's own environment, which is not always this one."""
    python = REPOSITORY / ".venv" / "bin" / "python"
    if not python.is_file():
        return {}
    command = [python, "-c", "import pyspark; print(pyspark.__path__[0])"]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    return {"SPARK_HOME": told.stdout.strip(), "PYSPARK_PYTHON": str(python), "PYSPARK_DRIVER_PYTHON": str(python)}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for all tests here, as their rows are compared."""
    return draw_kinds(tmp_path_factory.mktemp("drawn") / "pictures")


@pytest.fixture(scope="module")
def expected(wheel: Path, pictures: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The rows of one machine, on Mirabelle's own Spark."""
    folder = tmp_path_factory.mktemp("alone")
    variables = own_spark()
    command = adapted(wheel, pictures, folder / "output", cache, "local[2]")
    command[0] = str(Path(variables.get("SPARK_HOME", SPARK_HOME)) / "bin" / "spark-submit")
    run = Program(command, folder / "log", variables)
    finish(run)
    run.end()
    manifest = read_manifest(folder / "output")
    assert manifest["cluster"]["master"] == "local[2]"
    return features(folder / "output")


def adapted(
    wheel: Path, pictures: Path, output: Path, cache: Path, master: str = "", line: str = "--master spark://HOST:7077"
) -> list[str]:
    """The README's line with its places replaced, and a smaller network."""
    places = {
        **({"spark://HOST:7077": master} if master else {}),
        "dist/mirabelle-0.1.0-py3-none-any.whl": str(wheel),
        "images.root=/mnt/fruits": f"images.root={pictures}",
        "output=/mnt/out": f"output={output}",
    }
    words = command("README.md", line, "--py-files dist/mirabelle-0.1.0-py3-none-any.whl")
    assert set(places) <= set(words)
    program, *rest = [places.get(word, word) for word in words]
    assert program == "spark-submit"
    more = [word for setting in [*SMALLER, f"cache={cache}"] for word in ("--set", setting)]
    here = HERE if master else [word for key, value in MACHINE.items() for word in ("--conf", f"{key}={value}")]
    return [str(SPARK_HOME / "bin" / program), *here, *rest, *more]


def test_all_tasks_run_on_the_clusters_executors(
    cluster: Cluster, wheel: Path, pictures: Path, cache: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    output = tmp_path / "output"
    run = cluster.start("driver", adapted(wheel, pictures, output, cache, cluster.url))
    finish(run)
    manifest = read_manifest(output)
    assert manifest["status"] == "done"
    ran_on = manifest["cluster"]
    assert (ran_on["master"], ran_on["executors"], ran_on["cores"]) == (cluster.url, 2, 8)
    assert f"on {cluster.url}: 2 executors, 8 tasks at once, application {ran_on['application']}" in run.text()
    assert features(output) == expected


def test_a_master_that_is_not_there_is_one_sentence_and_nothing_runs_here(
    cluster: Cluster, wheel: Path, pictures: Path, cache: Path, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    run = cluster.start("driver", adapted(wheel, pictures, output, cache, "spark://127.0.0.1:1"))
    wait_until(lambda: run.exit_code() is not None, 240, "the run to end")
    assert run.exit_code() == 2, run.text()
    (error,) = [line for line in run.text().splitlines() if line.startswith("error: ")]
    assert "nothing answers at spark://127.0.0.1:1; check spark.master, or what --master names" in error
    assert not (output / "features").exists()


@pytest.mark.parametrize("mode", ["client", "cluster"])
def test_on_yarn_all_tasks_run_on_executors(
    yarn: Yarn, wheel: Path, pictures: Path, cache: Path, tmp_path: Path, mode: str, expected: dict[str, bytes]
) -> None:
    output = tmp_path / "output"
    run = yarn.start(mode, adapted(wheel, pictures, output, cache, line=f"--deploy-mode {mode}"))
    assert ended(run) == 0, run.text()
    manifest = read_manifest(output)
    ran_on = manifest["cluster"]
    assert (ran_on["master"], ran_on["deploy_mode"]) == ("yarn", mode)
    assert (ran_on["executors"], ran_on["cores"]) == (2, 8)
    assert manifest["exit_code"] == 0
    assert features(output) == expected
