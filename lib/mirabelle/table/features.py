"""The feature table: how a chunk becomes visible, what is done already, and what a killed run left. [Store, Parquet]

Driver only. The layout under one output root::

    features/embedding=<backbone>-<fingerprint8>/run=<id>/chunk=<n>/part-*.parquet   and _chunk.json, the marker
    rejects/embedding=.../run=<id>/chunk=<n>/part-*.parquet
    _staging/run=<id>/chunk=<n>/{features,rejects}/part-*.parquet                    what is not committed yet

A chunk is committed at the moment its marker is in the staging folder, whole: from then on whoever comes next, this run
or a later one, publishes what it names. Until then the next run removes it. On a disk publishing is a rename, which
brings rows and marker into view together; in a bucket it is copies, with the marker last. Names with ``_`` in front are
passed over by pandas and Spark, and no Parquet has one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from mirabelle import schema
from mirabelle.decode import DecodeOptions
from mirabelle.errors import FetchError, FingerprintMismatch, OutputError, RejectCode, RunFailed
from mirabelle.network.embedding import Embedding
from mirabelle.storage import Entry, Store, join
from mirabelle.table.chunks import MARKER, MAX_MARKER_BYTES, STAGING, Chunk, publish, recover, reject_policy
from mirabelle.worker.embed import TaskReport

KINDS = ("features", "rejects")
FILES_AT_ONCE = 16
# At folders that a compaction is about to empty.
MOST_LOOKS = 10
_IN_CHUNK = re.compile(rf"(?P<chunk>(?P<run>.*/{schema.RUN}=[^/]+)/{schema.CHUNK}=\d+)/.*", re.DOTALL)


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
        """Every committed chunk that no other replaced, oldest run first.

        Raises:
            FingerprintMismatch: a marker of another embedding lies in this one's folder.
        """
        found = self.markers()
        replaced = {one for chunk in found for one in chunk.replaces}
        return [chunk for chunk in found if (chunk.run, chunk.number) not in replaced]

    def markers(self) -> list[Chunk]:
        """Every chunk that has a marker, those that another replaced and that are not yet removed too; oldest first.

        Raises:
            FingerprintMismatch: a marker of another embedding lies in this one's folder.
            OutputError: a marker is damaged, or they come and go.
        """
        for _ in range(MOST_LOOKS):
            paths = [e.path for e in self._walk(self.folder("features")) if e.path.endswith(f"/{MARKER}")]
            with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
                read = dict(zip(paths, pool.map(self._read_marker, paths), strict=True))
            found = [chunk for chunk in read.values() if chunk]
            replaced = {self._marker(*one) for chunk in found for one in chunk.replaces}
            # What went between the two looks counts no more, if a compaction has taken its place.
            if all(chunk or path in replaced for path, chunk in read.items()):
                return sorted(found, key=lambda chunk: (chunk.run, chunk.number))
        raise OutputError(f"the chunks in {self.folder('features')} come and go; wait for the run that changes them")

    def files(self, kind: str, chunk: Chunk) -> list[str]:
        """Whole paths of a chunk's files of ``features`` or ``rejects``."""
        names = chunk.features_files if kind == "features" else chunk.rejects_files
        folder = self.chunk_folder(kind, chunk.run, chunk.number)
        return [join(folder, name) for name in names]

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
        """Check a chunk's staged files and make them visible.

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
        embedded, rejected, reused, model_rows = (
            sum(getattr(report, name) for report in reports)
            for name in ("embedded", "rejected", "reused", "model_rows")
        )
        if embedded + rejected != images or not embedded - reused <= model_rows <= images - reused:
            raise RunFailed(
                f"chunk {number}: {images} images went in, {embedded} were embedded and {rejected} rejected, the"
                f" network ran on {model_rows}; the chunk is not committed"
            )
        chunk = Chunk(
            run,
            number,
            embedded,
            rejected,
            reused,
            model_rows,
            changed,
            tuple(labels),
            self.embedding.folder,
            self.embedding.fingerprint,
            reject_policy(limits),
            tuple(report.features_file for report in reports if report.features_file),
            tuple(report.rejects_file for report in reports if report.rejects_file),
        )
        self.commit_staged(chunk)
        return chunk

    def commit_staged(self, chunk: Chunk) -> None:
        """Commit a chunk whose files are all staged.

        Raises:
            RunFailed: some of them are gone.
        """
        staging = self.staging_folder(chunk.run, chunk.number)
        wanted = {f"{staging}/features/{name}" for name in chunk.features_files}
        wanted |= {f"{staging}/rejects/{name}" for name in chunk.rejects_files}
        staged = {entry.path for entry in self._store.walk(staging)} if self._store.exists(staging) else set()
        if wanted - staged:
            raise RunFailed(
                f"chunk {chunk.number}: {len(wanted - staged)} of its files are gone from {staging}; the chunk is not"
                " committed. Is another run at work on the same output?"
            )
        for path in staged - wanted:
            # Of a task that failed half-way, or of a slower twin of one that won.
            self._store.remove(path)
        self._store.write(f"{staging}/features/{MARKER}", chunk.to_json())
        publish(self._store, self._output, staging, chunk)

    def clean(self) -> int:
        """Complete or remove what killed runs left; only for the run that holds the output's lease.

        Chunks that were committed are published, all else that is staged is removed, and so is what no marker names.
        Returns how many chunks or folders were mended.
        """
        mended = recover(self._store, self._output)
        if not self._store.exists(self.folder("features")) and not self._store.exists(self.folder("rejects")):
            return mended
        chunks = self.chunks()
        named = {path for chunk in chunks for kind in KINDS for path in self.files(kind, chunk)}
        live = {self.chunk_folder(kind, chunk.run, chunk.number) for chunk in chunks for kind in KINDS}
        found = [entry.path for kind in KINDS for entry in self._walk(self.folder(kind))]
        stray = {path for path in found if path not in named and not (path.endswith(MARKER) and _parent(path) in live)}
        runs = {_parent(folder) for folder in live}
        left = {self._whole(path, live, runs) for path in stray}
        for path in left:
            self._store.remove(path)
        return mended + len(left)

    def write_rows(self, kind: str, columns: Sequence[str], file: str, policy: dict[str, object] | None = None) -> None:
        """Put some columns of all committed rows, ``run`` and ``_file`` into a Parquet file of this machine's disk.

        Args:
            kind: ``features`` or ``rejects``.
            columns: of its schema, or further label columns, which are text; null where a file lacks them.
            file: to be written.
            policy: only files made under these limits.
        """
        known = schema.listing_schema() if kind == "features" else schema.rejects_schema({})
        target = pa.schema([(c, known.field(c).type if c in known.names else pa.string()) for c in columns])
        whole = target.append(pa.field(schema.RUN, pa.string())).append(pa.field(schema.FILE, pa.string()))

        def read(named: tuple[str, str]) -> pa.Table:
            run, path = named
            with self._store.open(path) as source:
                parquet = pq.ParquetFile(source)
                there = [c for c in columns if c in parquet.schema_arrow.names]
                rows = parquet.read(there)
            made = {c: rows[c] for c in there}
            made |= {schema.RUN: pa.array([run] * len(rows), pa.string()), schema.FILE: pa.array([path] * len(rows))}
            return pa.table(
                [made[f.name].cast(f.type) if f.name in made else pa.nulls(len(rows), f.type) for f in whole],
                schema=whole,
            )

        wanted = [
            (chunk.run, path)
            for chunk in self.chunks()
            for path, limits in zip(self.files(kind, chunk), chunk.policies(kind), strict=True)
            if policy is None or limits == policy
        ]
        with pq.ParquetWriter(file, whole, compression="zstd") as writer, ThreadPoolExecutor(FILES_AT_ONCE) as pool:
            for start in range(0, len(wanted), FILES_AT_ONCE):
                for rows in pool.map(read, wanted[start : start + FILES_AT_ONCE]):
                    writer.write_table(rows)

    def _whole(self, stray: str, live: set[str], runs: set[str]) -> str:
        """What to remove with a file that counts for nothing: of a chunk or a run where nothing counts, all of it."""
        found = _IN_CHUNK.fullmatch(stray)
        if not found or found["chunk"] in live:
            return stray
        return found["chunk"] if found["run"] in runs else found["run"]

    def _marker(self, run: str, number: int) -> str:
        return join(self.chunk_folder("features", run, number), MARKER)

    def _read_marker(self, path: str) -> Chunk | None:
        """A marker's chunk; None: it is gone."""
        try:
            chunk = Chunk.from_json(self._store.read(path, MAX_MARKER_BYTES))
        except FetchError as error:
            if error.code is RejectCode.MISSING:
                return None
            raise OutputError(f"cannot read {path}: {error}") from error
        except (ValueError, TypeError, KeyError) as error:
            raise OutputError(
                f"{path} is damaged ({error!r}); remove its folder, and its images are embedded again"
            ) from error
        if chunk.fingerprint != self.embedding.fingerprint:
            raise FingerprintMismatch(
                f"{path} holds features of another embedding ({chunk.fingerprint[:8]}, not"
                f" {self.embedding.fingerprint[:8]}); move that folder out of {self.folder('features')}"
            )
        return chunk

    def _walk(self, folder: str) -> Iterator[Entry]:
        return self._store.walk(folder) if self._store.exists(folder) else iter(())


def _parent(path: str) -> str:
    return path.rpartition("/")[0]
