"""Folders of Parquet as Spark, pandas, Hive and Dask leave them: which files count, and what folders tell. [Store]"""

from __future__ import annotations

from urllib.parse import unquote

import pyarrow as pa

from mirabelle.errors import ListingError
from mirabelle.storage import Store

_ENDINGS = (".parquet", ".parq", ".pq")
# What Hive and Spark write where a partition's value is null.
_NULL = "__HIVE_DEFAULT_PARTITION__"


def data_files(store: Store, folder: str) -> list[str] | None:
    """The files of a table that is a folder, sorted; None where there is no such folder.

    Files of no bytes, and all whose name or folder begins with ``_`` or ``.``, are passed over, as Spark does:
    ``_SUCCESS``, ``_temporary``, ``_delta_log``, checksums. Where no name says Parquet, as with Hive, all others count.
    """
    start = len(folder.rstrip("/")) + 1
    try:
        found = list(store.walk(folder))
    except ListingError:
        return None
    if not found:
        return None
    files = sorted(e.path for e in found if e.size_bytes and not any(map(_is_aside, e.path[start:].split("/"))))
    return [path for path in files if path.lower().endswith(_ENDINGS)] or files


def with_partitions(batch: pa.RecordBatch, folder: str, file: str) -> pa.RecordBatch:
    """A file's rows with the columns that its folders tell, ``label=Apple%20Red/``; these win over its own.

    Args:
        batch: of the file's rows.
        folder: of the whole table.
        file: below it.
    """
    for part in file[len(folder.rstrip("/")) + 1 :].split("/")[:-1]:
        name, separator, value = part.partition("=")
        if separator and name:
            name, text = unquote(name), None if value == _NULL else unquote(value)
            column = pa.array([text] * batch.num_rows, pa.string())
            names = batch.schema.names
            batch = (
                batch.set_column(names.index(name), name, column)
                if name in names
                else batch.append_column(name, column)
            )
    return batch


def _is_aside(part: str) -> bool:
    return part.startswith(".") or (part.startswith("_") and "=" not in part)
