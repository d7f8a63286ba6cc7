"""EMR Serverless: an application, which is made once, and jobs that run on it. [AWS]"""

from __future__ import annotations

from typing import Any

from mirabelle.cluster.aws_service import Service, conf_line, state_of
from mirabelle.cluster.job import PYTHON, Job, Request, State

APPLICATION = "mirabelle"
# An application's own worker for the driver, in the sizes that EMR Serverless has: 4 cores, 8 to 30 GB.
SERVERLESS_GIB = 8


class EmrServerless(Service):
    """An application, which is made once, and a job run on it."""

    NEEDED = ("role",)
    SERVICE = "emr-serverless"

    def requests(self, job: Job) -> list[Request]:
        """The application, unless it is named, and the run."""
        before = [] if self.wanted.cluster else [self._application()]
        return [*before, self._run(job, self.wanted.cluster or "<applicationId>")]

    def start(self, job: Job) -> str:
        """``application/run``."""
        application = self.wanted.cluster or self._find() or self.ask(self._application())["applicationId"]
        return f"{application}/{self.ask(self._run(job, application))['jobRunId']}"

    def state(self, identity: str) -> State:
        """As EMR Serverless has it."""
        run = self.ask(Request(self.SERVICE, "GetJobRun", self._names(identity)))["jobRun"]
        return state_of(run["state"], run.get("stateDetails", ""))

    def cancel(self, identity: str) -> None:
        """End the run."""
        self.ask(Request(self.SERVICE, "CancelJobRun", self._names(identity)))

    def told(self, identity: str) -> list[tuple[str, str]]:
        """Its logs."""
        names = self._names(identity)
        return [
            ("job run", f"{names['jobRunId']} of application {names['applicationId']}"),
            ("logs", f"{self.logs}applications/{names['applicationId']}/jobs/{names['jobRunId']}/"),
        ]

    @staticmethod
    def _names(identity: str) -> dict[str, Any]:
        application, _, run = identity.partition("/")
        return {"applicationId": application, "jobRunId": run}

    def _find(self) -> str | None:
        """The application that an earlier submission made."""
        parameters: dict[str, Any] = {"states": ["CREATING", "CREATED", "STARTING", "STARTED", "STOPPING", "STOPPED"]}
        while True:
            page = self.ask(Request(self.SERVICE, "ListApplications", parameters))
            for known in page["applications"]:
                alike = (known.get("releaseLabel"), known.get("architecture")) == (self.wanted.release, self._chip)
                if known.get("name") == APPLICATION and alike:
                    return str(known["id"])
            if not page.get("nextToken"):
                return None
            parameters["nextToken"] = page["nextToken"]

    @property
    def _chip(self) -> str:
        return {"x86_64": "X86_64", "aarch64": "ARM64"}[self.wanted.arch]

    def _application(self) -> Request:
        wanted = self.wanted
        parameters: dict[str, Any] = {
            "name": APPLICATION,
            "releaseLabel": wanted.release,
            "type": "SPARK",
            # Two at once make one.
            "clientToken": f"mirabelle-{wanted.release}-{wanted.arch}",
            "architecture": self._chip,
            "autoStartConfiguration": {"enabled": True},
            "autoStopConfiguration": {"enabled": True, "idleTimeoutMinutes": 15},
            # The executors and a driver, and not more whatever a job asks.
            "maximumCapacity": {
                "cpu": f"{wanted.max_cores + wanted.executor_cores} vCPU",
                "memory": f"{2 * (wanted.max_cores + wanted.executor_cores) + SERVERLESS_GIB} GB",
            },
            "tags": self.tags,
        }
        if wanted.image:
            parameters["imageConfiguration"] = {"imageUri": wanted.image}
        return Request(self.SERVICE, "CreateApplication", parameters)

    def _run(self, job: Job, application: str) -> Request:
        properties = {
            **job.properties,
            # The role's own way to S3, and the committer, are EMR's.
            "spark.emr-serverless.driverEnv.PYSPARK_DRIVER_PYTHON": PYTHON,
            "spark.emr-serverless.driverEnv.PYSPARK_PYTHON": PYTHON,
            "spark.executorEnv.PYSPARK_PYTHON": PYTHON,
        }
        # Workers have 8 GB at least where they have four cores.
        overhead = max(job.size.overhead_gib, SERVERLESS_GIB - job.size.memory_gib)
        properties["spark.executor.memoryOverhead"] = f"{overhead}g"
        properties["spark.driver.memoryOverhead"] = f"{SERVERLESS_GIB - 4}g"
        parameters: dict[str, Any] = {
            "applicationId": application,
            "clientToken": job.token,
            "executionRoleArn": self.wanted.role,
            "name": job.name,
            "jobDriver": {
                "sparkSubmit": {
                    "entryPoint": job.files.script,
                    "entryPointArguments": job.arguments,
                    "sparkSubmitParameters": conf_line(properties),
                }
            },
            "configurationOverrides": self.monitoring,
            "executionTimeoutMinutes": self.wanted.timeout_minutes,
            # What a second attempt could mend is mended by the next run, which goes on from there.
            "retryPolicy": {"maxAttempts": 1},
            "tags": self.tags,
        }
        if self.wanted.flex:
            parameters["flexExecution"] = {"enabled": True}
        return Request(self.SERVICE, "StartJobRun", parameters)
