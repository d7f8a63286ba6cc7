"""The training set's pictures for a bundle: what is near them, and what they look like. Driver only; needs no Spark."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pandas as pd

from mirabelle import schema
from mirabelle.bundle import Bundle
from mirabelle.bundle.index import Index, unit
from mirabelle.bundle.predicting import predictions
from mirabelle.decode import DecodeOptions, thumbnail
from mirabelle.errors import BundleError, ImageError
from mirabelle.pipeline.bundle_parts import Parts
from mirabelle.pipeline.bundle_rows import Stored, ends, given_rows
from mirabelle.pipeline.job import Job
from mirabelle.pipeline.labelled import pictures_of
from mirabelle.storage import join
from mirabelle.worker.fetching import fetch, read_ahead

THUMBNAIL_PX = 96
THREADS = 8
# More would make a bundle of gigabytes, and comparing a picture to all of them slow.
MOST_PICTURES = 100_000


def make_index(job: Job, parts: Parts, bundle: Bundle) -> Index:
    """The labelled pictures that were not held out, by what the first classifier's network or the PCA says of them.

    Args:
        job: of the run; where there is a taught network in the place of features, its configuration has its pictures.
        parts: of the bundle.
        bundle: opened, to look at pictures of which no features are stored.

    Raises:
        BundleError: there is none.
        ConfigError, ListingError: the configuration does not say where the pictures of a taught network are.
    """
    facts = parts.facts
    held = job.read_parquet(join(job.output, "predictions", facts["id"]), [schema.PATH])[schema.PATH].to_pylist()
    left_out = set(held)
    if parts.on_features:
        rows = list(given_rows(job, facts, lambda path, label: label is not None and path not in left_out))
    else:
        finer = facts["chain"]["columns"][1] if facts.get("chain") else None
        learnt = pictures_of(job, parts.taught[0].facts, left_out, finer)
        if finer is not None:
            learnt[schema.LABEL] = ends(learnt[schema.LABEL].tolist(), learnt[schema.CHAIN_LABEL].tolist())
        rows = [_looked_at(job, learnt, bundle)]
    paths = [path for some in rows for path in some.paths]
    labels = [str(label) for some in rows for label in some.labels]
    if not paths:
        raise BundleError("no labelled picture is left that was not held out, so there is none to be near to")
    vectors = np.concatenate([unit(some.matrix) for some in rows])
    chosen = _sample(job, len(paths))
    paths, labels, vectors = [paths[i] for i in chosen], [labels[i] for i in chosen], vectors[chosen]
    small = _thumbnails(job, paths, parts.network.decode)
    return Index(vectors, paths, labels, np.cumsum([len(one) for one in small]).tolist(), b"".join(small))


def _sample(job: Job, many: int) -> npt.NDArray[np.int64]:
    """Which of so many pictures are indexed, in order."""
    if many <= MOST_PICTURES:
        return np.arange(many)
    job.console.warn(f"of {many:,} training pictures a sample of {MOST_PICTURES:,} is indexed")
    return np.sort(np.random.default_rng(0).choice(many, MOST_PICTURES, replace=False))


def _looked_at(job: Job, learnt: pd.DataFrame, bundle: Bundle) -> Stored:
    """Pictures and labels, and what the bundle's network says of those that can be read."""
    learnt = learnt.iloc[_sample(job, len(learnt))]
    paths = learnt[schema.PATH].tolist()
    done = [0, 0]
    kept: list[int] = []
    rows: list[npt.NDArray[np.float32]] = []
    with job.console.track(len(paths), lambda: (done[0], done[1]), "pictures") as refresh:
        for number, one in enumerate(predictions(bundle, paths, 1)):
            if one.features is not None:
                kept.append(number)
                rows.append(one.features)
            done[one.features is None] += 1
            refresh()
    if done[1]:
        job.console.warn(f"{done[1]:,} training pictures cannot be read, and are not in the index")
    labels = learnt[schema.LABEL].tolist()
    matrix = np.stack(rows) if rows else np.zeros((0, bundle.info.width), np.float32)
    return Stored([paths[i] for i in kept], [labels[i] for i in kept], matrix)


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
