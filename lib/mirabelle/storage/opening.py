"""From a path to the store that keeps it. [imports the bucket store only where a bucket is named]"""

from __future__ import annotations

from functools import cache

from mirabelle.errors import OutputError
from mirabelle.storage.base import Store
from mirabelle.storage.disk import DiskStore
from mirabelle.storage.options import S3Options
from mirabelle.storage.paths import is_s3, scheme_of

_DISK = DiskStore()
# All from AWS's environment and files.
AS_AWS_SAYS = S3Options()


def open_store(uri: str, s3: S3Options = AS_AWS_SAYS) -> Store:
    """The store that keeps ``uri``; one a process and options, so that connections and credentials are kept.

    Args:
        uri: a path, ``file:`` or ``s3://bucket/key`` (``s3a://`` and ``s3n://`` mean the same).
        s3: how buckets are reached.

    Raises:
        OutputError: for a scheme that no store here serves, or a bucket where the packages for it are missing.
    """
    if is_s3(uri):
        return _bucket_store(s3)
    if scheme_of(uri) not in ("", "file"):
        raise OutputError(f"{uri}: {scheme_of(uri)}:// is not served; give a path on a disk, or s3://bucket/prefix")
    return _DISK


@cache
def _bucket_store(options: S3Options) -> Store:
    try:
        from mirabelle.storage.s3 import S3Store
    except ImportError as error:
        raise OutputError(
            f"reading buckets needs a package that is not here ({error}); install mirabelle[s3]"
        ) from error
    return S3Store(options)
