"""What a run has to do: the listing beside what the table has. [scratch folder; driver only]

The joins are DuckDB's, so that neither side need fit into memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from mirabelle import schema
from mirabelle.decode import DecodeOptions
from mirabelle.errors import RejectCode, Stage
from mirabelle.listing import Listing
from mirabelle.storage.database import column, copy_to, open_database, quoted
from mirabelle.table.chunks import reject_policy
from mirabelle.table.features import FeatureTable

STATUS = "_status"
# Twins of one picture in a row, at most: they go to one task.
MOST_TWINS = 4096
READ_ROWS = 20_000


@dataclass(frozen=True)
class Difference:
    """What a run has to do.

    Attributes:
        new: images never embedded with this embedding.
        changed: embedded, and another content or label since.
        unchanged: done, embedded or rejected.
        still_rejected: how many of the unchanged are rejects.
        gone: paths that the table has and the listing has not.
        todo: Parquet file on this machine's disk of the new and the changed: the listing's columns, ``STATUS``, and
            ``schema.REUSE_COLUMNS``. Pictures of the same content stand together.
        extra_labels: further label columns in it.
    """

    new: int
    changed: int
    unchanged: int
    still_rejected: int
    gone: int
    todo: str
    extra_labels: tuple[str, ...]

    @property
    def to_do(self) -> int:
        """Rows in ``todo``."""
        return self.new + self.changed

    def take(self) -> Work:
        """The rows of ``todo``, to be taken from the front."""
        return Work(self)


class Work:
    """The rows a run has to do, read from the file as they are wanted."""

    def __init__(self, difference: Difference) -> None:
        self._columns = [*schema.listing_schema(difference.extra_labels).names, STATUS, *schema.REUSE_COLUMNS]
        self._listing = schema.listing_schema(difference.extra_labels)
        self._batches = self._read(difference.todo)
        self._waiting: list[pa.Table] = []

    def next(self, rows: int) -> pa.Table | None:
        """The next rows, a few more than asked for where twins would be parted; None at the end."""
        have = sum(map(len, self._waiting))
        while have < rows + MOST_TWINS and (batch := next(self._batches, None)) is not None:
            self._waiting.append(batch)
            have += len(batch)
        if not have:
            return None
        table = pa.concat_tables(self._waiting)
        end = min(rows, have)
        twins = table[schema.TWIN].slice(end, MOST_TWINS).to_pylist()
        end += next((i for i, twin in enumerate(twins) if not twin), len(twins))
        self._waiting = [table.slice(end)] if end < have else []
        # A copy of the few, so that the many are not kept alive by it.
        return table.slice(0, end).combine_chunks()

    def _read(self, file: str) -> Iterator[pa.Table]:
        for batch in pq.ParquetFile(file).iter_batches(READ_ROWS):
            table = pa.Table.from_batches([batch]).select(self._columns)
            for i, wanted in enumerate(self._listing):
                table = table.set_column(i, wanted, table.column(i).cast(wanted.type))
            yield table


def compare(
    table: FeatureTable, listing: Listing, limits: DecodeOptions, scratch: str, full: bool = False
) -> Difference:
    """What of ``listing`` is new, changed or done, by path, etag, size and labels.

    A reject counts as done while the file is the same and the decoder's limits are; what could not be fetched or run,
    or what the workers had no decoder for, is always tried again. A picture of a content that the table has features
    of, under whatever path, takes those.

    Args:
        table: one embedding's.
        listing: of the run.
        limits: the decoder's options.
        scratch: folder for files.
        full: take all images for new or changed, and none of the table's features.
    """
    names = {name: os.path.join(scratch, f"{name}.parquet") for name in ("done", "rejected", "todo")}
    columns = schema.listing_schema(listing.extra_labels).names
    table.write_rows("features", columns, names["done"])
    rejects = [schema.PATH, schema.STAGE, schema.CODE, schema.SIZE_BYTES, schema.ETAG]
    table.write_rows("rejects", rejects, names["rejected"], reject_policy(limits))
    newest = "qualify row_number() over (partition by path order by run desc) = 1"
    same = "_l.etag = _d.etag and _l.size_bytes is not distinct from _d.size_bytes"
    labels = " and ".join(
        f"_l.{column(name)} is not distinct from _d.{column(name)}" for name in columns if name not in _FACTS
    )
    # A manifest may tell etags of files on a disk, which are made of time and size.
    is_content = "(_l.etag not like '~%' and _l.path like 's3://%')" if listing.etags_tell_content else "false"
    with open_database(scratch) as database:
        database.execute(f"create view _l as select * from {quoted(listing.file)}")
        database.execute(f"create view _d as select * from {quoted(names['done'])} {newest}")
        decoding = f"where stage = {quoted(str(Stage.DECODE))} and code != {quoted(str(RejectCode.NO_DECODER))}"
        database.execute(
            f"create view _r as select * from (select * from {quoted(names['rejected'])} {newest}) {decoding}"
        )
        content = (
            "select etag, size_bytes, min_by(_file, path) as _file, min(path) as path from _d group by etag, size_bytes"
        )
        database.execute(f"create view _c as {content}")
        status = f"""case
            when _d.path is null and (_r.path is null or {full}) then 'new'
            when {full} then 'changed'
            when _d.path is not null and {same} and {labels} then 'unchanged'
            when _r.path is not null then 'rejected'
            else 'changed' end"""
        carried = f"_d.path is not null and {same} and not {full}"
        elsewhere = f"_c.etag = _l.etag and _c.size_bytes = _l.size_bytes and {is_content} and not {full}"
        database.execute(
            f"""create view _w as select _l.*, {status} as {STATUS},
            case when {carried} then _d._file else _c._file end as {schema.CARRY_FILE},
            case when {carried} then _d.path else _c.path end as {schema.CARRY_PATH},
            case when {is_content} then _l.etag || '-' || coalesce(_l.size_bytes, -1) else _l.path end as _content
            from _l left join _d on _l.path = _d.path
            left join _r on _l.path = _r.path and _l.etag = _r.etag
                and _l.size_bytes is not distinct from _r.size_bytes
            left join _c on {elsewhere}"""
        )
        copy_to(
            database,
            f"""select * exclude (_content, _place, _leader),
            _place % {MOST_TWINS} != 0 as {schema.TWIN} from (
                select *, row_number() over (partition by _content order by path) - 1 as _place,
                min(path) over (partition by _content) as _leader
                from _w where {STATUS} in ('new', 'changed')
            ) order by _leader, _place""",
            names["todo"],
        )
        counted = dict(database.execute(f"select {STATUS}, count(*) from _w group by 1").fetchall())
        gone = database.execute("select count(*) from _d anti join _l on _d.path = _l.path").fetchall()[0][0]
    rejected = counted.get("rejected", 0)
    return Difference(
        counted.get("new", 0),
        counted.get("changed", 0),
        counted.get("unchanged", 0) + rejected,
        rejected,
        int(gone),
        names["todo"],
        listing.extra_labels,
    )


_FACTS = (schema.PATH, schema.SIZE_BYTES, schema.MODIFIED, schema.ETAG)
