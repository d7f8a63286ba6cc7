"""Many small feature files to few large ones, without the rows that count no more. Driver only.

What the new chunk replaced is removed a while after it appears, so that those who listed it before can finish.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict
from typing import Any

from mirabelle import schema
from mirabelle.config import Config
from mirabelle.config.stores import resolved_options, store_of
from mirabelle.console import SECONDS_BETWEEN_LINES, Console
from mirabelle.errors import OutputError
from mirabelle.network.cached import cache_folder
from mirabelle.network.embedding import Embedding
from mirabelle.pipeline.checks import validate
from mirabelle.pipeline.failures import recording_failure
from mirabelle.pipeline.job import Job
from mirabelle.spark.session import open_context
from mirabelle.storage import Store, absolute
from mirabelle.table import compaction
from mirabelle.table.compaction import Compacted, Plan, make_plan
from mirabelle.table.current_view import newest_listing
from mirabelle.table.features import FeatureTable
from mirabelle.table.lease import hold
from mirabelle.table.runlog import RunLog, read_manifests
from mirabelle.worker.compact import MergeReport

# Large enough that listing and opening files is nothing beside reading them, small enough to be a Spark task's share.
TARGET_BYTES = 128 * 2**20
GRACE_SECONDS = 30.0
POLL_SECONDS = 0.25
NOTHING = "nothing to do: no row is stale, and the files are as few as they can be"


def compact(
    config: Config,
    console: Console,
    grace_seconds: float = GRACE_SECONDS,
    embedding: str | None = None,
    break_lease: bool = False,
    target_bytes: int = TARGET_BYTES,
) -> list[tuple[str, str]]:
    """Compact the tables of an output; returns what was done, as (name, text).

    Args:
        config: validated; its ``output``, ``s3`` and ``spark`` count.
        console: a person's view.
        grace_seconds: from the new files' appearance to the removal of those they replace.
        embedding: name of an embedding's folder; None: all of them.
        break_lease: take the output from a run that is believed dead.
        target_bytes: about how large the new files are to be.

    Raises:
        OutputError: there is nothing of that embedding, or another run is at work.
        RunFailed: rows don't add up; the table is as it was.
    """
    validate(config, ())
    output = absolute(config.output)
    store = store_of(config, output)
    # Before the lease, which would make the folder.
    tables = tables_of(store, output, read_manifests(store, output), embedding)
    runlog = RunLog(store, output, "compact", config.masked())
    with (
        tempfile.TemporaryDirectory(prefix="mirabelle-") as scratch,
        hold(store, output, runlog.run_id, "compact", break_lease) as lease,
    ):
        job = Job(config, store, resolved_options(config), "", output, runlog, console, lease, scratch)
        with runlog.time("plan"):
            plans = plan_tables(job, tables, target_bytes)
        if not plans:
            return [("compact", NOTHING)]
        runlog.write()
        with recording_failure(runlog):
            compact_tables(job, plans, grace_seconds)
        runlog.finish("done")
    return job.summary


def dry_run(config: Config, console: Console, embedding: str | None = None, target_bytes: int = TARGET_BYTES) -> None:
    """Say what ``compact`` would do, after the same checks; writes nothing to the output.

    Raises:
        OutputError, RunFailed: as ``compact``.
    """
    validate(config, ())
    output = absolute(config.output)
    store = store_of(config, output)
    manifests = read_manifests(store, output)
    for table in tables_of(store, output, manifests, embedding):
        with tempfile.TemporaryDirectory(prefix="mirabelle-") as scratch:
            listing = newest_listing(manifests, output, table.embedding.fingerprint)
            plan = make_plan(store, table, listing, scratch, target_bytes)
        console.say(_announce(plan) if plan.is_needed else f"{table.embedding.folder}: {NOTHING}")


def tables_of(
    store: Store, output: str, manifests: Sequence[dict[str, Any]], embedding: str | None = None
) -> list[FeatureTable]:
    """The tables that runs tell of, or the one that is named.

    Raises:
        OutputError: there is none.
    """
    made = {m["fingerprint"]: Embedding.from_json(m["embedding"]) for m in manifests if m.get("embedding")}
    wanted = [FeatureTable(store, output, found) for found in made.values() if embedding in (None, found.folder)]
    if wanted:
        return wanted
    names = ", ".join(sorted(found.folder for found in made.values()))
    if names:
        raise OutputError(f"{output} holds no features of {embedding}; name one of {names}")
    raise OutputError(f"{output} holds no features yet; run `mirabelle extract` first")


def plan_tables(job: Job, tables: Sequence[FeatureTable], target_bytes: int) -> list[tuple[Plan, str]]:
    """Complete what killed runs left, and see which tables would be better for a compaction; each with its scratch."""
    manifests = read_manifests(job.store, job.output)
    plans = []
    for table in tables:
        table.clean()
        scratch = os.path.join(job.scratch, table.embedding.folder)
        os.makedirs(scratch)
        listing = newest_listing(manifests, job.output, table.embedding.fingerprint)
        plan = make_plan(job.store, table, listing, scratch, target_bytes)
        if plan.is_needed:
            plans.append((plan, scratch))
    return plans


def compact_tables(job: Job, plans: Sequence[tuple[Plan, str]], grace_seconds: float) -> None:
    """Carry plans out; counts go into the manifest.

    Raises:
        RunFailed: as ``compaction.commit``, or another run took the lease.
    """
    done: list[Compacted] = []
    # Spark itself reads and writes nothing, so it need not reach a bucket.
    wait_seconds = job.config.limits.executor_wait_seconds
    cache, timed = cache_folder(job.config), job.runlog.time
    with open_context(job.config.spark, cache, True, wait_seconds, timed) as job.spark:
        for plan, scratch in plans:
            done.append(_compact_table(job, plan, scratch))
            job.runlog.update(compacted=[asdict(one) for one in done], counts=_counts(done))
            job.runlog.write()
    old = sum(one.files_before for one in done)
    if grace_seconds:
        job.console.say(
            f"the new files are in place; the {old:,} that they replace are removed in {grace_seconds:g} s, so that"
            " those who read them can finish"
        )
        time.sleep(grace_seconds)
    job.lease.check()
    with job.runlog.time("remove"):
        for plan, _ in plans:
            plan.table.clean()


def _compact_table(job: Job, plan: Plan, scratch: str) -> Compacted:
    run, table, view = job.runlog.run_id, plan.table, plan.view
    name, staging = table.embedding.folder, table.staging_folder(run, 0)
    job.console.say(_announce(plan))
    with job.runlog.time("merge"):
        compaction.stage_plans(job.store, plan, staging, scratch)
        reports = _merge(job, plan, staging) if plan.groups else []
    job.lease.check()
    with job.runlog.time("commit"):
        chunk, size_bytes = compaction.commit(job.store, plan, run, reports, scratch)
    result = Compacted(
        embedding=name,
        files_before=plan.files,
        files_after=len(chunk.features_files) + len(chunk.rejects_files),
        bytes_before=plan.size_bytes,
        bytes_after=size_bytes,
        rows_kept=view.kept,
        rows_dropped=view.rows - view.kept,
        rejects_kept=view.rejects_kept,
        rejects_dropped=view.rejects_rows - view.rejects_kept,
    )
    job.summary.append(("compacted", _describe(result)))
    return result


def _merge(job: Job, plan: Plan, staging: str) -> list[MergeReport]:
    """Run the tasks, and say now and then how far they are."""
    from mirabelle.spark.compact import merge_files

    columns = schema.features_schema(compaction.labels_of(plan), plan.table.embedding.to_json())
    context = job.context
    counter = context.accumulator(0)
    said = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(merge_files, context, len(plan.groups), staging, columns, job.s3, counter)
        try:
            while not wait([future], POLL_SECONDS).done:
                if time.monotonic() - said >= SECONDS_BETWEEN_LINES:
                    said = time.monotonic()
                    job.console.say(f"  {counter.value:,} of {plan.view.kept:,} rows")
            return future.result()
        except BaseException:
            # Otherwise leaving the pool would wait for work that nobody wants any more.
            context.cancelAllJobs()
            raise


def _announce(plan: Plan) -> str:
    view = plan.view
    return (
        f"{plan.table.embedding.folder}: of {view.rows:,} rows of features {view.kept:,} count, of"
        f" {view.rejects_rows:,} rejects {view.rejects_kept:,}; files of both now: {plan.files:,}, of features"
        f" afterwards: {len(plan.groups):,}"
    )


def _counts(done: Sequence[Compacted]) -> dict[str, int]:
    names = [name for name in asdict(done[0]) if name != "embedding"]
    return {name: sum(getattr(one, name) for one in done) for name in names}


def _describe(one: Compacted) -> str:
    return (
        f"{one.embedding}: {one.files_before:,} files became {one.files_after:,}, {one.bytes_before / 2**20:,.1f} MiB"
        f" became {one.bytes_after / 2**20:,.1f} MiB; {one.rows_kept:,} rows kept, {one.rows_dropped:,} dropped;"
        f" {one.rejects_kept:,} rejects kept, {one.rejects_dropped:,} dropped"
    )
