"""The training set's pictures for a bundle: what is near them, and what they look like. Driver only; needs no Spark."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from mirabelle import schema
from mirabelle.bundle.index import Index, unit
from mirabelle.decode import DecodeOptions, thumbnail
from mirabelle.errors import BundleError, ImageError
from mirabelle.pipeline.bundle_parts import Parts
from mirabelle.pipeline.bundle_rows import given_rows
from mirabelle.pipeline.job import Job
from mirabelle.storage import join
from mirabelle.worker.fetching import fetch, read_ahead

THUMBNAIL_PX = 96
THREADS = 8
# More would make a bundle of gigabytes, and comparing a picture to all of them slow.
MOST_PICTURES = 100_000


def make_index(job: Job, parts: Parts) -> Index:
    """The labelled pictures that were not held out, by what the classifier is given of them.

    Raises:
        BundleError: a taught network has no table of features.
    """
    facts = parts.facts
    if parts.kind != "classifier":
        raise BundleError(
            f"{facts['id']} was taught on pictures, of which no features are stored; leave --index out, or embed them"
            " by it (backbone.weights) and train a classifier on that"
        )
    held = job.read_parquet(join(job.output, "predictions", facts["id"]), [schema.PATH])[schema.PATH].to_pylist()
    left_out = set(held)
    rows = list(given_rows(job, facts, lambda path, label: label is not None and path not in left_out))
    paths = [path for some in rows for path in some.paths]
    labels = [str(label) for some in rows for label in some.labels]
    if not paths:
        raise BundleError("no labelled picture is left that was not held out, so there is none to be near to")
    vectors = np.concatenate([unit(some.matrix) for some in rows])
    if len(paths) > MOST_PICTURES:
        job.console.warn(f"of {len(paths):,} training pictures a sample of {MOST_PICTURES:,} is indexed")
        chosen = np.sort(np.random.default_rng(0).choice(len(paths), MOST_PICTURES, replace=False))
        paths, labels, vectors = [paths[i] for i in chosen], [labels[i] for i in chosen], vectors[chosen]
    small = _thumbnails(job, paths, parts.network.decode)
    return Index(vectors, paths, labels, np.cumsum([len(one) for one in small]).tolist(), b"".join(small))


def _thumbnails(job: Job, paths: list[str], options: DecodeOptions) -> list[bytes]:
    """A WebP of each picture; nothing where it cannot be read any more."""
    done = [0, 0]

    def make(source: object) -> bytes:
        content = fetch(source, options.max_bytes, job.s3)  # type: ignore[arg-type]
        try:
            return b"" if isinstance(content, ImageError) else thumbnail(content, THUMBNAIL_PX, options)
        except ImageError:
            return b""

    found = []
    with (
        ThreadPoolExecutor(THREADS) as pool,
        job.console.track(len(paths), lambda: (done[0], done[1]), "thumbnails") as refresh,
    ):
        for one in read_ahead(paths, make, pool, 4 * THREADS):
            found.append(one)
            done[not one] += 1
            refresh()
    if done[1]:
        job.console.warn(f"{done[1]:,} training pictures cannot be read any more, and have no thumbnail")
    return found
