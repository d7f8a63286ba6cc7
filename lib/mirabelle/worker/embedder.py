"""What runs in a worker process: fetch, decode, batch, embed, and put a task's rows away. [Store, through arguments]

Executors only, though nothing here knows of Spark: it can be run and tested in any process. Training and serving share
``Embedder``, so that a picture gets the same features wherever it is embedded.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from mirabelle import schema
from mirabelle.decode import DecodedImage, DecodeOptions, decode
from mirabelle.errors import EmbedError, ImageError, RejectCode
from mirabelle.network.embedding import Embedding, EngineName, Normalisation
from mirabelle.network.engines import Engine, Features, Files, Pixels, open_engine
from mirabelle.storage import S3Options, open_store
from mirabelle.worker.fetching import ImageSource, Source, fetch, read_ahead

if TYPE_CHECKING:
    import pandas as pd


# More at once is no faster on a CPU. On a GPU nobody has measured (scripts/bench/gpu.py would): 222 pictures of 224 px,
# so that starting a batch costs little of it.
BATCH_BYTES, GPU_BATCH_BYTES = 4 * 2**20, 32 * 2**20


@dataclass(frozen=True)
class EmbedderSpec:
    """The small half of what goes to a worker; the network's files go beside it as a broadcast.

    Attributes:
        embedding: what the features are.
        engine: what runs the network.
        normalisation: done by the engine.
        decode: choices for pictures on their way in.
        batch_bytes: decoded pictures in one batch; at least one picture goes in whatever its size. None: as many as
            suit the engine.
        threads: the engine may use.
        s3: how buckets are reached.
    """

    embedding: Embedding
    engine: EngineName
    normalisation: Normalisation
    decode: DecodeOptions
    batch_bytes: int | None
    threads: int
    s3: S3Options = field(default_factory=S3Options)

    def batch_images(self, on_gpu: bool) -> int:
        """Pictures in a batch."""
        batch_bytes = self.batch_bytes or (GPU_BATCH_BYTES if on_gpu else BATCH_BYTES)
        return max(1, batch_bytes // (3 * self.embedding.input_px**2))


@dataclass(frozen=True)
class Outcome:
    """What became of one image: ``features`` float32 (width,), or ``error``; its size where it was decoded."""

    features: Features | None = None
    width_px: int | None = None
    height_px: int | None = None
    error: ImageError | None = None


@dataclass
class Tally:
    """Where a worker's time went, and how many pictures the network was run on.

    Attributes:
        seconds: by the clock, of the thread that runs the network; its waiting counts for what it waited for.
        decode_core_seconds: of the threads that decode, which run while the network does.
        model_rows: pictures the network was run on.
    """

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(schema.WORKER_SECONDS, 0.0))
    decode_core_seconds: float = 0.0
    model_rows: int = 0

    @contextmanager
    def time(self, part: str) -> Iterator[None]:
        """Add the block's wall time to ``part``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - start


@dataclass(frozen=True)
class _Prepared:
    """A picture ready for the network, or why there is none; when its bytes were there, and what decoding them took."""

    picture: DecodedImage | ImageError
    fetched_at: float
    decode_core_seconds: float


class Embedder:
    """A compiled network with the road to it. One to a process; not for several threads at once.

    Pictures are fetched and decoded by threads while the network runs on those before them, at most one batch and what
    the store likes to be asked for at once ahead.

    Attributes:
        spec: what it was built for.
        serial: 1 for the first that this process built, and so on; more than a few mean that none is kept.
    """

    _serials = itertools.count(1)

    def __init__(self, spec: EmbedderSpec, files: Files | Path) -> None:
        self.spec = spec
        self.serial = next(self._serials)
        self._engine: Engine = open_engine(
            spec.engine, files, spec.normalisation, spec.embedding.precision, spec.threads
        )
        side = spec.embedding.input_px
        self._batch: Pixels = np.empty((spec.batch_images(self._engine.on_gpu), side, side, 3), dtype=np.uint8)
        # Pillow's switch for truncated files holds for all threads.
        self._decoders = 1 if spec.decode.accept_truncated else spec.threads
        self._may_decode = threading.Semaphore(self._decoders)
        self._threads = self._decoders
        self._pool = ThreadPoolExecutor(self._threads, "mirabelle-pictures")

    def embed(self, sources: Iterable[Source], tally: Tally) -> Iterator[Outcome]:
        """One outcome for each source, in order.

        Args:
            sources: images, their paths, or their bytes.
            tally: added to as the work goes.
        """
        outcomes: list[Outcome] = []
        filled: list[int] = []
        for picture in self._pictures(sources, tally):
            if isinstance(picture, ImageError):
                outcomes.append(Outcome(error=picture))
                continue
            self._batch[len(filled)] = picture.pixels
            filled.append(len(outcomes))
            outcomes.append(Outcome(width_px=picture.width_px, height_px=picture.height_px))
            if len(filled) == len(self._batch):
                yield from self._finish(outcomes, filled, tally)
                outcomes, filled = [], []
        yield from self._finish(outcomes, filled, tally)

    def _pictures(self, sources: Iterable[Source], tally: Tally) -> Iterator[DecodedImage | ImageError]:
        sources = iter(sources)
        first = next(sources, _NOTHING)
        if first is _NOTHING:
            return
        reads = _reads_at_once(first, self.spec.s3)
        threads = max(reads, self._decoders)
        if threads > self._threads:
            self._pool, self._threads = ThreadPoolExecutor(threads, "mirabelle-pictures"), threads
        prepared = read_ahead(itertools.chain([first], sources), self._prepare, self._pool, len(self._batch) + threads)
        while True:
            asked_at = time.perf_counter()
            item = next(prepared, None)
            if item is None:
                return
            waited = time.perf_counter() - asked_at
            store = min(max(item.fetched_at - asked_at, 0.0), waited)
            tally.seconds[schema.STORE] += store
            tally.seconds[schema.DECODING] += waited - store
            tally.decode_core_seconds += item.decode_core_seconds
            yield item.picture

    def _prepare(self, source: Source) -> _Prepared:
        """Fetch and decode; runs in the pool."""
        fetched = fetch(source, self.spec.decode.max_bytes, self.spec.s3)
        fetched_at = time.perf_counter()
        if isinstance(fetched, ImageError):
            return _Prepared(fetched, fetched_at, 0.0)
        with self._may_decode:
            start = time.thread_time()
            picture: DecodedImage | ImageError
            try:
                picture = decode(fetched, self.spec.embedding.input_px, self.spec.decode)
            except ImageError as error:
                picture = error
            return _Prepared(picture, fetched_at, time.thread_time() - start)

    def _finish(self, outcomes: list[Outcome], filled: list[int], tally: Tally) -> list[Outcome]:
        """Run the network on the ``filled`` first rows of the batch and complete their outcomes."""
        if filled:
            with tally.time(schema.INFERENCE):
                results = self._run(self._batch[: len(filled)], self._batch if self._engine.on_gpu else None)
            tally.model_rows += len(filled)
            for position, result in zip(filled, results, strict=True):
                before = outcomes[position]
                if isinstance(result, ImageError):
                    outcomes[position] = Outcome(None, before.width_px, before.height_px, result)
                else:
                    outcomes[position] = Outcome(result, before.width_px, before.height_px)
        return outcomes

    def _run(self, pixels: Pixels, padded: Pixels | None = None) -> list[Features | ImageError]:
        """Features or an error for each picture; a batch that fails is tried again picture by picture.

        Args:
            pixels: of the pictures.
            padded: the same and more, to give to the engine in their place.
        """
        try:
            features = self._engine.embed(pixels if padded is None else padded)[: len(pixels)]
        except Exception as error:  # engines raise bare RuntimeError; each picture ends as a row
            if len(pixels) == 1 and padded is None:
                return [EmbedError(RejectCode.ENGINE_FAILED, " ".join(str(error).split())[:300])]
            return [result for one in pixels for result in self._run(one[None])]
        # A sum is finite only if all of its terms are (float32 features are far from overflowing it).
        finite = np.isfinite(features.sum(axis=1, dtype=np.float64))
        return [
            row if finite[i] else EmbedError(RejectCode.NOT_FINITE, "the network answered NaN or infinity")
            for i, row in enumerate(features)
        ]


_NOTHING: Any = object()


def _reads_at_once(source: Source, s3: S3Options) -> int:
    path = source.path if isinstance(source, ImageSource) else source
    return open_store(path, s3).reads_at_once if isinstance(path, str) else 1


_EMBEDDERS: dict[EmbedderSpec, Embedder] = {}


def embedder_for(spec: EmbedderSpec, files: Callable[[], Files | Path]) -> Embedder:
    """This process's embedder for ``spec``, built at its first use and kept across batches and tasks.

    Args:
        spec: what is wanted; the cache's key.
        files: gives the network's files, or the folder that they are in; not called where the embedder is there.
    """
    if spec not in _EMBEDDERS:
        # One at a time: another network's embedder is not wanted again in this process, and holds its memory.
        _EMBEDDERS.clear()
        _EMBEDDERS[spec] = Embedder(spec, files())
    return _EMBEDDERS[spec]


def outcomes_frame(outcomes: Iterable[Outcome]) -> pd.DataFrame:
    """One row an outcome, with the columns of ``schema.OUTCOME_DDL``."""
    # Half a second, which a driver that only coordinates need not wait for.
    import pandas as pd

    rows = []
    for outcome in outcomes:
        error = outcome.error
        reason = (str(error.stage), str(error.code), error.detail) if error else (None, None, None)
        rows.append((outcome.features, outcome.width_px, outcome.height_px, *reason))
    columns = [schema.FEATURES, schema.WIDTH_PX, schema.HEIGHT_PX, schema.STAGE, schema.CODE, schema.DETAIL]
    return pd.DataFrame(rows, columns=columns)


def as_matrix(column: pa.Array | pa.ChunkedArray) -> Features:
    """A list column of equal lengths as float32 (n, width), without a copy where Arrow has it in one piece."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    values = whole.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(values, dtype=np.float32).reshape(len(column), -1)
