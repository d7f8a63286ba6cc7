"""Images to features: list, compare, embed what is new, commit chunk by chunk. Driver only."""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mirabelle import schema
from mirabelle.listing import Listing
from mirabelle.network.preparing import keep_network, precision_here
from mirabelle.pipeline.job import Job
from mirabelle.pipeline.preparation import Preparation
from mirabelle.spark.cluster import slots
from mirabelle.spark.planning import Pace, plan_tasks
from mirabelle.storage import join
from mirabelle.storage.database import copy_to, open_database, quoted
from mirabelle.table.chunks import Chunk, recover
from mirabelle.table.difference import STATUS, Difference, compare
from mirabelle.table.features import FeatureTable
from mirabelle.worker.embed import TaskReport
from mirabelle.worker.fetching import UNKNOWN_BYTES

if TYPE_CHECKING:
    from mirabelle.network.preparing import Network
    from mirabelle.spark.preflight import Preflight

# While one chunk's last tasks run, the next one's first keep the other cores busy.
CHUNKS_IN_FLIGHT = 2
# Of features, which a task holds in memory and writes to one file.
TASK_BYTES = 64 * 2**20
REFRESH_SECONDS = 0.25
RANDOM_WEIGHTS = "the weights are random, not learnt: these features are good for tests and benchmarks alone"


def finds_nothing(job: Job, preparation: Preparation) -> bool:
    """Whether all images are embedded already, as can be told without Spark where tasks would run on this machine.

    The counts are in the manifest then, and no more need be done.
    """
    if not job.store.exists(join(job.output, "features")) or job.config.extract.full:
        return False
    images, network = preparation.listing(), preparation.network(precision_here(job.config, job.certified))
    table = FeatureTable(job.store, job.output, network.embedding)
    difference = _plan(job, images, network, table)
    if difference.to_do:
        return False
    job.runlog.update(images_root=job.root, **_of_network(network), warnings=[])
    _announce(job, network, difference)
    _count(job, images, difference, [], [])
    return True


def extract(job: Job, preparation: Preparation) -> Listing:
    """Embed what is new or changed and commit it; counts go into the manifest. Returns the listing.

    Raises:
        ListingError, PreflightError, WeightsError: before any image is read.
        RunFailed: a chunk's counts don't add up, or another run took the lease.
    """
    from mirabelle.spark.preflight import run_preflight

    with job.runlog.time("preflight"):
        preflight = run_preflight(job.context, job.config, job.s3, job.certified)
    # Only now have all executors joined.
    job.tell_cluster()
    for warning in preflight.warnings:
        job.console.warn(warning)
    images = preparation.listing()
    network = preparation.network(preflight.precision)
    _record(job, preflight, network)
    keep_network(job.config, network)
    table = FeatureTable(job.store, job.output, network.embedding)
    difference = _plan(job, images, network, table)
    job.runlog.write()
    _announce(job, network, difference)
    with job.runlog.time("embed"):
        chunks, reports = _embed_all(job, images, difference, table, network, preflight)
    _count(job, images, difference, chunks, reports)
    return images


def _plan(job: Job, images: Listing, network: Network, table: FeatureTable) -> Difference:
    """What there is to do, after clearing away what a killed run left; the listing is kept beside the manifest."""
    with job.runlog.time("plan"):
        table.clean()
        difference = compare(table, images, network.decode, job.scratch, job.config.extract.full)
        job.runlog.update(listing=join(job.output, "runs", f"{job.runlog.run_id}.listing.parquet"))
        _keep_listing(job, images)
    return difference


def _keep_listing(job: Job, images: Listing) -> None:
    """Paths and etags for the current view."""
    file = os.path.join(job.scratch, "listing.parquet")
    with open_database(job.scratch) as database:
        copy_to(database, f"select {schema.PATH}, {schema.ETAG} from {quoted(images.file)}", file)
    job.store.upload(file, job.runlog.manifest["listing"])


def _embed_all(
    job: Job, images: Listing, difference: Difference, table: FeatureTable, network: Network, preflight: Preflight
) -> tuple[list[Chunk], list[TaskReport]]:
    """Embed the listing's new and changed rows in chunks, two in flight, and commit each as it is done."""
    from mirabelle.spark.embed import embed_chunk, send, spec_of

    if not difference.to_do:
        return [], []
    context = job.context
    counters = (context.accumulator(0), context.accumulator(0))
    settings = job.config.extract
    spec = spec_of(network, preflight.threads, job.config.engine.batch_bytes, job.s3)
    files = send(context, network)
    run_id, limits = job.runlog.run_id, network.decode
    task_images = max(1, min(settings.task_images, TASK_BYTES // (4 * network.embedding.width)))
    pace = Pace(settings.chunk_seconds, CHUNKS_IN_FLIGHT, preflight.slots, settings.chunk_images, task_images)
    work, left = difference.take(), difference.to_do
    numbers = itertools.count()
    running: dict[Future[list[TaskReport]], tuple[int, pa.Table]] = {}
    chunks: list[Chunk] = []
    all_reports: list[TaskReport] = []
    started = time.monotonic()
    with (
        job.console.track(difference.to_do, lambda: (counters[0].value, counters[1].value)) as refresh,
        ThreadPoolExecutor(CHUNKS_IN_FLIGHT) as pool,
    ):
        try:
            part = work.next(pace.chunk_images(left))
            while part is not None or running:
                while part is not None and len(running) < CHUNKS_IN_FLIGHT:
                    number = next(numbers)
                    # Executors come and go.
                    tasks = _tasks_of(part, slots(context), pace.task_images(left))
                    staging = table.staging_folder(run_id, number)
                    future = pool.submit(
                        embed_chunk, context, spec, files, part.drop_columns([STATUS]), tasks, staging, counters
                    )
                    running[future] = (number, part)
                    left -= len(part)
                    part = work.next(pace.chunk_images(left))
                for future in wait(running, REFRESH_SECONDS, FIRST_COMPLETED).done:
                    number, done = running.pop(future)
                    reports = future.result()
                    changed = pc.sum(pc.equal(done[STATUS], "changed")).as_py() or 0
                    job.lease.check()
                    chunks.append(
                        table.commit(run_id, number, len(done), changed, images.extra_labels, limits, reports)
                    )
                    all_reports += reports
                    embedded, rejected = sum(r.embedded for r in all_reports), sum(r.rejected for r in all_reports)
                    pace.measured(embedded + rejected, time.monotonic() - started)
                    # For whoever watches from elsewhere.
                    progress = {"to_do": difference.to_do, "embedded": embedded, "rejected": rejected}
                    job.runlog.update(progress=progress)
                    job.runlog.write()
                refresh()
        except BaseException:
            # Otherwise leaving the pool would wait for work that nobody wants any more.
            context.cancelAllJobs()
            raise
    recover(job.store, job.output)
    return chunks, all_reports


def _tasks_of(part: pa.Table, slots: int, task_images: int) -> list[npt.NDArray[np.int64]]:
    """A chunk's rows by task; what is carried over costs nothing."""
    sizes = pc.fill_null(part[schema.SIZE_BYTES], UNKNOWN_BYTES).to_numpy()
    return plan_tasks(sizes, slots, task_images, part[schema.TWIN].to_numpy())


def _of_network(network: Network) -> dict[str, Any]:
    """A network's entries in the manifest."""
    return {
        "embedding": network.embedding.to_json(),
        "fingerprint": network.embedding.fingerprint,
        "random_weights": network.embedding.is_random,
        "engine": network.engine,
    }


def _record(job: Job, preflight: Preflight, network: Network) -> None:
    job.runlog.update(
        images_root=job.root,
        **_of_network(network),
        engine_threads=preflight.threads,
        slots=preflight.slots,
        workers=[asdict(worker) for worker in preflight.workers],
        warnings=list(preflight.warnings),
    )
    job.runlog.manifest["machine"]["cpu"] = preflight.workers[0].cpu
    job.runlog.write()


def _announce(job: Job, network: Network, difference: Difference) -> None:
    embedding = network.embedding
    job.console.say(
        f"{embedding.backbone} ({embedding.weights}) at {embedding.input_px} px, {embedding.width} features,"
        f" {embedding.precision} by {network.engine}, {'from the cache' if network.was_cached else 'converted'};"
        f" embedding {embedding.folder}"
    )
    if embedding.is_random:
        job.console.warn(RANDOM_WEIGHTS)
    job.console.say(describe(difference))


def describe(difference: Difference) -> str:
    """How many images are new, changed, unchanged, gone."""
    text = f"{difference.new:,} new, {difference.changed:,} changed, {difference.unchanged:,} unchanged"
    if difference.still_rejected:
        text += f" ({difference.still_rejected:,} of them rejects)"
    return text + (f", {difference.gone:,} gone from the source" if difference.gone else "")


def _count(job: Job, images: Listing, difference: Difference, chunks: list[Chunk], reports: list[TaskReport]) -> None:
    """Put the counts into the manifest and hold the run to its bar."""
    listed = images.rows
    counts = {
        "listed": listed,
        "embedded": sum(c.embedded for c in chunks),
        "rejected": sum(c.rejected for c in chunks),
        "unchanged": difference.unchanged,
        "new": difference.new,
        "changed": difference.changed,
        "gone": difference.gone,
        "still_rejected": difference.still_rejected,
        "unlabelled": images.unlabelled,
        "reused": sum(c.reused for c in chunks),
        "model_rows": sum(c.model_rows for c in chunks),
        "chunks": len(chunks),
    }
    assert listed == counts["embedded"] + counts["rejected"] + counts["unchanged"], counts
    codes: Counter[str] = Counter()
    seconds = dict.fromkeys(schema.WORKER_SECONDS, 0.0)
    for report in reports:
        codes.update(report.codes)
        for part, value in report.seconds.items():
            seconds[part] += value
    done = counts["embedded"] + counts["rejected"]
    elapsed = job.runlog.manifest["seconds"].get("embed")
    speed = round(done / elapsed, 2) if done and elapsed else None
    job.runlog.update(
        counts=counts,
        rejects_by_code=dict(codes.most_common()),
        worker_seconds={part: round(value, 3) for part, value in seconds.items()},
        decode_core_seconds=round(sum(report.decode_core_seconds for report in reports), 3),
        images_per_second=speed,
    )
    job.summary.append(
        (
            "images",
            f"{listed:,} listed = {counts['embedded']:,} embedded + {counts['rejected']:,} rejected"
            f" + {counts['unchanged']:,} unchanged",
        )
    )
    job.summary.append(("difference", describe(difference)))
    if counts["reused"]:
        job.summary.append(
            ("reused", f"{counts['reused']:,} of these have the content of another, and were not embedded")
        )
    if codes:
        job.summary.append(("rejects", ", ".join(f"{n} {code}" for code, n in codes.most_common())))
    if speed:
        job.summary.append(("speed", f"{speed:.1f} images/s"))
    job.summary.append(("features", job.table().folder("features")))
    rejects = counts["rejected"] + counts["still_rejected"]
    share, limit = rejects / listed, job.config.limits.max_reject_share
    if share > limit:
        job.failed_bars.append(
            f"{rejects:,} of {listed:,} images ({share:.1%}) were rejected, more than limits.max_reject_share"
            f" {limit:.1%}; what was embedded is kept, and the report and the rejects table tell why"
        )
