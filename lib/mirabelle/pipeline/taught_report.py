"""The page of a network that was taught: its judgement, its rounds, the views it saw, where it looked. Driver only."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from mirabelle import schema
from mirabelle.evaluation import FOLD, SIDE
from mirabelle.finetune import Epoch, Pictures, Taught, attention, augmented
from mirabelle.network import backbones
from mirabelle.network.embedding import NORMALISATIONS
from mirabelle.network.engines import normalise
from mirabelle.pipeline.compare import compared
from mirabelle.pipeline.flattery import flattered, predictions_of
from mirabelle.pipeline.job import Job
from mirabelle.pipeline.report import confused, evaluation, rejects_of
from mirabelle.report import Learning, Looked, Picture, ReportContents, Views, render
from mirabelle.storage import join

VIEWS = 8
LOOKED_PX = 128
# Of right answers, and of wrong ones.
LOOKED = 6


def report_taught(
    job: Job,
    taught: Taught,
    pictures: Pictures,
    frame: pd.DataFrame,
    rejects: Sequence[dict[str, Any]],
    facts: dict[str, Any],
    history: Sequence[Epoch],
) -> None:
    """Write ``report/<id>/index.html`` of a network that was taught.

    Args:
        job: of the run.
        taught: with the weights that were chosen.
        pictures, frame: its pictures, by position.
        rejects: rows of those that are bad.
        facts: as they stand in ``finetuned.json``.
        history: all rounds.
    """
    learning = Learning(
        [asdict(epoch) for epoch in history],
        facts["best_epoch"],
        facts["parameters"],
        facts["trainable_parameters"],
        _views(job, pictures, frame),
        _looked(job, taught, pictures, frame),
    )
    manifest = {**job.runlog.manifest, "status": "failed" if job.failed_bars else "done"}
    learnt = frame[frame[SIDE] == "train"].drop(columns=[SIDE, FOLD])
    contents = ReportContents(
        title=job.config.report.title
        or f"{facts['estimator']} on pictures in {job.root or job.config.images.manifest}",
        manifest=manifest,
        rejects=rejects_of(job, rejects),
        rejects_total=len(rejects),
        scree=None,
        scatter=None,
        neighbours=(),
        evaluation=replace(evaluation(facts), flattered=flattered(predictions_of(job, facts), learnt)),
        confused=confused(job, facts),
        notes=[*job.failed_bars, *job.runlog.manifest.get("warnings", [])],
        learning=learning,
        compared=compared(job),
    )
    path = join(job.folder("report"), "index.html")
    job.store.write(path, render(contents).encode())
    job.runlog.update(report=path)
    job.summary.append(("report", path))


def _views(job: Job, pictures: Pictures, frame: pd.DataFrame) -> Views | None:
    """The first picture and some views of it, as the network sees them."""
    settings = job.config.finetune
    whole = [position for position in range(len(frame)) if position not in pictures.errors]
    if not settings.augment.enabled or not whole:
        return None
    pixels = pictures.rows[np.array(whole[:1])][0]
    drawn = [
        augmented(pixels, settings.augment, np.random.default_rng((settings.seed, number)), job.config.decode.ground)
        for number in range(VIEWS)
    ]
    row = frame.iloc[whole[0]]
    return Views(Picture(row[schema.PATH], row[schema.LABEL], _webp(pixels)), [_webp(view) for view in drawn])


def _looked(job: Job, taught: Taught, pictures: Pictures, frame: pd.DataFrame) -> list[Looked]:
    """Pictures that were judged, wrong ones first, each with where the network looked; nothing without TensorFlow."""
    if backbones.import_keras().backend.backend() != "tensorflow":
        return []
    columns = [schema.PATH, schema.PREDICTED, schema.PROBABILITIES]
    said = job.read_parquet(job.folder("predictions"), columns).to_pandas()
    said["probability"] = [max(one) for one in said[schema.PROBABILITIES]]
    found = frame.reset_index(names="position").merge(said.drop(columns=schema.PROBABILITIES), on=schema.PATH)
    found = found.sort_values("probability", ascending=False, kind="stable")
    is_right = found[schema.PREDICTED] == found[schema.LABEL]
    # Not all of one kind.
    wrong = found[~is_right].groupby([schema.LABEL, schema.PREDICTED]).head(3).head(LOOKED)
    right = found[is_right].groupby(schema.LABEL).head(3).head(LOOKED)
    chosen = pd.concat([wrong, right])
    if not len(chosen):
        return []
    pixels = pictures.rows[chosen["position"].to_numpy(np.int64)]
    heat = attention(taught.model, taught.row.layer, normalise(pixels, NORMALISATIONS[taught.row.normalisation]))
    return [
        Looked(
            Picture(row[schema.PATH], row[schema.LABEL], _webp(picture)),
            _webp(_warmed(picture, warm)),
            row[schema.PREDICTED],
            float(row["probability"]),
        )
        for row, picture, warm in zip(chosen.to_dict("records"), pixels, heat, strict=True)
    ]


def _warmed(pixels: npt.NDArray[np.uint8], heat: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """A picture in grey, coloured where the network looked."""
    side = len(pixels)
    large = Image.fromarray(heat, "F").resize((side, side), Image.Resampling.BICUBIC)
    share = np.clip(np.asarray(large), 0, 1)[..., None] * 0.75
    grey = pixels.mean(axis=2, keepdims=True)
    colour = np.array([235, 80, 20], np.float32)
    return np.asarray(np.clip(grey * (1 - share) + colour * share, 0, 255), np.uint8)


def _webp(pixels: npt.NDArray[np.uint8]) -> bytes:
    picture = Image.fromarray(pixels)
    picture.thumbnail((LOOKED_PX, LOOKED_PX), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=80)
    return file.getvalue()
