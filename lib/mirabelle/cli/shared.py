"""What verbs share: options that many have, how they read the configuration, talk and sum up. [stdout, stderr]"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from mirabelle.errors import BarNotMet

if TYPE_CHECKING:
    from mirabelle.config import Config
    from mirabelle.console import Console

# Of the command, as near as can be told; for the manifest.
BEGAN = time.perf_counter()

ConfigFile = Annotated[
    str | None,
    typer.Option("--config", "-c", metavar="FILE", help="YAML file, here or s3://; see `mirabelle config --explain`."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Over the file and the environment; can be given many times."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Full = Annotated[bool, typer.Option("--full", help="Embed every image again, whatever was done before.")]
BreakLease = Annotated[
    bool, typer.Option("--break-lease", help="Take the output from a run that you know is dead, without waiting.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; errors and the summary alone.")]

# For verbs to which pictures mean nothing, so that none need be named; and for those to which the output means nothing.
NO_PICTURES = {"images.root": ""}
NO_PLACES = {**NO_PICTURES, "output": "."}


def load(config: str | None, settings: list[str] | None, defaults: Mapping[str, str] | None = None) -> Config:
    """The configuration: file, environment and settings, over what is taken for granted here."""
    from mirabelle.config.stores import load_config

    return load_config(config, settings or [], defaults=defaults)


def open_console(quiet: bool) -> Console:
    """A person's view of the job, to which our log goes, too."""
    from mirabelle.console import Console, ConsoleHandler

    console = Console(quiet)
    logger = logging.getLogger("mirabelle")
    logger.setLevel(logging.INFO)
    logger.handlers = [ConsoleHandler(console)]
    logger.propagate = False
    return console


def print_summary(summary: Sequence[tuple[str, str]]) -> None:
    """What was done, a line each, on stdout."""
    for name, text in summary:
        print(f"{name + ':':<12}{text}")


@contextmanager
def summed_up_anyway() -> Iterator[None]:
    """A block whose job may fail a bar of its own: its work is done then, and summed up like any other."""
    try:
        yield
    except BarNotMet as failed:
        print_summary(failed.summary)
        raise
