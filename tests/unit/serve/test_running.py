"""The server as a process: signals, its end under load, its log, its exit codes."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pytest

from conftest import REPOSITORY
from mirabelle.serve.running import cores
from stand_in_bundle import write_stand_in

from .conftest import log_of, picture

pytestmark = pytest.mark.slow

STAND_IN = REPOSITORY / "tests" / "stand_in_bundle.py"


@contextmanager
def process(
    folder: Path, *settings: str, log: int | IO[bytes] = subprocess.PIPE
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server in a process of its own, once it listens; and its port."""
    command = [sys.executable, str(STAND_IN), str(folder), "port=0", *settings]
    with subprocess.Popen(
        command, text=True, stdout=log, stderr=subprocess.PIPE, env={**os.environ, "COLUMNS": "200"}
    ) as started:
        assert started.stderr is not None
        try:
            line = started.stderr.readline()
            assert "serving" in line, line + started.stderr.read()
            yield started, int(line.rpartition(":")[2])
        finally:
            if started.poll() is None:
                started.kill()


def ask(port: int, path: str = "/health/live") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


@dataclass
class Load:
    """What clients saw: each asks again and again, on a kept connection or on one each."""

    port: int
    answered: int = 0
    refused: int = 0
    lost: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def client(self, keeps: bool, until: threading.Event) -> None:
        body = picture()
        connection: http.client.HTTPConnection | None = None
        while not until.is_set():
            try:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
                    connection.connect()
            except ConnectionRefusedError:
                with self._lock:
                    self.refused += 1
                return
            try:
                connection.request("POST", "/v1/predict", body, {"content-type": "image/png"})
                answer = connection.getresponse()
                told = json.loads(answer.read())
                assert answer.status == 200, told
                with self._lock:
                    self.answered += 1
            except (OSError, http.client.HTTPException, AssertionError) as error:
                with self._lock:
                    self.lost.append(f"{type(error).__name__}: {error}")
                return
            if not keeps or answer.headers.get("connection") == "close":
                connection.close()
                connection = None


@pytest.mark.parametrize("linger", ["0", "0.5"])
def test_sigterm_under_load_loses_no_accepted_request(tmp_path: Path, linger: str) -> None:
    folder = write_stand_in(tmp_path, seconds=0.02)
    with process(Path(folder), f"linger_seconds={linger}") as (server, port):
        load, until = Load(port), threading.Event()
        clients = [threading.Thread(target=load.client, args=(number % 2 == 0, until)) for number in range(16)]
        for client in clients:
            client.start()
        time.sleep(1.5)
        server.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        out, err = server.communicate(timeout=30)
        until.set()
        for client in clients:
            client.join()
    assert load.lost == []
    assert load.answered > 50
    assert load.refused == 16
    assert server.returncode == 0, err
    lines = log_of(out)
    answered = [line for line in lines if line["event"] == "request"]
    assert len(answered) == load.answered
    assert {line["status"] for line in answered} == {200}
    assert [line["event"] for line in lines if line["event"].startswith("stop")] == ["stopping", "stopped"]


def test_a_request_under_way_is_finished(tmp_path: Path) -> None:
    with process(Path(write_stand_in(tmp_path, seconds=0.7)), "linger_seconds=0") as (server, port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("POST", "/v1/predict", picture(), {"content-type": "image/png"})
        time.sleep(0.2)
        server.send_signal(signal.SIGTERM)
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.headers["connection"] == "close"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=1)
        server.communicate(timeout=30)
    assert server.returncode == 0


def test_while_it_lingers_it_answers_and_is_not_ready(tmp_path: Path) -> None:
    with process(Path(write_stand_in(tmp_path)), "linger_seconds=3") as (server, port):
        assert ask(port, "/health/ready") == 200
        server.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert ask(port, "/health/ready") == 503
        assert ask(port, "/v2/health/ready") == 503
        assert ask(port, "/health/live") == 200
        # Whoever insists need not wait.
        server.send_signal(signal.SIGTERM)
        started = time.monotonic()
        server.communicate(timeout=30)
        assert time.monotonic() - started < 2
    assert server.returncode == 0


def test_one_that_is_killed_leaves_nothing_in_the_way_of_the_next(tmp_path: Path) -> None:
    folder = Path(write_stand_in(tmp_path, seconds=5))
    with process(folder) as (server, port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("POST", "/v1/predict", picture(), {"content-type": "image/png"})
        time.sleep(0.2)
        server.kill()
        server.communicate(timeout=30)
        with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
            connection.getresponse()
    assert os.listdir(folder) == ["stand-in.json"]
    with process(folder, f"port={port}", "linger_seconds=0") as (following, again):
        assert (again, ask(port, "/health/ready")) == (port, 200)
        following.terminate()
        following.communicate(timeout=30)


def test_sighup_opens_the_bundle_anew(tmp_path: Path) -> None:
    with process(Path(write_stand_in(tmp_path)), "linger_seconds=0") as (server, port):
        write_stand_in(tmp_path, id_="two")
        server.send_signal(signal.SIGHUP)
        time.sleep(1)
        assert ask(port) == 200
        server.send_signal(signal.SIGINT)
        out, _ = server.communicate(timeout=30)
    assert [line["bundle"] for line in log_of(out) if line["event"] == "bundle"] == ["one", "two"]
    assert server.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk here")
def test_a_log_that_cannot_be_written_costs_no_one_his_answer(tmp_path: Path) -> None:
    with (
        Path("/dev/full").open("wb") as full,
        process(Path(write_stand_in(tmp_path)), "linger_seconds=0", log=full) as (server, port),
    ):
        assert [ask(port) for _ in range(3)] == [200, 200, 200]
        server.send_signal(signal.SIGTERM)
        _, err = server.communicate(timeout=30)
    assert (server.returncode, "Error" in err) == (0, False), err


def test_a_port_that_is_taken_and_a_bundle_that_is_none(tmp_path: Path) -> None:
    from mirabelle.errors import OutputError, UserError
    from mirabelle.serve import load_settings, serve
    from stand_in_bundle import open_stand_in

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match="--port"):
            serve(str(tmp_path), open_stand_in, load_settings([f"port={port}"], {}), lambda _: None)
    with pytest.raises(OutputError, match="is no bundle"):
        serve(str(tmp_path), open_stand_in, load_settings(["port=0"], {}), lambda _: None)


def test_there_are_no_more_threads_than_cores() -> None:
    assert 1 <= cores() <= len(os.sched_getaffinity(0))
