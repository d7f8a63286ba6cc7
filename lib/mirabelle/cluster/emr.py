"""EMR on EC2: a step, on a cluster that is there or on one of its own. [AWS]"""

from __future__ import annotations

from typing import Any

from mirabelle.cluster.aws_service import Service, conf_words, state_of
from mirabelle.cluster.job import PYTHON, Job, Phase, Request, State
from mirabelle.errors import ConfigError

# A step's arguments may have so many characters in all (AWS's documentation of StepConfig).
MAX_STEP_CHARACTERS = 10_240
# What AmazonEMRServicePolicy_v2, the policy of EMR's own role, wants of a cluster.
MANAGED = {"for-use-with-amazon-emr-managed-policies": "true"}


class Emr(Service):
    """A step, on a cluster that is there or on one that ends with it."""

    SERVICE = "emr"

    def requests(self, job: Job) -> list[Request]:
        """The step, or the cluster with it."""
        if self.wanted.cluster:
            parameters = {"JobFlowId": self.wanted.cluster, "Steps": [self._step(job, "CONTINUE")]}
            return [Request(self.SERVICE, "AddJobFlowSteps", parameters)]
        return [self._cluster(job)]

    def start(self, job: Job) -> str:
        """``cluster/step``."""
        (request,) = self.requests(job)
        answer = self.ask(request)
        if self.wanted.cluster:
            return f"{self.wanted.cluster}/{answer['StepIds'][0]}"
        cluster = answer["JobFlowId"]
        steps = self.ask(Request(self.SERVICE, "ListSteps", {"ClusterId": cluster}))["Steps"]
        return f"{cluster}/{steps[0]['Id']}"

    def state(self, identity: str) -> State:
        """As EMR has it of the step; a cluster that did not start says why itself."""
        cluster, _, step = identity.partition("/")
        status = self.ask(Request(self.SERVICE, "DescribeStep", {"ClusterId": cluster, "StepId": step}))["Step"][
            "Status"
        ]
        details = status.get("FailureDetails") or {}
        told = " ".join(filter(None, (details.get("Reason"), details.get("Message"))))
        found = state_of(status["State"], told)
        if found.phase not in (Phase.WAITING, Phase.CANCELLED):
            return found
        whole = self.ask(Request(self.SERVICE, "DescribeCluster", {"ClusterId": cluster}))["Cluster"]["Status"]
        if whole["State"] in ("TERMINATED_WITH_ERRORS", "TERMINATED"):
            why = (whole.get("StateChangeReason") or {}).get("Message", "")
            return State(Phase.FAILED, f"the cluster is {whole['State']}: {why}")
        return found if found.is_over else State(found.phase, f"{found.told}, the cluster is {whole['State']}")

    def cancel(self, identity: str) -> None:
        """End the step, and the cluster if it is the step's own."""
        cluster, _, step = identity.partition("/")
        if self.wanted.cluster:
            parameters = {"ClusterId": cluster, "StepIds": [step], "StepCancellationOption": "TERMINATE_PROCESS"}
            self.ask(Request(self.SERVICE, "CancelSteps", parameters))
        else:
            self.ask(Request(self.SERVICE, "TerminateJobFlows", {"JobFlowIds": [cluster]}))

    def told(self, identity: str) -> list[tuple[str, str]]:
        """Its logs."""
        cluster, _, step = identity.partition("/")
        where = self.logs if not self.wanted.cluster else "<the cluster's own LogUri>/"
        return [("step", f"{step} of cluster {cluster}"), ("logs", f"{where}{cluster}/steps/{step}/")]

    def _step(self, job: Job, on_failure: str) -> dict[str, Any]:
        properties = {
            **job.properties,
            "spark.pyspark.python": PYTHON,
            "spark.yarn.maxAppAttempts": "1",
        }
        words = ["spark-submit", "--deploy-mode", "cluster", *conf_words(properties), job.files.script, *job.arguments]
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
        wanted = self.wanted
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
            "LogUri": self.logs,
            "ReleaseLabel": wanted.release,
            "Applications": [{"Name": "Spark"}],
            "Instances": instances,
            "Steps": [self._step(job, "TERMINATE_CLUSTER")],
            "JobFlowRole": wanted.role,
            "ServiceRole": wanted.service_role,
            # The step ends the cluster; where that fails, idleness does.
            "AutoTerminationPolicy": {"IdleTimeout": 600},
            "Tags": [{"Key": key, "Value": value} for key, value in {**self.tags, **MANAGED}.items()],
        }
        return Request(self.SERVICE, "RunJobFlow", parameters)
