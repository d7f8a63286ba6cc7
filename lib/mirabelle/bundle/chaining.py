"""A chain: a classifier of coarse labels, and behind each of them one of its fine labels; or the first alone. [numpy]

What it answers is what ``evaluation.chaining`` makes of the same classifiers in the batch job: the fine label that is
likeliest under the likeliest coarse one, given as finely as the thresholds allow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mirabelle.bundle.classifying import Classifier, Rows, linear, read_arrays
from mirabelle.errors import BundleError


@dataclass(frozen=True)
class Step:
    """The fine labels under a coarse one; a single label needs no numbers, and has some that are 0."""

    labels: tuple[str, ...]
    classifier: Classifier


@dataclass(frozen=True, eq=False)
class ChainSaid:
    """What a chain says of n pictures.

    Attributes:
        probabilities: float64 (n, labels): of each end, a coarse label's times its fine label's.
        predicted: int64 (n,), the end that wins.
        coarse: float64 (n, coarse labels).
        coarse_predicted: int64 (n,).
        sure: bool (n,), whether the end is sure enough to be given.
        coarse_sure: bool (n,), whether its coarse label is.
    """

    probabilities: Rows
    predicted: npt.NDArray[np.int64]
    coarse: Rows
    coarse_predicted: npt.NDArray[np.int64]
    sure: npt.NDArray[np.bool_]
    coarse_sure: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Chain:
    """Classifiers of the same rows, or of those that several networks make of the same pictures.

    Attributes:
        first: of the coarse labels.
        coarse_labels: what it tells apart.
        steps: by coarse label; one without a step is the whole answer, as all are where there is no chain.
        fine_threshold, coarse_threshold: the least probability that an answer of each level is given with; None: no
            answer of this level is sure enough.
        sources: whose rows a step is given where there are several networks, by coarse label, and under None the
            first classifier's; those that are not named have the first network's.
    """

    first: Classifier
    coarse_labels: tuple[str, ...]
    steps: Mapping[str, Step]
    fine_threshold: float | None = 0.0
    coarse_threshold: float | None = 0.0
    sources: Mapping[str | None, int] = field(default_factory=dict)

    def source(self, under: str | None) -> int:
        """Whose rows the step of a coarse label is given, or for None the first classifier: the number of a network."""
        return self.sources.get(under, 0)

    @property
    def labels(self) -> tuple[str, ...]:
        """Its ends: ``coarse / fine``, as the batch job's tables have them, or a coarse label that has no step."""
        found: list[str] = []
        for coarse in self.coarse_labels:
            step = self.steps.get(coarse)
            found += [f"{coarse} / {fine}" for fine in step.labels] if step else [coarse]
        return tuple(found)

    def say(self, *rows: npt.NDArray[np.floating]) -> ChainSaid:
        """What it says of (n, width) of each network."""
        coarse = self.first.probabilities(rows[self.source(None)])
        chosen = self.first.chosen(coarse)
        own = np.arange(len(coarse))
        # The batch job's thresholds were held against what its tables have: float32.
        kept = _rounded(coarse[own, chosen])
        parts, predicted, score = [], np.zeros(len(coarse), np.int64), np.full(len(coarse), np.nan)
        ends = 0
        for number, label in enumerate(self.coarse_labels):
            of_it = chosen == number
            step = self.steps.get(label)
            if step is None:
                parts.append(coarse[:, [number]])
                predicted[of_it] = ends
            else:
                fine = step.classifier.probabilities(rows[self.source(label)])
                best = step.classifier.chosen(fine)
                parts.append(coarse[:, [number]] * fine)
                predicted[of_it] = ends + best[of_it]
                score[of_it] = (kept * _rounded(fine[own, best]))[of_it]
            ends += parts[-1].shape[1]
        has_step = ~np.isnan(score)
        is_fine = has_step & _reaches(score, self.fine_threshold)
        is_coarse = is_fine | _reaches(kept, self.coarse_threshold)
        sure = np.where(has_step, is_fine, is_coarse)
        return ChainSaid(np.hstack(parts), predicted, coarse, chosen, sure, is_coarse)

    def check(self, widths: Sequence[int], name: str) -> None:
        """Raise ``BundleError`` unless its classifiers take rows of their network's width and fit its labels."""
        if not all(0 <= number < len(widths) for number in self.sources.values()):
            raise BundleError(f"{name}: it asks a network that is not there; bundle it again")
        self.first.check(widths[self.source(None)], len(self.coarse_labels), name)
        for coarse, step in self.steps.items():
            if coarse not in self.coarse_labels:
                raise BundleError(f"{name}: it has a step of {coarse!r}, which is none of its labels; bundle it again")
            step.classifier.check(widths[self.source(coarse)], len(step.labels), f"{name}, step of {coarse!r}")


def classifier_facts(chain: Chain, file: str, under: str | None) -> dict[str, Any]:
    """A classifier as it stands in a manifest; ``under`` is the coarse label that it is a step of, None for a first."""
    classifier = chain.first if under is None else chain.steps[under].classifier
    labels = chain.coarse_labels if under is None else chain.steps[under].labels
    return {
        "under": under,
        "labels": list(labels),
        "file": file,
        "kind": classifier.kind,
        "link": classifier.link,
        "thresholds": list(classifier.thresholds),
        "arithmetic": "float64",
        **({"network": chain.source(under)} if chain.source(under) else {}),
    }


def read_chain(facts: Mapping[str, Any], files: Mapping[str, bytes]) -> Chain:
    """A manifest's ``classifiers``, the first one first, and ``thresholds``.

    Raises:
        BundleError: a file holds no arrays.
        KeyError, TypeError, ValueError, IndexError: the facts are none of ours.
    """

    def read(told: Mapping[str, Any]) -> Classifier:
        arrays = read_arrays(files[told["file"]], told["file"])
        return Classifier(told["kind"], told["link"], arrays, tuple(told["thresholds"]))

    first, *others = facts["classifiers"]
    steps = {str(told["under"]): Step(tuple(told["labels"]), read(told)) for told in others}
    thresholds = facts["thresholds"]
    sources = {told["under"]: int(told["network"]) for told in facts["classifiers"] if "network" in told}
    return Chain(read(first), tuple(first["labels"]), steps, thresholds["fine"], thresholds["coarse"], sources)


def constant(width: int) -> Classifier:
    """Says of any row that its one label is certain."""
    return Classifier("linear", "softmax", linear(np.zeros((1, width)), np.zeros(1)))


def _rounded(values: Rows) -> Rows:
    return values.astype(np.float32).astype(np.float64)


def _reaches(scores: Rows, threshold: float | None) -> npt.NDArray[np.bool_]:
    return np.zeros(len(scores), np.bool_) if threshold is None else scores >= threshold
