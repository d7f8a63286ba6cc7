"""What certificates of an output say: of a network, of the precision to take, on a terminal. Driver only."""

from __future__ import annotations

import json
import logging
from typing import Any

from mirabelle.config import Config
from mirabelle.errors import FetchError, OutputError
from mirabelle.network import backbones, preparing, weights
from mirabelle.network.embedding import Precision
from mirabelle.pipeline.job import Job
from mirabelle.report import Certified
from mirabelle.storage import Store, join

log = logging.getLogger(__name__)

MAX_BYTES = 2**26
HEAD = (
    "",
    "cosine: worst, 1 %, mean",
    "centred",
    "ten nearest",
    "angles: median, largest, degrees",
    "classifier",
    "images/s",
)
NETWORK = ("backbone", "weights", "weights_digest", "input_px", "layer", "pooling")


def newest(store: Store, output: str, network: dict[str, Any]) -> dict[str, Any] | None:
    """The newest certificate of a network, or None.

    Args:
        store: of the output.
        output: its root.
        network: must agree with the certificate's in all that it tells; an embedding's JSON does.

    Raises:
        OutputError: a certificate is damaged.
    """
    parent = join(output, "certificate")
    there = store.walk(parent) if store.exists(parent) else iter(())
    for path in sorted((e.path for e in there if e.path.endswith("/certificate.json")), reverse=True):
        try:
            found: dict[str, Any] = json.loads(store.read(path, MAX_BYTES))
            certified = found["network"]
            if all(certified[key] == network[key] for key in NETWORK if key in network):
                return found
        except (FetchError, ValueError, KeyError, TypeError) as error:
            raise OutputError(f"{path} is damaged ({error}); remove its folder, and run `mirabelle certify`") from error
    return None


def certified_precisions(config: Config, store: Store, output: str) -> tuple[Precision, ...]:
    """Which precisions ``auto`` may take by ``engine.certify``, the fastest first; none: it is as without.

    Float32 is always among them, at the end where it does not pass either. Says what follows.

    Raises:
        OutputError: a certificate is damaged.
    """
    engine = config.engine
    if engine.precision != "auto" or engine.name != "openvino" or not engine.certify.is_bar:
        return ()
    certificate = newest(store, output, _network_of(config))
    if certificate is None:
        log.warning(
            "engine.certify asks for a certificate, and %s has none of this network; run `mirabelle certify` with this"
            " configuration, until when engine.precision auto is as without",
            output,
        )
        return ()
    passing = [row for row in certificate["rows"] if _is_that_of(config, row) and passes(config, row)]
    passing.sort(key=lambda row: -row["images_per_second"])
    found: list[Precision] = [row["precision"] for row in passing]
    log.info(
        "by certificate %s engine.precision may be %s", certificate["id"], ", ".join(found) or "none; it is float32"
    )
    return (*found, *(() if "float32" in found else ("float32",)))


def passes(config: Config, row: dict[str, Any]) -> bool:
    """Whether a certificate's row keeps to ``engine.certify``; without labels an accuracy cannot be kept to."""
    asked, classifier = config.engine.certify, row["classifier"]
    if asked.min_cosine is not None and row["cosine"]["worst"] < asked.min_cosine:
        return False
    if asked.max_accuracy_loss is None:
        return True
    return classifier is not None and float(classifier["loss_interval"][1]) <= asked.max_accuracy_loss


def _network_of(config: Config) -> dict[str, Any]:
    """The configured network, as far as it is known without building it; but files of one name may differ."""
    input_px, layer = preparing.shape_of(config)
    source = weights.parse(config.backbone.weights)
    known = {
        "backbone": backbones.find(config.backbone.name).name,
        "input_px": input_px,
        "layer": layer,
        "pooling": config.backbone.pooling,
    }
    if source.path is None:
        return {**known, "weights": source.name}
    return {**known, "weights_digest": preparing.prepare_network(config, "float32").embedding.weights_digest}


def _is_that_of(config: Config, row: dict[str, Any]) -> bool:
    """Whether a run with the row's precision would give the very features that were certified."""
    precision, embedding = row["precision"], row["embedding"]
    normalisation = backbones.find(config.backbone.name).normalisation
    if embedding["preprocessing"] != preparing.preprocessing(config, normalisation, precision):
        return False
    return bool(precision != "int8" or preparing.kept_calibration(config) == embedding["calibration"])


def table(certificate: dict[str, Any]) -> str:
    """A certificate for a terminal."""
    pictures, machine, network = certificate["pictures"], certificate["machine"], certificate["network"]
    lines = [HEAD, _reference_line(certificate)]
    lines += [(f"{row['precision']}, {row['decoding']}", *figures(row)) for row in certificate["rows"]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    said = [
        f"{network['backbone']}, weights {network['weights']}, on {pictures['measured']:,} of {pictures['listed']:,}"
        f" pictures; {machine['cores']} cores of {machine['cpu']}"
    ]
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        said.append("  ".join(cells).rstrip())
    return "\n".join([*said, about(certificate), *certificate["left_out"]])


def about(certificate: dict[str, Any]) -> str:
    """What the figures are of, in a sentence."""
    labels = certificate["labels"]
    judged = (
        f"the classifier is a logistic regression on them, by folds, on {labels['pictures']:,} pictures of"
        f" {labels['classes']:,} labels"
        if "accuracy" in labels
        else f"there is no classifier, as {labels['why_not']}"
    )
    return f"angles are those of the first {certificate['components']} principal components; {judged}"


def figures(row: dict[str, Any]) -> tuple[str, ...]:
    """A row's figures as text, in the order of ``HEAD``."""
    cosine, centred = (
        " ".join(f"{row[name][key]:.4f}" for key in ("worst", "percentile_1", "mean")) for name in ("cosine", "centred")
    )
    lost, judged = row["classifier"], "-"
    if lost:
        low, high = lost["loss_interval"]
        judged = f"{lost['accuracy']:.3f} (loss {lost['loss']:.3f}, {low:.3f} to {high:.3f})"
    return (
        cosine,
        centred,
        f"{row['neighbours']:.1%}",
        f"{row['angle_median']:.2g} {row['angle_largest']:.2g}",
        judged,
        f"{row['images_per_second']:.1f}",
    )


def _reference_line(certificate: dict[str, Any]) -> tuple[str, ...]:
    reference, labels = certificate["reference"], certificate["labels"]
    accuracy = f"{labels['accuracy']:.3f}" if "accuracy" in labels else "-"
    return (reference["name"], "", "", "", "", accuracy, f"{reference['images_per_second']:.1f}")


def certified(job: Job) -> Certified | None:
    """What the page says of the newest certificate of the report's network, or None."""
    embedding = job.embedding()
    network = {key: value for key, value in embedding.to_json().items() if key != "weights"}
    certificate = newest(job.store, job.output, network)
    if certificate is None:
        return None
    pictures, machine = certificate["pictures"], certificate["machine"]
    rows = [_reference_line(certificate)]
    taken = None
    for row in certificate["rows"]:
        name = f"{row['precision']}, {row['decoding']}"
        if row["embedding"]["fingerprint"] == embedding.fingerprint:
            taken = name
        rows.append((name, *figures(row)))
    return Certified(
        certificate["id"],
        pictures["measured"],
        pictures["listed"],
        f"{machine['cores']} cores of {machine['cpu']}",
        HEAD[1:],
        rows,
        about(certificate),
        certificate["left_out"],
        taken,
    )
