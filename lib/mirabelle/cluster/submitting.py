"""From a configuration to a running job on a cluster, and on to its end. [disk, buckets, AWS; starts spark-submit]

Runs where people type. On YARN and standalone clusters spark-submit does the work, and what it prints is what one sees;
AWS's services are asked, and the run's own manifest tells how far it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from dataclasses import asdict
from pathlib import Path

import yaml

from mirabelle.cluster import aws
from mirabelle.cluster.environment import Wanted
from mirabelle.cluster.following import ended, follow, newest, part, run_ids
from mirabelle.cluster.job import Files, Job
from mirabelle.cluster.packing import Pack, find_checkout, pack
from mirabelle.cluster.sizing import measure, prefix_warning, size_job
from mirabelle.cluster.spark_submit import find_spark_submit, properties_for_buckets, run_here, spark_submit_words
from mirabelle.config import Config
from mirabelle.config.stores import store_of
from mirabelle.console import Console
from mirabelle.errors import ConfigError
from mirabelle.storage import absolute, is_s3

JOBS = {
    "run": "run_pipeline",
    "extract": "extract_features",
    "reduce": "fit_pca",
    "train": "train_classifier",
    "report": "build_report",
    "compact": "compact_features",
}
POLL_SECONDS = 10.0
# Their stages have tables that Spark itself reads and writes.
WITH_SPARKS_OWN_TABLES = ("run", "reduce", "train")
HERE = ("yarn", "standalone")


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
        program = find_spark_submit()
        given = properties_for_buckets(program, checkout / "conf", config, command in WITH_SPARKS_OWN_TABLES)
        words = spark_submit_words(program, config, Job(name, token, _local_files(packed, script, config), size), given)
        if dry_run:
            print(json.dumps({"command": words}, indent=2))
            return 0
        return run_here(words)
    target = aws.open_target(wanted, aws.clients())
    uploads = _uploads(packed, script, config)
    job = Job(name, token, Files(*(uri for uri, _ in uploads)), size)
    if dry_run:
        requests = [asdict(request) for request in target.requests(job)]
        print(json.dumps({"uploads": [uri for uri, _ in uploads], "requests": requests}, indent=2))
        return 0
    _upload(config, uploads, console)
    before = run_ids(config)
    identity = target.start(job)
    for label, text in [*target.told(identity), ("results", config.output)]:
        console.say(f"{label + ':':<12}{text}")
    if not wait:
        return 0
    try:
        state = follow(target, identity, config, before, console, poll_seconds)
    except BaseException as error:
        # Ctrl-C and the like; no fault of the job's.
        if not isinstance(error, Exception):
            part(target, identity, cancel, console)
        raise
    return ended(state, newest(config, before))


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


def _local_files(packed: Pack, script: Path, config: Config) -> Files:
    content = _configuration(config)
    file = packed.wheel.parent / f"config-{hashlib.sha256(content).hexdigest()[:16]}.yaml"
    file.write_bytes(content)
    return Files(str(script), str(packed.zipped), str(packed.environment), str(packed.network), str(file))


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
