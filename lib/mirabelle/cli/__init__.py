"""The ``mirabelle`` command: one verb a job. [argv]

May touch every room; runs on the driver, where a person or a schedule typed something. Nothing heavy is imported until
a verb needs it, so that ``--help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from mirabelle import __version__
from mirabelle.cli import answers, clusters, networks, outputs, pictures, stages
from mirabelle.errors import BarNotMet, MirabelleError
from mirabelle.signals import Interrupted, outlive_readers, raised_as_interrupted

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

# As they stand in --help.
PARTS = {
    "From pictures to a report": stages.verbs,
    "Pictures": pictures.verbs,
    "Networks": networks.verbs,
    "Answers": answers.verbs,
    "What is there": outputs.verbs,
    "Clusters": clusters.verbs,
}
for heading, verbs in PARTS.items():
    for verb in verbs.registered_commands:
        verb.rich_help_panel = heading
    app.add_typer(verbs)


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
