"""Folders on a disk that driver and workers share. [disk]"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mirabelle.errors import FetchError, ListingError, OutputError, RejectCode
from mirabelle.storage.base import PARTIAL, Entry, Version
from mirabelle.storage.options import S3Options
from mirabelle.storage.paths import local_path, real_name

# Folders that all link to each other are met on more ways than anybody could wait for.
MOST_WAYS = 1000

# What systems answer where a disk knows no hard links.
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class DiskStore:
    """A folder on a disk that driver and workers share."""

    # The system reads ahead by itself.
    reads_at_once = 1
    # Made of time and size: a copy that kept both may still differ.
    etags_tell_content = False

    def resolved(self) -> S3Options:
        """A disk needs none."""
        return S3Options()

    def check(self, path: str) -> None:
        """Nothing to ask before the walk."""

    def walk(self, root: str) -> Iterator[Entry]:
        """Every file below ``root``; symbolic links to files count, and links to folders are followed.

        A folder that several links lead to is listed below each of them, but never within itself.

        Raises:
            ListingError: no such folder, one that cannot be read, or links that multiply.
        """
        if not os.path.isdir(root):
            raise ListingError(f"there is no folder {root}; set images.root to one that holds the pictures")
        times: Counter[tuple[int, int]] = Counter()
        # Each with the folders that it is in, by identity: a link to one of these would go round for ever.
        pending: list[tuple[str, frozenset[tuple[int, int]]]] = [(root, frozenset())]
        while pending:
            folder, above = pending.pop()
            try:
                status = os.stat(folder)
                identity = (status.st_dev, status.st_ino)
                if identity in above:
                    continue
                times[identity] += 1
                if times[identity] > MOST_WAYS:
                    raise _too_many_ways(folder)
                with os.scandir(folder) as found:
                    entries = list(found)
            except FileNotFoundError:
                # Gone since the folder above was read, and all in it.
                continue
            except OSError as error:
                raise ListingError(f"cannot list {folder}: {error.strerror}; mend its permissions") from error
            within = above | {identity}
            for entry in entries:
                if _is_folder(entry):
                    pending.append((entry.path, within))
                else:
                    yield _entry(entry)

    def read(self, path: str, max_bytes: int, etag: str | None = None) -> bytes:
        """The file's bytes, whatever its ``etag`` is by now: the next listing sees the change.

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
            raise FetchError(*_why_no_file(path)) from error
        except OSError as error:
            raise FetchError(RejectCode.UNREADABLE, str(error.strerror)) from error
        if len(content) > max_bytes:
            raise FetchError(RejectCode.TOO_MANY_BYTES, f"more than decode.max_bytes, {max_bytes:,}")
        return content

    def open(self, path: str) -> BinaryIO:
        """The file, opened."""
        try:
            return open(path, "rb")
        except OSError as error:
            raise FetchError(RejectCode.UNREADABLE, f"{path}: {error.strerror}") from error

    def upload(self, local: str, path: str) -> None:
        """Copy a file whole or not at all."""
        with _written_beside(path) as beside:
            shutil.copyfile(local, beside)
            with open(beside, "rb") as file:
                os.fsync(file.fileno())
            os.replace(beside, path)

    def write(self, path: str, content: bytes) -> None:
        """Put a file whole or not at all."""
        with _written_beside(path) as beside:
            with open(beside, "wb") as file:
                file.write(content)
                # Without it a crash of the machine can leave a whole name on an empty file.
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)

    def publish(self, staged: str, final: str, names: Sequence[str]) -> None:
        """One rename: a reader sees the whole folder or none of it.

        Only ``names`` go along: a slow twin of a task may write to ``staged`` at this very moment.
        """
        if os.path.isdir(final):
            return
        ready = f"{staged}.ready"
        try:
            os.makedirs(ready, exist_ok=True)
            for name in names:
                # Those that are not there were moved before this was cut short.
                if not os.path.exists(os.path.join(ready, name)):
                    os.rename(os.path.join(staged, name), os.path.join(ready, name))
            os.makedirs(os.path.dirname(final), exist_ok=True)
            os.rename(ready, final)
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

    def read_version(self, path: str) -> tuple[bytes, Version, float] | None:
        """A small file; its inode and time are its version, for it is only ever replaced."""
        try:
            with open(path, "rb") as file:
                status = os.fstat(file.fileno())
                return file.read(), _version(status), time.time() - status.st_mtime
        except FileNotFoundError:
            return None
        except OSError as error:
            raise OutputError(f"cannot read {path}: {error.strerror}; give another output, or mend this one") from error

    def put_if(self, path: str, content: bytes, version: Version | None) -> Version | None:
        """Write a file only if it still has ``version``.

        Creating is one atomic link, or where the disk has no links (exFAT, SMB, gcsfuse) a file opened for this alone,
        which a reader may find half written. Replacing is a look and a rename, so two that replace at the very same
        moment can both think they did; the next look tells them.
        """
        with _written_beside(path) as beside:
            with open(beside, "wb") as file:
                file.write(content)
                file.flush()
                status = os.fstat(file.fileno())
            if version is None:
                try:
                    os.link(beside, path)
                except FileExistsError:
                    return None
                except OSError as error:
                    if error.errno not in NO_LINKS:
                        raise
                    return _create(path, content)
            elif _version_at(path) == version:
                os.replace(beside, path)
            else:
                return None
        return _version(status)


def _create(path: str, content: bytes) -> Version | None:
    try:
        with open(path, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            return _version(os.fstat(file.fileno()))
    except FileExistsError:
        return None


@contextmanager
def _written_beside(path: str) -> Iterator[str]:
    """A name to write a file under before it takes its own; whatever is left of it goes with the block."""
    # Containers number their processes alike, so the process's number would not do.
    beside = f"{path}.{secrets.token_hex(4)}{PARTIAL}"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        yield beside
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            os.unlink(beside)


def _cannot_write(path: str, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write {path}: {error.strerror}; make room or mend the permissions, and run again:"
        " what was finished is kept"
    )


def _too_many_ways(folder: str) -> ListingError:
    return ListingError(
        f"more than {MOST_WAYS:,} ways through symbolic links lead to {os.path.realpath(folder)}; remove links, or name"
        " the pictures in images.manifest"
    )


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
    if os.path.lexists(real_name(path)):
        return RejectCode.UNREADABLE, "its name is not UTF-8; rename it"
    return RejectCode.MISSING, "it is not there"


def _version(status: os.stat_result) -> Version:
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}"


def _version_at(path: str) -> Version | None:
    try:
        return _version(os.stat(path))
    except FileNotFoundError:
        return None
