"""Buckets of AWS, MinIO and the compatible. [object store]

obstore moves the bytes, which is ten times cheaper a request than boto3 (scripts/bench/object_stores.py); boto3 lists,
copies, removes and puts conditionally. Every request is tried again where that may help (``faults``).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, BinaryIO, TypeVar, cast

from botocore.exceptions import ClientError

from mirabelle.errors import FetchError, ListingError, MirabelleError, OutputError, RejectCode, TransientError
from mirabelle.storage.access import Access
from mirabelle.storage.base import Entry, Version
from mirabelle.storage.faults import Fault, code_of, explain, judge, retry
from mirabelle.storage.objects import Objects
from mirabelle.storage.options import S3Options
from mirabelle.storage.paths import split_s3
from mirabelle.storage.ranged import RangedFile

T = TypeVar("T")

AT_ONCE = 16
# A dead endpoint is known within two seconds, and a bucket that answers one request in ten with "slow down" is alive.
CHECK_ATTEMPTS = 5
# Prefixes are listed side by side once there are this many; a prefix of more than a page is not taken apart further.
ENOUGH_PREFIXES = 2 * AT_ONCE
DEEPEST_SPLIT = 3
PAGES_WAITING = 64
DELETED_AT_ONCE = 1000
# Denials in a row, after which it is asked whether the bucket itself is closed by now.
MANY_DENIALS = 10


class S3Store:
    """Every bucket that one set of options reaches."""

    etags_tell_content = True

    def __init__(self, options: S3Options) -> None:
        self.access = Access(options)
        self._objects = Objects(self.access)
        self.reads_at_once = options.reads_at_once
        self._attempts = options.attempts
        self._denied_in_a_row: dict[str, int] = {}
        self._requester = {"RequestPayer": "requester"} if options.requester_pays else {}

    def resolved(self) -> S3Options:
        """The options with what AWS's environment and files say put in."""
        return self.access.resolved()

    def check(self, path: str) -> None:
        """Ask the bucket for one name.

        Raises:
            ListingError: it is not there, forbidden or not to be reached.
        """
        bucket, key = split_s3(path)
        if not bucket:
            raise ListingError(f"{path} names no bucket; write s3://bucket/prefix")
        self._list_page(bucket, f"{key.rstrip('/')}/" if key else "", attempts=CHECK_ATTEMPTS, MaxKeys=1)

    def walk(self, root: str) -> Iterator[Entry]:
        """Every object below ``root``, listed by several prefixes at once; "folders" (names that end in /) are none."""
        bucket, key = split_s3(root)
        self.check(root)
        pages: queue.Queue[list[Entry] | BaseException | None] = queue.Queue(PAGES_WAITING)
        stopped = threading.Event()

        def put(item: list[Entry] | BaseException | None) -> None:
            while not stopped.is_set():
                with suppress(queue.Full):
                    pages.put(item, timeout=0.1)
                    break

        def list_one(prefix: str) -> None:
            try:
                for page in self._pages(bucket, prefix):
                    put(_entries(bucket, page))
                    if stopped.is_set():
                        return
            except BaseException as error:  # handed to the thread that asked, which stops the others
                put(error)

        def list_all() -> None:
            try:
                prefixes = self._split(bucket, f"{key.rstrip('/')}/" if key else "", put)
            except BaseException as error:  # likewise
                put(error)
                return
            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(list_one, prefixes))
            put(None)

        threading.Thread(target=list_all, name="mirabelle-listing", daemon=True).start()
        try:
            while (page := pages.get()) is not None:
                if isinstance(page, BaseException):
                    raise page
                yield from page
        finally:
            stopped.set()

    def read(self, path: str, max_bytes: int, etag: str | None = None) -> bytes:
        """The object's bytes, with ``If-Match`` where an etag is given."""
        bucket, key = split_s3(path)
        return self._fetch(bucket, lambda: self._objects.get(bucket, key, max_bytes, etag))

    def open(self, path: str) -> BinaryIO:
        """The object, to be read in parts; each part is a request of its own, tried again like any."""
        bucket, key = split_s3(path)
        size = self._fetch(bucket, lambda: self._objects.size(bucket, key))

        def read(start: int, end: int) -> bytes:
            return self._fetch(bucket, lambda: self._objects.get_range(bucket, key, start, end))

        return cast(BinaryIO, RangedFile(read, size))

    def write(self, path: str, content: bytes) -> None:
        """One put."""
        bucket, key = split_s3(path)
        self._change(bucket, lambda: self._objects.put(bucket, key, content))

    def upload(self, local: str, path: str) -> None:
        """A put, or a multipart upload where the file is large."""
        bucket, key = split_s3(path)

        def attempt() -> None:
            with open(local, "rb") as file:
                self._objects.put(bucket, key, file)

        self._change(bucket, attempt)

    def publish(self, staged: str, final: str, names: Sequence[str]) -> None:
        """Copies inside the store, side by side; markers after all else."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for wanted in (
                [name for name in names if not name.startswith("_")],
                [name for name in names if name.startswith("_")],
            ):
                list(pool.map(lambda name: self._copy(f"{staged}/{name}", f"{final}/{name}"), wanted))

    def exists(self, path: str) -> bool:
        """Whether there is an object of that name, or one below it."""
        bucket, key = split_s3(path.rstrip("/"))
        if not key:
            return bool(self._list_page(bucket, "", MaxKeys=1).get("KeyCount"))
        try:
            self._ask(bucket, "read", lambda: self._objects.size(bucket, key))
            return True
        except _Missing:
            return bool(self._list_page(bucket, f"{key}/", MaxKeys=1).get("KeyCount"))

    def remove(self, path: str) -> None:
        """Delete an object and all below it, the "folders" too that Spark and consoles make."""
        bucket, key = split_s3(path.rstrip("/"))
        keys = [key] if key else []
        keys += [found for page in self._pages(bucket, f"{key}/" if key else "") for found in _keys(page)]
        client = self.access.client(bucket)

        def delete(some: Sequence[str]) -> None:
            wanted = {"Objects": [{"Key": one} for one in some], "Quiet": True}
            answer = client.delete_objects(Bucket=bucket, Delete=wanted)
            failed = [e for e in answer.get("Errors", []) if e.get("Code") not in ("NoSuchKey", "NoSuchVersion")]
            if failed:
                # Each key has an answer of its own, and "slow down" may be one.
                raise ClientError({**answer, "Error": failed[0]}, "DeleteObjects")

        for start in range(0, len(keys), DELETED_AT_ONCE):
            self._change(bucket, partial(delete, keys[start : start + DELETED_AT_ONCE]))

    def read_version(self, path: str) -> tuple[bytes, Version, float] | None:
        """Content, etag and age; both times are the store's, so that this machine's clock does not count."""
        bucket, key = split_s3(path)

        def attempt() -> tuple[bytes, Version, float]:
            found = self.access.client(bucket).get_object(Bucket=bucket, Key=key)
            now = parsedate_to_datetime(found["ResponseMetadata"]["HTTPHeaders"]["date"])
            return found["Body"].read(), found["ETag"], (now - found["LastModified"]).total_seconds()

        try:
            return self._ask(bucket, "read", attempt)
        except _Missing:
            return None

    def put_if(self, path: str, content: bytes, version: Version | None) -> Version | None:
        """A conditional put (``If-None-Match: *`` or ``If-Match``)."""
        bucket, key = split_s3(path)
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}

        def attempt() -> dict[str, Any]:
            answer: dict[str, Any] = self.access.client(bucket).put_object(
                Bucket=bucket, Key=key, Body=content, **condition
            )
            return answer

        try:
            answer = self._change(bucket, attempt, (Fault.CHANGED, Fault.MISSING))
        except _NotDone:
            # An attempt whose answer was lost may have been ours.
            found = self.read_version(path)
            return found[1] if found and found[0] == content else None
        return str(answer["ETag"])

    def _list_page(self, bucket: str, prefix: str, attempts: int | None = None, **more: Any) -> dict[str, Any]:
        def attempt() -> dict[str, Any]:
            client = self.access.client(bucket)
            answer: dict[str, Any] = client.list_objects_v2(Bucket=bucket, Prefix=prefix, **self._requester, **more)
            return answer

        try:
            return self._ask(bucket, "list", attempt, attempts)
        except _Missing as error:  # this is no S3 server
            raise ListingError(explain(error.__cause__ or error, bucket, "list")) from error.__cause__

    def _split(self, bucket: str, prefix: str, put: Callable[[list[Entry]], None]) -> list[str]:
        """Prefixes to list side by side; objects met on the way are handed to ``put``."""
        prefixes, whole = [prefix], []
        for _ in range(DEEPEST_SPLIT):
            below: list[str] = []
            for one in prefixes:
                page = self._list_page(bucket, one, Delimiter="/")
                if page.get("IsTruncated"):
                    whole.append(one)
                    continue
                put(_entries(bucket, page))
                below += [found["Prefix"] for found in page.get("CommonPrefixes", [])]
            prefixes = below
            if len(prefixes) + len(whole) >= ENOUGH_PREFIXES:
                break
        return whole + prefixes

    def _pages(self, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
        more: dict[str, Any] = {}
        while True:
            page = self._list_page(bucket, prefix, **more)
            yield page
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def _copy(self, source: str, target: str) -> None:
        bucket, key = split_s3(source)
        to_bucket, to_key = split_s3(target)
        client, origin = self.access.client(bucket), {"Bucket": bucket, "Key": key}
        try:
            self._change(
                to_bucket,
                lambda: client.copy_object(Bucket=to_bucket, Key=to_key, CopySource=origin),
                (Fault.MISSING,),
            )
        except _NotDone as error:
            # A run that was killed while it cleaned up had copied it before.
            if not self.exists(target):
                raise OutputError(f"cannot copy {source} to {target}: it is gone; run again with --full") from error

    def _fetch(self, bucket: str, attempt: Callable[[], T]) -> T:
        """Read one object: what it alone lacks is a ``FetchError``, what its bucket lacks a ``ListingError``."""
        try:
            answer = retry(attempt, self._attempts, self.access.renew)
        except TransientError as error:
            # Is it this object, or the whole store?
            self._check_answers(bucket)
            raise FetchError(RejectCode.UNREADABLE, f"the store answered {error}") from error
        except MirabelleError:
            raise
        except Exception as error:  # judged: each kind ends as an error of ours
            fault = judge(error)
            if fault is Fault.OURS:
                raise
            if fault is Fault.MISSING:
                raise FetchError(RejectCode.MISSING, "there is no such object now") from error
            if fault is Fault.CHANGED:
                raise FetchError(RejectCode.UNREADABLE, "changed after it was listed; the next run takes it") from error
            if fault is Fault.DENIED and self._is_open(bucket):
                raise FetchError(RejectCode.DENIED, code_of(error)) from error
            raise ListingError(explain(error, bucket, "read from")) from error
        self._denied_in_a_row[bucket] = 0
        return answer

    def _check_answers(self, bucket: str) -> None:
        """Raise ``ListingError`` where the store does not answer at all."""
        try:
            self._list_page(bucket, "", attempts=CHECK_ATTEMPTS, MaxKeys=1)
        except ListingError as error:
            # Who may read objects need not be allowed to list them.
            if judge(error.__cause__ or error) is not Fault.DENIED:
                raise

    def _is_open(self, bucket: str) -> bool:
        """After a denial: whether it is this object's alone. Reads that went well say so, or else that we may list."""
        in_a_row = self._denied_in_a_row.get(bucket, MANY_DENIALS) + 1
        self._denied_in_a_row[bucket] = in_a_row
        if in_a_row <= MANY_DENIALS:
            return True
        try:
            self._list_page(bucket, "", attempts=CHECK_ATTEMPTS, MaxKeys=1)
        except ListingError:
            return False
        self._denied_in_a_row[bucket] = 0
        return True

    def _ask(self, bucket: str, action: str, attempt: Callable[[], T], attempts: int | None = None) -> T:
        """A request about a bucket; raises ``ListingError``, or ``_Missing`` for an object that is not there."""
        try:
            return retry(attempt, attempts or self._attempts, self.access.renew)
        except TransientError as error:
            raise ListingError(explain(error.__cause__ or error, bucket, action)) from error
        except Exception as error:  # judged, as above
            if judge(error) is Fault.OURS:
                raise
            if judge(error) is Fault.MISSING:
                raise _Missing from error
            raise ListingError(explain(error, bucket, action)) from error

    def _change(self, bucket: str, attempt: Callable[[], T], expected: Sequence[Fault] = ()) -> T:
        """A request that writes; raises ``OutputError``, or ``_NotDone`` for faults that are ``expected``."""
        kept = "; what was finished is kept, and the same command goes on from there"
        try:
            return retry(attempt, self._attempts, self.access.renew)
        except TransientError as error:
            raise OutputError(explain(error.__cause__ or error, bucket, "write to") + kept) from error
        except Exception as error:  # judged, as above
            fault = judge(error)
            if fault is Fault.OURS:
                raise
            if fault in expected:
                raise _NotDone from error
            raise OutputError(explain(error, bucket, "write to") + kept) from error


class _Missing(Exception):
    """No such object; never leaves this module."""


class _NotDone(Exception):
    """A condition did not hold, or what was to be copied is not there; never leaves this module."""


def _entries(bucket: str, page: dict[str, Any]) -> list[Entry]:
    return [
        Entry(
            f"s3://{bucket}/{found['Key']}",
            found["Size"],
            _microseconds(found["LastModified"]),
            found["ETag"].strip('"'),
        )
        for found in page.get("Contents", [])
        if not (found["Key"].endswith("/") and found["Size"] == 0)
    ]


def _keys(page: dict[str, Any]) -> list[str]:
    return [found["Key"] for found in page.get("Contents", [])]


def _microseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond
