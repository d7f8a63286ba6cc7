"""What was learnt, as a bundle that answers without Spark."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from mirabelle.cli.shared import NO_PICTURES, BreakLease, ConfigFile, Quiet, Settings, load, open_console, print_summary
from mirabelle.errors import BarNotMet, PreflightError

verbs = typer.Typer()


@verbs.command()
def bundle(
    config: ConfigFile = None,
    set_: Settings = None,
    id_: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Of a classifier or taught network. Default: the newest.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="What it is called. Default: as the output's folder.")
    ] = None,
    index: Annotated[
        bool, typer.Option("--index", help="With the training set's pictures, to ask for the nearest ones.")
    ] = False,
    break_lease: BreakLease = False,
    quiet: Quiet = False,
) -> None:
    """Pack what a run learnt into one folder and one .tar, which need neither Spark nor Keras to answer.

    It is checked against Spark's own predictions first; `mirabelle predict` asks it.
    """
    from mirabelle.pipeline.bundling import bundle as carry_out

    loaded = load(config, set_, NO_PICTURES)
    print_summary(carry_out(loaded, open_console(quiet), id_, name, index, break_lease))


@verbs.command()
def predict(
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE", help="Of `mirabelle bundle`: folder or .tar, or s3://.")],
    pictures: Annotated[list[str], typer.Argument(metavar="PICTURES...", help="Files, folders, or s3://.")],
    json_: Annotated[bool, typer.Option("--json", help="A line of JSON a picture.")] = False,
    parquet: Annotated[
        str | None, typer.Option("--parquet", metavar="FILE", help="Write a Parquet file, here or s3://.")
    ] = None,
    top: Annotated[
        int | None, typer.Option("--top", min=1, metavar="N", help="So many labels. Default: 3 in lines, else all.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Say what a bundle says of pictures, as lines, as JSON or as Parquet; no server and no Spark.

    A bad picture is a line with its reject code. Exit code 1 where none got an answer.
    """
    from mirabelle.bundle import asking, open_bundle
    from mirabelle.storage import absolute, open_store

    opened = open_bundle(bundle)
    paths = asking.pictures_at(pictures)
    # Lines on a terminal are progress enough.
    console = open_console(quiet or (sys.stdout.isatty() and not parquet))
    done = [0, 0]

    def tell(is_rejected: bool) -> None:
        done[is_rejected] += 1
        refresh()

    with console.track(len(paths), lambda: (done[0], done[1]), "predicting") as refresh:
        rows = asking.ask(opened, paths, top or (None if json_ or parquet else asking.TOP_SHOWN), tell)
        if parquet:
            rows = iter(kept := list(rows))
            open_store(parquet).write(absolute(parquet), asking.as_parquet(kept, opened.info))
        if json_:
            for path, found in rows:
                print(json.dumps(asking.as_json(path, found)), flush=True)
        elif not parquet:
            for line in asking.as_lines(rows, paths, opened.info):
                print(line, flush=True)
    if parquet and not json_:
        print_summary([("pictures", f"{done[0]:,} answered, {done[1]:,} rejected"), ("table", absolute(parquet))])
    if not done[0]:
        raise BarNotMet(f"none of {len(paths):,} pictures got an answer; their lines say why")


@verbs.command()
def serve(
    bundle: Annotated[
        str | None,
        typer.Argument(help="Folder or .tar that `mirabelle bundle` wrote, here or s3://; or a current.json to watch."),
    ] = None,
    host: Annotated[
        str | None, typer.Option("--host", help="Address to listen on [127.0.0.1]; 0.0.0.0 lets other machines in.")
    ] = None,
    port: Annotated[int | None, typer.Option("--port", help="Port to listen on [8080]; 0 takes a free one.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting of the server; can be given many times."),
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Every setting, its default and its meaning.")] = False,
    quiet: Quiet = False,
) -> None:
    """Answer pictures over HTTP, by what a run learnt: a page, /v1, the Open Inference Protocol v2, /docs, /metrics.

    Try it with `curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' localhost:8080/v1/predict`.

    Settings stand in `--set` or as `MIRABELLE_SERVE_...` in the environment; bearer tokens in a file
    (`--set tokens_file=FILE`) or in `MIRABELLE_SERVE_TOKENS`. SIGTERM ends it once every request that was taken in is
    answered; SIGHUP opens the bundle anew, and so does another name in a `current.json`.
    """
    try:
        from mirabelle import serve as server
    except ImportError as error:
        raise PreflightError(f"serving needs {error.name}, which is not here; install mirabelle[serve]") from error
    if explain:
        typer.echo(server.explain_settings())
        return
    if bundle is None:
        raise typer.BadParameter("name a bundle; `mirabelle bundle` makes one")
    more = [f"{name}={value}" for name, value in (("host", host), ("port", port)) if value is not None]
    settings = server.load_settings([*(set_ or []), *more])
    from mirabelle.bundle import open_bundle

    server.serve(bundle, open_bundle, settings, open_console(quiet).say)
