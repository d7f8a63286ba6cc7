"""Images to features: list, compare, embed what is new, commit chunk by chunk. Driver only."""

from __future__ import annotations

import math
import os
from collections import Counter, deque
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mirabelle import networks, schema
from mirabelle.config import Config
from mirabelle.console import Console
from mirabelle.features import Chunk, Difference, FeatureTable
from mirabelle.listing import Listing, join_labels, list_images
from mirabelle.pipeline.job import Job
from mirabelle.planning import plan_chunks, plan_tasks
from mirabelle.storage import absolute, join, open_store
from mirabelle.worker import TaskReport, parquet_bytes

if TYPE_CHECKING:
    from mirabelle.networks import Network
    from mirabelle.stages.preflight import Preflight

# While one chunk's last tasks run, the next one's first keep the other cores busy.
CHUNKS_IN_FLIGHT = 2
REFRESH_SECONDS = 0.25
RANDOM_WEIGHTS = "the weights are random, not learnt: these features are good for tests and benchmarks alone"


def list_source(job: Job) -> Listing:
    """The run's listing, labels and all; needs no Spark.

    Raises:
        ListingError: as ``listing`` says.
    """
    with job.runlog.time("list"):
        images = read_listing(job.config)
    labels = [label for label in images.table[schema.LABEL].unique().to_pylist() if label is not None]
    job.console.say(f"{len(images.table):,} images in {job.root}" + (f", {len(labels)} labels" if labels else ""))
    if images.unlabelled:
        job.console.warn(
            f"{images.unlabelled:,} images have no label: neither the path's layout nor the table tells one"
        )
    return images


def read_listing(config: Config) -> Listing:
    """List ``images.root`` and join ``labels.table``."""
    root = absolute(config.images.root)
    wanted = config.images
    # Told apart by where they really are, and named as the walk will name them.
    real = os.path.realpath(root)
    own = [config.output, config.cache, *([config.labels.table] if config.labels.table else [])]
    ours = [join(root, os.path.relpath(os.path.realpath(absolute(path)), real)) for path in own]
    images = list_images(open_store(root), root, wanted.include, wanted.exclude, wanted.layout, ours)
    if config.labels.table:
        labels = config.labels
        images = join_labels(images, absolute(config.labels.table), root, labels.key, labels.label, labels.split)
    return images


def extract(job: Job, images: Listing) -> None:
    """Embed what is new or changed and commit it; counts go into the manifest.

    Raises:
        PreflightError, WeightsError: before any image is read.
        RunFailed: a chunk's counts don't add up.
    """
    from mirabelle.stages.preflight import run_preflight

    with job.runlog.time("preflight"):
        preflight = run_preflight(job.session, job.config)
    for warning in preflight.warnings:
        job.console.warn(warning)
    with job.runlog.time("model"):
        network = networks.prepare(job.config, preflight.precision)
    _record(job, preflight, network)
    table = FeatureTable(job.store, job.output, network.embedding)
    with job.runlog.time("plan"):
        table.clean()
        difference = table.compare(images.table, network.decode)
    job.runlog.update(listing=join(job.output, "runs", f"{job.runlog.run_id}.listing.parquet"))
    listed = images.table.select([schema.PATH, schema.ETAG])
    job.store.write(job.runlog.manifest["listing"], parquet_bytes(listed))
    job.runlog.write()
    _announce(job, network, difference)
    with job.runlog.time("embed"):
        chunks, reports = _embed_all(job, images, difference, table, network, preflight)
    _count(job, images, difference, chunks, reports)


def _embed_all(
    job: Job, images: Listing, difference: Difference, table: FeatureTable, network: Network, preflight: Preflight
) -> tuple[list[Chunk], list[TaskReport]]:
    """Embed the listing's new and changed rows in chunks, two in flight, and commit each as it is done."""
    from mirabelle.stages.embed import embed_chunk, spec_of

    todo = np.sort(np.concatenate([difference.new, difference.changed]))
    if not len(todo):
        return [], []
    context = job.session.sparkContext
    counters = (context.accumulator(0), context.accumulator(0))
    spec = spec_of(network, preflight.threads, job.config.engine.batch_bytes)
    files = context.broadcast(network.files)
    run_id = job.runlog.run_id
    waiting = deque(
        (number, todo[part.start : part.stop])
        for number, part in enumerate(plan_chunks(len(todo), job.config.extract.chunk_images))
    )
    running: dict[Future[list[TaskReport]], tuple[int, npt.NDArray[np.int64]]] = {}
    chunks: list[Chunk] = []
    all_reports: list[TaskReport] = []
    with (
        job.console.track(len(todo), lambda: (counters[0].value, counters[1].value)) as refresh,
        ThreadPoolExecutor(CHUNKS_IN_FLIGHT) as pool,
    ):
        try:
            while waiting or running:
                while waiting and len(running) < CHUNKS_IN_FLIGHT:
                    number, rows = waiting.popleft()
                    part = images.table.take(rows)
                    tasks = plan_tasks(
                        part[schema.SIZE_BYTES].to_numpy(), preflight.slots, job.config.extract.task_images
                    )
                    staging = table.staging_folder(run_id, number)
                    future = pool.submit(embed_chunk, job.session, spec, files, part, tasks, staging, counters)
                    running[future] = (number, rows)
                for future in wait(running, REFRESH_SECONDS, FIRST_COMPLETED).done:
                    number, rows = running.pop(future)
                    reports = future.result()
                    changed = int(np.isin(rows, difference.changed).sum())
                    chunks.append(
                        table.commit(run_id, number, len(rows), changed, images.extra_labels, network.decode, reports)
                    )
                    all_reports += reports
                refresh()
        except BaseException:
            # Otherwise leaving the pool would wait for work that nobody wants any more.
            context.cancelAllJobs()
            raise
    table.clean()
    return chunks, all_reports


def _record(job: Job, preflight: Preflight, network: Network) -> None:
    job.runlog.update(
        images_root=job.root,
        embedding=network.embedding.to_json(),
        fingerprint=network.embedding.fingerprint,
        random_weights=network.embedding.is_random,
        engine=network.engine,
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
    text = f"{len(difference.new):,} new, {len(difference.changed):,} changed, {len(difference.unchanged):,} unchanged"
    if difference.still_rejected:
        text += f" ({difference.still_rejected:,} of them rejects)"
    return text + (f", {difference.gone:,} gone from the source" if difference.gone else "")


def _count(job: Job, images: Listing, difference: Difference, chunks: list[Chunk], reports: list[TaskReport]) -> None:
    """Put the counts into the manifest and hold the run to its bar."""
    listed = len(images.table)
    counts = {
        "listed": listed,
        "embedded": sum(c.embedded for c in chunks),
        "rejected": sum(c.rejected for c in chunks),
        "unchanged": len(difference.unchanged),
        "new": len(difference.new),
        "changed": len(difference.changed),
        "gone": difference.gone,
        "still_rejected": difference.still_rejected,
        "unlabelled": images.unlabelled,
        "model_rows": sum(c.model_rows for c in chunks),
        "chunks": len(chunks),
    }
    assert listed == counts["embedded"] + counts["rejected"] + counts["unchanged"], counts
    codes: Counter[str] = Counter()
    seconds = dict.fromkeys(("fetch", "decode", "embed", "write"), 0.0)
    for report in reports:
        codes.update(report.codes)
        for part, value in report.seconds.items():
            seconds[part] += value
    done = counts["embedded"] + counts["rejected"]
    elapsed = job.runlog.manifest["seconds"]["embed"]
    speed = round(done / elapsed, 2) if done and elapsed else None
    job.runlog.update(
        counts=counts,
        rejects_by_code=dict(codes.most_common()),
        worker_seconds={part: round(value, 3) for part, value in seconds.items()},
        images_per_second=speed,
    )
    job.summary.append(
        (
            "images",
            f"{listed:,} listed = {counts['embedded']:,} embedded + {counts['rejected']:,} rejected"
            f" + {counts['unchanged']:,} unchanged",
        )
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


def dry_run(config: Config, console: Console) -> None:
    """Say what ``extract`` would do here, without Spark and without writing to the output.

    Raises:
        UserError: what ``extract`` would refuse.
    """
    from mirabelle.engines import native_precisions

    images = read_listing(config)
    listed = len(images.table)
    size = int(np.sum(images.table[schema.SIZE_BYTES].to_numpy()))
    console.say(f"{listed:,} images, {size / 2**20:,.1f} MiB, in {absolute(config.images.root)}")
    for column in (schema.SPLIT, schema.LABEL):
        counts = Counter(images.table[column].to_pylist())
        console.say(
            f"{column}: "
            + ", ".join(f"{k if k is not None else 'none'} {n:,}" for k, n in sorted(counts.items(), key=str))
        )
    if config.engine.precision == "auto":
        precision = native_precisions()[-1] if config.engine.name == "openvino" else "float32"
    else:
        precision = config.engine.precision
    if not networks.is_cached(config, precision):
        console.say(
            f"{config.backbone.name} ({config.backbone.weights}) would be built and converted first; all images count"
            " as new"
        )
        chunks = math.ceil(listed / config.extract.chunk_images)
    else:
        network = networks.prepare(config, precision)
        output = absolute(config.output)
        difference = FeatureTable(open_store(output), output, network.embedding).compare(images.table, network.decode)
        console.say(f"{network.embedding.folder}, if the workers' CPUs are like this one: {describe(difference)}")
        chunks = math.ceil((len(difference.new) + len(difference.changed)) / config.extract.chunk_images)
    console.say(f"would commit {chunks} chunk{'s' if chunks != 1 else ''} below {absolute(config.output)}")
