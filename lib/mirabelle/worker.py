"""What runs in a worker process: fetch, decode, batch, embed, and put a task's rows away. [Store, through arguments]

Executors only, though nothing here knows of Spark: it can be run and tested in any process. Training and serving share
``Embedder``, so that a picture gets the same features wherever it is embedded.
"""

from __future__ import annotations

import io
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mirabelle import schema
from mirabelle.decode import DecodedImage, DecodeOptions, decode
from mirabelle.embedding import Embedding, EngineName, Normalisation
from mirabelle.engines import Engine, Features, Files, Pixels, open_engine
from mirabelle.errors import EmbedError, FetchError, ImageError, RejectCode
from mirabelle.storage import Store, open_store


@dataclass(frozen=True)
class EmbedderSpec:
    """The small half of what goes to a worker; the network's files go beside it as a broadcast.

    Attributes:
        embedding: what the features are.
        engine: what runs the network.
        normalisation: done by the engine.
        decode: choices for pictures on their way in.
        batch_bytes: decoded pictures in one batch; at least one picture goes in whatever its size.
        threads: the engine may use.
    """

    embedding: Embedding
    engine: EngineName
    normalisation: Normalisation
    decode: DecodeOptions
    batch_bytes: int
    threads: int

    @property
    def batch_images(self) -> int:
        """Pictures in a batch."""
        return max(1, self.batch_bytes // (3 * self.embedding.input_px**2))


@dataclass(frozen=True)
class Outcome:
    """What became of one image: ``features`` float32 (width,), or ``error``; its size where it was decoded."""

    features: Features | None = None
    width_px: int | None = None
    height_px: int | None = None
    error: ImageError | None = None


@dataclass
class Tally:
    """Where a worker's time went, in seconds, and how many pictures the network was run on."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("fetch", "decode", "embed", "write"), 0.0))
    model_rows: int = 0

    @contextmanager
    def time(self, part: str) -> Iterator[None]:
        """Add the block's wall time to ``part``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - start


class Embedder:
    """A compiled network with the road to it. One to a process; not for several threads at once.

    Attributes:
        spec: what it was built for.
        serial: 1 for the first that this process built, and so on; more than a few mean that none is kept.
    """

    _serials = itertools.count(1)

    def __init__(self, spec: EmbedderSpec, files: Files) -> None:
        self.spec = spec
        self.serial = next(self._serials)
        self._engine: Engine = open_engine(
            spec.engine, files, spec.normalisation, spec.embedding.precision, spec.threads
        )
        side = spec.embedding.input_px
        self._batch: Pixels = np.empty((spec.batch_images, side, side, 3), dtype=np.uint8)

    def embed(self, sources: Iterable[str | bytes | None], tally: Tally) -> Iterator[Outcome]:
        """One outcome for each source, in order; holds one batch of decoded pictures at most.

        Args:
            sources: an image's path, or its bytes.
            tally: added to as the work goes.
        """
        outcomes: list[Outcome] = []
        filled: list[int] = []
        for source in sources:
            try:
                picture = self._open(source, tally)
            except ImageError as error:
                outcomes.append(Outcome(error=error))
                continue
            self._batch[len(filled)] = picture.pixels
            filled.append(len(outcomes))
            outcomes.append(Outcome(width_px=picture.width_px, height_px=picture.height_px))
            if len(filled) == len(self._batch):
                yield from self._finish(outcomes, filled, tally)
                outcomes, filled = [], []
        yield from self._finish(outcomes, filled, tally)

    def _open(self, source: str | bytes | None, tally: Tally) -> DecodedImage:
        if source is None:
            raise FetchError(RejectCode.MISSING, "null instead of a path or bytes")
        options = self.spec.decode
        if isinstance(source, str):
            with tally.time("fetch"):
                source = open_store(source).read(source, options.max_bytes)
        with tally.time("decode"):
            return decode(bytes(source), self.spec.embedding.input_px, options)

    def _finish(self, outcomes: list[Outcome], filled: list[int], tally: Tally) -> list[Outcome]:
        """Run the network on the ``filled`` first rows of the batch and complete their outcomes."""
        if filled:
            with tally.time("embed"):
                results = self._run(self._batch[: len(filled)])
            tally.model_rows += len(filled)
            for position, result in zip(filled, results, strict=True):
                before = outcomes[position]
                if isinstance(result, ImageError):
                    outcomes[position] = Outcome(None, before.width_px, before.height_px, result)
                else:
                    outcomes[position] = Outcome(result, before.width_px, before.height_px)
        return outcomes

    def _run(self, pixels: Pixels) -> list[Features | ImageError]:
        """Features or an error for each picture; a batch that fails is tried again picture by picture."""
        try:
            features = self._engine.embed(pixels)
        except Exception as error:  # engines raise bare RuntimeError; each picture ends as a row
            if len(pixels) == 1:
                return [EmbedError(RejectCode.ENGINE_FAILED, " ".join(str(error).split())[:300])]
            return [result for one in pixels for result in self._run(one[None])]
        # A sum is finite only if all of its terms are (float32 features are far from overflowing it).
        finite = np.isfinite(features.sum(axis=1, dtype=np.float64))
        return [
            row if finite[i] else EmbedError(RejectCode.NOT_FINITE, "the network answered NaN or infinity")
            for i, row in enumerate(features)
        ]


_EMBEDDERS: dict[EmbedderSpec, Embedder] = {}


def embedder_for(spec: EmbedderSpec, files: Callable[[], Files]) -> Embedder:
    """This process's embedder for ``spec``, built at its first use and kept across batches and tasks.

    Args:
        spec: what is wanted; the cache's key.
        files: gives the network's files; not called where the embedder is there already.
    """
    if spec not in _EMBEDDERS:
        # One at a time: another network's embedder is not wanted again in this process, and holds its memory.
        _EMBEDDERS.clear()
        _EMBEDDERS[spec] = Embedder(spec, files())
    return _EMBEDDERS[spec]


@dataclass(frozen=True)
class TaskReport:
    """What a task did: the files it staged, and its share of the counts and times.

    Attributes:
        task: its number in the chunk.
        features_file, rejects_file: names below the chunk's staging folder, empty where there were no such rows.
        embedded, rejected: rows in them.
        model_rows: pictures the network was run on.
        codes: rejects by code.
        seconds: by part, as in ``Tally``.
    """

    task: int
    features_file: str
    rejects_file: str
    embedded: int
    rejected: int
    model_rows: int
    codes: dict[str, int]
    seconds: dict[str, float]

    def to_json(self) -> str:
        """As one line, to travel back to the driver."""
        return json.dumps(self.__dict__)

    @classmethod
    def from_json(cls, text: str) -> TaskReport:
        """The inverse of ``to_json``."""
        return cls(**json.loads(text))


def run_task(embedder: Embedder, images: pa.Table, store: Store, staging: str, task: int, attempt: str) -> TaskReport:
    """Embed a task's images and stage its rows as Parquet.

    Args:
        embedder: this process's.
        images: the task's part of the listing.
        store: where ``staging`` is.
        staging: folder of the chunk; files go into ``features/`` and ``rejects/`` below it.
        task: number in the chunk.
        attempt: makes the names of a task's several attempts differ.
    """
    tally = Tally()
    outcomes = list(embedder.embed(images[schema.PATH].to_pylist(), tally))
    good = [i for i, outcome in enumerate(outcomes) if outcome.error is None]
    bad = [i for i, outcome in enumerate(outcomes) if outcome.error is not None]
    lineage = embedder.spec.embedding.to_json()
    name = f"part-{task:05d}-{attempt}.parquet"
    with tally.time("write"):
        if good:
            table = features_table(images.take(good), [outcomes[i] for i in good], lineage)
            store.write(f"{staging}/features/{name}", parquet_bytes(table))
        if bad:
            table = rejects_table(images.take(bad), [outcomes[i] for i in bad], lineage)
            store.write(f"{staging}/rejects/{name}", parquet_bytes(table))
    codes = Counter(str(outcomes[i].error.code) for i in bad)  # type: ignore[union-attr]
    return TaskReport(
        task, name if good else "", name if bad else "", len(good), len(bad), tally.model_rows, codes, tally.seconds
    )


def features_table(images: pa.Table, outcomes: list[Outcome], lineage: dict[str, object]) -> pa.Table:
    """Rows of the feature table, in ``schema.features_schema``; all of ``outcomes`` have features."""
    extra = images.column_names[len(schema.listing_schema()) :]
    values = np.stack([outcome.features for outcome in outcomes])  # type: ignore[misc]
    offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    made = {
        schema.WIDTH_PX: pa.array([o.width_px for o in outcomes], pa.int32()),
        schema.HEIGHT_PX: pa.array([o.height_px for o in outcomes], pa.int32()),
    }
    target = schema.features_schema(extra, lineage)
    made[schema.FEATURES] = pa.ListArray.from_arrays(
        offsets, values.reshape(-1), type=target.field(schema.FEATURES).type
    )
    return pa.Table.from_arrays([made[f.name] if f.name in made else images[f.name] for f in target], schema=target)


def outcomes_frame(outcomes: Iterable[Outcome]) -> pd.DataFrame:
    """One row an outcome, with the columns of ``schema.OUTCOME_DDL``."""
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


def rejects_table(images: pa.Table, outcomes: list[Outcome], lineage: dict[str, object]) -> pa.Table:
    """Rows of the rejects table, in ``schema.rejects_schema``; all of ``outcomes`` have errors."""
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    made = {
        schema.STAGE: pa.array([str(error.stage) for error in errors]),
        schema.CODE: pa.array([str(error.code) for error in errors]),
        schema.DETAIL: pa.array([error.detail for error in errors]),
    }
    target = schema.rejects_schema(lineage)
    return pa.Table.from_arrays([made[f.name] if f.name in made else images[f.name] for f in target], schema=target)


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as a Parquet file that any reader opens: zstd, no dictionary for floats (each value is its own)."""
    sink = io.BytesIO()
    strings = [f.name for f in table.schema if pa.types.is_string(f.type)]
    pq.write_table(table, sink, compression="zstd", use_dictionary=strings, coerce_timestamps="us")
    return sink.getvalue()
