"""How a bucket is reached: plain values that travel to the workers; never a secret. Touches nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class S3Options:
    """What AWS's own environment variables and files did not say.

    Attributes:
        endpoint: of an S3-compatible store, ``http://host:9000``; None for AWS.
        region: of the buckets.
        path_style: the bucket in the path and not in the host's name; None: as the endpoint suggests.
        profile: of AWS's config files.
        anonymous: buckets that are read without credentials; ``*`` for all.
        requester_pays: accept the costs of buckets that ask for it.
        reads_at_once: objects a worker reads at the same time.
        attempts: for each request, the first included.
        timeout_seconds: for one attempt, so that a stalled read ends.
    """

    endpoint: str | None = None
    region: str | None = None
    path_style: bool | None = None
    profile: str | None = None
    anonymous: tuple[str, ...] = ()
    requester_pays: bool = False
    reads_at_once: int = 16
    attempts: int = 10
    timeout_seconds: float = 30.0

    def is_anonymous(self, bucket: str) -> bool:
        """Whether a bucket is read without credentials."""
        return bucket in self.anonymous or "*" in self.anonymous
