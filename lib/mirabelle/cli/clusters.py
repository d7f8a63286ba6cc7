"""Jobs on a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mirabelle.cli.shared import NO_PLACES, ConfigFile, Quiet, Settings, load, open_console, print_summary

verbs = typer.Typer()


@verbs.command()
def pack(
    config: ConfigFile = None,
    set_: Settings = None,
    to: Annotated[str, typer.Option("--to", metavar="FOLDER", help="Where to put it.")] = "dist/cluster",
    arch: Annotated[
        str, typer.Option("--arch", help="The cluster's CPUs: x86_64, or aarch64 for Graviton.")
    ] = "x86_64",
    python: Annotated[str, typer.Option("--python", help="The cluster's Python: 3.11, 3.12 or 3.13.")] = "3.11",
    part: Annotated[
        str, typer.Option("--for", help="`cluster`: its driver and workers; `worker`: the driver stays here.")
    ] = "cluster",
    include_python: Annotated[
        Path | None, typer.Option("--include-python", metavar="FOLDER", help="A Python that can be moved, to go along.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Make what a cluster needs: wheel, packages, converted network, Dockerfile; no Keras and no internet there.

    It is made for the cluster's CPUs and Python, whatever this machine's are. What is there already is not made again.
    """
    from mirabelle.cluster import packing
    from mirabelle.cluster.environment import Wanted

    # Checked by itself: --arch and --for have the words of an error in them.
    wanted = Wanted(arch, python, part, include_python)  # type: ignore[arg-type]
    packed = packing.pack(load(config, set_, NO_PLACES), wanted, Path(to), open_console(quiet))
    print_summary(packing.summary(packed))


@verbs.command()
def submit(
    to: Annotated[
        str | None, typer.Option("--to", help="yarn, standalone, emr, emr-serverless or emr-eks; or `submit.to`.")
    ] = None,
    job: Annotated[str, typer.Option("--job", metavar="VERB", help="run, extract, reduce, train, ...")] = "run",
    config: ConfigFile = None,
    set_: Settings = None,
    token: Annotated[
        str | None, typer.Option("--token", help="AWS: the same token starts the job once; a schedule's name and time.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be uploaded and asked, as JSON.")
    ] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="AWS: return once the job is started.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="AWS: Ctrl-C here ends the job there, too.")] = False,
    quiet: Quiet = False,
) -> None:
    """Pack, upload once, size the job from its listing, start it on a cluster and follow it; its exit code is ours.

    Where it goes is in the configuration's `submit` part: `mirabelle config --explain`.
    """
    from mirabelle.cluster.submitting import submit as send

    more = [f"submit.to={to}"] if to else []
    code = send(
        load(config, [*(set_ or []), *more]),
        job,
        open_console(quiet),
        token=token,
        dry_run=dry_run,
        wait=not no_wait,
        cancel=cancel,
    )
    if code:
        raise typer.Exit(code)
