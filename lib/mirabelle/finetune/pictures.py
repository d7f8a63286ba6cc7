"""Pictures and what networks made of them, in a file of this machine's disk: read once, and never all in memory.

[Store, disk]
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from mirabelle.decode import DecodedImage, DecodeOptions, decode
from mirabelle.errors import ImageError, OutputError
from mirabelle.storage import S3Options
from mirabelle.worker.fetching import ImageSource, fetch, read_ahead

READS_AT_ONCE = 16


class Rows:
    """Arrays of one shape on disk, for several threads at once. By reads and writes: a map would count as memory."""

    def __init__(self, folder: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self._bytes = int(np.prod(shape)) * self.dtype.itemsize
        # It has no name any more, and is gone with the last who reads it.
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        weakref.finalize(self, self._file.close)

    def write(self, first: int, rows: npt.NDArray[Any]) -> None:
        """Put rows from a position on.

        Raises:
            OutputError: the disk is full.
        """
        content = memoryview(np.ascontiguousarray(rows, self.dtype).tobytes())
        place = first * self._bytes
        try:
            while content:
                done = os.pwrite(self._file.fileno(), content, place)
                content, place = content[done:], place + done
        except OSError as error:
            raise OutputError(
                f"cannot keep pictures in {tempfile.gettempdir()}: {error.strerror}; make room there, or set TMPDIR to"
                " a folder on a larger disk"
            ) from error

    def __getitem__(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Copies of some rows: (n, *shape)."""
        found = np.empty((len(positions), *self.shape), self.dtype)
        flat = found.reshape(len(positions), -1).view(np.uint8) if found.size else found
        for i, position in enumerate(positions):
            os.preadv(self._file.fileno(), [flat[i]], int(position) * self._bytes)
        return found


@dataclass
class Pictures:
    """Decoded pictures.

    Attributes:
        rows: uint8 (side, side, 3) each, by the position of their source; of one that is bad, anything.
        errors: why some are bad, by position.
    """

    rows: Rows
    errors: dict[int, ImageError] = field(default_factory=dict)


def read_pictures(
    sources: Sequence[ImageSource],
    size_px: int,
    options: DecodeOptions,
    s3: S3Options,
    folder: str,
    done: Callable[[int, int], None],
) -> Pictures:
    """Fetch and decode pictures, once.

    Args:
        sources: which.
        size_px: side of the square that each becomes.
        options: of decoding.
        s3: how buckets are reached.
        folder: of this machine's disk, for as long as they are used.
        done: told how many more are there, and how many of them are bad.
    """
    pictures = Pictures(Rows(folder, (size_px, size_px, 3), np.uint8))
    read = partial(_decoded, size_px=size_px, options=options, s3=s3)
    # Pillow's switch for truncated files holds for all threads.
    threads = 1 if options.accept_truncated else READS_AT_ONCE
    with ThreadPoolExecutor(threads, "mirabelle-pictures") as pool:
        for position, found in enumerate(read_ahead(sources, read, pool, 2 * threads)):
            if isinstance(found, ImageError):
                pictures.errors[position] = found
            else:
                pictures.rows.write(position, found.pixels)
            done(1, int(isinstance(found, ImageError)))
    return pictures


def _decoded(source: Any, size_px: int, options: DecodeOptions, s3: S3Options) -> DecodedImage | ImageError:
    content = fetch(source, options.max_bytes, s3)
    if isinstance(content, ImageError):
        return content
    try:
        return decode(content, size_px, options)
    except ImageError as error:
        return error
