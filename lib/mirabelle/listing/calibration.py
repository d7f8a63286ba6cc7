"""The pictures that int8 is quantised on: some of a listing, drawn by seed, and decoded. [Store]

Driver only.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mirabelle import schema
from mirabelle.config import Config
from mirabelle.config.stores import resolved_options
from mirabelle.decode import DecodeOptions, decode
from mirabelle.errors import ImageError, ListingError
from mirabelle.listing.rows import Listing
from mirabelle.listing.source import read_listing
from mirabelle.network import preparing
from mirabelle.network.embedding import Precision
from mirabelle.network.engines import Pixels
from mirabelle.network.int8 import Calibration, calibration_digest
from mirabelle.network.preparing import Network
from mirabelle.storage import S3Options, open_store

THREADS = 8


def prepare_network(config: Config, precision: Precision | Literal["auto"] = "auto") -> Network:
    """The configured network, from the cache or made and put there; see ``preparing.prepare_network``.

    Args:
        config: where its precision is int8, and neither the output nor the cache has such a network, its ``images``
            are listed, and some of them read.
        precision: ``float32``, ``bf16`` or ``int8``; ``auto``: as the configuration says.

    Raises:
        UserError: as ``preparing.prepare_network``, ``read_listing`` and ``draw`` say.
    """
    return preparing.prepare_network(config, precision, lambda: draw_from_source(config))


def draw_from_source(config: Config) -> Calibration:
    """``draw`` from the images that the configuration names."""
    with tempfile.TemporaryDirectory(prefix="mirabelle-") as scratch:
        return draw(config, read_listing(config, scratch))


def draw(config: Config, images: Listing) -> Calibration:
    """Some of a listing's pictures, chosen by ``engine.calibration_seed``; bad ones are passed over.

    Args:
        config: its ``engine``, ``decode`` and ``backbone`` parts count.
        images: the more of them there are, the less it matters which.

    Raises:
        ListingError: none of the pictures can be read.
    """
    wanted, side = config.engine.calibration_images, preparing.shape_of(config)[0]
    # So many bad pictures in so few draws would fail the run's own bar.
    paths = rows_at(images, drawn_order(config, images)[: 2 * wanted + 50])[schema.PATH].to_pylist()
    # Exactly, whatever the workers do: the same network serves both ways of decoding.
    options = replace(preparing.decode_options(config), exact=True)
    contents: list[bytes] = []
    pixels: list[Pixels] = []
    for content, picture in _decoded(paths, side, options, resolved_options(config)):
        contents.append(content)
        pixels.append(picture)
        if len(pixels) == wanted:
            break
    if not pixels:
        raise ListingError(
            "int8 is quantised on some of the pictures, and none of those drawn can be read; look at the pictures, or"
            " set engine.precision to float32"
        )
    return Calibration(np.stack(pixels), calibration_digest(contents))


def drawn_order(config: Config, images: Listing) -> npt.NDArray[np.int64]:
    """The positions of a listing's rows in the order in which ``draw`` takes them."""
    return np.random.default_rng(config.engine.calibration_seed).permutation(images.rows)


def rows_at(images: Listing, positions: npt.NDArray[np.int64]) -> pa.Table:
    """Some of a listing's rows, in the order of ``positions``; of the others none is held."""
    order = np.argsort(positions, kind="stable")
    ascending = positions[order]
    parts, start = [], 0
    with pq.ParquetFile(images.file) as file:
        for batch in file.iter_batches():
            first, last = np.searchsorted(ascending, [start, start + len(batch)])
            if first < last:
                parts.append(batch.take(pa.array(ascending[first:last] - start)))
            start += len(batch)
    found = pa.Table.from_batches(parts, schema=parts[0].schema) if parts else images.table.slice(0, 0)
    return found.take(pa.array(np.argsort(order, kind="stable")))


def _decoded(paths: list[str], side: int, options: DecodeOptions, s3: S3Options) -> Iterator[tuple[bytes, Pixels]]:
    def read(path: str) -> tuple[bytes, Pixels] | None:
        try:
            content = open_store(path, s3).read(path, options.max_bytes)
            return content, decode(content, side, options).pixels
        except ImageError:
            return None

    # Pillow's switch for truncated files holds for all threads.
    threads = 1 if options.accept_truncated else THREADS
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(paths), threads):
            yield from filter(None, pool.map(read, paths[start : start + threads]))
