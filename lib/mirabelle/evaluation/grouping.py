"""Pictures that belong together, as those of one aeroplane or one day do. [numpy, pandas, scipy]"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mirabelle import schema
from mirabelle.errors import ConfigError, TrainingError

if TYPE_CHECKING:
    import pandas as pd

Ints = npt.NDArray[np.int64]

# With an underscore in front, as no label column can have it.
SIDE = "_side"
FOLD = "_fold"
GROUP = "_group"
OWN = (schema.PATH, SIDE, FOLD, GROUP)


def group_rows(frame: pd.DataFrame, group_by: Sequence[str], warnings: list[str]) -> list[str]:
    """The group of each row: rows that agree in one column, directly or by way of others, are of one.

    Args:
        frame: ``path`` and label columns.
        group_by: columns or patterns, one or more.
        warnings: is told of rows without a value.

    Raises:
        ConfigError: neither a column nor a pattern.
        TrainingError: a pattern that does not match a path.
    """
    keys = [_keys(frame, one) for one in group_by]
    alone = np.logical_and.reduce([np.array([key.startswith("\0") for key in one]) for one in keys])
    if alone.any():
        # No value has a NUL in it, so a path after one is none.
        warnings.append(
            f"{int(alone.sum()):,} labelled pictures have no {' and no '.join(group_by)}: each is a group of its own"
        )
    return keys[0] if len(keys) == 1 else [str(number) for number in _components(keys)]


def _components(keys: Sequence[Sequence[str]]) -> Ints:
    """Numbers of the connected components of rows, joined by equal values of any column; int64 (n,)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows = len(keys[0])
    joined, values = [], rows
    for column in keys:
        # By a dict: to pandas' tables of texts, too, a NUL is the end.
        codes: dict[str, int] = {}
        joined.append(values + np.array([codes.setdefault(key, len(codes)) for key in column], np.int64))
        values += len(codes)
    ends = np.concatenate(joined)
    starts = np.tile(np.arange(rows), len(keys))
    graph = coo_array((np.ones(len(ends), dtype=np.int8), (starts, ends)), shape=(values, values))
    numbers: Ints = connected_components(graph, directed=False)[1][:rows].astype(np.int64)
    return numbers


def _keys(frame: pd.DataFrame, group_by: str) -> list[str]:
    """Of each row by a label column, or by a pattern on the path; a path after a NUL where there is no value."""
    if group_by in frame.columns and group_by not in OWN:
        known = frame[group_by].astype(str)
        # The day of a moment: dates begin with it in most ways to write them.
        known = known.str[:10] if group_by == schema.TAKEN else known
        # In Python, as NumPy takes a NUL for the end of a text.
        there = zip(known, frame[group_by].notna(), frame[schema.PATH], strict=True)
        return [value if is_known else f"\0{path}" for value, is_known, path in there]
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        raise ConfigError(
            f"classify.group_by {group_by!r} is no column ({label_names(frame)}) and no regular expression: {error}"
        ) from error
    found = []
    for path in frame[schema.PATH]:
        match = pattern.search(path)
        if match is None or (pattern.groups and match[1] is None):
            raise TrainingError(f"classify.group_by {group_by!r} does not match {path}; widen the pattern")
        found.append(match[1] if pattern.groups else match[0])
    return found


def label_names(frame: pd.DataFrame) -> list[str]:
    """The label columns."""
    return [name for name in frame.columns if name not in OWN]


def in_words(names: Sequence[str]) -> str:
    """Columns or patterns, in a sentence."""
    return " or ".join(map(repr, names))
