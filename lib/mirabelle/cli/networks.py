"""Networks that learn, what they are beside others, and what speed costs."""

from __future__ import annotations

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

verbs = typer.Typer()


@verbs.command()
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
        foretell(load(config, set_), Console())
        return
    with summed_up_anyway():
        print_summary(carry_out(load(config, set_), open_console(quiet), break_lease))


@verbs.command()
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

    found, path = compare_classifiers(load(config, set_, NO_PICTURES), open_console(quiet), break_lease)
    typer.echo(as_table(found))
    print_summary([("comparison", path)])


@verbs.command()
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

    certificate, path = carry_out(load(config, set_), open_console(quiet), break_lease)
    typer.echo(table(certificate))
    print_summary([("kept in", path)])
