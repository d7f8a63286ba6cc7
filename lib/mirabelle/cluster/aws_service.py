"""What EMR's services have in common. Requests are plain values, to be shown and validated without being sent. [AWS]"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import Any

from mirabelle.cluster.job import Phase, Request, State
from mirabelle.config.submission import Submit
from mirabelle.errors import ConfigError, RunFailed

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


class Service:
    """One of them, asked by AWS's own client.

    Attributes:
        NEEDED: keys of the configuration's ``submit`` part that it cannot do without.
        wanted: that part.
    """

    NEEDED: tuple[str, ...] = ()

    def __init__(self, wanted: Submit, clients: Clients) -> None:
        self.wanted = wanted
        self.clients = clients

    @property
    def logs(self) -> str:
        """Below which prefix logs go."""
        return (self.wanted.logs or f"{str(self.wanted.staging).rstrip('/')}/logs").rstrip("/") + "/"

    @property
    def monitoring(self) -> dict[str, Any]:
        """The same, as a request has it."""
        return {"monitoringConfiguration": {"s3MonitoringConfiguration": {"logUri": self.logs}}}

    @property
    def tags(self) -> dict[str, str]:
        """What all that is made bears."""
        return {"application": "mirabelle", **self.wanted.tags}

    def ask(self, request: Request) -> Any:
        """Send a request.

        Raises:
            ConfigError: it was refused.
            RunFailed: likewise, and the same request may be granted later.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(self.clients(request.service), _method(request.operation))(**request.parameters)
        except ClientError as error:
            told = error.response.get("Error", {})
            code, message = told.get("Code", "?"), told.get("Message", "")
            raise (RunFailed if _is_theirs(error) else ConfigError)(
                f"{request.service} refused {request.operation}: {message} ({code})"
            ) from error
        except BotoCoreError as error:
            raise ConfigError(f"{request.service} cannot be asked: {error}") from error


def state_of(theirs: str, details: str) -> State:
    """A state of a job by their word for it."""
    return State(PHASES.get(theirs, Phase.RUNNING), f"{theirs}: {details}" if details else theirs)


def conf_words(properties: Mapping[str, str]) -> list[str]:
    """Spark's properties, as spark-submit takes them."""
    return [word for key, value in properties.items() for word in ("--conf", f"{key}={value}")]


def conf_line(properties: Mapping[str, str]) -> str:
    """The same in one line."""
    return shlex.join(conf_words(properties))


def _method(operation: str) -> str:
    from botocore import xform_name

    return str(xform_name(operation))


def _is_theirs(error: Any) -> bool:
    """Whether running it again may mend it."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return bool(status >= 500 or "Throttl" in error.response.get("Error", {}).get("Code", ""))
