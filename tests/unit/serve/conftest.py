"""A server of the stand-in bundle, on a port of its own, in a thread of the test's process; or one that is there.

``MIRABELLE_TEST_SERVER=http://HOST:PORT`` names a server of the bundle that ``python tests/known_bundle.py FOLDER``
writes, as in a container (``scripts/container test``). Tests that need to look into a server, or one of their own, are
then skipped.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from mirabelle.serve.current import Opener
from mirabelle.serve.running import Server, bound, run
from mirabelle.serve.settings import load_settings
from stand_in_bundle import StandIn, open_stand_in, write_stand_in

ELSEWHERE = "MIRABELLE_TEST_SERVER"


class Asked:
    """A running server, seen from outside.

    Attributes:
        client: asks it.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.url = f"http://{host}:{port}"
        self.client = httpx.Client(base_url=self.url, timeout=30)

    def model(self) -> dict[str, str]:
        """Who answers, as its answers say it."""
        told = self.client.get("/v2/models/colours").json()
        facts = told["parameters"]
        return {"id": facts["bundle"], "name": told["name"], "fingerprint": facts["fingerprint"]}

    def metric(self, name: str, **labels: str) -> float:
        """A counter's value; 0 where it was never counted."""
        for family in text_string_to_metric_families(self.client.get("/metrics").text):
            for sample in family.samples:
                if (sample.name, sample.labels) == (f"mirabelle_{name}", labels):
                    return float(sample.value)
        return 0.0


class Serving(Asked):
    """A server in this process.

    Attributes:
        bundles: that it opened, newest last.
    """

    def __init__(self, port: int, server: Server, loop: asyncio.AbstractEventLoop, bundles: list[StandIn]) -> None:
        super().__init__("127.0.0.1", port)
        self.server, self.loop, self.bundles = server, loop, bundles

    def call(self, coroutine: Any) -> Any:
        """The result of something awaited on the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)


@contextmanager
def serving(
    folder: Path,
    *settings: str,
    tokens: str = "",
    address: str | None = None,
    opens: Opener = open_stand_in,
    **told: Any,
) -> Iterator[Serving]:
    """Start a server of a stand-in, and stop it afterwards as SIGTERM would."""
    loaded = load_settings(
        ["host=127.0.0.1", "port=0", "linger_seconds=0", "threads=2", *settings], {"MIRABELLE_SERVE_TOKENS": tokens}
    )
    address = address or write_stand_in(folder / "bundle", **told)
    bundles: list[StandIn] = []

    def opener(address: str, threads: int) -> Any:
        bundles.append(opens(address, threads))
        return bundles[-1]

    found: list[Serving] = []
    is_up, listener = threading.Event(), bound("127.0.0.1", 0)

    def started(server: Server) -> None:
        found.append(Serving(listener.getsockname()[1], server, asyncio.get_running_loop(), bundles))
        asyncio.get_running_loop().call_soon(is_up.set)

    def work() -> None:
        with listener:
            asyncio.run(run(address, opener, loaded, listener, lambda _: None, started))

    thread = threading.Thread(target=work)
    thread.start()
    assert is_up.wait(30)
    one = found[0]
    while not one.server.started:
        threading.Event().wait(0.01)
    try:
        yield one
    finally:
        one.client.close()
        one.loop.call_soon_threadsafe(one.server.stop)
        thread.join(30)
        assert not thread.is_alive()


Serve = Callable[..., Serving]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts servers with settings of the test's own."""
    _skip_elsewhere("a server of its own")
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield lambda *settings, **told: stack.enter_context(serving(tmp_path, *settings, **told))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """One server for all tests that need nothing of their own, seen from outside."""
    if elsewhere := os.environ.get(ELSEWHERE):
        address = urlsplit(elsewhere)
        yield Asked(address.hostname or "127.0.0.1", address.port or 80)
        return
    with serving(tmp_path_factory.mktemp("serve")) as one:
        yield one


@pytest.fixture
def stand_in(server: Asked) -> Serving:
    """The same, where it is in this process and has the stand-in."""
    _skip_elsewhere("the stand-in")
    assert isinstance(server, Serving)
    return server


def _skip_elsewhere(needed: str) -> None:
    if ELSEWHERE in os.environ:
        pytest.skip(f"it needs {needed}, and {ELSEWHERE} names a server")


def picture(
    colour: tuple[int, int, int] = (200, 100, 50), size: tuple[int, int] = (20, 10), kind: str = "PNG"
) -> bytes:
    """A picture of one colour, as a file."""
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, kind)
    return file.getvalue()


def shares(colour: tuple[int, int, int]) -> dict[str, float]:
    """What the stand-in says of a picture of one colour, worked out by hand."""
    values = np.array(colour, np.float64) + 1
    return dict(zip(("red", "green", "blue"), (values / values.sum()).tolist(), strict=True))


def log_of(text: str) -> list[dict[str, Any]]:
    """The lines of a server's log."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]
