"""What is checked before Spark is started; that it starts, and with what, is in tests/spark/test_preflight.py."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mirabelle.errors import PreflightError
from mirabelle.spark import session
from mirabelle.spark.jvm import check_java, java_options
from other_user import where_mounted_read_only

pytestmark = pytest.mark.slow


def make_java(folder: Path, mode: int = 0o755) -> Path:
    """A stand-in for java in ``folder/bin``."""
    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text("#!/bin/sh\n")
    java.chmod(mode)
    return java


def test_java_is_the_one_in_java_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, elsewhere = make_java(tmp_path / "home"), make_java(tmp_path / "elsewhere")
    monkeypatch.setenv("PATH", str(elsewhere.parent))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    assert check_java() == str(home)


@pytest.mark.parametrize("home", [None, ""])
def test_without_java_home_java_is_the_first_on_the_path(
    home: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    java = make_java(tmp_path)
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path), str(java.parent)]))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    if home is not None:
        monkeypatch.setenv("JAVA_HOME", home)
    assert check_java() == str(java)


@pytest.mark.parametrize("executable", [None, 0o644])
def test_a_java_home_without_java_is_named(
    executable: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spark would use JAVA_HOME, whatever is on the path."""
    if executable is not None:
        make_java(tmp_path / "home", executable)
    monkeypatch.setenv("PATH", str(make_java(tmp_path / "elsewhere").parent))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    with pytest.raises(PreflightError) as raised:
        check_java()
    sentence = str(raised.value)
    assert f"JAVA_HOME is {tmp_path / 'home'} and holds no java" in sentence
    assert "Spark 4.1.2 needs Java 17 or 21" in sentence
    assert "\n" not in sentence


def test_no_java_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(
        PreflightError, match=r"^there is no java; Spark 4\.1\.2 needs Java 17 or 21: install one, or set"
    ):
        check_java()


def in_a_process(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, **environment}
    )
    return done.stdout.strip()


def test_without_pyspark_the_sentence_names_the_extra() -> None:
    code = """
import sys
sys.modules["pyspark"] = None
from mirabelle.errors import PreflightError
from mirabelle.spark.session import open_context
try:
    with open_context({}):
        print("opened")
except PreflightError as error:
    print(error)
"""
    told = in_a_process(code)
    assert "pyspark cannot be imported" in told
    assert "install mirabelle[spark], or use spark-submit" in told
    assert "\n" not in told


def test_java_is_looked_for_before_spark_is_started(tmp_path: Path) -> None:
    code = """
from mirabelle.errors import PreflightError
from mirabelle.spark.session import open_context
from pyspark import SparkContext
try:
    with open_context({"spark.master": "local[1]"}):
        print("opened")
except PreflightError as error:
    print(error, SparkContext._gateway)
"""
    told = in_a_process(code, JAVA_HOME=str(tmp_path))
    assert told == (
        f"JAVA_HOME is {tmp_path} and holds no java; Spark 4.1.2 needs Java 17 or 21: install one, or set JAVA_HOME to"
        " it None"
    )


def test_the_module_needs_no_spark_to_be_imported() -> None:
    code = "import sys, mirabelle.spark.session; print({'pyspark', 'py4j', 'numpy', 'pydantic'} & set(sys.modules))"
    assert in_a_process(code) == "set()"


def test_nothing_of_a_place_is_in_the_settings_that_always_hold() -> None:
    """Masters, memory and endpoints come from the configuration or from spark-submit."""
    about_a_place = ("master", "memory", "endpoint", "cores", "instances", "fs.s3a", "host", "port")
    assert not [key for key in session.NEEDED if any(word in key for word in about_a_place)]
    assert session.NEEDED["spark.ui.showConsoleProgress"] == "false"


def options_of(cache: Path, coordinates: bool = True) -> list[str]:
    return shlex.split(java_options("/no/jvm/bin/java", cache, coordinates))


def test_the_first_jvm_leaves_an_archive_of_its_classes_and_later_ones_start_from_it(tmp_path: Path) -> None:
    cache = tmp_path / "with a blank"
    (leaves,) = [option for option in options_of(cache) if "Archive" in option]
    name, _, file = leaves.partition("=")
    assert name == "-XX:ArchiveClassesAtExit"
    Path(file).write_bytes(b"classes")
    assert not any("Archive" in option for option in options_of(cache)), "it may be still being written"
    os.utime(file, (0, 0))
    (starts,) = [option for option in options_of(cache) if "Archive" in option]
    name, _, archive = starts.partition("=")
    assert name == "-XX:SharedArchiveFile"
    assert Path(archive).read_bytes() == b"classes"
    assert not Path(file).exists()


def test_a_jvm_that_computes_is_left_to_compile_well(tmp_path: Path) -> None:
    assert "-XX:TieredStopAtLevel=1" in options_of(tmp_path)
    assert "-XX:TieredStopAtLevel=1" not in options_of(tmp_path, coordinates=False)


def test_a_collector_of_the_users_own_takes_the_place_of_ours() -> None:
    assert "-XX:+UseSerialGC" in java_options("/no/jvm/bin/java", None, True, "-Xlog:gc -XX:GCTimeRatio=9")
    assert "-XX:+UseSerialGC" not in java_options("/no/jvm/bin/java", None, True, "-Xmx1g -XX:+UseG1GC")


def test_a_cache_that_cannot_be_written_costs_only_the_archive(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not any("Archive" in option for option in options_of(tmp_path / "file"))


def test_no_archive_is_left_in_a_folder_that_cannot_be_written_and_one_that_is_there_is_used(tmp_path: Path) -> None:
    """The JVM would say so at its end, in two lines on standard output."""
    (tmp_path / "jvm").mkdir()
    code = (
        "from pathlib import Path; from mirabelle.spark.jvm import java_options;"
        f"print(java_options('/no/jvm/bin/java', Path({str(tmp_path)!r}), True))"
    )
    assert "Archive" not in where_mounted_read_only(tmp_path, code)
    (leaves,) = [option for option in options_of(tmp_path) if "ArchiveClassesAtExit" in option]
    stem = Path(leaves.partition("=")[2]).name.partition("-")[0]
    archive = tmp_path / "jvm" / f"{stem}.jsa"
    archive.write_bytes(b"classes")
    assert f"-XX:SharedArchiveFile={archive}" in where_mounted_read_only(tmp_path, code)
