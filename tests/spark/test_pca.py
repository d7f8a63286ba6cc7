"""PCA on the executors: trees of sums, saved moments, sketches, and the Spark ML model beside them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.ml import PipelineModel
from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from conftest import draw
from histories import STORE, History
from mirabelle.config import load
from mirabelle.console import Console
from mirabelle.networks import Network
from mirabelle.pipeline import Job, execute
from mirabelle.pipeline import reduce as stage
from mirabelle.reducing import Reading
from mirabelle.reduction import Moments, Projection, fit
from mirabelle.selection import select_rows
from mirabelle.stages.gather import approximate, gather_moments

KINDS = ("amber", "beryl", "coral")


@pytest.fixture
def history(pictures: Path, tmp_path: Path, network: Network) -> History:
    """One run of 54 pictures in 22 files."""
    made = History(pictures, tmp_path / "output", network, chunk_images=5)
    made.extract()
    return made


def reduce(history: History, spark: SparkSession, *settings: str) -> tuple[Job, dict[str, Any]]:
    """Run PCA on a history, whose network is none that a configuration could ask for."""
    parts = history.network.embedding
    given = ["images.root=.", f"output={history.output}", f"reduce.components={parts.width}", *settings]
    job = execute(load(None, given, {}), ["reduce"], "run", Console(quiet=True))
    return job, json.loads((Path(job.folder("pca")) / "pca.json").read_text())
