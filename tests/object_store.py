"""A real S3 server for the tests of buckets: MinIO where it can be had, else moto's, as the run's summary says."""

import os
import secrets
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import boto3
import pytest
from botocore.config import Config

from conftest import REPOSITORY
from remarks import remark

MINIO_SCRIPT = REPOSITORY / "scripts" / "minio"
THREADS = 8


@dataclass(frozen=True)
class Server:
    """Where it is, and what clients need to talk to it."""

    endpoint: str
    access_key: str
    secret_key: str
    is_minio: bool
    region: str = "us-east-1"

    @property
    def environment(self) -> dict[str, str]:
        """What leads clients here, and to no other place that this machine's user may have set up."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,  # the name that boto3 reads
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/nonexistent/config",
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent/credentials",
        }


def load_minio_script() -> ModuleType:
    """scripts/minio as a module."""
    loader = SourceFileLoader("minio_script", str(MINIO_SCRIPT))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    sys.modules[loader.name] = module  # its dataclasses look there
    loader.exec_module(module)
    return module


@contextmanager
def moto_server() -> Iterator[Server]:
    """Moto's server; it takes any credentials."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield Server(f"http://{host}:{port}", secrets.token_hex(10), secrets.token_hex(20), is_minio=False)
    finally:
        server.stop()


@pytest.fixture(scope="session")
def server(pytestconfig: pytest.Config) -> Iterator[Server]:
    """An S3 server for the whole session, with credentials of its own."""
    minio = load_minio_script()
    try:
        minio.find_binary()
    except minio.MinioError as error:
        remark(pytestconfig, f"tier s3 ran against moto's server, not MinIO: {error}")
        with moto_server() as moto:
            yield moto
        return
    with minio.serving() as started:
        yield Server(started.endpoint, started.access_key, started.secret_key, is_minio=True)


@pytest.fixture
def aws(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The test's environment leads to the server; the developer's own AWS settings and HTTP proxies are out of it."""
    for name in os.environ:
        if name.startswith("AWS_") or name.lower() in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.delenv(name)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server


@cache
def sdk() -> boto3.session.Session:
    """One for all clients: what it learns from its many files takes half a second."""
    return boto3.session.Session()


def connect(server: Server, endpoint: str | None = None) -> Any:
    """A boto3 client of the server, or of a proxy before it, that tries everything once only."""
    return sdk().client(
        "s3",
        endpoint_url=endpoint or server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name=server.region,
        config=Config(retries={"total_max_attempts": 1}, max_pool_connections=THREADS),
    )


@pytest.fixture
def client(aws: Server) -> Iterator[Any]:
    """A boto3 client of the server that does not retry."""
    made = connect(aws)
    yield made
    made.close()


@pytest.fixture
def bucket(client: Any) -> Iterator[str]:
    """A new bucket for this test alone."""
    name = f"test-{uuid4().hex[:16]}"
    client.create_bucket(Bucket=name)
    yield name
    for page in client.get_paginator("list_object_versions").paginate(Bucket=name):
        found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        doomed = [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in found]
        if doomed:
            client.delete_objects(Bucket=name, Delete={"Objects": doomed, "Quiet": True})
    for upload in client.list_multipart_uploads(Bucket=name).get("Uploads", []):
        client.abort_multipart_upload(Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"])
    client.delete_bucket(Bucket=name)


def put(client: Any, bucket: str, key: str, content: bytes) -> str:
    """Store an object; its etag, without the quotes."""
    return client.put_object(Bucket=bucket, Key=key, Body=content)["ETag"].strip('"')


def upload_folder(client: Any, bucket: str, prefix: str, folder: Path) -> list[str]:
    """Store every file of a folder under a prefix, some at a time; their keys in order."""
    files = {f"{prefix}{path.relative_to(folder).as_posix()}": path for path in folder.rglob("*") if path.is_file()}
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(lambda key: put(client, bucket, key, files[key].read_bytes()), files))
    return sorted(files)
