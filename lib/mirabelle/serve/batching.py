"""Pictures of several requests through the network together. [the network's threads]

A picture goes at once when cores are free and no other is being decoded; while the network runs, those that come gather
for the next batch. One alone has all cores; several are shared out to two batches, each on a half of them.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from mirabelle.bundle import Outputs
from mirabelle.errors import EmbedError, ImageError, RejectCode
from mirabelle.network.engines import Pixels
from mirabelle.serve.cores import Cores
from mirabelle.serve.metrics import Metrics

# How much a batch counts in the moving average of pictures a second.
_WEIGHT = 0.2


@dataclass(frozen=True)
class Row:
    """What the network said of one picture, as outputs of n = 1, and where its time went."""

    outputs: Outputs
    wait_seconds: float
    network_seconds: float


@dataclass(eq=False)
class _Waiting:
    pixels: Pixels
    done: asyncio.Future[Row]
    since: float


class Batcher:
    """Gathers pictures for one bundle; for one event loop.

    Args:
        infer: the bundle's; called with uint8 (n, side, side, 3) and the half that it may use, None for all.
        cores: that it runs on.
        max_batch: pictures in a batch.
        window_seconds: how long a batch waits for pictures that are being decoded.

    Attributes:
        coming: pictures being decoded now, for which a batch may wait.
        pictures_a_second: lately, while the network ran; 0 before the first batch.
    """

    def __init__(
        self,
        infer: Callable[[Pixels, int | None], Outputs],
        cores: Cores,
        max_batch: int,
        window_seconds: float,
        metrics: Metrics,
    ) -> None:
        self.coming = 0
        self.pictures_a_second = 0.0
        self._infer, self._cores, self._metrics = infer, cores, metrics
        self._max_batch, self._window_seconds = max_batch, window_seconds
        self._waiting: deque[_Waiting] = deque()
        self._changed = asyncio.Event()
        self._running = 0  # pictures
        self._batches: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    async def run(self, pixels: Pixels) -> Row:
        """What the network says of one picture, uint8 (side, side, 3).

        Raises:
            EmbedError: the network fails on it, or answers what is no number.
        """
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        waiting = _Waiting(pixels, asyncio.get_running_loop().create_future(), time.perf_counter())
        self._waiting.append(waiting)
        self._changed.set()
        return await waiting.done

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """In the block a picture is being decoded, for which the next batch may wait."""
        self.coming += 1
        try:
            yield
        finally:
            self.coming -= 1
            self._changed.set()

    async def close(self) -> None:
        """Stop; what still waits is not answered."""
        tasks = [*self._batches, *([self._task] if self._task is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            while not self._waiting:
                self._changed.clear()
                await self._changed.wait()
            halves = await self._cores.take()
            try:
                await self._gather()
            except asyncio.CancelledError:
                self._cores.give(halves)
                raise
            batch = self._take()
            if not batch:
                self._cores.give(halves)
                continue
            if len(batch) == 1 and not self._waiting:
                halves += self._cores.take_rest()
            self._running += len(batch)
            task = asyncio.create_task(self._answer(batch, halves))
            self._batches.add(task)
            task.add_done_callback(self._batches.discard)

    async def _gather(self) -> None:
        """Wait a little for pictures that are as good as there."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._window_seconds):
                while self.coming and len(self._waiting) < self._max_batch:
                    self._changed.clear()
                    await self._changed.wait()

    def _take(self) -> list[_Waiting]:
        # Shared out evenly, so that nobody waits for a half that has more to do than the other.
        share = math.ceil((len(self._waiting) + self._running) / self._cores.halves)
        batch: list[_Waiting] = []
        while self._waiting and len(batch) < min(share, self._max_batch):
            first = self._waiting.popleft()
            # Whose request has ended, by its client or its deadline, is not worth the network's time.
            if not first.done.done():
                batch.append(first)
        return batch

    async def _answer(self, batch: list[_Waiting], halves: list[int]) -> None:
        half = halves[0] if len(halves) < self._cores.halves else None
        started = time.perf_counter()
        try:
            results = await self._cores.run(halves, self._results, [one.pixels for one in batch], half)
        finally:
            self._running -= len(batch)
        seconds = time.perf_counter() - started
        speed = len(batch) / max(seconds, 1e-6) * self._cores.halves / len(halves)
        self.pictures_a_second += (speed - self.pictures_a_second) * (_WEIGHT if self.pictures_a_second else 1)
        self._metrics.batch_pictures.observe(len(batch))
        self._metrics.part_seconds.labels("network").observe(seconds)
        for waiting, result in zip(batch, results, strict=True):
            if waiting.done.done():
                continue
            if isinstance(result, ImageError):
                waiting.done.set_exception(result)
            else:
                waiting.done.set_result(Row(result, started - waiting.since, seconds))

    def _results(self, pixels: Sequence[Pixels], half: int | None) -> list[Outputs | ImageError]:
        """Outputs or an error for each picture; a batch that fails is tried again picture by picture."""
        try:
            outputs = self._infer(np.stack(pixels), half)
        except Exception as error:  # engines raise bare RuntimeError; each picture is answered with it
            if len(pixels) == 1:
                return [EmbedError(RejectCode.ENGINE_FAILED, " ".join(str(error).split())[:300])]
            return [result for one in pixels for result in self._results([one], half)]
        return [_row(outputs, place) for place in range(len(pixels))]


def _row(outputs: Any, place: int) -> Outputs | ImageError:
    """One picture's outputs, or that they are no numbers."""
    if not outputs.finite[place]:
        return EmbedError(RejectCode.NOT_FINITE, "the network answered NaN or infinity")
    values = {field.name: getattr(outputs, field.name) for field in dataclasses.fields(outputs)}
    rows = {name: value[place : place + 1] for name, value in values.items() if isinstance(value, np.ndarray)}
    found: Outputs = dataclasses.replace(outputs, **rows)
    return found
