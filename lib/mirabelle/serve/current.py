"""The bundle that answers, and how another takes its place. [through ``storage``, where a pointer is watched]

The address of a bundle may end in ``.json``: a pointer, as ``current.json`` beside bundles, whose ``bundle`` names one
of them. A new bundle is opened, answers a picture drawn here, and only then takes over; requests that were taken in
before are answered by the one before.
"""

from __future__ import annotations

import asyncio
import io
import posixpath
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import orjson
from PIL import Image

from mirabelle.bundle import Bundle
from mirabelle.errors import MirabelleError, OutputError, UserError
from mirabelle.network.engines import Pixels
from mirabelle.serve.batching import Batcher
from mirabelle.serve.cores import Cores
from mirabelle.serve.logs import logger, note, told
from mirabelle.serve.metrics import Metrics
from mirabelle.serve.settings import ServeSettings
from mirabelle.storage import absolute, open_store

MAX_POINTER_BYTES = 2**16
# How far from 1 a picture's probabilities may sum up in float32, over a thousand labels.
SUM_TOLERANCE = 1e-3

Opener = Callable[[str, int], Bundle]


class Served:
    """An open bundle with its batcher, and how many requests it is answering."""

    def __init__(self, bundle: Bundle, batcher: Batcher) -> None:
        self.bundle, self.batcher = bundle, batcher
        self.users = 0
        self.is_retired = False

    def heat(self, pixels: Pixels) -> bytes:
        """What the network looked at, as a grey PNG: white where it looked most; empty where the bundle cannot tell."""
        try:
            values = np.asarray(self.bundle.explain(pixels), np.float32)
        except UserError:
            # A network without maps of places.
            return b""
        grey = Image.fromarray((np.clip(values, 0, 1) * 255).astype(np.uint8))
        png = io.BytesIO()
        grey.resize((self.bundle.info.input_px,) * 2, Image.Resampling.BILINEAR).save(png, "PNG")
        return png.getvalue()


class Current:
    """Keeps the bundle that answers.

    Args:
        address: of a bundle, or of a pointer to one.
        opener: opens a bundle for a number of threads.
        threads: the engine's.
        cores: that the network runs on.
    """

    def __init__(
        self, address: str, opener: Opener, threads: int, cores: Cores, settings: ServeSettings, metrics: Metrics
    ) -> None:
        self.address = absolute(address)
        self._opener, self._threads, self._cores = opener, threads, cores
        self._settings, self._metrics = settings, metrics
        self._served: Served | None = None
        self._opened = ""
        self._reloading = asyncio.Lock()

    @property
    def is_ready(self) -> bool:
        """Whether a bundle has answered its self-test; it stays so from then on."""
        return self._served is not None

    @property
    def is_pointer(self) -> bool:
        """Whether the address names a bundle by way of a file, which is watched."""
        return self.address.endswith(".json")

    @property
    def served(self) -> Served:
        """The bundle that answers now."""
        assert self._served is not None, "a server listens only once a bundle has been opened"
        return self._served

    @contextmanager
    def using(self) -> Iterator[Served]:
        """The bundle that answers now, which stays open until the block ends."""
        served = self.served
        served.users += 1
        try:
            yield served
        finally:
            served.users -= 1
            self._close_if_done(served)

    async def open(self) -> None:
        """Open the first bundle; raises ``UserError`` where it cannot be opened or does not answer."""
        await self._take_over(await asyncio.to_thread(self.target))

    async def reload(self, only_if_moved: bool = False) -> bool:
        """Put a newly opened bundle in the place of the one that answers; False, with a line in the log, if it is bad.

        Args:
            only_if_moved: do nothing where the pointer names the bundle that answers.
        """
        async with self._reloading:
            try:
                target = await asyncio.to_thread(self.target)
                if only_if_moved and target == self._opened:
                    return True
                await self._take_over(target)
            except MirabelleError as error:
                return self._refused(str(error))
            except Exception as error:  # whatever a bad bundle raises, the good one goes on
                logger.error("bundle failed", extra={"fields": told(error, error.__traceback__)})
                return self._refused(type(error).__name__)
        self._metrics.reloads.labels("taken").inc()
        return True

    async def watch(self) -> None:
        """Look at the pointer for ever, and follow it."""
        failed = ""
        while True:
            await asyncio.sleep(self._settings.watch_seconds)
            try:
                target = await asyncio.to_thread(self.target)
            except MirabelleError as error:
                if failed != str(error):
                    failed = str(error)
                    self._refused(failed)
                continue
            # What was refused once is not tried again until the pointer names another, or SIGHUP asks for it.
            if target == self._opened:
                failed = ""
            elif target != failed:
                failed = "" if await self.reload(only_if_moved=True) else target

    def target(self) -> str:
        """The address of the bundle that is wanted now; raises ``OutputError`` where a pointer leads nowhere."""
        if not self.is_pointer:
            return self.address
        try:
            content = open_store(self.address).read(self.address, MAX_POINTER_BYTES)
            named = orjson.loads(content)["bundle"]
        except MirabelleError as error:
            raise OutputError(f"cannot read {self.address}: {error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise OutputError(f'{self.address} is no pointer; write {{"bundle": "ID"}} into it') from error
        folder = self.address.rpartition("/")[0]
        clean = posixpath.normpath(named) if isinstance(named, str) and named else ".."
        if clean.startswith(("/", "..")) or "\\" in clean or ":" in clean:
            raise OutputError(f"{self.address} names {named!r}; it may name a bundle in its own folder alone")
        return f"{folder}/{clean}"

    async def _take_over(self, target: str) -> None:
        bundle = await asyncio.to_thread(self._opener, target, self._threads)
        await self._cores.run_on_all(self_test, bundle, self._cores.halves)
        settings = self._settings
        batcher = Batcher(bundle.infer, self._cores, settings.max_batch, settings.window_ms / 1000, self._metrics)
        before, self._served, self._opened = self._served, Served(bundle, batcher), target
        self._metrics.bundle.clear()
        self._metrics.bundle.labels(bundle.info.id, bundle.info.fingerprint).set(1)
        note("bundle", bundle=bundle.info.id, fingerprint=bundle.info.fingerprint, labels=len(bundle.info.labels))
        if before is not None:
            before.is_retired = True
            self._close_if_done(before)

    def _refused(self, why: str) -> bool:
        self._metrics.reloads.labels("refused").inc()
        logger.warning("bundle refused", extra={"fields": {"why": why}})
        return False

    def _close_if_done(self, served: Served) -> None:
        if served.is_retired and not served.users:
            self._closing = asyncio.ensure_future(served.batcher.close())


def self_test(bundle: Bundle, halves: int) -> None:
    """Have a bundle answer a drawn picture, alone, beside another and on each half; ``OutputError`` if it cannot.

    What it says is not judged, as nobody has said what the picture shows; that it says something is.
    """
    info = bundle.info
    grey = np.linspace(0, 255, 3 * 96 * 64).reshape(64, 96, 3).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "PNG")
    decoded = bundle.decode(file.getvalue())
    if (decoded.width_px, decoded.height_px) != (96, 64) or decoded.pixels.shape != info.pixels:
        raise OutputError(f"the bundle {info.id} decodes pictures to other sizes than it says; make it anew")
    alone = bundle.infer(decoded.pixels[None])
    beside = bundle.infer(np.stack([decoded.pixels[::-1], decoded.pixels]))
    sums = beside.probabilities.sum(axis=1)
    if beside.probabilities.shape != (2, len(info.labels)) or not np.allclose(sums, 1, atol=SUM_TOLERANCE):
        raise OutputError(f"the bundle {info.id} does not answer with a probability for each label; make it anew")
    others = [bundle.infer(decoded.pixels[None], half) for half in range(halves)] if halves > 1 else []
    # A batch's rows differ from those of one by rounding, in bf16 by more of it.
    said = [beside.probabilities[1], *(one.probabilities[0] for one in others)]
    if not all(np.allclose(alone.probabilities[0], one, atol=0.05) for one in said):
        raise OutputError(f"the bundle {info.id} says something else of a picture beside another; make it anew")
    list(bundle.answer(alone, 1))
