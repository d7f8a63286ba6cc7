"""The pages on local, standalone and YARN: their commands, copied out of them, run as they stand."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from cluster.conftest import PYTHON
from cluster.disturbance import features, finish
from cluster.programs import SPARK_HOME
from cluster.standalone import Cluster
from cluster.test_readme import HERE, SMALLER
from cluster.yarn import MACHINE, Yarn
from conftest import read_manifest
from documents import commands
from mirabelle.cluster.packing import Pack

pytestmark = pytest.mark.long

BIN = Path(sys.executable).parent
# Less than what is reckoned for photographs: this machine has two cores.
SMALL_SUBMIT = [
    "submit.executor_cores=1",
    f"submit.python={PYTHON}",
    "spark.driver.memory=1g",
    "spark.executor.memory=512m",
]


@pytest.fixture(scope="module")
def cluster(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster"), wheel, cores=2, memory="2g") as started:
        yield started


def typed(document: str, containing: str, places: dict[str, str], settings: Sequence[str]) -> list[str]:
    """A shell that is given the document's line, with its places replaced and further settings at its end."""
    (line,) = [line for line in commands(document) if containing in line]
    for place, own in {
        "spark-submit --": f"{SPARK_HOME / 'bin' / 'spark-submit'} --",
        "mirabelle ": f"{BIN / 'mirabelle'} ",
        **places,
    }.items():
        line = line.replace(place, own)
    return ["/bin/bash", "-c", f"{line} {shlex.join(word for one in settings for word in ('--set', one))}"]


def on(pictures: Path, output: Path) -> dict[str, str]:
    return {"images.root=/mnt/fruits": f"images.root={pictures}", "output=/mnt/out": f"output={output}"}


def test_submit_to_a_standalone_cluster(
    cluster: Cluster, packed: Pack, pictures: Path, cache: Path, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    more = [*SMALLER, *SMALL_SUBMIT, f"cache={cache}", f"submit.pack={packed.wheel.parent}"]
    more += [word for word in HERE if word != "--conf"]
    places = {**on(pictures, output), "spark://HOST:7077": cluster.url}
    run = cluster.start("submit", typed("docs/cluster/standalone.md", "mirabelle submit", places, more))
    finish(run)
    ran_on = read_manifest(output)["cluster"]
    assert (ran_on["master"], ran_on["deploy_mode"]) == (cluster.url, "client")
    assert ran_on["executors"] >= 1
    assert len(features(output)) == 54
    alone = tmp_path / "alone"
    places = on(pictures, alone)
    finish(
        cluster.start("local", typed("docs/cluster/local.md", "mirabelle run", places, [*SMALLER, f"cache={cache}"]))
    )
    assert features(output) == features(alone)


def test_submit_to_yarn(yarn: Yarn, packed: Pack, pictures: Path, cache: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    more = [*SMALLER, *SMALL_SUBMIT, f"cache={cache}", f"submit.pack={packed.wheel.parent}"]
    more += [f"{key}={value}" for key, value in MACHINE.items()]
    run = yarn.start("submit", typed("docs/cluster/yarn.md", "mirabelle submit", on(pictures, output), more))
    finish(run)
    assert "pictures:   54" in run.text()
    manifest = read_manifest(output)
    ran_on = manifest["cluster"]
    assert (ran_on["master"], ran_on["deploy_mode"], ran_on["executors"]) == ("yarn", "cluster", 1)
    assert manifest["exit_code"] == 0
    assert "keras" not in manifest["versions"]
    assert len(features(output)) == 54


def test_by_hand_to_yarn_the_rows_are_those_of_this_machine(
    yarn: Yarn, packed: Pack, wheel: Path, pictures: Path, cache: Path, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    machine = shlex.join(word for key, value in MACHINE.items() for word in ("--conf", f"{key}={value}"))
    places = {
        **on(pictures, output),
        "dist/cluster": str(packed.wheel.parent),
        "--master yarn": f"--master yarn {machine}",
    }
    finish(yarn.start("cluster", typed("docs/cluster/yarn.md", "--archives", places, SMALLER)))
    manifest = read_manifest(output)
    assert (manifest["cluster"]["master"], manifest["cluster"]["deploy_mode"]) == ("yarn", "cluster")
    assert "keras" not in manifest["versions"] and "tensorflow" not in manifest["versions"]
    assert list((output / "report").glob("*/index.html"))
    alone = tmp_path / "alone"
    places = {**on(pictures, alone), "dist/mirabelle-0.1.0-py3-none-any.whl": str(wheel)}
    finish(yarn.start("local", typed("docs/cluster/local.md", "spark-submit", places, [*SMALLER, f"cache={cache}"])))
    assert features(output) == features(alone)
