"""What goes into a bundle: the network and what was learnt of it, out of an output. Driver only; needs no Spark."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mirabelle.bundle.chaining import Chain, Step, constant
from mirabelle.bundle.classifying import Classifier, linear
from mirabelle.config import Config
from mirabelle.config.stores import MAX_WEIGHTS_BYTES, with_local_weights
from mirabelle.errors import BundleError, FetchError, OutputError
from mirabelle.network import backbones
from mirabelle.network.cached import cache_folder
from mirabelle.network.embedding import Embedding
from mirabelle.network.heads import ANSWER, head_of
from mirabelle.network.preparing import Network, prepare_network
from mirabelle.pipeline.job import MAX_FACTS_BYTES, Job
from mirabelle.reduction import Projection
from mirabelle.spark.saved import read_classifier
from mirabelle.storage import join

KINDS = ("classifier", "finetuned")
MAX_ARRAYS_BYTES = 2**32


@dataclass(frozen=True)
class Taught:
    """A taught network: its layers before the answer are the network, and its answer is a classifier on them.

    Attributes:
        facts: as they stand with it.
        network: in OpenVINO's form, headless.
        answer: on what the network says.
    """

    facts: dict[str, Any]
    network: Network
    answer: Classifier


@dataclass(frozen=True)
class Parts:
    """What was learnt, and the networks it was learnt of.

    Attributes:
        kind: ``classifier``, of Spark ML or a chain, or ``finetuned``, a network that was taught.
        facts: as they stand with it.
        network: in OpenVINO's form, headless.
        projection: the PCA in between; None: there is none.
        chain: on the PCA's output, or on the network's: one classifier, or a chain of them.
        others: further networks, which steps of the chain are on.
        taught: those of the networks that were taught; empty: all classifiers are Spark's, on stored features.
        on_features: whether ``network`` is the one that the output's features were made by.
    """

    kind: str
    facts: dict[str, Any]
    network: Network
    projection: Projection | None
    chain: Chain
    others: tuple[Network, ...] = ()
    taught: tuple[Taught, ...] = ()
    on_features: bool = True

    @property
    def networks(self) -> tuple[Network, ...]:
        """All of them, the bundle's own first."""
        return (self.network, *self.others)


def choose(job: Job, wanted: str | None) -> tuple[str, dict[str, Any]]:
    """The newest classifier or taught network of the output, or the one whose id begins as ``wanted`` says.

    Returns:
        Its kind and its facts.

    Raises:
        OutputError: there is none, or its facts are damaged.
        BundleError: several have such an id, or it was interrupted.
    """
    found: dict[str, tuple[str, str]] = {}
    for kind in KINDS:
        folder = join(job.output, kind)
        for entry in job.store.walk(folder) if job.store.exists(folder) else ():
            if entry.path.endswith(f"/{kind}.json"):
                found[entry.path.split("/")[-2]] = kind, entry.path
    if not found:
        raise OutputError(
            f"{job.output} has no classifier to bundle; `mirabelle train` or `mirabelle finetune` makes one"
        )
    fitting = sorted(one for one in found if one.startswith(wanted or ""))
    if not fitting or (wanted and len(fitting) > 1 and wanted not in fitting):
        many = "several have" if fitting else "none has"
        raise BundleError(
            f"of the classifiers of {job.output} {many} an id that begins with {wanted}; they are"
            f" {', '.join(sorted(found))}"
        )
    for one in [wanted] if wanted in found else reversed(fitting):
        kind, path = found[str(one)]
        facts = _read(job, path)
        if not facts.get("interrupted"):
            return kind, facts
    raise BundleError(f"{fitting[-1]} was interrupted before it was judged; teach it to its end, or give another --id")


def _read(job: Job, path: str) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads(job.store.read(path, MAX_FACTS_BYTES))
        return {**facts, "labels": facts["labels"], "id": facts["id"]}
    except (ValueError, KeyError, TypeError, FetchError) as error:
        raise OutputError(f"{path} is damaged ({error}); remove its folder, and run its stage again") from error


def gather(job: Job, kind: str, facts: dict[str, Any]) -> Parts:
    """The parts of what ``choose`` gave.

    Raises:
        BundleError: the configuration asks for another network, or the classifier is of a kind that cannot leave Spark.
        OutputError: a part of it is gone or damaged.
    """
    if kind == "classifier":
        return _of_spark(job, facts)
    taught = _taught(job, facts)
    chain = Chain(taught.answer, tuple(facts["labels"]), {})
    return Parts(kind, facts, taught.network, None, chain, (), (taught,), False)


def _of_spark(job: Job, facts: dict[str, Any]) -> Parts:
    """A classifier of Spark ML, or a chain, of which steps may be networks that were taught."""
    taught = {label: _taught(job, _facts_of(job, id_)) for label, id_ in _asked(facts).items()}
    others = [one for one in _steps(facts) if len(one["labels"]) > 1 and one["of"] not in taught]
    if taught and None in taught and not others:
        # Nothing is left that looks at features.
        return _all_taught(job, facts, taught)
    network, projection = _features_of(job, facts)
    width = len(projection.components) if projection else network.embedding.width
    sources = {label: number for number, label in enumerate(taught, 1)}
    chain = _chain(job, facts, width, taught, sources)
    networks = tuple(one.network for one in taught.values())
    return Parts("classifier", facts, network, projection, chain, networks, tuple(taught.values()))


def _all_taught(job: Job, facts: dict[str, Any], taught: dict[str | None, Taught]) -> Parts:
    first, *others = taught.values()
    sources = {label: number for number, label in enumerate(taught)}
    chain = _chain(job, facts, first.network.embedding.width, taught, sources)
    networks = tuple(one.network for one in others)
    return Parts("classifier", facts, first.network, None, chain, networks, tuple(taught.values()), False)


def _features_of(job: Job, facts: dict[str, Any]) -> tuple[Network, Projection | None]:
    """The network that a classifier's features were made by, and the PCA behind it."""
    embedding = Embedding.from_json(facts["embedding"])
    network = prepare_network(_with_openvino(job.config), embedding.precision)
    if network.embedding.fingerprint != embedding.fingerprint:
        raise BundleError(
            f"the classifier {facts['id']} is of {embedding.folder}, and the configuration asks for"
            f" {network.embedding.folder}: {_difference(embedding, network.embedding)}; give the configuration that it"
            " was trained with"
        )
    if not facts["pca"]:
        return network, None
    path = join(job.folder("pca", facts["pca"]), "pca.npz")
    try:
        return network, Projection.from_bytes(job.store.read(path, MAX_ARRAYS_BYTES))
    except (FetchError, ValueError, KeyError) as error:
        raise OutputError(f"{path} cannot be read ({error}); run `mirabelle reduce` and `train` again") from error


def _steps(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Of a chain; none of another classifier."""
    return list((facts.get("chain") or {"steps": []})["steps"])


def _asked(facts: dict[str, Any]) -> dict[str | None, str]:
    """Ids of the taught networks that a chain asks, by coarse label; under None the first."""
    first: dict[str | None, str] = {None: facts["first"]} if facts.get("first") else {}
    # A single label is answered by itself, whatever network was named for it.
    return first | {
        str(one["of"]): one["network"] for one in _steps(facts) if one["network"] and len(one["labels"]) > 1
    }


def _facts_of(job: Job, id_: str) -> dict[str, Any]:
    return _read(job, join(job.folder("finetuned", id_), "finetuned.json"))


def _chain(
    job: Job,
    facts: dict[str, Any],
    width: int,
    taught: dict[str | None, Taught],
    sources: dict[str | None, int],
) -> Chain:
    """The classifier, or those of a chain; ``width`` is of the first network's rows."""
    folder, labels = job.folder("classifier", facts["id"]), tuple(facts["labels"])

    def answer(label: str | None, model: str | None) -> Classifier:
        if label in taught:
            return taught[label].answer
        return constant(width) if model is None else read_classifier(job.store, join(folder, model))

    first = answer(None, "model")
    told = facts.get("chain")
    if told is None:
        return Chain(first, labels, {})
    steps = {str(one["of"]): Step(tuple(one["labels"]), answer(str(one["of"]), one["model"])) for one in told["steps"]}
    thresholds = told["thresholds"]
    return Chain(first, labels, steps, thresholds["fine"], thresholds["coarse"], sources)


def _difference(one: Embedding, other: Embedding) -> str:
    """The parts that differ, in words."""
    first, second = one.to_json(), other.to_json()
    unlike = [name for name in first if name != "fingerprint" and first[name] != second[name]]
    return ", ".join(f"{name} {first[name]} and {second[name]}" for name in unlike)


def _with_openvino(config: Config) -> Config:
    # Which engine made the features is no part of what they are.
    return config.model_copy(update={"engine": config.engine.model_copy(update={"name": "openvino"})})


def _taught(job: Job, facts: dict[str, Any]) -> Taught:
    path = join(job.folder("finetuned", facts["id"]), "model.keras")
    try:
        content = job.store.read(path, MAX_WEIGHTS_BYTES)
    except FetchError as error:
        raise OutputError(f"{path} cannot be read ({error}); run `mirabelle finetune` again") from error
    with tempfile.TemporaryDirectory(dir=job.scratch) as folder:
        local = Path(folder) / "model.keras"
        local.write_bytes(content)
        head = head_of(local)
        if head is None:
            raise OutputError(f"{path} is no network that was taught here; run `mirabelle finetune` again")
        row = backbones.find(facts["network"])
        model = backbones.taught_network(row, head.input_px, local)
        kernel, bias = (np.asarray(one, np.float64) for one in model.get_layer(ANSWER).get_weights())
    network = prepare_network(_as_taught(job.config, facts, path), _precision(job.config))
    if network.embedding.preprocessing != facts["preprocessing"]:
        raise BundleError(
            f"{facts['id']} was taught on pictures decoded as {facts['preprocessing']!r}, and the configuration asks"
            f" for {network.embedding.preprocessing!r}; give the configuration that it was taught with"
        )
    link = "logistic" if kernel.shape[1] == 1 else "softmax"
    classifier = Classifier("linear", link, linear(kernel.T, bias))
    return Taught(facts, network, classifier)


def _precision(config: Config) -> Any:
    # It was judged in float32; another is for who asks for it.
    return "bf16" if config.engine.precision == "bf16" else "float32"


def _as_taught(config: Config, facts: dict[str, Any], path: str) -> Config:
    """The configuration with a taught network for a backbone; pictures decoded as they were for its lesson."""
    changed = {
        "name": facts["network"],
        "weights": path,
        "input_px": None,
        "layer": None,
        "pooling": facts["settings"]["pooling"],
    }
    exact = "always" if config.decode.exact == "auto" else config.decode.exact
    parts = {
        "backbone": config.backbone.model_copy(update=changed),
        "decode": config.decode.model_copy(update={"exact": exact}),
    }
    return with_local_weights(_with_openvino(config).model_copy(update=parts), cache_folder(config))
