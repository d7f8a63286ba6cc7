"""`mirabelle submit` to AWS: a real store for what it uploads, and the services' fake, which knows AWS's own models."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import SMALL, draw
from fake_aws import Fake, serving
from mirabelle.cluster.environment import Wanted, archive_path, write_archive
from mirabelle.cluster.packing import find_checkout
from mirabelle.cluster.submitting import submit
from mirabelle.config import Config, load
from mirabelle.console import Console
from mirabelle.errors import BarNotMet, ConfigError, MirabelleError, OutputInUse, RunFailed, UserError
from mirabelle.storage import open_store
from mirabelle.table.runlog import RunLog
from object_store import Server

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
ROLE = "arn:aws:iam::123456789012:role/mirabelle-job"


@pytest.fixture(scope="module")
def pack_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With an archive of packages that has none, as nothing here runs them: making one takes a minute."""
    folder = tmp_path_factory.mktemp("pack")
    wanted = Wanted("x86_64", PYTHON, "cluster")
    write_archive(archive_path(wanted, find_checkout(), folder), tmp_path_factory.mktemp("nothing"))
    return folder


@pytest.fixture
def configured(
    bucket: str, server: Server, pack_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Config]:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    store = open_store(f"s3://{bucket}/pictures")
    for number in range(3):
        path = pack_folder / "drawn" / f"{number}.png"
        draw(path, number)
        store.upload(str(path), f"s3://{bucket}/pictures/Training/kind{number}/{number}.png")

    def make(to: str, *more: str) -> Config:
        settings = [
            *SMALL,
            f"images.root=s3://{bucket}/pictures",
            f"output=s3://{bucket}/output",
            f"cache={cache}",
            f"submit.to={to}",
            f"submit.staging=s3://{bucket}/staging",
            f"submit.pack={pack_folder}",
            f"submit.python={PYTHON}",
            f"submit.role={ROLE if to != 'emr' else 'mirabelle-nodes'}",
            *(("submit.service_role=mirabelle-emr",) if to == "emr" else ()),
            *(("submit.cluster=vc123", "submit.image=registry/mirabelle:1") if to == "emr-eks" else ()),
        ]
        return load(None, [*settings, *more], {})

    return make


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    made = Fake()
    with serving(made) as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield made


# What starts a job where nothing is there yet.
STARTED = {
    "emr-serverless": ["CreateApplication", "StartJobRun"],
    "emr": ["RunJobFlow"],
    "emr-eks": ["StartJobRun"],
}


def send(config: Config, **options: Any) -> int:
    return submit(config, "run", Console(quiet=True), poll_seconds=0.05, **options)


KINDS = ("emr-serverless", "emr", "emr-eks")
OVER = {"emr": "COMPLETED", "emr-serverless": "SUCCESS", "emr-eks": "COMPLETED"}


@pytest.mark.parametrize("to", KINDS)
def test_a_job_is_uploaded_started_and_followed_to_its_end(to: str, configured: Any, fake: Fake, bucket: str) -> None:
    fake.states = ["PENDING", "PENDING", "RUNNING", OVER[to]]
    assert send(configured(to)) == 0
    assert fake.operations() == STARTED[to]
    asked = json.dumps(fake.asked)
    uris = set(re.findall(rf"s3://{bucket}/staging/[0-9a-f]{{16}}/[\w.-]+", asked))
    assert {uri.rpartition("/")[2] for uri in uris} >= {"run_pipeline.py", "config.yaml"}
    store = open_store(f"s3://{bucket}/staging")
    assert all(store.exists(uri) for uri in uris)
    # The same once more uploads nothing.
    before = {entry.path: entry.modified_us for entry in store.walk(f"s3://{bucket}/staging")}
    fake.states = [OVER[to]]
    send(configured(to))
    assert {entry.path: entry.modified_us for entry in store.walk(f"s3://{bucket}/staging")} == before
    assert fake.operations().count("CreateApplication") <= 1


@pytest.mark.parametrize("to", KINDS)
def test_a_dry_run_prints_the_exact_requests_and_sends_none(
    to: str, configured: Any, fake: Fake, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    send(configured(to), token="fruits-1", dry_run=True)
    told = json.loads(capsys.readouterr().out)
    assert fake.asked == []
    assert not open_store(f"s3://{bucket}/staging").exists(told["uploads"][0])
    fake.states = [OVER[to]]
    send(configured(to), token="fruits-1")
    sent = [parameters for name, parameters in fake.asked if name in fake.operations()]
    shown = json.loads(
        json.dumps([request["parameters"] for request in told["requests"]]).replace("<applicationId>", "00app0")
    )
    assert shown == sent


def test_the_same_token_starts_a_job_once(configured: Any, fake: Fake) -> None:
    fake.states = ["SUCCESS"]
    for _ in range(2):
        assert send(configured("emr-serverless"), token="fruits-2026-11-26T03-15") == 0
    assert len(fake._tokens) == 2  # the application's, and the job's
    with pytest.raises(ConfigError, match="emr-serverless refused StartJobRun: ConflictException by the fake"):
        send(configured("emr-serverless", "submit.flex=true"), token="fruits-2026-11-26T03-15")


def test_throttled_requests_are_asked_again(configured: Any, fake: Fake) -> None:
    fake.states = ["SUCCESS"]
    fake.throttled = 3
    assert send(configured("emr-serverless")) == 0
    assert fake.throttled == 0


@pytest.mark.parametrize(
    ("details", "kind", "code"),
    [
        ("Job failed, please check complete logs. ExitCode: 2. Last few exceptions: error: no such key", UserError, 2),
        ("Job failed. ExitCode: 3.", OutputInUse, 3),
        ("Job failed. ExitCode: 1.", RunFailed, 1),
        ("Job run exceeded the timeout of 720 minutes", RunFailed, 1),
    ],
)
def test_a_failed_jobs_exit_code_is_ours(
    details: str, kind: type[MirabelleError], code: int, configured: Any, fake: Fake
) -> None:
    fake.states = ["RUNNING", f"FAILED: {details}"]
    with pytest.raises(kind, match=re.escape(details)) as error:
        send(configured("emr-serverless"))
    assert error.value.exit_code == code


@pytest.mark.parametrize(
    ("code", "told", "facts", "kind"),
    [
        (1, "3 of 9 images rejected", {"failed_bars": ["3 of 9 images rejected"]}, BarNotMet),
        (2, "nothing to embed", {}, UserError),
        (1, "Spark broke", {}, RunFailed),
    ],
)
def test_the_manifest_tells_better_than_the_cluster(
    code: int, told: str, facts: dict[str, Any], kind: type[MirabelleError], configured: Any, fake: Fake, bucket: str
) -> None:
    config = configured("emr-serverless")
    output = f"s3://{bucket}/output"

    def work(_: dict[str, Any]) -> str:
        log = RunLog(open_store(output), output, "run", {})
        log.update(**facts)
        log.finish("failed", told, code)
        return "FAILED: ExitCode: 1"

    fake.work = work
    with pytest.raises(kind, match=re.escape(told)) as error:
        send(config)
    assert error.value.exit_code == code


def test_progress_comes_from_the_runs_own_manifest(
    configured: Any, fake: Fake, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = f"s3://{bucket}/output"
    # An older run is not this one.
    RunLog(open_store(output), output, "run", {}).finish("done")

    def work(_: dict[str, Any]) -> str:
        log = RunLog(open_store(output), output, "run", {})
        for embedded in (100, 200):
            log.update(progress={"to_do": 300, "embedded": embedded, "rejected": 1})
            log.write()
            time.sleep(0.5)
        return "SUCCESS"

    fake.work = work
    assert submit(configured("emr-serverless"), "run", Console(), poll_seconds=0.05) == 0
    said = capsys.readouterr().err
    assert "RUNNING, 101 of 300 pictures (1 rejected)" in said
    assert "RUNNING, 201 of 300 pictures (1 rejected)" in said


def test_a_cluster_that_does_not_start_says_why(configured: Any, fake: Fake) -> None:
    fake.states = ["PENDING", "CANCELLED"]
    fake.cluster = "TERMINATED_WITH_ERRORS: The VPC has no free addresses"
    with pytest.raises(RunFailed, match="the cluster is TERMINATED_WITH_ERRORS: The VPC has no free addresses"):
        send(configured("emr"))


def test_a_new_cluster_has_the_tags_that_rights_go_by(configured: Any, fake: Fake) -> None:
    fake.states = ["COMPLETED"]
    send(configured("emr", "submit.tags={team: fruits}"))
    tags = {tag["Key"]: tag["Value"] for tag in fake.parameters("RunJobFlow")["Tags"]}
    assert tags == {"application": "mirabelle", "team": "fruits", "for-use-with-amazon-emr-managed-policies": "true"}


def test_a_step_goes_to_a_cluster_that_is_there(configured: Any, fake: Fake) -> None:
    fake.states = ["COMPLETED"]
    assert send(configured("emr", "submit.cluster=j-2AXXXXXXGAPLF")) == 0
    assert fake.operations() == ["AddJobFlowSteps"]
    (step,) = fake.parameters("AddJobFlowSteps")["Steps"]
    words = step["HadoopJarStep"]["Args"]
    assert words[:3] == ["spark-submit", "--deploy-mode", "cluster"]
    assert sum(map(len, words)) < 10_240


def test_what_is_on_this_machine_is_told_before_anything_is_asked(configured: Any, fake: Fake, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        send(configured("emr-serverless", f"images.root={tmp_path}", "output=out"))
    assert f"images.root '{tmp_path}' is on this machine, where emr-serverless cannot read it" in str(error.value)
    assert "output 'out' is on this machine" in str(error.value)
    with pytest.raises(ConfigError, match=r"submit\.role: emr-serverless needs it"):
        send(configured("emr-serverless", "submit.role="))
    with pytest.raises(ConfigError, match=r"submit\.to: say where"):
        submit(load(None, ["images.root=.", "output=.", *SMALL], {}), "run", Console(quiet=True))
    assert fake.asked == []


@pytest.mark.parametrize("cancel", [False, True])
def test_ctrl_c_leaves_the_job_or_ends_it(cancel: bool, configured: Any, fake: Fake, tmp_path: Path) -> None:
    fake.states = ["RUNNING"]
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(configured("emr-serverless").model_dump(mode="json", exclude_defaults=True)))
    command = [str(Path(sys.executable).with_name("mirabelle")), "submit", "--config", str(file)]
    command += ["--cancel"] if cancel else []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ.copy()) as run:
        deadline = time.monotonic() + 120
        while "GetJobRun" not in [name for name, _ in list(fake.asked)]:
            assert time.monotonic() < deadline and run.poll() is None, run.stderr.read()
            time.sleep(0.1)
        run.send_signal(signal.SIGINT)
        told = run.communicate(timeout=60)[1]
    assert run.returncode == 130
    assert ("CancelJobRun" in fake.operations()) is cancel
    assert ("is being cancelled" if cancel else "goes on; --cancel would have ended it") in told
    assert "Traceback" not in told
