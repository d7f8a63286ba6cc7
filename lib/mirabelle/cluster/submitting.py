"""From a configuration to a running job on a cluster, and on to its end. [disk, buckets, AWS; starts spark-submit]

Runs where people type. On YARN and standalone clusters spark-submit does the work, and what it prints is what one sees;
AWS's services are asked, and the run's own manifest tells how far it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

from mirabelle.cluster import aws
from mirabelle.cluster.environment import Wanted
from mirabelle.cluster.job import PYTHON, Files, Job, Phase, State, Target
from mirabelle.cluster.packing import Pack, find_checkout, pack
from mirabelle.cluster.sizing import measure, prefix_warning, size_job
from mirabelle.config import Config
from mirabelle.config.stores import store_of
from mirabelle.console import Console
from mirabelle.errors import BarNotMet, ConfigError, MirabelleError, OutputInUse, RunFailed, UserError
from mirabelle.storage import absolute, is_s3
from mirabelle.table.runlog import newest_manifests

JOBS = {
    "run": "run_pipeline",
    "extract": "extract_features",
    "reduce": "fit_pca",
    "train": "train_classifier",
    "report": "build_report",
    "compact": "compact_features",
}
POLL_SECONDS = 10.0
# What a service may fail to answer in a row before a job is given up as lost sight of.
MISSES = 10
HERE = ("yarn", "standalone")

Submission = Callable[[], int]


def submit(
    config: Config,
    command: str,
    console: Console,
    *,
    token: str | None = None,
    dry_run: bool = False,
    wait: bool = True,
    cancel: bool = False,
    poll_seconds: float = POLL_SECONDS,
) -> int:
    """Submit a job and follow it to its end.

    Args:
        config: its ``submit`` part says where to.
        command: what to run there, a key of ``JOBS``.
        console: for progress.
        token: the same one starts the job once, as a schedule wants it; None: a new one.
        dry_run: print what would be uploaded and asked, as JSON, and do neither.
        wait: False: return once it is started.
        cancel: end the job when this is interrupted.
        poll_seconds: between looks.

    Returns:
        The job's own exit code; 0 if it is not waited for.

    Raises:
        ConfigError: the configuration makes no sense there.
        RunFailed: the cluster broke, or was lost sight of.
        UserError, BarNotMet: what the job itself ended with.
    """
    _check(config, command)
    wanted = config.submit
    checkout = find_checkout()
    images, size_bytes = measure(config)
    size = size_job(config, images, size_bytes)
    for name, text in size.lines():
        console.say(f"{name + ':':<12}{text}")
    if warning := prefix_warning(config, size):
        console.say(warning)
    packed = pack(config, Wanted(wanted.arch, wanted.python, "cluster"), Path(wanted.pack), console)
    script = checkout / "jobs" / f"{JOBS[command]}.py"
    name, token = f"mirabelle {command} {config.output}"[:256], token or f"mirabelle-{uuid.uuid4().hex}"
    if wanted.to in HERE:
        words = _spark_submit(config, Job(name, token, _local_files(packed, script, config), size))
        if dry_run:
            print(json.dumps({"command": words}, indent=2))
            return 0
        return _run_here(words)
    target = aws.open_target(wanted, aws.clients())
    uploads = _uploads(packed, script, config)
    job = Job(name, token, Files(*(uri for uri, _ in uploads)), size)
    if dry_run:
        requests = [asdict(request) for request in target.requests(job)]
        print(json.dumps({"uploads": [uri for uri, _ in uploads], "requests": requests}, indent=2))
        return 0
    _upload(config, uploads, console)
    before = _run_ids(config)
    identity = target.start(job)
    for label, text in [*target.told(identity), ("results", config.output)]:
        console.say(f"{label + ':':<12}{text}")
    if not wait:
        return 0
    try:
        state = follow(target, identity, config, before, console, poll_seconds)
    except BaseException as ended:
        # Ctrl-C and the like; no fault of the job's.
        if not isinstance(ended, Exception):
            _part(target, identity, cancel, console)
        raise
    return _ended(state, _newest(config, before))


def follow(
    target: Target, identity: str, config: Config, before: frozenset[str], console: Console, poll_seconds: float
) -> State:
    """Look at a job until it is over; say what changes.

    Args:
        target: where it runs.
        identity: its own there.
        config: its output is where the manifest will be.
        before: runs that were there before it.
        console: for progress.
        poll_seconds: between looks.
    """
    said, misses = "", 0
    while True:
        try:
            state = target.state(identity)
            misses = 0
        except RunFailed:
            misses += 1
            if misses >= MISSES:
                raise
            time.sleep(poll_seconds)
            continue
        told = f"{state.told}{_progress(_newest(config, before)) if state.phase is Phase.RUNNING else ''}"
        if told != said and not state.is_over:
            console.say(told)
            said = told
        if state.is_over:
            return state
        time.sleep(poll_seconds)


def _check(config: Config, command: str) -> None:
    wanted = config.submit
    if command not in JOBS:
        raise ConfigError(f"--job {command}: there are {', '.join(JOBS)}")
    if wanted.to is None:
        raise ConfigError("submit.to: say where, --to yarn, standalone, emr, emr-serverless or emr-eks")
    if wanted.to == "standalone" and not wanted.master:
        raise ConfigError("submit.master: standalone needs it, spark://host:7077")
    if wanted.to in HERE:
        return
    places = {
        "submit.staging": wanted.staging,
        "output": config.output,
        "images.root": config.images.root,
        "images.manifest": config.images.manifest,
        "labels.table": config.labels.table,
    }
    mistakes = [
        f"{key} {place!r} is on this machine, where {wanted.to} cannot read it; give s3://bucket/prefix"
        for key, place in places.items()
        if place and not is_s3(place)
    ]
    if mistakes:
        raise ConfigError(*mistakes)


def _uploads(packed: Pack, script: Path, config: Config) -> list[tuple[str, bytes | Path]]:
    """Where each of the job's files goes, in the order of ``Files``; the same content goes to the same place."""
    staging = str(config.submit.staging).rstrip("/")
    found: list[tuple[str, bytes | Path]] = []
    for path in (script, packed.zipped, packed.environment, packed.network):
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        found.append((f"{staging}/{digest[:16]}/{path.name}", path))
    content = _configuration(config)
    return [*found, (f"{staging}/{hashlib.sha256(content).hexdigest()[:16]}/config.yaml", content)]


def _configuration(config: Config) -> bytes:
    """All settings in one file, as the cluster needs them; ``spark.master`` is not for there."""
    plain = config.model_dump(mode="json", exclude_defaults=True)
    # A job there has another working directory.
    for section, key in (("images", "root"), ("images", "manifest"), ("labels", "table")):
        if plain.get(section, {}).get(key):
            plain[section][key] = absolute(plain[section][key])
    plain["output"] = absolute(config.output)
    # The packed network is known there by the name of its file of weights.
    if "weights" in plain.get("backbone", {}):
        plain["backbone"]["weights"] = os.path.basename(config.backbone.weights)
    # It says where a job is sent, and what is sent is there already.
    plain.pop("submit", None)
    plain.pop("cache", None)
    if "spark" in plain:
        plain["spark"] = {key: value for key, value in plain["spark"].items() if key != "spark.master"}
    return yaml.safe_dump(plain, sort_keys=False).encode()


def _upload(config: Config, uploads: list[tuple[str, bytes | Path]], console: Console) -> None:
    store = store_of(config, str(config.submit.staging))
    for uri, content in uploads:
        if store.exists(uri):
            continue
        if isinstance(content, bytes):
            store.write(uri, content)
        else:
            console.say(f"uploading {content.name} ({content.stat().st_size / 1e6:,.1f} MB)")
            store.upload(str(content), uri)


def _local_files(packed: Pack, script: Path, config: Config) -> Files:
    content = _configuration(config)
    file = packed.wheel.parent / f"config-{hashlib.sha256(content).hexdigest()[:16]}.yaml"
    file.write_bytes(content)
    return Files(str(script), str(packed.zipped), str(packed.environment), str(packed.network), str(file))


def _spark_submit(config: Config, job: Job) -> list[str]:
    """spark-submit's words: YARN in cluster mode, standalone with the driver here."""
    wanted = config.submit
    program = shutil.which("spark-submit") or str(Path(sys.executable).with_name("spark-submit"))
    if not Path(program).is_file():
        raise ConfigError("there is no spark-submit on PATH; install Spark, or mirabelle[spark]")
    properties = job.properties
    files = job.files
    if wanted.to == "yarn":
        words = [program, "--master", "yarn", "--deploy-mode", "cluster", "--files", files.config]
        properties |= {"spark.pyspark.python": PYTHON, "spark.yarn.maxAppAttempts": "1"}
        arguments = ["--config", Path(files.config).name, *job.arguments[2:]]
    else:
        # The driver is this Python, and its network comes from the cache here.
        words = [program, "--master", str(wanted.master)]
        properties |= {"spark.pyspark.python": PYTHON, "spark.pyspark.driver.python": sys.executable}
        properties["spark.archives"] = properties["spark.archives"].partition(",")[0]
        properties["spark.cores.max"] = str(job.size.executors * job.size.cores)
        arguments = ["--config", files.config, "--set", f"cache={config.cache}"]
    words += ["--py-files", files.zipped, "--name", job.name]
    del properties["spark.submit.pyFiles"]
    for key, value in {**properties, **_spark_properties(config)}.items():
        words += ["--conf", f"{key}={value}"]
    return [*words, files.script, *arguments]


def _spark_properties(config: Config) -> dict[str, str]:
    """What the configuration itself says of Spark goes before the sizes reckoned here."""
    told = {key: str(value) for key, value in config.spark.items() if key != "spark.master"}
    return {key: value.lower() if value in ("True", "False") else value for key, value in told.items()}


def _run_here(words: list[str]) -> int:
    """spark-submit, whose output is shown as it comes; the job's own exit code, which cluster mode hides in a line."""
    code = None
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace") as run:
        assert run.stdout is not None
        for line in run.stdout:
            sys.stderr.write(line)
            if found := re.search(r"exit code (\d+): ", line):
                code = int(found[1])
    return code if run.returncode and code is not None else run.returncode


def _run_ids(config: Config) -> frozenset[str]:
    output = absolute(config.output)
    store = store_of(config, output)
    folder = f"{output.rstrip('/')}/runs"
    found = store.walk(folder) if store.exists(folder) else iter(())
    return frozenset(os.path.basename(entry.path).removesuffix(".json") for entry in found)


def _newest(config: Config, before: frozenset[str]) -> dict[str, Any] | None:
    """The manifest of the run that began since, if it has begun."""
    output = absolute(config.output)
    # How far it is may be asked again; the job goes on meanwhile.
    with suppress(MirabelleError):
        store = store_of(config, output)
        newer = takewhile(lambda m: m["run_id"] not in before, newest_manifests(store, output))
        return next(newer, None)
    return None


def _progress(manifest: dict[str, Any] | None) -> str:
    if manifest is None:
        return ""
    done = manifest.get("progress")
    if not done:
        return f", run {manifest['run_id']} has begun"
    embedded, rejected = done["embedded"], done["rejected"]
    return f", {embedded + rejected:,} of {done['to_do']:,} pictures ({rejected:,} rejected)"


def _part(target: Target, identity: str, cancel: bool, console: Console) -> None:
    if cancel:
        target.cancel(identity)
        console.say(f"{identity} is being cancelled")
    else:
        console.say(f"{identity} goes on; --cancel would have ended it with this command")


def _ended(state: State, manifest: dict[str, Any] | None) -> int:
    """The exit code of what the job said of itself, else of what the cluster said."""
    if state.phase is Phase.DONE:
        return 0
    known = manifest or {}
    told = str(known.get("error") or state.told)
    code = known.get("exit_code")
    if code is None and (found := re.search(r"(?:ExitCode: |exit code )(\d+)", state.told)):
        code = int(found[1])
    if state.phase is Phase.CANCELLED:
        raise RunFailed(f"the job was cancelled ({state.told}); what it had committed is kept")
    if bars := known.get("failed_bars"):
        raise BarNotMet("; ".join(bars))
    kinds: dict[int | None, type[MirabelleError]] = {2: UserError, 3: OutputInUse}
    raise kinds.get(code, RunFailed)(told.removeprefix("error: "))
