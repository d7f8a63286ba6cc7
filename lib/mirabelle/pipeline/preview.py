"""What a job would do: ``--dry-run``. Driver only; needs no Spark and writes nothing to the output."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

from mirabelle import schema
from mirabelle.config import Config
from mirabelle.config.stores import store_of, with_local_weights
from mirabelle.console import Console
from mirabelle.listing.source import read_listing
from mirabelle.network import preparing
from mirabelle.network.cached import cache_folder
from mirabelle.pipeline.certificates import certified_precisions
from mirabelle.pipeline.checks import validate
from mirabelle.pipeline.extract import describe
from mirabelle.pipeline.source import warn_of_rows
from mirabelle.storage import absolute
from mirabelle.storage.database import open_database, quoted
from mirabelle.table.difference import compare
from mirabelle.table.features import FeatureTable

LABELS_SHOWN = 200


def dry_run(config: Config, stages: Sequence[str], console: Console) -> None:
    """Say what ``execute`` would do, after the same checks; writes nothing to the output.

    Raises:
        UserError: what ``execute`` would refuse before Spark starts.
    """
    config = with_local_weights(config, cache_folder(config))
    validate(config, stages)
    if "extract" in stages:
        _foretell_extract(config, console)
    fewest = f"the fewest components that hold {config.reduce.variance:.0%} of the variance"
    plans = {
        "reduce": f"PCA to {config.reduce.components or fewest}",
        "train": f"{config.classify.estimator} on {config.classify.features} features",
        "report": "one HTML page",
    }
    for stage in stages:
        if stage in plans:
            console.say(f"{stage}: {plans[stage]}")


def _foretell_extract(config: Config, console: Console) -> None:
    """Say what ``extract`` would do here, without Spark and without writing to the output."""
    with tempfile.TemporaryDirectory(prefix="mirabelle-") as scratch:
        images = read_listing(config, scratch)
        warn_of_rows(images, config, console)
        root = absolute(config.images.root) if config.images.root else config.images.manifest
        console.say(f"{images.rows:,} images, {images.size_bytes / 2**20:,.1f} MiB, in {root}")
        with open_database(scratch) as database:
            for name in (schema.SPLIT, schema.LABEL):
                query = f"select {name}, count(*) from {quoted(images.file)} group by 1 order by 1 nulls last"
                counts = database.execute(query).fetchmany(LABELS_SHOWN)
                console.say(
                    f"{name}: " + ", ".join(f"{'none' if value is None else value} {n:,}" for value, n in counts)
                )
        output = absolute(config.output)
        certified = certified_precisions(config, store_of(config, output), output)
        precision = preparing.precision_here(config, certified)
        if not preparing.is_cached(config, precision):
            console.say(
                f"{config.backbone.name} ({config.backbone.weights}) would be built and converted first; all images"
                " count as new"
            )
            to_do = images.rows
        else:
            network = preparing.prepare_network(config, precision)
            table = FeatureTable(store_of(config, output), output, network.embedding)
            difference = compare(table, images, network.decode, scratch, config.extract.full)
            console.say(f"{network.embedding.folder}, if the workers' CPUs are like this one: {describe(difference)}")
            to_do = difference.to_do
        console.say(f"would embed {to_do:,} images into chunks below {output}")
