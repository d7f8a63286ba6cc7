"""Mirabelle on EMR Serverless every night, for Airflow: one at a time, 2 is not tried again, 3 is no failure.

Put it into Airflow's folder of DAGs, and what ``mirabelle submit --dry-run`` printed into the file that MIRABELLE_JOB
names. Needs apache-airflow-providers-amazon. Credentials are those of boto3's default chain: a role, no keys.
"""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from airflow.providers.amazon.aws.operators.emr import EmrServerlessStartJobOperator
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

JOB = json.loads(Path(os.environ.get("MIRABELLE_JOB", "/opt/mirabelle/job.json")).read_text())["requests"][-1]
OUTPUT = os.environ.get("MIRABELLE_OUTPUT", "s3://fruits/out")
MIRABELLE = os.environ.get("MIRABELLE", "/opt/mirabelle/.venv/bin/mirabelle")


class MirabelleOperator(EmrServerlessStartJobOperator):
    """EMR Serverless's operator, which takes the job's exit code for what it means."""

    def execute(self, context: Any, event: dict[str, Any] | None = None) -> str | None:
        """Start the job of this schedule, time and attempt, once, and wait for it."""
        moment, attempt = context["logical_date"], context["ti"].try_number
        self.client_request_token = f"{self.dag_id}-{moment:%Y%m%dT%H%M%S}-{attempt}"[-64:]
        try:
            return super().execute(context, event)
        except AirflowException as error:
            told = str(error)
            if self.job_id:
                run = self.hook.conn.get_job_run(applicationId=self.application_id, jobRunId=self.job_id)["jobRun"]
                told = run.get("stateDetails", "")
            code = re.search(r"ExitCode: (\d+)", told)
            if code and code[1] == "3":
                raise AirflowSkipException("another run is at work on the output") from error
            if code and code[1] == "2":
                raise AirflowFailException(told) from error  # is not tried again
            raise


def operator() -> MirabelleOperator:
    """The job, as ``mirabelle submit`` would start it."""
    job = dict(JOB["parameters"])
    del job["clientToken"]
    return MirabelleOperator(
        task_id="run",
        application_id=job.pop("applicationId"),
        execution_role_arn=job.pop("executionRoleArn"),
        job_driver=job.pop("jobDriver"),
        configuration_overrides=job.pop("configurationOverrides"),
        name=job.pop("name"),
        config=job,
        aws_conn_id=None,
        waiter_delay=30,
        waiter_max_attempts=2 * 60 * 12,
        retries=1,
        retry_delay=timedelta(minutes=10),
    )


SCHEDULE: dict[str, Any] = {"start_date": datetime(2026, 1, 1, tzinfo=UTC), "catchup": False, "max_active_runs": 1}

with DAG("mirabelle_fruits", schedule="15 3 * * *", **SCHEDULE):
    operator()

# The alarm on absence, which fails where no run has ended well since yesterday.
with DAG("mirabelle_fruits_check", schedule="0 7 * * *", **SCHEDULE):
    BashOperator(task_id="check", bash_command=f"{MIRABELLE} check {OUTPUT} --newer-than 26h")
