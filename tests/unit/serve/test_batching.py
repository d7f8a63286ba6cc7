"""Batches: who shares one, who goes at once, and what is not run at all."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import closing

import numpy as np
import pytest

from mirabelle.bundle import Outputs
from mirabelle.errors import EmbedError, RejectCode
from mirabelle.serve.batching import Batcher
from mirabelle.serve.cores import Cores
from mirabelle.serve.metrics import Metrics
from stand_in_bundle import SIDE, StandIn


def pixels(value: int) -> np.ndarray:
    return np.full((SIDE, SIDE, 3), value, np.uint8)


# Given the batcher, whose cores are halved.
Work = Callable[[Batcher], Awaitable[None]]


def carry_out(bundle: StandIn, work: Work, max_batch: int = 16, window_seconds: float = 0.0, threads: int = 2) -> None:
    async def main() -> None:
        with closing(Cores(threads)) as cores:
            batcher = Batcher(bundle.infer, cores, max_batch, window_seconds, Metrics())
            try:
                await asyncio.wait_for(work(batcher), 20)
            finally:
                await batcher.close()

    asyncio.run(main())


def test_one_alone_goes_at_once_and_on_all_cores() -> None:
    async def work(batcher: Batcher) -> None:
        for value in (7, 8):
            row = await asyncio.wait_for(batcher.run(pixels(value)), 2)
            assert row.outputs.features.tolist() == [[value] * 3]

    bundle = StandIn()
    carry_out(bundle, work, window_seconds=5.0)
    assert bundle.halves == [None, None]


def test_a_batch_waits_for_what_is_being_decoded_and_no_longer() -> None:
    async def work(batcher: Batcher) -> None:
        async def decode_and_run(value: int, seconds: float) -> None:
            with batcher.decoding():
                await asyncio.sleep(seconds)
            row = await batcher.run(pixels(value))
            assert row.outputs.features[0, 0] == value

        await asyncio.wait_for(asyncio.gather(*(decode_and_run(n, 0.05 * (n % 3)) for n in range(9))), 3)

    bundle = StandIn()
    carry_out(bundle, work, window_seconds=5.0, threads=1)
    assert bundle.batches == [9]


def test_the_wait_has_an_end() -> None:
    async def work(batcher: Batcher) -> None:
        with batcher.decoding():
            await asyncio.wait_for(batcher.run(pixels(1)), 2)

    bundle = StandIn()
    carry_out(bundle, work, window_seconds=0.05)
    assert bundle.batches == [1]


@pytest.mark.parametrize("threads", [1, 2])
def test_batches_have_a_size_and_rows_their_owners(threads: int) -> None:
    async def work(batcher: Batcher) -> None:
        rows = await asyncio.gather(*(batcher.run(pixels(n)) for n in range(20, 50)))
        assert [row.outputs.features[0, 0] for row in rows] == list(range(20, 50))
        assert all(row.outputs.probabilities.shape == (1, 3) for row in rows)

    bundle = StandIn(seconds=0.02)
    carry_out(bundle, work, max_batch=4, threads=threads)
    assert max(bundle.batches) == 4
    assert sum(bundle.batches) == 30


def test_several_are_shared_out_to_halves_that_run_beside_each_other() -> None:
    # Each waits for the other, so that one after the other would hang.
    met = threading.Barrier(2, timeout=10)

    class Meeting(StandIn):
        def infer(self, pixels: np.ndarray, half: int | None = None) -> Outputs:
            met.wait()
            return super().infer(pixels, half)

    async def work(batcher: Batcher) -> None:
        await asyncio.gather(*(batcher.run(pixels(n)) for n in range(20, 26)))

    bundle = Meeting()
    carry_out(bundle, work)
    assert bundle.batches == [3, 3]
    assert set(bundle.halves) == {0, 1}


def test_an_odd_number_of_threads_is_not_halved() -> None:
    async def work(batcher: Batcher) -> None:
        await asyncio.gather(*(batcher.run(pixels(n)) for n in range(20, 26)))

    bundle = StandIn()
    carry_out(bundle, work, threads=3)
    assert bundle.batches == [6]
    assert bundle.halves == [None]


def test_one_that_the_engine_fails_on_fails_alone() -> None:
    async def work(batcher: Batcher) -> None:
        found = await asyncio.gather(*(batcher.run(pixels(n)) for n in (1, 13, 2)), return_exceptions=True)
        assert isinstance(found[1], EmbedError)
        assert found[1].code is RejectCode.ENGINE_FAILED
        assert [row.outputs.features[0, 0] for row in (found[0], found[2])] == [1, 2]

    carry_out(StandIn(), work)


def test_what_is_no_number_is_a_reject() -> None:
    async def work(batcher: Batcher) -> None:
        with pytest.raises(EmbedError) as refused:
            await batcher.run(pixels(1))
        assert refused.value.code is RejectCode.NOT_FINITE

    carry_out(StandIn(broken=True), work)


def test_whoever_has_gone_is_not_run() -> None:
    held = threading.Event()

    class Slow(StandIn):
        def infer(self, pixels: np.ndarray, half: int | None = None) -> Outputs:
            held.wait(10)
            return super().infer(pixels, half)

    async def work(batcher: Batcher) -> None:
        first = asyncio.create_task(batcher.run(pixels(1)))
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(batcher.run(pixels(n))) for n in (2, 3, 4)]
        await asyncio.sleep(0.05)
        others[0].cancel()
        others[2].cancel()
        held.set()
        await first
        assert (await others[1]).outputs.features[0, 0] == 3

    bundle = Slow()
    carry_out(bundle, work)
    assert bundle.batches == [1, 1]


def test_halves_go_to_who_asked_first_and_all_of_them_to_one_that_waits_for_all() -> None:
    order: list[str] = []

    async def take(cores: Cores, name: str, count: int) -> None:
        halves = await cores.take(count)
        order.append(name)
        await asyncio.sleep(0.02)
        cores.give(halves)

    async def work() -> None:
        with closing(Cores(4)) as cores:
            first = await cores.take()
            whole = asyncio.create_task(take(cores, "all", 2))
            gone = asyncio.create_task(take(cores, "gone", 1))
            last = asyncio.create_task(take(cores, "one", 1))
            await asyncio.sleep(0.02)
            assert order == [], "one who asked for less does not pass by one who asked for all"
            assert cores.take_rest() == []
            gone.cancel()
            cores.give(first)
            await asyncio.gather(whole, last)
            assert sorted(cores.take_rest()) == [0, 1]

    asyncio.run(asyncio.wait_for(work(), 10))
    assert order == ["all", "one"]


def test_halves_come_back_when_what_ran_on_them_is_over_and_not_before() -> None:
    held = threading.Event()

    async def work() -> None:
        with closing(Cores(2)) as cores:
            waiting = asyncio.create_task(cores.run_on_all(held.wait, 10))
            await asyncio.sleep(0.05)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            assert cores.take_rest() == [], "the thread runs on"
            held.set()
            assert sorted(await cores.take(2)) == [0, 1]

    asyncio.run(asyncio.wait_for(work(), 10))
