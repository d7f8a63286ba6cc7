"""The main job: features, components, a classifier, a report; and the upkeep of what it wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mirabelle.cli.shared import (
    BEGAN,
    NO_PICTURES,
    BreakLease,
    ConfigFile,
    DryRun,
    Full,
    Quiet,
    Settings,
    load,
    open_console,
    print_summary,
    summed_up_anyway,
)

if TYPE_CHECKING:
    from mirabelle.config import Config

verbs = typer.Typer()


def _add_verb(command: str, explanation: str, embeds: bool = False) -> None:
    """A verb that carries out one stage, or ``run`` for all of them."""

    def plain(
        config: ConfigFile = None,
        set_: Settings = None,
        dry_run: DryRun = False,
        break_lease: BreakLease = False,
        quiet: Quiet = False,
    ) -> None:
        _execute(command, load(config, set_), dry_run, quiet, break_lease)

    def embedding(
        config: ConfigFile = None,
        set_: Settings = None,
        full: Full = False,
        dry_run: DryRun = False,
        break_lease: BreakLease = False,
        quiet: Quiet = False,
    ) -> None:
        more = ["extract.full=true"] if full else []
        _execute(command, load(config, [*(set_ or []), *more]), dry_run, quiet, break_lease)

    verbs.command(command, help=explanation)(embedding if embeds else plain)


_add_verb(
    "extract",
    "Embed every new or changed image and commit its features; bad images become rows of `rejects`.",
    embeds=True,
)
_add_verb("reduce", "Fit PCA on the features and write the reduced rows and a Spark ML model.")
_add_verb("train", "Train a Spark ML classifier and judge it on pictures held out.")
_add_verb("report", "Write the report, one HTML page that works offline.")
_add_verb("run", "Do all of it: extract, reduce, train, report.", embeds=True)


def _execute(command: str, config: Config, dry_run: bool, quiet: bool, break_lease: bool) -> None:
    from mirabelle.console import Console
    from mirabelle.pipeline import STAGES, execute, preview

    stages = STAGES if command == "run" else (command,)
    console = open_console(quiet)
    if dry_run:
        # What it says is all that it does.
        preview.dry_run(config, stages, Console())
        return
    with summed_up_anyway():
        job = execute(config, stages, command, console, break_lease, BEGAN)
    print_summary(job.summary)


@verbs.command()
def compact(
    config: ConfigFile = None,
    set_: Settings = None,
    grace: Annotated[
        float, typer.Option("--grace", min=0, metavar="SECONDS", help="Wait before the old files are removed.")
    ] = 30.0,
    embedding: Annotated[
        str | None, typer.Option("--embedding", metavar="NAME", help="One embedding alone, by its folder's name.")
    ] = None,
    dry_run: DryRun = False,
    break_lease: BreakLease = False,
    quiet: Quiet = False,
) -> None:
    """Merge small feature files, and drop rows that count no more; what readers see stays the same."""
    from mirabelle.console import Console
    from mirabelle.pipeline.compact import compact as carry_out
    from mirabelle.pipeline.compact import dry_run as foretell

    loaded = load(config, set_, NO_PICTURES)
    if dry_run:
        foretell(loaded, Console(), embedding)
        return
    print_summary(carry_out(loaded, open_console(quiet), grace, embedding, break_lease))
