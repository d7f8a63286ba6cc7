"""Where bytes are kept: the ``Store`` protocol, and the folder store. [disk]

Driver and executors. The only module that touches the outside for pictures and results; a store for buckets takes its
place beside ``DiskStore`` behind ``open_store``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mirabelle.errors import FetchError, ListingError, OutputError, RejectCode


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
    """What Mirabelle asks of a place that keeps bytes. Paths are whole paths, as ``Entry.path`` has them."""

    def walk(self, root: str) -> Iterator[Entry]:
        """Every object below ``root``, in no set order."""

    def read(self, path: str, max_bytes: int) -> bytes:
        """An object's bytes; raises ``FetchError`` with the reason."""

    def write(self, path: str, content: bytes) -> None:
        """Put an object whole or not at all, making folders as needed; raises ``OutputError``."""

    def publish(self, staged: str, final: str) -> None:
        """Make a staged folder visible under its final name, all of it at one moment."""

    def exists(self, path: str) -> bool:
        """Whether an object or a folder is there."""

    def remove(self, path: str) -> None:
        """Remove an object, or a folder with all in it; nothing happens if it is not there."""


class DiskStore:
    """A folder on a disk that driver and workers share."""

    def walk(self, root: str) -> Iterator[Entry]:
        """Every file below ``root``; symbolic links to files count, links to folders are followed once."""
        if not os.path.isdir(root):
            raise ListingError(f"there is no folder {root}; set images.root to one that holds the pictures")
        seen: set[tuple[int, int]] = set()
        pending = [root]
        while pending:
            folder = pending.pop()
            try:
                identity = os.stat(folder)
                if (identity.st_dev, identity.st_ino) in seen:
                    continue
                seen.add((identity.st_dev, identity.st_ino))
                with os.scandir(folder) as found:
                    entries = list(found)
            except OSError as error:
                raise ListingError(f"cannot list {folder}: {error.strerror}; mend its permissions") from error
            for entry in entries:
                if _is_folder(entry):
                    pending.append(entry.path)
                else:
                    yield _entry(entry)

    def read(self, path: str, max_bytes: int) -> bytes:
        """The file's bytes.

        Raises:
            FetchError: ``missing``, ``denied``, ``too_many_bytes`` or ``unreadable``.
        """
        path = local_path(path)
        try:
            # A pipe or a device would block for ever, or never end.
            if not os.path.isfile(path):
                raise FetchError(*_why_no_file(path))
            with open(path, "rb") as file:
                content = file.read(max_bytes + 1)
        except PermissionError as error:
            raise FetchError(RejectCode.DENIED, str(error.strerror)) from error
        except FileNotFoundError as error:
            raise FetchError(RejectCode.MISSING, "listed, and gone before it was read") from error
        except OSError as error:
            raise FetchError(RejectCode.UNREADABLE, str(error.strerror)) from error
        if len(content) > max_bytes:
            raise FetchError(RejectCode.TOO_MANY_BYTES, f"more than decode.max_bytes, {max_bytes:,}")
        return content

    def write(self, path: str, content: bytes) -> None:
        """Put a file whole or not at all."""
        beside = f"{path}.{os.getpid()}.partial"
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(beside, "wb") as file:
                file.write(content)
                # Without it a crash of the machine can leave a whole name on an empty file.
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        except OSError as error:
            with suppress(OSError):
                os.unlink(beside)
            raise OutputError(
                f"cannot write {path}: {error.strerror}; make room or mend the permissions, and run again:"
                " what was finished is kept"
            ) from error

    def publish(self, staged: str, final: str) -> None:
        """One rename: a reader sees the whole folder or none of it."""
        try:
            os.makedirs(os.path.dirname(final), exist_ok=True)
            os.rename(staged, final)
        except OSError as error:
            raise OutputError(f"cannot move {staged} to {final}: {error.strerror}") from error

    def exists(self, path: str) -> bool:
        """Whether a file or folder is there."""
        return os.path.exists(path)

    def remove(self, path: str) -> None:
        """Remove a file, or a folder with all in it."""
        if os.path.isdir(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            Path(path).unlink(missing_ok=True)


def open_store(uri: str) -> Store:
    """The store that keeps ``uri``.

    Raises:
        OutputError: for a scheme that no store here serves.
    """
    scheme, separator, _ = uri.partition("://")
    if separator and scheme != "file" and scheme.isalnum():
        raise OutputError(f"{uri}: only folders are served so far, not {scheme}://; give a path on a disk")
    return DiskStore()


def absolute(uri: str) -> str:
    """A whole path on the disk, so that runs from other folders name the same images alike."""
    open_store(uri)
    return os.path.abspath(os.path.expanduser(local_path(uri)))


def local_path(uri: str) -> str:
    """A path without ``file:``; Spark's own columns of paths have it, with one slash or three."""
    if not uri.startswith("file:"):
        return uri
    return "/" + uri.removeprefix("file:").lstrip("/")


def spark_uri(path: str) -> str:
    """A whole path for Spark, whose default file system may be another than the disk."""
    return f"file://{path}"


def join(*parts: str) -> str:
    """Parts of a path with one slash between them."""
    return "/".join(part.rstrip("/") if i < len(parts) - 1 else part for i, part in enumerate(parts))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link that leads to itself: listed, so that it ends as a reject.
        return False


def _entry(entry: os.DirEntry[str]) -> Entry:
    try:
        status = entry.stat()
        size, modified_ns = status.st_size, status.st_mtime_ns
    except OSError:
        # A dangling link: listed all the same, so that it ends as a reject and not as a silence.
        size = modified_ns = 0
    return Entry(entry.path, size, modified_ns // 1000, f"{modified_ns:x}-{size:x}")


def _why_no_file(path: str) -> tuple[RejectCode, str]:
    if os.path.exists(path):
        return RejectCode.UNREADABLE, "neither a file nor a link to one"
    if os.path.islink(path):
        return RejectCode.MISSING, f"a link to {os.readlink(path)}, which is not there"
    return RejectCode.MISSING, "listed, and gone before it was read"
