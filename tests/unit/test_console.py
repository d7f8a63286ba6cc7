"""What a person sees: lines where there is no terminal, a bar where there is one."""

import logging
import os
import re
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mirabelle import console
from mirabelle.console import Console, ConsoleHandler

ESCAPE_SEQUENCES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# What makes Rich see a terminal, colours or a width that is not there; CI services set some of them.
WISHES = ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES")


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(console, "time", clock)
    return clock


@pytest.fixture(autouse=True)
def no_wishes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in WISHES:
        monkeypatch.delenv(name, raising=False)


def test_without_a_terminal_lines_tell_count_speed_rejects_and_time(
    capsys: pytest.CaptureFixture[str], clock: Clock
) -> None:
    counts = (0, 0)
    with Console().track(4000, lambda: counts) as refresh:
        clock.now, counts = 110.0, (950, 50)
        refresh()
        clock.now, counts = 120.0, (1500, 500)
        refresh()
        clock.now, counts = 130.0, (1500, 500)
        refresh()
    captured = capsys.readouterr()
    # 1,000 in 10 s; 2,000 in 20 s; 2,000 in 30 s: what is left takes 30 s, 20 s, 30 s.
    assert captured.err.splitlines() == [
        "  1,000 of 4,000 (100.0 images/s, 50 rejected, about 30 s left)",
        "  2,000 of 4,000 (100.0 images/s, 500 rejected, about 20 s left)",
        "  2,000 of 4,000 (66.7 images/s, 500 rejected, about 30 s left)",
    ]
    assert captured.out == ""


def test_while_nothing_is_done_no_time_is_foretold(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", 0.0)
    with Console().track(7, lambda: (0, 0)) as refresh:
        refresh()
    assert capsys.readouterr().err == "  0 of 7 (0.0 images/s, 0 rejected)\n"


def test_lines_come_at_intervals(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    told = []
    with Console().track(100, lambda: (10, 0)) as refresh:
        for _ in range(35):
            clock.now += 1
            refresh()
            if capsys.readouterr().err:
                told.append(clock.now)
    assert told == [110, 120, 130]


def test_no_bar_is_drawn_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Console().track(10, lambda: (5, 1)) as refresh:
        refresh()
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", 0.0)
    quiet = Console(quiet=True)
    quiet.say("one")
    quiet.warn("two")
    with quiet.track(10, lambda: (5, 1)) as refresh:
        refresh()
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.parametrize("text", ["in [Training] and [/Test]", "[bold red]x[/bold red]", "[1, 2]", r"C:\[pictures]"])
def test_brackets_are_printed_as_they_are(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    Console().say(text)
    Console().warn(text)
    assert capsys.readouterr().err.splitlines() == [text, f"warning: {text}"]


@given(st.text("ab[]/\\:=#@ 1", min_size=1, max_size=20).map(str.strip).filter(bool))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_printed_as_it_is(capsys: pytest.CaptureFixture[str], text: str) -> None:
    capsys.readouterr()
    Console().say(text)
    assert capsys.readouterr().err == f"{text}\n"


def test_colons_are_no_pictograms(capsys: pytest.CaptureFixture[str]) -> None:
    Console().say("label: :apple: 3, :warning: 4")
    Console().warn("12:apple:30")
    assert capsys.readouterr().err.splitlines() == ["label: :apple: 3, :warning: 4", "warning: 12:apple:30"]


def test_a_long_line_is_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    Console().say("a path / " * 60)
    assert capsys.readouterr().err.count("\n") == 1


def test_our_modules_log_lines_are_shown_as_progress(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.Logger("mirabelle.test")
    logger.addHandler(ConsoleHandler(Console()))
    logger.debug("too small")
    logger.info("fetching %s", "[weights]")
    logger.warning("only %d%%", 3)
    assert capsys.readouterr().err.splitlines() == ["fetching [weights]", "warning: only 3%"]


def on_a_terminal(code: str) -> tuple[str, str]:
    """What a script's stderr draws on a terminal, and what its stdout gives a pipe."""
    pty = pytest.importorskip("pty", reason="there are no pseudo-terminals on this system")
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, text=True, env=environment) as process:
        os.close(theirs)
        drawn = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:
                # Linux says so where others give an empty answer: the other side is closed.
                break
            if not part:
                break
            drawn += part
        os.close(ours)
        out = process.stdout.read() if process.stdout else ""
    assert process.returncode == 0, drawn.decode()
    return drawn.decode(), out


TRACK = """
import sys, time
from mirabelle.console import Console
done = 0
console = Console({arguments})
try:
    with console.track(40, lambda: (done - done // 10, done // 10)) as refresh:
        for done in range(0, 41, 2):
            refresh()
            {pause}
except ZeroDivisionError:
    pass
console.say("[all] over")
"""


def test_on_a_terminal_a_bar_tells_count_speed_rejects_and_time() -> None:
    drawn, out = on_a_terminal(TRACK.format(arguments="", pause="time.sleep(0.03)"))
    plain = ESCAPE_SEQUENCES.sub("", drawn)
    frames = [frame for frame in re.split(r"[\r\n]+", plain) if frame.startswith("embedding")]
    assert "40/40" in frames[-1]
    assert "4 rejected" in frames[-1]
    speed = re.search(r"([\d.]+) images/s", frames[-1])
    # 40 in 21 pauses of 0.03 s, or in longer where the machine is busy.
    assert speed is not None
    assert 0 < float(speed[1]) <= 40 / 0.63
    assert any(re.search(r"\d:\d\d:\d\d", frame) for frame in frames), "the time left"
    assert all("━" in frame for frame in frames)
    # Before the first reject, none are spoken of.
    assert "rejected" not in frames[0]
    assert "0 rejected" not in plain
    assert plain.rstrip().endswith("[all] over")
    assert out == ""


def test_on_a_terminal_quiet_is_quiet_too() -> None:
    assert on_a_terminal(TRACK.format(arguments="quiet=True", pause="time.sleep(0.03)")) == ("", "")


def test_the_cursor_is_there_again_when_the_work_has_failed() -> None:
    drawn, _ = on_a_terminal(TRACK.format(arguments="", pause="1 / 0"))
    hide, show = "\x1b[?25l", "\x1b[?25h"
    assert hide in drawn
    assert drawn.rindex(show) > drawn.rindex(hide)
