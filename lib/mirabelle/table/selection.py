"""Which feature files to read, and which of their rows to pass over. [Store, DuckDB; driver only]

Executors read the files themselves. Most files count whole, so what they are told of is the rows that do not.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mirabelle.errors import OutputError
from mirabelle.storage import Store
from mirabelle.storage.database import copy_to, open_database, quoted
from mirabelle.table.chunks import label_columns
from mirabelle.table.current_view import current_view, fetch_listing
from mirabelle.table.features import FeatureTable
from mirabelle.worker.reduce import FilePart


@dataclass(frozen=True)
class FeatureFile:
    """A file of features of which some rows count.

    Attributes:
        name: below the table's folder, so that it stays the same when an output is moved.
        kept: rows that count.
        rows: in it.
        digest: of the paths of the rows that count, in any order.
    """

    name: str
    kept: int
    rows: int
    digest: str


@dataclass(frozen=True)
class Selection:
    """The current view of a table, by file.

    Attributes:
        folder: of the table's features.
        files: those with rows that count, oldest run first.
        stale: Parquet file of this machine's disk, ``_file`` and ``path`` of the other rows of those files, by file;
            empty where there are none.
        labels: further label columns.
    """

    folder: str
    files: tuple[FeatureFile, ...]
    stale: str
    labels: tuple[str, ...]

    def tasks(self, files: Collection[FeatureFile], most: int) -> tuple[tuple[FilePart, ...], ...]:
        """Share files out, about as many rows to each task; few large ones are parted by their row groups.

        Args:
            files: some of ``files``.
            most: tasks to make.
        """
        parts = -(-most // len(files)) if files else 1
        shares: list[list[FilePart]] = [[] for _ in range(most)]
        loads = [0.0] * most
        for file in sorted(files, key=lambda file: -file.rows):
            for part in range(parts):
                least = loads.index(min(loads))
                loads[least] += file.rows / parts
                whole = f"{self.folder}/{file.name}"
                shares[least].append(FilePart(whole, part, parts, has_stale=file.kept < file.rows))
        return tuple(tuple(share) for share in shares if share)


def select_rows(store: Store, table: FeatureTable, listing: str | None, scratch: str) -> Selection:
    """Work out which rows count; arguments as in ``compaction.make_plan``.

    Raises:
        OutputError: nothing is committed, or the listing is gone.
    """
    chunks = table.chunks()
    if not any(chunk.features_files for chunk in chunks):
        raise OutputError(
            f"there are no features of {table.embedding.folder} yet in {table.folder('features')}; run"
            " `mirabelle extract` first"
        )
    listed = fetch_listing(store, listing, scratch) if listing else None
    view = current_view(table, listed, scratch)
    folder, stale = table.folder("features"), os.path.join(scratch, "stale-now.parquet")
    with open_database(scratch) as database:
        every, kept = quoted(view.every), quoted(view.features)
        # Of every file, how many rows it has and which count; a path stands once in a file.
        found = database.execute(
            f"""select _e._file, _kept, _rows, _digest
            from (select _file, count(*) as _rows from {every} group by _file) _e
            join (select _file, count(*) as _kept, bit_xor(md5_number_lower(path)) as _digest
                from {kept} group by _file) _k
            on _e._file = _k._file order by _e._file"""
        ).fetchall()
        partly = [file for file, kept_rows, rows, _ in found if kept_rows < rows]
        if partly:
            copy_to(
                database,
                f"""select _e._file, _e.path from {every} _e semi join {kept} _s on _e._file = _s._file
                anti join {kept} _k on _e._file = _k._file and _e.path = _k.path order by _e._file""",
                stale,
            )
    files = tuple(
        FeatureFile(file.removeprefix(f"{folder}/"), int(kept), int(rows), f"{digest:x}")
        for file, kept, rows, digest in found
    )
    labels = label_columns(chunks)
    return Selection(folder, files, stale if partly else "", labels)


@dataclass(frozen=True)
class Coverage:
    """What saved moments are the moments of.

    Attributes:
        fingerprint: of the embedding.
        fit_split: the split whose rows they are of; None: all.
        files: of which every row that counted then, and is of that split, is in them.
    """

    fingerprint: str
    fit_split: str | None
    files: tuple[FeatureFile, ...]

    def to_json(self) -> str:
        """As text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Coverage:
        """The inverse of ``to_json``."""
        facts: dict[str, Any] = json.loads(text)
        return cls(**{**facts, "files": tuple(FeatureFile(**file) for file in facts["files"])})

    def missing(self, now: Selection, fingerprint: str, fit_split: str | None) -> Sequence[FeatureFile] | None:
        """The files that moments of what counts now lack; None: some of what they have counts no more.

        Rows cannot be taken out of moments again without losing digits.
        """
        known = set(self.files)
        if (self.fingerprint, self.fit_split) != (fingerprint, fit_split) or known - set(now.files):
            return None
        return [file for file in now.files if file not in known]
