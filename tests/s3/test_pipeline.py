"""Whole runs from bucket to bucket, by the command that a user types, against a real server."""

import csv
import json
import re
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest

from conftest import SMALL, TINTS, draw
from object_store import Server, connect, put, upload_folder
from s3.commands import BUCKET, SPARK, Done, Place, Watcher
from s3.faults import ERRORS, TRUNCATED, FaultProxy

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def place(server: Server, tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Place]:
    """18 pictures of three kinds and a table that says more of them, on a disk and in a bucket."""
    folder = tmp_path_factory.mktemp("pictures")
    for kind, tint in TINTS.items():
        for number in range(6):
            split = "Training" if number < 4 else "Test"
            draw(folder / "pictures" / split / kind / f"{number} +é.png", number, tint=tint)
    names = sorted(p.relative_to(folder / "pictures").as_posix() for p in folder.rglob("*.png"))
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "angle"), *((name, f"00{i}") for i, name in enumerate(names))])
    client = connect(server)
    client.create_bucket(Bucket=BUCKET)
    upload_folder(client, BUCKET, "", folder)
    yield Place(server, client, folder, cache)
    client.close()


def spark(*settings: str) -> list[str]:
    return [*SMALL, *SPARK, "spark.ui.enabled=false", "labels.key=path", *settings]


def by_name(features: Path) -> dict[str, dict]:
    """The rows of a features folder, by the path below the root."""
    rows = pd.read_parquet(features).to_dict("records")
    return {row["path"].rpartition("/pictures/")[2]: row for row in rows}


def same(left: dict[str, dict], right: dict[str, dict]) -> bool:
    assert left.keys() == right.keys()
    for name, row in left.items():
        assert row["features"].dtype == np.float32
        assert row["features"].tobytes() == right[name]["features"].tobytes(), name
        for column in ("label", "split", "angle", "width_px", "height_px", "size_bytes"):
            assert row[column] == right[name][column]
    return True


@pytest.fixture(scope="module")
def from_disk(place: Place, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """What the same pictures come to from a folder into a folder."""
    output = tmp_path_factory.mktemp("disk")
    root, table = f"images.root={place.folder}/pictures", f"labels.table={place.folder}/labels.csv"
    done = place.run("extract", settings=spark(root, table, f"output={output}"), AWS_ENDPOINT_URL="http://127.0.0.1:1")
    assert done.code == 0, done.stderr
    return by_name(output / "features")


FROM_BUCKET = [f"images.root=s3://{BUCKET}/pictures", f"labels.table=s3a://{BUCKET}/labels.csv"]


@dataclass
class FirstRun:
    done: Done
    watcher: Watcher
    copy: Path
    manifest: dict[str, Any]


@pytest.fixture(scope="module")
def first_run(place: Place, tmp_path_factory: pytest.TempPathFactory) -> FirstRun:
    """All stages from bucket to bucket, with the configuration in a bucket too, watched; and a copy of what it made."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = [*spark(f"spark.ui.port={port}", *FROM_BUCKET, f"output=s3://{BUCKET}/out/"), "spark.ui.enabled=true"]
    lines = [f"{name}: {json.dumps(value)}" for name, _, value in (setting.partition("=") for setting in told)]
    put(place.client, BUCKET, "conf/small.yaml", "\n".join(lines).replace('"true"', "true").encode())
    watcher = Watcher(port)
    done = place.run("run", "--config", f"s3://{BUCKET}/conf/small.yaml", watcher=watcher)
    assert done.code == 0, done.stderr
    copy = place.fetch("out", tmp_path_factory.mktemp("copy"))
    return FirstRun(done, watcher, copy, place.manifest("out"))


def test_features_from_a_bucket_are_those_from_the_folder(
    place: Place, first_run: FirstRun, from_disk: dict[str, dict]
) -> None:
    assert same(by_name(first_run.copy / "features"), from_disk)
    assert len(from_disk) == 18
    counts = first_run.manifest["counts"]
    assert (counts["listed"], counts["embedded"], counts["model_rows"], counts["rejected"]) == (18, 18, 18, 0)


def test_all_that_a_run_makes_is_there_and_nothing_else(first_run: FirstRun) -> None:
    run = first_run.manifest["run_id"]
    assert first_run.manifest["status"] == "done"
    for path in ("pca/{}/pca.json", "classifier/{}/classifier.json", "report/{}/index.html", "runs/{}.json"):
        assert (first_run.copy / path.format(run)).stat().st_size
    assert len(pd.read_parquet(first_run.copy / "pca" / run / "reduced")) == 18
    predictions = pd.read_parquet(first_run.copy / "predictions" / run)
    assert (len(predictions), set(predictions["split"])) == (6, {"Test"})
    assert list((first_run.copy / "classifier" / run / "model").glob("**/metadata/part-*"))
    kinds = {"features", "pca", "classifier", "predictions", "report", "runs"}
    assert {path.name for path in first_run.copy.iterdir()} == kinds
    odd = re.compile(r"_temporary|magic|\.pending|_lease|_staging")
    leftovers = [path for path in first_run.copy.rglob("*") if odd.search(path.name)]
    assert leftovers == []


def test_the_secret_is_nowhere(place: Place, first_run: FirstRun) -> None:
    secret = place.server.secret_key
    for path in filter(Path.is_file, first_run.copy.rglob("*")):
        assert secret.encode() not in path.read_bytes(), path
    lines = b"\n".join(first_run.watcher.lines)
    # The JVM's was among those that were seen.
    assert b"org.apache.spark.deploy.SparkSubmit" in lines
    assert secret.encode() not in lines
    assert first_run.watcher.pages
    assert "fs.s3a.endpoint" in first_run.watcher.pages[-1]
    assert not any(secret in page for page in first_run.watcher.pages)


def test_later_runs_embed_what_is_new(place: Place, first_run: FirstRun, tmp_path: Path) -> None:
    settings = spark(*FROM_BUCKET, f"output=s3://{BUCKET}/out")
    dry = place.run("extract", "--dry-run", settings=settings)
    assert (dry.code, "would embed 0 images" in dry.stderr) == (0, True), dry.stderr
    second = place.run("extract", settings=settings)
    assert second.code == 0, second.stderr
    counts = place.manifest("out")["counts"]
    assert (counts["unchanged"], counts["embedded"], counts["model_rows"]) == (18, 0, 0)

    draw(tmp_path / "changed.png", 100)
    draw(tmp_path / "new.png", 101)
    put(place.client, BUCKET, "pictures/Test/amber/4 +é.png", (tmp_path / "changed.png").read_bytes())
    put(place.client, BUCKET, "pictures/Test/amber/new.png", (tmp_path / "new.png").read_bytes())
    known = (place.folder / "pictures/Test/coral/5 +é.png").read_bytes()
    put(place.client, BUCKET, "pictures/Test/coral/moved.png", known)
    place.client.delete_object(Bucket=BUCKET, Key="pictures/Test/coral/5 +é.png")
    third = place.run("extract", settings=settings)
    assert third.code == 0, third.stderr
    counts = place.manifest("out")["counts"]
    told = {name: counts[name] for name in ("new", "changed", "gone", "unchanged", "model_rows", "reused")}
    assert told == {"new": 2, "changed": 1, "gone": 1, "unchanged": 16, "model_rows": 2, "reused": 1}
    rows = by_name(place.fetch("out", tmp_path) / "features")
    assert rows["Test/coral/moved.png"]["features"].tobytes() == rows["Test/coral/5 +é.png"]["features"].tobytes()


class Breaking(FaultProxy):
    """Breaks every other read of reduced features off, which Spark reads itself, beside what it does at random."""

    reads = 0

    def choose(self, method: str, target: str) -> str | None:
        if method == "GET" and "/reduced/" in unquote(target):
            self.reads += 1
            return TRUNCATED if self.reads % 2 else None
        return super().choose(method, target)


def test_a_manifest_through_faults_comes_to_the_same_rows(
    place: Place, first_run: FirstRun, from_disk: dict[str, dict], tmp_path: Path
) -> None:
    again = upload_folder(place.client, BUCKET, "again/", place.folder)
    names = [key.removeprefix("again/pictures/") for key in again if key.endswith(".png")]
    frame = pd.DataFrame({"path": names, "size": [(place.folder / "pictures" / name).stat().st_size for name in names]})
    frame.to_parquet(tmp_path / "manifest.parquet")
    put(place.client, BUCKET, "again/manifest.parquet", (tmp_path / "manifest.parquet").read_bytes())
    settings = spark(
        f"images.manifest=s3://{BUCKET}/again/manifest.parquet",
        f"images.root=s3://{BUCKET}/again/pictures",
        f"labels.table=s3://{BUCKET}/again/labels.csv",
        f"output=s3://{BUCKET}/faults",
        "extract.task_images=3",
        # S3A's own are half a second, which this test would wait for many times.
        "spark.hadoop.fs.s3a.retry.throttle.interval=100ms",
        "spark.hadoop.fs.s3a.retry.interval=100ms",
    )
    shares = {"slow_down": 0.05, "resets": 0.02, "truncated": 0.01, "slow": 0.01}
    with Breaking(place.server.endpoint, **shares, delay_seconds=0.3, seed=4) as proxy:
        done = place.run("run", settings=settings, endpoint=proxy.endpoint)
    assert done.code == 0, done.stderr
    assert same(by_name(place.fetch("faults", tmp_path) / "features"), from_disk)
    assert place.manifest("faults")["counts"]["rejected"] == 0
    assert proxy.counts["slow_down"] and proxy.counts["reset"] and proxy.counts["truncated"]
    times = f"through faults {done.seconds:.1f} s, without {first_run.done.seconds:.1f} s"
    sys.stderr.write(f"\n{times}; {dict(proxy.counts)}\n")


class Full(FaultProxy):
    """A store that has no room for what executors stage, when all else fits."""

    def choose(self, method: str, target: str) -> str | None:
        if method == "PUT" and "/_staging/" in unquote(target):
            return "XMinioStorageFull"
        return super().choose(method, target)


def test_an_output_that_gets_full_is_one_sentence_and_keeps_what_is_there(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ERRORS, "XMinioStorageFull", (507, "Storage backend has reached its minimum free drive."))
    with Full(place.server.endpoint) as proxy:
        settings = spark(*FROM_BUCKET, f"output=s3://{BUCKET}/full")
        done = place.run("extract", settings=settings, endpoint=proxy.endpoint)
    assert done.code == 2, done.stderr
    assert done.sentence.startswith(f"error: cannot write to the bucket {BUCKET}: the store is full; make room")
    assert place.manifest("full")["status"] == "failed"
    assert f"{BUCKET}/full/_lease.json" not in place.keys("full")


@pytest.mark.parametrize("what", ["no such bucket", "no such output", "unknown keys", "wrong secret", "no credentials"])
def test_what_a_user_can_mend_is_one_sentence(what: str, place: Place) -> None:
    if what in ("unknown keys", "wrong secret") and not place.server.is_minio:
        pytest.skip("moto takes any credentials")
    root = "s3://no-such-bucket/pictures" if what == "no such bucket" else f"s3://{BUCKET}/pictures"
    output = "s3://no-such-bucket/out" if what == "no such output" else f"s3://{BUCKET}/mended"
    environment = {
        "unknown keys": {"AWS_ACCESS_KEY_ID": "nobody"},
        "wrong secret": {"AWS_SECRET_ACCESS_KEY": "not-the-secret"},
        "no credentials": {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
    }.get(what, {})
    told = {
        "no such bucket": "the bucket no-such-bucket: there is no bucket of that name; create it",
        "no such output": "the bucket no-such-bucket: there is no bucket of that name; create it",
        "unknown keys": f"the bucket {BUCKET}: the store does not know these credentials",
        "wrong secret": f"the bucket {BUCKET}: the secret key does not fit the access key",
        "no credentials": f"the bucket {BUCKET}: there are no credentials here: set AWS_ACCESS_KEY_ID",
    }[what]
    done = place.run("run", settings=spark(f"images.root={root}", f"output={output}"), **environment)
    assert done.code == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.sentence.startswith("error: cannot ")
    assert told in done.sentence


def test_an_output_that_may_not_be_written_to_and_an_endpoint_that_is_dead(place: Place) -> None:
    settings = spark(*FROM_BUCKET, f"output=s3://{BUCKET}/denied")
    with FaultProxy(place.server.endpoint) as proxy:
        proxy.next("AccessDenied", 10**6, method="PUT")
        done = place.run("run", settings=settings, endpoint=proxy.endpoint)
    assert (done.code, done.stderr.count("\n")) == (2, 1), done.stderr
    assert f"cannot write to the bucket {BUCKET}: these credentials may not; allow it in their policy" in done.sentence
    done = place.run("run", settings=settings, endpoint=proxy.endpoint)  # which has gone
    assert (done.code, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "its endpoint does not answer; check AWS_ENDPOINT_URL" in done.sentence
    done = place.run("run", "--config", f"s3://{BUCKET}/conf/none.yaml")
    assert (done.code, done.stderr.count("\n")) == (2, 1), done.stderr
    assert f"cannot read the configuration s3://{BUCKET}/conf/none.yaml" in done.sentence
