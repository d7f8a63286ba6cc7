"""Where pictures come from and what they are like, before any network sees them."""

from __future__ import annotations

from typing import Annotated

import typer

from mirabelle.cli.shared import (
    NO_PICTURES,
    BreakLease,
    ConfigFile,
    DryRun,
    Quiet,
    Settings,
    load,
    open_console,
    print_summary,
    summed_up_anyway,
)
from mirabelle.errors import PreflightError

verbs = typer.Typer()


@verbs.command()
def crawl(
    config: ConfigFile = None,
    set_: Settings = None,
    full: Annotated[bool, typer.Option("--full", help="Read all lists to their end, past known photographs.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Read a few pages and show where each field was found.")
    ] = False,
    reparse: Annotated[bool, typer.Option("--reparse", help="Read the archived pages again; ask for nothing.")] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Look on the site's new pages for what is known of its photographs.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="What a site's description may say, and which there are.")
    ] = False,
    break_lease: BreakLease = False,
    quiet: Quiet = False,
) -> None:
    """Fetch a site's photographs and what it says of them, by its description, into one table with the pictures.

    It keeps the site's rules, takes only what is new, goes on after any interruption, and notices when the site has
    changed: then it keeps what it has and exits with 1.
    """
    if sum((check, reparse, repair, explain)) > 1:
        raise typer.BadParameter("one of --check, --reparse, --repair and --explain at a time")
    try:
        from mirabelle.crawl import verbs as crawling
    except ImportError as error:
        raise PreflightError(f"crawling needs {error.name}, which is not here; install mirabelle[crawl]") from error
    if explain:
        typer.echo(crawling.explain())
        return
    loaded = load(config, set_, NO_PICTURES)
    console = open_console(quiet)
    if check:
        typer.echo(crawling.check(loaded, console))
    elif reparse:
        print_summary(crawling.reparse(loaded, console, break_lease))
    elif repair:
        typer.echo(crawling.repair(loaded, console))
    else:
        with summed_up_anyway():
            print_summary(crawling.crawl(loaded, console, full, break_lease))


@verbs.command()
def explore(
    config: ConfigFile = None,
    set_: Settings = None,
    dry_run: DryRun = False,
    break_lease: BreakLease = False,
    quiet: Quiet = False,
) -> None:
    """Show what the images are before any network sees them: labels, what is missing, groups, sizes, look-alikes.

    Tables as Parquet and CSV and a page, below OUT/explore; each table with a sentence on what it means for learning.
    """
    from mirabelle.console import Console
    from mirabelle.pipeline.explore import dry_run as foretell
    from mirabelle.pipeline.explore import explore_images

    if dry_run:
        foretell(load(config, set_), Console())
        return
    for name, text in explore_images(load(config, set_), open_console(quiet), break_lease):
        print(f"{name + ':':<12}{text}" if name else f"  {text}")
