"""What can be asked without running a job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mirabelle.cli.shared import NO_PICTURES, NO_PLACES, ConfigFile, Settings, load

verbs = typer.Typer()


@verbs.command()
def inspect(
    target: Annotated[str | None, typer.Argument(help="An output folder, or the name of a backbone.")] = None,
    config: ConfigFile = None,
    set_: Settings = None,
    backbones: Annotated[bool, typer.Option("--backbones", help="List the networks there are.")] = False,
) -> None:
    """Show an output's runs, counts, schema, lineage and some rows; or a network's layers and parameters."""
    from mirabelle import inspection
    from mirabelle.config.stores import s3_options
    from mirabelle.network.backbones import REGISTRY

    if backbones:
        typer.echo(inspection.list_backbones())
    elif target is None:
        raise typer.BadParameter("name an output folder or a backbone, or give --backbones")
    elif target.lower() in REGISTRY and not Path(target).is_dir():
        typer.echo(inspection.show_backbone(load(config, [f"backbone.name={target}", *(set_ or [])], NO_PLACES)))
    else:
        loaded = load(config, set_, NO_PLACES)
        typer.echo(inspection.show_output(target, s3_options(loaded)))


@verbs.command()
def verify(
    output: Annotated[str | None, typer.Argument(metavar="OUT", help="The output; or --config, --set output=.")] = None,
    config: ConfigFile = None,
    set_: Settings = None,
    deep: Annotated[bool, typer.Option("--deep", help="Read every value of the features, too.")] = False,
) -> None:
    """Check that an output's manifests, rows, rejects and markers agree; exit code 1 where they do not."""
    from mirabelle.config.stores import store_of
    from mirabelle.storage import absolute
    from mirabelle.verification import verify as verify_output

    loaded = load(config, [*(set_ or []), *([f"output={output}"] if output else [])], NO_PICTURES)
    root = absolute(loaded.output)
    found = verify_output(store_of(loaded, root), root, deep)
    print(found)
    if found.findings:
        raise typer.Exit(1)


@verbs.command()
def check(
    output: Annotated[str, typer.Argument(metavar="OUT", help="The output, here or s3://.")],
    newer_than: Annotated[str, typer.Option("--newer-than", metavar="AGE", help="90m, 26h, 2d.")],
    command: Annotated[
        str | None, typer.Option("--command", metavar="NAME", help="Count the runs of `run`, `extract`, ... alone.")
    ] = None,
    config: ConfigFile = None,
    set_: Settings = None,
) -> None:
    """Exit with 1 unless a run has ended well lately: the alarm for schedules that stopped, or fail each time."""
    from mirabelle.config.stores import s3_options
    from mirabelle.inspection import check_newest, parse_duration

    age = parse_duration(newer_than)
    typer.echo(check_newest(output, age, command, s3_options(load(config, set_, NO_PLACES))))


@verbs.command()
def doctor(config: ConfigFile = None, set_: Settings = None) -> None:
    """Check that this machine and every executor can do the work, before any image is read."""
    from mirabelle.inspection import diagnose

    typer.echo(diagnose(load(config, set_, NO_PLACES)))


@verbs.command()
def weights(
    backbone: Annotated[str, typer.Argument(help="Which network's ImageNet weights to fetch.")] = "resnet50",
    config: ConfigFile = None,
    set_: Settings = None,
) -> None:
    """Fetch a network's ImageNet weights into the cache, check them, and say where they are from."""
    from mirabelle.inspection import fetch_weights

    typer.echo(fetch_weights(load(config, [*(set_ or []), f"backbone.name={backbone}"], NO_PLACES)))


@verbs.command("config")
def show_config(
    config: ConfigFile = None,
    set_: Settings = None,
    explain: Annotated[bool, typer.Option("--explain", help="Every key with its default and meaning.")] = False,
) -> None:
    """Print the configuration as it would be used, or explain every key."""
    from mirabelle import inspection

    typer.echo(inspection.explain_config() if explain else inspection.show_config(load(config, set_)))
