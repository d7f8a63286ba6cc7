"""Buckets of AWS, MinIO and the compatible. [object store]

obstore moves the bytes, which is ten times cheaper a request than boto3 (scripts/bench/object_stores.py); boto3 lists,
copies, removes and puts conditionally. ``requests`` tries each again where that may help.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, BinaryIO, cast

from botocore.exceptions import ClientError

from mirabelle.errors import ListingError, OutputError
from mirabelle.storage.access import Access
from mirabelle.storage.base import Entry, Version
from mirabelle.storage.faults import Fault
from mirabelle.storage.objects import Objects
from mirabelle.storage.options import S3Options
from mirabelle.storage.paths import split_s3
from mirabelle.storage.prefixes import list_objects
from mirabelle.storage.ranged import RangedFile
from mirabelle.storage.requests import CHECK_ATTEMPTS, Missing, NotDone, Requests

AT_ONCE = 16
DELETED_AT_ONCE = 1000


class S3Store:
    """Every bucket that one set of options reaches."""

    etags_tell_content = True

    def __init__(self, options: S3Options) -> None:
        self.access = Access(options)
        self._objects = Objects(self.access)
        self.reads_at_once = options.reads_at_once
        self._requests = Requests(self.access, options.attempts, options.requester_pays)

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
        self._requests.list_page(bucket, _below(key), attempts=CHECK_ATTEMPTS, MaxKeys=1)

    def walk(self, root: str) -> Iterator[Entry]:
        """Every object below ``root``, listed by several prefixes at once; "folders" (names that end in /) are none."""
        bucket, key = split_s3(root)
        self.check(root)
        yield from list_objects(self._requests, bucket, _below(key))

    def read(self, path: str, max_bytes: int, etag: str | None = None) -> bytes:
        """The object's bytes, with ``If-Match`` where an etag is given."""
        bucket, key = split_s3(path)
        return self._requests.fetch(bucket, lambda: self._objects.get(bucket, key, max_bytes, etag))

    def open(self, path: str) -> BinaryIO:
        """The object, to be read in parts; each part is a request of its own, tried again like any."""
        bucket, key = split_s3(path)
        size = self._requests.fetch(bucket, lambda: self._objects.size(bucket, key))

        def read(start: int, end: int) -> bytes:
            return self._requests.fetch(bucket, lambda: self._objects.get_range(bucket, key, start, end))

        return cast(BinaryIO, RangedFile(read, size))

    def write(self, path: str, content: bytes) -> None:
        """One put."""
        bucket, key = split_s3(path)
        self._requests.change(bucket, lambda: self._objects.put(bucket, key, content))

    def upload(self, local: str, path: str) -> None:
        """A put, or a multipart upload where the file is large."""
        bucket, key = split_s3(path)

        def attempt() -> None:
            with open(local, "rb") as file:
                self._objects.put(bucket, key, file)

        self._requests.change(bucket, attempt)

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
            return bool(self._requests.list_page(bucket, "", MaxKeys=1).get("KeyCount"))
        try:
            self._requests.ask(bucket, "read", lambda: self._objects.size(bucket, key))
            return True
        except Missing:
            return bool(self._requests.list_page(bucket, f"{key}/", MaxKeys=1).get("KeyCount"))

    def remove(self, path: str) -> None:
        """Delete an object and all below it, the "folders" too that Spark and consoles make."""
        bucket, key = split_s3(path.rstrip("/"))
        keys = [key] if key else []
        keys += [found for page in self._requests.pages(bucket, f"{key}/" if key else "") for found in _keys(page)]
        client = self.access.client(bucket)

        def delete(some: Sequence[str]) -> None:
            wanted = {"Objects": [{"Key": one} for one in some], "Quiet": True}
            answer = client.delete_objects(Bucket=bucket, Delete=wanted)
            failed = [e for e in answer.get("Errors", []) if e.get("Code") not in ("NoSuchKey", "NoSuchVersion")]
            if failed:
                # Each key has an answer of its own, and "slow down" may be one.
                raise ClientError({**answer, "Error": failed[0]}, "DeleteObjects")

        for start in range(0, len(keys), DELETED_AT_ONCE):
            self._requests.change(bucket, partial(delete, keys[start : start + DELETED_AT_ONCE]))

    def read_version(self, path: str) -> tuple[bytes, Version, float] | None:
        """Content, etag and age; both times are the store's, so that this machine's clock does not count."""
        bucket, key = split_s3(path)

        def attempt() -> tuple[bytes, Version, float]:
            found = self.access.client(bucket).get_object(Bucket=bucket, Key=key)
            now = parsedate_to_datetime(found["ResponseMetadata"]["HTTPHeaders"]["date"])
            return found["Body"].read(), found["ETag"], (now - found["LastModified"]).total_seconds()

        try:
            return self._requests.ask(bucket, "read", attempt)
        except Missing:
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
            answer = self._requests.change(bucket, attempt, (Fault.CHANGED, Fault.MISSING))
        except NotDone:
            # An attempt whose answer was lost may have been ours.
            found = self.read_version(path)
            return found[1] if found and found[0] == content else None
        return str(answer["ETag"])

    def _copy(self, source: str, target: str) -> None:
        bucket, key = split_s3(source)
        to_bucket, to_key = split_s3(target)
        client, origin = self.access.client(bucket), {"Bucket": bucket, "Key": key}
        try:
            self._requests.change(
                to_bucket,
                lambda: client.copy_object(Bucket=to_bucket, Key=to_key, CopySource=origin),
                (Fault.MISSING,),
            )
        except NotDone as error:
            # A run that was killed while it cleaned up had copied it before.
            if not self.exists(target):
                raise OutputError(f"cannot copy {source} to {target}: it is gone; run again with --full") from error


def _keys(page: dict[str, Any]) -> list[str]:
    return [found["Key"] for found in page.get("Contents", [])]


def _below(key: str) -> str:
    """What the names of all objects below a key begin with."""
    return f"{key.rstrip('/')}/" if key else ""
