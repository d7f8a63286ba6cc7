"""Ctrl-C, SIGTERM and hanging up: heeded once, and what is cleaned up after it is cleaned up whole."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mirabelle.errors import MirabelleError, OutputError
from mirabelle.pipeline import preparation
from mirabelle.pipeline.failures import recording_failure
from mirabelle.pipeline.preparation import Preparation
from mirabelle.signals import Interrupted, interruption
from mirabelle.storage import DiskStore
from mirabelle.table.runlog import RunLog, read_manifests

pytestmark = pytest.mark.usefixtures("not_under_nohup")

# A verb that works for minutes in a temporary folder, and takes a while to clean up.
PROGRAM = """
import os, sys, tempfile, time
from contextlib import contextmanager
from mirabelle import cli
from mirabelle.cli import outputs

@contextmanager
def cleaned_up():
    try:
        yield
    finally:
        print("cleaning", flush=True)
        for _ in range(20):
            time.sleep(0.05)
        print("clean", flush=True)

class Loses:
    def __del__(self):
        print("in the destructor", flush=True)
        time.sleep(60)

def work(*_):
    with cleaned_up(), tempfile.TemporaryDirectory():
        if "lose" in sys.argv:
            Loses()
        print("working", flush=True)
        time.sleep(60)

outputs.load = work
sys.exit(cli.main(["config"]))
"""


class Command:
    """The command at work, and what it says."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(folder)},
        )

    def wait_for(self, line: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == f"{line}\n"

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=str,
)
def test_one_signal_ends_it_clean_and_with_the_shells_code(number: signal.Signals, code: int, tmp_path: Path) -> None:
    command = Command(tmp_path)
    command.wait_for("working")
    command.process.send_signal(number)
    told = (code, "cleaning\nclean\n", f"stopping\ninterrupted by {number.name}\n")
    assert command.end() == told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_further_signals_cut_nothing_short(second: signal.Signals, tmp_path: Path) -> None:
    command = Command(tmp_path)
    command.wait_for("working")
    command.process.send_signal(signal.SIGINT)
    command.wait_for("cleaning")
    for _ in range(5):
        command.process.send_signal(second)
        time.sleep(0.05)
    assert command.end() == (130, "clean\n", "stopping\ninterrupted by SIGINT\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_signal_that_python_lost_in_a_destructor_is_heeded_all_the_same(tmp_path: Path) -> None:
    command = Command(tmp_path, "lose")
    command.wait_for("in the destructor")
    command.process.send_signal(signal.SIGTERM)
    code, out, _ = command.end()
    assert (code, out) == (143, "working\ncleaning\nclean\n")


@pytest.mark.slow
def test_hanging_up_is_ignored_under_nohup(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        command = Command(tmp_path)
    finally:
        signal.signal(signal.SIGHUP, before)
    command.wait_for("working")
    command.process.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    command.process.send_signal(signal.SIGTERM)
    assert command.end()[0] == 143


UNREAD = """
import sys
from mirabelle import cli
from mirabelle.cli import outputs

def work(*_):
    sys.stdin.readline()
    for stream in (sys.stdout, sys.stderr):
        print("a line that nobody reads", file=stream, flush=True)
    open(sys.argv[1], "w").close()
    raise cli.MirabelleError("told to nobody")

outputs.load = work
print("a line", flush=True)
code = cli.main(["config"])
print("more of it")
sys.exit(code)
"""


def test_readers_that_go_end_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", UNREAD, str(tmp_path / "done")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"a line\n"
    process.stdout.close()
    process.stdin.close()
    assert process.wait(30) == MirabelleError.exit_code
    assert (tmp_path / "done").exists()


def raises(error: BaseException) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


def interrupted_twice() -> None:
    try:
        raise Interrupted(signal.SIGTERM)
    finally:
        raise ConnectionRefusedError("the JVM is gone")


@pytest.mark.parametrize(
    ("work", "raised", "status", "told"),
    [
        (raises(Interrupted(signal.SIGTERM)), Interrupted, "interrupted", "interrupted by SIGTERM"),
        # What a notebook's own Ctrl-C raises goes on to the notebook.
        (raises(KeyboardInterrupt()), KeyboardInterrupt, "interrupted", "interrupted by SIGINT"),
        (interrupted_twice, Interrupted, "interrupted", "interrupted by SIGTERM"),
        (raises(OutputError("no room")), OutputError, "failed", "no room"),
    ],
    ids=["signal", "notebook", "while cleaning up", "no signal"],
)
def test_the_manifest_tells_an_interrupted_run_from_one_that_failed(
    work: Callable[[], None], raised: type[BaseException], status: str, told: str, tmp_path: Path
) -> None:
    runlog = RunLog(DiskStore(), str(tmp_path), "extract", {})
    with pytest.raises(raised) as caught, recording_failure(runlog):
        work()
    (manifest,) = read_manifests(DiskStore(), str(tmp_path))
    assert (manifest["status"], manifest["error"]) == (status, told)
    assert "finished" in manifest
    kept = ["what was committed is kept, and the same command goes on from there"]
    assert getattr(caught.value, "__notes__", []) == (kept if status == "interrupted" else [])


def test_an_interruption_is_found_behind_what_came_of_it() -> None:
    with pytest.raises(ConnectionRefusedError) as caught:
        interrupted_twice()
    found = interruption(caught.value)
    assert found is not None
    assert found.exit_code == 143
    assert interruption(ValueError()) is None
    assert interruption(None) is None


def test_an_interrupted_run_does_not_wait_for_a_listing_that_nobody_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ended = threading.Event(), threading.Event()

    def list_for_a_minute(_: object) -> None:
        try:
            begun.set()
            for _ in range(600):
                time.sleep(0.1)
        finally:
            ended.set()

    def interrupted_run() -> None:
        with Preparation(None):  # type: ignore[arg-type]  # the listing is not the real one
            assert begun.wait(5)
            raise Interrupted

    monkeypatch.setattr(Preparation, "HEAD_START_SECONDS", 0.0)
    monkeypatch.setattr(preparation, "list_source", list_for_a_minute)
    started = time.monotonic()
    with pytest.raises(Interrupted):
        interrupted_run()
    assert time.monotonic() - started < 10
    assert ended.is_set()
