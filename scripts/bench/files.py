"""How feature files are best compressed: size, and seconds to write and to read, of real features.

In memory and in core-seconds, so that neither a disk nor a neighbour is measured. A file's cost is the sum of writing,
sending and reading it, sent at the speed of one stream of a bucket; what Mirabelle writes is among the ways compared.
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mirabelle.worker.embed import parquet_bytes

# One stream from a bucket to a worker in the same region.
STREAM_BYTES_PER_SECOND = 80_000_000
LEVELS: dict[str, tuple[int | None, ...]] = {
    "none": (None,),
    "snappy": (None,),
    "lz4": (None,),
    "zstd": (1, 3, 6, 9),
}
OURS = "as Mirabelle writes"
# Spark's vectorised reader, its default, refuses such files (4.1.2 and 3.5.9 tried): they are told of, and not judged.
SPLIT = ", bytes split"


@dataclass(frozen=True)
class FileFigures:
    """One way of writing: medians over the rounds."""

    way: str
    size_bytes: int
    write_seconds: float
    read_seconds: float

    @property
    def cost_seconds(self) -> float:
        """To write, send and read."""
        return self.write_seconds + self.size_bytes / STREAM_BYTES_PER_SECOND + self.read_seconds


def read_rows(folder: Path, most: int) -> pa.Table:
    """Rows of a feature table, as one table."""
    files = sorted(folder.rglob("*.parquet"))
    return pa.concat_tables([pq.ParquetFile(file).read() for file in files]).slice(0, most).combine_chunks()


def ways() -> dict[str, Callable[[pa.Table], bytes]]:
    """Each way to write a table, by its name; ours first."""
    found: dict[str, Callable[[pa.Table], bytes]] = {OURS: parquet_bytes}
    for codec, levels in LEVELS.items():
        for level in levels:
            for split in (False,) if codec == "none" else (False, True):
                name = f"{codec}{'' if level is None else f' {level}'}{SPLIT if split else ''}"
                found[name] = writer(codec, level, split)
    return found


def writer(codec: str, level: int | None, split: bool) -> Callable[[pa.Table], bytes]:
    """Plain Parquet; ``split`` puts the floats' bytes of equal rank together before they are compressed."""

    def write(table: pa.Table) -> bytes:
        strings = [f.name for f in table.schema if pa.types.is_string(f.type)]
        options: dict[str, Any] = {"compression": codec, "compression_level": level, "use_dictionary": strings}
        if split:
            options["use_byte_stream_split"] = ["features.list.element"]
        sink = io.BytesIO()
        pq.write_table(table, sink, **options)
        return sink.getvalue()

    return write


def measure(table: pa.Table, rounds: int) -> list[FileFigures]:
    """All ways, alternating; each file is read back whole and compared with what was written."""
    seconds: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in ways()}
    sizes: dict[str, int] = {}
    # Whoever comes first would pay for loading the libraries.
    pq.read_table(io.BytesIO(parquet_bytes(table)), use_threads=False)
    for _ in range(rounds):
        for name, write in ways().items():
            start = time.process_time()
            content = write(table)
            written = time.process_time()
            again = pq.read_table(io.BytesIO(content), use_threads=False)
            done = time.process_time()
            if not again["features"].combine_chunks().equals(table["features"].combine_chunks()):
                raise ValueError(f"{name} did not give back what it was given")
            sizes[name] = len(content)
            seconds[name][0].append(written - start)
            seconds[name][1].append(done - written)
    return [
        FileFigures(name, sizes[name], statistics.median(writes), statistics.median(reads))
        for name, (writes, reads) in seconds.items()
    ]
