"""One invocation, carried out: its checks, its manifest, its Spark session, and its stages in order. Driver only.

The stages after extract are imported when it is their turn: they bring pandas and more, half a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from mirabelle.config import Config
from mirabelle.config.stores import with_local_weights
from mirabelle.console import Console
from mirabelle.errors import ConfigError, OutputError, TrainingError
from mirabelle.network.cached import cache_folder
from mirabelle.pipeline.certificates import certified_precisions
from mirabelle.pipeline.checks import validate
from mirabelle.pipeline.extract import extract, finds_nothing
from mirabelle.pipeline.job import Job, open_job
from mirabelle.pipeline.preparation import Preparation
from mirabelle.spark.s3a import check_s3a, remember_jars, s3a_settings
from mirabelle.spark.session import check_names, open_context, works_here
from mirabelle.storage import S3Options, is_s3

STAGES = ("extract", "reduce", "train", "report")


def run(
    config: Config,
    stages: Sequence[str] = STAGES,
    *,
    quiet: bool = False,
    break_lease: bool = False,
) -> dict[str, Any]:
    """Do what ``mirabelle run``, or one of its stages, does.

    Args:
        config: from ``load_config``.
        stages: some of ``extract``, ``reduce``, ``train`` and ``report``, in this order.
        quiet: show no progress.
        break_lease: take the output from a run that is believed dead.

    Returns:
        The run's manifest, as it is in ``<output>/runs/<run_id>.json``: counts, seconds by stage, versions, embedding.

    Raises:
        UserError: the user can mend it; what earlier runs made is whole.
        BarNotMet: all stages ran, and the run failed a bar of its own.
        RunFailed: Spark or a worker broke; what was committed stays.
    """
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown or not stages:
        told = f"there is no stage {unknown[0]!r}" if unknown else "no stage is named"
        raise ConfigError(f"{told}; take some of {', '.join(STAGES)}")
    in_order = [stage for stage in STAGES if stage in stages]
    command = "run" if len(in_order) > 1 else in_order[0]
    return execute(config, in_order, command, Console(quiet), break_lease).runlog.manifest


def execute(
    config: Config,
    stages: Sequence[str],
    command: str,
    console: Console,
    break_lease: bool = False,
    began: float | None = None,
) -> Job:
    """Run some of ``STAGES`` and return the finished job.

    Args:
        config: validated.
        stages: in order.
        command: what was asked, for the manifest.
        console: a person's view.
        break_lease: take the output from a run that is believed dead.
        began: when the command did, by ``time.perf_counter``, for the manifest's ``seconds``.

    Raises:
        UserError: the user can mend it; what earlier runs made is whole.
        BarNotMet: all stages ran, and the run failed a bar of its own.
        RunFailed: Spark or a worker broke; what was committed stays.
    """
    arrived = time.perf_counter()
    told = config.masked()
    config = with_local_weights(config, cache_folder(config))
    validate(config, stages)
    with open_job(config, command, console, break_lease, told) as job:
        if began is not None:
            job.runlog.manifest["seconds"]["imports"] = round(arrived - began, 3)
        if "extract" in stages:
            job.certified = certified_precisions(config, job.store, job.output)
        _run_stages(job, stages)
    return job


def _run_stages(job: Job, stages: Sequence[str]) -> None:
    if set(stages) - {"report"}:
        with ExitStack() as stack:
            preparation = stack.enter_context(Preparation(job)) if "extract" in stages else None
            can_tell = list(stages) == ["extract"] and works_here(job.config.spark)
            if preparation and can_tell and finds_nothing(job, preparation):
                return
            settings = session_settings(job.config, job.s3, stages)
            # Only the classifier is computed by the JVM itself.
            coordinates = "train" not in stages
            wait_seconds = job.config.limits.executor_wait_seconds
            context = open_context(settings, cache_folder(job.config), coordinates, wait_seconds, job.runlog.time)
            job.spark = stack.enter_context(context)
            if {"reduce", "train"} & set(stages) and not is_s3(job.output):
                check_names(job.context, job.output)
            if needs_s3a(job.config, stages):
                check_s3a(job.context)
                remember_jars(job.context, cache_folder(job.config))
            if preparation is None:
                job.tell_cluster()
            images = extract(job, preparation) if preparation else None
            if "reduce" in stages:
                from mirabelle.pipeline.reduce import reduce

                _attempt(job, reduce, stages)
            if "train" in stages and images is not None and not images.labels:
                job.console.warn(
                    "no image has a label (see images.layout and labels.table), so no classifier is trained"
                )
            elif "train" in stages:
                from mirabelle.pipeline.train import train

                _attempt(job, train, stages)
    if "report" in stages:
        from mirabelle.pipeline.report import report

        report(job)


def needs_s3a(config: Config, stages: Sequence[str]) -> bool:
    """Whether Spark itself is to read and write a bucket; embedding is done by our own stores."""
    return is_s3(config.output) and bool({"reduce", "train"} & set(stages))


def session_settings(config: Config, s3: S3Options, stages: Sequence[str]) -> dict[str, object]:
    """Spark properties: the configuration's, over those that an output in a bucket needs."""
    return {**(s3a_settings(s3, cache_folder(config)) if needs_s3a(config, stages) else {}), **config.spark}


def _attempt(job: Job, stage: Callable[[Job], None], stages: Sequence[str]) -> None:
    """Run a stage; where a report comes after it, data that will not do for it stop nothing but the stage itself."""
    try:
        stage(job)
    except (TrainingError, OutputError) as error:
        if "report" not in stages:
            raise
        job.console.warn(str(error))
        job.unmet.append(error)
