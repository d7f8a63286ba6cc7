"""Whether a classifier's figures flatter, by what its two sides share. Driver only; needs no Spark."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from mirabelle import schema
from mirabelle.evaluation import find_doubts
from mirabelle.pipeline.job import Job
from mirabelle.report import Flattered
from mirabelle.storage import join
from mirabelle.worker.embedder import as_matrix

# Cosines that are computed for a page: some twenty seconds on two cores.
MOST_PAIRS = 2 * 10**9


def flattered_by_features(job: Job, classifier: dict[str, Any], reduced: pa.Table | None) -> list[Flattered]:
    """Of a classifier on features: also by pictures that look almost the same.

    Args:
        job: of the run.
        classifier: its facts.
        reduced: the rows of the PCA, ``path, label``, label columns and ``reduced``; None: there is none.
    """
    if reduced is None or not len(reduced):
        return []
    rows = reduced.drop_columns([schema.REDUCED]).to_pandas()
    matrix = as_matrix(reduced[schema.REDUCED])
    said = predictions_of(job, classifier)
    judged = everything = said[said[schema.PATH].isin(rows[schema.PATH])]
    named = "images judged on"
    most = max(1, MOST_PAIRS // len(rows))
    if len(judged) > most:
        judged, named = judged.sample(most, random_state=job.config.classify.seed), "sampled images judged on"
    place = pd.Series(np.arange(len(rows)), index=rows[schema.PATH])
    learnt = rows[schema.LABEL].notna().to_numpy()
    learnt[place.loc[everything[schema.PATH]].to_numpy()] = False
    at = place.loc[judged[schema.PATH]].to_numpy()
    doubts = find_doubts(judged, rows[learnt], (matrix[at], matrix[learnt]), named)
    return [Flattered(one.sentence, one.accuracy, one.macro_f1) for one in doubts]


def flattered(judged: pd.DataFrame, learnt: pd.DataFrame) -> list[Flattered]:
    """What the page says, of the pictures judged on, their predictions with them, and those learnt from."""
    return [Flattered(one.sentence, one.accuracy, one.macro_f1) for one in find_doubts(judged, learnt)]


def predictions_of(job: Job, facts: dict[str, Any]) -> pd.DataFrame:
    """A classifier's predictions, without their probabilities."""
    table = job.read_parquet(join(job.output, "predictions", facts["id"]))
    frame: pd.DataFrame = table.drop_columns([schema.PROBABILITIES]).to_pandas()
    return frame
