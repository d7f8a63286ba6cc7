"""One run at a time, on a disk."""

import getpass
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mirabelle.errors import ListingError, OutputError, OutputInUse, RunFailed
from mirabelle.storage import DiskStore, Version
from mirabelle.table.lease import EXPIRES_SECONDS, FILE, hold, holder

STORE = DiskStore()
HOLD = """
import sys, time
from mirabelle.table.lease import hold
from mirabelle.storage import DiskStore

with hold(DiskStore(), sys.argv[1], "run-of-another", "extract"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


def take(output: Path, run: str = "run-2", break_lease: bool = False) -> str:
    """Hold it for a moment; what its file says of the holder."""
    with hold(STORE, str(output), run, "run", break_lease):
        return json.loads((output / FILE).read_text())["run"]


def from_elsewhere(output: Path, age_seconds: float) -> None:
    """The lease of a run on another machine, renewed so long ago."""
    facts = {"run": "run-far", "command": "train", "user": "ada", "host": "far", "pid": 7, "machine": "far 1 2"}
    output.mkdir(parents=True, exist_ok=True)
    (output / FILE).write_text(json.dumps({**facts, "process": "7-7", "started": "2026-01-02T03:04:05Z"}))
    then = time.time() - age_seconds
    os.utime(output / FILE, (then, then))


def test_it_is_there_for_the_block_and_gone_after_it(output: Path) -> None:
    assert holder(STORE, str(output)) is None
    with hold(STORE, str(output), "run-1", "extract") as lease:
        lease.check()
        lease.check()
        assert "run run-1 (mirabelle extract" in str(holder(STORE, str(output)))
    assert list(output.iterdir()) == []
    assert take(output) == "run-2"


def test_a_run_that_fails_gives_it_back(output: Path) -> None:
    with pytest.raises(KeyError), hold(STORE, str(output), "run-1", "extract"):
        raise KeyError("anything")
    assert list(output.iterdir()) == []


def test_it_is_refused_while_another_has_it(output: Path) -> None:
    with hold(STORE, str(output), "run-1", "extract") as first:
        with pytest.raises(OutputError) as raised:
            take(output)
        first.check()
    sentence = str(raised.value)
    assert sentence.startswith(f"{output} is in use by run run-1 (mirabelle extract, {getpass.getuser()} on ")
    for told in (socket.gethostname(), f"process {os.getpid()}", f"since {time.strftime('%Y-')}", "last seen 0 s ago"):
        assert told in sentence
    assert "wait for it to end, or, if you know that it is dead, give --break-lease" in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("buried", [False, True])
def test_a_killed_process_of_this_machine_holds_nothing(output: Path, buried: bool) -> None:
    command = [sys.executable, "-c", HOLD, str(output)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(OutputError, match=rf"run-of-another .*process {process.pid}"):
            take(output)
        process.send_signal(signal.SIGKILL)
        if buried:
            process.wait()
        else:
            # Dead, while its parent has not asked for its end yet.
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert (output / FILE).exists()
        assert take(output) == "run-2"


def test_a_process_that_has_the_number_of_a_dead_one_is_another(output: Path) -> None:
    with hold(STORE, str(output), "run-1", "extract"):
        facts = json.loads((output / FILE).read_text())
    (output / FILE).write_text(json.dumps({**facts, "process": f"{os.getpid()}-1"}))
    assert take(output) == "run-2"


def test_one_of_another_machine_expires_by_age(output: Path) -> None:
    from_elsewhere(output, EXPIRES_SECONDS - 30)
    with pytest.raises(OutputError, match=r"run run-far \(mirabelle train, ada on far, process 7.*last seen 60 s ago"):
        take(output)
    from_elsewhere(output, EXPIRES_SECONDS + 1)
    assert take(output) == "run-2"


def test_a_clock_that_runs_ahead_does_not_make_it_look_dead(output: Path) -> None:
    from_elsewhere(output, -3600)
    with pytest.raises(OutputError, match="last seen 0 s ago"):
        take(output)


@pytest.mark.parametrize("content", ["", "no JSON", "[1]", '{"pid": "x", "machine": null}'])
def test_a_spoilt_file_is_a_lease_all_the_same(output: Path, content: str) -> None:
    output.mkdir()
    (output / FILE).write_text(content)
    with pytest.raises(OutputError, match="is in use by run "):
        take(output)
    assert take(output, break_lease=True) == "run-2"


def test_the_loser_commits_nothing_more_and_leaves_the_winners_lease(output: Path) -> None:
    with (
        hold(STORE, str(output), "run-1", "extract") as loser,
        hold(STORE, str(output), "run-2", "extract", break_lease=True) as winner,
    ):
        for _ in range(2):
            with pytest.raises(RunFailed, match=r"another run took the lease .*this one commits nothing more"):
                loser.check()
        winner.check()
        loser.release()
        assert "run run-2" in str(holder(STORE, str(output)))
        winner.check()
    assert list(output.iterdir()) == []


def test_one_that_was_broken_is_not_given_back_by_who_lost_it_unknowingly(output: Path) -> None:
    with hold(STORE, str(output), "run-1", "extract") as loser:
        winner = hold(STORE, str(output), "run-2", "extract", break_lease=True)
        winner.__enter__()
        loser.release()
        assert "run run-2" in str(holder(STORE, str(output)))
        winner.__exit__(None, None, None)
    assert list(output.iterdir()) == []


def test_two_that_begin_at_the_same_moment(output: Path) -> None:
    class Slow(DiskStore):
        def read_version(self, path: str) -> tuple[bytes, Version, float] | None:
            found = super().read_version(path)
            if not found:  # nobody has it; and now another takes it
                from_elsewhere(output, 0)
            return found

    with pytest.raises(OutputError, match=r"another run began on .* at this very moment"):
        hold(Slow(), str(output), "run-1", "extract").__enter__()
    assert "run run-far" in str(holder(STORE, str(output)))


def test_a_store_that_fails_in_the_end_does_not_hide_why_the_run_failed(output: Path) -> None:
    class Fails(DiskStore):
        def read_version(self, path: str) -> tuple[bytes, Version, float] | None:
            if os.path.exists(path):
                raise ListingError("cannot read the bucket")
            return None

    with pytest.raises(RunFailed, match="the reason"), hold(Fails(), str(output), "run-1", "extract"):
        raise RunFailed("the reason")


def test_an_output_that_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot read .*file/output/_lease.json: Not a directory; give another"):
        take(tmp_path / "file" / "output")


def test_nothing_is_left_of_a_lease_that_was_replaced_many_times(output: Path) -> None:
    with hold(STORE, str(output), "run-1", "extract") as lease:
        for _ in range(20):
            lease.check()
        assert [path.name for path in output.iterdir()] == [FILE]


def test_a_disk_without_hard_links_has_leases_too(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As exFAT and gcsfuse answer."""

    def refuse(*names: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with hold(STORE, str(output), "run-1", "run") as lease:
        with pytest.raises(OutputError, match="is in use by run run-1"):
            take(output)
        lease.check()
    assert take(output) == "run-2"


def test_a_later_attempt_of_the_same_yarn_application_takes_it_at_once_and_no_other(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_elsewhere(output, age_seconds=1)
    left = json.loads((output / FILE).read_text())
    (output / FILE).write_text(json.dumps({**left, "application": "application_17_0002", "attempt": 1}))
    for container in ("container_17_0003_02_000001", "container_e1_17_0002_01_000001", "nonsense"):
        monkeypatch.setenv("CONTAINER_ID", container)
        with pytest.raises(OutputInUse) as refused:
            take(output)
        assert refused.value.exit_code == 3
    monkeypatch.setenv("CONTAINER_ID", "container_e1_17_0002_02_000001")
    assert take(output) == "run-2"
