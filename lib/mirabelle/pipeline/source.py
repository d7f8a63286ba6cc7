"""What images there are, as the configuration says: listed or read from a manifest, with their labels. Driver only."""

from __future__ import annotations

import os
from dataclasses import replace

from mirabelle.config import Config
from mirabelle.config.stores import store_of
from mirabelle.console import Console
from mirabelle.listing import Listing, join_labels, list_images, read_manifest, told
from mirabelle.pipeline.job import Job
from mirabelle.storage import absolute, is_s3, join


def list_source(job: Job) -> Listing:
    """The run's listing, labels and all; needs no Spark.

    Raises:
        ListingError: as ``listing`` says.
    """
    with job.runlog.time("list"):
        images = read_listing(job.config, job.scratch)
    job.console.say(
        f"{images.rows:,} images in {job.root or job.config.images.manifest}"
        + (f", {images.labels:,} labels" if images.labels else "")
    )
    warn_of_rows(images, job.config, job.console)
    return images


def warn_of_rows(images: Listing, config: Config, console: Console) -> None:
    """Say what images lack a label, and which rows of a manifest or of a table of labels name no image."""
    if images.unlabelled:
        console.warn(f"{images.unlabelled:,} images have no label: neither the path's layout nor the table tells one")
    if images.repeated:
        console.warn(f"{images.repeated:,} rows of the manifest repeat a path; each image counts once")
    if images.left_out:
        rows = sum(rows for _, rows in images.left_out)
        console.warn(f"{rows:,} rows of the manifest are no images of this run: {told(images.left_out)}")
    if images.unmatched:
        console.warn(f"{images.unmatched:,} rows of {config.labels.table} name no image that is listed")


def read_listing(config: Config, scratch: str) -> Listing:
    """List ``images.root`` or read ``images.manifest``, and join ``labels.table``."""
    wanted, labels = config.images, config.labels
    root = absolute(wanted.root) if wanted.root else ""
    if wanted.manifest:
        manifest = absolute(wanted.manifest)
        images = read_manifest(
            store_of(config, manifest),
            manifest,
            root,
            wanted.include,
            wanted.exclude,
            wanted.layout,
            label=labels.label,
            split=labels.split,
            scratch=scratch,
        )
    else:
        images = list_images(
            store_of(config, root),
            root,
            wanted.include,
            wanted.exclude,
            wanted.layout,
            _ours(config, root),
            scratch=scratch,
        )
    if labels.table:
        table = absolute(labels.table)
        listed = images
        images = join_labels(
            listed, store_of(config, table), table, root, labels.key, labels.label, labels.split, scratch=scratch
        )
        images = replace(images, repeated=listed.repeated, left_out=listed.left_out)
    return images


def _ours(config: Config, root: str) -> list[str]:
    """What may lie below the root and is no picture, named as the walk will name it."""
    own = [absolute(path) for path in (config.output, config.cache, config.labels.table) if path]
    if is_s3(root):
        return [path for path in own if is_s3(path)]
    # Told apart by where they really are.
    real = os.path.realpath(root)
    return [join(root, os.path.relpath(os.path.realpath(path), real)) for path in own if not is_s3(path)]
