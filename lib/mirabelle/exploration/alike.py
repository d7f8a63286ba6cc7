"""Pictures that are the same, or look it: by hash, and by perceptual hashes that differ in few bits. [DuckDB; driver]

Hashes of 64 bits that differ in at most d of them agree wholly in one of d + 1 parts (the pigeonhole principle), so
only pictures that share a part are compared: no pass over all pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    import duckdb

BITS = 64
# A part that more pictures share is no sign of anything: plain grounds, drawings on white.
MOST_IN_A_PART = 1_000
MOST_PAIRS = 500_000
PATHS_SHOWN = 5


@dataclass(frozen=True)
class Alike:
    """Pictures that are alike.

    Attributes:
        exact: a row for each content that several images have: ``sha256, images, labels, label, paths``.
        near: a row for each set of images that look alike, though their bytes differ: ``images, labels, label, paths``.
        conflicting: those of both that bear different labels, ``kind`` first.
        exact_extra: images beyond the first of each content.
        near_images: images in such sets.
        skipped: parts of hashes that too many pictures share to be compared, and that were not.
    """

    exact: pd.DataFrame
    near: pd.DataFrame
    conflicting: pd.DataFrame
    exact_extra: int
    near_images: int
    skipped: int


def find_alike(database: duckdb.DuckDBPyConnection, distance: int) -> Alike:
    """Compare the pictures of the view ``images`` (``path, label, sha256, phash``).

    Args:
        database: with that view; tables of its own are left in it.
        distance: bits in which hashes may differ, 0 to 7.
    """
    exact = database.execute(
        f"""select sha256, count(*) as images, count(distinct label) as labels,
            string_agg(distinct label, ', ' order by label) as label,
            array_slice(list(path order by path), 1, {PATHS_SHOWN}) as paths
        from images where sha256 is not null group by sha256 having count(*) > 1
        order by images desc, sha256"""
    ).df()
    skipped = _pairs(database, distance)
    near = _sets(database)
    kinds = [exact.drop(columns="sha256").assign(kind="exact"), near.assign(kind="near")]
    both = pd.concat(kinds, ignore_index=True)
    conflicting = both.loc[both["labels"] > 1, ["kind", "images", "labels", "label", "paths"]]
    extra = int((exact["images"] - 1).sum()) if len(exact) else 0
    return Alike(exact, near, conflicting.reset_index(drop=True), extra, int(near["images"].sum()), skipped)


def _pairs(database: duckdb.DuckDBPyConnection, distance: int) -> int:
    """Leave pairs of different contents that look alike in the table ``pairs``; how many parts were too common."""
    # One picture of each content: copies are told already.
    database.execute(
        """create or replace table looks as select min(path) as path, any_value(phash) as phash
        from images where phash is not null group by sha256"""
    )
    edges = [round(BITS * part / (distance + 1)) for part in range(distance + 2)]
    parts = " union all ".join(
        f"select path, phash, {number} as part, (phash >> {start}) & {2 ** (stop - start) - 1}::ubigint as bits"
        " from looks"
        for number, (start, stop) in enumerate(pairwise(edges))
    )
    database.execute(f"create or replace table parts as {parts}")
    database.execute("create or replace table common as select part, bits, count(*) as n from parts group by all")
    (skipped,) = _one(database, f"select count(*) from common where n > {MOST_IN_A_PART}")
    database.execute(
        f"""create or replace table pairs as select distinct a.path as one, b.path as other
        from parts a join common c on a.part = c.part and a.bits = c.bits and c.n between 2 and {MOST_IN_A_PART}
        join parts b on a.part = b.part and a.bits = b.bits and a.path < b.path
        where bit_count(xor(a.phash, b.phash)) <= {distance} limit {MOST_PAIRS}"""
    )
    return int(skipped)


def _sets(database: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    """Images that pairs join into one set, by the labels that they have."""
    parents: dict[str, str] = {}

    def root(path: str) -> str:
        while parents.setdefault(path, path) != path:
            parents[path] = parents[parents[path]]
            path = parents[path]
        return path

    for one, other in database.execute("select one, other from pairs order by all").fetchall():
        parents[root(other)] = root(one)
    members = pd.DataFrame({"path": list(parents), "root": [root(path) for path in parents]}, dtype=str)
    database.register("members", members)
    found = database.execute(
        f"""select count(*) as images, count(distinct label) as labels,
            string_agg(distinct label, ', ' order by label) as label,
            array_slice(list(path order by path), 1, {PATHS_SHOWN}) as paths
        from members join images using (path) group by root order by images desc, min(path)"""
    ).df()
    database.unregister("members")
    return found


def _one(database: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    row = database.execute(query).fetchone()
    assert row is not None
    return tuple(row)
