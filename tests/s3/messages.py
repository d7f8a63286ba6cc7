"""HTTP/1.1 messages on asyncio streams, byte for byte: what the fault proxy passes on."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

BLOCK = 1 << 18  # bytes read at a time, and the longest head


@dataclass(frozen=True)
class Head:
    """The start of a request or of an answer: its bytes, and what is needed to pass on what follows."""

    raw: bytes
    first: list[str]
    fields: dict[str, str]

    @property
    def closes(self) -> bool:
        return self.fields.get("connection", "").lower() == "close" or "HTTP/1.0" in self.first

    @property
    def length(self) -> int | None:
        """How many bytes follow; None if it doesn't say."""
        return int(self.fields["content-length"]) if "content-length" in self.fields else None

    @property
    def is_chunked(self) -> bool:
        return "chunked" in self.fields.get("transfer-encoding", "").lower()


async def cancel(task: asyncio.Task[None] | None) -> None:
    """End a task that may have ended, whatever came of it."""
    if task:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """The head of the next message; None at the connection's end."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    first, *lines = raw.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    return Head(raw, first.split(" "), {name.lower(): value.strip() for name, _, value in pairs})


async def first_bytes(reader: asyncio.StreamReader, left: int) -> AsyncIterator[bytes]:
    """This many bytes, in blocks as they come."""
    while left:
        block = await reader.read(min(left, BLOCK))
        if not block:
            raise ConnectionResetError("the body ended early")
        left -= len(block)
        yield block


async def body(reader: asyncio.StreamReader, head: Head) -> AsyncIterator[bytes]:
    """What follows a head, framing and all: chunks, or as many bytes as it says, or of an answer all there are."""
    if head.is_chunked:
        size = -1
        while size:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            yield line
            async for block in first_bytes(reader, size + 2 if size else 0):
                yield block
        while line != b"\r\n":  # the last chunk, then trailers up to an empty line
            line = await reader.readuntil(b"\r\n")
            yield line
    elif head.length is not None:
        async for block in first_bytes(reader, head.length):
            yield block
    elif head.first[0].startswith("HTTP/"):
        while block := await reader.read(BLOCK):
            yield block


async def copy(blocks: AsyncIterator[bytes], writer: asyncio.StreamWriter) -> None:
    """Write the blocks; when nobody takes them any more, still read them all."""
    async for block in blocks:
        if not writer.is_closing():
            with contextlib.suppress(OSError):
                writer.write(block)
                await writer.drain()
