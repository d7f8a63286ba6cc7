"""What a run learnt into a bundle, checked against what it said before it is written. Driver only; needs no Spark."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mirabelle.bundle import Bundle, available_cores
from mirabelle.bundle.chaining import classifier_facts
from mirabelle.bundle.opened import CARD, FORMAT, FORMAT_OF_SEVERAL
from mirabelle.bundle.sealing import MANIFEST, SEAL, TAR, Files, seal, to_tar
from mirabelle.config import Config
from mirabelle.config.stores import with_local_weights
from mirabelle.console import Console
from mirabelle.errors import BundleError
from mirabelle.network.cached import cache_folder
from mirabelle.network.preparing import Network
from mirabelle.pipeline.bundle_check import check
from mirabelle.pipeline.bundle_index import make_index
from mirabelle.pipeline.bundle_parts import Parts, choose, gather
from mirabelle.pipeline.checks import validate
from mirabelle.pipeline.job import Job, open_job
from mirabelle.pipeline.model_card import model_card
from mirabelle.storage import absolute, join

REDUCTION, CLASSIFIER, STEP = "reduction.npz", "classifier.npz", "step-{}.npz"
# Of a name: what addresses and model servers take.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def bundle(
    config: Config,
    console: Console,
    wanted: str | None = None,
    name: str | None = None,
    index: bool = False,
    break_lease: bool = False,
) -> list[tuple[str, str]]:
    """Write ``bundle/<id>/`` and ``bundle/<id>.tar`` of a classifier or a taught network.

    Args:
        config: that it was trained with.
        console: a person's view.
        wanted: id of the classifier, or how it begins. Default: the newest.
        name: of the bundle, for people and addresses. Default: the output's last folder.
        index: with the training set's pictures, so that nearest ones can be asked for.
        break_lease: take the output from a run that is believed dead.

    Returns:
        What was done, as (name, text).

    Raises:
        UserError: there is nothing to bundle, or it would say something else than the batch job did.
    """
    told = config.masked()
    output = absolute(config.output)
    name = name or re.sub(r"[^A-Za-z0-9._-]+", "-", output.rpartition("/")[2]).strip("-._") or "mirabelle"
    if not _NAME.fullmatch(name):
        raise BundleError(
            f"the name {name!r} must be letters, digits, dots, hyphens and underscores; give another --name"
        )
    config = with_local_weights(config, cache_folder(config))
    validate(config, ())
    with open_job(config, "bundle", console, break_lease, told) as job:
        _carry_out(job, wanted, name, index)
    return job.summary


def _carry_out(job: Job, wanted: str | None, name: str, with_index: bool) -> None:
    kind, facts = choose(job, wanted)
    with job.runlog.time("gather"):
        parts = gather(job, kind, facts)
    job.runlog.update(bundled=facts["id"])
    files, told = files_of(parts), facts_of(parts, job.runlog.run_id, name, job.runlog.manifest["versions"])
    threads = available_cores()
    opened = Bundle({**told, "sha256": ""}, {**files, CARD: b""}, threads, job.s3)
    with job.runlog.time("check"):
        told["checks"] = check(job, parts, opened)
    job.console.say(_sentence(told["checks"]))
    if with_index:
        with job.runlog.time("index"):
            found = make_index(job, parts, opened)
        told["index"] = {"pictures": len(found.paths), "of": "reduced" if parts.projection else "features"}
        files |= found.to_files()
    files[CARD] = model_card(job, parts, told).encode()
    whole = seal(told, files)
    with job.runlog.time("write"):
        _write(job, whole)
    folder = job.folder("bundle")
    size = sum(len(content) for content in whole.values())
    job.runlog.update(bundle=folder)
    job.summary += [
        ("bundle", f"{folder}, {size / 2**20:.1f} MiB, and {folder}{TAR}"),
        ("holds", f"{told['estimator']} ({facts['id']}), {len(parts.chain.labels):,} labels"),
        ("checked", _sentence(told["checks"])),
    ]


def files_of(parts: Parts) -> Files:
    """What a bundle consists of but for its card and its index, by name."""
    files = {
        f"{folder}/{file}": content
        for folder, network in zip(_folders(parts), parts.networks, strict=True)
        for file, content in network.files.items()
    }
    files[CLASSIFIER] = parts.chain.first.to_bytes()
    for number, step in enumerate(parts.chain.steps.values()):
        files[STEP.format(number)] = step.classifier.to_bytes()
    if parts.projection:
        files[REDUCTION] = parts.projection.to_bytes()
    return files


def facts_of(parts: Parts, run_id: str, name: str, versions: dict[str, str]) -> dict[str, Any]:
    """All that the manifest says but for checks, index and files.

    Args:
        parts: what is bundled.
        run_id, name: of the bundle.
        versions: of the packages that make it.
    """
    facts, chain = parts.facts, parts.chain
    seen, *others = [_seen(network, folder) for network, folder in zip(parts.networks, _folders(parts), strict=True)]
    reduction = None
    if parts.projection:
        reduction = {"id": facts["pca"], "file": REDUCTION, "components": len(parts.projection.components)}
    return {
        "format": FORMAT_OF_SEVERAL if others else FORMAT,
        "id": run_id,
        "name": name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **seen,
        **({"networks": others} if others else {}),
        "reduction": reduction,
        "learnt": {"id": facts["id"], "kind": parts.kind},
        "estimator": f"{facts['estimator']} on {facts['features']}",
        # The network alone is a graph: PCA and classifiers are a few products in float64, as Spark computes them, which
        # OpenVINO's CPU plugin would do in the network's precision.
        "classifiers": [
            classifier_facts(chain, CLASSIFIER, None),
            *(classifier_facts(chain, STEP.format(number), coarse) for number, coarse in enumerate(chain.steps)),
        ],
        "thresholds": {"fine": chain.fine_threshold, "coarse": chain.coarse_threshold},
        "index": None,
        "checks": {},
        "versions": versions,
    }


def _folders(parts: Parts) -> list[str]:
    """Of the networks, in a bundle."""
    return ["network", *(f"network-{number}" for number in range(1, len(parts.networks)))]


def _seen(network: Network, folder: str) -> dict[str, Any]:
    """A network, and how it sees pictures, as it stands in a manifest."""
    return {
        "embedding": network.embedding.to_json(),
        "decode": asdict(network.decode),
        "network": {"engine": "openvino", "files": {file: f"{folder}/{file}" for file in sorted(network.files)}},
    }


def _sentence(checks: dict[str, Any]) -> str:
    rows = (
        f"{checks['rows']:,} rows held out differ by {checks['rows_off']:.1g} at most from Spark's; "
        if "rows" in checks
        else ""
    )
    return (
        f"{rows}{checks['pictures']:,} pictures read again differ by {checks['probabilities_off']:.1g} at most in"
        " probability"
    )


def _write(job: Job, files: Files) -> None:
    """The folder, its manifest and seal last, and the tar: none is one before it is whole."""
    folder = job.folder("bundle")
    for name in sorted(files, key=lambda name: (name in (MANIFEST, SEAL), name == SEAL, name)):
        job.store.write(join(folder, name), files[name])
    local = Path(job.scratch) / "bundle.tar"
    local.write_bytes(to_tar(files))
    job.store.upload(str(local), f"{folder}{TAR}")
