"""One attempt at the bytes of one object, by the client that can name it. [object store]

obstore takes keys for paths, and there are keys that are none; boto3 takes them all, at ten times the cost a request.
"""

from __future__ import annotations

from typing import Any, BinaryIO

import obstore

from mirabelle.errors import FetchError, RejectCode
from mirabelle.storage.access import Access


class Objects:
    """Objects of the buckets that ``access`` reaches. Errors are the clients' own."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._requester = {"RequestPayer": "requester"} if access.options.requester_pays else {}

    def get(self, bucket: str, key: str, max_bytes: int, etag: str | None) -> bytes:
        """An object's bytes, if it still has ``etag``; ``FetchError`` where they are more than ``max_bytes``."""
        if _is_path(key):
            found = obstore.get(self._access.store(bucket), key, options={"if_match": f'"{etag}"'} if etag else {})
            _check_size(found.meta["size"], max_bytes)
            return bytes(found.bytes())
        condition = {"IfMatch": f'"{etag}"'} if etag else {}
        answer = self._access.client(bucket).get_object(Bucket=bucket, Key=key, **self._requester, **condition)
        with answer["Body"] as body:
            _check_size(answer["ContentLength"], max_bytes)
            return bytes(body.read())

    def size(self, bucket: str, key: str) -> int:
        """How many bytes it has."""
        try:
            if _is_path(key):
                return int(obstore.head(self._access.store(bucket), key)["size"])
            answer = self._access.client(bucket).head_object(Bucket=bucket, Key=key, **self._requester)
            return int(answer["ContentLength"])
        except Exception:  # a HEAD's answer cannot say why; that to a GET can, and is raised in its place
            self.get_range(bucket, key, 0, 1)
            raise

    def get_range(self, bucket: str, key: str, start: int, end: int) -> bytes:
        """Its bytes from ``start`` up to ``end``."""
        if _is_path(key):
            return bytes(obstore.get_range(self._access.store(bucket), key, start=start, end=end))
        part = f"bytes={start}-{end - 1}"
        answer = self._access.client(bucket).get_object(Bucket=bucket, Key=key, Range=part, **self._requester)
        return bytes(answer["Body"].read())

    def put(self, bucket: str, key: str, content: bytes | BinaryIO) -> None:
        """Write it; a file that is large goes in parts."""
        if _is_path(key):
            more: dict[str, Any] = {"use_multipart": False} if isinstance(content, bytes) else {}
            obstore.put(self._access.store(bucket), key, content, **more)
        else:
            self._access.client(bucket).put_object(Bucket=bucket, Key=key, Body=content)


def _is_path(key: str) -> bool:
    """Whether obstore takes it: empty parts, ``.``, ``..`` and control characters are none of a path."""
    return key.isprintable() and not {"", ".", ".."} & set(key.split("/"))


def _check_size(size_bytes: int, max_bytes: int) -> None:
    if size_bytes > max_bytes:
        raise FetchError(RejectCode.TOO_MANY_BYTES, f"more than decode.max_bytes, {max_bytes:,}")
