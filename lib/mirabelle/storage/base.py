"""What Mirabelle asks of a place that keeps bytes. Touches nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from mirabelle.storage.options import S3Options

Version = str
"""Changes whenever an object is written; the condition of a conditional put."""

PARTIAL = ".partial"
"""How names end that a folder's files have while they are written, and keep where the writer was killed."""


@dataclass(frozen=True)
class Entry:
    """One stored object.

    Attributes:
        path: as the user would type it, whole.
        size_bytes: its size when it was listed.
        modified_us: when it was last changed, microseconds since 1970 UTC.
        etag: changes when the content does; for a folder it is made of time and size.
    """

    path: str
    size_bytes: int
    modified_us: int
    etag: str


class Store(Protocol):
    """A folder on a disk, or a bucket. Paths are whole paths, as ``Entry.path`` has them.

    Attributes:
        reads_at_once: how many objects a worker should read at the same time.
        etags_tell_content: whether objects of the same etag and size hold the same bytes.
    """

    reads_at_once: int
    etags_tell_content: bool

    def resolved(self) -> S3Options:
        """How this process reaches buckets, with nothing left to its environment but credentials."""

    def check(self, path: str) -> None:
        """Raise ``ListingError`` in one sentence if nothing below ``path`` can be read from here at all."""

    def walk(self, root: str) -> Iterator[Entry]:
        """Every object below ``root``, in no set order; raises ``ListingError``."""

    def read(self, path: str, max_bytes: int, etag: str | None = None) -> bytes:
        """An object's bytes.

        Args:
            path: of the object.
            max_bytes: more are not read.
            etag: what it must still have, where the store can tell; None: whatever is there.

        Raises:
            FetchError: with the reason, where it is this object's alone.
            ListingError: where nothing in its bucket can be read.
        """

    def open(self, path: str) -> BinaryIO:
        """An object to read in parts, as Parquet wants it; raises ``FetchError``."""

    def write(self, path: str, content: bytes) -> None:
        """Put an object whole or not at all, making folders as needed; raises ``OutputError``."""

    def upload(self, local: str, path: str) -> None:
        """Put a file of this machine's disk, of any size, whole or not at all; raises ``OutputError``."""

    def publish(self, staged: str, final: str, names: Sequence[str]) -> None:
        """Make the objects ``names`` of a staged folder visible in another, and leave it to the caller to remove it.

        On a disk all of them at one moment; in a bucket one by one, names with ``_`` in front last. Doing it again
        after it was cut short completes it.
        """

    def exists(self, path: str) -> bool:
        """Whether an object or a folder is there."""

    def remove(self, path: str) -> None:
        """Remove an object, or a folder with all in it; nothing happens if it is not there."""

    def read_version(self, path: str) -> tuple[bytes, Version, float] | None:
        """A small object, its version, and the seconds since it was written by the store's own clock; None: no such."""

    def put_if(self, path: str, content: bytes, version: Version | None) -> Version | None:
        """Write only if the object still has ``version`` (None: is not there); its new version, or None if not."""
