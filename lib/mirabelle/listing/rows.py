"""A listing on its way to a file, and the file. [scratch folder]"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from mirabelle import schema
from mirabelle.errors import ListingError
from mirabelle.storage.database import column, copy_to, open_database, quoted

if TYPE_CHECKING:
    import duckdb


Disagreeing = Literal["refuse", "unknown"]


@dataclass(frozen=True)
class Listing:
    """The images of a run: a Parquet file of ``schema.listing_schema`` on this machine's disk, a row an image.

    Attributes:
        file: the path of it.
        extra_labels: label columns beyond ``label`` and ``split``.
        rows: images.
        size_bytes: of all of them, as far as it is known.
        unlabelled: images that the template or the table said nothing of; 0 where neither was given.
        labels: how many different labels there are.
        repeated: rows that were left out because another had the same path.
        etags_tell_content: whether rows of one etag and size are the same picture.
        unmatched: rows of a table of labels that name no image of these.
        left_out: rows of a manifest that are no images of this run: (reason, how many).
    """

    file: str
    extra_labels: tuple[str, ...]
    rows: int
    size_bytes: int
    unlabelled: int
    labels: int
    repeated: int
    etags_tell_content: bool
    unmatched: int = 0
    left_out: tuple[tuple[str, int], ...] = ()

    @property
    def table(self) -> pa.Table:
        """All of it in memory: for listings known to be small."""
        with pq.ParquetFile(self.file) as file:
            return file.read().cast(schema.listing_schema(self.extra_labels))


def write_listing(
    batches: Iterable[pa.RecordBatch],
    extra: Sequence[str],
    scratch: str,
    *,
    etags_tell_content: bool,
    says_labels: bool,
    is_walk: bool,
    disagreeing: Disagreeing = "refuse",
) -> Listing:
    """Put batches away as a listing: a walk's sorted by path, a manifest's without rows that repeat a path.

    Args:
        batches: of ``schema.listing_schema(extra)``.
        extra: further label columns.
        scratch: folder for the file.
        etags_tell_content: as in ``Listing``.
        says_labels: whether anything was to tell labels.
        is_walk: whether the rows are in no order, and none comes twice.
        disagreeing: rows of one path with different labels are refused, or what they disagree in is not known.
    """
    raw = new_file(scratch)
    with pq.ParquetWriter(raw, schema.listing_schema(extra), compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
    return finish_listing(
        f"select * from {quoted(raw)}",
        extra,
        scratch,
        etags_tell_content=etags_tell_content,
        says_labels=says_labels,
        is_walk=is_walk,
        disagreeing=disagreeing,
        leftovers=(raw,),
    )


def finish_listing(
    query: str,
    extra: Sequence[str],
    scratch: str,
    *,
    etags_tell_content: bool,
    says_labels: bool,
    is_walk: bool = True,
    disagreeing: Disagreeing = "refuse",
    leftovers: Sequence[str] = (),
) -> Listing:
    """A listing out of a query for its rows; ``leftovers`` are removed after it.

    Raises:
        ListingError: rows of one path have different labels.
    """
    file = new_file(scratch)
    repeated = 0
    with open_database(scratch) as database:
        if is_walk:
            copy_to(database, f"{query} order by path", file)
        else:
            rows, paths = database.execute(f"select count(*), count(distinct path) from ({query})").fetchall()[0]
            repeated = rows - paths
            if repeated and disagreeing == "refuse":
                _check_conflicts(database, query, extra)
                query += _newest(extra)
            elif repeated:
                query = _agreed(query, extra)
            copy_to(database, query, file)
        found = database.execute(
            "select count(*), coalesce(sum(size_bytes), 0), count(*) filter (where label is null),"
            f" count(distinct label) from {quoted(file)}"
        ).fetchall()[0]
    for leftover in leftovers:
        os.unlink(leftover)
    return Listing(
        file,
        tuple(extra),
        int(found[0]),
        int(found[1]),
        int(found[2]) if says_labels else 0,
        int(found[3]),
        repeated,
        etags_tell_content,
    )


def _check_conflicts(database: duckdb.DuckDBPyConnection, query: str, extra: Sequence[str]) -> None:
    """Refuse rows of one path that tell different labels; a row that tells none contradicts no other."""
    for name in (schema.LABEL, schema.SPLIT, *extra):
        value = column(name)
        found = database.execute(
            f"select path, min({value}), max({value}) from ({query}) group by path"
            f" having min({value}) <> max({value}) order by path limit 1"
        ).fetchone()
        if found:
            path, one, other = found
            raise ListingError(
                f"the manifest names {path} more than once, with the {name} {one!r} and {other!r}; keep one row an"
                " image"
            )


def _newest(extra: Sequence[str]) -> str:
    """SQL that keeps one row of each path, the same one however the rows are put in order."""
    others = [schema.ETAG, schema.SIZE_BYTES, schema.LABEL, schema.SPLIT, *extra]
    order = ", ".join(f"{column(name)} desc nulls last" for name in (schema.MODIFIED, *others))
    return f" qualify row_number() over (partition by path order by {order}) = 1"


def _agreed(query: str, extra: Sequence[str]) -> str:
    """SQL that keeps one row of each path: of each column what its rows agree in, and nothing where they do not."""
    labels = (schema.LABEL, schema.SPLIT, *extra)
    told = [f"case when min({v}) = max({v}) then min({v}) end as {v}" for v in map(column, labels)]
    facts = [f"min({name}) as {name}" for name in (schema.SIZE_BYTES, schema.MODIFIED, schema.ETAG)]
    return f"select path, {', '.join([*facts, *told])} from ({query}) group by path"


def new_file(scratch: str) -> str:
    """A name for a Parquet file that is not there yet."""
    return os.path.join(scratch, f"{uuid.uuid4().hex}.parquet")


class PathLabels:
    """What a template reads out of paths, as columns.

    Args:
        template: from ``compile_layout``, or None.
        layout: its text, for the message.
    """

    def __init__(self, template: re.Pattern[str] | None, layout: str | None) -> None:
        self._template, self._layout = template, layout
        self.fields = [field for field in template.groupindex if field != "name"] if template else []
        self.extra = [field for field in self.fields if field not in (schema.LABEL, schema.SPLIT)]
        self._fitting = 0
        self._first: str | None = None

    def read(self, below: Sequence[str]) -> dict[str, list[str | None]]:
        """A column of text for each field, from paths below the root."""
        if not self._template or not below:
            return {}
        matches = [self._template.fullmatch(path) for path in below]
        self._fitting += len(matches) - matches.count(None)
        self._first = self._first or below[0]
        return {field: [text_of(m[field]) if m else None for m in matches] for field in self.fields}

    def check(self, where: str) -> None:
        """Raise ``ListingError`` if the template fitted none of many paths."""
        if self._template and not self._fitting and self._first is not None:
            raise ListingError(
                f"images.layout {self._layout!r} fits none of the paths in {where}; the first is {self._first!r}"
            )


def text_of(path: str) -> str:
    """A path fit for a column of text; one that is not UTF-8 has its odd bytes spelt out, and ends as a reject."""
    return path if path.isascii() else path.encode("utf-8", "backslashreplace").decode()
