"""What a full disk, and one that nothing is run from, are told as; Spark's words are as it hands them on."""

import errno
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mirabelle.errors import OutputError, PreflightError
from mirabelle.network.cached import check_room
from mirabelle.pipeline.failures import translate
from mirabelle.spark.jvm import runs_programs


class FromSpark(Exception):
    """Stands for py4j's, which has Spark's text."""


def test_a_full_disk_of_sparks_own_files_names_sparks_setting_and_not_tmpdir() -> None:
    told = translate(FromSpark("Job aborted\nCaused by: java.io.IOException: No space left on device\n\tat java.io"))
    assert isinstance(told, OutputError)
    assert "set spark.local.dir" in str(told)
    assert "TMPDIR" not in str(told)


def test_a_full_disk_of_ours_names_tmpdir() -> None:
    told = translate(OSError(errno.ENOSPC, "No space left on device"))
    assert isinstance(told, OutputError)
    assert "TMPDIR" in str(told)


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (
            "Container killed by YARN for exceeding physical memory limits. 1.1 GB of 576 MB physical memory used."
            " Consider boosting spark.executor.memoryOverhead.",
            "killed for its memory (1.1 GB of 576 MB used)",
        ),
        ("Container from a bad node: container_1_1_01_000002 on host: h. Exit status: 137.", "(exit code 137)"),
        ("The executor with id 1 exited with exit code 137(SIGKILL, possible container OOM).", "(exit code 137)"),
        ("Container killed on request. Exit code is 137", "(exit code 137)"),
    ],
)
def test_a_container_killed_for_its_memory_names_the_setting(reason: str, told: str) -> None:
    error = translate(FromSpark(f"ExecutorLostFailure (executor 4 exited ...) Reason: {reason}"))
    assert isinstance(error, PreflightError)
    assert told in str(error)
    assert "set spark.executor.memoryOverhead higher" in str(error)


@pytest.mark.parametrize(
    "reason",
    [
        "java.lang.UnsatisfiedLinkError: /tmp/snappy-1.1.10-libsnappyjava.so: failed to map segment from shared object",
        "java.lang.NoClassDefFoundError: Could not initialize class org.xerial.snappy.Snappy",
        "java.lang.NoClassDefFoundError: Could not initialize class com.github.luben.zstd.Zstd",
    ],
)
def test_a_codec_that_cannot_be_loaded_names_the_setting(reason: str) -> None:
    told = translate(FromSpark(f"Task failed while writing rows\nCaused by: {reason}"))
    assert isinstance(told, PreflightError)
    assert "-Djava.io.tmpdir=FOLDER" in str(told)
    assert "\n" not in str(told)


def test_a_network_that_does_not_fit_the_temporary_folder_is_told_before_it_is_converted(tmp_path: Path) -> None:
    check_room(tmp_path, 0, "writing", "TMPDIR")
    with pytest.raises(OutputError, match=rf"^the disk of {tmp_path} has \d+ MiB left.* set TMPDIR to a folder"):
        check_room(tmp_path, 2 * shutil.disk_usage(tmp_path).total, "writing", "TMPDIR")


def test_a_mount_that_nothing_is_run_from_is_known(tmp_path: Path) -> None:
    mounting = f"mount -t tmpfs -o noexec tmpfs '{tmp_path}'"
    if subprocess.run(["unshare", "-m", "sh", "-c", mounting], check=False, capture_output=True).returncode != 0:
        pytest.skip("only root can mount")
    code = f"from mirabelle.spark.jvm import runs_programs; print(runs_programs({str(tmp_path)!r}))"
    asked = ["unshare", "-m", "sh", "-c", f'{mounting} && exec "$@"', "sh", sys.executable, "-c", code]
    assert runs_programs(tmp_path)
    assert subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip() == "False"
