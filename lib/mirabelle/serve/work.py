"""A request's pictures, decoded in threads and brought to the network. [threads that decode]"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar, cast

from starlette.types import Message

from mirabelle.decode import DecodedImage
from mirabelle.errors import ImageError
from mirabelle.network.engines import Pixels
from mirabelle.serve.batching import Row
from mirabelle.serve.cores import Cores
from mirabelle.serve.current import Served
from mirabelle.serve.forms import Picture
from mirabelle.serve.metrics import Metrics
from mirabelle.serve.problems import ClientGone, Code, busy

Result = TypeVar("Result")
# Explanations waiting or under way; each may take seconds of the network's time.
MAX_EXPLAINING = 4


@dataclass(frozen=True)
class Outcome:
    """What became of one picture: ``row`` and its size, or ``error``."""

    name: str | None
    picture: DecodedImage | None = None
    row: Row | None = None
    error: ImageError | None = None
    decode_seconds: float = 0.0


class Work:
    """Takes pictures in and has them answered; refuses what it could not answer in time.

    Args:
        decoders: threads that decode.
        cores: that the network runs on; explaining takes all of them.
        queue: pictures that may be taken in and not yet answered.
        deadline_seconds: of a request; those that would not be answered by then are better told at once.
    """

    def __init__(self, decoders: Executor, cores: Cores, queue: int, deadline_seconds: float, metrics: Metrics) -> None:
        self._decoders, self._cores, self._metrics = decoders, cores, metrics
        self._queue, self._deadline_seconds = queue, deadline_seconds
        self.taken_in = 0
        self._explaining = 0
        metrics.queue.set_function(lambda: self.taken_in)
        metrics.queue_limit.set(queue)

    @contextmanager
    def taking_in(self, served: Served, count: int) -> Iterator[None]:
        """In the block ``count`` pictures are this server's to answer; ``Problem`` 503 where that is too many.

        Where nothing waits the deadline alone decides: at what speed pictures were answered lately is no promise.
        """
        speed = served.batcher.pictures_a_second
        is_late = self.taken_in and speed and (self.taken_in + count) / speed > self._deadline_seconds
        if is_late or self.taken_in + count > self._queue:
            seconds = max(1, round(self.taken_in / speed)) if speed else 1
            raise busy(f"{self.taken_in} pictures wait already; try again in {seconds} s", seconds)
        self.taken_in += count
        try:
            yield
        finally:
            self.taken_in -= count

    async def answer(self, served: Served, pictures: Sequence[Picture]) -> list[Outcome]:
        """One outcome for each picture, in order; a bad one among good ones fails alone."""
        with self.taking_in(served, len(pictures)):
            if len(pictures) == 1:
                return [await self._one(served, pictures[0])]
            return await _all(self._one(served, picture) for picture in pictures)

    async def decode(self, served: Served, content: bytes) -> DecodedImage:
        """A picture as the network takes it; raises ``DecodeError``."""
        with served.batcher.decoding():
            return await asyncio.get_running_loop().run_in_executor(self._decoders, served.bundle.decode, content)

    async def run(self, served: Served, pixels: Sequence[Pixels]) -> list[Row]:
        """Rows for pictures that came as pixels; raises ``EmbedError``."""
        with self.taking_in(served, len(pixels)):
            return await _all(map(served.batcher.run, pixels))

    async def explain(self, served: Served, pixels: Pixels) -> bytes:
        """What the network looked at, as a grey PNG of the input's size; raises ``Problem`` where many wait for one."""
        if self._explaining >= MAX_EXPLAINING:
            raise busy("others wait for explanations already; ask again, or without explain=true", 5)
        self._explaining += 1
        started = time.perf_counter()
        try:
            return await self._cores.run_on_all(served.heat, pixels)
        finally:
            self._explaining -= 1
            self._metrics.part_seconds.labels("explain").observe(time.perf_counter() - started)

    async def _one(self, served: Served, picture: Picture) -> Outcome:
        started = time.perf_counter()
        decoded: DecodedImage | None = None
        try:
            decoded = await self.decode(served, picture.content)
            decode_seconds = time.perf_counter() - started
            self._metrics.part_seconds.labels("decode").observe(decode_seconds)
            row = await served.batcher.run(decoded.pixels)
        except ImageError as error:
            self._metrics.rejects.labels(error.code).inc()
            return Outcome(picture.name, decoded, error=error)
        self._metrics.part_seconds.labels("wait").observe(row.wait_seconds)
        return Outcome(picture.name, decoded, row, decode_seconds=decode_seconds)


async def _all(works: Iterable[Awaitable[Result]]) -> list[Result]:
    """All results; or the first error, once the others have ended, too: until then they count as taken in."""
    found = await asyncio.gather(*works, return_exceptions=True)
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return cast("list[Result]", found)


async def within(
    seconds: float, receive: Callable[[], Awaitable[Message]], work: Callable[[], Awaitable[Result]]
) -> Result:
    """The work's result, unless its time is up or its client goes; then it is cancelled.

    Args:
        seconds: that the work may take.
        receive: the request's, whose body has been read: what it tells next is that the client is gone.
        work: to be done.

    Raises:
        Problem: 503; the deadline has passed.
        ClientGone: as it says.
    """
    gone = asyncio.create_task(_gone(receive))
    task = asyncio.ensure_future(work())
    try:
        await asyncio.wait({gone, task}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if gone.done():
            raise ClientGone
        raise busy("there was no answer within the deadline; try again when less is asked for", 1, Code.DEADLINE)
    finally:
        gone.cancel()
        task.cancel()
        # What it held is given back before anyone is told.
        await asyncio.wait({gone, task})


async def _gone(receive: Callable[[], Awaitable[Message]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
