"""A job for YARN or a standalone cluster: a spark-submit here. [disk; starts spark-submit]"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from mirabelle.cluster.job import PYTHON, Job
from mirabelle.config import Config
from mirabelle.errors import ConfigError, PreflightError
from mirabelle.storage import is_s3
from mirabelle.storage.paths import EMR_MARK

# What jobs that write to buckets are told, by the Spark that they are submitted to.
FOR_BUCKETS = {"3.5": "spark-s3-3.5.conf", "4.0": "spark-s3-4.0.conf", "4.1": "spark-s3.conf"}


def find_spark_submit() -> str:
    """The first on PATH, else this environment's own."""
    program = shutil.which("spark-submit") or str(Path(sys.executable).with_name("spark-submit"))
    if not Path(program).is_file():
        raise ConfigError("there is no spark-submit on PATH; install Spark, or mirabelle[spark]")
    return program


def spark_submit_words(program: str, config: Config, job: Job, given: Mapping[str, str]) -> list[str]:
    """A spark-submit: YARN in cluster mode, standalone with the driver here.

    Args:
        program: as ``find_spark_submit`` found it.
        config: its ``spark`` part goes before all else.
        job: what is run, and how large.
        given: further properties of Spark's.
    """
    wanted = config.submit
    properties = {**job.properties, **given}
    files = job.files
    if wanted.to == "yarn":
        words = [program, "--master", "yarn", "--deploy-mode", "cluster", "--files", files.config]
        properties |= {"spark.pyspark.python": PYTHON, "spark.yarn.maxAppAttempts": "1"}
        arguments = ["--config", Path(files.config).name, *job.arguments[2:]]
    else:
        # The driver is this Python, and its network comes from the cache here.
        words = [program, "--master", str(wanted.master)]
        properties |= {"spark.pyspark.python": PYTHON, "spark.pyspark.driver.python": sys.executable}
        properties["spark.archives"] = properties["spark.archives"].partition(",")[0]
        properties["spark.cores.max"] = str(job.size.executors * job.size.cores)
        arguments = ["--config", files.config, "--set", f"cache={config.cache}"]
    words += ["--py-files", files.zipped, "--name", job.name]
    del properties["spark.submit.pyFiles"]
    for key, value in {**properties, **_spark_properties(config)}.items():
        words += ["--conf", f"{key}={value}"]
    return [*words, files.script, *arguments]


def properties_for_buckets(program: str, folder: Path, config: Config, reads_and_writes: bool) -> dict[str, str]:
    """What lets Spark itself read and write the output, where that is a bucket; on EMR it does already.

    Args:
        program: the spark-submit, which is asked for its version.
        folder: where the ``spark-s3*.conf`` are.
        config: names packages of its own, or not.
        reads_and_writes: whether the job has a stage in which Spark does; embedding is done by our own stores.

    Raises:
        PreflightError: it is a Spark for which none is known.
    """
    known = "spark.jars" in config.spark or "spark.jars.packages" in config.spark
    if not reads_and_writes or known or not is_s3(config.output) or os.path.isdir(EMR_MARK):
        return {}
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r"version (\d+\.\d+)", told)
    version = found[1] if found else "unknown"
    if version not in FOR_BUCKETS:
        raise PreflightError(
            f"{program} is of Spark {version}, and what Spark needs for buckets is known of {', '.join(FOR_BUCKETS)};"
            " set spark.jars.packages as conf/spark-s3.conf does"
        )
    lines = (folder / FOR_BUCKETS[version]).read_text(encoding="utf-8").splitlines()
    pairs = (line.split(None, 1) for line in lines if line.strip() and not line.startswith("#"))
    return {key: value.strip() for key, value in pairs}


def _spark_properties(config: Config) -> dict[str, str]:
    """What the configuration itself says of Spark goes before the sizes reckoned here."""
    told = {key: str(value) for key, value in config.spark.items() if key != "spark.master"}
    return {key: value.lower() if value in ("True", "False") else value for key, value in told.items()}


def run_here(words: list[str]) -> int:
    """spark-submit, whose output is shown as it comes; the job's own exit code, which cluster mode hides in a line."""
    code = None
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace") as run:
        assert run.stdout is not None
        for line in run.stdout:
            sys.stderr.write(line)
            if found := re.search(r"exit code (\d+): ", line):
                code = int(found[1])
    return code if run.returncode and code is not None else run.returncode
