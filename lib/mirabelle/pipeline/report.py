"""What the report shows, gathered from what the stages wrote. Driver only; needs no Spark."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mirabelle import schema
from mirabelle.decode import thumbnail
from mirabelle.errors import FetchError, ImageError, OutputError, RejectCode
from mirabelle.evaluation import Metrics, confused_pairs
from mirabelle.network.preparing import decode_options
from mirabelle.pipeline.certificates import certified
from mirabelle.pipeline.chain_report import chained
from mirabelle.pipeline.compare import compared
from mirabelle.pipeline.extract import RANDOM_WEIGHTS
from mirabelle.pipeline.flattery import flattered_by_features
from mirabelle.pipeline.job import Job
from mirabelle.reduction import Projection
from mirabelle.report import (
    ConfusedPair,
    Evaluation,
    Neighbours,
    Picture,
    Reject,
    ReportContents,
    Scatter,
    Scree,
    render,
)
from mirabelle.storage import join, open_store
from mirabelle.table.current_view import current_rejects, fetch_listing
from mirabelle.table.runlog import read_manifests
from mirabelle.worker.embedder import as_matrix

THUMBNAIL_PX = 64
LARGER_THUMBNAIL_PX = 96
REJECTS_SHOWN = 200
PAIRS_SHOWN = 8
PICTURES_A_PAIR = 6
NEIGHBOURS_SHOWN = 8
MAX_ARRAYS_BYTES = 2**32
THREADS = 4


def report(job: Job) -> None:
    """Write ``report/<id>/index.html`` about the newest results of the configured embedding."""
    with job.runlog.time("report"):
        fingerprint = job.embedding().fingerprint
        pca = job.newest("pca", fingerprint)
        classifier = job.newest("classifier", fingerprint)
        if "counts" in job.runlog.manifest:
            # A whole run that trained nothing must not show what an earlier one did on other pictures.
            own = job.runlog.run_id
            pca, classifier = (found if found and found["id"] == own else None for found in (pca, classifier))
        pca, classifier = _if_current(job, pca, "PCA", "reduce"), _if_current(job, classifier, "classifier", "train")
        reduced = _read_reduced(job, pca)
        listing = job.listing_path()
        listed = fetch_listing(job.store, listing, job.scratch) if listing else None
        rejects = current_rejects(job.table(), job.scratch, listed)
        by_code = [(schema.CODE, "ascending"), (schema.PATH, "ascending")]
        judged = None
        if classifier:
            judged = replace(evaluation(classifier), flattered=flattered_by_features(job, classifier, reduced))
        # Rendering is the last part, and its own time cannot be in the page.
        contents = ReportContents(
            title=job.config.report.title or f"Pictures in {job.root}",
            manifest=_manifest(job),
            rejects=rejects_of(job, rejects.sort_by(by_code).slice(0, REJECTS_SHOWN).to_pylist()),
            rejects_total=len(rejects),
            scree=_scree(job, pca),
            scatter=_scatter(job, reduced),
            neighbours=_neighbours(job, reduced),
            evaluation=judged,
            confused=confused(job, classifier) if classifier else [],
            notes=_notes(job),
            compared=compared(job),
            chained=chained(job, classifier) if classifier and classifier.get("chain") else None,
            certified=certified(job),
        )
        path = join(job.folder("report"), "index.html")
        job.store.write(path, render(contents).encode())
    job.runlog.update(report=path)
    job.summary.append(("report", path))


def _manifest(job: Job) -> dict[str, Any]:
    """This run's manifest, or the newest one of a run that embedded, where this one did not extract."""
    own = job.runlog.manifest
    if "counts" in own:
        # The report is the last part: the page tells how the run will have ended.
        return {**own, "status": "failed" if job.failed_bars else "done"}
    earlier = [m for m in read_manifests(job.store, job.output) if m.get("fingerprint") == own.get("fingerprint")]
    return next((m for m in reversed(earlier) if "counts" in m), own)


def _notes(job: Job) -> list[str]:
    notes = [*job.failed_bars, *(str(error) for error in job.unmet), *job.runlog.manifest.get("warnings", [])]
    if job.embedding().is_random:
        notes.insert(0, RANDOM_WEIGHTS[0].upper() + RANDOM_WEIGHTS[1:] + ".")
    return notes


def _read_reduced(job: Job, pca: dict[str, Any] | None) -> pa.Table | None:
    if pca is None:
        return None
    return job.read_parquet(join(job.folder("pca", pca["id"]), "reduced")).sort_by(schema.PATH)


def _if_current(job: Job, found: dict[str, Any] | None, name: str, verb: str) -> dict[str, Any] | None:
    """What was found, if it is of the features as they are now; else None, and a warning."""
    if found is None or (changed := job.changed_since(found["id"])) is None:
        return found
    warning = (
        f"the {name} {found['id']} is older than the features, which run {changed} changed, and is left out of the"
        f" report; run `mirabelle {verb}` to have it anew"
    )
    job.console.warn(warning)
    job.runlog.update(warnings=[*job.runlog.manifest.get("warnings", []), warning])
    return None


def _scree(job: Job, pca: dict[str, Any] | None) -> Scree | None:
    if pca is None:
        return None
    path = join(job.folder("pca", pca["id"]), "pca.npz")
    try:
        projection = Projection.from_bytes(job.store.read(path, MAX_ARRAYS_BYTES))
    except (FetchError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise OutputError(f"{path} is damaged ({error}); run `mirabelle reduce` again") from error
    return Scree(
        projection.explained_variance_ratio,
        pca["components"],
        pca["variance_target"],
        pca["rows"],
        projection.available,
    )


def _scatter(job: Job, reduced: pa.Table | None) -> Scatter | None:
    """A sample on the plane of the first two components."""
    if reduced is None:
        return None
    matrix = as_matrix(reduced[schema.REDUCED])
    rows = sample_evenly(reduced[schema.LABEL].to_pylist(), job.config.report.points, job.config.classify.seed)
    chosen = reduced.take(rows)
    # One component has no plane; its pictures lie on a line.
    plane = np.pad(matrix[:, :2], ((0, 0), (0, max(0, 2 - matrix.shape[1]))))
    return Scatter(_pictures(job, chosen, THUMBNAIL_PX), plane[rows], chosen[schema.SPLIT].to_pylist(), len(reduced))


def sample_evenly(labels: list[str | None], most: int, seed: int) -> npt.NDArray[np.int64]:
    """Positions of at most ``most`` rows, as many of each label as can be, in ascending order."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(labels))
    turn: dict[str | None, int] = {}
    rank = np.empty(len(labels), dtype=np.int64)
    for position in order:
        label = labels[position]
        rank[position] = turn[label] = turn.get(label, -1) + 1
    # Every label's first row, then every label's second, and so on.
    return np.sort(order[np.argsort(rank[order], kind="stable")][:most])


def _neighbours(job: Job, reduced: pa.Table | None) -> list[Neighbours]:
    """The nearest pictures to a few, by cosine of their reduced features."""
    if reduced is None or len(reduced) < 2 or not job.config.report.queries:
        return []
    matrix = as_matrix(reduced[schema.REDUCED])
    unit = matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    # Of different labels, so that the rows of pictures are not all of one kind.
    labels = reduced[schema.LABEL].to_pylist()
    first = sample_evenly(labels, len(set(labels)), job.config.classify.seed)
    queries = np.random.default_rng(job.config.classify.seed).permutation(first)[: job.config.report.queries]
    found = []
    for query in queries:
        similarity = unit @ unit[query]
        similarity[query] = -np.inf
        nearest = np.argsort(-similarity)[: min(NEIGHBOURS_SHOWN, len(similarity) - 1)]
        pictures = _pictures(job, reduced.take([query, *nearest]), LARGER_THUMBNAIL_PX)
        scores = [float(similarity[i]) for i in nearest]
        found.append(Neighbours(pictures[0], list(zip(pictures[1:], scores, strict=True))))
    return found


def evaluation(classifier: dict[str, Any]) -> Evaluation:
    """A classifier's judgement, by the facts that stand with it."""
    metrics = Metrics.from_json(classifier["metrics"])
    told = {k: classifier[k] for k in ("estimator", "features", "split", "train_rows", "test_rows")}
    return Evaluation(**{**metrics.__dict__, "labels": list(metrics.labels)}, **told)


def confused(job: Job, classifier: dict[str, Any]) -> list[ConfusedPair]:
    """The pairs of classes most often taken for one another, with pictures."""
    metrics = Metrics.from_json(classifier["metrics"])
    columns = [schema.PATH, schema.LABEL, schema.PREDICTED]
    predictions = job.read_parquet(job.folder("predictions", classifier["id"]), columns)
    pairs = []
    for i, j, count in confused_pairs(metrics.confusion, PAIRS_SHOWN):
        true, predicted = metrics.labels[i], metrics.labels[j]
        wrong = predictions.filter((pc.field(schema.LABEL) == true) & (pc.field(schema.PREDICTED) == predicted))
        right = predictions.filter(pc.field(schema.LABEL) == predicted)
        shown, examples = (
            _pictures(job, rows.sort_by(schema.PATH).slice(0, PICTURES_A_PAIR), LARGER_THUMBNAIL_PX)
            for rows in (wrong, right)
        )
        pairs.append(ConfusedPair(true, predicted, count, shown, examples))
    return pairs


def rejects_of(job: Job, rows: Sequence[dict[str, Any]]) -> list[Reject]:
    """Bad pictures as the page lists them, so far as it does."""
    return [
        Reject(
            row[schema.PATH],
            row[schema.STAGE],
            row[schema.CODE],
            row[schema.DETAIL] or "",
            row[schema.SIZE_BYTES],
            # What is left of a file cut short can be shown; the others have nothing safe to look at.
            _thumbnail(job, row[schema.PATH], THUMBNAIL_PX, True) if row[schema.CODE] == RejectCode.TRUNCATED else None,
        )
        for row in rows[:REJECTS_SHOWN]
    ]


def _pictures(job: Job, rows: pa.Table, size_px: int) -> list[Picture]:
    paths = rows[schema.PATH].to_pylist()
    with ThreadPoolExecutor(THREADS) as pool:
        thumbnails = pool.map(lambda path: _thumbnail(job, path, size_px), paths)
    return [Picture(*facts) for facts in zip(paths, rows[schema.LABEL].to_pylist(), thumbnails, strict=True)]


def _thumbnail(job: Job, path: str, size_px: int, accept_truncated: bool = False) -> bytes | None:
    options = decode_options(job.config)
    if accept_truncated:
        options = replace(options, accept_truncated=True)
    try:
        return thumbnail(open_store(path, job.s3).read(path, options.max_bytes), size_px, options)
    except ImageError:
        # It may have changed since it was embedded; the page shows a blank there.
        return None
