"""A run's listing, and what is said of it. Driver only."""

from __future__ import annotations

from mirabelle.config import Config
from mirabelle.console import Console
from mirabelle.listing import Listing, told
from mirabelle.listing.source import read_listing
from mirabelle.pipeline.job import Job


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
