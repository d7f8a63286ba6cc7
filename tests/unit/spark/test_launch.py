"""What is said where the JVM does not start, and which Java is taken; JVMs' words are as OpenJDK 17 prints them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mirabelle.errors import PreflightError
from mirabelle.spark.jvm import JAVAS_OF_SPARK, check_java_version, user_name
from mirabelle.spark.launch import Overheard, explain, spark_defaults
from other_user import as_another_user

pytestmark = pytest.mark.slow

AGENT = """Picked up JAVA_TOOL_OPTIONS: -agentpath:/no/agent.so
Error occurred during initialization of VM
Could not find agent library /no/agent.so in absolute path, with error: /no/agent.so: cannot open shared object file
/spark/bin/spark-class: line 97: CMD: bad array subscript
"""
HOST = """WARNING: Using incubator modules: jdk.incubator.vector
Exception in thread "main" java.lang.ExceptionInInitializerError
	at org.apache.spark.util.Utils$.<clinit>(Utils.scala:1)
Caused by: java.net.UnknownHostException: box: box: Name or service not known
	... 10 more
"""
OLD = """Error: LinkageError occurred while loading main class org.apache.spark.launcher.Main
	java.lang.UnsupportedClassVersionError: org/apache/spark/launcher/Main has been compiled by a more recent version
"""


@pytest.mark.parametrize(
    ("said", "reason", "way_out"),
    [
        (AGENT, "Could not find agent library /no/agent.so", "mend JAVA_TOOL_OPTIONS or spark.driver.extraJavaOptions"),
        (HOST, "java.net.UnknownHostException: box: box: Name or service not known", "set SPARK_LOCAL_IP to 127.0.0.1"),
        (OLD, "java.lang.UnsupportedClassVersionError: org/apache/spark", "install one, or set JAVA_HOME to it"),
        ("Error occurred during initialization of VM\nToo small maximum heap\n", "Too small maximum heap", "memory"),
        ("Invalid maximum heap size: -Xmx9z\nError: Could not create the Java Virtual Machine.\n", "Invalid", "memory"),
        ("", "the JVM ended without a word", "check spark.master"),
    ],
)
def test_the_jvms_own_first_error_and_the_way_out_are_one_sentence(
    said: str, reason: str, way_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-agentpath:/no/agent.so")
    told, _, mending = explain(said).partition("; ")
    assert told.startswith(f"Spark does not start: {reason}")
    assert way_out in mending
    assert "\n" not in told + mending


def in_a_session(**environment: str) -> str:
    code = """
from mirabelle.errors import PreflightError
from mirabelle.spark.session import open_context
try:
    with open_context({"spark.master": "local[1]"}):
        print("opened")
except PreflightError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env={**os.environ, **environment}
    )
    return done.stdout.strip() + done.stderr


def test_a_jvm_that_does_not_start_says_nothing_beside_our_sentence() -> None:
    told = in_a_session(JAVA_TOOL_OPTIONS="-agentpath:/no/agent.so")
    assert told.startswith("Spark does not start: Could not find agent library /no/agent.so in absolute path")
    assert told.endswith("; mend JAVA_TOOL_OPTIONS or spark.driver.extraJavaOptions")
    assert "\n" not in told


def test_submit_arguments_without_pyspark_shell_are_one_sentence() -> None:
    told = in_a_session(PYSPARK_SUBMIT_ARGS="--master local[1]")
    assert told.startswith("PYSPARK_SUBMIT_ARGS is set without pyspark-shell")
    assert "put pyspark-shell at its end, or unset it" in told


def test_defaults_are_read_as_java_reads_properties(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
    assert spark_defaults() == {}
    (tmp_path / "spark-defaults.conf").write_text("""# a remark
! another
spark.a   one two\t
  spark.b=x=y
spark.c : z
spark.d\tgrün
spark.e
spark.driver.extraJavaOptions  -Done=1 \\
    -Dtwo="2 3"
""")
    assert spark_defaults() == {
        "spark.a": "one two",
        "spark.b": "x=y",
        "spark.c": "z",
        "spark.d": "grün",
        "spark.e": "",
        "spark.driver.extraJavaOptions": '-Done=1 -Dtwo="2 3"',
    }


def test_what_is_overheard_is_passed_on_once_it_is_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    overheard = Overheard()
    writing = os.dup(overheard.writing)
    os.write(writing, b"before\n")
    assert capfd.readouterr().err == ""
    overheard.pass_on()
    os.write(writing, b"after\n")
    os.close(writing)
    overheard._listener.join(10)
    assert sorted(capfd.readouterr().err.split()) == ["after", "before"]


def test_what_a_program_said_that_has_ended_is_not_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    overheard = Overheard()
    subprocess.run(["echo", "the reason"], check=True, stdout=overheard.writing)
    assert overheard.text() == "the reason\n"
    overheard.pass_on()
    assert capfd.readouterr().err == ""


# The Java


@pytest.mark.parametrize("told", ["17.0.15", "17", "21.0.1", ""])
def test_javas_that_spark_runs_on(told: str) -> None:
    check_java_version(told, "/some/java")


@pytest.mark.parametrize(("told", "major"), [("1.8.0_392", 8), ("11.0.2", 11), ("25.0.3", 25), ("25-ea", 25)])
def test_a_java_that_this_spark_does_not_run_on_is_named(told: str, major: int) -> None:
    with pytest.raises(
        PreflightError, match=rf"^/some/java is Java {major}; Spark 4\.\S+ needs Java 17 or 21: install"
    ):
        check_java_version(told, "/some/java")


def test_which_java_each_spark_runs_on() -> None:
    assert JAVAS_OF_SPARK == {"3.5": (17,), "4.0": (17, 21), "4.1": (17, 21)}


@pytest.mark.parametrize(("by_file", "said"), [(True, ""), (False, 'openjdk version "25.0.3" 2026-04-21')])
def test_the_version_is_read_off_the_release_or_asked_for(by_file: bool, said: str, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    java = tmp_path / "bin" / "java"
    java.write_text(f"#!/bin/sh\necho '{said}' >&2\n")
    java.chmod(0o755)
    if by_file:
        (tmp_path / "release").write_text('IMPLEMENTOR="X"\nJAVA_VERSION="25.0.3"\n')
    assert in_a_session(JAVA_HOME=str(tmp_path)).startswith(f"{java} is Java 25; Spark ")


@pytest.mark.parametrize(("version", "code"), [("17.0.1", 0), ("21", 0), ("1.8.0_392", 2), ("11.0.2", 2), ("25", 2)])
def test_make_knows_the_same_javas(version: str, code: int, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    java = tmp_path / "bin" / "java"
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2026-04-21' >&2\n")
    java.chmod(0o755)
    root = Path(__file__).parents[3]
    made = subprocess.run(
        ["make", "-s", "java"],
        cwd=root,
        check=False,
        capture_output=True,
        env={**os.environ, "JAVA_HOME": str(tmp_path)},
    )
    assert made.returncode == code, made.stdout


# The user and the names of files


def test_a_user_id_without_a_name_has_none() -> None:
    assert as_another_user(user_name) == ""
    assert user_name() != ""
