"""The part of a configuration that says where `mirabelle submit` sends a job. Touches nothing."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mirabelle.config.section import Section


class Submit(Section):
    """Where `mirabelle submit` sends a job, and how large."""

    to: Literal["yarn", "standalone", "emr", "emr-serverless", "emr-eks"] | None = Field(
        None, description="Kind of cluster; `mirabelle submit --to` says it, too."
    )
    pack: str = Field("dist/cluster", description="Folder of what `mirabelle pack` makes; made if it is not there.")
    arch: Literal["x86_64", "aarch64"] = Field("x86_64", description="The cluster's CPUs; aarch64 is Graviton.")
    python: str = Field("3.11", description="The cluster's Python.")
    master: str | None = Field(None, description="standalone: spark://host:7077.")
    staging: str | None = Field(
        None, description="AWS: s3://bucket/prefix for what a job needs; each file is put there once, by its content."
    )
    logs: str | None = Field(None, description="AWS: s3://bucket/prefix for logs; by default `logs` below staging.")
    release: str = Field("emr-7.13.0", description="AWS: release of EMR.")
    role: str | None = Field(
        None, description="AWS: ARN of the role that the job runs as; emr: name of the instance profile."
    )
    service_role: str | None = Field(None, description="emr: name of the role that EMR itself has.")
    cluster: str | None = Field(
        None,
        description="emr: a cluster that is there (j-...), else one is started and ends with the job; emr-serverless:"
        " id of an application, else one named mirabelle is made once; emr-eks: id of the virtual cluster.",
    )
    subnet: str | None = Field(None, description="emr: subnet for a new cluster.")
    instance: str = Field(
        "m7a.xlarge",
        description="emr: type of a new cluster's machines: four cores, and room for an executor of 8 GiB.",
    )
    image: str | None = Field(None, description="emr-eks, emr-serverless: container image, from the packed Dockerfile.")
    flex: bool = Field(False, description="emr-serverless: cheaper capacity, whenever there is some.")
    timeout_minutes: int = Field(720, ge=5, description="AWS: a job that takes longer is ended.")
    minutes: float = Field(30, gt=0, description="How long embedding should take; decides the number of cores.")
    max_cores: int = Field(256, ge=1, description="And no more than these.")
    executor_cores: int = Field(4, ge=1, description="Of each executor: so many tasks at once.")
    images_per_second: float | None = Field(
        None, gt=0, description="Of one core; by default as the output's last run did, else as measured elsewhere."
    )
    core_hour_dollars: float = Field(
        0.064, ge=0, description="Price of a core-hour with 2 GB, for the estimate; look yours up (docs/costs.md)."
    )
    tags: dict[str, str] = Field(default_factory=dict, description="AWS: on all that is made.")
