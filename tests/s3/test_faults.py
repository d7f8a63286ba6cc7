"""The fault proxy: honest when told nothing, and each fault looks as it says."""

import hashlib
import http.client
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import obstore
import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, IncompleteReadError, ResponseStreamingError
from obstore.store import S3Store

from object_store import Server, connect, put
from s3.faults import ERRORS, KINDS, FaultProxy

ODD_KEYS = [
    "a b",
    "100%",
    "100%25",
    "1+1=2",
    "grün/Äpfel/日本",
    "a#b",
    "a?b&c=d",
    "~tilde",
    "a'b(c)!*",
    "a:b;c,d@e$f",
]

Through = Callable[..., tuple[FaultProxy, Any]]


@pytest.fixture
def through(aws: Server) -> Iterator[Through]:
    """A proxy with some faults before the server, and a client that does not retry behind it."""
    made: list[tuple[FaultProxy, Any]] = []

    def make(**settings: Any) -> tuple[FaultProxy, Any]:
        proxy = FaultProxy(aws.endpoint, **settings)
        proxy.__enter__()
        made.append((proxy, connect(aws, proxy.endpoint)))
        return made[-1]

    yield make
    for proxy, client in made:
        client.close()
        proxy.__exit__()


def store_of(bucket: str, endpoint: str, **options: Any) -> S3Store:
    """An obstore store that does not retry."""
    return S3Store(
        bucket,
        endpoint=endpoint,
        client_options={"allow_http": True, **options},
        retry_config={"max_retries": 0},
    )


def get(client: Any, bucket: str, key: str) -> bytes:
    return client.get_object(Bucket=bucket, Key=key)["Body"].read()


def error_of(caught: pytest.ExceptionInfo[ClientError]) -> tuple[str, int]:
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def answered(proxy: FaultProxy) -> int:
    return sum(count for what, count in proxy.counts.items() if what != "requests")


@pytest.mark.parametrize("key", ODD_KEYS)
def test_odd_keys_go_through(key: str, through: Through, client: Any, bucket: str) -> None:
    _, behind = through()
    content = key.encode()
    put(behind, bucket, f"{key}/boto3", content)
    assert get(client, bucket, f"{key}/boto3") == content
    assert get(behind, bucket, f"{key}/boto3") == content
    assert client.list_objects_v2(Bucket=bucket)["Contents"][0]["Key"] == f"{key}/boto3"


@pytest.mark.parametrize("key", ODD_KEYS)
def test_odd_keys_go_through_for_obstore(key: str, through: Through, client: Any, bucket: str) -> None:
    proxy, behind = through()
    store = store_of(bucket, proxy.endpoint)
    obstore.put(store, key, key.encode(), use_multipart=False)
    assert [item["path"] for batch in obstore.list(store) for item in batch] == [key]
    assert get(behind, bucket, key) == obstore.get(store, key).bytes().to_bytes() == key.encode()


def test_large_bodies_go_through(through: Through, bucket: str) -> None:
    proxy, behind = through()
    content = hashlib.shake_256(b"large").digest(9 << 20)
    put(behind, bucket, "large", content)
    assert get(behind, bucket, "large") == content
    ranged = behind.get_object(Bucket=bucket, Key="large", Range="bytes=5000000-5999999")["Body"].read()
    assert ranged == content[5_000_000:6_000_000]
    obstore.put(store_of(bucket, proxy.endpoint), "parts", content, use_multipart=True, chunk_size=5 << 20)
    assert get(behind, bucket, "parts") == content


def test_copies_lists_and_conditions_go_through(through: Through, bucket: str, server: Server) -> None:
    proxy, behind = through()
    etag = put(behind, bucket, "a b", b"one")
    behind.copy_object(Bucket=bucket, Key="c+d", CopySource={"Bucket": bucket, "Key": "a b"})
    assert get(behind, bucket, "c+d") == b"one"
    with pytest.raises(ClientError) as caught:
        behind.put_object(Bucket=bucket, Key="a b", Body=b"two", IfNoneMatch="*")
    assert error_of(caught) == ("PreconditionFailed", 412)
    behind.put_object(Bucket=bucket, Key="new", Body=b"two", IfNoneMatch="*")
    behind.put_object(Bucket=bucket, Key="a b", Body=b"three", IfMatch=etag)
    with pytest.raises(ClientError) as caught:
        behind.put_object(Bucket=bucket, Key="a b", Body=b"four", IfMatch=etag)
    assert error_of(caught) == ("PreconditionFailed", 412)
    pages = behind.get_paginator("list_objects_v2").paginate(Bucket=bucket, PaginationConfig={"PageSize": 2})
    assert [[one["Key"] for one in page["Contents"]] for page in pages] == [["a b", "c+d"], ["new"]]
    behind.delete_object(Bucket=bucket, Key="new")
    with pytest.raises(ClientError) as caught:
        behind.head_object(Bucket=bucket, Key="new")
    assert error_of(caught) == ("404", 404)
    assert proxy.counts["passed"] == proxy.counts["requests"] == answered(proxy)


def test_an_early_answer_to_a_large_body(through: Through, bucket: str) -> None:
    _, behind = through()
    put(behind, bucket, "taken", b"")
    for _ in range(3):
        with pytest.raises(ClientError) as caught:
            behind.put_object(Bucket=bucket, Key="taken", Body=bytes(3 << 20), IfNoneMatch="*")
        assert error_of(caught) == ("PreconditionFailed", 412)
    assert get(behind, bucket, "taken") == b""


def test_chunked_requests_go_through(server: Server) -> None:
    def statuses(endpoint: str) -> list[int]:
        connection = http.client.HTTPConnection(urlsplit(endpoint).netloc)
        found = []
        for _ in range(2):  # on one connection: the first has to be read to its very end
            connection.request("PUT", "/nobody/key", body=iter([b"some", b"more"]), encode_chunked=True)
            with connection.getresponse() as answer:
                answer.read()
                found.append(answer.status)
        connection.close()
        return found

    with FaultProxy(server.endpoint) as proxy:
        assert statuses(proxy.endpoint) == statuses(server.endpoint)
        assert proxy.counts["passed"] == 2


def test_slow_down(through: Through, client: Any, bucket: str) -> None:
    proxy, behind = through(slow_down=1.0)
    for size in (1, 3 << 20):
        with pytest.raises(ClientError) as caught:
            put(behind, bucket, "key", bytes(size))
        assert error_of(caught) == ("SlowDown", 503)
    with pytest.raises(ClientError) as caught:
        behind.head_object(Bucket=bucket, Key="key")
    assert error_of(caught) == ("503", 503)
    with pytest.raises(obstore.exceptions.BaseError, match="SlowDown"):
        obstore.put(store_of(bucket, proxy.endpoint), "key", b"0", use_multipart=False)
    assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    assert proxy.counts == {"requests": 4, "slow_down": 4}


def test_resets_come_before_the_server_and_lost_answers_after_it(through: Through, client: Any, bucket: str) -> None:
    proxy, behind = through()
    for what, stored in (("reset", 0), ("lost", 1)):
        proxy.next(what)
        with pytest.raises(ConnectionClosedError):
            put(behind, bucket, "key", b"content")
        assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == stored
    proxy.next("reset", 2)
    with pytest.raises(obstore.exceptions.BaseError):
        obstore.get(store_of(bucket, proxy.endpoint), "key")
    address = urlsplit(proxy.endpoint)
    with socket.create_connection((address.hostname, address.port)) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            raw.recv(1)
    assert proxy.counts == {"requests": 4, "reset": 3, "lost": 1}


def test_truncated_bodies(through: Through, client: Any, bucket: str) -> None:
    content = b"0123456789" * 100_000
    put(client, bucket, "key", content)
    proxy, behind = through(truncated=1.0)
    body = behind.get_object(Bucket=bucket, Key="key")["Body"]
    with pytest.raises((IncompleteReadError, ResponseStreamingError)):
        body.read()
    with pytest.raises(obstore.exceptions.BaseError):
        obstore.get(store_of(bucket, proxy.endpoint), "key").bytes()
    connection = http.client.HTTPConnection(urlsplit(proxy.endpoint).netloc)
    url = behind.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "key"})
    connection.request("GET", url.removeprefix(proxy.endpoint))
    with connection.getresponse() as answer:
        assert answer.length == len(content)
        with pytest.raises(http.client.IncompleteRead) as caught:
            answer.read()
    assert caught.value.partial == content[: len(content) // 2]
    connection.close()
    put(behind, bucket, "other", b"content")  # whose answer has no body to cut
    assert proxy.counts == {"requests": 4, "truncated": 3, "passed": 1}


def test_slow_and_stalled_bodies(through: Through, client: Any, bucket: str) -> None:
    put(client, bucket, "key", b"content")
    proxy, behind = through(delay_seconds=0.4)
    proxy.next("slow")
    body = behind.get_object(Bucket=bucket, Key="key")["Body"]  # the head is there at once
    start = time.monotonic()
    assert body.read() == b"content"
    assert time.monotonic() - start > 0.3
    proxy.next("slow", method="HEAD")
    start = time.monotonic()
    behind.head_object(Bucket=bucket, Key="key")
    assert time.monotonic() - start > 0.3
    proxy.next("stalled")
    with pytest.raises(obstore.exceptions.BaseError, match=r"(?i)time"):
        obstore.get(store_of(bucket, proxy.endpoint, timeout="300ms"), "key").bytes()
    proxy.next("stalled")
    with pytest.raises(obstore.exceptions.BaseError, match=r"(?i)time"):
        obstore.put(store_of(bucket, proxy.endpoint, timeout="300ms"), "other", b"content", use_multipart=False)
    assert get(behind, bucket, "key") == b"content"
    assert proxy.counts == {"requests": 5, "slow": 2, "stalled": 2, "passed": 1}


@pytest.mark.parametrize("code", ERRORS)
def test_scripted_errors(code: str, through: Through, client: Any, bucket: str) -> None:
    key = "grün + blau"
    put(client, bucket, key, b"content")
    put(client, bucket, "other", b"content")
    proxy, behind = through()
    proxy.next(code, 2, method="GET", key=f"{bucket}/{key}")
    assert get(behind, bucket, "other") == b"content"
    behind.head_object(Bucket=bucket, Key=key)
    for _ in range(2):
        with pytest.raises(ClientError) as caught:
            get(behind, bucket, key)
        assert error_of(caught) == (code, ERRORS[code][0])
    assert get(behind, bucket, key) == b"content"
    assert proxy.counts == {"requests": 5, code: 2, "passed": 3}


def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(ValueError, match="earthquake"):
        FaultProxy("http://127.0.0.1:1").next("earthquake")


def test_only_chosen_requests_suffer(through: Through, client: Any, bucket: str) -> None:
    put(client, bucket, "a b.bad", b"content")
    proxy, behind = through(slow_down=1.0, only=lambda method, path: method == "GET" and path == f"/{bucket}/a b.bad")
    behind.list_objects_v2(Bucket=bucket)
    behind.head_object(Bucket=bucket, Key="a b.bad")
    with pytest.raises(ClientError, match="SlowDown"):
        get(behind, bucket, "a b.bad")
    assert proxy.counts == {"requests": 3, "passed": 2, "slow_down": 1}


def test_shares_come_out_and_counts_add_up(through: Through, client: Any, bucket: str) -> None:
    put(client, bucket, "key", b"content")
    shares = {"slow_down": 0.1, "resets": 0.1, "lost": 0.1, "truncated": 0.1, "slow": 0.1}
    proxy, behind = through(**shares, delay_seconds=0.0, seed=7)

    def outcome(_: int) -> str:
        try:
            return "fine" if get(behind, bucket, "key") == b"content" else "wrong"
        except ClientError as error:
            return error.response["Error"]["Code"]
        except ConnectionClosedError:
            return "closed"
        except (IncompleteReadError, ResponseStreamingError):
            return "cut"

    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(outcome, range(600)))
    counts = proxy.counts
    assert counts["requests"] == answered(proxy) == 600
    assert outcomes.count("SlowDown") == counts["slow_down"]
    assert outcomes.count("closed") == counts["reset"] + counts["lost"]
    assert outcomes.count("cut") == counts["truncated"]
    assert outcomes.count("fine") == counts["slow"] + counts["passed"]
    # 60 are due of each of the five; 31 and 89 are four standard deviations of a binomial away.
    assert all(31 < counts[kind] < 89 for kind in KINDS if kind != "stalled")
    again = FaultProxy(proxy.endpoint, **shares, seed=7)
    drawn = [again.choose("GET", f"/{bucket}/key") for _ in range(600)]
    assert all(drawn.count(kind) == counts[kind] for kind in KINDS)


def test_a_server_that_is_gone_is_a_closed_connection(aws: Server) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens there
        with FaultProxy(f"http://127.0.0.1:{taken.getsockname()[1]}") as proxy:
            client = connect(aws, proxy.endpoint)
            with pytest.raises(ConnectionClosedError):
                client.list_buckets()
            client.close()
            assert proxy.counts == {"requests": 1, "broken": 1}


def test_a_client_that_goes_away_amid_its_body_is_no_request_for_long(server: Server) -> None:
    with FaultProxy(server.endpoint) as proxy:
        address = urlsplit(proxy.endpoint)
        with socket.create_connection((address.hostname, address.port)) as raw:
            raw.sendall(b"PUT /nobody/key HTTP/1.1\r\nHost: here\r\nContent-Length: 9999999\r\n\r\nsome")
        deadline = time.monotonic() + 10
        while not answered(proxy) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert answered(proxy) == 1
