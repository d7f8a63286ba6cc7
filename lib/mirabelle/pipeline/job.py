"""One invocation: its checks, its manifest, its Spark session, and its stages in order. Driver only."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mirabelle import backbones, networks, weights
from mirabelle.config import Config
from mirabelle.console import Console
from mirabelle.current import newest_listing
from mirabelle.embedding import Embedding
from mirabelle.errors import (
    BarNotMet,
    OutputError,
    TrainingError,
    UserError,
)
from mirabelle.features import FeatureTable
from mirabelle.lease import Lease, hold
from mirabelle.networks import cache_folder
from mirabelle.pipeline.checks import validate
from mirabelle.pipeline.failures import recording_failure
from mirabelle.runlog import RunLog, read_manifests
from mirabelle.s3a import check_s3a, remember_jars, s3a_settings
from mirabelle.storage import S3Options, Store, absolute, is_s3, join
from mirabelle.stores import resolved_options, store_of, with_local_weights

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

STAGES = ("extract", "reduce", "train", "report")
MAX_FACTS_BYTES = 2**28


@dataclass
class Job:
    """What the stages of one invocation share.

    Attributes:
        config: validated.
        store: where the output is.
        s3: how buckets are reached, for workers too.
        root: the images' folder, whole path; empty where a manifest names them.
        output: whole path.
        runlog: this run's manifest.
        console: a person's view.
        lease: this run's right to write to the output.
        scratch: folder of this machine's disk, for as long as the job lasts.
        spark: the session, once it is open; the report needs none.
        failed_bars: sentences; any makes the exit code 1, after all stages are done.
        unmet: why stages of a whole run could not do their part; the others go on, and the exit code is 2.
    """

    config: Config
    store: Store
    s3: S3Options
    root: str
    output: str
    runlog: RunLog
    console: Console
    lease: Lease
    scratch: str
    spark: SparkSession | None = None
    failed_bars: list[str] = field(default_factory=list)
    unmet: list[UserError] = field(default_factory=list)
    summary: list[tuple[str, str]] = field(default_factory=list)

    @property
    def session(self) -> SparkSession:
        """The open session."""
        assert self.spark is not None, "this stage runs in a Spark session"
        return self.spark

    def embedding(self) -> Embedding:
        """The embedding to work on: this run's, else the newest run's, if the configuration asks for the like.

        Raises:
            OutputError: nothing was extracted yet, or only with another network.
        """
        own = self.runlog.manifest.get("embedding")
        if own:
            return Embedding.from_json(own)
        made = [m["embedding"] for m in read_manifests(self.store, self.output) if m.get("embedding")]
        if not made:
            raise OutputError(
                f"{self.output} holds no features yet; run `mirabelle extract` with this configuration first"
            )
        fitting = [parts for parts in made if self._asks_for(parts)]
        if not fitting:
            last = Embedding.from_json(made[-1])
            raise OutputError(
                f"{self.output} holds features of {last.folder} and none of the network that the configuration asks"
                f" for ({self.config.backbone.name}, weights {self.config.backbone.weights}); run `mirabelle extract`"
                " first"
            )
        self.runlog.update(embedding=fitting[-1], fingerprint=fitting[-1]["fingerprint"])
        return Embedding.from_json(fitting[-1])

    def listing_path(self) -> str | None:
        """The newest listing that this embedding's table was brought up to: what its current view is made of."""
        manifests = [*read_manifests(self.store, self.output), self.runlog.manifest]
        return newest_listing(manifests, self.output, self.embedding().fingerprint)

    def table(self) -> FeatureTable:
        """The feature table of ``embedding()``."""
        return FeatureTable(self.store, self.output, self.embedding())

    def folder(self, kind: str, run_id: str | None = None) -> str:
        """``<output>/<kind>/<id>``, of this run unless another is named."""
        return join(self.output, kind, run_id or self.runlog.run_id)

    def newest(self, kind: str, fingerprint: str) -> dict[str, Any] | None:
        """Facts of the newest finished ``pca`` or ``classifier`` of an embedding, or None."""
        parent = join(self.output, kind)
        if not self.store.exists(parent):
            return None
        paths = sorted((e.path for e in self.store.walk(parent) if e.path.endswith(f"/{kind}.json")), reverse=True)
        for path in paths:
            facts: dict[str, Any] = json.loads(self.store.read(path, MAX_FACTS_BYTES))
            if facts["fingerprint"] == fingerprint:
                return facts
        return None

    def write_json(self, path: str, facts: dict[str, Any]) -> None:
        """Put facts away as JSON."""
        self.store.write(path, json.dumps(facts, indent=2, default=str).encode())

    def _asks_for(self, parts: dict[str, Any]) -> bool:
        wanted = self.config.backbone
        row = backbones.find(wanted.name)
        return (
            parts["backbone"] == row.name
            and parts["weights"] == weights.parse(wanted.weights).name
            and parts["input_px"] == (wanted.input_px or row.input_px)
            and parts["layer"] == (wanted.layer or row.layer)
            and parts["pooling"] == wanted.pooling
            and parts["preprocessing"] == networks.preprocessing(self.config, row.normalisation, parts["precision"])
            and self.config.engine.precision in ("auto", parts["precision"])
        )


def execute(config: Config, stages: Sequence[str], command: str, console: Console, break_lease: bool = False) -> Job:
    """Run some of ``STAGES`` and return the finished job.

    Args:
        config: validated.
        stages: in order.
        command: what was asked, for the manifest.
        console: a person's view.
        break_lease: take the output from a run that is believed dead.

    Raises:
        UserError: the user can mend it; what earlier runs made is whole.
        BarNotMet: all stages ran, and the run failed a bar of its own.
        RunFailed: Spark or a worker broke; what was committed stays.
    """
    told = config.masked()
    config = with_local_weights(config, cache_folder(config))
    validate(config, stages)
    output = absolute(config.output)
    store = store_of(config, output)
    root = absolute(config.images.root) if config.images.root else ""
    runlog = RunLog(store, output, command, told)
    with (
        tempfile.TemporaryDirectory(prefix="mirabelle-") as scratch,
        hold(store, output, runlog.run_id, command, break_lease) as lease,
    ):
        job = Job(config, store, resolved_options(config), root, output, runlog, console, lease, scratch)
        runlog.write()
        with recording_failure(runlog):
            _run_stages(job, stages)
        problems = [*job.failed_bars, *(str(error) for error in job.unmet)]
        runlog.finish("failed" if problems else "done", "; ".join(problems) or None)
    if job.failed_bars:
        raise BarNotMet("; ".join(job.failed_bars), tuple(job.summary))
    if job.unmet:
        for name, text in job.summary:
            console.say(f"{name}: {text}")
        raise job.unmet[0]
    return job


def _run_stages(job: Job, stages: Sequence[str]) -> None:
    from mirabelle.pipeline.extract import Preparation, extract
    from mirabelle.pipeline.reduce import reduce
    from mirabelle.pipeline.report import report
    from mirabelle.pipeline.train import train

    if set(stages) - {"report"}:
        from mirabelle.session import open_session

        with ExitStack() as stack:
            preparation = stack.enter_context(Preparation(job)) if "extract" in stages else None
            with job.runlog.time("session"):
                settings = session_settings(job.config, job.s3, stages)
                # Only the classifier is computed by the JVM itself.
                coordinates = "train" not in stages
                job.spark = stack.enter_context(open_session(settings, cache_folder(job.config), coordinates))
            if needs_s3a(job.config, stages):
                check_s3a(job.spark)
                remember_jars(job.spark, cache_folder(job.config))
            images = extract(job, preparation) if preparation else None
            if "reduce" in stages:
                _attempt(job, reduce, stages)
            if "train" in stages and images is not None and not images.labels:
                job.console.warn(
                    "no image has a label (see images.layout and labels.table), so no classifier is trained"
                )
            elif "train" in stages:
                _attempt(job, train, stages)
    if "report" in stages:
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
