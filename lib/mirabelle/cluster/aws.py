"""EMR, EMR Serverless and EMR on EKS: what each is asked to start, watch and end a job. [AWS]

Runs where people type. Requests are plain values made by pure methods, so that they can be shown and validated without
being sent. Credentials come from AWS's default chain alone.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from mirabelle.cluster.job import PYTHON, Job, Phase, Request, State, Target
from mirabelle.config.submission import Submit
from mirabelle.errors import ConfigError, RunFailed

# A step's arguments may have so many characters in all (AWS's documentation of StepConfig).
MAX_STEP_CHARACTERS = 10_240
APPLICATION = "mirabelle"
# What AmazonEMRServicePolicy_v2, the policy of EMR's own role, wants of a cluster.
MANAGED = {"for-use-with-amazon-emr-managed-policies": "true"}
# An application's own worker for the driver, in the sizes that EMR Serverless has: 4 cores, 8 to 30 GB.
SERVERLESS_GIB = 8
PHASES = {
    "QUEUED": Phase.WAITING,
    "SUBMITTED": Phase.WAITING,
    "PENDING": Phase.WAITING,
    "SCHEDULED": Phase.WAITING,
    "RUNNING": Phase.RUNNING,
    "CANCELLING": Phase.RUNNING,
    "CANCEL_PENDING": Phase.RUNNING,
    "SUCCESS": Phase.DONE,
    "COMPLETED": Phase.DONE,
    "FAILED": Phase.FAILED,
    "INTERRUPTED": Phase.FAILED,
    "CANCELLED": Phase.CANCELLED,
}

# A service's client, by its name.
Clients = Callable[[str], Any]


def clients() -> Clients:
    """boto3's clients, one a service, which try again what was throttled."""
    import boto3
    from botocore.config import Config

    config = Config(retries={"mode": "adaptive", "total_max_attempts": 10})
    session = boto3.Session()
    made: dict[str, Any] = {}

    def client(service: str) -> Any:
        if service not in made:
            made[service] = session.client(service, config=config)
        return made[service]

    return client


def open_target(wanted: Submit, clients: Clients) -> Target:
    """The configured kind of cluster.

    Raises:
        ConfigError: it lacks a key.
    """
    kinds: dict[str, type[_Emr] | type[_Serverless] | type[_Eks]] = {
        "emr": _Emr,
        "emr-serverless": _Serverless,
        "emr-eks": _Eks,
    }
    kind = kinds[str(wanted.to)]
    missing = [key for key in ("staging", *kind.NEEDED) if not getattr(wanted, key)]
    if missing:
        raise ConfigError(*(f"submit.{key}: {wanted.to} needs it" for key in missing))
    return kind(wanted, clients)


class _Aws:
    NEEDED: tuple[str, ...] = ()

    def __init__(self, wanted: Submit, clients: Clients) -> None:
        self._wanted = wanted
        self._clients = clients

    @property
    def _logs(self) -> str:
        return (self._wanted.logs or f"{str(self._wanted.staging).rstrip('/')}/logs").rstrip("/") + "/"

    @property
    def _monitoring(self) -> dict[str, Any]:
        return {"monitoringConfiguration": {"s3MonitoringConfiguration": {"logUri": self._logs}}}

    @property
    def _tags(self) -> dict[str, str]:
        return {"application": "mirabelle", **self._wanted.tags}

    def _ask(self, request: Request) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(self._clients(request.service), _method(request.operation))(**request.parameters)
        except ClientError as error:
            told = error.response.get("Error", {})
            code, message = told.get("Code", "?"), told.get("Message", "")
            raise (RunFailed if _is_theirs(error) else ConfigError)(
                f"{request.service} refused {request.operation}: {message} ({code})"
            ) from error
        except BotoCoreError as error:
            raise ConfigError(f"{request.service} cannot be asked: {error}") from error


class _Serverless(_Aws):
    """An application, which is made once, and a job run on it."""

    NEEDED = ("role",)
    SERVICE = "emr-serverless"

    def requests(self, job: Job) -> list[Request]:
        """The application, unless it is named, and the run."""
        before = [] if self._wanted.cluster else [self._application()]
        return [*before, self._run(job, self._wanted.cluster or "<applicationId>")]

    def start(self, job: Job) -> str:
        """``application/run``."""
        application = self._wanted.cluster or self._find() or self._ask(self._application())["applicationId"]
        return f"{application}/{self._ask(self._run(job, application))['jobRunId']}"

    def state(self, identity: str) -> State:
        """As EMR Serverless has it."""
        run = self._ask(Request(self.SERVICE, "GetJobRun", self._names(identity)))["jobRun"]
        return _state(run["state"], run.get("stateDetails", ""))

    def cancel(self, identity: str) -> None:
        """End the run."""
        self._ask(Request(self.SERVICE, "CancelJobRun", self._names(identity)))

    def told(self, identity: str) -> list[tuple[str, str]]:
        """Its logs."""
        names = self._names(identity)
        return [
            ("job run", f"{names['jobRunId']} of application {names['applicationId']}"),
            ("logs", f"{self._logs}applications/{names['applicationId']}/jobs/{names['jobRunId']}/"),
        ]

    @staticmethod
    def _names(identity: str) -> dict[str, Any]:
        application, _, run = identity.partition("/")
        return {"applicationId": application, "jobRunId": run}

    def _find(self) -> str | None:
        """The application that an earlier submission made."""
        parameters: dict[str, Any] = {"states": ["CREATING", "CREATED", "STARTING", "STARTED", "STOPPING", "STOPPED"]}
        while True:
            page = self._ask(Request(self.SERVICE, "ListApplications", parameters))
            for known in page["applications"]:
                alike = (known.get("releaseLabel"), known.get("architecture")) == (self._wanted.release, self._chip)
                if known.get("name") == APPLICATION and alike:
                    return str(known["id"])
            if not page.get("nextToken"):
                return None
            parameters["nextToken"] = page["nextToken"]

    @property
    def _chip(self) -> str:
        return {"x86_64": "X86_64", "aarch64": "ARM64"}[self._wanted.arch]

    def _application(self) -> Request:
        wanted = self._wanted
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
            "tags": self._tags,
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
            "executionRoleArn": self._wanted.role,
            "name": job.name,
            "jobDriver": {
                "sparkSubmit": {
                    "entryPoint": job.files.script,
                    "entryPointArguments": job.arguments,
                    "sparkSubmitParameters": _as_words(properties),
                }
            },
            "configurationOverrides": self._monitoring,
            "executionTimeoutMinutes": self._wanted.timeout_minutes,
            # What a second attempt could mend is mended by the next run, which goes on from there.
            "retryPolicy": {"maxAttempts": 1},
            "tags": self._tags,
        }
        if self._wanted.flex:
            parameters["flexExecution"] = {"enabled": True}
        return Request(self.SERVICE, "StartJobRun", parameters)


class _Emr(_Aws):
    """A step, on a cluster that is there or on one that ends with it."""

    SERVICE = "emr"

    def requests(self, job: Job) -> list[Request]:
        """The step, or the cluster with it."""
        if self._wanted.cluster:
            parameters = {"JobFlowId": self._wanted.cluster, "Steps": [self._step(job, "CONTINUE")]}
            return [Request(self.SERVICE, "AddJobFlowSteps", parameters)]
        return [self._cluster(job)]

    def start(self, job: Job) -> str:
        """``cluster/step``."""
        (request,) = self.requests(job)
        answer = self._ask(request)
        if self._wanted.cluster:
            return f"{self._wanted.cluster}/{answer['StepIds'][0]}"
        cluster = answer["JobFlowId"]
        steps = self._ask(Request(self.SERVICE, "ListSteps", {"ClusterId": cluster}))["Steps"]
        return f"{cluster}/{steps[0]['Id']}"

    def state(self, identity: str) -> State:
        """As EMR has it of the step; a cluster that did not start says why itself."""
        cluster, _, step = identity.partition("/")
        status = self._ask(Request(self.SERVICE, "DescribeStep", {"ClusterId": cluster, "StepId": step}))["Step"][
            "Status"
        ]
        details = status.get("FailureDetails") or {}
        told = " ".join(filter(None, (details.get("Reason"), details.get("Message"))))
        found = _state(status["State"], told)
        if found.phase not in (Phase.WAITING, Phase.CANCELLED):
            return found
        whole = self._ask(Request(self.SERVICE, "DescribeCluster", {"ClusterId": cluster}))["Cluster"]["Status"]
        if whole["State"] in ("TERMINATED_WITH_ERRORS", "TERMINATED"):
            why = (whole.get("StateChangeReason") or {}).get("Message", "")
            return State(Phase.FAILED, f"the cluster is {whole['State']}: {why}")
        return found if found.is_over else State(found.phase, f"{found.told}, the cluster is {whole['State']}")

    def cancel(self, identity: str) -> None:
        """End the step, and the cluster if it is the step's own."""
        cluster, _, step = identity.partition("/")
        if self._wanted.cluster:
            parameters = {"ClusterId": cluster, "StepIds": [step], "StepCancellationOption": "TERMINATE_PROCESS"}
            self._ask(Request(self.SERVICE, "CancelSteps", parameters))
        else:
            self._ask(Request(self.SERVICE, "TerminateJobFlows", {"JobFlowIds": [cluster]}))

    def told(self, identity: str) -> list[tuple[str, str]]:
        """Its logs."""
        cluster, _, step = identity.partition("/")
        where = self._logs if not self._wanted.cluster else "<the cluster's own LogUri>/"
        return [("step", f"{step} of cluster {cluster}"), ("logs", f"{where}{cluster}/steps/{step}/")]

    def _step(self, job: Job, on_failure: str) -> dict[str, Any]:
        properties = {
            **job.properties,
            "spark.pyspark.python": PYTHON,
            "spark.yarn.maxAppAttempts": "1",
        }
        words = ["spark-submit", "--deploy-mode", "cluster", *_words(properties), job.files.script, *job.arguments]
        if sum(map(len, words)) > MAX_STEP_CHARACTERS:
            raise ConfigError(
                f"the step's arguments have {sum(map(len, words)):,} characters, and EMR takes {MAX_STEP_CHARACTERS:,}:"
                " give submit.staging a shorter prefix"
            )
        return {
            "Name": job.name,
            "ActionOnFailure": on_failure,
            "HadoopJarStep": {"Jar": "command-runner.jar", "Args": words},
        }

    def _cluster(self, job: Job) -> Request:
        wanted = self._wanted
        missing = [key for key in ("role", "service_role") if not getattr(wanted, key)]
        if missing:
            raise ConfigError(
                *(f"submit.{key}: a new EMR cluster needs it; its default roles are no more" for key in missing)
            )

        def group(role: str, count: int) -> dict[str, Any]:
            return {"Name": role, "InstanceRole": role, "InstanceType": wanted.instance, "InstanceCount": count}

        # On each machine one executor and the system; one more for the driver.
        instances: dict[str, Any] = {
            "InstanceGroups": [group("MASTER", 1), group("CORE", job.size.executors + 1)],
            "KeepJobFlowAliveWhenNoSteps": False,
            "TerminationProtected": False,
        }
        if wanted.subnet:
            instances["Ec2SubnetId"] = wanted.subnet
        parameters = {
            "Name": job.name,
            "LogUri": self._logs,
            "ReleaseLabel": wanted.release,
            "Applications": [{"Name": "Spark"}],
            "Instances": instances,
            "Steps": [self._step(job, "TERMINATE_CLUSTER")],
            "JobFlowRole": wanted.role,
            "ServiceRole": wanted.service_role,
            # The step ends the cluster; where that fails, idleness does.
            "AutoTerminationPolicy": {"IdleTimeout": 600},
            "Tags": [{"Key": key, "Value": value} for key, value in {**self._tags, **MANAGED}.items()],
        }
        return Request(self.SERVICE, "RunJobFlow", parameters)


class _Eks(_Aws):
    """A job run on a virtual cluster, in an image of the packed Dockerfile."""

    NEEDED = ("role", "cluster", "image")
    SERVICE = "emr-containers"

    def requests(self, job: Job) -> list[Request]:
        """The run."""
        properties = {
            **job.properties,
            "spark.kubernetes.container.image": str(self._wanted.image),
            "spark.pyspark.python": "/opt/mirabelle/environment/bin/python",
        }
        # They are in the image.
        for key in ("spark.archives", "spark.submit.pyFiles"):
            del properties[key]
        parameters = {
            "name": re.sub(r"[^./#A-Za-z0-9_-]+", "-", job.name)[:64],
            "virtualClusterId": self._wanted.cluster,
            "clientToken": job.token,
            "executionRoleArn": self._wanted.role,
            "releaseLabel": f"{self._wanted.release}-latest",
            "jobDriver": {
                "sparkSubmitJobDriver": {
                    "entryPoint": job.files.script,
                    "entryPointArguments": [*job.arguments[:-1], "cache=/opt/mirabelle/mirabelle-cache"],
                    "sparkSubmitParameters": _as_words(properties),
                }
            },
            "configurationOverrides": self._monitoring,
            "retryPolicyConfiguration": {"maxAttempts": 1},
            "tags": self._tags,
        }
        return [Request(self.SERVICE, "StartJobRun", parameters)]

    def start(self, job: Job) -> str:
        """The run's id."""
        (request,) = self.requests(job)
        return str(self._ask(request)["id"])

    def state(self, identity: str) -> State:
        """As EMR on EKS has it."""
        run = self._ask(Request(self.SERVICE, "DescribeJobRun", self._names(identity)))["jobRun"]
        return _state(run["state"], " ".join(filter(None, (run.get("failureReason"), run.get("stateDetails")))))

    def cancel(self, identity: str) -> None:
        """End the run."""
        self._ask(Request(self.SERVICE, "CancelJobRun", self._names(identity)))

    def told(self, identity: str) -> list[tuple[str, str]]:
        """Its logs."""
        return [("job run", identity), ("logs", f"{self._logs}{self._wanted.cluster}/jobs/{identity}/")]

    def _names(self, identity: str) -> dict[str, Any]:
        return {"virtualClusterId": self._wanted.cluster, "id": identity}


def _state(theirs: str, details: str) -> State:
    return State(PHASES.get(theirs, Phase.RUNNING), f"{theirs}: {details}" if details else theirs)


def _words(properties: Mapping[str, str]) -> list[str]:
    return [word for key, value in properties.items() for word in ("--conf", f"{key}={value}")]


def _as_words(properties: Mapping[str, str]) -> str:
    return shlex.join(_words(properties))


def _method(operation: str) -> str:
    from botocore import xform_name

    return str(xform_name(operation))


def _is_theirs(error: Any) -> bool:
    """Whether running it again may mend it."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return bool(status >= 500 or "Throttl" in error.response.get("Error", {}).get("Code", ""))
