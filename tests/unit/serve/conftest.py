"""A server of the stand-in bundle, on a port of its own, in a thread of the test's process."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from mirabelle.serve.current import Opener
from mirabelle.serve.running import Server, bound, run
from mirabelle.serve.settings import load_settings
from stand_in_bundle import StandIn, open_stand_in, write_stand_in


@dataclass
class Serving:
    """A running server.

    Attributes:
        client: asks it.
        bundles: that it opened, newest last.
    """

    port: int
    server: Server
    loop: asyncio.AbstractEventLoop
    bundles: list[StandIn] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)

    def call(self, coroutine: Any) -> Any:
        """The result of something awaited on the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def metric(self, name: str, **labels: str) -> float:
        """A counter's value; 0 where it was never counted."""
        return self.server.shared.metrics.registry.get_sample_value(f"mirabelle_{name}", labels) or 0.0


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
        ["host=127.0.0.1", "port=0", "linger_seconds=0", *settings], {"MIRABELLE_SERVE_TOKENS": tokens}
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
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield lambda *settings, **told: stack.enter_context(serving(tmp_path, *settings, **told))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """One server for all tests that need nothing of their own."""
    with serving(tmp_path_factory.mktemp("serve")) as one:
        yield one


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
