"""Where bytes are kept: the ``Store`` protocol, a store for folders and one for buckets.

Runs on driver and executors, ``database`` on the driver alone. Touches disks and object stores. ``open_store`` takes
any path that a user may type; nothing else knows which store serves it.
"""

from mirabelle.storage.base import PARTIAL, Entry, Store, Version
from mirabelle.storage.disk import DiskStore
from mirabelle.storage.opening import open_store
from mirabelle.storage.options import S3Options
from mirabelle.storage.paths import absolute, is_s3, join, local_path, local_paths, spark_uri, split_s3

__all__ = [
    "PARTIAL",
    "DiskStore",
    "Entry",
    "S3Options",
    "Store",
    "Version",
    "absolute",
    "is_s3",
    "join",
    "local_path",
    "local_paths",
    "open_store",
    "spark_uri",
    "split_s3",
]
