"""What becomes of a run that ends early: an error of ours, told once and kept in the manifest. Driver only."""

from __future__ import annotations

import errno
import logging
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from mirabelle import errors as errors_module
from mirabelle.errors import MirabelleError, OutputError, PreflightError, RunFailed, UserError
from mirabelle.signals import Interrupted, interruption
from mirabelle.spark.cluster import killed_for_memory
from mirabelle.table.runlog import RunLog

log = logging.getLogger(__name__)


@contextmanager
def recording_failure(runlog: RunLog) -> Iterator[None]:
    """Whatever ends the block early is translated, and ends the run's manifest too, if that can be written."""
    try:
        yield
    except BaseException as error:
        interrupted = interruption(error)
        translated = _interrupted(interrupted, error) if interrupted else translate(error)
        try:
            runlog.finish(
                "interrupted" if interrupted else "failed",
                str(interrupted or translated) or type(translated).__name__,
                getattr(interrupted or translated, "exit_code", 1),
            )
        except MirabelleError as second:
            # The output may be what failed; the first error tells more.
            log.debug("the manifest could not be written: %s", second)
        if translated is error:
            raise
        raise translated from error


def _interrupted(interrupted: Interrupted, error: BaseException) -> BaseException:
    """What a signal raised, whatever came of it in Spark; what a notebook's own Ctrl-C raises stays what it is."""
    ended = error if isinstance(error, KeyboardInterrupt) else interrupted
    ended.add_note("what was committed is kept, and the same command goes on from there")
    return ended


def translate(error: BaseException) -> BaseException:
    """An error of ours that crossed from a worker inside one of Spark's, as itself again; others unchanged.

    Spark hands on a worker's error as text, so the class is found by its name in the traceback.
    """
    if isinstance(error, MirabelleError) or not isinstance(error, Exception):
        return error
    found = re.findall(r"^mirabelle\.errors\.(\w+): (.+)$", str(error), re.MULTILINE)
    if found:
        name, message = found[-1]
        kind = getattr(errors_module, name, RunFailed)
        if isinstance(kind, type) and issubclass(kind, UserError):
            return kind(message.strip())
    of_the_machine = _mendable(error)
    if of_the_machine:
        return of_the_machine
    if type(error).__module__.startswith(("pyspark", "py4j")):
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        told = next((line for line in lines if "Error" in line or "Exception" in line), lines[0] if lines else "")
        return RunFailed(
            f"Spark gave up: {told[:300]}; what was committed is kept, and the same command goes on from there"
        )
    return error


def _mendable(error: Exception) -> UserError | None:
    """A full disk, one that no library is loaded from, or too little memory, as one sentence; None for all else."""
    text = str(error)
    if killed := killed_for_memory(text):
        return PreflightError(killed)
    if "java.io.IOException: No space left on device" in text:
        return OutputError(
            "a disk is full, that of Spark's own files or of the output; make room, or set spark.local.dir (on a"
            " cluster its nodes' SPARK_LOCAL_DIRS) to a folder on a larger one, and run again: what is done is kept"
        )
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in text:
        return OutputError(
            f"this machine's disk is full, probably that of {tempfile.gettempdir()} or of the output; make room or set"
            " TMPDIR, and run again: what was finished is kept"
        )
    if re.search(
        r"UnsatisfiedLinkError|Could not initialize class (org\.xerial\.snappy|com\.github\.luben\.zstd)", text
    ):
        return PreflightError(
            "Spark cannot load its native codecs out of its temporary folder, probably as /tmp is mounted noexec; add"
            " -Djava.io.tmpdir=FOLDER, one that programs may be run from, to spark.driver.extraJavaOptions and"
            " spark.executor.extraJavaOptions"
        )
    return None
