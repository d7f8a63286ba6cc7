"""One Spark session of two cores for all tests here, and pipelines small enough to run often."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from conftest import SMALL
from mirabelle.config import load
from mirabelle.console import Console
from mirabelle.pipeline import Job, execute
from mirabelle.pipeline.running import STAGES
from mirabelle.spark.session import open_context, session_on

SETTINGS = {
    "spark.master": "local[2]",
    "spark.ui.enabled": "false",
    "spark.sql.shuffle.partitions": "2",
    "spark.driver.memory": "2g",
    # The workers' Python is this one, with the tests' own modules beside it.
    "spark.executorEnv.PYTHONPATH": str(Path(__file__).parents[1]),
}


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    with open_context(SETTINGS) as context:
        yield session_on(context)


@pytest.fixture
def pipeline(spark: SparkSession, pictures: Path, tmp_path: Path, cache: Path) -> Callable[..., Job]:
    """Run some stages on ``pictures``; settings are added to, or take the place of, the small ones."""

    def run(*settings: str, stages: Sequence[str] = STAGES) -> Job:
        given = [f"images.root={pictures}", f"output={tmp_path / 'output'}", f"cache={cache}", *SMALL, *settings]
        return execute(load(None, given, {}), stages, "run", Console(quiet=True))

    return run
