"""What the stages of one invocation share. Driver only; imports no stage."""

from __future__ import annotations

import io
import json
import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from mirabelle.config import Config
from mirabelle.config.stores import resolved_options, store_of
from mirabelle.console import Console
from mirabelle.errors import BarNotMet, FetchError, MirabelleError, OutputError, UserError
from mirabelle.network import backbones, preparing, weights
from mirabelle.network.embedding import Embedding, Precision
from mirabelle.pipeline.failures import recording_failure
from mirabelle.storage import S3Options, Store, absolute, join
from mirabelle.table.current_view import newest_listing
from mirabelle.table.features import FeatureTable
from mirabelle.table.lease import Lease, hold
from mirabelle.table.runlog import RunLog, read_manifests

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

MAX_FACTS_BYTES = 2**28


@dataclass
class Job:
    """What the stages of one invocation share.

    Attributes:
        config: validated.
        store: where the output is.
        s3: how buckets are reached, for workers too.
        root: the images' folder, whole path; empty where a manifest names them.
        output: whole path.
        runlog: this run's manifest.
        console: a person's view.
        lease: this run's right to write to the output.
        scratch: folder of this machine's disk, for as long as the job lasts.
        certified: what ``engine.precision`` auto may be by a certificate, the best first; none: there is none.
        spark: Spark's context, once it is open; the report needs none.
        failed_bars: sentences; any makes the exit code 1, after all stages are done.
        unmet: why stages of a whole run could not do their part; the others go on, and the exit code is 2.
    """

    config: Config
    store: Store
    s3: S3Options
    root: str
    output: str
    runlog: RunLog
    console: Console
    lease: Lease
    scratch: str
    certified: tuple[Precision, ...] = ()
    spark: SparkContext | None = None
    failed_bars: list[str] = field(default_factory=list)
    unmet: list[UserError] = field(default_factory=list)
    summary: list[tuple[str, str]] = field(default_factory=list)

    @property
    def context(self) -> SparkContext:
        """Spark, open."""
        assert self.spark is not None, "this stage runs on Spark"
        return self.spark

    @property
    def session(self) -> SparkSession:
        """The session, which is made when it is first asked for."""
        from mirabelle.spark.session import session_on

        return session_on(self.context)

    def tell_cluster(self) -> None:
        """Say where this run's tasks run, and put it into the manifest."""
        from mirabelle.spark.cluster import cluster_of

        cluster = cluster_of(self.context)
        self.runlog.update(cluster=asdict(cluster))
        self.console.say(str(cluster))

    def embedding(self) -> Embedding:
        """The embedding to work on: this run's, else the newest run's, if the configuration asks for the like.

        Raises:
            OutputError: nothing was extracted yet, or only with another network.
        """
        own = self.runlog.manifest.get("embedding")
        if own:
            return Embedding.from_json(own)
        made = [m["embedding"] for m in read_manifests(self.store, self.output) if m.get("embedding")]
        if not made:
            raise OutputError(
                f"{self.output} holds no features yet; run `mirabelle extract` with this configuration first"
            )
        fitting = next((parts for parts in reversed(made) if self._asks_for(parts)), None)
        if fitting is None:
            last = Embedding.from_json(made[-1])
            raise OutputError(
                f"{self.output} holds features of {last.folder} and none of the network that the configuration asks"
                f" for ({self.config.backbone.name}, weights {self.config.backbone.weights}); run `mirabelle extract`"
                " first"
            )
        self.runlog.update(embedding=fitting, fingerprint=fitting["fingerprint"])
        return Embedding.from_json(fitting)

    def listing_path(self) -> str | None:
        """The newest listing that this embedding's table was brought up to: what its current view is made of."""
        manifests = [*read_manifests(self.store, self.output), self.runlog.manifest]
        return newest_listing(manifests, self.output, self.embedding().fingerprint)

    def table(self) -> FeatureTable:
        """The feature table of ``embedding()``."""
        return FeatureTable(self.store, self.output, self.embedding())

    def folder(self, kind: str, run_id: str | None = None) -> str:
        """``<output>/<kind>/<id>``, of this run unless another is named."""
        return join(self.output, kind, run_id or self.runlog.run_id)

    def newest(self, kind: str, fingerprint: str) -> dict[str, Any] | None:
        """Facts of the newest finished ``pca`` or ``classifier`` of an embedding, or None."""
        parent = join(self.output, kind)
        if not self.store.exists(parent):
            return None
        paths = sorted((e.path for e in self.store.walk(parent) if e.path.endswith(f"/{kind}.json")), reverse=True)
        for path in paths:
            try:
                facts: dict[str, Any] = json.loads(self.store.read(path, MAX_FACTS_BYTES))
                if facts["fingerprint"] == fingerprint:
                    return facts
            except (ValueError, KeyError, TypeError, FetchError) as error:
                raise OutputError(
                    f"{path} is damaged ({error}); remove its folder, and run the stage that wrote it again"
                ) from error
        return None

    def changed_since(self, run_id: str) -> str | None:
        """The first run after another that changed which features count; None: they are still those that it saw."""
        fingerprint = self.embedding().fingerprint
        for manifest in [*read_manifests(self.store, self.output), self.runlog.manifest]:
            if manifest["run_id"] > run_id and manifest.get("listing") and manifest.get("fingerprint") == fingerprint:
                # A run that was killed has no counts, and may have committed some chunks.
                counts = manifest.get("counts")
                if counts is None or any(counts[key] for key in ("new", "changed", "gone")):
                    return str(manifest["run_id"])
        return None

    def read_parquet(self, folder: str, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows of a folder that Spark wrote, through the store.

        Raises:
            OutputError: it is not there, or damaged.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        there = self.store.walk(folder) if self.store.exists(folder) else iter(())
        paths = sorted(entry.path for entry in there if entry.path.endswith(".parquet"))
        parts = []
        for path in paths:
            try:
                with self.store.open(path) as file:
                    parts.append(pq.ParquetFile(file).read(columns))
            except (pa.ArrowException, OSError, FetchError) as error:
                raise OutputError(f"{path} is damaged ({error}); run the stage that wrote it again") from error
        if not parts:
            raise OutputError(f"{folder} holds no Parquet; run the stage that writes it again")
        return pa.concat_tables(parts)

    def write_json(self, path: str, facts: dict[str, Any]) -> None:
        """Put facts away as JSON."""
        self.store.write(path, json.dumps(facts, indent=2, default=str).encode())

    def write_table(self, path: str, table: pa.Table) -> None:
        """Put a table away as one Parquet file."""
        import pyarrow.parquet as pq

        file = io.BytesIO()
        pq.write_table(table, file)
        self.store.write(path, file.getvalue())

    def _asks_for(self, parts: dict[str, Any]) -> bool:
        wanted = self.config.backbone
        row, source = backbones.find(wanted.name), weights.parse(wanted.weights)
        alike = (
            parts["backbone"] == row.name
            and parts["weights"] == source.name
            and (parts["input_px"], parts["layer"]) == preparing.shape_of(self.config)
            and parts["pooling"] == wanted.pooling
            and parts["preprocessing"] == preparing.preprocessing(self.config, row.normalisation, parts["precision"])
            and self.config.engine.precision in ("auto", parts["precision"])
        )
        if alike and parts["precision"] == "int8":
            # That of the network which this configuration would go on with.
            alike = parts["calibration"] == preparing.kept_calibration(self.config)
        if source.path is None or not alike:
            return alike
        # Files of one name may hold other weights.
        # An int8 network is one of these weights, too, and needs no quantising to tell.
        precision: Precision = "float32" if parts["precision"] == "int8" else parts["precision"]
        network = preparing.prepare_network(self.config, precision)
        return bool(network.embedding.weights_digest == parts["weights_digest"])


@contextmanager
def open_job(
    config: Config, command: str, console: Console, break_lease: bool = False, told: dict[str, Any] | None = None
) -> Iterator[Job]:
    """A job that alone may write to the output while the block lasts, and whose manifest tells how that ended.

    Args:
        config: validated.
        command: what was asked, for the manifest.
        console: a person's view.
        break_lease: take the output from a run that is believed dead.
        told: the configuration as it was given, secrets masked, where ``config`` is no longer that.

    Raises:
        OutputInUse: another run is at work.
        BarNotMet: the block ended, and the job has failed bars.
        UserError: the block ended, and the job has parts that could not be done; or as the block.
    """
    output = absolute(config.output)
    store = store_of(config, output)
    root = absolute(config.images.root) if config.images.root else ""
    runlog = RunLog(store, output, command, told or config.masked())
    with (
        tempfile.TemporaryDirectory(prefix="mirabelle-") as scratch,
        hold(store, output, runlog.run_id, command, break_lease) as lease,
    ):
        job = Job(config, store, resolved_options(config), root, output, runlog, console, lease, scratch)
        runlog.write()
        with recording_failure(runlog):
            yield job
        error = _ended(job)
    if error is None:
        return
    if job.unmet and not job.failed_bars:
        for name, text in job.summary:
            console.say(f"{name}: {text}")
    raise error


def _ended(job: Job) -> MirabelleError | None:
    """End the manifest; gives what is to be raised."""
    problems = [*job.failed_bars, *(str(error) for error in job.unmet)]
    error: MirabelleError | None = next(iter(job.unmet), None)
    if job.failed_bars:
        job.runlog.update(failed_bars=job.failed_bars)
        error = BarNotMet("; ".join(job.failed_bars), tuple(job.summary))
    job.runlog.finish("failed" if error else "done", "; ".join(problems) or None, error.exit_code if error else 0)
    return error
