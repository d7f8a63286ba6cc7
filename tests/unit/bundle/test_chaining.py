"""A chain in a bundle says what the batch job's own chain makes of the same classifiers."""

import io
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from bundles import INPUT_PX, colours, made, put
from mirabelle import open_bundle
from mirabelle.bundle import Answer
from mirabelle.bundle.asking import as_lines, as_parquet
from mirabelle.bundle.chaining import Chain, Step, constant
from mirabelle.bundle.classifying import Classifier, linear
from mirabelle.errors import BundleError
from mirabelle.evaluation import Said, Thresholds, answer, chain

COARSE = ("one", "three", "two", "whole")
STEPS = {"three": ("c", "d", "e"), "two": ("a", "b"), "one": ("only",)}
WIDTH = 3


def softmax(classes: int, seed: int) -> Classifier:
    weights = np.random.default_rng(seed).normal(0, 0.02, (classes, WIDTH))
    # Even in the middle of all colours.
    return Classifier("linear", "softmax", linear(weights, -127.5 * weights.sum(axis=1)))


def built(fine: float | None = 0.0, coarse: float | None = 0.0) -> Chain:
    """Of one label with three below it, one with two, one with a single one, and one that is the whole answer."""
    steps = {
        name: Step(labels, softmax(len(labels), len(labels)) if len(labels) > 1 else constant(WIDTH))
        for name, labels in STEPS.items()
    }
    return Chain(softmax(4, 9), COARSE, steps, fine, coarse)


def said(classifier: Classifier, labels: tuple[str, ...], rows: np.ndarray) -> Said:
    """As the batch job reads it out of its tables: probabilities were float32 in between."""
    found = classifier.probabilities(rows)
    names = np.array(labels, object)[classifier.chosen(found)]
    return Said(labels, names, found.astype(np.float32).astype(np.float64))


def by_the_batch_job(ours: Chain, rows: np.ndarray) -> pd.DataFrame:
    """One row each, with the columns that predictions have."""
    first = said(ours.first, ours.coarse_labels, rows)
    steps = {name: said(step.classifier, step.labels, rows) for name, step in ours.steps.items()}
    found = chain(first, steps)
    found["predicted"] = first.predicted
    return found.join(answer(found, Thresholds(ours.fine_threshold, ours.coarse_threshold)))


THRESHOLDS = [*itertools.product((0.0, 0.4, 0.6), (0.0, 0.5, 0.9)), (None, 0.5), (0.5, None), (None, None)]


@pytest.mark.parametrize(("fine", "coarse"), THRESHOLDS)
def test_it_says_what_the_batch_job_says(fine: float | None, coarse: float | None) -> None:
    ours = built(fine, coarse)
    rows = np.random.default_rng(0).uniform(0, 255, (300, WIDTH)).astype(np.float32)
    found, theirs = ours.say(rows), by_the_batch_job(ours, rows)
    ends = [ours.labels[i] for i in found.predicted]
    pairs = theirs["predicted"] + (" / " + theirs["chain_predicted"]).fillna("")
    assert ends == pairs.tolist() and len(set(ends)) > 4
    own = np.arange(len(rows))
    np.testing.assert_allclose(found.probabilities[own, found.predicted], theirs["chain_probability"], atol=1e-6)
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, atol=1e-12)
    given = [
        end if sure else ours.coarse_labels[first] if enough else None
        for end, sure, first, enough in zip(ends, found.sure, found.coarse_predicted, found.coarse_sure, strict=True)
    ]
    assert given == [None if pd.isna(one) else one for one in theirs["chain_answer"]]


def test_a_bundle_of_it_answers_on_both_levels(tmp_path: Path) -> None:
    ours = built(0.6, 0.5)
    whole = open_bundle(str(put(tmp_path / "b", made(replace(colours(), chain=ours)))))
    assert whole.info.labels == ("one / only", "three / c", "three / d", "three / e", "two / a", "two / b", "whole")
    assert whole.info.coarse_labels == COARSE
    colour = np.random.default_rng(3).integers(0, 256, (60, 1, 1, 3))
    pixels = np.broadcast_to(colour, (60, INPUT_PX, INPUT_PX, 3)).astype(np.uint8)
    outputs = whole.infer(pixels)
    theirs = by_the_batch_job(ours, outputs.features)
    answers = whole.answer(outputs, 2)
    for one, row in zip(answers, theirs.to_dict("records"), strict=True):
        assert isinstance(one, Answer) and one.coarse is not None
        assert one.given == (None if pd.isna(row["chain_answer"]) else row["chain_answer"])
        assert one.coarse.label == row["predicted"] and len(one.probabilities) == 2
        assert one.probability == pytest.approx(row["chain_probability"], abs=1e-6)
        assert one.coarse.probability == pytest.approx(row["chain_coarse_probability"], abs=1e-6)
        # Of one that has no step both levels are the same.
        assert (one.label, one.sure) == (one.coarse.label, one.coarse.sure) or " / " in one.label
    assert {one.given is None for one in answers if isinstance(one, Answer)} == {True, False}
    assert whole.explain(pixels[0]).shape == (8, 8)


def test_lines_and_tables_say_how_sure_it_is(tmp_path: Path) -> None:
    whole = open_bundle(str(put(tmp_path / "b", made(replace(colours(), chain=built(0.6, 0.5))))))
    paths = [str(tmp_path / f"{number}.png") for number in range(20)]
    for path, colour in zip(paths, np.random.default_rng(3).integers(0, 256, (20, 3)), strict=True):
        Image.new("RGB", (8, 8), tuple(colour.tolist())).save(path)
    rows = list(zip(paths, whole.predictions(paths), strict=True))
    given = [one.answer.given for _, one in rows if isinstance(one.answer, Answer)]
    lines = list(as_lines(iter(rows), paths, whole.info))[1:]
    assert [("not sure: " in line) for line in lines] == [one is None for one in given] and None in given
    for line, answered in zip(lines, given, strict=True):
        assert answered is None or f"  {answered}  " in line
    table = pq.ParquetFile(io.BytesIO(as_parquet(rows, whole.info))).read()
    assert table["chain_answer"].to_pylist() == given


def test_a_step_of_no_label_is_refused() -> None:
    with pytest.raises(BundleError, match="step of 'four', which is none of its labels"):
        replace(built(), steps={"four": Step(("x",), constant(WIDTH))}).check([WIDTH], "b")
    with pytest.raises(BundleError, match="step of 'two': it tells 1 classes apart"):
        replace(built(), steps={"two": Step(("x", "y"), constant(WIDTH))}).check([WIDTH], "b")
