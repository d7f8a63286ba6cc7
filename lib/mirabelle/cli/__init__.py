"""The ``mirabelle`` command: one verb a job. [argv]

Nothing heavy is imported until a verb needs it, so that ``--help`` answers at once.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mirabelle import __version__
from mirabelle.errors import BarNotMet, MirabelleError, PreflightError
from mirabelle.signals import Interrupted, outlive_readers, raised_as_interrupted

if TYPE_CHECKING:
    from mirabelle.config import Config
    from mirabelle.console import Console

app = typer.Typer(
    name="mirabelle",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="""From a folder of pictures to features, principal components, a classifier and a report, on Spark.

Start with `mirabelle run --config conf/fruits.yaml --set images.root=PICTURES --set output=OUT`.

Exit codes: 0 done; 1 the run failed a bar of its own, such as too many rejects, or broke; 2 something you can mend;
3 another run is at work on the output; 130 or 143 ended by Ctrl-C or SIGTERM.""",
)

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

# For verbs to which pictures and output mean nothing, so that none need be named.
NO_PLACES = ("images.root=.", "output=.")


def _add_verb(command: str, explanation: str, embeds: bool = False) -> None:
    """A verb that carries out one stage, or ``run`` for all of them."""

    def plain(
        config: ConfigFile = None,
        set_: Settings = None,
        dry_run: DryRun = False,
        break_lease: BreakLease = False,
        quiet: Quiet = False,
    ) -> None:
        _execute(command, _load(config, set_), dry_run, quiet, break_lease)

    def embedding(
        config: ConfigFile = None,
        set_: Settings = None,
        full: Full = False,
        dry_run: DryRun = False,
        break_lease: BreakLease = False,
        quiet: Quiet = False,
    ) -> None:
        more = ["extract.full=true"] if full else []
        _execute(command, _load(config, [*(set_ or []), *more]), dry_run, quiet, break_lease)

    app.command(command, help=explanation)(embedding if embeds else plain)


_add_verb(
    "extract",
    "Embed every new or changed image and commit its features; bad images become rows of `rejects`.",
    embeds=True,
)
_add_verb("reduce", "Fit PCA on the features and write the reduced rows and a Spark ML model.")
_add_verb("train", "Train a Spark ML classifier and judge it on pictures held out.")
_add_verb("report", "Write the report, one HTML page that works offline.")
_add_verb("run", "Do all of it: extract, reduce, train, report.", embeds=True)


@app.command()
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

    loaded = _load(config, set_, "images.root=.")
    if dry_run:
        foretell(loaded, Console(), embedding)
        return
    _print_summary(carry_out(loaded, _console(quiet), grace, embedding, break_lease))


@app.command()
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
        from mirabelle.crawl import verbs
    except ImportError as error:
        raise PreflightError(f"crawling needs {error.name}, which is not here; install mirabelle[crawl]") from error
    if explain:
        typer.echo(verbs.explain())
        return
    loaded = _load(config, set_, "images.root=.")
    console = _console(quiet)
    if check:
        typer.echo(verbs.check(loaded, console))
    elif reparse:
        _print_summary(verbs.reparse(loaded, console, break_lease))
    elif repair:
        typer.echo(verbs.repair(loaded, console))
    else:
        try:
            _print_summary(verbs.crawl(loaded, console, full, break_lease))
        except BarNotMet as failed:
            _print_summary(failed.summary)
            raise


@app.command()
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
        foretell(_load(config, set_), Console())
        return
    for name, text in explore_images(_load(config, set_), _console(quiet), break_lease):
        print(f"{name + ':':<12}{text}" if name else f"  {text}")


@app.command()
def certify(
    config: ConfigFile = None,
    set_: Settings = None,
    break_lease: BreakLease = False,
    quiet: Quiet = False,
) -> None:
    """Measure what each precision and way of decoding costs in fidelity, on your pictures, and how fast it is here.

    Each is held against Keras in float32 with exact decoding; OUT/certificate/<id>/certificate.json has the figures.
    With `engine.certify.min_cosine` or `.max_accuracy_loss`, `engine.precision: auto` takes the fastest that passes.
    """
    from mirabelle.pipeline.certificates import table
    from mirabelle.pipeline.certify import certify as carry_out

    certificate, path = carry_out(_load(config, set_), _console(quiet), break_lease)
    typer.echo(table(certificate))
    _print_summary([("kept in", path)])


@app.command()
def finetune(
    config: ConfigFile = None,
    set_: Settings = None,
    dry_run: DryRun = False,
    break_lease: BreakLease = False,
    quiet: Quiet = False,
) -> None:
    """Teach a network by the pictures themselves and judge it on pictures held out; no Spark, a GPU where there is one.

    One of your own or a backbone taught further, as the `finetune` part says. Killed at any moment, the same command
    goes on from the last epoch that ended; Ctrl-C keeps the best so far.
    """
    from mirabelle.console import Console
    from mirabelle.pipeline.finetune import dry_run as foretell
    from mirabelle.pipeline.finetune import finetune as carry_out

    if dry_run:
        foretell(_load(config, set_), Console())
        return
    try:
        _print_summary(carry_out(_load(config, set_), _console(quiet), break_lease))
    except BarNotMet as failed:
        _print_summary(failed.summary)
        raise


@app.command()
def compare(
    config: ConfigFile = None,
    set_: Settings = None,
    break_lease: BreakLease = False,
    quiet: Quiet = False,
) -> None:
    """Judge every classifier of an output on the same pictures: Spark's on features, and networks that were taught.

    Figures come with intervals over groups (`classify.group_by`), and each with McNemar's test against the next.
    """
    from mirabelle.pipeline.compare import as_table, compare_classifiers

    found, path = compare_classifiers(_load(config, set_, "images.root=."), _console(quiet), break_lease)
    typer.echo(as_table(found))
    _print_summary([("comparison", path)])


@app.command()
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

    loaded = _load(config, set_, "images.root=.")
    _print_summary(carry_out(loaded, _console(quiet), id_, name, index, break_lease))


@app.command()
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
    console = _console(quiet or (sys.stdout.isatty() and not parquet))
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
        _print_summary([("pictures", f"{done[0]:,} answered, {done[1]:,} rejected"), ("table", absolute(parquet))])
    if not done[0]:
        raise BarNotMet(f"none of {len(paths):,} pictures got an answer; their lines say why")


@app.command()
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

    server.serve(bundle, open_bundle, settings, _console(quiet).say)


@app.command()
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

    loaded = _load(config, [*(set_ or []), *([f"output={output}"] if output else [])], "images.root=.")
    root = absolute(loaded.output)
    found = verify_output(store_of(loaded, root), root, deep)
    print(found)
    if found.findings:
        raise typer.Exit(1)


@app.command()
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
    typer.echo(check_newest(output, age, command, s3_options(_load(config, set_, *NO_PLACES))))


@app.command()
def doctor(config: ConfigFile = None, set_: Settings = None) -> None:
    """Check that this machine and every executor can do the work, before any image is read."""
    from mirabelle.inspection import diagnose

    typer.echo(diagnose(_load(config, set_, *NO_PLACES)))


@app.command()
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
    packed = packing.pack(_load(config, set_, *NO_PLACES), wanted, Path(to), _console(quiet))
    _print_summary(packing.summary(packed))


@app.command()
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
        _load(config, [*(set_ or []), *more]),
        job,
        _console(quiet),
        token=token,
        dry_run=dry_run,
        wait=not no_wait,
        cancel=cancel,
    )
    if code:
        raise typer.Exit(code)


@app.command()
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
        typer.echo(inspection.show_backbone(_load(config, set_, f"backbone.name={target}", *NO_PLACES)))
    else:
        loaded = _load(config, set_, *NO_PLACES)
        typer.echo(inspection.show_output(target, s3_options(loaded)))


@app.command()
def weights(
    backbone: Annotated[str, typer.Argument(help="Which network's ImageNet weights to fetch.")] = "resnet50",
    config: ConfigFile = None,
    set_: Settings = None,
) -> None:
    """Fetch a network's ImageNet weights into the cache, check them, and say where they are from."""
    from mirabelle.inspection import fetch_weights

    typer.echo(fetch_weights(_load(config, [*(set_ or []), f"backbone.name={backbone}"], *NO_PLACES)))


@app.command("config")
def show_config(
    config: ConfigFile = None,
    set_: Settings = None,
    explain: Annotated[bool, typer.Option("--explain", help="Every key with its default and meaning.")] = False,
) -> None:
    """Print the configuration as it would be used, or explain every key."""
    from mirabelle import inspection

    typer.echo(inspection.explain_config() if explain else inspection.show_config(_load(config, set_)))


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mirabelle {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; errors of ours are printed as a sentence, without a traceback."""
    outlive_readers()
    try:
        with raised_as_interrupted():
            app(args=list(argv) if argv is not None else None, prog_name="mirabelle")
    except Interrupted as ended:
        print("; ".join([str(ended), *getattr(ended, "__notes__", [])]), file=sys.stderr)
        return ended.exit_code
    except SystemExit as finished:
        return finished.code if isinstance(finished.code, int) else int(finished.code is not None)
    except MirabelleError as error:
        sentence = f"failed its bar: {error}" if isinstance(error, BarNotMet) else f"error: {error}"
        print(sentence, file=sys.stderr, flush=True)
        if "PYSPARK_GATEWAY_PORT" in os.environ:  # started by spark-submit
            from mirabelle.spark.yarn import end_application

            end_application(error.exit_code, sentence)
        return error.exit_code
    return 0


def entry() -> None:
    """The console script."""
    sys.exit(main())


def _load(config: str | None, settings: list[str] | None, *defaults: str) -> Config:
    from mirabelle.config.stores import load_config

    return load_config(config, [*defaults, *(settings or [])])


def _execute(command: str, config: Config, dry_run: bool, quiet: bool, break_lease: bool) -> None:
    from mirabelle.console import Console
    from mirabelle.pipeline import STAGES, execute, preview

    stages = STAGES if command == "run" else (command,)
    console = _console(quiet)
    if dry_run:
        # What it says is all that it does.
        preview.dry_run(config, stages, Console())
        return
    try:
        job = execute(config, stages, command, console, break_lease)
    except BarNotMet as failed:
        _print_summary(failed.summary)
        raise
    _print_summary(job.summary)


def _console(quiet: bool) -> Console:
    from mirabelle.console import Console, ConsoleHandler

    console = Console(quiet)
    logger = logging.getLogger("mirabelle")
    logger.setLevel(logging.INFO)
    logger.handlers = [ConsoleHandler(console)]
    logger.propagate = False
    return console


def _print_summary(summary: Sequence[tuple[str, str]]) -> None:
    for name, text in summary:
        print(f"{name + ':':<12}{text}")
