"""The server's log: one JSON object a line. [standard output]

It holds what was asked and what became of it: a request's id, path without its query, status, sizes and times. It holds
no picture, file name, token, query, header or address of a client.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import orjson

logger = logging.getLogger("mirabelle.serve")
MAX_DETAIL_CHARACTERS = 300
# As Python writes them; up to the end, for what is in them may hold the quote.
_BYTES = re.compile(r"\bb['\"].*")


class JsonHandler(logging.Handler):
    """Writes records as JSON lines: time, level, event, and the fields that were given in ``extra={"fields": ...}``."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line |= told(record.exc_info[1], record.exc_info[2])
        # A log that cannot be written, as on a full disk, costs no one his answer. Python's own buffer would keep the
        # line, and fail once more at the end.
        with suppress(OSError, ValueError):
            os.write(sys.stdout.fileno(), orjson.dumps(line, default=str, option=orjson.OPT_APPEND_NEWLINE))


@contextmanager
def logging_to_stdout(level: int = logging.INFO) -> Iterator[None]:
    """In the block this process's own lines and uvicorn's errors come out as JSON; afterwards as before."""
    before = []
    for name, least in (("mirabelle.serve", level), ("uvicorn.error", logging.ERROR), ("asyncio", logging.ERROR)):
        named = logging.getLogger(name)
        before.append((named, named.handlers, named.propagate, named.level))
        named.handlers, named.propagate = [JsonHandler()], False
        named.setLevel(least)
    try:
        yield
    finally:
        for named, handlers, propagate, former in before:
            named.handlers, named.propagate = handlers, propagate
            named.setLevel(former)


def note(event: str, **fields: Any) -> None:
    """One line."""
    logger.info(event, extra={"fields": fields})


def told(error: BaseException, trace: TracebackType | None) -> dict[str, Any]:
    """An error by its kind, first words and places; no values, and nothing of the bytes that its words may repeat."""
    places = [f"{one.filename.rpartition('/')[2]}:{one.lineno} {one.name}" for one in traceback.extract_tb(trace)[-8:]]
    words = _BYTES.sub("b...", " ".join(str(error).split()))[:MAX_DETAIL_CHARACTERS]
    return {"error": type(error).__name__, "detail": words, "where": places}
