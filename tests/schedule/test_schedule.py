"""conf/schedule and conf/aws by the tools that read such files: systemd, a shell, Step Functions' language, Airflow."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.validate import ParamValidator
from moto import mock_aws

from conftest import REPOSITORY
from documents import commands
from fake_aws import Fake, mistakes, serving

pytestmark = [
    # They are in an environment of their own: make test-schedule.
    pytest.mark.skipif(find_spec("airflow") is None, reason="Airflow is in the environment of make test-schedule"),
    # Theirs, all of them.
    pytest.mark.filterwarnings("default"),
]

SCHEDULE = REPOSITORY / "conf" / "schedule"
AWS = SCHEDULE / "aws"
JOB = {
    "applicationId": "00app0",
    "clientToken": "mirabelle-1",
    "executionRoleArn": "arn:aws:iam::123456789012:role/mirabelle-job",
    "name": "mirabelle run s3://fruits/out",
    "jobDriver": {
        "sparkSubmit": {
            "entryPoint": "s3://staging/0123456789abcdef/run_pipeline.py",
            "entryPointArguments": ["--config", "s3://staging/0123456789abcdef/config.yaml"],
            "sparkSubmitParameters": "--conf spark.executor.cores=4",
        }
    },
    "configurationOverrides": {
        "monitoringConfiguration": {"s3MonitoringConfiguration": {"logUri": "s3://staging/logs/"}}
    },
    "executionTimeoutMinutes": 720,
    "retryPolicy": {"maxAttempts": 1},
    "tags": {"application": "mirabelle"},
}
INPUT = {"schedule": "mirabelle-fruits", "time": "2026-11-27T03:15:00Z", "job": JOB}


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings and credentials of the developer's own."""
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in (("DEFAULT_REGION", "eu-west-1"), ("ACCESS_KEY_ID", "no"), ("SECRET_ACCESS_KEY", "no")):
        monkeypatch.setenv(f"AWS_{name}", value)


def model(service: str, operation: str) -> Any:
    return botocore.session.get_session().get_service_model(service).operation_model(operation).input_shape


def mistakes_of(service: str, operation: str, parameters: dict[str, Any]) -> list[str]:
    shape = model(service, operation)
    told = ParamValidator().validate(parameters, shape)
    return [*mistakes(parameters, shape), *([told.generate_report()] if told.has_errors() else [])]


def placed(text: str) -> str:
    """With an account's own names in the place of those that a user replaces."""
    for name, own in (("REGION", "eu-west-1"), ("ACCOUNT", "123456789012"), ("VIRTUAL-CLUSTER", "abcdef0123")):
        text = text.replace(name, own)
    return re.sub(r"(PICTURES|RESULTS|STAGING)-BUCKET", lambda found: found[1].lower(), text)


class TestSystemd:
    def test_units_are_sound(self, tmp_path: Path) -> None:
        if shutil.which("systemd-analyze") is None:
            pytest.skip("no systemd on this machine")
        # Verified are programs, too: in the place of the installed one stands one that is there.
        for unit in (SCHEDULE / "systemd").iterdir():
            text = unit.read_text().replace("/opt/mirabelle/.venv/bin/mirabelle", sys.executable)
            (tmp_path / unit.name).write_text(text.replace("/usr/bin/logger", sys.executable))
        units = sorted(path for path in tmp_path.iterdir() if "@" not in path.name)
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
        )
        ours = [line for line in done.stderr.splitlines() if "mirabelle" in line]
        assert (done.returncode, ours) == (0, []), done.stderr

    def test_each_timer_has_its_service_and_the_codes_mean_what_they_mean(self) -> None:
        folder = SCHEDULE / "systemd"
        for timer in folder.glob("*.timer"):
            assert timer.with_suffix(".service").is_file()
        text = (folder / "mirabelle-fruits.service").read_text().splitlines()
        assert {"SuccessExitStatus=3", "RestartPreventExitStatus=2", "OnFailure=mirabelle-alarm@%n.service"} <= set(
            text
        )


@pytest.mark.parametrize(("code", "mails"), [(0, False), (1, True), (2, True), (3, False), (143, True)])
def test_cron_mails_what_needs_somebody(code: int, mails: bool, tmp_path: Path) -> None:
    program = tmp_path / "mirabelle"
    program.write_text(f"#!/bin/sh\necho told >&2\nexit {code}\n")
    program.chmod(0o755)
    lines = (SCHEDULE / "crontab").read_text().replace("/opt/mirabelle\n", f"{tmp_path}\n").splitlines()
    (line,) = [line for line in lines if line.startswith("15 3 ")]
    variables = {
        "MIRABELLE": str(program),
        "CONFIG": "fruits.yaml",
        "LOG": str(tmp_path / "log"),
        "PATH": "/usr/bin:/bin",
    }
    command = line.split(maxsplit=5)[5].replace("/opt/mirabelle", str(tmp_path))
    assert "%" not in command  # which cron takes for the end of a line
    done = subprocess.run(["/bin/sh", "-c", command], env=variables, capture_output=True, text=True, check=False)
    assert bool(done.stdout) is mails
    assert done.stderr == ""
    assert (tmp_path / "log").read_text() == "told\n"


class TestAws:
    def test_the_readmes_lines_make_a_schedule_that_aws_would_take(self, tmp_path: Path) -> None:
        if shutil.which("jq") is None:
            pytest.skip("no jq on this machine")
        (line,) = [line for line in commands("conf/schedule/README.md") if line.startswith("jq ")]
        (tmp_path / "conf").symlink_to(REPOSITORY / "conf")
        told = {"uploads": [], "requests": [{"operation": "CreateApplication"}, {"parameters": JOB}]}
        (tmp_path / "job.json").write_text(json.dumps(told))
        subprocess.run(["/bin/sh", "-c", line], cwd=tmp_path, check=True)
        made = json.loads(placed((tmp_path / "schedule.json").read_text()))
        assert mistakes_of("scheduler", "CreateSchedule", made) == []
        given = json.loads(made["Target"]["Input"])
        assert given == {"schedule": "mirabelle-fruits", "time": "<aws.scheduler.scheduled-time>", "job": JOB}

    @pytest.mark.parametrize("file", ["alarm-failed.json", "alarm-absent.json"])
    def test_alarms_are_what_cloudwatch_takes(self, file: str) -> None:
        made = json.loads(placed((AWS / file).read_text()))
        assert mistakes_of("cloudwatch", "PutMetricAlarm", made) == []

    def test_the_state_machine_asks_for_what_emr_serverless_takes(self) -> None:
        definition = json.loads((AWS / "state-machine.json").read_text())
        asked = definition["States"]["Run"]["Parameters"]
        shape = model("emr-serverless", "StartJobRun")

        def named(value: Any, shape: Any, where: str) -> None:
            for key, inner in value.items():
                name = key.removesuffix(".$")
                member = name[0].lower() + name[1:]
                assert member in shape.members, f"{where}.{name}"
                if isinstance(inner, dict) and not key.endswith(".$"):
                    named(inner, shape.members[member], f"{where}.{name}")

        named(asked, shape, "Parameters")
        given = {key[0].lower() + key.removesuffix(".$")[1:] for key in asked}
        assert set(shape.required_members) <= given
        # All that a submission says but its token, its name, and the number of attempts, which is the machine's.
        assert set(JOB) - given == {"retryPolicy"}


class Interpreted:
    """The state machine, carried out by an interpreter of its language, with answers of the services given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def run(self, others: list[str], *outcomes: str) -> tuple[str, str, list[dict[str, Any]]]:
        """Status, error, and what EMR Serverless was asked, of one execution.

        Args:
            others: executions that began before this one and still run.
            outcomes: of the job's attempts: an empty string, or the cause of a failure.
        """
        from moto.stepfunctions.parser.asl.eval.environment import Environment
        from moto.stepfunctions.parser.mocking.mock_config import MockedResponseReturn, MockedResponseThrow

        name, own = "mirabelle-fruits", "arn:aws:states:eu-west-1:123456789012:execution:mirabelle-fruits:own"
        listed = {"Executions": [{"ExecutionArn": arn} for arn in [own, *others]]}

        def answer(cause: str) -> MockedResponseReturn | MockedResponseThrow:
            if cause:
                return MockedResponseThrow(0, 0, "EmrServerless.JobFailed", cause)
            return MockedResponseReturn(0, 0, {"JobRunId": "00run0"})

        answers = {
            "OthersAtWork": iter([MockedResponseReturn(0, 0, listed)]),
            "Run": iter([answer(cause) for cause in outcomes]),
        }
        # Where its interpreter takes answers of services from; moto gives no other way to them.
        patch = self._monkeypatch.setattr
        patch(Environment, "is_mocked_mode", lambda self: self.next_state_name in answers)
        patch(Environment, "get_current_mocked_response", lambda self: next(answers[self.next_state_name]))
        definition = json.loads((AWS / "state-machine.json").read_text())
        definition["States"]["Pause"]["Seconds"] = 1
        # That interpreter knows no .sync of EMR Serverless; the call itself, whose answer is given, it does.
        run = definition["States"]["Run"]
        assert run["Resource"] == "arn:aws:states:::emr-serverless:startJobRun.sync"
        run["Resource"] = "arn:aws:states:::aws-sdk:emrserverless:startJobRun"
        with mock_aws(config={"stepfunctions": {"execute_state_machine": True}}):
            client = boto3.client("stepfunctions")
            arn = client.create_state_machine(
                name=name, definition=json.dumps(definition), roleArn="arn:aws:iam::123456789012:role/mirabelle-states"
            )["stateMachineArn"]
            started = client.start_execution(stateMachineArn=arn, name="own", input=json.dumps(INPUT))
            deadline = time.monotonic() + 60
            while True:
                told = client.describe_execution(executionArn=started["executionArn"])
                if told["status"] != "RUNNING":
                    break
                assert time.monotonic() < deadline
                time.sleep(0.1)
            history = client.get_execution_history(executionArn=started["executionArn"], maxResults=1000)["events"]
        details = [event["taskScheduledEventDetails"] for event in history if "taskScheduledEventDetails" in event]
        asked = [json.loads(one["parameters"]) for one in details if one["resource"] == "startJobRun"]
        return told["status"], told.get("error", ""), asked


class TestStateMachine:
    @pytest.fixture
    def machine(self, monkeypatch: pytest.MonkeyPatch) -> Interpreted:
        return Interpreted(monkeypatch)

    def test_a_night_that_goes_well(self, machine: Interpreted) -> None:
        status, _, asked = machine.run([], "")
        assert status == "SUCCEEDED"
        (request,) = asked
        assert re.fullmatch("[0-9a-f]{64}", request["ClientToken"])
        assert (
            request["JobDriver"]["SparkSubmit"]["EntryPointArguments"]
            == INPUT["job"]["jobDriver"]["sparkSubmit"]["entryPointArguments"]
        )
        # Delivered twice, it is the same request.
        assert machine.run([], "")[2] == [request]

    def test_one_at_a_time(self, machine: Interpreted) -> None:
        older = "arn:aws:states:eu-west-1:123456789012:execution:mirabelle-fruits:older"
        assert machine.run([older]) == ("SUCCEEDED", "", [])

    @pytest.mark.parametrize(
        ("outcomes", "status", "error"),
        [
            (["ExitCode: 3. Last few"], "SUCCEEDED", ""),
            (["ExitCode: 2. Last few"], "FAILED", "Mirabelle.ExitCode2"),
            (["ExitCode: 1. Last few", ""], "SUCCEEDED", ""),
            (["timed out", "timed out"], "FAILED", "Mirabelle.FailedTwice"),
            (["ExitCode: 1.", "ExitCode: 2."], "FAILED", "Mirabelle.ExitCode2"),
        ],
    )
    def test_exit_codes(self, outcomes: list[str], status: str, error: str, machine: Interpreted) -> None:
        told = machine.run([], *outcomes)
        assert told[:2] == (status, error)
        # Each attempt has a token of its own: the first one's would give back the job that failed.
        tokens = [request["ClientToken"] for request in told[2]]
        assert len(set(tokens)) == len(outcomes)


class TestAirflow:
    @pytest.fixture
    def dags(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        (tmp_path / "job.json").write_text(json.dumps({"requests": [{"parameters": JOB}]}))
        monkeypatch.setenv("MIRABELLE_JOB", str(tmp_path / "job.json"))
        from airflow.dag_processing.dagbag import DagBag

        bag = DagBag(str(SCHEDULE / "airflow_fruits.py"))
        assert bag.import_errors == {}
        return dict(bag.dags)

    @pytest.fixture
    def fake(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
        made = Fake()
        with serving(made) as environment:
            for name, value in environment.items():
                monkeypatch.setenv(name, value)
            yield made

    def test_airflows_own_loader_takes_it(self, dags: dict[str, Any]) -> None:
        assert set(dags) == {"mirabelle_fruits", "mirabelle_fruits_check"}
        assert all(dag.max_active_runs == 1 and not dag.catchup for dag in dags.values())
        assert dags["mirabelle_fruits_check"].get_task("check").bash_command.endswith("--newer-than 26h")

    @pytest.mark.parametrize(
        ("state", "ends"),
        [
            ("SUCCESS", None),
            ("FAILED: ExitCode: 3. Last few", "AirflowSkipException"),
            ("FAILED: ExitCode: 2. Last few", "AirflowFailException"),
            ("FAILED: ExitCode: 1. Last few", "WaiterTerminalFailure"),
        ],
    )
    def test_exit_codes(self, state: str, ends: str | None, dags: dict[str, Any], fake: Fake) -> None:
        from datetime import UTC, datetime
        from types import SimpleNamespace

        fake.states = ["RUNNING", state]
        task = dags["mirabelle_fruits"].get_task("run")
        task.waiter_delay = 0
        context = {"logical_date": datetime(2026, 11, 27, 3, 15, tzinfo=UTC), "ti": SimpleNamespace(try_number=1)}
        if ends is None:
            task.execute(context)
        else:
            with pytest.raises(Exception) as error:
                task.execute(context)
            assert type(error.value).__name__ == ends
        request = fake.parameters("StartJobRun")
        assert request["clientToken"] == "mirabelle_fruits-20261127T031500-1"
        assert {**request, "clientToken": JOB["clientToken"]} == JOB


@pytest.mark.parametrize("file", sorted(path.name for path in (REPOSITORY / "conf" / "aws").glob("*.json")))
def test_a_linter_of_policies_finds_nothing(file: str) -> None:
    from parliament import analyze_policy_string

    text = placed((REPOSITORY / "conf" / "aws" / file).read_text())
    if file.startswith("trust"):
        # Whom it trusts stands in the place of a resource, which this linter does not know.
        (statement,) = json.loads(text)["Statement"]
        assert (statement["Action"], list(statement["Principal"])) == ("sts:AssumeRole", ["Service"])
        return
    found = analyze_policy_string(text).findings
    # Of Step Functions' lists it knows those of map runs alone.
    known = "'states:ListExecutions', 'required_format': 'arn:*:states:*:*:mapRun:"
    assert [(one.issue, one.detail, one.location) for one in found if known not in str(one.detail)] == []
