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
from mirabelle.network.cached import check_room
from mirabelle.pipeline.job import Job
from mirabelle.pipeline.source import list_source
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
        others: of a step of a chain, positions of pictures of other steps that nothing was learnt from.
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
    others: Ints


def labelled_rows(config: Config, images: Listing) -> pd.DataFrame:
    """The rows of the listing that have the label that is to be learnt, by path; of a step, the chain's coarse label.

    Raises:
        ConfigError: it is none of the label columns.
    """
    rows: pd.DataFrame = images.table.to_pandas()
    known = [schema.LABEL, *images.extra_labels]
    if config.finetune.step is None:
        key, wanted = "finetune.label", config.labels.column(config.finetune.label)
    elif not config.classify.chain:
        raise ConfigError("finetune.step is a step of a chain; set classify.chain, too")
    else:
        key, (wanted, fine) = "classify.chain", map(config.labels.column, config.classify.chain)
        rows[schema.CHAIN_LABEL] = _column(rows, key, fine, known)
    rows[schema.LABEL] = _column(rows, key, wanted, known)
    if wanted != schema.LABEL:
        rows = rows.drop(columns=wanted)
    found: pd.DataFrame = rows[rows[schema.LABEL].notna()]
    return found.sort_values(schema.PATH, ignore_index=True)


def _column(rows: pd.DataFrame, key: str, name: str, known: list[str]) -> pd.Series:
    if name not in known:
        raise ConfigError(f"{key} {name!r} is none of the label columns {known}; see images.layout and labels.table")
    return rows[name]


def choose(config: Config, rows: pd.DataFrame) -> tuple[Sides, set[str]]:
    """Which of some rows are learnt from, with folds, the first of which is set aside; as ``train`` would have it.

    A step of a chain is parted as the whole chain is, and then has the rows of its own label alone. Gives, too, the
    paths of other steps' rows that are judged on or set aside.

    Raises:
        ConfigError: no such step.
        TrainingError: fewer than two labels to learn.
    """
    share, step = config.finetune.validation_share, config.finetune.step
    folds = max(2, round(1 / share)) if share else 0
    sides = choose_sides(rows, replace(config.classify.split_by(), folds=folds))
    if step is None:
        return sides, set()
    if step not in sides.labels:
        raise ConfigError(f"finetune.step {step!r} is none of {list(sides.labels)}, which the chain begins with")
    parted = rows.merge(sides.frame, on=schema.PATH, validate="one_to_one")
    own = parted[(parted[schema.LABEL] == step) & parted[schema.CHAIN_LABEL].notna()]
    by_side = {side: set(own.loc[own[SIDE] == side, schema.CHAIN_LABEL]) for side in ("train", "test")}
    if len(by_side["train"]) < 2 or not by_side["test"]:
        raise TrainingError(
            f"finetune.step {step!r} has {len(by_side['train'])} labels to learn and {len(by_side['test'])} to be"
            " judged on; it needs two of the first and one of the second"
        )
    held = (parted[SIDE] == "test") | (parted[FOLD] == 0)
    chosen = Sides(
        own[[schema.PATH, SIDE, FOLD]],
        f"{sides.description} Of {step} alone.",
        tuple(sorted(by_side["train"])),
        tuple(sorted(by_side["test"] - by_side["train"])),
        sides.warnings,
    )
    return chosen, set(parted.loc[held, schema.PATH]) - set(own[schema.PATH])


def pictures_of(job: Job, facts: dict[str, Any], held: set[str], finer: str | None = None) -> pd.DataFrame:
    """``path, label`` of what a taught network learnt from or chose its epoch by, listed anew, by path.

    Args:
        job: of another run, whose configuration is the one that it was taught with.
        facts: of the network.
        held: paths that it was judged on.
        finer: a further label, which becomes ``chain_label``.

    Raises:
        ConfigError, ListingError: the configuration does not say where the pictures or their labels are.
        TrainingError: they are others.
    """
    lesson = {key: facts["settings"][key] for key in ("label", "step", "validation_share")}
    config = job.config.model_copy(update={"finetune": job.config.finetune.model_copy(update=lesson)})
    if not config.images.root and not config.images.manifest:
        raise ConfigError(
            f"images.root is not set, and what {facts['id']} learnt from has to be listed anew; give images.root or"
            " images.manifest as when it was taught"
        )
    images = list_source(job)
    rows = labelled_rows(config, images)
    sides, _ = choose(config, rows)
    if list(sides.labels) != facts["labels"]:
        raise ConfigError(
            f"{facts['id']} was taught {facts['labels']}, and the configuration's pictures have {list(sides.labels)};"
            " give the configuration that it was taught with"
        )
    if config.finetune.step is not None:
        rows = rows.drop(columns=schema.LABEL).rename(columns={schema.CHAIN_LABEL: schema.LABEL})
    learnt = set(sides.frame.loc[sides.frame[SIDE] == "train", schema.PATH]) - held
    found: pd.DataFrame = rows.loc[rows[schema.PATH].isin(learnt), [schema.PATH, schema.LABEL]]
    if finer is not None:
        listed = images.table.to_pandas().set_index(schema.PATH)
        known = _column(listed, "classify.chain", config.labels.column(finer), [schema.LABEL, *images.extra_labels])
        known = known.loc[found[schema.PATH]]
        found[schema.CHAIN_LABEL] = [None if pd.isna(label) else label for label in known]
    return found.reset_index(drop=True)


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
    sides, others = choose(job.config, rows[whole])
    if job.config.finetune.step is not None:
        rows = rows.drop(columns=schema.LABEL).rename(columns={schema.CHAIN_LABEL: schema.LABEL})
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
    held = frame[schema.PATH].isin(others).to_numpy()
    learnt, validation, judged, elsewhere = (
        np.flatnonzero(part).astype(np.int64) for part in (train & ~aside, aside, test, held)
    )
    missing = sorted(set(sides.labels) - set(frame.loc[learnt, schema.LABEL]))
    if missing:
        raise TrainingError(
            f"all pictures of {missing[0]!r} to learn from would be set aside; look at finetune.validation_share and at"
            " classify.group_by"
        )
    return Labelled(frame, sides, labels, pictures, rejects, numbers, learnt, validation, judged, elsewhere)


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
