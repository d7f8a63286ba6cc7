"""What can be asked without running a job: outputs, networks, the configuration, this machine. Driver only.

Each function returns text for a terminal or a pipe.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import yaml
from rich.console import Console as RichConsole
from rich.table import Table
from rich.text import Text

from mirabelle import schema
from mirabelle.config import Config, keys
from mirabelle.config.stores import resolved_options
from mirabelle.errors import BarNotMet, ConfigError, OutputError
from mirabelle.network import backbones, preparing, weights
from mirabelle.network.cached import cache_folder
from mirabelle.network.embedding import Embedding
from mirabelle.storage import S3Options, Store, absolute, open_store
from mirabelle.storage.opening import AS_AWS_SAYS
from mirabelle.table.features import FeatureTable
from mirabelle.table.runlog import PACKAGES, installed, newest_manifests, read_manifests

TEXT_WIDTH = 118
ROWS_SHOWN = 5
VALUES_SHOWN = 4
RUNS_TOLD = 3


def show_output(target: str, s3: S3Options = AS_AWS_SAYS) -> str:
    """An output folder's runs, and for each embedding its counts, schema, lineage and a few rows.

    Args:
        target: the output.
        s3: how buckets are reached; by default as AWS's environment and files say.

    Raises:
        OutputError: nothing of ours is there.
    """
    output = absolute(target)
    store = open_store(output, s3)
    manifests = read_manifests(store, output) if store.exists(output) else []
    if not manifests:
        raise OutputError(
            f"{target} is neither an output of Mirabelle nor a backbone; `mirabelle inspect --backbones` lists those"
        )
    parts = [
        _table(
            f"Runs in {output}",
            ("run", "command", "status", "embedded", "rejected", "unchanged", "images/s", "seconds"),
            (_run_row(m) for m in manifests),
        )
    ]
    if spent := _seconds(manifests[-1]):
        parts.append(spent)
    if crawls := [manifest for manifest in manifests if manifest["command"] == "crawl"]:
        columns = ("run", "site", "layout", "status", "pages", "photos", "new", "failures", "requests")
        parts.append(_table("Crawls", columns, (_crawl_row(m) for m in crawls)))
    by_fingerprint = {m["fingerprint"]: m["embedding"] for m in manifests if m.get("embedding")}
    parts += [
        _show_table(store, FeatureTable(store, output, Embedding.from_json(facts))) for facts in by_fingerprint.values()
    ]
    return "\n".join(parts)


def check_newest(target: str, newer_than: timedelta, command: str | None = None, s3: S3Options = AS_AWS_SAYS) -> str:
    """Which run of an output was the last to end well, and when: what an alarm on absence asks.

    Args:
        target: the output.
        newer_than: how long ago it may have ended.
        command: count this command's runs alone, ``run`` or ``extract``.
        s3: how buckets are reached.

    Raises:
        BarNotMet: none has ended well since; the sentence has the last one, and how later ones ended.
    """
    output = absolute(target)
    store = open_store(output, s3)
    what = f"no {command or 'run'} of {target} has ended well"
    later: list[str] = []
    for manifest in newest_manifests(store, output) if store.exists(output) else ():
        if command not in (None, manifest["command"]):
            continue
        if manifest["status"] != "done":
            later.append(f"{manifest['run_id']} {manifest['status']}")
            continue
        ended = datetime.fromisoformat(manifest["finished"])
        age = datetime.now(UTC) - ended
        told = f"{manifest['run_id']} ({manifest['command']}) ended well at {ended:%Y-%m-%d %H:%M} UTC, {_ago(age)} ago"
        if age <= newer_than:
            return told
        raise BarNotMet(f"{what} in the last {_ago(newer_than)}; {told}{_since(later)}")
    raise BarNotMet(f"{what}{_since(later)}")


def _seconds(manifest: dict[str, Any]) -> str:
    """Where a run's time went, the driver's and the workers', in a line each."""

    def told(key: str, whose: str) -> list[str]:
        parts = (f"{took:.2f} {name.replace('_', ' ')}" for name, took in manifest.get(key, {}).items() if took)
        return [f"{whose} {line}"] if (line := ", ".join(parts)) else []

    return "\n".join([*told("seconds", "seconds of the newest run"), *told("worker_seconds", "and of its workers")])


def parse_duration(text: str) -> timedelta:
    """``90m``, ``26h``, ``2d``, or several of them: ``1d12h``.

    Raises:
        ConfigError: it is none.
    """
    if not re.fullmatch(r"(\d+[smhdw])+", text):
        raise ConfigError(f"{text!r} is no duration; write 90m, 26h, 2d or 1w")
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
    return sum((timedelta(**{units[unit]: int(n)}) for n, unit in re.findall(r"(\d+)(\w)", text)), timedelta())


def show_backbone(config: Config) -> str:
    """A network's row in the registry, its layers and its parameter counts, without loading weights."""
    row = backbones.find(config.backbone.name)
    input_px = config.backbone.input_px or row.input_px
    backbones.check(row, input_px)
    model = backbones.random_network(row, input_px, 0)
    layers = backbones.summarise(model)
    headless = backbones.headless(model, config.backbone.layer or row.layer, config.backbone.pooling)
    total = sum(layer.parameters for layer in layers)
    listed = _table(
        f"{row.name} without its top, at {input_px} px",
        ("layer", "kind", "output", "parameters"),
        ((x.name, x.kind, " x ".join(map(str, x.output_shape)), f"{x.parameters:,}") for x in layers),
    )
    layer = config.backbone.layer or row.layer
    return (
        f"{listed}\nparameters: {total:,}\nfeatures: {headless.output.shape[-1]:,} ({layer}, {config.backbone.pooling})"
        f"\nnormalisation: {row.normalisation}\nlicence of the weights: {row.licence}"
    )


def list_backbones() -> str:
    """The registry as a table."""
    rows = ((b.name, b.input_px, b.layer, b.width, b.normalisation, b.licence) for b in backbones.REGISTRY.values())
    return _table("Backbones", ("name", "input px", "layer", "width", "normalisation", "licence of the weights"), rows)


def fetch_weights(config: Config) -> str:
    """Fetch the configured network's weights into the cache and say what they are.

    Raises:
        WeightsError: they cannot be had.
    """
    network = preparing.prepare_network(config, "float32")
    embedding = network.embedding
    row = backbones.find(embedding.backbone)
    kept = weights.cached_imagenet(row, cache_folder(config))
    lines = [
        f"{embedding.backbone}: weights {embedding.weights}, ready in {cache_folder(config)}",
        f"sha256 of the tensors down to {embedding.layer}: {embedding.weights_digest}",
        f"licence: {row.licence}" if embedding.weights == "imagenet" else "",
        f"kept as {kept}" if embedding.weights == "imagenet" and kept.is_file() else "",
    ]
    return "\n".join(line for line in lines if line)


def diagnose(config: Config) -> str:
    """Java, Spark, the packages, the executors and the cache: what is there, and what follows from it.

    Raises:
        UserError: the first thing that would stop a run.
    """
    from mirabelle.spark.jvm import check_java
    from mirabelle.spark.preflight import run_preflight
    from mirabelle.spark.session import open_context

    lines = [f"java: {check_java()}"]
    lines += [f"{name}: {version}" for name, version in installed(PACKAGES).items()]
    with open_context(config.spark, wait_seconds=config.limits.executor_wait_seconds) as context:
        lines.append(f"Spark {context.version} at {context.master}")
        preflight = run_preflight(context, config, resolved_options(config))
    for worker in preflight.workers:
        lines.append(
            f"workers on {worker.host}: Python {worker.python}, {worker.cores} cores, {worker.cpu},"
            f" {' and '.join(worker.precisions)}"
        )
    lines.append(
        f"{preflight.slots} tasks at once, {preflight.threads} engine thread each, precision {preflight.precision}"
    )
    lines += [f"warning: {warning}" for warning in preflight.warnings]
    ready = preparing.is_cached(config, preflight.precision)
    state = "converted and in the cache" if ready else "to be built at the first run"
    lines.append(f"{config.backbone.name} ({config.backbone.weights}): {state}")
    return "\n".join([*lines, "all that a run needs is there"])


def explain_config() -> str:
    """Every key with its type, default and meaning."""
    return "\n\n".join(
        f"{name}  ({kind}; {default if default == 'required' else f'default {default}'})\n    {meaning}"
        for name, kind, default, meaning in keys()
    )


def show_config(config: Config) -> str:
    """The resolved configuration as YAML, secrets masked."""
    return yaml.safe_dump(config.masked(), sort_keys=False).rstrip()


def _show_table(store: Store, table: FeatureTable) -> str:
    import pyarrow.parquet as pq

    chunks = table.chunks()
    embedded, rejected = sum(c.embedded for c in chunks), sum(c.rejected for c in chunks)
    lineage = yaml.safe_dump(table.embedding.to_json(), sort_keys=False).rstrip()
    counted = f"{embedded:,} rows of features and {rejected:,} of rejects in {len(chunks)} chunks"
    text = f"{table.embedding.folder}: {counted}\n\n{lineage}\n"
    first = next((c for c in chunks if c.embedded), None)
    if first is None:
        return text
    # By this thread alone: one of Arrow's that still reads a Python file as the interpreter ends aborts the process.
    with store.open(table.files("features", first)[0]) as file, pq.ParquetFile(file, pre_buffer=False) as parquet:
        batch = next(parquet.iter_batches(ROWS_SHOWN, use_threads=False))
    columns = "\n".join(f"  {f.name}: {f.type}" for f in batch.schema)
    shown = batch.to_pylist()
    lines = (f"  {row[schema.PATH]}  {row[schema.LABEL]}  {_few(row[schema.FEATURES])}" for row in shown)
    return f"{text}\ncolumns\n{columns}\n\nsome rows\n" + "\n".join(lines)


def _ago(age: timedelta) -> str:
    minutes = max(0, int(age.total_seconds() // 60))
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def _since(later: Sequence[str]) -> str:
    return f"; since then: {', '.join(reversed(later[:RUNS_TOLD]))}" if later else ""


def _few(values: Sequence[float]) -> str:
    return "[" + ", ".join(f"{v:.4g}" for v in values[:VALUES_SHOWN]) + f", ... {len(values)} in all]"


def _crawl_row(manifest: dict[str, Any]) -> tuple[str, ...]:
    counts = manifest.get("counts", {})
    told = [str(manifest.get(name, "")) for name in ("run_id", "site", "layout", "status")]
    numbers = (counts.get(name) for name in ("pages", "photos", "new", "failures", "requests"))
    return *told, *("" if number is None else f"{number:,}" for number in numbers)


def _run_row(manifest: dict[str, Any]) -> tuple[object, ...]:
    counts = manifest.get("counts", {})
    speed = manifest.get("images_per_second")
    return (
        manifest["run_id"],
        manifest["command"],
        manifest["status"],
        counts.get("embedded", ""),
        counts.get("rejected", ""),
        counts.get("unchanged", ""),
        speed if speed is not None else "",
        manifest.get("seconds_total", ""),
    )


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    table = Table(title=Text(title), title_justify="left", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    sink = io.StringIO()
    RichConsole(file=sink, width=TEXT_WIDTH, no_color=True).print(table)
    return sink.getvalue().rstrip()
