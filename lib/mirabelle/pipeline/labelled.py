"""Labelled pictures, parted and decoded, ready to teach a network. Driver only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from mirabelle import schema
from mirabelle.config import Config
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
        frame: ``path, size_bytes, etag, label, split``, further label columns, ``_side``, ``_fold``, by path; of bad
            pictures, and of those that are neither learnt from nor judged on, without a side.
        sides: how they were parted.
        labels: those that are learnt, then those that are judged on alone.
        pictures: decoded.
        rejects: rows of those that cannot be.
        numbers: int64, each row's label; -1: none of them.
        train, validation, test: positions.
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


def labelled_rows(config: Config, images: Listing) -> pd.DataFrame:
    """The rows of the listing that have the label that is to be learnt, by path.

    Raises:
        ConfigError: it is none of the label columns.
    """
    wanted = config.finetune.label
    if wanted not in (schema.LABEL, *images.extra_labels):
        raise ConfigError(
            f"finetune.label {wanted!r} is none of the label columns {[schema.LABEL, *images.extra_labels]}; see"
            " images.layout and labels.table"
        )
    rows: pd.DataFrame = images.table.to_pandas()
    if wanted != schema.LABEL:
        rows = rows.rename(columns={schema.LABEL: "_other", wanted: schema.LABEL}).drop(columns="_other")
    known: pd.DataFrame = rows[rows[schema.LABEL].notna()]
    return known.sort_values(schema.PATH, ignore_index=True)


def choose(config: Config, rows: pd.DataFrame) -> Sides:
    """Which of some rows are learnt from, with folds, the first of which is set aside; as ``train`` would have it."""
    share = config.finetune.validation_share
    folds = max(2, round(1 / share)) if share else 0
    return choose_sides(rows, replace(config.classify.split_by(), folds=folds))


def read_labelled(job: Job, rows: pd.DataFrame, size_px: int, options: DecodeOptions) -> Labelled:
    """Decode all pictures once, put the bad ones away as rejects, and part the others.

    What features are made of are the whole pictures, too: so both are parted alike.
    """
    sources = [
        ImageSource(row[schema.PATH], _known(row[schema.SIZE_BYTES]), row[schema.ETAG] or None)
        for row in rows[[schema.PATH, schema.SIZE_BYTES, schema.ETAG]].to_dict("records")
    ]
    check_room(Path(job.scratch), 3 * size_px**2 * len(rows), "keeping the decoded pictures", "TMPDIR")
    done = [0, 0]

    def more(number: int, bad: int) -> None:
        done[0] += number - bad
        done[1] += bad
        refresh()

    with (
        job.runlog.time("read"),
        job.console.track(len(rows), lambda: (done[0], done[1]), "reading") as refresh,
    ):
        pictures = read_pictures(sources, size_px, options, job.s3, job.scratch, more)
    rejects = _rejects(job, rows, pictures)
    whole = ~rows.index.isin(list(pictures.errors))
    sides = choose(job.config, rows[whole])
    for warning in sides.warnings:
        job.console.warn(warning)
    job.runlog.update(warnings=[*job.runlog.manifest.get("warnings", []), *sides.warnings])
    job.console.say(sides.description)
    labels = (*sides.labels, *sides.unseen)
    place = {label: i for i, label in enumerate(labels)}
    numbers: Ints = np.array([place.get(label, -1) for label in rows[schema.LABEL]], np.int64)
    frame = rows.merge(sides.frame, on=schema.PATH, how="left", validate="one_to_one")
    train, test = ((frame[SIDE] == side).to_numpy() for side in ("train", "test"))
    aside = train & (frame[FOLD] == 0).to_numpy()
    parts: list[Ints] = [np.flatnonzero(part).astype(np.int64) for part in (train & ~aside, aside, test)]
    missing = sorted(set(sides.labels) - set(frame.loc[parts[0], schema.LABEL]))
    if missing:
        raise TrainingError(
            f"all pictures of {missing[0]!r} to learn from would be set aside; look at finetune.validation_share and at"
            " classify.group_by"
        )
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
    job.write_table(join(job.folder("finetuned"), "rejects.parquet"), pa.Table.from_pylist(rows))
    job.runlog.update(rejects_by_code=pd.Series([row[schema.CODE] for row in rows]).value_counts().to_dict())
    job.console.warn(f"{len(rows):,} pictures cannot be read: finetuned/{job.runlog.run_id}/rejects.parquet says why")
    share, most = len(rows) / len(frame), job.config.limits.max_reject_share
    if share > most:
        job.failed_bars.append(f"{share:.1%} of the pictures were rejected; limits.max_reject_share is {most:.1%}")
    return rows
