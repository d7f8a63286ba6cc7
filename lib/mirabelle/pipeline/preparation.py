"""The listing and the network, made by a thread while Spark starts. Driver only."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, TypeVar

from mirabelle import signals
from mirabelle.listing import Listing
from mirabelle.listing.calibration import draw
from mirabelle.network import preparing
from mirabelle.network.embedding import Precision
from mirabelle.pipeline.job import Job
from mirabelle.pipeline.source import list_source

if TYPE_CHECKING:
    from mirabelle.network.preparing import Network

T = TypeVar("T")


class Preparation:
    """What needs no Spark, done while it starts: the listing, then the network as it will probably be wanted."""

    # Most bad input shows at once, and should not have to wait for Spark.
    HEAD_START_SECONDS = 1.0

    def __init__(self, job: Job) -> None:
        self._job = job
        self._thread = ThreadPoolExecutor(1, "mirabelle-preparation")
        self._lock = threading.Lock()
        self._busy: int | None = None
        self._listing: Future[Listing] = self._thread.submit(self._at_work, lambda: list_source(job))
        self._network: Future[Network] = self._thread.submit(self._at_work, self._prepare_network)

    def __enter__(self) -> Preparation:
        try:
            if wait([self._listing], self.HEAD_START_SECONDS).done:
                self.listing()
        except BaseException as error:
            self.__exit__(type(error))
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            # Nobody waits for minutes of listing or converting that are of no use any more.
            with self._lock:
                if self._busy is not None:
                    signals.raise_in(self._busy)
        self._thread.shutdown(cancel_futures=True)

    def _at_work(self, work: Callable[[], T]) -> T:
        """Do a part of it; for as long as that takes, ``_busy`` is the thread that does."""
        with self._lock:
            self._busy = threading.get_ident()
        try:
            return work()
        finally:
            with self._lock:
                self._busy = None

    def listing(self) -> Listing:
        """The run's listing, once it is there.

        Raises:
            ListingError: as ``listing`` says.
        """
        return self._listing.result()

    def network(self, precision: Precision) -> Network:
        """The network, once it is there.

        Args:
            precision: as the preflight settled it; the cache serves two as well as one.

        Raises:
            WeightsError, ConfigError: as ``preparing.prepare_network`` says.
        """
        network = self._network.result()
        return network if network.embedding.precision == precision else self._prepared(precision)

    def _prepare_network(self) -> Network:
        # Nothing is worth preparing for images that cannot be listed.
        self.listing()
        with self._job.runlog.time("model"):
            return self._prepared(preparing.precision_here(self._job.config, self._job.certified))

    def _prepared(self, precision: Precision) -> Network:
        return preparing.prepare_network(self._job.config, precision, lambda: draw(self._job.config, self.listing()))
