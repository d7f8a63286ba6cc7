"""Driver killed at random moments with pictures and output in a bucket: nothing lost, nothing twice."""

import io
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from conftest import SMALL, draw
from object_store import Server, upload_folder

PICTURES = 600
SEED = 3
KILLS = 4


def start(bucket: str, output: str, cache: Path, log: Path) -> subprocess.Popen:
    settings = [f"images.root=s3://{bucket}/pictures", f"output=s3://{bucket}/{output}", f"cache={cache}", *SMALL]
    settings += ["extract.chunk_images=40", "extract.task_images=10", "spark.master=local[2]"]
    settings += ["spark.driver.memory=1g", "spark.ui.enabled=false"]
    options = [option for setting in settings for option in ("--set", setting)]
    command = [str(Path(sys.executable).with_name("mirabelle")), "extract", "--quiet", *options]
    with log.open("ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True, env={**os.environ})


def keys(client: Any, bucket: str, prefix: str) -> list[str]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [found["Key"] for page in pages for found in page.get("Contents", [])]


def rows(client: Any, bucket: str, output: str) -> tuple[Counter, dict[str, bytes]]:
    count: Counter = Counter()
    features = {}
    for key in keys(client, bucket, f"{output}/features/"):
        if key.endswith(".parquet"):
            table = pq.read_table(io.BytesIO(client.get_object(Bucket=bucket, Key=key)["Body"].read()))
            count.update(table["path"].to_pylist())
            for path, values in zip(table["path"].to_pylist(), table["features"], strict=True):
                features[path] = values.values.to_numpy().tobytes()
    return count, features


@pytest.mark.long
def test_killed_again_and_again_every_row_is_there_once(
    aws: Server, client: Any, bucket: str, tmp_path: Path, cache: Path
) -> None:
    for i in range(PICTURES):
        draw(tmp_path / "pictures" / "Training" / f"kind {i % 7}" / f"{i}.png", i)
    upload_folder(client, bucket, "pictures/", tmp_path / "pictures")
    log = tmp_path / "log"
    began = time.monotonic()
    assert start(bucket, "whole", cache, log).wait(240) == 0, log.read_text()
    whole_seconds = time.monotonic() - began
    _, expected = rows(client, bucket, "whole")
    assert len(expected) == PICTURES

    moments = random.Random(SEED)
    kept: list[set[str]] = []
    for kill in range(KILLS):
        process = start(bucket, "killed", cache, log)
        if kill == 0:
            # One in the middle of embedding, whatever the machine's speed; the others where they fall.
            while len([k for k in keys(client, bucket, "killed/features/") if k.endswith("_chunk.json")]) < 2:
                assert process.poll() is None, log.read_text()
                time.sleep(0.05)
            time.sleep(moments.uniform(0, 0.5))
        else:
            time.sleep(moments.uniform(0.3, 0.9) * whole_seconds)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kept.append({k for k in keys(client, bucket, "killed/features/") if k.endswith("_chunk.json")})
    assert start(bucket, "killed", cache, log).wait(240) == 0, log.read_text()

    count, found = rows(client, bucket, "killed")
    assert set(count.values()) == {1}
    assert found == expected
    markers = {k for k in keys(client, bucket, "killed/features/") if k.endswith("_chunk.json")}
    # What was committed before a kill was neither lost nor done again.
    assert kept[0]
    assert all(before <= markers for before in kept)
    assert keys(client, bucket, "killed/_staging/") == []
    assert keys(client, bucket, "killed/_lease.json") == []
