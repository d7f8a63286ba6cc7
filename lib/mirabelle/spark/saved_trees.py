"""Trees as Spark ML saved them, into arrays. Touches nothing; driver only.

The columns are those of ``NodeData`` in ``ml/tree/treeModels.scala`` of Spark's source.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mirabelle.errors import BundleError

Arrays = dict[str, npt.NDArray[Any]]


def forest(table: pa.Table) -> Arrays:
    """Trees that vote, each with the shares that the classes have in its leaf; a single tree is a forest of one.

    Raises:
        BundleError: they split by categories.
    """
    nodes = _nodes(table)
    stats = np.array(nodes["impurityStats"].to_pylist(), np.float64)
    totals = stats.sum(axis=1, keepdims=True)
    shares = np.divide(stats, totals, out=np.zeros_like(stats), where=totals > 0)
    return _arrays(nodes, shares)


def boosted(models: Sequence[tuple[pa.Table, pa.Table]]) -> Arrays:
    """Trees whose weighted answers are added up, a sum for each model.

    Args:
        models: of each its nodes, and the table of its trees, whose last column has their weights.

    Raises:
        BundleError: they split by categories.
    """
    parts = []
    for number, (table, trees) in enumerate(models):
        nodes = _nodes(table)
        ids, _, told = (trees.column(i).to_pylist() for i in range(3))
        weights = dict(zip(ids, told, strict=True))
        said = np.array([weights[tree] for tree in nodes["treeID"].to_pylist()]) * nodes["prediction"].to_numpy()
        values = np.zeros((len(said), len(models)))
        values[:, number] = said
        parts.append(_arrays(nodes, values))
    return _joined(parts)


def _nodes(table: pa.Table) -> pa.Table:
    """The nodes by tree and number; those of a single tree are not nested."""
    if "nodeData" in table.column_names:
        inner = table["nodeData"].combine_chunks()
        inner = inner.chunk(0) if isinstance(inner, pa.ChunkedArray) else inner
        flat = pa.Table.from_arrays(inner.flatten(), names=[field.name for field in inner.type])
        flat = flat.append_column("treeID", table["treeID"])
    else:
        flat = table.append_column("treeID", pa.array(np.zeros(len(table), np.int32)))
    return flat.sort_by([("treeID", "ascending"), ("id", "ascending")])


def _arrays(nodes: pa.Table, values: npt.NDArray[np.float64]) -> Arrays:
    trees, ids = nodes["treeID"].to_numpy(), nodes["id"].to_numpy()
    roots = np.flatnonzero(ids == 0)
    # Numbers count within a tree.
    first = roots[np.searchsorted(trees[roots], trees)]
    own = np.arange(len(ids))
    left, right = nodes["leftChild"].to_numpy(), nodes["rightChild"].to_numpy()
    is_leaf = left < 0
    splits = nodes["split"].to_pylist()
    if any(one["numCategories"] != -1 for one, leaf in zip(splits, is_leaf, strict=True) if not leaf):
        raise BundleError("a tree that splits by categories cannot be bundled; train it on features alone")
    feature = [0 if leaf else one["featureIndex"] for one, leaf in zip(splits, is_leaf, strict=True)]
    threshold = [
        0.0 if leaf else one["leftCategoriesOrThreshold"][0] for one, leaf in zip(splits, is_leaf, strict=True)
    ]
    found: Arrays = {
        "roots": roots.astype(np.int32),
        "left": np.where(is_leaf, own, first + left).astype(np.int32),
        "right": np.where(is_leaf, own, first + right).astype(np.int32),
        "feature": np.array(feature, np.int32),
        "threshold": np.array(threshold, np.float64),
        "values": values,
    }
    return {**found, "depth": np.array(_depth(found), np.int32)}


def _depth(arrays: Arrays) -> int:
    """How many steps lead from the roots to the last leaf."""
    at, depth = arrays["roots"], 0
    while len(at := at[arrays["left"][at] != at]):
        at, depth = np.concatenate([arrays["left"][at], arrays["right"][at]]), depth + 1
    return depth


def _joined(parts: Sequence[Arrays]) -> Arrays:
    """Several models' trees in one set of arrays."""
    joined: dict[str, list[Any]] = {name: [] for name in parts[0]}
    many = 0
    for part in parts:
        for name, array in part.items():
            joined[name].append(array + np.int32(many) if name in ("roots", "left", "right") else array)
        many += len(part["left"])
    depth = max(joined.pop("depth"))
    return {**{name: np.concatenate(arrays) for name, arrays in joined.items()}, "depth": depth}
