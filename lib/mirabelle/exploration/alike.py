"""Pictures that are the same, or look it: by hash, and by perceptual hashes that differ in few bits. [DuckDB; driver]

Hashes of 64 bits that differ in at most d of them agree wholly in one of d + 1 parts (the pigeonhole principle), so
only hashes that share a part are compared: no pass over all pairs. Pictures of one hash are one from the start, so that
ten thousand plain grounds cost no more than one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    import duckdb

BITS = 64
# A part that more hashes share is no sign of anything.
MOST_IN_A_PART = 1_000
MOST_PAIRS = 500_000
# Of a table; the counts are of all.
MOST_SETS = 10_000
PATHS_SHOWN = 5


@dataclass(frozen=True)
class Alike:
    """Pictures that are alike. Each table has ``MOST_SETS`` rows at most, the largest sets; the counts are of all.

    Attributes:
        exact: a row for each content that several images have: ``sha256, images, labels, label, paths``.
        near: a row for each set of images that look alike, though their bytes differ: ``images, labels, label, paths``.
        conflicting: those of both that bear different labels, ``kind`` first.
        exact_extra: images beyond the first of each content.
        near_images: images in such sets.
        conflicting_sets: how many bear different labels.
        skipped: parts of hashes that too many hashes share to be compared, and that were not.
        is_cut: whether more hashes are alike than were compared.
    """

    exact: pd.DataFrame
    near: pd.DataFrame
    conflicting: pd.DataFrame
    exact_extra: int
    near_images: int
    conflicting_sets: int
    skipped: int
    is_cut: bool


def find_alike(database: duckdb.DuckDBPyConnection, distance: int, most_pairs: int = MOST_PAIRS) -> Alike:
    """Compare the pictures of the view ``images`` (``path, label, _sha256, _phash``).

    Args:
        database: with that view; tables of its own are left in it.
        distance: bits in which hashes may differ, 0 to 7.
        most_pairs: of hashes that are joined.
    """
    told = f"""count(*) as images, count(distinct label) as labels,
        string_agg(distinct label, ', ' order by label) as label,
        array_slice(list(path order by path), 1, {PATHS_SHOWN}) as paths, min(path) as first"""
    database.execute(
        f"create or replace table exact as select _sha256 as sha256, {told} from images where _sha256 is not null"
        " group by _sha256 having count(*) > 1"
    )
    skipped, is_cut = _pairs(database, distance, most_pairs)
    _join(database)
    database.execute(
        f"create or replace table near as select {told} from members join images using (_phash) group by root"
    )
    both = "(select 'exact' as kind, * exclude sha256 from exact union all select 'near' as kind, * from near)"
    (extra,) = _one(database, "select coalesce(sum(images - 1), 0) from exact")
    (near_images,) = _one(database, "select coalesce(sum(images), 0) from near")
    (conflicting,) = _one(database, f"select count(*) from {both} where labels > 1")
    return Alike(
        _largest(database, "exact", "images desc, sha256"),
        _largest(database, "near", "images desc, first"),
        _largest(database, f"{both} where labels > 1", "kind, images desc, first"),
        int(extra),
        int(near_images),
        int(conflicting),
        skipped,
        is_cut,
    )


def _pairs(database: duckdb.DuckDBPyConnection, distance: int, most: int) -> tuple[int, bool]:
    """Leave pairs of different hashes that are alike in the table ``pairs``.

    Returns how many parts were too common, and whether there are more pairs.
    """
    database.execute(
        """create or replace table hashes as select _phash, count(distinct _sha256) as contents
        from images where _phash is not null group by 1"""
    )
    edges = [round(BITS * part / (distance + 1)) for part in range(distance + 2)]
    parts = " union all ".join(
        f"select _phash, {number} as part, (_phash >> {start}) & {2 ** (stop - start) - 1}::ubigint as bits from hashes"
        for number, (start, stop) in enumerate(pairwise(edges))
    )
    database.execute(f"create or replace table parts as {parts}")
    database.execute("create or replace table common as select part, bits, count(*) as n from parts group by all")
    (skipped,) = _one(database, f"select count(*) from common where n > {MOST_IN_A_PART}")
    database.execute(
        f"""create or replace table pairs as select distinct a._phash as one, b._phash as other
        from parts a join common c on a.part = c.part and a.bits = c.bits and c.n between 2 and {MOST_IN_A_PART}
        join parts b on a.part = b.part and a.bits = b.bits and a._phash < b._phash
        where bit_count(xor(a._phash, b._phash)) <= {distance} limit {most + 1}"""
    )
    (pairs,) = _one(database, "select count(*) from pairs")
    return int(skipped), pairs > most


def _join(database: duckdb.DuckDBPyConnection) -> None:
    """Leave the table ``members``: the hashes of each set of pictures that look alike, and its ``root``."""
    parents: dict[int, int] = {}

    def root(bits: int) -> int:
        while parents.setdefault(bits, bits) != bits:
            parents[bits] = parents[parents[bits]]
            bits = parents[bits]
        return bits

    for one, other in database.execute("select one, other from pairs order by all").fetchall():
        parents[root(other)] = root(one)
    joined = pd.DataFrame({"_phash": list(parents), "root": [root(bits) for bits in parents]}, dtype="uint64")
    database.register("joined", joined)
    # A hash that several contents have is a set of its own.
    database.execute(
        """create or replace table members as select _phash, root from joined
        union all select _phash, _phash from hashes where contents > 1 and _phash not in (select _phash from joined)"""
    )
    database.unregister("joined")


def _largest(database: duckdb.DuckDBPyConnection, source: str, order: str) -> pd.DataFrame:
    return database.execute(f"select * exclude first from {source} order by {order} limit {MOST_SETS}").df()


def _one(database: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    row = database.execute(query).fetchone()
    assert row is not None
    return tuple(row)
