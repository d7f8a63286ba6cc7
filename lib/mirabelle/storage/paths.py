"""Paths as users type them, as stores take them, and as Spark does.

Reads nothing but the current folder's name, and whether a file is there where a URI can be meant in two ways.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from urllib.parse import unquote

S3_SCHEMES = ("s3", "s3a", "s3n")
# EMR's own file system serves s3:// there, better than S3A does.
EMR_MARK = "/usr/share/aws/emr"
_SPELT_OUT = re.compile(r"\\u(dc[89a-f][0-9a-f])")
_FILE = re.compile(r"file:(?://localhost(?=/))?/*", re.IGNORECASE)
# What stands in no path of an encoded URI: one that has it holds its name as it is.
_PLAIN = re.compile(r"%(?![0-9A-Fa-f]{2})|[\x00-\x20\x7f\"<>\\^`{|}#?]")


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
    """A path without ``file:``, as ``local_paths`` has it."""
    return local_paths([uri])[0]


def local_paths(uris: Sequence[str]) -> list[str]:
    """Paths of one column without ``file:``; those that have none stay as they are.

    Spark gives such URIs with one slash or three, percent-encoded in ``_metadata.file_path`` and plain in the column
    ``path`` of ``binaryFile``. If any of them holds what an encoded one cannot, all are taken for plain, and else for
    encoded; one that names no file so, and does the other way, is meant the other way.
    """
    told = [_FILE.match(uri) for uri in uris]
    if not any(told):
        return list(uris)
    plain = ["/" + uri[found.end() :] if found else uri for uri, found in zip(uris, told, strict=True)]
    is_plain = any(found and _PLAIN.search(path) for path, found in zip(plain, told, strict=True))
    return [_meant(path, is_plain) if found and "%" in path else path for path, found in zip(plain, told, strict=True)]


def _meant(path: str, is_plain: bool) -> str:
    decoded = unquote(path, errors="surrogateescape")
    if "\0" in decoded:
        # No name holds that character, and to ask for one is an error.
        return path
    likely, other = (path, decoded) if is_plain else (decoded, path)
    return other if not os.path.lexists(likely) and os.path.lexists(other) else likely


def real_name(path: str) -> str:
    """The name on the disk of a path whose bytes that are not UTF-8 were spelt out: ``\\udce9`` for the byte E9."""
    return _SPELT_OUT.sub(lambda found: chr(int(found[1], 16)), path)


def spark_uri(path: str) -> str:
    """A whole path for Spark, whose default file system may be another than the disk; S3A serves buckets off EMR."""
    if is_s3(path):
        return path if os.path.isdir(EMR_MARK) else f"s3a://{path.partition('://')[2]}"
    return f"file://{path}"


def join(*parts: str) -> str:
    """Parts of a path with one slash between them."""
    return "/".join(part.rstrip("/") if i < len(parts) - 1 else part for i, part in enumerate(parts))
