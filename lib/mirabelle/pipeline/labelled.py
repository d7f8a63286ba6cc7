"""Labelled pictures, parted and decoded, ready to teach a network. Driver only."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mirabelle import schema
from mirabelle.decode import DecodeOptions
from mirabelle.errors import ConfigError, TrainingError
from mirabelle.evaluation import FOLD, SIDE, Sides, choose_sides
from mirabelle.finetune import Pictures, read_pictures
from mirabelle.listing import Listing
from mirabelle.network.preparing import check_room
from mirabelle.pipeline.job import Job
from mirabelle.storage import join
from mirabelle.worker.fetching import ImageSource

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Labelled:
    """Labelled pictures, by their position: what is learnt from, and what is judged on.

    Attributes:
        frame: ``path, size_bytes, etag, label, split``, further label columns, ``_side``, ``_fold``, by path.
        sides: how they were parted.
        labels: those that are learnt, then those that are judged on alone.
        pictures: decoded.
        rejects: rows of those that cannot be.
        numbers: int64, each row's label.
        train, validation, test: positions of whole pictures.
    """

    frame: pd.DataFrame
    sides: Sides
    labels: tuple[str, ...]
    pictures: Pictures
    rejects: list[dict[str, Any]]
    numbers: Ints
    train: Ints
    validation: Ints
    test: Ints


def choose_rows(job: Job, images: Listing) -> tuple[pd.DataFrame, Sides]:
    """The rows of the listing that are learnt from or judged on, by path."""
    settings, classify = job.config.finetune, job.config.classify
    about = images.table.to_pandas()
    if settings.label not in (schema.LABEL, *images.extra_labels):
        raise ConfigError(
            f"finetune.label {settings.label!r} is none of the label columns"
            f" {[schema.LABEL, *images.extra_labels]}; see images.layout and labels.table"
        )
    if settings.label != schema.LABEL:
        about = about.rename(columns={schema.LABEL: "_other", settings.label: schema.LABEL}).drop(columns="_other")
    folds = max(2, round(1 / settings.validation_share)) if settings.validation_share else 0
    sides = choose_sides(about, replace(classify.split_by(), folds=folds))
    for warning in sides.warnings:
        job.console.warn(warning)
    job.runlog.update(warnings=[*job.runlog.manifest.get("warnings", []), *sides.warnings])
    frame = about.merge(sides.frame, on=schema.PATH, validate="one_to_one").sort_values(schema.PATH, ignore_index=True)
    job.console.say(sides.description)
    return frame, sides


def read_labelled(job: Job, frame: pd.DataFrame, sides: Sides, size_px: int, options: DecodeOptions) -> Labelled:
    """Decode all pictures once, and put the bad ones away as rejects."""
    sources = [
        ImageSource(row[schema.PATH], _known(row[schema.SIZE_BYTES]), row[schema.ETAG] or None)
        for row in frame[[schema.PATH, schema.SIZE_BYTES, schema.ETAG]].to_dict("records")
    ]
    check_room(Path(job.scratch), 3 * size_px**2 * len(frame), "keeping the decoded pictures", "TMPDIR")
    done = [0, 0]

    def more(number: int, bad: int) -> None:
        done[0] += number - bad
        done[1] += bad
        refresh()

    with (
        job.runlog.time("read"),
        job.console.track(len(frame), lambda: (done[0], done[1]), "reading") as refresh,
    ):
        pictures = read_pictures(sources, size_px, options, job.s3, job.scratch, more)
    rejects = _rejects(job, frame, pictures)
    labels = (*sides.labels, *sides.unseen)
    place = {label: i for i, label in enumerate(labels)}
    numbers: Ints = np.array([place[label] for label in frame[schema.LABEL]], np.int64)
    whole = ~frame.index.isin(list(pictures.errors))
    train, test = ((frame[SIDE] == side).to_numpy() & whole for side in ("train", "test"))
    aside = train & (frame[FOLD] == 0).to_numpy()
    parts: list[Ints] = [np.flatnonzero(part).astype(np.int64) for part in (train & ~aside, aside, test)]
    missing = sorted(set(sides.labels) - set(frame.loc[parts[0], schema.LABEL]))
    if missing or not len(parts[2]):
        what = f"no picture of {missing[0]!r} is left to learn from" if missing else "no picture is left to judge on"
        raise TrainingError(f"{what}; look at the rejects, at finetune.validation_share and at classify.group_by")
    return Labelled(frame, sides, labels, pictures, rejects, numbers, *parts)


def _known(size: Any) -> int | None:
    return None if size is None or np.isnan(size) else int(size)


def _rejects(job: Job, frame: pd.DataFrame, pictures: Pictures) -> list[dict[str, Any]]:
    """Bad pictures are rows of ``finetuned/<id>/rejects.parquet``, and too many of them fail the run's bar."""
    rows = [
        {
            schema.PATH: frame.at[position, schema.PATH],
            schema.STAGE: error.stage.value,
            schema.CODE: error.code.value,
            schema.DETAIL: error.detail,
            schema.SIZE_BYTES: _known(frame.at[position, schema.SIZE_BYTES]),
        }
        for position, error in sorted(pictures.errors.items())
    ]
    job.runlog.update(counts={"listed": len(frame), "read": len(frame) - len(rows), "rejected": len(rows)})
    if not rows:
        return rows
    put_table(job, join(job.folder("finetuned"), "rejects.parquet"), pa.Table.from_pylist(rows))
    job.runlog.update(rejects_by_code=pd.Series([row[schema.CODE] for row in rows]).value_counts().to_dict())
    job.console.warn(f"{len(rows):,} pictures cannot be read: finetuned/{job.runlog.run_id}/rejects.parquet says why")
    share, most = len(rows) / len(frame), job.config.limits.max_reject_share
    if share > most:
        job.failed_bars.append(f"{share:.1%} of the pictures were rejected; limits.max_reject_share is {most:.1%}")
    return rows


def put_table(job: Job, path: str, table: pa.Table) -> None:
    """Write a table as one Parquet file."""
    file = io.BytesIO()
    pq.write_table(table, file)
    job.store.write(path, file.getvalue())
