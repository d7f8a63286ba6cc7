"""What a person sees while a run goes on: a bar on a terminal, a line now and then elsewhere. [stderr; driver only]

Results go to stdout by the command itself; everything here goes to stderr, so that output can be piped.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

SECONDS_BETWEEN_LINES = 10.0

# (embedded, rejected) so far.
Count = Callable[[], tuple[int, int]]


class Console:
    """A person's view of a run."""

    def __init__(self, quiet: bool = False) -> None:
        self._rich = RichConsole(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """A line of progress."""
        self._rich.print(text, markup=False, emoji=False)

    def warn(self, text: str) -> None:
        """A line that should not be overlooked."""
        self._rich.print("[bold yellow]warning:[/]", Text(text))

    @contextmanager
    def track(self, total: int, count: Count, doing: str = "embedding") -> Iterator[Callable[[], None]]:
        """Show how far ``count`` has come towards ``total``; call what is yielded every so often."""
        if self._rich.is_terminal:
            with self._bar(total, count, doing) as refresh:
                yield refresh
        else:
            yield self._lines(total, count)

    @contextmanager
    def counting(self, line: Callable[[], str]) -> Iterator[Callable[[], None]]:
        """Show how far something without a known end has come; call what is yielded every so often."""
        started = last = time.monotonic()

        def text() -> str:
            return f"  {line()} ({time.monotonic() - started:,.0f} s)"

        if self._rich.is_terminal:
            with self._rich.status(text()) as status:
                yield lambda: status.update(Text(text()))
            return

        def refresh() -> None:
            nonlocal last
            if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
                last = time.monotonic()
                self.say(text())

        yield refresh

    @contextmanager
    def _bar(self, total: int, count: Count, doing: str) -> Iterator[Callable[[], None]]:
        columns = (
            TextColumn(doing),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TextColumn("{task.fields[rejects]}"),
            TimeRemainingColumn(),
        )
        started = time.monotonic()
        with Progress(*columns, console=self._rich) as progress:
            task = progress.add_task(doing, total=total, speed="", rejects="")

            def refresh() -> None:
                embedded, rejected = count()
                progress.update(
                    task,
                    completed=embedded + rejected,
                    speed=_speed(embedded + rejected, started),
                    rejects=f"{rejected} rejected" if rejected else "",
                )

            yield refresh
            refresh()

    def _lines(self, total: int, count: Count) -> Callable[[], None]:
        started = last = time.monotonic()

        def refresh() -> None:
            nonlocal last
            now = time.monotonic()
            if now - last < SECONDS_BETWEEN_LINES:
                return
            last = now
            embedded, rejected = count()
            done = embedded + rejected
            left = f", about {(total - done) * (now - started) / done:.0f} s left" if done else ""
            self.say(f"  {done:,} of {total:,} ({_speed(done, started)}, {rejected} rejected{left})")

        return refresh


class ConsoleHandler(logging.Handler):
    """Shows our modules' log lines as progress."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Show one record."""
        show = self._console.warn if record.levelno >= logging.WARNING else self._console.say
        show(record.getMessage())


def _speed(done: int, started: float) -> str:
    return f"{done / max(1e-9, time.monotonic() - started):.1f} images/s"
