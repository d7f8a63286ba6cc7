"""Runs' manifests beside their chunks and listings; what killed runs left. [Store; driver only]"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow.parquet as pq

from mirabelle.storage import Store, join
from mirabelle.table.chunks import STAGING, Chunk
from mirabelle.table.current_view import listing_of
from mirabelle.table.lease import FILE, Holder
from mirabelle.verification.files import UNREADABLE
from mirabelle.verification.notes import Notes, examples

Manifest = dict[str, Any]


def has_finished(manifest: Manifest) -> bool:
    """Whether a run embedded all that it listed; a bar it failed counts for nothing here."""
    # What explores or teaches lists, too.
    return "embedded" in manifest.get("counts", {})


def check_runs(store: Store, output: str, manifests: Sequence[Manifest], notes: Notes) -> None:
    """Check manifests, and the listings they are of."""
    told = {manifest["run_id"] for manifest in manifests}
    for entry in store.walk(join(output, "runs")):
        run = entry.path.rpartition("/")[2].removesuffix(".json")
        if entry.path.endswith(".json") and run not in told:
            notes.find(f"{entry.path} is no run's manifest")
    notes.counts["runs"] += len(manifests)
    for manifest in filter(has_finished, manifests):
        notes.counts["runs that extracted to their end"] += 1
        run, counts = manifest["run_id"], manifest["counts"]
        parts = [counts.get(name, 0) for name in ("embedded", "rejected", "unchanged")]
        if counts["listed"] != sum(parts):
            notes.find(
                f"run {run}: listed {counts['listed']:,} is not embedded {parts[0]:,} + rejected {parts[1]:,} +"
                f" unchanged {parts[2]:,}"
            )
        _check_listing(store, listing_of(output, run), counts["listed"], notes)


def _check_listing(store: Store, listing: str, listed: int, notes: Notes) -> None:
    if not store.exists(listing):
        notes.find(f"{listing} is missing, so the current view cannot be told from it")
        return
    try:
        with store.open(listing) as source:
            # All of it: the footer of a file that was damaged in its middle is whole.
            rows = sum(len(batch) for batch in pq.ParquetFile(source).iter_batches(use_threads=False))
    except UNREADABLE as error:
        notes.find(f"{listing} cannot be read: {' '.join(str(error).split())[:200]}")
        return
    if rows != listed:
        notes.find(f"{listing} has {rows:,} rows, and its run's manifest tells of {listed:,}")


def check_sums(manifests: Sequence[Manifest], chunks: Mapping[str, Sequence[Chunk]], notes: Notes) -> None:
    """Check what runs say that they did beside the chunks that are there.

    Args:
        manifests: of all runs.
        chunks: those that count, by their embedding's folder, of tables whose markers can be read.
        notes: is added to.
    """
    told = {manifest["run_id"] for manifest in manifests}
    for folder, found in chunks.items():
        unknown = sorted({chunk.run for chunk in found} - told)
        if unknown:
            notes.find(f"{folder} has chunks of runs that no manifest tells of: {examples(unknown)}")
        # What these made is in a compaction's chunk now. Clocks differ, so its own run need not be the newest.
        compacted = max(
            (run for chunk in found for run in (*dict(chunk.replaces), chunk.run) if chunk.replaces), default=""
        )
        for manifest in manifests:
            expected = _told(manifest, folder) if manifest["run_id"] >= compacted else {}
            for name, count in expected.items():
                own = sum(getattr(chunk, name) for chunk in found if chunk.run == manifest["run_id"])
                if own != count:
                    notes.find(
                        f"{folder}: run {manifest['run_id']} tells of {count:,} {name.replace('_', ' ')}, and its"
                        f" chunks that count of {own:,}"
                    )


def _told(manifest: Manifest, folder: str) -> dict[str, int]:
    """What a run says of its chunks of an embedding; nothing if it was killed, though its chunks may count."""
    for one in manifest.get("compacted", ()):
        if one["embedding"] == folder:
            return {"embedded": one["rows_kept"], "rejected": one["rejects_kept"], "model_rows": 0}
    fingerprint = manifest.get("fingerprint") or ""
    if not has_finished(manifest) or not folder.endswith(f"-{fingerprint[:8]}"):
        return {}
    names = ("embedded", "rejected", "model_rows")
    return {name: manifest["counts"][name] for name in names if name in manifest["counts"]}


def check_leftovers(store: Store, output: str, holder: Holder | None, notes: Notes) -> None:
    """Check what killed runs left; what a run that is at work has there is its own."""
    if holder and holder.is_alive:
        return
    if holder:
        notes.find(f"{join(output, FILE)} is of a run that died: {holder.words}; the next run takes it over")
    staging = join(output, STAGING)
    files = sorted(entry.path for entry in store.walk(staging)) if store.exists(staging) else []
    if files:
        notes.find(
            f"killed runs left files in {staging} ({len(files):,}): {examples(files)}; the next extract or compact"
            " commits what is whole and removes the rest"
        )
