"""An HTTP proxy that stands before an S3 server and misbehaves as networks and busy buckets do.

Bytes go through as they came, the request line and Host too, so that signatures made for the proxy's address stay
valid. It needs the standard library alone, runs on a thread of its own, and listens on 127.0.0.1.
"""

import asyncio
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from s3.messages import BLOCK, Head, body, cancel, copy, first_bytes, read_head

# What may happen to a request; beside these, an S3 error of ERRORS may be the answer to it.
SLOW_DOWN = "slow_down"  # 503 SlowDown, and the server never sees the request
RESET = "reset"  # the connection is reset, and the server never sees the request
LOST = "lost"  # the server carries the request out, and the connection is reset in place of the answer
TRUNCATED = "truncated"  # half of the body that Content-Length announces, then the end of the connection
SLOW = "slow"  # a delay between head and body
STALLED = "stalled"  # a head, and a body that never comes
KINDS = (SLOW_DOWN, RESET, LOST, TRUNCATED, SLOW, STALLED)

ERRORS = {
    "AccessDenied": (403, "Access Denied."),
    "ExpiredToken": (400, "The provided token has expired."),
    "InternalError": (500, "We encountered an internal error. Please try again."),
    "InvalidAccessKeyId": (403, "The AWS Access Key Id you provided does not exist in our records."),
    "NoSuchBucket": (404, "The specified bucket does not exist."),
    "NoSuchKey": (404, "The specified key does not exist."),
    "RequestTimeTooSkewed": (403, "The difference between the request time and the server's time is too large."),
    "SignatureDoesNotMatch": (403, "The request signature we calculated does not match the signature you provided."),
    "SlowDown": (503, "Please reduce your request rate."),
}
LINGER_SECONDS = 1.0

Chooser = Callable[[str, str], bool]


@dataclass
class Scripted:
    """A fault that the next ``left`` requests of this method and key get; None is any."""

    what: str
    left: int
    method: str | None
    key: str | None


class FaultProxy:
    """``with FaultProxy(server.endpoint, slow_down=0.05, seed=7) as proxy:`` and talk to ``proxy.endpoint``.

    A share is the probability that a request gets that fault; ``only(method, path)`` says which requests may, the path
    being decoded and without the query: ``/bucket/key``. ``truncated`` spares answers without a body of known length.
    ``counts`` has ``requests`` and what became of them: a kind of fault, the S3 error that ``next`` ordered,
    ``passed``, or ``broken`` (the client or the server went away before there was an answer).
    """

    def __init__(
        self,
        upstream: str,
        *,
        slow_down: float = 0.0,
        resets: float = 0.0,
        lost: float = 0.0,
        truncated: float = 0.0,
        slow: float = 0.0,
        stalled: float = 0.0,
        delay_seconds: float = 2.0,
        only: Chooser | None = None,
        seed: int = 0,
    ) -> None:
        address = urlsplit(upstream)
        self.upstream = (address.hostname or "", address.port or 80)
        self._shares = dict(zip(KINDS, (slow_down, resets, lost, truncated, slow, stalled), strict=True))
        self.delay_seconds = delay_seconds
        self._only = only or (lambda method, path: True)
        self._random = random.Random(seed)
        self._scripted: list[Scripted] = []
        self._connections: set[asyncio.Task[None]] = set()
        self._listening: threading.Event = threading.Event()
        self.counts: Counter[str] = Counter()
        self.endpoint = ""

    def next(self, what: str, times: int = 1, *, method: str | None = None, key: str | None = None) -> None:
        """Give the next ``times`` requests of this method and ``bucket/key`` a kind of fault or an S3 error."""
        if what not in KINDS and what not in ERRORS:
            raise ValueError(f"{what} is neither one of {KINDS} nor of {tuple(ERRORS)}")
        self._scripted.append(Scripted(what, times, method, key))

    def __enter__(self) -> "FaultProxy":
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="fault proxy", daemon=True)
        self._thread.start()
        if not self._listening.wait(10):
            raise RuntimeError("the fault proxy did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", limit=BLOCK, backlog=512)
        self.endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._listening.set()
        await self._stop.wait()
        server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(Connection(self, reader, writer).serve())
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    def choose(self, method: str, target: str) -> str | None:
        """The fault that a request gets."""
        path = unquote(target.split("?", 1)[0])
        for entry in self._scripted:
            if entry.left and entry.method in (None, method) and entry.key in (None, path.removeprefix("/")):
                entry.left -= 1
                return entry.what
        if self._only(method, path):
            drawn = self._random.random()
            for kind, share in self._shares.items():
                drawn -= share
                if drawn < 0:
                    return kind
        return None


class Connection:
    """A client's connection, and the one to the server that belongs to it."""

    def __init__(self, proxy: FaultProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.proxy, self.reader, self.writer = proxy, reader, writer
        self.upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def serve(self) -> None:
        try:
            while await self.exchange():
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # one side went away, which a proxy passes on by closing the other
        finally:
            self.writer.close()
            self.disconnect()

    def disconnect(self) -> None:
        if self.upstream:
            self.upstream[1].close()
        self.upstream = None

    async def exchange(self) -> bool:
        """One request and its answer; whether the connection is good for another."""
        head = await read_head(self.reader)
        if head is None:
            return False
        counts = self.proxy.counts
        counts["requests"] += 1
        fault = self.proxy.choose(head.first[0], head.first[1])
        if fault == SLOW_DOWN or fault in ERRORS:
            counts[fault] += 1
            return await self.refuse(head, "SlowDown" if fault == SLOW_DOWN else fault)
        if fault == RESET:
            counts[fault] += 1
            return self.reset()
        try:
            pump, answer = await self.forward(head)
        except BaseException:
            counts["broken"] += 1
            raise
        try:
            goes_on = await self.give(head, answer, fault)
            if pump:  # a server may answer before it has read all; the client still has to get rid of the rest
                await asyncio.wait([pump], timeout=LINGER_SECONDS)
                goes_on = goes_on and pump.done() and pump.exception() is None
        finally:
            await cancel(pump)
        return goes_on and not head.closes and not answer.closes

    async def forward(self, head: Head) -> tuple[asyncio.Task[None] | None, Head]:
        """Pass the request on, its body while it comes in; what passes the body, and the head of the answer."""
        if self.upstream is None or self.upstream[0].at_eof():  # servers close what was idle for long
            self.disconnect()
            self.upstream = await asyncio.open_connection(*self.proxy.upstream, limit=BLOCK)
        reader, writer = self.upstream
        writer.write(head.raw)
        pump = None
        if head.length or head.is_chunked:
            pump = asyncio.create_task(self.send_body(head, writer))
        try:
            while True:
                answer = await read_head(reader)
                if answer is None:
                    raise ConnectionResetError("the server hung up")
                if not answer.first[1].startswith("1"):
                    break
                self.writer.write(answer.raw)  # 100 Continue: the client waits for it before it sends a body
        except BaseException:
            await cancel(pump)
            raise
        return pump, answer

    async def send_body(self, head: Head, writer: asyncio.StreamWriter) -> None:
        try:
            await copy(body(self.reader, head), writer)
        except (OSError, asyncio.IncompleteReadError):
            writer.transport.abort()  # the client went away amid it, so the server must not wait for more
            raise

    async def give(self, head: Head, answer: Head, fault: str | None) -> bool:
        """Pass the answer on, with its fault; whether the connection is good for another request."""
        has_body = head.first[0] != "HEAD" and answer.first[1] not in ("204", "304") and answer.length != 0
        if fault == TRUNCATED and not (has_body and answer.length):
            fault = None
        self.proxy.counts[fault or "passed"] += 1  # before the client can have seen the answer
        if fault == LOST:
            return self.reset()
        if not has_body and fault in (SLOW, STALLED):
            await self.dawdle(fault)
        self.writer.write(answer.raw)
        if not has_body:
            await self.writer.drain()
            return True
        if fault in (SLOW, STALLED):
            await self.writer.drain()
            await self.dawdle(fault)
        assert self.upstream is not None
        blocks = body(self.upstream[0], answer)
        if fault == TRUNCATED:
            assert answer.length is not None
            blocks = first_bytes(self.upstream[0], answer.length // 2)
        await copy(blocks, self.writer)
        return fault != TRUNCATED and (answer.length is not None or answer.is_chunked)

    async def dawdle(self, fault: str) -> None:
        """Wait for the delay, or until the client has had enough."""
        if fault == SLOW:
            await asyncio.sleep(self.proxy.delay_seconds)
        while fault == STALLED:
            await asyncio.sleep(0.05)
            if self.reader.at_eof() or self.writer.is_closing():
                raise ConnectionResetError("the client hung up")

    async def refuse(self, head: Head, code: str) -> bool:
        """Answer with an S3 error in place of the server."""
        status, message = ERRORS[code]
        xml = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
        content = b"" if head.first[0] == "HEAD" else xml.encode()
        waits = "expect" in head.fields  # it sends no body after an error, but one that tired of waiting might
        if not waits:
            async for _ in body(self.reader, head):
                pass
        fields = f"Content-Type: application/xml\r\nContent-Length: {len(content)}\r\n"
        fields += "Connection: close\r\n" if waits else ""
        self.writer.write(f"HTTP/1.1 {status} {code}\r\n{fields}\r\n".encode() + content)
        await self.writer.drain()
        return not waits and not head.closes

    def reset(self) -> bool:
        """End the connection with RST."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()
        return False
