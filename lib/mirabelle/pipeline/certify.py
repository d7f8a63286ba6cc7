"""What each precision and way of decoding does to the features of one's own pictures, and how fast it is. Driver only.

Needs no Spark: a sample is embedded here, by the code that workers run, beside Keras in float32 with exact decoding.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mirabelle import schema
from mirabelle.config import Config
from mirabelle.config.stores import with_local_weights
from mirabelle.console import Console
from mirabelle.errors import ImageError, PreflightError, TrainingError
from mirabelle.evaluation import group_rows
from mirabelle.evaluation.fidelity import change, components_for, fidelity, folds_of, right_answers
from mirabelle.listing import Listing
from mirabelle.listing.calibration import draw, drawn_order, rows_at
from mirabelle.network.cached import cache_folder
from mirabelle.network.embedding import Precision
from mirabelle.network.engines import cpu_name, has_fast_int8, native_precisions
from mirabelle.network.preparing import Network, keep_network, prepare_network
from mirabelle.pipeline.checks import validate
from mirabelle.pipeline.job import Job, open_job
from mirabelle.pipeline.measuring import Side, embed_in_turn
from mirabelle.pipeline.source import list_source
from mirabelle.spark.embed import spec_of
from mirabelle.storage import join
from mirabelle.worker.embedder import Embedder
from mirabelle.worker.fetching import ImageSource, fetch

LEAST_IMAGES = 20
DECODING = {"exact": "always", "fast": "never"}
THREADS = 8


@dataclass(frozen=True)
class Sample:
    """Pictures to measure on: the rows of the listing, by position, and what their files hold."""

    rows: pd.DataFrame
    contents: list[bytes]


def certify(config: Config, console: Console, break_lease: bool = False) -> tuple[dict[str, Any], str]:
    """Write ``<output>/certificate/<id>/certificate.json``; returns what is in it, and where it is.

    Args:
        config: validated; its ``engine.certify`` part says on how many pictures, and what is asked of a precision.
        console: a person's view.
        break_lease: take the output from a run that is believed dead.

    Raises:
        UserError: the images or the network cannot be had, or Keras is not installed.
    """
    told = config.masked()
    config = with_local_weights(config, cache_folder(config))
    validate(config, ("extract",))
    with open_job(config, "certify", console, break_lease, told) as job:
        certificate = _measure(job)
        path = join(job.folder("certificate"), "certificate.json")
        job.write_json(path, certificate)
        job.runlog.update(certificate=path)
    return certificate, path


def _measure(job: Job) -> dict[str, Any]:
    images = list_source(job)
    reference = _reference(job.config)
    sides, left_out = _sides(job, images)
    sample = _sample(job, images)
    _check_enough(len(sample.contents))
    with job.runlog.time("embed"):
        whole, embedded, seconds = _embed(job, sample, [("keras", reference), *sides])
    rows = sample.rows[whole]
    _check_enough(len(rows))
    job.runlog.update(counts={"listed": images.rows, "measured": len(rows), "left_out": len(sample.rows) - len(rows)})
    with job.runlog.time("compare"):
        components, judged, labels = _judge(job.config, rows, embedded)
    speed = [len(rows) / each for each in seconds]
    parts = reference.embedding
    return {
        "id": job.runlog.run_id,
        "network": {
            **{key: getattr(parts, key) for key in ("backbone", "weights", "weights_digest", "input_px")},
            **{key: getattr(parts, key) for key in ("layer", "pooling", "width")},
        },
        "pictures": {"listed": images.rows, "measured": len(rows), "seed": job.config.engine.certify.seed},
        "machine": {"cpu": cpu_name(), "cores": _cores(), "fast_int8": has_fast_int8()},
        "reference": {"name": "Keras, float32, exact", "images_per_second": speed[0]},
        "components": components,
        "labels": labels,
        "rows": [
            {
                "precision": network.embedding.precision,
                "decoding": decoding,
                "embedding": network.embedding.to_json(),
                **figures,
                "images_per_second": each,
            }
            for (decoding, network), figures, each in zip(sides, judged, speed[1:], strict=True)
        ],
        "left_out": left_out,
    }


def _check_enough(pictures: int) -> None:
    if pictures < LEAST_IMAGES:
        raise TrainingError(
            f"a certificate needs {LEAST_IMAGES} pictures that can be embedded, and there are {pictures}; look at the"
            " pictures, or list more of them"
        )


def _reference(config: Config) -> Network:
    engine = config.engine.model_copy(update={"name": "keras", "precision": "float32"})
    return prepare_network(_decoding(config, "exact").model_copy(update={"engine": engine}), "float32")


def _decoding(config: Config, name: str) -> Config:
    return config.model_copy(update={"decode": config.decode.model_copy(update={"exact": DECODING[name]})})


def _sides(job: Job, images: Listing) -> tuple[list[tuple[str, Network]], list[str]]:
    """The networks to measure, each with its way of decoding; and sentences on those that cannot be had here."""
    engine = job.config.engine.model_copy(update={"name": "openvino", "precision": "auto"})
    config = job.config.model_copy(update={"engine": engine})
    native = native_precisions()
    wanted: list[Precision] = ["float32", "bf16", "int8"]
    sides: list[tuple[str, Network]] = []
    left_out: list[str] = []
    for precision in wanted:
        if precision == "bf16" and precision not in native:
            left_out.append("bf16 is left out: this CPU does not compute it natively")
            continue
        try:
            for name in DECODING:
                network = prepare_network(_decoding(config, name), precision, lambda: draw(config, images))
                # What is certified is what later runs take.
                keep_network(config, network)
                sides.append((name, network))
        except PreflightError as error:
            if precision != "int8":
                raise
            left_out.append(f"int8 is left out: {error}")
    for sentence in left_out:
        job.console.warn(sentence)
    return sides, left_out


def _sample(job: Job, images: Listing) -> Sample:
    """Pictures drawn by seed, other ones than int8 is quantised on as far as there are others."""
    wanted = job.config.engine.certify
    order = np.random.default_rng(wanted.seed).permutation(images.rows)
    calibrating = drawn_order(job.config, images)[: job.config.engine.calibration_images]
    is_other = ~np.isin(order, calibrating)
    order = np.concatenate([order[is_other], order[~is_other]])[: wanted.images]
    rows = rows_at(images, np.sort(order)).to_pandas()
    most = job.config.decode.max_bytes

    def read(path: str) -> bytes | None:
        found = fetch(ImageSource(path), most, job.s3)
        return None if isinstance(found, ImageError) else found

    with ThreadPoolExecutor(THREADS) as pool, job.runlog.time("read"):
        contents = list(pool.map(read, rows[schema.PATH]))
    there = [content is not None for content in contents]
    return Sample(rows[there].reset_index(drop=True), [content for content in contents if content is not None])


def _embed(
    job: Job, sample: Sample, sides: list[tuple[str, Network]]
) -> tuple[npt.NDArray[np.bool_], list[npt.NDArray[np.float64]], list[float]]:
    """Which pictures every side embeds, their features by each, and the seconds that each took for these."""
    batch_bytes = job.config.engine.batch_bytes
    embedders = [Embedder(spec_of(network, _cores(), batch_bytes), network.files) for _, network in sides]
    names = [f"{network.engine} {network.embedding.precision} {name}" for name, network in sides]
    made = [Side(name, embedder) for name, embedder in zip(names, embedders, strict=True)]
    done = 0
    with job.console.track(len(sample.contents), lambda: (done, 0), "measuring") as refresh:
        for number in embed_in_turn(made, sample.contents):
            done = number
            refresh()
    whole = np.logical_and.reduce([side.embedded for side in made])
    features = [side.features(whole).astype(np.float64) for side in made]
    return whole, features, [side.seconds * float(whole.mean()) for side in made]


def _judge(
    config: Config, rows: pd.DataFrame, embedded: list[npt.NDArray[np.float64]]
) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
    """The number of components, what is said of each side but the reference, and on which labels."""
    reference, *others = embedded
    most = min(len(rows) - 1, reference.shape[1])
    components = min(config.reduce.components or components_for(reference, config.reduce.variance), most)
    judged = [fidelity(reference, one, components).to_json() for one in others]
    labels, kept = _labelled(config, rows)
    if kept is None:
        return components, [{**one, "classifier": None} for one in judged], labels
    known, groups = rows[schema.LABEL][kept].tolist(), labels.pop("groups_of")
    folds = folds_of(known, groups, config.engine.certify.seed)
    right = [right_answers(one[kept], known, folds, min(components, int(kept.sum()) - 1)) for one in embedded]
    labels["accuracy"] = float(right[0].mean())
    seed = config.engine.certify.seed
    changes = [change(right[0], one, groups, seed).to_json() for one in right[1:]]
    return components, [{**one, "classifier": lost} for one, lost in zip(judged, changes, strict=True)], labels


def _labelled(config: Config, rows: pd.DataFrame) -> tuple[dict[str, Any], npt.NDArray[np.bool_] | None]:
    """What is said of the labels, and which rows a classifier can be judged on; None: on none, and why."""
    counts = rows[schema.LABEL].map(rows[schema.LABEL].value_counts())
    kept = (counts >= 2).to_numpy()
    if rows[schema.LABEL][kept].nunique() < 2:
        return {"why_not": "fewer than two labels have two pictures or more in the sample"}, None
    by, warnings = config.classify.group_by, list[str]()
    groups = group_rows(rows[kept], by, warnings) if by else rows[schema.PATH][kept].tolist()
    try:
        folds_of(rows[schema.LABEL][kept].tolist(), groups, config.engine.certify.seed)
    except TrainingError as error:
        return {"why_not": str(error)}, None
    told = {"pictures": int(kept.sum()), "classes": int(rows[schema.LABEL][kept].nunique())}
    return {**told, "groups": len(set(groups)), "groups_of": groups}, kept


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
