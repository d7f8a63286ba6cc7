"""How large a job is made, and what docs/cluster.md says of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from conftest import REPOSITORY
from mirabelle.cluster.sizing import prefix_warning, size_job
from mirabelle.config import Config, load
from mirabelle.storage import DiskStore
from mirabelle.table.runlog import RunLog

TABLE = re.findall(
    r"^\| ([\d,]+) (of 100 x 100|photographs).*? \| (\d+) \| (\d+) \| (\d) \+ (\d) GiB \| (\d+) min \| ([\d.]+) \|$",
    (REPOSITORY / "docs" / "cluster.md").read_text(),
    re.MULTILINE,
)


def configured(tmp_path: Path, *more: str) -> Config:
    return load(None, ["images.root=.", f"output={tmp_path / 'output'}", *more], {})


@pytest.mark.parametrize("row", TABLE, ids=[row[0] for row in TABLE])
def test_the_pages_table_is_what_is_reckoned(row: tuple[str, ...], tmp_path: Path) -> None:
    images, kind, minutes, executors, heap, overhead, takes, dollars = row
    count = int(images.replace(",", ""))
    config = configured(tmp_path, f"submit.minutes={minutes}")
    size = size_job(config, count, count * (10_000 if kind.startswith("of") else 300_000))
    assert (size.executors, size.cores) == (int(executors), 4)
    assert (size.memory_gib, size.overhead_gib) == (int(heap), int(overhead))
    assert (round(size.seconds / 60), f"{size.dollars:.2f}") == (int(takes), dollars)


def test_the_table_has_rows() -> None:
    assert len(TABLE) == 5


def test_the_outputs_own_last_run_knows_the_speed_best(tmp_path: Path) -> None:
    config = configured(tmp_path)
    log = RunLog(DiskStore(), config.output, "run", {})
    log.update(images_per_second=100.0, slots=10, embedding={"backbone": "resnet50"}, counts={"embedded": 5000})
    log.finish("done")
    size = size_job(config, 10_000, 0)
    assert (size.rate, size.rate_from) == (10.0, f"run {log.run_id}")
    # One that embedded a few pictures says nothing, nor one of another network.
    assert size_job(configured(tmp_path, "backbone.name=vgg16"), 10_000, 0).rate == 13.0
    assert size_job(configured(tmp_path, "submit.images_per_second=7"), 10_000, 0).rate == 7.0


def test_one_prefix_that_is_asked_too_much_is_told_of(tmp_path: Path) -> None:
    def warned(root: str, images: int) -> str | None:
        config = configured(tmp_path, f"images.root={root}", "submit.minutes=1")
        return prefix_warning(config, size_job(config, images, 0))

    assert "spread them over 3, or its retries set the pace" in str(warned("s3://fruits/all", 10**6))
    assert warned("s3://fruits/all", 10**4) is None
    assert warned("/mnt/fruits", 10**6) is None
