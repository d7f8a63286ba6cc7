"""What the system tells the command: to end, or that nobody reads what it says. [signals, stdout; driver only]

Ctrl-C, SIGTERM and a terminal that hangs up all mean the same: stop, leave nothing lying about, and say so. The first
is raised. People and service managers are impatient, so further ones come while that is being done, and change nothing.
A reader that goes away, as `head` does, ends nothing that was asked for.
"""

from __future__ import annotations

import ctypes
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# What shells add to a signal's number.
EXIT_CODE_BASE = 128
INSISTS_SECONDS = 0.5

_received: list[int] = []
_before_raising: list[Callable[[], None]] = []


class Interrupted(BaseException):
    """A signal asked this process to end.

    No ``KeyboardInterrupt``, which libraries answer in ways of their own, and no ``Exception``, which they swallow.
    """

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(number)
        self.exit_code = EXIT_CODE_BASE + number

    def __str__(self) -> str:
        return f"interrupted by {signal.Signals(self.args[0]).name}"


def interruption(error: BaseException | None) -> Interrupted | None:
    """What a signal raised, if that is behind an error: itself, or what went wrong while it was cleaned up after."""
    while error is not None:
        if isinstance(error, Interrupted):
            return error
        if isinstance(error, KeyboardInterrupt):
            return Interrupted()
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def raised_as_interrupted() -> Iterator[None]:
    """Have signals raise ``Interrupted`` in the block. Once one has, this process heeds none any more: it is ending."""
    if _is_catching() or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (*ENDING, signal.SIGALRM)}
    _install()
    try:
        yield
    except BaseException as error:
        if interruption(error):
            before |= dict.fromkeys(ENDING, signal.SIG_IGN)
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        _received.clear()
        _before_raising.clear()
        for number, handler in before.items():
            signal.signal(number, handler)


def take(before_raising: Callable[[], None]) -> None:
    """Put our handlers in their places, also where a library has put its own since; nothing outside the block.

    Args:
        before_raising: called by the handler of the first signal, on the main thread, wherever that is.
    """
    if _is_catching() and threading.current_thread() is threading.main_thread():
        _before_raising.append(before_raising)
        _install()


def outlive_readers() -> None:
    """From now on what this process writes to a pipe that nobody reads any more is lost, and no error."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and stream is getattr(sys, f"__{name}__"):
            heedless = _Heedless(stream.buffer, stream.encoding, stream.errors, line_buffering=stream.line_buffering)
            setattr(sys, name, heedless)


class _Heedless(io.TextIOWrapper):
    def write(self, text: str) -> int:
        with self._into_nothing_if_unread():
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with self._into_nothing_if_unread():
            super().flush()

    @contextmanager
    def _into_nothing_if_unread(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            # What the buffers still hold goes there, too.
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self.fileno())
            os.close(nothing)


def _is_catching() -> bool:
    # No library puts a handler of its own in the place of this one.
    return signal.getsignal(signal.SIGTERM) is _handle


def _install() -> None:
    for number in ENDING:
        # `nohup` has hanging up ignored.
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)


def raise_in(thread: int) -> None:
    """Raise ``Interrupted`` in another thread, by its ident, as soon as it is back from whatever library it is in."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(Interrupted))


def _handle(number: int, _frame: FrameType | None) -> None:
    if _received:
        return
    _received.append(number)
    with suppress(OSError):
        # Not by sys.stderr, whose own write may be what was interrupted.
        os.write(2, b"stopping\n")
    for prepare in _before_raising:
        with suppress(Exception):
            prepare()
    signal.signal(signal.SIGALRM, _insist)
    signal.setitimer(signal.ITIMER_REAL, INSISTS_SECONDS, INSISTS_SECONDS)
    raise Interrupted(number)


def _insist(_number: int, _frame: FrameType | None) -> None:
    """Raise it again where it was lost: in a destructor, or by a library that catches all there is."""
    if interruption(sys.exc_info()[1]) is None:
        raise Interrupted(_received[0])
