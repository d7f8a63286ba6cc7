"""How this process reaches buckets: endpoint, region, credentials, clients. [object store, AWS's environment and files]

AWS's own environment variables and files are asked first, our configuration second. Credentials come from AWS's
default chain alone, are asked for again when they run out, and are never kept anywhere.
"""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import NoCredentialsError, ProfileNotFound
from obstore.store import S3Store as ObjectStore

from mirabelle.errors import ConfigError
from mirabelle.storage.options import S3Options

CONNECT_SECONDS = 5.0
# obstore asks for credentials again well before this is over; boto3 renews them when they are due.
CREDENTIALS_LAST = timedelta(minutes=15)
DEFAULT_REGION = "us-east-1"
# Where AWS's environment names one; the first that is set counts.
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
AWS_HOSTS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")


class Access:
    """Clients for the buckets of one set of options; for several threads at once."""

    def __init__(self, options: S3Options) -> None:
        self.options = options
        self._lock = threading.RLock()
        self.renew()

    def renew(self) -> None:
        """Forget credentials and connections; the next request asks the chain anew."""
        with self._lock:
            self._session: Any = None
            self._clients: dict[bool, Any] = {}
            self._stores: dict[str, ObjectStore] = {}

    @property
    def session(self) -> Any:
        """boto3's session.

        Raises:
            ConfigError: the profile is in none of AWS's files.
        """
        with self._lock:
            if self._session is None:
                # Ours, if it were given here, would go before the keys in AWS's environment.
                is_told = "AWS_PROFILE" in os.environ or "AWS_ACCESS_KEY_ID" in os.environ
                try:
                    self._session = boto3.Session(profile_name=None if is_told else self.options.profile)
                except ProfileNotFound as error:
                    profile = os.environ.get("AWS_PROFILE") or self.options.profile
                    raise ConfigError(
                        f"AWS's files have no profile {profile!r}; mend s3.profile or AWS_PROFILE"
                    ) from error
            return self._session

    def client(self, bucket: str) -> Any:
        """boto3's client, for everything but the bytes of pictures."""
        anonymous = self.options.is_anonymous(bucket)
        with self._lock:
            if anonymous not in self._clients:
                self._clients[anonymous] = self._make_client(anonymous, self._own_endpoint())
            return self._clients[anonymous]

    def store(self, bucket: str) -> ObjectStore:
        """obstore's store, which moves the bytes."""
        with self._lock:
            if bucket not in self._stores:
                self._stores[bucket] = self._make_store(bucket)
            return self._stores[bucket]

    def resolved(self) -> S3Options:
        """The options with what AWS's environment and files say put in, for workers that lack those."""
        meta = self.client("").meta
        endpoint = None if meta.endpoint_url.partition("://")[2].endswith(AWS_HOSTS) else meta.endpoint_url
        style = (meta.config.s3 or {}).get("addressing_style")
        path_style = {"path": True, "virtual": False}.get(str(style), self.options.path_style)
        return replace(self.options, endpoint=endpoint, region=meta.region_name, path_style=path_style)

    def _own_endpoint(self) -> str | None:
        """Our endpoint, where AWS's environment and files name none."""
        if self.options.endpoint is None:
            return None
        told = self._make_client(True, None).meta.endpoint_url
        return self.options.endpoint if told.partition("://")[2].endswith(AWS_HOSTS) else None

    def _make_client(self, anonymous: bool, endpoint: str | None) -> Any:
        options = self.options
        style = {True: "path", False: "virtual", None: None}[options.path_style]
        told = (self.session._session.get_scoped_config().get("s3") or {}).get("addressing_style")
        config = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=options.timeout_seconds,
            max_pool_connections=max(options.reads_at_once, 16),
            # One attempt: ``faults.retry`` makes the others, for both clients alike.
            retries={"total_max_attempts": 1, "mode": "standard"},
            s3={"addressing_style": told or style} if told or style else None,
            # Compatible stores don't all know the checksums that AWS's clients send by default.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            **({"signature_version": UNSIGNED} if anonymous else {}),
        )
        # boto3 itself reads AWS_DEFAULT_REGION alone; AWS's other SDKs, and Spark's, read this one.
        told_region = os.environ.get("AWS_REGION") or self.session.region_name
        region = told_region or options.region or DEFAULT_REGION
        try:
            return self.session.client("s3", endpoint_url=endpoint, region_name=region, config=config)
        except ValueError as error:  # so botocore says that an endpoint is no URL
            where = next((name for name in ENDPOINTS if os.environ.get(name)), "endpoint_url in AWS's files")
            raise ConfigError(f"{where} is no URL ({error}); write http://host:9000, or https:// before it") from error

    def _make_store(self, bucket: str) -> ObjectStore:
        options = self.resolved()
        # A bucket whose name has dots fits no certificate as a host.
        path_style = options.path_style if options.path_style is not None else bool(options.endpoint) or "." in bucket
        anonymous = options.is_anonymous(bucket)
        endpoint: dict[str, Any] = {"endpoint": options.endpoint} if options.endpoint and path_style else {}
        if options.endpoint and not path_style:
            scheme, _, host = options.endpoint.partition("://")
            endpoint = {"endpoint": f"{scheme}://{bucket}.{host}"}
        return ObjectStore(
            bucket,
            region=options.region,
            virtual_hosted_style_request=not path_style,
            skip_signature=anonymous,
            request_payer=options.requester_pays,
            credential_provider=None if anonymous else self._credentials,
            client_options={
                "timeout": timedelta(seconds=options.timeout_seconds),
                "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
                "allow_http": True,
            },
            retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=options.timeout_seconds)},
            **endpoint,
        )

    def _credentials(self) -> Any:
        found = self.session.get_credentials()
        if found is None:
            raise NoCredentialsError
        now = found.get_frozen_credentials()
        return {
            "access_key_id": now.access_key,
            "secret_access_key": now.secret_key,
            "token": now.token,
            "expires_at": datetime.now(UTC) + CREDENTIALS_LAST,
        }
