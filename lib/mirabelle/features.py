"""The feature table: how a chunk becomes visible, what is done already, and what a killed run left. [Store, Parquet]

Driver only. The layout under one output root::

    features/embedding=<backbone>-<fingerprint8>/run=<id>/chunk=<n>/part-*.parquet   and _chunk.json, the marker
    rejects/embedding=.../run=<id>/chunk=<n>/part-*.parquet
    _staging/run=<id>/chunk=<n>/{features,rejects}/part-*.parquet                    what is not committed yet

A chunk is committed by one rename, which brings its rows and its marker into view together. Its rejects are moved just
before, and count only where the marker is there. Names with ``_`` in front are passed over by pandas, DuckDB and Spark.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mirabelle import schema
from mirabelle.decode import DecodeOptions
from mirabelle.embedding import Embedding
from mirabelle.errors import FingerprintMismatch, RunFailed, Stage
from mirabelle.storage import Store, join
from mirabelle.worker import TaskReport

MARKER = "_chunk.json"
STAGING = "_staging"
MAX_MARKER_BYTES = 2**24


@dataclass(frozen=True)
class Chunk:
    """A committed chunk, as its marker tells.

    Attributes:
        run: id of the run that made it.
        number: of the chunk in that run.
        embedded, rejected: rows.
        model_rows: pictures the network was run on.
        changed: of the embedded, those that have an older row in the table.
        labels: label columns beyond ``label`` and ``split``.
        fingerprint: of the embedding.
        limits: the decoder's limits and choices that decide whether a picture is a reject.
    """

    run: str
    number: int
    embedded: int
    rejected: int
    model_rows: int
    changed: int
    labels: tuple[str, ...]
    fingerprint: str
    limits: dict[str, object]


@dataclass(frozen=True)
class Difference:
    """What a run has to do, as positions in its listing.

    Attributes:
        new: never embedded with this embedding.
        changed: embedded, and another size, time, etag or label since.
        unchanged: done, embedded or rejected.
        still_rejected: how many of the unchanged are rejects.
        gone: paths that the table has and the listing has not.
    """

    new: npt.NDArray[np.int64]
    changed: npt.NDArray[np.int64]
    unchanged: npt.NDArray[np.int64]
    still_rejected: int
    gone: int


class FeatureTable:
    """The features and rejects of one embedding under one output root."""

    def __init__(self, store: Store, output: str, embedding: Embedding) -> None:
        self._store = store
        self._output = output
        self.embedding = embedding

    def folder(self, kind: str) -> str:
        """The folder of ``features`` or ``rejects`` of this embedding."""
        return join(self._output, kind, f"{schema.EMBEDDING}={self.embedding.folder}")

    def chunk_folder(self, kind: str, run: str, number: int) -> str:
        """The folder of one chunk."""
        return join(self.folder(kind), f"{schema.RUN}={run}", f"{schema.CHUNK}={number}")

    def staging_folder(self, run: str, number: int) -> str:
        """Where a chunk's tasks put their files before they count."""
        return join(self._output, STAGING, f"{schema.RUN}={run}", f"{schema.CHUNK}={number}")

    def chunks(self) -> list[Chunk]:
        """Every committed chunk, oldest run first.

        Raises:
            FingerprintMismatch: a marker of another embedding lies in this one's folder.
        """
        if not self._store.exists(self.folder("features")):
            return []
        markers = [e.path for e in self._store.walk(self.folder("features")) if e.path.endswith(f"/{MARKER}")]
        found = []
        for path in markers:
            facts = json.loads(self._store.read(path, MAX_MARKER_BYTES))
            chunk = Chunk(**{**facts, "labels": tuple(facts["labels"])})
            if chunk.fingerprint != self.embedding.fingerprint:
                raise FingerprintMismatch(
                    f"{path} holds features of another embedding ({chunk.fingerprint[:8]}, not"
                    f" {self.embedding.fingerprint[:8]}); move that folder out of {self.folder('features')}"
                )
            found.append(chunk)
        return sorted(found, key=lambda chunk: (chunk.run, chunk.number))

    def commit(
        self,
        run: str,
        number: int,
        images: int,
        changed: int,
        labels: Sequence[str],
        limits: DecodeOptions,
        reports: Sequence[TaskReport],
    ) -> Chunk:
        """Check a chunk's staged files and make them visible, all at one moment.

        Args:
            run, number: which chunk.
            images: that it was to embed.
            changed: how many of them have older rows.
            labels: further label columns.
            limits: the decoder's options.
            reports: one a task.

        Raises:
            RunFailed: the counts don't add up; nothing is made visible.
        """
        embedded, rejected = sum(r.embedded for r in reports), sum(r.rejected for r in reports)
        model_rows = sum(r.model_rows for r in reports)
        if embedded + rejected != images or not embedded <= model_rows <= images:
            raise RunFailed(
                f"chunk {number}: {images} images went in, {embedded} were embedded and {rejected} rejected, the"
                f" network ran on {model_rows}; the chunk is not committed"
            )
        chunk = Chunk(
            run,
            number,
            embedded,
            rejected,
            model_rows,
            changed,
            tuple(labels),
            self.embedding.fingerprint,
            reject_policy(limits),
        )
        staging = self.staging_folder(run, number)
        wanted = {f"{staging}/features/{r.features_file}" for r in reports if r.features_file}
        wanted |= {f"{staging}/rejects/{r.rejects_file}" for r in reports if r.rejects_file}
        staged = {entry.path for entry in self._store.walk(staging)} if self._store.exists(staging) else set()
        if wanted - staged:
            raise RunFailed(
                f"chunk {number}: {len(wanted - staged)} of its files are gone from {staging}; the chunk is not"
                " committed. Is another run at work on the same output?"
            )
        for path in staged - wanted:
            # Of a task that failed half-way, or of a slower twin of one that won.
            self._store.remove(path)
        if rejected:
            self._store.publish(f"{staging}/rejects", self.chunk_folder("rejects", run, number))
        self._store.write(f"{staging}/features/{MARKER}", json.dumps(asdict(chunk), indent=2).encode())
        self._store.publish(f"{staging}/features", self.chunk_folder("features", run, number))
        self._store.remove(staging)
        return chunk

    def clean(self) -> int:
        """Remove what killed runs left: staged files, rejects whose chunk has no marker. Returns folders removed."""
        removed = 0
        if self._store.exists(join(self._output, STAGING)):
            self._store.remove(join(self._output, STAGING))
            removed += 1
        if not self._store.exists(self.folder("rejects")):
            return removed
        committed = {self.chunk_folder("rejects", c.run, c.number) for c in self.chunks()}
        orphans = {e.path.rpartition("/")[0] for e in self._store.walk(self.folder("rejects"))} - committed
        for orphan in orphans:
            self._store.remove(orphan)
        return removed + len(orphans)

    def compare(self, listing: pa.Table, limits: DecodeOptions) -> Difference:
        """What of ``listing`` is new, changed or done, by path, size, time, etag and labels.

        A reject counts as done while the file is the same and the decoder's limits are; what could not be fetched or
        run is always tried again.
        """
        compared = [c for c in listing.column_names if c != schema.PATH]
        rows = {row[schema.PATH]: row for row in self._done_features().to_pylist()}
        rejects = {row[schema.PATH]: row for row in self._done_rejects(limits).to_pylist()}
        new: list[int] = []
        changed: list[int] = []
        unchanged: list[int] = []
        still_rejected = 0
        for position, image in enumerate(listing.to_pylist()):
            path = image[schema.PATH]
            row, reject = rows.get(path), rejects.get(path)
            if row is not None and all(row.get(c) == image[c] for c in compared):
                unchanged.append(position)
            elif reject is not None and all(reject[c] == image[c] for c in (schema.SIZE_BYTES, schema.ETAG)):
                unchanged.append(position)
                still_rejected += 1
            else:
                (new if row is None else changed).append(position)
        listed = set(listing[schema.PATH].to_pylist())
        return Difference(
            np.array(new, np.int64),
            np.array(changed, np.int64),
            np.array(unchanged, np.int64),
            still_rejected,
            len(rows.keys() - listed),
        )

    def read_rejects(self) -> pa.Table:
        """Every committed reject, the newest row of each path, less the paths that got features later."""
        rejects = self._newest("rejects", schema.rejects_schema({}).names)
        done = self._done_features().select([schema.PATH, schema.RUN]).to_pydict()
        embedded = dict(zip(done[schema.PATH], done[schema.RUN], strict=True))
        rows = zip(rejects[schema.PATH].to_pylist(), rejects[schema.RUN].to_pylist(), strict=True)
        return rejects.filter(pa.array([embedded.get(path, "") < run for path, run in rows], pa.bool_()))

    def _done_features(self) -> pa.Table:
        extra = sorted({label for chunk in self.chunks() for label in chunk.labels})
        return self._newest("features", schema.listing_schema(extra).names)

    def _done_rejects(self, limits: DecodeOptions) -> pa.Table:
        policy = reject_policy(limits)
        rejects = self._newest("rejects", schema.rejects_schema({}).names, policy)
        return rejects.filter(pc.equal(rejects[schema.STAGE], str(Stage.DECODE)))

    def _newest(self, kind: str, columns: Sequence[str], policy: dict[str, object] | None = None) -> pa.Table:
        """Some columns of all committed rows, and ``run``; of a path's several rows the newest run's."""
        known = schema.listing_schema() if kind == "features" else schema.rejects_schema({})
        types = {field.name: field.type for field in known}
        # Further label columns are text.
        target = pa.schema([(c, types.get(c, pa.string())) for c in [*columns, schema.RUN]])
        parts = [target.empty_table()]
        for chunk in self.chunks():
            rows = chunk.embedded if kind == "features" else chunk.rejected
            if not rows or (policy is not None and chunk.limits != policy):
                continue
            folder = self.chunk_folder(kind, chunk.run, chunk.number)
            for entry in self._store.walk(folder):
                if entry.path.endswith(".parquet"):
                    file = pq.ParquetFile(entry.path)
                    part = file.read([c for c in columns if c in file.schema_arrow.names])
                    part = part.append_column(schema.RUN, pa.array([chunk.run] * len(part), pa.string()))
                    parts.append(part)
        table = pa.concat_tables(parts, promote_options="default").select(target.names)
        # Later runs come later, so the last position of each path is its newest row.
        positions = {path: i for i, path in enumerate(table[schema.PATH].to_pylist())}
        return table if len(positions) == len(table) else table.take(list(positions.values()))


def reject_policy(limits: DecodeOptions) -> dict[str, object]:
    """The decoder's choices that decide whether a picture is a reject, as plain values."""
    return {
        "max_pixels": limits.max_pixels,
        "max_bytes": limits.max_bytes,
        "accept_truncated": limits.accept_truncated,
    }
