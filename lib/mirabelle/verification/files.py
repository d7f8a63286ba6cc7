"""A table's markers beside its files, and the files' footers beside both. [Store; driver only]"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mirabelle import schema
from mirabelle.errors import MirabelleError
from mirabelle.network.embedding import Embedding
from mirabelle.storage import Store, join
from mirabelle.table.chunks import MARKER, Chunk
from mirabelle.table.features import FILES_AT_ONCE, KINDS, FeatureTable
from mirabelle.verification.notes import Notes, examples

# Each holds a row group of values.
DEEP_FILES_AT_ONCE = 4
# What reading a damaged or vanished file raises.
UNREADABLE = (MirabelleError, pa.ArrowException, OSError, ValueError, KeyError)


@dataclass(frozen=True)
class FileFacts:
    """What a file's footer, or its values, tell: rows, None where it cannot be read; and what is wrong with it."""

    rows: int | None
    problems: tuple[str, ...] = ()


def check_files(store: Store, table: FeatureTable, notes: Notes, *, is_busy: bool, deep: bool) -> list[Chunk] | None:
    """Check one embedding's files.

    Args:
        store: where they are.
        table: the embedding's.
        notes: is added to.
        is_busy: a run is at work, and files without a marker may be its own.
        deep: read every value of the features.

    Returns:
        the chunks that count, if all of their files can be read; None: rows need not be looked at.
    """
    try:
        markers = table.markers()
    except MirabelleError as error:
        notes.find(str(error))
        return None
    replaced = {one for chunk in markers for one in chunk.replaces}
    live = [chunk for chunk in markers if (chunk.run, chunk.number) not in replaced]
    notes.counts["chunks"] += len(live)
    there = {kind: _paths(store, table.folder(kind)) for kind in KINDS}
    _check_places(table, markers, there["features"], notes)
    if len(live) < len(markers) and not is_busy:
        notes.find(
            f"{table.embedding.folder}: chunks that a compaction replaced are still there"
            f" ({len(markers) - len(live):,}); the next extract or compact removes them"
        )
    if not is_busy:
        _check_unnamed(table, markers, there, notes)
    sound = [_check_chunk(store, table, chunk, kind, there[kind], notes, deep) for chunk in live for kind in KINDS]
    return live if all(sound) else None


def _paths(store: Store, folder: str) -> set[str]:
    return {entry.path for entry in store.walk(folder)} if store.exists(folder) else set()


def _check_places(table: FeatureTable, markers: Sequence[Chunk], there: set[str], notes: Notes) -> None:
    """Each marker tells its own run and number."""
    places = {join(table.chunk_folder("features", chunk.run, chunk.number), MARKER) for chunk in markers}
    strange = sorted({path for path in there if path.endswith(f"/{MARKER}")} - places)
    if strange:
        notes.find(f"markers that tell of another chunk than the one they lie in: {examples(strange)}")


def _check_unnamed(table: FeatureTable, markers: Sequence[Chunk], there: dict[str, set[str]], notes: Notes) -> None:
    for kind in KINDS:
        named = {path for chunk in markers for path in table.files(kind, chunk)}
        unnamed = sorted(path for path in there[kind] - named if not path.endswith(f"/{MARKER}"))
        if unnamed:
            notes.find(
                f"files of {kind} that no marker names ({len(unnamed):,}): {examples(unnamed)}; plain readers see rows"
                " that do not count, and the next extract or compact removes them"
            )


def _check_chunk(
    store: Store, table: FeatureTable, chunk: Chunk, kind: str, there: set[str], notes: Notes, deep: bool
) -> bool:
    """A chunk's files of one kind; whether their rows can be read."""
    paths = table.files(kind, chunk)
    where = table.chunk_folder(kind, chunk.run, chunk.number)
    missing = [path for path in paths if path not in there]
    if missing:
        notes.find(
            f"files that a marker names are missing ({len(missing):,}): {examples(missing)}; restore them, or remove"
            f" {table.chunk_folder('features', chunk.run, chunk.number)} and run `mirabelle extract`, which embeds its"
            " images again"
        )
    facts = [facts for _, facts in _read_all(store, table.embedding, kind, sorted(set(paths) - set(missing)), deep)]
    for one in facts:
        for problem in one.problems:
            notes.find(problem)
    notes.counts[f"files of {kind}"] += len(facts)
    readable = not missing and all(one.rows is not None for one in facts)
    if readable:
        rows, told = sum(one.rows or 0 for one in facts), chunk.embedded if kind == "features" else chunk.rejected
        notes.counts[f"rows of {kind}"] += rows
        if rows != told:
            notes.find(f"{where}: the marker tells of {told:,} rows of {kind}, and its files have {rows:,}")
    return readable


def _read_all(
    store: Store, embedding: Embedding, kind: str, paths: Sequence[str], deep: bool
) -> Iterator[tuple[str, FileFacts]]:
    with ThreadPoolExecutor(DEEP_FILES_AT_ONCE if deep else FILES_AT_ONCE) as pool:
        yield from zip(paths, pool.map(lambda path: _facts(store, path, kind, embedding, deep), paths), strict=True)


def _facts(store: Store, path: str, kind: str, embedding: Embedding, deep: bool) -> FileFacts:
    try:
        with store.open(path) as source:
            parquet = pq.ParquetFile(source)
            problems = [*_lineage_problems(parquet, embedding)]
            if kind == "features" and not (wrong := _width_problems(parquet, embedding.width)):
                problems += _value_problems(parquet, embedding.width) if deep else []
            elif kind == "features":
                problems += wrong
            elif deep:
                parquet.read()
            return FileFacts(parquet.metadata.num_rows, tuple(f"{path} {problem}" for problem in problems))
    except UNREADABLE as error:
        return FileFacts(None, (f"{path} cannot be read: {' '.join(str(error).split())[:200]}",))


def _lineage_problems(parquet: pq.ParquetFile, embedding: Embedding) -> list[str]:
    text = (parquet.metadata.metadata or {}).get(schema.EMBEDDING_METADATA_KEY.encode())
    told = json.loads(text).get("fingerprint") if text else None
    if told == embedding.fingerprint:
        return []
    said = f"says {str(told)[:8]}" if told else "says nothing"
    return [f"{said} of its embedding's fingerprint, and lies among {embedding.folder}"]


def _width_problems(parquet: pq.ParquetFile, width: int) -> list[str]:
    """By the footer alone: the type, and how many values there are in all."""
    columns = parquet.schema_arrow
    kind = columns.field(schema.FEATURES).type if schema.FEATURES in columns.names else None
    if kind is None or not pa.types.is_list(kind) or kind.value_type != pa.float32():
        return [f"has features that are no lists of float32 but {kind}"]
    footer = parquet.metadata
    (leaf,) = (i for i in range(footer.num_columns) if footer.schema.column(i).path.startswith(f"{schema.FEATURES}."))
    values = sum(footer.row_group(group).column(leaf).num_values for group in range(footer.num_row_groups))
    if values != footer.num_rows * width:
        return [f"has {values:,} values of features in {footer.num_rows:,} rows, and not {width:,} a row"]
    return []


def _value_problems(parquet: pq.ParquetFile, width: int) -> list[str]:
    """By the values themselves."""
    odd = not_finite = 0
    for group in range(parquet.num_row_groups):
        lists = parquet.read_row_group(group)[schema.FEATURES]
        odd += len(lists) - (pc.sum(pc.equal(pc.list_value_length(lists), width)).as_py() or 0)
        for part in lists.chunks:
            values = part.flatten().to_numpy(zero_copy_only=False)
            bad = len(values) - np.count_nonzero(np.isfinite(values))
            not_finite += int(bad)
    problems = [f"has rows of features that are not {width:,} wide ({odd:,})"] if odd else []
    return problems + ([f"has values of features that are not finite ({not_finite:,})"] if not_finite else [])
