"""Who may use the cores: one batch all of them, or two batches a half each. [the network's threads]

Requests are read, decoded and answered on the cores that the network runs on. On all of them it stands still wherever
one is taken from it for a moment; a half goes on by itself, and is at work while the other's answers go out.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


class Cores:
    """Gives halves to those who ask, in their order; for one event loop.

    Args:
        threads: of the network. An odd number is not halved.

    Attributes:
        halves: how many there are, 2 or 1.
    """

    def __init__(self, threads: int) -> None:
        self.halves = 1 if threads % 2 else 2
        self._free = list(range(self.halves))
        self._queue: deque[object] = deque()
        self._changed = asyncio.Event()
        self._threads = ThreadPoolExecutor(self.halves, "mirabelle-network")

    def close(self) -> None:
        """Wait for what runs."""
        self._threads.shutdown()

    async def take(self, count: int = 1) -> list[int]:
        """So many halves as soon as they are free, to be run on or given back; whoever asked before comes first."""
        ticket = object()
        self._queue.append(ticket)
        try:
            while self._queue[0] is not ticket or len(self._free) < count:
                self._changed.clear()
                await self._changed.wait()
            return [self._free.pop(0) for _ in range(count)]
        finally:
            self._queue.remove(ticket)
            self._changed.set()

    def take_rest(self) -> list[int]:
        """What is free and nobody waits for, which may be nothing."""
        if self._queue:
            return []
        rest, self._free = self._free, []
        return rest

    def give(self, halves: Sequence[int]) -> None:
        """Give halves back."""
        self._free += halves
        self._changed.set()

    async def run(self, halves: Sequence[int], function: Callable[..., Result], *arguments: object) -> Result:
        """What a function gives, called in one of the network's threads, on halves that are given back after it.

        After it, and not when nobody waits for it any more: a thread cannot be stopped.
        """
        loop = asyncio.get_running_loop()
        future = self._threads.submit(function, *arguments)
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self.give, halves))
        return await asyncio.wrap_future(future)

    async def run_on_all(self, function: Callable[..., Result], *arguments: object) -> Result:
        """The same on all cores, once they are free."""
        return await self.run(await self.take(self.halves), function, *arguments)
