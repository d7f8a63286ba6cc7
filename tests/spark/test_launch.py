"""The JVM started: by a user without a name, in locales that are not UTF-8, with settings from everywhere."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from mirabelle.errors import PreflightError
from mirabelle.spark.session import check_names

# Writes a table with Spark to the path it is given, through a session of ours.
WRITING = """
import sys
from mirabelle.spark.session import open_context, session_on
with open_context({"spark.master": "local[1]", "spark.ui.enabled": "false"}) as context:
    spark = session_on(context)
    spark.range(3).write.parquet(sys.argv[1])
    print(spark.read.parquet(sys.argv[1]).count())
"""


def written(target: Path, before: tuple[str, ...] = (), **environment: str) -> str:
    done = subprocess.run(
        [*before, sys.executable, "-c", WRITING, str(target)],
        check=False,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.long
@pytest.mark.parametrize(
    "name", ["C", pytest.param("POSIX", marks=pytest.mark.full), pytest.param("xx_YY.UTF-8", marks=pytest.mark.full)]
)
def test_names_are_written_as_they_are_whatever_the_locale(name: str, tmp_path: Path) -> None:
    assert written(tmp_path / "größe 木", LC_ALL=name) == "3"
    assert [path.name for path in tmp_path.iterdir()] == ["größe 木"]


@pytest.mark.long
def test_a_user_id_without_a_name_and_a_home_runs_spark() -> None:
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0 or setpriv is None:
        pytest.skip("only root can be another user")
    # Reading is allowed, as this Python may be in root's own folder; a name and a home there are not.
    alone = (
        setpriv,
        "--reuid=54321",
        "--clear-groups",
        "--inh-caps=+dac_read_search",
        "--ambient-caps=+dac_read_search",
    )
    # pytest's own folder is root's alone.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        assert written(Path(folder) / "table", (*alone, "env", "-u", "HOME")) == "3"


TELLING = """
from mirabelle.spark.session import open_context
settings = {"spark.master": "local[1]", "spark.ui.enabled": False, "spark.x": "ours", "spark.y": "ours"}
with open_context(settings, coordinates=True) as context:
    conf, system = context.getConf(), context._jvm.java.lang.System
    print(*(conf.get(f"spark.{name}") for name in ("master", "x", "y", "z", "broadcast.compress")))
    print(*(system.getProperty(name) for name in ("one", "two", "log4j2.configurationFile")))
"""


def test_settings_of_all_origins_come_together(tmp_path: Path) -> None:
    """Defaults, over them the configuration, over it what is submitted; options of Java are added up."""
    (tmp_path / "spark-defaults.conf").write_text("""
spark.driver.extraJavaOptions -Done=1 -Dtwo='2 3' -XX:+UseG1GC
spark.broadcast.compress true
spark.x theirs
spark.z theirs
""")
    told = subprocess.run(
        [sys.executable, "-c", TELLING],
        check=True,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "SPARK_CONF_DIR": str(tmp_path),
            "PYSPARK_SUBMIT_ARGS": "--master local[2] --conf spark.y=submitted pyspark-shell",
        },
    )
    settings, properties = told.stdout.splitlines()
    assert settings == "local[2] ours submitted theirs true"
    assert properties.startswith("1 2 3 file:/")
    assert properties.endswith("log4j2.properties")


def test_a_jvm_that_writes_other_names_is_refused_before_it_writes(spark: SparkSession) -> None:
    jvm = spark.sparkContext._jvm
    assert jvm is not None
    system = jvm.java.lang.System
    before = system.getProperty("sun.jnu.encoding")
    check_names(spark.sparkContext, "/results/größe")
    system.setProperty("sun.jnu.encoding", "ANSI_X3.4-1968")
    try:
        check_names(spark.sparkContext, "/results/size")
        with pytest.raises(PreflightError, match=r"writes names in ANSI_X3\.4-1968, .*größe.*; set LC_ALL to C\.UTF-8"):
            check_names(spark.sparkContext, "/results/größe")
    finally:
        system.setProperty("sun.jnu.encoding", before)
