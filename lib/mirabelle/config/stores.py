"""Stores as the configuration reaches them. Driver only."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from mirabelle.config.loading import load
from mirabelle.config.models import Config
from mirabelle.errors import ConfigError, FetchError, WeightsError
from mirabelle.storage import DiskStore, S3Options, Store, absolute, is_s3, open_store

MAX_WEIGHTS_BYTES = 2**34


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


def load_config(
    file: str | Path | None = None,
    settings: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    defaults: Mapping[str, str] | None = None,
) -> Config:
    """Put a configuration together and validate it: the file, over it the environment, over it the settings.

    Args:
        file: YAML, on a disk or ``s3://``, reached as AWS's environment and files say; None: defaults alone.
        settings: ``key=value`` strings, the values in YAML (``reduce.components=19``), as ``--set`` takes them.
        environment: variables that start with ``MIRABELLE_``; None: the process's own.
        defaults: dotted keys and their texts, of what is given nowhere else.

    Raises:
        ConfigError: the file cannot be read, or with every mistake that was found.
    """
    uri = str(file)
    if not is_s3(uri):
        return load(file, settings, environment, defaults=defaults)
    try:
        content = open_store(uri).read(uri, 2**20)
    except FetchError as error:
        raise ConfigError(f"cannot read the configuration {uri}: {error}; give another with --config") from error
    return load(file, settings, environment, content, defaults)


def with_local_weights(config: Config, cache: Path, part: Literal["backbone", "finetune"] = "backbone") -> Config:
    """The configuration with weights that are in a bucket fetched to the cache; others as they are.

    Args:
        config: as it was told.
        cache: for them.
        part: of it, whose weights are meant.

    Raises:
        WeightsError: they cannot be read.
    """
    section = getattr(config, part)
    uri = section.weights
    if uri is None or not is_s3(uri):
        return config
    try:
        content = store_of(config, uri).read(absolute(uri), MAX_WEIGHTS_BYTES)
    except FetchError as error:
        raise WeightsError(f"cannot read {part}.weights {uri}: {error}") from error
    file = cache / "weights" / hashlib.sha256(uri.encode()).hexdigest()[:16] / uri.rpartition("/")[2]
    # What is there already is left, so that a cache that cannot be written to is good enough.
    if not os.access(file, os.R_OK) or file.read_bytes() != content:
        DiskStore().write(str(file), content)
    # Its time stands for its content, by which the converted network is found again.
    moment = int(hashlib.sha256(content).hexdigest()[:8], 16)
    if file.stat().st_mtime != moment:
        os.utime(file, (moment, moment))
    return config.model_copy(update={part: section.model_copy(update={"weights": str(file)})})
