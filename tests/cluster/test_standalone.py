"""Exactly once on a real cluster: drivers, executors and workers are killed, and the rows are those of a quiet run."""

from __future__ import annotations

import random
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import cache as memoise
from pathlib import Path

import pytest

import mirabelle
from cluster.disturbance import Disturbed, Quiet, features, finish, markers, plan_kills, table, tasks_by_executor
from cluster.programs import wait_until
from cluster.standalone import Cluster
from conftest import SMALL, draw, read_manifest

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not Path("/proc/self/environ").is_file(), reason="processes are found in /proc"),
]

BROKEN = 3
CHUNK_IMAGES = 200
SENT_VERSION = f"{mirabelle.__version__}+sent"
EVENT_LOG = {
    "spark.eventLog.enabled": "true",
    "spark.eventLog.rolling.enabled": "false",
    "spark.eventLog.compress": "false",
}


@pytest.fixture(scope="module")
def sent_wheel(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package under a version of its own, so that workers can tell it from an installation beside it."""
    copy = tmp_path_factory.mktemp("sent") / wheel.name
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(copy, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "mirabelle/__init__.py":
                content += b'\n__version__ += "+sent"\n'
            new.writestr(name, content)
    return copy


@pytest.fixture(scope="module")
def cluster(sent_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Logs stay in the folder for a look afterwards."""
    with Cluster(tmp_path_factory.mktemp("cluster"), sent_wheel) as started:
        yield started


@pytest.fixture(scope="module")
def quiet(cluster: Cluster, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Quiet]:
    """Draw so many pictures and embed them on the cluster; once a number."""

    @memoise
    def run(images: int) -> Quiet:
        folder = tmp_path_factory.mktemp("quiet")
        for number in range(images):
            draw(folder / "pictures" / "Training" / f"kind{number % 3}" / f"{number}.png", number)
        for number in range(BROKEN):
            (folder / "pictures" / "Training" / "kind0" / f"empty{number}.png").touch()
        settings = (*SMALL, f"images.root={folder / 'pictures'}", f"cache={cache}")
        settings += (f"extract.chunk_images={CHUNK_IMAGES}", "extract.task_images=50")
        events = folder / "events"
        events.mkdir()
        began = time.monotonic()
        conf = {**EVENT_LOG, "spark.eventLog.dir": events.as_uri()}
        finish(cluster.submit((*settings, f"output={folder / 'output'}"), conf))
        took_s = time.monotonic() - began
        manifest = read_manifest(folder / "output")
        embed_s = manifest["seconds"]["embed"]
        pace_s = embed_s / manifest["counts"]["chunks"]
        (log,) = events.iterdir()
        return Quiet(images, settings, folder / "output", pace_s, took_s - embed_s, tasks_by_executor(log))

    return run


def test_a_cluster_gives_what_one_machine_gives(
    cluster: Cluster, quiet: Callable[[int], Quiet], tmp_path: Path
) -> None:
    run = quiet(3000)
    manifest = read_manifest(run.output)
    assert [worker["versions"]["mirabelle"] for worker in manifest["workers"]] == [SENT_VERSION]
    assert manifest["counts"]["embedded"] == manifest["counts"]["model_rows"] == run.images
    assert manifest["slots"] == 2, "both executors are counted, though one joins after the other"
    assert len(run.executors) == 2
    assert min(run.executors.values()) > sum(run.executors.values()) / 4
    finish(cluster.submit((*run.settings, f"output={tmp_path}"), master="local[2]"))
    assert features(run.output) == features(tmp_path)


@pytest.mark.parametrize(
    ("conf", "told"),
    [
        (
            {"spark.executor.memory": "3g"},
            "an executor asks for 3,072 MiB (spark.executor.memory) and 1 cores (spark.executor.cores), and the largest"
            " of 2 workers has 1,024 MiB and 1 cores; set spark.executor.memory to 1024m or less",
        ),
        pytest.param(
            {"spark.executor.cores": "2"},
            "has 1,024 MiB and 1 cores; set spark.executor.cores to 1 or less",
            marks=pytest.mark.full,
        ),
        ({"spark.executor.memory": "3g", "spark.dynamicAllocation.enabled": "true"}, "to 1024m or less"),
    ],
    ids=["memory", "cores", "dynamic allocation"],
)
def test_executors_that_no_worker_has_room_for_are_one_sentence(
    conf: dict[str, str], told: str, cluster: Cluster, pictures: Path, cache: Path, tmp_path: Path
) -> None:
    settings = [*SMALL, f"images.root={pictures}", f"output={tmp_path / 'output'}", f"cache={cache}"]
    run = cluster.submit([*settings, "limits.executor_wait_seconds=3"], conf)
    wait_until(lambda: run.exit_code() is not None, 120, "the run to end")
    assert run.exit_code() == 2, run.text()
    (error,) = [line for line in run.text().splitlines() if line.startswith("error: ")]
    assert f"no executor has come from {cluster.url} within 3 s (limits.executor_wait_seconds): " in error
    assert error.endswith(told)
    assert "Traceback" not in run.text()


@pytest.mark.parametrize(("kills", "images"), [(3, 1500), pytest.param(20, 9000, marks=pytest.mark.full)])
def test_killed_anywhere_no_picture_is_lost_or_there_twice(
    cluster: Cluster, quiet: Callable[[int], Quiet], tmp_path: Path, kills: int, images: int
) -> None:
    expected = quiet(images)
    chance = random.Random(kills)
    run = Disturbed(cluster, expected, tmp_path, chance)
    try:
        for kill in plan_kills(kills, -(-(images + BROKEN) // CHUNK_IMAGES), chance):
            run.kill(kill)
        run.finish()
        assert features(tmp_path) == features(expected.output)
        assert set(table(tmp_path, "rejects")["path"]) == set(table(expected.output, "rejects")["path"])
        found = markers(tmp_path)
        assert sum(facts["embedded"] for facts in found.values()) == images
        assert sum(facts["rejected"] for facts in found.values()) == BROKEN
        again = [path for path, when in run.committed.items() if path not in found or path.stat().st_mtime_ns != when]
        assert not again, "chunks that were finished before a kill were made again"
        counts = read_manifest(tmp_path)["counts"]
        assert counts["listed"] == images + BROKEN == counts["embedded"] + counts["rejected"] + counts["unchanged"]
        assert not [path for path in (tmp_path / "_staging").rglob("*") if path.is_file()]
    except BaseException as error:
        error.add_note("\n".join(["killed:", *run.story]))
        raise
    finally:
        run.end()
