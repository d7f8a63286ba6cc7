"""Clients that send too slowly, too much, too little or no HTTP at all: none hangs the server or breaks it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from stand_in_bundle import SELF_TEST

from .conftest import Asked, Serve, picture

HEAD = b"POST /v1/predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\n"


class Wire:
    """A connection, with what has come of it and not been read yet."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.sendall = connection.sendall
        self._reader = connection.makefile("rb")

    def done_sending(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def rest(self) -> bytes:
        """Until the server closes."""
        try:
            return self._reader.read()
        except ConnectionResetError:
            return b""

    def answer(self) -> tuple[int, Any]:
        """One answer's status and document."""
        status = int(self._reader.readline().split()[1])
        headers = {}
        while (line := self._reader.readline().strip()) != b"":
            name, _, value = line.lower().partition(b": ")
            headers[name] = value
        return status, json.loads(self._reader.read(int(headers[b"content-length"])) or b"null")


@contextmanager
def connected(one: Asked) -> Iterator[Wire]:
    with socket.create_connection((one.host, one.port), timeout=10) as connection:
        wire = Wire(connection)
        try:
            yield wire
        finally:
            wire._reader.close()


def still_serves(one: Asked) -> bool:
    return one.client.post("/v1/predict", content=picture(), headers={"content-type": "image/png"}).status_code == 200


def test_heads_that_come_byte_by_byte(serve: Serve) -> None:
    one = serve("head_seconds=0.5")
    with connected(one) as slow, connected(one) as silent:
        started = time.monotonic()
        for byte in HEAD[:7]:
            slow.sendall(bytes([byte]))
            time.sleep(0.05)
        status, told = slow.answer()
        assert (status, told["code"]) == (408, "too_slow")
        assert slow.rest() == b""
        # Whoever says nothing is told nothing.
        assert silent.rest() == b""
        assert time.monotonic() - started < 3
    assert still_serves(one)


def test_a_second_head_on_a_kept_connection_is_waited_for_no_longer(serve: Serve) -> None:
    one = serve("head_seconds=0.5")
    with connected(one) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\nGET /he")
        assert connection.answer()[0] == 200
        assert connection.answer()[1]["code"] == "too_slow"


@pytest.mark.slow
def test_bodies_that_come_byte_by_byte(serve: Serve) -> None:
    one = serve("body_seconds=0.5")
    with connected(one) as slow:
        slow.sendall(HEAD + b"Content-Length: 1000\r\n\r\n")
        for _ in range(5):
            slow.sendall(b"x")
            time.sleep(0.05)
        started = time.monotonic()
        status, told = slow.answer()
        assert (status, told["code"]) == (408, "too_slow")
        assert time.monotonic() - started < 3
        assert slow.rest() == b""
    assert still_serves(one)


def test_a_body_shorter_than_it_says(server: Asked) -> None:
    with connected(server) as connection:
        connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\nabc")
        connection.done_sending()
        assert connection.rest() == b""
    assert still_serves(server)
    assert server.metric("held_bytes") == 0


def test_a_body_longer_than_it_says(server: Asked) -> None:
    body = picture()
    with connected(server) as connection:
        connection.sendall(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body + b"\x00\x01 and more\r\n\r\n")
        assert connection.answer()[0] == 200
        status, told = connection.answer()
        assert (status, told["code"]) == (400, "bad_request")
        assert connection.rest() == b""
    assert still_serves(server)


@pytest.mark.parametrize(
    "head",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n: empty\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        HEAD + b"Transfer-Encoding: gzip\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nZZZ\r\n",
    ],
)
def test_what_is_no_http(server: Asked, head: bytes) -> None:
    with connected(server) as connection:
        connection.sendall(head + b"\r\n\r\n")
        connection.done_sending()
        answer = connection.rest()
        assert answer == b"" or b" 400 " in answer.splitlines()[0] or b" 501 " in answer.splitlines()[0], answer
    assert still_serves(server)


@pytest.mark.parametrize(
    "flood",
    [
        b"X-A: " + b"a" * 2**20,
        b"".join(b"X-%d: 1\r\n" % number for number in range(10_000)),
        b"Authorization: Bearer " + b"a" * 2**20,
    ],
    ids=["one long", "many", "a token of 1 MB"],
)
def test_floods_of_headers(server: Asked, flood: bytes) -> None:
    with connected(server) as connection:
        with suppress(ConnectionError):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n" + flood + b"\r\n\r\n")
        answer = connection.rest()
        assert answer == b"" or b" 431 " in answer.splitlines()[0]
    assert still_serves(server)


def test_headers_of_one_packet_are_counted_too(serve: Serve) -> None:
    one = serve("max_header_bytes=2000")
    answer = one.client.get("/", headers={"x-a": "a" * 1990})
    assert (answer.status_code, answer.json()["code"]) == (431, "headers_too_large")
    assert one.client.get("/", headers={"x-a": "a" * 1000}).status_code == 200


def test_connections_have_a_limit(serve: Serve) -> None:
    one = serve("max_connections=3")
    with connected(one), connected(one), connected(one):
        time.sleep(0.2)
        with connected(one) as fourth:
            assert fourth.answer()[1]["code"] == "busy"
            assert fourth.rest() == b""
    time.sleep(0.2)
    assert still_serves(one)


def test_clients_that_go_before_they_are_answered(serve: Serve) -> None:
    one = serve("max_batch=1", seconds=0.15)
    body = picture()
    for _ in range(20):
        with connected(one) as connection:
            connection.sendall(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    time.sleep(0.6)
    assert one.server.shared.work.taken_in == 0
    assert one.server.shared.held.bytes == 0
    # A few were under way when their clients went; the others were never run.
    assert len(one.bundles[0].batches) < SELF_TEST + 8
    assert still_serves(one)


def test_requests_behind_each_other_on_one_connection(server: Asked) -> None:
    body = picture()
    request = HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
    with connected(server) as connection:
        connection.sendall(request * 3)
        assert [connection.answer()[0] for _ in range(3)] == [200, 200, 200]


def test_a_client_that_waits_to_be_told_to_go_on(serve: Serve) -> None:
    one = serve("max_body_bytes=1000")
    with connected(one) as connection:
        connection.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 5000\r\n\r\n")
        started = time.monotonic()
        status, told = connection.answer()
        assert (status, told["code"]) == (413, "body_too_large")
        assert time.monotonic() - started < 0.9
    body = picture()
    with connected(one) as connection:
        connection.sendall(HEAD + f"Expect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        assert connection._reader.readline().startswith(b"HTTP/1.1 100")
        assert connection._reader.readline() == b"\r\n"
        connection.sendall(body)
        assert connection.answer()[0] == 200


def test_a_form_of_ten_thousand_parts(server: Asked) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\nx\r\n'
    started = time.monotonic()
    answer = server.client.post(
        "/v1/predict",
        content=part * 10_000 + b"--b--\r\n",
        headers={"content-type": "multipart/form-data; boundary=b"},
    )
    assert (answer.status_code, answer.json()["code"]) == (413, "too_many_pictures")
    assert time.monotonic() - started < 2
