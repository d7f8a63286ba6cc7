"""Two answers after each other: of what kind, and which of that kind; and when to say less. [numpy, pandas]"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mirabelle import schema
from mirabelle.evaluation.comparing import mcnemar, share_interval

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

FINE, COARSE, NOT_SURE = "fine", "coarse", "not sure"
LEVELS = (FINE, COARSE, NOT_SURE)


@dataclass(frozen=True)
class Said:
    """What a classifier says of n pictures.

    Attributes:
        labels: k of them.
        predicted: object (n,), labels.
        probabilities: float64 (n, k), in the order of the labels.
    """

    labels: tuple[str, ...]
    predicted: npt.NDArray[np.object_]
    probabilities: Floats


@dataclass(frozen=True)
class Thresholds:
    """The least probability that an answer of each level is given with; None: no answer of this level is sure enough.

    Attributes:
        fine: of both answers together.
        coarse: of the first.
    """

    fine: float | None = 0.0
    coarse: float | None = 0.0


def pair(coarse: str, fine: str) -> str:
    """The name of a fine label together with its coarse one: the same word under two of them is two labels."""
    return f"{coarse} / {fine}"


def chain(first: Said, steps: Mapping[str, Said]) -> pd.DataFrame:
    """The answers of a chain, a row a picture.

    Args:
        first: coarse answers for n pictures.
        steps: by coarse label the fine answers for the same n pictures; a label without any is the whole answer.

    Returns:
        ``chain_coarse_probability`` of the first answer; ``chain_predicted``, the fine one, with its
        ``chain_step_probability`` among those of its kind, both null without a step; ``chain_probability``, their
        product, or the first's alone.
    """
    import pandas as pd

    rows = np.arange(len(first.predicted))
    place = {label: i for i, label in enumerate(first.labels)}
    coarse = first.probabilities[rows, [place[label] for label in first.predicted]] if len(rows) else np.zeros(0)
    fine = np.full(len(rows), None, object)
    step = np.full(len(rows), np.nan)
    for label, said in steps.items():
        of_it = first.predicted == label
        fine[of_it] = said.predicted[of_it]
        places = {name: i for i, name in enumerate(said.labels)}
        step[of_it] = said.probabilities[of_it, [places[name] for name in said.predicted[of_it]]]
    return pd.DataFrame(
        {
            schema.CHAIN_COARSE_PROBABILITY: coarse,
            schema.CHAIN_PREDICTED: fine,
            schema.CHAIN_STEP_PROBABILITY: step,
            schema.CHAIN_PROBABILITY: np.where(np.isnan(step), coarse, coarse * step),
        }
    )


def choose_thresholds(rows: pd.DataFrame, precision: float) -> Thresholds:
    """Thresholds above which answers are right as often as is asked, on pictures that nothing was learnt from.

    The fine one is chosen first; the coarse one for the pictures that it leaves.

    Args:
        rows: ``label``, ``chain_label``, ``predicted`` and what ``chain`` gives.
        precision: share of right answers, of either level.
    """
    answered = rows[schema.CHAIN_PREDICTED].notna().to_numpy()
    known = answered & rows[schema.CHAIN_LABEL].notna().to_numpy()
    score = rows[schema.CHAIN_PROBABILITY].to_numpy()
    fine = threshold_for(score[known], _right(rows)[known], precision)
    left = ~answered if fine is None else ~(answered & (score >= fine))
    right = (rows[schema.LABEL] == rows[schema.PREDICTED]).to_numpy()
    return Thresholds(
        fine, threshold_for(rows[schema.CHAIN_COARSE_PROBABILITY].to_numpy()[left], right[left], precision)
    )


def threshold_for(scores: Floats, right: Mask, precision: float) -> float | None:
    """The least score from which on answers are right as often as is asked; None: from none.

    Args:
        scores: float64 (n,).
        right: bool (n,).
        precision: share, 0 to 1.
    """
    if not len(scores):
        return None
    order = np.argsort(-scores, kind="stable")
    shares = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    # Equal scores stand or fall together.
    ends = np.append(np.diff(scores[order]) != 0, True)
    good = np.flatnonzero(ends & (shares >= precision))
    return float(scores[order][good[-1]]) if len(good) else None


def answer(rows: pd.DataFrame, thresholds: Thresholds) -> pd.DataFrame:
    """What is answered, ``chain_answer``, and how finely, ``chain_level``: fine, coarse, or not sure, of nothing."""
    import pandas as pd

    score, coarse = rows[schema.CHAIN_PROBABILITY].to_numpy(), rows[schema.CHAIN_COARSE_PROBABILITY].to_numpy()
    is_fine = rows[schema.CHAIN_PREDICTED].notna().to_numpy() & _reaches(score, thresholds.fine)
    is_coarse = ~is_fine & _reaches(coarse, thresholds.coarse)
    told = rows[schema.PREDICTED].to_numpy(object).copy()
    told[is_fine] = [pair(*both) for both in _pairs(rows[is_fine], schema.PREDICTED, schema.CHAIN_PREDICTED)]
    told[~is_fine & ~is_coarse] = None
    level = np.select([is_fine, is_coarse], [FINE, COARSE], NOT_SURE)
    return pd.DataFrame({schema.CHAIN_ANSWER: told, schema.CHAIN_LEVEL: level}, index=rows.index)


def judge_chain(rows: pd.DataFrame, groups: Sequence[str], seed: int = 0) -> dict[str, Any]:
    """How a chain did, by step and by level of its answers, as plain values.

    Args:
        rows: ``label``, ``chain_label``, ``predicted``, ``chain_flat`` and what ``chain`` and ``answer`` give.
        groups: of each row; intervals are over draws of whole ones.
        seed: of the draws.

    Returns:
        ``first``: of all pictures; ``second``: of those whose first answer is right and has a step, given that their
        fine label is known; ``end_to_end``: of all whose fine label is known, a missing fine answer counting as
        wrong; ``flat``: the same pictures by one classifier over all fine labels, with ``p_flat``, McNemar's exact p;
        ``steps``: ``second`` by coarse label; ``answers``: by level how many, their share, and the share of those that
        can be judged that are right. Each figure has ``rows, accuracy, interval``.
    """
    coarse = (rows[schema.LABEL] == rows[schema.PREDICTED]).to_numpy()
    known = rows[schema.CHAIN_LABEL].notna().to_numpy()
    right = _right(rows)
    truth = [pair(*both) for both in _pairs(rows, schema.LABEL, schema.CHAIN_LABEL)]
    flat = (rows[schema.CHAIN_FLAT] == truth).to_numpy()
    stepped = coarse & known & rows[schema.CHAIN_PREDICTED].notna().to_numpy()
    own = np.asarray(groups, object)

    def share(of: Mask, among: Mask) -> dict[str, Any]:
        figure = float(of[among].mean()) if among.any() else None
        interval = share_interval(of[among], own[among].tolist(), seed) if among.any() else None
        return {"rows": int(among.sum()), "accuracy": figure, "interval": interval}

    level = rows[schema.CHAIN_LEVEL].to_numpy()
    judged = {FINE: (right, known), COARSE: (coarse, np.ones(len(rows), np.bool_))}
    answers = []
    for name in LEVELS:
        given = level == name
        of, can = judged.get(name, (coarse, np.zeros(len(rows), np.bool_)))
        answers.append(
            {"level": name, "given": int(given.sum()), "share": float(given.mean()), **share(of, given & can)}
        )
    labels = rows[schema.LABEL].to_numpy()
    return {
        "first": share(coarse, np.ones(len(rows), np.bool_)),
        "second": share(right, stepped),
        "end_to_end": share(right, known),
        "flat": share(flat, known),
        "p_flat": mcnemar(right[known], flat[known]),
        "steps": [{"of": str(name), **share(right, stepped & (labels == name))} for name in np.unique(labels[stepped])],
        "answers": answers,
    }


def _pairs(rows: pd.DataFrame, coarse: str, fine: str) -> list[tuple[str, str]]:
    return list(zip(rows[coarse], rows[fine].astype(object), strict=True))


def _right(rows: pd.DataFrame) -> Mask:
    """Whether both answers are right; a picture whose fine label nobody knows is not."""
    coarse = (rows[schema.LABEL] == rows[schema.PREDICTED]).to_numpy()
    fine = (rows[schema.CHAIN_LABEL] == rows[schema.CHAIN_PREDICTED]).to_numpy()
    found: Mask = coarse & fine & rows[schema.CHAIN_LABEL].notna().to_numpy()
    return found


def _reaches(scores: Floats, threshold: float | None) -> Mask:
    return np.zeros(len(scores), np.bool_) if threshold is None else scores >= threshold
