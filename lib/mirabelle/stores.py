"""Stores as the configuration reaches them. Driver only."""

from __future__ import annotations

from mirabelle.config import Config
from mirabelle.errors import ConfigError, FetchError
from mirabelle.storage import S3Options, Store, is_s3, open_store


def s3_options(config: Config) -> S3Options:
    """The ``s3`` part, as stores take it."""
    return S3Options(**dict(config.s3))


def store_of(config: Config, uri: str) -> Store:
    """The store that keeps ``uri``."""
    return open_store(uri, s3_options(config))


def resolved_options(config: Config) -> S3Options:
    """With what AWS's environment and files on the driver say, which workers may not have; never credentials."""
    options = s3_options(config)
    named = (config.images.root, config.images.manifest or "", config.output, config.labels.table or "")
    return open_store("s3://", options).resolved() if any(map(is_s3, named)) else options


def read_text_file(uri: str) -> bytes | None:
    """Content of a small file in a bucket, reached as AWS's environment and files say; None where it is on a disk.

    Raises:
        ConfigError: it cannot be read.
    """
    if not is_s3(uri):
        return None
    try:
        return open_store(uri).read(uri, 2**20)
    except FetchError as error:
        raise ConfigError(f"cannot read the configuration {uri}: {error}; give another with --config") from error
