"""What a compaction has to do to a table, and the commit of what it made. [Store, a scratch folder; driver only]

One new chunk takes the place of all others of an embedding, at the one moment its marker is staged: until it is
published readers see the old chunks, from then on the new one alone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from mirabelle import schema
from mirabelle.errors import OutputError, RunFailed
from mirabelle.storage import Store
from mirabelle.storage.database import column, copy_to, open_database, quoted
from mirabelle.table.chunks import Chunk, label_columns
from mirabelle.table.current_view import POLICY, CurrentView, current_view, fetch_listing, listing_run
from mirabelle.table.features import KINDS, FeatureTable
from mirabelle.worker.compact import MergeReport, plan_file
from mirabelle.worker.embed import parquet_bytes

REJECTS_A_FILE = 200_000


@dataclass(frozen=True)
class Group:
    """Old files whose rows go into one new file: all from ``first`` to ``last`` that have any, and how many rows."""

    first: str
    last: str
    rows: int


@dataclass(frozen=True)
class Plan:
    """What is to be done to one embedding's table.

    Attributes:
        table: the table.
        view: its rows that count.
        chunks: it has now.
        groups: one for each new file of features.
        files: there are now, of both kinds.
        size_bytes: of them.
    """

    table: FeatureTable
    view: CurrentView
    chunks: tuple[Chunk, ...]
    groups: tuple[Group, ...]
    files: int
    size_bytes: int

    @property
    def is_needed(self) -> bool:
        """Whether anything would be better for it; what a compaction made, and nothing was added to, is left alone."""
        if len(self.chunks) != 1 or self.view.stale:
            return bool(self.chunks)
        fewest = len(self.groups) + -(-self.view.rejects_kept // REJECTS_A_FILE)
        return not self.chunks[0].replaces and self.files > fewest


@dataclass(frozen=True)
class Compacted:
    """What was done to one embedding's table, as its run's manifest tells."""

    embedding: str
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int
    rows_kept: int
    rows_dropped: int
    rejects_kept: int
    rejects_dropped: int


def make_plan(store: Store, table: FeatureTable, listing: str | None, scratch: str, target_bytes: int) -> Plan:
    """See what a table holds and what is to become of it.

    Args:
        store: where it is.
        table: one embedding's, with nothing left of killed runs.
        listing: the newest that it was brought up to; None: no run told one.
        scratch: an empty folder.
        target_bytes: about how large the new files are to be.

    Raises:
        OutputError: the listing is gone, or one that was newer is.
        RunFailed: a run wrote a path twice.
    """
    chunks = table.chunks()
    _check_listing(chunks, listing)
    listed = fetch_listing(store, listing, scratch) if listing else None
    view = current_view(table, listed, scratch)
    if view.repeated:
        raise RunFailed(
            f"{table.embedding.folder}: some rows repeat a path that the same run wrote before ({view.repeated:,}), so"
            " it is not clear which count; nothing is compacted. `mirabelle verify` names them, and `mirabelle extract"
            " --full` makes newer ones"
        )
    sizes: dict[str, int] = {}
    for kind in KINDS:
        named = {path for chunk in chunks for path in table.files(kind, chunk)}
        if named:
            sizes |= {e.path: e.size_bytes for e in store.walk(table.folder(kind)) if e.path in named}
    groups = _group(view, sizes, scratch, target_bytes)
    return Plan(table, view, tuple(chunks), groups, len(sizes), sum(sizes.values()))


def _check_listing(chunks: Sequence[Chunk], listing: str | None) -> None:
    """By an older listing than the rows', new images would be taken for gone."""
    embedded = [chunk.run for chunk in chunks if not chunk.replaces]
    if listing is not None and embedded and listing_run(listing) < max(embedded):
        raise OutputError(
            f"run {max(embedded)} embedded images, and the newest listing that is there is older: {listing}; run"
            " `mirabelle extract` again, so that it is known which images there are"
        )


def _group(view: CurrentView, sizes: dict[str, int], scratch: str, target_bytes: int) -> tuple[Group, ...]:
    """Old files in order, cut where what is kept of them would be more than ``target_bytes``."""
    query = f"""select _file, _kept, _rows from
        (select _file, count(*) as _kept from {quoted(view.features)} group by 1)
        join (select _file, count(*) as _rows from {quoted(view.every)} group by 1) using (_file) order by _file"""
    with open_database(scratch) as database:
        found: list[tuple[str, int, int]] = database.execute(query).fetchall()
    groups: list[Group] = []
    filled = 0.0
    for file, kept, rows in found:
        share = sizes[file] * kept / rows
        if groups and filled + share <= target_bytes:
            groups[-1] = Group(groups[-1].first, file, groups[-1].rows + kept)
            filled += share
        else:
            groups.append(Group(file, file, kept))
            filled = share
    return tuple(groups)


def stage_plans(store: Store, plan: Plan, staging: str, scratch: str) -> None:
    """Put each task's rows to keep where the task will look for them."""
    local = os.path.join(scratch, "task.parquet")
    with open_database(scratch) as database:
        for task, group in enumerate(plan.groups):
            # By file in the whole, so that only this part of it is read.
            between = f"between {quoted(group.first)} and {quoted(group.last)}"
            query = f"select _file, path from {quoted(plan.view.features)} where _file {between}"
            copy_to(database, query, local)
            store.upload(local, plan_file(staging, task))


def commit(store: Store, plan: Plan, run: str, reports: Sequence[MergeReport], scratch: str) -> tuple[Chunk, int]:
    """Stage the rejects and commit the chunk that replaces all others; returns it and the bytes of its files.

    Raises:
        RunFailed: the tasks did not write what was planned; nothing is made visible.
    """
    table, view = plan.table, plan.view
    staging = table.staging_folder(run, 0)
    for group, report in zip(plan.groups, reports, strict=True):
        if group.rows != report.rows:
            raise RunFailed(
                f"{table.embedding.folder}: {group.rows:,} rows of {group.first} to {group.last} were to be kept, and"
                f" {report.rows:,} were written; nothing is compacted. `mirabelle verify` may tell what is wrong"
            )
    rejects, limits, rejects_bytes = _stage_rejects(store, plan, staging, scratch)
    # Of tasks that lost, some may still read theirs, in vain.
    store.remove(f"{staging}/plan")
    chunk = Chunk(
        run=run,
        number=0,
        embedded=view.kept,
        rejected=view.rejects_kept,
        reused=view.kept + view.rejects_kept,
        model_rows=0,
        changed=0,
        labels=labels_of(plan),
        embedding=table.embedding.folder,
        fingerprint=table.embedding.fingerprint,
        limits=plan.chunks[-1].limits,
        features_files=tuple(report.file for report in reports),
        rejects_files=tuple(rejects),
        # Those that an earlier compaction replaced, too, so that none ever counts again.
        replaces=tuple((old.run, old.number) for old in table.markers()),
        rejects_limits=tuple(limits),
    )
    table.commit_staged(chunk)
    return chunk, sum(report.size_bytes for report in reports) + rejects_bytes


def labels_of(plan: Plan) -> tuple[str, ...]:
    """Further label columns of the new files: all that any old file has."""
    return label_columns(plan.chunks)


def _stage_rejects(
    store: Store, plan: Plan, staging: str, scratch: str
) -> tuple[list[str], list[dict[str, object]], int]:
    """Write the rejects that count, each file of one policy; returns their names, policies, and bytes in all."""
    target = schema.rejects_schema(plan.table.embedding.to_json())
    columns = ", ".join(map(column, target.names))
    local = os.path.join(scratch, "rejects-of-one.parquet")
    names: list[str] = []
    limits: list[dict[str, object]] = []
    written = rows = 0
    with open_database(scratch) as database:
        for i, policy in enumerate(plan.view.policies):
            query = f"select {columns} from {quoted(plan.view.rejects)} where {POLICY} = {i} order by {schema.PATH}"
            copy_to(database, query, local)
            for part, batch in enumerate(pq.ParquetFile(local).iter_batches(REJECTS_A_FILE)):
                content = parquet_bytes(_as(target, batch))
                names.append(f"part-{i:03d}-{part:05d}.parquet")
                limits.append(policy)
                store.write(f"{staging}/rejects/{names[-1]}", content)
                written, rows = written + len(content), rows + len(batch)
    if rows != plan.view.rejects_kept:
        raise RunFailed(f"{plan.view.rejects_kept:,} rejects were to be kept, and {rows:,} were written")
    return names, limits, written


def _as(target: pa.Schema, batch: pa.RecordBatch) -> pa.Table:
    return pa.Table.from_arrays([batch[f.name].cast(f.type) for f in target], schema=target)
