"""On a real YARN: where tasks run, how runs end, and what is left when containers, drivers and nodes are killed."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from cluster.disturbance import features, finish, markers, table
from cluster.programs import SPARK_HOME, Program, wait_until
from cluster.yarn import Yarn, ended
from conftest import SMALL, break_some, draw, read_manifest
from mirabelle.storage import DiskStore
from mirabelle.table.lease import FILE, hold

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not Path("/proc/self/environ").is_file(), reason="processes are found in /proc"),
]

BROKEN = 3
CHUNK_IMAGES = 100


def settings_for(pictures: Path, output: Path, cache: Path, *more: str) -> list[str]:
    return [*SMALL, f"images.root={pictures}", f"output={output}", f"cache={cache}", *more]


def test_the_same_rows_in_cluster_mode_with_dynamic_allocation_and_speculation(
    yarn: Yarn, wheel: Path, pictures: Path, cache: Path, tmp_path: Path
) -> None:
    codes = break_some(pictures)
    settings = settings_for(pictures, tmp_path / "output", cache, "limits.max_reject_share=0.5")
    conf = {
        "spark.dynamicAllocation.enabled": "true",
        "spark.dynamicAllocation.shuffleTracking.enabled": "true",
        "spark.dynamicAllocation.maxExecutors": "3",
        "spark.speculation": "true",
        "spark.speculation.multiplier": "1.1",
        "spark.speculation.quantile": "0.1",
    }
    run = yarn.submit("cluster", wheel, [*settings, "extract.task_images=5"], conf)
    assert ended(run) == 0, run.text() + yarn.driver_text(run)
    manifest = read_manifest(tmp_path / "output")
    assert (manifest["cluster"]["master"], manifest["cluster"]["deploy_mode"]) == ("yarn", "cluster")
    assert (manifest["status"], manifest["exit_code"]) == ("done", 0)
    alone = [s.replace(str(tmp_path / "output"), str(tmp_path / "alone")) for s in settings]
    finish(yarn.start("local", local_command(wheel, alone)))
    assert features(tmp_path / "output") == features(tmp_path / "alone")
    rejects = table(tmp_path / "output", "rejects")
    assert dict(zip(rejects["path"], rejects["code"], strict=True)) == codes


def local_command(wheel: Path, settings: list[str]) -> list[str]:
    words = [str(SPARK_HOME / "bin" / "spark-submit"), "--master", "local[2]", "--py-files", str(wheel)]
    words.append("jobs/extract_features.py")
    return [*words, *(word for setting in settings for word in ("--set", setting))]


@pytest.mark.parametrize(
    ("more", "code", "told"),
    [
        (("backbone.nme=vgg16",), 2, "error: unknown key backbone.nme; did you mean backbone.name?"),
        pytest.param(("reduce.variance=0.5", "images.root={missing}"), 2, "{missing}", marks=pytest.mark.full),
        (("limits.max_reject_share=0",), 1, "failed its bar: 3 of 57 images"),
    ],
    ids=["before a session", "a folder that is not there", "after the work"],
)
def test_in_cluster_mode_yarn_is_told_the_code_and_the_sentence_and_does_not_try_again(
    yarn: Yarn, wheel: Path, pictures: Path, cache: Path, tmp_path: Path, more: tuple[str, ...], code: int, told: str
) -> None:
    break_some(pictures)
    missing = str(tmp_path / "missing")
    given = [setting.format(missing=missing) for setting in more]
    # As where nobody gave conf/spark-yarn.conf: YARN itself would try twice.
    settings = settings_for(pictures, tmp_path / "output", cache, *given)
    run = yarn.submit("cluster", wheel, settings, properties="conf/spark-standalone.conf")
    assert ended(run) == 1, "spark-submit knows no code but this for a driver that ran elsewhere"
    assert f"exit code {code}: " in run.text()
    assert told.format(missing=missing) in run.text()
    assert yarn.attempts(run) == 1
    assert "Traceback" not in yarn.driver_text(run)
    if (tmp_path / "output" / "runs").exists():
        manifest = read_manifest(tmp_path / "output")
        assert (manifest["exit_code"], manifest["status"]) == (code, "failed")
        assert manifest["error"] in run.text()


def test_in_client_mode_the_shell_gets_the_code(
    yarn: Yarn, wheel: Path, pictures: Path, cache: Path, tmp_path: Path
) -> None:
    run = yarn.submit("client", wheel, settings_for(pictures, tmp_path, cache, "backbone.nme=vgg16"))
    assert ended(run) == 2, run.text()


def test_an_output_in_use_is_exit_code_3(yarn: Yarn, wheel: Path, pictures: Path, cache: Path, tmp_path: Path) -> None:
    settings = settings_for(pictures, tmp_path / "output", cache)
    with hold(DiskStore(), str(tmp_path / "output"), "run-1", "extract"):
        client = yarn.submit("client", wheel, settings)
        cluster = yarn.submit("cluster", wheel, settings)
        assert ended(client) == 3, client.text()
        assert ended(cluster) == 1
    assert "is in use by run run-1" in client.text()
    assert "exit code 3: error: " in cluster.text()
    assert yarn.attempts(cluster) == 1


def test_a_container_killed_for_its_memory_names_the_setting(
    yarn: Yarn, wheel: Path, pictures: Path, cache: Path, tmp_path: Path
) -> None:
    # Three Pythons beside one JVM, in room for the JVM alone.
    conf = {"spark.executor.memoryOverhead": "16m", "spark.executor.cores": "3", "spark.executor.instances": "1"}
    settings = settings_for(pictures, tmp_path / "output", cache, "backbone.name=resnet50", "extract.task_images=9")
    run = yarn.submit("client", wheel, settings, conf)
    assert ended(run) == 2, run.text()
    (error,) = [line for line in run.text().splitlines() if line.startswith("error: ")]
    assert "an executor's container was killed for its memory" in error
    assert "set spark.executor.memoryOverhead higher" in error


def test_a_second_attempt_takes_the_lease_of_the_first_and_goes_on(
    yarn: Yarn, wheel: Path, cache: Path, tmp_path: Path
) -> None:
    pictures = many(tmp_path / "pictures", 600)
    output = tmp_path / "output"
    settings = settings_for(pictures, output, cache, "extract.chunk_images=50", "backbone.input_px=64")
    run = yarn.submit("cluster", wheel, settings, {"spark.yarn.maxAppAttempts": "2"})
    wait_until(lambda: markers(output), 240, "a first chunk", pause_s=0.02)
    kill_driver(yarn, run)
    assert ended(run) == 0, run.text() + yarn.driver_text(run)
    assert yarn.attempts(run) == 2
    assert not (output / FILE).exists()
    assert len(features(output)) == 600
    first, second = (path.read_text() for path in sorted((output / "runs").glob("*.json")))
    assert '"status": "running"' in first
    assert '"status": "done"' in second


def many(folder: Path, images: int) -> Path:
    for number in range(images):
        draw(folder / "Training" / f"kind{number % 3}" / f"{number}.png", number)
    for number in range(BROKEN):
        (folder / "Training" / "kind0" / f"empty{number}.png").touch()
    return folder


def kill_driver(yarn: Yarn, run: Program) -> None:
    processes = wait_until(lambda: yarn.drivers(run), 120, "a driver")
    for process in processes:
        process.kill()


@pytest.mark.parametrize(("kills", "images"), [(4, 1000), pytest.param(10, 2000, marks=pytest.mark.full)])
def test_after_kills_no_picture_is_lost_or_there_twice(
    kills: int, images: int, yarn: Yarn, wheel: Path, cache: Path, tmp_path: Path
) -> None:
    """Last of this file, as one of the two nodes does not come back."""
    pictures = many(tmp_path / "pictures", images)
    settings = settings_for(pictures, tmp_path / "output", cache, f"extract.chunk_images={CHUNK_IMAGES}")
    # Larger than elsewhere, so that a chunk takes longer than a kill and its wait.
    settings += ["extract.task_images=50", "backbone.input_px=96"]
    output = tmp_path / "output"
    chance = random.Random(kills)
    victims = ["driver"] * (2 * kills // 5) + ["executor"] * (kills // 2) + ["node"]
    chance.shuffle(victims)
    conf = {"spark.yarn.maxAppAttempts": "9", "spark.yarn.max.executor.failures": "99"}
    run = yarn.submit("cluster", wheel, settings, conf)
    story = []
    chunks = -(-(images + BROKEN) // CHUNK_IMAGES)
    for number, victim in enumerate(victims):
        wait_until(lambda at=number: len(markers(output)) > at * (chunks - 2) / kills, 240, "a kill", pause_s=0.02)
        assert run.exit_code() is None, "\n".join([*story, run.text(), yarn.driver_text(run)])
        time.sleep(chance.uniform(0, 0.5))
        story.append(f"{victim} at {len(markers(output))} chunks")
        if victim == "node":
            yarn.stop_node(1)
        elif victim == "driver":
            kill_driver(yarn, run)
        else:
            executors = wait_until(lambda: yarn.executors(run), 120, "an executor")
            chance.choice(executors).kill()
    assert ended(run, 600) == 0, "\n".join([*story, run.text(), yarn.driver_text(run)])
    yarn.node_is_gone(1)
    found = features(output)
    assert len(found) == images, story
    assert len(table(output, "rejects")) == BROKEN
    assert sum(facts["embedded"] for facts in markers(output).values()) == images
    alone = [s.replace(f"output={output}", f"output={tmp_path / 'alone'}") for s in settings]
    finish(yarn.start("local", local_command(wheel, alone)))
    assert found == features(tmp_path / "alone")
