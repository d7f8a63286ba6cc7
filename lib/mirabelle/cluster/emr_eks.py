"""EMR on EKS: jobs on a virtual cluster, in an image of one's own. [AWS]"""

from __future__ import annotations

import re
from typing import Any

from mirabelle.cluster.aws_service import Service, conf_line, state_of
from mirabelle.cluster.job import Job, Request, State


class EmrEks(Service):
    """A job run on a virtual cluster, in an image of the packed Dockerfile."""

    NEEDED = ("role", "cluster", "image")
    SERVICE = "emr-containers"

    def requests(self, job: Job) -> list[Request]:
        """The run."""
        properties = {
            **job.properties,
            "spark.kubernetes.container.image": str(self.wanted.image),
            "spark.pyspark.python": "/opt/mirabelle/environment/bin/python",
        }
        # They are in the image.
        for key in ("spark.archives", "spark.submit.pyFiles"):
            del properties[key]
        parameters = {
            "name": re.sub(r"[^./#A-Za-z0-9_-]+", "-", job.name)[:64],
            "virtualClusterId": self.wanted.cluster,
            "clientToken": job.token,
            "executionRoleArn": self.wanted.role,
            "releaseLabel": f"{self.wanted.release}-latest",
            "jobDriver": {
                "sparkSubmitJobDriver": {
                    "entryPoint": job.files.script,
                    "entryPointArguments": [*job.arguments[:-1], "cache=/opt/mirabelle/mirabelle-cache"],
                    "sparkSubmitParameters": conf_line(properties),
                }
            },
            "configurationOverrides": self.monitoring,
            "retryPolicyConfiguration": {"maxAttempts": 1},
            "tags": self.tags,
        }
        return [Request(self.SERVICE, "StartJobRun", parameters)]

    def start(self, job: Job) -> str:
        """The run's id."""
        (request,) = self.requests(job)
        return str(self.ask(request)["id"])

    def state(self, identity: str) -> State:
        """As EMR on EKS has it."""
        run = self.ask(Request(self.SERVICE, "DescribeJobRun", self._names(identity)))["jobRun"]
        return state_of(run["state"], " ".join(filter(None, (run.get("failureReason"), run.get("stateDetails")))))

    def cancel(self, identity: str) -> None:
        """End the run."""
        self.ask(Request(self.SERVICE, "CancelJobRun", self._names(identity)))

    def told(self, identity: str) -> list[tuple[str, str]]:
        """Its logs."""
        return [("job run", identity), ("logs", f"{self.logs}{self.wanted.cluster}/jobs/{identity}/")]

    def _names(self, identity: str) -> dict[str, Any]:
        return {"virtualClusterId": self.wanted.cluster, "id": identity}
