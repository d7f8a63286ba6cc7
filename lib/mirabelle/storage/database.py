"""DuckDB on the driver: joins and sorts of listings larger than memory. [a scratch folder; driver only]"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb

MEMORY_LIMIT = "256MB"
# Each wants its share of that; more would gain little on rows so narrow.
THREADS = 2
ROW_GROUP = 100_000


@contextmanager
def open_database(scratch: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty database for the block; what does not fit into its share of memory goes to ``scratch``."""
    import duckdb

    settings: dict[str, Any] = {
        "memory_limit": MEMORY_LIMIT,
        "threads": THREADS,
        "temp_directory": f"{scratch}/duckdb",
        "preserve_insertion_order": "false",
        # Nothing is ever fetched.
        "autoinstall_known_extensions": "false",
        "TimeZone": "UTC",
    }
    connection = duckdb.connect(":memory:", config=settings)
    try:
        yield connection
    finally:
        connection.close()


def quoted(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def column(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def copy_to(connection: duckdb.DuckDBPyConnection, query: str, file: str) -> None:
    """Write a query's rows to a Parquet file of this machine's disk."""
    connection.execute(
        f"copy ({query}) to {quoted(file)} (format parquet, compression zstd, row_group_size {ROW_GROUP})"
    )
