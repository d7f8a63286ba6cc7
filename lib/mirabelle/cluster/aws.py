"""Jobs on AWS: which of its services, and how it is reached. [AWS]

Runs where people type. Credentials come from AWS's default chain alone.
"""

from __future__ import annotations

from typing import Any

from mirabelle.cluster.aws_service import Clients
from mirabelle.cluster.emr import Emr
from mirabelle.cluster.emr_eks import EmrEks
from mirabelle.cluster.emr_serverless import EmrServerless
from mirabelle.cluster.job import Target
from mirabelle.config.submission import Submit
from mirabelle.errors import ConfigError


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
    kinds: dict[str, type[Emr] | type[EmrServerless] | type[EmrEks]] = {
        "emr": Emr,
        "emr-serverless": EmrServerless,
        "emr-eks": EmrEks,
    }
    kind = kinds[str(wanted.to)]
    missing = [key for key in ("staging", *kind.NEEDED) if not getattr(wanted, key)]
    if missing:
        raise ConfigError(*(f"submit.{key}: {wanted.to} needs it" for key in missing))
    return kind(wanted, clients)
