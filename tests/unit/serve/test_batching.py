"""Batches: who shares one, who goes at once, and what is not run at all."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mirabelle.errors import EmbedError, RejectCode
from mirabelle.serve.batching import Batcher
from mirabelle.serve.metrics import Metrics
from stand_in_bundle import SIDE, StandIn


@pytest.fixture
def engine() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def pixels(value: int) -> np.ndarray:
    return np.full((SIDE, SIDE, 3), value, np.uint8)


def carry_out(batcher: Batcher, work: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        try:
            await asyncio.wait_for(work(), 20)
        finally:
            await batcher.close()

    asyncio.run(main())


def test_one_alone_goes_at_once(engine: ThreadPoolExecutor) -> None:
    bundle = StandIn()
    batcher = Batcher(bundle.infer, engine, 16, 5.0, Metrics())

    async def work() -> None:
        row = await asyncio.wait_for(batcher.run(pixels(7)), 2)
        assert row.outputs.features.tolist() == [[7, 7, 7]]

    carry_out(batcher, work)


def test_a_batch_waits_for_what_is_being_decoded_and_no_longer(engine: ThreadPoolExecutor) -> None:
    bundle = StandIn()
    batcher = Batcher(bundle.infer, engine, 16, 5.0, Metrics())

    async def decode_and_run(value: int, seconds: float) -> None:
        with batcher.decoding():
            await asyncio.sleep(seconds)
        row = await batcher.run(pixels(value))
        assert row.outputs.features[0, 0] == value

    async def work() -> None:
        await asyncio.wait_for(asyncio.gather(*(decode_and_run(n, 0.05 * (n % 3)) for n in range(9))), 3)

    carry_out(batcher, work)
    assert bundle.batches == [9]


def test_the_wait_has_an_end(engine: ThreadPoolExecutor) -> None:
    bundle = StandIn()
    batcher = Batcher(bundle.infer, engine, 16, 0.05, Metrics())

    async def work() -> None:
        with batcher.decoding():
            await asyncio.wait_for(batcher.run(pixels(1)), 2)

    carry_out(batcher, work)
    assert bundle.batches == [1]


def test_batches_have_a_size_and_rows_their_owners(engine: ThreadPoolExecutor) -> None:
    bundle = StandIn(seconds=0.02)
    batcher = Batcher(bundle.infer, engine, 4, 0.0, Metrics())

    async def work() -> None:
        rows = await asyncio.gather(*(batcher.run(pixels(n)) for n in range(20, 50)))
        assert [row.outputs.features[0, 0] for row in rows] == list(range(20, 50))
        assert all(row.outputs.probabilities.shape == (1, 3) for row in rows)

    carry_out(batcher, work)
    assert max(bundle.batches) == 4
    assert sum(bundle.batches) == 30


def test_one_that_the_engine_fails_on_fails_alone(engine: ThreadPoolExecutor) -> None:
    batcher = Batcher(StandIn().infer, engine, 8, 0.0, Metrics())

    async def work() -> None:
        found = await asyncio.gather(*(batcher.run(pixels(n)) for n in (1, 13, 2)), return_exceptions=True)
        assert isinstance(found[1], EmbedError)
        assert found[1].code is RejectCode.ENGINE_FAILED
        assert [row.outputs.features[0, 0] for row in (found[0], found[2])] == [1, 2]

    carry_out(batcher, work)


def test_what_is_no_number_is_a_reject(engine: ThreadPoolExecutor) -> None:
    batcher = Batcher(StandIn(broken=True).infer, engine, 8, 0.0, Metrics())

    async def work() -> None:
        with pytest.raises(EmbedError) as refused:
            await batcher.run(pixels(1))
        assert refused.value.code is RejectCode.NOT_FINITE

    carry_out(batcher, work)


def test_whoever_has_gone_is_not_run(engine: ThreadPoolExecutor) -> None:
    bundle = StandIn()
    batcher = Batcher(bundle.infer, engine, 8, 0.0, Metrics())
    held = threading.Event()

    async def work() -> None:
        engine.submit(held.wait, 10)
        first = asyncio.create_task(batcher.run(pixels(1)))
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(batcher.run(pixels(n))) for n in (2, 3, 4)]
        await asyncio.sleep(0.05)
        others[0].cancel()
        others[2].cancel()
        held.set()
        await first
        assert (await others[1]).outputs.features[0, 0] == 3

    carry_out(batcher, work)
    assert bundle.batches == [1, 1]
