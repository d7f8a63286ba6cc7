"""Paths as users type them, as stores take them, and as Spark does. Reads nothing but the current folder's name."""

from __future__ import annotations

import os

S3_SCHEMES = ("s3", "s3a", "s3n")
# EMR's own file system serves s3:// there, better than S3A does.
EMR_MARK = "/usr/share/aws/emr"


def scheme_of(uri: str) -> str:
    """``s3`` of ``s3://bucket``; empty for a plain path."""
    scheme, separator, _ = uri.partition("://")
    return scheme.lower() if separator and scheme.isalnum() else ""


def is_s3(uri: str) -> bool:
    """Whether a path is in a bucket."""
    return scheme_of(uri) in S3_SCHEMES


def split_s3(uri: str) -> tuple[str, str]:
    """Bucket and key of ``s3://bucket/key``; the key is taken as it stands, with no escapes."""
    bucket, _, key = uri.partition("://")[2].partition("/")
    return bucket, key


def absolute(uri: str) -> str:
    """A whole path, so that runs from other folders name the same images alike; ``s3://`` for every bucket."""
    if is_s3(uri):
        bucket, key = split_s3(uri)
        return f"s3://{bucket}/{key.rstrip('/')}".rstrip("/")
    if scheme_of(uri) not in ("", "file"):
        # Said by open_store in full.
        return uri
    return os.path.abspath(os.path.expanduser(local_path(uri)))


def local_path(uri: str) -> str:
    """A path without ``file:``; Spark's own columns of paths have it, with one slash or three."""
    if not uri.startswith("file:"):
        return uri
    return "/" + uri.removeprefix("file:").lstrip("/")


def spark_uri(path: str) -> str:
    """A whole path for Spark, whose default file system may be another than the disk; S3A serves buckets off EMR."""
    if is_s3(path):
        return path if os.path.isdir(EMR_MARK) else f"s3a://{path.partition('://')[2]}"
    return f"file://{path}"


def join(*parts: str) -> str:
    """Parts of a path with one slash between them."""
    return "/".join(part.rstrip("/") if i < len(parts) - 1 else part for i, part in enumerate(parts))
