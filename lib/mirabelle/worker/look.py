"""What a picture's bytes say of it: hash, perceptual hash, format, size. [Store, through arguments]

Executors; knows nothing of Spark.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from mirabelle.decode import DecodeOptions, decode
from mirabelle.decode.formats import format_of
from mirabelle.errors import DecodeError, ImageError, PreflightError
from mirabelle.storage import S3Options, open_store
from mirabelle.worker.fetching import Fetched, ImageSource, fetch, read_ahead

# What the perceptual hash is made of: its discrete cosine transform's lowest 8 x 8 of 32 x 32 grey levels
# (imagehash.phash, after Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010).
HASH_PX = 32
READS_AT_ONCE = 16


@dataclass(frozen=True)
class LookSpec:
    """What is pickled into tasks.

    Attributes:
        folder: where each task puts its file.
        options: of decoding.
        s3: how buckets are reached.
    """

    folder: str
    options: DecodeOptions
    s3: S3Options


def look_at(content: Fetched, options: DecodeOptions) -> dict[str, Any]:
    """Facts of one picture: ``sha256``, ``phash`` (64 bits), ``format``, ``width_px``, ``height_px``; or a ``code``."""
    import imagehash
    from PIL import Image

    if isinstance(content, ImageError):
        return {"code": content.code.value}
    facts: dict[str, Any] = {"sha256": hashlib.sha256(content).hexdigest()}
    try:
        picture = decode(content, HASH_PX, options)
    except DecodeError as error:
        return {**facts, "code": error.code.value}
    grey = Image.fromarray(picture.pixels).convert("L")
    facts |= {"phash": int(str(imagehash.phash(grey)), 16), "format": format_of(content)}
    return {**facts, "width_px": picture.width_px, "height_px": picture.height_px}


def run_task(number: int, sources: Iterable[ImageSource], spec: LookSpec) -> int:
    """Look at a task's pictures and write what they say to ``<folder>/<number>.parquet``; how many.

    Raises:
        PreflightError: imagehash is not installed here.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        import imagehash  # noqa: F401
    except ImportError as error:
        raise PreflightError(
            f"looking at pictures needs {error.name}, which a worker has not; install mirabelle[explore] there, or set"
            " explore.pictures=false"
        ) from error
    kinds = {"phash": pa.uint64(), "width_px": pa.int32(), "height_px": pa.int32()}
    names = ("path", "sha256", "phash", "format", "width_px", "height_px", "code")
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in names])
    wanted = list(sources)
    read = partial(fetch, max_bytes=spec.options.max_bytes, s3=spec.s3)
    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        contents = read_ahead(wanted, read, pool, READS_AT_ONCE)
        rows = [{"path": s.path, **look_at(c, spec.options)} for s, c in zip(wanted, contents, strict=True)]
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), file)
    open_store(spec.folder, spec.s3).write(f"{spec.folder}/{number:06d}.parquet", file.getvalue())
    return len(rows)
