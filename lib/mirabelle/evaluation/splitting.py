"""Which labelled pictures are learnt from and which are judged on. [numpy, pandas, scikit-learn]"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mirabelle import schema
from mirabelle.errors import ConfigError, TrainingError
from mirabelle.evaluation.grouping import FOLD, GROUP, OWN, SIDE, group_rows, in_words, label_names

if TYPE_CHECKING:
    import pandas as pd

Ints = npt.NDArray[np.int64]

MOST_FOLDS = 10
# Classes in a sentence.
NAMED = 10


@dataclass(frozen=True)
class SplitBy:
    """What decides it, as the ``classify`` part of a configuration has it.

    Attributes:
        group_by: label columns, or patterns on the path; pictures that agree in any of them stay on one side.
        hold_out: values of label columns that are judged on, and nothing else is.
        train_split, test_split: names of the path's own splits.
        test_share: held out where nothing else says what.
        seed: of what is left to chance.
        folds: of the rows to learn from; 0: none.
    """

    group_by: tuple[str, ...] = ()
    hold_out: Mapping[str, Sequence[str]] = field(default_factory=dict)
    train_split: str = "Training"
    test_split: str = "Test"
    test_share: float = 0.2
    seed: int = 0
    folds: int = 0


@dataclass(frozen=True)
class Sides:
    """Which rows are learnt from and which are judged on.

    Attributes:
        frame: ``path, _side, _fold``.
        description: how it was chosen.
        labels: the classes that are learnt, in order; two or more.
        unseen: those that the judged rows have besides, and that no row to learn from has.
        warnings: sentences for the user.
    """

    frame: pd.DataFrame
    description: str
    labels: tuple[str, ...]
    unseen: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def choose_sides(about: pd.DataFrame, by: SplitBy) -> Sides:
    """Decide which labelled rows are learnt from and which are judged on.

    In this order: by whole values of a column, where ``hold_out`` names some; by group, where ``group_by`` is set; by
    the path's own split; else by share.

    Args:
        about: ``path, label, split`` and further label columns.
        by: what decides.

    Raises:
        ConfigError: ``group_by`` or ``hold_out`` names nothing that is there.
        TrainingError: fewer than two classes, or a side with no rows.
    """
    labelled = about[about[schema.LABEL].notna()].sort_values(schema.PATH)
    warnings: list[str] = []
    if labelled[schema.LABEL].nunique() < 2:
        raise TrainingError(
            f"a classifier needs two labels or more, and the features have {labelled[schema.LABEL].nunique()}; set"
            " images.layout or labels.table so that labels are read, and run extract again"
        )
    by_split = not by.group_by and not by.hold_out and labelled[schema.SPLIT].notna().any()
    if not by.group_by and not by.hold_out and not by_split:
        labelled = _without_singles(labelled, by.test_share, warnings)
    labelled = labelled.assign(**{GROUP: group_rows(labelled, by.group_by, warnings) if by.group_by else None})
    if by.hold_out:
        frame, description = _by_value(labelled, by, warnings)
    elif by_split:
        frame, description = _by_split(labelled, by)
    else:
        groups = labelled[GROUP].tolist() if by.group_by else None
        held = hold_out(labelled[schema.LABEL].tolist(), groups, by.test_share, by.seed)
        frame = labelled.assign(**{SIDE: np.where(held, "test", "train")})
        apart = f"Whole groups by {in_words(by.group_by)} kept together, " if by.group_by else "At random, "
        description = f"{apart}{held.mean():.0%} held out, seed {by.seed}."
    sides = frame[SIDE].value_counts()
    if {"train", "test"} - set(sides.index):
        raise TrainingError(
            f"{description} That leaves nothing to {'learn from' if 'train' not in sides else 'judge on'}"
        )
    learnt, unseen = _classes(frame, description, warnings)
    fold = np.full(len(frame), -1)
    if by.folds:
        learning = frame[frame[SIDE] == "train"]
        own = learning[GROUP].tolist() if by.group_by else None
        fold[frame[SIDE] == "train"] = fold_numbers(learning[schema.LABEL].tolist(), own, by.folds, by.seed)
    chosen = frame.assign(**{FOLD: fold})[[schema.PATH, SIDE, FOLD]]
    return Sides(chosen, description, learnt, unseen, tuple(warnings))


def _without_singles(labelled: pd.DataFrame, share: float, warnings: list[str]) -> pd.DataFrame:
    """Without the classes of a single picture, which cannot be both learnt from and judged on; they are warned of.

    Raises:
        TrainingError: fewer than two classes are left.
    """
    numbers = labelled[schema.LABEL].value_counts()
    single = sorted(numbers[numbers < 2].index)
    if not single:
        return labelled
    told = f"with one picture alone, {_named(single)} cannot be learnt from and judged on"
    if len(numbers) - len(single) < 2:
        raise TrainingError(
            f"cannot hold out {share:.0%} of {len(labelled)} labelled pictures in {len(numbers)} classes: {told}, and"
            " fewer than two classes are left; add pictures, or splits by images.layout"
        )
    warnings.append(f"{told}, and the classifier is trained without; splits by images.layout would keep such classes")
    return labelled[~labelled[schema.LABEL].isin(single)]


def _classes(frame: pd.DataFrame, description: str, warnings: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The classes that are learnt, and those that are judged on alone, which are warned of.

    Raises:
        TrainingError: fewer than two are learnt.
    """
    sides = {side: set(rows) for side, rows in frame.groupby(SIDE)[schema.LABEL]}
    learnt, unseen = sorted(sides["train"]), sorted(sides["test"] - sides["train"])
    if len(learnt) < 2:
        raise TrainingError(
            f"{description} That leaves one class to learn from, {learnt[0]!r}, and a classifier needs two; look at"
            " classify.train_split and classify.group_by"
        )
    if unseen:
        warnings.append(f"no picture to learn from is of {_named(unseen)}: those that are judged on count as wrong")
    return tuple(learnt), tuple(unseen)


def _named(labels: Sequence[str]) -> str:
    """Some names, and how many more there are."""
    shown = ", ".join(repr(label) for label in labels[:NAMED])
    return shown + (f" and {len(labels) - NAMED:,} more" if len(labels) > NAMED else "")


def _by_split(labelled: pd.DataFrame, by: SplitBy) -> tuple[pd.DataFrame, str]:
    names = {by.train_split: "train", by.test_split: "test"}
    missing = [name for name in names if name not in set(labelled[schema.SPLIT])]
    if missing:
        found = sorted(set(labelled[schema.SPLIT].dropna()))
        raise TrainingError(
            f"no picture is in the split {missing[0]!r}; the splits are {found}: set classify.train_split and"
            " classify.test_split"
        )
    sides = labelled[schema.SPLIT].map(names)
    description = f"As the source splits them: {by.train_split} and {by.test_split}."
    return labelled.assign(**{SIDE: sides})[sides.notna()], description


def _by_value(labelled: pd.DataFrame, by: SplitBy, warnings: list[str]) -> tuple[pd.DataFrame, str]:
    """Some values of columns are judged on; what shares a group with them is neither learnt from nor judged on.

    Raises:
        ConfigError: no such column.
        TrainingError: no such value.
    """
    held = np.zeros(len(labelled), dtype=np.bool_)
    for name, values in by.hold_out.items():
        if name not in labelled.columns or name in OWN:
            raise ConfigError(f"classify.hold_out: {name!r} is none of the label columns {label_names(labelled)}")
        found = labelled[name].astype(str)
        for value in values:
            if not (found == value).any():
                known = sorted(set(labelled[name].dropna().astype(str)))
                raise TrainingError(f"classify.hold_out: no labelled picture has {value!r} as {name}: {_named(known)}")
            held |= (found == value).to_numpy()
    told = " or ".join(f"{name} {', '.join(map(repr, values))}" for name, values in by.hold_out.items())
    sides = np.where(held, "test", "train")
    if by.group_by:
        astride = ~held & labelled[GROUP].isin(set(labelled.loc[held, GROUP])).to_numpy()
        if astride.any():
            warnings.append(
                f"{int(astride.sum()):,} pictures share {in_words(by.group_by)} with those that are judged on, and are"
                " not learnt from"
            )
        labelled, sides = labelled[~astride], sides[~astride]
    return labelled.assign(**{SIDE: sides}), f"Judged on {told}, learnt from the rest."


def hold_out(labels: Sequence[str], groups: Sequence[str] | None, share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Choose which rows to hold out, each class in its proportion, and no group on both sides.

    Args:
        labels: class of each row.
        groups: rows of one group stay together; None: each row for itself.
        share: of the rows to hold out, nearly.
        seed: of the choice.

    Returns:
        bool (n,), true for rows held out.

    Raises:
        TrainingError: too few rows or groups to hold any out.
    """
    from sklearn.model_selection import StratifiedShuffleSplit

    held = np.zeros(len(labels), dtype=np.bool_)
    if groups is None:
        # At least one picture of each class on either side, where each has two.
        classes = len(set(labels))
        number = max(1, min(max(math.ceil(share * len(labels)), classes), len(labels) - classes))
        try:
            splitter = StratifiedShuffleSplit(1, test_size=number, random_state=seed)
            held[next(splitter.split(np.zeros(len(labels)), labels))[1]] = True
        except ValueError as error:
            raise TrainingError(
                f"cannot hold out {share:.0%} of {len(labels)} labelled pictures in {len(set(labels))} classes: {error}"
            ) from error
        return held
    # The share as a fraction of small terms, 0.4 as 2 folds of 5: more folds would need more groups.
    part = Fraction(share).limit_denominator(MOST_FOLDS)
    folds = max(2, part.denominator)
    held[_fold_numbers(labels, groups, folds, seed) < min(folds - 1, max(1, part.numerator))] = True
    return held


def fold_numbers(labels: Sequence[str], groups: Sequence[str] | None, folds: int, seed: int) -> Ints:
    """A fold number, 0 to ``folds`` - 1, for each row: classes in proportion, no group in two folds."""
    own = groups if groups is not None else [str(i) for i in range(len(labels))]
    return _fold_numbers(labels, own, folds, seed)


def _fold_numbers(labels: Sequence[str], groups: Sequence[str], folds: int, seed: int) -> Ints:
    from sklearn.model_selection import StratifiedGroupKFold

    distinct = len(set(groups))
    if distinct < folds:
        raise TrainingError(f"there are {distinct} groups and {folds} are needed; set classify.group_by to a finer one")
    numbers = np.zeros(len(labels), dtype=np.int64)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A class of fewer rows than folds: some folds go without it, which is the best there is.
        warnings.simplefilter("ignore", UserWarning)
        try:
            for number, (_, rows) in enumerate(splitter.split(np.zeros(len(labels)), labels, groups)):
                numbers[rows] = number
        except ValueError as error:
            raise TrainingError(f"cannot make {folds} folds of {len(labels)} labelled pictures: {error}") from error
    return numbers
