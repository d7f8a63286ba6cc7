"""What every request passes, in and out: its id, who asks and how often, its time in the log. [the log]"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import MutableMapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mirabelle.serve import problems
from mirabelle.serve.logs import logger, note, told
from mirabelle.serve.problems import Code, Problem
from mirabelle.serve.state import Asked, Shared

# What anyone may ask without a token: how the server is, and pages that hold nothing of anyone's.
OPEN = ("/", "/docs", "/openapi.json", "/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready")
OPEN_BELOW = "/static/"
METHODS = ("GET", "HEAD", "POST")
_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
# Status that stands in the log for a client that went before it was answered; it is sent to no one.
GONE = 499

SECURITY = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self';"
        b" base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
]

# What is read of a body that nobody wants, so that a client that sends first and reads then gets its answer.
DRAINED_BYTES = 2**20
DRAINED_SECONDS = 1.0


class Front:
    """The outermost part of the application."""

    def __init__(self, app: ASGIApp, shared: Shared) -> None:
        self._app, self._shared = app, shared

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        asked = Asked(given.decode() if _ID.fullmatch(given) else uuid.uuid4().hex)
        scope["asked"] = asked
        exchange = _Exchange(headers, receive, send, asked.id, self._shared)
        with self._shared.metrics.under_way.track_inprogress():
            try:
                self._check(scope, headers)
                await self._app(scope, exchange.receive, exchange.send)
            except Problem as problem:
                asked.notes["code"] = problem.code
                self._shared.metrics.refused.labels(problem.code).inc()
                await problems.response(problem, asked.id)(scope, exchange.receive, exchange.send)
            except Exception as error:
                # What was not foreseen has been answered with 500 by the application, which raises it again.
                logger.error("failed", extra={"fields": {"request_id": asked.id, **told(error, error.__traceback__)}})
                if not exchange.status:
                    broke = Problem(500, Code.INTERNAL, "something broke here; the log has more by this request's id")
                    await problems.response(broke, asked.id)(scope, exchange.receive, exchange.send)
        self._account(scope, asked, exchange)

    def _check(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        """Raise ``Problem`` for a request that is not let in."""
        shared = self._shared
        if sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > shared.settings.max_header_bytes:
            limit = shared.settings.max_header_bytes
            raise Problem(431, Code.HEADERS_TOO_LARGE, f"a request's head may have {limit:,} bytes")
        path = scope["path"]
        if path in OPEN or path.startswith(OPEN_BELOW):
            return
        address = (scope.get("client") or ("unknown",))[0]
        try:
            who = shared.tokens.check(headers.get(b"authorization"))
        except Problem:
            # Guessing is held to the rate, too.
            shared.rates.check(address)
            raise
        shared.rates.check(who or address)

    def _account(self, scope: Scope, asked: Asked, exchange: _Exchange) -> None:
        seconds = time.perf_counter() - asked.started
        # Of an address that leads nowhere the metrics keep no name: there is no end of them.
        route = getattr(scope.get("route"), "path", "other")
        status = GONE if exchange.is_gone else exchange.status
        # Nor of methods, of which a client may think up any.
        method = scope["method"] if route != "other" and scope["method"] in METHODS else "any"
        self._shared.metrics.requests.labels(route, method, status).inc()
        self._shared.metrics.request_seconds.labels(route).observe(seconds)
        note(
            "request",
            request_id=asked.id,
            method=scope["method"][:16],
            path=scope["path"][:200],
            status=status,
            ms=round(1000 * seconds, 2),
            **asked.notes,
        )


class _Exchange:
    """One request's two directions, watched."""

    def __init__(
        self, headers: MutableMapping[bytes, bytes], receive: Receive, send: Send, request_id: str, shared: Shared
    ) -> None:
        self._receive, self._send, self._id, self._shared = receive, send, request_id, shared
        self._is_read = headers.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in headers
        self._waits_to_send = b"100-continue" in headers.get(b"expect", b"").lower()
        self.status = 0
        self.is_gone = False

    async def receive(self) -> Message:
        """What comes from the client."""
        message = await self._receive()
        self._waits_to_send = False
        if message["type"] == "http.disconnect":
            self.is_gone = not self.status
        elif not message.get("more_body", False):
            self._is_read = True
        return message

    async def send(self, message: Message) -> None:
        """What goes to the client, with what every answer has."""
        if message["type"] == "http.response.start":
            await self._drain()
            self.status = message["status"]
            headers: list[tuple[bytes, bytes]] = list(message["headers"])
            headers += [*SECURITY, (b"x-request-id", self._id.encode())]
            if not any(name == b"cache-control" for name, _ in headers):
                headers.append((b"cache-control", b"no-store"))
            if self._shared.is_stopping or not self._is_read:
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        await self._send(message)

    async def _drain(self) -> None:
        """Read on for a little, where the answer is there before the body is; it ends the connection otherwise."""
        if self._is_read or self._waits_to_send or self.is_gone:
            return
        left = DRAINED_BYTES
        try:
            async with asyncio.timeout(DRAINED_SECONDS):
                while not self._is_read and not self.is_gone and left > 0:
                    message: dict[str, Any] = dict(await self.receive())
                    left -= len(message.get("body", b""))
        except TimeoutError:
            return
