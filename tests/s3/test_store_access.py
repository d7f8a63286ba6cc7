"""How a bucket is reached, and one sentence, soon, where it is not."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mirabelle.errors import ConfigError, ListingError, OutputError
from mirabelle.storage import S3Options
from mirabelle.storage.s3 import S3Store
from mirabelle.table.lease import hold
from object_store import Server, put
from s3.faults import FaultProxy

Act = Callable[[S3Store, str], object]
ACTS: dict[str, Act] = {
    "check": lambda store, path: store.check(path),
    "walk": lambda store, path: list(store.walk(path)),
    "read": lambda store, path: store.read(f"{path}/key", 100),
    "open": lambda store, path: store.open(f"{path}/key"),
    "write": lambda store, path: store.write(f"{path}/key", b"content"),
    "exists": lambda store, path: store.exists(f"{path}/key"),
    "remove": lambda store, path: store.remove(f"{path}/key"),
    "put_if": lambda store, path: store.put_if(f"{path}/key", b"content", None),
    "read_version": lambda store, path: store.read_version(f"{path}/key"),
}
acts = pytest.mark.parametrize("act", ACTS)
SOON_SECONDS = 60


def sentence(act: str, store: S3Store, path: str) -> str:
    """What a request that cannot work says, after it was seen to say it soon and in one line."""
    started = time.monotonic()
    with pytest.raises((ListingError, OutputError)) as raised:
        ACTS[act](store, path)
    assert time.monotonic() - started < SOON_SECONDS
    told = str(raised.value)
    assert "\n" not in told
    assert path.removeprefix("s3://") in told
    return told


@acts
def test_a_bucket_that_is_not_there(act: str, aws: Server) -> None:
    told = sentence(act, S3Store(S3Options()), "s3://no-such-bucket-here")
    assert "there is no bucket of that name; create it, or mend the name or the endpoint" in told


@acts
def test_a_wrong_secret(act: str, aws: Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not aws.is_minio:
        pytest.skip("moto takes any credentials")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    told = sentence(act, S3Store(S3Options()), f"s3://{bucket}")
    assert "the secret key does not fit the access key; check the credentials" in told


@acts
def test_an_unknown_key_id(act: str, aws: Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not aws.is_minio:
        pytest.skip("moto takes any credentials")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "wrong")
    told = sentence(act, S3Store(S3Options()), f"s3://{bucket}")
    assert "the store does not know these credentials; check which ones AWS's default chain finds here" in told


@acts
def test_no_credentials(act: str, aws: Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    told = sentence(act, S3Store(S3Options()), f"s3://{bucket}")
    assert "there are no credentials here: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or a profile" in told


@acts
def test_a_clock_that_is_wrong(act: str, aws: Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultProxy(aws.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        proxy.next("RequestTimeTooSkewed", 100)
        told = sentence(act, S3Store(S3Options()), f"s3://{bucket}")
    assert "this machine's clock is too far from the store's; set it right" in told


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address where nobody answers."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize("place", ["no port", "no host"])
def test_an_endpoint_that_does_not_answer(
    place: str, nobody: str, aws: Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", nobody if place == "no port" else "http://no-such-host.invalid:9000")
    for act, attempts in (("check", 10), ("walk", 10), ("read", 2), ("write", 2)):
        told = sentence(act, S3Store(S3Options(attempts=attempts)), f"s3://{bucket}")
        assert "its endpoint does not answer; check AWS_ENDPOINT_URL or s3.endpoint, and the network" in told


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
@pytest.mark.parametrize("endpoint", ["127.0.0.1:9000", "localhost", "minio:9000/"])
def test_an_endpoint_without_a_scheme(endpoint: str, name: str, aws: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, endpoint)
    for act in ("check", "walk", "read", "write"):
        with pytest.raises(ConfigError, match=f"^{name} is no URL .*; write http://host:9000, or https://"):
            ACTS[act](S3Store(S3Options()), "s3://somewhere")


@pytest.mark.parametrize("act", ["check", "walk", "read", "write"])
def test_a_proxy_that_is_down_is_named_without_its_password(
    act: str, nobody: str, aws: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://bucket.invalid")
    monkeypatch.setenv("HTTP_PROXY", nobody.replace("//", "//me:hidden@"))
    told = sentence(act, S3Store(S3Options(attempts=2)), "s3://somewhere")
    assert f"and the proxy {nobody} that HTTP_PROXY names" in told
    assert "hidden" not in told


def test_a_run_on_an_output_that_does_not_answer(nobody: str, aws: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", nobody)
    with pytest.raises((ListingError, OutputError), match="its endpoint does not answer"):
        hold(S3Store(S3Options(attempts=2)), "s3://somewhere/out", "run-1", "run").__enter__()


@pytest.mark.parametrize(("status", "content"), [(404, b"<html>not here</html>"), (200, b"hello"), (404, b"")])
def test_an_endpoint_that_is_no_s3_server(
    status: int, content: bytes, aws: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        told = sentence("check", S3Store(S3Options()), "s3://somewhere")
        server.shutdown()
    assert "AWS_ENDPOINT_URL" in told or "the store answers 500" in told


def test_our_endpoint_where_awss_environment_names_none(
    nobody: str, aws: Server, client: Any, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(client, bucket, "key", b"content")
    # Both: AWS's comes first.
    both = S3Store(S3Options(endpoint=nobody, region="eu-west-1", attempts=1))
    assert both.read(f"s3://{bucket}/key", 100) == b"content"
    assert (both.resolved().endpoint, both.resolved().region) == (aws.endpoint, aws.region)
    for name in ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    ours = S3Store(S3Options(endpoint=aws.endpoint, region=aws.region, attempts=1))
    assert ours.read(f"s3://{bucket}/key", 100) == b"content"
    assert [entry.path for entry in ours.walk(f"s3://{bucket}")] == [f"s3://{bucket}/key"]
    assert (ours.resolved().endpoint, ours.resolved().region) == (aws.endpoint, aws.region)
    # And what was resolved on the driver leads a worker there that knows nothing.
    assert S3Store(ours.resolved()).read(f"s3://{bucket}/key", 100) == b"content"
    plain = S3Store(S3Options()).resolved()
    assert (plain.endpoint, plain.region) == (None, "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"{aws.endpoint}/")  # as some people write it
    assert S3Store(S3Options(endpoint=nobody, attempts=1)).read(f"s3://{bucket}/key", 100) == b"content"


def test_a_profile_of_awss_files(
    aws: Server, client: Any, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(client, bucket, "key", b"content")
    settings = f"region = {aws.region}\nendpoint_url = {aws.endpoint}\ns3 =\n  addressing_style = path\n"
    (tmp_path / "config").write_text(f"[profile mine]\n{settings}[profile wrong]\n{settings}")
    keys = "aws_access_key_id = {}\naws_secret_access_key = {}\n"
    mine, wrong = keys.format(aws.access_key, aws.secret_key), keys.format("nobody", "nothing")
    (tmp_path / "credentials").write_text(f"[mine]\n{mine}[wrong]\n{wrong}")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    store = S3Store(S3Options(profile="mine"))
    assert store.read(f"s3://{bucket}/key", 100) == b"content"
    assert (store.resolved().endpoint, store.resolved().path_style) == (aws.endpoint, True)
    if aws.is_minio:
        assert "does not know these credentials" in sentence(
            "read", S3Store(S3Options(profile="wrong")), f"s3://{bucket}"
        )
    for act in ("check", "read", "write"):
        with pytest.raises(ConfigError, match=r"no profile 'none'; mend s3\.profile or AWS_PROFILE"):
            ACTS[act](S3Store(S3Options(profile="none")), f"s3://{bucket}")
    # AWS's environment comes first here too.
    monkeypatch.setenv("AWS_PROFILE", "mine")
    assert S3Store(S3Options(profile="wrong")).read(f"s3://{bucket}/key", 100) == b"content"
    monkeypatch.setenv("AWS_PROFILE", "none")
    for act in ("check", "read", "write"):
        with pytest.raises(ConfigError, match=r"no profile 'none'; mend s3\.profile or AWS_PROFILE"):
            ACTS[act](S3Store(S3Options()), f"s3://{bucket}")


def test_a_path_without_a_bucket(aws: Server) -> None:
    with pytest.raises(ListingError, match=r"s3:///key names no bucket; write s3://bucket/prefix"):
        S3Store(S3Options()).check("s3:///key")
    with pytest.raises(ListingError, match="that is no name a bucket can have"):
        S3Store(S3Options()).check("s3://Not_A_Name!/key")
