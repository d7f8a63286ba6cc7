"""A request's body, read within limits of size and time. [the request's connection]"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from starlette.requests import Request
from starlette.types import Message

from mirabelle.serve.problems import ClientGone, Code, Problem, busy
from mirabelle.serve.settings import ServeSettings


class Held:
    """How many bytes of bodies the process holds, and may hold."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0

    @contextmanager
    def account(self) -> Iterator[Callable[[int], None]]:
        """Give a function that adds bytes to what is held, until the block ends; it raises ``Problem`` when full."""
        own = 0

        def add(size: int) -> None:
            nonlocal own
            if self.bytes + size > self.max_bytes:
                raise busy("the server holds as many bytes of requests as it may; try again in a second", 1)
            own += size
            self.bytes += size

        try:
            yield add
        finally:
            self.bytes -= own


@asynccontextmanager
async def read_body(request: Request, settings: ServeSettings, held: Held) -> AsyncIterator[bytes]:
    """The whole body, which counts for ``held`` until the block ends.

    Raises:
        Problem: it is too large, comes too slowly, is encoded, or there is no room for it now.
        ClientGone: the connection ended before the body did.
    """
    if request.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
        raise Problem(415, Code.UNSUPPORTED_MEDIA_TYPE, "send the body as it is; no Content-Encoding is read here")
    with held.account() as add:
        yield await _read(request, settings, add)


async def _read(request: Request, settings: ServeSettings, add: Callable[[int], None]) -> bytes:
    limit = settings.max_body_bytes
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(settings.body_seconds):
            async for chunk in _chunks(request.receive):
                size += len(chunk)
                if size > limit:
                    raise _too_large(limit)
                add(len(chunk))
                chunks.append(chunk)
    except TimeoutError:
        raise Problem(408, Code.TOO_SLOW, f"the body did not come within {settings.body_seconds:g} s") from None
    return b"".join(chunks)


def _too_large(limit: int) -> Problem:
    return Problem(413, Code.BODY_TOO_LARGE, f"a request may have {limit:,} bytes; send fewer pictures")


async def _chunks(receive: Callable[[], Awaitable[Message]]) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return
