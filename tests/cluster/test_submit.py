"""`mirabelle submit` as a user types it, to a real YARN, and to a fake EMR Serverless that really runs jobs."""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from cluster.conftest import PYTHON
from cluster.disturbance import features, finish
from cluster.programs import SPARK_HOME, spark_environment
from cluster.yarn import MACHINE, SMALL_EXECUTORS, Yarn, ended
from conftest import SMALL
from fake_aws import Fake, serving
from mirabelle.cluster.packing import Pack
from mirabelle.storage import DiskStore, open_store
from mirabelle.table.lease import hold
from object_store import Server, upload_folder

pytestmark = pytest.mark.long

MIRABELLE = str(Path(sys.executable).with_name("mirabelle"))


def settings_for(packed: Pack, *more: str) -> list[str]:
    own = [*SMALL, f"submit.pack={packed.wheel.parent}", f"submit.python={PYTHON}"]
    own.append(f"cache={packed.wheel.parent / 'cache'}")
    return [word for setting in [*own, *more] for word in ("--set", setting)]


def test_yarns_exit_code_is_the_jobs_own(packed: Pack, yarn: Yarn, pictures: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    more = [f"images.root={pictures}", f"output={output}", "submit.executor_cores=1"]
    more += [f"spark.{key.removeprefix('spark.')}={value}" for key, value in MACHINE.items()]
    with hold(DiskStore(), str(output), "run-1", "extract"):
        command = [MIRABELLE, "submit", "--to", "yarn", "--job", "extract", *settings_for(packed, *more)]
        run = yarn.start("submit", command)
        assert ended(run) == 3, run.text()
    assert "is in use by run run-1" in run.text()


def test_the_whole_job_from_bucket_to_bucket_on_yarn(
    packed: Pack, yarn: Yarn, server: Server, client: Any, bucket: str, pictures: Path, tmp_path: Path
) -> None:
    """Nodes know the store by files of AWS's, as they would by a role: no key is in the job's configuration."""
    upload_folder(client, bucket, "pictures/", pictures)
    known, secrets = tmp_path / "config", tmp_path / "credentials"
    known.write_text(f"[default]\nregion = {server.region}\nendpoint_url = {server.endpoint}\n")
    secrets.write_text(
        f"[default]\naws_access_key_id = {server.access_key}\naws_secret_access_key = {server.secret_key}\n"
    )
    files = {"AWS_CONFIG_FILE": str(known), "AWS_SHARED_CREDENTIALS_FILE": str(secrets)}
    more = [f"images.root=s3://{bucket}/pictures", f"output=s3://{bucket}/output", "submit.executor_cores=1"]
    more += ["reduce.components=2"]
    more += [f"{key}={value}" for key, value in {**MACHINE, **SMALL_EXECUTORS}.items()]
    of_nodes = {**files, "AWS_EC2_METADATA_DISABLED": "true"}
    more += [
        f"{where}.{k}={v}" for where in ("spark.yarn.appMasterEnv", "spark.executorEnv") for k, v in of_nodes.items()
    ]
    command = [MIRABELLE, "submit", "--to", "yarn", *settings_for(packed, *more)]
    run = yarn.start("submit", command, {**dict.fromkeys(server.environment, ""), **of_nodes})
    assert ended(run) == 0, run.text() + yarn.driver_text(run)
    keys = [one["Key"] for one in client.list_objects_v2(Bucket=bucket, Prefix="output/")["Contents"]]
    (manifest,) = (
        json.loads(fetched(client, bucket, key)) for key in keys if key.endswith(".json") and "/runs/" in key
    )
    assert (manifest["status"], manifest["cluster"]["master"]) == ("done", "yarn")
    assert (manifest["counts"]["listed"], manifest["counts"]["embedded"]) == (54, 54)
    for made in ("pca/{}/pca.json", "classifier/{}/classifier.json", "report/{}/index.html"):
        assert f"output/{made.format(manifest['run_id'])}" in keys
    reduced = rows(client, bucket, [key for key in keys if "/reduced/" in key])
    assert len(reduced) == 54
    output = tmp_path / "alone"
    extract = [MIRABELLE, "extract", "--quiet", *settings_for(packed, f"images.root={pictures}", f"output={output}")]
    finish(yarn.start("local", [*extract, "--set", "spark.master=local[2]"]))
    found = rows(client, bucket, [key for key in keys if key.startswith("output/features/")])
    assert {path.rpartition("/pictures/")[2]: row for path, row in found.items()} == {
        path.rpartition("/pictures/")[2]: row for path, row in features(output).items()
    }
    assert server.secret_key not in run.text() + yarn.driver_text(run)


def fetched(client: Any, bucket: str, key: str) -> bytes:
    return client.get_object(Bucket=bucket, Key=key)["Body"].read()


def rows(client: Any, bucket: str, keys: list[str]) -> dict[str, bytes]:
    """Of Parquet files: features, or what became of them, by path."""
    found = {}
    for key in keys:
        if key.endswith(".parquet"):
            table = pq.read_table(io.BytesIO(fetched(client, bucket, key)))
            column = "features" if "features" in table.column_names else "reduced"
            for row in table.select(["path", column]).to_pylist():
                assert row["path"] not in found
                found[row["path"]] = np.asarray(row[column], np.float32).tobytes()
    return found


def as_emr_serverless_does(server: Server, folder: Path, parameters: dict[str, Any]) -> str:
    """Fetch what a job names, unpack its archives where it runs, and start spark-submit there."""
    driver = parameters["jobDriver"]["sparkSubmit"]
    folder.mkdir()

    def fetched(uri: str) -> str:
        file = folder / uri.rpartition("/")[2]
        file.write_bytes(open_store(uri).read(uri, 2**32))
        return str(file)

    words = shlex.split(driver["sparkSubmitParameters"])
    conf = dict(word.split("=", 1) for word in words if word != "--conf")
    for archive in conf.pop("spark.archives").split(","):
        uri, _, name = archive.partition("#")
        with tarfile.open(fetched(uri)) as tar:
            tar.extractall(folder / name, filter="data")
    conf["spark.submit.pyFiles"] = fetched(conf["spark.submit.pyFiles"])
    drivers = "spark.emr-serverless.driverEnv."
    variables = {k.removeprefix(drivers): v for k, v in conf.items() if k.startswith(drivers)}
    command = [str(SPARK_HOME / "bin" / "spark-submit"), "--master", "local[2]", "--driver-memory", "1g"]
    command += [
        word for key, value in conf.items() if key.startswith("spark.submit") for word in ("--conf", f"{key}={value}")
    ]
    command += [fetched(driver["entryPoint"]), *driver["entryPointArguments"]]
    own = {**spark_environment(folder / "scratch"), **server.environment, **variables, "HOME": str(folder)}
    # The services' own: nothing of this Mirabelle is on the path there.
    own["PATH"] = "/usr/local/bin:/usr/bin:/bin"
    done = subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True, check=False)
    (folder / "log").write_text(done.stdout + done.stderr)
    last = done.stderr.strip().rpartition("\n")[2]
    return "SUCCESS" if done.returncode == 0 else f"FAILED: Job failed. ExitCode: {done.returncode}. {last}"


@pytest.mark.parametrize(
    ("more", "code", "told"),
    [([], 0, ""), (["limits.max_reject_share=0", "images.include=['*.png', '*.txt']"], 1, "failed its bar")],
    ids=["whole", "a bar that is not met"],
)
def test_emr_serverless_runs_from_what_was_uploaded_alone(
    more: list[str],
    code: int,
    told: str,
    packed: Pack,
    server: Server,
    bucket: str,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    store = open_store(f"s3://{bucket}/")
    (pictures / "Training" / "broken.txt").write_text("no picture")
    for path in pictures.rglob("*.*"):
        store.upload(str(path), f"s3://{bucket}/pictures/{path.relative_to(pictures)}")
    fake = Fake(work=lambda parameters: as_emr_serverless_does(server, tmp_path / "there", parameters))
    places = [
        f"images.root=s3://{bucket}/pictures",
        f"output=s3://{bucket}/output",
        f"submit.staging=s3://{bucket}/staging",
    ]
    own = ["submit.role=arn:aws:iam::123456789012:role/job", "images.include=['*.png']", *places, *more]
    command = [MIRABELLE, "submit", "--to", "emr-serverless", "--job", "extract", *settings_for(packed, *own)]
    with serving(fake) as environment:
        known = {**spark_environment(tmp_path / "scratch"), **server.environment, **environment}
        done = subprocess.run(command, env=known, capture_output=True, text=True, check=False)
    log = (tmp_path / "there" / "log").read_text()
    assert done.returncode == code, done.stderr + log
    assert told in done.stderr
    assert "uploading environment-" in done.stderr
    local = tmp_path / "features"
    local.mkdir()
    rows = 0
    for entry in store.walk(f"s3://{bucket}/output/features"):
        if entry.path.endswith(".parquet"):
            (local / "one.parquet").write_bytes(store.read(entry.path, 2**30))
            rows += pq.read_metadata(local / "one.parquet").num_rows
    assert rows == len(list(pictures.rglob("*.png")))
