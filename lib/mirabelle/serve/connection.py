"""A client's connection: heads that do not come in time, that are too large or no HTTP at all. [sockets]

On top of uvicorn's protocol, which waits for a head as long as a client likes, and for a reader likewise.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import h11
import orjson
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from mirabelle.serve import problems
from mirabelle.serve.problems import Code, Problem
from mirabelle.serve.settings import ServeSettings

# After a connection was closed from here: how long its client may take to read what is under way.
LAST_WORDS_SECONDS = 5.0


class Connection(H11Protocol):
    """One client's connection."""

    def __init__(self, settings: ServeSettings, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._settings = settings
        self._head_timer: asyncio.TimerHandle | None = None

    @property
    def is_answering(self) -> bool:
        """Whether a request's head has come, and its answer has not gone out."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        super().connection_made(transport)  # type: ignore[arg-type]
        if len(self.connections) > self._settings.max_connections:
            self._refuse(problems.busy("the server has as many connections as it may; try again in a second", 1))
        else:
            self._await_head()

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._stop_waiting()

    def on_response_complete(self) -> None:
        """An answer has gone out."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._end_soon()
        elif self.conn.trailing_data[0]:
            # A next request's head has begun to come.
            self._await_head()

    def timeout_keep_alive_handler(self) -> None:
        """Nothing was asked for a while."""
        super().timeout_keep_alive_handler()
        self._end_soon()

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP; h11 says what kind of none."""
        error = sys.exc_info()[1]
        if getattr(error, "error_status_hint", 400) == 431:
            limit = self._settings.max_header_bytes
            self._refuse(Problem(431, Code.HEADERS_TOO_LARGE, f"a request's head may have {limit:,} bytes"))
        else:
            self._refuse(Problem(400, Code.BAD_REQUEST, "this is no HTTP request"))

    def _await_head(self) -> None:
        if self.is_answering or self.transport.is_closing():
            self._stop_waiting()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(self._settings.head_seconds, self._head_too_late)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_too_late(self) -> None:
        self._head_timer = None
        if self.is_answering or self.transport.is_closing():
            return
        # Whoever has sent nothing is told nothing.
        if self.conn.trailing_data[0]:
            seconds = self._settings.head_seconds
            self._refuse(Problem(408, Code.TOO_SLOW, f"the request's head did not come within {seconds:g} s"))
        else:
            self.transport.close()
            self._end_soon()

    def _refuse(self, problem: Problem) -> None:
        """Answer and close, where an answer can still be sent."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = orjson.dumps(problems.document(problem, ""))
            headers = [("content-type", problems.MEDIA_TYPE), ("content-length", str(len(body)))]
            headers += [("connection", "close"), *problem.headers.items()]
            reason = STATUS_PHRASES[problem.status]
            response = h11.Response(status_code=problem.status, headers=headers, reason=reason)
            for event in (response, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self._stop_waiting()
        self.transport.close()
        self._end_soon()

    def _end_soon(self) -> None:
        """A client that does not read holds no memory here for ever."""
        self.loop.call_later(LAST_WORDS_SECONDS, self.transport.abort)
