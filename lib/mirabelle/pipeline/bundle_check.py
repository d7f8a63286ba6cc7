"""Whether a bundle says what the batch job said, asked before it is written. Driver only; needs no Spark."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mirabelle import schema
from mirabelle.bundle import Answer, Bundle, Prediction
from mirabelle.bundle.chaining import Chain
from mirabelle.errors import BundleError, OutputError
from mirabelle.evaluation import COARSE, FINE, NOT_SURE, pair
from mirabelle.pipeline.bundle_parts import Parts
from mirabelle.pipeline.bundle_rows import Stored, feature_rows, given_rows
from mirabelle.pipeline.job import Job
from mirabelle.storage import join

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

# What serving may be off: of probabilities, and of features by the largest in their row.
TOLERANCE = 1e-5
# Of probabilities, where a network that was taught and judged in one precision answers in another.
OTHER_PRECISION = 0.05
# Of features that another machine's bf16 made.
LEAST_COSINE = 0.999
PICTURES = 64
PICTURES_TAUGHT = 200


@dataclass(frozen=True)
class Worst:
    """The row that is furthest off: by how much, of how many, and which."""

    rows: int
    off: float
    path: str


def check(job: Job, parts: Parts, bundle: Bundle) -> dict[str, Any]:
    """Hold a bundle against the predictions on the pictures held out, and a sample of these pictures.

    Returns:
        What was compared and how far off it was, as the manifest and the card have it.

    Raises:
        BundleError: it is too far off; the sentence has the worst row.
    """
    facts = parts.facts
    said = job.read_parquet(join(job.output, "predictions", facts["id"])).to_pandas().set_index(schema.PATH)
    found: dict[str, Any] = {"tolerance": TOLERANCE}
    if not parts.taught:
        held = set(said.index)
        rows = given_rows(job, facts, lambda path, _: path in held)
        worst = _check_rows(said, parts.chain, rows)
        found |= {"rows": worst.rows, "rows_off": worst.off}
    sample = said.sample(min(PICTURES_TAUGHT if parts.taught else PICTURES, len(said)), random_state=0).sort_index()
    chosen = set(sample.index)
    stored: dict[str, Floats] = {}
    if parts.on_features:
        for some in feature_rows(job, facts, lambda path, _: path in chosen):
            stored |= dict(zip(some.paths, some.matrix, strict=True))
    return {**found, **_check_pictures(job, parts, bundle, sample, stored)}


def _check_rows(said: pd.DataFrame, chain: Chain, rows: Iterator[Stored]) -> Worst:
    """The classifiers alone, on the very rows that Spark's were given."""
    worst, seen = Worst(0, 0.0, ""), 0
    for some in rows:
        off = _rows_off(said.loc[some.paths], chain, some)
        seen += len(off)
        # What is no number is further off than anything.
        off = np.where(np.isfinite(off), off, np.inf)
        at = int(off.argmax())
        if off[at] >= worst.off:
            worst = Worst(seen, float(off[at]), some.paths[at])
    if seen != len(said):
        raise OutputError(
            f"of {len(said):,} pictures that were judged, {len(said) - seen:,} have no row to be checked by any more;"
            " run `mirabelle train` again"
        )
    if worst.off > TOLERANCE:
        raise BundleError(
            f"the classifier would say something else than Spark did: of {seen:,} rows held out, {worst.path} is off by"
            f" {worst.off:.2g}, and {TOLERANCE:g} is allowed; nothing was bundled"
        )
    return Worst(seen, worst.off, worst.path)


def _rows_off(theirs: pd.DataFrame, chain: Chain, rows: Stored) -> Doubles:
    """How far each row's probabilities are off; 1 where another label wins, unless both are as likely."""
    ours = chain.say(rows.matrix)
    number = {label: i for i, label in enumerate(chain.coarse_labels)}
    expected = np.stack(theirs[schema.PROBABILITIES].tolist()).astype(np.float64)
    off = np.abs(ours.coarse - expected).max(axis=1)
    other = theirs[schema.PREDICTED].map(number).to_numpy(np.int64)
    own = np.arange(len(off))
    gap = np.abs(ours.coarse[own, ours.coarse_predicted] - ours.coarse[own, other])
    differs = (ours.coarse_predicted != other) & ((gap > TOLERANCE) | bool(chain.first.thresholds))
    off = np.where(differs, 1.0, off)
    if not chain.steps:
        return off
    ends = {label: i for i, label in enumerate(chain.labels)}
    told = theirs[[schema.PREDICTED, schema.CHAIN_PREDICTED]].astype(object).to_numpy()
    has_fine = theirs[schema.CHAIN_PREDICTED].notna().to_numpy()
    names = [pair(coarse, fine) if is_fine else coarse for (coarse, fine), is_fine in zip(told, has_fine, strict=True)]
    end = np.array([ends[name] for name in names], np.int64)
    likely = np.abs(ours.probabilities[own, ours.predicted] - theirs[schema.CHAIN_PROBABILITY].to_numpy(np.float64))
    gap = np.abs(ours.probabilities[own, ours.predicted] - ours.probabilities[own, end])
    # An answer that is given must be given here, too, and as finely.
    level = np.where(ours.sure & has_fine, FINE, np.where(ours.coarse_sure, COARSE, NOT_SURE))
    differs = ((ours.predicted != end) & (gap > TOLERANCE)) | (level != theirs[schema.CHAIN_LEVEL].to_numpy(object))
    return np.where(differs, 1.0, np.maximum(off, likely))


def _check_pictures(
    job: Job, parts: Parts, bundle: Bundle, sample: pd.DataFrame, stored: dict[str, Floats]
) -> dict[str, Any]:
    """Pictures from their bytes to probabilities."""
    paths = [str(path) for path in sample.index]
    found = dict(zip(paths, bundle.predictions(paths), strict=True))
    read = [path for path in paths if isinstance(found[path].answer, Answer)]
    if parts.taught and not read:
        raise BundleError(
            f"none of {len(paths):,} pictures to check the bundle by can be read any more, such as {paths[0]}, and a"
            " taught network has nothing else to be checked by; put them back; nothing was bundled"
        )
    if len(read) < len(paths):
        job.console.warn(
            f"{len(paths) - len(read):,} of {len(paths):,} pictures to check the bundle by cannot be read any more"
        )
    features, probabilities = Worst(len(read), 0.0, ""), Worst(len(read), 0.0, "")
    changed = 0
    told = sample.to_dict("index")
    for path in read:
        one = found[path]
        assert one.features is not None
        if path in stored:
            off = Worst(len(read), _off(one.features, stored[path]), path)
            if off.off > TOLERANCE and not _is_alike(one.features, stored[path], parts):
                raise _refused(off, "features", TOLERANCE)
            features = max(features, off, key=lambda worst: worst.off)
        further, is_other = _answer_off(one, parts.chain, told[path])
        changed += is_other
        probabilities = max(probabilities, Worst(len(read), further, path), key=lambda worst: worst.off)
    if parts.taught:
        allowed = allowed_of_taught(parts)
        if probabilities.off > allowed:
            raise _refused(probabilities, "probabilities", allowed)
    return {
        "pictures": len(read),
        "features_off": features.off if stored else None,
        "probabilities_off": probabilities.off,
        "answers_changed": int(changed),
    }


def _answer_off(one: Prediction, chain: Chain, told: Mapping[Hashable, Any]) -> tuple[float, bool]:
    """How far one picture's probabilities are off what is stored, of a chain those of its ends, too; and whether it
    gets another answer.
    """
    found = {likely.label: likely.probability for likely in _first(one).probabilities}
    ours = np.array([found[label] for label in chain.coarse_labels])
    off = float(np.abs(ours - np.array(told[schema.PROBABILITIES])).max())
    is_other = _first(one).label != told[schema.PREDICTED]
    if not chain.steps:
        return off, is_other
    assert isinstance(one.answer, Answer)
    coarse, fine = told[schema.PREDICTED], told[schema.CHAIN_PREDICTED]
    end = coarse if pd.isna(fine) else pair(coarse, fine)
    ends = {likely.label: likely.probability for likely in one.answer.probabilities}
    return max(off, abs(ends[end] - told[schema.CHAIN_PROBABILITY])), is_other or one.answer.label != end


def _first(one: Prediction) -> Answer:
    assert isinstance(one.answer, Answer)
    return one.answer.coarse or one.answer


def allowed_of_taught(parts: Parts) -> float:
    """How far a taught network's probabilities may be off: more where Keras judged it in another precision."""
    taught_in = [one.facts["settings"]["precision"] for one in parts.taught]
    answers_in = [network.embedding.precision for network in parts.networks]
    return TOLERANCE if {*taught_in, *answers_in} == {"float32"} else OTHER_PRECISION


def _off(ours: Floats, theirs: Floats) -> float:
    """How far features are off, by the largest of the row."""
    return float(np.abs(ours - theirs).max()) / (float(np.abs(theirs).max()) or 1.0)


def _is_alike(ours: Floats, theirs: Floats, parts: Parts) -> bool:
    """Whether features may be another machine's bf16 or int8."""
    one, other = ours.astype(np.float64), theirs.astype(np.float64)
    lengths = np.linalg.norm(one) * np.linalg.norm(other)
    return parts.network.embedding.precision != "float32" and bool(
        lengths > 0 and one @ other >= LEAST_COSINE * lengths
    )


def _refused(worst: Worst, what: str, allowed: float) -> BundleError:
    return BundleError(
        f"the bundle would say something else than the batch job did: of {worst.rows:,} pictures, the {what} of"
        f" {worst.path} are off by {worst.off:.2g}, and {allowed:g} is allowed (or the picture has changed since);"
        " nothing was bundled"
    )
