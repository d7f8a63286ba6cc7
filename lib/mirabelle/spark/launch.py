"""The JVM's start where it is ours to start, and one sentence out of what it says when it does not. [java]

Driver only. A JVM that fails tells why on its standard output or error, and PySpark knows only that it has ended; so
both are listened to until it is up, and passed on to this process's standard error from then on.
"""

from __future__ import annotations

import locale
import logging
import os
import re
import shlex
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirabelle.errors import PreflightError
from mirabelle.spark.jvm import needed_java

if TYPE_CHECKING:
    from pyspark import SparkConf

log = logging.getLogger(__name__)

# What stands above or beside the reason.
# How Spark answers once it has given a cluster up.
STOPPED = "on a stopped SparkContext"
NOT_A_REASON = re.compile(
    r"Picked up |Error occurred during initialization|Error: Could not create the Java|Error: A \w+ \w+ has occurred"
    r"|Error: LinkageError occurred|.*ExceptionInInitializerError$|.*spark-class: line |.*VM warning: |WARNING: |at "
    r"|Using |agent library failed|\.\.\. \d+ more"
)
_PROPERTY = re.compile(r"^[ \t]*([^\s#!=:][^\s=:]*)(?:[ \t]*[=:][ \t]*|[ \t]+|$)(.*?)[ \t]*$", re.MULTILINE)
FROM_ENVIRONMENT = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "SPARK_SUBMIT_OPTS")
ENDS_SECONDS = 5.0


def launch(conf: SparkConf) -> Any:
    """Start the JVM and return py4j's gateway to it.

    Raises:
        PreflightError: it does not start; the sentence has its own first error.
    """
    from pyspark.java_gateway import launch_gateway

    _check_submit_args()
    overheard = Overheard()
    try:
        with _environment(names_in_utf8()):
            # A session of its own: signals for all of a terminal or a group are this process's to answer, which needs
            # the JVM to clean up. It ends with this process all the same, by its standard input.
            apart = {"stdout": overheard.writing, "stderr": overheard.writing, "start_new_session": True}
            gateway = launch_gateway(conf, apart)
    except Exception as error:  # PySpark's, which says only that the JVM is gone, or the system's
        said = overheard.text()
        log.debug("the JVM said: %s", said)
        raise PreflightError(explain(said or str(error))) from error
    finally:
        overheard.pass_on()
    return gateway


def spark_defaults() -> dict[str, str]:
    """What ``spark-defaults.conf`` says: what is set when the JVM is started would hide it."""
    from pyspark.find_spark_home import _find_spark_home

    folder = os.environ.get("SPARK_CONF_DIR") or os.path.join(_find_spark_home(), "conf")
    try:
        text = Path(folder, "spark-defaults.conf").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    # Java's properties: a line goes on after a backslash, and its key ends at a blank, an equals sign or a colon.
    return dict(_PROPERTY.findall(re.sub(r"\\\n[ \t]*", "", text)))


class Overheard:
    """A pipe for another program's output: kept at first, and passed on from the moment that it is asked to be.

    Attributes:
        writing: the end that the program is given.
    """

    def __init__(self) -> None:
        self._reading, self.writing = os.pipe()
        self._open = True
        self._kept: bytearray | None = bytearray()
        self._lock = threading.Lock()
        self._listener = threading.Thread(target=self._listen, daemon=True, name="what the JVM says")
        self._listener.start()

    def text(self) -> str:
        """All that was said by a program that has ended; it is not passed on."""
        self._close()
        self._listener.join(ENDS_SECONDS)
        with self._lock:
            said, self._kept = bytes(self._kept or b""), bytearray()
        return said.decode(errors="replace")

    def pass_on(self) -> None:
        """Write what was kept, and all that comes, to this process's standard error."""
        self._close()
        with self._lock:
            kept, self._kept = self._kept, None
            _write_error(bytes(kept or b""))

    def _close(self) -> None:
        # The program has its own copy; with ours open there would be no end.
        if self._open:
            os.close(self.writing)
            self._open = False

    def _listen(self) -> None:
        while said := os.read(self._reading, 2**16):
            with self._lock:
                if self._kept is None:
                    _write_error(said)
                else:
                    self._kept += said
        os.close(self._reading)


def _write_error(said: bytes) -> None:
    # Nobody may be reading it any more; the JVM must not wait for that.
    with suppress(OSError):
        while said:
            said = said[os.write(2, said) :]


def names_in_utf8() -> dict[str, str]:
    """Variables that have the JVM write names of files as this Python does.

    In C's locale, and in one that is not installed, Python takes UTF-8 and the JVM writes question marks.
    """
    utf8 = sys.getfilesystemencoding() == "utf-8" and locale.getencoding().lower() not in ("utf-8", "utf8")
    return {"LC_ALL": "C.UTF-8"} if utf8 else {}


def explain(said: str, master: str = "") -> str:
    """One sentence out of what a JVM, or Spark in it, said before it ended.

    Args:
        said: by either.
        master: which Spark was to ask for executors, if it came so far.
    """
    if STOPPED in said or "masters are unresponsive" in said:
        # Spark stops itself where it gives a cluster up, and says why in its log alone.
        return f"Spark does not start: nothing answers at {master}; check spark.master, or what --master names"
    reason = _first_error(said)
    return f"Spark does not start: {reason[:300]}; {_way_out(reason)}"


def _first_error(said: str) -> str:
    lines = [line.strip() for line in said.splitlines()]
    lines = [line for line in lines if line and not NOT_A_REASON.match(line)]
    errors = [line for line in lines if re.search(r"Error|Exception|error:", line)]
    first = next(iter([*errors, *lines]), "the JVM ended without a word")
    return re.sub(r'^(Exception in thread "[^"]*" |Caused by: |[: ]+)', "", first).strip(" :.")


def _way_out(reason: str) -> str:
    if "UnknownHost" in reason:
        return "give this machine's name an address in /etc/hosts, or set SPARK_LOCAL_IP to 127.0.0.1"
    if re.search(r"heap|[Mm]emory|-Xm[sx]", reason):
        return "set spark.driver.memory to what Spark needs and this machine has, for instance 1g"
    if "UnsupportedClassVersion" in reason:
        return f"{needed_java()}: install one, or set JAVA_HOME to it"
    if re.search(r"agent|JAR manifest|[Uu]nrecognized|VM option|Conflicting", reason):
        given = [name for name in FROM_ENVIRONMENT if os.environ.get(name)]
        return f"mend {' or '.join([*given, 'spark.driver.extraJavaOptions'])}"
    return "check spark.master and the spark part of the configuration"


def _check_submit_args() -> None:
    given = os.environ.get("PYSPARK_SUBMIT_ARGS")
    if given is not None and "pyspark-shell" not in shlex.split(given):
        raise PreflightError(
            "PYSPARK_SUBMIT_ARGS is set without pyspark-shell, and Spark starts nothing for Python then; put"
            " pyspark-shell at its end, or unset it"
        )


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
